/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patches from a peer: the input is an object and a patch, parted by the first line break. What
 * comes out is JSON, and a merge patch applied once more changes nothing.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "message/k8s.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

typedef int (*patch_fn)(struct ke_buf *, struct ke_str, struct ke_str, struct ke_error *);

static void apply(patch_fn fn, struct ke_str base, struct ke_str patch, bool settles)
{
    struct ke_buf once = {NULL, 0, 0, NULL}, twice = {NULL, 0, 0, NULL}, more = {NULL, 0, 0, NULL};
    struct ke_error err = KE_ERROR_INIT;

    if (fn(&once, base, patch, &err) < 0) {
        MUST(err.text[0] && once.n == 0);
    } else {
        MUST(kei_json_check(kei_buf_str(&once), 0, NULL) == 0);
        int r = fn(&twice, kei_buf_str(&once), patch, &err);
        /* a name with \u0000 is refused only where it must be compared */
        MUST(r == 0 || !settles || kei_str_has(patch, KEI_STR("\\u0000")));
        if (settles && r == 0) {
            MUST(fn(&more, kei_buf_str(&twice), patch, &err) == 0);
            MUST(kei_str_eq(kei_buf_str(&twice), kei_buf_str(&more)));
        }
    }
    ke_buf_free(&once);
    ke_buf_free(&twice);
    ke_buf_free(&more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str patch, base = kei_str_cut(kei_strn((const char *)data, size), '\n', &patch);

    apply(kei_patch_merge, base, patch, true);
    apply(kei_patch_strategic, base, patch, false);
    return 0;
}
