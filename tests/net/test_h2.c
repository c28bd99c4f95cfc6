/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 of one connection: two ends joined by bytes, and bytes that no client of ours would send.
 */
#include "support/support.h"

#include "net/h2.h"

struct end {
    struct kei_h2 *h;
    struct test_alloc *alloc;
    int requests, gones, responses, overs;
    struct kei_h2_stream *last;
    int status;
    char text[200], path[200], trailer[100];
    struct ke_buf body;
    bool over, hold;      /* hold: do not answer at once */
    bool free_in_request; /* the connection, in the callback */
    size_t n_headers;
};

static void answer(struct kei_h2_stream *s, struct ke_str body)
{
    const struct kei_h2_header head[] = {{KEI_STR(":status"), KEI_STR("200")}};
    const struct kei_h2_header end[] = {{KEI_STR("grpc-status"), KEI_STR("7")}};

    (void)kei_h2_respond(s, head, 1, body, end, 1, NULL);
}

static void on_request(void *user, struct kei_h2_stream *s, const struct kei_h2_message *m)
{
    struct end *e = user;
    struct ke_str path = kei_h2_header(m, ":path");

    e->requests++;
    e->last = s;
    e->over = m->over;
    e->overs += m->over;
    e->n_headers = m->n_headers;
    snprintf(e->path, sizeof e->path, "%.*s", KEI_FMT(path));
    kei_buf_clear(&e->body);
    kei_buf_addv(&e->body, m->body);
    if (e->free_in_request) {
        kei_h2_free(e->h);
        e->h = NULL;
    } else if (!e->hold) {
        answer(s, m->body.p ? m->body : KEI_STR(""));
    }
}

static void on_gone(void *user, struct kei_h2_stream *s)
{
    struct end *e = user;
    assert_ptr_equal(s, e->last);
    e->gones++;
}

static void on_response(void *user, struct kei_h2_stream *s, int status, const char *text,
                        const struct kei_h2_message *m)
{
    struct end *e = user;

    (void)s;
    e->responses++;
    e->status = status;
    snprintf(e->text, sizeof e->text, "%s", text);
    kei_buf_clear(&e->body);
    if (!m)
        return;
    struct ke_str t = kei_h2_header(m, "grpc-status");
    snprintf(e->trailer, sizeof e->trailer, "%.*s", KEI_FMT(t));
    kei_buf_addv(&e->body, m->body);
}

static const struct kei_h2_ops ops = {on_request, on_gone, on_response};

struct pair {
    struct test_alloc alloc;
    struct end server, client;
};

static int pair_init(struct pair *p, struct kei_h2_config server, struct kei_h2_config client)
{
    memset(p, 0, sizeof *p);
    test_alloc_init(&p->alloc);
    server.server = true;
    kei_buf_init(&p->server.body, kei_alloc_malloc());
    kei_buf_init(&p->client.body, kei_alloc_malloc());
    int r = kei_h2_new(&p->server.h, &p->alloc.table, &server, &ops, &p->server, NULL);
    return r < 0 ? r : kei_h2_new(&p->client.h, &p->alloc.table, &client, &ops, &p->client, NULL);
}

static void pair_fini(struct pair *p)
{
    kei_h2_free(p->server.h);
    kei_h2_free(p->client.h);
    ke_buf_free(&p->server.body);
    ke_buf_free(&p->client.body);
    assert_int_equal(test_alloc_live(&p->alloc), 0);
}

/* One direction, in pieces of size (0: as they come); false: nothing was there, or it failed. */
static bool move(struct end *from, struct end *to, size_t size)
{
    struct ke_str s;
    bool any = false;

    while (from->h && kei_h2_send(from->h, &s, NULL) == 0 && s.n > 0) {
        any = true;
        for (size_t at = 0; at < s.n && to->h;) {
            size_t n = size && s.n - at > size ? size : s.n - at;
            if (kei_h2_feed(to->h, s.p + at, n, NULL) < 0)
                return false;
            at += n;
        }
    }
    return any;
}

static void run(struct pair *p, size_t size)
{
    bool a, b;
    do {
        a = move(&p->client, &p->server, size);
        b = move(&p->server, &p->client, size);
    } while (a || b);
}

static int ask(struct pair *p, struct kei_h2_stream **ret, const char *path, struct ke_str body)
{
    const struct kei_h2_header head[] = {
        {KEI_STR(":method"), KEI_STR("POST")},
        {KEI_STR(":scheme"), KEI_STR("http")},
        {KEI_STR(":path"), kei_str(path)},
        {KEI_STR(":authority"), KEI_STR("/run/a.sock")}, /* as some clients of unix sockets do */
    };
    return kei_h2_request(ret, p->client.h, head, 4, body, NULL, NULL);
}

static void asks_and_answers(void **state)
{
    static const size_t pieces[] = {0, 1, 7, 4096};
    static const size_t sizes[] = {0, 1, 1000, 65535, 65536, 300000};
    char *big = malloc(300000);

    (void)state;
    for (size_t i = 0; i < 300000; i++)
        big[i] = (char)(i * 7 + i / 251);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct pair p;
        struct kei_h2_stream *s;
        assert_int_equal(pair_init(&p, (struct kei_h2_config){0}, (struct kei_h2_config){0}), 0);
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            p.client.responses = 0;
            assert_int_equal(ask(&p, &s, "/a.B/C", kei_strn(big, sizes[k])), 0);
            run(&p, pieces[i]);
            assert_int_equal(p.client.responses, 1);
            assert_int_equal(p.client.status, 0);
            assert_string_equal(p.server.path, "/a.B/C");
            assert_string_equal(p.client.trailer, "7");
            assert_int_equal(p.client.body.n, sizes[k]);
            if (sizes[k])
                assert_memory_equal(p.client.body.p, big, sizes[k]);
            assert_int_equal(kei_h2_streams(p.client.h), 0);
            assert_int_equal(kei_h2_streams(p.server.h), 0);
        }
        pair_fini(&p);
    }
    free(big);
}

static void many_at_once(void **state)
{
    struct pair p;
    struct kei_h2_stream *s;

    (void)state;
    assert_int_equal(pair_init(&p, (struct kei_h2_config){.max_streams = 10},
                               (struct kei_h2_config){.max_streams = 200}),
                     0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), KE_ELIMIT);
    run(&p, 0);
    /* the server has 10 at a time; before its settings are known more may come, these are refused
     */
    assert_int_equal(p.client.responses, 200);
    assert_int_equal(kei_h2_streams(p.server.h), 0);
    pair_fini(&p);
}

static void limits(void **state)
{
    struct pair p;
    struct kei_h2_stream *s;
    char big[5000];

    (void)state;
    memset(big, 'x', sizeof big);
    big[4999] = '\0';
    assert_int_equal(pair_init(&p, (struct kei_h2_config){.max_body = 1000, .max_headers = 1000},
                               (struct kei_h2_config){.max_body = 500}),
                     0);
    /* a request that is too long is told, and answered while it still comes */
    assert_int_equal(ask(&p, &s, "/long", kei_strn(big, 1001)), 0);
    run(&p, 0);
    assert_true(p.server.over);
    assert_int_equal(p.client.responses, 1);
    assert_int_equal(p.client.status, 0);
    /* just at the limit: an echo too long for the client */
    assert_int_equal(ask(&p, &s, "/fits", kei_strn(big, 1000)), 0);
    run(&p, 0);
    assert_false(p.server.over);
    assert_int_equal(p.server.body.n, 1000);
    assert_int_equal(p.client.responses, 2);
    assert_int_equal(p.client.status, KE_ELIMIT);
    /* headers */
    int requests = p.server.requests;
    assert_int_equal(ask(&p, &s, big, KEI_STR("x")), 0);
    run(&p, 0);
    assert_int_equal(p.server.requests, requests);
    assert_int_equal(p.client.responses, 3);
    assert_int_equal(p.client.status, KE_EPROTO);
    assert_int_equal(kei_h2_streams(p.server.h), 0);
    pair_fini(&p);
}

/* None of them is too long, together they are. */
static void many_headers(void **state)
{
    struct kei_h2_header head[40] = {{KEI_STR(":method"), KEI_STR("POST")},
                                     {KEI_STR(":scheme"), KEI_STR("http")},
                                     {KEI_STR(":path"), KEI_STR("/x")}};
    struct pair p;
    struct kei_h2_stream *s;

    (void)state;
    for (size_t i = 3; i < 40; i++)
        head[i] = (struct kei_h2_header){KEI_STR("x-name"), KEI_STR("value")};
    assert_int_equal(pair_init(&p, (struct kei_h2_config){.max_headers = 1000},
                               (struct kei_h2_config){.max_headers = 100000}),
                     0);
    for (size_t n = 3; n <= 40; n++) { /* 3 cost 123, each further one 43 */
        bool fits = 123 + (n - 3) * 43 <= 1000;
        p.server.requests = p.client.responses = 0;
        assert_int_equal(kei_h2_request(&s, p.client.h, head, n, KEI_STR("b"), NULL, NULL), 0);
        run(&p, 0);
        assert_int_equal(p.server.requests, fits);
        assert_int_equal(p.client.responses, 1);
        assert_int_equal(p.client.status, fits ? 0 : KE_EPROTO);
    }
    assert_int_equal(kei_h2_streams(p.server.h), 0);
    pair_fini(&p);
}

static void all_bodies_together(void **state)
{
    struct pair p;
    struct kei_h2_stream *s;

    (void)state;
    assert_int_equal(pair_init(&p, (struct kei_h2_config){.max_body = 100000, .max_bodies = 100000},
                               (struct kei_h2_config){0}),
                     0);
    /* bodies come interleaved: none of them is too long, together they are */
    char *body = calloc(1, 60000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&p, &s, "/x", kei_strn(body, 60000)), 0);
    run(&p, 0);
    assert_int_equal(p.client.responses, 3);
    assert_int_equal(p.server.requests, 3);
    assert_true(p.server.overs > 0);
    assert_int_equal(kei_h2_streams(p.server.h), 0);
    /* what was taken is free again */
    p.server.overs = 0;
    assert_int_equal(ask(&p, &s, "/x", kei_strn(body, 60000)), 0);
    run(&p, 0);
    assert_int_equal(p.server.overs, 0);
    free(body);
    pair_fini(&p);
}

static void giving_up(void **state)
{
    struct pair p;
    struct kei_h2_stream *s;

    (void)state;
    assert_int_equal(pair_init(&p, (struct kei_h2_config){0}, (struct kei_h2_config){0}), 0);
    p.server.hold = true;
    /* before it was sent */
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    kei_h2_cancel(s);
    run(&p, 0);
    assert_int_equal(p.server.requests, 0);
    assert_int_equal(kei_h2_streams(p.client.h), 0);
    /* after */
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    run(&p, 0);
    assert_int_equal(p.server.requests, 1);
    kei_h2_cancel(s);
    run(&p, 0);
    assert_int_equal(p.server.gones, 1);
    assert_int_equal(p.client.responses, 0);
    /* the server gives up */
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    run(&p, 0);
    kei_h2_cancel(p.server.last);
    run(&p, 0);
    assert_int_equal(p.client.responses, 1);
    assert_int_equal(p.client.status, KE_ECANCELED);
    assert_int_equal(p.server.gones, 1);
    /* the connection ends */
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    run(&p, 0);
    kei_h2_abort(p.server.h, KE_ECLOSED, "gone");
    kei_h2_abort(p.client.h, KE_ECLOSED, "gone");
    assert_int_equal(p.server.gones, 2);
    assert_int_equal(p.client.responses, 2);
    assert_int_equal(p.client.status, KE_ECLOSED);
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), KE_ECLOSED);
    pair_fini(&p);
}

static void ends_in_order(void **state)
{
    struct pair p;
    struct kei_h2_stream *s;

    (void)state;
    assert_int_equal(pair_init(&p, (struct kei_h2_config){0}, (struct kei_h2_config){0}), 0);
    p.server.hold = true;
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    run(&p, 0);
    kei_h2_shutdown(p.server.h);
    run(&p, 0);
    assert_int_equal(ask(&p, &s, "/y", KEI_STR("abc")), KE_ECLOSED);
    answer(p.server.last, KEI_STR("late"));
    run(&p, 0);
    assert_int_equal(p.client.responses, 1);
    assert_string_equal(p.client.body.p, "late");
    assert_true(kei_h2_over(p.server.h));
    pair_fini(&p);
}

static void freed_in_a_callback(void **state)
{
    struct pair p;
    struct kei_h2_stream *s;

    (void)state;
    assert_int_equal(pair_init(&p, (struct kei_h2_config){0}, (struct kei_h2_config){0}), 0);
    p.server.free_in_request = true;
    assert_int_equal(ask(&p, &s, "/x", KEI_STR("abc")), 0);
    run(&p, 0);
    assert_int_equal(p.server.requests, 1);
    assert_null(p.server.h);
    pair_fini(&p);
}

static void garbage(void **state)
{
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00zzzzzzzzzzzzzzzzzz",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct pair p;
        struct ke_str out;
        assert_int_equal(pair_init(&p, (struct kei_h2_config){0}, (struct kei_h2_config){0}), 0);
        size_t n = i == 2 ? 24 + 9 + 18 : strlen(texts[i]);
        int r = kei_h2_feed(p.server.h, texts[i], n, NULL);
        while (kei_h2_send(p.server.h, &out, NULL) == 0 && out.n)
            ;
        assert_true(r < 0 || kei_h2_over(p.server.h));
        assert_int_equal(p.server.requests, 0);
        pair_fini(&p);
    }
}

/* Whichever allocation fails: no leak, no crash, and an end for every request. */
static void no_memory(void **state)
{
    (void)state;
    for (size_t n = 1; n < 400; n++) {
        struct pair p;
        struct kei_h2_stream *s = NULL;
        memset(&p, 0, sizeof p);
        test_alloc_init(&p.alloc);
        kei_buf_init(&p.server.body, kei_alloc_malloc());
        kei_buf_init(&p.client.body, kei_alloc_malloc());
        test_alloc_fail_at(&p.alloc, n);
        int r = kei_h2_new(&p.server.h, &p.alloc.table, &(struct kei_h2_config){.server = true},
                           &ops, &p.server, NULL);
        if (r == 0)
            r = kei_h2_new(&p.client.h, &p.alloc.table, &(struct kei_h2_config){0}, &ops, &p.client,
                           NULL);
        if (r == 0)
            r = ask(&p, &s, "/x", KEI_STR("abc"));
        if (r == 0) {
            run(&p, 0);
            if (p.client.responses == 0)
                kei_h2_abort(p.client.h, KE_ECLOSED, "gone");
            assert_int_equal(p.client.responses, 1);
        }
        bool reached = atomic_load(&p.alloc.failed) > 0;
        pair_fini(&p);
        if (!reached)
            return;
    }
    fail_msg("it never ends");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(asks_and_answers), KE_TEST(many_at_once),        KE_TEST(limits),
        KE_TEST(many_headers),     KE_TEST(all_bodies_together), KE_TEST(giving_up),
        KE_TEST(ends_in_order),    KE_TEST(freed_in_a_callback), KE_TEST(garbage),
        KE_TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
