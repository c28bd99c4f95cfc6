/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wire form of a message, both ways. Reading is as lenient about names and order as Go's decoder;
 * writing uses Go's order of keys. Pure but for the memory of the result; any thread.
 */
#include "base/json.h"
#include "base/loop.h"
#include "message/msg_priv.h"

struct text_field {
    const char *key;
    size_t at; /* of the struct ke_str in struct kei_msg_view */
};

#define FIELD(key, member)                                                                         \
    {                                                                                              \
        key, offsetof(struct kei_msg_view, member)                                                 \
    }

static const struct text_field header_fields[] = {
    FIELD("msg_id", id),
    FIELD("parent_msg_id", parent_id),
    FIELD("resourceversion", resource_version),
    FIELD("type", type),
};
static const struct text_field route_fields[] = {
    FIELD("source", source),       FIELD("destination", destination), FIELD("group", group),
    FIELD("operation", operation), FIELD("resource", resource),
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool plain(struct ke_str s)
{
    return s.n == 0 || (!memchr(s.p, '\\', s.n) && kei_utf8_valid(s));
}

/* A string member, or absent or null: "". */
static int read_text(struct kei_msg_view *v, const struct text_field *f, struct ke_str obj,
                     struct kei_arena *a, struct ke_error *err)
{
    struct ke_str *to = (struct ke_str *)(void *)((char *)v + f->at), span;

    if (!kei_json_iget(obj, f->key, &span) || kei_json_type(span) == 'n')
        return 0;
    if (kei_json_type(span) != '"')
        return kei_error(err, KE_EPARSE, "message could not be read: \"%s\" was no string", f->key);
    struct ke_str inside = {span.p + 1, span.n - 2};
    if (plain(inside)) {
        *to = inside;
        return 0;
    }
    char *s;
    int r = kei_json_text(&s, span, a, err);
    if (r < 0)
        return kei_error_prefix(err, r, "message could not be read: \"%s\"", f->key);
    *to = kei_str(s);
    return 0;
}

/* *ret is a member of top that must be an object; n 0 if it is absent or null */
static int read_part(struct ke_str top, const char *key, struct ke_str *ret, struct ke_error *err)
{
    struct ke_str part;

    *ret = (struct ke_str){NULL, 0};
    if (!kei_json_iget(top, key, &part) || kei_json_type(part) == 'n')
        return 0;
    if (kei_json_type(part) != '{')
        return kei_error(err, KE_EPARSE, "message could not be read: \"%s\" was no object", key);
    *ret = part;
    return 0;
}

static int read_header(struct kei_msg_view *v, struct ke_str header, struct kei_arena *a,
                       struct ke_error *err)
{
    struct ke_str span;
    int r = 0;

    for (size_t i = 0; i < COUNT(header_fields) && r == 0; i++)
        r = read_text(v, &header_fields[i], header, a, err);
    if (r < 0)
        return r;
    if (kei_json_iget(header, "timestamp", &span) && kei_json_type(span) != 'n' &&
        !kei_json_i64(span, &v->timestamp_ms))
        return kei_error(err, KE_EPARSE,
                         "message %.*s could not be read: \"timestamp\" was no whole number",
                         KEI_FMT(v->id));
    if (kei_json_iget(header, "sync", &span))
        v->sync = kei_json_bool(span, false);
    return 0;
}

int kei_msg_view(struct kei_msg_view *v, struct ke_str text, struct kei_arena *a,
                 struct ke_error *err)
{
    struct ke_str top, part;

    *v = (struct kei_msg_view){.timestamp_ms = 0};
    int r = kei_json_value(text, 0, &top, err);
    if (r < 0)
        return kei_error_prefix(err, r, "message could not be read");
    if (kei_json_type(top) != '{')
        return kei_error(err, KE_EPARSE, "message could not be read: it was no JSON object");
    r = read_part(top, "header", &part, err);
    if (r == 0)
        r = read_header(v, part, a, err);
    if (r == 0)
        r = read_part(top, "route", &part, err);
    for (size_t i = 0; i < COUNT(route_fields) && r == 0; i++)
        r = read_text(v, &route_fields[i], part, a, err);
    if (r < 0)
        return r;
    if (!kei_json_iget(top, "content", &v->content))
        v->content = (struct ke_str){NULL, 0};
    return 0;
}

void kei_msg_view_head(struct kei_msg_view *v, struct ke_str text, struct kei_arena *a)
{
    struct ke_str rest = kei_str_trim(text), key, value;

    *v = (struct kei_msg_view){.timestamp_ms = 0};
    while (rest.n && (rest.p[0] == '{' || rest.p[0] == ',')) {
        rest = kei_str_trim(kei_strn(rest.p + 1, rest.n - 1));
        if (kei_json_type(rest) != '"' || kei_json_value(rest, 1, &key, NULL) < 0)
            return;
        rest = kei_str_trim(kei_strn(rest.p + key.n, rest.n - key.n));
        if (rest.n == 0 || rest.p[0] != ':')
            return;
        rest = kei_strn(rest.p + 1, rest.n - 1);
        if (kei_json_value(rest, 0, &value, NULL) < 0)
            return;
        rest = kei_str_trim(
            kei_strn(value.p + value.n, (size_t)(rest.p + rest.n - value.p) - value.n));
        key = kei_strn(key.p + 1, key.n - 2);
        if (kei_json_type(value) != '{')
            continue;
        if (kei_str_ieq(key, KEI_STR("header")))
            (void)read_header(v, value, a, NULL);
        for (size_t i = 0; i < COUNT(route_fields) && kei_str_ieq(key, KEI_STR("route")); i++)
            (void)read_text(v, &route_fields[i], value, a, NULL);
    }
}

int ke_msg_decode(struct ke_msg **ret, struct ke_ctx *ctx, const char *p, size_t n,
                  struct ke_error *reterr)
{
    struct kei_msg_view v;
    struct kei_arena arena;

    if (!ret || !ctx || (!p && n))
        return kei_error(reterr, KE_EINVAL, "message was not read: ret, ctx or p was NULL");
    kei_arena_init(&arena, kei_ctx_alloc(ctx), 0);
    int r = kei_msg_view(&v, kei_strn(p, n), &arena, reterr);
    if (r == 0)
        r = kei_msg_build(ret, ctx, &v, reterr);
    kei_arena_free(&arena);
    return r;
}

static void text_key(struct kei_jw *w, const char *key, struct ke_str s, bool always)
{
    if (s.n == 0 && !always)
        return;
    kei_jw_key(w, key);
    kei_jw_strv(w, s);
}

int ke_msg_encode(const struct ke_msg *m, struct ke_ctx *ctx, uint32_t dialect, struct ke_buf *out,
                  struct ke_error *reterr)
{
    struct kei_msg_view v;
    struct kei_jw w;
    /* 1.4 decodes every message into the same struct: what is left out keeps its last value */
    bool all = dialect == KE_DIALECT_1_4;

    if (!m || !ctx || !out)
        return kei_error(reterr, KE_EINVAL, "message was not written: m, ctx or out was NULL");
    kei_msg_as_view(&v, m);
    if (!out->alloc)
        out->alloc = kei_ctx_alloc(ctx);
    size_t before = out->n;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "header");
    kei_jw_obj(&w);
    text_key(&w, "msg_id", v.id, true);
    text_key(&w, "parent_msg_id", v.parent_id, all);
    kei_jw_ki64(&w, "timestamp", v.timestamp_ms);
    text_key(&w, "resourceversion", v.resource_version, all);
    if (v.sync || all)
        kei_jw_kbool(&w, "sync", v.sync);
    text_key(&w, "type", v.type, false); /* 1.4 knows neither this nor destination */
    kei_jw_obj_end(&w);
    kei_jw_key(&w, "route");
    kei_jw_obj(&w);
    text_key(&w, "source", v.source, all);
    text_key(&w, "destination", v.destination, false);
    text_key(&w, "group", v.group, all);
    text_key(&w, "operation", v.operation, all);
    text_key(&w, "resource", v.resource, all);
    kei_jw_obj_end(&w);
    kei_jw_kraw(&w, "content", v.content);
    kei_jw_obj_end(&w);
    kei_buf_addc(out, '\n');
    if (kei_buf_ok(out))
        return 0;
    out->n = before;
    if (out->p)
        out->p[before] = '\0';
    return kei_error(reterr, KE_ENOMEM, "memory ran out while message %s %s was written",
                     ke_msg_operation(m), ke_msg_resource(m));
}
