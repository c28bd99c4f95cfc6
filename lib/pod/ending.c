/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a pod whose containers are over: its sandbox, its instances in the runtime, its
 * folders. A pod that is being deleted is then told to the cloud and kept until that lets go of it;
 * one that is gone in the cloud is forgotten. Each operation holds a reference to the pod. Loop
 * thread.
 */
#include <limits.h>

#include "pod/engine.h"

static void end_op_done(struct kei_pod *p)
{
    p->end_ops--;
    if (p->end_ops == 0 && !p->gone && !p->ps->stopped)
        kei_pod_end(p);
}

static void on_end_op(void *user, int status, const struct ke_runtime_result *r)
{
    struct kei_pod *p = user;
    if (status < 0 && status != KE_ECANCELED && status != KE_ENOTFOUND)
        kei_log(p->ps->ctx, KE_LOG_WARN, "pod", "pod %s was not taken down in full: %s", p->key,
                r->text);
    end_op_done(p);
    kei_pod_unref(p);
}

static void on_sandbox_stopped(void *user, int status, const struct ke_runtime_result *r)
{
    struct kei_pod *p = user;
    struct kei_pods *ps = p->ps;
    if (status == 0 && !ps->stopped && kei_runtime_ops(ps->rt)->sandbox_remove &&
        kei_runtime_sandbox_remove(ps->rt, p->sandbox_id, ps->op_ms, on_end_op, p) == 0)
        return;
    on_end_op(p, status, r);
}

static void end_sandbox(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    if (p->sandbox != KEI_SANDBOX_READY || !ps->rt || !kei_runtime_ops(ps->rt)->sandbox_stop)
        return;
    p->sandbox = KEI_SANDBOX_NONE;
    kei_pod_ref(p);
    p->end_ops++;
    if (kei_runtime_sandbox_stop(ps->rt, p->sandbox_id, ps->op_ms, on_sandbox_stopped, p) == 0)
        return;
    p->end_ops--;
    kei_pod_unref(p);
}

/* The removal of one instance. */
struct removal {
    struct kei_pod *p;
    char id[KEI_ID_MAX];
};

static void on_removed(void *user, int status, const struct ke_runtime_result *r)
{
    struct removal *m = user;
    struct kei_pod *p = m->p;
    if (status < 0 && status != KE_ECANCELED && status != KE_ENOTFOUND)
        kei_stray_failed(p->ps, m->id, status, r->text); /* the pod need not wait for it */
    kei_free(p->ps->alloc, m);
    end_op_done(p);
    kei_pod_unref(p);
}

static void remove_one(struct kei_pod *p, const char *id)
{
    struct kei_pods *ps = p->ps;
    if (!*id || !ps->rt || !kei_runtime_ops(ps->rt)->container_remove)
        return;
    struct removal *m = kei_alloc(ps->alloc, sizeof *m);
    if (!m)
        return; /* found at the next start */
    m->p = p;
    kei_text_copy(m->id, sizeof m->id, id);
    kei_pod_ref(p);
    p->end_ops++;
    if (kei_runtime_remove(ps->rt, id, ps->op_ms, on_removed, m) == 0)
        return;
    p->end_ops--;
    kei_free(ps->alloc, m);
    kei_stray_failed(ps, id, KE_ENOMEM, ke_strerror(KE_ENOMEM));
    kei_pod_unref(p);
}

struct folder_job {
    struct kei_work work;
    struct kei_pod *p;
    struct kei_folder_removal rm;
    int status;
    bool more; /* the slice was not the last */
    struct ke_error err;
    char *path, *logs; /* what is removed now and what comes then; "" if nothing. In paths */
    char paths[];
};

static void folder_run(struct kei_work *w)
{
    struct folder_job *j = KEI_OF(w, struct folder_job, work);
    const struct ke_io *io = kei_ctx_io(j->p->ps->ctx);
    int r = kei_folder_remove_some(io, &j->rm, j->path, KEI_REMOVE_SLICE,
                                   j->status < 0 ? NULL : &j->err);
    j->more = r > 0;
    if (r > 0)
        return;
    if (j->status == 0)
        j->status = r;
    j->rm = (struct kei_folder_removal){.root = 0};
    j->path = j->logs;
    j->logs = j->logs + strlen(j->logs);
    j->more = *j->path != '\0';
}

static void folder_done(struct kei_work *w)
{
    struct folder_job *j = KEI_OF(w, struct folder_job, work);
    struct kei_pod *p = j->p;
    struct kei_pods *ps = p->ps;
    if (j->more && !ps->stopped) { /* what a stop leaves is found at the next start */
        int r = kei_work_submit(ps->ctx, &j->work, folder_run, folder_done);
        if (r == 0)
            return;
        if (j->status == 0)
            j->status = kei_error(&j->err, r, "%s", ke_ctx_error(ps->ctx));
    }
    if (j->status < 0)
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "files of pod %s remain: %s", p->key, j->err.text);
    kei_free(ps->alloc, j);
    end_op_done(p);
    kei_pod_unref(p);
}

static void end_folder(struct kei_pod *p)
{
    struct kei_pods *ps = p->ps;
    char volumes[PATH_MAX], logs[PATH_MAX] = "";
    if (p->st.desire == KEI_WANT_KILL && !kei_pod_log_folder(p, logs, sizeof logs))
        logs[0] = '\0'; /* else they stay */
    if (!kei_pod_folder(volumes, sizeof volumes, ps->data, p->uid))
        return;
    size_t n = strlen(volumes) + 1, k = strlen(logs) + 1;
    struct folder_job *j = kei_zalloc(ps->alloc, sizeof *j + n + k);
    if (!j)
        return; /* found at the next start */
    j->p = p;
    j->err = (struct ke_error)KE_ERROR_INIT;
    memcpy(j->paths, volumes, n);
    memcpy(j->paths + n, logs, k);
    j->path = j->paths;
    j->logs = j->paths + n;
    kei_pod_ref(p);
    p->end_ops++;
    if (kei_work_submit(ps->ctx, &j->work, folder_run, folder_done) == 0)
        return;
    p->end_ops--;
    kei_free(ps->alloc, j);
    kei_pod_unref(p);
}

static void gone(struct kei_pod *p)
{
    kei_note_remove(p->ps, p->uid);
    kei_pod_tell_gone(p);
    kei_pod_settle_name(p);
    kei_pod_drop(p);
}

void kei_pod_end(struct kei_pod *p)
{
    bool killed = p->st.desire == KEI_WANT_KILL;
    kei_prep_drop(p);
    while (p->end_ops == 0 && !p->gone) {
        switch (p->end) {
        case KEI_END_NOT:
            p->end = KEI_END_SANDBOX;
            end_sandbox(p);
            break;
        case KEI_END_SANDBOX:
            p->end = killed ? KEI_END_REMOVE : KEI_END_FOLDER;
            if (killed) {
                for (size_t i = 0; i < p->st.n; i++) {
                    remove_one(p, p->st.cts[i].id);
                    remove_one(p, p->st.cts[i].last.id);
                }
            } else {
                end_folder(p);
            }
            break;
        case KEI_END_REMOVE:
            p->end = KEI_END_LAST;
            end_folder(p);
            break;
        case KEI_END_LAST:
            gone(p);
            return;
        case KEI_END_FOLDER:
            p->end = KEI_END_TOLD;
            kei_pod_report(p);
            if (!killed && p->tells_delete)
                kei_pod_tell_delete(p);
            break;
        case KEI_END_TOLD:
            if (!killed)
                return;
            p->end = KEI_END_SANDBOX; /* which is gone already: goes on with removing */
            break;
        }
    }
}
