/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A metamanager between recording modules: `websocket` stands for the cloud, `edged` and
 * `edgednode` for the node's modules; the store is in memory, or in a folder that outlives it.
 */
#ifndef TESTS_META_META_RIG_H
#define TESTS_META_META_RIG_H

#include <kubeedge/router.h>
#include <kubeedge/store.h>

#include "meta/meta.h"
#include "support/support.h"

#define NODE "edge-1"
#define RECORDED 512

struct recorder {
    struct ke_module *module;
    struct ke_msg *m[RECORDED];
    uint32_t n;
};

struct meta_rig {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct kei_meta_manager *mm;
    struct recorder cloud, edged, node, devices, dmi;
    uint32_t dialect;
    uint32_t queue; /* of each module; 0: the default */
    bool connected;
    char dir[128]; /* "" with a store in memory */
    /* the last answer to meta_ask */
    uint32_t n_answers, n_asked;
    int answer_status;
    struct ke_msg *answer;
    /* one row, after meta_row */
    int row_status;
    char row[65536], row_uid[128];
    size_t row_n;
    int64_t row_version;
    bool row_done;
};

void meta_init(struct meta_rig *r, bool on_disk);
void meta_init_io(struct meta_rig *r, const struct ke_io *io); /* store in "/store" */
void meta_init_queue(struct meta_rig *r, uint32_t messages);   /* queues of the router that short */
void meta_fini(struct meta_rig *r);
/* The metamanager and the store closed and opened again. */
void meta_restart(struct meta_rig *r);
void meta_stop(struct meta_rig *r); /* frees the metamanager only */
void meta_start(struct meta_rig *r);
int meta_try_start(struct meta_rig *r); /* where memory may be refused */

/* A message of the cloud, delivered as the hub does. id is put into id (may be NULL). */
struct told {
    const char *id, *parent, *rv, *source, *group, *operation, *resource, *content;
    int64_t timestamp_ms;
};
void meta_tell(struct meta_rig *r, const struct told *t, char id[37]);
/* Asks the metamanager as a module does; the answer is in r->answer later. */
void meta_ask(struct meta_rig *r, const char *operation, const char *resource, const char *content);
/* Sends without waiting for an answer. */
void meta_send(struct meta_rig *r, const char *operation, const char *resource,
               const char *content);
/* As meta_tell and meta_ask, where memory may be refused; what was not even made does not count. */
void meta_try(struct meta_rig *r, const struct told *t);
void meta_try_ask(struct meta_rig *r, const char *operation, const char *resource);
void meta_link(struct meta_rig *r, bool up);
void meta_settle(struct meta_rig *r);
bool meta_until_answer(struct meta_rig *r, uint32_t n);

/* What was recorded: the n-th message of that operation and resource (NULL: any), or NULL. */
struct ke_msg *meta_find(const struct recorder *rec, const char *operation, const char *resource,
                         uint32_t n);
uint32_t meta_count(const struct recorder *rec, const char *operation, const char *resource);
/* Acknowledgements of id that went to the cloud. */
uint32_t meta_acks(const struct meta_rig *r, const char *id);
void meta_forget(struct meta_rig *r); /* what was recorded */

/* Reads a row into r->row*; its status. */
int meta_row(struct meta_rig *r, const char *bucket, const char *key);
uint32_t meta_rows(struct meta_rig *r, const char *bucket);
const char *meta_answer_content(struct meta_rig *r); /* of the last answer */

#endif
