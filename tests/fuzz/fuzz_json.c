/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from a peer: checker, readers, tree, writer. What the checker accepts, the others must
 * agree on; what it refuses, the readers must survive.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "message/k8s.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void look_at(struct ke_str v)
{
    char text[32];
    int64_t n;

    (void)kei_json_type(v);
    (void)kei_json_i64(v, &n);
    (void)kei_json_bool(v, false);
    (void)kei_json_str_is(v, "x");
    (void)kei_json_num_eq(v, v);
    (void)kei_json_copy(text, sizeof text, v);
}

/* Every value of a document, with a stack of our own. */
static void walk(struct ke_str doc, bool checked)
{
    struct {
        struct ke_str v;
        size_t it;
    } stack[KEI_JSON_DEPTH];
    struct ke_str key, v;
    size_t depth = 1, seen = 0;

    look_at(doc);
    stack[0].v = doc;
    stack[0].it = 0;
    while (depth && seen++ < 100000) {
        if (!kei_json_next(stack[depth - 1].v, &stack[depth - 1].it, &key, &v)) {
            depth--;
            continue;
        }
        MUST(v.p >= doc.p && v.p + v.n <= doc.p + doc.n);
        MUST(!key.n || (key.p > doc.p && key.p + key.n < doc.p + doc.n));
        MUST(!checked || kei_json_check(v, 0, NULL) == 0);
        look_at(v);
        if (depth < KEI_JSON_DEPTH) {
            stack[depth].v = v;
            stack[depth++].it = 0;
        }
    }
}

static void strings(struct ke_str v)
{
    struct ke_buf text = {NULL, 0, 0, NULL}, json = {NULL, 0, 0, NULL};
    struct kei_jw w;

    if (kei_json_str(v, &text, NULL) == 0) {
        MUST(kei_utf8_valid(kei_buf_str(&text)));
        kei_jw_init(&w, &json);
        kei_jw_strv(&w, kei_buf_str(&text));
        MUST(kei_json_check(kei_buf_str(&json), 0, NULL) == 0);
        MUST(kei_json_str_eq(v, kei_buf_str(&json)));
    }
    ke_buf_free(&text);
    ke_buf_free(&json);
}

static void edits(struct ke_str v)
{
    struct ke_buf out = {NULL, 0, 0, NULL};
    struct ke_str none = {NULL, 0}, got;

    if (kei_json_type(v) != '{')
        return;
    if (kei_json_set(&out, v, "a.b", KEI_STR("[1]"), NULL) == 0) {
        if (kei_json_check(kei_buf_str(&out), KEI_JSON_DEPTH + 3, NULL) < 0)
            abort();
        MUST(kei_json_path(kei_buf_str(&out), "a.b", &got) && kei_str_is(got, "[1]"));
    }
    kei_buf_clear(&out);
    if (kei_json_set(&out, v, "a", none, NULL) == 0) {
        MUST(kei_json_check(kei_buf_str(&out), 0, NULL) == 0);
        MUST(!kei_json_get(kei_buf_str(&out), "a", &got));
    }
    ke_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str text = {(const char *)data, size}, v;
    struct kei_jtree *t;

    /* readers on text that nobody checked */
    walk(text, false);
    (void)kei_json_get(text, "a", &v);
    (void)kei_json_iget(text, "kind", &v);
    (void)kei_json_path(text, "metadata.name", &v);

    if (kei_json_check(text, 0, NULL) < 0) {
        MUST(kei_jtree_parse(&t, text, 0, NULL) < 0);
        return 0;
    }
    MUST(kei_json_value(text, 0, &v, NULL) == 0);
    walk(v, true);
    strings(v);
    edits(v);
    MUST(kei_json_same(v, v) || kei_json_type(v) == '{' || kei_json_type(v) == '[');
    if (kei_jtree_parse(&t, text, 0, NULL) == 0) {
        MUST(kei_jv_type(kei_jtree_root(t)) == kei_json_type(v));
        kei_jtree_free(t);
    }
    return 0;
}
