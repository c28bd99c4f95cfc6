/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading and unloading at run time: nothing of ours may be called afterwards, by OpenSSL or by a
 * thread that ends. Argument of the environment: KE_PROBE, the module.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>

#include "support/support.h"

typedef int (*probe_fn)(struct ke_error *err);

struct load {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool gone, may_end;
};

/* Loads, uses and unloads; checks that it is really gone. */
static void use_module(void)
{
    const char *path = getenv("KE_PROBE");
    struct ke_error err = KE_ERROR_INIT;
    assert_non_null(path);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        fail_msg("%s", dlerror());
    probe_fn probe;
    *(void **)&probe = dlsym(module, "probe");
    assert_non_null(probe);
    if (probe(&err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(dlclose(module), 0);
    assert_null(dlopen(path, RTLD_NOW | RTLD_NOLOAD));
}

static void *in_thread(void *arg)
{
    struct load *l = arg;
    use_module();
    pthread_mutex_lock(&l->mu);
    l->gone = true;
    pthread_cond_broadcast(&l->cond);
    while (!l->may_end)
        pthread_cond_wait(&l->cond, &l->mu);
    pthread_mutex_unlock(&l->mu);
    return NULL;
}

static void test_again_and_again(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        use_module();
}

static void test_thread_lives_on(void **state)
{
    (void)state;
    struct load l = {.mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, in_thread, &l), 0);
    pthread_mutex_lock(&l.mu);
    while (!l.gone)
        pthread_cond_wait(&l.cond, &l.mu);
    l.may_end = true;
    pthread_cond_broadcast(&l.cond);
    pthread_mutex_unlock(&l.mu);
    assert_int_equal(pthread_join(t, NULL), 0);
}

/* No signal's handling is changed by it. */
static void test_signals_stay(void **state)
{
    (void)state;
    struct sigaction before[65], after;
    for (int s = 1; s < 65; s++)
        memset(&before[s], 0, sizeof before[s]), sigaction(s, NULL, &before[s]);
    use_module();
    for (int s = 1; s < 65; s++) {
        memset(&after, 0, sizeof after);
        sigaction(s, NULL, &after);
        assert_ptr_equal(after.sa_handler, before[s].sa_handler);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KE_TEST(test_again_and_again),
        KE_TEST(test_thread_lives_on),
        KE_TEST(test_signals_stay),
    };
    return cmocka_run_group_tests_name("dlopen", tests, NULL, NULL);
}
