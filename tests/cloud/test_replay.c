/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded traffic of EdgeCore 1.4, 1.15 and 1.23 played to the cloud: what the recorded edge said
 * is said again, and each message of the cloud is held against what the recorded CloudCore sent.
 * What its administrator did is concluded from what that cloud pushed, and done by manifests.
 *
 * Ids and versions differ by nature: a uid must stand for the same object all along, a version must
 * be the object's. Everything else that differs stands in the table below with its reason, and each
 * entry must be met, or the test fails. KE_REPLAY_LOG=1 tells what is compared.
 */
#include "cloud/cloud_rig.h"
#include "message/captures.h"
#include "message/k8s.h"

#include <unistd.h>

/* What a difference is about, besides the path of a member. */
#define NOT_SENT "<not sent>"              /* the recorded cloud pushed it, ours does not */
#define NOT_SENT_ENDED "<not sent, ended>" /* the same, of a pod that is deleted and ended */
#define NOT_SENT_AGAIN "<not sent, again>" /* the same version for the second time */
#define MORE "<more>"                      /* ours pushes it, the recorded one did not */
#define SILENT "<silent>"                  /* the recorded cloud answered, ours does not */
#define ANSWERS "<answers>"                /* ours answers, the recorded one did not */

static struct difference {
    const char *version; /* "" all */
    const char *op;      /* of the cloud's message, of the request for SILENT and ANSWERS; "" all */
    const char *type;    /* token of the resource; "" all */
    const char *path;    /* start of the path of the member, [] for any item; or one of the above */
    const char *reason;
    unsigned hits;
} differences[] = {
#include "replay_differences.h"
};
#define N_DIFFERENCES (sizeof differences / sizeof differences[0])

struct pair {
    char recorded[64], live[64], key[300];
};

struct live {
    struct ke_msg *m;
    bool used, acked;
};

struct play {
    struct rig r;
    struct edge e;
    bool edge_there;
    const char *version;
    struct live *live;
    size_t n_live, cap_live, seen_live; /* those before seen_live were judged */
    struct pair *pairs;                 /* uids, message ids, versions */
    size_t n_pairs;
    struct capture *c;
    size_t at; /* record being played */
    bool dry;  /* only look whether a message would do */
    unsigned dry_differs;
    unsigned compared, played;
};

static unsigned failures;

/* ---- the table ---- */

static bool path_starts(const char *path, const char *start)
{
    size_t n = strlen(start);
    return strncmp(path, start, n) == 0 &&
           (n == 0 || path[n] == 0 || path[n] == '.' || path[n] == '[' || start[0] == '<');
}

static bool known(const struct play *p, const char *op, const char *type, const char *path)
{
    for (size_t i = 0; i < N_DIFFERENCES; i++) {
        struct difference *d = &differences[i];
        if ((d->version[0] && strcmp(d->version, p->version + strlen("kubeedge-")) != 0) ||
            (d->op[0] && strcmp(d->op, op) != 0) || (d->type[0] && strcmp(d->type, type) != 0) ||
            !path_starts(path, d->path))
            continue;
        d->hits += !p->dry;
        return true;
    }
    return false;
}

static void differs(struct play *p, const char *op, const char *type, const char *path,
                    struct ke_str recorded, struct ke_str live)
{
    if (known(p, op, type, path))
        return;
    if (p->dry) {
        p->dry_differs++;
        return;
    }
    print_error("%s/%s line %u: %s %s: %s differs: recorded %.*s, here %.*s\n", p->version,
                p->c->name, (unsigned)p->c->r[p->at].line, op, type, path,
                (int)(recorded.n < 300 ? recorded.n : 300), recorded.p ? recorded.p : "-",
                (int)(live.n < 300 ? live.n : 300), live.p ? live.p : "-");
    failures++;
}

/* ---- what stands for what ---- */

static struct pair *pair_of(struct play *p, const char *key, struct ke_str recorded)
{
    for (size_t i = 0; i < p->n_pairs; i++)
        if (strcmp(p->pairs[i].key, key) == 0 && kei_str_is(recorded, p->pairs[i].recorded))
            return &p->pairs[i];
    return NULL;
}

static void pair_add(struct play *p, const char *key, struct ke_str recorded, struct ke_str live)
{
    p->pairs = realloc(p->pairs, (p->n_pairs + 1) * sizeof *p->pairs);
    assert_non_null(p->pairs);
    struct pair *n = &p->pairs[p->n_pairs++];
    snprintf(n->recorded, sizeof n->recorded, "%.*s", (int)recorded.n, recorded.p);
    snprintf(n->live, sizeof n->live, "%.*s", (int)live.n, live.p);
    snprintf(n->key, sizeof n->key, "%s", key);
}

/* Both strings are one uid, under its recorded and its new name. */
static bool same_uid(struct play *p, struct ke_str recorded, struct ke_str live)
{
    const struct pair *known_pair = pair_of(p, "uid", recorded);
    if (known_pair)
        return kei_str_is(live, known_pair->live);
    for (size_t i = 0; i < p->n_pairs; i++)
        if (strcmp(p->pairs[i].key, "uid") == 0 && kei_str_is(live, p->pairs[i].live))
            return false; /* it stands for another one already */
    if (!p->dry)
        pair_add(p, "uid", recorded, live);
    return true;
}

static struct ke_str text_in(struct ke_str v)
{
    return kei_json_type(v) == '"' ? kei_strn(v.p + 1, v.n - 2) : kei_strn("", 0);
}

static void learn_version(struct play *p, const char *resource, struct ke_str recorded,
                          struct ke_str live)
{
    struct pair *old = pair_of(p, resource, recorded);
    if (p->dry)
        return;
    if (old)
        snprintf(old->live, sizeof old->live, "%.*s", (int)live.n, live.p);
    else
        pair_add(p, resource, recorded, live);
}

/* ---- comparing ---- */

struct compare {
    struct play *p;
    const char *op, *type, *resource;
};

static bool is_time(struct ke_str v)
{
    struct ke_str t = text_in(v);
    return t.n >= 20 && t.p[4] == '-' && t.p[10] == 'T' && t.p[t.n - 1] == 'Z';
}

/* What is another one each time in twin messages: ids, times, and versions of objects. */
static bool is_passing(const char *path, struct ke_str a, struct ke_str b)
{
    struct ke_str p = kei_str(path);
    int64_t n;
    if (kei_str_is(p, "event_id"))
        return text_in(a).n == 36 && text_in(b).n == 36;
    return (kei_str_ends(p, KEI_STR("timestamp")) ||
            kei_str_ends(p, KEI_STR("expected_version.cloud"))) &&
           kei_json_i64(a, &n) && n > 0 && kei_json_i64(b, &n) && n > 0;
}

/* Those that the server makes: only their form is compared. */
static bool is_server_time(const char *path)
{
    return strstr(path, "metadata.creationTimestamp") || strstr(path, "metadata.deletionTimestamp");
}

static void compare(const struct compare *c, const char *path, struct ke_str a, struct ke_str b);

static void compare_maps(const struct compare *c, const char *path, struct ke_str a,
                         struct ke_str b)
{
    struct ke_str key, v, other, none = {0};
    char sub[500], name[200];
    for (size_t it = 0; kei_json_next(a, &it, &key, &v);) {
        snprintf(name, sizeof name, "%.*s", (int)key.n, key.p);
        snprintf(sub, sizeof sub, "%s%s%s", path, path[0] ? "." : "", name);
        if (!kei_json_get(b, name, &other))
            differs(c->p, c->op, c->type, sub, v, none);
        else
            compare(c, sub, v, other);
    }
    for (size_t it = 0; kei_json_next(b, &it, &key, &v);) {
        snprintf(name, sizeof name, "%.*s", (int)key.n, key.p);
        snprintf(sub, sizeof sub, "%s%s%s", path, path[0] ? "." : "", name);
        if (!kei_json_get(a, name, &other))
            differs(c->p, c->op, c->type, sub, none, v);
    }
}

static void compare_lists(const struct compare *c, const char *path, struct ke_str a,
                          struct ke_str b)
{
    struct ke_str key, va, vb, none = {0};
    char sub[500];
    size_t ia = 0, ib = 0;
    snprintf(sub, sizeof sub, "%s[]", path);
    for (;;) {
        bool more_a = kei_json_next(a, &ia, &key, &va), more_b = kei_json_next(b, &ib, &key, &vb);
        if (!more_a && !more_b)
            return;
        if (!more_a || !more_b)
            differs(c->p, c->op, c->type, sub, more_a ? va : none, more_b ? vb : none);
        else
            compare(c, sub, va, vb);
    }
}

static void compare(const struct compare *c, const char *path, struct ke_str a, struct ke_str b)
{
    const char *last = strrchr(path, '.');
    last = last ? last + 1 : path;
    if (kei_json_type(a) != kei_json_type(b)) {
        differs(c->p, c->op, c->type, path, a, b);
    } else if (is_passing(path, a, b)) {
        return;
    } else if (kei_json_type(a) == '{') {
        compare_maps(c, path, a, b);
    } else if (kei_json_type(a) == '[') {
        compare_lists(c, path, a, b);
    } else if (kei_json_type(a) == '"') {
        if (strcmp(last, "uid") == 0 ? same_uid(c->p, text_in(a), text_in(b))
                                     : kei_json_str_eq(a, b))
            return;
        if (strcmp(last, "resourceVersion") == 0 && text_in(b).n > 0)
            learn_version(c->p, c->resource, text_in(a), text_in(b));
        else if (!is_server_time(path) || !is_time(a) || !is_time(b))
            differs(c->p, c->op, c->type, path, a, b);
    } else if (kei_json_type(a) == '0' ? !kei_json_num_eq(a, b) : !kei_str_eq(a, b)) {
        differs(c->p, c->op, c->type, path, a, b);
    }
}

static const char *type_of(struct ke_str resource, char out[64])
{
    struct kei_resource r;
    if (kei_str_starts(resource, KEI_STR("membership")))
        snprintf(out, 64, "membership");
    else if (kei_str_starts(resource, KEI_STR("device/")))
        snprintf(out, 64, kei_str_has(resource, KEI_STR("/state")) ? "state" : "twin");
    else if (kei_resource_parse(&r, resource))
        snprintf(out, 64, "%.*s", (int)r.type.n, r.type.p);
    else
        snprintf(out, 64, "%.*s", (int)(resource.n < 60 ? resource.n : 60), resource.p);
    return out;
}

struct envelope {
    struct ke_str id, parent, version, source, group, op, resource, content;
    char type[64];
};

static struct ke_str member(struct ke_str o, const char *path)
{
    struct ke_str v = {0};
    return kei_json_path(o, path, &v) ? text_in(v) : kei_strn("", 0);
}

static void envelope_of(struct envelope *e, struct ke_str text)
{
    struct ke_str v = {0};
    e->id = member(text, "header.msg_id");
    e->parent = member(text, "header.parent_msg_id");
    e->version = member(text, "header.resourceversion");
    e->source = member(text, "route.source");
    e->group = member(text, "route.group");
    e->op = member(text, "route.operation");
    e->resource = member(text, "route.resource");
    e->content = kei_json_get(text, "content", &v) ? v : kei_str("null");
    type_of(e->resource, e->type);
}

static bool is(struct ke_str s, const char *text)
{
    return kei_str_is(s, text);
}

/* A message of the recorded cloud and ours, of which it is known that they belong together. */
static void compare_messages(struct play *p, const struct envelope *a, struct ke_msg *m)
{
    char op[32], resource[600], version[32];
    struct ke_str content = kei_content(m), inner = {0},
                  live_version = kei_str(ke_msg_resource_version(m));
    snprintf(op, sizeof op, "%.*s", (int)a->op.n, a->op.p);
    snprintf(resource, sizeof resource, "%.*s", (int)a->resource.n, a->resource.p);
    const struct compare c = {p, op, a->type, resource};
    p->compared += !p->dry;
    const struct {
        const char *name;
        struct ke_str recorded;
        const char *live;
    } heads[] = {{"route.source", a->source, ke_msg_source(m)},
                 {"route.group", a->group, ke_msg_group(m)},
                 {"route.operation", a->op, ke_msg_operation(m)},
                 {"route.resource", a->resource, ke_msg_resource(m)}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (!is(heads[i].recorded, heads[i].live))
            differs(p, op, a->type, heads[i].name, heads[i].recorded, kei_str(heads[i].live));
    if ((a->version.n > 0) != (live_version.n > 0))
        differs(p, op, a->type, "header.resourceversion", a->version, live_version);
    /* the version in the header is the object's */
    if (live_version.n > 0 && kei_json_type(content) == '{') {
        snprintf(version, sizeof version, "%.*s", (int)live_version.n, live_version.p);
        struct ke_str object = content;
        (void)kei_json_get(content, "Object", &object);
        inner = member(object, "metadata.resourceVersion");
        if (!is(inner, version))
            fail_msg("%s: version %s in the header, %.*s in the object", resource, version,
                     KEI_FMT(inner));
    }
    compare(&c, "", a->content, content);
}

/* ---- the edge ---- */

static void on_message(struct edge *e, struct ke_msg *m)
{
    struct play *p = e->user;
    if (p->n_live == p->cap_live) {
        p->cap_live = p->cap_live ? p->cap_live * 2 : 256;
        p->live = realloc(p->live, p->cap_live * sizeof *p->live);
        assert_non_null(p->live);
    }
    p->live[p->n_live++] = (struct live){.m = ke_msg_ref(m)};
    if (e->n_messages > 0) { /* kept here */
        edge_forget(e);
    }
}

static bool is_push(const struct live *l)
{
    return strcmp(ke_msg_operation(l->m), "response") != 0;
}

/* What the script did not acknowledge although the cloud waits for it. */
static bool ack_oldest(struct play *p)
{
    for (size_t i = 0; i < p->n_live; i++)
        if (!p->live[i].acked &&
            (is_push(&p->live[i]) || strstr(ke_msg_resource(p->live[i].m), "/configmap/") ||
             strstr(ke_msg_resource(p->live[i].m), "/secret/"))) {
            p->live[i].acked = true;
            edge_ack(&p->e, p->live[i].m);
            return true;
        }
    return false;
}

struct wanted {
    struct play *p;
    const char *parent, *op, *resource;
    const struct envelope *like; /* preferred; NULL: any will do */
    struct live *found;
};

static bool would_do(struct play *p, const struct envelope *a, struct ke_msg *m)
{
    p->dry = true;
    p->dry_differs = 0;
    compare_messages(p, a, m);
    p->dry = false;
    return p->dry_differs == 0;
}

/* In found is the first that will do, or else the newest of that name. */
static bool found(struct wanted *w)
{
    for (size_t i = 0; i < w->p->n_live; i++) {
        struct live *l = &w->p->live[i];
        if (l->used || (w->parent && strcmp(ke_msg_parent_id(l->m), w->parent) != 0) ||
            (!w->parent &&
             (!is_push(l) || strcmp(ke_msg_resource(l->m), w->resource) != 0 ||
              (strcmp(w->op, "delete") == 0) != (strcmp(ke_msg_operation(l->m), "delete") == 0))))
            continue;
        w->found = l;
        if (!w->like || would_do(w->p, w->like, l->m))
            return true;
    }
    return false;
}

static bool find_now(struct wanted *w)
{
    w->found = NULL;
    return found(w);
}

/* Looks for it, letting time pass and acknowledging what is in its way. */
static struct live *wait_live(struct wanted *w)
{
    for (int i = 0; i < 60; i++) {
        rig_ms(&w->p->r, i < 20 ? 20 : 200);
        if (find_now(w))
            return w->found;
        (void)ack_oldest(w->p);
    }
    return w->found; /* NULL, or not quite it */
}

/* The text with recorded ids and versions replaced by those of here. */
static void translate(struct play *p, struct ke_str text, const struct envelope *e,
                      struct ke_buf *out)
{
    char resource[600], want[100];
    snprintf(resource, sizeof resource, "%.*s", (int)e->resource.n, e->resource.p);
    kei_buf_init(out, kei_ctx_alloc(p->r.edges));
    for (size_t i = 0; i < text.n; i++) {
        const struct pair *hit = NULL;
        size_t n = 0;
        for (size_t k = 0; k < p->n_pairs && !hit; k++) {
            const struct pair *q = &p->pairs[k];
            bool id = strcmp(q->key, "uid") == 0 || strcmp(q->key, "msg") == 0;
            if (!id && strcmp(q->key, resource) != 0)
                continue;
            n = (size_t)snprintf(want, sizeof want, id ? "%s" : "\"resourceVersion\":\"%s\"",
                                 q->recorded);
            if (n <= text.n - i && memcmp(text.p + i, want, n) == 0)
                hit = q;
        }
        if (!hit) {
            kei_buf_addc(out, text.p[i]);
            continue;
        }
        if (strcmp(hit->key, "uid") == 0 || strcmp(hit->key, "msg") == 0)
            kei_buf_adds(out, hit->live);
        else
            kei_buf_addf(out, "\"resourceVersion\":\"%s\"", hit->live);
        i += n - 1;
    }
    assert_true(kei_buf_ok(out));
}

/* ---- what is not served by this cloud, and so not played ---- */

static bool is_left_out(const struct envelope *e)
{
    static const char *const types[] = {"rule",      "ruleendpoint",  "service", "servicelist",
                                        "endpoints", "endpointslist", "podlist"};
    if (is(e->source, "metaserver") || is(e->source, "dynamiccontroller") ||
        is(e->source, "router") || is(e->source, "router_rest") ||
        is(e->source, "router_eventbus") || is(e->group, "user"))
        return true;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (is(kei_str(e->type), types[i]))
            return true;
    return false;
}

/* ---- the administrator ---- */

static bool is_config(const struct envelope *e)
{
    return strcmp(e->type, "configmap") == 0 || strcmp(e->type, "secret") == 0;
}

static bool is_device(const struct envelope *e)
{
    return strcmp(e->type, "device") == 0 || strcmp(e->type, "devicemodel") == 0;
}

static void path_of(const struct envelope *e, char *out, size_t cap)
{
    snprintf(out, cap, "%.*s.json", (int)e->resource.n, e->resource.p);
    for (char *s = out; *s; s++)
        *s = *s == '/' ? '.' : *s;
}

/* Only what an administrator writes of an object. */
static void write_manifest(struct play *p, const struct envelope *e)
{
    static const char *const kept[] = {"name", "namespace", "labels", "annotations"};
    char name[600];
    struct ke_buf out = {0};
    struct kei_jw w;
    struct ke_str key, v, meta;
    path_of(e, name, sizeof name);
    kei_buf_init(&out, kei_ctx_alloc(p->r.edges));
    kei_jw_init(&w, &out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "apiVersion", is_device(e) ? "devices.kubeedge.io/v1beta1" : "v1");
    kei_jw_kstr(&w, "kind",
                strcmp(e->type, "pod") == 0           ? "Pod"
                : strcmp(e->type, "device") == 0      ? "Device"
                : strcmp(e->type, "devicemodel") == 0 ? "DeviceModel"
                : strcmp(e->type, "secret") == 0      ? "Secret"
                                                      : "ConfigMap");
    assert_true(kei_json_get(e->content, "metadata", &meta));
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    for (size_t i = 0; i < 4; i++)
        if (kei_json_get(meta, kept[i], &v))
            kei_jw_kraw(&w, kept[i], v);
    kei_jw_obj_end(&w);
    for (size_t it = 0; kei_json_next(e->content, &it, &key, &v);)
        if (!kei_json_key_is(key, "metadata") &&
            (!kei_json_key_is(key, "status") || strcmp(e->type, "device") == 0) &&
            !kei_json_key_is(key, "kind") && !kei_json_key_is(key, "apiVersion")) {
            char k[64];
            snprintf(k, sizeof k, "%.*s", (int)key.n, key.p);
            kei_jw_kraw(&w, k, v);
        }
    kei_jw_obj_end(&w);
    assert_true(kei_buf_ok(&out));
    kei_buf_addc(&out, 0);
    rig_manifest(&p->r, name, out.p);
    ke_buf_free(&out);
    if (rig_line(&p->r, "error", 0))
        fail_msg("manifest: %s", rig_line(&p->r, "error", 0));
}

static bool has_manifest(struct play *p, const struct envelope *e)
{
    char name[600], path[800];
    path_of(e, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", p->r.manifests, name);
    return access(path, F_OK) == 0;
}

static void remove_manifest(struct play *p, const struct envelope *e)
{
    char name[600];
    path_of(e, name, sizeof name);
    if (has_manifest(p, e))
        rig_manifest(&p->r, name, NULL);
}

/* A Device or DeviceModel as the recorded cloud sent it. */
static void act_device(struct play *p, const struct envelope *e)
{
    char name[300];
    const char *slash = e->resource.p + e->resource.n;
    struct ke_str have, want;
    while (slash[-1] != '/')
        slash--;
    snprintf(name, sizeof name, "%.*s", (int)(e->resource.p + e->resource.n - slash), slash);
    const struct kei_object *o = rig_object(&p->r, e->type, "default", name);
    struct ke_str uid = member(e->content, "metadata.uid");
    bool made = pair_of(p, "made", uid) != NULL;
    if (!made)
        pair_add(p, "made", uid, uid);
    if (o && !made) {
        remove_manifest(p, e); /* it was made anew between two files */
        assert_true(rig_wait_gone(&p->r, e->type, "default", name));
        o = NULL;
    }
    if (o && kei_json_get(kei_buf_str(&o->json), "spec", &have) &&
        kei_json_get(e->content, "spec", &want) && kei_json_same(have, want))
        return; /* a report came back, no manifest changed */
    write_manifest(p, e);
}

/* The next message of the recorded cloud about devices of this kind. */
static bool next_device(const struct play *p, const char *type, const char *op, struct envelope *e)
{
    for (size_t i = p->at; i < p->c->n; i++) {
        if (!capture_is(&p->c->r[i], "ws-message", "c2e") || strcmp(p->c->r[i].listener, "ws") != 0)
            continue;
        envelope_of(e, p->c->r[i].text);
        if (strcmp(e->type, type) == 0 && is(e->op, op))
            return true;
    }
    return false;
}

/* A device of 1.4, of which only the desired values are on the wire. */
static void write_device_1_4(struct play *p, struct ke_str name, struct ke_str twins)
{
    struct ke_buf out = {0};
    struct ke_str key, twin, v;
    char file[200];
    kei_buf_init(&out, kei_ctx_alloc(p->r.edges));
    kei_buf_addf(&out,
                 "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\","
                 "\"metadata\":{\"name\":\"%.*s\"},\"spec\":{\"deviceModelRef\":{\"name\":"
                 "\"m\"},\"nodeSelector\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{"
                 "\"values\":[\"%s\"]}]}]}},\"status\":{\"twins\":[",
                 KEI_FMT(name), p->e.name);
    for (size_t it = 0, n = 0; kei_json_next(twins, &it, &key, &twin); n++) {
        assert_true(kei_json_path(twin, "expected.value", &v));
        kei_buf_addf(&out, "%s{\"propertyName\":\"%.*s\",\"desired\":{\"value\":%.*s,",
                     n ? "," : "", KEI_FMT(key), KEI_FMT(v));
        assert_true(kei_json_get(twin, "metadata", &v));
        kei_buf_addf(&out, "\"metadata\":%.*s}}", KEI_FMT(v));
    }
    kei_buf_adds(&out, "]}}");
    kei_buf_addc(&out, 0);
    assert_true(kei_buf_ok(&out));
    snprintf(file, sizeof file, "device-%.*s.json", KEI_FMT(name));
    rig_manifest(&p->r, file, out.p);
    ke_buf_free(&out);
}

static struct ke_str first_of(struct ke_str content, const char *list)
{
    struct ke_str v, k, item = {0};
    size_t it = 0;
    if (kei_json_get(content, list, &v) && kei_json_type(v) == '[')
        (void)kei_json_next(v, &it, &k, &item);
    return item;
}

/* Membership and desired values: what was done stands in a later message, or, in 1.4, in this one.
 */
static void act_twin(struct play *p, const struct envelope *e)
{
    bool old = strstr(p->version, "1.4") != NULL;
    struct ke_str added = first_of(e->content, "added_devices"), twins = KEI_STR("{}");
    struct envelope other;
    char file[200];
    if (!old) {
        if (added.n > 0 && next_device(p, "devicemodel", "insert", &other))
            act_device(p, &other);
        if (added.n > 0 && next_device(p, "device", "insert", &other))
            act_device(p, &other);
        if (added.n == 0 && next_device(p, "device", "delete", &other))
            remove_manifest(p, &other);
    } else if (added.n > 0) {
        (void)kei_json_get(added, "twin", &twins);
        write_device_1_4(p, member(added, "name"), twins);
    } else if (strcmp(e->type, "twin") == 0) {
        struct ke_str rest, name = kei_str_cut(e->resource, '/', &rest);
        name = kei_str_cut(rest, '/', &rest);
        (void)kei_json_get(e->content, "twin", &twins);
        write_device_1_4(p, name, twins);
    } else {
        struct ke_str name = member(first_of(e->content, "removed_devices"), "name");
        snprintf(file, sizeof file, "device-%.*s.json", KEI_FMT(name));
        rig_manifest(&p->r, file, NULL);
    }
}

/* What must have been done for the recorded cloud to push this. */
static void act(struct play *p, const struct envelope *e)
{
    bool pod = strcmp(e->type, "pod") == 0;
    struct envelope other;
    if (is(e->group, "twin")) {
        act_twin(p, e);
        return;
    }
    if (is_device(e) && is(e->op, "delete")) {
        /* a model leaves the node with its last device; the manifest of it stays */
        if (next_device(p, "device", "delete", &other))
            remove_manifest(p, &other);
        return;
    }
    if (is_device(e)) {
        act_device(p, e);
        return;
    }
    if (!pod && !is_config(e))
        return;
    if (is(e->op, "delete") || (pod && member(e->content, "metadata.deletionTimestamp").n > 0))
        remove_manifest(p, e);
    else if (is(e->op, "insert") || is(e->op, "update"))
        write_manifest(p, e);
}

/* Objects that were there before the edge asked for them. */
static void act_ahead(struct play *p)
{
    for (size_t i = 0; i < p->c->n; i++) {
        struct envelope e;
        if (!capture_is(&p->c->r[i], "ws-message", "c2e"))
            continue;
        envelope_of(&e, p->c->r[i].text);
        struct ke_str name;
        if (is(e.op, "response") && is_config(&e) &&
            kei_json_path(e.content, "metadata.name", &name) && !has_manifest(p, &e))
            write_manifest(p, &e);
    }
    rig_ms(&p->r, 3000);
}

/* ---- playing ---- */

static const struct capture_record *recorded_reply(const struct play *p, struct ke_str id)
{
    for (size_t i = 0; i < p->c->n; i++) {
        struct envelope e;
        if (!capture_is(&p->c->r[i], "ws-message", "c2e") || strcmp(p->c->r[i].listener, "ws") != 0)
            continue;
        envelope_of(&e, p->c->r[i].text);
        if (is(e.op, "response") && kei_str_eq(e.parent, id))
            return &p->c->r[i];
    }
    return NULL;
}

static void pair_ids(struct play *p, struct ke_str recorded, struct live *l)
{
    l->used = true;
    if (!pair_of(p, "msg", recorded))
        pair_add(p, "msg", recorded, kei_str(ke_msg_id(l->m)));
}

static void play_ack(struct play *p, const struct capture_record *r, const struct envelope *e)
{
    const struct pair *id = pair_of(p, "msg", e->parent);
    struct ke_buf text;
    if (!id || !p->e.open)
        return; /* of a message that is left out, or was not sent */
    translate(p, r->text, e, &text);
    edge_text(&p->e, text.p, text.n);
    ke_buf_free(&text);
    for (size_t i = 0; i < p->n_live; i++)
        if (strcmp(ke_msg_id(p->live[i].m), id->live) == 0)
            p->live[i].acked = true;
    rig_settle(&p->r);
}

/* A Lease that the recorded edge had from a life before. */
static void seed_lease(struct play *p, const struct envelope *e, const struct capture_record *reply)
{
    struct ke_str content = {0}, object;
    char resource[600], id[37];
    if (strcmp(e->type, "lease") != 0 || !is(e->op, "query") ||
        rig_object(&p->r, "lease", "kube-node-lease", p->e.name) ||
        !kei_json_get(reply->text, "content", &content) ||
        !kei_json_get(content, "Object", &object) || kei_json_type(object) != '{')
        return;
    char *text = strndup(object.p, object.n);
    snprintf(resource, sizeof resource, "%.*s", (int)e->resource.n, e->resource.p);
    snprintf(id, sizeof id, "%s", edge_send(&p->e, "insert", resource, text));
    free(text);
    struct wanted w = {.p = p, .parent = id};
    struct live *l = wait_live(&w);
    assert_non_null(l);
    l->used = true;
}

/* Between its files the recording has gaps, in which leases were renewed. */
static void catch_up_lease(struct play *p, const struct envelope *e)
{
    struct ke_str recorded = member(e->content, "metadata.resourceVersion");
    const struct kei_object *o = rig_object(&p->r, "lease", "kube-node-lease", p->e.name);
    char resource[600], live[32];
    snprintf(resource, sizeof resource, "%.*s", (int)e->resource.n, e->resource.p);
    if (strcmp(e->type, "lease") != 0 || recorded.n == 0 || !o || pair_of(p, resource, recorded))
        return;
    snprintf(live, sizeof live, "%lld", (long long)o->version);
    learn_version(p, resource, recorded, kei_str(live));
}

static void play_request(struct play *p, const struct capture_record *r, const struct envelope *e)
{
    const struct capture_record *reply = recorded_reply(p, e->id);
    struct ke_buf text;
    struct envelope a;
    char id[64], op[32];
    if (getenv("KE_REPLAY_LOG"))
        fprintf(stderr, "%s line %u: %.*s %.*s\n", p->c->name, (unsigned)r->line, KEI_FMT(e->op),
                KEI_FMT(e->resource));
    if (!p->e.open)
        return;
    p->played++;
    snprintf(id, sizeof id, "%.*s", (int)e->id.n, e->id.p);
    snprintf(op, sizeof op, "%.*s", (int)e->op.n, e->op.p);
    if (reply)
        seed_lease(p, e, reply);
    catch_up_lease(p, e);
    translate(p, r->text, e, &text);
    edge_text(&p->e, text.p, text.n);
    ke_buf_free(&text);
    struct wanted w = {.p = p, .parent = id};
    struct live *l = NULL;
    if (!reply) {
        rig_ms(&p->r, 50);
        if (!id[0] || !find_now(&w))
            return;
        w.found->used = w.found->acked = true;
        differs(p, op, e->type, ANSWERS, kei_strn("", 0), kei_content(w.found->m));
        return;
    }
    l = wait_live(&w);
    if (!l) {
        differs(p, op, e->type, SILENT, reply->text, kei_strn("", 0));
        return;
    }
    envelope_of(&a, reply->text);
    compare_messages(p, &a, l->m);
    pair_ids(p, a.id, l);
}

static void play_push(struct play *p, const struct capture_record *r, const struct envelope *e)
{
    char op[32], resource[600];
    if (getenv("KE_REPLAY_LOG"))
        fprintf(stderr, "%s line %u: cloud: %.*s %.*s\n", p->c->name, (unsigned)r->line,
                KEI_FMT(e->op), KEI_FMT(e->resource));
    snprintf(op, sizeof op, "%.*s", (int)e->op.n, e->op.p);
    snprintf(resource, sizeof resource, "%.*s", (int)e->resource.n, e->resource.p);
    act(p, e);
    struct wanted w = {.p = p, .op = op, .resource = resource, .like = e};
    struct live *l = wait_live(&w);
    if (!l) {
        struct ke_str grace, phase = member(e->content, "status.phase");
        int64_t n = -1;
        bool ended = strcmp(op, "update") == 0 &&
                     member(e->content, "metadata.deletionTimestamp").n > 0 &&
                     ((kei_json_path(e->content, "metadata.deletionGracePeriodSeconds", &grace) &&
                       kei_json_i64(grace, &n) && n == 0) ||
                      is(phase, "Succeeded") || is(phase, "Failed"));
        bool again = pair_of(p, resource, e->version);
        differs(p, op, e->type,
                again   ? NOT_SENT_AGAIN
                : ended ? NOT_SENT_ENDED
                        : NOT_SENT,
                r->text, kei_strn("", 0));
        if (strcmp(op, "delete") != 0 || strcmp(e->type, "pod") != 0)
            return;
        /* it was forced there; here the node says that it is over */
        (void)edge_send(&p->e, "delete", resource, "{}");
        l = wait_live(&w);
        assert_non_null(l);
    }
    compare_messages(p, e, l->m);
    pair_ids(p, e->id, l);
}

/* What is left over of ours. */
static void judge_rest(struct play *p)
{
    for (; p->seen_live < p->n_live; p->seen_live++) {
        struct live *l = &p->live[p->seen_live];
        char type[64];
        if (l->used || !is_push(l))
            continue;
        differs(p, ke_msg_operation(l->m), type_of(kei_str(ke_msg_resource(l->m)), type), MORE,
                kei_strn("", 0), kei_content(l->m));
    }
}

static void connect_as(struct play *p, const char *start)
{
    const char *events = strstr(start, "/events"), *name = events;
    while (name && name > start && name[-1] != '/')
        name--;
    assert_non_null(events);
    if (p->edge_there && p->e.ws)
        edge_drop(&p->e);
    if (!p->edge_there) {
        char node[256];
        snprintf(node, sizeof node, "%.*s", (int)(events - name), name);
        edge_init(&p->e, &p->r, node);
        p->e.agent = "Go-http-client/1.1";
        p->e.no_ack = true;
        p->e.beats = true;
        p->e.user = p;
        p->e.on_message = on_message;
        if (!strstr(p->version, "1.23")) {
            p->e.cn = "kubeedge.io";
            p->e.org = "KubeEdge";
        }
        p->edge_there = true;
    }
    rig_ms(&p->r, 100);
    if (!edge_connect(&p->e))
        fail_msg("%s/%s: refused: %s", p->version, p->c->name, p->e.close_text);
}

static void play_record(struct play *p, size_t i)
{
    const struct capture_record *r = &p->c->r[i];
    struct envelope e;
    p->at = i;
    if (strcmp(r->listener, "ws") != 0)
        return;
    if (capture_is(r, "http-request", "e2c")) {
        connect_as(p, r->start);
    } else if (capture_is(r, "close", "") || strcmp(r->kind, "close") == 0) {
        if (strstr(p->c->name, "node-delete")) {
            /* the administrator deletes the Node: that ends the connection, without a message */
            assert_int_equal(kei_cloud_node_delete(p->r.c, p->e.name), 0);
            assert_true(edge_wait_closed(&p->e));
        } else if (p->edge_there && p->e.ws) {
            edge_drop(&p->e);
        }
        rig_ms(&p->r, 100);
    } else if (strcmp(r->kind, "ws-message") == 0) {
        envelope_of(&e, r->text);
        if (is_left_out(&e))
            return;
        if (strcmp(r->dir, "c2e") == 0) {
            if (!is(e.op, "response"))
                play_push(p, r, &e);
        } else if (is(e.op, "response")) {
            play_ack(p, r, &e);
        } else if (!is(e.op, "keepalive")) {
            play_request(p, r, &e);
        }
    }
}

static void play_files(const char *version, const char *const *names)
{
    struct play p;
    memset(&p, 0, sizeof p);
    failures = 0;
    p.version = version;
    rig_init(&p.r, NULL);
    p.r.quiet = false;
    rig_start(&p.r);
    for (; *names; names++) {
        struct capture c;
        capture_load(&c, version, *names);
        p.c = &c;
        p.at = 0;
        rig_forget(&p.r);
        act_ahead(&p);
        for (size_t i = 0; i < c.n; i++)
            play_record(&p, i);
        rig_ms(&p.r, 3000);
        while (p.e.open && ack_oldest(&p))
            rig_ms(&p.r, 100);
        judge_rest(&p);
        capture_free(&c);
    }
    print_message("%s: %u messages played, %u answers and pushes compared\n", version, p.played,
                  p.compared);
    assert_true(p.compared > 15);
    assert_int_equal(failures, 0);
    for (size_t i = 0; i < p.n_live; i++)
        ke_msg_unref(p.live[i].m);
    free(p.live);
    free(p.pairs);
    edge_fini(&p.e);
    rig_fini(&p.r);
}

/* In the order of the recording, without streams and what only the API server did. */
static void edgecore_1_15(void **state)
{
    static const char *const files[] = {"01-register",
                                        "02-unreferenced",
                                        "03-pod-create",
                                        "04-configmap-update",
                                        "05-secret-update",
                                        "06-pod-update",
                                        "07-pod-cni-service",
                                        "08-container-crash",
                                        "09-pod-delete",
                                        "10-service-delete",
                                        "11-pvc-pod",
                                        "12-pvc-pod-delete",
                                        "13-pod-error",
                                        "14-pod-force-delete",
                                        "15-job-completed",
                                        "16-configmap-delete",
                                        "20-devicemodel-create",
                                        "21-device-create",
                                        "22-device-desired-change",
                                        "23-membership-get",
                                        "24-twin-get",
                                        "25-twin-update",
                                        "26-twin-update-again",
                                        "27-twin-update-invalid",
                                        "28-state-update",
                                        "29-device-property-removed",
                                        "30-devicemodel-update",
                                        "31-upload",
                                        "32-rules",
                                        "33-rule-rest-to-eventbus",
                                        "34-rule-eventbus-to-rest",
                                        "35-rule-rest-to-servicebus",
                                        "36-rules-delete",
                                        "37-device-delete",
                                        "40-device-with-status",
                                        "41-twin-update-with-status",
                                        "42-edge-restart",
                                        "43-cloud-restart",
                                        "44-cert-rotation",
                                        "45-late-delete",
                                        "46-node-delete",
                                        "47-after-node-delete",
                                        NULL};
    (void)state;
    play_files("kubeedge-1.15", files);
}

static void edgecore_1_15_again(void **state)
{
    static const char *const files[] = {"60-stream-connect",
                                        "61-logs",
                                        "62-logs-follow",
                                        "63-exec",
                                        "64-metrics",
                                        "65-metaserver-list",
                                        "66-metaserver-write",
                                        "68-graceful-stop",
                                        NULL};
    (void)state;
    play_files("kubeedge-1.15", files);
}

static void edgecore_1_23(void **state)
{
    static const char *const files[] = {"01-register",
                                        "02-pod-create",
                                        "03-configmap-update",
                                        "04-device-create",
                                        "05-twin-update",
                                        "06-pod-delete",
                                        "07-stop",
                                        NULL};
    (void)state;
    play_files("kubeedge-1.23", files);
}

static void edgecore_1_4(void **state)
{
    static const char *const files[] = {"01-register",
                                        "02-pod-create",
                                        "03-configmap-update",
                                        "04-secret-update",
                                        "05-service",
                                        "06-device-create",
                                        "07-device-desired-change",
                                        "08-twin-update",
                                        "09-device-delete",
                                        "10-pod-delete",
                                        "11-restart",
                                        "12-node-delete",
                                        NULL};
    (void)state;
    play_files("kubeedge-1.4", files);
}

static void edgecore_1_4_again(void **state)
{
    static const char *const files[] = {"20-register-2", "21-pod-run", "22-pod-delete", "23-kill",
                                        NULL};
    (void)state;
    play_files("kubeedge-1.4", files);
}

static void each_difference_was_met(void **state)
{
    unsigned missed = 0;
    (void)state;
    for (size_t i = 0; i < N_DIFFERENCES; i++) {
        const struct difference *d = &differences[i];
        if (d->hits > 0)
            continue;
        print_error("never met: %s %s %s %s (%s)\n", d->version, d->op, d->type, d->path,
                    d->reason);
        missed++;
    }
    assert_int_equal(missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edgecore_1_23),       cmocka_unit_test(edgecore_1_15),
        cmocka_unit_test(edgecore_1_15_again), cmocka_unit_test(edgecore_1_4),
        cmocka_unit_test(edgecore_1_4_again),  cmocka_unit_test(each_difference_was_met),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
