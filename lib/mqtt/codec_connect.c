/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT and CONNACK, both ways. Pure; what is decoded points into the packet. */
#include "mqtt/codec_wire.h"

#define FLAG_RESERVED 1u
#define FLAG_CLEAN 2u
#define FLAG_WILL 4u
#define FLAG_WILL_RETAIN 32u
#define FLAG_PASSWORD 64u
#define FLAG_USER 128u

/* Name and level. An unknown level leaves the nearest version we can answer in. */
static int read_version(struct kei_rd *r, struct kei_mqtt_connect *c, struct ke_error *err)
{
    struct ke_str name;
    uint8_t level;

    if (!kei_rd_bin(r, &name) || !kei_rd_u8(r, &level))
        return kei_mqtt_short(err, "the protocol name");
    bool old = kei_str_is(name, "MQIsdp");
    if (!old && !kei_str_is(name, "MQTT"))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "protocol name was not MQTT");
    c->bridge = level >> 7;
    level &= 127;
    c->version = level;
    if (old ? level == KEI_MQTT_V31 : level == KEI_MQTT_V311 || level == KEI_MQTT_V5)
        return 0;
    c->version = KEI_MQTT_V5; /* the answer that says most */
    c->answer = 1;
    return kei_mqtt_bad(err, KEI_MQTT_R_VERSION, "protocol version %u is not known", level);
}

static int read_flags(uint8_t flags, struct kei_mqtt_connect *c, struct ke_error *err)
{
    c->clean = (flags & FLAG_CLEAN) != 0;
    c->has_will = (flags & FLAG_WILL) != 0;
    c->will_qos = flags >> 3 & 3;
    c->will_retain = (flags & FLAG_WILL_RETAIN) != 0;
    c->has_password = (flags & FLAG_PASSWORD) != 0;
    c->has_user = (flags & FLAG_USER) != 0;
    if (flags & FLAG_RESERVED && c->version > KEI_MQTT_V31)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "reserved flag of CONNECT was set");
    if (c->will_qos == 3)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "QoS of the will was 3");
    if (!c->has_will && (c->will_qos || c->will_retain))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "flags of a will were set without a will");
    if (c->version < KEI_MQTT_V5 && c->has_password && !c->has_user)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "there was a password without a user name");
    return 0;
}

static int read_props(struct kei_rd *r, unsigned type, struct kei_mqtt_props *ret,
                      struct ke_error *err)
{
    size_t at = 0;
    int why = kei_mqtt_props(type, r->p, kei_rd_left(r), &at, ret, err);

    r->p += why ? 0 : at;
    return why;
}

static int read_text(struct kei_rd *r, struct ke_str *s, const char *what, struct ke_error *err)
{
    if (!kei_rd_bin(r, s))
        return kei_mqtt_short(err, what);
    if (!kei_mqtt_text_ok(*s))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "%s was not valid UTF-8 text", what);
    return 0;
}

static int read_will(struct kei_rd *r, struct kei_mqtt_connect *c, struct ke_error *err)
{
    int why = c->version == KEI_MQTT_V5 ? read_props(r, KEI_MQTT_WILL, &c->will_props, err) : 0;

    c->answer = why != 0;

    if (why == 0)
        why = read_text(r, &c->will_topic, "the topic of the will", err);
    if (why == 0 && !kei_mqtt_topic_ok(c->will_topic))
        why =
            kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "topic of the will was empty or had wildcards");
    if (why == 0 && c->will_props.has & KEI_MQTT_HAS(KEI_MQTT_P_RESPONSE_TOPIC) &&
        !kei_mqtt_topic_ok(c->will_props.response_topic)) {
        c->answer = 1;
        why = kei_mqtt_bad(err, KEI_MQTT_R_PROTOCOL, "response topic of the will had wildcards");
    }
    if (why == 0 && !kei_rd_bin(r, &c->will_payload))
        why = kei_mqtt_short(err, "the payload of the will");
    return why;
}

static int read_payload(struct kei_rd *r, struct kei_mqtt_connect *c, struct ke_error *err)
{
    int why = read_text(r, &c->client_id, "the client identifier", err);

    if (why == 0 && c->has_will)
        why = read_will(r, c, err);
    if (why == 0 && c->has_user)
        why = read_text(r, &c->user_name, "the user name", err);
    if (why == 0 && c->has_password && !kei_rd_bin(r, &c->password))
        why = kei_mqtt_short(err, "the password");
    if (why == 0 && kei_rd_left(r)) {
        c->answer = c->version == KEI_MQTT_V5;
        why = kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "CONNECT had bytes behind its end");
    }
    return why;
}

int kei_mqtt_decode_connect(struct ke_str body, struct kei_mqtt_connect *ret, struct ke_error *err)
{
    struct kei_rd r = kei_rd(body);
    uint8_t flags;

    memset(ret, 0, sizeof *ret);
    int why = read_version(&r, ret, err);
    if (why)
        return why;
    if (!kei_rd_u8(&r, &flags) || !kei_rd_u16(&r, &ret->keepalive))
        return kei_mqtt_short(err, "the flags and keepalive");
    why = read_flags(flags, ret, err);
    if (why == 0 && ret->version == KEI_MQTT_V5)
        why = read_props(&r, KEI_MQTT_CONNECT, &ret->props, err);
    if (why == 0 && ret->props.has & KEI_MQTT_HAS(KEI_MQTT_P_AUTH_DATA) &&
        !(ret->props.has & KEI_MQTT_HAS(KEI_MQTT_P_AUTH_METHOD)))
        why = kei_mqtt_bad(err, KEI_MQTT_R_PROTOCOL, "authentication data came without a method");
    ret->answer = why && ret->version == KEI_MQTT_V5;
    return why ? why : read_payload(&r, ret, err);
}

int kei_mqtt_decode_connack(unsigned version, struct ke_str body, struct kei_mqtt_connack *ret,
                            struct ke_error *err)
{
    struct kei_rd r = kei_rd(body);
    uint8_t flags;

    memset(ret, 0, sizeof *ret);
    if (!kei_rd_u8(&r, &flags) || !kei_rd_u8(&r, &ret->reason))
        return kei_mqtt_short(err, "CONNACK");
    if (flags & ~1u)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "reserved flags of CONNACK were set");
    ret->session_present = flags & 1;
    int why = version == KEI_MQTT_V5 ? read_props(&r, KEI_MQTT_CONNACK, &ret->props, err) : 0;
    if (why == 0 && kei_rd_left(&r))
        why = kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "CONNACK had bytes behind its end");
    return why;
}

/* ---- writing ---- */

void kei_mqtt_encode_connect(struct ke_buf *b, const struct kei_mqtt_connect *c)
{
    struct ke_str name = c->version == KEI_MQTT_V31 ? KEI_STR("MQIsdp") : KEI_STR("MQTT");
    size_t n = 2 + name.n + 4 + kei_mqtt_props_size(c->version, c->props.raw) + 2 + c->client_id.n;
    unsigned flags = (c->clean ? FLAG_CLEAN : 0) | (c->has_user ? FLAG_USER : 0) |
                     (c->has_password ? FLAG_PASSWORD : 0);

    if (c->has_will) {
        n += kei_mqtt_props_size(c->version, c->will_props.raw) + 4 + c->will_topic.n +
             c->will_payload.n;
        flags |= FLAG_WILL | (c->will_qos & 3u) << 3 | (c->will_retain ? FLAG_WILL_RETAIN : 0);
    }
    n += (c->has_user ? 2 + c->user_name.n : 0) + (c->has_password ? 2 + c->password.n : 0);
    kei_mqtt_add_head(b, KEI_MQTT_CONNECT << 4, n);
    kei_mqtt_add_str(b, name);
    kei_buf_addc(b, (char)(c->version | (c->bridge ? 128 : 0)));
    kei_buf_addc(b, (char)flags);
    kei_mqtt_add_u16(b, c->keepalive);
    kei_mqtt_add_props(b, c->version, c->props.raw);
    kei_mqtt_add_str(b, c->client_id);
    if (c->has_will) {
        kei_mqtt_add_props(b, c->version, c->will_props.raw);
        kei_mqtt_add_str(b, c->will_topic);
        kei_mqtt_add_str(b, c->will_payload);
    }
    if (c->has_user)
        kei_mqtt_add_str(b, c->user_name);
    if (c->has_password)
        kei_mqtt_add_str(b, c->password);
}

void kei_mqtt_encode_connack(struct ke_buf *b, unsigned version, const struct kei_mqtt_connack *c)
{
    kei_mqtt_add_head(b, KEI_MQTT_CONNACK << 4, 2 + kei_mqtt_props_size(version, c->props.raw));
    kei_buf_addc(b, (char)(c->session_present & 1));
    kei_buf_addc(b, (char)c->reason);
    kei_mqtt_add_props(b, version, c->props.raw);
}
