/* SPDX-License-Identifier: Apache-2.0 */
/* Through an HTTP proxy: the exchange as text, scripted proxies, and tinyproxy as a real one. */
#include "util.h"

#include <sys/socket.h>
#include <unistd.h>

#include "net/proxy.h"

static void urls(void **state)
{
    static const struct {
        const char *url;
        int status;
        const char *host;
        uint16_t port;
        const char *userinfo;
    } t[] = {
        {"http://proxy:3128", 0, "proxy", 3128, ""},
        {"http://proxy", 0, "proxy", 80, ""},
        {"http://proxy/", 0, "proxy", 80, ""},
        {"http://10.0.0.1:8888/", 0, "10.0.0.1", 8888, ""},
        {"http://[::1]:8888", 0, "::1", 8888, ""},
        {"http://[2001:db8::1]", 0, "2001:db8::1", 80, ""},
        {"http://u:p@proxy:1", 0, "proxy", 1, "u:p"},
        {"http://u@proxy:1", 0, "proxy", 1, "u"},
        {"http://u:p@ss@proxy:1", 0, "proxy", 1, "u:p@ss"},
        {"http://u:a%40b%3A@[::1]:1", 0, "::1", 1, "u:a%40b%3A"},
        {"", KE_EINVAL, NULL, 0, NULL},
        {"proxy:3128", KE_EINVAL, NULL, 0, NULL},
        {"http://", KE_EINVAL, NULL, 0, NULL},
        {"http://:80", KE_EINVAL, NULL, 0, NULL},
        {"http://proxy:", KE_EINVAL, NULL, 0, NULL},
        {"http://proxy:0", KE_EINVAL, NULL, 0, NULL},
        {"http://proxy:65536", KE_EINVAL, NULL, 0, NULL},
        {"http://proxy:80x", KE_EINVAL, NULL, 0, NULL},
        {"http://proxy/path", KE_EINVAL, NULL, 0, NULL},
        {"http://[::1", KE_EINVAL, NULL, 0, NULL},
        {"http://[::1]80", KE_EINVAL, NULL, 0, NULL},
        {"http://a b", KE_EINVAL, NULL, 0, NULL},
        {"https://proxy", KE_ENOTSUP, NULL, 0, NULL},
        {"socks5://proxy", KE_ENOTSUP, NULL, 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_proxy x;
        struct ke_error err = KE_ERROR_INIT;
        int r = kei_proxy_parse(&x, t[i].url, &err);
        if (r != t[i].status)
            fail_msg("\"%s\": %s %s", t[i].url, ke_strerror(r), err.text);
        if (r < 0)
            continue;
        assert_string_equal(x.host, t[i].host);
        assert_int_equal(x.port, t[i].port);
        assert_true(kei_str_is(x.userinfo, t[i].userinfo));
    }
}

static void requests(void **state)
{
    static const struct {
        const char *url, *host, *want;
    } t[] = {
        {"http://p", "cloud.example",
         "CONNECT cloud.example:10000 HTTP/1.1\r\nHost: cloud.example:10000\r\n\r\n"},
        {"http://p", "::1", "CONNECT [::1]:10000 HTTP/1.1\r\nHost: [::1]:10000\r\n\r\n"},
        {"http://Aladdin:open%20sesame@p", "h",
         "CONNECT h:10000 HTTP/1.1\r\nHost: h:10000\r\n"
         "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"},
        {"http://u@p", "h",
         "CONNECT h:10000 HTTP/1.1\r\nHost: h:10000\r\nProxy-Authorization: Basic dTo=\r\n\r\n"},
        {"http://u:%zz@p", "h", NULL},
        {"http://u:%4@p", "h", NULL},
        {"http://u:a%00@p", "h", NULL},
        {"http://u:%0d%0a@p", "h",
         "CONNECT h:10000 HTTP/1.1\r\nHost: h:10000\r\nProxy-Authorization: Basic "
         "dToNCg==\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_proxy x;
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        kei_buf_init(&out, kei_alloc_malloc());
        assert_int_equal(kei_proxy_parse(&x, t[i].url, &err), 0);
        int r = kei_proxy_request(&x, t[i].host, 10000, &out, &err);
        if (t[i].want) {
            assert_int_equal(r, 0);
            assert_string_equal(out.p, t[i].want);
        } else {
            assert_int_equal(r, KE_EINVAL);
        }
        ke_buf_free(&out);
    }
}

/* ---- through a scripted proxy ---- */

static void scripted(void **state)
{
    static const struct {
        const char *answer; /* NULL: closes */
        int status;         /* 0: open */
        const char *word;
    } t[] = {
        {"HTTP/1.1 200 Connection established\r\n\r\n", 0, ""},
        {"HTTP/1.0 200 OK\r\nProxy-agent: tinyproxy\r\n\r\n", 0, ""},
        {"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nno\n", KE_EPROXY,
         "407 Proxy Authentication Required"},
        {"HTTP/1.1 403 Forbidden\r\n\r\n", KE_EPROXY, "403 Forbidden"},
        {"HTTP/1.1 502 Bad Gateway\r\n\r\n", KE_EPROXY, "502"},
        {"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", KE_EPROXY, "301"},
        {"SSH-2.0-OpenSSH\r\n", KE_EPROXY, "version"},
        {"\x16\x03\x01", KE_EPROXY, "0x16"},
        {NULL, KE_EPROXY, "closed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        for (int slow = 0; slow < 2; slow++) {
            struct test_env env;
            struct probe p;
            uint16_t port;
            char url[64], head[1024], want[512];
            test_env_init(&env, 0);
            probe_init(&p);
            int lfd = raw_listen(&port);
            snprintf(url, sizeof url, "http://me:secret@127.0.0.1:%u", port);
            struct kei_stream_config c = {.host = "cloud.invalid", .port = 10000, .proxy_url = url};
            assert_int_equal(kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p), 0);
            int fd = raw_accept(&env, lfd);
            raw_recv_head(&env, fd, head, sizeof head);
            snprintf(want, sizeof want,
                     "CONNECT cloud.invalid:10000 HTTP/1.1\r\nHost: cloud.invalid:10000\r\n"
                     "Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n");
            assert_string_equal(head, want);
            if (!t[i].answer) {
                shutdown(fd, SHUT_WR);
            } else if (slow) {
                for (const char *s = t[i].answer; *s && !p.closes; s++) {
                    raw_send(&env, fd, s, 1);
                    test_settle(&env);
                }
            } else {
                raw_puts(&env, fd, t[i].answer);
            }
            if (t[i].status == 0) {
                assert_true(test_drive(&env, probe_is_open, &p));
                raw_puts(&env, fd, "from beyond");
                test_settle(&env);
                assert_string_equal(p.in.p, "from beyond");
            } else {
                assert_true(test_drive(&env, probe_is_closed, &p));
                if (p.status != t[i].status || !strstr(p.text, t[i].word) ||
                    !strstr(p.text, "cloud.invalid"))
                    fail_msg("case %zu: %s \"%s\"", i, ke_strerror(p.status), p.text);
                assert_null(strstr(p.text, "secret"));
            }
            probe_fini(&p);
            close(fd);
            close(lfd);
            test_env_fini(&env);
        }
    }
}

/* Bytes that come in one piece with the proxy's answer belong to the tunnel. */
static void bytes_behind_the_answer(void **state)
{
    struct test_env env;
    struct probe p;
    uint16_t port;
    char url[64], head[1024];

    (void)state;
    test_env_init(&env, 0);
    probe_init(&p);
    int lfd = raw_listen(&port);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    struct kei_stream_config c = {.host = "h", .port = 1, .proxy_url = url};
    assert_int_equal(kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p), 0);
    int fd = raw_accept(&env, lfd);
    raw_recv_head(&env, fd, head, sizeof head);
    raw_puts(&env, fd, "HTTP/1.1 200 OK\r\n\r\nSSH-2.0");
    assert_true(test_drive(&env, probe_is_open, &p));
    test_settle(&env);
    assert_string_equal(p.in.p, "SSH-2.0");
    probe_fini(&p);
    close(fd);
    close(lfd);
    test_env_fini(&env);
}

static void silent_proxy(void **state)
{
    struct test_env env;
    struct probe p;
    uint16_t port;
    char url[64];

    (void)state;
    test_env_init(&env, 0);
    probe_init(&p);
    int lfd = raw_listen(&port);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    struct kei_stream_config c = {.host = "h", .port = 1, .proxy_url = url, .connect_ms = 5000};
    assert_int_equal(kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p), 0);
    assert_true(test_drive(&env, probe_is_closed, &p));
    assert_int_equal(p.status, KE_ETIMEDOUT);
    assert_non_null(strstr(p.text, "proxy"));
    probe_fini(&p);
    close(lfd);
    test_env_fini(&env);
}

/* ---- tinyproxy ---- */

struct tiny {
    struct peer peer;
    char dir[64];
    uint16_t port;
};

static void tiny_start(struct tiny *t)
{
    char path[128];
    const char *program = find_program("tinyproxy");

    if (!program) {
        fprintf(stderr, "skipped: no tinyproxy\n");
        skip();
    }
    test_tmp_make(t->dir, sizeof t->dir);
    snprintf(path, sizeof path, "%s/conf", t->dir);
    close(raw_listen(&t->port));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "Port %u\nListen 127.0.0.1\nTimeout 600\nMaxClients 10\nAllow 127.0.0.1\n"
            "BasicAuth node pass-word\nLogLevel Info\n",
            t->port);
    fclose(f);
    const char *const argv[] = {program, "-d", "-c", path, NULL};
    if (!peer_start(&t->peer, argv, "Accepting connections"))
        fail_msg("tinyproxy did not start");
}

static void tiny_stop(struct tiny *t)
{
    peer_stop(&t->peer);
    test_tmp_remove(t->dir);
}

static void through_tinyproxy(void **state)
{
    static const struct {
        const char *credentials;
        int status;
    } t[] = {{"node:pass%2Dword@", 0}, {"node:wrong@", KE_EPROXY}, {"", KE_EPROXY}};
    struct tiny tiny;

    (void)state;
    tiny_start(&tiny);
    for (size_t i = 0; i < 3; i++) {
        struct test_env env;
        struct probe p;
        char url[128], got[6] = "";
        test_env_init(&env, 0);
        env.idle_ms = PEER_IDLE_MS;
        probe_init(&p);
        struct kei_stream_config c = {.host = "127.0.0.1", .proxy_url = url};
        int lfd = raw_listen(&c.port);
        snprintf(url, sizeof url, "http://%s127.0.0.1:%u", t[i].credentials, tiny.port);
        assert_int_equal(kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p), 0);
        if (t[i].status == 0) {
            int fd = raw_accept(&env, lfd);
            assert_true(test_drive(&env, probe_is_open, &p));
            assert_int_equal(kei_stream_write(p.s, "hello", 5), 0);
            raw_recv(&env, fd, got, 5);
            assert_string_equal(got, "hello");
            close(fd);
            assert_true(test_drive(&env, probe_is_closed, &p));
        } else {
            assert_true(test_drive(&env, probe_is_closed, &p));
            if (p.status != KE_EPROXY || !strstr(p.text, "40"))
                fail_msg("%s \"%s\"", ke_strerror(p.status), p.text);
        }
        close(lfd);
        probe_fini(&p);
        test_env_fini(&env);
    }
    /* nobody behind it */
    struct test_env env;
    struct probe p;
    char url[128];
    test_env_init(&env, 0);
    env.idle_ms = PEER_IDLE_MS;
    probe_init(&p);
    struct kei_stream_config c = {.host = "127.0.0.1", .proxy_url = url};
    close(raw_listen(&c.port));
    snprintf(url, sizeof url, "http://node:pass%%2dword@127.0.0.1:%u", tiny.port);
    assert_int_equal(kei_stream_connect(&p.s, env.ctx, &c, &probe_ops, &p), 0);
    assert_true(test_drive(&env, probe_is_closed, &p));
    assert_int_equal(p.status, KE_EPROXY);
    probe_fini(&p);
    test_env_fini(&env);
    tiny_stop(&tiny);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(urls),         KE_TEST(requests),
        KE_TEST(scripted),     KE_TEST(bytes_behind_the_answer),
        KE_TEST(silent_proxy), KE_TEST(through_tinyproxy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
