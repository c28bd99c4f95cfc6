/* SPDX-License-Identifier: Apache-2.0 */
/* Reads /proc: who a process is, and which boot this is. No heap; any thread. */
#include "proc_id.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* False if there is nothing in it. */
static bool read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool kei_proc_stat(pid_t p, pid_t *ret_parent, uint64_t *ret_start)
{
    char path[40], buf[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)p);
    char *s = read_text(path, buf, sizeof buf) ? strrchr(buf, ')') : NULL;
    if (!s) /* the name, which ends there, may hold anything */
        return false;
    s++;
    for (int field = 3; field <= 22; field++) { /* 4 is the parent, 22 the start time */
        s += strspn(s, " ");
        if (!*s)
            return false;
        if (field == 4)
            *ret_parent = (pid_t)strtol(s, NULL, 10);
        if (field == 22)
            *ret_start = strtoull(s, NULL, 10);
        s += strcspn(s, " ");
    }
    return true;
}

void kei_proc_boot(char out[KEI_BOOT_ID_MAX])
{
    if (!read_text("/proc/sys/kernel/random/boot_id", out, KEI_BOOT_ID_MAX))
        return;
    out[strcspn(out, "\n")] = '\0';
}
