/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libyaml's events to JSON text, the only place that knows libyaml. No recursion: open lists and
 * maps are frames in a fixed array. Memory belongs to the parse and is given back before return;
 * one thread at a time. libyaml itself allocates with malloc.
 *
 * An anchor is a span of text already written, and an alias copies it; so the cap on the output
 * caps the expansion, and an alias to itself cannot be. What a merge key brings is written to a
 * text aside, kept in another, and copied at the end of its map without the keys that are there.
 */
#include "kei_config.h"

#include "base/yaml_priv.h"

#if KEI_HAVE_YAML

#include <stdlib.h>
#include <yaml.h>

#include "base/alloc.h"
#include "base/map.h"

#define MERGES_MAX 64

/* The texts there are: the result; what belongs to merge keys while it is written; and after. */
enum { RESULT, ASIDE, KEPT };

struct span {
    int where;
    size_t off, n;
};

struct anchor {
    struct span at;
    bool done;
};

struct key {
    struct span at; /* with its quotes */
    uint32_t line;
};

struct frame {
    bool map, key_next, comma;
    int where;                    /* RESULT or ASIDE */
    bool merge_next;              /* the next value belongs to a merge key */
    bool is_merge;                /* this is such a value */
    uint32_t line;                /* of the merge key */
    size_t start;                 /* in its text */
    size_t anchor;                /* index + 1 */
    size_t keys, merges, anchors; /* where its own begin in the stacks */
};

struct build {
    struct kei_yaml *y;
    struct ke_error *err;
    yaml_parser_t parser;
    struct ke_buf aside, kept;
    struct frame stack[KEI_JSON_DEPTH];
    uint32_t depth;
    struct kei_map names; /* anchor name to index + 1 */
    struct anchor *anchors;
    size_t n_anchors, cap_anchors;
    struct key *keys;
    size_t n_keys, cap_keys;
    struct span *merges;
    size_t n_merges, cap_merges;
    size_t doc_start;
    uint32_t doc_line;
    bool null_doc;
    uint64_t work; /* bytes that merge keys may still look at */
};

static int no_memory(struct build *b)
{
    return kei_error(b->err, KE_ENOMEM, "memory ran out while YAML was read");
}

static struct frame *top(struct build *b)
{
    return b->depth ? &b->stack[b->depth - 1] : NULL;
}

static struct ke_buf *text_of(struct build *b, int where)
{
    return where == RESULT ? &b->y->text : where == ASIDE ? &b->aside : &b->kept;
}

/* where the next value is written */
static int here(struct build *b)
{
    return b->depth ? top(b)->where : RESULT;
}

static struct ke_str view(struct build *b, struct span s)
{
    return kei_strn(text_of(b, s.where)->p + s.off, s.n);
}

static int check_size(struct build *b, size_t more)
{
    size_t used = b->y->text.n + b->aside.n + b->kept.n;

    if (used > b->y->max || more > b->y->max - used)
        return kei_error(
            b->err, KE_ELIMIT,
            "YAML grew to more than the limit of %zu bytes (aliases count as what they "
            "stand for)",
            b->y->max);
    if (!kei_buf_ok(&b->y->text) || !kei_buf_ok(&b->aside) || !kei_buf_ok(&b->kept))
        return no_memory(b);
    return 0;
}

/* Appends a span of any text to one of them; room comes first, for the source may move. */
static int copy_span(struct build *b, int to_where, struct span s)
{
    struct ke_buf *to = text_of(b, to_where);

    int r = check_size(b, s.n);
    if (r < 0)
        return r;
    char *p = kei_buf_room(to, s.n);
    if (!p)
        return no_memory(b);
    memmove(p, view(b, s).p, s.n);
    p[s.n] = '\0';
    to->n += s.n;
    return 0;
}

static int mark(struct build *b, uint32_t line)
{
    return here(b) != RESULT ? 0 : kei_yaml_add_mark(b->y, b->y->text.n, line, b->err);
}

/* ---- anchors ---- */

/* Notes that name means what begins here. *ret_index is its index + 1, 0 without a name. */
static int open_anchor(struct build *b, const yaml_char_t *name, size_t *ret_index)
{
    struct ke_str key = kei_str((const char *)name);
    void *array = b->anchors;

    *ret_index = 0;
    if (!name)
        return 0;
    bool ok = kei_yaml_grow(b->y->alloc, &array, &b->cap_anchors, b->n_anchors, sizeof *b->anchors);
    b->anchors = array;
    if (!ok)
        return no_memory(b);
    b->anchors[b->n_anchors++] = (struct anchor){{RESULT, 0, 0}, false};
    *ret_index = b->n_anchors;
    if (kei_map_put(&b->names, key, (void *)(uintptr_t)b->n_anchors, NULL) < 0)
        return no_memory(b);
    return 0;
}

static void close_anchor(struct build *b, size_t index, struct span at)
{
    if (index)
        b->anchors[index - 1] = (struct anchor){at, true};
}

static int find_anchor(struct build *b, const yaml_char_t *name, uint32_t line, struct span *ret)
{
    size_t i = (size_t)(uintptr_t)kei_map_get(&b->names, kei_str((const char *)name));

    if (i == 0)
        return kei_error(b->err, KE_EPARSE, "YAML line %u: alias *%s names no anchor before it",
                         line, (const char *)name);
    if (!b->anchors[i - 1].done)
        return kei_error(b->err, KE_EPARSE, "YAML line %u: alias *%s stands inside its own anchor",
                         line, (const char *)name);
    *ret = b->anchors[i - 1].at;
    return 0;
}

/* ---- keys of a map ---- */

static struct ke_str key_text(struct build *b, const struct key *k)
{
    return view(b, k->at);
}

static int compare(struct ke_str a, struct ke_str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n); /* a key has its quotes: never empty */
}

/* Heapsort: no memory, no recursion, no bad case. */
static void sift(struct build *b, struct key *k, size_t root, size_t n)
{
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n)
            return;
        if (child + 1 < n && compare(key_text(b, &k[child]), key_text(b, &k[child + 1])) < 0)
            child++;
        if (compare(key_text(b, &k[root]), key_text(b, &k[child])) >= 0)
            return;
        struct key tmp = k[root];
        k[root] = k[child];
        k[child] = tmp;
        root = child;
    }
}

static void sort_keys(struct build *b, struct key *k, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(b, k, i, n);
    for (size_t i = n; i-- > 1;) {
        struct key tmp = k[0];
        k[0] = k[i];
        k[i] = tmp;
        sift(b, k, 0, i);
    }
}

static bool has_key(struct build *b, const struct key *k, size_t n, struct ke_str key)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = compare(key_text(b, &k[mid]), key);
        if (c == 0)
            return true;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

static int add_key(struct build *b, struct span at, uint32_t line)
{
    void *array = b->keys;

    bool ok = kei_yaml_grow(b->y->alloc, &array, &b->cap_keys, b->n_keys, sizeof *b->keys);
    b->keys = array;
    if (!ok)
        return no_memory(b);
    b->keys[b->n_keys++] = (struct key){at, line};
    return 0;
}

static int check_duplicates(struct build *b, struct frame *f)
{
    struct key *k = b->keys + f->keys;
    size_t n = b->n_keys - f->keys;

    sort_keys(b, k, n);
    for (size_t i = 1; i < n; i++) {
        struct ke_str text = key_text(b, &k[i]);
        if (compare(key_text(b, &k[i - 1]), text) == 0)
            return kei_error(b->err, KE_EPARSE, "YAML line %u: key %.*s is in its map already",
                             k[i].line > k[i - 1].line ? k[i].line : k[i - 1].line, KEI_FMT(text));
    }
    return 0;
}

/* ---- merge keys ---- */

static int add_merge(struct build *b, struct span at)
{
    void *array = b->merges;

    if (b->n_merges - top(b)->merges == MERGES_MAX)
        return kei_error(b->err, KE_ELIMIT, "YAML map had more than %d merge keys", MERGES_MAX);
    bool ok = kei_yaml_grow(b->y->alloc, &array, &b->cap_merges, b->n_merges, sizeof *b->merges);
    b->merges = array;
    if (!ok)
        return no_memory(b);
    b->merges[b->n_merges++] = at;
    return 0;
}

/* One map of a merge key into the map on top: what is there already stays. */
static int merge_map(struct build *b, struct frame *f, struct span from)
{
    size_t known = b->n_keys - f->keys, it = 0;
    struct ke_str key, value;
    int r = 0;

    if (b->work < from.n)
        return kei_error(b->err, KE_ELIMIT, "YAML line %u: merge keys brought in too much",
                         f->line);
    b->work -= from.n;
    while (r == 0 && kei_json_next(view(b, from), &it, &key, &value)) {
        const char *base = view(b, from).p;
        struct span k = {from.where, from.off + (size_t)(key.p - 1 - base), key.n + 2};
        struct span v = {from.where, from.off + (size_t)(value.p - base), value.n};
        if (has_key(b, b->keys + f->keys, known, view(b, k)))
            continue;
        struct ke_buf *out = text_of(b, f->where);
        if (f->comma)
            kei_buf_addc(out, ',');
        f->comma = true;
        struct span at = {f->where, out->n, k.n};
        r = copy_span(b, f->where, k);
        if (r == 0)
            r = add_key(b, at, f->line);
        kei_buf_addc(out, ':');
        if (r == 0)
            r = mark(b, f->line);
        if (r == 0)
            r = copy_span(b, f->where, v);
    }
    sort_keys(b, b->keys + f->keys, b->n_keys - f->keys);
    return r;
}

static int bad_merge(struct build *b, uint32_t line)
{
    return kei_error(b->err, KE_EPARSE, "YAML line %u: a merge key takes a map or a list of maps",
                     line);
}

static int merge_one(struct build *b, struct frame *f, struct span m)
{
    struct ke_str v;
    size_t it = 0, n = 0;
    int r = 0;

    if (kei_json_type(view(b, m)) == '{')
        return merge_map(b, f, m);
    if (kei_json_type(view(b, m)) != '[')
        return bad_merge(b, f->line);
    if (b->work < m.n)
        return kei_error(b->err, KE_ELIMIT, "YAML line %u: merge keys brought in too much",
                         f->line);
    b->work -= m.n;
    while (r == 0 && kei_json_next(view(b, m), &it, NULL, &v)) {
        struct span s = {m.where, m.off + (size_t)(v.p - view(b, m).p), v.n};
        if (kei_json_type(v) != '{')
            return bad_merge(b, f->line);
        if (++n > MERGES_MAX)
            return kei_error(b->err, KE_ELIMIT, "YAML line %u: more than %d maps were to be merged",
                             f->line, MERGES_MAX);
        r = merge_map(b, f, s);
    }
    return r;
}

/* ---- values ---- */

/*
 * Before a value of any kind; *ret_merge: it belongs to a merge key and is not written here. Keys
 * are handled elsewhere.
 */
static int before_value(struct build *b, uint32_t line, bool *ret_merge)
{
    struct frame *f = top(b);

    *ret_merge = false;
    if (!f) {
        b->doc_line = line;
        return mark(b, line);
    }
    if (f->map && f->key_next)
        return kei_error(b->err, KE_EPARSE, "YAML line %u: a list or a map cannot be a key", line);
    if (f->merge_next) {
        *ret_merge = true;
        return 0;
    }
    if (!f->map) {
        if (f->comma)
            kei_buf_addc(text_of(b, f->where), ',');
        f->comma = true;
    }
    return mark(b, line);
}

static void after_value(struct build *b)
{
    struct frame *f = top(b);

    if (f && f->map) {
        f->key_next = true;
        f->merge_next = false;
    }
}

static int open_node(struct build *b, bool map, const yaml_char_t *anchor, uint32_t line)
{
    bool merge;

    int r = before_value(b, line, &merge);
    if (r < 0)
        return r;
    if (b->depth == KEI_JSON_DEPTH)
        return kei_error(b->err, KE_ELIMIT,
                         "YAML line %u: nested deeper than the limit of %d levels", line,
                         KEI_JSON_DEPTH);
    int where = merge ? ASIDE : here(b);
    struct frame *f = &b->stack[b->depth++];
    *f = (struct frame){.map = map,
                        .key_next = map,
                        .where = where,
                        .is_merge = merge,
                        .start = text_of(b, where)->n,
                        .keys = b->n_keys,
                        .merges = b->n_merges,
                        .anchors = b->n_anchors};
    kei_buf_addc(text_of(b, where), map ? '{' : '[');
    return open_anchor(b, anchor, &f->anchor);
}

/*
 * Moves a finished value of a merge key, the end of what is written aside, to the kept text, so
 * that the value around it can go on. Anchors that were set inside go with it.
 */
static int keep(struct build *b, size_t first_anchor, struct span *at)
{
    struct span old = *at;

    *at = (struct span){KEPT, b->kept.n, old.n};
    int r = copy_span(b, KEPT, old);
    if (r < 0)
        return r;
    b->aside.n = old.off;
    for (size_t i = first_anchor; i < b->n_anchors; i++) {
        struct span *s = &b->anchors[i].at;
        if (b->anchors[i].done && s->where == ASIDE)
            *s = (struct span){KEPT, s->off - old.off + at->off, s->n};
    }
    return 0;
}

static int close_node(struct build *b)
{
    struct frame *f = top(b);
    struct ke_buf *out = text_of(b, f->where);
    int r = 0;

    if (f->map) {
        r = check_duplicates(b, f);
        for (size_t i = f->merges; i < b->n_merges && r == 0; i++)
            r = merge_one(b, f, b->merges[i]);
        if (r < 0)
            return r;
    }
    kei_buf_addc(out, f->map ? '}' : ']');
    b->n_keys = f->keys;
    b->n_merges = f->merges;
    struct span at = {f->where, f->start, out->n - f->start};
    close_anchor(b, f->anchor, at);
    b->depth--;
    if (f->is_merge) {
        r = keep(b, f->anchors, &at);
        if (r == 0)
            r = add_merge(b, at);
    }
    after_value(b);
    return r;
}

/* ---- scalars ---- */

enum { TAG_NONE, TAG_STR, TAG_BINARY, TAG_TYPED };

static int tag_kind(const yaml_char_t *tag, bool plain, char *ret_want)
{
    static const struct {
        const char *tag;
        char want;
    } typed[] = {{"int", KEI_YAML_NUMBER},
                 {"float", KEI_YAML_NUMBER},
                 {"bool", KEI_YAML_BOOL},
                 {"null", KEI_YAML_NULL}};
    static const char core[] = "tag:yaml.org,2002:";

    if (!tag)
        return plain ? TAG_NONE : TAG_STR;
    struct ke_str t = kei_str((const char *)tag);
    if (!kei_str_starts(t, KEI_STR(core)))
        return TAG_STR; /* a private type: the text itself */
    t = kei_strn(t.p + sizeof core - 1, t.n - (sizeof core - 1));
    if (kei_str_is(t, "binary"))
        return TAG_BINARY;
    for (size_t i = 0; i < sizeof typed / sizeof typed[0]; i++) {
        if (kei_str_is(t, typed[i].tag)) {
            *ret_want = typed[i].want;
            return TAG_TYPED;
        }
    }
    return TAG_STR;
}

/* base64 as it stands, without the line breaks */
static void add_binary(struct ke_buf *out, struct ke_str s)
{
    kei_buf_addc(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
            c == '+' || c == '/' || c == '=')
            kei_buf_addc(out, c);
    }
    kei_buf_addc(out, '"');
}

static void add_string(struct ke_buf *out, struct ke_str s)
{
    struct kei_jw w;

    kei_jw_init(&w, out);
    kei_jw_strv(&w, s);
}

/* Writes a scalar as JSON; *ret_type gets its KEI_YAML_ type. */
static int add_scalar(struct build *b, const yaml_event_t *e, uint32_t line, char *ret_type)
{
    struct ke_str s = {(const char *)e->data.scalar.value, e->data.scalar.length};
    struct ke_buf *out = text_of(b, here(b));
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && e->data.scalar.plain_implicit;
    char want = 0;
    int kind = tag_kind(e->data.scalar.tag, plain, &want);

    *ret_type = KEI_YAML_STRING;
    if (kind == TAG_BINARY) {
        add_binary(out, s);
        return check_size(b, 0);
    }
    if (kind != TAG_STR)
        *ret_type = kei_yaml_resolve(out, s);
    if (*ret_type == KEI_YAML_INFINITE)
        return kei_error(b->err, KE_EPARSE, "YAML line %u: %.*s has no JSON form; quote it", line,
                         KEI_FMT(s));
    if (kind == TAG_TYPED && *ret_type != want)
        return kei_error(b->err, KE_EPARSE, "YAML line %u: %.*s is not what its tag %s says", line,
                         KEI_FMT(s), (const char *)e->data.scalar.tag);
    if (*ret_type == KEI_YAML_STRING)
        add_string(out, s);
    return check_size(b, 0);
}

/* A key is always a string: 0644 becomes "420", yes becomes "true". */
static int quote_key(struct build *b, size_t start, char type, uint32_t line)
{
    struct ke_buf *out = text_of(b, here(b));

    if (type == KEI_YAML_NULL)
        return kei_error(b->err, KE_EPARSE,
                         "YAML line %u: a key was empty; quote it if \"\" is meant", line);
    if (type == KEI_YAML_STRING)
        return 0;
    size_t n = out->n - start;
    if (!kei_buf_room(out, 2))
        return no_memory(b);
    memmove(out->p + start + 1, out->p + start, n);
    out->p[start] = '"';
    out->p[start + n + 1] = '"';
    out->n += 2;
    out->p[out->n] = '\0';
    return 0;
}

/* What was written from start on is a key. */
static int end_key(struct build *b, size_t start, char type, uint32_t line)
{
    struct frame *f = top(b);
    struct ke_buf *out = text_of(b, f->where);

    int r = quote_key(b, start, type, line);
    if (r < 0)
        return r;
    r = add_key(b, (struct span){f->where, start, out->n - start}, line);
    kei_buf_addc(out, ':');
    f->key_next = false;
    return r < 0 ? r : check_size(b, 0);
}

static void begin_key(struct build *b, size_t *ret_start)
{
    struct frame *f = top(b);
    struct ke_buf *out = text_of(b, f->where);

    if (f->comma)
        kei_buf_addc(out, ',');
    f->comma = true;
    *ret_start = out->n;
}

static bool is_merge_key(const yaml_event_t *e)
{
    return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && e->data.scalar.length == 2 &&
           memcmp(e->data.scalar.value, "<<", 2) == 0 &&
           (!e->data.scalar.tag ||
            strcmp((const char *)e->data.scalar.tag, "tag:yaml.org,2002:merge") == 0);
}

static int on_scalar(struct build *b, const yaml_event_t *e, uint32_t line)
{
    struct frame *f = top(b);
    size_t start, anchor;
    bool merge = false, is_key = f && f->map && f->key_next;
    char type = KEI_YAML_STRING;

    if (is_key && is_merge_key(e)) {
        f->key_next = false;
        f->merge_next = true;
        f->line = line;
        return 0;
    }
    int r = is_key ? 0 : before_value(b, line, &merge);
    if (r < 0)
        return r;
    if (merge)
        return bad_merge(b, line);
    start = text_of(b, here(b))->n;
    if (is_key)
        begin_key(b, &start);
    r = open_anchor(b, e->data.scalar.anchor, &anchor);
    if (r == 0)
        r = add_scalar(b, e, line, &type);
    if (r < 0)
        return r;
    close_anchor(b, anchor, (struct span){here(b), start, text_of(b, here(b))->n - start});
    if (is_key)
        return end_key(b, start, type, line);
    b->null_doc = !f && type == KEI_YAML_NULL;
    after_value(b);
    return 0;
}

static int on_alias(struct build *b, const yaml_event_t *e, uint32_t line)
{
    struct frame *f = top(b);
    struct span at;
    size_t start;
    bool merge = false;

    int r = find_anchor(b, e->data.alias.anchor, line, &at);
    if (r < 0)
        return r;
    if (f && f->map && f->key_next) {
        char type = kei_json_type(view(b, at));
        if (type == '{' || type == '[')
            return kei_error(b->err, KE_EPARSE, "YAML line %u: a list or a map cannot be a key",
                             line);
        begin_key(b, &start);
        r = copy_span(b, f->where, at);
        return r < 0 ? r : end_key(b, start, type, line);
    }
    r = before_value(b, line, &merge);
    if (r == 0)
        r = merge ? add_merge(b, at) : copy_span(b, here(b), at);
    after_value(b);
    return r;
}

/* ---- documents ---- */

static void forget_anchors(struct build *b)
{
    uint64_t seed = b->names.seed;

    kei_map_free(&b->names);
    kei_map_init(&b->names, b->y->alloc, seed);
    b->n_anchors = 0;
    kei_buf_clear(&b->aside);
    kei_buf_clear(&b->kept);
}

static int end_document(struct build *b)
{
    size_t n = b->y->text.n - b->doc_start;

    forget_anchors(b);
    if (n == 0 || b->null_doc)
        return 0;
    return kei_yaml_add_doc(b->y, b->doc_start, n, b->doc_line, b->err);
}

static int on_event(struct build *b, const yaml_event_t *e)
{
    size_t l = e->start_mark.line + 1;
    uint32_t line = l < UINT32_MAX ? (uint32_t)l : UINT32_MAX;

    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        b->doc_start = b->y->text.n;
        b->null_doc = false;
        return 0;
    case YAML_DOCUMENT_END_EVENT:
        return end_document(b);
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e, line);
    case YAML_ALIAS_EVENT:
        return on_alias(b, e, line);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(b, false, e->data.sequence_start.anchor, line);
    case YAML_MAPPING_START_EVENT:
        return open_node(b, true, e->data.mapping_start.anchor, line);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_node(b);
    default:
        return 0;
    }
}

static int parser_error(struct build *b)
{
    const yaml_parser_t *p = &b->parser;

    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(b);
    if (p->error == YAML_READER_ERROR)
        return kei_error(b->err, KE_EPARSE, "YAML was malformed at byte %zu: %s", p->problem_offset,
                         p->problem ? p->problem : "unreadable text");
    return kei_error(b->err, KE_EPARSE, "YAML line %zu, column %zu: %s%s%s%s",
                     p->problem_mark.line + 1, p->problem_mark.column + 1,
                     p->problem ? p->problem : "malformed", p->context ? " (" : "",
                     p->context ? p->context : "", p->context ? ")" : "");
}

static int run(struct build *b)
{
    yaml_event_t e;
    bool end = false;
    int r = 0;

    while (!end && r == 0) {
        if (!yaml_parser_parse(&b->parser, &e))
            return parser_error(b);
        end = e.type == YAML_STREAM_END_EVENT;
        r = on_event(b, &e);
        if (r == 0)
            r = check_size(b, 0); /* no text that failed to grow may be looked at */
        yaml_event_delete(&e);
    }
    return r;
}

int kei_yaml_build(struct kei_yaml *y, struct ke_str text, struct ke_error *err)
{
    struct build *b = kei_zalloc(y->alloc, sizeof *b);

    if (!b)
        return kei_error(err, KE_ENOMEM, "memory ran out while YAML was read");
    b->y = y;
    b->err = err;
    b->work = (uint64_t)y->max * 4;
    kei_buf_init(&b->aside, y->alloc);
    kei_buf_init(&b->kept, y->alloc);
    /* names of anchors come from the text: where the heap lies is what an author cannot know */
    kei_map_init(&b->names, y->alloc, (uint64_t)(uintptr_t)b * UINT64_C(0x9e3779b97f4a7c15));
    int r = KE_ENOMEM;
    if (yaml_parser_initialize(&b->parser)) {
        yaml_parser_set_input_string(&b->parser, (const unsigned char *)(text.n ? text.p : ""),
                                     text.n);
        r = run(b);
        yaml_parser_delete(&b->parser);
    } else {
        no_memory(b);
    }
    ke_buf_free(&b->aside);
    ke_buf_free(&b->kept);
    kei_map_free(&b->names);
    kei_free(y->alloc, b->anchors);
    kei_free(y->alloc, b->keys);
    kei_free(y->alloc, b->merges);
    kei_free(y->alloc, b);
    return r;
}

#endif
