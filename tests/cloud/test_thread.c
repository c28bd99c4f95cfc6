/* SPDX-License-Identifier: Apache-2.0 */
/* A start whose thread cannot be had leaves the cloud as it was: the next start works. */
#include "support/support.h"

#include <errno.h>
#include <pthread.h>

#include <kubeedge/cloud.h>

static bool no_thread; /* of the loop; those of the disk worker and the resolver come */

int __real_kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                            void *arg);
int __wrap_kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                            void *arg);

int __wrap_kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                            void *arg)
{
    if (no_thread && !strchr(name, '-'))
        return EAGAIN;
    return __real_kei_thread_start(ret, name, stack, fn, arg);
}

static void cloud_without_a_thread(void **state)
{
    (void)state;
    struct test_env e;
    struct ke_cloud_config c;
    struct ke_cloud *cloud = NULL;
    char data[200];
    uint32_t tunnel, cert;
    test_env_init(&e, TEST_REAL_CLOCK);
    test_tmp_make(data, sizeof data);
    ke_cloud_config_init(&c, sizeof c);
    c.data = data;
    c.listen = "127.0.0.1";
    c.tunnel_port = c.cert_port = KE_PORT_ANY;
    assert_int_equal(ke_cloud_new(&cloud, e.ctx, &c, NULL, NULL), 0);
    no_thread = true;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ke_cloud_start(cloud), KE_EAGAIN);
        assert_non_null(strstr(ke_ctx_error(e.ctx), "could not start the thread"));
        assert_int_equal(ke_cloud_ports(cloud, &tunnel, &cert), KE_ESTATE);
    }
    no_thread = false;
    assert_int_equal(ke_cloud_start(cloud), 0);
    ke_cloud_free(cloud);
    test_env_fini(&e);
    test_tmp_remove(data);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(cloud_without_a_thread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
