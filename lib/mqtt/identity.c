/* SPDX-License-Identifier: Apache-2.0 */
/* See identity.h: the tables. A change is built beside what is there and then takes its place. */
#include "mqtt/identity.h"

#include "base/codec.h"

void kei_ids_init(struct kei_ids *s, const struct ke_alloc *a, struct kei_proofs *proofs,
                  uint64_t seed)
{
    memset(s, 0, sizeof *s);
    s->alloc = a;
    s->proofs = proofs;
    kei_map_init(&s->names, a, seed);
    for (int i = 0; i < KEI_BY_N; i++)
        kei_map_init(&s->index[i], a, seed);
    kei_list_init(&s->list);
    kei_users_init(&s->users, a, proofs, seed);
    kei_acl_init(&s->rules, a, seed);
    kei_map_init(&s->gone, a, seed);
}

static void identity_free(struct kei_ids *s, struct kei_identity *x)
{
    if (!x)
        return;
    kei_list_remove(&x->link);
    kei_free(s->alloc, x->name);
    for (int i = 0; i < KEI_BY_N; i++)
        kei_free(s->alloc, x->by[i]);
    kei_secret_fini(&x->secret, s->alloc);
    kei_acl_set_fini(&x->rules);
    kei_free(s->alloc, x);
}

void kei_ids_fini(struct kei_ids *s)
{
    if (!s->alloc)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &s->list)
    identity_free(s, KEI_OF(l, struct kei_identity, link));
    kei_map_free(&s->names);
    for (int i = 0; i < KEI_BY_N; i++)
        kei_map_free(&s->index[i]);
    kei_users_fini(&s->users);
    kei_acl_fini(&s->rules);
    kei_map_free(&s->gone);
    memset(s, 0, sizeof *s);
}

/* ---- the index: under the rarest thing a client must bring ---- */

static int index_of(const struct kei_identity *x)
{
    int i = 0;
    while (i < KEI_BY_N && !x->by[i])
        i++;
    return i;
}

static int index_add(struct kei_ids *s, struct kei_identity *x)
{
    int i = index_of(x);
    struct ke_str key = kei_str(x->by[i]);
    x->next = kei_map_get(&s->index[i], key);
    return kei_map_put(&s->index[i], key, x, NULL);
}

static void index_remove(struct kei_ids *s, struct kei_identity *x)
{
    int i = index_of(x);
    struct ke_str key = kei_str(x->by[i]);
    struct kei_identity *first = kei_map_get(&s->index[i], key), **at = &first;
    while (*at && *at != x)
        at = &(*at)->next;
    if (*at)
        *at = x->next;
    x->next = NULL;
    if (!first)
        kei_map_remove(&s->index[i], key);
    else
        (void)!kei_map_put(&s->index[i], key, first, NULL); /* the key is there: cannot fail */
}

static bool fits(const struct kei_identity *x, const struct ke_str by[KEI_BY_N])
{
    for (int i = 0; i < KEI_BY_N; i++)
        if (x->by[i] && (!by[i].n || !kei_str_is(by[i], x->by[i])))
            return false;
    return true;
}

static unsigned asks(const struct kei_identity *x)
{
    unsigned n = x->has_password;
    for (int i = 0; i < KEI_BY_N; i++)
        n += x->by[i] != NULL;
    return n + (x->revoked ? 0 : 2 * KEI_BY_N);
}

struct kei_identity *kei_ids_match(const struct kei_ids *s, const struct ke_str by[KEI_BY_N])
{
    struct kei_identity *best = NULL;
    for (int i = 0; i < KEI_BY_N; i++) {
        struct kei_identity *x = by[i].n ? kei_map_get(&s->index[i], by[i]) : NULL;
        for (; x; x = x->next)
            if (fits(x, by) && (!best || asks(x) > asks(best)))
                best = x;
    }
    return best;
}

struct kei_identity *kei_ids_find(const struct kei_ids *s, struct ke_str name)
{
    return kei_map_get(&s->names, name);
}

bool kei_ids_reserved(const struct kei_ids *s, struct ke_str user)
{
    const struct kei_identity *x = kei_map_get(&s->index[KEI_BY_USER], user);
    for (; x; x = x->next)
        if (x->has_password || x->revoked)
            return true;
    return false;
}

/* ---- what the host hands over ---- */

static int check_text(const char *what, const char *text, struct ke_error *err)
{
    size_t n = text ? strlen(text) : 0;
    if (n > KEI_IDENTITY_TEXT_MAX)
        return kei_error(err, KE_ELIMIT, "%s has %zu bytes, over the limit of %u", what, n,
                         KEI_IDENTITY_TEXT_MAX);
    if (text && !kei_utf8_valid(kei_str(text)))
        return kei_error(err, KE_EINVAL, "%s is no UTF-8 text", what);
    return 0;
}

static int check_password(const char *password, struct ke_error *err)
{
    if (password && strlen(password) > KEI_PASSWORD_MAX)
        return kei_error(err, KE_ELIMIT, "a password has over %u bytes", KEI_PASSWORD_MAX);
    return 0;
}

static int add_rules(struct kei_acl_set *set, const struct ke_mqtt_rule *rules, uint32_t n,
                     struct ke_error *err)
{
    if (n > KEI_RULES_MAX)
        return kei_error(err, KE_ELIMIT, "%u rules are over the limit of %u", n, KEI_RULES_MAX);
    if (n > 0 && !rules)
        return kei_error(err, KE_EINVAL, "rules is NULL, n_rules is %u", n);
    for (uint32_t i = 0; i < n; i++) {
        struct ke_mqtt_rule rule;
        int r = kei_abi_in(&rule, sizeof rule,
                           (const char *)rules + (size_t)i * (rules->size ? rules->size : 1),
                           offsetof(struct ke_mqtt_rule, reserved), "struct ke_mqtt_rule", err);
        if (r == 0)
            r = kei_acl_set_add(set, rule.access, kei_str(rule.topic), true, err);
        if (r < 0)
            return kei_error_prefix(err, r, "rule %u", i);
    }
    return 0;
}

static int check_identity(const struct ke_mqtt_identity *id, struct ke_error *err)
{
    const struct {
        const char *what, *text;
    } texts[] = {{"the name of an identity", id->name},
                 {"user_name of an identity", id->user_name},
                 {"client_id of an identity", id->client_id},
                 {"cert_name of an identity", id->cert_name}};
    uint8_t sum[32];
    int r = check_password(id->password, err);
    for (size_t i = 0; r == 0 && i < sizeof texts / sizeof texts[0]; i++)
        r = check_text(texts[i].what, texts[i].text, err);
    if (r < 0)
        return r;
    if (!id->name || !id->name[0])
        return kei_error(err, KE_EINVAL, "an identity needs a name");
    if (id->cert_sha256 && !kei_hex_decode(sum, sizeof sum, kei_str(id->cert_sha256)))
        return kei_error(err, KE_EINVAL, "cert_sha256 of identity %s is not 64 hex digits",
                         id->name);
    if ((!id->user_name || !id->user_name[0]) && (!id->client_id || !id->client_id[0]) &&
        !id->cert_sha256 && (!id->cert_name || !id->cert_name[0]))
        return kei_error(err, KE_EINVAL,
                         "identity %s has none of user_name, client_id, cert_sha256, cert_name",
                         id->name);
    return 0;
}

static bool copy(struct kei_ids *s, char **to, const char *text)
{
    if (!text || !text[0])
        return true;
    *to = kei_strdup(s->alloc, text);
    return *to != NULL;
}

/* Without password and rules. NULL: no memory. */
static struct kei_identity *identity_new(struct kei_ids *s, const struct ke_mqtt_identity *id)
{
    struct kei_identity *x = kei_zalloc(s->alloc, sizeof *x);
    char sum[65] = "";
    uint8_t raw[32];
    if (!x)
        return NULL;
    kei_acl_set_init(&x->rules, s->alloc);
    if (id->cert_sha256 && kei_hex_decode(raw, sizeof raw, kei_str(id->cert_sha256)))
        kei_hex_encode(sum, raw, sizeof raw); /* lower case, whatever it was */
    if (copy(s, &x->name, id->name) && copy(s, &x->by[KEI_BY_SHA256], sum) &&
        copy(s, &x->by[KEI_BY_CERT], id->cert_name) &&
        copy(s, &x->by[KEI_BY_USER], id->user_name) &&
        copy(s, &x->by[KEI_BY_CLIENT], id->client_id))
        return x;
    identity_free(s, x);
    return NULL;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool asks_same(const struct kei_identity *a, const struct kei_identity *b)
{
    for (int i = 0; i < KEI_BY_N; i++)
        if (!same_text(a->by[i], b->by[i]))
            return false;
    return true;
}

/* The oldest revoked one makes room. */
static int make_room(struct kei_ids *s, struct ke_error *err)
{
    if (s->n < KEI_IDENTITIES_MAX)
        return 0;
    KEI_LIST_EACH(l, &s->list)
    {
        struct kei_identity *x = KEI_OF(l, struct kei_identity, link);
        if (!x->revoked)
            continue;
        kei_map_remove(&s->names, kei_str(x->name));
        index_remove(s, x);
        identity_free(s, x);
        s->n--;
        return 0;
    }
    return kei_error(err, KE_ELIMIT, "there are %u identities, which is the limit",
                     KEI_IDENTITIES_MAX);
}

/* x takes the place of the one of its name. */
static int put(struct kei_ids *s, struct kei_identity *x, struct ke_error *err)
{
    struct kei_identity *old = kei_ids_find(s, kei_str(x->name));
    int r = old ? 0 : make_room(s, err);
    if (r < 0)
        return r;
    if (index_add(s, x) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for identity %s", x->name);
    if (kei_map_put(&s->names, kei_str(x->name), x, NULL) < 0) {
        index_remove(s, x);
        return kei_error(err, KE_ENOMEM, "out of memory for identity %s", x->name);
    }
    if (old) {
        index_remove(s, old);
        identity_free(s, old);
    } else {
        s->n++;
    }
    kei_list_add_tail(&s->list, &x->link);
    return 0;
}

/* A password that is the same as before keeps its hash, and the connections made with it. */
static int identity_password(struct kei_ids *s, struct kei_identity *x, struct kei_identity *old,
                             const char *password, bool *fresh)
{
    x->has_password = password != NULL;
    bool same = old && !old->revoked && asks_same(x, old) && old->has_password == x->has_password;
    if (!password) {
        x->epoch = same ? old->epoch : ++s->proofs->epoch;
        return 0;
    }
    if (same && kei_secret_ask(&old->secret, s->proofs, kei_str(password)) == KEI_PROOF_YES) {
        if (kei_secret_copy(&x->secret, &old->secret, s->alloc) < 0)
            return KE_ENOMEM;
        x->epoch = old->epoch;
        *fresh = !x->secret.hash[0];
        return 0;
    }
    *fresh = true;
    x->epoch = ++s->proofs->epoch;
    return kei_secret_set(&x->secret, s->proofs, s->alloc, kei_str(password),
                          old && !old->revoked && asks_same(x, old) ? &old->secret : NULL);
}

int kei_ids_set(struct kei_ids *s, const struct ke_mqtt_identity *id, struct kei_identity **ret,
                bool *ret_fresh, struct ke_error *err)
{
    int r = check_identity(id, err);
    if (r < 0)
        return r;
    struct kei_identity *x = identity_new(s, id), *old = kei_ids_find(s, kei_str(id->name));
    bool fresh = false;
    if (!x || identity_password(s, x, old, id->password, &fresh) < 0)
        r = kei_error(err, KE_ENOMEM, "out of memory for identity %s", id->name);
    if (r == 0)
        r = add_rules(&x->rules, id->rules, id->n_rules, err);
    if (r == 0)
        r = put(s, x, err);
    if (r < 0) {
        identity_free(s, x);
        return r;
    }
    *ret = x;
    *ret_fresh = fresh;
    return 0;
}

static void revoke(struct kei_ids *s, struct kei_identity *x)
{
    x->revoked = true;
    x->epoch = ++s->proofs->epoch;
    x->has_password = false;
    kei_secret_fini(&x->secret, s->alloc);
    kei_acl_set_fini(&x->rules);
    kei_acl_set_init(&x->rules, s->alloc);
}

int kei_ids_revoke(struct kei_ids *s, struct ke_str name, struct ke_error *err)
{
    struct kei_identity *x = kei_ids_find(s, name);
    if (!x || x->revoked)
        return kei_error(err, KE_ENOTFOUND, "there is no identity %.*s", KEI_FMT(name));
    revoke(s, x);
    return 0;
}

/* ---- users and rules ---- */

/* The content of one set moves into another, empty one. */
static void move_rules(struct kei_acl *a, struct kei_acl_set *to, struct kei_acl_set *from)
{
    struct kei_link at = to->link, was = from->link;
    kei_acl_set_fini(to);
    *to = *from;
    to->link = at;
    a->n += to->n;
    kei_acl_set_init(from, a->alloc);
    from->link = was;
}

int kei_ids_rules_set(struct kei_ids *s, struct ke_str user, const struct ke_mqtt_rule *rules,
                      uint32_t n, struct ke_error *err)
{
    struct kei_acl_set fresh, *set = &s->rules.patterns;
    kei_acl_set_init(&fresh, s->alloc);
    int r = add_rules(&fresh, rules, n, err);
    if (r == 0 && user.p)
        r = kei_acl_user(&s->rules, user.n ? user : kei_strn(NULL, 0), &set, err);
    if (r < 0) {
        kei_acl_set_fini(&fresh);
        return r;
    }
    s->everybody |= !user.p;
    s->rules.n -= set->n;
    move_rules(&s->rules, set, &fresh);
    return 0;
}

bool kei_ids_has_rules(const struct kei_ids *s)
{
    return s->rules.n > 0;
}

int kei_ids_user_set(struct kei_ids *s, const char *name, const char *password,
                     const struct ke_mqtt_rule *rules, uint32_t n, struct kei_user **ret,
                     bool *ret_fresh, struct ke_error *err)
{
    struct kei_user *x;
    struct kei_secret fresh = {0};
    if (!name || !name[0])
        return kei_error(err, KE_EINVAL, "a user needs a name");
    int r = check_text("a user name", name, err);
    if (r == 0)
        r = check_password(password, err);
    if (r < 0)
        return r;
    bool known = kei_users_find(&s->users, kei_str(name)) != NULL;
    r = kei_users_add(&s->users, kei_str(name), &x, err);
    if (r < 0)
        return r;
    bool same =
        password && kei_secret_ask(&x->secret, s->proofs, kei_str(password)) == KEI_PROOF_YES;
    if (password && !same &&
        kei_secret_set(&fresh, s->proofs, s->alloc, kei_str(password), &x->secret) < 0)
        r = kei_error(err, KE_ENOMEM, "out of memory for user %s", name);
    if (r == 0)
        r = kei_ids_rules_set(s, kei_str(name), rules, n, err);
    if (r < 0) {
        kei_secret_fini(&fresh, s->alloc);
        if (!known)
            kei_users_remove(&s->users, x);
        return r;
    }
    if (!same) {
        if (!password)
            fresh.epoch = ++s->proofs->epoch;
        kei_secret_fini(&x->secret, s->alloc);
        x->secret = fresh;
    }
    *ret = x;
    *ret_fresh = password && !x->secret.hash[0];
    return 0;
}

int kei_ids_user_remove(struct kei_ids *s, struct ke_str name, struct ke_error *err)
{
    struct kei_user *x = kei_users_find(&s->users, name);
    if (!x)
        return kei_error(err, KE_ENOTFOUND, "there is no user %.*s", KEI_FMT(name));
    if (s->note_gone && kei_map_put(&s->gone, name, s, NULL) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for user %.*s", KEI_FMT(name));
    struct kei_acl_set *set = name.n ? kei_map_remove(&s->rules.users, name) : NULL;
    kei_users_remove(&s->users, x); /* name may be its own: last */
    if (set) {
        s->rules.n -= set->n;
        kei_list_remove(&set->link);
        kei_acl_set_fini(set);
        kei_free(s->alloc, set);
    }
    return 0;
}

/* ---- what was kept ---- */

static int merge_identities(struct kei_ids *s, struct kei_ids *kept, struct ke_error *err)
{
    KEI_LIST_EACH_SAFE(l, tmp, &kept->list)
    {
        struct kei_identity *x = KEI_OF(l, struct kei_identity, link);
        if (kei_ids_find(s, kei_str(x->name)))
            continue;
        kei_map_remove(&kept->names, kei_str(x->name));
        index_remove(kept, x);
        kei_list_remove(&x->link);
        int r = put(s, x, err);
        if (r < 0) {
            identity_free(s, x);
            return r;
        }
    }
    return 0;
}

static int merge_users(struct kei_ids *s, struct kei_ids *kept, struct ke_error *err)
{
    KEI_LIST_EACH(l, &kept->users.list)
    {
        struct kei_user *from = KEI_OF(l, struct kei_user, link), *to;
        struct ke_str name = kei_strn(from->name, from->n);
        if (kei_users_find(&s->users, name) || kei_map_get(&s->gone, name))
            continue;
        int r = kei_users_add(&s->users, name, &to, err);
        if (r < 0)
            return r;
        to->secret = from->secret;
        from->secret = (struct kei_secret){0};
    }
    return 0;
}

static int merge_rules(struct kei_ids *s, struct kei_ids *kept, struct ke_error *err)
{
    struct kei_acl_set *to;
    size_t it = 0;
    struct ke_str name;
    void *from;
    if (!s->everybody)
        move_rules(&s->rules, &s->rules.patterns, &kept->rules.patterns);
    if (!s->rules.nobody && kept->rules.nobody) {
        int r = kei_acl_user(&s->rules, kei_strn(NULL, 0), &to, err);
        if (r < 0)
            return r;
        move_rules(&s->rules, to, kept->rules.nobody);
    }
    while (kei_map_next(&kept->rules.users, &it, &name, &from)) {
        if (kei_acl_find(&s->rules, name) || kei_map_get(&s->gone, name))
            continue;
        int r = kei_acl_user(&s->rules, name, &to, err);
        if (r < 0)
            return r;
        move_rules(&s->rules, to, from);
    }
    return 0;
}

int kei_ids_merge(struct kei_ids *s, struct kei_ids *kept, struct ke_error *err)
{
    int r = merge_identities(s, kept, err);
    if (r == 0)
        r = merge_users(s, kept, err);
    return r < 0 ? r : merge_rules(s, kept, err);
}
