/* SPDX-License-Identifier: Apache-2.0 */
/* Socket addresses: literals, text, order of attempts. Pure; values, no memory of their own. */
#ifndef KEI_NET_ADDR_H
#define KEI_NET_ADDR_H

#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>

#include "base/error.h"
#include "base/str.h"

struct kei_addr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } u;
    socklen_t len;
};

#define KEI_ADDR_TEXT 128 /* "unix:" and the longest path, "[v6%scope]:port" */
#define KEI_ADDRS_MAX 16  /* addresses of one name that are tried */

/* An IPv4 or IPv6 literal, the latter with or without brackets, with or without %interface.
 * false: not a literal (a name, or malformed). */
bool kei_addr_literal(struct kei_addr *ret, const char *host, uint16_t port);
/* KE_EINVAL: empty, or longer than the system takes */
int kei_addr_unix(struct kei_addr *ret, const char *path, struct ke_error *err);
/* Could be a host name: 1..253 letters, digits, '-', '_', '.', no empty label. */
bool kei_addr_name_ok(const char *host);
/* "127.0.0.1:4711", "[::1]:4711", "unix:/path", "unix:" (no path) */
void kei_addr_text(const struct kei_addr *a, char out[KEI_ADDR_TEXT]);
/* the same without port and brackets; "" for unix */
void kei_addr_ip(const struct kei_addr *a, char out[KEI_ADDR_TEXT]);
uint16_t kei_addr_port(const struct kei_addr *a);
bool kei_addr_eq(const struct kei_addr *a, const struct kei_addr *b);
/* Families by turns, the first one's first, order within each kept (RFC 8305, 4). */
void kei_addr_interleave(struct kei_addr *a, size_t n);

/* A new socket for a: close-on-exec, not blocking. -1: errno is set. */
int kei_sock_open(int family);
/* What every connection wants: no Nagle; with dead_ms: unacknowledged data and a silent peer end it
 * after about that time. Best effort, nothing for unix sockets. */
void kei_sock_tune(int fd, int family, uint32_t dead_ms);

#endif
