/* SPDX-License-Identifier: Apache-2.0 */
/* See replay_model.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "message/k8s.h"
#include "node/replay_model.h"

struct model *model_find(struct models *s, const char *kind, const char *key, bool make)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->m[i].kind, kind) == 0 && strcmp(s->m[i].key, key) == 0)
            return &s->m[i];
    if (!make)
        return NULL;
    assert_true(s->n < sizeof s->m / sizeof s->m[0]);
    struct model *m = &s->m[s->n++];
    memset(m, 0, sizeof *m);
    snprintf(m->kind, sizeof m->kind, "%s", kind);
    snprintf(m->key, sizeof m->key, "%s", key);
    return m;
}

void model_remove(struct models *s, struct model *m)
{
    for (int i = 0; i < SIDES; i++)
        free(m->doc[i]);
    *m = s->m[--s->n];
}

void models_free(struct models *s)
{
    while (s->n > 0)
        model_remove(s, &s->m[0]);
}

bool model_member(const struct model *m, enum side side, const char *path, struct ke_str *ret)
{
    return m->doc[side] && kei_json_path(kei_str(m->doc[side]), path, ret);
}

/* ---- courses ---- */

static void note(struct model *m, enum side side, const char *name, const char *value)
{
    struct course *c = NULL;
    for (unsigned i = 0; i < m->n_courses; i++)
        if (strcmp(m->courses[i].name, name) == 0)
            c = &m->courses[i];
    if (!c) {
        assert_true(m->n_courses < sizeof m->courses / sizeof m->courses[0]);
        c = &m->courses[m->n_courses++];
        memset(c, 0, sizeof *c);
        snprintf(c->name, sizeof c->name, "%s", name);
    }
    if (strcmp(c->last[side], value) == 0)
        return;
    snprintf(c->last[side], sizeof c->last[side], "%s", value);
    size_t n = strlen(c->text[side]);
    snprintf(c->text[side] + n, sizeof c->text[side] - n, "%s%s", n ? " > " : "", value);
}

static const char *text_of(struct ke_str o, const char *path, char out[120])
{
    struct ke_str v;
    out[0] = 0;
    if (kei_json_path(o, path, &v) && kei_json_type(v) == '"')
        kei_json_copy(out, 120, v);
    else if (kei_json_path(o, path, &v))
        snprintf(out, 120, "%.*s", (int)v.n, v.p);
    return out;
}

static void note_container(struct model *m, enum side side, struct ke_str c)
{
    static const char *const states[] = {"waiting", "running", "terminated"};
    char name[120], course[140], value[400], path[40], reason[120], code[120], ready[120], n[120];
    struct ke_str v;
    snprintf(course, sizeof course, "container.%.80s", text_of(c, "name", name));
    value[0] = 0;
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "state.%s", states[i]);
        if (!kei_json_path(c, path, &v))
            continue;
        text_of(v, "reason", reason);
        text_of(v, "exitCode", code);
        snprintf(value, sizeof value, "%s%s%.60s%s%.20s restarts=%.6s", states[i],
                 *reason ? " " : "", reason, *code ? " " : "", code, text_of(c, "restartCount", n));
    }
    note(m, side, course, value);
    snprintf(course, sizeof course, "ready.%.80s", name);
    note(m, side, course, text_of(c, "ready", ready));
}

static void note_changes(struct model *m, enum side side)
{
    struct ke_str list, v;
    char a[120], b[120], c[120], value[260], name[160];
    if (model_member(m, side, "status.phase", &v))
        note(m, side, "phase", text_of(kei_str(m->doc[side]), "status.phase", a));
    if (model_member(m, side, "status.conditions", &list))
        for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
            snprintf(name, sizeof name, "condition.%.80s", text_of(v, "type", a));
            text_of(v, "reason", c);
            snprintf(value, sizeof value, "%s%s%s", text_of(v, "status", b), *c ? " " : "", c);
            note(m, side, name, value);
        }
    if (model_member(m, side, "status.containerStatuses", &list))
        for (size_t it = 0; kei_json_next(list, &it, NULL, &v);)
            note_container(m, side, v);
}

/* ---- changes ---- */

void model_set(struct model *m, enum side side, struct ke_str object)
{
    free(m->doc[side]);
    m->doc[side] = strndup(object.p, object.n);
    assert_non_null(m->doc[side]);
    note_changes(m, side);
}

void model_patch(struct model *m, enum side side, struct ke_str patch)
{
    struct ke_buf out;
    struct ke_error err = KE_ERROR_INIT;
    kei_buf_init(&out, kei_alloc_malloc());
    if (kei_patch_strategic(&out, kei_str(m->doc[side] ? m->doc[side] : "{}"), patch, &err) < 0)
        fail_msg("%s %s: %s: %.*s", m->kind, m->key, err.text, (int)patch.n, patch.p);
    model_set(m, side, kei_buf_str(&out));
    ke_buf_free(&out);
}

void model_status(struct model *m, enum side side, struct ke_str status)
{
    struct ke_buf out;
    kei_buf_init(&out, kei_alloc_malloc());
    assert_int_equal(
        kei_json_set(&out, kei_str(m->doc[side] ? m->doc[side] : "{}"), "status", status, NULL), 0);
    model_set(m, side, kei_buf_str(&out));
    ke_buf_free(&out);
}

/* ---- comparing ---- */

static void compare_member(struct model *m, const struct place *at, const char *path)
{
    struct ke_str a = {0}, b = {0};
    bool has_a = model_member(m, THEIRS, path, &a), has_b = model_member(m, OURS, path, &b);
    if (has_a && has_b)
        compare_json(at, path, a, b);
    else if (has_a || has_b)
        differs(at, path, a, b);
}

void model_compare(struct model *m, const struct place *at)
{
    struct place here = *at;
    for (unsigned i = 0; i < m->n_courses; i++) {
        struct course *c = &m->courses[i];
        here.what = strcmp(m->kind, "pod") == 0 ? "course of pod" : "course of node";
        compare_text(&here, c->name, c->text[THEIRS], c->text[OURS]);
        c->text[THEIRS][0] = c->text[OURS][0] = 0;
    }
    here.what = strcmp(m->kind, "pod") == 0 ? "pod" : "node";
    compare_member(m, &here, "metadata.labels");
    compare_member(m, &here, "status");
}

void models_compare(struct models *s, const struct place *at)
{
    for (unsigned i = 0; i < s->n; i++)
        model_compare(&s->m[i], at);
}
