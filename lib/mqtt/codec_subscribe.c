/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE, UNSUBSCRIBE and their answers; and any packet in one line of text. Pure. */
#include "mqtt/codec_wire.h"

static bool is_ack(unsigned type)
{
    return type == KEI_MQTT_SUBACK || type == KEI_MQTT_UNSUBACK;
}

static int check_options(unsigned version, uint8_t o, struct ke_error *err)
{
    if (o & (version == KEI_MQTT_V5 ? 0xc0 : 0xfc))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "reserved subscription options were set");
    if ((o & KEI_MQTT_SUB_QOS) == 3)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "a subscription asked for QoS 3");
    if (KEI_MQTT_SUB_RETAIN(o) == 3)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "retain handling of a subscription was 3");
    return 0;
}

static int check_filter(unsigned version, unsigned type, struct kei_rd *r, struct ke_error *err)
{
    struct ke_str filter;
    uint8_t options;

    if (!kei_rd_bin(r, &filter))
        return kei_mqtt_short(err, "a topic filter");
    if (filter.n == 0 || !kei_mqtt_text_ok(filter))
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED,
                            "a topic filter was empty or not valid UTF-8 text");
    if (type == KEI_MQTT_UNSUBSCRIBE)
        return 0;
    if (!kei_rd_u8(r, &options))
        return kei_mqtt_short(err, "the options of a subscription");
    return check_options(version, options, err);
}

static int check_list(unsigned version, unsigned type, struct ke_str list, struct ke_error *err)
{
    struct kei_rd r = kei_rd(list);

    if (list.n == 0 && !(type == KEI_MQTT_UNSUBACK && version < KEI_MQTT_V5))
        return kei_mqtt_bad(err,
                            type == KEI_MQTT_SUBSCRIBE || type == KEI_MQTT_UNSUBSCRIBE
                                ? KEI_MQTT_R_MALFORMED
                                : KEI_MQTT_R_PROTOCOL,
                            "%s had an empty list", kei_mqtt_type_name(type));
    if (is_ack(type))
        return 0;
    while (r.p < r.end) {
        int why = check_filter(version, type, &r, err);
        if (why)
            return why;
    }
    return 0;
}

int kei_mqtt_decode_subscribe(unsigned version, unsigned type, struct ke_str body,
                              struct kei_mqtt_subscribe *ret, struct ke_error *err)
{
    struct kei_rd r = kei_rd(body);
    size_t at = 0;

    memset(ret, 0, sizeof *ret);
    if (!kei_rd_u16(&r, &ret->pid))
        return kei_mqtt_short(err, "the packet identifier");
    if (ret->pid == 0)
        return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "packet identifier was 0");
    if (version == KEI_MQTT_V5) {
        int why = kei_mqtt_props(type, r.p, kei_rd_left(&r), &at, &ret->props, err);
        if (why)
            return why;
        r.p += at;
    }
    ret->list = kei_rd_rest(&r);
    return check_list(version, type, ret->list, err);
}

bool kei_mqtt_next_filter(const struct kei_mqtt_subscribe *s, unsigned type, size_t *at,
                          struct ke_str *filter, uint8_t *options)
{
    struct kei_rd r = kei_rd(s->list);

    r.p += *at;
    *options = 0;
    if (r.p >= r.end || !kei_rd_bin(&r, filter))
        return false;
    if (type == KEI_MQTT_SUBSCRIBE && !kei_rd_u8(&r, options))
        return false;
    *at = (size_t)(r.p - (const uint8_t *)s->list.p);
    return true;
}

void kei_mqtt_encode_subscribe(struct ke_buf *b, unsigned version, unsigned type,
                               const struct kei_mqtt_subscribe *s)
{
    struct ke_str list =
        type == KEI_MQTT_UNSUBACK && version < KEI_MQTT_V5 ? kei_strn(NULL, 0) : s->list;
    size_t n = 2 + kei_mqtt_props_size(version, s->props.raw) + list.n;

    kei_mqtt_add_head(b, type << 4 | (is_ack(type) ? 0u : 2u), n);
    kei_mqtt_add_u16(b, s->pid);
    kei_mqtt_add_props(b, version, s->props.raw);
    kei_buf_addv(b, list);
}

void kei_mqtt_put_filter(struct ke_buf *b, struct ke_str filter, const uint8_t *options)
{
    kei_mqtt_add_str(b, filter);
    if (options)
        kei_buf_addc(b, (char)*options);
}

void kei_mqtt_describe(struct ke_buf *b, const struct kei_mqtt_frame *f, struct ke_str body)
{
    kei_buf_addf(b, "%s, %zu bytes", kei_mqtt_type_name(kei_mqtt_frame_type(f)), f->head + body.n);
}
