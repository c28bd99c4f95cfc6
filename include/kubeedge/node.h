/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A complete KubeEdge node: tunnel, store, router and pod engine put together.
 *
 * ke_node_start gives the context a thread of its own unless the host has taken the loop with
 * ke_ctx_fd. Thread rule: new/start/free on the thread that made the context; stop, state and
 * pods from any thread.
 *
 * Where the host has taken the loop, stop, free, state and pods of another thread than the loop's
 * wait for its next ke_ctx_dispatch: for ever if there is none. A host that stops dispatching must
 * not have such a call under way, nor make one; from the loop's own thread none of them waits.
 */
#ifndef KUBEEDGE_NODE_H
#define KUBEEDGE_NODE_H

#include <kubeedge/device.h>
#include <kubeedge/runtime.h>
#include <kubeedge/tunnel.h>
#include <kubeedge/twin.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_node;

#define KE_NODE_STOPPED 0u
#define KE_NODE_STARTING 1u /* reading the store, taking back what runs */
#define KE_NODE_OFFLINE 2u  /* workloads run; no link to the cloud */
#define KE_NODE_CONNECTED 3u /* linked, not registered yet */
#define KE_NODE_READY 4u    /* the cloud confirmed a status with condition Ready True */

/* Where devices' MQTT messages come from: a server inside, a broker outside through paho-mqtt-c (see
 * kubeedge/eventbus.h), or both. */
#define KE_NODE_MQTT_NONE 0u
#define KE_NODE_MQTT_INTERNAL 1u
#define KE_NODE_MQTT_EXTERNAL 2u
#define KE_NODE_MQTT_BOTH 3u

/* Flags of the configuration. */
#define KE_NODE_NO_DEVICES 1u /* no device twin, no drivers, no mappers */
#define KE_NODE_TWIN_STRICT 2u     /* KE_TWIN_STRICT of kubeedge/twin.h: upstream's limits for values */
#define KE_NODE_TWIN_OLD_TOPICS 4u /* KE_TWIN_OLD_TOPICS: also on topics without the namespace */

/* Passed in arrays, so without a size of its own: its members stay as they are for good. */
struct ke_taint {
    const char *key;
    const char *value;
    const char *effect; /* NoSchedule, PreferNoSchedule, NoExecute */
};

/* Strings are copied. NULL or 0: the default. */
struct ke_node_config {
    size_t size;
    const char *name;       /* required; a DNS subdomain name */
    const char *data;       /* required: folder of the node; one process at a time */
    const char *cloud_host; /* required to be more than an offline node */
    const char *token;      /* to join with; see ke_tunnel_config */
    const char *project_id;
    const char *proxy_url;  /* http://[user[:password]@]host[:port] */
    const char *ca_file, *cert_file, *key_file; /* as in ke_tunnel_config */
    uint32_t tunnel_port, cert_port, dialect, heartbeat_ms;
    const struct ke_env *labels; /* besides the standard ones, which they win over */
    const struct ke_taint *taints;
    const struct ke_env *resources; /* extended resources: name "vendor.example/gpu", value "2" */
    uint32_t n_labels, n_taints, n_resources;
    uint32_t max_pods;      /* default 110 */
    const char *node_ip;    /* default: the address used towards the cloud */
    const char *runtime;    /* "none" (default), "process"; ignored when a table is given */
    /* What the process runtime may start, absolute: a program by that name; with a '/' at the end
     * all programs below that folder, links resolved; "/" alone: anything. */
    const char *const *process_allow;
    uint32_t n_process_allow;
    uint32_t status_ms;     /* node status period; default 10000 */
    const char *process_user; /* user name or uid that processes run as; default: the node's own */
    const char *shim;       /* path of ke-shim; default: the installed one */
    const char *log_folder; /* pod logs; default DATA/logs */
    uint32_t retry_min_ms, retry_max_ms;
    uint32_t flags;         /* KE_NODE_NO_DEVICES, KE_NODE_TWIN_... */
    /* When the store may have lost pods (it was damaged or deleted), what runs without a pod runs
     * on, and is taken back when the cloud tells its pod. 0, the default: for as long as that
     * takes; a cloud need not tell again what the node acknowledged once, so that may be until
     * the pod changes. Else: until the link was up for so many ms without a break; what is left
     * is ended then, and its files are removed. */
    uint32_t stray_ms;
    /* What hostPath volumes may name, absolute: a folder with all below it, or a file; "/" alone:
     * anything. None: no hostPath volumes. Links are resolved first. data, what is in it and the
     * folders above it are refused at any rate: they would show the node's keys to a pod. */
    const char *const *host_path_allow;
    uint32_t n_host_path_allow;
    uint32_t mqtt;          /* KE_NODE_MQTT_*; default none */
    const char *mqtt_listen; /* of the server inside, ADDR:PORT; default 127.0.0.1:1884. Its data is
                                in DATA/mqtt. Without users only loopback is let in. */
    uint32_t mqtt_qos, mqtt_retain; /* of what the node publishes on it; default 0 */
    uint32_t mqtt_queue;     /* messages it keeps for a client that is away; default 1,000 */
    uint32_t mqtt_flags;     /* KE_EVENTBUS_TLS... of kubeedge/eventbus.h */
    const char *mqtt_url;    /* of the broker outside; default tcp://127.0.0.1:1883 */
    const char *mqtt_client_id, *mqtt_user, *mqtt_password;
    const char *mqtt_ca_file, *mqtt_cert_file, *mqtt_key_file;
    const char *mqtt_module; /* path of libkubeedge-paho.so; default: the installed one */
    /* Drivers of the library that devices of the cloud may use: names with commas (modbus, gpio,
     * mqtt-json, simulated), or "all"; default none. They reach whatever address, serial line or GPIO
     * chip a Device object names.
     * A driver that is named serves its protocol alone: mappers for it are refused, and one that had
     * registered is forgotten. With "all", drivers yield: a mapper that registers for a protocol
     * serves its devices from then on, also after a restart, until its driver is named. */
    const char *drivers;
    const char *dmi_socket; /* where mappers register (kubeedge DMI); default: nowhere */
};

/* One pod as the node sees it. Borrowed during the call. */
struct ke_pod_info {
    size_t size;
    const char *pod_namespace;
    const char *name;
    const char *uid;
    const char *phase;  /* Pending, Running, Succeeded, Failed; Unknown: see removed */
    const char *reason; /* or "" */
    const char *message;
    uint32_t ready;     /* containers ready */
    uint32_t containers;
    uint32_t restarts;  /* of all containers */
    uint32_t removed;   /* 1: this pod is gone, last report. One that went while the node was down is
                           reported so after the start, with phase Unknown if it was not over. */
};

/* A mapper that has registered: one of each protocol. Borrowed during the call. */
struct ke_node_mapper_info {
    size_t size;
    const char *name;
    const char *version;
    const char *protocol;
    const char *address;   /* of its socket */
    const char *dmi;       /* "v1beta1", "v1alpha1" (KubeEdge up to 1.14) */
    const char *state;     /* as it said when it registered; "" if nothing */
    const char *error;     /* what failed last; "" if all is well */
    uint32_t reachable;    /* 1: it answered the last time */
    uint32_t devices;      /* that it has */
    uint32_t waiting;      /* changes that it was not told yet */
    uint32_t reserved;
    uint64_t reports;      /* of its devices that were taken, since the node's start */
    int64_t registered_ms; /* Unix time; 0: before the node's start */
    int64_t seen_ms;       /* Unix time of its last answer or report; 0: not since the start */
};

struct ke_node_status {
    size_t size;
    uint32_t state; /* KE_NODE_* */
    uint32_t pods;
    uint32_t pods_running;
    int32_t last_error; /* of the store while it cannot be written, as on a full disk; else of the
                           tunnel */
    struct ke_tunnel_status tunnel; /* last_error_text points to error_text below */
    char error_text[KE_ERROR_TEXT_MAX];
    uint32_t strays; /* running containers kept though their pod is not known: see stray_ms */
};

struct ke_node_ops {
    size_t size;
    /* Optional. The runtime to use; runtime_user is given to its calls. */
    const struct ke_runtime_ops *runtime;
    void *runtime_user;
    /* Optional. State or connection changed. */
    void (*state)(void *user, const struct ke_node_status *st);
    /* Optional. A pod appeared, changed or went. */
    void (*pod)(void *user, const struct ke_pod_info *p);
    /* Optional. The node's twin and harness, borrowed: made and not started, so that drivers can be
     * registered and the twin observed; each NULL when it is about to go, in ke_node_stop. Within the
     * call of ke_node_start, on the loop. */
    void (*devices)(void *user, struct ke_twin *twin, struct ke_devices *devices);
};

KE_API void ke_node_config_init(struct ke_node_config *c, size_t size);

/* A configuration read from a file, and the memory it points into. */
struct ke_node_settings;
/*
 * Reads an edgecore.yaml of upstream (v1alpha1, v1alpha2) as it is: names, addresses, ports, token,
 * certificate files, labels, taints, status period; keys of our own stand under "libkubeedge:"
 * (data, runtime, processAllow, processUser, hostPathAllow, dialect, proxy, retryMin, retryMax,
 * strayGrace, drivers, twinStrict, twinOldTopics, mqttQueue, mqttKeepSession, mqttModule). A file that says "kind: EdgeCore" and nothing of
 * modules.eventBus has upstream's default, the broker at tcp://127.0.0.1:1883, which need not be there;
 * "modules: {eventBus: {enable: false}}" turns it off. An unknown key is not fatal: it is reported by
 * unknown (may be NULL), once each, with its dotted name and line. KE_ENOTFOUND, KE_EPARSE with the
 * line, KE_EINVAL for a value of the wrong type, KE_ENOTSUP without YAML. Loop.
 */
KE_API KE_NODISCARD int ke_node_settings_read(struct ke_node_settings **ret, struct ke_ctx *ctx,
                                              const char *path,
                                              void (*unknown)(void *user, const char *key,
                                                              uint32_t line),
                                              void *user);
/* To look at, or to change before ke_node_new; its pointers live as long as s. */
KE_API struct ke_node_config *ke_node_settings_config(struct ke_node_settings *s);
KE_API void ke_node_settings_free(struct ke_node_settings *s); /* NULL is fine */

/* Checks and copies; opens nothing yet. ops may be NULL. KE_EINVAL names the member. */
KE_API KE_NODISCARD int ke_node_new(struct ke_node **ret, struct ke_ctx *ctx,
                                    const struct ke_node_config *c, const struct ke_node_ops *ops,
                                    void *user);
/*
 * Opens the data folder (errors as ke_store_open; KE_EACCES, too, when another user owns it; what
 * others may do in it is taken away), takes back what runs, starts what the store
 * holds, connects. KE_ETOKEN for a malformed token if there is no certificate yet. Returns before any of the later steps is done; they are told by state.
 */
KE_API KE_NODISCARD int ke_node_start(struct ke_node *n);
/* Ends the link and the node's work; workloads of a runtime that outlives it run on. Any thread;
 * state KE_NODE_STOPPED follows. */
KE_API void ke_node_stop(struct ke_node *n);
KE_API void ke_node_free(struct ke_node *n); /* stops first; NULL is fine; from a callback: deferred */
/* A snapshot. Any thread; waits for the loop, see above. */
KE_API KE_NODISCARD int ke_node_state(struct ke_node *n, struct ke_node_status *ret, size_t size);
/* Calls fn for each pod, on the caller's thread, of a snapshot. Any thread. */
KE_API KE_NODISCARD int ke_node_pods(struct ke_node *n,
                                     void (*fn)(void *user, const struct ke_pod_info *p),
                                     void *user);
/*
 * Calls fn for each mapper, on the caller's thread, of a snapshot. KE_ESTATE: none can register,
 * because no dmi_socket is configured or the node is not started; KE_ENOTSUP: built without DMI;
 * errors of the socket, with text, while it cannot be opened (it is tried again), after the mappers
 * known from before. reterr may be NULL. Any thread.
 */
KE_API KE_NODISCARD int
ke_node_mappers(struct ke_node *n, void (*fn)(void *user, const struct ke_node_mapper_info *m),
                void *user, struct ke_error *reterr);

#ifdef __cplusplus
}
#endif
#endif
