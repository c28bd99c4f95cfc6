/* SPDX-License-Identifier: Apache-2.0 */
/* Memory through a context's table. Every failure is NULL and must be handled. Any thread. */
#ifndef KEI_BASE_ALLOC_H
#define KEI_BASE_ALLOC_H

#include <kubeedge/sys/alloc.h>

const struct ke_alloc *kei_alloc_malloc(void); /* the default table */

void *kei_alloc(const struct ke_alloc *a, size_t n);
void *kei_zalloc(const struct ke_alloc *a, size_t n);
void *kei_realloc(const struct ke_alloc *a, void *p, size_t n);
/* n * size, NULL on overflow */
void *kei_array_alloc(const struct ke_alloc *a, size_t n, size_t size);
void *kei_array_realloc(const struct ke_alloc *a, void *p, size_t n, size_t size);
void kei_free(const struct ke_alloc *a, void *p);
char *kei_strdup(const struct ke_alloc *a, const char *s); /* NULL s gives NULL */
char *kei_strndup(const struct ke_alloc *a, const char *s, size_t n);

#endif
