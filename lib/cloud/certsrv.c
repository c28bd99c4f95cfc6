/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate endpoint: GET /ca.crt, GET /edge.crt (a CSR as body), GET /node/NAME. Nodes come
 * with a join token the first time and with their certificate from then on. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"

#define CSR_MAX (64u * 1024u) /* what the parser takes; over ten times what they have */
#define IDLE_MS 15000         /* for a head, for a body, between two requests */
#define EKU_MAX 8

struct kei_certsrv {
    struct ke_cloud *cloud;
    struct kei_http_server *http;
    struct kei_link signing; /* struct signing */
};

/* A certificate that goes out when it is on disk whose it is. */
struct signing {
    struct kei_link link;
    struct ke_cloud *cloud;
    struct kei_http_conn *conn; /* NULL: it went */
    struct ke_buf der;
    bool by_cert;
    char node[KEI_NODE_NAME_MAX + 1];
};

/* Who asks, and by what. */
struct caller {
    bool by_cert;
    struct kei_identity id;
    const char *what; /* the beginning of a refusal */
};

static void answer_text(struct kei_http_conn *c, uint32_t status, const char *text)
{
    (void)kei_http_respond(c, status, "text/plain; charset=utf-8", NULL, kei_str(text));
}

static int64_t now_s(const struct ke_cloud *c)
{
    return ke_ctx_real_ms(c->ctx) / 1000;
}

/* Whether a presented certificate may ask for node. */
static int check_certificate(struct ke_cloud *c, struct ke_str der, const char *node,
                             struct kei_identity *ret, struct ke_error *err)
{
    struct kei_cert *cert = NULL;
    int r = kei_cert_from_der(&cert, c->pki.crypto, der, err);
    if (r == 0)
        r = kei_cert_verify(cert, c->pki.ca, true, now_s(c), err);
    if (r == 0)
        r = kei_identity_check(c, cert, node, ret, err);
    kei_cert_free(cert);
    return r;
}

static int check_token(struct ke_cloud *c, const struct kei_http_head *head, struct ke_error *err)
{
    struct ke_str token = {0};
    struct ke_str value = kei_http_header(head, "Authorization");
    if (!value.p)
        return kei_error(err, KE_ETOKEN, "no Authorization header and no client certificate");
    (void)kei_str_cut(value, ' ', &token);
    if (!token.p || token.n == 0 || memchr(token.p, ' ', token.n))
        return kei_error(err, KE_ETOKEN, "Authorization header is not \"Bearer TOKEN\"");
    return kei_jwt_verify(token, kei_buf_str(&c->pki.ca_key_der), now_s(c), err);
}

/* "[1,2]" of x509.ExtKeyUsage numbers; anything else is refused. */
static bool read_usages(struct ke_str header, uint8_t *out, size_t *n)
{
    struct ke_str list, key, item;
    int64_t v;
    *n = 0;
    if (!header.p)
        return true;
    if (kei_json_value(header, 4, &list, NULL) < 0 || kei_json_type(list) != '[')
        return false;
    for (size_t it = 0; kei_json_next(list, &it, &key, &item);) {
        if (*n == EKU_MAX || !kei_json_i64(item, &v) || (v != 1 && v != 2))
            return false;
        out[(*n)++] = (uint8_t)v;
    }
    return true;
}

static void signing_free(struct signing *g)
{
    kei_list_remove(&g->link);
    ke_buf_free(&g->der);
    kei_free(kei_ctx_alloc(g->cloud->ctx), g);
}

static void hand_out(const struct signing *g)
{
    struct ke_cloud *c = g->cloud;
    const struct kei_peer *p = kei_peer_get(c, g->node, false);
    kei_log(c->ctx, KE_LOG_INFO, "cloud", "signed a certificate for node %s%s%s", g->node,
            p && p->session ? ", which is connected now from " : "",
            p && p->session ? kei_stream_peer_name(kei_ws_stream(p->session->ws)) : "");
    (void)kei_http_respond(g->conn, 200, "application/octet-stream", NULL, kei_buf_str(&g->der));
}

static void on_noted(void *user, int status)
{
    struct signing *g = user;
    if (g->conn && g->cloud->state != KEI_CLOUD_CLOSING) {
        if (status < 0)
            answer_text(g->conn, 503, "the cloud could not note this certificate in its store");
        else
            hand_out(g);
    }
    signing_free(g);
}

static void on_bound(void *user, int status)
{
    struct signing *g = user;
    struct ke_error err = KE_ERROR_INIT;
    /* who joins anew may have lost all that it acknowledged */
    if (status == 0 && !g->by_cert)
        status = kei_lost_joined(g->cloud, g->node, on_noted, g, &err);
    else
        status = status == 0 ? 1 : status;
    if (status != 0)
        on_noted(g, status < 0 ? status : 0);
}

static void not_signed(struct kei_http_conn *conn, const char *node, int r,
                       const struct ke_error *err)
{
    char text[KE_ERROR_TEXT_MAX + 400];
    bool later = r == KE_EAGAIN || r == KE_ENOMEM || r == KE_ELIMIT;
    snprintf(text, sizeof text, "failed to sign certs for edgenode %s: %s", node, err->text);
    answer_text(conn, later ? 503 : 500, text);
}

/* The certificate, and whose it is. */
static int make_cert(struct ke_cloud *c, struct signing *g, struct ke_str csr, const uint8_t *eku,
                     size_t n_eku, struct kei_identity *ret, struct ke_error *err)
{
    struct kei_cert *cert = NULL;
    int r = kei_ca_sign_csr(&cert, c->pki.ca, c->pki.ca_key, csr, eku, n_eku, now_s(c),
                            (int64_t)c->config.cert_days * 86400, err);
    if (r == 0)
        r = kei_identity_of(ret, cert, err);
    if (r == 0)
        r = kei_cert_der(cert, &g->der, err);
    kei_cert_free(cert);
    return r;
}

static void sign(struct kei_certsrv *s, struct kei_http_conn *conn, const char *node,
                 const struct caller *caller, struct ke_str csr, const uint8_t *eku, size_t n_eku)
{
    struct ke_cloud *c = s->cloud;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_identity made;
    const struct kei_identity *ids[KEI_BIND_MAX] = {&made, &caller->id};
    struct signing *g = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *g);
    if (!g) {
        answer_text(conn, 503, "out of memory");
        return;
    }
    g->cloud = c;
    g->conn = conn;
    g->by_cert = caller->by_cert;
    snprintf(g->node, sizeof g->node, "%.*s", KEI_NODE_NAME_MAX, node);
    kei_buf_init(&g->der, kei_ctx_alloc(c->ctx));
    kei_list_add_tail(&s->signing, &g->link);
    int r = make_cert(c, g, csr, eku, n_eku, &made, &err);
    if (r == 0) {
        r = kei_identity_bind(c, ids, caller->by_cert ? 2 : 1, node, on_bound, g, &err);
        if (r == 0)
            return;
    }
    if (r > 0) {
        on_bound(g, 0);
        return;
    }
    not_signed(conn, node, r, &err);
    signing_free(g);
}

/* By the certificate that was presented, or else by token. */
static int check_caller(struct ke_cloud *c, struct kei_http_conn *conn,
                        const struct kei_http_head *head, const char *node, struct caller *ret,
                        struct ke_error *err)
{
    struct ke_buf peer = {0};
    kei_buf_init(&peer, kei_ctx_alloc(c->ctx));
    memset(ret, 0, sizeof *ret);
    int r = kei_stream_peer_cert(kei_http_conn_stream(conn), &peer);
    if (r == KE_ENOTFOUND) {
        ret->what = "token validation failure";
        r = check_token(c, head, err);
    } else {
        ret->what = "failed to verify the certificate for edgenode";
        ret->by_cert = true;
        r = r < 0 ? kei_error(err, r, "%s", ke_ctx_error(c->ctx))
                  : check_certificate(c, kei_buf_str(&peer), node, &ret->id, err);
    }
    ke_buf_free(&peer);
    return r;
}

/*
 * A request for another node's name, or for none, would let this one act for others. The form up to
 * 1.15 names none: who has the new form, which does, does not get it.
 */
static int check_request(struct ke_cloud *c, const char *node, const struct caller *caller,
                         struct ke_str csr, struct ke_error *err)
{
    char cn[256], org[256];
    int r = kei_csr_info(c->pki.crypto, csr, cn, org, err);
    if (r < 0 || kei_is_of_node(cn, org, node))
        return r;
    if (!kei_is_legacy(cn, org))
        return kei_error(err, KE_ECERT, "request is for %s (O=%s), not for node %s", cn, org, node);
    if (caller->by_cert && !caller->id.legacy)
        return kei_error(err, KE_EREFUSED, "node %s has a certificate with its name: no other form",
                         node);
    return 0;
}

static void edge_crt(struct kei_certsrv *s, struct kei_http_conn *conn,
                     const struct kei_http_head *head, struct ke_str body)
{
    struct ke_cloud *c = s->cloud;
    struct ke_error err = KE_ERROR_INIT;
    char node[KEI_NODE_NAME_MAX + 2], text[KE_ERROR_TEXT_MAX + 400];
    struct caller caller;
    uint8_t eku[EKU_MAX];
    size_t n_eku = 0;
    struct ke_str name = kei_http_header(head, "NodeName");
    snprintf(node, sizeof node, "%.*s", (int)(name.n < sizeof node ? name.n : sizeof node - 1),
             name.p ? name.p : "");
    if (name.n > KEI_NODE_NAME_MAX || !kei_dns_subdomain(kei_str(node))) {
        answer_text(conn, 400, "NodeName header is missing or no node name");
        return;
    }
    if (!read_usages(kei_http_header(head, "ExtKeyUsages"), eku, &n_eku)) {
        answer_text(conn, 400, "ExtKeyUsages header is not a JSON array of 1 and 2");
        return;
    }
    int r = check_caller(c, conn, head, node, &caller, &err);
    if (r < 0) {
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "refused a certificate for node %s: %s", node,
                err.text);
        snprintf(text, sizeof text, "%s, err: %s", caller.what, err.text);
        answer_text(conn, r == KE_ENOMEM || r == KE_EAGAIN ? 503 : 401, text);
        return;
    }
    r = check_request(c, node, &caller, body, &err);
    if (r < 0)
        not_signed(conn, node, r, &err);
    else
        sign(s, conn, node, &caller, body, eku, n_eku);
}

static void found_node(struct kei_certsrv *s, struct kei_http_conn *conn, struct ke_str name)
{
    struct ke_cloud *c = s->cloud;
    char node[KEI_NODE_NAME_MAX + 1];
    struct kei_object *o = NULL;
    if (c->state != KEI_CLOUD_LOADED) {
        answer_text(conn, 500, "the cloud is starting");
        return;
    }
    if (name.n > 0 && name.n < sizeof node) {
        memcpy(node, name.p, name.n);
        node[name.n] = 0;
        o = kei_objects_get(c->objects, "node", "", node);
    }
    answer_text(conn, o ? 200 : 404, o ? "Node founded" : "Node not found");
}

static void on_request(void *user, struct kei_http_conn *conn, const struct kei_http_head *head,
                       struct ke_str body)
{
    struct kei_certsrv *s = user;
    if (!kei_str_is(head->method, "GET")) {
        answer_text(conn, 405, "method not allowed");
    } else if (kei_str_is(head->target, "/ca.crt")) {
        (void)kei_http_respond(conn, 200, "application/octet-stream", NULL,
                               kei_buf_str(&s->cloud->pki.ca_der));
    } else if (kei_str_is(head->target, "/edge.crt")) {
        edge_crt(s, conn, head, body);
    } else if (kei_str_starts(head->target, KEI_STR("/node/"))) {
        found_node(s, conn, kei_strn(head->target.p + 6, head->target.n - 6));
    } else {
        answer_text(conn, 404, "404 page not found");
    }
}

static void on_closed(void *user, struct kei_http_conn *conn)
{
    struct kei_certsrv *s = user;
    KEI_LIST_EACH(l, &s->signing)
    {
        struct signing *g = KEI_OF(l, struct signing, link);
        if (g->conn == conn)
            g->conn = NULL;
    }
}

int kei_certsrv_new(struct kei_certsrv **ret, struct ke_cloud *c)
{
    struct kei_certsrv *s = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *s);
    if (!s)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the certificate endpoint");
    s->cloud = c;
    kei_list_init(&s->signing);
    struct kei_http_server_config hc = {
        .listener = {.host = c->config.listen,
                     .port = c->config.cert_port == KE_PORT_ANY ? 0 : (uint16_t)c->config.cert_port,
                     .tls = c->pki.cert_tls,
                     .max_streams = c->cert_streams,
                     .max_handshakes = c->handshakes,
                     .max_per_address = c->cert_streams < KEI_CERT_STREAMS ? c->cert_streams / 4 + 1
                                                                           : KEI_CERT_PER_ADDRESS},
        .max_body = CSR_MAX,
        .idle_ms = IDLE_MS,
    };
    static const struct kei_http_server_ops ops = {.request = on_request, .closed = on_closed};
    int r = kei_http_server_new(&s->http, c->ctx, &hc, &ops, s);
    if (r < 0) {
        kei_free(kei_ctx_alloc(c->ctx), s);
        return r;
    }
    *ret = s;
    return 0;
}

uint16_t kei_certsrv_port(const struct kei_certsrv *s)
{
    return kei_http_server_port(s->http);
}

void kei_certsrv_free(struct kei_certsrv *s)
{
    if (!s)
        return;
    kei_http_server_free(s->http);
    while (!kei_list_empty(&s->signing)) { /* freed when the store tells them */
        struct kei_link *l = s->signing.next;
        kei_list_remove(l);
        KEI_OF(l, struct signing, link)->conn = NULL;
    }
    kei_free(kei_ctx_alloc(s->cloud->ctx), s);
}
