/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ConfigMap device-profile-config-NODE, from which mappers of KubeEdge up to 1.14 know the
 * devices of their node: one in each namespace that has devices there. Made of the manifests alone,
 * so a report does not change it. One that a manifest makes is left alone. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"

#define PREFIX "device-profile-config-"

static bool is_custom(const struct kei_device *d)
{
    return strcmp(d->protocol, "opcua") != 0 && strcmp(d->protocol, "modbus") != 0 &&
           strcmp(d->protocol, "bluetooth") != 0;
}

static const char *protocol_name(const struct kei_device *d)
{
    return is_custom(d) ? "customized-protocol" : d->protocol;
}

static void write_value(struct kei_jw *w, const char *key, const struct kei_twin_value *v)
{
    if (!v->value)
        return;
    kei_jw_key(w, key);
    kei_jw_obj(w);
    kei_jw_kstr(w, "value", v->value);
    if (v->metadata.n > 0)
        kei_jw_kraw(w, "metadata", v->metadata);
    kei_jw_obj_end(w);
}

static void write_twins(struct kei_jw *w, const struct kei_device *d)
{
    static const struct kei_twin_value nothing = {.value = "", .type = ""};
    bool beta = d->api == KEI_DEVICE_V1BETA1;
    kei_jw_key(w, "twins");
    kei_jw_arr(w);
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_device_prop *p = &d->props[i];
        if (!p->in_status && !(beta && p->desired.value))
            continue;
        kei_jw_obj(w);
        kei_jw_kstr(w, "propertyName", p->name);
        write_value(w, "desired", p->desired.value ? &p->desired : &nothing);
        write_value(w, "reported", &nothing);
        kei_jw_obj_end(w);
    }
    kei_jw_arr_end(w);
}

static void write_visitor_config(struct kei_jw *w, const struct kei_device *d,
                                 const struct kei_device_prop *p)
{
    struct ke_str config = p->visitor_config.n ? p->visitor_config : KEI_STR("{}");
    if (!is_custom(d)) {
        kei_jw_kraw(w, "visitorConfig", config);
        return;
    }
    kei_jw_key(w, "visitorConfig");
    kei_jw_obj(w);
    kei_jw_kstr(w, "protocolName", p->visitor_protocol[0] ? p->visitor_protocol : d->protocol);
    kei_jw_kraw(w, "configData", config);
    kei_jw_obj_end(w);
}

static void write_visitors(struct kei_jw *w, const struct kei_device *d)
{
    kei_jw_key(w, "propertyVisitors");
    kei_jw_arr(w);
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_device_prop *p = &d->props[i];
        if (!p->has_visitor)
            continue;
        kei_jw_obj(w);
        kei_jw_kstr(w, "name", p->name);
        kei_jw_kstr(w, "propertyName", p->name);
        kei_jw_kstr(w, "modelName", d->model);
        kei_jw_kstr(w, "protocol", protocol_name(d));
        if (p->report_cycle > 0)
            kei_jw_ki64(w, "reportCycle", p->report_cycle);
        if (p->collect_cycle > 0)
            kei_jw_ki64(w, "collectCycle", p->collect_cycle);
        if (p->customized.n > 0)
            kei_jw_kraw(w, "customizedValues", p->customized);
        write_visitor_config(w, d, p);
        kei_jw_obj_end(w);
    }
    kei_jw_arr_end(w);
}

static void write_instance(struct kei_jw *w, const struct kei_device *d)
{
    struct ke_str data, v;
    char protocol[600];
    snprintf(protocol, sizeof protocol, "%s-%s", protocol_name(d), d->meta.name);
    kei_jw_obj(w);
    kei_jw_kstr(w, "id", d->meta.name);
    kei_jw_kstr(w, "name", d->meta.name);
    kei_jw_kstr(w, "protocol", d->protocol[0] ? protocol : "");
    kei_jw_kstr(w, "model", d->model);
    write_twins(w, d);
    if (kei_json_get(d->spec, "data", &data) && kei_json_type(data) == '{') {
        /* flat up to 1.8, nested from 1.9 on: mappers read the one or the other */
        if (kei_json_get(data, "dataProperties", &v))
            kei_jw_kraw(w, "dataProperties", v);
        if (kei_json_get(data, "dataTopic", &v))
            kei_jw_kraw(w, "dataTopic", v);
        kei_jw_kraw(w, "data", data);
    }
    write_visitors(w, d);
    kei_jw_obj_end(w);
}

static void write_number(struct kei_jw *w, const char *key, const char *text)
{
    struct ke_str v;
    if (!text[0])
        return;
    if (kei_json_value(kei_str(text), 0, &v, NULL) == 0 && v.n == strlen(text) &&
        kei_json_type(v) == '0')
        kei_jw_kraw(w, key, v);
    else
        kei_jw_kstr(w, key, text);
}

static void write_model(struct kei_jw *w, const struct kei_device_model *m)
{
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", m->meta.name);
    kei_jw_key(w, "properties");
    kei_jw_arr(w);
    for (uint32_t i = 0; i < m->n_props; i++) {
        const struct kei_model_prop *p = &m->props[i];
        kei_jw_obj(w);
        kei_jw_kstr(w, "name", p->name);
        kei_jw_kstr(w, "dataType", kei_prop_type_name(p->type));
        if (p->description[0])
            kei_jw_kstr(w, "description", p->description);
        kei_jw_kstr(w, "accessMode", p->read_only ? "ReadOnly" : "ReadWrite");
        if (p->type == KEI_PROP_STRING && p->dflt[0])
            kei_jw_kstr(w, "defaultValue", p->dflt);
        else if (p->type == KEI_PROP_BOOLEAN && p->dflt[0])
            kei_jw_kbool(w, "defaultValue", strcmp(p->dflt, "true") == 0);
        else
            write_number(w, "defaultValue", p->dflt);
        write_number(w, "minimum", p->minimum);
        write_number(w, "maximum", p->maximum);
        if (p->unit[0])
            kei_jw_kstr(w, "unit", p->unit);
        kei_jw_obj_end(w);
    }
    kei_jw_arr_end(w);
    kei_jw_obj_end(w);
}

/* The members of config that are named, as a map; nothing when there are none. */
static bool write_some(struct kei_jw *w, const char *key, struct ke_str config,
                       const char *const *names)
{
    struct ke_str v;
    bool any = false;
    for (size_t i = 0; names[i]; i++) {
        if (!kei_json_iget(config, names[i], &v))
            continue;
        if (!any) {
            kei_jw_key(w, key);
            kei_jw_obj(w);
        }
        any = true;
        kei_jw_kraw(w, names[i], v);
    }
    if (any)
        kei_jw_obj_end(w);
    return any;
}

/* The flat configuration of v1beta1 in the parts that 1.4 has. */
static void write_beta_protocol(struct kei_jw *w, const struct kei_device *d)
{
    static const char *const com[] = {"serialPort", "baudRate", "dataBits",
                                      "parity",     "stopBits", NULL};
    static const char *const tcp[] = {"ip", "port", NULL};
    struct ke_str config = d->protocol_config.n ? d->protocol_config : KEI_STR("{}");
    kei_jw_key(w, "protocolConfig");
    kei_jw_obj(w);
    if (is_custom(d)) {
        kei_jw_kstr(w, "protocolName", d->protocol);
        kei_jw_kraw(w, "configData", config);
    } else {
        struct ke_str key, v;
        for (size_t it = 0; kei_json_next(config, &it, &key, &v);) {
            bool common = kei_json_type(v) == 'n';
            for (size_t i = 0; i < 5 && !common; i++)
                common = kei_json_key_is(key, com[i]) || (i < 2 && kei_json_key_is(key, tcp[i]));
            if (common)
                continue;
            if (w->comma)
                kei_buf_addc(w->out, ',');
            kei_buf_add(w->out, key.p - 1, (size_t)(v.p + v.n - key.p) + 1);
            w->comma = true;
        }
    }
    kei_jw_obj_end(w);
    kei_jw_key(w, "protocolCommonConfig");
    if (is_custom(d)) {
        kei_jw_null(w);
        return;
    }
    kei_jw_obj(w);
    (void)write_some(w, "com", config, com);
    (void)write_some(w, "tcp", config, tcp);
    kei_jw_obj_end(w);
}

static void write_protocol(struct kei_jw *w, const struct kei_device *d)
{
    char name[600];
    if (!d->protocol[0])
        return;
    snprintf(name, sizeof name, "%s-%s", protocol_name(d), d->meta.name);
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", name);
    kei_jw_kstr(w, "protocol", protocol_name(d));
    if (d->api == KEI_DEVICE_V1BETA1) {
        write_beta_protocol(w, d);
    } else {
        kei_jw_kraw(w, "protocolConfig", d->protocol_own.n ? d->protocol_own : KEI_STR("null"));
        kei_jw_kraw(w, "protocolCommonConfig",
                    d->protocol_common.n ? d->protocol_common : KEI_STR("null"));
    }
    kei_jw_obj_end(w);
}

/* ---- all of one namespace ---- */

struct profile {
    struct kei_arena arena;
    struct kei_device *devices;
    struct kei_device_model *models;
    uint32_t n_devices, n_models;
};

static bool has_model(const struct profile *f, const char *name)
{
    for (uint32_t i = 0; i < f->n_models; i++)
        if (strcmp(f->models[i].meta.name, name) == 0)
            return true;
    return false;
}

static int gather(struct kei_peer *p, const char *ns, struct profile *f)
{
    struct ke_cloud *c = p->cloud;
    int r = 0;
    f->devices = kei_arena_array(&f->arena, (size_t)p->n_devices + 1, sizeof *f->devices);
    f->models = kei_arena_array(&f->arena, (size_t)p->n_devices + 1, sizeof *f->models);
    if (!f->devices || !f->models)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the profile of devices");
    KEI_LIST_EACH(l, &p->devices)
    {
        const struct kei_object *o = KEI_OF(l, struct kei_device_note, link)->device;
        if (r < 0 || o->removed || strcmp(o->ns, ns) != 0)
            continue;
        struct kei_device *d = &f->devices[f->n_devices++];
        r = kei_device_read(d, kei_buf_str(&o->json), &f->arena, kei_err(c->ctx));
        if (r < 0 || !d->model[0] || has_model(f, d->model))
            continue;
        const struct kei_object *m = kei_objects_get(c->objects, "devicemodel", ns, d->model);
        if (m)
            r = kei_device_model_read(&f->models[f->n_models++], kei_buf_str(&m->json), &f->arena,
                                      kei_err(c->ctx));
    }
    return r;
}

static void write_profile(struct ke_buf *out, const struct profile *f)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "deviceInstances");
    kei_jw_arr(&w);
    for (uint32_t i = 0; i < f->n_devices; i++)
        write_instance(&w, &f->devices[i]);
    kei_jw_arr_end(&w);
    kei_jw_key(&w, "deviceModels");
    kei_jw_arr(&w);
    for (uint32_t i = 0; i < f->n_models; i++)
        write_model(&w, &f->models[i]);
    kei_jw_arr_end(&w);
    kei_jw_key(&w, "protocols");
    kei_jw_arr(&w);
    for (uint32_t i = 0; i < f->n_devices; i++)
        write_protocol(&w, &f->devices[i]);
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
}

static int store(struct kei_peer *p, const char *ns, const char *name, const struct ke_buf *text)
{
    struct ke_cloud *c = p->cloud;
    struct kei_object *o = kei_objects_get(c->objects, "configmap", ns, name);
    struct ke_buf json = {0};
    struct ke_str have, want;
    struct kei_jw w;
    int r = 0;
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    kei_jw_init(&w, &json);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "kind", "ConfigMap");
    kei_jw_kstr(&w, "apiVersion", "v1");
    kei_jw_kraw(&w, "metadata", KEI_STR("{}"));
    kei_jw_key(&w, "data");
    kei_jw_obj(&w);
    kei_jw_key(&w, "deviceProfile.json");
    kei_jw_strv(&w, kei_buf_str(text));
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    if (!kei_buf_ok(&json) || !kei_buf_ok(text))
        r = kei_fail(c->ctx, KE_ENOMEM, "out of memory for the profile of devices");
    else if (!o || !kei_json_get(kei_buf_str(&o->json), "data", &have) ||
             !kei_json_get(kei_buf_str(&json), "data", &want) || !kei_str_eq(have, want))
        r = kei_objects_write(c->objects, "configmap", ns, name, kei_buf_str(&json), NULL, NULL,
                              NULL);
    ke_buf_free(&json);
    return r;
}

static int update(struct kei_peer *p, const char *ns, const char *name)
{
    struct profile f = {0};
    struct ke_buf text = {0};
    kei_arena_init(&f.arena, kei_ctx_alloc(p->cloud->ctx), 0);
    kei_buf_init(&text, kei_ctx_alloc(p->cloud->ctx));
    int r = gather(p, ns, &f);
    if (r == 0) {
        write_profile(&text, &f);
        r = store(p, ns, name, &text);
    }
    ke_buf_free(&text);
    kei_arena_free(&f.arena);
    return r;
}

static bool is_ours(struct ke_cloud *c, const char *ns, const char *name)
{
    const struct kei_object *o = kei_objects_get(c->objects, "configmap", ns, name);
    return !o || o->source.n == 0;
}

bool kei_device_profile_is_of(const struct kei_peer *p, const struct kei_object *o)
{
    struct ke_str name = kei_str(o->name), prefix = KEI_STR(PREFIX);
    return o->source.n == 0 && strcmp(o->type, "configmap") == 0 && kei_str_starts(name, prefix) &&
           kei_str_is(kei_strn(name.p + prefix.n, name.n - prefix.n), p->name);
}

void kei_device_profile_changed(struct ke_cloud *c, const struct kei_object *o)
{
    if (!kei_str_starts(kei_str(o->name), KEI_STR(PREFIX)))
        return;
    struct kei_peer *p = kei_peer_get(c, o->name + strlen(PREFIX), false);
    if (p && kei_device_profile_is_of(p, o) && kei_deliver_holds(p, o))
        (void)kei_deliver(p, o);
}

static bool has_devices(const struct kei_peer *p, const char *ns)
{
    KEI_LIST_EACH(l, &p->devices)
    {
        const struct kei_object *o = KEI_OF(l, struct kei_device_note, link)->device;
        if (!o->removed && strcmp(o->ns, ns) == 0)
            return true;
    }
    return false;
}

/* It is not the first device of its namespace here. */
static bool seen_before(const struct kei_peer *p, struct kei_link *upto)
{
    const struct kei_object *o = KEI_OF(upto, struct kei_device_note, link)->device;
    KEI_LIST_EACH(l, &p->devices)
    {
        if (l == upto)
            return false;
        if (strcmp(KEI_OF(l, struct kei_device_note, link)->device->ns, o->ns) == 0)
            return true;
    }
    return false;
}

void kei_device_profiles(struct kei_peer *p)
{
    struct ke_cloud *c = p->cloud;
    char name[sizeof PREFIX + KEI_NODE_NAME_MAX];
    struct kei_object *o;
    int r = 0;
    snprintf(name, sizeof name, PREFIX "%s", p->name);
    KEI_LIST_EACH(l, &p->devices)
    {
        const struct kei_object *d = KEI_OF(l, struct kei_device_note, link)->device;
        if (r == 0 && !seen_before(p, l) && is_ours(c, d->ns, name))
            r = update(p, d->ns, name);
    }
    for (size_t it = 0; (o = kei_objects_next(c->objects, "configmap", &it));)
        if (strcmp(o->name, name) == 0 && o->source.n == 0 && !has_devices(p, o->ns))
            (void)kei_objects_remove(c->objects, o, NULL, NULL);
    if (r < 0) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "ConfigMap %s was not written: %s", name,
                ke_ctx_error(c->ctx));
        c->missed = true;
    }
}
