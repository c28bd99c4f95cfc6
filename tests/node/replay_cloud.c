/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end: what it knows, what it sends, how it takes what our node says. See replay_priv.h.
 */
#include "node/replay_priv.h"

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
    snprintf(key, sizeof key, "%.*s/%.*s", (int)ns.n, ns.p, (int)rp_member(item, "Name").n,
             rp_member(item, "Name").p);
    struct model *m = model_find(&p->models, "pod", key, false);
    if (m && is(rp_member(item, "UID"), m->uid) && kei_json_get(item, "Status", &status))
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
void rp_take_report(struct replay *p, enum side side, struct ke_str op, struct ke_str resource,
                    struct ke_str content)
{
    struct kei_resource r;
    struct ke_str item;
    char key[200], word[32], *patch;
    if (!kei_resource_parse(&r, resource))
        return;
    rp_chars(word, sizeof word, op);
    if (is(r.type, "podpatch")) {
        pod_key(&r, key);
        struct model *m = model_find(&p->models, "pod", key, false);
        patch = inner_json(p, "podpatch", content);
        if (m && is(rp_member(kei_str(patch), "metadata.uid"), m->uid))
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
void rp_know_pod(struct replay *p, const struct entry *e)
{
    struct kei_resource r;
    char key[200], uid[64];
    if (strcmp(e->type, "pod") != 0 || !kei_resource_parse(&r, e->resource))
        return;
    pod_key(&r, key);
    rp_chars(uid, sizeof uid, rp_member(e->content, "metadata.uid"));
    struct model *m = model_find(&p->models, "pod", key, false);
    struct place at = rp_place_at(p, "pod");
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
    rp_chars(h->id, sizeof h->id, id);
    snprintf(h->what, sizeof h->what, "%s", what);
    h->ack = ack;
    h->sure = sure;
    h->line = p->c->r[p->at].line;
    h->at_ms = ke_ctx_mono_ms(p->env.ctx);
    return h;
}

static void note_lease(struct replay *p, const char *type, struct ke_str text)
{
    if (strcmp(type, "lease") == 0 &&
        rp_member(text, "content.Object.metadata.resourceVersion").n > 0)
        rp_chars(p->lease_version, sizeof p->lease_version,
                 rp_member(text, "content.Object.metadata.resourceVersion"));
}

/* A message of the recorded cloud; to: our request it answers, or NULL. */
void rp_send_entry(struct replay *p, struct entry *e, const struct said *to)
{
    char *text = strndup(e->r->text.p, e->r->text.n), parent[64];
    struct entry *ack = rp_answer_of(p, e->id, true);
    size_t i = (size_t)(e - p->e);
    if (!p->fc.ws) {
        free(text);
        return;
    }
    if (to) {
        rp_chars(parent, sizeof parent, e->parent);
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

void rp_keep_answer(struct replay *p, const struct entry *request, const struct entry *reply)
{
    struct answer *a = NULL;
    char resource[300];
    rp_chars(resource, sizeof resource, request->resource);
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

/* Of the same request another time, before or after; NULL: never. */
static const char *other_answer(struct replay *p, const struct said *s)
{
    const char *what = p->api_down && strcmp(s->type, "lease") == 0 ? "update lease" : s->what;
    for (size_t i = 0; i < p->n; i++)
        if (rp_is_request(&p->e[i]) && strcmp(p->e[i].what, what) == 0 &&
            is(p->e[i].resource, ke_msg_resource(s->m))) {
            const struct entry *reply = rp_answer_of(p, p->e[i].id, false);
            if (reply)
                rp_keep_answer(p, &p->e[i], reply);
        }
    for (unsigned i = 0; i < p->n_answers; i++)
        if (strcmp(p->answers[i].what, what) == 0 &&
            strcmp(p->answers[i].resource, ke_msg_resource(s->m)) == 0)
            return p->answers[i].text;
    return NULL;
}

void rp_answer(struct replay *p, struct said *s)
{
    struct entry *reply = s->theirs ? rp_answer_of(p, s->theirs->id, false) : NULL;
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
        rp_send_entry(p, reply, s);
    else if (!s->theirs && (other = other_answer(p, s)))
        send_content(p, s, other);
    else if (!s->theirs && strcmp(s->what, "update node") == 0 && node)
        send_kept(p, s, kei_str(node->doc[OURS]));
}

void rp_answer_all(struct replay *p)
{
    for (unsigned i = 0; i < p->n_said; i++)
        rp_answer(p, &p->said[i]);
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
        if (!rp_is_request(e) || e->live || strcmp(e->what, s->what) != 0 ||
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
    struct place at = rp_place_at(p, s->what);
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
        if (!is(rp_member(kei_str(text), "metadata.resourceVersion"), p->lease_version))
            differs(&at, "metadata.resourceVersion", kei_str(p->lease_version),
                    rp_member(kei_str(text), "metadata.resourceVersion"));
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
        struct place at = rp_place_at(p, what);
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

bool rp_has_asked(const struct replay *p, struct ke_str resource)
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

void rp_on_message(struct fake_cloud *fc, struct ke_msg *m)
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
    rp_class_of(kei_str(ke_msg_operation(m)), kei_str(ke_msg_resource(m)), s->type, s->what);
    note_asked(p, s);
    rp_take_report(p, OURS, kei_str(ke_msg_operation(m)), kei_str(ke_msg_resource(m)),
                   content_of(m));
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
