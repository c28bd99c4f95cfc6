/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud's objects: all of them in memory, each durable in the store before anybody is told.
 * Versions are one growing number over all objects, as in an API server. Loop thread.
 */
#ifndef KEI_CLOUD_OBJECTS_H
#define KEI_CLOUD_OBJECTS_H

#include <kubeedge/store.h>

#include "base/json.h"
#include "base/map.h"

struct kei_objects;

/* Bytes of one object: what an API server takes. */
#define KEI_OBJECT_MAX 1572864
#define KEI_KEY_MAX 640

/* "type/ns/name": how maps and rows name an object. KE_ELIMIT */
int kei_object_key(char out[KEI_KEY_MAX], const char *type, const char *ns, const char *name);

/* "pod", "configmap", "secret", "node", "lease", "device", "devicemodel": the type tokens of the
 * wire; "devicestatus" and "devicegrave" never go there. */
struct kei_object {
    const char *type, *ns, *name, *uid; /* ns "" for nodes */
    int64_t version;                    /* of json */
    int64_t durable;                    /* version that is on disk, 0: none yet */
    bool removed;                       /* being removed; not found any more */
    struct ke_buf json;
    struct ke_buf source; /* where a manifest said it, "" when it came otherwise */
    uint32_t inflight;    /* commits under way */
    void *note;           /* of ops.index */
};

struct kei_objects_ops {
    /*
     * Memory is about to change: o->json becomes next, or, with next.p NULL, o goes (which must not
     * fail). Negative: the write is refused with it. Optional.
     */
    int (*index)(void *user, struct kei_object *o, struct ke_str next);
    /* An object is durable in a new version, or its removal is; after the writer's callback. o is
     * borrowed. */
    void (*changed)(void *user, struct kei_object *o, bool removed);
};

/* 0: durable. Else it is not yet (it is tried again by itself); o is NULL then. */
typedef void (*kei_object_fn)(void *user, int status, struct kei_object *o);

int kei_objects_new(struct kei_objects **ret, struct ke_ctx *ctx, struct ke_store *store,
                    const struct kei_objects_ops *ops, void *user);
void kei_objects_free(struct kei_objects *s); /* index is not told */
/* Reads all; done once, unless this fails. Before it is done the set is not whole. */
int kei_objects_load(struct kei_objects *s, void (*done)(void *user, int status), void *user);

struct kei_object *kei_objects_get(const struct kei_objects *s, const char *type, const char *ns,
                                   const char *name);
/* Also one whose removal is not durable yet. */
struct kei_object *kei_objects_any(const struct kei_objects *s, const char *type, const char *ns,
                                   const char *name);
/* Walks objects of a type (NULL: all); *it starts at 0. */
struct kei_object *kei_objects_next(const struct kei_objects *s, const char *type, size_t *it);
/* The same, with those whose removal is not durable yet. */
struct kei_object *kei_objects_next_any(const struct kei_objects *s, const char *type, size_t *it);
/*
 * Makes or replaces an object. Name, namespace, uid, resourceVersion and creationTimestamp in it
 * are set here (an existing object keeps uid and creation time). source NULL keeps the one that is
 * there. fn may be NULL and comes in a later turn. Negative: fn is not called; when memory had
 * changed already (KE_ENOMEM and errors of the store) the change stands and is stored later.
 * KE_EAGAIN: the object of this name is being removed. KE_ELIMIT: over KEI_OBJECT_MAX.
 */
int kei_objects_write(struct kei_objects *s, const char *type, const char *ns, const char *name,
                      struct ke_str json, const struct ke_str *source, kei_object_fn fn,
                      void *user);
/* Errors as above; o is not found any more in any case. */
int kei_objects_remove(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user);
/* fn when what memory has now is durable: for who wants to tell it. */
int kei_objects_sync(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user);
/* Where the object came from, without a new version of it. */
int kei_objects_set_source(struct kei_objects *s, struct kei_object *o, struct ke_str source);
int64_t kei_objects_version(const struct kei_objects *s); /* the last one given */
/* Versions given from now on are above this one. */
void kei_objects_version_seen(struct kei_objects *s, int64_t version);

#endif
