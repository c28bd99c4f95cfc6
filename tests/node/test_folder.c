/* SPDX-License-Identifier: Apache-2.0 */
/* A data folder that is there already: whose it is, and who may enter it. */
#include "support/support.h"

#include <sys/stat.h>
#include <unistd.h>

#include <kubeedge/node.h>

static int start(struct test_env *e, const char *data, struct ke_node **n)
{
    struct ke_node_config c;
    int fd;
    ke_node_config_init(&c, sizeof c);
    c.name = "edge-1";
    c.data = data;
    assert_int_equal(ke_ctx_fd(e->ctx, &fd), 0);
    assert_int_equal(ke_node_new(n, e->ctx, &c, NULL, NULL), 0);
    return ke_node_start(*n);
}

static void is_closed_to_others(void **state)
{
    (void)state;
    static const mode_t modes[] = {0777, 0750, 0755, 0770, 0700};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        struct test_env e;
        struct ke_node *n;
        struct stat st;
        char data[200];
        test_env_init(&e, 0);
        test_tmp_make(data, sizeof data);
        assert_int_equal(chmod(data, modes[i]), 0);
        assert_int_equal(start(&e, data, &n), 0);
        assert_int_equal(stat(data, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        ke_node_free(n);
        test_env_fini(&e);
        test_tmp_remove(data);
    }
}

static void of_another_user_is_refused(void **state)
{
    (void)state;
    struct test_env e;
    struct ke_node *n;
    char data[200], store[240];
    if (geteuid() != 0)
        skip();
    test_env_init(&e, 0);
    test_tmp_make(data, sizeof data);
    assert_int_equal(chown(data, 12345, 12345), 0);
    assert_int_equal(start(&e, data, &n), KE_EACCES);
    assert_non_null(strstr(ke_ctx_error(e.ctx), "belongs to user 12345"));
    snprintf(store, sizeof store, "%s/store", data);
    assert_int_not_equal(access(store, F_OK), 0); /* nothing was made in it */
    ke_node_free(n);
    test_env_fini(&e);
    test_tmp_remove(data);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(is_closed_to_others),
                                              cmocka_unit_test(of_another_user_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
