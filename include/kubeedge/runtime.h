/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vendor's table for container lifecycle (stable ABI). Firmware without containers fills
 * three calls: container_create, container_start, container_stop; a runtime whose containers
 * outlive the node also fills container_list.
 *
 * Every call starts an operation and returns at once: 0, then the operation is completed exactly
 * once with ke_runtime_complete, from any thread, also from within the call; or negative, then it
 * is over and must not be completed. One that is not completed within its deadline fails with
 * KE_ETIMEDOUT; its late completion is ignored. Calls come on the loop's thread and must not block.
 * Pointers given to a call are borrowed during the call.
 */
#ifndef KUBEEDGE_RUNTIME_H
#define KUBEEDGE_RUNTIME_H

#include <kubeedge/ctx.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_runtime; /* the node's end of the table */

/* Passed in arrays, so without a size of its own: its members stay as they are for good. */
struct ke_env {
    const char *name;
    const char *value;
};

#define KE_MOUNT_READ_ONLY 1u
/* Passed in arrays, so without a size of its own: its members stay as they are for good. What may
 * come has reserved, 0 until then. */
struct ke_mount {
    const char *host_path;      /* a folder or file of the node */
    const char *container_path; /* where the container expects it */
    const char *volume;         /* name of the volume in the pod */
    uint32_t flags;             /* KE_MOUNT_* */
    uint32_t reserved;
};

struct ke_container_config {
    size_t size;
    const char *pod_namespace;
    const char *pod_name;
    const char *pod_uid;
    const char *name;  /* of the container */
    const char *image;
    const char *sandbox_id;     /* "" without sandbox calls */
    const char *working_dir;    /* "" if not given */
    /* File to append stdout and stderr to, CRI log format. Its folder may not exist: the runtime
     * makes it. The node removes it with the pod. */
    const char *log_path;
    const char *hostname;
    const char *const *command; /* replaces the image's entry point; may be empty */
    const char *const *args;
    const struct ke_env *env;
    const struct ke_mount *mounts;
    uint32_t n_command, n_args, n_env, n_mounts;
    uint32_t attempt;           /* 0, 1, ... one more per restart */
    uint32_t flags;             /* KE_CONTAINER_* */
    int64_t memory_limit;       /* bytes, 0: none */
    int64_t cpu_limit_milli;    /* 0: none */
    int64_t cpu_request_milli;
    int64_t run_as_user;        /* -1: not given */
    int64_t run_as_group;       /* -1: not given */
    const char *pod_json; /* the whole Pod as it came */
    size_t pod_json_len;
};
#define KE_CONTAINER_STDIN 1u
#define KE_CONTAINER_TTY 2u
#define KE_CONTAINER_HOST_NETWORK 4u
#define KE_CONTAINER_PRIVILEGED 8u
#define KE_CONTAINER_READ_ONLY_ROOT 16u
#define KE_CONTAINER_RUN_AS_NON_ROOT 32u

#define KE_CONTAINER_CREATED 1u
#define KE_CONTAINER_RUNNING 2u
#define KE_CONTAINER_EXITED 3u
#define KE_CONTAINER_UNKNOWN 4u

struct ke_container_info {
    size_t size;
    const char *id; /* the vendor's, opaque, unique */
    const char *pod_namespace;
    const char *pod_name;
    const char *pod_uid;
    const char *name;
    const char *image;
    const char *image_id;
    const char *reason;  /* "Completed", "Error", "OOMKilled", ... or "" */
    const char *message; /* or "" */
    uint32_t attempt;
    uint32_t state; /* KE_CONTAINER_CREATED ... */
    int32_t exit_code;
    int32_t signal; /* 0: none */
    int64_t created_ms, started_ms, finished_ms; /* Unix time, 0: not yet */
};

struct ke_sandbox_config {
    size_t size;
    const char *pod_namespace;
    const char *pod_name;
    const char *pod_uid;
    const char *hostname;
    const char *log_folder;
    uint32_t attempt;
    uint32_t flags; /* KE_CONTAINER_HOST_NETWORK */
    const char *pod_json;
    size_t pod_json_len;
};

/* How an operation ended. Members a call does not name are zero. Borrowed during the call. */
struct ke_runtime_result {
    size_t size;
    const char *id;      /* container_create, sandbox_run; image_pull: the image's id */
    const char *name;    /* info: name of the runtime, e.g. "containerd" */
    const char *version; /* info */
    const char *ip;      /* sandbox_run: the pod's address, or NULL */
    const char *reason;  /* failures: a Kubernetes reason, e.g. "ErrImagePull", or NULL */
    const char *text;    /* failures: what and why, for people */
    const struct ke_container_info *containers; /* container_list, container_status */
    uint32_t n_containers;
    uint32_t ready; /* info: 1 if it can run containers now */
};

struct ke_runtime_ops {
    size_t size;
    /* Optional. rt is what to complete and report to; valid until detach returns. */
    void (*attach)(void *user, struct ke_runtime *rt);
    void (*detach)(void *user);
    /* Optional; without it the runtime counts as ready and is named "vendor://0". */
    int (*info)(void *user, uint64_t op);
    /* Required. The id is in the result. A second create for the same pod_uid, name and attempt
     * must return the first one's id: the node may have lost its memory of it. */
    int (*container_create)(void *user, uint64_t op, const struct ke_container_config *c);
    int (*container_start)(void *user, uint64_t op, const char *id);
    /* Asks it to end, kills it after grace_ms. Complete once it has ended, or was never there. */
    int (*container_stop)(void *user, uint64_t op, const char *id, int64_t grace_ms);
    /* Optional. Forgets an ended container. */
    int (*container_remove)(void *user, uint64_t op, const char *id);
    /* Optional. All containers of this node, ended ones too. Without it nothing is taken back after
     * a restart of the node. */
    int (*container_list)(void *user, uint64_t op);
    /* Optional: pods get a sandbox before their containers. */
    int (*sandbox_run)(void *user, uint64_t op, const struct ke_sandbox_config *c);
    int (*sandbox_stop)(void *user, uint64_t op, const char *id);
    int (*sandbox_remove)(void *user, uint64_t op, const char *id);
    /* Optional: images are pulled before their containers are created. policy is
     * imagePullPolicy: "Always", "IfNotPresent", "Never". */
    int (*image_pull)(void *user, uint64_t op, const char *image, const char *policy,
                      const char *pod_json, size_t pod_json_len);
};

/*
 * Ends operation op. status 0 or KE_E*; r may be NULL. KE_ENOTFOUND for an op that is over (late,
 * or completed before). Any thread.
 */
KE_API KE_NODISCARD int ke_runtime_complete(struct ke_runtime *rt, uint64_t op, int status,
                                            const struct ke_runtime_result *r);
/* A container changed by itself (ended, started elsewhere). Repeats are harmless. Any thread. */
KE_API KE_NODISCARD int ke_runtime_event(struct ke_runtime *rt, const struct ke_container_info *c);

#ifdef __cplusplus
}
#endif
#endif
