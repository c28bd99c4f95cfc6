/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client with its transport: dials, over TLS if wanted, again and again with growing pauses, and
 * moves the bytes. Or over a socket that somebody hands out (the server's own). Loop thread.
 */
#ifndef KEI_MQTT_CLIENT_LINK_H
#define KEI_MQTT_CLIENT_LINK_H

#include "base/backoff.h"
#include "mqtt/client.h"
#include "net/stream.h"
#include "net/tls.h"

struct kei_mqtt_host {
    const char *host; /* borrowed */
    uint16_t port;
};

struct kei_mqtt_link_config {
    const struct kei_mqtt_host *hosts; /* tried by turns; borrowed */
    uint32_t n_hosts;
    struct kei_tls_config *tls; /* NULL: plain; borrowed */
    /* instead of hosts: a connected socket, which becomes the link's; 0 or KE_E* */
    int (*socket)(void *user, int *ret_fd);
    uint32_t retry_min_ms, retry_max_ms;
    /* the connection ended or an attempt failed; it is tried again in next_ms */
    void (*lost)(void *user, int status, const char *text, int64_t next_ms);
    void *user;
};

struct kei_mqtt_link {
    struct ke_ctx *ctx;
    struct kei_mqtt_link_config c;
    struct kei_mqttc client;
    struct kei_stream *stream;
    struct kei_timer timer; /* next attempt, or the client's tick */
    struct kei_defer flush;
    struct kei_backoff backoff;
    uint32_t next_host;
    bool running, in_input;
};

int kei_mqtt_link_init(struct kei_mqtt_link *l, struct ke_ctx *ctx,
                       const struct kei_mqtt_link_config *c, const struct kei_mqttc_config *client,
                       const struct kei_mqttc_ops *ops);
void kei_mqtt_link_start(struct kei_mqtt_link *l); /* the first attempt begins in a later turn */
/* Says goodbye, closes; what is not done stays and is sent again after start. */
void kei_mqtt_link_stop(struct kei_mqtt_link *l);
void kei_mqtt_link_fini(struct kei_mqtt_link *l); /* safe if zero */
/* Something was written for the server: it goes at the end of this turn. */
void kei_mqtt_link_kick(struct kei_mqtt_link *l);
static inline bool kei_mqtt_link_up(const struct kei_mqtt_link *l)
{
    return l->client.state == KEI_MQTTC_UP;
}
size_t kei_mqtt_link_queued(const struct kei_mqtt_link *l); /* bytes not yet taken by the socket */
void kei_mqtt_link_pause(struct kei_mqtt_link *l, bool paused); /* reads nothing meanwhile */

#endif
