/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which messages of the cloud were seen: a ring of the last ids, as digests, so it neither grows
 * nor allocates. Clouds send a message again, with its id, until it is acknowledged. Pure.
 */
#ifndef KEI_TUNNEL_SEEN_H
#define KEI_TUNNEL_SEEN_H

#include <stdint.h>

#include "base/str.h"

#define KEI_SEEN_MAX 256
/* A message that nobody acknowledged for so long is told again: whoever had it failed. */
#define KEI_SEEN_WORK_MS 15000

#define KEI_SEEN_NEW 0     /* not seen, or given up: tell it; it counts as in work now */
#define KEI_SEEN_WORKING 1 /* told, not acknowledged yet: ignore it */
#define KEI_SEEN_ACKED 2   /* acknowledged: do so again, do not tell it */

#define KEI_SEEN_IS_ACKED (-1)
#define KEI_SEEN_IS_FORGOTTEN (-2)
struct kei_seen_item {
    uint8_t id[16];
    int64_t told_ms; /* or KEI_SEEN_IS_* */
};

/* All zero is an empty one. */
struct kei_seen {
    struct kei_seen_item items[KEI_SEEN_MAX];
    uint32_t n, next;
};

/* Looks an id up, and notes it as in work when it is new. An empty id is always new. */
int kei_seen_check(struct kei_seen *s, struct ke_str id, int64_t now_ms);
void kei_seen_ack(struct kei_seen *s, struct ke_str id);
void kei_seen_forget(struct kei_seen *s, struct ke_str id); /* the next copy is told again */

#endif
