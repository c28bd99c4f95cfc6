/* SPDX-License-Identifier: Apache-2.0 */
/* Registers the drivers of this folder; each is freed by its detach. Loop thread. */
#include <kubeedge/drivers.h>

#include "device/devices_priv.h"
#include "device/gpio.h"
#include "device/json.h"
#include "device/modbus.h"

int ke_device_modbus_register(struct ke_devices *d, const struct ke_modbus_config *c)
{
    struct kei_modbus *m = NULL;

    if (!d)
        return KE_EINVAL;
    int r = kei_modbus_new(&m, d->ctx, c);
    if (r < 0)
        return r;
    r = ke_device_driver_register(d, "modbus", &kei_modbus_ops, m);
    if (r < 0)
        kei_modbus_free(m);
    return r;
}

int ke_device_gpio_register(struct ke_devices *d, const struct ke_gpio_config *c)
{
    struct kei_gpio *g = NULL;

    if (!d)
        return KE_EINVAL;
    int r = kei_gpio_new(&g, d->ctx, c, NULL);
    if (r < 0)
        return r;
    r = ke_device_driver_register(d, "gpio", &kei_gpio_ops, g);
    if (r < 0)
        kei_gpio_free(g);
    return r;
}

int ke_device_json_register(struct ke_devices *d)
{
    struct kei_json_driver *j = NULL;

    if (!d)
        return KE_EINVAL;
    if (!d->c.router)
        return kei_fail(d->ctx, KE_ESTATE,
                        "devices on MQTT need a router with an event bus, and there is none");
    int r = kei_json_driver_new(&j, d->ctx, d->c.router);
    if (r < 0)
        return r;
    r = ke_device_driver_register(d, "mqtt-json", &kei_json_driver_ops, j);
    if (r < 0)
        kei_json_driver_free(j);
    return r;
}
