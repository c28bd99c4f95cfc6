/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ke-shim FOLDER: runs the one command of a process container and outlives the node. It keeps the
 * command's output as a log in CRI format, ends it when asked, and leaves behind how it ended.
 * One thread, no library but libc, no heap but the configuration. The files of FOLDER: shim.h.
 *
 * When the command's first process ends, everything it left running is killed. When the shim itself
 * is killed, the kernel kills the first process.
 */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shim_log.h"
#include "shim_proc.h"

#define GROUPS_MAX 64
#define TERM_GRACE_MS 5000 /* when the shim itself is asked to end */

struct shim {
    char *config; /* its text; the strings below point into it */
    const char *exec, *log, *cwd;
    char **argv, **env;
    struct shim_mount *mounts;
    size_t n_argv, n_env, n_mounts, n_groups;
    gid_t groups[GROUPS_MAX];
    int64_t setuid, setgid, log_max;
    bool private_mounts, complete;
    int lock, ctl, sig;
    int out[2], err[2], say[2], go[2]; /* pipes: [0] the shim's end, but of go [1] */
    pid_t child;
    bool reaped, stopping;
    int status;
    int64_t kill_at; /* monotonic ms, 0: no */
    int64_t started; /* Unix ms */
};

/* The one line the node waits for. */
static void tell(const char *word, const char *text)
{
    char line[600];
    int n = snprintf(line, sizeof line, "%s %s\n", word, text);
    if (n > (int)sizeof line - 1)
        n = (int)sizeof line - 1;
    ssize_t r = write(KE_SHIM_STATUS_FD, line, (size_t)n); /* the node may be gone */
    (void)r;
    close(KE_SHIM_STATUS_FD);
}

static void tell_errno(const char *what)
{
    char text[300];
    snprintf(text, sizeof text, "%s: %m", what);
    tell("error", text);
}

static int config_count(const char *p, size_t n, const char *key)
{
    int found = 0;
    size_t k = strlen(key);
    for (const char *s = p; s < p + n; s += strlen(s) + 1)
        found += !strncmp(s, key, k) && s[k] == '=';
    return found;
}

static void config_set(struct shim *s, const char *key, char *v)
{
    struct shim_mount *m = s->n_mounts ? &s->mounts[s->n_mounts - 1] : NULL;
    if (!strcmp(key, "exec"))
        s->exec = v;
    else if (!strcmp(key, "arg"))
        s->argv[s->n_argv++] = v;
    else if (!strcmp(key, "env"))
        s->env[s->n_env++] = v;
    else if (!strcmp(key, "log"))
        s->log = v;
    else if (!strcmp(key, "logmax"))
        s->log_max = strtoll(v, NULL, 10);
    else if (!strcmp(key, "cwd"))
        s->cwd = v;
    else if (!strcmp(key, "setuid"))
        s->setuid = strtoll(v, NULL, 10);
    else if (!strcmp(key, "setgid"))
        s->setgid = strtoll(v, NULL, 10);
    else if (!strcmp(key, "group") && s->n_groups < GROUPS_MAX)
        s->groups[s->n_groups++] = (gid_t)strtoll(v, NULL, 10);
    else if (!strcmp(key, "private"))
        s->private_mounts = true;
    else if (!strcmp(key, "mount"))
        s->mounts[s->n_mounts++] = (struct shim_mount){v, "", "", -1};
    else if (!strcmp(key, "src") && m)
        m->src = v;
    else if (!strcmp(key, "dst") && m)
        m->dst = v;
    else if (!strcmp(key, "end"))
        s->complete = true;
}

/* Reads and splits the configuration; it is kept for the life of the shim. */
static bool config_read(struct shim *s)
{
    struct stat st;
    int fd = open(KE_SHIM_CONFIG, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)KE_SHIM_CONFIG_MAX)
        return false;
    size_t n = (size_t)st.st_size;
    char *p = s->config = malloc(n + 1);
    if (!p || read(fd, p, n) != (ssize_t)n)
        return false;
    close(fd);
    p[n] = '\0';
    s->argv = calloc((size_t)config_count(p, n, "arg") + 1, sizeof *s->argv);
    s->env = calloc((size_t)config_count(p, n, "env") + 1, sizeof *s->env);
    s->mounts = calloc((size_t)config_count(p, n, "mount") + 1, sizeof *s->mounts);
    if (!s->argv || !s->env || !s->mounts)
        return false;
    for (char *q = p; q < p + n;) {
        size_t len = strlen(q);
        char *eq = strchr(q, '=');
        if (eq) {
            *eq = '\0';
            config_set(s, q, eq + 1);
        }
        q += len + 1;
    }
    return s->complete && s->exec && s->n_argv > 0 && s->log && s->cwd;
}

/* In the child: says why it could not become the command, and ends. */
static void child_fail(const struct shim *s, const char *what, const char *name)
{
    char text[400];
    int n = snprintf(text, sizeof text, "%s %s: %m", what, name);
    ssize_t r = write(s->say[1], text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
    (void)r;
    _exit(127);
}

static void child_user(const struct shim *s)
{
    if (s->setgid >= 0 && (setgroups(s->n_groups, s->groups) < 0 || setgid((gid_t)s->setgid) < 0))
        child_fail(s, "could not take the group for", s->exec);
    if (s->setuid >= 0 && setuid((uid_t)s->setuid) < 0)
        child_fail(s, "could not become the user for", s->exec);
    if (s->setuid > 0 && setuid(0) == 0) {
        errno = EPERM;
        child_fail(s, "could give up root only for a moment:", s->exec);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fail(s, "could not forbid new privileges to", s->exec);
}

static void child_run(struct shim *s, pid_t shim)
{
    char text[300], byte;
    sigset_t none;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(s->go[1]); /* so that the end of the shim can be read below */
    close(s->say[0]);
    setsid();
    for (int i = 1; i < 65; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (read(s->go[0], &byte, 1) != 1)
        _exit(127); /* the shim is gone */
    umask(022);
    if (s->private_mounts &&
        shim_mounts(s->mounts, s->n_mounts, KE_SHIM_MNT, text, sizeof text) < 0) {
        ssize_t r = write(s->say[1], text, strlen(text));
        (void)r;
        _exit(127);
    }
    child_user(s);
    if (chdir(s->cwd) < 0)
        child_fail(s, "could not enter the working folder", s->cwd);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != shim)
        _exit(127);
    if (dup2(null, 0) < 0 || dup2(s->out[1], 1) < 0 || dup2(s->err[1], 2) < 0)
        child_fail(s, "could not connect the output of", s->exec);
    execve(s->exec, s->argv, s->env);
    child_fail(s, "could not run", s->exec);
}

/* Takes the lock and makes what is needed; false after telling why not. */
static bool prepare(struct shim *s)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    s->lock = open(KE_SHIM_LOCK, O_RDWR | O_CLOEXEC);
    if (s->lock < 0 || fcntl(s->lock, F_SETLK, &l) < 0 || access(KE_SHIM_PID, F_OK) == 0) {
        tell("busy", "");
        return false;
    }
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    s->sig = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (mkfifo(KE_SHIM_CTL, 0600) < 0 && errno != EEXIST)
        s->ctl = -1;
    else /* also a writer itself, so that it never sees the end */
        s->ctl = open(KE_SHIM_CTL, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (!config_read(s)) {
        tell("error", "the container's configuration is missing or damaged");
        return false;
    }
    if (s->sig < 0 || s->ctl < 0 || !shim_exit_reserve() || pipe2(s->out, O_CLOEXEC) < 0 ||
        pipe2(s->err, O_CLOEXEC) < 0 || pipe2(s->say, O_CLOEXEC) < 0 ||
        pipe2(s->go, O_CLOEXEC) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
        tell_errno("could not set up the container");
        return false;
    }
    fcntl(s->out[0], F_SETFL, O_NONBLOCK);
    fcntl(s->err[0], F_SETFL, O_NONBLOCK);
    return true;
}

/* Starts the command; false after telling why not, with the end written. */
static bool start(struct shim *s)
{
    char text[400];
    pid_t self = getpid();
    s->started = shim_real_ms();
    s->child = fork();
    if (s->child == 0)
        child_run(s, self);
    close(s->out[1]);
    close(s->err[1]);
    close(s->say[1]);
    close(s->go[0]);
    if (s->child < 0) {
        snprintf(text, sizeof text, "could not start a process: %m");
    } else if (!shim_pid_write(self, s->child, s->started)) {
        snprintf(text, sizeof text, "could not write the state file: %m");
        kill(s->child, SIGKILL);
    } else {
        ssize_t r = write(s->go[1], "g", 1);
        (void)r;
        ssize_t n = read(s->say[0], text, sizeof text - 1); /* ends when the command has begun */
        text[n > 0 ? n : 0] = '\0';
        if (n <= 0) {
            close(s->say[0]);
            close(s->go[1]);
            return true;
        }
    }
    if (s->child > 0)
        waitpid(s->child, NULL, 0);
    shim_exit_write(128, 0, 0, shim_real_ms(), "StartError", text);
    tell("error", text);
    return false;
}

static void stop(struct shim *s, int64_t grace_ms)
{
    int64_t at = shim_mono_ms() + (grace_ms > 0 ? grace_ms : 0);
    if (!s->stopping && grace_ms > 0 && !s->reaped)
        kill(-s->child, SIGTERM);
    if (!s->stopping || at < s->kill_at)
        s->kill_at = at;
    s->stopping = true;
}

static void on_ctl(struct shim *s)
{
    char line[64];
    ssize_t n = read(s->ctl, line, sizeof line - 1);
    if (n <= 0)
        return;
    line[n] = '\0';
    /* several commands may have gathered: the last one counts */
    for (char *p = line; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (!strncmp(p, "stop ", 5))
            stop(s, strtoll(p + 5, NULL, 10));
}

static void on_signal(struct shim *s)
{
    struct signalfd_siginfo i;
    while (read(s->sig, &i, sizeof i) == (ssize_t)sizeof i)
        if (i.ssi_signo == SIGTERM)
            stop(s, TERM_GRACE_MS);
    for (;;) {
        int status;
        pid_t p = waitpid(-1, &status, WNOHANG);
        if (p <= 0)
            return;
        if (p == s->child) {
            s->reaped = true;
            s->status = status;
        }
    }
}

/* Runs until the command has ended. */
static void supervise(struct shim *s, struct shim_log *log)
{
    while (!s->reaped) {
        struct pollfd f[4] = {
            {s->sig, POLLIN, 0},
            {s->ctl, POLLIN, 0},
            {log->out.fd, POLLIN, 0}, /* -1 once ended: skipped by poll */
            {log->err.fd, POLLIN, 0},
        };
        int64_t wait = s->kill_at ? s->kill_at - shim_mono_ms() : -1;
        if (s->kill_at && wait <= 0) {
            kill(-s->child, SIGKILL); /* not reaped yet, so the number is still its own */
            s->kill_at = shim_mono_ms() + 1000;
            continue;
        }
        if (poll(f, 4, wait > 60000 ? 60000 : (int)wait) < 0 && errno != EINTR)
            break;
        if (f[1].revents)
            on_ctl(s);
        if (f[2].revents)
            shim_log_read(log, &log->out);
        if (f[3].revents)
            shim_log_read(log, &log->err);
        if (f[0].revents)
            on_signal(s);
    }
}

static int run(struct shim *s)
{
    static struct shim_log log; /* large: two line buffers */
    if (!start(s))
        return 1;
    tell("ok", "");
    shim_sync_files();
    log.path = s->log;
    log.max = s->log_max;
    shim_log_init(&log, s->out[0], s->err[0]);
    supervise(s, &log);
    int64_t finished = shim_real_ms();
    shim_kill_children();
    shim_log_read(&log, &log.out);
    shim_log_read(&log, &log.err);
    shim_log_end(&log);
    bool killed = WIFSIGNALED(s->status);
    int code = killed ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status);
    shim_exit_write(code, killed ? WTERMSIG(s->status) : 0, s->started, finished,
                    code == 0 ? "Completed" : "Error", "");
    return 0;
}

int main(int argc, char **argv)
{
    static struct shim s = {.setuid = -1, .setgid = -1, .lock = -1}; /* for its whole life */
    if (argc != 2 || chdir(argv[1]) < 0) {
        tell_errno("could not enter the container's folder");
        return 2;
    }
    /* away from the node: it must not have to wait for the shim, nor share its terminal */
    pid_t p = fork();
    if (p != 0)
        return p < 0;
    setsid();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* ignored by the host perhaps, which would lose exit codes */
    fcntl(KE_SHIM_STATUS_FD, F_SETFD, FD_CLOEXEC);
    shim_close_from(KE_SHIM_STATUS_FD + 1);
    umask(077);
    if (!prepare(&s))
        return 1;
    return run(&s);
}
