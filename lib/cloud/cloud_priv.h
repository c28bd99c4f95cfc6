/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the cloud end and how they hang together:
 *   certsrv (10002)  pki
 *   session (10000) -> upstream -> objects -> changed() -> deliver -> session
 *   manifests -> bind -> objects
 * Loop thread.
 */
#ifndef KEI_CLOUD_PRIV_H
#define KEI_CLOUD_PRIV_H

#include <kubeedge/cloud.h>
#include <kubeedge/store.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "cloud/objects.h"
#include "cloud/pki.h"
#include "message/msg_priv.h"
#include "net/http.h"
#include "net/ws.h"

struct kei_manifests;
struct kei_certsrv;

struct ke_cloud {
    struct ke_ctx *ctx;
    struct ke_cloud_config config; /* strings in the arena */
    struct kei_arena arena;
    struct ke_cloud_ops ops;
    void *user;
    struct ke_store *store;
    struct kei_pki pki;
    struct kei_objects *objects;
    struct kei_certsrv *certsrv;
    struct kei_http_server *tunnel;
    struct kei_manifests *manifests;
    struct kei_map peers; /* node name -> struct kei_peer */
    uint32_t sessions;
    uint64_t generation;     /* of sessions */
    struct kei_timer health; /* Ready turns Unknown without heartbeat */
    bool running, loaded;
    int start_status;
};

/* A node that the cloud knows: connected, or with objects to be delivered. */
struct kei_peer {
    struct ke_cloud *cloud;
    const char *name;            /* behind the struct */
    uint32_t dialect;            /* KE_DIALECT_AUTO until it showed */
    bool ours;                   /* takes several objects in flight */
    struct kei_session *session; /* NULL: not connected */
    struct kei_map deliveries;   /* uid -> struct kei_delivery */
    struct kei_link queue;       /* of deliveries to send, oldest first */
    uint32_t in_flight, pending;
    struct kei_timer resend;
    struct kei_link held; /* replies that wait a moment, see kei_peer_reply */
    struct kei_timer held_due;
    int64_t heartbeat_ms; /* Unix time of the last status or lease */
};

struct kei_session {
    struct kei_peer *peer;
    struct kei_ws *ws;
    uint64_t generation;
    struct kei_timer keepalive;
};

/* ---- peers and delivery (deliver.c) ---- */
struct kei_peer *kei_peer_get(struct ke_cloud *c, const char *name, bool make);
void kei_peers_free(struct ke_cloud *c);
int kei_peers_load(struct ke_cloud *c, void (*done)(struct ke_cloud *c, int status));
/* The node shall have this version of o. push false: only if the node has or had the object. */
void kei_deliver(struct kei_peer *p, const struct kei_object *o, bool push);
/* The node shall lose the object with this uid. */
void kei_deliver_gone(struct kei_peer *p, const char *type, const char *ns, const char *name,
                      const char *uid);
/* The node has this version already: it got it in a reply. */
void kei_deliver_known(struct kei_peer *p, const struct kei_object *o);
void kei_deliver_acked(struct kei_peer *p, const char *msg_id);
/* A reply with an object went out under msg_id: its ack counts as delivery. */
void kei_deliver_reply_sent(struct kei_peer *p, const char *msg_id, const struct kei_object *o);
void kei_deliver_connected(struct kei_peer *p);
void kei_deliver_disconnected(struct kei_peer *p);

/* ---- sessions (session.c) ---- */
int kei_sessions_start(struct ke_cloud *c);
void kei_session_close(struct kei_session *s, const char *why);
/* Encodes in the peer's dialect and sends; frees nothing. KE_ECLOSED without session. */
int kei_peer_send(struct kei_peer *p, const struct ke_msg *m);
/*
 * Sends a reply. Upstream's edge drops one that is back before its caller began to wait, and then
 * stalls for a minute: so its replies are held for a few milliseconds. Takes a reference.
 */
int kei_peer_reply(struct kei_peer *p, struct ke_msg *m);
void kei_peer_replies_drop(struct kei_peer *p);
void kei_peer_on_held(struct kei_timer *t);

/* ---- requests of nodes (upstream*.c) ---- */
void kei_upstream(struct kei_peer *p, struct ke_msg *m);
/* An object changed: whom it concerns (deliver), and the host's callbacks. */
void kei_cloud_changed(void *user, struct kei_object *o, bool removed);

/* Everything pods of this node refer to is wanted there. */
void kei_cloud_push_references(struct kei_peer *p);

/* A request whose answer waits for the store. */
struct kei_request_ctx {
    struct ke_cloud *cloud;
    char *peer;
    uint64_t generation;
    struct ke_msg *request;
    int form;     /* KEI_FORM_* */
    bool version; /* header.resourceversion in the reply */
    bool as_node; /* the reply's resource is default/node/NODE, not the request's */
};
enum { KEI_FORM_OBJECT, KEI_FORM_OBJECT_RESP, KEI_FORM_OK, KEI_FORM_SILENT };
struct kei_request_ctx *kei_request_new(struct kei_peer *p, struct ke_msg *m, int form,
                                        bool version);
/* kei_object_fn: answers and frees */
void kei_request_done(void *user, int status, struct kei_object *o);
void kei_request_free(struct kei_request_ctx *q);
/* Answers at once. content: raw JSON. version 0: none in the header. */
void kei_answer(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                struct ke_str content, int64_t version);
void kei_answer_ok(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                   int64_t version);
/* {"Object":EMPTY,"Err":{...}} or, bare, {"ErrStatus":{...}}; empty NULL: null */
void kei_answer_error(struct kei_peer *p, const struct ke_msg *m, bool bare, const char *empty,
                      const char *reason, int code, const char *kind, const char *name,
                      const char *text);
void kei_upstream_node(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r);
void kei_upstream_pod(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r);
/* The content of a patch: the decoded string. KE_EPARSE */
int kei_patch_text(struct ke_cloud *c, const struct ke_msg *m, struct ke_buf *out);

/* ---- certificate endpoint (certsrv.c) ---- */
int kei_certsrv_new(struct kei_certsrv **ret, struct ke_cloud *c);
uint16_t kei_certsrv_port(const struct kei_certsrv *s);
void kei_certsrv_free(struct kei_certsrv *s);

/* ---- manifests (manifests.c, defaults.c, references.c, bind.c) ---- */
int kei_manifests_new(struct kei_manifests **ret, struct ke_cloud *c);
void kei_manifests_free(struct kei_manifests *m);
/* Looks at the folder again, soon. NULL is fine. */
void kei_manifests_rescan(struct kei_manifests *m);
/* Begins to delete a pod; one that no node ever got goes at once. */
void kei_cloud_pod_delete(struct ke_cloud *c, struct kei_object *o);
/* Node labels or set of nodes changed: pods without a node may find one. */
void kei_bind_all(struct ke_cloud *c);
/* Calls each for every ConfigMap ("configmap") and Secret ("secret") that pod refers to; repeats.
 */
void kei_pod_references(struct ke_str pod,
                        void (*each)(void *user, const char *type, const char *name), void *user);
bool kei_pod_refers(struct ke_str pod, const char *type, const char *name);

/* ---- what the host sees (info.c) ---- */
void kei_info_node(struct ke_cloud *c, const struct kei_object *o, bool removed,
                   void (*fn)(void *user, const struct ke_cloud_node_info *n), void *user);
void kei_info_pod(const struct kei_object *o, struct kei_arena *a, struct ke_cloud_pod_info *ret);
const char *kei_pod_node(const struct kei_object *o, struct kei_arena *a);

#endif
