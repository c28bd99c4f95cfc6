/* SPDX-License-Identifier: Apache-2.0 */
/* gRPC's small encodings: message frames, timeouts, percent-encoded texts. Pure. */
#include "base/buf.h"
#include "base/codec.h"
#include "net/grpc.h"

#define FRAME_HEAD 5u

void kei_grpc_frame_write(struct ke_buf *out, struct ke_str message)
{
    char head[FRAME_HEAD] = {0, (char)(message.n >> 24), (char)(message.n >> 16),
                             (char)(message.n >> 8), (char)message.n};

    kei_buf_add(out, head, sizeof head);
    kei_buf_addv(out, message);
}

int kei_grpc_frame_read(struct ke_str body, struct ke_str *ret_message)
{
    const unsigned char *p = (const unsigned char *)body.p;

    if (body.n < FRAME_HEAD)
        return KE_EPROTO;
    size_t n = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (n != body.n - FRAME_HEAD)
        return KE_EPROTO;
    if (p[0] != 0)
        return KE_ENOTSUP;
    *ret_message = kei_strn(body.p + FRAME_HEAD, n);
    return 0;
}

int64_t kei_grpc_timeout_read(struct ke_str s)
{
    static const struct {
        char unit;
        int64_t ms; /* in one, 0: less than one */
        int64_t of; /* in one millisecond */
    } units[] = {{'H', 3600000, 1}, {'M', 60000, 1}, {'S', 1000, 1},
                 {'m', 1, 1},       {'u', 1, 1000},  {'n', 1, 1000000}};
    int64_t v = 0;

    if (s.n < 2 || s.n > 9)
        return -1;
    for (size_t i = 0; i + 1 < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -1;
        v = v * 10 + (s.p[i] - '0');
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (units[i].unit == s.p[s.n - 1]) /* 8 digits of hours do fit */
            return (v * units[i].ms + units[i].of - 1) / units[i].of;
    return -1;
}

void kei_grpc_text_encode(struct ke_buf *out, const char *text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (const char *p = text ? text : ""; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            kei_buf_addc(out, *p);
        } else {
            kei_buf_addc(out, '%');
            kei_buf_addc(out, hex[c >> 4]);
            kei_buf_addc(out, hex[c & 15]);
        }
    }
}

void kei_grpc_text_decode(struct ke_buf *out, struct ke_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '%' && i + 2 < s.n && kei_hex_digit(s.p[i + 1]) >= 0 && kei_hex_digit(s.p[i + 2]) >= 0) {
            char c = (char)(kei_hex_digit(s.p[i + 1]) * 16 + kei_hex_digit(s.p[i + 2]));
            kei_buf_addc(out, c ? c : '?');
            i += 2;
        } else {
            kei_buf_addc(out, s.p[i] ? s.p[i] : '?');
        }
    }
}
