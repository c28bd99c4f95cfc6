/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the MQTT server: who refers to whom. A connection (mq_conn) comes and goes with its
 * socket; a session (mq_session) is what the standard calls session state and may outlive it;
 * messages (mq_msg) are shared by all who wait for them. Loop thread, but where marked.
 */
#ifndef KEI_MQTT_SERVER_H
#define KEI_MQTT_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/loop.h"
#include "mqtt/access.h"
#include "mqtt/codec.h"
#include "mqtt/mqtt.h"
#include "mqtt/wheel.h"
#include "net/bind.h"
#include "net/stream.h"

struct mq_conn;
struct mq_session;
struct mq_msg;
struct mq_journal;

#define MQ_NEVER INT64_MAX
#define MQ_RX (32 * 1024) /* bytes taken from a socket at once */
#define MQ_COPY 1024      /* payloads up to here are copied into the output, larger ones shared */
#define MQ_FLUSH (64 * 1024) /* a connection with so much output is written at once */
#define MQ_TEXT 200
#define MQ_LEVELS 201 /* of a topic or filter, at most: 200 slashes */

/* ---- messages (msg.c) ---- */

#define MQ_MSG_RETAIN 1u /* published with the retain flag */
#define MQ_MSG_FORMAT 2u /* payload format indicator 1 */
#define MQ_MSG_SYS 4u    /* of the server's own: not kept on disk */

/* One allocation; bytes: topic, properties (to be forwarded as they are), payload, names. */
struct mq_msg {
    struct ke_mqtt *m;
    uint32_t refs;   /* of the loop */
    atomic_uint ext; /* of the host, all together one of refs (msg.c) */
    uint32_t payload_n, props_n;
    uint16_t topic_n, client_n, user_n;
    uint8_t qos, flags;
    uint32_t snap;       /* of the journal: in which snapshot it is */
    int64_t expires_ms;  /* monotonic; MQ_NEVER */
    uint64_t mid;        /* of the journal; 0: not in it */
    struct mq_msg *gone; /* list of those the host let go */
    char bytes[];
};

static inline struct ke_str mq_topic(const struct mq_msg *g)
{
    return kei_strn(g->bytes, g->topic_n);
}
static inline struct ke_str mq_props(const struct mq_msg *g)
{
    return kei_strn(g->bytes + g->topic_n, g->props_n);
}
static inline struct ke_str mq_payload(const struct mq_msg *g)
{
    return kei_strn(g->bytes + g->topic_n + g->props_n, g->payload_n);
}
static inline size_t mq_msg_size(const struct mq_msg *g)
{
    return sizeof *g + g->topic_n + g->props_n + g->payload_n + g->client_n + g->user_n;
}

/* What a message is made of. */
struct mq_draft {
    struct ke_str topic, props, payload, client, user;
    uint64_t skip; /* properties (KEI_MQTT_HAS) that are left out of props */
    int64_t expires_ms;
    uint8_t qos, flags;
};
/* NULL: no memory. One reference. Any thread. */
struct mq_msg *kei_mq_msg_new(struct ke_mqtt *m, const struct mq_draft *d);
void kei_mq_msg_free(struct mq_msg *g);
static inline struct mq_msg *mq_ref(struct mq_msg *g)
{
    g->refs++;
    return g;
}
static inline void mq_unref(struct mq_msg *g)
{
    if (g && --g->refs == 0)
        kei_mq_msg_free(g);
}
void kei_mq_msg_collect(struct ke_mqtt *m); /* what the host let go */
/* Fills a view for callbacks; ids may be NULL. */
void kei_mq_msg_view(struct mq_msg *g, struct ke_mqtt_message *v, unsigned qos, bool retain,
                     const uint32_t *ids, uint32_t n_ids);

/* ---- output (out.c) ---- */

struct mq_chunk {
    struct mq_chunk *next;
    const uint8_t *p;  /* bytes, or the payload of msg */
    uint32_t from, to; /* of p: what is still to be sent */
    uint32_t cap;      /* of bytes; 0: it refers to msg */
    struct mq_msg *msg;
    uint8_t bytes[];
};
struct mq_out {
    struct mq_chunk *head, *tail;
    size_t n; /* bytes in it */
};
#define MQ_CHUNK 2016 /* usable bytes of a pooled chunk */
#define MQ_CHUNKS_KEPT 512

uint8_t *kei_mq_out_room(struct ke_mqtt *m, struct mq_out *o, size_t n); /* NULL: no memory */
bool kei_mq_out_add(struct ke_mqtt *m, struct mq_out *o, const void *p, size_t n);
/* n bytes from p inside of g, without copying */
bool kei_mq_out_share(struct ke_mqtt *m, struct mq_out *o, struct mq_msg *g, const uint8_t *p,
                      size_t n);
void kei_mq_out_move(struct mq_out *to, struct mq_out *from);        /* behind what is there */
void kei_mq_out_drop(struct ke_mqtt *m, struct mq_out *o, size_t n); /* sent */
void kei_mq_out_clear(struct ke_mqtt *m, struct mq_out *o);
void kei_mq_chunks_free(struct ke_mqtt *m);

/* ---- the tree of topics (tree.c) ---- */

struct mq_node {
    struct mq_node *parent, *hnext;
    struct mq_node *child, *next, *prev; /* children in a ring-less list; prev NULL: the first */
    void *value;                         /* of the user; a node without value and child goes */
    uint32_t hash;
    uint16_t seg_n;
    uint8_t has_plus, has_hash; /* it has such a child */
};
static inline char *mq_seg(const struct mq_node *n) /* its segment, behind it */
{
    return (char *)(uintptr_t)(n + 1);
}
struct mq_tree {
    const struct ke_alloc *alloc;
    struct mq_node **slots;
    size_t n, cap;
    uint64_t seed;
    struct mq_node root;
};
int kei_mq_tree_init(struct mq_tree *t, const struct ke_alloc *a, uint64_t seed);
void kei_mq_tree_free(struct mq_tree *t); /* values are the caller's, gone before */
struct mq_node *kei_mq_tree_child(const struct mq_tree *t, const struct mq_node *parent,
                                  struct ke_str seg);
struct mq_node *kei_mq_tree_find(const struct mq_tree *t, struct ke_str topic);
struct mq_node *kei_mq_tree_make(struct mq_tree *t, struct ke_str topic); /* NULL: no memory */
void kei_mq_tree_prune(struct mq_tree *t, struct mq_node *n); /* if it is of no use any more */
/* fn for each node with a value whose filter matches topic. */
void kei_mq_tree_match(struct mq_tree *t, struct ke_str topic,
                       void (*fn)(void *user, struct mq_node *n), void *user);
/* fn for each node with a value whose topic is matched by filter; false of fn ends it. */
void kei_mq_tree_select(struct mq_tree *t, struct ke_str filter,
                        bool (*fn)(void *user, struct mq_node *n), void *user);
/* the next node in depth-first order inside of top, or NULL; n may be top */
struct mq_node *kei_mq_tree_next(const struct mq_node *top, const struct mq_node *n);
void kei_mq_tree_text(const struct mq_node *n, struct ke_buf *b); /* its topic or filter */

/* ---- subscriptions (subs.c) ---- */

struct mq_share { /* a group of a shared subscription, at its node */
    struct mq_share *next;
    struct kei_link subs; /* the one at the front is asked first */
    uint32_t n;
    uint16_t name_n;
    char name[];
};
struct mq_sub {
    struct mq_node *node;
    struct mq_session *s;
    struct mq_share *share;  /* NULL: not shared */
    struct kei_link in_node; /* of the node's list, or of the share's */
    struct kei_link in_session;
    uint32_t id;     /* subscription identifier; 0: none */
    uint8_t options; /* as in SUBSCRIBE */
};
struct mq_subs { /* value of a node */
    struct kei_link subs;
    struct mq_share *shares;
    uint32_t n;
};
/* 0 with *ret_new telling if it was not there before; a reason code; KE_ENOMEM */
int kei_mq_sub_set(struct mq_session *s, struct ke_str filter, uint8_t options, uint32_t id,
                   struct mq_sub **ret, bool *ret_new);
/* of s at n, in that group (NULL: not shared); NULL: none */
struct mq_sub *kei_mq_sub_find(struct mq_session *s, struct mq_node *n, struct mq_share *share);
bool kei_mq_sub_remove(struct mq_session *s, struct ke_str filter); /* false: there was none */
void kei_mq_sub_free(struct mq_sub *sub);
void kei_mq_subs_clear(struct mq_session *s);
void kei_mq_sub_filter(const struct mq_sub *sub, struct ke_buf *b); /* as it was given */

/* ---- deliveries and sessions (session.c) ---- */

#define MQ_D_RETAIN 1u
#define MQ_D_DUP 2u
#define MQ_D_REL 4u     /* PUBREC came, msg is gone, PUBREL is what is to be sent */
#define MQ_D_DONE 8u    /* acknowledged, waits for those before it to leave the ring */
#define MQ_D_LOGGED 16u /* in the journal */
#define MQ_D_SHARED 32u /* by a shared subscription: others may have it instead */

struct mq_delivery {
    struct mq_msg *msg;
    union {
        uint32_t one;
        uint32_t *many;
    } ids;
    uint32_t did; /* number in the session, for the journal */
    uint16_t n_ids;
    uint8_t qos, flags;
};
struct mq_ring { /* power of two; nothing allocated while empty */
    struct mq_delivery *e;
    uint32_t head, n, cap;
};
static inline struct mq_delivery *mq_ring_at(const struct mq_ring *r, uint32_t i)
{
    return &r->e[(r->head + i) & (r->cap - 1)];
}

struct mq_will {
    struct mq_msg *msg;
    uint32_t delay_s;
    bool outlives; /* its session, which was given no expiry, by its delay */
};

#define MQ_S_LOCAL 1u     /* of the firmware; sub is its handle */
#define MQ_S_KEPT 2u      /* in the journal: survives a restart */
#define MQ_S_ENDED 4u     /* being freed */
#define MQ_S_WILL_ONLY 8u /* over, but for its will, which waits for its delay */

struct mq_session {
    struct ke_mqtt *m;
    struct mq_session *hnext;
    struct mq_conn *conn; /* NULL: away */
    struct ke_mqtt_sub *local;
    const void *origin;   /* equal to that of a message: it published it itself */
    struct kei_link link; /* all */
    struct kei_link subs;
    struct mq_ring queue, flight;
    uint16_t *rec;        /* packet ids of QoS 2 taken and not released; sorted not, open hash */
    struct mq_will *will; /* waits for its delay, or for the connection to end */
    char *user_name;      /* whose session it is; NULL: nobody's in particular */
    struct mq_wheel_item timer;
    int64_t expires_ms, will_ms; /* MQ_NEVER */
    int64_t away_ms;             /* real time it went away, for the journal */
    uint64_t queued_bytes;
    uint64_t sid;
    uint32_t hash;
    uint32_t n_subs, next_did, expiry_s;
    uint32_t mark, hit; /* of the routing in progress */
    uint32_t in_flight; /* entries of flight that are not done */
    uint32_t resend;    /* entries of flight still to be sent again, counted from sent_to */
    uint32_t flight_at;
    uint32_t dropped; /* messages, since its queue became full; 0: it is not */
    uint64_t flight_bytes;
    uint16_t base_pid; /* of the first in flight */
    uint16_t rec_n, rec_cap;
    uint8_t flags;
    uint16_t id_n;
    char id[];
};
static inline struct ke_str mq_id(const struct mq_session *s)
{
    return kei_strn(s->id, s->id_n);
}

struct mq_session *kei_mq_session_find(struct ke_mqtt *m, struct ke_str id);
struct mq_session *kei_mq_session_new(struct ke_mqtt *m, struct ke_str id);  /* NULL: no memory */
struct mq_session *kei_mq_session_bare(struct ke_mqtt *m, struct ke_str id); /* not in the table */
void kei_mq_session_free(struct mq_session *s); /* with all that waits in it, and subscriptions */
/* The connection is gone (s->conn is NULL already): keep it for its expiry, or end it. */
void kei_mq_session_away(struct mq_session *s);
void kei_mq_session_end(struct mq_session *s, const char *why); /* will, event, free */
void kei_mq_session_arm(struct mq_session *s);
void kei_mq_session_timer(struct mq_wheel_item *w);
void kei_mq_will_publish(struct mq_session *s);
void kei_mq_will_free(struct mq_session *s);
/*
 * Gives a message to a session: to its connection, or into its queue, as its state and the limits
 * allow. flags: MQ_D_RETAIN, MQ_D_SHARED. ids: of the matching subscriptions.
 */
void kei_mq_deliver(struct mq_session *s, struct mq_msg *g, unsigned qos, unsigned flags,
                    const uint32_t *ids, uint32_t n_ids);
void kei_mq_pump(struct mq_session *s);   /* sends what waits, as far as the window allows */
void kei_mq_resume(struct mq_session *s); /* a connection came back */
/* PUBACK, PUBREC, PUBCOMP of the client. 1; 0: no such packet id; -1: not in that state */
int kei_mq_acked(struct mq_session *s, unsigned type, uint16_t pid, unsigned reason);
bool kei_mq_rec_has(const struct mq_session *s, uint16_t pid);
int kei_mq_rec_add(struct mq_session *s, uint16_t pid); /* 0, KE_ENOMEM */
bool kei_mq_rec_remove(struct mq_session *s, uint16_t pid);
/* for the journal's recovery: puts d (its reference is taken over) in its place */
int kei_mq_queue_push(struct mq_session *s, const struct mq_delivery *d);
int kei_mq_flight_push(struct mq_session *s, const struct mq_delivery *d, uint16_t pid);
void kei_mq_delivery_done(struct mq_session *s, struct mq_delivery *d); /* its memory */
const uint32_t *kei_mq_ids(const struct mq_delivery *d);

/* ---- routing (route.c) ---- */

/* Gives g to all whose subscription matches; the number of sessions that did. origin: who
 * published, for no local. Nested calls (from callbacks) are queued. */
uint32_t kei_mq_route(struct ke_mqtt *m, struct mq_msg *g, const void *origin);
/* s is over: what its shared subscriptions brought and it did not acknowledge others get. */
void kei_mq_pass_on(struct mq_session *s);
/* Retained: store, remove (empty payload), tell a new subscription. 0 or a reason code. */
int kei_mq_retain(struct ke_mqtt *m, struct mq_msg *g);
void kei_mq_retained_to(struct mq_sub *sub);
void kei_mq_retain_set(struct ke_mqtt *m, struct mq_node *n, struct mq_msg *g); /* recovery, too */
void kei_mq_retain_clear(struct ke_mqtt *m);
/* Publishes on behalf of the server: retain and route. */
void kei_mq_publish(struct ke_mqtt *m, struct mq_msg *g, const void *origin);

/* ---- connections ---- */

enum mq_state {
    MQ_NEW,      /* waits for CONNECT */
    MQ_AUTH,     /* waits for who decides; not read */
    MQ_EXCHANGE, /* waits for the client's AUTH */
    MQ_UP,
    MQ_CLOSING, /* sends what is left, reads nothing */
    MQ_DEAD,    /* waits for the end of the turn */
};

struct mq_listener;
struct mq_via; /* TLS or WebSocket: a stream instead of a bare socket */
struct mq_aliases;
struct mq_gate; /* output that waits for the journal */
struct ke_mqtt_auth;

#define MQ_C_DIRTY 1u
#define MQ_C_PROBLEM 2u    /* wants reason strings and user properties */
#define MQ_C_FREE_WRITE 4u /* no rule applies to what it publishes */
#define MQ_C_FREE_READ 8u
#define MQ_C_CLEAN_END 16u /* DISCONNECT came: no will */
#define MQ_C_PAUSED 32u    /* not read: it takes too little */
#define MQ_C_REAUTH 64u
#define MQ_C_BRIDGE 128u
#define MQ_C_ASSIGNED 256u    /* its id was made here */
#define MQ_C_COUNTED 512u     /* in the number of pending connections */
#define MQ_C_TOLD 1024u       /* the host knows of it */
#define MQ_C_HELD 2048u       /* being worked on: must not be freed yet */
#define MQ_C_LINGERS 8192u    /* all is sent; what still comes is thrown away */
#define MQ_C_BLOCKED 16384u   /* the socket takes no more for the moment */
#define MQ_C_ANONYMOUS 32768u /* let in because the listener takes anybody */
#define MQ_C_KEEP_WILL 4096u  /* the server stops: the session lives on, so its will does */

struct mq_conn {
    struct kei_fd io;
    struct ke_mqtt *m;
    struct mq_via *via; /* NULL: a bare socket, io */
    struct mq_session *s;
    struct mq_listener *l;
    struct kei_who *who;
    struct mq_aliases *aliases; /* both ways; NULL: none used */
    struct mq_gate *gate;
    struct ke_mqtt_auth *auth;
    char *user_name;
    struct kei_link link;  /* all connections of the server */
    struct kei_link dirty; /* those with output for the end of the turn, or dead */
    struct mq_wheel_item timer;
    struct mq_out out;
    uint8_t *rx; /* an incomplete packet */
    uint32_t rx_n, rx_cap;
    uint32_t max_packet; /* the client takes no larger ones */
    int64_t heard_ms;    /* last bytes from it */
    int64_t moved_ms;    /* last progress of output that waits */
    uint16_t window;     /* of messages to it in flight */
    uint16_t in_used;    /* QoS 1 and 2 from it not acknowledged */
    uint16_t out_used;   /* to it */
    uint16_t keepalive;  /* seconds; 0: none */
    uint16_t alias_max;  /* towards it */
    uint16_t flags;
    uint8_t version, state;
    uint8_t close_reason;
    uint8_t repeats; /* of messages of QoS 2 that were not released meanwhile */
};

/* conn.c */
struct mq_conn *kei_mq_conn_new(struct mq_listener *l); /* NULL: no memory */
void kei_mq_conn_input(struct mq_conn *c, const uint8_t *p, size_t n, size_t *ret_used);
/* Ends it: to 5.0 with a DISCONNECT when up. text says why, for the log. */
void kei_mq_conn_close(struct mq_conn *c, unsigned reason, const char *fmt, ...) KE_PRINTF(3, 4);
/* The socket is gone. */
void kei_mq_conn_lost(struct mq_conn *c, const char *why);
void kei_mq_conn_free(struct mq_conn *c);
void kei_mq_conn_timer(struct mq_wheel_item *w);
void kei_mq_conn_arm(struct mq_conn *c);
void kei_mq_dirty(struct mq_conn *c);
void kei_mq_conn_more(struct mq_conn *c); /* goes on with what was received */
/* Describes it to callbacks; address has KEI_ADDR_TEXT bytes. */
void kei_mq_conn_client(struct mq_conn *c, struct ke_mqtt_client *ret, char *address,
                        struct ke_buf *cert);
void kei_mq_event(struct mq_conn *c, uint32_t what, unsigned reason, struct ke_str topic,
                  const char *text);

/* transport.c */
void kei_mq_flush(struct mq_conn *c);    /* writes what it can */
void kei_mq_watch_io(struct mq_conn *c); /* what to wait for */
void kei_mq_transport_end(struct mq_conn *c);
void kei_mq_peer_name(struct mq_conn *c, char *out); /* KEI_ADDR_TEXT bytes */
void kei_mq_turn(struct kei_turn *t);

/* packet.c: one whole packet of a connection that is up */
void kei_mq_packet(struct mq_conn *c, const struct kei_mqtt_frame *f, struct ke_str body);
bool kei_mq_reads(const struct mq_conn *c); /* in a state in which packets are taken */
void kei_mq_detach(struct mq_conn *c);      /* its session goes on without it */
/* auth.c: a CONNECT is in order; is who sent it let in? */
bool kei_mq_anonymous_ok(const struct mq_listener *l);
void kei_mq_auth_begin(struct mq_conn *c, const struct kei_mqtt_connect *k, struct ke_str body);
/* connect.c */
void kei_mq_refuse(struct mq_conn *c, const struct kei_mqtt_connect *k, unsigned reason,
                   const char *text, struct ke_str server);
/* method, data: for CONNACK after an enhanced authentication */
void kei_mq_let_in(struct mq_conn *c, const struct kei_mqtt_connect *k, struct ke_str method,
                   struct ke_str data);
void kei_mq_connect(struct mq_conn *c, uint8_t first, struct ke_str body);
void kei_mq_auth_packet(struct mq_conn *c, const struct kei_mqtt_ack *a); /* auth.c, as below */
void kei_mq_auth_gone(struct mq_conn *c);
void kei_mq_auth_timeout(struct mq_conn *c);
/* publish.c, subscribe.c */
void kei_mq_on_publish(struct mq_conn *c, uint8_t first, struct ke_str body);
void kei_mq_on_pubrel(struct mq_conn *c, uint16_t pid);
void kei_mq_on_subscribe(struct mq_conn *c, struct ke_str body);
void kei_mq_on_unsubscribe(struct mq_conn *c, struct ke_str body);
bool kei_mq_reserved(struct ke_str topic); /* not for clients to write to */
bool kei_mq_may(struct mq_conn *c, uint32_t access, struct ke_str topic);

/* encode.c: to one connection. Where it goes (out, or behind the gate) is up to them. */
void kei_mq_send_ack(struct mq_conn *c, unsigned type, uint16_t pid, unsigned reason);
/* false: it is larger than the client takes (then it is dropped), or no memory (closed) */
bool kei_mq_send_publish(struct mq_conn *c, const struct mq_delivery *d, uint16_t pid);
void kei_mq_send_buf(struct mq_conn *c, struct ke_buf *b); /* and frees it */
struct mq_aliases *kei_mq_aliases(struct mq_conn *c);
void kei_mq_aliases_free(struct mq_conn *c);
/* An alias of the client: sets or resolves *topic. 0 or a reason code. */
int kei_mq_alias_in(struct mq_conn *c, uint16_t alias, struct ke_str *topic);

/* ---- the journal (journal.c; none when memory-only) ---- */

/* Everything that is noted in one turn is durable together; seq of what was noted last. */
bool kei_mq_noted(struct ke_mqtt *m); /* something waits to be durable */
/* Output to c that must not leave before what was noted so far is durable; NULL: no need. */
struct mq_out *kei_mq_gate(struct mq_conn *c);
void kei_mq_gate_free(struct mq_conn *c);

/* ---- listeners (listen.c) ---- */

struct mq_listener {
    struct ke_mqtt *m;
    struct kei_link link;
    struct kei_fd io;         /* plain */
    struct kei_listener *net; /* TLS, WebSocket */
    struct kei_tls_config *tls;
    struct kei_timer rest;
    uint32_t refs; /* of its connections; freed when it is closed and they are gone */
    uint32_t n_conns;
    uint32_t kind, flags, max_connections, max_alias;
    int fd;
    uint16_t port;
    bool waited; /* a turn, for those that leave to make room */
    bool closed, loopback, inner; /* inner: of our own modules (kei_mqtt_serve_fd) */
    char *name, *host, *mount;
    struct kei_addr addr; /* of a plain one */
    struct kei_sock_file file;
    uint32_t want_port; /* as configured */
};
int kei_mq_listen(struct ke_mqtt *m, const struct ke_mqtt_listener *cfg, struct mq_listener **ret);
/* A new configuration: what can fail (*ret_tls may stay NULL), and what cannot; takes tls over. */
int kei_mq_listener_prepare(struct mq_listener *l, const struct ke_mqtt_listener *cfg,
                            struct kei_tls_config **ret_tls);
void kei_mq_listener_update(struct mq_listener *l, const struct ke_mqtt_listener *cfg,
                            struct kei_tls_config *tls);
/* Of the kind and at the place that cfg says; else cfg needs one of its own. */
bool kei_mq_listener_is_at(const struct mq_listener *l, const struct ke_mqtt_listener *cfg);
void kei_mq_listener_close(struct mq_listener *l);
void kei_mq_listener_unref(struct mq_listener *l);
void kei_mq_listener_resume(struct mq_listener *l);
const char *kei_mq_listener_name(const struct ke_mqtt_listener *cfg, char *out, size_t n);

/* ---- the server ---- */

struct mq_hit { /* a session that matches the message being routed */
    struct mq_session *s;
    uint32_t ids; /* index of the first of its ids + 1; 0: none */
    uint32_t n_ids;
    uint8_t qos, flags; /* MQ_D_RETAIN, MQ_D_SHARED */
};
struct mq_hit_id {
    uint32_t id, next;
};
struct mq_call; /* of another thread, or nested (local.c) */

struct mq_limits { /* the configuration's numbers, defaults filled in, "none" as the largest */
    uint32_t connections, sessions, connect_rate, pending, retained, subscriptions;
    uint64_t retained_bytes, queued_bytes_all, queued_bytes, flight_bytes;
    uint32_t queued_all, packet, packet_told, inflight, receive, queued, client_subs, output;
    uint32_t topic_bytes, topic_levels, alias_in, alias_out, keepalive, session_expiry;
    uint32_t client_id, connect_ms, auth_ms, stall_ms, sys_s, log_mib, payload;
};

struct ke_mqtt {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_mqtt_ops ops;
    void *user;
    struct kei_access *access;
    uint32_t flags;
    struct mq_limits lim;
    struct ke_mqtt_config config; /* deep copy: its strings belong to it */
    char *strings[8];
    struct ke_mqtt_listener *planned; /* of the configuration; a copy of our own */
    uint32_t n_planned;
    atomic_bool started; /* read by other threads, too */
    bool stopping, freed;
    uint32_t depth; /* callbacks in progress */
    int64_t now;

    struct mq_listener *inner;
    struct kei_link listeners, conns, dirty, sessions, locals, watches;
    struct kei_link lingers; /* streams that send their last bytes (via.c) */
    bool wake_again;         /* a stream took bytes at the end of a turn: another must follow */
    struct kei_turn turn;
    struct kei_wake wake;
    struct kei_defer free_later;
    struct mq_wheel wheel;
    struct mq_session **table; /* by client id */
    uint32_t table_cap, n_sessions;
    uint64_t seed;

    struct mq_tree filters, retained;
    struct mq_hit *hits;
    struct mq_hit_id *hit_ids;
    uint32_t n_hits, cap_hits, n_ids, cap_ids;
    uint32_t *id_list; /* ids of one hit, put together */
    uint32_t cap_list;
    uint32_t mark;
    bool routing;
    bool matched; /* somebody subscribed, though perhaps not to what is his own */
    uint32_t n_local_subs;

    struct mq_chunk *chunks; /* pool */
    uint32_t n_chunks;
    uint8_t *rx; /* MQ_RX and what was left of a packet before it */

    pthread_mutex_t mu; /* of calls */
    struct mq_call *calls, **calls_tail;
    _Atomic(struct mq_msg *) gone;
    struct kei_mqtt_local *self; /* publisher of ke_mqtt_publish */

    struct mq_journal *journal;
    struct kei_timer sys_timer;
    int64_t started_ms;
    int64_t complained_ms;
    int64_t rate_ms; /* connect rate: tokens of this second */
    uint32_t rate_n, n_pending;
    uint32_t next_auto;
    struct ke_mqtt_stats st;
    void *sys; /* sys.c */
};

static inline void mq_now(struct ke_mqtt *m)
{
    m->now = ke_ctx_mono_ms(m->ctx);
}
/* log line "CLIENT: text" at most where it helps */
void kei_mq_log(struct mq_conn *c, uint32_t level, const char *fmt, ...) KE_PRINTF(3, 4);
void kei_mq_enter(struct ke_mqtt *m); /* around callbacks of the host */
void kei_mq_leave(struct ke_mqtt *m);

/* local.c */
int kei_mq_local_init(struct ke_mqtt *m);
void kei_mq_local_fini(struct ke_mqtt *m);
void kei_mq_calls_run(struct ke_mqtt *m);
/* a later call of fn(m, g, origin) in order with other threads' calls; takes over g */
int kei_mq_publish_later(struct ke_mqtt *m, struct mq_msg *g, const void *origin);
void kei_mq_local_message(struct ke_mqtt_sub *sub, struct mq_msg *g, unsigned qos, bool retain,
                          const uint32_t *ids, uint32_t n_ids);

/* sys.c: $SYS */
void kei_mq_sys_start(struct ke_mqtt *m);
void kei_mq_sys_stop(struct ke_mqtt *m);

/* config.c */
/* Checked and copied, then put in force. */
int kei_mq_config_prepare(struct ke_mqtt *m, const struct ke_mqtt_config *c, char *texts[8]);
void kei_mq_config_use(struct ke_mqtt *m, const struct ke_mqtt_config *c, char *const texts[8]);
void kei_mq_config_drop(struct ke_mqtt *m, char *texts[8]); /* prepared and not used */
void kei_mq_config_free(struct ke_mqtt *m);
int kei_mq_listeners_copy(struct ke_mqtt *m, const struct ke_mqtt_config *c,
                          struct ke_mqtt_listener **ret);
void kei_mq_listeners_free(struct ke_mqtt *m, struct ke_mqtt_listener *l, uint32_t n);

#endif
