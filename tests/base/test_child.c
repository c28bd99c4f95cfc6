/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of children by pidfd, whatever the host does with SIGCHLD and wait. */
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct kid {
    struct kei_child child;
    int told, known, code, value;
    int hold; /* the child ends when this is closed */
    pid_t pid;
    bool watch_again;
    struct test_env *env;
};

static void on_end(struct kei_child *c, int known, int code, int value)
{
    struct kid *k = KEI_OF(c, struct kid, child);
    k->told++;
    k->known = known;
    k->code = code;
    k->value = value;
}

/* A child that waits, then exits with status, or raises -status. */
static void spawn(struct test_env *env, struct kid *k, int status)
{
    int p[2];
    memset(k, 0, sizeof *k);
    k->env = env;
    assert_int_equal(pipe(p), 0);
    k->pid = fork();
    assert_true(k->pid >= 0);
    if (k->pid == 0) {
        char c;
        close(p[1]);
        while (read(p[0], &c, 1) < 0 && errno == EINTR)
            ;
        if (status < 0) {
            signal(-status, SIG_DFL);
            raise(-status);
        }
        _exit(status);
    }
    close(p[0]);
    k->hold = p[1];
}

static void let_end(struct kid *k)
{
    close(k->hold);
}

static void watch(struct kid *k)
{
    assert_int_equal(kei_child_watch(k->env->ctx, &k->child, k->pid, on_end), 0);
}

static void test_exit_code(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    test_env_init(&env, 0);
    for (int status = 0; status < 256; status += 51) {
        spawn(&env, &k, status);
        watch(&k);
        test_settle(&env);
        assert_int_equal(k.told, 0);
        let_end(&k);
        assert_true(test_drive(&env, test_nonzero, &k.told));
        assert_int_equal(k.known, 1);
        assert_int_equal(k.code, CLD_EXITED);
        assert_int_equal(k.value, status);
        assert_int_equal(waitpid(k.pid, NULL, WNOHANG), -1); /* reaped */
    }
    test_settle(&env);
    assert_int_equal(k.told, 1);
    test_env_fini(&env);
}

static void test_signal(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    test_env_init(&env, 0);
    spawn(&env, &k, -SIGKILL);
    watch(&k);
    let_end(&k);
    assert_true(test_drive(&env, test_nonzero, &k.told));
    assert_int_equal(k.known, 1);
    assert_int_equal(k.code, CLD_KILLED);
    assert_int_equal(k.value, SIGKILL);
    test_env_fini(&env);
}

/* Ended before it was watched, still a zombie: the status is known. */
static void test_zombie(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    siginfo_t si;
    test_env_init(&env, 0);
    spawn(&env, &k, 7);
    let_end(&k);
    assert_int_equal(waitid(P_PID, (id_t)k.pid, &si, WEXITED | WNOWAIT), 0);
    watch(&k);
    assert_int_equal(k.told, 0); /* never from within the call */
    assert_true(test_drive(&env, test_nonzero, &k.told));
    assert_int_equal(k.known, 1);
    assert_int_equal(k.value, 7);
    test_env_fini(&env);
}

static void expect_unknown(struct test_env *env, struct kid *k)
{
    assert_true(test_drive(env, test_nonzero, &k->told));
    test_settle(env);
    assert_int_equal(k->told, 1);
    assert_int_equal(k->known, 0);
}

/* The host reaps everything with wait(-1). */
static void *reap_all(void *arg)
{
    (void)arg;
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    return NULL;
}

static void test_host_reaps(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    pthread_t t;
    test_env_init(&env, 0);
    spawn(&env, &k, 3);
    watch(&k);
    let_end(&k);
    assert_int_equal(pthread_create(&t, NULL, reap_all, NULL), 0);
    pthread_join(t, NULL); /* before the loop runs: the host has the status */
    expect_unknown(&env, &k);
    test_env_fini(&env);
}

static void test_host_ignores_sigchld(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    test_env_init(&env, 0);
    assert_int_equal(sigaction(SIGCHLD, &ignore, &old), 0);
    spawn(&env, &k, 3);
    watch(&k);
    let_end(&k);
    expect_unknown(&env, &k);

    spawn(&env, &k, 3); /* gone before it was watched */
    let_end(&k);
    assert_int_equal(waitpid(k.pid, NULL, 0), -1); /* waits for the end, then ECHILD */
    assert_int_equal(kill(k.pid, 0), -1);
    watch(&k);
    assert_int_equal(k.told, 0);
    expect_unknown(&env, &k);
    struct sigaction now;
    assert_int_equal(sigaction(SIGCHLD, &old, &now), 0);
    assert_true(now.sa_handler == SIG_IGN); /* nobody touched it */
    test_env_fini(&env);
}

/* Not a child of ours, as after the host's restart: its end is told all the same. */
static void test_stranger(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    int p[2];
    test_env_init(&env, 0);
    memset(&k, 0, sizeof k);
    k.env = &env;
    assert_int_equal(pipe(p), 0);
    pid_t middle = fork();
    assert_true(middle >= 0);
    if (middle == 0) {
        int q[2];
        if (pipe(q) < 0)
            _exit(1);
        pid_t pid = fork();
        if (pid == 0) {
            char c;
            close(p[1]);
            close(q[1]);
            read(q[0], &c, 1) == 0 ? _exit(0) : _exit(1); /* until middle's end is gone */
        }
        if (write(p[1], &pid, sizeof pid) != sizeof pid)
            _exit(1);
        close(q[0]);
        alarm(60); /* should the test break off */
        pause();
        _exit(0);
    }
    assert_int_equal(read(p[0], &k.pid, sizeof k.pid), sizeof k.pid);
    watch(&k);
    test_settle(&env);
    assert_int_equal(k.told, 0);
    assert_int_equal(kill(middle, SIGKILL), 0);
    assert_int_equal(waitpid(middle, NULL, 0), middle);
    expect_unknown(&env, &k);
    close(p[0]);
    close(p[1]);
    test_env_fini(&env);
}

static void test_forget(void **state)
{
    (void)state;
    struct test_env env;
    struct kid a, b;
    test_env_init(&env, 0);
    spawn(&env, &a, 1);
    spawn(&env, &b, 2);
    watch(&a);
    watch(&b);
    kei_child_forget(&a.child);
    kei_child_forget(&a.child);
    let_end(&a);
    let_end(&b);
    assert_true(test_drive(&env, test_nonzero, &b.told));
    test_settle(&env);
    assert_int_equal(a.told, 0);
    int status = 0; /* not reaped by us */
    assert_int_equal(waitpid(a.pid, &status, 0), a.pid);
    assert_int_equal(WEXITSTATUS(status), 1);
    struct kei_child zero;
    memset(&zero, 0, sizeof zero);
    kei_child_forget(&zero);
    assert_int_equal(kei_child_watch(env.ctx, &zero, 0, on_end), KE_EINVAL);
    assert_int_equal(kei_child_watch(env.ctx, &zero, -4, on_end), KE_EINVAL);
    test_env_fini(&env);
}

/* The object may be watched again, or forgotten, inside its own callback. */
static void on_end_next(struct kei_child *c, int known, int code, int value)
{
    struct kid *k = KEI_OF(c, struct kid, child);
    on_end(c, known, code, value);
    kei_child_forget(c);
    if (k->watch_again) {
        k->watch_again = false;
        int told = k->told;
        struct test_env *env = k->env;
        spawn(env, k, 9);
        k->told = told;
        assert_int_equal(kei_child_watch(env->ctx, &k->child, k->pid, on_end), 0);
        let_end(k);
    }
}

static bool told_twice(void *arg)
{
    return ((struct kid *)arg)->told == 2;
}

static void test_watch_again_inside(void **state)
{
    (void)state;
    struct test_env env;
    struct kid k;
    test_env_init(&env, 0);
    spawn(&env, &k, 1);
    k.watch_again = true;
    assert_int_equal(kei_child_watch(env.ctx, &k.child, k.pid, on_end_next), 0);
    let_end(&k);
    assert_true(test_drive(&env, told_twice, &k));
    assert_int_equal(k.value, 9);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_exit_code),
        KE_TEST(test_signal),
        KE_TEST(test_zombie),
        KE_TEST(test_host_reaps),
        KE_TEST(test_host_ignores_sigchld),
        KE_TEST(test_stranger),
        KE_TEST(test_forget),
        KE_TEST(test_watch_again_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
