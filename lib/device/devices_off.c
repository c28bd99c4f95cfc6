/* SPDX-License-Identifier: Apache-2.0 */
/* Built without devices: the same symbols, which say so. */
#include <kubeedge/device.h>

#include "base/error.h"
#include "device/foreign.h"

static const char off[] = "this library was built without devices";

int ke_device_complete(struct ke_devices *d, uint64_t op, int status,
                       const struct ke_device_result *r)
{
    (void)d, (void)op, (void)status, (void)r;
    return KE_ENOTSUP;
}

int ke_device_report(struct ke_devices *d, uint64_t device, const struct ke_device_value *v,
                     uint32_t n)
{
    (void)d, (void)device, (void)v, (void)n;
    return KE_ENOTSUP;
}

int ke_device_lost(struct ke_devices *d, uint64_t device, int status, const char *text)
{
    (void)d, (void)device, (void)status, (void)text;
    return KE_ENOTSUP;
}

int ke_device_config_i64(const char *json, size_t n, const char *path, int64_t *ret)
{
    (void)json, (void)n, (void)path, (void)ret;
    return KE_ENOTSUP;
}

int ke_device_config_f64(const char *json, size_t n, const char *path, double *ret)
{
    (void)json, (void)n, (void)path, (void)ret;
    return KE_ENOTSUP;
}

int ke_device_config_bool(const char *json, size_t n, const char *path, uint32_t *ret)
{
    (void)json, (void)n, (void)path, (void)ret;
    return KE_ENOTSUP;
}

int ke_device_config_str(const char *json, size_t n, const char *path, char *out, size_t cap)
{
    (void)json, (void)n, (void)path, (void)out, (void)cap;
    return KE_ENOTSUP;
}

void ke_devices_config_init(struct ke_devices_config *c, size_t size)
{
    (void)kei_abi_init(c, size);
}

int ke_devices_new(struct ke_devices **ret, struct ke_ctx *ctx, const struct ke_devices_config *c)
{
    (void)ret, (void)c;
    return ctx ? kei_fail(ctx, KE_ENOTSUP, "%s", off) : KE_ENOTSUP;
}

void ke_devices_free(struct ke_devices *d)
{
    (void)d;
}

int ke_device_driver_register(struct ke_devices *d, const char *protocol,
                              const struct ke_device_ops *ops, void *user)
{
    (void)d, (void)protocol, (void)ops, (void)user;
    return KE_ENOTSUP;
}

int ke_device_driver_unregister(struct ke_devices *d, const char *protocol)
{
    (void)d, (void)protocol;
    return KE_ENOTSUP;
}

int ke_device_sim_register(struct ke_devices *d)
{
    (void)d;
    return KE_ENOTSUP;
}

int ke_devices_put(struct ke_devices *d, const char *json, size_t n)
{
    (void)d, (void)json, (void)n;
    return KE_ENOTSUP;
}

int ke_devices_remove(struct ke_devices *d, const char *kind, const char *ns, const char *name)
{
    (void)d, (void)kind, (void)ns, (void)name;
    return KE_ENOTSUP;
}

int ke_devices_process(struct ke_devices *d, const char *ns, const char *name, const char *json,
                       size_t n)
{
    (void)d, (void)ns, (void)name, (void)json, (void)n;
    return KE_ENOTSUP;
}

int ke_devices_reported(struct ke_devices *d, uint64_t report, int status)
{
    (void)d, (void)report, (void)status;
    return KE_ENOTSUP;
}

int ke_devices_set(struct ke_devices *d, const char *ns, const char *name, const char *property,
                   const char *value, ke_device_done_fn fn, void *user)
{
    (void)d, (void)ns, (void)name, (void)property, (void)value, (void)fn, (void)user;
    return KE_ENOTSUP;
}

int ke_devices_call(struct ke_devices *d, const char *ns, const char *name, const char *method,
                    const char *args, size_t args_len, ke_device_done_fn fn, void *user)
{
    (void)d, (void)ns, (void)name, (void)method, (void)args, (void)args_len, (void)fn, (void)user;
    return KE_ENOTSUP;
}

void kei_devices_foreign(struct ke_devices *d, kei_foreign_fn fn, void *user)
{
    (void)d, (void)fn, (void)user;
}

void kei_devices_foreign_changed(struct ke_devices *d)
{
    (void)d;
}

void kei_devices_yielding(struct ke_devices *d, const char *protocol)
{
    (void)d, (void)protocol;
}

bool kei_devices_insist(struct ke_devices *d, const char *protocol)
{
    (void)d, (void)protocol;
    return false;
}

int ke_devices_list(struct ke_devices *d, ke_devices_list_fn fn, void *user)
{
    (void)d, (void)fn, (void)user;
    return KE_ENOTSUP;
}

int ke_devices_get_stats(struct ke_devices *d, struct ke_devices_stats *ret, size_t size)
{
    (void)d, (void)ret, (void)size;
    return KE_ENOTSUP;
}
