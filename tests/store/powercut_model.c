/* SPDX-License-Identifier: Apache-2.0 */
/* See powercut_model.h. */
#include "store/powercut_model.h"

unsigned char *model_value(int t, int k, size_t *ret_n)
{
    static const unsigned sizes[] = {40, 300, 300, 1200, 5000, 9000, 21000};
    uint64_t rng = (uint64_t)t * 1000 + (uint64_t)k;
    size_t n = (size_t)powercut_below(&rng, sizes[powercut_below(&rng, 7)]);
    unsigned char *p = malloc(n + 1);
    assert_non_null(p);
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(i % 8 ? p[i - 1] * 5u + 1 : powercut_random(&rng));
    *ret_n = n;
    return p;
}

static void put(struct ke_store_tx *tx, const char *bucket, int k, int t)
{
    char key[16];
    size_t n;
    unsigned char *p = model_value(t, k, &n);
    (void)snprintf(key, sizeof key, "%02d", k);
    assert_int_equal(ke_store_put(tx, bucket, key, "u", t, p, n), 0);
    free(p);
}

void model_fill(struct model *m, struct ke_store_tx *tx, uint64_t *rng, bool big)
{
    assert_true(m->n < MODEL_TXS);
    int t = ++m->n;
    short *now = m->state[t];
    memcpy(now, m->state[t - 1], sizeof m->state[0]);
    put(tx, "last", 0, t);
    int changes = big ? 12 : 1 + (int)powercut_below(rng, 4);
    for (int i = 0; i < changes; i++) {
        int k = (int)powercut_below(rng, MODEL_KEYS);
        char key[16];
        (void)snprintf(key, sizeof key, "%02d", k);
        if (powercut_below(rng, 5) == 0) {
            assert_int_equal(ke_store_delete(tx, "k", key, NULL), 0);
            now[k] = 0;
        } else {
            put(tx, "k", k, t);
            now[k] = (short)t;
        }
    }
    if (powercut_below(rng, 40) == 0) {
        assert_int_equal(ke_store_delete_prefix(tx, "k", "1"), 0);
        for (int k = 10; k < 20 && k < MODEL_KEYS; k++)
            now[k] = 0;
    }
}

void model_drop(struct model *m)
{
    m->n--;
}

int model_match(const struct model *m, const struct rows *rows, char why[200])
{
    short have[MODEL_KEYS] = {0};
    int last = 0;
    for (size_t i = 0; i < rows->n; i++) {
        const struct row *r = &rows->row[i];
        int k = atoi(r->key), t = (int)r->version;
        size_t n = 0;
        if (k < 0 || k >= MODEL_KEYS || t < 1 || t > m->n) {
            (void)snprintf(why, 200, "row %s/%s of transaction %d was never written", r->bucket,
                           r->key, t);
            return -1;
        }
        unsigned char *p = model_value(t, k, &n);
        bool same = n == r->len && !memcmp(p, r->value, n);
        free(p);
        if (!same) {
            (void)snprintf(why, 200, "row %s/%s of transaction %d has other bytes", r->bucket,
                           r->key, t);
            return -1;
        }
        if (!strcmp(r->bucket, "last"))
            last = t;
        else
            have[k] = (short)t;
    }
    for (int k = 0; k < MODEL_KEYS; k++) {
        if (have[k] != m->state[last][k]) {
            (void)snprintf(why, 200, "after transaction %d key %02d is of %d and not of %d", last,
                           k, have[k], m->state[last][k]);
            return -1;
        }
    }
    return last;
}
