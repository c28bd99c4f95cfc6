/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strays that are kept: after a start with a store that may have lost pods, what runs without a pod
 * runs on, and its files stay, until the cloud tells its pod. A cloud tells again what has changed
 * or is deleted, but not what this node acknowledged once and what is as it was: silence does not
 * mean that a stray is not wanted. So there is an end to it only if the host sets a time. Loop
 * thread.
 */
#include "pod/engine.h"

static void on_over(struct kei_timer *t)
{
    struct kei_pods *ps = KEI_OF(t, struct kei_pods, hold_timer);
    ps->hold = false;
    if (!ps->listed)
        return; /* the start ends them, when it gets that far */
    ps->hold_over = true;
    kei_hold_list(ps);
}

void kei_hold_init(struct kei_pods *ps, const struct kei_pods_config *c)
{
    ps->hold = c->hold;
    ps->hold_ms = c->hold_ms;
    kei_timer_init(ps->ctx, &ps->hold_timer, on_over);
}

bool kei_pods_hold(struct kei_pods *ps)
{
    if (!ps->load) {
        ps->lost_rows = true;
        return false;
    }
    ps->hold = true;
    kei_hold_link(ps, ps->connected);
    return true;
}

uint32_t kei_pods_held(const struct kei_pods *ps)
{
    return ps->n_held;
}

void kei_hold_link(struct kei_pods *ps, bool up)
{
    if (ps->hold && up && ps->hold_ms) {
        int r = kei_timer_in(&ps->hold_timer, ps->hold_ms);
        (void)r; /* a slot is reserved */
    } else {
        kei_timer_stop(&ps->hold_timer);
    }
}

void kei_hold_list(struct kei_pods *ps)
{
    ps->relist = true;
    ps->list_again = ps->listing; /* the answer under way may be older than the question */
    kei_load_list(ps);
}

void kei_hold_pod(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    if (!ps->rt || !kei_runtime_ops(ps->rt)->container_list || !ps->listed ||
        (!ps->hold && !ps->hold_over))
        return;
    p->unsure = true;
    kei_hold_list(ps);
}

void kei_hold_end(struct kei_pods *ps, const char *uid)
{
    if (!ps->hold || kei_pods_by_uid(ps, kei_str(uid)))
        return;
    if (kei_map_put(&ps->unwanted, kei_str(uid), ps, NULL) < 0)
        kei_log(ps->ctx, KE_LOG_ERROR, "pod",
                "out of memory: the containers of deleted pod %s are kept", uid);
    else if (ps->listed)
        kei_hold_list(ps); /* else the list of the start ends them */
}

bool kei_hold_keeps(const struct kei_pods *ps, const struct ke_container_info *c)
{
    const struct kei_pod *p = kei_map_get(&ps->by_uid, kei_str(c->pod_uid));
    if (!p && kei_map_get(&ps->unwanted, kei_str(c->pod_uid)))
        return false;
    return *c->pod_uid && (p ? p->unsure : ps->hold);
}

void kei_hold_count(struct kei_pods *ps, const struct ke_runtime_result *r)
{
    uint32_t before = ps->n_held;
    ps->n_held = 0;
    for (uint32_t i = 0; ps->hold && i < r->n_containers; i++)
        ps->n_held += r->containers[i].state == KE_CONTAINER_RUNNING && *r->containers[i].pod_uid &&
                      !kei_pods_by_uid(ps, kei_str(r->containers[i].pod_uid)) &&
                      !kei_map_get(&ps->unwanted, kei_str(r->containers[i].pod_uid));
    if (ps->n_held > before)
        kei_log(ps->ctx, KE_LOG_WARN, "pod",
                "the store may have lost pods: %u containers of unknown pods run on, %s",
                ps->n_held,
                ps->hold_ms ? "until the grace for strays is over"
                            : "until the cloud tells their pods (or a grace for strays is set)");
}
