/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the bus share: the queue on one side, a line on the other. Loop thread. */
#ifndef KEI_DEVICE_MODBUS_BUS_PRIV_H
#define KEI_DEVICE_MODBUS_BUS_PRIV_H

#include "base/backoff.h"
#include "device/modbus_bus.h"
#include "device/modbus_frame.h"
#include "net/stream.h"

enum kei_bus_state {
    KEI_BUS_DOWN,
    KEI_BUS_CONNECTING, /* TCP */
    KEI_BUS_UP,         /* TCP: sends and receives; serial: the line is silent, may send */
    KEI_BUS_SENDING,    /* serial, as below */
    KEI_BUS_WAITING,    /* for the answer */
    KEI_BUS_SILENCE,    /* until nothing came for a while */
};

/* A request under way. The call is NULL when nobody waits for the answer any more. */
struct kei_bus_slot {
    struct kei_modbus_call *call;
    int64_t due_ms;
    uint16_t transaction;
    uint8_t slave, function;
    bool used;
};

/* What a serial line has besides. */
struct kei_bus_rtu {
    struct kei_fd fd; /* fd.fd -1: closed */
    struct kei_modbus_bus *bus;
    uint32_t silence_ms;
    uint32_t char_us;
    size_t out_n, out_sent, in_n;
    uint8_t out[KEI_RTU_MAX], in[KEI_RTU_MAX];
};

struct kei_modbus_bus {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    const char *name;
    struct kei_modbus_bus_config conf;
    enum kei_bus_state state;
    struct kei_link urgent, queue;
    uint32_t queued;
    uint32_t silent;           /* requests without any answer since the last one that had one */
    uint32_t answered;         /* on this connection */
    uint8_t good[32], bad[32]; /* bits of slaves: answered last time, did not */
    uint32_t n_good, n_bad;
    int64_t probe_ms; /* no bad one is asked before, while there are good ones */
    struct kei_defer pump;
    struct kei_timer timer; /* TCP: the next slot due; serial: answer due, silence over */
    struct kei_backoff backoff;
    int64_t hold_until_ms; /* no new attempt before; what is asked meanwhile fails with why */
    int why_status;
    char *why;
    struct kei_bus_slot *slots; /* as many as pipeline */
    struct kei_stream *stream;  /* TCP */
    uint16_t transaction;
    struct kei_bus_rtu *rtu; /* serial line */
};

/* ---- the queue, for the lines ---- */

/* The next call, taken out; NULL if there is none. */
struct kei_modbus_call *kei_bus_next(struct kei_modbus_bus *b);
/* Puts it back to the front. */
void kei_bus_again(struct kei_modbus_bus *b, struct kei_modbus_call *c);
void kei_bus_end(struct kei_modbus_call *c, const struct kei_modbus_end *e);
void kei_bus_fail(struct kei_modbus_call *c, int status, const char *text);
/* The line could not be opened, or died without a single answer: everything that waits fails, and
 * so does what comes before a pause is over. */
void kei_bus_refuse(struct kei_modbus_bus *b, int status, const char *text);
/* An answer came: the line works, and slave (-1: not known) with it. */
void kei_bus_alive(struct kei_modbus_bus *b, int slave);
/* No answer came within timeout_ms. */
void kei_bus_missed(struct kei_modbus_bus *b, uint8_t slave, uint32_t timeout_ms);
/* Calls the line's pump later in this turn. */
void kei_bus_kick(struct kei_modbus_bus *b);

/* ---- the lines ---- */

void kei_bus_tcp_pump(struct kei_modbus_bus *b);
void kei_bus_tcp_timer(struct kei_modbus_bus *b);
void kei_bus_tcp_down(struct kei_modbus_bus *b);   /* closes; tells nobody */
int kei_bus_serial_init(struct kei_modbus_bus *b); /* KE_ENOMEM */
void kei_bus_serial_pump(struct kei_modbus_bus *b);
void kei_bus_serial_timer(struct kei_modbus_bus *b);
void kei_bus_serial_down(struct kei_modbus_bus *b); /* legal on any bus */

#endif
