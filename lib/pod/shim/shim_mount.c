/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts of a process container. Runs in the child before it gives up its rights; single-threaded.
 *
 * The host's root stays visible, with volumes bound over it. A mount point that does not exist is
 * not made on the host: the deepest folder that does exist is replaced, in this namespace only, by
 * a tmpfs that holds a bind mount of each of its entries, and the mount point is made there. For
 * "/" the tmpfs becomes the root.
 */
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* linux/mount.h cannot be had beside sys/mount.h everywhere */
#define ATTR_RDONLY 1
#define ATTR_NOSUID 2
#define ATTR_NODEV 4
#define ATTR_NOEXEC 8
struct attributes {
    uint64_t set, clear, propagation, userns;
};

#define MIRRORS_MAX 64

struct mounter {
    const char *stage;
    dev_t mirrors[MIRRORS_MAX]; /* devices of the tmpfs made here */
    size_t n;
    char *err;
    size_t err_n;
};

static int fail(struct mounter *m, const char *what, const char *path)
{
    snprintf(m->err, m->err_n, "%s %s: %m", what, path);
    return -1;
}

/* Joins with one slash; false if it does not fit. */
static bool join(char out[PATH_MAX], const char *a, const char *b)
{
    int r = snprintf(out, PATH_MAX, "%s%s%s", a, a[0] && a[strlen(a) - 1] == '/' ? "" : "/", b);
    return r > 0 && r < PATH_MAX;
}

/* Makes one entry of a mirrored folder. What cannot be shown is left out. */
static void mirror_entry(const char *from, const char *to)
{
    struct stat st;
    if (lstat(from, &st) < 0)
        return;
    if (S_ISLNK(st.st_mode)) {
        char link[PATH_MAX];
        ssize_t n = readlink(from, link, sizeof link - 1);
        if (n > 0) {
            link[n] = '\0';
            if (symlink(link, to) < 0)
                return;
        }
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        if (mkdir(to, 0755) == 0 && mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
            rmdir(to);
        return;
    }
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    close(fd);
    if (mount(from, to, NULL, MS_BIND, NULL) < 0)
        unlink(to);
}

/* Makes the finished tmpfs at the stage the root of this namespace. */
static int enter_root(struct mounter *m)
{
    if (chdir(m->stage) < 0)
        return fail(m, "could not enter", m->stage);
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) < 0)
            return fail(m, "could not leave the old root of", m->stage);
    } else if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
        return fail(m, "could not make a root of", m->stage); /* initramfs: cannot be pivoted */
    }
    return chdir("/") < 0 ? fail(m, "could not enter", "/") : 0;
}

/* Replaces folder by a tmpfs showing all its entries. */
static int mirror(struct mounter *m, const char *folder)
{
    struct stat st;
    if (m->n == MIRRORS_MAX) {
        errno = ENOSPC;
        return fail(m, "too many folders to mirror, at", folder);
    }
    if (stat(folder, &st) < 0)
        return fail(m, "could not look at", folder);
    if (mount("tmpfs", m->stage, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=16m") < 0)
        return fail(m, "could not mount a tmpfs on", m->stage);
    /* while it is filled, binds of its own ancestors must not take it along */
    if (mount(NULL, m->stage, NULL, MS_UNBINDABLE, NULL) < 0)
        return fail(m, "could not seclude", m->stage);
    if (chmod(m->stage, st.st_mode & 07777) < 0 || chown(m->stage, st.st_uid, st.st_gid) < 0)
        return fail(m, "could not set the owner of", m->stage);
    DIR *d = opendir(folder);
    if (!d)
        return fail(m, "could not read", folder);
    for (struct dirent *e; (e = readdir(d));) {
        char from[PATH_MAX], to[PATH_MAX];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (join(from, folder, e->d_name) && join(to, m->stage, e->d_name))
            mirror_entry(from, to);
    }
    closedir(d);
    struct stat own;
    if (stat(m->stage, &own) < 0 || mount(NULL, m->stage, NULL, MS_PRIVATE, NULL) < 0)
        return fail(m, "could not finish", m->stage);
    m->mirrors[m->n++] = own.st_dev;
    if (!strcmp(folder, "/"))
        return enter_root(m);
    if (mount(m->stage, folder, NULL, MS_MOVE, NULL) < 0)
        return fail(m, "could not cover", folder);
    return 0;
}

/*
 * Finds the deepest existing folder on the way to dst, symbolic links resolved, and what is missing
 * below it ("" if dst exists).
 */
static int deepest(struct mounter *m, const char *dst, char real[PATH_MAX], const char **rest)
{
    char head[PATH_MAX];
    size_t n = strlen(dst);
    if (n >= sizeof head || dst[0] != '/') {
        errno = EINVAL;
        return fail(m, "mount point not usable:", dst);
    }
    memcpy(head, dst, n + 1);
    while (!realpath(n ? head : "/", real)) {
        if (errno != ENOENT || n == 0)
            return fail(m, "could not resolve the mount point", dst);
        while (n > 0 && head[n - 1] != '/')
            n--;
        while (n > 0 && head[n - 1] == '/')
            n--;
        head[n] = '\0';
    }
    while (dst[n] == '/')
        n++;
    *rest = dst + n;
    return 0;
}

/* Makes what is missing of dst below real, which lies in a tmpfs of ours. */
static int make_missing(struct mounter *m, char real[PATH_MAX], const char *rest, bool dir)
{
    while (*rest) {
        const char *end = strchr(rest, '/');
        size_t n = end ? (size_t)(end - rest) : strlen(rest);
        char name[NAME_MAX + 1], next[PATH_MAX];
        if (n > NAME_MAX)
            n = NAME_MAX;
        memcpy(name, rest, n);
        name[n] = '\0';
        for (rest += n; *rest == '/'; rest++)
            ;
        if (!join(next, real, name)) {
            errno = ENAMETOOLONG;
            return fail(m, "mount point too long below", real);
        }
        unlink(next); /* a dangling link that was mirrored; a folder stays and mkdir tells */
        if (*rest || dir) {
            if (mkdir(next, 0755) < 0)
                return fail(m, "could not make", next);
        } else {
            int fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            if (fd < 0)
                return fail(m, "could not make", next);
            close(fd);
        }
        memcpy(real, next, sizeof next);
    }
    return 0;
}

static bool is_mirror(const struct mounter *m, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return false;
    for (size_t i = 0; i < m->n; i++)
        if (m->mirrors[i] == st.st_dev)
            return true;
    return false;
}

/* Cuts the next piece off *rest; NULL when there is none. Empty ones count. */
static char *cut(char **rest, char sep)
{
    char *piece = *rest;
    if (!piece)
        return NULL;
    *rest = strchr(piece, sep);
    if (*rest)
        *(*rest)++ = '\0';
    return piece;
}

/* A mount's own flags, from its options in mountinfo: a remount would take away what is not told.
 */
static unsigned long own_flags(char *options)
{
    static const struct {
        const char *name;
        unsigned long flag;
    } names[] = {{"ro", MS_RDONLY},        {"nosuid", MS_NOSUID},   {"nodev", MS_NODEV},
                 {"noexec", MS_NOEXEC},    {"noatime", MS_NOATIME}, {"nodiratime", MS_NODIRATIME},
                 {"relatime", MS_RELATIME}};
    unsigned long flags = 0;
    for (char *o; (o = cut(&options, ',')) != NULL;) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            flags |= !strcmp(o, names[i].name) ? names[i].flag : 0;
    }
    return flags;
}

/* "\\040" and the like, in place */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

/* The mounts at real and below it, one by one: kernels before 5.12. */
static int restrict_each(const char *real, unsigned long flags)
{
    char *line = NULL;
    size_t cap = 0, n = strlen(real);
    int r = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return -1;
    while (r == 0 && getline(&line, &cap, f) > 0) {
        char *field[6], *rest = line;
        size_t k = 0;
        while (k < 6 && (field[k] = cut(&rest, ' ')) != NULL)
            k++;
        if (k < 6)
            continue;
        unescape(field[4]);
        if (strncmp(field[4], real, n) != 0 || (field[4][n] && field[4][n] != '/'))
            continue;
        r = mount(NULL, field[4], NULL, MS_REMOUNT | MS_BIND | flags | own_flags(field[5]), NULL);
        if (r < 0 && field[4][n] && (errno == ENOENT || errno == ENOTDIR || errno == EINVAL))
            r = 0; /* another mount lies over it: it cannot be reached */
    }
    int error = errno;
    free(line);
    fclose(f);
    errno = error;
    return r;
}

/*
 * No program is started from the volume at real, nor from what is mounted below it, and nothing
 * there is a device or is written to, as flags say. An interpreter may still read a script there.
 */
static int restrict_tree(const char *real, const char *flags)
{
    struct attributes a = {.set = ATTR_NOSUID | ATTR_NOEXEC};
    unsigned long old = MS_NOSUID | MS_NOEXEC;
    if (!strchr(flags, 'd')) {
        a.set |= ATTR_NODEV;
        old |= MS_NODEV;
    }
    if (strchr(flags, 'r')) {
        a.set |= ATTR_RDONLY;
        old |= MS_RDONLY;
    }
    if (syscall(SYS_mount_setattr, AT_FDCWD, real, AT_RECURSIVE, &a, sizeof a) == 0)
        return 0;
    return errno == ENOSYS || errno == EPERM ? restrict_each(real, old) : -1;
}

static int bind_one(struct mounter *m, const struct shim_mount *v)
{
    struct stat src, dst;
    char real[PATH_MAX], self[64];
    const char *rest;
    if (fstat(v->fd, &src) < 0)
        return fail(m, "could not look at", v->src);
    bool dir = S_ISDIR(src.st_mode);
    if (deepest(m, v->dst, real, &rest) < 0)
        return -1;
    if (*rest) {
        if (!is_mirror(m, real) && mirror(m, real) < 0)
            return -1;
        if (make_missing(m, real, rest, dir) < 0)
            return -1;
    }
    if (stat(real, &dst) < 0)
        return fail(m, "could not look at", real);
    if (S_ISDIR(dst.st_mode) != dir || !strcmp(real, "/")) {
        errno = dir ? ENOTDIR : EISDIR;
        return fail(m, "volume and mount point do not match at", v->dst);
    }
    snprintf(self, sizeof self, "/proc/self/fd/%d", v->fd);
    if (mount(self, real, NULL, MS_BIND | (dir ? MS_REC : 0), NULL) < 0)
        return fail(m, "could not bind a volume to", v->dst);
    return restrict_tree(real, v->flags) < 0 ? fail(m, "could not set the mount flags of", v->dst)
                                             : 0;
}

/*
 * Opens path following no link at all. It was resolved when it was checked; a link that is there
 * now was put there since, and may lead anywhere.
 */
static int open_plain(const char *path)
{
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (fd >= 0 && *(path += strspn(path, "/"))) {
        char name[NAME_MAX + 1];
        struct stat st;
        size_t n = strcspn(path, "/");
        if (n > NAME_MAX) {
            close(fd);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(name, path, n);
        name[n] = '\0';
        path += n;
        int next = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        int error = errno;
        close(fd);
        errno = error;
        fd = next;
        if (fd >= 0 && (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))) {
            close(fd);
            errno = ELOOP;
            return -1;
        }
    }
    return fd;
}

/* From a folder that is not below the root, up to where the namespace begins. */
static int climb(void)
{
    struct stat here, up;
    for (;;) {
        if (stat(".", &here) < 0 || stat("..", &up) < 0)
            return -1;
        if (here.st_dev == up.st_dev && here.st_ino == up.st_ino)
            return 0;
        if (chdir("..") < 0)
            return -1;
    }
}

/*
 * In a chroot the root need not be a mount point, and only a mount point can be told to pass
 * nothing on: that of the namespace it is, seen from outside for a moment.
 */
static int seclude_chroot(const char *stage)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || cwd < 0 || chroot(stage) < 0)
        return -1;
    int r = fchdir(root) < 0 || climb() < 0 ? -1 : mount(NULL, ".", NULL, MS_REC | MS_SLAVE, NULL);
    int error = errno;
    if (fchdir(root) < 0 || chroot(".") < 0 || fchdir(cwd) < 0)
        _exit(1); /* nothing may run with another root */
    close(root);
    close(cwd);
    errno = error;
    return r;
}

/* A mount namespace from which no mount gets back to the host. */
static int seclude(const char *stage)
{
    if (unshare(CLONE_NEWNS) < 0)
        return -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0)
        return 0;
    return errno == EINVAL ? seclude_chroot(stage) : -1;
}

int shim_mounts(struct shim_mount *v, size_t n, const char *stage, char *err, size_t err_n)
{
    struct mounter m = {.stage = stage, .err = err, .err_n = err_n};
    char real[PATH_MAX];
    const char *rest;
    if (seclude(stage) < 0)
        return fail(&m, "could not enter a mount namespace for", stage);
    /* a new root comes first: what is opened before it could not be bound after it */
    for (size_t i = 0; i < n; i++) {
        if (deepest(&m, v[i].dst, real, &rest) < 0)
            return -1;
        if (*rest && !strcmp(real, "/")) {
            if (mirror(&m, "/") < 0)
                return -1;
            break;
        }
    }
    /* by descriptor, since one mount may hide the path of the next one's source */
    for (size_t i = 0; i < n; i++) {
        v[i].fd =
            strchr(v[i].flags, 'h') ? open_plain(v[i].src) : open(v[i].src, O_PATH | O_CLOEXEC);
        if (v[i].fd < 0)
            return fail(&m, "could not open the volume", v[i].src);
    }
    for (size_t i = 0; i < n; i++) {
        if (bind_one(&m, &v[i]) < 0)
            return -1;
    }
    return 0;
}
