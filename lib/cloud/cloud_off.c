/* SPDX-License-Identifier: Apache-2.0 */
/* Built without the cloud end: the same symbols, which say so. */
#include <string.h>

#include <kubeedge/cloud.h>

#include "base/error.h"

static int off(struct ke_ctx *ctx)
{
    return ctx ? kei_fail(ctx, KE_ENOTSUP, "this library was built without the cloud end")
               : KE_ENOTSUP;
}

void ke_cloud_config_init(struct ke_cloud_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int ke_cloud_new(struct ke_cloud **ret, struct ke_ctx *ctx, const struct ke_cloud_config *c,
                 const struct ke_cloud_ops *ops, void *user)
{
    (void)ret, (void)c, (void)ops, (void)user;
    return off(ctx);
}

int ke_cloud_start(struct ke_cloud *c)
{
    (void)c;
    return KE_ENOTSUP;
}

void ke_cloud_stop(struct ke_cloud *c)
{
    (void)c;
}

void ke_cloud_free(struct ke_cloud *c)
{
    (void)c;
}

int ke_cloud_token(struct ke_cloud *c, struct ke_buf *out)
{
    (void)c, (void)out;
    return KE_ENOTSUP;
}

int ke_cloud_ports(struct ke_cloud *c, uint32_t *ret_tunnel, uint32_t *ret_cert)
{
    (void)c, (void)ret_tunnel, (void)ret_cert;
    return KE_ENOTSUP;
}

int ke_cloud_nodes(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_node_info *n),
                   void *user)
{
    (void)c, (void)fn, (void)user;
    return KE_ENOTSUP;
}

int ke_cloud_devices(struct ke_cloud *c,
                     void (*fn)(void *user, const struct ke_cloud_device_info *d), void *user)
{
    (void)c, (void)fn, (void)user;
    return KE_ENOTSUP;
}

int ke_cloud_pods(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_pod_info *p),
                  void *user)
{
    (void)c, (void)fn, (void)user;
    return KE_ENOTSUP;
}
