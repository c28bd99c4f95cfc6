/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the cloud end and how they hang together:
 *   certsrv (10002)  pki
 *   session (10000) -> upstream -> objects -> changed() -> deliver -> session
 *   manifests -> bind -> objects
 *   index: which pod is on which node and refers to what, kept in step with objects
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
#include "message/twin_merge.h"
#include "net/http.h"
#include "net/ws.h"

struct kei_manifests;
struct kei_certsrv;

#define KEI_NODE_NAME_MAX 253
#define KEI_UID_MAX 63
#define KEI_STORE_ID_MAX 63
/* Without a heartbeat for so long a node is Unknown; Kubernetes' grace period. */
#define KEI_HEARTBEAT_MS 40000
/* After a start of the cloud the nodes have this long to come back: upstream's take up to 50 s. */
#define KEI_RETURN_MS 60000

/* Of the two ports, before anybody has shown who he is. */
#define KEI_HANDSHAKES_MAX 512u
#define KEI_CERT_STREAMS 1000u
#define KEI_CERT_PER_ADDRESS 250u /* one address may be that of many nodes */
#define KEI_DESCRIPTORS_KEPT 128u /* for the store, manifests and the host */

enum kei_cloud_state {
    KEI_CLOUD_STOPPED,
    KEI_CLOUD_LOADING, /* listens, but what the store holds is not read yet */
    KEI_CLOUD_LOADED,
    KEI_CLOUD_CLOSING,
};

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
    struct kei_link idle; /* peers that may be given up, looked at in sweep */
    struct kei_defer sweep;
    struct kei_map refs;      /* "type/ns/name" -> struct kei_ref of index.c */
    struct kei_map models;    /* "ns/name" -> struct kei_model_note of device_down.c */
    struct kei_hlc merge_clock; /* of what is desired (device_merge.c); this place is 0 */
    uint32_t graves;            /* objects "devicegrave" */
    struct kei_link unbound;  /* pods without a node: struct kei_pod_note */
    struct kei_link labelled; /* peers whose labels or taints those pods were not tried with */
    struct kei_timer bind;
    struct kei_defer forced; /* pods that are deleted without grace go */
    struct kei_map bindings; /* public key of a certificate -> struct kei_binding of identity.c */
    int bindings_status;     /* of reading them */
    void (*bindings_done)(struct ke_cloud *c, int status);
    struct kei_link joining; /* connections that wait for such a note, of session.c */
    uint32_t tunnel_streams, cert_streams, handshakes; /* what the process has descriptors for */
    uint32_t sessions, nodes;
    uint64_t generation;     /* of sessions */
    struct kei_timer health; /* Ready turns Unknown without heartbeat */
    struct kei_timer reload; /* reading the store failed */
    int64_t started_ms;      /* monotonic */
    enum kei_cloud_state state;
    int start_status;
    bool missed;    /* for want of memory a delivery was not noted: all are gone through again */
    uint32_t depth; /* callbacks of the host on the stack */
    bool ending;    /* one of them stopped the cloud: it is closed when they are over */
    bool freed;     /* ... or freed it */
    struct kei_defer end;
};

/* A node that the cloud knows: connected, or with objects to be delivered. */
struct kei_peer {
    struct ke_cloud *cloud;
    const char *name;            /* behind the struct */
    uint32_t dialect;            /* KE_DIALECT_AUTO until it showed */
    bool ours;                   /* takes several objects in flight */
    bool merges;                 /* said so in this session: devices go and come with stamps */
    struct kei_session *session; /* NULL: not connected */
    uint32_t takes;              /* sessions that lived and were replaced: two programs? */
    int64_t taken_ms, hold_ms;   /* the last time; who is in stays for so long */
    struct kei_link idle;        /* in cloud->idle */

    /* delivery (deliver.c) */
    struct kei_map deliveries;        /* "type/ns/name" -> struct kei_delivery */
    char store[KEI_STORE_ID_MAX + 1]; /* whose acknowledgements these are (lost.c); "": unknown */
    struct kei_map ids;               /* of the newest message of each -> struct kei_delivery */
    struct kei_link queue;            /* of deliveries to send, oldest first */
    struct kei_link flying; /* of those sent and not acknowledged, next to be resent first */
    uint32_t queued, n_flying, strays;
    struct kei_timer resend;
    struct kei_defer kick;
    struct kei_link held; /* replies that wait a moment, see kei_peer_reply */
    uint32_t n_held;
    struct kei_timer held_due;

    /* what is on it (index.c) */
    struct kei_object *node;  /* its Node, NULL if none */
    uint8_t placing[32];      /* digest of its labels and taints */
    struct kei_link labelled; /* in cloud->labelled */
    struct kei_link pods;     /* struct kei_pod_note */
    uint32_t n_pods;

    /* devices (device_down.c) */
    struct kei_link devices; /* struct kei_device_note */
    uint32_t n_devices;
    struct kei_timer devices_due; /* something of the following */
    bool detailed;                /* told of all its devices in this session */
    bool detail_asked;
    bool profiles_due;
    int64_t detail_at;   /* monotonic: then it is told without having asked */
    int64_t anew_at;     /* ... and then of devices that are told later; 0: none */
    int64_t told_at;     /* ... it was told of all, or that one goes */
    struct kei_map left; /* "ns/name" of devices that a 1.4 node lost while it was away */

    /* health (info.c) */
    int64_t heard_ms;     /* monotonic time of the last status or lease; 0: not since the start */
    int64_t heartbeat_ms; /* the same in Unix time, also from before the start */
    bool unknown;         /* as told to the host */
    bool was_unknown;     /* when the cloud stopped */
};

struct kei_session {
    struct kei_peer *peer;
    struct kei_ws *ws;
    uint64_t generation;
    struct kei_timer keepalive;
    int64_t heard_ms; /* of the last message, or the connect; monotonic */
    uint8_t cert[32]; /* digest of its certificate */
    uint32_t waiting; /* requests that wait for the store */
    bool paused;      /* too many of them: nothing is read */
    bool refused;     /* another one, and that was logged */
    bool failed;      /* ends in the next turn */
    char why[128];
};

/* ---- rows of the store (cloud.c) ---- */
/* A row nobody needs any more. Best effort: what stays is found again at the next start. */
void kei_row_drop(struct ke_cloud *c, const struct ke_store_item *item);

/* ---- peers (peers.c) ---- */
/* NULL: none (make false), or out of memory */
struct kei_peer *kei_peer_get(struct ke_cloud *c, const char *name, bool make);
/* It lost something: perhaps nothing holds it any more. It lives until the end of the turn. */
void kei_peer_check(struct kei_peer *p);
void kei_peers_free(struct ke_cloud *c);
/* Reads what nodes hold, and who was Unknown. */
int kei_peers_load(struct ke_cloud *c, void (*done)(struct ke_cloud *c, int status));

/* ---- delivery (deliver.c) ---- */
void kei_deliver_init(struct kei_peer *p);
void kei_deliver_fini(struct kei_peer *p);
bool kei_deliver_idle(const struct kei_peer *p); /* there is nothing to remember */
/* The node shall have this version of o. KE_ENOMEM */
int kei_deliver(struct kei_peer *p, const struct kei_object *o);
/* The node shall lose the object with this uid. */
void kei_deliver_gone(struct kei_peer *p, const char *type, const char *ns, const char *name,
                      const char *uid);
/* What the node holds under this name does not matter any more. */
void kei_deliver_forget(struct kei_peer *p, const char *type, const char *ns, const char *name);
/* The node told of a pod that it should not have. KE_ELIMIT: too many of them at a time. */
int kei_deliver_stray(struct kei_peer *p, const char *ns, const char *name, const char *uid);
/* The node itself made this version of o from version base. */
void kei_deliver_reported(struct kei_peer *p, const struct kei_object *o, int64_t base,
                          int64_t version);
/* The node has all of o that it shall have. */
bool kei_deliver_done(const struct kei_peer *p, const struct kei_object *o);
/* The node may still have another object of o's name: a former life of it. */
bool kei_deliver_holds_former(const struct kei_peer *p, const struct kei_object *o);
/* The node may have this object. */
bool kei_deliver_holds(const struct kei_peer *p, const struct kei_object *o);
void kei_deliver_acked(struct kei_peer *p, const char *msg_id);
/*
 * The node asked for o: ready (once, at once or later, not at all when the session ends first) when
 * it is on disk that the node may have it. Then a reply may go, and its id be told here, so that
 * its ack counts as delivery.
 */
int kei_deliver_lend(struct kei_peer *p, const struct kei_object *o, struct ke_msg *request,
                     void (*ready)(struct kei_peer *p, struct ke_msg *request));
void kei_deliver_lent(struct kei_peer *p, const struct kei_object *o, const char *msg_id);
void kei_deliver_disconnected(struct kei_peer *p);
void kei_deliver_kick(struct kei_peer *p); /* later in this turn */
/* From the store: the node may have uid, and acknowledged version; of a device, what is left of it.
 */
int kei_deliver_load(struct kei_peer *p, const char *type, const char *ns, const char *name,
                     const struct ke_store_item *item);

/* The newest version that p acknowledged of what it holds, as far as that is known. */
int64_t kei_deliver_newest(const struct kei_peer *p);
/* The node may hold what it did, but in no known version; put into tx, if any. How many that are.
 */
size_t kei_deliver_doubt(struct kei_peer *p, struct ke_store_tx *tx);

/* ---- nodes that lost what they had (lost.c) ---- */
/* The node joined by token: at its next connect everything is delivered again. Results and done as
 * with kei_identity_bind. */
int kei_lost_joined(struct ke_cloud *c, const char *node, void (*done)(void *user, int status),
                    void *user, struct ke_error *err);
/* The node connected and told this id of its store; NULL or empty: none. */
void kei_lost_check(struct kei_peer *p, struct ke_str told);
/* told: what the node says is the newest version it has. Finds out if this store, or the node's, is
 * a copy of an older day. */
void kei_lost_compare(struct kei_peer *p, struct ke_str told);
void kei_lost_load(struct ke_cloud *c, const struct ke_store_item *item);

/* ---- sessions (session.c) ---- */
int kei_sessions_start(struct ke_cloud *c);
void kei_session_close(struct kei_session *s, const char *why);
/* The same in the next turn: for callers that still need the session. */
void kei_session_fail(struct kei_session *s, const char *why);
/* Encodes in the peer's dialect and sends. KE_ECLOSED without session. */
int kei_peer_send(struct kei_peer *p, const struct ke_msg *m);
/*
 * Sends a reply. Upstream's edge drops one that is back before its caller began to wait, and then
 * stalls for a minute: so its replies are held for a few milliseconds. Takes a reference. A peer
 * that asks and does not read loses its session.
 */
int kei_peer_reply(struct kei_peer *p, struct ke_msg *m);
void kei_peer_replies_drop(struct kei_peer *p);
void kei_peer_on_held(struct kei_timer *t);
/* A request waits for the store, or does not any more: reading stops when there are too many. */
void kei_session_waits(struct kei_session *s, int by);

/* ---- requests of nodes (upstream*.c) ---- */
void kei_upstream(struct kei_peer *p, struct ke_msg *m);

/* A request whose answer waits for the store. */
struct kei_request_ctx {
    struct ke_cloud *cloud;
    char *peer;
    uint64_t generation;
    struct ke_msg *request;
    int form;              /* KEI_FORM_* */
    bool version;          /* header.resourceversion in the reply */
    bool as_node;          /* the reply's resource is default/node/NODE, not the request's */
    int64_t base, written; /* of a pod: version before and after; 0: does not matter */
};
enum {
    KEI_FORM_OBJECT,
    KEI_FORM_OBJECT_RESP,
    KEI_FORM_OK,
    KEI_FORM_SILENT,
    KEI_FORM_CONFIRM, /* of a device: or nothing, so that it is told again */
};
struct kei_request_ctx *kei_request_new(struct kei_peer *p, struct ke_msg *m, int form,
                                        bool version);
/* It could not even be answered: the session ends, so that the node asks again. */
void kei_request_lost(struct kei_peer *p);
/* kei_object_fn: answers and frees */
void kei_request_done(void *user, int status, struct kei_object *o);
void kei_request_free(struct kei_request_ctx *q);
/* Answers at once. content: raw JSON. version 0: none in the header. */
void kei_answer(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                struct ke_str content, int64_t version);
void kei_answer_ok(struct kei_peer *p, const struct ke_msg *m, const char *resource,
                   int64_t version);
/* As KubeEdge since 1.5 confirms what a device twin told. */
void kei_answer_confirm(struct kei_peer *p, const struct ke_msg *m);
/* {"Object":OBJECT,"Err":null} */
void kei_answer_object(struct kei_peer *p, const struct ke_msg *m, const struct kei_object *o,
                       int64_t version);
/* {"Object":EMPTY,"Err":{...}} or, bare, {"ErrStatus":{...}}; empty NULL: null */
void kei_answer_error(struct kei_peer *p, const struct ke_msg *m, bool bare, const char *empty,
                      const char *reason, int code, const char *kind, const char *name,
                      const char *text);
/* Reason and code for a write that failed with status, "" and 0 for none known. */
const char *kei_write_reason(int status, int *ret_code);
void kei_upstream_node(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r);
void kei_upstream_lease(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r);
void kei_upstream_pod(struct kei_peer *p, struct ke_msg *m, const struct kei_resource *r);
/* The content of a patch: the decoded string. KE_EPARSE */
int kei_patch_text(struct ke_cloud *c, const struct ke_msg *m, struct ke_buf *out);
struct ke_str kei_content(const struct ke_msg *m);
/* b with the member at path set; b unchanged on failure */
int kei_set_raw(struct ke_ctx *ctx, struct ke_buf *b, const char *path, struct ke_str value);

/* ---- whose a certificate is (identity.c) ---- */
#define KEI_BIND_MAX 2
struct kei_identity {
    bool legacy;                 /* the form up to 1.15, without the node's name */
    uint8_t digest[32], key[32]; /* of the certificate, of its public key */
    int64_t until;               /* Unix seconds */
};
bool kei_is_legacy(const char *cn, const char *org);
bool kei_is_of_node(const char *cn, const char *org, const char *node);
/* KE_ECERT */
int kei_identity_of(struct kei_identity *ret, const struct kei_cert *cert, struct ke_error *err);
/* KE_EREFUSED: it is another node's. KE_EAGAIN: the store is not read yet. The chain is not looked
 * at. */
int kei_identity_check(struct ke_cloud *c, const struct kei_cert *cert, const char *node,
                       struct kei_identity *ret, struct ke_error *err);
/*
 * From now on those of ids (KEI_BIND_MAX at most) that are legacy speak for node alone. 1: that is
 * on disk. 0: done is told when it is, in a later turn, also while the cloud closes. Negative: done
 * is not called; KE_EREFUSED, KE_EAGAIN, KE_ELIMIT, KE_ENOMEM, errors of the store.
 */
int kei_identity_bind(struct ke_cloud *c, const struct kei_identity *const *ids, size_t n,
                      const char *node, void (*done)(void *user, int status), void *user,
                      struct ke_error *err);
int kei_identity_load(struct ke_cloud *c, void (*done)(struct ke_cloud *c, int status));
void kei_identity_free(struct ke_cloud *c);

/* ---- certificate endpoint (certsrv.c) ---- */
int kei_certsrv_new(struct kei_certsrv **ret, struct ke_cloud *c);
uint16_t kei_certsrv_port(const struct kei_certsrv *s);
void kei_certsrv_free(struct kei_certsrv *s);

/* ---- manifests (manifests.c, manifest_apply.c, manifest_check.c, defaults.c) ---- */
int kei_manifests_new(struct kei_manifests **ret, struct ke_cloud *c);
void kei_manifests_free(struct kei_manifests *m);
/* A pod of this manifest is gone, which it may want again. NULL is fine. */
void kei_manifests_pod_gone(struct kei_manifests *m, const struct kei_object *o);

/* ---- the pods of nodes (index.c, references.c) ---- */
struct kei_pod_note {
    struct kei_link link; /* in peer->pods or cloud->unbound */
    struct kei_object *pod;
    struct kei_peer *peer; /* NULL: without a node */
    bool fresh;            /* no node was tried for it yet */
    bool mirror;           /* made by its node: gives no right to what it names */
    size_t n_uses;
    struct kei_use *uses;
};
int kei_index(void *cloud, struct kei_object *o, struct ke_str next); /* kei_objects_ops.index */
void kei_index_free(struct ke_cloud *c);
/* Does a pod of this node that entitles refer to it? */
bool kei_index_refers(struct kei_peer *p, const char *type, const char *ns, const char *name);
/* Each pod that entitles and refers to it. */
void kei_index_users(struct ke_cloud *c, const char *type, const char *ns, const char *name,
                     void (*each)(void *user, struct kei_pod_note *pod), void *user);
/* Calls each for every ConfigMap ("configmap") and Secret ("secret") that pod refers to; repeats.
 */
void kei_pod_references(struct ke_str pod,
                        void (*each)(void *user, const char *type, const char *name), void *user);

/* A static pod that its node tells of: no reference of it opens anything. */
bool kei_pod_is_mirror(struct ke_str pod);
/* A manifest made it: its node may read what it refers to. */
bool kei_pod_entitles(const struct kei_pod_note *note);
/* What a pod that a node made has and may not have; NULL: nothing. */
const char *kei_mirror_fault(struct ke_str pod);

/* ---- binding and the end of pods (bind.c, pods.c) ---- */
void kei_bind_init(struct ke_cloud *c);
void kei_bind_soon(struct ke_cloud *c); /* a pod or labels are new */
/* Begins to delete a pod; one that its node cannot have goes at once. */
int kei_cloud_pod_delete(struct ke_cloud *c, struct kei_object *o);
/* Removes the pods that are deleted without grace, later in this turn. */
void kei_cloud_end_forced(struct ke_cloud *c);
/* A node is deleted with its lease and its pods; its session ends. */
int kei_cloud_node_delete(struct ke_cloud *c, const char *name);
/* An object changed: whom it concerns (deliver), and the host's callbacks. */
void kei_cloud_changed(void *user, struct kei_object *o, bool removed);
/* What the pods of this node refer to is wanted there, as far as it does not ask for it itself. */
void kei_push_references(struct kei_peer *p);
/* Everything that is wanted anywhere, for what was missed. */
void kei_push_all(struct ke_cloud *c);

/* ---- what the host sees (info.c) ---- */
void kei_host_enter(struct ke_cloud *c); /* around each call of the host's functions */
void kei_host_leave(struct ke_cloud *c);
bool kei_host_listens(const struct ke_cloud *c);
void kei_tell_node(struct ke_cloud *c, const struct kei_object *o, bool removed);
void kei_tell_pod(struct ke_cloud *c, const struct kei_object *o, bool removed);
void kei_tell_manifest_error(struct ke_cloud *c, const char *text);
void kei_info_node(struct ke_cloud *c, const struct kei_object *o, struct kei_arena *a,
                   struct ke_cloud_node_info *ret);
void kei_info_pod(const struct kei_object *o, struct kei_arena *a, struct ke_cloud_pod_info *ret);
/* out, "" without a node */
const char *kei_pod_node(struct ke_str pod, char out[KEI_NODE_NAME_MAX + 1]);
bool kei_pod_deleting(const struct kei_object *o);
/* A status or lease came. */
void kei_heartbeat(struct kei_peer *p);
/* What the stored objects say of its dialect and heartbeat. */
void kei_health_load(struct kei_peer *p, int64_t unknown_at);
void kei_health_check(struct ke_cloud *c);

#endif
