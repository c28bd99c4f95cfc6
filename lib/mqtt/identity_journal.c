/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See identity_journal.h. A line is 16 hex digits of its SHA-256, a space, the text, a newline. A
 * cut write leaves a torn last line, which is dropped at the next opening: nobody was told that it
 * is durable. Loop thread; run() is the disk worker's.
 */
#include "mqtt/identity_journal.h"

#include "base/codec.h"
#include "base/file.h"
#include "crypto/crypto.h"

#define SUM 16
#define GROWTH ((int64_t)1 << 20) /* bytes that may be stale, besides three times what is not */

static void wipe(struct ke_buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->n);
    kei_buf_clear(b);
}

static void sum_of(char out[SUM + 1], struct ke_str line)
{
    uint8_t hash[32];
    kei_sha256(line.p, line.n, hash);
    kei_hex_encode(out, hash, SUM / 2);
}

void kei_journal_line(struct ke_buf *out, struct ke_str line)
{
    char sum[SUM + 1];
    sum_of(sum, line);
    kei_buf_add(out, sum, SUM);
    kei_buf_addc(out, ' ');
    kei_buf_addv(out, line);
    kei_buf_addc(out, '\n');
}

void kei_journal_init(struct kei_journal *j, struct ke_ctx *ctx,
                      void (*all)(struct kei_journal *j, void *user), void *user)
{
    memset(j, 0, sizeof *j);
    j->ctx = ctx;
    j->all = all;
    j->user = user;
    j->err.size = sizeof j->err;
    kei_buf_init(&j->next, kei_ctx_alloc(ctx));
    kei_buf_init(&j->now, kei_ctx_alloc(ctx));
    kei_list_init(&j->waiting);
    kei_list_init(&j->written);
}

/* ---- reading ---- */

static bool line_good(struct ke_str line)
{
    char sum[SUM + 1];
    if (line.n < SUM + 1 || line.p[SUM] != ' ')
        return false;
    sum_of(sum, kei_strn(line.p + SUM + 1, line.n - SUM - 1));
    return memcmp(sum, line.p, SUM) == 0;
}

static int read_lines(struct kei_journal *j, struct ke_str text,
                      int (*each)(void *user, struct ke_str line, struct ke_error *err), void *user,
                      struct kei_journal_lost *lost, struct ke_error *err)
{
    struct ke_error why = KE_ERROR_INIT;
    size_t at = 0;
    while (at < text.n) {
        const char *end = memchr(text.p + at, '\n', text.n - at);
        if (!end) {
            lost->torn = text.n - at;
            break;
        }
        struct ke_str line = kei_strn(text.p + at, (size_t)(end - text.p) - at);
        at += line.n + 1;
        int r = KE_ECORRUPT;
        if (line_good(line))
            r = each(user, kei_strn(line.p + SUM + 1, line.n - SUM - 1), &why);
        else
            kei_error(&why, r, "its check sum is wrong");
        if (r == KE_ENOMEM)
            return kei_error(err, r, "%s", why.text);
        if (r < 0) {
            lost->lines++;
            memcpy(lost->why, why.text, sizeof lost->why - 1);
        } else {
            j->lines++;
        }
        j->end = (int64_t)at;
    }
    return 0;
}

int kei_journal_open(struct kei_journal *j, const char *path,
                     int (*each)(void *user, struct ke_str line, struct ke_error *err), void *user,
                     struct kei_journal_lost *ret_lost, struct ke_error *err)
{
    const struct ke_alloc *a = kei_ctx_alloc(j->ctx);
    struct ke_buf text;
    memset(ret_lost, 0, sizeof *ret_lost);
    j->path = kei_strdup(a, path);
    if (!j->path)
        return kei_error(err, KE_ENOMEM, "out of memory for %s", path);
    j->end = j->live = 0;
    j->lines = 0;
    j->closing = false;
    kei_buf_init(&text, a);
    int r = kei_file_read(kei_ctx_io(j->ctx), path, KEI_JOURNAL_MAX, &text, err);
    if (r == KE_ENOTFOUND)
        r = 0;
    else if (r == 0)
        r = read_lines(j, kei_buf_str(&text), each, user, ret_lost, err);
    wipe(&text);
    ke_buf_free(&text);
    if (r < 0) {
        kei_free(a, j->path);
        j->path = NULL;
    }
    return r;
}

/* ---- writing ---- */

static void close_file(struct kei_journal *j)
{
    const struct ke_io *io = kei_ctx_io(j->ctx);
    if (j->file)
        io->close(io->user, j->file);
    j->file = NULL;
}

static int write_whole(struct kei_journal *j)
{
    close_file(j);
    int r = kei_file_replace(kei_ctx_io(j->ctx), j->path, j->now.n ? j->now.p : "", j->now.n, 0600,
                             &j->err);
    if (r == 0)
        j->end = j->live = (int64_t)j->now.n;
    return r;
}

static int write_more(struct kei_journal *j)
{
    const struct ke_io *io = kei_ctx_io(j->ctx);
    int r = 0;
    if (!j->file) {
        r = io->open(io->user, j->path, KE_IO_WRITE, 0600, &j->file);
        if (r == 0) /* a torn line may stand there */
            r = io->truncate(io->user, j->file, j->end);
    }
    if (r == 0)
        r = io->pwrite(io->user, j->file, j->now.p, j->now.n, j->end);
    if (r == 0)
        r = io->sync(io->user, j->file);
    if (r == 0)
        j->end += (int64_t)j->now.n;
    else
        kei_error(&j->err, r, "could not write %s", j->path);
    return r;
}

/* On the worker. */
static void run(struct kei_work *w)
{
    struct kei_journal *j = KEI_OF(w, struct kei_journal, work);
    j->status = j->whole ? write_whole(j) : write_more(j);
}

static void tell(struct kei_link *list, int status)
{
    while (!kei_list_empty(list)) {
        struct kei_journal_wait *w = KEI_OF(list->next, struct kei_journal_wait, link);
        kei_list_remove(&w->link);
        w->fn(w, status);
    }
}

static void move(struct kei_link *to, struct kei_link *from)
{
    while (!kei_list_empty(from)) {
        struct kei_link *l = from->next;
        kei_list_remove(l);
        kei_list_add_tail(to, l);
    }
}

static void begin(struct kei_journal *j);

static void finish(struct kei_journal *j)
{
    struct kei_link told;
    struct ke_error err = j->err; /* begin gives both to the worker again */
    int status = j->status;
    j->busy = false;
    j->whole = status < 0;
    if (j->whole)
        close_file(j);
    wipe(&j->now);
    kei_list_init(&told);
    move(&told, &j->written);
    if (!kei_list_empty(&j->waiting))
        begin(j);
    if (status < 0)
        kei_fail(j->ctx, status, "%s", err.text);
    tell(&told, status); /* last: one of them may close j */
}

static void done(struct kei_work *w)
{
    finish(KEI_OF(w, struct kei_journal, work));
}

/* Fills now with what is to be written; false: no memory. */
static bool take(struct kei_journal *j)
{
    if (j->rewrite || !kei_buf_ok(&j->next) || (j->path && j->end == 0) ||
        j->end > j->live * 4 + GROWTH)
        j->whole = true;
    j->rewrite = false;
    if (j->whole) {
        kei_buf_clear(&j->next);
        if (j->path)
            j->all(j, j->user);
    }
    struct ke_buf spare = j->now;
    j->now = j->next;
    j->next = spare;
    kei_buf_clear(&j->next);
    return kei_buf_ok(&j->now);
}

static void begin(struct kei_journal *j)
{
    move(&j->written, &j->waiting);
    j->status = KE_ENOMEM;
    if (!take(j)) {
        kei_error(&j->err, KE_ENOMEM, "out of memory for writing %s", j->path);
        j->busy = true;
        kei_defer_cancel(&j->defer);
        finish(j);
        return;
    }
    j->busy = true;
    if (!j->path)
        j->status = 0;
    else if (kei_work_submit(j->ctx, &j->work, run, done) == 0)
        return;
    else
        kei_error(&j->err, KE_ENOMEM, "no disk worker for writing %s", j->path);
    finish(j);
}

static void later(struct kei_defer *d)
{
    struct kei_journal *j = KEI_OF(d, struct kei_journal, defer);
    if (!j->busy && !j->closing)
        begin(j);
}

void kei_journal_add(struct kei_journal *j, struct ke_str line, struct kei_journal_wait *w)
{
    if (line.n > 0)
        kei_journal_line(&j->next, line);
    else
        j->rewrite = true;
    if (w)
        kei_list_add_tail(&j->waiting, &w->link);
    if (!j->busy)
        kei_defer(j->ctx, &j->defer, later);
}

int kei_journal_rewrite(struct kei_journal *j, struct ke_error *err)
{
    j->whole = true;
    if (!take(j))
        return kei_error(err, KE_ENOMEM, "out of memory for writing %s", j->path);
    int r = write_whole(j);
    wipe(&j->now);
    j->whole = r < 0;
    return r < 0 ? kei_error(err, r, "%s", j->err.text) : 0;
}

void kei_journal_close(struct kei_journal *j)
{
    if (!j->ctx)
        return;
    kei_defer_cancel(&j->defer);
    bool tried = false;
    while (j->busy || !kei_list_empty(&j->waiting) || j->next.n > 0 || (j->whole && !tried)) {
        if (!j->busy)
            begin(j);
        if (j->busy)
            kei_work_drain(j->ctx);
        if (j->whole && tried) /* it failed: those who wait were told, there is no more to do */
            break;
        tried = true;
    }
    j->closing = true;
    tell(&j->waiting, KE_ECANCELED);
    close_file(j);
    kei_free(kei_ctx_alloc(j->ctx), j->path);
    j->path = NULL;
    j->whole = j->rewrite = j->closing = false;
    wipe(&j->next);
    ke_buf_free(&j->next);
    ke_buf_free(&j->now);
    kei_buf_init(&j->next, kei_ctx_alloc(j->ctx));
    kei_buf_init(&j->now, kei_ctx_alloc(j->ctx));
}
