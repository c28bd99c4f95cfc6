/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors, deferred calls, turn hooks; removing and freeing them inside callbacks. */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
    struct test_env *env;
    struct kei_fd fd;
    int peer;
    int calls;
    uint32_t events; /* all that were told */
    void (*act)(struct end *e);
    struct end *other;
};

static void on_fd(struct kei_fd *f, uint32_t events)
{
    struct end *e = KEI_OF(f, struct end, fd);
    e->calls++;
    e->events |= events;
    if (e->act)
        e->act(e);
}

static void open_end(struct test_env *env, struct end *e, uint32_t events)
{
    int s[2];
    memset(e, 0, sizeof *e);
    e->env = env;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s), 0);
    e->peer = s[1];
    assert_int_equal(kei_fd_add(env->ctx, &e->fd, s[0], events, on_fd), 0);
}

static void close_end(struct end *e)
{
    kei_fd_remove(&e->fd);
    kei_fd_remove(&e->fd); /* safe when it is gone */
    close(e->fd.fd);
    if (e->peer >= 0)
        close(e->peer);
}

static void drain(struct end *e)
{
    char buf[64];
    while (read(e->fd.fd, buf, sizeof buf) > 0)
        ;
}

static void poke(struct end *e)
{
    assert_int_equal(write(e->peer, "x", 1), 1);
}

static void turn(struct test_env *env)
{
    assert_int_equal(ke_ctx_dispatch(env->ctx), 0);
}

static void test_level_triggered(void **state)
{
    (void)state;
    struct test_env env;
    struct end e;
    test_env_init(&env, 0);
    open_end(&env, &e, KEI_IN);
    turn(&env);
    assert_int_equal(e.calls, 0);
    poke(&e);
    turn(&env);
    turn(&env); /* still unread: told again */
    assert_int_equal(e.calls, 2);
    assert_int_equal(e.events, KEI_IN);
    drain(&e);
    turn(&env);
    assert_int_equal(e.calls, 2);

    assert_int_equal(kei_fd_set(&e.fd, KEI_IN | KEI_OUT), 0);
    turn(&env);
    assert_int_equal(e.calls, 3);
    assert_int_equal(e.events, KEI_IN | KEI_OUT);
    assert_int_equal(kei_fd_set(&e.fd, 0), 0);
    poke(&e);
    turn(&env);
    assert_int_equal(e.calls, 3);

    close(e.peer); /* told even without interest */
    e.peer = -1;
    turn(&env);
    assert_int_equal(e.calls, 4);
    assert_true(e.events & KEI_ERR);
    close_end(&e);
    test_env_fini(&env);
}

static void test_refused_fds(void **state)
{
    (void)state;
    struct test_env env;
    struct kei_fd f = {.fd = -1};
    test_env_init(&env, 0);
    assert_int_equal(kei_fd_add(env.ctx, &f, 987654, KEI_IN, on_fd), KE_ESYS);
    assert_non_null(strstr(ke_ctx_error(env.ctx), "987654"));
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(kei_fd_add(env.ctx, &f, fd, KEI_IN, on_fd) <= 0);
    kei_fd_remove(&f);
    close(fd);
    test_env_fini(&env);
}

/* Both have events in one batch; whoever comes first frees the other, memory and all. */
static struct end *survivor;

static void kill_other(struct end *e)
{
    struct end *o = e->other;
    drain(e);
    survivor = e;
    e->other = NULL;
    close_end(o);
    memset(o, 0xdd, sizeof *o); /* a later call would jump into rubbish */
    free(o);
}

static void test_remove_another_in_the_batch(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    for (int round = 0; round < 20; round++) {
        struct end *a = malloc(sizeof *a), *b = malloc(sizeof *b);
        open_end(&env, a, KEI_IN);
        open_end(&env, b, KEI_IN);
        a->other = b;
        b->other = a;
        a->act = b->act = kill_other;
        poke(round % 2 ? a : b);
        poke(round % 2 ? b : a);
        turn(&env);
        /* one is left, whichever was told first; it has no other now */
        struct end *left = survivor;
        assert_true(left == a || left == b);
        assert_int_equal(left->calls, 1);
        assert_null(left->other);
        close_end(left);
        free(left);
    }
    test_env_fini(&env);
}

/* ke_ctx_wait has fetched the batch; the host frees one of it before the dispatch. */
static void test_remove_between_wait_and_dispatch(void **state)
{
    (void)state;
    struct test_env env;
    struct end a, *b = malloc(sizeof *b);
    test_env_init(&env, 0);
    open_end(&env, &a, KEI_IN);
    open_end(&env, b, KEI_IN);
    poke(&a);
    poke(b);
    assert_int_equal(ke_ctx_wait(env.ctx, 0), 0);
    close_end(b);
    memset(b, 0xdd, sizeof *b);
    free(b);
    turn(&env);
    assert_int_equal(a.calls, 1);
    close_end(&a);
    test_env_fini(&env);
}

static void remove_self(struct end *e)
{
    kei_fd_remove(&e->fd);
}

static void lose_interest_in_other(struct end *e)
{
    assert_int_equal(kei_fd_set(&e->other->fd, 0), 0);
    drain(e);
}

static void test_remove_self_and_lost_interest(void **state)
{
    (void)state;
    struct test_env env;
    struct end a, b;
    test_env_init(&env, 0);
    open_end(&env, &a, KEI_IN);
    a.act = remove_self;
    poke(&a);
    turn(&env);
    turn(&env);
    assert_int_equal(a.calls, 1);
    close_end(&a);

    open_end(&env, &a, KEI_IN);
    open_end(&env, &b, KEI_IN);
    a.other = &b;
    b.other = &a;
    a.act = b.act = lose_interest_in_other;
    poke(&a);
    poke(&b);
    turn(&env);
    assert_int_equal(a.calls + b.calls, 1);
    close_end(&a);
    close_end(&b);
    test_env_fini(&env);
}

/* Two hundred busy fds: more than one batch; none is left behind. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 200 };
    struct test_env env;
    static struct end e[N];
    test_env_init(&env, 0);
    for (int i = 0; i < N; i++) {
        open_end(&env, &e[i], KEI_IN); /* never read: always ready */
        poke(&e[i]);
    }
    for (int i = 0; i < 40; i++)
        turn(&env);
    for (int i = 0; i < N; i++) {
        assert_true(e[i].calls >= 2);
        close_end(&e[i]);
    }
    test_env_fini(&env);
}

/* ---- deferred calls ---- */

struct def {
    struct test_env *env;
    struct kei_defer defer;
    int calls;
    uint64_t turn;
    bool again;
    struct def *next, *cancel;
};

static void on_defer(struct kei_defer *d)
{
    struct def *f = KEI_OF(d, struct def, defer);
    f->calls++;
    f->turn = kei_ctx_turn(f->env->ctx);
    if (f->again)
        kei_defer(f->env->ctx, &f->defer, on_defer);
    if (f->next)
        kei_defer(f->env->ctx, &f->next->defer, on_defer);
    if (f->cancel)
        kei_defer_cancel(&f->cancel->defer);
}

static void test_defer(void **state)
{
    (void)state;
    struct test_env env;
    int64_t t;
    test_env_init(&env, 0);
    struct def a = {.env = &env}, b = {.env = &env}, c = {.env = &env};
    struct pollfd p = {.events = POLLIN};
    assert_int_equal(ke_ctx_fd(env.ctx, &p.fd), 0);
    assert_int_equal(poll(&p, 1, 0), 0);
    kei_defer(env.ctx, &a.defer, on_defer);
    assert_int_equal(poll(&p, 1, 0), 1);    /* deferred outside of a turn: a host must hear of it */
    kei_defer(env.ctx, &a.defer, on_defer); /* once per arming */
    assert_int_equal(ke_ctx_prepare(env.ctx, &t), 0);
    assert_int_equal(t, 0);
    turn(&env);
    turn(&env);
    assert_int_equal(a.calls, 1);

    a.next = &b; /* what a defers comes in the same turn */
    b.cancel = &c;
    kei_defer(env.ctx, &a.defer, on_defer);
    turn(&env);
    assert_int_equal(b.calls, 1);
    assert_true(a.turn == b.turn);

    a.next = NULL; /* b cancels c, both due */
    kei_defer(env.ctx, &b.defer, on_defer);
    kei_defer(env.ctx, &c.defer, on_defer);
    turn(&env);
    assert_int_equal(c.calls, 0);
    kei_defer_cancel(&c.defer);
    kei_defer_cancel(&c.defer);
    test_env_fini(&env);
}

/* One that defers itself for ever takes a bounded share of each turn, and wakes the next. */
static void test_defer_does_not_starve(void **state)
{
    (void)state;
    struct test_env env;
    struct end e;
    int fd;
    test_env_init(&env, 0);
    assert_int_equal(ke_ctx_fd(env.ctx, &fd), 0);
    struct def a = {.env = &env, .again = true};
    open_end(&env, &e, KEI_IN);
    kei_defer(env.ctx, &a.defer, on_defer);
    for (int i = 1; i <= 5; i++) {
        poke(&e);
        turn(&env);
        assert_int_equal(e.calls, i);
        drain(&e);
    }
    assert_true(a.calls >= 5 && a.calls <= 5 * 100);
    kei_defer_cancel(&a.defer);
    close_end(&e);
    test_env_fini(&env);
}

/* ---- turn hooks ---- */

struct hook {
    struct kei_turn turn;
    struct test_env *env;
    int calls;
    bool remove_self;
    struct hook *remove, *add;
};

static void on_turn(struct kei_turn *t)
{
    struct hook *h = KEI_OF(t, struct hook, turn);
    h->calls++;
    if (h->remove_self)
        kei_turn_remove(&h->turn);
    if (h->remove)
        kei_turn_remove(&h->remove->turn);
    if (h->add)
        kei_turn_add(h->env->ctx, &h->add->turn, on_turn);
}

static void test_turn_hooks(void **state)
{
    (void)state;
    struct test_env env;
    test_env_init(&env, 0);
    struct hook a = {.env = &env}, b = {.env = &env}, c = {.env = &env}, d = {.env = &env};
    kei_turn_add(env.ctx, &a.turn, on_turn);
    kei_turn_add(env.ctx, &a.turn, on_turn);
    kei_turn_add(env.ctx, &b.turn, on_turn);
    kei_turn_add(env.ctx, &c.turn, on_turn);
    turn(&env);
    assert_int_equal(a.calls, 1);
    assert_int_equal(c.calls, 1);
    a.remove_self = true;
    a.remove = &b; /* not called yet in this turn */
    c.add = &d;
    turn(&env);
    assert_int_equal(a.calls, 2);
    assert_int_equal(b.calls, 1);
    assert_int_equal(c.calls, 2);
    turn(&env);
    assert_int_equal(a.calls, 2);
    assert_int_equal(c.calls, 3);
    assert_int_equal(d.calls, 1);
    kei_turn_remove(&c.turn);
    kei_turn_remove(&d.turn);
    kei_turn_remove(&d.turn);
    test_env_fini(&env);
}

/* A hook that defers asks for another turn. */
static struct def hook_defers;

static void on_turn_defer(struct kei_turn *t)
{
    (void)t;
    if (hook_defers.calls == 0)
        kei_defer(hook_defers.env->ctx, &hook_defers.defer, on_defer);
}

static void test_defer_in_hook_wakes(void **state)
{
    (void)state;
    struct test_env env;
    struct kei_turn t = {.fn = NULL};
    int64_t timeout;
    test_env_init(&env, 0);
    memset(&hook_defers, 0, sizeof hook_defers);
    hook_defers.env = &env;
    kei_turn_add(env.ctx, &t, on_turn_defer);
    turn(&env);
    assert_int_equal(hook_defers.calls, 0);
    assert_int_equal(ke_ctx_prepare(env.ctx, &timeout), 0);
    assert_int_equal(timeout, 0);
    turn(&env);
    assert_int_equal(hook_defers.calls, 1);
    kei_turn_remove(&t);
    test_env_fini(&env);
}

/* A context freed before what it watches says so. */
static void test_left_handle_is_reported(void **state)
{
    (void)state;
    struct test_env env;
    struct end e;
    test_env_init(&env, 0);
    open_end(&env, &e, KEI_IN);
    ke_ctx_free(env.ctx);
    env.ctx = NULL;
    assert_int_equal(env.log_errors, 1);
    assert_non_null(strstr(env.last_log, "before a handle"));
    env.log_errors = 0;
    close(e.fd.fd);
    close(e.peer);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_level_triggered),
        KE_TEST(test_refused_fds),
        KE_TEST(test_remove_another_in_the_batch),
        KE_TEST(test_remove_between_wait_and_dispatch),
        KE_TEST(test_remove_self_and_lost_interest),
        KE_TEST(test_many),
        KE_TEST(test_defer),
        KE_TEST(test_defer_does_not_starve),
        KE_TEST(test_turn_hooks),
        KE_TEST(test_defer_in_hook_wakes),
        KE_TEST(test_left_handle_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
