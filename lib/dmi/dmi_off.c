/* SPDX-License-Identifier: Apache-2.0 */
/* Built without DMI: the same symbols, which say so. */
#include <kubeedge/mapper.h>

#include "base/error.h"
#include "dmi/dmi.h"

static int off(struct ke_ctx *ctx)
{
    return ctx ? kei_fail(ctx, KE_ENOTSUP, "this library was built without DMI") : KE_ENOTSUP;
}

int kei_dmi_new(struct kei_dmi **ret, struct ke_ctx *ctx, const struct kei_dmi_config *c)
{
    (void)ret, (void)c;
    return off(ctx);
}

void kei_dmi_free(struct kei_dmi *d)
{
    (void)d;
}

void kei_dmi_mappers(struct kei_dmi *d, void (*fn)(void *user, const struct kei_dmi_mapper_info *m),
                     void *user)
{
    (void)d, (void)fn, (void)user;
}

int kei_dmi_listening(const struct kei_dmi *d)
{
    (void)d;
    return KE_ENOTSUP;
}

int kei_dmi_serves(struct kei_dmi *d, const char *protocol, const char *ns, const char *name,
                   struct kei_dmi_served *ret)
{
    (void)d, (void)protocol, (void)ns, (void)name, (void)ret;
    return 0;
}

void ke_mapper_config_init(struct ke_mapper_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int ke_mapper_new(struct ke_mapper **ret, struct ke_ctx *ctx, const struct ke_mapper_config *c)
{
    (void)ret, (void)c;
    return off(ctx);
}

int ke_mapper_settings_read(struct ke_mapper_settings **ret, struct ke_ctx *ctx, const char *path,
                            void (*unknown)(void *user, const char *key, uint32_t line), void *user)
{
    (void)ret, (void)path, (void)unknown, (void)user;
    return off(ctx);
}

struct ke_mapper_config *ke_mapper_settings_config(struct ke_mapper_settings *s)
{
    (void)s;
    return NULL;
}

void ke_mapper_settings_free(struct ke_mapper_settings *s)
{
    (void)s;
}

struct ke_devices *ke_mapper_devices(struct ke_mapper *m)
{
    (void)m;
    return NULL;
}

int ke_mapper_start(struct ke_mapper *m)
{
    (void)m;
    return KE_ENOTSUP;
}

void ke_mapper_free(struct ke_mapper *m)
{
    (void)m;
}

int ke_mapper_status(struct ke_mapper *m, struct ke_mapper_status *ret, size_t size)
{
    (void)m, (void)ret, (void)size;
    return KE_ENOTSUP;
}
