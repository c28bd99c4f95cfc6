/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that somebody else serves, a mapper: the harness opens none of these, reports nothing of
 * them, and shows who does. Loop thread.
 */
#ifndef KEI_DEVICE_FOREIGN_H
#define KEI_DEVICE_FOREIGN_H

#include <stdbool.h>

#include <kubeedge/device.h>

/* What is known of such a device. Borrowed until the next turn. */
struct kei_foreign {
    const char *by;
    const char *state; /* "" if not known */
    const char *error; /* "" if none */
    bool reachable;
    int64_t report_ms; /* Unix time of the last report; 0: none */
    uint64_t reports;
};
/* 1: somebody else serves that protocol (ret, unless NULL, is filled); 0: nobody; KE_EAGAIN: that
 * is not known yet. */
typedef int (*kei_foreign_fn)(void *user, const char *protocol, const char *ns, const char *name,
                              struct kei_foreign *ret);
/* NULL: nobody. Before the first turn of the loop. */
void kei_devices_foreign(struct ke_devices *d, kei_foreign_fn fn, void *user);
/* Who serves what has changed. */
void kei_devices_foreign_changed(struct ke_devices *d);
/* The driver of that protocol yields to others; those that do not are asked for by name, or the
 * host's own. */
void kei_devices_yielding(struct ke_devices *d, const char *protocol);
/* Whether a protocol has a driver here that does not yield. */
bool kei_devices_insist(struct ke_devices *d, const char *protocol);

#endif
