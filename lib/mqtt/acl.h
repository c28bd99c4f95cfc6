/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may read and write which topics: rules per user, rules for clients without a name, and
 * patterns for all (%c: client id, %u: user name), with the meaning of mosquitto's acl_file. Pure;
 * owns its copies. A check of a topic allocates nothing, and walks a tree of levels when there are
 * many rules: its cost follows the topic's levels, not the rules. Any one thread at a time.
 */
#ifndef KEI_MQTT_ACL_H
#define KEI_MQTT_ACL_H

#include "base/arena.h"
#include "base/error.h"
#include "base/list.h"
#include "base/map.h"

/* The bits of KE_MQTT_READ... and KE_MQTT_RULE_DENY. */
#define KEI_ACL_READ 1u      /* receive */
#define KEI_ACL_WRITE 2u     /* publish */
#define KEI_ACL_SUBSCRIBE 4u /* the topic is a filter then */
#define KEI_ACL_ALL 7u
#define KEI_ACL_DENY 8u /* with the others: refuse these, whatever else grants them */

#define KEI_ACL_LEVELS 128u        /* of one rule */
#define KEI_ACL_FILTER_MAX 65535u  /* bytes of one rule */
#define KEI_ACL_RULES_MAX 1000000u /* of one set */

/* Whom a check is for. Borrowed; p NULL: has none, and rules that speak of it do not apply. */
struct kei_acl_who {
    struct ke_str client, user, identity;
};

/* ---- one set of rules ---- */
struct kei_acl_node;
struct kei_acl_rule {
    char *filter; /* NUL-terminated; its '+' and '#' as in a subscription */
    uint32_t n;
    uint8_t access;    /* KEI_ACL_* */
    uint8_t templates; /* which of %c %u %i it has: 1, 2, 4 */
};
struct kei_acl_set {
    struct kei_arena arena; /* of the tree */
    struct kei_acl_rule *rules;
    uint32_t n, cap, denies, templates;
    struct kei_acl_node *root; /* NULL: few rules, no tree */
    struct kei_link link;      /* the owner's */
};
enum kei_acl_verdict { KEI_ACL_SILENT, KEI_ACL_GRANTED, KEI_ACL_DENIED };
/* How much of what a filter stands for is granted. */
enum kei_acl_cover {
    KEI_ACL_COVER_NONE, /* nothing: to be refused */
    KEI_ACL_COVER_SOME, /* each message is to be checked */
    KEI_ACL_COVER_ALL,  /* all of it: no message needs a check */
};

void kei_acl_set_init(struct kei_acl_set *s, const struct ke_alloc *a);
void kei_acl_set_fini(struct kei_acl_set *s); /* zero is fine */
/*
 * templates: %c, %u and %i are replaced, else they are text. KE_EINVAL (not a topic filter, no
 * access), KE_ELIMIT, KE_ENOMEM; the set is unchanged then.
 */
int kei_acl_set_add(struct kei_acl_set *s, uint32_t access, struct ke_str filter, bool templates,
                    struct ke_error *err);
/*
 * access: one of READ and WRITE. Denials win. A set with templates denies a client whose name has a
 * wildcard in it: that would widen them.
 */
enum kei_acl_verdict kei_acl_set_check(const struct kei_acl_set *s, const struct kei_acl_who *who,
                                       uint32_t access, struct ke_str topic);
/* The same without the tree, for tests. */
enum kei_acl_verdict kei_acl_set_scan(const struct kei_acl_set *s, const struct kei_acl_who *who,
                                      uint32_t access, struct ke_str topic);

/*
 * Several sets (NULL among them is fine), asked in order: the first that is not silent decides;
 * what none grants is refused.
 */
bool kei_acl_allows(const struct kei_acl_set *const *sets, size_t n, const struct kei_acl_who *who,
                    uint32_t access, struct ke_str topic);
/*
 * Of the filter of a subscription, without its $share part: access is SUBSCRIBE (may it subscribe?)
 * or READ (do its messages need checks?). Walks all rules.
 */
enum kei_acl_cover kei_acl_covers(const struct kei_acl_set *const *sets, size_t n,
                                  const struct kei_acl_who *who, uint32_t access,
                                  struct ke_str filter);

/* ---- a whole file ---- */
struct kei_acl {
    const struct ke_alloc *alloc;
    struct kei_map users;       /* name -> struct kei_acl_set */
    struct kei_link sets;       /* of users and anonymous */
    struct kei_acl_set *nobody; /* clients without a name; NULL: no rules */
    struct kei_acl_set patterns;
    uint32_t n; /* rules in all */
};

/* seed: of the map, random. */
void kei_acl_init(struct kei_acl *a, const struct ke_alloc *alloc, uint64_t seed);
void kei_acl_fini(struct kei_acl *a);
/*
 * Adds the lines of an acl_file. KE_EPARSE names the line ("NAME:12: ..."), KE_ELIMIT, KE_ENOMEM; a
 * may hold part of the lines then.
 */
int kei_acl_parse(struct kei_acl *a, struct ke_str text, const char *name, struct ke_error *err);
/* The set of a name, made if missing (user.p NULL: for clients without one). KE_ENOMEM */
int kei_acl_user(struct kei_acl *a, struct ke_str user, struct kei_acl_set **ret,
                 struct ke_error *err);
/* The same, NULL if there is none. */
const struct kei_acl_set *kei_acl_find(const struct kei_acl *a, struct ke_str user);

#endif
