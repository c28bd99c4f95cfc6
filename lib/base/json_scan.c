/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON as spans of its source text. Pure, no allocation, no recursion; any thread.
 * The checker is strict about the grammar and, as Go's decoder, takes any bytes >= 0x20 inside
 * strings; invalid UTF-8 is replaced only where a string is decoded.
 */
#include "base/json.h"

#define DEPTH_MAX 1024

struct scan {
    const char *start, *p, *end;
    uint32_t depth, max;
    uint64_t is_obj[DEPTH_MAX / 64]; /* a bit per open level: object or array */
    struct ke_error *err;
};

static const char *skip_ws(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
        p++;
    return p;
}

static int bad(struct scan *s, const char *what)
{
    return kei_error(s->err, KE_EPARSE, "JSON was malformed at offset %zu: %s",
                     (size_t)(s->p - s->start), s->p < s->end ? what : "the text ended too early");
}

static bool hex4(const char *p, const char *end, uint32_t *ret)
{
    uint32_t v = 0;

    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        uint32_t d;
        if (c >= '0' && c <= '9')
            d = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            d = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            d = (uint32_t)(c - 'A') + 10;
        else
            return false;
        v = v << 4 | d;
    }
    *ret = v;
    return true;
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

/* ---- reading accepted spans; on others the answers are wrong but stay inside the span ---- */

char kei_json_type(struct ke_str v)
{
    if (v.n == 0)
        return 0;
    char c = v.p[0];
    return c == '-' || (c >= '0' && c <= '9') ? '0' : c;
}

/* p at a quote; returns behind the closing quote */
static const char *skip_string(const char *p, const char *end)
{
    p++;
    while (p < end && *p != '"')
        p += *p == '\\' && end - p > 1 ? 2 : 1;
    return p < end ? p + 1 : end;
}

static const char *skip_value(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            if (depth == 0)
                return p;
            depth--;
            p++;
        } else if (depth) {
            p++;
            continue;
        } else {
            while (p < end && !memchr(",]} \t\r\n", *p, 7))
                p++;
        }
        if (depth == 0)
            return p;
    }
    return end;
}

bool kei_json_next(struct ke_str v, size_t *it, struct ke_str *ret_key, struct ke_str *ret_value)
{
    char type = kei_json_type(v);

    if ((type != '{' && type != '[') || *it >= v.n)
        return false;
    const char *end = v.p + v.n - 1; /* the closing bracket */
    const char *p = v.p + (*it ? *it : 1);
    p = skip_ws(p, end);
    if (p < end && *p == ',')
        p = skip_ws(p + 1, end);
    if (p >= end) {
        *it = v.n;
        return false;
    }
    struct ke_str key = {p, 0};
    if (type == '{') {
        const char *q = skip_string(p, end);
        if (*p != '"' || q - p < 2)
            return false;
        key = (struct ke_str){p + 1, (size_t)(q - p) - 2};
        p = skip_ws(q, end);
        if (p < end && *p == ':')
            p = skip_ws(p + 1, end);
    }
    const char *after = skip_value(p, end);
    if (after == p)
        return false;
    if (ret_key)
        *ret_key = key;
    if (ret_value)
        *ret_value = (struct ke_str){p, (size_t)(after - p)};
    *it = (size_t)(after - v.p);
    return true;
}

/*
 * Decodes the character at *p of a string's inside into out; advances *p. Returns the number of
 * bytes. A lone surrogate and each invalid byte become U+FFFD, as in Go.
 */
static size_t decode_char(const char **p, const char *end, char out[4])
{
    const char *s = *p;
    uint32_t u = 0xfffd, low;

    if (*s != '\\') {
        size_t n = kei_utf8_next(s, (size_t)(end - s));
        if (n) {
            memcpy(out, s, n);
            *p += n;
            return n;
        }
        *p += 1;
        return kei_utf8_encode(u, out);
    }
    if (end - s < 2) {
        *p = end;
        return kei_utf8_encode(u, out);
    }
    if (s[1] != 'u') {
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *at = memchr(from, s[1], 5);
        out[0] = at ? to[at - from] : s[1];
        *p += 2;
        return 1;
    }
    if (!hex4(s + 2, end, &u)) {
        *p += 2;
        return kei_utf8_encode(0xfffd, out);
    }
    *p += 6;
    if (u >= 0xd800 && u <= 0xdbff && end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' &&
        hex4(*p + 2, end, &low) && low >= 0xdc00 && low <= 0xdfff) {
        *p += 6;
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    } else if (u >= 0xd800 && u <= 0xdfff) {
        u = 0xfffd;
    }
    return kei_utf8_encode(u, out);
}

bool kei_json_key_is(struct ke_str raw, const char *s)
{
    size_t n = strlen(s);
    const char *p = raw.p, *end = p + raw.n;

    if (raw.n == n && (n == 0 || memcmp(p, s, n) == 0) && !memchr(s, '\\', n))
        return true;
    if (raw.n == 0 || (!memchr(p, '\\', raw.n) && raw.n == n))
        return false;
    while (p < end) {
        char out[4];
        size_t k = decode_char(&p, end, out);
        if (k > n || memcmp(out, s, k) != 0)
            return false;
        s += k;
        n -= k;
    }
    return n == 0;
}

/* As encoding/json of Go finds a field: simple folding, with the two characters that fold to ASCII
 */
static bool key_folds_to(struct ke_str raw, const char *s)
{
    const char *p = raw.p, *end = p + raw.n;

    for (; p < end; s++) {
        char out[4];
        size_t k = decode_char(&p, end, out);
        if (k == 2 && memcmp(out, "\xc5\xbf", 2) == 0) /* long s */
            out[0] = 's';
        else if (k == 3 && memcmp(out, "\xe2\x84\xaa", 3) == 0) /* Kelvin sign */
            out[0] = 'k';
        else if (k != 1)
            return false;
        if (!*s || !kei_str_ieq(kei_strn(out, 1), kei_strn(s, 1)))
            return false;
    }
    return *s == '\0';
}

bool kei_json_get(struct ke_str v, const char *key, struct ke_str *ret)
{
    struct ke_str k, val;
    size_t it = 0;
    bool found = false;

    if (kei_json_type(v) != '{')
        return false;
    while (kei_json_next(v, &it, &k, &val)) {
        if (kei_json_key_is(k, key)) {
            *ret = val;
            found = true;
        }
    }
    return found;
}

bool kei_json_iget(struct ke_str v, const char *key, struct ke_str *ret)
{
    struct ke_str k, val;
    size_t it = 0;
    bool found = false;

    if (kei_json_type(v) != '{')
        return false;
    while (kei_json_next(v, &it, &k, &val)) {
        if (key_folds_to(k, key)) {
            *ret = val;
            found = true;
        }
    }
    return found;
}

bool kei_json_path(struct ke_str v, const char *path, struct ke_str *ret)
{
    struct ke_str rest = kei_str(path);

    do {
        char key[128];
        struct ke_str part = kei_str_cut(rest, '.', &rest);
        if (part.n >= sizeof key)
            return false;
        memcpy(key, part.p, part.n);
        key[part.n] = '\0';
        if (!kei_json_get(v, key, &v))
            return false;
    } while (rest.p);
    *ret = v;
    return true;
}

/* ---- decoding ---- */

static bool inside(struct ke_str v, struct ke_str *ret)
{
    if (v.n < 2 || v.p[0] != '"')
        return false;
    *ret = (struct ke_str){v.p + 1, v.n - 2};
    return true;
}

int kei_json_str(struct ke_str v, struct ke_buf *out, struct ke_error *err)
{
    struct ke_str s;
    size_t before = out->n;

    if (!inside(v, &s))
        return kei_error(err, KE_EPARSE, "JSON string was expected, found %s",
                         v.n ? "another type" : "nothing");
    for (const char *p = s.p, *end = p + s.n; p < end;) {
        char c[4];
        size_t n = decode_char(&p, end, c);
        if (n == 1 && c[0] == '\0') {
            if (kei_buf_ok(out) && out->p) {
                out->n = before;
                out->p[before] = '\0';
            }
            return kei_error(err, KE_EPARSE, "JSON string held \\u0000, which is not accepted");
        }
        kei_buf_add(out, c, n);
    }
    if (s.n == 0)
        kei_buf_add(out, "", 0);
    if (!kei_buf_ok(out))
        return kei_error(err, KE_ENOMEM, "memory ran out while a JSON string was read");
    return 0;
}

int kei_json_text(char **ret, struct ke_str v, struct kei_arena *a, struct ke_error *err)
{
    struct ke_str s;
    char c[4];
    size_t n = 0;

    if (!inside(v, &s))
        return kei_error(err, KE_EPARSE, "JSON string was expected, found %s",
                         v.n ? "another type" : "nothing");
    for (const char *p = s.p, *end = p + s.n; p < end;) {
        size_t k = decode_char(&p, end, c);
        if (k == 1 && c[0] == '\0')
            return kei_error(err, KE_EPARSE, "JSON string held \\u0000, which is not accepted");
        n += k;
    }
    char *to = kei_arena_alloc(a, n + 1);
    if (!to)
        return kei_error(err, KE_ENOMEM, "memory ran out for a JSON string of %zu bytes", n);
    n = 0;
    for (const char *p = s.p, *end = p + s.n; p < end;) {
        size_t k = decode_char(&p, end, c);
        memcpy(to + n, c, k);
        n += k;
    }
    *ret = to;
    return 0;
}

char *kei_json_strdup(struct ke_str v, struct kei_arena *a)
{
    char *s;

    return kei_json_text(&s, v, a, NULL) == 0 ? s : NULL;
}

size_t kei_json_copy(char *out, size_t cap, struct ke_str v)
{
    struct ke_str s;
    size_t n = 0;

    if (cap == 0)
        return 0;
    if (inside(v, &s)) {
        for (const char *p = s.p, *end = p + s.n; p < end;) {
            char c[4];
            size_t k = decode_char(&p, end, c);
            if (k >= cap - n)
                break;
            if (k == 1 && ((unsigned char)c[0] < 0x20 || c[0] == 0x7f))
                c[0] = '?';
            memcpy(out + n, c, k);
            n += k;
        }
    }
    out[n] = '\0';
    return n;
}

const char *kei_json_path_str(struct ke_str v, const char *path, struct kei_arena *a)
{
    struct ke_str at;
    char *s = kei_json_path(v, path, &at) ? kei_json_strdup(at, a) : NULL;

    return s ? s : "";
}

bool kei_json_str_is(struct ke_str v, const char *s)
{
    struct ke_str in;

    return inside(v, &in) && kei_json_key_is(in, s);
}

/* Feeds one digit; zeros wait in *zeros until a digit after them shows that they count. */
static bool add_digit(uint64_t *v, uint64_t *zeros, char c)
{
    if (c == '0') {
        if (*v)
            ++*zeros;
        return true;
    }
    for (; *zeros; --*zeros) {
        if (*v > UINT64_MAX / 10)
            return false;
        *v *= 10;
    }
    uint64_t d = (uint64_t)(c - '0');
    if (*v > (UINT64_MAX - d) / 10)
        return false;
    *v = *v * 10 + d;
    return true;
}

bool kei_json_i64(struct ke_str v, int64_t *ret)
{
    uint64_t m = 0, zeros = 0;
    int64_t exp = 0, shift = 0;
    const char *p = v.p, *end = p + v.n;

    if (kei_json_type(v) != '0')
        return false;
    bool neg = *p == '-';
    for (p += neg; p < end && *p >= '0' && *p <= '9'; p++) {
        if (!add_digit(&m, &zeros, *p))
            return false;
    }
    if (p < end && *p == '.') {
        for (p++; p < end && *p >= '0' && *p <= '9'; p++, shift++) {
            if (!add_digit(&m, &zeros, *p))
                return false;
        }
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool eneg = ++p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            exp = exp < INT32_MAX ? exp * 10 + (*p - '0') : exp;
        exp = eneg ? -exp : exp;
    }
    /* the value is m x 10^scale */
    int64_t scale = exp - shift + (int64_t)zeros;
    if (m && scale < 0)
        return false;
    for (; m && scale > 0; scale--) {
        if (m > UINT64_MAX / 10)
            return false;
        m *= 10;
    }
    if (m > (uint64_t)INT64_MAX + (neg ? 1 : 0))
        return false;
    *ret = neg && m == (uint64_t)INT64_MAX + 1 ? INT64_MIN : neg ? -(int64_t)m : (int64_t)m;
    return true;
}

bool kei_json_bool(struct ke_str v, bool dflt)
{
    char t = kei_json_type(v);

    return t == 't' ? true : t == 'f' ? false : dflt;
}
