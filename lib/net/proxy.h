/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP CONNECT exchange with a proxy, pure: URL and request out, answer in. */
#ifndef KEI_NET_PROXY_H
#define KEI_NET_PROXY_H

#include "base/buf.h"
#include "base/error.h"

struct kei_proxy {
    char host[256];         /* without brackets */
    uint16_t port;          /* default 80 */
    struct ke_str userinfo; /* view into the URL, still percent-encoded; n 0: none */
};

#define KEI_PROXY_HEAD_MAX 8192

/* http://[user[:password]@]host[:port][/]; KE_EINVAL (text without the password), KE_ENOTSUP for
 * other schemes */
int kei_proxy_parse(struct kei_proxy *ret, const char *url, struct ke_error *err);
/* Appends the CONNECT request for host:port. KE_ENOMEM, KE_EINVAL (bad %-encoding) */
int kei_proxy_request(const struct kei_proxy *x, const char *host, uint16_t port,
                      struct ke_buf *out, struct ke_error *err);
/* Reads the answer: 0 with *ret_used > 0: the tunnel stands; 0 with 0: more needed. KE_EPROXY */
int kei_proxy_answer(const struct kei_proxy *x, const char *p, size_t n, size_t *ret_used,
                     struct ke_error *err);

#endif
