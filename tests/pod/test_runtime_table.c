/* SPDX-License-Identifier: Apache-2.0 */
/* Operations of the vendor's table: tokens, deadlines, one end each, completions from any thread.
 */
#include "support/support.h"

#include <pthread.h>

#include "pod/runtime_table.h"

struct vendor {
    struct ke_runtime_ops ops;
    struct ke_runtime *rt;
    uint64_t op[64];
    int calls, detached;
    int at_once; /* completes within the call */
    int refuse;  /* returns this */
    int both;    /* completes and returns a failure */
};

static int on_call(struct vendor *v, uint64_t op)
{
    struct ke_runtime_result r = {.size = sizeof r, .id = "now"};
    v->op[v->calls++ % 64] = op;
    if (v->at_once || v->both)
        assert_int_equal(ke_runtime_complete(v->rt, op, 0, &r), 0);
    return v->both ? KE_EIO : v->refuse;
}

static int v_create(void *user, uint64_t op, const struct ke_container_config *c)
{
    (void)c;
    return on_call(user, op);
}

static int v_start(void *user, uint64_t op, const char *id)
{
    (void)id;
    return on_call(user, op);
}

static int v_stop(void *user, uint64_t op, const char *id, int64_t grace)
{
    (void)id;
    (void)grace;
    return on_call(user, op);
}

static int v_list(void *user, uint64_t op)
{
    return on_call(user, op);
}

static void v_attach(void *user, struct ke_runtime *rt)
{
    ((struct vendor *)user)->rt = rt;
}

static void v_detach(void *user)
{
    ((struct vendor *)user)->detached++;
}

struct rig {
    struct test_env env;
    struct vendor v;
    struct ke_runtime *rt;
    int events;
    uint32_t last_attempt;
};

struct end {
    struct rig *rig;
    int n, status;
    char id[32], text[200], reason[32];
    uint32_t containers;
    uint64_t turn;
    bool close, again;
};

static void on_event(void *user, const struct ke_container_info *c)
{
    struct rig *r = user;
    r->events++;
    r->last_attempt = c->attempt;
    assert_string_equal(c->reason, "");
}

static void on_end(void *user, int status, const struct ke_runtime_result *r)
{
    struct end *e = user;
    e->n++;
    e->status = status;
    snprintf(e->id, sizeof e->id, "%s", r->id);
    snprintf(e->text, sizeof e->text, "%s", r->text);
    snprintf(e->reason, sizeof e->reason, "%s", r->reason);
    e->containers = r->n_containers;
    e->turn = kei_ctx_turn(e->rig->env.ctx);
    if (e->again) {
        e->again = false;
        assert_int_equal(kei_runtime_start(e->rig->rt, "x", 1000, on_end, e), 0);
    }
    if (e->close) {
        kei_runtime_close(e->rig->rt);
        e->rig->rt = NULL;
    }
}

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    test_env_init(&r->env, 0);
    r->v.ops = (struct ke_runtime_ops){.size = sizeof r->v.ops,
                                       .attach = v_attach,
                                       .detach = v_detach,
                                       .container_create = v_create,
                                       .container_start = v_start,
                                       .container_stop = v_stop,
                                       .container_list = v_list};
    assert_int_equal(kei_runtime_new(&r->rt, r->env.ctx, &r->v.ops, &r->v, on_event, r), 0);
}

static void rig_fini(struct rig *r)
{
    kei_runtime_close(r->rt);
    assert_int_equal(r->v.detached, 1);
    test_env_fini(&r->env);
}

static int start(struct rig *r, struct end *e)
{
    e->rig = r;
    return kei_runtime_start(r->rt, "x", 5000, on_end, e);
}

static void completes_once(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    struct ke_runtime_result res = {.size = sizeof res, .id = "abc", .reason = "r", .text = "t"};
    rig_init(&r);
    assert_int_equal(start(&r, &e), 0);
    test_settle(&r.env);
    assert_int_equal(e.n, 0);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, &res), 0);
    assert_int_equal(e.n, 0); /* later, never from within the call */
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], KE_EIO, NULL), KE_ENOTFOUND);
    test_settle(&r.env);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.status, 0);
    assert_string_equal(e.id, "abc");
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, &res), KE_ENOTFOUND);
    test_drive_ms(&r.env, 10000);
    assert_int_equal(e.n, 1);
    rig_fini(&r);
}

static void ends_at_its_deadline(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    rig_init(&r);
    assert_int_equal(start(&r, &e), 0);
    test_drive_ms(&r.env, 4999);
    assert_int_equal(e.n, 0);
    test_drive_ms(&r.env, 2);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.status, KE_ETIMEDOUT);
    assert_string_equal(e.text, "the runtime did not complete container_start within 5000 ms");
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, NULL), KE_ENOTFOUND);
    rig_fini(&r);
}

/* A slot is used again, its old tokens are not. */
static void old_tokens_stay_dead(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    rig_init(&r);
    uint64_t seen[200];
    for (int i = 0; i < 200; i++) {
        assert_int_equal(start(&r, &e), 0);
        seen[i] = r.v.op[i % 64];
        assert_int_not_equal(seen[i], 0);
        for (int k = 0; k < i; k++) {
            assert_int_not_equal(seen[k], seen[i]);
            assert_int_equal(ke_runtime_complete(r.v.rt, seen[k], 0, NULL), KE_ENOTFOUND);
        }
        assert_int_equal(ke_runtime_complete(r.v.rt, seen[i], 0, NULL), 0);
        test_settle(&r.env);
    }
    assert_int_equal(e.n, 200);
    assert_int_equal(ke_runtime_complete(r.v.rt, 0, 0, NULL), KE_ENOTFOUND);
    assert_int_equal(ke_runtime_complete(r.v.rt, UINT64_MAX, 0, NULL), KE_ENOTFOUND);
    assert_int_equal(ke_runtime_complete(r.v.rt, 1, 0, NULL), KE_ENOTFOUND);
    rig_fini(&r);
}

static void within_the_call(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    rig_init(&r);
    r.v.at_once = 1;
    assert_int_equal(start(&r, &e), 0);
    assert_int_equal(e.n, 0);
    test_settle(&r.env);
    assert_int_equal(e.n, 1);
    assert_string_equal(e.id, "now");
    rig_fini(&r);
}

static void refused_by_the_vendor(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    rig_init(&r);
    r.v.refuse = KE_EACCES;
    assert_int_equal(start(&r, &e), 0);
    assert_int_equal(e.n, 0); /* told like any other end */
    test_settle(&r.env);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.status, KE_EACCES);
    assert_string_equal(e.text, "container_start failed: KE_EACCES");
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, NULL), KE_ENOTFOUND);
    /* one that completes and then says that it failed: the first counts, once */
    struct end f = {0};
    r.v.both = 1;
    assert_int_equal(start(&r, &f), 0);
    test_settle(&r.env);
    assert_int_equal(f.n, 1);
    assert_int_equal(f.status, 0);
    rig_fini(&r);
}

static void bad_arguments(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    struct ke_runtime_result small = {.size = 3};
    struct ke_container_info *none = NULL;
    rig_init(&r);
    assert_int_equal(start(&r, &e), 0);
    assert_int_equal(ke_runtime_complete(NULL, 1, 0, NULL), KE_EINVAL);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 1, NULL), KE_EINVAL);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, &small), KE_EABI);
    assert_int_equal(ke_runtime_event(r.v.rt, none), KE_EINVAL);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, NULL), 0); /* still open */
    test_settle(&r.env);
    assert_int_equal(e.n, 1);
    struct ke_runtime_ops lacking = r.v.ops;
    struct ke_runtime *rt = NULL;
    lacking.container_stop = NULL;
    assert_int_equal(kei_runtime_new(&rt, r.env.ctx, &lacking, &r.v, on_event, &r), KE_EINVAL);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "container_stop"));
    assert_int_equal(kei_runtime_pull(r.rt, "i", "Never", "{}", 2, 1000, on_end, &e), KE_ENOTSUP);
    rig_fini(&r);
}

static void lists_are_copied(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {.rig = &r};
    char id[8] = "one";
    struct ke_container_info c[3] = {
        {.size = sizeof c[0], .id = id}, {.size = sizeof c[0]}, {.size = sizeof c[0]}};
    struct ke_runtime_result res = {.size = sizeof res, .containers = c, .n_containers = 3};
    rig_init(&r);
    assert_int_equal(kei_runtime_list(r.rt, 1000, on_end, &e), 0);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, &res), 0);
    memset(c, 0xff, sizeof c);
    memset(id, 'x', sizeof id - 1);
    test_settle(&r.env);
    assert_int_equal(e.containers, 3);
    rig_fini(&r);
}

static void events_come_before_ends(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    struct ke_container_info i = {.size = sizeof i, .id = "a", .attempt = 7};
    rig_init(&r);
    assert_int_equal(start(&r, &e), 0);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, NULL), 0);
    assert_int_equal(ke_runtime_event(r.v.rt, &i), 0);
    assert_int_equal(r.events, 0);
    test_settle(&r.env);
    assert_int_equal(r.events, 1);
    assert_int_equal(r.last_attempt, 7);
    rig_fini(&r);
}

static void closing_ends_what_is_open(void **state)
{
    (void)state;
    struct rig r;
    struct end a = {0}, b = {.close = true}, c = {0};
    rig_init(&r);
    assert_int_equal(start(&r, &a), 0);
    assert_int_equal(start(&r, &b), 0);
    assert_int_equal(start(&r, &c), 0);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[1], 0, NULL), 0);
    assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[2], 0, NULL), 0);
    test_settle(&r.env); /* b closes it from within its end */
    assert_int_equal(a.n, 1);
    assert_int_equal(a.status, KE_ECANCELED);
    assert_int_equal(b.n, 1);
    assert_int_equal(b.status, 0);
    assert_int_equal(c.n, 1);
    assert_int_equal(c.status, KE_ECANCELED);
    assert_int_equal(r.v.detached, 1);
    test_env_fini(&r.env);
}

static void again_from_within_an_end(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {.again = true};
    rig_init(&r);
    r.v.at_once = 1;
    assert_int_equal(start(&r, &e), 0);
    test_settle(&r.env);
    assert_int_equal(e.n, 2);
    rig_fini(&r);
}

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS 500

struct race {
    struct rig *r;
    uint64_t op;
    int won;
    pthread_barrier_t *go, *stop;
};

static void *racer(void *arg)
{
    struct race *c = arg;
    struct ke_container_info i = {.size = sizeof i, .id = "thread"};
    struct ke_runtime_result res = {.size = sizeof res, .id = "thread"};
    for (int k = 0; k < ROUNDS; k++) {
        pthread_barrier_wait(c->go);
        int e = ke_runtime_complete(c->r->v.rt, c->op, 0, &res);
        if (e == 0)
            c->won++;
        else if (e != KE_ENOTFOUND)
            c->won = -100000;
        if (ke_runtime_event(c->r->v.rt, &i) < 0)
            c->won = -100000;
        pthread_barrier_wait(c->stop);
    }
    return NULL;
}

/* All threads complete each operation at the same moment: one of them does. */
static void one_thread_wins(void **state)
{
    (void)state;
    struct rig r;
    struct end e = {0};
    pthread_t threads[THREADS];
    struct race race[THREADS];
    pthread_barrier_t go, stop;
    int won = 0;
    rig_init(&r);
    pthread_barrier_init(&go, NULL, THREADS + 1);
    pthread_barrier_init(&stop, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        race[i] = (struct race){&r, 0, 0, &go, &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, racer, &race[i]), 0);
    }
    for (int k = 0; k < ROUNDS; k++) {
        assert_int_equal(start(&r, &e), 0);
        for (int i = 0; i < THREADS; i++)
            race[i].op = r.v.op[k % 64];
        pthread_barrier_wait(&go);
        test_settle(&r.env); /* takes them while they come */
        pthread_barrier_wait(&stop);
        test_settle(&r.env);
        assert_int_equal(e.n, k + 1);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        won += race[i].won;
    }
    assert_int_equal(won, ROUNDS);
    assert_int_equal(r.events, THREADS * ROUNDS);
    pthread_barrier_destroy(&go);
    pthread_barrier_destroy(&stop);
    rig_fini(&r);
}

/* Refused for want of memory it is still open, and can be completed again. */
static void memory_can_run_out(void **state)
{
    (void)state;
    int e = KE_ENOMEM;
    for (size_t n = 1; e != 0; n++) {
        struct rig r;
        struct end x = {0};
        struct ke_container_info c = {.size = sizeof c, .id = "a", .name = "b", .message = "c"};
        struct ke_runtime_result res = {
            .size = sizeof res, .id = "a", .containers = &c, .n_containers = 1};
        rig_init(&r);
        assert_int_equal(start(&r, &x), 0);
        test_alloc_fail_at(&r.env.alloc, n);
        e = ke_runtime_complete(r.v.rt, r.v.op[0], 0, &res);
        test_alloc_fail_at(&r.env.alloc, 0);
        if (e < 0) {
            assert_int_equal(e, KE_ENOMEM);
            assert_int_equal(ke_runtime_complete(r.v.rt, r.v.op[0], 0, &res), 0);
        }
        test_settle(&r.env);
        assert_int_equal(x.n, 1);
        assert_string_equal(x.id, "a");
        rig_fini(&r);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completes_once),
        cmocka_unit_test(ends_at_its_deadline),
        cmocka_unit_test(old_tokens_stay_dead),
        cmocka_unit_test(within_the_call),
        cmocka_unit_test(refused_by_the_vendor),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(lists_are_copied),
        cmocka_unit_test(events_come_before_ends),
        cmocka_unit_test(closing_ends_what_is_open),
        cmocka_unit_test(again_from_within_an_end),
        cmocka_unit_test(one_thread_wins),
        cmocka_unit_test(memory_can_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
