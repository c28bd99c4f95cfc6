/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a pod may be on this node: its nodeSelector and its required node affinity against the
 * labels of the Node, as kubelet checks it when a pod is first seen. The Node is the cloud's, so it
 * is asked for; a pod waits until that is known. Loop thread.
 */
#include <stdio.h>

#include "pod/engine.h"

#include "message/k8s.h"
#include "message/msg_priv.h"

#define TERMS "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
#define ASK_AGAIN_MS 10000

/* ---- pure ---- */

struct facts {
    struct ke_str labels; /* p NULL: not known */
    const char *name;     /* of the node */
    bool wanted;          /* the answer hangs on labels that are not known */
};

static bool in_list(struct ke_str values, struct ke_str value)
{
    struct ke_str k, v;
    for (size_t it = 0; kei_json_type(values) == '[' && kei_json_next(values, &it, &k, &v);) {
        if (kei_json_str_eq(v, value))
            return true;
    }
    return false;
}

/* The label's value, p NULL if it has none. The last of a name counts. */
static struct ke_str label_of(struct ke_str labels, struct ke_str key)
{
    struct ke_str k, v, got = {NULL, 0};
    struct ke_str raw = key.n >= 2 ? kei_strn(key.p + 1, key.n - 2) : key;
    for (size_t it = 0; kei_json_type(labels) == '{' && kei_json_next(labels, &it, &k, &v);) {
        if (kei_json_key_eq(k, raw))
            got = v;
    }
    return got;
}

static bool number(struct ke_str v, int64_t *ret)
{
    char text[24];
    size_t n = kei_json_type(v) == '"' ? kei_json_copy(text, sizeof text, v) : 0;
    return n > 0 && n < sizeof text && kei_str_i64(kei_strn(text, n), ret);
}

static bool compare(struct ke_str have, struct ke_str values, bool greater)
{
    struct ke_str k, first, more;
    size_t it = 0;
    int64_t a, b;
    if (kei_json_type(values) != '[' || !kei_json_next(values, &it, &k, &first) ||
        kei_json_next(values, &it, &k, &more) || !number(have, &a) || !number(first, &b))
        return false;
    return greater ? a > b : a < b;
}

/* One requirement on a value that is there, or is not (have.p NULL). */
static bool holds(struct ke_str req, struct ke_str have)
{
    struct ke_str op = {NULL, 0}, values = {NULL, 0};
    (void)kei_json_get(req, "operator", &op);
    (void)kei_json_get(req, "values", &values);
    if (kei_json_str_is(op, "In"))
        return have.p && in_list(values, have);
    if (kei_json_str_is(op, "NotIn"))
        return !have.p || !in_list(values, have);
    if (kei_json_str_is(op, "Exists"))
        return have.p != NULL;
    if (kei_json_str_is(op, "DoesNotExist"))
        return !have.p;
    if (kei_json_str_is(op, "Gt") || kei_json_str_is(op, "Lt"))
        return have.p && compare(have, values, kei_json_str_is(op, "Gt"));
    return false; /* no API server lets it pass */
}

static bool expressions_hold(struct ke_str list, struct facts *f)
{
    struct ke_str k, req, key;
    for (size_t it = 0; kei_json_type(list) == '[' && kei_json_next(list, &it, &k, &req);) {
        if (!kei_json_get(req, "key", &key))
            return false;
        if (!f->labels.p)
            f->wanted = true;
        else if (!holds(req, label_of(f->labels, key)))
            return false;
    }
    return true;
}

/* The only field there is: metadata.name. */
static bool fields_hold(struct ke_str list, const struct facts *f)
{
    struct ke_str k, req, key;
    char quoted[300];
    snprintf(quoted, sizeof quoted, "\"%.253s\"", f->name);
    for (size_t it = 0; kei_json_type(list) == '[' && kei_json_next(list, &it, &k, &req);) {
        if (!kei_json_get(req, "key", &key) || !kei_json_str_is(key, "metadata.name") ||
            !holds(req, kei_str(quoted)))
            return false;
    }
    return true;
}

/* A term without any requirement matches nothing; without labels, false only if that is sure. */
static bool term_holds(struct ke_str term, struct facts *f)
{
    struct ke_str exprs = {NULL, 0}, fields = {NULL, 0}, k, v;
    size_t a = 0, b = 0;
    (void)kei_json_get(term, "matchExpressions", &exprs);
    (void)kei_json_get(term, "matchFields", &fields);
    bool any = (kei_json_type(exprs) == '[' && kei_json_next(exprs, &a, &k, &v)) ||
               (kei_json_type(fields) == '[' && kei_json_next(fields, &b, &k, &v));
    return any && fields_hold(fields, f) && expressions_hold(exprs, f);
}

enum kei_fit kei_affinity_fit(struct ke_str spec, struct ke_str labels, const char *node_name)
{
    struct facts f = {.labels = labels, .name = node_name};
    struct ke_str selector, required, terms, k, v;
    size_t it = 0;
    bool unknown = false, some = false;
    if (kei_json_get(spec, "nodeSelector", &selector) && kei_json_type(selector) == '{' &&
        kei_json_next(selector, &it, &k, &v)) {
        if (!labels.p)
            unknown = true;
        else if (!kei_labels_match(labels, selector))
            return KEI_FIT_NO;
    }
    if (!kei_json_path(spec, TERMS, &required) || kei_json_type(required) != '{')
        return unknown ? KEI_FIT_UNKNOWN : KEI_FIT_YES;
    if (!kei_json_get(required, "nodeSelectorTerms", &terms))
        return KEI_FIT_NO;
    for (it = 0; kei_json_type(terms) == '[' && kei_json_next(terms, &it, &k, &v);) {
        f.wanted = false;
        if (!term_holds(v, &f))
            continue;
        if (!f.wanted)
            return unknown ? KEI_FIT_UNKNOWN : KEI_FIT_YES;
        some = true;
    }
    return some ? KEI_FIT_UNKNOWN : KEI_FIT_NO;
}

/* ---- asking for the Node ---- */

static void decide(struct kei_pods *ps, struct ke_str node)
{
    struct ke_str labels = KEI_STR("{}");
    (void)kei_json_path(node, "metadata.labels", &labels);
    KEI_LIST_EACH_SAFE(l, next, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        if (p->fit != KEI_FIT_UNKNOWN || !p->fit_asked)
            continue;
        p->fit = kei_affinity_fit(p->spec->spec, labels, ps->node_name);
        kei_pod_admit(p);
        kei_pod_kick(p);
    }
}

/* At once for those that came since it was asked. */
static void again_later(struct kei_pods *ps)
{
    int64_t pause = -1;
    KEI_LIST_EACH(l, &ps->pods)
    {
        const struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        if (p->fit == KEI_FIT_UNKNOWN && pause != 0)
            pause = p->fit_asked ? ASK_AGAIN_MS : 0;
    }
    if (pause >= 0)
        (void)kei_timer_in(&ps->fit_timer, pause); /* always 0 */
}

static void on_node(void *user, int status, struct ke_msg *reply)
{
    struct kei_pods *ps = user;
    struct kei_reply a = {.kind = KEI_REPLY_ERROR};
    ps->fit_asking = false;
    if (status == 0 && !ps->stopped) {
        struct ke_str content;
        content.p = ke_msg_content(reply, &content.n);
        kei_reply_read(&a, content);
    }
    bool known = status == 0 && a.kind == KEI_REPLY_OBJECT && kei_json_type(a.object) == '{' &&
                 strcmp(status == 0 && reply ? ke_msg_operation(reply) : "error", "error") != 0;
    if (!ps->stopped && known && ps->listed) /* what runs is known: its pod may stay */
        decide(ps, a.object);
    if (!ps->stopped)
        again_later(ps);
    kei_pods_unref(ps);
}

static void ask(struct kei_pods *ps)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    char resource[300];
    bool any = false;
    KEI_LIST_EACH(l, &ps->pods)
    {
        struct kei_pod *p = KEI_OF(l, struct kei_pod, link);
        p->fit_asked = p->fit == KEI_FIT_UNKNOWN;
        any = any || p->fit_asked;
    }
    if (!any || ps->fit_asking || ps->stopped)
        return;
    snprintf(resource, sizeof resource, "default/node/%s", ps->node_name);
    ke_msg_config_init(&c, sizeof c);
    c.source = KEI_PODS_MODULE;
    c.group = "meta";
    c.operation = "query";
    c.resource = resource;
    int r = ke_msg_new(&m, ps->ctx, &c, kei_err(ps->ctx));
    ps->refs++;
    ps->fit_asking = true;
    if (r == 0)
        r = ke_router_request(ps->router, KEI_PODS_META, m, ps->query_ms, on_node, ps, NULL);
    ke_msg_unref(m);
    if (r < 0) {
        ps->fit_asking = false;
        again_later(ps);
        kei_pods_unref(ps);
    }
}

static void on_timer(struct kei_timer *t)
{
    ask(KEI_OF(t, struct kei_pods, fit_timer));
}

void kei_affinity_init(struct kei_pods *ps)
{
    kei_timer_init(ps->ctx, &ps->fit_timer, on_timer);
}

void kei_affinity_check(struct kei_pod *p)
{
    const struct ke_str none = {NULL, 0};
    p->fit = kei_affinity_fit(p->spec->spec, none, p->ps->node_name);
    if (p->fit == KEI_FIT_UNKNOWN && !p->ps->fit_asking)
        (void)kei_timer_in(&p->ps->fit_timer, 0); /* always 0 */
}
