/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the store can be written. After a failure that is the disk's, the disk is tried every
 * PROBE_MS with a small file of its own: who writes seldom would else be told of a full disk long
 * after there is room. The file: disk worker; the rest: loop.
 */
#include "store/state.h"

#include "base/file.h"
#include "store/store_priv.h"

#define PROBE_MS 10000
#define PROBE_NAME "probe"
#define PROBE_BYTES 65536u

/* A failure of another kind says nothing about the disk. */
static bool is_trouble(int status)
{
    return status == KE_ENOSPC || status == KE_EIO || status == KE_EROFS || status == KE_EACCES;
}

static void set(struct ke_store *s, int status)
{
    bool before = s->trouble.err.code != 0;
    if (status == 0)
        s->trouble.err.code = 0;
    else
        (void)kei_error(&s->trouble.err, status, "%s", ke_ctx_error(s->ctx));
    if (s->trouble.watch && !s->closing && before != (status != 0))
        s->trouble.watch(s->trouble.user);
}

static void probe_run(struct kei_work *w)
{
    static const char zeros[4096];
    struct kei_trouble *t = KEI_OF(w, struct kei_trouble, work);
    struct ke_store *s = KEI_OF(t, struct ke_store, trouble);
    const struct ke_io *io = kei_ctx_io(s->ctx);
    struct ke_io_file *f = NULL;
    char path[4096];
    t->probed = kei_path_join(path, sizeof path, s->folder, PROBE_NAME)
                    ? io->open(io->user, path, KE_IO_WRITE | KE_IO_CREATE | KE_IO_TRUNC, 0600, &f)
                    : KE_ELIMIT;
    for (int64_t at = 0; t->probed == 0 && at < (int64_t)PROBE_BYTES; at += sizeof zeros)
        t->probed = io->pwrite(io->user, f, zeros, sizeof zeros, at);
    if (t->probed == 0)
        t->probed = io->sync(io->user, f);
    if (f && io->close(io->user, f) < 0 && t->probed == 0)
        t->probed = KE_EIO;
    if (f && io->unlink(io->user, path) < 0 && t->probed == 0)
        t->probed = KE_EIO;
}

static void probe_later(struct ke_store *s)
{
    if (!s->closing && s->trouble.err.code && !s->trouble.busy)
        (void)kei_timer_in(&s->trouble.timer, PROBE_MS); /* always 0 */
}

static void probe_done(struct kei_work *w)
{
    struct kei_trouble *t = KEI_OF(w, struct kei_trouble, work);
    struct ke_store *s = KEI_OF(t, struct ke_store, trouble);
    t->busy = false;
    if (t->probed == 0 && t->err.code)
        set(s, 0);
    probe_later(s);
}

static void on_timer(struct kei_timer *timer)
{
    struct kei_trouble *t = KEI_OF(timer, struct kei_trouble, timer);
    struct ke_store *s = KEI_OF(t, struct ke_store, trouble);
    t->busy = kei_work_submit(s->ctx, &t->work, probe_run, probe_done) == 0;
    probe_later(s);
}

void kei_trouble_init(struct ke_store *s)
{
    s->trouble.err = (struct ke_error)KE_ERROR_INIT;
    kei_timer_init(s->ctx, &s->trouble.timer, on_timer);
}

void kei_trouble_fini(struct ke_store *s)
{
    kei_timer_fini(&s->trouble.timer);
    while (s->trouble.busy)
        kei_work_drain(s->ctx);
}

void kei_trouble_note(struct ke_store *s, int status)
{
    if (status == 0 && s->trouble.err.code == 0)
        return;
    if (status == 0 || is_trouble(status))
        set(s, status);
    if (status == 0)
        kei_timer_stop(&s->trouble.timer);
    else if (!kei_timer_armed(&s->trouble.timer))
        probe_later(s);
}

const struct ke_error *kei_store_trouble(const struct ke_store *s)
{
    return &s->trouble.err;
}

void kei_store_watch(struct ke_store *s, void (*fn)(void *user), void *user)
{
    s->trouble.watch = fn;
    s->trouble.user = user;
}
