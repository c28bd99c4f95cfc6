/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 message parsing, pure: strict (RFC 9112), small, for requests and responses. Refuses
 * what is used for smuggling: both Content-Length and Transfer-Encoding, repeated different
 * lengths, obs-fold, bare LF or CR, spaces before the colon, invalid characters.
 */
#ifndef KEI_NET_HTTP1_H
#define KEI_NET_HTTP1_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

struct kei_http_header {
    struct ke_str name, value;
};

#define KEI_HTTP_HEADERS 64
struct kei_http_head {
    struct ke_str method, target; /* requests */
    uint32_t status;              /* responses */
    struct ke_str reason;
    uint32_t minor; /* HTTP/1.minor */
    struct kei_http_header headers[KEI_HTTP_HEADERS];
    uint32_t n_headers;
};

/*
 * Reads a head from the start of p. 0 with *ret_used > 0: whole (views into p). 0 with *ret_used ==
 * 0: more bytes needed. KE_EPROTO (told as soon as a bad byte is there), KE_ELIMIT (more than 64
 * headers; head over max bytes), KE_ENOTSUP (a transfer coding other than chunked).
 */
int kei_http_parse_request(struct kei_http_head *h, const char *p, size_t n, size_t max,
                           size_t *ret_used, struct ke_error *err);
int kei_http_parse_response(struct kei_http_head *h, const char *p, size_t n, size_t max,
                            size_t *ret_used, struct ke_error *err);
/* first header of that name (case ignored); p NULL if absent */
struct ke_str kei_http_header(const struct kei_http_head *h, const char *name);
/* true if a comma-separated header holds token (case ignored) */
bool kei_http_has_token(const struct kei_http_head *h, const char *name, const char *token);

/* ---- bodies ---- */
struct kei_http_body {
    int mode;      /* none, length, chunked, until close */
    uint64_t left; /* length mode; current chunk */
    uint64_t total, max;
    int state;
    uint32_t line; /* bytes of the chunk line or of the trailers so far */
};
/* true if there is nothing to feed: the message ends with its head */
bool kei_http_body_none(const struct kei_http_body *b);
/* After a head. method is that of the request (HEAD has no body). KE_EPROTO, KE_ELIMIT (a
 * Content-Length over max), KE_ENOTSUP */
int kei_http_body_init(struct kei_http_body *b, const struct kei_http_head *h, bool response,
                       struct ke_str method, uint64_t max, struct ke_error *err);
/* Consumes from p: *ret_used bytes taken, of which *ret_data is payload (a view into p, may be
 * empty). Returns 0 go on, 1 the body is complete, negative KE_E*. */
int kei_http_body_feed(struct kei_http_body *b, const char *p, size_t n, size_t *ret_used,
                       struct ke_str *ret_data, struct ke_error *err);
int kei_http_body_eof(struct kei_http_body *b, struct ke_error *err); /* 0 if complete at close */

#endif
