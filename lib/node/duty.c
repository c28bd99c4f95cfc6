/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registration, then status, each as upstream's edge of the dialect does it; with two differences:
 * a Node that is gone in the cloud is registered again (upstream waits for a restart), and after a
 * reconnect the status is sent at once, so that the node is Ready within seconds. Loop thread; one
 * request open at a time; memory from the context.
 */
#include "node/duty.h"

#include <string.h>

#include "base/backoff.h"
#include "base/error.h"
#include "base/fnv.h"
#include "base/log.h"
#include "message/dialect.h"
#include "message/msg_priv.h"
#include "node/lease.h"
#include "node/request.h"

#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 7000
#define REQUEST_MS 60000
#define REQUEST_1_4_MS 15000 /* a 1.4 cloud tells no failure: ask again soon */
#define REPORT_MS 300000     /* an unchanged status is sent this often */

enum state {
    OFFLINE,    /* no link */
    INSERTING,  /* "insert node" is under way */
    LABELLING,  /* the Node was there: "update node" brings its labels up to date */
    REGISTERED, /* status and lease run */
    RETRYING,   /* a step failed; timer armed */
};

struct kei_duty {
    struct ke_ctx *ctx;
    struct ke_router *router;
    struct ke_module *module;
    struct kei_duty_config c;
    struct kei_sysinfo sys;
    struct kei_node_facts facts;
    struct kei_backoff backoff;
    struct kei_timer timer; /* retry while registering, status period afterwards */
    struct kei_request request;
    struct kei_lease *lease;
    enum state state;
    bool known;         /* registered once in this process */
    bool reporting;     /* the open request is a status */
    bool again;         /* something changed while a request was open */
    bool confirmed;     /* a status was confirmed since the link came */
    uint64_t sent_hash; /* of the last confirmed status without its heartbeat */
    uint64_t pending_hash;
    int64_t sent_ms; /* when it was confirmed */
    char uid[64];    /* of the Node, "" unknown */
};

static void insert_node(struct kei_duty *d);
static void report(struct kei_duty *d, bool always);

static uint32_t dialect(const struct kei_duty *d)
{
    return d->c.dialect(d->c.user);
}

static void refresh_facts(struct kei_duty *d)
{
    uint32_t dia = dialect(d);
    kei_sysinfo_refresh(&d->sys, d->c.node->data);
    d->facts.kubelet_version = kei_dialect_kubelet_version(dia);
    d->facts.kube_proxy_version = dia == KE_DIALECT_1_4 ? "" : "v1.26.15";
    d->c.runtime(d->c.user, &d->facts);
    const struct kei_condition *ready = &d->facts.conditions[KEI_COND_READY];
    bool was = ready->status || ready->changed_ms == 0;
    kei_node_conditions(&d->facts, ke_ctx_real_ms(d->ctx));
    if (was && !ready->status)
        kei_log(d->ctx, KE_LOG_WARN, "node", "node %s is not ready: %s", d->c.node->name,
                ready->message);
}

static int64_t request_ms(const struct kei_duty *d)
{
    return dialect(d) == KE_DIALECT_1_4 ? REQUEST_1_4_MS : REQUEST_MS;
}

/* One step failed: the same from the start after a pause. */
static void retry(struct kei_duty *d, const char *what, const struct kei_reply *r)
{
    int64_t pause = kei_backoff_next(&d->backoff, kei_ctx_random64(d->ctx));
    kei_log(d->ctx, KE_LOG_WARN, "node", "%s of node %s failed: %s; next attempt in %lld ms", what,
            d->c.node->name, r->text, (long long)pause);
    d->state = RETRYING;
    (void)kei_timer_in(&d->timer, pause);
}

static void registered(struct kei_duty *d)
{
    d->state = REGISTERED;
    d->known = true;
    kei_backoff_reset(&d->backoff);
    kei_lease_start(d->lease, dialect(d) != KE_DIALECT_1_4, d->uid);
    report(d, true);
}

static void note_node(struct kei_duty *d, struct ke_str object)
{
    struct ke_str uid;
    if (kei_json_path(object, "metadata.uid", &uid) && uid.n > 2 && uid.n - 2 < sizeof d->uid) {
        memcpy(d->uid, uid.p + 1, uid.n - 2);
        d->uid[uid.n - 2] = 0;
        kei_lease_owner(d->lease, d->uid);
    }
}

static void on_labelled(void *user, const struct kei_reply *r)
{
    struct kei_duty *d = user;
    if (r->kind == KEI_REPLY_ERROR) {
        retry(d, "update of the labels", r);
        return;
    }
    registered(d);
}

/* The Node exists already: bring its labels up to date, as upstream reconciles them. */
static void label_node(struct kei_duty *d)
{
    struct ke_buf body = {0};
    struct kei_jw w;
    kei_buf_init(&body, kei_ctx_alloc(d->ctx));
    kei_jw_init(&w, &body);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", d->c.node->name);
    kei_jw_key(&w, "labels");
    kei_node_labels_write(&body, &d->facts);
    w.comma = true; /* the labels were written behind the writer's back */
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    d->state = LABELLING;
    kei_request_send(&d->request, "update", "default/node/", d->c.node->name, &body, request_ms(d),
                     on_labelled);
}

static void on_inserted(void *user, const struct kei_reply *r)
{
    struct kei_duty *d = user;
    if (r->kind == KEI_REPLY_ERROR && strcmp(r->reason, "AlreadyExists") == 0) {
        label_node(d);
        return;
    }
    if (r->kind == KEI_REPLY_ERROR) {
        retry(d, "registration", r);
        return;
    }
    if (r->kind == KEI_REPLY_OBJECT)
        note_node(d, r->object);
    kei_log(d->ctx, KE_LOG_INFO, "node", "node %s is registered", d->c.node->name);
    if (d->c.created)
        d->c.created(d->c.user);
    registered(d);
}

static void insert_node(struct kei_duty *d)
{
    struct ke_buf body = {0};
    refresh_facts(d);
    kei_buf_init(&body, kei_ctx_alloc(d->ctx));
    kei_node_object_write(&body, &d->facts, ke_ctx_real_ms(d->ctx));
    d->state = INSERTING;
    kei_request_send(&d->request, "insert", "default/node/", d->c.node->name, &body, request_ms(d),
                     on_inserted);
}

static void on_reported(void *user, const struct kei_reply *r)
{
    struct kei_duty *d = user;
    d->reporting = false;
    if (r->kind == KEI_REPLY_ERROR && strcmp(r->reason, "NotFound") == 0) {
        kei_log(d->ctx, KE_LOG_WARN, "node",
                "the cloud has no Node %s any more: registering it again", d->c.node->name);
        d->uid[0] = 0;
        kei_lease_stop(d->lease);
        insert_node(d);
        return;
    }
    if (r->kind == KEI_REPLY_ERROR) {
        /* the next period sends it again */
        kei_log(d->ctx, KE_LOG_WARN, "node", "status of node %s was not taken: %s", d->c.node->name,
                r->text);
        d->sent_hash = 0;
    } else {
        if (r->kind == KEI_REPLY_OBJECT)
            note_node(d, r->object);
        d->sent_hash = d->pending_hash;
        d->sent_ms = ke_ctx_mono_ms(d->ctx);
        if (d->facts.conditions[KEI_COND_READY].status && d->c.ready)
            d->c.ready(d->c.user);
        d->confirmed = true;
    }
    (void)kei_timer_in(&d->timer, d->again ? 0 : d->c.node->status_ms);
    d->again = false;
}

/* Sends the status if it changed, is due, or must be sent. A 1.4 cloud wants it each period. */
static void report(struct kei_duty *d, bool always)
{
    struct ke_buf body = {0};
    struct kei_jw w;
    refresh_facts(d);
    kei_buf_init(&body, kei_ctx_alloc(d->ctx));
    kei_node_status_write(&body, &d->facts, 0);
    uint64_t h = kei_fnv1a(KEI_FNV1A, body.p, body.n);
    bool due = always || d->sent_hash != h || dialect(d) == KE_DIALECT_1_4 ||
               ke_ctx_mono_ms(d->ctx) - d->sent_ms >= REPORT_MS;
    if (!due) {
        ke_buf_free(&body);
        (void)kei_timer_in(&d->timer, d->c.node->status_ms);
        return;
    }
    kei_buf_clear(&body);
    kei_jw_init(&w, &body);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "UID", d->uid);
    kei_jw_key(&w, "Status");
    kei_node_status_write(&body, &d->facts, ke_ctx_real_ms(d->ctx));
    w.comma = true;
    kei_jw_key(&w, "ExtendResources");
    kei_jw_null(&w);
    kei_jw_obj_end(&w);
    d->pending_hash = h;
    d->reporting = true;
    kei_request_send(&d->request, "update", "default/nodestatus/", d->c.node->name, &body,
                     request_ms(d), on_reported);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_duty *d = KEI_OF(t, struct kei_duty, timer);
    if (d->state == RETRYING)
        insert_node(d);
    else if (d->state == REGISTERED && !d->reporting)
        report(d, !d->confirmed);
}

void kei_duty_connected(struct kei_duty *d, bool connected)
{
    kei_timer_stop(&d->timer);
    kei_request_cancel(&d->request);
    kei_lease_stop(d->lease);
    d->reporting = false;
    d->confirmed = false;
    d->state = OFFLINE;
    kei_backoff_reset(&d->backoff);
    if (!connected)
        return;
    /* A 1.4 cloud is silent about a Node that is gone, so there the insert is repeated each time.
     */
    if (d->known && dialect(d) != KE_DIALECT_1_4)
        registered(d);
    else
        insert_node(d);
}

void kei_duty_changed(struct kei_duty *d)
{
    if (d->state == REGISTERED && !d->reporting)
        (void)kei_timer_in(&d->timer, 0);
    else
        d->again = true;
}

/* Pushed Nodes (1.23) and the link's notices. */
static void on_message(void *user, struct ke_msg *m)
{
    struct kei_duty *d = user;
    struct kei_resource r;
    size_t n = 0;
    const char *content = ke_msg_content(m, &n);
    if (strcmp(ke_msg_operation(m), "connect") == 0)
        return; /* the node tells it through kei_duty_connected, with the dialect known */
    if (kei_resource_parse(&r, kei_str(ke_msg_resource(m))) && kei_str_is(r.type, "node") &&
        strcmp(ke_msg_operation(m), "update") == 0)
        note_node(d, kei_strn(content, n));
}

int kei_duty_new(struct kei_duty **ret, struct ke_ctx *ctx, struct ke_router *router,
                 const struct kei_duty_config *c)
{
    struct kei_duty *d = kei_zalloc(kei_ctx_alloc(ctx), sizeof *d);
    if (!d)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the node's duties");
    d->ctx = ctx;
    d->router = router;
    d->c = *c;
    kei_sysinfo_read(&d->sys, c->node->data);
    d->facts.config = c->node;
    d->facts.sys = &d->sys;
    d->facts.address = c->address;
    kei_backoff_init(&d->backoff, RETRY_MIN_MS, RETRY_MAX_MS);
    kei_timer_init(ctx, &d->timer, on_timer);
    kei_request_init(&d->request, ctx, router, d);
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_message};
    int r = kei_lease_new(&d->lease, ctx, router, c->node->name);
    if (r == 0)
        r = ke_router_add(&d->module, router, "edgednode", "edged", &ops, d);
    if (r < 0) {
        kei_duty_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

void kei_duty_free(struct kei_duty *d)
{
    if (!d)
        return;
    kei_request_cancel(&d->request);
    kei_timer_fini(&d->timer);
    kei_lease_free(d->lease);
    ke_module_remove(d->module);
    kei_free(kei_ctx_alloc(d->ctx), d);
}
