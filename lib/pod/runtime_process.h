/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The built-in runtime "process": a container is one command of the host, supervised by a ke-shim
 * of its own, so that it outlives the node and its exit code is not lost. It shares the host's
 * network and root; image is not fetched. Only what the host allows is run. All calls: loop.
 *
 * DATA/run/ID, with ID = UID_NAME_ATTEMPT of pod and container, holds one container's files
 * (shim/shim.h). They are the operating system's, not the context's file table's: the shim is
 * another process. A folder has at most one run in its life, which the shim's lock guarantees.
 *
 * With CAP_SYS_ADMIN volumes are bind-mounted where the container expects them, in a mount
 * namespace of its own. Without it they are not, and the container finds each by the variable
 * KE_VOLUME_NAME (name in upper case, '-' as '_'), which is always set. Limits of memory and CPU
 * are not enforced.
 */
#ifndef KEI_POD_RUNTIME_PROCESS_H
#define KEI_POD_RUNTIME_PROCESS_H

#include <stdbool.h>

#include <kubeedge/runtime.h>

struct kei_process;

/* Copied. */
struct kei_process_config {
    const char *data; /* folder of the node */
    /* What may be run: absolute files, or folders ending in '/' with all below. None by default. */
    const char *const *allow;
    uint32_t n_allow;
    const char *user; /* name or number of the user; NULL: the node's own */
    const char *shim; /* NULL: the installed one */
};

/* KE_EINVAL (an entry that is no absolute path, an unknown user), KE_EACCES (not root), KE_ENOMEM.
 */
int kei_process_new(struct kei_process **ret, struct ke_ctx *ctx,
                    const struct kei_process_config *c);
/* The table to give to kei_runtime_new, with p as its user. */
const struct ke_runtime_ops *kei_process_ops(void);
void kei_process_free(struct kei_process *p); /* after the table was detached; NULL is fine */

#endif
