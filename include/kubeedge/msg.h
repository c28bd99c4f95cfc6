/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KubeEdge message: header, route and one JSON value as content. Immutable once made and
 * reference-counted, the one thing with many owners. All calls: any thread.
 * Wire form: {"header":{...},"route":{...},"content":...}, see KubeEdge's beehive model.
 */
#ifndef KUBEEDGE_MSG_H
#define KUBEEDGE_MSG_H

#include <kubeedge/ctx.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_msg;

/* Upstream's dialects: the versions whose wire form differs. */
#define KE_DIALECT_AUTO 0u
#define KE_DIALECT_1_4 104u
#define KE_DIALECT_1_15 115u
#define KE_DIALECT_1_23 123u

/* What to make a message of. NULL strings count as "". */
struct ke_msg_config {
    size_t size;
    const char *id;        /* NULL: a new random UUID */
    const char *parent_id; /* the message this one answers */
    int64_t timestamp_ms;  /* Unix time; 0: now */
    const char *resource_version;
    const char *source;      /* module that sends */
    const char *destination; /* rarely used */
    const char *group;       /* module group it is for */
    const char *operation;   /* "insert", "update", "delete", "query", "response", ... */
    const char *resource;    /* NS/TYPE[/NAME] */
    const char *content;     /* one JSON value, kept byte for byte; NULL: null */
    size_t content_len;
};

KE_API void ke_msg_config_init(struct ke_msg_config *c, size_t size);

/* Makes one. KE_EINVAL, KE_EABI, KE_ENOMEM, KE_EPARSE (content is not one JSON value). */
KE_API KE_NODISCARD int ke_msg_new(struct ke_msg **ret, struct ke_ctx *ctx,
                                   const struct ke_msg_config *c, struct ke_error *reterr);

/*
 * A reply to m: new id, parent id, same source, group and resource, operation "response".
 * content as in ke_msg_config.
 */
KE_API KE_NODISCARD int ke_msg_new_reply(struct ke_msg **ret, struct ke_ctx *ctx,
                                         const struct ke_msg *m, const char *content,
                                         size_t content_len, struct ke_error *reterr);

/*
 * Reads the wire form. p is copied. The first JSON value counts, what follows it is ignored, as
 * upstream does. KE_EPARSE, KE_ELIMIT (deeper than 128), KE_ENOMEM.
 */
KE_API KE_NODISCARD int ke_msg_decode(struct ke_msg **ret, struct ke_ctx *ctx, const char *p,
                                      size_t n, struct ke_error *reterr);

/*
 * Writes the wire form with its trailing newline, appended to out (zeroed or used before).
 * dialect KE_DIALECT_1_4 writes every key explicitly, the others leave empty ones out.
 */
KE_API KE_NODISCARD int ke_msg_encode(const struct ke_msg *m, struct ke_ctx *ctx, uint32_t dialect,
                                      struct ke_buf *out, struct ke_error *reterr);

KE_API struct ke_msg *ke_msg_ref(struct ke_msg *m);
KE_API void ke_msg_unref(struct ke_msg *m); /* NULL is fine */

/* Borrowed, NUL-terminated, never NULL. */
KE_API const char *ke_msg_id(const struct ke_msg *m);
KE_API const char *ke_msg_parent_id(const struct ke_msg *m);
KE_API int64_t ke_msg_timestamp_ms(const struct ke_msg *m);
KE_API const char *ke_msg_resource_version(const struct ke_msg *m);
KE_API const char *ke_msg_source(const struct ke_msg *m);
KE_API const char *ke_msg_destination(const struct ke_msg *m);
KE_API const char *ke_msg_group(const struct ke_msg *m);
KE_API const char *ke_msg_operation(const struct ke_msg *m);
KE_API const char *ke_msg_resource(const struct ke_msg *m);
/* The raw JSON value, byte for byte as it came; "null" when there was none. */
KE_API const char *ke_msg_content(const struct ke_msg *m, size_t *ret_len);

#ifdef __cplusplus
}
#endif
#endif
