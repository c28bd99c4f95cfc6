/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An acl_file as an administrator may write it, asked with names and topics of a peer: lines until
 * a byte 0xff, then a client id, a user name and topics, one per line. The tree of levels must say
 * what a walk through the rules says, and no subscription may be covered that a message is refused
 * for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt/acl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void ask(const struct kei_acl *a, const struct kei_acl_who *who, struct ke_str topic)
{
    const struct kei_acl_set *sets[] = {kei_acl_find(a, who->user), &a->patterns};
    /* no topic of a message: the codec refuses it */
    if (topic.n && (memchr(topic.p, '+', topic.n) || memchr(topic.p, '#', topic.n)))
        return;
    for (uint32_t access = KEI_ACL_READ; access <= KEI_ACL_WRITE; access *= 2)
        for (int i = 0; i < 2; i++)
            if (sets[i] && topic.n)
                MUST(kei_acl_set_check(sets[i], who, access, topic) ==
                     kei_acl_set_scan(sets[i], who, access, topic));
    if (topic.n == 0)
        return;
    /* as a filter a topic stands for itself */
    enum kei_acl_cover c = kei_acl_covers(sets, 2, who, KEI_ACL_READ, topic);
    bool may = kei_acl_allows(sets, 2, who, KEI_ACL_READ, topic);
    MUST(c == (may ? KEI_ACL_COVER_ALL : KEI_ACL_COVER_NONE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_acl a;
    char *copy = malloc(size + 1);
    MUST(copy);
    memcpy(copy, data, size);
    struct ke_str rest = kei_strn(copy, size), text = kei_str_cut(rest, '\xff', &rest);
    kei_acl_init(&a, kei_alloc_malloc(), 1);
    int r = kei_acl_parse(&a, text, "f", &err);
    MUST(r == 0 || ((r == KE_EPARSE || r == KE_ELIMIT) && err.text[0]));
    if (rest.p) {
        struct kei_acl_who who = {.client = kei_str_cut(rest, '\n', &rest)};
        if (rest.p)
            who.user = kei_str_cut(rest, '\n', &rest);
        for (int i = 0; i < 20 && rest.p; i++)
            ask(&a, &who, kei_str_cut(rest, '\n', &rest));
    }
    kei_acl_fini(&a);
    free(copy);
    return 0;
}
