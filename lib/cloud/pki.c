/* SPDX-License-Identifier: Apache-2.0 */
/* See pki.h. Files through the context's table; called on the thread that starts the cloud. */
#include "cloud/pki.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"

#define PEM_MAX (64u * 1024u)
#define SERVER_SECONDS (10ll * 365 * 86400)
#define NAMES_MAX 64

static int64_t now_s(const struct ke_ctx *ctx)
{
    return ke_ctx_real_ms(ctx) / 1000;
}

static int64_t tls_now(void *user)
{
    return now_s(user);
}

/* Reads FILE with a key and its certificate. KE_ENOTFOUND if there is none. */
static int read_pair(struct kei_pki *p, const char *path, struct kei_key **key,
                     struct kei_cert **cert)
{
    struct ke_error *err = kei_err(p->ctx);
    struct ke_buf pem = {0};
    kei_buf_init(&pem, kei_ctx_alloc(p->ctx));
    int r = kei_file_read(kei_ctx_io(p->ctx), path, PEM_MAX, &pem, err);
    if (r == 0)
        r = kei_key_from_pem(key, p->crypto, kei_buf_str(&pem), err);
    if (r == 0)
        r = kei_cert_from_pem(cert, p->crypto, kei_buf_str(&pem), err);
    if (r == 0 && !kei_cert_matches(*cert, *key))
        r = kei_fail(p->ctx, KE_EKEY, "key and certificate in %s do not belong together", path);
    else if (r < 0 && r != KE_ENOTFOUND)
        r = kei_error_prefix(err, r, "%s", path);
    ke_buf_free(&pem);
    return r;
}

static int write_pair(struct kei_pki *p, const char *path, const struct kei_key *key,
                      const struct kei_cert *cert)
{
    struct ke_error *err = kei_err(p->ctx);
    struct ke_buf pem = {0};
    kei_buf_init(&pem, kei_ctx_alloc(p->ctx));
    int r = kei_key_pem(key, &pem, err);
    if (r == 0)
        r = kei_cert_pem(cert, &pem, err);
    if (r == 0)
        r = kei_file_replace(kei_ctx_io(p->ctx), path, pem.p, pem.n, 0600, err);
    ke_buf_free(&pem);
    return r;
}

static int open_ca(struct kei_pki *p, const char *folder)
{
    char path[4096];
    struct ke_error *err = kei_err(p->ctx);
    if (!kei_path_join(path, sizeof path, folder, "ca.pem"))
        return kei_fail(p->ctx, KE_ELIMIT, "path of the data folder is too long");
    int r = read_pair(p, path, &p->ca_key, &p->ca);
    if (r == KE_ENOTFOUND) {
        r = kei_key_new_p256(&p->ca_key, p->crypto, err);
        if (r == 0)
            r = kei_ca_make(&p->ca, p->ca_key, now_s(p->ctx), err);
        if (r == 0)
            r = write_pair(p, path, p->ca_key, p->ca);
    }
    if (r == 0)
        r = kei_cert_der(p->ca, &p->ca_der, err);
    return r < 0 ? r : kei_key_der(p->ca_key, &p->ca_key_der, err);
}

/* The names a server certificate was made for, one per line: to see when they change. */
static void write_names(struct ke_buf *out, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        kei_buf_adds(out, names[i]);
        kei_buf_addc(out, '\n');
    }
}

static int make_server(struct kei_pki *p, const char *path, const char *const *names, size_t n)
{
    struct ke_error *err = kei_err(p->ctx);
    kei_key_free(p->server_key);
    kei_cert_free(p->server);
    p->server_key = NULL;
    p->server = NULL;
    int r = kei_key_new_p256(&p->server_key, p->crypto, err);
    if (r == 0)
        r = kei_ca_sign_server(&p->server, p->ca, p->ca_key, p->server_key, names, n, now_s(p->ctx),
                               SERVER_SECONDS, err);
    return r < 0 ? r : write_pair(p, path, p->server_key, p->server);
}

static int open_server(struct kei_pki *p, const char *folder, const char *const *names, size_t n)
{
    char path[4096], list[4096];
    struct ke_error *err = kei_err(p->ctx);
    const struct ke_io *io = kei_ctx_io(p->ctx);
    struct kei_cert_info info;
    struct ke_buf want = {0}, have = {0};
    if (!kei_path_join(path, sizeof path, folder, "server.pem") ||
        !kei_path_join(list, sizeof list, folder, "server.names"))
        return kei_fail(p->ctx, KE_ELIMIT, "path of the data folder is too long");
    kei_buf_init(&want, kei_ctx_alloc(p->ctx));
    kei_buf_init(&have, kei_ctx_alloc(p->ctx));
    write_names(&want, names, n);
    int r = read_pair(p, path, &p->server_key, &p->server);
    if (r == KE_EKEY || r == KE_ECERT || r == KE_EPARSE || r == KE_ELIMIT) {
        /* nobody knows it by heart: nodes trust the authority that signs the next one */
        kei_log(p->ctx, KE_LOG_WARN, "cloud", "the server certificate is made anew: %s", err->text);
        r = KE_ENOTFOUND;
    }
    if (r == 0)
        r = kei_file_read(io, list, PEM_MAX, &have, err);
    if (r == 0)
        r = kei_cert_info(p->server, &info, err);
    bool fresh = r == 0 && kei_buf_ok(&want) &&
                 kei_str_eq(kei_buf_str(&want), kei_buf_str(&have)) &&
                 info.not_after - now_s(p->ctx) > SERVER_SECONDS / 5 &&
                 kei_cert_verify(p->server, p->ca, false, now_s(p->ctx), err) == 0;
    if (!kei_buf_ok(&want))
        r = kei_fail(p->ctx, KE_ENOMEM, "out of memory for the server certificate");
    else if (r == 0 || r == KE_ENOTFOUND)
        r = fresh ? 0 : make_server(p, path, names, n);
    if (r == 0 && !fresh)
        r = kei_file_replace(io, list, want.p, want.n, 0600, err);
    ke_buf_free(&want);
    ke_buf_free(&have);
    return r;
}

static int make_tls(struct kei_pki *p)
{
    struct kei_tls_options o = {.server = true,
                                .verify_peer = true,
                                .ca = p->ca,
                                .cert = p->server,
                                .key = p->server_key,
                                .now = tls_now,
                                .now_user = p->ctx};
    int r = kei_tls_config_new(&p->tunnel_tls, p->ctx, &o);
    if (r < 0)
        return r;
    o.verify_peer = false;
    o.request_peer = true;
    return kei_tls_config_new(&p->cert_tls, p->ctx, &o);
}

int kei_pki_open(struct kei_pki *p, struct ke_ctx *ctx, const struct ke_cloud_config *c)
{
    static const char *const local[] = {"127.0.0.1", "::1", "localhost"};
    const char *names[NAMES_MAX + 3];
    char folder[4096];
    size_t n = 0;
    memset(p, 0, sizeof *p);
    p->ctx = ctx;
    kei_buf_init(&p->ca_der, kei_ctx_alloc(ctx));
    kei_buf_init(&p->ca_key_der, kei_ctx_alloc(ctx));
    if (c->n_advertise > NAMES_MAX)
        return kei_fail(ctx, KE_ELIMIT, "%u advertised names are too many; the limit is %d",
                        (unsigned)c->n_advertise, NAMES_MAX);
    for (uint32_t i = 0; i < c->n_advertise; i++)
        names[n++] = c->advertise[i];
    for (size_t i = 0; i < 3; i++)
        names[n++] = local[i];
    if (!kei_path_join(folder, sizeof folder, c->data, "pki"))
        return kei_fail(ctx, KE_ELIMIT, "path of the data folder %s is too long", c->data);
    int r = kei_folder_make(kei_ctx_io(ctx), folder, 0700, kei_err(ctx));
    if (r == 0)
        r = kei_crypto_get(ctx, &p->crypto);
    if (r == 0)
        r = open_ca(p, folder);
    if (r == 0)
        r = open_server(p, folder, names, n);
    return r < 0 ? r : make_tls(p);
}

void kei_pki_close(struct kei_pki *p)
{
    if (!p->ctx)
        return;
    kei_tls_config_unref(p->tunnel_tls);
    kei_tls_config_unref(p->cert_tls);
    kei_cert_free(p->server);
    kei_key_free(p->server_key);
    kei_cert_free(p->ca);
    kei_key_free(p->ca_key);
    ke_buf_free(&p->ca_der);
    ke_buf_free(&p->ca_key_der);
    memset(p, 0, sizeof *p);
}

int kei_pki_token(struct kei_pki *p, uint32_t hours, struct ke_buf *out)
{
    return kei_token_make(out, kei_buf_str(&p->ca_der), kei_buf_str(&p->ca_key_der),
                          now_s(p->ctx) + (int64_t)hours * 3600, kei_err(p->ctx));
}
