/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole files and folders through a file table, atomic and durable. Memory is the caller's.
 * Blocks: for the disk worker or for opening a handle.
 */
#include "base/file.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#define READ_CHUNK 4096u
/* Folders nested so deep that a path to them has no room are moved up while being removed. */
#define HOIST_NAME ".kei-removed"
#define HOIST_ROOM 32u
#define HOIST_TRIES 1024u

const char *kei_io_text(int code)
{
    static const struct {
        int code;
        const char *why;
    } table[] = {
        {KE_ENOTFOUND, "it does not exist"},
        {KE_EEXIST, "it exists already or is not empty"},
        {KE_EACCES, "permission denied"},
        {KE_EROFS, "the file system is read-only"},
        {KE_ENOSPC, "no space left on the disk or in the quota"},
        {KE_EBUSY, "it is in use"},
        {KE_EIO, "the disk reported an I/O error"},
        {KE_ENOMEM, "out of memory"},
        {KE_ELIMIT, "its name is too long, or symbolic links in it lead in a circle"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].code == code)
            return table[i].why;
    }
    return ke_strerror(code);
}

/* Longest text of an error code wants the object's name: one place for the form of it. */
static int io_error(struct ke_error *err, int code, const char *what, const char *path)
{
    return kei_error(err, code, "%s %s: %s", what, path, kei_io_text(code));
}

bool kei_path_join(char *out, size_t n, const char *a, const char *b)
{
    size_t la = strlen(a);
    while (*b == '/' && la > 0)
        b++;
    while (la > 1 && a[la - 1] == '/')
        la--;
    size_t lb = strlen(b);
    bool slash = la > 0 && a[la - 1] != '/' && lb > 0;
    if (la >= n || lb >= n - la || la + lb + (slash ? 1 : 0) >= n)
        return false;
    memmove(out, a, la);
    if (slash)
        out[la++] = '/';
    memcpy(out + la, b, lb + 1);
    return true;
}

/* The folder that holds path: "." for a bare name. */
static bool parent_of(char *out, size_t n, const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len == 0) {
        path = ".";
        len = 1;
    }
    if (len >= n)
        return false;
    memcpy(out, path, len);
    out[len] = '\0';
    return true;
}

static int too_long(struct ke_error *err, const char *path)
{
    return kei_error(err, KE_ELIMIT, "path %.200s... is longer than %d bytes", path, PATH_MAX - 1);
}

static int sync_parent(const struct ke_io *io, const char *path, struct ke_error *err)
{
    char dir[PATH_MAX];
    if (!parent_of(dir, sizeof dir, path))
        return too_long(err, path);
    int r = io->sync_dir(io->user, dir);
    return r < 0 ? io_error(err, r, "could not make names durable in folder", dir) : 0;
}

static int write_new(const struct ke_io *io, const char *path, const void *p, size_t n,
                     uint32_t mode, struct ke_error *err)
{
    struct ke_io_file *f = NULL;
    int r = io->unlink(io->user, path); /* of an earlier crash, with whatever mode it had */
    if (r < 0 && r != KE_ENOTFOUND)
        return io_error(err, r, "could not remove", path);
    r = io->open(io->user, path, KE_IO_WRITE | KE_IO_CREATE | KE_IO_EXCL, mode, &f);
    if (r < 0)
        return io_error(err, r, "could not create", path);
    if (n > 0)
        r = io->pwrite(io->user, f, p, n, 0);
    if (r == 0)
        r = io->sync(io->user, f);
    int c = io->close(io->user, f);
    if (r == 0)
        r = c;
    if (r < 0) {
        io->unlink(io->user, path);
        return io_error(err, r, "could not write", path);
    }
    return 0;
}

int kei_file_replace(const struct ke_io *io, const char *path, const void *p, size_t n,
                     uint32_t mode, struct ke_error *err)
{
    char tmp[PATH_MAX];
    int len = snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (len < 0 || (size_t)len >= sizeof tmp)
        return too_long(err, path);
    int r = write_new(io, tmp, p, n, mode, err);
    if (r < 0)
        return r;
    r = io->rename(io->user, tmp, path);
    if (r < 0) {
        io->unlink(io->user, tmp);
        return io_error(err, r, "could not replace", path);
    }
    return sync_parent(io, path, err);
}

/* Reads to the end; what length says is not trusted, files of the kernel say 0. */
static int read_all(const struct ke_io *io, struct ke_io_file *f, const char *path, size_t max,
                    struct ke_buf *out, struct ke_error *err)
{
    size_t start = out->n;
    for (;;) {
        size_t have = out->n - start, got = 0;
        size_t want = max - have < READ_CHUNK ? max - have + 1 : READ_CHUNK;
        char *room = kei_buf_room(out, want);
        if (!room)
            return kei_error(err, KE_ENOMEM, "out of memory for the content of %s", path);
        int r = io->pread(io->user, f, room, want, (int64_t)have, &got);
        if (r < 0)
            return io_error(err, r, "could not read", path);
        if (got > max - have)
            return kei_error(err, KE_ELIMIT, "%s is larger than the %zu bytes allowed for it", path,
                             max);
        out->n += got;
        out->p[out->n] = '\0';
        if (got < want)
            return 0;
    }
}

/* KE_EINVAL is what the table says of a folder, a FIFO, a socket or a device. */
static int read_error(const struct ke_io *io, struct ke_error *err, int code, const char *path)
{
    struct ke_io_stat st = {.size = sizeof st};
    char slash[PATH_MAX];
    if (code != KE_EINVAL)
        return io_error(err, code, "could not open", path);
    int n = snprintf(slash, sizeof slash, "%s/", path); /* of a link: what it leads to */
    bool folder = n < (int)sizeof slash && io->stat(io->user, slash, &st) == 0 && st.is_dir;
    return kei_error(err, code, "could not read %s: it is %s", path,
                     folder ? "a folder, not a file" : "not a regular file");
}

int kei_file_read(const struct ke_io *io, const char *path, size_t max, struct ke_buf *out,
                  struct ke_error *err)
{
    struct ke_io_file *f = NULL;
    int r = io->open(io->user, path, KE_IO_READ, 0, &f);
    if (r < 0)
        return read_error(io, err, r, path);
    int64_t length; /* not trusted, but what has none is no file */
    size_t start = out->n;
    r = io->length(io->user, f, &length);
    r = r < 0 ? read_error(io, err, r, path) : read_all(io, f, path, max, out, err);
    io->close(io->user, f);
    if (r < 0) { /* half a file is none */
        out->n = start;
        if (out->p)
            out->p[start] = '\0';
    }
    return r;
}

int kei_file_remove(const struct ke_io *io, const char *path, struct ke_error *err)
{
    int r = io->unlink(io->user, path);
    if (r == KE_ENOTFOUND)
        return 0;
    if (r < 0)
        return io_error(err, r, "could not remove", path);
    return sync_parent(io, path, err);
}

/* Follows a link, unlike the table's stat of a bare path. */
static bool is_folder(const struct ke_io *io, const char *path)
{
    char dot[PATH_MAX];
    struct ke_io_stat st = {.size = sizeof st};
    return kei_path_join(dot, sizeof dot, path, ".") && io->stat(io->user, dot, &st) == 0 &&
           st.is_dir;
}

int kei_folder_make(const struct ke_io *io, const char *path, uint32_t mode, struct ke_error *err)
{
    int r = io->mkdir(io->user, path, mode);
    if (r == KE_EEXIST) {
        if (is_folder(io, path))
            return 0;
        struct ke_io_stat st = {.size = sizeof st};
        char dot[PATH_MAX];
        if (io->stat(io->user, path, &st) == 0 && st.is_dir)
            return io_error(err, KE_EACCES, "could not enter folder", path);
        if (kei_path_join(dot, sizeof dot, path, ".") && io->stat(io->user, dot, &st) == KE_ELIMIT)
            return io_error(err, KE_ELIMIT, "could not enter folder", path);
        return kei_error(err, KE_EEXIST, "could not make folder %s: a file of that name exists",
                         path);
    }
    if (r < 0)
        return io_error(err, r, "could not make folder", path);
    return sync_parent(io, path, err);
}

/* ---- removing a tree ---- */

struct sweep {
    const struct ke_io *io;
    struct kei_folder_removal *rm;
    uint32_t left;          /* names that may still be taken away in this slice */
    char sub[NAME_MAX + 1]; /* a folder found in it, "" if none */
    bool told;              /* err has the text already */
    struct ke_error *err;
};

static int sweep_error(struct sweep *s, int code, const char *what, const char *path)
{
    s->told = true;
    return io_error(s->err, code, what, path);
}

/* Removes what is no folder; ends the listing at the first folder, or when the slice is used up. */
static int sweep_entry(void *arg, const char *name)
{
    struct sweep *s = arg;
    char full[PATH_MAX];
    struct ke_io_stat st = {.size = sizeof st};
    if (s->left == 0)
        return 1;
    if (strlen(name) >= sizeof s->sub || !kei_path_join(full, sizeof full, s->rm->path, name)) {
        s->told = true;
        return too_long(s->err, s->rm->path);
    }
    int r = s->io->stat(s->io->user, full, &st);
    if (r == KE_ENOTFOUND)
        return 0;
    if (r < 0)
        return sweep_error(s, r, "could not look at", full);
    if (st.is_dir) {
        memcpy(s->sub, name, strlen(name) + 1);
        return 1;
    }
    s->left--;
    r = s->io->unlink(s->io->user, full);
    if (r < 0 && r != KE_ENOTFOUND)
        return sweep_error(s, r, "could not remove", full);
    return 0;
}

/*
 * Goes into s->sub. Near the end of what a path can name, the folder is moved up into the root of
 * the removal first: whoever wrote the tree may have nested it without end.
 */
static int sweep_enter(struct sweep *s)
{
    char from[PATH_MAX], to[PATH_MAX], name[HOIST_ROOM];
    struct kei_folder_removal *rm = s->rm;
    if (!kei_path_join(from, sizeof from, rm->path, s->sub))
        return too_long(s->err, rm->path);
    if (strlen(from) + NAME_MAX + 2 < sizeof from) {
        memcpy(rm->path, from, strlen(from) + 1);
        return 0;
    }
    rm->path[rm->root] = '\0';
    int r = KE_EEXIST;
    for (unsigned i = 0; i < HOIST_TRIES && r < 0; i++) { /* the name may be taken */
        snprintf(name, sizeof name, HOIST_NAME "%u", rm->hoisted++);
        if (!kei_path_join(to, sizeof to, rm->path, name))
            return too_long(s->err, rm->path);
        r = s->io->rename(s->io->user, from, to);
    }
    return r < 0 ? io_error(s->err, r, "could not move", from) : 0;
}

/* Removes the folder, empty now, and goes to what holds it. */
static int sweep_leave(struct sweep *s)
{
    char *path = s->rm->path;
    s->left--;
    int r = s->io->rmdir(s->io->user, path);
    if (r < 0 && r != KE_ENOTFOUND)
        return io_error(s->err, r, "could not remove folder", path);
    char *slash = strrchr(path, '/');
    if (strlen(path) > s->rm->root && slash)
        *slash = '\0';
    else
        path[0] = '\0';
    return 0;
}

/* 1: there is something to remove. */
static int removal_begin(const struct ke_io *io, struct kei_folder_removal *rm, const char *path,
                         struct ke_error *err)
{
    struct ke_io_stat st = {.size = sizeof st};
    if (!kei_path_join(rm->path, sizeof rm->path, path, ""))
        return too_long(err, path);
    rm->root = strlen(rm->path);
    int r = io->stat(io->user, rm->path, &st);
    if (r == KE_ENOTFOUND)
        return 0;
    if (r < 0)
        return io_error(err, r, "could not look at", rm->path);
    if (!st.is_dir)
        return kei_error(err, KE_EINVAL, "could not remove folder %s: it is not a folder",
                         rm->path);
    return 1;
}

int kei_folder_remove_some(const struct ke_io *io, struct kei_folder_removal *rm, const char *path,
                           uint32_t max, struct ke_error *err)
{
    struct sweep s = {.io = io, .rm = rm, .left = max ? max : 1, .err = err};
    int r = rm->path[0] ? 1 : removal_begin(io, rm, path, err);
    if (r <= 0)
        return r;
    while (rm->path[0]) {
        if (s.left == 0)
            return 1;
        s.sub[0] = '\0';
        r = io->list(io->user, rm->path, sweep_entry, &s);
        if (r < 0)
            return s.told ? r : io_error(err, r, "could not list folder", rm->path);
        if (s.sub[0])
            r = sweep_enter(&s);
        else
            r = s.left > 0 ? sweep_leave(&s) : 0;
        if (r < 0)
            return r;
    }
    return sync_parent(io, path, err);
}

int kei_folder_remove(const struct ke_io *io, const char *path, struct ke_error *err)
{
    struct kei_folder_removal rm = {.root = 0};
    int r = kei_folder_remove_some(io, &rm, path, UINT32_MAX, err);
    while (r > 0)
        r = kei_folder_remove_some(io, &rm, path, UINT32_MAX, err);
    return r;
}

int kei_folder_lock(const struct ke_io *io, const char *folder, struct ke_io_file **ret,
                    struct ke_error *err)
{
    char path[PATH_MAX];
    struct ke_io_file *f = NULL;
    if (!kei_path_join(path, sizeof path, folder, "lock"))
        return too_long(err, folder);
    int r = io->open(io->user, path, KE_IO_READ | KE_IO_WRITE | KE_IO_CREATE, 0600, &f);
    if (r < 0)
        return io_error(err, r, "could not open", path);
    r = io->lock(io->user, f);
    if (r < 0) {
        io->close(io->user, f);
        if (r == KE_EBUSY)
            return kei_error(err, KE_EBUSY,
                             "folder %s is in use by another process or handle: end that one, or "
                             "use another folder",
                             folder);
        return io_error(err, r, "could not lock", path);
    }
    *ret = f;
    return 0;
}
