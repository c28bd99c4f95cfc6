/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few Kubernetes objects read and written here, as pure functions over raw JSON. Shared by both
 * ends.
 */
#ifndef KEI_MESSAGE_K8S_H
#define KEI_MESSAGE_K8S_H

#include "base/json.h"

/* ---- metadata ---- */
struct kei_meta {
    const char *name, *ns, *uid, *resource_version; /* "" if absent; in the arena */
    int64_t version;                                /* resource_version as number, 0 if none */
    int64_t deletion_ms;      /* deletionTimestamp as Unix ms, 0 if not being deleted */
    int64_t deletion_grace_s; /* deletionGracePeriodSeconds, -1 if absent */
};
int kei_meta_read(struct kei_meta *m, struct ke_str object, struct kei_arena *a,
                  struct ke_error *err);

/*
 * Strategic merge patch (Kubernetes), on raw text so that what is not touched stays byte for byte:
 * null deletes, $patch delete/replace, $setElementOrder/x, $retainKeys, $deleteFromPrimitiveList/x,
 * and the merge keys of the lists that nodes, pods and services have (conditions, addresses: type;
 * containers, initContainers, volumes, env: name; ports: containerPort or port; podIPs, hostIPs:
 * ip; volumeMounts: mountPath; ownerReferences: uid; finalizers: a set). All other lists, taints
 * and tolerations among them, are replaced whole. Appended to out, which is unchanged on failure.
 * KE_EPARSE; KE_ELIMIT: deeper than 64 levels, more than 500,000 members touched; KE_ENOMEM.
 */
int kei_patch_strategic(struct ke_buf *out, struct ke_str base, struct ke_str patch,
                        struct ke_error *err);
/* RFC 7396 */
int kei_patch_merge(struct ke_buf *out, struct ke_str base, struct ke_str patch,
                    struct ke_error *err);
/* Copies object, with member at the dotted path set to value (raw JSON) or, if value.p is NULL,
 * removed. Missing objects on the way are made. */
int kei_json_set(struct ke_buf *out, struct ke_str object, const char *path, struct ke_str value,
                 struct ke_error *err);
/*
 * Equal as JSON values: key order and white space ignored, numbers by value. Cheap when the order
 * is the same; gives up (false) on huge objects in different order rather than take long.
 */
bool kei_json_same(struct ke_str a, struct ke_str b);

/* ---- quantities: "100m", "1.5Gi", "2e3"; false if malformed. milli: value x 1000, saturating ----
 */
bool kei_quantity_parse(struct ke_str s, int64_t *ret_milli);
bool kei_quantity_value(struct ke_str s, int64_t *ret); /* rounded up to a whole number */

/* ---- label selectors: every key of selector (a JSON object of strings) equals ---- */
bool kei_labels_match(struct ke_str labels, struct ke_str selector);

/* Whether a pod with these tolerations may be placed on a node with these taints (both arrays of
 * JSON, or absent): each taint with effect NoSchedule or NoExecute has one that fits. */
bool kei_taints_tolerated(struct ke_str taints, struct ke_str tolerations);

#endif
