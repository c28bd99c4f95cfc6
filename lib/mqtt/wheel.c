/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wheel: a slot holds what is due in it, this round or a later one. The loop's timer is set for
 * the next slot that holds anything, so nothing wakes an idle server. Loop thread.
 */
#include "mqtt/wheel.h"

static int64_t slot_of(int64_t due_ms)
{
    return (due_ms + MQ_WHEEL_MS - 1) / MQ_WHEEL_MS; /* never early */
}

static void mark(struct mq_wheel *w, unsigned slot, bool used)
{
    uint64_t bit = 1ull << (slot & 63);

    if (used)
        w->used[slot / 64] |= bit;
    else
        w->used[slot / 64] &= ~bit;
}

static bool slot_used(const struct mq_wheel *w, unsigned slot)
{
    return w->used[slot / 64] >> (slot & 63) & 1;
}

/* Sets the timer for the first slot behind `at` that holds anything. */
static void schedule(struct mq_wheel *w)
{
    if (w->n == 0) {
        kei_timer_stop(&w->timer);
        return;
    }
    for (int64_t i = 1; i <= (int64_t)MQ_WHEEL_SLOTS; i++) {
        int64_t slot = w->at + i;
        if ((slot & 63) == 0 && w->used[slot % MQ_WHEEL_SLOTS / 64] == 0) {
            i += 63;
            continue;
        }
        if (slot_used(w, (unsigned)(slot % MQ_WHEEL_SLOTS))) {
            kei_timer_at(&w->timer, slot * MQ_WHEEL_MS);
            return;
        }
    }
}

static void take_slot(struct mq_wheel *w, int64_t number, int64_t now)
{
    unsigned slot = (unsigned)(number % MQ_WHEEL_SLOTS);

    if (!slot_used(w, slot))
        return;
    for (unsigned kind = 0; kind < 2; kind++) {
        struct kei_link *head = &w->slots[slot][kind], due;
        kei_list_init(&due);
        KEI_LIST_EACH_SAFE(l, next, head)
        {
            if (KEI_OF(l, struct mq_wheel_item, link)->due_ms <= now) {
                kei_list_remove(l);
                kei_list_add_tail(&due, l);
            }
        }
        while (!kei_list_empty(&due)) { /* what is told may stop others of the list */
            struct mq_wheel_item *i = KEI_OF(due.next, struct mq_wheel_item, link);
            kei_list_remove(&i->link);
            w->n--;
            w->fn[kind](i);
        }
    }
    if (kei_list_empty(&w->slots[slot][0]) && kei_list_empty(&w->slots[slot][1]))
        mark(w, slot, false);
}

static void on_timer(struct kei_timer *t)
{
    struct mq_wheel *w = KEI_OF(t, struct mq_wheel, timer);
    int64_t now = ke_ctx_mono_ms(t->ctx), to = now / MQ_WHEEL_MS;

    if (to - w->at > (int64_t)MQ_WHEEL_SLOTS)
        w->at = to - (int64_t)MQ_WHEEL_SLOTS; /* each slot once is enough */
    while (w->at < to)
        take_slot(w, ++w->at, now);
    schedule(w);
}

void kei_mq_wheel_init(struct mq_wheel *w, struct ke_ctx *ctx, mq_wheel_fn fn0, mq_wheel_fn fn1)
{
    w->fn[0] = fn0;
    w->fn[1] = fn1;
    w->n = 0;
    w->at = ke_ctx_mono_ms(ctx) / MQ_WHEEL_MS;
    for (unsigned i = 0; i < MQ_WHEEL_SLOTS; i++) {
        kei_list_init(&w->slots[i][0]);
        kei_list_init(&w->slots[i][1]);
    }
    memset(w->used, 0, sizeof w->used);
    kei_timer_init(ctx, &w->timer, on_timer);
}

void kei_mq_wheel_fini(struct mq_wheel *w)
{
    kei_timer_fini(&w->timer);
}

void kei_mq_wheel_set(struct mq_wheel *w, struct mq_wheel_item *i, unsigned kind, int64_t due_ms)
{
    int64_t number;

    kei_mq_wheel_stop(w, i);
    if (w->n == 0)
        w->at = ke_ctx_mono_ms(w->timer.ctx) / MQ_WHEEL_MS;
    number = slot_of(due_ms);
    if (number <= w->at)
        number = w->at + 1;
    i->due_ms = due_ms;
    unsigned slot = (unsigned)(number % MQ_WHEEL_SLOTS);
    kei_list_add_tail(&w->slots[slot][kind], &i->link);
    mark(w, slot, true);
    w->n++;
    if (!kei_timer_armed(&w->timer) || w->timer.due_ms > number * MQ_WHEEL_MS)
        kei_timer_at(&w->timer, number * MQ_WHEEL_MS);
}

void kei_mq_wheel_stop(struct mq_wheel *w, struct mq_wheel_item *i)
{
    if (!kei_list_linked(&i->link))
        return;
    kei_list_remove(&i->link);
    w->n--;
}
