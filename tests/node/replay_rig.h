/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole node against a recording: its cloud is played by the test, its runtime is a table in
 * memory, time is virtual. The cloud sends what was recorded, in order, each push when the node has
 * sent what the recorded one had sent before; an answer goes out under the id of our request. Loop
 * thread; the rig owns everything.
 *
 *     struct replay *p = replay_new("1.15", "edge-up1", INT64_C(1795335479000));
 *     replay_play(p, "01-register", NULL, 0);
 *     replay_free(p);
 */
#ifndef TEST_NODE_REPLAY_RIG_H
#define TEST_NODE_REPLAY_RIG_H

#include <kubeedge/node.h>

#include "message/captures.h"
#include "node/replay_model.h"
#include "pod/fake_runtime.h"
#include "sim/fake_cloud.h"
#include "support/support.h"

/* What the world did in the recording, besides the two ends. */
struct act {
    unsigned line; /* just before this line of the recording is played */
    enum {
        ACT_CRASH,      /* the container of the pod ends with code */
        ACT_RESTART,    /* the node's process ends; it begins again at the next connection */
        ACT_CLOUD_AWAY, /* the cloud is away for code seconds */
        ACT_AGE,        /* the node's certificate reaches code percent of its life */
        ACT_NODE_GONE,  /* the Node is deleted: an insert makes a new one */
        ACT_API_DOWN,   /* the cloud has no API server: what is said of leases fails */
    } what;
    const char *pod_uid, *container;
    int code;
};

/* fake comes first: its calls get the same pointer */
struct replay_runtime {
    struct fake_runtime fake;
    const char *name, *version; /* of info */
    const char *missing_image;
    const char *short_lived; /* name of the pod whose container ends at once, with 0 */
    bool no_image;           /* fetching one never ends */
    int stop_code;           /* how a container that is stopped ends */
    char pod_ip[32];
};

struct replay;

/* start_ms: when the recording began (tokens in it have an end) */
struct replay *replay_new(const char *version, const char *node, int64_t start_ms);
void replay_free(struct replay *p);
struct replay_runtime *replay_runtime(struct replay *p);
/* Plays one recording and compares. */
void replay_play(struct replay *p, const char *name, const struct act *acts, unsigned n_acts);
/* Compares nothing while off: what leads to a recording that is not at the beginning. */
void replay_quiet(struct replay *p, bool quiet);
/* From now on a is played as b: an id that another life of the recorded cloud gave. */
void replay_alias(struct replay *p, const char *a, const char *b);
/* Probes come later: pods are played without them. */
void replay_without_probes(struct replay *p);
unsigned replay_played(const struct replay *p);   /* messages sent to the node */
unsigned replay_compared(const struct replay *p); /* messages of it that had their counterpart */

#endif
