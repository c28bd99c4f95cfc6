/* SPDX-License-Identifier: Apache-2.0 */
/* Taints and tolerations, case by case as Kubernetes documents them. */
#include "support/support.h"

#include "message/k8s.h"

static const struct {
    const char *what, *taints, *tolerations;
    bool want;
} CASES[] = {
    {"no taints", "", "", true},
    {"null", "null", "null", true},
    {"one that nothing tolerates", "[{\"key\":\"a\",\"effect\":\"NoSchedule\"}]", "[]", false},
    {"only preferred", "[{\"key\":\"a\",\"effect\":\"PreferNoSchedule\"}]", "", true},
    {"equal is the default", "[{\"key\":\"a\",\"value\":\"1\",\"effect\":\"NoSchedule\"}]",
     "[{\"key\":\"a\",\"value\":\"1\"}]", true},
    {"other value", "[{\"key\":\"a\",\"value\":\"1\",\"effect\":\"NoSchedule\"}]",
     "[{\"key\":\"a\",\"operator\":\"Equal\",\"value\":\"2\"}]", false},
    {"no value is the empty one", "[{\"key\":\"a\",\"value\":\"\",\"effect\":\"NoSchedule\"}]",
     "[{\"key\":\"a\"}]", true},
    {"exists", "[{\"key\":\"a\",\"value\":\"1\",\"effect\":\"NoExecute\"}]",
     "[{\"key\":\"a\",\"operator\":\"Exists\"}]", true},
    {"other effect", "[{\"key\":\"a\",\"effect\":\"NoExecute\"}]",
     "[{\"key\":\"a\",\"operator\":\"Exists\",\"effect\":\"NoSchedule\"}]", false},
    {"all keys", "[{\"key\":\"a\",\"value\":\"1\",\"effect\":\"NoExecute\"}]",
     "[{\"operator\":\"Exists\"}]", true},
    {"an empty key is for all only with Exists", "[{\"key\":\"a\",\"effect\":\"NoExecute\"}]",
     "[{\"operator\":\"Equal\"}]", false},
    {"an unknown operator fits nothing", "[{\"key\":\"a\",\"effect\":\"NoSchedule\"}]",
     "[{\"key\":\"a\",\"operator\":\"Gt\"}]", false},
    {"each taint needs one",
     "[{\"key\":\"a\",\"effect\":\"NoSchedule\"},"
     "{\"key\":\"b\",\"effect\":\"NoSchedule\"}]",
     "[{\"key\":\"b\",\"operator\":\"Exists\"}]", false},
    {"the second of two", "[{\"key\":\"b\",\"effect\":\"NoSchedule\"}]",
     "[{\"key\":\"a\"},{\"key\":\"b\",\"operator\":\"Exists\"}]", true},
    {"items that are no objects", "[5,\"x\",null]", "[7]", true},
};

static void taints_are_tolerated(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        bool got = kei_taints_tolerated(kei_str(CASES[i].taints), kei_str(CASES[i].tolerations));
        if (got != CASES[i].want)
            fail_msg("%s: %s", CASES[i].what, got ? "tolerated" : "not tolerated");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(taints_are_tolerated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
