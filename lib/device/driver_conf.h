/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Members of a device's configuration and of visitors, with their range, for the drivers of this
 * folder. What is absent keeps its default. Pure, any thread.
 */
#ifndef KEI_DEVICE_DRIVER_CONF_H
#define KEI_DEVICE_DRIVER_CONF_H

#include <kubeedge/device.h>

#include "base/error.h"

struct kei_conf {
    const char *json;
    size_t n;
    const char *const *prefixes; /* places to look in, "" first; NULL: at the top only */
    struct ke_error *err;
};

/* All: 0, also when absent; KE_EINVAL with text that names the member. */
int kei_conf_int(const struct kei_conf *c, const char *name, int64_t min, int64_t max, int64_t *io);
int kei_conf_bool(const struct kei_conf *c, const char *name, bool *io);
/* out keeps its text when absent */
int kei_conf_str(const struct kei_conf *c, const char *name, char *out, size_t cap);
/* One of names (NULL ends them), case ignored; *io is its place among them. */
int kei_conf_enum(const struct kei_conf *c, const char *name, const char *const *names,
                  unsigned *io);
/* A duration: milliseconds below 1,000,000, nanoseconds from there on, as upstream's mappers give
 * it. */
int kei_conf_duration(const struct kei_conf *c, const char *name, uint32_t max_ms, uint32_t *io_ms);

/* 0 or 1 of any value that can be that; texts as people write them for a switch. KE_EINVAL,
 * KE_EPARSE */
int kei_value_truth(const struct ke_device_value *v, bool *ret, struct ke_error *err);

/* The last error of an open device, without an end of anything: what a driver of this folder has to
 * say beside its operations. Loop thread. */
void kei_device_note(struct ke_devices *d, uint64_t device, const char *text);

#endif
