/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event bus: joins MQTT and the node. What devices and applications publish on KubeEdge's
 * topics goes to the router (device twin, cloud); what the cloud and modules publish goes out on
 * MQTT. Three modes, as KubeEdge's mqttMode: with a server inside (ke_mqtt), with a broker that is
 * there already, or with both.
 *
 * The broker is reached through paho-mqtt-c, a module that is loaded when mode is not
 * KE_EVENTBUS_INTERNAL and only then. It runs threads of its own and, in the whole process, ignores
 * SIGPIPE from then on. Its connection is made again after 1 to 60 s whenever it is lost, and what
 * is subscribed is subscribed again; meanwhile publications wait, up to max_messages and max_bytes.
 *
 * Topics: $hw/events/device/... and $hw/events/node/... go to the router's group "twin";
 * $hw/events/upload/#, SYS/dis/upload_records, +/user/# and what the cloud subscribed for a rule go
 * to the cloud, in order and kept until confirmed. Calls are loop, but where marked.
 */
#ifndef KUBEEDGE_EVENTBUS_H
#define KUBEEDGE_EVENTBUS_H

#include <kubeedge/mqtt.h>
#include <kubeedge/router.h>
#include <kubeedge/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_eventbus;
struct ke_eventbus_sub;

#define KE_EVENTBUS_INTERNAL 0u
#define KE_EVENTBUS_BOTH 1u
#define KE_EVENTBUS_EXTERNAL 2u

#define KE_EVENTBUS_TLS 1u           /* flags: verify with ca_file, show cert_file if given */
#define KE_EVENTBUS_TLS_NO_VERIFY 2u /* ssl:// without verification: only for a test bench */
#define KE_EVENTBUS_KEEP_SESSION 4u  /* the broker keeps our session while we are away */
#define KE_EVENTBUS_CONNECTION 8u    /* publish node/connection as KubeEdge 1.4 does */

struct ke_eventbus_config {
    size_t size;
    uint32_t mode;
    uint32_t flags;
    struct ke_mqtt *server;   /* required but for KE_EVENTBUS_EXTERNAL; outlives the bus */
    struct ke_router *router; /* NULL: only for the firmware's own messages; outlives the bus */
    struct ke_store
        *store; /* for the cloud's subscriptions, NULL: they are forgotten; outlives it */
    const char *node_name; /* required */
    /* publications on the server inside */
    uint32_t qos;    /* default 0 */
    uint32_t retain; /* default 0 */
    /* the broker outside; publications go with QoS 1, not retained */
    const char *url; /* tcp://HOST:PORT, ssl://, ws://, wss://; default tcp://127.0.0.1:1883 */
    const char *client_id; /* default "hub-client-" and the node's name */
    const char *user_name;
    const char *password;
    const char *ca_file;
    const char *cert_file;
    const char *key_file;
    uint32_t keepalive;                  /* seconds; default 60 */
    uint32_t retry_min_ms, retry_max_ms; /* 1,000 and 60,000 */
    uint32_t max_messages; /* waiting for the broker, and for the router; default 1,000 each */
    uint64_t max_bytes;    /* default 16 MiB each */
    /* last will at the broker outside; topic NULL: none */
    const char *will_topic;
    const char *will_payload;
    uint32_t will_qos;
    uint32_t will_retain;
    const char *module; /* path of libkubeedge-paho.so; default: the installed one */
};

#define KE_EVENTBUS_STOPPED 0u
#define KE_EVENTBUS_WAITING 1u   /* the broker outside is not connected */
#define KE_EVENTBUS_CONNECTED 2u /* all that the mode asks for stands */

struct ke_eventbus_status {
    size_t size;
    uint32_t state;
    int32_t last_error;
    uint64_t to_cloud, to_twin; /* messages given to the router */
    uint64_t published;         /* publications taken */
    uint64_t refused;           /* over a limit, in either direction, or for a module not there */
    uint64_t waiting;           /* publications that wait for the broker, now */
    uint64_t connects;
    char error_text[KE_ERROR_TEXT_MAX];
};

/* A message for the firmware. Borrowed. */
struct ke_eventbus_message {
    size_t size;
    struct ke_mqtt_str topic, payload;
    uint32_t qos, retain;
    uint32_t external; /* 1: from the broker outside */
    uint32_t reserved;
};
typedef void (*ke_eventbus_fn)(void *user, const struct ke_eventbus_message *m);

KE_API void ke_eventbus_config_init(struct ke_eventbus_config *c, size_t size);
/*
 * Copies what it keeps. KE_EINVAL names the member, KE_ENOTSUP when paho's module is needed and
 * cannot be loaded (the text says why), KE_EABI, KE_ENOMEM, KE_EEXIST (the router has an event
 * bus).
 */
KE_API KE_NODISCARD int ke_eventbus_new(struct ke_eventbus **ret, struct ke_ctx *ctx,
                                        const struct ke_eventbus_config *c);
/* Subscribes, connects. The server inside is started by its owner, before or after. */
KE_API KE_NODISCARD int ke_eventbus_start(struct ke_eventbus *b);
/* Ends the connection to the broker; may wait for a name to be looked up. NULL is fine. */
KE_API void ke_eventbus_free(struct ke_eventbus *b);

/*
 * The firmware's own messages, wherever the devices are. KE_EINVAL (topic), KE_ELIMIT (the buffer
 * for the broker outside is full; the server inside has it nevertheless), KE_ENOMEM.
 */
KE_API KE_NODISCARD int ke_eventbus_publish(struct ke_eventbus *b, const char *topic,
                                            const void *payload, size_t n, uint32_t qos,
                                            uint32_t retain);
KE_API KE_NODISCARD int ke_eventbus_subscribe(struct ke_eventbus_sub **ret, struct ke_eventbus *b,
                                              const char *filter, uint32_t qos, ke_eventbus_fn fn,
                                              void *user);
KE_API void ke_eventbus_unsubscribe(struct ke_eventbus_sub *s); /* NULL is fine; also in its fn */
KE_API KE_NODISCARD int ke_eventbus_status(struct ke_eventbus *b, struct ke_eventbus_status *ret,
                                           size_t size);

#ifdef __cplusplus
}
#endif
#endif
