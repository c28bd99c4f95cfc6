/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pushMethod of a property says, as it can be executed. Pure; memory is the arena's.
 */
#ifndef KEI_DEVICE_PUSH_H
#define KEI_DEVICE_PUSH_H

#include "base/arena.h"
#include "message/devmodel.h"

#define KEI_PUSH_METHODS 5 /* of one property: http, mqtt, otel, dbMethod, anomalyDetection */

enum kei_push_kind { KEI_PUSH_NONE, KEI_PUSH_HTTP, KEI_PUSH_MQTT };

struct kei_push_conf {
    enum kei_push_kind kind; /* NONE: bad says why it is not executed */
    const char *method;      /* as the object names it: "http", "dbMethod influxdb2" */
    const char *host;        /* http: name or address; mqtt: the address as it came, "": our own */
    const char *target;      /* http: path; mqtt: topic */
    const char *url;         /* where values go: for texts, and to tell servers apart */
    const char *bad;         /* "" */
    uint32_t timeout_ms;
    uint16_t port;
    uint8_t qos;
    bool retained;
};

/* Up to KEI_PUSH_METHODS of them; their number, or KE_ENOMEM. */
int kei_push_read(struct kei_push_conf *ret, const struct kei_push_method *m, struct kei_arena *a);
/* What goes out, in the form of KubeEdge's mappers; when_ms is Unix time, told in UTC. */
void kei_push_http_body(struct ke_buf *out, const char *property, struct ke_str value,
                        int64_t when_ms);
void kei_push_mqtt_payload(struct ke_buf *out, const char *topic, struct ke_str value,
                           int64_t when_ms);

#endif
