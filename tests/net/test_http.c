/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP client and server: each against plain sockets, and against programs that are not ours. */
#include "util.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kubeedge/version.h>

#include "net/http.h"

/* ---- client ---- */

struct call {
    struct kei_http_call *c;
    int calls, status;
    char text[600];
    uint32_t http;
    struct ke_buf body;
    char date[64];
    bool free_in_done;
};

static void on_done(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct call *c = user;
    c->calls++;
    c->status = status;
    snprintf(c->text, sizeof c->text, "%s", text);
    if (status == 0) {
        c->http = head->status;
        struct ke_str date = kei_http_header(head, "Date");
        snprintf(c->date, sizeof c->date, "%.*s", KEI_FMT(date));
        kei_buf_add(&c->body, body.p, body.n);
    } else {
        assert_null(head);
        assert_int_equal(body.n, 0);
    }
    if (c->free_in_done) {
        kei_http_call_free(c->c);
        c->c = NULL;
    }
}

static bool is_done(void *arg)
{
    return ((struct call *)arg)->calls > 0;
}

static void call_start(struct test_env *e, struct call *c, struct kei_http_call_config *conf)
{
    memset(c, 0, sizeof *c);
    kei_buf_init(&c->body, kei_alloc_malloc());
    if (!conf->stream.host)
        conf->stream.host = "127.0.0.1";
    if (!conf->method)
        conf->method = "GET";
    if (!conf->target)
        conf->target = "/";
    int r = kei_http_call(&c->c, e->ctx, conf, on_done, c);
    if (r < 0)
        fail_msg("%s", ke_ctx_error(e->ctx));
    assert_int_equal(c->calls, 0);
}

static void call_end(struct call *c)
{
    kei_http_call_free(c->c);
    ke_buf_free(&c->body);
}

static void client_requests(void **state)
{
    static const struct {
        struct kei_http_call_config c;
        const char *want; /* %u: the port */
    } t[] = {
        {{.method = "GET", .target = "/ca.crt"},
         "GET /ca.crt HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: libkubeedge/" KE_VERSION
         "\r\nConnection: close\r\n\r\n"},
        /* a GET with a body, as /edge.crt wants it */
        {{.method = "GET",
          .target = "/edge.crt",
          .headers = "Authorization: Bearer a.b.c\r\nNodeName: edge-1\r\n",
          .body = {"csr", 3}},
         "GET /edge.crt HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: libkubeedge/" KE_VERSION
         "\r\nContent-Length: 3\r\nConnection: close\r\nAuthorization: Bearer a.b.c\r\n"
         "NodeName: edge-1\r\n\r\ncsr"},
        {{.method = "POST", .target = "/x", .headers = "User-Agent: me\r\n"},
         "POST /x HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Length: 0\r\nConnection: close\r\n"
         "User-Agent: me\r\n\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct test_env env;
        struct call c;
        struct kei_http_call_config conf = t[i].c;
        char want[600], got[600];
        test_env_init(&env, 0);
        int lfd = raw_listen(&conf.stream.port);
        call_start(&env, &c, &conf);
        int fd = raw_accept(&env, lfd);
        int n = snprintf(want, sizeof want, t[i].want, conf.stream.port);
        raw_recv(&env, fd, got, (size_t)n);
        got[n] = '\0';
        assert_string_equal(got, want);
        raw_puts(&env, fd, "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok");
        assert_true(test_drive(&env, is_done, &c));
        assert_int_equal(c.status, 0);
        assert_int_equal(c.http, 200);
        assert_string_equal(c.date, "now");
        assert_string_equal(c.body.p, "ok");
        call_end(&c);
        close(fd);
        close(lfd);
        test_env_fini(&env);
    }
}

static const struct {
    const char *answer;
    int status;
    uint32_t http;
    const char *body; /* or a word of the text */
} answers[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0, 200, "hello"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", 0, 200, "hello"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0, 200,
     "hello"},
    {"HTTP/1.0 200 OK\r\n\r\nuntil the end", 0, 200, "until the end"},
    {"HTTP/1.1 204 No Content\r\n\r\n", 0, 204, ""},
    {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 27\r\n\r\nInvalid authorization token", 0, 401,
     "Invalid authorization token"},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
     0, 200, ""},
    {"", KE_ECLOSED, 0, "before it answered"},
    {"HTTP/1.1 200 OK\r\nContent-Le", KE_ECLOSED, 0, "before it answered"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", KE_ECLOSED, 0, "3 of 5"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", KE_ECLOSED, 0,
     "closed early"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", KE_EPROTO, 0,
     "Transfer-Encoding"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", KE_ELIMIT, 0, "1000"},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", KE_ENOTSUP, 0, "gzip"},
    {"HTTP/1.1 101 Switching\r\n\r\n", KE_EPROTO, 0, "switched"},
    {"\x15\x03\x01\x00\x02\x02\x46", KE_EPROTO, 0, "0x15"},
};

static void client_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof answers / sizeof answers[0]; i++) {
        struct test_env env;
        struct call c;
        struct kei_http_call_config conf = {.max_body = 1000};
        const char *answer = answers[i / 2].answer;
        char head[600];
        test_env_init(&env, 0);
        int lfd = raw_listen(&conf.stream.port);
        call_start(&env, &c, &conf);
        int fd = raw_accept(&env, lfd);
        raw_recv_head(&env, fd, head, sizeof head);
        if (i % 2 == 0) {
            raw_puts(&env, fd, answer);
        } else {
            for (size_t k = 0; k < strlen(answer) && !c.calls; k++) {
                raw_send(&env, fd, answer + k, 1);
                test_settle(&env);
            }
        }
        shutdown(fd, SHUT_WR);
        assert_true(test_drive(&env, is_done, &c));
        if (c.status != answers[i / 2].status ||
            (c.status == 0 && (c.http != answers[i / 2].http ||
                               strcmp(c.body.n ? c.body.p : "", answers[i / 2].body) != 0)) ||
            (c.status < 0 && !strstr(c.text, answers[i / 2].body)))
            fail_msg("case %zu: %s %u \"%s\" \"%s\"", i / 2, ke_strerror(c.status), c.http, c.text,
                     c.body.n ? c.body.p : "");
        test_settle(&env);
        assert_int_equal(c.calls, 1);
        call_end(&c);
        close(fd);
        close(lfd);
        test_env_fini(&env);
    }
}

static void client_limits_of_time(void **state)
{
    static const char *const parts[] = {"", "HTTP/1.1 200 OK\r\n",
                                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct test_env env;
        struct call c;
        struct kei_http_call_config conf = {.timeout_ms = 8000};
        test_env_init(&env, 0);
        int lfd = raw_listen(&conf.stream.port);
        int64_t start = ke_ctx_mono_ms(env.ctx);
        call_start(&env, &c, &conf);
        int fd = raw_accept(&env, lfd);
        raw_puts(&env, fd, parts[i]);
        assert_true(test_drive(&env, is_done, &c));
        assert_int_equal(c.status, KE_ETIMEDOUT);
        assert_int_equal(ke_ctx_mono_ms(env.ctx) - start, 8000);
        assert_non_null(strstr(c.text, "8000"));
        call_end(&c);
        close(fd);
        close(lfd);
        test_env_fini(&env);
    }
}

static void client_flood_of_interim_answers(void **state)
{
    struct test_env env;
    struct call c;
    struct kei_http_call_config conf = {0};

    (void)state;
    test_env_init(&env, 0);
    int lfd = raw_listen(&conf.stream.port);
    call_start(&env, &c, &conf);
    int fd = raw_accept(&env, lfd);
    for (int i = 0; i < 17; i++)
        raw_puts(&env, fd, "HTTP/1.1 102 Processing\r\n\r\n");
    assert_true(test_drive(&env, is_done, &c));
    assert_int_equal(c.status, KE_ELIMIT);
    call_end(&c);
    close(fd);
    close(lfd);
    test_env_fini(&env);
}

static void client_freed(void **state)
{
    (void)state;
    for (int turns = -1; turns < 5; turns++) {
        struct test_env env;
        struct call c;
        struct kei_http_call_config conf = {0};
        test_env_init(&env, 0);
        int lfd = raw_listen(&conf.stream.port);
        call_start(&env, &c, &conf);
        c.free_in_done = turns < 0;
        for (int i = 0; i < turns; i++)
            assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        if (turns < 0) {
            int fd = raw_accept(&env, lfd);
            raw_puts(&env, fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            assert_true(test_drive(&env, is_done, &c));
            assert_string_equal(c.body.p, "ok");
            close(fd);
        }
        call_end(&c);
        test_settle(&env);
        assert_int_equal(c.calls, turns < 0);
        close(lfd);
        test_env_fini(&env);
    }
}

static void client_bad_arguments(void **state)
{
    static const struct kei_http_call_config t[] = {
        {.method = "", .target = "/"},
        {.method = "get", .target = "/"},
        {.method = "G T", .target = "/"},
        {.method = "ABCDEFGHIJKLMNOP", .target = "/"},
        {.method = "GET", .target = ""},
        {.method = "GET", .target = "/a b"},
        {.method = "GET", .target = "/a\r\nX: y"},
        {.method = "GET", .target = "/", .headers = "A: b"},
        {.method = "GET", .target = "/", .headers = "A: b\r\n\r\nGET / HTTP/1.1\r\n"},
    };
    struct test_env env;
    struct kei_http_call *c = NULL;

    (void)state;
    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_http_call_config conf = t[i];
        conf.stream.host = "127.0.0.1";
        conf.stream.port = 1;
        assert_int_equal(kei_http_call(&c, env.ctx, &conf, on_done, NULL), KE_EINVAL);
        assert_null(c);
    }
    test_env_fini(&env);
}

/* ---- server ---- */

struct site {
    struct kei_http_server *s;
    struct kei_http_conn *held; /* answered later */
    bool hold, free_server, upgrade, close_stream;
    int requests, closed;
    char last[4096];    /* "METHOD TARGET body" */
    const char *header; /* further lines of the answer */
    struct kei_stream *upgraded;
    struct probe p;
};

static void on_request(void *user, struct kei_http_conn *c, const struct kei_http_head *h,
                       struct ke_str body)
{
    struct site *s = user;
    char text[64];

    s->requests++;
    snprintf(s->last, sizeof s->last, "%.*s %.*s %.*s", KEI_FMT(h->method), KEI_FMT(h->target),
             KEI_FMT(body));
    if (s->free_server) {
        kei_http_server_free(s->s);
        s->s = NULL;
        return;
    }
    if (s->hold) {
        s->held = c;
        return;
    }
    if (s->upgrade) {
        s->upgraded = kei_http_upgrade(c, KEI_STR("HTTP/1.1 101 Switching Protocols\r\n\r\n"));
        assert_non_null(s->upgraded);
        s->p.s = s->upgraded;
        kei_stream_set_ops(s->upgraded, &probe_ops, &s->p);
        return;
    }
    snprintf(text, sizeof text, "answer %d", s->requests);
    assert_int_equal(kei_http_respond(c, 200, "text/plain", s->header, kei_str(text)), 0);
    /* the head is ours to read until this call ends */
    assert_true(h->method.n > 0 && h->method.p[0] >= 'A');
}

static void on_closed(void *user, struct kei_http_conn *c)
{
    struct site *s = user;
    assert_ptr_equal(c, s->held);
    s->held = NULL;
    s->closed++;
}

static const struct kei_http_server_ops site_ops = {on_request, on_closed};

static void site_open(struct test_env *e, struct site *s, struct kei_http_server_config *c)
{
    memset(s, 0, sizeof *s);
    probe_init(&s->p);
    test_env_init(e, 0);
    c->listener.host = "127.0.0.1";
    if (kei_http_server_new(&s->s, e->ctx, c, &site_ops, s) < 0)
        fail_msg("%s", ke_ctx_error(e->ctx));
}

static void site_close(struct test_env *e, struct site *s)
{
    kei_http_server_free(s->s);
    probe_fini(&s->p);
    test_env_fini(e);
}

static const struct {
    const char *request;
    const char *told;   /* "" : nothing */
    const char *status; /* beginning of the answer */
    bool stays;
} requests[] = {
    {"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a ", "HTTP/1.1 200 OK", true},
    {"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET /a ", "HTTP/1.1 200 OK",
     false},
    {"GET /a HTTP/1.0\r\n\r\n", "GET /a ", "HTTP/1.1 200 OK", false},
    {"GET /e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ncsr", "GET /e csr", "HTTP/1.1 200 OK",
     true},
    {"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
     "chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n",
     "POST /c abc", "HTTP/1.1 200 OK", true},
    {"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD /h ", "HTTP/1.1 200 OK", true},
    {"GET / HTTP/1.1\r\n\r\n", "", "HTTP/1.1 400 Bad Request", false},
    {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 400 Bad Request", false},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "HTTP/1.1 400 Bad Request", false},
    {"\x16\x03\x01\x02\x00\x01", "", "HTTP/1.1 400 Bad Request", false},
    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\n\r\n",
     "", "HTTP/1.1 400 Bad Request", false},
    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "",
     "HTTP/1.1 400 Bad Request", false},
    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n", "",
     "HTTP/1.1 413 Content Too Large", false},
    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", "",
     "HTTP/1.1 413 Content Too Large", false},
    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "",
     "HTTP/1.1 501 Not Implemented", false},
    {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: magic\r\n\r\n", "",
     "HTTP/1.1 417 Expectation Failed", false},
};

/* Reads one answer; its body by Content-Length, none after HEAD. */
static void read_answer(struct test_env *e, int fd, bool is_head, char *head, size_t size,
                        char *body)
{
    raw_recv_head(e, fd, head, size);
    const char *length = strstr(head, "Content-Length: ");
    assert_non_null(length);
    size_t n = (size_t)strtoul(length + 16, NULL, 10);
    assert_true(n < 1000);
    if (!is_head)
        raw_recv(e, fd, body, n);
    body[is_head ? 0 : n] = '\0';
}

static void server_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof requests / sizeof requests[0]; i++) {
        struct test_env env;
        struct site s;
        struct kei_http_server_config c = {.max_body = 100};
        const char *text = requests[i / 2].request;
        char head[1000], body[1000];
        site_open(&env, &s, &c);
        int fd = raw_connect(kei_http_server_port(s.s));
        if (i % 2 == 0) {
            raw_puts(&env, fd, text);
        } else {
            for (size_t k = 0; k < strlen(text); k++) {
                if (send(fd, text + k, 1, MSG_NOSIGNAL) < 0)
                    break; /* refused before it was whole */
                test_settle(&env);
            }
        }
        read_answer(&env, fd, strncmp(text, "HEAD", 4) == 0, head, sizeof head, body);
        if (strncmp(head, requests[i / 2].status, strlen(requests[i / 2].status)) != 0 ||
            strcmp(s.last, requests[i / 2].told) != 0)
            fail_msg("case %zu: told \"%s\", answered %s", i / 2, s.last, head);
        assert_non_null(strstr(head, "Date: Tue, 01 Dec 2026 00:00:00 GMT\r\n"));
        if (requests[i / 2].stays) {
            assert_null(strstr(head, "Connection: close"));
            raw_puts(&env, fd, "GET /again HTTP/1.1\r\nHost: x\r\n\r\n");
            read_answer(&env, fd, false, head, sizeof head, body);
            assert_string_equal(body, "answer 2");
        } else {
            assert_non_null(strstr(head, "Connection: close"));
            assert_int_equal(raw_recv_end(&env, fd, body, sizeof body), 0);
        }
        close(fd);
        site_close(&env, &s);
    }
}

static void server_head_limit(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {.max_head = 1000};
    char head[1000], body[1000], big[1200];

    (void)state;
    site_open(&env, &s, &c);
    memset(big, 'a', sizeof big);
    memcpy(big, "GET / HTTP/1.1\r\nHost: x\r\nA: ", 28);
    int fd = raw_connect(kei_http_server_port(s.s));
    raw_send(&env, fd, big, sizeof big);
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_non_null(strstr(head, "HTTP/1.1 431 "));
    assert_non_null(strstr(body, "1000"));
    close(fd);
    site_close(&env, &s);
}

/* The refusal arrives although the peer goes on sending. */
static void server_refuses_a_flood(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {.max_body = 1000};
    char head[1000], body[1000], block[8192] = "";

    (void)state;
    site_open(&env, &s, &c);
    int fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    for (int i = 0; i < 50; i++)
        raw_send(&env, fd, block, sizeof block);
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_non_null(strstr(head, "413"));
    assert_int_equal(raw_recv_end(&env, fd, body, sizeof body), 0);
    close(fd);
    site_close(&env, &s);
}

static void server_expect_continue(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {0};
    char head[1000], body[1000];

    (void)state;
    site_open(&env, &s, &c);
    int fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd,
             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    raw_recv_head(&env, fd, head, sizeof head);
    assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
    raw_puts(&env, fd, "abc");
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_string_equal(s.last, "POST / abc");
    /* with the body there, there is nothing to wait for */
    raw_puts(&env, fd,
             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_non_null(strstr(head, "200 OK"));
    close(fd);
    site_close(&env, &s);
}

static void server_pipelining(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {0};
    char head[1000], body[1000], want[32];

    (void)state;
    site_open(&env, &s, &c);
    int fd = raw_connect(kei_http_server_port(s.s));
    for (int i = 0; i < 20; i++)
        raw_puts(&env, fd, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    for (int i = 1; i <= 20; i++) {
        read_answer(&env, fd, false, head, sizeof head, body);
        snprintf(want, sizeof want, "answer %d", i);
        assert_string_equal(body, want);
    }
    /* an answer that comes later: the next request waits for it */
    s.hold = true;
    raw_puts(&env, fd, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    test_settle(&env);
    assert_int_equal(s.requests, 21);
    s.hold = false;
    assert_int_equal(kei_http_respond(s.held, 404, NULL, "X-A: b\r\n", KEI_STR("later")), 0);
    assert_int_equal(s.requests, 21); /* not from within */
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_string_equal(body, "later");
    assert_non_null(strstr(head, "404 Not Found"));
    assert_non_null(strstr(head, "X-A: b"));
    assert_null(strstr(head, "Content-Type"));
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_string_equal(body, "answer 22");
    assert_string_equal(s.last, "GET /2 ");
    close(fd);
    site_close(&env, &s);
}

static void server_bad_answers(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {.listener = {.send_cap = 1000}};
    char head[1000], body[1000], big[2000];

    (void)state;
    site_open(&env, &s, &c);
    s.hold = true;
    int fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(test_drive(&env, test_nonzero, &s.requests));
    memset(big, 'x', sizeof big);
    assert_int_equal(kei_http_respond(s.held, 99, NULL, NULL, KEI_STR("")), KE_EINVAL);
    assert_int_equal(kei_http_respond(s.held, 101, NULL, NULL, KEI_STR("")), KE_EINVAL);
    assert_int_equal(kei_http_respond(s.held, 200, "a\r\nb", NULL, KEI_STR("")), KE_EINVAL);
    assert_int_equal(kei_http_respond(s.held, 200, NULL, "A: b", KEI_STR("")), KE_EINVAL);
    assert_int_equal(kei_http_respond(s.held, 200, NULL, NULL, kei_strn(big, 2000)), KE_ELIMIT);
    /* after all of that it can still be answered, once */
    assert_int_equal(kei_http_respond(s.held, 204, NULL, NULL, KEI_STR("ignored")), 0);
    assert_int_equal(kei_http_respond(s.held, 200, NULL, NULL, KEI_STR("twice")), KE_ESTATE);
    raw_recv_head(&env, fd, head, sizeof head);
    assert_null(strstr(head, "Content-Length"));
    s.hold = false;
    raw_puts(&env, fd, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n");
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_string_equal(body, "answer 2");
    close(fd);
    site_close(&env, &s);
}

static bool ended(int fd)
{
    char byte;
    ssize_t r = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return r == 0 || (r < 0 && errno != EAGAIN);
}

/* Senders that are slow on purpose hold a connection for idle_ms, not longer. */
static void server_slow_senders(void **state)
{
    static const char *const starts[] = {
        "", "G", "GET / HTTP/1.1\r\nHost: x\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct test_env env;
        struct site s;
        struct kei_http_server_config c = {.idle_ms = 5000};
        char rest[100];
        site_open(&env, &s, &c);
        int fd = raw_connect(kei_http_server_port(s.s));
        test_settle(&env);
        raw_puts(&env, fd, starts[i]);
        test_settle(&env);
        /* a byte now and then does not keep it alive */
        int sent = 0;
        for (; sent < 20 && !ended(fd); sent++) {
            if (i > 0)
                (void)!send(fd, "a", 1, MSG_NOSIGNAL);
            test_drive_ms(&env, 1000);
        }
        assert_true(sent <= 7);
        assert_true(raw_recv_end(&env, fd, rest, sizeof rest) <= 0);
        assert_int_equal(s.requests, 0);
        close(fd);
        site_close(&env, &s);
    }
    /* head and body have the time each for themselves */
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {.idle_ms = 5000};
    char head[1000], body[1000];
    site_open(&env, &s, &c);
    int fd = raw_connect(kei_http_server_port(s.s));
    test_drive_ms(&env, 4000);
    raw_puts(&env, fd, "POST / HTTP/1.1\r\nHost: x\r\n");
    test_drive_ms(&env, 4000);
    raw_puts(&env, fd, "Content-Length: 1\r\n\r\n");
    test_drive_ms(&env, 4000);
    raw_puts(&env, fd, "x");
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_string_equal(body, "answer 1");
    close(fd);
    site_close(&env, &s);
    /* the time an answer takes is not the sender's */
    site_open(&env, &s, &c);
    s.hold = true;
    fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    test_drive_ms(&env, 60000);
    assert_non_null(s.held);
    assert_int_equal(kei_http_respond(s.held, 200, NULL, NULL, KEI_STR("at last")), 0);
    read_answer(&env, fd, false, head, sizeof head, body);
    assert_string_equal(body, "at last");
    test_drive_ms(&env, 5000);
    assert_int_equal(raw_recv_end(&env, fd, body, sizeof body), 0);
    close(fd);
    site_close(&env, &s);
}

static bool was_closed(void *arg)
{
    return ((struct site *)arg)->closed > 0;
}

static void server_peer_gone(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {0};

    (void)state;
    site_open(&env, &s, &c);
    s.hold = true;
    int fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(test_drive(&env, test_nonzero, &s.requests));
    close(fd);
    assert_true(test_drive(&env, was_closed, &s));
    /* one that goes without having asked is nobody's business */
    fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd, "GET / HT");
    test_settle(&env);
    close(fd);
    test_settle(&env);
    assert_int_equal(s.closed, 1);
    site_close(&env, &s);
}

static void server_freed_in_request(void **state)
{
    (void)state;
    for (int with_body = 0; with_body < 2; with_body++) {
        struct test_env env;
        struct site s;
        struct kei_http_server_config c = {0};
        char rest[100];
        site_open(&env, &s, &c);
        s.free_server = true;
        int idle = raw_connect(kei_http_server_port(s.s));
        int fd = raw_connect(kei_http_server_port(s.s));
        raw_puts(&env, fd,
                 with_body ? "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
                           : "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(test_drive(&env, test_nonzero, &s.requests));
        assert_int_equal(raw_recv_end(&env, fd, rest, sizeof rest), 0);
        close(idle);
        close(fd);
        site_close(&env, &s);
    }
}

static void server_upgrades(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {0};
    char head[200];

    (void)state;
    site_open(&env, &s, &c);
    s.upgrade = true;
    int fd = raw_connect(kei_http_server_port(s.s));
    raw_puts(&env, fd, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\nfirst bytes");
    raw_recv_head(&env, fd, head, sizeof head);
    assert_string_equal(head, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    test_settle(&env);
    assert_string_equal(s.p.in.p, "first bytes");
    kei_http_server_free(s.s); /* the stream is no longer its own */
    s.s = NULL;
    raw_puts(&env, fd, ", more");
    test_settle(&env);
    assert_string_equal(s.p.in.p, "first bytes, more");
    close(fd);
    site_close(&env, &s);
}

/* Between requests a connection holds no buffers. */
static void server_idle_memory(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {0};
    char head[1000], body[1000], post[3000];

    (void)state;
    site_open(&env, &s, &c);
    int fd = raw_connect(kei_http_server_port(s.s));
    test_settle(&env);
    size_t idle = atomic_load(&env.alloc.live_bytes);
    int n =
        snprintf(post, sizeof post, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n");
    memset(post + n, 'x', 2000);
    for (int i = 0; i < 2; i++) {
        raw_send(&env, fd, post, (size_t)n + 1000);
        test_settle(&env);
        raw_send(&env, fd, post + n + 1000, 1000);
        read_answer(&env, fd, false, head, sizeof head, body);
        test_settle(&env);
        assert_int_equal(atomic_load(&env.alloc.live_bytes), idle);
    }
    close(fd);
    site_close(&env, &s);
}

/* ---- both ends ours, without memory ---- */

static void without_memory(void **state)
{
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        struct test_env env;
        struct site s;
        struct call c = {0};
        struct kei_http_server_config sc = {0};
        char body[5000];
        memset(body, 'b', sizeof body);
        site_open(&env, &s, &sc);
        /* whatever is refused, the call ends with an answer or an error */
        struct kei_http_call_config cc = {.method = "POST", .target = "/x", .timeout_ms = 5000};
        cc.stream.host = "127.0.0.1";
        cc.stream.port = kei_http_server_port(s.s);
        cc.body = kei_strn(body, sizeof body);
        test_alloc_fail_at(&env.alloc, fail_at);
        kei_buf_init(&c.body, kei_alloc_malloc());
        /* on_request asserts that it could answer: it holds, and the test answers */
        s.hold = true;
        int r = kei_http_call(&c.c, env.ctx, &cc, on_done, &c);
        while (r == 0 && !c.calls) {
            test_settle(&env);
            if (s.held) {
                struct kei_http_conn *conn = s.held;
                s.held = NULL;
                if (kei_http_respond(conn, 200, "text/plain", NULL, kei_strn(body, 3000)) < 0)
                    s.held = conn;
            }
            test_drive_ms(&env, 100);
        }
        if (r < 0)
            assert_int_equal(r, KE_ENOMEM);
        bool done = atomic_load(&env.alloc.failed) == 0;
        if (done) {
            assert_int_equal(c.status, 0);
            assert_int_equal(c.body.n, 3000);
        }
        s.held = NULL;
        call_end(&c);
        site_close(&env, &s);
        if (done) {
            assert_true(fail_at > 10);
            break;
        }
    }
}

/* ---- programs that are not ours ---- */

static void curl(struct test_env *e, const char *const args[], char *out, size_t size)
{
    const char *argv[20] = {find_program("curl"), "-s", "-i", "--max-time", "60"};
    int n = 5;
    struct peer p;

    if (!argv[0]) {
        fprintf(stderr, "skipped: no curl\n");
        skip();
    }
    while (*args)
        argv[n++] = *args++;
    argv[n] = NULL;
    peer_spawn(&p, argv);
    peer_wait_output(e, &p, out, size);
}

static void curl_as_client(void **state)
{
    struct test_env env;
    struct site s;
    struct kei_http_server_config c = {.idle_ms = 600000};
    char url[100], out[5000], dir[64], path[128];
    static char big[300000];

    (void)state;
    site_open(&env, &s, &c);
    env.idle_ms = PEER_IDLE_MS;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/a?b=c", kei_http_server_port(s.s));
    const char *const get[] = {url, url, NULL}; /* two on one connection */
    curl(&env, get, out, sizeof out);
    assert_non_null(strstr(out, "answer 1"));
    assert_non_null(strstr(out, "answer 2"));
    assert_string_equal(s.last, "GET /a?b=c ");
    /* with a body on GET, as the edge asks for its certificate */
    const char *const csr[] = {"-X", "GET", "--data-binary", "csr", url, NULL};
    curl(&env, csr, out, sizeof out);
    assert_non_null(strstr(out, "200 OK"));
    assert_string_equal(s.last, "GET /a?b=c csr");
    /* a large one: curl expects 100-continue; and a chunked one */
    test_tmp_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/big", dir);
    FILE *f = fopen(path, "w");
    memset(big, 'x', sizeof big);
    assert_int_equal(fwrite(big, 1, sizeof big, f), sizeof big);
    fclose(f);
    char data[140];
    snprintf(data, sizeof data, "@%s", path);
    const char *const large[] = {"-H", "Expect: 100-continue", "--data-binary", data, url, NULL};
    curl(&env, large, out, sizeof out);
    assert_non_null(strstr(out, "100 Continue"));
    assert_non_null(strstr(out, "200 OK"));
    const char *const chunked[] = {"-H", "Transfer-Encoding: chunked", "--data-binary", data, url,
                                   NULL};
    curl(&env, chunked, out, sizeof out);
    assert_non_null(strstr(out, "200 OK"));
    const char *const head[] = {"-I", url, NULL};
    curl(&env, head, out, sizeof out);
    assert_non_null(strstr(out, "Content-Length: 8"));
    test_tmp_remove(dir);
    site_close(&env, &s);
}

static void python_as_server(void **state)
{
    static const struct {
        const char *target;
        const char *method;
        uint32_t http;
        size_t n;
    } t[] = {
        {"/fixed", "GET", 200, 5},     {"/chunked", "GET", 200, 70000},
        {"/close", "GET", 200, 70000}, {"/missing", "GET", 404, 9},
        {"/empty", "GET", 204, 0},     {"/fixed", "HEAD", 200, 0},
        {"/echo", "POST", 200, 1000},  {"/continue", "POST", 200, 1000},
        {"/redirect", "GET", 302, 0},
    };
    struct peer peer;
    char body[1000];

    (void)state;
    peer_python(&peer, "http_peer.py", "http.server", NULL);
    memset(body, 'q', sizeof body);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct test_env env;
        struct call c;
        struct kei_http_call_config conf = {
            .method = t[i].method, .target = t[i].target, .timeout_ms = 600000};
        conf.stream.port = peer.port;
        if (strcmp(t[i].method, "POST") == 0)
            conf.body = kei_strn(body, sizeof body);
        test_env_init(&env, 0);
        env.idle_ms = PEER_IDLE_MS;
        call_start(&env, &c, &conf);
        assert_true(test_drive(&env, is_done, &c));
        if (c.status != 0 || c.http != t[i].http || c.body.n != t[i].n)
            fail_msg("%s %s: %s \"%s\" %u, %zu bytes", t[i].method, t[i].target,
                     ke_strerror(c.status), c.text, c.http, c.body.n);
        if (conf.body.n)
            assert_memory_equal(c.body.p, body, sizeof body);
        call_end(&c);
        test_env_fini(&env);
    }
    peer_stop(&peer);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(client_requests),
        KE_TEST(client_answers),
        KE_TEST(client_limits_of_time),
        KE_TEST(client_flood_of_interim_answers),
        KE_TEST(client_freed),
        KE_TEST(client_bad_arguments),
        KE_TEST(server_requests),
        KE_TEST(server_head_limit),
        KE_TEST(server_refuses_a_flood),
        KE_TEST(server_expect_continue),
        KE_TEST(server_pipelining),
        KE_TEST(server_bad_answers),
        KE_TEST(server_slow_senders),
        KE_TEST(server_peer_gone),
        KE_TEST(server_freed_in_request),
        KE_TEST(server_upgrades),
        KE_TEST(server_idle_memory),
        KE_TEST(without_memory),
        KE_TEST(curl_as_client),
        KE_TEST(python_as_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
