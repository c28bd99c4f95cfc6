/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For which node a certificate speaks. One of the new form bears the node's name. Those of nodes up
 * to 1.15 all bear the same one: each is bound, by its public key, to the node it was made for, or,
 * when it is older than these notes, to the first it is used for. The notes stand in the bucket
 * "legacy" of the store (key, node, end of the certificate) and all of them in memory, which is
 * owned here. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"
#include "cloud/cloud_priv.h"

#define BUCKET "legacy"
#define PER_NODE 16 /* notes kept for each of max_nodes: a renewal a year makes one */

struct kei_binding {
    int64_t until; /* Unix seconds: the certificate ends */
    bool durable;
    char node[];
};

/* A note on its way to the disk. */
struct writing {
    struct ke_cloud *cloud;
    uint8_t key[KEI_BIND_MAX][32];
    size_t n;
    void (*done)(void *user, int status);
    void *user;
};

static struct ke_str key_str(const uint8_t key[32])
{
    return kei_strn((const char *)key, 32);
}

static bool loaded(const struct ke_cloud *c, struct ke_error *err)
{
    if (c->state == KEI_CLOUD_LOADED)
        return true;
    (void)kei_error(err, KE_EAGAIN, "the cloud is starting");
    return false;
}

bool kei_is_legacy(const char *cn, const char *org)
{
    return strcmp(cn, KEI_LEGACY_CN) == 0 &&
           (strcmp(org, "kubeEdge") == 0 || strcmp(org, "KubeEdge") == 0);
}

bool kei_is_of_node(const char *cn, const char *org, const char *node)
{
    size_t n = strlen(KEI_NODE_CN);
    return strncmp(cn, KEI_NODE_CN, n) == 0 && strcmp(cn + n, node) == 0 &&
           strcmp(org, "system:nodes") == 0;
}

int kei_identity_of(struct kei_identity *ret, const struct kei_cert *cert, struct ke_error *err)
{
    struct kei_cert_info info;
    int r = kei_cert_info(cert, &info, err);
    if (r < 0)
        return r;
    memset(ret, 0, sizeof *ret);
    ret->legacy = kei_is_legacy(info.cn, info.org);
    ret->until = info.not_after;
    memcpy(ret->digest, info.sha256, 32);
    return kei_cert_key_sha256(cert, ret->key, err);
}

int kei_identity_check(struct ke_cloud *c, const struct kei_cert *cert, const char *node,
                       struct kei_identity *ret, struct ke_error *err)
{
    struct kei_cert_info info;
    const struct kei_binding *b;
    int r = kei_identity_of(ret, cert, err);
    if (r == 0)
        r = kei_cert_info(cert, &info, err);
    if (r < 0)
        return r;
    if (!ret->legacy)
        return kei_is_of_node(info.cn, info.org, node)
                   ? 0
                   : kei_error(err, KE_EREFUSED,
                               "certificate of %s (O=%s) does not speak for node %s", info.cn,
                               info.org, node);
    if (!loaded(c, err))
        return KE_EAGAIN;
    b = kei_map_get(&c->bindings, key_str(ret->key));
    if (b && strcmp(b->node, node) != 0)
        return kei_error(err, KE_EREFUSED,
                         "certificate of %s is that of node %s, it does not speak for node %s; to "
                         "give the node another name let it join again with a token",
                         info.cn, b->node, node);
    return 0;
}

/* ---- notes ---- */

static void drop_ended(struct ke_cloud *c)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&c->bindings, &it, &key, &value);) {
        struct kei_binding *b = value;
        if (b->until >= ke_ctx_real_ms(c->ctx) / 1000)
            continue;
        (void)kei_map_remove(&c->bindings, key); /* its row goes at the next start */
        kei_free(kei_ctx_alloc(c->ctx), b);
    }
}

static int binding_make(struct ke_cloud *c, const uint8_t key[32], struct ke_str node,
                        int64_t until, bool durable)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct kei_binding *b = kei_zalloc(a, sizeof *b + node.n + 1);
    void *old = NULL;
    if (!b || kei_map_put(&c->bindings, key_str(key), b, &old) < 0) {
        kei_free(a, b);
        return KE_ENOMEM;
    }
    kei_free(a, old);
    b->until = until;
    b->durable = durable;
    memcpy(b->node, node.p, node.n);
    return 0;
}

/* In memory at once, so that nobody else gets it meanwhile. 1: durable already */
static int note(struct ke_cloud *c, const struct kei_identity *id, const char *node,
                struct ke_error *err)
{
    const struct kei_binding *b = kei_map_get(&c->bindings, key_str(id->key));
    size_t max = (size_t)c->config.max_nodes * PER_NODE;
    if (b && strcmp(b->node, node) != 0)
        return kei_error(err, KE_EREFUSED,
                         "the key of this certificate is that of node %s; node %s needs another",
                         b->node, node);
    if (b)
        return b->durable;
    if (c->bindings.n >= max)
        drop_ended(c);
    if (c->bindings.n >= max)
        return kei_error(err, KE_ELIMIT,
                         "over %zu certificates of the form up to 1.15 are valid, %d for each of "
                         "max_nodes (%u): no more are taken",
                         max, PER_NODE, (unsigned)c->config.max_nodes);
    if (binding_make(c, id->key, kei_str(node), id->until, false) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for the certificate of node %s", node);
    return 0;
}

static void on_written(void *user, int status)
{
    struct writing *at = user;
    struct writing w = *at;
    kei_free(kei_ctx_alloc(w.cloud->ctx), at);
    for (size_t i = 0; status == 0 && i < w.n; i++) {
        struct kei_binding *b = kei_map_get(&w.cloud->bindings, key_str(w.key[i]));
        if (b)
            b->durable = true;
    }
    if (status < 0 && status != KE_ECANCELED)
        kei_log(w.cloud->ctx, KE_LOG_ERROR, "cloud",
                "it was not stored whose a certificate is: %s; the node has to ask again",
                ke_ctx_error(w.cloud->ctx));
    w.done(w.user, status);
}

static int put_rows(struct ke_cloud *c, struct writing *w)
{
    struct ke_store_tx *tx = NULL;
    char hex[65];
    int r = ke_store_begin(&tx, c->store);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < w->n; i++) {
        const struct kei_binding *b = kei_map_get(&c->bindings, key_str(w->key[i]));
        kei_hex_encode(hex, w->key[i], 32);
        r = ke_store_put(tx, BUCKET, hex, NULL, b->until, b->node, strlen(b->node));
    }
    if (r == 0)
        return ke_store_commit(tx, on_written, w);
    ke_store_abort(tx);
    return r;
}

int kei_identity_bind(struct ke_cloud *c, const struct kei_identity *const *ids, size_t n,
                      const char *node, void (*done)(void *user, int status), void *user,
                      struct ke_error *err)
{
    struct writing *w = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *w);
    int r = w ? 1 : kei_error(err, KE_ENOMEM, "out of memory for node %s", node);
    if (w)
        *w = (struct writing){.cloud = c, .done = done, .user = user};
    for (size_t i = 0; r >= 0 && i < n; i++) {
        if (!ids[i]->legacy)
            continue;
        if (!loaded(c, err))
            r = KE_EAGAIN;
        else
            r = note(c, ids[i], node, err);
        if (r == 0)
            memcpy(w->key[w->n++], ids[i]->key, 32);
    }
    if (r >= 0 && w->n > 0) {
        r = put_rows(c, w);
        if (r == 0)
            return 0;
        kei_error(err, r, "%s", ke_ctx_error(c->ctx));
    }
    kei_free(kei_ctx_alloc(c->ctx), w);
    return r;
}

/* ---- start and end ---- */

static void load_row(struct ke_cloud *c, const struct ke_store_item *item)
{
    uint8_t key[32];
    struct ke_str node = {item->value, item->len};
    if (!kei_hex_decode(key, sizeof key, kei_str(item->key)) || node.n == 0 ||
        node.n > KEI_NODE_NAME_MAX) {
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "row %s/%s of the store is no certificate's",
                item->bucket, item->key);
    } else if (item->version < ke_ctx_real_ms(c->ctx) / 1000) {
        kei_row_drop(c, item);
    } else if (binding_make(c, key, node, item->version, true) < 0) {
        c->bindings_status = KE_ENOMEM;
    }
}

static void on_item(void *user, int status, const struct ke_store_item *item)
{
    struct ke_cloud *c = user;
    if (item) {
        load_row(c, item);
        return;
    }
    if (status < 0)
        c->bindings_status = status;
    c->bindings_done(c, c->bindings_status);
}

int kei_identity_load(struct ke_cloud *c, void (*done)(struct ke_cloud *c, int status))
{
    c->bindings_status = 0;
    c->bindings_done = done;
    return ke_store_list(c->store, BUCKET, "", 0, on_item, c);
}

void kei_identity_free(struct ke_cloud *c)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&c->bindings, &it, &key, &value);)
        kei_free(kei_ctx_alloc(c->ctx), value);
    kei_map_free(&c->bindings);
}
