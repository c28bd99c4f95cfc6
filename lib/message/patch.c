/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patches on raw JSON: Kubernetes' strategic merge patch and RFC 7396. What a patch does not touch
 * is copied byte for byte. Pure but for scratch memory of the output's allocator; any thread.
 * Recursion follows the patch, whose depth is checked before.
 */
#include "base/alloc.h"
#include "message/k8s.h"
#include "message/patch_priv.h"

static bool is_null(struct ke_str v)
{
    return kei_json_type(v) == 'n';
}

bool kei_patch_plain(const struct kei_patcher *p, struct ke_str v)
{
    return !kei_str_has(v, KEI_STR("null")) &&
           !(p->strategic && (kei_str_has(v, KEI_STR("\"$")) || kei_str_has(v, KEI_STR("\\u00"))));
}

static int patch_value(struct kei_patcher *p, const struct kei_place *place, struct ke_str base,
                       const struct kei_edit *edit, struct ke_buf *out)
{
    char type = edit->value.n ? kei_json_type(edit->value) : kei_json_type(base);

    if (type == '{' && edit->value.n)
        return kei_patch_object(p, place, base, edit->value, out);
    if (type == '[' && p->strategic)
        return kei_patch_list(p, place, base, edit, out);
    kei_buf_addv(out, edit->value.n ? edit->value : base);
    return 0;
}

static void separate(struct ke_buf *out, bool *first)
{
    if (!*first)
        kei_buf_addc(out, ',');
    *first = false;
}

static void add_name(struct ke_buf *out, struct ke_str raw)
{
    kei_buf_addc(out, '"');
    kei_buf_addv(out, raw);
    kei_buf_add(out, "\":", 2);
}

static struct ke_str value_of(const struct kei_members *ms, struct ke_str name, uint32_t kind)
{
    const struct kei_member *m = kei_members_find(ms, name, kind);

    return m ? m->value : (struct ke_str){NULL, 0};
}

static bool listed(struct ke_str list, struct ke_str raw_name)
{
    struct ke_str v;
    size_t it = 0;

    while (kei_json_next(list, &it, NULL, &v)) {
        if (kei_json_type(v) == '"' && kei_json_key_eq(kei_strn(v.p + 1, v.n - 2), raw_name))
            return true;
    }
    return false;
}

struct merge {
    struct kei_members base, patch;
    struct ke_str keep; /* of $retainKeys; n 0: all */
    bool first;
};

/* $patch and $retainKeys of an object. *ret_done: the object is written already. */
static int object_directives(struct kei_patcher *p, struct merge *m, struct ke_str *base,
                             struct ke_buf *out, bool *ret_done)
{
    struct ke_str d = value_of(&m->patch, KEI_STR("$patch"), KEI_MEMBER_PLAIN);

    *ret_done = false;
    if (d.n && kei_json_str_is(d, "delete")) {
        kei_buf_add(out, "{}", 2);
        *ret_done = true;
    } else if (d.n && kei_json_str_is(d, "replace")) {
        *base = (struct ke_str){NULL, 0};
    } else if (d.n) {
        return kei_error(p->err, KE_EPARSE,
                         "patch was refused: $patch was %.*s, known are \"delete\" and \"replace\"",
                         KEI_FMT(d));
    }
    m->keep = value_of(&m->patch, KEI_STR("$retainKeys"), KEI_MEMBER_PLAIN);
    if (m->keep.n && kei_json_type(m->keep) != '[')
        return kei_error(p->err, KE_EPARSE, "patch was refused: $retainKeys was no list");
    uint32_t n = 0;
    for (size_t it = 0; kei_json_next(m->keep, &it, NULL, NULL); n++) {
        if (n == KEI_PATCH_RETAIN)
            return kei_error(p->err, KE_ELIMIT, "patch had more than %u names in $retainKeys",
                             KEI_PATCH_RETAIN);
    }
    return 0;
}

static bool is_directive(const struct kei_patcher *p, const struct kei_member *m)
{
    return p->strategic && (m->kind != KEI_MEMBER_PLAIN || kei_str_is(m->name, "$patch") ||
                            kei_str_is(m->name, "$retainKeys"));
}

/* The members that were there. */
static int merge_old(struct kei_patcher *p, const struct kei_place *place, struct merge *m,
                     struct ke_buf *out)
{
    char around[64] = "";

    if (place->name.n < sizeof around)
        memcpy(around, place->name.p ? place->name.p : "", place->name.n);
    for (uint32_t i = 0; i < m->base.n; i++) {
        const struct kei_member *b = &m->base.m[i];
        if (b->shadowed || (m->keep.n && !listed(m->keep, b->raw)))
            continue;
        struct kei_edit e = {
            .value = value_of(&m->patch, b->name, KEI_MEMBER_PLAIN),
            .order = value_of(&m->patch, b->name, KEI_MEMBER_ORDER),
            .drop = value_of(&m->patch, b->name, KEI_MEMBER_DELETE),
        };
        if (is_null(e.value))
            continue;
        separate(out, &m->first);
        add_name(out, b->raw);
        if (!e.value.n && !e.order.n && !e.drop.n) {
            kei_buf_addv(out, b->value);
            continue;
        }
        struct kei_place in = {around, b->name, place->depth + 1};
        int r = patch_value(p, &in, b->value, &e, out);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The members that only the patch has. */
static int merge_new(struct kei_patcher *p, const struct kei_place *place, struct merge *m,
                     struct ke_buf *out)
{
    char around[64] = "";

    if (place->name.n < sizeof around)
        memcpy(around, place->name.p ? place->name.p : "", place->name.n);
    for (uint32_t i = 0; i < m->patch.n; i++) {
        const struct kei_member *n = &m->patch.m[i];
        if (n->shadowed || is_directive(p, n))
            continue;
        if (m->keep.n && !listed(m->keep, n->raw))
            return kei_error(p->err, KE_EPARSE, "patch was refused: $retainKeys lacks %.*s",
                             KEI_FMT(n->name));
        if (is_null(n->value) || kei_members_find(&m->base, n->name, KEI_MEMBER_PLAIN))
            continue;
        struct kei_edit e = {
            .value = n->value,
            .order = value_of(&m->patch, n->name, KEI_MEMBER_ORDER),
        };
        separate(out, &m->first);
        add_name(out, n->raw);
        struct kei_place in = {around, n->name, place->depth + 1};
        int r = 0;
        if (kei_patch_plain(p, n->value) && !e.order.n)
            kei_buf_addv(out, n->value);
        else
            r = patch_value(p, &in, (struct ke_str){NULL, 0}, &e, out);
        if (r < 0)
            return r;
    }
    return 0;
}

int kei_patch_object(struct kei_patcher *p, const struct kei_place *place, struct ke_str base,
                     struct ke_str patch, struct ke_buf *out)
{
    struct merge m = {.first = true};
    bool done = false;

    if (place->depth > KEI_PATCH_DEPTH)
        return kei_error(p->err, KE_ELIMIT, "patch was nested deeper than the limit of %d levels",
                         KEI_PATCH_DEPTH);
    int r = kei_members_read(&m.patch, patch, p->strategic, &p->arena, &p->budget, p->err);
    if (r == 0 && p->strategic)
        r = object_directives(p, &m, &base, out, &done);
    if (r < 0 || done)
        return r;
    r = kei_members_read(&m.base, base, false, &p->arena, &p->budget, p->err);
    if (r < 0)
        return r;
    kei_buf_addc(out, '{');
    r = merge_old(p, place, &m, out);
    if (r == 0)
        r = merge_new(p, place, &m, out);
    kei_buf_addc(out, '}');
    return r;
}

static int apply(struct ke_buf *out, struct ke_str base, struct ke_str patch, bool strategic,
                 struct ke_error *err)
{
    struct kei_patcher p = {.err = err, .budget = KEI_PATCH_MEMBERS, .strategic = strategic};
    struct kei_place top = {"", {NULL, 0}, 0};
    struct ke_str b = {NULL, 0}, v;
    size_t before = out->n;
    int r = 0;

    if (base.n) {
        r = kei_json_check(base, 0, err);
        if (r == 0)
            r = kei_json_value(base, 0, &b, err);
        if (r < 0)
            return kei_error_prefix(err, r, "object to be patched could not be read");
    }
    r = kei_json_check(patch, KEI_PATCH_DEPTH, err);
    if (r == 0)
        r = kei_json_value(patch, KEI_PATCH_DEPTH, &v, err);
    if (r < 0)
        return kei_error_prefix(err, r, "patch could not be read");
    if (strategic && kei_json_type(v) != '{')
        return kei_error(err, KE_EPARSE, "patch was refused: it was no JSON object");
    kei_arena_init(&p.arena, out->alloc ? out->alloc : kei_alloc_malloc(), 0);
    if (kei_json_type(v) == '{')
        r = kei_patch_object(&p, &top, b, v, out);
    else
        kei_buf_addv(out, v);
    kei_arena_free(&p.arena);
    if (r == 0 && !kei_buf_ok(out))
        r = kei_error(err, KE_ENOMEM, "memory ran out while an object was patched");
    if (r < 0 && out->p && out->n > before) {
        out->n = before;
        out->p[before] = '\0';
    }
    return r;
}

int kei_patch_strategic(struct ke_buf *out, struct ke_str base, struct ke_str patch,
                        struct ke_error *err)
{
    return apply(out, base, patch, true, err);
}

int kei_patch_merge(struct ke_buf *out, struct ke_str base, struct ke_str patch,
                    struct ke_error *err)
{
    return apply(out, base, patch, false, err);
}
