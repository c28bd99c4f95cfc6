/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing the primitive types of MQTT; shared by the codec's files. Pure. */
#ifndef KEI_MQTT_CODEC_WIRE_H
#define KEI_MQTT_CODEC_WIRE_H

#include "mqtt/codec.h"

/* A place in a packet. Readers return false, and leave it, when too few bytes are left. */
struct kei_rd {
    const uint8_t *p, *end;
};

static inline struct kei_rd kei_rd(struct ke_str s)
{
    const uint8_t *p = (const uint8_t *)s.p;
    struct kei_rd r = {p, p + s.n};
    return r;
}
static inline size_t kei_rd_left(const struct kei_rd *r)
{
    return (size_t)(r->end - r->p);
}
static inline struct ke_str kei_rd_rest(const struct kei_rd *r)
{
    return kei_strn((const char *)r->p, kei_rd_left(r));
}
static inline bool kei_rd_u8(struct kei_rd *r, uint8_t *v)
{
    if (r->p == r->end)
        return false;
    *v = *r->p++;
    return true;
}
static inline bool kei_rd_u16(struct kei_rd *r, uint16_t *v)
{
    if (r->end - r->p < 2)
        return false;
    *v = (uint16_t)(r->p[0] << 8 | r->p[1]);
    r->p += 2;
    return true;
}
static inline bool kei_rd_u32(struct kei_rd *r, uint32_t *v)
{
    if (r->end - r->p < 4)
        return false;
    *v = (uint32_t)r->p[0] << 24 | (uint32_t)r->p[1] << 16 | (uint32_t)r->p[2] << 8 | r->p[3];
    r->p += 4;
    return true;
}
static inline bool kei_rd_bin(struct kei_rd *r, struct ke_str *s)
{
    uint16_t n;
    struct kei_rd was = *r;

    if (!kei_rd_u16(r, &n) || r->end - r->p < n) {
        *r = was;
        return false;
    }
    *s = kei_strn((const char *)r->p, n);
    r->p += n;
    return true;
}
/* false also when it is not in its shortest form, or longer than four bytes */
bool kei_rd_varint(struct kei_rd *r, uint32_t *v);

/* Text as the standard wants it: UTF-8 without NUL, control characters and non-characters. */
bool kei_mqtt_text_ok(struct ke_str s);

/* Marks the buffer as failed: something does not fit into a packet. */
void kei_mqtt_fail(struct ke_buf *b);
/* The fixed header of a packet with that first byte, and length bytes behind it: kei_mqtt_fail if
 * that is more than a packet can have. */
void kei_mqtt_add_head(struct ke_buf *b, unsigned first, size_t length);
void kei_mqtt_add_u16(struct ke_buf *b, uint16_t v);
void kei_mqtt_add_varint(struct ke_buf *b, uint32_t v);
void kei_mqtt_add_str(struct ke_buf *b, struct ke_str s);
/* length and properties; nothing below version 5 */
void kei_mqtt_add_props(struct ke_buf *b, unsigned version, struct ke_str raw);
/* bytes of that */
size_t kei_mqtt_props_size(unsigned version, struct ke_str raw);

/* Reason code and text, for: return kei_mqtt_bad(err, KEI_MQTT_R_MALFORMED, "..."); */
int kei_mqtt_bad(struct ke_error *err, int reason, const char *fmt, ...) KE_PRINTF(3, 4);
int kei_mqtt_short(struct ke_error *err, const char *what);

#endif
