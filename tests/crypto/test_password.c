/* SPDX-License-Identifier: Apache-2.0 */
/* Password hashes, against lines that mosquitto_passwd 2.0.11 wrote. */
#include "crypto/fixture.h"

#include "base/codec.h"

static const struct {
    const char *password, *hash;
} known[] = {
    {"correct horse battery",
     "$7$101$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny"
     "37JU9UWXMbW+PF9tYkYj7HeFrdkHEBORqqrXA=="},
    {"", "$7$101$+yqIj1FHwFkb8zAI$YPKm8OrgNQvouZOJw8pEXxiO1xzemw/Xt4isvWoxqf9hJ3vLhtFn6rypD/"
         "OfjTFzDNQnZ+1"
         "7hocuiqRr1NEU/w=="},
    {"p\xc3\xa4ssw\xc3\xb6rd",
     "$7$101$5NRqH4Qze6d81CzL$E7GnpeLeCwJOn6z+P9Nf6E4UZS7D2wN1DsiMr4HE3mKHBnb38"
     "MwMSTP7Q2ZjDwR2oD7YJkCCX289z0S1x9DZmQ=="},
};

static void test_known(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct ke_str hash = kei_str(known[i].hash), rest = hash;
        struct ke_buf salt = fixture_buf(&f), made = fixture_buf(&f);
        assert_true(kei_password_check(kei_str(known[i].password), hash));
        assert_false(kei_password_check(kei_str("wrong"), hash));
        assert_false(kei_password_check(kei_strn("correct horse battery ", 22), hash));
        for (int k = 0; k < 3; k++)
            kei_str_cut(rest, '$', &rest);
        assert_true(kei_b64_decode(&salt, kei_str_cut(rest, '$', &rest)));
        assert_ok(&f, kei_password_hash(&made, kei_str(known[i].password), (uint8_t *)salt.p,
                                        salt.n, 101, &f.err));
        assert_string_equal(made.p, known[i].hash);
        ke_buf_free(&salt);
        ke_buf_free(&made);
    }
    fixture_fini(&f);
}

/* The older form, as mosquitto_passwd -H sha512 writes it. */
static void test_older(void **state)
{
    (void)state;
    static const char password[] = "p\xc3\xa4ssw\xc3\xb6rd";
    static const char line[] = "$6$SY0c9xApR9nCX49V$Zo6DNQjqskXm7o4EMFeqzWE3Fq4Lldelzd22deFm0EmF+l5"
                               "gjH1plEZf2Hz1P8fdgLLMhEMIuVXQLXRRIEKF+g==";
    struct fixture f;
    fixture_init(&f);
    struct ke_buf salt = fixture_buf(&f), made = fixture_buf(&f);
    assert_true(kei_password_check(kei_str(password), kei_str(line)));
    assert_false(kei_password_check(KEI_STR("p"), kei_str(line)));
    assert_true(kei_b64_decode(&salt, KEI_STR("SY0c9xApR9nCX49V")));
    assert_ok(&f,
              kei_password_hash(&made, kei_str(password), (uint8_t *)salt.p, salt.n, 0, &f.err));
    assert_string_equal(made.p, line);
    ke_buf_free(&salt);
    ke_buf_free(&made);
    fixture_fini(&f);
}

static bool in_steps(struct fixture *f, struct ke_str password, struct ke_str hash, unsigned n)
{
    struct kei_password *p = NULL;
    assert_ok(f, kei_password_begin_check(&p, &f->env.alloc.table, password, hash, &f->err));
    unsigned steps = 1;
    while (!kei_password_step(p, n))
        steps++;
    assert_int_equal(steps, 100 / n + (100 % n != 0)); /* one of 101 is done at the beginning */
    bool same = kei_password_same(p);
    kei_password_free(p);
    return same;
}

static void test_steps(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_password *p = NULL;
    uint32_t iterations = 1;
    const uint8_t four[] = {1, 2, 3, 4};
    fixture_init(&f);
    for (unsigned n = 1; n < 120; n += n < 10 ? 1 : 37) {
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            struct ke_str hash = kei_str(known[i].hash);
            assert_true(in_steps(&f, kei_str(known[i].password), hash, n));
            assert_false(in_steps(&f, KEI_STR("wrong"), hash, n));
        }
    }
    struct ke_buf made = fixture_buf(&f), whole = fixture_buf(&f);
    assert_ok(&f, kei_password_begin_hash(&p, &f.env.alloc.table, KEI_STR("x"), four, sizeof four,
                                          77, &f.err));
    while (!kei_password_step(p, 10))
        ;
    assert_ok(&f, kei_password_text(p, &made, &f.err));
    kei_password_free(p);
    assert_ok(&f, kei_password_hash(&whole, KEI_STR("x"), four, sizeof four, 77, &f.err));
    assert_string_equal(made.p, whole.p);
    assert_true(kei_password_form(kei_buf_str(&made), &iterations));
    assert_int_equal(iterations, 77);
    assert_false(kei_password_form(KEI_STR("$7$77$"), &iterations));
    ke_buf_free(&made);
    ke_buf_free(&whole);

    assert_error(
        &f, kei_password_begin_check(&p, &f.env.alloc.table, KEI_STR("x"), KEI_STR("x"), &f.err),
        KE_EPARSE, "$7$");
    assert_error(&f,
                 kei_password_begin_hash(&p, &f.env.alloc.table, KEI_STR("x"), NULL, 0, 1, &f.err),
                 KE_EINVAL, "salt");
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f,
                 kei_password_begin_check(&p, &f.env.alloc.table, KEI_STR("x"),
                                          kei_str(known[0].hash), &f.err),
                 KE_ENOMEM, "memory");
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(
        &f,
        kei_password_begin_hash(&p, &f.env.alloc.table, KEI_STR("x"), four, sizeof four, 1, &f.err),
        KE_ENOMEM, "memory");
    kei_password_free(NULL);
    fixture_fini(&f);
}

static void test_round(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t salt[256];
    fixture_init(&f);
    memset(salt, 7, sizeof salt);
    for (size_t n = 1; n <= sizeof salt; n += 51) {
        struct ke_buf b = fixture_buf(&f);
        assert_ok(&f, kei_password_hash(&b, KEI_STR("x"), salt, n, 3, &f.err));
        assert_true(kei_password_check(KEI_STR("x"), kei_buf_str(&b)));
        b.p[4 + n / 4]++; /* iterations, or a character of salt */
        assert_false(kei_password_check(KEI_STR("x"), kei_buf_str(&b)));
        ke_buf_free(&b);
    }
    struct ke_buf b = fixture_buf(&f);
    assert_error(&f, kei_password_hash(&b, KEI_STR("x"), salt, 0, 3, &f.err), KE_EINVAL, "salt");
    assert_error(&f, kei_password_hash(&b, KEI_STR("x"), salt, 257, 3, &f.err), KE_EINVAL, "256");
    assert_error(&f, kei_password_hash(&b, KEI_STR("x"), salt, 8, 1000001, &f.err), KE_EINVAL,
                 "1000000");
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_password_hash(&b, KEI_STR("x"), salt, 8, 1, &f.err), KE_ENOMEM, "memory");
    ke_buf_free(&b);
    fixture_fini(&f);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "$",
        "$7$",
        "$7$101",
        "$7$101$",
        "$7$101$c2FsdA==",
        "$7$101$c2FsdA==$",
        "$6$c2FsdA==$AAAA",
        "$6$c2FsdA==",
        "$6$$"
        "nJSjmRt2XiHCm7fV7lXk3e6tYAJ4kQAm2rP6vqIxqyGvKZ0rF2gXQ6m0Ww1V4uKzGQ3Oq3i7fV1hFHqWZ0XvWA==",
        /* salt empty, not base64; hash too short; no number; zero; negative; too many */
        "$7$101$$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+"
        "PF9tYkYj7HeFrdkHEBORqqrXA==",
        "$7$101$*$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+"
        "PF9tYkYj7HeFrdkHEBORqqrXA==",
        "$7$101$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRy",
        "$7$x$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+"
        "PF9tYkYj7HeFrdkHEBORqqrXA==",
        "$7$0$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+"
        "PF9tYkYj7HeFrdkHEBORqqrXA==",
        "$7$-101$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+"
        "PF9tYkYj7HeFrdkHEBORqqrXA==",
        "$7$4294967397$Pjv6tAihzNhf7kEQ$"
        "A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+PF9tYkYj7HeFrdkHEBORqqrXA==",
        /* something behind */
        "$7$101$Pjv6tAihzNhf7kEQ$A9Ha4wsJEiRcoZRyUOTRYAyc6RXejxRrOu18MhMZqXfTGUsny37JU9UWXMbW+"
        "PF9tYkYj7HeFrdkHEBORqqrXA==\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (kei_password_check(KEI_STR("correct horse battery"), kei_str(bad[i])))
            fail_msg("accepted: %s", bad[i]);
    }
    char big[600] = "$7$1$"; /* salt larger than its room */
    memset(big + 5, 'A', 400);
    memcpy(big + 405, "$", 2);
    memset(big + 406, 'A', 86);
    memcpy(big + 492, "==", 3);
    assert_false(kei_password_check(KEI_STR("x"), kei_str(big)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),     cmocka_unit_test(test_older),
        cmocka_unit_test(test_steps),     cmocka_unit_test(test_round),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests_name("password", tests, NULL, NULL);
}
