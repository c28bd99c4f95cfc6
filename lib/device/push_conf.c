/* SPDX-License-Identifier: Apache-2.0 */
/* pushMethod of a property: what of it can be executed, and why the rest cannot. Pure. */
#include "device/push.h"

#include <stdio.h>

#include "base/codec.h"
#include "net/http_text.h"

/* Nothing says in which unit the timeout is, and KubeEdge's mappers do not look at it: taken as ms,
 * within bounds that make sense whatever was meant. */
#define TIMEOUT_MIN_MS 1000
#define TIMEOUT_MAX_MS 30000
#define TIMEOUT_DEFAULT_MS 10000

static const char no_url[] = "";

static uint32_t timeout_of(int64_t t)
{
    if (t <= 0)
        return TIMEOUT_DEFAULT_MS;
    return (uint32_t)(t < TIMEOUT_MIN_MS ? TIMEOUT_MIN_MS : t > TIMEOUT_MAX_MS ? TIMEOUT_MAX_MS : t);
}

static void bad(struct kei_push_conf *c, const char *why)
{
    c->kind = KEI_PUSH_NONE;
    c->bad = why;
}

/* hostName has its scheme, as KubeEdge's mappers want it; a bare host is plain HTTP. */
static int read_http(struct kei_push_conf *c, const struct kei_push_method *m, struct kei_arena *a)
{
    struct ke_str host = kei_str(m->http_host);
    const struct ke_str plain = KEI_STR("http://");

    c->kind = KEI_PUSH_HTTP;
    c->port = m->http_port ? (uint16_t)m->http_port : 80;
    c->timeout_ms = timeout_of(m->http_timeout);
    if (host.n >= plain.n && kei_str_ieq(kei_strn(host.p, plain.n), plain))
        host = kei_strn(host.p + plain.n, host.n - plain.n);
    while (host.n && host.p[host.n - 1] == '/')
        host.n--;
    const char *path = m->http_path[0] == '/' ? m->http_path
                                              : kei_arena_printf(a, "/%s", m->http_path);
    c->host = kei_arena_strdup(a, host);
    c->target = path;
    if (!path || !c->host)
        return KE_ENOMEM;
    c->url = kei_arena_printf(a, "http://%s:%u%s", c->host, c->port, path);
    if (!c->url)
        return KE_ENOMEM;
    if (m->http_port < 0 || m->http_port > 65535)
        bad(c, "its port is not within 1 to 65535");
    else if (kei_str_has(host, KEI_STR("://")))
        bad(c, "only http:// is supported");
    else if (!host.n || memchr(host.p, '/', host.n))
        bad(c, "its hostName is no host");
    else if (!kei_http_target_ok(path))
        bad(c, "its requestPath has invalid characters");
    return 0;
}

static int read_mqtt(struct kei_push_conf *c, const struct kei_push_method *m, struct kei_arena *a)
{
    c->kind = KEI_PUSH_MQTT;
    c->host = m->mqtt_address;
    c->target = m->mqtt_topic;
    c->qos = (uint8_t)m->mqtt_qos;
    c->retained = m->mqtt_retained;
    c->timeout_ms = TIMEOUT_MAX_MS;
    c->url = m->mqtt_address[0] ? kei_arena_printf(a, "MQTT server %s", m->mqtt_address)
                                : "the MQTT server of the node";
    if (!c->url)
        return KE_ENOMEM;
    if (m->mqtt_qos < 0 || m->mqtt_qos > 2)
        bad(c, "its qos is none of 0, 1, 2");
    else if (!m->mqtt_topic[0] || strpbrk(m->mqtt_topic, "+#"))
        bad(c, "its topic is missing or has a wildcard");
    return 0;
}

/* Which database: the first member of dbMethod. */
static int read_db(struct kei_push_conf *c, struct ke_str db, struct kei_arena *a)
{
    struct ke_str key, v;
    size_t it = 0;
    char name[32] = "";

    if (kei_json_next(db, &it, &key, &v))
        snprintf(name, sizeof name, "%.*s", KEI_FMT(key));
    c->method = name[0] ? kei_arena_printf(a, "dbMethod %s", name) : "dbMethod";
    bad(c, "it is not supported");
    return c->method ? 0 : KE_ENOMEM;
}

int kei_push_read(struct kei_push_conf *ret, const struct kei_push_method *m, struct kei_arena *a)
{
    struct ke_str v;
    int n = 0, r = 0;

    if (!m->raw.n)
        return 0;
    for (int i = 0; i < KEI_PUSH_METHODS; i++)
        ret[i] = (struct kei_push_conf){
            .method = "", .host = no_url, .target = no_url, .url = no_url, .bad = ""};
    if (kei_json_get(m->raw, "http", &v) && kei_json_type(v) == '{') {
        ret[n].method = "http";
        r = read_http(&ret[n++], m, a);
    }
    if (r == 0 && kei_json_get(m->raw, "mqtt", &v) && kei_json_type(v) == '{') {
        ret[n].method = "mqtt";
        r = read_mqtt(&ret[n++], m, a);
    }
    if (kei_json_get(m->raw, "otel", &v) && kei_json_type(v) == '{') {
        ret[n].method = "otel";
        bad(&ret[n++], "it is not supported");
    }
    if (r == 0 && m->db.n && kei_json_type(m->db) == '{')
        r = read_db(&ret[n++], m->db, a);
    if (m->anomaly.n && kei_json_type(m->anomaly) == '{') {
        ret[n].method = "anomalyDetection";
        bad(&ret[n++], "it is not supported");
    }
    return r < 0 ? r : n;
}

/* "2026-01-02 03:04:05" */
static void add_time(struct ke_buf *out, int64_t when_ms)
{
    char text[KEI_TIME_MAX];

    kei_time_rfc3339(text, when_ms);
    kei_buf_addf(out, "%.10s %.8s", text, text + 11);
}

void kei_push_http_body(struct ke_buf *out, const char *property, struct ke_str value,
                        int64_t when_ms)
{
    kei_buf_adds(out, property);
    kei_buf_addc(out, '=');
    kei_buf_addv(out, value);
    kei_buf_adds(out, "&time=");
    add_time(out, when_ms);
}

void kei_push_mqtt_payload(struct ke_buf *out, const char *topic, struct ke_str value,
                           int64_t when_ms)
{
    kei_buf_adds(out, "time is ");
    add_time(out, when_ms);
    kei_buf_addf(out, "  %s: ", topic);
    kei_buf_addv(out, value);
}
