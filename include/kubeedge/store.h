/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metadata store: durable values by bucket and key, on SQLite in WAL mode with
 * synchronous=FULL. Usable alone. One file, kubeedge.db, in a folder of its own (0700); one process
 * at a time. All calls: loop.
 *
 * Writes are transactions. All that are committed in one turn of the loop, and all that gather
 * while the disk is busy, share one fsync on the disk worker and one fate: they are durable
 * together, or none of them is written and each is told why; but one that is too large (KE_ELIMIT)
 * fails alone. A commit's callback runs after its
 * data is durable. Answers come in the order of the calls. Reads see every commit made before them;
 * a list is one moment's state however long it takes (commits behind it wait), and holds a quarter
 * of a MiB, or one value, at a time.
 *
 * Limits, each KE_ELIMIT with its name and value in the text: a bucket has up to 128 bytes, a key
 * 1,024, a uid 256, all UTF-8; max_value and max_bytes below; and what is not yet written, open
 * transactions included, may be up to twice max_value, at least 64 MiB.
 *
 * Damage: every page and every row carries a check sum. What is read damaged is never handed out;
 * the rows that can be read are saved into a new file that takes the old one's place, and salvaged
 * (below) tells. After an unclean stop the whole file is checked, behind the host's first reads. A
 * deleted value is overwritten in the file.
 */
#ifndef KUBEEDGE_STORE_H
#define KUBEEDGE_STORE_H

#include <kubeedge/ctx.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_store;
struct ke_store_tx;

#define KE_STORE_MEMORY 1u /* nothing on disk, lost at close */

struct ke_store_config {
    size_t size;
    const char *folder;    /* made if missing (its parent must exist) */
    uint32_t flags;        /* KE_STORE_* */
    uint32_t cache_kib;    /* page cache; default 256 */
    uint64_t max_bytes;    /* of the database file; default 1 GiB; over it KE_ELIMIT */
    uint32_t max_value;    /* bytes of one value; default 32 MiB */
    uint32_t reserved;
    /* Buckets whose rows are checked first after an unclean stop, NULL-terminated. Copied. */
    const char *const *first;
    /*
     * Optional: the file was damaged and has been rebuilt from its readable rows. saved and lost
     * count rows (lost is UINT64_MAX when unknown); text says more. When nothing could be saved the
     * old file is kept as kubeedge.db.damaged-N (three at most). Later turn, or during close; once
     * more at the next opening if the process ends before the note of it is durable.
     */
    void (*salvaged)(void *user, uint64_t saved, uint64_t lost, const char *text);
    void *user;
};

KE_API void ke_store_config_init(struct ke_store_config *c, size_t size);

/*
 * Opens it, blocking: the only call that touches the disk on the caller's thread. KE_EBUSY (another
 * process has it), KE_ENEWER (written by a newer release: use that one, nothing was changed),
 * KE_EROFS, KE_EACCES, KE_ENOSPC, KE_EIO (the disk cannot be read; nothing was changed),
 * KE_ECORRUPT (damaged, and no new file could be put in its place), KE_ENOMEM, KE_ENOTSUP (the
 * process's SQLite is too old or built without threads). All of a file of a larger size or with
 * larger values than this configuration allows can still be read and deleted.
 */
KE_API KE_NODISCARD int ke_store_open(struct ke_store **ret, struct ke_ctx *ctx,
                                      const struct ke_store_config *c);
/*
 * Finishes what is committed and asked, then closes, blocking. Pending callbacks are called with
 * their results; calls from them get KE_ESTATE. Uncommitted transactions are dropped: their handles
 * are gone. NULL is fine. Not from its callbacks.
 */
KE_API void ke_store_close(struct ke_store *s);

/* One value. Borrowed during the callback. */
struct ke_store_item {
    size_t size;
    const char *bucket;
    const char *key;
    const char *uid;  /* "" if none */
    int64_t version;  /* resource version or any number of the writer's */
    const void *value; /* NUL-terminated after len bytes */
    size_t len;
};

/* status 0 with the item, KE_ENOTFOUND, or a failure (text in ke_ctx_error); item is NULL then. */
typedef void (*ke_store_get_fn)(void *user, int status, const struct ke_store_item *item);
/* Once per item with status 0; last with item NULL and the final status. */
typedef void (*ke_store_list_fn)(void *user, int status, const struct ke_store_item *item);
/* 0: durable. Else nothing of the transaction was written; text in ke_ctx_error. */
typedef void (*ke_store_done_fn)(void *user, int status);

/* Exactly one call of fn follows when it returns 0, none when it fails (KE_EINVAL, KE_ELIMIT,
 * KE_ENOMEM, KE_ESTATE: being closed, KE_ETHREAD; these of every call below, too). */
KE_API KE_NODISCARD int ke_store_get(struct ke_store *s, const char *bucket, const char *key,
                                     ke_store_get_fn fn, void *user);
/* Items whose key starts with prefix ("" or NULL: all), in order of their key (bytes). bucket NULL:
 * all buckets, in order. limit 0: no limit. */
KE_API KE_NODISCARD int ke_store_list(struct ke_store *s, const char *bucket, const char *prefix,
                                      uint32_t limit, ke_store_list_fn fn, void *user);

KE_API KE_NODISCARD int ke_store_begin(struct ke_store_tx **ret, struct ke_store *s);
/* Replaces the value under bucket/key. Everything is copied. uid may be NULL. A change that is
 * refused, here or in the next two, makes the commit fail, too: no transaction goes in without it. */
KE_API KE_NODISCARD int ke_store_put(struct ke_store_tx *tx, const char *bucket, const char *key,
                                     const char *uid, int64_t version, const void *value,
                                     size_t len);
/* Deletes one; only if its uid equals uid, when uid is not NULL or "". A missing one is no error. */
KE_API KE_NODISCARD int ke_store_delete(struct ke_store_tx *tx, const char *bucket, const char *key,
                                        const char *uid);
/* Deletes all whose key starts with prefix ("" : the whole bucket). */
KE_API KE_NODISCARD int ke_store_delete_prefix(struct ke_store_tx *tx, const char *bucket,
                                               const char *prefix);
/* Hands it over; tx is gone whatever is returned. fn may be NULL, and is not called on failure.
 * A failure is that of the first change that was refused. */
KE_API KE_NODISCARD int ke_store_commit(struct ke_store_tx *tx, ke_store_done_fn fn, void *user);
KE_API void ke_store_abort(struct ke_store_tx *tx); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
