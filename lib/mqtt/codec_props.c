/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of MQTT 5: which packet may carry which, their types, reading and writing. Pure. */
#include "mqtt/codec_wire.h"

enum form { NONE, BYTE, BOOL, U16, U32, VARINT, TEXT, BIN, PAIR };

#define IN(type) (1u << (type))
#define IN_WILL IN(KEI_MQTT_WILL)
#define ACKS                                                                                       \
    (IN(KEI_MQTT_CONNACK) | IN(KEI_MQTT_PUBACK) | IN(KEI_MQTT_PUBREC) | IN(KEI_MQTT_PUBREL) |      \
     IN(KEI_MQTT_PUBCOMP) | IN(KEI_MQTT_SUBACK) | IN(KEI_MQTT_UNSUBACK) |                          \
     IN(KEI_MQTT_DISCONNECT) | IN(KEI_MQTT_AUTH))
#define MESSAGE (IN(KEI_MQTT_PUBLISH) | IN_WILL)
#define AUTHS (IN(KEI_MQTT_CONNECT) | IN(KEI_MQTT_CONNACK) | IN(KEI_MQTT_AUTH))
#define HELLOS (IN(KEI_MQTT_CONNECT) | IN(KEI_MQTT_CONNACK))

struct rule {
    uint8_t form;
    uint16_t in; /* packets, by type */
    const char *name;
};

static const struct rule rules[] = {
    [KEI_MQTT_P_PAYLOAD_FORMAT] = {BOOL, MESSAGE, "payload format indicator"},
    [KEI_MQTT_P_MESSAGE_EXPIRY] = {U32, MESSAGE, "message expiry interval"},
    [KEI_MQTT_P_CONTENT_TYPE] = {TEXT, MESSAGE, "content type"},
    [KEI_MQTT_P_RESPONSE_TOPIC] = {TEXT, MESSAGE, "response topic"},
    [KEI_MQTT_P_CORRELATION] = {BIN, MESSAGE, "correlation data"},
    [KEI_MQTT_P_SUB_ID] = {VARINT, IN(KEI_MQTT_PUBLISH) | IN(KEI_MQTT_SUBSCRIBE),
                           "subscription identifier"},
    [KEI_MQTT_P_SESSION_EXPIRY] = {U32, HELLOS | IN(KEI_MQTT_DISCONNECT),
                                   "session expiry interval"},
    [KEI_MQTT_P_CLIENT_ID] = {TEXT, IN(KEI_MQTT_CONNACK), "assigned client identifier"},
    [KEI_MQTT_P_SERVER_KEEPALIVE] = {U16, IN(KEI_MQTT_CONNACK), "server keep alive"},
    [KEI_MQTT_P_AUTH_METHOD] = {TEXT, AUTHS, "authentication method"},
    [KEI_MQTT_P_AUTH_DATA] = {BIN, AUTHS, "authentication data"},
    [KEI_MQTT_P_REQUEST_PROBLEM] = {BOOL, IN(KEI_MQTT_CONNECT), "request problem information"},
    [KEI_MQTT_P_WILL_DELAY] = {U32, IN_WILL, "will delay interval"},
    [KEI_MQTT_P_REQUEST_RESPONSE] = {BOOL, IN(KEI_MQTT_CONNECT), "request response information"},
    [KEI_MQTT_P_RESPONSE_INFO] = {TEXT, IN(KEI_MQTT_CONNACK), "response information"},
    [KEI_MQTT_P_SERVER_REF] = {TEXT, IN(KEI_MQTT_CONNACK) | IN(KEI_MQTT_DISCONNECT),
                               "server reference"},
    [KEI_MQTT_P_REASON] = {TEXT, ACKS, "reason string"},
    [KEI_MQTT_P_RECEIVE_MAX] = {U16, HELLOS, "receive maximum"},
    [KEI_MQTT_P_ALIAS_MAX] = {U16, HELLOS, "topic alias maximum"},
    [KEI_MQTT_P_ALIAS] = {U16, IN(KEI_MQTT_PUBLISH), "topic alias"},
    [KEI_MQTT_P_MAX_QOS] = {BOOL, IN(KEI_MQTT_CONNACK), "maximum QoS"},
    [KEI_MQTT_P_RETAIN_AVAILABLE] = {BOOL, IN(KEI_MQTT_CONNACK), "retain available"},
    [KEI_MQTT_P_USER] = {PAIR, 0xffff & ~(IN(KEI_MQTT_PINGREQ) | IN(KEI_MQTT_PINGRESP)),
                         "user property"},
    [KEI_MQTT_P_MAX_PACKET] = {U32, HELLOS, "maximum packet size"},
    [KEI_MQTT_P_WILDCARD_AVAILABLE] = {BOOL, IN(KEI_MQTT_CONNACK),
                                       "wildcard subscription available"},
    [KEI_MQTT_P_SUBID_AVAILABLE] = {BOOL, IN(KEI_MQTT_CONNACK),
                                    "subscription identifier available"},
    [KEI_MQTT_P_SHARED_AVAILABLE] = {BOOL, IN(KEI_MQTT_CONNACK), "shared subscription available"},
};
#define N_RULES (sizeof rules / sizeof rules[0])

static uint8_t *byte_of(struct kei_mqtt_props *s, uint32_t id)
{
    switch (id) {
    case KEI_MQTT_P_PAYLOAD_FORMAT:
        return &s->payload_format;
    case KEI_MQTT_P_REQUEST_PROBLEM:
        return &s->request_problem;
    case KEI_MQTT_P_REQUEST_RESPONSE:
        return &s->request_response;
    case KEI_MQTT_P_MAX_QOS:
        return &s->max_qos;
    case KEI_MQTT_P_RETAIN_AVAILABLE:
        return &s->retain_available;
    case KEI_MQTT_P_WILDCARD_AVAILABLE:
        return &s->wildcard_available;
    case KEI_MQTT_P_SUBID_AVAILABLE:
        return &s->subid_available;
    default:
        return &s->shared_available;
    }
}

static uint16_t *u16_of(struct kei_mqtt_props *s, uint32_t id)
{
    switch (id) {
    case KEI_MQTT_P_SERVER_KEEPALIVE:
        return &s->server_keepalive;
    case KEI_MQTT_P_RECEIVE_MAX:
        return &s->receive_max;
    case KEI_MQTT_P_ALIAS_MAX:
        return &s->alias_max;
    default:
        return &s->alias;
    }
}

static uint32_t *u32_of(struct kei_mqtt_props *s, uint32_t id)
{
    switch (id) {
    case KEI_MQTT_P_MESSAGE_EXPIRY:
        return &s->message_expiry;
    case KEI_MQTT_P_SESSION_EXPIRY:
        return &s->session_expiry;
    case KEI_MQTT_P_WILL_DELAY:
        return &s->will_delay;
    default:
        return &s->max_packet;
    }
}

static struct ke_str *str_of(struct kei_mqtt_props *s, uint32_t id)
{
    switch (id) {
    case KEI_MQTT_P_CONTENT_TYPE:
        return &s->content_type;
    case KEI_MQTT_P_RESPONSE_TOPIC:
        return &s->response_topic;
    case KEI_MQTT_P_CORRELATION:
        return &s->correlation;
    case KEI_MQTT_P_CLIENT_ID:
        return &s->client_id;
    case KEI_MQTT_P_AUTH_METHOD:
        return &s->auth_method;
    case KEI_MQTT_P_AUTH_DATA:
        return &s->auth_data;
    case KEI_MQTT_P_RESPONSE_INFO:
        return &s->response_info;
    case KEI_MQTT_P_SERVER_REF:
        return &s->server_ref;
    default:
        return &s->reason;
    }
}

static int bad_value(struct ke_error *err, int reason, uint32_t id)
{
    return kei_mqtt_bad(err, reason, "%s had a value that is not allowed", rules[id].name);
}

static int read_text(struct kei_rd *r, struct ke_str *s, uint32_t id, struct ke_error *err)
{
    if (!kei_rd_bin(r, s))
        return kei_mqtt_short(err, rules[id].name);
    if (!kei_mqtt_text_ok(*s))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "%s was not valid UTF-8 text",
                            rules[id].name);
    return 0;
}

static int read_numbers(struct kei_rd *r, struct kei_mqtt_props *s, uint32_t id, unsigned type,
                        struct ke_error *err)
{
    uint32_t v;

    switch (rules[id].form) {
    case BYTE:
    case BOOL:
        if (!kei_rd_u8(r, byte_of(s, id)))
            break;
        return *byte_of(s, id) > 1 ? bad_value(err, KEI_MQTT_R_PROTOCOL, id) : 0;
    case U16:
        if (!kei_rd_u16(r, u16_of(s, id)))
            break;
        if (*u16_of(s, id) == 0 && id == KEI_MQTT_P_RECEIVE_MAX)
            return bad_value(err, KEI_MQTT_R_PROTOCOL, id);
        if (*u16_of(s, id) == 0 && id == KEI_MQTT_P_ALIAS)
            return bad_value(err, KEI_MQTT_R_ALIAS, id);
        return 0;
    case U32:
        if (!kei_rd_u32(r, u32_of(s, id)))
            break;
        if (*u32_of(s, id) == 0 && id == KEI_MQTT_P_MAX_PACKET)
            return bad_value(err, KEI_MQTT_R_PROTOCOL, id);
        return 0;
    default: /* VARINT: the subscription identifier */
        if (!kei_rd_varint(r, &v))
            break;
        if (v == 0)
            return bad_value(
                err, type == KEI_MQTT_PUBLISH ? KEI_MQTT_R_PROTOCOL : KEI_MQTT_R_MALFORMED, id);
        if (s->n_sub_ids < KEI_MQTT_SUB_IDS_MAX)
            s->sub_ids[s->n_sub_ids++] = v;
        return 0;
    }
    return kei_mqtt_short(err, rules[id].name);
}

static int read_one(struct kei_rd *r, struct kei_mqtt_props *s, uint32_t id, unsigned type,
                    struct ke_error *err)
{
    struct ke_str name, value;
    int why;

    switch (rules[id].form) {
    case TEXT:
        return read_text(r, str_of(s, id), id, err);
    case BIN:
        return kei_rd_bin(r, str_of(s, id)) ? 0 : kei_mqtt_short(err, rules[id].name);
    case PAIR:
        why = read_text(r, &name, id, err);
        if (why == 0)
            why = read_text(r, &value, id, err);
        s->n_user++;
        return why;
    default:
        return read_numbers(r, s, id, type, err);
    }
}

/* A property of another packet. The standard calls one that is not valid for its packet malformed
 * (2.2.2.2); what clients are used to differs by packet. */
static int misplaced(unsigned type)
{
    return type == KEI_MQTT_SUBSCRIBE || type == KEI_MQTT_UNSUBSCRIBE ? KEI_MQTT_R_MALFORMED
                                                                      : KEI_MQTT_R_PROTOCOL;
}

int kei_mqtt_props_bare(unsigned type, struct ke_str raw, struct kei_mqtt_props *ret,
                        struct ke_error *err)
{
    struct kei_rd r = kei_rd(raw);
    uint32_t id;

    ret->has = 0;
    ret->n_user = ret->n_sub_ids = 0;
    ret->raw = raw;
    int first = 0; /* what is malformed outweighs what is just not allowed */
    while (r.p < r.end) {
        if (!kei_rd_varint(&r, &id) || id >= N_RULES || rules[id].form == NONE)
            return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "unknown property");
        int why = read_one(&r, ret, id, type, first ? NULL : err);
        if (why == KEI_MQTT_R_MALFORMED)
            return why;
        if (!why && !(rules[id].in & IN(type)))
            why = kei_mqtt_bad(first ? NULL : err, misplaced(type), "%s is not allowed in %s",
                               rules[id].name, type ? kei_mqtt_type_name(type) : "a will");
        if (!why && ret->has & KEI_MQTT_HAS(id) && id != KEI_MQTT_P_USER &&
            !(id == KEI_MQTT_P_SUB_ID && type == KEI_MQTT_PUBLISH))
            why = kei_mqtt_bad(first ? NULL : err, KEI_MQTT_R_PROTOCOL, "%s was there twice",
                               rules[id].name);
        first = first ? first : why;
        ret->has |= KEI_MQTT_HAS(id);
    }
    return first;
}

int kei_mqtt_props(unsigned type, const uint8_t *p, size_t n, size_t *at,
                   struct kei_mqtt_props *ret, struct ke_error *err)
{
    struct kei_rd all = {p + *at, p + n};
    uint32_t length;

    ret->has = 0;
    ret->n_user = ret->n_sub_ids = 0;
    if (!kei_rd_varint(&all, &length) || length > kei_rd_left(&all))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED,
                            "length of the properties was malformed or beyond the packet");
    *at = (size_t)(all.p - p) + length;
    return kei_mqtt_props_bare(type, kei_strn((const char *)all.p, length), ret, err);
}

/* The bytes of one property's value; its form was checked before. */
static bool skip_value(struct kei_rd *r, uint32_t id)
{
    struct ke_str s;
    uint32_t u32;
    uint16_t u16;
    uint8_t u8;

    switch (id < N_RULES ? rules[id].form : NONE) {
    case BYTE:
    case BOOL:
        return kei_rd_u8(r, &u8);
    case U16:
        return kei_rd_u16(r, &u16);
    case U32:
        return kei_rd_u32(r, &u32);
    case VARINT:
        return kei_rd_varint(r, &u32);
    case TEXT:
    case BIN:
        return kei_rd_bin(r, &s);
    case PAIR:
        return kei_rd_bin(r, &s) && kei_rd_bin(r, &s);
    default:
        return false;
    }
}

bool kei_mqtt_props_user(struct ke_str raw, size_t *at, struct ke_str *name, struct ke_str *value)
{
    struct kei_rd r = kei_rd(raw);
    uint32_t id;

    r.p += *at < raw.n ? *at : raw.n;
    while (kei_rd_varint(&r, &id)) {
        bool ok = id == KEI_MQTT_P_USER ? kei_rd_bin(&r, name) && kei_rd_bin(&r, value)
                                        : skip_value(&r, id);
        if (!ok)
            break;
        *at = (size_t)(r.p - (const uint8_t *)raw.p);
        if (id == KEI_MQTT_P_USER)
            return true;
    }
    return false;
}

void kei_mqtt_props_copy(struct ke_buf *b, struct ke_str raw, uint64_t skip)
{
    struct kei_rd r = kei_rd(raw);
    uint32_t id;

    for (;;) {
        const uint8_t *from = r.p;
        if (!kei_rd_varint(&r, &id) || !skip_value(&r, id))
            return;
        if (!(skip & KEI_MQTT_HAS(id)))
            kei_buf_add(b, from, (size_t)(r.p - from));
    }
}

/* ---- writing ---- */

void kei_mqtt_put_u8(struct ke_buf *b, unsigned id, uint8_t v)
{
    char c[2] = {(char)id, (char)v};

    kei_buf_add(b, c, 2);
}

void kei_mqtt_put_u16(struct ke_buf *b, unsigned id, uint16_t v)
{
    kei_buf_addc(b, (char)id);
    kei_mqtt_add_u16(b, v);
}

void kei_mqtt_put_u32(struct ke_buf *b, unsigned id, uint32_t v)
{
    kei_buf_addc(b, (char)id);
    kei_mqtt_add_u16(b, (uint16_t)(v >> 16));
    kei_mqtt_add_u16(b, (uint16_t)v);
}

void kei_mqtt_put_varint(struct ke_buf *b, unsigned id, uint32_t v)
{
    kei_buf_addc(b, (char)id);
    kei_mqtt_add_varint(b, v);
}

void kei_mqtt_put_str(struct ke_buf *b, unsigned id, struct ke_str s)
{
    kei_buf_addc(b, (char)id);
    kei_mqtt_add_str(b, s);
}

void kei_mqtt_put_user(struct ke_buf *b, struct ke_str name, struct ke_str value)
{
    kei_mqtt_put_str(b, KEI_MQTT_P_USER, name);
    kei_mqtt_add_str(b, value);
}
