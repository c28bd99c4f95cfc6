/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf messages by their descriptors: from JSON by the names of fields (case ignored, as
 * upstream does it), to JSON, from and to bytes. All memory is the arena's, whose limit caps what a
 * peer can make of a small message. Pure. Depth is that of the message types, none of which is
 * recursive.
 */
#ifndef KEI_DMI_PB_H
#define KEI_DMI_PB_H

#include <protobuf-c/protobuf-c.h>

#include "base/json.h"

/* An empty message; NULL: no memory. */
void *kei_pb_new(struct kei_arena *a, const ProtobufCMessageDescriptor *d);
/* Strings of messages are not const; they are only read. */
static inline char *kei_pb_str(const char *s)
{
    return (char *)(uintptr_t)(s ? s : "");
}

/* KE_EPARSE, KE_ENOMEM (which is also: more than the arena's limit). Strings are valid UTF-8. */
int kei_pb_unpack(void **ret, const ProtobufCMessageDescriptor *d, struct ke_str bytes,
                  struct kei_arena *a, struct ke_error *err);
/* Appends; look at kei_buf_ok. */
void kei_pb_pack(struct ke_buf *out, const void *message);

/*
 * Fills message from the members of a JSON object; absent and null ones are left alone. A field of
 * a type called CustomizedValue is filled as kei_pb_values does. KE_EPARSE names the field.
 */
int kei_pb_from_json(void *message, struct ke_str json, struct kei_arena *a, struct ke_error *err);
/* Writes the members of message that are set, without the braces. */
void kei_pb_to_json(struct kei_jw *w, const void *message);

/*
 * The entries of a CustomizedValue from a JSON object (empty: none). Numbers become FloatValue as
 * upstream's do, but Int64Value when a float could not hold them; objects and arrays become their
 * text; null is left out.
 */
int kei_pb_values(void *customized, struct ke_str json, struct kei_arena *a, struct ke_error *err);

/* The shortest decimal number that reads as v again; a float's when is_float. "0" if not finite. */
void kei_pb_number(struct ke_buf *out, double v, bool is_float);

#endif
