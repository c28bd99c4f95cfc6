/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pod engine's entry: making and ending it, messages of the router, its list of pods. Work on a
 * pod is put off to the end of the turn, so that many messages cause one look. Loop thread.
 */
#include "pod/engine.h"

#include <stdio.h>

#define REPORT_RETRY_MS 500

/* ---- one pod's memory ---- */

void kei_pod_ref(struct kei_pod *p)
{
    p->refs++;
}

void kei_pod_unref(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    if (--p->refs > 0)
        return;
    kei_prep_drop(p);
    kei_list_remove(&p->kick);
    kei_list_remove(&p->dirty);
    kei_timer_fini(&p->timer);
    kei_pod_object_unref(ps, p->object);
    kei_free(ps->alloc, p->st.cts);
    kei_free(ps->alloc, p->pulled);
    kei_free(ps->alloc, p->key);
    kei_free(ps->alloc, p->sent);
    kei_free(ps->alloc, p->note);
    kei_free(ps->alloc, p);
    kei_pods_unref(ps);
}

void kei_pod_drop(struct kei_pod *p)
{
    if (p->gone)
        return;
    p->gone = true;
    kei_list_remove(&p->link);
    kei_list_remove(&p->kick);
    kei_list_remove(&p->dirty);
    kei_timer_stop(&p->timer);
    kei_map_remove(&p->ps->by_uid, kei_str(p->uid));
    kei_pod_unref(p);
}

static void on_timer(struct kei_timer *t)
{
    kei_pod_kick(KEI_OF(t, struct kei_pod, timer));
}

void kei_pod_object_unref(struct kei_pods *ps, struct kei_pod_object *o)
{
    if (!o || --o->refs > 0)
        return;
    kei_arena_free(&o->arena);
    kei_free(ps->alloc, o->json);
    kei_free(ps->alloc, o);
}

int kei_pod_object_read(struct kei_pods *ps, struct ke_str json, struct kei_pod_object **ret)
{
    struct kei_pod_object *o = kei_zalloc(ps->alloc, sizeof *o);
    if (!o)
        return kei_fail(ps->ctx, KE_ENOMEM, "out of memory for a pod");
    o->refs = 1;
    kei_arena_init(&o->arena, ps->alloc, 0);
    o->json = kei_strndup(ps->alloc, json.p, json.n);
    int r = o->json
                ? kei_podspec_read(&o->spec, kei_strn(o->json, json.n), &o->arena, kei_err(ps->ctx))
                : kei_fail(ps->ctx, KE_ENOMEM, "out of memory for a pod");
    if (r < 0)
        kei_pod_object_unref(ps, o);
    else
        *ret = o;
    return r;
}

void kei_pod_object_set(struct kei_pod *p, struct kei_pod_object *o)
{
    kei_pod_object_unref(p->ps, p->object);
    p->object = o;
    p->spec = &o->spec;
}

/* What the cloud knows of it already, should this node have lost its memory. */
static void read_past(struct kei_pod *p)
{
    int64_t start = 0;
    if (!p->spec->status.p)
        return;
    kei_status_read(p->spec->status, &p->conds, &start);
    if (start)
        p->start_ms = start;
    enum kei_phase ph = kei_status_phase(p->spec->status);
    p->st.final = ph == KEI_PHASE_SUCCEEDED || ph == KEI_PHASE_FAILED;
    p->st.succeeded = ph == KEI_PHASE_SUCCEEDED;
}

static int fill(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    const struct kei_meta *m = &p->spec->meta;
    size_t n = p->spec->n_containers, key = strlen(m->ns) + strlen(m->name) + 2;
    p->key = kei_alloc(ps->alloc, key);
    p->st.cts = kei_array_alloc(ps->alloc, n ? n : 1, sizeof *p->st.cts);
    p->pulled = kei_zalloc(ps->alloc, n ? n : 1);
    if (!p->key || !p->st.cts || !p->pulled)
        return kei_fail(ps->ctx, KE_ENOMEM, "out of memory for pod %s/%s", m->ns, m->name);
    memset(p->st.cts, 0, (n ? n : 1) * sizeof *p->st.cts);
    snprintf(p->key, key, "%s/%s", m->ns, m->name);
    snprintf(p->uid, sizeof p->uid, "%s", m->uid);
    p->st.n = n;
    p->st.restart = p->spec->restart;
    p->st.grace_ms = p->spec->grace_s * 1000;
    p->start_ms = ke_ctx_real_ms(ps->ctx);
    p->conds.value[KEI_COND_SCHEDULED] = 1;
    p->conds.since_ms[KEI_COND_SCHEDULED] = p->start_ms;
    read_past(p);
    return 0;
}

struct kei_pod *kei_pod_new(struct kei_pods *ps, struct ke_str json)
{
    struct kei_pod *p = kei_zalloc(ps->alloc, sizeof *p);
    if (!p) {
        kei_fail(ps->ctx, KE_ENOMEM, "out of memory for a pod");
        return NULL;
    }
    struct kei_pod_object *object = NULL;
    p->ps = ps;
    p->refs = 1;
    ps->refs++;
    kei_timer_init(ps->ctx, &p->timer, on_timer);
    int r = kei_pod_object_read(ps, json, &object);
    if (r == 0)
        kei_pod_object_set(p, object);
    if (r == 0 && !p->spec->has_spec)
        r = kei_fail(ps->ctx, KE_EINVAL, "pod %s/%s has no spec", p->spec->meta.ns,
                     p->spec->meta.name);
    if (r == 0 && kei_pods_by_uid(ps, kei_str(p->spec->meta.uid)))
        r = kei_fail(ps->ctx, KE_EEXIST, "pod %s/%s is there already", p->spec->meta.ns,
                     p->spec->meta.name);
    if (r == 0)
        r = fill(p);
    if (r == 0 && kei_map_put(&ps->by_uid, kei_str(p->uid), p, NULL) < 0)
        r = kei_fail(ps->ctx, KE_ENOMEM, "out of memory for pod %s", p->key);
    if (r < 0) {
        kei_pod_unref(p);
        return NULL;
    }
    kei_list_add_tail(&ps->pods, &p->link);
    return p;
}

struct kei_pod *kei_pods_by_uid(struct kei_pods *ps, struct ke_str uid)
{
    return kei_map_get(&ps->by_uid, uid);
}

uint32_t kei_pods_dialect(const struct kei_pods *ps)
{
    return ps->dialect ? ps->dialect(ps->user) : KE_DIALECT_AUTO;
}

static void on_message(void *user, struct ke_msg *m)
{
    struct kei_pods *ps = user;
    if (ps->load)
        kei_load_hold(ps->load, m);
    else
        kei_pods_message(ps, m);
}

static void on_overflow(void *user, uint64_t refused)
{
    struct kei_pods *ps = user;
    kei_log(ps->ctx, KE_LOG_ERROR, "pod",
            "%llu messages for the pod engine were refused: its queue was full",
            (unsigned long long)refused);
    kei_pods_lost_news(ps);
}

/* ---- work put off to this turn's end ---- */

static void on_work(struct kei_defer *d)
{
    struct kei_pods *ps = KEI_OF(d, struct kei_pods, work);
    ps->refs++;
    while (!ps->stopped && !kei_list_empty(&ps->kicked)) {
        struct kei_pod *p = KEI_OF(ps->kicked.next, struct kei_pod, kick);
        kei_list_remove(&p->kick);
        kei_pod_ref(p);
        kei_pod_sync(p);
        kei_pod_unref(p);
    }
    if (!ps->stopped)
        kei_notes_write(ps);
    while (!ps->stopped && !kei_list_empty(&ps->dirty)) {
        struct kei_pod *p = KEI_OF(ps->dirty.next, struct kei_pod, dirty);
        kei_list_remove(&p->dirty);
        kei_pod_ref(p);
        kei_pod_report(p);
        kei_pod_unref(p);
    }
    kei_pods_unref(ps);
}

void kei_pod_kick(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    if (p->gone || ps->stopped)
        return;
    if (!kei_list_linked(&p->kick))
        kei_list_add_tail(&ps->kicked, &p->kick);
    kei_defer(ps->ctx, &ps->work, on_work);
}

void kei_pod_dirty(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    if (p->gone || ps->stopped)
        return;
    if (!kei_list_linked(&p->dirty))
        kei_list_add_tail(&ps->dirty, &p->dirty);
    kei_defer(ps->ctx, &ps->work, on_work);
}

static void on_retry(struct kei_timer *t)
{
    struct kei_pods *ps = KEI_OF(t, struct kei_pods, retry);
    KEI_LIST_EACH(l, &ps->pods)
    kei_pod_dirty(KEI_OF(l, struct kei_pod, link));
}

void kei_pods_report_later(struct kei_pods *ps)
{
    if (!kei_timer_armed(&ps->retry)) {
        int r = kei_timer_in(&ps->retry, REPORT_RETRY_MS);
        (void)r; /* a slot is reserved */
    }
}

/* ---- entry ---- */

static bool copy_str(struct kei_pods *ps, char **to, const char *from)
{
    *to = kei_strdup(ps->alloc, from);
    return *to || !from;
}

static int copy_config(struct kei_pods *ps, const struct kei_pods_config *c)
{
    char logs[PATH_MAX];
    if (!c->log_folder && !kei_path_join(logs, sizeof logs, c->data, "logs"))
        return kei_fail(ps->ctx, KE_EINVAL, "data: the path is too long");
    bool ok = copy_str(ps, &ps->node_name, c->node_name) && copy_str(ps, &ps->data, c->data) &&
              copy_str(ps, &ps->log_folder, c->log_folder ? c->log_folder : logs);
    ps->host_path_allow =
        kei_array_alloc(ps->alloc, c->n_host_path_allow + 1u, sizeof *ps->host_path_allow);
    ok = ok && ps->host_path_allow;
    for (uint32_t i = 0; ok && i < c->n_host_path_allow; i++) {
        ok = copy_str(ps, &ps->host_path_allow[i], c->host_path_allow[i]);
        ps->vconf.n_host_path_allow += ok;
    }
    if (!ok)
        return kei_fail(ps->ctx, KE_ENOMEM, "out of memory for the pod engine");
    ps->vconf.data = ps->data;
    ps->vconf.host_path_allow = (const char *const *)ps->host_path_allow;
    kei_pods_set_node_ip(ps, c->node_ip ? c->node_ip : "");
    ps->max_pods = c->max_pods ? c->max_pods : 110;
    ps->query_ms = c->query_ms ? c->query_ms : 65000;
    ps->op_ms = c->op_ms ? c->op_ms : 60000;
    ps->retry_min = c->retry_min_ms ? c->retry_min_ms : 1000;
    ps->retry_max = c->retry_max_ms ? c->retry_max_ms : 60000;
    ps->sconf = (struct kei_state_conf){
        .restart_min = c->restart_min_ms ? c->restart_min_ms : 10000,
        .restart_max = c->restart_max_ms ? c->restart_max_ms : 300000,
        .restart_reset = c->restart_reset_ms ? c->restart_reset_ms : 600000,
        .retry_min = ps->retry_min,
        .retry_max = ps->retry_max,
    };
    return 0;
}

static int make_runtime(struct kei_pods *ps, const struct kei_pods_config *c)
{
    const char *name = c->runtime_name ? c->runtime_name : "none";
    snprintf(ps->rt_version, sizeof ps->rt_version, "0");
    if (c->runtime) {
        ps->rt_ops = c->runtime;
        ps->rt_user = c->runtime_user;
        snprintf(ps->rt_name, sizeof ps->rt_name, "vendor");
        return 0;
    }
    snprintf(ps->rt_name, sizeof ps->rt_name, "%s", name);
    if (!strcmp(name, "none")) {
        snprintf(ps->rt_text, sizeof ps->rt_text, "this node has no container runtime");
        return 0;
    }
    if (strcmp(name, "process") != 0)
        return kei_fail(ps->ctx, KE_EINVAL, "runtime \"%s\" is not known: none or process", name);
    struct kei_process_config pc = {.data = c->data,
                                    .allow = c->process_allow,
                                    .n_allow = c->n_process_allow,
                                    .user = c->process_user,
                                    .shim = c->shim};
    int r = kei_process_new(&ps->process, ps->ctx, &pc);
    ps->rt_ops = kei_process_ops();
    ps->rt_user = ps->process;
    return r;
}

static int check_config(struct ke_ctx *ctx, const struct kei_pods_config *c)
{
    const char *missing = !c->node_name || !*c->node_name ? "node_name"
                          : !c->data || c->data[0] != '/' ? "data (an absolute path)"
                          : !c->router                    ? "router"
                          : !c->store                     ? "store"
                                                          : NULL;
    return missing ? kei_fail(ctx, KE_EINVAL, "the pod engine needs %s", missing) : 0;
}

static void on_rt_timer(struct kei_timer *t)
{
    struct kei_pods *ps = KEI_OF(t, struct kei_pods, rt_timer);
    if (!ps->rt_ready)
        kei_runtime_ask(ps);
    if (!ps->listed || ps->relist)
        kei_load_list(ps);
}

int kei_pods_new(struct kei_pods **ret, struct ke_ctx *ctx, const struct kei_pods_config *c)
{
    int r = check_config(ctx, c);
    if (r < 0)
        return r;
    struct kei_pods *ps = kei_zalloc(kei_ctx_alloc(ctx), sizeof *ps);
    if (!ps)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the pod engine");
    ps->ctx = ctx;
    ps->alloc = kei_ctx_alloc(ctx);
    ps->refs = 1;
    ps->router = c->router;
    ps->store = c->store;
    ps->dialect = c->dialect;
    ps->ops = c->ops;
    ps->user = c->user;
    kei_list_init(&ps->pods);
    kei_list_init(&ps->kicked);
    kei_list_init(&ps->dirty);
    kei_list_init(&ps->strays);
    kei_list_init(&ps->invalid);
    kei_map_init(&ps->by_uid, ps->alloc, kei_ctx_random64(ctx));
    kei_map_init(&ps->unwanted, ps->alloc, kei_ctx_random64(ctx));
    kei_timer_init(ctx, &ps->retry, on_retry);
    kei_timer_init(ctx, &ps->rt_timer, on_rt_timer);
    kei_timer_init(ctx, &ps->reread, kei_pods_reread);
    kei_hold_init(ps, c);
    kei_affinity_init(ps);
    r = copy_config(ps, c);
    if (r == 0)
        r = make_runtime(ps, c);
    if (r < 0) {
        kei_pods_unref(ps);
        return r;
    }
    *ret = ps;
    return 0;
}

static void on_event(void *user, const struct ke_container_info *c)
{
    struct kei_pods *ps = user;
    if (ps->stopped)
        return;
    if (!ps->listed)
        ps->list_again = true; /* the list under way may be older than this */
    else
        kei_pod_event(ps, c);
}

static const struct ke_module_ops module_ops = {
    .size = sizeof(struct ke_module_ops),
    .message = on_message,
    .overflow = on_overflow,
};

int kei_pods_start(struct kei_pods *ps)
{
    if (ps->started)
        return kei_fail(ps->ctx, KE_ESTATE, "the pod engine was started before");
    int r =
        ke_router_add(&ps->module, ps->router, KEI_PODS_MODULE, KEI_PODS_MODULE, &module_ops, ps);
    if (r < 0)
        return r;
    if (ps->rt_ops)
        r = kei_runtime_new(&ps->rt, ps->ctx, ps->rt_ops, ps->rt_user, on_event, ps);
    if (r == 0)
        r = kei_load_begin(ps);
    if (r < 0) {
        kei_runtime_close(ps->rt);
        ps->rt = NULL;
        ke_module_remove(ps->module);
        ps->module = NULL;
        return r;
    }
    ps->started = true;
    kei_runtime_ask(ps);
    return 0;
}

void kei_pods_stop(struct kei_pods *ps)
{
    if (!ps->started || ps->stopped)
        return;
    ps->stopped = true;
    ps->refs++;
    ke_module_remove(ps->module);
    ps->module = NULL;
    kei_runtime_close(ps->rt);
    ps->rt = NULL;
    kei_strays_free(ps);
    kei_timer_stop(&ps->retry);
    kei_timer_stop(&ps->rt_timer);
    kei_timer_stop(&ps->reread);
    kei_timer_stop(&ps->hold_timer);
    kei_timer_stop(&ps->fit_timer);
    kei_defer_cancel(&ps->work);
    KEI_LIST_EACH(l, &ps->pods)
    kei_timer_stop(&KEI_OF(l, struct kei_pod, link)->timer);
    kei_pods_unref(ps);
}

void kei_pods_unref(struct kei_pods *ps)
{
    if (--ps->refs > 0)
        return;
    kei_load_free(ps->load);
    kei_lost_free(ps, ps->lost);
    kei_invalid_free(ps);
    kei_process_free(ps->process);
    kei_timer_fini(&ps->retry);
    kei_timer_fini(&ps->rt_timer);
    kei_timer_fini(&ps->reread);
    kei_timer_fini(&ps->hold_timer);
    kei_timer_fini(&ps->fit_timer);
    kei_map_free(&ps->by_uid);
    kei_map_free(&ps->unwanted);
    for (size_t i = 0; i < ps->vconf.n_host_path_allow; i++)
        kei_free(ps->alloc, ps->host_path_allow[i]);
    kei_free(ps->alloc, ps->host_path_allow);
    kei_free(ps->alloc, ps->node_name);
    kei_free(ps->alloc, ps->data);
    kei_free(ps->alloc, ps->log_folder);
    kei_free(ps->alloc, ps);
}

void kei_pods_free(struct kei_pods *ps)
{
    if (!ps || ps->freed)
        return;
    ps->freed = true;
    kei_pods_stop(ps);
    ps->stopped = true;
    kei_defer_cancel(&ps->work);
    while (!kei_list_empty(&ps->pods))
        kei_pod_drop(KEI_OF(ps->pods.next, struct kei_pod, link));
    kei_pods_unref(ps);
}

void kei_pods_set_node_ip(struct kei_pods *ps, const char *ip)
{
    snprintf(ps->node_ip, sizeof ps->node_ip, "%s", ip);
    KEI_LIST_EACH(l, &ps->pods)
    kei_pod_dirty(KEI_OF(l, struct kei_pod, link));
}

void kei_pods_runtime(struct kei_pods *ps, struct kei_runtime_state *ret)
{
    *ret = (struct kei_runtime_state){ps->rt_name, ps->rt_version, ps->rt_text,
                                      ps->rt && ps->rt_ready};
}

void kei_pods_each(struct kei_pods *ps, void (*fn)(void *user, const struct ke_pod_info *p),
                   void *user)
{
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct ke_pod_info info;
        kei_pod_info(KEI_OF(l, struct kei_pod, link), &info);
        fn(user, &info);
    }
    kei_invalid_each(ps, fn, user);
}

void kei_pods_count(struct kei_pods *ps, uint32_t *ret_pods, uint32_t *ret_running)
{
    *ret_pods = ps->n_invalid;
    *ret_running = 0;
    KEI_LIST_EACH(l, &ps->pods)
    {
        const struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        ++*ret_pods;
        *ret_running += kei_state_phase(&p->st) == KEI_PHASE_RUNNING;
    }
}
