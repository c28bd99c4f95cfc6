/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices at the cloud. 'm' and a manifest: what is accepted can be given to nodes of every
 * version. 's' and what a node tells: the status stays one that can be read back. The first byte is
 * taken off.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cloud/device.h"
#include "cloud/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void must_be_object(struct ke_buf *b)
{
    MUST(kei_json_check(kei_buf_str(b), KEI_JSON_DEPTH + 8, NULL) == 0);
    MUST(kei_json_type(kei_buf_str(b)) == '{');
    ke_buf_free(b);
    kei_buf_init(b, kei_alloc_malloc());
}

/* A device as a manifest makes it, and with what a node says of it. */
static void record(struct ke_str device, struct ke_str said)
{
    const struct ke_alloc *al = kei_alloc_malloc();
    struct kei_hlc clock = {0, 0, 0};
    struct kei_merge_clock c = {&clock, 1000};
    struct kei_merge_device m;
    struct ke_buf first, next;
    bool changed = false;
    kei_buf_init(&first, al);
    kei_buf_init(&next, al);
    if (kei_device_decide(&first, device, device, &c, al, NULL) == 0) {
        MUST(kei_json_check(kei_buf_str(&first), 0, NULL) == 0);
        if (kei_merge_read(&m, al, said, NULL) == 0) {
            if (kei_device_take(&next, kei_buf_str(&first), &m, &clock, &changed, al, NULL) == 0 &&
                changed)
                MUST(kei_json_check(kei_buf_str(&next), 0, NULL) == 0);
            kei_merge_fini(&m, al);
        }
    }
    ke_buf_free(&first);
    ke_buf_free(&next);
}

static void manifest(struct ke_str object)
{
    const struct ke_alloc *al = kei_alloc_malloc();
    struct ke_buf whole, out, remains, next;
    struct kei_field field;
    const char *type = "";
    struct ke_str none = {0}, said;
    uint32_t n;
    kei_buf_init(&whole, al);
    kei_buf_init(&out, al);
    kei_buf_init(&remains, al);
    kei_buf_init(&next, al);
    if (kei_manifest_whole(&whole, &type, object, &field, NULL) < 0 ||
        strncmp(type, "device", 6) != 0) {
        ke_buf_free(&whole);
        return;
    }
    struct ke_str o = kei_buf_str(&whole);
    char name[KEI_NODE_NAME_MAX + 1];
    if (strcmp(type, "devicemodel") == 0) {
        MUST(kei_devicemodel_beta(&out, o, "p", al, NULL) == 0);
        must_be_object(&out);
    } else {
        (void)kei_device_node(o, name);
        (void)kei_device_model_name(o, name);
        MUST(kei_device_beta(&out, o, KE_DIALECT_1_23, al, NULL) == 0);
        MUST(kei_device_remains(&out, &remains) == 0);
        must_be_object(&remains);
        must_be_object(&out);
        MUST(kei_device_twins(&out, o, none, 1, 1, true, &n, al, NULL) == 0);
        must_be_object(&out);
        if (kei_device_next(&next, o, o, none, al, NULL) == 0)
            must_be_object(&next);
        record(o, kei_json_get(o, "said", &said)
                      ? said
                      : KEI_STR("{\"life\":[9,0,1],\"twin\":{"
                                "\"t\":{\"expected\":{\"value\":\"x\",\"at\":[9000,0,1]}},"
                                "\"nothing\":{\"expected\":"
                                "{\"value\":null,\"at\":[9000,0,1]}}}}"));
    }
    ke_buf_free(&whole);
}

static void status(struct ke_str content)
{
    struct kei_device_state s, again;
    struct kei_arena a;
    struct ke_buf row;
    struct ke_str none = {0};
    kei_buf_init(&row, kei_alloc_malloc());
    kei_arena_init(&a, kei_alloc_malloc(), 0);
    MUST(kei_device_state_read(&s, none, "u", &a, NULL) == 0);
    (void)kei_device_state_merge(&s, content, false, NULL, &a, NULL);
    (void)kei_device_state_merge(&s, content, true, NULL, &a, NULL);
    (void)kei_device_state_online(&s, content, true, &a, NULL);
    kei_device_state_write(&row, &s, "d");
    MUST(kei_json_check(kei_buf_str(&row), 0, NULL) == 0);
    MUST(kei_device_state_read(&again, kei_buf_str(&row), "u", &a, NULL) == 0);
    for (uint32_t i = 0; i < s.n; i++) {
        const struct kei_twin_state *t = kei_device_state_twin(&again, s.twins[i].name);
        if (!s.twins[i].reported)
            continue;
        MUST(t && t->reported && strcmp(t->reported, s.twins[i].reported) == 0);
        MUST(t->actual_edge == s.twins[i].actual_edge);
    }
    /* of another life nothing is read */
    MUST(kei_device_state_read(&again, kei_buf_str(&row), "v", &a, NULL) == 0 && again.n == 0);
    ke_buf_free(&row);
    kei_arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str text = kei_strn((const char *)data + 1, size ? size - 1 : 0), v;
    if (size == 0 || kei_json_value(text, 0, &v, NULL) < 0 || kei_json_type(v) != '{')
        return 0;
    if (data[0] == 'm')
        manifest(v);
    else if (data[0] == 's')
        status(v);
    return 0;
}
