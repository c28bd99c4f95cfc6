/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Password files, and the lines that users and identities are kept in. First byte: even, a password
 * file, which must come out as it went in; odd, one line of the journal's JSON, which read again
 * from what is written must be the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void format(struct kei_proofs *proofs, struct ke_str text, struct ke_buf *out, uint32_t *n)
{
    struct kei_users u;
    kei_users_init(&u, kei_alloc_malloc(), proofs, 1);
    MUST(kei_users_parse(&u, text, NULL, NULL, NULL) == 0);
    MUST(kei_users_format(&u, out, NULL) == 0);
    *n = u.n;
    kei_users_fini(&u);
}

static void passwd(struct kei_proofs *proofs, struct ke_str text)
{
    struct ke_buf one, two;
    uint32_t n, again;
    kei_buf_init(&one, kei_alloc_malloc());
    kei_buf_init(&two, kei_alloc_malloc());
    format(proofs, text, &one, &n);
    format(proofs, kei_buf_str(&one), &two, &again);
    MUST(n == again && kei_str_eq(kei_buf_str(&one), kei_buf_str(&two)));
    ke_buf_free(&one);
    ke_buf_free(&two);
}

struct each {
    const struct kei_ids *ids;
    struct ke_buf *out;
};

static void write_one(void *user, enum kei_ids_kind kind, struct ke_str name)
{
    struct each *e = user;
    kei_ids_write(e->ids, kind, name, e->out);
    kei_buf_addc(e->out, '\n');
}

static int lines(struct kei_proofs *proofs, struct ke_str text, struct ke_buf *out)
{
    struct kei_ids ids;
    struct each e = {&ids, out};
    struct ke_error err = KE_ERROR_INIT;
    int r = 0;
    kei_ids_init(&ids, kei_alloc_malloc(), proofs, 1);
    while (r == 0 && text.n > 0) {
        r = kei_ids_read(&ids, kei_str_cut(text, '\n', &text), &err);
        MUST(r == 0 || err.text[0]);
    }
    kei_ids_each(&ids, write_one, &e);
    kei_ids_fini(&ids);
    return r;
}

static void json(struct kei_proofs *proofs, struct ke_str text)
{
    struct ke_buf one, two;
    kei_buf_init(&one, kei_alloc_malloc());
    kei_buf_init(&two, kei_alloc_malloc());
    (void)lines(proofs, text, &one);
    MUST(lines(proofs, kei_buf_str(&one), &two) == 0);
    MUST(one.n == two.n); /* users' rules come in no order */
    ke_buf_free(&one);
    ke_buf_free(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kei_proofs proofs = {0};
    if (size == 0)
        return 0;
    char *copy = malloc(size);
    MUST(copy);
    memcpy(copy, data + 1, size - 1);
    if (data[0] % 2 == 0)
        passwd(&proofs, kei_strn(copy, size - 1));
    else
        json(&proofs, kei_strn(copy, size - 1));
    free(copy);
    return 0;
}
