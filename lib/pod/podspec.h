/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine reads of a Pod object. Pure; strings live in the arena, spans in the text of the
 * object, which must outlive the kei_podspec.
 */
#ifndef KEI_POD_PODSPEC_H
#define KEI_POD_PODSPEC_H

#include "message/k8s.h"

#define KEI_POD_CONTAINERS_MAX 64
#define KEI_POD_VOLUMES_MAX 128
#define KEI_POD_UID_MAX 64

enum kei_restart {
    KEI_RESTART_ALWAYS,
    KEI_RESTART_ON_FAILURE,
    KEI_RESTART_NEVER,
};

enum kei_volume_kind {
    KEI_VOL_EMPTY_DIR,
    KEI_VOL_CONFIG_MAP,
    KEI_VOL_SECRET,
    KEI_VOL_PROJECTED,
    KEI_VOL_DOWNWARD_API,
    KEI_VOL_HOST_PATH,
    KEI_VOL_OTHER, /* not supported; refused below */
};

struct kei_spec_volume {
    const char *name; /* a DNS label: safe as a folder */
    enum kei_volume_kind kind;
    struct ke_str source; /* the object under "configMap", "secret", ... */
};

struct kei_spec_container {
    const char *name; /* a DNS label */
    const char *image;
    const char *pull_policy; /* "" if absent */
    struct ke_str json;
};

struct kei_podspec {
    struct kei_meta meta;
    bool has_spec; /* false: a stub that only names the pod */
    const char *node_name;
    const char *service_account;
    const char *hostname; /* of the pod, at most 63 bytes */
    enum kei_restart restart;
    int64_t grace_s;           /* terminationGracePeriodSeconds, 30 if absent */
    int64_t active_deadline_s; /* 0: none */
    bool host_network;
    struct ke_str json, spec, status; /* p NULL if absent */
    struct kei_spec_container *containers;
    struct kei_spec_volume *volumes;
    struct kei_spec_container *ephemeral; /* named and refused */
    size_t n_containers, n_volumes, n_ephemeral;
    /* Something in it that this engine does not do: reason is NULL if there is nothing. */
    const char *refused_reason;
    const char *refused_message;
    bool damaged; /* a string held NUL, or memory ran out: told as an error */
};

/*
 * Reads pod. KE_EPARSE or KE_EINVAL for what no API server would send (no uid, a name that is no
 * name, no container), KE_ELIMIT over the numbers above, KE_ENOMEM.
 */
int kei_podspec_read(struct kei_podspec *s, struct ke_str pod, struct kei_arena *a,
                     struct ke_error *err);
const struct kei_spec_volume *kei_podspec_volume(const struct kei_podspec *s, const char *name);

/*
 * Member key of v as a C string in the arena, "" if absent. KE_EINVAL when it is no string that can
 * be one, or memory ran out: nothing must be taken for absent that is there.
 */
int kei_spec_str(const char **ret, struct ke_str v, const char *key, struct kei_arena *a,
                 struct ke_error *err);

/* "uid": letters, digits and '-', not more than KEI_POD_UID_MAX: safe as a folder */
bool kei_pod_uid_valid(struct ke_str s);
/* An absolute path without "." and ".." parts. */
bool kei_path_plain(const char *s);
/* A relative path without empty, "." and ".." parts, and not beginning with "..". */
bool kei_path_inside(const char *s);

/* Member key of object v as a C string in the arena, "" if absent; marks s when it cannot be had.
 */
const char *kei_podspec_str(struct kei_podspec *s, struct ke_str v, const char *key,
                            struct kei_arena *a);

#endif
