/* SPDX-License-Identifier: Apache-2.0 */
/* See store_support.h. Loop thread only; what it copies is malloced and freed by the test. */
#include "store/store_support.h"

static void on_salvaged(void *user, uint64_t saved, uint64_t lost, const char *text)
{
    struct kv *kv = user;
    kv->salvaged.calls++;
    kv->salvaged.saved = saved;
    kv->salvaged.lost = lost;
    (void)snprintf(kv->salvaged.text, sizeof kv->salvaged.text, "%s", text);
}

void kv_init(struct kv *kv, struct ke_ctx *ctx, const char *folder)
{
    *kv = (struct kv){.ctx = ctx};
    ke_store_config_init(&kv->conf, sizeof kv->conf);
    kv->conf.folder = folder;
    kv->conf.salvaged = on_salvaged;
    kv->conf.user = kv;
}

int kv_open(struct kv *kv)
{
    return ke_store_open(&kv->s, kv->ctx, &kv->conf);
}

void kv_close(struct kv *kv)
{
    ke_store_close(kv->s);
    kv->s = NULL;
}

void kv_turn(struct kv *kv)
{
    assert_int_equal(ke_ctx_wait(kv->ctx, -1), 0);
    assert_int_equal(ke_ctx_dispatch(kv->ctx), 0);
}

void kv_until(struct kv *kv, bool *flag)
{
    while (!*flag)
        kv_turn(kv);
}

struct answer {
    bool done;
    int status;
    char *value;
    struct rows *rows;
};

static void on_done(void *user, int status)
{
    struct answer *a = user;
    assert_false(a->done);
    a->done = true;
    a->status = status;
}

int kv_commit(struct kv *kv, struct ke_store_tx *tx)
{
    struct answer a = {0};
    int r = ke_store_commit(tx, on_done, &a);
    if (r < 0)
        return r;
    kv_until(kv, &a.done);
    return a.status;
}

int kv_put_bytes(struct kv *kv, const char *bucket, const char *key, const void *value, size_t len)
{
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, kv->s);
    if (r < 0)
        return r;
    r = ke_store_put(tx, bucket, key, NULL, 7, value, len);
    if (r < 0) {
        ke_store_abort(tx);
        return r;
    }
    return kv_commit(kv, tx);
}

int kv_put(struct kv *kv, const char *bucket, const char *key, const char *value)
{
    return kv_put_bytes(kv, bucket, key, value, strlen(value));
}

int kv_delete(struct kv *kv, const char *bucket, const char *key)
{
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, kv->s);
    if (r < 0)
        return r;
    r = ke_store_delete(tx, bucket, key, NULL);
    if (r < 0) {
        ke_store_abort(tx);
        return r;
    }
    return kv_commit(kv, tx);
}

static void on_get(void *user, int status, const struct ke_store_item *item)
{
    struct answer *a = user;
    assert_false(a->done);
    assert_true((status == 0) == (item != NULL));
    a->done = true;
    a->status = status;
    if (item) {
        assert_int_equal(((const char *)item->value)[item->len], 0);
        a->value = strdup(item->value);
    }
}

int kv_get(struct kv *kv, const char *bucket, const char *key, char **ret)
{
    struct answer a = {0};
    int r = ke_store_get(kv->s, bucket, key, on_get, &a);
    if (r < 0)
        return r;
    kv_until(kv, &a.done);
    if (ret)
        *ret = a.value;
    else
        free(a.value);
    return a.status;
}

static char *copy(const void *p, size_t n)
{
    char *out = malloc(n + 1);
    assert_non_null(out);
    memcpy(out, p, n);
    out[n] = 0;
    return out;
}

static void on_list(void *user, int status, const struct ke_store_item *item)
{
    struct answer *a = user;
    struct rows *rows = a->rows;
    assert_false(a->done);
    if (!item) {
        a->done = true;
        rows->status = status;
        return;
    }
    assert_int_equal(status, 0);
    rows->row = realloc(rows->row, (rows->n + 1) * sizeof *rows->row);
    assert_non_null(rows->row);
    rows->row[rows->n++] = (struct row){
        .bucket = strdup(item->bucket),
        .key = strdup(item->key),
        .uid = strdup(item->uid),
        .value = copy(item->value, item->len),
        .version = item->version,
        .len = item->len,
    };
}

void kv_list(struct kv *kv, const char *bucket, const char *prefix, uint32_t limit,
             struct rows *ret)
{
    struct answer a = {.rows = ret};
    *ret = (struct rows){0};
    ret->status = ke_store_list(kv->s, bucket, prefix, limit, on_list, &a);
    if (ret->status == 0)
        kv_until(kv, &a.done);
}

void rows_free(struct rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->row[i].bucket);
        free(r->row[i].key);
        free(r->row[i].uid);
        free(r->row[i].value);
    }
    free(r->row);
    *r = (struct rows){0};
}

const struct row *rows_find(const struct rows *r, const char *bucket, const char *key)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->row[i].bucket, bucket) && !strcmp(r->row[i].key, key))
            return &r->row[i];
    return NULL;
}
