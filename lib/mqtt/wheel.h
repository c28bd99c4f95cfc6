/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coarse timers by the ten thousand: a wheel of slots of 100 ms over one timer of the loop. Items
 * are embedded and zero before first use. An item is never told early, and at most one slot late.
 */
#ifndef KEI_MQTT_WHEEL_H
#define KEI_MQTT_WHEEL_H

#include <string.h>

#include "base/loop.h"

#define MQ_WHEEL_SLOTS 512u
#define MQ_WHEEL_MS 100

struct mq_wheel_item;
typedef void (*mq_wheel_fn)(struct mq_wheel_item *w);
struct mq_wheel_item {
    struct kei_link link;
    int64_t due_ms;
};
struct mq_wheel {
    struct kei_timer timer;
    /* two kinds of items are known: what is told for each */
    struct kei_link slots[MQ_WHEEL_SLOTS][2];
    mq_wheel_fn fn[2];
    uint64_t used[MQ_WHEEL_SLOTS / 64];
    int64_t at; /* number of the slot that was looked at last */
    uint32_t n;
};
void kei_mq_wheel_init(struct mq_wheel *w, struct ke_ctx *ctx, mq_wheel_fn fn0, mq_wheel_fn fn1);
void kei_mq_wheel_fini(struct mq_wheel *w);
/* (Re)arms; kind is 0 or 1 and stays the item's. An item is not armed any more when it is told. */
void kei_mq_wheel_set(struct mq_wheel *w, struct mq_wheel_item *i, unsigned kind, int64_t due_ms);
void kei_mq_wheel_stop(struct mq_wheel *w, struct mq_wheel_item *i);

#endif
