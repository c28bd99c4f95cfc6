/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tunnel, a fake cloud and a virtual clock on one loop, for the tests of the tunnel.
 *
 *     struct rig r;
 *     rig_init(&r, NULL);
 *     rig_tunnel(&r);               made with r.conf, not started; change r.conf before
 *     rig_start(&r);
 *     assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
 *     rig_fini(&r);                 frees what is left and checks memory and descriptors
 */
#ifndef TESTS_TUNNEL_RIG_H
#define TESTS_TUNNEL_RIG_H

#include <kubeedge/tunnel.h>

#include "sim/fake_cloud.h"
#include "support/support.h"

#define RIG_STATES 64
#define RIG_MESSAGES 256
#define NODE "edge-1"

struct rig {
    struct test_env env;
    struct fake_cloud fc;
    char dir[128];
    struct ke_tunnel_config conf;
    struct ke_tunnel_ops ops; /* of the tunnels to come */
    struct ke_tunnel *t;
    struct ke_store *store; /* NULL until rig_store */

    uint32_t states[RIG_STATES], n_states; /* told, changes only, the first RIG_STATES */
    uint32_t state;
    int32_t last_error;
    char last_text[KE_ERROR_TEXT_MAX];
    struct ke_msg *messages[RIG_MESSAGES];
    uint32_t n_messages;
    bool ack; /* acknowledges every message */
    uint32_t n_sent, n_confirmed, n_replaced, n_refused;
    int done_status; /* of the last durable send; 1: none yet */
    uint32_t n_done;
};

void rig_init(struct rig *r, const struct ke_io *io);
void rig_fini(struct rig *r);
void rig_store(struct rig *r); /* opens one in r->dir and puts it into r->conf */
void rig_close_store(struct rig *r);
void rig_tunnel(struct rig *r);
void rig_start(struct rig *r);
void rig_free_tunnel(struct rig *r);
/* rig_tunnel, rig_start, connected */
void rig_connect(struct rig *r);

bool rig_until_state(struct rig *r, uint32_t state);
bool rig_until(struct rig *r, bool (*pred)(void *rig));
void rig_drive(struct rig *r, int64_t ms);
/* Until *n >= want; gives up after max_ms of virtual time. */
bool rig_until_n(struct rig *r, const uint32_t *n, uint32_t want);
struct ke_tunnel_status rig_status(struct rig *r);

/* A message, as modules make them; unref it. */
struct ke_msg *rig_msg(struct rig *r, const char *operation, const char *resource,
                       const char *content);
/* Sends one and unrefs it. */
int rig_send(struct rig *r, uint32_t how, const char *operation, const char *resource,
             const char *content);
void rig_done(void *rig, int status); /* as ke_store_done_fn */

/* Files of the node's folder; NULL if missing; free() it. */
char *rig_read(struct rig *r, const char *name);
void rig_write(struct rig *r, const char *name, const char *text);
bool rig_exists(struct rig *r, const char *name);

#endif
