/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forms of a device: what a manifest says, as nodes since 1.15 take it (v1beta1 objects) and as
 * those of 1.4 do (maps of desired values). Pure; what is made is appended to the caller's buffer.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/device.h"

#define NS_PER_MS 1000000

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "out of memory for a device");
}

/* ---- what little is needed often ---- */

bool kei_device_is_alpha(struct ke_str object)
{
    struct ke_str v;
    return kei_json_get(object, "apiVersion", &v) &&
           kei_json_str_is(v, "devices.kubeedge.io/v1alpha2");
}

static bool first_item(struct ke_str object, const char *key, struct ke_str *ret)
{
    struct ke_str list, k;
    size_t it = 0;
    return kei_json_get(object, key, &list) && kei_json_type(list) == '[' &&
           kei_json_next(list, &it, &k, ret);
}

const char *kei_device_node(struct ke_str device, char out[KEI_NODE_NAME_MAX + 1])
{
    struct ke_str v = {0}, term, expression;
    out[0] = 0;
    if (kei_device_is_alpha(device)) {
        if (!kei_json_path(device, "spec.nodeSelector", &v) ||
            !first_item(v, "nodeSelectorTerms", &term) ||
            !first_item(term, "matchExpressions", &expression) ||
            !first_item(expression, "values", &v))
            return out;
    } else if (!kei_json_path(device, "spec.nodeName", &v)) {
        return out;
    }
    (void)kei_json_copy(out, KEI_NODE_NAME_MAX + 1, v);
    return out;
}

const char *kei_device_model_name(struct ke_str device, char out[KEI_NODE_NAME_MAX + 1])
{
    struct ke_str v;
    out[0] = 0;
    if (kei_json_path(device, "spec.deviceModelRef.name", &v))
        (void)kei_json_copy(out, KEI_NODE_NAME_MAX + 1, v);
    return out;
}

/* ---- objects of v1beta1 ---- */

static void write_cycle(struct kei_jw *w, const char *key, int64_t ns, uint32_t dialect)
{
    int64_t v = dialect == KE_DIALECT_1_23 ? (ns + NS_PER_MS - 1) / NS_PER_MS : ns;
    if (ns > 0)
        kei_jw_ki64(w, key, v);
}

static int write_visitor(struct kei_jw *w, const struct kei_device *d,
                         const struct kei_device_prop *p, struct ke_error *err)
{
    struct ke_buf config = {0};
    int r;
    kei_buf_init(&config, w->out->alloc);
    r = kei_device_config_merge(&config, p->customized, p->visitor_config, err);
    kei_jw_key(w, "visitors");
    kei_jw_obj(w);
    kei_jw_kstr(w, "protocolName", p->visitor_protocol[0] ? p->visitor_protocol : d->protocol);
    if (r == 0 && kei_buf_ok(&config))
        kei_jw_kraw(w, "configData", kei_buf_str(&config));
    else if (r == 0)
        r = no_memory(err);
    kei_jw_obj_end(w);
    ke_buf_free(&config);
    return r;
}

static int write_property(struct kei_jw *w, const struct kei_device *d,
                          const struct kei_device_prop *p, uint32_t dialect, struct ke_error *err)
{
    int r = 0;
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", p->name);
    if (p->desired.value) {
        kei_jw_key(w, "desired");
        kei_jw_obj(w);
        kei_jw_kstr(w, "value", p->desired.value);
        if (p->desired.metadata.n > 0)
            kei_jw_kraw(w, "metadata", p->desired.metadata);
        kei_jw_obj_end(w);
    }
    if (p->has_visitor)
        r = write_visitor(w, d, p, err);
    write_cycle(w, "reportCycle", p->report_cycle, dialect);
    write_cycle(w, "collectCycle", p->collect_cycle, dialect);
    if (p->report_to_cloud)
        kei_jw_kbool(w, "reportToCloud", true);
    kei_jw_obj_end(w);
    return r;
}

static int write_beta_spec(struct kei_jw *w, const struct kei_device *d, uint32_t dialect,
                           struct ke_error *err)
{
    struct ke_str data;
    int r = 0;
    kei_jw_obj(w);
    kei_jw_key(w, "deviceModelRef");
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", d->model);
    kei_jw_obj_end(w);
    if (d->node[0])
        kei_jw_kstr(w, "nodeName", d->node);
    kei_jw_key(w, "properties");
    kei_jw_arr(w);
    for (uint32_t i = 0; r == 0 && i < d->n_props; i++)
        r = write_property(w, d, &d->props[i], dialect, err);
    kei_jw_arr_end(w);
    if (d->protocol[0]) {
        kei_jw_key(w, "protocol");
        kei_jw_obj(w);
        kei_jw_kstr(w, "protocolName", d->protocol);
        kei_jw_kraw(w, "configData", d->protocol_config.n ? d->protocol_config : KEI_STR("{}"));
        kei_jw_obj_end(w);
    }
    if (kei_json_get(d->spec, "data", &data) && kei_json_type(data) == '{')
        kei_jw_kraw(w, "data", data); /* v1beta1 has none; who does not know it does not look */
    kei_jw_obj_end(w);
    return r;
}

static void write_head(struct kei_jw *w, const char *kind, struct ke_str object)
{
    struct ke_str meta = KEI_STR("{}");
    (void)kei_json_get(object, "metadata", &meta);
    kei_jw_obj(w);
    kei_jw_kstr(w, "kind", kind);
    kei_jw_kstr(w, "apiVersion", "devices.kubeedge.io/v1beta1");
    kei_jw_kraw(w, "metadata", meta);
    kei_jw_key(w, "spec");
}

int kei_device_beta(struct ke_buf *out, struct ke_str device, uint32_t dialect,
                    const struct ke_alloc *al, struct ke_error *err)
{
    struct ke_str none = {0};
    struct kei_device d;
    struct kei_arena a;
    struct kei_jw w;
    if (!kei_device_is_alpha(device))
        return kei_json_set(out, device, KEI_DEVICE_OWN, none, err);
    kei_arena_init(&a, al, 0);
    int r = kei_device_read(&d, device, &a, err);
    if (r == 0) {
        kei_jw_init(&w, out);
        write_head(&w, "Device", device);
        r = write_beta_spec(&w, &d, dialect, err);
        kei_jw_kraw(&w, "status", KEI_STR("{}"));
        kei_jw_obj_end(&w);
    }
    kei_arena_free(&a);
    return r < 0 ? r : kei_buf_ok(out) ? 0 : no_memory(err);
}

static void write_model_property(struct kei_jw *w, const struct kei_model_prop *p)
{
    static const char *const names[] = {"STRING",  "INT",    "FLOAT", "DOUBLE",
                                        "BOOLEAN", "STRING", "BYTES", "STREAM"};
    const struct {
        const char *key, *value;
    } texts[] = {{"description", p->description},
                 {"type", names[p->type]},
                 {"accessMode", p->read_only ? "ReadOnly" : "ReadWrite"},
                 {"minimum", p->minimum},
                 {"maximum", p->maximum},
                 {"unit", p->unit}};
    kei_jw_obj(w);
    kei_jw_kstr(w, "name", p->name);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].value[0])
            kei_jw_kstr(w, texts[i].key, texts[i].value);
    kei_jw_obj_end(w);
}

int kei_devicemodel_beta(struct ke_buf *out, struct ke_str model, const char *protocol,
                         const struct ke_alloc *al, struct ke_error *err)
{
    struct kei_device_model m;
    struct kei_arena a;
    struct kei_jw w;
    if (!kei_device_is_alpha(model)) {
        kei_buf_addv(out, model);
        return kei_buf_ok(out) ? 0 : no_memory(err);
    }
    kei_arena_init(&a, al, 0);
    int r = kei_device_model_read(&m, model, &a, err);
    if (r == 0) {
        kei_jw_init(&w, out);
        write_head(&w, "DeviceModel", model);
        kei_jw_obj(&w);
        kei_jw_key(&w, "properties");
        kei_jw_arr(&w);
        for (uint32_t i = 0; i < m.n_props; i++)
            write_model_property(&w, &m.props[i]);
        kei_jw_arr_end(&w);
        if (m.protocol[0] || protocol[0])
            kei_jw_kstr(&w, "protocol", m.protocol[0] ? m.protocol : protocol);
        kei_jw_obj_end(&w);
        kei_jw_obj_end(&w);
    }
    kei_arena_free(&a);
    return r < 0 ? r : kei_buf_ok(out) ? 0 : no_memory(err);
}

/* ---- desired values, as a 1.4 node has them ---- */

struct wish {
    const char *name, *value, *type;
    int64_t edge;
};

const char *kei_device_desired(const struct kei_device *d, const struct kei_device_prop *p)
{
    if (d->api == KEI_DEVICE_V1ALPHA2 && p->in_status)
        return p->desired.value ? p->desired.value : "";
    return d->api == KEI_DEVICE_V1BETA1 ? p->desired.value : NULL;
}

/* The type that a 1.4 node checks by; it knows no double and no bytes. */
static const char *type_of(const struct kei_device *d, const struct kei_device_prop *p,
                           const struct kei_device_model *m)
{
    const struct kei_model_prop *mp = m ? kei_model_prop_find(m, p->name) : NULL;
    if (p->desired.type[0])
        return p->desired.type;
    if (d->api == KEI_DEVICE_V1ALPHA2 || !mp)
        return "string";
    return mp->type == KEI_PROP_INT                                    ? "int"
           : mp->type == KEI_PROP_BOOLEAN                              ? "boolean"
           : mp->type == KEI_PROP_FLOAT || mp->type == KEI_PROP_DOUBLE ? "float"
                                                                       : "string";
}

static int64_t own_edge(struct ke_str device, const char *name)
{
    struct ke_str map, v;
    int64_t n = 0;
    if (!kei_json_path(device, KEI_DEVICE_OWN ".edge", &map) || !kei_json_get(map, name, &v) ||
        !kei_json_i64(v, &n))
        return 0;
    return n;
}

static int by_name(const void *a, const void *b)
{
    const struct wish *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The desired values that went, which 1.4 nodes must be told. */
static int gone_wishes(struct ke_str device, struct wish *wishes, uint32_t cap, uint32_t *n,
                       struct kei_arena *a)
{
    struct ke_str map, key, v;
    if (!kei_json_path(device, KEI_DEVICE_OWN ".removed", &map))
        return 0;
    for (size_t it = 0; *n < cap && kei_json_next(map, &it, &key, &v);) {
        const char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
        const char *value = kei_json_strdup(v, a);
        if (!name || !value)
            return KE_ENOMEM;
        wishes[(*n)++] = (struct wish){name, value, "deleted", own_edge(device, name)};
    }
    return 0;
}

static uint32_t count_members(struct ke_str device, const char *path)
{
    struct ke_str map, key, v;
    uint32_t n = 0;
    if (kei_json_path(device, path, &map))
        for (size_t it = 0; kei_json_next(map, &it, &key, &v);)
            n++;
    return n;
}

static void write_wish(struct kei_jw *w, const struct wish *x, int64_t version, int64_t now_ms)
{
    kei_jw_key(w, x->name);
    kei_jw_obj(w);
    kei_jw_key(w, "expected");
    kei_jw_obj(w);
    kei_jw_kstr(w, "value", x->value);
    kei_jw_key(w, "metadata");
    kei_jw_obj(w);
    kei_jw_ki64(w, "timestamp", now_ms);
    kei_jw_obj_end(w);
    kei_jw_obj_end(w);
    kei_jw_kbool(w, "optional", false);
    kei_jw_key(w, "metadata");
    kei_jw_obj(w);
    kei_jw_kstr(w, "type", x->type);
    kei_jw_obj_end(w);
    kei_jw_key(w, "expected_version");
    kei_jw_obj(w);
    kei_jw_ki64(w, "cloud", version);
    kei_jw_ki64(w, "edge", x->edge);
    kei_jw_obj_end(w);
    kei_jw_obj_end(w);
}

int kei_device_twins(struct ke_buf *out, struct ke_str device, struct ke_str model, int64_t version,
                     int64_t now_ms, bool gone, uint32_t *ret_n, const struct ke_alloc *al,
                     struct ke_error *err)
{
    struct kei_device d;
    struct kei_device_model m;
    struct kei_arena a;
    struct kei_jw w;
    struct wish *wishes = NULL;
    uint32_t n = 0, cap = 0;
    *ret_n = 0;
    kei_arena_init(&a, al, 0);
    int r = kei_device_read(&d, device, &a, err);
    if (r == 0 && model.n > 0)
        r = kei_device_model_read(&m, model, &a, err);
    if (r == 0) {
        cap = d.n_props + count_members(device, KEI_DEVICE_OWN ".removed") + 1;
        wishes = kei_arena_array(&a, cap, sizeof *wishes);
        r = wishes ? 0 : no_memory(err);
    }
    for (uint32_t i = 0; r == 0 && i < d.n_props; i++) {
        const struct kei_device_prop *p = &d.props[i];
        const char *value = kei_device_desired(&d, p);
        if (value)
            wishes[n++] = (struct wish){p->name, value, type_of(&d, p, model.n > 0 ? &m : NULL),
                                        own_edge(device, p->name)};
    }
    if (r == 0 && gone && gone_wishes(device, wishes, cap, &n, &a) < 0)
        r = no_memory(err);
    if (r == 0) {
        qsort(wishes, n, sizeof *wishes, by_name);
        kei_jw_init(&w, out);
        kei_jw_obj(&w);
        for (uint32_t i = 0; i < n; i++)
            write_wish(&w, &wishes[i], version, now_ms);
        kei_jw_obj_end(&w);
        *ret_n = n;
    }
    kei_arena_free(&a);
    return r < 0 ? r : kei_buf_ok(out) ? 0 : no_memory(err);
}

/* ---- what a new manifest changes ---- */

const char *kei_device_desired_by_name(const struct kei_device *d, const char *name)
{
    const struct kei_device_prop *p = kei_device_prop_find(d, name);
    return p ? kei_device_desired(d, p) : NULL;
}

/* {TWIN:VALUE} of what was desired and is not any more. */
static int write_removed(struct kei_jw *w, const struct kei_device *now,
                         const struct kei_device *before, struct ke_str old, struct kei_arena *a)
{
    struct ke_str map, key, v;
    kei_jw_key(w, "removed");
    kei_jw_obj(w);
    for (uint32_t i = 0; i < before->n_props; i++) {
        const char *value = kei_device_desired(before, &before->props[i]);
        if (value && !kei_device_desired_by_name(now, before->props[i].name))
            kei_jw_kstr(w, before->props[i].name, value);
    }
    if (kei_json_path(old, KEI_DEVICE_OWN ".removed", &map))
        for (size_t it = 0; kei_json_next(map, &it, &key, &v);) {
            const char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
            if (!name)
                return KE_ENOMEM;
            if (!kei_device_desired_by_name(now, name) && !kei_device_desired_by_name(before, name))
                kei_jw_kraw(w, name, v);
        }
    kei_jw_obj_end(w);
    return 0;
}

/*
 * {TWIN:VERSION}: a 1.4 node takes a desired value only when it names the node's own version of it.
 * A new one names what the node told last, so it wins over a local change that the cloud knew of;
 * an old one goes on naming what it named, so it does not undo a local change that came later.
 */
static void write_edges(struct kei_jw *w, const struct kei_device *now,
                        const struct kei_device *before, struct ke_str old,
                        const struct kei_device_state *state, struct kei_arena *a)
{
    kei_jw_key(w, "edge");
    kei_jw_obj(w);
    for (uint32_t i = 0; i < now->n_props; i++) {
        const char *name = now->props[i].name, *value = kei_device_desired(now, &now->props[i]);
        const char *was = value ? kei_device_desired_by_name(before, name) : NULL;
        const struct kei_twin_state *t = kei_device_state_twin(state, kei_str(name));
        int64_t edge = was && strcmp(was, value) == 0 ? own_edge(old, name)
                       : t                            ? t->expected_edge
                                                      : 0;
        if (value && edge > 0)
            kei_jw_ki64(w, name, edge);
    }
    for (uint32_t i = 0; i < before->n_props; i++) {
        const char *name = before->props[i].name;
        const struct kei_twin_state *t = kei_device_state_twin(state, kei_str(name));
        if (kei_device_desired(before, &before->props[i]) &&
            !kei_device_desired_by_name(now, name) && t && t->expected_edge > 0)
            kei_jw_ki64(w, name, t->expected_edge);
    }
    /* and those that went before go on */
    struct ke_str map, key, v;
    if (kei_json_path(old, KEI_DEVICE_OWN ".removed", &map))
        for (size_t it = 0; kei_json_next(map, &it, &key, &v);) {
            const char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
            int64_t edge = name ? own_edge(old, name) : 0;
            if (edge > 0 && !kei_device_desired_by_name(now, name) &&
                !kei_device_desired_by_name(before, name))
                kei_jw_ki64(w, name, edge);
        }
    kei_jw_obj_end(w);
}

int kei_device_next(struct ke_buf *out, struct ke_str wanted, struct ke_str old,
                    struct ke_str status, const struct ke_alloc *al, struct ke_error *err)
{
    struct kei_device now, before;
    struct kei_device_state state;
    struct kei_arena a;
    struct ke_buf own = {0};
    struct kei_jw w;
    kei_arena_init(&a, al, 0);
    kei_buf_init(&own, al);
    int r = kei_device_read(&now, wanted, &a, err);
    if (r == 0)
        r = kei_device_read(&before, old, &a, err);
    if (r == 0)
        r = kei_device_state_read(&state, status, before.meta.uid, &a, err);
    if (r == 0) {
        kei_jw_init(&w, &own);
        kei_jw_obj(&w);
        if (write_removed(&w, &now, &before, old, &a) < 0)
            r = no_memory(err);
        write_edges(&w, &now, &before, old, &state, &a);
        kei_jw_obj_end(&w);
    }
    if (r == 0 && !kei_buf_ok(&own))
        r = no_memory(err);
    if (r == 0)
        r = kei_json_set(out, wanted, KEI_DEVICE_OWN, kei_buf_str(&own), err);
    ke_buf_free(&own);
    kei_arena_free(&a);
    return r;
}
