/* SPDX-License-Identifier: Apache-2.0 */
/* Disk worker and resolver: made on first use, order, drain, what happens at the end. */
#include "support/support.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

struct job {
    struct kei_work work;
    struct ke_ctx *ctx;
    int number;
    bool ran, masked, on_loop_in_run, on_loop_in_done;
    char name[32];
    int done;
    int *order; /* numbers in the order of the done calls */
    int *order_n;
    pthread_mutex_t *gate; /* run waits for it */
    bool heap;
    struct job *more; /* submitted in done */
};

static void on_run(struct kei_work *w)
{
    struct job *j = KEI_OF(w, struct job, work);
    sigset_t mask;
    if (j->gate) {
        pthread_mutex_lock(j->gate);
        pthread_mutex_unlock(j->gate);
    }
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    j->masked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1;
    pthread_getname_np(pthread_self(), j->name, sizeof j->name);
    j->on_loop_in_run = kei_ctx_on_loop(j->ctx);
    j->ran = true;
}

static void on_done(struct kei_work *w)
{
    struct job *j = KEI_OF(w, struct job, work);
    j->done++;
    j->on_loop_in_done = kei_ctx_on_loop(j->ctx);
    if (j->order)
        j->order[(*j->order_n)++] = j->number;
    if (j->more)
        assert_int_equal(kei_work_submit(j->ctx, &j->more->work, on_run, on_done), 0);
    if (j->heap)
        free(j);
}

/* Threads of the library by their name; a sanitizer may have one of its own. */
static int threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = e->d_name[0] != '.' ? fopen(path, "re") : NULL;
        if (f) {
            n += fgets(name, sizeof name, f) && strncmp(name, "kubeedge", 8) == 0;
            fclose(f);
        }
    }
    closedir(d);
    return n;
}

/* A joined thread may be listed for a moment longer. */
static void expect_no_threads(void)
{
    for (int i = 0; i < 1000000 && threads() > 0; i++)
        sched_yield();
    assert_int_equal(threads(), 0);
}

static void test_order_and_threads(void **state)
{
    (void)state;
    enum { N = 200 };
    struct test_env env;
    static struct job j[N];
    static int order[N];
    int order_n = 0;
    test_env_init(&env, 0);
    assert_int_equal(threads(), 0); /* none before the first use */
    memset(j, 0, sizeof j);
    for (int i = 0; i < N; i++) {
        j[i] = (struct job){.ctx = env.ctx, .number = i, .order = order, .order_n = &order_n};
        assert_int_equal(kei_work_submit(env.ctx, &j[i].work, on_run, on_done), 0);
        assert_int_equal(j[i].done, 0);
    }
    assert_int_equal(threads(), 1);
    assert_true(test_drive(&env, test_nonzero, &j[N - 1].done));
    assert_int_equal(kei_work_pending(env.ctx), 0);
    assert_int_equal(order_n, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(order[i], i);
        assert_true(j[i].ran && j[i].masked && !j[i].on_loop_in_run && j[i].on_loop_in_done);
        assert_string_equal(j[i].name, "kubeedge-disk");
    }
    struct job r = {.ctx = env.ctx};
    assert_int_equal(kei_resolver_submit(env.ctx, &r.work, on_run, on_done), 0);
    assert_int_equal(threads(), 2);
    assert_true(test_drive(&env, test_nonzero, &r.done));
    assert_string_equal(r.name, "kubeedge-dns");
    assert_true(r.masked);
    test_env_fini(&env);
    expect_no_threads(); /* joined */
}

/* Names do not wait behind the disk, nor the disk behind names. */
static void test_independent(void **state)
{
    (void)state;
    struct test_env env;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    test_env_init(&env, 0);
    struct job slow = {.ctx = env.ctx, .gate = &gate}, disk = {.ctx = env.ctx};
    struct job name = {.ctx = env.ctx}, slow_name = {.ctx = env.ctx, .gate = &gate};
    pthread_mutex_lock(&gate);
    assert_int_equal(kei_work_submit(env.ctx, &slow.work, on_run, on_done), 0);
    assert_int_equal(kei_resolver_submit(env.ctx, &name.work, on_run, on_done), 0);
    int fd;
    assert_int_equal(ke_ctx_fd(env.ctx, &fd), 0);
    while (!name.done) {
        assert_int_equal(ke_ctx_wait(env.ctx, 1000), 0);
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
    }
    assert_int_equal(slow.done, 0);
    pthread_mutex_unlock(&gate);
    assert_true(test_drive(&env, test_nonzero, &slow.done));
    pthread_mutex_lock(&gate);
    assert_int_equal(kei_resolver_submit(env.ctx, &slow_name.work, on_run, on_done), 0);
    assert_int_equal(kei_work_submit(env.ctx, &disk.work, on_run, on_done), 0);
    kei_work_drain(env.ctx);
    assert_int_equal(disk.done, 1);
    assert_int_equal(slow_name.done, 0);
    assert_int_equal(kei_work_pending(env.ctx), 1);
    pthread_mutex_unlock(&gate);
    assert_true(test_drive(&env, test_nonzero, &slow_name.done));
    test_env_fini(&env);
}

static struct test_env *drain_env;

static void drain_in_done(struct kei_work *w)
{
    on_done(w);
    kei_work_drain(drain_env->ctx);
}

static void test_drain(void **state)
{
    (void)state;
    struct test_env env;
    int order[8], order_n = 0;
    test_env_init(&env, 0);
    kei_work_drain(env.ctx); /* nothing, no thread */
    struct job j[4];
    for (int i = 0; i < 4; i++) {
        j[i] = (struct job){.ctx = env.ctx, .number = i, .order = order, .order_n = &order_n};
        assert_int_equal(kei_work_submit(env.ctx, &j[i].work, on_run, on_done), 0);
    }
    kei_work_drain(env.ctx);
    assert_int_equal(order_n, 4);
    test_settle(&env);
    assert_int_equal(order_n, 4); /* not told twice */

    /* drained from inside a done function: the rest comes in order, once */
    drain_env = &env;
    order_n = 0;
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            kei_work_submit(env.ctx, &j[i].work, on_run, i == 0 ? drain_in_done : on_done), 0);
    test_settle(&env);
    assert_int_equal(order_n, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(order[i], i);
    test_env_fini(&env);
}

/* Freeing the context: the disk's work is done, a waiting name is not looked up; all are told. */
static void test_free_with_work_left(void **state)
{
    (void)state;
    struct test_env env;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    static struct job disk[50];
    test_env_init(&env, 0);
    pthread_mutex_lock(&gate);
    for (int i = 0; i < 50; i++) {
        disk[i] = (struct job){.ctx = env.ctx, .gate = &gate};
        assert_int_equal(kei_work_submit(env.ctx, &disk[i].work, on_run, on_done), 0);
    }
    struct job *heap = calloc(1, sizeof *heap);
    *heap = (struct job){.ctx = env.ctx, .heap = true};
    assert_int_equal(kei_work_submit(env.ctx, &heap->work, on_run, on_done), 0);
    struct job name = {.ctx = env.ctx};
    assert_int_equal(kei_resolver_submit(env.ctx, &name.work, on_run, on_done), 0);
    pthread_mutex_unlock(&gate);
    test_env_fini(&env);
    for (int i = 0; i < 50; i++)
        assert_true(disk[i].ran && disk[i].done == 1);
    assert_int_equal(name.done, 1);
}

/* A resolver that is slow, as with names servers that do not answer, does not hold up the end. */
enum { NAMES = 200 };
static int names_run, names_done;
static pthread_mutex_t names_gate = PTHREAD_MUTEX_INITIALIZER;

static void run_slow_name(struct kei_work *w)
{
    (void)w;
    pthread_mutex_lock(&names_gate);
    pthread_mutex_unlock(&names_gate);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    names_run++;
}

static void done_name(struct kei_work *w)
{
    (void)w;
    names_done++;
}

static void open_gate(struct kei_work *w)
{
    on_done(w);
    pthread_mutex_unlock(&names_gate);
}

static void test_free_skips_waiting_names(void **state)
{
    (void)state;
    struct test_env env;
    static struct kei_work names[NAMES];
    struct job disk = {.number = 0};
    test_env_init(&env, 0);
    disk.ctx = env.ctx;
    names_run = names_done = 0;
    pthread_mutex_lock(&names_gate);
    for (int i = 0; i < NAMES; i++)
        assert_int_equal(kei_resolver_submit(env.ctx, &names[i], run_slow_name, done_name), 0);
    assert_int_equal(kei_work_submit(env.ctx, &disk.work, on_run, open_gate), 0);
    test_env_fini(&env); /* tells the disk's end first, which lets the names go on */
    assert_int_equal(names_done, NAMES);
    assert_true(names_run < NAMES);
}

static void test_submit_in_done(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    struct job b = {.ctx = env.ctx}, a = {.ctx = env.ctx, .more = &b};
    assert_int_equal(kei_work_submit(env.ctx, &a.work, on_run, on_done), 0);
    assert_true(test_drive(&env, test_nonzero, &b.done));
    test_env_fini(&env);
}

/* The loop on its own thread hands work to and fro a hundred times. */
static pthread_mutex_t last_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t last_cond = PTHREAD_COND_INITIALIZER;
static bool last_done;

static void on_last(struct kei_work *w)
{
    on_done(w);
    pthread_mutex_lock(&last_mu);
    last_done = true;
    pthread_cond_signal(&last_cond);
    pthread_mutex_unlock(&last_mu);
}

struct relay {
    struct job job;
    int left;
};

static void relay_done(struct kei_work *w)
{
    struct relay *r = KEI_OF(KEI_OF(w, struct job, work), struct relay, job);
    bool last = --r->left == 0;
    assert_int_equal(kei_work_submit(r->job.ctx, w, on_run, last ? on_last : relay_done), 0);
}

static void relay_start(void *user)
{
    struct relay *r = user;
    assert_int_equal(kei_work_submit(r->job.ctx, &r->job.work, on_run, relay_done), 0);
}

static void test_own_thread(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, TEST_REAL_CLOCK);
    struct relay r = {.job = {.ctx = env.ctx}, .left = 100};
    assert_int_equal(kei_ctx_thread_start(env.ctx), 0);
    assert_int_equal(ke_ctx_post(env.ctx, relay_start, &r, NULL), 0);
    pthread_mutex_lock(&last_mu);
    while (!last_done)
        pthread_cond_wait(&last_cond, &last_mu);
    pthread_mutex_unlock(&last_mu);
    test_env_fini(&env);
    assert_int_equal(r.left, 0);
    assert_int_equal(r.job.done, 1);
    assert_true(r.job.on_loop_in_done);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_order_and_threads),
        KE_TEST(test_independent),
        KE_TEST(test_drain),
        KE_TEST(test_free_with_work_left),
        KE_TEST(test_free_skips_waiting_names),
        KE_TEST(test_submit_in_done),
        KE_TEST(test_own_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
