/* SPDX-License-Identifier: Apache-2.0 */
/* Doubly linked list of embedded links. */
#ifndef KEI_BASE_LIST_H
#define KEI_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct kei_link {
    struct kei_link *prev, *next;
};

#define KEI_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void kei_list_init(struct kei_link *head)
{
    head->prev = head->next = head;
}
static inline bool kei_list_empty(const struct kei_link *head)
{
    return head->next == head;
}
static inline void kei_list_add_tail(struct kei_link *head, struct kei_link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}
/* safe on a link that is zeroed or already removed */
static inline void kei_list_remove(struct kei_link *l)
{
    if (l->next) {
        l->prev->next = l->next;
        l->next->prev = l->prev;
    }
    l->prev = l->next = NULL;
}
static inline bool kei_list_linked(const struct kei_link *l)
{
    return l->next != NULL;
}
#define KEI_LIST_EACH(l, head) for (struct kei_link *l = (head)->next; l != (head); l = l->next)
/* the body may remove l */
#define KEI_LIST_EACH_SAFE(l, tmp, head)                                                           \
    for (struct kei_link *l = (head)->next, *tmp = l->next; l != (head); l = tmp, tmp = tmp->next)

#endif
