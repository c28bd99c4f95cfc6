/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that speak JSON over MQTT. What they publish comes from the event bus by the router, is
 * kept as the value of each property and told at once; what they shall do is published. The driver
 * owns devices and its subscriptions, a device its values. Loop thread.
 */
#include "device/json.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "device/driver_conf.h"
#include "device/json_path.h"

#define BUS "eventbus"
#define TEXT_MAX 512 /* topics, paths, templates */
#define EXPIRE_MAX_MS 604800000u
#define ARENA_MAX (1u << 20)
#define TELL_MS 1000 /* how often dropped messages are told at most */

struct kei_json_driver {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_router *router;
    struct ke_module *module;
    struct ke_devices *d;
    struct kei_link feeds;
    struct kei_timer tell; /* what was dropped since it was told last */
    uint64_t dropped;
};

/* A filter, and the devices that listen to it: subscribed once. */
struct feed {
    struct kei_link link, taps;
    char *filter;
};

struct tap {
    struct kei_link link;
    struct feed *feed;
    struct jdev *dev;
    bool availability;
};

struct jprop {
    struct tap *tap;
    const char *path;
    const char *command_topic, *command_path, *command_template; /* NULL: none */
    struct ke_device_value v;                                    /* its text is in text */
    struct ke_buf text;
    int64_t heard_ms; /* monotonic; 0: never */
    bool wanted;      /* by the read under way */
};

struct jdev {
    struct kei_json_driver *j;
    const struct ke_device_config *c;
    struct kei_arena arena; /* strings and the arrays below */
    struct jprop *props;
    struct tap *taps;
    uint32_t n, n_taps;
    uint32_t expire_ms, wait_ms;
    const char *request_topic, *request_payload, *availability, *online, *offline;
    uint64_t op; /* open or read that waits; 0: none */
    bool is_open, opening;
    struct kei_timer timer;
    struct ke_error trouble; /* the last payload that could not be read */
};

/* ---- to the event bus ---- */

static int send_bus(struct kei_json_driver *j, const char *group, const char *operation,
                    const char *resource, const struct ke_str *payload, struct ke_error *err)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_buf text;
    struct kei_jw w;

    kei_buf_init(&text, j->alloc);
    kei_jw_init(&w, &text);
    if (payload)
        kei_jw_strv(&w, *payload);
    else
        kei_jw_null(&w);
    ke_msg_config_init(&c, sizeof c);
    c.source = KEI_JSON_MODULE;
    c.group = group;
    c.operation = operation;
    c.resource = resource;
    c.content = text.p;
    c.content_len = text.n;
    int r = kei_buf_ok(&text) ? ke_msg_new(&m, j->ctx, &c, err)
                              : kei_error(err, KE_ENOMEM, "out of memory for topic %s", resource);
    if (r == 0)
        r = ke_router_send(j->router, BUS, m, err);
    if (r == KE_ENOTFOUND)
        r = kei_error(err, KE_ECONN, "the event bus does not run");
    ke_msg_unref(m);
    ke_buf_free(&text);
    return r;
}

static int publish(struct jdev *dev, const char *topic, struct ke_str payload, struct ke_error *err)
{
    return send_bus(dev->j, "user", "publish", topic, &payload, err);
}

/* ---- feeds ---- */

static void feed_put(struct kei_json_driver *j, struct feed *f)
{
    if (!kei_list_empty(&f->taps))
        return;
    (void)send_bus(j, "device", "unsubscribe", f->filter, NULL, NULL); /* gone with the bus */
    kei_list_remove(&f->link);
    kei_free(j->alloc, f->filter);
    kei_free(j->alloc, f);
}

static int feed_get(struct kei_json_driver *j, const char *filter, struct feed **ret,
                    struct ke_error *err)
{
    KEI_LIST_EACH(l, &j->feeds)
    {
        struct feed *f = KEI_OF(l, struct feed, link);
        if (strcmp(f->filter, filter) == 0) {
            *ret = f;
            return 0;
        }
    }
    struct feed *f = kei_zalloc(j->alloc, sizeof *f);
    if (f)
        f->filter = kei_strdup(j->alloc, filter);
    int r = f && f->filter ? send_bus(j, "device", "subscribe", filter, NULL, err)
                           : kei_error(err, KE_ENOMEM, "out of memory for topic %s", filter);
    if (r < 0) {
        kei_free(j->alloc, f ? f->filter : NULL);
        kei_free(j->alloc, f);
        return r;
    }
    kei_list_init(&f->taps);
    kei_list_add_tail(&j->feeds, &f->link);
    *ret = f;
    return 0;
}

/* The device's tap of that filter; it hears nothing before listen. */
static struct tap *tap_of(struct jdev *dev, const char *filter, bool availability, uint32_t max)
{
    for (uint32_t i = 0; i < dev->n_taps; i++) {
        if (dev->taps[i].availability == availability &&
            strcmp(dev->taps[i].feed->filter, filter) == 0)
            return &dev->taps[i];
    }
    return dev->n_taps < max ? &dev->taps[dev->n_taps] : NULL;
}

static int listen_to(struct jdev *dev, const char *filter, bool availability, struct tap **ret,
                     struct ke_error *err)
{
    struct tap *t = tap_of(dev, filter, availability, dev->n + 2);
    int r = t->feed ? 0 : feed_get(dev->j, filter, &t->feed, err);

    if (r < 0)
        return r;
    if (!kei_list_linked(&t->link)) {
        t->dev = dev;
        t->availability = availability;
        kei_list_add_tail(&t->feed->taps, &t->link);
        dev->n_taps++;
    }
    *ret = t;
    return 0;
}

/* ---- configuration ---- */

/* A text of the configuration with its placeholders filled in; NULL in *ret when absent. */
static int read_text(struct jdev *dev, const struct kei_conf *c, const char *name, const char **ret)
{
    char text[TEXT_MAX] = "";
    struct ke_buf full;
    int r = kei_conf_str(c, name, text, sizeof text);

    if (r < 0 || !text[0])
        return r;
    kei_buf_init(&full, dev->j->alloc);
    kei_json_expand(&full, text, dev->c->ns, dev->c->name);
    *ret = kei_buf_ok(&full) ? kei_arena_strdup(&dev->arena, kei_buf_str(&full)) : NULL;
    ke_buf_free(&full);
    return *ret ? 0 : kei_error(c->err, KE_ENOMEM, "out of memory for \"%s\"", name);
}

static int check_topic(const char *topic, const char *name, bool filter, struct ke_error *err)
{
    if (!topic || (filter ? kei_json_filter_ok(topic) : kei_json_topic_ok(topic)))
        return 0;
    return kei_error(err, KE_EINVAL, "\"%s\" is \"%.100s\", which is no topic%s", name, topic,
                     filter ? " filter" : " to publish on");
}

static int read_device(struct jdev *dev, const char **topic, const char **command,
                       struct ke_error *err)
{
    struct kei_conf c = {dev->c->config, dev->c->config_len, NULL, err};
    int r;

    *topic = *command = NULL;
    dev->online = "online";
    dev->offline = "offline";
    dev->request_payload = "";
    if ((r = read_text(dev, &c, "topic", topic)) < 0 ||
        (r = read_text(dev, &c, "commandTopic", command)) < 0 ||
        (r = read_text(dev, &c, "requestTopic", &dev->request_topic)) < 0 ||
        (r = read_text(dev, &c, "requestPayload", &dev->request_payload)) < 0 ||
        (r = read_text(dev, &c, "availabilityTopic", &dev->availability)) < 0 ||
        (r = read_text(dev, &c, "online", &dev->online)) < 0 ||
        (r = read_text(dev, &c, "offline", &dev->offline)) < 0 ||
        (r = kei_conf_duration(&c, "expire", EXPIRE_MAX_MS, &dev->expire_ms)) < 0 ||
        (r = check_topic(*topic, "topic", true, err)) < 0 ||
        (r = check_topic(*command, "commandTopic", false, err)) < 0 ||
        (r = check_topic(dev->request_topic, "requestTopic", false, err)) < 0)
        return r;
    return check_topic(dev->availability, "availabilityTopic", true, err);
}

static int read_property(struct jdev *dev, uint32_t i, const char *topic, const char *command,
                         struct ke_error *err)
{
    const struct ke_device_property *p =
        (const struct ke_device_property *)((const char *)dev->c->properties +
                                            (size_t)i * dev->c->properties[0].size);
    struct kei_conf c = {p->visitor, p->visitor_len, NULL, err};
    struct jprop *prop = &dev->props[i];
    int r;

    prop->path = p->name;
    prop->command_topic = command;
    if ((r = read_text(dev, &c, "path", &prop->path)) < 0 ||
        (r = read_text(dev, &c, "topic", &topic)) < 0 ||
        (r = read_text(dev, &c, "commandTopic", &prop->command_topic)) < 0 ||
        (r = read_text(dev, &c, "commandPath", &prop->command_path)) < 0 ||
        (r = read_text(dev, &c, "commandTemplate", &prop->command_template)) < 0 ||
        (r = check_topic(topic, "topic", true, err)) < 0 ||
        (r = check_topic(prop->command_topic, "commandTopic", false, err)) < 0 ||
        (r = kei_json_path_check(prop->path, false, err)) < 0)
        return kei_error_prefix(err, r, "property %s", p->name);
    if (!topic)
        return kei_error(err, KE_EINVAL, "property %s: \"topic\" is missing", p->name);
    if (!prop->command_path)
        prop->command_path = prop->path;
    if (prop->command_topic && !prop->command_template && p->flags & KE_DEVICE_CAN_WRITE)
        r = kei_json_path_check(prop->command_path, true, err);
    if (r == 0)
        r = listen_to(dev, topic, false, &prop->tap, err);
    return r < 0 ? kei_error_prefix(err, r, "property %s", p->name) : 0;
}

static int begin(struct jdev *dev, struct ke_error *err)
{
    const char *topic, *command;
    struct tap *t;

    dev->props = kei_arena_array(&dev->arena, dev->n + 1u, sizeof *dev->props);
    dev->taps = kei_arena_array(&dev->arena, dev->n + 2u, sizeof *dev->taps);
    if (!dev->props || !dev->taps)
        return kei_error(err, KE_ENOMEM, "out of memory for %u properties", dev->n);
    int r = read_device(dev, &topic, &command, err);
    for (uint32_t i = 0; r == 0 && i < dev->n; i++)
        r = read_property(dev, i, topic, command, err);
    if (r == 0 && dev->availability)
        r = listen_to(dev, dev->availability, true, &t, err);
    return r;
}

/* ---- operations ---- */

static int finish(struct kei_json_driver *j, uint64_t op, int status, const char *text,
                  const struct ke_device_value *v, uint32_t n)
{
    struct ke_device_result res = {.size = sizeof res, .text = text, .values = v, .n_values = n};
    int r = ke_device_complete(j->d, op, status, &res);

    return r == KE_ENOTFOUND ? 0 : r;
}

/* Ends what waits; nothing is done when it was refused: it then times out. */
static void end_wait(struct jdev *dev, int status, const char *text)
{
    uint64_t op = dev->op;

    dev->op = 0;
    dev->opening = false;
    kei_timer_stop(&dev->timer);
    (void)finish(dev->j, op, status, text, NULL, 0);
}

/* The value as it is known; false: it is not, and v has the reason. */
static void current(struct jdev *dev, uint32_t i, struct ke_device_value *v, struct kei_arena *a)
{
    struct jprop *p = &dev->props[i];
    int64_t age = ke_ctx_mono_ms(dev->j->ctx) - p->heard_ms;

    *v = p->v;
    v->size = sizeof *v;
    v->property = i;
    if (p->v.kind == KE_DEVICE_KIND_TEXT) {
        v->p = p->text.p ? p->text.p : "";
        v->n = p->text.n;
    }
    if (p->heard_ms == 0) {
        v->status = dev->trouble.code ? dev->trouble.code : KE_EAGAIN;
        v->text = dev->trouble.code
                      ? dev->trouble.text
                      : kei_arena_printf(a, "nothing with \"%s\" came on topic %s yet", p->path,
                                         p->tap->feed->filter);
    } else if (dev->expire_ms > 0 && age > dev->expire_ms) {
        v->status = KE_ETIMEDOUT;
        v->text = kei_arena_printf(a, "nothing with \"%s\" came on topic %s for %lld ms", p->path,
                                   p->tap->feed->filter, (long long)age);
    }
}

/* The values of all that are wanted. */
static int read_done(struct jdev *dev, uint64_t op)
{
    struct kei_arena a;
    uint32_t n = 0;

    kei_arena_init(&a, dev->j->alloc, 0);
    struct ke_device_value *v = kei_arena_array(&a, dev->n + 1u, sizeof *v);
    if (!v) {
        kei_arena_free(&a);
        return kei_fail(dev->j->ctx, KE_ENOMEM, "out of memory for a read");
    }
    for (uint32_t i = 0; i < dev->n; i++) {
        if (dev->props[i].wanted)
            current(dev, i, &v[n++], &a);
    }
    int r = finish(dev->j, op, 0, NULL, v, n);
    kei_arena_free(&a);
    return r;
}

static void on_timer(struct kei_timer *t)
{
    struct jdev *dev = KEI_OF(t, struct jdev, timer);
    char text[TEXT_MAX + 100];

    if (!dev->op)
        return;
    bool some = false;
    for (uint32_t i = 0; i < dev->n; i++)
        some |= dev->props[i].wanted && dev->props[i].heard_ms != 0;
    if (!dev->opening && some) { /* the others have their reason each */
        uint64_t op = dev->op;
        dev->op = 0;
        (void)read_done(dev, op);
        return;
    }
    if (dev->opening)
        snprintf(text, sizeof text,
                 "the device did not say \"%.100s\" on topic %.300s within %u ms", dev->online,
                 dev->availability, dev->wait_ms);
    else
        snprintf(text, sizeof text,
                 "the device did not answer what was published on %.300s within %u ms",
                 dev->request_topic, dev->wait_ms);
    end_wait(dev, KE_ETIMEDOUT, text);
}

static void wait_for(struct jdev *dev, uint64_t op, bool opening)
{
    dev->op = op;
    dev->opening = opening;
    dev->wait_ms = dev->c->timeout_ms > 0 ? dev->c->timeout_ms / 10 * 9 + 1 : 4500;
    kei_timer_in(&dev->timer, dev->wait_ms);
}

/* ---- messages ---- */

static void take_value(struct jdev *dev, struct jprop *p, struct ke_str json)
{
    struct ke_device_value v = {.size = sizeof v};
    struct ke_error err = KE_ERROR_INIT;

    if (kei_json_to_value(&v, json, &p->text, &err) < 0) {
        kei_buf_clear(&p->text);
        dev->trouble = err;
        p->heard_ms = 0;
        return;
    }
    p->v = v;
    p->v.when_ms = ke_ctx_real_ms(dev->j->ctx);
    p->heard_ms = ke_ctx_mono_ms(dev->j->ctx);
}

/* A payload that is no JSON, for a property that is all of it: its text. */
static void take_text(struct jdev *dev, struct jprop *p, struct ke_str payload)
{
    kei_buf_clear(&p->text);
    kei_buf_addv(&p->text, payload);
    if (!kei_buf_ok(&p->text)) {
        kei_buf_clear(&p->text);
        p->heard_ms = 0;
        return;
    }
    p->v = (struct ke_device_value){.kind = KE_DEVICE_KIND_TEXT};
    p->v.when_ms = ke_ctx_real_ms(dev->j->ctx);
    p->heard_ms = ke_ctx_mono_ms(dev->j->ctx);
}

static void tell(struct jdev *dev, const bool *told)
{
    struct kei_arena a;
    uint32_t n = 0;
    bool waits = false;

    kei_arena_init(&a, dev->j->alloc, 0);
    struct ke_device_value *v = kei_arena_array(&a, dev->n + 1u, sizeof *v);
    for (uint32_t i = 0; v && i < dev->n; i++) {
        waits |= dev->props[i].wanted && dev->props[i].heard_ms == 0;
        if (told[i])
            current(dev, i, &v[n++], &a);
    }
    if (n > 0) {
        int r = ke_device_report(dev->j->d, dev->c->device, v, n);
        (void)r; /* not open yet: it is read then */
    }
    kei_arena_free(&a);
    if (v && dev->op && !dev->opening && !waits) { /* all that was asked for is there */
        uint64_t op = dev->op;
        dev->op = 0;
        kei_timer_stop(&dev->timer);
        (void)read_done(dev, op);
    }
}

static void on_payload(struct tap *t, struct ke_str topic, struct ke_str payload)
{
    struct jdev *dev = t->dev;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str doc, value;
    struct kei_arena a;
    bool any = false;

    kei_arena_init(&a, dev->j->alloc, 0);
    bool *told = kei_arena_array(&a, dev->n + 1u, sizeof *told);
    bool json =
        kei_json_check(payload, 0, &err) == 0 && kei_json_value(payload, 0, &doc, NULL) == 0;
    for (uint32_t i = 0; told && i < dev->n; i++) {
        struct jprop *p = &dev->props[i];
        if (p->tap != t)
            continue;
        if (json && kei_json_path_find(doc, p->path, &value))
            take_value(dev, p, value);
        else if (!json && strcmp(p->path, "$") == 0)
            take_text(dev, p, payload);
        else
            continue;
        told[i] = p->heard_ms != 0;
        any |= told[i];
    }
    if (!json && !any)
        kei_error(&dev->trouble, KE_EPARSE, "what came on topic %.*s is no JSON: %s",
                  KEI_FMT(topic), err.text);
    else if (any)
        dev->trouble.code = 0;
    if (any)
        tell(dev, told);
    kei_arena_free(&a);
}

static void on_availability(struct jdev *dev, struct ke_str payload)
{
    char text[TEXT_MAX + 60];

    if (kei_str_is(payload, dev->online) && dev->op && dev->opening) {
        end_wait(dev, 0, NULL);
    } else if (kei_str_is(payload, dev->offline)) {
        snprintf(text, sizeof text, "the device says \"%.100s\" on topic %.300s", dev->offline,
                 dev->availability);
        if (dev->op) {
            end_wait(dev, KE_ECONN, text);
        } else {
            int r = ke_device_lost(dev->j->d, dev->c->device, KE_ECONN, text);
            (void)r; /* not open: nothing is lost */
        }
    }
}

static void on_message(void *user, struct ke_msg *m)
{
    struct kei_json_driver *j = user;
    struct ke_str topic = kei_str(ke_msg_resource(m)), content;
    struct ke_buf payload;

    content.p = ke_msg_content(m, &content.n);
    kei_buf_init(&payload, j->alloc);
    if (strcmp(ke_msg_operation(m), "publish") == 0 && kei_json_str(content, &payload, NULL) == 0 &&
        kei_buf_ok(&payload)) {
        KEI_LIST_EACH(l, &j->feeds)
        {
            struct feed *f = KEI_OF(l, struct feed, link);
            if (!kei_json_topic_match(f->filter, topic))
                continue;
            /* what is told here comes back to the driver in another turn: taps stay */
            KEI_LIST_EACH(k, &f->taps)
            {
                struct tap *t = KEI_OF(k, struct tap, link);
                if (t->availability)
                    on_availability(t->dev, kei_str_trim(kei_buf_str(&payload)));
                else
                    on_payload(t, topic, kei_buf_str(&payload));
            }
        }
    }
    ke_buf_free(&payload);
}

/* Nobody knows whose messages they were: told of all devices, the newest values may be missing. */
static void tell_dropped(struct kei_timer *t)
{
    struct kei_json_driver *j = KEI_OF(t, struct kei_json_driver, tell);
    char text[160];

    snprintf(text, sizeof text,
             "%llu messages of MQTT devices were dropped so far: they came faster than they were "
             "taken",
             (unsigned long long)j->dropped);
    KEI_LIST_EACH(l, &j->feeds)
    {
        KEI_LIST_EACH(k, &KEI_OF(l, struct feed, link)->taps)
        {
            kei_device_note(j->d, KEI_OF(k, struct tap, link)->dev->c->device, text);
        }
    }
}

static void on_overflow(void *user, uint64_t refused)
{
    struct kei_json_driver *j = user;

    j->dropped += refused;
    if (!kei_timer_armed(&j->tell))
        (void)kei_timer_in(&j->tell, TELL_MS);
}

/* ---- the table ---- */

static void free_dev(struct jdev *dev)
{
    if (!dev)
        return;
    struct kei_json_driver *j = dev->j;
    kei_timer_fini(&dev->timer);
    for (uint32_t i = 0; i < dev->n_taps; i++) {
        kei_list_remove(&dev->taps[i].link);
        feed_put(j, dev->taps[i].feed);
    }
    for (uint32_t i = 0; dev->props && i < dev->n; i++)
        ke_buf_free(&dev->props[i].text);
    kei_arena_free(&dev->arena);
    kei_free(j->alloc, dev);
}

static int json_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    struct kei_json_driver *j = user;
    struct ke_error err = KE_ERROR_INIT;
    struct jdev *dev = kei_zalloc(j->alloc, sizeof *dev);

    if (!dev)
        return kei_fail(j->ctx, KE_ENOMEM, "out of memory for device %s", c->name);
    dev->j = j;
    dev->c = c;
    dev->n = c->n_properties;
    dev->trouble.size = sizeof dev->trouble;
    kei_arena_init(&dev->arena, j->alloc, ARENA_MAX);
    kei_timer_init(j->ctx, &dev->timer, on_timer);
    *ret_dev = dev;
    int r = begin(dev, &err);
    for (uint32_t i = 0; dev->props && i < dev->n; i++)
        kei_buf_init(&dev->props[i].text, j->alloc);
    dev->is_open = r == 0;
    if (r == 0 && dev->availability) {
        wait_for(dev, op, true);
        return 0;
    }
    return finish(j, op, r, r < 0 ? err.text : NULL, NULL, 0);
}

static int json_close(void *user, void *p, uint64_t op)
{
    free_dev(p);
    return finish(user, op, 0, NULL, NULL, 0);
}

static int json_read(void *user, void *p, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct kei_json_driver *j = user;
    struct jdev *dev = p;
    struct ke_error err = KE_ERROR_INIT;

    if (!dev->is_open)
        return kei_fail(j->ctx, KE_ESTATE, "the device is not open");
    for (uint32_t i = 0; i < dev->n; i++)
        dev->props[i].wanted = false;
    for (uint32_t i = 0; i < n; i++) {
        if (properties[i] >= dev->n)
            return kei_fail(j->ctx, KE_EINVAL, "the device has no property %u", properties[i]);
        dev->props[properties[i]].wanted = true;
    }
    if (!dev->request_topic)
        return read_done(dev, op);
    int r = publish(dev, dev->request_topic, kei_str(dev->request_payload), &err);
    if (r < 0)
        return finish(j, op, KE_ECONN, err.text, NULL, 0);
    for (uint32_t i = 0; i < n; i++)
        dev->props[properties[i]].heard_ms = 0; /* what was heard before is no answer */
    wait_for(dev, op, false);
    return 0;
}

static int json_write(void *user, void *p, uint64_t op, const struct ke_device_value *v, uint32_t n)
{
    struct kei_json_driver *j = user;
    struct jdev *dev = p;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena a;
    uint32_t failed = 0;
    int r = 0;

    if (!dev->is_open)
        return kei_fail(j->ctx, KE_ESTATE, "the device is not open");
    kei_arena_init(&a, j->alloc, 0);
    struct ke_device_value *bad = kei_arena_array(&a, n + 1u, sizeof *bad);
    for (uint32_t i = 0; bad && i < n; i++) {
        const struct ke_device_value *one =
            (const struct ke_device_value *)((const char *)v + (size_t)i * v->size);
        struct ke_buf out;
        kei_buf_init(&out, j->alloc);
        const struct jprop *prop = one->property < dev->n ? &dev->props[one->property] : NULL;
        if (!prop || !prop->command_topic)
            r = kei_error(&err, KE_EACCES, "it has no \"commandTopic\" and cannot be written");
        else
            r = kei_json_command(&out, prop->command_template, prop->command_path, one, &err);
        if (r == 0)
            r = publish(dev, prop->command_topic, kei_buf_str(&out), &err);
        ke_buf_free(&out);
        if (r < 0)
            bad[failed++] = (struct ke_device_value){
                .size = sizeof *bad,
                .property = one->property,
                .status = r,
                .text = kei_arena_strdup(&a, kei_str(err.text)),
            };
    }
    r = bad ? finish(j, op, 0, NULL, bad, failed)
            : kei_fail(j->ctx, KE_ENOMEM, "out of memory for a write of %u values", n);
    kei_arena_free(&a);
    return r;
}

static int json_subscribe(void *user, void *p, uint64_t op, const uint32_t *properties, uint32_t n)
{
    const struct jdev *dev = p;

    (void)properties, (void)n;
    /* devices that answer are asked all the same */
    return finish(user, op, dev->request_topic ? KE_ENOTSUP : 0, NULL, NULL, 0);
}

/* ---- the driver ---- */

int kei_json_driver_new(struct kei_json_driver **ret, struct ke_ctx *ctx, struct ke_router *router)
{
    static const struct ke_module_ops ops = {
        .size = sizeof ops, .message = on_message, .overflow = on_overflow};
    const struct ke_alloc *a = kei_ctx_alloc(ctx);
    struct kei_json_driver *j = kei_zalloc(a, sizeof *j);

    if (!j)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the driver of MQTT devices");
    j->ctx = ctx;
    j->alloc = a;
    j->router = router;
    kei_list_init(&j->feeds);
    kei_timer_init(ctx, &j->tell, tell_dropped);
    int r = ke_router_add(&j->module, router, KEI_JSON_MODULE, NULL, &ops, j);
    if (r < 0) {
        kei_timer_fini(&j->tell);
        kei_free(a, j);
        return r;
    }
    *ret = j;
    return 0;
}

void kei_json_driver_free(struct kei_json_driver *j)
{
    if (!j)
        return;
    ke_module_remove(j->module);
    kei_timer_fini(&j->tell);
    kei_free(j->alloc, j);
}

static void json_attach(void *user, struct ke_devices *d)
{
    struct kei_json_driver *j = user;

    j->d = d;
}

static void json_detach(void *user)
{
    kei_json_driver_free(user);
}

const struct ke_device_ops kei_json_driver_ops = {
    .size = sizeof(struct ke_device_ops),
    .attach = json_attach,
    .detach = json_detach,
    .open = json_open,
    .close = json_close,
    .read = json_read,
    .write = json_write,
    .subscribe = json_subscribe,
};
