/* SPDX-License-Identifier: Apache-2.0 */
/* What goes where between MQTT and the router. Pure; memory is the arena's. */
#include "base/json.h"
#include "mqtt/codec.h"
#include "mqtt/eventbus_priv.h"

static const char *const filters[] = {
    "$hw/events/upload/#",
    "$hw/events/device/+/state/update",
    "$hw/events/device/+/twin/+",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
    NULL,
};

const char *kei_eventbus_filter(uint32_t i)
{
    return i < sizeof filters / sizeof filters[0] ? filters[i] : NULL;
}

int kei_eventbus_route(struct ke_str topic)
{
    return kei_str_starts(topic, KEI_STR("$hw/events/device")) ||
                   kei_str_starts(topic, KEI_STR("$hw/events/node"))
               ? KEI_ROUTE_TWIN
               : KEI_ROUTE_CLOUD;
}

static int read_publish(struct kei_eventbus_order *ret, struct ke_str content, struct kei_arena *a,
                        struct ke_error *err)
{
    struct ke_buf text;
    kei_buf_init(&text, a->alloc);
    int r = kei_json_type(content) == '"'
                ? kei_json_str(content, &text, err)
                : kei_error(err, KE_EINVAL, "the payload for topic %s is no string", ret->topic);
    if (r == 0) {
        ret->payload.p = kei_arena_strdup(a, kei_buf_str(&text));
        ret->payload.n = text.n;
        ret->what = KEI_ORDER_PUBLISH;
    }
    ke_buf_free(&text);
    if (r == 0 && !ret->payload.p)
        r = kei_error(err, KE_ENOMEM, "out of memory for a message on topic %s", ret->topic);
    return r;
}

/* {"message":{"topic":T,...}}: the inner object goes to T */
static int read_message(struct kei_eventbus_order *ret, struct ke_str content, struct kei_arena *a,
                        struct ke_error *err)
{
    struct ke_str inner, topic;
    if (!kei_json_get(content, "message", &inner) || kei_json_type(inner) != '{' ||
        !kei_json_get(inner, "topic", &topic) || !(ret->topic = kei_json_strdup(topic, a)))
        return kei_error(err, KE_EINVAL, "a message for MQTT lacks its topic");
    ret->payload = inner;
    ret->what = KEI_ORDER_PUBLISH;
    return 0;
}

int kei_eventbus_order_read(struct kei_eventbus_order *ret, const struct ke_msg *m,
                            const char *node_name, struct kei_arena *a, struct ke_error *err)
{
    struct ke_str op = kei_str(ke_msg_operation(m)), content;
    int r = 0;
    memset(ret, 0, sizeof *ret);
    content.p = ke_msg_content(m, &content.n);
    ret->topic = kei_arena_strdup(a, kei_str(ke_msg_resource(m)));
    if (!ret->topic)
        return kei_error(err, KE_ENOMEM, "out of memory for topic %s", ke_msg_resource(m));
    if (kei_str_is(op, "publish")) {
        r = read_publish(ret, content, a, err);
    } else if (kei_str_is(op, "subscribe")) {
        ret->what = KEI_ORDER_SUBSCRIBE;
    } else if (kei_str_is(op, "unsubscribe")) {
        ret->what = KEI_ORDER_UNSUBSCRIBE;
    } else if (kei_str_is(op, "message")) {
        r = read_message(ret, content, a, err);
    } else if (kei_str_is(op, "get_result") && strcmp(ret->topic, "auth_info") == 0) {
        ret->topic = kei_arena_printf(a, "$hw/events/node/%s/authInfo/get/result", node_name);
        ret->payload = content;
        ret->what = KEI_ORDER_PUBLISH;
    }
    if (r < 0 || ret->what == KEI_ORDER_NONE)
        return r;
    struct ke_str topic = kei_str(ret->topic);
    bool ok = ret->what == KEI_ORDER_PUBLISH ? kei_mqtt_topic_ok(topic) : kei_mqtt_filter_ok(topic);
    return ok ? 0 : kei_error(err, KE_EINVAL, "\"%s\" is no topic to %s", ret->topic, op.p);
}
