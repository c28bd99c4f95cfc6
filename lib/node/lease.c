/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After each connect the Lease is read; a missing one is made; then its renewTime is renewed on the
 * object as the cloud last returned it, so that unknown members survive. An error of any form keeps
 * the last good object and starts over with a read. Loop thread.
 */
#include "node/lease.h"

#include <string.h>

#include "base/backoff.h"
#include "base/codec.h"
#include "base/log.h"
#include "message/k8s.h"
#include "node/request.h"

#define DURATION_S 40
#define RENEW_MS 10000
#define RETRY_MAX_MS 7000
#define REQUEST_MS 60000

enum state { IDLE, READING, MAKING, RENEWING, PAUSING };

struct kei_lease {
    struct ke_ctx *ctx;
    struct kei_request request;
    struct kei_timer timer;
    struct kei_backoff backoff;
    struct ke_buf object; /* the Lease as the cloud has it; empty: to be read */
    enum state state;
    const char *node;
    char owner[64];
};

static void on_read(void *user, const struct kei_reply *r);

static void send(struct kei_lease *l, enum state state, const char *operation, struct ke_buf *body,
                 kei_request_fn fn)
{
    l->state = state;
    kei_request_send(&l->request, operation, "kube-node-lease/lease/", l->node, body, REQUEST_MS,
                     fn);
}

static void read_again(struct kei_lease *l, const char *what, const struct kei_reply *r)
{
    int64_t pause = kei_backoff_next(&l->backoff, kei_ctx_random64(l->ctx));
    kei_log(l->ctx, KE_LOG_WARN, "node", "%s of the lease of node %s failed: %s; next in %lld ms",
            what, l->node, r->text, (long long)pause);
    kei_buf_clear(&l->object);
    l->state = PAUSING;
    (void)kei_timer_in(&l->timer, pause);
}

/* Takes the object over and waits for the next renewal; false when it is none. */
static bool keep(struct kei_lease *l, const struct kei_reply *r)
{
    struct ke_str name;
    if (r->kind != KEI_REPLY_OBJECT || !kei_json_path(r->object, "metadata.name", &name) ||
        !kei_json_str_is(name, l->node))
        return false;
    kei_buf_clear(&l->object);
    kei_buf_addv(&l->object, r->object);
    if (!kei_buf_ok(&l->object))
        return false;
    kei_backoff_reset(&l->backoff);
    l->state = PAUSING;
    (void)kei_timer_in(&l->timer, RENEW_MS);
    return true;
}

static void on_written(void *user, const struct kei_reply *r)
{
    struct kei_lease *l = user;
    if (!keep(l, r))
        read_again(l, l->state == MAKING ? "creation" : "renewal", r);
}

static void now_text(struct kei_lease *l, char out[KEI_TIME_MAX])
{
    kei_time_rfc3339_micro(out, ke_ctx_real_ms(l->ctx));
}

static void make(struct kei_lease *l)
{
    char now[KEI_TIME_MAX];
    struct ke_buf body = {0};
    struct kei_jw w;
    now_text(l, now);
    kei_buf_init(&body, kei_ctx_alloc(l->ctx));
    kei_jw_init(&w, &body);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", l->node);
    kei_jw_kstr(&w, "namespace", "kube-node-lease");
    kei_jw_key(&w, "creationTimestamp");
    kei_jw_null(&w);
    if (l->owner[0]) { /* an empty uid would be refused with 422 */
        kei_jw_key(&w, "ownerReferences");
        kei_jw_arr(&w);
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "apiVersion", "v1");
        kei_jw_kstr(&w, "kind", "Node");
        kei_jw_kstr(&w, "name", l->node);
        kei_jw_kstr(&w, "uid", l->owner);
        kei_jw_obj_end(&w);
        kei_jw_arr_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_key(&w, "spec");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "holderIdentity", l->node);
    kei_jw_ki64(&w, "leaseDurationSeconds", DURATION_S);
    kei_jw_kstr(&w, "renewTime", now);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    send(l, MAKING, "insert", &body, on_written);
}

static void renew(struct kei_lease *l)
{
    char now[KEI_TIME_MAX], quoted[KEI_TIME_MAX + 2];
    struct ke_buf body = {0};
    now_text(l, now);
    size_t n = strlen(now);
    quoted[0] = '"';
    memcpy(quoted + 1, now, n);
    quoted[n + 1] = '"';
    kei_buf_init(&body, kei_ctx_alloc(l->ctx));
    int r = kei_json_set(&body, kei_buf_str(&l->object), "spec.renewTime", kei_strn(quoted, n + 2),
                         kei_err(l->ctx));
    if (r < 0) {
        struct kei_reply failed = {.kind = KEI_REPLY_ERROR, .text = "out of memory"};
        ke_buf_free(&body);
        read_again(l, "renewal", &failed);
        return;
    }
    send(l, RENEWING, "update", &body, on_written);
}

static void on_read(void *user, const struct kei_reply *r)
{
    struct kei_lease *l = user;
    if (r->kind == KEI_REPLY_ERROR && strcmp(r->reason, "NotFound") == 0) {
        make(l);
        return;
    }
    if (!keep(l, r)) {
        read_again(l, "query", r);
        return;
    }
    renew(l); /* the one read may be about to expire */
}

static void on_timer(struct kei_timer *t)
{
    struct kei_lease *l = KEI_OF(t, struct kei_lease, timer);
    if (l->object.n > 0)
        renew(l);
    else
        send(l, READING, "query", NULL, on_read);
}

void kei_lease_start(struct kei_lease *l, bool wanted, const char *owner_uid)
{
    kei_lease_stop(l);
    kei_lease_owner(l, owner_uid);
    if (wanted)
        send(l, READING, "query", NULL, on_read);
}

void kei_lease_stop(struct kei_lease *l)
{
    kei_timer_stop(&l->timer);
    kei_request_cancel(&l->request);
    kei_buf_clear(&l->object);
    kei_backoff_reset(&l->backoff);
    l->state = IDLE;
}

void kei_lease_owner(struct kei_lease *l, const char *uid)
{
    if (strlen(uid) < sizeof l->owner)
        memcpy(l->owner, uid, strlen(uid) + 1);
}

int kei_lease_new(struct kei_lease **ret, struct ke_ctx *ctx, struct ke_router *router,
                  const char *node)
{
    struct kei_lease *l = kei_zalloc(kei_ctx_alloc(ctx), sizeof *l);
    if (!l)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the lease of node %s", node);
    l->ctx = ctx;
    l->node = node;
    kei_buf_init(&l->object, kei_ctx_alloc(ctx));
    kei_backoff_init(&l->backoff, 200, RETRY_MAX_MS);
    kei_timer_init(ctx, &l->timer, on_timer);
    kei_request_init(&l->request, ctx, router, l);
    *ret = l;
    return 0;
}

void kei_lease_free(struct kei_lease *l)
{
    if (!l)
        return;
    kei_request_cancel(&l->request);
    kei_timer_fini(&l->timer);
    ke_buf_free(&l->object);
    kei_free(kei_ctx_alloc(l->ctx), l);
}
