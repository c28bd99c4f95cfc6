/* SPDX-License-Identifier: Apache-2.0 */
/* The server on the wire: what it answers, to the byte, and when. Time is virtual. */
#include "rig.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACK5 "20 0e 00 00 0b 22 000a 27 001e8480 21 0014" /* CONNACK of a new session */
#define ACK5_RESUMED "20 0e 01 00 0b 22 000a 27 001e8480 21 0014"
#define KEEP5 "20 11 00 00 0e 13 003c 22 000a 27 001e8480 21 0014" /* with a server keepalive */
#define KEEP5_RESUMED "20 11 01 00 0e 13 003c 22 000a 27 001e8480 21 0014"

static void start(struct rig *r)
{
    rig_init(r);
    r->c.max_keepalive = KE_MQTT_NONE;
    rig_start(r);
}

static void qos_flows(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    say(&a, "82 08 0001 0003 't/#' 02");
    hear(&a, "90 03 0001 02");
    say(&b, "30 07 0003 't/1' 00 'x'");
    hear(&a, "30 06 0003 't/1' 'x'");
    say(&b, "32 09 0003 't/1' 0005 00 'y'");
    hear(&b, "40 02 0005");
    hear(&a, "32 08 0003 't/1' 0001 'y'");
    say(&a, "40 02 0001");
    say(&b, "34 09 0003 't/1' 0006 00 'z'");
    hear(&b, "50 02 0006");
    hear(&a, "34 08 0003 't/1' 0002 'z'");
    say(&b, "3c 09 0003 't/1' 0006 00 'z'"); /* again: not delivered again */
    hear(&b, "50 02 0006");
    say(&a, "50 02 0002");
    hear(&a, "62 02 0002");
    say(&a, "70 02 0002");
    say(&b, "62 02 0006");
    hear(&b, "70 02 0006");
    hear_nothing(&a);
    say(&b, "32 09 0003 'u/1' 0007 00 'y'");
    hear(&b, "40 03 0007 10"); /* nobody */
    assert_int_equal(rig_stats(&r).inflight, 0);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void overlapping(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    say(&a, "82 0b 0001 02 0b 07 0003 't/#' 00 82 0b 0002 02 0b 08 0003 't/+' 02");
    hear(&a, "90 04 0001 00 00 90 04 0002 00 02");
    say(&b, "32 08 0003 't/1' 0001 'x'");
    hear(&b, "40 02 0001");
    /* one copy, the higher QoS, both identifiers */
    hear(&a, "32 0d 0003 't/1' 0001 04 0b 07 0b 08 'x'");
    hear_nothing(&a);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void retained(void **state)
{
    struct rig r;
    struct peer a;

    (void)state;
    start(&r);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    say(&a, "31 07 0003 't/1' 00 'x' 31 07 0003 't/2' 00 'y'");
    say(&a, "82 09 0001 00 0003 't/1' 00");
    hear(&a, "90 04 0001 00 00 31 07 0003 't/1' 00 'x'");
    say(&a, "82 09 0002 00 0003 't/1' 10"); /* only if new */
    hear(&a, "90 04 0002 00 00");
    say(&a, "82 09 0003 00 0003 't/#' 20"); /* never */
    hear(&a, "90 04 0003 00 00");
    say(&a, "82 09 0004 00 0003 't/#' 08"); /* as published */
    hear(&a, "90 04 0004 00 00");
    hear(&a, "31 07 0003 't/2' 00 'y' 31 07 0003 't/1' 00 'x'");
    say(&a, "31 06 0003 't/1' 00"); /* gone */
    hear(&a, "31 06 0003 't/1' 00");
    assert_int_equal(rig_stats(&r).retained, 1);
    peer_close(&a);
    rig_fini(&r);
}

static void sessions_last_as_long_as_they_said(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    hello5(&a, &r, "a", 10);
    hear(&a, ACK5);
    say(&a, "82 09 0001 00 0003 't/1' 01");
    hear(&a, "90 04 0001 00 01");
    peer_close(&a);
    test_settle(&r.env);
    say(&b, "32 08 0003 't/1' 0001 'x'");
    hear(&b, "40 02 0001");
    test_drive_ms(&r.env, 9000);
    hello5(&a, &r, "a", 10);
    hear(&a, ACK5_RESUMED " 32 09 0003 't/1' 0001 00 'x'");
    peer_close(&a); /* without acknowledging */
    test_settle(&r.env);
    hello5(&a, &r, "a", 10);
    hear(&a, ACK5_RESUMED " 3a 09 0003 't/1' 0001 00 'x'");
    say(&a, "40 02 0001");
    hear_nothing(&a);
    peer_close(&a);
    test_settle(&r.env);
    test_drive_ms(&r.env, 10100);
    assert_int_equal(rig_stats(&r).sessions_expired, 1);
    hello5(&a, &r, "a", 10);
    hear(&a, ACK5);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void messages_expire(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    hello5(&a, &r, "a", 1000);
    hear(&a, ACK5);
    say(&a, "82 09 0001 00 0003 't/1' 01");
    hear(&a, "90 04 0001 00 01");
    peer_close(&a);
    test_settle(&r.env);
    say(&b, "32 0e 0003 't/1' 0001 05 02 00000005 'x' 32 0e 0003 't/1' 0002 05 02 00000014 'y'");
    hear(&b, "40 02 0001 40 02 0002");
    test_drive_ms(&r.env, 6000);
    hello5(&a, &r, "a", 1000);
    hear(&a, ACK5_RESUMED " 32 0e 0003 't/1' 0002 05 02 0000000e 'y'"); /* 14 s are left */
    hear_nothing(&a);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void wills(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    say(&b, "82 06 0001 0001 'w' 00");
    hear(&b, "90 03 0001 00");
    peer_open(&a, &r); /* will delay 3 s, session 10 s */
    say(&a,
        "10 22 0004 'MQTT' 05 04 0000 05 11 0000000a 0001 'a' 05 18 00000003 0001 'w' 0004 'gone'");
    hear(&a, ACK5);
    peer_close(&a);
    test_settle(&r.env);
    test_drive_ms(&r.env, 2800);
    hear_nothing(&b);
    test_drive_ms(&r.env, 400);
    hear(&b, "30 07 0001 'w' 'gone'");
    peer_open(&a, &r); /* will delay 5 s, and a session that is said to end with the connection */
    say(&a,
        "10 22 0004 'MQTT' 05 06 0000 05 11 00000000 0001 'a' 05 18 00000005 0001 'w' 0004 'gone'");
    hear(&a, ACK5);
    peer_close(&a);
    hear(&b, "30 07 0001 'w' 'gone'");
    peer_open(&a, &r); /* nothing said of the session: the delay counts */
    say(&a, "10 1d 0004 'MQTT' 05 06 0000 00 0001 'a' 05 18 00000003 0001 'w' 0004 'gone'");
    hear(&a, ACK5);
    peer_close(&a);
    test_settle(&r.env);
    test_drive_ms(&r.env, 2800);
    hear_nothing(&b);
    test_drive_ms(&r.env, 400);
    hear(&b, "30 07 0001 'w' 'gone'");
    /* a DISCONNECT takes it back */
    peer_open(&a, &r);
    say(&a, "10 15 0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0003 'bye'");
    hear(&a, "20 02 00 00");
    say(&a, "e0 00");
    hear_end(&a);
    hear_nothing(&b);
    peer_close(&a);
    /* a connection of the same id takes over */
    struct peer c;
    peer_open(&a, &r);
    say(&a, "10 15 0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0003 'bye'");
    hear(&a, "20 02 00 00");
    hello4(&c, &r, "a", true);
    hear(&c, "20 02 00 00");
    hear(&b, "30 06 0001 'w' 'bye'");
    hear_end(&a);
    peer_close(&a);
    peer_close(&b);
    peer_close(&c);
    rig_fini(&r);
}

static void keepalive(void **state)
{
    struct rig r;
    struct peer a;

    (void)state;
    rig_init(&r);
    rig_start(&r);
    hello5(&a, &r, "a", 0);
    hear(&a, KEEP5); /* it wanted none, and gets 60 s */
    test_drive_ms(&r.env, 89000);
    say(&a, "c0 00");
    hear(&a, "d0 00");
    test_drive_ms(&r.env, 89000);
    hear_nothing(&a);
    test_drive_ms(&r.env, 1200);
    hear(&a, "e0 01 8d");
    hear_end(&a);
    peer_close(&a);
    rig_fini(&r);
}

static void shared(void **state)
{
    struct rig r;
    struct peer a, b, c;

    (void)state;
    start(&r);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    hello4(&c, &r, "c", true);
    hear(&c, "20 02 00 00");
    say(&a, "82 0f 0001 000a '$share/g/t' 00");
    hear(&a, "90 03 0001 00");
    say(&b, "82 0f 0001 000a '$share/g/t' 00");
    hear(&b, "90 03 0001 00");
    for (int i = 0; i < 4; i++)
        say(&c, "30 04 0001 't' 'x'");
    hear(&a, "30 04 0001 't' 'x' 30 04 0001 't' 'x'");
    hear(&b, "30 04 0001 't' 'x' 30 04 0001 't' 'x'");
    hear_nothing(&a);
    hear_nothing(&b);
    peer_close(&a);
    test_settle(&r.env);
    say(&c, "30 04 0001 't' 'x' 30 04 0001 't' 'y'");
    hear(&b, "30 04 0001 't' 'x' 30 04 0001 't' 'y'");
    peer_close(&b);
    peer_close(&c);
    rig_fini(&r);
}

/* What a member had and did not acknowledge when its session ended, another one gets. */
static void shared_messages_are_passed_on(void **state)
{
    struct rig r;
    struct peer a, b, c;

    (void)state;
    start(&r);
    hello5(&c, &r, "c", 0);
    hear(&c, ACK5);
    peer_open(&a, &r); /* a window of two, and a session for 10 s */
    say(&a, "10 16 0004 'MQTT' 05 00 0000 08 11 0000000a 21 0002 0001 'a'");
    hear(&a, ACK5);
    say(&a, "82 10 0001 00 000a '$share/g/t' 02");
    hear(&a, "90 04 0001 00 02");
    say(&c, "32 07 0001 't' 0001 00 '1' 34 07 0001 't' 0002 00 '2'");
    say(&c, "32 07 0001 't' 0003 00 '3' 34 07 0001 't' 0004 00 '4'");
    hear(&c, "40 02 0001 50 02 0002 40 02 0003 50 02 0004");
    hear(&a, "32 07 0001 't' 0001 00 '1' 34 07 0001 't' 0002 00 '2'");
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    say(&b, "82 12 0001 02 0b 07 000a '$share/g/t' 01");
    hear(&b, "90 04 0001 00 01");
    peer_close(&a);
    test_settle(&r.env);
    hear_nothing(&b); /* it may come back */
    test_drive_ms(&r.env, 10100);
    /* all but the one of QoS 2 that had been begun */
    hear(&b, "32 09 0001 't' 0001 02 0b 07 '1' 32 09 0001 't' 0002 02 0b 07 '3'");
    hear(&b, "32 09 0001 't' 0003 02 0b 07 '4'");
    hear_nothing(&b);
    assert_int_equal(rig_stats(&r).queued, 0);
    assert_int_equal(rig_stats(&r).inflight, 3);
    peer_close(&b); /* the last one: nobody is left, they are gone */
    test_settle(&r.env);
    assert_int_equal(rig_stats(&r).inflight, 0);
    peer_close(&c);
    rig_fini(&r);
}

/* Two groups, two copies: each goes on in its own group. */
static void each_group_passes_on_its_own(void **state)
{
    struct rig r;
    struct peer a, b, c;

    (void)state;
    start(&r);
    hello4(&c, &r, "c", true);
    hear(&c, "20 02 00 00");
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    say(&a, "82 0f 0001 000a '$share/g/t' 01 82 0f 0002 000a '$share/h/t' 01");
    hear(&a, "90 03 0001 01 90 03 0002 01");
    say(&c, "32 06 0001 't' 0001 'x'");
    hear(&c, "40 02 0001");
    hear(&a, "32 06 0001 't' 0001 'x' 32 06 0001 't' 0002 'x'");
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    say(&b, "82 0f 0001 000a '$share/g/t' 01 82 0f 0002 000a '$share/h/t' 00");
    hear(&b, "90 03 0001 01 90 03 0002 00");
    peer_close(&a);
    test_settle(&r.env);
    need_bytes(&b, 14);
    assert_int_equal(b.in.n, 14); /* one of QoS 1, one of QoS 0 */
    assert_int_not_equal(b.in.p[0], b.in.p[b.in.p[0] == 0x32 ? 8 : 6]);
    kei_buf_drop(&b.in, 14);
    hear_nothing(&b);
    peer_close(&b);
    peer_close(&c);
    rig_fini(&r);
}

static void aliases_both_ways(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    peer_open(&a, &r);
    say(&a, "10 11 0004 'MQTT' 05 02 0000 03 22 0001 0001 'a'");
    hear(&a, ACK5);
    say(&a, "82 07 0001 00 0001 '#' 00");
    hear(&a, "90 04 0001 00 00");
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    say(&b, "30 08 0001 't' 03 23 0002 'x' 30 07 0000 03 23 0002 'y' 30 05 0001 'u' 00 'z'");
    hear(&a, "30 08 0001 't' 03 23 0001 'x' 30 07 0000 03 23 0001 'y' 30 05 0001 'u' 00 'z'");
    say(&b, "30 07 0000 03 23 0003 'y'"); /* not set */
    hear(&b, "e0 01 82");
    hear_end(&b);
    peer_close(&b);
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    say(&b, "30 08 0001 't' 03 23 000b 'y'"); /* above what was announced */
    hear(&b, "e0 01 94");
    hear_end(&b);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void receive_maximum_both_ways(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.receive_max = 2;
    rig_start(&r);
    peer_open(&a, &r);
    say(&a, "10 11 0004 'MQTT' 05 02 0000 03 21 0001 0001 'a'");
    hear(&a, "20 0e 00 00 0b 22 000a 27 001e8480 21 0002");
    say(&a, "82 07 0001 00 0001 't' 02");
    hear(&a, "90 04 0001 00 02");
    hello5(&b, &r, "b", 0);
    hear(&b, "20 0e 00 00 0b 22 000a 27 001e8480 21 0002");
    say(&b, "34 07 0001 't' 0001 00 'x' 34 07 0001 't' 0002 00 'y'");
    hear(&b, "50 02 0001 50 02 0002");
    hear(&a, "34 07 0001 't' 0001 00 'x'");
    hear_nothing(&a); /* the window is one */
    say(&a, "50 02 0001");
    hear(&a, "62 02 0001");
    hear_nothing(&a);
    say(&a, "70 02 0001");
    hear(&a, "34 07 0001 't' 0002 00 'y'");
    say(&b, "34 07 0001 't' 0003 00 'z'");
    hear(&b, "e0 01 93");
    hear_end(&b);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void those_who_say_nothing_go(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    peer_open(&a, &r);
    peer_open(&b, &r);
    say(&b, "10 1f 0004 'MQ'"); /* a slow one */
    test_settle(&r.env);
    assert_int_equal(rig_stats(&r).connections, 2);
    test_drive_ms(&r.env, 10200);
    hear_end(&a);
    hear_end(&b);
    assert_int_equal(rig_stats(&r).over_connect_time, 2);
    assert_int_equal(rig_stats(&r).connections, 0);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

/* A subscriber that never reads costs its own queue only. */
static void a_slow_consumer_is_bounded(void **state)
{
    struct rig r;
    struct peer a, b, c;
    static uint8_t big[60000];

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.max_output = 100000;
    r.c.max_queued = 5;
    r.c.max_inflight = 2;
    rig_start(&r);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    hello4(&c, &r, "c", true);
    hear(&c, "20 02 00 00");
    say(&a, "82 06 0001 0001 't' 01");
    hear(&a, "90 03 0001 01");
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    /* QoS 0, 60,000 bytes each, many times more than sockets hold */
    memcpy(big, "\x30\xdc\xd4\x03\x00\x01t", 7);
    size_t sent = 0, total = 400 * (size_t)60000;
    while (sent < total) {
        size_t at = sent % 60000;
        ssize_t n = send(b.fd, big + at, 60000 - at, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        else
            test_settle(&r.env);
    }
    test_settle(&r.env);
    struct ke_mqtt_stats s = rig_stats(&r);
    assert_true(s.over_output > 0);
    assert_true(s.output_bytes <= 100000 + 60000);
    uint32_t lines = r.env.log_lines;
    for (int i = 1; i <= 20; i++) {
        char hex[60];
        snprintf(hex, sizeof hex, "32 06 0001 't' %04x 'q'", i);
        say(&b, hex);
        snprintf(hex, sizeof hex, "40 02 %04x", i);
        hear(&b, hex);
    }
    s = rig_stats(&r);
    assert_int_equal(s.queued, 5);
    /* said once, with the limit */
    assert_int_equal(r.env.log_lines - lines, 1);
    assert_non_null(strstr(r.env.last_log, "client \"a\": messages for it are dropped"));
    assert_non_null(strstr(r.env.last_log, "max_queued, which is 5"));
    assert_true(s.over_queued >= 13);
    say(&c, "c0 00");
    hear(&c, "d0 00"); /* others do not notice */
    test_drive_ms(&r.env, 121000);
    assert_int_equal(rig_stats(&r).over_stall, 1);
    peer_close(&a);
    peer_close(&b);
    peer_close(&c);
    rig_fini(&r);
}

static void too_large(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.max_packet = 100;
    rig_start(&r);
    hello5(&a, &r, "a", 0);
    hear(&a, "20 0e 00 00 0b 22 000a 27 00000064 21 0014");
    peer_open(&b, &r);
    say(&b, "10 13 0004 'MQTT' 05 02 0000 05 27 00000014 0001 'b'");
    hear(&b, "20 0e 00 00 0b 22 000a 27 00000064 21 0014");
    say(&b, "82 07 0001 00 0001 't' 01");
    hear(&b, "90 04 0001 00 01");
    /* more than b takes: as if it had been delivered */
    say(&a, "32 18 0001 't' 0001 00 '123456789012345678' 32 07 0001 't' 0002 00 'x'");
    hear(&a, "40 02 0001 40 02 0002");
    hear(&b, "32 07 0001 't' 0002 00 'x'");
    say(&a, "30 65");
    hear(&a, "e0 01 95");
    hear_end(&a);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

/* ---- the host ---- */

struct host {
    int events[8], messages, done;
    char last[64];
};

static void on_event(void *user, const struct ke_mqtt_event *e)
{
    struct host *h = ((struct rig *)user)->host;
    assert_true(e->what < 8);
    h->events[e->what]++;
}

static void events(void **state)
{
    struct rig r;
    struct peer a;
    struct host h = {0};

    (void)state;
    rig_init(&r);
    r.host = &h;
    r.c.max_keepalive = KE_MQTT_NONE;
    r.ops.event = on_event;
    rig_start(&r);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    say(&a, "82 06 0001 0001 't' 00 a2 05 0002 0001 't'");
    hear(&a, "90 03 0001 00 b0 02 0002");
    say(&a, "e0 00");
    hear_end(&a);
    assert_int_equal(h.events[KE_MQTT_EVENT_CONNECTED], 1);
    assert_int_equal(h.events[KE_MQTT_EVENT_SUBSCRIBED], 1);
    assert_int_equal(h.events[KE_MQTT_EVENT_UNSUBSCRIBED], 1);
    assert_int_equal(h.events[KE_MQTT_EVENT_DISCONNECTED], 1);
    assert_int_equal(h.events[KE_MQTT_EVENT_SESSION_END], 1);
    peer_close(&a);
    rig_fini(&r);
}

static void on_message(void *user, const struct ke_mqtt_message *msg)
{
    struct host *h = user;

    h->messages++;
    snprintf(h->last, sizeof h->last, "%.*s=%.*s", (int)msg->topic.n, msg->topic.p,
             (int)msg->payload.n, msg->payload.p);
}

static void on_done(void *user, int status)
{
    assert_int_equal(status, 0);
    ((struct host *)user)->done++;
}

static void the_firmware_itself(void **state)
{
    struct rig r;
    struct peer a;
    struct host h = {0};
    struct ke_mqtt_sub *sub;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_mqtt_subscribe s = {sizeof s, {"t/+", 3}, 1, 0, 0, 0, on_message, NULL};
    struct ke_mqtt_publish p = {.size = sizeof p, .topic = {"t/1", 3}, .payload = {"x", 1}};

    (void)state;
    start(&r);
    assert_int_equal(ke_mqtt_subscribe(&sub, r.m, &s, &h, &err), 0);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    say(&a, "82 08 0001 0003 't/#' 00");
    hear(&a, "90 03 0001 00");
    say(&a, "30 06 0003 't/2' 'y'");
    hear(&a, "30 06 0003 't/2' 'y'");
    assert_string_equal(h.last, "t/2=y");
    assert_int_equal(ke_mqtt_publish(r.m, &p, on_done, &h, &err), 0);
    hear(&a, "30 06 0003 't/1' 'x'");
    assert_string_equal(h.last, "t/1=x");
    assert_int_equal(h.done, 1);
    p.topic = (struct ke_mqtt_str){"t/#", 3};
    assert_int_equal(ke_mqtt_publish(r.m, &p, NULL, NULL, &err), KE_EINVAL);
    ke_mqtt_unsubscribe(sub);
    say(&a, "30 06 0003 't/2' 'y'");
    hear(&a, "30 06 0003 't/2' 'y'");
    assert_int_equal(h.messages, 2);
    assert_int_equal(ke_mqtt_disconnect(r.m, "a", 0x98, NULL, 0, &err), 0);
    hear_end(&a);
    assert_int_equal(ke_mqtt_disconnect(r.m, "nobody", 0x98, NULL, 0, &err), KE_ENOTFOUND);
    peer_close(&a);
    rig_fini(&r);
}

static void two_servers_start_and_stop(void **state)
{
    struct rig r;
    struct ke_mqtt *other;
    struct peer a;
    const char *text = getenv("KE_SOAK_STARTS");
    long starts = text ? strtol(text, NULL, 10) : 100;

    (void)state;
    start(&r);
    assert_int_equal(ke_mqtt_new(&other, r.env.ctx, &r.c, NULL, NULL), 0);
    for (long i = 0; i < starts; i++) {
        assert_int_equal(ke_mqtt_start(other), 0);
        peer_open(&a, &r);
        say(&a, "10 15 0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0003 'bye'");
        hear(&a, "20 02 00 00");
        ke_mqtt_stop(r.m);
        hear_end(&a);
        peer_close(&a);
        assert_int_equal(ke_mqtt_start(r.m), 0);
        ke_mqtt_stop(other);
    }
    assert_int_equal(ke_mqtt_start(r.m), KE_ESTATE);
    ke_mqtt_free(other);
    rig_fini(&r);
}

static void reload_keeps_clients(void **state)
{
    struct rig r;
    struct peer a;
    struct ke_mqtt_listener two[2];
    uint32_t port, again;

    (void)state;
    start(&r);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    assert_int_equal(ke_mqtt_port(r.m, 0, &port), 0);
    two[0] = two[1] = r.l;
    two[1].name = "second";
    r.c.listeners = two;
    r.c.n_listeners = 2;
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), 0);
    assert_int_equal(ke_mqtt_port(r.m, 0, &again), 0);
    assert_int_equal(again, port);
    assert_int_equal(ke_mqtt_port(r.m, 1, &again), 0);
    assert_int_not_equal(again, port);
    r.c.listeners = &two[1];
    r.c.n_listeners = 1;
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), 0);
    say(&a, "c0 00"); /* its listener is gone, it is not */
    hear(&a, "d0 00");
    two[1].host = "no address";
    two[1].name = "third";
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), KE_EINVAL);
    assert_int_equal(ke_mqtt_port(r.m, 0, &port), 0);
    assert_int_equal(port, again);
    peer_close(&a);
    rig_fini(&r);
}

static uint32_t free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* The name stays, its place does not: the listener moves, and its clients stay. */
static void reload_moves_a_listener(void **state)
{
    struct rig r;
    struct peer a, b;
    struct ke_mqtt_listener l;
    uint32_t port, moved;

    (void)state;
    rig_init(&r);
    r.l.name = "plant";
    rig_start(&r);
    hello4(&a, &r, "a", true);
    hear(&a, "20 02 00 00");
    assert_int_equal(ke_mqtt_port(r.m, 0, &port), 0);
    l = r.l;
    l.port = free_port();
    r.c.listeners = &l;
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), 0);
    assert_int_equal(ke_mqtt_port(r.m, 0, &moved), 0);
    assert_int_equal(moved, l.port);
    assert_int_equal(ke_mqtt_port(r.m, 1, &moved), KE_ENOTFOUND);
    say(&a, "c0 00");
    hear(&a, "d0 00");
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), 0); /* nothing changes: it stays */
    assert_int_equal(ke_mqtt_port(r.m, 0, &moved), 0);
    assert_int_equal(moved, l.port);
    l.host = "0.0.0.0"; /* both cannot be had at once */
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), KE_EADDRINUSE);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "restart"));
    say(&b, "c0 00");
    hear(&b, "d0 00");
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

/* Those that leave make room in the same turn for those that come. */
static void a_full_listener_waits_for_who_leaves(void **state)
{
    struct rig r;
    struct peer p[3];

    (void)state;
    rig_init(&r);
    r.l.max_connections = 2;
    rig_start(&r);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2; i++) {
            hello4(&p[i], &r, i ? "b" : "a", true);
            hear(&p[i], "20 02 00 00");
        }
        peer_open(&p[2], &r);
        hear_end(&p[2]);
        peer_close(&p[2]);
        peer_close(&p[0]);
        peer_close(&p[1]);
    }
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qos_flows),
        cmocka_unit_test(overlapping),
        cmocka_unit_test(retained),
        cmocka_unit_test(sessions_last_as_long_as_they_said),
        cmocka_unit_test(messages_expire),
        cmocka_unit_test(wills),
        cmocka_unit_test(keepalive),
        cmocka_unit_test(shared),
        cmocka_unit_test(shared_messages_are_passed_on),
        cmocka_unit_test(each_group_passes_on_its_own),
        cmocka_unit_test(aliases_both_ways),
        cmocka_unit_test(receive_maximum_both_ways),
        cmocka_unit_test(those_who_say_nothing_go),
        cmocka_unit_test(a_slow_consumer_is_bounded),
        cmocka_unit_test(too_large),
        cmocka_unit_test(events),
        cmocka_unit_test(the_firmware_itself),
        cmocka_unit_test(two_servers_start_and_stop),
        cmocka_unit_test(reload_keeps_clients),
        cmocka_unit_test(reload_moves_a_listener),
        cmocka_unit_test(a_full_listener_waits_for_who_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
