/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server's own modules (event bus, bridge, programs) use besides kubeedge/mqtt.h. They are
 * in-process clients: ke_mqtt_publish and ke_mqtt_subscribe, no way around them. Loop thread.
 */
#ifndef KEI_MQTT_MQTT_H
#define KEI_MQTT_MQTT_H

#include <kubeedge/mqtt.h>

#include "base/error.h"
#include "base/list.h"
#include "mqtt/access.h"

static inline struct ke_str kei_mqtt_view(struct ke_mqtt_str s)
{
    struct ke_str v = {s.p, s.n};
    return v;
}
static inline struct ke_mqtt_str kei_mqtt_give(struct ke_str s)
{
    struct ke_mqtt_str v = {s.p, s.n};
    return v;
}

/*
 * An in-process client with a name: what it publishes carries client_id, and KE_MQTT_SUB_NO_LOCAL
 * of its subscriptions means its own. A bridge makes one, so that messages do not come back. name
 * is copied.
 */
struct kei_mqtt_local;
int kei_mqtt_local_new(struct kei_mqtt_local **ret, struct ke_mqtt *m, const char *name);
void kei_mqtt_local_free(struct kei_mqtt_local *l); /* ends its subscriptions; NULL is fine */
int kei_mqtt_local_publish(struct kei_mqtt_local *l, const struct ke_mqtt_publish *p,
                           ke_mqtt_done_fn done, void *user, struct ke_error *err);
int kei_mqtt_local_subscribe(struct ke_mqtt_sub **ret, struct kei_mqtt_local *l,
                             const struct ke_mqtt_subscribe *s, void *user, struct ke_error *err);

/*
 * Serves a socket that is connected already (one end of a pair) as a client that no rule and no
 * limit of listeners applies to; for a module that speaks MQTT itself. fd is taken over, also when
 * it fails (then it is closed). name: for the log. KE_ESTATE: not started, KE_ENOMEM, KE_ESYS.
 */
int kei_mqtt_serve_fd(struct ke_mqtt *m, int fd, const char *name, struct ke_error *err);

/* Called when the server was started, stopped or is freed; for what lives beside it (a bridge). */
#define KEI_MQTT_STARTED 1
#define KEI_MQTT_STOPPED 2
#define KEI_MQTT_FREED 3
struct kei_mqtt_watch {
    void (*fn)(struct kei_mqtt_watch *w, int what);
    struct kei_link link;
};
void kei_mqtt_watch(struct ke_mqtt *m, struct kei_mqtt_watch *w);
void kei_mqtt_unwatch(struct kei_mqtt_watch *w); /* safe if zero */

#endif
