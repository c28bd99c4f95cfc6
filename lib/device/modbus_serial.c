/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Modbus bus over a serial line: one request at a time, silence between frames, an answer that
 * was damaged is waited out before anything new is sent. Loop thread.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "device/modbus_bus_priv.h"

int kei_bus_serial_init(struct kei_modbus_bus *b)
{
    uint32_t bits = kei_serial_char_bits(&b->conf.serial);

    b->rtu = kei_zalloc(b->alloc, sizeof *b->rtu);
    if (!b->rtu)
        return KE_ENOMEM;
    b->rtu->bus = b;
    b->rtu->fd.fd = -1;
    b->rtu->char_us = 1000000u / b->conf.serial.baud * bits;
    /* timers count whole milliseconds, and the first of them may be nearly over */
    b->rtu->silence_ms = (kei_rtu_silence_us(b->conf.serial.baud, bits) + 999) / 1000 + 1;
    return 0;
}

void kei_bus_serial_down(struct kei_modbus_bus *b)
{
    if (!b->rtu || b->rtu->fd.fd < 0)
        return;
    int fd = b->rtu->fd.fd;
    kei_fd_remove(&b->rtu->fd);
    b->rtu->fd.fd = -1;
    close(fd);
    kei_timer_stop(&b->timer);
    b->state = KEI_BUS_DOWN;
}

static void wait_for_silence(struct kei_modbus_bus *b)
{
    b->state = KEI_BUS_SILENCE;
    kei_timer_in(&b->timer, b->rtu->silence_ms);
}

/* The call that is under way, taken out. */
static struct kei_modbus_call *take(struct kei_modbus_bus *b)
{
    struct kei_modbus_call *c = b->slots[0].call;

    b->slots[0] = (struct kei_bus_slot){0};
    return c;
}

static void lost(struct kei_modbus_bus *b, int errnum)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_modbus_call *c = take(b);

    kei_error_errno(&err, errnum ? errnum : EIO,
                    "the serial line was closed at its other end or unplugged");
    err.code = KE_ECLOSED;
    kei_bus_serial_down(b);
    if (c)
        kei_bus_fail(c, err.code, err.text);
    kei_bus_refuse(b, err.code, err.text);
}

/* An answer that is of no use: asked once more if the call wants that. */
static void damaged(struct kei_modbus_bus *b, int status, const char *text)
{
    struct kei_modbus_call *c = take(b);

    wait_for_silence(b);
    if (!c)
        return;
    if (c->retries > 0 && kei_modbus_is_read(c->ask.function)) {
        c->retries--;
        kei_bus_again(b, c);
        return;
    }
    kei_bus_fail(c, status, text);
}

static void on_bytes(struct kei_modbus_bus *b)
{
    struct kei_bus_slot *s = &b->slots[0];
    struct ke_error err = KE_ERROR_INIT;
    struct kei_modbus_end e = {0, "", 0, {NULL, 0}};
    struct kei_modbus_frame f;
    size_t used;

    int r = kei_rtu_decode(kei_strn((const char *)b->rtu->in, b->rtu->in_n), s->slave, s->function,
                           &f, &used, &err);
    if (r == 0 && used == 0 && b->rtu->in_n == sizeof b->rtu->in)
        r = kei_error(&err, KE_EPROTO, "the answer was malformed: it does not end");
    if (r < 0) {
        damaged(b, KE_EIO, err.text); /* a line that garbles, not a peer of another kind */
        return;
    }
    if (used == 0)
        return;
    uint8_t slave = b->slots[0].slave;
    struct kei_modbus_call *c = take(b);
    kei_bus_alive(b, slave);
    wait_for_silence(b);
    if (!c)
        return;
    e.status = kei_modbus_parse(&c->ask, f.pdu, &e.data, &e.exception, &err);
    e.text = err.text;
    kei_bus_end(c, &e);
}

/* Reads what is there. False: the line is gone, nothing of b is left open. */
static bool read_line(struct kei_modbus_bus *b)
{
    for (;;) {
        bool want = b->state == KEI_BUS_WAITING;
        uint8_t trash[KEI_RTU_MAX];
        uint8_t *to = want ? b->rtu->in + b->rtu->in_n : trash;
        ssize_t n = read(b->rtu->fd.fd, to, want ? sizeof b->rtu->in - b->rtu->in_n : sizeof trash);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (n <= 0) {
            lost(b, n < 0 ? errno : 0);
            return false;
        }
        if (want) {
            b->rtu->in_n += (size_t)n;
            on_bytes(b);
            if (b->rtu->fd.fd < 0)
                return false;
        } else if (b->state == KEI_BUS_SILENCE) {
            kei_timer_in(&b->timer, b->rtu->silence_ms); /* it is not silent yet */
        }
    }
}

static void send_more(struct kei_modbus_bus *b)
{
    while (b->rtu->out_sent < b->rtu->out_n) {
        ssize_t n =
            write(b->rtu->fd.fd, b->rtu->out + b->rtu->out_sent, b->rtu->out_n - b->rtu->out_sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            kei_fd_set(&b->rtu->fd, KEI_IN | KEI_OUT);
            return; /* the timer runs already */
        }
        if (n < 0) {
            lost(b, errno);
            return;
        }
        b->rtu->out_sent += (size_t)n;
    }
    kei_fd_set(&b->rtu->fd, KEI_IN);
    b->state = KEI_BUS_WAITING;
    b->rtu->in_n = 0;
}

static void on_fd(struct kei_fd *f, uint32_t events)
{
    struct kei_modbus_bus *b = KEI_OF(f, struct kei_bus_rtu, fd)->bus;

    if (events & (KEI_IN | KEI_ERR)) {
        if (!read_line(b))
            return;
        if (events & KEI_ERR) { /* hung up, and nothing left to read */
            lost(b, 0);
            return;
        }
    }
    if (events & KEI_OUT && b->state == KEI_BUS_SENDING)
        send_more(b);
}

static int open_line(struct kei_modbus_bus *b)
{
    bool rs485 = false;
    int fd = -1;

    int r = kei_serial_open(&fd, &b->conf.serial, &rs485, kei_err(b->ctx));
    if (r < 0)
        return r;
    r = kei_fd_add(b->ctx, &b->rtu->fd, fd, KEI_IN, on_fd);
    if (r < 0) {
        close(fd);
        b->rtu->fd.fd = -1;
        return r;
    }
    b->answered = b->silent = 0;
    b->state = KEI_BUS_UP;
    return 0;
}

static void send_call(struct kei_modbus_bus *b, struct kei_modbus_call *c)
{
    struct kei_modbus_pdu pdu;

    if (kei_modbus_build(&pdu, &c->ask, kei_err(b->ctx)) < 0) {
        kei_bus_fail(c, KE_EINVAL, ke_ctx_error(b->ctx));
        return;
    }
    b->slots[0] = (struct kei_bus_slot){
        .call = c, .slave = c->slave, .function = c->ask.function, .used = true};
    b->rtu->out_n = kei_rtu_encode(b->rtu->out, c->slave, &pdu);
    b->rtu->out_sent = 0;
    b->state = KEI_BUS_SENDING;
    /* the line needs its time for the request and for the longest answer */
    int64_t line_ms = (int64_t)(b->rtu->out_n + KEI_RTU_MAX) * b->rtu->char_us / 1000;
    kei_timer_in(&b->timer, c->timeout_ms + line_ms);
    send_more(b);
}

void kei_bus_serial_pump(struct kei_modbus_bus *b)
{
    if (b->state == KEI_BUS_DOWN) {
        int r = open_line(b);
        if (r < 0) {
            kei_bus_refuse(b, r, ke_ctx_error(b->ctx));
            return;
        }
    }
    if (b->state != KEI_BUS_UP || !read_line(b)) /* drops what nobody asked for */
        return;
    while (b->state == KEI_BUS_UP && b->queued > 0) {
        struct kei_modbus_call *c = kei_bus_next(b);
        if (c->ask.function == 0)
            kei_bus_fail(c, 0, "");
        else
            send_call(b, c);
    }
}

void kei_bus_serial_timer(struct kei_modbus_bus *b)
{
    char text[80];

    if (b->state == KEI_BUS_SILENCE) {
        b->state = KEI_BUS_UP;
        if (b->queued > 0)
            kei_bus_kick(b);
        return;
    }
    struct kei_modbus_call *c = b->slots[0].call;
    if (b->state == KEI_BUS_WAITING && b->rtu->in_n > 0) {
        snprintf(text, sizeof text, "the answer broke off after %zu bytes", b->rtu->in_n);
        damaged(b, KE_EIO, text);
        return;
    }
    if (c && b->state == KEI_BUS_WAITING)
        snprintf(text, sizeof text, "there was no answer within %u ms", c->timeout_ms);
    else
        snprintf(text, sizeof text, "the request could not be sent: the line takes nothing");
    if (c && b->state == KEI_BUS_WAITING)
        kei_bus_missed(b, c->slave, c->timeout_ms);
    take(b);
    kei_fd_set(&b->rtu->fd, KEI_IN);
    wait_for_silence(b);
    if (c)
        kei_bus_fail(c, KE_ETIMEDOUT, text);
}
