/* SPDX-License-Identifier: Apache-2.0 */
/* One manifest: checked and made whole. Pure, any thread. */
#ifndef KEI_CLOUD_MANIFEST_H
#define KEI_CLOUD_MANIFEST_H

#include "base/json.h"

struct kei_field {
    char path[400]; /* dotted, e.g. "spec.containers[0].image" */
    const char *at; /* in the text that was checked; NULL unknown */
};

/*
 * Checks a Pod, ConfigMap or Secret and appends it to out with the defaults of an API server.
 * *ret_type is the type token. KE_EINVAL: f and the text name the field.
 */
int kei_manifest_whole(struct ke_buf *out, const char **ret_type, struct ke_str object,
                       struct kei_field *f, struct ke_error *err);

#endif
