/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said when a batch is durable: messages to the event bus and to the drivers, answers, the
 * host's callbacks and observers. Messages are made at once, so that memory that runs out takes the
 * batch back instead of losing a word. Loop thread.
 */
#include "twin/twin_priv.h"

#define DEVICE "$hw/events/device/"
#define NODE "$hw/events/node/"

void kei_effect_free(struct ke_twin *t, struct kei_effect *e)
{
    ke_msg_unref(e->m);
    kei_free(t->alloc, e->text);
    kei_twin_unref(t->alloc, e->twin);
    if (e->dev)
        kei_tdev_unref(t, e->dev);
    kei_free(t->alloc, e);
}

static struct kei_effect *effect(struct ke_twin *t, enum kei_effect_kind kind)
{
    struct kei_effect *e = kei_zalloc(t->alloc, sizeof *e);

    if (!e)
        return NULL;
    e->kind = kind;
    kei_list_add_tail(&t->effects, &e->link);
    return e;
}

static int say(struct ke_twin *t, enum kei_effect_kind kind, const char *to, const char *operation,
               struct ke_str resource, struct ke_str content, const char *parent)
{
    struct ke_msg_config c;
    struct kei_effect *e;
    struct ke_msg *m = NULL;
    int r;

    ke_msg_config_init(&c, sizeof c);
    c.parent_id = parent;
    c.source = "twin";
    c.group = to ? to : "twin";
    c.operation = operation;
    c.resource = resource.p; /* NUL-terminated, all of them */
    c.content = content.p;
    c.content_len = content.n;
    r = ke_msg_new(&m, t->ctx, &c, kei_err(t->ctx));
    if (r < 0)
        return r;
    e = effect(t, kind);
    if (!e) {
        ke_msg_unref(m);
        return KE_ENOMEM;
    }
    e->to = to;
    e->m = m;
    return 0;
}

static int publish(struct ke_twin *t, struct ke_buf *topic, struct ke_str payload)
{
    struct ke_buf text;
    struct kei_jw w;
    int r = KE_ENOMEM;

    kei_buf_init(&text, t->alloc);
    kei_jw_init(&w, &text);
    kei_jw_strv(&w, payload);
    if (kei_buf_ok(&text) && kei_buf_ok(topic))
        r = say(t, TELL_MODULE, "eventbus", "publish", kei_buf_str(topic), kei_buf_str(&text),
                NULL);
    ke_buf_free(&text);
    return r;
}

static int publish_at(struct ke_twin *t, const char *prefix, struct ke_str id, const char *suffix,
                      struct ke_buf *payload)
{
    struct ke_buf topic;
    int r;

    kei_buf_init(&topic, t->alloc);
    kei_buf_adds(&topic, prefix);
    kei_buf_addv(&topic, id);
    kei_buf_adds(&topic, suffix);
    r = kei_buf_ok(payload) ? publish(t, &topic, kei_buf_str(payload)) : KE_ENOMEM;
    ke_buf_free(&topic);
    return r;
}

int kei_say_device(struct ke_twin *t, struct ke_str id, const char *suffix, struct ke_buf *payload)
{
    int r = publish_at(t, DEVICE, id, suffix, payload);

    ke_buf_free(payload);
    return r;
}

int kei_say_node(struct ke_twin *t, const char *suffix, struct ke_buf *payload)
{
    int r = publish_at(t, NODE, kei_str(t->node_name), suffix, payload);

    ke_buf_free(payload);
    return r;
}

int kei_say_about(struct ke_twin *t, const struct kei_tdev *dev, const char *suffix,
                  struct ke_buf *payload)
{
    uint32_t dialect = kei_twin_dialect(t);
    struct ke_buf id;
    int r;

    kei_buf_init(&id, t->alloc);
    kei_twin_id_write(&id, &dev->d, dialect);
    r = kei_buf_ok(&id) ? publish_at(t, DEVICE, kei_buf_str(&id), suffix, payload) : KE_ENOMEM;
    if (r == 0 && kei_twin_long_ids(dialect) && (t->c.flags & KE_TWIN_OLD_TOPICS))
        r = publish_at(t, DEVICE, kei_str(dev->d.name), suffix, payload);
    ke_buf_free(&id);
    ke_buf_free(payload);
    return r;
}

/* To the drivers of this node. */
static int say_drivers(struct ke_twin *t, const struct kei_tdev *dev, const char *suffix,
                       struct ke_str payload)
{
    struct ke_buf res;
    int r = KE_ENOMEM;

    kei_buf_init(&res, t->alloc);
    kei_buf_adds(&res, "device/");
    kei_twin_id_write(&res, &dev->d, kei_twin_dialect(t));
    kei_buf_adds(&res, suffix);
    if (kei_buf_ok(&res))
        r = say(t, TELL_GROUP, "device", "update", kei_buf_str(&res), payload, NULL);
    ke_buf_free(&res);
    return r;
}

int kei_say_delta(struct ke_twin *t, const struct kei_tdev *dev, struct ke_str payload)
{
    return say_drivers(t, dev, "/twin/delta", payload);
}

int kei_say_member(struct ke_twin *t, const struct kei_tdev *dev, bool removed)
{
    return say_drivers(t, dev, removed ? "/membership/removed" : "/membership/added",
                       KEI_STR("{}"));
}

/* The host's call ended. */
static int say_done(struct ke_twin *t, struct kei_input *in, int status, struct ke_str text)
{
    struct kei_effect *e = effect(t, TELL_DONE);

    if (!e)
        return KE_ENOMEM;
    e->done = in->done;
    e->user = in->user;
    e->status = status;
    e->text = kei_strndup(t->alloc, status < 0 ? text.p : "", status < 0 ? text.n : 0);
    return e->text ? 0 : KE_ENOMEM;
}

int kei_say_answer(struct ke_twin *t, struct kei_input *in, int status, struct ke_str content)
{
    struct ke_buf text;
    struct kei_jw w;
    int r = KE_ENOMEM;

    if (in->done)
        return say_done(t, in, status, content);
    if (!in->answered || !in->m)
        return 0;
    if (status == 0)
        return say(t, TELL_REPLY, NULL, "response", kei_str(ke_msg_resource(in->m)), content,
                   ke_msg_id(in->m));
    kei_buf_init(&text, t->alloc);
    kei_jw_init(&w, &text);
    kei_jw_strv(&w, content);
    if (kei_buf_ok(&text))
        r = say(t, TELL_REPLY, NULL, "error", kei_str(ke_msg_resource(in->m)), kei_buf_str(&text),
                ke_msg_id(in->m));
    ke_buf_free(&text);
    return r;
}

int kei_say_observers(struct ke_twin *t, struct kei_tdev *dev, uint32_t what,
                      const struct kei_twin *twin)
{
    struct kei_effect *e;

    if (kei_list_empty(&t->subs))
        return 0;
    e = effect(t, TELL_OBSERVERS);
    if (!e)
        return KE_ENOMEM;
    dev->refs++;
    e->dev = dev;
    e->what = what;
    e->twin = twin ? kei_twin_ref(twin) : NULL;
    return 0;
}

int kei_say_now(struct ke_twin *t, struct kei_effect *e)
{
    struct ke_error err = KE_ERROR_INIT;
    int r = 0;

    switch (e->kind) {
    case TELL_MODULE:
        r = ke_router_send(t->c.router, e->to, e->m, &err);
        break;
    case TELL_GROUP:
        r = ke_router_send_group(t->c.router, e->to, e->m, &err);
        break;
    case TELL_REPLY:
        r = ke_router_respond(t->c.router, e->m, &err);
        break;
    case TELL_DONE:
        e->done(e->user, e->status, e->text);
        break;
    default:
        kei_twin_notify(t, e);
        break;
    }
    if (r < 0 && r != KE_ELIMIT && r != KE_ENOMEM && r != KE_ENOTFOUND)
        kei_log(t->ctx, KE_LOG_WARN, "twin", "%s was not told of %s: %s",
                e->to ? e->to : "who asked", ke_msg_resource(e->m), err.text);
    return r == KE_ELIMIT || r == KE_ENOMEM ? r : 0;
}
