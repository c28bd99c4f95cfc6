/* SPDX-License-Identifier: Apache-2.0 */
/* Built without the MQTT server: the same symbols, which say so. */
#include <string.h>

#include <kubeedge/bridge.h>
#include <kubeedge/eventbus.h>
#include <kubeedge/mqtt.h>

#include "base/error.h"
#include "mqtt/eventbus_priv.h"

static const char text[] = "this library was built without the MQTT server";

static int off(struct ke_ctx *ctx)
{
    return ctx ? kei_fail(ctx, KE_ENOTSUP, "%s", text) : KE_ENOTSUP;
}

static int off_err(struct ke_error *err)
{
    return kei_error(err, KE_ENOTSUP, "%s", text);
}

int ke_mqtt_message_user(const struct ke_mqtt_message *msg, uint32_t i,
                         struct ke_mqtt_user_prop *ret)
{
    (void)msg, (void)i, (void)ret;
    return KE_ENOTSUP;
}

struct ke_mqtt_data *ke_mqtt_data_ref(struct ke_mqtt_data *d)
{
    (void)d;
    return NULL;
}

void ke_mqtt_data_unref(struct ke_mqtt_data *d)
{
    (void)d;
}

int ke_mqtt_auth_complete(struct ke_mqtt_auth *a, const struct ke_mqtt_auth_result *r,
                          struct ke_error *reterr)
{
    (void)a, (void)r;
    return off_err(reterr);
}

void ke_mqtt_config_init(struct ke_mqtt_config *c, size_t size)
{
    kei_abi_init(c, size);
}

void ke_mqtt_listener_init(struct ke_mqtt_listener *l, size_t size)
{
    kei_abi_init(l, size);
}

int ke_mqtt_new(struct ke_mqtt **ret, struct ke_ctx *ctx, const struct ke_mqtt_config *c,
                const struct ke_mqtt_ops *ops, void *user)
{
    (void)ret, (void)c, (void)ops, (void)user;
    return off(ctx);
}

int ke_mqtt_start(struct ke_mqtt *m)
{
    (void)m;
    return KE_ENOTSUP;
}

void ke_mqtt_stop(struct ke_mqtt *m)
{
    (void)m;
}

void ke_mqtt_free(struct ke_mqtt *m)
{
    (void)m;
}

int ke_mqtt_port(struct ke_mqtt *m, uint32_t i, uint32_t *ret)
{
    (void)m, (void)i, (void)ret;
    return KE_ENOTSUP;
}

int ke_mqtt_reload(struct ke_mqtt *m, const struct ke_mqtt_config *c)
{
    (void)m, (void)c;
    return KE_ENOTSUP;
}

int ke_mqtt_disconnect(struct ke_mqtt *m, const char *client_id, uint32_t reason,
                       const char *server, uint32_t flags, struct ke_error *reterr)
{
    (void)m, (void)client_id, (void)reason, (void)server, (void)flags;
    return off_err(reterr);
}

int ke_mqtt_clients(struct ke_mqtt *m, void (*fn)(void *user, const struct ke_mqtt_client *c),
                    void *user)
{
    (void)m, (void)fn, (void)user;
    return KE_ENOTSUP;
}

int ke_mqtt_publish(struct ke_mqtt *m, const struct ke_mqtt_publish *p, ke_mqtt_done_fn done,
                    void *user, struct ke_error *reterr)
{
    (void)m, (void)p, (void)done, (void)user;
    return off_err(reterr);
}

int ke_mqtt_subscribe(struct ke_mqtt_sub **ret, struct ke_mqtt *m,
                      const struct ke_mqtt_subscribe *s, void *user, struct ke_error *reterr)
{
    (void)ret, (void)m, (void)s, (void)user;
    return off_err(reterr);
}

void ke_mqtt_unsubscribe(struct ke_mqtt_sub *sub)
{
    (void)sub;
}

int ke_mqtt_user_set(struct ke_mqtt *m, const char *name, const char *password,
                     const struct ke_mqtt_rule *rules, uint32_t n_rules, ke_mqtt_done_fn done,
                     void *user, struct ke_error *reterr)
{
    (void)m, (void)name, (void)password, (void)rules, (void)n_rules, (void)done, (void)user;
    return off_err(reterr);
}

int ke_mqtt_user_remove(struct ke_mqtt *m, const char *name, ke_mqtt_done_fn done, void *user,
                        struct ke_error *reterr)
{
    (void)m, (void)name, (void)done, (void)user;
    return off_err(reterr);
}

int ke_mqtt_rules_set(struct ke_mqtt *m, const char *user_name, const struct ke_mqtt_rule *rules,
                      uint32_t n_rules, ke_mqtt_done_fn done, void *user, struct ke_error *reterr)
{
    (void)m, (void)user_name, (void)rules, (void)n_rules, (void)done, (void)user;
    return off_err(reterr);
}

int ke_mqtt_identity_set(struct ke_mqtt *m, const struct ke_mqtt_identity *id, ke_mqtt_done_fn done,
                         void *user, struct ke_error *reterr)
{
    (void)m, (void)id, (void)done, (void)user;
    return off_err(reterr);
}

int ke_mqtt_identity_revoke(struct ke_mqtt *m, const char *name, ke_mqtt_done_fn done, void *user,
                            struct ke_error *reterr)
{
    (void)m, (void)name, (void)done, (void)user;
    return off_err(reterr);
}

int ke_mqtt_identities(struct ke_mqtt *m, void (*fn)(void *user, const struct ke_mqtt_identity *id),
                       void *user)
{
    (void)m, (void)fn, (void)user;
    return KE_ENOTSUP;
}

int ke_mqtt_stats(struct ke_mqtt *m, struct ke_mqtt_stats *ret, size_t size)
{
    (void)m, (void)ret, (void)size;
    return KE_ENOTSUP;
}

void ke_bridge_config_init(struct ke_bridge_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int ke_bridge_new(struct ke_bridge **ret, struct ke_mqtt *m, const struct ke_bridge_config *c)
{
    (void)ret, (void)m, (void)c;
    return KE_ENOTSUP;
}

void ke_bridge_free(struct ke_bridge *b)
{
    (void)b;
}

int ke_bridge_status(struct ke_bridge *b, struct ke_bridge_status *ret, size_t size)
{
    (void)b, (void)ret, (void)size;
    return KE_ENOTSUP;
}

void ke_eventbus_config_init(struct ke_eventbus_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int ke_eventbus_new(struct ke_eventbus **ret, struct ke_ctx *ctx,
                    const struct ke_eventbus_config *c)
{
    (void)ret, (void)c;
    return off(ctx);
}

int ke_eventbus_start(struct ke_eventbus *b)
{
    (void)b;
    return KE_ENOTSUP;
}

void ke_eventbus_free(struct ke_eventbus *b)
{
    (void)b;
}

int ke_eventbus_publish(struct ke_eventbus *b, const char *topic, const void *payload, size_t n,
                        uint32_t qos, uint32_t retain)
{
    (void)b, (void)topic, (void)payload, (void)n, (void)qos, (void)retain;
    return KE_ENOTSUP;
}

int ke_eventbus_subscribe(struct ke_eventbus_sub **ret, struct ke_eventbus *b, const char *filter,
                          uint32_t qos, ke_eventbus_fn fn, void *user)
{
    (void)ret, (void)b, (void)filter, (void)qos, (void)fn, (void)user;
    return KE_ENOTSUP;
}

void ke_eventbus_unsubscribe(struct ke_eventbus_sub *s)
{
    (void)s;
}

int ke_eventbus_status(struct ke_eventbus *b, struct ke_eventbus_status *ret, size_t size)
{
    (void)b, (void)ret, (void)size;
    return KE_ENOTSUP;
}

void kei_eventbus_connection(struct ke_eventbus *b, bool up, bool publish)
{
    (void)b, (void)up, (void)publish;
}
