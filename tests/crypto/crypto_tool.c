/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of crypto and TLS as a command, for the tests that need another program at the other
 * end (test_openssl.sh, test_tpm.sh). Prints errors on stderr; exits 0, or 1.
 *
 *     crypto_tool new-key OUT.pem
 *     crypto_tool csr KEY ORG CN OUT.der
 *     crypto_tool ca KEY OUT.pem
 *     crypto_tool sign-csr CA CAKEY CSR.der OUT.pem
 *     crypto_tool sign-server CA CAKEY KEY OUT.pem NAME...
 *     crypto_tool token CA CAKEY EXP
 *     crypto_tool export KEY
 *     crypto_tool client HOST PORT CA [CERT KEY]   sends a line, prints what comes back
 *     crypto_tool server PORTFILE CA CERT KEY      takes one client, prints its name, echoes once
 * KEY is a file, or a URI (anything with a colon in it).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kubeedge/ctx.h>

#include "base/file.h"
#include "base/loop.h"
#include "net/tls.h"

#define YEAR (INT64_C(365) * 86400)

static struct ke_ctx *ctx;
static struct kei_crypto *crypto;
static struct ke_error err = KE_ERROR_INIT;

static void check(int r, const char *what)
{
    if (r == 0)
        return;
    fprintf(stderr, "crypto_tool: %s: %s %s\n", what, ke_strerror(r), err.text);
    exit(1);
}

static struct ke_buf read_file(const char *path)
{
    struct ke_buf b;
    kei_buf_init(&b, kei_ctx_alloc(ctx));
    check(kei_file_read(ke_io_posix(), path, 1 << 20, &b, &err), path);
    return b;
}

static void write_file(const char *path, struct ke_buf *b)
{
    check(kei_file_replace(ke_io_posix(), path, b->p, b->n, 0600, &err), path);
    ke_buf_free(b);
}

static struct kei_key *key_of(const char *arg)
{
    struct kei_key *k;
    if (strchr(arg, ':')) {
        check(kei_key_from_uri(&k, crypto, arg, &err), arg);
        return k;
    }
    struct ke_buf b = read_file(arg);
    check(kei_key_from_pem(&k, crypto, kei_buf_str(&b), &err), arg);
    ke_buf_free(&b);
    return k;
}

static struct kei_cert *cert_of(const char *arg)
{
    struct kei_cert *x;
    struct ke_buf b = read_file(arg);
    check(kei_cert_from_pem(&x, crypto, kei_buf_str(&b), &err), arg);
    ke_buf_free(&b);
    return x;
}

static struct ke_buf new_buf(void)
{
    struct ke_buf b;
    kei_buf_init(&b, kei_ctx_alloc(ctx));
    return b;
}

static int64_t now(void)
{
    return ke_ctx_real_ms(ctx) / 1000;
}

static void put_cert(const char *path, struct kei_cert *x)
{
    struct ke_buf b = new_buf();
    check(kei_cert_pem(x, &b, &err), path);
    write_file(path, &b);
    kei_cert_free(x);
}

static void make_csr(char **a)
{
    struct kei_key *k = key_of(a[0]);
    struct ke_buf b = new_buf();
    check(kei_csr_make(&b, k, a[1], a[2], &err), "csr");
    write_file(a[3], &b);
    kei_key_free(k);
}

static void make_ca(char **a)
{
    struct kei_key *k = key_of(a[0]);
    struct kei_cert *x;
    check(kei_ca_make(&x, k, now(), &err), "ca");
    put_cert(a[1], x);
    kei_key_free(k);
}

static void sign_csr(char **a)
{
    struct kei_cert *ca = cert_of(a[0]), *x;
    struct kei_key *k = key_of(a[1]);
    struct ke_buf csr = read_file(a[2]);
    check(kei_ca_sign_csr(&x, ca, k, kei_buf_str(&csr), NULL, 0, now(), YEAR, &err), "sign-csr");
    put_cert(a[3], x);
    ke_buf_free(&csr);
    kei_key_free(k);
    kei_cert_free(ca);
}

static void sign_server(int n, char **a)
{
    struct kei_cert *ca = cert_of(a[0]), *x;
    struct kei_key *ca_key = key_of(a[1]), *k = key_of(a[2]);
    check(kei_ca_sign_server(&x, ca, ca_key, k, (const char *const *)(a + 4), (size_t)n - 4, now(),
                             YEAR, &err),
          "sign-server");
    put_cert(a[3], x);
    kei_key_free(k);
    kei_key_free(ca_key);
    kei_cert_free(ca);
}

static void make_token(char **a)
{
    struct kei_cert *ca = cert_of(a[0]);
    struct kei_key *k = key_of(a[1]);
    struct ke_buf ca_der = new_buf(), key_der = new_buf(), out = new_buf();
    check(kei_cert_der(ca, &ca_der, &err), a[0]);
    check(kei_key_der(k, &key_der, &err), a[1]);
    check(kei_token_make(&out, kei_buf_str(&ca_der), kei_buf_str(&key_der), atoll(a[2]), &err),
          "token");
    printf("%s\n", out.p);
    ke_buf_free(&ca_der);
    ke_buf_free(&key_der);
    ke_buf_free(&out);
    kei_key_free(k);
    kei_cert_free(ca);
}

static void export_key(char **a)
{
    struct kei_key *k = key_of(a[0]);
    struct ke_buf b = new_buf();
    check(kei_key_pem(k, &b, &err), a[0]);
    fputs(b.p, stdout);
    ke_buf_free(&b);
    kei_key_free(k);
}

/* ---- TLS over a socket ---- */

static long sock_read(void *user, void *p, size_t n)
{
    ssize_t got = recv(*(int *)user, p, n, 0);
    if (got > 0)
        return got;
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got == 0)
        errno = 0;
    return -1;
}

static long sock_write(void *user, const void *p, size_t n)
{
    ssize_t put = send(*(int *)user, p, n, MSG_NOSIGNAL);
    if (put >= 0)
        return put;
    return errno == EAGAIN ? 0 : -1;
}

static void wait_for(int fd, int want)
{
    struct pollfd p = {.fd = fd, .events = want == KEI_TLS_WANT_WRITE ? POLLOUT : POLLIN};
    if (poll(&p, 1, 60000) <= 0) {
        fprintf(stderr, "crypto_tool: the peer is silent\n");
        exit(1);
    }
}

static struct kei_tls *handshake(struct kei_tls_config *t, const char *host, int *fd)
{
    struct kei_tls_io io = {sock_read, sock_write, fd};
    struct kei_tls *s;
    int r;
    check(kei_tls_new(&s, t, host, &io, &err), "tls");
    while ((r = kei_tls_handshake(s, &err)) > 0)
        wait_for(*fd, r);
    check(r, "handshake");
    return s;
}

static size_t read_some(struct kei_tls *s, int fd, char *b, size_t n, int *ret_r)
{
    size_t got = 0;
    int r;
    while ((r = kei_tls_read(s, b, n, &got, &err)) > 0)
        wait_for(fd, r);
    *ret_r = r;
    return r == 0 ? got : 0;
}

static void write_all(struct kei_tls *s, int fd, const char *p, size_t n)
{
    while (n > 0) {
        size_t put = 0;
        int r = kei_tls_write(s, p, n, &put, &err);
        if (r > 0) {
            wait_for(fd, r);
            continue;
        }
        check(r, "write");
        p += put;
        n -= put;
    }
}

static void client(int n, char **a)
{
    struct kei_tls_options o = {.verify_peer = true, .ca = cert_of(a[2])};
    struct kei_tls_config *t;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(a[1])),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char b[4096];
    int r;
    if (n > 4) {
        o.cert = cert_of(a[3]);
        o.key = key_of(a[4]);
    }
    if (kei_tls_config_new(&t, ctx, &o) < 0) {
        fprintf(stderr, "crypto_tool: %s\n", ke_ctx_error(ctx));
        exit(1);
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        perror("connect");
        exit(1);
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        perror("fcntl");
        exit(1);
    }
    struct kei_tls *s = handshake(t, a[0], &fd);
    write_all(s, fd, "hello from kubeedge\n", 20);
    for (size_t got; (got = read_some(s, fd, b, sizeof b, &r)) > 0;) {
        fwrite(b, 1, got, stdout);
        fflush(stdout);
        if (memchr(b, '\n', got)) /* one line is the answer */
            break;
    }
    if (r != 0 && r != KE_ECLOSED)
        check(r, "read");
    kei_tls_shutdown(s);
    kei_tls_free(s);
    kei_tls_config_unref(t);
    close(fd);
    kei_key_free((struct kei_key *)(uintptr_t)o.key);
    kei_cert_free((struct kei_cert *)(uintptr_t)o.cert);
    kei_cert_free((struct kei_cert *)(uintptr_t)o.ca);
}

static int listen_once(const char *portfile)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    struct ke_buf b = new_buf();
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (l < 0 || bind(l, (struct sockaddr *)&at, n) < 0 || listen(l, 1) < 0 ||
        getsockname(l, (struct sockaddr *)&at, &n) < 0) {
        perror("listen");
        exit(1);
    }
    kei_buf_addi(&b, ntohs(at.sin_port));
    write_file(portfile, &b);
    wait_for(l, KEI_TLS_WANT_READ);
    int fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(l);
    return fd;
}

static void server(char **a)
{
    struct kei_tls_options o = {.server = true,
                                .verify_peer = true,
                                .ca = cert_of(a[1]),
                                .cert = cert_of(a[2]),
                                .key = key_of(a[3])};
    struct kei_tls_config *t;
    struct kei_cert_info info;
    struct kei_cert *peer;
    char b[4096];
    int r;
    if (kei_tls_config_new(&t, ctx, &o) < 0) {
        fprintf(stderr, "crypto_tool: %s\n", ke_ctx_error(ctx));
        exit(1);
    }
    int fd = listen_once(a[0]);
    struct kei_tls *s = handshake(t, NULL, &fd);
    struct ke_buf der = new_buf();
    check(kei_tls_peer_cert(s, &der), "peer certificate");
    check(kei_cert_from_der(&peer, crypto, kei_buf_str(&der), &err), "peer certificate");
    check(kei_cert_info(peer, &info, &err), "peer certificate");
    printf("%s\n", info.cn);
    fflush(stdout);
    size_t got = read_some(s, fd, b, sizeof b, &r);
    check(r, "read");
    write_all(s, fd, b, got);
    kei_tls_shutdown(s);
    read_some(s, fd, b, sizeof b, &r); /* until the peer has closed too */
    kei_cert_free(peer);
    ke_buf_free(&der);
    kei_tls_free(s);
    kei_tls_config_unref(t);
    close(fd);
    kei_key_free((struct kei_key *)(uintptr_t)o.key);
    kei_cert_free((struct kei_cert *)(uintptr_t)o.cert);
    kei_cert_free((struct kei_cert *)(uintptr_t)o.ca);
}

static void new_key(char **a)
{
    struct kei_key *k;
    struct ke_buf b = new_buf();
    check(kei_key_new_p256(&k, crypto, &err), "new-key");
    check(kei_key_pem(k, &b, &err), "new-key");
    write_file(a[0], &b);
    kei_key_free(k);
}

int main(int argc, char **argv)
{
    int n = argc - 2;
    char **a = argv + 2;
    const char *cmd = argc > 1 ? argv[1] : "";
    check(ke_ctx_new(&ctx, NULL, &err), "context");
    if (kei_crypto_get(ctx, &crypto) < 0) {
        fprintf(stderr, "crypto_tool: %s\n", ke_ctx_error(ctx));
        return 1;
    }
    if (n == 1 && strcmp(cmd, "new-key") == 0)
        new_key(a);
    else if (n == 4 && strcmp(cmd, "csr") == 0)
        make_csr(a);
    else if (n == 2 && strcmp(cmd, "ca") == 0)
        make_ca(a);
    else if (n == 4 && strcmp(cmd, "sign-csr") == 0)
        sign_csr(a);
    else if (n >= 4 && strcmp(cmd, "sign-server") == 0)
        sign_server(n, a);
    else if (n == 3 && strcmp(cmd, "token") == 0)
        make_token(a);
    else if (n == 1 && strcmp(cmd, "export") == 0)
        export_key(a);
    else if ((n == 3 || n == 5) && strcmp(cmd, "client") == 0)
        client(n, a);
    else if (n == 4 && strcmp(cmd, "server") == 0)
        server(a);
    else {
        fprintf(stderr, "crypto_tool: unknown command: see the top of its source\n");
        return 1;
    }
    ke_ctx_free(ctx);
    return 0;
}
