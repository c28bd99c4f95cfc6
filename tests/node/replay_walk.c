/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through a recording and judges what was left over. See replay_priv.h. */
#include "node/replay_priv.h"

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
    struct place at = rp_place_at(p, "http /edge.crt");
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
    struct place at = rp_place_at(p, "http events");
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
    struct place at = rp_place_at(p, "http /ca.crt");
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
        rp_link_ended(p);
        rp_stop_node(p);
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
    rp_link_ended(p);
    p->live_conn = 0;
    if (!away) {
        fake_cloud_drop(&p->fc);
        rp_settle(p);
        return;
    }
    fake_cloud_down(&p->fc);
    rp_pass(p, (int64_t)away->code * 1000);
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
    struct place at = rp_place_at(p, e->what);
    rp_take_report(p, THEIRS, e->op, e->resource, e->content);
    bool all = strcmp(e->what, "update podstatuses") == 0;
    if (strcmp(e->what, "query node") == 0 || (rp_is_periodic(e->what) && !all) || e->live ||
        (strncmp(e->what, "query ", 6) == 0 && strcmp(e->type, "lease") != 0 &&
         rp_has_asked(p, e->resource)))
        return;
    bool shortly = rp_is_free(e->what) && strncmp(e->what, "query ", 6) != 0 && !all;
    bool enough = strcmp(e->type, "nodepatch") == 0 && count_ours(p, e->what, NULL) > 0;
    if (!enough && !differs_on_purpose(&at, NOT_SENT))
        WAIT_FOR(p, e->live, shortly ? SHORTLY_MS : all ? 65000 : PATIENCE_MS);
    e->due = !e->live && !shortly;
}

static void play_message(struct replay *p, struct entry *e)
{
    if (e->e2c) {
        if (rp_is_request(e))
            play_request(p, e);
        return;
    }
    if (is(e->op, "response") && e->parent.n > 0) {
        struct entry *request = rp_entry_of(p, e->parent, true);
        if (request)
            rp_keep_answer(p, request, e);
        if (request && request->live)
            rp_answer(p, request->live);
        rp_settle(p);
        return;
    }
    WAIT_FOR(p, p->fc.ws, PATIENCE_MS);
    rp_know_pod(p, e);
    rp_send_entry(p, e, NULL);
    rp_settle(p);
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
    struct place at = rp_place_at(p, what);
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
        struct place at = rp_place_at(p, what);
        at.line = h->line;
        differs(&at, "<acks>", kei_str(a), kei_str(b));
    }
}

static void judge_more(struct replay *p)
{
    for (unsigned i = 0; i < p->n_said; i++) {
        struct said *s = &p->said[i];
        struct place at = rp_place_at(p, s->what);
        bool counts =
            !rp_is_free(s->what) ||
            (!rp_is_periodic(s->what) && count_theirs(p, s->what, ke_msg_resource(s->m)) == 0);
        if (s->theirs || !counts)
            continue;
        differs(&at, MORE, none(), content_of(s->m));
    }
    for (size_t i = 0; i < p->n; i++) {
        struct entry *e = &p->e[i];
        char resource[300];
        if (!rp_is_request(e) || e->live)
            continue;
        rp_chars(resource, sizeof resource, e->resource);
        struct place at = rp_place_at(p, e->what);
        at.line = e->r->line;
        if (e->due || (rp_is_free(e->what) && !rp_is_periodic(e->what) &&
                       strncmp(e->what, "query ", 6) != 0 && count_ours(p, e->what, resource) == 0))
            differs(&at, NOT_SENT, e->content, none());
    }
}

static void judge_keepalive(struct replay *p, unsigned before)
{
    struct place at = rp_place_at(p, "keepalive");
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
        rp_read_entry(&p->e[i], &c.r[i]);
    for (p->at = 0; p->at < c.n; p->at++) {
        const struct capture_record *r = &c.r[p->at];
        /* how long the recorded node paused before it connected again is its own matter */
        if (p->at > 0 && r->t > c.r[p->at - 1].t && strcmp(r->kind, "open") != 0)
            rp_pass(p, (int64_t)((r->t - c.r[p->at - 1].t) * 1000));
        for (unsigned i = 0; i < n_acts; i++)
            if (acts[i].line == r->line)
                do_act(p, &acts[i]);
        if (strcmp(r->kind, "open") == 0)
            rp_start_node(p);
        else if (strcmp(r->kind, "http-request") == 0)
            play_http(p, r);
        else if (strcmp(r->kind, "close") == 0)
            play_close(p, r, act_of(acts, n_acts, ACT_CLOUD_AWAY));
        else if (p->e[p->at].r)
            play_message(p, &p->e[p->at]);
    }
    p->at = c.n - 1;
    rp_answer_all(p);
    rp_pass(p, 300);
    rp_answer_all(p);
    rp_settle(p);
    struct place at = rp_place_at(p, "");
    models_compare(&p->models, &at);
    judge_acks(p);
    judge_more(p);
    judge_keepalive(p, keepalives);
    judge_rhythm(p, "update lease", count_ours(p, "update lease", NULL));
    judge_rhythm(p, "update nodestatus", count_ours(p, "update nodestatus", NULL));
    rp_forget_capture(p);
    free(p->e);
    capture_free(&c);
    p->e = NULL;
    p->c = NULL;
    p->n = 0;
}
