/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hash map with open addressing and linear probing. Owns copies of the keys, not the values; one
 * thread at a time. The hash is SipHash-1-3 keyed with the map's seed, since peers choose keys.
 * Removed entries leave a marker; when live and dead together pass 3/4 the table is rebuilt, so
 * probing always meets an empty slot. Removing never moves entries: a walk may remove as it goes.
 */
#include <kubeedge/err.h>

#include "base/map.h"

#define FIRST_CAP 8

struct kei_map_slot {
    char *key; /* NULL: nothing here; removed if n is DEAD, else never used since the rebuild */
    size_t n;
    uint64_t hash;
    void *value;
};

#define DEAD SIZE_MAX

static bool is_dead(const struct kei_map_slot *s)
{
    return !s->key && s->n == DEAD;
}

static bool is_empty(const struct kei_map_slot *s)
{
    return !s->key && s->n != DEAD;
}

static uint64_t rotl(uint64_t x, unsigned b)
{
    return (x << b) | (x >> (64 - b));
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static uint64_t hash_of(uint64_t seed, struct ke_str key)
{
    uint64_t k1 = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    uint64_t v[4] = {seed ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
                     seed ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
    uint64_t last = 0;

    for (size_t i = 0; i < key.n; i++) {
        last |= (uint64_t)(unsigned char)key.p[i] << (8 * (i & 7));
        if ((i & 7) == 7) {
            v[3] ^= last;
            sip_round(v);
            v[0] ^= last;
            last = 0;
        }
    }
    last |= (uint64_t)key.n << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void kei_map_init(struct kei_map *m, const struct ke_alloc *a, uint64_t seed)
{
    *m = (struct kei_map){a, NULL, 0, 0, 0, seed};
}

void kei_map_free(struct kei_map *m)
{
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].key)
            kei_free(m->alloc, m->slots[i].key);
    }
    kei_free(m->alloc, m->slots);
    m->slots = NULL;
    m->n = m->cap = m->dead = 0;
}

static struct kei_map_slot *find(const struct kei_map *m, struct ke_str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = (size_t)hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct kei_map_slot *s = &m->slots[i];
        if (is_empty(s))
            return NULL;
        if (s->key && s->hash == hash && s->n == key.n &&
            (key.n == 0 || memcmp(s->key, key.p, key.n) == 0))
            return s;
    }
}

void *kei_map_get(const struct kei_map *m, struct ke_str key)
{
    struct kei_map_slot *s = find(m, key, hash_of(m->seed, key));

    return s ? s->value : NULL;
}

static struct kei_map_slot *free_slot(struct kei_map_slot *slots, size_t cap, uint64_t hash)
{
    size_t i = (size_t)hash & (cap - 1);

    while (slots[i].key)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

/* Makes a table with room for at least one more; drops the markers. */
static int rebuild(struct kei_map *m)
{
    size_t cap = FIRST_CAP;

    while (cap / 2 < m->n + 1) {
        if (cap > SIZE_MAX / 4)
            return KE_ENOMEM;
        cap *= 2;
    }
    struct kei_map_slot *slots = kei_array_alloc(m->alloc, cap, sizeof *slots);
    if (!slots)
        return KE_ENOMEM;
    memset(slots, 0, cap * sizeof *slots);
    for (size_t i = 0; i < m->cap; i++) {
        struct kei_map_slot *s = &m->slots[i];
        if (s->key)
            *free_slot(slots, cap, s->hash) = *s;
    }
    kei_free(m->alloc, m->slots);
    m->slots = slots;
    m->cap = cap;
    m->dead = 0;
    return 0;
}

int kei_map_put(struct kei_map *m, struct ke_str key, void *value, void **ret_old)
{
    uint64_t hash = hash_of(m->seed, key);
    struct kei_map_slot *s = find(m, key, hash);

    if (s) {
        if (ret_old)
            *ret_old = s->value;
        s->value = value;
        return 0;
    }
    char *copy = kei_strndup(m->alloc, key.n ? key.p : "", key.n);
    if (!copy)
        return KE_ENOMEM;
    if ((m->n + m->dead + 1) > m->cap / 4 * 3 && rebuild(m) < 0) {
        kei_free(m->alloc, copy);
        return KE_ENOMEM;
    }
    s = free_slot(m->slots, m->cap, hash);
    if (is_dead(s))
        m->dead--;
    *s = (struct kei_map_slot){copy, key.n, hash, value};
    m->n++;
    if (ret_old)
        *ret_old = NULL;
    return 0;
}

void *kei_map_remove(struct kei_map *m, struct ke_str key)
{
    struct kei_map_slot *s = find(m, key, hash_of(m->seed, key));

    if (!s)
        return NULL;
    void *value = s->value;
    size_t i = (size_t)(s - m->slots);
    kei_free(m->alloc, s->key);
    *s = (struct kei_map_slot){NULL, DEAD, 0, NULL};
    m->n--;
    m->dead++;
    /* no chain runs through this one: it and the markers before it are plain empty slots */
    while (is_dead(&m->slots[i]) && is_empty(&m->slots[(i + 1) & (m->cap - 1)])) {
        m->slots[i].n = 0;
        m->dead--;
        i = (i + m->cap - 1) & (m->cap - 1);
    }
    return value;
}

bool kei_map_next(const struct kei_map *m, size_t *it, struct ke_str *ret_key, void **ret_value)
{
    for (; *it < m->cap; (*it)++) {
        const struct kei_map_slot *s = &m->slots[*it];
        if (!s->key)
            continue;
        if (ret_key)
            *ret_key = (struct ke_str){s->key, s->n};
        if (ret_value)
            *ret_value = s->value;
        (*it)++;
        return true;
    }
    return false;
}
