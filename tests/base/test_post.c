/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from other threads: order, later turn, no starvation, no lost or idle wake-ups. */
#include "support/support.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>

struct count {
    struct test_env *env;
    int n;
    uint64_t turn;
    bool again;
};

static void on_post(void *user)
{
    struct count *c = user;
    c->n++;
    c->turn = kei_ctx_turn(c->env->ctx);
    if (c->again)
        assert_int_equal(ke_ctx_post(c->env->ctx, on_post, c, NULL), 0);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_later_turn(void **state)
{
    (void)state;
    struct test_env env;
    int fd;
    test_env_init(&env, 0);
    struct count c = {.env = &env, .again = true};
    assert_int_equal(ke_ctx_fd(env.ctx, &fd), 0);
    assert_int_equal(ke_ctx_post(env.ctx, on_post, &c, NULL), 0);
    assert_int_equal(c.n, 0);
    for (int i = 1; i <= 10;
         i++) { /* one that posts itself: once per turn, the fd stays readable */
        assert_true(readable(fd));
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        assert_int_equal(c.n, i);
    }
    c.again = false;
    test_settle(&env);
    assert_false(readable(fd));
    assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
    assert_int_equal(c.n, 11);

    struct ke_error err = KE_ERROR_INIT;
    assert_int_equal(ke_ctx_post(NULL, on_post, &c, &err), KE_EINVAL);
    assert_int_equal(ke_ctx_post(env.ctx, NULL, &c, &err), KE_EINVAL);
    test_env_fini(&env);
}

/* A burst is spread over turns; what is left keeps the fd readable. */
static void test_burst(void **state)
{
    (void)state;
    enum { N = 10000 };
    struct test_env env;
    int fd, turns = 0;
    test_env_init(&env, 0);
    struct count c = {.env = &env};
    assert_int_equal(ke_ctx_fd(env.ctx, &fd), 0);
    for (int i = 0; i < N; i++)
        assert_int_equal(ke_ctx_post(env.ctx, on_post, &c, NULL), 0);
    int before = 0;
    while (c.n < N) {
        assert_true(readable(fd));
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        assert_true(c.n > before && c.n - before <= 1024);
        before = c.n;
        turns++;
    }
    assert_true(turns >= 9);
    test_settle(&env);
    assert_false(readable(fd));
    /* nodes are reused: a steady trickle asks for no memory */
    size_t calls = env.alloc.calls;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ke_ctx_post(env.ctx, on_post, &c, NULL), 0);
        test_settle(&env);
    }
    assert_int_equal(env.alloc.calls, calls);
    test_env_fini(&env);
}

static void test_failing_allocation(void **state)
{
    (void)state;
    struct test_env env;
    struct ke_error err = KE_ERROR_INIT;
    test_env_init(&env, 0);
    struct count c = {.env = &env};
    test_alloc_fail_at(&env.alloc, 1);
    assert_int_equal(ke_ctx_post(env.ctx, on_post, &c, &err), KE_ENOMEM);
    assert_non_null(strstr(err.text, "memory"));
    assert_int_equal(ke_ctx_post(env.ctx, on_post, &c, &err), 0);
    test_settle(&env);
    assert_int_equal(c.n, 1);
    test_env_fini(&env);
}

/* ---- several threads ---- */

#define THREADS 4
#define PER_THREAD 5000

struct poster {
    struct ke_ctx *ctx;
    pthread_t thread;
    int next; /* what the loop expects from it */
    int wrong;
    atomic_int *total;
};

struct item {
    struct poster *from;
    int number;
};

static void on_item(void *user)
{
    struct item *i = user;
    if (i->number != i->from->next++)
        i->from->wrong++;
    atomic_fetch_add(i->from->total, 1);
    free(i);
}

static void *post_many(void *arg)
{
    struct poster *p = arg;
    for (int n = 0; n < PER_THREAD; n++) {
        struct item *i = malloc(sizeof *i);
        *i = (struct item){p, n};
        if (ke_ctx_post(p->ctx, on_item, i, NULL) < 0)
            return p;
        if (n % 100 == 0)
            sched_yield();
    }
    return NULL;
}

static bool all_there(void *arg)
{
    return atomic_load((atomic_int *)arg) == THREADS * PER_THREAD;
}

static void post_from_threads(bool own_thread)
{
    struct test_env env;
    struct poster p[THREADS];
    atomic_int total = 0;
    test_env_init(&env, TEST_REAL_CLOCK);
    if (own_thread)
        assert_int_equal(kei_ctx_thread_start(env.ctx), 0);
    for (int i = 0; i < THREADS; i++) {
        p[i] = (struct poster){.ctx = env.ctx, .total = &total};
        assert_int_equal(pthread_create(&p[i].thread, NULL, post_many, &p[i]), 0);
    }
    if (!own_thread)
        assert_true(test_drive(&env, all_there, &total));
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        pthread_join(p[i].thread, &result);
        assert_null(result);
    }
    test_env_fini(&env); /* with a thread of its own: what was accepted is run before it ends */
    assert_true(all_there(&total));
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(p[i].wrong, 0);
        assert_int_equal(p[i].next, PER_THREAD);
    }
}

static void test_threads_to_host_loop(void **state)
{
    (void)state;
    post_from_threads(false);
}

static void test_threads_to_own_thread(void **state)
{
    (void)state;
    post_from_threads(true);
}

/* ---- wake: coalesced, without memory ---- */

struct waker {
    struct kei_wake wake;
    int n;
    bool again;
    struct waker *fini;
};

static void on_wake(struct kei_wake *w)
{
    struct waker *k = KEI_OF(w, struct waker, wake);
    k->n++;
    if (k->again)
        kei_wake(w);
    if (k->fini)
        kei_wake_fini(&k->fini->wake);
}

static void test_wake(void **state)
{
    (void)state;
    struct test_env env;
    struct waker a = {.n = 0}, b = {.n = 0};
    test_env_init(&env, 0);
    kei_wake_init(env.ctx, &a.wake, on_wake);
    kei_wake_init(env.ctx, &b.wake, on_wake);
    size_t calls = env.alloc.calls;
    for (int i = 0; i < 5; i++)
        kei_wake(&a.wake);
    assert_int_equal(a.n, 0);
    test_settle(&env);
    assert_int_equal(a.n, 1);
    a.again = true;
    kei_wake(&a.wake);
    for (int i = 0; i < 5; i++)
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
    assert_int_equal(a.n, 6); /* once per turn */
    a.again = false;
    test_settle(&env);
    a.fini = &b; /* both due: a ends b */
    kei_wake(&a.wake);
    kei_wake(&b.wake);
    test_settle(&env);
    assert_int_equal(b.n, 0);
    assert_int_equal(env.alloc.calls, calls);
    kei_wake_fini(&a.wake);
    kei_wake_fini(&a.wake);
    test_env_fini(&env);
}

#define WAKES 30000

struct wake_thread {
    struct waker waker;
    pthread_t thread;
    atomic_int produced; /* raised before each wake */
    atomic_int consumed; /* what the loop saw */
    atomic_bool stop;
};

static void on_wake_consume(struct kei_wake *w)
{
    struct wake_thread *t = KEI_OF(w, struct wake_thread, waker.wake);
    atomic_store(&t->consumed, atomic_load(&t->produced));
}

/* One wake at a time, each only after the one before was heard. */
static void *wake_many(void *arg)
{
    struct wake_thread *t = arg;
    for (int i = 1; i <= WAKES; i++) {
        atomic_store(&t->produced, i);
        kei_wake(&t->waker.wake);
        while (atomic_load(&t->consumed) < i && !atomic_load(&t->stop))
            sched_yield();
    }
    return NULL;
}

/*
 * The loop turns without pause while another thread wakes it, so that wakes fall on every point of
 * a turn. Now and then it rests: what was not heard by then must show at the fd.
 */
static void test_wake_from_thread_is_not_lost(void **state)
{
    (void)state;
    struct test_env env;
    struct wake_thread t = {.consumed = 0};
    int fd, lost = 0;
    test_env_init(&env, TEST_REAL_CLOCK);
    assert_int_equal(ke_ctx_fd(env.ctx, &fd), 0);
    kei_wake_init(env.ctx, &t.waker.wake, on_wake_consume);
    assert_int_equal(pthread_create(&t.thread, NULL, wake_many, &t), 0);
    while (!lost && atomic_load(&t.consumed) < WAKES) {
        for (int i = 0; i < 50; i++)
            assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        if (atomic_load(&t.consumed) == WAKES)
            break;
        struct pollfd p = {.fd = fd, .events = POLLIN}; /* the next wake must show */
        lost = poll(&p, 1, 20000) != 1;
    }
    atomic_store(&t.stop, true);
    pthread_join(t.thread, NULL);
    assert_int_equal(lost, 0);
    kei_wake_fini(&t.waker.wake);
    test_env_fini(&env);
}

/* ---- kei_ctx_call from many threads ---- */

struct caller {
    struct ke_ctx *ctx;
    pthread_t thread;
    int *plain; /* only the loop touches it: no lock */
};

static void add_one(void *user)
{
    ++*(int *)user;
}

static void *call_many(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < 500; i++) {
        if (kei_ctx_call(c->ctx, add_one, c->plain) < 0)
            return c;
    }
    return NULL;
}

static void test_call_from_threads(void **state)
{
    (void)state;
    struct test_env env;
    struct caller c[THREADS];
    int plain = 0;
    test_env_init(&env, TEST_REAL_CLOCK);
    assert_int_equal(kei_ctx_thread_start(env.ctx), 0);
    for (int i = 0; i < THREADS; i++) {
        c[i] = (struct caller){.ctx = env.ctx, .plain = &plain};
        assert_int_equal(pthread_create(&c[i].thread, NULL, call_many, &c[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(c[i].thread, NULL);
    assert_int_equal(plain, THREADS * 500);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_later_turn),
        KE_TEST(test_burst),
        KE_TEST(test_failing_allocation),
        KE_TEST(test_threads_to_host_loop),
        KE_TEST(test_threads_to_own_thread),
        KE_TEST(test_wake),
        KE_TEST(test_wake_from_thread_is_not_lost),
        KE_TEST(test_call_from_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
