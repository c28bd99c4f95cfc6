/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud end put together: configuration, start in order (folder, identity, sockets, then what
 * the store holds), stop. Requests of nodes are refused until everything is read. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cloud/cloud_priv.h"

#define HEALTH_MS 5000

void ke_cloud_config_init(struct ke_cloud_config *c, size_t size)
{
    if (!c || size < sizeof c->size)
        return;
    memset(c, 0, size);
    c->size = size;
}

/* Copies what is kept and fills the defaults. */
static int copy_config(struct ke_cloud *c, const struct ke_cloud_config *from)
{
    struct ke_cloud_config *to = &c->config;
    const char **strings[] = {&to->data, &to->manifests, &to->listen};
    int r = kei_abi_in(to, sizeof *to, from, offsetof(struct ke_cloud_config, manifests),
                       "ke_cloud_config", kei_err(c->ctx));
    if (r < 0)
        return r;
    if (!to->data || !to->data[0])
        return kei_fail(c->ctx, KE_EINVAL, "ke_cloud_config.data is missing");
    if (!to->listen)
        to->listen = "0.0.0.0";
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        if (*strings[i] && !(*strings[i] = kei_arena_strdup(&c->arena, kei_str(*strings[i]))))
            return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the configuration");
    const char **names = kei_arena_array(&c->arena, (size_t)to->n_advertise + 1, sizeof *names);
    for (uint32_t i = 0; names && i < to->n_advertise; i++)
        if (!(names[i] = kei_arena_strdup(&c->arena, kei_str(to->advertise[i]))))
            names = NULL;
    if (!names)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the configuration");
    to->advertise = names;
    const struct {
        uint32_t *at, dflt;
    } numbers[] = {{&to->tunnel_port, 10000},     {&to->cert_port, 10002}, {&to->max_nodes, 10000},
                   {&to->max_message, 32u << 20}, {&to->cert_days, 365},   {&to->token_hours, 24}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (*numbers[i].at == 0)
            *numbers[i].at = numbers[i].dflt;
    if ((to->tunnel_port > 65535 && to->tunnel_port != KE_PORT_ANY) ||
        (to->cert_port > 65535 && to->cert_port != KE_PORT_ANY))
        return kei_fail(c->ctx, KE_EINVAL, "ke_cloud_config: a port is above 65535");
    return 0;
}

/* Nodes whose heartbeat stopped are told as Unknown. */
static void on_health(struct kei_timer *t)
{
    struct ke_cloud *c = KEI_OF(t, struct ke_cloud, health);
    struct kei_object *o;
    if (c->ops.node)
        for (size_t it = 0; (o = kei_objects_next(c->objects, "node", &it));) {
            const struct kei_peer *p = kei_peer_get(c, o->name, false);
            int64_t silent = p ? ke_ctx_real_ms(c->ctx) - p->heartbeat_ms : 0;
            if (p && silent > 40000 && silent <= 40000 + HEALTH_MS)
                kei_info_node(c, o, false, NULL, NULL);
        }
    (void)kei_timer_in(t, HEALTH_MS);
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
    kei_map_init(&c->peers, kei_ctx_alloc(ctx), kei_ctx_random64(ctx));
    kei_timer_init(ctx, &c->health, on_health);
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

static void on_peers(struct ke_cloud *c, int status)
{
    if (status < 0) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "the deliveries were not read: %s",
                ke_ctx_error(c->ctx));
        return;
    }
    c->loaded = true;
    struct kei_object *o;
    /* what is not acknowledged yet is due again */
    for (size_t it = 0; (o = kei_objects_next(c->objects, "pod", &it));) {
        struct kei_arena a;
        kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
        const char *node = kei_pod_node(o, &a);
        struct kei_peer *p = node[0] ? kei_peer_get(c, node, true) : NULL;
        if (p)
            kei_deliver(p, o, true);
        kei_arena_free(&a);
    }
    if (c->config.manifests && kei_manifests_new(&c->manifests, c) < 0) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "%s", ke_ctx_error(c->ctx));
        if (c->ops.manifest_error)
            c->ops.manifest_error(c->user, ke_ctx_error(c->ctx));
    }
}

static void on_objects(void *user, int status)
{
    struct ke_cloud *c = user;
    if (status == 0)
        status = kei_peers_load(c, on_peers);
    if (status < 0)
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "the objects were not read: %s",
                ke_ctx_error(c->ctx));
}

static int open_store(struct ke_cloud *c)
{
    static const char *const first[] = {"ack", "o/node", "o/pod", NULL};
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

static void close_all(struct ke_cloud *c)
{
    c->running = false;
    c->loaded = false;
    kei_timer_stop(&c->health);
    kei_manifests_free(c->manifests);
    kei_peers_free(c);
    kei_map_init(&c->peers, kei_ctx_alloc(c->ctx), kei_ctx_random64(c->ctx));
    kei_http_server_free(c->tunnel);
    kei_certsrv_free(c->certsrv);
    ke_store_close(c->store); /* its callbacks still use the objects */
    kei_objects_free(c->objects);
    kei_pki_close(&c->pki);
    c->manifests = NULL;
    c->tunnel = NULL;
    c->certsrv = NULL;
    c->store = NULL;
    c->objects = NULL;
}

static void start(void *user)
{
    struct ke_cloud *c = user;
    static const struct kei_objects_ops ops = {.changed = kei_cloud_changed};
    int r = open_store(c);
    if (r == 0)
        r = kei_pki_open(&c->pki, c->ctx, &c->config);
    if (r == 0)
        r = kei_objects_new(&c->objects, c->ctx, c->store, &ops, c);
    if (r == 0)
        r = kei_certsrv_new(&c->certsrv, c);
    if (r == 0)
        r = kei_sessions_start(c);
    if (r == 0)
        r = kei_objects_load(c->objects, on_objects, c);
    if (r == 0)
        r = kei_timer_in(&c->health, HEALTH_MS);
    c->running = r == 0;
    c->start_status = r;
    if (r < 0)
        close_all(c);
}

int ke_cloud_start(struct ke_cloud *c)
{
    if (!c)
        return KE_EINVAL;
    if (c->running)
        return kei_fail(c->ctx, KE_ESTATE, "the cloud runs already");
    int r = kei_ctx_call(c->ctx, start, c);
    if (r == 0)
        r = c->start_status;
    return r < 0 ? r : kei_ctx_thread_start(c->ctx);
}

static void stop(void *user)
{
    struct ke_cloud *c = user;
    if (c->running)
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
    kei_timer_fini(&c->health);
    kei_map_free(&c->peers);
    kei_arena_free(&c->arena);
    kei_free(kei_ctx_alloc(c->ctx), c);
}

int ke_cloud_token(struct ke_cloud *c, struct ke_buf *out)
{
    if (!c || !out)
        return KE_EINVAL;
    if (!c->running)
        return kei_fail(c->ctx, KE_ESTATE, "the cloud does not run: start it first");
    if (!out->alloc)
        kei_buf_init(out, kei_ctx_alloc(c->ctx));
    return kei_pki_token(&c->pki, c->config.token_hours, out);
}

int ke_cloud_ports(struct ke_cloud *c, uint32_t *ret_tunnel, uint32_t *ret_cert)
{
    if (!c || !ret_tunnel || !ret_cert)
        return KE_EINVAL;
    if (!c->running)
        return kei_fail(c->ctx, KE_ESTATE, "the cloud does not run: start it first");
    *ret_tunnel = kei_http_server_port(c->tunnel);
    *ret_cert = kei_certsrv_port(c->certsrv);
    return 0;
}

int ke_cloud_nodes(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_node_info *n),
                   void *user)
{
    struct kei_object *o;
    if (!c || !fn)
        return KE_EINVAL;
    if (!c->running)
        return kei_fail(c->ctx, KE_ESTATE, "the cloud does not run: start it first");
    for (size_t it = 0; (o = kei_objects_next(c->objects, "node", &it));)
        kei_info_node(c, o, false, fn, user);
    return 0;
}

int ke_cloud_pods(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_pod_info *p),
                  void *user)
{
    struct ke_cloud_pod_info info;
    struct kei_object *o;
    struct kei_arena a;
    if (!c || !fn)
        return KE_EINVAL;
    if (!c->running)
        return kei_fail(c->ctx, KE_ESTATE, "the cloud does not run: start it first");
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    for (size_t it = 0; (o = kei_objects_next(c->objects, "pod", &it));) {
        kei_info_pod(o, &a, &info);
        fn(user, &info);
    }
    kei_arena_free(&a);
    return 0;
}
