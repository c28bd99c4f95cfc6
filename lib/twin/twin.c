/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handle: configuration, life, the host's calls and observers. Owns the module and all devices.
 * The memory of the handle outlives ke_twin_free while something that was begun must still come
 * back (refs). Loop thread, but for the calls marked otherwise.
 */
#include "twin/twin_priv.h"

#define CONFIG_MIN KEI_SIZE_TO(struct ke_twin_config, queue_bytes)

void kei_twin_unref_handle(struct ke_twin *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        kei_free(t->alloc, t);
}

uint32_t kei_twin_dialect(const struct ke_twin *t)
{
    uint32_t d = t->c.dialect_now ? t->c.dialect_now(t->c.user) : t->c.dialect;

    return d == KE_DIALECT_AUTO ? KE_DIALECT_1_15 : d;
}

void kei_twin_rules_now(const struct ke_twin *t, struct kei_twin_rules *r)
{
    kei_twin_rules_default(r);
    r->dialect = kei_twin_dialect(t);
    r->flags = (t->c.flags & KE_TWIN_STRICT) ? KEI_TWIN_STRICT : 0;
    r->now_ms = ke_ctx_real_ms(t->ctx);
    r->max_twins = t->c.max_twins;
    r->max_value = t->c.max_value;
}

/* ---- life ---- */

void ke_twin_config_init(struct ke_twin_config *c, size_t size)
{
    kei_abi_init(c, size);
}

static int check_config(struct ke_twin *t, const struct ke_twin_config *from)
{
    struct ke_twin_config *c = &t->c;
    int r = kei_abi_in(c, sizeof *c, from, CONFIG_MIN, "struct ke_twin_config", kei_err(t->ctx));

    if (r < 0)
        return r;
    if (!c->router)
        return kei_fail(t->ctx, KE_EINVAL, "ke_twin_config.router is missing");
    if (!c->node_name || !kei_twin_name_ok(kei_str(c->node_name)))
        return kei_fail(t->ctx, KE_EINVAL, "ke_twin_config.node_name is missing, or no name");
    if (c->reserved || (c->flags & ~(KE_TWIN_STRICT | KE_TWIN_OLD_TOPICS)))
        return kei_fail(t->ctx, KE_EINVAL, "ke_twin_config.flags or reserved has unknown bits");
    t->node_name = kei_strdup(t->alloc, c->node_name);
    if (!t->node_name)
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for the device twin");
    c->max_devices = c->max_devices ? c->max_devices : 16384;
    c->max_twins = c->max_twins ? c->max_twins : 1024;
    c->max_value = c->max_value ? c->max_value : 64u << 10;
    c->max_message = c->max_message ? c->max_message : 256u << 10;
    c->queue_messages = c->queue_messages ? c->queue_messages : 16384;
    c->queue_bytes = c->queue_bytes ? c->queue_bytes : (uint64_t)32 << 20;
    return 0;
}

static void on_message(void *user, struct ke_msg *m)
{
    kei_input_message(user, m);
}

int ke_twin_new(struct ke_twin **ret, struct ke_ctx *ctx, const struct ke_twin_config *c)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_message};
    struct ke_twin *t;
    int r;

    if (!ctx)
        return KE_EINVAL;
    if (!ret || !c)
        return kei_fail(ctx, KE_EINVAL, "a device twin needs a configuration and a place for it");
    t = kei_zalloc(kei_ctx_alloc(ctx), sizeof *t);
    if (!t)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the device twin");
    t->ctx = ctx;
    t->alloc = kei_ctx_alloc(ctx);
    atomic_init(&t->refs, 1);
    kei_map_init(&t->names, t->alloc, kei_ctx_random64(ctx));
    kei_list_init(&t->all);
    kei_list_init(&t->subs);
    kei_batch_init(t);
    kei_upward_init(t);
    r = check_config(t, c);
    if (r == 0)
        kei_life_init(t);
    if (r == 0)
        r = ke_router_add(&t->module, t->c.router, "devicetwin", "twin", &ops, t);
    if (r < 0) {
        ke_twin_free(t);
        return r;
    }
    *ret = t;
    return 0;
}

int ke_twin_start(struct ke_twin *t)
{
    int r;

    if (!t)
        return KE_EINVAL;
    if (t->running)
        return kei_fail(t->ctx, KE_ESTATE, "the device twin of node %s runs", t->node_name);
    r = kei_tdev_load(t);
    if (r < 0)
        return r;
    t->running = true;
    kei_upward_link(t, t->connected);
    kei_batch_wake(t);
    return 0;
}

void ke_twin_stop(struct ke_twin *t)
{
    bool connected;

    if (!t || !t->running)
        return;
    t->running = false;
    connected = t->connected;
    kei_upward_link(t, false);
    t->connected = connected;
}

static void free_subs(struct ke_twin *t)
{
    KEI_LIST_EACH_SAFE(l, next, &t->subs)
    {
        struct ke_twin_sub *s = KEI_OF(l, struct ke_twin_sub, link);

        kei_list_remove(l);
        kei_free(t->alloc, s->ns);
        kei_free(t->alloc, s->device);
        kei_free(t->alloc, s);
    }
}

void ke_twin_free(struct ke_twin *t)
{
    if (!t)
        return;
    t->freed = true;
    t->running = false;
    ke_module_remove(t->module);
    kei_upward_fini(t);
    kei_batch_fini(t);
    KEI_LIST_EACH_SAFE(l, next, &t->all)
    {
        kei_tdev_drop(t, KEI_OF(l, struct kei_tdev, all));
    }
    kei_map_free(&t->names);
    kei_free(t->alloc, t->graves);
    if (!t->notifying)
        free_subs(t);
    kei_free(t->alloc, t->node_name);
    t->node_name = NULL;
    kei_twin_unref_handle(t);
}

/* ---- the host's changes ---- */

static void on_posted(void *user)
{
    struct kei_input *in = user;
    struct ke_twin *t = in->t;
    struct ke_error err = KE_ERROR_INIT;
    int r = KE_ECANCELED;

    if (t->freed)
        (void)kei_error(&err, r, "the device twin was freed");
    else if (!t->running)
        r = kei_error(&err, KE_ESTATE, "the device twin is stopped");
    else
        r = kei_input_queue(t, in, &err);
    if (r < 0) {
        if (in->done)
            in->done(in->user, r, err.text);
        kei_input_free(t, in);
    }
    kei_twin_unref_handle(t);
}

/* text is used up */
static int post(struct ke_twin *t, enum kei_action action, const char *device, struct ke_buf *text,
                ke_twin_done_fn done, void *user, struct ke_error *reterr)
{
    struct ke_str ns, name;
    struct kei_input *in;
    int r;

    if (!device || !kei_twin_id_parse(kei_str(device), &ns, &name)) {
        ke_buf_free(text);
        return kei_error(reterr, KE_EINVAL, "\"%s\" is no name of a device", device ? device : "");
    }
    in = kei_zalloc(t->alloc, sizeof *in);
    if (in)
        in->own = kei_strdup(t->alloc, device);
    if (!in || !in->own || !kei_buf_ok(text)) {
        ke_buf_free(text);
        if (in)
            kei_free(t->alloc, in->own);
        kei_free(t->alloc, in);
        return kei_error(reterr, KE_ENOMEM, "out of memory for a change of device %s", device);
    }
    in->action = action;
    in->t = t;
    in->id = kei_str(in->own);
    in->text = *text;
    in->payload = kei_buf_str(&in->text);
    in->bytes = in->text.n + sizeof *in;
    in->done = done;
    in->user = user;
    atomic_fetch_add(&t->refs, 1);
    r = ke_ctx_post(t->ctx, on_posted, in, reterr);
    if (r < 0) {
        kei_input_free(t, in);
        kei_twin_unref_handle(t);
    }
    return r;
}

int ke_twin_add(struct ke_twin *t, const char *device, const char *description,
                ke_twin_done_fn done, void *user, struct ke_error *reterr)
{
    struct ke_buf text;

    if (!t)
        return kei_error(reterr, KE_EINVAL, "there is no device twin");
    kei_buf_init(&text, t->alloc);
    kei_buf_adds(&text, description ? description : "");
    return post(t, ACT_ADD, device, &text, done, user, reterr);
}

int ke_twin_remove(struct ke_twin *t, const char *device, ke_twin_done_fn done, void *user,
                   struct ke_error *reterr)
{
    struct ke_buf text;

    if (!t)
        return kei_error(reterr, KE_EINVAL, "there is no device twin");
    kei_buf_init(&text, t->alloc);
    kei_buf_adds(&text, "");
    return post(t, ACT_REMOVE, device, &text, done, user, reterr);
}

static void begin_payload(struct kei_jw *w, struct ke_buf *text)
{
    kei_jw_init(w, text);
    kei_jw_obj(w);
    kei_jw_kstr(w, "event_id", "");
    kei_jw_ki64(w, "timestamp", 0);
}

static int change(struct ke_twin *t, const char *side, const char *device, const char *name,
                  const char *value, const char *type, ke_twin_done_fn done, void *user,
                  struct ke_error *reterr)
{
    struct ke_buf text;
    struct kei_jw w;

    if (!t || !name || !value)
        return kei_error(reterr, KE_EINVAL, "a change of a twin needs a name and a value");
    kei_buf_init(&text, t->alloc);
    begin_payload(&w, &text);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    kei_jw_strv(&w, kei_str(name));
    kei_buf_addc(&text, ':');
    w.comma = false;
    kei_jw_obj(&w);
    kei_jw_key(&w, side);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "value", value);
    kei_jw_obj_end(&w);
    if (type) {
        kei_jw_key(&w, "metadata");
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "type", type);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    return post(t, ACT_UPDATE, device, &text, done, user, reterr);
}

int ke_twin_set(struct ke_twin *t, const char *device, const char *name, const char *value,
                const char *type, ke_twin_done_fn done, void *user, struct ke_error *reterr)
{
    return change(t, "expected", device, name, value, type, done, user, reterr);
}

int ke_twin_report(struct ke_twin *t, const char *device, const char *name, const char *value,
                   const char *type, ke_twin_done_fn done, void *user, struct ke_error *reterr)
{
    return change(t, "actual", device, name, value, type, done, user, reterr);
}

int ke_twin_set_state(struct ke_twin *t, const char *device, const char *state,
                      ke_twin_done_fn done, void *user, struct ke_error *reterr)
{
    struct ke_buf text;
    struct kei_jw w;

    if (!t || !state)
        return kei_error(reterr, KE_EINVAL, "a change of state needs a state");
    kei_buf_init(&text, t->alloc);
    begin_payload(&w, &text);
    kei_jw_kstr(&w, "state", state);
    kei_jw_obj_end(&w);
    return post(t, ACT_STATE, device, &text, done, user, reterr);
}

/* ---- looking ---- */

/* Strings of a twin end in a NUL where they are kept. */
static void value_of(struct ke_twin_value *v, const struct kei_tdev *dev, const struct kei_twin *x)
{
    struct kei_twin_view w;

    kei_twin_view(&w, x);
    memset(v, 0, sizeof *v);
    v->size = sizeof *v;
    v->ns = dev->d.ns;
    v->device = dev->d.name;
    v->name = kei_twin_name(x);
    v->type = kei_twin_type(x);
    v->desired = w.side[0].has ? w.side[0].value.p : NULL;
    v->reported = w.side[1].has ? w.side[1].value.p : NULL;
    v->desired_ms = w.side[0].ts;
    v->reported_ms = w.side[1].ts;
    v->optional = w.optional;
    v->unconfirmed = w.dirty != 0;
}

static void device_of(struct ke_twin_device *v, const struct kei_tdev *dev)
{
    memset(v, 0, sizeof *v);
    v->size = sizeof *v;
    v->ns = dev->d.ns;
    v->name = dev->d.name;
    v->description = dev->d.description;
    v->state = dev->d.state;
    v->last_online = dev->d.last_online;
    for (uint32_t i = 0; i < dev->d.n; i++)
        v->twins += !kei_twin_deleted(dev->d.twins[i]);
    v->unconfirmed = kei_twin_unconfirmed(&dev->d) || dev->d.state_up;
}

static int find(struct ke_twin *t, const char *device, struct kei_tdev **ret, struct ke_error *err)
{
    if (!t->loaded || t->freed)
        return kei_error(err, KE_ESTATE, "the devices of node %s are still being read",
                         t->node_name ? t->node_name : "");
    *ret = device ? kei_tdev_by_id(t, kei_str(device)) : NULL;
    return *ret ? 0
                : kei_error(err, KE_ENOTFOUND, "there is no device %s", device ? device : "(none)");
}

int ke_twin_get(struct ke_twin *t, const char *device, const char *name, struct ke_twin_value *ret,
                size_t size)
{
    const struct kei_twin *x;
    struct ke_twin_value v;
    struct kei_tdev *dev;
    int r;

    if (!t || !name || !ret)
        return KE_EINVAL;
    r = find(t, device, &dev, kei_err(t->ctx));
    if (r < 0)
        return r;
    x = kei_twin_find(&dev->d, kei_str(name));
    if (!x || kei_twin_deleted(x))
        return kei_fail(t->ctx, KE_ENOTFOUND, "device %s has no twin %s", device, name);
    value_of(&v, dev, x);
    return kei_abi_out(ret, size, &v, sizeof v, KEI_SIZE_TO(struct ke_twin_value, unconfirmed),
                       "struct ke_twin_value", kei_err(t->ctx));
}

int ke_twin_devices(struct ke_twin *t, void (*fn)(void *user, const struct ke_twin_device *d),
                    void *user)
{
    struct ke_twin_device v;

    if (!t || !fn)
        return KE_EINVAL;
    if (!t->loaded)
        return kei_fail(t->ctx, KE_ESTATE, "the devices of node %s are still being read",
                        t->node_name);
    KEI_LIST_EACH(l, &t->all)
    {
        struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        if (dev->gone)
            continue;
        device_of(&v, dev);
        fn(user, &v);
    }
    return 0;
}

int ke_twin_each(struct ke_twin *t, const char *device,
                 void (*fn)(void *user, const struct ke_twin_value *v), void *user)
{
    struct ke_twin_value v;
    struct kei_tdev *dev;
    int r;

    if (!t || !fn)
        return KE_EINVAL;
    r = find(t, device, &dev, kei_err(t->ctx));
    for (uint32_t i = 0; r == 0 && i < dev->d.n; i++) {
        if (kei_twin_deleted(dev->d.twins[i]))
            continue;
        value_of(&v, dev, dev->d.twins[i]);
        fn(user, &v);
    }
    return r;
}

struct asking {
    struct ke_twin *t;
    const char *device;
    struct ke_buf *out;
    struct ke_error *err;
    int r;
};

static void write_all(struct ke_twin *t, struct ke_buf *out)
{
    bool comma = false;

    kei_buf_adds(out, "{\"devices\":[");
    KEI_LIST_EACH(l, &t->all)
    {
        const struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        if (dev->gone)
            continue;
        if (comma)
            kei_buf_addc(out, ',');
        kei_twin_write_json(out, &dev->d);
        comma = true;
    }
    kei_buf_adds(out, "]}");
}

static void on_ask(void *user)
{
    struct asking *a = user;
    struct kei_tdev *dev;

    if (a->device) {
        a->r = find(a->t, a->device, &dev, a->err);
        if (a->r == 0)
            kei_twin_write_json(a->out, &dev->d);
    } else if (a->t->loaded) {
        write_all(a->t, a->out);
    } else {
        a->r = kei_error(a->err, KE_ESTATE, "the devices are still being read");
    }
    if (a->r == 0 && !kei_buf_ok(a->out))
        a->r = kei_error(a->err, KE_ENOMEM, "out of memory for the devices");
}

int ke_twin_json(struct ke_twin *t, const char *device, struct ke_buf *out, struct ke_error *reterr)
{
    struct asking a = {t, device, out, reterr, 0};
    int r;

    if (!t || !out)
        return kei_error(reterr, KE_EINVAL, "there is no device twin, or no buffer");
    if (!out->alloc)
        out->alloc = t->alloc;
    r = kei_ctx_call(t->ctx, on_ask, &a);
    return r < 0 ? kei_error(reterr, r, "the loop could not be asked") : a.r;
}

int ke_twin_status(struct ke_twin *t, struct ke_twin_status *ret, size_t size)
{
    if (!t || !ret)
        return KE_EINVAL;
    t->st.size = sizeof t->st;
    t->st.devices = t->st.unconfirmed = 0;
    KEI_LIST_EACH(l, &t->all)
    {
        const struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        t->st.devices += !dev->gone;
        t->st.unconfirmed += !dev->gone && (kei_twin_unconfirmed(&dev->d) || dev->d.state_up);
    }
    t->st.waiting = t->n_inputs;
    t->st.connected = t->connected;
    return kei_abi_out(ret, size, &t->st, sizeof t->st,
                       KEI_SIZE_TO(struct ke_twin_status, confirmed), "struct ke_twin_status",
                       kei_err(t->ctx));
}

/* ---- observers ---- */

int ke_twin_observe(struct ke_twin_sub **ret, struct ke_twin *t, const char *device, ke_twin_fn fn,
                    void *user)
{
    struct ke_str ns, name;
    struct ke_twin_sub *s;

    if (!t || !ret || !fn)
        return KE_EINVAL;
    if (device && !kei_twin_id_parse(kei_str(device), &ns, &name))
        return kei_fail(t->ctx, KE_EINVAL, "\"%s\" is no name of a device", device);
    s = kei_zalloc(t->alloc, sizeof *s);
    if (s && device) {
        s->ns = kei_strndup(t->alloc, ns.p, ns.n);
        s->device = kei_strndup(t->alloc, name.p, name.n);
    }
    if (!s || (device && (!s->ns || !s->device))) {
        if (s) {
            kei_free(t->alloc, s->ns);
            kei_free(t->alloc, s->device);
        }
        kei_free(t->alloc, s);
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for an observer");
    }
    s->t = t;
    s->fn = fn;
    s->user = user;
    kei_list_add_tail(&t->subs, &s->link);
    *ret = s;
    return 0;
}

static void sub_free(struct ke_twin_sub *s)
{
    const struct ke_alloc *al = s->t->alloc;

    kei_list_remove(&s->link);
    kei_free(al, s->ns);
    kei_free(al, s->device);
    kei_free(al, s);
}

void ke_twin_unobserve(struct ke_twin_sub *s)
{
    if (!s)
        return;
    s->ended = true;
    if (!s->t->notifying)
        sub_free(s);
}

static bool wants(const struct ke_twin_sub *s, const struct kei_tdev *dev)
{
    if (!s->device)
        return true;
    return strcmp(s->device, dev->d.name) == 0 &&
           (!*s->ns || !*dev->d.ns || strcmp(s->ns, dev->d.ns) == 0);
}

void kei_twin_notify(struct ke_twin *t, const struct kei_effect *e)
{
    struct ke_twin_event ev = {.size = sizeof ev, .what = e->what};
    struct ke_twin_device d;
    struct ke_twin_value v;

    device_of(&d, e->dev);
    ev.device = &d;
    if (e->twin) {
        value_of(&v, e->dev, e->twin);
        ev.value = &v;
    }
    t->notifying = true;
    KEI_LIST_EACH(l, &t->subs)
    {
        struct ke_twin_sub *s = KEI_OF(l, struct ke_twin_sub, link);

        if (!s->ended && !t->freed && wants(s, e->dev))
            s->fn(s->user, &ev);
    }
    t->notifying = false;
    KEI_LIST_EACH_SAFE(l, next, &t->subs)
    {
        struct ke_twin_sub *s = KEI_OF(l, struct ke_twin_sub, link);

        if (s->ended || t->freed)
            sub_free(s);
    }
}
