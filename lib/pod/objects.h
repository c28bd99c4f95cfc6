/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ConfigMaps, Secrets and tokens a pod refers to: found in its spec, filled by the engine, read
 * by environment and volumes. Pure; the list and its strings live in the arena.
 */
#ifndef KEI_POD_OBJECTS_H
#define KEI_POD_OBJECTS_H

#include "pod/podspec.h"

#define KEI_POD_OBJECTS_MAX 256

/* One key of an object's data or binaryData. */
struct kei_object_key {
    const char *name;  /* decoded; NULL if that cannot be done */
    struct ke_str raw; /* as it stands between its quotes */
    struct ke_str value;
    bool binary; /* of binaryData */
};

struct kei_object {
    const char *type;     /* "configmap", "secret", "serviceaccounttoken" */
    const char *name;     /* of a token: the service account */
    struct ke_str source; /* of a token: its source in the volume, which tells tokens apart */
    struct ke_str text;   /* the object, NUL-terminated or not; p NULL: none */
    int status;           /* 0 with text, KE_ENOTFOUND: there is none, else why it is not known */
    const char *why;      /* text of status, "" */
    struct kei_object_key *keys; /* see kei_object_index */
    size_t n_keys;
    const char *keys_of; /* the text they are of */
};

struct kei_objects {
    struct kei_object *v;
    size_t n;
};

/* Collects what s refers to, each once, all with status KE_EAGAIN. KE_ELIMIT, KE_ENOMEM, KE_EINVAL.
 */
int kei_objects_collect(struct kei_objects *o, const struct kei_podspec *s, struct kei_arena *a,
                        struct ke_error *err);
struct kei_object *kei_objects_find(const struct kei_objects *o, const char *type,
                                    const char *name);
struct kei_object *kei_objects_token(const struct kei_objects *o, struct ke_str source);
bool kei_objects_refers(const struct kei_podspec *s, const char *type, const char *name,
                        struct kei_arena *a);

/*
 * Reads o's keys once, in the arena, so that a value is found without reading the whole object
 * again. Nothing to do if it was done. KE_ENOMEM: values are found the slow way.
 */
int kei_object_index(struct kei_object *o, struct kei_arena *a);
/*
 * The value under key: text of a ConfigMap, decoded bytes of a Secret or of binaryData (if binary),
 * appended to out. KE_ENOTFOUND without that key, KE_EPARSE if it is no string or no base64.
 */
int kei_object_value(struct ke_buf *out, const struct kei_object *o, const char *key, bool binary,
                     struct ke_error *err);
/* Walks the keys: *it starts at 0. Binary ones come after the others; *ret_key is raw (escaped).
 * Sorted, and each name once, if o has an index. */
bool kei_object_next(const struct kei_object *o, size_t *it, bool binary, struct ke_str *ret_key);

/* The TokenRequest to ask for the token of source. */
void kei_token_request(struct ke_buf *out, const struct kei_podspec *s, struct ke_str source);
/* The token in an answered TokenRequest, and when it ends (Unix ms, 0 unknown). */
bool kei_token_read(struct ke_str object, struct ke_str *ret_token, int64_t *ret_expires_ms);

/* What a fieldRef or resourceFieldRef reads besides the pod. */
struct kei_field_env {
    const char *node_name, *host_ip, *pod_ip;
};
/*
 * The value of a fieldRef path ("metadata.name", "metadata.labels['x']", "status.podIP", ...),
 * appended. KE_EINVAL for an unknown path.
 */
int kei_field_value(struct ke_buf *out, const struct kei_podspec *s, const char *path,
                    const struct kei_field_env *e, struct ke_error *err);
/* The value of a resourceFieldRef; c is its container unless ref names another. */
int kei_resource_value(struct ke_buf *out, const struct kei_podspec *s,
                       const struct kei_spec_container *c, struct ke_str ref, struct ke_error *err);

#endif
