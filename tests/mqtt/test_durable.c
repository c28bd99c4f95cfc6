/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was acknowledged survives: the power is cut at every kind of moment of a run, the server
 * starts on what a disk may hold then, and the session's owner comes back. Besides: a full disk,
 * memory that runs out.
 */
#include "rig.h"
#include "sim/powercut_io.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define N 30

static void tune(struct rig *r)
{
    r->c.data = "/data";
    r->c.max_keepalive = KE_MQTT_NONE;
    r->c.max_packet = KE_MQTT_NONE;
}

#define SESSION_NEW "20 02 00 00"
#define SESSION_OLD "20 02 01 00"

/* One run: sessions, subscriptions, N messages of QoS 1 and 2 for somebody who is away. */
struct story {
    size_t subscribed, retained, cleared;
    size_t acked[N + 1]; /* position of the disk when message i was acknowledged */
    size_t taken[N + 1]; /* and when its receiver had acknowledged it */
};

static void publish(struct peer *b, int i)
{
    char hex[80];

    snprintf(hex, sizeof hex, "%s 07 0001 't' %04x %04x", i % 3 ? "32" : "34", i, i);
    say(b, hex);
    snprintf(hex, sizeof hex, "%s 02 %04x", i % 3 ? "40" : "50", i);
    hear(b, hex);
    if (i % 3 == 0) {
        snprintf(hex, sizeof hex, "62 02 %04x", i);
        say(b, hex);
        snprintf(hex, sizeof hex, "70 02 %04x", i);
        hear(b, hex);
    }
}

static void run(struct powercut *disk, struct story *st)
{
    struct rig r;
    struct peer a, b;

    rig_init_io(&r, powercut_io(disk));
    tune(&r);
    rig_start(&r);
    hello4(&a, &r, "a", false);
    hear(&a, SESSION_NEW);
    say(&a, "82 06 0001 0001 't' 02");
    hear(&a, "90 03 0001 02");
    st->subscribed = powercut_pos(disk);
    peer_close(&a);
    test_settle(&r.env);
    hello4(&b, &r, "b", false);
    hear(&b, SESSION_NEW);
    say(&b, "33 06 0001 'r' 0064 'x'");
    hear(&b, "40 02 0064");
    st->retained = powercut_pos(disk);
    for (int i = 1; i <= N / 2; i++) {
        publish(&b, i);
        st->acked[i] = powercut_pos(disk);
    }
    ke_mqtt_stop(r.m);
    peer_close(&b);
    for (int k = 0; k < 2; k++) { /* so that there are several files, and a snapshot */
        assert_int_equal(ke_mqtt_start(r.m), 0);
        hello4(&b, &r, "b", false);
        hear(&b, SESSION_OLD);
        peer_close(&b);
        test_settle(&r.env);
        if (k == 0)
            ke_mqtt_stop(r.m);
    }
    hello4(&b, &r, "b", false);
    hear(&b, SESSION_OLD);
    for (int i = N / 2 + 1; i <= N; i++) {
        publish(&b, i);
        st->acked[i] = powercut_pos(disk);
    }
    say(&b, "33 05 0001 'r' 0065");
    hear(&b, "40 02 0065");
    st->cleared = powercut_pos(disk);
    peer_close(&b);
    rig_fini(&r);
}

struct heard {
    int n[N + 1];
    int last;
};

/* One packet: taken and acknowledged. false: it was the answer to a ping. */
static bool take_one(struct peer *a, struct heard *h)
{
    char hex[200];

    need_bytes(a, 2);
    size_t len = 2 + (size_t)(uint8_t)a->in.p[1];
    need_bytes(a, len);
    const uint8_t *p = (const uint8_t *)a->in.p;
    if (p[0] >> 4 == 3) {
        assert_int_equal(len, 9);
        int id = p[7] << 8 | p[8];
        assert_in_range(id, 1, N);
        h->n[id]++;
        assert_true(id > h->last);
        h->last = id;
        snprintf(hex, sizeof hex, "%s 02 %02x%02x", (p[0] >> 1 & 3) == 1 ? "40" : "50", p[5], p[6]);
    } else if (p[0] == 0x62) {
        snprintf(hex, sizeof hex, "70 02 %02x%02x", p[2], p[3]);
    } else {
        assert_int_equal(p[0], 0xd0);
        kei_buf_drop(&a->in, len);
        return false;
    }
    kei_buf_drop(&a->in, len);
    say(a, hex);
    return true;
}

/* Everything that waits, until a ping is answered with nothing else before it, twice. */
static void take_all(struct peer *a, struct heard *h)
{
    for (int quiet = 0; quiet < 2; quiet++) {
        test_settle(&a->r->env); /* what waits for the disk */
        say(a, "c0 00");
        while (take_one(a, h))
            quiet = -1;
    }
}

static void check(struct powercut *disk, size_t pos, const struct story *st)
{
    struct rig r;
    struct peer a;
    struct heard h = {.last = 0};

    rig_init_io(&r, powercut_io(disk));
    tune(&r);
    rig_start(&r);
    hello4(&a, &r, "a", false);
    need_bytes(&a, 4);
    bool old = a.in.p[2] == 1;
    kei_buf_drop(&a.in, 4);
    assert_true(old || pos < st->subscribed);
    take_all(&a, &h);
    for (int i = 1; i <= N; i++) {
        assert_true(h.n[i] <= 1);
        if (pos >= st->acked[i])
            assert_int_equal(h.n[i], 1);
    }
    if (pos >= st->retained && pos < st->acked[N])
        assert_int_equal(rig_stats(&r).retained, 1);
    if (pos >= st->cleared)
        assert_int_equal(rig_stats(&r).retained, 0);
    peer_close(&a);
    /* and what was taken is not given again after another start */
    test_settle(&r.env);
    ke_mqtt_stop(r.m);
    assert_int_equal(ke_mqtt_start(r.m), 0);
    hello4(&a, &r, "a", false);
    hear(&a, SESSION_OLD);
    hear_nothing(&a);
    peer_close(&a);
    rig_fini(&r);
}

/* ---- the syncs the journal makes; KE_MQTT_DROP names one that is left out ---- */

static char syncs[][8] = {"heads", "records", "names"};

static bool leave_out(void *user, const struct powercut_op *op)
{
    const char *file = op->pending_lo == 0 ? "heads" : "records";

    return strcmp(user, op->kind == POWERCUT_SYNC ? file : "names") == 0;
}

static void power_cuts(void **state)
{
    struct powercut *disk = powercut_new();
    struct story st;
    char *drop = getenv("KE_MQTT_DROP");

    (void)state;
    memset(&st, 0, sizeof st);
    if (drop)
        powercut_drop(disk, leave_out, drop);
    run(disk, &st);
    size_t end = powercut_pos(disk);
    assert_true(st.cleared <= end);
    uint64_t seed = 1;
    for (size_t pos = 0; pos <= end; pos++) {
        unsigned seeds = pos % 7 == 0 ? 3 : 1;
        for (unsigned k = 0; k < seeds; k++) {
            struct powercut *image = powercut_image(disk, pos, k < 2 ? seed++ : 0);
            check(image, pos, &st);
            powercut_free(image);
        }
    }
    powercut_free(disk);
}

#define NO_EXEC 126 /* an emulator of user programs does not start others */

/* This program again, without one of the syncs: how it ends. */
static int end_without(char *name)
{
    char self[] = "test_durable", *argv[] = {self, NULL};
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, 1);
        dup2(null, 2);
        setenv("KE_MQTT_DROP", name, 1);
        execv("/proc/self/exe", argv);
        _exit(NO_EXEC);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void every_sync_is_needed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof syncs / sizeof syncs[0]; i++) {
        int status = end_without(syncs[i]);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NO_EXEC)
            skip();
        if (status == 0)
            fail_msg("the power cuts do not notice that the sync of %s is missing", syncs[i]);
    }
}

/* That a message came by a shared subscription is kept, too: after a restart it is passed on. */
static void shared_ones_are_passed_on_after_a_restart(void **state)
{
    struct powercut *disk = powercut_new();
    struct rig r;
    struct peer a, b;

    (void)state;
    rig_init_io(&r, powercut_io(disk));
    tune(&r);
    rig_start(&r);
    hello5(&a, &r, "a", 10);
    need_bytes(&a, 9);
    kei_buf_drop(&a.in, a.in.n);
    say(&a, "82 10 0001 00 000a '$share/g/t' 01");
    hear(&a, "90 04 0001 00 01");
    peer_close(&a);
    test_settle(&r.env);
    hello4(&b, &r, "b", true);
    hear(&b, SESSION_NEW);
    say(&b, "32 06 0001 't' 0001 'x'");
    hear(&b, "40 02 0001");
    peer_close(&b);
    test_settle(&r.env);
    ke_mqtt_stop(r.m);
    assert_int_equal(ke_mqtt_start(r.m), 0);
    hello4(&b, &r, "b", true);
    hear(&b, SESSION_NEW);
    say(&b, "82 0f 0001 000a '$share/g/t' 01");
    hear(&b, "90 03 0001 01");
    hear_nothing(&b);
    test_drive_ms(&r.env, 11000);
    hear(&b, "32 06 0001 't' 0001 'x'");
    peer_close(&b);
    rig_fini(&r);
    powercut_free(disk);
}

/* ---- how few and how cheap the commits are ---- */

static size_t log_length(struct powercut *disk)
{
    size_t n = 0;
    unsigned char *p = powercut_get(disk, "/data/mqtt-1.log", &n);

    assert_non_null(p);
    free(p);
    return n;
}

/* A sleeper with a subscription, and a publisher. */
static void two_clients(struct rig *r, struct powercut *disk, struct peer *a, struct peer *b)
{
    rig_init_io(r, powercut_io(disk));
    tune(r);
    rig_start(r);
    hello4(a, r, "a", false);
    hear(a, SESSION_NEW);
    say(a, "82 06 0001 0001 't' 01");
    hear(a, "90 03 0001 01");
    hello4(b, r, "b", true);
    hear(b, SESSION_NEW);
}

/*
 * The file has its length before the messages come, so that a sync waits for their bytes alone;
 * that is no damage to who reads it after a kill, and given back at the end.
 */
static void the_log_is_laid_out_ahead(void **state)
{
    struct powercut *disk = powercut_new(), *killed;
    struct rig r;
    struct peer a, b;

    (void)state;
    two_clients(&r, disk, &a, &b);
    peer_close(&a);
    test_settle(&r.env);
    size_t length = log_length(disk);
    assert_true(length > 100000);
    for (int i = 1; i <= 50; i++) {
        say(&b, "32 06 0001 't' 0001 'x'");
        hear(&b, "40 02 0001");
    }
    assert_int_equal(log_length(disk), length);
    killed = powercut_killed(disk, powercut_pos(disk));
    peer_close(&b);
    ke_mqtt_stop(r.m);
    assert_true(log_length(disk) < 10000);
    rig_fini(&r);
    powercut_free(disk);

    rig_init_io(&r, powercut_io(killed));
    tune(&r);
    rig_start(&r);
    assert_null(strstr(r.env.last_log, "not complete"));
    assert_int_equal(rig_stats(&r).queued, 50);
    rig_fini(&r);
    powercut_free(killed);
}

/* What nobody waits for, such as that a message was received, goes with the next batch, or soon. */
static void acknowledgements_make_no_commits(void **state)
{
    struct powercut *disk = powercut_new();
    struct rig r;
    struct peer a, b;
    char hex[40];

    (void)state;
    two_clients(&r, disk, &a, &b);
    test_settle(&r.env);
    uint64_t before = rig_stats(&r).commits;
    for (int i = 1; i <= 20; i++) {
        say(&b, "32 06 0001 't' 0001 'x'");
        hear(&b, "40 02 0001");
        snprintf(hex, sizeof hex, "32 06 0001 't' %04x 'x'", i);
        hear(&a, hex);
        snprintf(hex, sizeof hex, "40 02 %04x", i);
        say(&a, hex);
    }
    test_settle(&r.env);
    assert_int_equal(rig_stats(&r).commits - before, 20);
    test_drive_ms(&r.env, 100);
    assert_int_equal(rig_stats(&r).commits - before, 21);
    test_drive_ms(&r.env, 1000);
    assert_int_equal(rig_stats(&r).commits - before, 21);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
    powercut_free(disk);
}

/* Where there is no room to lay it out ahead, messages are kept all the same. */
static void without_room_ahead(void **state)
{
    struct powercut *disk = powercut_new();
    struct rig r;
    struct peer a, b;

    (void)state;
    powercut_capacity(disk, 50000);
    two_clients(&r, disk, &a, &b);
    peer_close(&a);
    test_settle(&r.env);
    assert_true(log_length(disk) < 10000);
    for (int i = 1; i <= 50; i++) {
        say(&b, "32 06 0001 't' 0001 'x'");
        hear(&b, "40 02 0001");
    }
    assert_int_equal(rig_stats(&r).commit_failures, 0);
    peer_close(&b);
    rig_fini(&r);
    powercut_free(disk);
}

/* ---- clocks that jump ---- */

#define ACK5 "20 09 00 00 06 22 000a 21 0014"
#define ACK5_RESUMED "20 09 01 00 06 22 000a 21 0014"

static void start_at(struct rig *r, struct powercut *disk, int64_t real_ms)
{
    rig_init_io(r, powercut_io(disk));
    test_clock_set_real(&r->env.clock, real_ms);
    tune(r);
    rig_start(r);
}

/*
 * A machine without a battery for its clock is in 1970 after each start, until it hears the time.
 * What has an hour to live has at most an hour then, and is not over because the time comes.
 */
static void clocks_that_are_not_set(void **state)
{
    struct powercut *disk = powercut_new();
    struct rig r;
    struct peer a, b;

    (void)state;
    start_at(&r, disk, TEST_CLOCK_REAL_MS);
    hello5(&a, &r, "a", 3600);
    hear(&a, ACK5);
    say(&a, "82 07 0001 00 0001 't' 01");
    hear(&a, "90 04 0001 00 01");
    peer_close(&a);
    test_settle(&r.env);
    hello4(&b, &r, "b", true);
    hear(&b, SESSION_NEW);
    peer_close(&b);
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    say(&b, "32 0c 0001 't' 0001 05 02 00000e10 'x'");
    hear(&b, "40 02 0001");
    peer_close(&b);
    rig_fini(&r);

    start_at(&r, disk, 5000); /* 1970 */
    hello5(&a, &r, "a", 3600);
    hear(&a, ACK5_RESUMED " 32 0c 0001 't' 0001 05 02 00000e10 'x'");
    peer_close(&a); /* the message was not acknowledged */
    test_settle(&r.env);
    rig_fini(&r);

    start_at(&r, disk, TEST_CLOCK_REAL_MS); /* the time came */
    hello5(&a, &r, "a", 3600);
    hear(&a, ACK5_RESUMED);
    need_bytes(&a, 3); /* the message, again */
    peer_close(&a);
    test_settle(&r.env);
    test_drive_ms(&r.env, 1000);
    rig_fini(&r);

    start_at(&r, disk, TEST_CLOCK_REAL_MS + 3700000); /* an hour later it is over */
    hello5(&a, &r, "a", 3600);
    hear(&a, ACK5);
    peer_close(&a);
    rig_fini(&r);
    powercut_free(disk);
}

/* ---- a full disk ---- */

static bool full;

static int refuse(void *user, const struct powercut_op *op)
{
    (void)user;
    return full && op->kind == POWERCUT_WRITE ? KE_ENOSPC : 0;
}

static void a_full_disk(void **state)
{
    struct powercut *disk = powercut_new();
    struct rig r;
    struct peer a, b;

    (void)state;
    powercut_fault(disk, refuse, NULL);
    rig_init_io(&r, powercut_io(disk));
    tune(&r);
    rig_start(&r);
    hello4(&a, &r, "a", false);
    hear(&a, SESSION_NEW);
    say(&a, "82 06 0001 0001 't' 01");
    hear(&a, "90 03 0001 01");
    peer_close(&a);
    test_settle(&r.env);
    hello4(&b, &r, "b", true);
    hear(&b, SESSION_NEW);
    say(&b, "82 06 0001 0001 'q' 00");
    hear(&b, "90 03 0001 00");
    full = true;
    say(&b, "32 06 0001 't' 0001 'x'");
    hear_nothing(&b);
    say(&b, "30 04 0001 'q' 'y'"); /* QoS 0 is served */
    hear(&b, "30 04 0001 'q' 'y'");
    test_drive_ms(&r.env, 5000);
    hear_nothing(&b);
    assert_true(rig_stats(&r).commit_failures >= 4);
    assert_int_equal(atomic_load(&r.env.log_errors), 1);
    full = false;
    hear(&b, "40 02 0001");
    hello4(&a, &r, "a", false);
    hear(&a, SESSION_OLD " 32 06 0001 't' 0001 'x'");
    peer_close(&a);
    peer_close(&b);
    atomic_store(&r.env.log_errors, 0);
    rig_fini(&r);
    powercut_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(every_sync_is_needed),
        cmocka_unit_test(shared_ones_are_passed_on_after_a_restart),
        cmocka_unit_test(the_log_is_laid_out_ahead),
        cmocka_unit_test(acknowledgements_make_no_commits),
        cmocka_unit_test(without_room_ahead),
        cmocka_unit_test(clocks_that_are_not_set),
        cmocka_unit_test(a_full_disk),
    };
    const struct CMUnitTest cuts[] = {cmocka_unit_test(power_cuts)};
    if (getenv("KE_MQTT_DROP"))
        return cmocka_run_group_tests(cuts, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
