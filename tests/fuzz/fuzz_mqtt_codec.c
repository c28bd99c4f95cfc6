/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT packets of a peer: what is accepted must come out of the encoder and go in again as the
 * same; what is refused has a reason and a text. First byte: the version.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static struct ke_str body_of(const struct ke_buf *b, struct kei_mqtt_frame *f)
{
    MUST(kei_buf_ok(b));
    MUST(kei_mqtt_frame((const uint8_t *)b->p, b->n, f) == 1);
    MUST(f->head + (size_t)f->length == b->n);
    return kei_strn(b->p + f->head, f->length);
}

static void same_props(const struct kei_mqtt_props *a, const struct kei_mqtt_props *b)
{
    struct ke_str name, value;
    size_t at = 0;
    uint32_t n = 0;

    MUST(a->has == b->has && a->n_user == b->n_user && kei_str_eq(a->raw, b->raw));
    while (a->raw.n && kei_mqtt_props_user(a->raw, &at, &name, &value))
        n++;
    MUST(n == a->n_user);
}

static void connect(struct ke_str body, struct ke_buf *b, struct ke_error *err)
{
    struct kei_mqtt_connect a, c;
    struct kei_mqtt_frame f;

    if (kei_mqtt_decode_connect(body, &a, err))
        return;
    kei_mqtt_encode_connect(b, &a);
    MUST(kei_mqtt_decode_connect(body_of(b, &f), &c, NULL) == 0);
    MUST(a.version == c.version && a.has_will == c.has_will && a.keepalive == c.keepalive);
    MUST(kei_str_eq(a.client_id, c.client_id) && kei_str_eq(a.will_payload, c.will_payload));
    MUST(kei_str_eq(a.user_name, c.user_name) && kei_str_eq(a.password, c.password));
    same_props(&a.props, &c.props);
    same_props(&a.will_props, &c.will_props);
}

static void publish(unsigned v, uint8_t first, struct ke_str body, struct ke_buf *b,
                    struct ke_error *err)
{
    struct kei_mqtt_publish a, c;
    struct kei_mqtt_frame f;

    if (kei_mqtt_decode_publish(v, first, body, &a, err))
        return;
    MUST(a.topic.n == 0 || kei_mqtt_topic_ok(a.topic));
    kei_mqtt_encode_publish(b, v, &a);
    struct ke_str again = body_of(b, &f);
    MUST(f.first == first);
    MUST(kei_mqtt_decode_publish(v, f.first, again, &c, NULL) == 0);
    MUST(kei_str_eq(a.topic, c.topic) && kei_str_eq(a.payload, c.payload) && a.pid == c.pid);
    same_props(&a.props, &c.props);
}

static void subscribe(unsigned v, unsigned type, struct ke_str body, struct ke_buf *b,
                      struct ke_error *err)
{
    struct kei_mqtt_subscribe a, c;
    struct kei_mqtt_frame f;
    struct ke_str filter;
    uint8_t options;
    size_t at = 0, n = 0;

    if (kei_mqtt_decode_subscribe(v, type, body, &a, err))
        return;
    kei_mqtt_encode_subscribe(b, v, type, &a);
    MUST(kei_mqtt_decode_subscribe(v, type, body_of(b, &f), &c, NULL) == 0);
    MUST(a.pid == c.pid);
    if (type != KEI_MQTT_SUBSCRIBE && type != KEI_MQTT_UNSUBSCRIBE)
        return;
    MUST(kei_str_eq(a.list, c.list));
    while (kei_mqtt_next_filter(&a, type, &at, &filter, &options)) {
        n++;
        MUST(filter.n > 0);
    }
    MUST(n > 0 && at == a.list.n);
}

static void ack(unsigned v, unsigned type, struct ke_str body, struct ke_buf *b,
                struct ke_error *err)
{
    struct kei_mqtt_ack a, c;
    struct kei_mqtt_frame f;

    if (kei_mqtt_decode_ack(v, type, body, &a, err))
        return;
    kei_mqtt_encode_ack(b, v, type, &a);
    MUST(b->n <= body.n + 5);
    MUST(kei_mqtt_decode_ack(v, type, body_of(b, &f), &c, NULL) == 0);
    MUST(a.pid == c.pid && (a.reason == c.reason || v < KEI_MQTT_V5));
}

static void connack(unsigned v, struct ke_str body, struct ke_buf *b, struct ke_error *err)
{
    struct kei_mqtt_connack a, c;
    struct kei_mqtt_frame f;

    if (kei_mqtt_decode_connack(v, body, &a, err))
        return;
    kei_mqtt_encode_connack(b, v, &a);
    MUST(kei_mqtt_decode_connack(v, body_of(b, &f), &c, NULL) == 0);
    MUST(a.reason == c.reason && a.session_present == c.session_present);
    same_props(&a.props, &c.props);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kei_mqtt_frame f;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf b;

    if (size < 3)
        return 0;
    unsigned v = data[0] & 1 ? KEI_MQTT_V5 : KEI_MQTT_V311;
    if (kei_mqtt_frame(data + 1, size - 1, &f) != 1 || f.head + (size_t)f.length > size - 1)
        return 0;
    struct ke_str body = kei_strn((const char *)data + 1 + f.head, f.length);
    kei_buf_init(&b, NULL);
    switch (kei_mqtt_frame_type(&f)) {
    case KEI_MQTT_CONNECT:
        connect(body, &b, &err);
        break;
    case KEI_MQTT_CONNACK:
        connack(v, body, &b, &err);
        break;
    case KEI_MQTT_PUBLISH:
        publish(v, f.first, body, &b, &err);
        break;
    case KEI_MQTT_SUBSCRIBE:
    case KEI_MQTT_UNSUBSCRIBE:
    case KEI_MQTT_SUBACK:
    case KEI_MQTT_UNSUBACK:
        subscribe(v, kei_mqtt_frame_type(&f), body, &b, &err);
        break;
    case KEI_MQTT_PINGREQ:
    case KEI_MQTT_PINGRESP:
        break;
    default:
        ack(v, kei_mqtt_frame_type(&f), body, &b, &err);
        break;
    }
    ke_buf_free(&b);
    return 0;
}
