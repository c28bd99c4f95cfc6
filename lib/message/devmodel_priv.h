/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of fields that the files of the device model share: each error names its field. */
#ifndef KEI_MESSAGE_DEVMODEL_PRIV_H
#define KEI_MESSAGE_DEVMODEL_PRIV_H

#include "message/devmodel.h"

struct kei_dm_reader {
    struct kei_arena *a;
    struct ke_error *err;
    const char *kind; /* "device", "device model", "device profile" */
    const char *name; /* of the object; "" until it is known */
    char at[160];     /* path of the object being read, "" at the top */
};

/* Sets at. */
void kei_dm_at(struct kei_dm_reader *r, const char *fmt, ...) KE_PRINTF(2, 3);
/* "at.key of device X was what"; KE_EPARSE */
int kei_dm_wrong(struct kei_dm_reader *r, const char *key, const char *what);
int kei_dm_nomem(struct kei_dm_reader *r);

/* Members of object; absent and null give "", 0, false or an empty span. */
int kei_dm_str(struct kei_dm_reader *r, struct ke_str object, const char *key, const char **ret);
/* also a number or a boolean, as its text */
int kei_dm_text(struct kei_dm_reader *r, struct ke_str object, const char *key, const char **ret);
int kei_dm_i64(struct kei_dm_reader *r, struct ke_str object, const char *key, int64_t *ret);
int kei_dm_bool(struct kei_dm_reader *r, struct ke_str object, const char *key, bool *ret);
int kei_dm_obj(struct kei_dm_reader *r, struct ke_str object, const char *key, struct ke_str *ret);
/* Array of up to max objects; *ret_n is their number. */
int kei_dm_arr(struct kei_dm_reader *r, struct ke_str object, const char *key, uint32_t max,
               struct ke_str *ret, uint32_t *ret_n);
/* Array of strings. */
int kei_dm_names(struct kei_dm_reader *r, struct ke_str object, const char *key, const char ***ret,
                 uint32_t *ret_n);

/* desired, reported, observedDesired */
int kei_dm_twin_value(struct kei_dm_reader *r, struct ke_str object, const char *key,
                      struct kei_twin_value *ret);
/* Limits from their texts. */
int kei_dm_limits(struct kei_dm_reader *r, struct kei_model_prop *p, enum kei_device_api api);

/* v1alpha2: where visitors, twins and data properties meet. */
struct kei_device_prop *kei_dm_prop(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap,
                                    const char *name);
int kei_dm_twins(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap, struct ke_str list);
int kei_dm_data(struct kei_dm_reader *r, struct kei_device *d, uint32_t cap, struct ke_str data);
/* The flat configuration of own and common. */
int kei_dm_flat(struct kei_dm_reader *r, struct kei_device *d);

#endif
