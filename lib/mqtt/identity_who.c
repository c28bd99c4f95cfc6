/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See identity_access.h: what a client that was let in may do. The sets of rules that concern it
 * are looked up once and again after each change; a message costs a walk through them. Loop thread.
 */
#include "mqtt/identity_access.h"

struct kei_who *kei_who_new(struct kei_access_impl *a, const struct kei_identity *id,
                            const struct kei_user *user, enum kei_source source,
                            struct ke_str listener)
{
    struct ke_str identity = kei_str(id ? id->name : NULL);
    struct kei_who *w = kei_zalloc(a->alloc, sizeof *w + identity.n + listener.n);
    if (!w)
        return NULL;
    char *text = (char *)(w + 1);
    if (id) {
        memcpy(text, identity.p, identity.n);
        w->identity = kei_strn(text, identity.n);
        w->epoch = id->epoch;
    }
    if (user) {
        w->source = source;
        w->user_epoch = user->secret.epoch;
    }
    if (listener.n) {
        memcpy(text + identity.n, listener.p, listener.n);
        w->listener = kei_strn(text + identity.n, listener.n);
    }
    return w;
}

/* No name at all is not the same as an empty one, but the server has one word for both. */
static struct ke_str user_of(struct ke_str user)
{
    return user.n ? user : kei_strn(NULL, 0);
}

void kei_who_look(const struct kei_access_impl *a, struct kei_who *w, struct ke_str user)
{
    const struct kei_files *f = kei_files_of(a, w->listener);
    const struct kei_identity *id = w->identity.p ? kei_ids_find(&a->ids, w->identity) : NULL;
    w->gen = a->gen;
    w->gone = w->identity.p && (!id || id->revoked);
    w->sets[0] = id ? &id->rules : NULL;
    w->sets[1] = kei_acl_find(&a->ids.rules, user_of(user));
    w->sets[2] = kei_acl_find(&f->acl, user_of(user));
    w->sets[3] = &a->ids.rules.patterns;
    w->sets[4] = &f->acl.patterns;
    w->limited = w->gone || f->has_acl || kei_ids_has_rules(&a->ids) ||
                 (a->flags & KE_MQTT_ACCESS_DEFAULT_DENY) || (id && id->rules.n > 0);
}

/* The filter behind "$share/GROUP/". */
static struct ke_str shared(struct ke_str filter)
{
    struct ke_str rest;
    if (!kei_str_starts(filter, KEI_STR("$share/")))
        return filter;
    kei_str_cut(filter, '/', &rest);
    kei_str_cut(rest, '/', &rest);
    return rest.p ? rest : filter;
}

/* The same, up to date: who itself, or *scratch for a client nothing is kept of. */
static const struct kei_who *current(const struct kei_access_impl *a, const struct kei_who *who,
                                     struct ke_str user, struct kei_who *scratch)
{
    if (who && who->gen == a->gen)
        return who;
    *scratch = (struct kei_who){0};
    if (who)
        *scratch = *who;
    kei_who_look(a, scratch, user);
    return scratch;
}

bool kei_access_may(struct kei_access *base, const struct kei_who *who, struct ke_str client_id,
                    struct ke_str user_name, uint32_t access, struct ke_str topic)
{
    const struct kei_access_impl *a = kei_access_of(base);
    struct kei_who scratch;
    const struct kei_who *w = current(a, who, user_name, &scratch);
    if (!w->limited)
        return true;
    if (w->gone)
        return false;
    struct kei_acl_who names = {client_id, user_of(user_name), w->identity};
    if (access == KE_MQTT_SUBSCRIBE)
        return kei_acl_covers(w->sets, KEI_ACCESS_SETS, &names, access, shared(topic)) !=
               KEI_ACL_COVER_NONE;
    return kei_acl_allows(w->sets, KEI_ACCESS_SETS, &names, access, topic);
}

bool kei_access_unlimited(struct kei_access *base, const struct kei_who *who, uint32_t access)
{
    const struct kei_access_impl *a = kei_access_of(base);
    struct kei_who scratch;
    (void)access;
    return !current(a, who, kei_strn(NULL, 0), &scratch)->limited;
}

/* ---- after a change ---- */

/* What let it in is there no more. */
static bool is_stale(const struct kei_access_impl *a, const struct kei_who *w, struct ke_str user)
{
    const struct kei_identity *id = w->identity.p ? kei_ids_find(&a->ids, w->identity) : NULL;
    if (w->identity.p && (!id || id->revoked || id->epoch != w->epoch))
        return true;
    if (w->source == KEI_SOURCE_NONE)
        return false;
    const struct kei_users *users =
        w->source == KEI_SOURCE_HOST ? &a->ids.users : &kei_files_of(a, w->listener)->users;
    const struct kei_user *x = kei_users_find(users, user);
    return !x || x->secret.epoch != w->user_epoch;
}

static int check(void *user, struct kei_who *who, struct ke_str client_id, struct ke_str user_name)
{
    const struct kei_access_impl *a = user;
    (void)client_id;
    if (!who)
        return KEI_ACCESS_KEEP;
    kei_who_look(a, who, user_name);
    return is_stale(a, who, user_name) ? KEI_ACCESS_CLOSE : KEI_ACCESS_KEEP;
}

void kei_who_changed(struct kei_access_impl *a)
{
    a->gen++;
    kei_mqtt_access_changed(a->m, check, a);
}
