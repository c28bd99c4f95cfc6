/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and password hashes, as in a file of mosquitto_passwd, and their checks. A check first asks
 * a short keyed digest of the password that was right last time (so a fleet that reconnects costs
 * no hashing, and a wrong password none either); else the hash is computed on the disk worker, in
 * slices between which commits pass. Owns its copies. Loop thread.
 */
#ifndef KEI_MQTT_USERS_H
#define KEI_MQTT_USERS_H

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/map.h"

struct ke_ctx;

#define KEI_USER_NAME_MAX 65535u
#define KEI_USERS_MAX 1000000u        /* of one file */
#define KEI_USER_ITERATIONS 5000u     /* of the hashes made here: about 3 ms */
#define KEI_USER_SLICE 2048u          /* iterations until others have a turn at the worker */
#define KEI_USER_LINE_MAX 131072u     /* bytes of one line */
#define KEI_USER_FILE_MAX (64u << 20) /* bytes of a file */

/* ---- a password: of a user, or of an identity ---- */
struct kei_secret {
    char *hash;     /* "" while it is being made; NULL: nobody can log in with it */
    char *before;   /* the last hash while hash is "": what is kept meanwhile; may be NULL */
    uint64_t epoch; /* changes with the password */
    bool proven;
    uint8_t proof[32]; /* of the right password, see struct kei_proofs */
};
/* The key of the digests: random, of this process. */
struct kei_proofs {
    uint8_t key[32];
    uint64_t epoch; /* counts secrets */
};
int kei_proofs_init(struct kei_proofs *p, struct ke_ctx *ctx);
void kei_secret_fini(struct kei_secret *s, const struct ke_alloc *a);
/* A hash in text form; takes hash over (from alloc). */
void kei_secret_take(struct kei_secret *s, struct kei_proofs *p, const struct ke_alloc *a,
                     char *hash);
/*
 * A new secret: the password itself, in force at once; its hash is "" until kei_secret_made.
 * before: the one whose place it takes, or NULL. KE_ENOMEM, s is untouched then.
 */
int kei_secret_set(struct kei_secret *s, struct kei_proofs *p, const struct ke_alloc *a,
                   struct ke_str password, const struct kei_secret *before);
/* KE_ENOMEM, to is untouched then. */
int kei_secret_copy(struct kei_secret *to, const struct kei_secret *from, const struct ke_alloc *a);
/* The hash of it. KE_ENOMEM */
int kei_secret_made(struct kei_secret *s, const struct ke_alloc *a, const char *hash);
/* What can be kept: hash, or before; NULL: nothing yet. */
const char *kei_secret_kept(const struct kei_secret *s);
enum kei_proof { KEI_PROOF_NO, KEI_PROOF_YES, KEI_PROOF_UNKNOWN };
enum kei_proof kei_secret_ask(const struct kei_secret *s, const struct kei_proofs *p,
                              struct ke_str password);
/* It was right: remember. */
void kei_secret_proven(struct kei_secret *s, const struct kei_proofs *p, struct ke_str password);

/* ---- hashing on the disk worker ---- */
struct kei_hashing;
/* hash: the text of a new one, "" after a check or when memory ran out. Later turn, on the loop. */
typedef void (*kei_hashing_fn)(void *user, bool same, const char *hash);
/* Checks a password against the text of a hash. KE_ENOMEM, KE_EPARSE */
int kei_hashing_check(struct kei_hashing **ret, struct ke_ctx *ctx, struct ke_str password,
                      struct ke_str hash, kei_hashing_fn fn, void *user, struct ke_error *err);
/* Makes one, with a salt of its own. iterations 0: mosquitto's older form. */
int kei_hashing_make(struct kei_hashing **ret, struct ke_ctx *ctx, struct ke_str password,
                     uint32_t iterations, kei_hashing_fn fn, void *user, struct ke_error *err);
void kei_hashing_cancel(struct kei_hashing *h); /* fn will not be called; NULL is fine */

/* ---- a table of users ---- */
struct kei_user {
    struct kei_link link;
    char *name;
    size_t n;
    struct kei_secret secret;
};
struct kei_users {
    const struct ke_alloc *alloc;
    struct kei_proofs *proofs;
    struct kei_map map;
    struct kei_link list; /* in order of the file */
    uint32_t n;
};
void kei_users_init(struct kei_users *u, const struct ke_alloc *a, struct kei_proofs *proofs,
                    uint64_t seed);
void kei_users_fini(struct kei_users *u); /* zero is fine */
struct kei_user *kei_users_find(const struct kei_users *u, struct ke_str name);
/* Found, or made with a secret that fits nothing. KE_EINVAL (name), KE_ELIMIT, KE_ENOMEM */
int kei_users_add(struct kei_users *u, struct ke_str name, struct kei_user **ret,
                  struct ke_error *err);
void kei_users_remove(struct kei_users *u, struct kei_user *x);
/*
 * Adds the lines "name:hash" of a file; a later line wins over an earlier one of the same name.
 * What is no such line, or has no hash we know, is told by skipped (may be NULL) and lets nobody
 * in. KE_ENOMEM, KE_ELIMIT.
 */
int kei_users_parse(struct kei_users *u, struct ke_str text,
                    void (*skipped)(void *user, uint32_t line, const char *why), void *user,
                    struct ke_error *err);
/* The other way: what mosquitto reads. Left out: users without a hash, and names it cannot hold. */
int kei_users_format(const struct kei_users *u, struct ke_buf *out, struct ke_error *err);
/* Names whose secret is the same in both keep it with what was proven, and their epoch. */
void kei_users_inherit(struct kei_users *u, const struct kei_users *old);

#endif
