/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML documents as JSON: the public side, and text that is JSON already. A kei_yaml owns its text
 * and is read-only once made; any thread.
 */
#include "kei_config.h"

#include "base/alloc.h"
#include "base/yaml_priv.h"

#define MAX_BYTES ((size_t)8 << 20)

bool kei_yaml_grow(const struct ke_alloc *a, void **array, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return true;
    size_t want = *cap ? *cap * 2 : 16;
    void *p = kei_array_realloc(a, *array, want, size);
    if (!p)
        return false;
    *array = p;
    *cap = want;
    return true;
}

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "memory ran out while YAML was read");
}

int kei_yaml_add_doc(struct kei_yaml *y, size_t off, size_t n, uint32_t line, struct ke_error *err)
{
    void *docs = y->docs;

    bool ok = kei_yaml_grow(y->alloc, &docs, &y->cap_docs, y->n_docs, sizeof *y->docs);
    y->docs = docs;
    if (!ok)
        return no_memory(err);
    /* text still moves: off becomes a pointer when kei_yaml_parse is done */
    y->docs[y->n_docs++] = (struct kei_yaml_doc){{NULL, n}, line, off};
    return 0;
}

int kei_yaml_add_mark(struct kei_yaml *y, size_t off, uint32_t line, struct ke_error *err)
{
    void *marks = y->marks;

    bool ok = kei_yaml_grow(y->alloc, &marks, &y->cap_marks, y->n_marks, sizeof *y->marks);
    y->marks = marks;
    if (!ok)
        return no_memory(err);
    y->marks[y->n_marks++] = (struct kei_yaml_mark){(uint32_t)off, line};
    return 0;
}

/* JSON, several values one after the other too; KE_EPARSE: it is something else. */
static int read_json(struct kei_yaml *y, struct ke_str text, struct ke_error *err)
{
    struct ke_str rest = text, v;
    const char *counted = text.p;
    uint32_t line = 1;

    kei_buf_addv(&y->text, text);
    if (!kei_buf_ok(&y->text))
        return no_memory(err);
    for (rest = kei_str_trim(rest); rest.n; rest = kei_str_trim(rest)) {
        int r = kei_json_value(rest, 0, &v, err);
        if (r < 0)
            return r;
        for (; counted < v.p; counted++)
            line += *counted == '\n';
        r = kei_yaml_add_doc(y, (size_t)(v.p - text.p), v.n, line, err);
        if (r == 0)
            r = kei_yaml_add_mark(y, (size_t)(v.p - text.p), line, err);
        for (const char *p = v.p; p < v.p + v.n && r == 0; p++) {
            if (*p == '\n')
                r = kei_yaml_add_mark(y, (size_t)(p + 1 - text.p), ++line, err);
        }
        if (r < 0)
            return r;
        counted = v.p + v.n;
        rest = kei_strn(counted, (size_t)(rest.p + rest.n - counted));
    }
    return 0;
}

static bool looks_like_json(struct ke_str text)
{
    struct ke_str t = kei_str_trim(text);

    return t.n && (t.p[0] == '{' || t.p[0] == '[');
}

static void forget(struct kei_yaml *y)
{
    kei_buf_clear(&y->text);
    y->n_docs = y->n_marks = 0;
}

static int read_text(struct kei_yaml *y, struct ke_str text, struct ke_error *err)
{
    int r = KE_EPARSE;

    if (looks_like_json(text)) {
        r = read_json(y, text, err);
        if (r != KE_EPARSE)
            return r;
        forget(y);
    }
#if KEI_HAVE_YAML
    return kei_yaml_build(y, text, err);
#else
    if (looks_like_json(text))
        return r;
    return kei_error(err, KE_ENOTSUP,
                     "YAML could not be read: this library was built without it; "
                     "write the file as JSON");
#endif
}

int kei_yaml_parse(struct kei_yaml **ret, const struct ke_alloc *a, struct ke_str text,
                   size_t max_bytes, struct ke_error *err)
{
    size_t max = max_bytes ? max_bytes : MAX_BYTES;

    if (max > UINT32_MAX / 2)
        max = UINT32_MAX / 2; /* offsets are 32 bits wide */
    if (text.n > max)
        return kei_error(err, KE_ELIMIT, "YAML had %zu bytes, over the limit of %zu", text.n, max);
    struct kei_yaml *y = kei_zalloc(a, sizeof *y);
    if (!y)
        return no_memory(err);
    y->alloc = a;
    y->max = max;
    kei_buf_init(&y->text, a);
    int r = read_text(y, text, err);
    if (r < 0) {
        kei_yaml_free(y);
        return r;
    }
    for (size_t i = 0; i < y->n_docs; i++)
        y->docs[i].json.p = y->text.p + y->docs[i].off;
    *ret = y;
    return 0;
}

void kei_yaml_free(struct kei_yaml *y)
{
    if (!y)
        return;
    ke_buf_free(&y->text);
    kei_free(y->alloc, y->docs);
    kei_free(y->alloc, y->marks);
    kei_free(y->alloc, y);
}

size_t kei_yaml_count(const struct kei_yaml *y)
{
    return y->n_docs;
}

const struct kei_yaml_doc *kei_yaml_get(const struct kei_yaml *y, size_t i)
{
    return i < y->n_docs ? &y->docs[i] : NULL;
}

uint32_t kei_yaml_line(const struct kei_yaml *y, size_t i, size_t json_offset)
{
    if (i >= y->n_docs || json_offset >= y->docs[i].json.n)
        return 0;
    size_t off = y->docs[i].off + json_offset, lo = 0, hi = y->n_marks;

    while (lo < hi) { /* the first mark behind off */
        size_t mid = lo + (hi - lo) / 2;
        if (y->marks[mid].off <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? y->marks[lo - 1].line : 0;
}
