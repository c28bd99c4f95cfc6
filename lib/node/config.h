/* SPDX-License-Identifier: Apache-2.0 */
/* The node's configuration: checked, defaulted and copied. Pure. */
#ifndef KEI_NODE_CONFIG_H
#define KEI_NODE_CONFIG_H

#include <kubeedge/node.h>

#include "base/arena.h"
#include "base/error.h"

/* Copies from into *to, strings and arrays into the arena. KE_EINVAL names the member, KE_EABI. */
int kei_node_config_copy(struct ke_node_config *to, struct kei_arena *a,
                         const struct ke_node_config *from, struct ke_error *err);
/* ADDRESS:PORT, [::1]:PORT too; false: it is not. */
bool kei_node_mqtt_address(const char *text, char *ret_host, size_t n, uint16_t *ret_port);

#endif
