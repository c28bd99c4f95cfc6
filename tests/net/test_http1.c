/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 heads and bodies, among them what is used to smuggle requests past one reader. */
#include "net/http1.h"
#include "support/support.h"

#define MAX 4096

#define G "GET / HTTP/1.1\r\n"
#define H "Host: x\r\n"

struct head_case {
    const char *text;
    int result;       /* 0 whole, 1 more needed, else KE_E* */
    const char *word; /* in the error's text */
};

static const struct head_case requests[] = {
    {G H "\r\n", 0, NULL},
    {"\r\n" G H "\r\n", 0, NULL},
    {"GET / HTTP/1.0\r\n\r\n", 0, NULL},
    {"GET /e632aba927ea4ac2b575ec1603d56f10/edge-1/events HTTP/1.1\r\nHost: 10.0.0.1:10000\r\n"
     "User-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nConnectionuse: msg\r\n"
     "Node_id: edge-1\r\nProject_id: e632aba927ea4ac2b575ec1603d56f10\r\n"
     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
     "Upgrade: websocket\r\n\r\n",
     0, NULL},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", 0, NULL},
    {G H "A: \t b c \t\r\nEmpty:\r\n\r\n", 0, NULL},
    {G H "A: k\xc3\xa4se\r\n\r\n", 0, NULL},
    {G H "Content-Length: 5\r\n\r\n", 0, NULL},
    {G H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 0, NULL},
    {G H "Transfer-Encoding: Chunked\r\n\r\n", 0, NULL},
    /* not whole */
    {"", 1, NULL},
    {"G", 1, NULL},
    {"\r", 1, NULL},
    {"\r\n", 1, NULL},
    {"GET / HTTP/1.1", 1, NULL},
    {"GET / HTTP/1.1\r", 1, NULL},
    {G, 1, NULL},
    {G H, 1, NULL},
    {G H "\r", 1, NULL},
    /* request line */
    {"\r\n\r\n" G H "\r\n", KE_EPROTO, "method"},
    {"GET  / HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "incomplete"},
    {"GET /\r\n" H "\r\n", KE_EPROTO, "incomplete"},
    {"GET / HTTP/1.1 \r\n" H "\r\n", KE_EPROTO, "version"},
    {"GET / HTTP/2.0\r\n" H "\r\n", KE_EPROTO, "version"},
    {"GET / HTTP/1.10\r\n" H "\r\n", KE_EPROTO, "version"},
    {"GET / http/1.1\r\n" H "\r\n", KE_EPROTO, "version"},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", KE_EPROTO, "version"},
    {" GET / HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "method"},
    {"G@T / HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "method"},
    {"GET /a b HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "version"},
    {"GET /\t HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "target"},
    {"GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "target"},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMN / HTTP/1.1\r\n" H "\r\n", KE_EPROTO, "method"},
    /* bytes that may not be there, told at once */
    {"\x16\x03\x01", KE_EPROTO, "0x16"},
    {"GET / HTTP/1.1\n" H "\r\n", KE_EPROTO, "0x0a"},
    {G "Host: x\n\r\n", KE_EPROTO, "0x0a"},
    {G "Host: x\r\rA: b\r\n\r\n", KE_EPROTO, "CR"},
    {G H "A: b\x01\r\n\r\n", KE_EPROTO, "0x01"},
    {G H "A: b\x7f\r\n\r\n", KE_EPROTO, "0x7f"},
    /* headers */
    {G H "A : b\r\n\r\n", KE_EPROTO, "name"},
    {G H ": b\r\n\r\n", KE_EPROTO, "name"},
    {G H "A\r\n\r\n", KE_EPROTO, "colon"},
    {G H "A: b\r\n c\r\n\r\n", KE_EPROTO, "folded"},
    {G H "A: b\r\n\tc\r\n\r\n", KE_EPROTO, "folded"},
    {G " " H "\r\n", KE_EPROTO, "folded"},
    {G H "A[]: b\r\n\r\n", KE_EPROTO, "name"},
    {G "\r\n", KE_EPROTO, "Host"},
    {G H H "\r\n", KE_EPROTO, "Host"},
    {"GET / HTTP/1.0\r\n" H "hOST: y\r\n\r\n", KE_EPROTO, "Host"},
    /* where does the body end? */
    {G H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: 5, 5\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: +5\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: -5\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: 0x5\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: 5 \t 5\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length:\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: 9223372036854775808\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: 99999999999999999999999999\r\n\r\n", KE_EPROTO, "Content-Length"},
    {G H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", KE_EPROTO,
     "Transfer"},
    {G H "Transfer-Encoding: chunked, chunked\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: chunked, identity\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: identity\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: xchunked\r\n\r\n", KE_EPROTO, "Transfer"},
    {G H "Transfer-Encoding: \x0b"
         "chunked\r\n\r\n",
     KE_EPROTO, "0x0b"},
    {G H "Transfer-Encoding:\r\n\r\n", KE_EPROTO, "Transfer"},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", KE_EPROTO, "1.0"},
    {G H "Transfer-Encoding: gzip, chunked\r\n\r\n", KE_ENOTSUP, "gzip"},
};

static const struct head_case responses[] = {
    {"HTTP/1.1 200 OK\r\n\r\n", 0, NULL},
    {"HTTP/1.1 200 \r\n\r\n", 0, NULL},
    {"HTTP/1.1 200\r\n\r\n", 0, NULL},
    {"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n", 0, NULL},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
     0, NULL},
    {"HTTP/1.1 200 OK\r\n", 1, NULL},
    {"HTT", 1, NULL},
    {"\r\nHTTP/1.1 200 OK\r\n\r\n", KE_EPROTO, "version"},
    {"HTTP/1.1 20 OK\r\n\r\n", KE_EPROTO, "status"},
    {"HTTP/1.1 2000 OK\r\n\r\n", KE_EPROTO, "status"},
    {"HTTP/1.1 099 OK\r\n\r\n", KE_EPROTO, "status"},
    {"HTTP/1.1 600 OK\r\n\r\n", KE_EPROTO, "status"},
    {"HTTP/1.1 +20 OK\r\n\r\n", KE_EPROTO, "status"},
    {"HTTP/1.1  200 OK\r\n\r\n", KE_EPROTO, "status"},
    {"HTTP/2 200\r\n\r\n", KE_EPROTO, "version"},
    {"ICY 200 OK\r\n\r\n", KE_EPROTO, "version"},
    {"SSH-2.0-OpenSSH_9.2\r\n", KE_EPROTO, "version"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", KE_EPROTO, "twice"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", KE_EPROTO,
     "Transfer"},
};

typedef int (*parse_fn)(struct kei_http_head *h, const char *p, size_t n, size_t max,
                        size_t *ret_used, struct ke_error *err);

/* The bytes in a block of their own size, so that a sanitizer sees a read behind them. */
static int parse_exact(parse_fn parse, const char *p, size_t n, size_t *used, struct ke_error *err)
{
    struct kei_http_head h;
    char *copy = malloc(n ? n : 1);

    memcpy(copy, p, n);
    int r = parse(&h, copy, n, MAX, used, err);
    free(copy);
    return r;
}

static void run_heads(parse_fn parse, const struct head_case *t, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct ke_error err = KE_ERROR_INIT;
        size_t n = strlen(t[i].text), used = 99;
        int r = parse_exact(parse, t[i].text, n, &used, &err);
        int want = t[i].result > 0 ? 0 : t[i].result;
        if (r != want || (r == 0 && used != (t[i].result == 0 ? n : 0)))
            fail_msg("case %zu \"%s\": %s, used %zu, \"%s\"", i, t[i].text, ke_strerror(r), used,
                     err.text);
        if (r < 0 && !strstr(err.text, t[i].word))
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, err.text, t[i].word);
        /* every beginning of a good one needs more, and nothing else */
        for (size_t k = 0; t[i].result == 0 && k < n; k++) {
            assert_int_equal(parse_exact(parse, t[i].text, k, &used, &err), 0);
            assert_int_equal(used, 0);
        }
        /* the beginning of a bad one is never whole */
        for (size_t k = 0; t[i].result < 0 && k < n; k++) {
            r = parse_exact(parse, t[i].text, k, &used, &err);
            assert_true(r < 0 || used == 0);
        }
    }
}

static void request_heads(void **state)
{
    (void)state;
    run_heads(kei_http_parse_request, requests, sizeof requests / sizeof requests[0]);
}

static void response_heads(void **state)
{
    (void)state;
    run_heads(kei_http_parse_response, responses, sizeof responses / sizeof responses[0]);
}

static void nul_bytes(void **state)
{
    static const char text[] = G H "A: b\0c\r\n\r\n";
    struct kei_http_head h;
    struct ke_error err = KE_ERROR_INIT;
    size_t used;

    (void)state;
    assert_int_equal(kei_http_parse_request(&h, text, sizeof text - 1, MAX, &used, &err),
                     KE_EPROTO);
    assert_non_null(strstr(err.text, "0x00"));
}

static void parts_of_a_request(void **state)
{
    static const char text[] = "POST /a?b HTTP/1.1\r\nHost: h\r\nnode_ID:  edge-1 \r\n"
                               "Connection: keep-alive, Upgrade\r\nConnection: x\r\n\r\nbody";
    struct kei_http_head h;
    size_t used;

    (void)state;
    assert_int_equal(kei_http_parse_request(&h, text, sizeof text - 1, MAX, &used, NULL), 0);
    assert_string_equal(text + used, "body");
    assert_true(kei_str_is(h.method, "POST"));
    assert_true(kei_str_is(h.target, "/a?b"));
    assert_int_equal(h.minor, 1);
    assert_int_equal(h.n_headers, 4);
    assert_true(kei_str_is(kei_http_header(&h, "Node_id"), "edge-1"));
    assert_null(kei_http_header(&h, "Node-id").p);
    assert_true(kei_http_has_token(&h, "connection", "upgrade"));
    assert_true(kei_http_has_token(&h, "connection", "KEEP-alive"));
    assert_true(kei_http_has_token(&h, "connection", "x"));
    assert_false(kei_http_has_token(&h, "connection", "keep"));
    assert_false(kei_http_has_token(&h, "host", "x"));
}

static void parts_of_a_response(void **state)
{
    static const char text[] = "HTTP/1.0 407 Proxy Authentication Required\r\n\r\n";
    struct kei_http_head h;
    size_t used;

    (void)state;
    assert_int_equal(kei_http_parse_response(&h, text, sizeof text - 1, MAX, &used, NULL), 0);
    assert_int_equal(h.status, 407);
    assert_true(kei_str_is(h.reason, "Proxy Authentication Required"));
    assert_int_equal(h.minor, 0);
}

static void limits(void **state)
{
    char text[8192];
    struct kei_http_head h;
    struct ke_error err = KE_ERROR_INIT;
    size_t n, used;

    (void)state;
    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < 64; i++)
        n += (size_t)sprintf(text + n, i ? "a%d: b\r\n" : "Host: x\r\n", i);
    memcpy(text + n, "\r\n", 3);
    assert_int_equal(kei_http_parse_request(&h, text, n + 2, MAX, &used, &err), 0);
    assert_int_equal(h.n_headers, 64);
    memcpy(text + n, "z: b\r\n\r\n", 9);
    assert_int_equal(kei_http_parse_request(&h, text, n + 8, MAX, &used, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "64"));
    /* exactly the limit, one over it, and what will be over it */
    memset(text, 'a', sizeof text);
    memcpy(text, G H "A: ", 28);
    memcpy(text + MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(kei_http_parse_request(&h, text, MAX, MAX, &used, &err), 0);
    assert_int_equal(used, MAX);
    assert_int_equal(kei_http_parse_request(&h, text, MAX, MAX - 1, &used, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "4095"));
    memset(text + 28, 'a', sizeof text - 28);
    assert_int_equal(kei_http_parse_request(&h, text, MAX - 1, MAX, &used, &err), 0);
    assert_int_equal(used, 0);
    assert_int_equal(kei_http_parse_request(&h, text, MAX, MAX, &used, &err), KE_ELIMIT);
}

/* ---- bodies ---- */

struct body_case {
    const char *head; /* response, or request when it begins with a method */
    const char *method;
    const char *wire;
    const char *body;
    int result;  /* 1 complete, 0 goes on until the close, 2 cut, else KE_E* */
    size_t rest; /* bytes of wire behind the message */
};

#define R "HTTP/1.1 200 OK\r\n"
#define C R "Transfer-Encoding: chunked\r\n\r\n"

static const struct body_case bodies[] = {
    {R "Content-Length: 5\r\n\r\n", "GET", "helloX", "hello", 1, 1},
    {R "Content-Length: 5\r\n\r\n", "GET", "hel", "hel", 2, 0},
    {R "Content-Length: 0\r\n\r\n", "GET", "X", "", 1, 1},
    {R "\r\n", "GET", "until close", "until close", 0, 0},
    {R "\r\n", "HEAD", "X", "", 1, 1},
    {R "Content-Length: 5\r\n\r\n", "HEAD", "X", "", 1, 1},
    {R "\r\n", "CONNECT", "X", "", 1, 1},
    {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", "GET", "X", "", 1, 1},
    {"HTTP/1.1 304 No\r\n\r\n", "GET", "X", "", 1, 1},
    {"HTTP/1.1 100 Go\r\n\r\n", "GET", "X", "", 1, 1},
    {"HTTP/1.1 407 No\r\nContent-Length: 1\r\n\r\n", "CONNECT", "X", "X", 1, 0},
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "X", "", 1, 1},
    {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "GET", "csr", "csr", 1, 0},
    {"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n", "HEAD", "csr", "csr", 1, 0},
    {C, "GET", "5\r\nhello\r\n0\r\n\r\nX", "hello", 1, 1},
    {C, "GET", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", 1, 0},
    {C, "GET", "A\r\n0123456789\r\n00\r\n\r\n", "0123456789", 1, 0},
    {C, "GET", "a;x=y;z=\"q\"\r\n0123456789\r\n0;last\r\n\r\n", "0123456789", 1, 0},
    {C, "GET", "1\r\na\r\n0\r\nT: v\r\nU: w\r\n\r\nX", "a", 1, 1},
    {C, "GET", "0\r\n\r\n", "", 1, 0},
    {C, "GET", "5\r\nhello\r\n0\r\n", "hello", 2, 0},
    {C, "GET", "5\r\nhello\r\n", "hello", 2, 0},
    {C, "GET", "5\r\nhel", "hel", 2, 0},
    {C, "GET", "", "", 2, 0},
    {C, "GET", "\r\n", "", KE_EPROTO, 0},
    {C, "GET", ";x\r\n", "", KE_EPROTO, 0},
    {C, "GET", "5 \r\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", " 5\r\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "+5\r\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "-1\r\n", "", KE_EPROTO, 0},
    {C, "GET", "0x5\r\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "5\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "5\r\rhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "5;a\nb\r\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "5\r\nhelloX\r\n", "hello", KE_EPROTO, 0},
    {C, "GET", "5\r\nhello\rX", "hello", KE_EPROTO, 0},
    {C, "GET", "5\r\nhello\n0\r\n\r\n", "hello", KE_EPROTO, 0},
    {C, "GET", "0\r\n folded\r\n\r\n", "", KE_EPROTO, 0},
    {C, "GET", "0\r\nT: v\n\r\n", "", KE_EPROTO, 0},
    {C, "GET", "0\r\n\rX", "", KE_EPROTO, 0},
    {C, "GET", "ffffffffffffffff\r\n", "", KE_ELIMIT, 0},
    {C, "GET", "10000000000000005\r\nhello\r\n", "", KE_EPROTO, 0},
    {C, "GET", "65\r\n", "", KE_ELIMIT, 0},
    {C, "GET", "64\r\n", "", 2, 0},
    {R "Content-Length: 101\r\n\r\n", "GET", "", "", KE_ELIMIT, 0},
    {R "Content-Length: 9223372036854775807\r\n\r\n", "GET", "", "", KE_ELIMIT, 0},
    {R "Content-Length: 100\r\n\r\n", "GET", "", "", 2, 0},
};

#define BODY_MAX 100

/* Feeds wire in pieces of step bytes; result as in the table. */
static int feed(struct kei_http_body *b, const char *wire, size_t step, char *out, size_t *rest,
                struct ke_error *err)
{
    size_t n = strlen(wire), at = 0, have = 0, got = 0;

    for (;;) {
        struct ke_str data;
        size_t used;
        have = have + step > n ? n : have + step;
        char *copy = malloc(have - at + 1);
        memcpy(copy, wire + at, have - at);
        int r = kei_http_body_feed(b, copy, have - at, &used, &data, err);
        memcpy(out + got, data.n ? data.p : "", data.n);
        got += data.n;
        out[got] = '\0';
        free(copy);
        if (r < 0)
            return r;
        at += used;
        *rest = n - at;
        if (r == 1)
            return 1;
        if (at == n && have == n)
            return kei_http_body_eof(b, err) == 0 ? 0 : 2;
    }
}

static int run_body(const struct body_case *t, size_t step, char *out, size_t *rest,
                    struct ke_error *err)
{
    struct kei_http_head h;
    struct kei_http_body b;
    size_t used;
    bool response = strncmp(t->head, "HTTP", 4) == 0;
    parse_fn parse = response ? kei_http_parse_response : kei_http_parse_request;

    out[0] = '\0';
    *rest = 0;
    assert_int_equal(parse(&h, t->head, strlen(t->head), MAX, &used, err), 0);
    int r = kei_http_body_init(&b, &h, response, kei_str(t->method), BODY_MAX, err);
    return r < 0 ? r : feed(&b, t->wire, step, out, rest, err);
}

static void body_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        const struct body_case *t = &bodies[i];
        for (size_t step = 1; step <= strlen(t->wire) + 1; step++) {
            struct ke_error err = KE_ERROR_INIT;
            char out[256];
            size_t rest;
            int r = run_body(t, step, out, &rest, &err);
            if (r != t->result || strcmp(out, t->body) != 0)
                fail_msg("case %zu step %zu: %d \"%s\" \"%s\"", i, step, r, out, err.text);
            if (r == 1)
                assert_int_equal(rest, t->rest);
            if (r == 2)
                assert_non_null(strstr(err.text, "closed early"));
            if (r == KE_ELIMIT)
                assert_non_null(strstr(err.text, "100"));
        }
    }
}

static void long_chunk_lines(void **state)
{
    static const char *const parts[] = {"0;", "0\r\nT: ", "1;"};
    struct kei_http_head h;
    struct ke_error err = KE_ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct kei_http_body b;
        struct ke_str data;
        size_t used;
        int r = 0, fed = 0;
        assert_int_equal(kei_http_parse_response(&h, C, strlen(C), MAX, &used, &err), 0);
        assert_int_equal(kei_http_body_init(&b, &h, true, KEI_STR("GET"), BODY_MAX, &err), 0);
        assert_int_equal(kei_http_body_feed(&b, parts[i], strlen(parts[i]), &used, &data, &err), 0);
        while (r == 0 && fed++ < 100000)
            r = kei_http_body_feed(&b, "x", 1, &used, &data, &err);
        assert_int_equal(r, KE_ELIMIT);
        assert_true(fed < 10000);
    }
}

static void until_close_over_the_limit(void **state)
{
    struct kei_http_head h;
    struct kei_http_body b;
    struct ke_str data;
    struct ke_error err = KE_ERROR_INIT;
    char bytes[BODY_MAX + 1] = {0};
    size_t used;

    (void)state;
    assert_int_equal(kei_http_parse_response(&h, R "\r\n", strlen(R) + 2, MAX, &used, &err), 0);
    assert_int_equal(kei_http_body_init(&b, &h, true, KEI_STR("GET"), BODY_MAX, &err), 0);
    assert_int_equal(kei_http_body_feed(&b, bytes, BODY_MAX, &used, &data, &err), 0);
    assert_int_equal(data.n, BODY_MAX);
    assert_int_equal(kei_http_body_feed(&b, bytes, 1, &used, &data, &err), KE_ELIMIT);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(request_heads),
        KE_TEST(response_heads),
        KE_TEST(nul_bytes),
        KE_TEST(parts_of_a_request),
        KE_TEST(parts_of_a_response),
        KE_TEST(limits),
        KE_TEST(body_table),
        KE_TEST(long_chunk_lines),
        KE_TEST(until_close_over_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
