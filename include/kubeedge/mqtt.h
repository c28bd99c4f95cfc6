/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MQTT server: 3.1.1 and 5.0 (and 3.1) over TCP, TLS, WebSocket and unix sockets, and without a
 * socket for the firmware itself. Usable alone: needs a context only, no node, no store.
 *
 *   ke_mqtt_config_init(&c, sizeof c);
 *   ke_mqtt_listener_init(&l, sizeof l);  l.host = "127.0.0.1"; l.port = 1883;
 *   c.listeners = &l; c.n_listeners = 1;  c.data = "/var/lib/x/mqtt";    (NULL: memory only)
 *   ke_mqtt_new(&m, ctx, &c, NULL, NULL); ke_mqtt_start(m);
 *
 * Calls are "loop" unless marked "any thread"; those take their error text through reterr (may be
 * NULL). Callbacks run on the loop's thread and may call anything here, also ke_mqtt_free, which
 * then is deferred. Strings given to callbacks are borrowed, have a length and no NUL at their end.
 */
#ifndef KUBEEDGE_MQTT_H
#define KUBEEDGE_MQTT_H

#include <kubeedge/ctx.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_mqtt;
struct ke_mqtt_data; /* the bytes of a message, reference-counted */
struct ke_mqtt_sub;  /* a subscription of the firmware's own */
struct ke_mqtt_auth; /* an authentication in progress */

/* Bytes of somebody else's. */
struct ke_mqtt_str {
    const char *p; /* not NUL-terminated; may be NULL when n is 0 */
    size_t n;
};

/* ---- listeners ---- */

#define KE_MQTT_TCP 0u  /* kind of a listener */
#define KE_MQTT_TLS 1u
#define KE_MQTT_WS 2u   /* WebSocket, subprotocol "mqtt" */
#define KE_MQTT_WSS 3u
#define KE_MQTT_UNIX 4u

#define KE_MQTT_CERT_REQUEST 1u    /* flags: ask for a client certificate, accept none */
#define KE_MQTT_CERT_REQUIRE 2u    /* mutual TLS: no certificate of ca_file, no connection */
#define KE_MQTT_CERT_USER 4u       /* the certificate's common name is the user name; no password */
#define KE_MQTT_ANONYMOUS 8u       /* clients without a user name are let in */
#define KE_MQTT_NO_ANONYMOUS 16u   /* they are not; neither: only on loopback and unix sockets */
#define KE_MQTT_MAX_QOS_0 32u      /* nothing above QoS 0 is taken */
#define KE_MQTT_MAX_QOS_1 64u
#define KE_MQTT_CERT_SUBJECT 128u    /* as KE_MQTT_CERT_USER, with the whole subject (RFC 2253) */

struct ke_mqtt_listener {
    size_t size;
    const char *name;        /* in the log and at reload; default its address */
    uint32_t kind;           /* KE_MQTT_TCP... */
    uint32_t flags;          /* KE_MQTT_CERT_REQUEST... */
    const char *host;        /* address to bind; default "127.0.0.1" */
    uint32_t port;           /* default 1883, 8883 (TLS), 8080 (WebSocket), 8081; KE_MQTT_PORT_ANY */
    uint32_t max_connections; /* of this listener; 0: only the server's limit */
    const char *path;        /* of a unix socket (mode 0600, see socket_mode) */
    const char *cert_file;   /* PEM, chain of the server; TLS only */
    const char *key_file;    /* PEM, or a URI for OSSL_STORE */
    const char *ca_file;     /* PEM, for client certificates */
    const char *crl_file;    /* PEM, optional */
    const char *mount_point; /* put before each topic of its clients, taken off for them */
    uint32_t socket_mode;    /* permission bits of a unix socket; default 0600 */
    uint32_t max_topic_alias; /* taken from clients; 0: the server's setting */
    const char *password_file; /* for its clients, instead of the configuration's */
    const char *acl_file;
};
#define KE_MQTT_PORT_ANY 0xffffffffu

/* ---- configuration ---- */

#define KE_MQTT_NO_RETAIN 1u        /* flags: retained messages are refused */
#define KE_MQTT_NO_WILDCARD 2u      /* wildcard subscriptions are refused */
#define KE_MQTT_NO_SHARED 4u        /* shared subscriptions are refused */
#define KE_MQTT_NO_SUBID 8u         /* subscription identifiers are refused */
#define KE_MQTT_NO_EMPTY_ID 16u     /* a client without a client id is refused */
#define KE_MQTT_QUEUE_QOS0 32u      /* QoS 0 messages are queued for sessions that are away */
#define KE_MQTT_UPGRADE_QOS 64u     /* deliver with the QoS of the subscription, also if higher */
#define KE_MQTT_NO_SYS 128u         /* no $SYS topics */
#define KE_MQTT_ACCESS_DEFAULT_DENY 256u /* what no rule allows is refused, even without any rule */
#define KE_MQTT_ONLY_V5 512u        /* clients below 5.0 are refused */
#define KE_MQTT_REFUSE_KEEPALIVE 1024u /* those below 5.0 that want more than max_keepalive, or none,
                                          are refused: they cannot be told; else they have it */

#define KE_MQTT_NONE 0xffffffffu /* in a limit: none; in an amount: 0 */

/*
 * 0 or NULL in a member means the default. Every limit is counted in ke_mqtt_stats and refuses with
 * the reason code of the standard and a log line that names it and its value.
 */
struct ke_mqtt_config {
    size_t size;
    const struct ke_mqtt_listener *listeners; /* each with its size; may be NULL (in-process only) */
    uint32_t n_listeners;
    uint32_t flags;   /* KE_MQTT_NO_RETAIN... */
    const char *data; /* folder for sessions, retained messages, users; NULL: memory only */

    /* limits: of the server */
    uint32_t max_connections;     /* default 10,000 */
    uint32_t max_sessions;        /* away and connected; default 100,000 */
    uint32_t max_connect_rate;    /* connections accepted per second; default 1,000 */
    uint32_t max_pending;         /* connections without CONNECT so far; default 1,000 */
    uint32_t max_retained;        /* messages; default 100,000 */
    uint32_t max_subscriptions;   /* in all; default 1,000,000 */
    uint64_t max_retained_bytes;  /* default 64 MiB */
    uint64_t max_queued_bytes_all; /* waiting in all sessions and sockets; default 256 MiB */
    uint32_t max_queued_all;      /* messages waiting in all sessions; default 1,000,000 */
    /* limits: of a client or its session */
    uint32_t max_packet;          /* bytes, announced; default 2,000,000 */
    uint32_t max_inflight;        /* sent to a client and not acknowledged; default 100 */
    uint32_t receive_max;         /* QoS 1 and 2 taken from a client at once, announced; default 20 */
    uint32_t max_queued;          /* messages waiting for one client; default 1,000 */
    uint32_t max_client_subscriptions; /* default 10,000 */
    uint64_t max_queued_bytes;    /* default 16 MiB */
    uint32_t max_output;          /* bytes waiting in a connection before QoS 0 is dropped; 1 MiB */
    uint32_t max_topic_bytes;     /* default 65,535 */
    uint32_t max_topic_levels;    /* default and most 201 */
    uint32_t max_topic_alias;     /* taken from clients, announced; default 10, KE_MQTT_NONE: 0 */
    uint32_t max_topic_alias_out; /* used towards clients that allow them; default 10 */
    uint32_t max_keepalive;       /* seconds, announced when a client wants more; default 60;
                                     KE_MQTT_NONE: clients may have any, or none */
    uint32_t max_session_expiry;  /* seconds; default and KE_MQTT_NONE: no limit */
    uint32_t max_client_id;       /* bytes; default 65,535 */
    uint32_t connect_ms;          /* from accept to a whole CONNECT; default 10,000 */
    uint32_t auth_ms;             /* for the host's answer to authenticate; default 30,000 */
    uint32_t stall_ms;            /* a client that takes nothing for so long is closed; 120,000 */
    uint32_t sys_interval_s;      /* of $SYS; default 10 */
    uint32_t max_log_mib;         /* of the files in data; default 1,024 */
    uint32_t max_payload;         /* bytes; over it a message is refused, its client only for a will;
                                     default and KE_MQTT_NONE: what max_packet lets through */
    uint32_t max_inflight_bytes;  /* payload sent to a client and not acknowledged; default: any */
    uint32_t reserved;

    const char *auto_id_prefix;      /* of client ids made by the server; default "auto-" */
    const char *response_information; /* given to clients that ask; %c: client id; default none */
    const char *password_file; /* mosquitto's formats ($6$, $7$, and our own); reload reads it again */
    const char *acl_file;      /* mosquitto's format */
};

/* ---- messages ---- */

#define KE_MQTT_HAS_EXPIRY 1u /* has of a message */
#define KE_MQTT_HAS_FORMAT 2u

struct ke_mqtt_user_prop {
    struct ke_mqtt_str name, value;
};

/* A message as given to a callback. All of it is borrowed for the call; see ke_mqtt_data_ref. */
struct ke_mqtt_message {
    size_t size;
    struct ke_mqtt_data *data; /* holds all bytes below */
    struct ke_mqtt_str topic, payload;
    struct ke_mqtt_str content_type, response_topic, correlation;
    struct ke_mqtt_str client_id; /* of the publisher; empty: the server or the firmware */
    struct ke_mqtt_str user_name; /* of the publisher; empty if none */
    const uint32_t *sub_ids;      /* of the subscriptions it matches */
    uint32_t n_sub_ids;
    uint32_t n_user; /* user properties; ke_mqtt_message_user */
    uint32_t has;    /* KE_MQTT_HAS_* */
    uint32_t qos;
    uint32_t retain; /* 1: was stored before, or the subscription wants it as published */
    uint32_t format; /* 1: the payload is UTF-8 text */
    uint32_t expiry; /* seconds left */
    uint32_t reserved;
};

/* The i-th user property, i < msg->n_user. KE_ENOTFOUND. Inside the callback. */
KE_API KE_NODISCARD int ke_mqtt_message_user(const struct ke_mqtt_message *msg, uint32_t i,
                                             struct ke_mqtt_user_prop *ret);
/*
 * Keeps the bytes that topic, payload and the texts of a message point to after the callback, also
 * on other threads. No copy. Each ref needs its unref, before ke_mqtt_free. Any thread.
 */
KE_API struct ke_mqtt_data *ke_mqtt_data_ref(struct ke_mqtt_data *d);
KE_API void ke_mqtt_data_unref(struct ke_mqtt_data *d); /* NULL is fine */

/* A message to publish; copied once. Strings may be anywhere; all but topic may be zero. */
struct ke_mqtt_publish {
    size_t size;
    struct ke_mqtt_str topic, payload;
    struct ke_mqtt_str content_type, response_topic, correlation;
    const struct ke_mqtt_user_prop *user_props;
    uint32_t n_user_props;
    uint32_t qos;
    uint32_t retain; /* 1: stored; with an empty payload: what is stored is removed */
    uint32_t has;    /* KE_MQTT_HAS_* */
    uint32_t format;
    uint32_t expiry; /* seconds */
};

/* status 0: handed to all who are there and, with QoS 1 or 2, durable for those who are away. */
typedef void (*ke_mqtt_done_fn)(void *user, int status);
typedef void (*ke_mqtt_message_fn)(void *user, const struct ke_mqtt_message *msg);

/* ---- callbacks of the host ---- */

/* A client, as callbacks see it. Borrowed. */
struct ke_mqtt_client {
    size_t size;
    struct ke_mqtt_str client_id;
    struct ke_mqtt_str user_name; /* given, or from the certificate; empty: anonymous */
    struct ke_mqtt_str identity;  /* of the device, see ke_mqtt_identity_set; empty: none */
    struct ke_mqtt_str address;   /* "127.0.0.1:4711", "unix:" */
    struct ke_mqtt_str listener;  /* its name */
    struct ke_mqtt_str cert;      /* DER of its certificate; empty: none */
    uint32_t version;             /* 3, 4 (3.1.1), 5 */
    uint32_t keepalive;           /* seconds in force */
    uint32_t clean_start;
    uint32_t session_expiry; /* seconds; UINT32_MAX: never */
};

struct ke_mqtt_credentials {
    size_t size;
    const struct ke_mqtt_client *client;
    struct ke_mqtt_str password;
    uint32_t has_user;
    uint32_t has_password;
    struct ke_mqtt_str auth_method; /* enhanced authentication; empty: none */
    struct ke_mqtt_str auth_data;
};

/* Answers of authenticate, auth and authorize */
#define KE_MQTT_ALLOW 0
#define KE_MQTT_DENY 1
#define KE_MQTT_DEFER 2    /* let the users, identities and rules of the server decide */
#define KE_MQTT_PENDING 3  /* ke_mqtt_auth_complete follows, once, from any thread */

#define KE_MQTT_READ 1u      /* a message is delivered to the client */
#define KE_MQTT_WRITE 2u     /* the client publishes */
#define KE_MQTT_SUBSCRIBE 4u /* the client subscribes; topic is the filter */

#define KE_MQTT_EVENT_CONNECTED 1u
#define KE_MQTT_EVENT_DISCONNECTED 2u /* reason: of the DISCONNECT, or why it was closed */
#define KE_MQTT_EVENT_REFUSED 3u      /* a CONNECT was refused */
#define KE_MQTT_EVENT_SUBSCRIBED 4u   /* topic: the filter; reason: the code in SUBACK */
#define KE_MQTT_EVENT_UNSUBSCRIBED 5u
#define KE_MQTT_EVENT_SESSION_END 6u  /* the session expired or was removed */

struct ke_mqtt_event {
    size_t size;
    uint32_t what;   /* KE_MQTT_EVENT_* */
    uint32_t reason; /* MQTT 5 reason code */
    const struct ke_mqtt_client *client;
    struct ke_mqtt_str topic;
    struct ke_mqtt_str text; /* why, for people */
};

/* All optional. */
struct ke_mqtt_ops {
    size_t size;
    /*
     * A client wants to connect. KE_MQTT_ALLOW, DENY, DEFER or PENDING; a is valid until the
     * completion is given, or gone is called. With auth_method set (enhanced authentication) DEFER
     * means the method is not known.
     */
    int (*authenticate)(void *user, struct ke_mqtt_auth *a, const struct ke_mqtt_credentials *c);
    /* Further data of the client in an AUTH packet (also re-authentication). Answers as above. */
    int (*auth)(void *user, struct ke_mqtt_auth *a, const struct ke_mqtt_credentials *c);
    /* The client of a pending authentication went away: forget a. */
    void (*auth_gone)(void *user, struct ke_mqtt_auth *a);
    /* May this client do that? KE_MQTT_ALLOW, DENY or DEFER. Called for each message: be quick. */
    int (*authorize)(void *user, const struct ke_mqtt_client *c, uint32_t access,
                     struct ke_mqtt_str topic);
    void (*event)(void *user, const struct ke_mqtt_event *e);
    /*
     * Every message a client published and was allowed to, before it is delivered. 0: go on;
     * KE_MQTT_DENY: refuse it (the client is told "not authorized").
     */
    int (*message)(void *user, const struct ke_mqtt_client *c, const struct ke_mqtt_message *msg);
    /* Writing to data failed (KE_ENOSPC, KE_EIO...), or works again (0). Text in ke_ctx_error. */
    void (*storage)(void *user, int status);
};

/* Completion of a pending authentication. */
#define KE_MQTT_AUTH_CONTINUE 0x18u
struct ke_mqtt_auth_result {
    size_t size;
    uint32_t reason; /* 0: let in; KE_MQTT_AUTH_CONTINUE: send data and wait; else a reason code */
    uint32_t reserved;
    struct ke_mqtt_str data;      /* authentication data for the client */
    struct ke_mqtt_str text;      /* reason string */
    struct ke_mqtt_str identity;  /* of the device; empty: as without */
    struct ke_mqtt_str user_name; /* instead of the one given; empty: keep */
    struct ke_mqtt_str server;    /* with 0x9c (use another server) and 0x9d (server moved) */
};
/*
 * Also legal inside authenticate and auth, which then return KE_MQTT_PENDING. a is gone with it,
 * but for KE_MQTT_AUTH_CONTINUE. KE_EINVAL, KE_ENOMEM. Any thread.
 */
KE_API KE_NODISCARD int ke_mqtt_auth_complete(struct ke_mqtt_auth *a,
                                              const struct ke_mqtt_auth_result *r,
                                              struct ke_error *reterr);

/* ---- the server ---- */

/* Fill with zeros and the size. Any thread. */
KE_API void ke_mqtt_config_init(struct ke_mqtt_config *c, size_t size);
KE_API void ke_mqtt_listener_init(struct ke_mqtt_listener *l, size_t size);

/*
 * Copies config and ops (either part may be NULL). Reads the files named in it; opens nothing else.
 * KE_EINVAL names the member, KE_EABI, KE_ENOMEM, KE_ENOTFOUND, KE_EACCES, KE_EPARSE (file and
 * line), KE_ENOTSUP when built without the MQTT server.
 */
KE_API KE_NODISCARD int ke_mqtt_new(struct ke_mqtt **ret, struct ke_ctx *ctx,
                                    const struct ke_mqtt_config *c, const struct ke_mqtt_ops *ops,
                                    void *user);
/*
 * Opens data (blocking) and listens. Gives the context a thread of its own unless the host has taken
 * the loop. KE_EBUSY (another process has the folder), KE_EADDRINUSE, KE_EACCES, KE_EROFS,
 * KE_ENOSPC, KE_ECORRUPT, KE_ENEWER, KE_ECERT, KE_EKEY, KE_ESTATE (started). Nothing is left open
 * when it fails.
 */
KE_API KE_NODISCARD int ke_mqtt_start(struct ke_mqtt *m);
/*
 * Tells the clients (server shutting down), publishes no wills of sessions that live on, makes all
 * durable, closes, blocking. May be started again: memory-only state lives as long as m. Not from a
 * callback of m. NULL is fine.
 */
KE_API void ke_mqtt_stop(struct ke_mqtt *m);
KE_API void ke_mqtt_free(struct ke_mqtt *m); /* stops first; NULL is fine; in a callback: later */
/* The port of the i-th listener of the configuration in use (after KE_MQTT_PORT_ANY). */
KE_API KE_NODISCARD int ke_mqtt_port(struct ke_mqtt *m, uint32_t i, uint32_t *ret);
/*
 * A new configuration while clients stay connected: listeners are opened and closed as needed (found
 * again by name, kind, host and port or path; one that changes any of these moves, and the clients it
 * had stay; KE_EADDRINUSE when it would stay on its port with another host, which takes a restart),
 * certificates, password and ACL files read again, limits set for what comes. Clients that would not
 * be let in by it any more are closed ("not authorized"). data cannot change (KE_EINVAL). When it
 * fails all stays as it was.
 */
KE_API KE_NODISCARD int ke_mqtt_reload(struct ke_mqtt *m, const struct ke_mqtt_config *c);
/*
 * Closes the connection of a client; with a reason code below 0x80, or to one of 3.1.1, just so.
 * KE_ENOTFOUND. KE_MQTT_DROP_SESSION: its session, too, also if it is away. server: for reasons 0x9c
 * and 0x9d, may be NULL. Any thread; from another than the loop's it waits for the loop.
 */
#define KE_MQTT_DROP_SESSION 1u
KE_API KE_NODISCARD int ke_mqtt_disconnect(struct ke_mqtt *m, const char *client_id,
                                           uint32_t reason, const char *server, uint32_t flags,
                                           struct ke_error *reterr);
/* Each client that is connected. fn must not call back into m. */
KE_API KE_NODISCARD int ke_mqtt_clients(struct ke_mqtt *m,
                                        void (*fn)(void *user, const struct ke_mqtt_client *c),
                                        void *user);

/* ---- the firmware's own messages ---- */

/*
 * Publishes, not subject to rules. done (may be NULL) runs on the loop, exactly once when 0 is
 * returned. Errors: KE_EINVAL (topic), KE_ELIMIT, KE_ENOMEM, KE_ESTATE (not started). Any thread.
 */
KE_API KE_NODISCARD int ke_mqtt_publish(struct ke_mqtt *m, const struct ke_mqtt_publish *p,
                                        ke_mqtt_done_fn done, void *user, struct ke_error *reterr);

#define KE_MQTT_SUB_NO_LOCAL 1u      /* not what the firmware itself published */
#define KE_MQTT_SUB_AS_PUBLISHED 2u  /* keep the retain flag */
#define KE_MQTT_SUB_NO_RETAINED 4u   /* do not begin with what is retained */
struct ke_mqtt_subscribe {
    size_t size;
    struct ke_mqtt_str filter; /* "$share/GROUP/FILTER" shares it with clients and others */
    uint32_t qos;              /* told in messages; nothing is ever sent twice here */
    uint32_t flags;            /* KE_MQTT_SUB_* */
    uint32_t id;               /* told in sub_ids; 0: none */
    uint32_t reserved;
    ke_mqtt_message_fn message; /* on the loop, for each match */
    /* on the loop, once, last: nothing more comes. Optional. Also when m is freed. */
    void (*gone)(void *user);
};
/*
 * Takes effect before any later publish of the same thread. KE_EINVAL, KE_ELIMIT, KE_ENOMEM. Any
 * thread. Lives across stop and start.
 */
KE_API KE_NODISCARD int ke_mqtt_subscribe(struct ke_mqtt_sub **ret, struct ke_mqtt *m,
                                          const struct ke_mqtt_subscribe *s, void *user,
                                          struct ke_error *reterr);
/* The handle is gone. On the loop no message comes after it; else until gone was called. Any
 * thread; NULL is fine. */
KE_API void ke_mqtt_unsubscribe(struct ke_mqtt_sub *sub);

/* ---- users, identities, rules (kept in data, or in memory only) ---- */

/*
 * Who may do what. Rules are asked in this order: of the client's identity, of its user (or of clients
 * without a name), of everybody; those set here before those of acl_file. The first of these that
 * says anything decides; within one, a denial wins. What none allows is refused as soon as there is
 * any rule for users, anonymous clients or everybody, an acl_file, or a rule of this client's own
 * identity. A subscription is refused when nothing it could receive is allowed; of a wider one, what
 * is not allowed is held back. A client whose name has '+' or '#' gets nothing from %c, %u, %i.
 */
#define KE_MQTT_RULE_DENY 8u /* in access, with READ, WRITE, SUBSCRIBE: refuse these */
struct ke_mqtt_rule {
    size_t size;
    const char *topic; /* a filter; %c client id, %u user name, %i identity */
    uint32_t access;   /* KE_MQTT_READ | KE_MQTT_WRITE | KE_MQTT_SUBSCRIBE | KE_MQTT_RULE_DENY */
    uint32_t reserved;
};

/*
 * Sets a user's password, kept as a salted hash (password NULL: the user may connect by certificate
 * only), and its rules. done (may be NULL) runs on the loop when it is durable; it is in force at
 * once, also for live connections. KE_EINVAL, KE_ELIMIT, KE_ENOMEM. Any thread, as all below.
 */
KE_API KE_NODISCARD int ke_mqtt_user_set(struct ke_mqtt *m, const char *name,
                                         const char *password, const struct ke_mqtt_rule *rules,
                                         uint32_t n_rules, ke_mqtt_done_fn done, void *user,
                                         struct ke_error *reterr);
/* Removes it and closes its connections. KE_ENOTFOUND. */
KE_API KE_NODISCARD int ke_mqtt_user_remove(struct ke_mqtt *m, const char *name,
                                            ke_mqtt_done_fn done, void *user,
                                            struct ke_error *reterr);
/* Rules for everybody (user NULL), or for anonymous clients (user ""). Replaces those. */
KE_API KE_NODISCARD int ke_mqtt_rules_set(struct ke_mqtt *m, const char *user_name,
                                          const struct ke_mqtt_rule *rules, uint32_t n_rules,
                                          ke_mqtt_done_fn done, void *user,
                                          struct ke_error *reterr);

/*
 * The identity of a device: whoever connects with what is given here (all that is not NULL must
 * fit) is that device, and its rules apply before those of users. With a password or a certificate
 * it lets its device in by itself; without, it is given to a client that is let in otherwise. At
 * least one of user_name, client_id, cert_sha256, cert_name is needed. Setting it again with other
 * credentials closes the connections made with the old ones. An empty password lets nobody in.
 */
struct ke_mqtt_identity {
    size_t size;
    const char *name;        /* required: of the device */
    const char *user_name;   /* with this user name... */
    const char *password;    /* ...and this password; kept as a salted hash, "" when listed */
    const char *client_id;   /* with this client id */
    const char *cert_sha256; /* with the certificate of this fingerprint: 64 hex digits */
    const char *cert_name;   /* with a verified certificate of this common name */
    const struct ke_mqtt_rule *rules;
    uint32_t n_rules;
    uint32_t reserved;
};
KE_API KE_NODISCARD int ke_mqtt_identity_set(struct ke_mqtt *m, const struct ke_mqtt_identity *id,
                                             ke_mqtt_done_fn done, void *user,
                                             struct ke_error *reterr);
/* Takes it away: its connections are closed ("not authorized") and it cannot connect again. */
KE_API KE_NODISCARD int ke_mqtt_identity_revoke(struct ke_mqtt *m, const char *name,
                                                ke_mqtt_done_fn done, void *user,
                                                struct ke_error *reterr);
/* Each identity; borrowed; fn must not call back into m. Loop. */
KE_API KE_NODISCARD int ke_mqtt_identities(struct ke_mqtt *m,
                                           void (*fn)(void *user,
                                                      const struct ke_mqtt_identity *id),
                                           void *user);

/* ---- statistics ---- */

struct ke_mqtt_stats {
    size_t size;
    /* now */
    uint64_t connections, sessions, subscriptions, shared_subscriptions;
    uint64_t retained, retained_bytes; /* without $SYS */
    uint64_t queued, queued_bytes; /* waiting in sessions */
    uint64_t inflight;             /* sent, not acknowledged */
    uint64_t output_bytes;         /* waiting in sockets */
    /* since the start */
    uint64_t connects, connects_refused, disconnects;
    uint64_t packets_in, packets_out, bytes_in, bytes_out;
    uint64_t publish_in, publish_out, publish_dropped, publish_expired;
    uint64_t publish_bytes_in, publish_bytes_out;
    uint64_t sessions_expired, wills;
    uint64_t protocol_errors; /* connections ended for what they sent */
    uint64_t commits, commit_failures;
    /* refusals, one counter per limit */
    uint64_t over_connections, over_sessions, over_connect_rate, over_pending, over_connect_time;
    uint64_t over_packet, over_topic, over_inflight, over_queued, over_queued_bytes;
    uint64_t over_queued_all, over_output, over_stall, over_retained, over_subscriptions;
    uint64_t over_auth_time, denied; /* denied: by rules */
    uint64_t max_connections_seen;
    uint64_t uptime_s;
};
/* A snapshot; size is that of *ret. KE_EABI. Loop. */
KE_API KE_NODISCARD int ke_mqtt_stats(struct ke_mqtt *m, struct ke_mqtt_stats *ret, size_t size);

#ifdef __cplusplus
}
#endif
#endif
