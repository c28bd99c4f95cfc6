/* SPDX-License-Identifier: Apache-2.0 */
/* What `ke-node devices` prints. */
#ifndef NODE_DEVICES_H
#define NODE_DEVICES_H

#include <stdio.h>

#include <kubeedge/node.h>

/* A line per device, and one per property of it; d NULL: the node has none. Values of devices that
 * mappers serve come from the twin. Loop. */
void print_devices(struct ke_devices *d, struct ke_twin *twin, FILE *out);
/* A line per mapper, unless none can register. */
void print_mappers(struct ke_node *n, FILE *out);
/* The line of `ke-node status`. */
void print_mapper_count(struct ke_node *n, FILE *out);

#endif
