/* SPDX-License-Identifier: Apache-2.0 */
/* The context: tables, time, randomness, driving modes, failing allocations. */
#include "support/support.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <kubeedge/version.h>

static void test_defaults(void **state)
{
    (void)state;
    struct ke_ctx *ctx = NULL;
    assert_int_equal(ke_ctx_new(&ctx, NULL, NULL), 0);
    assert_string_equal(ke_ctx_error(ctx), "");
    int64_t a = ke_ctx_mono_ms(ctx), b = ke_ctx_mono_ms(ctx);
    assert_true(b >= a);
    assert_true(ke_ctx_real_ms(ctx) >= kei_ctx_time_floor_get(ctx));
    char uuid[37];
    assert_int_equal(kei_ctx_uuid(ctx, uuid), 0);
    assert_int_equal(strlen(uuid), 36);
    assert_true(kei_ctx_random64(ctx) != kei_ctx_random64(ctx));
    ke_ctx_free(ctx);
    ke_ctx_free(NULL);
    assert_string_equal(ke_ctx_error(NULL), "");
}

static void test_version(void **state)
{
    (void)state;
    assert_int_equal(ke_version(),
                     (KE_VERSION_MAJOR << 16) | (KE_VERSION_MINOR << 8) | KE_VERSION_PATCH);
    assert_string_equal(ke_version_string(), KE_VERSION);
}

static int expect_refused(const struct ke_ctx_config *c, int code, const char *part)
{
    struct ke_ctx *ctx = NULL;
    struct ke_error err = KE_ERROR_INIT;
    assert_int_equal(ke_ctx_new(&ctx, c, &err), code);
    assert_null(ctx);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, part));
    return ke_ctx_new(&ctx, c, NULL) == code ? 0 : -1; /* without a place for the text */
}

static void test_refused_tables(void **state)
{
    (void)state;
    struct ke_ctx_config c;
    assert_int_equal(ke_ctx_new(NULL, NULL, NULL), KE_EINVAL);

    ke_ctx_config_init(&c, sizeof c);
    c.size = sizeof c - 8;
    assert_int_equal(expect_refused(&c, KE_EABI, "struct ke_ctx_config"), 0);
    ke_ctx_config_init(&c, sizeof c);
    c.reserved = 1;
    assert_int_equal(expect_refused(&c, KE_EABI, "reserved"), 0);

    struct ke_io io = *ke_io_posix();
    io.sync = NULL;
    ke_ctx_config_init(&c, sizeof c);
    c.io = &io;
    assert_int_equal(expect_refused(&c, KE_EINVAL, "sync"), 0);

    struct test_alloc a;
    test_alloc_init(&a);
    a.table.realloc = NULL;
    ke_ctx_config_init(&c, sizeof c);
    c.alloc = &a.table;
    assert_int_equal(expect_refused(&c, KE_EINVAL, "realloc"), 0);

    struct test_clock clock;
    test_clock_init(&clock);
    clock.table.real_ms = NULL;
    ke_ctx_config_init(&c, sizeof c);
    c.clock = &clock.table;
    assert_int_equal(expect_refused(&c, KE_EINVAL, "real_ms"), 0);
    clock.table.size = 8;
    assert_int_equal(expect_refused(&c, KE_EABI, "struct ke_clock"), 0);
}

/* A host built against a later version: its structs are longer. */
static void test_newer_host(void **state)
{
    (void)state;
    struct {
        struct ke_ctx_config c;
        uint64_t later;
    } host;
    ke_ctx_config_init(&host.c, sizeof host);
    assert_int_equal(host.c.size, sizeof host);
    struct ke_ctx *ctx = NULL;
    assert_int_equal(ke_ctx_new(&ctx, &host.c, NULL), 0);
    ke_ctx_free(ctx);
    host.later = 1;
    assert_int_equal(expect_refused(&host.c, KE_EABI, "newer library"), 0);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct test_alloc a;
        test_alloc_init(&a);
        test_alloc_fail_at(&a, n);
        struct ke_ctx_config c;
        ke_ctx_config_init(&c, sizeof c);
        c.alloc = &a.table;
        struct ke_ctx *ctx = NULL;
        struct ke_error err = KE_ERROR_INIT;
        int r = ke_ctx_new(&ctx, &c, &err);
        if (r == 0)
            ke_ctx_free(ctx);
        else
            assert_int_equal(r, KE_ENOMEM);
        assert_int_equal(test_alloc_live(&a), 0);
        if (a.failed == 0) {
            assert_true(n > 1);
            return;
        }
    }
}

static int no_random(void *user, void *p, size_t n)
{
    (void)p;
    (void)n;
    ++*(int *)user;
    return KE_EIO;
}

static void test_random_failing(void **state)
{
    (void)state;
    int calls = 0;
    struct ke_random random = {sizeof random, &calls, no_random};
    struct ke_ctx_config c;
    ke_ctx_config_init(&c, sizeof c);
    c.random = &random;
    struct ke_ctx *ctx = NULL;
    assert_int_equal(ke_ctx_new(&ctx, &c, NULL), 0);
    uint64_t seen[100];
    for (int i = 0; i < 100; i++) {
        seen[i] = kei_ctx_random64(ctx);
        for (int k = 0; k < i; k++)
            assert_true(seen[k] != seen[i]);
    }
    char uuid[37];
    assert_int_equal(kei_ctx_uuid(ctx, uuid), KE_EIO);
    assert_non_null(strstr(ke_ctx_error(ctx), "randomness"));
    assert_true(calls > 100);
    ke_ctx_free(ctx);
}

static void test_time_floor(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    assert_int_equal(ke_ctx_real_ms(e.ctx), TEST_CLOCK_REAL_MS);
    kei_ctx_time_floor(e.ctx, TEST_CLOCK_REAL_MS + 5000);
    kei_ctx_time_floor(e.ctx, TEST_CLOCK_REAL_MS - 5000); /* lower: ignored */
    assert_int_equal(kei_ctx_time_floor_get(e.ctx), TEST_CLOCK_REAL_MS + 5000);
    assert_int_equal(ke_ctx_real_ms(e.ctx), TEST_CLOCK_REAL_MS + 5000);

    /* a clock that was never set: time starts at the floor and passes */
    test_clock_set_real(&e.clock, 0);
    assert_int_equal(ke_ctx_real_ms(e.ctx), TEST_CLOCK_REAL_MS + 5000);
    test_clock_advance(&e.clock, 60000);
    assert_int_equal(ke_ctx_real_ms(e.ctx), TEST_CLOCK_REAL_MS + 65000);
    /* a higher floor that has passed already does not set it back */
    kei_ctx_time_floor(e.ctx, TEST_CLOCK_REAL_MS + 6000);
    assert_int_equal(ke_ctx_real_ms(e.ctx), TEST_CLOCK_REAL_MS + 65000);
    /* and once it is set, it is believed */
    test_clock_set_real(&e.clock, TEST_CLOCK_REAL_MS + 6000);
    assert_int_equal(ke_ctx_real_ms(e.ctx), TEST_CLOCK_REAL_MS + 6000);
    test_clock_set_real(&e.clock, INT64_C(4291747200000)); /* 2106 */
    assert_int_equal(ke_ctx_real_ms(e.ctx), INT64_C(4291747200000));
    test_env_fini(&e);
}

static void test_release_floor(void **state)
{
    (void)state;
    struct test_clock clock;
    test_clock_init(&clock);
    test_clock_set_real(&clock, 0);
    struct ke_ctx_config c;
    ke_ctx_config_init(&c, sizeof c);
    c.clock = &clock.table;
    struct ke_ctx *ctx = NULL;
    assert_int_equal(ke_ctx_new(&ctx, &c, NULL), 0);
    assert_true(ke_ctx_real_ms(ctx) > INT64_C(1767225600000)); /* 2026 */
    assert_int_equal(ke_ctx_real_ms(ctx), kei_ctx_time_floor_get(ctx));
    ke_ctx_free(ctx);
}

/* ---- driving ---- */

static void count_up(void *user)
{
    ++*(int *)user;
}

static bool poll_in(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

struct stopper {
    struct kei_timer timer;
    int fired;
};

static void on_stop_timer(struct kei_timer *t)
{
    struct stopper *s = KEI_OF(t, struct stopper, timer);
    s->fired++;
    ke_ctx_stop(t->ctx);
}

static void test_run_and_stop(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, TEST_REAL_CLOCK);
    struct stopper s = {.fired = 0};
    kei_timer_init(e.ctx, &s.timer, on_stop_timer);
    kei_timer_in(&s.timer, 5);
    assert_int_equal(ke_ctx_run(e.ctx), 0);
    assert_int_equal(s.fired, 1);
    /* a stop that comes before the run is not lost */
    ke_ctx_stop(e.ctx);
    assert_int_equal(ke_ctx_run(e.ctx), 0);
    /* and counts once */
    kei_timer_in(&s.timer, 5);
    assert_int_equal(ke_ctx_run(e.ctx), 0);
    assert_int_equal(s.fired, 2);
    kei_timer_fini(&s.timer);
    test_env_fini(&e);
}

static void nested(void *user)
{
    struct ke_ctx *ctx = user;
    int fd;
    assert_int_equal(ke_ctx_dispatch(ctx), KE_ESTATE);
    assert_int_equal(ke_ctx_wait(ctx, 0), KE_ESTATE);
    assert_int_equal(ke_ctx_run(ctx), KE_ESTATE);
    assert_int_equal(ke_ctx_fd(ctx, &fd), 0);
    ke_ctx_free(ctx); /* refused, logged */
}

static void test_nested_is_refused(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    assert_int_equal(ke_ctx_post(e.ctx, nested, e.ctx, NULL), 0);
    assert_int_equal(ke_ctx_dispatch(e.ctx), 0);
    assert_int_equal(e.log_errors, 1);
    e.log_errors = 0;
    test_env_fini(&e);
}

static void *other_thread(void *arg)
{
    struct ke_ctx *ctx = arg;
    int64_t t;
    assert_int_equal(ke_ctx_dispatch(ctx), KE_ETHREAD);
    assert_int_equal(ke_ctx_prepare(ctx, &t), KE_ETHREAD);
    assert_int_equal(kei_ctx_on_loop(ctx), 0);
    return NULL;
}

static void test_wrong_thread(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    int fd;
    assert_int_equal(ke_ctx_fd(e.ctx, &fd), 0);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, other_thread, e.ctx), 0);
    pthread_join(t, NULL);
    test_env_fini(&e);
}

/* The host watches one fd with poll; timers, posts of other threads and inner fds all wake it. */
static void on_pipe(struct kei_fd *f, uint32_t events)
{
    char c;
    assert_true(events & KEI_IN);
    assert_int_equal(read(f->fd, &c, 1), 1);
    kei_fd_remove(f);
}

static void *post_once(void *arg)
{
    void **a = arg;
    assert_int_equal(ke_ctx_post(a[0], count_up, a[1], NULL), 0);
    return NULL;
}

static void outer_fd_wakes(bool (*wait)(int fd, int timeout_ms))
{
    struct test_env e;
    test_env_init(&e, TEST_REAL_CLOCK);
    int fd, posted = 0, p[2];
    assert_int_equal(ke_ctx_fd(e.ctx, &fd), 0);
    assert_false(wait(fd, 0));

    struct stopper s = {.fired = 0}; /* a timer */
    kei_timer_init(e.ctx, &s.timer, on_stop_timer);
    kei_timer_in(&s.timer, 10);
    while (!s.fired) {
        assert_true(wait(fd, 60000));
        assert_true(wait(fd, 0)); /* level-triggered: stays until dispatched */
        assert_int_equal(ke_ctx_dispatch(e.ctx), 0);
    }
    test_settle(&e);
    assert_false(wait(fd, 0));

    pthread_t t; /* a post from elsewhere */
    void *arg[] = {e.ctx, &posted};
    assert_int_equal(pthread_create(&t, NULL, post_once, arg), 0);
    assert_true(wait(fd, 60000));
    assert_int_equal(ke_ctx_dispatch(e.ctx), 0);
    pthread_join(t, NULL);
    assert_int_equal(posted, 1);
    test_settle(&e);
    assert_false(wait(fd, 0));

    struct kei_fd f = {.fd = -1}; /* an inner fd */
    assert_int_equal(pipe(p), 0);
    assert_int_equal(kei_fd_add(e.ctx, &f, p[0], KEI_IN, on_pipe), 0);
    assert_false(wait(fd, 0));
    assert_int_equal(write(p[1], "x", 1), 1);
    assert_true(wait(fd, 60000));
    assert_true(wait(fd, 0));
    assert_int_equal(ke_ctx_dispatch(e.ctx), 0);
    assert_false(kei_list_linked(&f.link));
    assert_false(wait(fd, 0));
    close(p[0]);
    close(p[1]);
    kei_timer_fini(&s.timer);
    test_env_fini(&e);
}

static bool epoll_in(int fd, int timeout_ms)
{
    struct epoll_event ev = {.events = EPOLLIN};
    int outer = epoll_create1(0);
    assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, fd, &ev), 0);
    int n = epoll_wait(outer, &ev, 1, timeout_ms);
    close(outer);
    return n == 1;
}

static void test_host_poll(void **state)
{
    (void)state;
    outer_fd_wakes(poll_in);
}

static void test_host_epoll(void **state)
{
    (void)state;
    outer_fd_wakes(epoll_in);
}

/* ---- a thread of its own ---- */

struct shared {
    struct ke_ctx *ctx;
    int n, on_loop, masked;
};

static void see_thread(void *user)
{
    struct shared *s = user;
    sigset_t mask;
    s->n++;
    s->on_loop = kei_ctx_on_loop(s->ctx);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    s->masked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGCHLD) == 1;
}

static void test_own_thread(void **state)
{
    (void)state;
    struct test_env e;
    int fd;
    test_env_init(&e, TEST_REAL_CLOCK);
    struct shared s = {.ctx = e.ctx};
    assert_int_equal(kei_ctx_call(e.ctx, see_thread, &s), 0); /* nothing runs yet: directly */
    assert_int_equal(s.n, 1);
    assert_int_equal(s.masked, 0);

    assert_int_equal(kei_ctx_thread_start(e.ctx), 0);
    assert_int_equal(kei_ctx_thread_start(e.ctx), 0); /* has one */
    assert_int_equal(kei_ctx_on_loop(e.ctx), 0);
    assert_int_equal(ke_ctx_fd(e.ctx, &fd), KE_ESTATE);
    assert_int_equal(ke_ctx_dispatch(e.ctx), KE_ESTATE);
    assert_int_equal(ke_ctx_run(e.ctx), KE_ESTATE);
    for (int i = 0; i < 100; i++) { /* each waits for its end */
        assert_int_equal(kei_ctx_call(e.ctx, see_thread, &s), 0);
        assert_int_equal(s.n, 2 + i);
    }
    assert_int_equal(s.on_loop, 1);
    assert_int_equal(s.masked, 1); /* no signal of the host is delivered there */
    ke_ctx_stop(e.ctx);            /* ends ke_ctx_run only */
    assert_int_equal(kei_ctx_call(e.ctx, see_thread, &s), 0);
    test_env_fini(&e);
}

static void test_host_has_the_loop(void **state)
{
    (void)state;
    struct test_env e;
    int fd, n = 0;
    test_env_init(&e, 0);
    assert_int_equal(ke_ctx_fd(e.ctx, &fd), 0);
    assert_int_equal(kei_ctx_thread_start(e.ctx), 0); /* begins, without a thread */
    assert_int_equal(kei_ctx_on_loop(e.ctx), 1);
    assert_int_equal(kei_ctx_call(e.ctx, count_up, &n), 0);
    assert_int_equal(n, 1);
    test_env_fini(&e);
}

static void post_more(void *user)
{
    struct shared *s = user;
    if (++s->n < 3)
        assert_int_equal(ke_ctx_post(s->ctx, post_more, s, NULL), 0);
}

/* What was accepted is run even when nobody turns the loop any more. */
static void test_free_runs_what_is_posted(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    struct shared s = {.ctx = e.ctx};
    assert_int_equal(ke_ctx_post(e.ctx, post_more, &s, NULL), 0);
    test_env_fini(&e);
    assert_int_equal(s.n, 3);
}

static void post_for_ever(void *user)
{
    struct shared *s = user;
    s->n++;
    assert_int_equal(ke_ctx_post(s->ctx, post_for_ever, s, NULL), 0);
}

static void test_free_ends_in_any_case(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    struct shared s = {.ctx = e.ctx};
    assert_int_equal(ke_ctx_post(e.ctx, post_for_ever, &s, NULL), 0);
    test_env_fini(&e); /* and nothing is left of it */
    assert_true(s.n > 0);
}

static struct ke_ctx *signal_ctx;

static void on_signal(int sig)
{
    (void)sig;
    ke_ctx_stop(signal_ctx);
}

static void *raise_later(void *arg)
{
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

/* The host's signal handler ends the run, be it waiting or not. */
static void test_stop_from_signal_handler(void **state)
{
    (void)state;
    struct test_env e;
    struct sigaction act = {.sa_handler = on_signal}, old;
    pthread_t self = pthread_self(), t;
    test_env_init(&e, TEST_REAL_CLOCK);
    signal_ctx = e.ctx;
    assert_int_equal(sigaction(SIGUSR1, &act, &old), 0);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pthread_create(&t, NULL, raise_later, &self), 0);
        assert_int_equal(ke_ctx_run(e.ctx), 0);
        pthread_join(t, NULL);
    }
    assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
    test_env_fini(&e);
}

static void test_prepare(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    struct stopper s = {.fired = 0};
    int64_t t = 0;
    int n = 0;
    kei_timer_init(e.ctx, &s.timer, on_stop_timer);
    assert_int_equal(ke_ctx_prepare(e.ctx, &t), 0);
    assert_int_equal(t, -1);
    kei_timer_in(&s.timer, 1500);
    assert_int_equal(ke_ctx_prepare(e.ctx, &t), 0);
    assert_int_equal(t, 1500);
    test_clock_advance(&e.clock, 2000);
    assert_int_equal(ke_ctx_prepare(e.ctx, &t), 0);
    assert_int_equal(t, 0);
    assert_int_equal(ke_ctx_wait(e.ctx, -1), 0); /* does not wait: something is due */
    assert_int_equal(ke_ctx_dispatch(e.ctx), 0);
    assert_int_equal(s.fired, 1);
    test_settle(&e);
    assert_int_equal(ke_ctx_post(e.ctx, count_up, &n, NULL), 0);
    assert_int_equal(ke_ctx_prepare(e.ctx, &t), 0);
    assert_int_equal(t, 0);
    test_env_fini(&e);
    assert_int_equal(n, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_defaults),
        KE_TEST(test_version),
        KE_TEST(test_refused_tables),
        KE_TEST(test_newer_host),
        KE_TEST(test_failing_allocations),
        KE_TEST(test_random_failing),
        KE_TEST(test_time_floor),
        KE_TEST(test_release_floor),
        KE_TEST(test_run_and_stop),
        KE_TEST(test_nested_is_refused),
        KE_TEST(test_wrong_thread),
        KE_TEST(test_host_poll),
        KE_TEST(test_host_epoll),
        KE_TEST(test_own_thread),
        KE_TEST(test_host_has_the_loop),
        KE_TEST(test_free_runs_what_is_posted),
        KE_TEST(test_free_ends_in_any_case),
        KE_TEST(test_stop_from_signal_handler),
        KE_TEST(test_prepare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
