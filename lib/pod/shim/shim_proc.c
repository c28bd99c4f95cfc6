/* SPDX-License-Identifier: Apache-2.0 */
/* Processes, clocks and state files of ke-shim. No heap; one thread. */
#include "shim_proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proc_id.h"
#include "shim.h"

static int64_t clock_ms(clockid_t c)
{
    struct timespec t;
    clock_gettime(c, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t shim_mono_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

int64_t shim_real_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

void shim_close_from(int fd)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)fd, ~0u, 0u) == 0)
        return;
#endif
    long max = sysconf(_SC_OPEN_MAX);
    for (int i = fd; i < (max > 0 ? max : 65536); i++)
        close(i);
}

uint64_t shim_start_time(pid_t p)
{
    pid_t parent;
    uint64_t start = 0;
    return kei_proc_stat(p, &parent, &start) ? start : 0;
}

static void kill_round(pid_t self)
{
    DIR *d = opendir("/proc");
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t parent = 0, p = (pid_t)strtol(e->d_name, NULL, 10);
        uint64_t start;
        if (p > 1 && kei_proc_stat(p, &parent, &start) && parent == self)
            kill(p, SIGKILL); /* ours and not reaped: the number cannot be another's */
    }
    closedir(d);
}

void shim_kill_children(void)
{
    pid_t self = getpid();
    for (int i = 0; i < 500; i++) {
        pid_t r;
        while ((r = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (r < 0 && errno == ECHILD)
            return;
        kill_round(self);
        poll(NULL, 0, i < 20 ? 1 : 20);
    }
}

static bool write_all(int fd, const char *p, size_t n)
{
    return pwrite(fd, p, n, 0) == (ssize_t)n && fsync(fd) == 0;
}

static void sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

bool shim_pid_write(pid_t shim, pid_t child, int64_t started_ms)
{
    char text[KE_SHIM_STATE_MAX], boot[KEI_BOOT_ID_MAX];
    kei_proc_boot(boot);
    int n =
        snprintf(text, sizeof text,
                 "shim=%d\nshimstart=%llu\nchild=%d\nchildstart=%llu\nboot=%s\nstarted=%lld\nend\n",
                 (int)shim, (unsigned long long)shim_start_time(shim), (int)child,
                 (unsigned long long)shim_start_time(child), boot, (long long)started_ms);
    int fd = open(KE_SHIM_PID ".tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool ok = pwrite(fd, text, (size_t)n, 0) == n;
    close(fd);
    return ok && rename(KE_SHIM_PID ".tmp", KE_SHIM_PID) == 0;
}

bool shim_exit_reserve(void)
{
    char blank[KE_SHIM_STATE_MAX];
    memset(blank, '\n', sizeof blank);
    int fd = open(KE_SHIM_EXIT_TMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool ok = pwrite(fd, blank, sizeof blank, 0) == (ssize_t)sizeof blank;
    close(fd);
    return ok;
}

void shim_exit_write(int code, int sig, int64_t started_ms, int64_t finished_ms, const char *reason,
                     const char *message)
{
    char text[KE_SHIM_STATE_MAX], clean[300];
    size_t k = 0;
    for (; message[k] && k < sizeof clean - 1; k++)
        clean[k] = (unsigned char)message[k] < ' ' ? ' ' : message[k];
    clean[k] = '\0';
    memset(text, '\n', sizeof text);
    int n =
        snprintf(text, sizeof text,
                 "code=%d\nsignal=%d\nstarted=%lld\nfinished=%lld\nreason=%s\nmessage=%s\nend\n",
                 code, sig, (long long)started_ms, (long long)finished_ms, reason, clean);
    if (n < (int)sizeof text)
        text[n] = '\n';
    for (int i = 0; i < 600; i++) {
        int fd = open(KE_SHIM_EXIT_TMP, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 && errno == ENOENT)
            return; /* the folder is gone: nobody will ask */
        bool ok = fd >= 0 && write_all(fd, text, sizeof text);
        if (fd >= 0)
            close(fd);
        if (ok && rename(KE_SHIM_EXIT_TMP, KE_SHIM_EXIT) == 0) {
            sync_folder(".");
            return;
        }
        poll(NULL, 0, 1000); /* the disk may get well; until then the lock says: not over */
    }
}

void shim_sync_files(void)
{
    int fd = open(KE_SHIM_CONFIG, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    sync_folder(".");
    sync_folder("..");
}
