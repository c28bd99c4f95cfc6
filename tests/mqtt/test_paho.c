/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event bus with paho-mqtt-c and a real mosquitto: connects, publishes, hears; the broker is
 * killed and comes back. Skipped without mosquitto. Real time: paho has threads of its own.
 */
#include <signal.h>
#include <unistd.h>

#include "broker.h"
#include "mqtt/eventbus_priv.h"
#include "support/support.h"

/* paho keeps what was to be sent when a client is destroyed while it connects. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libpaho-mqtt3as";
}

static struct ke_eventbus_sub *sub;
static char heard[4096];
static uint32_t n_heard;

static void on_heard(void *user, const struct ke_eventbus_message *m)
{
    (void)user;
    size_t at = strlen(heard);
    snprintf(heard + at, sizeof heard - at, "%.*s ", (int)m->payload.n, m->payload.p);
    n_heard++;
}

static struct ke_eventbus *make_bus(struct test_env *env, uint16_t port, const char *url)
{
    struct ke_eventbus_config c;
    struct ke_eventbus *b = NULL;
    char text[64];
    ke_eventbus_config_init(&c, sizeof c);
    c.mode = KE_EVENTBUS_EXTERNAL;
    c.node_name = "edge-1";
    snprintf(text, sizeof text, url ? url : "tcp://127.0.0.1:%u", port);
    c.url = text;
    c.retry_min_ms = 20;
    c.retry_max_ms = 200;
    c.module = getenv("KE_PAHO_MODULE");
    c.will_topic = "edge-1/gone";
    c.will_payload = "1";
    if (ke_eventbus_new(&b, env->ctx, &c) < 0)
        fail_msg("%s", ke_ctx_error(env->ctx));
    heard[0] = '\0';
    n_heard = 0;
    assert_int_equal(ke_eventbus_subscribe(&sub, b, "a/+", 1, on_heard, NULL), 0);
    assert_int_equal(ke_eventbus_start(b), 0);
    return b;
}

struct goal {
    struct ke_eventbus *b;
    uint32_t state, heard, waiting;
};

static bool reached(void *user)
{
    struct goal *g = user;
    struct ke_eventbus_status st;
    assert_int_equal(ke_eventbus_status(g->b, &st, sizeof st), 0);
    return st.state == g->state && n_heard >= g->heard && st.waiting <= g->waiting;
}

static void until(struct test_env *env, struct ke_eventbus *b, uint32_t state, uint32_t n)
{
    struct goal g = {b, state, n, n ? 0 : 1000};
    assert_true(test_drive(env, reached, &g));
}

static void say(struct ke_eventbus *b, const char *payload)
{
    assert_int_equal(ke_eventbus_publish(b, "a/b", payload, strlen(payload), 1, 0), 0);
}

static void goes_round(void **state)
{
    struct test_env env;
    struct broker br;
    struct sigaction before;
    (void)state;
    if (!broker_installed() || !getenv("KE_PAHO_MODULE"))
        skip();
    assert_int_equal(sigaction(SIGPIPE, NULL, &before), 0);
    assert_true(before.sa_handler == SIG_DFL); /* nothing of ours changed it until here */
    broker_start(&br, "");
    test_env_init(&env, TEST_REAL_CLOCK);
    struct ke_eventbus *b = make_bus(&env, br.port, NULL);
    until(&env, b, KE_EVENTBUS_CONNECTED, 0);
    say(b, "one");
    until(&env, b, KE_EVENTBUS_CONNECTED, 1);
    broker_kill(&br, SIGKILL);
    until(&env, b, KE_EVENTBUS_WAITING, 0);
    say(b, "two");
    say(b, "three");
    broker_restart(&br, "");
    until(&env, b, KE_EVENTBUS_CONNECTED, 3);
    assert_string_equal(heard, "one two three ");
    ke_eventbus_free(b);
    test_env_fini(&env);
    broker_fini(&br);
}

/* Freed in every state of the connection. */
static void ends_at_any_time(void **state)
{
    struct test_env env;
    struct broker br;
    (void)state;
    if (!broker_installed() || !getenv("KE_PAHO_MODULE"))
        skip();
    broker_start(&br, "");
    test_env_init(&env, TEST_REAL_CLOCK);
    for (int i = 0; i < 30; i++) {
        struct ke_eventbus *b = make_bus(&env, br.port, i % 3 == 2 ? "tcp://127.0.0.1:1" : NULL);
        if (i % 3 == 1)
            until(&env, b, KE_EVENTBUS_CONNECTED, 0);
        for (int k = 0; k < i; k++)
            assert_int_equal(ke_ctx_dispatch(env.ctx), 0);
        say(b, "x");
        ke_eventbus_free(b);
    }
    test_env_fini(&env);
    broker_fini(&br);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_round),
        cmocka_unit_test(ends_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
