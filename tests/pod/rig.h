/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pod engine with a fake runtime, a store in memory and a stand-in for the object flow: it keeps
 * what is reported in the store as the real one does, and answers queries from its objects.
 */
#ifndef TEST_POD_RIG_H
#define TEST_POD_RIG_H

#include "support/support.h"

#include <kubeedge/router.h>
#include <kubeedge/store.h>

#include "fake_runtime.h"
#include "pod/pod.h"

#define RIG_OBJECTS 32
#define RIG_REPORTS 512

struct rig_object {
    char resource[128]; /* NS/TYPE/NAME */
    char *json;         /* NULL: not found */
    bool silent;        /* no answer at all */
};

struct rig_report {
    char operation[16], resource[128];
    char *content;
};

struct rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_module *meta;
    struct fake_runtime fake;
    struct kei_pods *pods;
    struct kei_pods_config conf;
    char data[200];
    bool keep_data;
    uint32_t dialect;
    struct rig_object objects[RIG_OBJECTS];
    int n_objects, queries;
    struct rig_report reports[RIG_REPORTS];
    int n_reports;
    int told, removed, settled;
    char last_phase[16];
    char last_told[600]; /* the host is told changes only: the same twice fails the test */
};

/* flags as of test_env_init. The engine is not started yet: change conf before rig_start. */
void rig_init(struct rig *r, uint32_t flags);
/* The same in a folder that stays: DATA/store is a store on disk. */
void rig_init_at(struct rig *r, uint32_t flags, const char *data);
void rig_fini(struct rig *r);
void rig_start(struct rig *r);
void rig_stop(struct rig *r); /* the engine only; start again to see a restart */
void rig_settle(struct rig *r);

void rig_object(struct rig *r, const char *resource, const char *json);
/* As the object flow does: into the store, then told to the engine. */
void rig_send(struct rig *r, const char *operation, const char *resource, const char *json);
void rig_link(struct rig *r, bool up);
/* Into the store only, as it was before a start. */
void rig_store_pod(struct rig *r, const char *key, const char *json);

/* The newest report "NS/podstatus/NAME" or NULL. */
const char *rig_status(struct rig *r, const char *key);
/* How often operation+resource was sent. */
int rig_count(struct rig *r, const char *operation, const char *resource);
bool rig_has(struct rig *r, const char *key, const char *text); /* in the newest status */

/* A pod object: more goes into metadata ("" or ",\"x\":..."), spec into spec. */
const char *rig_pod(char out[2048], const char *name, const char *uid, const char *more,
                    const char *spec);
#define RIG_MAIN "\"containers\":[{\"name\":\"main\",\"image\":\"img:1\",\"command\":[\"/bin/x\"]}]"

#endif
