/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON spans that the checker accepted. Pure, no recursion; memory only where the caller
 * gives a buffer or an arena; any thread. On unchecked text the answers are wrong but stay inside
 * the span. Invalid UTF-8 is replaced where a string is decoded, as Go does.
 */
#include "base/json_priv.h"

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

bool kei_json_key_eq(struct ke_str raw_a, struct ke_str raw_b)
{
    const char *p = raw_a.p, *end = p + raw_a.n, *q = raw_b.p, *qend = q + raw_b.n;

    if (kei_str_eq(raw_a, raw_b))
        return true;
    while (p < end && q < qend) {
        char x[4], y[4];
        size_t n = decode_char(&p, end, x), m = decode_char(&q, qend, y);
        if (n != m || memcmp(x, y, n) != 0)
            return false;
    }
    return p == end && q == qend;
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

bool kei_json_str_eq(struct ke_str a, struct ke_str b)
{
    struct ke_str x, y;

    return inside(a, &x) && inside(b, &y) && kei_json_key_eq(x, y);
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

bool kei_json_bool(struct ke_str v, bool dflt)
{
    char t = kei_json_type(v);

    return t == 't' ? true : t == 'f' ? false : dflt;
}
