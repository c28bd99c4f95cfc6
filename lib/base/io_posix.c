/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file table over the operating system's files. An open file is its descriptor, carried in the
 * pointer, so nothing is allocated. Any thread; one file is used by one thread at a time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* rename */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kubeedge/err.h>
#include <kubeedge/sys/io.h>

#include "base/error.h"

/* One more than the descriptor: NULL stays "no file". */
static struct ke_io_file *to_file(int fd)
{
    return (struct ke_io_file *)((intptr_t)fd + 1);
}

static int to_fd(const struct ke_io_file *f)
{
    return (int)((intptr_t)f - 1);
}

static int failed(void)
{
    return kei_errno_code(errno);
}

/* Bits that a umask commonly takes away. */
static int needs_chmod(uint32_t mode)
{
    return (mode & 077) != 0;
}

static int px_open(void *user, const char *path, uint32_t flags, uint32_t mode,
                   struct ke_io_file **ret)
{
    (void)user;
    int how = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int write = (flags & KE_IO_WRITE) != 0, read = (flags & KE_IO_READ) != 0;
    int fd, created = 0;
    how |= write && read ? O_RDWR : write ? O_WRONLY : O_RDONLY;
    if (flags & KE_IO_TRUNC)
        how |= O_TRUNC;
    do {
        if (flags & KE_IO_CREATE) {
            /* Tried first, to know whether the mode is ours to set. */
            fd = open(path, how | O_CREAT | O_EXCL, (mode_t)mode);
            created = fd >= 0;
            if (fd < 0 && errno == EEXIST && !(flags & KE_IO_EXCL))
                fd = open(path, how | O_CREAT, (mode_t)mode);
        } else {
            fd = open(path, how);
        }
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno == ENXIO ? KE_EINVAL : failed(); /* a socket, a FIFO without a reader */
    if (created && needs_chmod(mode) && fchmod(fd, (mode_t)mode) < 0) {
        int r = failed();
        close(fd);
        unlink(path);
        return r;
    }
    *ret = to_file(fd);
    return 0;
}

static int px_close(void *user, struct ke_io_file *f)
{
    (void)user;
    if (close(to_fd(f)) < 0 && errno != EINTR) /* with EINTR it is closed all the same */
        return failed();
    return 0;
}

static int px_pread(void *user, struct ke_io_file *f, void *p, size_t n, int64_t off, size_t *ret_n)
{
    (void)user;
    char *out = p;
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(to_fd(f), out + done, n - done, (off_t)off + (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return failed();
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *ret_n = done;
    return 0;
}

static int px_pwrite(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    (void)user;
    const char *in = p;
    size_t done = 0;
    while (done < n) {
        ssize_t put = pwrite(to_fd(f), in + done, n - done, (off_t)off + (off_t)done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return failed();
        if (put == 0)
            return KE_EIO;
        done += (size_t)put;
    }
    return 0;
}

static int px_truncate(void *user, struct ke_io_file *f, int64_t length)
{
    (void)user;
    int r;
    do {
        r = ftruncate(to_fd(f), (off_t)length);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? failed() : 0;
}

static int px_sync(void *user, struct ke_io_file *f)
{
    (void)user;
    int r;
    do {
        r = fdatasync(to_fd(f)); /* with the length, without the times */
    } while (r < 0 && errno == EINTR);
    return r < 0 ? failed() : 0;
}

static int px_length(void *user, struct ke_io_file *f, int64_t *ret)
{
    (void)user;
    struct stat st;
    if (fstat(to_fd(f), &st) < 0)
        return failed();
    if (!S_ISREG(st.st_mode))
        return KE_EINVAL;
    *ret = st.st_size;
    return 0;
}

/*
 * A record lock over all of it, owned by the open file: other programs that lock ranges of the file
 * (SQLite's own shell does) meet it, and no close of another descriptor in this process drops it.
 */
static int px_lock(void *user, struct ke_io_file *f)
{
    (void)user;
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int r;
    do {
        r = fcntl(to_fd(f), F_OFD_SETLK, &all);
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return errno == EAGAIN || errno == EACCES ? KE_EBUSY : failed();
    return 0;
}

static int px_rename(void *user, const char *from, const char *to)
{
    (void)user;
    return rename(from, to) < 0 ? failed() : 0;
}

static int px_unlink(void *user, const char *path)
{
    (void)user;
    return unlink(path) < 0 ? failed() : 0;
}

static int px_mkdir(void *user, const char *path, uint32_t mode)
{
    (void)user;
    if (mkdir(path, (mode_t)mode) < 0)
        return failed();
    if (needs_chmod(mode) && chmod(path, (mode_t)mode) < 0) {
        int r = failed();
        rmdir(path);
        return r;
    }
    return 0;
}

static int px_rmdir(void *user, const char *path)
{
    (void)user;
    return rmdir(path) < 0 ? failed() : 0;
}

static int px_sync_dir(void *user, const char *path)
{
    (void)user;
    int fd, r, result = 0;
    do {
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return failed();
    do {
        r = fsync(fd);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EINVAL) /* some file systems keep names durable by themselves */
        result = failed();
    close(fd);
    return result;
}

static int px_stat(void *user, const char *path, struct ke_io_stat *ret)
{
    (void)user;
    struct stat st;
    if (lstat(path, &st) < 0)
        return failed();
    struct ke_io_stat out = {
        .length = st.st_size,
        .is_dir = S_ISDIR(st.st_mode) != 0,
        .mode = st.st_mode & 07777,
    };
    return kei_abi_out(ret, ret->size ? ret->size : sizeof *ret, &out, sizeof out, sizeof out,
                       "struct ke_io_stat", NULL);
}

static int px_list(void *user, const char *path, int (*each)(void *arg, const char *name),
                   void *arg)
{
    (void)user;
    DIR *d = opendir(path); /* close-on-exec */
    if (!d)
        return failed();
    int r = 0;
    while (r == 0) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            r = errno ? failed() : 0;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = each(arg, e->d_name);
    }
    closedir(d);
    return r;
}

static int px_symlink(void *user, const char *target, const char *path)
{
    (void)user;
    return symlink(target, path) < 0 ? failed() : 0;
}

static const struct ke_io table = {
    .size = sizeof(struct ke_io),
    .open = px_open,
    .close = px_close,
    .pread = px_pread,
    .pwrite = px_pwrite,
    .truncate = px_truncate,
    .sync = px_sync,
    .length = px_length,
    .lock = px_lock,
    .rename = px_rename,
    .unlink = px_unlink,
    .mkdir = px_mkdir,
    .rmdir = px_rmdir,
    .sync_dir = px_sync_dir,
    .stat = px_stat,
    .list = px_list,
    .symlink = px_symlink,
};

const struct ke_io *ke_io_posix(void)
{
    return &table;
}
