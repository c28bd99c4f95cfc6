/* SPDX-License-Identifier: Apache-2.0 */
/* What a mapper tells the EdgeCore: values and states of devices, as the harness asks. Loop. */
#include <stdio.h>

#include "base/codec.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "dmi/mapper_priv.h"

struct report {
    struct ke_mapper *m;
    struct kei_link link;
    uint64_t id; /* of the harness */
    bool is_state;
};

static void report_free(struct report *r)
{
    kei_list_remove(&r->link);
    kei_free(r->m->alloc, r);
}

void kei_mapper_reports_free(struct ke_mapper *m)
{
    KEI_LIST_EACH_SAFE(l, next, &m->reports)
    report_free(KEI_OF(l, struct report, link));
}

/* What the harness makes of an answer: KE_EINVAL is about the values themselves. */
static int status_of(struct report *r, const struct kei_grpc_answer *a)
{
    if (a->status < 0)
        return a->status;
    if (a->code == KEI_GRPC_OK)
        return 0;
    if (a->code == KEI_GRPC_UNIMPLEMENTED && r->is_state) {
        r->m->no_states = true; /* it is too old for states: there is nothing to report then */
        return 0;
    }
    if (kei_str_has(kei_str(a->text), KEI_STR("too many request")))
        return KE_EAGAIN;
    return a->code == KEI_GRPC_UNKNOWN || a->code == KEI_GRPC_INVALID ? KE_EINVAL : KE_EREFUSED;
}

static void on_reported(void *user, const struct kei_grpc_answer *a)
{
    struct report *r = user;
    struct ke_mapper *m = r->m;
    uint64_t id = r->id;
    int status = status_of(r, a);

    report_free(r);
    if (status == 0) {
        m->st.reports++;
    } else {
        m->st.report_failures++;
        kei_mapper_failed(m, status, a->text);
    }
    (void)!ke_devices_reported(m->devices, id, status); /* the device may be gone */
}

static int ask(struct ke_mapper *m, uint64_t id, bool is_state, const char *path, const void *q)
{
    struct report *r = kei_zalloc(m->alloc, sizeof *r);
    struct ke_buf body;

    kei_buf_init(&body, m->alloc);
    kei_pb_pack(&body, q);
    if (!r || !kei_buf_ok(&body)) {
        kei_free(m->alloc, r);
        ke_buf_free(&body);
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for a report");
    }
    *r = (struct report){.m = m, .id = id, .is_state = is_state};
    kei_list_add_tail(&m->reports, &r->link);
    int x = kei_grpc_ask(NULL, m->client, path, kei_buf_str(&body), m->c.call_ms, on_reported, r);
    ke_buf_free(&body);
    if (x < 0)
        report_free(r);
    return x;
}

/* ---- values ---- */

static Kei__B1__TwinProperty *side(struct kei_arena *a, const char *value, const char *type,
                                   int64_t when_ms)
{
    static const char *const keys[] = {"type", "timestamp"};
    Kei__B1__TwinProperty *t = kei_pb_new(a, &kei__b1__twin_property__descriptor);

    if (!t)
        return NULL;
    t->value = kei_pb_str(value);
    t->metadata = kei_arena_array(a, 2, sizeof *t->metadata);
    for (size_t i = 0; t->metadata && i < 2; i++) {
        Kei__B1__TwinProperty__MetadataEntry *e =
            kei_pb_new(a, &kei__b1__twin_property__metadata_entry__descriptor);
        if (!e)
            return NULL;
        e->key = kei_pb_str(keys[i]);
        e->value = i ? kei_arena_printf(a, "%lld", (long long)when_ms) : kei_pb_str(type);
        if (!e->value)
            return NULL;
        t->metadata[t->n_metadata++] = e;
    }
    return t->metadata ? t : NULL;
}

/*
 * Both sides are always there: an EdgeCore before 1.23 ends when one is not. Neither is empty: a
 * cloud of 1.15 drops all that it is told of a device when one is. So where nothing is desired,
 * what was observed is what is.
 */
static int fill(Kei__B1__DeviceStatus *s, const struct ke_device_reported *v, uint32_t n,
                struct kei_arena *a)
{
    s->twins = kei_arena_array(a, n ? n : 1, sizeof *s->twins);
    if (!s->twins)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        const struct ke_device_reported *p = (const void *)((const char *)v + (size_t)i * v->size);
        if (!p->reported)
            continue; /* nothing was read yet, and "" would be a value */
        Kei__B1__Twin *t = kei_pb_new(a, &kei__b1__twin__descriptor);
        if (!t)
            return KE_ENOMEM;
        t->propertyname = kei_pb_str(p->property);
        t->reported = side(a, p->reported, p->type, p->when_ms);
        t->observeddesired =
            side(a, p->desired && p->desired[0] ? p->desired : p->reported, p->type, p->when_ms);
        if (!t->reported || !t->observeddesired)
            return KE_ENOMEM;
        s->twins[s->n_twins++] = t;
    }
    return 0;
}

static int on_values(void *user, uint64_t id, const char *ns, const char *name,
                     const struct ke_device_reported *v, uint32_t n)
{
    struct ke_mapper *m = user;
    Kei__B1__ReportDeviceStatusRequest q;
    Kei__B1__DeviceStatus s;
    struct kei_arena a;

    kei_arena_init(&a, m->alloc, 0);
    kei__b1__report_device_status_request__init(&q);
    kei__b1__device_status__init(&s);
    q.devicename = kei_pb_str(name);
    q.devicenamespace = kei_pb_str(ns);
    q.reporteddevice = &s;
    int r = fill(&s, v, n, &a);
    if (r < 0)
        r = kei_fail(m->ctx, KE_ENOMEM, "no memory for a report");
    else if (s.n_twins == 0)
        r = KE_ENOTSUP; /* there is nothing to tell */
    else
        r = ask(m, id, false, "/v1beta1.DeviceManagerService/ReportDeviceStatus", &q);
    kei_arena_free(&a);
    return r;
}

static int on_state(void *user, uint64_t id, const char *ns, const char *name, const char *state)
{
    struct ke_mapper *m = user;
    Kei__B1__ReportDeviceStatesRequest q;

    if (m->no_states)
        return KE_ENOTSUP;
    kei__b1__report_device_states_request__init(&q);
    q.devicename = kei_pb_str(name);
    q.devicenamespace = kei_pb_str(ns);
    q.state = kei_pb_str(state);
    return ask(m, id, true, "/v1beta1.DeviceManagerService/ReportDeviceStates", &q);
}

const struct ke_devices_sink kei_mapper_sink = {
    .size = sizeof kei_mapper_sink, .report = on_values, .state = on_state};
