/* SPDX-License-Identifier: Apache-2.0 */
/* See doubt.h. */
#include "node/doubt.h"

#include "base/file.h"

#define MARK "strays"

static int path_of(char path[4096], const char *data, const char *name, struct ke_error *err)
{
    return kei_path_join(path, 4096, data, name)
               ? 0
               : kei_error(err, KE_ELIMIT, "path of the data folder is too long");
}

/* 1, 0, or why it cannot be told. */
static int is_there(const struct ke_io *io, const char *data, const char *name,
                    struct ke_error *err)
{
    struct ke_io_stat st = {.size = sizeof st};
    char path[4096];
    int r = path_of(path, data, name, err);
    if (r < 0)
        return r;
    r = io->stat(io->user, path, &st);
    if (r == 0 || r == KE_ENOTFOUND)
        return r == 0;
    return kei_error(err, r, "could not look at %s (%s)", path, ke_strerror(r));
}

static int note_entry(void *arg, const char *name)
{
    (void)name;
    *(bool *)arg = true;
    return 1;
}

static int has_entries(const struct ke_io *io, const char *data, const char *name,
                       struct ke_error *err)
{
    bool some = false;
    char path[4096];
    int r = path_of(path, data, name, err);
    if (r < 0)
        return r;
    r = io->list(io->user, path, note_entry, &some);
    if (some || r >= 0 || r == KE_ENOTFOUND)
        return some;
    return kei_error(err, r, "could not list %s (%s)", path, ke_strerror(r));
}

int kei_doubt_look(const struct ke_io *io, const char *data, struct ke_error *err)
{
    static const char *const stores[] = {"store/kubeedge.db", "store/kubeedge.db.salvaged"};
    static const char *const works[] = {"pods", "run"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = is_there(io, data, stores[i], err);
    if (r != 0)
        return r < 0 ? r : 0;
    for (size_t i = 0; r == 0 && i < 2; i++)
        r = has_entries(io, data, works[i], err);
    return r > 0 ? kei_doubt_mark(io, data, err) : r;
}

int kei_doubt_mark(const struct ke_io *io, const char *data, struct ke_error *err)
{
    static const char text[] = "The store may have lost pods: containers without a pod are kept "
                               "until the cloud has told its pods.\n";
    char path[4096];
    int r = path_of(path, data, MARK, err);
    return r < 0 ? r : kei_file_replace(io, path, text, sizeof text - 1, 0600, err);
}

int kei_doubt_marked(const struct ke_io *io, const char *data, struct ke_error *err)
{
    return is_there(io, data, MARK, err);
}

int kei_doubt_clear(const struct ke_io *io, const char *data, struct ke_error *err)
{
    char path[4096];
    int r = path_of(path, data, MARK, err);
    return r < 0 ? r : kei_file_remove(io, path, err);
}
