/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checker of JSON: strict about the grammar; as Go's decoder it takes any bytes >= 0x20 inside
 * strings. Pure, no allocation, no recursion: the open brackets are bits in a fixed array, so depth
 * costs nothing and is bounded. Any thread.
 */
#include "base/json_priv.h"

#define DEPTH_MAX 1024

struct scan {
    const char *start, *p, *end;
    uint32_t depth, max;
    uint64_t is_obj[DEPTH_MAX / 64]; /* a bit per open level: object or array */
    struct ke_error *err;
};

static int bad(struct scan *s, const char *what)
{
    return kei_error(s->err, KE_EPARSE, "JSON was malformed at offset %zu: %s",
                     (size_t)(s->p - s->start), s->p < s->end ? what : "the text ended too early");
}

/* s->p is at the opening quote; leaves it behind the closing one */
static int scan_string(struct scan *s)
{
    s->p++;
    while (s->p < s->end && *s->p != '"') {
        unsigned char c = (unsigned char)*s->p;
        if (c < 0x20)
            return bad(s, "a control character stood inside a string");
        if (c == '\\') {
            uint32_t u;
            if (s->end - s->p < 2) {
                s->p = s->end;
                break;
            }
            c = (unsigned char)s->p[1];
            if (c == 'u') {
                if (!hex4(s->p + 2, s->end, &u))
                    return bad(s, "\\u was not followed by four hex digits");
                s->p += 4;
            } else if (!memchr("\"\\/bfnrt", c, 8)) {
                return bad(s, "unknown escape in a string");
            }
            s->p++;
        }
        s->p++;
    }
    if (s->p >= s->end)
        return bad(s, "");
    s->p++;
    return 0;
}

static const char *digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

static int scan_number(struct scan *s)
{
    const char *from;

    if (*s->p == '-')
        s->p++;
    if (s->p < s->end && *s->p == '0') {
        s->p++;
    } else {
        from = s->p;
        s->p = digits(s->p, s->end);
        if (s->p == from)
            return bad(s, "a digit was expected");
    }
    if (s->p < s->end && *s->p == '.') {
        from = ++s->p;
        s->p = digits(s->p, s->end);
        if (s->p == from)
            return bad(s, "a digit was expected after the point");
    }
    if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
            s->p++;
        from = s->p;
        s->p = digits(s->p, s->end);
        if (s->p == from)
            return bad(s, "a digit was expected in the exponent");
    }
    return 0;
}

static int scan_word(struct scan *s, const char *word)
{
    for (; *word; word++, s->p++) {
        if (s->p >= s->end || *s->p != *word)
            return bad(s, "a value was expected");
    }
    return 0;
}

static int scan_scalar(struct scan *s)
{
    if (s->p >= s->end)
        return bad(s, "");
    switch (*s->p) {
    case '"':
        return scan_string(s);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
            return scan_number(s);
        return bad(s, "a value was expected");
    }
}

static int scan_key(struct scan *s)
{
    s->p = skip_ws(s->p, s->end);
    if (s->p >= s->end || *s->p != '"')
        return bad(s, "a member name was expected");
    int r = scan_string(s);
    if (r < 0)
        return r;
    s->p = skip_ws(s->p, s->end);
    if (s->p >= s->end || *s->p != ':')
        return bad(s, "':' was expected");
    s->p++;
    return 0;
}

static int push(struct scan *s, bool obj)
{
    if (s->depth == s->max)
        return kei_error(s->err, KE_ELIMIT,
                         "JSON was nested deeper than the limit of %u levels (at offset %zu)",
                         s->max, (size_t)(s->p - s->start));
    uint64_t bit = UINT64_C(1) << (s->depth % 64);
    if (obj)
        s->is_obj[s->depth / 64] |= bit;
    else
        s->is_obj[s->depth / 64] &= ~bit;
    s->depth++;
    s->p++;
    return 0;
}

static bool in_obj(const struct scan *s)
{
    return s->is_obj[(s->depth - 1) / 64] >> ((s->depth - 1) % 64) & 1;
}

/* After a value: closes what closes. *ret_more: another value is to come. */
static int scan_after(struct scan *s, bool *ret_more)
{
    while (s->depth) {
        s->p = skip_ws(s->p, s->end);
        if (s->p >= s->end)
            return bad(s, "");
        if (*s->p == ',') {
            s->p++;
            *ret_more = true;
            return in_obj(s) ? scan_key(s) : 0;
        }
        if (*s->p != (in_obj(s) ? '}' : ']'))
            return bad(s, in_obj(s) ? "',' or '}' was expected" : "',' or ']' was expected");
        s->p++;
        s->depth--;
    }
    *ret_more = false;
    return 0;
}

static int scan_value(struct scan *s)
{
    bool more = true;

    while (more) {
        int r;
        s->p = skip_ws(s->p, s->end);
        char c = s->p < s->end ? *s->p : '\0';
        if (c == '{' || c == '[') {
            r = push(s, c == '{');
            if (r < 0)
                return r;
            s->p = skip_ws(s->p, s->end);
            if (s->p < s->end && *s->p == (c == '{' ? '}' : ']'))
                r = scan_after(s, &more);
            else if (c == '{')
                r = scan_key(s);
        } else {
            r = scan_scalar(s);
            if (r == 0)
                r = scan_after(s, &more);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int kei_json_value(struct ke_str text, uint32_t depth, struct ke_str *ret, struct ke_error *err)
{
    struct scan s = {.start = text.p, .err = err};

    s.max = depth == 0 ? KEI_JSON_DEPTH : depth > DEPTH_MAX ? DEPTH_MAX : depth;
    if (text.n == 0)
        return kei_error(err, KE_EPARSE, "JSON was malformed at offset 0: the text was empty");
    s.end = text.p + text.n;
    s.p = skip_ws(text.p, s.end);
    const char *from = s.p;
    int r = scan_value(&s);
    if (r < 0)
        return r;
    *ret = (struct ke_str){from, (size_t)(s.p - from)};
    return 0;
}

int kei_json_check(struct ke_str text, uint32_t depth, struct ke_error *err)
{
    struct ke_str v;
    int r = kei_json_value(text, depth, &v, err);

    if (r < 0)
        return r;
    const char *end = text.p + text.n;
    const char *p = skip_ws(v.p + v.n, end);
    if (p != end)
        return kei_error(err, KE_EPARSE,
                         "JSON was malformed at offset %zu: text followed after the value",
                         (size_t)(p - text.p));
    return 0;
}
