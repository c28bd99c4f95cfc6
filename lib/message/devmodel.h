/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device and DeviceModel of both APIs (v1alpha2, v1beta1) and KubeEdge 1.4's deviceProfile.json,
 * read from raw JSON into one pair of structs. Pure. Strings and arrays are the arena's; spans
 * (struct ke_str) point into the source text or the arena, so the source must live as long.
 * Objects must have been accepted by kei_json_check before; the profile is checked here. Errors are
 * KE_EPARSE and name the field, KE_ELIMIT, KE_ENOMEM. Any thread.
 */
#ifndef KEI_MESSAGE_DEVMODEL_H
#define KEI_MESSAGE_DEVMODEL_H

#include "base/json.h"
#include "message/k8s.h"

#define KEI_DEVICE_PROPERTIES_MAX 4096u
#define KEI_DEVICE_METHODS_MAX 1024u
#define KEI_DEVICE_PROFILE_MAX 65536u /* instances, models, protocols */

enum kei_device_api {
    KEI_DEVICE_V1ALPHA2 = 1,
    KEI_DEVICE_V1BETA1,
};

/* In the order of KE_DEVICE_INT ... of kubeedge/device.h */
enum kei_prop_type {
    KEI_PROP_NONE, /* not given, or one that is not known */
    KEI_PROP_INT,
    KEI_PROP_FLOAT,
    KEI_PROP_DOUBLE,
    KEI_PROP_BOOLEAN,
    KEI_PROP_STRING,
    KEI_PROP_BYTES,
    KEI_PROP_STREAM,
};

/* {value, metadata}. Absent: value NULL. */
struct kei_twin_value {
    const char *value;
    const char *type;       /* metadata.type; "" if absent */
    struct ke_str metadata; /* raw object, or empty */
};

/* A property of a model. */
struct kei_model_prop {
    const char *name;
    const char *description; /* "" if absent, as all below */
    const char *unit;
    const char *type_text; /* as in the object: "INT", "int"; STREAM's own */
    const char *minimum;   /* as text in both APIs; "" : no limit */
    const char *maximum;
    const char *dflt; /* v1alpha2 defaultValue as text */
    enum kei_prop_type type;
    bool read_only;        /* accessMode ReadOnly; anything else may be written */
    bool has_min, has_max; /* the numbers below count */
    double min, max;
    const char *visitor_protocol; /* 1.22 and later: defaults of the instances' visitors */
    struct ke_str visitor_config; /* raw object, or empty */
};

struct kei_device_model {
    enum kei_device_api api;
    struct kei_meta meta;
    const char *protocol;          /* "" in v1alpha2 */
    struct ke_str protocol_config; /* protocolConfigData: defaults; raw object, or empty */
    struct kei_model_prop *props;
    uint32_t n_props;
};

/* pushMethod; strings "" and numbers 0 when absent. */
struct kei_push_method {
    struct ke_str raw; /* the whole object; empty: none */
    const char *http_host, *http_path;
    int64_t http_port, http_timeout;
    const char *mqtt_address, *mqtt_topic;
    int64_t mqtt_qos;
    bool mqtt_retained;
    const char *otel_url;
    struct ke_str db;      /* dbMethod, raw */
    struct ke_str anomaly; /* anomalyDetection, raw */
};

/*
 * A property of a device: in v1beta1 an item of spec.properties with its item of status.twins; in
 * v1alpha2 the union of propertyVisitors, status.twins and data.dataProperties by propertyName.
 */
struct kei_device_prop {
    const char *name;
    bool has_visitor;
    bool has_twin;                /* v1alpha2: in status.twins; v1beta1: always */
    bool in_status;               /* listed in status.twins (both) */
    bool is_data;                 /* in data.dataProperties */
    bool report_to_cloud;         /* v1alpha2: has_twin */
    const char *visitor_protocol; /* "" if absent */
    struct ke_str visitor_config; /* raw object: configData, or v1alpha2's modbus, opcua, ...; or
                                     empty */
    struct ke_str customized;     /* v1alpha2 customizedValues, raw, or empty */
    int64_t collect_cycle, report_cycle; /* as given, 0 if absent: see kei_device_cycle_ms */
    struct kei_twin_value desired;
    struct kei_twin_value reported; /* of status.twins */
    struct kei_twin_value observed; /* observedDesired, v1beta1 */
    const char *data_type;          /* data.dataProperties[].metadata.type; "" if absent */
    struct kei_push_method push;
};

struct kei_device_method {
    const char *name, *description;
    const char **props; /* propertyNames */
    uint32_t n_props;
};

struct kei_device {
    enum kei_device_api api;
    struct kei_meta meta;    /* of a profile: name only, ns as told to the reader */
    const char *description; /* label "description"; "" if absent, as all below */
    const char *model;
    const char *node;     /* nodeName; v1alpha2: the first value of the node selector */
    const char *protocol; /* protocolName; v1alpha2: opcua, modbus, bluetooth, or the customized
                             protocol's own name */
    struct ke_str protocol_config; /* raw object: configData, or that of v1alpha2 as described in
                                      kubeedge/device.h (flat); empty if absent */
    struct ke_str protocol_own;    /* v1alpha2: the protocol's own object as it came */
    struct ke_str protocol_common; /* v1alpha2: protocol.common as it came */
    struct kei_device_prop *props;
    uint32_t n_props;
    struct kei_device_method *methods;
    uint32_t n_methods;
    bool has_state_report; /* spec.stateReport, or the older status members */
    bool state_to_cloud;
    int64_t state_cycle;
    const char *data_topic;
    struct ke_str process; /* annotation libkubeedge.io/process: the JSON text, decoded */
    struct ke_str spec;    /* raw, to compare; empty for a profile */
    struct ke_str status;
};

/*
 * Reads an object. Its API is taken from apiVersion and, when that is missing (as in what the
 * cloud's sync sends), from its members. One with metadata only (a delete) reads as empty; then
 * spec is empty.
 */
int kei_device_read(struct kei_device *ret, struct ke_str object, struct kei_arena *a,
                    struct ke_error *err);
int kei_device_model_read(struct kei_device_model *ret, struct ke_str object, struct kei_arena *a,
                          struct ke_error *err);

/* deviceProfile.json, with the data section flat (1.4 to 1.8) or nested (from 1.9 on). */
struct kei_device_profile {
    struct kei_device *devices;
    struct kei_device_model *models;
    uint32_t n_devices, n_models;
};
int kei_device_profile_read(struct kei_device_profile *ret, struct ke_str json, const char *ns,
                            struct kei_arena *a, struct ke_error *err);
/* Gives protocol.common to a device of a profile that came without. KE_ENOMEM, KE_EPARSE. */
int kei_device_set_common(struct kei_device *d, struct ke_str common, struct kei_arena *a,
                          struct ke_error *err);

const struct kei_device_prop *kei_device_prop_find(const struct kei_device *d, const char *name);
const struct kei_model_prop *kei_model_prop_find(const struct kei_device_model *m,
                                                 const char *name);

enum kei_cycle_unit {
    KEI_CYCLE_AUTO, /* as KE_DEVICES_CYCLE_AUTO of kubeedge/device.h */
    KEI_CYCLE_NS,
    KEI_CYCLE_MS,
};
/* A cycle in ms: at least 1, at most 2^31-1; dflt for 0 and less. */
int64_t kei_device_cycle_ms(int64_t cycle, enum kei_device_api api, enum kei_cycle_unit unit,
                            int64_t dflt);

/* "int", "float", "double", "boolean", "string", "bytes", "stream"; "string" for none. */
const char *kei_prop_type_name(enum kei_prop_type t);
/* Case ignored; KEI_PROP_NONE if it is none of them. */
enum kei_prop_type kei_prop_type_of(struct ke_str s);

/*
 * base's members overridden by over's, per member of the top level, as KubeEdge 1.22 merges a
 * model's defaults. Either may be empty. Appended to out; "{}" when both are empty.
 */
int kei_device_config_merge(struct ke_buf *out, struct ke_str base, struct ke_str over,
                            struct ke_error *err);

/* Whether value is one of the type: decimal 64-bit integer, a finite number, true or false. */
bool kei_prop_value_ok(enum kei_prop_type t, struct ke_str value);
/* A finite decimal number, locale-free; the whole text. */
bool kei_number_parse(struct ke_str s, double *ret);

#endif
