/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest that lost all its bytes is no wish to delete what it held. */
#include "cloud/cloud_rig.h"

static void write_in_place(struct rig *r, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/a.yaml", r->manifests);
    rig_write_file(path, text);
}

static void an_empty_file_keeps_its_objects(void **state)
{
    (void)state;
    static const char *const empty[] = {"", "\n", " \t\r\n \n"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++)
        for (int restart = 0; restart < 2; restart++) {
            struct rig r;
            rig_init(&r, NULL);
            rig_manifest(&r, "a.yaml", CONFIG("c", "1"));
            rig_start(&r);
            rig_wait_object(&r, "configmap", "default", "c");
            rig_settle(&r);
            if (restart)
                rig_stop(&r);
            write_in_place(&r, empty[i]);
            if (restart)
                rig_start(&r);
            const char *line = rig_wait_line(&r, "error ");
            assert_non_null(strstr(line, "a.yaml: is empty now"));
            assert_non_null(strstr(line, "delete the file"));
            rig_ms(&r, 120000);
            assert_non_null(rig_object(&r, "configmap", "default", "c"));
            assert_int_equal(rig_count(&r, "error "), 1); /* told once */
            /* what it says next counts */
            rig_manifest(&r, "a.yaml", CONFIG("d", "1"));
            rig_wait_object(&r, "configmap", "default", "d");
            assert_true(rig_wait_gone(&r, "configmap", "default", "c"));
            rig_manifest(&r, "a.yaml", "");
            rig_ms(&r, 1000);
            rig_manifest(&r, "a.yaml", NULL);
            assert_true(rig_wait_gone(&r, "configmap", "default", "d"));
            rig_fini(&r);
        }
}

static void a_new_one_may_be_empty(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, NULL);
    rig_manifest(&r, "a.yaml", "");
    rig_manifest(&r, "b.yaml", CONFIG("c", "1"));
    rig_start(&r);
    rig_wait_object(&r, "configmap", "default", "c");
    /* who leaves a comment there was not interrupted */
    rig_manifest(&r, "b.yaml", "# nothing at the moment\n");
    assert_true(rig_wait_gone(&r, "configmap", "default", "c"));
    rig_manifest(&r, "b.yaml", "");
    rig_ms(&r, 60000);
    assert_int_equal(rig_count(&r, "error "), 0);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_keeps_its_objects),
        cmocka_unit_test(a_new_one_may_be_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
