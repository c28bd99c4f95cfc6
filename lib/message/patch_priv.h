/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the patch. */
#ifndef KEI_MESSAGE_PATCH_PRIV_H
#define KEI_MESSAGE_PATCH_PRIV_H

#include "message/members.h"

/* A patch may be this deep; recursion follows the patch only, so this bounds the stack. */
#define KEI_PATCH_DEPTH 64
/* members and list elements that one patch may touch */
#define KEI_PATCH_MEMBERS 500000u
/* names in one $retainKeys */
#define KEI_PATCH_RETAIN 256u

struct kei_patcher {
    struct kei_arena arena;
    struct ke_error *err;
    uint32_t budget;
    bool strategic;
};

/* What a patch says about one member; n 0 where it says nothing. */
struct kei_edit {
    struct ke_str value;
    struct ke_str order; /* of $setElementOrder */
    struct ke_str drop;  /* of $deleteFromPrimitiveList */
};

/* Where we are: name of the member and of the list or object around it. */
struct kei_place {
    const char *around; /* "" at the top */
    struct ke_str name;
    uint32_t depth;
};

/* Nothing in the text needs work: no directive, no null that would delete. */
bool kei_patch_plain(const struct kei_patcher *p, struct ke_str v);
int kei_patch_object(struct kei_patcher *p, const struct kei_place *place, struct ke_str base,
                     struct ke_str patch, struct ke_buf *out);
int kei_patch_list(struct kei_patcher *p, const struct kei_place *place, struct ke_str base,
                   const struct kei_edit *edit, struct ke_buf *out);

#endif
