/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A harness between a scripted driver (protocol "fake") and stand-ins for the twin, the event bus
 * and the cloud's link. What the driver does with an operation is said beforehand, per kind.
 */
#ifndef TEST_DEVICE_HARNESS_H
#define TEST_DEVICE_HARNESS_H

#include "support/support.h"

#include <kubeedge/device.h>

#define FAKE_PROPS 32
#define FAKE_DEVS 8

enum fake_mode {
    FAKE_NOW,    /* completed within the call */
    FAKE_HANG,   /* not completed; the test may, with fake_end */
    FAKE_REFUSE, /* the call returns KE_ENOMEM */
    FAKE_TWICE,  /* completed two times */
    FAKE_FAIL,   /* completed with status */
    FAKE_THREAD, /* completed by another thread */
};

struct fake_dev {
    char name[64];
    uint64_t device, op; /* the last operation's */
    uint32_t n;
    double regs[FAKE_PROPS];
    char text[FAKE_PROPS][64];        /* of text properties, when not empty */
    int32_t prop_status[FAKE_PROPS];  /* of reads */
    int32_t write_status[FAKE_PROPS]; /* of writes */
    bool extra;                 /* property 1 is among the values although it is not asked for */
    bool leave_out[FAKE_PROPS]; /* not among the values */
    bool stuck[FAKE_PROPS];     /* a write changes nothing */
    struct ke_device_value wrote[FAKE_PROPS]; /* the last write's */
    uint32_t n_wrote;
    uint32_t last_read[FAKE_PROPS], n_last_read;
    char config[512], visitor0[256];
    uint64_t turn; /* of the loop, at the first read */
    int opens, closes, reads, writes, calls;
    bool is_open;
};

struct hrig {
    struct test_env env;
    struct ke_router *router;
    struct ke_module *twin, *bus, *cloud, *meta;
    struct ke_store *store;
    struct ke_devices *d;
    struct ke_devices_config c;
    struct fake_dev devs[FAKE_DEVS];
    uint32_t n_devs;
    enum fake_mode open, close, read, write, call, subscribe, health;
    int status; /* of FAKE_FAIL */
    bool no_subscribe, no_call;
    int64_t read_takes_ms;
    char method[64], args[128];
    /* the twin */
    bool twin_silent;
    const char *refuse_text;
    const char *refuse; /* updates that hold this text are refused */
    int updates, states, refusals;
    char update[2048], update_topic[256]; /* the last */
    char state[256];
    /* the event bus and the cloud */
    int published, uploaded;
    int pushed; /* requests of pushMethod mqtt; the last is in topic and push */
    char push[2048];
    bool bus_silent;
    const char *push_refuse; /* JSON text of an error, NULL: taken */
    char topic[256], payload[2048], upload_topic[256], upload[2048];
    /* the metamanager */
    const char *profile; /* JSON of the ConfigMap, NULL: none */
    int asked;
};

void hrig_init(struct hrig *r);
void hrig_start(struct hrig *r); /* makes the harness with r->c */
void hrig_stop(struct hrig *r);  /* frees it */
void hrig_fini(struct hrig *r);

void hrig_cloud(struct hrig *r); /* the module of the cloud's link, after it was removed */
void hrig_put(struct hrig *r, const char *json);
/* As the metamanager tells it. */
void hrig_tell(struct hrig *r, const char *operation, const char *resource, const char *content);
void hrig_keep(struct hrig *r, const char *bucket, const char *key, const char *json);
struct fake_dev *fake(struct hrig *r, const char *name);
/* Completes the last operation of name. */
int fake_end(struct hrig *r, const char *name, int status);

/* The device as ke_devices_list tells it; texts are copied. */
struct seen {
    struct ke_device_status s;
    struct ke_device_property_status p[FAKE_PROPS];
    char error[512], texts[FAKE_PROPS][4][128]; /* name, desired, reported, error */
    bool found;
};
void hrig_see(struct hrig *r, const char *name, struct seen *ret);

/* Models and devices, v1beta1. */
#define MODEL(props)                                                                               \
    "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"DeviceModel\",\"metadata\":{"      \
    "\"name\":\"m\",\"namespace\":\"default\"},\"spec\":{\"protocol\":\"fake\",\"properties\":"    \
    "[" props "]}}"
#define MP(name, type, access, rest)                                                               \
    "{\"name\":\"" name "\",\"type\":\"" type "\",\"accessMode\":\"" access "\"" rest "}"
#define DEVICE(name, props)                                                                        \
    "{\"apiVersion\":\"devices.kubeedge.io/"                                                       \
    "v1beta1\",\"kind\":\"Device\",\"metadata\":{\"name\":\"" name                                 \
    "\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},"                 \
    "\"nodeName\":\"edge-1\",\"protocol\":{\"protocolName\":\"Fake\",\"configData\":{"             \
    "\"ip\":\"10.0.0.9\"}},\"properties\":[" props "]}}"
/* a property that is reported; collect and report every 1,000 ms */
#define DP(name, rest)                                                                             \
    "{\"name\":\"" name                                                                            \
    "\",\"collectCycle\":1000,\"reportCycle\":1000,\"reportToCloud\":true" rest "}"

#endif
