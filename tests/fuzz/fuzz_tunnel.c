/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small texts the tunnel and the metamanager read by themselves: the Date of the cloud's
 * answer, the identity file, rows of what was applied. First byte: which of them. What is accepted
 * is sound: a date comes back as it was written, a unit has certificate and CA, an index adds up.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/loop.h"
#include "meta/index.h"
#include "net/http.h"
#include "tunnel/identity.h"
#include "tunnel/join.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void fuzz_date(struct ke_str s)
{
    struct kei_http_head head = {.n_headers = 1};
    char text[KEI_TIME_MAX];
    int64_t ms;

    head.headers[0].name = KEI_STR("Date");
    head.headers[0].value = s;
    ms = kei_http_date_ms(&head);
    if (ms <= 0)
        return;
    MUST(ms % 1000 == 0);
    kei_time_http(text, ms);
    head.headers[0].value = kei_str(text);
    MUST(kei_http_date_ms(&head) == ms);
}

static void fuzz_identity(struct ke_str s)
{
    static struct ke_ctx *ctx;
    struct kei_crypto *crypto;
    struct kei_identity id = {0};

    MUST(ctx || ke_ctx_new(&ctx, NULL, NULL) == 0);
    MUST(kei_crypto_get(ctx, &crypto) == 0);
    if (kei_identity_parse(&id, crypto, s, NULL, NULL) == 0)
        MUST(kei_identity_whole(&id) && id.key);
    else
        MUST(!id.ca && !id.cert && !id.key);
    kei_identity_clear(&id);
}

/* Lines "UID VERSION VALUE": loaded, then an object of each uid. */
static void fuzz_index(struct ke_str s)
{
    struct kei_index ix;

    kei_index_init(&ix, kei_alloc_malloc(), 1, 2);
    while (s.p) {
        struct ke_str line = kei_str_cut(s, '\n', &s), rest, value;
        struct ke_str uid = kei_str_cut(line, ' ', &rest);
        struct ke_str version = kei_str_cut(rest, ' ', &value);
        int64_t v = 0;

        if (line.n && memchr(line.p, 0, line.n))
            continue; /* keys of the store have none */
        (void)kei_str_i64(version, &v);
        MUST(kei_index_load_applied(&ix, uid, v, value) == 0);
        if (v % 2 && uid.n)
            MUST(kei_index_load_object(&ix, uid, uid, v, value) == 0);
    }
    kei_index_loaded(&ix);
    MUST(ix.uids.n >= ix.n_tombs);
    MUST(ix.uids.n - ix.n_tombs == ix.names.n);
    kei_index_fini(&ix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str s;
    char *copy;

    if (size < 1)
        return 0;
    copy = malloc(size); /* without what would hide a read past the end */
    MUST(copy);
    memcpy(copy, data + 1, size - 1);
    s = kei_strn(copy, size - 1);
    switch (data[0] % 3) {
    case 0:
        fuzz_date(s);
        break;
    case 1:
        fuzz_identity(s);
        break;
    default:
        fuzz_index(s);
        break;
    }
    free(copy);
    return 0;
}
