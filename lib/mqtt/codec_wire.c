/* SPDX-License-Identifier: Apache-2.0 */
/* The primitive types of MQTT, the fixed header, names of packets and reasons. Pure. */
#include "mqtt/codec_wire.h"

#include <stdarg.h>

#include "base/error.h"

#include <stdio.h>

const char *kei_mqtt_type_name(unsigned type)
{
    static const char *const names[] = {"reserved",  "CONNECT",  "CONNACK",     "PUBLISH",
                                        "PUBACK",    "PUBREC",   "PUBREL",      "PUBCOMP",
                                        "SUBSCRIBE", "SUBACK",   "UNSUBSCRIBE", "UNSUBACK",
                                        "PINGREQ",   "PINGRESP", "DISCONNECT",  "AUTH"};

    return type < 16 ? names[type] : names[0];
}

const char *kei_mqtt_reason_text(unsigned reason)
{
    static const struct {
        uint8_t code;
        const char *text;
    } texts[] = {
        {KEI_MQTT_R_OK, "success"},
        {KEI_MQTT_R_WITH_WILL, "disconnected with will"},
        {KEI_MQTT_R_NO_SUBSCRIBERS, "no matching subscribers"},
        {KEI_MQTT_R_NO_SUBSCRIPTION, "no subscription existed"},
        {KEI_MQTT_R_CONTINUE, "continue authentication"},
        {KEI_MQTT_R_REAUTH, "authenticate again"},
        {KEI_MQTT_R_UNSPECIFIED, "unspecified error"},
        {KEI_MQTT_R_MALFORMED, "malformed packet"},
        {KEI_MQTT_R_PROTOCOL, "protocol error"},
        {KEI_MQTT_R_IMPLEMENTATION, "implementation specific error"},
        {KEI_MQTT_R_VERSION, "unsupported protocol version"},
        {KEI_MQTT_R_CLIENT_ID, "client identifier not valid"},
        {KEI_MQTT_R_BAD_LOGIN, "bad user name or password"},
        {KEI_MQTT_R_NOT_AUTHORIZED, "not authorized"},
        {KEI_MQTT_R_UNAVAILABLE, "server unavailable"},
        {KEI_MQTT_R_BUSY, "server busy"},
        {KEI_MQTT_R_BANNED, "banned"},
        {KEI_MQTT_R_SHUTTING_DOWN, "server shutting down"},
        {KEI_MQTT_R_AUTH_METHOD, "bad authentication method"},
        {KEI_MQTT_R_KEEPALIVE, "keepalive timeout"},
        {KEI_MQTT_R_TAKEN_OVER, "session taken over"},
        {KEI_MQTT_R_FILTER, "topic filter invalid"},
        {KEI_MQTT_R_TOPIC, "topic name invalid"},
        {KEI_MQTT_R_PID_IN_USE, "packet identifier in use"},
        {KEI_MQTT_R_PID_NOT_FOUND, "packet identifier not found"},
        {KEI_MQTT_R_RECEIVE_MAX, "receive maximum exceeded"},
        {KEI_MQTT_R_ALIAS, "topic alias invalid"},
        {KEI_MQTT_R_PACKET_TOO_LARGE, "packet too large"},
        {KEI_MQTT_R_RATE, "message rate too high"},
        {KEI_MQTT_R_QUOTA, "quota exceeded"},
        {KEI_MQTT_R_ADMIN, "administrative action"},
        {KEI_MQTT_R_FORMAT, "payload format invalid"},
        {KEI_MQTT_R_NO_RETAIN, "retain not supported"},
        {KEI_MQTT_R_NO_QOS, "QoS not supported"},
        {KEI_MQTT_R_USE_OTHER, "use another server"},
        {KEI_MQTT_R_MOVED, "server moved"},
        {KEI_MQTT_R_NO_SHARED, "shared subscriptions not supported"},
        {KEI_MQTT_R_CONNECT_RATE, "connection rate exceeded"},
        {KEI_MQTT_R_MAX_CONNECT_TIME, "maximum connect time"},
        {KEI_MQTT_R_NO_SUBID, "subscription identifiers not supported"},
        {KEI_MQTT_R_NO_WILDCARD, "wildcard subscriptions not supported"},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].code == reason)
            return texts[i].text;
    return "unknown reason";
}

uint8_t kei_mqtt_connack_v3(unsigned reason)
{
    switch (reason) {
    case KEI_MQTT_R_OK:
        return 0;
    case KEI_MQTT_R_VERSION:
        return 1;
    case KEI_MQTT_R_CLIENT_ID:
        return 2;
    case KEI_MQTT_R_BAD_LOGIN:
        return 4;
    case KEI_MQTT_R_NOT_AUTHORIZED:
    case KEI_MQTT_R_BANNED:
    case KEI_MQTT_R_AUTH_METHOD:
    case KEI_MQTT_R_PACKET_TOO_LARGE: /* of a will: to try again is of no use */
        return 5;
    default:
        return 3;
    }
}

/* ---- the fixed header ---- */

static bool flags_ok(uint8_t first)
{
    switch (first >> 4) {
    case 0:
        return false;
    case KEI_MQTT_CONNECT: /* 3.1 gave them no meaning; decode_connect's caller checks */
        return true;
    case KEI_MQTT_PUBLISH:
        return (first >> 1 & 3) != 3;
    case KEI_MQTT_PUBREL: /* 3.1 may mark it as sent again; kei_mqtt_frame's caller checks */
        return (first & 7) == 2;
    case KEI_MQTT_SUBSCRIBE:
    case KEI_MQTT_UNSUBSCRIBE:
        return (first & 15) == 2;
    default:
        return (first & 15) == 0;
    }
}

int kei_mqtt_frame(const uint8_t *p, size_t n, struct kei_mqtt_frame *ret)
{
    uint32_t v = 0;

    if (n == 0)
        return 0;
    if (!flags_ok(p[0]))
        return -1;
    for (unsigned i = 1; i < 5; i++) {
        if (i >= n)
            return 0;
        v |= (uint32_t)(p[i] & 127) << 7 * (i - 1);
        if (!(p[i] & 128)) {
            ret->first = p[0];
            ret->head = (uint8_t)(i + 1);
            ret->length = v;
            return 1;
        }
    }
    return -1;
}

unsigned kei_mqtt_varint(uint8_t out[4], uint32_t v)
{
    unsigned n = 0;

    do {
        uint8_t c = v & 127;
        v >>= 7;
        out[n++] = v ? (uint8_t)(c | 128) : c;
    } while (v && n < 4);
    return n;
}

unsigned kei_mqtt_varint_size(uint32_t v)
{
    return v < 128 ? 1 : v < 16384 ? 2 : v < 2097152 ? 3 : 4;
}

bool kei_rd_varint(struct kei_rd *r, uint32_t *v)
{
    uint32_t x = 0;

    for (unsigned i = 0; i < 4 && r->p + i < r->end; i++) {
        x |= (uint32_t)(r->p[i] & 127) << 7 * i;
        if (!(r->p[i] & 128)) {
            if (i > 0 && r->p[i] == 0)
                return false; /* longer than it has to be */
            r->p += i + 1;
            *v = x;
            return true;
        }
    }
    return false;
}

/* ---- text ---- */

static bool char_ok(const char *p, size_t n)
{
    const uint8_t *u = (const uint8_t *)p;

    if (n == 1)
        return u[0] >= 0x20 && u[0] != 0x7f;
    if (n == 2)
        return !(u[0] == 0xc2 && u[1] < 0xa0); /* U+0080..U+009F */
    if (n == 3) {
        unsigned c = (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u);
        return !(c >= 0xfdd0 && c <= 0xfdef) && c < 0xfffe;
    }
    return !((u[1] & 15) == 15 && u[2] == 0xbf && u[3] >= 0xbe); /* U+nFFFE, U+nFFFF */
}

bool kei_mqtt_text_ok(struct ke_str s)
{
    size_t i = 0;

    while (i < s.n) {
        uint8_t c = (uint8_t)s.p[i];
        if (c >= 0x20 && c < 0x7f) {
            i++;
            continue;
        }
        size_t n = kei_utf8_next(s.p + i, s.n - i);
        if (n == 0 || !char_ok(s.p + i, n))
            return false;
        i += n;
    }
    return true;
}

/* ---- writing ---- */

void kei_mqtt_fail(struct ke_buf *b)
{
    kei_buf_room(b, SIZE_MAX); /* fails, and marks it */
}

void kei_mqtt_add_head(struct ke_buf *b, unsigned first, size_t length)
{
    if (length > 268435455u) {
        kei_mqtt_fail(b);
        return;
    }
    kei_buf_addc(b, (char)first);
    kei_mqtt_add_varint(b, (uint32_t)length);
}

void kei_mqtt_add_u16(struct ke_buf *b, uint16_t v)
{
    char c[2] = {(char)(v >> 8), (char)v};

    kei_buf_add(b, c, 2);
}

void kei_mqtt_add_varint(struct ke_buf *b, uint32_t v)
{
    uint8_t c[4];

    kei_buf_add(b, c, kei_mqtt_varint(c, v));
}

void kei_mqtt_add_str(struct ke_buf *b, struct ke_str s)
{
    if (s.n > UINT16_MAX) {
        kei_mqtt_fail(b);
        return;
    }
    kei_mqtt_add_u16(b, (uint16_t)s.n);
    kei_buf_addv(b, s);
}

void kei_mqtt_add_props(struct ke_buf *b, unsigned version, struct ke_str raw)
{
    if (version != KEI_MQTT_V5)
        return;
    kei_mqtt_add_varint(b, (uint32_t)raw.n);
    kei_buf_addv(b, raw);
}

size_t kei_mqtt_props_size(unsigned version, struct ke_str raw)
{
    return version == KEI_MQTT_V5 ? kei_mqtt_varint_size((uint32_t)raw.n) + raw.n : 0;
}

/* ---- faults ---- */

int kei_mqtt_bad(struct ke_error *err, int reason, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    if (!err)
        return reason;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    kei_error(err, reason == KEI_MQTT_R_MALFORMED ? KE_EPARSE : KE_EPROTO, "%s", text);
    return reason;
}

int kei_mqtt_short(struct ke_error *err, const char *what)
{
    return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "packet ended inside of %s", what);
}
