/* SPDX-License-Identifier: Apache-2.0 */
/* Error codes, texts that hold what peers sent, structs of other versions. */
#include "support/support.h"

#include <errno.h>
#include <locale.h>

#include <kubeedge/err.h>

#include "base/log.h"

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(ke_strerror(0), "KE_OK");
    assert_string_equal(ke_strerror(KE_ENOMEM), "KE_ENOMEM");
    assert_string_equal(ke_strerror(KE_ECONFLICT), "KE_ECONFLICT");
    assert_string_equal(ke_strerror(-9999), "KE_E?");
    assert_string_equal(ke_strerror(1), "KE_E?");
    int named = 0;
    for (int c = -500; c <= 0; c++)
        named += strcmp(ke_strerror(c), "KE_E?") != 0;
    assert_int_equal(named, 38); /* all of err.h */
}

static void test_text(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    assert_int_equal(kei_error(&err, KE_EPARSE, "%s at %d", "bad", 7), KE_EPARSE);
    assert_int_equal(err.code, KE_EPARSE);
    assert_string_equal(err.text, "bad at 7");
    assert_int_equal(kei_error(NULL, KE_EIO, "nowhere"), KE_EIO);
    /* an argument may be the text itself */
    kei_error(&err, KE_EIO, "again: %s", err.text);
    assert_string_equal(err.text, "again: bad at 7");
    assert_int_equal(kei_error_prefix(&err, KE_EINVAL, "file %s", "a"), KE_EIO);
    assert_string_equal(err.text, "file a: again: bad at 7");
    assert_int_equal(kei_error_prefix(NULL, KE_EINVAL, "x"), KE_EINVAL);
}

static void test_text_of_peers(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain", "plain"},
        {"two\nlines\ttab\r", "two?lines?tab?"},
        {"esc \x1b[31m del \x7f", "esc ?[31m del ?"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"c1 \xc2\x9b control", "c1 ?? control"},
        {"cut \xe2\x82", "cut ??"},
        {"lone \x80 \xff", "lone ? ?"},
        {"overlong \xc0\xaf \xe0\x80\xaf", "overlong ?? ???"},
        {"surrogate \xed\xa0\x80", "surrogate ???"},
        {"too high \xf4\x90\x80\x80 \xf5", "too high ???? ?"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        kei_error(&err, KE_EPROTO, "%s", rows[i].in);
        assert_string_equal(err.text, rows[i].out);
    }
}

static void test_long_text_is_cut_between_characters(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    char in[2000];
    for (size_t shift = 0; shift < 3; shift++) {
        size_t n = 0;
        while (n < shift)
            in[n++] = 'a';
        while (n + 3 < sizeof in) {
            memcpy(in + n, "\xe2\x82\xac", 3);
            n += 3;
        }
        in[n] = '\0';
        kei_error(&err, KE_EPROTO, "%s", in);
        size_t len = strlen(err.text);
        assert_true(len >= KE_ERROR_TEXT_MAX - 4 && len < KE_ERROR_TEXT_MAX);
        assert_int_equal(len % 3, shift);
        assert_null(strchr(err.text, '?'));
    }
}

/* A caller whose struct is shorter than ours: nothing behind its end is written. */
static void test_shorter_struct(void **state)
{
    (void)state;
    union {
        struct ke_error err;
        unsigned char bytes[sizeof(struct ke_error)];
    } u;
    for (size_t size = 0; size <= 64; size++) {
        memset(&u, 0xee, sizeof u);
        u.err.size = size;
        kei_error(&u.err, KE_EIO, "a text that is longer than the room there is for it, by far");
        kei_error_prefix(&u.err, KE_EIO, "prefix");
        for (size_t i = size > sizeof size ? size : sizeof size; i < sizeof u; i++)
            assert_int_equal(u.bytes[i], 0xee);
        if (size > offsetof(struct ke_error, text))
            assert_non_null(memchr(u.err.text, 0, size - offsetof(struct ke_error, text)));
    }
}

static void test_errno(void **state)
{
    (void)state;
    static const struct {
        int e, code;
    } rows[] = {
        {ENOMEM, KE_ENOMEM},       {ENOENT, KE_ENOTFOUND}, {EEXIST, KE_EEXIST},
        {EACCES, KE_EACCES},       {EPERM, KE_EACCES},     {EROFS, KE_EROFS},
        {ENOSPC, KE_ENOSPC},       {EDQUOT, KE_ENOSPC},    {EIO, KE_EIO},
        {EBUSY, KE_EBUSY},         {EAGAIN, KE_EAGAIN},    {ECONNREFUSED, KE_ECONN},
        {ECONNRESET, KE_ECONN},    {EPIPE, KE_ECLOSED},    {EADDRINUSE, KE_EADDRINUSE},
        {ETIMEDOUT, KE_ETIMEDOUT}, {EMFILE, KE_ESYS},      {12345, KE_ESYS},
    };
    struct ke_error err = KE_ERROR_INIT;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(kei_errno_code(rows[i].e), rows[i].code);
        assert_int_equal(kei_error_errno(&err, rows[i].e, "could not %s", "x"), rows[i].code);
        assert_int_equal(strncmp(err.text, "could not x: ", 13), 0);
        assert_true(strlen(err.text) > 13);
    }
    kei_error_errno(&err, ENOSPC, "write");
    assert_string_equal(err.text, "write: No space left on device");
}

/* ---- structs of other versions ---- */

struct now {
    size_t size;
    uint32_t a, b;
    void *c;
};
#define OLD_SIZE offsetof(struct now, c)

static void test_abi_in(void **state)
{
    (void)state;
    struct now in = {sizeof in, 1, 2, &in}, out;
    struct ke_error err = KE_ERROR_INIT;
    assert_int_equal(kei_abi_in(&out, sizeof out, &in, OLD_SIZE, "struct now", NULL), 0);
    assert_memory_equal(&in, &out, sizeof in);

    in.size = OLD_SIZE; /* an older caller: what it does not know is zero */
    memset(&out, 0xee, sizeof out);
    assert_int_equal(kei_abi_in(&out, sizeof out, &in, OLD_SIZE, "struct now", NULL), 0);
    assert_int_equal(out.size, sizeof out);
    assert_int_equal(out.b, 2);
    assert_null(out.c);

    in.size = OLD_SIZE - 1;
    assert_int_equal(kei_abi_in(&out, sizeof out, &in, OLD_SIZE, "struct now", &err), KE_EABI);
    assert_non_null(strstr(err.text, "struct now"));
    in.size = 0;
    assert_int_equal(kei_abi_in(&out, sizeof out, &in, OLD_SIZE, "struct now", NULL), KE_EABI);
    in.size = SIZE_MAX / 3; /* never initialised: nothing beyond is read */
    assert_int_equal(kei_abi_in(&out, sizeof out, &in, OLD_SIZE, "struct now", NULL), KE_EABI);
    assert_int_equal(kei_abi_in(&out, sizeof out, NULL, OLD_SIZE, "struct now", NULL), KE_EINVAL);

    struct {
        struct now n;
        unsigned char later[16];
    } newer = {{sizeof newer, 1, 2, NULL}, {0}};
    assert_int_equal(kei_abi_in(&out, sizeof out, &newer, OLD_SIZE, "struct now", NULL), 0);
    for (size_t i = 0; i < sizeof newer.later; i++) {
        newer.later[i] = 1;
        assert_int_equal(kei_abi_in(&out, sizeof out, &newer, OLD_SIZE, "struct now", NULL),
                         KE_EABI);
        newer.later[i] = 0;
    }
}

static void test_abi_out(void **state)
{
    (void)state;
    struct now src = {sizeof src, 1, 2, &src};
    unsigned char room[sizeof src + 32];
    struct now *out = (struct now *)(void *)room;
    for (size_t n = 0; n <= sizeof room; n++) {
        memset(room, 0xee, sizeof room);
        int r = kei_abi_out(out, n, &src, sizeof src, OLD_SIZE, "struct now", NULL);
        if (n < OLD_SIZE) {
            assert_int_equal(r, KE_EABI);
            assert_int_equal(room[0], 0xee);
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(out->size, n);
        assert_int_equal(out->b, 2);
        for (size_t i = sizeof src; i < n; i++)
            assert_int_equal(room[i], 0);
        for (size_t i = n; i < sizeof room; i++)
            assert_int_equal(room[i], 0xee);
    }
    assert_int_equal(kei_abi_out(NULL, 100, &src, sizeof src, OLD_SIZE, "x", NULL), KE_EINVAL);
}

/* ---- context and log ---- */

static void test_context_text(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    assert_int_equal(kei_fail(e.ctx, KE_EBUSY, "folder %s was in use", "/a\nb"), KE_EBUSY);
    assert_string_equal(ke_ctx_error(e.ctx), "folder /a?b was in use");
    assert_int_equal(kei_err(e.ctx)->code, KE_EBUSY);
    kei_error(kei_err(e.ctx), KE_EIO, "later");
    assert_string_equal(ke_ctx_error(e.ctx), "later");
    test_env_fini(&e);
}

static void test_log(void **state)
{
    (void)state;
    struct test_env e;
    test_env_init(&e, 0);
    kei_log(e.ctx, KE_LOG_WARN, "area", "%s %d", "a\nb", 5);
    assert_string_equal(e.last_log, "area: a?b 5");
    assert_int_equal(e.log_lines, 1);
    assert_int_equal(kei_log_on(e.ctx, KE_LOG_DEBUG), 1);
    assert_int_equal(kei_log_on(e.ctx, KE_LOG_DEBUG + 1), 0);
    kei_log(e.ctx, KE_LOG_DEBUG + 1, "area", "not passed on");
    assert_int_equal(e.log_lines, 1);
    test_env_fini(&e);

    struct ke_ctx *ctx = NULL; /* without a callback nothing is on */
    assert_int_equal(ke_ctx_new(&ctx, NULL, NULL), 0);
    assert_int_equal(kei_log_on(ctx, KE_LOG_ERROR), 0);
    kei_log(ctx, KE_LOG_ERROR, "area", "nobody hears");
    ke_ctx_free(ctx);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(test_names),          KE_TEST(test_text),
        KE_TEST(test_text_of_peers),  KE_TEST(test_long_text_is_cut_between_characters),
        KE_TEST(test_shorter_struct), KE_TEST(test_errno),
        KE_TEST(test_abi_in),         KE_TEST(test_abi_out),
        KE_TEST(test_context_text),   KE_TEST(test_log),
    };
    setlocale(LC_ALL, "");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
