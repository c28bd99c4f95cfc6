/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pod needs before its containers are created: its ConfigMaps, Secrets and tokens are asked
 * for, its volumes planned and then written by the disk worker, and container configurations made
 * of it. A preparation owns all memory of that; it may outlive its interest to the pod, and is
 * freed when the last of its requests has ended. Loop thread.
 */
#include <stdio.h>

#include "pod/engine.h"
#include "pod/env.h"

#define REFRESH_MIN_MS 60000

struct kei_prep {
    struct kei_work work;
    struct kei_pods *ps;
    struct kei_pod *p; /* NULL: dropped */
    struct kei_pod_object *object;
    const struct kei_podspec *spec; /* of object */
    uint32_t refs;                  /* the pod's, and one per request or job under way */
    uint32_t pending;               /* objects that are not known yet */
    bool remote, ready;
    struct kei_arena arena;
    struct kei_objects objects;
    struct kei_vplan *plans;
    size_t n_plans;
    int status; /* of the disk's part */
    size_t failed;
    int64_t stamp;
    struct ke_error err;
};

struct ask {
    struct kei_prep *prep;
    size_t i;
};

static void prep_unref(struct kei_prep *r)
{
    struct kei_pods *ps = r->ps;
    if (--r->refs > 0)
        return;
    kei_arena_free(&r->arena);
    kei_pod_object_unref(ps, r->object);
    kei_free(ps->alloc, r);
    kei_pods_unref(ps);
}

bool kei_prep_ready(const struct kei_pod *p)
{
    return p->prep && p->prep->ready;
}

void kei_prep_drop(struct kei_pod *p)
{
    struct kei_prep *r = p->prep;
    if (!r)
        return;
    p->prep = NULL;
    r->p = NULL;
    prep_unref(r);
}

const char *kei_pod_ip(const struct kei_pod *p)
{
    const struct kei_pods *ps = p->ps;
    bool own = ps->rt && kei_runtime_ops(ps->rt)->sandbox_run && !p->spec->host_network;
    /* a pod that ends keeps its last address, as with upstream */
    bool ends = p->st.desire != KEI_WANT_RUN || kei_state_phase(&p->st) >= KEI_PHASE_SUCCEEDED;
    if ((p->sandbox == KEI_SANDBOX_READY || ends) && *p->ip)
        return p->ip;
    return own ? "" : ps->node_ip;
}

bool kei_pod_log_folder(const struct kei_pod *p, char *out, size_t n)
{
    char name[512];
    int k = snprintf(name, sizeof name, "%s_%s_%s", p->spec->meta.ns, p->spec->meta.name, p->uid);
    return k > 0 && k < (int)sizeof name && kei_path_join(out, n, p->ps->log_folder, name);
}

/* ---- ends ---- */

/* It could not be done: shown at the containers that wait for it, tried again later. */
static void fail(struct kei_prep *r, const char *text)
{
    struct kei_pod *p = r->p;
    struct kei_pods *ps = r->ps;
    bool fresh = strncmp(p->st.cts[0].message, text, KEI_MESSAGE_MAX / 2) != 0;
    kei_log(ps->ctx, fresh ? KE_LOG_INFO : KE_LOG_DEBUG, "pod", "pod %s is not prepared: %s",
            p->key, text);
    kei_pod_wait(p, "ContainerCreating", text);
    kei_pod_pause(p);
    if (p->prepared)
        p->refresh_due = ke_ctx_mono_ms(ps->ctx) + KEI_PODS_REFRESH_MS;
    kei_prep_drop(p);
    kei_pod_kick(p);
}

/* When the files are to be written again although nobody told: a token ends, or could not be had.
 */
static int64_t next_refresh(const struct kei_prep *r)
{
    int64_t mono = ke_ctx_mono_ms(r->ps->ctx), real = ke_ctx_real_ms(r->ps->ctx), due = 0;
    for (size_t i = 0; i < r->n_plans; i++) {
        const struct kei_vplan *v = &r->plans[i];
        int64_t at = 0;
        if (v->token_expires_ms)
            at = mono + (v->token_expires_ms - real) / 5 * 4;
        for (size_t k = 0; k < v->n_files; k++) {
            if (v->files[k].keep)
                at = mono;
        }
        if (at && at < mono + REFRESH_MIN_MS)
            at = mono + REFRESH_MIN_MS;
        if (at && (!due || at < due))
            due = at;
    }
    return due;
}

static void succeed(struct kei_prep *r)
{
    struct kei_pod *p = r->p;
    r->ready = true;
    p->prepared = true;
    p->prep_pause = p->prep_due = 0;
    p->refresh_due = next_refresh(r);
    kei_pod_kick(p);
}

/* ---- volumes ---- */

static void volumes_run(struct kei_work *w)
{
    struct kei_prep *r = KEI_OF(w, struct kei_prep, work);
    const struct ke_io *io = kei_ctx_io(r->ps->ctx);
    for (size_t i = 0; i < r->n_plans && r->status == 0; i++) {
        r->status = kei_volume_apply(io, &r->plans[i], r->stamp, NULL, &r->err);
        r->failed = i;
    }
}

static void fail_volume(struct kei_prep *r, const char *name)
{
    char text[KE_ERROR_TEXT_MAX + 100];
    snprintf(text, sizeof text, "MountVolume.SetUp failed for volume \"%s\" : %s", name,
             r->err.text);
    fail(r, text);
}

static void volumes_done(struct kei_work *w)
{
    struct kei_prep *r = KEI_OF(w, struct kei_prep, work);
    if (r->p && !r->ps->stopped) {
        if (r->status < 0)
            fail_volume(r, r->plans[r->failed].name);
        else
            succeed(r);
    }
    prep_unref(r);
}

static void fields(const struct kei_pod *p, struct kei_field_env *f)
{
    *f = (struct kei_field_env){p->ps->node_name, p->ps->node_ip, kei_pod_ip(p)};
}

/* All objects are known, or it is known why not. */
static void plan_volumes(struct kei_prep *r)
{
    struct kei_pod *p = r->p;
    struct kei_field_env f;
    fields(p, &f);
    r->stamp = ke_ctx_real_ms(r->ps->ctx);
    r->plans = r->spec->n_volumes ? kei_arena_array(&r->arena, r->spec->n_volumes, sizeof *r->plans)
                                  : NULL;
    if (r->spec->n_volumes && !r->plans) {
        fail(r, "out of memory");
        return;
    }
    for (size_t i = 0; i < r->spec->n_volumes; i++) {
        int e = kei_volume_plan(&r->plans[i], r->spec, &r->spec->volumes[i], &r->objects, &f,
                                &r->ps->vconf, &r->arena, &r->err);
        if (e < 0) {
            fail_volume(r, r->spec->volumes[i].name);
            return;
        }
        r->n_plans++;
    }
    if (r->n_plans == 0) {
        succeed(r);
        return;
    }
    r->refs++;
    if (kei_work_submit(r->ps->ctx, &r->work, volumes_run, volumes_done) < 0) {
        r->refs--;
        fail(r, "the disk worker could not be started");
    }
}

/* ---- objects ---- */

static void one_known(struct kei_prep *r)
{
    if (--r->pending == 0 && r->p && !r->ps->stopped)
        plan_volumes(r);
}

static void set_status(struct kei_prep *r, struct kei_object *o, int status, const char *why)
{
    const char *copy = kei_arena_strdup(&r->arena, kei_str(why));
    o->status = status;
    o->why = copy ? copy : "";
}

static void set_text(struct kei_prep *r, struct kei_object *o, struct ke_str json)
{
    struct ke_str v;
    char *copy = kei_arena_strdup(&r->arena, json);
    if (!copy)
        set_status(r, o, KE_ENOMEM, "out of memory");
    else if (kei_json_value(kei_strn(copy, json.n), 0, &v, NULL) < 0 || kei_json_type(v) != '{')
        set_status(r, o, KE_EPARSE, "what was kept of it is no object");
    else {
        o->text = v;
        o->status = 0;
        int slow = kei_object_index(o, &r->arena);
        (void)slow; /* values are found without it too */
    }
}

static void read_reply(struct kei_prep *r, struct kei_object *o, struct ke_msg *reply)
{
    struct kei_reply a;
    struct ke_str content;
    content.p = ke_msg_content(reply, &content.n);
    kei_reply_read(&a, content);
    if (a.kind == KEI_REPLY_OBJECT && kei_json_type(a.object) == '{' &&
        strcmp(ke_msg_operation(reply), "error") != 0)
        set_text(r, o, a.object);
    else if (!strcmp(a.reason, "NotFound") || a.code == 404)
        set_status(r, o, KE_ENOTFOUND, a.text);
    else
        set_status(r, o, KE_EAGAIN, *a.text ? a.text : "the answer holds no object");
}

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct ask *a = user;
    struct kei_prep *r = a->prep;
    struct kei_object *o = &r->objects.v[a->i];
    kei_free(r->ps->alloc, a);
    if (status < 0)
        set_status(r, o, status,
                   status == KE_ETIMEDOUT ? "no answer came in time" : "the request was given up");
    else
        read_reply(r, o, reply);
    one_known(r);
    prep_unref(r);
}

static int request(struct kei_prep *r, struct kei_object *o, struct ask *a)
{
    struct kei_pods *ps = r->ps;
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_buf b;
    char resource[400];
    snprintf(resource, sizeof resource, "%s/%s/%s", r->spec->meta.ns, o->type, o->name);
    kei_buf_init(&b, ps->alloc);
    ke_msg_config_init(&c, sizeof c);
    c.source = KEI_PODS_MODULE;
    c.group = "meta";
    c.operation = "query";
    c.resource = resource;
    if (o->source.p) {
        kei_token_request(&b, r->spec, o->source);
        c.content = b.p;
        c.content_len = b.n;
    }
    int e = kei_buf_ok(&b) ? ke_msg_new(&m, ps->ctx, &c, kei_err(ps->ctx))
                           : kei_fail(ps->ctx, KE_ENOMEM, "out of memory for a request");
    if (e == 0)
        e = ke_router_request(ps->router, KEI_PODS_META, m, ps->query_ms, on_reply, a, NULL);
    ke_msg_unref(m);
    ke_buf_free(&b);
    return e;
}

/* Asks the object flow. a is used up. */
static void ask_router(struct ask *a)
{
    struct kei_prep *r = a->prep;
    struct kei_object *o = &r->objects.v[a->i];
    if (r->p && !r->ps->stopped && request(r, o, a) == 0)
        return;
    set_status(r, o, KE_EAGAIN, ke_ctx_error(r->ps->ctx));
    kei_free(r->ps->alloc, a);
    one_known(r);
    prep_unref(r);
}

static void on_stored(void *user, int status, const struct ke_store_item *item)
{
    struct ask *a = user;
    struct kei_prep *r = a->prep;
    if (status != 0 || !item) {
        ask_router(a);
        return;
    }
    set_text(r, &r->objects.v[a->i], kei_strn(item->value, item->len));
    kei_free(r->ps->alloc, a);
    one_known(r);
    prep_unref(r);
}

/*
 * What is known already is enough for a restart: the network is not on its way. Only the first
 * time, or after an object was lost, the object flow is asked, which may ask the cloud.
 */
static void fetch(struct kei_prep *r, size_t i)
{
    struct kei_pods *ps = r->ps;
    struct kei_object *o = &r->objects.v[i];
    struct ask *a = kei_alloc(ps->alloc, sizeof *a);
    char bucket[64], key[400];
    r->pending++;
    if (!a) {
        set_status(r, o, KE_ENOMEM, "out of memory");
        one_known(r);
        return;
    }
    *a = (struct ask){r, i};
    r->refs++;
    if (r->remote || o->source.p) {
        ask_router(a);
        return;
    }
    snprintf(bucket, sizeof bucket, "o/%s", o->type);
    snprintf(key, sizeof key, "%s/%s", r->spec->meta.ns, o->name);
    if (ke_store_get(ps->store, bucket, key, on_stored, a) < 0)
        ask_router(a);
}

void kei_prep_begin(struct kei_pod *p, bool remote)
{
    struct kei_pods *ps = p->ps;
    if (p->prep)
        return;
    struct kei_prep *r = kei_zalloc(ps->alloc, sizeof *r);
    if (!r) {
        kei_pod_wait(p, "ContainerCreating", "out of memory");
        kei_pod_pause(p);
        kei_pod_kick(p);
        return;
    }
    r->ps = ps;
    ps->refs++;
    r->p = p;
    r->object = p->object;
    r->object->refs++;
    r->spec = &r->object->spec;
    r->refs = 2; /* the pod's, and this call's */
    r->remote = remote;
    r->err = (struct ke_error)KE_ERROR_INIT;
    kei_arena_init(&r->arena, ps->alloc, 0);
    p->prep = r;
    if (kei_objects_collect(&r->objects, r->spec, &r->arena, &r->err) < 0) {
        fail(r, r->err.text);
        prep_unref(r);
        return;
    }
    r->pending = 1; /* so that answers that come at once do not end it too early */
    for (size_t i = 0; i < r->objects.n; i++)
        fetch(r, i);
    one_known(r);
    prep_unref(r);
}

/* ---- configuration ---- */

static struct ke_str security(const struct kei_pod *p, size_t i, const char *key)
{
    struct ke_str v, of_container, of_pod;
    if (kei_json_get(p->prep->spec->containers[i].json, "securityContext", &of_container) &&
        kei_json_get(of_container, key, &v) && kei_json_type(v) != 'n')
        return v;
    if (kei_json_get(p->prep->spec->spec, "securityContext", &of_pod) &&
        kei_json_get(of_pod, key, &v))
        return v;
    return kei_strn(NULL, 0);
}

static int64_t security_id(const struct kei_pod *p, size_t i, const char *key)
{
    int64_t n;
    return kei_json_i64(security(p, i, key), &n) && n >= 0 && n < UINT32_MAX ? n : -1;
}

static int64_t quantity(struct ke_str container, const char *path, bool milli)
{
    struct ke_str v;
    int64_t n = 0;
    if (!kei_json_path(container, path, &v))
        return 0;
    if (kei_json_type(v) == '"' && v.n > 2)
        v = kei_strn(v.p + 1, v.n - 2);
    return (milli ? kei_quantity_parse(v, &n) : kei_quantity_value(v, &n)) ? n : 0;
}

static bool flag(struct ke_str container, const char *key)
{
    struct ke_str v;
    return kei_json_get(container, key, &v) && kei_json_bool(v, false);
}

static void set_flags(const struct kei_pod *p, size_t i, struct ke_container_config *c)
{
    struct ke_str json = p->prep->spec->containers[i].json;
    if (flag(json, "stdin"))
        c->flags |= KE_CONTAINER_STDIN;
    if (flag(json, "tty"))
        c->flags |= KE_CONTAINER_TTY;
    if (p->spec->host_network)
        c->flags |= KE_CONTAINER_HOST_NETWORK;
    if (kei_json_bool(security(p, i, "privileged"), false))
        c->flags |= KE_CONTAINER_PRIVILEGED;
    if (kei_json_bool(security(p, i, "readOnlyRootFilesystem"), false))
        c->flags |= KE_CONTAINER_READ_ONLY_ROOT;
    if (kei_json_bool(security(p, i, "runAsNonRoot"), false))
        c->flags |= KE_CONTAINER_RUN_AS_NON_ROOT;
    c->run_as_user = security_id(p, i, "runAsUser");
    c->run_as_group = security_id(p, i, "runAsGroup");
    c->memory_limit = quantity(json, "resources.limits.memory", false);
    c->cpu_limit_milli = quantity(json, "resources.limits.cpu", true);
    c->cpu_request_milli = quantity(json, "resources.requests.cpu", true);
}

static int set_words(struct kei_pod *p, size_t i, struct ke_container_config *c,
                     struct ke_error *err)
{
    struct kei_arena *a = &p->prep->arena;
    struct kei_env env = {.a = a};
    struct kei_field_env f;
    struct ke_str json = p->prep->spec->containers[i].json;
    fields(p, &f);
    int r = kei_env_build(&env, p->prep->spec, &p->prep->spec->containers[i], &p->prep->objects, &f,
                          err);
    if (r == 0)
        r = kei_env_words(&c->command, &c->n_command, json, "command", &env, err);
    if (r == 0)
        r = kei_env_words(&c->args, &c->n_args, json, "args", &env, err);
    c->env = env.v;
    c->n_env = (uint32_t)env.n;
    return r;
}

int kei_prep_config(struct kei_pod *p, size_t i, uint32_t attempt, struct ke_container_config *c,
                    struct ke_error *err)
{
    struct kei_prep *prep = p->prep;
    struct ke_mount *mounts = NULL;
    const struct kei_spec_container *sc = &p->prep->spec->containers[i];
    char folder[PATH_MAX];
    *c = (struct ke_container_config){
        .size = sizeof *c,
        .pod_namespace = p->spec->meta.ns,
        .pod_name = p->spec->meta.name,
        .pod_uid = p->uid,
        .name = sc->name,
        .image = sc->image,
        .sandbox_id = p->sandbox == KEI_SANDBOX_READY ? p->sandbox_id : "",
        .hostname = p->spec->hostname,
        .attempt = attempt,
        .pod_json = p->spec->json.p,
        .pod_json_len = p->spec->json.n,
    };
    int r = kei_spec_str(&c->working_dir, sc->json, "workingDir", &prep->arena, err);
    if (r < 0)
        return r;
    if (*c->working_dir && !kei_path_plain(c->working_dir))
        return kei_error(err, KE_EINVAL, "workingDir \"%s\" must be absolute and without \"..\"",
                         c->working_dir);
    if (!kei_pod_log_folder(p, folder, sizeof folder))
        return kei_error(err, KE_EINVAL, "the path of the log folder is too long");
    c->log_path = kei_arena_printf(&prep->arena, "%s/%s/%u.log", folder, sc->name, attempt);
    if (!c->log_path)
        return kei_error(err, KE_ENOMEM, "out of memory for container %s", sc->name);
    set_flags(p, i, c);
    r = set_words(p, i, c, err);
    if (r == 0)
        r = kei_volume_mounts(&mounts, &c->n_mounts, sc, prep->plans, prep->n_plans, &prep->arena,
                              err);
    c->mounts = mounts;
    return r;
}
