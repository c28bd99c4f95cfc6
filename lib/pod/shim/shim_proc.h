/* SPDX-License-Identifier: Apache-2.0 */
/* Processes, clocks and state files. Part of ke-shim. */
#ifndef KE_SHIM_PROC_H
#define KE_SHIM_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

int64_t shim_mono_ms(void);
int64_t shim_real_ms(void);
void shim_close_from(int fd); /* closes it and all above */
/* Time a process started, in clock ticks since boot; with its pid it names it for ever. 0: unknown
 */
uint64_t shim_start_time(pid_t p);
/* Kills all children, and theirs as they become ours, until none is left. */
void shim_kill_children(void);
bool shim_pid_write(pid_t shim, pid_t child, int64_t started_ms);
/* Takes the room of the exit file in advance, so that a full disk cannot lose it. */
bool shim_exit_reserve(void);
void shim_exit_write(int code, int sig, int64_t started_ms, int64_t finished_ms, const char *reason,
                     const char *message);
/* Makes the folder and what the node wrote to it durable. */
void shim_sync_files(void);

#endif
