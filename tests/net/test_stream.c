/* SPDX-License-Identifier: Apache-2.0 */
/* Streams against plain sockets: opening, reading, writing, closing, and every callback freeing. */
#include "util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream_priv.h"

static void connect_probe(struct test_env *e, struct probe *p, struct kei_stream_config *c)
{
    if (!c->host && !c->unix_path)
        c->host = "127.0.0.1";
    assert_int_equal(kei_stream_connect(&p->s, e->ctx, c, &probe_ops, p), 0);
}

/* An open stream and the plain socket at its other end. */
struct pair {
    struct test_env env;
    struct probe p;
    int fd, listen_fd;
};

static void pair_open(struct pair *x, struct kei_stream_config *c)
{
    test_env_init(&x->env, 0);
    probe_init(&x->p);
    x->listen_fd = raw_listen(&c->port);
    connect_probe(&x->env, &x->p, c);
    assert_int_equal(x->p.opens, 0); /* never inside of the call */
    x->fd = raw_accept(&x->env, x->listen_fd);
    assert_true(test_drive(&x->env, probe_is_open, &x->p));
}

static void pair_close(struct pair *x)
{
    probe_fini(&x->p);
    close(x->fd);
    close(x->listen_fd);
    test_env_fini(&x->env);
}

static bool has_input(void *arg)
{
    return ((struct probe *)arg)->in.n > 0;
}

static void sends_and_receives(void **state)
{
    struct pair x;
    struct kei_stream_config c = {0};
    char got[6] = "";
    int on = 0;
    socklen_t n = sizeof on;

    (void)state;
    pair_open(&x, &c);
    assert_int_equal(kei_stream_write(x.p.s, "hello", 5), 0);
    raw_recv(&x.env, x.fd, got, 5);
    assert_string_equal(got, "hello");
    raw_puts(&x.env, x.fd, "world");
    assert_true(test_drive(&x.env, has_input, &x.p));
    assert_string_equal(x.p.in.p, "world");
    /* no Nagle, not inherited, not blocking */
    assert_int_equal(getsockopt(x.p.s->fd, IPPROTO_TCP, TCP_NODELAY, &on, &n), 0);
    assert_int_equal(on, 1);
    assert_int_equal(fcntl(x.p.s->fd, F_GETFD), FD_CLOEXEC);
    assert_true(fcntl(x.p.s->fd, F_GETFL) & O_NONBLOCK);
    /* names */
    char want[64];
    snprintf(want, sizeof want, "127.0.0.1:%u", c.port);
    assert_string_equal(kei_stream_peer_name(x.p.s), want);
    assert_string_equal(kei_stream_local_ip(x.p.s), "127.0.0.1");
    /* the peer ends it */
    close(x.fd);
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.status, KE_ECLOSED);
    assert_int_equal(kei_stream_write(x.p.s, "x", 1), KE_ECLOSED);
    x.fd = dup(0);
    pair_close(&x);
}

static void one_write_per_turn(void **state)
{
    struct pair x;
    struct kei_stream_config c = {0};
    char got[64];

    (void)state;
    pair_open(&x, &c);
    assert_int_equal(kei_stream_write(x.p.s, "ab", 2), 0);
    assert_int_equal(kei_stream_write(x.p.s, "cd", 2), 0);
    assert_int_equal(kei_stream_write(x.p.s, "ef", 2), 0);
    assert_int_equal(kei_stream_queued(x.p.s), 6);
    assert_int_equal(recv(x.fd, got, sizeof got, 0), -1); /* not yet */
    test_settle(&x.env);
    assert_int_equal(kei_stream_queued(x.p.s), 0);
    assert_true(raw_segments_in(x.fd) <= 1);
    assert_int_equal(recv(x.fd, got, sizeof got, 0), 6);
    assert_memory_equal(got, "abcdef", 6);
    pair_close(&x);
}

static void small_writes_allocate_nothing(void **state)
{
    struct pair x;
    struct kei_stream_config c = {0};
    char message[300] = "", got[300];

    (void)state;
    pair_open(&x, &c);
    size_t before = atomic_load(&x.env.alloc.calls);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(kei_stream_write(x.p.s, message, sizeof message), 0);
        assert_int_equal(kei_stream_write(x.p.s, message, 200), 0);
        test_settle(&x.env);
        raw_recv(&x.env, x.fd, got, 300);
        raw_recv(&x.env, x.fd, got, 200);
        raw_puts(&x.env, x.fd, "reply"); /* and so does what is consumed at once */
        test_settle(&x.env);
        x.p.in.n = 0;
    }
    assert_int_equal(atomic_load(&x.env.alloc.calls), before);
    pair_close(&x);
}

static char pattern(size_t i)
{
    return (char)(i * 31 + i / 251);
}

static bool is_drained(void *arg)
{
    return ((struct probe *)arg)->drains > 0;
}

/* More than the socket takes: queued, sent as the peer reads, buffers given back. */
static void large_queue(void **state)
{
    struct pair x;
    struct kei_stream_config c = {.send_cap = 64u << 20};
    size_t total = 24u << 20, half = total / 2;
    char *bytes = malloc(total), *got = malloc(total);

    (void)state;
    pair_open(&x, &c);
    size_t idle = atomic_load(&x.env.alloc.live_bytes);
    for (size_t i = 0; i < total; i++)
        bytes[i] = pattern(i);
    assert_int_equal(kei_stream_write(x.p.s, bytes, half), 0);
    test_settle(&x.env);
    assert_true(kei_stream_queued(x.p.s) > 0);
    assert_int_equal(x.p.drains, 0);
    assert_int_equal(kei_stream_write(x.p.s, bytes + half, total - half), 0);
    raw_recv(&x.env, x.fd, got, total);
    assert_memory_equal(got, bytes, total);
    assert_true(test_drive(&x.env, is_drained, &x.p));
    assert_int_equal(x.p.drains, 1);
    assert_int_equal(kei_stream_queued(x.p.s), 0);
    assert_int_equal(atomic_load(&x.env.alloc.live_bytes), idle);
    free(bytes);
    free(got);
    pair_close(&x);
}

static void send_cap(void **state)
{
    struct pair x;
    struct kei_stream_config c = {.send_cap = 1000};
    char bytes[1001] = "";

    (void)state;
    pair_open(&x, &c);
    assert_int_equal(kei_stream_write(x.p.s, bytes, 1001), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(x.env.ctx), "1000"));
    assert_int_equal(kei_stream_write(x.p.s, bytes, 600), 0);
    assert_int_equal(kei_stream_write(x.p.s, bytes, 401), KE_ELIMIT);
    assert_int_equal(kei_stream_queued(x.p.s), 600); /* all or nothing */
    assert_int_equal(kei_stream_write(x.p.s, bytes, 400), 0);
    test_settle(&x.env);
    assert_int_equal(kei_stream_write(x.p.s, bytes, 1000), 0);
    pair_close(&x);
}

/* What is not consumed comes again with more behind it, up to the cap. */
static void unconsumed_input(void **state)
{
    struct pair x;
    struct kei_stream_config c = {.receive_cap = 100};
    char bytes[200] = "";

    (void)state;
    pair_open(&x, &c);
    size_t idle = atomic_load(&x.env.alloc.live_bytes);
    x.p.keep = 2;
    raw_puts(&x.env, x.fd, "abc");
    test_settle(&x.env);
    assert_string_equal(x.p.in.p, "a");
    raw_puts(&x.env, x.fd, "d");
    test_settle(&x.env);
    assert_int_equal(x.p.seen, 3);
    assert_string_equal(x.p.in.p, "ab");
    /* writing does not present it again */
    int datas = x.p.datas;
    assert_int_equal(kei_stream_write(x.p.s, "x", 1), 0);
    test_settle(&x.env);
    assert_int_equal(x.p.datas, datas);
    x.p.keep = 0;
    raw_puts(&x.env, x.fd, "e");
    test_settle(&x.env);
    assert_string_equal(x.p.in.p, "abcde");
    assert_int_equal(atomic_load(&x.env.alloc.live_bytes), idle);
    x.p.keep = 1000;
    raw_send(&x.env, x.fd, bytes, 100);
    test_settle(&x.env);
    assert_int_equal(x.p.closes, 0);
    raw_send(&x.env, x.fd, bytes, 1);
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.status, KE_ELIMIT);
    assert_non_null(strstr(x.p.text, "100"));
    pair_close(&x);
}

static void pausing(void **state)
{
    struct pair x;
    struct kei_stream_config c = {0};

    (void)state;
    pair_open(&x, &c);
    kei_stream_pause(x.p.s, true);
    raw_puts(&x.env, x.fd, "one");
    test_settle(&x.env);
    assert_int_equal(x.p.datas, 0);
    kei_stream_pause(x.p.s, false);
    test_settle(&x.env);
    assert_string_equal(x.p.in.p, "one");
    /* paused in its own data call, with bytes left: they come again after it */
    x.p.pause_in_data = true;
    x.p.keep = 1;
    raw_puts(&x.env, x.fd, "two");
    test_settle(&x.env);
    assert_string_equal(x.p.in.p, "onetw");
    x.p.keep = 0;
    x.p.pause_in_data = false;
    kei_stream_pause(x.p.s, false);
    test_settle(&x.env);
    assert_string_equal(x.p.in.p, "onetwo");
    /* a peer that resets the connection meanwhile must not make the loop spin */
    kei_stream_pause(x.p.s, true);
    struct linger hard = {1, 0};
    setsockopt(x.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(x.fd);
    test_settle(&x.env);
    assert_int_equal(x.p.closes, 0);
    kei_stream_pause(x.p.s, false);
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.status, KE_ECONN);
    x.fd = dup(0);
    pair_close(&x);
}

static void finishing(void **state)
{
    struct pair x;
    struct kei_stream_config c = {.send_cap = 16u << 20};
    size_t n = 8u << 20;
    char *bytes = calloc(1, n), *got = malloc(n + 2);

    (void)state;
    pair_open(&x, &c);
    assert_int_equal(kei_stream_write(x.p.s, bytes, n), 0);
    kei_stream_finish(x.p.s);
    assert_int_equal(kei_stream_write(x.p.s, "x", 1), KE_ESTATE);
    raw_puts(&x.env, x.fd, "late words that nobody reads");
    assert_int_equal(raw_recv_end(&x.env, x.fd, got, n + 2), (long)n);
    assert_int_equal(x.p.closes, 0); /* hears the peer out */
    close(x.fd);
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.status, KE_ECLOSED);
    assert_int_equal(x.p.datas, 0);
    x.fd = dup(0);
    free(bytes);
    free(got);
    pair_close(&x);
}

/* A peer that neither reads nor ends cannot hold a stream that is to end. */
static void finishing_is_bounded(void **state)
{
    struct pair x;
    struct kei_stream_config c = {.send_cap = 64u << 20};
    size_t n = 32u << 20;
    char *bytes = calloc(1, n);

    (void)state;
    pair_open(&x, &c);
    kei_stream_finish(x.p.s); /* nothing queued: only the peer's end is missing */
    int64_t start = ke_ctx_mono_ms(x.env.ctx);
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.status, KE_ECLOSED);
    assert_true(ke_ctx_mono_ms(x.env.ctx) - start <= 2000);
    pair_close(&x);

    pair_open(&x, &c);
    assert_int_equal(kei_stream_write(x.p.s, bytes, n), 0);
    kei_stream_finish(x.p.s);
    start = ke_ctx_mono_ms(x.env.ctx);
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.status, KE_ETIMEDOUT);
    assert_true(ke_ctx_mono_ms(x.env.ctx) - start <= 30000);
    pair_close(&x);
    free(bytes);
}

static void written_before_open(void **state)
{
    struct test_env env;
    struct probe p;
    struct kei_stream_config c = {0};
    char got[16] = "";
    int lfd;

    (void)state;
    test_env_init(&env, 0);
    probe_init(&p);
    lfd = raw_listen(&c.port);
    connect_probe(&env, &p, &c);
    assert_int_equal(kei_stream_write(p.s, "early", 5), 0);
    kei_stream_finish(p.s);
    int fd = raw_accept(&env, lfd);
    assert_int_equal(raw_recv_end(&env, fd, got, sizeof got), 5);
    assert_string_equal(got, "early");
    close(fd);
    assert_true(test_drive(&env, probe_is_closed, &p));
    assert_int_equal(p.status, KE_ECLOSED);
    close(lfd);
    probe_fini(&p);
    test_env_fini(&env);
}

/* The peer's reason is read although writing failed first. */
static void last_words(void **state)
{
    struct pair x;
    struct kei_stream_config c = {.send_cap = 64u << 20};
    size_t n = 32u << 20;
    char *bytes = calloc(1, n);

    (void)state;
    pair_open(&x, &c);
    assert_int_equal(kei_stream_write(x.p.s, bytes, n), 0);
    test_settle(&x.env); /* the socket is full */
    /* both at once for the loop: an answer, and a reset that makes the next write fail */
    assert_int_equal(send(x.fd, "too large", 9, MSG_NOSIGNAL), 9);
    close(x.fd); /* with unread bytes: a reset */
    assert_true(test_drive(&x.env, probe_is_closed, &x.p));
    assert_int_equal(x.p.closes, 1);
    assert_true(x.p.status == KE_ECONN || x.p.status == KE_ECLOSED);
    assert_string_equal(x.p.in.n ? x.p.in.p : "", "too large");
    x.fd = dup(0);
    free(bytes);
    pair_close(&x);
}

/* Writing to a peer that is gone is an error, not a signal. */
static void broken_pipe(void **state)
{
    struct pair x;
    struct kei_stream_config c = {0};

    (void)state;
    signal(SIGPIPE, SIG_DFL);
    pair_open(&x, &c);
    kei_stream_pause(x.p.s, true); /* does not hear of the end by reading */
    close(x.fd);
    x.fd = dup(0);
    test_settle(&x.env);
    for (int i = 0; i < 3 && !x.p.closes; i++) {
        assert_int_equal(kei_stream_write(x.p.s, "x", 1), 0);
        test_settle(&x.env);
    }
    assert_int_equal(x.p.closes, 1);
    assert_int_equal(x.p.status, KE_ECLOSED);
    pair_close(&x);
}

static void set_ops_presents_the_rest(void **state)
{
    struct pair x;
    struct kei_stream_config c = {0};
    struct probe second;

    (void)state;
    probe_init(&second);
    pair_open(&x, &c);
    x.p.keep = 5;
    raw_puts(&x.env, x.fd, "first|second");
    test_settle(&x.env);
    assert_int_equal(x.p.in.n, 7);
    kei_stream_set_ops(x.p.s, &probe_ops, &second);
    assert_int_equal(second.datas, 0);
    test_settle(&x.env);
    assert_string_equal(second.in.p, "econd");
    raw_puts(&x.env, x.fd, "!");
    test_settle(&x.env);
    assert_string_equal(second.in.p, "econd!");
    assert_int_equal(x.p.datas, 1);
    ke_buf_free(&second.in);
    pair_close(&x);
}

/* Handing over inside of the data call, the end of the stream already there: the rest comes first.
 */
static struct probe *heir;
static size_t hand_over(void *user, const char *p, size_t n)
{
    struct probe *from = user;
    (void)p, (void)n;
    kei_stream_set_ops(from->s, &probe_ops, heir);
    return 1;
}

static void set_ops_before_the_end(void **state)
{
    static const struct kei_stream_ops ops = {.data = hand_over};
    struct pair x;
    struct kei_stream_config c = {0};
    struct probe second;

    (void)state;
    probe_init(&second);
    heir = &second;
    pair_open(&x, &c);
    kei_stream_set_ops(x.p.s, &ops, &x.p);
    raw_puts(&x.env, x.fd, "1rest");
    close(x.fd);
    x.fd = dup(0);
    assert_true(test_drive(&x.env, probe_is_closed, &second));
    assert_string_equal(second.in.p, "rest");
    assert_int_equal(second.status, KE_ECLOSED);
    ke_buf_free(&second.in);
    pair_close(&x);
}

/* ---- freeing inside of callbacks ---- */

static bool freed(void *arg)
{
    return ((struct probe *)arg)->s == NULL;
}

static void freed_in_callbacks(void **state)
{
    (void)state;
    for (int when = PROBE_OPEN; when <= PROBE_CLOSED; when++) {
        struct test_env env;
        struct probe p;
        struct kei_stream_config c = {.send_cap = 64u << 20};
        size_t n = 24u << 20;
        char *bytes = calloc(1, n);

        test_env_init(&env, 0);
        probe_init(&p);
        p.free_in = (enum probe_event)when;
        int lfd = raw_listen(&c.port);
        connect_probe(&env, &p, &c);
        int fd = raw_accept(&env, lfd);
        assert_true(test_drive(&env, probe_is_open, &p));
        if (when == PROBE_DATA)
            raw_puts(&env, fd, "data");
        if (when == PROBE_DRAINED) {
            assert_int_equal(kei_stream_write(p.s, bytes, n), 0);
            test_settle(&env);
            raw_recv(&env, fd, bytes, n);
        }
        if (when == PROBE_CLOSED)
            shutdown(fd, SHUT_WR);
        assert_true(test_drive(&env, freed, &p));
        if (when == PROBE_DATA)
            assert_string_equal(p.in.p, "data");
        assert_int_equal(p.closes, when == PROBE_CLOSED);
        close(fd);
        close(lfd);
        free(bytes);
        probe_fini(&p);
        test_env_fini(&env);
    }
}

/* ---- failing to open ---- */

static void expect_failure(struct kei_stream_config *c, int status, const char *word)
{
    struct test_env env;
    struct probe p;

    test_env_init(&env, 0);
    probe_init(&p);
    connect_probe(&env, &p, c);
    assert_int_equal(p.closes, 0);
    assert_true(test_drive(&env, probe_is_closed, &p));
    if (p.status != status || !strstr(p.text, word))
        fail_msg("%s \"%s\"", ke_strerror(p.status), p.text);
    assert_int_equal(p.opens, 0);
    assert_int_equal(p.closes, 1);
    probe_fini(&p);
    test_env_fini(&env);
}

static void refused(void **state)
{
    struct kei_stream_config c = {0};
    char dir[64], path[128], text[300], url[64];

    (void)state;
    need_localhost();
    close(raw_listen(&c.port));
    snprintf(text, sizeof text, "could not connect to 127.0.0.1 port %u: Connection refused",
             c.port);
    expect_failure(&c, KE_ECONN, text); /* each thing once */
    c.host = "::1";
    snprintf(text, sizeof text, "could not connect to ::1 port %u: Connection refused", c.port);
    expect_failure(&c, KE_ECONN, text);
    c.host = "localhost"; /* of a name the address is told as well */
    snprintf(text, sizeof text,
             "could not connect to localhost port %u: 127.0.0.1:%u: Connection refused", c.port,
             c.port);
    expect_failure(&c, KE_ECONN, text);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", c.port);
    c = (struct kei_stream_config){.host = "cloud.example", .port = 443, .proxy_url = url};
    snprintf(text, sizeof text,
             "could not connect to cloud.example port 443: the proxy %s: Connection refused",
             url + 7);
    expect_failure(&c, KE_ECONN, text);
    test_tmp_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/none.sock", dir);
    c = (struct kei_stream_config){.unix_path = path};
    snprintf(text, sizeof text, "could not connect to unix:%s: No such file or directory", path);
    expect_failure(&c, KE_ENOTFOUND, text);
    test_tmp_remove(dir);
}

static void bad_arguments(void **state)
{
    static const struct {
        struct kei_stream_config c;
        int status;
    } t[] = {
        {{.host = NULL, .port = 1}, KE_EINVAL},
        {{.host = "", .port = 1}, KE_EINVAL},
        {{.host = "127.0.0.1", .port = 0}, KE_EINVAL},
        {{.host = "a b", .port = 1}, KE_EINVAL},
        {{.host = "a\r\nb", .port = 1}, KE_EINVAL},
        {{.host = "[::1", .port = 1}, KE_EINVAL},
        {{.unix_path = ""}, KE_EINVAL},
        {{.host = "h", .port = 1, .proxy_url = "socks5://h:1"}, KE_ENOTSUP},
        {{.host = "h", .port = 1, .proxy_url = "http://"}, KE_EINVAL},
    };
    struct test_env env;
    struct kei_stream *s = NULL;

    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        assert_int_equal(kei_stream_connect(&s, env.ctx, &t[i].c, &probe_ops, NULL), t[i].status);
        assert_null(s);
        assert_true(ke_ctx_error(env.ctx)[0] != '\0');
    }
    test_env_fini(&env);
}

/* A listener whose queue is full leaves a connection unanswered. */
static void connect_timeout(void **state)
{
    struct kei_stream_config c = {.connect_ms = 7000};
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    int fd[8], lfd = raw_listen(&c.port);

    (void)state;
    assert_int_equal(listen(lfd, 0), 0);
    assert_int_equal(getsockname(lfd, (struct sockaddr *)&a, &n), 0);
    for (int i = 0; i < 8; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(fd[i], (struct sockaddr *)&a, sizeof a);
    }
    expect_failure(&c, KE_ETIMEDOUT, "7000 ms");
    for (int i = 0; i < 8; i++)
        close(fd[i]);
    close(lfd);
}

static void freed_while_opening(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (int turns = 0; turns < 4; turns++) {
            struct test_env env;
            struct probe p;
            struct kei_stream_config c = {.host = hosts[i]};
            test_env_init(&env, 0);
            probe_init(&p);
            int lfd = raw_listen(&c.port);
            connect_probe(&env, &p, &c);
            for (int k = 0; k < turns; k++)
                assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
            int told = p.opens + p.closes;
            probe_fini(&p); /* nothing is told any more, nothing leaks */
            test_settle(&env);
            assert_int_equal(p.opens + p.closes, told);
            close(lfd);
            test_env_fini(&env);
        }
    }
}

/* A name with an address nobody listens on: the other one is used. */
static void localhost_has_two_families(void **state)
{
    struct test_env env;
    struct probe p;
    struct kei_stream_config c = {.host = "localhost"};
    char want[32];

    (void)state;
    need_localhost();
    test_env_init(&env, 0);
    probe_init(&p);
    int lfd = raw_listen(&c.port); /* 127.0.0.1 only, whatever localhost says first */
    connect_probe(&env, &p, &c);
    assert_true(test_drive(&env, probe_is_open, &p));
    snprintf(want, sizeof want, "127.0.0.1:%u", c.port);
    assert_string_equal(kei_stream_peer_name(p.s), want);
    close(lfd);
    probe_fini(&p);
    test_env_fini(&env);
}

static void without_memory(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost"};

    (void)state;
    need_localhost();
    for (size_t i = 0; i < 2; i++) {
        for (size_t fail_at = 1;; fail_at++) {
            struct test_env env;
            struct probe p;
            struct kei_stream_config c = {.host = hosts[i], .send_cap = 4096};
            char bytes[4096] = "";
            test_env_init(&env, 0);
            probe_init(&p);
            p.keep = 3;
            int fd = -1, lfd = raw_listen(&c.port);
            test_alloc_fail_at(&env.alloc, fail_at);
            int r = kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p);
            if (r == 0) {
                int64_t deadline = ke_ctx_mono_ms(env.ctx) + 40000;
                while (!p.opens && !p.closes && ke_ctx_mono_ms(env.ctx) < deadline)
                    test_drive_ms(&env, 1);
                if (p.opens) {
                    fd = raw_accept(&env, lfd);
                    int w = kei_stream_write(p.s, bytes, sizeof bytes);
                    assert_true(w == 0 || w == KE_ENOMEM);
                    raw_puts(&env, fd, "abcdef");
                    test_settle(&env);
                    assert_true(p.in.n == 3 || p.status == KE_ENOMEM);
                } else {
                    assert_int_equal(p.status, KE_ENOMEM);
                }
            } else {
                assert_int_equal(r, KE_ENOMEM);
            }
            bool done = atomic_load(&env.alloc.failed) == 0;
            probe_fini(&p);
            if (fd >= 0)
                close(fd);
            close(lfd);
            test_env_fini(&env);
            if (done) {
                assert_true(fail_at > 4);
                break;
            }
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(sends_and_receives),
        KE_TEST(one_write_per_turn),
        KE_TEST(small_writes_allocate_nothing),
        KE_TEST(large_queue),
        KE_TEST(send_cap),
        KE_TEST(unconsumed_input),
        KE_TEST(pausing),
        KE_TEST(finishing),
        KE_TEST(finishing_is_bounded),
        KE_TEST(written_before_open),
        KE_TEST(last_words),
        KE_TEST(broken_pipe),
        KE_TEST(set_ops_presents_the_rest),
        KE_TEST(set_ops_before_the_end),
        KE_TEST(freed_in_callbacks),
        KE_TEST(refused),
        KE_TEST(bad_arguments),
        KE_TEST(connect_timeout),
        KE_TEST(freed_while_opening),
        KE_TEST(localhost_has_two_families),
        KE_TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
