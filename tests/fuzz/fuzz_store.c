/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database file and its log as they lie on a disk that may have done anything to them: opening
 * without SQLite, rows and keys out of raw pages. What comes out is inside of its bounds, and a row
 * has the sum it carries. First byte: where the file ends and the log begins, in 255ths.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/record.h"
#include "store/vfs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

/* ---- two files in memory, read-only ---- */

struct ke_io_file {
    const uint8_t *p;
    size_t n;
};

static struct ke_io_file files[2]; /* the database, the log */

static int io_open(void *user, const char *path, uint32_t flags, uint32_t mode,
                   struct ke_io_file **ret)
{
    (void)user;
    (void)flags;
    (void)mode;
    size_t n = strlen(path), log = strlen("-wal");
    *ret = &files[n > log && !strcmp(path + n - log, "-wal")];
    return (*ret)->p ? 0 : KE_ENOTFOUND;
}

static int io_close(void *user, struct ke_io_file *f)
{
    (void)user;
    (void)f;
    return 0;
}

static int io_pread(void *user, struct ke_io_file *f, void *to, size_t n, int64_t off,
                    size_t *ret_n)
{
    (void)user;
    size_t at = (size_t)off, have = at < f->n ? f->n - at : 0;
    *ret_n = n < have ? n : have;
    if (*ret_n > 0)
        memcpy(to, f->p + at, *ret_n);
    return 0;
}

static int io_length(void *user, struct ke_io_file *f, int64_t *ret)
{
    (void)user;
    *ret = (int64_t)f->n;
    return 0;
}

static int no_write(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    (void)user;
    (void)f;
    (void)p;
    (void)n;
    (void)off;
    return KE_EROFS;
}

static int no_truncate(void *user, struct ke_io_file *f, int64_t length)
{
    return no_write(user, f, NULL, 0, length);
}

static int no_sync(void *user, struct ke_io_file *f)
{
    return no_write(user, f, NULL, 0, 0);
}

static int no_path(void *user, const char *path)
{
    (void)path;
    return no_write(user, NULL, NULL, 0, 0);
}

static int no_paths(void *user, const char *path, const char *other)
{
    (void)other;
    return no_path(user, path);
}

static int no_mkdir(void *user, const char *path, uint32_t mode)
{
    (void)mode;
    return no_path(user, path);
}

static int no_stat(void *user, const char *path, struct ke_io_stat *ret)
{
    (void)ret;
    return no_path(user, path);
}

static int no_list(void *user, const char *path, int (*each)(void *arg, const char *name),
                   void *arg)
{
    (void)each;
    (void)arg;
    return no_path(user, path);
}

static const struct ke_io io = {
    .size = sizeof io,
    .open = io_open,
    .close = io_close,
    .pread = io_pread,
    .pwrite = no_write,
    .truncate = no_truncate,
    .sync = no_sync,
    .length = io_length,
    .lock = no_sync,
    .rename = no_paths,
    .unlink = no_path,
    .mkdir = no_mkdir,
    .rmdir = no_path,
    .sync_dir = no_path,
    .stat = no_stat,
    .list = no_list,
    .symlink = no_paths,
};

/* ---- what comes out ---- */

static int on_row(void *user, const struct ke_store_item *row)
{
    size_t *bytes = user;
    const unsigned char *p = row->value;
    *bytes += strlen(row->bucket) + strlen(row->key) + strlen(row->uid);
    for (size_t i = 0; i < row->len; i++)
        *bytes += p[i];
    return 0;
}

static int on_key(void *user, const char *bucket, const char *key)
{
    size_t *bytes = user;
    *bytes += strlen(bucket) + strlen(key);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_ctx *ctx = NULL;
    struct ke_ctx_config c;
    struct kei_pages pages;
    struct kei_reader reader;
    unsigned char page[KEI_PAGE];
    size_t bytes = 0, cut;
    bool good, all;
    if (size < 1 || size > 1u << 20)
        return 0;
    cut = (size - 1) * data[0] / 255;
    files[0] = (struct ke_io_file){data + 1, cut};
    files[1] = (struct ke_io_file){data + 1 + cut, size - 1 - cut};
    ke_ctx_config_init(&c, sizeof c);
    c.io = &io;
    MUST(ke_ctx_new(&ctx, &c, NULL) == 0);
    MUST(kei_pages_open(&pages, ctx, "/", NULL) == 0);
    MUST(pages.whole <= pages.last && pages.last <= pages.frames);
    MUST(kei_reader_init(&reader, &pages) == 0);
    for (uint32_t pgno = 0; pgno <= pages.n + 1; pgno++) {
        int r = kei_pages_read(&pages, pgno, page, &good);
        MUST(r == 0 || r == KE_ENOTFOUND);
        MUST(kei_pages_rank(&pages, pgno) <= pages.last);
        MUST(kei_reader_rows(&reader, pgno, on_row, &bytes) == 0);
    }
    MUST(kei_reader_keys(&reader, on_key, &bytes, &all) == 0);
    kei_reader_fini(&reader);
    kei_pages_close(&pages);
    ke_ctx_free(ctx);
    return 0;
}
