/* SPDX-License-Identifier: Apache-2.0 */
/* The message inside the library: borrowed views, words of the protocol, resource grammar. */
#ifndef KEI_MESSAGE_MSG_PRIV_H
#define KEI_MESSAGE_MSG_PRIV_H

#include <kubeedge/msg.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

/* All views point into the bytes given to kei_msg_view, except where unescaping was needed. */
struct kei_msg_view {
    struct ke_str id, parent_id, resource_version, type;
    struct ke_str source, destination, group, operation, resource;
    struct ke_str content; /* raw JSON; p NULL if the key was absent */
    int64_t timestamp_ms;
    bool sync;
};
/* arena: for strings with escapes */
int kei_msg_view(struct kei_msg_view *v, struct ke_str text, struct kei_arena *a,
                 struct ke_error *err);
/* Only header and route of a message cut off at n bytes (over the cap); best effort. */
void kei_msg_view_head(struct kei_msg_view *v, struct ke_str text, struct kei_arena *a);

/* Makes a message of a view (copied); content is taken as it is, p NULL means null. */
int kei_msg_build(struct ke_msg **ret, struct ke_ctx *ctx, const struct kei_msg_view *v,
                  struct ke_error *err);
/* m as a view, borrowed; the strings are NUL-terminated */
void kei_msg_as_view(struct kei_msg_view *v, const struct ke_msg *m);

/* ---- resources: NS/TYPE[/NAME], cloud-internal with node/NODE/ before it ---- */
struct kei_resource {
    struct ke_str ns, type, name; /* name may hold further slashes (device ids since 1.16) */
};
bool kei_resource_parse(struct kei_resource *r, struct ke_str s); /* 2 or more tokens, none empty */
/* true and *ret_rest without "node/NODE/" when s has that prefix and at least 3 tokens */
bool kei_resource_strip_node(struct ke_str s, struct ke_str *ret_node, struct ke_str *ret_rest);

/* A message of a cloud that upstream's edge of this dialect answers with "OK" once it is stored. */
bool kei_msg_needs_ack(const struct ke_msg *m, uint32_t dialect);
/* The envelope of a stopping upstream edge: no id, no operation, no resource. */
bool kei_msg_is_empty(const struct ke_msg *m);

/* Content of replies. */
#define KEI_REPLY_OBJECT 0 /* a bare object, array or null */
#define KEI_REPLY_OK 1     /* the string "OK" */
#define KEI_REPLY_ERROR 2  /* {"ErrStatus"}, non-null Err, {} or a text */
struct kei_reply {
    int kind;
    struct ke_str object; /* raw JSON of the object (of Object in an ObjectResp) */
    char reason[64];      /* ErrStatus.reason, e.g. "NotFound", "AlreadyExists"; "" unknown */
    int64_t code;         /* ErrStatus.code, 0 unknown */
    char text[256];       /* for people */
};
/* Classifies the content of a response; never fails. */
void kei_reply_read(struct kei_reply *r, struct ke_str content);

/* ErrStatus JSON as upstream forms it; appended. */
void kei_errstatus_write(struct ke_buf *out, const char *reason, int code, const char *kind,
                         const char *name, const char *message);

#endif
