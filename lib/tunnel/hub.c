/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Module `websocket`: between the router and the tunnel. Owns its module only. Loop thread.
 *
 * Up: reports that must arrive go into the outbox, all else goes now or is answered "not connected"
 * at once. Down: a reply goes to whoever waits for it, else to the metamanager; the rest by group.
 */
#include "tunnel/hub.h"

#include <stdio.h>

#include "base/json.h"
#include "base/log.h"
#include "message/msg_priv.h"
#include "tunnel/tunnel_priv.h"

#define OBJECTS "metamanager"

struct kei_hub {
    struct ke_ctx *ctx;
    struct ke_router *router;
    struct ke_tunnel *tunnel;
    struct ke_module *module;
    bool connected; /* as it was told last */
};

/* ---- up ---- */

/* How a message of a module travels. */
struct manner {
    const char *operation;
    const char *type; /* NULL: any */
    uint32_t how;
    const char *key_suffix;
};

static const struct manner manners[] = {
    {"update", "podstatus", KE_SEND_STATE, NULL},
    {"delete", "pod", KE_SEND_STATE, "/delete"},
    {"upload", NULL, KE_SEND_EVENT, NULL},
};

static const struct manner *manner_of(const struct ke_msg *m)
{
    const char *op = ke_msg_operation(m);
    struct kei_resource res = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    /* the device twin's begin with "device/NAME": NAME is not a type */
    bool whole = kei_resource_parse(&res, kei_str(ke_msg_resource(m))) && res.name.n > 0 &&
                 strcmp(ke_msg_source(m), "twin") != 0;

    for (size_t i = 0; i < sizeof manners / sizeof manners[0]; i++) {
        const struct manner *x = &manners[i];

        if (strcmp(op, x->operation) != 0)
            continue;
        if (!x->type || (whole && kei_str_is(res.type, x->type)))
            return x;
    }
    return NULL;
}

/* Whoever waits for an answer to m gets it now; nobody may. */
static void answer_error(struct kei_hub *h, struct ke_msg *m, const char *text)
{
    struct ke_buf content;
    struct kei_jw w;
    struct ke_msg *reply = NULL;
    struct ke_msg_config c;
    struct ke_error err = KE_ERROR_INIT;

    kei_buf_init(&content, kei_ctx_alloc(h->ctx));
    kei_jw_init(&w, &content);
    kei_jw_str(&w, text);
    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(m);
    c.source = "websocket";
    c.group = ke_msg_group(m);
    c.operation = "error";
    c.resource = ke_msg_resource(m);
    c.content = content.p;
    c.content_len = content.n;
    if (kei_buf_ok(&content) && ke_msg_new(&reply, h->ctx, &c, &err) == 0 &&
        ke_router_respond(h->router, reply, &err) == KE_ENOTFOUND)
        err.code = 0; /* a message that nobody waits for */
    ke_msg_unref(reply);
    ke_buf_free(&content);
}

static int keep(struct kei_hub *h, struct ke_msg *m, const struct manner *how)
{
    struct ke_buf key;
    int r;

    kei_buf_init(&key, kei_ctx_alloc(h->ctx));
    kei_buf_adds(&key, ke_msg_resource(m));
    if (how->key_suffix)
        kei_buf_adds(&key, how->key_suffix);
    if (kei_buf_ok(&key))
        r = ke_tunnel_send(h->tunnel, m, how->how, key.p, NULL, NULL);
    else
        r = kei_fail(h->ctx, KE_ENOMEM, "out of memory for message %s", ke_msg_resource(m));
    ke_buf_free(&key);
    return r;
}

static void on_up(void *user, struct ke_msg *m)
{
    struct kei_hub *h = user;
    const struct manner *how = manner_of(m);
    int r;

    /* Known as acknowledged even without a link: the cloud's next copy is answered then. */
    if (strcmp(ke_msg_operation(m), "response") == 0)
        kei_wire_acked(h->tunnel, ke_msg_parent_id(m));
    r = how ? keep(h, m, how) : kei_wire_send(h->tunnel, m, NULL);
    if (r == 0)
        return;
    if (how || (r != KE_ECLOSED && r != KE_ENOTSUP))
        kei_log(h->ctx, KE_LOG_WARN, "tunnel", "%s %s was not sent: %s", ke_msg_operation(m),
                ke_msg_resource(m), ke_ctx_error(h->ctx));
    answer_error(h, m, ke_ctx_error(h->ctx));
}

/* ---- down ---- */

static int route(struct kei_hub *h, struct ke_msg *m, struct ke_error *err)
{
    int r;

    if (*ke_msg_parent_id(m)) {
        r = ke_router_respond(h->router, m, err);
        if (r != KE_ENOTFOUND)
            return r;
        return ke_router_send(h->router, OBJECTS, m, err);
    }
    if (strcmp(ke_msg_group(m), "resource") == 0)
        return ke_router_send(h->router, OBJECTS, m, err);
    return ke_router_send_group(h->router, ke_msg_group(m), m, err);
}

static void on_down(void *user, struct ke_msg *m)
{
    struct kei_hub *h = user;
    struct ke_error err = KE_ERROR_INIT;
    int r = route(h, m, &err);

    if (r == 0)
        return;
    kei_wire_refused(h->tunnel, m);
    kei_log(h->ctx, r == KE_ENOTFOUND ? KE_LOG_DEBUG : KE_LOG_WARN, "tunnel",
            "message %s of the cloud (%s %s, group %s) was not taken: %s", ke_msg_id(m),
            ke_msg_operation(m), ke_msg_resource(m), ke_msg_group(m), err.text);
}

/* ---- the link ---- */

/* Before the link itself: the twin looks at it when that comes. */
static void tell_merge(struct kei_hub *h)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_error err = KE_ERROR_INIT;
    char content[40];
    int64_t now;
    int r;

    if (!kei_tunnel_merges(h->tunnel, &now))
        return;
    snprintf(content, sizeof content, "{\"now\":%lld}", (long long)now);
    ke_msg_config_init(&c, sizeof c);
    c.source = "edgehub";
    c.group = "twin";
    c.operation = "connect";
    c.resource = "node/merge";
    c.content = content;
    c.content_len = strlen(content);
    r = ke_msg_new(&m, h->ctx, &c, &err);
    if (r == 0)
        r = ke_router_send_group(h->router, "twin", m, &err);
    if (r < 0 && r != KE_ENOTFOUND)
        kei_log(h->ctx, KE_LOG_WARN, "tunnel", "group twin was not told that the cloud merges: %s",
                err.text);
    ke_msg_unref(m);
}

static void tell_link(struct kei_hub *h, bool up)
{
    static const char *const groups[] = {"meta", "edged", "twin", "device"};
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_error err = KE_ERROR_INIT;
    int r;

    ke_msg_config_init(&c, sizeof c);
    c.source = "edgehub";
    c.operation = "connect";
    c.resource = "node/connection";
    c.content = up ? "\"cloud_connected\"" : "\"cloud_disconnected\"";
    c.content_len = strlen(c.content);
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        c.group = groups[i];
        r = ke_msg_new(&m, h->ctx, &c, &err);
        if (r == 0)
            r = ke_router_send_group(h->router, groups[i], m, &err);
        if (r < 0 && r != KE_ENOTFOUND)
            kei_log(h->ctx, KE_LOG_WARN, "tunnel", "group %s was not told of the link: %s",
                    groups[i], err.text);
        ke_msg_unref(m);
        m = NULL;
    }
}

static void on_state(void *user, const struct ke_tunnel_status *st)
{
    struct kei_hub *h = user;
    bool up = st->state == KE_TUNNEL_CONNECTED;

    if (up == h->connected)
        return;
    h->connected = up;
    if (up)
        tell_merge(h);
    tell_link(h, up);
}

int kei_hub_new(struct kei_hub **ret, struct ke_ctx *ctx, struct ke_router *router,
                struct ke_tunnel *tunnel)
{
    static const struct ke_module_ops module_ops = {.size = sizeof module_ops, .message = on_up};
    static const struct ke_tunnel_ops tunnel_ops = {
        .size = sizeof tunnel_ops, .message = on_down, .state = on_state};
    struct kei_hub *h = kei_zalloc(kei_ctx_alloc(ctx), sizeof *h);
    int r;

    if (!h)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the hub");
    h->ctx = ctx;
    h->router = router;
    h->tunnel = tunnel;
    h->connected = kei_tunnel_connected(tunnel);
    r = ke_router_add(&h->module, router, "websocket", "hub", &module_ops, h);
    if (r < 0) {
        kei_free(kei_ctx_alloc(ctx), h);
        return r;
    }
    kei_tunnel_attach(tunnel, &tunnel_ops, h);
    *ret = h;
    return 0;
}

void kei_hub_free(struct kei_hub *h)
{
    if (!h)
        return;
    kei_tunnel_attach(h->tunnel, NULL, NULL);
    ke_module_remove(h->module);
    kei_free(kei_ctx_alloc(h->ctx), h);
}
