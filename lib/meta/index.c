/* SPDX-License-Identifier: Apache-2.0 */
/* The index of what was applied. Owns its entries. Pure; one owner. */
#include "meta/index.h"

#include <kubeedge/err.h>

#include "store/sum.h"

void kei_index_init(struct kei_index *ix, const struct ke_alloc *a, uint64_t seed1, uint64_t seed2)
{
    *ix = (struct kei_index){.alloc = a};
    kei_map_init(&ix->uids, a, seed1);
    kei_map_init(&ix->names, a, seed2);
    kei_list_init(&ix->tombs);
}

void kei_applied_free(struct kei_index *ix, struct kei_applied *e)
{
    kei_free(ix->alloc, e->uid);
    kei_free(ix->alloc, e->name);
    kei_free(ix->alloc, e);
}

void kei_index_fini(struct kei_index *ix)
{
    struct ke_str key;
    void *e;
    size_t it = 0;

    if (!ix->alloc)
        return;
    while (kei_map_next(&ix->names, &it, &key, &e)) {
        /* those with a uid are in the other map too */
        if (!*((struct kei_applied *)e)->uid)
            kei_applied_free(ix, e);
    }
    it = 0;
    while (kei_map_next(&ix->uids, &it, &key, &e))
        kei_applied_free(ix, e);
    kei_map_free(&ix->uids);
    kei_map_free(&ix->names);
    ix->alloc = NULL;
}

struct kei_applied *kei_index_uid(const struct kei_index *ix, struct ke_str uid)
{
    return uid.n ? kei_map_get(&ix->uids, uid) : NULL;
}

struct kei_applied *kei_index_name(const struct kei_index *ix, struct ke_str name)
{
    return kei_map_get(&ix->names, name);
}

int64_t kei_index_newest(const struct kei_index *ix)
{
    struct ke_str key;
    void *e;
    int64_t newest = 0;

    for (size_t it = 0; kei_map_next(&ix->uids, &it, &key, &e);) {
        if (((struct kei_applied *)e)->version > newest)
            newest = ((struct kei_applied *)e)->version;
    }
    return newest;
}

/* It only tells an echo from a change of the same version: no attacker gains by a collision. */
uint64_t kei_index_digest(struct ke_str content)
{
    return kei_sum(0, content.p, content.n);
}

/* ---- judging ---- */

static bool same(const struct kei_applied *e, uint64_t digest)
{
    return e->has_digest && e->digest == digest;
}

static bool much_later(const struct kei_applied *e, const struct kei_told *o)
{
    return e->at_ms > 0 && o->at_ms > e->at_ms && o->at_ms - e->at_ms > KEI_RESTORED_MS;
}

enum kei_verdict kei_index_judge(const struct kei_index *ix, const struct kei_told *o)
{
    const struct kei_applied *e = kei_index_uid(ix, o->uid);
    bool newer;

    if (!e && o->uid.n == 0)
        e = kei_index_name(ix, o->name);
    if (!e)
        return KEI_VERDICT_NEW;
    newer = o->version > e->version || (o->version < e->version && much_later(e, o));
    /* Deleted and told again as it was, by a message made after the deletion: it is back. */
    if (e->deleted)
        return newer || (o->version == e->version && o->at_ms > e->at_ms) ? KEI_VERDICT_NEW
                                                                          : KEI_VERDICT_STALE;
    if (o->version && e->version && o->version != e->version)
        return newer ? KEI_VERDICT_NEW : KEI_VERDICT_STALE;
    return same(e, o->digest) ? KEI_VERDICT_ECHO : KEI_VERDICT_NEW;
}

/* ---- changing ---- */

static void bury(struct kei_index *ix, struct kei_applied *e, int64_t at_ms)
{
    if (!e->deleted) {
        kei_list_add_tail(&ix->tombs, &e->link);
        ix->n_tombs++;
    }
    e->deleted = true;
    e->has_digest = false;
    if (at_ms > e->at_ms)
        e->at_ms = at_ms;
}

static void dig_up(struct kei_index *ix, struct kei_applied *e)
{
    if (!e->deleted)
        return;
    kei_list_remove(&e->link);
    ix->n_tombs--;
    e->deleted = false;
}

/* Out of both maps. */
static void forget(struct kei_index *ix, struct kei_applied *e)
{
    dig_up(ix, e);
    if (*e->uid)
        (void)kei_map_remove(&ix->uids, kei_str(e->uid));
    if (e->name && kei_index_name(ix, kei_str(e->name)) == e)
        (void)kei_map_remove(&ix->names, kei_str(e->name));
}

static struct kei_applied *entry_new(struct kei_index *ix, struct ke_str uid)
{
    struct kei_applied *e = kei_zalloc(ix->alloc, sizeof *e);

    if (!e)
        return NULL;
    e->uid = kei_strndup(ix->alloc, uid.p ? uid.p : "", uid.n);
    if (e->uid && (uid.n == 0 || kei_map_put(&ix->uids, uid, e, NULL) == 0))
        return e;
    kei_free(ix->alloc, e->uid);
    kei_free(ix->alloc, e);
    return NULL;
}

int kei_index_put(struct kei_index *ix, const struct kei_told *o, struct kei_applied **ret_applied,
                  struct kei_applied **ret_replaced)
{
    struct kei_applied *before = kei_index_name(ix, o->name);
    struct kei_applied *e = o->uid.n ? kei_index_uid(ix, o->uid) : before;
    bool made = e == NULL;
    char *copy = NULL;

    if (made)
        e = entry_new(ix, o->uid);
    if (e && !e->name)
        copy = kei_strndup(ix->alloc, o->name.p, o->name.n);
    if (!e || (!e->name && !copy) || kei_map_put(&ix->names, o->name, e, NULL) < 0) {
        kei_free(ix->alloc, copy);
        if (made && e) {
            forget(ix, e);
            kei_applied_free(ix, e);
        }
        return KE_ENOMEM;
    }
    if (copy)
        e->name = copy;
    dig_up(ix, e);
    if (before && before != e) {
        kei_free(ix->alloc, before->name);
        before->name = NULL;
        /* What is later is the one that has the name now. */
        if (o->version > before->version)
            before->version = o->version;
        bury(ix, before, o->at_ms);
        if (!*before->uid) {
            forget(ix, before);
            kei_applied_free(ix, before);
            before = NULL;
        }
    } else {
        before = NULL;
    }
    e->version = o->version;
    e->at_ms = o->at_ms;
    e->digest = o->digest;
    e->has_digest = true;
    if (ret_applied)
        *ret_applied = e;
    if (ret_replaced)
        *ret_replaced = before;
    return 0;
}

void kei_index_delete(struct kei_index *ix, struct kei_applied *e, int64_t version, int64_t at_ms)
{
    if (e->name) {
        if (kei_index_name(ix, kei_str(e->name)) == e)
            (void)kei_map_remove(&ix->names, kei_str(e->name));
        kei_free(ix->alloc, e->name);
        e->name = NULL;
    }
    if (!*e->uid) {
        kei_applied_free(ix, e);
        return;
    }
    if (version > e->version)
        e->version = version;
    bury(ix, e, at_ms);
}

void kei_index_undo(struct kei_applied *e, int64_t version_before)
{
    if (e->version > version_before)
        e->version = version_before;
    e->has_digest = false;
}

struct kei_applied *kei_index_prune(struct kei_index *ix)
{
    struct kei_applied *e;

    if (ix->n_tombs <= KEI_TOMBS_MAX)
        return NULL;
    e = KEI_OF(ix->tombs.next, struct kei_applied, link);
    forget(ix, e);
    return e;
}

/* ---- loading ---- */

int kei_index_load_applied(struct kei_index *ix, struct ke_str uid, int64_t version,
                           struct ke_str value)
{
    struct kei_applied *e = kei_index_uid(ix, uid);
    struct ke_str ms, rest;

    if (uid.n == 0 || value.n < 2)
        return 0;
    if (!e)
        e = entry_new(ix, uid);
    if (!e)
        return KE_ENOMEM;
    e->version = version;
    ms = kei_str_cut(kei_strn(value.p + 1, value.n - 1), ' ', &rest);
    (void)kei_str_i64(ms, &e->at_ms);
    if (value.p[0] == '-' && !e->name) /* a row of an object is stronger */
        bury(ix, e, e->at_ms);
    return 0;
}

int kei_index_load_object(struct kei_index *ix, struct ke_str name, struct ke_str uid,
                          int64_t version, struct ke_str content)
{
    const struct kei_applied *e = kei_index_uid(ix, uid);
    struct kei_told o = {.name = name,
                         .uid = uid,
                         .version = version,
                         .at_ms = e ? e->at_ms : 0,
                         .digest = kei_index_digest(content)};

    return kei_index_put(ix, &o, NULL, NULL);
}

void kei_index_loaded(struct kei_index *ix)
{
    struct ke_str key;
    void *v;
    size_t it = 0;

    while (kei_map_next(&ix->uids, &it, &key, &v)) {
        struct kei_applied *e = v;

        if (e->name || e->deleted)
            continue;
        forget(ix, e);
        kei_applied_free(ix, e);
    }
}
