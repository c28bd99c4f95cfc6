/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's public calls: arguments, copies, accounting. What they ask for is queued (batch.c)
 * and done on the disk worker. All on the loop's thread. Everything a caller passes is copied into
 * blocks of the context's allocator, which the queue frees after the callback.
 */
#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "store/store_priv.h"

#define CACHE_KIB 256u
#define MAX_BYTES (UINT64_C(1) << 30)
#define MAX_VALUE (UINT32_C(32) << 20)
#define LEAST_BYTES (UINT64_C(1) << 18)
#define MOST_BYTES (UINT64_C(1) << 39) /* a page of a value must not look like one of the table */
#define MOST_CACHE_KIB (UINT32_C(1) << 20)
#define CONFIG_MIN (offsetof(struct ke_store_config, cache_kib))

void ke_store_config_init(struct ke_store_config *c, size_t size)
{
    static const struct ke_store_config defaults = {
        .cache_kib = CACHE_KIB,
        .max_bytes = MAX_BYTES,
        .max_value = MAX_VALUE,
    };
    if (!kei_abi_init(c, size))
        return;
    memcpy(c, &defaults, size < sizeof defaults ? size : sizeof defaults);
    c->size = size;
}

/* ---- opening ---- */

static int read_config(struct ke_store_config *c, const struct ke_store_config *from,
                       struct ke_error *err)
{
    int r = kei_abi_in(c, sizeof *c, from, CONFIG_MIN, "struct ke_store_config", err);
    if (r < 0)
        return r;
    c->cache_kib = c->cache_kib ? c->cache_kib : CACHE_KIB;
    c->max_bytes = c->max_bytes ? c->max_bytes : MAX_BYTES;
    c->max_value = c->max_value ? c->max_value : MAX_VALUE;
    if (c->flags & ~KE_STORE_MEMORY || c->reserved)
        return kei_error(err, KE_EABI, "the store's flags %#x or its reserved member are not known",
                         (unsigned)c->flags);
    if (!(c->flags & KE_STORE_MEMORY) && (!c->folder || !c->folder[0]))
        return kei_error(err, KE_EINVAL, "the store was given no folder");
    if (c->max_bytes < LEAST_BYTES || c->max_bytes > MOST_BYTES)
        return kei_error(err, KE_EINVAL,
                         "the store's max_bytes is %" PRIu64 ", it must be from %" PRIu64
                         " to %" PRIu64,
                         c->max_bytes, LEAST_BYTES, MOST_BYTES);
    if (c->max_value > KEI_VALUE_MAX || c->cache_kib > MOST_CACHE_KIB)
        return kei_error(err, KE_EINVAL,
                         "the store's max_value (%" PRIu32 ") may be up to %" PRIu32
                         ", its cache_kib (%" PRIu32 ") up to %" PRIu32,
                         c->max_value, KEI_VALUE_MAX, c->cache_kib, MOST_CACHE_KIB);
    return 0;
}

static int copy_config(struct ke_store *s, const struct ke_store_config *c)
{
    size_t n = 0;
    const char *folder = c->flags & KE_STORE_MEMORY ? "memory" : c->folder;
    s->flags = c->flags;
    s->salvaged = c->salvaged;
    s->user = c->user;
    s->folder = kei_strdup(s->alloc, folder);
    if (!s->folder)
        return KE_ENOMEM;
    s->conf = (struct kei_db_conf){
        .folder = s->folder,
        .cache_kib = c->cache_kib,
        .max_bytes = c->max_bytes,
    };
    s->max_value = c->max_value;
    s->bytes_max = (size_t)c->max_value * 2;
    if (s->bytes_max < KEI_QUEUE_MIN)
        s->bytes_max = KEI_QUEUE_MIN;
    while (c->first && c->first[n])
        n++;
    if (n == 0)
        return 0;
    s->first = kei_array_alloc(s->alloc, n + 1, sizeof *s->first);
    if (!s->first)
        return KE_ENOMEM;
    memset(s->first, 0, (n + 1) * sizeof *s->first);
    for (size_t i = 0; i < n; i++)
        if (!(s->first[i] = kei_strdup(s->alloc, c->first[i])))
            return KE_ENOMEM;
    return 0;
}

/* Takes the folder: it exists, is ours alone, and nobody else's while we have it. */
static int take_folder(struct ke_store *s, struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(s->ctx);
    int r = kei_folder_make(io, s->folder, 0700, err);
    return r < 0 ? r : kei_folder_lock(io, s->folder, &s->lock, err);
}

static void release(struct ke_store *s)
{
    if (s->lock)
        (void)kei_ctx_io(s->ctx)->close(kei_ctx_io(s->ctx)->user, s->lock);
    kei_vfs_fini(&s->vfs);
    kei_check_end(s);
    for (size_t i = 0; s->first && s->first[i]; i++)
        kei_free(s->alloc, s->first[i]);
    kei_free(s->alloc, s->first);
    kei_free(s->alloc, s->folder);
    kei_free(s->alloc, s);
}

static int open_files(struct ke_store *s, struct ke_error *err)
{
    bool unclean = false;
    int r = kei_vfs_init(&s->vfs, s->ctx, s->folder, err);
    if (r < 0)
        return r;
    if (s->flags & KE_STORE_MEMORY) {
        r = kei_db_open(&s->db, &s->vfs, &s->conf, KEI_DB_MEMORY, NULL, err);
        return r == 0 ? kei_migrate(&s->db, kei_steps, kei_n_steps, err) : r;
    }
    r = take_folder(s, err);
    if (r == 0)
        r = kei_attach(s, &unclean, err);
    if (r == 0 && unclean && !s->report.set) /* what was just salvaged needs no check */
        s->check.phase = KEI_CHECK_FIRST;
    return r;
}

static void noop(struct kei_defer *d)
{
    (void)d;
}

int ke_store_open(struct ke_store **ret, struct ke_ctx *ctx, const struct ke_store_config *c)
{
    struct ke_store_config conf;
    if (!ret || !ctx)
        return KE_EINVAL;
    if (!kei_ctx_on_loop(ctx))
        return KE_ETHREAD;
    int r = read_config(&conf, c, kei_err(ctx));
    if (r < 0)
        return r;
    struct ke_store *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);
    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "memory ran out while the store was opened");
    s->ctx = ctx;
    s->alloc = kei_ctx_alloc(ctx);
    kei_trouble_init(s);
    kei_list_init(&s->pending);
    kei_list_init(&s->txs);
    kei_list_init(&s->batch.ops);
    atomic_init(&s->waiting, 0);
    if (copy_config(s, &conf) < 0)
        r = kei_fail(ctx, KE_ENOMEM, "memory ran out while the store in %s was opened",
                     conf.folder ? conf.folder : "memory");
    if (r == 0)
        r = open_files(s, kei_err(ctx));
    if (r < 0) {
        kei_db_drop(&s->db);
        release(s);
        return r;
    }
    kei_turn_add(ctx, &s->turn, kei_queue_turn);
    if (s->report.set || s->check.phase != KEI_CHECK_NONE)
        kei_defer(ctx, &s->wake, noop);
    *ret = s;
    return 0;
}

static void close_run(struct kei_work *w)
{
    struct ke_store *s = KEI_OF(w, struct ke_store, batch.work);
    kei_db_close(&s->db);
}

static void close_done(struct kei_work *w)
{
    struct ke_store *s = KEI_OF(w, struct ke_store, batch.work);
    s->batch.busy = false;
}

void ke_store_close(struct ke_store *s)
{
    if (!s)
        return;
    s->closing = true;
    while (!kei_list_empty(&s->txs))
        kei_op_free(s, &KEI_OF(s->txs.next, struct ke_store_tx, open)->op);
    kei_queue_drain(s);
    kei_report_deliver(s);
    kei_trouble_fini(s);
    /* The last connection writes the log back: on the worker, like all that touches the files. */
    s->batch.busy = true;
    if (kei_work_submit(s->ctx, &s->batch.work, close_run, close_done) < 0) {
        close_run(&s->batch.work);
        close_done(&s->batch.work);
    }
    while (s->batch.busy)
        kei_work_drain(s->ctx);
    kei_turn_remove(&s->turn);
    kei_defer_cancel(&s->wake);
    release(s);
}

/* ---- arguments ---- */

static int usable(const struct ke_store *s)
{
    if (!s)
        return KE_EINVAL;
    if (!kei_ctx_on_loop(s->ctx))
        return KE_ETHREAD;
    if (s->closing)
        return kei_fail(s->ctx, KE_ESTATE, "the store in %s is being closed", s->folder);
    return 0;
}

static int check_name(const struct ke_store *s, const char *what, const char *text, size_t max,
                      bool may_be_empty)
{
    size_t n = text ? strlen(text) : 0;
    if (!text || (n == 0 && !may_be_empty))
        return kei_fail(s->ctx, KE_EINVAL, "the store in %s was given no %s", s->folder, what);
    if (n > max)
        return kei_fail(s->ctx, KE_ELIMIT,
                        "the %s %.80s... has %zu bytes, the store in %s takes up to %zu", what,
                        text, n, s->folder, max);
    return 0;
}

static int check_key(const struct ke_store *s, const char *bucket, const char *key)
{
    int r = check_name(s, "bucket", bucket, KEI_BUCKET_MAX, false);
    if (r == 0)
        r = check_name(s, "key", key, KEI_KEY_MAX, false);
    if (r == 0 && !kei_utf8_valid(kei_str(bucket)))
        r = kei_fail(s->ctx, KE_EINVAL, "a bucket for the store in %s is not UTF-8", s->folder);
    if (r == 0 && !kei_utf8_valid(kei_str(key)))
        r = kei_fail(s->ctx, KE_EINVAL, "a key in %s for the store in %s is not UTF-8", bucket,
                     s->folder);
    return r;
}

/* Room in the queue for n more bytes; they count from here on. */
static int take_room(struct ke_store *s, size_t n)
{
    if (n > s->bytes_max || s->bytes > s->bytes_max - n)
        return kei_fail(
            s->ctx, KE_ELIMIT,
            "the store in %s has %zu bytes waiting for the disk, %zu more would be over "
            "the limit of %zu: wait for commits to be done",
            s->folder, s->bytes, n, s->bytes_max);
    s->bytes += n;
    return 0;
}

static int no_memory(const struct ke_store *s)
{
    return kei_fail(s->ctx, KE_ENOMEM, "memory ran out for a call on the store in %s", s->folder);
}

/* ---- reading ---- */

static int add_read(struct ke_store *s, enum kei_op_kind kind, const char *bucket, const char *key,
                    uint32_t limit, ke_store_get_fn fn, void *user)
{
    size_t nb = bucket ? strlen(bucket) + 1 : 0, nk = strlen(key) + 1;
    size_t size = sizeof(struct kei_read) + nb + nk;
    int r = take_room(s, size);
    if (r < 0)
        return r;
    struct kei_read *read = kei_zalloc(s->alloc, size);
    if (!read) {
        s->bytes -= size;
        return no_memory(s);
    }
    read->op.kind = kind;
    read->op.bytes = size;
    read->get = fn;
    read->user = user;
    if (bucket)
        memcpy(read->names, bucket, nb);
    memcpy(read->names + nb, key, nk);
    read->scan.bucket = bucket ? read->names : NULL;
    read->scan.prefix = read->names + nb;
    read->scan.left = limit ? limit : UINT32_MAX;
    kei_queue_add(s, &read->op);
    return 0;
}

int ke_store_get(struct ke_store *s, const char *bucket, const char *key, ke_store_get_fn fn,
                 void *user)
{
    int r = usable(s);
    if (r == 0)
        r = check_key(s, bucket, key);
    if (r == 0 && !fn)
        r = kei_fail(s->ctx, KE_EINVAL, "a get of the store in %s has no callback", s->folder);
    return r < 0 ? r : add_read(s, KEI_OP_GET, bucket, key, 0, fn, user);
}

int ke_store_list(struct ke_store *s, const char *bucket, const char *prefix, uint32_t limit,
                  ke_store_list_fn fn, void *user)
{
    int r = usable(s);
    if (r == 0 && bucket)
        r = check_name(s, "bucket", bucket, KEI_BUCKET_MAX, false);
    if (r == 0)
        r = check_name(s, "prefix", prefix ? prefix : "", KEI_KEY_MAX, true);
    if (r == 0 && !fn)
        r = kei_fail(s->ctx, KE_EINVAL, "a list of the store in %s has no callback", s->folder);
    return r < 0 ? r : add_read(s, KEI_OP_LIST, bucket, prefix ? prefix : "", limit, fn, user);
}

/* ---- writing ---- */

int ke_store_begin(struct ke_store_tx **ret, struct ke_store *s)
{
    int r = usable(s);
    if (r == 0 && !ret)
        r = kei_fail(s->ctx, KE_EINVAL, "a transaction of the store in %s has no place", s->folder);
    if (r == 0)
        r = take_room(s, sizeof(struct ke_store_tx));
    if (r < 0)
        return r;
    struct ke_store_tx *tx = kei_zalloc(s->alloc, sizeof *tx);
    if (!tx) {
        s->bytes -= sizeof *tx;
        return no_memory(s);
    }
    tx->op.kind = KEI_OP_TX;
    tx->op.bytes = sizeof *tx;
    tx->store = s;
    tx->last = &tx->first;
    kei_list_add_tail(&s->txs, &tx->open);
    *ret = tx;
    return 0;
}

/* Everything in one block behind the struct. */
static int add_mut(struct ke_store_tx *tx, enum kei_mut_kind kind, const struct ke_store_item *item)
{
    struct ke_store *s = tx->store;
    size_t nb = strlen(item->bucket) + 1, nk = strlen(item->key) + 1, nu = strlen(item->uid) + 1;
    size_t size = sizeof(struct kei_mut) + nb + nk + nu + item->len;
    int r = take_room(s, size);
    if (r < 0)
        return r;
    struct kei_mut *m = kei_alloc(s->alloc, size);
    if (!m) {
        s->bytes -= size;
        return no_memory(s);
    }
    char *to = (char *)(m + 1);
    *m = (struct kei_mut){.kind = kind, .item = *item};
    m->item.bucket = memcpy(to, item->bucket, nb);
    m->item.key = memcpy(to + nb, item->key, nk);
    m->item.uid = memcpy(to + nb + nk, item->uid, nu);
    if (item->len > 0)
        m->item.value = memcpy(to + nb + nk + nu, item->value, item->len);
    *tx->last = m;
    tx->last = &m->next;
    tx->op.bytes += size;
    return 0;
}

/* A transaction that could not take in all it was given must not be committed without it. */
static int note(struct ke_store_tx *tx, int r)
{
    if (r < 0 && tx->failed == 0)
        tx->failed = r;
    return r;
}

static int usable_tx(const struct ke_store_tx *tx)
{
    return tx ? usable(tx->store) : KE_EINVAL;
}

int ke_store_put(struct ke_store_tx *tx, const char *bucket, const char *key, const char *uid,
                 int64_t version, const void *value, size_t len)
{
    int r = usable_tx(tx);
    if (r < 0)
        return r;
    struct ke_store *s = tx->store;
    uid = uid ? uid : "";
    r = check_key(s, bucket, key);
    if (r == 0)
        r = check_name(s, "uid", uid, KEI_UID_MAX, true);
    if (r == 0 && !kei_utf8_valid(kei_str(uid)))
        r = kei_fail(s->ctx, KE_EINVAL, "the uid of %s/%s is not UTF-8", bucket, key);
    if (r == 0 && len > 0 && !value)
        r = kei_fail(s->ctx, KE_EINVAL, "the value of %s/%s has a length and no bytes", bucket,
                     key);
    if (r == 0 && len > s->max_value)
        r = kei_fail(s->ctx, KE_ELIMIT,
                     "the value of %s/%s has %zu bytes, over max_value (%" PRIu32
                     ") of the store in %s",
                     bucket, key, len, s->max_value, s->folder);
    if (r == 0)
        r = add_mut(tx, KEI_MUT_PUT,
                    &(struct ke_store_item){.bucket = bucket,
                                            .key = key,
                                            .uid = uid,
                                            .version = version,
                                            .value = value,
                                            .len = len});
    return note(tx, r);
}

int ke_store_delete(struct ke_store_tx *tx, const char *bucket, const char *key, const char *uid)
{
    int r = usable_tx(tx);
    if (r < 0)
        return r;
    uid = uid ? uid : "";
    r = check_key(tx->store, bucket, key);
    if (r == 0)
        r = check_name(tx->store, "uid", uid, KEI_UID_MAX, true);
    if (r == 0)
        r = add_mut(tx, KEI_MUT_DELETE,
                    &(struct ke_store_item){.bucket = bucket, .key = key, .uid = uid});
    return note(tx, r);
}

int ke_store_delete_prefix(struct ke_store_tx *tx, const char *bucket, const char *prefix)
{
    int r = usable_tx(tx);
    if (r < 0)
        return r;
    prefix = prefix ? prefix : "";
    r = check_name(tx->store, "bucket", bucket, KEI_BUCKET_MAX, false);
    if (r == 0)
        r = check_name(tx->store, "prefix", prefix, KEI_KEY_MAX, true);
    if (r == 0)
        r = add_mut(tx, KEI_MUT_DELETE_PREFIX,
                    &(struct ke_store_item){.bucket = bucket, .key = prefix, .uid = ""});
    return note(tx, r);
}

int ke_store_commit(struct ke_store_tx *tx, ke_store_done_fn fn, void *user)
{
    int r = usable_tx(tx);
    if (r < 0)
        return r; /* wrong thread, or closing: then the store frees it itself */
    struct ke_store *s = tx->store;
    r = tx->failed;
    if (r < 0) {
        kei_op_free(s, &tx->op);
        return r == KE_ENOMEM ? no_memory(s)
                              : kei_fail(s->ctx, r,
                                         "a transaction of the store in %s was not committed: a "
                                         "change that belongs to it was refused (%s)",
                                         s->folder, ke_strerror(r));
    }
    kei_list_remove(&tx->open);
    tx->fn = fn;
    tx->user = user;
    kei_queue_add(s, &tx->op);
    return 0;
}

bool kei_queue_internal(struct ke_store *s, enum kei_mut_kind kind)
{
    struct ke_store_tx *tx = NULL;
    if (ke_store_begin(&tx, s) < 0)
        return false;
    if (add_mut(tx, kind, &(struct ke_store_item){.bucket = "", .key = "", .uid = ""}) < 0) {
        ke_store_abort(tx);
        return false;
    }
    return ke_store_commit(tx, NULL, NULL) == 0;
}

void ke_store_abort(struct ke_store_tx *tx)
{
    if (tx)
        kei_op_free(tx->store, &tx->op);
}
