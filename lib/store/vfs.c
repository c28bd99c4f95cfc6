/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's files over a context's file table, see vfs.h. Shared memory, memory maps, rollback
 * journals and temporary files are refused: the store never needs them. Runs on the disk worker or
 * on the thread that opens the store.
 */
#include "store/vfs.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

/* Days from the start of SQLite's calendar to 1970, in milliseconds. */
#define JULIAN_1970_MS INT64_C(210866760000000)

struct kei_vfs_file {
    sqlite3_file base;
    struct kei_vfs *v;
    struct ke_io_file *f;
    bool paged;    /* a database: its pages are sealed */
    bool dirty;    /* written or cut since the last sync */
    bool new_name; /* its name may not be durable yet */
    int64_t lo;    /* where the unsynced part begins, if dirty */
};

int kei_store_path(char *out, const char *folder, const char *name)
{
    return kei_path_join(out, KEI_PATH_MAX, folder, name) ? 0 : KE_ELIMIT;
}

static struct kei_vfs_file *to_file(sqlite3_file *f)
{
    return (struct kei_vfs_file *)f;
}

static struct kei_vfs *to_vfs(sqlite3_vfs *v)
{
    return v->pAppData;
}

/* Remembers why, for the text: SQLite only carries a class on. */
static int failed(struct kei_vfs *v, int code, int rc)
{
    v->last = code;
    return code == KE_ENOSPC && rc == SQLITE_IOERR_WRITE ? SQLITE_FULL : rc;
}

static void touched(struct kei_vfs_file *f, int64_t off)
{
    if (!f->dirty || off < f->lo)
        f->lo = off;
    f->dirty = true;
}

/* ---- files ---- */

static int file_close(sqlite3_file *file)
{
    struct kei_vfs_file *f = to_file(file);
    struct kei_vfs *v = f->v;
    if (v->wal == f)
        v->wal = NULL;
    int r = v->io->close(v->io->user, f->f);
    return r < 0 ? failed(v, r, SQLITE_IOERR_CLOSE) : SQLITE_OK;
}

static int file_read(sqlite3_file *file, void *to, int n, sqlite3_int64 off)
{
    struct kei_vfs_file *f = to_file(file);
    struct kei_vfs *v = f->v;
    size_t got = 0, want = (size_t)n;
    if (v->yield && atomic_load(v->yield)) {
        v->yielded = true;
        return SQLITE_IOERR_READ;
    }
    int r = v->io->pread(v->io->user, f->f, to, want, off, &got);
    if (r < 0) {
        v->read_failed = true;
        return failed(v, r, SQLITE_IOERR_READ);
    }
    if (got < want) {
        memset((char *)to + got, 0, want - got);
        return SQLITE_IOERR_SHORT_READ;
    }
    if (f->paged && want == KEI_PAGE && off % KEI_PAGE == 0) {
        uint32_t pgno = (uint32_t)(off / KEI_PAGE) + 1;
        if (!kei_page_good(to, pgno)) {
            v->bad_page = pgno;
            return failed(v, KE_ECORRUPT, SQLITE_IOERR_DATA);
        }
    }
    return SQLITE_OK;
}

static int file_write(sqlite3_file *file, const void *from, int n, sqlite3_int64 off)
{
    struct kei_vfs_file *f = to_file(file);
    struct kei_vfs *v = f->v;
    if (f->paged) {
        /* A part of a page would have no sum. SQLite writes whole ones, of the size we chose. */
        if (n != (int)KEI_PAGE || off % KEI_PAGE != 0)
            return failed(v, KE_EIO, SQLITE_IOERR_WRITE);
        memcpy(v->page, from, KEI_PAGE);
        kei_page_seal(v->page, (uint32_t)(off / KEI_PAGE) + 1);
        from = v->page;
    }
    touched(f, off);
    int r = v->io->pwrite(v->io->user, f->f, from, (size_t)n, off);
    return r < 0 ? failed(v, r, SQLITE_IOERR_WRITE) : SQLITE_OK;
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 length)
{
    struct kei_vfs_file *f = to_file(file);
    touched(f, length);
    int r = f->v->io->truncate(f->v->io->user, f->f, length);
    return r < 0 ? failed(f->v, r, SQLITE_IOERR_TRUNCATE) : SQLITE_OK;
}

static int file_sync(sqlite3_file *file, int flags)
{
    struct kei_vfs_file *f = to_file(file);
    struct kei_vfs *v = f->v;
    (void)flags;
    if (f->dirty) {
        int r = v->io->sync(v->io->user, f->f);
        if (r < 0)
            return failed(v, r, SQLITE_IOERR_FSYNC);
        f->dirty = false;
    }
    if (f->new_name) {
        int r = v->io->sync_dir(v->io->user, v->folder);
        if (r < 0)
            return failed(v, r, SQLITE_IOERR_DIR_FSYNC);
        f->new_name = false;
    }
    return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *ret)
{
    struct kei_vfs_file *f = to_file(file);
    int64_t n = 0;
    int r = f->v->io->length(f->v->io->user, f->f, &n);
    if (r < 0)
        return failed(f->v, r, SQLITE_IOERR_FSTAT);
    *ret = n;
    return SQLITE_OK;
}

/* The file is locked as a whole while it is open, and one connection uses it: nothing to do. */
static int file_lock(sqlite3_file *file, int level)
{
    (void)file;
    (void)level;
    return SQLITE_OK;
}

static int file_reserved(sqlite3_file *file, int *ret)
{
    (void)file;
    *ret = 0;
    return SQLITE_OK;
}

static int file_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *file)
{
    (void)file;
    return 512;
}

/* As SQLite assumes everywhere: a cut during a write harms no byte outside of what is written. */
static int file_traits(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
};

/* ---- the table ---- */

static int vfs_open(sqlite3_vfs *base, const char *name, sqlite3_file *file, int flags, int *ret)
{
    struct kei_vfs *v = to_vfs(base);
    struct kei_vfs_file *f = to_file(file);
    char path[KEI_PATH_MAX];
    *f = (struct kei_vfs_file){.v = v};
    bool paged = (flags & SQLITE_OPEN_MAIN_DB) != 0;
    if (!name || (!paged && !(flags & SQLITE_OPEN_WAL)))
        return failed(v, KE_ENOTSUP, SQLITE_CANTOPEN);
    uint32_t how = KE_IO_READ | KE_IO_WRITE | (flags & SQLITE_OPEN_CREATE ? KE_IO_CREATE : 0);
    int r = kei_store_path(path, v->folder, name);
    if (r == 0)
        r = v->io->open(v->io->user, path, how, 0600, &f->f);
    if (r == 0 && paged) {
        r = v->io->lock(v->io->user, f->f);
        if (r < 0)
            (void)v->io->close(v->io->user, f->f);
    }
    if (r < 0)
        return failed(v, r, r == KE_EBUSY ? SQLITE_BUSY : SQLITE_CANTOPEN);
    f->base.pMethods = &methods;
    f->paged = paged;
    f->new_name = !paged;
    if (!strcmp(name, KEI_WAL_FILE))
        v->wal = f;
    if (ret)
        *ret = (flags & ~SQLITE_OPEN_READONLY) | SQLITE_OPEN_READWRITE;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *name, int sync_dir)
{
    struct kei_vfs *v = to_vfs(base);
    char path[KEI_PATH_MAX];
    int r = kei_store_path(path, v->folder, name);
    if (r == 0)
        r = v->io->unlink(v->io->user, path);
    if (r == KE_ENOTFOUND)
        return SQLITE_IOERR_DELETE_NOENT;
    if (r < 0)
        return failed(v, r, SQLITE_IOERR_DELETE);
    r = sync_dir ? v->io->sync_dir(v->io->user, v->folder) : 0;
    return r < 0 ? failed(v, r, SQLITE_IOERR_DIR_FSYNC) : SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *base, const char *name, int flags, int *ret)
{
    struct kei_vfs *v = to_vfs(base);
    struct ke_io_stat st = {.size = sizeof st};
    char path[KEI_PATH_MAX];
    size_t n = strlen(name);
    (void)flags;
    *ret = 0;
    /* Nobody writes rollback journals here: one that lies about is not to be played back. */
    if (n > 8 && !strcmp(name + n - 8, "-journal"))
        return SQLITE_OK;
    int r = kei_store_path(path, v->folder, name);
    if (r == 0)
        r = v->io->stat(v->io->user, path, &st);
    if (r < 0 && r != KE_ENOTFOUND)
        return failed(v, r, SQLITE_IOERR_ACCESS);
    *ret = r == 0 && !st.is_dir;
    return SQLITE_OK;
}

static int vfs_full(sqlite3_vfs *base, const char *name, int n, char *out)
{
    size_t len = strlen(name);
    (void)base;
    if (len >= (size_t)n)
        return SQLITE_CANTOPEN;
    memcpy(out, name, len + 1);
    return SQLITE_OK;
}

static void *vfs_dlopen(sqlite3_vfs *base, const char *name)
{
    (void)base;
    (void)name;
    return NULL;
}

static void vfs_dlerror(sqlite3_vfs *base, int n, char *out)
{
    (void)base;
    if (n > 0)
        out[0] = 0;
}

static void (*vfs_dlsym(sqlite3_vfs *base, void *handle, const char *symbol))(void)
{
    (void)base;
    (void)handle;
    (void)symbol;
    return NULL;
}

static void vfs_dlclose(sqlite3_vfs *base, void *handle)
{
    (void)base;
    (void)handle;
}

static int vfs_random(sqlite3_vfs *base, int n, char *out)
{
    for (int i = 0; i < n; i += 8) {
        uint64_t r = kei_ctx_random64(to_vfs(base)->ctx);
        memcpy(out + i, &r, (size_t)(n - i < 8 ? n - i : 8));
    }
    return n;
}

static int vfs_sleep(sqlite3_vfs *base, int us)
{
    (void)base;
    return us; /* nothing here is ever waited for */
}

static int vfs_time(sqlite3_vfs *base, sqlite3_int64 *ret)
{
    *ret = ke_ctx_real_ms(to_vfs(base)->ctx) + JULIAN_1970_MS;
    return SQLITE_OK;
}

static int vfs_time_days(sqlite3_vfs *base, double *ret)
{
    sqlite3_int64 ms = 0;
    int rc = vfs_time(base, &ms);
    *ret = (double)ms / 86400000.0;
    return rc;
}

static int vfs_last_error(sqlite3_vfs *base, int n, char *out)
{
    vfs_dlerror(base, n, out);
    return 0;
}

int kei_vfs_init(struct kei_vfs *v, struct ke_ctx *ctx, const char *folder, struct ke_error *err)
{
    *v = (struct kei_vfs){.ctx = ctx, .io = kei_ctx_io(ctx), .folder = folder};
    /* Its address tells it from every other one in the process, other copies of us included. */
    (void)snprintf(v->name, sizeof v->name, "kubeedge-%llx", (unsigned long long)(uintptr_t)v);
    v->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct kei_vfs_file),
        .mxPathname = 64,
        .zName = v->name,
        .pAppData = v,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full,
        .xDlOpen = vfs_dlopen,
        .xDlError = vfs_dlerror,
        .xDlSym = vfs_dlsym,
        .xDlClose = vfs_dlclose,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time_days,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time,
    };
    int rc = sqlite3_vfs_register(&v->base, 0);
    if (rc == SQLITE_OK)
        return 0;
    v->ctx = NULL;
    return kei_error(err, rc == SQLITE_NOMEM ? KE_ENOMEM : KE_ESYS,
                     "SQLite could not be started for the store in %s: %s", folder,
                     sqlite3_errstr(rc));
}

void kei_vfs_fini(struct kei_vfs *v)
{
    if (v->ctx)
        (void)sqlite3_vfs_unregister(&v->base);
    v->ctx = NULL;
}

void kei_vfs_clear(struct kei_vfs *v)
{
    v->last = 0;
    v->bad_page = 0;
    v->read_failed = false;
}

int kei_vfs_undo(struct kei_vfs *v)
{
    struct kei_vfs_file *f = v->wal;
    v->stale = false;
    if (!f || !f->dirty)
        return 0;
    /* Committed frames are synced, so everything from the first unsynced byte on is refuse. */
    int r = v->io->truncate(v->io->user, f->f, f->lo);
    if (r == 0)
        r = v->io->sync(v->io->user, f->f);
    if (r == 0)
        f->dirty = false;
    v->stale = r != 0;
    return r;
}
