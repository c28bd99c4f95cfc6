/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An MQTT server on a loop the test drives, and clients that say and hear bytes (hex, spaces are
 * ignored, 'text' in quotes). hear fails the test when something else comes, or nothing.
 */
#ifndef TEST_MQTT_RIG_H
#define TEST_MQTT_RIG_H

#include <kubeedge/mqtt.h>

#include "base/buf.h"
#include "support/support.h"

struct rig {
    struct test_env env;
    struct ke_mqtt_config c;
    struct ke_mqtt_listener l;
    struct ke_mqtt_ops ops;
    struct ke_mqtt *m;
    void *host; /* of a test's own */
};
struct peer {
    struct rig *r;
    int fd;
    bool ended;
    size_t want;
    struct ke_buf in;
};

void rig_init(struct rig *r); /* change r->c, r->l, r->ops, then: */
void rig_init_io(struct rig *r, const struct ke_io *io);
void rig_start(struct rig *r);
void rig_fini(struct rig *r);
void peer_open(struct peer *p, struct rig *r);
void peer_close(struct peer *p);
void say(struct peer *p, const char *hex);
void hear(struct peer *p, const char *hex);
void need_bytes(struct peer *p, size_t n); /* n bytes in p->in, or the test fails */
void hear_nothing(struct peer *p);         /* and it is still connected */
void hear_end(struct peer *p);             /* the server closes it, nothing comes before */
/* clients that want no particular things; id of up to 20 characters */
void hello4(struct peer *p, struct rig *r, const char *id, bool clean);
void hello5(struct peer *p, struct rig *r, const char *id, uint32_t expiry);
struct ke_mqtt_stats rig_stats(struct rig *r);

#endif
