/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a node still has what it acknowledged. Our own tells at each connect the id of its store;
 * the last one stands in bucket "store", by node. When another one comes, or the node joined by
 * token since, everything counts as not acknowledged and is delivered again. The row and the
 * acknowledgements share a transaction, so the old ones never outlive it. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"

#define BUCKET "store"
#define NEWEST_MAX (INT64_C(1) << 53) /* a node cannot use up the versions */
#define JOINED "-"                    /* in place of an id: it may have nothing */

struct noting {
    struct ke_cloud *cloud;
    void (*done)(void *user, int status);
    void *user;
    char node[KEI_NODE_NAME_MAX + 1];
};

static void set(struct kei_peer *p, struct ke_str id)
{
    snprintf(p->store, sizeof p->store, "%.*s", (int)id.n, id.p ? id.p : "");
}

/* What is no id is none. */
static struct ke_str checked(struct ke_str id)
{
    bool ok = id.p && id.n <= KEI_STORE_ID_MAX;
    for (size_t i = 0; ok && i < id.n; i++)
        ok = (id.p[i] >= '0' && id.p[i] <= '9') || (id.p[i] >= 'a' && id.p[i] <= 'z') ||
             (id.p[i] == '-' && id.n > 1);
    return ok ? id : KEI_STR("");
}

static void on_noted(void *user, int status)
{
    struct noting *at = user;
    struct noting n = *at;
    kei_free(kei_ctx_alloc(n.cloud->ctx), at);
    if (status == 0 && n.cloud->state == KEI_CLOUD_LOADED) {
        struct kei_peer *p = kei_peer_get(n.cloud, n.node, false);
        if (p)
            set(p, KEI_STR(JOINED));
    }
    if (status < 0 && status != KE_ECANCELED)
        kei_log(n.cloud->ctx, KE_LOG_ERROR, "cloud",
                "it was not stored that node %s joined anew: %s; the node has to ask again", n.node,
                ke_ctx_error(n.cloud->ctx));
    n.done(n.user, status);
}

int kei_lost_joined(struct ke_cloud *c, const char *node, void (*done)(void *user, int status),
                    void *user, struct ke_error *err)
{
    struct ke_store_tx *tx = NULL;
    if (c->state != KEI_CLOUD_LOADED)
        return kei_error(err, KE_EAGAIN, "the cloud is starting");
    const struct kei_peer *p = kei_peer_get(c, node, false);
    if (!p || kei_deliver_idle(p))
        return 1;
    struct noting *n = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *n);
    if (!n)
        return kei_error(err, KE_ENOMEM, "out of memory for node %s", node);
    *n = (struct noting){.cloud = c, .done = done, .user = user};
    snprintf(n->node, sizeof n->node, "%s", node);
    int r = ke_store_begin(&tx, c->store);
    if (r == 0) {
        r = ke_store_put(tx, BUCKET, node, NULL, 0, JOINED, strlen(JOINED));
        if (r == 0)
            r = ke_store_commit(tx, on_noted, n);
        else
            ke_store_abort(tx);
    }
    if (r == 0)
        return 0;
    kei_free(kei_ctx_alloc(c->ctx), n);
    return kei_error(err, r, "%s", ke_ctx_error(c->ctx));
}

void kei_lost_check(struct kei_peer *p, struct ke_str told)
{
    struct ke_cloud *c = p->cloud;
    struct ke_store_tx *tx = NULL;
    struct ke_str id = checked(told);
    bool joined = strcmp(p->store, JOINED) == 0;
    if (!joined && (id.n == 0 || kei_str_is(id, p->store)))
        return;
    int r = ke_store_begin(&tx, c->store);
    size_t n = kei_deliver_doubt(p, r == 0 ? tx : NULL);
    kei_devices_doubt(p);
    if (r == 0) {
        r = id.n > 0 ? ke_store_put(tx, BUCKET, p->name, NULL, 0, id.p, id.n)
                     : ke_store_delete(tx, BUCKET, p->name, NULL);
        if (r == 0)
            r = ke_store_commit(tx, NULL, NULL);
        else
            ke_store_abort(tx);
    }
    /* If it does not come to the disk the old id stays there, too: then it is found out again. */
    if (r < 0)
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "the store of node %s was not noted: %s", p->name,
                ke_ctx_error(c->ctx));
    if (n > 0)
        kei_log(c->ctx, KE_LOG_INFO, "cloud",
                "node %s %s: the %zu objects that it had are delivered again", p->name,
                joined ? "joined anew" : "has another store", n);
    set(p, id);
}

/* A new version of all that the node holds: what it has of a later day is not newer any more. */
static size_t write_again(struct kei_peer *p, int64_t told)
{
    struct kei_objects *s = p->cloud->objects;
    struct kei_object *o;
    size_t n = 0;
    for (size_t it = 0; (o = kei_objects_next(s, NULL, &it));) {
        struct ke_buf json = {0};
        if (o->version > told || !kei_deliver_holds(p, o))
            continue;
        kei_buf_init(&json, kei_ctx_alloc(p->cloud->ctx));
        kei_buf_addv(&json, kei_buf_str(&o->json));
        int r = kei_buf_ok(&json) ? kei_objects_write(s, o->type, o->ns, o->name,
                                                      kei_buf_str(&json), NULL, NULL, NULL)
                                  : KE_ENOMEM;
        ke_buf_free(&json);
        n += r == 0;
        if (r < 0)
            kei_log(p->cloud->ctx, KE_LOG_ERROR, "cloud",
                    "node %s may keep a later %s %s/%s than this cloud has: %s", p->name, o->type,
                    o->ns, o->name, ke_strerror(r));
    }
    return n;
}

static void forget_acks(struct kei_peer *p)
{
    struct ke_cloud *c = p->cloud;
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, c->store);
    size_t n = kei_deliver_doubt(p, r == 0 ? tx : NULL);
    if (r == 0)
        r = ke_store_commit(tx, NULL, NULL);
    if (r < 0) /* then they are written one by one, or it is found out again */
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "what node %s holds was not noted: %s", p->name,
                ke_ctx_error(c->ctx));
    kei_log(c->ctx, KE_LOG_WARN, "cloud",
            "the store of node %s is older than what it acknowledged, as a restored copy is: the "
            "%zu objects that it had are delivered again",
            p->name, n);
}

void kei_lost_compare(struct kei_peer *p, struct ke_str told)
{
    struct ke_cloud *c = p->cloud;
    int64_t newest, last = kei_objects_version(c->objects);
    if (!kei_str_i64(told, &newest) || newest < 0 || newest > NEWEST_MAX)
        return;
    if (newest < kei_deliver_newest(p))
        forget_acks(p);
    if (newest <= last)
        return;
    kei_objects_version_seen(c->objects, newest);
    size_t n = write_again(p, newest);
    kei_log(
        c->ctx, KE_LOG_WARN, "cloud",
        "node %s has objects of version %lld, and this cloud gave none above %lld: its folder is "
        "a copy of an older day, or the node was at another cloud; versions go on from there, "
        "and the %zu objects that it has are written again",
        p->name, (long long)newest, (long long)last, n);
}

void kei_lost_load(struct ke_cloud *c, const struct ke_store_item *item)
{
    struct kei_peer *p = kei_peer_get(c, item->key, false);
    if (!p)
        kei_row_drop(c, item);
    else if (item->len <= KEI_STORE_ID_MAX)
        set(p, kei_strn(item->value, item->len));
}
