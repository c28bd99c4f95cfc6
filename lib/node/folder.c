/* SPDX-License-Identifier: Apache-2.0 */
/* See folder.h. */
#include "node/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/loop.h"

static int guard(struct ke_ctx *ctx, const char *path, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return kei_fail(ctx, KE_EIO, "could not look at data folder %s: error %d", path, errno);
    if (st.st_uid != geteuid())
        return kei_fail(ctx, KE_EACCES,
                        "data folder %s belongs to user %lu, the node runs as user %lu: use a "
                        "folder of its own, or change the owner",
                        path, (unsigned long)st.st_uid, (unsigned long)geteuid());
    if ((st.st_mode & 077) == 0)
        return 0;
    if (fchmod(fd, 0700) == 0) {
        kei_log(ctx, KE_LOG_WARN, "node",
                "data folder %s was open to other users (mode %03o): it is 700 now", path,
                (unsigned)st.st_mode & 0777);
        return 0;
    }
    if (st.st_mode & 022)
        return kei_fail(ctx, KE_EACCES,
                        "data folder %s can be written by other users (mode %03o), and that could "
                        "not be changed: use another folder",
                        path, (unsigned)st.st_mode & 0777);
    kei_log(ctx, KE_LOG_WARN, "node",
            "data folder %s can be read by other users (mode %03o), and that could not be changed",
            path, (unsigned)st.st_mode & 0777);
    return 0;
}

int kei_node_folder_guard(struct ke_ctx *ctx, const char *path)
{
    if (kei_ctx_io(ctx)->stat != ke_io_posix()->stat)
        return 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return kei_fail(ctx, errno == EACCES ? KE_EACCES : KE_EIO,
                        "could not open data folder %s: error %d", path, errno);
    int r = guard(ctx, path, fd);
    (void)close(fd);
    return r;
}
