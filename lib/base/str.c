/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String views: comparing, cutting, numbers, names. Pure; owns no memory; any thread. Everything
 * is ASCII and the same in any locale.
 */
#include "base/str.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool kei_str_ieq(struct ke_str a, struct ke_str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    }
    return true;
}

bool kei_str_starts(struct ke_str s, struct ke_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool kei_str_ends(struct ke_str s, struct ke_str suffix)
{
    return s.n >= suffix.n &&
           (suffix.n == 0 || memcmp(s.p + (s.n - suffix.n), suffix.p, suffix.n) == 0);
}

struct ke_str kei_str_cut(struct ke_str s, char sep, struct ke_str *rest)
{
    const char *at = s.n ? memchr(s.p, sep, s.n) : NULL;

    if (!at) {
        *rest = (struct ke_str){NULL, 0};
        return s;
    }
    size_t n = (size_t)(at - s.p);
    *rest = (struct ke_str){at + 1, s.n - n - 1};
    return (struct ke_str){s.p, n};
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct ke_str kei_str_trim(struct ke_str s)
{
    while (s.n && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool kei_str_has(struct ke_str s, struct ke_str part)
{
    return part.n == 0 || (s.n >= part.n && memmem(s.p, s.n, part.p, part.n) != NULL);
}

bool kei_str_u64(struct ke_str s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        uint64_t d = (uint64_t)(s.p[i] - '0');
        if (v > (UINT64_MAX - d) / 10)
            return false;
        v = v * 10 + d;
    }
    *ret = v;
    return true;
}

bool kei_str_i64(struct ke_str s, int64_t *ret)
{
    uint64_t v;
    bool neg = s.n && s.p[0] == '-';

    if (neg) {
        s.p++;
        s.n--;
    }
    if (!kei_str_u64(s, &v))
        return false;
    if (neg) {
        if (v > (uint64_t)INT64_MAX + 1)
            return false;
        *ret = v == (uint64_t)INT64_MAX + 1 ? INT64_MIN : -(int64_t)v;
        return true;
    }
    if (v > INT64_MAX)
        return false;
    *ret = (int64_t)v;
    return true;
}

size_t kei_utf8_next(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t len;
    unsigned char lo = 0x80, hi = 0xbf;

    if (n == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        len = 2;
    } else if (s[0] >= 0xe0 && s[0] <= 0xef) {
        len = 3;
        if (s[0] == 0xe0)
            lo = 0xa0; /* shorter form exists */
        else if (s[0] == 0xed)
            hi = 0x9f; /* surrogates */
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        len = 4;
        if (s[0] == 0xf0)
            lo = 0x90;
        else if (s[0] == 0xf4)
            hi = 0x8f; /* above U+10FFFF */
    } else {
        return 0;
    }
    if (n < len || s[1] < lo || s[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

size_t kei_utf8_encode(uint32_t u, char out[4])
{
    if (u < 0x80) {
        out[0] = (char)u;
        return 1;
    }
    if (u < 0x800) {
        out[0] = (char)(0xc0 | u >> 6);
        out[1] = (char)(0x80 | (u & 0x3f));
        return 2;
    }
    if (u < 0x10000) {
        out[0] = (char)(0xe0 | u >> 12);
        out[1] = (char)(0x80 | (u >> 6 & 0x3f));
        out[2] = (char)(0x80 | (u & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | u >> 18);
    out[1] = (char)(0x80 | (u >> 12 & 0x3f));
    out[2] = (char)(0x80 | (u >> 6 & 0x3f));
    out[3] = (char)(0x80 | (u & 0x3f));
    return 4;
}

bool kei_utf8_valid(struct ke_str s)
{
    size_t i = 0;

    while (i < s.n) {
        size_t len = s.p[i] ? kei_utf8_next(s.p + i, s.n - i) : 0;
        if (len == 0)
            return false;
        i += len;
    }
    return true;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool kei_dns_label(struct ke_str s)
{
    if (s.n == 0 || s.n > 63 || !name_char(s.p[0]) || !name_char(s.p[s.n - 1]))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (!name_char(s.p[i]) && s.p[i] != '-')
            return false;
    }
    return true;
}

bool kei_dns_subdomain(struct ke_str s)
{
    if (s.n == 0 || s.n > 253)
        return false;
    /* as Kubernetes: only the whole name has a length limit, its parts have none of their own */
    char prev = '.';
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool edge = c == '.' || prev == '.';
        if (edge && !name_char(c == '.' ? prev : c))
            return false;
        if (!name_char(c) && c != '-' && c != '.')
            return false;
        prev = c;
    }
    return name_char(prev);
}
