/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP CONNECT through a proxy, pure. Nothing kept; any thread. Passwords never reach a text. */
#include "net/proxy.h"

#include <stdio.h>

#include "base/codec.h"
#include "net/addr.h"
#include "net/http1.h"
#include "net/http_text.h"

static int bad_url(struct ke_error *err, const char *why)
{
    return kei_error(err, KE_EINVAL, "proxy URL had %s; expected http://[user:password@]host:port",
                     why);
}

static int parse_host(struct kei_proxy *x, struct ke_str s, struct ke_error *err)
{
    struct kei_addr a;
    struct ke_str host, port;

    if (s.n && s.p[0] == '[') {
        host = kei_str_cut(kei_strn(s.p + 1, s.n - 1), ']', &port);
        if (!port.p || (port.n && port.p[0] != ':'))
            return bad_url(err, "an unclosed bracket");
        port = port.n ? kei_strn(port.p + 1, port.n - 1) : kei_strn(NULL, 0);
    } else {
        host = kei_str_cut(s, ':', &port);
    }
    if (host.n == 0 || host.n >= sizeof x->host)
        return bad_url(err, "no usable host");
    memcpy(x->host, host.p, host.n);
    x->host[host.n] = '\0';
    if (!kei_addr_literal(&a, x->host, 1) && !kei_addr_name_ok(x->host))
        return bad_url(err, "no usable host");
    x->port = 80;
    if (port.p) {
        uint64_t n;
        if (!kei_str_u64(port, &n) || n == 0 || n > 65535)
            return bad_url(err, "no usable port");
        x->port = (uint16_t)n;
    }
    return 0;
}

int kei_proxy_parse(struct kei_proxy *ret, const char *url, struct ke_error *err)
{
    struct ke_str s = kei_str(url), rest;
    struct kei_proxy x;

    memset(&x, 0, sizeof x);
    if (!kei_str_starts(s, KEI_STR("http://"))) {
        if (kei_str_has(s, KEI_STR("://")))
            return kei_error(err, KE_ENOTSUP,
                             "proxy scheme was not http://, the only one there is");
        return bad_url(err, "no scheme");
    }
    s = kei_str_cut(kei_strn(s.p + 7, s.n - 7), '/', &rest);
    if (rest.n)
        return bad_url(err, "a path");
    for (size_t i = s.n; i > 0; i--) {
        if (s.p[i - 1] != '@')
            continue;
        x.userinfo = kei_strn(s.p, i - 1);
        s = kei_strn(s.p + i, s.n - i);
        break;
    }
    int r = parse_host(&x, s, err);
    if (r == 0)
        *ret = x;
    return r;
}

/* Undoes %XX; user and password are separated by the first bare colon, which stays. */
static int add_decoded(struct ke_buf *out, struct ke_str s, struct ke_error *err)
{
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (c == '%') {
            if (s.n - i < 3 || !kei_hex_decode(&c, 1, kei_strn(s.p + i + 1, 2)) || c == 0)
                return bad_url(err, "a malformed %-sequence in its credentials");
            i += 2;
        }
        kei_buf_addc(out, (char)c);
    }
    return 0;
}

int kei_proxy_request(const struct kei_proxy *x, const char *host, uint16_t port,
                      struct ke_buf *out, struct ke_error *err)
{
    struct ke_buf plain;
    int r = 0;

    kei_buf_adds(out, "CONNECT ");
    kei_http_add_authority(out, host, port);
    kei_buf_adds(out, " HTTP/1.1\r\n");
    kei_http_add_host(out, host, port, 0);
    if (x->userinfo.n) {
        kei_buf_init(&plain, out->alloc);
        r = add_decoded(&plain, x->userinfo, err);
        if (r == 0 && !kei_str_has(x->userinfo, KEI_STR(":")))
            kei_buf_addc(&plain, ':');
        kei_buf_adds(out, "Proxy-Authorization: Basic ");
        if (r == 0 && kei_buf_ok(&plain))
            kei_b64_encode(out, plain.p, plain.n);
        else if (r == 0)
            r = kei_error(err, KE_ENOMEM, "no memory for the request to the proxy");
        ke_buf_free(&plain);
        kei_buf_adds(out, "\r\n");
    }
    kei_buf_adds(out, "\r\n");
    if (r == 0 && !kei_buf_ok(out))
        r = kei_error(err, KE_ENOMEM, "no memory for the request to the proxy");
    return r;
}

int kei_proxy_answer(const struct kei_proxy *x, const char *p, size_t n, size_t *ret_used,
                     struct ke_error *err)
{
    struct kei_http_head h;
    int r = kei_http_parse_response(&h, p, n, KEI_PROXY_HEAD_MAX, ret_used, err);

    if (r < 0) {
        kei_error_prefix(err, r, "proxy %s:%u", x->host, x->port);
        if (err)
            err->code = KE_EPROXY;
        return KE_EPROXY;
    }
    if (*ret_used == 0 || h.status / 100 == 2)
        return 0;
    *ret_used = 0;
    return kei_error(err, KE_EPROXY, "proxy %s:%u refused the tunnel with \"%u %.*s\"%s", x->host,
                     x->port, h.status, h.reason.n > 200 ? 200 : (int)h.reason.n, h.reason.p,
                     h.status == 407 ? ": check the user and password of the proxy URL" : "");
}
