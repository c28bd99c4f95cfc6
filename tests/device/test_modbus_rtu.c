/* SPDX-License-Identifier: Apache-2.0 */
/* The Modbus driver on a serial line: slaves at the other end of a pty, noise, and an unplugged
 * line. */
#include "driver_rig.h"
#include "modbus_slave.h"

#include <fcntl.h>
#include <sys/file.h>
#include <termios.h>
#include <unistd.h>

#include "device/modbus.h"
#include "device/serial.h"

#define HOLDING(at, more) "{\"register\":\"HoldingRegister\",\"offset\":" #at more "}"

struct bench {
    struct rig rig;
    struct modbus_slave slave;
    struct rig_device d;
};

static const struct rig_property two[] = {{HOLDING(10, ""), KE_DEVICE_INT},
                                          {HOLDING(11, ""), KE_DEVICE_INT}};

static void setup(struct bench *b)
{
    struct kei_modbus *m = NULL;

    rig_init(&b->rig, 0);
    b->rig.env.idle_ms = 100; /* a worker of the kernel carries the bytes of a pty: on a busy machine, late */
    slave_init(&b->slave, b->rig.env.ctx);
    slave_pty(&b->slave);
    assert_int_equal(kei_modbus_new(&m, b->rig.env.ctx, NULL), 0);
    rig_driver(&b->rig, &kei_modbus_ops, m);
}

static void teardown(struct bench *b)
{
    test_settle(&b->rig.env);
    slave_close(&b->slave);
    rig_fini(&b->rig);
}

static int open_slave(struct bench *b, struct rig_device *d, unsigned slave, const char *more)
{
    static char text[8][200];
    static unsigned at;
    char *s = text[at++ % 8];

    snprintf(s, sizeof text[0], "{\"slaveID\":%u,\"serialPort\":\"%s\"%s}", slave, b->slave.path,
             more);
    return rig_open(&b->rig, d, s, two, 2);
}

static void reads_and_writes(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(open_slave(&b, &b.d, 3,
                                ",\"baudRate\":19200,\"parity\":\"even\",\"stopBits\":1,"
                                "\"customizedValues\":{\"serialType\":\"RS485\"}"),
                     0);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(rig_value(&b.d, 0)->v.i, 310);
    assert_int_equal(rig_value(&b.d, 1)->v.i, 311);
    assert_int_equal(rig_write_int(&b.d, 1, 4711), 0);
    assert_int_equal(b.slave.words[3][11], 4711);
    assert_string_equal(b.slave.log, "3:10+1 3:10+2 6:11+1 ");
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

/* Requests of all slaves go one after the other; who is not there holds the others up only once. */
static void several_slaves_on_a_line(void **state)
{
    static struct rig_device d[5];
    struct bench b;

    (void)state;
    setup(&b);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(open_slave(&b, &d[i], i + 1, ""), 0);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0, 1}, 2), 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(test_drive(&b.rig.env, rig_ended, &d[i]));
        assert_int_equal(d[i].status, 0);
        assert_int_equal(rig_value(&d[i], 1)->v.i, 100 * (i + 1) + 11);
    }
    assert_int_equal(open_slave(&b, &b.d, 77, ""), KE_ETIMEDOUT);
    assert_non_null(strstr(b.d.text, "slave 77 at /dev/pts/"));
    assert_non_null(strstr(b.d.text, "there was no answer within 1000 ms"));
    assert_int_equal(rig_close(&b.d), 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(rig_read_all(&d[i]), 0);
        assert_int_equal(rig_close(&d[i]), 0);
    }
    teardown(&b);
}

static void damaged_answers(void **state)
{
    static const struct {
        enum slave_fault fault;
        const char *text;
    } t[] = {
        {SLAVE_GARBLE, "the checksum of the answer was wrong"},
        {SLAVE_BREAK_OFF, "the answer broke off after"},
        {SLAVE_OTHER, "slave 99 answered instead of slave 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct bench b;
        setup(&b);
        assert_int_equal(open_slave(&b, &b.d, 3, ""), 0);
        b.slave.fault = t[i].fault;
        b.slave.faults = 1; /* once: asked again, nobody notices */
        uint32_t before = b.slave.requests;
        assert_int_equal(rig_read_all(&b.d), 0);
        assert_int_equal(b.slave.requests - before, 2);
        b.slave.faults = 2;
        assert_int_equal(rig_read_all(&b.d), KE_EIO);
        if (!strstr(b.d.text, t[i].text))
            fail_msg("%s", b.d.text);
        assert_int_equal(rig_read_all(&b.d), 0); /* the line is in step again */
        assert_int_equal(rig_value(&b.d, 1)->v.i, 311);
        b.slave.faults = 1; /* writes are not repeated */
        assert_int_equal(rig_write_int(&b.d, 0, 5), KE_EIO);
        assert_int_equal(rig_close(&b.d), 0);
        teardown(&b);
    }
}

static void retries_may_be_none(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(open_slave(&b, &b.d, 3, ",\"collectRetryTimes\":0"), 0);
    b.slave.fault = SLAVE_GARBLE;
    b.slave.faults = 1;
    assert_int_equal(rig_read_all(&b.d), KE_EIO);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

/* Bytes that nobody asked for, before a request, do not become its answer. */
static void noise_between_requests(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(open_slave(&b, &b.d, 3, ""), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(write(b.slave.fd.fd, "\x03\x03\x04\x00\x01\x00", 6), 6);
        test_settle(&b.rig.env);
        assert_int_equal(rig_read_all(&b.d), 0);
        assert_int_equal(rig_value(&b.d, 0)->v.i, 310);
    }
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void unplugged(void **state)
{
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(open_slave(&b, &b.d, 3, ""), 0);
    b.slave.fault = SLAVE_HANG_UP; /* while an answer is awaited */
    b.slave.faults = 1;
    assert_int_equal(rig_read_all(&b.d), KE_ECLOSED);
    assert_non_null(strstr(b.d.text, "the serial line was closed at its other end or unplugged"));
    /* and it stays away: the device node is gone, or is of nobody */
    int r = rig_read_all(&b.d);
    assert_true(r == KE_ECONN || r == KE_ECLOSED || r == KE_EIO);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
    /* while nothing happens */
    setup(&b);
    assert_int_equal(open_slave(&b, &b.d, 3, ""), 0);
    slave_close(&b.slave);
    test_settle(&b.rig.env);
    r = rig_read_all(&b.d);
    assert_true(r == KE_ECONN || r == KE_ECLOSED || r == KE_EIO);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void settings_that_contradict(void **state)
{
    static struct rig_device other;
    struct bench b;

    (void)state;
    setup(&b);
    assert_int_equal(open_slave(&b, &b.d, 3, ",\"baudRate\":9600"), 0);
    assert_int_equal(open_slave(&b, &other, 4, ",\"baudRate\":19200"), KE_EBUSY);
    assert_non_null(strstr(other.text, "in use by another device with other settings"));
    assert_int_equal(rig_close(&other), 0);
    assert_int_equal(rig_close(&b.d), 0);
    test_drive_ms(&b.rig.env, 1);
    assert_int_equal(open_slave(&b, &other, 4, ",\"baudRate\":19200"), 0);
    assert_int_equal(rig_close(&other), 0);
    teardown(&b);
}

static void ports_that_cannot_be_opened(void **state)
{
    static const struct {
        const char *config;
        int status;
        const char *text;
    } t[] = {
        {"{\"slaveID\":1,\"serialPort\":\"/dev/no-such-port\"}", KE_ENOTFOUND,
         "could not open serial port /dev/no-such-port"},
        {"{\"slaveID\":1,\"serialPort\":\"/dev/null\"}", KE_ECONN, "/dev/null is no serial port"},
    };
    struct bench b;

    (void)state;
    setup(&b);
    for (size_t i = 0; i < 2; i++) {
        int r = rig_open(&b.rig, &b.d, t[i].config, two, 2);
        assert_true(r < 0 && r != KE_EINVAL && r != KE_EPARSE); /* it may be plugged in yet */
        if (!strstr(b.d.text, t[i].text))
            fail_msg("%s", b.d.text);
        assert_int_equal(rig_close(&b.d), 0);
    }
    /* another program has it */
    int fd = open(b.slave.path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_true(open_slave(&b, &b.d, 3, "") < 0);
    assert_non_null(strstr(b.d.text, "is in use by another program"));
    assert_int_equal(rig_close(&b.d), 0);
    close(fd);
    teardown(&b);
}

static void the_line_is_set_up(void **state)
{
    struct kei_serial_config c = {.baud = 57600, .data_bits = 8, .stop_bits = 2};
    struct modbus_slave slave;
    struct test_env env;
    struct termios t;
    int fd = -1;

    (void)state;
    test_env_init(&env, 0);
    slave_init(&slave, env.ctx);
    slave_pty(&slave);
    c.path = slave.path;
    assert_int_equal(kei_serial_open(&fd, &c, NULL, NULL), 0);
    assert_int_equal(tcgetattr(fd, &t), 0);
    assert_int_equal(cfgetospeed(&t), B57600);
    assert_true(t.c_cflag & CSTOPB);
    assert_int_equal(t.c_lflag & (ICANON | ECHO | ISIG), 0);
    assert_int_equal(t.c_oflag & OPOST, 0);
    assert_int_equal(t.c_cc[VMIN], 1);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(kei_serial_char_bits(&c), 11);
    close(fd);
    slave_close(&slave);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(reads_and_writes),         KE_TEST(several_slaves_on_a_line),
        KE_TEST(damaged_answers),          KE_TEST(retries_may_be_none),
        KE_TEST(noise_between_requests),   KE_TEST(unplugged),
        KE_TEST(settings_that_contradict), KE_TEST(ports_that_cannot_be_opened),
        KE_TEST(the_line_is_set_up),
    };

    if (!test_has_pty())
        return 77; /* skipped */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
