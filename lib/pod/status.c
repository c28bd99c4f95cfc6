/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and reading PodStatus. Pure; memory is the caller's buffer. */
#include "pod/status.h"

#include <stdio.h>

#include <kubeedge/msg.h>

#include "base/codec.h"

struct writer {
    struct kei_jw w;
    const struct kei_podspec *s;
    const struct kei_pod_state *st;
    struct kei_conds *conds;
    const struct kei_status_env *e;
    enum kei_phase phase;
};

static const char *const cond_names[KEI_CONDS] = {"PodReadyToStartContainers", "Initialized",
                                                  "Ready", "ContainersReady", "PodScheduled"};

static void put_time(struct kei_jw *w, const char *key, int64_t unix_ms)
{
    char text[KEI_TIME_MAX];
    kei_jw_key(w, key);
    if (unix_ms <= 0) {
        kei_jw_null(w);
        return;
    }
    kei_time_rfc3339(text, unix_ms);
    kei_jw_str(w, text);
}

static void put_some(struct kei_jw *w, const char *key, const char *s)
{
    if (*s)
        kei_jw_kstr(w, key, s);
}

/* ---- conditions ---- */

/* Appends "[a b]" of the containers that do not run. False if all do. */
static bool unready_list(const struct kei_pod_state *st, const struct kei_podspec *s, char *out,
                         size_t n)
{
    size_t at = 1;
    bool any = false;
    out[0] = '[';
    for (size_t i = 0; i < st->n; i++) {
        if (st->cts[i].state == KEI_CT_RUNNING)
            continue;
        size_t k = strlen(s->containers[i].name);
        if (at + k + 3 > n)
            break;
        if (any)
            out[at++] = ' ';
        memcpy(out + at, s->containers[i].name, k);
        at += k;
        any = true;
    }
    out[at++] = ']';
    out[at] = '\0';
    return any;
}

static void put_cond(struct writer *x, enum kei_cond c, bool value, const char *reason,
                     const char *message)
{
    struct kei_jw *w = &x->w;
    int8_t now = value ? 1 : -1;
    if (x->conds->value[c] != now) {
        x->conds->value[c] = now;
        x->conds->since_ms[c] = x->e->real;
    }
    kei_jw_obj(w);
    kei_jw_kstr(w, "type", cond_names[c]);
    kei_jw_kstr(w, "status", value ? "True" : "False");
    kei_jw_key(w, "lastProbeTime");
    kei_jw_null(w);
    put_time(w, "lastTransitionTime", x->conds->since_ms[c]);
    put_some(w, "reason", reason);
    put_some(w, "message", message);
    kei_jw_obj_end(w);
}

/* Conditions of other owners (readiness gates, schedulers) go on as they came. */
static void put_foreign(struct writer *x)
{
    struct ke_str list, v, type;
    if (!x->s->status.p || !kei_json_get(x->s->status, "conditions", &list))
        return;
    for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
        bool own = !kei_json_get(v, "type", &type);
        for (size_t i = 0; !own && i < KEI_CONDS; i++)
            own = kei_json_str_is(type, cond_names[i]);
        if (!own)
            kei_jw_raw(&x->w, v);
    }
}

/* All containers ended well, and none will run again. */
static bool completed(const struct kei_pod_state *st)
{
    for (size_t i = 0; i < st->n; i++) {
        if (st->cts[i].state != KEI_CT_EXITED || st->cts[i].end.exit_code != 0)
            return false;
    }
    return st->restart != KEI_RESTART_ALWAYS;
}

static bool gates_ready(const struct kei_podspec *s)
{
    struct ke_str gates, gate, type, list, v, t, status;
    if (!kei_json_get(s->spec, "readinessGates", &gates))
        return true;
    for (size_t it = 0; kei_json_next(gates, &it, NULL, &gate);) {
        bool found = false;
        if (!kei_json_get(gate, "conditionType", &type) || !s->status.p ||
            !kei_json_get(s->status, "conditions", &list))
            return false;
        for (size_t k = 0; kei_json_next(list, &k, NULL, &v);) {
            if (kei_json_get(v, "type", &t) && kei_json_get(v, "status", &status) &&
                kei_json_str_eq(t, type))
                found = kei_json_str_is(status, "True");
        }
        if (!found)
            return false;
    }
    return true;
}

static void put_conditions(struct writer *x)
{
    char list[1200], message[1300] = "";
    const char *reason = "";
    bool done = x->phase == KEI_PHASE_SUCCEEDED || completed(x->st);
    bool failed = x->phase == KEI_PHASE_FAILED;
    bool unready = unready_list(x->st, x->s, list, sizeof list);
    if (done) {
        reason = "PodCompleted";
    } else if (failed) {
        reason = "PodFailed";
    } else if (unready) {
        static const char text[] = "containers with unready status: ";
        reason = "ContainersNotReady";
        memcpy(message, text, sizeof text - 1);
        memcpy(message + sizeof text - 1, list, strlen(list) + 1);
    }
    bool ready = !done && !failed && !unready;
    bool gates = gates_ready(x->s);
    kei_jw_key(&x->w, "conditions");
    kei_jw_arr(&x->w);
    if (x->e->dialect >= KE_DIALECT_1_23)
        put_cond(x, KEI_COND_SANDBOX, x->e->sandbox_ready && x->phase < KEI_PHASE_SUCCEEDED, "",
                 "");
    put_cond(x, KEI_COND_INITIALIZED, true, done ? "PodCompleted" : "", "");
    put_cond(x, KEI_COND_READY, ready && gates, ready && !gates ? "ReadinessGatesNotReady" : reason,
             message);
    put_cond(x, KEI_COND_CONTAINERS_READY, ready, reason, message);
    put_cond(x, KEI_COND_SCHEDULED, true, "", "");
    put_foreign(x);
    kei_jw_arr_end(&x->w);
}

/* ---- containers ---- */

static void put_id(struct writer *x, const char *id)
{
    char full[KEI_ID_MAX + 80];
    if (*id) {
        snprintf(full, sizeof full, "%.64s://%s", x->e->runtime, id);
        kei_jw_kstr(&x->w, "containerID", full);
    }
}

static void put_terminated(struct writer *x, const struct kei_ct_end *e)
{
    struct kei_jw *w = &x->w;
    kei_jw_key(w, "terminated");
    kei_jw_obj(w);
    kei_jw_ki64(w, "exitCode", e->exit_code);
    if (e->signal)
        kei_jw_ki64(w, "signal", e->signal);
    put_some(w, "reason", e->reason);
    put_some(w, "message", e->message);
    put_time(w, "startedAt", e->started_ms);
    put_time(w, "finishedAt", e->finished_ms);
    put_id(x, e->id);
    kei_jw_obj_end(w);
}

static void put_waiting(struct writer *x, const char *reason, const char *message)
{
    kei_jw_key(&x->w, "waiting");
    kei_jw_obj(&x->w);
    kei_jw_kstr(&x->w, "reason", reason);
    put_some(&x->w, "message", message);
    kei_jw_obj_end(&x->w);
}

static void put_back_off(struct writer *x, const struct kei_spec_container *c,
                         const struct kei_ct *ct)
{
    char text[512], pause[40];
    long long s = (long long)(ct->pause_ms + 999) / 1000;
    if (s < 60)
        snprintf(pause, sizeof pause, "%llds", s);
    else
        snprintf(pause, sizeof pause, "%lldm%llds", s / 60, s % 60);
    snprintf(text, sizeof text, "back-off %s restarting failed container=%s pod=%s_%s(%s)", pause,
             c->name, x->s->meta.name, x->s->meta.ns, x->s->meta.uid);
    put_waiting(x, "CrashLoopBackOff", text);
}

/* True if it is shown as waiting although an instance has ended: its end is then the last state. */
static bool shown_waiting(const struct writer *x, const struct kei_ct *c)
{
    return c->state == KEI_CT_EXITED && kei_ct_restarts(x->st, c) &&
           (*c->reason || kei_ct_crash_looping(x->st, c, x->e->mono));
}

static void put_state(struct writer *x, const struct kei_spec_container *sc, const struct kei_ct *c)
{
    struct kei_jw *w = &x->w;
    kei_jw_key(w, "state");
    kei_jw_obj(w);
    if (c->state == KEI_CT_RUNNING) {
        kei_jw_key(w, "running");
        kei_jw_obj(w);
        put_time(w, "startedAt", c->started_ms);
        kei_jw_obj_end(w);
    } else if (c->state == KEI_CT_EXITED && !shown_waiting(x, c)) {
        put_terminated(x, &c->end);
    } else if (c->state == KEI_CT_EXITED && !*c->reason) {
        put_back_off(x, sc, c);
    } else {
        put_waiting(x, *c->reason ? c->reason : "ContainerCreating", c->message);
    }
    kei_jw_obj_end(w);
    kei_jw_key(w, "lastState");
    kei_jw_obj(w);
    const struct kei_ct_end *last = shown_waiting(x, c) ? &c->end : &c->last;
    if (last->valid)
        put_terminated(x, last);
    kei_jw_obj_end(w);
}

/* Since 1.23. Whether mounts below a read-only one may be written to is told with it. */
static void put_mounts(struct writer *x, struct ke_str container)
{
    struct kei_jw *w = &x->w;
    struct ke_str list, m, v;
    size_t it = 0;
    if (x->e->dialect < KE_DIALECT_1_23 || !kei_json_get(container, "volumeMounts", &list) ||
        !kei_json_next(list, &it, NULL, &m))
        return;
    kei_jw_key(w, "volumeMounts");
    kei_jw_arr(w);
    do {
        kei_jw_obj(w);
        if (kei_json_get(m, "name", &v))
            kei_jw_kraw(w, "name", v);
        if (kei_json_get(m, "mountPath", &v))
            kei_jw_kraw(w, "mountPath", v);
        if (kei_json_get(m, "readOnly", &v) && kei_json_bool(v, false)) {
            kei_jw_kbool(w, "readOnly", true);
            kei_jw_kstr(w, "recursiveReadOnly", "Disabled");
        }
        kei_jw_obj_end(w);
    } while (kei_json_next(list, &it, NULL, &m));
    kei_jw_arr_end(w);
}

static void put_container(struct writer *x, size_t i)
{
    struct kei_jw *w = &x->w;
    const struct kei_spec_container *sc = &x->s->containers[i];
    const struct kei_ct *c = &x->st->cts[i];
    bool running = c->state == KEI_CT_RUNNING;
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", sc->name);
    put_state(x, sc, c);
    kei_jw_kbool(w, "ready", running);
    kei_jw_ki64(w, "restartCount", c->had ? c->attempt : 0);
    kei_jw_kstr(w, "image", sc->image);
    kei_jw_kstr(w, "imageID", c->image_id);
    if (c->state != KEI_CT_WAITING && c->state != KEI_CT_CREATED)
        put_id(x, c->id);
    kei_jw_kbool(w, "started", running);
    put_mounts(x, sc->json);
    kei_jw_obj_end(w);
}

/* By name, as kubelet sorts them. */
static void put_containers(struct writer *x)
{
    const char *last = "";
    bool any = !x->st->final; /* a pod that was refused has none */
    for (size_t i = 0; i < x->st->n; i++)
        any = any || x->st->cts[i].had;
    if (!any)
        return;
    kei_jw_key(&x->w, "containerStatuses");
    kei_jw_arr(&x->w);
    for (size_t k = 0; k < x->st->n; k++) {
        size_t best = x->st->n;
        for (size_t i = 0; i < x->st->n; i++) {
            const char *name = x->s->containers[i].name;
            if (strcmp(name, last) > 0 &&
                (best == x->st->n || strcmp(name, x->s->containers[best].name) < 0))
                best = i;
        }
        if (best == x->st->n)
            break;
        put_container(x, best);
        last = x->s->containers[best].name;
    }
    kei_jw_arr_end(&x->w);
}

static void put_ephemeral(struct writer *x)
{
    struct kei_jw *w = &x->w;
    if (x->s->n_ephemeral == 0)
        return;
    kei_jw_key(w, "ephemeralContainerStatuses");
    kei_jw_arr(w);
    for (size_t i = 0; i < x->s->n_ephemeral; i++) {
        kei_jw_obj(w);
        kei_jw_kstr(w, "name", x->s->ephemeral[i].name);
        kei_jw_key(w, "state");
        kei_jw_obj(w);
        put_waiting(x, "UnsupportedEphemeralContainer",
                    "ephemeral containers are not supported by this node");
        kei_jw_obj_end(w);
        kei_jw_key(w, "lastState");
        kei_jw_obj(w);
        kei_jw_obj_end(w);
        kei_jw_kbool(w, "ready", false);
        kei_jw_ki64(w, "restartCount", 0);
        kei_jw_kstr(w, "image", x->s->ephemeral[i].image);
        kei_jw_kstr(w, "imageID", "");
        kei_jw_kbool(w, "started", false);
        kei_jw_obj_end(w);
    }
    kei_jw_arr_end(w);
}

/* ---- the whole ---- */

static void put_ips(struct writer *x, const char *key, const char *list, const char *ip)
{
    struct kei_jw *w = &x->w;
    if (!*ip)
        return;
    kei_jw_kstr(w, key, ip);
    if (!list)
        return;
    kei_jw_key(w, list);
    kei_jw_arr(w);
    kei_jw_obj(w);
    kei_jw_kstr(w, "ip", ip);
    kei_jw_obj_end(w);
    kei_jw_arr_end(w);
}

static bool nothing_runs(const struct kei_pod_state *st)
{
    for (size_t i = 0; i < st->n; i++) {
        if (st->cts[i].state == KEI_CT_RUNNING || st->cts[i].state == KEI_CT_CREATED)
            return false;
    }
    return true;
}

/*
 * Kubernetes keeps the phase of a deleted pod whose containers were ended. A cloud of 1.4 only
 * deletes it when it is Succeeded or Failed; later kubelets say Failed.
 */
static enum kei_phase told_phase(const struct writer *x)
{
    enum kei_phase p = kei_state_phase(x->st);
    if (x->st->desire == KEI_WANT_RUN || x->st->final || !nothing_runs(x->st))
        return p;
    if (x->e->dialect == KE_DIALECT_1_4)
        return KEI_PHASE_SUCCEEDED;
    if (x->e->dialect >= KE_DIALECT_1_23)
        return completed(x->st) ? KEI_PHASE_SUCCEEDED : KEI_PHASE_FAILED;
    return p;
}

void kei_status_write(struct ke_buf *out, const struct kei_podspec *s,
                      const struct kei_pod_state *st, struct kei_conds *conds,
                      const struct kei_status_env *e)
{
    struct writer x = {.s = s, .st = st, .conds = conds, .e = e};
    struct ke_str v;
    kei_jw_init(&x.w, out);
    x.phase = told_phase(&x);
    kei_jw_obj(&x.w);
    kei_jw_kstr(&x.w, "phase", kei_phase_name(x.phase));
    put_conditions(&x);
    put_some(&x.w, "message", st->message);
    put_some(&x.w, "reason", st->reason);
    put_ips(&x, "hostIP", e->dialect >= KE_DIALECT_1_23 ? "hostIPs" : NULL, e->host_ip);
    put_ips(&x, "podIP", "podIPs", e->pod_ip);
    put_time(&x.w, "startTime", e->start_ms);
    put_containers(&x);
    if (s->status.p && kei_json_get(s->status, "qosClass", &v))
        kei_jw_kraw(&x.w, "qosClass", v);
    put_ephemeral(&x);
    kei_jw_obj_end(&x.w);
}

void kei_status_report(struct ke_buf *out, const struct kei_podspec *s, struct ke_str status)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "UID", s->meta.uid);
    kei_jw_kstr(&w, "Name", s->meta.name);
    kei_jw_kraw(&w, "Status", status);
    kei_jw_obj_end(&w);
}

void kei_status_sums(const struct kei_pod_state *st, uint32_t *ret_ready, uint32_t *ret_restarts)
{
    *ret_ready = *ret_restarts = 0;
    for (size_t i = 0; i < st->n; i++) {
        *ret_ready += st->cts[i].state == KEI_CT_RUNNING;
        *ret_restarts += st->cts[i].had ? st->cts[i].attempt : 0;
    }
}

/* ---- reading ---- */

static int64_t get_time(struct ke_str v, const char *key)
{
    struct ke_str t;
    int64_t ms = 0;
    if (kei_json_get(v, key, &t) && kei_json_type(t) == '"' && t.n > 2)
        kei_time_parse(kei_strn(t.p + 1, t.n - 2), &ms);
    return ms;
}

static void get_text(struct ke_str v, const char *key, char *out, size_t n)
{
    struct ke_str t;
    out[0] = '\0';
    if (kei_json_get(v, key, &t))
        kei_json_copy(out, n, t);
}

void kei_status_read(struct ke_str status, struct kei_conds *conds, int64_t *ret_start_ms)
{
    struct ke_str list, v, type, value;
    *ret_start_ms = get_time(status, "startTime");
    if (!kei_json_get(status, "conditions", &list))
        return;
    for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
        if (!kei_json_get(v, "type", &type) || !kei_json_get(v, "status", &value))
            continue;
        for (size_t i = 0; i < KEI_CONDS; i++) {
            if (!kei_json_str_is(type, cond_names[i]))
                continue;
            conds->value[i] = kei_json_str_is(value, "True") ? 1 : -1;
            conds->since_ms[i] = get_time(v, "lastTransitionTime");
        }
    }
}

enum kei_phase kei_status_phase(struct ke_str status)
{
    struct ke_str v;
    if (!kei_json_get(status, "phase", &v))
        return KEI_PHASE_PENDING;
    for (int p = KEI_PHASE_RUNNING; p <= KEI_PHASE_FAILED; p++) {
        if (kei_json_str_is(v, kei_phase_name((enum kei_phase)p)))
            return (enum kei_phase)p;
    }
    return KEI_PHASE_PENDING;
}

/* "runtime://id" */
static void get_id(struct ke_str v, char out[KEI_ID_MAX])
{
    char full[KEI_ID_MAX + 64];
    get_text(v, "containerID", full, sizeof full);
    const char *p = strstr(full, "://");
    kei_text_copy(out, KEI_ID_MAX, p ? p + 3 : "");
}

static bool get_end(struct ke_str state, struct kei_ct_end *e)
{
    struct ke_str t, code;
    int64_t n = 0;
    *e = (struct kei_ct_end){0};
    if (!kei_json_get(state, "terminated", &t) || kei_json_type(t) != '{')
        return false;
    e->valid = true;
    if (kei_json_get(t, "exitCode", &code) && kei_json_i64(code, &n))
        e->exit_code = (int32_t)n;
    n = 0;
    if (kei_json_get(t, "signal", &code) && kei_json_i64(code, &n))
        e->signal = (int32_t)n;
    e->started_ms = get_time(t, "startedAt");
    e->finished_ms = get_time(t, "finishedAt");
    get_text(t, "reason", e->reason, sizeof e->reason);
    get_text(t, "message", e->message, sizeof e->message);
    get_id(t, e->id);
    return true;
}

bool kei_status_container(struct ke_str status, const char *name, struct kei_ct *c,
                          bool *ret_running)
{
    struct ke_str list, v, x;
    int64_t n = 0;
    *ret_running = false;
    if (!kei_json_get(status, "containerStatuses", &list))
        return false;
    for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
        if (!kei_json_get(v, "name", &x) || !kei_json_str_is(x, name))
            continue;
        if (kei_json_get(v, "restartCount", &x) && kei_json_i64(x, &n) && n >= 0 && n < INT32_MAX)
            c->attempt = (uint32_t)n;
        get_text(v, "imageID", c->image_id, sizeof c->image_id);
        get_id(v, c->id);
        if (kei_json_get(v, "lastState", &x))
            get_end(x, &c->last);
        if (!kei_json_get(v, "state", &x))
            return false;
        struct ke_str run;
        if (kei_json_get(x, "running", &run) && kei_json_type(run) == '{') {
            *ret_running = true;
            c->started_ms = get_time(run, "startedAt");
        } else if (!get_end(x, &c->end) && c->last.valid) {
            c->end = c->last; /* it waited for its next run */
            c->last = (struct kei_ct_end){0};
        }
        return *ret_running || c->end.valid;
    }
    return false;
}
