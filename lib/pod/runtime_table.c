/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of the vendor's table. An operation lives in a slot; its token is slot and generation,
 * so a late completion finds nothing. What a vendor's thread hands over is copied before it is
 * queued; the loop takes it from there. The mutex guards slots, queues and their memory only and is
 * never held during a call into the vendor or the engine.
 */
#include "pod/runtime_table.h"

#include <pthread.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/loop.h"

#define OPS_MAX 65536u
#define EVENTS_MAX 65536u
#define CONTAINERS_MAX 65536u /* in one list */

struct op {
    struct ke_runtime *rt;
    struct op *next; /* in the queue of ended ones */
    uint64_t token;
    const char *what; /* name of the member, static */
    int64_t timeout_ms;
    struct kei_timer deadline;
    kei_runtime_fn fn;
    void *user;
    bool ended; /* guarded; in the queue */
    int status;
    struct kei_arena arena; /* the result's */
    struct ke_runtime_result result;
};

struct slot {
    struct op *op;
    uint32_t generation;
};

struct event {
    struct event *next;
    struct kei_arena arena;
    struct ke_container_info info;
};

struct ke_runtime {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_runtime_ops ops;
    void *ops_user;
    kei_runtime_event_fn event;
    void *user;
    struct kei_wake wake;
    uint32_t depth; /* of calls into the engine */
    bool closed;
    pthread_mutex_t mu;
    /* guarded by mu */
    struct slot *slots;
    uint32_t n_slots, n_events;
    struct op *ended, **ended_tail;
    struct event *events, **events_tail;
};

/* ---- copies ---- */

static const char *copy_str(struct kei_arena *a, const char *s, bool *ok)
{
    if (!s || !*s)
        return "";
    const char *p = kei_arena_strdup(a, kei_str(s));
    if (!p)
        *ok = false;
    return p;
}

static int copy_info(struct kei_arena *a, struct ke_container_info *to, const void *from,
                     struct ke_error *err)
{
    bool ok = true;
    int r = kei_abi_in(to, sizeof *to, from, KEI_SIZE_TO(struct ke_container_info, finished_ms),
                       "struct ke_container_info", err);
    if (r < 0)
        return r;
    to->id = copy_str(a, to->id, &ok);
    to->pod_namespace = copy_str(a, to->pod_namespace, &ok);
    to->pod_name = copy_str(a, to->pod_name, &ok);
    to->pod_uid = copy_str(a, to->pod_uid, &ok);
    to->name = copy_str(a, to->name, &ok);
    to->image = copy_str(a, to->image, &ok);
    to->image_id = copy_str(a, to->image_id, &ok);
    to->reason = copy_str(a, to->reason, &ok);
    to->message = copy_str(a, to->message, &ok);
    return ok ? 0 : kei_error(err, KE_ENOMEM, "out of memory for what the runtime told");
}

static int copy_list(struct kei_arena *a, struct ke_runtime_result *to, struct ke_error *err)
{
    const char *from = (const char *)to->containers;
    uint32_t n = to->n_containers;
    to->containers = NULL;
    to->n_containers = 0;
    if (n == 0)
        return 0;
    if (!from || n > CONTAINERS_MAX)
        return kei_error(err, KE_ELIMIT, "the runtime told %u containers; the limit is %u", n,
                         CONTAINERS_MAX);
    struct ke_container_info *v = kei_arena_array(a, n, sizeof *v);
    if (!v)
        return kei_error(err, KE_ENOMEM, "out of memory for what the runtime told");
    size_t stride;
    memcpy(&stride, from, sizeof stride); /* the size the vendor was compiled with */
    for (uint32_t i = 0; i < n; i++) {
        int r = copy_info(a, &v[i], from + i * stride, err);
        if (r < 0)
            return r;
    }
    to->containers = v;
    to->n_containers = n;
    return 0;
}

static int copy_result(struct kei_arena *a, struct ke_runtime_result *to,
                       const struct ke_runtime_result *from, struct ke_error *err)
{
    bool ok = true;
    *to = (struct ke_runtime_result){.size = sizeof *to};
    int r = from ? kei_abi_in(to, sizeof *to, from, KEI_SIZE_TO(struct ke_runtime_result, ready),
                              "struct ke_runtime_result", err)
                 : 0;
    if (r == 0)
        r = copy_list(a, to, err);
    if (r < 0)
        return r;
    to->id = copy_str(a, to->id, &ok);
    to->name = copy_str(a, to->name, &ok);
    to->version = copy_str(a, to->version, &ok);
    to->ip = to->ip ? copy_str(a, to->ip, &ok) : NULL;
    to->reason = copy_str(a, to->reason, &ok);
    to->text = copy_str(a, to->text, &ok);
    return ok ? 0 : kei_error(err, KE_ENOMEM, "out of memory for what the runtime told");
}

/* ---- slots ---- */

/* mu is held. The open operation of token, or NULL. */
static struct op *find(struct ke_runtime *rt, uint64_t token)
{
    uint32_t i = (uint32_t)(token & UINT32_MAX) - 1, generation = (uint32_t)(token >> 32);
    if (i >= rt->n_slots || rt->slots[i].generation != generation)
        return NULL;
    struct op *op = rt->slots[i].op;
    return op && !op->ended ? op : NULL;
}

/* mu is held. */
static bool slot_take(struct ke_runtime *rt, struct op *op)
{
    uint32_t i = 0;
    while (i < rt->n_slots && rt->slots[i].op)
        i++;
    if (i == rt->n_slots) {
        uint32_t n = rt->n_slots ? rt->n_slots * 2 : 16;
        struct slot *s = n > OPS_MAX ? NULL : kei_array_realloc(rt->alloc, rt->slots, n, sizeof *s);
        if (!s)
            return false;
        memset(s + rt->n_slots, 0, (n - rt->n_slots) * sizeof *s);
        rt->slots = s;
        rt->n_slots = n;
    }
    rt->slots[i].op = op;
    if (++rt->slots[i].generation == 0)
        rt->slots[i].generation = 1;
    op->token = ((uint64_t)rt->slots[i].generation << 32) | (i + 1);
    return true;
}

/* mu is held. */
static void slot_give(struct ke_runtime *rt, const struct op *op)
{
    rt->slots[(op->token & UINT32_MAX) - 1].op = NULL;
}

static void op_free(struct op *op)
{
    kei_timer_fini(&op->deadline);
    kei_arena_free(&op->arena);
    kei_free(op->rt->alloc, op);
}

/* ---- ends ---- */

static void destroy(struct ke_runtime *rt)
{
    while (rt->events) {
        struct event *e = rt->events;
        rt->events = e->next;
        kei_arena_free(&e->arena);
        kei_free(rt->alloc, e);
    }
    kei_free(rt->alloc, rt->slots);
    pthread_mutex_destroy(&rt->mu);
    kei_free(rt->alloc, rt);
}

static void leave(struct ke_runtime *rt)
{
    if (--rt->depth == 0 && rt->closed)
        destroy(rt);
}

/* op is out of its slot. */
static void tell(struct op *op)
{
    char text[160];
    if (op->status < 0 && !*op->result.text) {
        snprintf(text, sizeof text, "%s failed: %s", op->what, ke_strerror(op->status));
        op->result.text = text;
    }
    kei_timer_stop(&op->deadline);
    op->fn(op->user, op->status, &op->result);
    op_free(op);
}

/* Ends it without an answer of the vendor's. */
static void give_up(struct op *op, int status, const char *text)
{
    kei_arena_free(&op->arena);
    kei_arena_init(&op->arena, op->rt->alloc, 0);
    int r = copy_result(&op->arena, &op->result, NULL, NULL); /* of nothing: cannot fail */
    (void)r;
    op->status = status;
    op->result.text = text;
    tell(op);
}

static void cancel(struct op *op)
{
    give_up(op, KE_ECANCELED, "the node leaves the runtime");
}

static void on_deadline(struct kei_timer *t)
{
    struct op *op = KEI_OF(t, struct op, deadline);
    struct ke_runtime *rt = op->rt;
    char text[160];
    pthread_mutex_lock(&rt->mu);
    bool ended = op->ended;
    if (!ended)
        slot_give(rt, op);
    pthread_mutex_unlock(&rt->mu);
    if (ended)
        return; /* its completion is in the queue */
    snprintf(text, sizeof text, "the runtime did not complete %s within %lld ms", op->what,
             (long long)op->timeout_ms);
    rt->depth++;
    give_up(op, KE_ETIMEDOUT, text);
    leave(rt);
}

static void take_ended(struct ke_runtime *rt)
{
    while (!rt->closed) {
        pthread_mutex_lock(&rt->mu);
        struct op *op = rt->ended;
        if (op) {
            rt->ended = op->next;
            if (!rt->ended)
                rt->ended_tail = &rt->ended;
            slot_give(rt, op);
        }
        pthread_mutex_unlock(&rt->mu);
        if (!op)
            return;
        tell(op);
    }
}

static void take_events(struct ke_runtime *rt)
{
    while (!rt->closed) {
        pthread_mutex_lock(&rt->mu);
        struct event *e = rt->events;
        if (e) {
            rt->events = e->next;
            if (!rt->events)
                rt->events_tail = &rt->events;
            rt->n_events--;
        }
        pthread_mutex_unlock(&rt->mu);
        if (!e)
            return;
        rt->event(rt->user, &e->info);
        kei_arena_free(&e->arena);
        kei_free(rt->alloc, e);
    }
}

static void on_wake(struct kei_wake *w)
{
    struct ke_runtime *rt = KEI_OF(w, struct ke_runtime, wake);
    rt->depth++;
    take_events(rt); /* first: an end told as an event knows more than the stop that waits for it */
    take_ended(rt);
    leave(rt);
}

/* Any thread. */
static int complete(struct ke_runtime *rt, uint64_t token, int status,
                    const struct ke_runtime_result *r, struct ke_error *err)
{
    struct kei_arena arena;
    struct ke_runtime_result copy;
    kei_arena_init(&arena, rt->alloc, 0);
    int e = copy_result(&arena, &copy, r, err);
    if (e < 0) {
        kei_arena_free(&arena);
        return e;
    }
    pthread_mutex_lock(&rt->mu);
    struct op *op = find(rt, token);
    if (op) {
        op->ended = true;
        op->status = status;
        op->arena = arena;
        op->result = copy;
        op->next = NULL;
        *rt->ended_tail = op;
        rt->ended_tail = &op->next;
    }
    pthread_mutex_unlock(&rt->mu);
    if (!op) {
        kei_arena_free(&arena);
        return KE_ENOTFOUND;
    }
    kei_wake(&rt->wake);
    return 0;
}

int ke_runtime_complete(struct ke_runtime *rt, uint64_t op, int status,
                        const struct ke_runtime_result *r)
{
    if (!rt || status > 0)
        return KE_EINVAL;
    return complete(rt, op, status, r, NULL);
}

int ke_runtime_event(struct ke_runtime *rt, const struct ke_container_info *c)
{
    if (!rt || !c)
        return KE_EINVAL;
    struct event *e = kei_zalloc(rt->alloc, sizeof *e);
    if (!e)
        return KE_ENOMEM;
    kei_arena_init(&e->arena, rt->alloc, 0);
    int r = copy_info(&e->arena, &e->info, c, NULL);
    if (r == 0) {
        pthread_mutex_lock(&rt->mu);
        if (rt->n_events < EVENTS_MAX) {
            rt->n_events++;
            *rt->events_tail = e;
            rt->events_tail = &e->next;
        } else {
            r = KE_ELIMIT;
        }
        pthread_mutex_unlock(&rt->mu);
    }
    if (r < 0) {
        kei_arena_free(&e->arena);
        kei_free(rt->alloc, e);
        return r;
    }
    kei_wake(&rt->wake);
    return 0;
}

/* ---- begin and end of the table ---- */

int kei_runtime_new(struct ke_runtime **ret, struct ke_ctx *ctx, const struct ke_runtime_ops *ops,
                    void *ops_user, kei_runtime_event_fn event, void *user)
{
    struct ke_runtime *rt = kei_zalloc(kei_ctx_alloc(ctx), sizeof *rt);
    if (!rt)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the runtime");
    rt->ctx = ctx;
    rt->alloc = kei_ctx_alloc(ctx);
    int r = kei_abi_in(&rt->ops, sizeof rt->ops, ops,
                       offsetof(struct ke_runtime_ops, container_stop) + sizeof ops->container_stop,
                       "struct ke_runtime_ops", kei_err(ctx));
    if (r == 0 &&
        (!rt->ops.container_create || !rt->ops.container_start || !rt->ops.container_stop))
        r = kei_fail(ctx, KE_EINVAL,
                     "the runtime table lacks container_create, container_start or container_stop");
    if (r < 0) {
        kei_free(rt->alloc, rt);
        return r;
    }
    rt->ops_user = ops_user;
    rt->event = event;
    rt->user = user;
    rt->ended_tail = &rt->ended;
    rt->events_tail = &rt->events;
    pthread_mutex_init(&rt->mu, NULL);
    kei_wake_init(ctx, &rt->wake, on_wake);
    *ret = rt;
    if (rt->ops.attach)
        rt->ops.attach(ops_user, rt);
    return 0;
}

void kei_runtime_close(struct ke_runtime *rt)
{
    if (!rt || rt->closed)
        return;
    if (rt->ops.detach)
        rt->ops.detach(rt->ops_user);
    kei_wake_fini(&rt->wake);
    rt->closed = true; /* from here on no other thread comes in */
    rt->depth++;
    rt->ended = NULL; /* those are in their slots as well */
    for (uint32_t i = 0; i < rt->n_slots; i++) {
        struct op *op = rt->slots[i].op;
        rt->slots[i].op = NULL;
        if (op)
            cancel(op);
    }
    leave(rt);
}

const struct ke_runtime_ops *kei_runtime_ops(const struct ke_runtime *rt)
{
    return &rt->ops;
}

/* ---- operations ---- */

static int begin(struct ke_runtime *rt, const char *what, bool have, int64_t timeout_ms,
                 kei_runtime_fn fn, void *user, uint64_t *ret_token)
{
    if (rt->closed || !have)
        return kei_fail(rt->ctx, KE_ENOTSUP, "the runtime has no %s", what);
    struct op *op = kei_zalloc(rt->alloc, sizeof *op);
    if (!op)
        return kei_fail(rt->ctx, KE_ENOMEM, "out of memory for %s", what);
    op->rt = rt;
    op->what = what;
    op->timeout_ms = timeout_ms;
    op->fn = fn;
    op->user = user;
    kei_arena_init(&op->arena, rt->alloc, 0);
    kei_timer_init(rt->ctx, &op->deadline, on_deadline);
    int r = kei_timer_in(&op->deadline, timeout_ms);
    pthread_mutex_lock(&rt->mu);
    bool ok = r == 0 && slot_take(rt, op);
    *ret_token = op->token;
    pthread_mutex_unlock(&rt->mu);
    if (ok)
        return 0;
    op_free(op);
    return kei_fail(rt->ctx, KE_ENOMEM, "out of memory for %s", what);
}

/* What the vendor's call returned: a failure is the end of the operation, told like any other. */
static int called(struct ke_runtime *rt, uint64_t token, int r)
{
    if (r >= 0)
        return 0;
    int e = complete(rt, token, r, NULL, NULL);
    (void)e; /* KE_ENOTFOUND: it was completed besides, and that counts */
    return 0;
}

#define BEGIN(member, timeout)                                                                     \
    uint64_t token;                                                                                \
    int r = begin(rt, #member, rt->ops.member != NULL, timeout, fn, user, &token);                 \
    if (r < 0)                                                                                     \
    return r

int kei_runtime_info(struct ke_runtime *rt, int64_t timeout_ms, kei_runtime_fn fn, void *user)
{
    BEGIN(info, timeout_ms);
    return called(rt, token, rt->ops.info(rt->ops_user, token));
}

int kei_runtime_list(struct ke_runtime *rt, int64_t timeout_ms, kei_runtime_fn fn, void *user)
{
    BEGIN(container_list, timeout_ms);
    return called(rt, token, rt->ops.container_list(rt->ops_user, token));
}

int kei_runtime_create(struct ke_runtime *rt, const struct ke_container_config *c,
                       int64_t timeout_ms, kei_runtime_fn fn, void *user)
{
    BEGIN(container_create, timeout_ms);
    return called(rt, token, rt->ops.container_create(rt->ops_user, token, c));
}

int kei_runtime_start(struct ke_runtime *rt, const char *id, int64_t timeout_ms, kei_runtime_fn fn,
                      void *user)
{
    BEGIN(container_start, timeout_ms);
    return called(rt, token, rt->ops.container_start(rt->ops_user, token, id));
}

int kei_runtime_stop(struct ke_runtime *rt, const char *id, int64_t grace_ms, int64_t timeout_ms,
                     kei_runtime_fn fn, void *user)
{
    BEGIN(container_stop, grace_ms + timeout_ms);
    return called(rt, token, rt->ops.container_stop(rt->ops_user, token, id, grace_ms));
}

int kei_runtime_remove(struct ke_runtime *rt, const char *id, int64_t timeout_ms, kei_runtime_fn fn,
                       void *user)
{
    BEGIN(container_remove, timeout_ms);
    return called(rt, token, rt->ops.container_remove(rt->ops_user, token, id));
}

int kei_runtime_sandbox_run(struct ke_runtime *rt, const struct ke_sandbox_config *c,
                            int64_t timeout_ms, kei_runtime_fn fn, void *user)
{
    BEGIN(sandbox_run, timeout_ms);
    return called(rt, token, rt->ops.sandbox_run(rt->ops_user, token, c));
}

int kei_runtime_sandbox_stop(struct ke_runtime *rt, const char *id, int64_t timeout_ms,
                             kei_runtime_fn fn, void *user)
{
    BEGIN(sandbox_stop, timeout_ms);
    return called(rt, token, rt->ops.sandbox_stop(rt->ops_user, token, id));
}

int kei_runtime_sandbox_remove(struct ke_runtime *rt, const char *id, int64_t timeout_ms,
                               kei_runtime_fn fn, void *user)
{
    BEGIN(sandbox_remove, timeout_ms);
    return called(rt, token, rt->ops.sandbox_remove(rt->ops_user, token, id));
}

int kei_runtime_pull(struct ke_runtime *rt, const char *image, const char *policy,
                     const char *pod_json, size_t pod_json_len, int64_t timeout_ms,
                     kei_runtime_fn fn, void *user)
{
    BEGIN(image_pull, timeout_ms);
    return called(rt, token,
                  rt->ops.image_pull(rt->ops_user, token, image, policy, pod_json, pod_json_len));
}
