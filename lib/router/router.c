/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modules, groups and their queues. A router owns its modules, the queued references and the open
 * requests. Sending is for any thread, under the router's mutex; callbacks run on the loop without
 * it. What a callback removes while a delivery is on the stack is freed when the stack is left.
 */
#include <string.h>

#include "base/error.h"
#include "router/router_priv.h"

#define DELIVER_TURN 64 /* messages one module gets before the next has its turn */
#define RING_FIRST 8u
#define RING_KEEP 64u /* slots a module keeps while its queue is empty */

/* ---- configuration ---- */

static const struct ke_router_config defaults = {
    .size = sizeof(struct ke_router_config),
    .queue_messages = 1024,
    .requests = 1024,
    .queue_bytes = UINT64_C(64) * 1024 * 1024,
};

void ke_router_config_init(struct ke_router_config *c, size_t size)
{
    if (!kei_abi_init(c, size))
        return;
    memcpy(c, &defaults, size < sizeof defaults ? size : sizeof defaults);
    c->size = size;
}

static int take_config(struct ke_router *r, const struct ke_router_config *c, struct ke_error *err)
{
    r->conf = defaults;
    if (!c)
        return 0;
    int e =
        kei_abi_in(&r->conf, sizeof r->conf, c, KEI_SIZE_TO(struct ke_router_config, queue_bytes),
                   "struct ke_router_config", err);
    if (e < 0)
        return e;
    if (r->conf.queue_messages == 0)
        r->conf.queue_messages = defaults.queue_messages;
    if (r->conf.requests == 0)
        r->conf.requests = defaults.requests;
    if (r->conf.queue_bytes == 0)
        r->conf.queue_bytes = defaults.queue_bytes;
    return 0;
}

/* ---- the queue of a module; all under the router's mutex ---- */

static uint64_t content_bytes(const struct ke_msg *m)
{
    size_t n = 0;
    ke_msg_content(m, &n);
    return n;
}

static int ring_grow(struct ke_module *m)
{
    uint32_t cap = m->ring_cap ? m->ring_cap * 2 : RING_FIRST;
    const struct ke_alloc *a = kei_ctx_alloc(m->router->ctx);
    struct kei_queued *ring = kei_array_alloc(a, cap, sizeof *ring);
    if (!ring)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < m->queued; i++)
        ring[i] = m->ring[(m->head + i) % m->ring_cap];
    kei_free(a, m->ring);
    m->ring = ring;
    m->ring_cap = cap;
    m->head = 0;
    return 0;
}

static void make_ready(struct ke_module *m)
{
    if (!kei_list_linked(&m->ready))
        kei_list_add_tail(&m->router->ready, &m->ready);
}

static int refuse(struct ke_module *m, struct ke_error *err, const char *what,
                  unsigned long long limit)
{
    m->refused++;
    if (m->ops.overflow) {
        if (m->untold++ == 0)
            m->untold_turn = kei_ctx_turn(m->router->ctx);
        make_ready(m);
    }
    return kei_error(err, KE_ELIMIT, "the queue of module %s is full: %s is %llu", m->name, what,
                     limit);
}

static int enqueue(struct ke_module *m, struct ke_msg *msg, struct ke_error *err)
{
    const struct ke_router_config *c = &m->router->conf;
    uint64_t bytes = content_bytes(msg);
    if (m->queued >= c->queue_messages)
        return refuse(m, err, "queue_messages", c->queue_messages);
    if (bytes > c->queue_bytes || m->bytes > c->queue_bytes - bytes)
        return refuse(m, err, "queue_bytes", (unsigned long long)c->queue_bytes);
    if (m->queued == m->ring_cap && ring_grow(m) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for the queue of module %s", m->name);
    m->ring[(m->head + m->queued) % m->ring_cap] =
        (struct kei_queued){ke_msg_ref(msg), kei_ctx_turn(m->router->ctx)};
    m->queued++;
    m->bytes += bytes;
    if (m->queued > m->queued_peak)
        m->queued_peak = m->queued;
    make_ready(m);
    return 0;
}

static struct ke_msg *dequeue(struct ke_module *m)
{
    struct ke_msg *msg = m->ring[m->head].msg;
    m->head = (m->head + 1) % m->ring_cap;
    m->queued--;
    m->bytes -= content_bytes(msg);
    if (m->queued == 0 && m->ring_cap > RING_KEEP) {
        kei_free(kei_ctx_alloc(m->router->ctx), m->ring);
        m->ring = NULL;
        m->ring_cap = m->head = 0;
    }
    return msg;
}

/* ---- modules ---- */

static struct ke_module *find(struct ke_router *r, const char *name)
{
    return kei_map_get(&r->names, kei_str(name));
}

static struct ke_module *module_make(struct ke_router *r, const char *name, const char *group)
{
    const struct ke_alloc *a = kei_ctx_alloc(r->ctx);
    struct ke_module *m = kei_zalloc(a, sizeof *m);
    if (!m)
        return NULL;
    m->router = r;
    m->name = kei_strdup(a, name);
    m->group = kei_strdup(a, group ? group : "");
    if (m->name && m->group)
        return m;
    kei_free(a, m->name);
    kei_free(a, m->group);
    kei_free(a, m);
    return NULL;
}

static void module_free(struct ke_module *m)
{
    const struct ke_alloc *a = kei_ctx_alloc(m->router->ctx);
    kei_free(a, m->ring);
    kei_free(a, m->name);
    kei_free(a, m->group);
    kei_free(a, m);
}

int ke_router_add(struct ke_module **ret, struct ke_router *r, const char *name, const char *group,
                  const struct ke_module_ops *ops, void *user)
{
    if (!r)
        return KE_EINVAL;
    if (r->dying)
        return kei_fail(r->ctx, KE_ESTATE, "the router is being freed and takes no more modules");
    if (!ret || !name || !name[0] || !ops)
        return kei_fail(r->ctx, KE_EINVAL, "a module needs a name, its ops and a place for it");
    struct ke_module_ops own;
    int e = kei_abi_in(&own, sizeof own, ops, offsetof(struct ke_module_ops, overflow),
                       "struct ke_module_ops", kei_err(r->ctx));
    if (e < 0)
        return e;
    if (!own.message)
        return kei_fail(r->ctx, KE_EINVAL, "the ops of module %s lack their member message", name);
    struct ke_module *m = module_make(r, name, group);
    if (!m)
        return kei_fail(r->ctx, KE_ENOMEM, "out of memory for module %s", name);
    m->ops = own;
    m->user = user;
    pthread_mutex_lock(&r->mu);
    e = find(r, name) ? KE_EEXIST : kei_map_put(&r->names, kei_str(name), m, NULL);
    if (e == 0)
        kei_list_add_tail(&r->modules, &m->link);
    pthread_mutex_unlock(&r->mu);
    if (e < 0) {
        module_free(m);
        return e == KE_EEXIST
                   ? kei_fail(r->ctx, e, "a module named %s is on the router already", name)
                   : kei_fail(r->ctx, e, "out of memory for module %s", name);
    }
    *ret = m;
    return 0;
}

static void drop_queue(struct ke_module *m)
{
    struct ke_router *r = m->router;
    for (;;) {
        pthread_mutex_lock(&r->mu);
        struct ke_msg *msg = m->queued > 0 ? dequeue(m) : NULL;
        pthread_mutex_unlock(&r->mu);
        if (!msg)
            return;
        ke_msg_unref(msg);
    }
}

void ke_module_remove(struct ke_module *m)
{
    if (!m || m->removed)
        return;
    struct ke_router *r = m->router;
    pthread_mutex_lock(&r->mu);
    m->removed = true;
    kei_map_remove(&r->names, kei_str(m->name));
    kei_list_remove(&m->link);
    kei_list_remove(&m->ready);
    pthread_mutex_unlock(&r->mu);
    drop_queue(m);
    if (r->depth > 0)
        kei_list_add_tail(&r->removed, &m->link); /* a delivery on the stack may hold it */
    else
        module_free(m);
}

int ke_module_stats(struct ke_module *m, struct ke_module_stats *ret, size_t size)
{
    if (!m)
        return KE_EINVAL;
    struct ke_router *r = m->router;
    pthread_mutex_lock(&r->mu);
    struct ke_module_stats s = {
        .size = sizeof s,
        .delivered = m->delivered,
        .refused = m->refused,
        .queued = m->queued,
        .queued_peak = m->queued_peak,
    };
    pthread_mutex_unlock(&r->mu);
    return kei_abi_out(ret, size, &s, sizeof s, offsetof(struct ke_module_stats, delivered),
                       "struct ke_module_stats", kei_err(r->ctx));
}

/* ---- sending ---- */

int kei_router_enqueue(struct ke_router *r, const char *module, struct ke_msg *m,
                       struct ke_error *err)
{
    pthread_mutex_lock(&r->mu);
    struct ke_module *to = r->dying ? NULL : find(r, module);
    int e = to ? enqueue(to, m, err)
               : kei_error(err, KE_ENOTFOUND, "no module named %s is on the router", module);
    bool wake = !kei_list_empty(&r->ready);
    pthread_mutex_unlock(&r->mu);
    if (wake)
        kei_wake(&r->wake);
    return e;
}

int ke_router_send(struct ke_router *r, const char *module, struct ke_msg *m,
                   struct ke_error *reterr)
{
    if (!r || !module || !m)
        return kei_error(reterr, KE_EINVAL, "sending needs a router, a module and a message");
    return kei_router_enqueue(r, module, m, reterr);
}

int ke_router_send_group(struct ke_router *r, const char *group, struct ke_msg *m,
                         struct ke_error *reterr)
{
    if (!r || !group || !group[0] || !m)
        return kei_error(reterr, KE_EINVAL, "sending needs a router, a group and a message");
    int result = KE_ENOTFOUND;
    pthread_mutex_lock(&r->mu);
    KEI_LIST_EACH(l, &r->modules)
    {
        struct ke_module *to = KEI_OF(l, struct ke_module, link);
        if (strcmp(to->group, group) != 0)
            continue;
        int e = enqueue(to, m, reterr); /* one full queue does not keep it from the others */
        if (result == KE_ENOTFOUND || e < 0)
            result = e;
    }
    bool wake = !kei_list_empty(&r->ready);
    pthread_mutex_unlock(&r->mu);
    if (wake)
        kei_wake(&r->wake);
    if (result == KE_ENOTFOUND)
        return kei_error(reterr, KE_ENOTFOUND, "no module is in group %s", group);
    return result;
}

/* ---- delivery ---- */

/* Calls m's ops for what was there before this turn. The mutex is held before and after. */
static void deliver_to(struct ke_router *r, struct ke_module *m, uint64_t turn)
{
    for (int i = 0; i < DELIVER_TURN; i++) {
        if (m->removed || m->queued == 0 || m->ring[m->head].turn >= turn)
            break;
        struct ke_msg *msg = dequeue(m);
        m->delivered++;
        pthread_mutex_unlock(&r->mu);
        m->ops.message(m->user, msg);
        ke_msg_unref(msg);
        pthread_mutex_lock(&r->mu);
    }
    if (!m->removed && m->untold > 0 && m->untold_turn < turn) {
        uint64_t n = m->untold;
        m->untold = 0;
        pthread_mutex_unlock(&r->mu);
        m->ops.overflow(m->user, n);
        pthread_mutex_lock(&r->mu);
    }
    if (!m->removed && (m->queued > 0 || m->untold > 0))
        make_ready(m);
}

static void deliver(struct ke_router *r)
{
    struct kei_link now; /* modules that are ready; a removal takes them out of it */
    uint64_t turn = kei_ctx_turn(r->ctx);
    kei_list_init(&now);
    pthread_mutex_lock(&r->mu);
    while (!kei_list_empty(&r->ready)) {
        struct kei_link *l = r->ready.next;
        kei_list_remove(l);
        kei_list_add_tail(&now, l);
    }
    while (!kei_list_empty(&now)) {
        struct ke_module *m = KEI_OF(now.next, struct ke_module, ready);
        kei_list_remove(&m->ready);
        deliver_to(r, m, turn);
    }
    bool more = !kei_list_empty(&r->ready);
    pthread_mutex_unlock(&r->mu);
    if (more)
        kei_wake(&r->wake);
}

static void free_now(struct ke_router *r)
{
    kei_requests_end(r);
    kei_wake_fini(&r->wake);
    kei_map_free(&r->names);
    kei_map_free(&r->requests);
    pthread_mutex_destroy(&r->mu);
    kei_free(kei_ctx_alloc(r->ctx), r);
}

void kei_router_enter(struct ke_router *r)
{
    r->depth++;
}

void kei_router_leave(struct ke_router *r)
{
    if (--r->depth > 0)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &r->removed)
    {
        kei_list_remove(l);
        module_free(KEI_OF(l, struct ke_module, link));
    }
    if (r->dying)
        free_now(r);
}

static void on_wake(struct kei_wake *w)
{
    struct ke_router *r = KEI_OF(w, struct ke_router, wake);
    kei_router_enter(r);
    kei_requests_deliver(r);
    deliver(r);
    kei_router_leave(r);
}

/* ---- the router ---- */

int ke_router_new(struct ke_router **ret, struct ke_ctx *ctx, const struct ke_router_config *c)
{
    if (!ctx)
        return KE_EINVAL;
    if (!ret)
        return kei_fail(ctx, KE_EINVAL, "no place was given for the router");
    struct ke_router *r = kei_zalloc(kei_ctx_alloc(ctx), sizeof *r);
    if (!r)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a router");
    r->ctx = ctx;
    int e = take_config(r, c, kei_err(ctx));
    if (e < 0) {
        kei_free(kei_ctx_alloc(ctx), r);
        return e;
    }
    pthread_mutex_init(&r->mu, NULL);
    kei_map_init(&r->names, kei_ctx_alloc(ctx), kei_ctx_random64(ctx));
    kei_map_init(&r->requests, kei_ctx_alloc(ctx), kei_ctx_random64(ctx));
    kei_list_init(&r->modules);
    kei_list_init(&r->ready);
    kei_list_init(&r->removed);
    kei_list_init(&r->open);
    kei_list_init(&r->answered);
    kei_wake_init(ctx, &r->wake, on_wake);
    *ret = r;
    return 0;
}

void ke_router_free(struct ke_router *r)
{
    if (!r || r->dying)
        return;
    kei_router_enter(r); /* for the case that nothing of ours is on the stack */
    pthread_mutex_lock(&r->mu);
    r->dying = true;
    pthread_mutex_unlock(&r->mu);
    KEI_LIST_EACH_SAFE(l, tmp, &r->modules)
    {
        ke_module_remove(KEI_OF(l, struct ke_module, link));
    }
    kei_router_leave(r);
}
