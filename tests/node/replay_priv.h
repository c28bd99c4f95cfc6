/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the rig share (replay_rig.h): replay_rig.c is the node and its world,
 * replay_entry.c reads the recording, replay_cloud.c is the other end, replay_walk.c goes through a
 * recording. */
#ifndef TEST_NODE_REPLAY_PRIV_H
#define TEST_NODE_REPLAY_PRIV_H

#include "message/k8s.h"
#include "message/msg_priv.h"
#include "node/replay_rig.h"

#define SAID_MAX 4096
#define STEP_MS 250
#define CERT_S 1800       /* so that one can grow old */
#define PATIENCE_MS 20000 /* for a message of which there must be one */
#define SHORTLY_MS 3000   /* for one of those that may be put together differently */

/* One message of the recording. */
struct entry {
    const struct capture_record *r; /* NULL: no message of the tunnel */
    bool e2c;
    struct ke_str id, parent, version, source, group, op, resource, content;
    char type[64], what[100];
    struct said *live; /* ours that stands for it */
    bool due;          /* one is missing */
};

/* One message of our node. */
struct said {
    struct ke_msg *m;
    struct entry *theirs;
    bool answered, judged;
    char type[64], what[100];
};

/* One message our node was sent and may have to acknowledge. */
struct heard {
    char id[40], what[100];
    struct entry *ack; /* how the recorded node acknowledged it */
    bool sure;         /* whether it did is known */
    unsigned line, acks;
    int64_t at_ms;
};

struct answer {
    char what[100], resource[300];
    char *text;
};

struct replay {
    struct test_env env;
    struct fake_cloud fc;
    struct replay_runtime rt;
    struct ke_runtime_ops ops;
    struct ke_node *node;
    char dir[200], version[8], name[64], capture_name[80];
    struct capture *c;
    struct entry *e;
    size_t at, n;
    unsigned live_conn;
    bool quiet, remade, api_down, had_token, no_probes;
    struct models models;
    struct said said[SAID_MAX];
    unsigned n_said;
    struct heard heard[SAID_MAX];
    unsigned n_heard;
    struct answer answers[256]; /* the last of each kind, of all recordings */
    unsigned n_answers;
    char asked[64][300]; /* what was ever queried by us */
    unsigned n_asked;
    int64_t start_ms;
    char lease_version[32]; /* of the last Lease our node was given */
    char alias[8][2][64];
    unsigned n_alias;
    unsigned seen_ca, seen_edge, seen_upgrades, played, compared, dry;
};

static inline struct ke_str none(void)
{
    return kei_strn(NULL, 0);
}

static inline bool is(struct ke_str s, const char *text)
{
    return kei_str_is(s, text);
}

static inline struct ke_str content_of(const struct ke_msg *m)
{
    struct ke_str v;
    v.p = ke_msg_content(m, &v.n);
    return v;
}

/* ---- replay_entry.c ---- */
void rp_chars(char *out, size_t cap, struct ke_str s);
struct ke_str rp_member(struct ke_str o, const char *path);
void rp_class_of(struct ke_str op, struct ke_str resource, char type[64], char what[100]);
void rp_read_entry(struct entry *e, const struct capture_record *r);
bool rp_is_request(const struct entry *e);
struct entry *rp_entry_of(struct replay *p, struct ke_str id, bool e2c);
/* The answer to a request, or the acknowledgement of a message. */
struct entry *rp_answer_of(struct replay *p, struct ke_str id, bool e2c);
/* Those of which the number does not count. */
bool rp_is_free(const char *what);
bool rp_is_periodic(const char *what);

/* ---- replay_cloud.c ---- */
/* What a report of either side changes. */
void rp_take_report(struct replay *p, enum side side, struct ke_str op, struct ke_str resource,
                    struct ke_str content);
/* A pod our node is told of. */
void rp_know_pod(struct replay *p, const struct entry *e);
/* A message of the recorded cloud; to: our request it answers, or NULL. */
void rp_send_entry(struct replay *p, struct entry *e, const struct said *to);
void rp_keep_answer(struct replay *p, const struct entry *request, const struct entry *reply);
void rp_answer(struct replay *p, struct said *s);
void rp_answer_all(struct replay *p);
bool rp_has_asked(const struct replay *p, struct ke_str resource);
void rp_on_message(struct fake_cloud *fc, struct ke_msg *m);

/* ---- replay_rig.c ---- */
struct place rp_place_at(struct replay *p, const char *what);
void rp_settle(struct replay *p);
void rp_pass(struct replay *p, int64_t ms);
void rp_start_node(struct replay *p);
void rp_stop_node(struct replay *p);
/* Nothing of before the end of a connection is acknowledged any more. */
void rp_link_ended(struct replay *p);
void rp_forget_capture(struct replay *p);

/* Waits for a condition, giving the node the answers it may need to get there. */
#define WAIT_FOR(p, condition, ms)                                                                 \
    for (int64_t left_ = (ms); !(condition) && left_ > 0; left_ -= STEP_MS) {                      \
        rp_answer_all(p);                                                                          \
        rp_settle(p);                                                                              \
        if (!(condition))                                                                          \
            test_drive_ms(&(p)->env, STEP_MS);                                                     \
    }

#endif
