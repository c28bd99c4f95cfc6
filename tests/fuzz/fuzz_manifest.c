/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests from bytes to whole objects. What is accepted must be valid JSON, name its references and be
 * accepted again in its own form; what is refused must name a field that lies in the text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/yaml.h"
#include "cloud/cloud_priv.h"
#include "cloud/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_reference(void *user, const char *type, const char *name)
{
    (void)user;
    if (!type[0] || !name[0])
        abort();
}

static void one(const struct kei_yaml_doc *d)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf out, again;
    struct kei_field field;
    const char *type = NULL;
    kei_buf_init(&out, kei_alloc_malloc());
    kei_buf_init(&again, kei_alloc_malloc());
    if (kei_manifest_whole(&out, &type, d->json, &field, &err) < 0) {
        if (!err.text[0])
            abort();
        if (field.at && (field.at < d->json.p || field.at > d->json.p + d->json.n))
            abort();
    } else {
        struct ke_str whole = {out.p, out.n};
        if (!type || kei_json_check(whole, 0, NULL) < 0)
            abort();
        kei_pod_references(whole, on_reference, NULL);
        if (kei_manifest_whole(&again, &type, whole, &field, &err) < 0)
            abort();
    }
    ke_buf_free(&out);
    ke_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kei_yaml *y = NULL;
    struct ke_error err = KE_ERROR_INIT;
    if (kei_yaml_parse(&y, kei_alloc_malloc(), kei_strn((const char *)data, size), 1u << 20, &err) < 0)
        return 0;
    for (size_t i = 0; i < kei_yaml_count(y); i++)
        one(kei_yaml_get(y, i));
    kei_yaml_free(y);
    return 0;
}
