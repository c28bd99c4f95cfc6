/* SPDX-License-Identifier: Apache-2.0 */
/* Password files, against lines that mosquitto_passwd 2.0.11 wrote; secrets; hashing in slices. */
#include "support/support.h"

#include "crypto/crypto.h"
#include "mqtt/users.h"

/* "x" by mosquitto_passwd, and "pässwörd" by mosquitto_passwd -H sha512 */
static const char old_line[] = "a:$6$SY0c9xApR9nCX49V$Zo6DNQjqskXm7o4EMFeqzWE3Fq4Lldelzd22deFm0EmF+"
                               "l5gjH1plEZf2Hz1P8fdgLLMhEMIuVXQLXRRIEKF+g==";
static const char new_line[] = "ann:$7$101$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhM"
                               "ZqXfTGUsny37JU9UWXMbW+PF9tYkYj7HeFrdkHEBORqqrXA==";
#define NEW_PASSWORD "correct horse battery"
#define OLD_PASSWORD "p\xc3\xa4ssw\xc3\xb6rd"

struct fix {
    struct test_env env;
    struct kei_proofs proofs;
    struct kei_users users;
    char skipped[500];
    int skips;
    /* of a hashing */
    bool same, done;
    char hash[400];
};

static void fix_init(struct fix *f)
{
    memset(f, 0, sizeof *f);
    test_env_init(&f->env, 0);
    assert_int_equal(kei_proofs_init(&f->proofs, f->env.ctx), 0);
    kei_users_init(&f->users, &f->env.alloc.table, &f->proofs, 5);
}

static void fix_fini(struct fix *f)
{
    kei_users_fini(&f->users);
    test_env_fini(&f->env);
}

static void on_skipped(void *user, uint32_t line, const char *why)
{
    struct fix *f = user;
    f->skips++;
    snprintf(f->skipped, sizeof f->skipped, "%u: %s", line, why);
}

static int parse(struct fix *f, const char *text)
{
    return kei_users_parse(&f->users, kei_str(text), on_skipped, f, NULL);
}

static const char *hash_of(struct fix *f, const char *name)
{
    struct kei_user *x = kei_users_find(&f->users, kei_str(name));
    return x ? x->secret.hash : NULL;
}

static void test_file(void **state)
{
    (void)state;
    struct fix f;
    char text[2000];
    fix_init(&f);
    snprintf(text, sizeof text, "# comment\n\n%s\r\n  %s  \n#%s", old_line, new_line, "b:c");
    assert_int_equal(parse(&f, text), 0);
    assert_int_equal(f.skips, 0);
    assert_int_equal(f.users.n, 2);
    assert_true(kei_password_check(KEI_STR(OLD_PASSWORD), kei_str(hash_of(&f, "a"))));
    assert_true(kei_password_check(KEI_STR(NEW_PASSWORD), kei_str(hash_of(&f, "ann"))));

    struct ke_buf out;
    kei_buf_init(&out, &f.env.alloc.table);
    assert_int_equal(kei_users_format(&f.users, &out, NULL), 0);
    snprintf(text, sizeof text, "%s\n%s\n", old_line, new_line);
    assert_string_equal(out.p, text);
    ke_buf_free(&out);

    /* the last line of a name counts */
    snprintf(text, sizeof text, "ann:%s", old_line + 2);
    assert_int_equal(parse(&f, text), 0);
    assert_int_equal(f.users.n, 2);
    assert_true(kei_password_check(KEI_STR(OLD_PASSWORD), kei_str(hash_of(&f, "ann"))));
    fix_fini(&f);
}

static void test_bad_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"\nno colon\n", "2: it is no"},
        {"name:\n", "1: the password is no hash"},
        {"name:plain text\n", "1: the password is no hash"},
        {"name:$7$0$AAAA$AAAA\n", "1: the password is no hash"},
        {"name:$7$2000000$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UW"
         "XMbW+PF9tYkYj7HeFrdkHEBORqqrXA==\n",
         "1: the password is no hash"},
        {" :$6$SY0c9xApR9nCX49V$Zo6DNQjqskXm7o4EMFeqzWE3Fq4Lldelzd22deFm0EmF+"
         "l5gjH1plEZf2Hz1P8fdg\n",
         "1: the user name is empty"},
        {"\xff:$6$SY0c9xApR9nCX49V$Zo6DNQjqskXm7o4EMFeqzWE3Fq4Lldelzd22deFm0EmF+"
         "l5gjH1plEZf2Hz1P8fd",
         "UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fix f;
        char text[1000];
        fix_init(&f);
        snprintf(text, sizeof text, "%s\n%s\n", cases[i].text, new_line);
        assert_int_equal(parse(&f, text), 0);
        if (f.skips != 1 || !strstr(f.skipped, cases[i].want))
            fail_msg("%s: %d, %s", cases[i].text, f.skips, f.skipped);
        assert_int_equal(f.users.n, 1); /* the good line stands */
        assert_non_null(hash_of(&f, "ann"));
        fix_fini(&f);
    }
}

static void test_secret(void **state)
{
    (void)state;
    struct fix f;
    struct kei_user *x;
    fix_init(&f);
    assert_int_equal(kei_users_add(&f.users, KEI_STR("u"), &x, NULL), 0);
    struct kei_secret *s = &x->secret;
    const struct ke_alloc *a = &f.env.alloc.table;
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR("")), KEI_PROOF_NO); /* none yet */
    assert_int_equal(kei_secret_set(s, &f.proofs, a, KEI_STR("one"), NULL), 0);
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR("one")), KEI_PROOF_YES);
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR("two")), KEI_PROOF_NO);
    assert_null(kei_secret_kept(s));
    uint64_t epoch = s->epoch;
    assert_int_equal(kei_secret_made(s, a, new_line + 4), 0);
    assert_string_equal(kei_secret_kept(s), new_line + 4);
    assert_int_equal(s->epoch, epoch);

    /* another password: what is kept stays until its hash is made */
    assert_int_equal(kei_secret_set(s, &f.proofs, a, KEI_STR("two"), s), 0);
    assert_string_equal(kei_secret_kept(s), new_line + 4);
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR("one")), KEI_PROOF_NO);
    assert_int_not_equal(s->epoch, epoch);

    /* a hash alone: nothing is proven, then it is */
    char *copy = kei_strdup(a, new_line + 4);
    kei_secret_take(s, &f.proofs, a, copy);
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR(NEW_PASSWORD)), KEI_PROOF_UNKNOWN);
    kei_secret_proven(s, &f.proofs, KEI_STR(NEW_PASSWORD));
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR(NEW_PASSWORD)), KEI_PROOF_YES);
    assert_int_equal(kei_secret_ask(s, &f.proofs, KEI_STR("two")), KEI_PROOF_NO);
    kei_users_remove(&f.users, x);
    assert_int_equal(f.users.n, 0);
    fix_fini(&f);
}

static void test_inherit(void **state)
{
    (void)state;
    struct fix f;
    struct kei_users fresh;
    char text[1000];
    fix_init(&f);
    snprintf(text, sizeof text, "%s\n%s\n", old_line, new_line);
    assert_int_equal(parse(&f, text), 0);
    struct kei_user *ann = kei_users_find(&f.users, KEI_STR("ann"));
    kei_secret_proven(&ann->secret, &f.proofs, KEI_STR(NEW_PASSWORD));
    snprintf(text, sizeof text, "a:%s\n%s\n", new_line + 4, new_line);
    kei_users_init(&fresh, &f.env.alloc.table, &f.proofs, 6);
    assert_int_equal(kei_users_parse(&fresh, kei_str(text), NULL, NULL, NULL), 0);
    kei_users_inherit(&fresh, &f.users);
    struct kei_user *x = kei_users_find(&fresh, KEI_STR("ann"));
    assert_int_equal(x->secret.epoch, ann->secret.epoch);
    assert_int_equal(kei_secret_ask(&x->secret, &f.proofs, KEI_STR(NEW_PASSWORD)), KEI_PROOF_YES);
    x = kei_users_find(&fresh, KEI_STR("a")); /* another hash */
    assert_int_not_equal(x->secret.epoch, kei_users_find(&f.users, KEI_STR("a"))->secret.epoch);
    kei_users_fini(&fresh);
    fix_fini(&f);
}

/* ---- hashing ---- */

static void on_hash(void *user, bool same, const char *hash)
{
    struct fix *f = user;
    f->done = true;
    f->same = same;
    snprintf(f->hash, sizeof f->hash, "%s", hash);
}

static void test_hashing(void **state)
{
    (void)state;
    struct fix f;
    struct kei_hashing *h;
    fix_init(&f);
    for (uint32_t iterations = 0; iterations <= 3 * KEI_USER_SLICE; iterations += KEI_USER_SLICE) {
        f.done = false;
        assert_int_equal(
            kei_hashing_make(&h, f.env.ctx, KEI_STR("secret"), iterations, on_hash, &f, NULL), 0);
        assert_false(f.done); /* always later */
        assert_true(test_drive(&f.env, test_true, &f.done));
        char hash[400];
        uint32_t found;
        memcpy(hash, f.hash, sizeof hash);
        assert_true(kei_password_form(kei_str(hash), &found));
        assert_int_equal(found, iterations);
        for (int right = 0; right < 2; right++) {
            f.done = false;
            assert_int_equal(kei_hashing_check(&h, f.env.ctx,
                                               right ? KEI_STR("secret") : KEI_STR("Secret"),
                                               kei_str(hash), on_hash, &f, NULL),
                             0);
            assert_true(test_drive(&f.env, test_true, &f.done));
            assert_int_equal(f.same, right);
            assert_string_equal(f.hash, "");
        }
    }
    assert_int_equal(
        kei_hashing_check(&h, f.env.ctx, KEI_STR("x"), KEI_STR("$5$"), on_hash, &f, NULL),
        KE_EPARSE);
    fix_fini(&f);
}

static void test_cancel(void **state)
{
    (void)state;
    struct fix f;
    struct kei_hashing *h;
    fix_init(&f);
    assert_int_equal(kei_hashing_make(&h, f.env.ctx, KEI_STR("x"), 900000, on_hash, &f, NULL), 0);
    kei_hashing_cancel(h); /* soon over: the slice under way is the last */
    test_drive_ms(&f.env, 1000);
    assert_false(f.done);
    kei_hashing_cancel(NULL);
    fix_fini(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    bool failed = true;
    char text[1000];
    snprintf(text, sizeof text, "%s\n%s\n%s\n", old_line, new_line, old_line);
    for (size_t n = 1; failed; n++) {
        struct fix f;
        struct ke_buf out;
        struct kei_hashing *h = NULL;
        fix_init(&f);
        kei_buf_init(&out, &f.env.alloc.table);
        test_alloc_fail_at(&f.env.alloc, n);
        int r = parse(&f, text);
        if (r == 0)
            r = kei_users_format(&f.users, &out, NULL);
        if (r == 0)
            r = kei_hashing_make(&h, f.env.ctx, KEI_STR("x"), 3, on_hash, &f, NULL);
        if (r == 0) {
            assert_true(test_drive(&f.env, test_true, &f.done));
        } else {
            assert_int_equal(r, KE_ENOMEM);
        }
        failed = atomic_load(&f.env.alloc.failed) > 0;
        assert_true(failed || r == 0);
        if (!failed)
            assert_true(f.hash[0] != 0);
        test_alloc_fail_at(&f.env.alloc, 0);
        ke_buf_free(&out);
        fix_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),      cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_secret),    cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_hashing),   cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("users", tests, NULL, NULL);
}
