/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device and DeviceModel objects of v1alpha2 and v1beta1. Pure; what is made is the caller's
 * arena's, spans point into the source; any thread.
 */
#include "message/devmodel.h"

#include <stdio.h>

#include "message/devmodel_priv.h"

/* ---- which API ---- */

static const char *const alpha_protocols[] = {"opcua", "modbus", "bluetooth", "customizedProtocol",
                                              "common"};

static bool alpha_device(struct ke_str spec)
{
    struct ke_str v, protocol;

    if (kei_json_get(spec, "nodeSelector", &v) || kei_json_get(spec, "propertyVisitors", &v))
        return true;
    if (!kei_json_get(spec, "protocol", &protocol) || kei_json_get(protocol, "protocolName", &v))
        return false;
    for (size_t i = 0; i < sizeof alpha_protocols / sizeof alpha_protocols[0]; i++) {
        if (kei_json_get(protocol, alpha_protocols[i], &v) && kei_json_type(v) == '{')
            return true;
    }
    return false;
}

static bool alpha_model(struct ke_str spec)
{
    struct ke_str list, item, v;
    size_t it = 0;

    return kei_json_get(spec, "properties", &list) && kei_json_type(list) == '[' &&
           kei_json_next(list, &it, NULL, &item) && kei_json_get(item, "type", &v) &&
           kei_json_type(v) == '{';
}

static int read_api(struct kei_dm_reader *r, struct ke_str object, bool alpha,
                    enum kei_device_api *ret)
{
    const char *version;
    int e = kei_dm_str(r, object, "apiVersion", &version);

    if (e < 0)
        return e;
    *ret = alpha ? KEI_DEVICE_V1ALPHA2 : KEI_DEVICE_V1BETA1;
    if (!version[0])
        return 0;
    if (kei_str_ends(kei_str(version), KEI_STR("/v1alpha2")))
        *ret = KEI_DEVICE_V1ALPHA2;
    else if (kei_str_ends(kei_str(version), KEI_STR("/v1beta1")))
        *ret = KEI_DEVICE_V1BETA1;
    else
        return kei_dm_wrong(r, "apiVersion", "neither v1alpha2 nor v1beta1");
    return 0;
}

/* ---- models ---- */

static int read_beta_prop(struct kei_dm_reader *r, struct kei_model_prop *p, struct ke_str o)
{
    const char *access;
    struct ke_str visitors;
    int e = kei_dm_str(r, o, "type", &p->type_text);

    if (e == 0)
        e = kei_dm_str(r, o, "accessMode", &access);
    if (e == 0)
        e = kei_dm_text(r, o, "minimum", &p->minimum);
    if (e == 0)
        e = kei_dm_text(r, o, "maximum", &p->maximum);
    if (e == 0)
        e = kei_dm_str(r, o, "unit", &p->unit);
    if (e == 0)
        e = kei_dm_obj(r, o, "visitors", &visitors);
    if (e == 0)
        e = kei_dm_str(r, visitors, "protocolName", &p->visitor_protocol);
    if (e == 0)
        e = kei_dm_obj(r, visitors, "configData", &p->visitor_config);
    if (e < 0)
        return e;
    p->type = kei_prop_type_of(kei_str(p->type_text));
    p->read_only = !strcmp(access, "ReadOnly");
    return kei_dm_limits(r, p, KEI_DEVICE_V1BETA1);
}

/* type is an object with one member, named by the type. */
static int read_alpha_prop(struct kei_dm_reader *r, struct kei_model_prop *p, struct ke_str o)
{
    struct ke_str type, key, v;
    const char *access = "";
    size_t it = 0;
    int e = kei_dm_obj(r, o, "type", &type);

    while (e == 0 && type.p && kei_json_next(type, &it, &key, &v)) {
        if (kei_json_type(v) != '{')
            continue;
        if (p->type != KEI_PROP_NONE)
            return kei_dm_wrong(r, "type", "an object with more than one type");
        p->type = kei_prop_type_of(key);
        p->type_text = kei_prop_type_name(p->type);
        if (p->type == KEI_PROP_NONE)
            return kei_dm_wrong(r, "type",
                                "of none of the types int, string, double, float, "
                                "boolean, bytes");
        e = kei_dm_str(r, v, "accessMode", &access);
        if (e == 0)
            e = kei_dm_text(r, v, "minimum", &p->minimum);
        if (e == 0)
            e = kei_dm_text(r, v, "maximum", &p->maximum);
        if (e == 0)
            e = kei_dm_str(r, v, "unit", &p->unit);
        if (e == 0)
            e = kei_dm_text(r, v, "defaultValue", &p->dflt);
    }
    if (e < 0)
        return e;
    p->read_only = !strcmp(access, "ReadOnly");
    return kei_dm_limits(r, p, KEI_DEVICE_V1ALPHA2);
}

static void init_model_prop(struct kei_model_prop *p)
{
    p->name = p->description = p->unit = p->type_text = p->minimum = p->maximum = p->dflt =
        p->visitor_protocol = "";
}

static int read_model_props(struct kei_dm_reader *r, struct kei_device_model *m, struct ke_str spec)
{
    struct ke_str list, item;
    size_t it = 0;
    uint32_t n;
    int e = kei_dm_arr(r, spec, "properties", KEI_DEVICE_PROPERTIES_MAX, &list, &n);

    if (e < 0 || n == 0)
        return e;
    m->props = kei_arena_array(r->a, n, sizeof *m->props);
    if (!m->props)
        return kei_dm_nomem(r);
    while (e == 0 && m->n_props < n && kei_json_next(list, &it, NULL, &item)) {
        struct kei_model_prop *p = &m->props[m->n_props];
        init_model_prop(p);
        kei_dm_at(r, "spec.properties[%u]", m->n_props);
        e = kei_dm_str(r, item, "name", &p->name);
        if (e == 0 && !p->name[0])
            e = kei_dm_wrong(r, "name", "missing");
        if (e == 0 && kei_model_prop_find(m, p->name))
            e = kei_dm_wrong(r, "name", "the same as that of another property");
        if (e == 0)
            e = kei_dm_str(r, item, "description", &p->description);
        if (e == 0)
            e = m->api == KEI_DEVICE_V1ALPHA2 ? read_alpha_prop(r, p, item)
                                              : read_beta_prop(r, p, item);
        if (e == 0)
            m->n_props++;
    }
    return e;
}

int kei_device_model_read(struct kei_device_model *ret, struct ke_str object, struct kei_arena *a,
                          struct ke_error *err)
{
    struct kei_dm_reader r = {.a = a, .err = err, .kind = "device model", .name = ""};
    struct ke_str spec;

    memset(ret, 0, sizeof *ret);
    ret->protocol = "";
    int e = kei_meta_read(&ret->meta, object, a, err);
    if (e < 0)
        return kei_error_prefix(err, e, "device model");
    r.name = ret->meta.name;
    e = kei_dm_obj(&r, object, "spec", &spec);
    if (e == 0)
        e = read_api(&r, object, alpha_model(spec), &ret->api);
    kei_dm_at(&r, "spec");
    if (e == 0)
        e = kei_dm_obj(&r, spec, "protocolConfigData", &ret->protocol_config);
    if (e == 0 && ret->api == KEI_DEVICE_V1BETA1)
        e = kei_dm_str(&r, spec, "protocol", &ret->protocol);
    if (e == 0)
        e = read_model_props(&r, ret, spec);
    return e;
}

const struct kei_model_prop *kei_model_prop_find(const struct kei_device_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->n_props; i++) {
        if (!strcmp(m->props[i].name, name))
            return &m->props[i];
    }
    return NULL;
}

/* ---- devices of v1beta1 ---- */

static int read_push(struct kei_dm_reader *r, struct kei_push_method *p, struct ke_str property)
{
    struct ke_str http, mqtt, otel;
    int e = kei_dm_obj(r, property, "pushMethod", &p->raw);

    p->http_host = p->http_path = p->mqtt_address = p->mqtt_topic = p->otel_url = "";
    if (e < 0 || !p->raw.p)
        return e;
    if ((e = kei_dm_obj(r, p->raw, "http", &http)) < 0 ||
        (e = kei_dm_obj(r, p->raw, "mqtt", &mqtt)) < 0 ||
        (e = kei_dm_obj(r, p->raw, "otel", &otel)) < 0 ||
        (e = kei_dm_obj(r, p->raw, "dbMethod", &p->db)) < 0 ||
        (e = kei_dm_obj(r, p->raw, "anomalyDetection", &p->anomaly)) < 0 ||
        (e = kei_dm_str(r, http, "hostName", &p->http_host)) < 0 ||
        (e = kei_dm_i64(r, http, "port", &p->http_port)) < 0 ||
        (e = kei_dm_str(r, http, "requestPath", &p->http_path)) < 0 ||
        (e = kei_dm_i64(r, http, "timeout", &p->http_timeout)) < 0 ||
        (e = kei_dm_str(r, mqtt, "address", &p->mqtt_address)) < 0 ||
        (e = kei_dm_str(r, mqtt, "topic", &p->mqtt_topic)) < 0 ||
        (e = kei_dm_i64(r, mqtt, "qos", &p->mqtt_qos)) < 0 ||
        (e = kei_dm_bool(r, mqtt, "retained", &p->mqtt_retained)) < 0 ||
        (e = kei_dm_str(r, otel, "endpointURL", &p->otel_url)) < 0)
        return e;
    return 0;
}

static void init_prop(struct kei_device_prop *p, const char *name)
{
    p->name = name;
    p->visitor_protocol = p->data_type = "";
    p->desired.type = p->reported.type = p->observed.type = "";
    p->push.http_host = p->push.http_path = p->push.mqtt_address = p->push.mqtt_topic =
        p->push.otel_url = "";
}

static int read_beta_device_prop(struct kei_dm_reader *r, struct kei_device_prop *p,
                                 struct ke_str o)
{
    struct ke_str visitors;
    int e = kei_dm_twin_value(r, o, "desired", &p->desired);

    if (e == 0)
        e = kei_dm_obj(r, o, "visitors", &visitors);
    if (e == 0)
        e = kei_dm_str(r, visitors, "protocolName", &p->visitor_protocol);
    if (e == 0)
        e = kei_dm_obj(r, visitors, "configData", &p->visitor_config);
    if (e == 0)
        e = kei_dm_i64(r, o, "reportCycle", &p->report_cycle);
    if (e == 0)
        e = kei_dm_i64(r, o, "collectCycle", &p->collect_cycle);
    if (e == 0)
        e = kei_dm_bool(r, o, "reportToCloud", &p->report_to_cloud);
    p->has_visitor = visitors.p != NULL;
    p->has_twin = true;
    return e < 0 ? e : read_push(r, &p->push, o);
}

/* status.twins of a device of v1beta1: joined to the properties, strangers are left out. */
static int read_beta_twins(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str list, item;
    const char *name;
    uint32_t n, i = 0;
    size_t it = 0;

    kei_dm_at(r, "status");
    int e = kei_dm_arr(r, d->status, "twins", KEI_DEVICE_PROPERTIES_MAX, &list, &n);
    while (e == 0 && i < n && kei_json_next(list, &it, NULL, &item)) {
        kei_dm_at(r, "status.twins[%u]", i++);
        e = kei_dm_str(r, item, "propertyName", &name);
        if (e < 0)
            break;
        for (uint32_t k = 0; k < d->n_props && e == 0; k++) {
            struct kei_device_prop *p = &d->props[k];
            if (strcmp(p->name, name) != 0)
                continue;
            p->in_status = true;
            e = kei_dm_twin_value(r, item, "reported", &p->reported);
            if (e == 0)
                e = kei_dm_twin_value(r, item, "observedDesired", &p->observed);
        }
    }
    return e;
}

static int read_methods(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str list, item;
    size_t it = 0;
    uint32_t n;
    int e = kei_dm_arr(r, d->spec, "methods", KEI_DEVICE_METHODS_MAX, &list, &n);

    if (e < 0 || n == 0)
        return e;
    d->methods = kei_arena_array(r->a, n, sizeof *d->methods);
    if (!d->methods)
        return kei_dm_nomem(r);
    while (e == 0 && d->n_methods < n && kei_json_next(list, &it, NULL, &item)) {
        struct kei_device_method *m = &d->methods[d->n_methods];
        kei_dm_at(r, "spec.methods[%u]", d->n_methods);
        e = kei_dm_str(r, item, "name", &m->name);
        if (e == 0)
            e = kei_dm_str(r, item, "description", &m->description);
        if (e == 0)
            e = kei_dm_names(r, item, "propertyNames", &m->props, &m->n_props);
        if (e == 0)
            d->n_methods++;
    }
    return e;
}

static int read_beta_props(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str list, item;
    size_t it = 0;
    uint32_t n;

    kei_dm_at(r, "spec");
    int e = kei_dm_arr(r, d->spec, "properties", KEI_DEVICE_PROPERTIES_MAX, &list, &n);
    if (e < 0 || n == 0)
        return e;
    d->props = kei_arena_array(r->a, n, sizeof *d->props);
    if (!d->props)
        return kei_dm_nomem(r);
    while (e == 0 && d->n_props < n && kei_json_next(list, &it, NULL, &item)) {
        struct kei_device_prop *p = &d->props[d->n_props];
        init_prop(p, "");
        kei_dm_at(r, "spec.properties[%u]", d->n_props);
        e = kei_dm_str(r, item, "name", &p->name);
        if (e == 0 && !p->name[0])
            e = kei_dm_wrong(r, "name", "missing");
        if (e == 0 && kei_device_prop_find(d, p->name))
            e = kei_dm_wrong(r, "name", "the same as that of another property");
        if (e == 0)
            e = read_beta_device_prop(r, p, item);
        if (e == 0)
            d->n_props++;
    }
    return e;
}

/* spec.stateReport, or what was there before it: members of status */
static int read_state_report(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str from, v;

    kei_dm_at(r, "spec");
    int e = kei_dm_obj(r, d->spec, "stateReport", &from);
    if (e < 0)
        return e;
    kei_dm_at(r, "%s", from.p ? "spec.stateReport" : "status");
    if (!from.p)
        from = d->status;
    d->has_state_report =
        kei_json_get(from, "reportToCloud", &v) || kei_json_get(from, "reportCycle", &v);
    e = kei_dm_bool(r, from, "reportToCloud", &d->state_to_cloud);
    return e < 0 ? e : kei_dm_i64(r, from, "reportCycle", &d->state_cycle);
}

static int read_beta_device(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str protocol;

    kei_dm_at(r, "spec");
    int e = kei_dm_str(r, d->spec, "nodeName", &d->node);
    if (e == 0)
        e = kei_dm_obj(r, d->spec, "protocol", &protocol);
    if (e == 0) {
        kei_dm_at(r, "spec.protocol");
        e = kei_dm_str(r, protocol, "protocolName", &d->protocol);
    }
    if (e == 0)
        e = kei_dm_obj(r, protocol, "configData", &d->protocol_config);
    if (e == 0)
        e = read_beta_props(r, d);
    if (e == 0)
        e = read_beta_twins(r, d);
    kei_dm_at(r, "spec");
    if (e == 0)
        e = read_methods(r, d);
    return e < 0 ? e : read_state_report(r, d);
}

/* ---- devices of v1alpha2 ---- */

struct kei_device_prop *kei_dm_prop(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap,
                                    const char *name)
{
    for (uint32_t i = 0; i < d->n_props; i++) {
        if (!strcmp(d->props[i].name, name))
            return &d->props[i];
    }
    (void)r;
    if (d->n_props == cap)
        return NULL; /* the callers count before */
    struct kei_device_prop *p = &d->props[d->n_props++];
    init_prop(p, name);
    return p;
}

/* The property that an item names. */
static int item_prop(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap,
                     struct ke_str item, struct kei_device_prop **ret)
{
    const char *name;
    int e = kei_dm_str(r, item, "propertyName", &name);

    if (e == 0 && !name[0])
        e = kei_dm_wrong(r, "propertyName", "missing");
    if (e == 0 && !(*ret = kei_dm_prop(r, d, cap, name)))
        e = kei_dm_nomem(r);
    return e;
}

int kei_dm_twins(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap, struct ke_str list)
{
    struct kei_device_prop *p;
    struct ke_str item;
    uint32_t i = 0;
    size_t it = 0;
    int e = 0;

    while (e == 0 && list.p && kei_json_next(list, &it, NULL, &item)) {
        kei_dm_at(r, "twins[%u]", i++);
        e = item_prop(r, d, cap, item, &p);
        if (e < 0)
            break;
        p->has_twin = p->in_status = p->report_to_cloud = true;
        e = kei_dm_twin_value(r, item, "desired", &p->desired);
        if (e == 0)
            e = kei_dm_twin_value(r, item, "reported", &p->reported);
    }
    return e;
}

int kei_dm_data(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap, struct ke_str data)
{
    struct kei_device_prop *p;
    struct ke_str list, item, meta;
    uint32_t n, i = 0;
    size_t it = 0;
    int e = kei_dm_str(r, data, "dataTopic", &d->data_topic);

    if (e == 0)
        e = kei_dm_arr(r, data, "dataProperties", KEI_DEVICE_PROPERTIES_MAX, &list, &n);
    while (e == 0 && i < n && kei_json_next(list, &it, NULL, &item)) {
        kei_dm_at(r, "dataProperties[%u]", i++);
        e = item_prop(r, d, cap, item, &p);
        if (e < 0)
            break;
        p->is_data = true;
        e = kei_dm_obj(r, item, "metadata", &meta);
        if (e == 0)
            e = kei_dm_str(r, meta, "type", &p->data_type);
    }
    return e;
}

/* common, with its tcp and com, below the protocol's own members */
int kei_dm_flat(struct kei_dm_reader *r, struct kei_device *d)
{
    static const char *const parts[] = {"tcp", "com"};
    struct ke_buf bufs[4];
    struct ke_str sum, v, key, common = d->protocol_common;
    size_t it = 0;
    bool comma = false;
    int e = 0;

    for (size_t i = 0; i < 4; i++)
        kei_buf_init(&bufs[i], r->a->alloc);
    kei_buf_addc(&bufs[0], '{');
    while (common.p && kei_json_next(common, &it, &key, &v)) {
        if (kei_json_key_is(key, "tcp") || kei_json_key_is(key, "com"))
            continue;
        kei_buf_adds(&bufs[0], comma ? ",\"" : "\"");
        kei_buf_addv(&bufs[0], key);
        kei_buf_adds(&bufs[0], "\":");
        kei_buf_addv(&bufs[0], v);
        comma = true;
    }
    kei_buf_addc(&bufs[0], '}');
    if (!kei_buf_ok(&bufs[0]))
        e = kei_dm_nomem(r);
    sum = kei_buf_str(&bufs[0]);
    for (size_t i = 0; i < 2 && e == 0; i++) {
        e = kei_dm_obj(r, common, parts[i], &v);
        if (e == 0)
            e = kei_device_config_merge(&bufs[i + 1], sum, v, r->err);
        sum = kei_buf_str(&bufs[i + 1]);
    }
    if (e == 0)
        e = kei_device_config_merge(&bufs[3], sum, d->protocol_config, r->err);
    if (e == 0) {
        char *text = kei_arena_strdup(r->a, kei_buf_str(&bufs[3]));
        d->protocol_config = kei_strn(text, text ? bufs[3].n : 0);
        e = text ? 0 : kei_dm_nomem(r);
    }
    for (size_t i = 0; i < 4; i++)
        ke_buf_free(&bufs[i]);
    return e;
}

/* name and configuration of the one protocol there is */
static int read_alpha_protocol(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str protocol, own;

    kei_dm_at(r, "spec");
    int e = kei_dm_obj(r, d->spec, "protocol", &protocol);
    kei_dm_at(r, "spec.protocol");
    for (size_t i = 0; i < 4 && e == 0 && !d->protocol_own.p; i++) {
        e = kei_dm_obj(r, protocol, alpha_protocols[i], &own);
        if (e < 0 || !own.p)
            continue;
        d->protocol_own = own;
        d->protocol = alpha_protocols[i];
        d->protocol_config = own;
        if (i == 3) {
            kei_dm_at(r, "spec.protocol.customizedProtocol");
            e = kei_dm_str(r, own, "protocolName", &d->protocol);
            if (e == 0)
                e = kei_dm_obj(r, own, "configData", &d->protocol_config);
            kei_dm_at(r, "spec.protocol");
        }
    }
    if (e == 0)
        e = kei_dm_obj(r, protocol, "common", &d->protocol_common);
    kei_dm_at(r, "spec.protocol.common");
    return e < 0 ? e : kei_dm_flat(r, d);
}

static int read_alpha_visitor(struct kei_dm_reader *r, struct kei_device_prop *p,
                              struct ke_str item)
{
    struct ke_str own;
    int e = 0;

    for (size_t i = 0; i < 4 && e == 0 && !p->has_visitor; i++) {
        e = kei_dm_obj(r, item, alpha_protocols[i], &own);
        if (e < 0 || !own.p)
            continue;
        p->has_visitor = true;
        p->visitor_protocol = alpha_protocols[i];
        p->visitor_config = own;
        if (i == 3) {
            e = kei_dm_str(r, own, "protocolName", &p->visitor_protocol);
            if (e == 0)
                e = kei_dm_obj(r, own, "configData", &p->visitor_config);
        }
    }
    if (e == 0)
        e = kei_dm_i64(r, item, "reportCycle", &p->report_cycle);
    if (e == 0)
        e = kei_dm_i64(r, item, "collectCycle", &p->collect_cycle);
    return e < 0 ? e : kei_dm_obj(r, item, "customizedValues", &p->customized);
}

static int read_alpha_props(struct kei_dm_reader *r, struct kei_device *d)
{
    struct kei_device_prop *p;
    struct ke_str visitors, twins, data, item;
    uint32_t n, n_twins, n_data = 0, i = 0;
    size_t it = 0;

    kei_dm_at(r, "spec");
    int e = kei_dm_arr(r, d->spec, "propertyVisitors", KEI_DEVICE_PROPERTIES_MAX, &visitors, &n);
    if (e == 0)
        e = kei_dm_obj(r, d->spec, "data", &data);
    if (e == 0)
        e = kei_dm_arr(r, data, "dataProperties", KEI_DEVICE_PROPERTIES_MAX, &item, &n_data);
    kei_dm_at(r, "status");
    if (e == 0)
        e = kei_dm_arr(r, d->status, "twins", KEI_DEVICE_PROPERTIES_MAX, &twins, &n_twins);
    if (e < 0)
        return e;
    uint32_t cap = n + n_twins + n_data;
    if (cap && !(d->props = kei_arena_array(r->a, cap, sizeof *d->props)))
        return kei_dm_nomem(r);
    while (e == 0 && i < n && kei_json_next(visitors, &it, NULL, &item)) {
        kei_dm_at(r, "spec.propertyVisitors[%u]", i++);
        e = item_prop(r, d, cap, item, &p);
        if (e == 0)
            e = read_alpha_visitor(r, p, item);
    }
    if (e == 0)
        e = kei_dm_twins(r, d, cap, twins);
    kei_dm_at(r, "spec.data");
    return e < 0 ? e : kei_dm_data(r, d, cap, data);
}

/* Only the first value of the first expression of the first term counts, as upstream reads it. */
static int read_alpha_node(struct kei_dm_reader *r, struct kei_device *d)
{
    struct ke_str v, first;
    size_t a = 0, b = 0;
    const char **values;
    uint32_t n;

    kei_dm_at(r, "spec.nodeSelector");
    if (!kei_json_path(d->spec, "nodeSelector.nodeSelectorTerms", &v) || kei_json_type(v) != '[' ||
        !kei_json_next(v, &a, NULL, &first) || !kei_json_get(first, "matchExpressions", &v) ||
        kei_json_type(v) != '[' || !kei_json_next(v, &b, NULL, &first))
        return 0;
    int e = kei_dm_names(r, first, "values", &values, &n);
    if (e == 0 && n)
        d->node = values[0];
    return e;
}

static int read_alpha_device(struct kei_dm_reader *r, struct kei_device *d)
{
    int e = read_alpha_node(r, d);

    if (e == 0)
        e = read_alpha_protocol(r, d);
    return e < 0 ? e : read_alpha_props(r, d);
}

/* ---- both ---- */

static int read_labels(struct kei_dm_reader *r, struct kei_device *d, struct ke_str object)
{
    struct ke_str meta, labels, notes;
    const char *process = "";

    kei_dm_at(r, "%s", "");
    int e = kei_dm_obj(r, object, "metadata", &meta);
    kei_dm_at(r, "metadata");
    if (e == 0)
        e = kei_dm_obj(r, meta, "labels", &labels);
    if (e == 0)
        e = kei_dm_str(r, labels, "description", &d->description);
    if (e == 0)
        e = kei_dm_obj(r, meta, "annotations", &notes);
    kei_dm_at(r, "metadata.annotations");
    if (e == 0)
        e = kei_dm_str(r, notes, "libkubeedge.io/process", &process);
    if (process[0])
        d->process = kei_str(process);
    return e;
}

int kei_device_read(struct kei_device *ret, struct ke_str object, struct kei_arena *a,
                    struct ke_error *err)
{
    struct kei_dm_reader r = {.a = a, .err = err, .kind = "device", .name = ""};
    struct ke_str model;

    memset(ret, 0, sizeof *ret);
    ret->description = ret->model = ret->node = ret->protocol = ret->data_topic = "";
    int e = kei_meta_read(&ret->meta, object, a, err);
    if (e < 0)
        return kei_error_prefix(err, e, "device");
    r.name = ret->meta.name;
    e = kei_dm_obj(&r, object, "spec", &ret->spec);
    if (e == 0)
        e = kei_dm_obj(&r, object, "status", &ret->status);
    if (e == 0)
        e = read_api(&r, object, alpha_device(ret->spec), &ret->api);
    if (e == 0)
        e = read_labels(&r, ret, object);
    kei_dm_at(&r, "spec");
    if (e == 0)
        e = kei_dm_obj(&r, ret->spec, "deviceModelRef", &model);
    kei_dm_at(&r, "spec.deviceModelRef");
    if (e == 0)
        e = kei_dm_str(&r, model, "name", &ret->model);
    if (e < 0)
        return e;
    return ret->api == KEI_DEVICE_V1ALPHA2 ? read_alpha_device(&r, ret) : read_beta_device(&r, ret);
}

const struct kei_device_prop *kei_device_prop_find(const struct kei_device *d, const char *name)
{
    for (uint32_t i = 0; i < d->n_props; i++) {
        if (!strcmp(d->props[i].name, name))
            return &d->props[i];
    }
    return NULL;
}
