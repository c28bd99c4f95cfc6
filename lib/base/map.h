/* SPDX-License-Identifier: Apache-2.0 */
/* Hash map from byte strings (copied) to pointers. Keyed hash: peers choose keys. */
#ifndef KEI_BASE_MAP_H
#define KEI_BASE_MAP_H

#include "base/alloc.h"
#include "base/str.h"

struct kei_map_slot;
struct kei_map {
    const struct ke_alloc *alloc;
    struct kei_map_slot *slots;
    size_t n, cap, dead;
    uint64_t seed;
};

void kei_map_init(struct kei_map *m, const struct ke_alloc *a, uint64_t seed);
void kei_map_free(struct kei_map *m); /* values are the caller's */
void *kei_map_get(const struct kei_map *m, struct ke_str key);
/* 0, or KE_ENOMEM; *ret_old (may be NULL) gets the value that was there */
int kei_map_put(struct kei_map *m, struct ke_str key, void *value, void **ret_old);
void *kei_map_remove(struct kei_map *m, struct ke_str key); /* the value, or NULL */
/* Walks in no order; *it starts at 0; false at the end. The current entry may be removed. */
bool kei_map_next(const struct kei_map *m, size_t *it, struct ke_str *ret_key, void **ret_value);

#endif
