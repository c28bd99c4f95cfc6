/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: reply, time-out, cancellation, whichever comes first; each end told once. */
#include "support/support.h"

#include <pthread.h>
#include <sched.h>

#include <kubeedge/router.h>

struct rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_module *server;
    struct ke_msg *asked; /* the last message the server got */
    bool answer;          /* at once, inside its message callback */
    int served;
};

struct ending {
    struct rig *rig;
    int n, status;
    char content[64];
    uint64_t turn;
    uint64_t cancel; /* inside the callback */
    bool free_router;
    struct ending *again; /* ask again inside the callback */
};

static int ask(struct rig *r, struct ending *e, int64_t timeout_ms, uint64_t *id);

static struct ke_msg *reply_to(struct rig *r, struct ke_msg *m, const char *content)
{
    struct ke_msg *reply = NULL;
    assert_int_equal(ke_msg_new_reply(&reply, r->env.ctx, m, content, strlen(content), NULL), 0);
    return reply;
}

static int respond(struct rig *r, struct ke_msg *m, const char *content)
{
    struct ke_msg *reply = reply_to(r, m, content);
    int e = ke_router_respond(r->router, reply, NULL);
    ke_msg_unref(reply);
    return e;
}

static void on_message(void *user, struct ke_msg *m)
{
    struct rig *r = user;
    r->served++;
    ke_msg_unref(r->asked);
    r->asked = ke_msg_ref(m);
    if (r->answer)
        assert_int_equal(respond(r, m, "\"done\""), 0);
}

static const struct ke_module_ops ops = {sizeof ops, on_message, NULL};

static void on_end(void *user, int status, struct ke_msg *reply)
{
    struct ending *e = user;
    size_t n = 0;
    e->n++;
    e->status = status;
    e->turn = kei_ctx_turn(e->rig->env.ctx);
    assert_int_equal(reply != NULL, status == 0);
    if (reply)
        snprintf(e->content, sizeof e->content, "%s", ke_msg_content(reply, &n));
    if (e->cancel)
        ke_router_cancel(e->rig->router, e->cancel);
    if (e->again)
        assert_int_equal(ask(e->rig, e->again, 1000, NULL), 0);
    if (e->free_router)
        ke_router_free(e->rig->router);
}

static struct ke_msg *question(struct rig *r, const char *id)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    ke_msg_config_init(&c, sizeof c);
    c.id = id;
    c.operation = "query";
    c.resource = "default/pod/a";
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    return m;
}

static int ask(struct rig *r, struct ending *e, int64_t timeout_ms, uint64_t *id)
{
    struct ke_msg *m = question(r, NULL);
    e->rig = r;
    int n = e->n;
    int result = ke_router_request(r->router, "server", m, timeout_ms, on_end, e, id);
    ke_msg_unref(m);
    assert_int_equal(e->n, n); /* never from within the call */
    return result;
}

static void rig_open(struct rig *r, uint32_t requests, uint32_t queue)
{
    struct ke_router_config c;
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    ke_router_config_init(&c, sizeof c);
    c.requests = requests;
    c.queue_messages = queue;
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, &c), 0);
    assert_int_equal(ke_router_add(&r->server, r->router, "server", "g", &ops, r), 0);
}

static void rig_close(struct rig *r)
{
    ke_router_free(r->router);
    ke_msg_unref(r->asked);
    test_env_fini(&r->env);
}

static void test_reply(void **state)
{
    (void)state;
    struct rig r;
    struct ending e = {0};
    rig_open(&r, 4, 4);
    r.answer = true;
    assert_int_equal(ask(&r, &e, 1000, NULL), 0);
    test_settle(&r.env);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.status, 0);
    assert_string_equal(e.content, "\"done\"");
    test_drive_ms(&r.env, 5000); /* no time-out follows */
    assert_int_equal(e.n, 1);
    assert_int_equal(respond(&r, r.asked, "1"), KE_ENOTFOUND); /* a second one: nobody waits */
    rig_close(&r);
}

static void test_timeout(void **state)
{
    (void)state;
    struct rig r;
    struct ending e = {0};
    rig_open(&r, 4, 4);
    assert_int_equal(ask(&r, &e, 1000, NULL), 0);
    test_drive_ms(&r.env, 999);
    assert_int_equal(r.served, 1);
    assert_int_equal(e.n, 0);
    test_drive_ms(&r.env, 1);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.status, KE_ETIMEDOUT);
    assert_int_equal(respond(&r, r.asked, "1"), KE_ENOTFOUND); /* late */
    rig_close(&r);
}

/* The reply was accepted before time was up but is told only after: the reply counts. */
static void test_reply_meets_timeout(void **state)
{
    (void)state;
    struct rig r;
    struct ending e = {0};
    rig_open(&r, 4, 4);
    assert_int_equal(ask(&r, &e, 1000, NULL), 0);
    test_settle(&r.env);
    assert_int_equal(respond(&r, r.asked, "7"), 0);
    assert_int_equal(e.n, 0); /* in a later turn */
    test_clock_advance(&r.env.clock, 1000);
    test_settle(&r.env);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.status, 0);
    assert_string_equal(e.content, "7");
    rig_close(&r);
}

static void test_cancel(void **state)
{
    (void)state;
    struct rig r;
    struct ending a = {0}, b = {0};
    uint64_t ida = 0, idb = 0;
    rig_open(&r, 4, 4);
    assert_int_equal(ask(&r, &a, 1000, &ida), 0);
    assert_int_equal(ask(&r, &b, 1000, &idb), 0);
    assert_true(ida != idb && ida != 0);
    ke_router_cancel(r.router, ida);
    ke_router_cancel(r.router, ida); /* unknown now */
    ke_router_cancel(r.router, 12345);
    test_settle(&r.env);
    assert_int_equal(respond(&r, r.asked, "2"), 0); /* b's */
    ke_router_cancel(r.router, idb);                /* answered, not yet told */
    test_drive_ms(&r.env, 5000);
    assert_int_equal(a.n, 0);
    assert_int_equal(b.n, 0);
    rig_close(&r);
}

static void test_limits(void **state)
{
    (void)state;
    struct rig r;
    struct ending e[5] = {{0}};
    struct ke_msg *m;
    rig_open(&r, 3, 2);
    assert_int_equal(ask(&r, &e[0], 0, NULL), KE_EINVAL);
    assert_int_equal(ask(&r, &e[0], 1000, NULL), 0);
    assert_int_equal(ask(&r, &e[1], 1000, NULL), 0);
    /* the server's queue is full; the request is not left behind */
    assert_int_equal(ask(&r, &e[2], 1000, NULL), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "queue_messages is 2"));
    test_settle(&r.env);
    assert_int_equal(ask(&r, &e[2], 1000, NULL), 0);
    assert_int_equal(ask(&r, &e[3], 1000, NULL), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "requests is 3"));
    test_drive_ms(&r.env, 2000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(e[i].n, 1);
    assert_int_equal(e[3].n, 0);

    m = question(&r, "same");
    e[4].rig = &r;
    assert_int_equal(ke_router_request(r.router, "server", m, 1000, on_end, &e[4], NULL), 0);
    assert_int_equal(ke_router_request(r.router, "server", m, 1000, on_end, &e[4], NULL),
                     KE_EEXIST);
    assert_int_equal(ke_router_request(r.router, "nobody", m, 1000, on_end, &e[4], NULL),
                     KE_EEXIST);
    ke_msg_unref(m);
    m = question(&r, "other");
    assert_int_equal(ke_router_request(r.router, "nobody", m, 1000, on_end, &e[4], NULL),
                     KE_ENOTFOUND);
    ke_msg_unref(m);
    test_drive_ms(&r.env, 2000);
    assert_int_equal(e[4].n, 1);
    rig_close(&r);
}

static void test_inside_the_end(void **state)
{
    (void)state;
    struct rig r;
    struct ending a = {0}, b = {0}, c = {0};
    uint64_t idb = 0;
    rig_open(&r, 4, 4);
    r.answer = true;
    a.again = &c;
    assert_int_equal(ask(&r, &a, 1000, &a.cancel), 0); /* cancels itself: no effect */
    test_settle(&r.env);
    assert_int_equal(a.n, 1);
    assert_int_equal(c.n, 1);
    assert_true(c.turn > a.turn);

    /* two time-outs in one turn; the first cancels the second */
    r.answer = false;
    a = (struct ending){0};
    assert_int_equal(ask(&r, &a, 1000, NULL), 0);
    assert_int_equal(ask(&r, &b, 1000, &idb), 0);
    a.cancel = idb;
    test_drive_ms(&r.env, 2000);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 0);

    /* two replies in one turn; the first cancels the second */
    a = (struct ending){0};
    assert_int_equal(ask(&r, &a, 1000, NULL), 0);
    test_settle(&r.env);
    assert_int_equal(respond(&r, r.asked, "1"), 0);
    assert_int_equal(ask(&r, &b, 1000, &a.cancel), 0);
    struct ke_msg *first = r.asked;
    r.asked = NULL;
    assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
    ke_msg_unref(first);
    test_drive_ms(&r.env, 2000);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 0);
    rig_close(&r);
}

static void free_inside(bool timeout)
{
    struct rig r;
    struct ending a = {.free_router = true}, b = {0};
    rig_open(&r, 4, 4);
    r.answer = !timeout;
    assert_int_equal(ask(&r, &a, 1000, NULL), 0);
    if (!timeout) {
        assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0); /* served; the reply is under way */
        r.answer = false;
    }
    assert_int_equal(ask(&r, &b, 9000, NULL), 0);
    test_drive_ms(&r.env, 2000);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.status, timeout ? KE_ETIMEDOUT : 0);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.status, KE_ECANCELED);
    ke_msg_unref(r.asked);
    test_env_fini(&r.env);
}

static void test_free_inside_timeout(void **state)
{
    (void)state;
    free_inside(true);
}

static void test_free_inside_reply(void **state)
{
    (void)state;
    free_inside(false);
}

static void test_free_cancels(void **state)
{
    (void)state;
    struct rig r;
    struct ending a = {0}, b = {0};
    rig_open(&r, 4, 4);
    assert_int_equal(ask(&r, &a, 1000, NULL), 0);
    assert_int_equal(ask(&r, &b, 1000, NULL), 0);
    rig_close(&r);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.status, KE_ECANCELED);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.status, KE_ECANCELED);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct rig r;
    rig_open(&r, 64, 64);
    r.answer = true;
    struct ke_msg *m[20];
    char id[20][8];
    for (int i = 0; i < 20; i++) {
        snprintf(id[i], sizeof id[i], "id%d", i);
        m[i] = question(&r, id[i]);
    }
    for (size_t n = 1;; n++) {
        struct ending e = {.rig = &r};
        size_t failed = r.env.alloc.failed;
        int asked = 0, refused = 0;
        r.answer = false;
        test_alloc_fail_at(&r.env.alloc, n);
        for (int i = 0; i < 20; i++) {
            int result = ke_router_request(r.router, "server", m[i], 1000, on_end, &e, NULL);
            assert_true(result == 0 || result == KE_ENOMEM);
            *(result == 0 ? &asked : &refused) += 1;
        }
        test_alloc_fail_at(&r.env.alloc, 0);
        test_drive_ms(&r.env, 2000);
        assert_int_equal(e.n, asked);
        assert_int_equal(refused, r.env.alloc.failed - failed);
        if (refused == 0) {
            assert_true(n > 20);
            break;
        }
        /* all is asked from new memory each time */
        ke_router_free(r.router);
        assert_int_equal(ke_router_new(&r.router, r.env.ctx, NULL), 0);
        assert_int_equal(ke_router_add(&r.server, r.router, "server", "g", &ops, &r), 0);
    }
    for (int i = 0; i < 20; i++)
        ke_msg_unref(m[i]);
    rig_close(&r);
}

/* Replies from another thread, against the clock: each request ends exactly once. */
#define ROUNDS 300

struct responder {
    struct rig *rig;
    struct ke_msg *reply[ROUNDS];
    int accepted;
};

static void *respond_all(void *arg)
{
    struct responder *s = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct ke_error err = KE_ERROR_INIT;
        if (ke_router_respond(s->rig->router, s->reply[i], &err) == 0)
            s->accepted++;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct rig r;
    struct responder s = {.rig = &r};
    static struct ending e[ROUNDS];
    pthread_t t;
    int told = 0, replied = 0;
    rig_open(&r, ROUNDS, ROUNDS);
    memset(e, 0, sizeof e);
    for (int i = 0; i < ROUNDS; i++) {
        struct ke_msg *m = question(&r, NULL);
        e[i].rig = &r;
        assert_int_equal(ke_router_request(r.router, "server", m, 1 + i % 50, on_end, &e[i], NULL),
                         0);
        s.reply[i] = reply_to(&r, m, "1");
        ke_msg_unref(m);
    }
    assert_int_equal(pthread_create(&t, NULL, respond_all, &s), 0);
    for (int i = 0; i < 60; i++) {
        test_clock_advance(&r.env.clock, 1);
        assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
        sched_yield();
    }
    pthread_join(t, NULL);
    test_settle(&r.env);
    for (int i = 0; i < ROUNDS; i++) {
        told += e[i].n;
        replied += e[i].status == 0;
        assert_int_equal(e[i].n, 1);
        ke_msg_unref(s.reply[i]);
    }
    assert_int_equal(told, ROUNDS);
    assert_int_equal(replied, s.accepted);
    rig_close(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_reply),
        KE_TEST(test_timeout),
        KE_TEST(test_reply_meets_timeout),
        KE_TEST(test_cancel),
        KE_TEST(test_limits),
        KE_TEST(test_inside_the_end),
        KE_TEST(test_free_inside_timeout),
        KE_TEST(test_free_inside_reply),
        KE_TEST(test_free_cancels),
        KE_TEST(test_failing_allocations),
        KE_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
