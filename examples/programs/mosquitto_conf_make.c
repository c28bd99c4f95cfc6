/* SPDX-License-Identifier: Apache-2.0 */
/* See mosquitto_conf.h: what was read becomes listeners, limits and bridges. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mosquitto_conf_priv.h"

static uint32_t limit(int64_t v) /* 0: none; not given: the default */
{
    return v < 0 ? 0 : v == 0 ? KE_MQTT_NONE : (uint32_t)v;
}

static uint32_t anonymous_flag(struct inside *in, const struct security *s)
{
    if (s->anonymous >= 0)
        return s->anonymous ? KE_MQTT_ANONYMOUS : KE_MQTT_NO_ANONYMOUS;
    return in->conf.local_only ? KE_MQTT_ANONYMOUS : KE_MQTT_NO_ANONYMOUS;
}

/* "1883", "1883 127.0.0.1", "/run/mqtt.sock": the same after a reload */
static const char *listener_name(struct inside *in, const struct raw_listener *l, int64_t port)
{
    char text[600];
    if (l->path)
        return l->path;
    snprintf(text, sizeof text, "%lld%s%s", (long long)port, l->host ? " " : "", l->host ? l->host : "");
    return mc_keep(in, text);
}

static int finish_tls(struct inside *in, const struct raw_listener *r, struct ke_mqtt_listener *l)
{
    in->line = r->line;
    in->file = r->file ? r->file : in->file;
    if (!r->certfile != !r->keyfile)
        return mc_say(in, MC_ERROR, "this listener has only one of certfile and keyfile");
    l->cert_file = r->certfile;
    l->key_file = r->keyfile;
    l->ca_file = r->certfile ? r->cafile : NULL;
    l->crl_file = r->certfile ? r->crlfile : NULL;
    bool tls = r->certfile != NULL;
    l->kind = r->path         ? KE_MQTT_UNIX
              : r->websockets ? (tls ? KE_MQTT_WSS : KE_MQTT_WS)
                              : (tls ? KE_MQTT_TLS : KE_MQTT_TCP);
    if (r->path && (tls || r->websockets))
        return mc_say(in, MC_ERROR, "a unix socket has neither TLS nor websockets here");
    if (!tls && (r->require_certificate == 1 || r->use_identity == 1 || r->use_subject == 1))
        return mc_say(in, MC_ERROR, "certificates of clients need certfile and keyfile");
    if (r->require_certificate == 1 && !r->cafile)
        return mc_say(in, MC_ERROR, "require_certificate needs a cafile");
    l->flags |= r->require_certificate == 1 ? KE_MQTT_CERT_REQUIRE : 0;
    l->flags |= r->use_identity == 1  ? KE_MQTT_CERT_USER
                : r->use_subject == 1 ? KE_MQTT_CERT_SUBJECT
                                      : 0;
    return 0;
}

static int finish_listener(struct inside *in, const struct raw_listener *r, struct mc_listener *to)
{
    struct ke_mqtt_listener *l = &to->l;
    int64_t port = r->port > 0 ? r->port : 1883;
    ke_mqtt_listener_init(l, sizeof *l);
    to->family = r->family;
    to->line = r->line;
    l->name = listener_name(in, r, port);
    if (!l->name)
        return -1;
    l->host = r->host;
    l->path = r->path;
    l->port = (uint32_t)port;
    l->mount_point = r->mount_point;
    l->max_connections = r->max_connections > 0 ? (uint32_t)r->max_connections : 0;
    l->max_topic_alias = limit(r->max_topic_alias);
    l->flags = r->max_qos == 0 ? KE_MQTT_MAX_QOS_0 : r->max_qos == 1 ? KE_MQTT_MAX_QOS_1 : 0;
    if (in->g.per_listener == 1) {
        l->flags |= anonymous_flag(in, &r->sec);
        l->password_file = r->sec.password_file;
        l->acl_file = r->sec.acl_file;
    } else {
        l->flags |= in->conf.anonymous;
    }
    if (r->anonymous >= 0) { /* of this one, whatever the others do */
        l->flags &= ~(KE_MQTT_ANONYMOUS | KE_MQTT_NO_ANONYMOUS);
        l->flags |= r->anonymous ? KE_MQTT_ANONYMOUS : KE_MQTT_NO_ANONYMOUS;
    }
    return finish_tls(in, r, l);
}

/* The default listener exists when something was said of it. */
static bool default_used(const struct raw_listener *l)
{
    return l->used || l->cafile || l->certfile || l->keyfile || l->crlfile || l->mount_point ||
           l->websockets || l->family || l->max_connections >= 0 ||
           (l->max_qos >= 0 && l->max_qos != 2) || l->require_certificate == 1 ||
           l->use_identity == 1 || l->use_subject == 1 || l->anonymous >= 0 || l->sec.password_file;
}

static int finish_listeners(struct inside *in)
{
    struct mosquitto_conf *c = &in->conf;
    bool first = default_used(&in->listeners[0]);
    /* named ones, or a port: the world may come in, so nobody without a name unless it is said */
    c->local_only = in->n_listeners == 1 && !in->listeners[0].used;
    c->anonymous = anonymous_flag(in, in->g.per_listener == 1 ? &in->listeners[0].sec : &in->g.sec);
    c->listeners = mc_take(in, in->n_listeners * sizeof *c->listeners);
    if (!c->listeners)
        return mc_say(in, MC_ERROR, "out of memory");
    for (unsigned i = first ? 0 : 1; i < in->n_listeners; i++)
        if (finish_listener(in, &in->listeners[i], &c->listeners[c->n_listeners++]) < 0)
            return -1;
    for (unsigned i = 0; i < c->n_listeners; i++)
        for (unsigned k = 0; k < i; k++)
            if (strcmp(c->listeners[i].l.name, c->listeners[k].l.name) == 0) {
                in->line = c->listeners[i].line;
                return mc_say(in, MC_ERROR, "listener %s is there twice", c->listeners[i].l.name);
            }
    return 0;
}

/* As mosquitto has it: two gateways with one configuration must not drive each other out. */
static const char *remote_id(struct inside *in, const char *bridge)
{
    char host[256] = "", text[600];
    if (gethostname(host, sizeof host - 1) < 0 || host[0] == '\0')
        return NULL;
    snprintf(text, sizeof text, "%s.%s", host, bridge);
    return mc_keep(in, text);
}

static int finish_bridge(struct inside *in, const struct raw_bridge *r, struct ke_bridge_config *c)
{
    in->line = r->line;
    in->file = r->file;
    if (r->n_addresses == 0 || r->n_topics == 0)
        return mc_say(in, MC_ERROR, "connection %s has no %s", r->name,
                      r->n_addresses ? "topic" : "address");
    if (r->password && !r->user_name)
        return mc_say(in, MC_ERROR, "connection %s has a password and no user name", r->name);
    if (!r->certfile != !r->keyfile)
        return mc_say(in, MC_ERROR,
                      "connection %s has only one of bridge_certfile and bridge_keyfile", r->name);
    ke_bridge_config_init(c, sizeof *c);
    const char *first = r->addresses[0], *colon = strrchr(first, ':');
    int64_t port = 0;
    in->key = "the port of an address";
    c->host = colon ? mc_keep_n(in, first, (size_t)(colon - first)) : first;
    if (!c->host || (colon && mc_number(in, colon + 1, 1, 65535, &port) < 0))
        return -1;
    c->port = (uint32_t)(port ? port : 1883);
    c->more_hosts = &r->addresses[1];
    c->n_more_hosts = r->n_addresses - 1;
    c->name = r->name;
    c->version = r->version > 0 ? (uint32_t)r->version : 4;
    c->client_id = r->client_id ? r->client_id : remote_id(in, r->name);
    c->local_client_id = r->local_client_id;
    c->user_name = r->user_name;
    c->password = r->password;
    c->topics = r->topics;
    c->n_topics = r->n_topics;
    c->keepalive = r->keepalive > 0 ? (uint32_t)r->keepalive : 60;
    c->retry_min_ms = (uint32_t)(r->retry_min > 0 ? r->retry_min : 5) * 1000;
    c->retry_max_ms = (uint32_t)(r->retry_max > 0 ? r->retry_max : 30) * 1000;
    c->max_packet = r->max_packet > 0 ? (uint32_t)r->max_packet : 0;
    c->ca_file = r->cafile;
    c->cert_file = r->certfile;
    c->key_file = r->keyfile;
    c->notify_topic = r->notify_topic;
    c->flags =
        (r->clean == 1 ? KE_BRIDGE_CLEAN : 0) | (r->try_private == 0 ? KE_BRIDGE_NO_PRIVATE : 0) |
        (r->notify == 0 ? KE_BRIDGE_NO_NOTIFY : 0) |
        (r->notify_local == 1 ? KE_BRIDGE_NOTIFY_LOCAL : 0) | (r->cafile ? KE_BRIDGE_TLS : 0);
    if (r->insecure == 1 && r->cafile)
        return mc_say(in, MC_ERROR,
                      "bridge_insecure of connection %s is refused: give the name in the "
                      "other's certificate as its address",
                      r->name);
    return 0;
}

static int finish_bridges(struct inside *in)
{
    struct mosquitto_conf *c = &in->conf;
    c->bridges = mc_take(in, (in->n_bridges + 1) * sizeof *c->bridges);
    if (!c->bridges)
        return mc_say(in, MC_ERROR, "out of memory");
    for (unsigned i = 0; i < in->n_bridges; i++)
        if (finish_bridge(in, &in->bridges[i], &c->bridges[c->n_bridges++]) < 0)
            return -1;
    return 0;
}

static int finish_limits(struct inside *in)
{
    const struct raw_global *g = &in->g;
    struct ke_mqtt_config *m = &in->conf.mqtt;
    ke_mqtt_config_init(m, sizeof *m);
    m->max_inflight = m->receive_max = limit(g->max_inflight); /* it is told to clients as well */
    m->max_inflight_bytes = g->max_inflight_bytes > 0 ? (uint32_t)g->max_inflight_bytes : 0;
    m->max_queued = limit(g->max_queued);
    m->max_queued_bytes = g->max_queued_bytes > 0 ? (uint64_t)g->max_queued_bytes : 0;
    /* mosquitto's queues know no bytes by default: who sets the number alone means that number */
    if (g->max_queued_bytes == 0 || (g->max_queued_bytes < 0 && g->max_queued >= 0))
        m->max_queued_bytes = UINT64_MAX;
    m->max_packet = g->max_packet > 0 ? (uint32_t)g->max_packet : 0;
    m->max_payload = g->max_payload > 0 ? (uint32_t)g->max_payload : 0;
    m->max_keepalive = limit(g->max_keepalive);
    m->sys_interval_s = g->sys_interval > 0 ? (uint32_t)g->sys_interval : 0;
    m->max_session_expiry = g->expiry > 0 ? (uint32_t)g->expiry : 0;
    m->flags = (g->retain_available == 0 ? KE_MQTT_NO_RETAIN : 0) |
               (g->empty_id == 0 ? KE_MQTT_NO_EMPTY_ID : 0) |
               (g->queue_qos0 == 1 ? KE_MQTT_QUEUE_QOS0 : 0) |
               (g->upgrade_qos == 1 ? KE_MQTT_UPGRADE_QOS : 0) |
               (g->sys_interval == 0 ? KE_MQTT_NO_SYS : 0) |
               (g->max_keepalive > 0 ? KE_MQTT_REFUSE_KEEPALIVE : 0);
    m->max_connections = g->all_connections > 0 ? (uint32_t)g->all_connections : 0;
    m->max_sessions = g->all_clients > 0 ? (uint32_t)g->all_clients : 0;
    m->auto_id_prefix = g->auto_id_prefix;
    if (g->per_listener != 1) {
        m->password_file = g->sec.password_file;
        m->acl_file = g->sec.acl_file;
    }
    return 0;
}

/* Our files are a folder, named as mosquitto's file, which is not read. */
static int finish_data(struct inside *in)
{
    const struct raw_global *g = &in->g;
    char path[4096];
    if (g->persistence != 1)
        return 0;
    const char *at = g->location ? g->location : "";
    const char *slash = at[0] && at[strlen(at) - 1] != '/' ? "/" : "";
    int n = snprintf(path, sizeof path, "%s%s%s.d", at, slash,
                     g->db_file ? g->db_file : "mosquitto.db");
    if (n < 0 || (size_t)n >= sizeof path)
        return mc_say(in, MC_ERROR, "persistence_location and persistence_file are too long");
    in->conf.data = mc_keep(in, path);
    return in->conf.data ? 0 : -1;
}

int mc_finish(struct inside *in)
{
    const struct raw_global *g = &in->g;
    struct mosquitto_conf *c = &in->conf;
    in->line = 0;
    if (finish_limits(in) < 0 || finish_listeners(in) < 0 || finish_bridges(in) < 0 ||
        finish_data(in) < 0)
        return -1;
    c->pid_file = g->pid_file;
    c->user = g->user;
    c->log_dest = g->log_dest;
    c->log_level = g->log_types;
    c->log_quiet = g->log_typed && g->log_types == 0;
    c->log_file = g->log_file;
    c->log_format = g->log_format;
    c->log_time = g->log_time != 0;
    c->log_facility = (int)g->log_facility;
    return 0;
}
