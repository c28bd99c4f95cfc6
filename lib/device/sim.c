/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated driver: values by a function of time, or what was written last. For demonstrations
 * and tests. Everything is completed within the call. Loop thread.
 */
#include <stdio.h>

#include "device/devices_priv.h"

#define PI 3.14159265358979

enum function { SIM_CONSTANT, SIM_SINE, SIM_RAMP, SIM_COUNTER };

struct sim_prop {
    double value, amplitude, period, step;
    char *text; /* written, of a text or bytes */
    uint8_t function;
    bool text_type, bytes;
};

struct sim {
    uint32_t n;
    int64_t start;
    struct sim_prop props[];
};

static double number(const struct ke_device_property *p, const char *key, double dflt)
{
    double v = dflt;

    (void)!ke_device_config_f64(p->visitor, p->visitor_len, key, &v);
    return v;
}

static int read_prop(struct sim_prop *s, const struct ke_device_property *p)
{
    static const char *const names[] = {"constant", "sine", "ramp", "counter"};
    char function[16] = "constant";
    double low = number(p, "minimum", 0), high = number(p, "maximum", 100);
    int r = ke_device_config_str(p->visitor, p->visitor_len, "function", function, sizeof function);

    if (r < 0 && r != KE_ENOTFOUND)
        return KE_EINVAL;
    s->function = UINT8_MAX;
    for (uint8_t i = 0; i < 4; i++) {
        if (!strcmp(function, names[i]))
            s->function = i;
    }
    if (s->function == UINT8_MAX)
        return KE_EINVAL;
    s->text_type = p->type == KE_DEVICE_STRING || p->type == KE_DEVICE_BYTES;
    s->bytes = p->type == KE_DEVICE_BYTES;
    s->period = number(p, "period", 60000);
    s->amplitude = number(p, "amplitude", s->function == SIM_RAMP ? high - low : 1);
    s->value = number(p, "value", s->function == SIM_RAMP ? low : 0);
    s->step = number(p, "step", 1);
    return s->period >= 1 ? 0 : KE_EINVAL;
}

static int sim_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    struct ke_devices *d = user;
    struct sim *s = kei_zalloc(d->alloc, sizeof *s + c->n_properties * sizeof(struct sim_prop));

    if (!s)
        return KE_ENOMEM;
    s->n = c->n_properties;
    s->start = ke_ctx_mono_ms(d->ctx);
    *ret_dev = s;
    for (uint32_t i = 0; i < c->n_properties; i++) {
        if (read_prop(&s->props[i], &c->properties[i]) == 0)
            continue;
        char text[200];
        snprintf(text, sizeof text, "visitor of property %s: function or period is wrong",
                 c->properties[i].name);
        struct ke_device_result r = {.size = sizeof r, .text = text};
        (void)!ke_device_complete(d, op, KE_EINVAL, &r);
        return 0;
    }
    (void)!ke_device_complete(d, op, 0, NULL);
    return 0;
}

static int sim_close(void *user, void *dev, uint64_t op)
{
    struct ke_devices *d = user;
    struct sim *s = dev;

    for (uint32_t i = 0; i < s->n; i++)
        kei_free(d->alloc, s->props[i].text);
    kei_free(d->alloc, s);
    (void)!ke_device_complete(d, op, 0, NULL);
    return 0;
}

/* Of a phase from 0 to 1: a few terms are enough for a demonstration, and need no libm. */
static double sine(double phase)
{
    double turn = phase < 0.25 ? phase : phase < 0.75 ? 0.5 - phase : phase - 1;
    double x = 2 * PI * turn, q = x * x;

    return x * (1 - q / 6 * (1 - q / 20 * (1 - q / 42 * (1 - q / 72 * (1 - q / 110)))));
}

static double value_at(struct sim_prop *p, double ms)
{
    double turns = ms / p->period, phase = turns - (double)(int64_t)turns;

    switch ((enum function)p->function) {
    case SIM_SINE:
        return p->value + p->amplitude * sine(phase);
    case SIM_RAMP:
        return p->value + p->amplitude * phase;
    case SIM_COUNTER:
        p->value += p->step;
        return p->value - p->step;
    case SIM_CONSTANT:
        break;
    }
    return p->value;
}

static int sim_read(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct ke_devices *d = user;
    struct sim *s = dev;
    double ms = (double)(ke_ctx_mono_ms(d->ctx) - s->start);
    struct ke_device_value few[16], *v = n <= 16 ? few : kei_array_alloc(d->alloc, n, sizeof *v);

    if (!v)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        struct sim_prop *p = &s->props[properties[i]];
        v[i] = (struct ke_device_value){
            .size = sizeof v[i], .property = properties[i], .kind = KE_DEVICE_KIND_DOUBLE};
        if (p->text_type && p->text) {
            v[i].kind = p->bytes ? KE_DEVICE_KIND_BYTES : KE_DEVICE_KIND_TEXT;
            v[i].p = p->text;
            v[i].n = strlen(p->text);
        } else {
            v[i].d = value_at(p, ms);
        }
    }
    struct ke_device_result r = {.size = sizeof r, .values = v, .n_values = n};
    (void)!ke_device_complete(d, op, 0, &r);
    if (v != few)
        kei_free(d->alloc, v);
    return 0;
}

static int sim_write(void *user, void *dev, uint64_t op, const struct ke_device_value *v,
                     uint32_t n)
{
    struct ke_devices *d = user;
    struct sim *s = dev;

    for (uint32_t i = 0; i < n; i++) {
        struct sim_prop *p = &s->props[v[i].property];
        if (p->text_type) {
            char *text = kei_strndup(d->alloc, v[i].p ? v[i].p : "", v[i].n);
            if (!text)
                return KE_ENOMEM;
            kei_free(d->alloc, p->text);
            p->text = text;
        } else {
            p->function = SIM_CONSTANT;
            p->value = v[i].kind == KE_DEVICE_KIND_DOUBLE ? v[i].d : (double)v[i].i;
        }
    }
    (void)!ke_device_complete(d, op, 0, NULL);
    return 0;
}

static int sim_health(void *user, void *dev, uint64_t op)
{
    (void)dev;
    (void)!ke_device_complete(user, op, 0, NULL);
    return 0;
}

int ke_device_sim_register(struct ke_devices *d)
{
    static const struct ke_device_ops ops = {.size = sizeof ops,
                                             .open = sim_open,
                                             .close = sim_close,
                                             .read = sim_read,
                                             .write = sim_write,
                                             .health = sim_health};

    return ke_device_driver_register(d, "simulated", &ops, d);
}
