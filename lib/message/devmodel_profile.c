/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deviceProfile.json, by which a cloud of KubeEdge 1.4 to 1.14 tells mappers of v1alpha2 devices.
 * Pure; what is made is the caller's arena's; any thread.
 */
#include "message/devmodel_priv.h"

/* {name, dataType, description, accessMode, defaultValue, minimum, maximum, unit} */
static int read_prop(struct kei_dm_reader *r, struct kei_model_prop *p, struct ke_str o)
{
    const char *access;
    int e;

    p->visitor_protocol = "";
    if ((e = kei_dm_str(r, o, "name", &p->name)) < 0 ||
        (e = kei_dm_str(r, o, "dataType", &p->type_text)) < 0 ||
        (e = kei_dm_str(r, o, "description", &p->description)) < 0 ||
        (e = kei_dm_str(r, o, "accessMode", &access)) < 0 ||
        (e = kei_dm_text(r, o, "defaultValue", &p->dflt)) < 0 ||
        (e = kei_dm_text(r, o, "minimum", &p->minimum)) < 0 ||
        (e = kei_dm_text(r, o, "maximum", &p->maximum)) < 0 ||
        (e = kei_dm_str(r, o, "unit", &p->unit)) < 0)
        return e;
    if (!p->name[0])
        return kei_dm_wrong(r, "name", "missing");
    p->type = kei_prop_type_of(kei_str(p->type_text));
    p->read_only = !strcmp(access, "ReadOnly");
    return kei_dm_limits(r, p, KEI_DEVICE_V1ALPHA2);
}

static int read_model(struct kei_dm_reader *r, struct kei_device_model *m, uint32_t at,
                      struct ke_str o, const char *ns)
{
    struct ke_str list, item;
    size_t it = 0;
    uint32_t n;

    kei_dm_at(r, "deviceModels[%u]", at);
    m->api = KEI_DEVICE_V1ALPHA2;
    m->protocol = m->meta.uid = m->meta.resource_version = "";
    m->meta.ns = ns;
    int e = kei_dm_str(r, o, "name", &m->meta.name);
    if (e == 0)
        e = kei_dm_arr(r, o, "properties", KEI_DEVICE_PROPERTIES_MAX, &list, &n);
    if (e < 0 || n == 0)
        return e;
    m->props = kei_arena_array(r->a, n, sizeof *m->props);
    if (!m->props)
        return kei_dm_nomem(r);
    while (e == 0 && m->n_props < n && kei_json_next(list, &it, NULL, &item)) {
        kei_dm_at(r, "deviceModels[%u].properties[%u]", at, m->n_props);
        e = read_prop(r, &m->props[m->n_props], item);
        if (e == 0 && kei_model_prop_find(m, m->props[m->n_props].name))
            e = kei_dm_wrong(r, "name", "the same as that of another property");
        if (e == 0)
            m->n_props++;
    }
    return e;
}

/* customized-protocol wraps name and data once more */
static int unwrap(struct kei_dm_reader *r, bool customized, const char **name,
                  struct ke_str *config)
{
    struct ke_str own = *config;

    if (!customized || !own.p)
        return 0;
    int e = kei_dm_str(r, own, "protocolName", name);
    return e < 0 ? e : kei_dm_obj(r, own, "configData", config);
}

static int read_visitors(struct kei_dm_reader *r, struct kei_device *d, uint32_t at, uint32_t cap,
                         struct ke_str list)
{
    struct kei_device_prop *p;
    struct ke_str item;
    const char *name;
    uint32_t i = 0;
    size_t it = 0;
    int e = 0;

    while (e == 0 && list.p && kei_json_next(list, &it, NULL, &item)) {
        kei_dm_at(r, "deviceInstances[%u].propertyVisitors[%u]", at, i++);
        e = kei_dm_str(r, item, "propertyName", &name);
        if (e == 0 && !name[0])
            e = kei_dm_wrong(r, "propertyName", "missing");
        if (e < 0)
            break;
        if (!(p = kei_dm_prop(r, d, cap, name)))
            return kei_dm_nomem(r);
        p->has_visitor = true;
        if ((e = kei_dm_str(r, item, "protocol", &p->visitor_protocol)) < 0 ||
            (e = kei_dm_i64(r, item, "reportCycle", &p->report_cycle)) < 0 ||
            (e = kei_dm_i64(r, item, "collectCycle", &p->collect_cycle)) < 0 ||
            (e = kei_dm_obj(r, item, "visitorConfig", &p->visitor_config)) < 0 ||
            (e = kei_dm_obj(r, item, "customizedValues", &p->customized)) < 0)
            break;
        e = unwrap(r, !strcmp(p->visitor_protocol, "customized-protocol"), &p->visitor_protocol,
                   &p->visitor_config);
    }
    return e;
}

/* The entry of protocols that the instance names. */
static int read_protocol(struct kei_dm_reader *r, struct kei_device *d, const char *ref,
                         struct ke_str protocols)
{
    struct ke_str item, v;
    uint32_t i = 0;
    size_t it = 0;

    while (protocols.p && kei_json_next(protocols, &it, NULL, &item)) {
        kei_dm_at(r, "protocols[%u]", i++);
        if (!kei_json_get(item, "name", &v) || !kei_json_str_is(v, ref))
            continue;
        int e = kei_dm_str(r, item, "protocol", &d->protocol);
        if (e == 0)
            e = kei_dm_obj(r, item, "protocolConfig", &d->protocol_own);
        if (e == 0)
            e = kei_dm_obj(r, item, "protocolCommonConfig", &d->protocol_common);
        d->protocol_config = d->protocol_own;
        if (e == 0)
            e = unwrap(r, !strcmp(d->protocol, "customized-protocol"), &d->protocol,
                       &d->protocol_config);
        return e < 0 ? e : kei_dm_flat(r, d);
    }
    return kei_error(r->err, KE_EPARSE, "protocol %s of device %s was not among the protocols", ref,
                     d->meta.name);
}

int kei_device_set_common(struct kei_device *d, struct ke_str common, struct kei_arena *a,
                          struct ke_error *err)
{
    struct kei_dm_reader r = {.a = a, .err = err, .kind = "device", .name = d->meta.name};

    d->protocol_common = common;
    return kei_dm_flat(&r, d);
}

static int read_instance(struct kei_dm_reader *r, struct kei_device *d, uint32_t at,
                         struct ke_str o, struct ke_str protocols, const char *ns)
{
    struct ke_str visitors, twins, data, list;
    const char *ref = "";
    uint32_t n, n_twins, n_data;
    int e;

    kei_dm_at(r, "deviceInstances[%u]", at);
    d->api = KEI_DEVICE_V1ALPHA2;
    d->description = d->model = d->node = d->protocol = d->data_topic = "";
    d->meta.uid = d->meta.resource_version = "";
    d->meta.ns = ns;
    if ((e = kei_dm_str(r, o, "name", &d->meta.name)) < 0 ||
        (e = kei_dm_str(r, o, "model", &d->model)) < 0 ||
        (e = kei_dm_str(r, o, "protocol", &ref)) < 0 ||
        (e = kei_dm_arr(r, o, "propertyVisitors", KEI_DEVICE_PROPERTIES_MAX, &visitors, &n)) < 0 ||
        (e = kei_dm_arr(r, o, "twins", KEI_DEVICE_PROPERTIES_MAX, &twins, &n_twins)) < 0 ||
        (e = kei_dm_obj(r, o, "data", &data)) < 0)
        return e;
    if (!d->meta.name[0] && (e = kei_dm_str(r, o, "id", &d->meta.name)) < 0)
        return e;
    if (!d->meta.name[0])
        return kei_dm_wrong(r, "name", "missing");
    if (!data.p)
        data = o; /* flat, as up to 1.8 */
    e = kei_dm_arr(r, data, "dataProperties", KEI_DEVICE_PROPERTIES_MAX, &list, &n_data);
    if (e < 0)
        return e;
    uint32_t cap = n + n_twins + n_data;
    if (cap && !(d->props = kei_arena_array(r->a, cap, sizeof *d->props)))
        return kei_dm_nomem(r);
    e = read_visitors(r, d, at, cap, visitors);
    if (e == 0)
        e = kei_dm_twins(r, d, cap, twins);
    if (e == 0)
        e = kei_dm_data(r, d, cap, data);
    return e < 0 || !ref[0] ? e : read_protocol(r, d, ref, protocols);
}

int kei_device_profile_read(struct kei_device_profile *ret, struct ke_str json, const char *ns,
                            struct kei_arena *a, struct ke_error *err)
{
    struct kei_dm_reader r = {.a = a, .err = err, .kind = "device profile", .name = ns};
    struct ke_str devices, models, protocols, item;
    uint32_t n_devices, n_models, n;
    size_t it = 0;
    int e;

    memset(ret, 0, sizeof *ret);
    e = kei_json_check(json, 0, err);
    if (e < 0)
        return kei_error_prefix(err, e, "device profile");
    if ((e = kei_dm_arr(&r, json, "deviceInstances", KEI_DEVICE_PROFILE_MAX, &devices,
                        &n_devices)) < 0 ||
        (e = kei_dm_arr(&r, json, "deviceModels", KEI_DEVICE_PROFILE_MAX, &models, &n_models)) <
            0 ||
        (e = kei_dm_arr(&r, json, "protocols", KEI_DEVICE_PROFILE_MAX, &protocols, &n)) < 0)
        return e;
    if (n_models && !(ret->models = kei_arena_array(a, n_models, sizeof *ret->models)))
        return kei_dm_nomem(&r);
    if (n_devices && !(ret->devices = kei_arena_array(a, n_devices, sizeof *ret->devices)))
        return kei_dm_nomem(&r);
    while (e == 0 && ret->n_models < n_models && kei_json_next(models, &it, NULL, &item)) {
        e = read_model(&r, &ret->models[ret->n_models], ret->n_models, item, ns);
        ret->n_models += e == 0;
    }
    it = 0;
    while (e == 0 && ret->n_devices < n_devices && kei_json_next(devices, &it, NULL, &item)) {
        e = read_instance(&r, &ret->devices[ret->n_devices], ret->n_devices, item, protocols, ns);
        ret->n_devices += e == 0;
    }
    return e;
}
