/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket handshakes and connections, against plain sockets, each other and Python. */
#include "util.h"

#include <sys/socket.h>
#include <unistd.h>

#include <kubeedge/version.h>

#include "base/codec.h"
#include "kei_config.h"
#include "net/http.h"
#include "net/stream_priv.h"
#include "net/ws.h"
#include "net/ws_priv.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* ---- handshake, pure ---- */

static void accept_value(void **state)
{
    char out[29], key[KEI_WS_KEY_LEN + 1];
    uint8_t random[16];

    (void)state;
    kei_ws_accept(KEY, 24, out); /* the example of RFC 6455 */
    assert_string_equal(out, ACCEPT);
    kei_ws_key((const uint8_t *)"the sample nonce", key);
    assert_string_equal(key, KEY);
    memset(random, 0xff, sizeof random);
    kei_ws_key(random, key);
    assert_string_equal(key, "/////////////////////w==");
}

#define UP "Upgrade: websocket\r\n"
#define CO "Connection: Upgrade\r\n"
#define VE "Sec-WebSocket-Version: 13\r\n"
#define KY "Sec-WebSocket-Key: " KEY "\r\n"

static void server_handshakes(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *word;
    } t[] = {
        {"GET /e632aba927ea4ac2b575ec1603d56f10/edge-1/events HTTP/1.1\r\nHost: 10.0.0.1:10000\r\n"
         "User-Agent: Go-http-client/1.1\r\n" CO "Connectionuse: msg\r\nNode_id: edge-1\r\n"
         "Project_id: e632aba927ea4ac2b575ec1603d56f10\r\n" KY VE UP "\r\n",
         0, ""},
        {"GET / HTTP/1.1\r\nHost: x\r\nupgrade: h2c, WebSocket\r\nconnection: keep-alive, "
         "upgrade\r\n" VE KY "\r\n",
         0, ""},
        {"POST / HTTP/1.1\r\nHost: x\r\n" UP CO VE KY "\r\n", KE_EPROTO, "GET"},
        {"GET / HTTP/1.0\r\nHost: x\r\n" UP CO VE KY "\r\n", KE_EPROTO, "1.1"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" CO VE KY "\r\n", KE_EPROTO, "upgrade"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP VE KY "\r\n", KE_EPROTO, "upgrade"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP CO KY "\r\n", KE_EPROTO, "13"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP CO "Sec-WebSocket-Version: 8\r\n" KY "\r\n", KE_EPROTO,
         "\"8\""},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP CO VE "\r\n", KE_EPROTO, "Key"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP CO VE "Sec-WebSocket-Key: abc\r\n\r\n", KE_EPROTO,
         "Key"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP CO VE
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\r\n\r\n",
         KE_EPROTO, "Key"},
        {"GET / HTTP/1.1\r\nHost: x\r\n" UP CO VE
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBu*25jZQ==\r\n\r\n",
         KE_EPROTO, "Key"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_http_head h;
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf out;
        size_t used;
        kei_buf_init(&out, kei_alloc_malloc());
        assert_int_equal(
            kei_http_parse_request(&h, t[i].request, strlen(t[i].request), 4096, &used, &err), 0);
        int r = kei_ws_server_handshake(&h, &out, &err);
        if (r != t[i].status || (r < 0 && !strstr(err.text, t[i].word)))
            fail_msg("case %zu: %s \"%s\"", i, ke_strerror(r), err.text);
        if (r == 0) /* what gorilla's server sends, no more */
            assert_string_equal(out.p,
                                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                "Connection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n");
        ke_buf_free(&out);
    }
}

static void client_checks(void **state)
{
    static const struct {
        const char *answer;
        int status;
        const char *word;
    } t[] = {
        {"HTTP/1.1 101 Switching Protocols\r\n" UP CO "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n", 0,
         ""},
        {"HTTP/1.1 101 X\r\nupgrade: WebSocket\r\nconnection: "
         "upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
         0, ""},
        {"HTTP/1.1 200 OK\r\n\r\n", KE_EHTTP, "200 OK"},
        {"HTTP/1.1 403 Forbidden\r\n\r\n", KE_EHTTP, "403 Forbidden"},
        {"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", KE_EHTTP, "302"},
        {"HTTP/1.1 101 X\r\n" CO "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n", KE_EPROTO,
         "websocket"},
        {"HTTP/1.1 101 X\r\n" UP "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n", KE_EPROTO,
         "websocket"},
        {"HTTP/1.1 101 X\r\n" UP CO "\r\n", KE_EPROTO, "Accept"},
        {"HTTP/1.1 101 X\r\n" UP CO "Sec-WebSocket-Accept: x" ACCEPT "\r\n\r\n", KE_EPROTO,
         "Accept"},
        {"HTTP/1.1 101 X\r\n" UP CO "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
         KE_EPROTO, "Accept"},
        {"HTTP/1.1 101 X\r\n" UP CO "Sec-WebSocket-Extensions: permessage-deflate\r\n"
         "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
         KE_EPROTO, "extension"},
        {"HTTP/1.1 101 X\r\n" UP CO "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: " ACCEPT
         "\r\n\r\n",
         KE_EPROTO, "protocol"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_http_head h;
        struct ke_error err = KE_ERROR_INIT;
        size_t used;
        assert_int_equal(
            kei_http_parse_response(&h, t[i].answer, strlen(t[i].answer), 4096, &used, &err), 0);
        int r = kei_ws_client_check(&h, KEY, &err);
        if (r != t[i].status || (r < 0 && !strstr(err.text, t[i].word)))
            fail_msg("case %zu: %s \"%s\"", i, ke_strerror(r), err.text);
    }
}

#if KEI_HAVE_WS

/* ---- a connection and what it was told ---- */

enum when { NEVER, OPEN, MESSAGE, SKIPPED, PONG, DRAINED, CLOSED };
struct end {
    struct kei_ws *w;
    int opens, messages, skips, pongs, drains, closes;
    struct ke_buf in; /* messages, each followed by '|' */
    uint64_t skipped;
    size_t skipped_head;
    int status;
    uint32_t http;
    char text[600];
    enum when free_in;
    bool echo;
};

static bool freed_in(struct end *e, enum when now)
{
    if (e->free_in != now)
        return false;
    kei_ws_free(e->w);
    e->w = NULL;
    return true;
}

static void on_open(void *user)
{
    struct end *e = user;
    e->opens++;
    freed_in(e, OPEN);
}

static void on_message(void *user, const char *p, size_t n)
{
    struct end *e = user;
    e->messages++;
    if (freed_in(e, MESSAGE) || !e->echo) {
        kei_buf_add(&e->in, p, n); /* ours to read until this returns */
        kei_buf_addc(&e->in, '|');
    } else {
        assert_int_equal(kei_ws_send(e->w, p, n), 0);
    }
}

static void on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    struct end *e = user;
    e->skips++;
    e->skipped = n;
    e->skipped_head = head_n;
    assert_true(head_n > 0 && head[0] == 's');
    freed_in(e, SKIPPED);
}

static void on_pong(void *user)
{
    struct end *e = user;
    e->pongs++;
    freed_in(e, PONG);
}

static void on_drained(void *user)
{
    struct end *e = user;
    e->drains++;
    freed_in(e, DRAINED);
}

static void on_closed(void *user, int status, const char *text, uint32_t http_status)
{
    struct end *e = user;
    e->closes++;
    e->status = status;
    e->http = http_status;
    snprintf(e->text, sizeof e->text, "%s", text);
    freed_in(e, CLOSED);
}

static const struct kei_ws_ops end_ops = {on_open, on_message, on_skipped,
                                          on_pong, on_drained, on_closed};

static void end_init(struct end *e)
{
    memset(e, 0, sizeof *e);
    kei_buf_init(&e->in, kei_alloc_malloc());
}

static void end_fini(struct end *e)
{
    kei_ws_free(e->w);
    ke_buf_free(&e->in);
}

static bool is_open(void *arg)
{
    return ((struct end *)arg)->opens > 0;
}

static bool is_closed(void *arg)
{
    return ((struct end *)arg)->closes > 0;
}

static bool is_gone(void *arg)
{
    return ((struct end *)arg)->w == NULL;
}

/* ---- our client, a plain socket as its server ---- */

struct client {
    struct test_env env;
    struct end e;
    int fd, listen_fd;
};

static void client_start(struct client *c, struct kei_stream_config *s, struct kei_ws_config *w,
                         char *head, size_t size)
{
    test_env_init(&c->env, 0);
    end_init(&c->e);
    s->host = "127.0.0.1";
    c->listen_fd = raw_listen(&s->port);
    assert_int_equal(kei_ws_connect(&c->e.w, c->env.ctx, s, "/p1/edge-1/events",
                                    "Node_id: edge-1\r\nProject_id: p1\r\nConnectionUse: msg\r\n",
                                    w, &end_ops, &c->e),
                     0);
    c->fd = raw_accept(&c->env, c->listen_fd);
    raw_recv_head(&c->env, c->fd, head, size);
}

static void put_101(struct client *c, const char *head, char *out, size_t size)
{
    char accept[29];
    const char *key = strstr(head, "Sec-WebSocket-Key: ");

    (void)c;
    assert_non_null(key);
    kei_ws_accept(key + 19, 24, accept);
    snprintf(out, size,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
}

static void client_open(struct client *c, struct kei_stream_config *s, struct kei_ws_config *w)
{
    char head[1000], answer[300];

    client_start(c, s, w, head, sizeof head);
    put_101(c, head, answer, sizeof answer);
    raw_puts(&c->env, c->fd, answer);
    assert_true(test_drive(&c->env, is_open, &c->e));
}

static void client_end(struct client *c)
{
    end_fini(&c->e);
    close(c->fd);
    close(c->listen_fd);
    test_env_fini(&c->env);
}

/* Reads one frame of up to 125 bytes; returns its first byte. */
static int read_frame(struct test_env *env, int fd, bool masked, char *p, size_t *n)
{
    unsigned char h[2], key[4] = {0};

    raw_recv(env, fd, h, 2);
    assert_int_equal(h[1] & 0x80, masked ? 0x80 : 0);
    *n = h[1] & 0x7f;
    assert_true(*n < 126);
    if (masked)
        raw_recv(env, fd, key, 4);
    raw_recv(env, fd, p, *n);
    for (size_t i = 0; i < *n; i++)
        p[i] = (char)(p[i] ^ key[i & 3]);
    p[*n] = '\0';
    return h[0];
}

static void client_request(void **state)
{
    struct client c;
    struct kei_stream_config s = {0};
    struct kei_ws_config w = {0};
    char head[1000], want[1000], key[25] = "";

    (void)state;
    client_start(&c, &s, &w, head, sizeof head);
    memcpy(key, strstr(head, "Sec-WebSocket-Key: ") + 19, 24);
    snprintf(want, sizeof want,
             "GET /p1/edge-1/events HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\n"
             "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
             "User-Agent: libkubeedge/" KE_VERSION "\r\nNode_id: edge-1\r\nProject_id: p1\r\n"
             "ConnectionUse: msg\r\n\r\n",
             s.port, key);
    assert_string_equal(head, want);
    struct ke_buf raw;
    kei_buf_init(&raw, kei_alloc_malloc());
    assert_true(kei_b64_decode(&raw, kei_str(key)));
    assert_int_equal(raw.n, 16);
    ke_buf_free(&raw);
    /* before the answer */
    assert_int_equal(kei_ws_send(c.e.w, "x", 1), KE_ESTATE);
    assert_int_equal(kei_ws_ping(c.e.w), KE_ESTATE);
    client_end(&c);
}

static void client_refused(void **state)
{
    static const struct {
        const char *answer; /* NULL: closes */
        int status;
        uint32_t http;
        const char *word;
    } t[] = {
        {"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", KE_EHTTP, 403, "403 Forbidden"},
        {"HTTP/1.1 401 Unauthorized\r\n\r\n", KE_EHTTP, 401, "401"},
        {"HTTP/1.1 503 Service Unavailable\r\n\r\n", KE_EHTTP, 503, "503"},
        {"HTTP/1.1 200 OK\r\n\r\n", KE_EHTTP, 200, "200"},
        {"HTTP/1.1 101 X\r\n" UP CO "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n", KE_EPROTO, 0,
         "Accept"},
        {"SSH-2.0-x\r\n", KE_EPROTO, 0, "version"},
        {"\x15\x03\x03", KE_EPROTO, 0, "0x15"},
        {NULL, KE_ECLOSED, 0, "without an answer"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct client c;
        struct kei_stream_config s = {0};
        struct kei_ws_config w = {0};
        char head[1000];
        client_start(&c, &s, &w, head, sizeof head);
        if (t[i].answer)
            raw_puts(&c.env, c.fd, t[i].answer);
        else
            shutdown(c.fd, SHUT_WR);
        assert_true(test_drive(&c.env, is_closed, &c.e));
        if (c.e.status != t[i].status || c.e.http != t[i].http || !strstr(c.e.text, t[i].word))
            fail_msg("case %zu: %s %u \"%s\"", i, ke_strerror(c.e.status), c.e.http, c.e.text);
        assert_int_equal(c.e.opens, 0);
        assert_int_equal(kei_ws_send(c.e.w, "x", 1), KE_ECLOSED);
        assert_int_equal(kei_ws_queued(c.e.w), 0);
        client_end(&c);
    }
}

static void client_upgrade_timeout(void **state)
{
    struct client c;
    struct kei_stream_config s = {.connect_ms = 9000};
    struct kei_ws_config w = {0};
    char head[1000];

    (void)state;
    client_start(&c, &s, &w, head, sizeof head);
    raw_puts(&c.env, c.fd, "HTTP/1.1 101 Swi");
    int64_t start = ke_ctx_mono_ms(c.env.ctx);
    assert_true(test_drive(&c.env, is_closed, &c.e));
    assert_int_equal(c.e.status, KE_ETIMEDOUT);
    assert_true(ke_ctx_mono_ms(c.env.ctx) - start <= 9000);
    client_end(&c);
}

static void client_bad_arguments(void **state)
{
    struct test_env env;
    struct kei_ws *ws = NULL;
    struct kei_stream_config s = {.host = "127.0.0.1", .port = 1};
    struct kei_ws_config w = {0};

    (void)state;
    test_env_init(&env, 0);
    assert_int_equal(kei_ws_connect(&ws, env.ctx, &s, "/a b", NULL, &w, &end_ops, NULL), KE_EINVAL);
    assert_int_equal(kei_ws_connect(&ws, env.ctx, &s, "", NULL, &w, &end_ops, NULL), KE_EINVAL);
    assert_int_equal(kei_ws_connect(&ws, env.ctx, &s, "/", "Node_id: a", &w, &end_ops, NULL),
                     KE_EINVAL);
    assert_int_equal(
        kei_ws_connect(&ws, env.ctx, &s, "/", "Node_id: a\r\nX: y\r\n\r\n", &w, &end_ops, NULL),
        KE_EINVAL);
    s.port = 0;
    assert_int_equal(kei_ws_connect(&ws, env.ctx, &s, "/", NULL, &w, &end_ops, NULL), KE_EINVAL);
    assert_null(ws);
    test_env_fini(&env);
}

/* The 101 and frames in one piece, and byte by byte. */
static void client_bytes_of_any_size(void **state)
{
    static const char frames[] = "\x81\x03one\x89\x01p\x01\x02tw\x80\x01o\x82\x00";

    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        struct client c;
        struct kei_stream_config s = {0};
        struct kei_ws_config w = {0};
        char head[1000], answer[400], pong[130];
        size_t n;
        client_start(&c, &s, &w, head, sizeof head);
        put_101(&c, head, answer, sizeof answer);
        size_t len = strlen(answer);
        memcpy(answer + len, frames, sizeof frames - 1);
        len += sizeof frames - 1;
        for (size_t i = 0; i < len; i += slow ? 1 : len) {
            raw_send(&c.env, c.fd, answer + i, slow ? 1 : len);
            test_settle(&c.env);
        }
        assert_int_equal(c.e.opens, 1);
        assert_string_equal(c.e.in.p, "one|two||");
        assert_int_equal(kei_ws_bytes_in(c.e.w), len);
        assert_int_equal(read_frame(&c.env, c.fd, true, pong, &n), 0x8a);
        assert_string_equal(pong, "p");
        client_end(&c);
    }
}

static void client_sends(void **state)
{
    struct client c;
    struct kei_stream_config s = {.send_cap = 1000};
    struct kei_ws_config w = {0};
    char got[1100], last[4] = "", big[1000];
    size_t n;

    (void)state;
    client_open(&c, &s, &w);
    uint64_t before = kei_ws_bytes_out(c.e.w);
    int same = 0;
    for (int i = 0; i < 8; i++) {
        unsigned char h[6];
        assert_int_equal(kei_ws_send(c.e.w, "hello", 5), 0);
        assert_int_equal(kei_ws_queued(c.e.w), 11);
        raw_recv(&c.env, c.fd, h, 6);
        assert_int_equal(h[0], 0x81);
        assert_int_equal(h[1], 0x85);
        same += memcmp(h + 2, last, 4) == 0;
        memcpy(last, h + 2, 4);
        raw_recv(&c.env, c.fd, got, 5);
        for (int k = 0; k < 5; k++)
            assert_int_equal(got[k] ^ (char)h[2 + k % 4], "hello"[k]);
    }
    assert_true(same < 2); /* each frame has a mask of its own */
    assert_int_equal(kei_ws_bytes_out(c.e.w) - before, 8 * 11);
    /* whole or not at all: 992 + 8 is the cap */
    memset(big, 'x', sizeof big);
    assert_int_equal(kei_ws_send(c.e.w, big, 993), KE_ELIMIT);
    assert_int_equal(kei_ws_queued(c.e.w), 0);
    assert_int_equal(kei_ws_send(c.e.w, big, 992), 0);
    assert_int_equal(kei_ws_send(c.e.w, "", 0), KE_ELIMIT);
    assert_int_equal(kei_ws_queued(c.e.w), 1000);
    raw_recv(&c.env, c.fd, got, 1000);
    assert_int_equal(kei_ws_send(c.e.w, "", 0), 0);
    assert_int_equal(read_frame(&c.env, c.fd, true, got, &n), 0x81);
    assert_int_equal(n, 0);
    client_end(&c);
}

/* The keepalive of a node: nothing of ours is allocated for it, nor for what comes back. */
static void client_allocates_nothing(void **state)
{
    struct client c;
    struct kei_stream_config s = {0};
    struct kei_ws_config w = {.ping_ms = 1000, .dead_ms = 10000};
    char message[240], got[600];

    (void)state;
    client_open(&c, &s, &w);
    memset(message, 'm', sizeof message);
    assert_int_equal(kei_ws_send(c.e.w, message, sizeof message), 0);
    test_settle(&c.env);
    size_t before = atomic_load(&c.env.alloc.calls);
    size_t bytes = atomic_load(&c.env.alloc.live_bytes);
    struct kei_stream *stream = kei_ws_stream(c.e.w);
    assert_null(stream->tx.p);
    assert_null(stream->rx.p);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(kei_ws_send(c.e.w, message, sizeof message), 0);
        assert_int_equal(kei_ws_ping(c.e.w), 0);
        test_drive_ms(&c.env, 1000);
        assert_true(recv(c.fd, got, sizeof got, 0) > 240);
        raw_send(&c.env, c.fd, "\x8a\x00\x89\x01z", 5);
        test_settle(&c.env);
    }
    assert_int_equal(atomic_load(&c.env.alloc.calls), before);
    assert_int_equal(atomic_load(&c.env.alloc.live_bytes), bytes);
    kei_ws_free(c.e.w);
    c.e.w = NULL;
    test_settle(&c.env);
    fprintf(stderr, "idle client connection: %zu bytes of own heap, 4.2 KiB of wslay's besides\n",
            bytes - atomic_load(&c.env.alloc.live_bytes));
    client_end(&c);
}

static void pings_and_dead_links(void **state)
{
    struct client c;
    struct kei_stream_config s = {0};
    struct kei_ws_config w = {.ping_ms = 10000, .dead_ms = 30000};
    char p[130];
    size_t n;

    (void)state;
    client_open(&c, &s, &w);
    int64_t start = ke_ctx_mono_ms(c.env.ctx);
    /* a peer that only pongs keeps it alive */
    for (int i = 1; i <= 10; i++) {
        test_drive_ms(&c.env, 10000);
        assert_int_equal(read_frame(&c.env, c.fd, true, p, &n), 0x89);
        raw_send(&c.env, c.fd, "\x8a\x00", 2);
        test_settle(&c.env);
    }
    assert_int_equal(ke_ctx_mono_ms(c.env.ctx) - start, 100000);
    assert_int_equal(c.e.closes, 0);
    assert_int_equal(c.e.pongs, 0); /* own pings are our business */
    /* silence does not */
    assert_true(test_drive(&c.env, is_closed, &c.e));
    assert_int_equal(c.e.status, KE_ETIMEDOUT);
    assert_non_null(strstr(c.e.text, "30000"));
    assert_int_equal(ke_ctx_mono_ms(c.env.ctx) - start, 130000);
    client_end(&c);
    /* without settings nothing is sent and nothing ends */
    w = (struct kei_ws_config){0};
    client_open(&c, &s, &w);
    test_drive_ms(&c.env, 3600 * 1000);
    assert_int_equal(recv(c.fd, p, 1, 0), -1);
    assert_int_equal(c.e.closes, 0);
    client_end(&c);
}

static void pongs_are_told(void **state)
{
    struct client c;
    struct kei_stream_config s = {0};
    struct kei_ws_config w = {0};
    char p[4][130];
    size_t n;

    (void)state;
    client_open(&c, &s, &w);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(kei_ws_ping(c.e.w), 0);
        assert_int_equal(read_frame(&c.env, c.fd, true, p[i], &n), 0x89);
        assert_int_equal(n, 6);
    }
    char pong[16] = "\x8a\x06";
    memcpy(pong + 2, p[0], 6);
    raw_send(&c.env, c.fd, pong, 8);
    test_settle(&c.env);
    assert_int_equal(c.e.pongs, 1);
    raw_send(&c.env, c.fd, pong, 8); /* again: told already */
    raw_send(&c.env, c.fd, "\x8a\x00\x8a\x06xxxxxx", 10);
    test_settle(&c.env);
    assert_int_equal(c.e.pongs, 1);
    memcpy(pong + 2, p[3], 6); /* a peer may answer the newest only */
    raw_send(&c.env, c.fd, pong, 8);
    test_settle(&c.env);
    assert_int_equal(c.e.pongs, 4);
    pong[7]++; /* one never sent */
    raw_send(&c.env, c.fd, pong, 8);
    test_settle(&c.env);
    assert_int_equal(c.e.pongs, 4);
    client_end(&c);
}

static void peer_closes(void **state)
{
    static const struct {
        const char *frame;
        size_t n;
        int status;
        const char *answer; /* payload */
        size_t answer_n;
        const char *word;
    } t[] = {
        {"\x88\x00", 2, KE_ECLOSED, "", 0, "closed"},
        {"\x88\x02\x03\xe8", 4, KE_ECLOSED, "\x03\xe8", 2, "1000"},
        {"\x88\x09\x03\xe9"
         "restart",
         11, KE_ECLOSED, "\x03\xe9", 2, "1001: restart"},
        {"\x88\x02\x0f\xa0", 4, KE_ECLOSED, "\x0f\xa0", 2, "4000"},
        {"\x88\x02\x03\xed", 4, KE_EPROTO, "\x03\xea", 2, "1005"},
        {"\x88\x02\x00\x00", 4, KE_EPROTO, "\x03\xea", 2, "code 0"},
        {"\x88\x02\x13\x88", 4, KE_EPROTO, "\x03\xea", 2, "5000"},
        {"\x88\x01\x03", 3, KE_EPROTO, "\x03\xea", 2, "half"},
        {"\x81\x81\x01\x02\x03\x04x", 7, KE_EPROTO, "\x03\xea", 2, "masked"},
        {"\xc1\x01x", 3, KE_EPROTO, "\x03\xea", 2, "reserved"},
        {"\x80\x01x", 3, KE_EPROTO, "\x03\xea", 2, "continuation"},
        {"\x83\x01x", 3, KE_EPROTO, "\x03\xea", 2, "opcode"},
        {"\x09\x00", 2, KE_EPROTO, "\x03\xea", 2, "malformed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct client c;
        struct kei_stream_config s = {0};
        struct kei_ws_config w = {0};
        char p[130];
        size_t n;
        client_open(&c, &s, &w);
        raw_send(&c.env, c.fd, t[i].frame, t[i].n);
        raw_send(&c.env, c.fd, "\x81\x04late", 6); /* not told any more */
        assert_int_equal(read_frame(&c.env, c.fd, true, p, &n), 0x88);
        assert_int_equal(n, t[i].answer_n);
        assert_memory_equal(p, t[i].answer, n);
        assert_int_equal(kei_ws_send(c.e.w, "x", 1), KE_ECLOSED);
        assert_int_equal(raw_recv_end(&c.env, c.fd, p, sizeof p), 0);
        close(c.fd);
        c.fd = dup(0);
        assert_true(test_drive(&c.env, is_closed, &c.e));
        if (c.e.status != t[i].status || !strstr(c.e.text, t[i].word))
            fail_msg("case %zu: %s \"%s\"", i, ke_strerror(c.e.status), c.e.text);
        assert_int_equal(c.e.messages, 0);
        assert_int_equal(c.e.closes, 1);
        client_end(&c);
    }
}

/* As clouds and edges of KubeEdge do it: the connection ends, without a word. */
static void peer_just_goes(void **state)
{
    struct client c;
    struct kei_stream_config s = {0};
    struct kei_ws_config w = {0};

    (void)state;
    client_open(&c, &s, &w);
    raw_send(&c.env, c.fd, "\x01\x03ha", 4); /* in the middle of a message */
    close(c.fd);
    c.fd = dup(0);
    assert_true(test_drive(&c.env, is_closed, &c.e));
    assert_int_equal(c.e.status, KE_ECLOSED);
    assert_int_equal(c.e.messages, 0);
    client_end(&c);
}

/* Pings whose answers nobody reads: what is queued for them is bounded. */
static void flood_of_pings(void **state)
{
    struct client c;
    struct kei_stream_config s = {.send_cap = 64u << 20};
    struct kei_ws_config w = {.dead_ms = 60000};
    size_t n = 16u << 20;
    char *fill = calloc(1, n), ping[127] = "\x89\x7d";

    (void)state;
    client_open(&c, &s, &w);
    assert_int_equal(kei_ws_send(c.e.w, fill, n), 0);
    test_settle(&c.env); /* the socket is full */
    size_t queued = kei_ws_queued(c.e.w), sent = 0;
    assert_true(queued > 0);
    for (int i = 0; i < 200000 && send(c.fd, ping, sizeof ping, MSG_NOSIGNAL) > 0; i++) {
        sent++;
        if (i % 64 == 0)
            test_settle(&c.env);
    }
    test_settle(&c.env);
    assert_true(sent > 1000);
    assert_true(kei_ws_queued(c.e.w) - queued < (size_t)256 * 1024);
    assert_int_equal(c.e.closes, 0);
    /* it goes on when the peer reads */
    raw_recv(&c.env, c.fd, fill, n);
    assert_true(test_drive(&c.env, test_nonzero, &c.e.drains));
    free(fill);
    client_end(&c);
}

/* Stopped by the user: not dead however long, pings go on, nothing is lost. */
static void paused_by_the_user(void **state)
{
    struct client c;
    struct kei_stream_config s = {.send_cap = 64u << 20};
    struct kei_ws_config w = {.ping_ms = 10000, .dead_ms = 30000};
    size_t n = 16u << 20;
    char *fill = calloc(1, n), ping[127] = "\x89\x7d";

    (void)state;
    for (int through_stream = 0; through_stream < 2; through_stream++) {
        client_open(&c, &s, &w);
        if (through_stream)
            kei_stream_pause(kei_ws_stream(c.e.w), true);
        else
            kei_ws_pause(c.e.w, true);
        raw_send(&c.env, c.fd, "\x81\x02hi", 4);
        test_drive_ms(&c.env, 600000);
        assert_int_equal(c.e.closes + c.e.messages, 0);
        assert_int_equal(kei_ws_bytes_out(c.e.w) > 60 * 6, 1);
        if (through_stream)
            kei_stream_pause(kei_ws_stream(c.e.w), false);
        else
            kei_ws_pause(c.e.w, false);
        test_settle(&c.env);
        assert_string_equal(c.e.in.p, "hi|");
        test_drive_ms(&c.env, 29000);
        assert_int_equal(c.e.closes, 0);
        assert_true(test_drive(&c.env, is_closed, &c.e));
        assert_int_equal(c.e.status, KE_ETIMEDOUT);
        client_end(&c);
    }
    /* stopped by us for a flood of pings, and by the user meanwhile: stays stopped by the user */
    w = (struct kei_ws_config){0};
    client_open(&c, &s, &w);
    assert_int_equal(kei_ws_send(c.e.w, fill, n), 0);
    test_settle(&c.env);
    for (int i = 0; i < 200; i++)
        raw_send(&c.env, c.fd, ping, sizeof ping);
    test_settle(&c.env);
    assert_true(kei_ws_stream(c.e.w)->paused);
    kei_ws_pause(c.e.w, true);
    raw_recv(&c.env, c.fd, fill, n);
    assert_true(test_drive(&c.env, test_nonzero, &c.e.drains));
    assert_true(kei_ws_stream(c.e.w)->paused);
    kei_ws_pause(c.e.w, false);
    assert_false(kei_ws_stream(c.e.w)->paused);
    free(fill);
    client_end(&c);
}

/* ---- our server ---- */

struct site {
    struct kei_http_server *http;
    struct kei_ws_config config;
    struct end e[4];
    struct ke_ctx *ctx;
    int n;
};

static void on_request(void *user, struct kei_http_conn *conn, const struct kei_http_head *h,
                       struct ke_str body)
{
    struct site *s = user;
    struct ke_buf answer;

    (void)body;
    kei_buf_init(&answer, kei_ctx_alloc(s->ctx));
    int r = s->n < 4 ? kei_ws_server_handshake(h, &answer, kei_err(s->ctx)) : KE_ELIMIT;
    if (r < 0) {
        ke_buf_free(&answer);
        (void)!kei_http_respond(conn, 400, NULL, NULL, kei_str(ke_ctx_error(s->ctx)));
        return;
    }
    struct kei_stream *stream = kei_http_upgrade(conn, kei_buf_str(&answer));
    ke_buf_free(&answer);
    struct end *e = &s->e[s->n];
    if (!stream)
        return;
    if (kei_ws_accepted(&e->w, s->ctx, stream, &s->config, &end_ops, e) < 0)
        kei_stream_free(stream);
    else
        s->n++;
}

static void site_open(struct test_env *env, struct site *s, struct kei_ws_config config)
{
    static const struct kei_http_server_ops ops = {.request = on_request};
    struct kei_http_server_config c = {.listener = {.host = "127.0.0.1", .send_cap = 64u << 20},
                                       .idle_ms = 600000};

    memset(s, 0, sizeof *s);
    for (int i = 0; i < 4; i++)
        end_init(&s->e[i]);
    s->config = config;
    s->ctx = env->ctx;
    if (kei_http_server_new(&s->http, env->ctx, &c, &ops, s) < 0)
        fail_msg("%s", ke_ctx_error(env->ctx));
}

static void site_close(struct site *s)
{
    for (int i = 0; i < 4; i++)
        end_fini(&s->e[i]);
    kei_http_server_free(s->http);
}

/* A plain socket that has upgraded. */
static int raw_ws(struct test_env *env, struct site *s)
{
    char head[1000];
    int fd = raw_connect(kei_http_server_port(s->http));

    raw_puts(env, fd, "GET / HTTP/1.1\r\nHost: x\r\n" UP CO VE KY "\r\n");
    raw_recv_head(env, fd, head, sizeof head);
    assert_non_null(strstr(head, ACCEPT));
    return fd;
}

static void server_frames(void **state)
{
    static const struct {
        const char *bytes; /* masked with 0: what is sent is what is meant */
        size_t n;
        const char *told;
        int status; /* 0: stays open */
        const char *word;
    } t[] = {
        {"\x81\x85\0\0\0\0hello", 11, "hello|", 0, ""},
        {"\x82\x80\0\0\0\0", 6, "|", 0, ""},
        {"\x01\x82\0\0\0\0he\x00\x82\0\0\0\0ll\x80\x81\0\0\0\0o", 23, "hello|", 0, ""},
        {"\x01\x85\0\0\0\0hello\x89\x80\0\0\0\0\x80\x80\0\0\0\0", 23, "hello|", 0, ""},
        {"\x81\x05hello", 7, "", KE_EPROTO, "without a mask"},
        {"\x81\x85\0\0\0\0hello\x89\x00", 13, "hello|", KE_EPROTO, "without a mask"},
        {"\x88\x82\0\0\0\0\x03\xe8", 8, "", KE_ECLOSED, "1000"},
        {"\x81\x85\0\0\0\0hello\xf1\x80\0\0\0\0", 17, "hello|", KE_EPROTO, "reserved"},
    };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof t / sizeof t[0]; i++) {
        struct test_env env;
        struct site s;
        char p[200];
        size_t n, k = i / 2;
        test_env_init(&env, 0);
        site_open(&env, &s, (struct kei_ws_config){0});
        int fd = raw_ws(&env, &s);
        int other = raw_ws(&env, &s);
        for (size_t at = 0; at < t[k].n; at += i % 2 ? 1 : t[k].n) {
            raw_send(&env, fd, t[k].bytes + at, i % 2 ? 1 : t[k].n);
            test_settle(&env);
        }
        assert_string_equal(s.e[0].in.n ? s.e[0].in.p : "", t[k].told);
        if (t[k].status) {
            assert_int_equal(read_frame(&env, fd, false, p, &n), 0x88);
            assert_int_equal(raw_recv_end(&env, fd, p, sizeof p), 0);
            close(fd);
            fd = dup(0);
            assert_true(test_drive(&env, is_closed, &s.e[0]));
            if (s.e[0].status != t[k].status || !strstr(s.e[0].text, t[k].word))
                fail_msg("case %zu: %s \"%s\"", k, ke_strerror(s.e[0].status), s.e[0].text);
        } else {
            assert_int_equal(s.e[0].closes, 0);
            assert_int_equal(kei_ws_send(s.e[0].w, "answer", 6), 0);
            if (k == 3)
                assert_int_equal(read_frame(&env, fd, false, p, &n), 0x8a);
            assert_int_equal(read_frame(&env, fd, false, p, &n), 0x81);
            assert_string_equal(p, "answer");
        }
        /* the others do not notice */
        raw_send(&env, other, "\x81\x81\0\0\0\0x", 7);
        test_settle(&env);
        assert_string_equal(s.e[1].in.p, "x|");
        close(fd);
        close(other);
        site_close(&s);
        test_env_fini(&env);
    }
}

static void server_refuses_other_requests(void **state)
{
    struct test_env env;
    struct site s;
    char head[1000];

    (void)state;
    test_env_init(&env, 0);
    site_open(&env, &s, (struct kei_ws_config){0});
    int fd = raw_connect(kei_http_server_port(s.http));
    raw_puts(&env, fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    raw_recv_head(&env, fd, head, sizeof head);
    assert_non_null(strstr(head, "400"));
    close(fd);
    site_close(&s);
    test_env_fini(&env);
}

/* ---- both ours ---- */

struct both {
    struct test_env env;
    struct site s;
    struct end c;
};

static void both_open(struct both *b, struct kei_ws_config server, struct kei_ws_config client)
{
    test_env_init(&b->env, 0);
    site_open(&b->env, &b->s, server);
    end_init(&b->c);
    struct kei_stream_config sc = {
        .host = "127.0.0.1", .port = kei_http_server_port(b->s.http), .send_cap = 64u << 20};
    assert_int_equal(kei_ws_connect(&b->c.w, b->env.ctx, &sc, "/x", NULL, &client, &end_ops, &b->c),
                     0);
    assert_true(test_drive(&b->env, is_open, &b->c));
}

static void both_close(struct both *b)
{
    end_fini(&b->c);
    site_close(&b->s);
    test_env_fini(&b->env);
}

static bool got_five(void *arg)
{
    return ((struct end *)arg)->messages == 5;
}

static void messages_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 125, 65536, 1u << 20, 8u << 20};
    struct both b;
    size_t total = 0;
    char *bytes = malloc(8u << 20);

    (void)state;
    both_open(&b, (struct kei_ws_config){0}, (struct kei_ws_config){0});
    assert_int_equal(kei_ws_ping(b.c.w), 0);
    assert_true(test_drive(&b.env, test_nonzero, &b.c.pongs));
    test_settle(&b.env);
    size_t idle = atomic_load(&b.env.alloc.live_bytes);
    for (size_t i = 0; i < 8u << 20; i++)
        bytes[i] = (char)(i * 7 + i / 999);
    b.s.e[0].echo = true;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(kei_ws_send(b.c.w, bytes, sizes[i]), 0);
        total += sizes[i] + 1;
    }
    assert_true(test_drive(&b.env, got_five, &b.c));
    assert_int_equal(b.c.in.n, total);
    const char *p = b.c.in.p;
    for (int i = 0; i < 5; i++) {
        assert_memory_equal(p, bytes, sizes[i]);
        p += sizes[i] + 1;
    }
    test_settle(&b.env);
    assert_int_equal(atomic_load(&b.env.alloc.live_bytes), idle);
    free(bytes);
    both_close(&b);
}

/* Over the cap: reported with its length and beginning; what follows arrives; memory stays small.
 */
static void skipped_messages(void **state)
{
    struct both b;
    char *big = malloc(10u << 20);

    (void)state;
    memset(big, 's', 10u << 20);
    both_open(&b, (struct kei_ws_config){.max_message = 100000}, (struct kei_ws_config){0});
    assert_int_equal(kei_ws_send(b.c.w, big, 100000), 0);
    assert_int_equal(kei_ws_send(b.c.w, big, 100001), 0);
    assert_int_equal(kei_ws_send(b.c.w, "after", 5), 0);
    test_settle(&b.env);
    assert_int_equal(b.s.e[0].messages, 2);
    assert_int_equal(b.s.e[0].skips, 1);
    assert_int_equal(b.s.e[0].skipped, 100001);
    assert_int_equal(b.s.e[0].skipped_head, 4096);
    assert_string_equal(b.s.e[0].in.p + 100001, "after|");
    assert_int_equal(kei_ws_send(b.c.w, big, 10u << 20), 0);
    size_t before = atomic_load(&b.env.alloc.live_bytes);
    atomic_store(&b.env.alloc.peak_bytes, before);
    test_settle(&b.env);
    assert_int_equal(b.s.e[0].skips, 2);
    assert_int_equal(b.s.e[0].skipped, 10u << 20);
    assert_true(atomic_load(&b.env.alloc.peak_bytes) < before + 20000);
    assert_int_equal(b.s.e[0].closes + b.c.closes, 0);
    free(big);
    both_close(&b);
}

static void freed_in_callbacks(void **state)
{
    (void)state;
    for (int when = OPEN; when <= CLOSED; when++) {
        for (int side = 0; side < 2; side++) {
            struct both b;
            char *big = malloc(20u << 20);
            memset(big, 's', 20u << 20);
            if (when == OPEN && side == 1) {
                free(big);
                continue; /* accepted ones are open from the start */
            }
            test_env_init(&b.env, 0);
            site_open(&b.env, &b.s, (struct kei_ws_config){.max_message = 50000});
            end_init(&b.c);
            struct end *e = side ? &b.s.e[0] : &b.c;
            e->free_in = (enum when)when;
            struct kei_ws_config w = {.max_message = 50000};
            struct kei_stream_config sc = {
                .host = "127.0.0.1", .port = kei_http_server_port(b.s.http), .send_cap = 64u << 20};
            assert_int_equal(kei_ws_connect(&b.c.w, b.env.ctx, &sc, "/x", NULL, &w, &end_ops, &b.c),
                             0);
            assert_true(test_drive(&b.env, is_open, &b.c));
            struct kei_ws *other = side ? b.c.w : b.s.e[0].w;
            if (when == MESSAGE) {
                assert_int_equal(kei_ws_send(other, "one", 3), 0);
                assert_int_equal(kei_ws_send(other, "two", 3), 0);
            } else if (when == SKIPPED) {
                assert_int_equal(kei_ws_send(other, big, 50001), 0);
                assert_int_equal(kei_ws_send(other, "two", 3), 0);
            } else if (when == PONG) {
                assert_int_equal(kei_ws_ping(e->w), 0);
                assert_int_equal(kei_ws_ping(e->w), 0);
            } else if (when == DRAINED) {
                assert_int_equal(kei_ws_send(e->w, big, 20u << 20), 0);
            } else if (when == CLOSED) {
                kei_ws_free(other);
                if (side)
                    b.c.w = NULL;
                else
                    b.s.e[0].w = NULL;
            }
            assert_true(test_drive(&b.env, is_gone, e));
            test_settle(&b.env);
            if (when == MESSAGE)
                assert_string_equal(e->in.p, "one|");
            assert_int_equal(e->closes, when == CLOSED);
            assert_true(e->messages <= 1 && e->skips <= 1 && e->pongs <= 1);
            free(big);
            both_close(&b);
        }
    }
}

static void idle_memory(void **state)
{
    struct test_env env;
    struct site s;
    int fd[3];

    (void)state;
    test_env_init(&env, 0);
    site_open(&env, &s, (struct kei_ws_config){.ping_ms = 30000, .dead_ms = 90000});
    fd[0] = raw_ws(&env, &s);
    size_t one = atomic_load(&env.alloc.live_bytes);
    size_t blocks = atomic_load(&env.alloc.live);
    fd[1] = raw_ws(&env, &s);
    size_t two = atomic_load(&env.alloc.live_bytes);
    fprintf(stderr, "idle server connection: %zu bytes of own heap in %zu blocks\n", two - one,
            atomic_load(&env.alloc.live) - blocks);
    assert_true(two - one < 2048);
    /* and it stays so after traffic */
    raw_send(&env, fd[1], "\x81\x85\0\0\0\0hello\x01\x85\0\0\0\0hello\x80\x80\0\0\0\0", 28);
    assert_int_equal(kei_ws_send(s.e[1].w, "hello", 5), 0);
    test_settle(&env);
    assert_int_equal(s.e[1].messages, 2);
    assert_int_equal(atomic_load(&env.alloc.live_bytes), two);
    close(fd[0]);
    close(fd[1]);
    site_close(&s);
    test_env_fini(&env);
}

static void without_memory(void **state)
{
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        struct both b;
        char message[6000];
        memset(message, 'm', sizeof message);
        test_env_init(&b.env, 0);
        site_open(&b.env, &b.s, (struct kei_ws_config){0});
        end_init(&b.c);
        struct kei_stream_config sc = {
            .host = "127.0.0.1", .port = kei_http_server_port(b.s.http), .connect_ms = 5000};
        struct kei_ws_config w = {0};
        test_alloc_fail_at(&b.env.alloc, fail_at);
        int r = kei_ws_connect(&b.c.w, b.env.ctx, &sc, "/x", NULL, &w, &end_ops, &b.c);
        bool sent = false;
        if (r < 0)
            assert_int_equal(r, KE_ENOMEM);
        while (r == 0 && !b.c.opens && !b.c.closes)
            test_drive_ms(&b.env, 100);
        if (b.c.opens) {
            int a = kei_ws_send(b.c.w, message, sizeof message);
            int p = b.s.n ? kei_ws_send(b.s.e[0].w, message, sizeof message) : 0;
            sent = a == 0 && p == 0 && b.s.n;
            assert_true(a == 0 || a == KE_ENOMEM);
            assert_true(p == 0 || p == KE_ENOMEM);
            test_settle(&b.env);
            test_drive_ms(&b.env, 5000);
            /* arrived, or the connection says why not */
            if (sent && !b.c.messages)
                assert_true(b.c.closes == 1 || b.s.e[0].closes == 1);
        }
        bool done = atomic_load(&b.env.alloc.failed) == 0;
        if (done) {
            assert_true(sent);
            assert_int_equal(b.c.messages, 1);
            assert_int_equal(b.s.e[0].messages, 1);
        }
        end_fini(&b.c);
        site_close(&b.s);
        test_env_fini(&b.env);
        if (done) {
            assert_true(fail_at > 12);
            break;
        }
    }
}

/* ---- Python's websockets as the other end ---- */

static bool got_all(void *arg)
{
    struct end *e = arg;
    return e->closes > 0;
}

static void python_as_server(void **state)
{
    static const struct {
        const char *target;
        int status;
        uint32_t http;
        const char *word; /* of text */
        const char *in;   /* beginning of what came; NULL: not looked at */
        int messages;
    } t[] = {
        {"/echo", KE_ECLOSED, 0, "1000", "hello|", 4},
        {"/fragments", KE_ECLOSED, 0, "1000", "one two three|", 2},
        {"/refuse", KE_EHTTP, 403, "403", NULL, 0},
        {"/close", KE_ECLOSED, 0, "4001: go away", NULL, 0},
        {"/ping", KE_ECLOSED, 0, "1000", "pong seen|", 1},
        {"/abort", KE_ECLOSED, 0, "", NULL, 0},
    };
    struct peer peer;
    char *big = malloc(300000);

    (void)state;
    memset(big, 'b', 300000);
    peer_python(&peer, "ws_server.py", "websockets", NULL);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct test_env env;
        struct end e;
        test_env_init(&env, 0);
        env.idle_ms = PEER_IDLE_MS;
        end_init(&e);
        struct kei_stream_config sc = {
            .host = "127.0.0.1", .port = peer.port, .connect_ms = 600000};
        struct kei_ws_config w = {0};
        assert_int_equal(kei_ws_connect(&e.w, env.ctx, &sc, t[i].target,
                                        "Node_id: edge-1\r\nProject_id: p\r\n", &w, &end_ops, &e),
                         0);
        if (!t[i].http) {
            assert_true(test_drive(&env, is_open, &e));
            if (strcmp(t[i].target, "/echo") == 0) {
                assert_int_equal(kei_ws_send(e.w, "hello", 5), 0);
                assert_int_equal(kei_ws_send(e.w, "", 0), 0);
                assert_int_equal(kei_ws_send(e.w, big, 300000), 0);
                assert_int_equal(kei_ws_ping(e.w), 0);
                assert_true(test_drive(&env, test_nonzero, &e.pongs));
                assert_int_equal(kei_ws_send(e.w, "bye", 3), 0);
            }
        }
        assert_true(test_drive(&env, got_all, &e));
        if (e.status != t[i].status || e.http != t[i].http || !strstr(e.text, t[i].word) ||
            e.messages != t[i].messages ||
            (t[i].in && strncmp(e.in.p, t[i].in, strlen(t[i].in)) != 0))
            fail_msg("%s: %s %u \"%s\", %d messages \"%.40s\"", t[i].target, ke_strerror(e.status),
                     e.http, e.text, e.messages, e.in.n ? e.in.p : "");
        if (strcmp(t[i].target, "/echo") == 0)
            assert_int_equal(e.in.n, 6 + 1 + 300001 + 4);
        end_fini(&e);
        test_env_fini(&env);
    }
    free(big);
    peer_stop(&peer);
}

static void python_as_client(void **state)
{
    struct test_env env;
    struct site s;
    struct peer peer;
    char arg[16], out[2000];

    (void)state;
    test_env_init(&env, 0);
    site_open(&env, &s, (struct kei_ws_config){0});
    for (int i = 0; i < 4; i++)
        s.e[i].echo = true;
    snprintf(arg, sizeof arg, "%u", kei_http_server_port(s.http));
    /* it prints READY when it begins, and what it found at its end */
    peer_python(&peer, "ws_client.py", "websockets", arg);
    env.idle_ms = PEER_IDLE_MS;
    peer_wait_output(&env, &peer, out, sizeof out);
    assert_string_equal(out, "OK\n");
    assert_true(test_drive(&env, is_closed, &s.e[0]));
    assert_int_equal(s.e[0].status, KE_ECLOSED);
    assert_non_null(strstr(s.e[0].text, "1000"));
    site_close(&s);
    test_env_fini(&env);
}
#else

/* Built without it, the calls are there and say so. */
static void not_built(void **state)
{
    static const struct kei_ws_ops ops = {0};
    struct test_env env;
    struct kei_ws *w = NULL;
    struct kei_stream_config s = {.host = "127.0.0.1", .port = 1};
    struct kei_ws_config c = {0};

    (void)state;
    test_env_init(&env, 0);
    assert_int_equal(kei_ws_connect(&w, env.ctx, &s, "/", NULL, &c, &ops, NULL), KE_ENOTSUP);
    assert_int_equal(kei_ws_accepted(&w, env.ctx, NULL, &c, &ops, NULL), KE_ENOTSUP);
    assert_null(w);
    kei_ws_free(NULL);
    test_env_fini(&env);
}
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(accept_value),
        KE_TEST(server_handshakes),
        KE_TEST(client_checks),
#if KEI_HAVE_WS
        KE_TEST(client_request),
        KE_TEST(client_refused),
        KE_TEST(client_upgrade_timeout),
        KE_TEST(client_bad_arguments),
        KE_TEST(client_bytes_of_any_size),
        KE_TEST(client_sends),
        KE_TEST(client_allocates_nothing),
        KE_TEST(pings_and_dead_links),
        KE_TEST(pongs_are_told),
        KE_TEST(peer_closes),
        KE_TEST(peer_just_goes),
        KE_TEST(flood_of_pings),
        KE_TEST(paused_by_the_user),
        KE_TEST(server_frames),
        KE_TEST(server_refuses_other_requests),
        KE_TEST(messages_of_all_sizes),
        KE_TEST(skipped_messages),
        KE_TEST(freed_in_callbacks),
        KE_TEST(idle_memory),
        KE_TEST(without_memory),
        KE_TEST(python_as_server),
        KE_TEST(python_as_client),
#else
        KE_TEST(not_built),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
