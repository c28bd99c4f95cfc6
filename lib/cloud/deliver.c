/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reliable delivery to one node. For each name of an object that a node has or shall have there is
 * a delivery. Three things in it are compared: what is wanted, what the node may hold, and what the
 * row in bucket "ack" says about that. From them follows the next step: to tell the node that the
 * held one is gone, to send the wanted one, or nothing. The row is durable before the first send,
 * so the cloud never forgets what a node may hold. One name has one message in flight at a time, so
 * a successor never overtakes the end of its predecessor. Loop thread.
 *
 * Messages are resent under the same id as long as they say the same; then a node that has done it
 * already recognises it. Several deliveries are in flight to our own node, one to upstream's (its
 * cloud works so).
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"

#define WINDOW_OURS 32
#define WINDOW_UPSTREAM 1
#define RESEND_MS 5000
#define SENDS_MAX 5                /* then the delivery goes to the end of the queue */
#define AHEAD 64                   /* of the queue looked at per turn */
#define QUEUE_BYTES (256u * 1024u) /* unsent bytes at which no more is added to them */
#define STRAYS_MAX 64
#define LENDS_MAX 512

enum step { STEP_NONE, STEP_PUT, STEP_DELETE };

/* uid "" : none. version: what the node acknowledged, 0 nothing yet. */
struct holding {
    char uid[KEI_UID_MAX + 1];
    int64_t version;
};

struct kei_delivery {
    struct kei_peer *peer;
    const char *key, *type, *ns, *name; /* behind the struct */
    struct kei_link link;               /* in peer->queue or peer->flying */
    struct holding want;                /* version is the one to be delivered */
    struct holding held;
    struct holding row, writing;
    int64_t acked;         /* version of the newest message it acknowledged; 0: not known */
    struct kei_link lends; /* requests that wait for the row */
    bool busy;             /* writing is on its way to the disk */
    bool stray;            /* not to be remembered: the node told of it */
    bool flying;
    /* the newest message, in flight or given up for now; id "" none */
    char id[37];
    enum step sent_step;
    struct holding sent;
    struct ke_buf remains; /* of a device: what a deletion must say of the held object */
    char lent_id[37];      /* the newest reply with the held object */
    int64_t lent_version;
    uint32_t sends;
    int64_t resend_at;
};

/* A request for the object, which is answered when the row is durable. */
struct lend {
    struct kei_link link;
    struct ke_msg *request;
    uint64_t generation; /* of the session that asked */
    void (*ready)(struct kei_peer *p, struct ke_msg *request);
};

static void evaluate(struct kei_delivery *d);

static bool is_uid(const struct holding *h, const char *uid)
{
    return strcmp(h->uid, uid) == 0;
}

static void set_uid(struct holding *h, const char *uid, int64_t version)
{
    snprintf(h->uid, sizeof h->uid, "%s", uid);
    h->version = version;
}

static bool same_holding(const struct holding *a, const struct holding *b)
{
    return is_uid(a, b->uid) && a->version == b->version;
}

static enum step next_step(const struct kei_delivery *d)
{
    if (d->held.uid[0] && !is_uid(&d->want, d->held.uid))
        return STEP_DELETE;
    if (!d->want.uid[0])
        return STEP_NONE;
    return !d->held.uid[0] || d->held.version < d->want.version ? STEP_PUT : STEP_NONE;
}

/* ---- memory ---- */

static struct kei_delivery *delivery_get(const struct kei_peer *p, const char *type, const char *ns,
                                         const char *name)
{
    char key[KEI_KEY_MAX];
    return kei_object_key(key, type, ns, name) < 0 ? NULL
                                                   : kei_map_get(&p->deliveries, kei_str(key));
}

static struct kei_delivery *delivery_new(struct kei_peer *p, const char *key, const char *type,
                                         const char *ns, const char *name)
{
    const struct ke_alloc *a = kei_ctx_alloc(p->cloud->ctx);
    const char *in[4] = {key, type, ns, name};
    size_t len[4], total = sizeof(struct kei_delivery);
    for (int i = 0; i < 4; i++) {
        len[i] = strlen(in[i]) + 1;
        total += len[i];
    }
    struct kei_delivery *d = kei_zalloc(a, total);
    if (!d)
        return NULL;
    char *at = (char *)(d + 1);
    const char **out[4] = {&d->key, &d->type, &d->ns, &d->name};
    for (int i = 0; i < 4; i++) {
        memcpy(at, in[i], len[i]);
        *out[i] = at;
        at += len[i];
    }
    d->peer = p;
    kei_list_init(&d->lends);
    kei_buf_init(&d->remains, a);
    if (kei_map_put(&p->deliveries, kei_str(key), d, NULL) < 0) {
        kei_free(a, d);
        return NULL;
    }
    return d;
}

static struct kei_delivery *delivery_make(struct kei_peer *p, const char *type, const char *ns,
                                          const char *name)
{
    char key[KEI_KEY_MAX];
    struct kei_delivery *d = delivery_get(p, type, ns, name);
    if (d || kei_object_key(key, type, ns, name) < 0)
        return d;
    return delivery_new(p, key, type, ns, name);
}

static void unqueue(struct kei_delivery *d)
{
    if (!kei_list_linked(&d->link))
        return;
    kei_list_remove(&d->link);
    if (d->flying)
        d->peer->n_flying--;
    else
        d->peer->queued--;
    d->flying = false;
}

static void forget_id(struct kei_delivery *d, char *id)
{
    if (id[0])
        (void)kei_map_remove(&d->peer->ids, kei_str(id));
    id[0] = 0;
}

static void lend_end(struct kei_peer *p, struct lend *l)
{
    if (p->session && p->session->generation == l->generation)
        kei_session_waits(p->session, -1);
    kei_list_remove(&l->link);
    ke_msg_unref(l->request);
    kei_free(kei_ctx_alloc(p->cloud->ctx), l);
}

static void delivery_free(struct kei_delivery *d)
{
    struct kei_peer *p = d->peer;
    unqueue(d);
    forget_id(d, d->id);
    forget_id(d, d->lent_id);
    while (!kei_list_empty(&d->lends))
        lend_end(p, KEI_OF(d->lends.next, struct lend, link));
    p->strays -= d->stray;
    (void)kei_map_remove(&p->deliveries, kei_str(d->key));
    ke_buf_free(&d->remains);
    kei_free(kei_ctx_alloc(p->cloud->ctx), d);
}

/* ---- the row ---- */

static void retry_later(struct kei_peer *p)
{
    if (!kei_timer_armed(&p->resend))
        (void)kei_timer_in(&p->resend, RESEND_MS);
}

static void answer_lends(struct kei_delivery *d)
{
    struct kei_peer *p = d->peer;
    struct kei_link now;
    kei_list_init(&now);
    while (!kei_list_empty(&d->lends)) {
        struct kei_link *l = d->lends.next;
        kei_list_remove(l);
        kei_list_add_tail(&now, l);
    }
    while (!kei_list_empty(&now)) {
        struct lend *l = KEI_OF(now.next, struct lend, link);
        struct ke_msg *request = ke_msg_ref(l->request);
        bool here = p->session && p->session->generation == l->generation;
        void (*ready)(struct kei_peer *, struct ke_msg *) = l->ready;
        lend_end(p, l);
        if (here)
            ready(p, request);
        ke_msg_unref(request);
    }
}

static void on_row(void *user, int status)
{
    struct kei_delivery *d = user;
    struct kei_peer *p = d->peer;
    d->busy = false;
    if (p->cloud->state == KEI_CLOUD_CLOSING)
        return;
    if (status < 0) {
        kei_log(p->cloud->ctx, KE_LOG_ERROR, "cloud",
                "what node %s holds was not stored: %s; trying again", p->name,
                ke_ctx_error(p->cloud->ctx));
        retry_later(p);
        return;
    }
    d->row = d->writing;
    if (d->held.uid[0] && is_uid(&d->row, d->held.uid))
        answer_lends(d);
    kei_deliver_kick(p);
    evaluate(d);
}

/* One write at a time; when it is done the newest state is compared again. */
static void write_row(struct kei_delivery *d)
{
    struct ke_cloud *c = d->peer->cloud;
    struct ke_store_tx *tx = NULL;
    char key[KEI_KEY_MAX];
    int n = snprintf(key, sizeof key, "%s/%s", d->peer->name, d->key);
    if (d->busy || d->stray || same_holding(&d->row, &d->held))
        return;
    int r = n > 0 && n < KEI_KEY_MAX ? ke_store_begin(&tx, c->store) : KE_ELIMIT;
    if (r == 0) {
        r = d->held.uid[0] ? ke_store_put(tx, "ack", key, d->held.uid, d->held.version,
                                          d->remains.n ? d->remains.p : "", d->remains.n)
                           : ke_store_delete(tx, "ack", key, NULL);
        if (r == 0)
            r = ke_store_commit(tx, on_row, d);
        else
            ke_store_abort(tx);
    }
    if (r < 0) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "what node %s holds was not stored: %s",
                d->peer->name, ke_ctx_error(c->ctx));
        retry_later(d->peer);
        return;
    }
    d->writing = d->held;
    d->busy = true;
}

/* ---- what is due ---- */

/* Brings queue and row in line with the state; may free d. */
static void evaluate(struct kei_delivery *d)
{
    struct kei_peer *p = d->peer;
    enum step step = next_step(d);
    if (d->flying && (step != d->sent_step || (step == STEP_PUT && !is_uid(&d->want, d->sent.uid))))
        unqueue(d); /* the message in flight is not what is needed any more */
    if (step == STEP_NONE) {
        unqueue(d);
    } else if (!kei_list_linked(&d->link)) {
        kei_list_add_tail(&p->queue, &d->link);
        p->queued++;
        kei_deliver_kick(p);
    }
    write_row(d);
    if (step == STEP_NONE && !d->busy && !d->held.uid[0] && !d->want.uid[0] &&
        (d->stray || !d->row.uid[0])) {
        delivery_free(d);
        kei_peer_check(p);
    }
}

/* ---- sending ---- */

static void write_stub(struct ke_buf *out, const struct kei_delivery *d)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", d->name);
    if (d->ns[0])
        kei_jw_kstr(&w, "namespace", d->ns);
    kei_jw_kstr(&w, "uid", d->held.uid);
    kei_jw_obj_end(&w);
    if (d->remains.n > 0)
        kei_jw_kraw(&w, "spec", kei_buf_str(&d->remains));
    kei_jw_obj_end(&w);
}

/* insert for what the node never had; secrets come as update, as upstream's cloud sends them */
static const char *operation(const struct kei_delivery *d, enum step step)
{
    if (step == STEP_DELETE)
        return "delete";
    bool update =
        d->held.version > 0 || strcmp(d->type, "secret") == 0 || strcmp(d->type, "node") == 0;
    return update ? "update" : "insert";
}

static const struct kei_object *object_of(const struct kei_delivery *d)
{
    const struct kei_object *o = kei_objects_get(d->peer->cloud->objects, d->type, d->ns, d->name);
    return o && is_uid(&d->want, o->uid) ? o : NULL;
}

/* Of a device the node gets another form than is stored, and what a deletion needs is noted. */
static int device_content(struct kei_delivery *d, const struct kei_object *o, struct ke_buf *out)
{
    struct ke_ctx *ctx = d->peer->cloud->ctx;
    struct ke_buf remains = {0};
    int r = kei_device_content(d->peer, o, out);
    kei_buf_init(&remains, kei_ctx_alloc(ctx));
    if (r == 0 && kei_device_remains(out, &remains) < 0)
        r = kei_fail(ctx, KE_ENOMEM, "out of memory for a message");
    if (r < 0) {
        ke_buf_free(&remains);
        return r;
    }
    ke_buf_free(&d->remains);
    d->remains = remains;
    return 0;
}

/* The message for a step, with the id it had when it said the same before. */
static int make_message(struct kei_delivery *d, enum step step, const struct holding *what,
                        struct ke_msg **ret)
{
    struct ke_ctx *ctx = d->peer->cloud->ctx;
    struct ke_msg_config mc;
    struct ke_buf stub = {0};
    char resource[KEI_KEY_MAX], version[24];
    bool device = kei_is_device_type(d->type);
    int r = 0;
    kei_buf_init(&stub, kei_ctx_alloc(ctx));
    ke_msg_config_init(&mc, sizeof mc);
    if (d->id[0] && d->sent_step == step && same_holding(&d->sent, what))
        mc.id = d->id;
    mc.source = device ? "devicecontroller" : "edgecontroller";
    mc.group = "resource";
    mc.operation = operation(d, step);
    snprintf(resource, sizeof resource, "%s/%s/%s", d->ns[0] ? d->ns : "null", d->type, d->name);
    mc.resource = resource;
    if (step == STEP_DELETE) {
        write_stub(&stub, d);
        mc.content = stub.p;
        mc.content_len = stub.n;
    } else {
        const struct kei_object *o = object_of(d);
        snprintf(version, sizeof version, "%lld", (long long)what->version);
        mc.resource_version = version;
        if (device)
            r = device_content(d, o, &stub);
        mc.content = device ? stub.p : o->json.p;
        mc.content_len = device ? stub.n : o->json.n;
    }
    if (r == 0)
        r = kei_buf_ok(&stub) ? ke_msg_new(ret, ctx, &mc, kei_err(ctx))
                              : kei_fail(ctx, KE_ENOMEM, "out of memory for a message");
    ke_buf_free(&stub);
    return r;
}

static int send_step(struct kei_delivery *d, enum step step)
{
    struct kei_peer *p = d->peer;
    struct ke_msg *m = NULL;
    struct holding what = d->held;
    if (step == STEP_PUT)
        set_uid(&what, d->want.uid, object_of(d)->version);
    int r = make_message(d, step, &what, &m);
    if (r < 0)
        return r;
    bool fresh = strcmp(ke_msg_id(m), d->id) != 0;
    if (fresh && kei_map_put(&p->ids, kei_str(ke_msg_id(m)), d, NULL) < 0)
        r = kei_fail(p->cloud->ctx, KE_ENOMEM, "out of memory for a message to node %s", p->name);
    else
        r = kei_peer_send(p, m);
    if (r < 0 && fresh)
        (void)kei_map_remove(&p->ids, kei_str(ke_msg_id(m)));
    if (r == 0) {
        if (fresh) {
            forget_id(d, d->id);
            snprintf(d->id, sizeof d->id, "%s", ke_msg_id(m));
        }
        d->sends = fresh || !d->flying ? 1 : d->sends + 1;
        d->sent_step = step;
        d->sent = what;
        d->resend_at = ke_ctx_mono_ms(p->cloud->ctx) + RESEND_MS;
    }
    ke_msg_unref(m);
    return r;
}

/* Before the first row of a device. */
static int note_remains(struct kei_delivery *d, const struct kei_object *o)
{
    struct ke_buf content = {0};
    kei_buf_init(&content, kei_ctx_alloc(d->peer->cloud->ctx));
    int r = device_content(d, o, &content);
    ke_buf_free(&content);
    if (r < 0)
        kei_log(d->peer->cloud->ctx, KE_LOG_ERROR, "cloud", "%s %s/%s was not sent: %s", d->type,
                d->ns, d->name, ke_ctx_error(d->peer->cloud->ctx));
    return r;
}

/* What may not be told yet: the row, or the object itself, is not on the disk. */
static bool sendable(struct kei_delivery *d, enum step step)
{
    if (step == STEP_DELETE)
        return d->stray || is_uid(&d->row, d->held.uid);
    const struct kei_object *o = object_of(d);
    if (!o || o->durable != o->version)
        return false;
    if (!d->held.uid[0])
        set_uid(&d->held, d->want.uid, 0); /* from now on the node may have it */
    if (kei_is_device_type(d->type) && d->remains.n == 0 && note_remains(d, o) < 0)
        return false;
    write_row(d);
    return is_uid(&d->row, d->held.uid);
}

static bool congested(const struct kei_peer *p)
{
    return kei_ws_queued(p->session->ws) > QUEUE_BYTES;
}

static void fly(struct kei_delivery *d)
{
    struct kei_peer *p = d->peer;
    unqueue(d);
    kei_list_add_tail(&p->flying,
                      &d->link); /* all have the same time to go: the list is in order */
    p->n_flying++;
    d->flying = true;
}

static void arm(struct kei_peer *p)
{
    if (!kei_list_empty(&p->flying))
        (void)kei_timer_at(&p->resend,
                           KEI_OF(p->flying.next, struct kei_delivery, link)->resend_at);
}

static void on_kick(struct kei_defer *defer)
{
    struct kei_peer *p = KEI_OF(defer, struct kei_peer, kick);
    uint32_t window = p->ours ? WINDOW_OURS : WINDOW_UPSTREAM, looked = 0;
    bool failed = false;
    if (p->cloud->state != KEI_CLOUD_LOADED || !p->session || p->session->failed)
        return;
    KEI_LIST_EACH_SAFE(l, next, &p->queue)
    {
        struct kei_delivery *d = KEI_OF(l, struct kei_delivery, link);
        if (p->n_flying >= window || ++looked > AHEAD || (p->n_flying > 0 && congested(p)))
            break;
        enum step step = next_step(d);
        if (!sendable(d, step))
            continue;
        if (send_step(d, step) < 0) {
            failed = true;
            break;
        }
        fly(d);
    }
    arm(p);
    if (failed)
        retry_later(p);
}

void kei_deliver_kick(struct kei_peer *p)
{
    if (p->session && p->cloud->state == KEI_CLOUD_LOADED)
        kei_defer(p->cloud->ctx, &p->kick, on_kick);
}

/* The first in flight was not acknowledged in time. */
static void resend(struct kei_delivery *d, int64_t now)
{
    struct kei_peer *p = d->peer;
    enum step step = next_step(d);
    if (d->sends >= SENDS_MAX) {
        kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud",
                "node %s did not acknowledge %s %s/%s after %d sends; others go first", p->name,
                d->type, d->ns, d->name, SENDS_MAX);
        unqueue(d);
        evaluate(d);
        return;
    }
    d->resend_at = now + RESEND_MS;
    /* what still waits in our own queue was not lost on the way */
    if (!congested(p) && sendable(d, step))
        (void)send_step(d, step);
    fly(d);
}

static void write_rows(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);)
        evaluate(value);
}

static void on_resend(struct kei_timer *t)
{
    struct kei_peer *p = KEI_OF(t, struct kei_peer, resend);
    int64_t now = ke_ctx_mono_ms(p->cloud->ctx);
    while (p->session && !p->session->failed && !kei_list_empty(&p->flying)) {
        struct kei_delivery *d = KEI_OF(p->flying.next, struct kei_delivery, link);
        if (d->resend_at > now)
            break;
        resend(d, now);
    }
    write_rows(p); /* those whose write failed */
    arm(p);
    kei_deliver_kick(p);
}

/* ---- what is wanted ---- */

int kei_deliver(struct kei_peer *p, const struct kei_object *o)
{
    struct kei_delivery *d = delivery_make(p, o->type, o->ns, o->name);
    if (!d) {
        kei_log(p->cloud->ctx, KE_LOG_ERROR, "cloud", "out of memory: %s %s/%s waits for node %s",
                o->type, o->ns, o->name, p->name);
        p->cloud->missed = true;
        return KE_ENOMEM;
    }
    if (is_uid(&d->want, o->uid) && d->want.version >= o->version) {
        kei_deliver_kick(p); /* wanted before it was durable: now it may go */
        return 0;
    }
    set_uid(&d->want, o->uid, o->version);
    evaluate(d);
    kei_deliver_kick(p);
    return 0;
}

void kei_deliver_gone(struct kei_peer *p, const char *type, const char *ns, const char *name,
                      const char *uid)
{
    struct kei_delivery *d = delivery_get(p, type, ns, name);
    if (!d || !is_uid(&d->want, uid))
        return;
    set_uid(&d->want, "", 0);
    evaluate(d);
}

void kei_deliver_forget(struct kei_peer *p, const char *type, const char *ns, const char *name)
{
    struct kei_delivery *d = delivery_get(p, type, ns, name);
    if (!d)
        return;
    set_uid(&d->want, "", 0);
    set_uid(&d->held, "", 0);
    evaluate(d);
}

int kei_deliver_stray(struct kei_peer *p, const char *ns, const char *name, const char *uid)
{
    char key[KEI_UID_MAX + 2];
    const struct kei_delivery *known = delivery_get(p, "pod", ns, name);
    if (known && is_uid(&known->held, uid))
        return 0; /* its end is on its way, or it is wanted */
    snprintf(key, sizeof key, "~%s", uid);
    if (kei_map_get(&p->deliveries, kei_str(key)))
        return 0;
    if (p->strays >= STRAYS_MAX)
        return kei_fail(p->cloud->ctx, KE_ELIMIT,
                        "node %s told of more pods unknown here than the limit of %d", p->name,
                        STRAYS_MAX);
    struct kei_delivery *d = delivery_new(p, key, "pod", ns, name);
    if (!d)
        return kei_fail(p->cloud->ctx, KE_ENOMEM, "out of memory for pod %s/%s", ns, name);
    d->stray = true;
    p->strays++;
    set_uid(&d->held, uid, 0);
    evaluate(d);
    return 0;
}

void kei_deliver_reported(struct kei_peer *p, const struct kei_object *o, int64_t base,
                          int64_t version)
{
    struct kei_delivery *d = delivery_get(p, o->type, o->ns, o->name);
    /* only if it had all that was there before: else it would miss that */
    if (!d || !is_uid(&d->want, o->uid) || !is_uid(&d->held, o->uid) || d->held.version != base)
        return;
    d->held.version = version;
    if (d->want.version < version)
        d->want.version = version;
    evaluate(d);
}

bool kei_deliver_holds(const struct kei_peer *p, const struct kei_object *o)
{
    const struct kei_delivery *d = delivery_get(p, o->type, o->ns, o->name);
    return d && (is_uid(&d->held, o->uid) || is_uid(&d->row, o->uid) ||
                 (d->busy && is_uid(&d->writing, o->uid)));
}

bool kei_deliver_done(const struct kei_peer *p, const struct kei_object *o)
{
    const struct kei_delivery *d = delivery_get(p, o->type, o->ns, o->name);
    return d && is_uid(&d->held, o->uid) && d->held.version >= o->version;
}

bool kei_deliver_holds_former(const struct kei_peer *p, const struct kei_object *o)
{
    const struct kei_delivery *d = delivery_get(p, o->type, o->ns, o->name);
    return d && d->held.uid[0] && !is_uid(&d->held, o->uid);
}

/* ---- acknowledgements ---- */

static void acked(struct kei_delivery *d)
{
    if (d->sent_step == STEP_PUT && is_uid(&d->held, d->sent.uid) &&
        d->held.version < d->sent.version)
        d->held.version = d->sent.version;
    if (d->sent_step == STEP_PUT && is_uid(&d->held, d->sent.uid))
        d->acked = d->sent.version;
    if (d->sent_step == STEP_DELETE && is_uid(&d->held, d->sent.uid)) {
        set_uid(&d->held, "", 0);
        kei_buf_clear(&d->remains);
        d->acked = 0;
        forget_id(d, d->lent_id);
    }
    unqueue(d);
    forget_id(d, d->id);
}

void kei_deliver_acked(struct kei_peer *p, const char *msg_id)
{
    struct kei_delivery *d = msg_id[0] ? kei_map_get(&p->ids, kei_str(msg_id)) : NULL;
    if (!d)
        return;
    if (strcmp(d->id, msg_id) == 0) {
        acked(d);
    } else {
        if (d->held.uid[0] && d->held.version < d->lent_version)
            d->held.version = d->lent_version;
        forget_id(d, d->lent_id);
    }
    evaluate(d);
    kei_deliver_kick(p);
}

/* ---- objects in replies ---- */

int kei_deliver_lend(struct kei_peer *p, const struct kei_object *o, struct ke_msg *request,
                     void (*ready)(struct kei_peer *p, struct ke_msg *request))
{
    struct kei_delivery *d = delivery_make(p, o->type, o->ns, o->name);
    if (!d)
        return kei_fail(p->cloud->ctx, KE_ENOMEM, "out of memory for a reply to node %s", p->name);
    if (!d->want.uid[0])
        set_uid(&d->want, o->uid, d->held.version);
    if (!d->held.uid[0] && is_uid(&d->want, o->uid))
        set_uid(&d->held, o->uid, 0);
    /* when a predecessor is still being removed, that goes its way; the reply does not count */
    if (is_uid(&d->row, o->uid) || !is_uid(&d->held, o->uid)) {
        ready(p, request);
        return 0;
    }
    struct lend *l = p->session && p->session->waiting < LENDS_MAX
                         ? kei_zalloc(kei_ctx_alloc(p->cloud->ctx), sizeof *l)
                         : NULL;
    if (!l) {
        evaluate(d);
        return kei_fail(p->cloud->ctx, KE_ENOMEM, "no room for a reply to node %s", p->name);
    }
    l->request = ke_msg_ref(request);
    l->generation = p->session->generation;
    l->ready = ready;
    kei_list_add_tail(&d->lends, &l->link);
    kei_session_waits(p->session, 1);
    evaluate(d);
    return 0;
}

void kei_deliver_lent(struct kei_peer *p, const struct kei_object *o, const char *msg_id)
{
    struct kei_delivery *d = delivery_get(p, o->type, o->ns, o->name);
    if (!d || !is_uid(&d->held, o->uid) || !is_uid(&d->row, o->uid))
        return;
    if (kei_map_put(&p->ids, kei_str(msg_id), d, NULL) < 0)
        return; /* then it will be sent once more */
    forget_id(d, d->lent_id);
    snprintf(d->lent_id, sizeof d->lent_id, "%s", msg_id);
    d->lent_version = o->version;
}

/* ---- the session comes and goes ---- */

void kei_deliver_disconnected(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    (void)kei_timer_in(&p->resend, RESEND_MS); /* for rows that could not be written */
    kei_defer_cancel(&p->kick);
    /* back to the head of the queue, in the order they had */
    while (!kei_list_empty(&p->flying)) {
        struct kei_delivery *d = KEI_OF(p->flying.prev, struct kei_delivery, link);
        unqueue(d);
        kei_list_add_tail(p->queue.next, &d->link); /* before the first */
        p->queued++;
    }
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        struct kei_delivery *d = value;
        forget_id(d, d->lent_id);
        while (!kei_list_empty(&d->lends))
            lend_end(p, KEI_OF(d->lends.next, struct lend, link));
        if (d->stray)
            delivery_free(d); /* it will tell of it again */
    }
}

bool kei_deliver_idle(const struct kei_peer *p)
{
    return p->deliveries.n == 0;
}

/* Is this object, found under the name of what the node holds, still for the node? */
static bool still_wanted(struct kei_peer *p, const struct kei_object *o, const char *held_uid)
{
    const struct kei_pod_note *pod = o->note;
    if (kei_is_device_type(o->type))
        return kei_devices_wanted(p, o);
    if (strcmp(o->type, "pod") == 0)
        return pod && pod->peer == p;
    return strcmp(o->uid, held_uid) == 0 || kei_index_refers(p, o->type, o->ns, o->name);
}

int kei_deliver_load(struct kei_peer *p, const char *type, const char *ns, const char *name,
                     const struct ke_store_item *item)
{
    struct kei_delivery *d = delivery_make(p, type, ns, name);
    if (!d)
        return KE_ENOMEM;
    const struct kei_object *o = kei_objects_get(p->cloud->objects, type, ns, name);
    set_uid(&d->held, item->uid, item->version);
    d->row = d->held;
    if (kei_is_device_type(type) && item->len > 0 &&
        kei_json_check(kei_strn(item->value, item->len), 0, NULL) == 0)
        kei_buf_add(&d->remains, item->value, item->len);
    if (!kei_buf_ok(&d->remains))
        return KE_ENOMEM;
    if (o && still_wanted(p, o, item->uid))
        set_uid(&d->want, o->uid, o->version);
    evaluate(d);
    return 0;
}

/*
 * The rows count as written: should tx fail, the note that went with it failed, too, and the node
 * is doubted once more after a restart.
 */
size_t kei_deliver_doubt(struct kei_peer *p, struct ke_store_tx *tx)
{
    struct ke_str key;
    void *value;
    size_t n = 0;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        struct kei_delivery *d = value;
        char row[KEI_KEY_MAX];
        int len = snprintf(row, sizeof row, "%s/%s", p->name, d->key);
        if (d->stray || !d->held.uid[0])
            continue;
        n++;
        d->held.version = d->acked = 0;
        if (tx && is_uid(&d->row, d->held.uid) && len > 0 && len < KEI_KEY_MAX &&
            ke_store_put(tx, "ack", row, d->held.uid, 0, d->remains.n ? d->remains.p : "",
                         d->remains.n) == 0)
            d->row.version = 0;
    }
    write_rows(p);
    return n;
}

int64_t kei_deliver_newest(const struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    int64_t newest = 0;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);) {
        const struct kei_delivery *d = value;
        /* the version of a pod that our node reported on is the one that its report made */
        int64_t v = strcmp(d->type, "pod") == 0 ? d->acked : d->held.version;
        if (!d->stray && d->held.uid[0] && v > newest)
            newest = v;
    }
    return newest;
}

void kei_deliver_init(struct kei_peer *p)
{
    const struct ke_alloc *a = kei_ctx_alloc(p->cloud->ctx);
    kei_map_init(&p->deliveries, a, kei_ctx_random64(p->cloud->ctx));
    kei_map_init(&p->ids, a, kei_ctx_random64(p->cloud->ctx));
    kei_list_init(&p->queue);
    kei_list_init(&p->flying);
    kei_timer_init(p->cloud->ctx, &p->resend, on_resend);
}

void kei_deliver_fini(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&p->deliveries, &it, &key, &value);)
        delivery_free(value);
    kei_map_free(&p->deliveries);
    kei_map_free(&p->ids);
    kei_timer_fini(&p->resend);
    kei_defer_cancel(&p->kick);
}
