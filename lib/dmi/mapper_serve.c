/* SPDX-License-Identifier: Apache-2.0 */
/* What the EdgeCore tells a mapper. Each call is answered at once. Loop thread. */
#include <stdio.h>

#include "base/log.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "dmi/mapper_priv.h"

#define SERVICE "/v1beta1.DeviceMapperService/"
#define MEMORY ((size_t)64 * 1024 * 1024) /* that a message may take when it is read */

enum method { PUT_DEVICE, UPDATE, HEALTH, PUT_MODEL, REMOVE_DEVICE, REMOVE_MODEL, GET };

static int put_device(struct ke_mapper *m, const Kei__B1__DeviceRequest *q, struct ke_error *err)
{
    return q->device ? kei_mapper_put(m, q->device, err)
                     : kei_error(err, KE_EINVAL, "the request has no device");
}

static int put_model(struct ke_mapper *m, const Kei__B1__ModelRequest *q, struct ke_error *err)
{
    return q->model ? kei_mapper_put(m, q->model, err)
                    : kei_error(err, KE_EINVAL, "the request has no model");
}

/* ---- GetDevice ---- */

struct twins {
    const char *ns, *name;
    struct kei_arena *a;
    Kei__B1__DeviceStatus *s;
    bool failed;
};

static Kei__B1__TwinProperty *side(struct kei_arena *a, const char *value, const char *type)
{
    Kei__B1__TwinProperty *t = kei_pb_new(a, &kei__b1__twin_property__descriptor);
    Kei__B1__TwinProperty__MetadataEntry *e =
        kei_pb_new(a, &kei__b1__twin_property__metadata_entry__descriptor);

    if (!t || !e)
        return NULL;
    t->value = kei_arena_strdup(a, kei_str(value ? value : ""));
    t->metadata = kei_arena_array(a, 1, sizeof *t->metadata);
    e->key = kei_pb_str("type");
    e->value = kei_arena_strdup(a, kei_str(type));
    if (!t->value || !t->metadata || !e->value)
        return NULL;
    t->metadata[t->n_metadata++] = e;
    return t;
}

static void on_status(void *user, const struct ke_device_status *d)
{
    struct twins *w = user;

    if (strcmp(d->ns, w->ns) != 0 || strcmp(d->name, w->name) != 0)
        return;
    w->s->twins = kei_arena_array(w->a, d->n_properties + 1, sizeof *w->s->twins);
    w->failed = !w->s->twins;
    for (uint32_t i = 0; i < d->n_properties && !w->failed; i++) {
        const struct ke_device_property_status *p = &d->properties[i];
        Kei__B1__Twin *t = kei_pb_new(w->a, &kei__b1__twin__descriptor);
        if (t) {
            t->propertyname = kei_arena_strdup(w->a, kei_str(p->name));
            t->observeddesired = side(w->a, p->desired, p->type);
            t->reported = side(w->a, p->reported, p->type);
        }
        w->failed = !t || !t->propertyname || !t->observeddesired || !t->reported;
        if (!w->failed)
            w->s->twins[w->s->n_twins++] = t;
    }
}

/* What is desired and was read last, of each property. */
static int add_twins(struct ke_mapper *m, Kei__B1__Device *device, struct kei_arena *a,
                     struct ke_error *err)
{
    struct twins w = {.ns = device->namespace_, .name = device->name, .a = a};

    w.s = device->status ? device->status : kei_pb_new(a, &kei__b1__device_status__descriptor);
    if (!w.s || ke_devices_list(m->devices, on_status, &w) < 0 || w.failed)
        return kei_error(err, KE_ENOMEM, "no memory for the answer");
    device->status = w.s;
    return 0;
}

/* The device as it was told, and as it is. */
static int get_device(struct ke_mapper *m, const Kei__B1__NameOf *q, struct ke_buf *out,
                      struct ke_error *err)
{
    Kei__B1__DeviceResponse answer;
    struct kei_device device;
    struct kei_arena a;
    char key[600];
    void *message = NULL;

    snprintf(key, sizeof key, "d/%.253s/%.253s", q->namespace_[0] ? q->namespace_ : "default",
             q->name);
    const struct kei_mapper_object *o = kei_map_get(&m->objects, kei_str(key));
    if (!o)
        return kei_error(err, KE_ENOTFOUND, "device %s is not known", key + 2);
    kei_arena_init(&a, m->alloc, MEMORY);
    int r = kei_device_read(&device, kei_strn(o->json, o->n), &a, err);
    if (r == 0)
        r = kei_dmi_device(&message, KEI_DMI_B1, &device, NULL, false, &a, err);
    if (r == 0)
        r = add_twins(m, message, &a, err);
    if (r == 0) {
        kei__b1__device_response__init(&answer);
        answer.device = message;
        kei_pb_pack(out, &answer);
    }
    kei_arena_free(&a);
    return r;
}

/* The answer of those that say what they took. */
static void name_answer(struct ke_buf *out, const char *name, const char *ns)
{
    Kei__B1__NameOf n;

    kei__b1__name_of__init(&n);
    n.name = kei_pb_str(name);
    n.namespace_ = kei_pb_str(ns);
    kei_pb_pack(out, &n);
}

static int run(struct ke_mapper *m, enum method what, void *q, struct ke_buf *out,
               struct ke_error *err)
{
    const Kei__B1__DeviceRequest *device = q;
    const Kei__B1__ModelRequest *model = q;
    const Kei__B1__NameOf *name = q;
    int r;

    switch (what) {
    case HEALTH:
        kei_buf_add(out, "\x08\x01", 2); /* HealthCheckResponse: SERVING */
        return 0;
    case PUT_DEVICE:
        r = put_device(m, device, err);
        if (r == 0)
            name_answer(out, device->device->name, device->device->namespace_);
        return r;
    case UPDATE:
        return put_device(m, device, err);
    case PUT_MODEL:
        r = put_model(m, model, err);
        if (r == 0)
            name_answer(out, model->model->name, model->model->namespace_);
        return r;
    case REMOVE_DEVICE:
    case REMOVE_MODEL:
        return kei_mapper_remove(m, what == REMOVE_MODEL, name->namespace_, name->name, err);
    case GET:
        return get_device(m, name, out, err);
    }
    return KE_EINVAL;
}

/* code: of a failure */
static void answer(struct ke_mapper *m, struct kei_grpc_call *call, int r, uint32_t code,
                   struct ke_buf *out, const struct ke_error *err, struct ke_str method)
{
    if (r == 0 && kei_buf_ok(out)) {
        kei_grpc_reply(call, out->p ? kei_buf_str(out) : kei_strn("", 0));
        return;
    }
    const char *text = r == 0 ? "no memory for the answer" : err->text;
    m->st.refused++;
    kei_mapper_failed(m, r == 0 ? KE_ENOMEM : r, text);
    kei_log(m->ctx, KE_LOG_WARN, "mapper", "%.*s was refused: %s", KEI_FMT(method), text);
    kei_grpc_refuse(call, code, text);
}

static void on_call(void *user, struct kei_grpc_call *call, struct ke_str path,
                    struct ke_str message)
{
    static const struct {
        const char *path;
        const ProtobufCMessageDescriptor *d;
        enum method what;
    } methods[] = {
        {SERVICE "RegisterDevice", &kei__b1__device_request__descriptor, PUT_DEVICE},
        {SERVICE "UpdateDevice", &kei__b1__device_request__descriptor, UPDATE},
        {SERVICE "RemoveDevice", &kei__b1__name_of__descriptor, REMOVE_DEVICE},
        {SERVICE "CreateDeviceModel", &kei__b1__model_request__descriptor, PUT_MODEL},
        {SERVICE "UpdateDeviceModel", &kei__b1__model_request__descriptor, PUT_MODEL},
        {SERVICE "RemoveDeviceModel", &kei__b1__name_of__descriptor, REMOVE_MODEL},
        {SERVICE "GetDevice", &kei__b1__name_of__descriptor, GET},
        {"/grpc.health.v1.Health/Check", &kei__b1__name_of__descriptor, HEALTH},
    };
    struct ke_mapper *m = user;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena a;
    struct ke_buf out;
    void *q = NULL;

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (!kei_str_is(path, methods[i].path))
            continue;
        kei_arena_init(&a, m->alloc, MEMORY);
        kei_buf_init(&out, m->alloc);
        int r = kei_pb_unpack(&q, methods[i].d, message, &a, &err);
        uint32_t code = r == 0           ? KEI_GRPC_UNKNOWN
                        : r == KE_ENOMEM ? KEI_GRPC_EXHAUSTED
                                         : KEI_GRPC_INTERNAL;
        if (r == 0)
            r = run(m, methods[i].what, q, &out, &err);
        m->st.pushes += r == 0 && methods[i].what != HEALTH;
        answer(m, call, r, code, &out, &err, kei_strn(path.p + 1, path.n - 1));
        ke_buf_free(&out);
        kei_arena_free(&a);
        return;
    }
    kei_grpc_refuse_path(call, path, SERVICE " /grpc.health.v1.Health/");
}

int kei_mapper_serve(struct ke_mapper *m)
{
    static const struct kei_grpc_server_ops ops = {.call = on_call};
    const struct kei_grpc_server_config c = {
        .listener = {.unix_path = m->c.socket, .max_streams = 64}};

    return kei_grpc_server_new(&m->server, m->ctx, &c, &ops, m);
}
