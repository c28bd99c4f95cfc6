/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of processes by pidfd: needs no SIGCHLD, so it works whatever the host does with that
 * signal, and never reaps a process that was not named. Memory is the user's. Loop's thread.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ctx_priv.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same on every architecture */
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static void let_go(struct kei_child *c)
{
    kei_timer_fini(&c->gone);
    kei_fd_remove(&c->fd);
    if (c->pidfd >= 0)
        close(c->pidfd);
    c->pidfd = -1;
    c->pid = 0;
}

static void on_pidfd(struct kei_fd *f, uint32_t events)
{
    (void)events;
    struct kei_child *c = KEI_OF(f, struct kei_child, fd);
    siginfo_t si = {0};
    int r;
    do {
        r = waitid((idtype_t)P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG);
    } while (r < 0 && errno == EINTR);
    if (r == 0 && si.si_pid == 0)
        return; /* still runs */
    let_go(c);
    /* ECHILD: somebody else's child, or the host took the status, or ignores SIGCHLD */
    if (r == 0)
        c->fn(c, 1, si.si_code, si.si_status);
    else
        c->fn(c, 0, 0, 0);
}

static void on_gone(struct kei_timer *t)
{
    struct kei_child *c = KEI_OF(t, struct kei_child, gone);
    let_go(c);
    c->fn(c, 0, 0, 0);
}

int kei_child_watch(struct ke_ctx *ctx, struct kei_child *c, pid_t pid, kei_child_fn fn)
{
    if (pid <= 0)
        return kei_fail(ctx, KE_EINVAL, "process id %ld cannot be watched", (long)pid);
    int fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
    if (fd < 0 && errno == ENOSYS)
        return kei_fail(ctx, KE_ENOTSUP,
                        "process %ld cannot be watched: the kernel has no pidfd_open, Linux 5.4 "
                        "or newer is needed",
                        (long)pid);
    if (fd < 0 && errno != ESRCH)
        return kei_error_errno(kei_err(ctx), errno, "could not watch process %ld", (long)pid);
    c->fn = fn;
    c->pid = pid;
    c->pidfd = fd;
    kei_timer_init(ctx, &c->gone, on_gone);
    if (fd < 0) {
        /* Gone and reaped already, as happens at once when the host ignores SIGCHLD. */
        return kei_timer_in(&c->gone, 0);
    }
    int r = kei_fd_add(ctx, &c->fd, fd, KEI_IN, on_pidfd);
    if (r < 0)
        let_go(c);
    return r;
}

void kei_child_forget(struct kei_child *c)
{
    if (c->pid > 0)
        let_go(c);
}
