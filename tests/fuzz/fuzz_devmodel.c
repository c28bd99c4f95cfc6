/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device objects of a peer: the input is read as a device, as a model and as a device profile. What
 * is accepted has no NULL where none may be, and merges to configurations that are JSON objects.
 */
#include <stdint.h>
#include <stdlib.h>

#include "message/devmodel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void check_merge(struct ke_str base, struct ke_str over)
{
    struct ke_buf b = {NULL, 0, 0, NULL};
    int r = kei_device_config_merge(&b, base, over, NULL);
    MUST(r == 0 || r == KE_ELIMIT);
    if (r == 0) {
        MUST(kei_json_check(kei_buf_str(&b), KEI_JSON_DEPTH + 1, NULL) == 0);
        MUST(kei_json_type(kei_buf_str(&b)) == '{');
    }
    ke_buf_free(&b);
}

static void check_device(const struct kei_device *d)
{
    MUST(d->meta.name && d->meta.ns && d->description && d->model && d->node && d->protocol &&
         d->data_topic);
    MUST(!d->protocol_config.p || kei_json_check(d->protocol_config, 0, NULL) == 0);
    for (uint32_t i = 0; i < d->n_props; i++) {
        const struct kei_device_prop *p = &d->props[i];
        MUST(p->name && p->name[0] && p->visitor_protocol && p->data_type && p->desired.type);
        MUST(kei_device_prop_find(d, p->name) == p);
        int64_t ms = kei_device_cycle_ms(p->collect_cycle, d->api, KEI_CYCLE_AUTO, 1000);
        MUST(ms >= 1 && ms <= INT32_MAX);
        check_merge(d->protocol_config, p->visitor_config);
    }
    for (uint32_t i = 0; i < d->n_methods; i++)
        MUST(d->methods[i].name);
}

static void check_model(const struct kei_device_model *m)
{
    for (uint32_t i = 0; i < m->n_props; i++) {
        const struct kei_model_prop *p = &m->props[i];
        MUST(p->name[0] && p->unit && p->dflt && p->type_text && p->visitor_protocol);
        MUST(!p->has_min || !p->has_max || p->min <= p->max);
        MUST(kei_prop_type_name(p->type)[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str text = kei_strn((const char *)data, size);
    struct kei_arena a;
    struct kei_device d;
    struct kei_device_model m;
    struct kei_device_profile p;
    double number;

    kei_arena_init(&a, kei_alloc_malloc(), (size_t)64 << 20);
    (void)kei_number_parse(text, &number);
    if (kei_json_check(text, 0, NULL) == 0) {
        if (kei_device_read(&d, text, &a, NULL) == 0)
            check_device(&d);
        if (kei_device_model_read(&m, text, &a, NULL) == 0)
            check_model(&m);
    }
    if (kei_device_profile_read(&p, text, "ns", &a, NULL) == 0) {
        for (uint32_t i = 0; i < p.n_devices; i++)
            check_device(&p.devices[i]);
        for (uint32_t i = 0; i < p.n_models; i++)
            check_model(&p.models[i]);
    }
    kei_arena_free(&a);
    return 0;
}
