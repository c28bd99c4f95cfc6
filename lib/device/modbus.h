/* SPDX-License-Identifier: Apache-2.0 */
/* The Modbus driver: a table for the harness, and its user pointer. Loop thread. */
#ifndef KEI_DEVICE_MODBUS_H
#define KEI_DEVICE_MODBUS_H

#include <kubeedge/drivers.h>

struct kei_modbus;

/* c may be NULL. detach of the table frees it. KE_EABI, KE_ENOMEM */
int kei_modbus_new(struct kei_modbus **ret, struct ke_ctx *ctx, const struct ke_modbus_config *c);
void kei_modbus_free(struct kei_modbus *m); /* only if it was never attached; NULL is fine */
extern const struct ke_device_ops kei_modbus_ops;

#endif
