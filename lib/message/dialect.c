/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Neutral messages of the node's modules into the dialect of a cloud. Pure: a message in, a message
 * out; scratch memory is freed before return; any thread.
 *
 * What differs: 1.4 knows nodestatus and podstatus with whole objects and no leases or tokens; the
 * others take patches, as strings. The namespace of a node is "default", since 1.23 "null".
 */
#include <stdio.h>

#include "base/codec.h"
#include "base/json.h"
#include "base/loop.h"
#include "message/dialect.h"
#include "message/k8s.h"
#include "message/msg_priv.h"

/* the UID that an edge of 1.4 claims for every node */
#define NODE_UID_1_4 "\"38796d14-1df3-11e8-8e5a-286ed488f209\""

struct work {
    struct ke_error *err;
    uint32_t dialect;
    struct kei_resource res;
    struct kei_msg_view v;  /* what the new message is made of */
    struct ke_buf content;  /* new content, if v.content points here */
    struct ke_buf spare;    /* the other half of edit() */
    struct ke_buf resource; /* new resource, if v.resource points here */
    bool changed, drop;
};

typedef int (*translate_fn)(struct work *w);

static const struct {
    const char *name;
    uint32_t dialect;
    const char *kubelet, *proxy;
} dialects[] = {
    {"1.4", KE_DIALECT_1_4, "v1.18.6-kubeedge-v1.4.0", ""},
    {"1.15", KE_DIALECT_1_15, "v1.26.15-kubeedge-v1.15.4", "v1.26.15"},
    {"1.23", KE_DIALECT_1_23, "v1.32.10-kubeedge-v1.23.1", "v1.26.15"},
    {"auto", KE_DIALECT_AUTO, "v1.26.15-kubeedge-v1.15.4", "v1.26.15"},
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

bool kei_dialect_parse(const char *s, uint32_t *ret)
{
    for (size_t i = 0; s && i < COUNT(dialects); i++) {
        if (strcmp(dialects[i].name, s) == 0) {
            *ret = dialects[i].dialect;
            return true;
        }
    }
    return false;
}

static size_t find_dialect(uint32_t dialect)
{
    size_t i = 0;

    while (i < COUNT(dialects) && dialects[i].dialect != dialect)
        i++;
    return i;
}

const char *kei_dialect_name(uint32_t dialect)
{
    size_t i = find_dialect(dialect);

    return i < COUNT(dialects) ? dialects[i].name : NULL;
}

static size_t known_dialect(uint32_t dialect)
{
    size_t i = find_dialect(dialect);

    return i < COUNT(dialects) ? i : find_dialect(KE_DIALECT_1_15);
}

const char *kei_dialect_kubelet_version(uint32_t dialect)
{
    return dialects[known_dialect(dialect)].kubelet;
}

/* ---- building blocks ---- */

static int no_memory(struct work *w)
{
    return kei_error(w->err, KE_ENOMEM, "memory ran out while message %.*s %.*s was translated",
                     KEI_FMT(w->v.operation), KEI_FMT(w->v.resource));
}

static int bad_content(struct work *w, const char *what)
{
    return kei_error(w->err, KE_EPARSE, "message %.*s %.*s could not be translated: %s",
                     KEI_FMT(w->v.operation), KEI_FMT(w->v.resource), what);
}

/* Sets a member of the content, or removes it (value.p NULL). */
static int edit(struct work *w, const char *path, struct ke_str value)
{
    kei_buf_clear(&w->spare);
    int r = kei_json_set(&w->spare, w->v.content, path, value, w->err);
    if (r < 0)
        return r;
    struct ke_buf other = w->content;
    w->content = w->spare;
    w->spare = other;
    w->v.content = kei_buf_str(&w->content);
    w->changed = true;
    return 0;
}

static int edit_text(struct work *w, const char *path, const char *text)
{
    char json[64];

    snprintf(json, sizeof json, "\"%s\"", text);
    return edit(w, path, kei_str(json));
}

/* content becomes the JSON string of the text in w->spare */
static int quote_content(struct work *w)
{
    struct kei_jw jw;

    if (!kei_buf_ok(&w->spare))
        return no_memory(w);
    kei_buf_clear(&w->content);
    kei_jw_init(&jw, &w->content);
    kei_jw_strv(&jw, kei_buf_str(&w->spare));
    if (!kei_buf_ok(&w->content))
        return no_memory(w);
    w->v.content = kei_buf_str(&w->content);
    w->changed = true;
    return 0;
}

static int set_resource(struct work *w, struct ke_str ns, const char *type)
{
    kei_buf_clear(&w->resource);
    kei_buf_addv(&w->resource, ns);
    kei_buf_addc(&w->resource, '/');
    kei_buf_adds(&w->resource, type);
    kei_buf_addc(&w->resource, '/');
    kei_buf_addv(&w->resource, w->res.name);
    if (!kei_buf_ok(&w->resource))
        return no_memory(w);
    if (kei_str_eq(w->v.resource, kei_buf_str(&w->resource)))
        return 0;
    w->v.resource = kei_buf_str(&w->resource);
    w->changed = true;
    return 0;
}

/* the namespace that stands for none in the resource of a node */
static struct ke_str node_ns(const struct work *w)
{
    return w->dialect == KE_DIALECT_1_23 ? KEI_STR("null") : KEI_STR("default");
}

/* kubeletVersion and kubeProxyVersion as an edge of this dialect reports them */
static int set_versions(struct work *w, const char *node_info)
{
    size_t d = known_dialect(w->dialect);
    struct ke_str v;
    char path[96];

    if (!kei_json_path(w->v.content, node_info, &v) || kei_json_type(v) != '{')
        return 0;
    snprintf(path, sizeof path, "%s.kubeletVersion", node_info);
    int r = edit_text(w, path, dialects[d].kubelet);
    if (r < 0)
        return r;
    snprintf(path, sizeof path, "%s.kubeProxyVersion", node_info);
    return edit_text(w, path, dialects[d].proxy);
}

/* ---- nodes ---- */

static int node_query(struct work *w)
{
    return set_resource(w, node_ns(w), "node");
}

static int node_insert(struct work *w)
{
    struct ke_str none = {NULL, 0};

    int r = set_versions(w, "status.nodeInfo");
    if (r < 0)
        return r;
    if (w->dialect != KE_DIALECT_1_4)
        return set_resource(w, node_ns(w), "node");
    /* the resource has the name; conditions come with the first update; the port is not told yet */
    r = edit(w, "metadata.name", none);
    if (r == 0)
        r = edit(w, "status.conditions", none);
    if (r == 0)
        r = edit(w, "status.daemonEndpoints", KEI_STR("{\"kubeletEndpoint\":{\"Port\":0}}"));
    return r < 0 ? r : set_resource(w, node_ns(w), "nodestatus");
}

/* one condition; what it does not say must be cleared from the one that is there */
static void add_condition(struct kei_jw *jw, struct ke_str c)
{
    static const char *const cleared[] = {"message", "reason"};
    struct ke_str key, v;
    size_t it = 0;

    if (kei_json_type(c) != '{') {
        kei_jw_raw(jw, c);
        return;
    }
    kei_jw_obj(jw);
    for (size_t i = 0; i < COUNT(cleared); i++) {
        if (!kei_json_get(c, cleared[i], &v)) {
            kei_jw_key(jw, cleared[i]);
            kei_jw_null(jw);
        }
    }
    while (kei_json_next(c, &it, &key, &v)) {
        kei_buf_adds(jw->out, jw->comma ? ",\"" : "\"");
        kei_buf_addv(jw->out, key);
        kei_buf_adds(jw->out, "\":");
        kei_buf_addv(jw->out, v);
        jw->comma = true;
    }
    kei_jw_obj_end(jw);
}

static void add_list(struct kei_jw *jw, struct ke_str list, bool conditions, bool replace)
{
    struct ke_str v;
    size_t it = 0;

    kei_jw_arr(jw);
    while (kei_json_next(list, &it, NULL, &v)) {
        if (conditions)
            add_condition(jw, v);
        else
            kei_jw_raw(jw, v);
    }
    if (replace)
        kei_jw_raw(jw, KEI_STR("{\"$patch\":\"replace\"}"));
    kei_jw_arr_end(jw);
}

static bool name_in(struct ke_str raw, const char *const *names)
{
    for (; *names; names++) {
        if (kei_json_key_is(raw, *names))
            return true;
    }
    return false;
}

/*
 * A whole status as strategic merge patch: conditions and addresses merge by key, all else is set;
 * the members in cleared are removed where the status has none, those in left_out are not sent.
 */
static void add_status_patch(struct kei_jw *jw, struct ke_str status, const char *const *cleared,
                             const char *const *left_out)
{
    struct ke_str key, v;
    size_t it = 0;

    kei_jw_obj(jw);
    for (; *cleared; cleared++) {
        if (!kei_json_get(status, *cleared, &v)) {
            kei_jw_key(jw, *cleared);
            kei_jw_null(jw);
        }
    }
    while (kei_json_next(status, &it, &key, &v)) {
        if (name_in(key, left_out))
            continue;
        bool conditions = kei_json_key_is(key, "conditions");
        bool addresses = kei_json_key_is(key, "addresses");
        kei_buf_adds(jw->out, jw->comma ? ",\"" : "\"");
        kei_buf_addv(jw->out, key);
        kei_buf_adds(jw->out, "\":");
        jw->comma = false;
        if ((conditions || addresses) && kei_json_type(v) == '[')
            add_list(jw, v, conditions, addresses);
        else
            kei_jw_raw(jw, v);
        jw->comma = true;
    }
    kei_jw_obj_end(jw);
}

static int node_status_1_4(struct work *w)
{
    struct ke_str v;

    int r = edit(w, "UID", KEI_STR(NODE_UID_1_4));
    if (r == 0 && !kei_json_path(w->v.content, "Status.phase", &v))
        r = edit(w, "Status.phase", KEI_STR("\"Running\""));
    if (r == 0 && !kei_json_get(w->v.content, "ExtendResources", &v))
        r = edit(w, "ExtendResources", KEI_STR("null"));
    return r < 0 ? r : set_resource(w, node_ns(w), "nodestatus");
}

static int node_status(struct work *w)
{
    static const char *const cleared[] = {NULL};
    /* the cloud puts its stream port where the kubelet's was: only the registration names it */
    static const char *const left_out[] = {"daemonEndpoints", "phase", NULL};
    struct ke_str status;
    struct kei_jw jw;

    if (!kei_json_get(w->v.content, "Status", &status) || kei_json_type(status) != '{')
        return bad_content(w, "its content has no \"Status\"");
    int r = set_versions(w, "Status.nodeInfo");
    if (r < 0)
        return r;
    if (w->dialect == KE_DIALECT_1_4)
        return node_status_1_4(w);
    kei_json_get(w->v.content, "Status", &status);
    kei_buf_clear(&w->spare);
    kei_jw_init(&jw, &w->spare);
    kei_jw_obj(&jw);
    kei_jw_key(&jw, "status");
    add_status_patch(&jw, status, cleared, left_out);
    kei_jw_obj_end(&jw);
    r = quote_content(w);
    w->v.operation = KEI_STR("patch");
    return r < 0 ? r : set_resource(w, node_ns(w), "nodepatch");
}

/* ---- pods ---- */

static int pod_status(struct work *w)
{
    static const char *const cleared[] = {
        "containerStatuses", "initContainerStatuses", "message", "podIP", "podIPs", "reason", NULL};
    static const char *const left_out[] = {NULL};
    struct ke_str status, uid;
    struct kei_jw jw;

    if (!kei_json_get(w->v.content, "Status", &status) || kei_json_type(status) != '{' ||
        !kei_json_get(w->v.content, "UID", &uid) || kei_json_type(uid) != '"')
        return bad_content(w, "its content has no \"Status\" or no \"UID\"");
    if (w->dialect == KE_DIALECT_1_4)
        return 0;
    kei_buf_clear(&w->spare);
    kei_jw_init(&jw, &w->spare);
    kei_jw_obj(&jw);
    kei_jw_key(&jw, "metadata");
    kei_jw_obj(&jw);
    kei_jw_kraw(&jw, "uid", uid);
    kei_jw_obj_end(&jw);
    kei_jw_key(&jw, "status");
    add_status_patch(&jw, status, cleared, left_out);
    kei_jw_obj_end(&jw);
    int r = quote_content(w);
    w->v.operation = KEI_STR("patch");
    return r < 0 ? r : set_resource(w, w->res.ns, "podpatch");
}

static int pod_delete(struct work *w)
{
    struct ke_str uid;

    if (w->dialect != KE_DIALECT_1_4 || kei_json_type(w->v.content) == '"')
        return 0;
    if (!kei_json_path(w->v.content, "preconditions.uid", &uid) || kei_json_type(uid) != '"')
        return bad_content(w, "its content has no \"preconditions\" with a \"uid\"");
    w->v.content = uid;
    w->changed = true;
    return 0;
}

/* ---- the rest ---- */

static int not_in_1_4(struct work *w)
{
    w->drop = w->dialect == KE_DIALECT_1_4;
    return 0;
}

static int volume_query(struct work *w)
{
    return set_resource(w, w->dialect == KE_DIALECT_1_4 ? KEI_STR("default") : KEI_STR("null"),
                        "persistentvolume");
}

/* A message of the MQTT side; its resource is the topic. 1.4 sends the topic encoded. */
static int upload(struct work *w)
{
    if (!kei_str_is(w->v.source, "servicebus") && !kei_str_is(w->v.source, "bus")) {
        w->v.source = KEI_STR("bus");
        w->changed = true;
    }
    if (w->dialect != KE_DIALECT_1_4)
        return 0;
    w->v.operation = KEI_STR("response");
    w->changed = true;
    if (kei_str_is(w->v.resource, "SYS/dis/upload_records"))
        return 0;
    kei_buf_clear(&w->resource);
    kei_b64url_encode(&w->resource, w->v.resource.p, w->v.resource.n);
    while (w->resource.n % 4 && kei_buf_ok(&w->resource))
        kei_buf_addc(&w->resource, '=');
    if (!kei_buf_ok(&w->resource))
        return no_memory(w);
    w->v.resource = kei_buf_str(&w->resource);
    return 0;
}

static translate_fn find_rule(const struct work *w)
{
    static const struct {
        const char *operation, *type;
        translate_fn fn;
    } rules[] = {
        {"insert", "node", node_insert},
        {"query", "node", node_query},
        {"update", "nodestatus", node_status},
        {"update", "podstatus", pod_status},
        {"delete", "pod", pod_delete},
        {"query", "lease", not_in_1_4},
        {"insert", "lease", not_in_1_4},
        {"update", "lease", not_in_1_4},
        {"query", "serviceaccounttoken", not_in_1_4},
        {"query", "persistentvolume", volume_query},
    };

    if (kei_str_is(w->v.group, "user"))
        return kei_str_is(w->v.operation, "upload") ? upload : NULL;
    /* an answer or an acknowledgement repeats the words of the cloud: nothing to translate */
    if (!kei_str_is(w->v.group, "meta") || w->res.name.n == 0)
        return NULL;
    for (size_t i = 0; i < COUNT(rules); i++) {
        if (kei_str_is(w->v.operation, rules[i].operation) &&
            kei_str_is(w->res.type, rules[i].type))
            return rules[i].fn;
    }
    return NULL;
}

int kei_dialect_translate(struct ke_msg **ret, struct ke_ctx *ctx, struct ke_msg *m,
                          uint32_t dialect, struct ke_error *err)
{
    struct work w = {.err = err, .dialect = dialect};
    int r = 0;

    kei_buf_init(&w.content, kei_ctx_alloc(ctx));
    kei_buf_init(&w.spare, kei_ctx_alloc(ctx));
    kei_buf_init(&w.resource, kei_ctx_alloc(ctx));
    kei_msg_as_view(&w.v, m);
    if (!kei_resource_parse(&w.res, w.v.resource))
        w.res = (struct kei_resource){{NULL, 0}, {NULL, 0}, {NULL, 0}};
    translate_fn fn = find_rule(&w);
    if (fn)
        r = fn(&w);
    if (r == 0 && w.drop)
        *ret = NULL;
    else if (r == 0 && !w.changed)
        *ret = ke_msg_ref(m);
    else if (r == 0)
        r = kei_msg_build(ret, ctx, &w.v, err);
    ke_buf_free(&w.content);
    ke_buf_free(&w.spare);
    ke_buf_free(&w.resource);
    return r;
}
