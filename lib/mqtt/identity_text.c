/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See identity.h: things as JSON, one object each, and back.
 *   {"identity":{"name":N,"sha256":..,"cert":..,"user":..,"client":..,"hash":..,"rules":[[3,"a/#"]]}}
 *   {"identity":{"name":N,...,"revoked":true}}
 *   {"user":{"name":N,"hash":..,"rules":[]}}    {"user":{"name":N,"gone":true}}
 *   {"rules":{"name":N,"rules":[]}}             name null: everybody; "": anonymous clients
 */
#include "mqtt/identity.h"

#define TEXT_MAX ((size_t)4 << 20) /* of the arena for one line */

static const char *const by_names[KEI_BY_N] = {"sha256", "cert", "user", "client"};

static void write_rules(struct kei_jw *w, const struct kei_acl_set *set)
{
    kei_jw_key(w, "rules");
    kei_jw_arr(w);
    for (uint32_t i = 0; set && i < set->n; i++) {
        kei_jw_arr(w);
        kei_jw_i64(w, set->rules[i].access);
        kei_jw_strv(w, kei_strn(set->rules[i].filter, set->rules[i].n));
        kei_jw_arr_end(w);
    }
    kei_jw_arr_end(w);
}

static void write_identity(struct kei_jw *w, const struct kei_identity *x)
{
    kei_jw_kstr(w, "name", x->name);
    for (int i = 0; i < KEI_BY_N; i++)
        if (x->by[i])
            kei_jw_kstr(w, by_names[i], x->by[i]);
    if (x->has_password)
        kei_jw_kstr(w, "hash", kei_secret_kept(&x->secret));
    if (x->revoked)
        kei_jw_kbool(w, "revoked", true);
    write_rules(w, &x->rules);
}

static void write_user(const struct kei_ids *s, struct kei_jw *w, struct ke_str name)
{
    const struct kei_user *x = kei_users_find(&s->users, name);
    kei_jw_key(w, "name");
    kei_jw_strv(w, name);
    if (!x) {
        kei_jw_kbool(w, "gone", true);
        return;
    }
    if (x->secret.hash)
        kei_jw_kstr(w, "hash", kei_secret_kept(&x->secret));
    write_rules(w, kei_acl_find(&s->rules, name));
}

static void write_general(const struct kei_ids *s, struct kei_jw *w, struct ke_str name)
{
    kei_jw_key(w, "name");
    if (name.p)
        kei_jw_strv(w, name);
    else
        kei_jw_null(w);
    write_rules(w, !name.p  ? &s->rules.patterns
                   : name.n ? kei_acl_find(&s->rules, name)
                            : s->rules.nobody);
}

static bool hash_is_due(const struct kei_ids *s, enum kei_ids_kind kind, struct ke_str name)
{
    const struct kei_identity *x = kind == KEI_IDS_IDENTITY ? kei_ids_find(s, name) : NULL;
    const struct kei_user *u = kind == KEI_IDS_USER ? kei_users_find(&s->users, name) : NULL;
    const struct kei_secret *secret = x ? &x->secret : u ? &u->secret : NULL;
    return secret && secret->hash && !kei_secret_kept(secret);
}

void kei_ids_write(const struct kei_ids *s, enum kei_ids_kind kind, struct ke_str name,
                   struct ke_buf *out)
{
    static const char *const kinds[] = {"identity", "user", "rules"};
    const struct kei_identity *x = kei_ids_find(s, name);
    struct kei_jw w;
    if (hash_is_due(s, kind, name) || (kind == KEI_IDS_IDENTITY && !x))
        return;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, kinds[kind]);
    kei_jw_obj(&w);
    if (kind == KEI_IDS_IDENTITY)
        write_identity(&w, x);
    else if (kind == KEI_IDS_USER)
        write_user(s, &w, name);
    else
        write_general(s, &w, name);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

void kei_ids_each(const struct kei_ids *s,
                  void (*each)(void *user, enum kei_ids_kind kind, struct ke_str name), void *user)
{
    size_t it = 0;
    struct ke_str name;
    KEI_LIST_EACH(l, &s->list)
    each(user, KEI_IDS_IDENTITY, kei_str(KEI_OF(l, struct kei_identity, link)->name));
    KEI_LIST_EACH(l, &s->users.list)
    each(user, KEI_IDS_USER, kei_str(KEI_OF(l, struct kei_user, link)->name));
    while (kei_map_next(&s->rules.users, &it, &name, NULL))
        if (!kei_users_find(&s->users, name))
            each(user, KEI_IDS_RULES, name);
    if (s->rules.nobody)
        each(user, KEI_IDS_RULES, KEI_STR(""));
    if (s->rules.patterns.n > 0)
        each(user, KEI_IDS_RULES, kei_strn(NULL, 0));
}

/* ---- reading ---- */

struct reading {
    struct kei_ids *s;
    struct kei_arena arena;
    struct ke_str body;
    const char *name; /* NULL: null */
    const char *hash; /* NULL: none */
    struct ke_mqtt_rule *rules;
    uint32_t n;
};

static int damaged(struct ke_error *err, const char *what)
{
    return kei_error(err, KE_EPARSE, "an entry has no %s that this release understands", what);
}

/* A member that is a string, or absent (*ret NULL). */
static int text_of(struct reading *r, const char *key, const char **ret, struct ke_error *err)
{
    struct ke_str v;
    char *text;
    *ret = NULL;
    if (!kei_json_get(r->body, key, &v) || kei_json_type(v) == 'n')
        return 0;
    int e = kei_json_text(&text, v, &r->arena, err);
    if (e == 0)
        *ret = text;
    return e;
}

static int read_rule(struct reading *r, struct ke_str v, struct ke_mqtt_rule *rule,
                     struct ke_error *err)
{
    size_t it = 0;
    struct ke_str key, access, topic;
    int64_t n;
    char *text;
    if (!kei_json_next(v, &it, &key, &access) || !kei_json_i64(access, &n) || n < 0 ||
        n > UINT8_MAX || !kei_json_next(v, &it, &key, &topic))
        return damaged(err, "rule");
    int e = kei_json_text(&text, topic, &r->arena, err);
    if (e < 0)
        return e;
    *rule = (struct ke_mqtt_rule){.size = sizeof *rule, .topic = text, .access = (uint32_t)n};
    return 0;
}

static int read_rules(struct reading *r, struct ke_error *err)
{
    struct ke_str list, key, v;
    size_t it = 0, n = 0;
    if (!kei_json_get(r->body, "rules", &list) || kei_json_type(list) != '[')
        return 0;
    while (kei_json_next(list, &it, &key, &v))
        n++;
    if (n > KEI_RULES_MAX)
        return kei_error(err, KE_ELIMIT, "%zu rules are over the limit of %u", n, KEI_RULES_MAX);
    r->rules = kei_arena_array(&r->arena, n ? n : 1, sizeof *r->rules);
    if (!r->rules)
        return kei_error(err, KE_ENOMEM, "out of memory for %zu rules", n);
    for (it = 0; kei_json_next(list, &it, &key, &v); r->n++) {
        int e = read_rule(r, v, &r->rules[r->n], err);
        if (e < 0)
            return e;
    }
    return 0;
}

/* A copy of the hash, if there is one and it has a form we know. */
static int copy_hash(struct reading *r, char **ret, struct ke_error *err)
{
    *ret = NULL;
    if (!r->hash)
        return 0;
    if (!r->hash[0])
        return damaged(err, "hash");
    *ret = kei_strdup(r->s->alloc, r->hash);
    return *ret ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a password hash");
}

static int read_identity(struct reading *r, struct ke_error *err)
{
    struct ke_mqtt_identity id = {
        .size = sizeof id, .name = r->name, .rules = r->rules, .n_rules = r->n};
    const char **by[KEI_BY_N] = {&id.cert_sha256, &id.cert_name, &id.user_name, &id.client_id};
    struct kei_identity *x;
    struct ke_str revoked;
    bool fresh;
    char *hash;
    int e = 0;
    for (int i = 0; e == 0 && i < KEI_BY_N; i++)
        e = text_of(r, by_names[i], by[i], err);
    if (e == 0)
        e = copy_hash(r, &hash, err);
    if (e < 0)
        return e;
    e = kei_ids_set(r->s, &id, &x, &fresh, err);
    if (e < 0) {
        kei_free(r->s->alloc, hash);
        return e;
    }
    if (hash) {
        x->has_password = true;
        kei_secret_take(&x->secret, r->s->proofs, r->s->alloc, hash);
    }
    if (kei_json_get(r->body, "revoked", &revoked) && kei_json_bool(revoked, false))
        return kei_ids_revoke(r->s, kei_str(x->name), err);
    return 0;
}

static int read_user(struct reading *r, struct ke_error *err)
{
    struct ke_str gone;
    struct kei_user *x;
    bool fresh;
    char *hash;
    if (kei_json_get(r->body, "gone", &gone) && kei_json_bool(gone, false)) {
        int e = kei_ids_user_remove(r->s, kei_str(r->name), NULL);
        return e == KE_ENOTFOUND ? 0 : e;
    }
    int e = copy_hash(r, &hash, err);
    if (e == 0)
        e = kei_ids_user_set(r->s, r->name, NULL, r->rules, r->n, &x, &fresh, err);
    if (e < 0)
        kei_free(r->s->alloc, hash);
    else if (hash)
        kei_secret_take(&x->secret, r->s->proofs, r->s->alloc, hash);
    return e;
}

static int read_thing(struct reading *r, struct ke_str json, struct ke_error *err)
{
    int kind = kei_json_get(json, "identity", &r->body) ? KEI_IDS_IDENTITY
               : kei_json_get(json, "user", &r->body)   ? KEI_IDS_USER
               : kei_json_get(json, "rules", &r->body)  ? KEI_IDS_RULES
                                                        : -1;
    if (kind < 0 || kei_json_type(r->body) != '{')
        return damaged(err, "identity, user or rules");
    int e = text_of(r, "name", &r->name, err);
    if (e == 0)
        e = text_of(r, "hash", &r->hash, err);
    if (e == 0)
        e = read_rules(r, err);
    if (e < 0)
        return e;
    if (kind != KEI_IDS_RULES && (!r->name || !r->name[0]))
        return damaged(err, "name");
    if (kind == KEI_IDS_IDENTITY)
        return read_identity(r, err);
    if (kind == KEI_IDS_USER)
        return read_user(r, err);
    return kei_ids_rules_set(r->s, r->name ? kei_str(r->name) : kei_strn(NULL, 0), r->rules, r->n,
                             err);
}

int kei_ids_read(struct kei_ids *s, struct ke_str json, struct ke_error *err)
{
    struct reading r = {.s = s};
    struct ke_str value;
    int e = kei_json_check(json, 8, err);
    if (e == 0)
        e = kei_json_value(json, 8, &value, err);
    if (e < 0)
        return e;
    kei_arena_init(&r.arena, s->alloc, TEXT_MAX);
    e = read_thing(&r, value, err);
    kei_arena_free(&r.arena);
    return e == KE_EINVAL ? KE_EPARSE : e;
}
