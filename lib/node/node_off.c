/* SPDX-License-Identifier: Apache-2.0 */
/* Built without the node: the same symbols, which say so. */
#include <string.h>

#include <kubeedge/node.h>

#include "base/error.h"

static int off(struct ke_ctx *ctx)
{
    return ctx ? kei_fail(ctx, KE_ENOTSUP, "this library was built without the node") : KE_ENOTSUP;
}

void ke_node_config_init(struct ke_node_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int ke_node_settings_read(struct ke_node_settings **ret, struct ke_ctx *ctx, const char *path,
                          void (*unknown)(void *user, const char *key, uint32_t line), void *user)
{
    (void)ret, (void)path, (void)unknown, (void)user;
    return off(ctx);
}

struct ke_node_config *ke_node_settings_config(struct ke_node_settings *s)
{
    (void)s;
    return NULL;
}

void ke_node_settings_free(struct ke_node_settings *s)
{
    (void)s;
}

int ke_node_new(struct ke_node **ret, struct ke_ctx *ctx, const struct ke_node_config *c,
                const struct ke_node_ops *ops, void *user)
{
    (void)ret, (void)c, (void)ops, (void)user;
    return off(ctx);
}

int ke_node_start(struct ke_node *n)
{
    (void)n;
    return KE_ENOTSUP;
}

void ke_node_stop(struct ke_node *n)
{
    (void)n;
}

void ke_node_free(struct ke_node *n)
{
    (void)n;
}

int ke_node_state(struct ke_node *n, struct ke_node_status *ret, size_t size)
{
    (void)n, (void)ret, (void)size;
    return KE_ENOTSUP;
}

int ke_node_mappers(struct ke_node *n, void (*fn)(void *user, const struct ke_node_mapper_info *m),
                    void *user, struct ke_error *reterr)
{
    (void)n, (void)fn, (void)user;
    return kei_error(reterr, KE_ENOTSUP, "this library was built without a node");
}

int ke_node_pods(struct ke_node *n, void (*fn)(void *user, const struct ke_pod_info *p), void *user)
{
    (void)n, (void)fn, (void)user;
    return KE_ENOTSUP;
}
