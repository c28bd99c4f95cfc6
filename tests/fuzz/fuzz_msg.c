/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from a peer: what can be read must be written and read again as the same message, in
 * every dialect; classifying and translating must survive whatever it holds.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/loop.h"
#include "message/dialect.h"
#include "message/msg_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static const uint32_t dialects[] = {KE_DIALECT_AUTO, KE_DIALECT_1_4, KE_DIALECT_1_15,
                                    KE_DIALECT_1_23};

static void same_message(const struct ke_msg *a, const struct ke_msg *b)
{
    size_t n, m;

    MUST(strcmp(ke_msg_id(a), ke_msg_id(b)) == 0);
    MUST(strcmp(ke_msg_parent_id(a), ke_msg_parent_id(b)) == 0);
    MUST(strcmp(ke_msg_resource_version(a), ke_msg_resource_version(b)) == 0);
    MUST(strcmp(ke_msg_source(a), ke_msg_source(b)) == 0);
    MUST(strcmp(ke_msg_destination(a), ke_msg_destination(b)) == 0);
    MUST(strcmp(ke_msg_group(a), ke_msg_group(b)) == 0);
    MUST(strcmp(ke_msg_operation(a), ke_msg_operation(b)) == 0);
    MUST(strcmp(ke_msg_resource(a), ke_msg_resource(b)) == 0);
    MUST(ke_msg_timestamp_ms(a) == ke_msg_timestamp_ms(b));
    const char *x = ke_msg_content(a, &n), *y = ke_msg_content(b, &m);
    MUST(n == m && memcmp(x, y, n) == 0);
}

static void head_only(struct ke_ctx *ctx, struct ke_str text)
{
    struct kei_arena arena;
    struct kei_msg_view v;

    kei_arena_init(&arena, kei_ctx_alloc(ctx), 0);
    kei_msg_view_head(&v, kei_strn(text.p, text.n / 2), &arena);
    kei_msg_view_head(&v, text, &arena);
    kei_arena_free(&arena);
}

static void use(struct ke_ctx *ctx, struct ke_msg *m)
{
    struct ke_buf out = {NULL, 0, 0, NULL};
    struct kei_reply reply;
    struct ke_str content;
    struct ke_msg *other;

    content.p = ke_msg_content(m, &content.n);
    MUST(content.p[content.n] == '\0');
    kei_reply_read(&reply, content);
    MUST(reply.kind != KEI_REPLY_ERROR || reply.text[0]);
    MUST(kei_utf8_valid(kei_str(reply.reason)));
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++) {
        kei_buf_clear(&out);
        MUST(ke_msg_encode(m, ctx, dialects[i], &out, NULL) == 0);
        MUST(kei_json_check(kei_buf_str(&out), KEI_JSON_DEPTH + 2, NULL) == 0);
        /* content at the very limit of depth is one level deeper in no message that was read */
        MUST(ke_msg_decode(&other, ctx, out.p, out.n, NULL) == 0);
        same_message(m, other);
        ke_msg_unref(other);
        (void)kei_msg_needs_ack(m, dialects[i]);
        if (kei_dialect_translate(&other, ctx, m, dialects[i], NULL) == 0 && other) {
            content.p = ke_msg_content(other, &content.n);
            MUST(kei_json_check(content, KEI_JSON_DEPTH + 2, NULL) == 0);
            ke_msg_unref(other);
        }
    }
    (void)kei_msg_is_empty(m);
    ke_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ke_ctx *ctx; /* costs descriptors: one for the run */
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *m;

    if (!ctx && ke_ctx_new(&ctx, NULL, &err) < 0)
        abort();
    head_only(ctx, kei_strn((const char *)data, size));
    if (ke_msg_decode(&m, ctx, (const char *)data, size, &err) < 0) {
        MUST(err.text[0]);
        return 0;
    }
    use(ctx, m);
    ke_msg_unref(m);
    return 0;
}
