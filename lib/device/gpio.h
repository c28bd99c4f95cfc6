/* SPDX-License-Identifier: Apache-2.0 */
/* The GPIO driver: a table for the harness, its user pointer, and the system calls it makes. */
#ifndef KEI_DEVICE_GPIO_H
#define KEI_DEVICE_GPIO_H

#include <kubeedge/drivers.h>

#include "base/error.h"
#include "base/loop.h"

/* What reaches a chip; for a stand-in. Both return as the calls of the system do, with errno. */
struct kei_gpio_calls {
    void *user;
    int (*open)(void *user, const char *path, int flags);
    int (*ioctl)(void *user, int fd, unsigned long request, void *arg);
};

struct kei_gpio;

/* c and calls may be NULL, calls is copied. detach of the table frees it. KE_EABI, KE_ENOMEM */
int kei_gpio_new(struct kei_gpio **ret, struct ke_ctx *ctx, const struct ke_gpio_config *c,
                 const struct kei_gpio_calls *calls);
void kei_gpio_free(struct kei_gpio *g); /* only if it was never attached; NULL is fine */
extern const struct ke_device_ops kei_gpio_ops;

/* ---- lines ---- */

enum kei_gpio_bias {
    KEI_GPIO_BIAS_AS_IS,
    KEI_GPIO_BIAS_NONE,
    KEI_GPIO_PULL_UP,
    KEI_GPIO_PULL_DOWN,
};
enum kei_gpio_drive {
    KEI_GPIO_PUSH_PULL,
    KEI_GPIO_OPEN_DRAIN,
    KEI_GPIO_OPEN_SOURCE,
};

struct kei_gpio_want {
    char line[40];
    bool output, active_low;
    int initial; /* -1: what the line has now */
    uint32_t bias, drive;
    uint32_t debounce_us;
};

struct kei_gpio_line {
    const struct kei_gpio_calls *calls;
    int fd; /* of the request; sysfs: of the value; -1: not open */
    bool sysfs, events;
    uint32_t number;
};

/* Takes the line of the chip for us, by its character device, or by sysfs if there is none. Text
 * names chip and line. KE_ENOTFOUND, KE_EBUSY, KE_EACCES, KE_EINVAL, ... */
int kei_gpio_line_open(struct kei_gpio_line *l, const struct kei_gpio_calls *calls,
                       const char *dev_folder, const char *sys_folder, const char *chip,
                       const struct kei_gpio_want *w, struct ke_error *err);
void kei_gpio_line_close(struct kei_gpio_line *l);
int kei_gpio_line_get(struct kei_gpio_line *l, bool *ret, struct ke_error *err);
int kei_gpio_line_set(struct kei_gpio_line *l, bool on, struct ke_error *err);
/* Reads the events that wait. false: there were none */
bool kei_gpio_line_drain(struct kei_gpio_line *l);

#endif
