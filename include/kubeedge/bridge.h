/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bridge: joins the MQTT server to another broker, as one client there. Messages go out, in or
 * both ways by topic rules with a prefix taken off and another put on, as in mosquitto's
 *
 *     topic PATTERN out|in|both QOS LOCAL-PREFIX REMOTE-PREFIX
 *
 * Towards the server a bridge is a session of its own that never expires. A message with QoS 1 or 2
 * is acknowledged to the side it came from when the other side has acknowledged it, and not before;
 * so what waits for an absent broker waits in the server's session: as durable, and as bounded
 * (max_queued, max_queued_bytes), as the server's sessions are. QoS 0 is passed on while both
 * sides are connected. After a broken connection a message may arrive twice, none is lost.
 *
 * A message is not sent back to the side it came from. All calls: loop.
 */
#ifndef KUBEEDGE_BRIDGE_H
#define KUBEEDGE_BRIDGE_H

#include <kubeedge/mqtt.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_bridge;

#define KE_BRIDGE_OUT 1u
#define KE_BRIDGE_IN 2u
#define KE_BRIDGE_BOTH 3u

struct ke_bridge_topic {
    size_t size;
    const char *pattern;      /* a filter, without the prefixes; "" with both prefixes: one topic */
    const char *local_prefix; /* before pattern on our side; NULL or "": none */
    const char *remote_prefix; /* before it on the other side */
    uint32_t direction;        /* KE_BRIDGE_OUT... */
    uint32_t qos;
};

#define KE_BRIDGE_TLS 1u           /* flags; needs ca_file, or the next */
#define KE_BRIDGE_TLS_NO_VERIFY 2u /* any certificate is taken: only for a test bench */
#define KE_BRIDGE_CLEAN 4u         /* forget our session at the other broker when we go */
#define KE_BRIDGE_NO_PRIVATE 8u /* 3.1.1: do not say that we are a bridge (bit 7 of the version)   \
                                 */
#define KE_BRIDGE_NOTIFY_LOCAL 16u /* state of the connection only to our own server */
#define KE_BRIDGE_NO_NOTIFY 32u    /* no such message at all */

struct ke_bridge_config {
    size_t size;
    const char *name;            /* required: of the connection */
    const char *host;            /* required */
    uint32_t port;               /* default 1883, with TLS 8883 */
    uint32_t version;            /* 4 (3.1.1, the default) or 5 */
    const char *client_id;       /* at the other broker; default NAME */
    const char *local_client_id; /* of the session at our server; default "$bridge/NAME" */
    const char *user_name;       /* NULL: none */
    const char *password;
    const struct ke_bridge_topic *topics; /* each with its size; at least one */
    uint32_t n_topics;
    uint32_t flags;
    uint32_t keepalive;                  /* seconds; default 60 */
    uint32_t retry_min_ms, retry_max_ms; /* pauses between attempts; 1,000 and 60,000 */
    uint32_t max_inflight; /* not acknowledged by the other side at once; default 20 */
    uint32_t max_packet;   /* larger messages are left out and logged; default 2,000,000 */
    const char *ca_file;   /* PEM */
    const char *cert_file; /* own, for mutual TLS */
    const char *key_file;
    const char *verify_name; /* name in the other's certificate; default host */
    /* Topic, retained, with payload 1 while connected and 0 else, at both ends; default
     * $SYS/broker/connection/CLIENT_ID/state */
    const char *notify_topic;
    const char *const *more_hosts; /* "HOST:PORT" tried by turns after host */
    uint32_t n_more_hosts;
    uint32_t reserved;
};

#define KE_BRIDGE_STOPPED 0u
#define KE_BRIDGE_CONNECTING 1u
#define KE_BRIDGE_CONNECTED 2u
#define KE_BRIDGE_WAITING 3u /* for the next attempt */

struct ke_bridge_status {
    size_t size;
    uint32_t state;          /* KE_BRIDGE_STOPPED... */
    int32_t last_error;      /* KE_E* of the last failure */
    uint64_t sent, received; /* messages passed on */
    uint64_t dropped;        /* QoS 0 while the other side was away, or too large */
    uint64_t refused;        /* by the other side, with a reason code */
    uint64_t connects;       /* times the connection stood */
    char error_text[KE_ERROR_TEXT_MAX];
};

KE_API void ke_bridge_config_init(struct ke_bridge_config *c, size_t size);

/*
 * Copies the configuration and reads the files it names. m must outlive the bridge. Runs while the
 * server runs: starts with it (now, if it does), ends with it. KE_EINVAL names the member, KE_EABI,
 * KE_ENOMEM, KE_ENOTFOUND, KE_EACCES, KE_ECERT, KE_EKEY, KE_ENOTSUP.
 */
KE_API KE_NODISCARD int ke_bridge_new(struct ke_bridge **ret, struct ke_mqtt *m,
                                      const struct ke_bridge_config *c);
/* The server keeps the session, and what waits in it, for a bridge of the same name. NULL is fine.
 */
KE_API void ke_bridge_free(struct ke_bridge *b);
KE_API KE_NODISCARD int ke_bridge_status(struct ke_bridge *b, struct ke_bridge_status *ret,
                                         size_t size);

#ifdef __cplusplus
}
#endif
#endif
