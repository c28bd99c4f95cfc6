/* SPDX-License-Identifier: Apache-2.0 */
/* Slips that an API server refuses: in manifests with file, line and field; in the configuration.
 */
#include "cloud/cloud_rig.h"

#define HEAD                                                                                       \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"                  \
    "  containers:\n  - name: c\n    image: i\n"
#define VOLUME(type)                                                                               \
    "  volumes:\n  - name: v\n    hostPath:\n      path: /v\n      type: " type "\n"

static void manifests_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *says; /* NULL: it is fine */
    } table[] = {
        {HEAD "    volumeMounts:\n    - {name: v, mountPath: /a}\n    - {name: v, mountPath: /b}\n"
              "    - {name: v, mountPath: /a}\n  volumes: [{name: v, emptyDir: {}}]\n",
         "a.yaml:12: spec.containers[0].volumeMounts[2].mountPath: is the path of another mount"},
        {HEAD "    volumeMounts:\n    - {name: v, mountPath: /a}\n  - name: d\n    image: i\n"
              "    volumeMounts:\n    - {name: v, mountPath: /a}\n  volumes: [{name: v, emptyDir: "
              "{}}]\n",
         NULL},
        {HEAD "  activeDeadlineSeconds: 0\n", "a.yaml:9: spec.activeDeadlineSeconds: is not"},
        {HEAD "  activeDeadlineSeconds: -5\n", "a.yaml:9: spec.activeDeadlineSeconds: is not"},
        {HEAD "  activeDeadlineSeconds: 1.5\n", "a.yaml:9: spec.activeDeadlineSeconds: is not"},
        {HEAD "  activeDeadlineSeconds: 1\n", NULL},
        {HEAD VOLUME("Folder"), "a.yaml:13: spec.volumes[0].hostPath.type: is not Directory,"},
        {HEAD VOLUME("directory"), "a.yaml:13: spec.volumes[0].hostPath.type: is not Directory,"},
        {HEAD VOLUME("1"), "a.yaml:13: spec.volumes[0].hostPath.type: is not Directory,"},
        {HEAD VOLUME("\"\""), NULL},
        {HEAD VOLUME("null"), NULL},
        {HEAD VOLUME("FileOrCreate"), NULL},
        {HEAD VOLUME("BlockDevice"), NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct rig r;
        rig_init(&r, NULL);
        rig_manifest(&r, "a.yaml", table[i].yaml);
        rig_start(&r);
        if (table[i].says) {
            const char *line = rig_wait_line(&r, "error ");
            if (!strstr(line, table[i].says))
                fail_msg("manifest %zu: %s, not %s", i, line, table[i].says);
            assert_null(rig_object(&r, "pod", "default", "p"));
        } else {
            rig_wait_object(&r, "pod", "default", "p");
            assert_int_equal(rig_count(&r, "error "), 0);
        }
        rig_fini(&r);
    }
}

static void sixty_four_containers_are_the_most(void **state)
{
    (void)state;
    static const char *const lists[] = {"containers", "initContainers"};
    for (int i = 0; i < 4; i++) {
        int n = i % 2 ? 65 : 64;
        char yaml[8000], want[100];
        struct rig r;
        int at = snprintf(yaml, sizeof yaml,
                          "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n"
                          "  nodeName: edge-1\n%s  %s:\n",
                          i < 2 ? "" : "  containers: [{name: z, image: i}]\n", lists[i / 2]);
        for (int k = 0; k < n; k++)
            at += snprintf(yaml + at, sizeof yaml - (size_t)at, "  - {name: c%d, image: i}\n", k);
        rig_init(&r, NULL);
        rig_manifest(&r, "a.yaml", yaml);
        rig_start(&r);
        if (n == 64) {
            rig_wait_object(&r, "pod", "default", "p");
        } else {
            snprintf(want, sizeof want, "a.yaml:%d: spec.%s[64]: is one too many; the limit is 64",
                     i < 2 ? 71 : 72, lists[i / 2]);
            assert_non_null(strstr(rig_wait_line(&r, "error "), want));
        }
        rig_fini(&r);
    }
}

static void advertised_names_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int status;
    } table[] = {{"10.0.0.1", 0},
                 {"fd00::1", 0},
                 {"cloud", 0},
                 {"Cloud-1.example.org", 0},
                 {"cloud.example.org:10000", KE_EINVAL},
                 {"10.0.0.1:10000", KE_EINVAL},
                 {"https://cloud", KE_EINVAL},
                 {"two words", KE_EINVAL},
                 {"[fd00::1]", KE_EINVAL},
                 {"a..b", KE_EINVAL},
                 {"*.example.org", KE_EINVAL},
                 {"10.0.0.0/8", KE_EINVAL}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct rig r;
        rig_init(&r, NULL);
        const char *names[2] = {"127.0.0.1", table[i].name};
        r.conf.advertise = names;
        r.conf.n_advertise = 2;
        int got = rig_try_start(&r);
        if (got != table[i].status)
            fail_msg("%s: %d", table[i].name, got);
        if (got < 0) {
            assert_non_null(strstr(ke_ctx_error(r.env.ctx), table[i].name));
            assert_non_null(strstr(ke_ctx_error(r.env.ctx), "advertise[1]"));
        } else {
            assert_true(rig_loaded(&r));
        }
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifests_are_refused_with_their_line),
        cmocka_unit_test(sixty_four_containers_are_the_most),
        cmocka_unit_test(advertised_names_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
