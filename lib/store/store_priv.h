/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the store. Three parties share struct ke_store, each with members of its own:
 *  - the loop: queue, callbacks, accounting (store.c, batch.c);
 *  - the disk worker: connection and files (ops.c, check.c, salvage.c), while a batch is under way;
 *  - whoever opens it, before either of them.
 * At most one batch is under way, and it belongs to the worker from submission to its done call.
 */
#ifndef KEI_STORE_PRIV_H
#define KEI_STORE_PRIV_H

#include <stdatomic.h>

#include <kubeedge/store.h>

#include "base/list.h"
#include "store/db.h"
#include "store/pages.h"

#define KEI_BUCKET_MAX 128u
#define KEI_KEY_MAX 1024u
#define KEI_UID_MAX 256u
#define KEI_ROW_ROOM 4096u              /* of a row beside its value */
#define KEI_LIST_CHUNK ((size_t)262144) /* bytes a list holds at a time, or one value */
#define KEI_BATCH_BYTES ((size_t)8388608)
#define KEI_QUEUE_MIN ((size_t)67108864) /* of the bound on what waits to be written */
#define KEI_ASIDE_MAX 3                  /* kubeedge.db.damaged-N */

/* ---- rows and changes ---- */
struct kei_row {
    struct kei_row *next;
    struct ke_store_item item; /* points into this block */
};
void kei_rows_free(const struct ke_alloc *a, struct kei_row *rows);

enum kei_mut_kind { KEI_MUT_PUT, KEI_MUT_DELETE, KEI_MUT_DELETE_PREFIX, KEI_MUT_TOLD };
struct kei_mut {
    struct kei_mut *next;
    enum kei_mut_kind kind;
    struct ke_store_item item; /* points into this block; key: the prefix */
};

/* A range of keys, and how far it has been read. */
struct kei_scan {
    const char *bucket; /* NULL: all */
    const char *prefix;
    uint32_t left; /* items still wanted; UINT32_MAX: all */
    char *at;      /* bucket and key of the last one read, NULL at the start; owned */
    const char *at_key;
};

int kei_ops_put(struct kei_db *db, const struct ke_store_item *item, struct ke_error *err);
int kei_ops_apply(struct kei_db *db, const struct kei_mut *m, struct ke_error *err);
/* KE_ENOTFOUND; *ret is one row */
int kei_ops_get(struct kei_db *db, const struct ke_alloc *a, const char *bucket, const char *key,
                struct kei_row **ret, struct ke_error *err);
/* What a salvage has to tell: kept in the database from the salvage on until it was told. */
struct kei_report {
    bool set;
    bool aside; /* the old file is kept */
    uint64_t saved, lost;
    char text[KE_ERROR_TEXT_MAX];
};
int kei_ops_note(struct kei_db *db, const struct kei_report *report, struct ke_error *err);
int kei_ops_noted(struct kei_db *db, struct kei_report *ret, struct ke_error *err);

int kei_ops_has(struct kei_db *db, const char *bucket, const char *key, bool *ret,
                struct ke_error *err);
/* The next rows, in order, up to KEI_LIST_CHUNK. *ret_more: call again. */
int kei_ops_list(struct kei_db *db, const struct ke_alloc *a, struct kei_scan *scan,
                 struct kei_row **ret, bool *ret_more, struct ke_error *err);

/* ---- queue ---- */
enum kei_op_kind { KEI_OP_TX, KEI_OP_GET, KEI_OP_LIST };
struct kei_op {
    struct kei_link link;
    enum kei_op_kind kind;
    int status;
    size_t bytes; /* counted against the bound */
};

struct ke_store_tx {
    struct kei_op op;
    struct kei_link open; /* in the store's list until it is committed */
    struct ke_store *store;
    struct kei_mut *first, **last;
    int failed; /* of a call that could not be taken in: the whole is refused */
    ke_store_done_fn fn;
    void *user;
};

struct kei_read {
    struct kei_op op;
    struct kei_scan scan; /* a get: bucket, and its key as prefix */
    struct kei_row *rows;
    bool more;
    ke_store_get_fn get; /* the list's has the same type */
    void *user;
    char names[];
};

enum kei_check_phase { KEI_CHECK_NONE, KEI_CHECK_FIRST, KEI_CHECK_ALL };
struct kei_check {
    enum kei_check_phase phase;
    size_t bucket; /* of the list of first buckets */
    struct kei_scan scan;
    unsigned tries;
};

struct kei_batch {
    struct kei_work work;
    struct kei_link ops; /* empty: a step of the check */
    bool busy;
    bool healed; /* salvage has been tried in this one */
    struct ke_error err;
};

/* With the disk (state.c). The loop's, but for what a probe found. */
struct kei_trouble {
    struct ke_error err; /* code 0: none */
    void (*watch)(void *user);
    void *user;
    struct kei_timer timer;
    struct kei_work work;
    bool busy;
    int probed;
};

struct ke_store {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    uint32_t flags, max_value;
    struct kei_db_conf conf;
    char *folder;
    char **first; /* NULL-terminated, may be NULL */
    void (*salvaged)(void *user, uint64_t saved, uint64_t lost, const char *text);
    void *user;
    struct ke_io_file *lock;

    /* the worker's */
    struct kei_vfs vfs;
    struct kei_db db;
    int64_t heal_after_ms; /* not before, after a failure */
    struct kei_check check;
    struct kei_report report; /* handed to the loop with the batch */
    atomic_uint waiting;      /* ops in the queue: the check gives way */

    /* the loop's */
    struct kei_turn turn;
    struct kei_defer wake;
    struct kei_link pending; /* struct kei_op */
    struct kei_link txs;     /* struct ke_store_tx, not committed */
    size_t bytes, bytes_max;
    bool closing;
    struct kei_batch batch;
    struct kei_trouble trouble;
};

/* state.c */
void kei_trouble_init(struct ke_store *s);
void kei_trouble_fini(struct ke_store *s); /* waits for the worker */
/* How a commit went; the context has the text. */
void kei_trouble_note(struct ke_store *s, int status);

/* batch.c */
void kei_queue_add(struct ke_store *s, struct kei_op *op);
void kei_queue_turn(struct kei_turn *t);
void kei_queue_drain(struct ke_store *s); /* until nothing waits */
void kei_op_free(struct ke_store *s, struct kei_op *op);
/* Tells the host, and has it noted that it was told. */
void kei_report_deliver(struct ke_store *s);
/* store.c: a transaction of our own with one change of that kind; false without memory. */
bool kei_queue_internal(struct ke_store *s, enum kei_mut_kind kind);

/* check.c: one step, on the worker. 0, or the damage it found (KE_ECORRUPT, KE_EIO). */
int kei_check_step(struct ke_store *s, struct ke_error *err);
void kei_check_end(struct ke_store *s);

/* ---- files (swap.c): names change here and nowhere else ---- */
/* After a crash: ends a swap that was decided, removes a file that was not completed. */
int kei_swap_recover(struct ke_ctx *ctx, const char *folder, struct ke_error *err);
/* KEI_NEW_FILE, synced, becomes the database of an empty folder. */
int kei_swap_create(struct ke_ctx *ctx, const char *folder, struct ke_error *err);
/* It takes the place of a damaged one and its log, which are kept as kubeedge.db.damaged-N or lost.
 */
int kei_swap_replace(struct ke_ctx *ctx, const char *folder, bool keep, struct ke_error *err);
int kei_swap_remove(struct ke_ctx *ctx, const char *folder, const char *name, struct ke_error *err);

/* ---- salvage.c ---- */
/*
 * Writes KEI_NEW_FILE from the readable rows of the present files, with the report in it (why says
 * what is wrong with them); pages NULL: an empty one.
 */
int kei_salvage_build(struct ke_ctx *ctx, struct kei_vfs *v, const struct kei_db_conf *conf,
                      struct kei_pages *pages, const char *why, struct kei_report *report,
                      struct ke_error *err);

/* ---- attach.c ---- */
/*
 * Opens the folder's database into s->db: made if missing, salvaged if damaged. *ret_unclean: it
 * was not closed. KE_ENEWER and all the rest.
 */
int kei_attach(struct ke_store *s, bool *ret_unclean, struct ke_error *err);
/*
 * After damage was found (err says which): closes, salvages and opens again. Not more often than
 * once a minute when it fails. 0, or the failure with its text.
 */
int kei_heal(struct ke_store *s, struct ke_error *err);
/* 0 when the database is open, or could be opened again after a kei_heal that failed. */
int kei_ready(struct ke_store *s, struct ke_error *err);
bool kei_is_damage(const struct ke_store *s, int code);

#endif
