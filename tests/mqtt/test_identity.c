/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is let in and may do what, under a server that consists of a list of clients: users, files,
 * identities, revoking, and what is left of it all after a restart or a cut write.
 */
#include <sys/stat.h>

#include "support/support.h"

#include "base/codec.h"
#include "base/file.h"
#include "crypto/crypto.h"
#include "mqtt/identity_access.h"

#define CLIENTS 8

struct client {
    struct kei_who *who;
    char id[64], user[64];
    bool used, closed;
};

struct ke_mqtt {
    struct ke_ctx *ctx;
    struct kei_access *access;
    struct client clients[CLIENTS];
    int changes;
};

struct kei_access *kei_mqtt_access(struct ke_mqtt *m)
{
    return m->access;
}

int kei_mqtt_call(struct ke_mqtt *m, void (*fn)(void *user), void *user)
{
    return kei_ctx_call(m->ctx, fn, user);
}

void kei_mqtt_access_changed(struct ke_mqtt *m,
                             int (*check)(void *user, struct kei_who *who, struct ke_str client_id,
                                          struct ke_str user_name),
                             void *user)
{
    m->changes++;
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &m->clients[i];
        if (c->used && check(user, c->who, kei_str(c->id), kei_str(c->user)) == KEI_ACCESS_CLOSE)
            c->closed = true;
    }
}

/* ---- fixture ---- */

struct fix {
    struct test_env env;
    struct ke_mqtt m;
    struct ke_mqtt_config conf;
    struct ke_error err;
    char tmp[200], folder[220], file[240];
    unsigned reason;
    struct kei_who *who;
    bool answered, waited;
    /* of a change */
    bool done;
    int status;
};

static void server_new(struct fix *f, const char *folder)
{
    memset(&f->m, 0, sizeof f->m);
    f->m.ctx = f->env.ctx;
    f->conf.size = sizeof f->conf;
    int r = kei_access_new(&f->m.access, &f->m, f->env.ctx, &f->conf);
    if (r == 0)
        r = f->m.access->ops->open(f->m.access, folder);
    if (r < 0)
        fail_msg("%s", ke_ctx_error(f->env.ctx));
}

static void server_free(struct fix *f)
{
    struct kei_access *a = f->m.access;
    a->ops->close(a);
    for (int i = 0; i < CLIENTS; i++)
        a->ops->forget(a, f->m.clients[i].who);
    a->ops->free(a);
    f->m.access = NULL;
}

static void fix_init_io(struct fix *f, const struct ke_io *io)
{
    memset(f, 0, sizeof *f);
    f->err = (struct ke_error)KE_ERROR_INIT;
    test_env_init_io(&f->env, 0, io);
    f->env.idle_ms = 1; /* there is no peer to wait for */
    test_tmp_make(f->tmp, sizeof f->tmp);
    snprintf(f->folder, sizeof f->folder, "%s/data", f->tmp);
    assert_int_equal(mkdir(f->folder, 0700), 0);
    snprintf(f->file, sizeof f->file, "%s/access", f->folder);
}

static void fix_init(struct fix *f)
{
    fix_init_io(f, NULL);
}

static void fix_fini(struct fix *f)
{
    test_tmp_remove(f->tmp);
    test_env_fini(&f->env);
}

static void on_login(void *user, unsigned reason, struct kei_who *who)
{
    struct fix *f = user;
    assert_false(f->answered);
    f->answered = true;
    f->reason = reason;
    f->who = who;
}

static bool answered(void *arg)
{
    return ((struct fix *)arg)->answered;
}

static unsigned attempt(struct fix *f, const struct kei_access_login *l)
{
    struct kei_access *a = f->m.access;
    void *job = NULL;
    f->answered = false;
    f->who = NULL;
    assert_int_equal(a->ops->authenticate(a, l, on_login, f, &job), 0);
    f->waited = job != NULL;
    assert_int_equal(f->waited, !f->answered);
    assert_true(test_drive(&f->env, answered, f));
    assert_true(f->reason == 0 || f->who == NULL);
    return f->reason;
}

/* NULL: not given. The client stays as number i, or is forgotten when i < 0. */
static unsigned login(struct fix *f, int i, const char *id, const char *user, const char *password)
{
    struct kei_access_login l = {.client_id = kei_str(id),
                                 .user_name = kei_str(user),
                                 .password = kei_str(password),
                                 .has_user = user != NULL,
                                 .has_password = password != NULL,
                                 .anonymous = true};
    unsigned reason = attempt(f, &l);
    if (reason == 0 && i >= 0) {
        struct client *c = &f->m.clients[i];
        *c = (struct client){.who = f->who, .used = true};
        snprintf(c->id, sizeof c->id, "%s", id);
        snprintf(c->user, sizeof c->user, "%s", user ? user : "");
    } else {
        f->m.access->ops->forget(f->m.access, f->who);
    }
    return reason;
}

static bool may(struct fix *f, int i, uint32_t access, const char *topic)
{
    const struct client *c = &f->m.clients[i];
    struct kei_access *a = f->m.access;
    bool ok = a->ops->may(a, c->who, kei_str(c->id), kei_str(c->user), access, kei_str(topic));
    if (a->ops->unlimited(a, c->who, access))
        assert_true(ok);
    return ok;
}

static void on_done(void *user, int status)
{
    struct fix *f = user;
    f->done = true;
    f->status = status;
}

static bool done(void *arg)
{
    return ((struct fix *)arg)->done;
}

/* r of a change; waits until it is durable. */
static void settled(struct fix *f, int r)
{
    if (r < 0)
        fail_msg("%s", f->err.text);
    assert_true(test_drive(&f->env, done, f));
    assert_int_equal(f->status, 0);
    f->done = false;
}

#define RULE(topic_, access_)                                                                      \
    {                                                                                              \
        .size = sizeof(struct ke_mqtt_rule), .topic = topic_, .access = access_                    \
    }

static void set_identity(struct fix *f, const struct ke_mqtt_identity *id)
{
    settled(f, ke_mqtt_identity_set(&f->m, id, on_done, f, &f->err));
}

static void write_text(const char *path, const char *text)
{
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
}

static void path_of(struct fix *f, char *out, size_t n, const char *name)
{
    snprintf(out, n, "%s/%s", f->tmp, name);
}

/* mosquitto_passwd 2.0.11 */
#define ANN                                                                                        \
    "ann:$7$101$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UW"         \
    "XMbW+PF9tYkYj7HeFrdkHEBORqqrXA==\n"
#define ANN_PASSWORD "correct horse battery"
#define BOB                                                                                        \
    "bob:$6$SY0c9xApR9nCX49V$Zo6DNQjqskXm7o4EMFeqzWE3Fq4Lldelzd22deFm0EmF+l5gjH1plEZf2Hz1P8"       \
    "fdgLLMhEMIuVXQLXRRIEKF+g==\n"
#define BOB_PASSWORD "p\xc3\xa4ssw\xc3\xb6rd"
#define NO 0x87u

/* ---- users ---- */

static void test_nobody_known(void **state)
{
    (void)state;
    struct fix f;
    fix_init(&f);
    server_new(&f, NULL);
    assert_int_equal(login(&f, 0, "c", NULL, NULL), 0);
    assert_null(f.m.clients[0].who); /* costs nothing */
    assert_int_equal(login(&f, -1, "c", "any", "word"), 0);
    assert_true(may(&f, 0, KE_MQTT_WRITE, "any/topic"));
    struct kei_access_login l = {.client_id = KEI_STR("c")}; /* not on loopback */
    assert_int_equal(attempt(&f, &l), NO);
    l.has_user = true;
    l.user_name = KEI_STR("any");
    assert_int_equal(attempt(&f, &l), NO);
    server_free(&f);

    f.conf.flags = KE_MQTT_ACCESS_DEFAULT_DENY;
    server_new(&f, NULL);
    assert_int_equal(login(&f, 0, "c", NULL, NULL), 0);
    assert_false(may(&f, 0, KE_MQTT_READ, "any/topic"));
    server_free(&f);
    fix_fini(&f);
}

static void test_password_file(void **state)
{
    (void)state;
    struct fix f;
    char path[256];
    fix_init(&f);
    path_of(&f, path, sizeof path, "passwd");
    write_text(path, ANN BOB "carl:no hash\n");
    f.conf.password_file = path;
    server_new(&f, NULL);
    assert_int_equal(login(&f, -1, "c", "ann", "wrong"), NO);
    assert_true(f.waited);
    assert_int_equal(login(&f, -1, "c", "ann", ANN_PASSWORD), 0);
    assert_true(f.waited); /* hashed on the worker */
    assert_int_equal(login(&f, -1, "c", "ann", ""), NO);
    assert_int_equal(login(&f, -1, "c", "ann", ANN_PASSWORD), 0);
    assert_false(f.waited); /* recognised */
    assert_int_equal(login(&f, -1, "c", "ann", "wrong"), NO);
    assert_false(f.waited);
    assert_int_equal(login(&f, -1, "c", "ann", NULL), NO);
    assert_int_equal(login(&f, -1, "c", "bob", BOB_PASSWORD), 0);
    assert_int_equal(login(&f, -1, "c", "carl", "no hash"), NO);
    assert_int_equal(login(&f, -1, "c", "dora", "x"), NO);
    assert_int_equal(login(&f, -1, "c", NULL, NULL), 0);
    server_free(&f);
    write_text(path, ANN);
    f.conf.password_file = "/nonexistent/passwd";
    assert_int_equal(kei_access_new(&f.m.access, &f.m, f.env.ctx, &f.conf), KE_ENOTFOUND);
    assert_non_null(strstr(ke_ctx_error(f.env.ctx), "/nonexistent/passwd"));
    fix_fini(&f);
}

/* A client that goes away while its password is hashed. */
static void test_cancel(void **state)
{
    (void)state;
    struct fix f;
    char path[256];
    fix_init(&f);
    path_of(&f, path, sizeof path, "passwd");
    write_text(path, ANN);
    f.conf.password_file = path;
    server_new(&f, NULL);
    struct kei_access *a = f.m.access;
    struct kei_access_login l = {.user_name = KEI_STR("ann"),
                                 .password = KEI_STR("x"),
                                 .has_user = true,
                                 .has_password = true};
    void *job = NULL;
    assert_int_equal(a->ops->authenticate(a, &l, on_login, &f, &job), 0);
    assert_non_null(job);
    a->ops->cancel(a, job);
    test_drive_ms(&f.env, 100);
    assert_false(f.answered);
    assert_int_equal(a->ops->authenticate(a, &l, on_login, &f, &job), 0);
    server_free(&f); /* with one under way */
    assert_false(f.answered);
    fix_fini(&f);
}

static void test_listener_files(void **state)
{
    (void)state;
    struct fix f;
    char passwd[256], acl[256];
    fix_init(&f);
    path_of(&f, passwd, sizeof passwd, "passwd");
    path_of(&f, acl, sizeof acl, "acl");
    write_text(passwd, ANN);
    write_text(acl, "user ann\ntopic read a\n");
    struct ke_mqtt_listener l[2] = {
        {.size = sizeof l[0], .name = "one"},
        {.size = sizeof l[0], .name = "two", .password_file = passwd, .acl_file = acl}};
    f.conf.listeners = l;
    f.conf.n_listeners = 2;
    server_new(&f, NULL);
    struct kei_access *a = f.m.access;
    struct kei_access_login in = {.user_name = KEI_STR("ann"),
                                  .password = KEI_STR("wrong"),
                                  .has_user = true,
                                  .has_password = true,
                                  .anonymous = true,
                                  .listener = KEI_STR("one")};
    assert_int_equal(attempt(&f, &in), 0);
    assert_true(a->ops->unlimited(a, f.who, KE_MQTT_READ));
    a->ops->forget(a, f.who);
    in.listener = KEI_STR("two");
    assert_int_equal(attempt(&f, &in), NO);
    in.password = KEI_STR(ANN_PASSWORD);
    assert_int_equal(attempt(&f, &in), 0);
    assert_true(a->ops->may(a, f.who, KEI_STR(""), in.user_name, KE_MQTT_READ, KEI_STR("a")));
    assert_false(a->ops->may(a, f.who, KEI_STR(""), in.user_name, KE_MQTT_READ, KEI_STR("b")));
    a->ops->forget(a, f.who);
    in.has_user = false; /* a nameless one has the files of its listener, too */
    assert_int_equal(attempt(&f, &in), 0);
    assert_false(a->ops->may(a, f.who, KEI_STR(""), KEI_STR(""), KE_MQTT_READ, KEI_STR("a")));
    a->ops->forget(a, f.who);
    server_free(&f);
    fix_fini(&f);
}

static void test_host_users(void **state)
{
    (void)state;
    struct fix f;
    const struct ke_mqtt_rule rules[] = {RULE("own/%u/#", KE_MQTT_READ | KE_MQTT_WRITE),
                                         RULE("own/%u/ro", KE_MQTT_WRITE | KE_MQTT_RULE_DENY)};
    fix_init(&f);
    server_new(&f, NULL);
    settled(&f, ke_mqtt_user_set(&f.m, "w", "pw", NULL, 0, on_done, &f, &f.err));
    /* one that no live connection has looks again by itself when rules have changed */
    struct kei_access *a = f.m.access;
    struct kei_access_login away = {.user_name = KEI_STR("w"),
                                    .password = KEI_STR("pw"),
                                    .has_user = true,
                                    .has_password = true};
    assert_int_equal(attempt(&f, &away), 0);
    struct kei_who *who = f.who;
    assert_true(a->ops->may(a, who, KEI_STR("c"), KEI_STR("w"), KE_MQTT_WRITE, KEI_STR("x")));
    settled(&f, ke_mqtt_user_set(&f.m, "u", "pw", rules, 2, on_done, &f, &f.err));
    assert_false(a->ops->may(a, who, KEI_STR("c"), KEI_STR("w"), KE_MQTT_WRITE, KEI_STR("x")));
    a->ops->forget(a, who);
    assert_int_equal(login(&f, 0, "c", "u", "pw"), 0);
    assert_int_equal(login(&f, -1, "c", "u", "pv"), NO);
    assert_int_equal(login(&f, -1, "c", "other", "pw"), NO);
    assert_true(may(&f, 0, KE_MQTT_WRITE, "own/u/a"));
    assert_false(may(&f, 0, KE_MQTT_WRITE, "own/u/ro"));
    assert_true(may(&f, 0, KE_MQTT_READ, "own/u/ro"));
    assert_false(may(&f, 0, KE_MQTT_SUBSCRIBE, "own/u/a")); /* not among the rules */
    assert_false(may(&f, 0, KE_MQTT_WRITE, "x"));

    const struct ke_mqtt_rule all[] = {RULE("#", 7)};
    settled(&f, ke_mqtt_rules_set(&f.m, NULL, all, 1, on_done, &f, &f.err));
    assert_true(may(&f, 0, KE_MQTT_WRITE, "x")); /* live */
    assert_true(may(&f, 0, KE_MQTT_SUBSCRIBE, "$share/g/x/+"));
    assert_false(may(&f, 0, KE_MQTT_WRITE, "own/u/ro"));
    settled(&f, ke_mqtt_rules_set(&f.m, NULL, NULL, 0, on_done, &f, &f.err));
    assert_false(may(&f, 0, KE_MQTT_WRITE, "x"));

    /* the same password again: nobody is sent away; another: they are */
    settled(&f, ke_mqtt_user_set(&f.m, "u", "pw", NULL, 0, on_done, &f, &f.err));
    assert_false(f.m.clients[0].closed);
    assert_true(may(&f, 0, KE_MQTT_WRITE, "x")); /* no rule is left at all */
    settled(&f, ke_mqtt_user_set(&f.m, "u", "new", NULL, 0, on_done, &f, &f.err));
    assert_true(f.m.clients[0].closed);
    f.m.clients[0].closed = false;
    f.m.access->ops->forget(f.m.access, f.m.clients[0].who);
    assert_int_equal(login(&f, 0, "c", "u", "pw"), NO);
    assert_int_equal(login(&f, 0, "c", "u", "new"), 0);
    settled(&f, ke_mqtt_user_remove(&f.m, "u", on_done, &f, &f.err));
    assert_true(f.m.clients[0].closed);
    assert_int_equal(ke_mqtt_user_remove(&f.m, "u", on_done, &f, &f.err), KE_ENOTFOUND);

    /* by certificate only */
    settled(&f, ke_mqtt_user_set(&f.m, "u", NULL, NULL, 0, on_done, &f, &f.err));
    assert_int_equal(login(&f, -1, "c", "u", ""), NO);
    struct kei_access_login l = {.user_name = KEI_STR("u"),
                                 .has_user = true,
                                 .cert_user = true,
                                 .cert_verified = true,
                                 .cert = KEI_STR("not looked into")};
    assert_int_equal(attempt(&f, &l), 0);
    f.m.access->ops->forget(f.m.access, f.who);
    l.cert_verified = false;
    assert_int_equal(attempt(&f, &l), 0x86);
    server_free(&f);
    fix_fini(&f);
}

/* ---- identities ---- */

static void test_identity(void **state)
{
    (void)state;
    struct fix f;
    const struct ke_mqtt_rule rules[] = {
        RULE("dev/%i/#", KE_MQTT_READ | KE_MQTT_WRITE | KE_MQTT_SUBSCRIBE)};
    struct ke_mqtt_identity id = {.size = sizeof id,
                                  .name = "pump-1",
                                  .user_name = "pump",
                                  .password = "s3cret",
                                  .client_id = "p1",
                                  .rules = rules,
                                  .n_rules = 1};
    fix_init(&f);
    server_new(&f, NULL);
    set_identity(&f, &id);
    assert_int_equal(login(&f, 0, "p1", "pump", "s3cret"), 0);
    struct kei_access *a = f.m.access;
    assert_true(kei_str_is(a->ops->identity(f.m.clients[0].who), "pump-1"));
    assert_int_equal(login(&f, -1, "p1", "pump", "wrong"), NO);
    assert_int_equal(login(&f, -1, "p1", "pump", NULL), NO);
    assert_int_equal(login(&f, -1, "p2", "pump", "s3cret"), NO); /* the name is somebody's */
    assert_int_equal(login(&f, 1, "p1", NULL, NULL), 0); /* somebody else, as far as we know */
    assert_true(kei_str_is(a->ops->identity(f.m.clients[1].who), ""));
    assert_true(may(&f, 0, KE_MQTT_WRITE, "dev/pump-1/x"));
    assert_true(may(&f, 0, KE_MQTT_SUBSCRIBE, "dev/pump-1/#"));
    assert_true(may(&f, 0, KE_MQTT_SUBSCRIBE, "dev/#")); /* a part of it; the rest is held back */
    assert_false(may(&f, 0, KE_MQTT_SUBSCRIBE, "dev/pump-2/#"));
    assert_false(may(&f, 0, KE_MQTT_READ, "dev/pump-2/x"));
    assert_true(may(&f, 1, KE_MQTT_READ, "dev/pump-2/x")); /* its rules are its own */

    /* one that only names a client is given to who was let in otherwise */
    struct ke_mqtt_identity by_id = {.size = sizeof id, .name = "lamp", .client_id = "lamp-7"};
    set_identity(&f, &by_id);
    assert_int_equal(login(&f, 2, "lamp-7", NULL, NULL), 0);
    assert_true(kei_str_is(a->ops->identity(f.m.clients[2].who), "lamp"));
    struct kei_access_login l = {.client_id = KEI_STR("lamp-7")};
    assert_int_equal(attempt(&f, &l), NO);

    /* rules change live; what it must bring changes: the connection ends */
    id.n_rules = 0;
    set_identity(&f, &id);
    assert_true(may(&f, 0, KE_MQTT_WRITE, "anything"));
    assert_false(f.m.clients[0].closed);
    id.client_id = "p3";
    set_identity(&f, &id);
    assert_true(f.m.clients[0].closed);
    assert_false(f.m.clients[1].closed || f.m.clients[2].closed);
    assert_int_equal(login(&f, -1, "p1", "pump", "s3cret"), NO);
    assert_int_equal(login(&f, 3, "p3", "pump", "s3cret"), 0);

    /* revoked: closed, refused, forgotten rules or not */
    settled(&f, ke_mqtt_identity_revoke(&f.m, "pump-1", on_done, &f, &f.err));
    assert_true(f.m.clients[3].closed);
    assert_false(may(&f, 3, KE_MQTT_READ, "anything"));
    assert_int_equal(login(&f, -1, "p3", "pump", "s3cret"), NO);
    assert_int_equal(login(&f, -1, "p9", "pump", "s3cret"), NO);
    settled(&f, ke_mqtt_identity_revoke(&f.m, "lamp", on_done, &f, &f.err));
    assert_true(f.m.clients[2].closed);
    assert_int_equal(login(&f, -1, "lamp-7", NULL, NULL), NO);
    assert_int_equal(ke_mqtt_identity_revoke(&f.m, "lamp", on_done, &f, &f.err), KE_ENOTFOUND);
    set_identity(&f, &id); /* and assigned again */
    assert_int_equal(login(&f, -1, "p3", "pump", "s3cret"), 0);
    server_free(&f);
    fix_fini(&f);
}

static void test_certificates(void **state)
{
    (void)state;
    struct fix f;
    struct kei_crypto *crypto;
    struct kei_key *key;
    struct kei_cert *cert;
    struct ke_buf der;
    uint8_t sum[32];
    char hex[65];
    fix_init(&f);
    server_new(&f, NULL);
    assert_int_equal(kei_crypto_get(f.env.ctx, &crypto), 0);
    assert_int_equal(kei_key_new_p256(&key, crypto, NULL), 0);
    assert_int_equal(kei_ca_make(&cert, key, 1800000000, NULL), 0);
    kei_buf_init(&der, &f.env.alloc.table);
    assert_int_equal(kei_cert_der(cert, &der, NULL), 0);
    kei_sha256(der.p, der.n, sum);
    kei_hex_encode(hex, sum, sizeof sum);
    hex[0] = (char)(hex[0] >= 'a' ? hex[0] - 'a' + 'A' : hex[0]);

    struct ke_mqtt_identity by_name = {
        .size = sizeof by_name, .name = "named", .cert_name = "KubeEdge"};
    struct ke_mqtt_identity by_sum = {
        .size = sizeof by_sum, .name = "pinned", .cert_sha256 = hex, .client_id = "c1"};
    set_identity(&f, &by_name);
    set_identity(&f, &by_sum);
    struct kei_access_login l = {.client_id = KEI_STR("c1"), .cert = kei_buf_str(&der)};
    struct kei_access *a = f.m.access;
    static const struct {
        const char *client;
        bool verified;
        const char *want; /* NULL: refused */
    } cases[] = {{"c1", true, "pinned"},
                 {"c1", false, "pinned"},
                 {"c2", true, "named"},
                 {"c2", false, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        l.client_id = kei_str(cases[i].client);
        l.cert_verified = cases[i].verified;
        assert_int_equal(attempt(&f, &l), cases[i].want ? 0 : NO);
        if (cases[i].want)
            assert_true(kei_str_is(a->ops->identity(f.who), cases[i].want));
        a->ops->forget(a, f.who);
    }
    settled(&f, ke_mqtt_identity_revoke(&f.m, "named", on_done, &f, &f.err));
    l.cert_verified = true;
    assert_int_equal(attempt(&f, &l), NO);
    l.cert_user = l.has_user = true; /* also where certificates bring user names */
    l.user_name = KEI_STR("KubeEdge");
    assert_int_equal(attempt(&f, &l), NO);
    ke_buf_free(&der);
    kei_cert_free(cert);
    kei_key_free(key);
    server_free(&f);
    fix_fini(&f);
}

static void test_refused(void **state)
{
    (void)state;
    struct fix f;
    char big[KEI_IDENTITY_TEXT_MAX + 2];
    const struct ke_mqtt_rule bad[] = {RULE("ok", KE_MQTT_READ), RULE("a/#/b", KE_MQTT_READ)};
    struct ke_mqtt_rule small = RULE("a", KE_MQTT_READ);
    fix_init(&f);
    server_new(&f, NULL);
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    small.size = 4;
    const struct {
        struct ke_mqtt_identity id;
        int code;
        const char *want;
    } cases[] = {
        {{.client_id = "c"}, KE_EINVAL, "needs a name"},
        {{.name = "n"}, KE_EINVAL, "none of user_name"},
        {{.name = "n", .client_id = ""}, KE_EINVAL, "none of user_name"},
        {{.name = "n", .cert_sha256 = "abc"}, KE_EINVAL, "64 hex digits"},
        {{.name = big, .client_id = "c"}, KE_ELIMIT, "1024"},
        {{.name = "n", .client_id = "\xff"}, KE_EINVAL, "UTF-8"},
        {{.name = "n", .client_id = "c", .rules = bad, .n_rules = 2}, KE_EINVAL, "rule 1"},
        {{.name = "n", .client_id = "c", .rules = &small, .n_rules = 1}, KE_EABI, "rule 0"},
        {{.name = "n", .client_id = "c", .rules = NULL, .n_rules = 1}, KE_EINVAL, "NULL"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_mqtt_identity id = cases[i].id;
        id.size = sizeof id;
        int r = ke_mqtt_identity_set(&f.m, &id, on_done, &f, &f.err);
        if (r != cases[i].code || !strstr(f.err.text, cases[i].want))
            fail_msg("case %zu: %d, %s", i, r, f.err.text);
    }
    assert_int_equal(ke_mqtt_identity_set(&f.m, NULL, NULL, NULL, &f.err), KE_EINVAL);
    assert_int_equal(ke_mqtt_user_set(&f.m, "", "x", NULL, 0, NULL, NULL, &f.err), KE_EINVAL);
    assert_int_equal(ke_mqtt_user_set(&f.m, "u", "x", bad, 2, NULL, NULL, &f.err), KE_EINVAL);
    assert_int_equal(login(&f, -1, "c", "u", "y"), 0); /* there is no user */
    assert_int_equal(ke_mqtt_user_set(NULL, "u", "x", NULL, 0, NULL, NULL, &f.err), KE_EINVAL);
    server_free(&f);
    fix_fini(&f);
}

/* ---- reload ---- */

static int reload(struct fix *f)
{
    struct kei_access *a = f->m.access;
    struct kei_access_files *files;
    int r = a->ops->prepare(a, &f->conf, &files, &f->err);
    if (r == 0)
        a->ops->use(a, files);
    return r;
}

static void test_reload(void **state)
{
    (void)state;
    struct fix f;
    char passwd[256], acl[256];
    fix_init(&f);
    path_of(&f, passwd, sizeof passwd, "passwd");
    path_of(&f, acl, sizeof acl, "acl");
    write_text(passwd, ANN BOB);
    write_text(acl, "user ann\ntopic a\n");
    f.conf.password_file = passwd;
    f.conf.acl_file = acl;
    server_new(&f, NULL);
    struct kei_access *a = f.m.access;
    assert_int_equal(login(&f, 0, "c", "ann", ANN_PASSWORD), 0);
    assert_int_equal(login(&f, 1, "c", "bob", BOB_PASSWORD), 0);
    assert_true(may(&f, 0, KE_MQTT_WRITE, "a"));
    assert_false(may(&f, 1, KE_MQTT_WRITE, "a"));

    write_text(acl, "user ann\ntopic a\nbogus\n"); /* a bad file changes nothing */
    assert_int_equal(reload(&f), KE_EPARSE);
    assert_non_null(strstr(f.err.text, "acl:3"));
    assert_true(may(&f, 0, KE_MQTT_WRITE, "a"));

    write_text(acl, "user bob\ntopic a\n");
    write_text(passwd, BOB ANN);
    struct kei_access_files *files; /* read, and something else failed: nothing changes */
    assert_int_equal(a->ops->prepare(a, &f.conf, &files, &f.err), 0);
    a->ops->drop(a, files);
    assert_true(may(&f, 0, KE_MQTT_WRITE, "a"));
    assert_int_equal(reload(&f), 0);
    assert_false(may(&f, 0, KE_MQTT_WRITE, "a"));
    assert_true(may(&f, 1, KE_MQTT_WRITE, "a"));
    assert_false(f.m.clients[0].closed || f.m.clients[1].closed);
    assert_int_equal(login(&f, -1, "c", "ann", ANN_PASSWORD), 0);
    assert_false(f.waited); /* still recognised */

    write_text(passwd, ANN);
    f.conf.acl_file = NULL;
    assert_int_equal(reload(&f), 0);
    assert_true(f.m.clients[1].closed && !f.m.clients[0].closed);
    assert_true(a->ops->unlimited(a, f.m.clients[0].who, KE_MQTT_READ));
    server_free(&f);
    fix_fini(&f);
}

/* ---- what is kept ---- */

static void fill(struct fix *f)
{
    const struct ke_mqtt_rule rules[] = {RULE("dev/%i/#", 3), RULE("\"q\" \\ \xc3\xa4/+", 12)};
    struct ke_mqtt_identity id = {.size = sizeof id,
                                  .name = "pump",
                                  .user_name = "pump",
                                  .password = "s3cret",
                                  .rules = rules,
                                  .n_rules = 2};
    settled(f, ke_mqtt_user_set(&f->m, "u", "pw", rules, 1, on_done, f, &f->err));
    settled(f, ke_mqtt_user_set(&f->m, "v", "pw", NULL, 0, on_done, f, &f->err));
    set_identity(f, &id);
    id = (struct ke_mqtt_identity){.size = sizeof id, .name = "gone", .client_id = "g"};
    set_identity(f, &id);
    settled(f, ke_mqtt_identity_revoke(&f->m, "gone", on_done, f, &f->err));
    settled(f, ke_mqtt_user_remove(&f->m, "v", on_done, f, &f->err));
    settled(f, ke_mqtt_rules_set(&f->m, NULL, rules, 1, on_done, f, &f->err));
    settled(f, ke_mqtt_rules_set(&f->m, "", rules + 1, 1, on_done, f, &f->err));
}

static void check_filled(struct fix *f)
{
    struct kei_ids *ids = &kei_access_of(f->m.access)->ids;
    assert_int_equal(login(f, -1, "c", "u", "pw"), 0);
    assert_int_equal(login(f, -1, "c", "u", "px"), NO);
    assert_int_equal(login(f, -1, "c", "v", "pw"), NO);
    assert_int_equal(login(f, -1, "c", "pump", "s3cret"), 0);
    assert_int_equal(login(f, -1, "g", NULL, NULL), NO);
    assert_int_equal(ids->n, 2);
    struct kei_identity *x = kei_ids_find(ids, KEI_STR("pump"));
    assert_int_equal(x->rules.n, 2);
    assert_string_equal(x->rules.rules[1].filter, "\"q\" \\ \xc3\xa4/+");
    assert_int_equal(x->rules.rules[1].access, 12);
    assert_int_equal(kei_acl_find(&ids->rules, KEI_STR("u"))->n, 1);
    assert_int_equal(ids->rules.patterns.n, 1);
    assert_int_equal(ids->rules.nobody->n, 1);
    assert_int_equal(ids->rules.n, 3);
}

static char *read_file(const char *path, size_t *ret_n)
{
    static char text[65536];
    FILE *in = fopen(path, "re");
    assert_non_null(in);
    *ret_n = fread(text, 1, sizeof text - 1, in);
    text[*ret_n] = 0;
    fclose(in);
    return text;
}

static void test_restart(void **state)
{
    (void)state;
    struct fix f;
    size_t n;
    fix_init(&f);
    server_new(&f, f.folder);
    fill(&f);
    check_filled(&f);
    char *text = read_file(f.file, &n);
    assert_null(strstr(text, "s3cret"));
    assert_null(strstr(text, "\"pw\""));
    struct stat st;
    assert_int_equal(stat(f.file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* stopped and started: what was assigned and removed between wins */
    struct kei_access *a = f.m.access;
    a->ops->close(a);
    struct ke_mqtt_identity id = {.size = sizeof id, .name = "late", .client_id = "l"};
    set_identity(&f, &id);
    settled(&f, ke_mqtt_user_remove(&f.m, "u", on_done, &f, &f.err));
    assert_int_equal(a->ops->open(a, f.folder), 0);
    assert_null(kei_users_find(&kei_access_of(a)->ids.users, KEI_STR("u")));
    settled(&f, ke_mqtt_identity_revoke(&f.m, "late", on_done, &f, &f.err));
    settled(&f,
            ke_mqtt_user_set(&f.m, "u", "pw", (const struct ke_mqtt_rule[]){RULE("dev/%i/#", 3)}, 1,
                             on_done, &f, &f.err));
    server_free(&f);
    /* another process, twice */
    for (int i = 0; i < 2; i++) {
        server_new(&f, f.folder);
        assert_non_null(kei_ids_find(&kei_access_of(f.m.access)->ids, KEI_STR("late")));
        assert_int_equal(login(&f, -1, "l", NULL, NULL), NO);
        kei_access_of(f.m.access)->ids.n--; /* but for late, all as it was */
        check_filled(&f);
        kei_access_of(f.m.access)->ids.n++;
        server_free(&f);
    }
    fix_fini(&f);
}

/* Set before the start: kept with it, also while its hash is still being made. */
static void test_before_start(void **state)
{
    (void)state;
    struct fix f;
    fix_init(&f);
    f.m.ctx = f.env.ctx;
    assert_int_equal(kei_access_new(&f.m.access, &f.m, f.env.ctx, &f.conf), 0);
    struct kei_access *a = f.m.access;
    assert_int_equal(ke_mqtt_user_set(&f.m, "u", "pw", NULL, 0, on_done, &f, &f.err), 0);
    assert_int_equal(login(&f, -1, "c", "u", "pw"), 0); /* in force at once */
    assert_int_equal(a->ops->open(a, f.folder), 0);
    settled(&f, 0);
    server_free(&f);
    server_new(&f, f.folder);
    assert_int_equal(login(&f, -1, "c", "u", "pw"), 0);
    assert_true(f.waited);
    server_free(&f);
    fix_fini(&f);
}

/* A file that ends anywhere is read up to its last whole line, and goes on from there. */
static void test_torn(void **state)
{
    (void)state;
    struct fix f;
    size_t n;
    static char whole[65536];
    fix_init(&f);
    server_new(&f, f.folder);
    fill(&f);
    server_free(&f);
    memcpy(whole, read_file(f.file, &n), sizeof whole);
    for (size_t cut = 0; cut < n; cut += cut % 23 + 1) {
        FILE *out = fopen(f.file, "we");
        assert_int_equal(fwrite(whole, 1, cut, out), cut);
        fclose(out);
        server_new(&f, f.folder);
        struct ke_mqtt_identity id = {.size = sizeof id, .name = "after", .client_id = "a"};
        set_identity(&f, &id);
        uint32_t known = kei_access_of(f.m.access)->ids.n;
        server_free(&f);
        server_new(&f, f.folder);
        assert_int_equal(kei_access_of(f.m.access)->ids.n, known);
        assert_non_null(kei_ids_find(&kei_access_of(f.m.access)->ids, KEI_STR("after")));
        server_free(&f);
    }
    fix_fini(&f);
}

/* A damaged line costs itself only. */
static void test_damaged(void **state)
{
    (void)state;
    struct fix f;
    size_t n;
    fix_init(&f);
    server_new(&f, f.folder);
    fill(&f);
    server_free(&f);
    char *text = read_file(f.file, &n);
    char *at = strstr(text, "{\"user\"");
    assert_non_null(at);
    at[20] ^= 1;
    FILE *out = fopen(f.file, "we");
    fwrite(text, 1, n, out);
    fclose(out);
    server_new(&f, f.folder);
    assert_non_null(strstr(f.env.last_log, "check sum"));
    assert_int_equal(login(&f, -1, "c", "pump", "s3cret"), 0);
    server_free(&f);
    fix_fini(&f);
}

/* ---- a disk that fails ---- */

struct bad_io {
    struct ke_io io;
    const struct ke_io *real;
    int fail; /* the next so many writes */
};

static int bad_pwrite(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    struct bad_io *b = user;
    if (b->fail > 0) {
        b->fail--;
        (void)!b->real->pwrite(b->real->user, f, p, n / 2, off); /* and a piece of it is there */
        return KE_ENOSPC;
    }
    return b->real->pwrite(b->real->user, f, p, n, off);
}

static void test_disk_full(void **state)
{
    (void)state;
    struct fix f;
    struct bad_io bad = {.real = ke_io_posix()};
    bad.io = *bad.real;
    bad.io.user = &bad;
    bad.io.pwrite = bad_pwrite;
    fix_init_io(&f, &bad.io);
    server_new(&f, f.folder);
    fill(&f);
    struct ke_mqtt_identity id = {.size = sizeof id, .name = "full", .client_id = "f"};
    for (int times = 1; times <= 2; times++) {
        bad.fail = 1;
        assert_int_equal(ke_mqtt_identity_set(&f.m, &id, on_done, &f, &f.err), 0);
        assert_true(test_drive(&f.env, done, &f));
        assert_int_equal(f.status, KE_ENOSPC);
        f.done = false;
    }
    id.name = "fits";
    set_identity(&f, &id); /* what failed before is durable with it */
    server_free(&f);
    server_new(&f, f.folder);
    struct kei_ids *ids = &kei_access_of(f.m.access)->ids;
    assert_non_null(kei_ids_find(ids, KEI_STR("full")));
    assert_non_null(kei_ids_find(ids, KEI_STR("fits")));
    ids->n -= 2;
    check_filled(&f);
    ids->n += 2;
    server_free(&f);
    fix_fini(&f);
}

/* Many changes of the same: the file does not grow without end. */
static void test_growth(void **state)
{
    (void)state;
    struct fix f;
    struct stat st;
    char topic[4000];
    fix_init(&f);
    server_new(&f, f.folder);
    memset(topic, 'x', sizeof topic - 1);
    topic[sizeof topic - 1] = 0;
    const struct ke_mqtt_rule rules[] = {RULE(topic, 3)};
    struct ke_mqtt_identity id = {
        .size = sizeof id, .name = "n", .client_id = "c", .rules = rules, .n_rules = 1};
    for (int i = 0; i < 700; i++) { /* 2.8 MB in all */
        int r = ke_mqtt_identity_set(&f.m, &id, i % 10 ? NULL : on_done, &f, &f.err);
        if (i % 10 == 0)
            settled(&f, r);
    }
    test_drive_ms(&f.env, 10);
    assert_int_equal(stat(f.file, &st), 0);
    assert_true(st.st_size < 1500000);
    server_free(&f);
    fix_fini(&f);
}

/* Two at once for the same user: the first is told it was replaced, the last one counts. */
static void test_replaced(void **state)
{
    (void)state;
    struct fix f, first = {0};
    fix_init(&f);
    server_new(&f, f.folder);
    assert_int_equal(ke_mqtt_user_set(&f.m, "u", "one", NULL, 0, on_done, &first, &f.err), 0);
    settled(&f, ke_mqtt_user_set(&f.m, "u", "two", NULL, 0, on_done, &f, &f.err));
    assert_true(first.done);
    assert_int_equal(first.status, KE_ECANCELED);
    assert_int_equal(login(&f, -1, "c", "u", "two"), 0);
    server_free(&f);
    server_new(&f, f.folder);
    assert_int_equal(login(&f, -1, "c", "u", "two"), 0);
    assert_int_equal(login(&f, -1, "c", "u", "one"), NO);
    server_free(&f);
    fix_fini(&f);
}

static void count_one(void *user, const struct ke_mqtt_identity *id)
{
    int *n = user;
    assert_string_equal(id->name, "pump");
    assert_string_equal(id->password, "");
    assert_null(id->client_id);
    assert_int_equal(id->n_rules, 2);
    assert_string_equal(id->rules[0].topic, "dev/%i/#");
    (*n)++;
}

static void test_list(void **state)
{
    (void)state;
    struct fix f;
    int n = 0;
    fix_init(&f);
    server_new(&f, NULL);
    fill(&f);
    assert_int_equal(ke_mqtt_identities(&f.m, count_one, &n), 0);
    assert_int_equal(n, 1); /* not the revoked one */
    server_free(&f);
    fix_fini(&f);
}

/* Every allocation of a change fails once: it is refused, or made; never half of it. */
static void test_no_memory(void **state)
{
    (void)state;
    const struct ke_mqtt_rule rules[] = {RULE("a/%u", 7), RULE("b", 7)};
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct fix f;
        fix_init(&f);
        server_new(&f, f.folder);
        struct ke_mqtt_identity id = {.size = sizeof id,
                                      .name = "n",
                                      .user_name = "n",
                                      .password = "old",
                                      .rules = rules,
                                      .n_rules = 1};
        set_identity(&f, &id);
        settled(&f, ke_mqtt_user_set(&f.m, "u", "old", rules, 1, on_done, &f, &f.err));
        int told = 0, taken = 0;
        test_alloc_fail_at(&f.env.alloc, n);
        id.password = "new";
        id.n_rules = 2;
        int r1 = ke_mqtt_identity_set(&f.m, &id, NULL, NULL, &f.err);
        int r2 = ke_mqtt_user_set(&f.m, "u", "new", rules, 2, NULL, NULL, &f.err);
        int r3 = ke_mqtt_user_set(&f.m, "w", "new", rules, 2, on_done, &f, &f.err);
        taken += r3 == 0;
        test_drive_ms(&f.env, 50);
        told += f.done;
        assert_int_equal(taken, told);
        failed = atomic_load(&f.env.alloc.failed) > 0;
        test_alloc_fail_at(&f.env.alloc, 0);
        assert_true((r1 == 0 || r1 == KE_ENOMEM) && (r2 == 0 || r2 == KE_ENOMEM));
        assert_int_equal(login(&f, -1, "c", "n", r1 ? "old" : "new"), 0);
        assert_int_equal(login(&f, -1, "c", "n", r1 ? "new" : "old"), NO);
        assert_int_equal(login(&f, -1, "c", "u", r2 ? "old" : "new"), 0);
        assert_int_equal(login(&f, -1, "c", "w", "new"), r3 ? NO : 0);
        struct kei_ids *ids = &kei_access_of(f.m.access)->ids;
        assert_int_equal(kei_ids_find(ids, KEI_STR("n"))->rules.n, r1 ? 1 : 2);
        server_free(&f);
        server_new(&f, f.folder);
        if (!failed)
            assert_int_equal(login(&f, -1, "c", "n", "new"), 0);
        server_free(&f);
        atomic_store(&f.env.log_errors, 0);
        fix_fini(&f);
        assert_true(n < 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_known), cmocka_unit_test(test_password_file),
        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_listener_files),
        cmocka_unit_test(test_host_users),   cmocka_unit_test(test_identity),
        cmocka_unit_test(test_certificates), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_reload),       cmocka_unit_test(test_restart),
        cmocka_unit_test(test_before_start), cmocka_unit_test(test_torn),
        cmocka_unit_test(test_damaged),      cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_growth),       cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_list),         cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
