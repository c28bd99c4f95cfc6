/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for the drivers in a library built without devices. */
#include <kubeedge/drivers.h>

#include "base/error.h"

void ke_modbus_config_init(struct ke_modbus_config *c, size_t size)
{
    kei_abi_init(c, size);
}

void ke_gpio_config_init(struct ke_gpio_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int ke_device_modbus_register(struct ke_devices *d, const struct ke_modbus_config *c)
{
    (void)d, (void)c;
    return KE_ENOTSUP;
}

int ke_device_gpio_register(struct ke_devices *d, const struct ke_gpio_config *c)
{
    (void)d, (void)c;
    return KE_ENOTSUP;
}

int ke_device_json_register(struct ke_devices *d)
{
    (void)d;
    return KE_ENOTSUP;
}
