/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests and configuration: every document that is read is JSON of bounded size and depth. */
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

#define MAX_BYTES ((size_t)256 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_yaml *y;
    size_t total = 0, lines = 1;

    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n' || data[i] == '\r' || data[i] >= 0x80;
    if (kei_yaml_parse(&y, kei_alloc_malloc(), kei_strn((const char *)data, size), MAX_BYTES,
                       &err) < 0) {
        MUST(err.text[0]);
        return 0;
    }
    for (size_t i = 0; i < kei_yaml_count(y); i++) {
        const struct kei_yaml_doc *d = kei_yaml_get(y, i);
        MUST(kei_json_check(d->json, 0, &err) == 0);
        MUST(d->line >= 1 && d->line <= lines);
        MUST(kei_yaml_line(y, i, 0) == d->line);
        for (size_t k = 0; k < d->json.n; k += 1 + d->json.n / 64) {
            uint32_t line = kei_yaml_line(y, i, k);
            MUST(line >= 1 && line <= lines);
        }
        MUST(kei_yaml_line(y, i, d->json.n) == 0);
        total += d->json.n;
    }
    MUST(total <= MAX_BYTES);
    kei_yaml_free(y);
    return 0;
}
