/* SPDX-License-Identifier: Apache-2.0 */
#include "modbus_slave.h"

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

void slave_init(struct modbus_slave *s, struct ke_ctx *ctx)
{
    memset(s, 0, sizeof *s);
    s->ctx = ctx;
    s->fd.fd = s->hold = -1;
    s->bad_from = s->bad_to = -1;
    for (unsigned n = 0; n < SLAVES; n++) {
        for (unsigned i = 0; i < SLAVE_REGISTERS; i++) {
            s->words[n][i] = (uint16_t)(100 * n + i);
            s->bits[n][i] = (uint8_t)(i % 3 == 0);
        }
    }
}

static unsigned get16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void except(struct kei_modbus_pdu *out, const uint8_t *p, uint8_t exception)
{
    out->p[0] = p[0] | 0x80;
    out->p[1] = exception;
    out->n = 2;
}

/* The answer of a slave that works. */
static void answer(struct modbus_slave *s, unsigned slave, const uint8_t *p,
                   struct kei_modbus_pdu *out)
{
    unsigned at = get16(p + 1), count = p[0] == 5 || p[0] == 6 ? 1 : get16(p + 3);
    bool bits = p[0] == 1 || p[0] == 2 || p[0] == 5 || p[0] == 15;
    size_t used = strlen(s->log);

    s->requests++;
    if (used < sizeof s->log - 30)
        snprintf(s->log + used, sizeof s->log - used, "%u:%u+%u ", p[0], at, count);
    if (s->exception) {
        except(out, p, s->exception);
        return;
    }
    if (s->no_single && (p[0] == 5 || p[0] == 6)) {
        except(out, p, 1);
        return;
    }
    if (s->max_count && count > s->max_count) {
        except(out, p, 3);
        return;
    }
    if (slave >= SLAVES || at + count > SLAVE_REGISTERS ||
        ((int)(at + count) > s->bad_from && (int)at <= s->bad_to)) {
        except(out, p, 2);
        return;
    }
    out->p[0] = p[0];
    if (p[0] <= 4) {
        out->p[1] = (uint8_t)(bits ? (count + 7) / 8 : count * 2);
        memset(out->p + 2, 0, out->p[1]);
        for (unsigned i = 0; i < count; i++) {
            if (bits)
                out->p[2 + i / 8] |= (uint8_t)(s->bits[slave][at + i] << i % 8);
            else
                put16(out->p + 2 + 2 * i, s->words[slave][at + i]);
        }
        out->n = 2u + out->p[1];
        return;
    }
    memcpy(out->p, p, 5);
    out->n = 5;
    for (unsigned i = 0; i < count; i++) {
        if (p[0] == 5)
            s->bits[slave][at] = p[3] == 0xff;
        else if (p[0] == 6)
            s->words[slave][at] = (uint16_t)get16(p + 3);
        else if (bits)
            s->bits[slave][at + i] = p[6 + i / 8] >> i % 8 & 1;
        else
            s->words[slave][at + i] = (uint16_t)get16(p + 6 + 2 * i);
    }
}

static enum slave_fault take_fault(struct modbus_slave *s)
{
    if (s->faults == 0)
        return SLAVE_WELL;
    s->faults--;
    return s->fault;
}

/* ---- TCP ---- */

static size_t on_data(void *user, const char *p, size_t n)
{
    struct modbus_slave *s = user;
    size_t at = 0;

    for (;;) {
        struct kei_modbus_frame f;
        struct kei_modbus_pdu out;
        uint8_t frame[KEI_MBAP_MAX];
        size_t used;
        assert_int_equal(kei_mbap_decode(kei_strn(p + at, n - at), &f, &used, NULL), 0);
        if (used == 0)
            return at;
        at += used;
        if (s->mute >> f.slave & 1) {
            s->muted++;
            continue;
        }
        answer(s, f.slave, (const uint8_t *)f.pdu.p, &out);
        size_t size = kei_mbap_encode(frame, f.transaction, f.slave, &out);
        switch (take_fault(s)) {
        case SLAVE_MUTE:
            continue;
        case SLAVE_GARBLE:
            frame[2] = 0x5a; /* the protocol */
            break;
        case SLAVE_BREAK_OFF:
            size /= 2;
            break;
        case SLAVE_OTHER:
            frame[0] ^= 0x55;
            break;
        case SLAVE_LATE:
            kei_buf_add(&s->held, frame, size);
            continue;
        case SLAVE_HANG_UP:
            kei_stream_free(s->stream);
            s->stream = NULL;
            return n;
        case SLAVE_WELL:
            break;
        }
        if (s->held.n) {
            assert_int_equal(kei_stream_write(s->stream, s->held.p, s->held.n), 0);
            kei_buf_clear(&s->held);
        }
        assert_int_equal(kei_stream_write(s->stream, frame, size), 0);
    }
}

static void on_closed(void *user, int status, const char *text)
{
    struct modbus_slave *s = user;

    (void)status, (void)text;
    kei_stream_free(s->stream);
    s->stream = NULL;
}

static void on_accept(void *user, struct kei_stream *stream)
{
    static const struct kei_stream_ops ops = {.data = on_data, .closed = on_closed};
    struct modbus_slave *s = user;

    kei_stream_free(s->stream);
    s->stream = stream;
    s->connections++;
    kei_stream_set_ops(stream, &ops, s);
}

uint16_t slave_listen(struct modbus_slave *s)
{
    struct kei_listener_config c = {.host = "127.0.0.1"};

    assert_int_equal(kei_listen(&s->listener, s->ctx, &c, on_accept, s), 0);
    return kei_listener_port(s->listener);
}

void slave_listen_at(struct modbus_slave *s, uint16_t port)
{
    struct kei_listener_config c = {.host = "127.0.0.1", .port = port};

    assert_int_equal(kei_listen(&s->listener, s->ctx, &c, on_accept, s), 0);
}

/* ---- pty ---- */

static size_t request_size(const uint8_t *p, size_t n)
{
    if (n < 7)
        return 8;
    return p[1] == 15 || p[1] == 16 ? 9u + p[6] : 8;
}

static void on_request(struct modbus_slave *s, const uint8_t *p)
{
    struct kei_modbus_pdu out;
    uint8_t frame[KEI_RTU_MAX];
    enum slave_fault fault = take_fault(s);

    if (s->mute >> p[0] & 1) {
        s->muted++;
        return;
    }
    answer(s, p[0], p + 1, &out);
    if (p[0] >= SLAVES)
        return; /* nobody of that number is on the line */
    size_t size = kei_rtu_encode(frame, fault == SLAVE_OTHER ? 99 : p[0], &out);
    if (fault == SLAVE_MUTE)
        return;
    if (fault == SLAVE_GARBLE)
        frame[size - 3] ^= 0x10;
    if (fault == SLAVE_BREAK_OFF)
        size /= 2;
    if (fault == SLAVE_HANG_UP) {
        slave_close(s);
        return;
    }
    assert_int_equal(write(s->fd.fd, frame, size), size);
}

static void on_fd(struct kei_fd *f, uint32_t events)
{
    struct modbus_slave *s = KEI_OF(f, struct modbus_slave, fd);

    (void)events;
    ssize_t n = read(f->fd, s->in + s->in_n, sizeof s->in - s->in_n);
    if (n <= 0)
        return; /* the master has not opened its end yet, or closed it */
    s->in_n += (size_t)n;
    while (s->in_n >= 8 && s->in_n >= request_size(s->in, s->in_n)) {
        size_t size = request_size(s->in, s->in_n);
        uint16_t crc = kei_rtu_crc(s->in, size - 2);
        assert_int_equal(s->in[size - 2], crc & 0xff);
        assert_int_equal(s->in[size - 1], crc >> 8);
        on_request(s, s->in);
        if (s->fd.fd < 0)
            return;
        s->in_n -= size;
        memmove(s->in, s->in + size, s->in_n);
    }
}

void slave_pty(struct modbus_slave *s)
{
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    struct termios t;

    assert_true(fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0);
    assert_int_equal(ptsname_r(fd, s->path, sizeof s->path), 0);
    s->hold = open(s->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(s->hold >= 0);
    assert_int_equal(tcgetattr(fd, &t), 0);
    cfmakeraw(&t);
    assert_int_equal(tcsetattr(fd, TCSANOW, &t), 0);
    assert_int_equal(kei_fd_add(s->ctx, &s->fd, fd, KEI_IN, on_fd), 0);
}

void slave_close(struct modbus_slave *s)
{
    kei_stream_free(s->stream);
    s->stream = NULL;
    kei_listener_free(s->listener);
    s->listener = NULL;
    ke_buf_free(&s->held);
    if (s->fd.fd >= 0) {
        int fd = s->fd.fd;
        kei_fd_remove(&s->fd);
        s->fd.fd = -1;
        close(fd);
        close(s->hold);
    }
}
