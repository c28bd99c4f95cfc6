/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line of a GPIO chip. The character device (uapi version 2) when there is one: the line is
 * ours alone and tells its edges. Else sysfs, of old kernels. The line owns its fd. Any thread; the
 * calls answer at once, or within the transfer of a chip behind I2C.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <stdio.h>
#include <unistd.h>

#include "base/str.h"
#include "device/gpio.h"

#define PATH_SIZE 300
#define CONSUMER "kubeedge"

static int open_at(const struct kei_gpio_calls *c, const char *path, int flags)
{
    return c->open(c->user, path, flags | O_CLOEXEC | O_NONBLOCK);
}

static int call(const struct kei_gpio_line *l, int fd, unsigned long request, void *arg)
{
    return l->calls->ioctl(l->calls->user, fd, request, arg);
}

/* ---- character device ---- */

/* The number of a line given by number or name. */
static int find_line(struct kei_gpio_line *l, int chip_fd, const char *chip, const char *name,
                     struct ke_error *err)
{
    struct gpiochip_info info = {0};
    uint64_t number;

    if (call(l, chip_fd, GPIO_GET_CHIPINFO_IOCTL, &info) < 0)
        return kei_error_errno(err, errno, "%s is no GPIO chip", chip);
    if (kei_str_u64(kei_str(name), &number)) {
        if (number >= info.lines)
            return kei_error(err, KE_ENOTFOUND, "GPIO chip %s has %u lines, there is no line %s",
                             chip, info.lines, name);
        l->number = (uint32_t)number;
        return 0;
    }
    for (uint32_t i = 0; i < info.lines; i++) {
        struct gpio_v2_line_info line = {.offset = i};
        if (call(l, chip_fd, GPIO_V2_GET_LINEINFO_IOCTL, &line) == 0 &&
            strncmp(line.name, name, sizeof line.name) == 0) {
            l->number = i;
            return 0;
        }
    }
    return kei_error(err, KE_ENOTFOUND, "GPIO chip %s has no line \"%s\"", chip, name);
}

static uint64_t flags_of(const struct kei_gpio_want *w)
{
    static const uint64_t bias[] = {0, GPIO_V2_LINE_FLAG_BIAS_DISABLED,
                                    GPIO_V2_LINE_FLAG_BIAS_PULL_UP,
                                    GPIO_V2_LINE_FLAG_BIAS_PULL_DOWN};
    static const uint64_t drive[] = {0, GPIO_V2_LINE_FLAG_OPEN_DRAIN,
                                     GPIO_V2_LINE_FLAG_OPEN_SOURCE};

    return bias[w->bias] |
           (w->output ? GPIO_V2_LINE_FLAG_OUTPUT | drive[w->drive]
                      : (uint64_t)GPIO_V2_LINE_FLAG_INPUT) |
           (w->active_low ? GPIO_V2_LINE_FLAG_ACTIVE_LOW : 0);
}

static int request_line(struct kei_gpio_line *l, int chip_fd, const struct gpio_v2_line_config *c)
{
    struct gpio_v2_line_request r = {.num_lines = 1, .config = *c};

    r.offsets[0] = l->number;
    memcpy(r.consumer, CONSUMER, sizeof CONSUMER);
    if (call(l, chip_fd, GPIO_V2_GET_LINE_IOCTL, &r) < 0)
        return -1;
    l->fd = r.fd;
    /* the kernel gives it blocking, and open to programs that are started */
    int flags = fcntl(l->fd, F_GETFL);
    if (flags < 0 || fcntl(l->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(l->fd, F_SETFD, FD_CLOEXEC) < 0) {
        int e = errno;
        kei_gpio_line_close(l);
        errno = e;
        return -1;
    }
    return 0;
}

/* An output begins with the level that the line has, or with what was asked for. */
static int request_output(struct kei_gpio_line *l, int chip_fd, const struct kei_gpio_want *w)
{
    struct gpio_v2_line_config c = {.flags = w->active_low ? GPIO_V2_LINE_FLAG_ACTIVE_LOW : 0};
    struct gpio_v2_line_values v = {.mask = 1};

    if (w->initial < 0) { /* neither input nor output: as it is */
        if (request_line(l, chip_fd, &c) < 0)
            return -1;
        if (call(l, l->fd, GPIO_V2_LINE_GET_VALUES_IOCTL, &v) < 0)
            return -1;
    }
    bool on = w->initial < 0 ? (v.bits & 1) != 0 : w->initial > 0;
    c.flags = flags_of(w);
    c.num_attrs = 1;
    c.attrs[0].mask = 1;
    c.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_OUTPUT_VALUES;
    c.attrs[0].attr.values = on;
    if (w->initial < 0)
        return call(l, l->fd, GPIO_V2_LINE_SET_CONFIG_IOCTL, &c);
    return request_line(l, chip_fd, &c);
}

static int request_input(struct kei_gpio_line *l, int chip_fd, const struct kei_gpio_want *w)
{
    struct gpio_v2_line_config c = {.flags = flags_of(w) | GPIO_V2_LINE_FLAG_EDGE_RISING |
                                             GPIO_V2_LINE_FLAG_EDGE_FALLING};

    if (w->debounce_us > 0) {
        c.num_attrs = 1;
        c.attrs[0].mask = 1;
        c.attrs[0].attr.id = GPIO_V2_LINE_ATTR_ID_DEBOUNCE;
        c.attrs[0].attr.debounce_period_us = w->debounce_us;
    }
    l->events = true;
    if (request_line(l, chip_fd, &c) == 0)
        return 0;
    if (errno == EBUSY || errno == EPERM || errno == EACCES)
        return -1;
    l->events = false; /* a line without interrupt: it is polled */
    c.flags = flags_of(w);
    c.num_attrs = 0;
    return request_line(l, chip_fd, &c);
}

static int refused(struct kei_gpio_line *l, int chip_fd, const char *chip, int errnum,
                   struct ke_error *err)
{
    struct gpio_v2_line_info info = {.offset = l->number};

    if (errnum == EBUSY && call(l, chip_fd, GPIO_V2_GET_LINEINFO_IOCTL, &info) == 0 &&
        info.consumer[0])
        return kei_error(err, KE_EBUSY, "line %u of GPIO chip %s is in use by \"%.*s\"", l->number,
                         chip, (int)sizeof info.consumer - 1, info.consumer);
    return kei_error_errno(err, errnum, "could not take line %u of GPIO chip %s", l->number, chip);
}

static int open_chip_line(struct kei_gpio_line *l, int chip_fd, const char *chip,
                          const struct kei_gpio_want *w, struct ke_error *err)
{
    int r = find_line(l, chip_fd, chip, w->line, err);

    if (r < 0)
        return r;
    r = w->output ? request_output(l, chip_fd, w) : request_input(l, chip_fd, w);
    if (r == 0)
        return 0;
    r = refused(l, chip_fd, chip, errno, err);
    kei_gpio_line_close(l);
    return r;
}

/* ---- sysfs ---- */

static int write_file(const struct kei_gpio_calls *c, const char *path, const char *text)
{
    int fd = open_at(c, path, O_WRONLY);

    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int e = errno;
    close(fd);
    errno = e;
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* The first number of the chip, 0 when sysfs does not know it: numbers are then of the system. */
static uint64_t base_of(const struct kei_gpio_calls *c, const char *folder, const char *chip)
{
    char path[PATH_SIZE], text[32];
    uint64_t base = 0;

    snprintf(path, sizeof path, "%s/%s/base", folder, chip);
    int fd = open_at(c, path, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    if (n > 0)
        kei_str_u64(kei_str_trim(kei_strn(text, (size_t)n)), &base);
    return base;
}

static int open_sysfs_line(struct kei_gpio_line *l, const char *folder, const char *chip,
                           const struct kei_gpio_want *w, struct ke_error *err)
{
    char path[PATH_SIZE], number[32];
    uint64_t line;

    if (!kei_str_u64(kei_str(w->line), &line) || line > UINT32_MAX)
        return kei_error(err, KE_ENOTFOUND,
                         "there is no GPIO chip %s; sysfs has lines by number only, not \"%s\"",
                         chip, w->line);
    l->sysfs = true;
    l->number = (uint32_t)(line + base_of(l->calls, folder, chip));
    snprintf(number, sizeof number, "%u", l->number);
    snprintf(path, sizeof path, "%s/export", folder);
    if (write_file(l->calls, path, number) < 0 && errno != EBUSY) /* busy: it is there already */
        return kei_error_errno(err, errno,
                               "there is no GPIO chip %s, and line %s could not be taken by %s",
                               chip, number, path);
    snprintf(path, sizeof path, "%s/gpio%u/active_low", folder, l->number);
    if (write_file(l->calls, path, w->active_low ? "1" : "0") < 0 && w->active_low)
        return kei_error_errno(err, errno, "could not write %s", path);
    snprintf(path, sizeof path, "%s/gpio%u/value", folder, l->number);
    l->fd = open_at(l->calls, path, O_RDWR);
    if (l->fd < 0)
        l->fd = open_at(l->calls, path, O_RDONLY);
    bool on = w->initial > 0;
    int r = l->fd < 0 ? kei_error_errno(err, errno, "could not open %s", path) : 0;
    if (r == 0 && w->output && w->initial < 0)
        r = kei_gpio_line_get(l, &on, err);
    if (r == 0) {
        /* "high" and "low" are levels, not states */
        const char *direction = !w->output ? "in" : on != w->active_low ? "high" : "low";
        snprintf(path, sizeof path, "%s/gpio%u/direction", folder, l->number);
        if (write_file(l->calls, path, direction) < 0)
            r = kei_error_errno(err, errno, "could not write %s", path);
    }
    if (r < 0)
        kei_gpio_line_close(l);
    return r;
}

/* ---- either ---- */

int kei_gpio_line_open(struct kei_gpio_line *l, const struct kei_gpio_calls *calls,
                       const char *dev_folder, const char *sys_folder, const char *chip,
                       const struct kei_gpio_want *w, struct ke_error *err)
{
    char path[PATH_SIZE];

    *l = (struct kei_gpio_line){.calls = calls, .fd = -1};
    snprintf(path, sizeof path, "%s/%s", dev_folder, chip);
    int fd = open_at(calls, path, O_RDWR);
    if (fd < 0 && errno == ENOENT)
        return open_sysfs_line(l, sys_folder, chip, w, err);
    if (fd < 0)
        return kei_error_errno(err, errno, "could not open GPIO chip %s", path);
    int r = open_chip_line(l, fd, chip, w, err);
    close(fd);
    return r;
}

void kei_gpio_line_close(struct kei_gpio_line *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

int kei_gpio_line_get(struct kei_gpio_line *l, bool *ret, struct ke_error *err)
{
    struct gpio_v2_line_values v = {.mask = 1};
    char c = 0;

    if (l->sysfs) {
        if (pread(l->fd, &c, 1, 0) != 1 || (c != '0' && c != '1'))
            return kei_error_errno(err, c ? EIO : errno, "could not read GPIO line %u", l->number);
        *ret = c == '1';
        return 0;
    }
    if (call(l, l->fd, GPIO_V2_LINE_GET_VALUES_IOCTL, &v) < 0)
        return kei_error_errno(err, errno, "could not read GPIO line %u", l->number);
    *ret = v.bits & 1;
    return 0;
}

int kei_gpio_line_set(struct kei_gpio_line *l, bool on, struct ke_error *err)
{
    struct gpio_v2_line_values v = {.bits = on, .mask = 1};

    if (l->sysfs ? pwrite(l->fd, on ? "1" : "0", 1, 0) != 1
                 : call(l, l->fd, GPIO_V2_LINE_SET_VALUES_IOCTL, &v) < 0)
        return kei_error_errno(err, errno, "could not write GPIO line %u", l->number);
    return 0;
}

bool kei_gpio_line_drain(struct kei_gpio_line *l)
{
    struct gpio_v2_line_event e[16];
    bool any = false;

    while (read(l->fd, e, sizeof e) >= (ssize_t)sizeof e[0])
        any = true;
    return any;
}
