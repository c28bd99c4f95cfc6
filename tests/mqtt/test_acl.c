/* SPDX-License-Identifier: Apache-2.0 */
/* Access rules: the meaning of mosquitto's acl_file, and the tree against a naive matcher. */
#include "support/support.h"

#include "mqtt/acl.h"

struct fix {
    struct test_alloc mem;
    struct kei_acl acl;
    struct ke_error err;
};

static void fix_init(struct fix *f, const char *text)
{
    test_alloc_init(&f->mem);
    f->err = (struct ke_error)KE_ERROR_INIT;
    kei_acl_init(&f->acl, &f->mem.table, 7);
    if (kei_acl_parse(&f->acl, kei_str(text), "rules.acl", &f->err) < 0)
        fail_msg("%s", f->err.text);
}

static void fix_fini(struct fix *f)
{
    kei_acl_fini(&f->acl);
    assert_int_equal(test_alloc_live(&f->mem), 0);
}

static struct kei_acl_who who_of(const char *client, const char *user)
{
    return (struct kei_acl_who){.client = kei_str(client), .user = kei_str(user)};
}

static bool allows(struct fix *f, const char *client, const char *user, uint32_t access,
                   const char *topic)
{
    struct kei_acl_who who = who_of(client, user);
    const struct kei_acl_set *sets[] = {kei_acl_find(&f->acl, who.user), &f->acl.patterns};
    return kei_acl_allows(sets, 2, &who, access, kei_str(topic));
}

static enum kei_acl_cover cover(struct fix *f, const char *client, const char *user,
                                const char *filter)
{
    struct kei_acl_who who = who_of(client, user);
    const struct kei_acl_set *sets[] = {kei_acl_find(&f->acl, who.user), &f->acl.patterns};
    return kei_acl_covers(sets, 2, &who, KEI_ACL_READ, kei_str(filter));
}

/* what mosquitto 2.0.11 answers to the same file and questions */
static void test_meaning(void **state)
{
    (void)state;
    static const char text[] = "# comment\n"
                               "topic read public/#\n"
                               "topic read $SYS/broker/uptime\r\n"
                               "\n"
                               "user ann\n"
                               "topic a/+/c\n"
                               "topic write only/write\n"
                               "topic deny a/secret/c\n"
                               "  topic readwrite with space/x  \n"
                               "user bob smith\n"
                               "topic readwrite #\n"
                               "user carl\n"
                               "topic deny dev/carl-1/private\n"
                               "topic readwrite a//b\n"
                               "pattern readwrite dev/%c/#\n"
                               "pattern write in/%u/x-%c\n"
                               "pattern deny dev/%c/secret\n"
                               "pattern read fixed/topic\n";
    static const struct {
        const char *client, *user;
        uint32_t access;
        const char *topic;
        bool allowed;
    } cases[] = {
        {"c", NULL, KEI_ACL_READ, "public/x/y", true},
        {"c", NULL, KEI_ACL_READ, "public", true},
        {"c", NULL, KEI_ACL_WRITE, "public/x/y", false},
        {"c", NULL, KEI_ACL_READ, "publicx", false},
        {"c", NULL, KEI_ACL_READ, "$SYS/broker/uptime", true},
        {"c", "ann", KEI_ACL_READ, "public/x", false}, /* the first lines are for the nameless */
        {"c", "ann", KEI_ACL_WRITE, "a/b/c", true},
        {"c", "ann", KEI_ACL_READ, "a//c", true},
        {"c", "ann", KEI_ACL_READ, "a/b/c/d", false},
        {"c", "ann", KEI_ACL_READ, "a/secret/c", false},
        {"c", "ann", KEI_ACL_READ, "only/write", false},
        {"c", "ann", KEI_ACL_WRITE, "only/write", true},
        {"c", "ann", KEI_ACL_WRITE, "with space/x", true},
        {"c", "bob smith", KEI_ACL_WRITE, "any/thing", true},
        {"c", "bob smith", KEI_ACL_READ, "$SYS/x", false}, /* '#' does not reach it */
        {"c", "nobody", KEI_ACL_READ, "public/x", false},
        {"c", NULL, KEI_ACL_WRITE, "dev/c/a/b", true},
        {"c", NULL, KEI_ACL_WRITE, "dev/c", true},
        {"c", NULL, KEI_ACL_WRITE, "dev/d/a", false},
        {"c", NULL, KEI_ACL_READ, "dev/c/secret", false},
        {"c", "bob smith", KEI_ACL_READ, "dev/c/secret", true}, /* its own rules decide first */
        {"c", NULL, KEI_ACL_READ, "fixed/topic", true},
        {"c", NULL, KEI_ACL_WRITE, "in//x-c", false}, /* speaks of a user */
        {"c", "", KEI_ACL_WRITE, "in//x-c", true},
        {"c", "u", KEI_ACL_WRITE, "in/u/x-c", true},
        {"c", "u", KEI_ACL_WRITE, "in/u/x-cc", false},
        {"c", "u", KEI_ACL_WRITE, "in/u/x-", false},
        {"c/d", "u/v", KEI_ACL_WRITE, "in/u/v/x-c/d", true},
        {"+", NULL, KEI_ACL_WRITE, "dev/x/a", false},
        {"#", NULL, KEI_ACL_WRITE, "dev/#/a", false},
        {"c", "u#", KEI_ACL_READ, "fixed/topic", false}, /* such a name gets nothing of patterns */
        {"carl-1", "carl", KEI_ACL_READ, "dev/carl-1/private", false},
        {"carl-1", "carl", KEI_ACL_READ, "dev/carl-1/x", true},
        {"c", "carl", KEI_ACL_READ, "a//b", true},
    };
    struct fix f;
    fix_init(&f, text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (allows(&f, cases[i].client, cases[i].user, cases[i].access, cases[i].topic) !=
            cases[i].allowed)
            fail_msg("%s %s of %s (%s)", cases[i].access == KEI_ACL_READ ? "reading" : "writing",
                     cases[i].topic, cases[i].user ? cases[i].user : "nobody", cases[i].client);
    fix_fini(&f);
}

static void test_covers(void **state)
{
    (void)state;
    static const struct {
        const char *rules, *user, *filter;
        enum kei_acl_cover want;
    } cases[] = {
        {"topic #\n", NULL, "#", KEI_ACL_COVER_ALL},
        {"topic #\n", NULL, "$SYS/#", KEI_ACL_COVER_NONE},
        {"topic $SYS/#\n", NULL, "#", KEI_ACL_COVER_NONE},
        {"topic $SYS/#\n", NULL, "$SYS/a", KEI_ACL_COVER_ALL},
        {"topic write #\n", NULL, "a", KEI_ACL_COVER_NONE},
        {"topic a/#\n", NULL, "a", KEI_ACL_COVER_ALL},
        {"topic a/#\n", NULL, "a/b/#", KEI_ACL_COVER_ALL},
        {"topic a/#\n", NULL, "a/+/c", KEI_ACL_COVER_ALL},
        {"topic a/#\n", NULL, "+/b", KEI_ACL_COVER_SOME},
        {"topic a/#\n", NULL, "#", KEI_ACL_COVER_SOME},
        {"topic a/+\n", NULL, "a/#", KEI_ACL_COVER_SOME},
        {"topic a\n", NULL, "a/#", KEI_ACL_COVER_SOME},
        {"topic a/+/c\n", NULL, "a/b/+", KEI_ACL_COVER_SOME},
        {"topic a/+/c\n", NULL, "a/b/d", KEI_ACL_COVER_NONE},
        {"topic a/+/c\n", NULL, "a/b", KEI_ACL_COVER_NONE},
        {"topic a/b\n", NULL, "a/b/c", KEI_ACL_COVER_NONE},
        {"topic #\ntopic deny test/nosubscribe\n", NULL, "test/nosubscribe", KEI_ACL_COVER_NONE},
        {"topic #\ntopic deny test/nosubscribe\n", NULL, "test/+", KEI_ACL_COVER_SOME},
        {"topic #\ntopic deny test/nosubscribe\n", NULL, "test2/+", KEI_ACL_COVER_ALL},
        {"topic #\ntopic deny test/#\n", NULL, "test/a/+", KEI_ACL_COVER_NONE},
        {"user u\ntopic deny x/#\npattern #\n", "u", "x/y", KEI_ACL_COVER_NONE},
        {"user u\ntopic deny x/a\npattern #\n", "u", "x/+", KEI_ACL_COVER_SOME},
        {"user u\ntopic x/#\npattern deny #\n", "u", "x/y", KEI_ACL_COVER_ALL},
        {"user u\ntopic x/a\npattern deny #\n", "u", "x/+", KEI_ACL_COVER_SOME},
        {"user u\ntopic x/a\npattern deny x/#\npattern read #\n", "u", "y", KEI_ACL_COVER_ALL},
        {"pattern dev/%c/#\n", NULL, "dev/c/+", KEI_ACL_COVER_ALL},
        {"pattern dev/%c/#\n", NULL, "dev/d/+", KEI_ACL_COVER_NONE},
        {"pattern dev/%c/#\n", NULL, "dev/+/x", KEI_ACL_COVER_SOME},
        {"pattern dev/%u/#\n", NULL, "dev/+/x", KEI_ACL_COVER_NONE},
        {"", NULL, "a", KEI_ACL_COVER_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fix f;
        fix_init(&f, cases[i].rules);
        enum kei_acl_cover got = cover(&f, "c", cases[i].user, cases[i].filter);
        if (got != cases[i].want)
            fail_msg("%s under %s: %d, not %d", cases[i].filter, cases[i].rules, (int)got,
                     (int)cases[i].want);
        fix_fini(&f);
    }
    struct fix f;
    fix_init(&f, "pattern dev/%c/#\npattern read all/#\n");
    assert_int_equal(cover(&f, "+", NULL, "dev/x/y"), KEI_ACL_COVER_NONE);
    assert_int_equal(cover(&f, "+", NULL, "all/x"), KEI_ACL_COVER_NONE);
    assert_int_equal(cover(&f, "c", "u#", "all/x"), KEI_ACL_COVER_NONE);
    fix_fini(&f);
}

/* ---- the tree against a matcher that only knows strings ---- */

static uint32_t rnd_state;

static uint32_t rnd(uint32_t n)
{
    rnd_state = rnd_state * 1664525u + 1013904223u;
    return (rnd_state >> 8) % n;
}

/* Levels of both, split; nothing clever. */
static bool naive_match(const char *rule, const char *topic)
{
    if ((rule[0] == '$') != (topic[0] == '$'))
        return false;
    for (;;) {
        if (strcmp(rule, "#") == 0)
            return true;
        size_t rn = strcspn(rule, "/"), tn = strcspn(topic, "/");
        if (!(rn == 1 && rule[0] == '+') && (rn != tn || memcmp(rule, topic, rn) != 0))
            return false;
        rule += rn;
        topic += tn;
        if (!*topic)
            return !*rule || strcmp(rule, "/#") == 0;
        if (!*rule)
            return false;
        rule++;
        topic++;
    }
}

static void random_filter(char *out, bool wild, bool templates)
{
    static const char *const words[] = {"a", "b", "", "cc", "$x"};
    uint32_t levels = 1 + rnd(4);
    out[0] = 0;
    for (uint32_t i = 0; i < levels; i++) {
        uint32_t k = rnd(8);
        if (i)
            strcat(out, "/");
        if (wild && k == 0) {
            strcat(out, "+");
        } else if (wild && k == 1) {
            strcat(out, "#");
            return;
        } else if (templates && k == 2) {
            strcat(out, rnd(2) ? "%c" : "a%u");
        } else {
            strcat(out, words[rnd(5)]);
        }
    }
    if (!out[0])
        strcpy(out, "a");
}

static void expand(char *out, const char *rule, const char *client, const char *user)
{
    char one[2] = "";
    *out = 0;
    for (; *rule; rule++) {
        if (rule[0] == '%' && (rule[1] == 'c' || rule[1] == 'u')) {
            strcat(out, rule[1] == 'c' ? client : user);
            rule++;
        } else {
            one[0] = *rule;
            strcat(out, one);
        }
    }
}

static void test_tree(void **state)
{
    (void)state;
    const char *seed = getenv("KE_SEED");
    rnd_state = seed ? (uint32_t)strtoul(seed, NULL, 10) : 1;
    for (int round = 0; round < 400; round++) {
        struct test_alloc mem;
        struct kei_acl_set s;
        char rules[60][64];
        uint32_t access[60], n = 1 + rnd(60);
        const char *client = rnd(3) ? "b" : "a/b", *user = rnd(3) ? "cc" : "";
        struct kei_acl_who who = who_of(client, user);
        test_alloc_init(&mem);
        kei_acl_set_init(&s, &mem.table);
        for (uint32_t i = 0; i < n; i++) {
            random_filter(rules[i], true, true);
            access[i] = rnd(6) ? 1 + rnd(3) : KEI_ACL_DENY | (1 + rnd(3));
            assert_int_equal(kei_acl_set_add(&s, access[i], kei_str(rules[i]), true, NULL), 0);
        }
        if (n >= 12)
            assert_non_null(s.root);
        for (int k = 0; k < 60; k++) {
            char topic[64], full[256];
            uint32_t want = 1 + rnd(2);
            bool granted = false, denied = false;
            random_filter(topic, false, false);
            for (uint32_t i = 0; i < n; i++) {
                expand(full, rules[i], client, user);
                /* a '$' that a name brings does not count as the rule's */
                if ((rules[i][0] == '$') != (full[0] == '$') || !(access[i] & want) ||
                    !naive_match(full, topic))
                    continue;
                if (access[i] & KEI_ACL_DENY)
                    denied = true;
                else
                    granted = true;
            }
            enum kei_acl_verdict v = denied    ? KEI_ACL_DENIED
                                     : granted ? KEI_ACL_GRANTED
                                               : KEI_ACL_SILENT;
            if (kei_acl_set_check(&s, &who, want, kei_str(topic)) != v ||
                kei_acl_set_scan(&s, &who, want, kei_str(topic)) != v)
                fail_msg("round %d: %s is %d by tree, %d by scan, not %d", round, topic,
                         (int)kei_acl_set_check(&s, &who, want, kei_str(topic)),
                         (int)kei_acl_set_scan(&s, &who, want, kei_str(topic)), (int)v);
        }
        kei_acl_set_fini(&s);
        assert_int_equal(test_alloc_live(&mem), 0);
    }
}

/* What covers says must hold for every topic that a filter matches. */
static void test_covers_property(void **state)
{
    (void)state;
    unsigned seen[3] = {0};
    rnd_state = 99;
    for (int round = 0; round < 3000; round++) {
        struct test_alloc mem;
        struct kei_acl_set s;
        struct kei_acl_who who = who_of("b", "cc");
        const struct kei_acl_set *sets[] = {NULL, &s};
        char filter[64], rule[64];
        test_alloc_init(&mem);
        kei_acl_set_init(&s, &mem.table);
        for (uint32_t n = 1 + rnd(4); n > 0; n--) {
            random_filter(rule, true, true);
            assert_int_equal(kei_acl_set_add(&s,
                                             rnd(4) ? KEI_ACL_READ : KEI_ACL_DENY | KEI_ACL_READ,
                                             kei_str(rule), true, NULL),
                             0);
        }
        random_filter(filter, true, false);
        enum kei_acl_cover c = kei_acl_covers(sets, 2, &who, KEI_ACL_READ, kei_str(filter));
        seen[c]++;
        for (int k = 0; k < 100; k++) {
            char topic[64];
            random_filter(topic, false, false);
            if (!naive_match(filter, topic))
                continue;
            bool ok = kei_acl_allows(sets, 2, &who, KEI_ACL_READ, kei_str(topic));
            if ((c == KEI_ACL_COVER_ALL && !ok) || (c == KEI_ACL_COVER_NONE && ok))
                fail_msg("round %d: %s under %s is %d, cover %d", round, topic, filter, ok, (int)c);
        }
        kei_acl_set_fini(&s);
    }
    assert_true(seen[0] > 100 && seen[1] > 100 && seen[2] > 100);
}

/* ---- bad input ---- */

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"topic read a\nbogus x\n", "rules.acl:2: bogus is not user"},
        {"user\n", "rules.acl:1: no user name"},
        {"user   \n", "rules.acl:1: no user name"},
        {"topic\n", "rules.acl:1: no topic"},
        {"\n\ntopic rea d\n", "rules.acl:3: rea is not read"},
        {"topic a/#/b\n", "level of its own at the end"},
        {"topic a+/b\n", "no level of its own"},
        {"topic a/b#\n", "no level of its own"},
        {"topic write \xff\n", "UTF-8"},
        {" # x\n", "rules.acl:1: # is not user"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fix f;
        fix_init(&f, "");
        assert_int_equal(kei_acl_parse(&f.acl, kei_str(cases[i].text), "rules.acl", &f.err),
                         KE_EPARSE);
        assert_int_equal(f.err.code, KE_EPARSE);
        if (!strstr(f.err.text, cases[i].want))
            fail_msg("%s: %s", cases[i].text, f.err.text);
        fix_fini(&f);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct test_alloc mem;
    struct kei_acl_set s;
    struct ke_error err = KE_ERROR_INIT;
    static char deep[2 * KEI_ACL_LEVELS + 2];
    test_alloc_init(&mem);
    kei_acl_set_init(&s, &mem.table);
    for (size_t i = 0; i < KEI_ACL_LEVELS; i++)
        memcpy(deep + 2 * i, "a/", 2);
    struct ke_str fits = kei_strn(deep, 2 * KEI_ACL_LEVELS - 1);
    for (int i = 0; i < 12; i++)
        assert_int_equal(kei_acl_set_add(&s, KEI_ACL_READ, fits, false, &err), 0);
    assert_non_null(s.root);
    struct kei_acl_who who = who_of("c", NULL);
    assert_int_equal(kei_acl_set_check(&s, &who, KEI_ACL_READ, fits), KEI_ACL_GRANTED);
    assert_int_equal(kei_acl_set_add(&s, KEI_ACL_READ, kei_str(deep), false, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "128"));
    assert_int_equal(kei_acl_set_add(&s, 0, KEI_STR("a"), false, &err), KE_EINVAL);
    assert_int_equal(kei_acl_set_add(&s, KEI_ACL_DENY, KEI_STR("a"), false, &err), KE_EINVAL);
    assert_int_equal(kei_acl_set_add(&s, 16 | KEI_ACL_READ, KEI_STR("a"), false, &err), KE_EINVAL);
    assert_int_equal(kei_acl_set_add(&s, KEI_ACL_READ, KEI_STR(""), false, &err), KE_EINVAL);
    assert_int_equal(s.n, 12);
    kei_acl_set_fini(&s);
    assert_int_equal(test_alloc_live(&mem), 0);
}

/* Every allocation fails once: an error, or a set that answers as it should. */
static void test_no_memory(void **state)
{
    (void)state;
    char text[2000] = "user u\n";
    for (int i = 0; i < 20; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "topic read r%d/+/x\n", i);
    strcat(text, "pattern write w/%c\n");
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        struct test_alloc mem;
        struct kei_acl a;
        struct ke_error err = KE_ERROR_INIT;
        test_alloc_init(&mem);
        kei_acl_init(&a, &mem.table, 1);
        test_alloc_fail_at(&mem, n);
        int r = kei_acl_parse(&a, kei_str(text), "f", &err);
        failed = atomic_load(&mem.failed) > 0;
        assert_true(r == 0 || r == KE_ENOMEM);
        if (r == 0) {
            struct kei_acl_who who = who_of("c", "u");
            const struct kei_acl_set *sets[] = {kei_acl_find(&a, who.user), &a.patterns};
            assert_true(kei_acl_allows(sets, 2, &who, KEI_ACL_READ, KEI_STR("r19/b/x")));
            assert_true(kei_acl_allows(sets, 2, &who, KEI_ACL_WRITE, KEI_STR("w/c")));
            assert_false(kei_acl_allows(sets, 2, &who, KEI_ACL_READ, KEI_STR("r20/b/x")));
        } else {
            assert_true(failed);
        }
        kei_acl_fini(&a);
        assert_int_equal(test_alloc_live(&mem), 0);
        assert_true(n < 1000);
    }
}

/* Thousands of rules: each is found, and nothing beside them. */
static void test_many(void **state)
{
    (void)state;
    struct test_alloc mem;
    struct kei_acl_set s;
    struct kei_acl_who who = who_of("c", "u");
    char t[64];
    test_alloc_init(&mem);
    kei_acl_set_init(&s, &mem.table);
    for (int i = 0; i < 20000; i++) {
        snprintf(t, sizeof t, "site/%d/dev/%d/%s", i % 100, i, i % 3 ? "+" : "%c");
        assert_int_equal(kei_acl_set_add(&s, KEI_ACL_READ, kei_str(t), true, NULL), 0);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(t, sizeof t, "site/%d/dev/%d/c", i % 100, i);
        assert_int_equal(kei_acl_set_check(&s, &who, KEI_ACL_READ, kei_str(t)), KEI_ACL_GRANTED);
        snprintf(t, sizeof t, "site/%d/dev/%d/c", (i + 1) % 100, i);
        assert_int_equal(kei_acl_set_check(&s, &who, KEI_ACL_READ, kei_str(t)), KEI_ACL_SILENT);
    }
    kei_acl_set_fini(&s);
    assert_int_equal(test_alloc_live(&mem), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_meaning),   cmocka_unit_test(test_covers),
        cmocka_unit_test(test_tree),      cmocka_unit_test(test_covers_property),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests_name("acl", tests, NULL, NULL);
}
