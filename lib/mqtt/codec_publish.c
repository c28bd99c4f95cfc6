/* SPDX-License-Identifier: Apache-2.0 */
/* PUBLISH and the packets that are one packet id and a reason: acknowledgements, DISCONNECT, AUTH.
 * Pure; what is decoded points into the packet. */
#include "mqtt/codec_wire.h"

static const struct kei_mqtt_props no_props;

static void clear_props(struct kei_mqtt_props *p)
{
    p->has = 0;
    p->n_user = p->n_sub_ids = 0;
    p->raw = no_props.raw;
}

static int check_topic(const struct kei_mqtt_publish *p, struct ke_error *err)
{
    if (!kei_mqtt_text_ok(p->topic))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "topic was not valid UTF-8 text");
    if (p->topic.n == 0) {
        if (p->props.has & KEI_MQTT_HAS(KEI_MQTT_P_ALIAS))
            return 0;
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "topic was empty");
    }
    if (!kei_mqtt_topic_ok(p->topic))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "topic had wildcards");
    return 0;
}

int kei_mqtt_decode_publish(unsigned version, uint8_t first, struct ke_str body,
                            struct kei_mqtt_publish *ret, struct ke_error *err)
{
    struct kei_rd r = kei_rd(body);

    ret->dup = first >> 3 & 1;
    ret->qos = first >> 1 & 3;
    ret->retain = first & 1;
    ret->pid = 0;
    clear_props(&ret->props);
    if (ret->qos == 3)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "QoS was 3");
    if (ret->dup && ret->qos == 0)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED,
                            "a message of QoS 0 was marked as sent again");
    if (!kei_rd_bin(&r, &ret->topic))
        return kei_mqtt_short(err, "the topic");
    if (ret->qos && !kei_rd_u16(&r, &ret->pid))
        return kei_mqtt_short(err, "the packet identifier");
    if (version == KEI_MQTT_V5) {
        size_t at = 0;
        int why = kei_mqtt_props(KEI_MQTT_PUBLISH, r.p, kei_rd_left(&r), &at, &ret->props, err);
        if (why)
            return why;
        r.p += at;
    }
    int why = check_topic(ret, err);
    if (why)
        return why;
    if (ret->qos && ret->pid == 0)
        return kei_mqtt_bad(err, KEI_MQTT_R_PROTOCOL, "packet identifier was 0");
    if (ret->props.has & KEI_MQTT_HAS(KEI_MQTT_P_RESPONSE_TOPIC) &&
        !kei_mqtt_topic_ok(ret->props.response_topic))
        return kei_mqtt_bad(err, KEI_MQTT_R_PROTOCOL, "response topic was empty or had wildcards");
    ret->payload = kei_rd_rest(&r);
    return 0;
}

void kei_mqtt_encode_publish(struct ke_buf *b, unsigned version, const struct kei_mqtt_publish *p)
{
    kei_mqtt_add_head(
        b, KEI_MQTT_PUBLISH << 4 | (p->dup & 1u) << 3 | (p->qos & 3u) << 1 | (p->retain & 1u),
        2 + p->topic.n + (p->qos ? 2 : 0) + kei_mqtt_props_size(version, p->props.raw) +
            p->payload.n);
    kei_mqtt_add_str(b, p->topic);
    if (p->qos)
        kei_mqtt_add_u16(b, p->pid);
    kei_mqtt_add_props(b, version, p->props.raw);
    kei_buf_addv(b, p->payload);
}

/* ---- reasons ---- */

#define OF(type) (1u << (type))
#define ACK OF(KEI_MQTT_PUBACK)
#define REC OF(KEI_MQTT_PUBREC)
#define REL OF(KEI_MQTT_PUBREL)
#define COMP OF(KEI_MQTT_PUBCOMP)
#define BYE OF(KEI_MQTT_DISCONNECT)
#define AUTHS OF(KEI_MQTT_AUTH)
#define SUBS OF(KEI_MQTT_SUBACK)

/* Which packet may carry which reason. */
static const struct {
    uint8_t reason;
    uint16_t in;
} reasons[] = {
    {KEI_MQTT_R_OK, ACK | REC | REL | COMP | BYE | AUTHS},
    {KEI_MQTT_R_WITH_WILL, BYE},
    {KEI_MQTT_R_NO_SUBSCRIBERS, ACK | REC},
    {KEI_MQTT_R_CONTINUE, AUTHS},
    {KEI_MQTT_R_REAUTH, AUTHS},
    {KEI_MQTT_R_UNSPECIFIED, ACK | REC | BYE},
    {KEI_MQTT_R_MALFORMED, BYE},
    {KEI_MQTT_R_PROTOCOL, BYE},
    {KEI_MQTT_R_IMPLEMENTATION, ACK | REC | BYE},
    {KEI_MQTT_R_NOT_AUTHORIZED, ACK | REC | BYE},
    {KEI_MQTT_R_BUSY, BYE},
    {KEI_MQTT_R_SHUTTING_DOWN, BYE},
    {KEI_MQTT_R_KEEPALIVE, BYE},
    {KEI_MQTT_R_TAKEN_OVER, BYE},
    {KEI_MQTT_R_FILTER, BYE},
    {KEI_MQTT_R_TOPIC, ACK | REC | BYE},
    {KEI_MQTT_R_PID_IN_USE, ACK | REC},
    {KEI_MQTT_R_PID_NOT_FOUND, REL | COMP},
    {KEI_MQTT_R_RECEIVE_MAX, BYE},
    {KEI_MQTT_R_ALIAS, BYE},
    {KEI_MQTT_R_PACKET_TOO_LARGE, BYE},
    {KEI_MQTT_R_RATE, BYE},
    {KEI_MQTT_R_QUOTA, ACK | REC | BYE},
    {KEI_MQTT_R_ADMIN, BYE},
    {KEI_MQTT_R_FORMAT, ACK | REC | BYE},
    {KEI_MQTT_R_NO_RETAIN, BYE},
    {KEI_MQTT_R_NO_QOS, BYE},
    {KEI_MQTT_R_USE_OTHER, BYE},
    {KEI_MQTT_R_MOVED, BYE},
    {KEI_MQTT_R_NO_SHARED, BYE},
    {KEI_MQTT_R_CONNECT_RATE, BYE},
    {KEI_MQTT_R_MAX_CONNECT_TIME, BYE},
    {KEI_MQTT_R_NO_SUBID, BYE},
    {KEI_MQTT_R_NO_WILDCARD, BYE},
};

static bool has_pid(unsigned type)
{
    return type != KEI_MQTT_DISCONNECT && type != KEI_MQTT_AUTH;
}

/* What may follow in 5.0: a reason, and behind it properties. */
static int read_reason(struct kei_rd *r, unsigned type, struct kei_mqtt_ack *a,
                       struct ke_error *err)
{
    size_t at = 0;

    if (!kei_rd_u8(r, &a->reason))
        return 0;
    if (kei_rd_left(r) == 0)
        return 0;
    int why = kei_mqtt_props(type, r->p, kei_rd_left(r), &at, &a->props, err);
    r->p += why ? 0 : at;
    return why;
}

bool kei_mqtt_reason_ok(unsigned type, uint8_t reason)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].reason == reason)
            return (reasons[i].in & OF(type)) != 0;
    return false;
}

int kei_mqtt_decode_ack(unsigned version, unsigned type, struct ke_str body,
                        struct kei_mqtt_ack *ret, struct ke_error *err)
{
    struct kei_rd r = kei_rd(body);

    ret->pid = 0;
    ret->reason = 0;
    clear_props(&ret->props);
    if (has_pid(type)) {
        if (!kei_rd_u16(&r, &ret->pid))
            return kei_mqtt_short(err, "the packet identifier");
        if (ret->pid == 0)
            return kei_mqtt_bad(err, KEI_MQTT_R_PROTOCOL, "packet identifier was 0");
    }
    if (version == KEI_MQTT_V5) {
        int why = read_reason(&r, type, ret, err);
        if (why)
            return why;
    }
    if (kei_rd_left(&r))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "%s had bytes behind its end",
                            kei_mqtt_type_name(type));
    if (!kei_mqtt_reason_ok(type, ret->reason))
        return kei_mqtt_bad(err, KEI_MQTT_R_PROTOCOL,
                            "%s had the reason 0x%02x, not one of its own",
                            kei_mqtt_type_name(type), ret->reason);
    return 0;
}

void kei_mqtt_encode_ack(struct ke_buf *b, unsigned version, unsigned type,
                         const struct kei_mqtt_ack *a)
{
    size_t n = has_pid(type) ? 2 : 0;
    bool props = version == KEI_MQTT_V5 && a->props.raw.n;
    bool reason = props || (version == KEI_MQTT_V5 && a->reason);

    n += (reason ? 1 : 0) + (props ? kei_mqtt_props_size(version, a->props.raw) : 0);
    kei_mqtt_add_head(b, type << 4 | (type == KEI_MQTT_PUBREL ? 2u : 0), n);
    if (has_pid(type))
        kei_mqtt_add_u16(b, a->pid);
    if (reason)
        kei_buf_addc(b, (char)a->reason);
    if (props)
        kei_mqtt_add_props(b, version, a->props.raw);
}

void kei_mqtt_encode_ping(struct ke_buf *b, unsigned type)
{
    kei_mqtt_add_head(b, type << 4, 0);
}
