/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes the cloud knows: made when a pod, a Node, a row of the store or a connection names one,
 * given up when nothing of that is left. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"

static void peer_free(struct kei_peer *p)
{
    const struct ke_alloc *a = kei_ctx_alloc(p->cloud->ctx);
    kei_list_remove(&p->idle);
    kei_list_remove(&p->labelled);
    kei_deliver_fini(p);
    kei_peer_replies_drop(p);
    kei_timer_fini(&p->held_due);
    kei_timer_fini(&p->devices_due);
    kei_map_free(&p->left);
    kei_free(a, p);
}

struct kei_peer *kei_peer_get(struct ke_cloud *c, const char *name, bool make)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct kei_peer *p = kei_map_get(&c->peers, kei_str(name));
    if (p || !make)
        return p;
    size_t n = strlen(name) + 1;
    p = kei_zalloc(a, sizeof *p + n);
    if (!p)
        return NULL;
    memcpy(p + 1, name, n);
    p->name = (const char *)(p + 1);
    p->cloud = c;
    kei_deliver_init(p);
    kei_list_init(&p->pods);
    kei_list_init(&p->held);
    kei_list_init(&p->devices);
    kei_timer_init(c->ctx, &p->devices_due, kei_devices_on_due);
    kei_map_init(&p->left, a, kei_ctx_random64(c->ctx));
    kei_timer_init(c->ctx, &p->held_due, kei_peer_on_held);
    if (kei_map_put(&c->peers, kei_str(name), p, NULL) < 0) {
        peer_free(p);
        return NULL;
    }
    return p;
}

static bool is_idle(const struct kei_peer *p)
{
    return !p->session && !p->node && p->n_pods == 0 && p->n_devices == 0 && kei_deliver_idle(p);
}

static void on_sweep(struct kei_defer *d)
{
    struct ke_cloud *c = KEI_OF(d, struct ke_cloud, sweep);
    while (!kei_list_empty(&c->idle)) {
        struct kei_peer *p = KEI_OF(c->idle.next, struct kei_peer, idle);
        kei_list_remove(&p->idle);
        if (!is_idle(p))
            continue;
        (void)kei_map_remove(&c->peers, kei_str(p->name));
        peer_free(p);
    }
}

void kei_peer_check(struct kei_peer *p)
{
    struct ke_cloud *c = p->cloud;
    if (!is_idle(p) || kei_list_linked(&p->idle) || c->state == KEI_CLOUD_CLOSING)
        return;
    kei_list_add_tail(&c->idle, &p->idle);
    kei_defer(c->ctx, &c->sweep, on_sweep);
}

void kei_peers_free(struct ke_cloud *c)
{
    struct ke_str key;
    void *value;
    kei_defer_cancel(&c->sweep);
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);)
        peer_free(value);
    kei_map_free(&c->peers);
}

/* ---- reading at start ---- */

struct loading {
    struct ke_cloud *cloud;
    void (*done)(struct ke_cloud *c, int status);
    int status;
    enum { LISTS_ACK, LISTS_HEALTH, LISTS_STORE } list;
};

/* "NODE/TYPE/NS/NAME", uid and version of what the node holds */
static int load_row(struct ke_cloud *c, const struct ke_store_item *item)
{
    struct kei_arena a;
    struct ke_str rest;
    int r = 0;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    const char *node = kei_arena_strdup(&a, kei_str_cut(kei_str(item->key), '/', &rest));
    const char *type = kei_arena_strdup(&a, kei_str_cut(rest, '/', &rest));
    const char *ns = kei_arena_strdup(&a, kei_str_cut(rest, '/', &rest));
    const char *name = rest.p ? kei_arena_strdup(&a, rest) : "";
    if (!node || !type || !ns || !name) {
        r = KE_ENOMEM;
    } else if (name[0] && item->uid[0] && strlen(item->uid) <= KEI_UID_MAX) {
        struct kei_peer *p = kei_peer_get(c, node, true);
        r = p ? kei_deliver_load(p, type, ns, name, item) : KE_ENOMEM;
        /* a version that a node saw is never given again */
        kei_objects_version_seen(c->objects, item->version);
    }
    kei_arena_free(&a);
    return r;
}

static int load_item(const struct loading *l, const struct ke_store_item *item)
{
    struct ke_cloud *c = l->cloud;
    if (l->list == LISTS_ACK)
        return load_row(c, item);
    if (l->list == LISTS_STORE) {
        kei_lost_load(c, item);
    } else {
        struct kei_peer *p = kei_peer_get(c, item->key, false);
        if (p && p->node)
            kei_health_load(p, item->version);
    }
    return 0;
}

static void load_end(struct loading *l)
{
    struct ke_cloud *c = l->cloud;
    void (*done)(struct ke_cloud *, int) = l->done;
    int status = l->status;
    kei_free(kei_ctx_alloc(c->ctx), l);
    done(c, status);
}

static void on_item(void *user, int status, const struct ke_store_item *item)
{
    struct loading *l = user;
    struct ke_cloud *c = l->cloud;
    if (item) {
        int r = load_item(l, item);
        l->status = r < 0 ? r : l->status;
        return;
    }
    l->status = status < 0 ? status : l->status;
    if (l->status == 0 && l->list != LISTS_STORE) {
        l->list++;
        l->status = ke_store_list(c->store, l->list == LISTS_HEALTH ? "health" : "store", "", 0,
                                  on_item, l);
        if (l->status == 0)
            return;
    }
    load_end(l);
}

int kei_peers_load(struct ke_cloud *c, void (*done)(struct ke_cloud *c, int status))
{
    struct ke_str key;
    void *value;
    struct loading *l = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *l);
    if (!l)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory to read the deliveries");
    *l = (struct loading){.cloud = c, .done = done};
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);)
        kei_health_load(value, 0);
    int r = ke_store_list(c->store, "ack", "", 0, on_item, l);
    if (r < 0)
        kei_free(kei_ctx_alloc(c->ctx), l);
    return r;
}
