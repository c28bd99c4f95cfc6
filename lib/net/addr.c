/* SPDX-License-Identifier: Apache-2.0 */
/* Socket addresses and socket options. Values only, nothing allocated; any thread. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>

/* scope: what follows '%', an interface name or its number */
static bool parse_scope(struct ke_str scope, uint32_t *ret)
{
    char name[IF_NAMESIZE];
    uint64_t n;

    if (scope.n == 0 || scope.n >= sizeof name)
        return false;
    if (kei_str_u64(scope, &n)) {
        *ret = (uint32_t)n;
        return n <= UINT32_MAX;
    }
    memcpy(name, scope.p, scope.n);
    name[scope.n] = '\0';
    *ret = if_nametoindex(name);
    return *ret != 0;
}

static bool parse_v6(struct kei_addr *ret, struct ke_str host, uint16_t port)
{
    char text[INET6_ADDRSTRLEN];
    struct ke_str scope;
    struct ke_str ip = kei_str_cut(host, '%', &scope);

    if (ip.n >= sizeof text)
        return false;
    memcpy(text, ip.p, ip.n);
    text[ip.n] = '\0';
    if (inet_pton(AF_INET6, text, &ret->u.v6.sin6_addr) != 1)
        return false;
    if (scope.p && !parse_scope(scope, &ret->u.v6.sin6_scope_id))
        return false;
    ret->u.v6.sin6_family = AF_INET6;
    ret->u.v6.sin6_port = htons(port);
    ret->len = sizeof ret->u.v6;
    return true;
}

bool kei_addr_literal(struct kei_addr *ret, const char *host, uint16_t port)
{
    struct kei_addr a;
    struct ke_str s = kei_str(host);
    bool ok;

    memset(&a, 0, sizeof a);
    if (s.n == 0)
        return false;
    if (s.p[0] == '[') {
        if (s.n < 2 || s.p[s.n - 1] != ']')
            return false;
        ok = parse_v6(&a, kei_strn(s.p + 1, s.n - 2), port);
    } else if (inet_pton(AF_INET, host, &a.u.v4.sin_addr) == 1) {
        a.u.v4.sin_family = AF_INET;
        a.u.v4.sin_port = htons(port);
        a.len = sizeof a.u.v4;
        ok = true;
    } else {
        ok = parse_v6(&a, s, port);
    }
    if (ok)
        *ret = a;
    return ok;
}

int kei_addr_unix(struct kei_addr *ret, const char *path, struct ke_error *err)
{
    size_t n = strlen(path);

    if (n == 0)
        return kei_error(err, KE_EINVAL, "socket path was empty");
    if (n >= sizeof ret->u.un.sun_path)
        return kei_error(err, KE_EINVAL, "socket path \"%s\" was over the limit of %zu bytes", path,
                         sizeof ret->u.un.sun_path - 1);
    memset(ret, 0, sizeof *ret);
    ret->u.un.sun_family = AF_UNIX;
    memcpy(ret->u.un.sun_path, path, n + 1);
    ret->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

bool kei_addr_name_ok(const char *host)
{
    size_t label = 0, n = strlen(host);

    if (n == 0 || n > 253)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = host[i];
        if (c == '.') {
            if (label == 0)
                return false;
            label = 0;
            continue;
        }
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_') ||
            ++label > 63)
            return false;
    }
    return true;
}

void kei_addr_ip(const struct kei_addr *a, char out[KEI_ADDR_TEXT])
{
    out[0] = '\0';
    if (a->u.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->u.v4.sin_addr, out, KEI_ADDR_TEXT);
    } else if (a->u.any.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&a->u.v6.sin6_addr)) {
            inet_ntop(AF_INET, &a->u.v6.sin6_addr.s6_addr[12], out, KEI_ADDR_TEXT);
            return;
        }
        inet_ntop(AF_INET6, &a->u.v6.sin6_addr, out, KEI_ADDR_TEXT);
        if (a->u.v6.sin6_scope_id) {
            size_t n = strlen(out);
            snprintf(out + n, KEI_ADDR_TEXT - n, "%%%u", a->u.v6.sin6_scope_id);
        }
    }
}

uint16_t kei_addr_port(const struct kei_addr *a)
{
    if (a->u.any.sa_family == AF_INET)
        return ntohs(a->u.v4.sin_port);
    if (a->u.any.sa_family == AF_INET6)
        return ntohs(a->u.v6.sin6_port);
    return 0;
}

void kei_addr_text(const struct kei_addr *a, char out[KEI_ADDR_TEXT])
{
    char ip[KEI_ADDR_TEXT];

    if (a->u.any.sa_family == AF_UNIX) {
        size_t head = offsetof(struct sockaddr_un, sun_path);
        size_t n = a->len > head ? a->len - head : 0;
        n = strnlen(a->u.un.sun_path, n);
        memcpy(out, "unix:", 5);
        memcpy(out + 5, a->u.un.sun_path, n);
        out[5 + n] = '\0';
        return;
    }
    kei_addr_ip(a, ip);
    snprintf(out, KEI_ADDR_TEXT, strchr(ip, ':') ? "[%.60s]:%u" : "%.60s:%u", ip, kei_addr_port(a));
}

bool kei_addr_eq(const struct kei_addr *a, const struct kei_addr *b)
{
    return a->len == b->len && memcmp(&a->u, &b->u, a->len) == 0;
}

void kei_addr_interleave(struct kei_addr *a, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        size_t j = i;
        while (j < n && a[j].u.any.sa_family == a[i - 1].u.any.sa_family)
            j++;
        if (j == n)
            return;
        struct kei_addr next = a[j];
        memmove(&a[i + 1], &a[i], (j - i) * sizeof *a);
        a[i] = next;
    }
}

int kei_sock_open(int family)
{
    return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void set_opt(int fd, int level, int name, int value)
{
    /* a kernel that lacks one of them gives a slower answer, not a wrong one */
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

void kei_sock_tune(int fd, int family, uint32_t dead_ms)
{
    if (family != AF_INET && family != AF_INET6)
        return;
    set_opt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (dead_ms == 0)
        return;
    /* half of the time may pass in silence, then three probes share the rest */
    int idle = (int)(dead_ms / 2000), interval = (int)(dead_ms / 6000);
    set_opt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, dead_ms > INT32_MAX ? INT32_MAX : (int)dead_ms);
    set_opt(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle > 0 ? idle : 1);
    set_opt(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval > 0 ? interval : 1);
    set_opt(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_opt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}
