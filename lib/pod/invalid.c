/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods that cannot be run because they cannot be read as what they should be: all that is known of
 * them is a name and why. Kept until they are deleted or come whole, for those who look at the
 * node's pods. Loop thread.
 */
#include "pod/engine.h"

#define INVALID_MAX 256 /* more are in the log and at the cloud only */

struct invalid {
    struct kei_link link;
    char *ns, *name, *text;
    char uid[KEI_POD_UID_MAX + 1];
};

#define INVALID(l) KEI_OF(l, struct invalid, link)

static void drop(struct kei_pods *ps, struct invalid *i)
{
    if (kei_list_linked(&i->link)) {
        kei_list_remove(&i->link);
        ps->n_invalid--;
    }
    kei_free(ps->alloc, i->ns);
    kei_free(ps->alloc, i->name);
    kei_free(ps->alloc, i->text);
    kei_free(ps->alloc, i);
}

static struct ke_pod_info info_of(const struct invalid *i, bool removed)
{
    return (struct ke_pod_info){
        .size = sizeof(struct ke_pod_info),
        .pod_namespace = i->ns,
        .name = i->name,
        .uid = i->uid,
        .phase = "Failed",
        .reason = "InvalidPod",
        .message = i->text,
        .removed = removed,
    };
}

static void tell(struct kei_pods *ps, const struct invalid *i, bool removed)
{
    struct ke_pod_info info = info_of(i, removed);
    if (ps->ops.pod && !ps->stopped)
        ps->ops.pod(ps->user, &info);
}

void kei_invalid_note(struct kei_pods *ps, const char *ns, const char *name, const char *uid,
                      const char *text)
{
    KEI_LIST_EACH(l, &ps->invalid)
    {
        if (strcmp(INVALID(l)->uid, uid) != 0)
            continue;
        if (!strcmp(INVALID(l)->text, text))
            return;
        drop(ps, INVALID(l));
        break;
    }
    struct invalid *i = ps->n_invalid < INVALID_MAX ? kei_zalloc(ps->alloc, sizeof *i) : NULL;
    if (!i)
        return; /* the log has it */
    i->ns = kei_strdup(ps->alloc, ns);
    i->name = kei_strdup(ps->alloc, name);
    i->text = kei_strdup(ps->alloc, text);
    kei_text_copy(i->uid, sizeof i->uid, uid);
    if (!i->ns || !i->name || !i->text) {
        drop(ps, i);
        return;
    }
    kei_list_add_tail(&ps->invalid, &i->link);
    ps->n_invalid++;
    tell(ps, i, false);
}

static bool has_key(const struct invalid *i, const char *key)
{
    size_t n = strlen(i->ns);
    return !strncmp(key, i->ns, n) && key[n] == '/' && !strcmp(key + n + 1, i->name);
}

void kei_invalid_forget(struct kei_pods *ps, const char *key, const char *uid)
{
    KEI_LIST_EACH_SAFE(l, next, &ps->invalid)
    {
        struct invalid *i = INVALID(l);
        if (*uid ? strcmp(i->uid, uid) != 0 : !has_key(i, key))
            continue;
        tell(ps, i, true);
        drop(ps, i);
    }
}

void kei_invalid_each(struct kei_pods *ps, void (*fn)(void *user, const struct ke_pod_info *p),
                      void *user)
{
    KEI_LIST_EACH(l, &ps->invalid)
    {
        struct ke_pod_info info = info_of(INVALID(l), false);
        fn(user, &info);
    }
}

void kei_invalid_free(struct kei_pods *ps)
{
    while (!kei_list_empty(&ps->invalid))
        drop(ps, INVALID(ps->invalid.next));
}
