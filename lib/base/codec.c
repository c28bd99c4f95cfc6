/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, hex, UUID, dates. Pure; output goes to the caller's memory; any thread. */
#include <stdio.h>

#include "base/codec.h"

static const char std_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void encode(struct ke_buf *out, const void *p, size_t n, const char *alphabet, bool pad)
{
    const unsigned char *s = p;
    char *to = n / 3 < SIZE_MAX / 4 - 1 ? kei_buf_room(out, (n + 2) / 3 * 4) : NULL;
    size_t k = 0;

    if (!to) {
        kei_buf_add(out, NULL, SIZE_MAX); /* marks the failure */
        return;
    }
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)s[i] << 16 | (left > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
                     (left > 2 ? (uint32_t)s[i + 2] : 0);
        to[k++] = alphabet[v >> 18];
        to[k++] = alphabet[v >> 12 & 63];
        if (left > 1 || pad)
            to[k++] = left > 1 ? alphabet[v >> 6 & 63] : '=';
        if (left > 2 || pad)
            to[k++] = left > 2 ? alphabet[v & 63] : '=';
    }
    to[k] = '\0';
    out->n += k;
}

void kei_b64_encode(struct ke_buf *out, const void *p, size_t n)
{
    encode(out, p, n, std_alphabet, true);
}

void kei_b64url_encode(struct ke_buf *out, const void *p, size_t n)
{
    encode(out, p, n, url_alphabet, false);
}

/* value of a base64 character, 64 if it is none */
static uint32_t b64_digit(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    if (c == (url ? '_' : '/'))
        return 63;
    return 64;
}

/* s without padding */
static bool decode(struct ke_buf *out, struct ke_str s, bool url)
{
    size_t tail = s.n % 4, k = 0;

    if (tail == 1)
        return false;
    char *to = kei_buf_room(out, s.n / 4 * 3 + 3);
    if (!to)
        return false;
    for (size_t i = 0; i < s.n; i += 4) {
        size_t left = s.n - i < 4 ? s.n - i : 4;
        uint32_t v = 0;
        for (size_t j = 0; j < 4; j++) {
            uint32_t d = j < left ? b64_digit(s.p[i + j], url) : 0;
            if (d > 63)
                goto bad;
            v = v << 6 | d;
        }
        /* bits that encode nothing must be zero: one text for each value */
        if ((left == 2 && (v & 0xffff)) || (left == 3 && (v & 0xff)))
            goto bad;
        to[k++] = (char)(v >> 16);
        if (left > 2)
            to[k++] = (char)(v >> 8 & 0xff);
        if (left > 3)
            to[k++] = (char)(v & 0xff);
    }
    to[k] = '\0';
    out->n += k;
    return true;
bad:
    *to = '\0';
    return false;
}

bool kei_b64_decode(struct ke_buf *out, struct ke_str s)
{
    if (s.n % 4)
        return false;
    if (s.n && s.p[s.n - 1] == '=')
        s.n -= s.p[s.n - 2] == '=' ? 2 : 1;
    return decode(out, s, false);
}

bool kei_b64url_decode(struct ke_buf *out, struct ke_str s)
{
    return decode(out, s, true);
}

void kei_hex_encode(char *out, const void *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *s = p;

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = hex[s[i] >> 4];
        out[2 * i + 1] = hex[s[i] & 15];
    }
    out[2 * n] = '\0';
}

int kei_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool kei_hex_decode(uint8_t *out, size_t out_n, struct ke_str s)
{
    if (s.n % 2 || s.n / 2 != out_n)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (kei_hex_digit(s.p[i]) < 0)
            return false;
    }
    for (size_t i = 0; i < out_n; i++)
        out[i] = (uint8_t)(kei_hex_digit(s.p[2 * i]) << 4 | kei_hex_digit(s.p[2 * i + 1]));
    return true;
}

void kei_uuid_format(char out[KEI_UUID_LEN + 1], const uint8_t random[16])
{
    uint8_t b[16];
    char hex[33];

    memcpy(b, random, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    kei_hex_encode(hex, b, sizeof b);
    size_t k = 0;
    for (size_t i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            out[k++] = '-';
        out[k++] = hex[i];
    }
    out[k] = '\0';
}

/* ---- dates: the Gregorian calendar counted from 1 March, so that leap days end a year ---- */

#define DAY_MS INT64_C(86400000)
/* years that four digits can write */
#define MS_MIN (INT64_C(-62135596800) * 1000)
#define MS_MAX (INT64_C(253402300799) * 1000 + 999)

struct civil {
    int64_t y;
    uint32_t mon, day, hour, min, sec, ms, weekday; /* weekday 0: Sunday */
};

int64_t kei_days_from_civil(int64_t y, uint32_t m, uint32_t d)
{
    if (m <= 2)
        y--;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (int64_t)(m > 2 ? m - 3 : m + 9) + 2) / 5 + (int64_t)d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

static void to_civil(struct civil *c, int64_t ms)
{
    if (ms < MS_MIN)
        ms = MS_MIN;
    if (ms > MS_MAX)
        ms = MS_MAX;
    int64_t days = ms / DAY_MS, rest = ms % DAY_MS;
    if (rest < 0) {
        rest += DAY_MS;
        days--;
    }
    int64_t z = days + 719468; /* from 0000-03-01; never negative within the range */
    int64_t era = z / 146097, doe = z % 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    c->day = (uint32_t)(doy - (153 * mp + 2) / 5 + 1);
    c->mon = (uint32_t)(mp < 10 ? mp + 3 : mp - 9);
    c->y = yoe + era * 400 + (c->mon <= 2);
    c->hour = (uint32_t)(rest / 3600000);
    c->min = (uint32_t)(rest / 60000 % 60);
    c->sec = (uint32_t)(rest / 1000 % 60);
    c->ms = (uint32_t)(rest % 1000);
    c->weekday = (uint32_t)(((days + 4) % 7 + 7) % 7);
}

void kei_time_rfc3339(char out[KEI_TIME_MAX], int64_t unix_ms)
{
    struct civil c;

    to_civil(&c, unix_ms);
    snprintf(out, KEI_TIME_MAX, "%04d-%02u-%02uT%02u:%02u:%02uZ", (int)c.y, c.mon, c.day, c.hour,
             c.min, c.sec);
}

void kei_time_rfc3339_micro(char out[KEI_TIME_MAX], int64_t unix_ms)
{
    struct civil c;

    to_civil(&c, unix_ms);
    snprintf(out, KEI_TIME_MAX, "%04d-%02u-%02uT%02u:%02u:%02u.%03u000Z", (int)c.y, c.mon, c.day,
             c.hour, c.min, c.sec, c.ms);
}

void kei_time_http(char out[KEI_TIME_MAX], int64_t unix_ms)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct civil c;

    to_civil(&c, unix_ms);
    snprintf(out, KEI_TIME_MAX, "%s, %02u %s %04d %02u:%02u:%02u GMT", days[c.weekday], c.day,
             months[c.mon - 1], (int)c.y, c.hour, c.min, c.sec);
}

/* exactly n digits at *p, at most max; moves *p */
static bool number(const char **p, const char *end, size_t n, uint32_t min, uint32_t max,
                   uint32_t *ret)
{
    uint32_t v = 0;

    if ((size_t)(end - *p) < n)
        return false;
    for (size_t i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        v = v * 10 + (uint32_t)(**p - '0');
    }
    *ret = v;
    return v >= min && v <= max;
}

static bool one(const char **p, const char *end, char a, char b)
{
    if (*p >= end || (**p != a && **p != b))
        return false;
    (*p)++;
    return true;
}

static uint32_t month_days(uint32_t y, uint32_t m)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return m == 2 && (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)) ? 29 : days[m - 1];
}

/* ".123": milliseconds, further digits are cut */
static bool fraction(const char **p, const char *end, uint32_t *ret_ms)
{
    uint32_t unit = 100;

    *ret_ms = 0;
    if (*p >= end || **p != '.')
        return true;
    const char *from = ++*p;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
        *ret_ms += unit * (uint32_t)(**p - '0');
        unit /= 10;
    }
    return *p > from;
}

bool kei_time_parse(struct ke_str s, int64_t *ret_unix_ms)
{
    const char *p = s.p, *end = p + s.n;
    uint32_t y, mon, d, h, min, sec, ms, oh = 0, om = 0;

    if (s.n == 0 || !number(&p, end, 4, 1, 9999, &y) || !one(&p, end, '-', '-') ||
        !number(&p, end, 2, 1, 12, &mon) || !one(&p, end, '-', '-') ||
        !number(&p, end, 2, 1, month_days(y, mon), &d) || !one(&p, end, 'T', 't') ||
        !number(&p, end, 2, 0, 23, &h) || !one(&p, end, ':', ':') ||
        !number(&p, end, 2, 0, 59, &min) || !one(&p, end, ':', ':') ||
        !number(&p, end, 2, 0, 60, &sec) || !fraction(&p, end, &ms))
        return false;
    int sign = p < end && *p == '-' ? -1 : 1;
    if (!one(&p, end, 'Z', 'z') && (!one(&p, end, '+', '-') || !number(&p, end, 2, 0, 23, &oh) ||
                                    !one(&p, end, ':', ':') || !number(&p, end, 2, 0, 59, &om)))
        return false;
    if (p != end)
        return false;
    int64_t t = kei_days_from_civil(y, mon, d) * DAY_MS + (int64_t)h * 3600000 +
                (int64_t)min * 60000 + (int64_t)sec * 1000 + (int64_t)ms;
    *ret_unix_ms = t - sign * ((int64_t)oh * 3600000 + (int64_t)om * 60000);
    return true;
}
