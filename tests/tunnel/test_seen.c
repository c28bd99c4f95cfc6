/* SPDX-License-Identifier: Apache-2.0 */
/* Ids of messages: new, in work, acknowledged, given up, forgotten; the ring never grows. */
#include "support/support.h"
#include "tunnel/seen.h"

static int check(struct kei_seen *s, const char *id, int64_t now)
{
    return kei_seen_check(s, kei_str(id), now);
}

static void life_of_an_id(void **state)
{
    struct kei_seen s = {0};

    (void)state;
    assert_int_equal(check(&s, "a", 1000), KEI_SEEN_NEW);
    assert_int_equal(check(&s, "a", 1001), KEI_SEEN_WORKING);
    assert_int_equal(check(&s, "b", 1001), KEI_SEEN_NEW);
    kei_seen_ack(&s, KEI_STR("a"));
    assert_int_equal(check(&s, "a", 1002), KEI_SEEN_ACKED);
    assert_int_equal(check(&s, "a", 1000 + 10 * KEI_SEEN_WORK_MS), KEI_SEEN_ACKED);
    assert_int_equal(check(&s, "b", 1002), KEI_SEEN_WORKING);
}

static void given_up(void **state)
{
    struct kei_seen s = {0};

    (void)state;
    assert_int_equal(check(&s, "a", 0), KEI_SEEN_NEW);
    assert_int_equal(check(&s, "a", KEI_SEEN_WORK_MS - 1), KEI_SEEN_WORKING);
    assert_int_equal(check(&s, "a", KEI_SEEN_WORK_MS), KEI_SEEN_NEW);
    assert_int_equal(check(&s, "a", KEI_SEEN_WORK_MS + 1), KEI_SEEN_WORKING);
    kei_seen_forget(&s, KEI_STR("a"));
    assert_int_equal(check(&s, "a", KEI_SEEN_WORK_MS + 2), KEI_SEEN_NEW);
    kei_seen_ack(&s, KEI_STR("a"));
    kei_seen_forget(&s, KEI_STR("a")); /* an acknowledgement is never taken back */
    assert_int_equal(check(&s, "a", KEI_SEEN_WORK_MS + 3), KEI_SEEN_ACKED);
}

static void acknowledged_before_seen(void **state)
{
    struct kei_seen s = {0};

    (void)state;
    kei_seen_ack(&s, KEI_STR("x"));
    assert_int_equal(check(&s, "x", 5), KEI_SEEN_ACKED);
}

static void empty_id_is_always_new(void **state)
{
    struct kei_seen s = {0};

    (void)state;
    assert_int_equal(check(&s, "", 5), KEI_SEEN_NEW);
    assert_int_equal(check(&s, "", 5), KEI_SEEN_NEW);
    kei_seen_ack(&s, KEI_STR(""));
    assert_int_equal(check(&s, "", 5), KEI_SEEN_NEW);
    assert_int_equal(s.n, 0);
}

static void ring_keeps_the_latest(void **state)
{
    struct kei_seen s = {0};
    char id[32];

    (void)state;
    for (int i = 0; i < 3 * KEI_SEEN_MAX; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        assert_int_equal(check(&s, id, 1), KEI_SEEN_NEW);
        kei_seen_ack(&s, kei_str(id));
    }
    assert_int_equal(s.n, KEI_SEEN_MAX);
    for (int i = 2 * KEI_SEEN_MAX; i < 3 * KEI_SEEN_MAX; i++) {
        snprintf(id, sizeof id, "id-%d", i);
        assert_int_equal(check(&s, id, 2), KEI_SEEN_ACKED);
    }
    assert_int_equal(check(&s, "id-0", 2), KEI_SEEN_NEW);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(life_of_an_id),
        KE_TEST(given_up),
        KE_TEST(acknowledged_before_seen),
        KE_TEST(empty_id_is_always_new),
        KE_TEST(ring_keeps_the_latest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
