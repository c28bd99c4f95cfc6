/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 1,000 devices of 10 properties, read every second, on a virtual clock: no cycle is lost, none is
 * late, and a device costs at most 4 KiB.
 */
#include "harness.h"

#include "base/buf.h"

#define DEVICES 1000u
#define PROPS 10u
#define SECONDS 60

static void make_model(struct ke_buf *b)
{
    static const char *const types[] = {"INT", "DOUBLE", "FLOAT", "BOOLEAN"};
    kei_buf_adds(b, "{\"kind\":\"DeviceModel\",\"metadata\":{\"name\":\"m\",\"namespace\":"
                    "\"default\"},\"spec\":{\"properties\":[");
    for (uint32_t i = 0; i < PROPS; i++)
        kei_buf_addf(b, "%s{\"name\":\"property-%u\",\"type\":\"%s\",\"accessMode\":\"ReadWrite\"}",
                     i ? "," : "", i, types[i % 3]);
    kei_buf_adds(b, "]}}");
}

static void make_device(struct ke_buf *b, uint32_t n)
{
    kei_buf_addf(b,
                 "{\"kind\":\"Device\",\"metadata\":{\"name\":\"device-%u\",\"namespace\":"
                 "\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{"
                 "\"protocolName\":\"simulated\",\"configData\":{}},\"properties\":[",
                 n);
    for (uint32_t i = 0; i < PROPS; i++)
        kei_buf_addf(b,
                     "%s{\"name\":\"property-%u\",\"desired\":{\"value\":\"%u\"},\"collectCycle\":"
                     "1000,\"reportCycle\":10000,\"reportToCloud\":true,\"visitors\":{"
                     "\"protocolName\":\"simulated\",\"configData\":{\"function\":\"sine\","
                     "\"amplitude\":10,\"period\":60000}}}",
                     i ? "," : "", i, i);
    kei_buf_adds(b, "]}}");
}

static void fill(struct hrig *r)
{
    struct ke_buf b;
    char key[64];
    kei_buf_init(&b, kei_alloc_malloc());
    make_model(&b);
    hrig_keep(r, "o/devicemodel", "default/m", b.p);
    for (uint32_t i = 0; i < DEVICES; i++) {
        kei_buf_clear(&b);
        make_device(&b, i);
        snprintf(key, sizeof key, "default/device-%u", i);
        hrig_keep(r, "o/device", key, b.p);
    }
    ke_buf_free(&b);
}

static void thousand_devices(void **state)
{
    (void)state;
    static struct hrig rig;
    struct hrig *r = &rig;
    struct ke_devices_stats st;
    hrig_init(r);
    fill(r);
    test_settle(&r->env);
    for (int round = 0; round < 2; round++) { /* the second one after a restart */
        size_t before = atomic_load(&r->env.alloc.live_bytes);
        hrig_start(r);
        assert_int_equal(ke_device_sim_register(r->d), 0);
        test_drive_ms(&r->env, 1000);
        assert_int_equal(ke_devices_get_stats(r->d, &st, sizeof st), 0);
        assert_int_equal(st.online, DEVICES);
        uint64_t cycles = st.cycles;
        test_drive_ms(&r->env, SECONDS * 1000);
        assert_int_equal(ke_devices_get_stats(r->d, &st, sizeof st), 0);
        assert_int_equal(st.cycles - cycles, (uint64_t)DEVICES * PROPS * SECONDS);
        assert_int_equal(st.cycles_missed, 0);
        assert_int_equal(st.cycles_late, 0);
        assert_int_equal(st.failures, 0);
        assert_int_equal(st.writes, DEVICES);
        size_t each = (atomic_load(&r->env.alloc.live_bytes) - before) / DEVICES;
        print_message("%zu bytes a device, %u ms late at most\n", each, st.late_max_ms);
        assert_true(each <= 4096);
        hrig_stop(r);
    }
    r->d = NULL;
    hrig_fini(r);
}

static size_t calls_of(struct hrig *r, int64_t ms)
{
    size_t before = atomic_load(&r->env.alloc.calls);
    test_drive_ms(&r->env, ms);
    return atomic_load(&r->env.alloc.calls) - before;
}

/* What is read and has not changed costs no allocation at all. */
static void cycles_do_not_allocate(void **state)
{
    (void)state;
    static struct hrig rig;
    struct hrig *r = &rig;
    hrig_init(r);
    r->no_subscribe = true;
    hrig_start(r);
    hrig_put(r, MODEL(MP("t", "INT", "ReadWrite", "")));
    hrig_put(r, DEVICE("a", DP("t", "")));
    hrig_put(r, DEVICE("b", DP("t", "")));
    test_drive_ms(&r->env, 3000);
    int reads = fake(r, "a")->reads;
    assert_int_equal(calls_of(r, 4000), 0);
    assert_int_equal(fake(r, "a")->reads, reads + 4);
    r->read = FAKE_THREAD; /* nor when another thread completes: the records are used again */
    test_drive_ms(&r->env, 2000);
    reads = fake(r, "a")->reads;
    assert_int_equal(calls_of(r, 4000), 0);
    assert_int_equal(fake(r, "a")->reads, reads + 4);
    hrig_fini(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(thousand_devices),
                                       cmocka_unit_test(cycles_do_not_allocate)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
