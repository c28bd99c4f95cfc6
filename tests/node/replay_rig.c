/* SPDX-License-Identifier: Apache-2.0 */
/* See replay_rig.h. */
#include "node/replay_rig.h"

#include "base/codec.h"
#include "message/k8s.h"
#include "message/msg_priv.h"

#define SAID_MAX 4096
#define STEP_MS 250
#define CERT_S 1800       /* so that one can grow old */
#define PATIENCE_MS 20000 /* for a message of which there must be one */
#define SHORTLY_MS 3000   /* for one of those that may be put together differently */

/* One message of the recording. */
struct entry {
    const struct capture_record *r; /* NULL: no message of the tunnel */
    bool e2c;
    struct ke_str id, parent, version, source, group, op, resource, content;
    char type[64], what[100];
    struct said *live; /* ours that stands for it */
    bool due;          /* one is missing */
};

/* One message of our node. */
struct said {
    struct ke_msg *m;
    struct entry *theirs;
    bool answered, judged;
    char type[64], what[100];
};

/* One message our node was sent and may have to acknowledge. */
struct heard {
    char id[40], what[100];
    struct entry *ack; /* how the recorded node acknowledged it */
    bool sure;         /* whether it did is known */
    unsigned line, acks;
    int64_t at_ms;
};

struct answer {
    char what[100], resource[300];
    char *text;
};

struct replay {
    struct test_env env;
    struct fake_cloud fc;
    struct replay_runtime rt;
    struct ke_runtime_ops ops;
    struct ke_node *node;
    char dir[200], version[8], name[64], capture_name[80];
    struct capture *c;
    struct entry *e;
    size_t at, n;
    unsigned live_conn;
    bool quiet, remade, api_down, had_token, no_probes;
    struct models models;
    struct said said[SAID_MAX];
    unsigned n_said;
    struct heard heard[SAID_MAX];
    unsigned n_heard;
    struct answer answers[256]; /* the last of each kind, of all recordings */
    unsigned n_answers;
    char asked[64][300]; /* what was ever queried by us */
    unsigned n_asked;
    int64_t start_ms;
    char lease_version[32]; /* of the last Lease our node was given */
    char alias[8][2][64];
    unsigned n_alias;
    unsigned seen_ca, seen_edge, seen_upgrades, played, compared, dry;
};

static struct place place_at(struct replay *p, const char *what)
{
    struct place at = {p->capture_name, p->c ? p->c->r[p->at].line : 0, what,
                       p->quiet ? &p->dry : NULL};
    return at;
}

static struct ke_str none(void)
{
    return kei_strn(NULL, 0);
}

static bool is(struct ke_str s, const char *text)
{
    return kei_str_is(s, text);
}

static void chars(char *out, size_t cap, struct ke_str s)
{
    snprintf(out, cap, "%.*s", (int)s.n, s.p ? s.p : "");
}

/* ---- reading the recording ---- */

static struct ke_str member(struct ke_str o, const char *path)
{
    struct ke_str v;
    return kei_json_path(o, path, &v) && kei_json_type(v) == '"' ? kei_strn(v.p + 1, v.n - 2)
                                                                 : kei_strn("", 0);
}

static void class_of(struct ke_str op, struct ke_str resource, char type[64], char what[100])
{
    struct kei_resource r;
    if (kei_resource_parse(&r, resource))
        chars(type, 64, r.type);
    else
        chars(type, 64, resource);
    /* 1.4 tells all of them each minute */
    bool all = strcmp(type, "podstatus") == 0 && r.name.n == 0;
    snprintf(what, 100, "%.*s %s%s", (int)(op.n < 30 ? op.n : 30), op.p ? op.p : "", type,
             all ? "es" : "");
}

static void read_entry(struct entry *e, const struct capture_record *r)
{
    struct ke_str text = r->text;
    memset(e, 0, sizeof *e);
    if (strcmp(r->kind, "ws-message") != 0 || strcmp(r->listener, "ws") != 0)
        return;
    e->r = r;
    e->e2c = strcmp(r->dir, "e2c") == 0;
    e->id = member(text, "header.msg_id");
    e->parent = member(text, "header.parent_msg_id");
    e->version = member(text, "header.resourceversion");
    e->source = member(text, "route.source");
    e->group = member(text, "route.group");
    e->op = member(text, "route.operation");
    e->resource = member(text, "route.resource");
    if (!kei_json_get(text, "content", &e->content))
        e->content = KEI_STR("null");
    class_of(e->op, e->resource, e->type, e->what);
}

static bool is_request(const struct entry *e)
{
    return e->r && e->e2c && e->op.n > 0 && !is(e->op, "response") && !is(e->op, "keepalive");
}

static struct entry *entry_of(struct replay *p, struct ke_str id, bool e2c)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->e[i].r && p->e[i].e2c == e2c && p->e[i].id.n > 0 && kei_str_eq(p->e[i].id, id))
            return &p->e[i];
    return NULL;
}

/* The answer to a request, or the acknowledgement of a message. */
static struct entry *answer_of(struct replay *p, struct ke_str id, bool e2c)
{
    for (size_t i = 0; id.n > 0 && i < p->n; i++)
        if (p->e[i].r && p->e[i].e2c == e2c && is(p->e[i].op, "response") &&
            kei_str_eq(p->e[i].parent, id))
            return &p->e[i];
    return NULL;
}

/* Those of which the number does not count: how a status is cut into patches, how often an object
 * is asked for, when the period of a lease begins. */
static bool is_free(const char *what)
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

static bool is_periodic(const char *what)
{
    return strcmp(what, "update lease") == 0 || strcmp(what, "update nodestatus") == 0 ||
           strcmp(what, "update podstatuses") == 0;
}

/* ---- the cloud's view ---- */

static void pod_key(const struct kei_resource *r, char key[200])
{
    snprintf(key, 200, "%.*s/%.*s", (int)r->ns.n, r->ns.p, (int)r->name.n, r->name.p);
}

/* The text of a content that must be a string with JSON in it; free it. */
static char *inner_json(struct replay *p, const char *what, struct ke_str content)
{
    struct ke_buf b;
    if (kei_json_type(content) != '"') {
        fail_msg("%s line %u: %s: the content is no string: %.*s", p->capture_name,
                 p->c->r[p->at].line, what, (int)content.n, content.p);
    }
    kei_buf_init(&b, kei_alloc_malloc());
    assert_int_equal(kei_json_str(content, &b, NULL), 0);
    char *copy = strndup(b.p, b.n);
    ke_buf_free(&b);
    return copy;
}

static void take_pod_status(struct replay *p, enum side side, struct ke_str ns, struct ke_str item)
{
    char key[200];
    struct ke_str status;
    snprintf(key, sizeof key, "%.*s/%.*s", (int)ns.n, ns.p, (int)member(item, "Name").n,
             member(item, "Name").p);
    struct model *m = model_find(&p->models, "pod", key, false);
    if (m && is(member(item, "UID"), m->uid) && kei_json_get(item, "Status", &status))
        model_status(m, side, status);
}

static void take_node(struct replay *p, enum side side, const char *op, struct ke_str content)
{
    struct model *m = model_find(&p->models, "node", "", true);
    struct ke_str status;
    if (strcmp(op, "insert") == 0 && (!m->doc[side] || p->remade))
        model_set(m, side, content);
    else if (strcmp(op, "update") == 0 && kei_json_get(content, "Status", &status))
        model_status(m, side, status);
}

/* What a report of either side changes. */
static void take_report(struct replay *p, enum side side, struct ke_str op, struct ke_str resource,
                        struct ke_str content)
{
    struct kei_resource r;
    struct ke_str item;
    char key[200], word[32], *patch;
    if (!kei_resource_parse(&r, resource))
        return;
    chars(word, sizeof word, op);
    if (is(r.type, "podpatch")) {
        pod_key(&r, key);
        struct model *m = model_find(&p->models, "pod", key, false);
        patch = inner_json(p, "podpatch", content);
        if (m && is(member(kei_str(patch), "metadata.uid"), m->uid))
            model_patch(m, side, kei_str(patch));
        free(patch);
    } else if (is(r.type, "podstatus") && kei_json_type(content) == '[') {
        for (size_t it = 0; kei_json_next(content, &it, NULL, &item);)
            take_pod_status(p, side, r.ns, item);
    } else if (is(r.type, "podstatus")) {
        take_pod_status(p, side, r.ns, content);
    } else if (is(r.type, "nodepatch")) {
        patch = inner_json(p, "nodepatch", content);
        model_patch(model_find(&p->models, "node", "", true), side, kei_str(patch));
        free(patch);
    } else if (is(r.type, "node") || is(r.type, "nodestatus")) {
        take_node(p, side, word, content);
    }
}

/* A pod our node is told of. */
static void know_pod(struct replay *p, const struct entry *e)
{
    struct kei_resource r;
    char key[200], uid[64];
    if (strcmp(e->type, "pod") != 0 || !kei_resource_parse(&r, e->resource))
        return;
    pod_key(&r, key);
    chars(uid, sizeof uid, member(e->content, "metadata.uid"));
    struct model *m = model_find(&p->models, "pod", key, false);
    struct place at = place_at(p, "pod");
    if (m && (strcmp(m->uid, uid) != 0 || is(e->op, "delete"))) {
        model_compare(m, &at);
        model_remove(&p->models, m);
        m = NULL;
    }
    if (m || is(e->op, "delete"))
        return;
    m = model_find(&p->models, "pod", key, true);
    snprintf(m->uid, sizeof m->uid, "%s", uid);
    model_set(m, THEIRS, e->content);
    model_set(m, OURS, e->content);
    for (unsigned i = 0; i < m->n_courses; i++)
        m->courses[i].text[THEIRS][0] = m->courses[i].text[OURS][0] = 0;
}

/* ---- sending to our node ---- */

/* The recorded message in the frames it came in. */
static void send_frames(struct replay *p, struct ke_str text, const struct capture_record *r)
{
    struct kei_stream *s = kei_ws_stream(p->fc.ws);
    size_t n = r->n_frames ? r->n_frames : 1, at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t left = text.n - at, len = r->n_frames ? r->frames[i].len : left;
        if (len > left || (i + 1 == n && len > 0))
            len = left; /* what was taken out of the recording makes it shorter */
        if (i + 2 == n && r->frames[i + 1].len == 0)
            len = left;
        uint8_t head[10] = {(uint8_t)((i + 1 == n ? 0x80 : 0) | (i == 0 ? 1 : 0))};
        size_t h = 2;
        if (len < 126) {
            head[1] = (uint8_t)len;
        } else {
            head[1] = 127;
            for (int k = 0; k < 8; k++)
                head[2 + k] = (uint8_t)((uint64_t)len >> (56 - 8 * k));
            h = 10;
            if (len < 65536) {
                head[1] = 126;
                head[2] = (uint8_t)(len >> 8);
                head[3] = (uint8_t)len;
                h = 4;
            }
        }
        assert_int_equal(kei_stream_write(s, head, h), 0);
        if (len > 0)
            assert_int_equal(kei_stream_write(s, text.p + at, len), 0);
        at += len;
    }
    assert_int_equal(at, text.n);
}

static void replace(char *text, const char *from, const char *to)
{
    size_t n = strlen(from);
    assert_int_equal(n, strlen(to));
    if (n > 0)
        for (char *s = text; (s = strstr(s, from)); s += n)
            memcpy(s, to, n);
}

static void set_member(char **text, const char *path, struct ke_str value)
{
    struct ke_buf out;
    kei_buf_init(&out, kei_alloc_malloc());
    assert_int_equal(kei_json_set(&out, kei_str(*text), path, value, NULL), 0);
    free(*text);
    *text = strndup(out.p, out.n);
    ke_buf_free(&out);
}

/* Where the cloud speaks of what a node reported, it has it from ours. */
static void put_own_status(struct replay *p, const char *type, struct ke_str resource, char **text)
{
    struct kei_resource r;
    struct ke_str status, v;
    char key[200];
    struct model *m = NULL;
    const char *path = "content.status";
    if (!kei_resource_parse(&r, resource))
        return;
    pod_key(&r, key);
    if (strcmp(type, "pod") == 0 || strcmp(type, "podpatch") == 0)
        m = model_find(&p->models, "pod", key, false);
    else if (strcmp(type, "nodepatch") == 0 || strcmp(type, "node") == 0)
        m = model_find(&p->models, "node", "", false);
    if (kei_json_path(kei_str(*text), "content.Object", &v))
        path = "content.Object.status";
    if (m && kei_json_path(kei_str(*text), path, &v) && model_member(m, OURS, "status", &status) &&
        (strcmp(path, "content.status") == 0 ||
         kei_json_path(kei_str(*text), "content.Object.metadata.name", &v)))
        set_member(text, path, status);
}

/* The probes of a pod's containers, which our node does not know yet. */
static void drop_probes(char **text)
{
    struct ke_str list, c, v;
    struct ke_buf out;
    if (!kei_json_path(kei_str(*text), "content.spec.containers", &list) ||
        !strstr(*text, "\"readinessProbe\":"))
        return;
    kei_buf_init(&out, kei_alloc_malloc());
    for (size_t it = 0; kei_json_next(list, &it, NULL, &c);) {
        kei_buf_addc(&out, out.n ? ',' : '[');
        if (kei_json_get(c, "readinessProbe", &v))
            assert_int_equal(kei_json_set(&out, c, "readinessProbe", none(), NULL), 0);
        else
            kei_buf_addv(&out, c);
    }
    kei_buf_addc(&out, ']');
    set_member(text, "content.spec.containers", kei_buf_str(&out));
    ke_buf_free(&out);
}

static struct heard *hear(struct replay *p, struct ke_str id, const char *what, struct entry *ack,
                          bool sure)
{
    assert_true(p->n_heard < SAID_MAX);
    struct heard *h = &p->heard[p->n_heard++];
    memset(h, 0, sizeof *h);
    chars(h->id, sizeof h->id, id);
    snprintf(h->what, sizeof h->what, "%s", what);
    h->ack = ack;
    h->sure = sure;
    h->line = p->c->r[p->at].line;
    h->at_ms = ke_ctx_mono_ms(p->env.ctx);
    return h;
}

static void note_lease(struct replay *p, const char *type, struct ke_str text)
{
    if (strcmp(type, "lease") == 0 && member(text, "content.Object.metadata.resourceVersion").n > 0)
        chars(p->lease_version, sizeof p->lease_version,
              member(text, "content.Object.metadata.resourceVersion"));
}

/* A message of the recorded cloud; to: our request it answers, or NULL. */
static void send_entry(struct replay *p, struct entry *e, const struct said *to)
{
    char *text = strndup(e->r->text.p, e->r->text.n), parent[64];
    struct entry *ack = answer_of(p, e->id, true);
    size_t i = (size_t)(e - p->e);
    if (!p->fc.ws) {
        free(text);
        return;
    }
    if (to) {
        chars(parent, sizeof parent, e->parent);
        replace(text, parent, ke_msg_id(to->m));
    }
    for (unsigned k = 0; k < p->n_alias; k++)
        replace(text, p->alias[k][0], p->alias[k][1]);
    put_own_status(p, e->type, e->resource, &text);
    if (p->no_probes)
        drop_probes(&text);
    note_lease(p, e->type, kei_str(text));
    /* the recording may have ended before it was acknowledged */
    if (e->id.n > 0)
        hear(p, e->id, e->what, ack, ack || i + 6 < p->n);
    if (getenv("KE_REPLAY_LOG"))
        fprintf(stderr, "%s line %u: cloud: %s %.*s\n", p->capture_name, e->r->line, e->what,
                (int)e->resource.n, e->resource.p);
    send_frames(p, kei_str(text), e->r);
    p->played++;
    free(text);
}

/* ---- answers ---- */

static void keep_answer(struct replay *p, const struct entry *request, const struct entry *reply)
{
    struct answer *a = NULL;
    char resource[300];
    chars(resource, sizeof resource, request->resource);
    for (unsigned i = 0; i < p->n_answers && !a; i++)
        if (strcmp(p->answers[i].what, request->what) == 0 &&
            strcmp(p->answers[i].resource, resource) == 0)
            a = &p->answers[i];
    if (!a) {
        assert_true(p->n_answers < sizeof p->answers / sizeof p->answers[0]);
        a = &p->answers[p->n_answers++];
        snprintf(a->what, sizeof a->what, "%s", request->what);
        snprintf(a->resource, sizeof a->resource, "%s", resource);
        a->text = NULL;
    }
    free(a->text);
    a->text = strndup(reply->content.p, reply->content.n);
}

static void send_content(struct replay *p, const struct said *s, const char *content)
{
    char id[37], *text;
    struct fake_message f = {.parent = ke_msg_id(s->m),
                             .source = "edgecontroller",
                             .group = "resource",
                             .operation = "response",
                             .resource = ke_msg_resource(s->m)};
    size_t n = strlen(content) + 16;
    if (!p->fc.ws)
        return;
    text = malloc(n);
    assert_non_null(text);
    snprintf(text, n, "{\"content\":%s}", content);
    for (unsigned k = 0; k < p->n_alias; k++)
        replace(text, p->alias[k][0], p->alias[k][1]);
    put_own_status(p, s->type, kei_str(ke_msg_resource(s->m)), &text);
    note_lease(p, s->type, kei_str(text));
    struct ke_str own;
    assert_true(kei_json_get(kei_str(text), "content", &own));
    char *copy = strndup(own.p, own.n);
    f.content = copy;
    if (getenv("KE_REPLAY_LOG"))
        fprintf(stderr, "%s line %u: cloud, not recorded: answer to %s %s: %.200s\n",
                p->capture_name, p->c->r[p->at].line, s->what, ke_msg_resource(s->m), copy);
    fake_cloud_send(&p->fc, &f, id);
    hear(p, kei_str(id), s->what, NULL, false);
    free(copy);
    free(text);
}

/* The object as an API server would have kept it. */
static void send_kept(struct replay *p, const struct said *s, struct ke_str object)
{
    char *text = malloc(object.n + 64);
    assert_non_null(text);
    snprintf(text, object.n + 64, "{\"Object\":%.*s,\"Err\":null}", (int)object.n, object.p);
    set_member(&text, "Object.metadata.uid",
               strcmp(s->type, "lease") == 0 ? KEI_STR("\"1ea5e000-0000-4000-8000-000000000001\"")
                                             : KEI_STR("\"0de00000-0000-4000-8000-000000000001\""));
    set_member(&text, "Object.metadata.resourceVersion", KEI_STR("\"9001\""));
    send_content(p, s, text);
    free(text);
}

static struct ke_str content_of(const struct ke_msg *m)
{
    struct ke_str v;
    v.p = ke_msg_content(m, &v.n);
    return v;
}

/* Of the same request another time, before or after; NULL: never. */
static const char *other_answer(struct replay *p, const struct said *s)
{
    const char *what = p->api_down && strcmp(s->type, "lease") == 0 ? "update lease" : s->what;
    for (size_t i = 0; i < p->n; i++)
        if (is_request(&p->e[i]) && strcmp(p->e[i].what, what) == 0 &&
            is(p->e[i].resource, ke_msg_resource(s->m))) {
            const struct entry *reply = answer_of(p, p->e[i].id, false);
            if (reply)
                keep_answer(p, &p->e[i], reply);
        }
    for (unsigned i = 0; i < p->n_answers; i++)
        if (strcmp(p->answers[i].what, what) == 0 &&
            strcmp(p->answers[i].resource, ke_msg_resource(s->m)) == 0)
            return p->answers[i].text;
    return NULL;
}

static void answer(struct replay *p, struct said *s)
{
    struct entry *reply = s->theirs ? answer_of(p, s->theirs->id, false) : NULL;
    struct model *node = model_find(&p->models, "node", "", false);
    const char *other;
    if (s->answered)
        return;
    s->answered = true;
    bool made =
        p->remade && (strcmp(s->what, "insert lease") == 0 ||
                      strcmp(s->what, "update lease") == 0 || strcmp(s->what, "insert node") == 0);
    if (made)
        send_kept(p, s, content_of(s->m));
    else if (p->remade && strcmp(s->what, "patch nodepatch") == 0 && node && node->doc[OURS] &&
             strstr(node->doc[OURS], "\"name\""))
        send_kept(p, s, kei_str(node->doc[OURS]));
    else if (reply)
        send_entry(p, reply, s);
    else if (!s->theirs && (other = other_answer(p, s)))
        send_content(p, s, other);
    else if (!s->theirs && strcmp(s->what, "update node") == 0 && node)
        send_kept(p, s, kei_str(node->doc[OURS]));
}

static void answer_all(struct replay *p)
{
    for (unsigned i = 0; i < p->n_said; i++)
        answer(p, &p->said[i]);
}

/* ---- what our node says ---- */

/* The one of the recording that is most like ours. */
static struct entry *counterpart(struct replay *p, const struct said *s)
{
    struct entry *best = NULL;
    unsigned fewest = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct entry *e = &p->e[i];
        unsigned n = 0;
        struct place at = {p->capture_name, 0, s->what, &n};
        if (!is_request(e) || e->live || strcmp(e->what, s->what) != 0 ||
            !is(e->resource, ke_msg_resource(s->m)))
            continue;
        if (strcmp(s->type, "podpatch") != 0 && strcmp(s->type, "nodepatch") != 0)
            compare_json(&at, "", e->content, content_of(s->m));
        if (!best || n < fewest) {
            best = e;
            fewest = n;
        }
    }
    return best;
}

static void compare_request(struct replay *p, const struct said *s)
{
    const struct entry *e = s->theirs;
    struct place at = place_at(p, s->what);
    const struct {
        const char *path;
        struct ke_str theirs;
        const char *ours;
    } heads[] = {{"route.source", e->source, ke_msg_source(s->m)},
                 {"route.group", e->group, ke_msg_group(s->m)},
                 {"header.resourceversion", e->version, ke_msg_resource_version(s->m)},
                 {"header.parent_msg_id", e->parent, ke_msg_parent_id(s->m)}};
    at.line = e->r->line;
    p->compared++;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        if (!is(heads[i].theirs, heads[i].ours))
            differs(&at, heads[i].path, heads[i].theirs, kei_str(heads[i].ours));
    if (strcmp(s->type, "nodepatch") == 0) {
        /* the port of the cloud's streams would be undone by it */
        char *patch = inner_json(p, "nodepatch", content_of(s->m));
        struct ke_str v;
        if (kei_json_path(kei_str(patch), "status.daemonEndpoints", &v))
            differs(&at, "status.daemonEndpoints", none(), v);
        free(patch);
    }
    if (strcmp(s->type, "podpatch") == 0 || strcmp(s->type, "nodepatch") == 0 ||
        strcmp(s->type, "podstatus") == 0)
        return; /* what counts is what it leads to */
    struct ke_str ours = content_of(s->m);
    char *text = strndup(ours.p, ours.n);
    if (strcmp(s->what, "update lease") == 0) {
        /* it is held against the Lease our node was given last */
        if (!is(member(kei_str(text), "metadata.resourceVersion"), p->lease_version))
            differs(&at, "metadata.resourceVersion", kei_str(p->lease_version),
                    member(kei_str(text), "metadata.resourceVersion"));
        struct ke_str v;
        if (kei_json_path(e->content, "metadata.resourceVersion", &v))
            set_member(&text, "metadata.resourceVersion", v);
    }
    compare_json(&at, "content", e->content, kei_str(text));
    free(text);
}

static void take_ack(struct replay *p, struct ke_msg *m)
{
    for (unsigned i = p->n_heard; i-- > 0;) {
        struct heard *h = &p->heard[i];
        if (strcmp(h->id, ke_msg_parent_id(m)) != 0)
            continue;
        char what[120];
        snprintf(what, sizeof what, "ack of %s", h->what);
        struct place at = place_at(p, what);
        struct ke_str ours = content_of(m);
        at.line = h->line;
        h->acks++;
        if (ke_ctx_mono_ms(p->env.ctx) - h->at_ms > 5000) /* a cloud sends it again then */
            differs(&at, "<late>", none(), ours);
        if (!h->ack)
            return;
        if (!is(h->ack->source, ke_msg_source(m)))
            differs(&at, "route.source", h->ack->source, kei_str(ke_msg_source(m)));
        if (!is(h->ack->group, ke_msg_group(m)))
            differs(&at, "route.group", h->ack->group, kei_str(ke_msg_group(m)));
        if (!is(h->ack->resource, ke_msg_resource(m)))
            differs(&at, "route.resource", h->ack->resource, kei_str(ke_msg_resource(m)));
        if (!kei_str_eq(h->ack->content, ours))
            differs(&at, "content", h->ack->content, ours);
        return;
    }
    fail_msg("%s line %u: the node acknowledged %s (%s), which it was not sent", p->capture_name,
             p->c->r[p->at].line, ke_msg_parent_id(m), ke_msg_resource(m));
}

static void note_asked(struct replay *p, const struct said *s)
{
    char text[300];
    if (strncmp(s->what, "query ", 6) != 0)
        return;
    snprintf(text, sizeof text, "%s", ke_msg_resource(s->m));
    for (unsigned i = 0; i < p->n_asked; i++)
        if (strcmp(p->asked[i], text) == 0)
            return;
    assert_true(p->n_asked < sizeof p->asked / sizeof p->asked[0]);
    memcpy(p->asked[p->n_asked++], text, sizeof text);
}

static bool has_asked(const struct replay *p, struct ke_str resource)
{
    for (unsigned i = 0; i < p->n_asked; i++)
        if (is(resource, p->asked[i]))
            return true;
    return false;
}

static bool is_uuid4(const char *s)
{
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? s[i] != '-' : !strchr("0123456789abcdef", s[i]) || !s[i])
            return false;
    }
    return s[36] == 0 && s[14] == '4' && strchr("89ab", s[19]);
}

static void on_message(struct fake_cloud *fc, struct ke_msg *m)
{
    struct replay *p = fc->user;
    if (!is_uuid4(ke_msg_id(m)) || ke_msg_timestamp_ms(m) <= 0)
        fail_msg("%s: id \"%s\", timestamp %lld of %s", p->capture_name, ke_msg_id(m),
                 (long long)ke_msg_timestamp_ms(m), ke_msg_resource(m));
    if (strcmp(ke_msg_operation(m), "response") == 0) {
        take_ack(p, m);
        return;
    }
    assert_true(p->n_said < SAID_MAX);
    struct said *s = &p->said[p->n_said++];
    memset(s, 0, sizeof *s);
    s->m = ke_msg_ref(m);
    class_of(kei_str(ke_msg_operation(m)), kei_str(ke_msg_resource(m)), s->type, s->what);
    note_asked(p, s);
    take_report(p, OURS, kei_str(ke_msg_operation(m)), kei_str(ke_msg_resource(m)), content_of(m));
    s->theirs = counterpart(p, s);
    if (getenv("KE_REPLAY_LOG"))
        fprintf(stderr, "%s line %u: node: %s %s (line %d) %.3000s\n", p->capture_name,
                p->c->r[p->at].line, s->what, ke_msg_resource(m),
                s->theirs ? (int)s->theirs->r->line : -1,
                getenv("KE_REPLAY_ALL") ? content_of(m).p : "");
    if (s->theirs) {
        s->theirs->live = s;
        compare_request(p, s);
    }
}

/* ---- time ---- */

static void settle(struct replay *p)
{
    test_settle(&p->env);
}

static void pass(struct replay *p, int64_t ms)
{
    while (ms > 0) {
        int64_t step = ms < STEP_MS ? ms : STEP_MS;
        test_drive_ms(&p->env, step);
        ms -= step;
        if (ms > 0)
            answer_all(p);
    }
}

/* Waits for a condition, giving the node the answers it may need to get there. */
#define WAIT_FOR(p, condition, ms)                                                                 \
    for (int64_t left_ = (ms); !(condition) && left_ > 0; left_ -= STEP_MS) {                      \
        answer_all(p);                                                                             \
        settle(p);                                                                                 \
        if (!(condition))                                                                          \
            test_drive_ms(&(p)->env, STEP_MS);                                                     \
    }

/* ---- the node ---- */

static void start_node(struct replay *p)
{
    struct ke_node_config c;
    struct ke_node_ops ops = {.size = sizeof ops, .runtime = &p->ops, .runtime_user = &p->rt};
    if (p->node)
        return;
    ke_node_config_init(&c, sizeof c);
    c.name = p->name;
    c.data = p->dir;
    c.cloud_host = "127.0.0.1";
    c.token = p->had_token ? NULL : p->fc.token.p;
    c.tunnel_port = p->fc.hub_port;
    c.cert_port = p->fc.cert_port;
    c.max_pods = strcmp(p->version, "1.4") == 0 ? 110 : 600; /* as configured there */
    p->had_token = true;
    if (ke_node_new(&p->node, p->env.ctx, &c, &ops, NULL) != 0 || ke_node_start(p->node) != 0)
        fail_msg("%s", ke_ctx_error(p->env.ctx));
}

static void stop_node(struct replay *p)
{
    ke_node_free(p->node);
    p->node = NULL;
    kei_work_drain(p->env.ctx);
    settle(p);
}

/* Nothing of before the end of a connection is acknowledged any more. */
static void link_ended(struct replay *p)
{
    for (unsigned i = 0; i < p->n_heard; i++)
        p->heard[i].sure = p->heard[i].sure && p->heard[i].acks > 0;
}

static struct replay_runtime *of(void *user)
{
    return user;
}

static int rt_info(void *user, uint64_t op)
{
    struct ke_runtime_result r = {
        .size = sizeof r, .name = of(user)->name, .version = of(user)->version, .ready = 1};
    return ke_runtime_complete(of(user)->fake.rt, op, 0, &r);
}

static int rt_start(void *user, uint64_t op, const char *id)
{
    struct fake_runtime *f = &of(user)->fake;
    int r = f->ops.container_start(user, op, id);
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->c[i].id, id) == 0 && f->c[i].state == KE_CONTAINER_RUNNING &&
            of(user)->short_lived && strcmp(f->c[i].pod, of(user)->short_lived) == 0)
            fake_exit(f, &f->c[i], 0);
    return r;
}

static int rt_stop(void *user, uint64_t op, const char *id, int64_t grace_ms)
{
    struct fake_runtime *f = &of(user)->fake;
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->c[i].id, id) == 0 && f->c[i].state == KE_CONTAINER_RUNNING)
            fake_exit(f, &f->c[i], of(user)->stop_code);
    return f->ops.container_stop(user, op, id, grace_ms);
}

static int rt_pull(void *user, uint64_t op, const char *image, const char *policy,
                   const char *pod_json, size_t n)
{
    struct fake_runtime *f = &of(user)->fake;
    char text[300];
    struct ke_runtime_result r = {.size = sizeof r, .reason = "ErrImageNeverPull", .text = text};
    if (of(user)->no_image)
        return 0;
    if (!of(user)->missing_image || strcmp(image, of(user)->missing_image) != 0)
        return f->ops.image_pull(user, op, image, policy, pod_json, n);
    snprintf(text, sizeof text, "Container image \"%s\" is not present with pull policy of %s",
             image, policy);
    return ke_runtime_complete(f->rt, op, KE_ENOTFOUND, &r);
}

static int rt_sandbox(void *user, uint64_t op, const struct ke_sandbox_config *c)
{
    struct replay_runtime *rt = of(user);
    char id[80];
    struct ke_runtime_result r = {.size = sizeof r, .id = id};
    snprintf(id, sizeof id, "sandbox-%.60s", c->pod_uid);
    if (!(c->flags & KE_CONTAINER_HOST_NETWORK))
        r.ip = rt->pod_ip;
    return ke_runtime_complete(rt->fake.rt, op, 0, &r);
}

static void make_runtime(struct replay *p)
{
    fake_init(&p->rt.fake, p->env.ctx);
    fake_with_sandbox(&p->rt.fake);
    fake_with_pull(&p->rt.fake);
    p->ops = p->rt.fake.ops;
    p->ops.info = rt_info;
    p->ops.container_start = rt_start;
    p->ops.container_stop = rt_stop;
    p->ops.image_pull = rt_pull;
    p->ops.sandbox_run = rt_sandbox;
    p->rt.name = "containerd";
    p->rt.version = "1.6.20";
    p->rt.stop_code = 137;
    snprintf(p->rt.pod_ip, sizeof p->rt.pod_ip, "10.88.7.8");
}

struct replay *replay_new(const char *version, const char *node, int64_t start_ms)
{
    struct replay *p = calloc(1, sizeof *p);
    assert_non_null(p);
    snprintf(p->version, sizeof p->version, "%s", version);
    snprintf(p->name, sizeof p->name, "%s", node);
    test_env_init(&p->env, 0);
    p->env.idle_ms = 1;
    test_settle(&p->env); /* takes the loop, so that the node gets no thread of its own */
    test_clock_set_real(&p->env.clock, start_ms);
    test_tmp_make(p->dir, sizeof p->dir);
    fake_cloud_start(&p->fc, p->env.ctx);
    p->fc.dialect = strcmp(version, "1.4") == 0    ? KE_DIALECT_1_4
                    : strcmp(version, "1.15") == 0 ? KE_DIALECT_1_15
                                                   : KE_DIALECT_1_23;
    p->fc.on_message = on_message;
    p->fc.user = p;
    p->fc.cert_seconds = CERT_S;
    p->start_ms = start_ms;
    make_runtime(p);
    return p;
}

static void forget_capture(struct replay *p)
{
    for (unsigned i = 0; i < p->n_said; i++)
        ke_msg_unref(p->said[i].m);
    p->n_said = 0;
    p->n_heard = 0;
    fake_cloud_forget(&p->fc);
}

void replay_free(struct replay *p)
{
    p->fc.on_message = NULL;
    stop_node(p);
    forget_capture(p);
    fake_cloud_stop(&p->fc);
    models_free(&p->models);
    for (unsigned i = 0; i < p->n_answers; i++)
        free(p->answers[i].text);
    atomic_store(&p->env.log_errors, 0);
    test_env_fini(&p->env);
    test_tmp_remove(p->dir);
    free(p);
}

struct replay_runtime *replay_runtime(struct replay *p)
{
    return &p->rt;
}

void replay_quiet(struct replay *p, bool quiet)
{
    p->quiet = quiet;
}

void replay_without_probes(struct replay *p)
{
    p->no_probes = true;
}

void replay_alias(struct replay *p, const char *a, const char *b)
{
    assert_true(p->n_alias < 8);
    snprintf(p->alias[p->n_alias][0], 64, "%s", a);
    snprintf(p->alias[p->n_alias++][1], 64, "%s", b);
}

unsigned replay_played(const struct replay *p)
{
    return p->played;
}

unsigned replay_compared(const struct replay *p)
{
    return p->compared;
}

/* ---- the certificate port and the upgrade ---- */

static void header_is(struct replay *p, const struct place *at, const struct capture_record *r,
                      const char *name, const char *ours)
{
    const char *theirs = capture_header(r, name);
    (void)p;
    compare_text(at, name, theirs ? theirs : "", ours);
}

static void compare_csr(struct replay *p, const struct place *at, const struct capture_record *r)
{
    char cn[256], org[256];
    struct kei_crypto *crypto = NULL;
    assert_int_equal(kei_crypto_get(p->env.ctx, &crypto), 0);
    assert_int_equal(kei_csr_info(crypto, r->text, cn, org, NULL), 0);
    compare_text(at, "csr.CN", cn, p->fc.csr_cn);
    compare_text(at, "csr.O", org, p->fc.csr_org);
}

static void play_edge_crt(struct replay *p, const struct capture_record *r)
{
    struct place at = place_at(p, "http /edge.crt");
    bool with_cert = false;
    const char *auth = capture_header(r, "Authorization");
    WAIT_FOR(p, p->fc.edge_requests > p->seen_edge, PATIENCE_MS);
    if (p->fc.edge_requests == p->seen_edge) {
        differs(&at, NOT_SENT, kei_str(r->start), none());
        return;
    }
    p->seen_edge = p->fc.edge_requests;
    p->compared++;
    for (size_t i = 0; i < p->c->n; i++)
        if (strcmp(p->c->r[i].kind, "open") == 0 && p->c->r[i].conn == r->conn)
            with_cert = p->c->r[i].has_client_cert;
    header_is(p, &at, r, "NodeName", p->fc.edge_node);
    compare_text(&at, "Authorization", auth ? "Bearer" : "none",
                 strncmp(p->fc.edge_auth, "Bearer ", 7) == 0 ? "Bearer" : "none");
    compare_text(&at, "client certificate", with_cert ? "yes" : "no",
                 p->fc.edge_had_cert ? "yes" : "no");
    compare_csr(p, &at, r);
}

static void play_upgrade(struct replay *p, const struct capture_record *r)
{
    struct place at = place_at(p, "http events");
    char target[300] = "";
    WAIT_FOR(p, p->fc.upgrades > p->seen_upgrades && p->fc.ws && p->fc.any_in_session,
             3 * PATIENCE_MS);
    if (p->fc.upgrades == p->seen_upgrades || !p->fc.ws) {
        differs(&at, NOT_SENT, kei_str(r->start), none());
        return;
    }
    p->seen_upgrades = p->fc.upgrades;
    p->live_conn = r->conn;
    p->compared++;
    sscanf(r->start, "GET %290s", target);
    compare_text(&at, "target", target, p->fc.target);
    header_is(p, &at, r, "Node_id", p->fc.node_id);
    header_is(p, &at, r, "Project_id", p->fc.project_id);
    header_is(p, &at, r, "ConnectionUse", p->fc.use);
    header_is(p, &at, r, "Origin", p->fc.origin);
    compare_text(&at, "first message", "keepalive",
                 p->fc.first_was_keepalive ? "keepalive" : "another");
}

/* One that was closed before anything was said over it. */
static bool says_nothing(const struct replay *p, uint32_t conn)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->e[i].r && p->e[i].r->conn == conn)
            return false;
    return true;
}

static void play_http(struct replay *p, const struct capture_record *r)
{
    struct place at = place_at(p, "http /ca.crt");
    if (strcmp(r->listener, "ws") == 0) {
        if (!says_nothing(p, r->conn))
            play_upgrade(p, r);
    } else if (strstr(r->start, "/edge.crt")) {
        play_edge_crt(p, r);
    } else if (strstr(r->start, "/ca.crt")) {
        WAIT_FOR(p, p->fc.ca_requests > p->seen_ca, PATIENCE_MS);
        if (p->fc.ca_requests == p->seen_ca)
            differs(&at, NOT_SENT, kei_str(r->start), none());
        p->seen_ca = p->fc.ca_requests;
        p->compared++;
    }
}

/* ---- the walk ---- */

static const struct act *act_of(const struct act *acts, unsigned n, int what)
{
    for (unsigned i = 0; i < n; i++)
        if ((int)acts[i].what == what)
            return &acts[i];
    return NULL;
}

static void do_act(struct replay *p, const struct act *a)
{
    struct fake_container *c;
    switch (a->what) {
    case ACT_CRASH:
        c = fake_find(&p->rt.fake, a->pod_uid, a->container);
        if (!c || c->state != KE_CONTAINER_RUNNING)
            fail_msg("%s: container %s of pod %s does not run", p->capture_name, a->container,
                     a->pod_uid);
        fake_exit(&p->rt.fake, c, a->code);
        break;
    case ACT_RESTART:
        link_ended(p);
        stop_node(p);
        break;
    case ACT_AGE:
        test_clock_advance(&p->env.clock, p->start_ms + (int64_t)CERT_S * 10 * a->code -
                                              ke_ctx_real_ms(p->env.ctx));
        break;
    case ACT_NODE_GONE:
        p->remade = true;
        model_set(model_find(&p->models, "node", "", true), OURS, KEI_STR("{}"));
        break;
    case ACT_API_DOWN:
        p->api_down = true;
        break;
    case ACT_CLOUD_AWAY:
        break;
    }
}

static void play_close(struct replay *p, const struct capture_record *r, const struct act *away)
{
    if (strcmp(r->listener, "ws") != 0 || !p->node || r->conn != p->live_conn)
        return;
    link_ended(p);
    p->live_conn = 0;
    if (!away) {
        fake_cloud_drop(&p->fc);
        settle(p);
        return;
    }
    fake_cloud_down(&p->fc);
    pass(p, (int64_t)away->code * 1000);
    fake_cloud_up(&p->fc);
}

static unsigned count_ours(struct replay *p, const char *what, const char *resource)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->n_said; i++)
        n += strcmp(p->said[i].what, what) == 0 &&
             (!resource || strcmp(ke_msg_resource(p->said[i].m), resource) == 0);
    return n;
}

/* A request of the recorded node: ours must send the like. */
static void play_request(struct replay *p, struct entry *e)
{
    struct place at = place_at(p, e->what);
    take_report(p, THEIRS, e->op, e->resource, e->content);
    bool all = strcmp(e->what, "update podstatuses") == 0;
    if (strcmp(e->what, "query node") == 0 || (is_periodic(e->what) && !all) || e->live ||
        (strncmp(e->what, "query ", 6) == 0 && strcmp(e->type, "lease") != 0 &&
         has_asked(p, e->resource)))
        return;
    bool shortly = is_free(e->what) && strncmp(e->what, "query ", 6) != 0 && !all;
    bool enough = strcmp(e->type, "nodepatch") == 0 && count_ours(p, e->what, NULL) > 0;
    if (!enough && !differs_on_purpose(&at, NOT_SENT))
        WAIT_FOR(p, e->live, shortly ? SHORTLY_MS : all ? 65000 : PATIENCE_MS);
    e->due = !e->live && !shortly;
}

static void play_message(struct replay *p, struct entry *e)
{
    if (e->e2c) {
        if (is_request(e))
            play_request(p, e);
        return;
    }
    if (is(e->op, "response") && e->parent.n > 0) {
        struct entry *request = entry_of(p, e->parent, true);
        if (request)
            keep_answer(p, request, e);
        if (request && request->live)
            answer(p, request->live);
        settle(p);
        return;
    }
    WAIT_FOR(p, p->fc.ws, PATIENCE_MS);
    know_pod(p, e);
    send_entry(p, e, NULL);
    settle(p);
}

/* ---- the end of a recording ---- */

static unsigned count_theirs(struct replay *p, const char *what, const char *resource)
{
    unsigned n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += p->e[i].r && p->e[i].e2c && strcmp(p->e[i].what, what) == 0 &&
             (!resource || is(p->e[i].resource, resource));
    return n;
}

static void judge_rhythm(struct replay *p, const char *what, unsigned ours)
{
    struct place at = place_at(p, what);
    unsigned theirs = count_theirs(p, what, NULL);
    char a[40], b[40];
    if (theirs < 2 || (ours + 1 >= theirs && ours <= theirs + 1))
        return;
    snprintf(a, sizeof a, "%u times", theirs);
    snprintf(b, sizeof b, "%u times", ours);
    differs(&at, "<rhythm>", kei_str(a), kei_str(b));
}

static void judge_acks(struct replay *p)
{
    for (unsigned i = 0; i < p->n_heard; i++) {
        struct heard *h = &p->heard[i];
        char what[120], a[40], b[40];
        unsigned want = h->ack ? 1 : 0;
        if (h->sure ? h->acks == want : h->acks <= 1)
            continue;
        snprintf(what, sizeof what, "ack of %s", h->what);
        snprintf(a, sizeof a, "%u times", want);
        snprintf(b, sizeof b, "%u times", h->acks);
        struct place at = place_at(p, what);
        at.line = h->line;
        differs(&at, "<acks>", kei_str(a), kei_str(b));
    }
}

static void judge_more(struct replay *p)
{
    for (unsigned i = 0; i < p->n_said; i++) {
        struct said *s = &p->said[i];
        struct place at = place_at(p, s->what);
        bool counts = !is_free(s->what) || (!is_periodic(s->what) &&
                                            count_theirs(p, s->what, ke_msg_resource(s->m)) == 0);
        if (s->theirs || !counts)
            continue;
        differs(&at, MORE, none(), content_of(s->m));
    }
    for (size_t i = 0; i < p->n; i++) {
        struct entry *e = &p->e[i];
        char resource[300];
        if (!is_request(e) || e->live)
            continue;
        chars(resource, sizeof resource, e->resource);
        struct place at = place_at(p, e->what);
        at.line = e->r->line;
        if (e->due || (is_free(e->what) && !is_periodic(e->what) &&
                       strncmp(e->what, "query ", 6) != 0 && count_ours(p, e->what, resource) == 0))
            differs(&at, NOT_SENT, e->content, none());
    }
}

static void judge_keepalive(struct replay *p, unsigned before)
{
    struct place at = place_at(p, "keepalive");
    static const char *const parts[] = {"route", "content"};
    struct ke_str a, b;
    judge_rhythm(p, "keepalive node", p->fc.keepalives - before);
    if (p->fc.keepalives == before)
        return;
    for (size_t i = 0; i < 2 * p->n; i++) {
        const char *part = parts[i % 2];
        const struct entry *e = &p->e[i / 2];
        if (!e->r || !is(e->op, "keepalive") || !kei_json_get(e->r->text, part, &a))
            continue;
        if (kei_json_get(kei_str(p->fc.last_keepalive), part, &b))
            compare_json(&at, part, a, b);
        else
            differs(&at, part, a, none());
    }
}

void replay_play(struct replay *p, const char *name, const struct act *acts, unsigned n_acts)
{
    struct capture c;
    char version[32];
    unsigned keepalives = p->fc.keepalives;
    snprintf(version, sizeof version, "kubeedge-%s", p->version);
    capture_load(&c, version, name);
    snprintf(p->capture_name, sizeof p->capture_name, "%s/%s", p->version, name);
    p->c = &c;
    p->n = c.n;
    p->at = 0;
    p->e = calloc(c.n, sizeof *p->e);
    assert_non_null(p->e);
    for (size_t i = 0; i < c.n; i++)
        read_entry(&p->e[i], &c.r[i]);
    for (p->at = 0; p->at < c.n; p->at++) {
        const struct capture_record *r = &c.r[p->at];
        /* how long the recorded node paused before it connected again is its own matter */
        if (p->at > 0 && r->t > c.r[p->at - 1].t && strcmp(r->kind, "open") != 0)
            pass(p, (int64_t)((r->t - c.r[p->at - 1].t) * 1000));
        for (unsigned i = 0; i < n_acts; i++)
            if (acts[i].line == r->line)
                do_act(p, &acts[i]);
        if (strcmp(r->kind, "open") == 0)
            start_node(p);
        else if (strcmp(r->kind, "http-request") == 0)
            play_http(p, r);
        else if (strcmp(r->kind, "close") == 0)
            play_close(p, r, act_of(acts, n_acts, ACT_CLOUD_AWAY));
        else if (p->e[p->at].r)
            play_message(p, &p->e[p->at]);
    }
    p->at = c.n - 1;
    answer_all(p);
    pass(p, 300);
    answer_all(p);
    settle(p);
    struct place at = place_at(p, "");
    models_compare(&p->models, &at);
    judge_acks(p);
    judge_more(p);
    judge_keepalive(p, keepalives);
    judge_rhythm(p, "update lease", count_ours(p, "update lease", NULL));
    judge_rhythm(p, "update nodestatus", count_ours(p, "update nodestatus", NULL));
    forget_capture(p);
    free(p->e);
    capture_free(&c);
    p->e = NULL;
    p->c = NULL;
    p->n = 0;
}
