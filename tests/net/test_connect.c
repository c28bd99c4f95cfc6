/* SPDX-License-Identifier: Apache-2.0 */
/* The race between addresses: order, stagger, the first one wins, the rest is closed. */
#include "util.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/connect.h"

struct race {
    struct kei_connect *c;
    int calls, status, fd;
    char text[600];
    uint16_t port; /* of the winner */
    int64_t at_ms;
    struct ke_ctx *ctx;
};

static void on_done(void *user, int status, const char *text, int fd, const struct kei_addr *to)
{
    struct race *r = user;
    r->calls++;
    r->c = NULL;
    r->status = status;
    r->fd = fd;
    r->port = to ? kei_addr_port(to) : 0;
    r->at_ms = ke_ctx_mono_ms(r->ctx);
    snprintf(r->text, sizeof r->text, "%s", text);
}

static bool is_done(void *arg)
{
    return ((struct race *)arg)->calls > 0;
}

/* Ports on 127.0.0.1: one that accepts, one that refuses, one that never answers. */
struct ports {
    uint16_t good, closed, mute;
    int good_fd, mute_fd, fill[6];
};

static void ports_open(struct ports *p)
{
    p->good_fd = raw_listen(&p->good);
    close(raw_listen(&p->closed));
    p->mute_fd = raw_listen(&p->mute);
    assert_int_equal(listen(p->mute_fd, 0), 0);
    struct kei_addr a;
    assert_true(kei_addr_literal(&a, "127.0.0.1", p->mute));
    for (int i = 0; i < 6; i++) {
        p->fill[i] = kei_sock_open(AF_INET);
        (void)!connect(p->fill[i], &a.u.any, a.len);
    }
}

static void ports_close(struct ports *p)
{
    for (int i = 0; i < 6; i++)
        close(p->fill[i]);
    close(p->good_fd);
    close(p->mute_fd);
}

static void table(void **state)
{
    static const struct {
        const char *line; /* g good, c closed, m mute, 6 [::1] closed */
        int status;
        int64_t after_ms;
        const char *word;
    } t[] = {
        {"g", 0, 0, ""},
        {"cg", 0, 0, ""},
        {"6g", 0, 0, ""},
        {"ccccg", 0, 0, ""},
        {"mg", 0, 250, ""},
        {"mmg", 0, 500, ""},
        {"cmcg", 0, 250, ""},
        {"gm", 0, 0, ""},
        {"c", KE_ECONN, 0, "refused"},
        {"cc6", KE_ECONN, 0, "2 more"},
    };
    struct ports ports;

    (void)state;
    ports_open(&ports);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct test_env env;
        struct kei_addr a[KEI_ADDRS_MAX];
        size_t n = strlen(t[i].line);
        for (size_t k = 0; k < n; k++) {
            char what = t[i].line[k];
            assert_true(kei_addr_literal(&a[k], what == '6' ? "::1" : "127.0.0.1",
                                         what == 'g'   ? ports.good
                                         : what == 'm' ? ports.mute
                                                       : ports.closed));
        }
        test_env_init(&env, 0);
        struct race r = {.ctx = env.ctx, .fd = -1};
        int64_t start = ke_ctx_mono_ms(env.ctx);
        assert_int_equal(kei_connect_start(&r.c, env.ctx, a, n, 0, on_done, &r), 0);
        assert_int_equal(r.calls, 0);
        assert_true(test_drive(&env, is_done, &r));
        if (r.status != t[i].status || r.at_ms - start != t[i].after_ms ||
            !strstr(r.text, t[i].word))
            fail_msg("\"%s\": %s after %lld ms \"%s\"", t[i].line, ke_strerror(r.status),
                     (long long)(r.at_ms - start), r.text);
        if (r.status == 0) {
            assert_int_equal(r.port, ports.good);
            close(r.fd);
        } else {
            assert_int_equal(r.fd, -1);
        }
        test_settle(&env);
        assert_int_equal(r.calls, 1);
        test_env_fini(&env); /* sees to it that the losers are closed */
    }
    ports_close(&ports);
}

static void cancelled(void **state)
{
    struct ports ports;

    (void)state;
    ports_open(&ports);
    for (int turns = 0; turns < 3; turns++) {
        struct test_env env;
        struct kei_addr a[2];
        test_env_init(&env, 0);
        struct race r = {.ctx = env.ctx};
        assert_true(kei_addr_literal(&a[0], "127.0.0.1", ports.mute));
        assert_true(kei_addr_literal(&a[1], "127.0.0.1", ports.mute));
        assert_int_equal(kei_connect_start(&r.c, env.ctx, a, 2, 0, on_done, &r), 0);
        for (int k = 0; k < turns; k++)
            test_drive_ms(&env, 250);
        kei_connect_cancel(r.c);
        test_drive_ms(&env, 1000);
        assert_int_equal(r.calls, 0);
        test_env_fini(&env);
    }
    ports_close(&ports);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {KE_TEST(table), KE_TEST(cancelled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
