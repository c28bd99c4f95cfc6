/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libkubeedge: KubeEdge as an embeddable library. Includes every stable header.
 *
 * Start with ctx.h (who owns what, how to drive it), then node.h. Each of store.h, router.h and
 * tunnel.h is usable without the others. sys/ holds the tables for back-end writers.
 *
 * Caveats, all of them by design:
 *  - structs that cross the boundary start with their size: set it (the _init calls do);
 *  - unknown bytes at the end of a struct must be zero, else KE_EABI;
 *  - a callback may call the library, but must not block.
 */
#ifndef KUBEEDGE_H
#define KUBEEDGE_H

#include <kubeedge/bridge.h>
#include <kubeedge/cloud.h>
#include <kubeedge/ctx.h>
#include <kubeedge/device.h>
#include <kubeedge/drivers.h>
#include <kubeedge/err.h>
#include <kubeedge/eventbus.h>
#include <kubeedge/log.h>
#include <kubeedge/mapper.h>
#include <kubeedge/mqtt.h>
#include <kubeedge/msg.h>
#include <kubeedge/node.h>
#include <kubeedge/router.h>
#include <kubeedge/runtime.h>
#include <kubeedge/store.h>
#include <kubeedge/tunnel.h>
#include <kubeedge/twin.h>
#include <kubeedge/version.h>

#endif
