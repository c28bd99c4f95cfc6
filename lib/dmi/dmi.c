/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's end of DMI: its objects, from the store and from the router, and its life. Freed while
 * the store still has an answer for it, it lives as an empty shell until that came. Loop thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "dmi/dmi_priv.h"

#define SOCKET "/etc/kubeedge/dmi.sock"
#define HELD_MAX 4096u
#define NAME_MAX_ 253u

struct held {
    struct kei_link link;
    struct ke_msg *msg;
};

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
        kei_dmi_drop(d, key);
    else if (strcmp(op, "insert") == 0 || strcmp(op, "update") == 0)
        kei_dmi_put(d, key, kei_strn(content, n), &err);
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

/* It may not serve its protocol any more. */
static void forget_mapper(struct kei_dmi *d, const struct kei_dmi_registration *r, const char *why)
{
    struct ke_store_tx *tx = NULL;
    char key[300];

    snprintf(key, sizeof key, KEI_DMI_MAPPER_KEY "%.253s", r->protocol);
    int x = ke_store_begin(&tx, d->c.store);
    if (x == 0) {
        (void)!ke_store_delete(tx, KEI_DMI_BUCKET, key, NULL);
        x = ke_store_commit(tx, NULL, NULL);
    }
    kei_log(d->ctx, KE_LOG_WARN, "dmi", "mapper %s is forgotten%s: %s", r->name,
            x < 0 ? " until the next start" : "", why);
}

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
        struct ke_error err = KE_ERROR_INIT;
        if (r.protocol[0] && d->c.may_serve && d->c.may_serve(d->c.user, r.protocol, &err) < 0)
            forget_mapper(d, &r, err.text);
        else if (r.protocol[0] && r.address[0] && kei_dmi_mapper_set(&m, d, &r) < 0)
            kei_log(d->ctx, KE_LOG_WARN, "dmi", "mapper %s was not restored: %s", r.name,
                    ke_ctx_error(d->ctx));
    }
    kei_arena_free(&a);
}

static void load_object(struct kei_dmi *d, const struct ke_store_item *item)
{
    struct ke_error err = KE_ERROR_INIT;
    char key[600];

    if (strlen(item->key) > 2 * NAME_MAX_ + 1)
        return;
    snprintf(key, sizeof key, "%c/%s", strcmp(item->bucket, "o/device") == 0 ? 'd' : 'm',
             item->key);
    kei_dmi_put(d, key, kei_strn(item->value, item->len), &err);
    if (err.code)
        kei_log(d->ctx, KE_LOG_WARN, "dmi", "%s was not taken: %s", item->key, err.text);
}

static void start_listening(struct kei_dmi *d)
{
    int r = kei_dmi_serve(d);

    if (r < 0 && (r != d->listen_error || strcmp(ke_ctx_error(d->ctx), d->listen_text) != 0))
        kei_log(d->ctx, KE_LOG_ERROR, "dmi", "no mapper can register: %s", ke_ctx_error(d->ctx));
    else if (r == 0 && d->listen_error != KE_EAGAIN)
        kei_log(d->ctx, KE_LOG_INFO, "dmi", "mappers can register at %s", d->socket);
    d->listen_error = r;
    if (r == 0)
        return;
    snprintf(d->listen_text, sizeof d->listen_text, "%s", ke_ctx_error(d->ctx));
    kei_timer_in(&d->listen, kei_backoff_next(&d->backoff, kei_ctx_random64(d->ctx)));
}

static void on_listen(struct kei_timer *t)
{
    start_listening(KEI_OF(t, struct kei_dmi, listen));
}

int kei_dmi_listening(const struct kei_dmi *d)
{
    if (d->listen_error == 0)
        return 0;
    return kei_fail(d->ctx, d->listen_error, "no mapper can register: %s",
                    d->loaded ? d->listen_text : "the store is being read");
}

static void loaded(struct kei_dmi *d)
{
    d->loaded = true;
    kei_dmi_told_lost(d);
    release(d, true);
    start_listening(d);
    if (d->c.changed)
        d->c.changed(d->c.user);
}

static void on_item(void *user, int status, const struct ke_store_item *item)
{
    struct kei_dmi *d = user;

    if (item && !d->freed) {
        if (strcmp(item->bucket, KEI_DMI_BUCKET) != 0)
            load_object(d, item);
        else if (kei_str_starts(kei_str(item->key), KEI_STR(KEI_DMI_TOLD_KEY)))
            kei_dmi_told_load(d, item);
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
    if (!c->probe_ms)
        c->probe_ms = 10000;
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
    kei_timer_init(ctx, &d->listen, on_listen);
    kei_backoff_init(&d->backoff, d->c.retry_min_ms, d->c.retry_max_ms);
    d->listen_error = KE_EAGAIN;
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
    if (!d || d->freed)
        return;
    d->freed = true;
    kei_timer_fini(&d->listen);
    ke_module_remove(d->module);
    kei_dmi_calls_free(d);
    kei_grpc_server_free(d->server);
    KEI_LIST_EACH_SAFE(l, next, &d->mappers)
    kei_dmi_mapper_free(KEI_OF(l, struct kei_dmi_mapper, link));
    kei_dmi_objects_free(d);
    kei_dmi_told_free(d);
    release(d, false);
    kei_free(d->alloc, d->socket);
    kei_dmi_leave(d);
}
