/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Salvage: a new file from the rows that can still be read of the old one, page by page and row by
 * row, whether SQLite could open it or not. The old files are only read. Runs where the store's
 * file work runs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/record.h"
#include "store/store_priv.h"

struct rebuild {
    struct ke_ctx *ctx;
    struct kei_pages *pages;
    struct kei_db db; /* the new one */
    struct kei_reader reader;
    const char *why;
    struct kei_report *report;
    struct ke_error *err;
    uint64_t missing; /* keys of the index without a row */
};

static int keep_row(void *user, const struct ke_store_item *row)
{
    struct rebuild *b = user;
    return kei_ops_put(&b->db, row, b->err);
}

static int look_for(void *user, const char *bucket, const char *key)
{
    struct rebuild *b = user;
    bool there = false;
    int r = kei_ops_has(&b->db, bucket, key, &there, b->err);
    if (r == 0 && !there)
        b->missing++;
    return r;
}

static int no_memory(struct rebuild *b)
{
    return kei_error(b->err, KE_ENOMEM, "memory ran out while the store in %s was salvaged",
                     b->pages->folder);
}

/*
 * All leaves of the table, wherever they are: freed pages hold nothing (secure_delete), and a page
 * of a value never begins like a leaf. First those of the file, then those of the log in its order,
 * so that where a damaged log leaves two versions of a row the newer one stays.
 */
static int keep_rows(struct rebuild *b)
{
    struct kei_pages *p = b->pages;
    uint32_t *order = kei_array_alloc(p->alloc, (size_t)p->last + 1, sizeof *order);
    int r = order ? 0 : no_memory(b);
    if (order)
        memset(order, 0, ((size_t)p->last + 1) * sizeof *order);
    for (uint32_t pgno = 1; r == 0 && pgno <= p->n; pgno++) {
        uint32_t rank = kei_pages_rank(p, pgno);
        if (rank)
            order[rank] = pgno;
        else
            r = kei_reader_rows(&b->reader, pgno, keep_row, b);
    }
    for (uint32_t i = 1; r == 0 && i <= p->last; i++)
        if (order[i])
            r = kei_reader_rows(&b->reader, order[i], keep_row, b);
    kei_free(p->alloc, order);
    return r;
}

static int count(struct rebuild *b)
{
    int64_t n = 0;
    bool all = false;
    int r = kei_db_int(&b->db, "SELECT count(*) FROM kv", &n, b->err);
    if (r == 0)
        r = kei_reader_keys(&b->reader, look_for, b, &all);
    b->report->saved = (uint64_t)n;
    /* Of a damaged log nobody knows which newer rows were in it. */
    b->report->lost = all && !b->pages->log_damaged ? b->missing : UINT64_MAX;
    return r;
}

/*
 * A disk that cannot be read at the moment is no damaged file: unless most of it can be read, and
 * something was found, nothing is replaced.
 */
static int trust(const struct rebuild *b)
{
    const struct kei_pages *p = b->pages;
    if (p->unreadable == 0 || (b->report->saved > 0 && p->unreadable < p->n / 2))
        return 0;
    return kei_error(b->err, KE_EIO,
                     "the store in %s cannot be read (%" PRIu32 " failed reads of %" PRIu32
                     " pages): check the disk; nothing was changed",
                     p->folder, p->unreadable, p->n);
}

static int note(struct rebuild *b)
{
    struct kei_report *rep = b->report;
    char lost[24] = "an unknown number";
    if (rep->lost != UINT64_MAX)
        (void)snprintf(lost, sizeof lost, "%" PRIu64, rep->lost);
    rep->aside = rep->saved == 0 && rep->lost != 0;
    (void)snprintf(rep->text, sizeof rep->text,
                   "the store in %.200s was damaged (%.120s): %" PRIu64 " rows saved, %s lost%s",
                   b->pages->folder, b->why, rep->saved, lost,
                   rep->aside ? "; the old file was kept beside it" : "");
    return kei_ops_note(&b->db, rep, b->err);
}

static int fill(struct rebuild *b)
{
    if (kei_reader_init(&b->reader, b->pages) < 0)
        return no_memory(b);
    int r = kei_db_begin(&b->db, b->err);
    if (r == 0)
        r = keep_rows(b);
    if (r == 0)
        r = count(b);
    if (r == 0)
        r = trust(b);
    if (r == 0)
        r = note(b);
    if (r == 0)
        r = kei_db_commit(&b->db, b->err);
    if (r == KE_ENOMEM && b->err && !b->err->code)
        r = no_memory(b);
    return r;
}

int kei_salvage_build(struct ke_ctx *ctx, struct kei_vfs *v, const struct kei_db_conf *conf,
                      struct kei_pages *pages, const char *why, struct kei_report *report,
                      struct ke_error *err)
{
    struct rebuild b = {.ctx = ctx, .pages = pages, .why = why, .report = report, .err = err};
    if (err)
        err->code = 0;
    int r = kei_swap_remove(ctx, conf->folder, KEI_NEW_FILE, err);
    if (r == 0)
        r = kei_db_open(&b.db, v, conf, KEI_DB_BUILD, KEI_NEW_FILE, err);
    if (r == 0)
        r = kei_migrate(&b.db, kei_steps, kei_n_steps, err);
    if (r == 0 && pages)
        r = fill(&b);
    /* Made without a log; from its first use on it has one. */
    if (r == 0)
        r = kei_db_exec(&b.db, "PRAGMA journal_mode = WAL", err, "could not make");
    kei_reader_fini(&b.reader);
    kei_db_close(&b.db);
    if (r < 0) {
        (void)kei_swap_remove(ctx, conf->folder, KEI_NEW_FILE, NULL);
        (void)kei_swap_remove(ctx, conf->folder, KEI_NEW_WAL_FILE, NULL);
    }
    return r;
}
