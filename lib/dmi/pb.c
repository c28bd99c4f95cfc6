/* SPDX-License-Identifier: Apache-2.0 */
/* Messages from and to bytes, and to JSON. See pb.h. */
#include <math.h>
#include <stdio.h>

#include "base/codec.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "dmi/pb_priv.h"
#include "message/devmodel.h"

static void *arena_alloc(void *user, size_t n)
{
    return kei_arena_alloc(user, n);
}

static void arena_free(void *user, void *p)
{
    (void)user, (void)p; /* with the arena */
}

void *kei_pb_new(struct kei_arena *a, const ProtobufCMessageDescriptor *d)
{
    void *m = kei_arena_alloc(a, d->sizeof_message);

    if (m)
        protobuf_c_message_init(d, m);
    return m;
}

void kei_pb_pack(struct ke_buf *out, const void *message)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    char *p = kei_buf_room(out, n);

    if (!p)
        return;
    protobuf_c_message_pack(message, (uint8_t *)p);
    out->n += n;
    out->p[out->n] = '\0';
}

/* ---- walking ---- */

size_t kei_pb_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    return f->label == PROTOBUF_C_LABEL_REPEATED
               ? *(const size_t *)((const char *)m + f->quantifier_offset)
               : 1;
}

/* The i-th value of a field. */
const void *kei_pb_at(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, size_t i)
{
    const char *member = (const char *)m + f->offset;

    if (f->label != PROTOBUF_C_LABEL_REPEATED)
        return member;
    member = *(const char *const *)member;
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return member + i * sizeof(void *);
    default:
        return NULL; /* the messages here have no other lists */
    }
}

bool kei_pb_is_map(const ProtobufCFieldDescriptor *f)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;

    return f->type == PROTOBUF_C_TYPE_MESSAGE && f->label == PROTOBUF_C_LABEL_REPEATED &&
           kei_str_ends(kei_str(d->name), KEI_STR("Entry")) && d->n_fields == 2;
}

static bool texts_ok(const ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        for (size_t k = 0, n = kei_pb_count(m, f); k < n; k++) {
            const void *v = kei_pb_at(m, f, k);
            if (!v)
                continue;
            if (f->type == PROTOBUF_C_TYPE_STRING &&
                !kei_utf8_valid(kei_str(*(const char *const *)v)))
                return false;
            if (f->type == PROTOBUF_C_TYPE_MESSAGE && *(ProtobufCMessage *const *)v &&
                !texts_ok(*(ProtobufCMessage *const *)v))
                return false;
        }
    }
    return true;
}

int kei_pb_unpack(void **ret, const ProtobufCMessageDescriptor *d, struct ke_str bytes,
                  struct kei_arena *a, struct ke_error *err)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_free, a};
    ProtobufCMessage *m =
        protobuf_c_message_unpack(d, &allocator, bytes.n, (const uint8_t *)bytes.p);

    if (!m && a->limit && a->used > a->limit / 2)
        return kei_error(err, KE_ENOMEM, "message %s of %zu bytes needs too much memory",
                         d->short_name, bytes.n);
    if (!m)
        return kei_error(err, KE_EPARSE, "message is no %s", d->short_name);
    if (!texts_ok(m))
        return kei_error(err, KE_EPARSE, "message %s has a text that is not UTF-8", d->short_name);
    *ret = m;
    return 0;
}

/* ---- numbers ---- */

/* The digits of v at that precision, and the place of the point: 0.DIGITS x 10^exponent. */
static int digits_of(char out[20], int *ret_exponent, double v, int precision)
{
    char text[48];
    int n = 0, exponent = 0, sign = 1;

    snprintf(text, sizeof text, "%.*e", precision - 1, v);
    const char *p = text;
    for (; *p && *p != 'e'; p++) /* the point is the host's, whatever that is */
        if (*p >= '0' && *p <= '9' && n < 19)
            out[n++] = *p;
    for (; *p; p++) {
        if (*p == '-')
            sign = -1;
        if (*p >= '0' && *p <= '9')
            exponent = exponent * 10 + (*p - '0');
    }
    while (n > 1 && out[n - 1] == '0')
        n--;
    out[n] = '\0';
    *ret_exponent = sign * exponent + 1;
    return n;
}

static void put_digits(struct ke_buf *out, const char *digits, int n, int exponent)
{
    if (exponent > 21 || exponent < -6) {
        kei_buf_addf(out, "%c%s%se%d", digits[0], n > 1 ? "." : "", digits + 1, exponent - 1);
        return;
    }
    if (exponent <= 0)
        kei_buf_adds(out, "0.");
    for (int i = exponent; i < 0; i++)
        kei_buf_addc(out, '0');
    for (int i = 0; i < n || i < exponent; i++) {
        if (i == exponent && exponent > 0)
            kei_buf_addc(out, '.');
        kei_buf_addc(out, i < n ? digits[i] : '0');
    }
}

void kei_pb_number(struct ke_buf *out, double v, bool is_float)
{
    char digits[20];
    int n, exponent, max = is_float ? 9 : 17;

    if (!isfinite(v) || v == 0) {
        kei_buf_addc(out, '0');
        return;
    }
    for (int precision = 1; precision <= max; precision++) {
        struct ke_buf text;
        double back = 0;
        n = digits_of(digits, &exponent, v < 0 ? -v : v, precision);
        kei_buf_init(&text, out->alloc);
        put_digits(&text, digits, n, exponent);
        bool same = kei_buf_ok(&text) && kei_number_parse(kei_buf_str(&text), &back) &&
                    (is_float ? (float)back == (float)(v < 0 ? -v : v) : back == (v < 0 ? -v : v));
        ke_buf_free(&text);
        if (same)
            break;
    }
    if (v < 0)
        kei_buf_addc(out, '-');
    put_digits(out, digits, n, exponent);
}

/* ---- to JSON ---- */

static void put_number(struct kei_jw *w, double v, bool is_float)
{
    struct ke_buf text;

    kei_buf_init(&text, w->out->alloc);
    kei_pb_number(&text, v, is_float);
    kei_jw_raw(w, kei_buf_ok(&text) && text.n ? kei_buf_str(&text) : KEI_STR("0"));
    ke_buf_free(&text);
}

/* An Any of a wrapper; one that is not known is left out. */
static void put_any(struct kei_jw *w, const char *key, const Kei__B1__Any *any)
{
    static const struct {
        const char *name;
        const ProtobufCMessageDescriptor *d;
    } kinds[] = {
        {"FloatValue", &kei__b1__float_value__descriptor},
        {"DoubleValue", &kei__b1__double_value__descriptor},
        {"Int64Value", &kei__b1__int64_value__descriptor},
        {"Int32Value", &kei__b1__int64_value__descriptor}, /* the same on the wire */
        {"UInt64Value", &kei__b1__int64_value__descriptor},
        {"UInt32Value", &kei__b1__int64_value__descriptor},
        {"BoolValue", &kei__b1__bool_value__descriptor},
        {"StringValue", &kei__b1__string_value__descriptor},
    };
    struct ke_str url = kei_str(any->type_url), name = url;
    struct kei_arena a;
    void *m = NULL;

    for (size_t i = 0; i < url.n; i++)
        if (url.p[i] == '/')
            name = kei_strn(url.p + i + 1, url.n - i - 1);
    if (!kei_str_starts(name, KEI_STR("google.protobuf.")))
        return;
    name = kei_strn(name.p + 16, name.n - 16);
    kei_arena_init(&a, w->out->alloc, 2 * any->value.len + 65536);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !m; i++)
        if (kei_str_is(name, kinds[i].name) &&
            kei_pb_unpack(&m, kinds[i].d, kei_strn((const char *)any->value.data, any->value.len),
                          &a, NULL) < 0)
            m = NULL;
    const ProtobufCMessageDescriptor *d = m ? ((ProtobufCMessage *)m)->descriptor : NULL;
    if (m) {
        kei_jw_key(w, key);
        if (d == &kei__b1__float_value__descriptor)
            put_number(w, (double)((Kei__B1__FloatValue *)m)->value, true);
        else if (d == &kei__b1__double_value__descriptor)
            put_number(w, ((Kei__B1__DoubleValue *)m)->value, false);
        else if (d == &kei__b1__int64_value__descriptor)
            kei_jw_i64(w, ((Kei__B1__Int64Value *)m)->value);
        else if (d == &kei__b1__bool_value__descriptor)
            kei_jw_bool(w, ((Kei__B1__BoolValue *)m)->value);
        else
            kei_jw_str(w, ((Kei__B1__StringValue *)m)->value);
    }
    kei_arena_free(&a);
}

static void put_map(struct kei_jw *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    size_t n = kei_pb_count(m, f);
    const ProtobufCMessageDescriptor *entry = f->descriptor;

    for (size_t i = 0; i < n; i++) {
        const ProtobufCMessage *e = *(ProtobufCMessage *const *)kei_pb_at(m, f, i);
        const char *key = *(const char *const *)kei_pb_at(e, &entry->fields[0], 0);
        const void *v = kei_pb_at(e, &entry->fields[1], 0);
        if (entry->fields[1].type == PROTOBUF_C_TYPE_STRING)
            kei_jw_kstr(w, key, *(const char *const *)v);
        else if (*(const void *const *)v)
            put_any(w, key, *(const Kei__B1__Any *const *)v);
    }
}

static void put_value(struct kei_jw *w, const ProtobufCFieldDescriptor *f, const void *v)
{
    const ProtobufCMessage *m;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        kei_jw_str(w, *(const char *const *)v);
        break;
    case PROTOBUF_C_TYPE_INT64:
        kei_jw_i64(w, *(const int64_t *)v);
        break;
    case PROTOBUF_C_TYPE_INT32:
        kei_jw_i64(w, *(const int32_t *)v);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        kei_jw_bool(w, *(const protobuf_c_boolean *)v);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        m = *(ProtobufCMessage *const *)v;
        kei_jw_obj(w);
        kei_pb_to_json(w, m);
        kei_jw_obj_end(w);
        break;
    default:
        kei_jw_null(w); /* what is written as JSON has no other types */
    }
}

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const char *v = (const char *)m + f->offset;

    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return kei_pb_count(m, f) > 0;
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        return (*(const char *const *)v)[0] != '\0';
    case PROTOBUF_C_TYPE_INT64:
        return *(const int64_t *)v != 0;
    case PROTOBUF_C_TYPE_INT32:
        return *(const int32_t *)v != 0;
    case PROTOBUF_C_TYPE_BOOL:
        return *(const protobuf_c_boolean *)v != 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(const void *const *)v != NULL;
    default:
        return false;
    }
}

void kei_pb_to_json(struct kei_jw *w, const void *message)
{
    const ProtobufCMessage *m = message;
    const ProtobufCMessageDescriptor *d = m->descriptor;

    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (!is_set(m, f))
            continue;
        if (kei_pb_is_map(f) && strcmp(f->name, "data") == 0) { /* CustomizedValue is its map */
            put_map(w, m, f);
            continue;
        }
        kei_jw_key(w, f->name);
        if (kei_pb_is_map(f)) {
            kei_jw_obj(w);
            put_map(w, m, f);
            kei_jw_obj_end(w);
        } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            kei_jw_arr(w);
            for (size_t k = 0; k < kei_pb_count(m, f); k++)
                put_value(w, f, kei_pb_at(m, f, k));
            kei_jw_arr_end(w);
        } else {
            put_value(w, f, kei_pb_at(m, f, 0));
        }
    }
}
