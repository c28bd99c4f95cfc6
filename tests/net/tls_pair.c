/* SPDX-License-Identifier: Apache-2.0 */
/* See tls_pair.h. */
#include "net/tls_pair.h"

#include <errno.h>
#include <openssl/err.h>

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static long io_read(void *user, void *p, size_t n)
{
    struct tls_pipe *in = ((struct tls_end *)user)->in;
    if (in->read_errno) {
        errno = in->read_errno;
        return -1;
    }
    if (in->n == 0) {
        errno = 0;
        return in->ended ? -1 : 0;
    }
    n = least(n, in->n);
    if (in->step)
        n = least(n, in->step);
    memcpy(p, in->p, n);
    memmove(in->p, in->p + n, in->n - n);
    in->n -= n;
    return (long)n;
}

static long io_write(void *user, const void *p, size_t n)
{
    struct tls_pipe *out = ((struct tls_end *)user)->out;
    if (out->write_errno) {
        errno = out->write_errno;
        return -1;
    }
    size_t room = out->room ? out->room : PIPE_MAX;
    n = least(n, room > out->n ? room - out->n : 0);
    if (out->step)
        n = least(n, out->step);
    memcpy(out->p + out->n, p, n);
    out->n += n;
    return (long)n;
}

void pair_init(struct tls_pair *t)
{
    memset(t, 0, sizeof *t);
    t->to_server.p = malloc(PIPE_MAX);
    t->to_client.p = malloc(PIPE_MAX);
    assert_non_null(t->to_server.p);
    assert_non_null(t->to_client.p);
    t->client.in = t->server.out = &t->to_client;
    t->client.out = t->server.in = &t->to_server;
    t->client.err = t->server.err = (struct ke_error)KE_ERROR_INIT;
}

int pair_try(struct tls_pair *t, struct kei_tls_config *client, const char *host,
             struct kei_tls_config *server)
{
    struct kei_tls_io c = {io_read, io_write, &t->client}, s = {io_read, io_write, &t->server};
    int r = client ? kei_tls_new(&t->client.tls, client, host, &c, &t->client.err) : 0;
    if (r == 0 && server)
        r = kei_tls_new(&t->server.tls, server, NULL, &s, &t->server.err);
    return r;
}

void pair_open(struct tls_pair *t, struct kei_tls_config *client, const char *host,
               struct kei_tls_config *server)
{

    if (pair_try(t, client, host, server) != 0)
        fail_msg("no engine: %s %s", t->client.err.text, t->server.err.text);
}

static void step(struct tls_end *e)
{
    if (e->r >= 0)
        e->r = kei_tls_handshake(e->tls, &e->err);
}

bool pair_handshake(struct tls_pair *t)
{
    t->client.r = t->server.r = KEI_TLS_WANT_READ;
    for (int i = 0; i < 100000; i++) {
        size_t before = t->to_client.n + t->to_server.n;
        if (t->client.r != 0)
            step(&t->client);
        size_t between = t->to_client.n + t->to_server.n;
        if (t->server.r != 0)
            step(&t->server);
        size_t after = t->to_client.n + t->to_server.n;
        if ((t->client.r <= 0 && t->server.r <= 0) ||
            (before == between && between == after && i > 3))
            break;
    }
    return t->client.r == 0 && t->server.r == 0;
}

void pair_fini(struct tls_pair *t)
{
    kei_tls_free(t->client.tls);
    kei_tls_free(t->server.tls);
    free(t->to_client.p);
    free(t->to_server.p);
}

/* ---- a peer of plain OpenSSL ---- */

void peer_open(SSL *ssl)
{
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(ssl, in, out);
}

void peer_pump(struct tls_pair *t, SSL *ssl, bool peer_is_server)
{
    struct tls_pipe *in = peer_is_server ? &t->to_server : &t->to_client;
    struct tls_pipe *out = peer_is_server ? &t->to_client : &t->to_server;
    int n;
    if (in->n > 0) {
        BIO_write(SSL_get_rbio(ssl), in->p, (int)in->n);
        in->n = 0;
    }
    while (PIPE_MAX > out->n &&
           (n = BIO_read(SSL_get_wbio(ssl), out->p + out->n, (int)(PIPE_MAX - out->n))) > 0)
        out->n += (size_t)n;
}

int peer_handshake(struct tls_pair *t, struct tls_end *our, SSL *ssl, int *ret_peer)
{
    bool peer_is_server = our == &t->client;
    *ret_peer = 0;
    our->r = KEI_TLS_WANT_READ;
    for (int i = 0; i < 20 && !(our->r <= 0 && *ret_peer == 1); i++) {
        if (our->r > 0)
            our->r = kei_tls_handshake(our->tls, &our->err);
        peer_pump(t, ssl, peer_is_server);
        if (*ret_peer != 1)
            *ret_peer = SSL_do_handshake(ssl);
        peer_pump(t, ssl, peer_is_server);
        ERR_clear_error();
    }
    return our->r;
}
