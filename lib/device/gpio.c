/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GPIO driver: each property is a line. Reads and writes are made at once; inputs whose chip
 * has interrupts tell their changes. The driver owns its devices, they their lines. Loop thread.
 */
#include "device/gpio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/arena.h"
#include "device/driver_conf.h"

#define DEBOUNCE_MAX_US 10000000

struct kei_gpio {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_devices *d;
    char *dev_folder, *sys_folder;
    struct kei_gpio_calls calls;
};

struct line {
    struct kei_gpio_line l;
    struct kei_fd fd; /* of its events, while subscribed */
    struct dev *dev;
    uint32_t property;
    bool output, text;
};

struct dev {
    struct kei_gpio *g;
    const struct ke_device_config *c;
    struct line *lines; /* by index of the property */
    uint32_t n;
    bool is_open;
};

static int sys_open(void *user, const char *path, int flags)
{
    (void)user;
    return open(path, flags);
}

static int sys_ioctl(void *user, int fd, unsigned long request, void *arg)
{
    (void)user;
    return ioctl(fd, request, arg);
}

/* ---- configuration ---- */

static int read_want(struct kei_gpio_want *w, const struct ke_device_property *p,
                     struct ke_error *err)
{
    static const char *const directions[] = {"in", "out", NULL};
    static const char *const biases[] = {"as-is", "none", "pull-up", "pull-down", NULL};
    static const char *const drives[] = {"push-pull", "open-drain", "open-source", NULL};
    struct kei_conf c = {p->visitor, p->visitor_len, NULL, err};
    unsigned direction = p->flags & KE_DEVICE_CAN_WRITE ? 1 : 0;
    int64_t initial = -1, debounce = 0;
    int r;

    *w = (struct kei_gpio_want){.initial = -1};
    if ((r = kei_conf_str(&c, "line", w->line, sizeof w->line)) < 0 ||
        (r = kei_conf_enum(&c, "direction", directions, &direction)) < 0 ||
        (r = kei_conf_bool(&c, "activeLow", &w->active_low)) < 0 ||
        (r = kei_conf_enum(&c, "bias", biases, &w->bias)) < 0 ||
        (r = kei_conf_enum(&c, "drive", drives, &w->drive)) < 0 ||
        (r = kei_conf_int(&c, "initial", 0, 1, &initial)) < 0 ||
        (r = kei_conf_int(&c, "debounce", 0, DEBOUNCE_MAX_US, &debounce)) < 0)
        return r;
    if (!w->line[0])
        return kei_error(err, KE_EINVAL, "\"line\" is missing");
    if (p->type != KE_DEVICE_BOOLEAN && p->type != KE_DEVICE_INT && p->type != KE_DEVICE_STRING)
        return kei_error(err, KE_EINVAL, "a line is a boolean, an int or a string");
    w->output = direction == 1;
    w->initial = (int)initial;
    w->debounce_us = (uint32_t)debounce;
    return 0;
}

static int read_chip(const struct ke_device_config *c, char *chip, size_t cap, struct ke_error *err)
{
    struct kei_conf conf = {c->config, c->config_len, NULL, err};

    snprintf(chip, cap, "gpiochip0");
    int r = kei_conf_str(&conf, "chip", chip, cap);
    if (r < 0)
        return r;
    if (!chip[0] || chip[0] == '.' || strchr(chip, '/'))
        return kei_error(err, KE_EINVAL, "\"chip\" is \"%s\": a name such as gpiochip0 is needed",
                         chip);
    return 0;
}

/* ---- operations ---- */

static int finish(struct kei_gpio *g, uint64_t op, int status, const char *text,
                  const struct ke_device_value *v, uint32_t n)
{
    struct ke_device_result res = {.size = sizeof res, .text = text, .values = v, .n_values = n};
    int r = ke_device_complete(g->d, op, status, &res);

    return r == KE_ENOTFOUND ? 0 : r;
}

static void set_value(struct ke_device_value *v, const struct line *l, bool on)
{
    *v = (struct ke_device_value){.size = sizeof *v, .property = l->property};
    if (l->text) {
        v->kind = KE_DEVICE_KIND_TEXT;
        v->p = on ? "ON" : "OFF";
        v->n = on ? 2 : 3;
    } else {
        v->kind = KE_DEVICE_KIND_BOOL;
        v->i = on;
    }
}

static void free_dev(struct dev *dev)
{
    if (!dev)
        return;
    for (uint32_t i = 0; dev->lines && i < dev->n; i++) {
        kei_fd_remove(&dev->lines[i].fd);
        kei_gpio_line_close(&dev->lines[i].l);
    }
    kei_free(dev->g->alloc, dev->lines);
    kei_free(dev->g->alloc, dev);
}

static int open_lines(struct dev *dev, struct ke_error *err)
{
    struct kei_gpio *g = dev->g;
    char chip[64];

    int r = read_chip(dev->c, chip, sizeof chip, err);
    for (uint32_t i = 0; r == 0 && i < dev->n; i++) {
        const struct ke_device_property *p =
            (const struct ke_device_property *)((const char *)dev->c->properties +
                                                (size_t)i * dev->c->properties[0].size);
        struct kei_gpio_want w;
        r = read_want(&w, p, err);
        if (r == 0) {
            r = kei_gpio_line_open(&dev->lines[i].l, &g->calls, g->dev_folder, g->sys_folder, chip,
                                   &w, err);
            if (r == KE_EINVAL) /* of the kernel, which may think otherwise after a change there */
                r = KE_EIO;
        }
        if (r < 0)
            return kei_error_prefix(err, r, "property %s", p->name);
        dev->lines[i].output = w.output;
        dev->lines[i].text = p->type == KE_DEVICE_STRING;
    }
    return r;
}

static int gpio_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    struct kei_gpio *g = user;
    struct ke_error err = KE_ERROR_INIT;
    struct dev *dev = kei_zalloc(g->alloc, sizeof *dev);

    if (dev)
        dev->lines = kei_array_alloc(g->alloc, c->n_properties + 1u, sizeof *dev->lines);
    if (!dev || !dev->lines) {
        kei_free(g->alloc, dev);
        return kei_fail(g->ctx, KE_ENOMEM, "out of memory for GPIO device %s", c->name);
    }
    dev->g = g;
    dev->c = c;
    dev->n = c->n_properties;
    for (uint32_t i = 0; i < dev->n; i++)
        dev->lines[i] = (struct line){.l.fd = -1, .fd.fd = -1, .dev = dev, .property = i};
    *ret_dev = dev;
    int r = open_lines(dev, &err);
    dev->is_open = r == 0;
    return finish(g, op, r, r < 0 ? err.text : NULL, NULL, 0);
}

static int gpio_close(void *user, void *p, uint64_t op)
{
    free_dev(p);
    return finish(user, op, 0, NULL, NULL, 0);
}

/* A chip that went away (of a USB adapter) takes the device with it. */
static bool is_gone(int status)
{
    return status == KE_ENOTFOUND || status == KE_ECLOSED || status == KE_ESYS;
}

static int gpio_read(void *user, void *p, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct kei_gpio *g = user;
    struct dev *dev = p;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena a;
    bool gone = false;

    if (!dev->is_open)
        return kei_fail(g->ctx, KE_ESTATE, "the device is not open");
    kei_arena_init(&a, g->alloc, 0);
    struct ke_device_value *v = kei_arena_array(&a, n ? n : 1, sizeof *v);
    int r = v ? 0 : kei_fail(g->ctx, KE_ENOMEM, "out of memory for a read of %u lines", n);
    for (uint32_t i = 0; r == 0 && !gone && i < n; i++) {
        bool on = false;
        if (properties[i] >= dev->n) {
            r = kei_fail(g->ctx, KE_EINVAL, "the device has no property %u", properties[i]);
            break;
        }
        struct line *l = &dev->lines[properties[i]];
        int status = kei_gpio_line_get(&l->l, &on, &err);
        set_value(&v[i], l, on);
        v[i].status = status;
        v[i].text = status < 0 ? kei_arena_strdup(&a, kei_str(err.text)) : NULL;
        gone = is_gone(status);
    }
    if (r == 0)
        r = gone ? finish(g, op, KE_ECLOSED, err.text, NULL, 0) : finish(g, op, 0, NULL, v, n);
    kei_arena_free(&a);
    return r;
}

static int write_line(struct dev *dev, const struct ke_device_value *v, struct ke_error *err)
{
    struct line *l = &dev->lines[v->property];
    bool on = false;

    if (!l->output)
        return kei_error(err, KE_EACCES, "GPIO line %u is an input", l->l.number);
    int r = kei_value_truth(v, &on, err);
    return r < 0 ? r : kei_gpio_line_set(&l->l, on, err);
}

static int gpio_write(void *user, void *p, uint64_t op, const struct ke_device_value *v, uint32_t n)
{
    struct kei_gpio *g = user;
    struct dev *dev = p;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_arena a;
    uint32_t failed = 0;
    bool gone = false;

    if (!dev->is_open)
        return kei_fail(g->ctx, KE_ESTATE, "the device is not open");
    kei_arena_init(&a, g->alloc, 0);
    struct ke_device_value *bad = kei_arena_array(&a, n ? n : 1, sizeof *bad);
    int r = bad ? 0 : kei_fail(g->ctx, KE_ENOMEM, "out of memory for a write of %u lines", n);
    for (uint32_t i = 0; r == 0 && !gone && i < n; i++) {
        const struct ke_device_value *one =
            (const struct ke_device_value *)((const char *)v + (size_t)i * v->size);
        if (one->property >= dev->n) {
            r = kei_fail(g->ctx, KE_EINVAL, "the device has no property %u", one->property);
            break;
        }
        int status = write_line(dev, one, &err);
        gone = is_gone(status);
        if (status < 0)
            bad[failed++] = (struct ke_device_value){
                .size = sizeof *bad,
                .property = one->property,
                .status = status,
                .text = kei_arena_strdup(&a, kei_str(err.text)),
            };
    }
    if (r == 0)
        r = gone ? finish(g, op, KE_ECLOSED, err.text, NULL, 0)
                 : finish(g, op, 0, NULL, bad, failed);
    kei_arena_free(&a);
    return r;
}

/* ---- changes ---- */

static void on_event(struct kei_fd *f, uint32_t events)
{
    struct line *l = KEI_OF(f, struct line, fd);
    struct dev *dev = l->dev;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_device_value v;
    bool on = false;

    (void)kei_gpio_line_drain(&l->l);
    int r = kei_gpio_line_get(&l->l, &on, &err);
    if (r < 0 || events & KEI_ERR) {
        kei_fd_remove(f);
        if (r == 0)
            r = kei_error(&err, KE_ECLOSED, "GPIO line %u went away", l->l.number);
        r = ke_device_lost(dev->g->d, dev->c->device, KE_ECLOSED, err.text);
        return;
    }
    set_value(&v, l, on);
    r = ke_device_report(dev->g->d, dev->c->device, &v, 1);
    (void)r; /* not open: it is being closed */
}

/* All or nothing: what is not told would have to be polled. */
static int gpio_subscribe(void *user, void *p, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct kei_gpio *g = user;
    struct dev *dev = p;

    for (uint32_t i = 0; i < n; i++) {
        if (properties[i] >= dev->n || !dev->lines[properties[i]].l.events)
            return finish(g, op, KE_ENOTSUP, NULL, NULL, 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct line *l = &dev->lines[properties[i]];
        int r = kei_fd_add(g->ctx, &l->fd, l->l.fd, KEI_IN, on_event);
        if (r < 0) {
            while (i-- > 0)
                kei_fd_remove(&dev->lines[properties[i]].fd);
            return finish(g, op, KE_ENOTSUP, NULL, NULL, 0);
        }
    }
    return finish(g, op, 0, NULL, NULL, 0);
}

/* ---- the driver ---- */

void ke_gpio_config_init(struct ke_gpio_config *c, size_t size)
{
    kei_abi_init(c, size);
}

int kei_gpio_new(struct kei_gpio **ret, struct ke_ctx *ctx, const struct ke_gpio_config *c,
                 const struct kei_gpio_calls *calls)
{
    static const struct kei_gpio_calls system_calls = {NULL, sys_open, sys_ioctl};
    struct ke_gpio_config conf = {.size = sizeof conf};
    const struct ke_alloc *a = kei_ctx_alloc(ctx);

    int r = c ? kei_abi_in(&conf, sizeof conf, c, KEI_SIZE_TO(struct ke_gpio_config, sys_folder),
                           "ke_gpio_config", kei_err(ctx))
              : 0;
    if (r < 0)
        return r;
    struct kei_gpio *g = kei_zalloc(a, sizeof *g);
    if (!g)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the GPIO driver");
    g->ctx = ctx;
    g->alloc = a;
    g->calls = calls ? *calls : system_calls;
    g->dev_folder = kei_strdup(a, conf.dev_folder ? conf.dev_folder : "/dev");
    g->sys_folder = kei_strdup(a, conf.sys_folder ? conf.sys_folder : "/sys/class/gpio");
    if (!g->dev_folder || !g->sys_folder) {
        kei_gpio_free(g);
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the GPIO driver");
    }
    *ret = g;
    return 0;
}

void kei_gpio_free(struct kei_gpio *g)
{
    if (!g)
        return;
    kei_free(g->alloc, g->dev_folder);
    kei_free(g->alloc, g->sys_folder);
    kei_free(g->alloc, g);
}

static void gpio_attach(void *user, struct ke_devices *d)
{
    struct kei_gpio *g = user;

    g->d = d;
}

static void gpio_detach(void *user)
{
    kei_gpio_free(user);
}

const struct ke_device_ops kei_gpio_ops = {
    .size = sizeof(struct ke_device_ops),
    .attach = gpio_attach,
    .detach = gpio_detach,
    .open = gpio_open,
    .close = gpio_close,
    .read = gpio_read,
    .write = gpio_write,
    .subscribe = gpio_subscribe,
};
