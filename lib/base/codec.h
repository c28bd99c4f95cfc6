/* SPDX-License-Identifier: Apache-2.0 */
/* Small encodings: base64 (standard and url), hex, UUID v4, RFC 3339 and HTTP dates. */
#ifndef KEI_BASE_CODEC_H
#define KEI_BASE_CODEC_H

#include "base/buf.h"

void kei_b64_encode(struct ke_buf *out, const void *p, size_t n);     /* padded */
void kei_b64url_encode(struct ke_buf *out, const void *p, size_t n);  /* no padding */
/* appended to out; false on anything malformed (out unchanged) */
bool kei_b64_decode(struct ke_buf *out, struct ke_str s);
bool kei_b64url_decode(struct ke_buf *out, struct ke_str s);
void kei_hex_encode(char *out /* 2n+1 */, const void *p, size_t n); /* lower case */
/* its value; -1: none */
int kei_hex_digit(char c);
bool kei_hex_decode(uint8_t *out, size_t out_n, struct ke_str s);   /* exactly out_n bytes */

#define KEI_UUID_LEN 36
void kei_uuid_format(char out[KEI_UUID_LEN + 1], const uint8_t random[16]); /* makes it v4 */

#define KEI_TIME_MAX 40
/* "2026-11-22T08:18:48Z" */
void kei_time_rfc3339(char out[KEI_TIME_MAX], int64_t unix_ms);
/* "2026-11-22T08:18:48.123000Z": MicroTime of Kubernetes */
void kei_time_rfc3339_micro(char out[KEI_TIME_MAX], int64_t unix_ms);
/* "Sun, 22 Nov 2026 08:17:59 GMT" */
void kei_time_http(char out[KEI_TIME_MAX], int64_t unix_ms);
/* any offset, any fraction; false if malformed */
bool kei_time_parse(struct ke_str s, int64_t *ret_unix_ms);
/* days since 1970-01-01 of a date of the proleptic Gregorian calendar */
int64_t kei_days_from_civil(int64_t y, uint32_t m, uint32_t d);

#endif
