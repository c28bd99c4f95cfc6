/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of access: the files of the configuration, what the host assigned, and who is let in. Loop
 * thread.
 */
#ifndef KEI_MQTT_IDENTITY_ACCESS_H
#define KEI_MQTT_IDENTITY_ACCESS_H

#include "mqtt/access.h"
#include "mqtt/identity.h"
#include "mqtt/identity_journal.h"

#define KEI_ACCESS_SETS 5

/* password_file and acl_file of the server, or of a listener. */
struct kei_files {
    char *listener; /* its name; NULL: the server's */
    bool has_users, has_acl;
    struct kei_users users;
    struct kei_acl acl;
};

struct kei_access_impl {
    struct kei_access base;
    struct ke_mqtt *m;
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    uint64_t seed;
    uint32_t flags; /* of the configuration */
    struct kei_proofs proofs;
    struct kei_files *files; /* the server's first */
    uint32_t n_files;
    struct kei_ids ids;
    struct kei_journal journal;
    uint64_t gen;           /* changes with every rule */
    struct kei_link logins; /* that wait for a hash */
    struct kei_link ops;    /* that wait for a hash */
    bool ending;            /* is being freed: nothing can be changed any more */
};

/* Where a client's user name was found. */
enum kei_source { KEI_SOURCE_NONE, KEI_SOURCE_HOST, KEI_SOURCE_FILE };

/* What is known of a client that was let in. Rules are looked up again when a->gen has moved on. */
struct kei_who {
    uint64_t gen;
    uint64_t epoch, user_epoch; /* of the identity and of the user that let it in */
    const struct kei_acl_set *sets[KEI_ACCESS_SETS];
    bool limited; /* something is refused */
    bool gone;    /* its identity was revoked, or removed */
    enum kei_source source;
    struct ke_str identity, listener; /* p NULL: none; behind this struct */
};

static inline struct kei_access_impl *kei_access_of(struct kei_access *a)
{
    return KEI_OF(a, struct kei_access_impl, base);
}

/* identity_files.c: reads what c names. *ret has *ret_n elements, the server's first. */
int kei_files_read(struct kei_files **ret, uint32_t *ret_n, struct kei_access_impl *a,
                   const struct ke_mqtt_config *c, struct ke_error *err);
void kei_files_free(struct kei_files *f, uint32_t n, const struct ke_alloc *a);
/* Those that hold for a listener: its own, or the server's. */
const struct kei_files *kei_files_of(const struct kei_access_impl *a, struct ke_str listener);

/* identity_who.c */
/* id, user: NULL if none. KE_ENOMEM is NULL. */
struct kei_who *kei_who_new(struct kei_access_impl *a, const struct kei_identity *id,
                            const struct kei_user *user, enum kei_source source,
                            struct ke_str listener);
void kei_who_look(const struct kei_access_impl *a, struct kei_who *w, struct ke_str user);
/* Tells the server that rules changed: live connections are checked and closed as needed. */
void kei_who_changed(struct kei_access_impl *a);
bool kei_access_may(struct kei_access *base, const struct kei_who *who, struct ke_str client_id,
                    struct ke_str user_name, uint32_t access, struct ke_str topic);
bool kei_access_unlimited(struct kei_access *base, const struct kei_who *who, uint32_t access);

/* identity_login.c */
int kei_access_authenticate(struct kei_access *base, const struct kei_access_login *l,
                            kei_access_login_fn done, void *user, void **ret_job);
bool kei_access_anybody(struct kei_access *base, struct ke_str listener, struct ke_str user_name);
void kei_access_cancel(struct kei_access *base, void *job);
void kei_access_cancel_login(struct kei_link *l); /* of a->logins */
struct kei_who *kei_access_adopt(struct kei_access *base, struct ke_str identity,
                                 struct ke_str user_name, struct ke_str client_id);

/* identity_api.c: gives up all that waits; each done function is called. */
void kei_access_ops_end(struct kei_access_impl *a);

#endif
