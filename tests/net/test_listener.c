/* SPDX-License-Identifier: Apache-2.0 */
/* Listening: addresses, limits, what happens without descriptors, unix sockets. */
#include "util.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/addr.h"

/* Takes what is accepted. */
struct door {
    struct kei_listener *l;
    struct kei_stream *s[64];
    struct probe p[64];
    int n;
    bool free_stream, free_listener;
};

static void on_accept(void *user, struct kei_stream *s)
{
    struct door *d = user;

    assert_true(d->n < 64);
    probe_init(&d->p[d->n]);
    if (d->free_stream) {
        kei_stream_free(s);
        s = NULL;
    } else {
        d->p[d->n].s = s;
        kei_stream_set_ops(s, &probe_ops, &d->p[d->n]);
    }
    d->n++;
    if (d->free_listener) {
        kei_listener_free(d->l);
        d->l = NULL;
    }
}

static void door_open(struct test_env *e, struct door *d, struct kei_listener_config *c)
{
    memset(d, 0, sizeof *d);
    if (!c->unix_path && !c->host)
        c->host = "127.0.0.1";
    int r = kei_listen(&d->l, e->ctx, c, on_accept, d);
    if (r < 0)
        fail_msg("%s", ke_ctx_error(e->ctx));
}

static void door_close(struct door *d)
{
    for (int i = 0; i < d->n; i++)
        probe_fini(&d->p[i]);
    kei_listener_free(d->l);
}

static void accepts(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "0.0.0.0", "::"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct test_env env;
        struct door d;
        struct probe p;
        struct kei_listener_config c = {.host = hosts[i]};
        if (strchr(hosts[i], ':') && !have_ipv6())
            continue;
        test_env_init(&env, 0);
        door_open(&env, &d, &c);
        assert_true(kei_listener_port(d.l) != 0);
        probe_init(&p);
        /* "::" takes both families */
        struct kei_stream_config sc = {.host = i == 1 ? "[::1]" : "127.0.0.1",
                                       .port = kei_listener_port(d.l)};
        assert_int_equal(kei_stream_connect(&p.s, env.ctx, &sc, &probe_ops, &p), 0);
        assert_true(test_drive(&env, probe_is_open, &p));
        assert_true(test_drive(&env, test_nonzero, &d.n));
        assert_int_equal(d.p[0].opens, 0); /* accepted ones are open from the start */
        assert_int_equal(kei_stream_write(d.p[0].s, "hello", 5), 0);
        test_settle(&env);
        assert_string_equal(p.in.p, "hello");
        assert_string_equal(kei_stream_local_ip(d.p[0].s), i == 1 ? "::1" : "127.0.0.1");
        /* streams outlive the listener */
        kei_listener_free(d.l);
        d.l = NULL;
        assert_int_equal(kei_stream_write(p.s, "still", 5), 0);
        test_settle(&env);
        assert_string_equal(d.p[0].in.p, "still");
        probe_fini(&p);
        door_close(&d);
        test_env_fini(&env);
    }
}

static void refuses_bad_addresses(void **state)
{
    static const char *const hosts[] = {NULL, "", "localhost", "127.0.0.256", "eth0"};
    struct test_env env;
    struct kei_listener *l = NULL;

    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < 5; i++) {
        struct kei_listener_config c = {.host = hosts[i]};
        assert_int_equal(kei_listen(&l, env.ctx, &c, on_accept, NULL), KE_EINVAL);
    }
    struct kei_listener_config c = {.host = "203.0.113.9"}; /* nobody's */
    assert_int_equal(kei_listen(&l, env.ctx, &c, on_accept, NULL), KE_ESYS);
    assert_non_null(strstr(ke_ctx_error(env.ctx), "203.0.113.9"));
    assert_null(l);
    test_env_fini(&env);
}

static void port_in_use(void **state)
{
    struct test_env env;
    struct door d;
    struct kei_listener *l = NULL;
    struct kei_listener_config c = {0};
    char word[32];

    (void)state;
    test_env_init(&env, 0);
    door_open(&env, &d, &c);
    c.port = kei_listener_port(d.l);
    assert_int_equal(kei_listen(&l, env.ctx, &c, on_accept, &d), KE_EADDRINUSE);
    snprintf(word, sizeof word, "127.0.0.1:%u", c.port);
    assert_non_null(strstr(ke_ctx_error(env.ctx), word));
    door_close(&d);
    /* and free again at once */
    door_open(&env, &d, &c);
    door_close(&d);
    test_env_fini(&env);
}

static bool two_there(void *arg)
{
    return ((struct door *)arg)->n == 2;
}

static bool three_there(void *arg)
{
    return ((struct door *)arg)->n == 3;
}

static void limit_of_streams(void **state)
{
    struct test_env env;
    struct door d;
    struct kei_listener_config c = {.max_streams = 2};
    int fd[4];

    (void)state;
    test_env_init(&env, 0);
    door_open(&env, &d, &c);
    for (int i = 0; i < 4; i++)
        fd[i] = raw_connect(kei_listener_port(d.l));
    assert_true(test_drive(&env, two_there, &d));
    test_settle(&env); /* comes to rest: the ones that wait do not wake the loop */
    assert_int_equal(d.n, 2);
    kei_stream_free(d.p[0].s);
    d.p[0].s = NULL;
    assert_true(test_drive(&env, three_there, &d));
    test_settle(&env);
    assert_int_equal(d.n, 3);
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    door_close(&d);
    test_env_fini(&env);
}

/* One address has its share; who goes gives its place back. */
static void limit_of_an_address(void **state)
{
    struct test_env env;
    struct door d;
    struct kei_listener_config c = {.max_per_address = 2, .max_handshakes = 2};
    int fd[4];
    char rest[8];

    (void)state;
    test_env_init(&env, 0);
    door_open(&env, &d, &c);
    for (int i = 0; i < 3; i++)
        fd[i] = raw_connect(kei_listener_port(d.l));
    assert_true(test_drive(&env, two_there, &d));
    test_settle(&env);
    assert_int_equal(d.n, 2);
    assert_true(raw_recv_end(&env, fd[2], rest, sizeof rest) <= 0);
    kei_stream_free(d.p[0].s);
    d.p[0].s = NULL;
    fd[3] = raw_connect(kei_listener_port(d.l));
    assert_true(test_drive(&env, three_there, &d));
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    door_close(&d);
    test_env_fini(&env);
}

/* Without descriptors the listener rests, says so once per rest, and comes back. */
static void no_descriptors(void **state)
{
    struct test_env env;
    struct door d;
    struct kei_listener_config c = {0};
    struct rlimit old, low;

    (void)state;
    test_env_init(&env, 0);
    door_open(&env, &d, &c);
    int fd = raw_connect(kei_listener_port(d.l));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    int next = dup(0);
    close(next);
    low.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int64_t idle = env.idle_ms;
    env.idle_ms = 0;
    unsigned lines = atomic_load(&env.log_lines);
    test_settle(&env); /* does not spin */
    assert_int_equal(d.n, 0);
    assert_int_equal(atomic_load(&env.log_lines) - lines, 1);
    assert_non_null(strstr(env.last_log, "accept"));
    test_drive_ms(&env, 1000);
    assert_true(atomic_load(&env.log_lines) - lines <= 6);
    assert_int_equal(d.n, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    env.idle_ms = idle;
    assert_true(test_drive(&env, test_nonzero, &d.n));
    close(fd);
    door_close(&d);
    test_env_fini(&env);
}

static void freed_in_accept(void **state)
{
    (void)state;
    for (int what = 1; what <= 3; what++) {
        struct test_env env;
        struct door d;
        struct kei_listener_config c = {0};
        test_env_init(&env, 0);
        door_open(&env, &d, &c);
        d.free_stream = what & 1;
        d.free_listener = what & 2;
        int a = raw_connect(kei_listener_port(d.l)), b = raw_connect(kei_listener_port(d.l));
        assert_true(test_drive(&env, test_nonzero, &d.n));
        test_settle(&env);
        assert_int_equal(d.n, what & 2 ? 1 : 2);
        close(a);
        close(b);
        door_close(&d);
        test_env_fini(&env);
    }
}

static void unix_sockets(void **state)
{
    struct test_env env;
    struct door d;
    struct probe p;
    struct stat st;
    char dir[64], path[128], text[160];
    struct kei_listener *second = NULL;

    (void)state;
    test_tmp_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/control.sock", dir);
    struct kei_listener_config c = {.unix_path = path};
    struct kei_stream_config sc = {.unix_path = path};
    test_env_init(&env, 0);
    door_open(&env, &d, &c);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(kei_listen(&second, env.ctx, &c, on_accept, &d), KE_EADDRINUSE);
    assert_non_null(strstr(ke_ctx_error(env.ctx), path));
    probe_init(&p);
    assert_int_equal(kei_stream_connect(&p.s, env.ctx, &sc, &probe_ops, &p), 0);
    assert_true(test_drive(&env, probe_is_open, &p));
    assert_int_equal(kei_stream_write(p.s, "status", 6), 0);
    test_settle(&env);
    /* the probe that found the first one in use may have come first */
    struct probe *last = &d.p[d.n - 1];
    assert_string_equal(last->in.p, "status");
    snprintf(text, sizeof text, "unix:%s", path);
    assert_string_equal(kei_stream_peer_name(p.s), text);
    assert_string_equal(kei_stream_peer_name(last->s), text); /* who dials has none of its own */
    assert_string_equal(kei_stream_local_ip(p.s), "");
    probe_fini(&p);
    door_close(&d);
    assert_int_equal(access(path, F_OK), -1); /* gone with it */

    /* left behind by a process that died: replaced */
    struct kei_addr a;
    assert_int_equal(kei_addr_unix(&a, path, NULL), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, &a.u.any, a.len), 0);
    close(fd);
    door_open(&env, &d, &c);
    /* somebody replaced ours: it stays */
    assert_int_equal(unlink(path), 0);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    door_close(&d);
    assert_int_equal(access(path, F_OK), 0);
    /* no socket at all: never removed */
    assert_int_equal(kei_listen(&second, env.ctx, &c, on_accept, &d), KE_EEXIST);
    assert_int_equal(access(path, F_OK), 0);
    test_env_fini(&env);
    test_tmp_remove(dir);
}

static void without_memory(void **state)
{
    (void)state;
    for (size_t fail_at = 1; fail_at < 5; fail_at++) {
        struct test_env env;
        struct door d = {0};
        struct kei_listener_config c = {.host = "127.0.0.1"};
        test_env_init(&env, 0);
        test_alloc_fail_at(&env.alloc, fail_at);
        int r = kei_listen(&d.l, env.ctx, &c, on_accept, &d);
        if (fail_at == 1) {
            assert_int_equal(r, KE_ENOMEM);
        } else {
            assert_int_equal(r, 0);
            int fd = raw_connect(kei_listener_port(d.l));
            test_settle(&env);
            /* the one it could not hold is gone, the next one is taken */
            char byte;
            if (fail_at == 2) {
                assert_int_equal(d.n, 0);
                assert_int_equal(recv(fd, &byte, 1, 0), 0);
            }
            int fd2 = raw_connect(kei_listener_port(d.l));
            assert_true(test_drive(&env, test_nonzero, &d.n));
            close(fd);
            close(fd2);
        }
        door_close(&d);
        test_env_fini(&env);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(accepts),          KE_TEST(refuses_bad_addresses), KE_TEST(port_in_use),
        KE_TEST(limit_of_streams), KE_TEST(limit_of_an_address),   KE_TEST(no_descriptors),
        KE_TEST(freed_in_accept),  KE_TEST(unix_sockets),          KE_TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
