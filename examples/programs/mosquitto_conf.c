/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See mosquitto_conf.h. The keys stand in one table: where the value goes, what it may be. What was
 * read becomes the configuration when all is read, as keys may come in any order.
 */
#include "mosquitto_conf_priv.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FILE_MAX (16l << 20)
#define LISTENERS_MAX 1000
#define BRIDGES_MAX 1000
#define TOPICS_MAX 10000

/* ---- memory and messages ---- */

struct block {
    struct block *next;
    max_align_t data[];
};

void *mc_take(struct inside *in, size_t n)
{
    struct block *b = calloc(1, sizeof *b + n);
    if (!b)
        return NULL;
    b->next = in->blocks;
    in->blocks = b;
    return b->data;
}

int mc_say(struct inside *in, int what, const char *format, ...)
{
    char text[700];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (in->say)
        in->say(in->user, what, in->file, in->line, text);
    return what == MC_ERROR ? -1 : 0;
}

const char *mc_keep_n(struct inside *in, const char *s, size_t n)
{
    char *copy = mc_take(in, n + 1);
    if (copy)
        memcpy(copy, s, n);
    else
        mc_say(in, MC_ERROR, "out of memory");
    return copy;
}

const char *mc_keep(struct inside *in, const char *s)
{
    return mc_keep_n(in, s, strlen(s));
}

/* An array of one more element; the old one stays with the other blocks. */
static void *grow(struct inside *in, void *old, unsigned n, size_t size)
{
    if (n & (n - 1)) /* room for powers of two */
        return old;
    void *p = mc_take(in, (n ? 2 * (size_t)n : 1) * size);
    if (p && n)
        memcpy(p, old, n * size);
    if (!p)
        mc_say(in, MC_ERROR, "out of memory");
    return p;
}

/* ---- values ---- */

static char *skip(char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

/* The next word, cut off; NULL: none. */
static char *word(char **rest)
{
    char *s = skip(*rest), *end = s + strcspn(s, " \t");
    if (!*s)
        return NULL;
    *rest = *end ? end + 1 : end;
    *end = 0;
    return s;
}

static int empty(struct inside *in)
{
    return mc_say(in, MC_ERROR, "%s has no value", in->key);
}

static int parse_bool(struct inside *in, char *rest, int64_t *to)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    if (strcmp(v, "true") == 0 || strcmp(v, "1") == 0)
        *to = 1;
    else if (strcmp(v, "false") == 0 || strcmp(v, "0") == 0)
        *to = 0;
    else
        return mc_say(in, MC_ERROR, "%s is \"%s\": neither true nor false", in->key, v);
    return 0;
}

int mc_number(struct inside *in, const char *v, int64_t min, int64_t max, int64_t *to)
{
    char *end;
    errno = 0;
    int64_t n = strtoll(v, &end, 10);
    if (errno || end == v || *end || n < min || n > max)
        return mc_say(in, MC_ERROR, "%s is \"%s\": no number from %lld to %lld", in->key, v,
                      (long long)min, (long long)max);
    *to = n;
    return 0;
}

static int parse_number(struct inside *in, char *rest, int64_t min, int64_t max, int64_t *to)
{
    char *v = word(&rest);
    return v ? mc_number(in, v, min, max, to) : empty(in);
}

static int parse_text(struct inside *in, char *rest, const char **to)
{
    if (!*rest)
        return empty(in);
    if (*to)
        return mc_say(in, MC_ERROR, "%s is given twice", in->key);
    *to = mc_keep(in, rest);
    return *to ? 0 : -1;
}

/* ---- keys with a meaning of their own ---- */

static void listener_init(struct raw_listener *l)
{
    *l = (struct raw_listener){.port = -1,
                               .max_connections = -1,
                               .max_qos = -1,
                               .max_topic_alias = -1,
                               .require_certificate = -1,
                               .use_identity = -1,
                               .use_subject = -1,
                               .anonymous = -1,
                               .sec = {.anonymous = -1}};
}

static struct raw_listener *listener(struct inside *in)
{
    return &in->listeners[in->listener];
}

static int add_listener(struct inside *in)
{
    if (in->n_listeners >= LISTENERS_MAX)
        return mc_say(in, MC_ERROR, "there are over %d listeners", LISTENERS_MAX);
    void *p = grow(in, in->listeners, in->n_listeners, sizeof *in->listeners);
    if (!p)
        return -1;
    in->listeners = p;
    in->listener = in->n_listeners++;
    listener_init(listener(in));
    listener(in)->line = in->line;
    listener(in)->file = in->file;
    return 0;
}

/* listener PORT [ADDRESS|PATH] */
static int key_listener(struct inside *in, char *rest)
{
    int64_t port = 0;
    char *v = word(&rest);
    if (!v)
        return empty(in);
    if (mc_number(in, v, 0, 65535, &port) < 0)
        return -1;
    rest = skip(rest);
    if (*rest == '#')
        *rest = 0;
    if (port == 0 && !*rest)
        return mc_say(in, MC_ERROR, "listener 0 needs the path of a unix socket");
    if (add_listener(in) < 0)
        return -1;
    struct raw_listener *l = listener(in);
    l->port = port;
    l->used = true;
    if (!*rest)
        return 0;
    return parse_text(in, rest, port == 0 ? &l->path : &l->host);
}

static int key_port(struct inside *in, char *rest)
{
    struct raw_listener *l = &in->listeners[0];
    if (l->port >= 0)
        mc_say(in, MC_WARN, "port is given twice: the last one counts");
    l->used = true;
    return parse_number(in, rest, 1, 65535, &l->port);
}

static int key_bind_address(struct inside *in, char *rest)
{
    in->listeners[0].used = true;
    return parse_text(in, rest, &in->listeners[0].host);
}

static int key_socket_domain(struct inside *in, char *rest)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    if (strcmp(v, "ipv4") != 0 && strcmp(v, "ipv6") != 0)
        return mc_say(in, MC_ERROR, "socket_domain is \"%s\": neither ipv4 nor ipv6", v);
    listener(in)->family = v[3] - '0';
    return 0;
}

static int key_protocol(struct inside *in, char *rest)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    if (strcmp(v, "mqtt") != 0 && strcmp(v, "websockets") != 0)
        return mc_say(in, MC_ERROR, "protocol is \"%s\": neither mqtt nor websockets", v);
    listener(in)->websockets = v[0] == 'w';
    return 0;
}

static int key_tls_version(struct inside *in, char *rest)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    if (strcmp(v, "tlsv1.2") == 0)
        return 0;
    if (strcmp(v, "tlsv1.1") == 0 || strcmp(v, "tlsv1") == 0)
        return mc_say(in, MC_WARN, "%s is %s: TLS 1.2 is the least that is spoken here", in->key,
                      v);
    if (strcmp(v, "tlsv1.3") == 0)
        return mc_say(in, MC_WARN, "%s is tlsv1.3: TLS 1.2 is accepted, too", in->key);
    return mc_say(in, MC_ERROR, "%s is \"%s\": not tlsv1.3, tlsv1.2 or tlsv1.1", in->key, v);
}

/* Leaving it out would open a listener without encryption. */
static int key_psk(struct inside *in, char *rest)
{
    (void)rest;
    return mc_say(in, MC_ERROR, "%s: pre-shared keys are not supported; use certificates", in->key);
}

/* 0: any, as later versions of mosquitto have it. */
static int key_max_keepalive(struct inside *in, char *rest)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    return mc_number(in, v, strcmp(v, "0") == 0 ? 0 : 10, 65535, &in->g.max_keepalive);
}

static int key_expiry(struct inside *in, char *rest)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'h', 3600}, {'d', 86400}, {'w', 604800}, {'m', 2592000}, {'y', 31536000}};
    char *v = word(&rest);
    if (!v)
        return empty(in);
    char *end;
    errno = 0;
    int64_t n = strtoll(v, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (end != v && end[0] == units[i].unit && !end[1] && !errno && n > 0) {
            int64_t most = INT64_C(0xfffffffe) / units[i].seconds;
            in->g.expiry = (n > most ? most : n) * units[i].seconds;
            return 0;
        }
    return mc_say(in, MC_ERROR, "%s is \"%s\": not a number with h, d, w, m or y behind it",
                  in->key, v);
}

static int key_log_dest(struct inside *in, char *rest)
{
    static const char *const dests[] = {"stderr", "stdout", "syslog", "file", "none"};
    char *v = word(&rest);
    if (!v)
        return empty(in);
    for (unsigned i = 0; i < 5; i++)
        if (strcmp(v, dests[i]) == 0) {
            in->g.log_dest |= 1u << i;
            if (i == 3)
                in->g.log_file = NULL;
            return i == 3 ? parse_text(in, skip(rest), &in->g.log_file) : 0;
        }
    if (strcmp(v, "topic") == 0 || strcmp(v, "dlt") == 0)
        return mc_say(in, MC_WARN, "log_dest %s has no counterpart here", v);
    return mc_say(in, MC_ERROR, "log_dest is \"%s\": not stderr, stdout, syslog, file or none", v);
}

static int key_log_type(struct inside *in, char *rest)
{
    static const struct {
        const char *word;
        unsigned level; /* KE_LOG_* */
    } types[] = {{"none", 0},
                 {"error", KE_LOG_ERROR},
                 {"warning", KE_LOG_WARN},
                 {"notice", KE_LOG_INFO},
                 {"information", KE_LOG_INFO},
                 {"all", KE_LOG_DEBUG},
                 {"debug", KE_LOG_DEBUG},
                 {"subscribe", KE_LOG_DEBUG},
                 {"unsubscribe", KE_LOG_DEBUG},
                 {"websockets", KE_LOG_DEBUG},
                 {"internal", KE_LOG_DEBUG}};
    char *v = word(&rest);
    if (!v)
        return empty(in);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(v, types[i].word) == 0) {
            in->g.log_typed = true;
            if (types[i].level > in->g.log_types)
                in->g.log_types = types[i].level;
            return 0;
        }
    return mc_say(in, MC_ERROR, "log_type is \"%s\", which is none of its types", v);
}

static int key_connection_messages(struct inside *in, char *rest)
{
    int64_t on = 1;
    if (parse_bool(in, rest, &on) < 0)
        return -1;
    return on ? 0
              : mc_say(in, MC_WARN,
                       "connection_messages false: clients that come and go are told with "
                       "log_type information; leave that one out");
}

/* ---- bridges ---- */

static struct raw_bridge *bridge(struct inside *in)
{
    return in->n_bridges ? &in->bridges[in->n_bridges - 1] : NULL;
}

static int key_connection(struct inside *in, char *rest)
{
    if (in->n_bridges >= BRIDGES_MAX)
        return mc_say(in, MC_ERROR, "there are over %d bridges", BRIDGES_MAX);
    void *p = grow(in, in->bridges, in->n_bridges, sizeof *in->bridges);
    if (!p)
        return -1;
    in->bridges = p;
    in->n_bridges++;
    *bridge(in) = (struct raw_bridge){.line = in->line,
                                      .file = in->file,
                                      .clean = -1,
                                      .notify = -1,
                                      .notify_local = -1,
                                      .try_private = -1,
                                      .insecure = -1,
                                      .keepalive = -1,
                                      .retry_min = -1,
                                      .retry_max = -1,
                                      .version = -1,
                                      .max_packet = -1};
    char *v = word(&rest);
    if (!v)
        return empty(in);
    for (unsigned i = 0; i + 1 < in->n_bridges; i++)
        if (strcmp(in->bridges[i].name, v) == 0) {
            in->n_bridges--;
            return mc_say(in, MC_ERROR, "connection %s is there twice", v);
        }
    return parse_text(in, v, &bridge(in)->name);
}

static int key_address(struct inside *in, char *rest)
{
    struct raw_bridge *b = bridge(in);
    if (b->n_addresses > 0)
        return mc_say(in, MC_ERROR, "%s is given twice", in->key);
    for (char *v; (v = word(&rest)) != NULL && v[0] != '#';) {
        if (b->n_addresses == MC_ADDRESSES_MAX)
            return mc_say(in, MC_ERROR, "%s has over %d of them", in->key, MC_ADDRESSES_MAX);
        b->addresses[b->n_addresses] = mc_keep(in, v);
        if (!b->addresses[b->n_addresses++])
            return -1;
    }
    return b->n_addresses ? 0 : empty(in);
}

/* "" stands for nothing. */
static int keep_prefix(struct inside *in, char **rest, const char **to)
{
    char *v = *rest ? word(rest) : NULL;
    *to = NULL;
    if (!v || v[0] == '#') {
        *rest = NULL;
        return 0;
    }
    *to = mc_keep(in, strcmp(v, "\"\"") == 0 ? "" : v);
    return *to ? 0 : -1;
}

/* topic PATTERN [out|in|both [QOS [LOCAL-PREFIX [REMOTE-PREFIX]]]] */
static int key_topic(struct inside *in, char *rest)
{
    struct raw_bridge *b = bridge(in);
    struct ke_bridge_topic t = {.size = sizeof t, .direction = KE_BRIDGE_OUT};
    int64_t qos = 0;
    char *v = word(&rest);
    if (!v)
        return empty(in);
    t.pattern = mc_keep(in, strcmp(v, "\"\"") == 0 ? "" : v);
    if (!t.pattern)
        return -1;
    v = word(&rest);
    if (v && v[0] != '#') {
        t.direction = strcasecmp(v, "out") == 0    ? KE_BRIDGE_OUT
                      : strcasecmp(v, "in") == 0   ? KE_BRIDGE_IN
                      : strcasecmp(v, "both") == 0 ? KE_BRIDGE_BOTH
                                                   : 0;
        if (!t.direction)
            return mc_say(in, MC_ERROR, "the direction of topic %s is \"%s\": not out, in or both",
                          t.pattern, v);
        v = word(&rest);
        if (v && v[0] != '#') {
            if (mc_number(in, v, 0, 2, &qos) < 0)
                return -1;
            if (keep_prefix(in, &rest, &t.local_prefix) < 0 ||
                keep_prefix(in, &rest, &t.remote_prefix) < 0)
                return -1;
        }
    }
    t.qos = (uint32_t)qos;
    if (b->n_topics >= TOPICS_MAX)
        return mc_say(in, MC_ERROR, "connection %s has over %d topics", b->name, TOPICS_MAX);
    void *p = grow(in, b->topics, b->n_topics, sizeof t);
    if (!p)
        return -1;
    b->topics = p;
    b->topics[b->n_topics++] = t;
    return 0;
}

static int key_bridge_version(struct inside *in, char *rest)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    bridge(in)->version = strcmp(v, "mqttv50") == 0 ? 5 : 4;
    if (strcmp(v, "mqttv31") == 0)
        return mc_say(in, MC_WARN, "%s is mqttv31: 3.1.1 is spoken instead", in->key);
    if (strcmp(v, "mqttv50") != 0 && strcmp(v, "mqttv311") != 0)
        return mc_say(in, MC_ERROR, "%s is \"%s\": not mqttv50, mqttv311 or mqttv31", in->key, v);
    return 0;
}

static int key_restart_timeout(struct inside *in, char *rest)
{
    struct raw_bridge *b = bridge(in);
    char *first = word(&rest), *second = word(&rest);
    if (!first)
        return empty(in);
    if (mc_number(in, first, 1, 3600, &b->retry_min) < 0)
        return -1;
    b->retry_max = b->retry_min;
    if (second && mc_number(in, second, 1, 86400, &b->retry_max) < 0)
        return -1;
    if (b->retry_max < b->retry_min)
        return mc_say(in, MC_ERROR, "%s: %lld is less than %lld", in->key, (long long)b->retry_max,
                      (long long)b->retry_min);
    return 0;
}

static int key_start_type(struct inside *in, char *rest)
{
    char *v = word(&rest);
    if (!v)
        return empty(in);
    if (strcmp(v, "automatic") == 0)
        return 0;
    if (strcmp(v, "lazy") == 0 || strcmp(v, "once") == 0)
        return mc_say(in, MC_WARN,
                      "start_type %s has no counterpart here: the bridge starts at once and "
                      "again whenever it fails",
                      v);
    return mc_say(in, MC_ERROR, "start_type is \"%s\": not automatic, lazy or once", v);
}

/* ---- included folders ---- */

static int read_file(struct inside *in, const char *path);

static int is_conf(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 5 && strcmp(e->d_name + n - 5, ".conf") == 0;
}

/* Alphabetical; of the same letter the upper case one first. */
static int in_order(const struct dirent **a, const struct dirent **b)
{
    int r = strcasecmp((*a)->d_name, (*b)->d_name);
    return r ? r : strcmp((*a)->d_name, (*b)->d_name);
}

static int key_include_dir(struct inside *in, char *rest)
{
    struct dirent **names = NULL;
    const char *file = in->file, *folder = NULL;
    unsigned line = in->line;
    if (parse_text(in, rest, &folder) < 0)
        return -1;
    if (!in->follow || in->depth > 1)
        return mc_say(in, MC_WARN, "include_dir is followed from the main file only");
    int n = scandir(folder, &names, is_conf, in_order), r = 0;
    if (n < 0)
        return mc_say(in, MC_ERROR, "include_dir %s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char path[4096];
        int len = snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        if (r == 0 && len > 0 && (size_t)len < sizeof path)
            r = read_file(in, path);
        free(names[i]);
    }
    free(names);
    in->file = file;
    in->line = line;
    return r;
}

/* ---- the table ---- */

enum kind { BOOL, NUMBER, TEXT, CALL, NOTHING, NONE };
enum scope { G, L, S, B };

struct key {
    const char *name;
    enum kind kind;
    enum scope scope;
    size_t at; /* in struct raw_global, raw_listener, security, raw_bridge */
    int64_t min, max;
    int (*call)(struct inside *in, char *rest);
};

#define G_(m) G, offsetof(struct raw_global, m)
#define L_(m) L, offsetof(struct raw_listener, m)
#define S_(m) S, offsetof(struct security, m)
#define B_(m) B, offsetof(struct raw_bridge, m)
#define MILLIARD 1000000000

/* NOTHING: what it asks for is always so here. NONE: no counterpart, which is said. */
static const struct key keys[] = {
    {"accept_protocol_versions", NONE},
    {"acl_file", TEXT, S_(acl_file)},
    {"address", CALL, B, .call = key_address},
    {"addresses", CALL, B, .call = key_address},
    {"allow_anonymous", BOOL, S_(anonymous)},
    {"allow_duplicate_messages", NOTHING},
    {"allow_zero_length_clientid", BOOL, G_(empty_id)},
    {"auth_plugin", NONE},
    {"auth_plugin_deny_special_chars", NOTHING},
    {"auto_id_prefix", TEXT, G_(auto_id_prefix)},
    {"autosave_interval", NOTHING},
    {"autosave_on_changes", NOTHING},
    {"bind_address", CALL, G, .call = key_bind_address},
    {"bind_interface", NONE},
    {"bridge_alpn", NONE},
    {"bridge_attempt_unsubscribe", NOTHING},
    {"bridge_bind_address", NONE},
    {"bridge_cafile", TEXT, B_(cafile)},
    {"bridge_capath", NONE},
    {"bridge_certfile", TEXT, B_(certfile)},
    {"bridge_ciphers", NONE},
    {"bridge_ciphers_tls1.3", NONE},
    {"bridge_identity", CALL, G, .call = key_psk},
    {"bridge_insecure", BOOL, B_(insecure)},
    {"bridge_keyfile", TEXT, B_(keyfile)},
    {"bridge_max_packet_size", NUMBER, B_(max_packet), 0, 268435460},
    {"bridge_outgoing_retain", NONE},
    {"bridge_protocol_version", CALL, B, .call = key_bridge_version},
    {"bridge_psk", CALL, G, .call = key_psk},
    {"bridge_require_ocsp", NONE},
    {"bridge_tls_version", CALL, G, .call = key_tls_version},
    {"cafile", TEXT, L_(cafile)},
    {"capath", NONE},
    {"certfile", TEXT, L_(certfile)},
    {"check_retain_source", NONE},
    {"ciphers", NONE},
    {"ciphers_tls1.3", NONE},
    {"cleansession", BOOL, B_(clean)},
    {"clientid", TEXT, B_(client_id)},
    {"clientid_prefixes", NONE},
    {"connection", CALL, G, .call = key_connection},
    {"connection_messages", CALL, G, .call = key_connection_messages},
    {"crlfile", TEXT, L_(crlfile)},
    {"dhparamfile", NOTHING},
    {"enable_control_api", NONE},
    {"enable_proxy_protocol", NONE},
    {"global_max_clients", NUMBER, G_(all_clients), -1, MILLIARD},
    {"global_max_connections", NUMBER, G_(all_connections), -1, MILLIARD},
    {"global_plugin", NONE},
    {"http_dir", NONE},
    {"idle_timeout", NONE},
    {"include_dir", CALL, G, .call = key_include_dir},
    {"keepalive_interval", NUMBER, B_(keepalive), 5, 65535},
    {"keyfile", TEXT, L_(keyfile)},
    {"listener", CALL, G, .call = key_listener},
    {"listener_allow_anonymous", BOOL, L_(anonymous)},
    {"local_cleansession", NONE},
    {"local_clientid", TEXT, B_(local_client_id)},
    {"local_password", NOTHING}, /* a bridge is no client here */
    {"local_username", NOTHING},
    {"log_dest", CALL, G, .call = key_log_dest},
    {"log_facility", NUMBER, G_(log_facility), 0, 7},
    {"log_timestamp", BOOL, G_(log_time)},
    {"log_timestamp_format", TEXT, G_(log_format)},
    {"log_type", CALL, G, .call = key_log_type},
    {"max_connections", NUMBER, L_(max_connections), -1, MILLIARD},
    {"max_inflight_bytes", NUMBER, G_(max_inflight_bytes), 0, MILLIARD},
    {"max_inflight_messages", NUMBER, G_(max_inflight), 0, 65535},
    {"max_keepalive", CALL, G, .call = key_max_keepalive},
    {"max_packet_size", NUMBER, G_(max_packet), 20, 268435460},
    {"max_qos", NUMBER, L_(max_qos), 0, 2},
    {"max_queued_bytes", NUMBER, G_(max_queued_bytes), 0, 0x7fffffffl},
    {"max_queued_messages", NUMBER, G_(max_queued), 0, MILLIARD},
    {"max_topic_alias", NUMBER, L_(max_topic_alias), 0, 65535},
    {"maximum_qos", NUMBER, L_(max_qos), 0, 2},
    {"memory_limit", NONE},
    {"message_size_limit", NUMBER, G_(max_payload), 0, 268435455},
    {"mount_point", TEXT, L_(mount_point)},
    {"notification_topic", TEXT, B_(notify_topic)},
    {"notifications", BOOL, B_(notify)},
    {"notifications_local_only", BOOL, B_(notify_local)},
    {"packet_buffer_size", NOTHING},
    {"password", TEXT, B_(password)},
    {"password_file", TEXT, S_(password_file)},
    {"per_listener_settings", BOOL, G_(per_listener)},
    {"persistence", BOOL, G_(persistence)},
    {"persistence_file", TEXT, G_(db_file)},
    {"persistence_location", TEXT, G_(location)},
    {"persistent_client_expiration", CALL, G, .call = key_expiry},
    {"pid_file", TEXT, G_(pid_file)},
    {"plugin", NONE},
    {"port", CALL, G, .call = key_port},
    {"protocol", CALL, G, .call = key_protocol},
    {"psk_file", CALL, G, .call = key_psk},
    {"psk_hint", CALL, G, .call = key_psk},
    {"queue_qos0_messages", BOOL, G_(queue_qos0)},
    {"remote_clientid", TEXT, B_(client_id)},
    {"remote_password", TEXT, B_(password)},
    {"remote_username", TEXT, B_(user_name)},
    {"require_certificate", BOOL, L_(require_certificate)},
    {"restart_timeout", CALL, B, .call = key_restart_timeout},
    {"retain_available", BOOL, G_(retain_available)},
    {"retain_expiry_interval", NONE},
    {"retained_persistence", BOOL, G_(persistence)}, /* the old name */
    {"retry_interval", NOTHING},
    {"round_robin", NONE},
    {"set_tcp_nodelay", NOTHING},
    {"socket_domain", CALL, G, .call = key_socket_domain},
    {"start_type", CALL, B, .call = key_start_type},
    {"sys_interval", NUMBER, G_(sys_interval), 0, 65535},
    {"threshold", NONE},
    {"tls_engine", NONE},
    {"tls_engine_kpass_sha1", NONE},
    {"tls_keyform", NONE},
    {"tls_version", CALL, G, .call = key_tls_version},
    {"topic", CALL, B, .call = key_topic},
    {"try_private", BOOL, B_(try_private)},
    {"upgrade_outgoing_qos", BOOL, G_(upgrade_qos)},
    {"use_identity_as_username", BOOL, L_(use_identity)},
    {"use_subject_as_username", BOOL, L_(use_subject)},
    {"use_username_as_clientid", NONE},
    {"user", TEXT, G_(user)},
    {"username", TEXT, B_(user_name)},
    {"websockets_headers_size", NOTHING},
    {"websockets_log_level", NOTHING},
    {"websockets_origin", NONE},
};

static void *place(struct inside *in, const struct key *k)
{
    char *base = k->scope == G             ? (char *)&in->g
                 : k->scope == L           ? (char *)listener(in)
                 : k->scope == B           ? (char *)bridge(in)
                 : in->g.per_listener == 1 ? (char *)&listener(in)->sec
                                           : (char *)&in->g.sec;
    return base + k->at;
}

static int take_key(struct inside *in, const struct key *k, char *rest)
{
    if (k->scope == B && !bridge(in))
        return mc_say(in, MC_ERROR, "%s stands before any connection", k->name);
    switch (k->kind) {
    case BOOL:
        return parse_bool(in, rest, place(in, k));
    case NUMBER:
        return parse_number(in, rest, k->min, k->max, place(in, k));
    case TEXT:
        return parse_text(in, rest, place(in, k));
    case CALL:
        return k->call(in, rest);
    case NOTHING:
        return 0;
    case NONE:
        break;
    }
    return mc_say(in, MC_WARN, "%s has no counterpart here", k->name);
}

static int by_name(const void *name, const void *k)
{
    return strcmp(name, ((const struct key *)k)->name);
}

/* text is changed. */
static int read_line(struct inside *in, char *text)
{
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    if (text[0] == '#')
        return 0;
    char *rest = text, *name = word(&rest);
    if (!name)
        return 0;
    in->key = name;
    const struct key *k =
        bsearch(name, keys, sizeof keys / sizeof keys[0], sizeof keys[0], by_name);
    if (k)
        return take_key(in, k, skip(rest));
    if (strncmp(name, "auth_opt_", 9) == 0 || strncmp(name, "plugin_opt_", 11) == 0)
        return mc_say(in, MC_WARN, "%s has no counterpart here", name);
    return mc_say(in, MC_WARN, "%s is not known", name);
}

static int read_text(struct inside *in, const char *text, size_t n)
{
    in->line = 0;
    while (n > 0) {
        const char *end = memchr(text, '\n', n);
        size_t len = end ? (size_t)(end - text) : n;
        char *line = strndup(text, len);
        in->line++;
        if (!line)
            return mc_say(in, MC_ERROR, "out of memory");
        int r = strlen(line) == len ? read_line(in, line)
                                    : mc_say(in, MC_ERROR, "there is a NUL in the line");
        free(line);
        if (r < 0)
            return -1;
        len += end != NULL;
        text += len;
        n -= len;
    }
    return 0;
}

static int read_file(struct inside *in, const char *path)
{
    in->line = 0;
    in->file = path; /* for the message, until there is a copy */
    in->file = mc_keep(in, path);
    FILE *f = in->file ? fopen(path, "re") : NULL;
    if (!f)
        return in->file ? mc_say(in, MC_ERROR, "%s", strerror(errno)) : -1;
    size_t n = 0, cap = 65536;
    char *text = malloc(cap);
    while (text && n <= FILE_MAX) {
        size_t got = fread(text + n, 1, cap - n, f);
        n += got;
        if (got == 0)
            break;
        if (n == cap) {
            char *more = realloc(text, cap *= 2);
            if (!more)
                free(text);
            text = more;
        }
    }
    int bad = ferror(f) ? errno ? errno : EIO : 0;
    fclose(f);
    int r = !text          ? mc_say(in, MC_ERROR, "out of memory")
            : bad          ? mc_say(in, MC_ERROR, "%s", strerror(bad))
            : n > FILE_MAX ? mc_say(in, MC_ERROR, "over %ld bytes", FILE_MAX)
                           : 0;
    in->depth++;
    if (r == 0)
        r = read_text(in, text, n);
    in->depth--;
    free(text);
    return r;
}

/* ---- from outside ---- */

static struct inside *begin(mc_say_fn fn, void *user)
{
    struct inside *in = calloc(1, sizeof *in);
    if (!in) {
        if (fn)
            fn(user, MC_ERROR, "", 0, "out of memory");
        return NULL;
    }
    in->say = fn;
    in->user = user;
    in->file = "";
    in->conf.inside = in;
    int64_t *g = &in->g.per_listener; /* the numbers stand first */
    for (size_t i = 0; i < offsetof(struct raw_global, location) / sizeof *g; i++)
        g[i] = -1;
    in->g.sec.anonymous = -1;
    return in;
}

static struct mosquitto_conf *end(struct inside *in, int r)
{
    if (r == 0 && mc_finish(in) == 0)
        return &in->conf;
    mosquitto_conf_free(&in->conf);
    return NULL;
}

struct mosquitto_conf *mosquitto_conf_read(const char *path, mc_say_fn fn, void *user)
{
    struct inside *in = begin(fn, user);
    if (!in)
        return NULL;
    in->follow = true;
    in->file = path;
    int r = add_listener(in);
    return end(in, r < 0 ? r : read_file(in, path));
}

struct mosquitto_conf *mosquitto_conf_text(const char *name, const char *text, size_t n,
                                           mc_say_fn fn, void *user)
{
    struct inside *in = begin(fn, user);
    if (!in)
        return NULL;
    in->file = mc_keep(in, name);
    int r = in->file ? add_listener(in) : -1;
    return end(in, r < 0 ? r : read_text(in, text, n));
}

void mosquitto_conf_free(struct mosquitto_conf *c)
{
    struct inside *in = c ? c->inside : NULL;
    if (!in)
        return;
    for (struct block *b = in->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(in);
}
