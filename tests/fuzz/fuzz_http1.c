/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP from a peer: head and body. The pieces it comes in must not matter, views stay inside of the
 * input, and what is accepted means the same when it is written out plainly and read again.
 * First byte: bit 0 response, bit 1 HEAD, the rest the size of the pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

#define HEAD_MAX 4096
#define BODY_MAX 10000

typedef int (*parse_fn)(struct kei_http_head *h, const char *p, size_t n, size_t max,
                        size_t *ret_used, struct ke_error *err);

static void inside(struct ke_str s, const char *p, size_t n)
{
    MUST(s.n == 0 || (s.p >= p && s.p + s.n <= p + n));
}

static void same(struct ke_str a, struct ke_str b)
{
    MUST(kei_str_eq(a, b));
}

/* Written plainly, it is the same head. */
static void read_again(const struct kei_http_head *h, bool response)
{
    static const char version[] = "HTTP/1.";
    struct ke_buf b = {NULL, 0, 0, NULL};
    struct kei_http_head again;
    size_t used;

    if (response) {
        kei_buf_addf(&b, "%s%u %u ", version, h->minor, h->status);
        kei_buf_addv(&b, h->reason);
    } else {
        kei_buf_addv(&b, h->method);
        kei_buf_addc(&b, ' ');
        kei_buf_addv(&b, h->target);
        kei_buf_addf(&b, " %s%u", version, h->minor);
    }
    kei_buf_adds(&b, "\r\n");
    for (uint32_t i = 0; i < h->n_headers; i++) {
        kei_buf_addv(&b, h->headers[i].name);
        kei_buf_adds(&b, ":");
        kei_buf_addv(&b, h->headers[i].value);
        kei_buf_adds(&b, "\r\n");
    }
    kei_buf_adds(&b, "\r\n");
    MUST(kei_buf_ok(&b));
    parse_fn parse = response ? kei_http_parse_response : kei_http_parse_request;
    MUST(parse(&again, b.p, b.n, HEAD_MAX + 64, &used, NULL) == 0 && used == b.n);
    same(again.method, h->method);
    same(again.target, h->target);
    same(again.reason, h->reason);
    MUST(again.status == h->status && again.minor == h->minor && again.n_headers == h->n_headers);
    for (uint32_t i = 0; i < h->n_headers; i++) {
        same(again.headers[i].name, h->headers[i].name);
        same(again.headers[i].value, h->headers[i].value);
    }
    ke_buf_free(&b);
}

/* The whole body in pieces of step bytes into out; result, and how far it came. */
static int feed(struct kei_http_body b, const char *p, size_t n, size_t step, char *out,
                size_t *ret_out, size_t *ret_used)
{
    size_t at = 0, have = 0, got = 0;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_str data;
    int r = 0;

    while (r == 0) {
        size_t used;
        have = n - have < step ? n : have + step;
        r = kei_http_body_feed(&b, p + at, have - at, &used, &data, &err);
        if (r < 0)
            break;
        inside(data, p + at, have - at);
        MUST(used <= have - at && data.n <= used);
        MUST(got + data.n <= BODY_MAX);
        if (data.n)
            memcpy(out + got, data.p, data.n);
        got += data.n;
        at += used;
        if (r == 0 && at == n && have == n)
            break;
        MUST(r == 1 || used > 0 || have == at);
    }
    if (r == 0 && kei_http_body_eof(&b, NULL) < 0)
        r = 2;
    *ret_out = got;
    *ret_used = at;
    return r;
}

static void body(const struct kei_http_head *h, bool response, bool is_head, const char *p,
                 size_t n, size_t step)
{
    static char one[BODY_MAX], two[BODY_MAX];
    struct kei_http_body b;
    size_t n_one, n_two, used_one, used_two;
    struct ke_str method = is_head ? KEI_STR("HEAD") : KEI_STR("GET");

    if (kei_http_body_init(&b, h, response, method, BODY_MAX, NULL) < 0)
        return;
    int r = feed(b, p, n, n ? n : 1, one, &n_one, &used_one);
    int r2 = feed(b, p, n, step, two, &n_two, &used_two);
    MUST(r == r2);
    if (r < 0)
        return; /* a bad body may be noticed after more or less of it */
    MUST(n_one == n_two && used_one == used_two && memcmp(one, two, n_one) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kei_http_head h;
    struct ke_error err = KE_ERROR_INIT;
    size_t used, n, step;

    if (size == 0)
        return 0;
    bool response = data[0] & 1, is_head = data[0] & 2;
    parse_fn parse = response ? kei_http_parse_response : kei_http_parse_request;
    const char *p = (const char *)data + 1;
    n = size - 1;
    step = (size_t)(data[0] >> 2) + 1;

    int r = parse(&h, p, n, HEAD_MAX, &used, &err);
    MUST(r <= 0 && used <= n && used <= HEAD_MAX);
    MUST(r == 0 || (used == 0 && err.code == r && err.text[0]));
    /* as it grows: never whole before it is, never refused when the whole is fine */
    for (size_t k = 0; k < n && k <= HEAD_MAX; k += step) {
        struct kei_http_head part;
        size_t part_used;
        int part_r = parse(&part, p, k, HEAD_MAX, &part_used, NULL);
        MUST(part_r == 0 || r < 0);
        MUST(part_used == 0 || (r == 0 && part_used == used));
    }
    if (r < 0 || used == 0)
        return 0;
    inside(h.method, p, used);
    inside(h.target, p, used);
    inside(h.reason, p, used);
    for (uint32_t i = 0; i < h.n_headers; i++) {
        inside(h.headers[i].name, p, used);
        inside(h.headers[i].value, p, used);
    }
    (void)kei_http_header(&h, "Host");
    (void)kei_http_has_token(&h, "Connection", "upgrade");
    read_again(&h, response);
    body(&h, response, is_head, p + used, n - used, step);
    return 0;
}
