/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox: what was accepted arrives, whatever dies meanwhile. By itself behind its callbacks,
 * in a tunnel with a cloud that goes, over restarts, and over power cuts (KE_POWERCUT_IMAGES scales
 * their number).
 */
#include "rig.h"

#include "sim/cut_proxy.h"
#include "sim/powercut_io.h"
#include "tunnel/outbox.h"

/* ---- by itself ---- */

#define SENT_MAX 4096

struct box {
    struct test_env env;
    struct kei_outbox *ob;
    struct ke_store *store;
    char dir[128];
    /* the link */
    int result;    /* of transmit */
    bool answered; /* what transmit says */
    uint32_t room; /* transmits until KE_EAGAIN */
    uint32_t pings;
    struct ke_msg *sent[SENT_MAX];
    uint32_t n_sent;
    /* gone */
    struct ke_msg *gone[SENT_MAX];
    int gone_status[SENT_MAX];
    uint32_t n_gone;
    uint32_t n_done;
    int done_status;
    struct kei_outbox_limits limits;
};

static int transmit(void *user, struct ke_msg *m, bool *ret_answered)
{
    struct box *b = user;

    if (b->result < 0)
        return b->result;
    if (b->room == 0)
        return KE_EAGAIN;
    b->room--;
    assert_true(b->n_sent < SENT_MAX);
    b->sent[b->n_sent++] = ke_msg_ref(m);
    *ret_answered = b->answered;
    return 0;
}

static int ping(void *user)
{
    struct box *b = user;

    b->pings++;
    return 0;
}

static void gone(void *user, struct ke_msg *m, int status)
{
    struct box *b = user;

    assert_true(b->n_gone < SENT_MAX);
    b->gone_status[b->n_gone] = status;
    b->gone[b->n_gone++] = ke_msg_ref(m);
}

static void done(void *user, int status)
{
    struct box *b = user;

    b->n_done++;
    b->done_status = status;
}

static void box_open_store(struct box *b, const char *folder)
{
    struct ke_store_config c;

    ke_store_config_init(&c, sizeof c);
    c.folder = folder;
    if (ke_store_open(&b->store, b->env.ctx, &c) < 0)
        fail_msg("%s", ke_ctx_error(b->env.ctx));
}

static void box_new(struct box *b)
{
    static const struct kei_outbox_ops ops = {transmit, ping, gone};

    assert_int_equal(kei_outbox_new(&b->ob, b->env.ctx, b->store, &b->limits, &ops, b), 0);
    assert_int_equal(kei_outbox_load(b->ob), 0);
}

static void box_init(struct box *b, bool with_store)
{
    memset(b, 0, sizeof *b);
    test_env_init(&b->env, 0);
    b->limits = (struct kei_outbox_limits){100, 1u << 20};
    b->room = UINT32_MAX;
    test_tmp_make(b->dir, sizeof b->dir);
    if (with_store)
        box_open_store(b, b->dir);
    box_new(b);
}

static void box_forget(struct box *b)
{
    for (uint32_t i = 0; i < b->n_sent; i++)
        ke_msg_unref(b->sent[i]);
    for (uint32_t i = 0; i < b->n_gone; i++)
        ke_msg_unref(b->gone[i]);
    b->n_sent = b->n_gone = 0;
}

static void box_fini(struct box *b)
{
    kei_outbox_free(b->ob);
    ke_store_close(b->store);
    box_forget(b);
    test_env_fini(&b->env);
    test_tmp_remove(b->dir);
}

/* As if the node was restarted. */
static void box_restart(struct box *b)
{
    kei_outbox_free(b->ob);
    ke_store_close(b->store);
    b->store = NULL;
    box_open_store(b, b->dir);
    box_new(b);
}

static struct ke_msg *message(struct box *b, const char *id, const char *resource,
                              const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.id = id;
    c.source = "edged";
    c.group = "meta";
    c.operation = "update";
    c.resource = resource;
    c.content = content;
    c.content_len = content ? strlen(content) : 0;
    assert_int_equal(ke_msg_new(&m, b->env.ctx, &c, NULL), 0);
    return m;
}

static int add(struct box *b, const char *id, uint32_t how, const char *resource)
{
    struct ke_msg *m = message(b, id, resource, NULL);
    int r = kei_outbox_add(b->ob, m, how, NULL, done, b);

    ke_msg_unref(m);
    return r;
}

static int event(struct box *b, const char *id)
{
    return add(b, id, KE_SEND_EVENT, "topic/x");
}

static void up(struct box *b)
{
    kei_outbox_link(b->ob, true);
    test_settle(&b->env);
}

static void down(struct box *b)
{
    kei_outbox_link(b->ob, false);
    test_settle(&b->env);
}

static void reply(struct box *b, const char *parent, const char *content, bool known)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.parent_id = parent;
    c.operation = "response";
    c.resource = "default/podpatch/p";
    c.content = content;
    c.content_len = strlen(content);
    assert_int_equal(ke_msg_new(&m, b->env.ctx, &c, NULL), 0);
    assert_int_equal(kei_outbox_reply(b->ob, m), known);
    ke_msg_unref(m);
    test_settle(&b->env);
}

/* The ids of what was sent, joined. */
static void assert_sent(struct box *b, const char *want)
{
    char got[8192] = "";

    for (uint32_t i = 0; i < b->n_sent; i++) {
        strcat(got, i ? " " : "");
        strcat(got, ke_msg_id(b->sent[i]));
    }
    assert_string_equal(got, want);
}

static void assert_gone(struct box *b, uint32_t i, const char *id, int status)
{
    assert_true(i < b->n_gone);
    assert_string_equal(ke_msg_id(b->gone[i]), id);
    assert_int_equal(b->gone_status[i], status);
}

static void replies_confirm(void **state)
{
    struct box b;

    (void)state;
    box_init(&b, false);
    b.answered = true;
    assert_int_equal(event(&b, "a"), 0);
    assert_int_equal(event(&b, "b"), 0);
    test_settle(&b.env);
    assert_int_equal(b.n_done, 2);
    assert_sent(&b, "");
    up(&b);
    assert_sent(&b, "a b");
    assert_int_equal(b.pings, 0);
    reply(&b, "x", "\"OK\"", false);
    reply(&b, "b", "\"OK\"", true);
    assert_int_equal(b.n_gone, 1);
    assert_gone(&b, 0, "b", 0);
    reply(&b, "b", "\"OK\"", false); /* twice */
    down(&b);
    up(&b);
    assert_sent(&b, "a b a"); /* the same id */
    reply(&b, "a", "{\"Object\":{\"metadata\":{}},\"Err\":null}", true);
    assert_gone(&b, 1, "a", 0);
    assert_int_equal(kei_outbox_count(b.ob), 0);
    box_fini(&b);
}

static void round_trips_confirm_what_is_never_answered(void **state)
{
    struct box b;

    (void)state;
    box_init(&b, false);
    assert_int_equal(event(&b, "a"), 0);
    up(&b);
    assert_sent(&b, "a");
    assert_int_equal(b.pings, 1);
    /* sent after the ping: its answer says nothing about it */
    assert_int_equal(event(&b, "b"), 0);
    test_settle(&b.env);
    assert_sent(&b, "a b");
    assert_int_equal(b.pings, 1);
    kei_outbox_pong(b.ob);
    test_settle(&b.env);
    assert_int_equal(b.n_gone, 1);
    assert_gone(&b, 0, "a", 0);
    assert_int_equal(b.pings, 2);
    /* the link dies before the second answer */
    down(&b);
    kei_outbox_pong(b.ob);
    up(&b);
    assert_sent(&b, "a b b");
    kei_outbox_pong(b.ob);
    kei_outbox_pong(b.ob);
    test_settle(&b.env);
    assert_int_equal(b.n_gone, 2);
    assert_gone(&b, 1, "b", 0);
    box_fini(&b);
}

static void states_replace_states(void **state)
{
    struct box b;

    (void)state;
    box_init(&b, false);
    assert_int_equal(add(&b, "p1", KE_SEND_STATE, "ns/podstatus/p"), 0);
    assert_int_equal(add(&b, "q1", KE_SEND_STATE, "ns/podstatus/q"), 0);
    assert_int_equal(add(&b, "p2", KE_SEND_STATE, "ns/podstatus/p"), 0);
    assert_int_equal(event(&b, "e1"), 0);
    assert_int_equal(event(&b, "e2"), 0);
    test_settle(&b.env);
    assert_int_equal(b.n_done, 5);
    assert_int_equal(b.n_gone, 1);
    assert_gone(&b, 0, "p1", KE_ECANCELED);
    assert_int_equal(kei_outbox_count(b.ob), 4);
    up(&b);
    assert_sent(&b, "q1 p2 e1 e2");
    /* one that is on its way is replaced too: its reply means nothing any more */
    b.answered = true;
    assert_int_equal(add(&b, "p3", KE_SEND_STATE, "ns/podstatus/p"), 0);
    test_settle(&b.env);
    assert_gone(&b, 1, "p2", KE_ECANCELED);
    reply(&b, "p2", "\"OK\"", false);
    reply(&b, "p3", "\"OK\"", true);
    assert_gone(&b, 2, "p3", 0);
    box_fini(&b);
}

/* The cloud works on requests side by side: a newer state must not overtake, nor be overtaken. */
static void a_state_waits_for_its_predecessors_reply(void **state)
{
    struct box b;

    (void)state;
    box_init(&b, false);
    b.answered = true;
    up(&b);
    assert_int_equal(add(&b, "p1", KE_SEND_STATE, "ns/podstatus/p"), 0);
    test_settle(&b.env);
    assert_int_equal(add(&b, "p2", KE_SEND_STATE, "ns/podstatus/p"), 0);
    assert_int_equal(add(&b, "q1", KE_SEND_STATE, "ns/podstatus/q"), 0);
    test_settle(&b.env);
    assert_sent(&b, "p1 q1");
    assert_int_equal(add(&b, "p3", KE_SEND_STATE, "ns/podstatus/p"), 0);
    test_settle(&b.env);
    assert_sent(&b, "p1 q1");
    reply(&b, "p1", "\"OK\"", false);
    assert_sent(&b, "p1 q1 p3");
    /* a reply that is lost holds it back for a while only */
    assert_int_equal(add(&b, "p4", KE_SEND_STATE, "ns/podstatus/p"), 0);
    test_drive_ms(&b.env, 9000);
    assert_sent(&b, "p1 q1 p3");
    test_drive_ms(&b.env, 2000);
    assert_sent(&b, "p1 q1 p3 p4");
    /* a new link starts anew */
    assert_int_equal(add(&b, "p5", KE_SEND_STATE, "ns/podstatus/p"), 0);
    test_settle(&b.env);
    down(&b);
    up(&b);
    assert_sent(&b, "p1 q1 p3 p4 q1 p5");
    box_fini(&b);
}

static void errors_of_the_cloud(void **state)
{
    static const struct {
        const char *content;
        int outcome; /* 1: goes again */
    } cases[] = {
        {"{\"Object\":{},\"Err\":{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"NotFound\","
         "\"code\":404}}}",
         KE_EREFUSED},
        {"{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"Conflict\",\"code\":409}}",
         KE_EREFUSED},
        {"{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"Invalid\",\"code\":422}}",
         KE_EREFUSED},
        {"{\"Object\":{\"metadata\":{}},\"Err\":{\"Op\":\"Put\",\"URL\":\"https://x\",\"Err\":{}}}",
         1},
        {"{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"InternalError\",\"code\":500}}", 1},
        {"{\"ErrStatus\":{\"status\":\"Failure\",\"reason\":\"Timeout\",\"code\":504}}", 1},
        {"{}", 1},
        {"\"some text\"", 1},
        {"null", 0},
        {"{\"metadata\":{\"name\":\"p\"}}", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct box b;

        box_init(&b, false);
        b.answered = true;
        up(&b);
        assert_int_equal(event(&b, "a"), 0);
        test_settle(&b.env);
        reply(&b, "a", cases[i].content, true);
        if (cases[i].outcome == 1) {
            assert_int_equal(b.n_gone, 0);
            test_drive_ms(&b.env, KEI_OUTBOX_RETRY_MS - 1);
            assert_sent(&b, "a");
            test_drive_ms(&b.env, 2);
            assert_sent(&b, "a a");
            reply(&b, "a", cases[i].content, true);
            test_drive_ms(&b.env, 2 * KEI_OUTBOX_RETRY_MS - 1);
            assert_sent(&b, "a a");
            test_drive_ms(&b.env, 2);
            assert_sent(&b, "a a a");
        } else {
            assert_gone(&b, 0, "a", cases[i].outcome);
        }
        box_fini(&b);
    }
}

static void a_reply_that_never_comes(void **state)
{
    struct box b;

    (void)state;
    box_init(&b, false);
    b.answered = true;
    up(&b);
    assert_int_equal(event(&b, "a"), 0);
    test_drive_ms(&b.env, KEI_OUTBOX_ANSWER_MS - 1000);
    assert_sent(&b, "a");
    test_drive_ms(&b.env, 2000);
    assert_sent(&b, "a a");
    box_fini(&b);
}

static void sends_as_there_is_room(void **state)
{
    struct box b;
    char id[16];

    (void)state;
    box_init(&b, false);
    b.limits.messages = 4000;
    kei_outbox_free(b.ob);
    box_new(&b);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "%d", i);
        assert_int_equal(event(&b, id), 0);
    }
    b.room = 10;
    up(&b);
    assert_int_equal(b.n_sent, 10);
    b.room = UINT32_MAX;
    kei_outbox_pump(b.ob);
    assert_int_equal(b.n_sent, KEI_OUTBOX_WINDOW);
    for (int i = 0; i < 20; i++)
        kei_outbox_pong(b.ob);
    test_settle(&b.env);
    assert_int_equal(b.n_sent, 1000);
    assert_int_equal(b.n_gone, 1000);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "%d", i);
        assert_string_equal(ke_msg_id(b.sent[i]), id);
    }
    box_fini(&b);
}

static void what_the_dialect_lacks_counts_as_sent(void **state)
{
    struct box b;

    (void)state;
    box_init(&b, false);
    b.result = KE_ENOTSUP;
    up(&b);
    assert_int_equal(event(&b, "a"), 0);
    test_settle(&b.env);
    assert_gone(&b, 0, "a", 0);
    /* what can never be sent does not hold up the rest, and is told */
    b.result = KE_EPARSE;
    assert_int_equal(event(&b, "b"), 0);
    test_settle(&b.env);
    assert_gone(&b, 1, "b", KE_EPARSE);
    assert_int_equal(atomic_exchange(&b.env.log_errors, 0), 1);
    /* no memory: later, in order */
    b.result = KE_ENOMEM;
    assert_int_equal(event(&b, "c"), 0);
    assert_int_equal(event(&b, "d"), 0);
    test_settle(&b.env);
    assert_int_equal(b.n_gone, 2);
    b.result = 0;
    test_drive_ms(&b.env, 2000);
    assert_sent(&b, "c d");
    box_fini(&b);
}

static void bounds(void **state)
{
    struct box b;
    char id[16], resource[64];
    struct ke_msg *big;
    char *text = malloc(1u << 20);

    (void)state;
    box_init(&b, false);
    for (int i = 0; i < 88; i++) { /* 7/8 of 100 */
        snprintf(id, sizeof id, "%d", i);
        assert_int_equal(event(&b, id), 0);
    }
    assert_int_equal(event(&b, "one more"), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(b.env.ctx), "outbox_messages 100"));
    for (int i = 0; i < 12; i++) { /* the rest is for states */
        snprintf(id, sizeof id, "s%d", i);
        snprintf(resource, sizeof resource, "ns/podstatus/p%d", i);
        assert_int_equal(add(&b, id, KE_SEND_STATE, resource), 0);
    }
    assert_int_equal(add(&b, "t", KE_SEND_STATE, "ns/podstatus/other"), KE_ELIMIT);
    assert_int_equal(add(&b, "s0b", KE_SEND_STATE, "ns/podstatus/p0"), 0); /* replaces */
    assert_int_equal(kei_outbox_count(b.ob), 100);
    assert_int_equal(kei_outbox_refused(b.ob), 2);
    up(&b);
    while (kei_outbox_count(b.ob))
        kei_outbox_pong(b.ob);
    assert_int_equal(b.n_sent, 100);
    /* bytes */
    memset(text, 'x', (1u << 20) - 1);
    text[0] = text[950000] = '"';
    text[950001] = '\0';
    big = message(&b, "big", "topic/x", text);
    assert_int_equal(kei_outbox_add(b.ob, big, KE_SEND_EVENT, NULL, NULL, NULL), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(b.env.ctx), "outbox_bytes 1048576"));
    assert_int_equal(kei_outbox_add(b.ob, big, KE_SEND_STATE, NULL, NULL, NULL), 0);
    ke_msg_unref(big);
    free(text);
    box_fini(&b);
}

/* ---- over restarts ---- */

static void what_waits_outlives_a_restart(void **state)
{
    struct box b;
    char id[16];

    (void)state;
    box_init(&b, true);
    assert_int_equal(event(&b, "e0"), 0); /* while the store is being read */
    assert_int_equal(add(&b, "p0", KE_SEND_STATE, "ns/podstatus/p"), 0);
    assert_int_equal(add(&b, "p1", KE_SEND_STATE, "ns/podstatus/p"), 0);
    test_settle(&b.env);
    assert_int_equal(b.n_done, 3);
    assert_int_equal(b.done_status, 0);
    for (int i = 1; i < 20; i++) {
        snprintf(id, sizeof id, "e%d", i);
        assert_int_equal(event(&b, id), 0);
        if (i == 10)
            assert_int_equal(add(&b, "q0", KE_SEND_STATE, "ns/podstatus/q"), 0);
    }
    test_settle(&b.env);
    box_restart(&b);
    assert_int_equal(add(&b, "q1", KE_SEND_STATE, "ns/podstatus/q"), 0); /* newer than the row */
    assert_int_equal(event(&b, "e20"), 0);
    up(&b);
    assert_sent(&b, "e0 p1 e1 e2 e3 e4 e5 e6 e7 e8 e9 e10 e11 e12 e13 e14 e15 e16 e17 e18 e19 q1 "
                    "e20");
    /* nothing is confirmed yet: all of it again after the next restart */
    box_forget(&b);
    box_restart(&b);
    up(&b);
    assert_sent(&b, "e0 p1 e1 e2 e3 e4 e5 e6 e7 e8 e9 e10 e11 e12 e13 e14 e15 e16 e17 e18 e19 q1 "
                    "e20");
    kei_outbox_pong(b.ob);
    test_settle(&b.env);
    box_forget(&b);
    box_restart(&b);
    up(&b);
    assert_sent(&b, "");
    assert_int_equal(kei_outbox_count(b.ob), 0);
    box_fini(&b);
}

/* A disk that is full for a while. */
static atomic_bool disk_full;

static int pwrite_or_full(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    return disk_full ? KE_ENOSPC : ke_io_posix()->pwrite(user, f, p, n, off);
}

/* It is written when there is room again: a crash then does not bring the older state back. */
static void what_could_not_be_written(void **state)
{
    struct box b;
    struct ke_io io = *ke_io_posix();

    (void)state;
    io.pwrite = pwrite_or_full;
    disk_full = false;
    memset(&b, 0, sizeof b);
    test_env_init_io(&b.env, 0, &io);
    b.limits = (struct kei_outbox_limits){100, 1u << 20};
    b.room = UINT32_MAX;
    test_tmp_make(b.dir, sizeof b.dir);
    box_open_store(&b, b.dir);
    box_new(&b);
    test_settle(&b.env);
    assert_int_equal(add(&b, "s1", KE_SEND_STATE, "k"), 0);
    test_settle(&b.env);
    assert_int_equal(b.done_status, 0);
    disk_full = true;
    assert_int_equal(add(&b, "s2", KE_SEND_STATE, "k"), 0);
    assert_int_equal(event(&b, "e1"), 0);
    test_settle(&b.env);
    assert_int_equal(b.n_done, 3);
    assert_int_equal(b.done_status, KE_ENOSPC);
    test_drive_ms(&b.env, 60000);
    disk_full = false;
    test_drive_ms(&b.env, 10000);
    test_settle(&b.env);
    assert_int_equal(b.n_done, 3); /* told once, as it was then */
    box_forget(&b);
    box_restart(&b);
    up(&b);
    test_settle(&b.env);
    assert_sent(&b, "s2 e1");
    box_fini(&b);
}

static void rows_that_cannot_be_read(void **state)
{
    struct box b;
    struct ke_store_tx *tx = NULL;

    (void)state;
    box_init(&b, true);
    assert_int_equal(event(&b, "good"), 0);
    test_settle(&b.env);
    assert_int_equal(ke_store_begin(&tx, b.store), 0);
    assert_int_equal(ke_store_put(tx, "outbox", "e/0000000000000000", NULL, 7, "{nonsense", 9), 0);
    assert_int_equal(ke_store_put(tx, "outbox", "z/strange", NULL, 8, "{}", 2), 0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
    test_settle(&b.env);
    box_restart(&b);
    up(&b);
    assert_sent(&b, "good");
    box_fini(&b);
}

/* ---- power cuts ---- */

#define CUT_EVENTS 12

struct cut {
    size_t pos;   /* of the disk when it was said to be durable */
    size_t asked; /* when it was handed over */
};

struct cuts {
    struct powercut *p;
    struct cut events[CUT_EVENTS], states[CUT_EVENTS];
    struct cut confirmed[CUT_EVENTS]; /* .asked: the row was being deleted from here on */
};

struct noting {
    struct powercut *p;
    struct cut *c;
};

static void note_done(void *user, int status)
{
    struct noting *n = user;

    assert_int_equal(status, 0);
    n->c->pos = powercut_pos(n->p);
}

static void box_on(struct box *b, struct powercut *p)
{
    memset(b, 0, sizeof *b);
    test_env_init_io(&b->env, 0, powercut_io(p));
    b->limits = (struct kei_outbox_limits){100, 1u << 20};
    b->room = UINT32_MAX;
    box_open_store(b, "/store");
    box_new(b);
}

static void box_off(struct box *b)
{
    kei_outbox_free(b->ob);
    ke_store_close(b->store);
    box_forget(b);
    test_env_fini(&b->env);
}

/* Events and states come, the first half of the events is confirmed. */
static void play(struct cuts *c)
{
    struct box b;
    struct noting notes[2 * CUT_EVENTS];
    char id[16];

    c->p = powercut_new();
    box_on(&b, c->p);
    test_settle(&b.env);
    for (int i = 0; i < CUT_EVENTS; i++) {
        struct ke_msg *m;

        snprintf(id, sizeof id, "e%d", i);
        m = message(&b, id, "topic/x", NULL);
        notes[2 * i] = (struct noting){c->p, &c->events[i]};
        c->events[i].asked = powercut_pos(c->p);
        assert_int_equal(kei_outbox_add(b.ob, m, KE_SEND_EVENT, NULL, note_done, &notes[2 * i]), 0);
        ke_msg_unref(m);
        snprintf(id, sizeof id, "s%d", i);
        m = message(&b, id, "ns/podstatus/p", NULL);
        notes[2 * i + 1] = (struct noting){c->p, &c->states[i]};
        c->states[i].asked = powercut_pos(c->p);
        assert_int_equal(kei_outbox_add(b.ob, m, KE_SEND_STATE, NULL, note_done, &notes[2 * i + 1]),
                         0);
        ke_msg_unref(m);
        if (i % 3 == 2)
            test_settle(&b.env);
    }
    test_settle(&b.env);
    b.answered = true;
    up(&b);
    for (int i = 0; i < CUT_EVENTS; i++) {
        c->confirmed[i] = (struct cut){SIZE_MAX, SIZE_MAX};
        if (i >= CUT_EVENTS / 2)
            continue;
        snprintf(id, sizeof id, "e%d", i);
        c->confirmed[i].asked = powercut_pos(c->p);
        reply(&b, id, "\"OK\"", true);
        c->confirmed[i].pos = powercut_pos(c->p);
    }
    box_off(&b);
}

static bool was_sent(const struct box *b, const char *id)
{
    for (uint32_t i = 0; i < b->n_sent; i++) {
        if (strcmp(ke_msg_id(b->sent[i]), id) == 0)
            return true;
    }
    return false;
}

/* What a node sends that starts on this image: all that was said to be durable and not confirmed.
 */
static void check_image(const struct cuts *c, size_t pos, uint64_t seed)
{
    struct powercut *image = powercut_image(c->p, pos, seed);
    struct box b;
    char id[16];
    int newest = -1, sent_state = -1, last = -1;

    box_on(&b, image);
    test_settle(&b.env);
    up(&b);
    for (int i = 0; i < CUT_EVENTS; i++) {
        snprintf(id, sizeof id, "e%d", i);
        if (c->events[i].pos <= pos && c->confirmed[i].asked > pos && !was_sent(&b, id))
            fail_msg("position %zu, seed %llu: event %s was lost", pos, (unsigned long long)seed,
                     id);
        snprintf(id, sizeof id, "s%d", i);
        if (c->states[i].pos <= pos)
            newest = i;
        if (was_sent(&b, id))
            sent_state = i;
    }
    if (sent_state < newest)
        fail_msg("position %zu, seed %llu: state s%d was there, s%d was sent", pos,
                 (unsigned long long)seed, newest, sent_state);
    /* and in order */
    for (uint32_t i = 0; i < b.n_sent; i++) {
        const char *s = ke_msg_id(b.sent[i]);

        if (s[0] != 'e')
            continue;
        assert_true(atoi(s + 1) > last);
        last = atoi(s + 1);
    }
    box_off(&b);
    powercut_free(image);
}

static void power_cuts(void **state)
{
    const char *wanted = getenv("KE_POWERCUT_IMAGES");
    uint64_t n = wanted ? strtoull(wanted, NULL, 10) : 300, seed = 20261122;
    struct cuts c;
    size_t end;

    (void)state;
    play(&c);
    end = powercut_pos(c.p);
    for (uint64_t i = 0; i < n; i++)
        check_image(&c, (size_t)powercut_below(&seed, end + 1), i);
    print_message("count: %llu power cuts of the outbox\n", (unsigned long long)n);
    powercut_free(c.p);
}

/* ---- in a tunnel ---- */

static bool all_confirmed(void *rig)
{
    struct rig *r = rig;

    return rig_status(r).outbox == 0;
}

static void sent_while_the_link_dies(void **state)
{
    struct rig r;
    struct cut_proxy *hub;

    (void)state;
    rig_init(&r, NULL);
    rig_store(&r);
    hub = cut_proxy_new(r.env.ctx, r.fc.hub_port);
    r.conf.tunnel_port = cut_proxy_port(hub);
    rig_connect(&r);
    cut_proxy_stall(hub, true); /* the link is dead, nobody knows yet */
    assert_int_equal(rig_send(&r, KE_SEND_EVENT, "upload", "topic/a", "\"1\""), 0);
    assert_int_equal(rig_send(&r, KE_SEND_STATE, "update", "default/podstatus/p",
                              "{\"UID\":\"u\",\"Name\":\"p\",\"Status\":{}}"),
                     0);
    assert_true(rig_until_n(&r, &r.n_done, 2));
    assert_int_equal(r.done_status, 0);
    rig_drive(&r, 100);
    assert_int_equal(r.fc.n_messages, 0);
    assert_int_equal(rig_status(&r).outbox, 2);
    assert_true(rig_until_n(&r, &r.fc.n_messages, 2)); /* found dead, dialled, sent */
    assert_true(r.fc.upgrades == 2);
    assert_true(rig_until_n(&r, &r.n_sent, 1)); /* the event, by a round trip */
    r.fc.reply_ok = true;
    assert_int_equal(ke_tunnel_reconnect(r.t), 0);
    assert_true(rig_until(&r, all_confirmed));
    assert_int_equal(r.n_confirmed, 2);
    assert_int_equal(fake_cloud_count(&r.fc, "upload", "topic/a"), 1);
    rig_free_tunnel(&r);
    cut_proxy_free(hub);
    rig_fini(&r);
}

static void sent_before_start_and_over_a_restart(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, NULL);
    rig_store(&r);
    rig_tunnel(&r);
    assert_int_equal(rig_send(&r, KE_SEND_EVENT, "upload", "topic/a", "\"1\""), 0);
    assert_true(rig_until_n(&r, &r.n_done, 1));
    rig_free_tunnel(&r);
    rig_close_store(&r);
    rig_store(&r);
    rig_connect(&r);
    assert_true(rig_until(&r, all_confirmed));
    assert_int_equal(fake_cloud_count(&r.fc, "upload", "topic/a"), 1);
    rig_fini(&r);
}

/* What waits is in a neutral form: it goes out in the dialect of the cloud that is there then. */
static void waits_in_no_dialect(void **state)
{
    static const struct {
        uint32_t dialect;
        const char *operation, *resource;
    } cases[] = {
        {KE_DIALECT_1_4, "update", "default/podstatus/p"},
        {KE_DIALECT_1_15, "patch", "default/podpatch/p"},
        {KE_DIALECT_1_23, "patch", "default/podpatch/p"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char id[37];

        rig_init(&r, NULL);
        rig_store(&r);
        r.conf.dialect = KE_DIALECT_1_15;
        rig_tunnel(&r);
        struct ke_msg *m =
            rig_msg(&r, "update", "default/podstatus/p",
                    "{\"UID\":\"u\",\"Name\":\"p\",\"Status\":{\"phase\":\"Running\"}}");
        snprintf(id, sizeof id, "%s", ke_msg_id(m));
        assert_int_equal(ke_tunnel_send(r.t, m, KE_SEND_STATE, NULL, rig_done, &r), 0);
        ke_msg_unref(m);
        assert_true(rig_until_n(&r, &r.n_done, 1));
        rig_free_tunnel(&r);
        r.conf.dialect = r.fc.dialect = cases[i].dialect;
        rig_connect(&r);
        assert_true(rig_until_n(&r, &r.fc.n_messages, 1));
        assert_string_equal(ke_msg_operation(r.fc.messages[0]), cases[i].operation);
        assert_string_equal(ke_msg_resource(r.fc.messages[0]), cases[i].resource);
        assert_string_equal(ke_msg_id(r.fc.messages[0]), id);
        rig_fini(&r);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_confirm),
        cmocka_unit_test(round_trips_confirm_what_is_never_answered),
        cmocka_unit_test(states_replace_states),
        cmocka_unit_test(a_state_waits_for_its_predecessors_reply),
        cmocka_unit_test(errors_of_the_cloud),
        cmocka_unit_test(a_reply_that_never_comes),
        cmocka_unit_test(sends_as_there_is_room),
        cmocka_unit_test(what_the_dialect_lacks_counts_as_sent),
        cmocka_unit_test(bounds),
        cmocka_unit_test(what_waits_outlives_a_restart),
        cmocka_unit_test(what_could_not_be_written),
        cmocka_unit_test(rows_that_cannot_be_read),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(sent_while_the_link_dies),
        cmocka_unit_test(sent_before_start_and_over_a_restart),
        cmocka_unit_test(waits_in_no_dialect),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
