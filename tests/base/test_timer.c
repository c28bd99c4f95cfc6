/* SPDX-License-Identifier: Apache-2.0 */
/* Timers on the virtual clock: order, bounds, changing them inside callbacks, many of them. */
#include "support/support.h"

struct tm_ {
    struct kei_timer timer;
    struct test_env *env;
    int fired;
    int64_t at;     /* clock at the last firing */
    uint64_t order; /* rank of the last firing */
    void (*act)(struct tm_ *t);
    struct tm_ *other;
};

static uint64_t ranks;

static void on_timer(struct kei_timer *t)
{
    struct tm_ *m = KEI_OF(t, struct tm_, timer);
    m->fired++;
    m->at = ke_ctx_mono_ms(t->ctx);
    m->order = ++ranks;
    if (m->act)
        m->act(m);
}

static void make(struct test_env *env, struct tm_ *t)
{
    memset(t, 0, sizeof *t);
    t->env = env;
    kei_timer_init(env->ctx, &t->timer, on_timer);
}

static void test_due(void **state)
{
    (void)state;
    struct test_env env;
    struct tm_ a, b, c;
    test_env_init(&env, 0);
    make(&env, &a);
    make(&env, &b);
    make(&env, &c);
    int64_t start = ke_ctx_mono_ms(env.ctx);
    kei_timer_in(&a.timer, 100);
    kei_timer_at(&b.timer, start + 50);
    kei_timer_in(&c.timer, 100);
    assert_true(kei_timer_armed(&a.timer));
    test_drive_ms(&env, 49);
    assert_int_equal(b.fired, 0);
    test_drive_ms(&env, 1);
    assert_int_equal(b.fired, 1);
    assert_false(kei_timer_armed(&b.timer));
    test_drive_ms(&env, 1000);
    assert_int_equal(a.at, start + 100);
    assert_int_equal(c.at, start + 100);
    assert_true(a.order < c.order); /* same time: as armed */
    assert_int_equal(a.fired, 1);

    kei_timer_in(&a.timer, 10); /* again, and earlier, and later, and not at all */
    kei_timer_in(&a.timer, 5);
    test_drive_ms(&env, 5);
    assert_int_equal(a.fired, 2);
    test_drive_ms(&env, 10);
    assert_int_equal(a.fired, 2);
    kei_timer_in(&a.timer, 5);
    kei_timer_in(&a.timer, 20);
    test_drive_ms(&env, 19);
    assert_int_equal(a.fired, 2);
    kei_timer_stop(&a.timer);
    kei_timer_stop(&a.timer);
    test_drive_ms(&env, 100);
    assert_int_equal(a.fired, 2);
    test_env_fini(&env);
}

static void test_extremes(void **state)
{
    (void)state;
    struct test_env env;
    struct tm_ a, b, c, d;
    int64_t left;
    test_env_init(&env, 0);
    make(&env, &a);
    make(&env, &b);
    make(&env, &c);
    make(&env, &d);
    kei_timer_in(&a.timer, INT64_MAX);
    kei_timer_at(&b.timer, INT64_MIN);
    kei_timer_in(&c.timer, -5);
    kei_timer_in(&d.timer, 0);
    test_settle(&env);
    assert_int_equal(a.fired, 0);
    assert_int_equal(b.fired, 1);
    assert_int_equal(c.fired, 1);
    assert_int_equal(d.fired, 1);
    assert_int_equal(ke_ctx_prepare(env.ctx, &left), 0);
    assert_true(left > INT64_C(1) << 60);
    kei_timer_fini(&a.timer);
    struct kei_timer zero = {.ctx = NULL};
    kei_timer_fini(&zero);
    test_env_fini(&env);
}

static void test_extremes_on_the_real_clock(void **state)
{
    (void)state;
    struct test_env env;
    struct tm_ a, b;
    test_env_init(&env, TEST_REAL_CLOCK);
    make(&env, &a);
    make(&env, &b);
    kei_timer_in(&a.timer, INT64_MAX); /* the kernel must take it */
    kei_timer_at(&b.timer, -1);
    assert_true(test_drive(&env, test_nonzero, &b.fired));
    assert_int_equal(a.fired, 0);
    kei_timer_in(&b.timer, 3);
    assert_true(test_drive(&env, test_nonzero, &b.fired));
    kei_timer_fini(&a.timer);
    kei_timer_fini(&b.timer);
    test_env_fini(&env);
}

/* ---- inside callbacks ---- */

static void again_now(struct tm_ *t)
{
    kei_timer_in(&t->timer, 0);
}

static void stop_other(struct tm_ *t)
{
    kei_timer_stop(&t->other->timer);
}

static void free_other(struct tm_ *t)
{
    struct tm_ *o = t->other;
    if (!o)
        return;
    t->other = NULL;
    kei_timer_fini(&o->timer);
    memset(o, 0xdd, sizeof *o);
    free(o);
}

static void again_past(struct tm_ *t)
{
    kei_timer_at(&t->timer, 0);
}

static void test_self_arming_is_bounded(void **state)
{
    (void)state;
    struct test_env env;
    struct tm_ a, b, c;
    test_env_init(&env, 0);
    make(&env, &a);
    make(&env, &b);
    make(&env, &c);
    a.act = again_now;
    b.act = again_past;
    kei_timer_in(&a.timer, 0);
    kei_timer_in(&b.timer, 0);
    for (int i = 1; i <= 10; i++) {
        kei_timer_in(&c.timer, 0); /* is not held up */
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        assert_int_equal(a.fired, i); /* once per turn */
        assert_int_equal(b.fired, i);
        assert_int_equal(c.fired, i);
    }
    kei_timer_fini(&a.timer);
    kei_timer_fini(&b.timer);
    test_env_fini(&env);
}

static void test_stop_and_free_inside(void **state)
{
    (void)state;
    struct test_env env;
    struct tm_ a, b, *c = malloc(sizeof *c);
    test_env_init(&env, 0);
    make(&env, &a);
    make(&env, &b);
    make(&env, c);
    a.act = stop_other;
    a.other = &b;
    kei_timer_in(&a.timer, 10);
    kei_timer_in(&b.timer, 10);
    test_drive_ms(&env, 20);
    assert_int_equal(a.fired, 1);
    assert_int_equal(b.fired, 0);
    b.act = free_other;
    b.other = c;
    kei_timer_in(&b.timer, 10);
    kei_timer_in(&c->timer, 10);
    test_drive_ms(&env, 20);
    assert_int_equal(b.fired, 1);
    test_env_fini(&env);
}

/* ---- 100,000 of them against a plain model ---- */

#define MANY 100000

static struct tm_ *many;
static int64_t model_due[MANY]; /* -1: not armed */
static uint64_t model_seq[MANY], model_next;
static int64_t last_due;
static uint64_t last_seq;
static int wrong;

static void on_many(struct kei_timer *t)
{
    struct tm_ *m = KEI_OF(t, struct tm_, timer);
    size_t i = (size_t)(m - many);
    int64_t now = ke_ctx_mono_ms(t->ctx);
    /* armed in the model, due, and not before one that should have come first */
    if (model_due[i] < 0 || model_due[i] > now || model_due[i] < last_due ||
        (model_due[i] == last_due && model_seq[i] < last_seq))
        wrong++;
    last_due = model_due[i];
    last_seq = model_seq[i];
    model_due[i] = -1;
    m->fired++;
}

static uint32_t next_random(uint64_t *s)
{
    *s = *s * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*s >> 33);
}

static void arm_many(size_t i, int64_t delay)
{
    kei_timer_in(&many[i].timer, delay);
    model_due[i] = many[i].timer.due_ms;
    model_seq[i] = model_next++;
}

static void test_many(void **state)
{
    (void)state;
    struct test_env env;
    uint64_t seed = 2026;
    test_env_init(&env, 0);
    many = calloc(MANY, sizeof *many);
    for (size_t i = 0; i < MANY; i++) {
        kei_timer_init(env.ctx, &many[i].timer, on_many);
        arm_many(i, next_random(&seed) % 10000);
    }
    size_t live = test_alloc_live(&env.alloc), calls = env.alloc.calls;
    for (int step = 0; step < 200; step++) {
        for (int k = 0; k < 1000; k++) {
            size_t i = next_random(&seed) % MANY;
            switch (next_random(&seed) % 4) {
            case 0:
                kei_timer_stop(&many[i].timer);
                model_due[i] = -1;
                break;
            default:
                arm_many(i, next_random(&seed) % 10000);
            }
        }
        test_clock_advance(&env.clock, next_random(&seed) % 120);
        last_due = -1;
        assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        int64_t now = ke_ctx_mono_ms(env.ctx), first = INT64_MAX, left;
        for (size_t i = 0; i < MANY; i++) {
            if (kei_timer_armed(&many[i].timer) != (model_due[i] >= 0) ||
                (model_due[i] >= 0 && model_due[i] <= now))
                wrong++; /* lost, or late */
            if (model_due[i] >= 0 && model_due[i] < first)
                first = model_due[i];
        }
        assert_int_equal(wrong, 0);
        assert_int_equal(ke_ctx_prepare(env.ctx, &left), 0);
        assert_int_equal(left, first == INT64_MAX ? -1 : first - now);
    }
    assert_int_equal(test_alloc_live(&env.alloc), live); /* arming allocates nothing */
    assert_int_equal(env.alloc.calls, calls);
    for (size_t i = 0; i < MANY; i++)
        kei_timer_fini(&many[i].timer);
    free(many);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_due),
        KE_TEST(test_extremes),
        KE_TEST(test_extremes_on_the_real_clock),
        KE_TEST(test_self_arming_is_bounded),
        KE_TEST(test_stop_and_free_inside),
        KE_TEST(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
