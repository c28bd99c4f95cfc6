/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud end put together: configuration, start in order (folder, identity, sockets, then what
 * the store holds), stop. Requests of nodes are refused until everything is read. Loop thread.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/file.h"
#include "base/log.h"
#include "cloud/device.h"
#include "net/addr.h"

#define HEALTH_MS 5000
#define RELOAD_MS 5000
#define CERT_DAYS_MAX 36500
#define TOKEN_HOURS_MAX 876000
#define MESSAGE_MIN 65536

void ke_cloud_config_init(struct ke_cloud_config *c, size_t size)
{
    kei_abi_init(c, size);
}

/* ---- configuration ---- */

static int copy_strings(struct ke_cloud *c, struct ke_cloud_config *to)
{
    const char **strings[] = {&to->data, &to->manifests, &to->listen};
    if (!to->listen)
        to->listen = "0.0.0.0";
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        if (*strings[i] && !(*strings[i] = kei_arena_strdup(&c->arena, kei_str(*strings[i]))))
            return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the configuration");
    const char **names = kei_arena_array(&c->arena, (size_t)to->n_advertise + 1, sizeof *names);
    for (uint32_t i = 0; names && i < to->n_advertise; i++) {
        if (!to->advertise || !to->advertise[i] || !to->advertise[i][0])
            return kei_fail(c->ctx, KE_EINVAL, "ke_cloud_config.advertise[%u] is missing",
                            (unsigned)i);
        struct kei_addr ip;
        if (!kei_addr_name_ok(to->advertise[i]) &&
            (to->advertise[i][0] == '[' || !kei_addr_literal(&ip, to->advertise[i], 0)))
            return kei_fail(c->ctx, KE_EINVAL,
                            "ke_cloud_config.advertise[%u] \"%.300s\" is no IP address and no "
                            "host name; ports are set apart",
                            (unsigned)i, to->advertise[i]);
        if (!(names[i] = kei_arena_strdup(&c->arena, kei_str(to->advertise[i]))))
            names = NULL;
    }
    if (!names)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the configuration");
    to->advertise = names;
    return 0;
}

static int check_numbers(struct ke_cloud *c, struct ke_cloud_config *to)
{
    const struct {
        const char *name;
        uint32_t *at, dflt, min, max;
    } numbers[] = {{"tunnel_port", &to->tunnel_port, 10000, 1, 65535},
                   {"cert_port", &to->cert_port, 10002, 1, 65535},
                   {"max_nodes", &to->max_nodes, 10000, 1, 1000000},
                   {"max_message", &to->max_message, 32u << 20, MESSAGE_MIN, 1u << 30},
                   {"cert_days", &to->cert_days, 365, 1, CERT_DAYS_MAX},
                   {"token_hours", &to->token_hours, 24, 1, TOKEN_HOURS_MAX}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (*numbers[i].at == 0)
            *numbers[i].at = numbers[i].dflt;
        if (i < 2 && *numbers[i].at == KE_PORT_ANY)
            continue;
        if (*numbers[i].at < numbers[i].min || *numbers[i].at > numbers[i].max)
            return kei_fail(c->ctx, KE_EINVAL, "ke_cloud_config.%s is %u: it goes from %u to %u",
                            numbers[i].name, (unsigned)*numbers[i].at, (unsigned)numbers[i].min,
                            (unsigned)numbers[i].max);
    }
    if (to->flags)
        return kei_fail(c->ctx, KE_EINVAL, "ke_cloud_config.flags must be 0");
    return 0;
}

/* Copies what is kept and fills the defaults. */
static int copy_config(struct ke_cloud *c, const struct ke_cloud_config *from)
{
    struct ke_cloud_config *to = &c->config;
    int r = kei_abi_in(to, sizeof *to, from, offsetof(struct ke_cloud_config, manifests),
                       "ke_cloud_config", kei_err(c->ctx));
    if (r < 0)
        return r;
    if (!to->data || !to->data[0])
        return kei_fail(c->ctx, KE_EINVAL, "ke_cloud_config.data is missing");
    r = copy_strings(c, to);
    return r < 0 ? r : check_numbers(c, to);
}

/* ---- life ---- */

static void on_health(struct kei_timer *t)
{
    struct ke_cloud *c = KEI_OF(t, struct ke_cloud, health);
    if (c->state == KEI_CLOUD_LOADED) {
        kei_health_check(c);
        if (c->missed) {
            c->missed = false;
            kei_push_all(c);
        }
    }
    (void)kei_timer_in(t, HEALTH_MS);
}

static void on_reload(struct kei_timer *t);

/* Everything that close_all gives back. */
static void init_empty(struct ke_cloud *c)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    kei_map_init(&c->peers, a, kei_ctx_random64(c->ctx));
    kei_map_init(&c->refs, a, kei_ctx_random64(c->ctx));
    kei_map_init(&c->bindings, a, kei_ctx_random64(c->ctx));
    kei_list_init(&c->joining);
    kei_list_init(&c->idle);
    kei_bind_init(c);
    kei_devices_init(c);
    c->nodes = 0;
}

int ke_cloud_new(struct ke_cloud **ret, struct ke_ctx *ctx, const struct ke_cloud_config *config,
                 const struct ke_cloud_ops *ops, void *user)
{
    if (!ret || !ctx || !config)
        return ctx ? kei_fail(ctx, KE_EINVAL, "ke_cloud_new: an argument is NULL") : KE_EINVAL;
    struct ke_cloud *c = kei_zalloc(kei_ctx_alloc(ctx), sizeof *c);
    if (!c)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the cloud");
    c->ctx = ctx;
    c->user = user;
    kei_arena_init(&c->arena, kei_ctx_alloc(ctx), 0);
    kei_timer_init(ctx, &c->health, on_health);
    kei_timer_init(ctx, &c->reload, on_reload);
    init_empty(c);
    int r = copy_config(c, config);
    if (r == 0 && ops)
        r = kei_abi_in(&c->ops, sizeof c->ops, ops, sizeof(size_t), "ke_cloud_ops", kei_err(ctx));
    if (r < 0) {
        ke_cloud_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

/* ---- reading the store ---- */

static void load_failed(struct ke_cloud *c)
{
    kei_log(c->ctx, KE_LOG_ERROR, "cloud", "the store was not read: %s; trying again",
            ke_ctx_error(c->ctx));
    (void)kei_timer_in(&c->reload, RELOAD_MS);
}

static void open_manifests(struct ke_cloud *c)
{
    if (!c->config.manifests || kei_manifests_new(&c->manifests, c) == 0)
        return;
    kei_tell_manifest_error(c, ke_ctx_error(c->ctx));
    (void)kei_timer_in(&c->reload, RELOAD_MS);
}

static void on_identities(struct ke_cloud *c, int status)
{
    struct kei_object *o;
    struct ke_str key;
    void *value;
    if (c->state != KEI_CLOUD_LOADING)
        return;
    /* what is wanted, although no node holds it yet */
    for (size_t it = 0; status == 0 && (o = kei_objects_next(c->objects, "pod", &it));) {
        const struct kei_pod_note *note = o->note;
        if (note && note->peer)
            status = kei_deliver(note->peer, o);
    }
    if (status < 0) {
        load_failed(c);
        return;
    }
    c->state = KEI_CLOUD_LOADED;
    kei_devices_tidy(c);
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);)
        kei_devices_push(value);
    kei_bind_soon(c);
    kei_cloud_end_forced(c);
    open_manifests(c);
}

static void on_peers(struct ke_cloud *c, int status)
{
    if (c->state != KEI_CLOUD_LOADING)
        return;
    if (status == 0)
        status = kei_identity_load(c, on_identities);
    if (status < 0)
        load_failed(c);
}

static void on_objects(void *user, int status)
{
    struct ke_cloud *c = user;
    if (c->state != KEI_CLOUD_LOADING)
        return;
    if (status == 0)
        status = kei_devices_load(c);
    if (status == 0)
        status = kei_cloud_merge_load(c);
    if (status == 0)
        status = kei_peers_load(c, on_peers);
    if (status < 0)
        load_failed(c);
}

void kei_row_drop(struct ke_cloud *c, const struct ke_store_item *item)
{
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, c->store);

    if (r == 0)
        r = ke_store_delete(tx, item->bucket, item->key, NULL);
    if (r == 0)
        r = ke_store_commit(tx, NULL, NULL);
    else
        ke_store_abort(tx);
    if (r < 0)
        kei_log(c->ctx, KE_LOG_DEBUG, "cloud", "a row stays: %s", ke_ctx_error(c->ctx));
}

static int load(struct ke_cloud *c)
{
    static const struct kei_objects_ops ops = {.index = kei_index, .changed = kei_cloud_changed};
    int r = kei_objects_new(&c->objects, c->ctx, c->store, &ops, c);
    return r < 0 ? r : kei_objects_load(c->objects, on_objects, c);
}

static void drop_loaded(struct ke_cloud *c)
{
    kei_index_free(c);
    kei_devices_free(c);
    kei_peers_free(c);
    kei_identity_free(c);
    kei_objects_free(c->objects);
    c->objects = NULL;
    kei_timer_stop(&c->bind);
    init_empty(c);
}

static void on_reload(struct kei_timer *t)
{
    struct ke_cloud *c = KEI_OF(t, struct ke_cloud, reload);
    if (c->state == KEI_CLOUD_LOADED) {
        open_manifests(c);
        return;
    }
    c->state = KEI_CLOUD_CLOSING; /* what goes now concerns nobody */
    drop_loaded(c);
    c->state = KEI_CLOUD_LOADING;
    if (load(c) < 0)
        load_failed(c);
}

/* ---- start and stop ---- */

static int open_store(struct ke_cloud *c)
{
    static const char *const first[] = {"ack", "o/node", "o/pod", "o/device", NULL};
    struct ke_store_config sc;
    char folder[4096];
    ke_store_config_init(&sc, sizeof sc);
    if (!kei_path_join(folder, sizeof folder, c->config.data, "store"))
        return kei_fail(c->ctx, KE_ELIMIT, "path of the data folder is too long");
    int r = kei_folder_make(kei_ctx_io(c->ctx), c->config.data, 0700, kei_err(c->ctx));
    sc.folder = folder;
    sc.first = first;
    sc.cache_kib = 2048;
    return r < 0 ? r : ke_store_open(&c->store, c->ctx, &sc);
}

/*
 * Shares what the process may open, so that neither port takes the other's, nor the store's. The
 * process's limit is its host's: it is not changed here.
 */
static void share_descriptors(struct ke_cloud *c)
{
    uint32_t wanted = c->config.max_nodes + 100 + KEI_CERT_STREAMS + 2 * KEI_HANDSHAKES_MAX;
    uint32_t have = wanted;
    struct rlimit l;
    c->tunnel_streams = c->config.max_nodes + 100;
    c->cert_streams = KEI_CERT_STREAMS;
    c->handshakes = KEI_HANDSHAKES_MAX;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= wanted + KEI_DESCRIPTORS_KEPT)
        return;
    have = l.rlim_cur > 2 * KEI_DESCRIPTORS_KEPT ? (uint32_t)l.rlim_cur - KEI_DESCRIPTORS_KEPT
                                                 : (uint32_t)l.rlim_cur / 2;
    /* an eighth for each kind of those who are not known yet, the rest for nodes */
    if (c->handshakes > have / 8)
        c->handshakes = have / 8 + 1;
    if (c->cert_streams > have / 8)
        c->cert_streams = have / 8 + 1;
    have -= have > 2 * c->handshakes + c->cert_streams ? 2 * c->handshakes + c->cert_streams : 0;
    if (c->tunnel_streams > have)
        c->tunnel_streams = have;
    if (c->tunnel_streams < c->config.max_nodes)
        kei_log(
            c->ctx, KE_LOG_WARN, "cloud",
            "this process may open %llu files (RLIMIT_NOFILE, ulimit -n): %u nodes can connect, "
            "not max_nodes %u; for all of them raise it to %u",
            (unsigned long long)l.rlim_cur, (unsigned)c->tunnel_streams,
            (unsigned)c->config.max_nodes, (unsigned)(wanted + KEI_DESCRIPTORS_KEPT));
}

static void end_sessions(struct ke_cloud *c)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&c->peers, &it, &key, &value);) {
        struct kei_peer *p = value;
        if (p->session)
            kei_session_close(p->session, "the cloud stops");
    }
}

static void close_all(struct ke_cloud *c)
{
    c->state = KEI_CLOUD_CLOSING;
    kei_timer_stop(&c->health);
    kei_timer_stop(&c->reload);
    kei_defer_cancel(&c->forced);
    kei_defer_cancel(&c->end);
    end_sessions(c);
    kei_manifests_free(c->manifests);
    kei_http_server_free(c->tunnel);
    kei_certsrv_free(c->certsrv);
    ke_store_close(c->store); /* its callbacks still use the objects and the deliveries */
    drop_loaded(c);
    kei_pki_close(&c->pki);
    c->manifests = NULL;
    c->tunnel = NULL;
    c->certsrv = NULL;
    c->store = NULL;
    c->ending = false;
    c->state = KEI_CLOUD_STOPPED;
}

/* After a failed start: as before it, and the reason stays in the context. */
static void undo(struct ke_cloud *c)
{
    struct ke_error err = *kei_err(c->ctx);
    close_all(c);
    *kei_err(c->ctx) = err;
}

static void start(void *user)
{
    struct ke_cloud *c = user;
    c->state = KEI_CLOUD_LOADING;
    c->started_ms = ke_ctx_mono_ms(c->ctx);
    share_descriptors(c);
    int r = open_store(c);
    if (r == 0)
        r = kei_pki_open(&c->pki, c->ctx, &c->config);
    if (r == 0)
        r = kei_certsrv_new(&c->certsrv, c);
    if (r == 0)
        r = kei_sessions_start(c);
    if (r == 0)
        r = load(c);
    if (r == 0)
        r = kei_timer_in(&c->health, HEALTH_MS);
    c->start_status = r;
    if (r < 0)
        undo(c);
}

int ke_cloud_start(struct ke_cloud *c)
{
    if (!c)
        return KE_EINVAL;
    if (c->state != KEI_CLOUD_STOPPED)
        return kei_fail(c->ctx, KE_ESTATE, "the cloud runs already");
    int r = kei_ctx_call(c->ctx, start, c);
    if (r == 0)
        r = c->start_status;
    if (r == 0)
        r = kei_ctx_thread_start(c->ctx);
    if (r < 0 && c->state != KEI_CLOUD_STOPPED) /* nothing runs the loop: this thread may */
        undo(c);
    return r;
}

static void destroy(struct ke_cloud *c)
{
    kei_timer_fini(&c->health);
    kei_timer_fini(&c->reload);
    kei_timer_fini(&c->bind);
    kei_map_free(&c->peers);
    kei_map_free(&c->refs);
    kei_map_free(&c->models);
    kei_map_free(&c->bindings);
    kei_arena_free(&c->arena);
    kei_free(kei_ctx_alloc(c->ctx), c);
}

static void on_end(struct kei_defer *d)
{
    struct ke_cloud *c = KEI_OF(d, struct ke_cloud, end);
    if (c->state != KEI_CLOUD_STOPPED)
        close_all(c);
    if (c->freed)
        destroy(c);
}

void kei_host_enter(struct ke_cloud *c)
{
    c->depth++;
}

void kei_host_leave(struct ke_cloud *c)
{
    if (--c->depth == 0 && c->ending)
        kei_defer(c->ctx, &c->end, on_end);
}

static void stop(void *user)
{
    struct ke_cloud *c = user;
    if (c->state == KEI_CLOUD_STOPPED)
        return;
    if (c->depth > 0)
        c->ending = true; /* the host is inside of a call of ours */
    else
        close_all(c);
}

void ke_cloud_stop(struct ke_cloud *c)
{
    if (c)
        (void)kei_ctx_call(c->ctx, stop, c);
}

void ke_cloud_free(struct ke_cloud *c)
{
    if (!c)
        return;
    ke_cloud_stop(c);
    if (c->depth > 0) {
        c->ending = c->freed = true;
        return;
    }
    kei_defer_cancel(&c->end);
    destroy(c);
}

/* ---- questions of the host ---- */

static int running(struct ke_cloud *c)
{
    if (c->state == KEI_CLOUD_LOADING || c->state == KEI_CLOUD_LOADED)
        return 0;
    return kei_fail(c->ctx, KE_ESTATE, "the cloud does not run: start it first");
}

int ke_cloud_token(struct ke_cloud *c, struct ke_buf *out)
{
    if (!c || !out)
        return KE_EINVAL;
    int r = running(c);
    if (r < 0)
        return r;
    if (!out->alloc)
        kei_buf_init(out, kei_ctx_alloc(c->ctx));
    struct ke_buf token = {0}; /* half of one would look like one */
    kei_buf_init(&token, kei_ctx_alloc(c->ctx));
    r = kei_pki_token(&c->pki, c->config.token_hours, &token);
    if (r == 0)
        kei_buf_addv(out, kei_buf_str(&token));
    if (r == 0 && !kei_buf_ok(out))
        r = kei_fail(c->ctx, KE_ENOMEM, "out of memory for a token");
    ke_buf_free(&token);
    return r;
}

int ke_cloud_ports(struct ke_cloud *c, uint32_t *ret_tunnel, uint32_t *ret_cert)
{
    if (!c || !ret_tunnel || !ret_cert)
        return KE_EINVAL;
    int r = running(c);
    if (r < 0)
        return r;
    *ret_tunnel = kei_http_server_port(c->tunnel);
    *ret_cert = kei_certsrv_port(c->certsrv);
    return 0;
}

int ke_cloud_nodes(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_node_info *n),
                   void *user)
{
    struct ke_cloud_node_info info;
    struct kei_object *o;
    if (!c || !fn)
        return KE_EINVAL;
    int r = running(c);
    if (r < 0)
        return r;
    kei_host_enter(c);
    for (size_t it = 0; c->objects && (o = kei_objects_next(c->objects, "node", &it));) {
        struct kei_arena a;
        kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
        kei_info_node(c, o, &a, &info);
        fn(user, &info);
        kei_arena_free(&a);
    }
    kei_host_leave(c);
    return 0;
}

int ke_cloud_devices(struct ke_cloud *c,
                     void (*fn)(void *user, const struct ke_cloud_device_info *d), void *user)
{
    struct ke_cloud_device_info info;
    struct kei_object *o;
    if (!c || !fn)
        return KE_EINVAL;
    int r = running(c);
    if (r < 0)
        return r;
    kei_host_enter(c);
    for (size_t it = 0;
         r == 0 && c->objects && (o = kei_objects_next(c->objects, "device", &it));) {
        struct kei_arena a;
        kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
        r = kei_info_device(c, o, &a, &info);
        if (r == 0)
            fn(user, &info);
        kei_arena_free(&a);
    }
    kei_host_leave(c);
    return r;
}

int ke_cloud_pods(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_pod_info *p),
                  void *user)
{
    struct ke_cloud_pod_info info;
    struct kei_object *o;
    if (!c || !fn)
        return KE_EINVAL;
    int r = running(c);
    if (r < 0)
        return r;
    kei_host_enter(c);
    for (size_t it = 0; c->objects && (o = kei_objects_next(c->objects, "pod", &it));) {
        struct kei_arena a;
        kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
        kei_info_pod(o, &a, &info);
        fn(user, &info);
        kei_arena_free(&a);
    }
    kei_host_leave(c);
    return 0;
}
