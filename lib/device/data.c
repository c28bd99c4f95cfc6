/* SPDX-License-Identifier: Apache-2.0 */
#include "device/devices_priv.h"
void kei_dv_data_batch(struct dev *dev, int64_t now_real)
{
    (void)dev, (void)now_real;
}
void kei_dv_data_value(struct dev *dev, uint32_t prop)
{
    (void)dev, (void)prop;
}
void kei_dv_data_configure(struct dev *dev)
{
    (void)dev;
}
void kei_dv_data_free(struct dev *dev)
{
    (void)dev;
}
int64_t kei_dv_data_due(const struct dev *dev)
{
    (void)dev;
    return INT64_MAX;
}
void kei_dv_data_tick(struct dev *dev, int64_t now)
{
    (void)dev, (void)now;
}
void kei_dv_data_save(struct ke_devices *d)
{
    (void)d;
}
void kei_dv_data_saved(struct ke_devices *d, const char *key, struct ke_str json)
{
    (void)d, (void)key, (void)json;
}
