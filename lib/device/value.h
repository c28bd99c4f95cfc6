/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values between a device and the twin: kinds, scale and offset, limits, texts. Pure; texts are the
 * caller's to free; any thread.
 */
#ifndef KEI_DEVICE_VALUE_H
#define KEI_DEVICE_VALUE_H

#include <kubeedge/device.h>

#include "message/devmodel.h"

#define KEI_VALUE_TEXT_MAX 400         /* of a number */
#define KEI_VALUE_BYTES_MAX (1u << 20) /* of a text */

/* What a visitor says besides the protocol's own: value = raw * scale + offset. */
struct kei_tune {
    double scale, offset, dead_band;
};
/* false: nothing of it is given. Members: scale (0 counts as 1), valueOffset, deadBand. */
bool kei_tune_read(struct kei_tune *t, struct ke_str visitor);

/* A value as the twin means it. */
struct kei_val {
    uint32_t kind; /* KE_DEVICE_KIND_NONE, INT, DOUBLE, BOOL or TEXT */
    union {
        int64_t i;
        double d;
        char *s; /* NUL-terminated, owned */
    };
};
void kei_val_free(struct kei_val *v, const struct ke_alloc *a);

/*
 * From the device. t may be NULL. KE_EPARSE (this kind is no value of the type), KE_ELIMIT (does
 * not fit the type), KE_ENOMEM. A value outside the model's limits is taken: see kei_val_limits.
 */
int kei_val_from_raw(struct kei_val *ret, enum kei_prop_type type, const struct kei_tune *t,
                     const struct ke_device_value *v, const struct ke_alloc *a,
                     struct ke_error *err);
/* KE_ELIMIT with a text when v is outside of the property's limits. */
int kei_val_limits(const struct kei_val *v, const struct kei_model_prop *p, struct ke_error *err);
/* From a desired text. KE_EPARSE, KE_ENOMEM. */
int kei_val_parse(struct kei_val *ret, enum kei_prop_type type, struct ke_str text,
                  const struct ke_alloc *a, struct ke_error *err);
/* To the device: fills kind and the members that go with it; p borrows from v or from bytes. */
int kei_val_to_raw(struct ke_device_value *ret, enum kei_prop_type type, const struct kei_tune *t,
                   const struct kei_val *v, struct ke_buf *bytes, struct ke_error *err);
/* Appends its text. */
void kei_val_text(struct ke_buf *out, enum kei_prop_type type, const struct kei_val *v);
bool kei_val_number(const struct kei_val *v, double *ret);
/* Whether b differs from a by more than the dead band (texts: at all). */
bool kei_val_changed(const struct kei_val *a, const struct kei_val *b, double dead_band);

/* The shortest decimal text without exponent that reads back as d (or as (float)d). */
size_t kei_number_text(char out[KEI_VALUE_TEXT_MAX], double d, bool is_float);

#endif
