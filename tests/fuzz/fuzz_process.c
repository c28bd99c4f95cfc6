/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of data processing, and their stored state behind the first line break. What is accepted
 * runs, gives finite results only, and its state reads back.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "device/process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static int32_t name_of(void *user, struct ke_str name)
{
    (void)user;
    return name.n == 1 && name.p[0] >= 'a' && name.p[0] <= 'd' ? name.p[0] - 'a' : -1;
}

static bool value_of(void *user, uint32_t index, double *ret)
{
    const double *v = user;
    MUST(index < 4);
    *ret = v[index];
    return index != 3;
}

static void on_result(void *user, const struct process_result *r)
{
    (void)user;
    MUST(r->name[0] && r->topic && isfinite(r->value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str state, text = kei_str_cut(kei_strn((const char *)data, size), '\n', &state);
    struct process *p;
    struct ke_buf b = {NULL, 0, 0, NULL};
    double v[4] = {1, -2, 1e300, 0};

    if (kei_rules_new(&p, text, 8, name_of, NULL, 4, kei_alloc_malloc(), NULL) < 0)
        return 0;
    if (state.p && kei_json_check(state, 0, NULL) == 0)
        kei_rules_restore(p, 0, state);
    for (int64_t i = 0; i < 8; i++) {
        v[0] = v[0] * -3;
        for (uint32_t k = 0; k < 4; k++)
            kei_rules_touch(p, k);
        kei_rules_run(p, i * 1000, value_of, v, on_result, NULL);
        MUST(kei_rules_due(p) > i * 1000 - INT32_MAX);
    }
    kei_rules_save(p, 8000, size & 1, &b);
    MUST(kei_json_check(kei_buf_str(&b), 0, NULL) == 0);
    kei_rules_restore(p, 0, kei_buf_str(&b));
    ke_buf_free(&b);
    kei_rules_free(p);
    return 0;
}
