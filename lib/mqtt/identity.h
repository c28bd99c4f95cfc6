/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host assigned by ke_mqtt_user_set, _rules_set and _identity_set: users, rules, and the
 * identities of devices. Each thing can be written as one line of JSON and read back from it, which
 * is how it is kept (identity_journal.c). Owns its copies. Loop thread.
 *
 * An identity with a password or a certificate in it lets its device in by itself. One without
 * (client id or user name only) is given to a client that was let in otherwise. A revoked one stays
 * in the table without rules, so that what matched it is refused, until it is assigned again. An
 * empty password lets nobody in.
 */
#ifndef KEI_MQTT_IDENTITY_H
#define KEI_MQTT_IDENTITY_H

#include <kubeedge/mqtt.h>

#include "base/json.h"
#include "mqtt/acl.h"
#include "mqtt/users.h"

#define KEI_IDENTITIES_MAX 100000u
#define KEI_IDENTITY_TEXT_MAX 1024u /* bytes of a name, user name, client id, certificate name */
#define KEI_PASSWORD_MAX 65535u     /* as in CONNECT */
#define KEI_RULES_MAX 10000u        /* of one call */

enum { KEI_BY_SHA256, KEI_BY_CERT, KEI_BY_USER, KEI_BY_CLIENT, KEI_BY_N };

struct kei_identity {
    struct kei_link link;
    struct kei_identity *next; /* with the same key in the same index */
    char *name;
    char *by[KEI_BY_N]; /* what a client must bring; NULL: anything */
    struct kei_secret secret;
    bool has_password, revoked;
    uint64_t epoch; /* changes with what a client must bring */
    struct kei_acl_set rules;
};

struct kei_ids {
    const struct ke_alloc *alloc;
    struct kei_proofs *proofs;
    struct kei_map names, index[KEI_BY_N];
    struct kei_link list; /* oldest first */
    uint32_t n;
    struct kei_users users;
    struct kei_acl rules; /* of users; .patterns: of everybody */
    bool everybody;       /* those were set here */
    struct kei_map gone;  /* names of users removed while nothing was open to note it */
    bool note_gone;
};

void kei_ids_init(struct kei_ids *s, const struct ke_alloc *a, struct kei_proofs *proofs,
                  uint64_t seed);
void kei_ids_fini(struct kei_ids *s); /* zero is fine */

/* ---- changes: all or nothing; KE_EINVAL, KE_ELIMIT, KE_ENOMEM ---- */
/* *ret_fresh: there is a new password whose hash is still to be made. */
int kei_ids_set(struct kei_ids *s, const struct ke_mqtt_identity *id, struct kei_identity **ret,
                bool *ret_fresh, struct ke_error *err);
int kei_ids_revoke(struct kei_ids *s, struct ke_str name, struct ke_error *err); /* KE_ENOTFOUND */
int kei_ids_user_set(struct kei_ids *s, const char *name, const char *password,
                     const struct ke_mqtt_rule *rules, uint32_t n, struct kei_user **ret,
                     bool *ret_fresh, struct ke_error *err);
int kei_ids_user_remove(struct kei_ids *s, struct ke_str name, struct ke_error *err);
/* user.p NULL: everybody; empty: anonymous clients. */
int kei_ids_rules_set(struct kei_ids *s, struct ke_str user, const struct ke_mqtt_rule *rules,
                      uint32_t n, struct ke_error *err);
/* Rules for users, anonymous clients or everybody exist: what none of them grants is refused. */
bool kei_ids_has_rules(const struct kei_ids *s);

/*
 * Takes over from what was kept all that is not known here: what was assigned since wins.
 * KE_ENOMEM: s may have part of it.
 */
int kei_ids_merge(struct kei_ids *s, struct kei_ids *kept, struct ke_error *err);

struct kei_identity *kei_ids_find(const struct kei_ids *s, struct ke_str name);
/*
 * The identity that fits what a client brings (n 0: nothing of the kind), passwords aside: of
 * several the one that asks for most, a revoked one last. NULL: none.
 */
struct kei_identity *kei_ids_match(const struct kei_ids *s, const struct ke_str by[KEI_BY_N]);
/* The name belongs to an identity that has a password or certificate. */
bool kei_ids_reserved(const struct kei_ids *s, struct ke_str user);

/* ---- as text: one JSON object each, for the journal ---- */
enum kei_ids_kind { KEI_IDS_IDENTITY, KEI_IDS_USER, KEI_IDS_RULES };
/* What is known of that name now, its absence included; nothing if there is no hash yet. */
void kei_ids_write(const struct kei_ids *s, enum kei_ids_kind kind, struct ke_str name,
                   struct ke_buf *out);
/* Calls each for every thing there is. */
void kei_ids_each(const struct kei_ids *s,
                  void (*each)(void *user, enum kei_ids_kind kind, struct ke_str name), void *user);
/* KE_EPARSE (of a form this release does not know: nothing changed), KE_ELIMIT, KE_ENOMEM */
int kei_ids_read(struct kei_ids *s, struct ke_str json, struct ke_error *err);

#endif
