/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the process runtime in a library built without it. */
#include "pod/runtime_process.h"

#include "base/error.h"

int kei_process_new(struct kei_process **ret, struct ke_ctx *ctx,
                    const struct kei_process_config *c)
{
    (void)c;
    *ret = NULL;
    return kei_fail(ctx, KE_ENOTSUP, "this library was built without the process runtime");
}

const struct ke_runtime_ops *kei_process_ops(void)
{
    return NULL;
}

void kei_process_free(struct kei_process *p)
{
    (void)p;
}
