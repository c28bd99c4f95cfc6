/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Object flow, module `metamanager` (group `meta`): what arrives from the cloud is stored, then
 * acknowledged, then told; what the node's modules ask is answered from the store or from the cloud
 * and kept. Buckets and messages: lib/README.md. Loop thread.
 */
#ifndef KEI_META_META_H
#define KEI_META_META_H

#include <stdbool.h>

#include <kubeedge/router.h>
#include <kubeedge/store.h>

struct kei_meta_manager;

struct kei_meta_config {
    const char *node_name; /* copied */
    /* State of the link, asked whenever it matters; the three share user. */
    uint32_t (*dialect)(void *user); /* KE_DIALECT_* */
    bool (*connected)(void *user);
    void *user;
    uint32_t remote_ms; /* wait for an answer of the cloud; 0: 60000, 15000 in dialect 1.4 */
};

/*
 * Adds the module and begins to read what was applied before from the store; what comes meanwhile
 * waits. router and store must outlive it.
 */
int kei_meta_new(struct kei_meta_manager **ret, struct ke_ctx *ctx, struct ke_router *router,
                 struct ke_store *store, const struct kei_meta_config *c);
/* The newest version of an object of the cloud that was applied; -1 until the store is read. */
int64_t kei_meta_newest(const struct kei_meta_manager *m);
/* Requests under way are answered with an error. NULL is fine. Not from within a delivery of it. */
void kei_meta_free(struct kei_meta_manager *m);

#endif
