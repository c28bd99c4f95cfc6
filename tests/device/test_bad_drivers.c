/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drivers in the process that hang, lie or die, beside a healthy device, before a real twin. Time
 * is virtual, so what the healthy device does is counted: it must be the same as without the
 * others.
 */
#include "support/support.h"

#include <math.h>
#include <pthread.h>

#include <kubeedge/device.h>
#include <kubeedge/twin.h>

#define SECONDS 60
#define MIB ((size_t)1 << 20)

enum fault {
    WELL,
    OPEN_HANGS,
    OPEN_NO_HANDLE, /* ends well, with NULL as its handle */
    READ_HANGS,
    READ_TWICE,
    READ_LATE,  /* after the device was closed, again and again */
    READ_WRONG, /* with values, below */
    READ_STATUS,
    READ_OTHERS, /* values of properties there are not */
    READ_ABI,
    READ_FLOODS,    /* tells a thousand values by itself with each read */
    READ_ELSEWHERE, /* ended by another thread */
    READ_REFUSED,
    WRITE_HANGS,
    CLOSE_HANGS,
    HEALTH_HANGS,
    DIES, /* tells that it is lost, in every read */
};

struct bad {
    enum fault fault;
    struct ke_device_value value; /* READ_WRONG */
    int status;
    uint64_t device, ops[256]; /* the last ones */
    uint32_t n_ops;
    int reads;
};

static struct {
    struct test_env env;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_twin *twin;
    struct ke_devices *d;
    struct bad bad;
    int well_reads, told;
    int64_t level;
} rig;

static struct ke_device_result NOTHING = {.size = sizeof NOTHING};

/* ---- the healthy driver: a number that grows with each read ---- */

static int well_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    (void)c;
    *ret_dev = user;
    return ke_device_complete(rig.d, op, 0, NULL);
}

static int well_close(void *user, void *dev, uint64_t op)
{
    (void)user;
    (void)dev;
    return ke_device_complete(rig.d, op, 0, NULL);
}

static int well_read(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct ke_device_value v = {
        .size = sizeof v, .property = properties[0], .kind = KE_DEVICE_KIND_INT, .i = ++rig.level};
    struct ke_device_result r = {.size = sizeof r, .values = &v, .n_values = 1};
    (void)user;
    (void)dev;
    assert_int_equal(n, 1);
    rig.well_reads++;
    return ke_device_complete(rig.d, op, 0, &r);
}

static void on_twin(void *user, const struct ke_twin_event *e)
{
    (void)user;
    rig.told += e->what == KE_TWIN_CHANGED;
}

/* ---- the other ---- */

static void later(uint64_t op)
{
    rig.bad.ops[rig.bad.n_ops++ % 256] = op;
}

/* All operations there ever were, once more. */
static void late(void)
{
    for (uint32_t i = 0; i < rig.bad.n_ops && i < 256; i++)
        assert_int_equal(ke_device_complete(rig.d, rig.bad.ops[i], 0, &NOTHING), KE_ENOTFOUND);
}

static int bad_open(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    *ret_dev = rig.bad.fault == OPEN_NO_HANDLE ? NULL : user;
    rig.bad.device = c->device;
    if (rig.bad.fault == OPEN_HANGS)
        return 0;
    return ke_device_complete(rig.d, op, 0, NULL);
}

static int bad_close(void *user, void *dev, uint64_t op)
{
    (void)user;
    (void)dev;
    if (rig.bad.fault == CLOSE_HANGS)
        return 0;
    int r = ke_device_complete(rig.d, op, 0, NULL);
    if (rig.bad.fault == READ_LATE)
        late();
    return r;
}

struct elsewhere {
    uint64_t op;
    struct ke_device_result r;
};

static void *end_elsewhere(void *arg)
{
    struct elsewhere *e = arg;
    (void)!ke_device_complete(rig.d, e->op, 0, &e->r);
    return NULL;
}

static void flood(struct ke_device_value *v)
{
    for (int i = 0; i < 1000; i++) {
        v->i = i;
        assert_int_equal(ke_device_report(rig.d, rig.bad.device, v, 1), 0);
    }
}

static int bad_read(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct bad *b = &rig.bad;
    struct ke_device_value v = {.size = sizeof v, .kind = KE_DEVICE_KIND_INT, .i = 7};
    struct ke_device_value many[2];
    struct ke_device_result r = {.size = sizeof r, .values = &v, .n_values = 1};
    struct elsewhere e = {op, r};
    pthread_t t;
    (void)user;
    (void)n;
    (void)dev;
    v.property = properties[0];
    b->reads++;
    switch (b->fault) {
    case READ_HANGS:
        return 0;
    case READ_LATE:
        later(op);
        return 0; /* ended in close, when it is too late */
    case READ_TWICE:
        assert_int_equal(ke_device_complete(rig.d, op, 0, &r), 0);
        assert_int_equal(ke_device_complete(rig.d, op, 0, &r), KE_ENOTFOUND);
        return 0;
    case READ_WRONG: {
        v = b->value;
        v.property = properties[0];
        int x = ke_device_complete(rig.d, op, 0, &r);
        assert_true(x == 0 || x == KE_ELIMIT);
        return 0;
    }
    case READ_STATUS:
        return ke_device_complete(rig.d, op, b->status, &r);
    case READ_OTHERS:
        many[0] = many[1] = v;
        many[0].property = UINT32_MAX;
        many[1].property = 12345;
        r.values = many;
        r.n_values = 2;
        return ke_device_complete(rig.d, op, 0, &r);
    case READ_ABI:
        v.size = 4;
        assert_int_equal(ke_device_complete(rig.d, op, 0, &r), KE_EABI);
        return 0;
    case READ_FLOODS:
        flood(&v);
        return ke_device_complete(rig.d, op, 0, &r);
    case READ_ELSEWHERE:
        e.r.values = &v;
        assert_int_equal(pthread_create(&t, NULL, end_elsewhere, &e), 0);
        return pthread_join(t, NULL);
    case READ_REFUSED:
        return -12345; /* none of ours */
    case DIES:
        (void)!ke_device_lost(rig.d, b->device, KE_ECONN, "\x1b[2Jgone\n");
        return ke_device_complete(rig.d, op, 0, &r);
    default:
        return ke_device_complete(rig.d, op, 0, &r);
    }
}

static int bad_write(void *user, void *dev, uint64_t op, const struct ke_device_value *v,
                     uint32_t n)
{
    (void)user;
    (void)dev;
    (void)v;
    (void)n;
    return rig.bad.fault == WRITE_HANGS ? 0 : ke_device_complete(rig.d, op, 0, NULL);
}

static int bad_health(void *user, void *dev, uint64_t op)
{
    (void)user;
    (void)dev;
    return rig.bad.fault == HEALTH_HANGS ? 0 : ke_device_complete(rig.d, op, 0, NULL);
}

/* ---- a run ---- */

static void start(void)
{
    struct ke_store_config sc;
    struct ke_twin_config tc;
    struct ke_devices_config dc;
    const struct ke_device_ops well = {
        .size = sizeof well, .open = well_open, .close = well_close, .read = well_read};
    const struct ke_device_ops bad = {.size = sizeof bad,
                                      .open = bad_open,
                                      .close = bad_close,
                                      .read = bad_read,
                                      .write = bad_write,
                                      .health = bad_health};
    memset(&rig, 0, sizeof rig);
    test_env_init(&rig.env, 0);
    rig.env.idle_ms = 0;
    assert_int_equal(ke_router_new(&rig.router, rig.env.ctx, NULL), 0);
    ke_store_config_init(&sc, sizeof sc);
    sc.flags = KE_STORE_MEMORY;
    assert_int_equal(ke_store_open(&rig.store, rig.env.ctx, &sc), 0);
    ke_twin_config_init(&tc, sizeof tc);
    tc.router = rig.router;
    tc.store = rig.store;
    tc.node_name = "edge-1";
    assert_int_equal(ke_twin_new(&rig.twin, rig.env.ctx, &tc), 0);
    assert_int_equal(ke_twin_start(rig.twin), 0);
    ke_devices_config_init(&dc, sizeof dc);
    dc.router = rig.router;
    dc.store = rig.store;
    dc.node_name = "edge-1";
    assert_int_equal(ke_devices_new(&rig.d, rig.env.ctx, &dc), 0);
    assert_int_equal(ke_device_driver_register(rig.d, "well", &well, &rig), 0);
    assert_int_equal(ke_device_driver_register(rig.d, "bad", &bad, &rig), 0);
    test_settle(&rig.env);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ke_twin_add(rig.twin, i ? "bad" : "well", NULL, NULL, NULL, NULL), 0);
    struct ke_twin_sub *sub;
    assert_int_equal(ke_twin_observe(&sub, rig.twin, "well", on_twin, NULL), 0);
    test_settle(&rig.env);
}

static void stop(void)
{
    ke_devices_free(rig.d);
    ke_twin_free(rig.twin);
    ke_store_close(rig.store);
    ke_router_free(rig.router);
    test_env_fini(&rig.env);
}

static void put(const char *json)
{
    if (ke_devices_put(rig.d, json, strlen(json)) < 0)
        fail_msg("%s", ke_ctx_error(rig.env.ctx));
}

static void put_device(const char *name, const char *type, const char *desired)
{
    char json[1000];
    snprintf(json, sizeof json,
             "{\"kind\":\"DeviceModel\",\"metadata\":{\"name\":\"%s\"},\"spec\":{\"properties\":["
             "{\"name\":\"v\",\"type\":\"%s\",\"accessMode\":\"ReadWrite\"}]}}",
             name, type);
    put(json);
    snprintf(json, sizeof json,
             "{\"kind\":\"Device\",\"metadata\":{\"name\":\"%s\"},\"spec\":{\"deviceModelRef\":{"
             "\"name\":\"%s\"},\"protocol\":{\"protocolName\":\"%s\"},\"properties\":[{\"name\":"
             "\"v\",\"reportToCloud\":true,\"collectCycle\":1000,\"reportCycle\":1000%s}]}}",
             name, name, name, desired);
    put(json);
}

static int well_reads, well_told; /* without anything bad */

/* Returns with the rig running. */
static void run(const char *type, const char *desired)
{
    put_device("well", "INT", "");
    put_device("bad", type, desired);
    test_drive_ms(&rig.env, SECONDS * 1000);
}

static char error[600], prop_error[600], reported[600];
static uint32_t state;

static void on_status(void *user, const struct ke_device_status *s)
{
    (void)user;
    if (strcmp(s->name, "bad") != 0)
        return;
    state = s->state;
    snprintf(error, sizeof error, "%s", s->error);
    snprintf(prop_error, sizeof prop_error, "%s", s->properties[0].error);
    snprintf(reported, sizeof reported, "%s",
             s->properties[0].reported ? s->properties[0].reported : "-");
}

static void look(void)
{
    assert_int_equal(ke_devices_list(rig.d, on_status, NULL), 0);
}

static void went_on(const char *what)
{
    if (rig.well_reads != well_reads || rig.told != well_told)
        fail_msg("%s: the healthy device was read %d times and told %d, without it %d and %d", what,
                 rig.well_reads, rig.told, well_reads, well_told);
}

static void alone(void **unused)
{
    (void)unused;
    start();
    put_device("well", "INT", "");
    test_drive_ms(&rig.env, SECONDS * 1000);
    well_reads = rig.well_reads;
    well_told = rig.told;
    assert_in_range(well_reads, SECONDS - 1, SECONDS + 1);
    assert_in_range(well_told, SECONDS - 1, SECONDS + 1);
    stop();
}

static void hang_and_lie(void **unused)
{
    static const struct {
        const char *what;
        enum fault fault;
        int status;
        uint32_t state;
        const char *error, *reported;
    } t[] = {
        {"nothing wrong", WELL, 0, KE_DEVICE_ONLINE, "", "7"},
        {"open hangs", OPEN_HANGS, 0, 0, "did not complete it within", "-"},
        {"no handle", OPEN_NO_HANDLE, 0, KE_DEVICE_ONLINE, "", "7"},
        {"read hangs", READ_HANGS, 0, 0, "did not complete it within", "-"},
        {"read ends twice", READ_TWICE, 0, KE_DEVICE_ONLINE, "", "7"},
        {"read ends after close", READ_LATE, 0, 0, "did not complete it within", "-"},
        {"read fails", READ_STATUS, KE_EIO, 0, "a read failed", NULL},
        {"read with a status there is not", READ_STATUS, -4711, 0, "", NULL},
        {"values of others", READ_OTHERS, 0, KE_DEVICE_ONLINE, "", "-"},
        {"another ABI", READ_ABI, 0, 0, "the driver's result was refused", "-"},
        {"a flood", READ_FLOODS, 0, KE_DEVICE_ONLINE, "", "999"},
        {"another thread", READ_ELSEWHERE, 0, KE_DEVICE_ONLINE, "", "7"},
        {"read is refused", READ_REFUSED, 0, 0, "", "-"},
        {"write hangs", WRITE_HANGS, 0, 0, "did not complete it within", NULL},
        {"close hangs", CLOSE_HANGS, 0, KE_DEVICE_ONLINE, "", "7"},
        {"health hangs", HEALTH_HANGS, 0, KE_DEVICE_ONLINE, "", "7"},
        {"dies again and again", DIES, 0, 0, "?[2Jgone?", NULL},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        start();
        rig.bad.fault = t[i].fault;
        rig.bad.status = t[i].status;
        run("INT", t[i].fault == WRITE_HANGS ? ",\"desired\":{\"value\":\"5\"}" : "");
        went_on(t[i].what);
        look();
        if ((t[i].state && state != t[i].state) || !strstr(error, t[i].error) ||
            (t[i].reported && strcmp(reported, t[i].reported) != 0))
            fail_msg("%s: state %u, \"%s\", \"%s\", reported %s", t[i].what, state, error,
                     prop_error, reported);
        for (const char *p = error; *p; p++)
            assert_false((unsigned char)*p < ' ');
        if (t[i].fault == CLOSE_HANGS || t[i].fault == READ_LATE) {
            assert_int_equal(ke_devices_remove(rig.d, "Device", NULL, "bad"), 0);
            test_drive_ms(&rig.env, 20000);
            late();
        }
        stop();
    }
}

/* A value that is right; its text is "7" or "true". */
static void tell_the_truth(const char *type)
{
    struct ke_device_value v = {.size = sizeof v, .kind = KE_DEVICE_KIND_TEXT, .p = "7", .n = 1};
    if (!strcmp(type, "BOOLEAN"))
        v = (struct ke_device_value){.size = sizeof v, .kind = KE_DEVICE_KIND_BOOL, .i = 1};
    if (!strcmp(type, "BYTES"))
        v.kind = KE_DEVICE_KIND_BYTES;
    rig.bad.fault = READ_WRONG;
    rig.bad.value = v;
}

static const char *truth(const char *type)
{
    return !strcmp(type, "BOOLEAN") ? "true" : !strcmp(type, "BYTES") ? "Nw==" : "7";
}

/* What is no value of its type is told of the property, and not to the twin. */
static void wrong_values(void **unused)
{
    static char huge[2 * MIB];
    memset(huge, 'x', sizeof huge);
#define TEXT(s, len) .kind = KE_DEVICE_KIND_TEXT, .p = s, .n = len
#define NUMBER(x) .kind = KE_DEVICE_KIND_DOUBLE, .d = x
    const struct {
        const char *what, *type;
        struct ke_device_value v;
        const char *error, *reported; /* of the property; reported NULL: any */
    } t[] = {
        {"no number", "INT", {NUMBER(NAN)}, "does not fit", "-"},
        {"no number for a float", "FLOAT", {NUMBER(NAN)}, "no finite number", "-"},
        {"infinite", "DOUBLE", {NUMBER(INFINITY)}, "no finite number", "-"},
        {"below", "INT", {NUMBER(-1e300)}, "does not fit", "-"},
        {"too large for a float", "FLOAT", {NUMBER(1e300)}, "no finite number", "-"},
        {"a word", "INT", {TEXT("warm", 4)}, "gave no int", "-"},
        {"empty", "INT", {TEXT("", 0)}, "gave no int", "-"},
        {"nothing", "INT", {TEXT(NULL, 0)}, "gave no int", "-"},
        {"nothing as bytes", "BYTES", {.kind = KE_DEVICE_KIND_BYTES}, "", NULL},
        {"a word for a boolean", "BOOLEAN", {TEXT("maybe", 5)}, "gave no boolean", "-"},
        {"bytes for an int",
         "INT",
         {.kind = KE_DEVICE_KIND_BYTES, .p = "\1\2", .n = 2},
         "gave no",
         "-"},
        {"a kind there is not", "INT", {.kind = 99, .i = 3}, "gave no int", "-"},
        {"a kind there is not, for text", "STRING", {.kind = 99, .i = 3}, "gave no", "-"},
        {"no number for text", "STRING", {NUMBER(NAN)}, "gave no", "-"},
        {"an error there is not", "INT", {.status = -31337, .text = "\x1b[31m\nred"}, "red", "-"},
        {"1 MiB and more", "STRING", {TEXT(huge, sizeof huge)}, "", "-"},
        {"more than the twin takes", "STRING", {TEXT(huge, MIB / 2)}, "the twin refused it", NULL},
        {"NUL in a text", "STRING", {TEXT("a\0b", 3)}, "", NULL},
        {"no UTF-8", "STRING", {TEXT("\xff\xfe\x80", 3)}, "", NULL},
        {"another time",
         "INT",
         {.kind = KE_DEVICE_KIND_INT, .i = 5, .when_ms = INT64_MAX},
         "",
         "5"},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        start();
        rig.bad.fault = READ_WRONG;
        rig.bad.value = t[i].v;
        rig.bad.value.size = sizeof rig.bad.value;
        run(t[i].type, "");
        went_on(t[i].what);
        look();
        if (!strstr(prop_error, t[i].error) ||
            (t[i].reported && strcmp(reported, t[i].reported) != 0))
            fail_msg("%s: \"%s\", \"%s\", reported %.40s", t[i].what, error, prop_error, reported);
        for (const char *p = prop_error; *p; p++)
            assert_false((unsigned char)*p < ' ');
        struct ke_twin_value v = {0};
        int r = ke_twin_get(rig.twin, "bad", "v", &v, sizeof v);
        if (t[i].reported && !strcmp(t[i].reported, "-"))
            assert_int_equal(r, KE_ENOTFOUND);
        /* and it recovers */
        tell_the_truth(t[i].type);
        test_drive_ms(&rig.env, 120000);
        r = ke_twin_get(rig.twin, "bad", "v", &v, sizeof v);
        if (r < 0 || strcmp(v.reported, truth(t[i].type)) != 0)
            fail_msg("%s, then the truth: %d, %.40s", t[i].what, r, r < 0 ? "-" : v.reported);
        look();
        assert_string_equal(prop_error, "");
        stop();
    }
}

/* A desired value that cannot be does not hold back what the device says. */
static void wrong_desired_values(void **unused)
{
    static const struct {
        const char *type, *desired, *error, *observed;
    } t[] = {
        {"INT", "warm", "warm could not be written: \"warm\" is no int", NULL},
        {"INT", " 5 ", "", NULL}, /* written, and no int for the twin */
        {"FLOAT", "1e999", "is no float", NULL},
        {"BOOLEAN", "1", "is no boolean", NULL},
        {"INT", "7", "", "7"},
    };
    char desired[100];
    (void)unused;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        start();
        tell_the_truth(t[i].type);
        snprintf(desired, sizeof desired, ",\"desired\":{\"value\":\"%s\"}", t[i].desired);
        run(t[i].type, desired);
        went_on(t[i].desired);
        look();
        if (!strstr(prop_error, t[i].error))
            fail_msg("%s: %s", t[i].desired, prop_error);
        struct ke_twin_value v = {0};
        assert_int_equal(ke_twin_get(rig.twin, "bad", "v", &v, sizeof v), 0);
        assert_string_equal(v.reported, truth(t[i].type));
        if (t[i].observed)
            assert_string_equal(v.desired, t[i].observed);
        else
            assert_null(v.desired);
        stop();
    }
}

static void read_only_is_said(void **unused)
{
    (void)unused;
    start();
    put("{\"kind\":\"DeviceModel\",\"metadata\":{\"name\":\"bad\"},\"spec\":{\"properties\":["
        "{\"name\":\"v\",\"type\":\"INT\",\"accessMode\":\"ReadOnly\"}]}}");
    put("{\"kind\":\"Device\",\"metadata\":{\"name\":\"bad\"},\"spec\":{\"deviceModelRef\":{"
        "\"name\":\"bad\"},\"protocol\":{\"protocolName\":\"bad\"},\"properties\":[{\"name\":\"v\","
        "\"reportToCloud\":true,\"collectCycle\":1000,\"desired\":{\"value\":\"5\"}}]}}");
    test_drive_ms(&rig.env, 10000);
    look();
    assert_string_equal(prop_error, "5 could not be written: the device model says ReadOnly");
    assert_string_equal(reported, "7");
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone),
        cmocka_unit_test(hang_and_lie),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(wrong_desired_values),
        cmocka_unit_test(read_only_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
