/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a recording. See replay_priv.h. */
#include "node/replay_priv.h"

void rp_chars(char *out, size_t cap, struct ke_str s)
{
    snprintf(out, cap, "%.*s", (int)s.n, s.p ? s.p : "");
}

/* ---- reading the recording ---- */

struct ke_str rp_member(struct ke_str o, const char *path)
{
    struct ke_str v;
    return kei_json_path(o, path, &v) && kei_json_type(v) == '"' ? kei_strn(v.p + 1, v.n - 2)
                                                                 : kei_strn("", 0);
}

void rp_class_of(struct ke_str op, struct ke_str resource, char type[64], char what[100])
{
    struct kei_resource r;
    if (kei_resource_parse(&r, resource))
        rp_chars(type, 64, r.type);
    else
        rp_chars(type, 64, resource);
    /* 1.4 tells all of them each minute */
    bool all = strcmp(type, "podstatus") == 0 && r.name.n == 0;
    snprintf(what, 100, "%.*s %s%s", (int)(op.n < 30 ? op.n : 30), op.p ? op.p : "", type,
             all ? "es" : "");
}

void rp_read_entry(struct entry *e, const struct capture_record *r)
{
    struct ke_str text = r->text;
    memset(e, 0, sizeof *e);
    if (strcmp(r->kind, "ws-message") != 0 || strcmp(r->listener, "ws") != 0)
        return;
    e->r = r;
    e->e2c = strcmp(r->dir, "e2c") == 0;
    e->id = rp_member(text, "header.msg_id");
    e->parent = rp_member(text, "header.parent_msg_id");
    e->version = rp_member(text, "header.resourceversion");
    e->source = rp_member(text, "route.source");
    e->group = rp_member(text, "route.group");
    e->op = rp_member(text, "route.operation");
    e->resource = rp_member(text, "route.resource");
    if (!kei_json_get(text, "content", &e->content))
        e->content = KEI_STR("null");
    rp_class_of(e->op, e->resource, e->type, e->what);
}

bool rp_is_request(const struct entry *e)
{
    return e->r && e->e2c && e->op.n > 0 && !is(e->op, "response") && !is(e->op, "keepalive");
}

struct entry *rp_entry_of(struct replay *p, struct ke_str id, bool e2c)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->e[i].r && p->e[i].e2c == e2c && p->e[i].id.n > 0 && kei_str_eq(p->e[i].id, id))
            return &p->e[i];
    return NULL;
}

/* The answer to a request, or the acknowledgement of a message. */
struct entry *rp_answer_of(struct replay *p, struct ke_str id, bool e2c)
{
    for (size_t i = 0; id.n > 0 && i < p->n; i++)
        if (p->e[i].r && p->e[i].e2c == e2c && is(p->e[i].op, "response") &&
            kei_str_eq(p->e[i].parent, id))
            return &p->e[i];
    return NULL;
}

/* Those of which the number does not count: how a status is cut into patches, how often an object
 * is asked for, when the period of a lease begins. */
bool rp_is_free(const char *what)
{
    static const char *const list[] = {
        "query node",        "query configmap",   "query secret",     "query serviceaccounttoken",
        "update lease",      "patch podpatch",    "update podstatus", "patch nodepatch",
        "update nodestatus", "update podstatuses"};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (strcmp(what, list[i]) == 0)
            return true;
    return false;
}

bool rp_is_periodic(const char *what)
{
    return strcmp(what, "update lease") == 0 || strcmp(what, "update nodestatus") == 0 ||
           strcmp(what, "update podstatuses") == 0;
}
