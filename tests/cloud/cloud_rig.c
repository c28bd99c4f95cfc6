/* SPDX-License-Identifier: Apache-2.0 */
/* See cloud_rig.h. */
#include "cloud/cloud_rig.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "message/dialect.h"
#include "net/tls.h"

#define OURS "libkubeedge/0.1"
#define MAX_REAL_MS 60000
#define MAX_VIRTUAL_MS INT64_C(3600000)

/* ---- the host ---- */

static void line(struct rig *r, const char *fmt, ...) KE_PRINTF(2, 3);
static void line(struct rig *r, const char *fmt, ...)
{
    char text[3000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (getenv("KE_TEST_LOG"))
        fprintf(stderr, "-- %s\n", text);
    if (!r->quiet && r->n_lines < RIG_LINES)
        r->lines[r->n_lines++] = strdup(text);
    if (r->on_line)
        r->on_line(r, text);
}

static void on_node(void *user, const struct ke_cloud_node_info *n, uint32_t removed)
{
    line(user, "%snode %s %s %s", removed ? "removed " : "", n->name, n->status,
         n->connected ? "connected" : "away");
}

static void on_pod(void *user, const struct ke_cloud_pod_info *p, uint32_t removed)
{
    line(user, "%spod %s/%s %s %s%s", removed ? "removed " : "", p->pod_namespace, p->name,
         p->node[0] ? p->node : "-", p->phase, p->deleting ? " deleting" : "");
}

/* "NAME=DESIRED/REPORTED/OBSERVED", "-" for none */
static void on_device(void *user, const struct ke_cloud_device_info *d, uint32_t removed)
{
    char twins[1500] = "";
    for (uint32_t i = 0; i < d->n_twins; i++) {
        const struct ke_cloud_twin_info *t = d->twins[i];
        size_t n = strlen(twins);
        snprintf(twins + n, sizeof twins - n, " %s=%s/%s/%s", t->name,
                 t->has_desired ? t->desired : "-", t->has_reported ? t->reported : "-",
                 t->has_observed ? t->observed : "-");
    }
    line(user, "%sdevice %s/%s %s %s%s%s%s", removed ? "removed " : "", d->device_namespace,
         d->name, d->node[0] ? d->node : "-", d->state[0] ? d->state : "-", twins,
         d->reason[0] ? " !" : "", d->reason);
}

static void on_error(void *user, const char *text)
{
    struct rig *r = user;
    atomic_store(&r->env.log_errors, 0); /* it was also logged, as it should */
    line(r, "error %s", text);
}

const char *rig_line(struct rig *r, const char *start, uint32_t nth)
{
    for (uint32_t i = 0; i < r->n_lines; i++)
        if (strncmp(r->lines[i], start, strlen(start)) == 0 && nth-- == 0)
            return r->lines[i];
    return NULL;
}

uint32_t rig_count(const struct rig *r, const char *start)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n_lines; i++)
        n += strncmp(r->lines[i], start, strlen(start)) == 0;
    return n;
}

void rig_forget(struct rig *r)
{
    for (uint32_t i = 0; i < r->n_lines; i++)
        free(r->lines[i]);
    r->n_lines = 0;
}

/* ---- the two loops ---- */

static int64_t real_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int fd_of(struct ke_ctx *ctx)
{
    int fd = -1;
    assert_int_equal(ke_ctx_fd(ctx, &fd), 0);
    return fd;
}

static int64_t next_timer(struct ke_ctx *ctx)
{
    int64_t left = -1;
    assert_int_equal(ke_ctx_prepare(ctx, &left), 0);
    return left;
}

static bool readable(struct rig *r, int64_t ms)
{
    struct pollfd p[2] = {{.fd = fd_of(r->env.ctx), .events = POLLIN},
                          {.fd = fd_of(r->edges), .events = POLLIN}};
    return poll(p, 2, (int)ms) > 0;
}

static void dispatch(struct rig *r)
{
    assert_int_equal(ke_ctx_dispatch(r->env.ctx), 0);
    assert_int_equal(ke_ctx_dispatch(r->edges), 0);
}

static bool busy(struct rig *r)
{
    return next_timer(r->env.ctx) == 0 || next_timer(r->edges) == 0 || readable(r, 0);
}

void rig_turn(struct rig *r)
{
    if (busy(r) || readable(r, 1))
        dispatch(r);
}

static size_t pending(struct rig *r)
{
    return kei_work_pending(r->env.ctx) + kei_work_pending(r->edges);
}

/* As test_drive, over both. Virtual ms that passed. */
static int64_t step(struct rig *r, int64_t limit)
{
    if (busy(r)) {
        dispatch(r);
        return 0;
    }
    if (pending(r) > 0) {
        if (readable(r, 100))
            dispatch(r);
        return 0;
    }
    if (readable(r, r->idle_ms)) {
        dispatch(r);
        return 0;
    }
    int64_t a = next_timer(r->env.ctx), b = next_timer(r->edges);
    int64_t left = a < 0 ? b : b < 0 || a < b ? a : b;
    int64_t move = left < 0 || left > limit ? limit : left;
    test_clock_advance(&r->env.clock, move);
    return move;
}

bool rig_until(struct rig *r, bool (*pred)(void *arg), void *arg)
{
    int64_t start = real_ms(), left = MAX_VIRTUAL_MS;
    while (!pred(arg)) {
        if (left <= 0 || real_ms() - start > MAX_REAL_MS)
            return false;
        left -= step(r, 1000 < left ? 1000 : left);
    }
    return true;
}

void rig_settle(struct rig *r)
{
    int64_t start = real_ms();
    while (busy(r) || pending(r) > 0 || readable(r, r->idle_ms)) {
        if (real_ms() - start > MAX_REAL_MS)
            fail_msg("the loops did not come to rest");
        if (busy(r))
            dispatch(r);
        else if (pending(r) > 0 && readable(r, 100))
            dispatch(r);
    }
}

void rig_ms(struct rig *r, int64_t ms)
{
    int64_t start = real_ms();
    while (ms > 0) {
        if (real_ms() - start > MAX_REAL_MS + ms)
            fail_msg("the loops did not come to rest");
        ms -= step(r, ms);
    }
    rig_settle(r);
}

/* ---- life ---- */

void rig_init(struct rig *r, const struct ke_io *io)
{
    struct ke_ctx_config cc;
    struct ke_error err = KE_ERROR_INIT;
    memset(r, 0, sizeof *r);
    if (io)
        test_env_init_io(&r->env, 0, io);
    else
        test_env_init(&r->env, 0);
    r->idle_ms = 2;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.clock = &r->env.clock.table;
    assert_int_equal(ke_ctx_new(&r->edges, &cc, &err), 0);
    test_tmp_make(r->dir, sizeof r->dir);
    snprintf(r->data, sizeof r->data, "%s", io ? "/cloud" : "");
    if (!io)
        snprintf(r->data, sizeof r->data, "%s/data", r->dir);
    snprintf(r->manifests, sizeof r->manifests, "%s/m", r->dir);
    assert_int_equal(mkdir(r->manifests, 0700), 0);
    ke_cloud_config_init(&r->conf, sizeof r->conf);
    r->conf.data = r->data;
    r->conf.manifests = io ? NULL : r->manifests;
    r->conf.listen = "127.0.0.1";
    r->conf.tunnel_port = KE_PORT_ANY;
    r->conf.cert_port = KE_PORT_ANY;
    (void)fd_of(r->env.ctx); /* this thread drives both */
    (void)fd_of(r->edges);
}

int rig_try_start(struct rig *r)
{
    const struct ke_cloud_ops ops = {.size = sizeof ops,
                                     .node = on_node,
                                     .pod = on_pod,
                                     .manifest_error = on_error,
                                     .device = on_device};
    assert_null(r->c);
    int e = ke_cloud_new(&r->c, r->env.ctx, &r->conf, &ops, r);
    return e < 0 ? e : ke_cloud_start(r->c);
}

static bool is_loaded(void *arg)
{
    struct rig *r = arg;
    return r->c->state == KEI_CLOUD_LOADED;
}

bool rig_loaded(struct rig *r)
{
    return rig_until(r, is_loaded, r);
}

void rig_start(struct rig *r)
{
    if (rig_try_start(r) != 0)
        fail_msg("no cloud: %s", ke_ctx_error(r->env.ctx));
    assert_true(rig_loaded(r));
}

void rig_stop(struct rig *r)
{
    ke_cloud_free(r->c);
    r->c = NULL;
}

void rig_restart(struct rig *r)
{
    rig_stop(r);
    rig_start(r);
}

void rig_fini(struct rig *r)
{
    rig_stop(r);
    rig_forget(r);
    ke_ctx_free(r->edges);
    test_env_fini(&r->env);
    test_tmp_remove(r->dir);
}

/* ---- files and objects ---- */

void rig_write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!f)
        fail_msg("%s: %s", path, strerror(errno));
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

void rig_manifest(struct rig *r, const char *name, const char *text)
{
    char path[400], tmp[400];
    snprintf(path, sizeof path, "%s/%s", r->manifests, name);
    snprintf(tmp, sizeof tmp, "%s/.%s.new", r->manifests, name);
    if (!text) {
        assert_int_equal(unlink(path), 0);
        return;
    }
    rig_write_file(tmp, text);
    assert_int_equal(rename(tmp, path), 0);
}

struct look {
    struct rig *r;
    struct edge *e;
    const char *a, *b, *c;
    uint32_t nth;
    struct ke_msg *m;
};

static bool line_there(void *arg)
{
    struct look *l = arg;
    return rig_line(l->r, l->a, 0) != NULL;
}

const char *rig_wait_line(struct rig *r, const char *start)
{
    struct look l = {.r = r, .a = start};
    if (!rig_until(r, line_there, &l))
        fail_msg("the host was never told \"%s...\"", start);
    return rig_line(r, start, 0);
}

struct kei_object *rig_object(struct rig *r, const char *type, const char *ns, const char *name)
{
    return kei_objects_get(r->c->objects, type, ns, name);
}

static bool object_there(void *arg)
{
    struct look *l = arg;
    struct kei_object *o = rig_object(l->r, l->a, l->b, l->c);
    return o && o->durable == o->version;
}

struct kei_object *rig_wait_object(struct rig *r, const char *type, const char *ns,
                                   const char *name)
{
    struct look l = {.r = r, .a = type, .b = ns, .c = name};
    if (!rig_until(r, object_there, &l))
        fail_msg("%s %s/%s did not come", type, ns, name);
    return rig_object(r, type, ns, name);
}

static bool object_gone(void *arg)
{
    struct look *l = arg;
    return !kei_objects_any(l->r->c->objects, l->a, l->b, l->c);
}

bool rig_wait_gone(struct rig *r, const char *type, const char *ns, const char *name)
{
    struct look l = {.r = r, .a = type, .b = ns, .c = name};
    return rig_until(r, object_gone, &l);
}

struct kei_peer *rig_peer(struct rig *r, const char *node)
{
    return kei_peer_get(r->c, node, false);
}

const char *json_text(struct ke_str object, const char *path)
{
    static char out[4][4096];
    static unsigned turn;
    struct ke_str v;
    char *p = out[turn++ % 4];
    p[0] = 0;
    if (!kei_json_path(object, path, &v))
        return p;
    if (kei_json_type(v) == '"')
        kei_json_copy(p, sizeof out[0], v);
    else
        snprintf(p, sizeof out[0], "%.*s", (int)v.n, v.p);
    return p;
}

const char *msg_text(const struct ke_msg *m, const char *path)
{
    return json_text(kei_content(m), path);
}

const char *msg_content(const struct ke_msg *m)
{
    size_t n;
    return ke_msg_content(m, &n);
}

/* ---- edges ---- */

static void must(struct edge *e, int r, const char *what)
{
    if (r < 0)
        fail_msg("edge %s: %s: %d %s", e->name, what, r, ke_ctx_error(e->rig->edges));
}

static void on_beat(struct kei_timer *t)
{
    struct edge *e = KEI_OF(t, struct edge, beat);
    if (e->open && e->beats)
        edge_keepalive(e);
    (void)kei_timer_in(t, 15000);
}

void edge_init(struct edge *e, struct rig *r, const char *name)
{
    memset(e, 0, sizeof *e);
    e->rig = r;
    snprintf(e->name, sizeof e->name, "%s", name);
    e->agent = OURS;
    e->node_id = e->name;
    e->use = "msg";
    e->beats = true;
    e->org = "system:nodes";
    kei_timer_init(r->edges, &e->beat, on_beat);
}

void edge_fini(struct edge *e)
{
    edge_drop(e);
    edge_forget(e);
    kei_timer_fini(&e->beat);
    kei_cert_free(e->cert);
    kei_key_free(e->key);
    e->cert = NULL;
    e->key = NULL;
}

void edge_sign(struct edge *e, const struct kei_cert *ca, const struct kei_key *ca_key)
{
    struct kei_crypto *crypto = NULL;
    struct ke_buf csr = {0}, der = {0};
    struct kei_cert *cert = NULL;
    struct rig *r = e->rig;
    struct ke_error err = KE_ERROR_INIT;
    char cn[300];
    uint8_t eku[1] = {2};
    snprintf(cn, sizeof cn, "system:node:%s", e->name);
    kei_cert_free(e->cert);
    e->cert = NULL;
    must(e, kei_crypto_get(r->edges, &crypto), "crypto");
    if (!e->key)
        must(e, kei_key_new_p256(&e->key, crypto, kei_err(r->edges)), "key");
    must(e, kei_csr_make(&csr, e->key, e->org, e->cn ? e->cn : cn, kei_err(r->edges)), "request");
    int64_t now = ke_ctx_real_ms(r->edges) / 1000;
    int done = -1;
    /* the cloud's authority uses the cloud's memory, one allocation of which may be made to fail */
    for (int i = 0; i < 2 && done < 0; i++) {
        kei_cert_free(cert);
        cert = NULL;
        done = kei_ca_sign_csr(&cert, ca ? ca : r->c->pki.ca, ca_key ? ca_key : r->c->pki.ca_key,
                               kei_buf_str(&csr), eku, 1, now, 365 * 86400, &err);
        if (done == 0)
            done = kei_cert_der(cert, &der, &err);
    }
    if (done < 0)
        fail_msg("certificate: %s", err.text);
    must(e, kei_cert_from_der(&e->cert, crypto, kei_buf_str(&der), kei_err(r->edges)), "DER");
    kei_cert_free(cert);
    ke_buf_free(&csr);
    ke_buf_free(&der);
}

static void on_open(void *user)
{
    struct edge *e = user;
    e->open = true;
    e->connects++;
    if (e->beats)
        edge_keepalive(e);
}

static bool is_ack_class(const struct ke_msg *m)
{
    return strcmp(ke_msg_operation(m), "response") != 0 ||
           strstr(ke_msg_resource(m), "/configmap/") || strstr(ke_msg_resource(m), "/secret/");
}

static void on_message(void *user, const char *p, size_t n)
{
    struct edge *e = user;
    struct ke_msg *m = NULL;
    must(e, ke_msg_decode(&m, e->rig->edges, p, n, kei_err(e->rig->edges)), "message");
    if (getenv("KE_TEST_LOG"))
        fprintf(stderr, "-> %s: %s %s v%s (%s, answers %s)\n", e->name, ke_msg_operation(m),
                ke_msg_resource(m), ke_msg_resource_version(m), ke_msg_id(m), ke_msg_parent_id(m));
    if (e->n_messages < EDGE_MESSAGES)
        e->messages[e->n_messages++] = ke_msg_ref(m);
    if (e->on_message)
        e->on_message(e, m);
    if (!e->no_ack && is_ack_class(m) && e->ws)
        edge_ack(e, m);
    ke_msg_unref(m);
}

static void on_closed(void *user, int status, const char *text, uint32_t http_status)
{
    struct edge *e = user;
    e->open = false;
    e->closed = true;
    e->close_status = status;
    e->http_status = http_status;
    snprintf(e->close_text, sizeof e->close_text, "%s", text);
    kei_ws_free(e->ws);
    e->ws = NULL;
}

static void on_answer(void *user, const struct kei_http_head *head)
{
    struct edge *e = user;
    struct ke_str v = kei_http_header(head, KEI_MERGE_HEADER);
    snprintf(e->merge_answer, sizeof e->merge_answer, "%.*s", KEI_FMT(v));
}

static const struct kei_ws_ops ws_ops = {
    .open = on_open, .message = on_message, .closed = on_closed, .answer = on_answer};

static struct kei_tls_config *edge_tls(struct edge *e)
{
    struct rig *r = e->rig;
    struct kei_crypto *crypto = NULL;
    struct kei_cert *ca = NULL;
    struct kei_tls_config *tls = NULL;
    must(e, kei_crypto_get(r->edges, &crypto), "crypto");
    must(e, kei_cert_from_der(&ca, crypto, kei_buf_str(&r->c->pki.ca_der), kei_err(r->edges)),
         "authority");
    const struct kei_tls_options o = {
        .verify_peer = true, .ca = ca, .cert = e->cert, .key = e->key};
    must(e, kei_tls_config_new(&tls, r->edges, &o), "TLS");
    kei_cert_free(ca);
    return tls;
}

void edge_dial(struct edge *e)
{
    struct rig *r = e->rig;
    uint32_t tunnel = 0, cert = 0;
    char headers[1024], target[400];
    assert_null(e->ws);
    if (!e->cert)
        edge_sign(e, NULL, NULL);
    assert_int_equal(ke_cloud_ports(r->c, &tunnel, &cert), 0);
    struct kei_tls_config *tls = edge_tls(e);
    const struct kei_stream_config sc = {.host = "127.0.0.1",
                                         .port = (uint16_t)tunnel,
                                         .tls = tls,
                                         .send_cap = 64u << 20,
                                         .receive_cap = 1u << 20};
    const struct kei_ws_config wc = {0};
    snprintf(headers, sizeof headers,
             "User-Agent: %s\r\nNode_id: %s\r\nProject_id: p\r\nConnectionuse: %s\r\n%s", e->agent,
             e->node_id, e->use, e->merges ? KEI_MERGE_HEADER ": 1\r\n" : "");
    snprintf(target, sizeof target, "/p/%s/events", e->name);
    e->open = e->closed = false;
    e->http_status = 0;
    must(e, kei_ws_connect(&e->ws, r->edges, &sc, target, headers, &wc, &ws_ops, e), "connect");
    kei_tls_config_unref(tls);
    if (!kei_timer_armed(&e->beat))
        (void)kei_timer_in(&e->beat, 15000);
}

static bool decided(void *arg)
{
    struct edge *e = arg;
    return e->closed || (e->open && kei_ws_queued(e->ws) == 0);
}

bool edge_connect(struct edge *e)
{
    edge_dial(e);
    assert_true(rig_until(e->rig, decided, e));
    return e->open;
}

void edge_drop(struct edge *e)
{
    kei_ws_free(e->ws);
    e->ws = NULL;
    e->open = false;
}

static bool is_closed(void *arg)
{
    return ((struct edge *)arg)->closed;
}

bool edge_wait_closed(struct edge *e)
{
    return rig_until(e->rig, is_closed, e);
}

void edge_text(struct edge *e, const char *text, size_t n)
{
    must(e, kei_ws_send(e->ws, text, n), "send");
}

static const char *send_msg(struct edge *e, const struct ke_msg_config *c)
{
    static char ids[8][37];
    static unsigned turn;
    struct ke_msg *m = NULL;
    struct ke_buf out = {0};
    char *id = ids[turn++ % 8];
    must(e, ke_msg_new(&m, e->rig->edges, c, kei_err(e->rig->edges)), "message");
    must(e, ke_msg_encode(m, e->rig->edges, KE_DIALECT_1_15, &out, kei_err(e->rig->edges)), "text");
    snprintf(id, 37, "%s", ke_msg_id(m));
    if (e->ws)
        edge_text(e, out.p, out.n);
    ke_buf_free(&out);
    ke_msg_unref(m);
    return id;
}

const char *edge_send_as(struct edge *e, const char *source, const char *group, const char *op,
                         const char *resource, const char *content)
{
    struct ke_msg_config c;
    ke_msg_config_init(&c, sizeof c);
    c.source = source;
    c.group = group;
    c.operation = op;
    c.resource = resource;
    c.content = content;
    c.content_len = content ? strlen(content) : 0;
    return send_msg(e, &c);
}

const char *edge_send(struct edge *e, const char *op, const char *resource, const char *content)
{
    return edge_send_as(e, "edged", "meta", op, resource, content);
}

void edge_ack(struct edge *e, const struct ke_msg *m)
{
    struct ke_msg_config c;
    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(m);
    c.source = ke_msg_source(m);
    c.group = ke_msg_group(m);
    c.operation = "response";
    c.resource = ke_msg_resource(m);
    c.content = "\"OK\"";
    c.content_len = 4;
    (void)send_msg(e, &c);
}

void edge_keepalive(struct edge *e)
{
    (void)edge_send_as(e, "websocket", "resource", "keepalive", "node", "\"ping\"");
}

struct ke_msg *edge_find(struct edge *e, const char *op, const char *resource, uint32_t nth)
{
    for (uint32_t i = 0; i < e->n_messages; i++) {
        struct ke_msg *m = e->messages[i];
        if ((!op || strcmp(ke_msg_operation(m), op) == 0) &&
            (!resource || strcmp(ke_msg_resource(m), resource) == 0) && nth-- == 0)
            return m;
    }
    return NULL;
}

uint32_t edge_count(struct edge *e, const char *op, const char *resource)
{
    uint32_t n = 0;
    while (edge_find(e, op, resource, n))
        n++;
    return n;
}

static bool message_there(void *arg)
{
    struct look *l = arg;
    l->m = edge_find(l->e, l->a, l->b, l->nth);
    return l->m != NULL;
}

struct ke_msg *edge_wait_nth(struct edge *e, const char *op, const char *resource, uint32_t nth)
{
    struct look l = {.e = e, .a = op, .b = resource, .nth = nth};
    if (!rig_until(e->rig, message_there, &l))
        fail_msg("edge %s never got %s %s (%u)", e->name, op ? op : "*", resource ? resource : "*",
                 nth);
    return l.m;
}

struct ke_msg *edge_wait(struct edge *e, const char *op, const char *resource)
{
    return edge_wait_nth(e, op, resource, 0);
}

static struct ke_msg *find_reply(struct edge *e, const char *id)
{
    for (uint32_t i = 0; i < e->n_messages; i++)
        if (strcmp(ke_msg_parent_id(e->messages[i]), id) == 0)
            return e->messages[i];
    return NULL;
}

static bool reply_there(void *arg)
{
    struct look *l = arg;
    l->m = find_reply(l->e, l->a);
    return l->m != NULL;
}

struct ke_msg *edge_reply_to(struct edge *e, const char *id)
{
    struct look l = {.e = e, .a = id};
    if (!rig_until(e->rig, reply_there, &l))
        fail_msg("edge %s got no reply to %s", e->name, id);
    return l.m;
}

struct ke_msg *edge_ask(struct edge *e, const char *op, const char *resource, const char *content)
{
    return edge_reply_to(e, edge_send(e, op, resource, content));
}

void edge_forget(struct edge *e)
{
    for (uint32_t i = 0; i < e->n_messages; i++)
        ke_msg_unref(e->messages[i]);
    e->n_messages = 0;
}

void edge_register(struct edge *e, const char *ns, const char *labels)
{
    char resource[400], node[2000];
    snprintf(resource, sizeof resource, "%s/node/%s", ns, e->name);
    snprintf(node, sizeof node,
             "{\"metadata\":{\"name\":\"%s\",\"labels\":%s},\"spec\":{},\"status\":{\"conditions\":"
             "[{\"type\":\"Ready\",\"status\":\"True\"}],\"nodeInfo\":{\"kubeletVersion\":"
             "\"v1.32.10-kubeedge-v1.%s.1\"}}}",
             e->name, labels ? labels : "{}", strcmp(ns, "null") == 0 ? "23" : "15");
    struct ke_msg *m = edge_ask(e, "insert", resource, node);
    if (strcmp(msg_text(m, "Err"), "null") != 0)
        fail_msg("registration was answered with %s", msg_content(m));
}

void edge_pod_status(struct edge *e, const char *ns, const char *name, const char *status)
{
    char resource[600], content[2000];
    struct kei_object *o = rig_object(e->rig, "pod", ns, name);
    assert_non_null(o);
    snprintf(resource, sizeof resource, "%s/podpatch/%s", ns, name);
    snprintf(content, sizeof content,
             "\"{\\\"metadata\\\":{\\\"uid\\\":\\\"%s\\\"},\\\"status\\\":%s}\"", o->uid, status);
    (void)edge_ask(e, "patch", resource, content);
}
