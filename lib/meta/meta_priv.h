/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the metamanager. meta.c: the module, who is answered and told; objects.c: what the
 * cloud pushes; ask.c: what the node's modules ask; token.c: tokens; report.c: pod status. Loop
 * thread. The store's callbacks may come after kei_meta_free: refs keeps the memory, freed says so.
 */
#ifndef KEI_META_PRIV_H
#define KEI_META_PRIV_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/loop.h"
#include "message/k8s.h"
#include "message/msg_priv.h"
#include "meta/index.h"
#include "meta/meta.h"

#define KEI_META_KEY_MAX 1024u /* TYPE, NS/NAME and what is made of them */
#define KEI_META_HELD_MAX 1024u

struct kei_meta_manager {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_router *router;
    struct ke_store *store;
    struct kei_meta_config conf;
    char *node_name;
    struct ke_module *module;
    uint32_t refs; /* owner and callbacks of the store that are due */
    bool freed, loaded;
    int load_status; /* of the reading that is under way */
    uint32_t writing; /* commits not durable yet */
    struct kei_index index;
    struct kei_link early;  /* messages that came before the index was read */
    struct kei_link untold; /* messages a module had no room for */
    uint32_t n_early, n_untold;
    struct kei_link asks;    /* requests under way to the cloud */
    struct kei_link queries; /* of them, queries for an object: struct query of ask.c */
    struct kei_timer retry, resync, reload;
};

/* Where an object is kept. */
struct kei_place {
    char bucket[KEI_META_KEY_MAX]; /* o/TYPE */
    char key[KEI_META_KEY_MAX];    /* NS/NAME */
    char name[KEI_META_KEY_MAX];   /* TYPE NS/NAME, of the index */
};
/* false: too long, or no name */
bool kei_place_of(struct kei_place *p, const struct kei_resource *res, struct ke_str type);

/* ---- meta.c ---- */
void kei_meta_unref(struct kei_meta_manager *mm);
bool kei_meta_connected(const struct kei_meta_manager *mm);
uint32_t kei_meta_dialect(const struct kei_meta_manager *mm);
/* Tells the cloud that m arrived. */
void kei_meta_ack(struct kei_meta_manager *mm, struct ke_msg *m);
/* Hands a change to the module that works with such objects, if there is one; later again while it
 * has no room. */
void kei_meta_tell_object(struct kei_meta_manager *mm, struct ke_msg *m);
/* Sends m to the cloud's module. */
int kei_meta_send_up(struct kei_meta_manager *mm, struct ke_msg *m);
/* Answers asked with content (raw JSON); nobody may be waiting. */
void kei_meta_answer(struct kei_meta_manager *mm, struct ke_msg *asked, struct ke_str content);
void kei_meta_answer_error(struct kei_meta_manager *mm, struct ke_msg *asked, const char *text);
void kei_meta_answer_not_found(struct kei_meta_manager *mm, struct ke_msg *asked);

/* ---- objects.c ---- */
/* insert, update, delete of the cloud */
void kei_objects_take(struct kei_meta_manager *mm, struct ke_msg *m);
/* A reply of the cloud that nobody waits for. */
void kei_objects_take_late(struct kei_meta_manager *mm, struct ke_msg *m);
typedef void (*kei_objects_fn)(void *user, int status);
/*
 * Keeps an object that was asked for, if it is not older than what is there. *ret_verdict as
 * judged; fn runs when it is durable if the verdict is KEI_VERDICT_NEW, else never. KE_E*: not
 * kept.
 */
int kei_objects_keep(struct kei_meta_manager *mm, const struct kei_resource *res,
                     struct ke_str type, struct ke_str object, int64_t at_ms,
                     enum kei_verdict *ret_verdict, kei_objects_fn fn, void *user);

/* ---- ask.c ---- */
void kei_ask_take(struct kei_meta_manager *mm, struct ke_msg *m);
void kei_ask_link(struct kei_meta_manager *mm, bool up);
void kei_ask_end_all(struct kei_meta_manager *mm); /* no answers any more */
/* The store has what the cloud pushed of object name (TYPE NS/NAME): an answer to who asks for it. */
void kei_ask_arrived(struct kei_meta_manager *mm, const char *name);
/*
 * A round trip to the cloud with a copy of asked. fn once, in a later turn: 0 with the reply
 * (borrowed, not an operation "error"), or KE_ETIMEDOUT, KE_ECLOSED, KE_ENOTSUP with text.
 */
typedef void (*kei_ask_fn)(struct kei_meta_manager *mm, void *user, int status, const char *text,
                           struct ke_msg *reply);
int kei_ask_cloud(struct kei_meta_manager *mm, struct ke_msg *asked, kei_ask_fn fn, void *user);

/* ---- token.c ---- */
void kei_token_take(struct kei_meta_manager *mm, struct ke_msg *m);
/* To a transaction: the tokens of a pod go. */
int kei_token_delete(struct ke_store_tx *tx, const char *pod_uid);

/* ---- report.c ---- */
void kei_report_take(struct kei_meta_manager *mm, struct ke_msg *m);
void kei_report_link(struct kei_meta_manager *mm, bool up);
void kei_report_init(struct kei_meta_manager *mm);

#endif
