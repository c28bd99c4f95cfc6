/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices on their way down. Each node is told which devices are its own: all of them once in every
 * session (upstream's nodes ask, and a node may have missed anything while it was away), then each
 * that comes or goes. Nodes of 1.4 get the desired values with that, those since 1.15 the objects,
 * by the reliable delivery. Owns the notes. Loop thread.
 */
#include "cloud/device.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "crypto/crypto.h"

#define UNASKED_MS 3000 /* a node that did not ask for its devices so long after it connected */
#define ANEW_MS 1000    /* upstream's nodes may do two messages in any order; not so far apart */

bool kei_is_device_type(const char *type)
{
    return strcmp(type, "device") == 0 || strcmp(type, "devicemodel") == 0;
}

static bool is_old(const struct kei_peer *p)
{
    return p->dialect == KE_DIALECT_1_4;
}

/* It is told by the twin what is desired. */
static bool hears(const struct kei_peer *p)
{
    return is_old(p) || p->merges;
}

static bool takes_objects(const struct kei_peer *p)
{
    return p->dialect == KE_DIALECT_1_15 || p->dialect == KE_DIALECT_1_23;
}

/* ---- ids ---- */

void kei_device_id(const struct kei_peer *p, const struct kei_object *o, char *out, size_t cap)
{
    if (p->dialect == KE_DIALECT_1_23)
        snprintf(out, cap, "%s/%s", o->ns, o->name);
    else
        snprintf(out, cap, "%s", o->name);
}

/* Up to 1.15 a name is all: of two devices of one name that in "default" is meant, or the first. */
static bool before(const struct kei_object *a, const struct kei_object *b)
{
    if (strcmp(a->ns, "default") == 0 || strcmp(b->ns, "default") == 0)
        return strcmp(b->ns, "default") != 0;
    return strcmp(a->ns, b->ns) < 0;
}

static const struct kei_device_note *hidden_by(const struct kei_device_note *note)
{
    const struct kei_object *o = note->device;
    if (!note->peer || note->peer->dialect == KE_DIALECT_1_23 || strcmp(o->ns, "default") == 0)
        return NULL;
    KEI_LIST_EACH(l, &note->peer->devices)
    {
        const struct kei_device_note *other = KEI_OF(l, struct kei_device_note, link);
        if (other != note && strcmp(other->device->name, o->name) == 0 && before(other->device, o))
            return other;
    }
    return NULL;
}

struct kei_object *kei_device_of_id(const struct kei_peer *p, struct ke_str id)
{
    char ns[KEI_NODE_NAME_MAX + 1], name[KEI_NODE_NAME_MAX + 1];
    struct ke_str rest, first = kei_str_cut(id, '/', &rest);
    struct kei_object *found = NULL;
    if (first.n > KEI_NODE_NAME_MAX || rest.n > KEI_NODE_NAME_MAX)
        return NULL;
    snprintf(ns, sizeof ns, "%.*s", rest.p ? (int)first.n : 7, rest.p ? first.p : "default");
    snprintf(name, sizeof name, "%.*s", rest.p ? (int)rest.n : (int)first.n,
             rest.p ? rest.p : first.p);
    struct kei_object *o = kei_objects_get(p->cloud->objects, "device", ns, name);
    const struct kei_device_note *note = o ? o->note : NULL;
    if (note && note->peer == p)
        return o;
    if (rest.p)
        return NULL;
    KEI_LIST_EACH(l, &p->devices)
    {
        o = KEI_OF(l, struct kei_device_note, link)->device;
        if (!o->removed && strcmp(o->name, name) == 0 && (!found || before(o, found)))
            found = o;
    }
    return found;
}

/* ---- twin messages ---- */

static void lost(struct kei_peer *p)
{
    kei_log(p->cloud->ctx, KE_LOG_ERROR, "cloud", "devices of node %s were not told: %s", p->name,
            ke_ctx_error(p->cloud->ctx));
    if (p->session) /* all are told again in the next one */
        kei_session_fail(p->session, "devices could not be told");
}

static int send_twin(struct kei_peer *p, const char *resource, const struct ke_buf *content)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    if (!kei_buf_ok(content))
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a message");
    ke_msg_config_init(&c, sizeof c);
    c.source = "devicecontroller";
    c.group = "twin";
    c.operation = "update";
    c.resource = resource;
    c.content = content->p;
    c.content_len = content->n;
    int r = ke_msg_new(&m, ctx, &c, kei_err(ctx));
    if (r == 0)
        r = kei_peer_send(p, m);
    ke_msg_unref(m);
    return r == KE_ECLOSED ? 0 : r;
}

static void begin_event(struct kei_jw *w, struct ke_buf *out, struct kei_peer *p)
{
    char id[40] = "";
    (void)kei_ctx_uuid(p->cloud->ctx, id);
    kei_buf_init(out, kei_ctx_alloc(p->cloud->ctx));
    kei_jw_init(w, out);
    kei_jw_obj(w);
    kei_jw_kstr(w, "event_id", id);
    kei_jw_ki64(w, "timestamp", ke_ctx_real_ms(p->cloud->ctx));
}

/* The model of a device, if there is one. */
static struct kei_object *model_of(const struct ke_cloud *c, const struct kei_device_note *note)
{
    const char *slash = note->model ? strchr(note->model->key, '/') : NULL;
    char ns[KEI_KEY_MAX];
    if (!slash || (size_t)(slash - note->model->key) >= sizeof ns)
        return NULL;
    snprintf(ns, sizeof ns, "%.*s", (int)(slash - note->model->key), note->model->key);
    return kei_objects_get(c->objects, "devicemodel", ns, slash + 1);
}

static int twins_of(struct kei_peer *p, const struct kei_device_note *note, int64_t version,
                    int64_t now_ms, bool gone, struct ke_buf *out, uint32_t *ret_n)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    const struct kei_object *o = note->device, *m = model_of(p->cloud, note);
    struct ke_str model = {0};
    if (m)
        model = kei_buf_str(&m->json);
    kei_buf_init(out, kei_ctx_alloc(ctx));
    return kei_device_twins(out, kei_buf_str(&o->json), model, version, now_ms, gone, ret_n,
                            kei_ctx_alloc(ctx), kei_err(ctx));
}

/* What is desired with stamps, for a node that merges; of a removed one, that it is dead. */
static void write_merge(struct kei_jw *w, const struct kei_peer *p,
                        const struct kei_device_note *note)
{
    const struct kei_object *o = note->device;
    struct kei_hlc life;
    struct ke_str raw;
    if (!p->merges)
        return;
    if (o->removed && kei_device_grave(p->cloud, o->ns, o->name, &life)) {
        kei_jw_key(w, "merge");
        kei_merge_open(w, &life, true);
        kei_merge_close(w);
    } else if (!o->removed && kei_device_record_raw(kei_buf_str(&o->json), &raw)) {
        kei_jw_kraw(w, "merge", raw);
        if (kei_device_is_former(p, o))
            kei_jw_kbool(w, "anew", true);
    }
}

/* One device of a membership. all: of a list of all, where a known device needs a map of twins. */
static int write_device(struct kei_jw *w, struct kei_peer *p, const struct kei_device_note *note,
                        bool all)
{
    const struct kei_object *o = note->device;
    char id[2 * KEI_NODE_NAME_MAX + 2];
    struct ke_buf twins = {0};
    struct ke_str v;
    uint32_t n = 0;
    int r = 0;
    kei_device_id(p, o, id, sizeof id);
    if (is_old(p))
        r = twins_of(p, note, o->version, ke_ctx_real_ms(p->cloud->ctx), all, &twins, &n);
    kei_jw_obj(w);
    kei_jw_kstr(w, "id", id);
    kei_jw_kstr(w, "name", o->name);
    if (kei_json_path(kei_buf_str(&o->json), "metadata.labels.description", &v) &&
        kei_json_type(v) == '"' && v.n > 2)
        kei_jw_kraw(w, "description", v);
    if (r == 0 && n > 0)
        kei_jw_kraw(w, "twin", kei_buf_str(&twins));
    else if (all)
        kei_jw_kraw(w, "twin", KEI_STR("{}"));
    write_merge(w, p, note);
    kei_jw_obj_end(w);
    ke_buf_free(&twins);
    return r;
}

/* They are told of what comes and goes when they were told of all. */
static bool listens(const struct kei_peer *p)
{
    return p->session && !p->session->failed && p->detailed;
}

static void tell_member(struct kei_peer *p, const struct kei_device_note *note, bool added)
{
    struct ke_buf out;
    struct kei_jw w;
    if (!listens(p))
        return;
    begin_event(&w, &out, p);
    int r = 0;
    for (int i = 0; r == 0 && i < 2; i++) {
        kei_jw_key(&w, i == 0 ? "added_devices" : "removed_devices");
        if ((i == 0) != added) {
            kei_jw_null(&w);
            continue;
        }
        kei_jw_arr(&w);
        r = write_device(&w, p, note, false);
        kei_jw_arr_end(&w);
    }
    kei_jw_obj_end(&w);
    if (r == 0)
        r = send_twin(p, "membership", &out);
    if (r < 0)
        lost(p);
    ke_buf_free(&out);
}

/* Which life of a device ended that is not there any more. */
static void write_grave(struct kei_jw *w, const struct kei_peer *p, struct ke_str id)
{
    char ns[KEI_NODE_NAME_MAX + 1], name[KEI_NODE_NAME_MAX + 1];
    struct ke_str rest, first = kei_str_cut(id, '/', &rest);
    struct kei_hlc life;
    if (!p->merges || first.n > KEI_NODE_NAME_MAX || rest.n > KEI_NODE_NAME_MAX)
        return;
    snprintf(ns, sizeof ns, "%.*s", rest.p ? (int)first.n : 7, rest.p ? first.p : "default");
    snprintf(name, sizeof name, "%.*s", rest.p ? (int)rest.n : (int)first.n,
             rest.p ? rest.p : first.p);
    if (!kei_device_grave(p->cloud, ns, name, &life))
        return;
    kei_jw_key(w, "merge");
    kei_merge_open(w, &life, true);
    kei_merge_close(w);
}

void kei_device_expel(struct kei_peer *p, struct ke_str id)
{
    struct ke_buf out;
    struct kei_jw w;
    const char *slash = id.n ? memchr(id.p, '/', id.n) : NULL;
    size_t skip = slash ? (size_t)(slash + 1 - id.p) : 0;
    begin_event(&w, &out, p);
    kei_jw_key(&w, "added_devices");
    kei_jw_null(&w);
    kei_jw_key(&w, "removed_devices");
    kei_jw_arr(&w);
    kei_jw_obj(&w);
    kei_jw_key(&w, "id");
    kei_jw_strv(&w, id);
    kei_jw_key(&w, "name");
    kei_jw_strv(&w, kei_strn(id.p + skip, id.n - skip));
    write_grave(&w, p, id);
    kei_jw_obj_end(&w);
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
    if (send_twin(p, "membership", &out) < 0)
        lost(p);
    ke_buf_free(&out);
}

/* The node has, or may have, a former life of the device: by what is noted of deliveries, or, where
 * nothing is delivered, by what left it since this cloud started. */
static bool had_former(const struct kei_peer *p, const struct kei_object *o)
{
    char key[KEI_KEY_MAX];
    snprintf(key, sizeof key, "%s/%s", o->ns, o->name);
    return kei_deliver_holds_former(p, o) || kei_map_get(&p->left, kei_str(key)) != NULL;
}

/* Nobody told the node yet. Best effort: without memory it keeps old values of a name. */
static void note_left(struct kei_peer *p, const struct kei_object *o)
{
    char key[KEI_KEY_MAX];
    snprintf(key, sizeof key, "%s/%s", o->ns, o->name);
    if (is_old(p) && !listens(p))
        (void)kei_map_put(&p->left, kei_str(key), p, NULL);
}

static void forget_left(struct kei_peer *p)
{
    struct ke_str key;
    void *value;
    for (size_t it = 0; kei_map_next(&p->left, &it, &key, &value);)
        (void)kei_map_remove(&p->left, key);
}

bool kei_device_is_former(const struct kei_peer *p, const struct kei_object *o)
{
    const struct kei_device_note *note = o->note;
    return note->former || kei_deliver_holds_former(p, o);
}

/* Upstream's nodes may do what they are told in another order when it comes at one time. */
static bool is_too_soon(const struct kei_peer *p)
{
    return !p->ours && p->told_at > 0 && ke_ctx_mono_ms(p->cloud->ctx) < p->told_at + ANEW_MS;
}

static void tell_later(struct kei_peer *p, struct kei_device_note *note)
{
    note->anew = true;
    p->anew_at = ke_ctx_mono_ms(p->cloud->ctx) + ANEW_MS;
    if (!kei_timer_armed(&p->devices_due))
        (void)kei_timer_at(&p->devices_due, p->anew_at);
}

/* Of devices that had to wait: because their former lives had to go there first, for instance. */
static void tell_anew(struct kei_peer *p)
{
    p->anew_at = p->told_at = 0;
    KEI_LIST_EACH(l, &p->devices)
    {
        struct kei_device_note *note = KEI_OF(l, struct kei_device_note, link);
        if (!note->anew)
            continue;
        note->anew = note->former = false;
        if (!note->device->removed && !hidden_by(note))
            tell_member(p, note, true);
    }
}

static int digest_twins(struct kei_peer *p, const struct kei_device_note *note, uint8_t digest[32])
{
    struct ke_buf twins = {0};
    struct ke_str raw;
    uint32_t n;
    int r = twins_of(p, note, 0, 0, true, &twins, &n);
    if (r == 0 && p->merges && kei_device_record_raw(kei_buf_str(&note->device->json), &raw))
        kei_buf_addv(&twins, raw);
    if (r == 0 && !kei_buf_ok(&twins))
        r = KE_ENOMEM;
    if (r == 0)
        kei_sha256(twins.p, twins.n, digest);
    ke_buf_free(&twins);
    return r;
}

/* All devices of the node; what else it has goes, and what it has of a former life. */
static void tell_all(struct kei_peer *p)
{
    struct ke_buf out;
    struct kei_jw w;
    int r = 0;
    begin_event(&w, &out, p);
    kei_jw_key(&w, "devices");
    kei_jw_arr(&w);
    KEI_LIST_EACH(l, &p->devices)
    {
        struct kei_device_note *note = KEI_OF(l, struct kei_device_note, link);
        note->anew = false;
        if (hears(p))
            (void)digest_twins(p, note, note->twins);
        if (note->former && !p->merges)
            tell_later(p, note);
        else if (r == 0 && !note->device->removed && !hidden_by(note))
            r = write_device(&w, p, note, true);
    }
    p->told_at = ke_ctx_mono_ms(p->cloud->ctx);
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
    p->detailed = true;
    if (r == 0)
        r = send_twin(p, "membership/detail", &out);
    if (r == 0)
        forget_left(p);
    if (r < 0)
        lost(p);
    ke_buf_free(&out);
}

/* A 1.4 node, and one that merges, gets all desired values of a device when one of them changed. */
static void tell_desired(struct kei_peer *p, struct kei_device_note *note)
{
    struct ke_buf out, twins = {0};
    struct kei_jw w;
    uint8_t digest[32];
    uint32_t n = 0;
    char resource[KEI_KEY_MAX], id[2 * KEI_NODE_NAME_MAX + 2];
    int r = digest_twins(p, note, digest);
    if (r == 0 && memcmp(digest, note->twins, sizeof digest) == 0)
        return;
    if (r == 0)
        memcpy(note->twins, digest, sizeof digest);
    if (!listens(p) || hidden_by(note))
        return;
    begin_event(&w, &out, p);
    if (r == 0)
        r = twins_of(p, note, note->device->version, ke_ctx_real_ms(p->cloud->ctx), true, &twins,
                     &n);
    if (r == 0 && (n > 0 || p->merges)) {
        kei_jw_kraw(&w, "twin", is_old(p) ? kei_buf_str(&twins) : KEI_STR("{}"));
        write_merge(&w, p, note);
        kei_jw_obj_end(&w);
        kei_device_id(p, note->device, id, sizeof id);
        snprintf(resource, sizeof resource, "device/%s/twin/cloud_updated", id);
        r = send_twin(p, resource, &out);
    }
    if (r < 0)
        lost(p);
    ke_buf_free(&twins);
    ke_buf_free(&out);
}

/* ---- objects ---- */

static void deliver_device(const struct kei_device_note *note)
{
    struct kei_peer *p = note->peer;
    const struct kei_object *model;
    if (!p || !takes_objects(p) || note->device->removed || !(model = model_of(p->cloud, note)) ||
        hidden_by(note))
        return; /* a driver can do nothing with a device whose model is missing */
    (void)kei_deliver(p, model);
    (void)kei_deliver(p, note->device);
}

static bool uses_model(const struct kei_peer *p, const struct kei_model_note *m)
{
    if (m)
        KEI_LIST_EACH(l, &m->devices)
        {
            if (KEI_OF(l, struct kei_device_note, same_model)->peer == p)
                return true;
        }
    return false;
}

bool kei_devices_wanted(const struct kei_peer *p, const struct kei_object *o)
{
    char key[KEI_KEY_MAX];
    const struct kei_device_note *note = o->note;
    if (!takes_objects(p))
        return false;
    if (strcmp(o->type, "device") == 0)
        return note && note->peer == p && !hidden_by(note);
    snprintf(key, sizeof key, "%s/%s", o->ns, o->name);
    return uses_model(p, kei_map_get(&p->cloud->models, kei_str(key)));
}

/* The last device of its model left the node. */
static void model_left(struct kei_peer *p, struct ke_cloud *c, const struct kei_device_note *note)
{
    const struct kei_object *m = model_of(c, note);
    if (m && !uses_model(p, note->model))
        kei_deliver_gone(p, m->type, m->ns, m->name, m->uid);
}

/* A driver of some device of the model on this node. */
static void protocol_on(const struct kei_peer *p, const struct kei_object *model, char *out,
                        size_t cap)
{
    char key[KEI_KEY_MAX];
    snprintf(key, sizeof key, "%s/%s", model->ns, model->name);
    const struct kei_model_note *m = kei_map_get(&p->cloud->models, kei_str(key));
    out[0] = 0;
    if (m)
        KEI_LIST_EACH(l, &m->devices)
        {
            const struct kei_device_note *n = KEI_OF(l, struct kei_device_note, same_model);
            struct kei_device d;
            struct kei_arena a;
            if (n->peer != p || out[0])
                continue;
            kei_arena_init(&a, kei_ctx_alloc(p->cloud->ctx), 0);
            if (kei_device_read(&d, kei_buf_str(&n->device->json), &a, NULL) == 0)
                snprintf(out, cap, "%s", d.protocol);
            kei_arena_free(&a);
        }
}

/* The object, and what is desired with stamps: its twin takes that before a driver acts. */
static int merged_content(const struct kei_peer *p, const struct kei_object *o, struct ke_buf *out)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    struct ke_buf plain = {0}, half = {0};
    struct ke_str raw;
    kei_buf_init(&plain, kei_ctx_alloc(ctx));
    kei_buf_init(&half, kei_ctx_alloc(ctx));
    int r = kei_device_beta(&plain, kei_buf_str(&o->json), p->dialect, kei_ctx_alloc(ctx),
                            kei_err(ctx));
    if (r == 0 && !kei_device_record_raw(kei_buf_str(&o->json), &raw))
        kei_buf_addv(out, kei_buf_str(&plain));
    else if (r == 0 && kei_device_is_former(p, o)) {
        r = kei_json_set(&half, kei_buf_str(&plain), "anew", KEI_STR("true"), kei_err(ctx));
        if (r == 0)
            r = kei_json_set(out, kei_buf_str(&half), "merge", raw, kei_err(ctx));
    } else if (r == 0)
        r = kei_json_set(out, kei_buf_str(&plain), "merge", raw, kei_err(ctx));
    ke_buf_free(&half);
    ke_buf_free(&plain);
    return r < 0 ? r : kei_buf_ok(out) ? 0 : kei_fail(ctx, KE_ENOMEM, "out of memory for a device");
}

int kei_device_content(const struct kei_peer *p, const struct kei_object *o, struct ke_buf *out)
{
    struct ke_ctx *ctx = p->cloud->ctx;
    char protocol[256];
    if (strcmp(o->type, "device") == 0)
        return p->merges ? merged_content(p, o, out)
                         : kei_device_beta(out, kei_buf_str(&o->json), p->dialect,
                                           kei_ctx_alloc(ctx), kei_err(ctx));
    protocol_on(p, o, protocol, sizeof protocol);
    return kei_devicemodel_beta(out, kei_buf_str(&o->json), protocol, kei_ctx_alloc(ctx),
                                kei_err(ctx));
}

int kei_device_remains(const struct ke_buf *content, struct ke_buf *out)
{
    static const char *const paths[] = {"spec.deviceModelRef", "spec.protocol"};
    struct ke_str v, name;
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    for (size_t i = 0; i < 2; i++) {
        if (!kei_json_path(kei_buf_str(content), paths[i], &v))
            continue;
        kei_jw_key(&w, paths[i] + strlen("spec."));
        if (kei_json_get(v, "protocolName", &name)) {
            kei_jw_obj(&w);
            kei_jw_kraw(&w, "protocolName", name);
            kei_jw_obj_end(&w);
        } else {
            kei_jw_raw(&w, v);
        }
    }
    kei_jw_obj_end(&w);
    return kei_buf_ok(out) ? 0 : KE_ENOMEM;
}

/* ---- notes ---- */

static struct kei_model_note *model_make(struct ke_cloud *c, const char *key)
{
    const struct ke_alloc *a = kei_ctx_alloc(c->ctx);
    struct kei_model_note *m = kei_map_get(&c->models, kei_str(key));
    size_t n = strlen(key) + 1;
    if (m)
        return m;
    m = kei_zalloc(a, sizeof *m + n);
    if (!m)
        return NULL;
    kei_list_init(&m->devices);
    memcpy(m->key, key, n);
    if (kei_map_put(&c->models, kei_str(key), m, NULL) < 0) {
        kei_free(a, m);
        return NULL;
    }
    return m;
}

static void model_drop(struct ke_cloud *c, struct kei_device_note *note)
{
    struct kei_model_note *m = note->model;
    kei_list_remove(&note->same_model);
    note->model = NULL;
    if (m && kei_list_empty(&m->devices)) {
        (void)kei_map_remove(&c->models, kei_str(m->key));
        kei_free(kei_ctx_alloc(c->ctx), m);
    }
}

/* note becomes one of the model that its object names. KE_ENOMEM: nothing was done. */
static int set_model(struct ke_cloud *c, struct kei_device_note *note)
{
    const struct kei_object *o = note->device;
    char name[KEI_NODE_NAME_MAX + 1], key[KEI_KEY_MAX];
    (void)kei_device_model_name(kei_buf_str(&o->json), name);
    snprintf(key, sizeof key, "%s/%s", o->ns, name);
    if (note->model && strcmp(note->model->key, key) == 0)
        return 0;
    struct kei_model_note *m = name[0] ? model_make(c, key) : NULL;
    if (name[0] && !m)
        return KE_ENOMEM;
    if (note->model) {
        struct kei_device_note old = {.device = note->device, .model = note->model};
        kei_list_remove(&note->same_model);
        if (note->peer)
            model_left(note->peer, c, &old);
        model_drop(c, &old);
    }
    note->model = m;
    if (m)
        kei_list_add_tail(&m->devices, &note->same_model);
    return 0;
}

static void profiles_soon(struct kei_peer *p)
{
    if (!is_old(p) || p->cloud->state != KEI_CLOUD_LOADED)
        return;
    p->profiles_due = true;
    (void)kei_timer_in(&p->devices_due, 0);
}

static void enter(struct kei_device_note *note, struct kei_peer *p)
{
    note->peer = p;
    kei_list_add_tail(&p->devices, &note->link);
    p->n_devices++;
    note->former = note->anew = false;
    memset(note->twins, 0, sizeof note->twins);
    if (hears(p))
        (void)digest_twins(p, note, note->twins);
    const struct kei_device_note *other = hidden_by(note);
    if (other && p->dialect != KE_DIALECT_AUTO)
        kei_log(p->cloud->ctx, KE_LOG_ERROR, "cloud",
                "device %s/%s is not told to node %s: device %s/%s has the same name, and nodes up "
                "to 1.15 know names alone; rename one of them",
                note->device->ns, note->device->name, p->name, other->device->ns,
                other->device->name);
}

/* The device is not the node's any more. */
static void leave(struct ke_cloud *c, struct kei_device_note *note)
{
    struct kei_peer *p = note->peer;
    const struct kei_object *o = note->device;
    bool hidden = hidden_by(note) != NULL;
    kei_list_remove(&note->link);
    p->n_devices--;
    note->peer = NULL;
    model_left(p, c, note);
    note_left(p, o);
    kei_deliver_gone(p, o->type, o->ns, o->name, o->uid);
    if (!hidden) {
        tell_member(p, note, false);
        p->told_at = ke_ctx_mono_ms(c->ctx);
    }
    if (!hidden && p->dialect != KE_DIALECT_1_23)
        KEI_LIST_EACH(l, &p->devices) /* one of its name comes to light */
        {
            const struct kei_device_note *other = KEI_OF(l, struct kei_device_note, link);
            if (strcmp(other->device->name, o->name) == 0 && !hidden_by(other)) {
                tell_member(p, other, true);
                deliver_device(other);
            }
        }
    profiles_soon(p);
    kei_peer_check(p);
}

static struct kei_device_note *note_make(struct ke_cloud *c, struct kei_object *o)
{
    struct kei_device_note *note = o->note;
    if (note)
        return note;
    note = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *note);
    if (!note)
        return NULL;
    note->device = o;
    o->note = note;
    return note;
}

void kei_devices_forget(struct ke_cloud *c, struct kei_object *o)
{
    struct kei_device_note *note = o->note;
    if (note->peer) {
        kei_list_remove(&note->link);
        note->peer->n_devices--;
    }
    model_drop(c, note);
    o->note = NULL;
    kei_free(kei_ctx_alloc(c->ctx), note);
}

/* Puts the device where its object says. *ret_fresh: it came to this node. KE_ENOMEM */
static int settle(struct ke_cloud *c, struct kei_object *o, bool *ret_fresh)
{
    char node[KEI_NODE_NAME_MAX + 1];
    struct kei_peer *p = NULL;
    struct kei_device_note *note = note_make(c, o);
    *ret_fresh = false;
    if (!note)
        return KE_ENOMEM;
    if (kei_device_node(kei_buf_str(&o->json), node)[0] && !(p = kei_peer_get(c, node, true)))
        return KE_ENOMEM;
    if (set_model(c, note) < 0) {
        if (p)
            kei_peer_check(p);
        return KE_ENOMEM;
    }
    if (note->peer == p)
        return 0;
    struct kei_peer *old = note->peer;
    if (p && !old) {
        enter(note, p);
    } else if (old) {
        leave(c, note);
        if (p)
            enter(note, p);
    }
    *ret_fresh = p != NULL;
    return 0;
}

/* ---- changes ---- */

static void drop_status(struct ke_cloud *c, const struct kei_object *device)
{
    struct kei_object *s = kei_objects_get(c->objects, "devicestatus", device->ns, device->name);
    if (s)
        (void)kei_objects_remove(c->objects, s, NULL, NULL);
}

static void device_changed(struct ke_cloud *c, struct kei_object *o, bool removed)
{
    struct kei_device_note *note = o->note;
    bool fresh;
    if (removed) {
        if (note && note->peer)
            leave(c, note);
        if (note)
            kei_devices_forget(c, o);
        drop_status(c, o);
        kei_tell_device(c, o, true);
        return;
    }
    if (o->durable != o->version)
        return; /* a newer one is on its way to the disk */
    if (settle(c, o, &fresh) < 0) {
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "out of memory: device %s/%s waits", o->ns, o->name);
        c->missed = true;
        return;
    }
    note = o->note;
    if (note->peer) {
        if (fresh && listens(note->peer) && is_too_soon(note->peer))
            tell_later(note->peer, note);
        else if (fresh && !hidden_by(note))
            tell_member(note->peer, note, true);
        else if (hears(note->peer))
            tell_desired(note->peer, note);
        deliver_device(note);
        profiles_soon(note->peer);
    }
    kei_tell_device(c, o, false);
}

static void model_changed(struct ke_cloud *c, const struct kei_object *o, bool removed)
{
    char key[KEI_KEY_MAX];
    struct ke_str k;
    void *value;
    snprintf(key, sizeof key, "%s/%s", o->ns, o->name);
    struct kei_model_note *m = kei_map_get(&c->models, kei_str(key));
    if (removed)
        for (size_t it = 0; kei_map_next(&c->peers, &it, &k, &value);)
            kei_deliver_gone(value, o->type, o->ns, o->name, o->uid);
    if (!m)
        return;
    KEI_LIST_EACH(l, &m->devices)
    {
        struct kei_device_note *note = KEI_OF(l, struct kei_device_note, same_model);
        if (!note->peer)
            continue;
        if (!removed)
            deliver_device(note);
        if (is_old(note->peer))
            tell_desired(note->peer, note);
        profiles_soon(note->peer);
    }
}

void kei_devices_changed(struct ke_cloud *c, struct kei_object *o, bool removed)
{
    if (strcmp(o->type, "device") == 0)
        device_changed(c, o, removed);
    else
        model_changed(c, o, removed);
}

void kei_devices_push(struct kei_peer *p)
{
    KEI_LIST_EACH(l, &p->devices)
    {
        deliver_device(KEI_OF(l, struct kei_device_note, link));
    }
    profiles_soon(p);
}

/* ---- sessions ---- */

void kei_devices_on_due(struct kei_timer *t)
{
    struct kei_peer *p = KEI_OF(t, struct kei_peer, devices_due);
    if (p->cloud->state != KEI_CLOUD_LOADED)
        return;
    if (p->profiles_due) {
        p->profiles_due = false;
        kei_device_profiles(p);
    }
    if (!p->session || p->session->failed || p->dialect == KE_DIALECT_AUTO)
        return;
    if (p->detailed) {
        if (p->anew_at > ke_ctx_mono_ms(p->cloud->ctx))
            (void)kei_timer_at(t, p->anew_at);
        else if (p->anew_at > 0)
            tell_anew(p);
        return;
    }
    if (!p->detail_asked && ke_ctx_mono_ms(p->cloud->ctx) < p->detail_at)
        (void)kei_timer_at(t, p->detail_at);
    else if (p->detail_asked || p->n_devices > 0)
        tell_all(p);
    else
        p->detailed = true; /* it does not ask, and there is nothing to be told */
}

/* Devices that were stored before there were records, told to a node that merges. */
static void make_records(struct kei_peer *p)
{
    struct ke_cloud *c = p->cloud;
    KEI_LIST_EACH(l, &p->devices)
    {
        const struct kei_object *o = KEI_OF(l, struct kei_device_note, link)->device;
        struct kei_merge_clock clock = kei_cloud_merge_clock(c);
        struct ke_str json = kei_buf_str(&o->json), raw;
        struct ke_buf next = {0};
        if (o->removed || kei_device_record_raw(json, &raw))
            continue;
        kei_buf_init(&next, kei_ctx_alloc(c->ctx));
        int r =
            kei_device_decide(&next, json, json, &clock, kei_ctx_alloc(c->ctx), kei_err(c->ctx));
        if (r == 0)
            r = kei_objects_write(c->objects, "device", o->ns, o->name, kei_buf_str(&next), NULL,
                                  NULL, NULL);
        if (r < 0)
            kei_log(c->ctx, KE_LOG_WARN, "cloud", "device %s/%s has no life yet: %s", o->ns,
                    o->name, ke_ctx_error(c->ctx));
        ke_buf_free(&next);
    }
}

void kei_devices_connected(struct kei_peer *p)
{
    p->detailed = p->detail_asked = false;
    p->anew_at = 0;
    if (p->merges)
        make_records(p);
    KEI_LIST_EACH(l, &p->devices)
    {
        struct kei_device_note *note = KEI_OF(l, struct kei_device_note, link);
        note->former = had_former(p, note->device);
    }
    p->detail_at = ke_ctx_mono_ms(p->cloud->ctx) + UNASKED_MS;
    if (!kei_timer_armed(&p->devices_due))
        (void)kei_timer_at(&p->devices_due, p->detail_at);
}

void kei_devices_disconnected(struct kei_peer *p)
{
    p->detailed = p->detail_asked = false;
    if (!p->profiles_due)
        kei_timer_stop(&p->devices_due);
}

void kei_devices_asked(struct kei_peer *p)
{
    p->detail_asked = true;
    if (!p->detailed)
        (void)kei_timer_in(&p->devices_due, 0);
}

void kei_devices_dialect(struct kei_peer *p)
{
    KEI_LIST_EACH(l, &p->devices)
    {
        struct kei_device_note *note = KEI_OF(l, struct kei_device_note, link);
        const struct kei_object *o = note->device, *m = model_of(p->cloud, note);
        if (is_old(p)) {
            (void)digest_twins(p, note, note->twins);
            kei_deliver_gone(p, o->type, o->ns, o->name, o->uid);
            if (m)
                kei_deliver_gone(p, m->type, m->ns, m->name, m->uid);
        }
    }
    kei_devices_push(p);
    p->detailed = false; /* the ids are others, perhaps */
    p->anew_at = 0;
    if (p->session && !p->profiles_due)
        (void)kei_timer_in(&p->devices_due, p->detail_asked ? 0 : UNASKED_MS);
}

/* ---- life ---- */

void kei_devices_init(struct ke_cloud *c)
{
    kei_map_init(&c->models, kei_ctx_alloc(c->ctx), kei_ctx_random64(c->ctx));
}

int kei_devices_load(struct ke_cloud *c)
{
    struct kei_object *o;
    bool fresh;
    for (size_t it = 0; (o = kei_objects_next(c->objects, "device", &it));)
        if (settle(c, o, &fresh) < 0)
            return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the devices");
    return 0;
}

void kei_devices_tidy(struct ke_cloud *c)
{
    struct kei_object *o;
    struct ke_str uid;
    for (size_t it = 0; (o = kei_objects_next(c->objects, "devicestatus", &it));) {
        const struct kei_object *d = kei_objects_get(c->objects, "device", o->ns, o->name);
        bool its = d && kei_json_path(kei_buf_str(&o->json), KEI_DEVICE_OWN ".device", &uid) &&
                   kei_json_str_is(uid, d->uid);
        if (!its)
            (void)kei_objects_remove(c->objects, o, NULL, NULL);
    }
}

/* Before peers and objects: the notes point to both. */
void kei_devices_free(struct ke_cloud *c)
{
    struct kei_object *o;
    if (c->objects)
        for (size_t it = 0; (o = kei_objects_next_any(c->objects, "device", &it));)
            if (o->note)
                kei_devices_forget(c, o);
    kei_map_free(&c->models);
}
