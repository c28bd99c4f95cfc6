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

/* "pod", "configmap", "secret", "node", "lease": the type tokens of the wire. */
struct kei_object {
    const char *type, *ns, *name, *uid; /* ns "" for nodes */
    int64_t version;                    /* of json */
    int64_t durable;                    /* version that is on disk, 0: none yet */
    bool removed;                       /* being removed; not found any more */
    struct ke_buf json;
    struct ke_buf source; /* what the manifest said, "" when it came otherwise */
    uint32_t inflight;    /* commits under way */
};

struct kei_objects_ops {
    /* An object is durable in a new version, or its removal is. o is borrowed. */
    void (*changed)(void *user, struct kei_object *o, bool removed);
};

/* 0: durable. Else nothing was written (it is tried again by itself); o may be NULL. */
typedef void (*kei_object_fn)(void *user, int status, struct kei_object *o);

int kei_objects_new(struct kei_objects **ret, struct ke_ctx *ctx, struct ke_store *store,
                    const struct kei_objects_ops *ops, void *user);
void kei_objects_free(struct kei_objects *s);
/* Reads all; done once. Before it is done the set is empty. */
int kei_objects_load(struct kei_objects *s, void (*done)(void *user, int status), void *user);

struct kei_object *kei_objects_get(const struct kei_objects *s, const char *type, const char *ns,
                                   const char *name);
/* Walks objects of a type (NULL: all); *it starts at 0. */
struct kei_object *kei_objects_next(const struct kei_objects *s, const char *type, size_t *it);
/*
 * Makes or replaces an object. uid, resourceVersion and creationTimestamp are set here (an existing
 * object keeps uid and creation time). source NULL keeps the one that is there. fn may be NULL.
 */
int kei_objects_write(struct kei_objects *s, const char *type, const char *ns, const char *name,
                      struct ke_str json, const struct ke_str *source, kei_object_fn fn,
                      void *user);
int kei_objects_remove(struct kei_objects *s, struct kei_object *o, kei_object_fn fn, void *user);
/* Highest version given so far. */
int64_t kei_objects_version(const struct kei_objects *s);

#endif
