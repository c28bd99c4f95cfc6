/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of the database without SQLite, see pages.h. The two formats are SQLite's, published
 * and stable: a database file of pages, and a log of frames (24 bytes and a page) whose check sums
 * form a chain. Nothing read here is trusted.
 */
#include "store/pages.h"

#include <string.h>

#include "base/error.h"
#include "store/vfs.h"

#define LOG_HEAD 32u
#define FRAME_HEAD 24u
#define FRAME (FRAME_HEAD + KEI_PAGE)
#define LOG_MAGIC 0x377f0682u /* the lowest bit says: sums of big-endian words */
#define LOG_FORMAT 3007000u
#define PAGES_MAX (UINT32_C(1) << 28) /* more are no file of ours */

struct sums {
    uint32_t a, b;
};

static uint32_t sum_word(const unsigned char *p, bool big)
{
    if (big)
        return kei_be32(p);
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static struct sums sum_more(struct sums s, const unsigned char *p, size_t n, bool big)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        s.a += sum_word(p + i, big) + s.b;
        s.b += sum_word(p + i + 4, big) + s.a;
    }
    return s;
}

static struct sums sums_at(const unsigned char *p)
{
    return (struct sums){kei_be32(p), kei_be32(p + 4)};
}

static bool sums_same(struct sums x, struct sums y)
{
    return x.a == y.a && x.b == y.b;
}

static int read_at(struct kei_pages *p, struct ke_io_file *f, void *to, size_t n, int64_t off)
{
    size_t got = 0;
    int r = p->io->pread(p->io->user, f, to, n, off, &got);
    if (r < 0)
        p->unreadable++;
    return r < 0 ? r : got < n ? KE_ENOTFOUND : 0;
}

static int64_t frame_at(uint32_t frame) /* frames count from 1 */
{
    return (int64_t)LOG_HEAD + (int64_t)(frame - 1) * FRAME;
}

static int map_set(struct kei_pages *p, uint32_t pgno, uint32_t frame)
{
    if (pgno == 0 || pgno > p->db_pages + p->frames)
        return 0; /* no commit that fits this file can have it */
    if (pgno >= p->map_n) {
        uint32_t n = pgno + pgno / 2 + 64;
        uint32_t *m = kei_array_realloc(p->alloc, p->map, n, sizeof *m);
        if (!m)
            return KE_ENOMEM;
        memset(m + p->map_n, 0, (n - p->map_n) * sizeof *m);
        p->map = m;
        p->map_n = n;
    }
    p->map[pgno] = frame;
    return 0;
}

/* The walk over the log: each frame is judged by the sum the frame before it carries. */
struct walk {
    bool big, head_good;
    bool broken;       /* a frame was not good */
    bool commit_after; /* a good commit frame stands behind a broken one */
    unsigned char salt[8];
    struct sums chain;
};

static void walk_head(struct kei_pages *p, struct walk *w)
{
    unsigned char *h = p->buf;
    if (read_at(p, p->wal, h, LOG_HEAD + FRAME_HEAD, 0) < 0)
        return; /* no frame at all: nothing was ever synced in it */
    w->big = (h[3] & 1) != 0;
    w->chain = sum_more((struct sums){0, 0}, h, 24, w->big);
    w->head_good = (kei_be32(h) & ~1u) == LOG_MAGIC && kei_be32(h + 4) == LOG_FORMAT &&
                   kei_be32(h + 8) == KEI_PAGE && sums_same(w->chain, sums_at(h + 24));
    memcpy(w->salt, w->head_good ? h + 16 : h + LOG_HEAD + 8, 8);
}

/* A frame of the present generation, as it was written? Its own sum becomes the chain. */
static bool walk_frame(struct walk *w, const unsigned char *f)
{
    struct sums s = sum_more(w->chain, f, 8, w->big);
    s = sum_more(s, f + FRAME_HEAD, KEI_PAGE, w->big);
    w->chain = sums_at(f + 16);
    return sums_same(s, w->chain) && !memcmp(f + 8, w->salt, 8);
}

/*
 * Finds what is committed. A bad frame ends it, normally: what a cut left of a transaction that
 * nobody was told of. But only one transaction can be in that state, the next is not begun before
 * the log is synced (and kei_vfs_undo and kei_pages_trim leave no refuse). So good frames behind
 * the commit of a damaged transaction prove that the damage came later.
 */
static void walk_log(struct kei_pages *p, struct walk *w)
{
    for (uint32_t i = 1; i <= p->frames; i++) {
        if (read_at(p, p->wal, p->buf, FRAME, frame_at(i)) < 0)
            memset(p->buf, 0, FRAME); /* what cannot be read is damage too */
        bool commit = kei_be32(p->buf + 4) != 0;
        if (!walk_frame(w, p->buf)) {
            w->broken = true;
            continue;
        }
        p->log_damaged |= w->commit_after;
        w->commit_after |= w->broken && commit;
        if (commit)
            p->last = i;
        if (commit && !w->broken)
            p->whole = i;
    }
}

/* Lays the good frames up to a commit over the file. */
static int walk_map(struct kei_pages *p, struct walk *w, uint32_t to)
{
    for (uint32_t i = 1; i <= to; i++) {
        if (read_at(p, p->wal, p->buf, FRAME, frame_at(i)) < 0)
            memset(p->buf, 0, FRAME);
        uint32_t pgno = kei_be32(p->buf);
        if (!walk_frame(w, p->buf))
            continue;
        int r = map_set(p, pgno, i);
        if (r < 0)
            return r;
        if (pgno < p->map_n && pgno > p->n)
            p->n = pgno;
    }
    return 0;
}

/*
 * The log's header is not as it was written. Either a cut while the log began anew, then all that
 * the old frames say is in the file already; or damage, then it is not.
 */
static void compare_map(struct kei_pages *p)
{
    unsigned char *file = p->buf, *log = p->buf + KEI_PAGE;
    for (uint32_t pgno = 1; pgno < p->map_n && !p->log_damaged; pgno++) {
        if (p->map[pgno] == 0)
            continue;
        if (read_at(p, p->wal, log, KEI_PAGE, frame_at(p->map[pgno]) + FRAME_HEAD) < 0)
            continue;
        if (pgno > p->db_pages ||
            read_at(p, p->db, file, KEI_PAGE, (int64_t)(pgno - 1) * KEI_PAGE) < 0 ||
            memcmp(file, log, KEI_PAGE_USED) != 0)
            p->log_damaged = true;
    }
}

static int open_one(struct kei_pages *p, const char *name, struct ke_io_file **ret, int64_t *ret_n,
                    struct ke_error *err)
{
    char path[KEI_PATH_MAX];
    int r = kei_store_path(path, p->folder, name);
    if (r == 0)
        r = p->io->open(p->io->user, path, KE_IO_READ | KE_IO_WRITE, 0, ret);
    if (r == KE_ENOTFOUND)
        return 0;
    if (r == 0)
        r = p->io->length(p->io->user, *ret, ret_n);
    if (r < 0)
        return kei_error(err, r, "%s in %s could not be opened (%s)", name, p->folder,
                         ke_strerror(r));
    return 0;
}

static int read_log(struct kei_pages *p, int64_t wal_n)
{
    struct walk w = {0};
    int64_t frames = wal_n < LOG_HEAD ? 0 : (wal_n - LOG_HEAD) / FRAME;
    p->frames = frames > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)frames;
    walk_head(p, &w);
    struct walk again = w;
    w.broken = !w.head_good;
    walk_log(p, &w);
    int r = walk_map(p, &again, p->log_damaged || !w.head_good ? p->last : p->whole);
    if (w.head_good)
        return r;
    /* The evidence above needs a known generation; here the file itself decides. */
    p->log_damaged = false;
    if (r == 0)
        compare_map(p);
    return r;
}

int kei_pages_open(struct kei_pages *p, struct ke_ctx *ctx, const char *folder,
                   struct ke_error *err)
{
    int64_t db_n = 0, wal_n = 0;
    *p = (struct kei_pages){.io = kei_ctx_io(ctx), .alloc = kei_ctx_alloc(ctx), .folder = folder};
    int r = open_one(p, KEI_DB_FILE, &p->db, &db_n, err);
    if (r == 0)
        r = open_one(p, KEI_WAL_FILE, &p->wal, &wal_n, err);
    if (r < 0)
        goto fail;
    p->db_pages = db_n / KEI_PAGE < PAGES_MAX ? (uint32_t)(db_n / KEI_PAGE) : PAGES_MAX - 1;
    p->n = p->db_pages;
    p->buf = kei_alloc(p->alloc, 2 * KEI_PAGE + FRAME_HEAD);
    r = p->buf ? 0 : KE_ENOMEM;
    if (r == 0 && p->wal && wal_n > 0)
        r = read_log(p, wal_n);
    if (r == 0)
        return 0;
    kei_error(err, r, "memory ran out while the store in %s was opened", folder);
fail:
    kei_pages_close(p);
    return r;
}

void kei_pages_close(struct kei_pages *p)
{
    if (p->db)
        (void)p->io->close(p->io->user, p->db);
    if (p->wal)
        (void)p->io->close(p->io->user, p->wal);
    if (p->alloc) {
        kei_free(p->alloc, p->map);
        kei_free(p->alloc, p->buf);
    }
    *p = (struct kei_pages){0};
}

uint32_t kei_pages_rank(const struct kei_pages *p, uint32_t pgno)
{
    return pgno < p->map_n ? p->map[pgno] : 0;
}

int kei_pages_read(struct kei_pages *p, uint32_t pgno, unsigned char *to, bool *ret_good)
{
    uint32_t frame = kei_pages_rank(p, pgno);
    int r;
    if (pgno == 0 || pgno > p->n)
        return KE_ENOTFOUND;
    if (frame) {
        r = read_at(p, p->wal, to, KEI_PAGE, frame_at(frame) + FRAME_HEAD);
        *ret_good = true;
        return r;
    }
    if (pgno > p->db_pages || !p->db)
        return KE_ENOTFOUND;
    r = read_at(p, p->db, to, KEI_PAGE, (int64_t)(pgno - 1) * KEI_PAGE);
    if (r == 0)
        *ret_good = kei_page_good(to, pgno);
    return r;
}

int kei_pages_trim(struct kei_pages *p, struct ke_error *err)
{
    int r = 0;
    if (!p->wal || p->frames == 0)
        return 0;
    if (p->frames > p->whole)
        r = p->io->truncate(p->io->user, p->wal, p->whole ? frame_at(p->whole + 1) : 0);
    if (r == 0)
        r = p->io->sync(p->io->user, p->wal);
    if (r < 0)
        return kei_error(err, r, "the log of the store in %s could not be made durable (%s)",
                         p->folder, ke_strerror(r));
    return 0;
}
