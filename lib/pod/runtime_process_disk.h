/* SPDX-License-Identifier: Apache-2.0 */
/* The process runtime's part on the disk worker: folders, allow list, starting a shim. */
#ifndef KEI_POD_RUNTIME_PROCESS_DISK_H
#define KEI_POD_RUNTIME_PROCESS_DISK_H

#include <sys/types.h>

#include <kubeedge/runtime.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#define KEI_PROC_ID_MAX 160

/* How one container's folder looks. */
struct kei_proc_state {
    struct ke_container_info info; /* strings in the arena */
    int pidfd;                     /* of the shim, -1 if it does not live or was not asked for */
};

/*
 * Makes folder with its configuration. One that is there already stays as it is (0), unless it was
 * left half made: then it is made again.
 */
int kei_proc_create(const char *run, const char *id, struct ke_str config, const char *log_path,
                    struct ke_error *err);
/*
 * Starts a shim on folder. *ret_fd is readable when it has told how it went. *ret_first is a child
 * that forks the shim and goes at once; it is to be reaped, best when the shim has spoken.
 */
struct kei_proc_first {
    pid_t pid;
    int pidfd; /* -1: could not be had */
};
#define KEI_PROC_NO_FIRST ((struct kei_proc_first){0, -1})
int kei_proc_spawn(const char *shim, const char *folder, int *ret_fd,
                   struct kei_proc_first *ret_first, struct ke_error *err);
/* Takes its status, unless the host did, and sets *first to none, which is fine too. */
void kei_proc_reap(struct kei_proc_first *first);
/*
 * Reads folder's state. pidfd: open one of the shim if it lives. KE_ENOTFOUND if there is no
 * folder; KE_EPARSE if it was left half made and nothing lives in it.
 */
int kei_proc_look(struct kei_proc_state *st, const char *folder, bool pidfd, struct kei_arena *a,
                  struct ke_error *err);
/* Tells the shim to end its command. KE_EAGAIN: it lives but does not listen yet. KE_ENOTFOUND. */
int kei_proc_stop(const char *folder, int64_t grace_ms, struct ke_error *err);
/* Removes folder; KE_EBUSY while its shim lives. A missing one is no error. */
int kei_proc_remove(const char *folder, struct ke_error *err);
/* Calls each for the names in run; a missing run has none. */
int kei_proc_list(const char *run, int (*each)(void *arg, const char *id), void *arg,
                  struct ke_error *err);
/*
 * The file to run for command, resolved, in out. KE_EACCES if no entry of allow covers it,
 * KE_ENOTFOUND if there is no such file.
 */
int kei_proc_allowed(char *out, size_t n, const char *command, const char *const *allow,
                     uint32_t n_allow, struct ke_error *err);

#endif
