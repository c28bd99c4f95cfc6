/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Modbus slave of the tests that can misbehave: on TCP in the test's own loop, or at the other
 * end of a pty. Holds 200 holding and input registers and 200 coils and inputs for every slave
 * number up to 5; register i of slave s holds 100 * s + i at first.
 */
#ifndef TEST_MODBUS_SLAVE_H
#define TEST_MODBUS_SLAVE_H

#include "support/support.h"

#include "base/buf.h"
#include "device/modbus_frame.h"
#include "net/stream.h"

#define SLAVE_REGISTERS 200
#define SLAVES 6

enum slave_fault {
    SLAVE_WELL,
    SLAVE_MUTE,      /* no answer */
    SLAVE_GARBLE,    /* a wrong bit */
    SLAVE_BREAK_OFF, /* half of an answer */
    SLAVE_OTHER,     /* answers as another slave, with another transaction number */
    SLAVE_LATE,      /* answers only when the next request comes, before that one's */
    SLAVE_HANG_UP,   /* ends the connection */
};

struct modbus_slave {
    struct ke_ctx *ctx;
    uint16_t words[SLAVES][SLAVE_REGISTERS];
    uint8_t bits[SLAVES][SLAVE_REGISTERS];
    enum slave_fault fault;
    uint32_t faults;      /* how many requests it is for; then well again */
    int bad_from, bad_to; /* registers that do not exist */
    uint32_t max_count;   /* more registers at once are refused; 0: the standard's limit */
    bool no_single;       /* functions 5 and 6 are not known */
    uint8_t exception;    /* to every request, if not 0 */
    uint32_t mute, muted; /* bits of slaves that do not answer; how often they did not */
    uint32_t requests;
    char log[4096]; /* "FUNCTION:ADDRESS+COUNT " of each */
    /* TCP */
    struct kei_listener *listener;
    struct kei_stream *stream;
    uint32_t connections;
    struct ke_buf held; /* what SLAVE_LATE keeps */
    /* pty */
    struct kei_fd fd;
    int hold; /* keeps the line up while nobody has opened it */
    char path[64];
    uint8_t in[512];
    size_t in_n;
};

void slave_init(struct modbus_slave *s, struct ke_ctx *ctx);
uint16_t slave_listen(struct modbus_slave *s);
void slave_listen_at(struct modbus_slave *s, uint16_t port); /* again, after slave_close */
void slave_pty(struct modbus_slave *s);                      /* path is what the master opens */
void slave_close(struct modbus_slave *s);

#endif
