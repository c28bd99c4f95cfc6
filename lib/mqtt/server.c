/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server as its owner sees it: making, starting, stopping, reloading, asking. Public calls that
 * are not marked "any thread" are marshalled to the loop, so a host with the context's own thread
 * may call them, too.
 */
#include "mqtt/server.h"
#include "mqtt/calls.h"
#include "mqtt/journal.h"
#include "mqtt/via.h"
#include "net/addr.h"
#include "net/tls.h"

void ke_mqtt_config_init(struct ke_mqtt_config *c, size_t size)
{
    kei_abi_init(c, size);
}

void ke_mqtt_listener_init(struct ke_mqtt_listener *l, size_t size)
{
    kei_abi_init(l, size);
}

/* ---- for the other files ---- */

struct ke_ctx *kei_mqtt_ctx(struct ke_mqtt *m)
{
    return m->ctx;
}

struct kei_access *kei_mqtt_access(struct ke_mqtt *m)
{
    return m->access;
}

int kei_mqtt_call(struct ke_mqtt *m, void (*fn)(void *user), void *user)
{
    return kei_ctx_call(m->ctx, fn, user);
}

static void free_now(struct ke_mqtt *m);

void kei_mq_enter(struct ke_mqtt *m)
{
    m->depth++;
}

void kei_mq_leave(struct ke_mqtt *m)
{
    m->depth--;
}

void kei_mqtt_watch(struct ke_mqtt *m, struct kei_mqtt_watch *w)
{
    kei_list_add_tail(&m->watches, &w->link);
}

void kei_mqtt_unwatch(struct kei_mqtt_watch *w)
{
    kei_list_remove(&w->link);
}

static void tell_watches(struct ke_mqtt *m, int what)
{
    KEI_LIST_EACH_SAFE(l, next, &m->watches)
    {
        struct kei_mqtt_watch *w = KEI_OF(l, struct kei_mqtt_watch, link);
        if (what == KEI_MQTT_FREED)
            kei_list_remove(l);
        w->fn(w, what);
    }
}

/* What rules may be skipped for c. */
static void refresh_rules(struct mq_conn *c)
{
    struct ke_mqtt *m = c->m;

    c->flags &= (uint16_t) ~(MQ_C_FREE_READ | MQ_C_FREE_WRITE);
    if (m->ops.authorize)
        return;
    if (!m->access || m->access->ops->unlimited(m->access, c->who, KE_MQTT_READ))
        c->flags |= MQ_C_FREE_READ;
    if (!m->access || m->access->ops->unlimited(m->access, c->who, KE_MQTT_WRITE))
        c->flags |= MQ_C_FREE_WRITE;
}

/* Let in as anybody would be, and such may not come in any more. */
static bool unwelcome(struct mq_conn *c)
{
    struct kei_access *a = c->m->access;

    return c->flags & MQ_C_ANONYMOUS &&
           (!kei_mq_anonymous_ok(c->l) ||
            !a->ops->anybody(a, kei_str(c->l->name), kei_str(c->user_name)));
}

void kei_mqtt_access_changed(struct ke_mqtt *m,
                             int (*check)(void *user, struct kei_who *who, struct ke_str client_id,
                                          struct ke_str user_name),
                             void *user)
{
    mq_now(m);
    KEI_LIST_EACH(l, &m->conns)
    {
        struct mq_conn *c = KEI_OF(l, struct mq_conn, link);
        if (c->state != MQ_UP)
            continue;
        int r = check ? check(user, c->who, mq_id(c->s), kei_str(c->user_name)) : KEI_ACCESS_KEEP;
        if (r == KEI_ACCESS_CLOSE || unwelcome(c))
            kei_mq_conn_close(c, KEI_MQTT_R_NOT_AUTHORIZED, "its rights were taken away");
        else
            refresh_rules(c);
    }
}

/* ---- making ---- */

static void on_wake(struct kei_wake *w)
{
    struct ke_mqtt *m = KEI_OF(w, struct ke_mqtt, wake);

    kei_mq_msg_collect(m);
    kei_mq_calls_run(m);
}

static void lists_init(struct ke_mqtt *m)
{
    kei_list_init(&m->listeners);
    kei_list_init(&m->conns);
    kei_list_init(&m->dirty);
    kei_list_init(&m->sessions);
    kei_list_init(&m->watches);
    kei_list_init(&m->lingers);
    kei_list_init(&m->locals);
    m->calls_tail = &m->calls;
}

static int set_up(struct ke_mqtt *m, const struct ke_mqtt_config *c)
{
    char *texts[8];
    int r = kei_mq_config_prepare(m, c, texts);

    if (r == 0) {
        kei_mq_config_use(m, c, texts);
        r = kei_mq_listeners_copy(m, c, &m->planned);
    }
    m->n_planned = r == 0 ? c->n_listeners : 0;
    m->seed = kei_ctx_random64(m->ctx);
    if (r == 0)
        r = kei_mq_tree_init(&m->filters, m->alloc, kei_ctx_random64(m->ctx));
    if (r == 0)
        r = kei_mq_tree_init(&m->retained, m->alloc, kei_ctx_random64(m->ctx));
    if (r == 0 && !(m->rx = kei_alloc(m->alloc, 2 * MQ_RX)))
        r = KE_ENOMEM;
    if (r == KE_ENOMEM)
        return kei_fail(m->ctx, r, "no memory for the MQTT server");
    if (r == 0)
        r = kei_mq_local_init(m);
    if (r == 0)
        r = kei_access_new(&m->access, m, m->ctx, c);
    return r;
}

int ke_mqtt_new(struct ke_mqtt **ret, struct ke_ctx *ctx, const struct ke_mqtt_config *c,
                const struct ke_mqtt_ops *ops, void *user)
{
    struct ke_mqtt_config in = {.size = sizeof in};

    if (!ret || !ctx)
        return KE_EINVAL;
    int r = c ? kei_abi_in(&in, sizeof in, c, offsetof(struct ke_mqtt_config, max_connections),
                           "struct ke_mqtt_config", kei_err(ctx))
              : 0;
    if (r < 0)
        return r;
    const struct ke_alloc *al = kei_ctx_alloc(ctx);
    struct ke_mqtt *m = kei_zalloc(al, sizeof *m);
    if (!m)
        return kei_fail(ctx, KE_ENOMEM, "no memory for the MQTT server");
    m->ctx = ctx;
    m->alloc = al;
    m->user = user;
    lists_init(m);
    pthread_mutex_init(&m->mu, NULL);
    kei_wake_init(ctx, &m->wake, on_wake);
    kei_mq_wheel_init(&m->wheel, ctx, kei_mq_conn_timer, kei_mq_session_timer);
    mq_now(m);
    if (ops)
        r = kei_abi_in(&m->ops, sizeof m->ops, ops, sizeof(size_t), "struct ke_mqtt_ops",
                       kei_err(ctx));
    if (r == 0)
        r = set_up(m, &in);
    if (r < 0) {
        free_now(m);
        return r;
    }
    *ret = m;
    return 0;
}

/* ---- stopping ---- */

static void close_conns(struct ke_mqtt *m)
{
    KEI_LIST_EACH_SAFE(l, next, &m->conns)
    {
        struct mq_conn *c = KEI_OF(l, struct mq_conn, link);
        kei_mq_conn_close(c, KEI_MQTT_R_SHUTTING_DOWN, "the server stops");
        if (c->s && c->s->expiry_s > 0)
            c->flags |= MQ_C_KEEP_WILL;
    }
    while (!kei_list_empty(&m->conns)) {
        struct mq_conn *c = KEI_OF(m->conns.next, struct mq_conn, link);
        if (c->state != MQ_DEAD)
            kei_mq_flush(c); /* once; what it does not take is lost */
        kei_mq_conn_free(c);
    }
}

static void stop_now(struct ke_mqtt *m)
{
    if (!m->started || m->stopping)
        return;
    m->stopping = true;
    mq_now(m);
    kei_mq_sys_stop(m);
    while (!kei_list_empty(&m->listeners))
        kei_mq_listener_close(KEI_OF(m->listeners.next, struct mq_listener, link));
    close_conns(m);
    kei_mq_via_fini(m);
    if (m->journal)
        kei_mq_journal_close(m);
    if (m->access)
        m->access->ops->close(m->access);
    kei_turn_remove(&m->turn);
    m->started = m->stopping = false;
    tell_watches(m, KEI_MQTT_STOPPED);
    kei_log(m->ctx, KE_LOG_INFO, "mqtt", "stopped");
}

static void call_stop(void *user)
{
    stop_now(user);
}

void ke_mqtt_stop(struct ke_mqtt *m)
{
    if (m)
        kei_ctx_call(m->ctx, call_stop, m);
}

static void drop_sessions(struct ke_mqtt *m)
{
    while (!kei_list_empty(&m->sessions))
        kei_mq_session_free(KEI_OF(m->sessions.next, struct mq_session, link));
}

static void free_now(struct ke_mqtt *m)
{
    stop_now(m);
    tell_watches(m, KEI_MQTT_FREED);
    m->freed = true;
    kei_mq_local_fini(m);
    kei_mq_msg_collect(m);
    drop_sessions(m);
    if (m->retained.slots)
        kei_mq_retain_clear(m);
    kei_mq_tree_free(&m->filters);
    kei_mq_tree_free(&m->retained);
    if (m->access)
        m->access->ops->free(m->access);
    kei_mq_wheel_fini(&m->wheel);
    kei_wake_fini(&m->wake);
    kei_defer_cancel(&m->free_later);
    kei_mq_chunks_free(m);
    kei_mq_listeners_free(m, m->planned, m->n_planned);
    kei_mq_config_free(m);
    kei_free(m->alloc, m->hits);
    kei_free(m->alloc, m->hit_ids);
    kei_free(m->alloc, m->id_list);
    kei_free(m->alloc, m->table);
    kei_free(m->alloc, m->rx);
    pthread_mutex_destroy(&m->mu);
    kei_free(m->alloc, m);
}

static void on_free_later(struct kei_defer *d)
{
    free_now(KEI_OF(d, struct ke_mqtt, free_later));
}

static void call_free(void *user)
{
    struct ke_mqtt *m = user;

    if (m->depth > 0 || m->routing)
        kei_defer(m->ctx, &m->free_later, on_free_later);
    else
        free_now(m);
}

void ke_mqtt_free(struct ke_mqtt *m)
{
    if (m)
        kei_ctx_call(m->ctx, call_free, m);
}

/* ---- starting ---- */

struct start {
    struct ke_mqtt *m;
    int status;
};

static int open_listeners(struct ke_mqtt *m)
{
    struct mq_listener *l;

    for (uint32_t i = 0; i < m->n_planned; i++) {
        int r = kei_mq_listen(m, &m->planned[i], &l);
        if (r < 0)
            return r;
        kei_log(m->ctx, KE_LOG_INFO, "mqtt", "listening on %s", l->name);
    }
    return 0;
}

static int start_now(struct ke_mqtt *m)
{
    int r = 0;

    if (m->started)
        return kei_fail(m->ctx, KE_ESTATE, "the MQTT server was started before");
    mq_now(m);
    if (m->config.data)
        r = kei_mq_journal_open(m, m->config.data);
    if (r == 0 && m->access)
        r = m->access->ops->open(m->access, m->config.data);
    if (r == 0)
        r = open_listeners(m);
    if (r < 0) {
        while (!kei_list_empty(&m->listeners))
            kei_mq_listener_close(KEI_OF(m->listeners.next, struct mq_listener, link));
        if (m->journal)
            kei_mq_journal_close(m);
        if (m->access)
            m->access->ops->close(m->access);
        return r;
    }
    m->started = true;
    m->started_ms = m->now;
    kei_turn_add(m->ctx, &m->turn, kei_mq_turn);
    kei_mq_sys_start(m);
    tell_watches(m, KEI_MQTT_STARTED);
    return 0;
}

static void call_start(void *user)
{
    struct start *s = user;

    s->status = start_now(s->m);
}

int ke_mqtt_start(struct ke_mqtt *m)
{
    struct start s = {m, 0};

    if (!m)
        return KE_EINVAL;
    int r = kei_ctx_call(m->ctx, call_start, &s);
    if (r < 0 || s.status < 0)
        return r < 0 ? r : s.status;
    r = kei_ctx_thread_start(m->ctx);
    if (r < 0)
        ke_mqtt_stop(m);
    return r;
}

/* ---- reloading ---- */

struct reload {
    struct ke_mqtt *m;
    const struct ke_mqtt_config *c;
    int status;
};

static struct mq_listener *listener_named(struct ke_mqtt *m, const struct ke_mqtt_listener *cfg)
{
    char name[200];
    const char *want = kei_mq_listener_name(cfg, name, sizeof name);

    KEI_LIST_EACH(l, &m->listeners)
    {
        struct mq_listener *x = KEI_OF(l, struct mq_listener, link);
        if (strcmp(x->name, want) == 0 && kei_mq_listener_is_at(x, cfg))
            return x;
    }
    return NULL;
}

/* All that a reload needs and that can fail to be had. */
struct plan {
    struct ke_mqtt_config c;
    char *texts[8];
    struct kei_access_files *files;
    struct ke_mqtt_listener *want;
    struct kei_tls_config **tls; /* of those listeners that stay */
    struct kei_link *last;       /* the listeners behind it are new */
};

/* Its port is one we listen on already, at another address of the machine. */
static bool is_ours(struct ke_mqtt *m, const struct ke_mqtt_listener *cfg)
{
    KEI_LIST_EACH(l, &m->listeners)
    {
        struct mq_listener *x = KEI_OF(l, struct mq_listener, link);
        if (!x->inner && x->port && x->port == cfg->port)
            return true;
    }
    return false;
}

/* New listeners are open then, but nobody is let in before the turn is over. */
static int plan_listeners(struct ke_mqtt *m, struct plan *p)
{
    struct mq_listener *l;
    uint32_t n = p->c.n_listeners;
    int r = 0;

    p->last = m->listeners.prev;
    p->tls = kei_zalloc(m->alloc, (n + 1) * sizeof(struct kei_tls_config *));
    if (!p->tls)
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for %u listeners", n);
    for (uint32_t i = 0; r == 0 && i < n; i++) {
        l = listener_named(m, &p->want[i]);
        r = l ? kei_mq_listener_prepare(l, &p->want[i], &p->tls[i])
              : kei_mq_listen(m, &p->want[i], &l);
        if (r == KE_EADDRINUSE && is_ours(m, &p->want[i]))
            kei_error_prefix(kei_err(m->ctx), r,
                             "a listener of this server has that port, and the change of its "
                             "address takes a restart");
    }
    return r;
}

static int make_plan(struct ke_mqtt *m, const struct ke_mqtt_config *c, struct plan *p)
{
    int r = kei_abi_in(&p->c, sizeof p->c, c, offsetof(struct ke_mqtt_config, max_connections),
                       "struct ke_mqtt_config", kei_err(m->ctx));

    if (r == 0 && !kei_str_eq(kei_str(p->c.data), kei_str(m->config.data)))
        r = kei_fail(m->ctx, KE_EINVAL, "data cannot change while the MQTT server exists");
    if (r == 0)
        r = kei_mq_config_prepare(m, &p->c, p->texts);
    if (r == 0)
        r = kei_mq_listeners_copy(m, &p->c, &p->want);
    if (r == 0 && m->access)
        r = m->access->ops->prepare(m->access, &p->c, &p->files, kei_err(m->ctx));
    if (r == 0 && m->started)
        r = plan_listeners(m, p);
    return r;
}

static void drop_plan(struct ke_mqtt *m, struct plan *p)
{
    while (p->last && p->last->next != &m->listeners)
        kei_mq_listener_close(KEI_OF(p->last->next, struct mq_listener, link));
    for (uint32_t i = 0; p->tls && i < p->c.n_listeners; i++)
        kei_tls_config_unref(p->tls[i]);
    kei_free(m->alloc, p->tls);
    if (m->access)
        m->access->ops->drop(m->access, p->files);
    kei_mq_listeners_free(m, p->want, p->c.n_listeners);
    kei_mq_config_drop(m, p->texts);
}

static void use_listeners(struct ke_mqtt *m, struct plan *p)
{
    for (uint32_t i = 0; i < p->c.n_listeners; i++)
        kei_mq_listener_update(listener_named(m, &p->want[i]), &p->want[i], p->tls[i]);
    KEI_LIST_EACH_SAFE(x, next, &m->listeners)
    {
        struct mq_listener *l = KEI_OF(x, struct mq_listener, link);
        bool wanted = l->inner;
        for (uint32_t i = 0; i < p->c.n_listeners; i++)
            wanted |= listener_named(m, &p->want[i]) == l;
        if (!wanted) {
            kei_log(m->ctx, KE_LOG_INFO, "mqtt", "not listening on %s any more", l->name);
            kei_mq_listener_close(l);
        }
    }
    kei_free(m->alloc, p->tls);
}

/* Nothing of this can fail. */
static void use_plan(struct ke_mqtt *m, struct plan *p)
{
    if (m->started)
        use_listeners(m, p);
    kei_mq_config_use(m, &p->c, p->texts);
    kei_mq_listeners_free(m, m->planned, m->n_planned);
    m->planned = p->want;
    m->n_planned = p->c.n_listeners;
    if (m->access)
        m->access->ops->use(m->access, p->files); /* and looks at every client again */
    if (m->started && m->flags & KE_MQTT_NO_SYS)
        kei_mq_sys_stop(m);
    else if (m->started && !m->sys)
        kei_mq_sys_start(m);
}

static int reload_now(struct ke_mqtt *m, const struct ke_mqtt_config *c)
{
    struct plan p = {.tls = NULL};

    mq_now(m);
    int r = make_plan(m, c, &p);
    if (r < 0) {
        drop_plan(m, &p);
        return r;
    }
    use_plan(m, &p);
    kei_log(m->ctx, KE_LOG_INFO, "mqtt", "reloaded");
    return 0;
}

static void call_reload(void *user)
{
    struct reload *r = user;

    r->status = reload_now(r->m, r->c);
}

int ke_mqtt_reload(struct ke_mqtt *m, const struct ke_mqtt_config *c)
{
    struct reload x = {m, c, 0};

    if (!m || !c)
        return KE_EINVAL;
    int r = kei_ctx_call(m->ctx, call_reload, &x);
    return r < 0 ? r : x.status;
}

/* ---- asking and telling ---- */

struct port_call {
    struct ke_mqtt *m;
    uint32_t i, port;
    int status;
};

static void call_port(void *user)
{
    struct port_call *p = user;

    p->status = KE_ENOTFOUND;
    if (p->i >= p->m->n_planned)
        return;
    struct mq_listener *l = listener_named(p->m, &p->m->planned[p->i]);
    if (!l)
        return;
    p->port = l->port;
    p->status = 0;
}

int ke_mqtt_port(struct ke_mqtt *m, uint32_t i, uint32_t *ret)
{
    struct port_call p = {m, i, 0, 0};

    if (!m || !ret)
        return KE_EINVAL;
    int r = kei_ctx_call(m->ctx, call_port, &p);
    if (r == 0)
        r = p.status;
    if (r == 0)
        *ret = p.port;
    return r;
}

struct stats_call {
    struct ke_mqtt *m;
    struct ke_mqtt_stats *ret;
    size_t size;
    int status;
};

static void call_stats(void *user)
{
    struct stats_call *s = user;
    struct ke_mqtt_stats st = s->m->st;

    st.uptime_s =
        s->m->started ? (uint64_t)(ke_ctx_mono_ms(s->m->ctx) - s->m->started_ms) / 1000 : 0;
    s->status = kei_abi_out(s->ret, s->size, &st, sizeof st, sizeof(size_t), "struct ke_mqtt_stats",
                            kei_err(s->m->ctx));
}

int ke_mqtt_stats(struct ke_mqtt *m, struct ke_mqtt_stats *ret, size_t size)
{
    struct stats_call s = {m, ret, size, 0};

    if (!m || !ret)
        return KE_EINVAL;
    int r = kei_ctx_call(m->ctx, call_stats, &s);
    return r < 0 ? r : s.status;
}

struct clients_call {
    struct ke_mqtt *m;
    void (*fn)(void *user, const struct ke_mqtt_client *c);
    void *user;
};

static void call_clients(void *user)
{
    struct clients_call *x = user;

    KEI_LIST_EACH(l, &x->m->conns)
    {
        struct mq_conn *c = KEI_OF(l, struct mq_conn, link);
        char addr[KEI_ADDR_TEXT];
        struct ke_mqtt_client cl;
        if (c->state != MQ_UP)
            continue;
        kei_mq_conn_client(c, &cl, addr, NULL);
        x->fn(x->user, &cl);
    }
}

int ke_mqtt_clients(struct ke_mqtt *m, void (*fn)(void *user, const struct ke_mqtt_client *c),
                    void *user)
{
    struct clients_call x = {m, fn, user};

    if (!m || !fn)
        return KE_EINVAL;
    return kei_ctx_call(m->ctx, call_clients, &x);
}

/* ---- disconnecting a client ---- */

struct disconnect_call {
    struct mq_call call;
    struct ke_mqtt *m;
    uint32_t reason, flags;
    int status;
    bool later; /* the queue of calls has it */
    struct ke_str id, server;
    char bytes[];
};

static void send_server(struct mq_conn *c, unsigned reason, struct ke_str server)
{
    struct kei_mqtt_ack a = {.reason = (uint8_t)reason};
    struct ke_buf props, b;

    kei_buf_init(&props, c->m->alloc);
    kei_buf_init(&b, c->m->alloc);
    kei_mqtt_put_str(&props, KEI_MQTT_P_SERVER_REF, server);
    a.props.raw = kei_buf_str(&props);
    if (kei_buf_ok(&props))
        kei_mqtt_encode_ack(&b, c->version, KEI_MQTT_DISCONNECT, &a);
    if (kei_buf_ok(&b) && b.n)
        kei_mq_out_add(c->m, &c->out, b.p, b.n);
    ke_buf_free(&props);
    ke_buf_free(&b);
}

static int disconnect_now(struct ke_mqtt *m, const struct disconnect_call *d)
{
    struct mq_session *s = kei_mq_session_find(m, d->id);
    struct mq_conn *c = s ? s->conn : NULL;

    mq_now(m);
    if (!s || (!c && !(d->flags & KE_MQTT_DROP_SESSION)))
        return KE_ENOTFOUND;
    if (d->flags & KE_MQTT_DROP_SESSION)
        s->expiry_s = 0;
    if (!c) {
        kei_mq_session_end(s, "the host removed it");
        return 0;
    }
    if (d->server.n && c->state == MQ_UP && c->version == KEI_MQTT_V5) {
        send_server(c, d->reason, d->server);
        c->flags |= MQ_C_CLEAN_END; /* DISCONNECT is out */
        kei_mq_conn_close(c, d->reason, "the host sent it to another server");
        c->flags &= (uint16_t)~MQ_C_CLEAN_END;
        return 0;
    }
    kei_mq_conn_close(c, d->reason, "the host closed it");
    return 0;
}

static void run_disconnect(struct ke_mqtt *m, struct mq_call *call)
{
    struct disconnect_call *d = KEI_OF(call, struct disconnect_call, call);

    if (!m->freed)
        disconnect_now(m, d);
    kei_free(m->alloc, d);
}

/* Is there anything to be closed or dropped? */
static bool is_there(struct ke_mqtt *m, const struct disconnect_call *d)
{
    struct mq_session *s = kei_mq_session_find(m, d->id);

    return s && (s->conn || d->flags & KE_MQTT_DROP_SESSION);
}

/* While messages are given out it is done behind that, as whatever else was asked for before. */
static void call_disconnect(void *user)
{
    struct disconnect_call *d = user;
    struct ke_mqtt *m = d->m;

    if (m->routing) {
        d->later = is_there(m, d);
        d->status = d->later ? 0 : KE_ENOTFOUND;
        if (d->later)
            kei_mq_call(m, &d->call);
        return;
    }
    kei_mq_calls_run(m); /* what this thread wanted before */
    d->status = disconnect_now(m, d);
}

int ke_mqtt_disconnect(struct ke_mqtt *m, const char *client_id, uint32_t reason,
                       const char *server, uint32_t flags, struct ke_error *reterr)
{
    if (!m || !client_id || reason > 0xff)
        return kei_error(reterr, KE_EINVAL, "no server, no client id, or no reason code");
    size_t id_n = strlen(client_id), server_n = server ? strlen(server) : 0;
    struct disconnect_call *d = kei_zalloc(m->alloc, sizeof *d + id_n + server_n + 1);
    if (!d)
        return kei_error(reterr, KE_ENOMEM, "no memory to disconnect a client");
    d->call.fn = run_disconnect;
    d->reason = reason;
    d->flags = flags;
    memcpy(d->bytes, client_id, id_n);
    memcpy(d->bytes + id_n, server ? server : "", server_n);
    d->id = kei_strn(d->bytes, id_n);
    d->server = kei_strn(d->bytes + id_n, server_n);
    d->m = m;
    int r = kei_ctx_call(m->ctx, call_disconnect, d);
    if (r == 0)
        r = d->status;
    if (!d->later)
        kei_free(m->alloc, d);
    return r < 0 ? kei_error(reterr, r, "no client \"%.100s\" is connected", client_id) : 0;
}
