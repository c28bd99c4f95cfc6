/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a change of rights and limits means for those who are there, or come back: on the wire, to
 * the byte. A reload that fails changes nothing. Time is virtual.
 */
#include "rig.h"

#include <sys/stat.h>
#include <unistd.h>

#define ACK5 "20 0e 00 00 0b 22 000a 27 001e8480 21 0014"
#define NEW4 "20 02 00 00"
#define OLD4 "20 02 01 00"

static void start(struct rig *r)
{
    rig_init(r);
    r->c.max_keepalive = KE_MQTT_NONE;
    rig_start(r);
}

static void everybody(struct rig *r, const struct ke_mqtt_rule *rules, uint32_t n)
{
    struct ke_error err = KE_ERROR_INIT;

    assert_int_equal(ke_mqtt_rules_set(r->m, NULL, rules, n, NULL, NULL, &err), 0);
}

/* ---- rights at the moment of delivery ---- */

static const struct ke_mqtt_rule not_t1[] = {
    {sizeof(struct ke_mqtt_rule), "#", 7, 0},
    {sizeof(struct ke_mqtt_rule), "t/1", KE_MQTT_READ | KE_MQTT_RULE_DENY, 0},
};

static void what_waited_is_checked_again(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.flags |= KE_MQTT_QUEUE_QOS0;
    rig_start(&r);
    hello4(&b, &r, "b", true);
    hear(&b, NEW4);
    hello4(&a, &r, "a", false);
    hear(&a, NEW4);
    say(&a, "82 08 0001 0003 't/#' 02");
    hear(&a, "90 03 0001 02");
    peer_close(&a);
    test_settle(&r.env);
    say(&b, "32 08 0003 't/1' 0001 'x' 32 08 0003 't/2' 0002 'y' 30 06 0003 't/1' 'z'");
    say(&b, "34 08 0003 't/1' 0003 'q' 30 06 0003 't/3' 'p'");
    hear(&b, "40 02 0001 40 02 0002 50 02 0003");
    everybody(&r, not_t1, 2);
    hello4(&a, &r, "a", false);
    hear(&a, OLD4 " 32 08 0003 't/2' 0002 'y' 30 06 0003 't/3' 'p'");
    hear_nothing(&a);
    assert_int_equal(rig_stats(&r).denied, 3);
    assert_int_equal(rig_stats(&r).queued, 0);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

/* Sent before, not acknowledged, and not to be read any more: it is not sent again. */
static void what_was_in_flight_is_checked_again(void **state)
{
    struct rig r;
    struct peer a, b;

    (void)state;
    start(&r);
    hello4(&b, &r, "b", true);
    hear(&b, NEW4);
    hello4(&a, &r, "a", false);
    hear(&a, NEW4);
    say(&a, "82 08 0001 0003 't/#' 01");
    hear(&a, "90 03 0001 01");
    say(&b, "32 08 0003 't/1' 0001 'x' 32 08 0003 't/2' 0002 'y'");
    hear(&b, "40 02 0001 40 02 0002");
    hear(&a, "32 08 0003 't/1' 0001 'x' 32 08 0003 't/2' 0002 'y'");
    peer_close(&a);
    test_settle(&r.env);
    everybody(&r, not_t1, 2);
    hello4(&a, &r, "a", false);
    hear(&a, OLD4 " 3a 08 0003 't/2' 0002 'y'");
    say(&a, "40 02 0002");
    hear_nothing(&a);
    assert_int_equal(rig_stats(&r).inflight, 0);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

/* ---- reload ---- */

static void reload_ends_anonymous_clients(void **state)
{
    struct rig r;
    struct peer a, u, w;
    struct ke_error err = KE_ERROR_INIT;

    (void)state;
    start(&r);
    peer_open(&w, &r); /* a name, but nobody asked for its password */
    say(&w, "10 11 0004 'MQTT' 05 82 0000 00 0001 'w' 0001 'w'");
    hear(&w, ACK5);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    assert_int_equal(ke_mqtt_user_set(r.m, "u", "pw", NULL, 0, NULL, NULL, &err), 0);
    hear(&w, "e0 01 87"); /* now names are somebody's */
    hear_end(&w);
    hear_nothing(&a);
    peer_open(&u, &r);
    say(&u, "10 15 0004 'MQTT' 05 c2 0000 00 0001 'u' 0001 'u' 0002 'pw'");
    hear(&u, ACK5);
    r.l.flags = KE_MQTT_NO_ANONYMOUS;
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), 0);
    hear(&a, "e0 01 87");
    hear_end(&a);
    say(&u, "c0 00");
    hear(&u, "d0 00");
    peer_close(&a);
    peer_close(&u);
    peer_close(&w);
    rig_fini(&r);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* Everything of the new configuration is fine, but one listener has no place. */
static void a_reload_that_fails_changes_nothing(void **state)
{
    struct rig r;
    struct peer a;
    struct ke_mqtt_listener three[3];
    char tmp[200], acl[260];
    uint32_t port, again;

    (void)state;
    test_tmp_make(tmp, sizeof tmp);
    snprintf(acl, sizeof acl, "%s/acl", tmp);
    write_file(acl, "");
    start(&r);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    assert_int_equal(ke_mqtt_port(r.m, 0, &port), 0);
    three[0] = three[1] = three[2] = r.l;
    three[0].flags = KE_MQTT_MAX_QOS_0 | KE_MQTT_NO_ANONYMOUS;
    three[1].name = "second";
    three[2].name = "third";
    three[2].port = port; /* taken */
    r.c.listeners = three;
    r.c.n_listeners = 3;
    r.c.acl_file = acl;
    r.c.max_payload = 1;
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), KE_EADDRINUSE);
    assert_int_equal(ke_mqtt_port(r.m, 0, &again), 0);
    assert_int_equal(port, again);
    assert_int_equal(ke_mqtt_port(r.m, 1, &again), KE_ENOTFOUND);
    say(&a, "82 07 0001 00 0001 't' 01 32 08 0001 't' 0001 00 'xy'");
    hear(&a, "90 04 0001 00 01 32 08 0001 't' 0001 00 'xy' 40 02 0001");
    say(&a, "40 02 0001");
    /* without the third it is good, and in force */
    r.c.n_listeners = 2;
    three[0].flags = KE_MQTT_ANONYMOUS;
    assert_int_equal(ke_mqtt_reload(r.m, &r.c), 0);
    assert_int_equal(ke_mqtt_port(r.m, 1, &again), 0);
    say(&a, "32 08 0001 't' 0002 00 'xy' 32 07 0001 't' 0003 00 'x'");
    hear(&a, "40 03 0002 95 40 03 0003 87");
    peer_close(&a);
    rig_fini(&r);
    unlink(acl);
    test_tmp_remove(tmp);
}

/* ---- files ---- */

static void an_empty_acl_file_allows_nothing(void **state)
{
    struct rig r;
    struct peer a;
    char tmp[200], acl[260];

    (void)state;
    test_tmp_make(tmp, sizeof tmp);
    snprintf(acl, sizeof acl, "%s/acl", tmp);
    write_file(acl, "# nobody\n");
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.acl_file = acl;
    rig_start(&r);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    say(&a, "32 07 0001 't' 0001 00 'x' 82 07 0002 00 0001 't' 01");
    hear(&a, "40 03 0001 87 90 04 0002 00 80");
    peer_close(&a);
    rig_fini(&r);
    unlink(acl);
    test_tmp_remove(tmp);
}

/* ---- limits ---- */

static void the_servers_own_topics_take_no_place(void **state)
{
    struct rig r;
    struct peer a;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.flags = 0;
    r.c.max_retained = 1;
    rig_start(&r);
    test_drive_ms(&r.env, 15000);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    say(&a, "33 07 0001 'r' 0001 00 'x'");
    hear(&a, "40 03 0001 10");
    assert_int_equal(rig_stats(&r).retained, 1);
    say(&a, "33 07 0001 's' 0002 00 'x'");
    hear(&a, "40 03 0002 97");
    say(&a, "33 07 0001 'r' 0003 00 'y'"); /* in the place of the old one */
    hear(&a, "40 03 0003 10");
    say(&a, "82 1a 0004 00 0014 '$SYS/broker/uptime/#' 00");
    hear(&a, "90 04 0004 00 00");
    need_bytes(&a, 2);
    assert_int_equal((uint8_t)a.in.p[0], 0x31); /* they are there, all the same */
    peer_close(&a);
    rig_fini(&r);
}

static void a_will_over_max_payload_is_refused(void **state)
{
    struct rig r;
    struct peer a;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.max_payload = 4;
    rig_start(&r);
    peer_open(&a, &r);
    say(&a, "10 19 0004 'MQTT' 05 06 0000 00 0001 'a' 00 0001 'w' 0005 'hello'");
    hear(&a, "20 03 00 95 00");
    hear_end(&a);
    peer_close(&a);
    peer_open(&a, &r);
    say(&a, "10 17 0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0005 'hello'");
    hear(&a, "20 02 00 05");
    hear_end(&a);
    peer_close(&a);
    peer_open(&a, &r);
    say(&a, "10 16 0004 'MQTT' 04 06 0000 0001 'a' 0001 'w' 0004 'hell'");
    hear(&a, NEW4);
    assert_int_equal(rig_stats(&r).over_packet, 2);
    peer_close(&a);
    rig_fini(&r);
}

static void keepalives_above_the_limit_are_refused(void **state)
{
    static const struct {
        const char *hello, *answer;
    } cases[] = {
        {"10 0d 0004 'MQTT' 04 02 003d 0001 'a'", "20 02 00 02"},
        {"10 0d 0004 'MQTT' 04 02 0000 0001 'a'", "20 02 00 02"}, /* none: more than any */
        {"10 0d 0004 'MQTT' 04 02 003c 0001 'a'", NEW4},
        {"10 0e 0004 'MQTT' 05 02 003d 00 0001 'a'",
         "20 11 00 00 0e 13 003c 22 000a 27 001e8480 21 0014"},
    };
    struct rig r;
    struct peer a;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = 60;
    r.c.flags |= KE_MQTT_REFUSE_KEEPALIVE;
    rig_start(&r);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peer_open(&a, &r);
        say(&a, cases[i].hello);
        hear(&a, cases[i].answer);
        peer_close(&a);
        test_settle(&r.env);
    }
    rig_fini(&r);
}

static void publishing_needs_a_started_server(void **state)
{
    struct rig r;
    struct ke_mqtt *other;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_mqtt_publish p = {.size = sizeof p, .topic = {"t", 1}};

    (void)state;
    start(&r);
    assert_int_equal(ke_mqtt_new(&other, r.env.ctx, &r.c, NULL, NULL), 0);
    assert_int_equal(ke_mqtt_publish(other, &p, NULL, NULL, &err), KE_ESTATE);
    ke_mqtt_free(other);
    assert_int_equal(ke_mqtt_publish(r.m, &p, NULL, NULL, &err), 0);
    ke_mqtt_stop(r.m);
    assert_int_equal(ke_mqtt_publish(r.m, &p, NULL, NULL, &err), KE_ESTATE);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waited_is_checked_again),
        cmocka_unit_test(what_was_in_flight_is_checked_again),
        cmocka_unit_test(reload_ends_anonymous_clients),
        cmocka_unit_test(a_reload_that_fails_changes_nothing),
        cmocka_unit_test(an_empty_acl_file_allows_nothing),
        cmocka_unit_test(the_servers_own_topics_take_no_place),
        cmocka_unit_test(a_will_over_max_payload_is_refused),
        cmocka_unit_test(keepalives_above_the_limit_are_refused),
        cmocka_unit_test(publishing_needs_a_started_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
