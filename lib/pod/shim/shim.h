/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ke-shim and the process runtime share: the files of one container's folder, DATA/run/ID.
 *
 * config  written by the node before the shim starts: records "key=value", each ended by a NUL
 * byte: exec (file to run), arg (argv, repeated), env (repeated), log, logmax, cwd, setuid, setgid,
 *         group (repeated), mount (flags, then src, then dst), private; last end=1. Others are the
 *         node's own and skipped.
 * lock    an fcntl lock held by the shim while it lives: tells that it is alive, and its pid
 * pid     written once before the command runs; its presence means: this container had its one run
 * exit    how the command ended; written and synced before the shim goes
 * ctl     a FIFO: "stop MS\n" ends the command, killing it after MS milliseconds
 * mnt     an empty folder to build mounts on
 */
#ifndef KE_SHIM_H
#define KE_SHIM_H

#include <stddef.h>

#define KE_SHIM_CONFIG "config"
#define KE_SHIM_LOCK "lock"
#define KE_SHIM_PID "pid"
#define KE_SHIM_EXIT "exit"
#define KE_SHIM_EXIT_TMP "exit.tmp"
#define KE_SHIM_CTL "ctl"
#define KE_SHIM_MNT "mnt"

#define KE_SHIM_CONFIG_MAX (4u << 20)
#define KE_SHIM_STATE_MAX 512 /* bytes of pid and exit */
/* Where the shim says, in one line: "ok ", "busy " (has or had its run) or "error TEXT". */
#define KE_SHIM_STATUS_FD 3

struct shim_mount {
    const char *flags; /* r: read-only, d: device nodes may be used, h: src is a place of the host,
                        * links resolved: it is not opened if one is on the way now */
    const char *src;
    const char *dst;
    int fd; /* the shim's: O_PATH of src */
};

/*
 * Enters a mount namespace and puts the mounts where they belong, making nothing on the host's file
 * systems: a missing mount point is made in a tmpfs that mirrors the folder it is missing in.
 * 0, or -1 with text in err.
 */
int shim_mounts(struct shim_mount *m, size_t n, const char *stage, char *err, size_t err_n);

#endif
