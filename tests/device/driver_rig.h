/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The harness's side of the driver table, small: calls a driver and keeps what it says. Stands in
 * for ke_device_complete, ke_device_report and ke_device_lost, so the harness itself is not linked.
 */
#ifndef TEST_DRIVER_RIG_H
#define TEST_DRIVER_RIG_H

#include "support/support.h"

#include <kubeedge/device.h>

#define RIG_PROPERTIES 64

struct rig_property {
    const char *visitor;
    uint32_t type;
};

struct rig {
    struct test_env env;
    const struct ke_device_ops *ops;
    void *user;
    uint64_t ops_made;
};

struct rig_value {
    struct ke_device_value v;
    char bytes[260]; /* what p points to */
    char text[400];
};

struct rig_device {
    struct rig *rig;
    struct ke_device_config config;
    struct ke_device_property properties[RIG_PROPERTIES];
    void *dev;
    bool is_open;
    uint64_t op;
    bool ended;
    int status;
    char text[600];
    struct rig_value values[RIG_PROPERTIES]; /* of the last read, or what a write refused */
    uint32_t n_values;
    struct rig_value reported[RIG_PROPERTIES]; /* by property */
    uint32_t reports;
    int lost; /* status told by ke_device_lost */
    char lost_text[600];
    uint32_t notes;
    char note[600];
    struct rig_device *next;
};

/* ops may have been made with e.ctx, so the environment comes first. */
void rig_init(struct rig *r, uint32_t flags);
void rig_driver(struct rig *r, const struct ke_device_ops *ops, void *user);
void rig_fini(struct rig *r); /* detaches; all devices are closed */

/* Each runs until the operation has ended; returns its status. */
int rig_open(struct rig *r, struct rig_device *d, const char *config, const struct rig_property *p,
             uint32_t n);
int rig_close(struct rig_device *d);
int rig_read(struct rig_device *d, const uint32_t *properties, uint32_t n);
int rig_read_all(struct rig_device *d);
int rig_write(struct rig_device *d, const struct ke_device_value *v, uint32_t n);
int rig_write_int(struct rig_device *d, uint32_t property, int64_t i);
int rig_write_text(struct rig_device *d, uint32_t property, const char *text);
int rig_health(struct rig_device *d);
int rig_subscribe(struct rig_device *d);
/* Only starts. 0, or what the driver returned. */
int rig_start_read(struct rig_device *d, const uint32_t *properties, uint32_t n);
bool rig_ended(void *device);

/* Value of the last read or refusal for that property; fails the test if there is none. */
const struct rig_value *rig_value(struct rig_device *d, uint32_t property);

#endif
