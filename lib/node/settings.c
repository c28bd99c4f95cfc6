/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edgecore.yaml of upstream, both API versions, and our own keys under libkubeedge. Keys that
 * upstream knows and that have no meaning here are accepted silently; others are reported. Loop
 * thread.
 */
#include <stdio.h>
#include <string.h>

#include <kubeedge/eventbus.h>

#include "base/file.h"
#include "base/json.h"
#include "base/loop.h"
#include "base/yaml.h"
#include "message/dialect.h"
#include "node/config.h"

#define FILE_MAX_BYTES (1024u * 1024u)
#define LIST_MAX 1000

struct ke_node_settings {
    struct ke_ctx *ctx;
    struct kei_arena arena;
    struct ke_node_config config;
};

/* One reading of a file. */
struct reader {
    struct ke_node_settings *s;
    const struct kei_yaml *yaml;
    struct ke_str doc;
    const char *path; /* of the file */
    void (*unknown)(void *user, const char *key, uint32_t line);
    void *user;
    bool upstream, has_bus; /* kind: EdgeCore; modules.eventBus is there */
};

typedef int (*take_fn)(struct reader *r, const char *key, struct ke_str value);

static uint32_t line_of(const struct reader *r, struct ke_str v)
{
    return kei_yaml_line(r->yaml, 0, (size_t)(v.p - r->doc.p));
}

static int wrong(const struct reader *r, const char *key, struct ke_str v, const char *what)
{
    uint32_t line = line_of(r, v);
    if (line == 0)
        return kei_fail(r->s->ctx, KE_EINVAL, "%s: %s %s", r->path, key, what);
    return kei_fail(r->s->ctx, KE_EINVAL, "%s:%u: %s %s", r->path, (unsigned)line, key, what);
}

/* ---- values ---- */

static int text(struct reader *r, const char *key, struct ke_str v, const char **ret)
{
    if (kei_json_type(v) == 'n')
        return 0;
    if (kei_json_type(v) != '"')
        return wrong(r, key, v, "is not a string");
    const char *s = kei_json_strdup(v, &r->s->arena);
    if (!s)
        return kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
    if (s[0])
        *ret = s;
    return 0;
}

static int number(struct reader *r, const char *key, struct ke_str v, uint32_t scale, uint32_t *ret)
{
    int64_t n = 0;
    if (kei_json_type(v) != '0' || !kei_json_i64(v, &n) || n < 0 || n > UINT32_MAX / scale)
        return wrong(r, key, v, "is not a number of that size");
    *ret = (uint32_t)n * scale;
    return 0;
}

/* "10s", "1m30s", "5m", or a bare number of seconds; as Go writes durations */
static int duration(struct reader *r, const char *key, struct ke_str v, uint32_t *ret_ms)
{
    if (kei_json_type(v) == '0')
        return number(r, key, v, 1000, ret_ms);
    if (kei_json_type(v) != '"')
        return wrong(r, key, v, "is not a duration such as 10s");
    uint64_t total = 0, n = 0;
    bool digits = false;
    for (size_t i = 1; i + 1 < v.n; i++) {
        char c = v.p[i];
        if (c >= '0' && c <= '9' && n < 100000000) {
            n = n * 10 + (uint64_t)(c - '0');
            digits = true;
            continue;
        }
        bool ms = c == 'm' && i + 2 < v.n && v.p[i + 1] == 's';
        uint64_t unit = ms ? 1 : c == 's' ? 1000 : c == 'm' ? 60000 : c == 'h' ? 3600000 : 0;
        if (!digits || unit == 0)
            return wrong(r, key, v, "is not a duration such as 10s");
        total += n * unit;
        n = 0;
        digits = false;
        i += ms;
    }
    if (digits || total > UINT32_MAX)
        return wrong(r, key, v, "is not a duration such as 10s");
    *ret_ms = (uint32_t)total;
    return 0;
}

/* [scheme://]HOST:PORT[/...] */
static int host_port(struct reader *r, const char *key, struct ke_str v, const char **ret_host,
                     uint32_t *ret_port)
{
    const char *whole = NULL;
    int e = text(r, key, v, &whole);
    if (e < 0 || !whole)
        return e;
    const char *start = strstr(whole, "://");
    start = start ? start + 3 : whole;
    size_t n = strcspn(start, "/");
    struct ke_str s = kei_strn(start, n);
    const char *colon = NULL;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] == ':')
            colon = s.p + i;
    uint64_t port = 0;
    if (!colon || colon == s.p ||
        !kei_str_u64(kei_strn(colon + 1, (size_t)(s.p + s.n - colon - 1)), &port) || port == 0 ||
        port > 65535)
        return wrong(r, key, v, "is not HOST:PORT");
    *ret_host = kei_arena_strdup(&r->s->arena, kei_strn(s.p, (size_t)(colon - s.p)));
    if (!*ret_host)
        return kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
    *ret_port = (uint32_t)port;
    return 0;
}

static int labels(struct reader *r, const char *key, struct ke_str v)
{
    struct ke_node_config *c = &r->s->config;
    struct ke_str k, item;
    if (kei_json_type(v) == 'n')
        return 0;
    if (kei_json_type(v) != '{')
        return wrong(r, key, v, "is not a map");
    struct ke_env *list = kei_arena_array(&r->s->arena, LIST_MAX, sizeof *list);
    uint32_t n = 0;
    if (!list)
        return kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
    for (size_t it = 0; kei_json_next(v, &it, &k, &item); n++) {
        if (n == LIST_MAX)
            return wrong(r, key, v, "has more than 1000 entries");
        const char *value = "";
        char *name = NULL;
        int e = text(r, key, item, &value);
        if (e == 0) /* k is without its quotes */
            e = kei_json_text(&name, kei_strn(k.p - 1, k.n + 2), &r->s->arena, kei_err(r->s->ctx));
        list[n].name = name;
        list[n].value = value;
        if (e < 0)
            return e;
    }
    c->labels = list;
    c->n_labels = n;
    return 0;
}

static int taints(struct reader *r, const char *key, struct ke_str v)
{
    struct ke_node_config *c = &r->s->config;
    struct ke_str k, item, f;
    if (kei_json_type(v) == 'n')
        return 0;
    if (kei_json_type(v) != '[')
        return wrong(r, key, v, "is not a list");
    struct ke_taint *list = kei_arena_array(&r->s->arena, LIST_MAX, sizeof *list);
    uint32_t n = 0;
    if (!list)
        return kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
    for (size_t it = 0; kei_json_next(v, &it, &k, &item); n++) {
        if (n == LIST_MAX)
            return wrong(r, key, v, "has more than 1000 entries");
        int e = 0;
        list[n].value = "";
        if (kei_json_get(item, "key", &f))
            e = text(r, key, f, &list[n].key);
        if (e == 0 && kei_json_get(item, "value", &f))
            e = text(r, key, f, &list[n].value);
        if (e == 0 && kei_json_get(item, "effect", &f))
            e = text(r, key, f, &list[n].effect);
        if (e < 0)
            return e;
        if (!list[n].key || !list[n].effect)
            return wrong(r, key, item, "has an entry without key or effect");
    }
    if (n > 0) {
        c->taints = list;
        c->n_taints = n;
    }
    return 0;
}

static int paths(struct reader *r, const char *key, struct ke_str v, const char *const **ret,
                 uint32_t *ret_n)
{
    struct ke_str k, item;
    if (kei_json_type(v) != '[')
        return wrong(r, key, v, "is not a list");
    const char **list = kei_arena_array(&r->s->arena, LIST_MAX, sizeof *list);
    uint32_t n = 0;
    if (!list)
        return kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
    for (size_t it = 0; kei_json_next(v, &it, &k, &item); n++) {
        if (n == LIST_MAX)
            return wrong(r, key, v, "has more than 1000 entries");
        int e = text(r, key, item, &list[n]);
        if (e < 0)
            return e;
        if (!list[n])
            return wrong(r, key, item, "is empty");
    }
    *ret = list;
    *ret_n = n;
    return 0;
}

/* ---- keys ---- */

#define TAKE(name) static int name(struct reader *r, const char *key, struct ke_str v)
#define CONFIG (&r->s->config)

TAKE(take_process_allow)
{
    return paths(r, key, v, &CONFIG->process_allow, &CONFIG->n_process_allow);
}
TAKE(take_host_path_allow)
{
    return paths(r, key, v, &CONFIG->host_path_allow, &CONFIG->n_host_path_allow);
}
TAKE(take_name)
{
    return text(r, key, v, &CONFIG->name);
}
TAKE(take_ip)
{
    return text(r, key, v, &CONFIG->node_ip);
}
TAKE(take_token)
{
    return text(r, key, v, &CONFIG->token);
}
TAKE(take_project)
{
    return text(r, key, v, &CONFIG->project_id);
}
TAKE(take_ca)
{
    return text(r, key, v, &CONFIG->ca_file);
}
TAKE(take_cert)
{
    return text(r, key, v, &CONFIG->cert_file);
}
TAKE(take_key)
{
    return text(r, key, v, &CONFIG->key_file);
}
TAKE(take_heartbeat)
{
    return number(r, key, v, 1000, &CONFIG->heartbeat_ms);
}
TAKE(take_max_pods)
{
    return number(r, key, v, 1, &CONFIG->max_pods);
}
TAKE(take_status)
{
    return duration(r, key, v, &CONFIG->status_ms);
}
TAKE(take_retry_min)
{
    return duration(r, key, v, &CONFIG->retry_min_ms);
}
TAKE(take_retry_max)
{
    return duration(r, key, v, &CONFIG->retry_max_ms);
}
TAKE(take_stray_grace)
{
    return duration(r, key, v, &CONFIG->stray_ms);
}
TAKE(take_data)
{
    return text(r, key, v, &CONFIG->data);
}
TAKE(take_runtime)
{
    return text(r, key, v, &CONFIG->runtime);
}
TAKE(take_proxy)
{
    return text(r, key, v, &CONFIG->proxy_url);
}
TAKE(take_user)
{
    return text(r, key, v, &CONFIG->process_user);
}
TAKE(take_server)
{
    return host_port(r, key, v, &CONFIG->cloud_host, &CONFIG->tunnel_port);
}

TAKE(take_http)
{
    const char *host = NULL;
    int e = host_port(r, key, v, &host, &CONFIG->cert_port);
    if (e == 0 && host && !CONFIG->cloud_host)
        CONFIG->cloud_host = host;
    return e;
}

TAKE(take_dialect)
{
    const char *s = NULL;
    int e = text(r, key, v, &s);
    if (e == 0 && s && !kei_dialect_parse(s, &CONFIG->dialect))
        return wrong(r, key, v, "is not auto, 1.4, 1.15 or 1.23");
    return e;
}

/* ---- modules.eventBus: present and not disabled, it means upstream's default, a broker outside; so
 * does its absence from upstream's own file, whose keys are changes of upstream's defaults ---- */

#define MQTT_OFF 0x80000000u /* enable: false; kept until the file is read */

static void mqtt_present(struct ke_node_config *c)
{
    if ((c->mqtt & ~MQTT_OFF) == KE_NODE_MQTT_NONE)
        c->mqtt |= KE_NODE_MQTT_EXTERNAL;
}

TAKE(take_mqtt_enable)
{
    if (kei_json_type(v) != 't' && kei_json_type(v) != 'f')
        return wrong(r, key, v, "is neither true nor false");
    mqtt_present(CONFIG);
    if (!kei_json_bool(v, true))
        CONFIG->mqtt |= MQTT_OFF;
    return 0;
}

TAKE(take_mqtt_mode)
{
    static const uint32_t modes[] = {KE_NODE_MQTT_INTERNAL, KE_NODE_MQTT_BOTH,
                                     KE_NODE_MQTT_EXTERNAL};
    uint32_t mode = 0;
    int e = number(r, key, v, 1, &mode);
    if (e == 0 && mode > 2)
        return wrong(r, key, v, "is not 0 (internal), 1 (both) or 2 (external)");
    if (e == 0)
        CONFIG->mqtt = (CONFIG->mqtt & MQTT_OFF) | modes[mode];
    return e;
}

TAKE(take_mqtt_internal)
{
    const char *host = NULL;
    uint32_t port = 0;
    int e = host_port(r, key, v, &host, &port);
    mqtt_present(CONFIG);
    if (e < 0 || !host)
        return e;
    const char *name = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
    CONFIG->mqtt_listen = kei_arena_printf(&r->s->arena, "%s:%u", name, (unsigned)port);
    return CONFIG->mqtt_listen ? 0
                               : kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
}

static int mqtt_text(struct reader *r, const char *key, struct ke_str v, const char **ret)
{
    mqtt_present(&r->s->config);
    return text(r, key, v, ret);
}

TAKE(take_mqtt_external)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_url);
}

TAKE(take_mqtt_client)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_client_id);
}

/* One connection does both: the subscriber's name counts, and the publisher's if there is no other.
 */
TAKE(take_mqtt_pub_client)
{
    return CONFIG->mqtt_client_id ? 0 : take_mqtt_client(r, key, v);
}

TAKE(take_mqtt_user)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_user);
}

TAKE(take_mqtt_password)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_password);
}

TAKE(take_mqtt_ca)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_ca_file);
}

TAKE(take_mqtt_cert)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_cert_file);
}

TAKE(take_mqtt_key)
{
    return mqtt_text(r, key, v, &CONFIG->mqtt_key_file);
}

static int mqtt_flag(struct reader *r, const char *key, struct ke_str v, uint32_t flag)
{
    if (kei_json_type(v) != 't' && kei_json_type(v) != 'f')
        return wrong(r, key, v, "is neither true nor false");
    if (kei_json_bool(v, false))
        r->s->config.mqtt_flags |= flag;
    return 0;
}

TAKE(take_mqtt_module)
{
    return text(r, key, v, &CONFIG->mqtt_module);
}

TAKE(take_mqtt_tls)
{
    return mqtt_flag(r, key, v, KE_EVENTBUS_TLS);
}

TAKE(take_mqtt_keep)
{
    return mqtt_flag(r, key, v, KE_EVENTBUS_KEEP_SESSION);
}

TAKE(take_mqtt_qos)
{
    mqtt_present(CONFIG);
    int e = number(r, key, v, 1, &CONFIG->mqtt_qos);
    return e == 0 && CONFIG->mqtt_qos > 2 ? wrong(r, key, v, "is not 0, 1 or 2") : e;
}

TAKE(take_mqtt_retain)
{
    if (kei_json_type(v) != 't' && kei_json_type(v) != 'f')
        return wrong(r, key, v, "is neither true nor false");
    CONFIG->mqtt_retain = kei_json_bool(v, false);
    return 0;
}

TAKE(take_mqtt_queue)
{
    return number(r, key, v, 1, &CONFIG->mqtt_queue);
}

/* TLS is of use only if it is switched on: its files have defaults that need not exist. */
static void settle_mqtt(const struct reader *r)
{
    struct ke_node_config *c = &r->s->config;
    if (r->upstream && !r->has_bus)
        mqtt_present(c);
    if (c->mqtt & MQTT_OFF)
        c->mqtt = KE_NODE_MQTT_NONE;
    if (!(c->mqtt_flags & KE_EVENTBUS_TLS))
        c->mqtt_ca_file = c->mqtt_cert_file = c->mqtt_key_file = NULL;
}

TAKE(take_kind)
{
    (void)key;
    r->upstream = kei_str_is(v, "\"EdgeCore\"");
    return 0;
}

TAKE(ignore)
{
    (void)r, (void)key, (void)v;
    return 0;
}

/* ---- modules.deviceTwin ---- */

TAKE(take_twin_enable)
{
    if (kei_json_type(v) != 't' && kei_json_type(v) != 'f')
        return wrong(r, key, v, "is neither true nor false");
    if (!kei_json_bool(v, true))
        CONFIG->flags |= KE_NODE_NO_DEVICES;
    return 0;
}

/* From 1.23 on it is the folder, before the file. */
TAKE(take_dmi)
{
    int e = text(r, key, v, &CONFIG->dmi_socket);
    if (e < 0 || !CONFIG->dmi_socket || kei_str_ends(kei_str(CONFIG->dmi_socket), KEI_STR(".sock")))
        return e;
    CONFIG->dmi_socket = kei_arena_printf(&r->s->arena, "%s/dmi.sock", CONFIG->dmi_socket);
    return CONFIG->dmi_socket ? 0 : KE_ENOMEM;
}

static int node_flag(struct reader *r, const char *key, struct ke_str v, uint32_t flag)
{
    if (kei_json_type(v) != 't' && kei_json_type(v) != 'f')
        return wrong(r, key, v, "is neither true nor false");
    if (kei_json_bool(v, false))
        CONFIG->flags |= flag;
    return 0;
}

TAKE(take_twin_strict)
{
    return node_flag(r, key, v, KE_NODE_TWIN_STRICT);
}

TAKE(take_twin_old_topics)
{
    return node_flag(r, key, v, KE_NODE_TWIN_OLD_TOPICS);
}

TAKE(take_drivers)
{
    return text(r, key, v, &CONFIG->drivers);
}

#define KUBELET "modules.edged.tailoredKubeletConfig."
static const struct {
    const char *key; /* a '*' at the end: all below */
    take_fn take;
} keys[] = {
    {"apiVersion", ignore},
    {"kind", take_kind},
    {"edgecoreVersion", ignore},
    {"database.*", ignore},
    {"featureGates.*", ignore},
    {"modules.edgeHub.heartbeat", take_heartbeat},
    {"modules.edgeHub.projectID", take_project},
    {"modules.edgeHub.httpServer", take_http},
    {"modules.edgeHub.token", take_token},
    {"modules.edgeHub.tlsCaFile", take_ca},
    {"modules.edgeHub.tlsCertFile", take_cert},
    {"modules.edgeHub.tlsPrivateKeyFile", take_key},
    {"modules.edgeHub.websocket.server", take_server},
    {"modules.edgeHub.websocket.enable", ignore},
    {"modules.edgeHub.websocket.handshakeTimeout", ignore},
    {"modules.edgeHub.websocket.readDeadline", ignore},
    {"modules.edgeHub.websocket.writeDeadline", ignore},
    {"modules.edgeHub.quic.*", ignore},
    {"modules.edgeHub.enable", ignore},
    {"modules.edgeHub.rotateCertificates", ignore},
    {"modules.edgeHub.messageQPS", ignore},
    {"modules.edgeHub.messageBurst", ignore},
    {"modules.edged.hostnameOverride", take_name},
    {"modules.edged.nodeIP", take_ip},
    {"modules.edged.nodeLabels", labels},
    {"modules.edged.labels", labels},
    {"modules.edged.registerWithTaints", taints},
    {"modules.edged.taints", taints},
    {"modules.edged.nodeStatusUpdateFrequency", take_status},
    {KUBELET "nodeStatusUpdateFrequency", take_status},
    {KUBELET "registerWithTaints", taints},
    {KUBELET "maxPods", take_max_pods},
    {"modules.edged.*", ignore},
    {"modules.eventBus.enable", take_mqtt_enable},
    {"modules.eventBus.mqttMode", take_mqtt_mode},
    {"modules.eventBus.mqttServerInternal", take_mqtt_internal},
    {"modules.eventBus.mqttServerExternal", take_mqtt_external},
    {"modules.eventBus.mqttSubClientID", take_mqtt_client},
    {"modules.eventBus.mqttPubClientID", take_mqtt_pub_client},
    {"modules.eventBus.mqttUsername", take_mqtt_user},
    {"modules.eventBus.mqttPassword", take_mqtt_password},
    {"modules.eventBus.mqttQOS", take_mqtt_qos},
    {"modules.eventBus.mqttRetain", take_mqtt_retain},
    {"modules.eventBus.mqttSessionQueueSize", take_mqtt_queue},
    {"modules.eventBus.eventBusTLS.enable", take_mqtt_tls},
    {"modules.eventBus.eventBusTLS.tlsMqttCAFile", take_mqtt_ca},
    {"modules.eventBus.eventBusTLS.tlsMqttCertFile", take_mqtt_cert},
    {"modules.eventBus.eventBusTLS.tlsMqttPrivateKeyFile", take_mqtt_key},
    {"modules.eventBus.*", ignore},
    {"modules.metaManager.*", ignore},
    {"modules.serviceBus.*", ignore},
    {"modules.deviceTwin.enable", take_twin_enable},
    {"modules.deviceTwin.dmiSockPath", take_dmi},
    {"modules.deviceTwin.*", ignore},
    {"modules.dbTest.*", ignore},
    {"modules.edgeStream.*", ignore},
    {"modules.taskManager.*", ignore},
    {"modules.edgeMesh.*", ignore},
    {"libkubeedge.data", take_data},
    {"libkubeedge.runtime", take_runtime},
    {"libkubeedge.processAllow", take_process_allow},
    {"libkubeedge.hostPathAllow", take_host_path_allow},
    {"libkubeedge.processUser", take_user},
    {"libkubeedge.dialect", take_dialect},
    {"libkubeedge.proxy", take_proxy},
    {"libkubeedge.retryMin", take_retry_min},
    {"libkubeedge.retryMax", take_retry_max},
    {"libkubeedge.strayGrace", take_stray_grace},
    {"libkubeedge.drivers", take_drivers},
    {"libkubeedge.twinStrict", take_twin_strict},
    {"libkubeedge.twinOldTopics", take_twin_old_topics},
    {"libkubeedge.mqttQueue", take_mqtt_queue},
    {"libkubeedge.mqttKeepSession", take_mqtt_keep},
    {"libkubeedge.mqttModule", take_mqtt_module},
};

/* Below edged many keys are upstream's own: their names are not checked one by one. */
static bool matches(const char *pattern, const char *key)
{
    size_t n = strlen(pattern);
    if (pattern[n - 1] != '*')
        return strcmp(pattern, key) == 0;
    n -= 2; /* without ".*": the map itself, and all below it */
    return strncmp(pattern, key, n) == 0 && (key[n] == 0 || key[n] == '.');
}

/* A map that some known key lies below. */
static bool leads_on(const char *key)
{
    size_t n = strlen(key);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strncmp(keys[i].key, key, n) == 0 && keys[i].key[n] == '.' &&
            strcmp(keys[i].key + n, ".*") != 0)
            return true;
    return false;
}

static int take_key_value(struct reader *r, const char *key, struct ke_str v, bool *ret_down)
{
    *ret_down = kei_json_type(v) == '{' && leads_on(key);
    r->has_bus |= strcmp(key, "modules.eventBus") == 0;
    if (*ret_down)
        return 0;
    if (kei_json_type(v) != 'n' && leads_on(key))
        return wrong(r, key, v, "is not a map");
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (matches(keys[i].key, key))
            return keys[i].take(r, key, v);
    if (strncmp(key, "modules", 8) == 0 || kei_json_type(v) == 'n')
        return 0;
    if (r->unknown)
        r->unknown(r->user, key, line_of(r, v));
    return 0;
}

/* The file is as deep as its schema: four levels lead on, what is below belongs to a key. */
#define LEVELS 6

static int walk(struct reader *r)
{
    char key[512] = "";
    struct ke_str at[LEVELS] = {r->doc}, k, v;
    size_t it[LEVELS] = {0}, len[LEVELS] = {0};
    int level = 0;
    while (level >= 0) {
        if (!kei_json_next(at[level], &it[level], &k, &v)) {
            level--;
            continue;
        }
        int n = snprintf(key + len[level], sizeof key - len[level], "%s%.*s", level ? "." : "",
                         (int)(k.n > 100 ? 100 : k.n), k.p);
        bool down = false;
        int e = take_key_value(r, key, v, &down);
        if (e < 0)
            return e;
        if (down && level + 1 < LEVELS) {
            len[level + 1] = len[level] + (size_t)n;
            at[++level] = v;
            it[level] = 0;
        }
    }
    return 0;
}

static bool exists(const struct ke_io *io, const char *path)
{
    struct ke_io_stat st = {.size = sizeof st};
    return path && io->stat(io->user, path, &st) == 0;
}

/* Upstream's file names are where it will write what it fetches: they count once they are there. */
static void drop_missing_files(struct ke_node_settings *s)
{
    const struct ke_io *io = kei_ctx_io(s->ctx);
    struct ke_node_config *c = &s->config;
    bool uri = c->key_file && c->key_file[0] != '/' && strchr(c->key_file, ':');
    if (exists(io, c->ca_file) && exists(io, c->cert_file) && (uri || exists(io, c->key_file)))
        return;
    c->ca_file = c->cert_file = NULL;
    if (!uri)
        c->key_file = NULL;
}

static int read_document(struct reader *r, struct ke_str source)
{
    struct ke_node_settings *s = r->s;
    struct kei_yaml *y = NULL;
    int e = kei_yaml_parse(&y, kei_ctx_alloc(s->ctx), source, FILE_MAX_BYTES, kei_err(s->ctx));
    if (e < 0)
        return kei_error_prefix(kei_err(s->ctx), e, "%s", r->path);
    if (kei_yaml_count(y) != 1 || kei_json_type(kei_yaml_get(y, 0)->json) != '{') {
        kei_yaml_free(y);
        return kei_fail(s->ctx, KE_EPARSE, "%s: is not one YAML map", r->path);
    }
    r->yaml = y;
    r->doc = kei_yaml_get(y, 0)->json;
    e = walk(r);
    kei_yaml_free(y);
    return e;
}

int ke_node_settings_read(struct ke_node_settings **ret, struct ke_ctx *ctx, const char *path,
                          void (*unknown)(void *user, const char *key, uint32_t line), void *user)
{
    struct ke_buf source = {0};
    if (!ret || !ctx || !path)
        return KE_EINVAL;
    struct ke_node_settings *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);
    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for %s", path);
    s->ctx = ctx;
    kei_arena_init(&s->arena, kei_ctx_alloc(ctx), 0);
    ke_node_config_init(&s->config, sizeof s->config);
    kei_buf_init(&source, kei_ctx_alloc(ctx));
    struct reader r = {.s = s, .path = path, .unknown = unknown, .user = user};
    int e = kei_file_read(kei_ctx_io(ctx), path, FILE_MAX_BYTES, &source, kei_err(ctx));
    if (e == 0)
        e = read_document(&r, kei_buf_str(&source));
    ke_buf_free(&source);
    if (e < 0) {
        ke_node_settings_free(s);
        return e;
    }
    drop_missing_files(s);
    settle_mqtt(&r);
    *ret = s;
    return 0;
}

struct ke_node_config *ke_node_settings_config(struct ke_node_settings *s)
{
    return s ? &s->config : NULL;
}

void ke_node_settings_free(struct ke_node_settings *s)
{
    if (!s)
        return;
    kei_arena_free(&s->arena);
    kei_free(kei_ctx_alloc(s->ctx), s);
}
