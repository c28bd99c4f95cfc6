/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enhanced authentication, server redirect, response information, on the wire and to the byte; and
 * the functions for any thread, used by several while the loop runs on one of its own.
 */
#include "rig.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define ABLE "22 000a 27 001e8480 21 0014" /* what every CONNACK announces */
#define ACK5 "20 0e 00 00 0b " ABLE

/* ---- a host that knows the method 'M' ---- */

struct host {
    int asked, rounds, gone, reauths;
    uint32_t end; /* what the last round is answered with */
    const char *server;
    struct ke_mqtt_auth *pending; /* not answered: the test does */
    bool wait;
    char heard[100];
};

static void finish(struct ke_mqtt_auth *a, uint32_t reason, const char *data, const char *server)
{
    struct ke_mqtt_auth_result r = {.size = sizeof r, .reason = reason};
    struct ke_error err = KE_ERROR_INIT;

    r.data = (struct ke_mqtt_str){data, strlen(data)};
    r.server = (struct ke_mqtt_str){server, server ? strlen(server) : 0};
    assert_int_equal(ke_mqtt_auth_complete(a, &r, &err), 0);
    assert_int_equal(ke_mqtt_auth_complete(a, &r, &err), KE_ESTATE);
}

static int on_authenticate(void *user, struct ke_mqtt_auth *a, const struct ke_mqtt_credentials *c)
{
    struct host *h = ((struct rig *)user)->host;

    h->asked++;
    if (c->auth_method.n == 0)
        return KE_MQTT_DEFER;
    if (c->auth_method.n != 1 || c->auth_method.p[0] != 'M')
        return KE_MQTT_DEFER; /* not known */
    assert_int_equal(c->client->version, 5);
    snprintf(h->heard, sizeof h->heard, "%.*s", (int)c->auth_data.n, c->auth_data.p);
    if (h->wait)
        h->pending = a;
    else
        finish(a, KE_MQTT_AUTH_CONTINUE, "who?", NULL);
    return KE_MQTT_PENDING;
}

static int on_auth(void *user, struct ke_mqtt_auth *a, const struct ke_mqtt_credentials *c)
{
    struct host *h = ((struct rig *)user)->host;
    size_t n = strlen(h->heard);

    h->rounds++;
    snprintf(h->heard + n, sizeof h->heard - n, ",%.*s", (int)c->auth_data.n, c->auth_data.p);
    if (h->wait)
        h->pending = a;
    else
        finish(a, h->end, h->end == KE_MQTT_AUTH_CONTINUE ? "more" : h->end ? "" : "ok", h->server);
    return KE_MQTT_PENDING;
}

static void on_gone(void *user, struct ke_mqtt_auth *a)
{
    struct host *h = ((struct rig *)user)->host;

    assert_ptr_equal(h->pending, a);
    h->pending = NULL;
    h->gone++;
}

static void start(struct rig *r, struct host *h)
{
    memset(h, 0, sizeof *h);
    rig_init(r);
    r->host = h;
    r->c.max_keepalive = KE_MQTT_NONE;
    r->ops.authenticate = on_authenticate;
    r->ops.auth = on_auth;
    r->ops.auth_gone = on_gone;
    rig_start(r);
}

/* CONNECT with authentication method M and data 'hi' */
#define HELLO_M "10 17 0004 'MQTT' 05 02 0000 09 15 0001 'M' 16 0002 'hi' 0001 'a'"

static void an_exchange_lets_in(void **state)
{
    struct rig r;
    struct host h;
    struct peer a;

    (void)state;
    start(&r, &h);
    peer_open(&a, &r);
    say(&a, HELLO_M);
    hear(&a, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'");
    h.end = KE_MQTT_AUTH_CONTINUE;
    say(&a, "f0 0a 18 08 15 0001 'M' 16 0001 '1'");
    hear(&a, "f0 0d 18 0b 15 0001 'M' 16 0004 'more'");
    h.end = 0;
    say(&a, "f0 0a 18 08 15 0001 'M' 16 0001 '2'");
    hear(&a, "20 17 00 00 14 22 000a 15 0001 'M' 16 0002 'ok' 27 001e8480 21 0014");
    assert_string_equal(h.heard, "hi,1,2");
    say(&a, "c0 00");
    hear(&a, "d0 00");
    peer_close(&a);
    rig_fini(&r);
}

static void an_exchange_refuses(void **state)
{
    static const struct {
        const char *hello, *answer, *next, *last;
    } cases[] = {
        /* the host says no in the end */
        {HELLO_M, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'", "f0 06 18 04 15 0001 'M'",
         "20 03 00 87 00"},
        /* the method changes: a protocol error, before CONNACK nothing is said */
        {HELLO_M, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'", "f0 06 18 04 15 0001 'N'", ""},
        /* another packet than AUTH */
        {HELLO_M, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'", "c0 00", ""},
        /* re-authentication when nothing was authenticated yet */
        {HELLO_M, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'", "f0 06 19 04 15 0001 'M'", ""},
        /* a method nobody knows */
        {"10 12 0004 'MQTT' 05 02 0000 04 15 0001 'X' 0001 'a'", "20 03 00 8c 00", "", ""},
    };
    struct rig r;
    struct host h;
    struct peer a;

    (void)state;
    start(&r, &h);
    h.end = 0x87;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peer_open(&a, &r);
        say(&a, cases[i].hello);
        hear(&a, cases[i].answer);
        if (cases[i].next[0])
            say(&a, cases[i].next);
        if (cases[i].last[0])
            hear(&a, cases[i].last);
        hear_end(&a);
        peer_close(&a);
        test_settle(&r.env);
    }
    assert_int_equal(rig_stats(&r).connects, 0);
    rig_fini(&r);
}

static void who_is_up_authenticates_again(void **state)
{
    struct rig r;
    struct host h;
    struct peer a, b;

    (void)state;
    start(&r, &h);
    for (int refuse = 0; refuse < 2; refuse++) {
        h.end = 0;
        peer_open(&a, &r);
        say(&a, HELLO_M);
        hear(&a, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'");
        say(&a, "f0 06 18 04 15 0001 'M'");
        hear(&a, "20 17 00 00 14 22 000a 15 0001 'M' 16 0002 'ok' 27 001e8480 21 0014");
        say(&a, "82 07 0001 00 0001 't' 00");
        hear(&a, "90 04 0001 00 00");
        h.end = KE_MQTT_AUTH_CONTINUE;
        say(&a, "f0 0a 19 08 15 0001 'M' 16 0001 '3'");
        hear(&a, "f0 0d 18 0b 15 0001 'M' 16 0004 'more'");
        hello5(&b, &r, "b", 0); /* it is served meanwhile */
        hear(&b, ACK5);
        say(&b, "30 05 0001 't' 00 'x'");
        hear(&a, "30 05 0001 't' 00 'x'");
        h.end = refuse ? 0x87 : 0;
        say(&a, "f0 0a 18 08 15 0001 'M' 16 0001 '4'");
        if (refuse) {
            hear(&a, "e0 01 87");
            hear_end(&a);
        } else {
            hear(&a, "f0 0b 00 09 15 0001 'M' 16 0002 'ok'");
            say(&a, "c0 00");
            hear(&a, "d0 00");
        }
        peer_close(&a);
        peer_close(&b);
        test_settle(&r.env);
    }
    /* one that began without cannot begin now */
    hello5(&b, &r, "b", 0);
    hear(&b, ACK5);
    say(&b, "f0 06 18 04 15 0001 'M'");
    hear(&b, "e0 01 82");
    hear_end(&b);
    peer_close(&b);
    rig_fini(&r);
}

/* The client goes, or the time is over, while the host thinks. */
static void a_client_that_goes_is_told_of(void **state)
{
    struct rig r;
    struct host h;
    struct peer a;

    (void)state;
    start(&r, &h);
    h.wait = true;
    peer_open(&a, &r);
    say(&a, HELLO_M);
    test_settle(&r.env);
    assert_non_null(h.pending);
    peer_close(&a);
    test_drive_ms(&r.env, 31000); /* it is not read meanwhile: auth_ms finds out */
    assert_int_equal(h.gone, 1);
    assert_null(h.pending);
    peer_open(&a, &r);
    say(&a, HELLO_M);
    test_drive_ms(&r.env, 31000);
    hear(&a, "20 03 00 89 00");
    hear_end(&a);
    assert_int_equal(h.gone, 2);
    assert_int_equal(rig_stats(&r).over_auth_time, 2);
    peer_close(&a);
    rig_fini(&r);
}

/* ---- redirect, response information ---- */

static void clients_are_sent_elsewhere(void **state)
{
    struct rig r;
    struct host h;
    struct peer a, b;
    struct ke_error err = KE_ERROR_INIT;

    (void)state;
    start(&r, &h);
    h.end = 0x9d;
    h.server = "other";
    peer_open(&a, &r);
    say(&a, HELLO_M);
    hear(&a, "f0 0d 18 0b 15 0001 'M' 16 0004 'who?'");
    say(&a, "f0 06 18 04 15 0001 'M'");
    hear(&a, "20 0b 00 9d 08 1c 0005 'other'");
    hear_end(&a);
    peer_close(&a);
    hello5(&a, &r, "a", 0);
    hear(&a, ACK5);
    hello4(&b, &r, "b", true);
    hear(&b, "20 02 00 00");
    assert_int_equal(ke_mqtt_disconnect(r.m, "a", 0x9c, "there", 0, &err), 0);
    hear(&a, "e0 0a 9c 08 1c 0005 'there'");
    hear_end(&a);
    assert_int_equal(ke_mqtt_disconnect(r.m, "b", 0x9c, "there", 0, &err), 0);
    hear_end(&b); /* 3.1.1 cannot be told */
    assert_int_equal(ke_mqtt_disconnect(r.m, "b", 0x9c, "there", 0, &err), KE_ENOTFOUND);
    peer_close(&a);
    peer_close(&b);
    rig_fini(&r);
}

static void response_information_for_who_asks(void **state)
{
    struct rig r;
    struct peer a;

    (void)state;
    rig_init(&r);
    r.c.max_keepalive = KE_MQTT_NONE;
    r.c.response_information = "reply/%c/";
    rig_start(&r);
    peer_open(&a, &r);
    say(&a, "10 11 0004 'MQTT' 05 02 0000 02 19 01 0002 'me'");
    hear(&a, "20 1a 00 00 17 " ABLE " 1a 0009 'reply/me/'");
    peer_close(&a);
    peer_open(&a, &r);
    say(&a, "10 11 0004 'MQTT' 05 02 0000 02 19 00 0002 'me'");
    hear(&a, ACK5);
    peer_close(&a);
    peer_open(&a, &r);
    say(&a, "10 0f 0004 'MQTT' 05 02 0000 00 0002 'me'");
    hear(&a, ACK5);
    peer_close(&a);
    rig_fini(&r);
}

/* ---- any thread ---- */

#define THREADS 4
#define EACH 200

struct crowd {
    struct ke_ctx *ctx;
    struct ke_mqtt *m;
    struct ke_mqtt_auth *auth; /* to be completed by another thread */
    atomic_int heard, done, gone, failed, auths;
    pthread_mutex_t mu;
    pthread_cond_t cond;
};

static int auth_elsewhere(void *user, struct ke_mqtt_auth *a, const struct ke_mqtt_credentials *c)
{
    struct crowd *w = user;

    (void)c;
    pthread_mutex_lock(&w->mu);
    w->auth = a;
    pthread_cond_broadcast(&w->cond);
    pthread_mutex_unlock(&w->mu);
    return KE_MQTT_PENDING;
}

static void on_message(void *user, const struct ke_mqtt_message *msg)
{
    struct crowd *w = user;

    ke_mqtt_data_unref(ke_mqtt_data_ref(msg->data));
    atomic_fetch_add(&w->heard, 1);
}

static void on_sub_gone(void *user)
{
    atomic_fetch_add(&((struct crowd *)user)->gone, 1);
}

static void on_done(void *user, int status)
{
    struct crowd *w = user;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_mqtt_publish p = {.size = sizeof p, .topic = {"loop", 4}};

    if (ke_mqtt_publish(w->m, &p, NULL, NULL, &err) < 0) /* the loop has its own, meanwhile */
        status = KE_ESTATE;
    /* a password that is taken away before it was hashed: canceled */
    atomic_fetch_add(status == 0 || status == KE_ECANCELED ? &w->done : &w->failed, 1);
}

static void check(struct crowd *w, bool ok)
{
    if (!ok)
        atomic_fetch_add(&w->failed, 1);
}

/* Asserts belong to the main thread: here failures are counted. */
static void *one_of_many(void *user)
{
    struct crowd *w = user;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_mqtt_sub *sub = NULL;
    struct ke_mqtt_subscribe s = {
        .size = sizeof s, .filter = {"crowd/#", 7}, .message = on_message, .gone = on_sub_gone};
    struct ke_mqtt_publish p = {
        .size = sizeof p, .topic = {"crowd/x", 7}, .payload = {"y", 1}, .qos = 1};
    char name[40];

    snprintf(name, sizeof name, "u%lx", (unsigned long)(uintptr_t)&p);
    check(w, ke_mqtt_subscribe(&sub, w->m, &s, w, &err) == 0);
    for (int i = 0; i < EACH; i++) {
        check(w, ke_mqtt_publish(w->m, &p, on_done, w, &err) == 0);
        if (i % 20 == 0) {
            struct ke_mqtt_rule rule = {sizeof rule, "#", 7, 0};
            struct ke_mqtt_identity id = {
                .size = sizeof id, .name = name, .client_id = name, .password = "x"};
            check(w, ke_mqtt_user_set(w->m, name, "pw", &rule, 1, on_done, w, &err) == 0);
            check(w, ke_mqtt_identity_set(w->m, &id, on_done, w, &err) == 0);
            check(w, ke_mqtt_rules_set(w->m, name, &rule, 1, on_done, w, &err) == 0);
            check(w, ke_mqtt_identity_revoke(w->m, name, on_done, w, &err) == 0);
            check(w, ke_mqtt_user_remove(w->m, name, on_done, w, &err) == 0);
            check(w, ke_mqtt_disconnect(w->m, "nobody", 0x98, NULL, 0, &err) == KE_ENOTFOUND);
        }
    }
    ke_mqtt_unsubscribe(sub);
    return NULL;
}

static void *the_one_who_decides(void *user)
{
    struct crowd *w = user;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_mqtt_auth_result r = {.size = sizeof r};

    pthread_mutex_lock(&w->mu);
    while (!w->auth)
        pthread_cond_wait(&w->cond, &w->mu);
    struct ke_mqtt_auth *a = w->auth;
    pthread_mutex_unlock(&w->mu);
    check(w, ke_mqtt_auth_complete(a, &r, &err) == 0);
    return NULL;
}

static int dial(struct ke_mqtt *m)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint32_t port;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(ke_mqtt_port(m, 0, &port), 0);
    a.sin_port = htons((uint16_t)port);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void functions_for_any_thread(void **state)
{
    static const char hello[] = "\x10\x0d\0\4MQTT\4\2\0\0\0\1a";
    struct ke_ctx_config cc;
    struct ke_mqtt_config c;
    struct ke_mqtt_listener l;
    struct ke_mqtt_ops ops = {.size = sizeof ops, .authenticate = auth_elsewhere};
    struct ke_error err = KE_ERROR_INIT;
    struct crowd w = {.mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    pthread_t threads[THREADS], decider;
    char answer[4];

    (void)state;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log_level = KE_LOG_ERROR;
    assert_int_equal(ke_ctx_new(&w.ctx, &cc, &err), 0);
    ke_mqtt_config_init(&c, sizeof c);
    ke_mqtt_listener_init(&l, sizeof l);
    l.port = KE_MQTT_PORT_ANY;
    c.listeners = &l;
    c.n_listeners = 1;
    assert_int_equal(ke_mqtt_new(&w.m, w.ctx, &c, &ops, &w), 0);
    assert_int_equal(ke_mqtt_start(w.m), 0); /* and a thread of the context's own runs the loop */
    assert_int_equal(pthread_create(&decider, NULL, the_one_who_decides, &w), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &w), 0);
    int fd = dial(w.m);
    assert_int_equal(send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL), sizeof hello - 1);
    assert_int_equal(recv(fd, answer, 4, MSG_WAITALL), 4);
    assert_memory_equal(answer, "\x20\2\0\0", 4);
    pthread_join(decider, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    /* it is there: another thread's disconnect finds it, once */
    assert_int_equal(ke_mqtt_disconnect(w.m, "a", 0x98, NULL, 0, &err), 0);
    assert_int_equal(recv(fd, answer, 4, MSG_WAITALL), 0);
    assert_int_equal(ke_mqtt_disconnect(w.m, "a", 0x98, NULL, 0, &err), KE_ENOTFOUND);
    close(fd);
    ke_mqtt_free(w.m);
    ke_ctx_free(w.ctx);
    assert_int_equal(atomic_load(&w.failed), 0);
    assert_int_equal(atomic_load(&w.done), THREADS * (EACH + EACH / 20 * 5));
    assert_int_equal(atomic_load(&w.gone), THREADS);
    assert_true(atomic_load(&w.heard) >= THREADS * EACH); /* at least one's own */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exchange_lets_in),
        cmocka_unit_test(an_exchange_refuses),
        cmocka_unit_test(who_is_up_authenticates_again),
        cmocka_unit_test(a_client_that_goes_is_told_of),
        cmocka_unit_test(clients_are_sent_elsewhere),
        cmocka_unit_test(response_information_for_who_asks),
        cmocka_unit_test(functions_for_any_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
