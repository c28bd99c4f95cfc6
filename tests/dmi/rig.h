/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's end of DMI between a store in memory (or in a folder), a router whose module
 * `devicetwin` records and answers, and mappers.
 */
#ifndef TESTS_DMI_RIG_H
#define TESTS_DMI_RIG_H

#include <kubeedge/router.h>
#include <kubeedge/store.h>
#include <kubeedge/twin.h>

#include "dmi/dmi.h"
#include "support/support.h"

#define MODEL_OBJECT                                                                               \
    "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"DeviceModel\",\"metadata\":{"      \
    "\"name\":\"thermo-model\",\"namespace\":\"default\"},\"spec\":{\"protocol\":\"modbus\","      \
    "\"properties\":[{\"name\":\"temperature\",\"description\":\"current temperature\",\"type\":"  \
    "\"INT\",\"accessMode\":\"ReadWrite\",\"maximum\":\"100\",\"unit\":\"degree celsius\"},{"      \
    "\"name\":\"enable\",\"type\":\"STRING\",\"accessMode\":\"ReadOnly\"}]}}"

struct dmi_rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_module *twin;
    bool real_twin; /* ke_twin in its place */
    struct ke_twin *t;
    struct kei_dmi *dmi;
    struct kei_dmi_config c;
    char dir[80], socket[100], mapper_socket[100];
    /* what the twin was told last, and how often */
    int reports;
    char topic[300], payload[2000];
    const char *refuse; /* the twin answers with this error */
    bool mute;          /* it does not answer */
};

void dmi_init(struct dmi_rig *r, uint32_t flags); /* TEST_* */
void dmi_start(struct dmi_rig *r);                /* r->c may have been changed before */
void dmi_stop(struct dmi_rig *r);
void dmi_restart(struct dmi_rig *r); /* of the node: all but the store's content is forgotten */
void dmi_fini(struct dmi_rig *r);

/* A device of thermo-model. desired: of property temperature */
void dmi_device(char *out, size_t n, const char *name, const char *protocol, const char *desired);
/* What meta does: into the store, then to the group. json NULL: deleted */
void dmi_object(struct dmi_rig *r, const char *resource, const char *operation, const char *json);

struct dmi_seen {
    int n;
    struct kei_dmi_mapper_info last; /* strings are copies */
    char name[100], protocol[100], address[120], error[300];
};
void dmi_look(struct dmi_rig *r, struct dmi_seen *s);

#endif
