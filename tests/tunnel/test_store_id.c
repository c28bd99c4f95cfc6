/* SPDX-License-Identifier: Apache-2.0 */
/* The id of the store: made once, another one when something was lost. */
#include "rig.h"

#include "tunnel/hub.h"
#include "tunnel/tunnel_priv.h"

static void connect(struct rig *r, char id[37])
{
    rig_store(r);
    rig_connect(r);
    snprintf(id, 37, "%s", r->t->store_id);
    assert_int_equal(strlen(id), 36);
}

static void leave(struct rig *r)
{
    rig_free_tunnel(r);
    rig_close_store(r);
}

static void stays_with_its_store(void **state)
{
    (void)state;
    struct rig r;
    char first[37], id[37];
    rig_init(&r, NULL);
    connect(&r, first);
    leave(&r);
    connect(&r, id);
    assert_string_equal(id, first);
    rig_fini(&r);
}

static void changes_with_what_was_lost(void **state)
{
    (void)state;
    struct rig r;
    char first[37], second[37], id[37];
    rig_init(&r, NULL);
    connect(&r, first);
    /* the link is made anew, to tell it */
    kei_tunnel_store_lost(r.t);
    snprintf(second, sizeof second, "%s", r.t->store_id);
    assert_string_not_equal(second, first);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTING));
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    leave(&r);
    connect(&r, id);
    assert_string_equal(id, second);
    leave(&r);
    /* before it was read */
    rig_store(&r);
    rig_tunnel(&r);
    kei_tunnel_store_lost(r.t);
    snprintf(first, sizeof first, "%s", r.t->store_id);
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    assert_string_equal(r.t->store_id, first);
    assert_string_not_equal(first, second);
    leave(&r);
    connect(&r, id);
    assert_string_equal(id, first);
    rig_fini(&r);
}

static void without_a_store_there_is_none(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, NULL);
    rig_connect(&r);
    kei_tunnel_store_lost(r.t);
    assert_string_equal(r.t->store_id, "");
    kei_tunnel_store_lost(NULL);
    rig_fini(&r);
}

static int64_t answer;

static int64_t newest(void *user)
{
    (void)user;
    return answer;
}

/* Told at each connect, when it is known. */
static void the_newest_version_is_told(void **state)
{
    (void)state;
    struct rig r;
    char id[37];
    rig_init(&r, NULL);
    connect(&r, id);
    assert_string_equal(r.fc.newest, "");
    leave(&r);
    rig_store(&r);
    rig_tunnel(&r);
    kei_tunnel_tell_newest(r.t, newest, NULL);
    answer = -1;
    rig_start(&r);
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    assert_string_equal(r.fc.newest, "");
    answer = 4711;
    kei_tunnel_store_lost(r.t); /* connects anew */
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTING));
    assert_true(rig_until_state(&r, KE_TUNNEL_CONNECTED));
    assert_string_equal(r.fc.newest, "4711");
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stays_with_its_store),
        cmocka_unit_test(changes_with_what_was_lost),
        cmocka_unit_test(without_a_store_there_is_none),
        cmocka_unit_test(the_newest_version_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
