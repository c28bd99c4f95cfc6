/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reliable delivery to one node. For each object a node has or shall have there is a delivery: the
 * version acknowledged, the version wanted, or that it shall go. A row in bucket "ack" is durable
 * before the first send, so that the cloud never forgets what a node may hold. Several deliveries
 * are in flight to our own node, one to upstream's (it blocks its queue the same way). Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"
#include "message/k8s.h"

#define WINDOW_OURS 32
#define WINDOW_UPSTREAM 1
#define RESEND_MS 5000
#define SENDS_MAX 5 /* then the delivery goes to the end of the queue */
#define KEY_MAX 640
#define REPLIES_MAX 64 /* replies whose ack is still awaited; older ones are forgotten */

struct kei_delivery {
    struct kei_peer *peer;
    const char *uid, *type, *ns, *name; /* behind the struct */
    int64_t acked;                      /* 0: never */
    int64_t wanted;                     /* version; 0: nothing is wanted */
    bool gone;                          /* the node shall delete it */
    bool row;                           /* the row in the store is durable */
    bool row_busy;                      /* ... or on its way */
    bool reply;                         /* in flight as the reply to a query: not resent */
    char msg_id[37];                    /* in flight: its id; "": not in flight */
    int64_t sent_version;
    uint32_t sends;
    int64_t resend_at;
    struct kei_link link; /* in peer->queue while waiting to be sent */
};

static void kick(struct kei_peer *p);

static uint32_t window(const struct kei_peer *p)
{
    return p->ours ? WINDOW_OURS : WINDOW_UPSTREAM;
}

static bool due(const struct kei_delivery *d)
{
    return d->gone || d->wanted > d->acked;
}

/* Puts it into the queue, or takes it out, as its state wants. */
static void enqueue(struct kei_delivery *d)
{
    struct kei_peer *p = d->peer;
    bool wait = due(d) && (d->msg_id[0] == 0 || d->reply);
    if (wait && !kei_list_linked(&d->link)) {
        kei_list_add_tail(&p->queue, &d->link);
        p->pending++;
    } else if (!wait && kei_list_linked(&d->link)) {
        kei_list_remove(&d->link);
        p->pending--;
    }
}

static struct kei_delivery *delivery_get(struct kei_peer *p, const char *uid)
{
    return kei_map_get(&p->deliveries, kei_str(uid));
}

static struct kei_delivery *delivery_make(struct kei_peer *p, const char *type, const char *ns,
                                          const char *name, const char *uid)
{
    struct kei_delivery *d = delivery_get(p, uid);
    if (d)
        return d;
    const struct ke_alloc *a = kei_ctx_alloc(p->cloud->ctx);
    const char *in[4] = {uid, type, ns, name};
    size_t len[4], total = sizeof *d;
    for (int i = 0; i < 4; i++) {
        len[i] = strlen(in[i]) + 1;
        total += len[i];
    }
    d = kei_zalloc(a, total);
    if (!d)
        return NULL;
    char *at = (char *)(d + 1);
    const char **out[4] = {&d->uid, &d->type, &d->ns, &d->name};
    for (int i = 0; i < 4; i++) {
        memcpy(at, in[i], len[i]);
        *out[i] = at;
        at += len[i];
    }
    d->peer = p;
    if (kei_map_put(&p->deliveries, kei_str(uid), d, NULL) < 0) {
        kei_free(a, d);
        return NULL;
    }
    return d;
}

static void end_flight(struct kei_delivery *d)
{
    if (d->msg_id[0] && !d->reply)
        d->peer->in_flight--;
    d->msg_id[0] = 0;
    d->reply = false;
}

static void delivery_free(struct kei_delivery *d)
{
    end_flight(d);
    d->gone = false;
    d->wanted = 0;
    enqueue(d);
    (void)kei_map_remove(&d->peer->deliveries, kei_str(d->uid));
    kei_free(kei_ctx_alloc(d->peer->cloud->ctx), d);
}

/* ---- the durable side ---- */

static int row_key(char *out, const struct kei_delivery *d)
{
    int n = snprintf(out, KEY_MAX, "%s/%s", d->peer->name, d->uid);
    return n > 0 && n < KEY_MAX ? 0 : KE_ELIMIT;
}

struct row_done {
    struct ke_cloud *cloud;
    char uid[64];
    char peer[256];
};

static void on_row(void *user, int status)
{
    struct row_done *done = user;
    struct kei_peer *p = kei_peer_get(done->cloud, done->peer, false);
    struct kei_delivery *d = p ? delivery_get(p, done->uid) : NULL;
    kei_free(kei_ctx_alloc(done->cloud->ctx), done);
    if (!d)
        return;
    d->row_busy = false;
    if (status == 0)
        d->row = true;
    else
        (void)kei_timer_in(&p->resend, RESEND_MS); /* kick tries the row again */
    if (status == 0)
        kick(p);
}

/* Writes, or with gone-and-acked deletes, the row of d. */
static int save_row(struct kei_delivery *d, bool remove)
{
    struct ke_cloud *c = d->peer->cloud;
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    char key[KEY_MAX], where[KEY_MAX];
    struct ke_store_tx *tx = NULL;
    struct row_done *done = kei_zalloc(a, sizeof *done);
    if (!done)
        return KE_ENOMEM;
    done->cloud = c;
    snprintf(done->uid, sizeof done->uid, "%s", d->uid);
    snprintf(done->peer, sizeof done->peer, "%s", d->peer->name);
    snprintf(where, sizeof where, "%s/%s/%s%s", d->type, d->ns, d->name, d->gone ? "/gone" : "");
    int r = row_key(key, d);
    if (r == 0)
        r = ke_store_begin(&tx, c->store);
    if (r == 0)
        r = remove ? ke_store_delete(tx, "ack", key, NULL)
                   : ke_store_put(tx, "ack", key, d->uid, d->acked, where, strlen(where));
    if (r == 0)
        r = ke_store_commit(tx, on_row, done);
    else
        ke_store_abort(tx);
    if (r < 0) {
        kei_free(a, done);
        return r;
    }
    d->row_busy = !remove;
    return 0;
}

/* ---- sending ---- */

static int write_stub(struct ke_buf *out, const struct kei_delivery *d)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", d->name);
    if (d->ns[0])
        kei_jw_kstr(&w, "namespace", d->ns);
    kei_jw_kstr(&w, "uid", d->uid);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    return kei_buf_ok(out) ? 0 : KE_ENOMEM;
}

/* insert for what the node never had; secrets come as update, as upstream's cloud sends them */
static const char *operation(const struct kei_delivery *d)
{
    if (d->gone)
        return "delete";
    bool update = d->acked > 0 || strcmp(d->type, "secret") == 0 || strcmp(d->type, "node") == 0;
    return update ? "update" : "insert";
}

static int send_delivery(struct kei_delivery *d, const char *msg_id)
{
    struct kei_peer *p = d->peer;
    struct ke_cloud *c = p->cloud;
    struct ke_msg_config mc;
    struct ke_msg *m = NULL;
    struct ke_buf stub = {0};
    char resource[KEY_MAX], version[24];
    kei_buf_init(&stub, kei_ctx_alloc(c->ctx));
    ke_msg_config_init(&mc, sizeof mc);
    mc.id = msg_id;
    mc.source = "edgecontroller";
    mc.group = "resource";
    mc.operation = operation(d);
    snprintf(resource, sizeof resource, "%s/%s/%s", d->ns[0] ? d->ns : "null", d->type, d->name);
    mc.resource = resource;
    const struct kei_object *o = kei_objects_get(c->objects, d->type, d->ns, d->name);
    int r = 0;
    if (d->gone) {
        r = write_stub(&stub, d);
        mc.content = stub.p;
        mc.content_len = stub.n;
    } else if (o && strcmp(o->uid, d->uid) == 0) {
        snprintf(version, sizeof version, "%lld", (long long)o->version);
        mc.resource_version = version;
        mc.content = o->json.p;
        mc.content_len = o->json.n;
        d->sent_version = o->version;
    } else {
        r = KE_ENOTFOUND;
    }
    if (r == 0)
        r = ke_msg_new(&m, c->ctx, &mc, kei_err(c->ctx));
    if (r == 0)
        r = kei_peer_send(p, m);
    if (r == 0)
        snprintf(d->msg_id, sizeof d->msg_id, "%s", ke_msg_id(m));
    ke_msg_unref(m);
    ke_buf_free(&stub);
    return r;
}

/* An object may be told only once it is durable itself. */
static bool sendable(const struct kei_delivery *d)
{
    if (d->gone)
        return d->row;
    const struct kei_object *o = kei_objects_get(d->peer->cloud->objects, d->type, d->ns, d->name);
    return d->row && o && o->durable == o->version;
}

static void arm_resend(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    int64_t first = -1;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        const struct kei_delivery *d = value;
        if (d->msg_id[0] && !d->reply && (first < 0 || d->resend_at < first))
            first = d->resend_at;
    }
    if (first >= 0)
        (void)kei_timer_at(&p->resend, first);
}

static void kick(struct kei_peer *p)
{
    if (!p->session)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &p->queue)
    {
        struct kei_delivery *d = KEI_OF(l, struct kei_delivery, link);
        if (p->in_flight >= window(p))
            break;
        if (!d->row && !d->row_busy)
            (void)save_row(d, false);
        if (!sendable(d))
            continue;
        end_flight(d); /* a reply whose ack is awaited gives way to the resend-able message */
        int r = send_delivery(d, NULL);
        if (r == KE_ENOTFOUND) { /* replaced or removed meanwhile; that has its own delivery */
            d->wanted = d->acked;
            enqueue(d);
            continue;
        }
        if (r < 0)
            break; /* the session is ending, or its queue is full: drained kicks again */
        p->in_flight++;
        d->sends = 1;
        d->resend_at = ke_ctx_mono_ms(p->cloud->ctx) + RESEND_MS;
        enqueue(d);
    }
    if (p->in_flight > 0)
        arm_resend(p);
}

/* Same id again, five sends in all; then others get their turn. */
static void on_resend(struct kei_timer *t)
{
    struct kei_peer *p = KEI_OF(t, struct kei_peer, resend);
    struct ke_str key;
    void *value;
    int64_t now = ke_ctx_mono_ms(p->cloud->ctx);
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        struct kei_delivery *d = value;
        char id[37];
        if (!d->msg_id[0] || d->reply || d->resend_at > now)
            continue;
        if (d->sends >= SENDS_MAX) {
            kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud",
                    "node %s did not acknowledge %s/%s/%s after %d sends; others go first", p->name,
                    d->ns, d->type, d->name, SENDS_MAX);
            end_flight(d);
            enqueue(d);
            continue;
        }
        memcpy(id, d->msg_id, sizeof id);
        d->sends++;
        d->resend_at = now + RESEND_MS;
        if (send_delivery(d, id) == KE_ENOTFOUND) {
            end_flight(d);
            enqueue(d);
        }
    }
    kick(p);
}

/* ---- what is wanted ---- */

void kei_deliver(struct kei_peer *p, const struct kei_object *o, bool push)
{
    struct kei_delivery *d = delivery_get(p, o->uid);
    if (!d && !push)
        return;
    if (!d)
        d = delivery_make(p, o->type, o->ns, o->name, o->uid);
    if (!d) {
        kei_log(p->cloud->ctx, KE_LOG_ERROR, "cloud", "out of memory: %s %s/%s waits for node %s",
                o->type, o->ns, o->name, p->name);
        return;
    }
    if (d->gone || d->wanted >= o->version)
        return;
    d->wanted = o->version;
    enqueue(d);
    kick(p);
}

void kei_deliver_gone(struct kei_peer *p, const char *type, const char *ns, const char *name,
                      const char *uid)
{
    struct kei_delivery *d = delivery_make(p, type, ns, name, uid);
    if (!d || d->gone)
        return;
    if (d->acked == 0 && !d->row && !d->row_busy && d->wanted > 0) {
        delivery_free(d); /* the node never heard of it */
        return;
    }
    end_flight(d);
    d->gone = true;
    d->row = false; /* the row must say so before the node is told */
    enqueue(d);
    kick(p);
}

void kei_deliver_known(struct kei_peer *p, const struct kei_object *o)
{
    struct kei_delivery *d = delivery_make(p, o->type, o->ns, o->name, o->uid);
    if (!d || d->gone || d->acked >= o->version)
        return;
    d->acked = o->version;
    if (d->wanted < o->version)
        d->wanted = o->version;
    (void)save_row(d, false);
    enqueue(d);
}

void kei_deliver_reply_sent(struct kei_peer *p, const char *msg_id, const struct kei_object *o)
{
    struct kei_delivery *d = delivery_make(p, o->type, o->ns, o->name, o->uid);
    if (!d || d->gone || (d->msg_id[0] && !d->reply))
        return;
    if (d->wanted < o->version)
        d->wanted = o->version;
    d->reply = true;
    d->sent_version = o->version;
    snprintf(d->msg_id, sizeof d->msg_id, "%s", msg_id);
    /* not queued unless something newer is wanted: the node asks again if the reply is lost */
    if (kei_list_linked(&d->link)) {
        kei_list_remove(&d->link);
        p->pending--;
    }
}

void kei_deliver_acked(struct kei_peer *p, const char *msg_id)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        struct kei_delivery *d = value;
        if (d->msg_id[0] == 0 || strcmp(d->msg_id, msg_id) != 0)
            continue;
        bool gone = d->gone && !d->reply;
        end_flight(d);
        if (gone) {
            (void)save_row(d, true);
            delivery_free(d);
        } else {
            if (d->acked < d->sent_version)
                d->acked = d->sent_version;
            if (d->wanted < d->acked)
                d->wanted = d->acked;
            (void)save_row(d, false);
            enqueue(d);
        }
        kick(p);
        return;
    }
}

void kei_deliver_connected(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);)
        enqueue(value);
    kick(p);
}

void kei_deliver_disconnected(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    kei_timer_stop(&p->resend);
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        end_flight(value);
        enqueue(value);
    }
}

/* ---- peers ---- */

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
    kei_map_init(&p->deliveries, a, kei_ctx_random64(c->ctx));
    kei_list_init(&p->queue);
    kei_timer_init(c->ctx, &p->resend, on_resend);
    kei_list_init(&p->held);
    kei_timer_init(c->ctx, &p->held_due, kei_peer_on_held);
    if (kei_map_put(&c->peers, kei_str(name), p, NULL) < 0) {
        kei_timer_fini(&p->resend);
        kei_timer_fini(&p->held_due);
        kei_free(a, p);
        return NULL;
    }
    return p;
}

void kei_peers_free(struct ke_cloud *c)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct ke_str key;
    void *value, *inner;
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);) {
        struct kei_peer *p = value;
        if (p->session)
            kei_session_close(p->session, "the cloud stops");
        for (size_t k = 0; kei_map_next(&p->deliveries, &k, &key, &inner);)
            kei_free(a, inner);
        kei_map_free(&p->deliveries);
        kei_peer_replies_drop(p);
        kei_timer_fini(&p->resend);
        kei_timer_fini(&p->held_due);
        kei_free(a, p);
    }
    kei_map_free(&c->peers);
}

/* "NODE/UID" -> "type/ns/name[/gone]" */
static void load_row(struct ke_cloud *c, const struct ke_store_item *item)
{
    struct kei_arena a;
    struct ke_str uid, rest;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    struct ke_str node = kei_str_cut(kei_str(item->key), '/', &uid);
    struct ke_str type = kei_str_cut(kei_strn(item->value, item->len), '/', &rest);
    struct ke_str ns = kei_str_cut(rest, '/', &rest);
    struct ke_str gone;
    struct ke_str name = kei_str_cut(rest, '/', &gone);
    struct kei_peer *p = uid.p ? kei_peer_get(c, kei_arena_strdup(&a, node), true) : NULL;
    struct kei_delivery *d =
        p ? delivery_make(p, kei_arena_strdup(&a, type), kei_arena_strdup(&a, ns),
                          kei_arena_strdup(&a, name), item->key + node.n + 1)
          : NULL;
    if (d) {
        d->acked = d->wanted = item->version;
        d->row = true;
        const struct kei_object *o = kei_objects_get(c->objects, d->type, d->ns, d->name);
        d->gone = gone.p || !o || strcmp(o->uid, d->uid) != 0;
        if (!d->gone)
            d->wanted = o->version;
        enqueue(d);
    }
    kei_arena_free(&a);
}

struct loading {
    struct ke_cloud *cloud;
    void (*done)(struct ke_cloud *c, int status);
};

static void on_load(void *user, int status, const struct ke_store_item *item)
{
    struct loading *l = user;
    if (item) {
        load_row(l->cloud, item);
        return;
    }
    struct ke_cloud *c = l->cloud;
    void (*done)(struct ke_cloud *, int) = l->done;
    kei_free(kei_ctx_alloc(c->ctx), l);
    done(c, status);
}

int kei_peers_load(struct ke_cloud *c, void (*done)(struct ke_cloud *c, int status))
{
    struct loading *l = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *l);
    if (!l)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory to read the deliveries");
    *l = (struct loading){c, done};
    int r = ke_store_list(c->store, "ack", "", 0, on_load, l);
    if (r < 0)
        kei_free(kei_ctx_alloc(c->ctx), l);
    return r;
}
