/* SPDX-License-Identifier: Apache-2.0 */
/* See control.h. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_MAX 512
#define ANSWER_S 10 /* a command waits so long for a program that hangs */

struct client {
    int fd; /* -1: free */
    char in[REQUEST_MAX];
    size_t n_in;
    char *out; /* the answer, once made */
    size_t n_out, sent;
};

struct control {
    int fd, folder; /* folder: -1, or held open for the short form of its path */
    struct sockaddr_un addr;
    control_fn fn;
    void *user;
    struct client clients[CONTROL_CLIENTS];
};

/*
 * A socket's path has room for 107 bytes. A longer one is given by way of a descriptor of its folder,
 * *ret_folder, to be closed after the address was used.
 */
static int make_addr(struct sockaddr_un *a, const char *folder, int *ret_folder)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    *ret_folder = -1;
    int n = snprintf(a->sun_path, sizeof a->sun_path, "%s/control.sock", folder);
    if (n >= 0 && (size_t)n < sizeof a->sun_path)
        return 0;
    *ret_folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d/control.sock", *ret_folder);
    return *ret_folder < 0 ? -1 : 0;
}

struct control *control_new(const char *folder, control_fn fn, void *user)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fn = fn;
    c->user = user;
    c->folder = -1;
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        c->clients[i].fd = -1;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int bad = c->fd < 0 || make_addr(&c->addr, folder, &c->folder) < 0 ||
              (unlink(c->addr.sun_path) < 0 && errno != ENOENT) ||
              bind(c->fd, (struct sockaddr *)&c->addr, sizeof c->addr) < 0 ||
              listen(c->fd, CONTROL_CLIENTS) < 0;
    umask(old);
    if (bad) {
        int e = errno;
        if (c->fd >= 0)
            close(c->fd);
        if (c->folder >= 0)
            close(c->folder);
        free(c);
        errno = e;
        return NULL;
    }
    return c;
}

static void drop(struct client *cl)
{
    if (cl->fd >= 0)
        close(cl->fd);
    free(cl->out);
    memset(cl, 0, sizeof *cl);
    cl->fd = -1;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        drop(&c->clients[i]);
    unlink(c->addr.sun_path);
    if (c->folder >= 0)
        close(c->folder);
    close(c->fd);
    free(c);
}

size_t control_prepare(struct control *c, struct pollfd *p)
{
    size_t n = 0;
    p[n++] = (struct pollfd){.fd = c->fd, .events = POLLIN};
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        if (c->clients[i].fd >= 0)
            p[n++] = (struct pollfd){.fd = c->clients[i].fd,
                                     .events = c->clients[i].out ? POLLOUT : POLLIN};
    return n;
}

static void take_client(struct control *c)
{
    int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (int i = 0; i < CONTROL_CLIENTS; i++)
        if (c->clients[i].fd < 0) {
            c->clients[i].fd = fd;
            return;
        }
    close(fd);
}

static void answer(struct control *c, struct client *cl)
{
    FILE *f = open_memstream(&cl->out, &cl->n_out);
    if (!f) {
        drop(cl);
        return;
    }
    c->fn(c->user, cl->in, f);
    if (fclose(f) != 0)
        drop(cl);
}

static void client_io(struct control *c, struct client *cl)
{
    if (!cl->out) {
        ssize_t n = read(cl->fd, cl->in + cl->n_in, sizeof cl->in - 1 - cl->n_in);
        if (n <= 0) {
            if (n == 0 || (errno != EAGAIN && errno != EINTR))
                drop(cl);
            return;
        }
        cl->n_in += (size_t)n;
        cl->in[cl->n_in] = 0;
        char *end = strchr(cl->in, '\n');
        if (end) {
            *end = 0;
            answer(c, cl);
        } else if (cl->n_in == sizeof cl->in - 1) {
            drop(cl);
        }
        return;
    }
    ssize_t n = send(cl->fd, cl->out + cl->sent, cl->n_out - cl->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        drop(cl);
        return;
    }
    if (n > 0)
        cl->sent += (size_t)n;
    if (cl->sent == cl->n_out)
        drop(cl);
}

void control_handle(struct control *c, const struct pollfd *p, size_t n)
{
    for (size_t k = 1; k < n; k++)
        for (int i = 0; p[k].revents && i < CONTROL_CLIENTS; i++)
            if (c->clients[i].fd == p[k].fd)
                client_io(c, &c->clients[i]);
    if (p[0].revents)
        take_client(c);
}

int control_ask(const char *folder, const char *request, FILE *out)
{
    const struct timeval patience = {.tv_sec = ANSWER_S};
    struct sockaddr_un a;
    char buf[4096];
    ssize_t n = -1;
    int dir = -1, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 &&
        make_addr(&a, folder, &dir) == 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
        send(fd, request, strlen(request), MSG_NOSIGNAL) >= 0 &&
        send(fd, "\n", 1, MSG_NOSIGNAL) == 1)
        while ((n = read(fd, buf, sizeof buf)) > 0)
            fwrite(buf, 1, (size_t)n, out);
    int e = errno == EAGAIN ? ETIMEDOUT : errno; /* it hangs, or was stopped */
    close(fd);
    if (dir >= 0)
        close(dir);
    errno = e;
    return n == 0 ? 0 : -1;
}
