/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of DMI from a peer: what can be read becomes an object as JSON, which is valid, is read
 * as a device or model, and becomes messages of both forms. Memory stays the arena's. First byte:
 * what message.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "dmi/convert.h"
#include "dmi/dmi_v1alpha1.pb-c.h"
#include "dmi/dmi_v1beta1.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void pack(void *message)
{
    struct ke_buf b;

    kei_buf_init(&b, kei_alloc_malloc());
    kei_pb_pack(&b, message);
    MUST(kei_buf_ok(&b));
    ke_buf_free(&b);
}

static void device(const void *message, struct kei_arena *a)
{
    struct kei_device d;
    struct ke_buf json;
    void *back = NULL;

    kei_buf_init(&json, kei_alloc_malloc());
    kei_dmi_device_json(&json, message);
    MUST(kei_buf_ok(&json) && kei_json_check(kei_buf_str(&json), 0, NULL) == 0);
    if (kei_device_read(&d, kei_buf_str(&json), a, NULL) == 0) {
        if (kei_dmi_device(&back, KEI_DMI_B1, &d, NULL, true, a, NULL) == 0)
            pack(back);
        if (kei_dmi_device(&back, KEI_DMI_A1, &d, NULL, true, a, NULL) == 0)
            pack(back);
    }
    ke_buf_free(&json);
}

static void model(const void *message, struct kei_arena *a)
{
    struct kei_device_model m;
    struct ke_buf json;
    void *back = NULL;

    kei_buf_init(&json, kei_alloc_malloc());
    kei_dmi_model_json(&json, message, "modbus");
    MUST(kei_buf_ok(&json) && kei_json_check(kei_buf_str(&json), 0, NULL) == 0);
    if (kei_device_model_read(&m, kei_buf_str(&json), a, NULL) == 0) {
        if (kei_dmi_model(&back, KEI_DMI_B1, &m, kei_buf_str(&json), a, NULL) == 0)
            pack(back);
        if (kei_dmi_model(&back, KEI_DMI_A1, &m, kei_buf_str(&json), a, NULL) == 0)
            pack(back);
    }
    ke_buf_free(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const kinds[] = {
        &kei__b1__device__descriptor,
        &kei__b1__device_model__descriptor,
        &kei__b1__mapper_register_request__descriptor,
        &kei__b1__report_device_status_request__descriptor,
        &kei__a1__report_device_status_request__descriptor,
    };
    struct kei_arena a;
    void *m = NULL;

    if (size < 1)
        return 0;
    size_t kind = data[0] % (sizeof kinds / sizeof kinds[0]);
    kei_arena_init(&a, kei_alloc_malloc(), 4 * 1024 * 1024);
    if (kei_pb_unpack(&m, kinds[kind], kei_strn((const char *)data + 1, size - 1), &a, NULL) == 0) {
        pack(m);
        if (kind == 0)
            device(m, &a);
        else if (kind == 1)
            model(m, &a);
    }
    kei_arena_free(&a);
    return 0;
}
