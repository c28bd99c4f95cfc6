/* SPDX-License-Identifier: Apache-2.0 */
/* The driver for devices that speak JSON over MQTT: a table for the harness, its user pointer. */
#ifndef KEI_DEVICE_JSON_H
#define KEI_DEVICE_JSON_H

#include <kubeedge/drivers.h>

#define KEI_JSON_MODULE "mqttjson" /* on the router: what the event bus sends messages to */

struct kei_json_driver;

/* Adds its module to the router, which outlives it. detach of the table frees it. KE_EEXIST,
 * KE_ENOMEM */
int kei_json_driver_new(struct kei_json_driver **ret, struct ke_ctx *ctx, struct ke_router *router);
void kei_json_driver_free(struct kei_json_driver *j); /* only if it was never attached */
extern const struct ke_device_ops kei_json_driver_ops;

#endif
