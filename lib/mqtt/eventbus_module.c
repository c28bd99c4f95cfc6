/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions of modules of this node, which get what comes as messages of the router. Owns them.
 * Loop thread. */
#include "base/error.h"
#include "base/json.h"
#include "mqtt/codec.h"
#include "mqtt/eventbus_priv.h"
#include "mqtt/mqtt.h"

#define SUBS_MAX 65536u

struct module_sub {
    struct kei_link link;
    struct kei_bus_modules *g;
    struct ke_eventbus_sub *sub;
    char *module, *filter;
};

void kei_bus_modules_init(struct kei_bus_modules *g, struct ke_ctx *ctx, struct ke_eventbus *bus,
                          struct ke_router *router)
{
    *g = (struct kei_bus_modules){.ctx = ctx, .bus = bus, .router = router};
    kei_list_init(&g->subs);
}

static void free_sub(struct module_sub *s)
{
    const struct ke_alloc *a = kei_ctx_alloc(s->g->ctx);

    kei_list_remove(&s->link);
    s->g->n--;
    ke_eventbus_unsubscribe(s->sub);
    kei_free(a, s->module);
    kei_free(a, s->filter);
    kei_free(a, s);
}

void kei_bus_modules_fini(struct kei_bus_modules *g)
{
    while (g->ctx && !kei_list_empty(&g->subs))
        free_sub(KEI_OF(g->subs.next, struct module_sub, link));
}

int kei_bus_message(struct ke_msg **ret, struct ke_ctx *ctx, const char *group,
                    const char *operation, struct ke_str topic, struct ke_str payload,
                    struct ke_error *err)
{
    struct ke_msg_config c;
    struct ke_buf text, resource;
    struct kei_jw w;

    kei_buf_init(&text, kei_ctx_alloc(ctx));
    kei_buf_init(&resource, kei_ctx_alloc(ctx));
    kei_buf_addv(&resource, topic);
    kei_jw_init(&w, &text);
    kei_jw_strv(&w, payload);
    ke_msg_config_init(&c, sizeof c);
    c.source = "bus";
    c.group = group;
    c.operation = operation;
    c.resource = resource.p;
    c.content = text.p;
    c.content_len = text.n;
    int r = kei_buf_ok(&text) && kei_buf_ok(&resource) ? ke_msg_new(ret, ctx, &c, err)
                                                       : kei_error(err, KE_ENOMEM, "out of memory");
    ke_buf_free(&text);
    ke_buf_free(&resource);
    return r;
}

/* A module whose queue is full loses the message and is told (its overflow): the next one of its
 * topic says what is newer. */
static void on_message(void *user, const struct ke_eventbus_message *m)
{
    struct module_sub *s = user;
    struct ke_msg *msg = NULL;
    int r = kei_bus_message(&msg, s->g->ctx, "device", "publish", kei_mqtt_view(m->topic),
                            kei_mqtt_view(m->payload), NULL);

    if (r == 0)
        r = ke_router_send(s->g->router, s->module, msg, NULL);
    s->g->dropped += r < 0;
    ke_msg_unref(msg);
}

static struct module_sub *find(struct kei_bus_modules *g, const char *module, const char *filter)
{
    KEI_LIST_EACH(l, &g->subs)
    {
        struct module_sub *s = KEI_OF(l, struct module_sub, link);
        if (strcmp(s->module, module) == 0 && strcmp(s->filter, filter) == 0)
            return s;
    }
    return NULL;
}

int kei_bus_modules_subscribe(struct kei_bus_modules *g, const char *module, const char *filter,
                              struct ke_error *err)
{
    const struct ke_alloc *a = kei_ctx_alloc(g->ctx);

    if (find(g, module, filter))
        return 0;
    if (g->n >= SUBS_MAX)
        return kei_error(err, KE_ELIMIT, "%u subscriptions of modules are the limit", SUBS_MAX);
    struct module_sub *s = kei_zalloc(a, sizeof *s);
    if (!s)
        return kei_error(err, KE_ENOMEM, "out of memory for subscription %s", filter);
    s->g = g;
    s->module = kei_strdup(a, module);
    s->filter = kei_strdup(a, filter);
    kei_list_add_tail(&g->subs, &s->link);
    g->n++;
    int r = s->module && s->filter
                ? ke_eventbus_subscribe(&s->sub, g->bus, filter, 1, on_message, s)
                : kei_fail(g->ctx, KE_ENOMEM, "out of memory for subscription %s", filter);
    if (r < 0) {
        kei_error(err, r, "%s", ke_ctx_error(g->ctx));
        free_sub(s);
    }
    return r;
}

void kei_bus_modules_unsubscribe(struct kei_bus_modules *g, const char *module, const char *filter)
{
    struct module_sub *s = find(g, module, filter);

    if (s)
        free_sub(s);
}
