/* SPDX-License-Identifier: Apache-2.0 */
/* Environment of a container. Pure; memory is the caller's arena. */
#include "pod/env.h"

#define WORDS_MAX 1024

/* ---- the list ---- */

static bool is_name(struct ke_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool digit = c >= '0' && c <= '9';
        bool ok =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' || c == '.';
        if (!ok && !(digit && i > 0))
            return false;
    }
    return s.n > 0;
}

static struct ke_env *find(const struct kei_env *e, struct ke_str name)
{
    for (size_t i = 0; i < e->n; i++) {
        if (kei_str_is(name, e->v[i].name))
            return &e->v[i];
    }
    return NULL;
}

const char *kei_env_get(const struct kei_env *e, struct ke_str name)
{
    const struct ke_env *v = find(e, name);
    return v ? v->value : NULL;
}

static int grow(struct kei_env *e, struct ke_error *err)
{
    size_t cap = e->cap ? e->cap * 2 : 16;
    struct ke_env *v = kei_arena_array(e->a, cap, sizeof *v);
    if (!v)
        return kei_error(err, KE_ENOMEM, "out of memory for environment variables");
    if (e->n)
        memcpy(v, e->v, e->n * sizeof *v);
    e->v = v;
    e->cap = cap;
    return 0;
}

int kei_env_set(struct kei_env *e, const char *name, struct ke_str value, struct ke_error *err)
{
    struct ke_env *v = find(e, kei_str(name));
    if (value.n && memchr(value.p, 0, value.n))
        return kei_error(err, KE_EINVAL, "the value of variable %s holds a zero byte", name);
    e->bytes += value.n + (v ? 0 : strlen(name)) + 2;
    if (e->bytes > KEI_ENV_BYTES_MAX || (!v && e->n >= KEI_ENV_MAX))
        return kei_error(err, KE_ELIMIT, "environment over the limit of %d variables or %u bytes",
                         KEI_ENV_MAX, KEI_ENV_BYTES_MAX);
    if (!v && e->n == e->cap) {
        int r = grow(e, err);
        if (r < 0)
            return r;
    }
    const char *copy = kei_arena_strdup(e->a, value);
    const char *own = v ? v->name : kei_arena_strdup(e->a, kei_str(name));
    if (!copy || !own)
        return kei_error(err, KE_ENOMEM, "out of memory for environment variables");
    if (!v)
        v = &e->v[e->n++];
    *v = (struct ke_env){own, copy};
    return 0;
}

/* ---- expansion ---- */

void kei_env_expand(struct ke_buf *out, struct ke_str s, const struct kei_env *e)
{
    size_t i = 0;
    while (i < s.n) {
        const char *dollar = memchr(s.p + i, '$', s.n - i);
        size_t at = dollar ? (size_t)(dollar - s.p) : s.n;
        kei_buf_add(out, s.p + i, at - i);
        i = at + 1;
        if (at == s.n)
            return;
        if (i == s.n) { /* a last '$' stands for itself */
            kei_buf_addc(out, '$');
            return;
        }
        const char *close = s.p[i] == '(' ? memchr(s.p + i, ')', s.n - i) : NULL;
        if (s.p[i] == '$') {
            kei_buf_addc(out, '$');
            i++;
        } else if (close) {
            struct ke_str name = {s.p + i + 1, (size_t)(close - s.p) - i - 1};
            const char *value = kei_env_get(e, name);
            if (value)
                kei_buf_adds(out, value);
            else
                kei_buf_add(out, s.p + i - 1, name.n + 3);
            i += name.n + 2;
        } else { /* "$x", or "$(" that does not end: both characters as they are */
            kei_buf_add(out, s.p + i - 1, 2);
            i++;
        }
    }
}

/* ---- building ---- */

struct builder {
    struct kei_env *e;
    const struct kei_podspec *s;
    const struct kei_spec_container *c;
    const struct kei_objects *o;
    const struct kei_field_env *f;
    struct ke_error *err;
    struct ke_buf value; /* of the variable in work */
};

static const char *kind_of(const char *type)
{
    return !strcmp(type, "secret") ? "Secret" : "ConfigMap";
}

/*
 * The object a reference names. 0 with *ret; 1 if it is missing and optional; negative with text.
 */
static int referenced(struct builder *b, struct ke_str ref, const char *type,
                      const struct kei_object **ret, bool *ret_optional)
{
    struct ke_str v;
    const char *name;
    *ret_optional = kei_json_get(ref, "optional", &v) && kei_json_bool(v, false);
    int r = kei_spec_str(&name, ref, "name", b->e->a, b->err);
    if (r < 0)
        return r;
    const struct kei_object *o = kei_objects_find(b->o, type, name);
    if (o && o->status == 0) {
        *ret = o;
        return 0;
    }
    if (!o || o->status == KE_ENOTFOUND)
        return *ret_optional ? 1
                             : kei_error(b->err, KE_ENOTFOUND, "%s \"%s\" not found", type, name);
    return kei_error(b->err, o->status, "%s \"%s\" is not known yet: %s", type, name, o->why);
}

static int from_key(struct builder *b, struct ke_str ref, const char *type)
{
    const struct kei_object *o = NULL;
    const char *key;
    bool optional;
    int r = referenced(b, ref, type, &o, &optional);
    if (r == 0)
        r = kei_spec_str(&key, ref, "key", b->e->a, b->err);
    if (r != 0)
        return r;
    r = kei_object_value(&b->value, o, key, false, b->err);
    if (r != KE_ENOTFOUND)
        return r;
    return optional ? 1
                    : kei_error(b->err, KE_ENOTFOUND, "couldn't find key %s in %s %s/%s", key,
                                kind_of(type), b->s->meta.ns, o->name);
}

/* Puts the value into b->value; 1: leave the variable out. */
static int value_from(struct builder *b, struct ke_str from)
{
    struct ke_str ref;
    const char *path;
    if (kei_json_get(from, "configMapKeyRef", &ref))
        return from_key(b, ref, "configmap");
    if (kei_json_get(from, "secretKeyRef", &ref))
        return from_key(b, ref, "secret");
    if (kei_json_get(from, "fieldRef", &ref)) {
        int r = kei_spec_str(&path, ref, "fieldPath", b->e->a, b->err);
        return r < 0 ? r : kei_field_value(&b->value, b->s, path, b->f, b->err);
    }
    if (kei_json_get(from, "resourceFieldRef", &ref))
        return kei_resource_value(&b->value, b->s, b->c, ref, b->err);
    return kei_error(b->err, KE_ENOTSUP, "valueFrom of this kind is not supported");
}

static int one(struct builder *b, struct ke_str var)
{
    struct ke_str v;
    const char *name;
    int r = kei_spec_str(&name, var, "name", b->e->a, b->err);
    if (r < 0)
        return r;
    if (!is_name(kei_str(name)))
        return kei_error(b->err, KE_EINVAL, "\"%s\" is no name of an environment variable", name);
    kei_buf_clear(&b->value);
    if (kei_json_get(var, "value", &v) && kei_json_type(v) == '"' && v.n > 2) {
        struct ke_buf raw;
        kei_buf_init(&raw, b->value.alloc);
        r = kei_json_str(v, &raw, b->err);
        if (r == 0)
            kei_env_expand(&b->value, kei_buf_str(&raw), b->e);
        if (r == 0 && !kei_buf_ok(&raw))
            r = kei_error(b->err, KE_ENOMEM, "out of memory for variable %s", name);
        ke_buf_free(&raw);
    } else if (kei_json_get(var, "valueFrom", &v) && kei_json_type(v) == '{') {
        r = value_from(b, v);
    }
    if (r != 0)
        return r > 0 ? 0 : r;
    if (!kei_buf_ok(&b->value))
        return kei_error(b->err, KE_ENOMEM, "out of memory for variable %s", name);
    return kei_env_set(b->e, name, kei_buf_str(&b->value), b->err);
}

/* All keys of one object; those that are no names are left out, as kubelet does. */
static int all_of(struct builder *b, const struct kei_object *o, const char *prefix)
{
    struct ke_str raw;
    struct ke_buf name;
    int r = 0;
    kei_buf_init(&name, b->value.alloc);
    for (size_t it = 0; r == 0 && kei_object_next(o, &it, false, &raw);) {
        kei_buf_clear(&b->value);
        kei_buf_clear(&name);
        kei_buf_adds(&name, prefix);
        size_t skip = name.n;
        r = kei_json_str(kei_strn(raw.p - 1, raw.n + 2), &name, b->err);
        if (r == 0 && kei_buf_ok(&name) && !is_name(kei_buf_str(&name)))
            continue;
        if (r == 0 && kei_buf_ok(&name))
            r = kei_object_value(&b->value, o, name.p + skip, false, b->err);
        if (r == 0 && (!kei_buf_ok(&b->value) || !kei_buf_ok(&name)))
            r = kei_error(b->err, KE_ENOMEM, "out of memory for variables of %s", o->name);
        if (r == 0)
            r = kei_env_set(b->e, name.p, kei_buf_str(&b->value), b->err);
    }
    ke_buf_free(&name);
    return r;
}

static int env_from(struct builder *b, struct ke_str from)
{
    const struct kei_object *o = NULL;
    struct ke_str ref;
    bool optional;
    const char *type = "configmap", *prefix;
    if (!kei_json_get(from, "configMapRef", &ref)) {
        type = "secret";
        if (!kei_json_get(from, "secretRef", &ref))
            return 0;
    }
    int r = referenced(b, ref, type, &o, &optional);
    if (r == 0)
        r = kei_spec_str(&prefix, from, "prefix", b->e->a, b->err);
    if (r != 0)
        return r > 0 ? 0 : r;
    return all_of(b, o, prefix);
}

int kei_env_build(struct kei_env *e, const struct kei_podspec *s,
                  const struct kei_spec_container *c, const struct kei_objects *o,
                  const struct kei_field_env *f, struct ke_error *err)
{
    struct builder b = {e, s, c, o, f, err, {0}};
    struct ke_str list, v;
    int r = 0;
    kei_buf_init(&b.value, e->a->alloc);
    if (kei_json_get(c->json, "envFrom", &list)) {
        for (size_t it = 0; r == 0 && kei_json_next(list, &it, NULL, &v);)
            r = env_from(&b, v);
    }
    if (kei_json_get(c->json, "env", &list)) {
        for (size_t it = 0; r == 0 && kei_json_next(list, &it, NULL, &v);)
            r = one(&b, v);
    }
    ke_buf_free(&b.value);
    return r;
}

int kei_env_words(const char *const **ret, uint32_t *ret_n, struct ke_str container,
                  const char *key, const struct kei_env *e, struct ke_error *err)
{
    struct ke_str list = {NULL, 0}, v;
    struct ke_buf raw, word;
    size_t n = 0, k = 0;
    int r = 0;
    if (kei_json_get(container, key, &list)) {
        for (size_t it = 0; kei_json_next(list, &it, NULL, NULL);)
            n++;
    }
    if (n > WORDS_MAX)
        return kei_error(err, KE_ELIMIT, "%s has %zu words; the limit is %d", key, n, WORDS_MAX);
    const char **out = kei_arena_array(e->a, n + 1, sizeof *out);
    if (!out)
        return kei_error(err, KE_ENOMEM, "out of memory for %s", key);
    kei_buf_init(&raw, e->a->alloc);
    kei_buf_init(&word, e->a->alloc);
    for (size_t it = 0; r == 0 && k < n && kei_json_next(list, &it, NULL, &v); k++) {
        kei_buf_clear(&raw);
        kei_buf_clear(&word);
        r = kei_json_str(v, &raw, err);
        kei_env_expand(&word, kei_buf_str(&raw), e);
        out[k] = kei_buf_ok(&raw) && kei_buf_ok(&word) ? kei_arena_strdup(e->a, kei_buf_str(&word))
                                                       : NULL;
        if (r == 0 && !out[k])
            r = kei_error(err, KE_ENOMEM, "out of memory for %s", key);
    }
    ke_buf_free(&raw);
    ke_buf_free(&word);
    if (r == 0) {
        *ret = out;
        *ret_n = (uint32_t)k;
    }
    return r;
}
