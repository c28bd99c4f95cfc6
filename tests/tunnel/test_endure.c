/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Things that only show in numbers: many reconnects without growth (KE_RECONNECTS), every
 * allocation that fails once (each KE_ALLOC_STEPth), a tunnel freed in each of its callbacks.
 */
#include "rig.h"

#include "sim/cut_proxy.h"

static bool linked_again(void *rig)
{
    struct rig *r = rig;

    return r->fc.ws && r->state == KE_TUNNEL_CONNECTED;
}

static void reconnects_without_growth(void **state)
{
    const char *wanted = getenv("KE_RECONNECTS");
    int n = wanted ? atoi(wanted) : 150, fds = 0;
    size_t blocks = 0, bytes = 0;
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_store(&r);
    r.env.idle_ms = 5;
    r.env.max_real_ms = 3600000;
    r.fc.reply_ok = true;
    r.conf.heartbeat_ms = 600000;
    r.conf.dead_ms = 1200000;
    rig_connect(&r);
    for (int i = 0; i < n; i++) {
        const struct fake_message down = {.operation = "update",
                                          .resource = "default/configmap/a",
                                          .rv = "7",
                                          .content = "{\"metadata\":{\"name\":\"a\"}}"};

        fake_cloud_send(&r.fc, &down, NULL);
        assert_true(rig_until_n(&r, &r.n_messages, 1));
        assert_int_equal(ke_tunnel_ack(r.t, r.messages[0]), 0);
        assert_int_equal(rig_send(&r, KE_SEND_EVENT, "upload", "topic/a", "\"1\""), 0);
        /* half of them die with the event on its way */
        if (i % 2)
            rig_drive(&r, 10);
        fake_cloud_drop(&r.fc);
        assert_true(rig_until_state(&r, KE_TUNNEL_WAITING));
        assert_true(rig_until(&r, linked_again));
        rig_drive(&r, 200); /* for what is closed on both ends, and the last confirmation */
        fake_cloud_forget(&r.fc);
        while (r.n_messages > 0)
            ke_msg_unref(r.messages[--r.n_messages]);
        if (i == 50) { /* what has been needed once is there by now */
            blocks = atomic_load(&r.env.alloc.live);
            bytes = atomic_load(&r.env.alloc.live_bytes);
            fds = fdcheck_count();
        }
    }
    print_message("count: %d reconnects on the virtual clock\n", n);
    assert_int_equal(r.fc.upgrades, n + 1);
    assert_int_equal(rig_status(&r).outbox, 0);
    if (n > 51) {
        assert_int_equal(fdcheck_count(), fds);
        assert_true(atomic_load(&r.env.alloc.live) <= blocks + 16);
        assert_true(atomic_load(&r.env.alloc.live_bytes) <= bytes + 16384);
    }
    rig_fini(&r);
}

/* ---- memory that is refused ---- */

/* The cloud is on a context of its own here, whose memory does not fail. */
struct two {
    struct test_env env;
    struct ke_ctx *cloud_ctx;
    struct fake_cloud fc;
    struct ke_tunnel *t;
    struct ke_store *store;
    char dir[128];
    uint32_t n_messages;
    int64_t step_ms; /* of time that passes when nothing happens */
};

static void two_message(void *user, struct ke_msg *m)
{
    struct two *x = user;

    x->n_messages++;
    if (ke_tunnel_ack(x->t, m) < 0)
        return; /* no memory: the cloud sends it again */
}

static void two_init(struct two *x)
{
    struct ke_ctx_config cc;

    memset(x, 0, sizeof *x);
    x->step_ms = 50;
    test_env_init(&x->env, 0);
    ke_ctx_config_init(&cc, sizeof cc);
    cc.clock = &x->env.clock.table;
    assert_int_equal(ke_ctx_new(&x->cloud_ctx, &cc, NULL), 0);
    fake_cloud_start(&x->fc, x->cloud_ctx);
    test_tmp_make(x->dir, sizeof x->dir);
}

static void two_store(struct two *x)
{
    struct ke_store_config c;
    char folder[200];

    snprintf(folder, sizeof folder, "%s/store", x->dir);
    ke_store_config_init(&c, sizeof c);
    c.folder = folder;
    assert_int_equal(ke_store_open(&x->store, x->env.ctx, &c), 0);
}

static void two_fini(struct two *x)
{
    ke_tunnel_free(x->t);
    ke_store_close(x->store);
    fake_cloud_stop(&x->fc);
    ke_ctx_free(x->cloud_ctx);
    atomic_store(&x->env.log_errors, 0);
    test_env_fini(&x->env);
    test_tmp_remove(x->dir);
}

static void two_turn(struct two *x)
{
    int64_t before = (int64_t)atomic_load(&x->env.alloc.calls);

    assert_int_equal(ke_ctx_dispatch(x->env.ctx), 0);
    assert_int_equal(ke_ctx_dispatch(x->cloud_ctx), 0);
    /* nothing happened: time passes, and the disk worker gets the processor */
    if ((int64_t)atomic_load(&x->env.alloc.calls) == before) {
        assert_int_equal(ke_ctx_wait(x->env.ctx, 1), 0);
        test_clock_advance(&x->env.clock, x->step_ms);
    }
}

/* Until it is linked, a message was acknowledged and the event confirmed. false: it never was. */
static bool two_play(struct two *x, struct ke_msg *m)
{
    struct fake_message down = {.id = "00000000-0000-4000-8000-000000000001",
                                .operation = "update",
                                .resource = "a/configmap/b",
                                .rv = "1",
                                .content = "{}"};
    struct ke_tunnel_status st;
    bool queued = false;

    for (int turn = 0; turn < 20000; turn++) {
        two_turn(x);
        if (!queued)
            queued = ke_tunnel_send(x->t, m, KE_SEND_EVENT, NULL, NULL, NULL) == 0;
        if (x->fc.ws && turn % 100 == 99)
            fake_cloud_send(&x->fc, &down, NULL);
        if (ke_tunnel_status(x->t, &st, sizeof st) == 0 && queued && st.outbox == 0 &&
            fake_cloud_acks(&x->fc, down.id) > 0)
            return true;
    }
    return false;
}

/* Plays it with the n-th allocation refused; false: there were fewer. */
static bool play_failing(size_t n, bool with_store)
{
    struct two x;
    struct ke_tunnel_config c;
    struct ke_tunnel_ops ops = {.size = sizeof ops, .message = two_message};
    struct ke_msg_config mc;
    struct ke_msg *m = NULL;
    size_t before;
    bool failed;

    two_init(&x);
    if (with_store)
        two_store(&x);
    ke_tunnel_config_init(&c, sizeof c);
    c.node_name = NODE;
    c.host = "127.0.0.1";
    c.token = x.fc.token.p;
    c.folder = x.dir;
    c.tunnel_port = x.fc.hub_port;
    c.cert_port = x.fc.cert_port;
    c.store = x.store;
    ke_msg_config_init(&mc, sizeof mc);
    mc.group = "user";
    mc.operation = "upload";
    mc.resource = "topic/a";
    assert_int_equal(ke_msg_new(&m, x.env.ctx, &mc, NULL), 0);
    before = atomic_load(&x.env.alloc.failed);
    test_alloc_fail_at(&x.env.alloc, n);
    if (ke_tunnel_new(&x.t, x.env.ctx, &c, &ops, &x) == 0) {
        assert_int_equal(ke_tunnel_start(x.t), 0);
        if (!two_play(&x, m))
            fail_msg("allocation %zu failed once, and for good", n);
    }
    test_alloc_fail_at(&x.env.alloc, 0);
    failed = atomic_load(&x.env.alloc.failed) > before;
    ke_msg_unref(m);
    two_fini(&x);
    return failed;
}

/* Each allocation on the way to a link and through a few messages fails once: no crash, no leak,
 * and the tunnel gets there all the same. */
static void every_allocation_fails_once(void **state)
{
    const char *step = getenv("KE_ALLOC_STEP");
    size_t by = step ? strtoul(step, NULL, 10) : 3;

    (void)state;
    for (int with_store = 0; with_store < 2; with_store++) {
        size_t n = 1;

        while (play_failing(n, with_store))
            n += by;
        assert_true(n > 80);
        print_message("count: allocations 1 to %zu of a tunnel failed, step %zu\n", n, by);
    }
}

/* The link at rest: keepalives, pings and what answers them need no memory of the library. */
static void keepalives_allocate_nothing(void **state)
{
    struct two x;
    struct ke_tunnel_config c;
    struct ke_tunnel_status st = {0};
    size_t calls = 0;
    uint32_t beats = 0;

    (void)state;
    two_init(&x);
    x.step_ms = 500;
    ke_tunnel_config_init(&c, sizeof c);
    c.node_name = NODE;
    c.host = "127.0.0.1";
    c.token = x.fc.token.p;
    c.folder = x.dir;
    c.tunnel_port = x.fc.hub_port;
    c.cert_port = x.fc.cert_port;
    c.dialect = KE_DIALECT_1_15;
    assert_int_equal(ke_tunnel_new(&x.t, x.env.ctx, &c, NULL, NULL), 0);
    assert_int_equal(ke_tunnel_start(x.t), 0);
    for (int turn = 0; turn < 40000 && beats < 30; turn++) {
        two_turn(&x);
        if (x.fc.keepalives >= 5 && calls == 0)
            calls = atomic_load(&x.env.alloc.calls);
        beats = calls ? x.fc.keepalives - 5 : 0;
    }
    assert_int_equal(beats, 30);
    assert_int_equal(ke_tunnel_status(x.t, &st, sizeof st), 0);
    assert_int_equal(st.state, KE_TUNNEL_CONNECTED);
    assert_int_equal(atomic_load(&x.env.alloc.calls), calls);
    two_fini(&x);
}

/* ---- freed in a callback ---- */

enum when { ON_STATE, ON_MESSAGE, ON_SENT, ON_DONE, NEVER };

struct freeing {
    struct ke_tunnel *t;
    enum when when;
    uint32_t state; /* ON_STATE: at this one */
    uint32_t freed;
};

static void free_now(struct freeing *f)
{
    ke_tunnel_free(f->t);
    f->t = NULL;
    f->freed++;
}

static void free_on_state(void *user, const struct ke_tunnel_status *st)
{
    struct freeing *f = user;

    assert_int_equal(f->freed, 0);
    if (f->when == ON_STATE && st->state == f->state)
        free_now(f);
}

static void free_on_message(void *user, struct ke_msg *m)
{
    struct freeing *f = user;

    (void)m;
    assert_int_equal(f->freed, 0);
    if (f->when == ON_MESSAGE)
        free_now(f);
}

static void free_on_sent(void *user, struct ke_msg *m, int status)
{
    struct freeing *f = user;

    (void)m;
    (void)status;
    assert_int_equal(f->freed, 0);
    if (f->when == ON_SENT)
        free_now(f);
}

static void free_on_done(void *user, int status)
{
    struct freeing *f = user;

    (void)status;
    assert_int_equal(f->freed, 0);
    if (f->when == ON_DONE)
        free_now(f);
}

static void freed_in_each_callback(void **state)
{
    static const struct {
        enum when when;
        uint32_t state;
        bool store;
    } cases[] = {
        {ON_STATE, KE_TUNNEL_CONNECTING, false},
        {ON_STATE, KE_TUNNEL_JOINING, false},
        {ON_STATE, KE_TUNNEL_CONNECTED, false},
        {ON_STATE, KE_TUNNEL_WAITING, false},
        {ON_MESSAGE, 0, false},
        {ON_SENT, 0, false},
        {ON_DONE, 0, false},
        {ON_STATE, KE_TUNNEL_CONNECTING, true},
        {ON_SENT, 0, true},
        {ON_DONE, 0, true},
        {ON_MESSAGE, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct freeing f = {NULL, cases[i].when, cases[i].state, 0};
        struct rig r;
        struct ke_msg *m;
        const struct fake_message down = {
            .operation = "update", .resource = "a/configmap/b", .rv = "1", .content = "{}"};

        rig_init(&r, NULL);
        if (cases[i].store)
            rig_store(&r);
        r.ops.state = free_on_state;
        r.ops.message = free_on_message;
        r.ops.sent = free_on_sent;
        assert_int_equal(ke_tunnel_new(&f.t, r.env.ctx, &r.conf, &r.ops, &f), 0);
        assert_int_equal(ke_tunnel_start(f.t), 0);
        m = rig_msg(&r, "upload", "topic/a", "\"1\"");
        assert_int_equal(ke_tunnel_send(f.t, m, KE_SEND_EVENT, NULL, free_on_done, &f), 0);
        ke_msg_unref(m);
        for (int turn = 0; turn < 200 && !f.freed; turn++) {
            rig_drive(&r, 50);
            if (r.fc.ws && f.when == ON_MESSAGE)
                fake_cloud_send(&r.fc, &down, NULL);
            if (r.fc.ws && f.when == ON_STATE && f.state == KE_TUNNEL_WAITING)
                fake_cloud_drop(&r.fc);
        }
        assert_int_equal(f.freed, 1);
        rig_drive(&r, 5000);
        rig_fini(&r);
    }
}

/* Freed at any moment of its life, from outside. */
static void freed_at_any_turn(void **state)
{
    (void)state;
    for (int turns = 0; turns < 80; turns++) {
        struct rig r;

        rig_init(&r, NULL);
        if (turns % 2)
            rig_store(&r);
        rig_tunnel(&r);
        rig_start(&r);
        assert_int_equal(rig_send(&r, KE_SEND_STATE, "update", "default/podstatus/p",
                                  "{\"UID\":\"u\",\"Name\":\"p\",\"Status\":{}}"),
                         0);
        for (int i = 0; i < turns; i++) {
            assert_int_equal(ke_ctx_wait(r.env.ctx, 1), 0);
            assert_int_equal(ke_ctx_dispatch(r.env.ctx), 0);
        }
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reconnects_without_growth),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(keepalives_allocate_nothing),
        cmocka_unit_test(freed_in_each_callback),
        cmocka_unit_test(freed_at_any_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
