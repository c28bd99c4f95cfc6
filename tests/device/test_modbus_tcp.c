/* SPDX-License-Identifier: Apache-2.0 */
/* The Modbus driver over TCP, with a slave that does as it should, and one that does not. */
#include "driver_rig.h"
#include "modbus_slave.h"

#include "device/modbus.h"

#define HOLDING(at, more) "{\"register\":\"HoldingRegister\",\"offset\":" #at more "}"
#define INPUT(at, more) "{\"register\":\"InputRegister\",\"offset\":" #at more "}"
#define COIL(at, more) "{\"register\":\"CoilRegister\",\"offset\":" #at more "}"
#define DISCRETE(at, more) "{\"register\":\"DiscreteInputRegister\",\"offset\":" #at more "}"

struct bench {
    struct rig rig;
    struct modbus_slave slave;
    struct rig_device d;
    uint16_t port;
};

static void setup(struct bench *b, const struct ke_modbus_config *c)
{
    struct kei_modbus *m = NULL;

    rig_init(&b->rig, 0);
    slave_init(&b->slave, b->rig.env.ctx);
    b->port = slave_listen(&b->slave);
    assert_int_equal(kei_modbus_new(&m, b->rig.env.ctx, c), 0);
    rig_driver(&b->rig, &kei_modbus_ops, m);
}

static void teardown(struct bench *b)
{
    slave_close(&b->slave);
    test_settle(&b->rig.env);
    rig_fini(&b->rig);
}

static const char *config(const struct bench *b, unsigned slave, const char *more)
{
    static char text[4][200];
    static unsigned at;
    char *s = text[at++ % 4];

    snprintf(s, sizeof text[0], "{\"slaveID\":%u,\"ip\":\"127.0.0.1\",\"port\":%u%s}", slave,
             b->port, more);
    return s;
}

static int open_with(struct bench *b, const char *more, const struct rig_property *p, uint32_t n)
{
    int r = rig_open(&b->rig, &b->d, config(b, 2, more), p, n);

    b->slave.log[0] = '\0'; /* without the look whether the slave is there */
    return r;
}

static int64_t value(struct bench *b, uint32_t property)
{
    const struct rig_value *v = rig_value(&b->d, property);

    assert_int_equal(v->v.status, 0);
    return v->v.i;
}

static void neighbours_in_one_request(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(12, ""), KE_DEVICE_INT},     {HOLDING(10, ",\"limit\":2"), KE_DEVICE_INT},
        {INPUT(10, ""), KE_DEVICE_INT},       {HOLDING(20, ""), KE_DEVICE_INT},
        {COIL(3, ""), KE_DEVICE_BOOLEAN},     {COIL(4, ",\"limit\":8"), KE_DEVICE_INT},
        {DISCRETE(3, ""), KE_DEVICE_BOOLEAN},
    };
    struct bench b;

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, "", p, 7), 0);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "1:3+9 2:3+1 4:10+1 3:10+3 3:20+1 ");
    assert_int_equal(b.d.n_values, 7);
    assert_int_equal(value(&b, 0), 212);
    assert_int_equal(value(&b, 1), 210 << 16 | 211);
    assert_int_equal(value(&b, 2), 210);
    assert_int_equal(value(&b, 3), 220);
    assert_int_equal(value(&b, 4), 1);
    assert_int_equal(value(&b, 5), 0x24); /* coils 6 and 9 */
    assert_int_equal(value(&b, 6), 1);
    /* only some of them */
    b.slave.log[0] = '\0';
    assert_int_equal(rig_read(&b.d, (const uint32_t[]){0, 3}, 2), 0);
    assert_string_equal(b.slave.log, "3:12+1 3:20+1 ");
    assert_int_equal(b.d.n_values, 2);
    assert_int_equal(rig_health(&b.d), 0);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void holes_are_read_when_allowed(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(10, ""), KE_DEVICE_INT},
        {HOLDING(15, ""), KE_DEVICE_INT},
        {HOLDING(21, ""), KE_DEVICE_INT},
    };
    struct bench b;

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, ",\"gap\":4", p, 3), 0);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "3:10+6 3:21+1 ");
    assert_int_equal(value(&b, 1), 215);
    /* a register in the hole goes away: from then on the hole is left alone */
    b.slave.bad_from = b.slave.bad_to = 12;
    b.slave.log[0] = '\0';
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "3:10+6 3:10+1 3:15+1 3:21+1 ");
    assert_int_equal(value(&b, 0), 210);
    assert_int_equal(value(&b, 1), 215);
    b.slave.log[0] = '\0';
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "3:10+1 3:15+1 3:21+1 ");
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void a_register_that_does_not_exist(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(10, ""), KE_DEVICE_INT},
        {HOLDING(11, ""), KE_DEVICE_INT},
        {HOLDING(12, ""), KE_DEVICE_INT},
        {HOLDING(13, ""), KE_DEVICE_INT},
    };
    struct bench b;
    char text[160];

    (void)state;
    setup(&b, NULL);
    b.slave.bad_from = b.slave.bad_to = 12;
    assert_int_equal(open_with(&b, "", p, 4), 0);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "3:10+4 3:10+1 3:11+1 3:12+1 3:13+1 ");
    assert_int_equal(value(&b, 3), 213);
    assert_int_equal(rig_value(&b.d, 2)->v.status, KE_ENOTFOUND);
    snprintf(text, sizeof text,
             "slave 2 at 127.0.0.1:%u, holding register 12: illegal data address (exception 2)",
             b.port);
    assert_string_equal(rig_value(&b.d, 2)->text, text);
    /* the others are joined again, around it */
    b.slave.log[0] = '\0';
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "3:10+2 3:12+1 3:13+1 ");
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void a_slave_that_gives_few_at_once(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(10, ""), KE_DEVICE_INT},
        {HOLDING(11, ""), KE_DEVICE_INT},
        {HOLDING(12, ""), KE_DEVICE_INT},
    };
    struct bench b;

    (void)state;
    setup(&b, NULL);
    b.slave.max_count = 1;
    assert_int_equal(open_with(&b, "", p, 3), 0);
    for (int i = 0; i < 5; i++) {
        b.slave.log[0] = '\0';
        assert_int_equal(rig_read_all(&b.d), 0);
        assert_int_equal(value(&b, 2), 212);
    }
    assert_string_equal(b.slave.log, "3:10+1 3:11+1 3:12+1 "); /* it has been learned */
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void more_than_one_request_holds(void **state)
{
    struct rig_property p[RIG_PROPERTIES];
    char visitors[RIG_PROPERTIES][80];
    struct bench b;

    (void)state;
    setup(&b, NULL);
    for (uint32_t i = 0; i < 40; i++) { /* 160 registers in a row */
        snprintf(visitors[i], sizeof visitors[i],
                 "{\"register\":\"HoldingRegister\",\"offset\":%u,\"limit\":4}", i * 4);
        p[i] = (struct rig_property){visitors[i], KE_DEVICE_INT};
    }
    assert_int_equal(open_with(&b, "", p, 40), 0);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_string_equal(b.slave.log, "3:0+124 3:124+36 ");
    assert_int_equal(value(&b, 39) & 0xffff, 200 + 159);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void writes(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(10, ""), KE_DEVICE_INT},
        {HOLDING(11, ",\"limit\":2,\"isRegisterSwap\":true"), KE_DEVICE_FLOAT},
        {COIL(5, ""), KE_DEVICE_BOOLEAN},
        {COIL(6, ",\"limit\":3"), KE_DEVICE_INT},
        {INPUT(3, ""), KE_DEVICE_INT},
        {HOLDING(20, ",\"bit\":4"), KE_DEVICE_BOOLEAN},
        {HOLDING(30, ",\"limit\":3"), KE_DEVICE_STRING},
    };
    const struct ke_device_value v[] = {
        {.size = sizeof v[0], .property = 2, .kind = KE_DEVICE_KIND_BOOL, .i = 1},
        {.size = sizeof v[0], .property = 0, .kind = KE_DEVICE_KIND_INT, .i = 4711},
        {.size = sizeof v[0], .property = 1, .kind = KE_DEVICE_KIND_DOUBLE, .d = 12.5},
        {.size = sizeof v[0], .property = 4, .kind = KE_DEVICE_KIND_INT, .i = 1},
        {.size = sizeof v[0], .property = 3, .kind = KE_DEVICE_KIND_INT, .i = 5},
        {.size = sizeof v[0], .property = 0, .kind = KE_DEVICE_KIND_INT, .i = -1},
        {.size = sizeof v[0], .property = 5, .kind = KE_DEVICE_KIND_BOOL, .i = 1},
        {.size = sizeof v[0], .property = 6, .kind = KE_DEVICE_KIND_TEXT, .p = "abc", .n = 3},
    };
    struct bench b;

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, "", p, 7), 0);
    assert_int_equal(rig_write(&b.d, v, 8), 0);
    assert_string_equal(b.slave.log, "5:5+1 6:10+1 16:11+2 15:6+3 3:20+1 6:20+1 16:30+3 ");
    assert_int_equal(b.slave.bits[2][5], 1);
    assert_int_equal(b.slave.words[2][10], 4711);
    assert_int_equal(b.slave.words[2][11], 0);
    assert_int_equal(b.slave.words[2][12], 0x4148);
    assert_int_equal(b.slave.bits[2][6], 1);
    assert_int_equal(b.slave.bits[2][7], 0);
    assert_int_equal(b.slave.bits[2][8], 1);
    assert_int_equal(b.slave.words[2][20], 220 | 16);
    assert_int_equal(b.slave.words[2][30], 'a' << 8 | 'b');
    assert_int_equal(b.slave.words[2][31], 'c' << 8);
    assert_int_equal(b.slave.words[2][32], 0);
    assert_int_equal(b.d.n_values, 2); /* two were refused, the others are written */
    assert_int_equal(rig_value(&b.d, 4)->v.status, KE_EACCES);
    assert_non_null(strstr(rig_value(&b.d, 4)->text, "input register 3: it cannot be written"));
    assert_int_equal(rig_value(&b.d, 0)->v.status, KE_ELIMIT);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(value(&b, 0), 4711);
    assert_true(rig_value(&b.d, 1)->v.d == 12.5);
    assert_int_equal(value(&b, 2), 1);
    assert_int_equal(value(&b, 5), 1);
    assert_memory_equal(rig_value(&b.d, 6)->bytes, "abc", 3);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void writes_that_are_refused(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(10, ""), KE_DEVICE_INT},
        {COIL(12, ""), KE_DEVICE_BOOLEAN},
    };
    struct bench b;

    (void)state;
    setup(&b, NULL);
    b.slave.bad_from = b.slave.bad_to = 12;
    assert_int_equal(open_with(&b, "", p, 2), 0);
    assert_int_equal(rig_write_int(&b.d, 1, 1), 0);
    assert_int_equal(rig_value(&b.d, 1)->v.status, KE_ENOTFOUND);
    assert_non_null(strstr(rig_value(&b.d, 1)->text, "coil 12: illegal data address"));
    /* a slave that only knows the functions for many */
    b.slave.no_single = true;
    b.slave.log[0] = '\0';
    assert_int_equal(rig_write_int(&b.d, 0, 77), 0);
    assert_int_equal(b.d.n_values, 0);
    assert_int_equal(b.slave.words[2][10], 77);
    assert_int_equal(rig_write_int(&b.d, 0, 78), 0);
    assert_string_equal(b.slave.log, "6:10+1 16:10+1 16:10+1 ");
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static const struct rig_property one[] = {{HOLDING(10, ""), KE_DEVICE_INT}};

static void no_answer(void **state)
{
    struct bench b;
    char text[160];

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, ",\"timeout\":500000000", one, 1), 0); /* ns */
    b.slave.fault = SLAVE_MUTE;
    b.slave.faults = 1;
    int64_t began = ke_ctx_mono_ms(b.rig.env.ctx);
    assert_int_equal(rig_read_all(&b.d), KE_ETIMEDOUT);
    assert_int_equal(ke_ctx_mono_ms(b.rig.env.ctx) - began, 500);
    snprintf(text, sizeof text,
             "slave 2 at 127.0.0.1:%u, holding register 10: there was no answer within 500 ms",
             b.port);
    assert_string_equal(b.d.text, text);
    assert_int_equal(rig_read_all(&b.d), 0); /* the connection is still good */
    assert_int_equal(b.slave.connections, 1);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void an_answer_that_comes_late(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, "", one, 1), 0);
    b.slave.fault = SLAVE_LATE;
    b.slave.faults = 1;
    assert_int_equal(rig_read_all(&b.d), KE_ETIMEDOUT);
    b.slave.words[2][10] = 1;
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(value(&b, 0), 1); /* not the one that came before it */
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void answers_that_are_wrong(void **state)
{
    static const struct {
        enum slave_fault fault;
        int status;
        const char *text;
    } t[] = {
        {SLAVE_GARBLE, KE_EIO, "does not speak Modbus TCP"},
        {SLAVE_BREAK_OFF, KE_ETIMEDOUT, "no answer within"},
        {SLAVE_OTHER, KE_ETIMEDOUT, "no answer within"},
        {SLAVE_HANG_UP, KE_ECONN, "connection was lost"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct bench b;
        setup(&b, NULL);
        assert_int_equal(open_with(&b, "", one, 1), 0);
        b.slave.fault = t[i].fault;
        b.slave.faults = 2; /* a read is tried again on a fresh connection */
        assert_int_equal(rig_read_all(&b.d), t[i].status);
        if (!strstr(b.d.text, t[i].text))
            fail_msg("%zu: %s", i, b.d.text);
        assert_non_null(strstr(b.d.text, "slave 2 at 127.0.0.1:"));
        assert_int_equal(rig_close(&b.d), 0);
        teardown(&b);
    }
}

static void a_connection_that_had_been_closed(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, "", one, 1), 0);
    kei_stream_free(b.slave.stream); /* as servers do with idle ones */
    b.slave.stream = NULL;
    test_settle(&b.rig.env);
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(b.slave.connections, 2);
    /* just when the request is on its way */
    b.slave.fault = SLAVE_HANG_UP;
    b.slave.faults = 1;
    assert_int_equal(rig_read_all(&b.d), 0);
    assert_int_equal(b.slave.connections, 3);
    /* a write is not made twice */
    b.slave.faults = 1;
    assert_int_equal(rig_write_int(&b.d, 0, 9), KE_ECONN);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void a_server_that_is_not_there(void **state)
{
    struct bench b;
    char text[160];

    (void)state;
    setup(&b, NULL);
    kei_listener_free(b.slave.listener);
    b.slave.listener = NULL;
    assert_int_equal(open_with(&b, "", one, 1), KE_ECONN);
    snprintf(text, sizeof text, "slave 2 at 127.0.0.1:%u, holding register 10: could not connect",
             b.port);
    assert_memory_equal(b.d.text, text, strlen(text));
    assert_int_equal(rig_close(&b.d), 0);
    /* at once again: nobody is asked, the answer is the same */
    assert_int_equal(open_with(&b, "", one, 1), KE_ECONN);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void no_such_slave_behind_the_gateway(void **state)
{
    struct bench b;

    (void)state;
    setup(&b, NULL);
    b.slave.exception = 11;
    assert_int_equal(open_with(&b, "", one, 1), KE_ETIMEDOUT);
    assert_non_null(strstr(b.d.text, "the device behind the gateway did not answer"));
    assert_int_equal(rig_close(&b.d), 0);
    b.slave.exception = 10;
    assert_int_equal(open_with(&b, "", one, 1), KE_ECONN);
    assert_int_equal(rig_close(&b.d), 0);
    /* any other exception shows that it is there */
    b.slave.exception = 1;
    assert_int_equal(open_with(&b, "", one, 1), 0);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

static void several_slaves_share_a_connection(void **state)
{
    static struct rig_device d[4];
    struct bench b;

    (void)state;
    setup(&b, NULL);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(rig_open(&b.rig, &d[i], config(&b, i + 1, ""), one, 1), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0}, 1), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(test_drive(&b.rig.env, rig_ended, &d[i]));
        assert_int_equal(d[i].status, 0);
        assert_int_equal(rig_value(&d[i], 0)->v.i, 100 * (i + 1) + 10);
    }
    assert_int_equal(b.slave.connections, 1);
    /* one is closed while its request waits: the others do not notice */
    b.slave.fault = SLAVE_LATE;
    b.slave.faults = 1;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0}, 1), 0);
    test_settle(&b.rig.env);
    assert_int_equal(rig_close(&d[0]), 0); /* under way */
    assert_int_equal(rig_close(&d[2]), 0); /* in the queue */
    assert_true(test_drive(&b.rig.env, rig_ended, &d[1]));
    assert_int_equal(d[1].status, 0);
    assert_int_equal(rig_value(&d[1], 0)->v.i, 210);
    assert_int_equal(rig_close(&d[1]), 0);
    assert_int_equal(rig_close(&d[3]), 0);
    teardown(&b);
}

/* Two of three slaves leave requests unanswered: they get a quarter of the line, no more. */
static void silent_slaves_leave_the_line_to_others(void **state)
{
    static struct rig_device d[3];
    struct bench b;
    uint32_t late = 0, put_off = 0;

    (void)state;
    setup(&b, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(
            rig_open(&b.rig, &d[i], config(&b, i + 1, ",\"timeout\":500000000"), one, 1), 0);
    b.slave.mute = 1u << 2 | 1u << 3;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0}, 1), 0);
    for (int ms = 0; ms < 12000; ms += 200) {
        test_drive_ms(&b.rig.env, 200);
        for (unsigned i = 0; i < 3; i++) {
            if (!rig_ended(&d[i])) {
                late += i == 0;
                continue;
            }
            assert_int_equal(d[i].status, i == 0 ? 0 : KE_ETIMEDOUT);
            put_off += i > 0 && strstr(d[i].text, "the others on the bus go first") != NULL;
            assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0}, 1), 0);
        }
    }
    assert_in_range(b.slave.muted, 5, 12000 / 2000 + 2);
    assert_in_range(late, 5, 20); /* of 60 */
    assert_true(put_off > 40);
    b.slave.mute = 0;
    for (unsigned i = 1; i < 3; i++) {
        for (int ms = 0; ms < 2600 && d[i].status != 0; ms += 200) {
            if (rig_ended(&d[i]))
                assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0}, 1), 0);
            test_drive_ms(&b.rig.env, 200);
        }
        assert_int_equal(d[i].status, 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_true(test_drive(&b.rig.env, rig_ended, &d[i]));
        assert_int_equal(rig_close(&d[i]), 0);
    }
    teardown(&b);
}

static void writes_overtake_reads(void **state)
{
    static struct rig_device d[3];
    struct bench b;

    (void)state;
    setup(&b, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(rig_open(&b.rig, &d[i], config(&b, i + 1, ""), one, 1), 0);
    b.slave.log[0] = '\0';
    assert_int_equal(rig_start_read(&d[0], (const uint32_t[]){0}, 1), 0);
    assert_int_equal(rig_start_read(&d[1], (const uint32_t[]){0}, 1), 0);
    assert_int_equal(rig_write_int(&d[2], 0, 5), 0);
    assert_memory_equal(b.slave.log, "6:10+1 ", 7);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(test_drive(&b.rig.env, rig_ended, &d[i]));
        assert_int_equal(rig_close(&d[i]), 0);
    }
    teardown(&b);
}

/* With a pipeline the requests go out before the first answer, and answers may change places. */
static void pipeline(void **state)
{
    static struct rig_device d[4];
    struct ke_modbus_config c;
    struct bench b;

    (void)state;
    ke_modbus_config_init(&c, sizeof c);
    c.pipeline = 4;
    setup(&b, &c);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(rig_open(&b.rig, &d[i], config(&b, i + 1, ""), one, 1), 0);
    b.slave.fault = SLAVE_LATE; /* with one at a time nothing would ever be answered */
    b.slave.faults = 3;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(rig_start_read(&d[i], (const uint32_t[]){0}, 1), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(test_drive(&b.rig.env, rig_ended, &d[i]));
        assert_int_equal(d[i].status, 0);
        assert_int_equal(rig_value(&d[i], 0)->v.i, 100 * (i + 1) + 10);
        assert_int_equal(rig_close(&d[i]), 0);
    }
    teardown(&b);
}

static void configurations_that_cannot_be(void **state)
{
    static const struct {
        const char *config;
        const char *text;
    } t[] = {
        {"{}", "neither \"ip\" nor \"serialPort\""},
        {"{\"ip\":\"127.0.0.1\",\"port\":70000}", "\"port\" is 70000, possible is 1 to 65535"},
        {"{\"ip\":\"127.0.0.1\",\"slaveID\":256}", "\"slaveID\" is 256"},
        {"{\"ip\":\"127.0.0.1\",\"timeout\":\"soon\"}", "\"timeout\" is no whole number"},
        {"{\"serialPort\":\"/dev/null\"}", "\"slaveID\" is missing"},
        {"{\"serialPort\":\"/dev/null\",\"slaveID\":0}", "\"slaveID\" is 0, possible is 1"},
        {"{\"com\":{\"serialPort\":\"/dev/null\",\"baudRate\":9601},\"slaveID\":1}",
         "no line has 9601 baud"},
        {"{\"serialPort\":\"/dev/null\",\"slaveID\":1,\"parity\":\"mark\"}",
         "\"parity\" is \"mark\", possible is none, even, odd"},
    };
    static const struct rig_property bad[] = {{HOLDING(10, ",\"limit\":3"), KE_DEVICE_INT}};
    struct bench b;

    (void)state;
    setup(&b, NULL);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        assert_int_equal(rig_open(&b.rig, &b.d, t[i].config, one, 1), KE_EINVAL);
        if (!strstr(b.d.text, t[i].text))
            fail_msg("%s: %s", t[i].config, b.d.text);
        assert_int_equal(rig_read_all(&b.d), KE_ESTATE);
        assert_int_equal(rig_close(&b.d), 0);
    }
    assert_int_equal(open_with(&b, "", bad, 1), KE_EINVAL);
    assert_non_null(strstr(b.d.text, "property p: \"limit\" 3 makes 6 bytes"));
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

/* A property with a mistake in its visitor is told so; the others work. */
static void one_wrong_property(void **state)
{
    static const struct rig_property three[] = {{HOLDING(10, ",\"limit\":3"), KE_DEVICE_INT},
                                                {HOLDING(11, ""), KE_DEVICE_INT},
                                                {"{\"offset\":1}", KE_DEVICE_INT}};
    struct bench b;

    (void)state;
    setup(&b, NULL);
    assert_int_equal(open_with(&b, "", three, 3), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rig_read_all(&b.d), 0);
        assert_int_equal(value(&b, 1), 211);
        assert_int_equal(rig_value(&b.d, 0)->v.status, KE_EINVAL);
        assert_non_null(strstr(rig_value(&b.d, 0)->text, "\"limit\" 3 makes 6 bytes"));
        assert_int_equal(rig_value(&b.d, 2)->v.status, KE_EINVAL);
        assert_string_equal(rig_value(&b.d, 2)->text, "\"register\" is missing");
    }
    assert_int_equal(rig_start_read(&b.d, (const uint32_t[]){0}, 1), 0);
    assert_true(test_drive(&b.rig.env, rig_ended, &b.d));
    assert_int_equal(b.d.status, 0);
    assert_int_equal(rig_write_int(&b.d, 2, 5), 0);
    assert_int_equal(rig_value(&b.d, 2)->v.status, KE_EINVAL);
    assert_int_equal(rig_write_int(&b.d, 1, 5), 0);
    assert_int_equal(b.slave.words[2][11], 5);
    assert_int_equal(rig_close(&b.d), 0);
    teardown(&b);
}

/* Each allocation of a life of a device fails once: nothing crashes, hangs or is left. */
static void out_of_memory(void **state)
{
    static const struct rig_property p[] = {
        {HOLDING(10, ""), KE_DEVICE_INT},
        {HOLDING(250, ""), KE_DEVICE_INT}, /* does not exist: its text needs memory */
        {HOLDING(20, ",\"bit\":4"), KE_DEVICE_BOOLEAN},
    };
    const struct ke_device_value v[] = {
        {.size = sizeof v[0], .property = 0, .kind = KE_DEVICE_KIND_INT, .i = 1},
        {.size = sizeof v[0], .property = 2, .kind = KE_DEVICE_KIND_BOOL, .i = 1},
    };
    bool whole = false;

    (void)state;
    for (size_t n = 1; !whole; n++) {
        struct bench b;
        setup(&b, NULL);
        test_alloc_fail_at(&b.rig.env.alloc, n);
        int r = open_with(&b, "", p, 3);
        if (r == 0 && rig_read_all(&b.d) == 0 && rig_write(&b.d, v, 2) == 0)
            whole = b.rig.env.alloc.failed == 0;
        test_alloc_fail_at(&b.rig.env.alloc, 0);
        if (b.d.is_open)
            assert_int_equal(rig_close(&b.d), 0);
        b.rig.env.log_errors = 0;
        teardown(&b);
        assert_true(n < 1000);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(neighbours_in_one_request),
        KE_TEST(holes_are_read_when_allowed),
        KE_TEST(a_register_that_does_not_exist),
        KE_TEST(a_slave_that_gives_few_at_once),
        KE_TEST(more_than_one_request_holds),
        KE_TEST(writes),
        KE_TEST(writes_that_are_refused),
        KE_TEST(no_answer),
        KE_TEST(an_answer_that_comes_late),
        KE_TEST(answers_that_are_wrong),
        KE_TEST(a_connection_that_had_been_closed),
        KE_TEST(a_server_that_is_not_there),
        KE_TEST(no_such_slave_behind_the_gateway),
        KE_TEST(several_slaves_share_a_connection),
        KE_TEST(silent_slaves_leave_the_line_to_others),
        KE_TEST(writes_overtake_reads),
        KE_TEST(pipeline),
        KE_TEST(configurations_that_cannot_be),
        KE_TEST(one_wrong_property),
        KE_TEST(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
