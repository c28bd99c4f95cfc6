/* SPDX-License-Identifier: Apache-2.0 */
/* Modules, groups, queues and their bounds, freeing inside callbacks, sending from threads. */
#include "support/support.h"

#include <pthread.h>
#include <sched.h>

#include <kubeedge/router.h>

#define SEEN_MAX 4096

struct rig {
    struct test_env env;
    struct ke_router *router;
};

struct mod {
    struct rig *rig;
    struct ke_module *module;
    int n;
    int64_t seen[SEEN_MAX]; /* timestamps of what came, in order */
    uint64_t turn;          /* of the last one */
    uint64_t refused;
    int overflows;
    void (*act)(struct mod *m, struct ke_msg *msg);
};

static void rig_open(struct rig *r, uint32_t queue, uint64_t bytes, uint32_t requests)
{
    struct ke_router_config c;
    test_env_init(&r->env, 0);
    ke_router_config_init(&c, sizeof c);
    assert_int_equal(c.queue_messages, 1024);
    c.queue_messages = queue;
    c.queue_bytes = bytes;
    c.requests = requests;
    assert_int_equal(ke_router_new(&r->router, r->env.ctx, &c), 0);
}

static void rig_close(struct rig *r)
{
    ke_router_free(r->router);
    test_env_fini(&r->env);
}

static void on_message(void *user, struct ke_msg *msg)
{
    struct mod *m = user;
    assert_true(m->n < SEEN_MAX);
    m->seen[m->n++] = ke_msg_timestamp_ms(msg);
    m->turn = kei_ctx_turn(m->rig->env.ctx);
    if (m->act)
        m->act(m, msg);
}

static void on_overflow(void *user, uint64_t refused)
{
    struct mod *m = user;
    m->refused += refused;
    m->overflows++;
}

static const struct ke_module_ops ops = {sizeof ops, on_message, on_overflow};

static void add(struct rig *r, struct mod *m, const char *name, const char *group)
{
    memset(m, 0, sizeof *m);
    m->rig = r;
    assert_int_equal(ke_router_add(&m->module, r->router, name, group, &ops, m), 0);
}

/* A message with a number, as timestamp, and content of n bytes. */
static struct ke_msg *make(struct rig *r, int64_t number, size_t n, const char *id,
                           const char *parent)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    char *content = n > 1 ? malloc(n) : NULL;
    if (content) {
        memset(content, 'x', n);
        content[0] = content[n - 1] = '"';
    }
    ke_msg_config_init(&c, sizeof c);
    c.id = id;
    c.parent_id = parent;
    c.timestamp_ms = number;
    c.operation = "update";
    c.resource = "default/pod/a";
    c.content = content;
    c.content_len = n;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    free(content);
    return m;
}

static int send_n(struct rig *r, const char *to, int64_t number)
{
    struct ke_msg *m = make(r, number, 0, NULL, NULL);
    int e = ke_router_send(r->router, to, m, NULL);
    ke_msg_unref(m);
    return e;
}

/* ---- delivery ---- */

static void test_order_and_later_turn(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b;
    rig_open(&r, 1024, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    add(&r, &b, "b", "");
    for (int i = 1; i <= 500; i++)
        assert_int_equal(send_n(&r, i % 5 ? "a" : "b", i), 0);
    assert_int_equal(a.n + b.n, 0); /* never from within the call */
    test_settle(&r.env);
    assert_int_equal(a.n, 400);
    assert_int_equal(b.n, 100);
    for (int i = 1; i < a.n; i++)
        assert_true(a.seen[i] > a.seen[i - 1]);
    for (int i = 1; i < b.n; i++)
        assert_true(b.seen[i] > b.seen[i - 1]);
    rig_close(&r);
}

static void forward(struct mod *m, struct ke_msg *msg)
{
    int64_t left = ke_msg_timestamp_ms(msg) - 1;
    if (left > 0)
        assert_int_equal(send_n(m->rig, "b", left), 0);
}

struct hop {
    struct rig *rig;
    struct kei_timer timer;
    uint64_t turn;
};

static void send_in_timer(struct kei_timer *t)
{
    struct hop *h = KEI_OF(t, struct hop, timer);
    h->turn = kei_ctx_turn(t->ctx);
    assert_int_equal(send_n(h->rig, "a", 1), 0);
}

/* Even when the router has something else to deliver in the very turn of the send. */
static void test_never_in_the_turn_of_the_send(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b;
    rig_open(&r, 16, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    add(&r, &b, "b", NULL);
    struct hop h = {.rig = &r};
    kei_timer_init(r.env.ctx, &h.timer, send_in_timer);
    assert_int_equal(send_n(&r, "b", 1), 0);
    kei_timer_in(&h.timer, 0);
    test_settle(&r.env);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 1);
    assert_true(b.turn == h.turn);
    assert_true(a.turn > h.turn);

    b.act = forward; /* a module that sends to itself */
    assert_int_equal(send_n(&r, "b", 3), 0);
    uint64_t before = kei_ctx_turn(r.env.ctx);
    test_settle(&r.env);
    assert_int_equal(b.n, 4);
    assert_true(b.turn >= before + 3);
    kei_timer_fini(&h.timer);
    rig_close(&r);
}

/* A module that never stops sending to itself does not hold the loop. */
static void resend(struct mod *m, struct ke_msg *msg)
{
    assert_int_equal(ke_router_send(m->rig->router, "a", msg, NULL), 0);
}

static void test_self_sender_does_not_starve(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b;
    rig_open(&r, 1024, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    add(&r, &b, "b", NULL);
    a.act = resend;
    for (int i = 0; i < 10; i++)
        assert_int_equal(send_n(&r, "a", i), 0);
    assert_int_equal(send_n(&r, "b", 1), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
    assert_true(a.n >= 100 && a.n <= 200);
    assert_int_equal(b.n, 1);
    rig_close(&r);
}

/* A long queue of one module does not hold up another's. */
static struct mod *busy;
static int busy_before;

static void note_busy(struct mod *m, struct ke_msg *msg)
{
    (void)m;
    (void)msg;
    busy_before = busy->n;
}

static void test_fair_between_modules(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b;
    rig_open(&r, 1024, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    add(&r, &b, "b", NULL);
    busy = &a;
    b.act = note_busy;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(send_n(&r, "a", i), 0);
    assert_int_equal(send_n(&r, "b", 1), 0);
    test_settle(&r.env);
    assert_int_equal(a.n, 1000);
    assert_int_equal(b.n, 1);
    assert_true(busy_before > 0 && busy_before <= 64);
    rig_close(&r);
}

/* ---- names and groups ---- */

static void test_names(void **state)
{
    (void)state;
    struct rig r;
    struct mod a;
    struct ke_module *other = NULL;
    struct ke_error err = KE_ERROR_INIT;
    rig_open(&r, 16, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    assert_int_equal(ke_router_add(&other, r.router, "a", NULL, &ops, &a), KE_EEXIST);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "named a "));
    assert_int_equal(ke_router_add(&other, r.router, "", NULL, &ops, &a), KE_EINVAL);
    struct ke_module_ops none = {sizeof none, NULL, NULL};
    assert_int_equal(ke_router_add(&other, r.router, "x", NULL, &none, &a), KE_EINVAL);
    none.size = 4;
    assert_int_equal(ke_router_add(&other, r.router, "x", NULL, &none, &a), KE_EABI);
    assert_null(other);

    struct ke_msg *m = make(&r, 1, 0, NULL, NULL);
    assert_int_equal(ke_router_send(r.router, "nobody", m, &err), KE_ENOTFOUND);
    assert_non_null(strstr(err.text, "nobody"));
    assert_int_equal(ke_router_send(r.router, NULL, m, &err), KE_EINVAL);
    assert_int_equal(ke_router_send_group(r.router, "nobody", m, &err), KE_ENOTFOUND);
    ke_msg_unref(m);

    assert_int_equal(send_n(&r, "a", 7), 0);
    ke_module_remove(a.module); /* with a message queued; the name is free again */
    add(&r, &a, "a", NULL);
    assert_int_equal(send_n(&r, "a", 1), 0);
    test_settle(&r.env);
    assert_int_equal(a.n, 1);
    rig_close(&r);
}

static void test_group(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b, c;
    struct ke_error err = KE_ERROR_INIT;
    rig_open(&r, 2, 1 << 20, 8);
    add(&r, &a, "a", "g");
    add(&r, &b, "b", "g");
    add(&r, &c, "c", "other");
    struct ke_msg *m = make(&r, 1, 0, NULL, NULL);
    assert_int_equal(ke_router_send_group(r.router, "g", m, NULL), 0);
    assert_int_equal(ke_router_send_group(r.router, "g", m, NULL), 0);
    test_settle(&r.env);
    assert_int_equal(a.n, 2);
    assert_int_equal(b.n, 2);
    assert_int_equal(c.n, 0);

    /* a is full, b is not: b still gets it, the sender hears of a */
    assert_int_equal(ke_router_send(r.router, "a", m, NULL), 0);
    assert_int_equal(ke_router_send(r.router, "a", m, NULL), 0);
    assert_int_equal(ke_router_send_group(r.router, "g", m, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "module a"));
    test_settle(&r.env);
    assert_int_equal(a.n, 4);
    assert_int_equal(b.n, 3);
    ke_msg_unref(m);
    rig_close(&r);
}

/* ---- bounds ---- */

static void test_queue_messages(void **state)
{
    (void)state;
    struct rig r;
    struct mod a;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_module_stats s;
    rig_open(&r, 100, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    for (int i = 0; i < 100; i++)
        assert_int_equal(send_n(&r, "a", i), 0);
    struct ke_msg *m = make(&r, 1, 0, NULL, NULL);
    for (int i = 0; i < 7; i++)
        assert_int_equal(ke_router_send(r.router, "a", m, &err), KE_ELIMIT);
    ke_msg_unref(m);
    assert_non_null(strstr(err.text, "queue_messages is 100"));
    assert_int_equal(ke_module_stats(a.module, &s, sizeof s), 0);
    assert_int_equal(s.queued, 100);
    assert_int_equal(s.queued_peak, 100);
    assert_int_equal(s.refused, 7);
    assert_int_equal(s.delivered, 0);
    assert_int_equal(a.overflows, 0); /* told in a later turn */
    test_settle(&r.env);
    assert_int_equal(a.n, 100);
    assert_int_equal(a.overflows, 1);
    assert_int_equal(a.refused, 7);
    assert_int_equal(ke_module_stats(a.module, &s, sizeof s), 0);
    assert_int_equal(s.delivered, 100);
    assert_int_equal(s.queued, 0);
    assert_int_equal(s.queued_peak, 100);
    assert_int_equal(ke_module_stats(a.module, &s, 4), KE_EABI);
    /* idle: the ring was given back and starts anew */
    assert_int_equal(send_n(&r, "a", 1), 0);
    test_settle(&r.env);
    assert_int_equal(a.n, 101);
    rig_close(&r);
}

static void test_queue_bytes(void **state)
{
    (void)state;
    struct rig r;
    struct mod a;
    struct ke_error err = KE_ERROR_INIT;
    rig_open(&r, 100, 1000, 8);
    add(&r, &a, "a", NULL);
    struct ke_msg *big = make(&r, 1, 400, NULL, NULL), *over = make(&r, 2, 1001, NULL, NULL);
    assert_int_equal(ke_router_send(r.router, "a", over, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "queue_bytes is 1000"));
    assert_int_equal(ke_router_send(r.router, "a", big, NULL), 0);
    assert_int_equal(ke_router_send(r.router, "a", big, NULL), 0);
    assert_int_equal(ke_router_send(r.router, "a", big, NULL), KE_ELIMIT);
    test_settle(&r.env);
    assert_int_equal(a.n, 2);
    assert_int_equal(a.refused, 2);
    /* delivered bytes are free again */
    assert_int_equal(ke_router_send(r.router, "a", big, NULL), 0);
    assert_int_equal(ke_router_send(r.router, "a", big, NULL), 0);
    test_settle(&r.env);
    assert_int_equal(a.n, 4);
    ke_msg_unref(big);
    ke_msg_unref(over);
    rig_close(&r);
}

static void test_no_overflow_op(void **state)
{
    (void)state;
    struct rig r;
    struct mod a = {.rig = &r};
    rig_open(&r, 1, 1000, 8);
    struct ke_module_ops few = {sizeof few, on_message, NULL};
    assert_int_equal(ke_router_add(&a.module, r.router, "a", NULL, &few, &a), 0);
    assert_int_equal(send_n(&r, "a", 1), 0);
    assert_int_equal(send_n(&r, "a", 2), KE_ELIMIT);
    test_settle(&r.env);
    assert_int_equal(a.n, 1);
    rig_close(&r);
}

/* ---- removing inside callbacks ---- */

static void remove_self(struct mod *m, struct ke_msg *msg)
{
    (void)msg;
    ke_module_remove(m->module);
}

static struct mod *victim;

static void remove_victim(struct mod *m, struct ke_msg *msg)
{
    (void)m;
    (void)msg;
    if (victim)
        ke_module_remove(victim->module);
    victim = NULL;
}

static void test_remove_in_callback(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b, c;
    rig_open(&r, 16, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    add(&r, &b, "b", NULL);
    add(&r, &c, "c", NULL);
    a.act = remove_self;
    c.act = remove_victim;
    victim = &b;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(send_n(&r, "a", i), 0);
        assert_int_equal(send_n(&r, "c", i), 0);
        assert_int_equal(send_n(&r, "b", i), 0); /* after c: gone before its turn */
    }
    test_settle(&r.env);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 0);
    assert_int_equal(c.n, 5);
    assert_int_equal(send_n(&r, "a", 1), KE_ENOTFOUND);
    assert_int_equal(send_n(&r, "b", 1), KE_ENOTFOUND);
    rig_close(&r);
}

static void free_router(struct mod *m, struct ke_msg *msg)
{
    (void)msg;
    ke_router_free(m->rig->router);
    ke_router_free(m->rig->router); /* on its way already */
}

struct ending {
    int n, status;
};

static void on_end(void *user, int status, struct ke_msg *reply)
{
    struct ending *e = user;
    e->n++;
    e->status = status;
    if (status != 0)
        assert_null(reply);
}

static void test_free_in_callback(void **state)
{
    (void)state;
    struct rig r;
    struct mod a, b;
    struct ending end = {0};
    rig_open(&r, 16, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    add(&r, &b, "b", NULL);
    a.act = free_router;
    assert_int_equal(send_n(&r, "a", 1), 0);
    assert_int_equal(send_n(&r, "a", 2), 0);
    assert_int_equal(send_n(&r, "b", 1), 0);
    struct ke_msg *m = make(&r, 1, 0, NULL, NULL);
    assert_int_equal(ke_router_request(r.router, "b", m, 1000, on_end, &end, NULL), 0);
    ke_msg_unref(m);
    test_settle(&r.env);
    assert_int_equal(a.n, 1);
    assert_int_equal(b.n, 0);
    assert_int_equal(end.n, 1);
    assert_int_equal(end.status, KE_ECANCELED);
    test_env_fini(&r.env);
}

static void test_free_with_messages_queued(void **state)
{
    (void)state;
    struct rig r;
    struct mod a;
    rig_open(&r, 16, 1 << 20, 8);
    add(&r, &a, "a", "g");
    for (int i = 0; i < 10; i++)
        assert_int_equal(send_n(&r, "a", i), 0);
    rig_close(&r);
    assert_int_equal(a.n, 0);
    ke_router_free(NULL);
    ke_module_remove(NULL);
}

/* ---- failing allocations, foreign threads ---- */

static void play(struct rig *r, struct mod *a, int *sent, int *e)
{
    *e = ke_router_new(&r->router, r->env.ctx, NULL);
    if (*e < 0)
        return;
    memset(a, 0, sizeof *a);
    a->rig = r;
    *e = ke_router_add(&a->module, r->router, "a", "group", &ops, a);
    for (int i = 0; i < 40 && *e == 0; i++) {
        struct ke_msg_config c;
        struct ke_msg *m = NULL;
        ke_msg_config_init(&c, sizeof c);
        c.timestamp_ms = i + 1;
        *e = ke_msg_new(&m, r->env.ctx, &c, NULL);
        if (*e == 0)
            *e = ke_router_send(r->router, "a", m, NULL);
        ke_msg_unref(m);
        if (*e == 0)
            ++*sent;
    }
    test_settle(&r->env);
    ke_router_free(r->router);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct rig r;
    struct mod a;
    test_env_init(&r.env, 0);
    for (size_t n = 1;; n++) {
        int sent = 0, e = 0;
        size_t live = test_alloc_live(&r.env.alloc), failed = r.env.alloc.failed;
        a.n = 0;
        test_alloc_fail_at(&r.env.alloc, n);
        play(&r, &a, &sent, &e);
        test_alloc_fail_at(&r.env.alloc, 0);
        assert_int_equal(test_alloc_live(&r.env.alloc), live);
        if (r.env.alloc.failed == failed) {
            assert_int_equal(e, 0);
            assert_int_equal(a.n, 40);
            assert_true(n > 40);
            break;
        }
        assert_int_equal(e, KE_ENOMEM);
        if (sent > 0)
            assert_int_equal(a.n, sent); /* what was accepted came */
    }
    test_env_fini(&r.env);
}

#define THREADS 4
#define PER_THREAD 500

struct sender {
    struct rig *rig;
    pthread_t thread;
    int base, limits;
};

static void *send_many(void *arg)
{
    struct sender *s = arg;
    for (int i = 0; i < PER_THREAD; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_msg *m = make(s->rig, s->base + i, 0, NULL, NULL);
        int e = ke_router_send(s->rig->router, "a", m, &err);
        while (e == KE_ELIMIT) { /* as a sender would: later */
            s->limits++;
            sched_yield();
            e = ke_router_send(s->rig->router, "a", m, &err);
        }
        ke_msg_unref(m);
        if (e != 0)
            return s;
    }
    return NULL;
}

static bool all_came(void *arg)
{
    return ((struct mod *)arg)->n == THREADS * PER_THREAD;
}

static void test_threads(void **state)
{
    (void)state;
    struct rig r;
    struct mod a;
    struct sender s[THREADS];
    rig_open(&r, 64, 1 << 20, 8);
    add(&r, &a, "a", NULL);
    for (int i = 0; i < THREADS; i++) {
        s[i] = (struct sender){.rig = &r, .base = (i + 1) * 10000};
        assert_int_equal(pthread_create(&s[i].thread, NULL, send_many, &s[i]), 0);
    }
    assert_true(test_drive(&r.env, all_came, &a));
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        pthread_join(s[i].thread, &result);
        assert_null(result);
    }
    int64_t last[THREADS + 1] = {0}; /* the order of each sender is kept */
    for (int i = 0; i < a.n; i++) {
        int64_t *l = &last[a.seen[i] / 10000 - 1];
        assert_true(a.seen[i] > *l);
        *l = a.seen[i];
    }
    rig_close(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_order_and_later_turn),
        KE_TEST(test_never_in_the_turn_of_the_send),
        KE_TEST(test_self_sender_does_not_starve),
        KE_TEST(test_fair_between_modules),
        KE_TEST(test_names),
        KE_TEST(test_group),
        KE_TEST(test_queue_messages),
        KE_TEST(test_queue_bytes),
        KE_TEST(test_no_overflow_op),
        KE_TEST(test_remove_in_callback),
        KE_TEST(test_free_in_callback),
        KE_TEST(test_free_with_messages_queued),
        KE_TEST(test_failing_allocations),
        KE_TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
