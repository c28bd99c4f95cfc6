/* SPDX-License-Identifier: Apache-2.0 */
/* See util.h. */
#include "util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- probe ---- */

static bool freed_in(struct probe *p, enum probe_event e)
{
    if (p->free_in != e)
        return false;
    kei_stream_free(p->s);
    p->s = NULL;
    return true;
}

static void on_open(void *user)
{
    struct probe *p = user;
    p->opens++;
    freed_in(p, PROBE_OPEN);
}

static size_t on_data(void *user, const char *bytes, size_t n)
{
    struct probe *p = user;
    size_t take = n > p->keep ? n - p->keep : 0;

    p->datas++;
    p->seen = n;
    if (freed_in(p, PROBE_DATA))
        take = n; /* what came is still ours to read */
    kei_buf_add(&p->in, bytes, take);
    if (p->finish_in_data)
        kei_stream_finish(p->s);
    if (p->pause_in_data)
        kei_stream_pause(p->s, true);
    return take;
}

static void on_drained(void *user)
{
    struct probe *p = user;
    p->drains++;
    freed_in(p, PROBE_DRAINED);
}

static void on_closed(void *user, int status, const char *text)
{
    struct probe *p = user;
    p->closes++;
    p->status = status;
    snprintf(p->text, sizeof p->text, "%s", text);
    freed_in(p, PROBE_CLOSED);
}

const struct kei_stream_ops probe_ops = {on_open, on_data, on_drained, on_closed};

void probe_init(struct probe *p)
{
    memset(p, 0, sizeof *p);
    kei_buf_init(&p->in, kei_alloc_malloc());
}

void probe_fini(struct probe *p)
{
    kei_stream_free(p->s);
    ke_buf_free(&p->in);
}

bool probe_is_open(void *p)
{
    return ((struct probe *)p)->opens > 0;
}

bool probe_is_closed(void *p)
{
    return ((struct probe *)p)->closes > 0;
}

/* ---- plain sockets ---- */

static struct sockaddr_in loopback(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* What is sent is there at once. */
static void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int raw_listen(uint16_t *ret_port)
{
    struct sockaddr_in a = loopback(0);
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

int raw_connect(uint16_t port)
{
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    no_delay(fd);
    return fd;
}

static bool is_ready(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, 0) > 0;
}

/* Until fd is ready; the clock moves only when neither it nor the loop has anything for a while. */
static void wait_ready(struct test_env *e, int fd, short events)
{
    int loop_fd, idle = e->idle_ms > 100 ? (int)e->idle_ms : 100;
    int64_t left;

    assert_int_equal(ke_ctx_fd(e->ctx, &loop_fd), 0);
    for (int moves = 0; moves < 1000; moves++) {
        for (;;) {
            struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = loop_fd, .events = POLLIN}};
            if (is_ready(fd, events))
                return;
            assert_int_equal(ke_ctx_prepare(e->ctx, &left), 0);
            if (left != 0 && poll(p, 2, idle) == 0)
                break;
            if (left == 0 || p[1].revents)
                assert_int_equal(ke_ctx_dispatch(e->ctx), 0);
        }
        test_clock_advance(&e->clock, left < 0 || left > 1000 ? 1000 : left);
    }
    fail_msg("nothing came from the loop's side");
}

int raw_accept(struct test_env *e, int listen_fd)
{
    wait_ready(e, listen_fd, POLLIN);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(fd >= 0);
    no_delay(fd);
    return fd;
}

void raw_send(struct test_env *e, int fd, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t r = send(fd, at, n, MSG_NOSIGNAL);
        if (r < 0 && errno == EAGAIN) {
            wait_ready(e, fd, POLLOUT);
            continue;
        }
        assert_true(r > 0);
        at += r;
        n -= (size_t)r;
    }
}

void raw_puts(struct test_env *e, int fd, const char *text)
{
    raw_send(e, fd, text, strlen(text));
}

void raw_recv(struct test_env *e, int fd, void *p, size_t n)
{
    char *at = p;

    while (n > 0) {
        wait_ready(e, fd, POLLIN);
        ssize_t r = recv(fd, at, n, 0);
        if (r <= 0)
            fail_msg("the connection ended with %zu bytes missing: %s", n,
                     r ? strerror(errno) : "end");
        at += r;
        n -= (size_t)r;
    }
}

void raw_recv_head(struct test_env *e, int fd, char *p, size_t size)
{
    size_t n = 0;

    do {
        assert_true(n + 1 < size);
        raw_recv(e, fd, p + n, 1);
        p[++n] = '\0';
    } while (n < 4 || memcmp(p + n - 4, "\r\n\r\n", 4) != 0);
}

long raw_recv_end(struct test_env *e, int fd, char *p, size_t size)
{
    size_t n = 0;

    for (;;) {
        wait_ready(e, fd, POLLIN);
        assert_true(n + 1 < size);
        ssize_t r = recv(fd, p + n, size - 1 - n, 0);
        p[n + (r > 0 ? (size_t)r : 0)] = '\0';
        if (r < 0)
            return -1;
        if (r == 0)
            return (long)n;
        n += (size_t)r;
    }
}

unsigned raw_segments_in(int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof info;

    memset(&info, 0, sizeof info);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n), 0);
    return info.tcpi_data_segs_in;
}

bool have_ipv6(void)
{
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool have = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;

    if (fd >= 0)
        close(fd);
    return have;
}

void need_localhost(void)
{
    struct addrinfo *list = NULL;

    if (getaddrinfo("localhost", NULL, NULL, &list) == 0) {
        freeaddrinfo(list);
        return;
    }
    print_message("skipped: localhost does not resolve here (/etc/hosts)\n");
    skip();
}

/* ---- processes ---- */

const char *find_program(const char *name)
{
    static char path[256];
    static const char *const dirs[] = {"/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], name);
        if (access(path, X_OK) == 0)
            return path;
    }
    return NULL;
}

/* Peers of tests that failed half-way: ended with the process. */
static pid_t running[16];

static void end_running(void)
{
    for (size_t i = 0; i < sizeof running / sizeof running[0]; i++)
        if (running[i] > 0)
            kill(running[i], SIGKILL);
}

/* from 0: a new one; to 0: it ended */
static void note_running(pid_t from, pid_t to)
{
    static bool hooked;

    if (!hooked)
        hooked = atexit(end_running) == 0;
    for (size_t i = 0; i < sizeof running / sizeof running[0]; i++) {
        if (running[i] == from) {
            running[i] = to;
            return;
        }
    }
}

static void reap(struct peer *p)
{
    waitpid(p->pid, NULL, 0);
    note_running(p->pid, 0);
    close(p->out);
    memset(p, 0, sizeof *p);
}

static bool spawn(struct peer *p, const char *const argv[])
{
    posix_spawn_file_actions_t fa;
    char *args[32];
    int pipe_fd[2], n = 0;

    for (; argv[n] && n < 31; n++)
        args[n] = (char *)(uintptr_t)argv[n];
    args[n] = NULL;
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, pipe_fd[1], 1);
    int r = posix_spawn(&p->pid, args[0], &fa, NULL, args, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(pipe_fd[1]);
    p->out = pipe_fd[0];
    if (r == 0)
        note_running(0, p->pid);
    else
        close(pipe_fd[0]);
    return r == 0;
}

void peer_spawn(struct peer *p, const char *const argv[])
{
    memset(p, 0, sizeof *p);
    assert_true(spawn(p, argv));
}

bool peer_start(struct peer *p, const char *const argv[], const char *wanted)
{
    char line[512];
    size_t n = 0;
    unsigned port = 0;

    memset(p, 0, sizeof *p);
    if (!spawn(p, argv))
        return false;
    for (;;) {
        struct pollfd pf = {.fd = p->out, .events = POLLIN};
        if (poll(&pf, 1, 60000) <= 0 || read(p->out, line + n, 1) != 1 || n + 2 > sizeof line)
            break;
        if (line[n++] != '\n')
            continue;
        line[n] = '\0';
        if (wanted ? strstr(line, wanted) != NULL : sscanf(line, "READY %u", &port) == 1) {
            p->port = (uint16_t)port;
            return true;
        }
        n = 0;
    }
    peer_stop(p);
    return false;
}

void peer_python(struct peer *p, const char *script, const char *module, const char *arg)
{
    static const char python[] = "/usr/bin/python3";
    char path[512], check[128];
    const char *dir = getenv("KE_TESTS");
    struct peer probe = {0};
    int status = -1;

    snprintf(check, sizeof check, "import %s", module);
    const char *const test[] = {python, "-c", check, NULL};
    if (access(python, X_OK) != 0 || !spawn(&probe, test)) {
        fprintf(stderr, "skipped: no %s\n", python);
        skip();
    }
    waitpid(probe.pid, &status, 0);
    note_running(probe.pid, 0);
    close(probe.out);
    if (status != 0) {
        fprintf(stderr, "skipped: python3 has no module %s\n", module);
        skip();
    }
    snprintf(path, sizeof path, "%s/net/peers/%s", dir ? dir : "tests", script);
    const char *const argv[] = {python, path, arg, NULL};
    if (!peer_start(p, argv, NULL))
        fail_msg("%s %s did not start", path, arg ? arg : "");
}

void peer_stop(struct peer *p)
{
    if (p->pid <= 0)
        return;
    kill(p->pid, SIGKILL);
    reap(p);
}

void peer_wait_output(struct test_env *e, struct peer *p, char *out, size_t size)
{
    size_t n = 0;

    for (;;) {
        wait_ready(e, p->out, POLLIN);
        ssize_t r = read(p->out, out + n, size - 1 - n);
        if (r <= 0)
            break;
        n += (size_t)r;
    }
    out[n] = '\0';
    reap(p);
}
