/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One end of an MQTT connection as a client, 3.1.1 and 5.0: pure. Bytes in, bytes out, time passed
 * in; no socket, no timer of its own. It owns what it sent and what is not acknowledged, also while
 * there is no connection, and sends it again over the next one. Loop thread.
 *
 * Messages that come with QoS 1 or 2 are acknowledged by the user, with kei_mqttc_ack, when he is
 * done with them.
 */
#ifndef KEI_MQTT_CLIENT_H
#define KEI_MQTT_CLIENT_H

#include "base/alloc.h"
#include "base/list.h"
#include "mqtt/codec.h"

struct kei_mqttc_config {
    uint8_t version;      /* KEI_MQTT_V311, KEI_MQTT_V5 */
    bool bridge;          /* 3.1.1: bit 7 of the version is set */
    bool clean;           /* clean start; with 5.0 the session ends with the connection, too */
    bool release;         /* an earlier run may have left packet ids at the server: release them */
    uint16_t keepalive;   /* seconds; 0: none */
    uint16_t receive_max; /* 5.0: messages the server may send unacknowledged */
    uint16_t inflight;    /* messages of ours that are out at once; 1..1,000 */
    uint32_t max_packet;  /* larger ones that come end the connection */
    struct ke_str client_id, user_name, password; /* borrowed for the life of the client */
    bool has_user, has_password;
    struct ke_str will_topic, will_payload; /* no topic: no will */
    uint8_t will_qos, will_retain;
};

/* A message that came. Borrowed. */
struct kei_mqttc_message {
    const struct kei_mqtt_publish *publish;
    uint32_t token; /* for kei_mqttc_ack; 0 with QoS 0 */
};

/* Called from within kei_mqttc_input; they may call anything here but kei_mqttc_free. */
struct kei_mqttc_ops {
    void (*connected)(void *user, bool session_present);
    void (*message)(void *user, const struct kei_mqttc_message *m);
    /* a message of ours is done: reason 0 or of success, or the refusal of the server */
    void (*done)(void *user, void *tag, unsigned reason);
    /* codes: one byte per filter of kei_mqttc_subscribe, in order */
    void (*subscribed)(void *user, struct ke_str codes);
    void *user;
};

enum kei_mqttc_state { KEI_MQTTC_IDLE, KEI_MQTTC_CONNECTING, KEI_MQTTC_UP };

struct kei_mqttc_slot;
struct kei_mqttc {
    const struct ke_alloc *alloc;
    struct kei_mqttc_config c;
    struct kei_mqttc_ops ops;
    enum kei_mqttc_state state;
    struct ke_buf out;                   /* for the transport; whoever sends it drops it */
    int64_t heard_ms, sent_ms, asked_ms; /* asked: a ping waits for its answer since; 0: none */
    uint32_t epoch;                      /* of the server's session: tokens of another are void */
    uint16_t sub_pid;
    uint16_t alias_max_seen;
    uint32_t keepalive_ms;
    /* the server's limits */
    uint16_t quota;
    uint32_t server_max_packet;
    uint8_t server_max_qos;
    bool server_retain;
    /* ours, by packet id - 1 */
    struct kei_mqttc_slot **slots;
    uint16_t n_slots, n_used, n_out;
    struct kei_link waiting; /* slots that were not sent over this connection, in order */
    /* theirs: one bit pair per packet id is too much for few: a small table */
    struct kei_mqttc_in *in;
    uint32_t n_in, cap_in;
    struct ke_error err;
};

int kei_mqttc_init(struct kei_mqttc *m, const struct ke_alloc *a, const struct kei_mqttc_config *c,
                   const struct kei_mqttc_ops *ops);
void kei_mqttc_fini(struct kei_mqttc *m); /* tags of what is not done are forgotten; safe if zero */

/* A transport stands: CONNECT goes out. */
void kei_mqttc_begin(struct kei_mqttc *m, int64_t now_ms);
/* The transport is gone. */
void kei_mqttc_lost(struct kei_mqttc *m);
/*
 * Bytes came; *ret_used of them were taken. 0, or why the connection must end: KE_EPROTO
 * (malformed, or not in this state), KE_EREFUSED (CONNACK or DISCONNECT with a reason), KE_ELIMIT,
 * KE_ENOMEM; text in m->err.
 */
int kei_mqttc_input(struct kei_mqttc *m, const char *p, size_t n, int64_t now_ms, size_t *ret_used);
/* Time passed: pings. KE_ETIMEDOUT when the server is silent. *ret_next_ms: call again then; -1 */
int kei_mqttc_tick(struct kei_mqttc *m, int64_t now_ms, int64_t *ret_next_ms);

/* The highest QoS that can be used now; publish lowers to it. */
static inline uint8_t kei_mqttc_max_qos(const struct kei_mqttc *m)
{
    return m->state == KEI_MQTTC_UP ? m->server_max_qos : 2;
}
/*
 * Sends p. With QoS 0, or lowered to it: KE_ECLOSED without a connection, and no done follows. QoS
 * 1 and 2: kept until done. KE_ELIMIT: inflight messages are out, or the packet is too large for
 * the server (text in m->err); KE_ENOMEM.
 */
int kei_mqttc_publish(struct kei_mqttc *m, const struct kei_mqtt_publish *p, void *tag);
/* true if a further message with QoS 1 or 2 has a place */
static inline bool kei_mqttc_room(const struct kei_mqttc *m)
{
    return m->n_used < m->c.inflight;
}
/* Acknowledges a message; reason 0, or (5.0) the refusal. Tokens of a lost session are ignored. */
void kei_mqttc_ack(struct kei_mqttc *m, uint32_t token, uint8_t reason);
/* list: written with kei_mqtt_put_filter. Only while connected. */
void kei_mqttc_subscribe(struct kei_mqttc *m, struct ke_str list, uint32_t sub_id);
void kei_mqttc_disconnect(struct kei_mqttc *m); /* DISCONNECT goes out; then close the transport */
bool kei_mqttc_ok(const struct kei_mqttc *m);   /* false: out of memory while writing */

#endif
