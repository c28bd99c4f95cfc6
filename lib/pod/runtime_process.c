/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process runtime on the loop: its table, the watch on each living shim, and jobs for the disk
 * worker (runtime_process_disk.c).
 */
#include "pod/runtime_process_priv.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <kubeedge/version.h>

#include "base/file.h"
#include "base/log.h"

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

#define LOOKS 20
#define STOP_AGAIN_MS 50 /* until a shim that has just begun listens */
#define STOP_TRIES 200
#define STOP_LATE_MS 15000 /* after the grace: the shim itself is stuck */

struct wait { /* a stop that is not over */
    struct wait *next;
    uint64_t op;
};

struct proc {
    struct kei_process *p;
    struct kei_link link;
    char id[KEI_PROC_ID_MAX];
    struct kei_fd fd; /* pidfd of the shim */
    int pidfd;
    struct wait *waits;
    struct kei_timer again; /* to tell it to stop, then to end it the hard way */
    int64_t kill_at;        /* monotonic; when the grace is over */
    int tries;
    bool told, reading;
};

/* ---- memory of it ---- */

void kei_process_unref(struct kei_process *p)
{
    if (--p->refs > 0)
        return;
    for (uint32_t i = 0; i < p->n_allow; i++)
        kei_free(p->alloc, p->allow[i]);
    kei_free(p->alloc, p->allow);
    kei_free(p->alloc, p);
}

void kei_proc_job_free(struct kei_proc_job *j)
{
    struct kei_process *p = j->p;
    kei_fd_remove(&j->in);
    if (j->fd >= 0)
        close(j->fd);
    kei_proc_reap(&j->first); /* gone by now, but where the node leaves in between */
    for (size_t i = 0; i < j->n; i++) {
        if (j->look[i].pidfd >= 0)
            close(j->look[i].pidfd);
    }
    ke_buf_free(&j->config);
    kei_arena_free(&j->arena);
    kei_free(p->alloc, j);
    kei_process_unref(p);
}

struct kei_proc_job *kei_proc_job_new(struct kei_process *p, uint64_t op, const char *id)
{
    struct kei_proc_job *j = kei_zalloc(p->alloc, sizeof *j);
    if (!j)
        return NULL;
    j->p = p;
    j->op = op;
    j->fd = -1;
    j->first = KEI_PROC_NO_FIRST;
    j->err = (struct ke_error)KE_ERROR_INIT;
    j->reason = NULL;
    kei_arena_init(&j->arena, p->alloc, 64u << 20);
    kei_buf_init(&j->config, p->alloc);
    p->refs++;
    j->folder = kei_arena_printf(&j->arena, "%s%s%s", p->run, *id ? "/" : "", id);
    if (!j->folder || strlen(id) >= sizeof j->id) {
        kei_proc_job_free(j);
        return NULL;
    }
    memcpy(j->id, id, strlen(id) + 1);
    return j;
}

void kei_proc_complete(struct kei_process *p, uint64_t op, int status, const char *reason,
                       const char *text, const char *id)
{
    struct ke_runtime_result r = {.size = sizeof r, .id = id, .reason = reason, .text = text};
    if (!p->rt || !op)
        return;
    int e = ke_runtime_complete(p->rt, op, status, &r);
    (void)e; /* KE_ENOTFOUND: over its deadline; KE_ENOMEM: it will be */
}

void kei_proc_job_end(struct kei_proc_job *j, int status, const char *id)
{
    kei_proc_complete(j->p, j->op, status, j->reason, j->err.text, id);
    kei_proc_job_free(j);
}

int kei_proc_job_submit(struct kei_proc_job *j, kei_work_fn run, kei_work_fn done)
{
    int r = kei_work_submit(j->p->ctx, &j->work, run, done);
    if (r < 0)
        kei_proc_job_free(j);
    return r;
}

/* ---- living shims ---- */

static struct proc *proc_find(struct kei_process *p, const char *id)
{
    KEI_LIST_EACH(l, &p->procs)
    {
        struct proc *c = KEI_OF(l, struct proc, link);
        if (!strcmp(c->id, id))
            return c;
    }
    return NULL;
}

static void proc_free(struct proc *c)
{
    kei_list_remove(&c->link);
    kei_fd_remove(&c->fd);
    kei_timer_fini(&c->again);
    if (c->pidfd >= 0)
        close(c->pidfd);
    while (c->waits) {
        struct wait *w = c->waits;
        c->waits = w->next;
        kei_free(c->p->alloc, w);
    }
    kei_free(c->p->alloc, c);
}

static void tell(struct kei_process *p, const struct ke_container_info *info)
{
    if (!p->rt)
        return;
    int r = ke_runtime_event(p->rt, info);
    if (r < 0)
        kei_log(p->ctx, KE_LOG_ERROR, "pod", "the end of container %s could not be told: %s",
                info->id, ke_strerror(r));
}

static void read_end(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    j->status = kei_proc_look(j->look, j->folder, true, &j->arena, &j->err);
    if (j->status == 0)
        j->n = 1;
}

/* The shim has gone: what its folder says now is how the container ended. */
static void end_read(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct kei_process *p = j->p;
    struct proc *c = p->rt ? proc_find(p, j->id) : NULL;
    if (!c || j->status == KE_ENOMEM) {
        if (c)
            c->reading = kei_timer_in(&c->again, 1000) < 0; /* memory is short: look again */
        kei_proc_job_free(j);
        return;
    }
    if (j->status == 0) {
        struct ke_container_info *info = &j->look->info;
        if (info->state == KE_CONTAINER_CREATED) { /* the shim went before its command began */
            info->state = KE_CONTAINER_EXITED;
            info->exit_code = 128;
            info->reason = "StartError";
        }
        tell(p, info);
    }
    while (c->waits) {
        struct wait *x = c->waits;
        c->waits = x->next;
        kei_proc_complete(p, x->op, 0, NULL, NULL, c->id);
        kei_free(p->alloc, x);
    }
    proc_free(c);
    kei_proc_job_free(j);
}

static void look_for_end(struct proc *c)
{
    struct kei_proc_job *j = kei_proc_job_new(c->p, 0, c->id);
    if (j)
        j->look = kei_arena_array(&j->arena, 1, sizeof *j->look);
    if (j && !j->look) {
        kei_proc_job_free(j);
        j = NULL;
    }
    if (!j || kei_proc_job_submit(j, read_end, end_read) < 0) {
        int r = kei_timer_in(&c->again, 1000);
        (void)r; /* a slot is reserved */
        return;
    }
    c->reading = true;
}

static void on_pidfd(struct kei_fd *f, uint32_t events)
{
    (void)events;
    struct proc *c = KEI_OF(f, struct proc, fd);
    kei_fd_remove(f);
    close(c->pidfd);
    c->pidfd = -1;
    kei_timer_stop(&c->again);
    look_for_end(c);
}

static void say_stop(struct proc *c);

static void on_again(struct kei_timer *t)
{
    struct proc *c = KEI_OF(t, struct proc, again);
    if (c->pidfd < 0) {
        if (!c->reading)
            look_for_end(c);
    } else if (!c->told) {
        say_stop(c);
    } else if (ke_ctx_mono_ms(c->p->ctx) >= c->kill_at + STOP_LATE_MS) {
        kei_log(c->p->ctx, KE_LOG_WARN, "pod",
                "container %s: its shim did not end it; both are killed", c->id);
        syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
    }
}

/* Takes the pidfd over. NULL: memory is short. */
static struct proc *proc_watch(struct kei_process *p, const char *id, int pidfd)
{
    struct proc *c = kei_zalloc(p->alloc, sizeof *c);
    if (!c) {
        close(pidfd);
        return NULL;
    }
    c->p = p;
    c->pidfd = pidfd;
    memcpy(c->id, id, strlen(id) + 1); /* made here or checked: short enough */
    kei_list_add_tail(&p->procs, &c->link);
    kei_timer_init(p->ctx, &c->again, on_again);
    if (kei_fd_add(p->ctx, &c->fd, pidfd, KEI_IN, on_pidfd) < 0) {
        proc_free(c);
        return NULL;
    }
    return c;
}

/* ---- start ---- */

static void look_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    kei_proc_reap(&j->first);
    j->look = kei_arena_array(&j->arena, 1, sizeof *j->look);
    j->status = j->look ? kei_proc_look(j->look, j->folder, true, &j->arena, &j->err)
                        : kei_error(&j->err, KE_ENOMEM, "out of memory for container %s", j->id);
    j->n = j->status == 0;
}

/* Started, or found to have been: begin to watch it and tell how it is. */
static void look_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct kei_process *p = j->p;
    if (j->status == 0 && p->rt) {
        struct kei_proc_state *st = j->look;
        if (st->pidfd >= 0 && !proc_find(p, j->id)) {
            int fd = st->pidfd;
            st->pidfd = -1;
            if (!proc_watch(p, j->id, fd))
                j->status = kei_error(&j->err, KE_ENOMEM, "out of memory for container %s", j->id);
        } else if (st->info.state == KE_CONTAINER_RUNNING && st->pidfd < 0) {
            /* it ended between the looks */
            if (++j->tries < LOOKS && kei_work_submit(p->ctx, &j->work, look_run, look_done) == 0)
                return;
            j->status = kei_error(&j->err, KE_ENOTSUP,
                                  "the shim of container %s lives but cannot "
                                  "be watched: Linux 5.4 and one pid namespace are needed",
                                  j->id);
        }
    }
    if (j->status == 0) {
        kei_proc_complete(p, j->op, 0, NULL, NULL, j->id);
        j->op = 0;
        tell(p, &j->look->info);
    }
    kei_proc_job_end(j, j->status, j->id);
}

static void on_said(struct kei_fd *f, uint32_t events)
{
    (void)events;
    struct kei_proc_job *j = KEI_OF(f, struct kei_proc_job, in);
    ssize_t n = read(j->fd, j->said + j->n_said, KEI_PROC_SAID_MAX - 1 - j->n_said);
    if (n > 0)
        j->n_said += (size_t)n;
    j->said[j->n_said] = '\0';
    if (n > 0 && !strchr(j->said, '\n') && j->n_said < KEI_PROC_SAID_MAX - 1)
        return;
    kei_fd_remove(f);
    j->said[strcspn(j->said, "\n")] = '\0';
    if (!strncmp(j->said, "error ", 6) || !j->n_said) {
        j->reason = "StartError";
        kei_error(&j->err, KE_ECALLBACK, "%s",
                  j->n_said ? j->said + 6 : "the shim went away without a word");
        kei_proc_job_end(j, KE_ECALLBACK, j->id);
        return;
    }
    int r = kei_work_submit(j->p->ctx, &j->work, look_run, look_done);
    if (r < 0)
        kei_proc_job_end(j, r, j->id);
}

static void start_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    j->status = kei_proc_spawn(j->p->shim, j->folder, &j->fd, &j->first, &j->err);
}

static void start_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    if (j->status == 0 && !j->p->rt) {
        kei_proc_job_free(j); /* the shim goes on by itself; the next start takes it back */
        return;
    }
    if (j->status == 0)
        j->status = kei_fd_add(j->p->ctx, &j->in, j->fd, KEI_IN, on_said);
    if (j->status < 0) {
        j->reason = "StartError";
        kei_proc_job_end(j, j->status, j->id);
    }
}

static int op_start(void *user, uint64_t op, const char *id)
{
    struct kei_proc_job *j = kei_proc_job_new(user, op, id);
    if (j)
        j->said = kei_arena_alloc(&j->arena, KEI_PROC_SAID_MAX);
    if (j && !j->said) {
        kei_proc_job_free(j);
        j = NULL;
    }
    return j ? kei_proc_job_submit(j, start_run, start_done) : KE_ENOMEM;
}

/* ---- stop ---- */

static void stop_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    j->status = kei_proc_stop(j->folder, j->grace_ms, &j->err);
}

static void stop_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct proc *c = j->p->rt ? proc_find(j->p, j->id) : NULL;
    if (c && c->pidfd >= 0) {
        int64_t wait = STOP_AGAIN_MS;
        c->told = j->status == 0;
        if (c->told || ++c->tries > STOP_TRIES) {
            c->told = true;
            wait = c->kill_at + STOP_LATE_MS - ke_ctx_mono_ms(j->p->ctx);
        }
        int r = kei_timer_in(&c->again, wait > 0 ? wait : 0);
        (void)r; /* a slot is reserved */
    }
    kei_proc_job_free(j);
}

static void say_stop(struct proc *c)
{
    struct kei_proc_job *j = kei_proc_job_new(c->p, 0, c->id);
    if (j) {
        int64_t grace = c->kill_at - ke_ctx_mono_ms(c->p->ctx);
        j->grace_ms = grace > 0 ? grace : 0;
    }
    if (!j || kei_proc_job_submit(j, stop_run, stop_done) < 0) {
        int r = kei_timer_in(&c->again, STOP_AGAIN_MS);
        (void)r;
    }
}

static void stop_unwatched(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    if (j->status == KE_ENOTFOUND)
        j->status = 0;
    else if (j->status == 0)
        j->status = kei_error(&j->err, KE_EAGAIN, "container %s still ends", j->id);
    kei_proc_job_end(j, j->status, j->id);
}

static int op_stop(void *user, uint64_t op, const char *id, int64_t grace_ms)
{
    struct kei_process *p = user;
    struct proc *c = proc_find(p, id);
    if (!c) {
        /* ended, or never there; or a shim that nobody waited for came up meanwhile */
        struct kei_proc_job *j = kei_proc_job_new(p, op, id);
        if (j)
            j->grace_ms = grace_ms;
        return j ? kei_proc_job_submit(j, stop_run, stop_unwatched) : KE_ENOMEM;
    }
    struct wait *w = kei_alloc(p->alloc, sizeof *w);
    if (!w)
        return KE_ENOMEM;
    *w = (struct wait){c->waits, op};
    c->waits = w;
    int64_t at = ke_ctx_mono_ms(p->ctx) + grace_ms;
    if (!c->kill_at || at < c->kill_at)
        c->kill_at = at;
    c->told = false;
    c->tries = 0;
    if (c->pidfd >= 0)
        say_stop(c);
    return 0;
}

/* ---- remove, list, info ---- */

static void remove_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    j->status = kei_proc_remove(j->folder, &j->err);
}

static void remove_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    kei_proc_job_end(j, j->status, j->id);
}

static int op_remove(void *user, uint64_t op, const char *id)
{
    struct kei_proc_job *j = kei_proc_job_new(user, op, id);
    return j ? kei_proc_job_submit(j, remove_run, remove_done) : KE_ENOMEM;
}

static int list_one(void *arg, const char *id)
{
    struct kei_proc_job *j = arg;
    char folder[PATH_MAX];
    if (strlen(id) >= KEI_PROC_ID_MAX || !kei_path_join(folder, sizeof folder, j->p->run, id))
        return 0;
    if (j->n == j->cap) {
        size_t cap = j->cap ? j->cap * 2 : 32;
        struct kei_proc_state *v = kei_arena_array(&j->arena, cap, sizeof *v);
        if (!v)
            return kei_error(&j->err, KE_ENOMEM, "out of memory for the list of containers");
        if (j->n)
            memcpy(v, j->look, j->n * sizeof *v);
        j->look = v;
        j->cap = cap;
    }
    int r = 0;
    for (int i = 0; i < LOOKS; i++) {
        r = kei_proc_look(&j->look[j->n], folder, true, &j->arena, &j->err);
        if (r < 0 || j->look[j->n].info.state != KE_CONTAINER_RUNNING || j->look[j->n].pidfd >= 0)
            break; /* else it ended between the looks */
        r = kei_error(&j->err, KE_ENOTSUP,
                      "the shim of container %s lives but cannot be watched: Linux 5.4 and one pid "
                      "namespace are needed",
                      id);
    }
    if (r == KE_EPARSE) {
        r = kei_proc_remove(folder, NULL); /* half made: nothing ever ran in it */
        return 0;
    }
    if (r == 0 && !strcmp(j->look[j->n].info.id, id))
        j->n++;
    return r == KE_ENOMEM || r == KE_ENOTSUP ? r : 0;
}

static void list_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    j->status = kei_proc_list(j->p->run, list_one, j, &j->err);
}

static void list_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct kei_process *p = j->p;
    struct ke_container_info *v = j->n ? kei_arena_array(&j->arena, j->n, sizeof *v) : NULL;
    if (j->n && !v && j->status == 0)
        j->status = kei_error(&j->err, KE_ENOMEM, "out of memory for the list of containers");
    for (size_t i = 0; j->status == 0 && p->rt && i < j->n; i++) {
        int fd = j->look[i].pidfd;
        v[i] = j->look[i].info;
        j->look[i].pidfd = -1;
        if (fd >= 0 && proc_find(p, v[i].id))
            close(fd);
        else if (fd >= 0 && !proc_watch(p, v[i].id, fd))
            j->status = kei_error(&j->err, KE_ENOMEM, "out of memory for container %s", v[i].id);
    }
    struct ke_runtime_result r = {.size = sizeof r, .text = j->err.text};
    if (j->status == 0) {
        r.containers = v;
        r.n_containers = (uint32_t)j->n;
    }
    if (p->rt) {
        int e = ke_runtime_complete(p->rt, j->op, j->status, &r);
        (void)e;
    }
    kei_proc_job_free(j);
}

static int op_list(void *user, uint64_t op)
{
    struct kei_proc_job *j = kei_proc_job_new(user, op, "");
    return j ? kei_proc_job_submit(j, list_run, list_done) : KE_ENOMEM;
}

static void info_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    if (access(j->p->shim, X_OK) < 0)
        j->status = kei_error(&j->err, KE_ENOTFOUND, "%s is missing or not executable", j->p->shim);
}

static void info_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct ke_runtime_result r = {.size = sizeof r,
                                  .name = "process",
                                  .version = KE_VERSION,
                                  .text = j->err.text,
                                  .ready = j->status == 0};
    if (j->p->rt) {
        int e = ke_runtime_complete(j->p->rt, j->op, 0, &r);
        (void)e;
    }
    kei_proc_job_free(j);
}

static int op_info(void *user, uint64_t op)
{
    struct kei_proc_job *j = kei_proc_job_new(user, op, "");
    return j ? kei_proc_job_submit(j, info_run, info_done) : KE_ENOMEM;
}

static void op_attach(void *user, struct ke_runtime *rt)
{
    struct kei_process *p = user;
    p->rt = rt;
}

static void op_detach(void *user)
{
    struct kei_process *p = user;
    p->rt = NULL;
    while (!kei_list_empty(&p->procs))
        proc_free(KEI_OF(p->procs.next, struct proc, link));
}

static const struct ke_runtime_ops table = {
    .size = sizeof(struct ke_runtime_ops),
    .attach = op_attach,
    .detach = op_detach,
    .info = op_info,
    .container_create = kei_proc_op_create,
    .container_start = op_start,
    .container_stop = op_stop,
    .container_remove = op_remove,
    .container_list = op_list,
};

const struct ke_runtime_ops *kei_process_ops(void)
{
    return &table;
}
