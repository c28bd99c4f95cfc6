/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a bridge: topic rules (pure), configuration, the two sides. Loop thread. */
#ifndef KEI_MQTT_BRIDGE_PRIV_H
#define KEI_MQTT_BRIDGE_PRIV_H

#include <kubeedge/bridge.h>

#include "base/arena.h"
#include "mqtt/client_link.h"
#include "mqtt/mqtt.h"

#define KEI_BRIDGE_TOPICS 1000u

/* ---- bridge_topic.c: pure ---- */
struct kei_bridge_rule {
    uint32_t direction, qos;
    struct ke_str local_prefix, remote_prefix;
    struct ke_str local, remote; /* the whole filters */
};
/* Checks a rule and puts its filters together. KE_EINVAL, KE_ENOMEM */
int kei_bridge_rule_make(struct kei_bridge_rule *ret, struct kei_arena *a,
                         const struct ke_bridge_topic *t, struct ke_error *err);
/*
 * What topic is called on the other side, appended to out: by the first rule of that direction
 * whose filter matches. false: by none. *ret_qos: its QoS.
 */
bool kei_bridge_map(const struct kei_bridge_rule *rules, uint32_t n, uint32_t direction,
                    struct ke_str topic, struct ke_buf *out, uint32_t *ret_qos);

/* ---- bridge_conf.c ---- */
struct kei_bridge_conf {
    struct ke_bridge_config c; /* strings in the arena */
    struct kei_bridge_rule *rules;
    struct kei_mqtt_host *hosts;
    uint32_t n_hosts;
    const char *client_id, *local_client_id, *notify_topic;
    struct kei_tls_config *tls;
};
int kei_bridge_conf_read(struct kei_bridge_conf *ret, struct ke_ctx *ctx, struct kei_arena *a,
                         const struct ke_bridge_config *c);
void kei_bridge_conf_fini(struct kei_bridge_conf *c);

#endif
