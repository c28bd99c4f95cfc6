/* SPDX-License-Identifier: Apache-2.0 */
/* Pauses between attempts. No memory, no clock, no randomness of its own. Any thread, one owner. */
#include "base/backoff.h"

void kei_backoff_init(struct kei_backoff *b, int64_t min_ms, int64_t max_ms)
{
    b->min_ms = min_ms > 0 ? min_ms : 1;
    b->max_ms = max_ms > b->min_ms ? max_ms : b->min_ms;
    kei_backoff_reset(b);
}

void kei_backoff_reset(struct kei_backoff *b)
{
    b->last_ms = 0;
    b->attempts = 0;
}

/*
 * The cap bounds the range, not the value drawn: a fleet that has been down for long would
 * otherwise sit at exactly max_ms and come back in step.
 */
int64_t kei_backoff_next(struct kei_backoff *b, uint64_t random)
{
    int64_t prev = b->last_ms > 0 ? b->last_ms : b->min_ms;
    int64_t high = prev > b->max_ms / 3 ? b->max_ms : prev * 3;
    if (high < b->min_ms)
        high = b->min_ms;
    uint64_t span = (uint64_t)(high - b->min_ms) + 1;
    b->last_ms = b->min_ms + (int64_t)(random % span);
    if (b->attempts < UINT32_MAX)
        b->attempts++;
    return b->last_ms;
}
