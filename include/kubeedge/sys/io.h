/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file table of a context: every durable byte of the library goes through it (database,
 * certificates, state files), so a host can place them on its own storage and a test can cut power
 * at any write. Calls come from one thread at a time: the disk worker, or the thread that opens a
 * handle. They may block. Stability: minor level.
 */
#ifndef KUBEEDGE_SYS_IO_H
#define KUBEEDGE_SYS_IO_H

#include <kubeedge/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KE_IO_READ 1u
#define KE_IO_WRITE 2u
#define KE_IO_CREATE 4u
#define KE_IO_EXCL 8u
#define KE_IO_TRUNC 16u

struct ke_io_file; /* defined by the table's owner */

struct ke_io_stat {
    size_t size;
    int64_t length;  /* bytes */
    uint32_t is_dir; /* 0 or 1 */
    uint32_t mode;   /* permission bits */
};

/*
 * All return 0 or a negative KE_E* (KE_ENOTFOUND, KE_EEXIST, KE_EACCES, KE_EROFS, KE_ENOSPC,
 * KE_EBUSY, KE_EIO, ...). Paths are NUL-terminated. Short reads happen only at the end of a file.
 * All members are required but symlink. open never waits (a FIFO has no other end yet). The mode of what open and mkdir create is exact, whatever
 * the process's umask.
 */
struct ke_io {
    size_t size;
    void *user;
    int (*open)(void *user, const char *path, uint32_t flags, uint32_t mode,
                struct ke_io_file **ret);
    int (*close)(void *user, struct ke_io_file *f);
    int (*pread)(void *user, struct ke_io_file *f, void *p, size_t n, int64_t off, size_t *ret_n);
    int (*pwrite)(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off);
    int (*truncate)(void *user, struct ke_io_file *f, int64_t length);
    int (*sync)(void *user, struct ke_io_file *f); /* durable when it returns 0 */
    int (*length)(void *user, struct ke_io_file *f, int64_t *ret); /* KE_EINVAL: no regular file */
    int (*lock)(void *user, struct ke_io_file *f); /* exclusive, not waiting; KE_EBUSY if taken */
    int (*rename)(void *user, const char *from, const char *to); /* replaces to */
    int (*unlink)(void *user, const char *path);
    int (*mkdir)(void *user, const char *path, uint32_t mode);
    int (*rmdir)(void *user, const char *path);
    int (*sync_dir)(void *user, const char *path); /* names in it are durable when it returns 0 */
    /* of a symbolic link at the end of path: the link itself; with a slash after it, its target */
    int (*stat)(void *user, const char *path, struct ke_io_stat *ret);
    /* calls each(arg, name) for every entry but . and ..; a non-zero return of each ends it */
    int (*list)(void *user, const char *path, int (*each)(void *arg, const char *name), void *arg);
    int (*symlink)(void *user, const char *target, const char *path);
};

/* The table over the operating system's files. Static storage; any thread. */
KE_API const struct ke_io *ke_io_posix(void);

#ifdef __cplusplus
}
#endif
#endif
