/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration of a bridge: checked, copied into the arena, its files read. */
#include "base/file.h"
#include "mqtt/bridge_priv.h"

#define PEM_MAX 1048576u
#define HOSTS_MAX 16u
#define CONFIG_MIN (offsetof(struct ke_bridge_config, flags))

void ke_bridge_config_init(struct ke_bridge_config *c, size_t size)
{
    kei_abi_init(c, size);
}

static int copy_strings(struct ke_bridge_config *c, struct kei_arena *a, struct ke_error *err)
{
    const char **all[] = {&c->name,      &c->host,        &c->client_id,   &c->local_client_id,
                          &c->user_name, &c->password,    &c->ca_file,     &c->cert_file,
                          &c->key_file,  &c->verify_name, &c->notify_topic};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!*all[i])
            continue;
        *all[i] = kei_arena_strdup(a, kei_str(*all[i]));
        if (!*all[i])
            return kei_error(err, KE_ENOMEM, "out of memory for a bridge");
    }
    return 0;
}

static uint32_t or_else(uint32_t v, uint32_t dflt)
{
    return v ? v : dflt;
}

static int check(const struct ke_bridge_config *c, struct ke_error *err)
{
    if (!c->name || !c->name[0])
        return kei_error(err, KE_EINVAL, "ke_bridge_config.name is missing");
    if (!c->host || !c->host[0])
        return kei_error(err, KE_EINVAL, "bridge %s: host is missing", c->name);
    if (c->version != KEI_MQTT_V311 && c->version != KEI_MQTT_V5)
        return kei_error(err, KE_EINVAL, "bridge %s: version %u is neither 4 (3.1.1) nor 5",
                         c->name, c->version);
    if (c->port > 65535 || c->keepalive > 65535 || c->max_inflight > 1000)
        return kei_error(
            err, KE_EINVAL,
            "bridge %s: port or keepalive is above 65,535, or max_inflight above 1,000", c->name);
    if (!c->topics || c->n_topics == 0 || c->n_topics > KEI_BRIDGE_TOPICS)
        return kei_error(err, KE_EINVAL, "bridge %s: 1 to %u topics are needed", c->name,
                         KEI_BRIDGE_TOPICS);
    if (c->password && !c->user_name)
        return kei_error(err, KE_EINVAL, "bridge %s: a password needs a user_name", c->name);
    if (c->n_more_hosts >= HOSTS_MAX)
        return kei_error(err, KE_ELIMIT, "bridge %s: more than %u hosts", c->name, HOSTS_MAX);
    if (c->retry_min_ms > c->retry_max_ms)
        return kei_error(err, KE_EINVAL, "bridge %s: retry_min_ms is above retry_max_ms", c->name);
    if ((c->flags & KE_BRIDGE_TLS) && !c->ca_file && !(c->flags & KE_BRIDGE_TLS_NO_VERIFY))
        return kei_error(err, KE_EINVAL, "bridge %s: TLS needs ca_file", c->name);
    if (!c->cert_file != !c->key_file)
        return kei_error(err, KE_EINVAL, "bridge %s: cert_file and key_file belong together",
                         c->name);
    if ((c->flags & ~63u) || c->reserved)
        return kei_error(err, KE_EINVAL, "bridge %s: flags %#x are not known", c->name, c->flags);
    return 0;
}

/* "HOST:PORT", "[::1]:PORT" or "HOST" */
static int read_host(struct kei_mqtt_host *ret, struct kei_arena *a, const char *text,
                     uint16_t dflt, struct ke_error *err)
{
    struct ke_str s = kei_str(text);
    const char *colon = strrchr(text, ':');
    uint64_t port = dflt;
    bool bracket = s.n > 0 && s.p[s.n - 1] == ']';
    if (colon && !bracket) {
        s.n = (size_t)(colon - text);
        if (!kei_str_u64(kei_str(colon + 1), &port) || port == 0 || port > 65535)
            return kei_error(err, KE_EINVAL, "\"%s\" is not HOST:PORT", text);
    }
    ret->host = kei_arena_strdup(a, s);
    ret->port = (uint16_t)port;
    return ret->host ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a bridge");
}

static int read_hosts(struct kei_bridge_conf *ret, struct kei_arena *a, struct ke_error *err)
{
    const struct ke_bridge_config *c = &ret->c;
    ret->n_hosts = c->n_more_hosts + 1;
    ret->hosts = kei_arena_array(a, ret->n_hosts, sizeof *ret->hosts);
    if (!ret->hosts)
        return kei_error(err, KE_ENOMEM, "out of memory for bridge %s", c->name);
    ret->hosts[0] = (struct kei_mqtt_host){c->host, (uint16_t)c->port};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < c->n_more_hosts; i++)
        r = read_host(&ret->hosts[i + 1], a, c->more_hosts[i], (uint16_t)c->port, err);
    return r;
}

static int read_topics(struct kei_bridge_conf *ret, struct kei_arena *a, struct ke_error *err)
{
    const struct ke_bridge_config *c = &ret->c;
    const char *p = (const char *)c->topics;
    ret->rules = kei_arena_array(a, c->n_topics, sizeof *ret->rules);
    if (!ret->rules)
        return kei_error(err, KE_ENOMEM, "out of memory for bridge %s", c->name);
    /* each element has the size it says: all the same */
    size_t step = c->topics->size;
    for (uint32_t i = 0; i < c->n_topics; i++, p += step) {
        struct ke_bridge_topic t;
        int r = kei_abi_in(&t, sizeof t, p, sizeof t, "struct ke_bridge_topic", err);
        if (r == 0)
            r = kei_bridge_rule_make(&ret->rules[i], a, &t, err);
        if (r < 0)
            return kei_error_prefix(err, r, "bridge %s", c->name);
    }
    return 0;
}

/* ---- files ---- */

static int read_file(struct ke_ctx *ctx, const char *path, struct ke_buf *out)
{
    kei_buf_init(out, kei_ctx_alloc(ctx));
    return kei_file_read(kei_ctx_io(ctx), path, PEM_MAX, out, kei_err(ctx));
}

static int read_cert(struct kei_cert **ret, struct ke_ctx *ctx, struct kei_crypto *cr,
                     const char *path)
{
    struct ke_buf pem = {0};
    if (!path)
        return 0;
    int r = read_file(ctx, path, &pem);
    if (r == 0)
        r = kei_cert_from_pem(ret, cr, kei_buf_str(&pem), kei_err(ctx));
    ke_buf_free(&pem);
    return r < 0 ? kei_error_prefix(kei_err(ctx), r, "%s", path) : 0;
}

static int read_key(struct kei_key **ret, struct ke_ctx *ctx, struct kei_crypto *cr,
                    const char *path)
{
    struct ke_buf pem = {0};
    if (!path)
        return 0;
    if (path[0] != '/' && strchr(path, ':'))
        return kei_key_from_uri(ret, cr, path, kei_err(ctx));
    int r = read_file(ctx, path, &pem);
    if (r == 0)
        r = kei_key_from_pem(ret, cr, kei_buf_str(&pem), kei_err(ctx));
    if (pem.p)
        explicit_bzero(pem.p, pem.n);
    ke_buf_free(&pem);
    return r < 0 ? kei_error_prefix(kei_err(ctx), r, "%s", path) : 0;
}

static int64_t unix_now(void *user)
{
    return ke_ctx_real_ms(user) / 1000;
}

static int read_tls(struct kei_bridge_conf *ret, struct ke_ctx *ctx)
{
    const struct ke_bridge_config *c = &ret->c;
    struct kei_crypto *cr;
    struct kei_cert *ca = NULL, *cert = NULL;
    struct kei_key *key = NULL;
    if (!(c->flags & KE_BRIDGE_TLS))
        return 0;
    int r = kei_crypto_get(ctx, &cr);
    if (r == 0)
        r = read_cert(&ca, ctx, cr, c->ca_file);
    if (r == 0)
        r = read_cert(&cert, ctx, cr, c->cert_file);
    if (r == 0)
        r = read_key(&key, ctx, cr, c->key_file);
    struct kei_tls_options o = {
        .verify_peer = !(c->flags & KE_BRIDGE_TLS_NO_VERIFY),
        .ca = ca,
        .cert = cert,
        .key = key,
        .verify_name = c->verify_name,
        .now = unix_now,
        .now_user = ctx,
    };
    if (r == 0)
        r = kei_tls_config_new(&ret->tls, ctx, &o);
    kei_cert_free(ca);
    kei_cert_free(cert);
    kei_key_free(key);
    return r < 0 ? kei_error_prefix(kei_err(ctx), r, "bridge %s", c->name) : 0;
}

static int defaults(struct kei_bridge_conf *ret, struct kei_arena *a, struct ke_error *err)
{
    struct ke_bridge_config *c = &ret->c;
    c->version = or_else(c->version, KEI_MQTT_V311);
    c->port = or_else(c->port, c->flags & KE_BRIDGE_TLS ? 8883 : 1883);
    c->keepalive = or_else(c->keepalive, 60);
    c->retry_min_ms = or_else(c->retry_min_ms, 1000);
    c->retry_max_ms = or_else(c->retry_max_ms, c->retry_min_ms > 60000 ? c->retry_min_ms : 60000);
    c->max_inflight = or_else(c->max_inflight, 20);
    c->max_packet = or_else(c->max_packet, 2000000);
    int r = check(c, err);
    if (r < 0)
        return r;
    ret->client_id = c->client_id ? c->client_id : c->name;
    ret->local_client_id =
        c->local_client_id ? c->local_client_id : kei_arena_printf(a, "$bridge/%s", c->name);
    ret->notify_topic =
        c->notify_topic ? c->notify_topic
                        : kei_arena_printf(a, "$SYS/broker/connection/%s/state", ret->client_id);
    return ret->local_client_id && ret->notify_topic
               ? 0
               : kei_error(err, KE_ENOMEM, "out of memory for bridge %s", c->name);
}

int kei_bridge_conf_read(struct kei_bridge_conf *ret, struct ke_ctx *ctx, struct kei_arena *a,
                         const struct ke_bridge_config *c)
{
    struct ke_error *err = kei_err(ctx);
    memset(ret, 0, sizeof *ret);
    int r = kei_abi_in(&ret->c, sizeof ret->c, c, CONFIG_MIN, "struct ke_bridge_config", err);
    if (r == 0)
        r = copy_strings(&ret->c, a, err);
    if (r == 0)
        r = defaults(ret, a, err);
    if (r == 0)
        r = read_hosts(ret, a, err);
    if (r == 0)
        r = read_topics(ret, a, err);
    if (r == 0)
        r = read_tls(ret, ctx);
    ret->c.topics = NULL;     /* the rules count, */
    ret->c.more_hosts = NULL; /* and the hosts */
    return r;
}

void kei_bridge_conf_fini(struct kei_bridge_conf *c)
{
    kei_tls_config_unref(c->tls);
    c->tls = NULL;
}
