/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the process runtime: the runtime itself and its jobs. */
#ifndef KEI_POD_RUNTIME_PROCESS_PRIV_H
#define KEI_POD_RUNTIME_PROCESS_PRIV_H

#include <limits.h>

#include "base/list.h"
#include "base/loop.h"
#include "pod/runtime_process.h"
#include "pod/runtime_process_disk.h"

#define KEI_PROC_GROUPS_MAX 64
#define KEI_PROC_SAID_MAX 640u /* a shim's line */

struct kei_process {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_runtime *rt; /* NULL once detached */
    uint32_t refs;         /* the owner's, and one per job */
    char run[PATH_MAX], shim[PATH_MAX];
    char **allow;
    uint32_t n_allow;
    int64_t uid, gid;
    gid_t groups[KEI_PROC_GROUPS_MAX];
    int n_groups;
    bool can_mount, can_set_user, told_image, told_mounts;
    struct kei_link procs;
    struct kei_link creates; /* jobs that wait, see kei_proc_op_create */
    uint32_t creating;       /* jobs at the disk worker */
};

/*
 * A piece of work for the disk worker and what comes of it. It owns copies of what it needs and a
 * reference to the runtime, so it may outlive the table's detach.
 */
struct kei_proc_job {
    struct kei_work work;
    struct kei_link link; /* in creates */
    struct kei_process *p;
    uint64_t op;
    int status;
    const char *reason;
    struct ke_error err;
    struct kei_arena arena;
    char id[KEI_PROC_ID_MAX];
    const char *folder, *command, *log_path; /* in the arena: many jobs may wait at once */
    struct ke_buf config;
    int64_t grace_ms;
    int fd;                      /* start: what the shim says */
    struct kei_proc_first first; /* start: reaped later: starts need not wait for one another */
    struct kei_proc_state *look; /* start, ended: one; list: n of them */
    size_t n, cap;
    /* start */
    struct kei_fd in;
    char *said; /* KEI_PROC_SAID_MAX, in the arena */
    size_t n_said;
    int tries;
};

#define KEI_PROC_JOB(w) KEI_OF(w, struct kei_proc_job, work)

/* NULL: memory is short, or id does not fit. */
struct kei_proc_job *kei_proc_job_new(struct kei_process *p, uint64_t op, const char *id);
void kei_proc_job_free(struct kei_proc_job *j);
/* The job is gone if this fails. */
int kei_proc_job_submit(struct kei_proc_job *j, kei_work_fn run, kei_work_fn done);
/* Ends its operation, then frees it. */
void kei_proc_job_end(struct kei_proc_job *j, int status, const char *id);
/* Ends operation op (0: none). */
void kei_proc_complete(struct kei_process *p, uint64_t op, int status, const char *reason,
                       const char *text, const char *id);
void kei_process_unref(struct kei_process *p);

/* runtime_process_create.c: the table's container_create */
int kei_proc_op_create(void *user, uint64_t op, const struct ke_container_config *c);

#endif
