/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the power-cut test knows: which transactions it made, and what the store holds after each.
 * A value is made of the number of its transaction and its key, so a row tells where it is from.
 */
#ifndef TESTS_STORE_POWERCUT_MODEL_H
#define TESTS_STORE_POWERCUT_MODEL_H

#include "sim/powercut_io.h"
#include "store/store_support.h"

#define MODEL_KEYS 24
#define MODEL_TXS 400

/* After transaction t: the transaction that wrote each key last, 0 if there is no such row. */
struct model {
    int n; /* transactions made */
    short state[MODEL_TXS + 1][MODEL_KEYS];
};

/* The value transaction t gives to key k; free it. */
unsigned char *model_value(int t, int k, size_t *ret_n);
/* Makes up transaction m->n + 1 and puts it into tx. big: many changes. */
void model_fill(struct model *m, struct ke_store_tx *tx, uint64_t *rng, bool big);
/* The last transaction is told to have failed: as if it had not been. */
void model_drop(struct model *m);
/*
 * Which state the rows are in: the number of the last transaction, or -1 with the reason in why
 * (rows that no sequence of whole transactions makes).
 */
int model_match(const struct model *m, const struct rows *rows, char why[200]);

#endif
