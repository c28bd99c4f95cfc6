/* SPDX-License-Identifier: Apache-2.0 */
/* Private keys: forms read and written, what is refused, and memory that runs out. */
#include "crypto/fixture.h"

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/file.h"
#include "crypto/crypto_priv.h"

/* One key made by `openssl ecparam`, and the same by `openssl pkcs8` and `openssl ec -aes128`.
 * Known to everybody: for tests only. */
#define SEC1                                                                                       \
    "-----BEGIN EC PRIVATE KEY-----\n"                                                             \
    "MHcCAQEEIGIdSzFXsmpwjzfFD5YPQ2iM6dyNseJAcM59Jw/NrfnPoAoGCCqGSM49\n"                           \
    "AwEHoUQDQgAEFF14iWHMDTrrmXBOHEC/8rKpycw618dKf3FljPU0irRzToJOezAR\n"                           \
    "6qvqIMJxKBGGlc4/eTb2HXZDL41EQ9bSMg==\n"                                                       \
    "-----END EC PRIVATE KEY-----\n"
#define PKCS8                                                                                      \
    "-----BEGIN PRIVATE KEY-----\n"                                                                \
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYh1LMVeyanCPN8UP\n"                           \
    "lg9DaIzp3I2x4kBwzn0nD82t+c+hRANCAAQUXXiJYcwNOuuZcE4cQL/ysqnJzDrX\n"                           \
    "x0p/cWWM9TSKtHNOgk57MBHqq+ogwnEoEYaVzj95NvYddkMvjURD1tIy\n"                                   \
    "-----END PRIVATE KEY-----\n"
#define PKCS8_ENC                                                                                  \
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"                                                      \
    "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhXhYx1l6H4nQICCAAw\n"                           \
    "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEB70/BA2NQXMgQDKFD7IgZ0EgZD6\n"                           \
    "CM1vqDDnfys20eYbSe5EyIVhw/MGg7BV1Uux8qqzHmSvRWm//wQ7LL8qiwxDwXow\n"                           \
    "qvkvnlNikzz5KUsUIEOvmuojexeVILfAVIPUUeB27Dr14bWU32RvWKWlBphWToc3\n"                           \
    "R69PhayJh+CLmekWrjKpbZtQv4dJ2xj9gTAdNIsKcq7/hDTikyDHHweW3UdQnng=\n"                           \
    "-----END ENCRYPTED PRIVATE KEY-----\n"
#define SEC1_ENC                                                                                   \
    "-----BEGIN EC PRIVATE KEY-----\n"                                                             \
    "Proc-Type: 4,ENCRYPTED\n"                                                                     \
    "DEK-Info: AES-128-CBC,595EBE8469E2B1E0CBA1D5C0FF1AD1F5\n"                                     \
    "\n"                                                                                           \
    "GemvfCNrx10W/asPc0+TSu2WbKWJVa/evpccKrn4jn45F+1unHVyY8tP1iE1/lLP\n"                           \
    "v+F8kDgTgDJafQGjdzg+T1uwWCj35EpV4Hz1jYom0BvpZaD54rxvBP8CIqSbp43L\n"                           \
    "tI7rU/09P7aiDIJlQb4p1kttPBCmHQXpjf28jefTW8I=\n"                                               \
    "-----END EC PRIVATE KEY-----\n"
#define SEC1_HEX                                                                                   \
    "30770201010420621d4b3157b26a708f37c50f960f43688ce9dc8db1e24070ce7d270fcdadf9cfa00a06082a8648" \
    "ce3d030107a14403420004145d788961cc0d3aeb99704e1c40bff2b2a9c9cc3ad7c74a7f71658cf5348ab4734e82" \
    "4e7b3011eaabea20c27128118695ce3f7936f61d76432f8d4443d6d232"
#define SEC1_LEN 121

static void der_is(struct fixture *f, const struct kei_key *k, const uint8_t want[SEC1_LEN])
{
    struct ke_buf der = fixture_buf(f);
    assert_ok(f, kei_key_der(k, &der, &f->err));
    assert_int_equal(der.n, SEC1_LEN);
    assert_memory_equal(der.p, want, SEC1_LEN);
    ke_buf_free(&der);
}

static void test_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {SEC1, PKCS8, "# a comment\n\n" PKCS8, "\r\n" SEC1 PKCS8};
    struct fixture f;
    struct kei_key *k;
    uint8_t want[SEC1_LEN];
    fixture_init(&f);
    assert_true(kei_hex_decode(want, sizeof want, KEI_STR(SEC1_HEX)));
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct ke_buf pem = fixture_buf(&f);
        assert_ok(&f, kei_key_from_pem(&k, f.c, kei_str(forms[i]), &f.err));
        der_is(&f, k, want);
        assert_ok(&f, kei_key_pem(k, &pem, &f.err));
        assert_string_equal(pem.p, SEC1);
        ke_buf_free(&pem);
        kei_key_free(k);
    }
    assert_ok(&f, kei_key_from_der(&k, f.c, kei_strn((char *)want, SEC1_LEN), &f.err));
    der_is(&f, k, want);
    kei_key_free(k);
    kei_key_free(NULL);
    fixture_fini(&f);
}

static void test_new(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_key *a, *b;
    fixture_init(&f);
    assert_ok(&f, kei_key_new_p256(&a, f.c, &f.err));
    struct ke_buf der = fixture_buf(&f), pem = fixture_buf(&f), again = fixture_buf(&f);
    assert_ok(&f, kei_key_der(a, &der, &f.err));
    assert_int_equal(der.n, SEC1_LEN); /* with curve and public key, as Go writes it */
    uint8_t head[7] = {0x30, 0x77, 2, 1, 1, 4, 0x20};
    assert_memory_equal(der.p, head, sizeof head);
    assert_ok(&f, kei_key_pem(a, &pem, &f.err));
    assert_ok(&f, kei_key_from_pem(&b, f.c, kei_buf_str(&pem), &f.err));
    assert_ok(&f, kei_key_der(b, &again, &f.err));
    assert_true(kei_str_eq(kei_buf_str(&der), kei_buf_str(&again)));
    kei_key_free(b);
    assert_ok(&f, kei_key_new_p256(&b, f.c, &f.err));
    kei_buf_clear(&again);
    assert_ok(&f, kei_key_der(b, &again, &f.err));
    assert_false(kei_str_eq(kei_buf_str(&der), kei_buf_str(&again)));
    kei_key_free(a);
    kei_key_free(b);
    ke_buf_free(&der);
    ke_buf_free(&pem);
    ke_buf_free(&again);
    fixture_fini(&f);
}

/* A key and a certificate in one file, in either order. */
static void test_mixed_file(void **state)
{
    (void)state;
    struct fixture f;
    struct pki p;
    struct kei_key *k;
    struct kei_cert *x;
    fixture_init(&f);
    pki_make(&p, &f);
    for (int order = 0; order < 2; order++) {
        struct ke_buf pem = fixture_buf(&f);
        if (order)
            assert_ok(&f, kei_cert_pem(p.node, &pem, &f.err));
        assert_ok(&f, kei_key_pem(p.node_key, &pem, &f.err));
        if (!order)
            assert_ok(&f, kei_cert_pem(p.node, &pem, &f.err));
        assert_ok(&f, kei_key_from_pem(&k, f.c, kei_buf_str(&pem), &f.err));
        assert_ok(&f, kei_cert_from_pem(&x, f.c, kei_buf_str(&pem), &f.err));
        assert_true(kei_cert_matches(x, k));
        assert_false(kei_cert_matches(x, p.ca_key));
        kei_key_free(k);
        kei_cert_free(x);
        ke_buf_free(&pem);
    }
    pki_free(&p);
    fixture_fini(&f);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pem, *part;
        int code;
    } cases[] = {
        {"", "no PEM block", KE_EKEY},
        {"no PEM at all", "no PEM block", KE_EKEY},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM block", KE_EKEY},
        {SEC1_ENC, "encrypted", KE_ENOTSUP},
        {PKCS8_ENC, "encrypted", KE_ENOTSUP},
        {"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", "neither SEC1",
         KE_EKEY},
        {"-----BEGIN EC PRIVATE KEY-----\nAAAA\n", "malformed", KE_EPARSE},
        {"-----BEGIN EC PRIVATE KEY-----\n*\n-----END EC PRIVATE KEY-----\n", "malformed",
         KE_EPARSE},
    };
    struct fixture f;
    struct kei_key *k = NULL;
    char der[SEC1_LEN + 1] = {0};
    fixture_init(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_error(&f, kei_key_from_pem(&k, f.c, kei_str(cases[i].pem), &f.err), cases[i].code,
                     cases[i].part);
    assert_true(kei_hex_decode((uint8_t *)der, SEC1_LEN, KEI_STR(SEC1_HEX)));
    assert_error(&f, kei_key_from_der(&k, f.c, kei_strn(der, SEC1_LEN + 1), &f.err), KE_EKEY,
                 "followed by 1 other");
    for (size_t n = 0; n < SEC1_LEN; n++)
        assert_int_equal(kei_key_from_der(&k, f.c, kei_strn(der, n), &f.err), KE_EKEY);
    char *big = calloc(1, KEI_PEM_MAX + 1);
    assert_error(&f, kei_key_from_der(&k, f.c, kei_strn(big, KEI_DER_MAX + 1), &f.err), KE_ELIMIT,
                 "65536");
    assert_error(&f, kei_key_from_pem(&k, f.c, kei_strn(big, KEI_PEM_MAX + 1), &f.err), KE_ELIMIT,
                 "1048576");
    free(big);
    assert_null(k);
    fixture_fini(&f);
}

/* A cloud may have an RSA key of its own; ours are all EC. */
static void test_rsa(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_key *k;
    fixture_init(&f);
    struct ke_buf pem = fixture_data(&f, "rsa-2048.pem"), out = fixture_buf(&f);
    assert_ok(&f, kei_key_from_pem(&k, f.c, kei_buf_str(&pem), &f.err));
    assert_error(&f, kei_key_der(k, &out, &f.err), KE_ENOTSUP, "RSA");
    assert_error(&f, kei_key_pem(k, &out, &f.err), KE_ENOTSUP, "RSA");
    assert_int_equal(out.n, 0);
    kei_key_free(k);
    ke_buf_free(&pem);
    ke_buf_free(&out);
    fixture_fini(&f);
}

static void write_file(struct fixture *f, const char *path, const char *text)
{
    assert_ok(f, kei_file_replace(ke_io_posix(), path, text, strlen(text), 0600, &f->err));
}

static void test_uri(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_key *k = NULL;
    char dir[256], path[300], uri[320];
    uint8_t want[SEC1_LEN];
    fixture_init(&f);
    test_tmp_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/key.pem", dir);
    snprintf(uri, sizeof uri, "file:%s", path);
    write_file(&f, path, PKCS8);
    assert_true(kei_hex_decode(want, sizeof want, KEI_STR(SEC1_HEX)));
    assert_ok(&f, kei_key_from_uri(&k, f.c, uri, &f.err));
    der_is(&f, k, want);
    kei_key_free(k);
    k = NULL;
    snprintf(uri, sizeof uri, "file://%s", path);
    write_file(&f, path, SEC1);
    assert_ok(&f, kei_key_from_uri(&k, f.c, uri, &f.err));
    der_is(&f, k, want);
    kei_key_free(k);
    assert_ok(&f, kei_file_replace(ke_io_posix(), path, want, sizeof want, 0600, &f.err));
    assert_ok(&f, kei_key_from_uri(&k, f.c, uri, &f.err));
    der_is(&f, k, want);
    kei_key_free(k);
    k = NULL;
    write_file(&f, path, PKCS8_ENC); /* nobody is asked for a pass phrase */
    assert_error(&f, kei_key_from_uri(&k, f.c, uri, &f.err), KE_ENOTSUP, "encrypted");
    write_file(&f, path, "nothing");
    assert_error(&f, kei_key_from_uri(&k, f.c, uri, &f.err), KE_EKEY, "no PEM block");
    assert_error(&f, kei_key_from_uri(&k, f.c, uri, &f.err), KE_EKEY, uri);
    assert_error(&f, kei_key_from_uri(&k, f.c, "file:/nonexistent/key", &f.err), KE_ENOTFOUND,
                 "/nonexistent/key");
    assert_error(&f, kei_key_from_uri(&k, f.c, "file:key.pem", &f.err), KE_EINVAL, "absolute");
    assert_error(&f, kei_key_from_uri(&k, f.c, "nowhere:x", &f.err), KE_ENOTSUP,
                 "provider nowhere");
    static const char *const bad[] = {
        "", "x", ":x", "../evil:x", "a/b:x", "UPPER:x", "averyveryverylongschemethatis32c:x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_error(&f, kei_key_from_uri(&k, f.c, bad[i], &f.err), KE_EINVAL, "not a URI");
    assert_null(k);
    test_tmp_remove(dir);
    fixture_fini(&f);
}

/*
 * The host's configuration is the host's: with default properties in it that no algorithm has,
 * nothing works in the default library context, and all in ours.
 */
static void test_host_config(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_key *k;
    EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
    assert_null(md); /* the configuration of main() is in force */
    fixture_init(&f);
    assert_ok(&f, kei_key_new_p256(&k, f.c, &f.err));
    struct ke_buf csr = fixture_buf(&f);
    assert_ok(&f, kei_csr_make(&csr, k, "o", "cn", &f.err));
    ke_buf_free(&csr);
    kei_key_free(k);
    fixture_fini(&f);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    struct kei_key *k = NULL;
    fixture_init(&f);
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_key_new_p256(&k, f.c, &f.err), KE_ENOMEM, "memory");
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_key_from_pem(&k, f.c, KEI_STR(SEC1), &f.err), KE_ENOMEM, "memory");
    assert_ok(&f, kei_key_from_pem(&k, f.c, KEI_STR(SEC1), &f.err));
    struct ke_buf out = fixture_buf(&f);
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_key_pem(k, &out, &f.err), KE_ENOMEM, "memory");
    ke_buf_free(&out);
    out = fixture_buf(&f);
    test_alloc_fail_at(&f.env.alloc, 1);
    assert_error(&f, kei_key_der(k, &out, &f.err), KE_ENOMEM, "memory");
    ke_buf_free(&out);
    kei_key_free(k);
    fixture_fini(&f);
}

/* The crypto context itself, when our table fails. */
static void test_context_no_memory(void **state)
{
    (void)state;
    struct test_env env;
    struct kei_crypto *c, *same;
    test_env_init(&env, 0);
    for (size_t n = 1;; n++) {
        test_alloc_fail_at(&env.alloc, n);
        int r = kei_crypto_get(env.ctx, &c);
        test_alloc_fail_at(&env.alloc, 0);
        if (r == 0) {
            assert_true(n > 2);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    assert_int_equal(kei_crypto_get(env.ctx, &same), 0);
    assert_ptr_equal(c, same);
    test_env_fini(&env);
}

static int each_round(void *arg)
{
    struct fixture *f = arg;
    struct kei_key *a = NULL, *b = NULL;
    struct ke_buf pem = fixture_buf(f);
    int r = kei_key_new_p256(&a, f->c, &f->err);
    if (r == 0)
        r = kei_key_pem(a, &pem, &f->err);
    if (r == 0)
        r = kei_key_from_pem(&b, f->c, kei_buf_str(&pem), &f->err);
    kei_key_free(a);
    kei_key_free(b);
    ke_buf_free(&pem);
    return r;
}

static void test_ossl_no_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    ossl_fail_each(each_round, &f, false, 1);
    ossl_fail_each(each_round, &f, true, 3);
    fixture_fini(&f);
}

/* ---- threads: the one that used it may end before or after the context does ---- */

struct user {
    struct fixture *f;
    struct pki *p;
    int what;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool used, may_end;
};

#define USES 6

static void use(struct user *u)
{
    /* without its public half, so that this has to be computed */
    static const uint8_t half[] = {0x30, 0x31, 2,    1,    1,    4,    0x20, 0x62, 0x1d, 0x4b, 0x31,
                                   0x57, 0xb2, 0x6a, 0x70, 0x8f, 0x37, 0xc5, 0x0f, 0x96, 0x0f, 0x43,
                                   0x68, 0x8c, 0xe9, 0xdc, 0x8d, 0xb1, 0xe2, 0x40, 0x70, 0xce, 0x7d,
                                   0x27, 0x0f, 0xcd, 0xad, 0xf9, 0xcf, 0xa0, 0x0a, 0x06, 0x08, 0x2a,
                                   0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    struct fixture *f = u->f;
    struct kei_key *k = NULL;
    struct kei_cert *x = NULL;
    struct ke_buf csr = fixture_buf(f);
    char cn[256], org[256];
    switch (u->what) {
    case 0:
        assert_ok(f, kei_key_new_p256(&k, f->c, &f->err));
        break;
    case 1:
        assert_ok(f,
                  kei_key_from_der(&k, f->c, kei_strn((const char *)half, sizeof half), &f->err));
        break;
    case 2:
        assert_ok(f, kei_csr_make(&csr, u->p->node_key, "o", "cn", &f->err));
        break;
    case 3:
        assert_ok(f, kei_ca_make(&x, u->p->ca_key, NOW, &f->err));
        break;
    case 4:
        assert_ok(f, kei_cert_verify(u->p->node, u->p->ca, true, NOW, &f->err));
        break;
    default:
        csr = fixture_data(f, "ke-1.15-csr.der");
        assert_ok(f, kei_csr_info(f->c, kei_buf_str(&csr), cn, org, &f->err));
        break;
    }
    ke_buf_free(&csr);
    kei_cert_free(x);
    kei_key_free(k);
}

static void *use_then_wait(void *arg)
{
    struct user *u = arg;
    use(u);
    pthread_mutex_lock(&u->mu);
    u->used = true;
    pthread_cond_broadcast(&u->cond);
    while (!u->may_end)
        pthread_cond_wait(&u->cond, &u->mu);
    pthread_mutex_unlock(&u->mu);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * USES; i++) {
        int last = i % 2;
        struct fixture f;
        struct pki p;
        struct user u = {.f = &f,
                         .p = &p,
                         .what = i / 2,
                         .mu = PTHREAD_MUTEX_INITIALIZER,
                         .cond = PTHREAD_COND_INITIALIZER,
                         .may_end = last == 0};
        pthread_t t;
        fixture_init(&f);
        pki_make(&p, &f);
        assert_int_equal(pthread_create(&t, NULL, use_then_wait, &u), 0);
        pthread_mutex_lock(&u.mu);
        while (!u.used)
            pthread_cond_wait(&u.cond, &u.mu);
        pthread_mutex_unlock(&u.mu);
        if (last == 0)
            assert_int_equal(pthread_join(t, NULL), 0);
        pki_free(&p);
        fixture_fini(&f);
        if (last == 1) {
            pthread_mutex_lock(&u.mu);
            u.may_end = true;
            pthread_cond_broadcast(&u.cond);
            pthread_mutex_unlock(&u.mu);
            assert_int_equal(pthread_join(t, NULL), 0);
        }
    }
}

int main(void)
{
    char conf[] = "/tmp/ke-test-cnf-XXXXXX";
    static const char text[] = "openssl_conf = init\n[init]\nalg_section = alg\n"
                               "[alg]\ndefault_properties = nobody=has-this\n";
    int fd = mkstemp(conf);
    if (fd < 0 || write(fd, text, sizeof text - 1) != (ssize_t)sizeof text - 1)
        return 1;
    close(fd);
    setenv("OPENSSL_CONF", conf, 1);
    ossl_hook();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_new),
        cmocka_unit_test(test_mixed_file),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rsa),
        cmocka_unit_test(test_uri),
        cmocka_unit_test(test_host_config),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_context_no_memory),
        cmocka_unit_test(test_ossl_no_memory),
        cmocka_unit_test(test_threads),
    };
    int r = cmocka_run_group_tests_name("key", tests, NULL, NULL);
    unlink(conf);
    return r;
}
