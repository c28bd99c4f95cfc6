/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Modbus bus: one TCP connection or serial line, and the queue of what is asked of the slaves on
 * it. Connects when something is asked, connects anew after a loss. Calls are embedded by their
 * user and stay his; all on the loop's thread.
 */
#ifndef KEI_DEVICE_MODBUS_BUS_H
#define KEI_DEVICE_MODBUS_BUS_H

#include "base/list.h"
#include "base/loop.h"
#include "device/modbus_pdu.h"
#include "device/serial.h"

#define KEI_MODBUS_PIPELINE_MAX 16
#define KEI_MODBUS_QUEUE_MAX 65536

struct kei_modbus_bus;
struct kei_modbus_call;

struct kei_modbus_bus_config {
    const char *host; /* TCP; NULL for a serial line */
    uint16_t port;
    uint16_t pipeline; /* requests under way at once, TCP only */
    uint32_t connect_ms;
    struct kei_serial_config serial;
};

/* How a call ended; borrowed during done. */
struct kei_modbus_end {
    int status;         /* 0 or KE_E* */
    const char *text;   /* what went wrong, "" if nothing; does not name the bus */
    uint8_t exception;  /* the slave answered, with this; 0: it did not, or all went well */
    struct ke_str data; /* what was read */
};
typedef void (*kei_modbus_done_fn)(struct kei_modbus_call *c, const struct kei_modbus_end *e);

/*
 * One request. The user fills the first part, the rest is zero. Function 0 asks nothing: it ends
 * when the bus is connected.
 */
struct kei_modbus_call {
    struct kei_modbus_ask ask; /* its data stay valid until the end */
    kei_modbus_done_fn done;   /* once, never from within kei_modbus_bus_call; may ask again */
    uint32_t timeout_ms;       /* from when it is sent */
    uint8_t slave;
    uint8_t retries; /* of reads whose answer was damaged */
    bool urgent;     /* before all that are not */
    bool stale;      /* the bus's: was sent on a connection that had died meanwhile */
    struct kei_modbus_bus *bus;
    struct kei_link link;
};

/* Strings are copied. KE_ENOMEM, KE_EINVAL. */
int kei_modbus_bus_new(struct kei_modbus_bus **ret, struct ke_ctx *ctx,
                       const struct kei_modbus_bus_config *c);
/* No call of it is told any more. Not from a done function. NULL is fine. */
void kei_modbus_bus_free(struct kei_modbus_bus *b);
/* "127.0.0.1:502", "/dev/ttyS0" */
const char *kei_modbus_bus_name(const struct kei_modbus_bus *b);
/* True if a bus of this configuration is the same as b in all that matters on the line. */
bool kei_modbus_bus_same(const struct kei_modbus_bus *b, const struct kei_modbus_bus_config *c);
/* KE_ELIMIT: too much waits already; KE_EINVAL: nobody can be asked this. Text in the context. */
int kei_modbus_bus_call(struct kei_modbus_bus *b, struct kei_modbus_call *c);
/* done is not called any more. Safe when it is not under way. */
void kei_modbus_call_cancel(struct kei_modbus_call *c);

#endif
