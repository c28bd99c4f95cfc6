/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices and models as they are told to mappers, in the forms of v1beta1 and v1alpha1, and back to
 * objects of the device API. Pure; memory is the arena's.
 */
#ifndef KEI_DMI_CONVERT_H
#define KEI_DMI_CONVERT_H

#include "dmi/pb.h"
#include "message/devmodel.h"

enum kei_dmi_form {
    KEI_DMI_B1, /* v1beta1: KubeEdge 1.15 and later */
    KEI_DMI_A1, /* v1alpha1: 1.12 to 1.14 */
};

/* An object's message. KE_EPARSE names the field, KE_ENOMEM. The model gives defaults, and
 * properties it does not have are left out, as mappers end on these. twins: with status.twins. */
int kei_dmi_device(void **ret, enum kei_dmi_form form, const struct kei_device *d,
                   const struct kei_device_model *m, bool twins, struct kei_arena *a,
                   struct ke_error *err);
int kei_dmi_model(void **ret, enum kei_dmi_form form, const struct kei_device_model *m,
                  struct ke_str object, struct kei_arena *a, struct ke_error *err);
/* v1alpha1, in convert_a1.c */
int kei_dmi_a1_device(void **ret, const struct kei_device *d, const struct kei_device_model *m,
                      bool with_twins, struct kei_arena *a, struct ke_error *err);
int kei_dmi_a1_model(void **ret, const struct kei_device_model *m, struct ke_str object,
                     struct kei_arena *a, struct ke_error *err);

/* The object of API v1beta1 that a message (Kei__B1__Device, Kei__B1__DeviceModel) says. An empty
 * namespace becomes "default". Appended; look at kei_buf_ok. protocol of a model: as its mapper's.
 */
void kei_dmi_device_json(struct ke_buf *out, const void *device);
void kei_dmi_model_json(struct ke_buf *out, const void *model, const char *protocol);

#endif
