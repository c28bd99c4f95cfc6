/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that a test can talk to one call after the other: each waits for its callback. Rows come
 * as one sorted array of copies, freed with rows_free.
 */
#ifndef TESTS_STORE_STORE_SUPPORT_H
#define TESTS_STORE_STORE_SUPPORT_H

#include <kubeedge/store.h>

#include "support/support.h"

struct salvaged {
    int calls;
    uint64_t saved, lost;
    char text[KE_ERROR_TEXT_MAX];
};

struct kv {
    struct ke_ctx *ctx;
    struct ke_store *s;
    struct ke_store_config conf; /* set before kv_open; kv_init fills it */
    struct salvaged salvaged;
};

void kv_init(struct kv *kv, struct ke_ctx *ctx, const char *folder);
int kv_open(struct kv *kv);
void kv_close(struct kv *kv);

/* One row in one transaction; the commit's status. */
int kv_put(struct kv *kv, const char *bucket, const char *key, const char *value);
int kv_put_bytes(struct kv *kv, const char *bucket, const char *key, const void *value, size_t len);
int kv_delete(struct kv *kv, const char *bucket, const char *key);
/* KE_ENOTFOUND and so on; the value as a string to free. */
int kv_get(struct kv *kv, const char *bucket, const char *key, char **ret);
/* Commits and waits. */
int kv_commit(struct kv *kv, struct ke_store_tx *tx);
void kv_turn(struct kv *kv);              /* waits for something to do, does it */
void kv_until(struct kv *kv, bool *flag); /* turns until it is set */

struct row {
    char *bucket, *key, *uid, *value;
    int64_t version;
    size_t len;
};
struct rows {
    struct row *row;
    size_t n;
    int status;
};
void kv_list(struct kv *kv, const char *bucket, const char *prefix, uint32_t limit,
             struct rows *ret);
void rows_free(struct rows *r);
const struct row *rows_find(const struct rows *r, const char *bucket, const char *key);

#endif
