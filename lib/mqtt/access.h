/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may connect and who may do what: the table the server asks after the host's own callbacks
 * said KE_MQTT_DEFER. Implemented by users, identity and acl; the server owns it. Loop thread.
 */
#ifndef KEI_MQTT_ACCESS_H
#define KEI_MQTT_ACCESS_H

#include <kubeedge/mqtt.h>

#include "base/buf.h"
#include "base/error.h"

struct kei_access;       /* users, identities, rules of one server */
struct kei_access_files; /* password and ACL files that were read and are not in force */
struct kei_who; /* what access knows of one client: matched identity, user, rules; may be NULL */

/* What a CONNECT brings. Borrowed. */
struct kei_access_login {
    struct ke_str client_id;
    struct ke_str user_name; /* of the packet, or from the certificate */
    struct ke_str password;
    struct ke_str cert;     /* DER, verified if cert_verified; empty: none */
    struct ke_str address;  /* for the log */
    struct ke_str listener; /* its name: it may have files of its own */
    bool has_user, has_password;
    bool cert_verified;
    bool cert_user; /* the listener takes user names from certificates */
    bool anonymous; /* the listener (or its address) lets clients without user name in */
};

/*
 * Answer to a login, later or before authenticate returns; once. who belongs to the server then and
 * goes back with forget. reason: 0, or a reason code (bad user name or password, not authorized).
 */
typedef void (*kei_access_login_fn)(void *user, unsigned reason, struct kei_who *who);

struct kei_access_ops {
    /*
     * Password hashes are slow on purpose: computed on the disk worker, done comes in a later turn.
     * *ret_job is set when done is still to come. KE_ENOMEM.
     */
    int (*authenticate)(struct kei_access *a, const struct kei_access_login *l,
                        kei_access_login_fn done, void *user, void **ret_job);
    void (*cancel)(struct kei_access *a, void *job); /* done will not be called */
    void (*forget)(struct kei_access *a, struct kei_who *who);
    /* access: one of KE_MQTT_READ, WRITE, SUBSCRIBE. No allocation, no waiting: per message. */
    bool (*may)(struct kei_access *a, const struct kei_who *who, struct ke_str client_id,
                struct ke_str user_name, uint32_t access, struct ke_str topic);
    struct ke_str (*identity)(const struct kei_who *who); /* of the device, "" if none */
    /* true: no rule at all applies to this client's messages, may need not be asked; holds until
     * changed (below) is called */
    bool (*unlimited)(struct kei_access *a, const struct kei_who *who, uint32_t access);
    /* A client let in by the host's own callback: which rules are its? NULL: the general ones. */
    struct kei_who *(*adopt)(struct kei_access *a, struct ke_str identity, struct ke_str user_name,
                             struct ke_str client_id);
    /* Did it show who it is, or was it let in as anybody would be? */
    bool (*proven)(const struct kei_who *who);
    /* May somebody who did not, with this name (p NULL: none), where anonymous clients may come in?
     */
    bool (*anybody)(struct kei_access *a, struct ke_str listener, struct ke_str user_name);
    /* The server starts (folder: may be NULL), stops. */
    int (*open)(struct kei_access *a, const char *folder);
    void (*close)(struct kei_access *a);
    /* Reads password_file and acl_file; then one of the other two, neither of which can fail. */
    int (*prepare)(struct kei_access *a, const struct ke_mqtt_config *c,
                   struct kei_access_files **ret, struct ke_error *err);
    void (*use)(struct kei_access *a, struct kei_access_files *f);
    void (*drop)(struct kei_access *a, struct kei_access_files *f);
    void (*free)(struct kei_access *a);
};

struct kei_access {
    const struct kei_access_ops *ops;
};

/* Made by ke_mqtt_new. c: password_file, acl_file and flags; nothing is read before open. */
int kei_access_new(struct kei_access **ret, struct ke_mqtt *m, struct ke_ctx *ctx,
                   const struct ke_mqtt_config *c);

/*
 * The user name that a verified certificate stands for: its common name, or its whole subject.
 * Appended to out. KE_ECERT (none, or no text), KE_ENOMEM.
 */
int kei_access_cert_name(struct ke_ctx *ctx, struct ke_str der, bool subject, struct ke_buf *out,
                         struct ke_error *err);

/* ---- what the server offers to access (implemented in server.c) ---- */
struct ke_ctx *kei_mqtt_ctx(struct ke_mqtt *m);
struct kei_access *kei_mqtt_access(struct ke_mqtt *m);
/*
 * Rules changed. For each live connection who decides: KEI_ACCESS_KEEP; KEI_ACCESS_CLOSE: it is
 * closed with "not authorized". Its queued and later messages are checked against the new rules
 * anyway.
 */
#define KEI_ACCESS_KEEP 0
#define KEI_ACCESS_CLOSE 1
void kei_mqtt_access_changed(struct ke_mqtt *m,
                             int (*check)(void *user, struct kei_who *who, struct ke_str client_id,
                                          struct ke_str user_name),
                             void *user);
/* Runs fn(user) on the loop and waits, for the any-thread calls. 0 or KE_E* of the marshalling. */
int kei_mqtt_call(struct ke_mqtt *m, void (*fn)(void *user), void *user);

#endif
