/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pauses between attempts: decorrelated jitter, each uniform in [min, 3 x previous], capped by max;
 * pure, random bits come from the caller.
 */
#ifndef KEI_BASE_BACKOFF_H
#define KEI_BASE_BACKOFF_H

#include <stdint.h>

struct kei_backoff {
    int64_t min_ms, max_ms;
    int64_t last_ms;   /* 0 after reset */
    uint32_t attempts; /* since reset */
};

void kei_backoff_init(struct kei_backoff *b, int64_t min_ms, int64_t max_ms);
void kei_backoff_reset(struct kei_backoff *b);
int64_t kei_backoff_next(struct kei_backoff *b, uint64_t random);

#endif
