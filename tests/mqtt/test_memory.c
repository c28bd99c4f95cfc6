/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails, for each n: errors are told, nothing leaks, the server goes on. */
#include "rig.h"
#include "sim/powercut_io.h"

#include <sys/socket.h>

static void talk(struct rig *r, const char *hex)
{
    struct peer p;
    uint8_t rest[4096];

    peer_open(&p, r);
    say(&p, hex);
    test_settle(&r->env);
    test_settle(&r->env);
    while (recv(p.fd, rest, sizeof rest, MSG_DONTWAIT) > 0)
        ;
    peer_close(&p);
    test_settle(&r->env);
}

static void nothing(void *user, const struct ke_mqtt_message *msg)
{
    (void)user, (void)msg;
}

static void story(struct rig *r)
{
    struct ke_mqtt_subscribe s = {.size = sizeof s, .filter = {"#", 1}, .message = nothing};
    struct ke_mqtt_publish p = {
        .size = sizeof p, .topic = {"f", 1}, .payload = {"x", 1}, .retain = 1};
    struct ke_mqtt_sub *sub = NULL;

    if (ke_mqtt_subscribe(&sub, r->m, &s, NULL, NULL) < 0)
        sub = NULL;
    /* a session that stays, with a will, subscriptions and a message in flight */
    talk(r,
         "10 22 0004 'MQTT' 05 04 003c 05 11 00000064 0001 'a' 05 18 00000001 0001 'w' 0004 'gone'"
         "82 0b 0001 02 0b 07 0003 't/#' 02 82 0f 0002 00 0009 '$share/g/' 't' 01"
         "34 08 0003 't/1' 0001 00 33 09 0003 't/2' 0002 00 'x'");
    talk(r, "10 11 0004 'MQTT' 05 02 003c 03 22 0005 0001 'b' 32 12 0003 't/1' 0001 0a 02 00000005"
            "23 0001 01 01 'yy' 82 07 0003 00 0001 '#' 01 e0 00");
    if (ke_mqtt_publish(r->m, &p, NULL, NULL, NULL) < 0)
        p.qos = 0;
    talk(r, "10 0d 0004 'MQTT' 04 00 003c 0001 'a' a2 07 0003 0003 't/#'");
    ke_mqtt_unsubscribe(sub);
    test_settle(&r->env);
}

static bool once(size_t n, bool disk_too)
{
    struct powercut *disk = powercut_new();
    struct rig r;
    int fd;

    rig_init_io(&r, powercut_io(disk));
    r.c.data = disk_too ? "/data" : NULL;
    assert_int_equal(ke_ctx_fd(r.env.ctx, &fd), 0);
    test_alloc_fail_at(&r.env.alloc, n);
    int s = ke_mqtt_new(&r.m, r.env.ctx, &r.c, &r.ops, &r);
    if (s == 0)
        s = ke_mqtt_start(r.m);
    if (s == 0)
        story(&r);
    else
        assert_int_equal(s, KE_ENOMEM);
    bool failed = r.env.alloc.failed > 0;
    test_alloc_fail_at(&r.env.alloc, 0);
    if (s == 0) { /* it goes on */
        struct peer p;
        hello4(&p, &r, "z", true);
        hear(&p, "20 02 00 00");
        peer_close(&p);
        ke_mqtt_stop(r.m);
        assert_int_equal(ke_mqtt_start(r.m), 0);
    }
    atomic_store(&r.env.log_errors, 0);
    if (r.m)
        ke_mqtt_free(r.m);
    test_env_fini(&r.env);
    powercut_free(disk);
    return failed;
}

static void every_allocation(void **state)
{
    size_t n = 1;

    while (once(n, *state != NULL))
        n++;
    assert_true(n > 50);
}

int main(void)
{
    static int yes;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(every_allocation, NULL),
        cmocka_unit_test_prestate(every_allocation, &yes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
