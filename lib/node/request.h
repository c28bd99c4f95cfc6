/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request of the node to metamanager at a time, with its answer read. Embedded by its user.
 * Every way to fail (no memory, no link, time-out, error reply) comes as a KEI_REPLY_ERROR, in a
 * later turn. Loop thread.
 */
#ifndef KEI_NODE_REQUEST_H
#define KEI_NODE_REQUEST_H

#include <kubeedge/router.h>

#include "base/json.h"
#include "base/loop.h"
#include "message/msg_priv.h"

/* r->object is borrowed during the call. */
typedef void (*kei_request_fn)(void *user, const struct kei_reply *r);

struct kei_request {
    struct ke_ctx *ctx;
    struct ke_router *router;
    void *user;
    kei_request_fn fn; /* NULL: none open */
    uint64_t id;
    struct kei_defer failed;
    int failed_code;
};

void kei_request_init(struct kei_request *q, struct ke_ctx *ctx, struct ke_router *router,
                      void *user);
/* body is taken over and freed; NULL: null. One that is open is cancelled first. */
void kei_request_send(struct kei_request *q, const char *operation, const char *resource_prefix,
                      const char *name, struct ke_buf *body, int64_t timeout_ms, kei_request_fn fn);
void kei_request_cancel(struct kei_request *q);

#endif
