/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pod: carries out the steps of its state machine as operations of the runtime, and leads it to
 * its end. Each operation holds a reference to its pod; what it finds at its end may have changed
 * meanwhile, so every end is checked against the attempt it was for. Loop thread.
 */
#include <limits.h>
#include <stdio.h>

#include "pod/engine.h"

#define STOP_RETRY_MS 5000

/* An operation of the runtime for container i of a pod. */
struct call {
    struct kei_pod *p;
    size_t i;
    uint32_t attempt;
};

static struct call *call_new(struct kei_pod *p, size_t i, uint32_t attempt)
{
    struct call *c = kei_alloc(p->ps->alloc, sizeof *c);
    if (!c)
        return NULL;
    *c = (struct call){p, i, attempt};
    kei_pod_ref(p);
    return c;
}

/* Frees c; the pod stays valid until the caller's own unref. */
static struct kei_pod *call_end(struct call *c)
{
    struct kei_pod *p = c->p;
    kei_free(p->ps->alloc, c);
    return p;
}

static int64_t mono_of(const struct kei_pods *ps)
{
    return ke_ctx_mono_ms(ps->ctx);
}

static int64_t real_of(const struct kei_pods *ps)
{
    return ke_ctx_real_ms(ps->ctx);
}

static const char *reason_or(const struct ke_runtime_result *r, const char *dflt)
{
    return *r->reason ? r->reason : dflt;
}

size_t kei_pod_container(const struct kei_pod *p, const char *name)
{
    size_t i = 0;
    while (i < p->spec->n_containers && strcmp(p->spec->containers[i].name, name) != 0)
        i++;
    return i;
}

void kei_end_of(struct kei_ct_end *e, const struct ke_container_info *c)
{
    *e = (struct kei_ct_end){.valid = true,
                             .exit_code = c->exit_code,
                             .signal = c->signal,
                             .started_ms = c->started_ms,
                             .finished_ms = c->finished_ms};
    kei_text_copy(e->id, sizeof e->id, c->id);
    kei_text_copy(e->reason, sizeof e->reason,
                  *c->reason          ? c->reason
                  : c->exit_code == 0 ? "Completed"
                                      : "Error");
    kei_text_copy(e->message, sizeof e->message, c->message);
}

/* ---- strays: instances nobody wants ---- */

#define STRAY_TRIES 9 /* over some four minutes; what remains then is found at the next start */
#define STRAY_RETRY_MS 1000

struct stray {
    struct kei_pods *ps;
    struct kei_link link;   /* in ps->strays */
    struct kei_timer again; /* after a failure */
    int tries;
    char id[KEI_ID_MAX];
};

static void stray_free(struct stray *s)
{
    struct kei_pods *ps = s->ps;
    kei_list_remove(&s->link);
    kei_timer_fini(&s->again);
    kei_free(ps->alloc, s);
    kei_pods_unref(ps);
}

void kei_strays_free(struct kei_pods *ps)
{
    while (!kei_list_empty(&ps->strays))
        stray_free(KEI_OF(ps->strays.next, struct stray, link));
}

/* It was not stopped or not removed (what): once more after a pause. */
static void stray_again(struct stray *s, int status, const char *what, const char *text)
{
    struct kei_pods *ps = s->ps;
    if (status == KE_ECANCELED || ps->stopped) {
        stray_free(s);
        return;
    }
    bool last = ++s->tries >= STRAY_TRIES;
    if (s->tries == 1 || last)
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "container %s was not %s: %s; %s", s->id, what, text,
                last ? "left until the node starts again" : "tried again");
    if (last) {
        stray_free(s);
        return;
    }
    int r = kei_timer_in(&s->again, (int64_t)STRAY_RETRY_MS << (s->tries - 1));
    (void)r; /* a slot is reserved */
}

static void stray_removed(void *user, int status, const struct ke_runtime_result *r)
{
    struct stray *s = user;
    if (status < 0 && status != KE_ENOTFOUND)
        stray_again(s, status, "removed", r->text);
    else
        stray_free(s);
}

static void stray_remove(struct stray *s)
{
    struct kei_pods *ps = s->ps;
    if (!kei_runtime_ops(ps->rt)->container_remove) {
        stray_free(s);
        return;
    }
    int e = kei_runtime_remove(ps->rt, s->id, ps->op_ms, stray_removed, s);
    if (e < 0)
        stray_again(s, e, "removed", ke_strerror(e));
}

static void stray_stopped(void *user, int status, const struct ke_runtime_result *r)
{
    struct stray *s = user;
    if (status < 0 || s->ps->stopped)
        stray_again(s, status, "stopped", r->text);
    else
        stray_remove(s);
}

static void stray_stop(struct stray *s)
{
    struct kei_pods *ps = s->ps;
    int e = kei_runtime_stop(ps->rt, s->id, 0, ps->op_ms, stray_stopped, s);
    if (e < 0)
        stray_again(s, e, "stopped", ke_strerror(e));
}

static bool is_held(const struct kei_pods *ps, const char *id)
{
    KEI_LIST_EACH(l, &ps->pods)
    {
        const struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        for (size_t i = 0; i < p->st.n; i++) {
            if (!strcmp(p->st.cts[i].id, id) || !strcmp(p->st.cts[i].last.id, id))
                return true;
        }
    }
    return false;
}

static void on_stray_again(struct kei_timer *t)
{
    struct stray *s = KEI_OF(t, struct stray, again);
    if (is_held(s->ps, s->id))
        stray_free(s); /* its pod came again meanwhile and took it back */
    else
        stray_stop(s);
}

/* NULL: memory is short, or there is no runtime. What remains is found at the next start. */
static struct stray *stray_new(struct kei_pods *ps, const char *id)
{
    struct stray *s =
        ps->rt && *id && strlen(id) < KEI_ID_MAX ? kei_zalloc(ps->alloc, sizeof *s) : NULL;
    if (!s)
        return NULL;
    s->ps = ps;
    ps->refs++;
    kei_list_add_tail(&ps->strays, &s->link);
    kei_timer_init(ps->ctx, &s->again, on_stray_again);
    kei_text_copy(s->id, sizeof s->id, id);
    return s;
}

void kei_stray_end(struct kei_pods *ps, const char *id)
{
    struct stray *s = stray_new(ps, id);
    if (s)
        stray_stop(s);
}

void kei_stray_failed(struct kei_pods *ps, const char *id, int status, const char *text)
{
    struct stray *s = stray_new(ps, id);
    if (s)
        stray_again(s, status, "removed", text);
}

/* Forgets an ended instance. */
static void forget(struct kei_pods *ps, const char *id)
{
    struct stray *s = stray_new(ps, id);
    if (s)
        stray_remove(s);
}

/* ---- ends of operations ---- */

static void on_started(void *user, int status, const struct ke_runtime_result *r)
{
    struct call *c = user;
    struct kei_pod *p = c->p;
    struct kei_ct *ct = &p->st.cts[c->i];
    if (status != KE_ECANCELED && ct->attempt == c->attempt) {
        ct->busy = false;
        if (status == 0)
            kei_ct_started(ct, mono_of(p->ps), real_of(p->ps));
        else
            kei_ct_broken(ct, r->text);
        kei_pod_kick(p);
    }
    kei_pod_unref(call_end(c));
}

static void do_start(struct kei_pod *p, size_t i)
{
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[i];
    struct call *c = call_new(p, i, ct->attempt);
    ct->busy = true;
    if (c && kei_runtime_start(ps->rt, ct->id, ps->op_ms, on_started, c) == 0)
        return;
    if (c)
        kei_pod_unref(call_end(c));
    kei_ct_broken(ct, "the start could not be begun: out of memory");
    kei_pod_kick(p);
}

static void on_created(void *user, int status, const struct ke_runtime_result *r)
{
    struct call *c = user;
    struct kei_pod *p = c->p;
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[c->i];
    if (status == KE_ECANCELED || ps->stopped) {
        kei_pod_unref(call_end(c));
        return;
    }
    ct->busy = false;
    p->pulled[c->i] = false;
    if (status < 0) {
        kei_ct_failed(ct, reason_or(r, "CreateContainerError"), r->text, mono_of(ps), &ps->sconf);
    } else if (!*r->id || strlen(r->id) >= KEI_ID_MAX) {
        kei_ct_failed(ct, "CreateContainerError",
                      "the runtime gave no id, or one longer than 191 bytes", mono_of(ps),
                      &ps->sconf);
    } else {
        bool outdated = ct->outdated;
        if (ct->last.valid)
            forget(ps, ct->last.id); /* one ended instance is kept, the newest */
        kei_ct_created(ct, c->attempt, r->id);
        ct->outdated = outdated;
        if (!kei_runtime_ops(ps->rt)->image_pull || !*ct->image_id) /* else the pull told it */
            kei_text_copy(ct->image_id, sizeof ct->image_id, p->spec->containers[c->i].image);
        if (!outdated)
            ct->image_hash = kei_image_hash(p->spec->containers[c->i].image);
        if (p->st.desire == KEI_WANT_RUN && !outdated && !p->st.final)
            do_start(p, c->i); /* at once: a turn less */
    }
    kei_pod_kick(p);
    kei_pod_unref(call_end(c));
}

static void do_create(struct kei_pod *p, size_t i)
{
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[i];
    struct ke_container_config config;
    struct ke_error err = KE_ERROR_INIT;
    uint32_t attempt = kei_ct_next_attempt(ct);
    int r = kei_prep_config(p, i, attempt, &config, &err);
    if (r < 0) {
        kei_ct_failed(ct, "CreateContainerConfigError", err.text, mono_of(ps), &ps->sconf);
        kei_pod_kick(p);
        return;
    }
    struct call *c = call_new(p, i, attempt);
    ct->busy = true;
    ct->outdated = false;
    if (c && kei_runtime_create(ps->rt, &config, ps->op_ms, on_created, c) == 0)
        return;
    if (c)
        kei_pod_unref(call_end(c));
    kei_ct_failed(ct, "CreateContainerError", "out of memory", mono_of(ps), &ps->sconf);
    kei_pod_kick(p);
}

static void on_pulled(void *user, int status, const struct ke_runtime_result *r)
{
    struct call *c = user;
    struct kei_pod *p = c->p;
    struct kei_ct *ct = &p->st.cts[c->i];
    if (status != KE_ECANCELED) {
        ct->busy = false;
        p->pulled[c->i] = status == 0;
        if (status == 0 && *r->id)
            kei_text_copy(ct->image_id, sizeof ct->image_id, r->id);
        if (status < 0)
            kei_ct_failed(ct, reason_or(r, ct->retry_ms ? "ImagePullBackOff" : "ErrImagePull"),
                          r->text, mono_of(p->ps), &p->ps->sconf);
        kei_pod_kick(p);
    }
    kei_pod_unref(call_end(c));
}

static void do_pull(struct kei_pod *p, size_t i)
{
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[i];
    const struct kei_spec_container *sc = &p->spec->containers[i];
    const char *policy = *sc->pull_policy ? sc->pull_policy : "IfNotPresent";
    struct call *c = call_new(p, i, 0);
    ct->busy = true;
    if (c && kei_runtime_pull(ps->rt, sc->image, policy, p->spec->json.p, p->spec->json.n,
                              ps->op_ms * 10, on_pulled, c) == 0)
        return;
    if (c)
        kei_pod_unref(call_end(c));
    kei_ct_failed(ct, "ErrImagePull", "out of memory", mono_of(ps), &ps->sconf);
    kei_pod_kick(p);
}

static void on_stopped(void *user, int status, const struct ke_runtime_result *r)
{
    struct call *c = user;
    struct kei_pod *p = c->p;
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[c->i];
    struct kei_ct_end e = {.valid = true, .guessed = true, .exit_code = 137};
    if (status != KE_ECANCELED && ct->attempt == c->attempt && ct->state == KEI_CT_RUNNING) {
        if (status == 0) {
            e.finished_ms = real_of(ps);
            snprintf(e.reason, sizeof e.reason, "ContainerStatusUnknown");
            snprintf(e.message, sizeof e.message,
                     "the container was stopped; its exit code was not told");
            kei_ct_exited(ct, &e, mono_of(ps), &ps->sconf);
        } else {
            kei_log(ps->ctx, KE_LOG_WARN, "pod", "container %s of pod %s was not stopped: %s",
                    p->spec->containers[c->i].name, p->key, r->text);
            ct->stopping = false;
            ct->due_mono = mono_of(ps) + STOP_RETRY_MS;
        }
        kei_pod_kick(p);
    }
    kei_pod_unref(call_end(c));
}

static void do_stop(struct kei_pod *p, size_t i, int64_t grace_ms)
{
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[i];
    struct call *c = ps->rt ? call_new(p, i, ct->attempt) : NULL;
    ct->stopping = true;
    ct->kill_mono = mono_of(ps) + grace_ms;
    if (c && kei_runtime_stop(ps->rt, ct->id, grace_ms, ps->op_ms, on_stopped, c) == 0)
        return;
    if (c)
        kei_pod_unref(call_end(c));
    ct->stopping = false;
    ct->due_mono = mono_of(ps) + STOP_RETRY_MS;
    kei_pod_kick(p);
}

/* One that was created and is not to be started, or whose start failed. */
static void on_discarded(void *user, int status, const struct ke_runtime_result *r)
{
    struct call *c = user;
    struct kei_pod *p = c->p;
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[c->i];
    (void)r;
    if (status != KE_ECANCELED && ct->attempt == c->attempt && ct->state == KEI_CT_CREATED) {
        ct->stopping = false;
        if (status < 0) {
            ct->due_mono = mono_of(ps) + STOP_RETRY_MS;
        } else {
            if (!ct->broken)
                forget(ps, ct->id);
            kei_ct_discarded(ct, mono_of(ps), real_of(ps), &ps->sconf);
        }
        kei_pod_kick(p);
    }
    kei_pod_unref(call_end(c));
}

static void do_discard(struct kei_pod *p, size_t i)
{
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[i];
    struct call *c = ps->rt ? call_new(p, i, ct->attempt) : NULL;
    ct->stopping = true;
    if (c && kei_runtime_stop(ps->rt, ct->id, 0, ps->op_ms, on_discarded, c) == 0)
        return;
    if (c)
        kei_pod_unref(call_end(c));
    ct->stopping = false;
    ct->due_mono = mono_of(ps) + STOP_RETRY_MS;
    kei_pod_kick(p);
}

/* ---- sandbox ---- */

static void on_sandbox(void *user, int status, const struct ke_runtime_result *r)
{
    struct call *c = user;
    struct kei_pod *p = c->p;
    if (status != KE_ECANCELED) {
        bool ok = status == 0 && *r->id && strlen(r->id) < KEI_ID_MAX;
        p->sandbox = ok ? KEI_SANDBOX_READY : KEI_SANDBOX_NONE;
        if (ok) {
            snprintf(p->sandbox_id, sizeof p->sandbox_id, "%s", r->id);
            snprintf(p->ip, sizeof p->ip, "%s", r->ip ? r->ip : "");
            p->sandbox_had = true;
            p->sandbox_attempt = c->attempt;
        } else {
            kei_pod_wait(p, reason_or(r, "CreatePodSandboxError"),
                         status < 0 ? r->text : "the runtime gave no usable sandbox id");
            kei_pod_pause(p);
        }
        kei_pod_kick(p);
    }
    kei_pod_unref(call_end(c));
}

static void do_sandbox(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    char logs[PATH_MAX];
    struct ke_sandbox_config s = {
        .size = sizeof s,
        .pod_namespace = p->spec->meta.ns,
        .pod_name = p->spec->meta.name,
        .pod_uid = p->uid,
        .hostname = p->spec->hostname,
        .log_folder = kei_pod_log_folder(p, logs, sizeof logs) ? logs : "",
        .attempt = p->sandbox_had ? p->sandbox_attempt + 1 : 0,
        .flags = p->spec->host_network ? KE_CONTAINER_HOST_NETWORK : 0,
        .pod_json = p->spec->json.p,
        .pod_json_len = p->spec->json.n,
    };
    struct call *c = call_new(p, 0, s.attempt);
    if (c && kei_runtime_sandbox_run(ps->rt, &s, ps->op_ms, on_sandbox, c) == 0) {
        p->sandbox = KEI_SANDBOX_STARTING;
        return;
    }
    if (c)
        kei_pod_unref(call_end(c));
    kei_pod_wait(p, "CreatePodSandboxError", "out of memory");
    kei_pod_pause(p);
}

/* ---- creating what is missing ---- */

/* Shown at the containers that wait for something the pod as a whole lacks. */
void kei_pod_wait(struct kei_pod *p, const char *reason, const char *message)
{
    for (size_t i = 0; i < p->st.n; i++) {
        struct kei_ct *c = &p->st.cts[i];
        if (!c->busy && kei_ct_restarts(&p->st, c) && mono_of(p->ps) >= c->due_mono)
            kei_ct_wait(c, reason, message);
    }
    kei_pod_dirty(p);
}

void kei_pod_pause(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    p->prep_pause = p->prep_pause ? p->prep_pause * 2 : ps->retry_min;
    if (p->prep_pause > ps->retry_max)
        p->prep_pause = ps->retry_max;
    p->prep_due = mono_of(ps) + p->prep_pause;
}

void kei_pod_retry(struct kei_pod *p)
{
    p->prep_due = p->prep_pause = 0;
    for (size_t i = 0; i < p->st.n; i++) {
        struct kei_ct *c = &p->st.cts[i];
        if (*c->reason && (c->state == KEI_CT_WAITING || c->state == KEI_CT_EXITED))
            c->due_mono = c->retry_ms = 0;
    }
    kei_pod_kick(p);
}

/* Why nothing can be created at all; NULL: it can. "" means: in a moment, say nothing. */
static const char *runtime_lacks(const struct kei_pods *ps)
{
    if (!ps->rt)
        return ps->rt_text;
    if (!ps->listed)
        return ps->list_failed ? ps->rt_text : "";
    return ps->rt_answered && !ps->rt_ready ? ps->rt_text : NULL;
}

static void create_missing(struct kei_pod *p, struct kei_step *steps, int64_t *wake)
{
    struct kei_pods *ps = p->ps;
    const char *lack = runtime_lacks(ps);
    if (lack) {
        if (*lack)
            kei_pod_wait(p, ps->rt ? "RuntimeNotReady" : "RuntimeUnavailable", lack);
        return;
    }
    const struct ke_runtime_ops *ops = kei_runtime_ops(ps->rt);
    if (mono_of(ps) < p->prep_due) {
        if (*wake < 0 || p->prep_due < *wake)
            *wake = p->prep_due;
        return;
    }
    if (ops->sandbox_run && p->sandbox != KEI_SANDBOX_READY) {
        if (p->sandbox == KEI_SANDBOX_NONE)
            do_sandbox(p);
        return;
    }
    bool any = false;
    for (size_t i = 0; i < p->st.n; i++) {
        if (steps[i].what == KEI_DO_CREATE && ops->image_pull && !p->pulled[i]) {
            steps[i].what = KEI_DO_NOTHING;
            do_pull(p, i);
        }
        any = any || steps[i].what == KEI_DO_CREATE;
    }
    if (!any)
        return;
    if (!kei_prep_ready(p)) {
        kei_prep_begin(p, !p->prepared);
        return;
    }
    for (size_t i = 0; i < p->st.n; i++) {
        if (steps[i].what == KEI_DO_CREATE)
            do_create(p, i);
    }
    kei_prep_drop(p);
}

/* Volumes of what runs follow their objects, without a restart. */
static void refresh(struct kei_pod *p, int64_t *wake)
{
    int64_t mono = mono_of(p->ps);
    if (p->refresh_due && mono >= p->refresh_due) {
        p->refresh = p->refresh_remote = true;
        p->refresh_due = 0;
    }
    if (p->refresh && !p->prep && p->prepared && p->st.desire == KEI_WANT_RUN && !p->st.final) {
        bool remote = p->refresh_remote;
        p->refresh = p->refresh_remote = false;
        kei_prep_begin(p, remote);
    } else if (p->refresh_due && (*wake < 0 || p->refresh_due < *wake)) {
        *wake = p->refresh_due;
    }
}

/* ---- looking at a pod ---- */

static void check_deadline(struct kei_pod *p)
{
    int64_t mono = mono_of(p->ps);
    if (p->st.deadline_mono && mono >= p->st.deadline_mono && p->st.desire == KEI_WANT_RUN)
        kei_state_fail(&p->st, "DeadlineExceeded",
                       "Pod was active on the node longer than the specified deadline",
                       p->st.grace_ms, mono);
}

void kei_pod_sync(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    struct kei_step steps[KEI_POD_CONTAINERS_MAX];
    bool create = false;
    int64_t wake;
    if (p->gone || ps->stopped || ps->load)
        return;
    if (ps->rt && (!ps->listed || p->unsure)) {
        if (ps->list_failed)
            kei_pod_wait(p, "RuntimeNotReady", ps->rt_text);
        kei_pod_dirty(p);
        return; /* what runs is not known yet: nothing may be begun or ended */
    }
    check_deadline(p);
    p->st.held = p->namesake || (!p->admitted && p->fit == KEI_FIT_UNKNOWN);
    bool over = kei_state_plan(&p->st, mono_of(ps), steps, &wake);
    for (size_t i = 0; i < p->st.n; i++) {
        if (steps[i].what == KEI_DO_STOP)
            do_stop(p, i, steps[i].grace_ms);
        else if (steps[i].what == KEI_DO_REMOVE)
            do_discard(p, i);
        else if (steps[i].what == KEI_DO_START)
            do_start(p, i);
        create = create || steps[i].what == KEI_DO_CREATE;
    }
    if (create)
        create_missing(p, steps, &wake);
    else if (kei_prep_ready(p))
        kei_prep_drop(p); /* it was for the volumes only */
    refresh(p, &wake);
    kei_state_settle(&p->st);
    kei_pod_dirty(p);
    if (wake >= 0) {
        int r = kei_timer_at(&p->timer, wake);
        (void)r; /* a slot is reserved */
    } else {
        kei_timer_stop(&p->timer);
    }
    if (over && p->st.desire != KEI_WANT_RUN && p->sandbox != KEI_SANDBOX_STARTING)
        kei_pod_end(p);
}

void kei_pod_delete(struct kei_pod *p, int64_t grace_ms)
{
    if (p->st.desire == KEI_WANT_KILL)
        return;
    if (p->st.desire == KEI_WANT_RUN)
        p->tells_delete = grace_ms > 0;
    kei_state_delete(&p->st, grace_ms, mono_of(p->ps));
    kei_pod_kick(p);
}

void kei_pod_kill(struct kei_pod *p)
{
    kei_state_kill(&p->st);
    kei_pod_kick(p);
}

/* ---- events ---- */

/* The pod and container an event is for: by what it names, or by its id if it names nothing. */
static struct kei_pod *pod_of(struct kei_pods *ps, const struct ke_container_info *info,
                              size_t *ret_i)
{
    *ret_i = 0;
    if (*info->pod_uid) {
        struct kei_pod *p = kei_pods_by_uid(ps, kei_str(info->pod_uid));
        *ret_i = p ? kei_pod_container(p, info->name) : 0;
        return p;
    }
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        for (size_t i = 0; i < p->st.n; i++) {
            if (*info->id && !strcmp(p->st.cts[i].id, info->id)) {
                *ret_i = i;
                return p;
            }
        }
    }
    return NULL;
}

void kei_pod_event(struct kei_pods *ps, const struct ke_container_info *info)
{
    size_t i;
    struct kei_pod *p = pod_of(ps, info, &i);
    if (!p && !*info->pod_uid)
        return; /* not ours */
    if (kei_hold_keeps(ps, info)) {
        ps->list_again = ps->list_again || ps->listing;
        return;
    }
    struct kei_ct *c = p && i < p->st.n ? &p->st.cts[i] : NULL;
    bool same = c && c->had && (*info->pod_uid ? c->attempt == info->attempt : true);
    if (c && c->busy && !same)
        return; /* its creation is not completed yet */
    if (!same) {
        if (info->state == KE_CONTAINER_RUNNING) {
            kei_log(ps->ctx, KE_LOG_WARN, "pod", "container %s runs, which nobody wants: ended",
                    info->id);
            kei_stray_end(ps, info->id);
        }
        return;
    }
    if (info->state == KE_CONTAINER_RUNNING) {
        kei_ct_started(c, mono_of(ps), info->started_ms ? info->started_ms : real_of(ps));
    } else if (info->state == KE_CONTAINER_EXITED) {
        struct kei_ct_end e;
        kei_end_of(&e, info);
        if (!e.finished_ms)
            e.finished_ms = real_of(ps);
        if (c->state == KEI_CT_CREATED && !c->broken) /* so short that its start was not told */
            kei_ct_started(c, mono_of(ps), e.started_ms);
        kei_ct_exited(c, &e, mono_of(ps), &ps->sconf);
    }
    if (*info->image_id)
        kei_text_copy(c->image_id, sizeof c->image_id, info->image_id);
    kei_pod_kick(p);
}
