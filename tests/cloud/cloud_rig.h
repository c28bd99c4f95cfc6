/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cloud on the virtual clock and scripted edges that dial it over TLS on loopback. The edges live
 * in a context of their own with plain memory, so that failing allocations hit the cloud alone.
 *
 *     struct rig r;
 *     rig_init(&r, NULL);              folders r.data and r.manifests; change r.conf before the
 * start rig_manifest(&r, "a.yaml", "..."); rig_start(&r); struct edge e; edge_init(&e, &r,
 * "edge-1"); edge_connect(&e); struct ke_msg *m = edge_wait(&e, "insert", "default/pod/p");
 *     ...
 *     edge_fini(&e);
 *     rig_fini(&r);                    checks memory, descriptors and error lines of the cloud
 */
#ifndef TESTS_CLOUD_RIG_H
#define TESTS_CLOUD_RIG_H

#include "support/support.h"

#include "cloud/cloud_priv.h"

#define EDGE_MESSAGES 4096
#define RIG_LINES 512

struct rig {
    struct test_env env;  /* the cloud's */
    struct ke_ctx *edges; /* the edges' */
    char dir[128], data[160], manifests[160];
    struct ke_cloud_config conf;
    struct ke_cloud *c;
    /* what the host was told: "node NAME STATUS connected", "pod NS/NAME NODE PHASE [deleting]",
     * "device NS/NAME NODE STATE TWIN=DESIRED/REPORTED/OBSERVED... [!REASON]", with "removed" in
     * front when so, "error TEXT" */
    char *lines[RIG_LINES];
    uint32_t n_lines;
    bool quiet; /* do not record */
    void (*on_line)(struct rig *r, const char *line);
    int64_t idle_ms;
};

struct edge {
    struct rig *rig;
    char name[256];
    const char *agent;    /* User-Agent; default one of ours */
    const char *node_id;  /* default: name */
    const char *use;      /* ConnectionUse; default "msg" */
    bool merges;          /* says so in the upgrade */
    char merge_answer[64]; /* what the cloud said to that; "" if nothing */
    const char *cn, *org; /* of its certificate */
    struct kei_key *key;
    struct kei_cert *cert;
    struct kei_ws *ws;
    bool open, closed;
    int close_status;
    uint32_t http_status;
    char close_text[300];
    bool no_ack; /* acknowledges nothing by itself */
    bool beats;  /* sends keepalives */
    struct kei_timer beat;
    struct ke_msg *messages[EDGE_MESSAGES];
    uint32_t n_messages, connects;
    void (*on_message)(struct edge *e, struct ke_msg *m); /* before it is acknowledged */
    void *user;
};

void rig_init(struct rig *r, const struct ke_io *io);
void rig_start(struct rig *r);    /* waits until the store is read */
int rig_try_start(struct rig *r); /* does not */
bool rig_loaded(struct rig *r);   /* waits for it */
void rig_stop(struct rig *r);
void rig_fini(struct rig *r);
void rig_restart(struct rig *r);

/* Runs both loops until pred holds; false: it never will. */
bool rig_until(struct rig *r, bool (*pred)(void *arg), void *arg);
void rig_ms(struct rig *r, int64_t ms); /* of virtual time */
void rig_settle(struct rig *r);         /* until nothing is left to do, without time passing */
void rig_turn(struct rig *r);           /* a turn of each loop, if it has one */

/* Replaces a manifest as careful people do; text NULL removes it. */
void rig_manifest(struct rig *r, const char *name, const char *text);
void rig_write_file(const char *path, const char *text);              /* in place */
const char *rig_line(struct rig *r, const char *start, uint32_t nth); /* NULL: none yet */
const char *rig_wait_line(struct rig *r, const char *start);          /* and waits for one */
uint32_t rig_count(const struct rig *r, const char *start);
void rig_forget(struct rig *r);
struct kei_object *rig_object(struct rig *r, const char *type, const char *ns, const char *name);
/* Waits until it is there and durable. */
struct kei_object *rig_wait_object(struct rig *r, const char *type, const char *ns,
                                   const char *name);
bool rig_wait_gone(struct rig *r, const char *type, const char *ns, const char *name);
/* The text at a path of a JSON object, in a static buffer; "" if there is none. */
const char *json_text(struct ke_str object, const char *path);
const char *msg_text(const struct ke_msg *m, const char *path);
struct kei_peer *rig_peer(struct rig *r, const char *node);

#define POD(name, node, more)                                                                      \
    "apiVersion: v1\nkind: Pod\nmetadata: {name: " name "}\nspec:\n  nodeName: " node              \
    "\n  containers: [{name: c, image: \"i:1\"" more "}]\n"
#define CONFIG(name, value)                                                                        \
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " name "}\ndata: {k: \"" value "\"}\n"
#define SECRET(name, value)                                                                        \
    "apiVersion: v1\nkind: Secret\nmetadata: {name: " name "}\nstringData: {k: \"" value "\"}\n"
#define REFERS(name) ", envFrom: [{configMapRef: {name: " name "}}]"

void edge_init(struct edge *e, struct rig *r, const char *name);
void edge_fini(struct edge *e);
/* Signs a certificate for e->cn, e->org with this authority; NULL: the cloud's. */
void edge_sign(struct edge *e, const struct kei_cert *ca, const struct kei_key *ca_key);
bool edge_connect(struct edge *e); /* and waits; false: refused */
void edge_dial(struct edge *e);    /* does not */
void edge_drop(struct edge *e);    /* closes, without a word */
bool edge_wait_closed(struct edge *e);
void edge_text(struct edge *e, const char *text, size_t n);
/* Sends a message of source edged, group meta; its id in a static buffer. */
const char *edge_send(struct edge *e, const char *op, const char *resource, const char *content);
const char *edge_send_as(struct edge *e, const char *source, const char *group, const char *op,
                         const char *resource, const char *content);
void edge_ack(struct edge *e, const struct ke_msg *m);
void edge_keepalive(struct edge *e);
/* The nth (0 first) message like that; NULL for any. Waits; NULL: it never came. */
struct ke_msg *edge_find(struct edge *e, const char *op, const char *resource, uint32_t nth);
struct ke_msg *edge_wait(struct edge *e, const char *op, const char *resource);
struct ke_msg *edge_wait_nth(struct edge *e, const char *op, const char *resource, uint32_t nth);
uint32_t edge_count(struct edge *e, const char *op, const char *resource);
/* Sends and waits for the reply. */
struct ke_msg *edge_ask(struct edge *e, const char *op, const char *resource, const char *content);
struct ke_msg *edge_reply_to(struct edge *e, const char *id);
void edge_forget(struct edge *e);
/* Registers in the form of 1.15 ("default") or 1.23 ("null"), with a Ready status and labels. */
void edge_register(struct edge *e, const char *ns, const char *labels);
void edge_pod_status(struct edge *e, const char *ns, const char *name, const char *status);
const char *msg_content(const struct ke_msg *m);

#endif
