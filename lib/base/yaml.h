/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to JSON text, the way Kubernetes reads it (yes/no are booleans, 0644 is octal, ~ and empty
 * are null, 1e3 a number, many documents, anchors, merge keys). Expansion of aliases, depth and
 * size are capped. JSON is YAML too. Lines are kept so that a field of the result can be named.
 */
#ifndef KEI_BASE_YAML_H
#define KEI_BASE_YAML_H

#include "base/buf.h"
#include "base/error.h"

struct kei_yaml;

struct kei_yaml_doc {
    struct ke_str json; /* one JSON value; owned by the kei_yaml */
    uint32_t line;      /* 1-based line of its first token */
    size_t off;         /* of json in the text of all documents */
};

/* max_bytes caps the input and, separately, the output (0: 8 MiB). Empty documents are left out. */
int kei_yaml_parse(struct kei_yaml **ret, const struct ke_alloc *a, struct ke_str text,
                   size_t max_bytes, struct ke_error *err);
void kei_yaml_free(struct kei_yaml *y);
size_t kei_yaml_count(const struct kei_yaml *y);
const struct kei_yaml_doc *kei_yaml_get(const struct kei_yaml *y, size_t i);
/* 1-based line where the value at json_offset (within doc i's json) was written; 0 unknown */
uint32_t kei_yaml_line(const struct kei_yaml *y, size_t i, size_t json_offset);

#endif
