/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers in a pairing heap made of links inside the timers, ordered by due time, then by order of
 * arming. Memory is the users'. Loop's thread.
 */
#include <assert.h>

#include "base/ctx_priv.h"

static bool before(const struct kei_timer *a, const struct kei_timer *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->seq < b->seq;
}

/* Joins two heaps; roots have neither next nor prev. */
static struct kei_timer *meld(struct kei_timer *a, struct kei_timer *b)
{
    if (!a || !b)
        return a ? a : b;
    if (before(b, a)) {
        struct kei_timer *t = a;
        a = b;
        b = t;
    }
    b->prev = a; /* of a first child: the parent */
    b->next = a->child;
    if (a->child)
        a->child->prev = b;
    a->child = b;
    return a;
}

/* Makes one heap of a list of siblings: pairs from left to right, then all from right to left. */
static struct kei_timer *meld_siblings(struct kei_timer *list)
{
    struct kei_timer *pairs = NULL, *root = NULL;
    while (list) {
        struct kei_timer *a = list, *b = a->next;
        list = b ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b)
            b->next = b->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs) {
        struct kei_timer *a = pairs;
        pairs = a->next;
        a->next = NULL;
        root = meld(root, a);
    }
    return root;
}

static void take_out(struct ke_ctx *ctx, struct kei_timer *t)
{
    if (ctx->timers == t) {
        ctx->timers = meld_siblings(t->child);
    } else {
        if (t->prev->child == t)
            t->prev->child = t->next;
        else
            t->prev->next = t->next;
        if (t->next)
            t->next->prev = t->prev;
        ctx->timers = meld(ctx->timers, meld_siblings(t->child));
    }
    t->child = t->next = t->prev = NULL;
    t->armed = 0;
}

void kei_timer_init(struct ke_ctx *ctx, struct kei_timer *t, kei_timer_fn fn)
{
    *t = (struct kei_timer){.ctx = ctx, .fn = fn};
}

int kei_timer_at(struct kei_timer *t, int64_t mono_ms)
{
    struct ke_ctx *ctx = t->ctx;
    assert(ctx->mode == KEI_MODE_NONE || kei_ctx_on_loop(ctx));
    if (t->armed)
        take_out(ctx, t);
    /* Not before now: a timer that keeps arming itself for the past would stay ahead of all. */
    int64_t now = ke_ctx_mono_ms(ctx);
    t->due_ms = mono_ms > now ? mono_ms : now;
    t->seq = ctx->timer_seq++;
    t->armed = 1;
    ctx->timers = meld(ctx->timers, t);
    if (ctx->timers == t)
        kei_loop_signal_timers(ctx);
    return 0;
}

int kei_timer_in(struct kei_timer *t, int64_t delay_ms)
{
    int64_t at, now = ke_ctx_mono_ms(t->ctx);
    if (__builtin_add_overflow(now, delay_ms > 0 ? delay_ms : 0, &at))
        at = INT64_MAX;
    return kei_timer_at(t, at);
}

void kei_timer_stop(struct kei_timer *t)
{
    if (t->armed)
        take_out(t->ctx, t);
}

void kei_timer_fini(struct kei_timer *t)
{
    kei_timer_stop(t);
    t->ctx = NULL;
}

bool kei_timer_next(const struct ke_ctx *ctx, int64_t *ret_due_ms)
{
    if (!ctx->timers)
        return false;
    *ret_due_ms = ctx->timers->due_ms;
    return true;
}

/* Only what was armed before this turn runs, so one that arms itself for now cannot hold the loop.
 */
void kei_timer_run(struct ke_ctx *ctx)
{
    if (!ctx->timers)
        return;
    int64_t now = ke_ctx_mono_ms(ctx);
    uint64_t end = ctx->turn_timer_end;
    while (ctx->timers && ctx->timers->due_ms <= now && ctx->timers->seq < end) {
        struct kei_timer *t = ctx->timers;
        take_out(ctx, t);
        t->fn(t);
    }
}
