/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_cloud.h. Every call that should work and does not ends the test. */
#include "sim/fake_cloud.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/codec.h"
#include "base/loop.h"

static int64_t now_s(void *user)
{
    struct fake_cloud *fc = user;

    return fc->epoch_s + ke_ctx_mono_ms(fc->ctx) / 1000 + fc->clock_offset_s;
}

static void must(struct fake_cloud *fc, int r, const char *what)
{
    if (r < 0)
        fail_msg("fake cloud: %s: %d %s", what, r, ke_ctx_error(fc->ctx));
}

static void copy_header(char *out, size_t n, const struct kei_http_head *head, const char *name)
{
    struct ke_str v = kei_http_header(head, name);

    snprintf(out, n, "%.*s", (int)v.n, v.p ? v.p : "");
}

/* ---- certificates ---- */

static void make_ca(struct fake_cloud *fc)
{
    struct ke_buf der, secret;

    kei_cert_free(fc->ca);
    kei_key_free(fc->ca_key);
    fc->ca = NULL;
    fc->ca_key = NULL;
    must(fc, kei_key_new_p256(&fc->ca_key, fc->crypto, kei_err(fc->ctx)), "CA key");
    must(fc, kei_ca_make(&fc->ca, fc->ca_key, now_s(fc) - 86400, kei_err(fc->ctx)), "CA");
    kei_buf_init(&der, kei_ctx_alloc(fc->ctx));
    kei_buf_init(&secret, kei_ctx_alloc(fc->ctx));
    must(fc, kei_cert_der(fc->ca, &der, kei_err(fc->ctx)), "CA DER");
    must(fc, kei_key_der(fc->ca_key, &secret, kei_err(fc->ctx)), "CA key DER");
    kei_buf_clear(&fc->token);
    must(fc,
         kei_token_make(&fc->token, kei_buf_str(&der), kei_buf_str(&secret), now_s(fc) + 86400,
                        kei_err(fc->ctx)),
         "token");
    ke_buf_free(&der);
    ke_buf_free(&secret);
}

static void make_server_cert(struct fake_cloud *fc, const char *name, int64_t from, int64_t to)
{
    const char *const names[] = {name};

    kei_cert_free(fc->server_cert);
    fc->server_cert = NULL;
    must(fc,
         kei_ca_sign_server(&fc->server_cert, fc->ca, fc->ca_key, fc->server_key, names, 1, from,
                            to - from, kei_err(fc->ctx)),
         "server certificate");
}

static struct kei_tls_config *tls(struct fake_cloud *fc, bool hub)
{
    struct kei_tls_options o = {.server = true,
                                .verify_peer = hub,
                                .request_peer = !hub,
                                .ca = fc->ca,
                                .cert = fc->server_cert,
                                .key = fc->server_key,
                                .now = now_s,
                                .now_user = fc};
    struct kei_tls_config *t = NULL;

    must(fc, kei_tls_config_new(&t, fc->ctx, &o), "TLS");
    return t;
}

/* ---- the certificate port ---- */

static void answer(struct kei_http_conn *c, uint32_t status, struct ke_str body)
{
    if (kei_http_respond(c, status, "application/octet-stream", NULL, body) < 0)
        fail_msg("fake cloud: an answer was not sent");
}

static void raw_closed(void *user, int status, const char *text)
{
    (void)status;
    (void)text;
    kei_stream_free(*(struct kei_stream **)user);
    free(user);
}

static size_t raw_data(void *user, const char *p, size_t n)
{
    (void)user;
    (void)p;
    return n;
}

/* An answer whose Date is that of the cloud's clock, not of the loop's. */
static void answer_dated(struct fake_cloud *fc, struct kei_http_conn *c, struct ke_str body)
{
    static const struct kei_stream_ops ops = {.data = raw_data, .closed = raw_closed};
    char date[KEI_TIME_MAX];
    struct ke_buf text;
    struct kei_stream **s = calloc(1, sizeof *s);

    assert_non_null(s);
    kei_time_http(date, now_s(fc) * 1000);
    kei_buf_init(&text, kei_ctx_alloc(fc->ctx));
    kei_buf_addf(&text, "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: %zu\r\n\r\n", date, body.n);
    kei_buf_addv(&text, body);
    *s = kei_http_upgrade(c, kei_buf_str(&text));
    ke_buf_free(&text);
    assert_non_null(*s);
    kei_stream_set_ops(*s, &ops, s);
    kei_stream_finish(*s);
}

static void serve_ca(struct fake_cloud *fc, struct kei_http_conn *c)
{
    struct ke_buf der;

    fc->ca_requests++;
    kei_buf_init(&der, kei_ctx_alloc(fc->ctx));
    if (fc->other_ca)
        must(fc, kei_cert_der(fc->server_cert, &der, kei_err(fc->ctx)), "DER");
    else
        must(fc, kei_cert_der(fc->ca, &der, kei_err(fc->ctx)), "DER");
    answer_dated(fc, c, kei_buf_str(&der));
    ke_buf_free(&der);
}

/* Signs what was asked, or what the test wants instead. */
static void sign(struct fake_cloud *fc, struct ke_str csr, struct ke_buf *out)
{
    struct kei_key *key = NULL;
    struct kei_cert *cert = NULL;
    struct ke_buf other;
    struct kei_cert_info info;
    const uint8_t eku[] = {2};

    kei_buf_init(&other, kei_ctx_alloc(fc->ctx));
    if (fc->edge_other_key || fc->edge_cn) {
        must(fc, kei_key_new_p256(&key, fc->crypto, kei_err(fc->ctx)), "key");
        must(fc,
             kei_csr_make(&other, key, "system:nodes", fc->edge_cn ? fc->edge_cn : fc->csr_cn,
                          kei_err(fc->ctx)),
             "CSR");
        csr = kei_buf_str(&other);
    }
    must(fc,
         kei_ca_sign_csr(&cert, fc->ca, fc->ca_key, csr, eku, 1, now_s(fc), fc->cert_seconds,
                         kei_err(fc->ctx)),
         "signing");
    must(fc, kei_cert_der(cert, out, kei_err(fc->ctx)), "DER");
    must(fc, kei_cert_info(cert, &info, kei_err(fc->ctx)), "info");
    memcpy(fc->last_signed_sha, info.sha256, 32);
    kei_cert_free(cert);
    kei_key_free(key);
    ke_buf_free(&other);
}

/* 0: allowed; else the status to refuse with */
static uint32_t authenticate(struct fake_cloud *fc, struct kei_http_conn *c,
                             const struct kei_http_head *head)
{
    struct ke_buf der, secret;
    struct kei_cert *cert = NULL;
    struct ke_str auth = kei_http_header(head, "Authorization");
    uint32_t status = 0;

    kei_buf_init(&der, kei_ctx_alloc(fc->ctx));
    kei_buf_init(&secret, kei_ctx_alloc(fc->ctx));
    fc->edge_had_cert = kei_stream_peer_cert(kei_http_conn_stream(c), &der) == 0;
    if (fc->edge_had_cert) {
        must(fc, kei_cert_from_der(&cert, fc->crypto, kei_buf_str(&der), kei_err(fc->ctx)),
             "client certificate");
        if (kei_cert_verify(cert, fc->ca, true, now_s(fc), NULL) < 0)
            status = 401;
    } else {
        must(fc, kei_key_der(fc->ca_key, &secret, kei_err(fc->ctx)), "CA key DER");
        if (!kei_str_starts(auth, KEI_STR("Bearer ")) ||
            kei_jwt_verify(kei_strn(auth.p + 7, auth.n - 7), kei_buf_str(&secret), now_s(fc),
                           NULL) < 0)
            status = 401;
    }
    kei_cert_free(cert);
    ke_buf_free(&der);
    ke_buf_free(&secret);
    return status;
}

static void serve_edge(struct fake_cloud *fc, struct kei_http_conn *c,
                       const struct kei_http_head *head, struct ke_str body)
{
    struct ke_buf der;
    uint32_t refused;

    fc->edge_requests++;
    copy_header(fc->edge_auth, sizeof fc->edge_auth, head, "Authorization");
    copy_header(fc->edge_node, sizeof fc->edge_node, head, "NodeName");
    must(fc, kei_csr_info(fc->crypto, body, fc->csr_cn, fc->csr_org, kei_err(fc->ctx)), "CSR");
    refused = authenticate(fc, c, head);
    if (fc->edge_status) {
        answer(c, fc->edge_status, kei_str(fc->edge_body ? fc->edge_body : ""));
        return;
    }
    if (refused) {
        answer(c, refused, KEI_STR("Invalid authorization token"));
        return;
    }
    kei_buf_init(&der, kei_ctx_alloc(fc->ctx));
    if (!fc->edge_garbage)
        sign(fc, body, &der);
    answer(c, 200, kei_buf_str(&der));
    ke_buf_free(&der);
}

static void serve_probe(struct fake_cloud *fc, struct kei_http_conn *c, struct ke_str target)
{
    fc->probes++;
    if (fc->dialect == KE_DIALECT_1_23 && kei_str_starts(target, KEI_STR("/node/")))
        answer(c, 404, KEI_STR("Node not found"));
    else if (fc->dialect == KE_DIALECT_1_4 && kei_str_is(target, "/readyz"))
        answer(c, 200, KEI_STR("Cloudcore is ready"));
    else
        answer(c, 404, KEI_STR("404: Page Not Found"));
}

static void on_cert_request(void *user, struct kei_http_conn *c, const struct kei_http_head *head,
                            struct ke_str body)
{
    struct fake_cloud *fc = user;

    if (kei_str_is(head->target, "/ca.crt"))
        serve_ca(fc, c);
    else if (kei_str_is(head->target, "/edge.crt"))
        serve_edge(fc, c, head, body);
    else
        serve_probe(fc, c, head->target);
}

/* ---- the hub port ---- */

static void reply_ok(struct fake_cloud *fc, const struct ke_msg *m)
{
    struct fake_message r = {.parent = ke_msg_id(m),
                             .source = "edgecontroller",
                             .group = "resource",
                             .operation = "response",
                             .resource = ke_msg_resource(m),
                             .content = "\"OK\""};

    fake_cloud_send(fc, &r, NULL);
}

static void on_ws_message(void *user, const char *p, size_t n)
{
    struct fake_cloud *fc = user;
    struct ke_msg *m = NULL;
    struct ke_error err = KE_ERROR_INIT;
    bool keepalive;

    if (ke_msg_decode(&m, fc->ctx, p, n, &err) < 0)
        fail_msg("fake cloud: a message could not be read: %s: %.*s", err.text, (int)n, p);
    if (p[n - 1] != '\n')
        fail_msg("fake cloud: a message did not end with a newline");
    keepalive = strcmp(ke_msg_operation(m), "keepalive") == 0;
    if (!fc->any_in_session)
        fc->first_was_keepalive = keepalive;
    fc->any_in_session = true;
    if (keepalive) {
        fc->keepalives++;
        snprintf(fc->last_keepalive, sizeof fc->last_keepalive, "%.*s", (int)n, p);
        ke_msg_unref(m);
        return;
    }
    assert_true(fc->n_messages < FAKE_MESSAGES);
    fc->messages[fc->n_messages++] = m;
    if (fc->reply_ok && strcmp(ke_msg_operation(m), "response") != 0)
        reply_ok(fc, m);
    if (fc->on_message)
        fc->on_message(fc, m);
}

static void on_ws_closed(void *user, int status, const char *text, uint32_t http_status)
{
    struct fake_cloud *fc = user;

    (void)status;
    (void)text;
    (void)http_status;
    fc->sessions_closed++;
    kei_ws_free(fc->ws);
    fc->ws = NULL;
}

static bool may_connect(struct fake_cloud *fc, struct kei_http_conn *c)
{
    struct ke_buf der;
    struct kei_cert *cert = NULL;
    struct kei_cert_info info;
    bool last;

    kei_buf_init(&der, kei_ctx_alloc(fc->ctx));
    must(fc, kei_stream_peer_cert(kei_http_conn_stream(c), &der), "client certificate");
    must(fc, kei_cert_from_der(&cert, fc->crypto, kei_buf_str(&der), kei_err(fc->ctx)), "parse");
    must(fc, kei_cert_info(cert, &info, kei_err(fc->ctx)), "info");
    snprintf(fc->client_cn, sizeof fc->client_cn, "%s", info.cn);
    memcpy(fc->client_sha, info.sha256, 32);
    last = memcmp(info.sha256, fc->last_signed_sha, 32) == 0;
    kei_cert_free(cert);
    ke_buf_free(&der);
    if (!fc->only_serial)
        return true;
    return strcmp(fc->only_serial, "new") == 0 ? last : !last;
}

static void on_hub_request(void *user, struct kei_http_conn *c, const struct kei_http_head *head,
                           struct ke_str body)
{
    static const struct kei_ws_ops ops = {.message = on_ws_message, .closed = on_ws_closed};
    static const struct kei_ws_config conf = {.max_message = 64u << 20};
    struct fake_cloud *fc = user;
    struct kei_stream *s;
    struct ke_buf text;

    (void)body;
    fc->tls_ok++;
    snprintf(fc->target, sizeof fc->target, "%.*s", (int)head->target.n, head->target.p);
    copy_header(fc->node_id, sizeof fc->node_id, head, "Node_id");
    copy_header(fc->project_id, sizeof fc->project_id, head, "Project_id");
    copy_header(fc->use, sizeof fc->use, head, "ConnectionUse");
    copy_header(fc->origin, sizeof fc->origin, head, "Origin");
    copy_header(fc->user_agent, sizeof fc->user_agent, head, "User-Agent");
    copy_header(fc->newest, sizeof fc->newest, head, "Libkubeedge-Newest");
    if (!may_connect(fc, c)) {
        answer(c, 403, KEI_STR("not this certificate"));
        return;
    }
    if (fc->upgrade_status) {
        answer(c, fc->upgrade_status, KEI_STR("no"));
        return;
    }
    kei_buf_init(&text, kei_ctx_alloc(fc->ctx));
    must(fc, kei_ws_server_handshake(head, &text, kei_err(fc->ctx)), "handshake");
    s = kei_http_upgrade(c, kei_buf_str(&text));
    ke_buf_free(&text);
    if (!s)
        return;
    kei_ws_free(fc->ws); /* the newest wins */
    fc->ws = NULL;
    fc->any_in_session = false;
    must(fc, kei_ws_accepted(&fc->ws, fc->ctx, s, &conf, &ops, fc), "session");
    fc->upgrades++;
}

/* ---- life ---- */

void fake_cloud_up(struct fake_cloud *fc)
{
    static const struct kei_http_server_ops cert_ops = {.request = on_cert_request};
    static const struct kei_http_server_ops hub_ops = {.request = on_hub_request};
    struct kei_http_server_config c = {.listener = {.host = "127.0.0.1", .port = fc->cert_port}};

    c.listener.tls = tls(fc, false);
    must(fc, kei_http_server_new(&fc->cert_server, fc->ctx, &c, &cert_ops, fc), "cert port");
    kei_tls_config_unref(c.listener.tls);
    c.listener.port = fc->hub_port;
    c.listener.send_cap = 80u << 20;
    c.listener.tls = tls(fc, true);
    must(fc, kei_http_server_new(&fc->hub_server, fc->ctx, &c, &hub_ops, fc), "hub port");
    kei_tls_config_unref(c.listener.tls);
    fc->cert_port = kei_http_server_port(fc->cert_server);
    fc->hub_port = kei_http_server_port(fc->hub_server);
}

void fake_cloud_down(struct fake_cloud *fc)
{
    fake_cloud_drop(fc);
    kei_http_server_free(fc->cert_server);
    kei_http_server_free(fc->hub_server);
    fc->cert_server = fc->hub_server = NULL;
}

void fake_cloud_server_cert(struct fake_cloud *fc, const char *name, int64_t from, int64_t to)
{
    struct kei_tls_config *t;

    make_server_cert(fc, name, from, to);
    if (!fc->cert_server)
        return;
    t = tls(fc, false);
    kei_http_server_set_tls(fc->cert_server, t);
    kei_tls_config_unref(t);
    t = tls(fc, true);
    kei_http_server_set_tls(fc->hub_server, t);
    kei_tls_config_unref(t);
}

void fake_cloud_new_ca(struct fake_cloud *fc)
{
    make_ca(fc);
    fake_cloud_server_cert(fc, "127.0.0.1", now_s(fc) - 3600, now_s(fc) + 365 * 86400);
}

void fake_cloud_start(struct fake_cloud *fc, struct ke_ctx *ctx)
{
    memset(fc, 0, sizeof *fc);
    fc->ctx = ctx;
    fc->dialect = KE_DIALECT_1_15;
    fc->cert_seconds = 365 * 86400;
    fc->epoch_s = (ke_ctx_real_ms(ctx) - ke_ctx_mono_ms(ctx)) / 1000;
    kei_buf_init(&fc->token, kei_ctx_alloc(ctx));
    must(fc, kei_crypto_get(ctx, &fc->crypto), "crypto");
    must(fc, kei_key_new_p256(&fc->server_key, fc->crypto, kei_err(ctx)), "server key");
    make_ca(fc);
    make_server_cert(fc, "127.0.0.1", now_s(fc) - 3600, now_s(fc) + 365 * 86400);
    fake_cloud_up(fc);
}

void fake_cloud_stop(struct fake_cloud *fc)
{
    fake_cloud_down(fc);
    fake_cloud_forget(fc);
    kei_cert_free(fc->ca);
    kei_cert_free(fc->server_cert);
    kei_key_free(fc->ca_key);
    kei_key_free(fc->server_key);
    ke_buf_free(&fc->token);
}

void fake_cloud_drop(struct fake_cloud *fc)
{
    kei_ws_free(fc->ws);
    fc->ws = NULL;
}

void fake_cloud_freeze(struct fake_cloud *fc)
{
    assert_non_null(fc->ws);
    kei_stream_pause(kei_ws_stream(fc->ws), true);
}

/* ---- messages ---- */

void fake_cloud_send_text(struct fake_cloud *fc, const char *text, size_t n)
{
    assert_non_null(fc->ws);
    must(fc, kei_ws_send(fc->ws, text, n), "sending");
}

void fake_cloud_send(struct fake_cloud *fc, const struct fake_message *f, char id[37])
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_buf text;

    ke_msg_config_init(&c, sizeof c);
    c.id = f->id;
    c.parent_id = f->parent;
    c.timestamp_ms = f->timestamp_ms;
    c.resource_version = f->rv;
    c.source = f->source ? f->source : "edgecontroller";
    c.group = f->group ? f->group : "resource";
    c.operation = f->operation;
    c.resource = f->resource;
    c.content = f->content;
    c.content_len = f->content ? strlen(f->content) : 0;
    must(fc, ke_msg_new(&m, fc->ctx, &c, kei_err(fc->ctx)), "message");
    kei_buf_init(&text, kei_ctx_alloc(fc->ctx));
    must(fc, ke_msg_encode(m, fc->ctx, fc->dialect, &text, kei_err(fc->ctx)), "encoding");
    fake_cloud_send_text(fc, text.p, text.n);
    if (id)
        snprintf(id, 37, "%s", ke_msg_id(m));
    ke_buf_free(&text);
    ke_msg_unref(m);
}

static bool is(const char *want, const char *got)
{
    return !want || strcmp(want, got) == 0;
}

struct ke_msg *fake_cloud_find(const struct fake_cloud *fc, const char *operation,
                               const char *resource, uint32_t n)
{
    for (uint32_t i = 0; i < fc->n_messages; i++) {
        struct ke_msg *m = fc->messages[i];

        if (is(operation, ke_msg_operation(m)) && is(resource, ke_msg_resource(m)) && n-- == 0)
            return m;
    }
    return NULL;
}

uint32_t fake_cloud_count(const struct fake_cloud *fc, const char *operation, const char *resource)
{
    uint32_t n = 0;

    while (fake_cloud_find(fc, operation, resource, n))
        n++;
    return n;
}

uint32_t fake_cloud_acks(const struct fake_cloud *fc, const char *id)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < fc->n_messages; i++) {
        const struct ke_msg *m = fc->messages[i];

        n += strcmp(ke_msg_operation(m), "response") == 0 && strcmp(ke_msg_parent_id(m), id) == 0;
    }
    return n;
}

void fake_cloud_forget(struct fake_cloud *fc)
{
    for (uint32_t i = 0; i < fc->n_messages; i++)
        ke_msg_unref(fc->messages[i]);
    fc->n_messages = 0;
}
