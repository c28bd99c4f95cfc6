/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices at the cloud.
 *   manifest -> object "device", "devicemodel" -> changed() -> device_down: membership and twin
 *   messages, deliver; device_profile: the ConfigMap of KubeEdge 1.4
 *   upstream -> device_up -> object "devicestatus" -> confirmation
 * What a device reports is in an object of its own, so that a report never changes what its node is
 * sent; and it belongs to one life of the device, by uid. Loop thread.
 */
#ifndef KEI_CLOUD_DEVICE_H
#define KEI_CLOUD_DEVICE_H

#include "cloud/cloud_priv.h"
#include "message/devmodel.h"
#include "message/twin_merge.h"

/* A member of stored Devices that no node gets: {"removed":{TWIN:VALUE},"edge":{TWIN:VERSION}}, and
 * the record, see device_merge.c */
#define KEI_DEVICE_OWN "libkubeedge"
#define KEI_DEVICE_TWINS_MAX 4096u       /* that nodes may report of one device */
#define KEI_DEVICE_STATUS_MAX (1u << 20) /* bytes of a devicestatus */

/* What is known of a device beside its object: made when the device is durable. */
struct kei_device_note {
    struct kei_object *device;
    struct kei_peer *peer; /* its node */
    struct kei_link link;  /* in peer->devices */
    struct kei_model_note *model;
    struct kei_link same_model; /* in model->devices */
    uint8_t twins[32];          /* digest of what the node was told is desired, by the twin */
    bool former; /* the node, when it connected, had a former life of it, which goes first */
    bool anew;   /* it is told a moment later that the device is its own */
};

/* The devices of a model, which need not exist. */
struct kei_model_note {
    struct kei_link devices;
    char key[]; /* "NS/NAME" */
};

/* ---- device_form.c: pure ---- */

/* The name of its node, "" if none. */
const char *kei_device_node(struct ke_str device, char out[KEI_NODE_NAME_MAX + 1]);
/* The name of its model, "" if none. */
const char *kei_device_model_name(struct ke_str device, char out[KEI_NODE_NAME_MAX + 1]);
bool kei_device_is_alpha(struct ke_str object); /* v1alpha2 */
/* What a device desires of p, and of the property of that name; NULL: nothing. */
const char *kei_device_desired(const struct kei_device *d, const struct kei_device_prop *p);
const char *kei_device_desired_by_name(const struct kei_device *d, const char *name);
/* What nodes since 1.15 get of a stored Device or DeviceModel: v1beta1, appended to out. protocol:
 * of a model that names none. */
int kei_device_beta(struct ke_buf *out, struct ke_str device, uint32_t dialect,
                    const struct ke_alloc *al, struct ke_error *err);
int kei_devicemodel_beta(struct ke_buf *out, struct ke_str model, const char *protocol,
                         const struct ke_alloc *al, struct ke_error *err);
/*
 * The map of desired values that 1.4 nodes get, sorted by name; model may be empty. gone: with
 * those that are not desired any more. *ret_n counts.
 */
int kei_device_twins(struct ke_buf *out, struct ke_str device, struct ke_str model, int64_t version,
                     int64_t now_ms, bool gone, uint32_t *ret_n, const struct ke_alloc *al,
                     struct ke_error *err);
/*
 * A device of a manifest as it is stored over old (empty: none), whose devicestatus is status
 * (empty: none): notes desired values that went, and which local changes of the node the new ones
 * replace.
 */
int kei_device_next(struct ke_buf *out, struct ke_str wanted, struct ke_str old,
                    struct ke_str status, const struct ke_alloc *al, struct ke_error *err);

/* ---- device_status.c: pure ---- */

struct kei_twin_state {
    struct ke_str name;          /* all strings decoded, in the arena */
    const char *reported, *type; /* value, NULL if none; type "" if not known */
    const char *observed, *observed_type;
    int64_t reported_ms, observed_ms;   /* of the edge, 0 if not told */
    int64_t actual_edge, expected_edge; /* versions of the edge, 0 if not told */
    bool deleted;                       /* by the edge */
    struct kei_hlc at[2];               /* of observed and reported; zero: none was told */
};
struct kei_device_state {
    struct kei_twin_state *twins; /* in the order they came */
    uint32_t n, cap;
    const char *uid;          /* of the device, "" none */
    const char *state, *seen; /* state and lastOnlineTime, "" if none */
    int64_t state_ms;         /* of the message that told the state */
};
/* Reads a stored devicestatus; one of another uid, or none, reads as empty. */
int kei_device_state_read(struct kei_device_state *s, struct ke_str status, const char *uid,
                          struct kei_arena *a, struct ke_error *err);
struct kei_twin_state *kei_device_state_twin(const struct kei_device_state *s, struct ke_str name);
/* The content of an edge_updated. late: older news than those that are there are left out. m: its
 * stamps, which decide instead; may be NULL. */
int kei_device_state_merge(struct kei_device_state *s, struct ke_str content, bool late,
                           const struct kei_merge_device *m, struct kei_arena *a,
                           struct ke_error *err);
/* The content (decoded) of a state message. */
int kei_device_state_online(struct kei_device_state *s, struct ke_str content, bool late,
                            struct kei_arena *a, struct ke_error *err);
void kei_device_state_write(struct ke_buf *out, const struct kei_device_state *s, const char *name);
/* The node lost what it had: its versions begin anew. */
void kei_device_state_restart(struct kei_device_state *s);

/* ---- device_merge.c ---- */

struct kei_merge_clock {
    struct kei_hlc *clock;
    int64_t wall_ms;
};
/* The record of a stored device, which may be none (life zero). KE_ENOMEM */
int kei_device_record(struct kei_merge_device *m, struct ke_str device, const struct ke_alloc *al,
                      struct ke_error *err);
bool kei_device_record_raw(struct ke_str device, struct ke_str *ret);
/* A node said later than the manifest what is desired. */
bool kei_device_overruled(struct ke_str device);
/* wanted, of a manifest, as it is stored over old (empty: none): with its record, and with what a
 * node said later. */
int kei_device_decide(struct ke_buf *out, struct ke_str wanted, struct ke_str old,
                      struct kei_merge_clock *c, const struct ke_alloc *al, struct ke_error *err);
/* A stored device with the desired values of a node that are later; nothing is appended to out when
 * *ret_changed is false. */
int kei_device_take(struct ke_buf *out, struct ke_str device, const struct kei_merge_device *from,
                    struct kei_hlc *clock, bool *ret_changed, const struct ke_alloc *al,
                    struct ke_error *err);
struct kei_merge_clock kei_cloud_merge_clock(struct ke_cloud *c);
int64_t kei_cloud_merge_now(const struct ke_cloud *c); /* as nodes are told; 0: it is not set */
int64_t kei_cloud_merge_ahead(const struct ke_cloud *c, const struct kei_merge_device *m);
int kei_cloud_merge_load(struct ke_cloud *c);
/* The device is about to be removed. */
void kei_device_bury(struct ke_cloud *c, const struct kei_object *device);
bool kei_device_grave(const struct ke_cloud *c, const char *ns, const char *name,
                      struct kei_hlc *ret);

/* ---- device_down.c ---- */

void kei_devices_init(struct ke_cloud *c);
void kei_devices_free(struct ke_cloud *c);
/* Notes of all devices in memory. KE_ENOMEM */
int kei_devices_load(struct ke_cloud *c);
/* Statuses whose device is gone go, too. */
void kei_devices_tidy(struct ke_cloud *c);
/* A Device or DeviceModel is durable in a new version, or gone. */
void kei_devices_changed(struct ke_cloud *c, struct kei_object *o, bool removed);
/* Lets go of the note of a device, without a word to anybody. */
void kei_devices_forget(struct ke_cloud *c, struct kei_object *o);
/* Everything that is wanted on the node. */
void kei_devices_push(struct kei_peer *p);
/* Is this object, which the node holds, still for it? */
bool kei_devices_wanted(const struct kei_peer *p, const struct kei_object *o);
bool kei_is_device_type(const char *type); /* "device" or "devicemodel" */
/* What the node is sent of o. */
int kei_device_content(const struct kei_peer *p, const struct kei_object *o, struct ke_buf *out);
/* Of that, the spec that a deletion must name, for upstream's nodes to find the driver. KE_ENOMEM
 */
int kei_device_remains(const struct ke_buf *content, struct ke_buf *out);
void kei_devices_connected(struct kei_peer *p);
void kei_devices_disconnected(struct kei_peer *p);
void kei_devices_dialect(struct kei_peer *p); /* it became known, or another */
/* The node asks for its devices. */
void kei_devices_asked(struct kei_peer *p);
void kei_devices_on_due(struct kei_timer *t);
/* What the node tells of it is of a former life. */
bool kei_device_is_former(const struct kei_peer *p, const struct kei_object *o);
/* Its id in messages. */
void kei_device_id(const struct kei_peer *p, const struct kei_object *o, char *out, size_t cap);
struct kei_object *kei_device_of_id(const struct kei_peer *p, struct ke_str id);
/* The node has a device that is not its own. */
void kei_device_expel(struct kei_peer *p, struct ke_str id);

/* ---- device_profile.c ---- */
/* Made here for this node, which may read it whether a pod mounts it or not. */
bool kei_device_profile_is_of(const struct kei_peer *p, const struct kei_object *configmap);
/* One that its node has already, and which changed: it gets the new one. */
void kei_device_profile_changed(struct ke_cloud *c, const struct kei_object *configmap);
/* The ConfigMaps of a 1.4 node are brought up to date. */
void kei_device_profiles(struct kei_peer *p);

/* ---- device_up.c ---- */
void kei_upstream_device(struct kei_peer *p, struct ke_msg *m);
/* Its node lost its store. */
void kei_devices_doubt(struct kei_peer *p);

/* ---- device_info.c ---- */
void kei_tell_device(struct ke_cloud *c, const struct kei_object *o, bool removed);
/* A devicestatus is durable in a new version. */
void kei_device_reported(struct ke_cloud *c, const struct kei_object *status, bool removed);
int kei_info_device(struct ke_cloud *c, const struct kei_object *o, struct kei_arena *a,
                    struct ke_cloud_device_info *ret);

#endif
