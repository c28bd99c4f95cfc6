/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After an unclean stop: the check of the file, in steps that let everything else go first. The
 * buckets the host named come first, row by row; then the structure as a whole, which starts over
 * when something else wants the disk. Runs on the disk worker.
 */
#include <string.h>

#include "base/log.h"
#include "store/store_priv.h"

#define TRIES_MAX 64

void kei_check_end(struct ke_store *s)
{
    kei_free(s->alloc, s->check.scan.at);
    s->check = (struct kei_check){0};
}

static int check_first(struct ke_store *s, struct ke_error *err)
{
    struct kei_check *c = &s->check;
    struct kei_row *rows = NULL;
    bool more = false;
    if (!s->first || !s->first[c->bucket]) {
        c->phase = KEI_CHECK_ALL;
        return 0;
    }
    c->scan.bucket = s->first[c->bucket];
    c->scan.prefix = "";
    c->scan.left = UINT32_MAX;
    int r = kei_ops_list(&s->db, s->alloc, &c->scan, &rows, &more, err);
    kei_rows_free(s->alloc, rows);
    if (r == 0 && !more) {
        kei_free(s->alloc, c->scan.at);
        c->scan = (struct kei_scan){0};
        c->bucket++;
    }
    return r;
}

static int quick_check(struct ke_store *s, bool *ret_done, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = 0;
    s->vfs.yielded = false;
    s->vfs.yield = &s->waiting;
    int rc = sqlite3_prepare_v2(s->db.h, "PRAGMA quick_check(1)", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    s->vfs.yield = NULL;
    const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
    *ret_done = !s->vfs.yielded;
    if (*ret_done && rc != SQLITE_ROW)
        r = kei_db_fail(&s->db, rc, err, "could not check");
    else if (*ret_done && text && strcmp(text, "ok") != 0)
        r = kei_error(err, KE_ECORRUPT, "the check of the store in %s found: %.200s", s->folder,
                      text);
    (void)sqlite3_finalize(st);
    return r;
}

int kei_check_step(struct ke_store *s, struct ke_error *err)
{
    struct kei_check *c = &s->check;
    bool done = false;
    if (!s->db.h)
        kei_check_end(s);
    kei_vfs_clear(&s->vfs);
    if (c->phase == KEI_CHECK_FIRST)
        return check_first(s, err);
    if (c->phase != KEI_CHECK_ALL)
        return 0;
    int r = quick_check(s, &done, err);
    if (done || ++c->tries == TRIES_MAX) {
        if (!done)
            kei_log(s->ctx, KE_LOG_WARN, "store",
                    "the check of the store in %s after its unclean stop did not come to its end: "
                    "too much else to do",
                    s->folder);
        kei_check_end(s);
    }
    return r;
}
