/* SPDX-License-Identifier: Apache-2.0 */
/* The cloud's identity: made once, kept, made whole again; power cuts; memory that runs out. */
#include "support/support.h"

#include "base/file.h"
#include "cloud/pki.h"
#include "sim/powercut_io.h"

struct world {
    struct test_env env;
    struct powercut *disk;
    struct kei_pki pki;
};

static void begin_on(struct world *w, struct powercut *disk)
{
    memset(w, 0, sizeof *w);
    w->disk = disk;
    test_env_init_io(&w->env, 0, powercut_io(w->disk));
}

static void begin(struct world *w)
{
    begin_on(w, powercut_new());
    assert_int_equal(kei_folder_make(powercut_io(w->disk), "/d", 0700, NULL), 0);
}

static void end(struct world *w)
{
    kei_pki_close(&w->pki);
    test_env_fini(&w->env);
    powercut_free(w->disk);
}

static int open_with(struct world *w, const char *const *names, uint32_t n)
{
    const struct ke_cloud_config c = {
        .size = sizeof c, .data = "/d", .advertise = names, .n_advertise = n};
    return kei_pki_open(&w->pki, w->env.ctx, &c);
}

static void serial(const struct kei_cert *x, uint8_t out[32])
{
    struct kei_cert_info info;
    assert_int_equal(kei_cert_info(x, &info, NULL), 0);
    memcpy(out, info.sha256, 32);
}

static void kept_and_renewed(void **state)
{
    static const char *const one[] = {"10.0.0.1"}, *const two[] = {"10.0.0.1", "cloud.example"};
    (void)state;
    struct world w;
    uint8_t ca[32], server[32], now[32];
    begin(&w);
    assert_int_equal(open_with(&w, one, 1), 0);
    serial(w.pki.ca, ca);
    serial(w.pki.server, server);
    assert_int_equal(
        kei_cert_verify(w.pki.server, w.pki.ca, false, ke_ctx_real_ms(w.env.ctx) / 1000, NULL), 0);
    kei_pki_close(&w.pki);
    assert_int_equal(open_with(&w, one, 1), 0);
    serial(w.pki.ca, now);
    assert_memory_equal(now, ca, 32);
    serial(w.pki.server, now);
    assert_memory_equal(now, server, 32);
    kei_pki_close(&w.pki);
    /* another name: another certificate, the same authority */
    assert_int_equal(open_with(&w, two, 2), 0);
    serial(w.pki.ca, now);
    assert_memory_equal(now, ca, 32);
    serial(w.pki.server, now);
    assert_memory_not_equal(now, server, 32);
    memcpy(server, now, 32);
    kei_pki_close(&w.pki);
    /* when most of its life is over */
    test_clock_advance(&w.env.clock, INT64_C(8) * 365 * 86400000 + INT64_C(86400000) * 10);
    assert_int_equal(open_with(&w, two, 2), 0);
    serial(w.pki.server, now);
    assert_memory_not_equal(now, server, 32);
    end(&w);
}

static void damaged(void **state)
{
    static const char *const one[] = {"10.0.0.1"};
    (void)state;
    struct world w;
    uint8_t ca[32], now[32];
    begin(&w);
    assert_int_equal(open_with(&w, one, 1), 0);
    serial(w.pki.ca, ca);
    kei_pki_close(&w.pki);
    static const char *const texts[] = {
        "", "rubbish", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"};
    for (size_t i = 0; i < 3; i++) {
        powercut_put(w.disk, "/d/pki/server.pem", texts[i], strlen(texts[i]));
        if (open_with(&w, one, 1) != 0)
            fail_msg("case %zu: %s", i, ke_ctx_error(w.env.ctx));
        serial(w.pki.ca, now);
        assert_memory_equal(now, ca, 32);
        kei_pki_close(&w.pki);
    }
    /* the authority is what nodes trust: it is never replaced behind their back */
    size_t n = 0;
    unsigned char *keep = powercut_get(w.disk, "/d/pki/ca.pem", &n);
    for (size_t i = 0; i < 3; i++) {
        powercut_put(w.disk, "/d/pki/ca.pem", texts[i], strlen(texts[i]));
        assert_true(open_with(&w, one, 1) < 0);
        assert_non_null(strstr(ke_ctx_error(w.env.ctx), "ca.pem"));
        kei_pki_close(&w.pki);
    }
    powercut_put(w.disk, "/d/pki/ca.pem", keep, n);
    /* a server certificate that another authority signed */
    unsigned char *server = powercut_get(w.disk, "/d/pki/server.pem", &n);
    struct world v;
    begin(&v);
    assert_int_equal(open_with(&v, one, 1), 0);
    size_t m = 0;
    unsigned char *foreign = powercut_get(v.disk, "/d/pki/server.pem", &m);
    end(&v);
    powercut_put(w.disk, "/d/pki/server.pem", foreign, m);
    assert_int_equal(open_with(&w, one, 1), 0);
    assert_int_equal(
        kei_cert_verify(w.pki.server, w.pki.ca, false, ke_ctx_real_ms(w.env.ctx) / 1000, NULL), 0);
    free(keep);
    free(server);
    free(foreign);
    end(&w);
}

static void names_are_checked(void **state)
{
    (void)state;
    const char *many[65];
    struct world w;
    begin(&w);
    for (size_t i = 0; i < 65; i++)
        many[i] = "a.example";
    assert_int_equal(open_with(&w, many, 65), KE_ELIMIT);
    assert_non_null(strstr(ke_ctx_error(w.env.ctx), "the limit is 64"));
    kei_pki_close(&w.pki);
    assert_int_equal(open_with(&w, many, 64), 0);
    end(&w);
}

static void every_allocation_may_fail(void **state)
{
    static const char *const one[] = {"10.0.0.1"};
    (void)state;
    for (size_t n = 1;; n++) {
        struct world w;
        begin(&w);
        test_alloc_fail_at(&w.env.alloc, n);
        int r = open_with(&w, one, 1);
        bool failed = atomic_load(&w.env.alloc.failed) > 0;
        test_alloc_fail_at(&w.env.alloc, 0);
        kei_pki_close(&w.pki);
        assert_int_equal(open_with(&w, one, 1), 0);
        end(&w);
        if (!failed) {
            assert_int_equal(r, 0);
            break;
        }
    }
}

/* Once a start was told to have worked, its authority is there after any cut. */
static void power_cuts(void **state)
{
    static const char *const one[] = {"10.0.0.1"}, *const two[] = {"10.0.0.2"};
    (void)state;
    const char *text = getenv("KE_POWERCUT_IMAGES");
    size_t images = text ? (size_t)strtoul(text, NULL, 10) / 20 + 20 : 60;
    struct world w;
    uint8_t ca[32], now[32];
    begin(&w);
    size_t start = powercut_pos(w.disk);
    assert_int_equal(open_with(&w, one, 1), 0);
    size_t first = powercut_pos(w.disk);
    serial(w.pki.ca, ca);
    kei_pki_close(&w.pki);
    assert_int_equal(open_with(&w, two, 1), 0);
    kei_pki_close(&w.pki);
    size_t last = powercut_pos(w.disk);
    for (size_t i = 0; i < images; i++) {
        size_t pos = start + i % (last - start + 1);
        struct world v;
        begin_on(&v, powercut_image(w.disk, pos, i));
        (void)kei_folder_make(powercut_io(v.disk), "/d", 0700, NULL);
        if (open_with(&v, two, 1) != 0)
            fail_msg("image %zu at %zu: %s", i, pos, ke_ctx_error(v.env.ctx));
        serial(v.pki.ca, now);
        if (pos >= first)
            assert_memory_equal(now, ca, 32);
        assert_int_equal(
            kei_cert_verify(v.pki.server, v.pki.ca, false, ke_ctx_real_ms(v.env.ctx) / 1000, NULL),
            0);
        end(&v);
    }
    print_message("count: %zu power cuts of the authority\n", images);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_and_renewed),  cmocka_unit_test(damaged),
        cmocka_unit_test(names_are_checked), cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(power_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
