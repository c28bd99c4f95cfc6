/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices and models in the form of v1alpha1. Objects of that API have the same members; those of
 * v1beta1 become modbus, opcua and bluetooth, or a customized protocol. See convert.h.
 */
#include "dmi/convert.h"
#include "dmi/dmi_v1alpha1.pb-c.h"

#define NEW(a, type) kei_pb_new(a, &kei__a1__##type##__descriptor)

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "no memory for a device's message");
}

static bool is(const char *a, const char *b)
{
    return kei_str_ieq(kei_str(a), kei_str(b));
}

/* ---- devices ---- */

static int common(Kei__A1__ProtocolConfig *p, struct ke_str config, struct kei_arena *a,
                  struct ke_error *err)
{
    struct ke_str v;
    int r = 0;

    p->common = NEW(a, protocol_config_common);
    if (!p->common)
        return no_memory(err);
    if (kei_json_iget(config, "serialPort", &v)) {
        p->common->com = NEW(a, protocol_config_com);
        r = p->common->com ? kei_pb_from_json(p->common->com, config, a, err) : no_memory(err);
    } else if (kei_json_iget(config, "ip", &v)) {
        p->common->tcp = NEW(a, protocol_config_tcp);
        r = p->common->tcp ? kei_pb_from_json(p->common->tcp, config, a, err) : no_memory(err);
    }
    return r;
}

static int protocol(Kei__A1__ProtocolConfig *p, const struct kei_device *d, struct kei_arena *a,
                    struct ke_error *err)
{
    void *own = NULL;

    if (is(d->protocol, "modbus"))
        own = p->modbus = NEW(a, protocol_config_modbus);
    else if (is(d->protocol, "opcua"))
        own = p->opcua = NEW(a, protocol_config_opc_ua);
    else if (is(d->protocol, "bluetooth"))
        own = p->bluetooth = NEW(a, protocol_config_bluetooth);
    else
        p->customizedprotocol = NEW(a, protocol_config_customized);
    int r = common(p, d->protocol_config, a, err);
    if (r < 0)
        return r;
    if (own)
        return kei_pb_from_json(own, d->protocol_config, a, err);
    if (!p->customizedprotocol || !(p->customizedprotocol->configdata = NEW(a, customized_value)))
        return no_memory(err);
    p->customizedprotocol->protocolname = kei_pb_str(d->protocol);
    return kei_pb_values(p->customizedprotocol->configdata, d->protocol_config, a, err);
}

static int visitor(Kei__A1__DevicePropertyVisitor *o, const struct kei_device *d,
                   const struct kei_device_prop *p, struct kei_arena *a, struct ke_error *err)
{
    void *own = NULL;

    o->propertyname = kei_pb_str(p->name);
    o->collectcycle = p->collect_cycle;
    o->reportcycle = p->report_cycle;
    if (is(d->protocol, "modbus"))
        own = o->modbus = NEW(a, visitor_config_modbus);
    else if (is(d->protocol, "opcua"))
        own = o->opcua = NEW(a, visitor_config_opcua);
    else if (is(d->protocol, "bluetooth"))
        own = o->bluetooth = NEW(a, visitor_config_bluetooth);
    else
        o->customizedprotocol = NEW(a, visitor_config_customized);
    if (own)
        return kei_pb_from_json(own, p->visitor_config, a, err);
    if (!o->customizedprotocol || !(o->customizedprotocol->configdata = NEW(a, customized_value)))
        return no_memory(err);
    o->customizedprotocol->protocolname =
        kei_pb_str(p->visitor_protocol[0] ? p->visitor_protocol : d->protocol);
    return kei_pb_values(o->customizedprotocol->configdata, p->visitor_config, a, err);
}

/* What an object of v1beta1 says. */
static int from_b1(Kei__A1__DeviceSpec *spec, const struct kei_device *d,
                   const struct kei_device_model *m, struct kei_arena *a, struct ke_error *err)
{
    spec->protocol = NEW(a, protocol_config);
    spec->propertyvisitors =
        kei_arena_array(a, d->n_props ? d->n_props : 1, sizeof *spec->propertyvisitors);
    if (!spec->protocol || !spec->propertyvisitors)
        return no_memory(err);
    int r = protocol(spec->protocol, d, a, err);
    for (uint32_t i = 0; r == 0 && i < d->n_props; i++) {
        if (m && !kei_model_prop_find(m, d->props[i].name))
            continue;
        Kei__A1__DevicePropertyVisitor *v = NEW(a, device_property_visitor);
        if (!v)
            return no_memory(err);
        spec->propertyvisitors[spec->n_propertyvisitors++] = v;
        r = visitor(v, d, &d->props[i], a, err);
        if (r < 0)
            kei_error_prefix(err, r, "property %s", d->props[i].name);
    }
    return r;
}

static int twin_value(Kei__A1__TwinProperty **ret, const struct kei_twin_value *v,
                      struct kei_arena *a, struct ke_error *err)
{
    Kei__A1__TwinProperty *t = NEW(a, twin_property);
    Kei__A1__TwinProperty__MetadataEntry *e = NULL;

    if (!t)
        return no_memory(err);
    *ret = t;
    t->value = kei_pb_str(v->value);
    if (!v->type || !v->type[0])
        return 0;
    e = NEW(a, twin_property__metadata_entry);
    t->metadata = kei_arena_array(a, 1, sizeof *t->metadata);
    if (!e || !t->metadata)
        return no_memory(err);
    e->key = kei_pb_str("type");
    e->value = kei_pb_str(v->type);
    t->metadata[t->n_metadata++] = e;
    return 0;
}

/* Mappers of that time take what is desired from here. */
static int twins(Kei__A1__DeviceStatus *s, const struct kei_device *d,
                 const struct kei_device_model *m, struct kei_arena *a, struct ke_error *err)
{
    s->twins = kei_arena_array(a, d->n_props ? d->n_props : 1, sizeof *s->twins);
    if (!s->twins)
        return no_memory(err);
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_device_prop *p = &d->props[i];
        if (!p->has_twin || (m && !kei_model_prop_find(m, p->name)))
            continue;
        Kei__A1__Twin *t = NEW(a, twin);
        if (!t)
            return no_memory(err);
        t->propertyname = kei_pb_str(p->name);
        int r = twin_value(&t->desired, &p->desired, a, err);
        if (r == 0)
            r = twin_value(&t->reported, &p->reported, a, err);
        if (r < 0)
            return r;
        s->twins[s->n_twins++] = t;
    }
    return 0;
}

int kei_dmi_a1_device(void **ret, const struct kei_device *d, const struct kei_device_model *m,
                      bool with_twins, struct kei_arena *a, struct ke_error *err)
{
    Kei__A1__Device *o = NEW(a, device);

    if (!o || !(o->spec = NEW(a, device_spec)) || !(o->status = NEW(a, device_status)))
        return no_memory(err);
    *ret = o;
    o->name = kei_pb_str(d->meta.name);
    int r = d->api == KEI_DEVICE_V1ALPHA2 ? kei_pb_from_json(o->spec, d->spec, a, err)
                                          : from_b1(o->spec, d, m, a, err);
    o->spec->devicemodelreference = kei_pb_str(d->model);
    return r < 0 || !with_twins ? r : twins(o->status, d, m, a, err);
}

/* ---- models ---- */

static int limits(Kei__A1__PropertyType *t, const struct kei_model_prop *p, struct kei_arena *a,
                  struct ke_error *err)
{
    char *mode = kei_pb_str(p->read_only ? "ReadOnly" : "ReadWrite");

    switch (p->type) {
    case KEI_PROP_INT:
        if (!(t->int_ = NEW(a, property_type_int64)))
            return no_memory(err);
        t->int_->accessmode = mode;
        t->int_->unit = kei_pb_str(p->unit);
        (void)kei_str_i64(kei_str(p->minimum), &t->int_->minimum); /* 0 when it is none */
        (void)kei_str_i64(kei_str(p->maximum), &t->int_->maximum);
        return 0;
    case KEI_PROP_DOUBLE:
        if (!(t->double_ = NEW(a, property_type_double)))
            return no_memory(err);
        t->double_->accessmode = mode;
        t->double_->unit = kei_pb_str(p->unit);
        t->double_->minimum = p->has_min ? p->min : 0;
        t->double_->maximum = p->has_max ? p->max : 0;
        return 0;
    case KEI_PROP_FLOAT:
        if (!(t->float_ = NEW(a, property_type_float)))
            return no_memory(err);
        t->float_->accessmode = mode;
        t->float_->unit = kei_pb_str(p->unit);
        t->float_->minimum = (float)(p->has_min ? p->min : 0);
        t->float_->maximum = (float)(p->has_max ? p->max : 0);
        return 0;
    case KEI_PROP_BOOLEAN:
        if (!(t->boolean = NEW(a, property_type_boolean)))
            return no_memory(err);
        t->boolean->accessmode = mode;
        return 0;
    case KEI_PROP_BYTES:
        if (!(t->bytes = NEW(a, property_type_bytes)))
            return no_memory(err);
        t->bytes->accessmode = mode;
        return 0;
    default:
        if (!(t->string = NEW(a, property_type_string)))
            return no_memory(err);
        t->string->accessmode = mode;
        return 0;
    }
}

static int model_from_b1(Kei__A1__DeviceModelSpec *spec, const struct kei_device_model *m,
                         struct kei_arena *a, struct ke_error *err)
{
    spec->properties = kei_arena_array(a, m->n_props ? m->n_props : 1, sizeof *spec->properties);
    if (!spec->properties)
        return no_memory(err);
    for (uint32_t i = 0; i < m->n_props; i++) {
        Kei__A1__DeviceProperty *p = NEW(a, device_property);
        if (!p || !(p->type = NEW(a, property_type)))
            return no_memory(err);
        p->name = kei_pb_str(m->props[i].name);
        p->description = kei_pb_str(m->props[i].description);
        int r = limits(p->type, &m->props[i], a, err);
        if (r < 0)
            return r;
        spec->properties[spec->n_properties++] = p;
    }
    return 0;
}

int kei_dmi_a1_model(void **ret, const struct kei_device_model *m, struct ke_str object,
                     struct kei_arena *a, struct ke_error *err)
{
    Kei__A1__DeviceModel *o = NEW(a, device_model);
    struct ke_str spec = {NULL, 0};
    int r;

    if (!o || !(o->spec = NEW(a, device_model_spec)))
        return no_memory(err);
    *ret = o;
    o->name = kei_pb_str(m->meta.name);
    if (m->api == KEI_DEVICE_V1ALPHA2 && kei_json_get(object, "spec", &spec))
        r = kei_pb_from_json(o->spec, spec, a, err);
    else
        r = model_from_b1(o->spec, m, a, err);
    if (m->protocol && m->protocol[0])
        o->spec->protocol = kei_pb_str(m->protocol);
    return r;
}
