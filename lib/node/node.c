/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ke_node_*: puts store, router, tunnel, meta, pods and duties together and takes them apart. All
 * of it lives on the loop's thread; the any-thread calls marshal with kei_ctx_call.
 */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "crypto/crypto.h"
#include "meta/meta.h"
#include "node/bus.h"
#include "node/config.h"
#include "node/devices.h"
#include "node/doubt.h"
#include "node/duty.h"
#include "node/folder.h"
#include "pod/pod.h"
#include "store/state.h"
#include "tunnel/hub.h"

struct ke_node {
    struct ke_ctx *ctx;
    struct kei_arena arena;
    struct ke_node_config config;
    struct ke_node_ops ops;
    struct ke_runtime_ops runtime;
    bool has_runtime;
    void *user;

    bool running, connected, ready, settled, freed;
    bool doubt;     /* the store may have lost pods: the folder is marked so */
    bool lost_more; /* while the node ran: it counts at the next start */
    int start_status;
    struct ke_store *store;
    struct ke_router *router;
    struct ke_tunnel *tunnel; /* NULL: no cloud configured */
    struct kei_hub *hub;
    struct kei_meta_manager *meta;
    struct kei_pods *pods;
    struct kei_duty *duty;
    struct kei_node_bus *bus;         /* NULL: none configured */
    struct kei_node_devices *devices; /* the same */
    char address[64];
    struct kei_defer tell; /* the host is told of changes once per turn */
};

/* ---- state ---- */

static uint32_t state_of(const struct ke_node *n)
{
    if (!n->running)
        return KE_NODE_STOPPED;
    if (n->connected)
        return n->ready ? KE_NODE_READY : KE_NODE_CONNECTED;
    return n->settled ? KE_NODE_OFFLINE : KE_NODE_STARTING;
}

/* The disk's trouble comes first: what the cloud says meanwhile may be lost. */
static void last_error(const struct ke_node *n, struct ke_node_status *st)
{
    const struct ke_error *disk = n->store ? kei_store_trouble(n->store) : NULL;
    const char *link = st->tunnel.last_error_text ? st->tunnel.last_error_text : "";
    struct ke_error err = KE_ERROR_INIT;
    if (disk && disk->code)
        (void)kei_error(&err, disk->code, "%s%s%s", disk->text, *link ? "; " : "", link);
    else
        (void)kei_error(&err, st->tunnel.last_error, "%s", link);
    st->last_error = err.code;
    memcpy(st->error_text, err.text, sizeof st->error_text);
}

static void snapshot(struct ke_node *n, struct ke_node_status *st)
{
    memset(st, 0, sizeof *st);
    st->size = sizeof *st;
    st->state = state_of(n);
    st->tunnel.size = sizeof st->tunnel;
    st->tunnel.next_retry_ms = -1;
    st->tunnel.connected_ms = -1;
    if (n->pods)
        kei_pods_count(n->pods, &st->pods, &st->pods_running);
    if (n->pods)
        st->strays = kei_pods_held(n->pods);
    if (n->tunnel && ke_tunnel_status(n->tunnel, &st->tunnel, sizeof st->tunnel) < 0)
        st->tunnel.last_error_text = ""; /* only with a wrong size */
    last_error(n, st);
}

static void on_tell(struct kei_defer *d)
{
    struct ke_node *n = KEI_OF(d, struct ke_node, tell);
    struct ke_node_status st;
    if (!n->ops.state || n->freed)
        return;
    snapshot(n, &st);
    st.tunnel.last_error_text = st.error_text;
    n->ops.state(n->user, &st);
}

static void changed(struct ke_node *n)
{
    if (n->ops.state && !n->freed)
        kei_defer(n->ctx, &n->tell, on_tell);
}

/* ---- what the parts tell ---- */

static void on_disk(void *user)
{
    changed(user);
}

static uint32_t dialect_of(void *user)
{
    const struct ke_node *n = user;
    return kei_tunnel_dialect(n->tunnel);
}

static bool is_connected(void *user)
{
    const struct ke_node *n = user;
    return kei_tunnel_connected(n->tunnel);
}

static void set_address(struct ke_node *n)
{
    const char *own = kei_tunnel_local_ip(n->tunnel);
    if (n->config.node_ip)
        snprintf(n->address, sizeof n->address, "%s", n->config.node_ip);
    else if (own[0])
        snprintf(n->address, sizeof n->address, "%s", own);
    else if (!n->address[0])
        (void)kei_sysinfo_address(n->address, sizeof n->address, n->config.cloud_host);
    if (n->pods)
        kei_pods_set_node_ip(n->pods, n->address);
}

static void on_tunnel_state(void *user, const struct ke_tunnel_status *st)
{
    struct ke_node *n = user;
    bool up = st->state == KE_TUNNEL_CONNECTED;
    if (n->running && up != n->connected) {
        n->connected = up;
        n->ready = false;
        if (up)
            set_address(n);
        kei_duty_connected(n->duty, up);
        kei_node_bus_connection(n->bus, up, kei_tunnel_dialect(n->tunnel));
    }
    changed(n);
}

static void on_ready(void *user)
{
    struct ke_node *n = user;
    if (n->ready)
        return;
    n->ready = true;
    changed(n);
}

static void on_created(void *user)
{
    struct ke_node *n = user;
    kei_pods_retell(n->pods);
}

static void on_pod(void *user, const struct ke_pod_info *p)
{
    struct ke_node *n = user;
    if (n->ops.pod && !n->freed)
        n->ops.pod(n->user, p);
    changed(n);
}

static void on_runtime(void *user)
{
    struct ke_node *n = user;
    if (n->duty)
        kei_duty_changed(n->duty);
}

static void on_settled(void *user)
{
    struct ke_node *n = user;
    n->settled = true;
    changed(n);
}

static void on_sure(void *user)
{
    struct ke_node *n = user;
    if (n->doubt && !n->lost_more) {
        if (kei_doubt_clear(kei_ctx_io(n->ctx), n->config.data, kei_err(n->ctx)) < 0)
            kei_log(n->ctx, KE_LOG_WARN, "node", "strays are kept at the next start, too: %s",
                    ke_ctx_error(n->ctx));
        n->doubt = false;
    }
    changed(n);
}

static void on_salvaged(void *user, uint64_t saved, uint64_t lost, const char *text)
{
    struct ke_node *n = user;
    (void)saved;
    (void)text; /* logged by the store */
    if (lost == 0)
        return;
    n->doubt = true;
    /* On this thread: once the store knows that it was told, it does not tell it again. */
    if (kei_doubt_mark(kei_ctx_io(n->ctx), n->config.data, kei_err(n->ctx)) < 0)
        kei_log(n->ctx, KE_LOG_ERROR, "node",
                "the store has lost rows, and that could not be noted: %s", ke_ctx_error(n->ctx));
    kei_tunnel_store_lost(n->tunnel);
    if (n->running)
        n->lost_more = !kei_pods_hold(n->pods) || n->lost_more;
}

static void runtime_facts(void *user, struct kei_node_facts *f)
{
    struct ke_node *n = user;
    struct kei_runtime_state rs;
    kei_pods_runtime(n->pods, &rs);
    f->runtime_name = rs.name;
    f->runtime_version = rs.version;
    f->runtime_ready = rs.ready || strcmp(rs.name, "none") == 0;
    f->runtime_text = rs.text;
}

/* ---- start and stop ---- */

static int open_store(struct ke_node *n)
{
    static const char *const first[] = {"o/pod", "pod", "o/podstatus", NULL};
    struct ke_store_config sc;
    char folder[4096];
    if (!kei_path_join(folder, sizeof folder, n->config.data, "store"))
        return kei_fail(n->ctx, KE_ELIMIT, "path of the data folder is too long");
    int r = kei_folder_make(kei_ctx_io(n->ctx), n->config.data, 0700, kei_err(n->ctx));
    if (r == 0)
        r = kei_node_folder_guard(n->ctx, n->config.data);
    if (r < 0)
        return r;
    r = kei_doubt_look(kei_ctx_io(n->ctx), n->config.data, kei_err(n->ctx));
    if (r == 0)
        r = kei_doubt_marked(kei_ctx_io(n->ctx), n->config.data, kei_err(n->ctx));
    if (r < 0)
        return r;
    n->doubt = r > 0;
    n->lost_more = false;
    ke_store_config_init(&sc, sizeof sc);
    sc.folder = folder;
    sc.first = first;
    sc.salvaged = on_salvaged;
    sc.user = n;
    r = ke_store_open(&n->store, n->ctx, &sc);
    if (r == 0)
        kei_store_watch(n->store, on_disk, n);
    return r;
}

/* A data folder belongs to one node: under another name its workloads would be ended as unknown. */
static int check_owner(struct ke_node *n)
{
    const struct ke_io *io = kei_ctx_io(n->ctx);
    struct ke_buf owner = {0};
    char path[4096];
    if (!kei_path_join(path, sizeof path, n->config.data, "node"))
        return kei_fail(n->ctx, KE_ELIMIT, "path of the data folder is too long");
    kei_buf_init(&owner, kei_ctx_alloc(n->ctx));
    int r = kei_file_read(io, path, 1024, &owner, kei_err(n->ctx));
    if (r == KE_ENOTFOUND)
        r = kei_file_replace(io, path, n->config.name, strlen(n->config.name), 0600,
                             kei_err(n->ctx));
    else if (r == 0 && !kei_str_is(kei_buf_str(&owner), n->config.name))
        r = kei_fail(
            n->ctx, KE_EBUSY,
            "data folder %s belongs to node %.*s, not to %s: use that name, another folder, "
            "or reset this one",
            n->config.data, KEI_FMT(kei_buf_str(&owner)), n->config.name);
    ke_buf_free(&owner);
    return r;
}

/* A malformed token would be tried for ever. It does not matter once there is a certificate. */
static int check_token(struct ke_node *n)
{
    const struct ke_node_config *c = &n->config;
    const struct ke_io *io = kei_ctx_io(n->ctx);
    struct ke_io_stat st = {.size = sizeof st};
    struct kei_token token;
    char path[4096];
    if (!c->cloud_host || !c->token || !c->token[0] || c->cert_file ||
        (kei_path_join(path, sizeof path, c->data, "identity/current.pem") &&
         io->stat(io->user, path, &st) == 0))
        return 0;
    struct ke_error why = KE_ERROR_INIT;
    if (kei_token_parse(&token, kei_str(c->token), &why) == 0)
        return 0;
    return kei_fail(n->ctx, KE_ETOKEN,
                    "node %s cannot join with its token: %s (the cloud %s gives a new one)",
                    c->name, why.text, c->cloud_host);
}

static int make_tunnel(struct ke_node *n)
{
    struct ke_tunnel_config tc;
    const struct ke_node_config *c = &n->config;
    static const struct ke_tunnel_ops ops = {.size = sizeof ops, .state = on_tunnel_state};
    if (!c->cloud_host)
        return 0;
    ke_tunnel_config_init(&tc, sizeof tc);
    tc.node_name = c->name;
    tc.host = c->cloud_host;
    tc.project_id = c->project_id;
    tc.token = c->token;
    tc.folder = c->data;
    tc.ca_file = c->ca_file;
    tc.cert_file = c->cert_file;
    tc.key_file = c->key_file;
    tc.proxy_url = c->proxy_url;
    tc.tunnel_port = c->tunnel_port;
    tc.cert_port = c->cert_port;
    tc.dialect = c->dialect;
    tc.heartbeat_ms = c->heartbeat_ms;
    tc.retry_min_ms = c->retry_min_ms;
    tc.retry_max_ms = c->retry_max_ms;
    tc.store = n->store;
    int r = ke_tunnel_new(&n->tunnel, n->ctx, &tc, &ops, n);
    if (r == 0 && n->doubt) /* also lost while it was closed */
        kei_tunnel_store_lost(n->tunnel);
    return r < 0 ? r : kei_hub_new(&n->hub, n->ctx, n->router, n->tunnel);
}

static int make_pods(struct ke_node *n)
{
    const struct ke_node_config *c = &n->config;
    struct kei_pods_config pc = {
        .node_name = c->name,
        .node_ip = n->address,
        .data = c->data,
        .log_folder = c->log_folder,
        .router = n->router,
        .store = n->store,
        .dialect = dialect_of,
        .runtime = n->has_runtime ? &n->runtime : NULL,
        .runtime_user = n->ops.runtime_user,
        .runtime_name = c->runtime,
        .process_allow = c->process_allow,
        .n_process_allow = c->n_process_allow,
        .host_path_allow = c->host_path_allow,
        .n_host_path_allow = c->n_host_path_allow,
        .max_pods = c->max_pods,
        .process_user = c->process_user,
        .shim = c->shim,
        .hold = n->doubt,
        .hold_ms = c->stray_ms,
        .ops = {.pod = on_pod, .runtime = on_runtime, .settled = on_settled, .sure = on_sure},
        .user = n,
    };
    return kei_pods_new(&n->pods, n->ctx, &pc);
}

static int64_t newest(void *user)
{
    const struct ke_node *n = user;
    return n->meta ? kei_meta_newest(n->meta) : -1;
}

static int make_parts(struct ke_node *n)
{
    struct kei_meta_config mc = {
        .node_name = n->config.name, .dialect = dialect_of, .connected = is_connected, .user = n};
    struct kei_duty_config dc = {.node = &n->config,
                                 .address = n->address,
                                 .dialect = dialect_of,
                                 .runtime = runtime_facts,
                                 .ready = on_ready,
                                 .created = on_created,
                                 .user = n};
    int r = ke_router_new(&n->router, n->ctx, NULL);
    if (r == 0)
        r = make_tunnel(n);
    if (r == 0)
        r = kei_meta_new(&n->meta, n->ctx, n->router, n->store, &mc);
    kei_tunnel_tell_newest(n->tunnel, newest, n);
    if (!(n->config.flags & KE_NODE_NO_DEVICES))
        kei_tunnel_offer_merge(n->tunnel);
    set_address(n);
    if (r == 0)
        r = make_pods(n);
    if (r == 0)
        r = kei_duty_new(&n->duty, n->ctx, n->router, &dc);
    if (r == 0)
        r = kei_node_bus_new(&n->bus, n->ctx, &n->config, n->router, n->store);
    struct kei_node_devices_config vc = {.node = &n->config,
                                         .ops = &n->ops,
                                         .ops_user = n->user,
                                         .router = n->router,
                                         .store = n->store,
                                         .dialect = dialect_of,
                                         .user = n};
    return r < 0 ? r : kei_node_devices_new(&n->devices, n->ctx, &vc);
}

static void take_apart(struct ke_node *n)
{
    n->running = false;
    n->connected = n->ready = n->settled = false;
    kei_node_devices_free(n->devices);
    kei_node_bus_free(n->bus);
    kei_pods_free(n->pods);
    kei_duty_free(n->duty);
    kei_meta_free(n->meta);
    kei_hub_free(n->hub);
    if (n->tunnel)
        ke_tunnel_stop(n->tunnel);
    ke_tunnel_free(n->tunnel);
    ke_router_free(n->router);
    ke_store_close(n->store);
    n->devices = NULL;
    n->bus = NULL;
    n->pods = NULL;
    n->duty = NULL;
    n->meta = NULL;
    n->hub = NULL;
    n->tunnel = NULL;
    n->router = NULL;
    n->store = NULL;
}

/* After a failed start: as before it, and the reason stays in the context. */
static void undo(struct ke_node *n)
{
    struct ke_error err = *kei_err(n->ctx);
    take_apart(n);
    kei_defer_cancel(&n->tell);
    *kei_err(n->ctx) = err;
}

static void start(void *user)
{
    struct ke_node *n = user;
    int r = open_store(n);
    if (r == 0)
        r = check_owner(n);
    if (r == 0)
        r = check_token(n);
    if (r == 0)
        r = make_parts(n);
    n->running = r == 0;
    /* Workloads first: their reads of the store stand before the tunnel's. */
    if (r == 0)
        r = kei_pods_start(n->pods);
    if (r == 0)
        r = kei_node_devices_start(n->devices);
    if (r == 0 && n->tunnel)
        r = ke_tunnel_start(n->tunnel);
    n->start_status = r;
    if (r < 0)
        undo(n);
    else
        changed(n);
}

int ke_node_new(struct ke_node **ret, struct ke_ctx *ctx, const struct ke_node_config *c,
                const struct ke_node_ops *ops, void *user)
{
    if (!ret || !ctx || !c)
        return ctx ? kei_fail(ctx, KE_EINVAL, "ke_node_new: an argument is NULL") : KE_EINVAL;
    struct ke_node *n = kei_zalloc(kei_ctx_alloc(ctx), sizeof *n);
    if (!n)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for node %s", c->name ? c->name : "");
    n->ctx = ctx;
    n->user = user;
    kei_arena_init(&n->arena, kei_ctx_alloc(ctx), 0);
    int r = kei_node_config_copy(&n->config, &n->arena, c, kei_err(ctx));
    if (r == 0 && ops)
        r = kei_abi_in(&n->ops, sizeof n->ops, ops, sizeof(size_t), "ke_node_ops", kei_err(ctx));
    if (r == 0 && n->ops.runtime) {
        n->has_runtime = true;
        r = kei_abi_in(&n->runtime, sizeof n->runtime, n->ops.runtime,
                       offsetof(struct ke_runtime_ops, container_remove), "ke_runtime_ops",
                       kei_err(ctx));
        n->ops.runtime = NULL; /* the copy counts */
    }
    if (r < 0) {
        ke_node_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

int ke_node_start(struct ke_node *n)
{
    if (!n)
        return KE_EINVAL;
    if (n->running)
        return kei_fail(n->ctx, KE_ESTATE, "node %s runs already", n->config.name);
    int r = kei_ctx_call(n->ctx, start, n);
    if (r == 0)
        r = n->start_status;
    if (r == 0)
        r = kei_ctx_thread_start(n->ctx);
    if (r < 0 && n->running) /* nothing runs the loop: this thread may */
        undo(n);
    return r;
}

static void stop(void *user)
{
    struct ke_node *n = user;
    if (!n->running)
        return;
    take_apart(n);
    changed(n);
}

/* In a turn the parts may be on the stack: wait for the next one. */
static void stop_later(void *user)
{
    stop(user);
}

void ke_node_stop(struct ke_node *n)
{
    if (!n)
        return;
    if (kei_ctx_on_loop(n->ctx) && kei_ctx_in_turn(n->ctx)) {
        if (ke_ctx_post(n->ctx, stop_later, n, NULL) < 0)
            kei_log(n->ctx, KE_LOG_ERROR, "node", "out of memory: node %s was not stopped",
                    n->config.name);
        return;
    }
    (void)kei_ctx_call(n->ctx, stop, n);
}

static void free_now(void *user)
{
    struct ke_node *n = user;
    stop(n);
    kei_defer_cancel(&n->tell);
    kei_arena_free(&n->arena);
    kei_free(kei_ctx_alloc(n->ctx), n);
}

void ke_node_free(struct ke_node *n)
{
    if (!n)
        return;
    n->freed = true;
    if (kei_ctx_on_loop(n->ctx) && kei_ctx_in_turn(n->ctx)) {
        if (ke_ctx_post(n->ctx, free_now, n, NULL) < 0)
            kei_log(n->ctx, KE_LOG_ERROR, "node", "out of memory: node %s was not freed",
                    n->config.name);
        return;
    }
    (void)kei_ctx_call(n->ctx, free_now, n);
}

/* ---- snapshots, any thread ---- */

struct state_call {
    struct ke_node *node;
    struct ke_node_status st;
};

static void read_state(void *user)
{
    struct state_call *c = user;
    snapshot(c->node, &c->st);
}

int ke_node_state(struct ke_node *n, struct ke_node_status *ret, size_t size)
{
    struct state_call c = {.node = n};
    struct ke_error err = KE_ERROR_INIT;
    if (!n || !ret)
        return KE_EINVAL;
    int r = kei_ctx_call(n->ctx, read_state, &c);
    /* the text lives in the caller's own copy */
    bool text = size >= offsetof(struct ke_node_status, error_text) + sizeof ret->error_text;
    c.st.tunnel.last_error_text = text ? ret->error_text : "";
    if (r == 0)
        r = kei_abi_out(ret, size, &c.st, sizeof c.st, offsetof(struct ke_node_status, tunnel),
                        "ke_node_status", &err);
    return r;
}

struct pods_call {
    struct ke_node *node;
    struct kei_arena arena;
    struct ke_pod_info *list;
    uint32_t n, cap;
    bool failed;
};

static void collect_pod(void *user, const struct ke_pod_info *p)
{
    struct pods_call *c = user;
    if (c->n == c->cap) {
        c->failed = true;
        return;
    }
    struct ke_pod_info *to = &c->list[c->n];
    *to = *p;
    to->pod_namespace = kei_arena_strdup(&c->arena, kei_str(p->pod_namespace));
    to->name = kei_arena_strdup(&c->arena, kei_str(p->name));
    to->uid = kei_arena_strdup(&c->arena, kei_str(p->uid));
    to->phase = kei_arena_strdup(&c->arena, kei_str(p->phase));
    to->reason = kei_arena_strdup(&c->arena, kei_str(p->reason));
    to->message = kei_arena_strdup(&c->arena, kei_str(p->message));
    if (!to->pod_namespace || !to->name || !to->uid || !to->phase || !to->reason || !to->message)
        c->failed = true;
    else
        c->n++;
}

static void collect(void *user)
{
    struct pods_call *c = user;
    uint32_t running = 0;
    if (!c->node->pods)
        return;
    kei_pods_count(c->node->pods, &c->cap, &running);
    c->list = kei_arena_array(&c->arena, (size_t)c->cap + 1, sizeof *c->list);
    c->failed = !c->list;
    if (c->list)
        kei_pods_each(c->node->pods, collect_pod, c);
}

int ke_node_pods(struct ke_node *n, void (*fn)(void *user, const struct ke_pod_info *p), void *user)
{
    struct pods_call c = {.node = n};
    if (!n || !fn)
        return KE_EINVAL;
    kei_arena_init(&c.arena, kei_ctx_alloc(n->ctx), 0);
    int r = kei_ctx_call(n->ctx, collect, &c);
    if (r == 0 && c.failed)
        r = KE_ENOMEM;
    for (uint32_t i = 0; r == 0 && i < c.n; i++)
        fn(user, &c.list[i]);
    kei_arena_free(&c.arena);
    return r;
}

struct mappers_call {
    struct ke_node *node;
    struct kei_node_mappers found;
};

static void collect_mappers(void *user)
{
    struct mappers_call *c = user;

    kei_node_devices_mappers(c->node->devices, &c->found);
}

int ke_node_mappers(struct ke_node *n,
                    void (*fn)(void *user, const struct ke_node_mapper_info *m), void *user,
                    struct ke_error *reterr)
{
    struct mappers_call c = {.node = n};

    if (!n || !fn)
        return KE_EINVAL;
    kei_arena_init(&c.found.arena, kei_ctx_alloc(n->ctx), 0);
    int r = kei_ctx_call(n->ctx, collect_mappers, &c);
    for (uint32_t i = 0; r == 0 && i < c.found.n; i++)
        fn(user, &c.found.list[i]);
    if (r == 0 && c.found.error.code < 0)
        r = kei_error(reterr, c.found.error.code, "%s", c.found.error.text);
    kei_arena_free(&c.found.arena);
    return r;
}
