/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device twin between recording modules: `websocket` stands for the cloud, `eventbus` for MQTT,
 * `drivers` (group `device`) for the drivers. The store is in memory, or on a disk of the test's.
 */
#ifndef TESTS_TWIN_TWIN_RIG_H
#define TESTS_TWIN_TWIN_RIG_H

#include <kubeedge/router.h>
#include <kubeedge/store.h>
#include <kubeedge/twin.h>

#include "support/support.h"

#define NODE "edge-1"
#define RECORDED 8192

struct twin_recorder {
    struct ke_module *module;
    struct ke_msg *m[RECORDED];
    uint32_t n;
    bool quiet; /* keeps nothing */
};

struct twin_rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_twin *twin;
    struct twin_recorder cloud, mqtt, device;
    struct ke_twin_config c; /* dialect and limits, before twin_start */
    const char *folder;      /* of the store; NULL: in memory */
    const char *node;
    bool confirm; /* the cloud answers what it gets with "OK" */
    /* the last answer to twin_ask */
    uint32_t n_answers;
    int answer_status;
    struct ke_msg *answer;
};

void twin_init(struct twin_rig *r, uint32_t dialect);
/* The same with the store in "/store" of a disk. */
void twin_init_io(struct twin_rig *r, uint32_t dialect, const struct ke_io *io);
void twin_modules(struct twin_rig *r);  /* the recorders, on another router */
int twin_try_start(struct twin_rig *r); /* where memory may be refused */
void twin_start(struct twin_rig *r);
void twin_stop(struct twin_rig *r); /* frees the twin only */
/* The twin and, when it is on a disk, the store closed and opened again. */
void twin_restart(struct twin_rig *r);
void twin_fini(struct twin_rig *r);
void twin_settle(struct twin_rig *r);
void twin_link(struct twin_rig *r, bool up);

/* An application publishes. */
void twin_mqtt(struct twin_rig *r, const char *topic, const char *payload);
/* The cloud says; content is raw JSON. parent may be NULL. */
void twin_cloud(struct twin_rig *r, const char *operation, const char *resource,
                const char *content, const char *parent);
/* A module asks; the answer is in r->answer later. */
void twin_ask(struct twin_rig *r, const char *topic, const char *payload);

/* What was recorded: the n-th with that resource (NULL: any), or NULL; its payload, decoded when it
 * is a string, valid until the next call. */
struct ke_msg *twin_find(const struct twin_recorder *rec, const char *resource, uint32_t n);
uint32_t twin_count(const struct twin_recorder *rec, const char *resource);
const char *twin_text(const struct ke_msg *m);
/* The payload of the last with that resource; fails without one. */
const char *twin_last(const struct twin_recorder *rec, const char *resource);
void twin_forget(struct twin_rig *r);
/* Masks UUIDs as U, 13-digit numbers as T, "YYYY-MM-DD HH:MM:SS" and RFC 3339 as D. */
void twin_mask(char *out, size_t n, const char *text);
#define assert_masked(got, want)                                                                   \
    do {                                                                                           \
        char masked_[65536];                                                                       \
        twin_mask(masked_, sizeof masked_, got);                                                   \
        assert_string_equal(masked_, want);                                                        \
    } while (0)

#endif
