/* SPDX-License-Identifier: Apache-2.0 */
/* The harness: objects, cycles, writes, reports, and drivers that misbehave. */
#include "harness.h"

#include <pthread.h>

#define RW MP("t", "INT", "ReadWrite", ",\"minimum\":\"0\",\"maximum\":\"100\"")
#define RO MP("h", "DOUBLE", "ReadOnly", "")

static struct hrig rig, *r = &rig;
static struct seen seen;

static int setup(void **state)
{
    (void)state;
    hrig_init(r);
    r->no_subscribe = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hrig_fini(r);
    return 0;
}

static const struct ke_device_property_status *see(const char *name, uint32_t i)
{
    hrig_see(r, name, &seen);
    assert_true(seen.found);
    return &seen.p[i];
}

static void two_properties(const char *rest)
{
    char json[2000];
    hrig_put(r, MODEL(RW "," RO));
    snprintf(json, sizeof json,
             DEVICE("a", "{\"name\":\"t\",\"collectCycle\":1000,\"reportCycle\":"
                         "1000,\"reportToCloud\":true%s}," DP("h", "")),
             rest);
    hrig_put(r, json);
}

static void values_reach_the_twin(void **state)
{
    (void)state;
    hrig_start(r);
    fake(r, "a")->regs[0] = 21;
    fake(r, "a")->regs[1] = 0.1;
    two_properties("");
    test_settle(&r->env);
    assert_int_equal(see("a", 0)->reads, 1);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
    assert_string_equal(seen.p[0].reported, "21");
    assert_string_equal(seen.p[1].reported, "0.1");
    assert_string_equal(seen.s.protocol, "fake");
    assert_string_equal(fake(r, "a")->config, "{\"ip\":\"10.0.0.9\"}");
    /* one read for both, one message for both */
    assert_int_equal(fake(r, "a")->reads, 1);
    assert_int_equal(fake(r, "a")->n_last_read, 2);
    assert_int_equal(r->states, 1);
    assert_non_null(strstr(r->state, "\"state\":\"online\""));
    assert_int_equal(r->updates, 1);
    assert_string_equal(r->update_topic, "$hw/events/device/a/twin/update");
    const char *twin = strstr(r->update, "\"twin\"");
    assert_non_null(twin);
    assert_string_equal(twin,
                        "\"twin\":{\"t\":{\"actual\":{\"value\":\"21\"},\"metadata\":{\"type\":"
                        "\"int\"}},\"h\":{\"actual\":{\"value\":\"0.1\"},\"metadata\":{\"type\":"
                        "\"float\"}}}}");
    assert_int_equal(seen.s.reports_waiting, 0);
}

static void unchanged_values_are_not_told_again(void **state)
{
    (void)state;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 10000);
    assert_int_equal(r->updates, 1);
    assert_true(fake(r, "a")->reads >= 10);
    fake(r, "a")->regs[0] = 1;
    test_drive_ms(&r->env, 2000);
    assert_int_equal(r->updates, 2);
    assert_null(strstr(r->update, "\"h\""));
}

static void always_means_every_cycle(void **state)
{
    (void)state;
    r->c.flags = KE_DEVICES_REPORT_ALWAYS;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 10000);
    assert_in_range(r->updates, 9, 11);
}

static void dead_band_and_report_cycle(void **state)
{
    (void)state;
    hrig_start(r);
    struct fake_dev *f = fake(r, "a");
    f->regs[0] = 50;
    two_properties(",\"visitors\":{\"configData\":{\"deadBand\":2}}");
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->updates, 1);
    f->regs[0] = 52;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->updates, 1);
    f->regs[0] = 53; /* slowly, but beyond it from what was told */
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->updates, 2);
    /* read every second, told every five */
    hrig_put(r, DEVICE("b", "{\"name\":\"t\",\"collectCycle\":1000,\"reportCycle\":5000,"
                            "\"reportToCloud\":true}"));
    test_settle(&r->env);
    int before = r->updates;
    for (int i = 1; i <= 20; i++) {
        fake(r, "b")->regs[0] = i;
        test_drive_ms(&r->env, 1000);
    }
    assert_in_range(r->updates - before, 3, 5);
}

static void not_reported_unless_asked(void **state)
{
    (void)state;
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    hrig_put(r, DEVICE("a", "{\"name\":\"t\",\"collectCycle\":1000}"));
    test_drive_ms(&r->env, 5000);
    assert_int_equal(r->updates, 0);
    assert_int_equal(r->states, 1);
    assert_string_equal(see("a", 0)->reported, "0");
}

static void desired_is_written_and_read_back(void **state)
{
    (void)state;
    hrig_start(r);
    struct fake_dev *f = fake(r, "a");
    two_properties(",\"desired\":{\"value\":\"22\"},\"visitors\":{\"configData\":{\"scale\":0.5,"
                   "\"valueOffset\":2}}");
    test_settle(&r->env);
    assert_int_equal(f->writes, 1);
    assert_int_equal(f->wrote[0].kind, KE_DEVICE_KIND_INT);
    assert_int_equal(f->wrote[0].i, 40); /* (22 - 2) / 0.5 */
    assert_string_equal(see("a", 0)->reported, "22");
    assert_true(seen.p[0].desired_ms != 0);
    assert_non_null(
        strstr(r->update, "\"expected\":{\"value\":\"22\"},\"actual\":{\"value\":\"22\"}"));
    assert_string_equal(f->visitor0, "{\"scale\":0.5,\"valueOffset\":2}");
}

static void new_desired_does_not_open_again(void **state)
{
    (void)state;
    hrig_start(r);
    struct fake_dev *f = fake(r, "a");
    two_properties(",\"desired\":{\"value\":\"22\"}");
    test_settle(&r->env);
    two_properties(",\"desired\":{\"value\":\"23\"}");
    test_settle(&r->env);
    assert_int_equal(f->opens, 1);
    assert_int_equal(f->writes, 2);
    assert_int_equal(f->wrote[0].i, 23);
    test_drive_ms(&r->env, 2000);
    assert_non_null(
        strstr(r->update, "\"expected\":{\"value\":\"23\"},\"actual\":{\"value\":\"23\"}"));
    two_properties(",\"desired\":{\"value\":\"23\"}"); /* nothing new */
    test_drive_ms(&r->env, 3000);
    assert_int_equal(f->writes, 2);
    two_properties(",\"desired\":{\"value\":\"23\"},\"visitors\":{\"configData\":{\"x\":1}}");
    test_settle(&r->env);
    assert_int_equal(f->opens, 2);
    assert_int_equal(f->closes, 1);
    assert_int_equal(f->writes, 3);
}

static void desired_that_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *desired, *error;
    } t[] = {{"hot", "is no int"},
             {"1000", "above the maximum 100"},
             {"-1", "below the minimum 0"},
             {"2.5", "is no int"}};
    hrig_start(r);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char rest[100];
        snprintf(rest, sizeof rest, ",\"desired\":{\"value\":\"%s\"}", t[i].desired);
        two_properties(rest);
        test_settle(&r->env);
        const char *error = see("a", 0)->error;
        if (!strstr(error, t[i].error))
            fail_msg("%s: %s", t[i].desired, error);
        test_drive_ms(&r->env, 500);
    }
    assert_int_equal(fake(r, "a")->writes, 0);
    assert_int_equal(see("a", 0)->failures, 4);
    /* what the device has is told all the same, without what the twin would refuse it for */
    assert_null(strstr(r->update, "hot"));
    assert_null(strstr(r->update, "2.5"));
    fake(r, "a")->regs[0] = 9;
    test_drive_ms(&r->env, 3000);
    assert_non_null(strstr(r->update, "\"t\":{\"actual\":{\"value\":\"9\"},"));
}

/* Said at once, whatever the device does; gone with a value that fits. */
static void desired_that_does_not_fit_the_model(void **state)
{
    (void)state;
    hrig_start(r);
    r->open = FAKE_FAIL;
    hrig_put(r, MODEL(RW "," RO));
    hrig_put(r, DEVICE("a", DP("t", ",\"desired\":{\"value\":\"700\"}") ","
                                DP("h", ",\"desired\":{\"value\":\"1\"}")));
    test_drive_ms(&r->env, 100);
    assert_non_null(strstr(see("a", 0)->error, "700 could not be written: "));
    assert_string_equal(see("a", 1)->error, "1 could not be written: the device model says ReadOnly");
    assert_int_equal(see("a", 1)->failures, 0);
    r->open = FAKE_NOW;
    test_drive_ms(&r->env, 5000); /* reading well does not hide it */
    assert_string_equal(see("a", 1)->reported, "0");
    assert_non_null(strstr(see("a", 1)->error, "ReadOnly"));
    hrig_put(r, DEVICE("a", DP("t", ",\"desired\":{\"value\":\"70\"}") "," DP("h", "")));
    test_drive_ms(&r->env, 2000);
    assert_string_equal(see("a", 0)->error, "");
    assert_string_equal(see("a", 1)->error, "");
    assert_string_equal(see("a", 0)->reported, "70");
}

static void read_back_that_differs(void **state)
{
    (void)state;
    hrig_start(r);
    fake(r, "a")->stuck[0] = true;
    fake(r, "a")->regs[0] = 7;
    two_properties(",\"desired\":{\"value\":\"22\"}");
    test_settle(&r->env);
    assert_string_equal(see("a", 0)->error, "22 was written, 7 was read back");
    assert_string_equal(seen.p[0].reported, "7");
}

static void refused_write_is_made_again_when_it_may_help(void **state)
{
    (void)state;
    hrig_start(r);
    struct fake_dev *f = fake(r, "a");
    f->write_status[0] = KE_EAGAIN;
    two_properties(",\"desired\":{\"value\":\"22\"}");
    test_drive_ms(&r->env, 3500);
    assert_true(f->writes >= 3);
    assert_non_null(strstr(see("a", 0)->error, "not this one"));
    f->write_status[0] = 0;
    test_drive_ms(&r->env, 2000);
    assert_string_equal(see("a", 0)->reported, "22");
    assert_string_equal(seen.p[0].error, "");
    f->write_status[0] = KE_EACCES;
    int n = f->writes;
    two_properties(",\"desired\":{\"value\":\"24\"}");
    test_drive_ms(&r->env, 5000);
    assert_int_equal(f->writes, n + 1);
}

static void hanging_driver_stalls_nothing_else(void **state)
{
    (void)state;
    hrig_start(r);
    two_properties("");
    test_settle(&r->env);
    r->read = FAKE_HANG;
    test_drive_ms(&r->env, 1500); /* a hangs now */
    uint64_t op = fake(r, "a")->op;
    r->read = FAKE_NOW;
    hrig_put(r, DEVICE("b", DP("t", "")));
    test_drive_ms(&r->env, 3000);
    assert_in_range(fake(r, "b")->reads, 3, 4);
    assert_int_equal(see("a", 0)->reads, 1);
    test_drive_ms(&r->env, 3000); /* beyond its deadline */
    assert_int_equal(fake(r, "a")->closes, 1);
    assert_non_null(strstr((see("a", 0), seen.s.error), "did not complete it within 5000 ms"));
    assert_int_equal(ke_device_complete(r->d, op, 0, NULL), KE_ENOTFOUND);
    test_drive_ms(&r->env, 10000);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
    assert_int_equal(fake(r, "a")->opens, 2);
    assert_int_equal(seen.s.reconnects, 1);
    assert_true(seen.s.cycles_missed >= 5);
    struct ke_devices_stats st;
    assert_int_equal(ke_devices_get_stats(r->d, &st, sizeof st), 0);
    assert_int_equal(st.timeouts, 1);
    assert_int_equal(st.late_completions, 1);
    assert_int_equal(st.online, 2);
}

static void hanging_close_ends_too(void **state)
{
    (void)state;
    hrig_start(r);
    r->close = FAKE_HANG;
    two_properties("");
    test_settle(&r->env);
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
    test_settle(&r->env);
    hrig_see(r, "a", &seen);
    assert_false(seen.found);
    two_properties(""); /* it comes back while the old one is still closing */
    test_drive_ms(&r->env, 4000);
    assert_int_equal(fake(r, "a")->opens, 1);
    test_drive_ms(&r->env, 2000);
    assert_int_equal(fake(r, "a")->opens, 2);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
}

static void lying_driver(void **state)
{
    (void)state;
    hrig_start(r);
    struct fake_dev *f = fake(r, "a");
    f->leave_out[1] = true;
    r->read = FAKE_TWICE;
    two_properties("");
    test_settle(&r->env);
    assert_string_equal(see("a", 0)->reported, "0");
    assert_string_equal(see("a", 1)->error, "the driver gave no value");
    /* values nobody asked for, and more than there are properties */
    struct ke_device_value v[3] = {{.size = sizeof v[0], .property = 77, .kind = 1, .i = 5},
                                   {.size = sizeof v[0], .property = 0, .kind = 1, .i = 9}};
    assert_int_equal(ke_device_report(r->d, f->device, v, 2), 0);
    assert_string_equal(see("a", 0)->reported, "9");
    assert_int_equal(ke_device_report(r->d, f->device, v, 3), KE_ELIMIT);
    assert_int_equal(ke_device_report(r->d, f->device + 1, v, 1), KE_ENOTFOUND);
    v[0].size = 8;
    assert_int_equal(ke_device_report(r->d, f->device, v, 1), KE_EABI);
    assert_int_equal(ke_device_complete(r->d, 0, 0, NULL), KE_ENOTFOUND);
    assert_int_equal(ke_device_complete(r->d, UINT64_MAX, 0, NULL), KE_ENOTFOUND);
    assert_int_equal(ke_device_complete(r->d, 1, 1, NULL), KE_EINVAL);
    /* what is no value of the type */
    snprintf(f->text[0], sizeof f->text[0], "warm");
    test_drive_ms(&r->env, 1500);
    assert_string_equal(see("a", 0)->error, "the device gave no int");
    assert_string_equal(seen.p[0].reported, "9");
}

static void calls_that_are_refused_at_once(void **state)
{
    (void)state;
    r->open = FAKE_REFUSE;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 30000);
    assert_true(fake(r, "a")->opens >= 3 && fake(r, "a")->opens < 20);
    assert_int_equal(fake(r, "a")->closes, 0);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_OFFLINE);
    assert_non_null(strstr(r->state, "\"state\":\"offline\""));
    r->open = FAKE_NOW;
    r->read = FAKE_REFUSE;
    test_drive_ms(&r->env, 70000);
    assert_non_null(strstr((see("a", 0), seen.s.error), "a read failed: KE_ENOMEM"));
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
}

static void opening_fails(void **state)
{
    (void)state;
    r->open = FAKE_FAIL;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 60000);
    struct fake_dev *f = fake(r, "a");
    assert_true(f->opens >= 3 && f->opens < 40);
    assert_int_equal(f->closes, f->opens);
    assert_non_null(strstr((see("a", 0), seen.s.error), "as the test wanted"));
    /* wrong configuration is not tried again until it changes */
    r->status = KE_EINVAL;
    test_drive_ms(&r->env, 61000);
    int n = f->opens;
    test_drive_ms(&r->env, 600000);
    assert_int_equal(f->opens, n);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_FAILED);
    r->open = FAKE_NOW;
    two_properties(",\"visitors\":{\"configData\":{\"fixed\":true}}");
    test_settle(&r->env);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
}

static void lost_devices_come_back(void **state)
{
    (void)state;
    hrig_start(r);
    struct fake_dev *f = fake(r, "a");
    two_properties(",\"desired\":{\"value\":\"22\"}");
    test_settle(&r->env);
    r->read = FAKE_FAIL;
    test_drive_ms(&r->env, 1100);
    assert_int_equal(f->closes, 1);
    assert_non_null(strstr(r->state, "offline"));
    r->read = FAKE_NOW;
    f->regs[0] = 0; /* it had no power */
    test_drive_ms(&r->env, 4000);
    assert_non_null(strstr(r->state, "online"));
    assert_true(f->regs[0] == 22);
    assert_int_equal(ke_device_lost(r->d, f->device, KE_ECLOSED, "unplugged"), 0);
    assert_int_equal(ke_device_lost(r->d, f->device, KE_ECLOSED, "unplugged"), KE_ENOTFOUND);
    test_settle(&r->env);
    assert_string_equal((see("a", 0), seen.s.error), "unplugged");
    assert_int_equal(seen.s.state, KE_DEVICE_OFFLINE);
}

static void health_is_asked_when_nothing_is_read(void **state)
{
    (void)state;
    r->no_subscribe = false;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 5000);
    struct fake_dev *f = fake(r, "a");
    assert_int_equal(f->reads, 1); /* subscribed: once, and then it tells by itself */
    r->health = FAKE_FAIL;
    test_drive_ms(&r->env, 31000);
    assert_true(f->closes >= 1);
    assert_non_null(strstr((see("a", 0), seen.s.error), "health failed"));
}

static void subscription_that_is_not_possible(void **state)
{
    (void)state;
    r->no_subscribe = false;
    r->subscribe = FAKE_FAIL;
    r->status = KE_ENOTSUP;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 5000);
    assert_in_range(fake(r, "a")->reads, 5, 6);
    assert_int_equal((see("a", 0), seen.s.failures), 0);
}

/* Equal devices share what they have in common, and only then; it outlives whoever came first. */
static void equal_devices_share(void **state)
{
    (void)state;
    hrig_start(r);
    hrig_put(r, MODEL(RW "," RO));
    hrig_put(r, DEVICE("a", DP("t", ",\"visitors\":{\"configData\":{\"x\":1,\"scale\":2}}")));
    hrig_put(r, DEVICE("b", DP("t", ",\"visitors\":{\"configData\":{\"x\":1,\"scale\":2}}")));
    hrig_put(r, DEVICE("c", DP("t", ",\"visitors\":{\"configData\":{\"x\":2,\"scale\":2}}")));
    hrig_put(r, DEVICE("d", DP("h", ",\"visitors\":{\"configData\":{\"x\":1,\"scale\":2}}")));
    for (int i = 0; i < 4; i++)
        fake(r, (const char[]){(char)('a' + i), 0})->regs[0] = 10 + i;
    test_drive_ms(&r->env, 2000);
    assert_string_equal(fake(r, "b")->visitor0, fake(r, "a")->visitor0);
    assert_string_equal(fake(r, "c")->visitor0, "{\"x\":2,\"scale\":2}");
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
    test_drive_ms(&r->env, 2000);
    assert_string_equal(see("b", 0)->reported, "22");
    assert_string_equal(see("b", 0)->name, "t");
    assert_string_equal(see("c", 0)->reported, "24");
    assert_string_equal(see("d", 0)->name, "h");
    assert_string_equal(see("d", 0)->reported, "26");
    /* one of them changes, the other does not */
    hrig_put(r, DEVICE("e", DP("t", ",\"visitors\":{\"configData\":{\"x\":1,\"scale\":2}}")));
    hrig_put(r, DEVICE("b", DP("t", ",\"visitors\":{\"configData\":{\"x\":1,\"scale\":3}}")));
    test_drive_ms(&r->env, 2000);
    assert_string_equal(see("b", 0)->reported, "33");
    assert_string_equal(see("e", 0)->reported, "0");
    assert_string_equal(fake(r, "e")->visitor0, "{\"x\":1,\"scale\":2}");
}

/* Drivers that take long in their calls: the loop's other users have their turns in between. */
static void slow_drivers_leave_the_loop_to_others(void **state)
{
    (void)state;
    uint64_t first = UINT64_MAX, last = 0;
    char json[1000];
    r->read_takes_ms = 15;
    hrig_start(r);
    hrig_put(r, MODEL(RW "," RO));
    for (int i = 0; i < 8; i++) {
        snprintf(json, sizeof json, DEVICE("d%d", DP("t", "")), i);
        hrig_put(r, json);
    }
    test_settle(&r->env);
    for (uint32_t i = 0; i < r->n_devs; i++) {
        assert_true(r->devs[i].reads >= 1);
        first = r->devs[i].turn < first ? r->devs[i].turn : first;
        last = r->devs[i].turn > last ? r->devs[i].turn : last;
    }
    assert_true(last - first >= 3); /* 120 ms in all, 20 at once */
}

static void late_and_missed_cycles_are_counted(void **state)
{
    (void)state;
    hrig_start(r);
    two_properties("");
    test_drive_ms(&r->env, 2000);
    hrig_see(r, "a", &seen);
    assert_int_equal(seen.s.cycles_late + seen.s.cycles_missed, 0);
    uint64_t before = seen.s.cycles;
    r->read = FAKE_HANG;
    test_drive_ms(&r->env, 1000); /* now one is under way */
    test_drive_ms(&r->env, 3500);
    r->read = FAKE_NOW;
    assert_int_equal(fake_end(r, "a", KE_EAGAIN), 0);
    test_settle(&r->env);
    hrig_see(r, "a", &seen);
    assert_int_equal(seen.s.cycles_missed, 2 * 2); /* two cycles of two properties */
    assert_int_equal(seen.s.cycles_late, 2);
    assert_true(seen.s.late_max_ms >= 2000);
    assert_int_equal(seen.s.cycles - before, 2 * 4);
    /* and on its grid again */
    test_drive_ms(&r->env, 5000);
    hrig_see(r, "a", &seen);
    assert_int_equal(seen.s.cycles - before, 2 * 9);
    assert_int_equal(seen.s.cycles_missed, 4);
}

static void another_threads_end(void **state)
{
    (void)state;
    hrig_start(r);
    r->open = r->read = r->write = FAKE_THREAD;
    struct fake_dev *f = fake(r, "a");
    snprintf(f->text[2], sizeof f->text[2], "words");
    f->regs[1] = 4;
    hrig_put(r, MODEL(RW "," RO "," MP("s", "STRING", "ReadWrite", "")));
    hrig_put(
        r, DEVICE("a", DP("t", ",\"desired\":{\"value\":\"5\"}") "," DP("h", "") "," DP("s", "")));
    test_drive_ms(&r->env, 3000);
    assert_string_equal(see("a", 0)->reported, "5");
    assert_string_equal(seen.p[1].reported, "4");
    assert_string_equal(seen.p[2].reported, "words");
    assert_int_equal(seen.s.failures, 0);
}

struct teller {
    struct ke_devices *d;
    uint64_t device;
    int n;
};

static void *tell(void *arg)
{
    struct teller *t = arg;
    for (int i = 1; i <= t->n; i++) {
        char text[32];
        snprintf(text, sizeof text, "text %d", i);
        struct ke_device_value v[2] = {
            {.size = sizeof v[0], .property = 0, .kind = KE_DEVICE_KIND_INT, .i = i % 100},
            {.size = sizeof v[0],
             .property = 2,
             .kind = KE_DEVICE_KIND_TEXT,
             .p = text,
             .n = strlen(text)}};
        if (ke_device_report(t->d, t->device, v, i % 2 ? 2 : 1) < 0)
            return (void *)1;
    }
    return NULL;
}

static void told_by_threads(void **state)
{
    (void)state;
    pthread_t t[3];
    void *bad;
    r->no_subscribe = false;
    hrig_start(r);
    hrig_put(r, MODEL(RW "," RO "," MP("s", "STRING", "ReadWrite", "")));
    hrig_put(r, DEVICE("a", DP("t", "") "," DP("h", "") "," DP("s", "")));
    test_settle(&r->env);
    struct teller arg = {r->d, fake(r, "a")->device, 2001};
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, tell, &arg), 0);
    for (int i = 0; i < 20; i++)
        test_settle(&r->env);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(t[i], &bad), 0);
        assert_null(bad);
    }
    test_settle(&r->env);
    assert_string_equal(see("a", 0)->reported, "1");
    assert_string_equal(seen.p[2].reported, "text 2001");
    assert_string_equal(seen.p[1].reported, "0");
}

static void refused_reports_are_sent_again(void **state)
{
    (void)state;
    hrig_start(r);
    r->refuse = "\"twin\"";
    two_properties("");
    test_drive_ms(&r->env, 20000);
    assert_true(r->refusals >= 2);
    assert_int_equal((see("a", 0), seen.s.reports_waiting), 2);
    r->refuse = NULL;
    test_drive_ms(&r->env, 200000);
    assert_int_equal((see("a", 0), seen.s.reports_waiting), 0);
}

static void unknown_to_the_twin(void **state)
{
    (void)state;
    hrig_start(r);
    r->refuse = "\"twin\"";
    r->refuse_text = "\"update rejected due to the device is not existed\"";
    two_properties("");
    test_drive_ms(&r->env, 60000);
    assert_in_range(r->refusals, 4, 7); /* ever slower, and always all of it */
    assert_non_null(strstr(r->update, "\"t\""));
    assert_non_null(strstr(r->update, "\"h\""));
    assert_string_equal(see("a", 0)->error, "");
}

static void values_nobody_asked_for(void **state)
{
    (void)state;
    hrig_start(r);
    fake(r, "a")->extra = true;
    hrig_put(r, MODEL(RW "," RO));
    hrig_put(r, DEVICE("a", DP("t", "") ",{\"name\":\"h\",\"collectCycle\":60000}"));
    test_drive_ms(&r->env, 3000);
    assert_int_equal(see("a", 1)->reads, 1); /* the one that was asked for */
}

static void one_bad_value_does_not_hold_the_others(void **state)
{
    (void)state;
    hrig_start(r);
    r->refuse = "\"t\":";
    two_properties("");
    test_drive_ms(&r->env, 10000);
    hrig_see(r, "a", &seen);
    assert_int_equal(seen.s.reports_waiting, 1);
    assert_non_null(strstr(seen.p[0].error, "the value is not int"));
    fake(r, "a")->regs[1] = 8;
    test_drive_ms(&r->env, 10000);
    assert_non_null(strstr(r->update, "\"h\""));
    assert_non_null(strstr(r->update, "\"8\""));
}

static void silent_twin(void **state)
{
    (void)state;
    hrig_start(r);
    r->twin_silent = true;
    two_properties("");
    test_drive_ms(&r->env, 5000);
    int n = r->states;
    assert_int_equal(n, 1);
    test_drive_ms(&r->env, 100000);
    assert_true(r->states > n);
    r->twin_silent = false;
    test_drive_ms(&r->env, 100000);
    assert_int_equal((see("a", 0), seen.s.reports_waiting), 0);
}

static void objects_in_any_order(void **state)
{
    (void)state;
    hrig_start(r);
    hrig_put(r, DEVICE("a", DP("t", "") "," DP("unknown", "")));
    test_drive_ms(&r->env, 1000);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_WAITING);
    assert_string_equal(seen.s.error, "waits for device model m");
    hrig_put(r, MODEL(RW));
    test_settle(&r->env);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
    assert_string_equal(seen.p[1].error, "the device model has no such property");
    assert_int_equal(fake(r, "a")->n_last_read, 1);
    /* the model gains it */
    hrig_put(r, MODEL(RW "," MP("unknown", "INT", "ReadOnly", "")));
    test_settle(&r->env);
    assert_string_equal(see("a", 1)->error, "");
    assert_int_equal(fake(r, "a")->opens, 2);
    /* the same model once more changes nothing */
    hrig_put(r, MODEL(RW "," MP("unknown", "INT", "ReadOnly", "")));
    test_settle(&r->env);
    assert_int_equal(fake(r, "a")->opens, 2);
    /* a driver that comes later, or goes */
    assert_int_equal(ke_device_driver_unregister(r->d, "fake"), 0);
    test_drive_ms(&r->env, 1000);
    assert_string_equal((see("a", 0), seen.s.error), "waits for a driver of protocol fake");
    assert_int_equal(ke_device_driver_unregister(r->d, "fake"), KE_ENOTFOUND);
}

static void refused_objects(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{\"kind\":\"Pod\"}",
        "{\"kind\":\"Device\",\"metadata\":{\"name\":\"x\"}}",
        "{\"kind\":\"Device\",\"metadata\":{\"name\":\"x\"},\"spec\":{\"properties\":7}}"};
    hrig_start(r);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ke_devices_put(r->d, bad[i], strlen(bad[i])), KE_EPARSE);
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "x"), KE_ENOTFOUND);
    assert_int_equal(ke_devices_remove(r->d, "Nothing", NULL, "x"), KE_EINVAL);
    hrig_tell(r, "insert", "default/device/x", "{\"metadata\":{\"name\":\"x\"},\"spec\":[]}");
    test_settle(&r->env);
    struct ke_devices_stats st;
    assert_int_equal(ke_devices_get_stats(r->d, &st, sizeof st), 0);
    assert_int_equal(st.refused, 1);
    assert_int_equal(st.devices, 0);
}

static void limits_of_the_harness(void **state)
{
    (void)state;
    r->c.max_devices = 1;
    r->c.max_properties = 2;
    hrig_start(r);
    two_properties("");
    assert_int_equal(
        ke_devices_put(r->d, DEVICE("b", DP("t", "")), strlen(DEVICE("b", DP("t", "")))),
        KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(r->env.ctx), "max_devices is 1"));
    const char *many = DEVICE("a", DP("t", "") "," DP("h", "") "," DP("x", ""));
    assert_int_equal(ke_devices_put(r->d, many, strlen(many)), KE_ELIMIT);
}

static void messages_of_the_cloud(void **state)
{
    (void)state;
    hrig_start(r);
    hrig_tell(r, "insert", "default/device/a", DEVICE("a", DP("t", "")));
    hrig_keep(r, "o/device", "default/a", DEVICE("a", DP("t", "")));
    test_settle(&r->env);
    hrig_tell(r, "insert", "default/devicemodel/m", MODEL(RW)); /* reads a from the store again */
    test_drive_ms(&r->env, 100);
    see("a", 0);
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
    hrig_tell(r, "update", "default/device/a",
              DEVICE("a", DP("t", ",\"desired\":{\"value\":\"3\"}")));
    test_settle(&r->env);
    assert_true(fake(r, "a")->regs[0] == 3);
    hrig_tell(r, "delete", "default/devicemodel/m", "{\"metadata\":{\"name\":\"m\"}}");
    test_drive_ms(&r->env, 2000);
    assert_true(fake(r, "a")->is_open);
    hrig_tell(r, "delete", "default/device/a", "{\"metadata\":{\"name\":\"a\"}}");
    test_settle(&r->env);
    assert_false(fake(r, "a")->is_open);
    hrig_see(r, "a", &seen);
    assert_false(seen.found);
}

static void deleted_while_read(void **state)
{
    (void)state;
    hrig_start(r);
    two_properties("");
    test_settle(&r->env);
    r->read = FAKE_HANG;
    test_drive_ms(&r->env, 1500);
    assert_int_equal(ke_devices_remove(r->d, "Device", "default", "a"), 0);
    test_settle(&r->env);
    assert_true(fake(r, "a")->is_open); /* the read may still write into what it was given */
    assert_int_equal(fake_end(r, "a", 0), 0);
    test_settle(&r->env);
    assert_false(fake(r, "a")->is_open);
}

static void deleted_and_back_while_it_closes(void **state)
{
    (void)state;
    hrig_start(r);
    fake(r, "a")->regs[0] = 77;
    two_properties("");
    test_settle(&r->env);
    r->close = FAKE_HANG;
    r->read = FAKE_HANG;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
        test_settle(&r->env);
        two_properties("");
        test_settle(&r->env);
    }
    assert_int_equal(fake(r, "a")->opens, 1);
    test_drive_ms(&r->env, 5500); /* the close is given up */
    assert_int_equal(fake(r, "a")->opens, 2);
    /* nothing of its former life */
    assert_string_equal(see("a", 0)->reported, "-");
    assert_int_equal(seen.p[0].reads, 0);
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
    two_properties("");
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
    test_drive_ms(&r->env, 20000);
    hrig_see(r, "a", &seen);
    assert_false(seen.found);
    assert_int_equal(fake(r, "a")->opens, 2);
}

static void from_the_store_at_start(void **state)
{
    (void)state;
    hrig_keep(r, "o/device", "default/a", DEVICE("a", DP("t", ",\"desired\":{\"value\":\"9\"}")));
    hrig_keep(r, "o/device", "default/bad", "{\"metadata\":{\"name\":\"bad\"},\"spec\":3}");
    hrig_keep(r, "o/devicemodel", "default/m", MODEL(RW));
    hrig_start(r);
    test_drive_ms(&r->env, 100);
    assert_string_equal(see("a", 0)->reported, "9");
    hrig_stop(r);
    hrig_start(r);
    hrig_stop(r); /* with reads of the store still under way */
    hrig_start(r);
    test_drive_ms(&r->env, 100);
    assert_string_equal(see("a", 0)->reported, "9");
}

#define ALPHA                                                                                      \
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{\"name\":" \
    "\"old\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":\"om\"},"           \
    "\"protocol\":{\"customizedProtocol\":{\"protocolName\":\"fake\"}},\"propertyVisitors\":[{"    \
    "\"propertyName\":\"sp\",\"customizedProtocol\":{\"protocolName\":\"fake\",\"configData\":{}}" \
    ","                                                                                            \
    "\"collectCycle\":1000000000}]},\"status\":{\"twins\":[{\"propertyName\":\"sp\",\"desired\":{" \
    "\"value\":\"20\",\"metadata\":{\"type\":\"int\"}}}]}}"
#define ALPHA_MODEL                                                                                \
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"DeviceModel\",\"metadata\":{"     \
    "\"name\":\"om\",\"namespace\":\"default\"},\"spec\":{\"properties\":[{\"name\":\"sp\","       \
    "\"type\":{\"int\":{\"accessMode\":\"ReadWrite\"}}}]}}"

static void delta_of_the_twin(void **state)
{
    (void)state;
    hrig_keep(r, "o/device", "default/old", ALPHA);
    hrig_keep(r, "o/devicemodel", "default/om", ALPHA_MODEL);
    hrig_start(r);
    test_drive_ms(&r->env, 100);
    assert_string_equal(see("old", 0)->reported, "20");
    assert_null(strstr(r->update, "expected")); /* it is the cloud's in this API */
    hrig_tell(r, "update", "device/old/twin/delta", "{\"delta\":{\"sp\":\"25\",\"other\":\"1\"}}");
    test_settle(&r->env);
    assert_true(fake(r, "old")->regs[0] == 25);
    int n = fake(r, "old")->writes;
    hrig_tell(r, "update", "device/default/old/twin/delta",
              "\"{\\\"delta\\\":{\\\"sp\\\":\\\"25\\\"}}\"");
    test_settle(&r->env);
    assert_int_equal(fake(r, "old")->writes, n); /* it is known */
    /* what the twin said last outlives a restart, not what the object said before */
    hrig_stop(r);
    hrig_start(r);
    test_drive_ms(&r->env, 100);
    assert_true(fake(r, "old")->regs[0] == 25);
    /* a device of v1beta1 has it in its object alone */
    hrig_put(r, MODEL(RW));
    hrig_put(r, DEVICE("a", DP("t", ",\"desired\":{\"value\":\"30\"}")));
    test_settle(&r->env);
    hrig_tell(r, "update", "device/a/twin/delta", "{\"delta\":{\"t\":\"20\"}}");
    test_settle(&r->env);
    assert_true(fake(r, "a")->regs[0] == 30);
}

#define PROFILE(instances) PROFILE_AT(instances, "")
#define COMMON ",\\\"protocolCommonConfig\\\":{\\\"tcp\\\":{\\\"ip\\\":\\\"10.0.0.9\\\"}}"
#define NO_COMMON ",\\\"protocolCommonConfig\\\":null"
#define PROFILE_AT(instances, common)                                                              \
    "{\"metadata\":{\"name\":\"device-profile-config-edge-1\"},\"data\":{\"deviceProfile.json\":"  \
    "\"{\\\"deviceInstances\\\":[" instances "],\\\"deviceModels\\\":[{\\\"name\\\":\\\"m\\\","    \
    "\\\"properties\\\":[{\\\"name\\\":\\\"sp\\\",\\\"dataType\\\":\\\"int\\\",\\\"accessMode\\\"" \
    ":\\\"ReadWrite\\\"}]}],\\\"protocols\\\":[{\\\"name\\\":\\\"p\\\",\\\"protocol\\\":"          \
    "\\\"fake\\\",\\\"protocolConfig\\\":{\\\"slaveID\\\":1}" common "}]}\"}}"
#define INSTANCE(name, desired)                                                                    \
    "{\\\"id\\\":\\\"" name "\\\",\\\"name\\\":\\\"" name                                          \
    "\\\",\\\"protocol\\\":\\\"p\\\",\\\"model\\\":"                                               \
    "\\\"m\\\",\\\"twins\\\":[{\\\"propertyName\\\":\\\"sp\\\",\\\"desired\\\":{\\\"value\\\":"    \
    "\\\"" desired "\\\"}}],\\\"propertyVisitors\\\":[{\\\"propertyName\\\":\\\"sp\\\","           \
    "\\\"protocol\\\":\\\"fake\\\",\\\"visitorConfig\\\":{\\\"offset\\\":2}}]}"

static void device_profile(void **state)
{
    (void)state;
    r->c.flags = KE_DEVICES_PROFILE;
    hrig_start(r);
    test_drive_ms(&r->env, 100);
    assert_int_equal(r->asked, 1);
    r->profile = PROFILE(INSTANCE("x", "7") "," INSTANCE("y", "8"));
    test_drive_ms(&r->env, 1100); /* the cloud has made it meanwhile */
    assert_int_equal(r->asked, 2);
    assert_true(fake(r, "x")->regs[0] == 7 && fake(r, "y")->regs[0] == 8);
    assert_string_equal(fake(r, "x")->config, "{\"slaveID\":1}");
    assert_string_equal(fake(r, "x")->visitor0, "{\"offset\":2}");
    hrig_tell(r, "update", "default/configmap/device-profile-config-edge-1",
              PROFILE(INSTANCE("y", "9")));
    test_drive_ms(&r->env, 2000);
    assert_false(fake(r, "x")->is_open);
    assert_true(fake(r, "y")->regs[0] == 9);
    assert_int_equal(fake(r, "y")->opens, 1);
    /* KubeEdge 1.4 loses the address when it writes the profile again */
    hrig_tell(r, "update", "default/configmap/device-profile-config-edge-1",
              PROFILE_AT(INSTANCE("y", "9"), COMMON));
    test_drive_ms(&r->env, 2000);
    assert_string_equal(fake(r, "y")->config, "{\"ip\":\"10.0.0.9\",\"slaveID\":1}");
    hrig_tell(r, "update", "default/configmap/device-profile-config-edge-1",
              PROFILE_AT(INSTANCE("y", "10"), NO_COMMON));
    test_drive_ms(&r->env, 2000);
    assert_string_equal(fake(r, "y")->config, "{\"ip\":\"10.0.0.9\",\"slaveID\":1}");
    assert_true(fake(r, "y")->regs[0] == 10);
    /* after a restart, without a cloud, too */
    hrig_keep(r, "o/configmap", "default/device-profile-config-edge-1",
              PROFILE_AT(INSTANCE("y", "10"), NO_COMMON));
    hrig_stop(r);
    memset(fake(r, "y"), 0, sizeof *fake(r, "y"));
    hrig_start(r);
    test_drive_ms(&r->env, 2000);
    assert_string_equal(fake(r, "y")->config, "{\"ip\":\"10.0.0.9\",\"slaveID\":1}");
    /* another device of that name begins anew */
    hrig_tell(r, "update", "default/configmap/device-profile-config-edge-1",
              PROFILE(INSTANCE("x", "7")));
    test_drive_ms(&r->env, 2000);
    hrig_tell(r, "update", "default/configmap/device-profile-config-edge-1",
              PROFILE_AT(INSTANCE("y", "11"), NO_COMMON));
    test_drive_ms(&r->env, 2000);
    assert_string_equal(fake(r, "y")->config, "{\"slaveID\":1}");
    r->asked = 2;
    /* a delta for one that is not known: ask */
    hrig_tell(r, "update", "device/z/twin/delta", "{\"delta\":{}}");
    test_drive_ms(&r->env, 100);
    assert_int_equal(r->asked, 3);
}

/* A device of 1.4 goes by its membership, and comes by it. */
static void membership_of_a_profile(void **state)
{
    (void)state;
    r->c.flags = KE_DEVICES_PROFILE;
    r->profile = PROFILE(INSTANCE("x", "7") "," INSTANCE("y", "8"));
    hrig_start(r);
    test_drive_ms(&r->env, 2000);
    assert_true(fake(r, "x")->is_open && fake(r, "y")->is_open);
    /* the profile that says so comes later, or never: gone at once all the same, and for good */
    hrig_tell(r, "update", "device/x/membership/removed", "{}");
    test_drive_ms(&r->env, 10);
    assert_false(fake(r, "x")->is_open);
    test_drive_ms(&r->env, 65000);
    assert_int_equal(fake(r, "x")->opens, 1);
    hrig_see(r, "x", &seen);
    assert_false(seen.found);
    assert_true(fake(r, "y")->is_open);
    /* one that is new is looked for, one that is known is not */
    r->profile = PROFILE(INSTANCE("y", "8") "," INSTANCE("z", "9"));
    int asked = r->asked;
    hrig_tell(r, "update", "device/y/membership/added", "{}");
    test_drive_ms(&r->env, 10);
    assert_int_equal(r->asked, asked);
    hrig_tell(r, "update", "device/z/membership/added", "{}");
    test_drive_ms(&r->env, 2000);
    assert_int_equal(r->asked, asked + 1);
    assert_true(fake(r, "z")->is_open && fake(r, "z")->regs[0] == 9);
    assert_int_equal(fake(r, "y")->opens, 1);
    /* devices that are objects, and the host's, do not go by it */
    hrig_put(r, MODEL(RW));
    hrig_put(r, DEVICE("own", "{\"name\":\"t\"}"));
    hrig_tell(r, "update", "device/own/membership/removed", "{}");
    hrig_tell(r, "update", "device//membership/removed", "{}");
    hrig_tell(r, "update", "device/nobody/membership/removed", "{}");
    test_drive_ms(&r->env, 2000);
    assert_true(fake(r, "own")->is_open);
}

struct done {
    int n, status;
    char reply[64], text[256];
};

static void on_done(void *user, int status, const char *reply, const char *text)
{
    struct done *d = user;
    d->n++;
    d->status = status;
    snprintf(d->reply, sizeof d->reply, "%s", reply ? reply : "-");
    snprintf(d->text, sizeof d->text, "%s", text ? text : "-");
}

static int set(const char *value, struct done *d)
{
    return ke_devices_set(r->d, NULL, "a", "t", value, d ? on_done : NULL, d);
}

static void set_by_the_host(void **state)
{
    (void)state;
    struct done d = {0};
    hrig_start(r);
    two_properties(",\"desired\":{\"value\":\"1\"}");
    test_settle(&r->env);
    assert_int_equal(set("5", &d), 0);
    assert_int_equal(d.n, 0);
    test_settle(&r->env);
    assert_int_equal(d.n, 1);
    assert_int_equal(d.status, 0);
    assert_true(fake(r, "a")->regs[0] == 5);
    assert_int_equal(set("500", &d), KE_ELIMIT);
    assert_int_equal(set("x", &d), KE_EPARSE);
    assert_int_equal(ke_devices_set(r->d, NULL, "a", "h", "1", NULL, NULL), KE_EACCES);
    assert_int_equal(ke_devices_set(r->d, NULL, "a", "?", "1", NULL, NULL), KE_ENOTFOUND);
    assert_int_equal(ke_devices_set(r->d, "x", "a", "t", "1", NULL, NULL), KE_ENOTFOUND);
    /* the cloud's old wish does not undo it, its next does */
    two_properties(",\"desired\":{\"value\":\"1\"}");
    test_drive_ms(&r->env, 2000);
    assert_true(fake(r, "a")->regs[0] == 5);
    two_properties(",\"desired\":{\"value\":\"2\"}");
    test_drive_ms(&r->env, 2000);
    assert_true(fake(r, "a")->regs[0] == 2);
    fake(r, "a")->stuck[0] = true;
    assert_int_equal(set("6", &d), 0);
    test_settle(&r->env);
    assert_int_equal(d.status, KE_ECONFLICT);
    r->write = FAKE_HANG;
    assert_int_equal(set("7", &d), 0);
    assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
    test_drive_ms(&r->env, 6000);
    assert_int_equal(d.n, 3);
    assert_true(d.status < 0);
}

#define METHODS                                                                                    \
    "{\"kind\":\"Device\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"deviceModelRef\":{\"name\":"   \
    "\"m\"},\"protocol\":{\"protocolName\":\"fake\"},\"properties\":[{\"name\":\"t\"}],"           \
    "\"methods\":[{\"name\":\"set\",\"propertyNames\":[\"t\"]},{\"name\":\"reset\"}]}}"

static void methods(void **state)
{
    (void)state;
    struct done d = {0};
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    hrig_put(r, METHODS);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "reset", NULL, 0, on_done, &d), KE_ESTATE);
    test_settle(&r->env);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "reset", "{\"x\":1}", 7, on_done, &d), 0);
    test_settle(&r->env);
    assert_int_equal(d.n, 1);
    assert_string_equal(d.reply, "{\"a\":1}");
    assert_string_equal(r->method, "reset");
    assert_string_equal(r->args, "{\"x\":1}");
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "none", NULL, 0, on_done, &d), KE_ENOTFOUND);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "reset", "{", 1, on_done, &d), KE_EPARSE);
    r->call = FAKE_HANG;
    for (int i = 0; i < 16; i++)
        assert_int_equal(ke_devices_call(r->d, NULL, "a", "reset", NULL, 0, on_done, &d), 0);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "reset", NULL, 0, on_done, &d), KE_EBUSY);
    test_drive_ms(&r->env, 3000000);
    assert_int_equal(d.n, 17);
    assert_int_equal(d.status, KE_ETIMEDOUT);
}

static void methods_as_writes(void **state)
{
    (void)state;
    struct done d = {0};
    r->no_call = true;
    hrig_start(r);
    hrig_put(r, MODEL(RW));
    hrig_put(r, METHODS);
    test_settle(&r->env);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "set", "{\"t\":12}", 8, on_done, &d), 0);
    test_settle(&r->env);
    assert_int_equal(d.n, 1);
    assert_int_equal(d.status, 0);
    assert_true(fake(r, "a")->regs[0] == 12);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "set", "{\"u\":12}", 8, on_done, &d),
                     KE_EPARSE);
    assert_int_equal(ke_devices_call(r->d, NULL, "a", "reset", "{}", 2, on_done, &d), KE_ENOTSUP);
}

static void ids_with_namespace(void **state)
{
    (void)state;
    r->c.id_with_namespace = 1;
    hrig_start(r);
    two_properties("");
    test_settle(&r->env);
    assert_string_equal(r->update_topic, "$hw/events/device/default/a/twin/update");
}

/* ---- without a router ---- */

static struct {
    uint64_t report;
    int reports, states;
    char text[64];
} sunk;

static int sink_report(void *user, uint64_t report, const char *ns, const char *name,
                       const struct ke_device_reported *v, uint32_t n)
{
    (void)user;
    sunk.reports++;
    sunk.report = report;
    snprintf(sunk.text, sizeof sunk.text, "%s/%s %s=%s (%s) %u", ns, name, v[0].property,
             v[0].reported, v[0].desired, n);
    return 0;
}

static int sink_state(void *user, uint64_t report, const char *ns, const char *name,
                      const char *state)
{
    (void)user, (void)ns, (void)name;
    sunk.states += !strcmp(state, "online");
    return ke_devices_reported(r->d, report, 0);
}

static void a_sink_instead_of_a_router(void **state)
{
    (void)state;
    static const struct ke_devices_sink sink = {sizeof sink, sink_report, sink_state};
    memset(&sunk, 0, sizeof sunk);
    r->c.router = NULL;
    r->c.store = NULL;
    r->c.sink = &sink;
    hrig_start(r);
    two_properties(",\"desired\":{\"value\":\"4\"}");
    test_drive_ms(&r->env, 3000);
    assert_int_equal(sunk.states, 1);
    assert_int_equal(sunk.reports, 1);
    assert_string_equal(sunk.text, "default/a t=4 (4) 2");
    assert_int_equal(ke_devices_reported(r->d, sunk.report, KE_ECONN), 0);
    assert_int_equal(ke_devices_reported(r->d, sunk.report, 0), KE_ENOTFOUND);
    test_drive_ms(&r->env, 2000);
    assert_int_equal(sunk.reports, 2);
    assert_int_equal(ke_devices_reported(r->d, sunk.report, 0), 0);
    assert_int_equal((see("a", 0), seen.s.reports_waiting), 0);
}

static void configurations(void **state)
{
    (void)state;
    struct ke_devices *d;
    r->c.node_name = NULL;
    assert_int_equal(ke_devices_new(&d, r->env.ctx, &r->c), KE_EINVAL);
    r->c.node_name = "edge-1";
    r->c.cycle_unit = 9;
    assert_int_equal(ke_devices_new(&d, r->env.ctx, &r->c), KE_EINVAL);
    r->c.cycle_unit = 0;
    hrig_start(r);
    assert_int_equal(ke_devices_new(&d, r->env.ctx, &r->c), KE_EEXIST);
    struct ke_device_ops ops = {.size = sizeof ops};
    assert_int_equal(ke_device_driver_register(r->d, "x", &ops, NULL), KE_EINVAL);
    ops.size = 4;
    assert_int_equal(ke_device_driver_register(r->d, "x", &ops, NULL), KE_EABI);
    assert_int_equal(ke_device_sim_register(r->d), 0);
    assert_int_equal(ke_device_sim_register(r->d), KE_EEXIST);
    ke_devices_free(NULL);
}

static void drivers_configuration(void **state)
{
    (void)state;
    static const char json[] =
        "{\"Port\":\"502\",\"f\":502.0,\"x\":1.5,\"on\":\"TRUE\",\"s\":\"a\\n\","
        "\"o\":{\"In\":7},\"n\":null}";
    int64_t i = -1;
    double d = -1;
    uint32_t b = 9;
    char s[8];
    hrig_start(r);
    assert_int_equal(ke_device_config_i64(json, strlen(json), "port", &i), 0);
    assert_int_equal(i, 502);
    assert_int_equal(ke_device_config_i64(json, strlen(json), "f", &i), 0);
    assert_int_equal(ke_device_config_i64(json, strlen(json), "x", &i), KE_EPARSE);
    assert_int_equal(ke_device_config_i64(json, strlen(json), "o.in", &i), 0);
    assert_int_equal(i, 7);
    assert_int_equal(ke_device_config_i64(json, strlen(json), "n", &i), KE_ENOTFOUND);
    assert_int_equal(ke_device_config_i64(json, strlen(json), "o.in.x", &i), KE_ENOTFOUND);
    assert_int_equal(ke_device_config_f64(json, strlen(json), "X", &d), 0);
    assert_true(d == 1.5);
    assert_int_equal(ke_device_config_bool(json, strlen(json), "on", &b), 0);
    assert_int_equal(b, 1);
    assert_int_equal(ke_device_config_bool(json, strlen(json), "port", &b), KE_EPARSE);
    assert_int_equal(ke_device_config_str(json, strlen(json), "f", s, sizeof s), 0);
    assert_string_equal(s, "502.0");
    assert_int_equal(ke_device_config_str(json, strlen(json), "f", s, 3), KE_ELIMIT);
    assert_int_equal(ke_device_config_str(json, strlen(json), "o", s, sizeof s), KE_EPARSE);
    assert_int_equal(ke_device_config_str("{", 1, "o", s, sizeof s), KE_EPARSE);
}

/* ---- memory ---- */

static int put_all(void)
{
    static const char *const objects[] = {
        MODEL(RW "," RO), DEVICE("a", DP("t", ",\"desired\":{\"value\":\"5\"}") "," DP("h", "")),
        DEVICE("b", DP("h", ""))};
    int bad = 0;
    for (size_t i = 0; i < 3; i++) {
        int e = ke_devices_put(r->d, objects[i], strlen(objects[i]));
        assert_true(e == 0 || e == KE_ENOMEM);
        bad += e < 0;
    }
    return bad;
}

/* Whatever allocation fails, nothing is lost for good, nothing leaks, and it goes on afterwards. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    r->read = FAKE_THREAD;
    hrig_start(r);
    for (size_t n = 1; n < 400; n++) {
        test_alloc_fail_at(&r->env.alloc, n);
        (void)put_all();
        test_settle(&r->env);
        test_drive_ms(&r->env, 2000);
        bool failed = atomic_load(&r->env.alloc.failed) != 0;
        test_alloc_fail_at(&r->env.alloc, 0);
        atomic_store(&r->env.alloc.failed, 0);
        assert_int_equal(put_all(), 0);
        test_drive_ms(&r->env, 200000);
        see("a", 0);
        assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
        assert_string_equal(seen.p[0].reported, "5");
        assert_int_equal(seen.s.reports_waiting, 0);
        assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "a"), 0);
        assert_int_equal(ke_devices_remove(r->d, "Device", NULL, "b"), 0);
        assert_int_equal(ke_devices_remove(r->d, "DeviceModel", NULL, "m"), 0);
        test_drive_ms(&r->env, 6000);
        if (!failed) {
            assert_true(n > 30);
            break;
        }
        assert_true(n < 399);
    }
    atomic_store(&r->env.log_errors, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(values_reach_the_twin),
        T(unchanged_values_are_not_told_again),
        T(always_means_every_cycle),
        T(dead_band_and_report_cycle),
        T(not_reported_unless_asked),
        T(desired_is_written_and_read_back),
        T(new_desired_does_not_open_again),
        T(desired_that_cannot_be),
        T(desired_that_does_not_fit_the_model),
        T(read_back_that_differs),
        T(refused_write_is_made_again_when_it_may_help),
        T(hanging_driver_stalls_nothing_else),
        T(hanging_close_ends_too),
        T(lying_driver),
        T(calls_that_are_refused_at_once),
        T(opening_fails),
        T(lost_devices_come_back),
        T(health_is_asked_when_nothing_is_read),
        T(subscription_that_is_not_possible),
        T(equal_devices_share),
        T(slow_drivers_leave_the_loop_to_others),
        T(late_and_missed_cycles_are_counted),
        T(another_threads_end),
        T(told_by_threads),
        T(refused_reports_are_sent_again),
        T(unknown_to_the_twin),
        T(values_nobody_asked_for),
        T(one_bad_value_does_not_hold_the_others),
        T(silent_twin),
        T(objects_in_any_order),
        T(refused_objects),
        T(limits_of_the_harness),
        T(messages_of_the_cloud),
        T(deleted_while_read),
        T(deleted_and_back_while_it_closes),
        T(from_the_store_at_start),
        T(delta_of_the_twin),
        T(device_profile),
        T(membership_of_a_profile),
        T(set_by_the_host),
        T(methods),
        T(methods_as_writes),
        T(ids_with_namespace),
        T(a_sink_instead_of_a_router),
        T(configurations),
        T(drivers_configuration),
        T(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
