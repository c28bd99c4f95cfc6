/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud end: certificate endpoint, tunnel endpoint, reliable delivery and an embedded store of
 * objects whose source is a folder of Kubernetes manifests. All calls: loop, unless marked.
 *
 * One program per node name: the newest connection wins. When two living ones throw each other out
 * again and again, the log names both, who is in stays for 10 s to 5 min, and the other is refused.
 *
 * Whom it believes what: a node speaks for itself alone, by its certificate. One of the form up to
 * 1.15 (CN=kubeedge.io), which names no node, belongs to the node that it was made for or, when it
 * is older than that rule, is first used by. A node may read the ConfigMaps and Secrets that its
 * pods refer to, where a manifest made the pod; the pods it tells of itself (mirrors of static
 * ones) may refer to none. It sets its own labels, those of node-restriction.kubernetes.io/
 * excepted, so a pod with a nodeSelector may come to any node that claims to match: a pod with a
 * Secret that not all nodes may see needs nodeName.
 *
 * Limits of one node: 200 mirror pods of 4 MiB together, 256 KiB of status for a pod, 1.5 MiB for
 * its Node and its lease. Of the ports: 512 handshakes each, where the oldest that is silent for
 * 1 s or takes over 5 s goes first; 1000 connections at the certificate port, 250 of one address
 * (the tunnel has no limit of an address: many nodes may have one). All less when the process may
 * open fewer files (RLIMIT_NOFILE, looked at by ke_cloud_start): then the log says how many nodes
 * can connect. For all of them max_nodes + 2252 are needed.
 *
 * Devices (manifests Device and DeviceModel of devices.kubeedge.io, v1alpha2 and v1beta1, in any
 * mixture): each node gets its own in the form of its version: up to 1.14 membership, desired
 * values and the ConfigMap device-profile-config-NODE (in the namespace of its devices, for a
 * mapper's pod to mount, or the node to ask for), from 1.15 on membership and objects of v1beta1. A
 * change of desired values is a change of the manifest; with a node of this library also what an
 * application of the node sets: the one that came last stands, here and there, until either says
 * something new. What nodes report (1 MiB and 4096 twins of a device at most) is on disk before it
 * is confirmed, and belongs to one life of the device: a device that is deleted and made again
 * begins without. A device whose model is missing is held back from nodes since 1.15.
 *
 * Service accounts, volume claims and logs are not served: nodes get NotFound, at once.
 */
#ifndef KUBEEDGE_CLOUD_H
#define KUBEEDGE_CLOUD_H

#include <kubeedge/msg.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_cloud;

struct ke_cloud_config {
    size_t size;
    const char *data;      /* required: folder of the cloud; one process at a time */
    const char *manifests; /* folder of *.yaml, *.yml, *.json with Pod, ConfigMap (1 MiB of data at
                              most, as in Kubernetes), Secret, Device and DeviceModel; NULL: none */
    const char *listen;    /* default "0.0.0.0" */
    const char *const *advertise; /* names and addresses nodes dial; go into the certificate */
    uint32_t n_advertise;
    uint32_t tunnel_port; /* default 10000; KE_PORT_ANY picks a free one */
    uint32_t cert_port;   /* default 10002 */
    uint32_t max_nodes;   /* default 10000 */
    uint32_t max_message; /* bytes; default 32 MiB */
    uint32_t cert_days;   /* life of node certificates; default 365 */
    uint32_t token_hours; /* life of the join token; default 24 */
    uint32_t flags;
};
#define KE_PORT_ANY 0xffffffffu

struct ke_cloud_node_info {
    size_t size;
    const char *name;
    const char *status; /* "Ready", "NotReady", "Unknown" */
    const char *address;
    const char *version; /* kubeletVersion */
    uint32_t connected;
    uint32_t dialect;
    uint32_t pending; /* objects not yet acknowledged */
    uint32_t reserved;
    int64_t heartbeat_ms; /* Unix time of the last status or lease */
};

struct ke_cloud_pod_info {
    size_t size;
    const char *pod_namespace;
    const char *name;
    const char *uid;
    const char *node;
    const char *phase;
    const char *reason;
    uint32_t ready, containers, restarts, deleting;
};

/*
 * One value of a device: desired by a manifest, reported by the device, or both. Strings are never
 * NULL, "" for none; has_ tells a value that is empty from none. type is the model's, the
 * manifest's or the node's ("int", "string", ...), the first that is known.
 */
struct ke_cloud_twin_info {
    size_t size;
    const char *name;
    const char *type;
    const char *desired;
    const char *reported;
    const char *observed; /* the desired value as the node saw it last */
    uint32_t has_desired, has_reported, has_observed;
    uint32_t reserved;
    int64_t reported_ms; /* Unix time by the node's clock; 0 unknown */
};

struct ke_cloud_device_info {
    size_t size;
    const char *device_namespace;
    const char *name;
    const char *uid;
    const char *node; /* "" for none */
    const char *model;
    const char *protocol;
    const char *api;         /* "v1alpha2" or "v1beta1": of the manifest */
    const char *state;       /* as the node tells it, "online" for instance; "" if it never did */
    const char *last_online; /* as the node tells it */
    const char *reason;      /* what is wrong with it here, for people; "" nothing */
    const struct ke_cloud_twin_info *const *twins; /* by name; NULL when there are none */
    uint32_t n_twins;
    uint32_t pending; /* the node did not acknowledge the newest version; 0 up to 1.14 */
};

struct ke_cloud_ops {
    size_t size;
    /* All optional. Borrowed during the call. removed: the object is gone. */
    void (*node)(void *user, const struct ke_cloud_node_info *n, uint32_t removed);
    void (*pod)(void *user, const struct ke_cloud_pod_info *p, uint32_t removed);
    /* A manifest was refused; text names file, line and field. */
    void (*manifest_error)(void *user, const char *text);
    /* A device is new or changed, or its node reported. */
    void (*device)(void *user, const struct ke_cloud_device_info *d, uint32_t removed);
};

KE_API void ke_cloud_config_init(struct ke_cloud_config *c, size_t size);
/* Loop: when the context runs a thread of its own already, from a callback or ke_ctx_post. */
KE_API KE_NODISCARD int ke_cloud_new(struct ke_cloud **ret, struct ke_ctx *ctx,
                                     const struct ke_cloud_config *c,
                                     const struct ke_cloud_ops *ops, void *user);
/* Opens the data folder, makes CA, server certificate and token if missing, listens. Errors as
 * ke_store_open, and KE_EADDRINUSE naming the port. Gives the context a thread of its own unless
 * the host has taken the loop. Any thread, as ke_cloud_stop. */
KE_API KE_NODISCARD int ke_cloud_start(struct ke_cloud *c);
/* Any thread. From another one than the loop's it waits until the loop has done it: for ever when
 * the host has taken the loop and dispatches it no more. */
KE_API void ke_cloud_stop(struct ke_cloud *c);
/* Stops first, as ke_cloud_stop. Any thread, when no other call with c is under way. NULL is fine;
 * in a callback of c it is freed when that returns. */
KE_API void ke_cloud_free(struct ke_cloud *c);
/* A join token, valid for token_hours from now, appended to out. */
KE_API KE_NODISCARD int ke_cloud_token(struct ke_cloud *c, struct ke_buf *out);
/* The ports in use (after KE_PORT_ANY). */
KE_API KE_NODISCARD int ke_cloud_ports(struct ke_cloud *c, uint32_t *ret_tunnel,
                                       uint32_t *ret_cert);
KE_API KE_NODISCARD int ke_cloud_nodes(struct ke_cloud *c,
                                       void (*fn)(void *user, const struct ke_cloud_node_info *n),
                                       void *user);
KE_API KE_NODISCARD int ke_cloud_pods(struct ke_cloud *c,
                                      void (*fn)(void *user, const struct ke_cloud_pod_info *p),
                                      void *user);
/* All devices, in no order; d is borrowed during the call. Loop. KE_EINVAL, KE_ESTATE: the cloud
 * does not run; KE_ENOMEM: not all were told. */
KE_API KE_NODISCARD int
ke_cloud_devices(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_device_info *d),
                 void *user);

#ifdef __cplusplus
}
#endif
#endif
