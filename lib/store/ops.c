/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store does with SQL: rows in, rows out, each checked against its sum. Runs on the disk
 * worker. Rows are blocks of the context's allocator and belong to the caller.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "store/store_priv.h"

void kei_rows_free(const struct ke_alloc *a, struct kei_row *rows)
{
    while (rows) {
        struct kei_row *next = rows->next;
        kei_free(a, rows);
        rows = next;
    }
}

static int bind(sqlite3_stmt *st, int i, const char *text)
{
    return sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
}

/* Runs a statement that gives no rows; takes its bindings away again. */
static int run(struct kei_db *db, sqlite3_stmt *st, int rc, struct ke_error *err)
{
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    int r = rc == SQLITE_DONE ? 0 : kei_db_fail(db, rc, err, "could not write to");
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
    return r;
}

int kei_ops_put(struct kei_db *db, const struct ke_store_item *item, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = kei_db_stmt(db, KEI_STMT_PUT, &st, err);
    if (r < 0)
        return r;
    int rc = bind(st, 1, item->bucket);
    if (rc == SQLITE_OK)
        rc = bind(st, 2, item->key);
    if (rc == SQLITE_OK)
        rc = bind(st, 3, item->uid);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 4, item->version);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 5, kei_sum_row(item));
    if (rc == SQLITE_OK && item->len == 0)
        rc = sqlite3_bind_zeroblob(st, 6, 0);
    else if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob64(st, 6, item->value, item->len, SQLITE_STATIC);
    return run(db, st, rc, err);
}

/*
 * Binds the first key behind all that start with prefix: prefix with its last byte one higher. When
 * there is none, an empty blob, which every text is less than. end has KEI_KEY_MAX + 1 bytes.
 */
static int bind_end(sqlite3_stmt *st, int i, const char *prefix, char *end)
{
    size_t n = strlen(prefix);
    memcpy(end, prefix, n);
    while (n > 0 && (unsigned char)end[n - 1] == 0xff)
        n--;
    if (n == 0)
        return sqlite3_bind_zeroblob(st, i, 0);
    end[n - 1] = (char)((unsigned char)end[n - 1] + 1);
    return sqlite3_bind_text(st, i, end, (int)n, SQLITE_STATIC);
}

static int delete_one(struct kei_db *db, const struct ke_store_item *item, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = kei_db_stmt(db, KEI_STMT_DELETE, &st, err);
    if (r < 0)
        return r;
    int rc = bind(st, 1, item->bucket);
    if (rc == SQLITE_OK)
        rc = bind(st, 2, item->key);
    if (rc == SQLITE_OK)
        rc = bind(st, 3, item->uid);
    return run(db, st, rc, err);
}

static int delete_prefix(struct kei_db *db, const struct ke_store_item *item, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    char end[KEI_KEY_MAX + 1];
    int r = kei_db_stmt(db, KEI_STMT_DELETE_PREFIX, &st, err);
    if (r < 0)
        return r;
    int rc = bind(st, 1, item->bucket);
    if (rc == SQLITE_OK)
        rc = bind(st, 2, item->key);
    if (rc == SQLITE_OK)
        rc = bind_end(st, 3, item->key, end);
    return run(db, st, rc, err);
}

int kei_ops_note(struct kei_db *db, const struct kei_report *report, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    sqlite3_int64 lost = report->lost > INT64_MAX ? -1 : (sqlite3_int64)report->lost;
    int r = kei_db_stmt(db, KEI_STMT_SALVAGE_NOTE, &st, err);
    if (r < 0)
        return r;
    int rc = sqlite3_bind_int64(st, 1, (sqlite3_int64)report->saved);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(st, 2, lost);
    if (rc == SQLITE_OK)
        rc = bind(st, 3, report->text);
    return run(db, st, rc, err);
}

static int told(struct kei_db *db, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = kei_db_stmt(db, KEI_STMT_SALVAGE_TOLD, &st, err);
    return r < 0 ? r : run(db, st, SQLITE_OK, err);
}

int kei_ops_apply(struct kei_db *db, const struct kei_mut *m, struct ke_error *err)
{
    if (m->kind == KEI_MUT_TOLD)
        return told(db, err);
    if (m->kind == KEI_MUT_PUT)
        return kei_ops_put(db, &m->item, err);
    if (m->kind == KEI_MUT_DELETE)
        return delete_one(db, &m->item, err);
    return delete_prefix(db, &m->item, err);
}

/* ---- reading ---- */

static const char *copy_text(char **to, const unsigned char *p, size_t n)
{
    char *start = *to;
    if (n > 0)
        memcpy(start, p, n);
    start[n] = 0;
    *to = start + n + 1;
    return start;
}

/* The row the statement stands on. KE_ECORRUPT when its sum is wrong, KE_ENOMEM. */
static int take_row(struct kei_db *db, const struct ke_alloc *a, sqlite3_stmt *st,
                    struct kei_row **ret, size_t *ret_size, struct ke_error *err)
{
    const unsigned char *text[3];
    size_t n[3], size = sizeof(struct kei_row) + 4;
    for (int i = 0; i < 3; i++) {
        text[i] = sqlite3_column_text(st, i);
        n[i] = (size_t)sqlite3_column_bytes(st, i);
        size += n[i];
    }
    const void *value = sqlite3_column_blob(st, 5);
    size_t len = (size_t)sqlite3_column_bytes(st, 5);
    for (int i = 0; i < 6; i++)
        if (sqlite3_column_type(st, i) == SQLITE_NULL)
            return kei_db_fail(db, SQLITE_CORRUPT, err, "could not read from");
    if (!text[0] || !text[1] || !text[2] || (len > 0 && !value))
        return kei_db_fail(db, SQLITE_NOMEM, err, "could not read from");
    struct kei_row *row = kei_alloc(a, size + len);
    if (!row)
        return kei_db_fail(db, SQLITE_NOMEM, err, "could not read from");
    char *to = (char *)(row + 1);
    *row = (struct kei_row){
        .item = {.size = sizeof row->item, .version = sqlite3_column_int64(st, 3), .len = len}};
    row->item.bucket = copy_text(&to, text[0], n[0]);
    row->item.key = copy_text(&to, text[1], n[1]);
    row->item.uid = copy_text(&to, text[2], n[2]);
    row->item.value = copy_text(&to, value, len);
    if (kei_sum_row(&row->item) != sqlite3_column_int64(st, 4)) {
        int r = kei_error(err, KE_ECORRUPT, "%s/%s in the store in %s is damaged: its sum is wrong",
                          row->item.bucket, row->item.key, db->conf->folder);
        kei_free(a, row);
        return r;
    }
    *ret = row;
    *ret_size = size + len;
    return 0;
}

static int end_read(struct kei_db *db, sqlite3_stmt *st, int rc, struct ke_error *err)
{
    int r =
        rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : kei_db_fail(db, rc, err, "could not read from");
    (void)sqlite3_reset(st);
    (void)sqlite3_clear_bindings(st);
    return r;
}

int kei_ops_get(struct kei_db *db, const struct ke_alloc *a, const char *bucket, const char *key,
                struct kei_row **ret, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    size_t size;
    int r = kei_db_stmt(db, KEI_STMT_GET, &st, err), found = 0;
    if (r < 0)
        return r;
    int rc = bind(st, 1, bucket);
    if (rc == SQLITE_OK)
        rc = bind(st, 2, key);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    found = rc == SQLITE_ROW;
    if (found)
        r = take_row(db, a, st, ret, &size, err);
    int e = end_read(db, st, rc, err);
    if (r == 0)
        r = e;
    if (r == 0 && !found)
        return kei_error(err, KE_ENOTFOUND, "there is no %s/%s in the store in %s", bucket, key,
                         db->conf->folder);
    return r;
}

int kei_ops_has(struct kei_db *db, const char *bucket, const char *key, bool *ret,
                struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = kei_db_stmt(db, KEI_STMT_HAS, &st, err);
    if (r < 0)
        return r;
    int rc = bind(st, 1, bucket);
    if (rc == SQLITE_OK)
        rc = bind(st, 2, key);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    *ret = rc == SQLITE_ROW;
    return end_read(db, st, rc, err);
}

int kei_ops_noted(struct kei_db *db, struct kei_report *ret, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    int r = kei_db_stmt(db, KEI_STMT_SALVAGE_READ, &st, err);
    if (r < 0)
        return r;
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(st, 2);
        sqlite3_int64 lost = sqlite3_column_int64(st, 1);
        ret->set = true;
        ret->saved = (uint64_t)sqlite3_column_int64(st, 0);
        ret->lost = lost < 0 ? UINT64_MAX : (uint64_t)lost;
        (void)snprintf(ret->text, sizeof ret->text, "%s", text ? text : "");
    }
    return end_read(db, st, rc, err);
}

static int bind_scan(sqlite3_stmt *st, const struct kei_scan *s, char *end)
{
    int rc;
    if (!s->bucket) {
        rc = bind(st, 1, s->at ? s->at : "");
        return rc == SQLITE_OK ? bind(st, 2, s->at ? s->at_key : "") : rc;
    }
    rc = bind(st, 1, s->bucket);
    if (rc == SQLITE_OK)
        rc = bind(st, 2, s->at ? s->at_key : s->prefix);
    return rc == SQLITE_OK ? bind_end(st, 3, s->prefix, end) : rc;
}

/* Skips the row the scan has read last, and those of other prefixes when it goes over all. */
static bool wanted(sqlite3_stmt *st, const struct kei_scan *s)
{
    const char *bucket = (const char *)sqlite3_column_text(st, 0);
    const char *key = (const char *)sqlite3_column_text(st, 1);
    if (!bucket || !key)
        return true; /* no memory: found out, and told, by who takes the row */
    if (s->at && !strcmp(bucket, s->at) && !strcmp(key, s->at_key))
        return false;
    return !strncmp(key, s->prefix, strlen(s->prefix));
}

/* Remembers where the scan stands. */
static int scan_at(const struct ke_alloc *a, struct kei_scan *s, const struct ke_store_item *item)
{
    size_t nb = strlen(item->bucket) + 1, nk = strlen(item->key) + 1;
    char *at = kei_alloc(a, nb + nk);
    if (!at)
        return KE_ENOMEM;
    memcpy(at, item->bucket, nb);
    memcpy(at + nb, item->key, nk);
    kei_free(a, s->at);
    s->at = at;
    s->at_key = at + nb;
    return 0;
}

int kei_ops_list(struct kei_db *db, const struct ke_alloc *a, struct kei_scan *scan,
                 struct kei_row **ret, bool *ret_more, struct ke_error *err)
{
    sqlite3_stmt *st = NULL;
    struct kei_row *rows = NULL, **last = &rows, *row = NULL;
    char end[KEI_KEY_MAX + 1];
    size_t total = 0, size = 0;
    uint32_t left = scan->left;
    int rc = SQLITE_OK;
    int r = kei_db_stmt(db, scan->bucket ? KEI_STMT_LIST : KEI_STMT_LIST_ALL, &st, err);
    if (r < 0)
        return r;
    rc = bind_scan(st, scan, end);
    while (r == 0 && left > 0 && total < KEI_LIST_CHUNK && (rc == SQLITE_OK || rc == SQLITE_ROW) &&
           (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (!wanted(st, scan))
            continue;
        r = take_row(db, a, st, &row, &size, err);
        if (r < 0)
            break;
        total += size;
        left -= left != UINT32_MAX;
        *last = row;
        last = &row->next;
    }
    bool more = rc == SQLITE_ROW && left > 0;
    int e = end_read(db, st, rc == SQLITE_OK ? SQLITE_DONE : rc, err);
    if (r == 0)
        r = e;
    if (r == 0 && more)
        r = scan_at(a, scan, &row->item);
    if (r < 0) {
        kei_rows_free(a, rows);
        return r;
    }
    scan->left = left;
    *ret = rows;
    *ret_more = more;
    return 0;
}
