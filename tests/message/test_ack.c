/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which messages the edge acknowledges, held against every message upstream's edges were recorded
 * with: the set they acknowledged must be the set kei_msg_needs_ack names.
 */
#include "support/support.h"

#include "base/map.h"
#include "message/captures.h"
#include "message/dialect.h"
#include "message/msg_priv.h"

struct seen {
    struct test_env *env;
    const char *version;
    struct kei_map acked; /* ids of messages that an edge answered with a response */
    size_t needed, not_needed, lost;
};

static struct ke_msg *message_of(struct seen *s, const struct capture_record *r)
{
    struct ke_msg *m;

    assert_int_equal(ke_msg_decode(&m, s->env->ctx, r->text.p, r->text.n, NULL), 0);
    return m;
}

static bool is_message(const struct seen *s, const struct capture *c,
                       const struct capture_record *r, const char *dir)
{
    return strcmp(c->version, s->version) == 0 && capture_is(r, "ws-message", dir) &&
           strcmp(r->listener, "ws") == 0;
}

static void collect(const struct capture *c, void *user)
{
    struct seen *s = user;

    for (size_t i = 0; i < c->n; i++) {
        if (!is_message(s, c, &c->r[i], "e2c"))
            continue;
        struct ke_msg *m = message_of(s, &c->r[i]);
        if (strcmp(ke_msg_operation(m), "response") == 0) {
            assert_string_equal(ke_msg_content(m, NULL), "\"OK\"");
            assert_int_equal(kei_map_put(&s->acked, kei_str(ke_msg_parent_id(m)), s, NULL), 0);
        }
        ke_msg_unref(m);
    }
}

static uint32_t dialect_of(const char *version)
{
    uint32_t d = 0;

    assert_true(kei_dialect_parse(version + strlen("kubeedge-"), &d));
    return d;
}

static void compare(const struct capture *c, void *user)
{
    struct seen *s = user;

    for (size_t i = 0; i < c->n; i++) {
        if (!is_message(s, c, &c->r[i], "c2e"))
            continue;
        struct ke_msg *m = message_of(s, &c->r[i]);
        bool acked = kei_map_get(&s->acked, kei_str(ke_msg_id(m))) != NULL;
        bool needs = kei_msg_needs_ack(m, dialect_of(s->version));
        if (acked != needs)
            fail_msg("%s/%s line %u: upstream %s acknowledge %s %s from %s, we say %s: %.150s",
                     c->version, c->name, c->r[i].line, acked ? "did" : "did not",
                     ke_msg_operation(m), ke_msg_resource(m), ke_msg_source(m),
                     needs ? "yes" : "no", ke_msg_content(m, NULL));
        s->needed += needs;
        s->not_needed += !needs;
        ke_msg_unref(m);
    }
}

/* No exceptions: not even the last messages before a kill or a close went unanswered. */
static void as_upstream(void **state)
{
    (void)state;
    static const struct {
        const char *version;
        size_t needed, not_needed;
    } want[] = {{"kubeedge-1.4", 28, 34}, {"kubeedge-1.15", 332, 64}, {"kubeedge-1.23", 25, 13}};
    struct test_env env;

    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct seen s = {.env = &env, .version = want[i].version};
        kei_map_init(&s.acked, &env.alloc.table, 7);
        capture_each(collect, &s);
        capture_each(compare, &s);
        assert_int_equal(s.needed, want[i].needed);
        assert_int_equal(s.not_needed, want[i].not_needed);
        kei_map_free(&s.acked);
    }
    test_env_fini(&env);
}

/* What the recordings do not hold. */
static void other_messages(void **state)
{
    (void)state;
    static const struct {
        const char *group, *operation, *resource, *content;
        bool needs;
    } table[] = {
        {"resource", "insert", "default/pod/web", "{}", true},
        {"resource", "delete", "null/persistentvolume/pv", "{}", true},
        {"resource", "update", "default/podlist/web", "null", true},
        {"resource", "insert", "default/serviceaccountaccess/x", "{}", true},
        /* a mirror pod was inserted; a pod was deleted; a delete failed */
        {"resource", "response", "default/pod/web", "{\"Object\":{},\"Err\":null}", true},
        {"resource", "response", "default/pod/web", "\"OK\"", false},
        {"resource", "response", "default/pod/web", "{\"ErrStatus\":{}}", false},
        {"resource", "response", "default/podstatus/web", "{\"ErrStatus\":{}}", false},
        {"resource", "response", "default/configmap/c", "{\"ErrStatus\":{}}", true},
        {"resource", "response", "default/configmap/c", "{}", true},
        {"resource", "response", "k8s/ca.crt", "\"-----BEGIN CERTIFICATE-----\"", true},
        {"resource", "response", "default/certificatesigningrequest/c", "{}", true},
        {"resource", "applicationResponse", "ignore/Application/ignore", "{}", false},
        {"resource", "createvolume", "default/volume/v", "\"{}\"", false},
        {"resource", "error", "default/pod/web", "\"no\"", false},
        {"resource", "insert", "pod", "{}", false}, /* no resource */
        {"twin", "update", "membership", "{}", false},
        {"twin", "response", "twin", "\"OK\"", false},
        {"user", "publish", "default/topic", "\"x\"", false},
        {"taskmanager", "Check", "operations.kubeedge.io/v1alpha2/x/y/node/n", "{}", false},
        {"cloudhub", "disconnected", "node/edge-1", "null", false},
        {"", "", "", "null", false},
    };
    struct test_env env;

    test_env_init(&env, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct ke_msg_config c;
        struct ke_msg *m;
        ke_msg_config_init(&c, sizeof c);
        c.source = "edgecontroller";
        c.group = table[i].group;
        c.operation = table[i].operation;
        c.resource = table[i].resource;
        c.content = table[i].content;
        c.content_len = strlen(table[i].content);
        assert_int_equal(ke_msg_new(&m, env.ctx, &c, NULL), 0);
        if (kei_msg_needs_ack(m, KE_DIALECT_1_15) != table[i].needs)
            fail_msg("%s %s %s %s", c.group, c.operation, c.resource, c.content);
        ke_msg_unref(m);
    }
    test_env_fini(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_upstream),
        cmocka_unit_test(other_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
