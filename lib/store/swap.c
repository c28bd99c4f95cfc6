/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a complete new file takes the place of the database: in steps of which each is durable before
 * the next one needs it, and which are taken up again after a crash. Runs where the store's file
 * work runs.
 *
 * A log belongs to one file and says nothing of which: it must be gone, durably, before another
 * file takes the name, and may go only after the other file is complete and has a durable name:
 *
 *     kubeedge.db.new        written, synced
 *     kubeedge.db.salvaged   renamed to; names synced: from here on a crash ends here, too
 *     kubeedge.db-wal        removed; names synced
 *     kubeedge.db            renamed to; durable with the log's name, before the first commit is
 */
#include <stdio.h>
#include <string.h>

#include "store/store_priv.h"

static int failed(struct ke_error *err, int code, const char *what, const char *name,
                  const char *folder)
{
    return kei_error(err, code, "could not %s %s in %s (%s)", what, name, folder,
                     ke_strerror(code));
}

int kei_swap_remove(struct ke_ctx *ctx, const char *folder, const char *name, struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(ctx);
    char path[KEI_PATH_MAX];
    int r = kei_store_path(path, folder, name);
    if (r == 0)
        r = io->unlink(io->user, path);
    return r == 0 || r == KE_ENOTFOUND ? 0 : failed(err, r, "remove", name, folder);
}

static int move(struct ke_ctx *ctx, const char *folder, const char *from, const char *to,
                struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(ctx);
    char a[KEI_PATH_MAX], b[KEI_PATH_MAX];
    int r = kei_store_path(a, folder, from);
    if (r == 0)
        r = kei_store_path(b, folder, to);
    if (r == 0)
        r = io->rename(io->user, a, b);
    return r == 0 ? 0 : failed(err, r, "rename", from, folder);
}

static int exists(struct ke_ctx *ctx, const char *folder, const char *name, bool *ret,
                  struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(ctx);
    struct ke_io_stat st = {.size = sizeof st};
    char path[KEI_PATH_MAX];
    int r = kei_store_path(path, folder, name);
    if (r == 0)
        r = io->stat(io->user, path, &st);
    *ret = r == 0;
    return r == 0 || r == KE_ENOTFOUND ? 0 : failed(err, r, "look at", name, folder);
}

static int sync_names(struct ke_ctx *ctx, const char *folder, struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(ctx);
    int r = io->sync_dir(io->user, folder);
    return r == 0 ? 0 : failed(err, r, "make durable", "the names", folder);
}

static int sync_file(struct ke_ctx *ctx, const char *folder, const char *name, struct ke_error *err)
{
    const struct ke_io *io = kei_ctx_io(ctx);
    struct ke_io_file *f = NULL;
    char path[KEI_PATH_MAX];
    int r = kei_store_path(path, folder, name);
    if (r == 0)
        r = io->open(io->user, path, KE_IO_READ | KE_IO_WRITE, 0, &f);
    if (r == 0) {
        r = io->sync(io->user, f);
        int c = io->close(io->user, f);
        r = r < 0 ? r : c;
    }
    return r == 0 ? 0 : failed(err, r, "make durable", name, folder);
}

/* The last two steps: nothing but these is done after KEI_READY_FILE has its name. */
static int finish(struct ke_ctx *ctx, const char *folder, struct ke_error *err)
{
    int r = kei_swap_remove(ctx, folder, KEI_WAL_FILE, err);
    if (r == 0)
        r = sync_names(ctx, folder, err);
    if (r == 0)
        r = move(ctx, folder, KEI_READY_FILE, KEI_DB_FILE, err);
    return r;
}

static int remove_if_there(struct ke_ctx *ctx, const char *folder, const char *name,
                           struct ke_error *err)
{
    bool there = false;
    int r = exists(ctx, folder, name, &there, err);
    return r == 0 && there ? kei_swap_remove(ctx, folder, name, err) : r;
}

int kei_swap_recover(struct ke_ctx *ctx, const char *folder, struct ke_error *err)
{
    bool ready = false;
    int r = exists(ctx, folder, KEI_READY_FILE, &ready, err);
    if (r == 0 && ready)
        r = finish(ctx, folder, err);
    if (r == 0)
        r = remove_if_there(ctx, folder, KEI_NEW_FILE, err);
    if (r == 0)
        r = remove_if_there(ctx, folder, KEI_NEW_WAL_FILE, err);
    return r;
}

int kei_swap_create(struct ke_ctx *ctx, const char *folder, struct ke_error *err)
{
    bool log = false;
    int r = exists(ctx, folder, KEI_WAL_FILE, &log, err);
    if (r == 0 && log) /* of a database that somebody has taken away */
        r = kei_swap_remove(ctx, folder, KEI_WAL_FILE, err);
    if (r == 0 && log)
        r = sync_names(ctx, folder, err);
    if (r == 0)
        r = sync_file(ctx, folder, KEI_NEW_FILE, err);
    if (r == 0)
        r = move(ctx, folder, KEI_NEW_FILE, KEI_DB_FILE, err);
    return r;
}

static void aside_name(char out[48], int n)
{
    (void)snprintf(out, 48, "%s.damaged-%d", KEI_DB_FILE, n);
}

/* The newest gets the highest number; the oldest gives way. */
static int set_aside(struct ke_ctx *ctx, const char *folder, struct ke_error *err)
{
    char from[48], to[48];
    bool there = false;
    int r = exists(ctx, folder, KEI_DB_FILE, &there, err);
    if (r < 0 || !there)
        return r;
    int n = 1;
    for (; r == 0 && n <= KEI_ASIDE_MAX; n++) {
        aside_name(to, n);
        r = exists(ctx, folder, to, &there, err);
        if (r == 0 && !there)
            break;
    }
    for (int i = 2; r == 0 && n > KEI_ASIDE_MAX && i <= KEI_ASIDE_MAX; i++) {
        aside_name(from, i);
        aside_name(to, i - 1);
        r = move(ctx, folder, from, to, err);
    }
    aside_name(to, n > KEI_ASIDE_MAX ? KEI_ASIDE_MAX : n);
    return r == 0 ? move(ctx, folder, KEI_DB_FILE, to, err) : r;
}

int kei_swap_replace(struct ke_ctx *ctx, const char *folder, bool keep, struct ke_error *err)
{
    int r = sync_file(ctx, folder, KEI_NEW_FILE, err);
    if (r == 0)
        r = move(ctx, folder, KEI_NEW_FILE, KEI_READY_FILE, err);
    if (r == 0)
        r = sync_names(ctx, folder, err);
    if (r == 0 && keep)
        r = set_aside(ctx, folder, err);
    if (r == 0)
        r = finish(ctx, folder, err);
    return r;
}
