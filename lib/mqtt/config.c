/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: checked, copied, defaults filled in. What was there stays when it is refused.
 */
#include "mqtt/server.h"

static uint32_t pick(uint32_t given, uint32_t standard)
{
    return given ? given : standard;
}

/* "none" for what has to be some number */
static uint32_t bound(uint32_t given, uint32_t standard, uint32_t most)
{
    uint32_t v = pick(given, standard);

    return v > most ? most : v;
}

/* an amount: none is 0 */
static uint32_t amount(uint32_t given, uint32_t standard, uint32_t most)
{
    return given == KE_MQTT_NONE ? 0 : bound(given, standard, most);
}

static void limits(struct mq_limits *l, const struct ke_mqtt_config *c)
{
    const uint64_t mib = 1024 * 1024;

    l->connections = pick(c->max_connections, 10000);
    l->sessions = pick(c->max_sessions, 100000);
    l->connect_rate = pick(c->max_connect_rate, 1000);
    l->pending = pick(c->max_pending, 1000);
    l->retained = pick(c->max_retained, 100000);
    l->subscriptions = pick(c->max_subscriptions, 1000000);
    l->retained_bytes = c->max_retained_bytes ? c->max_retained_bytes : 64 * mib;
    l->queued_bytes_all = c->max_queued_bytes_all ? c->max_queued_bytes_all : 256 * mib;
    l->queued_bytes = c->max_queued_bytes ? c->max_queued_bytes : 16 * mib;
    l->queued_all = pick(c->max_queued_all, 1000000);
    l->packet = bound(c->max_packet, 2000000, KEI_MQTT_MAX_PACKET);
    l->packet_told = c->max_packet == KE_MQTT_NONE ? 0 : l->packet;
    l->payload = pick(c->max_payload, KE_MQTT_NONE);
    l->inflight = bound(c->max_inflight, 100, 65535);
    l->flight_bytes = c->max_inflight_bytes ? c->max_inflight_bytes : UINT64_MAX;
    l->receive = bound(c->receive_max, 20, 65535);
    l->queued = pick(c->max_queued, 1000);
    l->client_subs = pick(c->max_client_subscriptions, 10000);
    l->output = pick(c->max_output, (uint32_t)mib);
    l->topic_bytes = bound(c->max_topic_bytes, 65535, 65535);
    l->topic_levels = bound(c->max_topic_levels, MQ_LEVELS, MQ_LEVELS);
    l->alias_in = amount(c->max_topic_alias, 10, 65535);
    l->alias_out = amount(c->max_topic_alias_out, 10, 65535);
    l->keepalive = amount(c->max_keepalive, 60, 65535);
    l->session_expiry = pick(c->max_session_expiry, KE_MQTT_NONE);
    l->client_id = bound(c->max_client_id, 65535, 65535);
    l->connect_ms = bound(c->connect_ms, 10000, 3600000);
    l->auth_ms = bound(c->auth_ms, 30000, 3600000);
    l->stall_ms = bound(c->stall_ms, 120000, 86400000);
    l->sys_s = bound(c->sys_interval_s, 10, 86400);
    l->log_mib = pick(c->max_log_mib, 1024);
}

static int check(struct ke_mqtt *m, const struct ke_mqtt_config *c)
{
    if (c->n_listeners && !c->listeners)
        return kei_fail(m->ctx, KE_EINVAL, "n_listeners is %u, but listeners is NULL",
                        c->n_listeners);
    if (c->n_listeners && c->listeners[0].size > 4096)
        return kei_fail(m->ctx, KE_EABI, "size of a listener is not set");
    if (c->max_packet && c->max_packet < 16)
        return kei_fail(m->ctx, KE_EINVAL, "max_packet of %u is too small, 16 is the least",
                        c->max_packet);
    if (c->flags & ~2047u)
        return kei_fail(m->ctx, KE_EINVAL, "flags of the MQTT server has unknown bits");
    return 0;
}

/* Deep copy of the texts; NULL entries stay. */
static int copy_texts(struct ke_mqtt *m, const struct ke_mqtt_config *c, char *texts[8])
{
    const char *from[] = {c->data, c->auto_id_prefix, c->response_information, c->password_file,
                          c->acl_file};

    for (unsigned i = 0; i < 5; i++) {
        texts[i] = kei_strdup(m->alloc, from[i]);
        if (from[i] && !texts[i]) {
            for (unsigned k = 0; k < i; k++)
                kei_free(m->alloc, texts[k]);
            memset(texts, 0, 8 * sizeof *texts);
            return kei_fail(m->ctx, KE_ENOMEM, "no memory for the configuration");
        }
    }
    return 0;
}

int kei_mq_config_prepare(struct ke_mqtt *m, const struct ke_mqtt_config *c, char *texts[8])
{
    int r = check(m, c);

    memset(texts, 0, 8 * sizeof *texts);
    return r < 0 ? r : copy_texts(m, c, texts);
}

void kei_mq_config_drop(struct ke_mqtt *m, char *texts[8])
{
    for (unsigned i = 0; i < 8; i++)
        kei_free(m->alloc, texts[i]);
    memset(texts, 0, 8 * sizeof *texts);
}

void kei_mq_config_use(struct ke_mqtt *m, const struct ke_mqtt_config *c, char *const texts[8])
{
    kei_mq_config_free(m);
    memcpy(m->strings, texts, sizeof m->strings);
    m->config = *c;
    m->config.listeners = NULL; /* they are used at once, or kept by whoever starts later */
    m->config.data = texts[0];
    m->config.auto_id_prefix = texts[1];
    m->config.response_information = texts[2];
    m->config.password_file = texts[3];
    m->config.acl_file = texts[4];
    m->flags = c->flags;
    limits(&m->lim, c);
}

void kei_mq_config_free(struct ke_mqtt *m)
{
    kei_mq_config_drop(m, m->strings);
}

/* ---- the listeners of a configuration, kept until start ---- */

static int copy_listener(struct ke_mqtt *m, const void *from, struct ke_mqtt_listener *to)
{
    const struct ke_mqtt_listener *in = from;
    int r = kei_abi_in(to, sizeof *to, in, offsetof(struct ke_mqtt_listener, max_connections),
                       "struct ke_mqtt_listener", kei_err(m->ctx));
    const char **texts[] = {&to->name,     &to->host,    &to->path,     &to->cert_file,
                            &to->key_file, &to->ca_file, &to->crl_file, &to->mount_point};

    if (r < 0) {
        memset(to, 0, sizeof *to);
        return r;
    }
    for (unsigned i = 0; i < 8; i++) {
        const char *text = *texts[i];
        *texts[i] = kei_strdup(m->alloc, text);
        if (text && !*texts[i])
            r = KE_ENOMEM;
    }
    return r < 0 ? kei_fail(m->ctx, r, "no memory for the configuration") : 0;
}

void kei_mq_listeners_free(struct ke_mqtt *m, struct ke_mqtt_listener *l, uint32_t n)
{
    for (uint32_t i = 0; l && i < n; i++) {
        const char *texts[] = {l[i].name,     l[i].host,    l[i].path,     l[i].cert_file,
                               l[i].key_file, l[i].ca_file, l[i].crl_file, l[i].mount_point};
        for (unsigned k = 0; k < 8; k++)
            kei_free(m->alloc, (void *)(uintptr_t)texts[k]);
    }
    kei_free(m->alloc, l);
}

int kei_mq_listeners_copy(struct ke_mqtt *m, const struct ke_mqtt_config *c,
                          struct ke_mqtt_listener **ret)
{
    *ret = NULL;
    if (c->n_listeners == 0)
        return 0;
    if (c->n_listeners > 64)
        return kei_fail(m->ctx, KE_ELIMIT, "%u listeners, 64 is the most", c->n_listeners);
    struct ke_mqtt_listener *l = kei_zalloc(m->alloc, c->n_listeners * sizeof *l);
    if (!l)
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for the configuration");
    size_t stride = c->listeners[0].size;
    for (uint32_t i = 0; i < c->n_listeners; i++) {
        int r = copy_listener(m, (const char *)c->listeners + i * stride, &l[i]);
        if (r < 0) {
            kei_mq_listeners_free(m, l, c->n_listeners);
            return r;
        }
    }
    *ret = l;
    return 0;
}
