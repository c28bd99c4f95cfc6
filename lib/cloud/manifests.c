/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of manifests: watched with inotify, looked at every half minute besides. A look reads
 * on the disk worker and is applied on the loop, both in pieces. A change counts when two looks in
 * a row found it, so that a file is not applied while it is being written. A folder that cannot be
 * read changes nothing; it may come back at any time. Loop thread.
 */
#include "cloud/manifests.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/log.h"

#define SETTLE_MS 150 /* editors write in several steps */
#define LOOK_AGAIN_MS 30000
#define POLL_MS 2000 /* where the folder cannot be watched, or is not there */
#define WATCHED                                                                                    \
    (IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB |            \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct look_work {
    struct kei_work work;
    struct kei_manifests *owner;
    struct kei_look look;
    bool listed, claimed;
    bool read; /* all is read, the loop applies it */
    size_t it;
    bool ended; /* the worker's word for read */
    bool busy;  /* at the worker, or done is due */
};

static void on_timer(struct kei_timer *t);
static void submit(struct kei_manifests *m);

/* ---- files and claims ---- */

struct kei_mfile *kei_mfile_get(struct kei_manifests *m, const char *name, bool make)
{
    const struct ke_alloc *a = kei_ctx_alloc(m->cloud->ctx);
    struct kei_mfile *f = kei_map_get(&m->files, kei_str(name));
    size_t n = strlen(name) + 1;
    if (f || !make)
        return f;
    f = kei_zalloc(a, sizeof *f + n);
    if (!f)
        return NULL;
    memcpy(f + 1, name, n);
    f->name = (const char *)(f + 1);
    kei_buf_init(&f->told, a);
    kei_list_init(&f->claims);
    if (kei_map_put(&m->files, kei_str(name), f, NULL) < 0) {
        kei_free(a, f);
        return NULL;
    }
    return f;
}

void kei_mfile_free(struct kei_manifests *m, struct kei_mfile *f)
{
    (void)kei_map_remove(&m->files, kei_str(f->name));
    ke_buf_free(&f->told);
    kei_free(kei_ctx_alloc(m->cloud->ctx), f);
}

void kei_claim_free(struct kei_manifests *m, struct kei_claim *c)
{
    kei_list_remove(&c->link);
    (void)kei_map_remove(&m->claims, kei_str(c->key));
    kei_free(kei_ctx_alloc(m->cloud->ctx), c);
}

/* ---- the watch ---- */

/* The folder may be another one than before: the same path is added each time. */
static void watch_again(struct kei_manifests *m)
{
    int wd =
        m->inotify < 0 ? -1 : inotify_add_watch(m->inotify, m->cloud->config.manifests, WATCHED);
    if (wd != m->wd && m->wd >= 0 && m->inotify >= 0)
        (void)inotify_rm_watch(m->inotify, m->wd);
    m->wd = wd;
}

static void look_soon(struct kei_manifests *m, int64_t ms)
{
    int64_t at = ke_ctx_mono_ms(m->cloud->ctx) + ms;
    if (m->look) {
        m->again = true;
        if (m->soon_ms == 0 || at < m->soon_ms)
            m->soon_ms = at;
    } else if (!kei_timer_armed(&m->timer) || m->timer.due_ms > at) {
        (void)kei_timer_at(&m->timer, at);
    }
}

static void on_inotify(struct kei_fd *f, uint32_t events)
{
    struct kei_manifests *m = KEI_OF(f, struct kei_manifests, watch);
    char buf[4096];
    (void)events;
    while (read(m->inotify, buf, sizeof buf) > 0)
        ; /* what changed does not matter, the whole folder is looked at */
    look_soon(m, SETTLE_MS);
}

void kei_manifests_pod_gone(struct kei_manifests *m, const struct kei_object *o)
{
    char key[640];
    if (!m)
        return;
    snprintf(key, sizeof key, "%s/%s/%s", o->type, o->ns, o->name);
    struct kei_claim *c = kei_map_get(&m->claims, kei_str(key));
    if (!c || !c->file)
        return;
    c->file->stale = true;
    look_soon(m, SETTLE_MS);
}

/* ---- a look ---- */

static void look_free(struct kei_manifests *m)
{
    struct look_work *w = m->look;
    m->look = NULL;
    kei_look_fini(&w->look);
    kei_free(kei_ctx_alloc(m->cloud->ctx), w);
}

static void tell_folder(struct kei_manifests *m, const struct kei_look *l)
{
    char text[KE_ERROR_TEXT_MAX + 600];
    snprintf(text, sizeof text, "%.500s: %s", m->cloud->config.manifests, l->err.text);
    if (kei_str_is(kei_buf_str(&m->told), text))
        return;
    kei_buf_clear(&m->told);
    kei_buf_adds(&m->told, text);
    kei_tell_manifest_error(m->cloud, text);
}

/* What changed since a file was told of last. */
static void tell_file(struct kei_manifests *m, struct kei_mfile *f, const struct ke_buf *errors)
{
    if (kei_str_eq(kei_buf_str(errors), kei_buf_str(&f->told)))
        return;
    struct ke_str rest = kei_buf_str(errors);
    while (rest.p && rest.n > 0) {
        char text[2048];
        struct ke_str line = kei_str_cut(rest, '\n', &rest);
        snprintf(text, sizeof text, "%.*s", KEI_FMT(line));
        kei_tell_manifest_error(m->cloud, text);
    }
    kei_buf_clear(&f->told);
    kei_buf_addv(&f->told, kei_buf_str(errors));
}

/* What the next look shall know of a file. */
static bool settle_file(struct kei_manifests *m, struct kei_look_file *lf)
{
    struct kei_mfile *f = kei_mfile_get(m, lf->name, false);
    static const uint8_t none[KEI_DIGEST];
    bool hashed = memcmp(lf->digest, none, sizeof none) != 0;
    f->found = NULL;
    f->missed = 0;
    if (hashed) {
        memcpy(f->seen, lf->digest, sizeof f->seen);
        f->seen_before = true;
    }
    f->lost = lf->lost;
    if (lf->state == KEI_LOOK_SAME)
        return true;
    if (lf->state == KEI_LOOK_CHANGING) {
        f->stale |= lf->stale;
        return false;
    }
    memcpy(f->applied, lf->digest, sizeof f->applied);
    f->applied_before = hashed;
    f->bad = lf->bad;
    tell_file(m, f, &lf->errors);
    return true;
}

static void finish(struct kei_manifests *m)
{
    struct look_work *w = m->look;
    struct ke_str key;
    void *value;
    bool settled = true;
    int64_t now = ke_ctx_mono_ms(m->cloud->ctx);
    if (w->look.status < 0) {
        tell_folder(m, &w->look);
    } else {
        kei_buf_clear(&m->told);
        for (size_t i = 0; i < w->look.n_files; i++)
            settled = settle_file(m, &w->look.files[i]) && settled;
        for (size_t it = 0; kei_map_next(&m->files, &it, &key, &value);)
            settled = settled && ((struct kei_mfile *)value)->missed == 0;
    }
    int64_t due = now + (!settled || m->again ? SETTLE_MS : m->wd < 0 ? POLL_MS : LOOK_AGAIN_MS);
    if (m->soon_ms > 0 && m->soon_ms < due)
        due = m->soon_ms;
    if (!kei_list_empty(&m->gone) && due > now + POLL_MS)
        due = now + POLL_MS; /* something could not be removed */
    m->again = false;
    m->soon_ms = 0;
    look_free(m);
    (void)kei_timer_at(&m->timer, due);
}

/* Tells the look what is known of each of its files. */
static void match_files(struct kei_manifests *m, struct kei_look *l)
{
    for (size_t i = 0; i < l->n_files; i++) {
        struct kei_look_file *lf = &l->files[i];
        struct kei_mfile *f = kei_mfile_get(m, lf->name, true);
        if (!f) {
            l->status = kei_error(&l->err, KE_ENOMEM, "out of memory to read the manifests");
            return;
        }
        f->found = lf;
        lf->seen_before = f->seen_before;
        lf->applied_before = f->applied_before;
        lf->stale = f->stale;
        lf->held = !kei_list_empty(&f->claims);
        lf->lost_before = f->lost;
        f->stale = false; /* set again by what happens from now on */
        memcpy(lf->seen, f->seen, sizeof lf->seen);
        memcpy(lf->applied, f->applied, sizeof lf->applied);
    }
}

/* A look that failed has not applied what was stale. */
static void unmatch_files(struct kei_manifests *m, struct kei_look *l)
{
    for (size_t i = 0; i < l->n_files; i++) {
        struct kei_mfile *f = kei_mfile_get(m, l->files[i].name, false);
        if (f && f->found) {
            f->stale |= l->files[i].stale;
            f->found = NULL;
        }
    }
}

/* A piece of applying, the rest in the next turn. */
static void apply(struct kei_manifests *m)
{
    struct look_work *w = m->look;
    if (w->look.status < 0) {
        unmatch_files(m, &w->look);
        finish(m);
        return;
    }
    if (!w->claimed) {
        kei_apply_claims(m, &w->look);
        w->claimed = true;
    }
    if (!kei_apply_objects(m, &w->look, &w->it)) {
        (void)kei_timer_in(&m->timer, 0);
        return;
    }
    kei_apply_gone(m);
    finish(m);
}

/* On the worker: the names first, then piece after piece. */
static void run(struct kei_work *work)
{
    struct look_work *w = KEI_OF(work, struct look_work, work);
    if (!w->listed)
        kei_look_list(&w->look);
    else
        w->ended = kei_look_read(&w->look);
}

static void done(struct kei_work *work)
{
    struct look_work *w = KEI_OF(work, struct look_work, work);
    struct kei_manifests *m = w->owner;
    w->busy = false;
    w->read = w->ended;
    if (m->closing) {
        look_free(m);
        return;
    }
    if (!w->listed && w->look.status == 0)
        match_files(m, &w->look);
    w->listed = true;
    if (w->look.status < 0 || w->read) {
        w->read = true;
        apply(m);
    } else {
        submit(m);
    }
}

static void submit(struct kei_manifests *m)
{
    struct look_work *w = m->look;
    int r = kei_work_submit(m->cloud->ctx, &w->work, run, done);
    w->busy = r == 0;
    if (r == 0)
        return;
    w->look.status = kei_error(&w->look.err, r, "%s", ke_ctx_error(m->cloud->ctx));
    unmatch_files(m, &w->look);
    finish(m);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_manifests *m = KEI_OF(t, struct kei_manifests, timer);
    struct ke_ctx *ctx = m->cloud->ctx;
    if (m->look) {
        if (m->look->read)
            apply(m);
        return;
    }
    watch_again(m);
    struct look_work *w = kei_zalloc(kei_ctx_alloc(ctx), sizeof *w);
    if (!w) {
        (void)kei_timer_in(t, POLL_MS);
        return;
    }
    w->owner = m;
    kei_look_init(&w->look, kei_ctx_alloc(ctx), kei_ctx_io(ctx), m->cloud->config.manifests);
    w->look.err = (struct ke_error)KE_ERROR_INIT;
    m->look = w;
    m->look_n++;
    submit(m);
}

/* ---- life ---- */

static void open_watch(struct kei_manifests *m)
{
    m->wd = -1;
    m->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (m->inotify >= 0 &&
        kei_fd_add(m->cloud->ctx, &m->watch, m->inotify, KEI_IN, on_inotify) == 0)
        return;
    kei_log(m->cloud->ctx, KE_LOG_WARN, "cloud",
            "the folder of manifests is not watched (%s): it is looked at every 2 s",
            m->inotify < 0 ? "inotify failed" : ke_ctx_error(m->cloud->ctx));
    if (m->inotify >= 0)
        close(m->inotify);
    m->inotify = -1;
}

int kei_manifests_new(struct kei_manifests **ret, struct ke_cloud *c)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct kei_manifests *m = kei_zalloc(a, sizeof *m);
    if (!m)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the manifests");
    m->cloud = c;
    kei_buf_init(&m->told, a);
    kei_timer_init(c->ctx, &m->timer, on_timer);
    kei_map_init(&m->files, a, kei_ctx_random64(c->ctx));
    kei_map_init(&m->claims, a, kei_ctx_random64(c->ctx));
    kei_list_init(&m->gone);
    m->inotify = m->wd = -1;
    int r = kei_apply_known(m);
    if (r < 0) {
        kei_manifests_free(m);
        return r;
    }
    open_watch(m);
    (void)kei_timer_in(&m->timer, 0);
    *ret = m;
    return 0;
}

void kei_manifests_free(struct kei_manifests *m)
{
    struct ke_str key;
    void *value;
    if (!m)
        return;
    m->closing = true;
    if (m->look && m->look->busy)
        kei_work_drain(m->cloud->ctx);
    if (m->look)
        look_free(m);
    kei_fd_remove(&m->watch);
    if (m->inotify >= 0)
        close(m->inotify);
    kei_timer_fini(&m->timer);
    for (size_t it = 0; kei_map_next(&m->claims, &it, &key, &value);)
        kei_claim_free(m, value);
    for (size_t it = 0; kei_map_next(&m->files, &it, &key, &value);)
        kei_mfile_free(m, value);
    kei_map_free(&m->claims);
    kei_map_free(&m->files);
    ke_buf_free(&m->told);
    kei_free(kei_ctx_alloc(m->cloud->ctx), m);
}
