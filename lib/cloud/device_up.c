/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nodes tell of their devices. It is confirmed when it is on disk; what is not confirmed a
 * node tells again, so the same may come twice, and late. Upstream's nodes repeat for ever what
 * nobody answers: what can never be taken is confirmed too, and logged. Loop thread.
 */
#include "cloud/device.h"

#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/log.h"

/* What of the message is to be read: the content, or the text in it when it is a string. */
static int content_of(struct kei_peer *p, const struct ke_msg *m, struct ke_buf *text,
                      struct ke_str *ret)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    *ret = kei_content(m);
    if (kei_json_type(*ret) == '"') {
        int r = kei_json_str(*ret, text, kei_err(ctx));
        if (r == 0)
            r = kei_json_value(kei_buf_str(text), 0, ret, kei_err(ctx));
        if (r < 0)
            return r;
    }
    return kei_json_type(*ret) == '{' ? 0
                                      : kei_fail(ctx, KE_EPARSE, "the content is no JSON object");
}

/* Stores s over what is there; fn is told when that is on disk, perhaps at once. KE_EINVAL: it
 * never will be. */
static int store(struct ke_cloud *c, const struct kei_object *device,
                 const struct kei_device_state *s, kei_object_fn fn, void *user)
{
    struct kei_object *old = kei_objects_get(c->objects, "devicestatus", device->ns, device->name);
    struct ke_buf json = {0};
    struct ke_str a, b;
    int r;
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    kei_device_state_write(&json, s, device->name);
    if (!kei_buf_ok(&json)) {
        r = kei_fail(c->ctx, KE_ENOMEM, "out of memory for the status of device %s/%s", device->ns,
                     device->name);
    } else if (json.n > KEI_DEVICE_STATUS_MAX) {
        r = kei_fail(c->ctx, KE_EINVAL, "the status has %zu bytes; the limit is %u", json.n,
                     KEI_DEVICE_STATUS_MAX);
    } else if (old && kei_json_get(kei_buf_str(&old->json), "status", &a) &&
               kei_json_get(kei_buf_str(&json), "status", &b) && kei_str_eq(a, b) &&
               kei_json_get(kei_buf_str(&old->json), KEI_DEVICE_OWN, &a) &&
               kei_json_get(kei_buf_str(&json), KEI_DEVICE_OWN, &b) && kei_str_eq(a, b)) {
        /* told again */
        if (old->durable == old->version) {
            if (fn)
                fn(user, 0, old);
            r = 0;
        } else {
            r = fn ? kei_objects_sync(c->objects, old, fn, user) : 0;
        }
    } else {
        r = kei_objects_write(c->objects, "devicestatus", device->ns, device->name,
                              kei_buf_str(&json), NULL, fn, user);
    }
    ke_buf_free(&json);
    return r;
}

static int read_state(struct ke_cloud *c, const struct kei_object *device,
                      struct kei_device_state *s, struct kei_arena *a)
{
    const struct kei_object *old =
        kei_objects_get(c->objects, "devicestatus", device->ns, device->name);
    struct ke_str status = {0};
    if (old)
        status = kei_buf_str(&old->json);
    return kei_device_state_read(s, status, device->uid, a, kei_err(c->ctx));
}

/* It can never be taken: the log says why, and the node shall not repeat it. */
static void refuse(struct kei_peer *p, struct ke_msg *m)
{
    kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud", "%s of node %s was not taken: %s",
            ke_msg_resource(m), p->name, ke_ctx_error(p->cloud->ctx));
    kei_answer_confirm(p, m);
}

/* A report with stamps may change the Device, too: it is confirmed when both are on disk. */
struct both {
    struct ke_cloud *cloud;
    struct kei_request_ctx *q;
    uint32_t left;
    int status;
};

static void both_done(void *user, int status, struct kei_object *o)
{
    struct both *b = user;
    struct ke_cloud *c = b->cloud;
    if (status < 0)
        b->status = status;
    if (--b->left > 0)
        return;
    if (b->status < 0)
        o = NULL;
    kei_request_done(b->q, b->status, o);
    kei_free(kei_ctx_alloc(c->ctx), b);
}

/* The desired values of the node that are later. 1: they are on their way to the disk. */
static int take_desired(struct ke_cloud *c, struct kei_object *device,
                        const struct kei_merge_device *m, struct both *b)
{
    struct ke_buf json = {0};
    bool changed;
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    int r = kei_device_take(&json, kei_buf_str(&device->json), m, &c->merge_clock, &changed,
                            kei_ctx_alloc(c->ctx), kei_err(c->ctx));
    if (r == 0 && changed)
        r = kei_objects_write(c->objects, "device", device->ns, device->name, kei_buf_str(&json),
                              NULL, both_done, b);
    else if (r == 0 && device->durable != device->version)
        r = kei_objects_sync(c->objects, device, both_done, b);
    else if (r == 0)
        b->left--;
    ke_buf_free(&json);
    return r;
}

static int store_report(struct kei_peer *p, struct ke_msg *m, struct kei_object *device,
                        const struct kei_device_state *s, const struct kei_merge_device *merge)
{
    struct ke_cloud *c = p->cloud;
    struct kei_request_ctx *q = kei_request_new(p, m, KEI_FORM_CONFIRM, false);
    struct both *b = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *b);
    int r = q && b ? 0 : kei_fail(c->ctx, KE_ENOMEM, "out of memory for a report");
    if (r == 0) {
        *b = (struct both){c, q, 3, 0}; /* the last one is this function's own */
        r = merge ? take_desired(c, device, merge, b) : 0;
        if (r < 0 || !merge)
            b->left--;
        if (r == 0)
            r = store(c, device, s, both_done, b);
        if (r < 0) { /* the status will not come */
            b->status = r;
            b->left--;
        }
        both_done(b, 0, device);
        return r;
    }
    if (q)
        kei_request_free(q);
    kei_free(kei_ctx_alloc(c->ctx), b);
    return r;
}

static void report(struct kei_peer *p, struct ke_msg *m, struct kei_object *device, bool twin,
                   bool newer, struct ke_str content, const struct kei_merge_device *merge)
{
    struct ke_cloud *c = p->cloud;
    struct kei_device_state s;
    struct kei_arena a;
    bool late = !p->ours; /* upstream's nodes repeat old news behind newer ones */
    kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
    int r = read_state(c, device, &s, &a);
    if (newer)
        s.n = 0; /* what is there is of a former life */
    if (r == 0)
        r = twin ? kei_device_state_merge(&s, content, late, merge, &a, kei_err(c->ctx))
                 : kei_device_state_online(&s, content, late, &a, kei_err(c->ctx));
    bool never = r == KE_ELIMIT || r == KE_EPARSE;
    if (r == 0)
        r = store_report(p, m, device, &s, twin ? merge : NULL);
    if (never || r == KE_EINVAL || r == KE_ELIMIT)
        refuse(p, m);
    else if (r < 0)
        kei_log(c->ctx, KE_LOG_ERROR, "cloud",
                "%s of node %s was not stored: %s; the node tells it again", ke_msg_resource(m),
                p->name, ke_ctx_error(c->ctx));
    kei_arena_free(&a);
}

/* 1: the message has stamps, m is to be freed; 0: none */
static int open_merge(struct kei_peer *p, struct ke_str content, struct kei_merge_device *m)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_str raw;
    kei_merge_init(m);
    if (!p->merges || !kei_json_get(content, "merge", &raw))
        return 0;
    int r = kei_merge_read(m, kei_ctx_alloc(ctx), raw, kei_err(ctx));
    return r < 0 ? r : 1;
}

/* Is it of the life that the device has? *ret_newer: of a later one, this store is of an older day.
 */
static bool is_of_now(struct kei_peer *p, const struct kei_object *device,
                      const struct kei_merge_device *m, bool *ret_newer, int *ret)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct kei_merge_device record;
    *ret = kei_device_record(&record, kei_buf_str(&device->json), kei_ctx_alloc(ctx), kei_err(ctx));
    int c = kei_hlc_compare(&m->life, &record.life);
    *ret_newer = c > 0;
    kei_merge_fini(&record, kei_ctx_alloc(ctx));
    return c >= 0;
}

/* A clock far ahead would decide for years what stands. At its next link the node is told the time
 * here, and stamps anew what it has. */
static bool is_ahead(struct kei_peer *p, const struct kei_merge_device *m)
{
    int64_t last = kei_cloud_merge_ahead(p->cloud, m);
    char time[KEI_TIME_MAX];
    if (last == 0)
        return false;
    kei_time_rfc3339(time, last);
    kei_log(p->cloud->ctx, KE_LOG_WARN, "cloud",
            "node %s told a value of %s, which is more than %d minutes ahead of this clock: it is "
            "not taken, and the node is told the time",
            p->name, time, 2 * KEI_MERGE_AHEAD_MS / 60000);
    if (p->session)
        kei_session_fail(p->session, "the clock of the node is far ahead");
    return true;
}

static void told(struct kei_peer *p, struct ke_msg *m, struct kei_object *device, bool twin)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct kei_merge_device merge;
    struct ke_buf text = {0};
    struct ke_str content;
    bool merged = false, newer = false, former;
    kei_buf_init(&text, kei_ctx_alloc(ctx));
    kei_merge_init(&merge);
    int r = content_of(p, m, &text, &content);
    if (r == 0) {
        r = open_merge(p, content, &merge);
        merged = r > 0;
        r = r > 0 ? 0 : r;
    }
    former = r == 0 &&
             (merged ? !is_of_now(p, device, &merge, &newer, &r) : kei_device_is_former(p, device));
    if (r == KE_EPARSE || r == KE_ELIMIT) {
        refuse(p, m);
    } else if (r < 0) {
        kei_log(ctx, KE_LOG_ERROR, "cloud",
                "%s of node %s was not stored: %s; the node tells it "
                "again",
                ke_msg_resource(m), p->name, ke_ctx_error(ctx));
    } else if (former) {
        kei_log(ctx, KE_LOG_INFO, "cloud", "node %s told of a former life of device %s/%s", p->name,
                device->ns, device->name);
        kei_answer_confirm(p, m);
    } else if (!merged || !is_ahead(p, &merge)) {
        if (merged)
            for (uint32_t i = 0; i < merge.n; i++)
                for (unsigned k = 0; k < 2; k++)
                    kei_hlc_see(&p->cloud->merge_clock, &merge.twins[i].v[k].at);
        report(p, m, device, twin, newer, content, merged ? &merge : NULL);
    }
    kei_merge_fini(&merge, kei_ctx_alloc(ctx));
    ke_buf_free(&text);
}

/* The id in "device/ID/REST", ID "name" or "ns/name"; *ret_twin: REST tells twins. */
static bool parse(struct ke_str resource, struct ke_str *ret_id, bool *ret_twin)
{
    static const struct {
        const char *end;
        bool twin;
    } ends[] = {{"/twin/edge_updated", true}, {"/state/update", false}, {"/state", false}};
    struct ke_str head = KEI_STR("device/");
    if (!kei_str_starts(resource, head))
        return false;
    *ret_id = kei_strn(resource.p + head.n, resource.n - head.n);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (!kei_str_ends(*ret_id, kei_str(ends[i].end)))
            continue;
        ret_id->n -= strlen(ends[i].end);
        *ret_twin = ends[i].twin;
        return ret_id->n > 0;
    }
    return false;
}

void kei_upstream_device(struct kei_peer *p, struct ke_msg *m)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_str id;
    bool twin = false;
    if (strcmp(ke_msg_resource(m), "membership/detail") == 0) {
        kei_answer_confirm(p, m);
        kei_devices_asked(p);
        return;
    }
    if (!parse(kei_str(ke_msg_resource(m)), &id, &twin)) {
        kei_log(ctx, KE_LOG_DEBUG, "cloud", "node %s: %s %s is not served", p->name,
                ke_msg_operation(m), ke_msg_resource(m));
        return;
    }
    struct kei_object *device = kei_device_of_id(p, id);
    if (device) {
        told(p, m, device, twin);
        return;
    }
    /* it is told to go in time, too; who has something to tell of it, before */
    kei_log(ctx, KE_LOG_INFO, "cloud", "node %s told of device %.*s, which is not its own", p->name,
            (int)(id.n < 300 ? id.n : 300), id.p);
    kei_answer_confirm(p, m);
    if (p->dialect != KE_DIALECT_AUTO)
        kei_device_expel(p, id);
}

void kei_devices_doubt(struct kei_peer *p)
{
    KEI_LIST_EACH(l, &p->devices)
    {
        const struct kei_object *device = KEI_OF(l, struct kei_device_note, link)->device;
        struct ke_cloud *c = p->cloud;
        struct kei_device_state s;
        struct kei_arena a;
        if (device->removed ||
            !kei_objects_get(c->objects, "devicestatus", device->ns, device->name))
            continue;
        kei_arena_init(&a, kei_ctx_alloc(c->ctx), 0);
        int r = read_state(c, device, &s, &a);
        if (r == 0) {
            kei_device_state_restart(&s);
            r = store(c, device, &s, NULL, NULL);
        }
        if (r < 0)
            kei_log(c->ctx, KE_LOG_WARN, "cloud", "status of device %s/%s was not renewed: %s",
                    device->ns, device->name, ke_ctx_error(c->ctx));
        kei_arena_free(&a);
    }
}
