/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the event bus: routes (pure), the broker outside, the node's hooks. Loop thread. */
#ifndef KEI_MQTT_EVENTBUS_PRIV_H
#define KEI_MQTT_EVENTBUS_PRIV_H

#include <kubeedge/eventbus.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/str.h"
#include "mqtt/paho.h"

/* ---- eventbus_route.c: pure ---- */
#define KEI_ROUTE_TWIN 0 /* to the group "twin" */
#define KEI_ROUTE_CLOUD 1
int kei_eventbus_route(struct ke_str topic);
/* What the bus itself subscribes; NULL at the end. Both forms of device topics: since KubeEdge 1.16
 * a device's namespace is a level of its own. */
const char *kei_eventbus_filter(uint32_t i);

/* A message of the router for MQTT. */
struct kei_eventbus_order {
    enum { KEI_ORDER_NONE, KEI_ORDER_PUBLISH, KEI_ORDER_SUBSCRIBE, KEI_ORDER_UNSUBSCRIBE } what;
    char *topic; /* in the arena, NUL-terminated */
    struct ke_str payload;
};
/* KE_EINVAL with text when it is malformed; KEI_ORDER_NONE when it is not for MQTT. */
int kei_eventbus_order_read(struct kei_eventbus_order *ret, const struct ke_msg *m,
                            const char *node_name, struct kei_arena *a, struct ke_error *err);

/* ---- eventbus_external.c: the connection to the broker outside ---- */
struct kei_external;
struct kei_external_config {
    struct kei_paho_config paho; /* borrowed */
    int64_t retry_min_ms, retry_max_ms;
    uint32_t max_messages;
    uint64_t max_bytes;
    /* connected (subscribe now), or not: text says why */
    void (*state)(void *user, bool up, const char *text);
    void (*message)(void *user, const struct ke_eventbus_message *m);
    void *user;
};
int kei_external_new(struct kei_external **ret, struct ke_ctx *ctx,
                     const struct kei_paho_module *module, const struct kei_external_config *c);
void kei_external_free(struct kei_external *x); /* NULL is fine */
void kei_external_start(struct kei_external *x);
/* Kept until the broker has it. KE_ELIMIT, KE_ENOMEM */
int kei_external_publish(struct kei_external *x, struct ke_str topic, struct ke_str payload,
                         uint32_t qos, uint32_t retain);
void kei_external_subscribe(struct kei_external *x, const char *filter, uint32_t qos);
void kei_external_unsubscribe(struct kei_external *x, const char *filter);
uint64_t kei_external_waiting(const struct kei_external *x);

/* Loads the shared object; path NULL: the installed one. KE_ENOTSUP says what was tried. */
int kei_paho_load(const struct kei_paho_module **ret, struct ke_ctx *ctx, const char *path);

/* ---- eventbus_module.c: what modules of this node subscribe ---- */
/*
 * A module of group "device" sends operation subscribe, resource the filter, source its own name;
 * each message is then sent to it: source bus, group device, operation publish, resource the topic,
 * content the payload as a JSON string. unsubscribe ends it. Neither is kept over a restart, and
 * nothing of it goes to the cloud.
 */
struct kei_bus_modules {
    struct ke_ctx *ctx;
    struct ke_eventbus *bus;
    struct ke_router *router;
    struct kei_link subs;
    uint32_t n;
    uint64_t dropped; /* messages that a module's queue did not take */
};
void kei_bus_modules_init(struct kei_bus_modules *g, struct ke_ctx *ctx, struct ke_eventbus *bus,
                          struct ke_router *router);
void kei_bus_modules_fini(struct kei_bus_modules *g);
/* KE_EEXIST is none: a second subscription to the same is the first one. KE_ELIMIT, KE_ENOMEM */
int kei_bus_modules_subscribe(struct kei_bus_modules *g, const char *module, const char *filter,
                              struct ke_error *err);
void kei_bus_modules_unsubscribe(struct kei_bus_modules *g, const char *module, const char *filter);
/* The message of the router for a message of MQTT; operation is "upload" or "publish". */
int kei_bus_message(struct ke_msg **ret, struct ke_ctx *ctx, const char *group,
                    const char *operation, struct ke_str topic, struct ke_str payload,
                    struct ke_error *err);

/* ---- eventbus_push.c: what modules push to a server named by its address ---- */
/*
 * A module of group "device" requests operation push, resource the topic, content {"address"
 * ("tcp://HOST:PORT"; "": the node's own), "qos", "retain", "payload"}. Answered by `response` when
 * the server has it (QoS 0: when it is connected), else by `error` and a text. Not kept.
 */
struct kei_push_order {
    struct ke_str topic, payload;
    uint8_t qos, retain;
    uint16_t port;
    char host[256]; /* "": the node's own */
};
struct kei_bus_push_config {
    struct ke_router *router;
    struct ke_mqtt *server; /* NULL: none inside */
    /* to the server inside, or what the node has; 0 or KE_E* with the context's text */
    int (*own)(void *user, const struct kei_push_order *o);
    void *user;
};
struct kei_bus_push;
int kei_bus_push_new(struct kei_bus_push **ret, struct ke_ctx *ctx,
                     const struct kei_bus_push_config *c);
void kei_bus_push_free(struct kei_bus_push *g); /* NULL is fine */
void kei_bus_push(struct kei_bus_push *g, struct ke_msg *m);

/* ---- for the node ---- */
/* The link to the cloud came or went; told on MQTT if publish is set, as KubeEdge 1.4 does. */
void kei_eventbus_connection(struct ke_eventbus *b, bool up, bool publish);
/* For tests: the module to use instead of paho. Before start. */
int kei_eventbus_new_with(struct ke_eventbus **ret, struct ke_ctx *ctx,
                          const struct ke_eventbus_config *c, const struct kei_paho_module *module);

#endif
