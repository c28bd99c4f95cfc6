/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What upper layers keep once per context: a pointer under a key, freed with the context. Owned by
 * the context. Loop thread.
 */
#include "base/ctx_priv.h"

struct slot {
    struct kei_link link;
    const void *key;
    void *p;
    void (*free_fn)(void *p);
};

static struct slot *find(const struct ke_ctx *ctx, const void *key)
{
    KEI_LIST_EACH(l, &ctx->slots)
    {
        struct slot *s = KEI_OF(l, struct slot, link);
        if (s->key == key)
            return s;
    }
    return NULL;
}

void *kei_ctx_slot_get(const struct ke_ctx *ctx, const void *key)
{
    struct slot *s = find(ctx, key);
    return s ? s->p : NULL;
}

int kei_ctx_slot_set(struct ke_ctx *ctx, const void *key, void *p, void (*free_fn)(void *p))
{
    if (find(ctx, key))
        return kei_fail(ctx, KE_EEXIST, "the context keeps something under this key already");
    struct slot *s = kei_zalloc(&ctx->alloc, sizeof *s);
    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for what the context keeps");
    *s = (struct slot){.key = key, .p = p, .free_fn = free_fn};
    kei_list_add_tail(&ctx->slots, &s->link);
    return 0;
}

void kei_slots_fini(struct ke_ctx *ctx)
{
    while (!kei_list_empty(&ctx->slots)) { /* the last first: it may use those before it */
        struct slot *s = KEI_OF(ctx->slots.prev, struct slot, link);
        kei_list_remove(&s->link);
        s->free_fn(s->p);
        kei_free(&ctx->alloc, s);
    }
}
