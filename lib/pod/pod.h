/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pod engine: runs the pods of the store on a runtime and reports their status. Registers as
 * module `edged` (group `edged`) on the router. Owns its runtime table, volumes and notes; borrows
 * router and store, which must outlive it. All calls: loop, unless marked.
 */
#ifndef KEI_POD_POD_H
#define KEI_POD_POD_H

#include <stdbool.h>

#include <kubeedge/node.h>
#include <kubeedge/router.h>
#include <kubeedge/runtime.h>
#include <kubeedge/store.h>

struct kei_pods;

/* What the runtime says of itself. Strings borrowed until the next call. */
struct kei_runtime_state {
    const char *name;    /* "process", "containerd", "vendor"; "none" without a runtime */
    const char *version; /* "0" if not told */
    const char *text;    /* why it is not ready; "" if it is */
    bool ready;
};

struct kei_pods_ops {
    /* Optional. A pod appeared, changed, or went (removed is 1). */
    void (*pod)(void *user, const struct ke_pod_info *p);
    /* Optional. kei_pods_runtime changed. */
    void (*runtime)(void *user);
    /* Optional. What ran was taken back and what was missing was begun: the start is over. */
    void (*settled)(void *user);
    /* Optional. Strays are not kept (any more), see hold below. */
    void (*sure)(void *user);
};

/* Strings and tables are copied. 0 or NULL: the default. */
struct kei_pods_config {
    const char *node_name;    /* required */
    const char *node_ip;      /* hostIP and, on the host's network, podIP; "" until known */
    const char *data;         /* required: folder of the node; it must exist */
    const char *log_folder;   /* default DATA/logs */
    struct ke_router *router; /* required */
    struct ke_store *store;   /* required */
    /* The dialect of the cloud (KE_DIALECT_*), asked when a status is made. NULL: AUTO. */
    uint32_t (*dialect)(void *user);
    const struct ke_runtime_ops *runtime; /* the vendor's table; NULL: runtime_name */
    void *runtime_user;
    const char *runtime_name; /* "none" (default), "process" */
    const char *const *process_allow;
    uint32_t n_process_allow;
    uint32_t max_pods;        /* default 110 */
    const char *process_user; /* name or uid; default: the node's own */
    const char *shim;         /* default: the installed one */
    /* Folders and files hostPath volumes may name, with all below; none given: nothing. */
    const char *const *host_path_allow;
    uint32_t n_host_path_allow;
    uint32_t query_ms;         /* wait for one ConfigMap, Secret or token; default 65000 */
    uint32_t restart_min_ms;   /* back-off of restarts; default 10000 */
    uint32_t restart_max_ms;   /* default 300000 */
    uint32_t restart_reset_ms; /* running so long forgets the back-off; default 600000 */
    uint32_t retry_min_ms;     /* back-off of failed preparation; default 1000 */
    uint32_t retry_max_ms;     /* default 60000 */
    uint32_t op_ms; /* deadline of a runtime operation; default 60000 (pull: ten times) */
    /*
     * The store may have lost pods: what runs without a pod is kept; if hold_ms is not 0, until the
     * link was up for so long without a break. A pod told meanwhile takes its containers back.
     */
    bool hold;
    uint32_t hold_ms;
    struct kei_pods_ops ops;
    void *user; /* of dialect and ops */
};

/* Checks and copies; nothing is opened. KE_EINVAL names the member. */
int kei_pods_new(struct kei_pods **ret, struct ke_ctx *ctx, const struct kei_pods_config *c);
/*
 * Registers with the router, attaches the runtime, reads the store and the runtime's list, then
 * takes back what runs, starts what is missing and stops what is unknown. Returns at once; the end
 * of it is told by ops.settled. Never waits for the network.
 */
int kei_pods_start(struct kei_pods *p);
/* Leaves router and runtime; containers of a runtime that outlives the node run on. */
void kei_pods_stop(struct kei_pods *p);
void kei_pods_free(struct kei_pods *p); /* stops first; NULL is fine; also from a callback */

/* As hold of the configuration. False, and no effect, once the pods of the store have been read. */
bool kei_pods_hold(struct kei_pods *p);
/* Running containers that are kept so. */
uint32_t kei_pods_held(const struct kei_pods *p);
/* The cloud does not know this node's pods (any more): tells every status again. */
void kei_pods_retell(struct kei_pods *p);
void kei_pods_set_node_ip(struct kei_pods *p, const char *ip);
void kei_pods_runtime(struct kei_pods *p, struct kei_runtime_state *ret);
/* Calls fn for each pod, in no order. fn must not change the engine. */
void kei_pods_each(struct kei_pods *p, void (*fn)(void *user, const struct ke_pod_info *p),
                   void *user);
void kei_pods_count(struct kei_pods *p, uint32_t *ret_pods, uint32_t *ret_running);

#endif
