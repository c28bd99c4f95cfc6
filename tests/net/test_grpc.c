/* SPDX-License-Identifier: Apache-2.0 */
/* Unary gRPC: our client and server with each other, and each with grpcio. */
#include "util.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/grpc.h"

#define MAX_MESSAGE 1500000

struct serve {
    struct kei_grpc_server *s;
    int calls, gones;
    struct kei_grpc_call *held;
    bool free_in_call;
};

static void on_call(void *user, struct kei_grpc_call *c, struct ke_str path, struct ke_str message)
{
    struct serve *s = user;

    s->calls++;
    if (s->free_in_call) {
        kei_grpc_server_free(s->s);
        s->s = NULL;
    } else if (!kei_str_is(path, "/x.Y/Echo")) {
        kei_grpc_refuse(c, KEI_GRPC_UNIMPLEMENTED, "unknown method");
    } else if (kei_str_is(message, "refuse")) {
        kei_grpc_refuse(c, KEI_GRPC_UNKNOWN, "50% of \xc3\xa4\n");
    } else if (kei_str_is(message, "hang")) {
        s->held = c;
    } else {
        kei_grpc_reply(c, message);
    }
}

static void on_gone(void *user, struct kei_grpc_call *c)
{
    struct serve *s = user;
    assert_ptr_equal(c, s->held);
    s->held = NULL;
    s->gones++;
}

static const struct kei_grpc_server_ops ops = {on_call, on_gone};

struct ask {
    struct kei_grpc_client *c; /* freed in done when set */
    int dones;
    int status;
    uint32_t code;
    char text[200];
    struct ke_buf message;
};

static void on_done(void *user, const struct kei_grpc_answer *a)
{
    struct ask *k = user;

    k->dones++;
    k->status = a->status;
    k->code = a->code;
    snprintf(k->text, sizeof k->text, "%s", a->text);
    kei_buf_clear(&k->message);
    kei_buf_addv(&k->message, a->message);
    kei_grpc_client_free(k->c);
}

static bool is_done(void *arg)
{
    return ((struct ask *)arg)->dones > 0;
}

struct rig {
    struct test_env env;
    char dir[80], path[100];
    struct serve serve;
    struct kei_grpc_client *client;
    struct ask k;
};

static void rig_serve(struct rig *r)
{
    const struct kei_grpc_server_config c = {.listener = {.unix_path = r->path},
                                             .max_message = MAX_MESSAGE};
    if (kei_grpc_server_new(&r->serve.s, r->env.ctx, &c, &ops, &r->serve) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

static void rig_init(struct rig *r, bool serve)
{
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    test_tmp_make(r->dir, sizeof r->dir);
    snprintf(r->path, sizeof r->path, "%s/x.sock", r->dir);
    kei_buf_init(&r->k.message, kei_alloc_malloc());
    const struct kei_grpc_client_config c = {.stream = {.unix_path = r->path},
                                             .max_message = MAX_MESSAGE};
    assert_int_equal(kei_grpc_client_new(&r->client, r->env.ctx, &c), 0);
    if (serve)
        rig_serve(r);
}

static void rig_fini(struct rig *r)
{
    kei_grpc_client_free(r->client);
    kei_grpc_server_free(r->serve.s);
    ke_buf_free(&r->k.message);
    test_tmp_remove(r->dir);
    test_env_fini(&r->env);
}

static void rig_ask(struct rig *r, const char *path, struct ke_str message, uint32_t ms)
{
    r->k.dones = 0;
    assert_int_equal(kei_grpc_ask(NULL, r->client, path, message, ms, on_done, &r->k), 0);
    assert_int_equal(r->k.dones, 0);
    assert_true(test_drive(&r->env, is_done, &r->k));
    assert_int_equal(r->k.dones, 1);
}

/* ---- pure ---- */

static void timeouts(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } t[] = {
        {"1S", 1000},    {"10S", 10000},
        {"0S", 0},       {"250m", 250},
        {"1u", 1},       {"1000u", 1},
        {"1001u", 2},    {"999999n", 1},
        {"1H", 3600000}, {"2M", 120000},
        {"", -1},        {"S", -1},
        {"1", -1},       {"1s", -1},
        {"-1S", -1},     {"1.5S", -1},
        {"1S ", -1},     {"123456789S", -1},
        {" 1S", -1},     {"99999999H", INT64_C(99999999) * 3600000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        assert_int_equal(kei_grpc_timeout_read(kei_str(t[i].text)), t[i].ms);
}

static void texts(void **state)
{
    static const char *const t[][2] = {
        {"plain text", "plain text"}, {"100%", "100%25"}, {"a\nb", "a%0Ab"},
        {"\xc3\xbc", "%C3%BC"},       {"", ""},
    };
    static const char *const odd[][2] = {{"%", "%"}, {"%4", "%4"}, {"%zz", "%zz"}, {"%00", "?"}};

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_buf a, b;
        kei_buf_init(&a, kei_alloc_malloc());
        kei_buf_init(&b, kei_alloc_malloc());
        kei_grpc_text_encode(&a, t[i][0]);
        assert_string_equal(a.p ? a.p : "", t[i][1]);
        kei_grpc_text_decode(&b, kei_buf_str(&a));
        assert_string_equal(b.p ? b.p : "", t[i][0]);
        ke_buf_free(&a);
        ke_buf_free(&b);
    }
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct ke_buf b;
        kei_buf_init(&b, kei_alloc_malloc());
        kei_grpc_text_decode(&b, kei_str(odd[i][0]));
        assert_string_equal(b.p, odd[i][1]);
        ke_buf_free(&b);
    }
}

static void frames(void **state)
{
    static const struct {
        const char *p;
        size_t n;
        int r;
        size_t want;
    } t[] = {
        {"\0\0\0\0\0", 5, 0, 0},
        {"\0\0\0\0\3abc", 8, 0, 3},
        {"", 0, KE_EPROTO, 0},
        {"\0\0\0\0", 4, KE_EPROTO, 0},
        {"\0\0\0\0\3ab", 7, KE_EPROTO, 0},
        {"\0\0\0\0\1ab", 7, KE_EPROTO, 0},
        {"\1\0\0\0\1a", 6, KE_ENOTSUP, 0},
        {"\0\xff\xff\xff\xff", 5, KE_EPROTO, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_str m = {NULL, 77};
        assert_int_equal(kei_grpc_frame_read(kei_strn(t[i].p, t[i].n), &m), t[i].r);
        assert_int_equal(m.n, t[i].r == 0 ? t[i].want : 77);
    }
}

/* ---- with each other ---- */

static void asks_and_answers(void **state)
{
    struct rig r;
    char *big = malloc(MAX_MESSAGE + 1);

    (void)state;
    memset(big, 'x', MAX_MESSAGE + 1);
    rig_init(&r, true);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    assert_int_equal(r.k.status, 0);
    assert_int_equal(r.k.code, 0);
    assert_string_equal(r.k.message.p, "hello");
    rig_ask(&r, "/x.Y/Echo", KEI_STR(""), 1000);
    assert_int_equal(r.k.code, 0);
    assert_int_equal(r.k.message.n, 0);
    rig_ask(&r, "/x.Y/Nothing", KEI_STR("hello"), 1000);
    assert_int_equal(r.k.status, 0);
    assert_int_equal(r.k.code, 12);
    assert_string_equal(r.k.text, "unknown method");
    rig_ask(&r, "/x.Y/Echo", KEI_STR("refuse"), 1000);
    assert_int_equal(r.k.code, 2);
    assert_string_equal(r.k.text, "50% of \xc3\xa4\n");
    rig_ask(&r, "/x.Y/Echo", kei_strn(big, MAX_MESSAGE), 10000);
    assert_int_equal(r.k.code, 0);
    assert_int_equal(r.k.message.n, MAX_MESSAGE);
    int calls = r.serve.calls;
    rig_ask(&r, "/x.Y/Echo", kei_strn(big, MAX_MESSAGE + 1), 10000);
    assert_int_equal(r.k.status, 0);
    assert_int_equal(r.k.code, 8);
    assert_int_equal(r.serve.calls, calls);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("again"), 1000);
    assert_string_equal(r.k.message.p, "again");
    rig_fini(&r);
    free(big);
}

static void deadlines(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, true);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hang"), 5000);
    assert_int_equal(r.k.code, KEI_GRPC_DEADLINE);
    test_settle(&r.env);
    assert_int_equal(r.serve.gones, 1); /* by its own deadline, or since the client gave it up */
    assert_null(r.serve.held);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("next"), 1000);
    assert_string_equal(r.k.message.p, "next");
    rig_fini(&r);
}

static void no_server(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, false);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    assert_int_equal(r.k.code, KEI_GRPC_UNAVAILABLE);
    assert_true(r.k.status < 0);
    assert_non_null(strstr(r.k.text, "x.sock"));
    rig_serve(&r); /* it comes later */
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    assert_string_equal(r.k.message.p, "hello");
    /* goes with a call under way, and comes back */
    r.k.dones = 0;
    assert_int_equal(
        kei_grpc_ask(NULL, r.client, "/x.Y/Echo", KEI_STR("hang"), 60000, on_done, &r.k), 0);
    assert_true(test_drive(&r.env, test_nonzero, &r.serve.held));
    kei_grpc_server_free(r.serve.s);
    assert_true(test_drive(&r.env, is_done, &r.k));
    assert_int_equal(r.k.status, KE_ECLOSED);
    assert_int_equal(r.k.code, KEI_GRPC_UNAVAILABLE);
    rig_serve(&r);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    assert_string_equal(r.k.message.p, "hello");
    rig_fini(&r);
}

static bool has_calls(void *arg)
{
    return ((struct serve *)arg)->calls > 0;
}

static void freed_while_busy(void **state)
{
    struct rig r;
    struct kei_grpc_ask *a;

    (void)state;
    /* cancelled, then freed with one under way and one that waits */
    rig_init(&r, true);
    assert_int_equal(kei_grpc_ask(&a, r.client, "/x.Y/Echo", KEI_STR("hang"), 60000, on_done, &r.k),
                     0);
    assert_true(test_drive(&r.env, has_calls, &r.serve));
    kei_grpc_ask_cancel(a);
    test_settle(&r.env);
    assert_int_equal(r.serve.gones, 1);
    assert_int_equal(kei_grpc_ask(&a, r.client, "/x.Y/Echo", KEI_STR("hang"), 60000, on_done, &r.k),
                     0);
    test_settle(&r.env);
    assert_int_equal(kei_grpc_ask(&a, r.client, "/x.Y/Echo", KEI_STR("hang"), 60000, on_done, &r.k),
                     0);
    kei_grpc_client_free(r.client);
    r.client = NULL;
    test_settle(&r.env);
    assert_int_equal(r.k.dones, 0);
    assert_int_equal(r.serve.gones, 2);
    rig_fini(&r);
    /* the client in done */
    rig_init(&r, true);
    r.k.c = r.client;
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    r.client = NULL;
    rig_fini(&r);
    /* the server in call */
    rig_init(&r, true);
    r.serve.free_in_call = true;
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    assert_int_equal(r.k.status, KE_ECLOSED);
    rig_fini(&r);
}

static void too_many(void **state)
{
    struct rig r;
    int n = 0;

    (void)state;
    rig_init(&r, true);
    while (kei_grpc_ask(NULL, r.client, "/x.Y/Echo", KEI_STR("a"), 60000, on_done, &r.k) == 0)
        n++;
    assert_int_equal(n, 100);
    test_settle(&r.env);
    assert_int_equal(r.k.dones, 100);
    assert_int_equal(r.k.code, 0);
    rig_fini(&r);
}

/* ---- a client that is none ---- */

static int raw_unix(const char path[100])
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(fd >= 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void bad_clients(void **state)
{
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense, nonsense, nonsense, nonsense"};
    struct rig r;
    char buf[4096];

    (void)state;
    rig_init(&r, true);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int fd = raw_unix(r.path);
        raw_puts(&r.env, fd, texts[i]);
        if (i == 1) /* says too little: is cut in time */
            test_drive_ms(&r.env, 61000);
        assert_true(raw_recv_end(&r.env, fd, buf, sizeof buf) >= -1);
        close(fd);
    }
    assert_int_equal(r.serve.calls, 0);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
    assert_string_equal(r.k.message.p, "hello");
    rig_fini(&r);
}

static void no_memory(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct rig r;
        rig_init(&r, true);
        r.env.idle_ms = 5;
        test_alloc_fail_at(&r.env.alloc, n);
        r.k.dones = 0;
        int x = kei_grpc_ask(NULL, r.client, "/x.Y/Echo", KEI_STR("hello"), 1000, on_done, &r.k);
        if (x == 0) {
            assert_true(test_drive(&r.env, is_done, &r.k));
            assert_int_equal(r.k.dones, 1);
        } else {
            assert_int_equal(x, KE_ENOMEM);
        }
        bool reached = atomic_load(&r.env.alloc.failed) > 0;
        test_alloc_fail_at(&r.env.alloc, 0);
        rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 1000);
        assert_string_equal(r.k.message.p, "hello");
        rig_fini(&r);
        if (!reached)
            break;
    }
}

/* ---- grpcio ---- */

static void grpcio_serves(void **state)
{
    struct rig r;
    struct peer peer;
    char arg[200];
    char *big = calloc(1, MAX_MESSAGE);

    (void)state;
    rig_init(&r, false);
    r.env.idle_ms = PEER_IDLE_MS;
    snprintf(arg, sizeof arg, "server:%s", r.path);
    peer_python(&peer, "grpc_peer.py", "grpc", arg);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hello"), 10000);
    assert_int_equal(r.k.status, 0);
    assert_string_equal(r.k.message.p, "olleh");
    rig_ask(&r, "/x.Y/Other", KEI_STR("hello"), 10000);
    assert_int_equal(r.k.code, 12);
    rig_ask(&r, "/x.Y/Echo", KEI_STR("refuse"), 10000);
    assert_int_equal(r.k.code, 5);
    assert_string_equal(r.k.text, "no such thing: \xc3\xbcn\xc3\xafx 100%\n");
    rig_ask(&r, "/x.Y/Echo", KEI_STR("deadline"), 100000000);
    assert_string_equal(r.k.message.p, "100000");
    rig_ask(&r, "/x.Y/Echo", kei_strn(big, MAX_MESSAGE), 100000);
    assert_int_equal(r.k.message.n, MAX_MESSAGE);
    r.env.idle_ms = 20;
    rig_ask(&r, "/x.Y/Echo", KEI_STR("hang"), 500);
    assert_int_equal(r.k.code, KEI_GRPC_DEADLINE);
    peer_stop(&peer);
    rig_fini(&r);
    free(big);
}

static void grpcio_asks(void **state)
{
    struct rig r;
    struct peer peer;
    char arg[200], out[4000];

    (void)state;
    rig_init(&r, true);
    r.env.idle_ms = PEER_IDLE_MS;
    snprintf(arg, sizeof arg, "client:%s", r.path);
    peer_python(&peer, "grpc_peer.py", "grpc", arg);
    peer_wait_output(&r.env, &peer, out, sizeof out);
    assert_string_equal(out, "hello\n"
                             "\n"
                             "12 unknown method\n"
                             "2 50% of \xc3\xa4\n\n"
                             "4 Deadline Exceeded\n"
                             "8 message is larger than the limit of 1500000 bytes\n"
                             "1000000\n"
                             "124750\n"
                             "12\n"
                             "still here\n");
    rig_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(timeouts),         KE_TEST(texts),         KE_TEST(frames),
        KE_TEST(asks_and_answers), KE_TEST(deadlines),     KE_TEST(no_server),
        KE_TEST(freed_while_busy), KE_TEST(too_many),      KE_TEST(bad_clients),
        KE_TEST(no_memory),        KE_TEST(grpcio_serves), KE_TEST(grpcio_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
