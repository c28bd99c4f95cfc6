/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses: literals, names, text, order. */
#include "net/addr.h"
#include "net/http_text.h"
#include "support/support.h"

static void literals(void **state)
{
    static const struct {
        const char *host;
        bool ok;
        const char *text; /* with port 80 */
    } t[] = {
        {"127.0.0.1", true, "127.0.0.1:80"},
        {"0.0.0.0", true, "0.0.0.0:80"},
        {"::1", true, "[::1]:80"},
        {"[::1]", true, "[::1]:80"},
        {"::", true, "[::]:80"},
        {"2001:db8::7", true, "[2001:db8::7]:80"},
        {"[2001:DB8::7]", true, "[2001:db8::7]:80"},
        {"::ffff:10.0.0.1", true, "10.0.0.1:80"},
        {"fe80::1%1", true, "[fe80::1%1]:80"},
        {"[fe80::1%lo]", true, "[fe80::1%1]:80"},
        {"", false, NULL},
        {"[", false, NULL},
        {"[]", false, NULL},
        {"[127.0.0.1]", false, NULL},
        {"[::1", false, NULL},
        {"::1]", false, NULL},
        {"127.1", false, NULL},
        {"127.0.0.256", false, NULL},
        {"0177.0.0.1", false, NULL},
        {"1.2.3.4.5", false, NULL},
        {"1:2:3", false, NULL},
        {":::", false, NULL},
        {"fe80::1%", false, NULL},
        {"fe80::1%no-such-interface", false, NULL},
        {"fe80::1%99999999999", false, NULL},
        {"localhost", false, NULL},
        {"cloud.example", false, NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd", false, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_addr a;
        char text[KEI_ADDR_TEXT];
        if (kei_addr_literal(&a, t[i].host, 80) != t[i].ok)
            fail_msg("\"%s\"", t[i].host);
        if (!t[i].ok)
            continue;
        kei_addr_text(&a, text);
        assert_string_equal(text, t[i].text);
        assert_int_equal(kei_addr_port(&a), 80);
    }
}

static void names(void **state)
{
    char longest[256], label[80];
    static const char *const good[] = {"a",     "cloud",      "cloud.example", "a_b",
                                       "x-1.y", "10.example", "trailing.dot."};
    static const char *const bad[] = {"",    ".",    "a..b", ".a",  "a b",
                                      "a/b", "a\nb", "käse", "a:1", "[::1]"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (!kei_addr_name_ok(good[i]))
            fail_msg("\"%s\"", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (kei_addr_name_ok(bad[i]))
            fail_msg("\"%s\"", bad[i]);
    memset(longest, 'a', sizeof longest);
    for (size_t i = 50; i < 253; i += 51)
        longest[i] = '.';
    longest[253] = '\0';
    assert_true(kei_addr_name_ok(longest));
    longest[253] = 'a';
    longest[254] = '\0';
    assert_false(kei_addr_name_ok(longest));
    memset(label, 'a', sizeof label);
    label[63] = '\0';
    assert_true(kei_addr_name_ok(label));
    label[63] = 'a';
    label[64] = '\0';
    assert_false(kei_addr_name_ok(label));
}

static void unix_paths(void **state)
{
    struct kei_addr a;
    struct ke_error err = KE_ERROR_INIT;
    char path[200], text[KEI_ADDR_TEXT];

    (void)state;
    assert_int_equal(kei_addr_unix(&a, "/run/x.sock", &err), 0);
    kei_addr_text(&a, text);
    assert_string_equal(text, "unix:/run/x.sock");
    kei_addr_ip(&a, text);
    assert_string_equal(text, "");
    assert_int_equal(kei_addr_port(&a), 0);
    assert_int_equal(kei_addr_unix(&a, "", &err), KE_EINVAL);
    memset(path, 'p', sizeof path);
    path[107] = '\0';
    assert_int_equal(kei_addr_unix(&a, path, &err), 0);
    kei_addr_text(&a, text);
    assert_int_equal(strlen(text), 5 + 107);
    path[107] = 'p';
    path[108] = '\0';
    assert_int_equal(kei_addr_unix(&a, path, &err), KE_EINVAL);
    assert_non_null(strstr(err.text, "107"));
    /* the other end of a socketpair has no name */
    memset(&a, 0, sizeof a);
    a.u.any.sa_family = AF_UNIX;
    a.len = sizeof(sa_family_t);
    kei_addr_text(&a, text);
    assert_string_equal(text, "unix:");
}

static void interleaving(void **state)
{
    static const struct {
        const char *in, *out; /* 4: 127.0.0.n, 6: ::n, in the order given */
    } t[] = {
        {"", ""},
        {"4", "4a"},
        {"44", "4a4b"},
        {"64", "6a4b"},
        {"6644", "6a4c6b4d"},
        {"4466", "4a6c4b6d"},
        {"46464", "4a6b4c6d4e"},
        {"66664", "6a4e6b6c6d"},
        {"444666", "4a6d4b6e4c6f"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_addr a[8];
        char got[32] = "";
        size_t n = strlen(t[i].in);
        for (size_t k = 0; k < n; k++) /* the port carries the position */
            assert_true(kei_addr_literal(&a[k], t[i].in[k] == '4' ? "127.0.0.1" : "::1",
                                         (uint16_t)('a' + k)));
        kei_addr_interleave(a, n);
        for (size_t k = 0; k < n; k++) {
            got[2 * k] = a[k].u.any.sa_family == AF_INET ? '4' : '6';
            got[2 * k + 1] = (char)kei_addr_port(&a[k]);
            got[2 * k + 2] = '\0';
        }
        assert_string_equal(got, t[i].out);
    }
}

static void host_headers(void **state)
{
    static const struct {
        const char *host;
        uint16_t port, def;
        const char *line;
    } t[] = {
        {"cloud.example", 10000, 443, "Host: cloud.example:10000\r\n"},
        {"cloud.example", 443, 443, "Host: cloud.example\r\n"},
        {"10.0.0.1", 10002, 443, "Host: 10.0.0.1:10002\r\n"},
        {"::1", 10002, 443, "Host: [::1]:10002\r\n"},
        {"[::1]", 10002, 443, "Host: [::1]:10002\r\n"},
        {"::1", 80, 80, "Host: [::1]\r\n"},
        {"fe80::1%eth0", 81, 80, "Host: [fe80::1]:81\r\n"},
        {NULL, 0, 80, "Host: localhost\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_buf b;
        kei_buf_init(&b, kei_alloc_malloc());
        kei_http_add_host(&b, t[i].host, t[i].port, t[i].def);
        assert_string_equal(b.p, t[i].line);
        ke_buf_free(&b);
    }
}

/* What callers hand in must not be able to end a line or a head of ours. */
static void injected_text(void **state)
{
    static const char *const good_lines[] = {
        NULL, "", "A: b\r\n", "Node_id: n1\r\nX-y: \tz\r\n", "A:\r\n", "A: k\xc3\xa4se\r\n"};
    static const char *const bad_lines[] = {
        "A: b",           "A: b\n",    "\r\n",      "A: b\r\n\r\n", "A b\r\n",     ": b\r\n",
        "A: b\nC: d\r\n", "A : b\r\n", " A: b\r\n", "A: b\rC\r\n",  "A: \x01\r\n", "A(: b\r\n"};
    static const char *const good_targets[] = {"/", "/a/b?c=d", "*", "/e632/n_1/events"};
    static const char *const bad_targets[] = {"", "/a b", "/a\r\n", "/\x7f", "/k\xc3\xa4se"};

    (void)state;
    for (size_t i = 0; i < sizeof good_lines / sizeof good_lines[0]; i++)
        assert_true(kei_http_lines_ok(good_lines[i]));
    for (size_t i = 0; i < sizeof bad_lines / sizeof bad_lines[0]; i++)
        if (kei_http_lines_ok(bad_lines[i]))
            fail_msg("\"%s\"", bad_lines[i]);
    for (size_t i = 0; i < sizeof good_targets / sizeof good_targets[0]; i++)
        assert_true(kei_http_target_ok(good_targets[i]));
    for (size_t i = 0; i < sizeof bad_targets / sizeof bad_targets[0]; i++)
        assert_false(kei_http_target_ok(bad_targets[i]));
    assert_false(kei_http_target_ok(NULL));
    assert_true(kei_http_lines_have("A: b\r\nuser-agent: x\r\n", "User-Agent"));
    assert_false(kei_http_lines_have("A: User-Agent\r\n", "User-Agent"));
    assert_false(kei_http_lines_have(NULL, "User-Agent"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(literals),     KE_TEST(names),        KE_TEST(unix_paths),
        KE_TEST(interleaving), KE_TEST(host_headers), KE_TEST(injected_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
