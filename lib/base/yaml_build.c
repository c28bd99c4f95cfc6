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

#include "base/alloc.h"
#include "base/yaml_build.h"

int kei_yb_no_memory(struct kei_yb *b)
{
    return kei_error(b->err, KE_ENOMEM, "memory ran out while YAML was read");
}

struct kei_yb_frame *kei_yb_top(struct kei_yb *b)
{
    return b->depth ? &b->stack[b->depth - 1] : NULL;
}

struct ke_buf *kei_yb_text(struct kei_yb *b, int where)
{
    return where == RESULT ? &b->y->text : where == ASIDE ? &b->aside : &b->kept;
}

/* where the next value is written */
int kei_yb_here(struct kei_yb *b)
{
    return b->depth ? kei_yb_top(b)->where : RESULT;
}

struct ke_str kei_yb_view(struct kei_yb *b, struct kei_yb_span s)
{
    return kei_strn(kei_yb_text(b, s.where)->p + s.off, s.n);
}

int kei_yb_check_size(struct kei_yb *b, size_t more)
{
    size_t used = b->y->text.n + b->aside.n + b->kept.n;

    if (used > b->y->max || more > b->y->max - used)
        return kei_error(
            b->err, KE_ELIMIT,
            "YAML grew to more than the limit of %zu bytes (aliases count as what they "
            "stand for)",
            b->y->max);
    if (!kei_buf_ok(&b->y->text) || !kei_buf_ok(&b->aside) || !kei_buf_ok(&b->kept))
        return kei_yb_no_memory(b);
    return 0;
}

/* Appends a span of any text to one of them; room comes first, for the source may move. */
int kei_yb_copy(struct kei_yb *b, int to_where, struct kei_yb_span s)
{
    struct ke_buf *to = kei_yb_text(b, to_where);

    int r = kei_yb_check_size(b, s.n);
    if (r < 0)
        return r;
    char *p = kei_buf_room(to, s.n);
    if (!p)
        return kei_yb_no_memory(b);
    memmove(p, kei_yb_view(b, s).p, s.n);
    p[s.n] = '\0';
    to->n += s.n;
    return 0;
}

int kei_yb_mark(struct kei_yb *b, uint32_t line)
{
    return kei_yb_here(b) != RESULT ? 0 : kei_yaml_add_mark(b->y, b->y->text.n, line, b->err);
}

/* ---- anchors ---- */

/* Notes that name means what begins here. *ret_index is its index + 1, 0 without a name. */
static int open_anchor(struct kei_yb *b, const yaml_char_t *name, size_t *ret_index)
{
    struct ke_str key = kei_str((const char *)name);
    void *array = b->anchors;

    *ret_index = 0;
    if (!name)
        return 0;
    bool ok = kei_yaml_grow(b->y->alloc, &array, &b->cap_anchors, b->n_anchors, sizeof *b->anchors);
    b->anchors = array;
    if (!ok)
        return kei_yb_no_memory(b);
    b->anchors[b->n_anchors++] = (struct kei_yb_anchor){{RESULT, 0, 0}, false};
    *ret_index = b->n_anchors;
    if (kei_map_put(&b->names, key, (void *)(uintptr_t)b->n_anchors, NULL) < 0)
        return kei_yb_no_memory(b);
    return 0;
}

static void close_anchor(struct kei_yb *b, size_t index, struct kei_yb_span at)
{
    if (index)
        b->anchors[index - 1] = (struct kei_yb_anchor){at, true};
}

static int find_anchor(struct kei_yb *b, const yaml_char_t *name, uint32_t line,
                       struct kei_yb_span *ret)
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

/* ---- values ---- */

/*
 * Before a value of any kind; *ret_merge: it belongs to a merge key and is not written here. Keys
 * are handled elsewhere.
 */
static int before_value(struct kei_yb *b, uint32_t line, bool *ret_merge)
{
    struct kei_yb_frame *f = kei_yb_top(b);

    *ret_merge = false;
    if (!f) {
        b->doc_line = line;
        return kei_yb_mark(b, line);
    }
    if (f->map && f->key_next)
        return kei_error(b->err, KE_EPARSE, "YAML line %u: a list or a map cannot be a key", line);
    if (f->merge_next) {
        *ret_merge = true;
        return 0;
    }
    if (!f->map) {
        if (f->comma)
            kei_buf_addc(kei_yb_text(b, f->where), ',');
        f->comma = true;
    }
    return kei_yb_mark(b, line);
}

static void after_value(struct kei_yb *b)
{
    struct kei_yb_frame *f = kei_yb_top(b);

    if (f && f->map) {
        f->key_next = true;
        f->merge_next = false;
    }
}

static int open_node(struct kei_yb *b, bool map, const yaml_char_t *anchor, uint32_t line)
{
    bool merge;

    int r = before_value(b, line, &merge);
    if (r < 0)
        return r;
    if (b->depth == KEI_JSON_DEPTH)
        return kei_error(b->err, KE_ELIMIT,
                         "YAML line %u: nested deeper than the limit of %d levels", line,
                         KEI_JSON_DEPTH);
    int where = merge ? ASIDE : kei_yb_here(b);
    struct kei_yb_frame *f = &b->stack[b->depth++];
    *f = (struct kei_yb_frame){.map = map,
                               .key_next = map,
                               .where = where,
                               .is_merge = merge,
                               .start = kei_yb_text(b, where)->n,
                               .keys = b->n_keys,
                               .merges = b->n_merges,
                               .anchors = b->n_anchors};
    kei_buf_addc(kei_yb_text(b, where), map ? '{' : '[');
    return open_anchor(b, anchor, &f->anchor);
}

/*
 * Moves a finished value of a merge key, the end of what is written aside, to the kept text, so
 * that the value around it can go on. Anchors that were set inside go with it.
 */
static int keep(struct kei_yb *b, size_t first_anchor, struct kei_yb_span *at)
{
    struct kei_yb_span old = *at;

    *at = (struct kei_yb_span){KEPT, b->kept.n, old.n};
    int r = kei_yb_copy(b, KEPT, old);
    if (r < 0)
        return r;
    b->aside.n = old.off;
    for (size_t i = first_anchor; i < b->n_anchors; i++) {
        struct kei_yb_span *s = &b->anchors[i].at;
        if (b->anchors[i].done && s->where == ASIDE)
            *s = (struct kei_yb_span){KEPT, s->off - old.off + at->off, s->n};
    }
    return 0;
}

static int close_node(struct kei_yb *b)
{
    struct kei_yb_frame *f = kei_yb_top(b);
    struct ke_buf *out = kei_yb_text(b, f->where);
    int r = 0;

    if (f->map)
        r = kei_yb_end_map(b);
    if (r < 0)
        return r;
    kei_buf_addc(out, f->map ? '}' : ']');
    b->n_keys = f->keys;
    b->n_merges = f->merges;
    struct kei_yb_span at = {f->where, f->start, out->n - f->start};
    close_anchor(b, f->anchor, at);
    b->depth--;
    if (f->is_merge) {
        r = keep(b, f->anchors, &at);
        if (r == 0)
            r = kei_yb_add_merge(b, at);
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
static int add_scalar(struct kei_yb *b, const yaml_event_t *e, uint32_t line, char *ret_type)
{
    struct ke_str s = {(const char *)e->data.scalar.value, e->data.scalar.length};
    struct ke_buf *out = kei_yb_text(b, kei_yb_here(b));
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && e->data.scalar.plain_implicit;
    char want = 0;
    int kind = tag_kind(e->data.scalar.tag, plain, &want);

    *ret_type = KEI_YAML_STRING;
    if (kind == TAG_BINARY) {
        add_binary(out, s);
        return kei_yb_check_size(b, 0);
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
    return kei_yb_check_size(b, 0);
}

/* A key is always a string: 0644 becomes "420", yes becomes "true". */
static int quote_key(struct kei_yb *b, size_t start, char type, uint32_t line)
{
    struct ke_buf *out = kei_yb_text(b, kei_yb_here(b));

    if (type == KEI_YAML_NULL)
        return kei_error(b->err, KE_EPARSE,
                         "YAML line %u: a key was empty; quote it if \"\" is meant", line);
    if (type == KEI_YAML_STRING)
        return 0;
    size_t n = out->n - start;
    if (!kei_buf_room(out, 2))
        return kei_yb_no_memory(b);
    memmove(out->p + start + 1, out->p + start, n);
    out->p[start] = '"';
    out->p[start + n + 1] = '"';
    out->n += 2;
    out->p[out->n] = '\0';
    return 0;
}

/* What was written from start on is a key. */
static int end_key(struct kei_yb *b, size_t start, char type, uint32_t line)
{
    struct kei_yb_frame *f = kei_yb_top(b);
    struct ke_buf *out = kei_yb_text(b, f->where);

    int r = quote_key(b, start, type, line);
    if (r < 0)
        return r;
    r = kei_yb_add_key(b, (struct kei_yb_span){f->where, start, out->n - start}, line);
    kei_buf_addc(out, ':');
    f->key_next = false;
    return r < 0 ? r : kei_yb_check_size(b, 0);
}

static void begin_key(struct kei_yb *b, size_t *ret_start)
{
    struct kei_yb_frame *f = kei_yb_top(b);
    struct ke_buf *out = kei_yb_text(b, f->where);

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

static int on_scalar(struct kei_yb *b, const yaml_event_t *e, uint32_t line)
{
    struct kei_yb_frame *f = kei_yb_top(b);
    size_t start, anchor;
    bool merge = false, is_key = f && f->map && f->key_next;
    char type = KEI_YAML_STRING;

    if (is_key && is_merge_key(e)) {
        f->key_next = false;
        f->merge_next = true;
        f->line = line;
        return 0;
    }
    /* a value that is not there is told at what follows: its key says more */
    if (f && f->map && !is_key && e->data.scalar.length == 0 && b->n_keys > f->keys)
        line = b->keys[b->n_keys - 1].line;
    int r = is_key ? 0 : before_value(b, line, &merge);
    if (r < 0)
        return r;
    if (merge)
        return kei_yb_bad_merge(b, line);
    start = kei_yb_text(b, kei_yb_here(b))->n;
    if (is_key)
        begin_key(b, &start);
    r = open_anchor(b, e->data.scalar.anchor, &anchor);
    if (r == 0)
        r = add_scalar(b, e, line, &type);
    if (r < 0)
        return r;
    close_anchor(
        b, anchor,
        (struct kei_yb_span){kei_yb_here(b), start, kei_yb_text(b, kei_yb_here(b))->n - start});
    if (is_key)
        return end_key(b, start, type, line);
    b->null_doc = !f && type == KEI_YAML_NULL;
    after_value(b);
    return 0;
}

static int on_alias(struct kei_yb *b, const yaml_event_t *e, uint32_t line)
{
    struct kei_yb_frame *f = kei_yb_top(b);
    struct kei_yb_span at;
    size_t start;
    bool merge = false;

    int r = find_anchor(b, e->data.alias.anchor, line, &at);
    if (r < 0)
        return r;
    if (f && f->map && f->key_next) {
        char type = kei_json_type(kei_yb_view(b, at));
        if (type == '{' || type == '[')
            return kei_error(b->err, KE_EPARSE, "YAML line %u: a list or a map cannot be a key",
                             line);
        begin_key(b, &start);
        r = kei_yb_copy(b, f->where, at);
        return r < 0 ? r : end_key(b, start, type, line);
    }
    r = before_value(b, line, &merge);
    if (r == 0)
        r = merge ? kei_yb_add_merge(b, at) : kei_yb_copy(b, kei_yb_here(b), at);
    after_value(b);
    return r;
}

/* ---- documents ---- */

static void forget_anchors(struct kei_yb *b)
{
    uint64_t seed = b->names.seed;

    kei_map_free(&b->names);
    kei_map_init(&b->names, b->y->alloc, seed);
    b->n_anchors = 0;
    kei_buf_clear(&b->aside);
    kei_buf_clear(&b->kept);
}

static int end_document(struct kei_yb *b)
{
    size_t n = b->y->text.n - b->doc_start;

    forget_anchors(b);
    if (n == 0 || b->null_doc)
        return 0;
    return kei_yaml_add_doc(b->y, b->doc_start, n, b->doc_line, b->err);
}

static int on_event(struct kei_yb *b, const yaml_event_t *e)
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

static int parser_error(struct kei_yb *b)
{
    const yaml_parser_t *p = &b->parser;

    if (p->error == YAML_MEMORY_ERROR)
        return kei_yb_no_memory(b);
    if (p->error == YAML_READER_ERROR)
        return kei_error(b->err, KE_EPARSE, "YAML was malformed at byte %zu: %s", p->problem_offset,
                         p->problem ? p->problem : "unreadable text");
    return kei_error(b->err, KE_EPARSE, "YAML line %zu, column %zu: %s%s%s%s",
                     p->problem_mark.line + 1, p->problem_mark.column + 1,
                     p->problem ? p->problem : "malformed", p->context ? " (" : "",
                     p->context ? p->context : "", p->context ? ")" : "");
}

static int run(struct kei_yb *b)
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
            r = kei_yb_check_size(b, 0); /* no text that failed to grow may be looked at */
        yaml_event_delete(&e);
    }
    return r;
}

int kei_yaml_build(struct kei_yaml *y, struct ke_str text, struct ke_error *err)
{
    struct kei_yb *b = kei_zalloc(y->alloc, sizeof *b);

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
        kei_yb_no_memory(b);
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
