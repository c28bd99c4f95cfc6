/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was applied: for each object its uid, version and a digest of its content, and for those
 * that were deleted that they were. Kept in memory beside the store's rows, so that a message of
 * the cloud can be judged at once: new, an echo, or stale. Pure; one owner.
 *
 * Resource versions only grow, except when an API server is put back from a backup: it then counts
 * on from an older number. So a lower version is stale only if its message is not much later than
 * the one that was applied; both times are the cloud's own (header.timestamp).
 *
 * Rows in bucket `applied`: key uid, version, value "+MS TYPE NS/NAME" of a live object, "-MS" of a
 * deleted one, MS being the time of the message that made it so.
 */
#ifndef KEI_META_INDEX_H
#define KEI_META_INDEX_H

#include "base/list.h"
#include "base/map.h"

#define KEI_TOMBS_MAX 1000u    /* deleted objects remembered, the latest */
#define KEI_RESTORED_MS 600000 /* a lower version that much later is of a restored API server */

struct kei_applied {
    char *uid;       /* "" for an object that has none */
    char *name;      /* "TYPE NS/NAME"; NULL when deleted */
    int64_t version; /* 0: unknown */
    int64_t at_ms;   /* of the message that was applied; 0: unknown */
    uint64_t digest;
    bool has_digest, deleted;
    struct kei_link link; /* of deleted ones, oldest first */
};

/* An object as a message of the cloud tells it. */
struct kei_told {
    struct ke_str name; /* "TYPE NS/NAME" */
    struct ke_str uid;
    int64_t version, at_ms;
    uint64_t digest; /* of its content: kei_index_digest */
};

struct kei_index {
    const struct ke_alloc *alloc;
    struct kei_map uids, names;
    struct kei_link tombs;
    uint32_t n_tombs;
};

enum kei_verdict {
    KEI_VERDICT_NEW,   /* apply it */
    KEI_VERDICT_ECHO,  /* has been applied already */
    KEI_VERDICT_STALE, /* something later has been applied */
};

void kei_index_init(struct kei_index *ix, const struct ke_alloc *a, uint64_t seed1, uint64_t seed2);
void kei_index_fini(struct kei_index *ix);
struct kei_applied *kei_index_uid(const struct kei_index *ix, struct ke_str uid);
struct kei_applied *kei_index_name(const struct kei_index *ix, struct ke_str name);
uint64_t kei_index_digest(struct ke_str content);

/* The newest version in it, also of deleted ones. */
int64_t kei_index_newest(const struct kei_index *ix);
/* An insert or update. */
enum kei_verdict kei_index_judge(const struct kei_index *ix, const struct kei_told *o);
/* Notes it as applied. The one that had the name before (another uid) becomes a deleted one; it is
 * returned by ret_replaced (may be NULL, is NULL if there was none). KE_ENOMEM: nothing changed. */
int kei_index_put(struct kei_index *ix, const struct kei_told *o, struct kei_applied **ret_applied,
                  struct kei_applied **ret_replaced);
/* The object is deleted; what was known of it stays, against late copies (one without uid is
 * freed). version 0: as it was. */
void kei_index_delete(struct kei_index *ix, struct kei_applied *e, int64_t version, int64_t at_ms);
/* It was not stored after all: the next copy is new. */
void kei_index_undo(struct kei_applied *e, int64_t version_before);
/* The oldest deleted one over the bound, taken out, or NULL; the caller frees it. */
struct kei_applied *kei_index_prune(struct kei_index *ix);
void kei_applied_free(struct kei_index *ix, struct kei_applied *e);

/* ---- reading the rows of an earlier run; end with kei_index_loaded ---- */
int kei_index_load_applied(struct kei_index *ix, struct ke_str uid, int64_t version,
                           struct ke_str value);
int kei_index_load_object(struct kei_index *ix, struct ke_str name, struct ke_str uid,
                          int64_t version, struct ke_str content);
/* Forgets live ones whose object row was lost. */
void kei_index_loaded(struct kei_index *ix);

#endif
