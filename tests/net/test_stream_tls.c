/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, HTTP and WebSocket over TLS: both ends ours, through a proxy, and against Python. */
#include "util.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "crypto/fixture.h"
#include "kei_config.h"
#include "net/http.h"
#include "net/stream_priv.h"
#include "net/ws.h"

/* ---- two ends ---- */

struct both {
    struct fixture f;
    struct pki pki;
    struct kei_tls_config *server_tls, *client_tls;
    struct kei_listener *l;
    struct probe c, s;
    int accepted;
};

static void on_accept(void *user, struct kei_stream *s)
{
    struct both *b = user;
    b->accepted++;
    if (b->s.s) {
        kei_stream_free(s);
        return;
    }
    b->s.s = s;
    kei_stream_set_ops(s, &probe_ops, &b->s);
}

static struct kei_tls_config *make_tls(struct both *b, struct kei_tls_options o)
{
    struct kei_tls_config *t = NULL;
    if (kei_tls_config_new(&t, b->f.ctx, &o) < 0)
        fail_msg("%s", ke_ctx_error(b->f.ctx));
    return t;
}

static void begin(struct both *b)
{
    memset(b, 0, sizeof *b);
    fixture_init(&b->f);
    pki_make(&b->pki, &b->f);
    probe_init(&b->c);
    probe_init(&b->s);
    b->server_tls = make_tls(b, (struct kei_tls_options){.server = true,
                                                         .verify_peer = true,
                                                         .ca = b->pki.ca,
                                                         .cert = b->pki.server,
                                                         .key = b->pki.server_key});
    b->client_tls = make_tls(
        b, (struct kei_tls_options){
               .verify_peer = true, .ca = b->pki.ca, .cert = b->pki.node, .key = b->pki.node_key});
}

static void listen_tls(struct both *b, struct kei_listener_config c)
{
    c.host = "127.0.0.1";
    c.tls = b->server_tls;
    if (kei_listen(&b->l, b->f.ctx, &c, on_accept, b) < 0)
        fail_msg("%s", ke_ctx_error(b->f.ctx));
}

static void connect_tls(struct both *b, struct kei_stream_config c)
{
    if (!c.host)
        c.host = "127.0.0.1";
    if (!c.port)
        c.port = kei_listener_port(b->l);
    c.tls = b->client_tls;
    if (kei_stream_connect(&b->c.s, b->f.ctx, &c, &probe_ops, &b->c) < 0)
        fail_msg("%s", ke_ctx_error(b->f.ctx));
}

static bool both_open(void *arg)
{
    struct both *b = arg;
    return b->c.opens && b->s.s;
}

static void open_both(struct both *b, struct kei_stream_config c)
{
    begin(b);
    listen_tls(b, (struct kei_listener_config){.send_cap = c.send_cap});
    connect_tls(b, c);
    if (!test_drive(&b->f.env, both_open, b))
        fail_msg("not open: \"%s\" %d", b->c.text, b->accepted);
}

static void end(struct both *b)
{
    probe_fini(&b->c);
    probe_fini(&b->s);
    kei_listener_free(b->l);
    kei_tls_config_unref(b->server_tls);
    kei_tls_config_unref(b->client_tls);
    pki_free(&b->pki);
    fixture_fini(&b->f);
}

static void both_ways(void **state)
{
    struct both b;
    struct ke_buf der, want;

    (void)state;
    open_both(&b, (struct kei_stream_config){0});
    assert_int_equal(kei_stream_write(b.c.s, "from the node", 13), 0);
    assert_int_equal(kei_stream_write(b.s.s, "from the cloud", 14), 0);
    test_settle(&b.f.env);
    assert_string_equal(b.s.in.p, "from the node");
    assert_string_equal(b.c.in.p, "from the cloud");
    /* whose certificate it was */
    der = fixture_buf(&b.f);
    want = fixture_buf(&b.f);
    assert_int_equal(kei_stream_peer_cert(b.s.s, &der), 0);
    assert_ok(&b.f, kei_cert_der(b.pki.node, &want, &b.f.err));
    assert_int_equal(der.n, want.n);
    assert_memory_equal(der.p, want.p, der.n);
    ke_buf_free(&der);
    ke_buf_free(&want);
    /* an end in order */
    kei_stream_finish(b.c.s);
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.s));
    assert_int_equal(b.s.status, KE_ECLOSED);
    kei_stream_free(b.s.s);
    b.s.s = NULL;
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ECLOSED);
    end(&b);
}

static void unannounced_end(void **state)
{
    struct both b;

    (void)state;
    open_both(&b, (struct kei_stream_config){0});
    shutdown(b.s.s->fd, SHUT_RDWR); /* as a process that dies */
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ETLS); /* data may be missing */
    end(&b);
    /* freed with nothing left to send is an end in order */
    open_both(&b, (struct kei_stream_config){0});
    kei_stream_free(b.s.s);
    b.s.s = NULL;
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ECLOSED);
    end(&b);
    /* with something left it is not */
    open_both(&b, (struct kei_stream_config){0});
    assert_int_equal(kei_stream_write(b.s.s, "lost", 4), 0);
    kei_stream_free(b.s.s);
    b.s.s = NULL;
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ETLS);
    end(&b);
}

static char pattern(size_t i)
{
    return (char)(i * 17 + i / 253);
}

static bool all_there(void *arg)
{
    struct both *b = arg;
    return b->s.in.n == 20u << 20 && b->c.in.n == 20u << 20;
}

static void large_in_both_directions(void **state)
{
    struct both b;
    size_t n = 20u << 20;
    char *bytes = malloc(n);

    (void)state;
    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(i);
    open_both(&b, (struct kei_stream_config){.send_cap = 64u << 20});
    size_t idle = atomic_load(&b.f.env.alloc.live_bytes);
    assert_int_equal(kei_stream_write(b.c.s, bytes, n), 0);
    assert_int_equal(kei_stream_write(b.s.s, bytes, n), 0);
    assert_true(test_drive(&b.f.env, all_there, &b));
    assert_memory_equal(b.s.in.p, bytes, n);
    assert_memory_equal(b.c.in.p, bytes, n);
    test_settle(&b.f.env);
    assert_int_equal(atomic_load(&b.f.env.alloc.live_bytes), idle);
    free(bytes);
    end(&b);
}

/* What TLS has already taken off the socket is not forgotten by a pause. */
static void pausing(void **state)
{
    struct both b;
    char block[40000];

    (void)state;
    open_both(&b, (struct kei_stream_config){0});
    memset(block, 'p', sizeof block);
    b.s.pause_in_data = true;
    assert_int_equal(kei_stream_write(b.c.s, block, sizeof block), 0);
    for (int i = 0; i < 100 && b.s.in.n < sizeof block; i++) {
        size_t before = b.s.in.n;
        test_settle(&b.f.env);
        assert_int_equal(b.s.datas, i + 1); /* one call per unpausing */
        assert_true(b.s.in.n > before);
        kei_stream_pause(b.s.s, false);
    }
    assert_int_equal(b.s.in.n, sizeof block);
    end(&b);
}

/* Handing over inside of the data call, the end of the stream already there: the rest comes first.
 */
static struct probe *heir;
static size_t hand_over(void *user, const char *p, size_t n)
{
    struct both *b = user;
    (void)p, (void)n;
    kei_stream_set_ops(b->s.s, &probe_ops, heir);
    return 1;
}

static void set_ops_before_the_end(void **state)
{
    static const struct kei_stream_ops ops = {.data = hand_over};
    struct both b;
    struct probe second;

    (void)state;
    probe_init(&second);
    heir = &second;
    open_both(&b, (struct kei_stream_config){0});
    kei_stream_set_ops(b.s.s, &ops, &b);
    assert_int_equal(kei_stream_write(b.c.s, "1rest", 5), 0);
    kei_stream_finish(b.c.s);
    assert_true(test_drive(&b.f.env, probe_is_closed, &second));
    assert_string_equal(second.in.n ? second.in.p : "", "rest");
    assert_int_equal(second.status, KE_ECLOSED);
    ke_buf_free(&second.in);
    end(&b);
}

static void large_then_finish(void **state)
{
    struct both b;
    size_t n = 5u << 20;
    char *bytes = calloc(1, n);

    (void)state;
    open_both(&b, (struct kei_stream_config){.send_cap = 16u << 20});
    assert_int_equal(kei_stream_write(b.s.s, bytes, n), 0);
    kei_stream_finish(b.s.s);
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ECLOSED);
    assert_int_equal(b.c.in.n, n);
    free(bytes);
    end(&b);
}

/* ---- handshakes that fail ---- */

static void refused_servers(void **state)
{
    static const struct {
        const char *host, *verify_name;
        bool other_ca, no_cert;
        int status;
        const char *word;
    } t[] = {
        {"127.0.0.1", NULL, false, false, 0, ""},
        {"localhost", NULL, false, false, 0, ""},
        {"127.0.0.1", "cloud.example", false, false, 0, ""},
        {"127.0.0.1", "else.example", false, false, KE_ECERT, "else.example"},
        {"127.0.0.1", NULL, true, false, KE_ECERT, ""},
        {"127.0.0.1", NULL, false, true, KE_EREFUSED, "certificate"},
    };

    (void)state;
    need_localhost();
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct both b;
        struct pki other;
        begin(&b);
        pki_make(&other, &b.f);
        kei_tls_config_unref(b.client_tls);
        b.client_tls =
            make_tls(&b, (struct kei_tls_options){.verify_peer = true,
                                                  .ca = t[i].other_ca ? other.ca : b.pki.ca,
                                                  .cert = t[i].no_cert ? NULL : b.pki.node,
                                                  .key = t[i].no_cert ? NULL : b.pki.node_key,
                                                  .verify_name = t[i].verify_name});
        listen_tls(&b, (struct kei_listener_config){0});
        connect_tls(&b, (struct kei_stream_config){.host = t[i].host});
        if (t[i].status == 0) {
            assert_true(test_drive(&b.f.env, both_open, &b));
        } else {
            assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
            if (b.c.status != t[i].status || !strstr(b.c.text, t[i].word))
                fail_msg("case %zu: %s \"%s\"", i, ke_strerror(b.c.status), b.c.text);
            test_settle(&b.f.env);
            assert_int_equal(b.accepted, 0); /* nobody was told of it */
        }
        pki_free(&other);
        end(&b);
    }
}

/* The listener's side of it: a line in the log, not one for each attempt. */
static void failed_handshakes_are_logged(void **state)
{
    struct both b;

    (void)state;
    begin(&b);
    listen_tls(&b, (struct kei_listener_config){0});
    unsigned before = atomic_load(&b.f.env.log_lines);
    for (int i = 0; i < 10; i++) {
        int fd = raw_connect(kei_listener_port(b.l));
        raw_puts(&b.f.env, fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        test_settle(&b.f.env);
        close(fd);
        test_settle(&b.f.env);
    }
    assert_int_equal(atomic_load(&b.f.env.log_lines) - before, 1);
    assert_non_null(strstr(b.f.env.last_log, "127.0.0.1:"));
    assert_int_equal(b.accepted, 0);
    end(&b);
}

/* Gone before it was accepted: the socket has forgotten whose it was. */
static void who_is_gone_has_a_name(void **state)
{
    struct both b;
    char port[40];
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    struct linger reset = {1, 0};

    (void)state;
    begin(&b);
    listen_tls(&b, (struct kei_listener_config){0});
    int fd = raw_connect(kei_listener_port(b.l));
    assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &len), 0);
    snprintf(port, sizeof port, "from 127.0.0.1:%u did", ntohs(own.sin_port));
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    close(fd);
    test_settle(&b.f.env);
    if (!strstr(b.f.env.last_log, port))
        fail_msg("%s is not in: %s", port, b.f.env.last_log);
    end(&b);
}

static void slow_handshakes(void **state)
{
    struct both b;
    char rest[200];

    (void)state;
    begin(&b);
    listen_tls(&b, (struct kei_listener_config){.handshake_ms = 5000, .max_streams = 2});
    int one = raw_connect(kei_listener_port(b.l)), two = raw_connect(kei_listener_port(b.l));
    test_drive_ms(&b.f.env, 4000);
    raw_puts(&b.f.env, one, "\x16\x03\x01");
    /* both places are taken: the third waits until they are cut */
    connect_tls(&b, (struct kei_stream_config){.connect_ms = 60000});
    test_settle(&b.f.env);
    assert_int_equal(b.accepted, 0);
    assert_true(test_drive(&b.f.env, both_open, &b));
    assert_true(raw_recv_end(&b.f.env, one, rest, sizeof rest) <= 0);
    assert_true(raw_recv_end(&b.f.env, two, rest, sizeof rest) <= 0);
    close(one);
    close(two);
    end(&b);
    /* a server that never answers the hello */
    begin(&b);
    uint16_t port;
    int lfd = raw_listen(&port);
    connect_tls(&b, (struct kei_stream_config){.port = port, .connect_ms = 4000});
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ETIMEDOUT);
    assert_non_null(strstr(b.c.text, "TLS"));
    close(lfd);
    end(&b);
}

static void peers_without_tls(void **state)
{
    static const char *const says[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n", NULL};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct both b;
        uint16_t port;
        begin(&b);
        int lfd = raw_listen(&port);
        connect_tls(&b, (struct kei_stream_config){.port = port});
        int fd = raw_accept(&b.f.env, lfd);
        if (says[i])
            raw_puts(&b.f.env, fd, says[i]);
        else
            shutdown(fd, SHUT_WR);
        assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
        assert_int_equal(b.c.status, says[i] ? KE_ETLS : KE_ECONN);
        assert_int_equal(b.c.opens, 0);
        close(fd);
        close(lfd);
        end(&b);
    }
}

static void new_settings_for_new_connections(void **state)
{
    struct both b;
    struct pki other;

    (void)state;
    open_both(&b, (struct kei_stream_config){0});
    pki_make(&other, &b.f);
    struct kei_tls_config *t = make_tls(
        &b,
        (struct kei_tls_options){.server = true, .cert = other.server, .key = other.server_key});
    kei_listener_set_tls(b.l, t);
    kei_tls_config_unref(t);
    /* the old connection goes on */
    assert_int_equal(kei_stream_write(b.c.s, "still", 5), 0);
    test_settle(&b.f.env);
    assert_string_equal(b.s.in.p, "still");
    /* a new one meets the new certificate */
    probe_fini(&b.c);
    probe_init(&b.c);
    connect_tls(&b, (struct kei_stream_config){0});
    assert_true(test_drive(&b.f.env, probe_is_closed, &b.c));
    assert_int_equal(b.c.status, KE_ECERT);
    pki_free(&other);
    end(&b);
}

static void freed_at_any_time(void **state)
{
    (void)state;
    for (int turns = 0; turns < 14; turns++) {
        for (int what = 0; what < 3; what++) {
            struct both b;
            begin(&b);
            listen_tls(&b, (struct kei_listener_config){0});
            connect_tls(&b, (struct kei_stream_config){0});
            for (int i = 0; i < turns; i++)
                assert_int_equal(ke_ctx_dispatch(b.f.ctx), 0);
            if (what == 0) {
                kei_stream_free(b.c.s);
                b.c.s = NULL;
            } else if (what == 1) {
                kei_listener_free(b.l); /* takes the handshakes with it */
                b.l = NULL;
            } /* else all at the end */
            if (what < 2)
                test_settle(&b.f.env);
            end(&b);
        }
    }
}

static void idle_memory(void **state)
{
    struct both b;
    struct probe second;

    (void)state;
    probe_init(&second);
    open_both(&b, (struct kei_stream_config){0});
    assert_int_equal(kei_stream_write(b.c.s, "x", 1), 0);
    assert_int_equal(kei_stream_write(b.s.s, "x", 1), 0);
    test_settle(&b.f.env);
    /* own heap only; OpenSSL's is measured by the scale test */
    size_t bytes = atomic_load(&b.f.env.alloc.live_bytes);
    kei_stream_free(b.s.s);
    b.s.s = NULL;
    size_t server = bytes - atomic_load(&b.f.env.alloc.live_bytes);
    fprintf(stderr, "idle TLS stream: %zu bytes of own heap\n", server);
    assert_true(server < 2048);
    probe_fini(&second);
    end(&b);
}

/* ---- HTTP ---- */

static void on_request(void *user, struct kei_http_conn *c, const struct kei_http_head *h,
                       struct ke_str body)
{
    struct ke_buf der;
    char text[64];

    (void)user, (void)body;
    kei_buf_init(&der, kei_alloc_malloc());
    int r = kei_stream_peer_cert(kei_http_conn_stream(c), &der);
    snprintf(text, sizeof text, "%.*s cert %s", KEI_FMT(h->target), r == 0 ? "yes" : "no");
    ke_buf_free(&der);
    assert_int_equal(kei_http_respond(c, 200, "text/plain", NULL, kei_str(text)), 0);
}

struct answer {
    int calls, status;
    char text[600], body[200];
};

static void on_answer(void *user, int status, const char *text, const struct kei_http_head *head,
                      struct ke_str body)
{
    struct answer *a = user;
    (void)head;
    a->calls++;
    a->status = status;
    snprintf(a->text, sizeof a->text, "%s", text);
    snprintf(a->body, sizeof a->body, "%.*s", KEI_FMT(body));
}

/* As port 10002 of a cloud: a client certificate is asked for, not needed. */
static void http_over_tls(void **state)
{
    static const struct kei_http_server_ops ops = {.request = on_request};

    (void)state;
    for (int with = 0; with < 3; with++) {
        struct both b;
        struct kei_http_server *s;
        struct kei_http_call *call;
        struct answer a = {0};
        begin(&b);
        kei_tls_config_unref(b.server_tls);
        b.server_tls = make_tls(&b, (struct kei_tls_options){.server = true,
                                                             .request_peer = true,
                                                             .ca = b.pki.ca,
                                                             .cert = b.pki.server,
                                                             .key = b.pki.server_key});
        kei_tls_config_unref(b.client_tls);
        struct kei_tls_options o = {.verify_peer = with < 2, .ca = with < 2 ? b.pki.ca : NULL};
        if (with == 1) {
            o.cert = b.pki.node;
            o.key = b.pki.node_key;
        }
        b.client_tls = make_tls(&b, o);
        struct kei_http_server_config sc = {.listener = {.host = "127.0.0.1", .tls = b.server_tls}};
        assert_int_equal(kei_http_server_new(&s, b.f.ctx, &sc, &ops, NULL), 0);
        struct kei_http_call_config cc = {.method = "GET", .target = "/ca.crt"};
        cc.stream.host = "127.0.0.1";
        cc.stream.port = kei_http_server_port(s);
        cc.stream.tls = b.client_tls;
        assert_int_equal(kei_http_call(&call, b.f.ctx, &cc, on_answer, &a), 0);
        assert_true(test_drive(&b.f.env, test_nonzero, &a.calls));
        if (a.status != 0)
            fail_msg("%s", a.text);
        assert_string_equal(a.body, with == 1 ? "/ca.crt cert yes" : "/ca.crt cert no");
        kei_http_call_free(call);
        kei_http_server_free(s);
        end(&b);
    }
}

/* ---- other programs: the real time counts for them ---- */

static int64_t system_now(void *user)
{
    (void)user;
    return (int64_t)time(NULL);
}

/* Files of a PKI made now, in dir: ca.pem, server.pem, server.key, node.pem, node.key. */
struct files {
    struct fixture f;
    char dir[64];
    struct kei_key *ca_key, *server_key, *node_key;
    struct kei_cert *ca, *server, *node;
    struct kei_tls_config *server_tls, *client_tls;
};

static void write_file(const struct files *x, const char *name, const struct ke_buf *b)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", x->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(b->p, 1, b->n, file), b->n);
    fclose(file);
}

static void write_cert(struct files *x, const char *name, const struct kei_cert *c)
{
    struct ke_buf b = fixture_buf(&x->f);
    assert_ok(&x->f, kei_cert_pem(c, &b, &x->f.err));
    write_file(x, name, &b);
    ke_buf_free(&b);
}

static void write_key(struct files *x, const char *name, const struct kei_key *k)
{
    struct ke_buf b = fixture_buf(&x->f);
    assert_ok(&x->f, kei_key_pem(k, &b, &x->f.err));
    write_file(x, name, &b);
    ke_buf_free(&b);
}

static void files_make(struct files *x)
{
    static const char *const names[] = {"127.0.0.1", "localhost"};
    int64_t now = system_now(NULL) - 60;
    struct ke_error *err = &x->f.err;

    memset(x, 0, sizeof *x);
    fixture_init(&x->f);
    x->f.env.idle_ms = PEER_IDLE_MS;
    test_tmp_make(x->dir, sizeof x->dir);
    struct ke_buf csr = fixture_buf(&x->f);
    assert_ok(&x->f, kei_key_new_p256(&x->ca_key, x->f.c, err));
    assert_ok(&x->f, kei_key_new_p256(&x->server_key, x->f.c, err));
    assert_ok(&x->f, kei_key_new_p256(&x->node_key, x->f.c, err));
    assert_ok(&x->f, kei_ca_make(&x->ca, x->ca_key, now, err));
    assert_ok(&x->f, kei_ca_sign_server(&x->server, x->ca, x->ca_key, x->server_key, names, 2, now,
                                        86400, err));
    assert_ok(&x->f, kei_csr_make(&csr, x->node_key, "system:nodes", "system:node:n1", err));
    assert_ok(&x->f, kei_ca_sign_csr(&x->node, x->ca, x->ca_key, kei_buf_str(&csr), NULL, 0, now,
                                     86400, err));
    ke_buf_free(&csr);
    write_cert(x, "ca.pem", x->ca);
    write_cert(x, "server.pem", x->server);
    write_cert(x, "node.pem", x->node);
    write_key(x, "server.key", x->server_key);
    write_key(x, "node.key", x->node_key);
    struct kei_tls_options s = {.server = true,
                                .verify_peer = true,
                                .ca = x->ca,
                                .cert = x->server,
                                .key = x->server_key,
                                .now = system_now};
    struct kei_tls_options c = {
        .verify_peer = true, .ca = x->ca, .cert = x->node, .key = x->node_key, .now = system_now};
    assert_int_equal(kei_tls_config_new(&x->server_tls, x->f.ctx, &s), 0);
    assert_int_equal(kei_tls_config_new(&x->client_tls, x->f.ctx, &c), 0);
}

static void files_end(struct files *x)
{
    kei_tls_config_unref(x->server_tls);
    kei_tls_config_unref(x->client_tls);
    kei_cert_free(x->node);
    kei_cert_free(x->server);
    kei_cert_free(x->ca);
    kei_key_free(x->node_key);
    kei_key_free(x->server_key);
    kei_key_free(x->ca_key);
    test_tmp_remove(x->dir);
    fixture_fini(&x->f);
}

static void call_tls(struct files *x, struct kei_stream_config s, const char *target,
                     struct answer *a)
{
    struct kei_http_call *call;
    struct kei_http_call_config c = {
        .stream = s, .method = "GET", .target = target, .timeout_ms = 600000};

    memset(a, 0, sizeof *a);
    assert_int_equal(kei_http_call(&call, x->f.ctx, &c, on_answer, a), 0);
    assert_true(test_drive(&x->f.env, test_nonzero, &a->calls));
    kei_http_call_free(call);
}

static void openssl_as_server(void **state)
{
    struct files x;
    struct peer peer;
    struct answer a;
    char accept[32], path[128];
    uint16_t port;
    const char *program = find_program("openssl");

    (void)state;
    if (!program) {
        fprintf(stderr, "skipped: no openssl\n");
        skip();
    }
    for (int version = 0; version < 2; version++) {
        files_make(&x);
        struct ke_buf page = fixture_buf(&x.f);
        kei_buf_adds(&page, "the page");
        write_file(&x, "page.txt", &page);
        ke_buf_free(&page);
        close(raw_listen(&port));
        snprintf(accept, sizeof accept, "127.0.0.1:%u", port);
        snprintf(path, sizeof path, "%s", x.dir);
        char here[512];
        assert_non_null(getcwd(here, sizeof here));
        assert_int_equal(chdir(x.dir), 0);
        const char *const argv[] = {program,   "s_server",
                                    "-accept", accept,
                                    "-cert",   "server.pem",
                                    "-key",    "server.key",
                                    "-CAfile", "ca.pem",
                                    "-Verify", "2",
                                    "-WWW",    version ? "-tls1_2" : "-tls1_3",
                                    NULL};
        bool started = peer_start(&peer, argv, "ACCEPT");
        assert_int_equal(chdir(here), 0);
        assert_true(started);
        struct kei_stream_config s = {.host = "127.0.0.1", .port = port, .tls = x.client_tls};
        call_tls(&x, s, "/page.txt", &a);
        if (a.status != 0)
            fail_msg("%s", a.text);
        assert_string_equal(a.body, "the page");
        peer_stop(&peer);
        files_end(&x);
    }
}

/* TLS to the target, through a proxy that only sees the tunnel. */
static void through_tinyproxy(void **state)
{
    static const struct kei_http_server_ops ops = {.request = on_request};
    struct files x;
    struct peer peer;
    struct answer a;
    char path[128], url[64];
    uint16_t port;
    const char *program = find_program("tinyproxy");
    struct kei_http_server *server;

    (void)state;
    need_localhost();
    if (!program) {
        fprintf(stderr, "skipped: no tinyproxy\n");
        skip();
    }
    files_make(&x);
    close(raw_listen(&port));
    struct ke_buf conf = fixture_buf(&x.f);
    kei_buf_addf(&conf, "Port %u\nListen 127.0.0.1\nTimeout 600\nBasicAuth a b\n", port);
    write_file(&x, "conf", &conf);
    ke_buf_free(&conf);
    snprintf(path, sizeof path, "%s/conf", x.dir);
    const char *const argv[] = {program, "-d", "-c", path, NULL};
    assert_true(peer_start(&peer, argv, "Accepting connections"));
    struct kei_http_server_config sc = {.listener = {.host = "127.0.0.1", .tls = x.server_tls}};
    assert_int_equal(kei_http_server_new(&server, x.f.ctx, &sc, &ops, NULL), 0);
    snprintf(url, sizeof url, "http://a:b@127.0.0.1:%u", port);
    struct kei_stream_config s = {.host = "localhost",
                                  .port = kei_http_server_port(server),
                                  .tls = x.client_tls,
                                  .proxy_url = url};
    call_tls(&x, s, "/through", &a);
    if (a.status != 0)
        fail_msg("%s", a.text);
    assert_string_equal(a.body, "/through cert yes");
    kei_http_server_free(server);
    peer_stop(&peer);
    files_end(&x);
}

#if KEI_HAVE_WS

struct ws_end {
    struct kei_ws *w;
    int opens, messages, closes, status;
    char text[600], last[100];
    bool echo;
};

static void ws_open(void *user)
{
    ((struct ws_end *)user)->opens++;
}

static void ws_message(void *user, const char *p, size_t n)
{
    struct ws_end *e = user;
    e->messages++;
    snprintf(e->last, sizeof e->last, "%.*s", (int)(n < 99 ? n : 99), p);
    if (e->echo)
        assert_int_equal(kei_ws_send(e->w, p, n), 0);
}

static void ws_closed(void *user, int status, const char *text, uint32_t http_status)
{
    struct ws_end *e = user;
    (void)http_status;
    e->closes++;
    e->status = status;
    snprintf(e->text, sizeof e->text, "%s", text);
}

static bool ws_is_closed(void *arg)
{
    return ((struct ws_end *)arg)->closes > 0;
}

static const struct kei_ws_ops ws_ops = {
    .open = ws_open, .message = ws_message, .closed = ws_closed};

static void python_wss_server(void **state)
{
    struct files x;
    struct peer peer;
    struct ws_end e = {0};

    (void)state;
    files_make(&x);
    peer_python(&peer, "wss_echo.py", "websockets", x.dir);
    struct kei_stream_config s = {.host = "127.0.0.1", .port = peer.port, .tls = x.client_tls};
    struct kei_ws_config w = {0};
    assert_int_equal(kei_ws_connect(&e.w, x.f.ctx, &s, "/p/n1/events", NULL, &w, &ws_ops, &e), 0);
    assert_true(test_drive(&x.f.env, test_nonzero, &e.opens));
    /* it greets with the common name it saw */
    assert_true(test_drive(&x.f.env, test_nonzero, &e.messages));
    assert_string_equal(e.last, "system:node:n1");
    assert_int_equal(kei_ws_send(e.w, "bye", 3), 0);
    assert_true(test_drive(&x.f.env, ws_is_closed, &e));
    assert_string_equal(e.last, "bye");
    assert_int_equal(e.status, KE_ECLOSED);
    kei_ws_free(e.w);
    peer_stop(&peer);
    files_end(&x);
}

struct wss_site {
    struct files x;
    struct ws_end e;
};

static void on_upgrade(void *user, struct kei_http_conn *c, const struct kei_http_head *h,
                       struct ke_str body)
{
    struct wss_site *site = user;
    struct ke_buf answer = fixture_buf(&site->x.f);
    struct kei_ws_config w = {0};

    (void)body;
    assert_int_equal(kei_ws_server_handshake(h, &answer, NULL), 0);
    struct kei_stream *s = kei_http_upgrade(c, kei_buf_str(&answer));
    ke_buf_free(&answer);
    assert_non_null(s);
    site->e.echo = true;
    assert_int_equal(kei_ws_accepted(&site->e.w, site->x.f.ctx, s, &w, &ws_ops, &site->e), 0);
}

static void python_wss_client(void **state)
{
    static const struct kei_http_server_ops ops = {.request = on_upgrade};
    struct wss_site site;
    struct peer peer;
    struct kei_http_server *server;
    char arg[128], out[1000];

    (void)state;
    memset(&site, 0, sizeof site);
    files_make(&site.x);
    struct kei_http_server_config sc = {
        .listener = {.host = "127.0.0.1", .tls = site.x.server_tls, .send_cap = 16u << 20}};
    assert_int_equal(kei_http_server_new(&server, site.x.f.ctx, &sc, &ops, &site), 0);
    snprintf(arg, sizeof arg, "%s:%u", site.x.dir, kei_http_server_port(server));
    peer_python(&peer, "ws_client.py", "websockets", arg);
    peer_wait_output(&site.x.f.env, &peer, out, sizeof out);
    assert_string_equal(out, "OK\n");
    assert_true(test_drive(&site.x.f.env, ws_is_closed, &site.e));
    assert_int_equal(site.e.status, KE_ECLOSED);
    kei_ws_free(site.e.w);
    kei_http_server_free(server);
    files_end(&site.x);
}
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(both_ways),
        KE_TEST(unannounced_end),
        KE_TEST(large_in_both_directions),
        KE_TEST(pausing),
        KE_TEST(set_ops_before_the_end),
        KE_TEST(large_then_finish),
        KE_TEST(refused_servers),
        KE_TEST(failed_handshakes_are_logged),
        KE_TEST(who_is_gone_has_a_name),
        KE_TEST(slow_handshakes),
        KE_TEST(peers_without_tls),
        KE_TEST(new_settings_for_new_connections),
        KE_TEST(freed_at_any_time),
        KE_TEST(idle_memory),
        KE_TEST(http_over_tls),
        KE_TEST(openssl_as_server),
        KE_TEST(through_tinyproxy),
#if KEI_HAVE_WS
        KE_TEST(python_wss_server),
        KE_TEST(python_wss_client),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
