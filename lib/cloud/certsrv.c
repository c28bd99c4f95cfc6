/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate endpoint: GET /ca.crt, GET /edge.crt (a CSR as body), GET /node/NAME. Nodes come
 * with a join token the first time and with their certificate from then on. Loop thread.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cloud/cloud_priv.h"

#define CSR_MAX (1024u * 1024u)
#define EKU_MAX 8

struct kei_certsrv {
    struct ke_cloud *cloud;
    struct kei_http_server *http;
};

static void answer_text(struct kei_http_conn *c, uint32_t status, const char *text)
{
    (void)kei_http_respond(c, status, "text/plain; charset=utf-8", NULL, kei_str(text));
}

static int64_t now_s(const struct ke_cloud *c)
{
    return ke_ctx_real_ms(c->ctx) / 1000;
}

static bool is_of_node(const char *cn, const char *node)
{
    size_t n = strlen(KEI_NODE_CN);
    return strncmp(cn, KEI_NODE_CN, n) == 0 && strcmp(cn + n, node) == 0;
}

/* Who a presented certificate speaks for, and whether it may ask for node. */
static int check_certificate(struct ke_cloud *c, struct ke_str der, const char *node,
                             struct ke_error *err)
{
    struct kei_cert *cert = NULL;
    struct kei_cert_info info;
    int r = kei_cert_from_der(&cert, c->pki.crypto, der, err);
    if (r == 0)
        r = kei_cert_verify(cert, c->pki.ca, true, now_s(c), err);
    if (r == 0)
        r = kei_cert_info(cert, &info, err);
    kei_cert_free(cert);
    if (r < 0)
        return r;
    if (is_of_node(info.cn, node) && strcmp(info.org, "system:nodes") == 0)
        return 0;
    /* nodes up to 1.15 all bear the same name; they may renew it */
    if (strcmp(info.cn, KEI_LEGACY_CN) == 0 &&
        (strcmp(info.org, "kubeEdge") == 0 || strcmp(info.org, "KubeEdge") == 0))
        return 0;
    return kei_error(err, KE_EREFUSED, "certificate of %s may not ask for node %s", info.cn, node);
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

static void sign(struct kei_certsrv *s, struct kei_http_conn *conn, const char *node,
                 struct ke_str csr, const uint8_t *eku, size_t n_eku)
{
    struct ke_cloud *c = s->cloud;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf der = {0};
    struct kei_cert *cert = NULL;
    char text[KE_ERROR_TEXT_MAX + 400];
    kei_buf_init(&der, kei_ctx_alloc(c->ctx));
    int r = kei_ca_sign_csr(&cert, c->pki.ca, c->pki.ca_key, csr, eku, n_eku, now_s(c),
                            (int64_t)c->config.cert_days * 86400, &err);
    if (r == 0)
        r = kei_cert_der(cert, &der, &err);
    kei_cert_free(cert);
    if (r < 0) {
        snprintf(text, sizeof text, "failed to sign certs for edgenode %s: %s", node, err.text);
        answer_text(conn, 500, text);
    } else {
        const struct kei_peer *p = kei_peer_get(c, node, false);
        kei_log(c->ctx, KE_LOG_INFO, "cloud", "signed a certificate for node %s%s%s", node,
                p && p->session ? ", which is connected now from " : "",
                p && p->session ? kei_stream_peer_name(kei_ws_stream(p->session->ws)) : "");
        (void)kei_http_respond(conn, 200, "application/octet-stream", NULL, kei_buf_str(&der));
    }
    ke_buf_free(&der);
}

/* By the certificate that was presented, or else by token. */
static int check_caller(struct ke_cloud *c, struct kei_http_conn *conn,
                        const struct kei_http_head *head, const char *node, const char **ret_what,
                        struct ke_error *err)
{
    struct ke_buf peer = {0};
    kei_buf_init(&peer, kei_ctx_alloc(c->ctx));
    int r = kei_stream_peer_cert(kei_http_conn_stream(conn), &peer);
    if (r == KE_ENOTFOUND) {
        *ret_what = "token validation failure";
        r = check_token(c, head, err);
    } else {
        *ret_what = "failed to verify the certificate for edgenode";
        r = r < 0 ? kei_error(err, r, "%s", ke_ctx_error(c->ctx))
                  : check_certificate(c, kei_buf_str(&peer), node, err);
    }
    ke_buf_free(&peer);
    return r;
}

/* A request for another node's name, or for none, would let this one act for others. */
static int check_request(struct ke_cloud *c, const char *node, struct ke_str csr,
                         struct ke_error *err)
{
    char cn[256], org[256];
    int r = kei_csr_info(c->pki.crypto, csr, cn, org, err);
    if (r == 0 && !is_of_node(cn, node) && strcmp(cn, KEI_LEGACY_CN) != 0)
        r = kei_error(err, KE_ECERT, "request is for %s, not for node %s", cn, node);
    return r;
}

static void edge_crt(struct kei_certsrv *s, struct kei_http_conn *conn,
                     const struct kei_http_head *head, struct ke_str body)
{
    struct ke_cloud *c = s->cloud;
    struct ke_error err = KE_ERROR_INIT;
    char node[KEI_NODE_NAME_MAX + 2], text[KE_ERROR_TEXT_MAX + 400];
    const char *what = "";
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
    int r = check_caller(c, conn, head, node, &what, &err);
    if (r < 0) {
        kei_log(c->ctx, KE_LOG_WARN, "cloud", "refused a certificate for node %s: %s", node,
                err.text);
        snprintf(text, sizeof text, "%s, err: %s", what, err.text);
        answer_text(conn, r == KE_ENOMEM ? 503 : 401, text);
        return;
    }
    r = check_request(c, node, body, &err);
    if (r < 0) {
        snprintf(text, sizeof text, "failed to sign certs for edgenode %s: %s", node, err.text);
        answer_text(conn, 500, text);
        return;
    }
    sign(s, conn, node, body, eku, n_eku);
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
    (void)user;
    (void)conn; /* every request is answered within its call */
}

int kei_certsrv_new(struct kei_certsrv **ret, struct ke_cloud *c)
{
    struct kei_certsrv *s = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *s);
    if (!s)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the certificate endpoint");
    s->cloud = c;
    struct kei_http_server_config hc = {
        .listener = {.host = c->config.listen,
                     .port = c->config.cert_port == KE_PORT_ANY ? 0 : (uint16_t)c->config.cert_port,
                     .tls = c->pki.cert_tls},
        .max_body = CSR_MAX,
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
    kei_free(kei_ctx_alloc(s->cloud->ctx), s);
}
