/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes on the disk, through the context's file table; host paths are looked at directly, since
 * they are the operating system's by definition. Disk worker only.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "pod/volume.h"

#define LINK "..data"
#define LINK_TMP "..data_tmp"
#define CHUNK 4096

static int failed(struct ke_error *err, int r, const struct kei_vplan *p, const char *what)
{
    return kei_error(err, r, "volume %s: could not write %s (%s)", p->name, what,
                     r == KE_ENOSPC ? "no space left" : ke_strerror(r));
}

/* Makes path and what is missing above it, down from DATA. Not synced, see volume.h. */
static int make_folders(const struct ke_io *io, const char *path, size_t from, uint32_t first_mode,
                        uint32_t last_mode)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    int r = 0;
    if (n >= sizeof part)
        return KE_EINVAL;
    for (size_t i = from; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        r = io->mkdir(io->user, part, i == n ? last_mode : first_mode);
        if (r < 0 && r != KE_EEXIST)
            return r;
        first_mode = 0755;
    }
    return 0;
}

static bool in_folder(char out[PATH_MAX], const char *folder, const char *a, const char *b)
{
    int n = snprintf(out, PATH_MAX, "%s/%s%s%s", folder, a, *b ? "/" : "", b);
    return n > 0 && n < PATH_MAX;
}

/* ---- is it there already? ---- */

static bool same_content(const struct ke_io *io, const char *path, const struct kei_vfile *f)
{
    struct ke_io_file *h;
    char buf[CHUNK];
    int64_t length = -1;
    bool same = true;
    if (io->open(io->user, path, KE_IO_READ, 0, &h) < 0)
        return false;
    if (io->length(io->user, h, &length) < 0 || length != (int64_t)f->n)
        same = false;
    for (size_t at = 0; same && at < f->n; at += CHUNK) {
        size_t want = f->n - at < CHUNK ? f->n - at : CHUNK, got = 0;
        same = io->pread(io->user, h, buf, want, (int64_t)at, &got) == 0 && got == want &&
               memcmp(buf, f->data + at, want) == 0;
    }
    int r = io->close(io->user, h);
    return same && r == 0;
}

/* The first part of path. */
static struct ke_str first_part(const char *path)
{
    return kei_strn(path, strcspn(path, "/"));
}

/* What is in dir ("" or "a/b/"), whose first file is file i: they follow one another. */
static size_t count_children(const struct kei_vplan *p, const char *dir, size_t i)
{
    size_t n = 0, len = strlen(dir);
    struct ke_str last = {NULL, 0};
    for (; i < p->n_files && !strncmp(p->files[i].path, dir, len); i++) {
        struct ke_str part = first_part(p->files[i].path + len);
        n += !kei_str_eq(part, last);
        last = part;
    }
    return n;
}

static int count_one(void *arg, const char *name)
{
    (void)name;
    ++*(size_t *)arg;
    return 0;
}

/* No file in dir, whose first file is file i, that the plan does not have. */
static bool same_names(const struct ke_io *io, const struct kei_vplan *p, const char *dir, size_t i)
{
    char path[PATH_MAX];
    size_t n = 0;
    return in_folder(path, p->path, LINK, dir) && io->list(io->user, path, count_one, &n) == 0 &&
           n == count_children(p, dir, i);
}

static bool up_to_date(const struct ke_io *io, const struct kei_vplan *p)
{
    char path[PATH_MAX], dir[PATH_MAX];
    if (!same_names(io, p, "", 0))
        return false;
    for (size_t i = 0; i < p->n_files; i++) {
        const char *file = p->files[i].path, *at = file + kei_vfile_known(p, i);
        if (strlen(file) >= sizeof dir)
            return false;
        while ((at = strchr(at, '/'))) {
            at++;
            memcpy(dir, file, (size_t)(at - file));
            dir[at - file] = '\0';
            if (!same_names(io, p, dir, i))
                return false;
        }
        if (!in_folder(path, p->path, LINK, p->files[i].path) ||
            !same_content(io, path, &p->files[i]))
            return false;
    }
    return true;
}

/* ---- writing ---- */

/* Content that could not be had now stays what it was. */
static int keep_old(const struct ke_io *io, struct kei_vplan *p, struct kei_vfile *f,
                    struct ke_error *err)
{
    char path[PATH_MAX];
    struct ke_buf b;
    kei_buf_init(&b, p->a->alloc);
    if (!in_folder(path, p->path, LINK, f->path))
        return kei_error(err, KE_EINVAL, "volume %s: path too long", p->name);
    int r = kei_file_read(io, path, 1u << 20, &b, err);
    if (r == 0) {
        f->data = kei_arena_strdup(p->a, kei_buf_str(&b));
        f->n = b.n;
        if (!f->data)
            r = kei_error(err, KE_ENOMEM, "out of memory for volume %s", p->name);
    } else {
        r = kei_error(err, KE_EAGAIN, "%s: %s", f->path, f->keep);
    }
    ke_buf_free(&b);
    return r;
}

static int write_file(const struct ke_io *io, const char *folder, const struct kei_vplan *p,
                      size_t i)
{
    const struct kei_vfile *f = &p->files[i];
    char path[PATH_MAX];
    struct ke_io_file *h;
    if (!in_folder(path, folder, f->path, ""))
        return KE_EINVAL;
    const char *slash = strrchr(f->path, '/');
    if (slash) {
        size_t n = strlen(folder) + 1 + (size_t)(slash - f->path);
        char keep = path[n];
        path[n] = '\0';
        size_t from = strlen(folder) + 1 + kei_vfile_known(p, i);
        int r = from < n ? make_folders(io, path, from, 0755, 0755) : 0;
        path[n] = keep;
        if (r < 0)
            return r;
    }
    int r = io->open(io->user, path, KE_IO_WRITE | KE_IO_CREATE | KE_IO_EXCL, f->mode, &h);
    if (r < 0)
        return r;
    r = f->n ? io->pwrite(io->user, h, f->data, f->n, 0) : 0;
    int c = io->close(io->user, h);
    return r < 0 ? r : c;
}

/* A fresh folder "..STAMP" with all files in it; its name in name. */
static int write_all(const struct ke_io *io, const struct kei_vplan *p, int64_t stamp,
                     char name[32], struct ke_error *err)
{
    char folder[PATH_MAX];
    int r = KE_EEXIST;
    for (int i = 0; r == KE_EEXIST && i < 1000; i++) {
        snprintf(name, 32, "..%lld", (long long)stamp + i);
        if (!in_folder(folder, p->path, name, ""))
            return kei_error(err, KE_EINVAL, "volume %s: path too long", p->name);
        r = io->mkdir(io->user, folder, 0755);
    }
    if (r < 0)
        return failed(err, r, p, "its folder");
    for (size_t i = 0; i < p->n_files; i++) {
        r = write_file(io, folder, p, i);
        if (r < 0) {
            int ignored = kei_folder_remove(io, folder, NULL); /* found and removed next time too */
            (void)ignored;
            return failed(err, r, p, p->files[i].path);
        }
    }
    return 0;
}

static int point_to(const struct ke_io *io, const struct kei_vplan *p, const char *target,
                    struct ke_error *err)
{
    char tmp[PATH_MAX], link[PATH_MAX];
    if (!in_folder(tmp, p->path, LINK_TMP, "") || !in_folder(link, p->path, LINK, ""))
        return kei_error(err, KE_EINVAL, "volume %s: path too long", p->name);
    int r = io->unlink(io->user, tmp);
    r = r == 0 || r == KE_ENOTFOUND ? io->symlink(io->user, target, tmp) : r;
    if (r == 0)
        r = io->rename(io->user, tmp, link);
    return r < 0 ? failed(err, r, p, LINK) : 0;
}

/* The links a user sees: NAME -> ..data/NAME, one per first part of a path. */
static int show(const struct ke_io *io, const struct kei_vplan *p, struct ke_error *err)
{
    struct ke_str last = {NULL, 0};
    for (size_t i = 0; i < p->n_files; i++) {
        char path[PATH_MAX], target[PATH_MAX], name[NAME_MAX + 1];
        struct ke_str part = first_part(p->files[i].path);
        if (kei_str_eq(part, last))
            continue;
        last = part;
        if (part.n > NAME_MAX)
            return kei_error(err, KE_EINVAL, "volume %s: name too long", p->name);
        memcpy(name, part.p, part.n);
        name[part.n] = '\0';
        int n = snprintf(target, sizeof target, LINK "/%s", name);
        if (n < 0 || n >= (int)sizeof target || !in_folder(path, p->path, name, ""))
            return kei_error(err, KE_EINVAL, "volume %s: path too long", p->name);
        int r = io->symlink(io->user, target, path);
        if (r < 0 && r != KE_EEXIST)
            return failed(err, r, p, name);
    }
    return 0;
}

struct sweep {
    const struct ke_io *io;
    const struct kei_vplan *p;
    const char *current;
};

/* Does a path of the plan begin with name, which ends a part of it? */
static bool has_path(const struct kei_vplan *p, const char *name, const char *end)
{
    size_t low = 0, high = p->n_files, n = strlen(name);
    while (low < high) { /* the first that is not less than name and end */
        size_t mid = low + (high - low) / 2;
        int r = strncmp(p->files[mid].path, name, n);
        if (r < 0 || (r == 0 && strcmp(p->files[mid].path + n, end) < 0))
            low = mid + 1;
        else
            high = mid;
    }
    return low < p->n_files && !strncmp(p->files[low].path, name, n) &&
           (*end ? p->files[low].path[n] == *end : !p->files[low].path[n]);
}

/* Takes away what the plan does not have: older folders, links of files that went. */
static int sweep_one(void *arg, const char *name)
{
    const struct sweep *s = arg;
    char path[PATH_MAX];
    int r = 0;
    if (!strcmp(name, LINK) || !strcmp(name, s->current) || !in_folder(path, s->p->path, name, ""))
        return 0;
    if (has_path(s->p, name, "") || has_path(s->p, name, "/"))
        return 0;
    if (!strncmp(name, "..", 2))
        r = kei_folder_remove(s->io, path, NULL);
    if (r < 0 || strncmp(name, "..", 2) != 0)
        r = s->io->unlink(s->io->user, path);
    return 0; /* what could not go now goes with the next change */
}

static int apply_files(const struct ke_io *io, struct kei_vplan *p, int64_t stamp,
                       bool *ret_changed, struct ke_error *err)
{
    char name[32];
    int r = make_folders(io, p->path, strlen(p->conf->data) + 1, 0700, 0755);
    if (r < 0)
        return failed(err, r, p, "its folder");
    for (size_t i = 0; i < p->n_files; i++) {
        r = p->files[i].keep ? keep_old(io, p, &p->files[i], err) : 0;
        if (r < 0)
            return r;
    }
    if (up_to_date(io, p))
        return show(io, p, err);
    r = write_all(io, p, stamp, name, err);
    if (r == 0)
        r = point_to(io, p, name, err);
    if (r == 0)
        r = show(io, p, err);
    if (r < 0)
        return r;
    struct sweep s = {io, p, name};
    *ret_changed = true;
    r = io->list(io->user, p->path, sweep_one, &s);
    return r < 0 ? failed(err, r, p, "away what is older") : 0;
}

/* ---- host paths ---- */

static bool below(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/')
        n--;
    return !strncmp(path, folder, n) && (n == 1 || path[n] == '/' || path[n] == '\0');
}

/* Resolved, since a link on the way may lead anywhere. */
static bool below_real(const char *path, const char *folder)
{
    char real[PATH_MAX];
    return below(path, realpath(folder, real) ? real : folder);
}

static int host_allowed(const struct kei_vplan *p, const char *real, struct ke_error *err)
{
    char data[PATH_MAX];
    bool ok = false;
    /* the node's own keys and the other pods' secrets: in it, or seen from above */
    if (!realpath(p->conf->data, data))
        return kei_error_errno(err, errno, "volume %s: data folder %s", p->name, p->conf->data);
    if (below(real, data) || below(data, real))
        return kei_error(err, KE_EACCES,
                         "volume %s: hostPath %s is not allowed: the node's own data is there",
                         p->name, p->path);
    for (size_t i = 0; !ok && i < p->conf->n_host_path_allow; i++)
        ok = below_real(real, p->conf->host_path_allow[i]);
    if (ok)
        return 0;
    return kei_error(err, KE_EACCES,
                     "volume %s: hostPath %s is not allowed on this node: its host_path_allow "
                     "(ke-node --host-path-allow) does not list it",
                     p->name, p->path);
}

/* Resolves as much of path as there is; the rest is appended as it stands. */
static bool resolve(const char *path, char real[PATH_MAX])
{
    char head[PATH_MAX];
    size_t n = strlen(path);
    memcpy(head, path, n + 1); /* checked: shorter than PATH_MAX */
    while (!realpath(n ? head : "/", real)) {
        if (errno != ENOENT || n == 0)
            return false;
        while (n > 0 && head[n - 1] != '/')
            n--;
        while (n > 0 && head[n - 1] == '/')
            n--;
        head[n] = '\0';
    }
    size_t m = strlen(real);
    const char *rest = path + n;
    while (*rest == '/')
        rest++;
    if (!*rest)
        return true;
    int k = snprintf(real + m, PATH_MAX - m, "%s%s", m > 1 ? "/" : "", rest);
    return k > 0 && (size_t)k < PATH_MAX - m;
}

static int host_make(const char *real, bool dir)
{
    char part[PATH_MAX];
    size_t n = strlen(real);
    memcpy(part, real, n + 1);
    for (size_t i = 1; dir && i <= n; i++) {
        if (real[i] != '/' && real[i] != '\0')
            continue;
        part[i] = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -1;
        part[i] = real[i];
    }
    if (dir)
        return 0;
    int fd = open(real, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno != EEXIST ? -1 : 0;
}

static bool type_fits(const char *type, mode_t mode)
{
    return !*type || (!strncmp(type, "Directory", 9) && S_ISDIR(mode)) ||
           (!strncmp(type, "File", 4) && S_ISREG(mode)) ||
           (!strcmp(type, "Socket") && S_ISSOCK(mode)) ||
           (!strcmp(type, "CharDevice") && S_ISCHR(mode)) ||
           (!strcmp(type, "BlockDevice") && S_ISBLK(mode));
}

static int apply_host_path(struct kei_vplan *p, struct ke_error *err)
{
    char real[PATH_MAX];
    struct stat st;
    if (!resolve(p->path, real))
        return kei_error_errno(err, errno, "volume %s: hostPath %s", p->name, p->path);
    int r = host_allowed(p, real, err);
    if (r < 0)
        return r;
    bool dir = !strcmp(p->host_type, "DirectoryOrCreate");
    bool file = !strcmp(p->host_type, "FileOrCreate");
    if ((dir || file) && lstat(real, &st) < 0 && host_make(real, dir) < 0)
        return kei_error_errno(err, errno, "volume %s: could not make hostPath %s", p->name,
                               p->path);
    if (stat(real, &st) < 0)
        return kei_error_errno(err, errno, "volume %s: hostPath %s", p->name, p->path);
    if (!type_fits(p->host_type, st.st_mode))
        return kei_error(err, KE_EINVAL, "volume %s: hostPath type check failed: %s is not a %s",
                         p->name, p->path, p->host_type);
    p->path = kei_arena_strdup(p->a, kei_str(real));
    return p->path ? 0 : kei_error(err, KE_ENOMEM, "out of memory for volume %s", p->name);
}

int kei_volume_apply(const struct ke_io *io, struct kei_vplan *p, int64_t stamp, bool *ret_changed,
                     struct ke_error *err)
{
    bool changed = false;
    int r = 0;
    if (p->kind == KEI_VOL_HOST_PATH)
        r = apply_host_path(p, err);
    else if (p->kind == KEI_VOL_EMPTY_DIR)
        r = make_folders(io, p->path, strlen(p->conf->data) + 1, 0700, 0777);
    else
        r = apply_files(io, p, stamp, &changed, err);
    if (r < 0 && p->kind == KEI_VOL_EMPTY_DIR)
        return failed(err, r, p, "its folder");
    if (ret_changed)
        *ret_changed = changed;
    return r;
}
