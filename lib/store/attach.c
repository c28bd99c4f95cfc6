/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Getting from a folder to an open database: what a crash interrupted is finished, the file is
 * looked at before SQLite may touch it, damage is salvaged, formats are brought up to date. Runs on
 * the thread that opens the store, later on the disk worker.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "store/store_priv.h"

#define HEAL_PAUSE_MS 60000

enum verdict { FILE_MISSING, FILE_GOOD, FILE_DAMAGED, FILE_NEWER };

struct look {
    enum verdict verdict;
    const char *why; /* of damage */
    uint32_t format;
};

/* The header of a file of any format we know: all that is constant in it. */
static const char *judge_header(const unsigned char *h)
{
    static const unsigned char zero[20];
    if (memcmp(h, "SQLite format 3", 16) != 0)
        return "it does not begin like a database";
    if (h[16] != KEI_PAGE >> 8 || h[17] != 0 || h[20] != KEI_PAGE_SUM || h[21] != 64 ||
        h[22] != 32 || h[23] != 32)
        return "its layout is not the one it was made with";
    if (h[18] != 2 || h[19] != 2)
        return "it is not one that keeps a log";
    if (kei_be32(h + 44) - 1 > 3 || kei_be32(h + 52) != 0 || kei_be32(h + 56) != 1 ||
        kei_be32(h + 64) != 0 || memcmp(h + 72, zero, sizeof zero) != 0)
        return "its header is not the one it was made with";
    return NULL;
}

/* Another release may change all of the rest, but not where and how it says its number. */
static bool is_newer(const unsigned char *h)
{
    uint32_t format = kei_be32(h + 60);
    return format > KEI_FORMAT && format < 0x10000 &&
           kei_be32(h + 68) == (uint32_t)KEI_FORMAT_ID(format);
}

/* Before anything in the folder is touched: what a newer release began, it has to end. */
static uint32_t newer_ready_file(struct ke_store *s)
{
    const struct ke_io *io = kei_ctx_io(s->ctx);
    struct ke_io_file *f = NULL;
    char path[KEI_PATH_MAX];
    unsigned char head[100];
    size_t n = 0;
    if (kei_store_path(path, s->folder, KEI_READY_FILE) < 0 ||
        io->open(io->user, path, KE_IO_READ, 0, &f) < 0)
        return 0;
    int r = io->pread(io->user, f, head, sizeof head, 0, &n);
    (void)io->close(io->user, f);
    return r == 0 && n == sizeof head && is_newer(head) ? kei_be32(head + 60) : 0;
}

static void judge(struct look *l, struct kei_pages *p, unsigned char *page)
{
    bool good = false;
    l->verdict = FILE_MISSING;
    if (!p->db)
        return;
    l->verdict = FILE_DAMAGED;
    l->why = "its first page cannot be read";
    /* Of an empty file SQLite would take the log away, whatever is in it. */
    if (p->db_pages == 0 || kei_pages_read(p, 1, page, &good) < 0)
        return;
    l->format = kei_be32(page + 60);
    if (is_newer(page)) {
        l->verdict = FILE_NEWER;
        return;
    }
    l->why = judge_header(page);
    if (!l->why && l->format != 0 && kei_be32(page + 68) != (uint32_t)KEI_FORMAT_ID(l->format))
        l->why = "its format number is not the one it was made with";
    if (!l->why && (!good || l->format == 0))
        l->why = "its first page is damaged";
    if (!l->why && p->log_damaged)
        l->why = "its log is damaged";
    if (!l->why)
        l->verdict = FILE_GOOD;
}

/* A process that made the folder may have been killed before it made the name durable. */
static int sync_parent(struct ke_store *s, struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(s->ctx);
    char dir[KEI_PATH_MAX];
    size_t n = strlen(s->folder);
    while (n > 1 && s->folder[n - 1] == '/')
        n--;
    while (n > 0 && s->folder[n - 1] != '/')
        n--;
    if (n >= sizeof dir)
        return kei_error(err, KE_ELIMIT, "the path of the store's folder has %zu bytes", n);
    memcpy(dir, n ? s->folder : ".", n ? n : 1);
    dir[n ? n : 1] = 0;
    int r = io->sync_dir(io->user, dir);
    return r == 0 ? 0
                  : kei_error(err, r, "could not make the name of folder %s durable (%s)",
                              s->folder, ke_strerror(r));
}

static int create(struct ke_store *s, struct ke_error *err)
{
    int r = sync_parent(s, err);
    if (r == 0)
        r = kei_salvage_build(s->ctx, &s->vfs, &s->conf, NULL, NULL, NULL, err);
    return r == 0 ? kei_swap_create(s->ctx, s->folder, err) : r;
}

/* From the present files to a new one in their place. */
static int salvage(struct ke_store *s, const char *why, struct ke_error *err)
{
    struct kei_pages p;
    struct kei_report rep = {0};
    char reason[160]; /* why may be err's own text */
    (void)snprintf(reason, sizeof reason, "%s", why);
    kei_log(s->ctx, KE_LOG_WARN, "store", "%s in %s is damaged (%s): its rows are being saved",
            KEI_DB_FILE, s->folder, reason);
    int r = kei_pages_open(&p, s->ctx, s->folder, err);
    if (r < 0)
        return r;
    r = kei_salvage_build(s->ctx, &s->vfs, &s->conf, &p, reason, &rep, err);
    kei_pages_close(&p);
    return r == 0 ? kei_swap_replace(s->ctx, s->folder, rep.aside, err) : r;
}

static int look(struct ke_store *s, struct look *l, bool *unclean, struct ke_error *err)
{
    struct kei_pages p;
    *unclean = false;
    l->format = newer_ready_file(s);
    l->verdict = FILE_NEWER;
    if (l->format)
        return 0;
    int r = kei_swap_recover(s->ctx, s->folder, err);
    if (r == 0)
        r = kei_pages_open(&p, s->ctx, s->folder, err);
    if (r < 0)
        return r;
    unsigned char *page = kei_alloc(s->alloc, KEI_PAGE);
    r = page ? 0 : kei_error(err, KE_ENOMEM, "memory ran out while %s was opened", s->folder);
    if (page)
        judge(l, &p, page);
    kei_free(s->alloc, page);
    *unclean = p.wal != NULL;
    if (r == 0 && l->verdict == FILE_GOOD)
        r = kei_pages_trim(&p, err);
    kei_pages_close(&p);
    return r;
}

static int open_db(struct ke_store *s, struct ke_error *err)
{
    sqlite3_stmt *st;
    int r = kei_db_open(&s->db, &s->vfs, &s->conf, KEI_DB_LOG, KEI_DB_FILE, err);
    if (r < 0)
        return r;
    r = kei_migrate(&s->db, kei_steps, kei_n_steps, err);
    if (r == 0)
        r = kei_db_stmt(&s->db, KEI_STMT_GET, &st, err); /* the tables are there */
    if (r == 0)
        r = kei_ops_noted(&s->db, &s->report, err);
    if (r < 0)
        kei_db_drop(&s->db);
    return r;
}

int kei_attach(struct ke_store *s, bool *ret_unclean, struct ke_error *err)
{
    struct look l = {0};
    int r = look(s, &l, ret_unclean, err);
    if (r == 0 && l.verdict == FILE_NEWER)
        r = kei_error(err, KE_ENEWER,
                      "the store in %s has format %" PRIu32 ", written by a newer release: use "
                      "that one (this one knows format %d); nothing was changed",
                      s->folder, l.format, KEI_FORMAT);
    else if (r == 0 && l.verdict == FILE_MISSING)
        r = create(s, err);
    else if (r == 0 && l.verdict == FILE_DAMAGED)
        r = salvage(s, l.why, err);
    if (r < 0)
        return r;
    r = open_db(s, err);
    /* Damage behind a good first page is found by SQLite. What was just made is not suspected. */
    if (kei_is_damage(s, r) && l.verdict == FILE_GOOD) {
        r = salvage(s, err->text, err);
        if (r == 0)
            r = open_db(s, err);
    }
    return r;
}

bool kei_is_damage(const struct ke_store *s, int code)
{
    return code == KE_ECORRUPT || (code == KE_EIO && s->vfs.read_failed);
}

int kei_heal(struct ke_store *s, struct ke_error *err)
{
    int64_t now = ke_ctx_mono_ms(s->ctx);
    if ((s->flags & KE_STORE_MEMORY) || now < s->heal_after_ms)
        return err->code; /* told as it was found */
    kei_db_drop(&s->db);
    int r = salvage(s, err->text, err);
    int e = open_db(s, r == 0 ? err : NULL);
    if (r < 0 || e < 0)
        s->heal_after_ms = now + HEAL_PAUSE_MS;
    return r < 0 ? r : e;
}

int kei_ready(struct ke_store *s, struct ke_error *err)
{
    bool unclean;
    int64_t now = ke_ctx_mono_ms(s->ctx);
    if (s->db.h && !sqlite3_get_autocommit(s->db.h))
        kei_db_rollback(&s->db);
    if (s->db.h && !sqlite3_get_autocommit(s->db.h))
        return kei_error(err, KE_ENOMEM, "memory ran out in the store in %s", s->folder);
    if (s->db.h)
        return 0;
    if (now < s->heal_after_ms)
        return kei_error(err, KE_ECORRUPT,
                         "the store in %s is damaged and could not be opened again; it will be "
                         "tried once a minute",
                         s->folder);
    int r = kei_attach(s, &unclean, err);
    if (r < 0)
        s->heal_after_ms = now + HEAL_PAUSE_MS;
    return r;
}
