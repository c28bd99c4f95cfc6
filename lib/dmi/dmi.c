/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's end of DMI: its objects, from the store and from the router, and its life. Freed while
 * the store still has an answer for it, it lives as an empty shell until that came. Loop thread.
 */
#include <stdio.h>

#include "base/fnv.h"
#include "base/log.h"
#include "dmi/dmi_priv.h"

#define SOCKET "/etc/kubeedge/dmi.sock"
#define HELD_MAX 4096u
#define NAME_MAX_ 253u

struct held {
    struct kei_link link;
    struct ke_msg *msg;
};

/* What a mapper had before a restart. */
struct told {
    uint64_t digest;
    char protocol[];
};

/* ---- objects ---- */

struct kei_dmi_object *kei_dmi_find(const struct kei_dmi *d, const char *key)
{
    return kei_map_get(&d->objects, kei_str(key));
}

struct kei_dmi_object *kei_dmi_model_of(const struct kei_dmi *d, const struct kei_dmi_object *o)
{
    return o->model ? kei_dmi_find(d, o->model) : NULL;
}

static void object_free(struct kei_dmi_object *o)
{
    const struct ke_alloc *a = o->d->alloc;

    kei_list_remove(&o->todo);
    kei_free(a, o->key);
    kei_free(a, o->json);
    kei_free(a, o->protocol);
    kei_free(a, o->model);
    kei_free(a, o);
}

/* The message of a device without what changes by itself (status). */
static int digest_message(uint64_t *ret, struct kei_dmi *d, const void *m, struct ke_error *err)
{
    struct ke_buf b;

    kei_buf_init(&b, d->alloc);
    kei_pb_pack(&b, m);
    bool ok = kei_buf_ok(&b);
    uint64_t h = kei_fnv1a(KEI_FNV1A, b.p, b.n);
    ke_buf_free(&b);
    *ret = h ? h : 1;
    return ok ? 0 : kei_error(err, KE_ENOMEM, "no memory for a device's message");
}

int kei_dmi_build(void **ret, uint64_t *ret_digest, struct kei_dmi_object *o,
                  enum kei_dmi_form form, struct kei_arena *a, struct ke_error *err)
{
    struct ke_str text = kei_strn(o->json, o->n);
    struct kei_device_model model;
    struct kei_device device;
    int r;

    if (o->is_model) {
        r = kei_device_model_read(&model, text, a, err);
        if (r == 0)
            r = kei_dmi_model(ret, form, &model, text, a, err);
        return r < 0 ? r : digest_message(ret_digest, o->d, *ret, err);
    }
    const struct kei_dmi_object *m = kei_dmi_model_of(o->d, o);
    if (!m)
        return kei_error(err, KE_ENOTFOUND, "device %s waits for its model %s", o->key + 2,
                         o->model ? o->model + 2 : "(none)");
    r = kei_device_read(&device, text, a, err);
    if (r == 0)
        r = kei_device_model_read(&model, kei_strn(m->json, m->n), a, err);
    void *bare = NULL;
    if (r == 0)
        r = kei_dmi_device(&bare, form, &device, &model, false, a, err);
    if (r == 0)
        r = digest_message(ret_digest, o->d, bare, err);
    return r < 0 ? r : kei_dmi_device(ret, form, &device, &model, true, a, err);
}

void kei_dmi_note_told(struct kei_dmi *d, struct ke_store_tx *tx, const char *key, uint64_t digest,
                       const char *protocol)
{
    char name[600], value[300];
    struct ke_store_tx *own = NULL;
    int r = 0;

    if (!tx) {
        r = ke_store_begin(&own, d->c.store);
        tx = own;
    }
    if (r < 0)
        return; /* then it is told once more after a restart */
    snprintf(name, sizeof name, KEI_DMI_TOLD_KEY "%s", key);
    snprintf(value, sizeof value, "%llu %.253s", (unsigned long long)digest, protocol);
    if (digest)
        r = ke_store_put(tx, KEI_DMI_BUCKET, name, NULL, 0, value, strlen(value));
    else
        r = ke_store_delete(tx, KEI_DMI_BUCKET, name, NULL);
    if (own)
        r = ke_store_commit(own, NULL, NULL);
    if (r < 0)
        kei_log(d->ctx, KE_LOG_DEBUG, "dmi", "what a mapper has was not noted: %s",
                ke_ctx_error(d->ctx));
}

/* What the object says of itself: protocol and model. */
static int read_object(struct kei_dmi_object *o, struct ke_error *err)
{
    struct kei_dmi *d = o->d;
    struct ke_str text = kei_strn(o->json, o->n);
    struct kei_device_model model = {0};
    struct kei_device device = {0};
    struct kei_arena a;
    char key[600];

    kei_arena_init(&a, d->alloc, 0);
    int r = o->is_model ? kei_device_model_read(&model, text, &a, err)
                        : kei_device_read(&device, text, &a, err);
    if (r == 0) {
        o->protocol = kei_strdup(d->alloc, o->is_model ? model.protocol : device.protocol);
        if (!o->is_model) {
            struct ke_str rest, ns = kei_str_cut(kei_str(o->key + 2), '/', &rest);
            snprintf(key, sizeof key, "m/%.*s/%.253s", KEI_FMT(ns), device.model);
            o->model = kei_strdup(d->alloc, key);
        }
        if (!o->protocol || (!o->is_model && !o->model))
            r = kei_error(err, KE_ENOMEM, "no memory for a device");
    }
    for (char *p = o->protocol; r == 0 && *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    kei_arena_free(&a);
    return r;
}

static struct kei_dmi_object *object_new(struct kei_dmi *d, const char *key, struct ke_str json,
                                         struct ke_error *err)
{
    struct kei_dmi_object *o = kei_zalloc(d->alloc, sizeof *o);

    if (!o) {
        kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
        return NULL;
    }
    o->d = d;
    o->is_model = key[0] == 'm';
    o->key = kei_strdup(d->alloc, key);
    o->json = kei_strndup(d->alloc, json.p, json.n);
    o->n = json.n;
    if (!o->key || !o->json)
        kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
    else if (read_object(o, err) == 0)
        return o;
    object_free(o);
    return NULL;
}

/* Devices of that model are told anew. */
static void model_changed(struct kei_dmi *d, const char *key)
{
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->objects, &it, NULL, &value)) {
        struct kei_dmi_object *o = value;
        if (!o->is_model && strcmp(o->model, key) == 0)
            kei_dmi_changed(o);
    }
}

static void take_over(struct kei_dmi_object *o, struct kei_dmi_object *old)
{
    bool same = strcmp(o->protocol, old->protocol) == 0;

    if (!same) {
        kei_dmi_removed(old);
    } else {
        o->known = old->known;
        o->told = old->told;
    }
    object_free(old);
}

static void put_object(struct kei_dmi *d, const char *key, struct ke_str json, struct ke_error *err)
{
    void *old = NULL;

    if (!kei_map_get(&d->objects, kei_str(key)) && d->objects.n >= d->c.max_objects) {
        kei_error(err, KE_ELIMIT, "%zu devices and models are the limit (max_objects)",
                  d->objects.n);
        return;
    }
    struct kei_dmi_object *o = object_new(d, key, json, err);
    if (!o)
        return;
    if (kei_map_put(&d->objects, kei_str(key), o, &old) < 0) {
        kei_error(err, KE_ENOMEM, "no memory for %s", key + 2);
        object_free(o);
        return;
    }
    struct told *told = kei_map_remove(&d->told, kei_str(key));
    if (told && strcmp(told->protocol, o->protocol) == 0)
        o->told = told->digest;
    kei_free(d->alloc, told);
    if (old)
        take_over(o, old);
    kei_dmi_changed(o);
    struct kei_dmi_object *model = kei_dmi_model_of(d, o);
    if (model && !model->known) /* one without protocol has a mapper from now on */
        kei_dmi_changed(model);
    if (o->is_model)
        model_changed(d, key);
}

static void drop_object(struct kei_dmi *d, const char *key)
{
    struct kei_dmi_object *o = kei_map_remove(&d->objects, kei_str(key));

    if (!o)
        return;
    kei_dmi_removed(o);
    kei_dmi_note_told(d, NULL, key, 0, "");
    object_free(o);
}

/* ---- messages ---- */

/* "NS/device/NAME" -> "d/NS/NAME" */
static bool key_of(char *out, size_t n, const char *resource)
{
    struct ke_str rest, name, ns, type;

    ns = kei_str_cut(kei_str(resource), '/', &rest);
    type = kei_str_cut(rest, '/', &name);
    if (!ns.n || !name.n || ns.n > NAME_MAX_ || name.n > NAME_MAX_ ||
        memchr(name.p, '/', name.n) != NULL)
        return false;
    if (!kei_str_is(type, "device") && !kei_str_is(type, "devicemodel"))
        return false;
    snprintf(out, n, "%c/%.*s/%.*s", type.n == 6 ? 'd' : 'm', KEI_FMT(ns), KEI_FMT(name));
    return true;
}

static void take(struct kei_dmi *d, struct ke_msg *m)
{
    struct ke_error err = KE_ERROR_INIT;
    const char *op = ke_msg_operation(m);
    char key[600];
    size_t n;

    if (!key_of(key, sizeof key, ke_msg_resource(m)))
        return;
    const char *content = ke_msg_content(m, &n);
    if (strcmp(op, "delete") == 0)
        drop_object(d, key);
    else if (strcmp(op, "insert") == 0 || strcmp(op, "update") == 0)
        put_object(d, key, kei_strn(content, n), &err);
    if (err.code)
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "%s was not taken: %s", ke_msg_resource(m), err.text);
}

static void hold(struct kei_dmi *d, struct ke_msg *m)
{
    struct held *h = d->n_held < HELD_MAX ? kei_zalloc(d->alloc, sizeof *h) : NULL;

    if (!h) {
        kei_log(d->ctx, KE_LOG_WARN, "dmi",
                "%s was left out until the next start: %u messages wait for the store",
                ke_msg_resource(m), (unsigned)d->n_held);
        return;
    }
    d->n_held++;
    h->msg = ke_msg_ref(m);
    kei_list_add_tail(&d->held, &h->link);
}

static void on_message(void *user, struct ke_msg *m)
{
    struct kei_dmi *d = user;

    if (d->loaded)
        take(d, m);
    else
        hold(d, m);
}

static void release(struct kei_dmi *d, bool use)
{
    while (!kei_list_empty(&d->held)) {
        struct held *h = KEI_OF(d->held.next, struct held, link);
        kei_list_remove(&h->link);
        if (use)
            take(d, h->msg);
        ke_msg_unref(h->msg);
        kei_free(d->alloc, h);
    }
}

/* ---- reading the store ---- */

static void load_mapper(struct kei_dmi *d, const struct ke_store_item *item)
{
    struct ke_str json = kei_strn(item->value, item->len);
    struct kei_arena a;
    struct kei_dmi_mapper *m;

    kei_arena_init(&a, d->alloc, 0);
    if (kei_json_check(json, 0, NULL) == 0) {
        struct ke_str form;
        const struct kei_dmi_registration r = {
            .name = kei_json_path_str(json, "name", &a),
            .version = kei_json_path_str(json, "version", &a),
            .api_version = kei_json_path_str(json, "api_version", &a),
            .protocol = kei_json_path_str(json, "protocol", &a),
            .address = kei_json_path_str(json, "address", &a),
            .state = kei_json_path_str(json, "state", &a),
            .form = kei_json_get(json, "form", &form) && kei_json_str_is(form, "v1alpha1")
                        ? KEI_DMI_A1
                        : KEI_DMI_B1,
        };
        if (r.protocol[0] && r.address[0] && kei_dmi_mapper_set(&m, d, &r) < 0)
            kei_log(d->ctx, KE_LOG_WARN, "dmi", "mapper %s was not restored: %s", r.name,
                    ke_ctx_error(d->ctx));
    }
    kei_arena_free(&a);
}

static void load_told(struct kei_dmi *d, const struct ke_store_item *item)
{
    struct ke_str protocol, number = kei_str_cut(kei_strn(item->value, item->len), ' ', &protocol);
    struct told *t = kei_zalloc(d->alloc, sizeof *t + protocol.n + 1);
    void *old = NULL;

    if (t && protocol.n)
        memcpy(t->protocol, protocol.p, protocol.n);
    if (!t || !kei_str_u64(number, &t->digest) ||
        kei_map_put(&d->told, kei_str(item->key + strlen(KEI_DMI_TOLD_KEY)), t, &old) < 0)
        kei_free(d->alloc, t);
    kei_free(d->alloc, old);
}

static void load_object(struct kei_dmi *d, const struct ke_store_item *item)
{
    struct ke_error err = KE_ERROR_INIT;
    char key[600];

    if (strlen(item->key) > 2 * NAME_MAX_ + 1)
        return;
    snprintf(key, sizeof key, "%c/%s", strcmp(item->bucket, "o/device") == 0 ? 'd' : 'm',
             item->key);
    put_object(d, key, kei_strn(item->value, item->len), &err);
    if (err.code)
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "%s was not taken: %s", item->key, err.text);
}

static void told_free(struct kei_dmi *d)
{
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->told, &it, NULL, &value))
        kei_free(d->alloc, value);
    kei_map_free(&d->told);
    kei_map_init(&d->told, d->alloc, 0);
}

/* Objects that went while nobody looked: their mappers are told. */
static void remove_lost(struct kei_dmi *d)
{
    struct ke_str key;
    void *value;
    size_t it = 0;

    while (kei_map_next(&d->told, &it, &key, &value)) {
        const struct told *t = value;
        char text[600];
        snprintf(text, sizeof text, "%.*s", (int)(key.n < 599 ? key.n : 599), key.p);
        kei_dmi_remove_key(d, t->protocol, text);
        kei_dmi_note_told(d, NULL, text, 0, "");
    }
    told_free(d);
}

static void loaded(struct kei_dmi *d)
{
    d->loaded = true;
    remove_lost(d);
    release(d, true);
    if (kei_dmi_serve(d) < 0)
        kei_log(d->ctx, KE_LOG_ERROR, "dmi", "no mapper can register: %s", ke_ctx_error(d->ctx));
}

static void on_item(void *user, int status, const struct ke_store_item *item)
{
    struct kei_dmi *d = user;

    if (item && !d->freed) {
        if (strcmp(item->bucket, KEI_DMI_BUCKET) != 0)
            load_object(d, item);
        else if (kei_str_starts(kei_str(item->key), KEI_STR(KEI_DMI_TOLD_KEY)))
            load_told(d, item);
        else if (kei_str_starts(kei_str(item->key), KEI_STR(KEI_DMI_MAPPER_KEY)))
            load_mapper(d, item);
    }
    if (item)
        return;
    if (status < 0 && !d->freed)
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "devices were not read from the store: %s",
                ke_ctx_error(d->ctx));
    if (--d->lists == 0 && !d->freed)
        loaded(d);
    kei_dmi_leave(d);
}

/* Answers come in the order of the calls: notes, models, devices, mappers. */
static int load(struct kei_dmi *d)
{
    static const struct {
        const char *bucket, *prefix;
    } lists[] = {{KEI_DMI_BUCKET, KEI_DMI_TOLD_KEY},
                 {"o/devicemodel", NULL},
                 {"o/device", NULL},
                 {KEI_DMI_BUCKET, KEI_DMI_MAPPER_KEY}};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        int r = ke_store_list(d->c.store, lists[i].bucket, lists[i].prefix, 0, on_item, d);
        if (r < 0)
            return r;
        d->lists++;
        d->busy++;
    }
    return 0;
}

/* ---- life ---- */

void kei_dmi_leave(struct kei_dmi *d)
{
    if (--d->busy == 0 && d->freed)
        kei_free(d->alloc, d);
}

static void set_defaults(struct kei_dmi_config *c)
{
    if (!c->socket || !c->socket[0])
        c->socket = SOCKET;
    if (!c->rate)
        c->rate = 1000;
    if (!c->burst)
        c->burst = 2 * c->rate;
    if (!c->push_ms)
        c->push_ms = 10000;
    if (!c->twin_ms)
        c->twin_ms = 10000;
    if (!c->retry_min_ms)
        c->retry_min_ms = 500;
    if (c->retry_max_ms < c->retry_min_ms)
        c->retry_max_ms = c->retry_min_ms > 30000 ? c->retry_min_ms : 30000;
    if (!c->max_mappers)
        c->max_mappers = 64;
    if (!c->max_objects)
        c->max_objects = 20000;
}

int kei_dmi_new(struct kei_dmi **ret, struct ke_ctx *ctx, const struct kei_dmi_config *c)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_message};

    if (!c->router || !c->store)
        return kei_fail(ctx, KE_EINVAL, "DMI needs a router and a store");
    struct kei_dmi *d = kei_zalloc(kei_ctx_alloc(ctx), sizeof *d);
    if (!d)
        return kei_fail(ctx, KE_ENOMEM, "no memory for DMI");
    d->ctx = ctx;
    d->alloc = kei_ctx_alloc(ctx);
    d->c = *c;
    set_defaults(&d->c);
    d->tokens = d->c.burst;
    d->tokens_ms = ke_ctx_mono_ms(ctx);
    kei_list_init(&d->mappers);
    kei_list_init(&d->calls);
    kei_list_init(&d->held);
    kei_map_init(&d->objects, d->alloc, kei_ctx_random64(ctx));
    kei_map_init(&d->told, d->alloc, kei_ctx_random64(ctx));
    d->busy = 1;
    d->socket = kei_strdup(d->alloc, d->c.socket);
    d->c.socket = d->socket;
    int r = d->socket ? ke_router_add(&d->module, c->router, "dmi", "device", &ops, d)
                      : kei_fail(ctx, KE_ENOMEM, "no memory for DMI");
    if (r == 0)
        r = load(d);
    if (r < 0) {
        kei_dmi_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

void kei_dmi_free(struct kei_dmi *d)
{
    void *value;
    size_t it = 0;

    if (!d || d->freed)
        return;
    d->freed = true;
    ke_module_remove(d->module);
    kei_dmi_calls_free(d);
    kei_grpc_server_free(d->server);
    KEI_LIST_EACH_SAFE(l, next, &d->mappers)
    kei_dmi_mapper_free(KEI_OF(l, struct kei_dmi_mapper, link));
    while (kei_map_next(&d->objects, &it, NULL, &value))
        object_free(value);
    kei_map_free(&d->objects);
    told_free(d);
    release(d, false);
    kei_free(d->alloc, d->socket);
    kei_dmi_leave(d);
}
