/* SPDX-License-Identifier: Apache-2.0 */
/* A link that goes silent without a word, as when a cable is pulled: found in both directions. */
#include "util.h"

#include <linux/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream_priv.h"
#include "netns.h"

#define DEAD_MS 2000

static bool own_network;

struct link {
    struct test_env env;
    struct probe p;
    int fd;
};

static void link_open(struct link *l)
{
    struct kei_stream_config c = {.host = "127.0.0.1", .dead_ms = DEAD_MS};

    netns_loopback(true);
    test_env_init(&l->env, TEST_REAL_CLOCK);
    probe_init(&l->p);
    int lfd = raw_listen(&c.port);
    assert_int_equal(kei_stream_connect(&l->p.s, l->env.ctx, &c, &probe_ops, &l->p), 0);
    assert_true(test_drive(&l->env, probe_is_open, &l->p));
    l->fd = raw_accept(&l->env, lfd);
    close(lfd);
}

static void link_close(struct link *l)
{
    probe_fini(&l->p);
    close(l->fd);
    test_env_fini(&l->env);
    netns_loopback(true);
}

static int option(int fd, int level, int name)
{
    int v = -1;
    socklen_t n = sizeof v;
    assert_int_equal(getsockopt(fd, level, name, &v, &n), 0);
    return v;
}

static void options_are_set(void **state)
{
    struct link l;

    (void)state;
    if (!own_network)
        skip();
    link_open(&l);
    int fd = l.p.s->fd;
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), DEAD_MS);
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    int idle = option(fd, IPPROTO_TCP, TCP_KEEPIDLE),
        every = option(fd, IPPROTO_TCP, TCP_KEEPINTVL);
    assert_true(idle >= 1 && every >= 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    link_close(&l);
}

static void nothing_is_acknowledged(void **state)
{
    struct link l;

    (void)state;
    if (!own_network)
        skip();
    link_open(&l);
    netns_loopback(false);
    assert_int_equal(kei_stream_write(l.p.s, "keepalive", 9), 0);
    assert_true(test_drive(&l.env, probe_is_closed, &l.p));
    assert_int_equal(l.p.status, KE_ETIMEDOUT);
    assert_non_null(strstr(l.p.text, "dead"));
    link_close(&l);
}

/* We only listen: nothing of ours is unacknowledged, the probes find it. */
static void nothing_is_heard(void **state)
{
    struct link l;

    (void)state;
    if (!own_network)
        skip();
    link_open(&l);
    netns_loopback(false);
    assert_true(test_drive(&l.env, probe_is_closed, &l.p));
    assert_int_equal(l.p.status, KE_ETIMEDOUT);
    link_close(&l);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(options_are_set),
        KE_TEST(nothing_is_acknowledged),
        KE_TEST(nothing_is_heard),
    };
    own_network = netns_enter();
    if (!own_network)
        fprintf(stderr, "skipped: a network namespace is not permitted here\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
