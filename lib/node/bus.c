/* SPDX-License-Identifier: Apache-2.0 */
/* See bus.h. Owns the server and the bus; the bus goes first. */
#include "node/bus.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "mqtt/eventbus_priv.h"
#include "mqtt/mqtt.h"
#include "node/config.h"

#define DEFAULT_LISTEN "127.0.0.1:1884"
#define DEFAULT_QUEUE 1000u

struct kei_node_bus {
    struct ke_ctx *ctx;
    const struct ke_node_config *c;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_mqtt *server;
    struct ke_eventbus *bus;
    struct kei_timer begin; /* in the loop's own turn: only then the context's thread is settled */
    bool up;
    uint32_t dialect;
};

static int start_server(struct kei_node_bus *b, const struct ke_node_config *c)
{
    struct ke_mqtt_config mc;
    struct ke_mqtt_listener l;
    const char *at = c->mqtt_listen ? c->mqtt_listen : DEFAULT_LISTEN;
    char host[64], data[4096];
    uint16_t port = 0;
    if (!kei_node_mqtt_address(at, host, sizeof host, &port) ||
        !kei_path_join(data, sizeof data, c->data, "mqtt"))
        return kei_fail(b->ctx, KE_EINVAL,
                        "%s is not ADDRESS:PORT, or the path of the data is too long", at);
    ke_mqtt_config_init(&mc, sizeof mc);
    ke_mqtt_listener_init(&l, sizeof l);
    l.host = host;
    l.port = port;
    mc.listeners = &l;
    mc.n_listeners = 1;
    mc.data = data;
    mc.max_queued = c->mqtt_queue ? c->mqtt_queue : DEFAULT_QUEUE;
    int r = ke_mqtt_new(&b->server, b->ctx, &mc, NULL, NULL);
    return r < 0 ? r : ke_mqtt_start(b->server);
}

static int start_bus(struct kei_node_bus *b, const struct ke_node_config *c, uint32_t mode,
                     struct ke_router *router, struct ke_store *store)
{
    struct ke_eventbus_config bc;
    ke_eventbus_config_init(&bc, sizeof bc);
    bc.mode = mode;
    bc.flags = c->mqtt_flags;
    bc.server = b->server;
    bc.router = router;
    bc.store = store;
    bc.node_name = c->name;
    bc.qos = c->mqtt_qos;
    bc.retain = c->mqtt_retain;
    bc.url = c->mqtt_url;
    bc.client_id = c->mqtt_client_id;
    bc.user_name = c->mqtt_user;
    bc.password = c->mqtt_password;
    bc.ca_file = c->mqtt_ca_file;
    bc.cert_file = c->mqtt_cert_file;
    bc.key_file = c->mqtt_key_file;
    bc.module = c->mqtt_module;
    int r = ke_eventbus_new(&b->bus, b->ctx, &bc);
    return r < 0 ? r : ke_eventbus_start(b->bus);
}

/* The broker outside, when nobody named it, is a default that a node need not have. */
static void tell(const struct kei_node_bus *b, const char *what)
{
    kei_log(b->ctx, b->c->mqtt == KE_NODE_MQTT_INTERNAL || b->c->mqtt_url ? KE_LOG_ERROR : KE_LOG_WARN, "node", "%s: %s", what,
            ke_ctx_error(b->ctx));
}

static void on_begin(struct kei_timer *t)
{
    struct kei_node_bus *b = KEI_OF(t, struct kei_node_bus, begin);
    const struct ke_node_config *c = b->c;
    bool inside = c->mqtt & KE_NODE_MQTT_INTERNAL, outside = c->mqtt & KE_NODE_MQTT_EXTERNAL;
    if (inside && start_server(b, c) < 0) {
        kei_log(b->ctx, KE_LOG_ERROR, "node", "the MQTT server does not run: %s",
                ke_ctx_error(b->ctx));
        ke_mqtt_free(b->server);
        b->server = NULL;
        inside = false;
    }
    if (inside && outside && start_bus(b, c, KE_EVENTBUS_BOTH, b->router, b->store) == 0)
        return;
    if (inside && outside) { /* the devices at the server inside need not suffer */
        tell(b, "the broker outside is not used");
        ke_eventbus_free(b->bus);
        b->bus = NULL;
    }
    if (!inside && !outside)
        return;
    if (start_bus(b, c, inside ? KE_EVENTBUS_INTERNAL : KE_EVENTBUS_EXTERNAL, b->router, b->store) <
        0)
        tell(b, "the event bus does not run");
    else if (b->up)
        kei_node_bus_connection(b, true, b->dialect);
}

int kei_node_bus_new(struct kei_node_bus **ret, struct ke_ctx *ctx, const struct ke_node_config *c,
                     struct ke_router *router, struct ke_store *store)
{
    *ret = NULL;
    if (c->mqtt == KE_NODE_MQTT_NONE)
        return 0;
    struct kei_node_bus *b = kei_zalloc(kei_ctx_alloc(ctx), sizeof *b);
    if (!b)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the event bus");
    b->ctx = ctx;
    b->c = c;
    b->router = router;
    b->store = store;
    kei_timer_init(ctx, &b->begin, on_begin);
    kei_timer_in(&b->begin, 0);
    *ret = b;
    return 0;
}

void kei_node_bus_free(struct kei_node_bus *b)
{
    if (!b)
        return;
    kei_timer_fini(&b->begin);
    ke_eventbus_free(b->bus);
    ke_mqtt_free(b->server);
    kei_free(kei_ctx_alloc(b->ctx), b);
}

void kei_node_bus_connection(struct kei_node_bus *b, bool up, uint32_t dialect)
{
    if (!b)
        return;
    b->up = up;
    b->dialect = dialect;
    if (b->bus)
        kei_eventbus_connection(b->bus, up, dialect == KE_DIALECT_1_4);
}
