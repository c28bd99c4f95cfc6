/* SPDX-License-Identifier: Apache-2.0 */
/* What `ke-node devices` prints. */
#ifndef NODE_DEVICES_H
#define NODE_DEVICES_H

#include <stdio.h>

#include <kubeedge/device.h>

/* A line per device, and one per property of it. d NULL: the node has none. Loop. */
void print_devices(struct ke_devices *d, FILE *out);

#endif
