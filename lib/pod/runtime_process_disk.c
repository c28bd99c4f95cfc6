/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders of process containers, which programs may run, and starting a shim. Disk worker, which is
 * also what makes the fcntl locks below safe: no two threads of this process touch one lock file.
 */
#include "pod/runtime_process_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "pod/shim/proc_id.h"
#include "pod/shim/shim.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define REAP_WAIT_MS 1000 /* for what is to end at once */

static int sys_error(struct ke_error *err, const char *what, const char *path)
{
    return kei_error_errno(err, errno, "could not %s %s", what, path);
}

/* ---- small files ---- */

/* The whole file, NUL-terminated, in the arena. */
static char *read_small(const char *folder, const char *name, size_t max, size_t *ret_n,
                        struct kei_arena *a)
{
    char path[PATH_MAX];
    struct stat st;
    char *p = NULL;
    if (!kei_path_join(path, sizeof path, folder, name))
        return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= 0 && (size_t)st.st_size <= max)
        p = kei_arena_alloc(a, (size_t)st.st_size + 1);
    if (p && read(fd, p, (size_t)st.st_size) != (ssize_t)st.st_size)
        p = NULL;
    close(fd);
    if (p && ret_n)
        *ret_n = (size_t)st.st_size;
    return p;
}

/* Value of "key=" at the start of a line (sep '\n') or record (sep '\0'); NUL-terminated in place.
 */
static char *value_of(char *text, size_t n, const char *key, char sep)
{
    size_t k = strlen(key);
    for (char *p = text; p < text + n;) {
        char *end = memchr(p, sep, (size_t)(text + n - p));
        if (!end)
            end = text + n; /* the terminating NUL */
        if ((size_t)(end - p) > k && !strncmp(p, key, k) && p[k] == '=') {
            *end = '\0';
            return p + k + 1;
        }
        p = end + 1;
    }
    return NULL;
}

static int64_t number_of(const char *s)
{
    int64_t n = 0;
    return s && kei_str_i64(kei_str(s), &n) ? n : 0;
}

/* A state file of the shim that is whole: its last line is "end". */
static char *read_state(const char *folder, const char *name, size_t *ret_n, struct kei_arena *a)
{
    char *p = read_small(folder, name, KE_SHIM_STATE_MAX, ret_n, a);
    return p && strstr(p, "\nend\n") ? p : NULL;
}

/* ---- the lock ---- */

/* Pid of the process that holds the lock of folder: 0 nobody, -1 not known. */
static pid_t lock_holder(const char *folder)
{
    char path[PATH_MAX];
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!kei_path_join(path, sizeof path, folder, KE_SHIM_LOCK))
        return -1;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    pid_t p = -1; /* also for a holder of another pid namespace */
    if (fcntl(fd, F_GETLK, &l) == 0)
        p = l.l_type == F_UNLCK ? 0 : l.l_pid > 0 ? l.l_pid : -1;
    close(fd);
    return p;
}

/* The pid may be another's by the time it is opened; it is not if the lock is held after it too. */
static int open_shim(const char *folder, pid_t shim)
{
    if (shim <= 0)
        return -1;
    int fd = (int)syscall(SYS_pidfd_open, shim, 0);
    if (fd >= 0 && lock_holder(folder) != shim) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* ---- leftovers of a shim that was killed ---- */

static bool same_boot(const char *boot)
{
    char now[KEI_BOOT_ID_MAX];
    kei_proc_boot(now);
    return boot && *now && !strcmp(boot, now);
}

/*
 * The kernel kills a command when its shim dies, but not what the command started. Its group is
 * ended here, if the number still belongs to the process that was started.
 */
static void kill_leftover(const char *folder, struct kei_arena *a)
{
    size_t n = 0;
    char *p = read_state(folder, KE_SHIM_PID, &n, a);
    char *copy = p ? kei_arena_strdup(a, kei_strn(p, n)) : NULL;
    if (!copy || !same_boot(value_of(copy, n, "boot", '\n')))
        return;
    char *start =
        value_of(p, n, "childstart", '\n'); /* the later line first: values end in place */
    pid_t child = (pid_t)number_of(value_of(p, n, "child", '\n'));
    uint64_t want = 0, is = 0;
    pid_t parent;
    if (child <= 1 || !start || !kei_str_u64(kei_str(start), &want) || want == 0)
        return;
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    if (fd < 0)
        return;
    /* looked at after the pidfd was opened: it is that process */
    if (kei_proc_stat(child, &parent, &is) && is == want) {
        kill(-child, SIGKILL);
        syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    }
    close(fd);
}

/* ---- looking ---- */

static void fill_exit(struct ke_container_info *c, char *text, size_t n)
{
    c->state = KE_CONTAINER_EXITED;
    /* from the last line to the first: each value ends its line in place */
    char *message = value_of(text, n, "message", '\n');
    char *reason = value_of(text, n, "reason", '\n');
    c->finished_ms = number_of(value_of(text, n, "finished", '\n'));
    c->started_ms = number_of(value_of(text, n, "started", '\n'));
    c->signal = (int32_t)number_of(value_of(text, n, "signal", '\n'));
    c->exit_code = (int32_t)number_of(value_of(text, n, "code", '\n'));
    c->message = message ? message : "";
    c->reason = reason ? reason : "";
}

static void fill_lost(struct ke_container_info *c, const char *message)
{
    c->state = KE_CONTAINER_EXITED;
    c->exit_code = 137;
    c->reason = "ContainerStatusUnknown";
    c->message = message;
}

static bool fill_config(struct ke_container_info *c, char *p, size_t n)
{
    const char *end = value_of(p, n, "end", '\0');
    if (!end)
        return false;
    const struct {
        const char *key, **to;
    } keys[] = {
        {"id", &c->id},       {"ns", &c->pod_namespace}, {"pod", &c->pod_name},
        {"uid", &c->pod_uid}, {"name", &c->name},        {"image", &c->image},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        *keys[i].to = value_of(p, n, keys[i].key, '\0');
        if (!*keys[i].to)
            return false;
    }
    c->image_id = c->image;
    c->attempt = (uint32_t)number_of(value_of(p, n, "attempt", '\0'));
    c->created_ms = number_of(value_of(p, n, "created", '\0'));
    return true;
}

int kei_proc_look(struct kei_proc_state *st, const char *folder, bool pidfd, struct kei_arena *a,
                  struct ke_error *err)
{
    size_t n = 0, k = 0;
    struct stat dir;
    *st = (struct kei_proc_state){.info = {.size = sizeof st->info, .reason = "", .message = ""},
                                  .pidfd = -1};
    if (lstat(folder, &dir) < 0)
        return sys_error(err, "look at", folder);
    pid_t shim = lock_holder(folder);
    char *config = read_small(folder, KE_SHIM_CONFIG, KE_SHIM_CONFIG_MAX, &n, a);
    if (!config || !fill_config(&st->info, config, n)) {
        if (shim != 0)
            return kei_error(err, KE_EBUSY, "%s is in use but its configuration is damaged",
                             folder);
        return kei_error(err, KE_EPARSE, "%s was left half made", folder);
    }
    char *text = read_state(folder, KE_SHIM_PID, &k, a);
    bool began = text != NULL;
    if (began)
        st->info.started_ms = number_of(value_of(text, k, "started", '\n'));
    text = read_state(folder, KE_SHIM_EXIT, &k, a);
    /*
     * A shim that has written the end but still lives keeps its folder from being removed: the end
     * is not told before it has let go. Not so with one that cannot be watched.
     */
    if (text && shim <= 0) {
        fill_exit(&st->info, text, k);
    } else if (shim != 0) {
        st->info.state = KE_CONTAINER_RUNNING;
        if (pidfd)
            st->pidfd = open_shim(folder, shim);
    } else if (began && (shim = lock_holder(folder)) != 0) {
        st->info.state = KE_CONTAINER_RUNNING; /* it began between the two looks */
        if (pidfd)
            st->pidfd = open_shim(folder, shim);
    } else if (began) {
        /* or ended between them: the end is written before the lock is let go */
        text = read_state(folder, KE_SHIM_EXIT, &k, a);
        if (text) {
            fill_exit(&st->info, text, k);
        } else {
            kill_leftover(folder, a);
            fill_lost(&st->info, "the supervisor of the process was killed, or the machine was "
                                 "restarted; how the process ended is not known");
        }
    } else {
        st->info.state = KE_CONTAINER_CREATED;
    }
    return 0;
}

int kei_proc_list(const char *run, int (*each)(void *arg, const char *id), void *arg,
                  struct ke_error *err)
{
    int r = 0;
    DIR *d = opendir(run);
    if (!d)
        return errno == ENOENT ? 0 : sys_error(err, "read", run);
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        if (e->d_name[0] != '.')
            r = each(arg, e->d_name);
    }
    closedir(d);
    return r;
}

/* ---- making and removing ---- */

static int make_folders(const char *path, size_t n, mode_t mode)
{
    char part[PATH_MAX];
    if (n >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 1; i <= n; i++) {
        if (i < n && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

static int write_new(const char *folder, const char *name, struct ke_str text, struct ke_error *err)
{
    char path[PATH_MAX], tmp[PATH_MAX];
    if (!kei_path_join(path, sizeof path, folder, name) || strlen(path) + 5 > sizeof tmp)
        return kei_error(err, KE_EINVAL, "path too long: %s", folder);
    memcpy(tmp, path, strlen(path));
    memcpy(tmp + strlen(path), ".tmp", 5);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return sys_error(err, "make", tmp);
    for (size_t at = 0; at < text.n;) {
        ssize_t r = write(fd, text.p + at, text.n - at);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0) {
            int e = sys_error(err, "write", tmp);
            close(fd);
            return e;
        }
        at += (size_t)r;
    }
    if (close(fd) < 0 && errno != EINTR)
        return sys_error(err, "write", tmp);
    return rename(tmp, path) < 0 ? sys_error(err, "make", path) : 0;
}

static void remove_files(const char *folder)
{
    static const char *const names[] = {
        KE_SHIM_EXIT,          KE_SHIM_EXIT_TMP,    KE_SHIM_CTL,    KE_SHIM_PID ".tmp",
        KE_SHIM_CONFIG ".tmp", KE_SHIM_LOCK ".tmp", KE_SHIM_CONFIG, KE_SHIM_PID};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (kei_path_join(path, sizeof path, folder, names[i]))
            unlink(path);
    }
    if (kei_path_join(path, sizeof path, folder, KE_SHIM_MNT))
        rmdir(path);
}

int kei_proc_remove(const char *folder, struct ke_error *err)
{
    char path[PATH_MAX];
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (!kei_path_join(path, sizeof path, folder, KE_SHIM_LOCK))
        return kei_error(err, KE_EINVAL, "path too long: %s", folder);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return sys_error(err, "open", path);
    if (fd >= 0 && fcntl(fd, F_SETLK, &l) < 0) {
        close(fd);
        return kei_error(err, KE_EBUSY, "%s is in use by a process that lives", folder);
    }
    /* the lock goes last: a shim that comes late finds it held, or no configuration, or no folder
     */
    remove_files(folder);
    unlink(path);
    if (fd >= 0)
        close(fd);
    return rmdir(folder) < 0 && errno != ENOENT ? sys_error(err, "remove", folder) : 0;
}

int kei_proc_create(const char *run, const char *id, struct ke_str config, const char *log_path,
                    struct ke_error *err)
{
    char folder[PATH_MAX], mnt[PATH_MAX], have[PATH_MAX];
    struct stat st;
    if (!kei_path_join(folder, sizeof folder, run, id) ||
        !kei_path_join(mnt, sizeof mnt, folder, KE_SHIM_MNT) ||
        !kei_path_join(have, sizeof have, folder, KE_SHIM_CONFIG))
        return kei_error(err, KE_EINVAL, "path too long: %s/%s", run, id);
    const char *slash = strrchr(log_path, '/');
    int ignored = slash ? make_folders(log_path, (size_t)(slash - log_path), 0755) : 0;
    (void)ignored; /* a container runs without its log rather than not at all; the shim tries on */
    if (mkdir(run, 0700) < 0 && errno != EEXIST)
        return sys_error(err, "make", run);
    if (stat(have, &st) == 0)
        return 0; /* made before; config comes last and whole */
    if (mkdir(folder, 0700) < 0) {
        if (errno != EEXIST)
            return sys_error(err, "make", folder);
        remove_files(folder); /* half made */
    }
    int r = mkdir(mnt, 0700) < 0 && errno != EEXIST ? sys_error(err, "make", mnt) : 0;
    if (r == 0)
        r = write_new(folder, KE_SHIM_LOCK, kei_strn("", 0), err);
    if (r == 0)
        r = write_new(folder, KE_SHIM_CONFIG, config, err);
    if (r < 0) {
        int e = kei_proc_remove(folder, NULL);
        (void)e;
    }
    return r;
}

/* ---- starting and stopping ---- */

static int spawn(const char *shim, const char *folder, int status_fd, int null_fd, pid_t *ret)
{
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t all, none;
    char name[] = "ke-shim", copy[PATH_MAX], *argv[] = {name, copy, NULL}, *env[] = {NULL};
    kei_path_join(copy, sizeof copy, folder, ""); /* its caller's path, which fits */
    sigfillset(&all);
    sigemptyset(&none);
    int e = posix_spawn_file_actions_init(&fa);
    if (e)
        return e;
    e = posix_spawnattr_init(&at);
    if (!e) {
        posix_spawnattr_setsigdefault(&at, &all);
        posix_spawnattr_setsigmask(&at, &none);
        posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
        for (int i = 0; !e && i < 3; i++)
            e = posix_spawn_file_actions_adddup2(&fa, null_fd, i);
        if (!e)
            e = posix_spawn_file_actions_adddup2(&fa, status_fd, KE_SHIM_STATUS_FD);
        if (!e)
            e = posix_spawn(ret, shim, &fa, &at, argv, env);
        posix_spawnattr_destroy(&at);
    }
    posix_spawn_file_actions_destroy(&fa);
    return e;
}

/* A descriptor above those that the shim gets, so that dup2 always clears its close-on-exec. */
static int move_up(int fd)
{
    int up = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 10) : -1;
    if (fd >= 0)
        close(fd);
    return up;
}

int kei_proc_spawn(const char *shim, const char *folder, int *ret_fd,
                   struct kei_proc_first *ret_first, struct ke_error *err)
{
    int p[2];
    pid_t first = 0;
    if (pipe2(p, O_CLOEXEC) < 0)
        return sys_error(err, "make a pipe for", folder);
    p[1] = move_up(p[1]);
    int null = move_up(open("/dev/null", O_RDWR | O_CLOEXEC));
    int e = p[1] < 0 || null < 0 || fcntl(p[0], F_SETFL, O_NONBLOCK) < 0 ? errno : 0;
    if (!e)
        e = spawn(shim, folder, p[1], null, &first);
    if (p[1] >= 0)
        close(p[1]);
    if (null >= 0)
        close(null);
    if (e) {
        close(p[0]);
        return kei_error_errno(err, e, "could not start %s for %s", shim, folder);
    }
    *ret_fd = p[0];
    /* before it could be reaped by the host and its number used again for another */
    *ret_first = (struct kei_proc_first){first, (int)syscall(SYS_pidfd_open, first, 0)};
    return 0;
}

void kei_proc_reap(struct kei_proc_first *first)
{
    siginfo_t info;
    struct pollfd ended = {.fd = first->pidfd, .events = POLLIN};
    int r = -1;
    if (first->pidfd >= 0) {
        /* the host may have taken its status, which does not matter */
        (void)poll(&ended, 1, REAP_WAIT_MS);
        r = waitid(P_PIDFD, (id_t)first->pidfd, &info, WEXITED | WNOHANG);
        r = r < 0 && errno == EINVAL ? -1 : 0; /* Linux 5.3 has no P_PIDFD */
        close(first->pidfd);
    }
    if (r < 0 && first->pid > 0) /* only the number is known: never wait for who has it */
        (void)waitpid(first->pid, NULL, WNOHANG);
    *first = KEI_PROC_NO_FIRST;
}

int kei_proc_stop(const char *folder, int64_t grace_ms, struct ke_error *err)
{
    char path[PATH_MAX], line[40];
    if (!kei_path_join(path, sizeof path, folder, KE_SHIM_CTL))
        return kei_error(err, KE_EINVAL, "path too long: %s", folder);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        int e = errno;
        if (lock_holder(folder) == 0)
            return kei_error(err, KE_ENOTFOUND, "nothing runs in %s", folder);
        errno = e;
        return e == ENXIO || e == ENOENT
                   ? kei_error(err, KE_EAGAIN, "the shim of %s does not listen yet", folder)
                   : sys_error(err, "open", path);
    }
    int n = snprintf(line, sizeof line, "stop %lld\n", (long long)grace_ms);
    ssize_t r = write(fd, line, (size_t)n); /* a reader is the shim itself: no SIGPIPE, see EPIPE */
    int e = errno;
    close(fd);
    if (r == n)
        return 0;
    return kei_error_errno(err, r < 0 ? e : EIO, "could not tell the shim of %s to stop", folder);
}

/* ---- what may run ---- */

/* Folder of path with links resolved, then its last part: two names for one place are one. */
static bool place_of(char out[PATH_MAX], const char *path)
{
    char folder[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash || !slash[1] || n >= sizeof folder)
        return false;
    memcpy(folder, path, n);
    folder[n] = '\0';
    return realpath(n ? folder : "/", real) && kei_path_join(out, PATH_MAX, real, slash + 1);
}

/*
 * A file of the list allows that name only, not others that lead to the same program: a program
 * with many names (busybox) does what its name says. A folder allows what, links resolved, is in
 * it.
 */
static bool covers(const char *entry, const char *command, const char *real)
{
    char a[PATH_MAX], b[PATH_MAX];
    size_t n = strlen(entry);
    if (n == 1)
        return true; /* "/": anything */
    if (n > 1 && entry[n - 1] == '/') {
        if (!realpath(entry, a) || !place_of(b, command))
            return false;
        n = strlen(a);
        return !strncmp(real, a, n) && real[n] == '/' && !strncmp(b, a, n) && b[n] == '/';
    }
    return place_of(a, entry) && place_of(b, command) && !strcmp(a, b);
}

/*
 * Whether one who asks for command, which cannot be run, may know that it is not there: it is what
 * an entry names, or would be below an entry's folder. Where a link is in between that leads
 * nowhere, or out of the folder, nothing is told.
 */
static bool may_know(const char *entry, const char *command)
{
    char a[PATH_MAX], b[PATH_MAX];
    struct stat st;
    size_t n = strlen(entry), k = strlen(command);
    if (n == 1)
        return true;
    if (entry[n - 1] != '/')
        return !strcmp(entry, command) ||
               (place_of(a, entry) && place_of(b, command) && !strcmp(a, b));
    if (k >= sizeof b || !realpath(entry, a))
        return false;
    memcpy(b, command, k + 1);
    while (lstat(b, &st) < 0) { /* up to what is there */
        char *slash = strrchr(b, '/');
        if ((errno != ENOENT && errno != ENOTDIR) || !slash || slash == b)
            return false;
        *slash = '\0';
    }
    char real[PATH_MAX];
    n = strlen(a);
    return realpath(b, real) && !strncmp(real, a, n) && (real[n] == '/' || real[n] == '\0');
}

static bool search(char out[PATH_MAX], const char *name)
{
    static const char *const folders[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (kei_path_join(out, PATH_MAX, folders[i], name) && access(out, X_OK) == 0)
            return true;
    }
    return false;
}

int kei_proc_allowed(char *out, size_t n, const char *command, const char *const *allow,
                     uint32_t n_allow, struct ke_error *err)
{
    char found[PATH_MAX], real[PATH_MAX];
    struct stat st;
    if (strchr(command, '/') && command[0] != '/')
        return kei_error(err, KE_EACCES, "command %s: give an absolute path", command);
    if (command[0] != '/') {
        if (!search(found, command))
            return kei_error(err, KE_ENOTFOUND, "command %s: there is no such program", command);
        command = found;
    }
    if (!realpath(command, real) || stat(real, &st) < 0 || !S_ISREG(st.st_mode)) {
        /* which files there are is not told about places that are not allowed */
        bool listed = false;
        for (uint32_t i = 0; i < n_allow; i++)
            listed = listed || may_know(allow[i], command);
        if (listed)
            return kei_error(err, KE_ENOTFOUND, "command %s: there is no such program", command);
        return kei_error(err, KE_EACCES, "command %s is not among what this node allows to run",
                         command);
    }
    for (uint32_t i = 0; i < n_allow; i++) {
        if (covers(allow[i], command, real)) {
            kei_path_join(out, n, real, "");
            return 0;
        }
    }
    return kei_error(err, KE_EACCES, "command %s is not among what this node allows to run",
                     command);
}
