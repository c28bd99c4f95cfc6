/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files through the context's file table: atomic replace, read with cap, folder lock. */
#ifndef KEI_BASE_FILE_H
#define KEI_BASE_FILE_H

#include <limits.h>

#include <kubeedge/sys/io.h>

#include "base/buf.h"
#include "base/error.h"

/* Why a call of the file table failed, for people: "permission denied". */
const char *kei_io_text(int code);
/* Joins with one '/'; false if it does not fit. */
bool kei_path_join(char *out, size_t n, const char *a, const char *b);
/*
 * Replaces path atomically and durably: PATH.tmp written, synced, renamed, folder synced. A crash
 * at any point leaves the old or the new file.
 */
int kei_file_replace(const struct ke_io *io, const char *path, const void *p, size_t n,
                     uint32_t mode, struct ke_error *err);
/* Reads all, appended to out; KE_ELIMIT over max bytes; KE_ENOTFOUND; KE_EINVAL if it is no regular
 * file (it is not waited for one that is a FIFO). */
int kei_file_read(const struct ke_io *io, const char *path, size_t max, struct ke_buf *out,
                  struct ke_error *err);
/* Removes durably; a missing one is no error. */
int kei_file_remove(const struct ke_io *io, const char *path, struct ke_error *err);
/* Makes a folder if missing (and syncs its parent). */
int kei_folder_make(const struct ke_io *io, const char *path, uint32_t mode, struct ke_error *err);
/* Removes a folder with all in it; not following links. A missing one is no error. */
int kei_folder_remove(const struct ke_io *io, const char *path, struct ke_error *err);
/*
 * The same in slices, for trees of any size: a job of the disk worker must not hold up the others.
 * Zero before the first call; path is the same in all. Takes away at most max names: 1 if some are
 * left, 0 when the folder is gone, or an error as above.
 */
struct kei_folder_removal {
    char path[PATH_MAX]; /* the folder being emptied */
    size_t root;         /* length of the folder to remove */
    unsigned hoisted;
};
int kei_folder_remove_some(const struct ke_io *io, struct kei_folder_removal *rm, const char *path,
                           uint32_t max, struct ke_error *err);
/* Takes FOLDER/lock; KE_EBUSY names the folder. Held until closed. */
int kei_folder_lock(const struct ke_io *io, const char *folder, struct ke_io_file **ret,
                    struct ke_error *err);

#endif
