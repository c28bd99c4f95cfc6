/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a JSON object in their order and, besides, sorted by name. Spans and an arena. */
#ifndef KEI_MESSAGE_MEMBERS_H
#define KEI_MESSAGE_MEMBERS_H

#include "base/json.h"

/* What a member of a strategic patch is about. */
#define KEI_MEMBER_PLAIN 0
#define KEI_MEMBER_ORDER 1  /* $setElementOrder/NAME */
#define KEI_MEMBER_DELETE 2 /* $deleteFromPrimitiveList/NAME */

struct kei_member {
    struct ke_str name; /* decoded, without a directive's prefix */
    struct ke_str raw;  /* as written between the quotes */
    struct ke_str value;
    uint32_t kind;
    uint32_t at;
    bool shadowed; /* a later member has the same name and kind: that one counts */
};

struct kei_members {
    struct kei_member *m;
    uint32_t n;
    struct kei_member **sorted;
};

/*
 * object that is no object gives none. directives: sort out the two above, else all are plain.
 * *budget counts down the members read; KE_ELIMIT at 0, KE_ENOMEM.
 */
int kei_members_read(struct kei_members *ms, struct ke_str object, bool directives,
                     struct kei_arena *a, uint32_t *budget, struct ke_error *err);
const struct kei_member *kei_members_find(const struct kei_members *ms, struct ke_str name,
                                          uint32_t kind);

#endif
