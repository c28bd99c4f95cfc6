/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine tells: PodStatus to the object flow, which keeps it and passes it on; notes of
 * its own to the store; pods to the host. Only what changed is told. Loop thread.
 */
#include <stdio.h>

#include "base/fnv.h"
#include "pod/engine.h"

#define NOTE_BUCKET "pod"

/* ---- messages ---- */

static int send(struct kei_pods *ps, const char *operation, const char *type, const char *key,
                struct ke_str content)
{
    char resource[400];
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    const char *name = strchr(key, '/');
    int n = snprintf(resource, sizeof resource, "%.*s/%s%s", (int)(name - key), key, type, name);
    if (n < 0 || n >= (int)sizeof resource)
        return kei_fail(ps->ctx, KE_EINVAL, "the name %s is too long", key);
    ke_msg_config_init(&c, sizeof c);
    c.source = KEI_PODS_MODULE;
    c.group = "meta";
    c.operation = operation;
    c.resource = resource;
    c.content = content.p;
    c.content_len = content.n;
    int r = ke_msg_new(&m, ps->ctx, &c, kei_err(ps->ctx));
    if (r == 0)
        r = ke_router_send(ps->router, KEI_PODS_META, m, kei_err(ps->ctx));
    ke_msg_unref(m);
    return r;
}

static int send_status(struct kei_pods *ps, const struct kei_podspec *s, const char *key,
                       struct ke_str status)
{
    struct ke_buf b;
    kei_buf_init(&b, ps->alloc);
    kei_status_report(&b, s, status);
    int r = kei_buf_ok(&b) ? send(ps, "update", "podstatus", key, kei_buf_str(&b))
                           : kei_fail(ps->ctx, KE_ENOMEM, "out of memory for a status");
    ke_buf_free(&b);
    return r;
}

static int send_delete(struct kei_pods *ps, const char *key, const char *uid)
{
    char text[160];
    snprintf(text, sizeof text, "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"%s\"}}",
             uid);
    return send(ps, "delete", "pod", key, kei_str(text));
}

void kei_pod_tell_delete(struct kei_pod *p)
{
    if (send_delete(p->ps, p->key, p->uid) < 0)
        kei_log(p->ps->ctx, KE_LOG_WARN, "pod",
                "the cloud was not asked to delete pod %s, which has ended: %s", p->key,
                ke_ctx_error(p->ps->ctx));
}

/* ---- the host ---- */

void kei_pod_info(const struct kei_pod *p, struct ke_pod_info *ret)
{
    *ret = (struct ke_pod_info){
        .size = sizeof *ret,
        .pod_namespace = p->spec->meta.ns,
        .name = p->spec->meta.name,
        .uid = p->uid,
        .phase = kei_phase_name(kei_state_phase(&p->st)),
        .reason = p->st.reason,
        .message = p->st.message,
        .containers = (uint32_t)p->st.n,
    };
    kei_status_sums(&p->st, &ret->ready, &ret->restarts);
    for (size_t i = 0; i < p->st.n && !*ret->reason; i++) {
        const struct kei_ct *c = &p->st.cts[i];
        if (*c->reason) {
            ret->reason = c->reason;
            ret->message = c->message;
        } else if (kei_ct_crash_looping(&p->st, c, ke_ctx_mono_ms(p->ps->ctx))) {
            ret->reason = "CrashLoopBackOff";
        }
    }
}

static uint64_t info_hash(const struct ke_pod_info *i)
{
    const char *const texts[] = {i->phase, i->reason, i->message};
    const uint32_t numbers[] = {i->ready, i->containers, i->restarts};
    uint64_t h = kei_fnv1a(KEI_FNV1A, numbers, sizeof numbers);
    for (size_t k = 0; k < 3; k++)
        h = kei_fnv1a(h, texts[k], strlen(texts[k]) + 1);
    return h;
}

/* Not what it knows: a status may change in parts that the host is not told. */
static void tell_host(struct kei_pod *p, bool removed)
{
    struct ke_pod_info info;
    if (!p->ps->ops.pod)
        return;
    kei_pod_info(p, &info);
    uint64_t h = info_hash(&info);
    if (!removed && p->told && p->told_hash == h)
        return;
    p->told = true;
    p->told_hash = h;
    info.removed = removed;
    p->ps->ops.pod(p->ps->user, &info);
}

void kei_pod_tell_gone(struct kei_pod *p)
{
    tell_host(p, true);
}

/* ---- status ---- */

static void write_status(struct kei_pod *p, struct ke_buf *out)
{
    struct kei_pods *ps = p->ps;
    struct kei_status_env e = {
        .dialect = kei_pods_dialect(ps),
        .runtime = ps->rt_name,
        .host_ip = ps->node_ip,
        .pod_ip = kei_pod_ip(p),
        .start_ms = p->start_ms,
        .mono = ke_ctx_mono_ms(ps->ctx),
        .real = ke_ctx_real_ms(ps->ctx),
        .sandbox_ready = p->prepared || p->sandbox == KEI_SANDBOX_READY,
    };
    kei_status_write(out, p->spec, &p->st, &p->conds, &e);
}

/* True once it may be told: what a pod reported before holds until its containers are known. */
static bool is_known(const struct kei_pod *p)
{
    return !p->ps->rt || (p->ps->listed && !p->unsure) || (p->ps->list_failed && !p->sent);
}

void kei_pod_report(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    struct ke_buf b;
    if (!is_known(p) || p->gone)
        return;
    kei_buf_init(&b, ps->alloc);
    write_status(p, &b);
    char *copy = kei_buf_ok(&b) ? kei_strndup(ps->alloc, b.p, b.n) : NULL;
    bool same = copy && p->sent && kei_json_same(kei_buf_str(&b), kei_strn(p->sent, p->sent_n));
    bool changed = copy && !same && p->st.desire != KEI_WANT_KILL;
    int r = changed ? send_status(ps, p->spec, p->key, kei_buf_str(&b)) : 0;
    if (!copy || r < 0) {
        kei_log(ps->ctx, KE_LOG_DEBUG, "pod", "status of pod %s is told later: %s", p->key,
                r < 0 ? ke_ctx_error(ps->ctx) : "out of memory");
        kei_pods_report_later(ps);
        kei_free(ps->alloc, copy);
    } else if (changed) {
        kei_free(ps->alloc, p->sent);
        p->sent = copy;
        p->sent_n = b.n;
    } else {
        kei_free(ps->alloc, copy);
    }
    ke_buf_free(&b);
    if (changed || !p->told)
        tell_host(p, false);
}

void kei_pods_retell(struct kei_pods *ps)
{
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        kei_free(ps->alloc, p->sent);
        p->sent = NULL;
        p->sent_n = 0;
        kei_pod_dirty(p);
    }
}

static void send_invalid(struct kei_pods *ps, const struct kei_podspec *s, const char *why)
{
    struct ke_buf b;
    struct kei_jw w;
    char key[320];
    kei_buf_init(&b, ps->alloc);
    snprintf(key, sizeof key, "%s/%s", s->meta.ns, s->meta.name);
    kei_jw_init(&w, &b);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "phase", "Failed");
    kei_jw_kstr(&w, "message", why);
    kei_jw_kstr(&w, "reason", "InvalidPod");
    kei_jw_obj_end(&w);
    int r = kei_buf_ok(&b) ? send_status(ps, s, key, kei_buf_str(&b)) : KE_ENOMEM;
    if (r == 0 && s->meta.deletion_ms && s->meta.deletion_grace_s != 0)
        r = send_delete(ps, key, s->meta.uid);
    if (r < 0)
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "status of pod %s was not told", key);
    ke_buf_free(&b);
}

void kei_report_invalid(struct kei_pods *ps, struct ke_str json, const char *text, bool told)
{
    struct kei_podspec s = {0};
    struct kei_arena arena;
    char why[KE_ERROR_TEXT_MAX];
    kei_text_copy(why, sizeof why, text); /* it is the context's, which may change below */
    kei_arena_init(&arena, ps->alloc, 0);
    if (kei_json_value(json, 0, &s.json, NULL) == 0 &&
        kei_meta_read(&s.meta, s.json, &arena, NULL) == 0 && kei_dns_label(kei_str(s.meta.ns)) &&
        kei_dns_subdomain(kei_str(s.meta.name)) && kei_pod_uid_valid(kei_str(s.meta.uid))) {
        kei_invalid_note(ps, s.meta.ns, s.meta.name, s.meta.uid, why);
        if (!told)
            send_invalid(ps, &s, why);
    }
    kei_arena_free(&arena);
}

/* ---- notes: what neither the runtime nor the last status tells after a restart ---- */

static void write_note(const struct kei_pod *p, struct ke_buf *out)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "pod", p->key);
    kei_jw_ki64(&w, "start", p->start_ms);
    if (p->st.final) {
        kei_jw_kbool(&w, "succeeded", p->st.succeeded);
        kei_jw_kstr(&w, "reason", p->st.reason);
        kei_jw_kstr(&w, "message", p->st.message);
    }
    if (p->sandbox_had) {
        kei_jw_ki64(&w, "sandboxAttempt", p->sandbox_attempt);
        kei_jw_kstr(&w, "sandbox", p->sandbox == KEI_SANDBOX_READY ? p->sandbox_id : "");
        kei_jw_kstr(&w, "ip", p->ip);
    }
    kei_jw_key(&w, "containers");
    kei_jw_obj(&w);
    for (size_t i = 0; i < p->st.n; i++) {
        const struct kei_ct *c = &p->st.cts[i];
        if (!c->had)
            continue;
        kei_jw_key(&w, p->spec->containers[i].name);
        kei_jw_obj(&w);
        kei_jw_ki64(&w, "attempt", c->attempt);
        kei_jw_ki64(&w, "backoff", c->backoff_ms);
        kei_jw_kstr(&w, "id", c->id);
        kei_jw_ki64(&w, "imageHash", (int64_t)c->image_hash);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

static void note_key(char out[KEI_POD_UID_MAX + 8], const char *uid)
{
    snprintf(out, KEI_POD_UID_MAX + 8, "%s/state", uid);
}

static void on_noted(void *user, int status)
{
    struct kei_pods *ps = user;
    if (status < 0 && !ps->stopped)
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "notes on pods were not kept: %s",
                ke_ctx_error(ps->ctx));
    kei_pods_unref(ps);
}

static int put_note(struct ke_store_tx *tx, struct kei_pod *p, struct ke_buf *b)
{
    char key[KEI_POD_UID_MAX + 8];
    note_key(key, p->uid);
    kei_buf_clear(b);
    write_note(p, b);
    if (!kei_buf_ok(b))
        return KE_ENOMEM;
    if (p->note && !strcmp(p->note, b->p))
        return 0;
    char *copy = kei_strndup(p->ps->alloc, b->p, b->n);
    int r = copy ? ke_store_put(tx, NOTE_BUCKET, key, p->uid, 0, b->p, b->n) : KE_ENOMEM;
    if (r < 0) {
        kei_free(p->ps->alloc, copy);
        return r;
    }
    kei_free(p->ps->alloc, p->note);
    p->note = copy;
    return 1;
}

static void commit(struct kei_pods *ps, struct ke_store_tx *tx)
{
    ps->refs++;
    int r = ke_store_commit(tx, on_noted, ps);
    if (r < 0)
        on_noted(ps, r);
}

void kei_notes_write(struct kei_pods *ps)
{
    struct ke_store_tx *tx = NULL;
    struct ke_buf b;
    bool any = false;
    int r = 0;
    if (kei_list_empty(&ps->dirty) || ke_store_begin(&tx, ps->store) < 0)
        return;
    kei_buf_init(&b, ps->alloc);
    KEI_LIST_EACH(l, &ps->dirty)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, dirty);
        if (!is_known(p) || p->st.desire == KEI_WANT_KILL)
            continue;
        r = put_note(tx, p, &b);
        if (r < 0)
            kei_log(ps->ctx, KE_LOG_WARN, "pod", "a note on pod %s was not kept: %s", p->key,
                    ke_strerror(r));
        any = any || r > 0;
    }
    ke_buf_free(&b);
    if (any)
        commit(ps, tx);
    else
        ke_store_abort(tx);
}

void kei_note_remove(struct kei_pods *ps, const char *uid)
{
    struct ke_store_tx *tx = NULL;
    char key[KEI_POD_UID_MAX + 8];
    note_key(key, uid);
    if (ke_store_begin(&tx, ps->store) < 0)
        return;
    if (ke_store_delete(tx, NOTE_BUCKET, key, NULL) < 0)
        ke_store_abort(tx);
    else
        commit(ps, tx);
}

static int64_t get_number(struct ke_str v, const char *key)
{
    struct ke_str x;
    int64_t n = 0;
    return kei_json_get(v, key, &x) && kei_json_i64(x, &n) ? n : 0;
}

static void get_text(struct ke_str v, const char *key, char *out, size_t n)
{
    struct ke_str x;
    if (kei_json_get(v, key, &x))
        kei_json_copy(out, n, x);
}

void kei_note_read(struct kei_pod *p, struct ke_str note)
{
    struct ke_str v, c;
    p->admitted = true;
    p->start_ms = get_number(note, "start");
    if (kei_json_get(note, "succeeded", &v)) {
        p->st.final = true;
        p->st.succeeded = kei_json_bool(v, false);
        get_text(note, "reason", p->st.reason, sizeof p->st.reason);
        get_text(note, "message", p->st.message, sizeof p->st.message);
    }
    if (kei_json_get(note, "sandboxAttempt", &v)) {
        p->sandbox_had = true;
        p->sandbox_attempt = (uint32_t)get_number(note, "sandboxAttempt");
        get_text(note, "sandbox", p->sandbox_id, sizeof p->sandbox_id);
        get_text(note, "ip", p->ip, sizeof p->ip);
    }
    if (!kei_json_get(note, "containers", &v))
        return;
    for (size_t i = 0; i < p->st.n; i++) {
        struct kei_ct *ct = &p->st.cts[i];
        if (!kei_json_get(v, p->spec->containers[i].name, &c))
            continue;
        ct->had = true;
        ct->attempt = (uint32_t)get_number(c, "attempt");
        ct->backoff_ms = get_number(c, "backoff");
        get_text(c, "id", ct->id, sizeof ct->id);
        ct->image_hash = (uint64_t)get_number(c, "imageHash");
    }
}
