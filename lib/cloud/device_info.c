/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host sees of devices: the manifest's side and the node's, put together. All strings live
 * in the caller's arena or in the objects. Loop thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cloud/device.h"

struct gather {
    struct kei_arena *a;
    struct ke_cloud_twin_info *twins;
    uint32_t n;
};

static int no_memory(struct ke_cloud *c)
{
    return kei_fail(c->ctx, KE_ENOMEM, "out of memory to tell of a device");
}

static struct ke_cloud_twin_info *twin_of(struct gather *g, const char *name)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (strcmp(g->twins[i].name, name) == 0)
            return &g->twins[i];
    struct ke_cloud_twin_info *t = &g->twins[g->n++];
    *t = (struct ke_cloud_twin_info){
        .size = sizeof *t, .name = name, .type = "", .desired = "", .reported = "", .observed = ""};
    return t;
}

static void add_desired(struct gather *g, const struct kei_device *d,
                        const struct kei_device_model *m)
{
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_device_prop *p = &d->props[i];
        const struct kei_model_prop *mp = m ? kei_model_prop_find(m, p->name) : NULL;
        struct ke_cloud_twin_info *t = twin_of(g, p->name);
        t->type = mp && mp->type != KEI_PROP_NONE ? kei_prop_type_name(mp->type) : p->desired.type;
        if (!p->desired.value)
            continue;
        t->desired = p->desired.value;
        t->has_desired = 1;
    }
}

static void add_reported(struct gather *g, const struct kei_device_state *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kei_twin_state *from = &s->twins[i];
        if (!from->reported && !from->observed)
            continue;
        struct ke_cloud_twin_info *t = twin_of(g, from->name.p);
        if (!t->type[0])
            t->type = from->type[0] ? from->type : from->observed_type;
        t->has_reported = from->reported != NULL;
        t->has_observed = from->observed != NULL;
        t->reported = from->reported ? from->reported : "";
        t->observed = from->observed ? from->observed : "";
        t->reported_ms = from->reported_ms;
    }
}

static int by_name(const void *a, const void *b)
{
    const struct ke_cloud_twin_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* What is wrong with a desired value that is given; NULL: nothing, or no memory. */
static const char *desired_fault(const struct kei_device_prop *p, const struct kei_model_prop *mp,
                                 struct kei_arena *a)
{
    struct ke_str value = kei_str(p->desired.value);
    double v;
    if (mp->type != KEI_PROP_NONE && !kei_prop_value_ok(mp->type, value))
        return kei_arena_printf(a, "%s: the desired value \"%.80s\" is no %s", p->name, value.p,
                                kei_prop_type_name(mp->type));
    if (mp->read_only)
        return kei_arena_printf(a, "%s: it is read-only, the desired value \"%.80s\" has no effect",
                                p->name, value.p);
    if ((!mp->has_min && !mp->has_max) || !kei_number_parse(value, &v))
        return NULL;
    if (mp->has_min && v < mp->min)
        return kei_arena_printf(a, "%s: the desired value %.80s is below the minimum %s", p->name,
                                value.p, mp->minimum);
    if (mp->has_max && v > mp->max)
        return kei_arena_printf(a, "%s: the desired value %.80s is above the maximum %s", p->name,
                                value.p, mp->maximum);
    return NULL;
}

/* What keeps the device from working, as far as it shows here. */
static const char *fault(const struct kei_device *d, const struct kei_device_model *m,
                         struct kei_arena *a)
{
    const char *text = "", *why;
    if (!d->node[0])
        return "it names no node";
    if (!m)
        text = kei_arena_printf(a, "its model %s is missing", d->model);
    for (uint32_t i = 0; m && i < d->n_props && text && !text[0]; i++) {
        const struct kei_device_prop *p = &d->props[i];
        const struct kei_model_prop *mp = kei_model_prop_find(m, p->name);
        if (!mp)
            text = kei_arena_printf(a, "%s: its model has no such property", p->name);
        else if (!p->has_visitor && !p->desired.value && !p->in_status)
            text = kei_arena_printf(a, "%s: it has no visitor", p->name);
        else if (p->desired.value && p->desired.value[0] && (why = desired_fault(p, mp, a)))
            text = why;
    }
    return text ? text : "out of memory";
}

static bool is_pending(const struct kei_object *o)
{
    const struct kei_device_note *note = o->note;
    if (!note || !note->peer || note->peer->dialect == KE_DIALECT_1_4)
        return false;
    return !kei_deliver_done(note->peer, o);
}

static struct kei_object *find_model(struct ke_cloud *c, const struct kei_object *o)
{
    char name[KEI_NODE_NAME_MAX + 1];
    (void)kei_device_model_name(kei_buf_str(&o->json), name);
    return name[0] ? kei_objects_get(c->objects, "devicemodel", o->ns, name) : NULL;
}

static int put_together(struct ke_cloud *c, const struct kei_device *d,
                        const struct kei_device_model *m, const struct kei_device_state *s,
                        struct kei_arena *a, struct ke_cloud_device_info *ret)
{
    struct gather g = {.a = a};
    size_t cap = (size_t)d->n_props + s->n;
    if (cap == 0)
        return 0;
    g.twins = kei_arena_array(a, cap, sizeof *g.twins);
    const struct ke_cloud_twin_info **list = kei_arena_array(a, cap, sizeof *list);
    if (!g.twins || !list)
        return no_memory(c);
    add_desired(&g, d, m);
    add_reported(&g, s);
    qsort(g.twins, g.n, sizeof *g.twins, by_name);
    for (uint32_t i = 0; i < g.n; i++)
        list[i] = &g.twins[i];
    ret->twins = g.n ? list : NULL;
    ret->n_twins = g.n;
    return 0;
}

int kei_info_device(struct ke_cloud *c, const struct kei_object *o, struct kei_arena *a,
                    struct ke_cloud_device_info *ret)
{
    const struct kei_object *status = kei_objects_get(c->objects, "devicestatus", o->ns, o->name);
    const struct kei_object *mo = find_model(c, o);
    struct kei_device d;
    struct kei_device_model m;
    struct kei_device_state s;
    struct ke_str said = {0};
    if (status)
        said = kei_buf_str(&status->json);
    *ret = (struct ke_cloud_device_info){
        .size = sizeof *ret, .device_namespace = o->ns, .name = o->name, .uid = o->uid};
    int r = kei_device_read(&d, kei_buf_str(&o->json), a, kei_err(c->ctx));
    if (r == 0 && mo)
        r = kei_device_model_read(&m, kei_buf_str(&mo->json), a, kei_err(c->ctx));
    if (r == 0)
        r = kei_device_state_read(&s, said, o->uid, a, kei_err(c->ctx));
    if (r < 0)
        return r;
    ret->node = d.node;
    ret->model = d.model;
    ret->protocol = d.protocol;
    ret->api = d.api == KEI_DEVICE_V1ALPHA2 ? "v1alpha2" : "v1beta1";
    ret->state = s.state;
    ret->last_online = s.seen;
    ret->reason = fault(&d, mo ? &m : NULL, a);
    ret->pending = is_pending(o);
    return put_together(c, &d, mo ? &m : NULL, &s, a, ret);
}

void kei_tell_device(struct ke_cloud *c, const struct kei_object *o, bool removed)
{
    struct ke_cloud_device_info info;
    struct kei_arena a;
    if (!c->ops.device || !kei_host_listens(c))
        return;
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    if (kei_info_device(c, o, &a, &info) == 0) {
        kei_host_enter(c);
        c->ops.device(c->user, &info, removed);
        kei_host_leave(c);
    } else {
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "device %s/%s was not told of: %s", o->ns, o->name,
                ke_ctx_error(c->ctx));
    }
    kei_arena_free(&a);
}

void kei_device_reported(struct ke_cloud *c, const struct kei_object *status, bool removed)
{
    const struct kei_object *o = kei_objects_get(c->objects, "device", status->ns, status->name);
    if (o && !removed)
        kei_tell_device(c, o, false);
}
