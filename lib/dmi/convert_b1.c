/* SPDX-License-Identifier: Apache-2.0 */
/* Devices and models in the form of v1beta1. See convert.h. */
#include "dmi/convert.h"
#include "dmi/dmi_v1beta1.pb-c.h"

#define NEW(a, type) kei_pb_new(a, &kei__b1__##type##__descriptor)

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "no memory for a device's message");
}

static const char *type_of(const struct kei_model_prop *p)
{
    static const char *const names[] = {"STRING",  "INT",    "FLOAT", "DOUBLE",
                                        "BOOLEAN", "STRING", "BYTES", "STREAM"};

    return (size_t)p->type < sizeof names / sizeof names[0] ? names[p->type] : names[0];
}

/* base's members under over's, as values. */
static int merged(void *values, struct ke_str base, struct ke_str over, struct kei_arena *a,
                  struct ke_error *err)
{
    struct ke_buf text;

    if (base.n == 0)
        return kei_pb_values(values, over, a, err);
    kei_buf_init(&text, a->alloc);
    int r = kei_device_config_merge(&text, base, over, err);
    if (r == 0)
        r = kei_pb_values(values, kei_buf_str(&text), a, err); /* copies what it takes */
    ke_buf_free(&text);
    return r;
}

static int twin_value(Kei__B1__TwinProperty **ret, const struct kei_twin_value *v,
                      struct kei_arena *a, struct ke_error *err)
{
    struct ke_str key, value;
    size_t it = 0, n = 0;
    Kei__B1__TwinProperty *t = NEW(a, twin_property);

    if (!t)
        return no_memory(err);
    *ret = t;
    t->value = kei_pb_str(v->value);
    if (kei_json_type(v->metadata) != '{')
        return 0;
    while (kei_json_next(v->metadata, &it, &key, &value))
        n++;
    t->metadata = kei_arena_array(a, n ? n : 1, sizeof *t->metadata);
    if (!t->metadata)
        return no_memory(err);
    it = 0;
    while (kei_json_next(v->metadata, &it, &key, &value)) {
        Kei__B1__TwinProperty__MetadataEntry *e = NEW(a, twin_property__metadata_entry);
        if (!e)
            return no_memory(err);
        e->key = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
        e->value = kei_json_strdup(value, a);
        if (e->key && e->value)
            t->metadata[t->n_metadata++] = e;
    }
    return 0;
}

static int property(Kei__B1__DeviceProperty **ret, const struct kei_device_prop *p,
                    const struct kei_model_prop *mp, struct kei_arena *a, struct ke_error *err)
{
    Kei__B1__DeviceProperty *o = NEW(a, device_property);
    const char *protocol = p->visitor_protocol;

    if (!o)
        return no_memory(err);
    *ret = o;
    o->name = kei_pb_str(p->name);
    o->collectcycle = p->collect_cycle;
    o->reportcycle = p->report_cycle;
    o->reporttocloud = p->report_to_cloud;
    int r = twin_value(&o->desired, &p->desired, a, err);
    if (r < 0)
        return r;
    o->visitors = NEW(a, visitor_config);
    if (!o->visitors || !(o->visitors->configdata = NEW(a, customized_value)))
        return no_memory(err);
    if (mp && mp->visitor_protocol && mp->visitor_protocol[0])
        protocol = mp->visitor_protocol;
    o->visitors->protocolname = kei_pb_str(protocol);
    r = merged(o->visitors->configdata, mp ? mp->visitor_config : kei_strn(NULL, 0),
               p->visitor_config, a, err);
    if (r < 0 || kei_json_type(p->push.raw) != '{')
        return r;
    o->pushmethod = NEW(a, push_method);
    return o->pushmethod ? kei_pb_from_json(o->pushmethod, p->push.raw, a, err) : no_memory(err);
}

static int properties(Kei__B1__DeviceSpec *spec, const struct kei_device *d,
                      const struct kei_device_model *m, struct kei_arena *a, struct ke_error *err)
{
    spec->properties = kei_arena_array(a, d->n_props ? d->n_props : 1, sizeof *spec->properties);
    if (!spec->properties)
        return no_memory(err);
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_model_prop *mp = m ? kei_model_prop_find(m, d->props[i].name) : NULL;
        if (m && !mp)
            continue;
        int r = property(&spec->properties[spec->n_properties], &d->props[i], mp, a, err);
        if (r < 0)
            return kei_error_prefix(err, r, "property %s", d->props[i].name);
        spec->n_properties++;
    }
    return 0;
}

static int methods(Kei__B1__DeviceSpec *spec, const struct kei_device *d, struct kei_arena *a,
                   struct ke_error *err)
{
    spec->methods = kei_arena_array(a, d->n_methods ? d->n_methods : 1, sizeof *spec->methods);
    if (!spec->methods)
        return no_memory(err);
    for (uint32_t i = 0; i < d->n_methods; i++) {
        const struct kei_device_method *from = &d->methods[i];
        Kei__B1__DeviceMethod *to = NEW(a, device_method);
        if (!to)
            return no_memory(err);
        to->name = kei_pb_str(from->name);
        to->description = kei_pb_str(from->description);
        to->propertynames = (char **)(uintptr_t)from->props; /* only read */
        to->n_propertynames = from->n_props;
        spec->methods[spec->n_methods++] = to;
    }
    return 0;
}

static int status(Kei__B1__Device *o, const struct kei_device *d, bool twins, struct kei_arena *a,
                  struct ke_error *err)
{
    Kei__B1__DeviceStatus *s = NEW(a, device_status);

    if (!s)
        return no_memory(err);
    o->status = s;
    s->reporttocloud = d->state_to_cloud;
    s->reportcycle = d->state_cycle;
    s->twins = kei_arena_array(a, d->n_props ? d->n_props : 1, sizeof *s->twins);
    if (!s->twins)
        return no_memory(err);
    for (uint32_t i = 0; twins && i < d->n_props; i++) {
        const struct kei_device_prop *p = &d->props[i];
        if (!p->in_status)
            continue;
        Kei__B1__Twin *t = NEW(a, twin);
        if (!t)
            return no_memory(err);
        t->propertyname = kei_pb_str(p->name);
        int r = twin_value(&t->observeddesired, &p->observed, a, err);
        if (r == 0)
            r = twin_value(&t->reported, &p->reported, a, err);
        if (r < 0)
            return r;
        s->twins[s->n_twins++] = t;
    }
    return 0;
}

static int b1_device(void **ret, const struct kei_device *d, const struct kei_device_model *m,
                     bool twins, struct kei_arena *a, struct ke_error *err)
{
    Kei__B1__Device *o = NEW(a, device);
    Kei__B1__DeviceSpec *spec = NEW(a, device_spec);
    Kei__B1__ProtocolConfig *protocol = NEW(a, protocol_config);
    Kei__B1__CustomizedValue *values = NEW(a, customized_value);

    if (!o || !spec || !protocol || !values)
        return no_memory(err);
    *ret = o;
    o->name = kei_pb_str(d->meta.name);
    o->namespace_ = kei_pb_str(d->meta.ns);
    o->spec = spec;
    spec->devicemodelreference = kei_pb_str(d->model);
    spec->protocol = protocol;
    protocol->protocolname = kei_pb_str(d->protocol);
    protocol->configdata = values;
    int r = merged(values, m ? m->protocol_config : kei_strn(NULL, 0), d->protocol_config, a, err);
    if (r == 0)
        r = properties(spec, d, m, a, err);
    if (r == 0)
        r = methods(spec, d, a, err);
    if (r == 0)
        r = status(o, d, twins, a, err);
    return r;
}

static int b1_model(void **ret, const struct kei_device_model *m, struct kei_arena *a,
                    struct ke_error *err)
{
    Kei__B1__DeviceModel *o = NEW(a, device_model);
    Kei__B1__DeviceModelSpec *spec = NEW(a, device_model_spec);

    if (!o || !spec)
        return no_memory(err);
    *ret = o;
    o->name = kei_pb_str(m->meta.name);
    o->namespace_ = kei_pb_str(m->meta.ns);
    o->spec = spec;
    spec->properties = kei_arena_array(a, m->n_props ? m->n_props : 1, sizeof *spec->properties);
    if (!spec->properties)
        return no_memory(err);
    for (uint32_t i = 0; i < m->n_props; i++) {
        const struct kei_model_prop *from = &m->props[i];
        Kei__B1__ModelProperty *to = NEW(a, model_property);
        if (!to)
            return no_memory(err);
        to->name = kei_pb_str(from->name);
        to->description = kei_pb_str(from->description);
        to->type = kei_pb_str(type_of(from));
        to->accessmode = kei_pb_str(from->read_only ? "ReadOnly" : "ReadWrite");
        to->minimum = kei_pb_str(from->minimum);
        to->maximum = kei_pb_str(from->maximum);
        to->unit = kei_pb_str(from->unit);
        spec->properties[spec->n_properties++] = to;
    }
    return 0;
}

int kei_dmi_device(void **ret, enum kei_dmi_form form, const struct kei_device *d,
                   const struct kei_device_model *m, bool twins, struct kei_arena *a,
                   struct ke_error *err)
{
    return form == KEI_DMI_A1 ? kei_dmi_a1_device(ret, d, m, twins, a, err)
                              : b1_device(ret, d, m, twins, a, err);
}

int kei_dmi_model(void **ret, enum kei_dmi_form form, const struct kei_device_model *m,
                  struct ke_str object, struct kei_arena *a, struct ke_error *err)
{
    return form == KEI_DMI_A1 ? kei_dmi_a1_model(ret, m, object, a, err) : b1_model(ret, m, a, err);
}
