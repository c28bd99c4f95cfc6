/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the YAML reader. */
#ifndef KEI_BASE_YAML_PRIV_H
#define KEI_BASE_YAML_PRIV_H

#include "base/json.h"
#include "base/yaml.h"

struct kei_yaml_mark {
    uint32_t off; /* in text */
    uint32_t line;
};

struct kei_yaml {
    const struct ke_alloc *alloc;
    struct ke_buf text; /* the JSON of all documents, one after the other */
    struct kei_yaml_doc *docs;
    size_t n_docs, cap_docs;
    struct kei_yaml_mark *marks; /* where each value was written, rising in off */
    size_t n_marks, cap_marks;
    size_t max; /* bytes of input and of text */
};

/* Grows an array of *cap elements of size bytes so that index n fits; false: no memory. */
bool kei_yaml_grow(const struct ke_alloc *a, void **array, size_t *cap, size_t n, size_t size);
/* json.p of a document is set when all is read: text moves until then. */
int kei_yaml_add_doc(struct kei_yaml *y, size_t off, size_t n, uint32_t line, struct ke_error *err);
int kei_yaml_add_mark(struct kei_yaml *y, size_t off, uint32_t line, struct ke_error *err);

/* The libyaml side: fills y from text. */
int kei_yaml_build(struct kei_yaml *y, struct ke_str text, struct ke_error *err);

#define KEI_YAML_NULL 'n'
#define KEI_YAML_BOOL 'b'
#define KEI_YAML_NUMBER '0'
#define KEI_YAML_STRING '"'
#define KEI_YAML_INFINITE 'i' /* .inf, .nan: no JSON */

/*
 * The type of a plain scalar. The JSON text of all but strings and nothing for KEI_YAML_INFINITE is
 * appended to out.
 */
char kei_yaml_resolve(struct ke_buf *out, struct ke_str s);

#endif
