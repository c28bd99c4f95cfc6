/* SPDX-License-Identifier: Apache-2.0 */
/* One packet of a client that is connected: what it means and who handles it. Loop thread. */
#include "mqtt/journal.h"
#include "mqtt/server.h"

static void bad(struct mq_conn *c, const struct kei_mqtt_frame *f, int reason,
                const struct ke_error *err)
{
    kei_mq_conn_close(c, (unsigned)reason, "%s: %s", kei_mqtt_type_name(kei_mqtt_frame_type(f)),
                      err->text);
}

static void on_ack(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body)
{
    unsigned type = kei_mqtt_frame_type(f);
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_ack a;
    int why = kei_mqtt_decode_ack(c->version, type, body, &a, &err);

    if (why) {
        bad(c, f, why, &err);
        return;
    }
    int known = kei_mq_acked(c->s, type, a.pid, a.reason);
    if (known < 0) {
        kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "%s does not fit the state of packet %u",
                          kei_mqtt_type_name(type), a.pid);
        return;
    }
    if (type == KEI_MQTT_PUBREC && a.reason < 0x80)
        kei_mq_send_ack(c, KEI_MQTT_PUBREL, a.pid, 0);
    if (known == 0 && kei_log_on(c->m->ctx, KE_LOG_DEBUG))
        kei_mq_log(c, KE_LOG_DEBUG, "%s of packet %u, which is not in flight",
                   kei_mqtt_type_name(type), a.pid);
    kei_mq_pump(c->s);
}

static void on_pubrel(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_ack a;
    int why = kei_mqtt_decode_ack(c->version, KEI_MQTT_PUBREL, body, &a, &err);

    if (why)
        bad(c, f, why, &err);
    else
        kei_mq_on_pubrel(c, a.pid);
}

static void on_disconnect(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_ack a;
    int why = kei_mqtt_decode_ack(c->version, KEI_MQTT_DISCONNECT, body, &a, &err);

    if (why && !kei_mqtt_reason_ok(KEI_MQTT_DISCONNECT, a.reason)) {
        kei_mq_conn_lost(c, err.text); /* it is leaving: nothing to be told */
        return;
    }
    if (why) {
        bad(c, f, why, &err);
        return;
    }
    if (a.props.has & KEI_MQTT_HAS(KEI_MQTT_P_SESSION_EXPIRY)) {
        if (c->s->expiry_s == 0 && a.props.session_expiry) {
            kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL,
                              "DISCONNECT gave a session expiry where CONNECT had none");
            return;
        }
        c->s->expiry_s = a.props.session_expiry < c->m->lim.session_expiry
                             ? a.props.session_expiry
                             : c->m->lim.session_expiry;
    }
    if (a.reason != KEI_MQTT_R_WITH_WILL)
        kei_mq_will_free(c->s);
    c->flags |= MQ_C_CLEAN_END;
    if (a.reason == KEI_MQTT_R_WITH_WILL)
        c->flags &= (uint16_t)~MQ_C_CLEAN_END;
    kei_mq_log(c, KE_LOG_INFO, "disconnected");
    c->close_reason = a.reason;
    c->state = MQ_CLOSING;
    kei_mq_dirty(c);
}

static void on_auth(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_ack a;

    if (c->version != KEI_MQTT_V5) {
        kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "AUTH is not of this version");
        return;
    }
    int why = kei_mqtt_decode_ack(c->version, KEI_MQTT_AUTH, body, &a, &err);
    if (why)
        bad(c, f, why, &err);
    else
        kei_mq_auth_packet(c, &a);
}

void kei_mq_packet(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body)
{
    unsigned type = kei_mqtt_frame_type(f);
    static const uint8_t pong[2] = {KEI_MQTT_PINGRESP << 4, 0};

    switch (type) {
    case KEI_MQTT_PUBLISH:
        kei_mq_on_publish(c, f->first, body);
        break;
    case KEI_MQTT_PUBACK:
    case KEI_MQTT_PUBREC:
    case KEI_MQTT_PUBCOMP:
        on_ack(c, f, body);
        break;
    case KEI_MQTT_PUBREL:
        on_pubrel(c, f, body);
        break;
    case KEI_MQTT_SUBSCRIBE:
        kei_mq_on_subscribe(c, body);
        break;
    case KEI_MQTT_UNSUBSCRIBE:
        kei_mq_on_unsubscribe(c, body);
        break;
    case KEI_MQTT_PINGREQ:
        if (body.n) {
            kei_mq_conn_lost(c, "PINGREQ had a body");
            break;
        }
        if (!kei_mq_out_add(c->m, &c->out, pong, sizeof pong))
            kei_mq_conn_lost(c, "no memory for a PINGRESP");
        else
            c->m->st.packets_out++;
        kei_mq_dirty(c);
        break;
    case KEI_MQTT_DISCONNECT:
        on_disconnect(c, f, body);
        break;
    case KEI_MQTT_AUTH:
        on_auth(c, f, body);
        break;
    default:
        if (type == KEI_MQTT_PINGRESP && body.n) {
            kei_mq_conn_lost(c, "it sent a PINGRESP with a body");
            break;
        }
        kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "%s is not for clients to send%s",
                          kei_mqtt_type_name(type), type == KEI_MQTT_CONNECT ? " twice" : "");
        break;
    }
}
