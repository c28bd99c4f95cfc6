/* SPDX-License-Identifier: Apache-2.0 */
/* Messages from JSON. See pb.h. */
#include "base/codec.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "dmi/pb_priv.h"
#include "message/devmodel.h"

#define URL "type.googleapis.com/google.protobuf."
#define LIST_MAX 65536u

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "no memory for a device's message");
}

/* ---- values of free objects ---- */

static int pack_into(ProtobufCBinaryData *ret, const void *m, struct kei_arena *a,
                     struct ke_error *err)
{
    size_t n = protobuf_c_message_get_packed_size(m);

    ret->data = kei_arena_alloc(a, n ? n : 1);
    if (!ret->data)
        return no_memory(err);
    ret->len = protobuf_c_message_pack(m, ret->data);
    return 0;
}

static int any_number(Kei__B1__Any *any, struct ke_str v, struct kei_arena *a, struct ke_error *err)
{
    Kei__B1__FloatValue f;
    Kei__B1__Int64Value i;
    int64_t whole = 0;
    double d = 0;

    kei__b1__float_value__init(&f);
    kei__b1__int64_value__init(&i);
    bool is_whole = kei_json_i64(v, &whole);
    if (is_whole && (whole > (1 << 24) || whole < -(1 << 24))) {
        any->type_url = kei_pb_str(URL "Int64Value");
        i.value = whole;
        return pack_into(&any->value, &i, a, err);
    }
    if (is_whole)
        d = (double)whole;
    else if (!kei_number_parse(v, &d))
        return kei_error(err, KE_EPARSE, "number %.*s is out of range", KEI_FMT(v));
    any->type_url = kei_pb_str(URL "FloatValue");
    f.value = (float)d;
    return pack_into(&any->value, &f, a, err);
}

static int any_text(Kei__B1__Any *any, char *text, struct kei_arena *a, struct ke_error *err)
{
    Kei__B1__StringValue s;

    if (!text)
        return no_memory(err);
    kei__b1__string_value__init(&s);
    any->type_url = kei_pb_str(URL "StringValue");
    s.value = text;
    return pack_into(&any->value, &s, a, err);
}

static int any_of(Kei__B1__Any *any, struct ke_str v, struct kei_arena *a, struct ke_error *err)
{
    Kei__B1__BoolValue b;
    char *text = NULL;

    switch (kei_json_type(v)) {
    case '"':
        if (kei_json_text(&text, v, a, err) < 0)
            return kei_error_prefix(err, KE_EPARSE, "text of a device's configuration");
        return any_text(any, text, a, err);
    case '0':
        return any_number(any, v, a, err);
    case 't':
    case 'f':
        kei__b1__bool_value__init(&b);
        b.value = kei_json_bool(v, false);
        any->type_url = kei_pb_str(URL "BoolValue");
        return pack_into(&any->value, &b, a, err);
    default:
        return any_text(any, kei_arena_strdup(a, v), a, err);
    }
}

static char *key_text(struct ke_str raw, struct kei_arena *a)
{
    return kei_json_strdup(kei_strn(raw.p - 1, raw.n + 2), a); /* with its quotes */
}

static size_t members_of(struct ke_str json)
{
    struct ke_str key, value;
    size_t it = 0, n = 0;

    while (kei_json_next(json, &it, &key, &value))
        n += kei_json_type(value) != 'n';
    return n;
}

int kei_pb_values(void *customized, struct ke_str json, struct kei_arena *a, struct ke_error *err)
{
    Kei__B1__CustomizedValue *c = customized; /* of v1alpha1: the same */
    const ProtobufCFieldDescriptor *f = &c->base.descriptor->fields[0];
    const ProtobufCMessageDescriptor *entry_type = f->descriptor;
    struct ke_str key, value;
    size_t it = 0, n = kei_json_type(json) == '{' ? members_of(json) : 0;

    if (n == 0)
        return 0;
    if (n > LIST_MAX)
        return kei_error(err, KE_ELIMIT, "configuration has %zu members, %u is the limit", n,
                         LIST_MAX);
    c->data = kei_arena_array(a, n, sizeof *c->data);
    if (!c->data)
        return no_memory(err);
    while (kei_json_next(json, &it, &key, &value)) {
        if (kei_json_type(value) == 'n')
            continue;
        Kei__B1__CustomizedValue__DataEntry *e = kei_pb_new(a, entry_type);
        if (!e)
            return no_memory(err);
        e->key = key_text(key, a);
        e->value = kei_pb_new(a, entry_type->fields[1].descriptor);
        if (!e->key || !e->value)
            return no_memory(err);
        int r = any_of(e->value, value, a, err);
        if (r < 0)
            return r;
        c->data[c->n_data++] = e;
    }
    return 0;
}

/* ---- fields ---- */

static int wrong(const ProtobufCFieldDescriptor *f, const char *want, struct ke_error *err)
{
    return kei_error(err, KE_EPARSE, "%s is not %s", f->name, want);
}

static int set_message(ProtobufCMessage **at, const ProtobufCMessageDescriptor *d, struct ke_str v,
                       struct kei_arena *a, struct ke_error *err)
{
    if (kei_json_type(v) != '{')
        return kei_error(err, KE_EPARSE, "%s is not an object", d->short_name);
    ProtobufCMessage *m = kei_pb_new(a, d);
    if (!m)
        return no_memory(err);
    *at = m;
    if (strcmp(d->short_name, "CustomizedValue") == 0)
        return kei_pb_values(m, v, a, err);
    return kei_pb_from_json(m, v, a, err);
}

static int set_bytes(ProtobufCBinaryData *at, struct ke_str v, struct kei_arena *a,
                     struct ke_error *err)
{
    struct ke_buf raw;
    char *text = kei_json_strdup(v, a);

    if (!text)
        return kei_error(err, KE_EPARSE, "bytes are not a text");
    kei_buf_init(&raw, a->alloc);
    bool ok = kei_b64_decode(&raw, kei_str(text));
    at->len = raw.n;
    at->data = (uint8_t *)kei_arena_strdup(a, kei_buf_str(&raw));
    ke_buf_free(&raw);
    if (!ok)
        return kei_error(err, KE_EPARSE, "bytes are not base64");
    return at->data ? 0 : no_memory(err);
}

static int set_one(void *at, const ProtobufCFieldDescriptor *f, struct ke_str v,
                   struct kei_arena *a, struct ke_error *err)
{
    int64_t i = 0;
    double d = 0;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        if (kei_json_type(v) != '"')
            return wrong(f, "a text", err);
        return kei_json_text(at, v, a, err);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_INT32:
        if (!kei_json_i64(v, &i))
            return wrong(f, "a whole number", err);
        if (f->type != PROTOBUF_C_TYPE_INT32)
            *(int64_t *)at = i;
        else if (i >= INT32_MIN && i <= INT32_MAX)
            *(int32_t *)at = (int32_t)i;
        else
            return wrong(f, "a number of 32 bits", err);
        return 0;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        if (kei_json_type(v) != '0' || !kei_number_parse(v, &d))
            return wrong(f, "a number", err);
        if (f->type == PROTOBUF_C_TYPE_FLOAT)
            *(float *)at = (float)d;
        else
            *(double *)at = d;
        return 0;
    case PROTOBUF_C_TYPE_BOOL:
        if (kei_json_type(v) != 't' && kei_json_type(v) != 'f')
            return wrong(f, "true or false", err);
        *(protobuf_c_boolean *)at = kei_json_bool(v, false);
        return 0;
    case PROTOBUF_C_TYPE_BYTES:
        return set_bytes(at, v, a, err);
    case PROTOBUF_C_TYPE_MESSAGE:
        return set_message(at, f->descriptor, v, a, err);
    default:
        return wrong(f, "of a known type", err);
    }
}

/* A list, or a map, which is a list of entries. Pointers only: texts and messages. */
static int set_list(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct ke_str v,
                    struct kei_arena *a, struct ke_error *err)
{
    bool map = kei_pb_is_map(f);
    size_t *count = (size_t *)((char *)m + f->quantifier_offset);
    size_t it = 0, n = 0, total = 0;
    struct ke_str key, value;
    int r = 0;

    if (kei_json_type(v) != (map ? '{' : '['))
        return wrong(f, map ? "an object" : "a list", err);
    while (kei_json_next(v, &it, &key, &value))
        total++;
    if (total > LIST_MAX)
        return kei_error(err, KE_ELIMIT, "%s has %zu items, %u is the limit", f->name, total,
                         LIST_MAX);
    void **items = kei_arena_array(a, total ? total : 1, sizeof *items);
    if (!items)
        return no_memory(err);
    it = 0;
    while (r == 0 && kei_json_next(v, &it, &key, &value)) {
        if (!map) {
            r = set_one(&items[n++], f, value, a, err);
            continue;
        }
        const ProtobufCMessageDescriptor *d = f->descriptor;
        ProtobufCMessage *e = kei_pb_new(a, d);
        char *text = key_text(key, a);
        if (!e || !text)
            return no_memory(err);
        items[n++] = e;
        *(char **)((char *)e + d->fields[0].offset) = text;
        r = set_one((char *)e + d->fields[1].offset, &d->fields[1], value, a, err);
    }
    *(void **)((char *)m + f->offset) = items;
    *count = r == 0 ? n : 0;
    return r;
}

int kei_pb_from_json(void *message, struct ke_str json, struct kei_arena *a, struct ke_error *err)
{
    ProtobufCMessage *m = message;
    const ProtobufCMessageDescriptor *d = m->descriptor;

    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        struct ke_str v;
        if (!kei_json_iget(json, f->name, &v) || kei_json_type(v) == 'n')
            continue;
        int r = f->label == PROTOBUF_C_LABEL_REPEATED
                    ? set_list(m, f, v, a, err)
                    : set_one((char *)m + f->offset, f, v, a, err);
        if (r < 0)
            return kei_error_prefix(err, r, "%s", d->short_name);
    }
    return 0;
}
