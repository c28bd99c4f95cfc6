/* SPDX-License-Identifier: Apache-2.0 */
#include "driver_rig.h"

#include "device/driver_conf.h"

/* Devices that are open, found by the number of their operation. */
static struct rig_device *devices;

static struct rig_device *device_of_op(uint64_t op)
{
    for (struct rig_device *d = devices; d; d = d->next) {
        if (d->op == op)
            return d;
    }
    return NULL;
}

static void keep(struct rig_value *to, const struct ke_device_value *v)
{
    assert_true(v->n <= sizeof to->bytes);
    to->v = *v;
    if (v->n)
        memcpy(to->bytes, v->p, v->n);
    to->v.p = to->bytes;
    snprintf(to->text, sizeof to->text, "%s", v->text ? v->text : "");
    to->v.text = to->text;
}

int ke_device_complete(struct ke_devices *h, uint64_t op, int status,
                       const struct ke_device_result *r)
{
    struct rig_device *d = device_of_op(op);

    assert_non_null(h);
    if (!d || d->ended)
        return KE_ENOTFOUND;
    d->ended = true;
    d->status = status;
    d->n_values = 0;
    snprintf(d->text, sizeof d->text, "%s", r && r->text ? r->text : "");
    for (uint32_t i = 0; r && i < r->n_values; i++) {
        assert_true(r->values[i].property < d->config.n_properties);
        keep(&d->values[d->n_values++], &r->values[i]);
    }
    return 0;
}

int ke_device_report(struct ke_devices *h, uint64_t device, const struct ke_device_value *v,
                     uint32_t n)
{
    struct rig_device *d = devices;

    assert_non_null(h);
    while (d && d->config.device != device)
        d = d->next;
    if (!d)
        return KE_ENOTFOUND;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(v[i].property < d->config.n_properties);
        keep(&d->reported[v[i].property], &v[i]);
    }
    d->reports++;
    return 0;
}

int ke_device_lost(struct ke_devices *h, uint64_t device, int status, const char *text)
{
    struct rig_device *d = devices;

    assert_non_null(h);
    while (d && d->config.device != device)
        d = d->next;
    if (!d)
        return KE_ENOTFOUND;
    d->lost = status;
    snprintf(d->lost_text, sizeof d->lost_text, "%s", text ? text : "");
    return 0;
}

void kei_device_note(struct ke_devices *h, uint64_t device, const char *text)
{
    struct rig_device *d = devices;

    assert_non_null(h);
    while (d && d->config.device != device)
        d = d->next;
    if (!d)
        return;
    d->notes++;
    snprintf(d->note, sizeof d->note, "%s", text);
}

void rig_init(struct rig *r, uint32_t flags)
{
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, flags);
}

void rig_driver(struct rig *r, const struct ke_device_ops *ops, void *user)
{
    r->ops = ops;
    r->user = user;
    if (ops->attach)
        ops->attach(user, (struct ke_devices *)r);
}

void rig_fini(struct rig *r)
{
    assert_null(devices);
    if (r->ops && r->ops->detach)
        r->ops->detach(r->user);
    test_env_fini(&r->env);
}

bool rig_ended(void *device)
{
    return ((struct rig_device *)device)->ended;
}

static void begin(struct rig_device *d)
{
    d->op = ++d->rig->ops_made;
    d->ended = false;
    d->status = 1;
    d->text[0] = '\0';
}

static int end(struct rig_device *d, int r)
{
    if (r < 0) {
        assert_false(d->ended);
        snprintf(d->text, sizeof d->text, "%s", ke_ctx_error(d->rig->env.ctx));
        return r;
    }
    assert_true(test_drive(&d->rig->env, rig_ended, d));
    return d->status;
}

int rig_open(struct rig *r, struct rig_device *d, const char *config, const struct rig_property *p,
             uint32_t n)
{
    memset(d, 0, sizeof *d);
    d->rig = r;
    for (uint32_t i = 0; i < n; i++) {
        d->properties[i] = (struct ke_device_property){
            .size = sizeof d->properties[i],
            .name = "p",
            .unit = "",
            .visitor = p[i].visitor,
            .visitor_len = strlen(p[i].visitor),
            .index = i,
            .type = p[i].type,
            .flags = KE_DEVICE_CAN_READ | KE_DEVICE_CAN_WRITE,
            .collect_ms = 1000,
        };
    }
    begin(d);
    d->config = (struct ke_device_config){
        .size = sizeof d->config,
        .device = 1000 + d->op,
        .ns = "default",
        .name = "d1",
        .model = "m1",
        .protocol = "p",
        .config = config,
        .config_len = strlen(config),
        .properties = d->properties,
        .n_properties = n,
        .timeout_ms = 5000,
    };
    d->next = devices;
    devices = d;
    int s = r->ops->open(r->user, &d->config, d->op, &d->dev);
    if (s < 0)
        devices = d->next;
    d->is_open = s == 0;
    return end(d, s);
}

int rig_close(struct rig_device *d)
{
    assert_true(d->is_open);
    begin(d);
    d->is_open = false;
    int s = end(d, d->rig->ops->close(d->rig->user, d->dev, d->op));
    for (struct rig_device **at = &devices; *at; at = &(*at)->next) {
        if (*at == d) {
            *at = d->next;
            break;
        }
    }
    return s;
}

int rig_start_read(struct rig_device *d, const uint32_t *properties, uint32_t n)
{
    begin(d);
    return d->rig->ops->read(d->rig->user, d->dev, d->op, properties, n);
}

int rig_read(struct rig_device *d, const uint32_t *properties, uint32_t n)
{
    return end(d, rig_start_read(d, properties, n));
}

int rig_read_all(struct rig_device *d)
{
    uint32_t all[RIG_PROPERTIES];

    for (uint32_t i = 0; i < d->config.n_properties; i++)
        all[i] = i;
    return rig_read(d, all, d->config.n_properties);
}

int rig_write(struct rig_device *d, const struct ke_device_value *v, uint32_t n)
{
    begin(d);
    return end(d, d->rig->ops->write(d->rig->user, d->dev, d->op, v, n));
}

int rig_write_int(struct rig_device *d, uint32_t property, int64_t i)
{
    struct ke_device_value v = {
        .size = sizeof v, .property = property, .kind = KE_DEVICE_KIND_INT, .i = i};

    return rig_write(d, &v, 1);
}

int rig_write_text(struct rig_device *d, uint32_t property, const char *text)
{
    struct ke_device_value v = {.size = sizeof v,
                                .property = property,
                                .kind = KE_DEVICE_KIND_TEXT,
                                .p = text,
                                .n = strlen(text)};

    return rig_write(d, &v, 1);
}

int rig_health(struct rig_device *d)
{
    begin(d);
    return end(d, d->rig->ops->health(d->rig->user, d->dev, d->op));
}

int rig_subscribe(struct rig_device *d)
{
    uint32_t all[RIG_PROPERTIES];

    for (uint32_t i = 0; i < d->config.n_properties; i++)
        all[i] = i;
    begin(d);
    return end(d, d->rig->ops->subscribe(d->rig->user, d->dev, d->op, all, d->config.n_properties));
}

const struct rig_value *rig_value(struct rig_device *d, uint32_t property)
{
    for (uint32_t i = 0; i < d->n_values; i++) {
        if (d->values[i].v.property == property)
            return &d->values[i];
    }
    fail_msg("there is no value of property %u", property);
    return NULL;
}
