/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /ca.crt without verification, its digest checked against the token; then GET /edge.crt with a
 * certificate request as body. Owns what it was given by copy, and the unit until it is taken.
 */
#include "tunnel/join.h"

#include "base/arena.h"
#include "base/codec.h"
#include "base/log.h"
#include "base/loop.h"
#include "net/http.h"
#include "net/tls.h"

#define CA_MAX (64u * 1024)
#define CERT_MAX (64u * 1024)
#define EXCHANGE_MS 30000
#define ARENA_MAX (64u * 1024)

struct kei_join {
    struct ke_ctx *ctx;
    struct kei_crypto *crypto;
    struct kei_arena arena;
    struct kei_join_config conf; /* strings in the arena; held is not kept */
    struct kei_token token;
    struct kei_http_call *call;
    struct kei_tls_config *client_tls; /* rotation */
    struct kei_identity got;
    struct kei_defer defer; /* tells a failure that was found at once */
    struct ke_error err;
    int64_t server_ms;
    kei_join_fn done;
    void *user;
};

/* ---- the Date header ---- */

static bool two_digits(const char *p, uint32_t *ret)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return false;
    *ret = (uint32_t)(p[0] - '0') * 10 + (uint32_t)(p[1] - '0');
    return true;
}

static bool month_of(const char *p, uint32_t *ret)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (uint32_t i = 0; i < 12; i++) {
        if (memcmp(p, names + i * 3, 3) == 0) {
            *ret = i + 1;
            return true;
        }
    }
    return false;
}

int64_t kei_http_date_ms(const struct kei_http_head *head)
{
    struct ke_str s = kei_http_header(head, "Date");
    uint32_t day, month, century, year, h, m, sec;

    /* "Sun, 22 Nov 2026 08:17:59 GMT" */
    if (s.n != 29 || !two_digits(s.p + 5, &day) || !month_of(s.p + 8, &month) ||
        !two_digits(s.p + 12, &century) || !two_digits(s.p + 14, &year) ||
        !two_digits(s.p + 17, &h) || !two_digits(s.p + 20, &m) || !two_digits(s.p + 23, &sec))
        return 0;
    if (day < 1 || day > 31 || h > 23 || m > 59 || sec > 60)
        return 0;
    return (kei_days_from_civil((int64_t)century * 100 + year, month, day) * 86400 +
            (int64_t)h * 3600 + (int64_t)m * 60 + sec) *
           1000;
}

/* ---- the end ---- */

static void finish(struct kei_join *j, int status)
{
    struct kei_identity got = j->got;
    kei_join_fn done = j->done;

    kei_http_call_free(j->call);
    j->call = NULL;
    j->got = (struct kei_identity){0};
    /* j may be freed in here: the unit and the text are passed from the stack. */
    struct ke_error err = j->err;
    done(j->user, status, status < 0 ? err.text : "", &got, j->server_ms);
    kei_identity_clear(&got);
}

static void finish_later(struct kei_defer *d)
{
    struct kei_join *j = KEI_OF(d, struct kei_join, defer);

    finish(j, j->err.code);
}

/* ---- /edge.crt ---- */

static const struct kei_key *key_of(const struct kei_join *j)
{
    return j->conf.host_key ? j->conf.host_key : j->got.key;
}

static int check_issued(struct kei_join *j, struct ke_str der)
{
    struct kei_identity *got = &j->got;
    int64_t now = j->conf.now(j->conf.now_user);
    int r = kei_cert_from_der(&got->cert, j->crypto, der, &j->err);

    if (r < 0) /* clouds of 1.15 answer 200 with nothing when they could not sign */
        return kei_error_prefix(&j->err, r, "the cloud %s answered with no certificate",
                                j->conf.host);
    r = kei_cert_info(got->cert, &got->info, &j->err);
    if (r < 0)
        return r;
    if (!kei_identity_is_for(got, j->conf.node_name))
        return kei_error(&j->err, KE_ECERT,
                         "the cloud %s issued a certificate for %s instead of system:node:%s",
                         j->conf.host, got->info.cn, j->conf.node_name);
    if (!kei_cert_matches(got->cert, key_of(j)))
        return kei_error(&j->err, KE_EKEY, "the cloud %s certified another key than was asked",
                         j->conf.host);
    /* Issued just now and not back-dated: a clock that is behind must not refuse it. */
    if (now < got->info.not_before)
        now = got->info.not_before;
    r = kei_cert_verify(got->cert, got->ca, true, now, &j->err);
    if (r < 0)
        return kei_error_prefix(&j->err, r, "the certificate the cloud %s issued", j->conf.host);
    return 0;
}

static int read_answer(struct kei_join *j, uint32_t status, struct ke_str body)
{
    struct ke_str text = kei_str_trim(kei_strn(body.p, body.n > 200 ? 200 : body.n));

    if (status == 200)
        return check_issued(j, body);
    if (status == 401 || status == 403 || (status == 400 && j->conf.token)) {
        if (!j->conf.token)
            return kei_error(&j->err, KE_EREFUSED,
                             "the cloud %s refused the certificate of node %s (HTTP %u): %.*s; "
                             "configure a join token",
                             j->conf.host, j->conf.node_name, status, KEI_FMT(text));
        return kei_error(&j->err, KE_ETOKEN,
                         "the cloud %s refused the join token (HTTP %u): %.*s; get a new one",
                         j->conf.host, status, KEI_FMT(text));
    }
    return kei_error(&j->err, KE_EHTTP, "the cloud %s gave no certificate (HTTP %u): %.*s",
                     j->conf.host, status, KEI_FMT(text));
}

/* Why the cloud gave no answer on what was asked for, with its name unless text has it. */
static void no_answer(struct kei_join *j, int status, const char *what, const char *text)
{
    if (kei_str_starts(kei_str(text), KEI_STR(KEI_STREAM_NOT_OPENED)))
        kei_error(&j->err, status, "asking for %s: %s", what, text);
    else
        kei_error(&j->err, status, "asking %s:%u for %s: %s", j->conf.host, j->conf.port, what,
                  text);
}

static void on_cert(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct kei_join *j = user;

    if (status < 0) {
        no_answer(j, status, "a certificate", text);
    } else {
        j->server_ms = kei_http_date_ms(head);
        status = read_answer(j, head->status, body);
    }
    finish(j, status);
}

static void stream_config(struct kei_join *j, struct kei_stream_config *s,
                          struct kei_tls_config *tls)
{
    *s = (struct kei_stream_config){.host = j->conf.host,
                                    .port = j->conf.port,
                                    .proxy_url = j->conf.proxy_url,
                                    .tls = tls,
                                    .connect_ms = EXCHANGE_MS};
}

static int ask_cert(struct kei_join *j)
{
    struct kei_tls_options o = {
        .verify_peer = true, .ca = j->got.ca, .now = j->conf.now, .now_user = j->conf.now_user};
    struct kei_tls_config *tls = j->client_tls;
    struct kei_http_call_config c = {.method = "GET", .target = "/edge.crt"};
    struct ke_buf csr;
    const char *cn = kei_arena_printf(&j->arena, "system:node:%s", j->conf.node_name);
    int r = 0;

    kei_buf_init(&csr, kei_ctx_alloc(j->ctx));
    if (j->conf.token)
        c.headers = kei_arena_printf(&j->arena, "Authorization: Bearer %.*s\r\nNodeName: %s\r\n",
                                     (int)j->token.jwt.n, j->token.jwt.p, j->conf.node_name);
    else
        c.headers = kei_arena_printf(&j->arena, "NodeName: %s\r\n", j->conf.node_name);
    if (!cn || !c.headers)
        r = kei_error(&j->err, KE_ENOMEM, "out of memory for the certificate request");
    if (r == 0 && !j->conf.host_key)
        r = kei_key_new_p256(&j->got.key, j->crypto, &j->err);
    if (r == 0)
        r = kei_csr_make(&csr, key_of(j), "system:nodes", cn, &j->err);
    if (r == 0 && !tls) {
        r = kei_tls_config_new(&tls, j->ctx, &o);
        if (r < 0)
            kei_error(&j->err, r, "%s", ke_ctx_error(j->ctx));
    }
    if (r == 0) {
        stream_config(j, &c.stream, tls);
        c.body = kei_buf_str(&csr);
        c.timeout_ms = EXCHANGE_MS;
        c.max_body = CERT_MAX;
        r = kei_http_call(&j->call, j->ctx, &c, on_cert, j);
        if (r < 0)
            kei_error(&j->err, r, "%s", ke_ctx_error(j->ctx));
    }
    if (tls != j->client_tls)
        kei_tls_config_unref(tls);
    ke_buf_free(&csr);
    return r;
}

/* ---- /ca.crt ---- */

static int take_ca(struct kei_join *j, uint32_t status, struct ke_str body)
{
    uint8_t digest[32];

    if (status != 200)
        return kei_error(&j->err, KE_EHTTP, "the cloud %s:%u gave no CA certificate (HTTP %u)",
                         j->conf.host, j->conf.port, status);
    kei_sha256(body.p, body.n, digest);
    if (!kei_equal_ct(digest, j->token.ca_sha256, sizeof digest)) {
        char got[65], want[65];

        kei_hex_encode(got, digest, sizeof digest);
        kei_hex_encode(want, j->token.ca_sha256, sizeof digest);
        return kei_error(
            &j->err, KE_EPIN,
            "the CA of the cloud %s:%u has the SHA-256 hash %.16s..., the join token names "
            "%.16s...: the token is of another cloud, or somebody is in between",
            j->conf.host, j->conf.port, got, want);
    }
    return kei_cert_from_der(&j->got.ca, j->crypto, body, &j->err);
}

static void on_ca(void *user, int status, const char *text, const struct kei_http_head *head,
                  struct ke_str body)
{
    struct kei_join *j = user;

    if (status < 0)
        no_answer(j, status, "the CA of the cloud", text);
    else
        status = take_ca(j, head->status, body);
    kei_http_call_free(j->call);
    j->call = NULL;
    if (status == 0)
        status = ask_cert(j);
    if (status < 0)
        finish(j, status);
}

static int ask_ca(struct kei_join *j)
{
    struct kei_tls_options o = {.verify_peer = false};
    struct kei_tls_config *tls = NULL;
    struct kei_http_call_config c = {.method = "GET", .target = "/ca.crt"};
    int r = kei_tls_config_new(&tls, j->ctx, &o);

    if (r == 0) {
        stream_config(j, &c.stream, tls);
        c.timeout_ms = EXCHANGE_MS;
        c.max_body = CA_MAX;
        r = kei_http_call(&j->call, j->ctx, &c, on_ca, j);
    }
    kei_tls_config_unref(tls);
    return r < 0 ? kei_error(&j->err, r, "%s", ke_ctx_error(j->ctx)) : 0;
}

/* ---- start ---- */

static int copy_config(struct kei_join *j, const struct kei_join_config *c)
{
    struct kei_arena *a = &j->arena;

    j->conf = *c;
    j->conf.held = NULL;
    j->conf.ca = NULL;
    j->conf.host = kei_arena_strdup(a, kei_str(c->host));
    j->conf.node_name = kei_arena_strdup(a, kei_str(c->node_name));
    if (c->proxy_url)
        j->conf.proxy_url = kei_arena_strdup(a, kei_str(c->proxy_url));
    if (c->token)
        j->conf.token = kei_arena_strdup(a, kei_str(c->token));
    if (!j->conf.host || !j->conf.node_name || (c->proxy_url && !j->conf.proxy_url) ||
        (c->token && !j->conf.token))
        return kei_error(&j->err, KE_ENOMEM, "out of memory for joining");
    return 0;
}

/* A second reference to a certificate, by way of its bytes. */
static int copy_cert(struct kei_join *j, const struct kei_cert *from, struct kei_cert **ret)
{
    struct ke_buf der;
    int r;

    kei_buf_init(&der, kei_ctx_alloc(j->ctx));
    r = kei_cert_der(from, &der, &j->err);
    if (r == 0)
        r = kei_cert_from_der(ret, j->crypto, kei_buf_str(&der), &j->err);
    ke_buf_free(&der);
    return r;
}

static int begin(struct kei_join *j, const struct kei_join_config *c)
{
    const struct kei_cert *ca = c->ca ? c->ca : c->held ? c->held->ca : NULL;
    int r = copy_config(j, c);

    if (r == 0 && c->token)
        r = kei_token_parse(&j->token, kei_str(j->conf.token), &j->err);
    if (r == 0 && c->token && !c->ca)
        return ask_ca(j);
    if (r == 0 && !ca)
        r = kei_error(&j->err, KE_EINVAL, "no CA to ask for a certificate with");
    if (r == 0)
        r = copy_cert(j, ca, &j->got.ca);
    if (r == 0 && !c->token) {
        struct kei_tls_options o = {.verify_peer = true,
                                    .ca = j->got.ca,
                                    .cert = c->held->cert,
                                    .key = c->held->key ? c->held->key : c->host_key,
                                    .now = c->now,
                                    .now_user = c->now_user};

        r = kei_tls_config_new(&j->client_tls, j->ctx, &o);
        if (r < 0)
            kei_error(&j->err, r, "%s", ke_ctx_error(j->ctx));
    }
    return r == 0 ? ask_cert(j) : r;
}

int kei_join_start(struct kei_join **ret, struct ke_ctx *ctx, const struct kei_join_config *c,
                   kei_join_fn done, void *user)
{
    struct kei_join *j = kei_zalloc(kei_ctx_alloc(ctx), sizeof *j);
    int r;

    if (!j)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for joining");
    j->ctx = ctx;
    j->done = done;
    j->user = user;
    j->err = (struct ke_error)KE_ERROR_INIT;
    kei_arena_init(&j->arena, kei_ctx_alloc(ctx), ARENA_MAX);
    r = kei_crypto_get(ctx, &j->crypto);
    if (r < 0) {
        kei_join_free(j);
        return r;
    }
    r = begin(j, c);
    if (r < 0) {
        j->err.code = r;
        kei_defer(ctx, &j->defer, finish_later);
    }
    *ret = j;
    return 0;
}

void kei_join_free(struct kei_join *j)
{
    if (!j)
        return;
    kei_defer_cancel(&j->defer);
    kei_http_call_free(j->call);
    kei_tls_config_unref(j->client_tls);
    kei_identity_clear(&j->got);
    kei_arena_free(&j->arena);
    kei_free(kei_ctx_alloc(j->ctx), j);
}
