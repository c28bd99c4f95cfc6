/* SPDX-License-Identifier: Apache-2.0 */
/* What names a process for ever: its number, when it started, and the boot. Of ke-shim, which
 * writes it, and of the runtime, which reads it. No heap; any thread. */
#ifndef KEI_POD_SHIM_PROC_ID_H
#define KEI_POD_SHIM_PROC_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEI_BOOT_ID_MAX 48u

/* ret_start: clock ticks since boot. False: there is no such process, or /proc does not tell. */
bool kei_proc_stat(pid_t p, pid_t *ret_parent, uint64_t *ret_start);
/* "" if it is not known. Start times count from the boot. */
void kei_proc_boot(char out[KEI_BOOT_ID_MAX]);

#endif
