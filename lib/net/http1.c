/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 heads and bodies, pure. Views point into the caller's bytes, nothing is allocated; any
 * thread. Strict where two readers could disagree about where a message ends.
 */
#include "net/http1.h"

#include <string.h>

#include "base/codec.h"

enum body_mode { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_CLOSE };

enum chunk_state {
    CHUNK_SIZE_FIRST, /* at least one digit must come */
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER_START, /* at the start of a trailer line */
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_DONE,
};

#define CHUNK_LINE_MAX 1024u             /* size and extensions of one chunk */
#define TRAILERS_MAX 8192u               /* all trailer lines together */
#define CHUNK_SIZE_MAX (UINT64_MAX >> 4) /* one more digit would not fit */

static bool is_token_char(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(struct ke_str s)
{
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (!is_token_char((unsigned char)s.p[i]))
            return false;
    return true;
}

static bool is_text_char(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/* Optional white space of the grammar: spaces and tabs only. */
static struct ke_str trim_ows(struct ke_str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s.p++, s.n--;
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/*
 * One line from p: *ret_line without its CRLF, *ret_used with it; *ret_used 0: not there yet. Bytes
 * that may not stand in a head are refused at once, also in a line that has no end so far.
 */
static int take_line(const char *p, size_t n, struct ke_str *ret_line, size_t *ret_used,
                     struct ke_error *err)
{
    *ret_used = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (is_text_char(c))
            continue;
        if (c != '\r')
            return kei_error(err, KE_EPROTO, "HTTP head had an invalid byte 0x%02x", c);
        if (i + 1 == n)
            return 0;
        if (p[i + 1] != '\n')
            return kei_error(err, KE_EPROTO, "HTTP head had a CR without LF");
        *ret_line = kei_strn(p, i);
        *ret_used = i + 2;
        return 0;
    }
    return 0;
}

static int parse_version(struct ke_str s, uint32_t *ret_minor, struct ke_error *err)
{
    if (s.n != 8 || memcmp(s.p, "HTTP/1.", 7) != 0 || s.p[7] < '0' || s.p[7] > '9')
        return kei_error(err, KE_EPROTO, "HTTP version \"%.*s\" was not HTTP/1.x",
                         s.n > 32 ? 32 : (int)s.n, s.n ? s.p : "");
    *ret_minor = (uint32_t)(s.p[7] - '0');
    return 0;
}

static int parse_request_line(struct kei_http_head *h, struct ke_str line, struct ke_error *err)
{
    struct ke_str rest, version;

    h->method = kei_str_cut(line, ' ', &rest);
    if (!rest.p || !is_token(h->method) || h->method.n > 32)
        return kei_error(err, KE_EPROTO, "HTTP request line had no valid method");
    h->target = kei_str_cut(rest, ' ', &version);
    if (!version.p || h->target.n == 0)
        return kei_error(err, KE_EPROTO, "HTTP request line was incomplete");
    for (size_t i = 0; i < h->target.n; i++) {
        unsigned char c = (unsigned char)h->target.p[i];
        if (c <= 0x20 || c >= 0x7f)
            return kei_error(err, KE_EPROTO, "HTTP request target had an invalid byte 0x%02x", c);
    }
    return parse_version(version, &h->minor, err);
}

static int parse_status_line(struct kei_http_head *h, struct ke_str line, struct ke_error *err)
{
    struct ke_str rest, code;
    uint64_t status;

    int r = parse_version(kei_str_cut(line, ' ', &rest), &h->minor, err);
    if (r < 0)
        return r;
    code = kei_str_cut(rest, ' ', &h->reason);
    if (!h->reason.p)
        h->reason = kei_strn("", 0);
    if (code.n != 3 || !kei_str_u64(code, &status) || status < 100 || status > 599)
        return kei_error(err, KE_EPROTO, "HTTP status line had no valid status");
    h->status = (uint32_t)status;
    return 0;
}

static int parse_header(struct kei_http_head *h, struct ke_str line, struct ke_error *err)
{
    struct ke_str value, name;

    if (*line.p == ' ' || *line.p == '\t')
        return kei_error(err, KE_EPROTO, "HTTP header line was folded");
    name = kei_str_cut(line, ':', &value);
    if (!value.p)
        return kei_error(err, KE_EPROTO, "HTTP header line had no colon");
    if (!is_token(name))
        return kei_error(err, KE_EPROTO, "HTTP header name was not valid");
    if (h->n_headers == KEI_HTTP_HEADERS)
        return kei_error(err, KE_ELIMIT, "HTTP head had more than the limit of %d headers",
                         KEI_HTTP_HEADERS);
    h->headers[h->n_headers].name = name;
    h->headers[h->n_headers++].value = trim_ows(value);
    return 0;
}

/* What the head says about the end of the body. length is set when has_length is. */
struct framing {
    bool chunked, has_length;
    uint64_t length;
};

static int read_length(struct framing *f, struct ke_str value, struct ke_error *err)
{
    uint64_t n;

    for (size_t i = 0; i < value.n; i++)
        if (value.p[i] < '0' || value.p[i] > '9')
            return kei_error(err, KE_EPROTO, "Content-Length was not a number");
    if (!kei_str_u64(value, &n) || n > INT64_MAX)
        return kei_error(err, KE_EPROTO, "Content-Length was not a number in range");
    if (f->has_length && f->length != n)
        return kei_error(err, KE_EPROTO, "Content-Length was given twice with different values");
    f->has_length = true;
    f->length = n;
    return 0;
}

static int read_coding(struct framing *f, struct ke_str value, struct ke_error *err)
{
    struct ke_str rest = value, last;

    if (f->chunked)
        return kei_error(err, KE_EPROTO, "Transfer-Encoding was given twice");
    if (kei_str_ieq(value, KEI_STR("chunked"))) {
        f->chunked = true;
        return 0;
    }
    do {
        last = trim_ows(kei_str_cut(rest, ',', &rest));
        if (rest.p && kei_str_ieq(last, KEI_STR("chunked")))
            return kei_error(err, KE_EPROTO, "Transfer-Encoding did not end with chunked");
    } while (rest.p);
    if (!kei_str_ieq(last, KEI_STR("chunked")))
        return kei_error(err, KE_EPROTO, "Transfer-Encoding \"%.*s\" did not end with chunked",
                         value.n > 64 ? 64 : (int)value.n, value.p);
    return kei_error(err, KE_ENOTSUP, "Transfer-Encoding \"%.*s\" was not understood",
                     value.n > 64 ? 64 : (int)value.n, value.p);
}

static int read_framing(const struct kei_http_head *h, struct framing *f, struct ke_error *err)
{
    int r = 0, unsupported = 0;

    memset(f, 0, sizeof *f);
    for (uint32_t i = 0; i < h->n_headers && r == 0; i++) {
        const struct kei_http_header *x = &h->headers[i];
        if (kei_str_ieq(x->name, KEI_STR("content-length")))
            r = read_length(f, x->value, err);
        else if (kei_str_ieq(x->name, KEI_STR("transfer-encoding")))
            r = read_coding(f, x->value, err);
        if (r == KE_ENOTSUP) {
            /* goes on: a contradiction weighs more than a coding we lack */
            f->chunked = true;
            unsupported = r;
            r = 0;
        }
    }
    if (r < 0)
        return r;
    if (f->chunked && f->has_length)
        return kei_error(err, KE_EPROTO, "HTTP head had Content-Length and Transfer-Encoding");
    if (f->chunked && h->minor == 0)
        return kei_error(err, KE_EPROTO, "HTTP/1.0 head had Transfer-Encoding");
    return unsupported;
}

static int check_host(const struct kei_http_head *h, struct ke_error *err)
{
    uint32_t hosts = 0;

    for (uint32_t i = 0; i < h->n_headers; i++)
        if (kei_str_ieq(h->headers[i].name, KEI_STR("host")))
            hosts++;
    if (hosts > 1)
        return kei_error(err, KE_EPROTO, "HTTP request had more than one Host header");
    if (hosts == 0 && h->minor > 0)
        return kei_error(err, KE_EPROTO, "HTTP request had no Host header");
    return 0;
}

static int too_long(size_t max, struct ke_error *err)
{
    return kei_error(err, KE_ELIMIT, "HTTP head was over the limit of %zu bytes", max);
}

static int parse_head(struct kei_http_head *h, bool request, const char *p, size_t n, size_t max,
                      size_t *ret_used, struct ke_error *err)
{
    size_t at = 0, used;
    bool first = true;
    struct ke_str line;
    struct framing f;
    size_t seen = n < max ? n : max;

    *ret_used = 0;
    memset(h, 0, offsetof(struct kei_http_head, headers));
    h->n_headers = 0;
    /* one empty line before a request is to be ignored (RFC 9112, 2.2) */
    if (request && seen >= 2 && p[0] == '\r' && p[1] == '\n')
        at = 2;
    for (;;) {
        int r = take_line(p + at, seen - at, &line, &used, err);
        if (r < 0)
            return r;
        if (used == 0)
            return n >= max ? too_long(max, err) : 0;
        at += used;
        if (line.n == 0 && !first)
            break;
        if (!first)
            r = parse_header(h, line, err);
        else if (request)
            r = parse_request_line(h, line, err);
        else
            r = parse_status_line(h, line, err);
        if (r < 0)
            return r;
        first = false;
    }
    int r = request ? check_host(h, err) : 0;
    if (r == 0)
        r = read_framing(h, &f, err);
    if (r == 0)
        *ret_used = at;
    return r;
}

int kei_http_parse_request(struct kei_http_head *h, const char *p, size_t n, size_t max,
                           size_t *ret_used, struct ke_error *err)
{
    return parse_head(h, true, p, n, max, ret_used, err);
}

int kei_http_parse_response(struct kei_http_head *h, const char *p, size_t n, size_t max,
                            size_t *ret_used, struct ke_error *err)
{
    return parse_head(h, false, p, n, max, ret_used, err);
}

struct ke_str kei_http_header(const struct kei_http_head *h, const char *name)
{
    for (uint32_t i = 0; i < h->n_headers; i++)
        if (kei_str_ieq(h->headers[i].name, kei_str(name)))
            return h->headers[i].value;
    return (struct ke_str){NULL, 0};
}

bool kei_http_has_token(const struct kei_http_head *h, const char *name, const char *token)
{
    for (uint32_t i = 0; i < h->n_headers; i++) {
        if (!kei_str_ieq(h->headers[i].name, kei_str(name)))
            continue;
        struct ke_str rest = h->headers[i].value;
        do {
            if (kei_str_ieq(trim_ows(kei_str_cut(rest, ',', &rest)), kei_str(token)))
                return true;
        } while (rest.p);
    }
    return false;
}

/* ---- bodies ---- */

static int over_max(const struct kei_http_body *b, struct ke_error *err)
{
    return kei_error(err, KE_ELIMIT, "HTTP body was over the limit of %llu bytes",
                     (unsigned long long)b->max);
}

int kei_http_body_init(struct kei_http_body *b, const struct kei_http_head *h, bool response,
                       struct ke_str method, uint64_t max, struct ke_error *err)
{
    struct framing f;

    memset(b, 0, sizeof *b);
    b->max = max;
    int r = read_framing(h, &f, err);
    if (r < 0)
        return r;
    if (response) {
        bool tunnel = kei_str_is(method, "CONNECT") && h->status / 100 == 2;
        if (h->status / 100 == 1 || h->status == 204 || h->status == 304 || tunnel ||
            kei_str_is(method, "HEAD"))
            return 0;
    }
    if (f.chunked) {
        b->mode = BODY_CHUNKED;
        b->state = CHUNK_SIZE_FIRST;
    } else if (f.has_length) {
        if (f.length > max)
            return over_max(b, err);
        b->mode = f.length ? BODY_LENGTH : BODY_NONE;
        b->left = f.length;
    } else if (response) {
        b->mode = BODY_CLOSE;
    }
    return 0;
}

bool kei_http_body_none(const struct kei_http_body *b)
{
    return b->mode == BODY_NONE;
}

static int bad_chunk(struct ke_error *err, const char *what)
{
    return kei_error(err, KE_EPROTO, "HTTP chunk %s was malformed", what);
}

/* A byte of the line that holds a chunk's size. */
static int chunk_size_byte(struct kei_http_body *b, char c, struct ke_error *err)
{
    int d = kei_hex_digit(c);

    if (++b->line > CHUNK_LINE_MAX)
        return kei_error(err, KE_ELIMIT, "HTTP chunk line was over the limit of %u bytes",
                         CHUNK_LINE_MAX);
    if (d >= 0) {
        if (b->left > CHUNK_SIZE_MAX)
            return bad_chunk(err, "size");
        b->left = b->left << 4 | (unsigned)d;
        b->state = CHUNK_SIZE;
        return 0;
    }
    if (b->state == CHUNK_SIZE_FIRST)
        return bad_chunk(err, "size");
    if (c == ';')
        b->state = CHUNK_EXT;
    else if (c == '\r')
        b->state = CHUNK_SIZE_LF;
    else
        return bad_chunk(err, "size");
    return 0;
}

static int trailer_byte(struct kei_http_body *b, char c, struct ke_error *err)
{
    if (++b->line > TRAILERS_MAX)
        return kei_error(err, KE_ELIMIT, "HTTP trailers were over the limit of %u bytes",
                         TRAILERS_MAX);
    if (c == '\r') {
        b->state = b->state == CHUNK_TRAILER_START ? CHUNK_END_LF : CHUNK_TRAILER_LF;
        return 0;
    }
    if (b->state == CHUNK_TRAILER_START && !is_token_char((unsigned char)c))
        return bad_chunk(err, "trailer");
    if (!is_text_char((unsigned char)c))
        return bad_chunk(err, "trailer");
    b->state = CHUNK_TRAILER;
    return 0;
}

/* The size line ended: left is the size. */
static int chunk_begin(struct kei_http_body *b, struct ke_error *err)
{
    b->line = 0;
    if (b->left == 0) {
        b->state = CHUNK_TRAILER_START;
        return 0;
    }
    if (b->left > b->max - b->total)
        return over_max(b, err);
    b->state = CHUNK_DATA;
    return 0;
}

/* One byte that is not payload. */
static int chunk_byte(struct kei_http_body *b, char c, struct ke_error *err)
{
    switch (b->state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return chunk_size_byte(b, c, err);
    case CHUNK_EXT:
        if (++b->line > CHUNK_LINE_MAX)
            return kei_error(err, KE_ELIMIT, "HTTP chunk line was over the limit of %u bytes",
                             CHUNK_LINE_MAX);
        if (c == '\r')
            b->state = CHUNK_SIZE_LF;
        else if (!is_text_char((unsigned char)c))
            return bad_chunk(err, "extension");
        return 0;
    case CHUNK_SIZE_LF:
        return c == '\n' ? chunk_begin(b, err) : bad_chunk(err, "line end");
    case CHUNK_DATA_CR:
        b->state = CHUNK_DATA_LF;
        return c == '\r' ? 0 : bad_chunk(err, "end");
    case CHUNK_DATA_LF:
        b->state = CHUNK_SIZE_FIRST;
        b->left = 0;
        b->line = 0;
        return c == '\n' ? 0 : bad_chunk(err, "end");
    case CHUNK_TRAILER_START:
    case CHUNK_TRAILER:
        return trailer_byte(b, c, err);
    case CHUNK_TRAILER_LF:
        b->state = CHUNK_TRAILER_START;
        return c == '\n' ? 0 : bad_chunk(err, "trailer end");
    default: /* CHUNK_END_LF */
        b->state = CHUNK_DONE;
        return c == '\n' ? 0 : bad_chunk(err, "trailer end");
    }
}

/* min(n, left) bytes of payload */
static void take_data(struct kei_http_body *b, const char *p, size_t n, struct ke_str *ret_data)
{
    size_t take = n < b->left ? n : (size_t)b->left;

    b->left -= take;
    b->total += take;
    *ret_data = kei_strn(p, take);
}

static int feed_chunked(struct kei_http_body *b, const char *p, size_t n, size_t *ret_used,
                        struct ke_str *ret_data, struct ke_error *err)
{
    size_t at = 0;

    while (at < n && b->state != CHUNK_DONE) {
        if (b->state == CHUNK_DATA) {
            take_data(b, p + at, n - at, ret_data);
            at += ret_data->n;
            if (b->left == 0)
                b->state = CHUNK_DATA_CR;
            break;
        }
        int r = chunk_byte(b, p[at], err);
        if (r < 0)
            return r;
        at++;
    }
    *ret_used = at;
    return b->state == CHUNK_DONE;
}

int kei_http_body_feed(struct kei_http_body *b, const char *p, size_t n, size_t *ret_used,
                       struct ke_str *ret_data, struct ke_error *err)
{
    *ret_used = 0;
    *ret_data = kei_strn(NULL, 0);
    switch (b->mode) {
    case BODY_NONE:
        return 1;
    case BODY_LENGTH:
        take_data(b, p, n, ret_data);
        *ret_used = ret_data->n;
        return b->left == 0;
    case BODY_CHUNKED:
        return feed_chunked(b, p, n, ret_used, ret_data, err);
    default:
        if (n > b->max - b->total)
            return over_max(b, err);
        b->total += n;
        *ret_used = n;
        *ret_data = kei_strn(p, n);
        return 0;
    }
}

int kei_http_body_eof(struct kei_http_body *b, struct ke_error *err)
{
    if (b->mode == BODY_NONE || b->mode == BODY_CLOSE || (b->mode == BODY_LENGTH && b->left == 0) ||
        (b->mode == BODY_CHUNKED && b->state == CHUNK_DONE))
        return 0;
    if (b->mode == BODY_LENGTH)
        return kei_error(err, KE_EPROTO,
                         "HTTP body ended after %llu of %llu bytes: the peer closed early",
                         (unsigned long long)b->total, (unsigned long long)(b->total + b->left));
    return kei_error(
        err, KE_EPROTO,
        "HTTP body ended after %llu bytes before its last chunk: the peer closed early",
        (unsigned long long)b->total);
}
