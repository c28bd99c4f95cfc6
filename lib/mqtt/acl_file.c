/* SPDX-License-Identifier: Apache-2.0 */
/* See acl.h: the sets of all users, and how mosquitto's acl_file is read into them. Pure. */
#include "mqtt/acl.h"

void kei_acl_init(struct kei_acl *a, const struct ke_alloc *alloc, uint64_t seed)
{
    memset(a, 0, sizeof *a);
    a->alloc = alloc;
    kei_map_init(&a->users, alloc, seed);
    kei_list_init(&a->sets);
    kei_acl_set_init(&a->patterns, alloc);
}

void kei_acl_fini(struct kei_acl *a)
{
    if (!a->alloc)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &a->sets)
    {
        struct kei_acl_set *s = KEI_OF(l, struct kei_acl_set, link);
        kei_acl_set_fini(s);
        kei_free(a->alloc, s);
    }
    kei_map_free(&a->users);
    kei_acl_set_fini(&a->patterns);
    memset(a, 0, sizeof *a);
}

const struct kei_acl_set *kei_acl_find(const struct kei_acl *a, struct ke_str user)
{
    return user.p ? kei_map_get(&a->users, user) : a->nobody;
}

int kei_acl_user(struct kei_acl *a, struct ke_str user, struct kei_acl_set **ret,
                 struct ke_error *err)
{
    struct kei_acl_set *s = user.p ? kei_map_get(&a->users, user) : a->nobody;
    if (s) {
        *ret = s;
        return 0;
    }
    s = kei_zalloc(a->alloc, sizeof *s);
    if (!s || (user.p && kei_map_put(&a->users, user, s, NULL) < 0)) {
        kei_free(a->alloc, s);
        return kei_error(err, KE_ENOMEM, "out of memory for the ACL of user %.*s", KEI_FMT(user));
    }
    kei_acl_set_init(s, a->alloc);
    kei_list_add_tail(&a->sets, &s->link);
    if (!user.p)
        a->nobody = s;
    *ret = s;
    return 0;
}

/* "read TOPIC", or "TOPIC" alone: the topic may have spaces only behind an access word. */
static int parse_rule(struct ke_str rest, uint32_t *access, struct ke_str *topic,
                      struct ke_error *err)
{
    static const struct {
        const char *word;
        uint32_t access;
    } words[] = {
        {"read", KEI_ACL_READ | KEI_ACL_SUBSCRIBE},
        {"write", KEI_ACL_WRITE},
        {"readwrite", KEI_ACL_ALL},
        {"deny", KEI_ACL_ALL | KEI_ACL_DENY},
    };
    struct ke_str word = kei_str_cut(rest, ' ', topic);
    *access = KEI_ACL_ALL;
    if (!topic->p) {
        *topic = word;
        return word.n ? 0 : kei_error(err, KE_EPARSE, "no topic");
    }
    *topic = kei_str_trim(*topic);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (kei_str_is(word, words[i].word)) {
            *access = words[i].access;
            return 0;
        }
    return kei_error(err, KE_EPARSE, "%.*s is not read, write, readwrite or deny", KEI_FMT(word));
}

/* What a file is read into: the set of the user named last. */
struct place {
    struct kei_acl *a;
    struct ke_str user;
};

static int parse_line(struct place *at, struct ke_str line, struct ke_error *err)
{
    struct ke_str rest, topic;
    struct kei_acl_set *set = &at->a->patterns;
    uint32_t access;
    struct ke_str word = kei_str_cut(line, ' ', &rest);
    rest = rest.p ? kei_str_trim(rest) : KEI_STR("");
    if (kei_str_is(word, "user")) {
        at->user = rest;
        return rest.n ? 0 : kei_error(err, KE_EPARSE, "no user name");
    }
    bool pattern = kei_str_is(word, "pattern");
    if (!pattern && !kei_str_is(word, "topic"))
        return kei_error(err, KE_EPARSE, "%.*s is not user, topic or pattern", KEI_FMT(word));
    int r = parse_rule(rest, &access, &topic, err);
    if (r == 0 && !pattern)
        r = kei_acl_user(at->a, at->user, &set, err);
    if (r == 0)
        r = kei_acl_set_add(set, access, topic, pattern, err);
    at->a->n += r == 0;
    return r;
}

int kei_acl_parse(struct kei_acl *a, struct ke_str text, const char *name, struct ke_error *err)
{
    struct place at = {.a = a};
    for (uint32_t line = 1; text.p; line++) {
        struct ke_str l = kei_str_cut(text, '\n', &text);
        if (l.n > 0 && l.p[0] == '#')
            continue;
        l = kei_str_trim(l);
        int r = l.n ? parse_line(&at, l, err) : 0;
        if (r == KE_EINVAL && err)
            err->code = r = KE_EPARSE;
        if (r < 0)
            return kei_error_prefix(err, r, "%s:%u", name, line);
    }
    return 0;
}
