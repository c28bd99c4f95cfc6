/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that listen: binding, and the files of unix sockets. */
#include "net/bind.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* A socket file nobody listens on is left from a process that died. */
static int remove_stale(const struct kei_addr *a)
{
    struct stat st;
    const char *path = a->u.un.sun_path;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : errno;
    if (!S_ISSOCK(st.st_mode))
        return EEXIST;
    int fd = kei_sock_open(AF_UNIX);
    if (fd < 0)
        return errno;
    int r = connect(fd, &a->u.any, a->len);
    int errnum = r == 0 || errno == EAGAIN ? EADDRINUSE : errno;
    close(fd);
    if (errnum != ECONNREFUSED)
        return errnum;
    return unlink(path) < 0 && errno != ENOENT ? errno : 0;
}

static int bind_unix(int fd, const struct kei_addr *a, uint32_t mode, struct kei_sock_file *file)
{
    struct stat st;
    int errnum = remove_stale(a);

    if (errnum)
        return errnum;
    /* the mode of the socket itself is what bind gives the file: never open to others, not even
     * for a moment */
    if (fchmod(fd, mode ? mode : 0600) < 0 || bind(fd, &a->u.any, a->len) < 0 ||
        lstat(a->u.un.sun_path, &st) < 0)
        return errno;
    file->dev = st.st_dev;
    file->ino = st.st_ino;
    return 0;
}

static int bind_inet(int fd, struct kei_addr *a)
{
    int one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->u.any.sa_family == AF_INET6) {
        /* "::" takes IPv4 as well, whatever the system's default is */
        int v6only = !IN6_IS_ADDR_UNSPECIFIED(&a->u.v6.sin6_addr);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
    }
    if (bind(fd, &a->u.any, a->len) < 0)
        return errno;
    a->len = sizeof a->u;
    return getsockname(fd, &a->u.any, &a->len) < 0 ? errno : 0;
}

int kei_sock_listen(struct kei_addr *a, uint32_t mode, struct kei_sock_file *file,
                    struct ke_error *err)
{
    char text[KEI_ADDR_TEXT];
    bool un = a->u.any.sa_family == AF_UNIX;

    *file = (struct kei_sock_file){0};
    kei_addr_text(a, text);
    int fd = kei_sock_open(a->u.any.sa_family);
    if (fd < 0)
        return kei_error_errno(err, errno, "could not open a socket for %s", text);
    int errnum = un ? bind_unix(fd, a, mode, file) : bind_inet(fd, a);
    if (errnum == 0 && listen(fd, SOMAXCONN) < 0)
        errnum = errno;
    if (errnum == 0)
        return fd;
    kei_sock_unlink(a, file);
    close(fd);
    if (errnum == EADDRINUSE)
        return kei_error(err, KE_EADDRINUSE,
                         "could not listen on %s: another program does; choose another %s", text,
                         un ? "path" : "port");
    return kei_error_errno(err, errnum, "could not listen on %s", text);
}

void kei_sock_unlink(const struct kei_addr *a, const struct kei_sock_file *file)
{
    struct stat st;

    if (file->ino == 0 || lstat(a->u.un.sun_path, &st) < 0)
        return;
    if (st.st_dev == file->dev && st.st_ino == file->ino)
        unlink(a->u.un.sun_path);
}
