/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that must reach the cloud although the link dies: kept, in order, until confirmed.
 *
 * A state has a key and is replaced by a newer one with the same key. An event is appended. Both
 * are sent as soon as there is a link, again after a reconnect, with the same message id. A message
 * is confirmed by a reply that names it. What upstream never answers is confirmed by a round trip:
 * the answer to a WebSocket ping that was sent after it, since clouds take frames in order. A reply
 * that says the cloud could not store it now (API server down) makes it wait and go again; one that
 * says it never will (gone, invalid, another uid) ends it with KE_EREFUSED.
 *
 * Bounds: messages and bytes. When one is reached, what comes is refused with KE_ELIMIT, nothing
 * that was accepted is dropped; events are refused first, the last eighth is for states.
 *
 * Rows in bucket `outbox`: "s/KEY" for a state, "e/ORDER" for an event; version is the order.
 * Loop thread.
 */
#ifndef KEI_TUNNEL_OUTBOX_H
#define KEI_TUNNEL_OUTBOX_H

#include <kubeedge/store.h>
#include <kubeedge/tunnel.h>

#include "base/buf.h"

struct kei_outbox;

#define KEI_OUTBOX_WINDOW 256u     /* sent and not confirmed, at most */
#define KEI_OUTBOX_ANSWER_MS 60000 /* an expected reply that late: the message is sent again */
#define KEI_OUTBOX_RETRY_MS 10000  /* first pause after "not now"; doubles */
#define KEI_OUTBOX_RETRY_MAX_MS 300000

struct kei_outbox_ops {
    /*
     * Sends m over the present link. 0; KE_EAGAIN: no room, kei_outbox_pump follows when there is;
     * KE_ENOTSUP: the cloud's dialect has no such message, which counts as sent; KE_ECLOSED and
     * others: not now. *ret_answered: the cloud will reply to it.
     */
    int (*transmit)(void *user, struct ke_msg *m, bool *ret_answered);
    /* A ping after all that was transmitted; its answer is kei_outbox_pong. At most one is out. */
    int (*ping)(void *user);
    /* m left: 0 confirmed, KE_ECANCELED replaced, KE_EREFUSED. From the loop, not nested. */
    void (*gone)(void *user, struct ke_msg *m, int status);
};

struct kei_outbox_limits {
    uint32_t messages;
    uint64_t bytes;
};

/* store may be NULL: then nothing is durable. */
int kei_outbox_new(struct kei_outbox **ret, struct ke_ctx *ctx, struct ke_store *store,
                   const struct kei_outbox_limits *limits, const struct kei_outbox_ops *ops,
                   void *user);
void kei_outbox_free(
    struct kei_outbox *ob); /* no callback after it; what waits stays in the store */
/* Begins to read what an earlier run left, once; further calls do nothing. */
int kei_outbox_load(struct kei_outbox *ob);
/* As ke_tunnel_send with KE_SEND_STATE or KE_SEND_EVENT. key NULL: the resource. */
int kei_outbox_add(struct kei_outbox *ob, struct ke_msg *m, uint32_t how, const char *key,
                   ke_store_done_fn done, void *user);
void kei_outbox_link(struct kei_outbox *ob, bool up);
void kei_outbox_pump(struct kei_outbox *ob); /* there is room to send again */
void kei_outbox_pong(struct kei_outbox *ob);
/* A reply of the cloud; true if it was to a message in here. */
bool kei_outbox_reply(struct kei_outbox *ob, const struct ke_msg *reply);
uint64_t kei_outbox_count(const struct kei_outbox *ob);
uint64_t kei_outbox_refused(const struct kei_outbox *ob);

#endif
