/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions, rules, and data processing of devices from the configuration to the topic. */
#include "harness.h"

#include "base/buf.h"
#include "base/json.h"
#include "device/expr.h"
#include "device/process.h"

/* ---- expressions ---- */

static int32_t abc(void *user, struct ke_str name)
{
    (void)user;
    if (kei_str_is(name, "with space-and-minus"))
        return 3;
    return name.n == 1 && name.p[0] >= 'a' && name.p[0] <= 'd' ? name.p[0] - 'a' : -1;
}

static bool abc_value(void *user, uint32_t index, double *ret)
{
    static const double v[] = {2, 3, -4};
    (void)user;
    if (index >= 3)
        return false;
    *ret = v[index];
    return true;
}

static void expressions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        double want;
    } t[] = {
        {"1", true, 1},
        {"1+2*3", true, 7},
        {"(1+2)*3", true, 9},
        {"8/4/2", true, 1},
        {"10-4-3", true, 3},
        {"-a", true, -2},
        {"2*-a", true, -4},
        {"-2*-3", true, 6},
        {"--a", true, 2},
        {"-a+b", true, 1},
        {"-a<b", true, 1},
        {"a*b+c", true, 2},
        {"a<b", true, 1},
        {"a>=b", true, 0},
        {"a+1==b", true, 1},
        {"a!=a", true, 0},
        {"1+1<3", true, 1},
        {"min(a,b,c)", true, -4},
        {"max(a, b, c)", true, 3},
        {"max(a)", true, 2},
        {"abs(c)+abs(-1)", true, 5},
        {"min(max(a,b),abs(c)) * 2", true, 6},
        {"1e3 + .5", true, 1000.5},
        {"(((((a)))))", true, 2},
        {"a/0", false, 0},
        {"1e308*10", false, 0},
        {"d", false, 0},
        {"'with space-and-minus' + 1", false, 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_expr *e = NULL;
        struct ke_error err = KE_ERROR_INIT;
        double v = -99;
        if (kei_expr_compile(&e, kei_str(t[i].text), abc, NULL, kei_alloc_malloc(), &err) < 0)
            fail_msg("%s: %s", t[i].text, err.text);
        bool ok = kei_expr_eval(e, abc_value, NULL, &v);
        if (ok != t[i].ok || (ok && v != t[i].want))
            fail_msg("%s: %d %g", t[i].text, ok, v);
        kei_expr_free(e, kei_alloc_malloc());
    }
}

static void bad_expressions(void **state)
{
    (void)state;
    static const char *const t[] = {"",       "1+",     "*1",  "(1",    "1)",       "a b",
                                    "min()",  "min(1,", "1,2", "(1,2)", "abs(1,2)", "x",
                                    "foo(1)", "1 2",    "a=b", "1..2",  "'a",       "a&b",
                                    "''",     "min",    "1e",  "(",     "a+*b"};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_expr *e = NULL;
        struct ke_error err = KE_ERROR_INIT;
        int r = kei_expr_compile(&e, kei_str(t[i]), abc, NULL, kei_alloc_malloc(), &err);
        if (!strcmp(t[i], "'a")) { /* a name that is not closed ends with the text */
            assert_int_equal(r, 0);
            kei_expr_free(e, kei_alloc_malloc());
        } else if (r != KE_EPARSE || !strstr(err.text, "at character")) {
            fail_msg("%s: %d %s", t[i], r, err.text);
        }
    }
    /* depth and length are bounded, whatever they are made of */
    static const char *const parts[] = {"(", "-", "min(", "1+", "a*(", "max(1,"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct ke_buf b;
        struct kei_expr *e = NULL;
        kei_buf_init(&b, kei_alloc_malloc());
        for (size_t k = 0; b.n + 8 < KEI_EXPR_TEXT_MAX; k++)
            kei_buf_adds(&b, parts[i]);
        assert_int_equal(kei_expr_compile(&e, kei_buf_str(&b), abc, NULL, kei_alloc_malloc(), NULL),
                         KE_ELIMIT);
        for (size_t k = 0; k < 8; k++)
            kei_buf_adds(&b, "1");
        kei_buf_adds(&b, "                ");
        assert_int_equal(kei_expr_compile(&e, kei_buf_str(&b), abc, NULL, kei_alloc_malloc(), NULL),
                         KE_ELIMIT);
        ke_buf_free(&b);
    }
}

/* ---- rules ---- */

struct got {
    int n;
    double value[32];
    char name[32], level[16];
    uint64_t count;
    bool incomplete;
};

static double values[4];

static bool rule_value(void *user, uint32_t index, double *ret)
{
    (void)user;
    *ret = values[index];
    return true;
}

static void on_result(void *user, const struct process_result *r)
{
    struct got *g = user;
    assert_true(g->n < 32);
    g->value[g->n++] = r->value;
    g->count = r->count;
    g->incomplete = r->incomplete;
    snprintf(g->name, sizeof g->name, "%s", r->name);
    snprintf(g->level, sizeof g->level, "%s", r->level ? r->level : "-");
}

static struct process *rules(const char *json)
{
    struct process *p = NULL;
    struct ke_error err = KE_ERROR_INIT;
    if (kei_rules_new(&p, kei_str(json), 64, abc, NULL, 4, kei_alloc_malloc(), &err) < 0)
        fail_msg("%s", err.text);
    return p;
}

/* a has a value at that time */
static void feed(struct process *p, struct got *g, int64_t ms, double v)
{
    values[0] = v;
    kei_rules_touch(p, 0);
    kei_rules_run(p, ms, rule_value, NULL, on_result, g);
}

#define RULE(rest) "[{\"name\":\"r\",\"property\":\"a\",\"topic\":\"t\"" rest "}]"

static void aggregates(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double want;
    } t[] = {{"mean", 4}, {"min", 1}, {"max", 9}, {"last", 2}, {"count", 3}, {"rate", 0.25}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char json[200];
        struct got g = {0};
        snprintf(json, sizeof json, RULE(",\"window\":{\"ms\":10000,\"aggregate\":\"%s\"}"),
                 t[i].name);
        struct process *p = rules(json);
        assert_true(kei_rules_due(p) == INT64_MAX);
        feed(p, &g, 1000, 1);
        feed(p, &g, 3000, 9);
        feed(p, &g, 5000, 2);
        assert_int_equal(g.n, 0);
        assert_int_equal(kei_rules_due(p), 11000);
        kei_rules_tick(p, 10999, on_result, &g);
        assert_int_equal(g.n, 0);
        kei_rules_tick(p, 11000, on_result, &g);
        assert_int_equal(g.n, 1);
        assert_int_equal(g.count, 3);
        if (g.value[0] != t[i].want)
            fail_msg("%s: %g", t[i].name, g.value[0]);
        /* the next window opens with the next value, and ends before a value that comes late */
        feed(p, &g, 20000, 5);
        feed(p, &g, 40000, 6);
        assert_int_equal(g.n, i == 5 ? 1 : 2); /* no rate of one value */
        kei_rules_free(p);
    }
    struct got g = {0};
    struct process *p = rules(RULE(",\"window\":{\"count\":2}"));
    for (int i = 0; i < 5; i++)
        feed(p, &g, i, i);
    assert_int_equal(g.n, 2);
    assert_true(g.value[0] == 0.5 && g.value[1] == 2.5);
    kei_rules_free(p);
}

static void filters_changes_thresholds(void **state)
{
    (void)state;
    struct got g = {0};
    struct process *p = rules(RULE(",\"filter\":{\"min\":0,\"max\":50,\"expr\":\"a != 7\"}"));
    static const double in[] = {-1, 5, 7, 51, 50};
    for (size_t i = 0; i < 5; i++)
        feed(p, &g, (int64_t)i, in[i]);
    assert_int_equal(g.n, 2);
    assert_true(g.value[0] == 5 && g.value[1] == 50);
    kei_rules_free(p);

    memset(&g, 0, sizeof g);
    p = rules(RULE(",\"change\":{\"by\":1}"));
    static const double change[] = {5, 5.5, 6, 6.1, 7, 4};
    for (size_t i = 0; i < 6; i++)
        feed(p, &g, (int64_t)i, change[i]);
    assert_int_equal(g.n, 3); /* 5, 6.1, 4 */
    assert_true(g.value[1] == 6.1 && g.value[2] == 4);
    kei_rules_free(p);

    memset(&g, 0, sizeof g);
    p = rules(RULE(",\"threshold\":{\"above\":80,\"below\":10,\"hysteresis\":5}"));
    static const struct {
        double v;
        int n;
        const char *level;
    } t[] = {{20, 0, ""},       {81, 1, "above"},  {79, 1, "above"}, {76, 1, "above"},
             {75, 2, "normal"}, {79, 2, "normal"}, {9, 3, "below"},  {14, 3, "below"},
             {15, 4, "normal"}, {90, 5, "above"},  {5, 6, "below"}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        feed(p, &g, (int64_t)i, t[i].v);
        if (g.n != t[i].n || strcmp(g.level, t[i].level) != 0)
            fail_msg("%g: %d %s", t[i].v, g.n, g.level);
    }
    kei_rules_free(p);
}

static void derived_values(void **state)
{
    (void)state;
    struct got g = {0};
    struct process *p = rules("{\"rules\":[{\"name\":\"sum\",\"expr\":\"a + b\",\"to\":\"twin\"},"
                              "{\"name\":\"twice\",\"expr\":\"sum * 2\",\"to\":\"twin\"}]}");
    values[1] = 10;
    feed(p, &g, 1, 5);
    assert_int_equal(g.n, 2);
    assert_true(g.value[0] == 15 && g.value[1] == 30);
    assert_string_equal(g.name, "twice");
    /* both in one batch: one result */
    kei_rules_touch(p, 0);
    kei_rules_touch(p, 1);
    kei_rules_run(p, 2, rule_value, NULL, on_result, &g);
    assert_int_equal(g.n, 4);
    kei_rules_touch(p, 2); /* one nobody uses */
    kei_rules_run(p, 3, rule_value, NULL, on_result, &g);
    assert_int_equal(g.n, 4);
    kei_rules_free(p);
}

static void bad_rules(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
    } t[] = {
        {"5", "no list of rules"},
        {"[", "malformed"},
        {"[5]", "rule 0 of data processing: it is no object"},
        {"[{}]", "name is missing"},
        {"[{\"name\":\"r\"}]", "rule r of data processing: one of property and expr"},
        {"[{\"name\":\"r\",\"property\":\"zz\",\"topic\":\"t\"}]", "no such property"},
        {"[{\"name\":\"r\",\"property\":\"a'+'b\",\"topic\":\"t\"}]", "no such property"},
        {"[{\"name\":\"r\",\"expr\":\"a+\",\"topic\":\"t\"}]", "a value was expected"},
        {"[{\"name\":\"r\",\"expr\":\"r+1\",\"topic\":\"t\"}]", "an unknown name"},
        {"[{\"name\":\"r\",\"property\":\"a\"}]", "topic is missing"},
        {"[{\"name\":\"r\",\"property\":\"a\",\"topic\":\"a/#\"}]", "wildcard"},
        {RULE(",\"to\":\"mars\""), "to is none of"},
        {RULE(",\"window\":5"), "window is no object"},
        {RULE(",\"window\":{}"), "either ms or count"},
        {RULE(",\"window\":{\"ms\":0}"), "either ms or count"},
        {RULE(",\"window\":{\"ms\":5,\"count\":5}"), "either ms or count"},
        {RULE(",\"window\":{\"ms\":5,\"aggregate\":\"sum\"}"), "aggregate is none of"},
        {RULE(",\"filter\":{}"), "filter needs"},
        {RULE(",\"filter\":{\"min\":\"x\"}"), "min is no number"},
        {RULE(",\"threshold\":{}"), "threshold needs"},
        {RULE(",\"threshold\":{\"above\":1,\"below\":2}"), "threshold needs"},
        {"[{\"name\":\"r\",\"property\":\"a\",\"topic\":\"t\"},{\"name\":\"r\",\"property\":\"a\","
         "\"topic\":\"t\"}]",
         "another one has that name"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct process *p = NULL;
        struct ke_error err = KE_ERROR_INIT;
        int r = kei_rules_new(&p, kei_str(t[i].json), 64, abc, NULL, 4, kei_alloc_malloc(), &err);
        if (r != KE_EPARSE || !strstr(err.text, t[i].text))
            fail_msg("%s: %d %s", t[i].json, r, err.text);
    }
    struct process *p = NULL;
    assert_int_equal(
        kei_rules_new(&p, kei_str(RULE("")), 0, abc, NULL, 4, kei_alloc_malloc(), NULL), KE_ELIMIT);
}

static void state_is_kept(void **state)
{
    (void)state;
    struct got g = {0};
    struct ke_buf b;
    const char *json = RULE(",\"window\":{\"ms\":10000},\"threshold\":{\"above\":3}");
    struct process *p = rules(json), *q = rules(json);
    kei_buf_init(&b, kei_alloc_malloc());
    feed(p, &g, 50000, 2);
    feed(p, &g, 53000, 0.1);
    assert_true(kei_rules_dirty(p));
    kei_rules_save(p, 54000, true, &b); /* 4 s of its 10 are over */
    assert_false(kei_rules_dirty(p));
    kei_rules_restore(q, 100, kei_buf_str(&b));
    assert_int_equal(kei_rules_due(q), 100 - 4000 + 10000);
    feed(q, &g, 2000, 9);
    kei_rules_tick(q, 6100, on_result, &g);
    assert_int_equal(g.n, 1);
    assert_true(g.value[0] == (2 + 0.1 + 9) / 3);
    assert_string_equal(g.level, "above");
    assert_false(g.incomplete);
    /* of another rule nothing is taken */
    struct process *other = rules(RULE(",\"window\":{\"ms\":20000}"));
    kei_rules_restore(other, 100, kei_buf_str(&b));
    assert_true(kei_rules_due(other) == INT64_MAX);
    kei_rules_restore(q, 0, KEI_STR("{\"r\":{\"rule\":5,\"n\":-1}}"));
    ke_buf_free(&b);
    kei_rules_free(p);
    kei_rules_free(q);
    kei_rules_free(other);
}

/* Stored while values went on: what came after it may be missing, and that is said. */
static void an_incomplete_window(void **state)
{
    (void)state;
    struct got g = {0};
    struct ke_buf b;
    struct process *p = rules(RULE(",\"window\":{\"ms\":10000}"));
    kei_buf_init(&b, kei_alloc_malloc());
    feed(p, &g, 50000, 1);
    kei_rules_save(p, 55000, false, &b);
    kei_rules_restore(p, 0, kei_buf_str(&b));
    kei_buf_clear(&b);
    kei_rules_save(p, 100, true, &b); /* it stays so over an orderly end */
    kei_rules_restore(p, 0, kei_buf_str(&b));
    kei_rules_tick(p, 20000, on_result, &g);
    assert_int_equal(g.n, 1);
    assert_true(g.incomplete);
    feed(p, &g, 30000, 9); /* the next window is whole */
    kei_rules_tick(p, 40000, on_result, &g);
    assert_int_equal(g.n, 2);
    assert_false(g.incomplete);
    ke_buf_free(&b);
    kei_rules_free(p);
}

/* ---- in the harness ---- */

static struct hrig rig, *r = &rig;
static struct seen seen;

static int setup(void **state)
{
    (void)state;
    hrig_init(r);
    r->no_subscribe = true;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hrig_fini(r);
    return 0;
}

#define NOTED(rules)                                                                               \
    "{\"kind\":\"Device\",\"metadata\":{\"name\":\"a\",\"annotations\":{"                          \
    "\"libkubeedge.io/process\":\"" rules "\"}},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},"    \
    "\"protocol\":{\"protocolName\":\"fake\"},\"properties\":[{\"name\":\"t\",\"collectCycle\":"   \
    "1000}]}}"
#define MEAN                                                                                       \
    "[{\\\"name\\\":\\\"mean\\\",\\\"property\\\":\\\"t\\\",\\\"window\\\":{\\\"ms\\\":10000},"    \
    "\\\"topic\\\":\\\"plant/mean\\\"}]"

static void from_the_annotation_to_the_topic(void **state)
{
    (void)state;
    hrig_start(r);
    hrig_put(r, MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    fake(r, "a")->regs[0] = 4;
    hrig_put(r, NOTED(MEAN));
    test_drive_ms(&r->env, 5000);
    fake(r, "a")->regs[0] = 6;
    test_drive_ms(&r->env, 5100);
    assert_int_equal(r->published, 1);
    assert_string_equal(r->topic, "plant/mean");
    assert_non_null(
        strstr(r->payload, "{\"device\":\"default/a\",\"name\":\"mean\",\"timestamp\":"));
    assert_non_null(strstr(r->payload, "\"aggregate\":\"mean\""));
    assert_non_null(strstr(r->payload, "\"window_ms\":10000}"));
    assert_int_equal(r->updates, 0);
    /* rules that are wrong are told, the device works */
    hrig_put(r, NOTED("[{}]"));
    test_drive_ms(&r->env, 100);
    hrig_see(r, "a", &seen);
    assert_non_null(strstr(seen.s.error, "name is missing"));
    assert_int_equal(seen.s.state, KE_DEVICE_ONLINE);
}

static void windows_survive_a_restart(void **state)
{
    (void)state;
    hrig_keep(r, "o/device", "default/a", NOTED(MEAN));
    hrig_keep(r, "o/devicemodel", "default/m", MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    hrig_start(r);
    fake(r, "a")->regs[0] = 100;
    test_drive_ms(&r->env, 6000);
    hrig_stop(r);
    hrig_start(r);
    fake(r, "a")->regs[0] = 0;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->published, 0);
    test_drive_ms(&r->env, 1500); /* ten seconds in all */
    assert_int_equal(r->published, 1);
    const char *v = strstr(r->payload, "\"value\":\"");
    assert_non_null(v);
    double mean = strtod(v + 9, NULL);
    assert_true(mean > 30 && mean < 80); /* of both lives */
}

/* A copy of what is stored at a moment, as after kill -9. */
struct kept {
    char key[8][64], value[8][2000];
    uint32_t n;
    bool done;
};

static void on_kept(void *user, int status, const struct ke_store_item *item)
{
    struct kept *k = user;
    (void)status;
    if (!item) {
        k->done = true;
        return;
    }
    assert_true(k->n < 8 && item->len < sizeof k->value[0]);
    snprintf(k->key[k->n], sizeof k->key[0], "%s", item->key);
    snprintf(k->value[k->n++], sizeof k->value[0], "%.*s", (int)item->len,
             (const char *)item->value);
}

static bool kept_done(void *arg)
{
    return ((struct kept *)arg)->done;
}

static void crash(struct kept *k)
{
    memset(k, 0, sizeof *k);
    assert_int_equal(ke_store_list(r->store, "device", NULL, 0, on_kept, k), 0);
    assert_true(test_drive(&r->env, kept_done, k));
    hrig_stop(r); /* stores more than a crash would: */
    struct ke_store_tx *tx;
    assert_int_equal(ke_store_begin(&tx, r->store), 0);
    assert_int_equal(ke_store_delete(tx, "device", "process/default/a", NULL), 0);
    assert_int_equal(ke_store_delete(tx, "device", "results/default/a", NULL), 0);
    assert_int_equal(ke_store_commit(tx, NULL, NULL), 0);
    for (uint32_t i = 0; i < k->n; i++)
        hrig_keep(r, "device", k->key[i], k->value[i]);
}

static void windows_survive_a_crash(void **state)
{
    (void)state;
    struct kept k;
    hrig_keep(r, "o/device", "default/a", NOTED(MEAN));
    hrig_keep(r, "o/devicemodel", "default/m", MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    hrig_start(r);
    fake(r, "a")->regs[0] = 100;
    test_drive_ms(&r->env, 6000);
    crash(&k);
    hrig_start(r);
    fake(r, "a")->regs[0] = 0;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->published, 0);
    test_drive_ms(&r->env, 3000); /* ten seconds in all, and at most one that was lost */
    assert_int_equal(r->published, 1);
    assert_non_null(strstr(r->payload, "\"window_ms\":10000,\"incomplete\":true}"));
    const char *v = strstr(r->payload, "\"value\":\"");
    assert_non_null(v);
    double mean = strtod(v + 9, NULL);
    assert_true(mean > 30 && mean < 80); /* of both lives */
    test_drive_ms(&r->env, 11000);
    assert_int_equal(r->published, 2);
    assert_null(strstr(r->payload, "incomplete"));
}

#define ALARM                                                                                      \
    "[{\\\"name\\\":\\\"f\\\",\\\"expr\\\":\\\"t * 2\\\",\\\"change\\\":{},\\\"to\\\":\\\"twin\\\"},"  \
    "{\\\"name\\\":\\\"hot\\\",\\\"property\\\":\\\"t\\\",\\\"threshold\\\":{\\\"above\\\":50},"       \
    "\\\"to\\\":\\\"cloud\\\",\\\"topic\\\":\\\"default/alarm\\\"}]"

/* Nobody takes them: they are kept, also over a crash, and told when somebody does. */
static void results_are_kept_until_taken(void **state)
{
    (void)state;
    struct kept k;
    hrig_keep(r, "o/device", "default/a", NOTED(ALARM));
    hrig_keep(r, "o/devicemodel", "default/m", MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    r->twin_silent = true;
    ke_module_remove(r->cloud);
    r->cloud = NULL;
    hrig_start(r);
    fake(r, "a")->regs[0] = 60;
    test_drive_ms(&r->env, 5000);
    hrig_see(r, "a", &seen);
    assert_non_null(strstr(seen.s.error, "result hot waits"));
    crash(&k);
    hrig_cloud(r);
    r->twin_silent = false;
    r->updates = 0;
    hrig_start(r); /* the value does not change: nothing crosses the threshold again */
    fake(r, "a")->regs[0] = 60;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->uploaded, 1);
    assert_non_null(strstr(r->upload, "\"state\":\"above\""));
    assert_int_equal(r->updates, 1);
    assert_non_null(strstr(r->update, "\"f\":{\"actual\":{\"value\":\"120\"}"));
    /* once, however often it is stored */
    test_drive_ms(&r->env, 20000);
    crash(&k);
    for (uint32_t i = 0; i < k.n; i++)
        assert_null(strstr(k.key[i], "results/"));
    hrig_start(r);
    fake(r, "a")->regs[0] = 60;
    test_drive_ms(&r->env, 20000);
    assert_int_equal(r->uploaded, 1);
    assert_int_equal(r->updates, 1);
}

/* Just handed over: whether the outbox has stored it is not known, so it comes once more. */
static void a_crash_right_after_a_result(void **state)
{
    (void)state;
    struct kept k;
    hrig_keep(r, "o/device", "default/a", NOTED(ALARM));
    hrig_keep(r, "o/devicemodel", "default/m", MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    hrig_start(r);
    fake(r, "a")->regs[0] = 10;
    test_drive_ms(&r->env, 5000);
    fake(r, "a")->regs[0] = 60;
    while (r->uploaded == 0)
        test_drive_ms(&r->env, 10);
    crash(&k);
    hrig_start(r);
    fake(r, "a")->regs[0] = 60;
    test_drive_ms(&r->env, 1200);
    assert_int_equal(r->uploaded, 2);
    /* and the other moment: stored as crossed, and as handed over */
    test_drive_ms(&r->env, 10000);
    fake(r, "a")->regs[0] = 10;
    while (r->uploaded == 2)
        test_drive_ms(&r->env, 10);
    test_drive_ms(&r->env, 1100);
    crash(&k);
    hrig_start(r);
    fake(r, "a")->regs[0] = 10;
    test_drive_ms(&r->env, 10000);
    assert_int_equal(r->uploaded, 4);
}

static void results_are_bounded(void **state)
{
    (void)state;
    static const char json[] = "[{\"name\":\"c\",\"property\":\"t\",\"to\":\"cloud\",\"topic\":\"x\"},"
                               "{\"name\":\"w\",\"property\":\"t\",\"to\":\"twin\"}]";
    ke_module_remove(r->cloud);
    r->cloud = NULL;
    r->refuse = "\"w\"";
    r->refuse_text = "\"the device default/a is not existed\"";
    hrig_start(r);
    hrig_put(r, MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    hrig_put(r, DEVICE("a", "{\"name\":\"t\",\"collectCycle\":1000}"));
    assert_int_equal(ke_devices_process(r->d, NULL, "a", json, sizeof json - 1), 0);
    for (int i = 0; i < 200; i++) {
        fake(r, "a")->regs[0] = i;
        test_drive_ms(&r->env, 1000);
    }
    hrig_see(r, "a", &seen);
    assert_non_null(strstr(seen.s.error, "result"));
    assert_in_range(r->refusals, 100, 220); /* one at a time, the newest */
    assert_non_null(strstr(r->update, "\"199\""));
    hrig_cloud(r);
    test_drive_ms(&r->env, 1100);
    assert_in_range(r->uploaded, 62, 66);
    /* one that the twin does not want at all is not told again */
    r->refuse_text = NULL;
    test_drive_ms(&r->env, 3000);
    hrig_see(r, "a", &seen);
    assert_string_equal(seen.s.error, "result w was refused by the twin: the value is not int");
}

static void by_the_host_to_twin_and_cloud(void **state)
{
    (void)state;
    static const char json[] =
        "[{\"name\":\"fahrenheit\",\"expr\":\"t * 1.8 + 32\",\"change\":{},\"to\":\"twin\"},"
        "{\"name\":\"hot\",\"property\":\"t\",\"threshold\":{\"above\":50},\"to\":\"cloud\","
        "\"topic\":\"default/alarm\"}]";
    hrig_start(r);
    hrig_put(r, MODEL(MP("t", "DOUBLE", "ReadOnly", "")));
    hrig_put(r, DEVICE("a", "{\"name\":\"t\",\"collectCycle\":1000}"));
    assert_int_equal(ke_devices_process(r->d, NULL, "b", json, sizeof json - 1), KE_ENOTFOUND);
    assert_int_equal(ke_devices_process(r->d, NULL, "a", "[{}]", 4), KE_EPARSE);
    assert_int_equal(ke_devices_process(r->d, NULL, "a", json, sizeof json - 1), 0);
    fake(r, "a")->regs[0] = 20;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->updates, 1);
    assert_non_null(strstr(r->update, "\"fahrenheit\":{\"actual\":{\"value\":\"68\"}"));
    assert_int_equal(r->uploaded, 0);
    fake(r, "a")->regs[0] = 51;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->uploaded, 1);
    assert_string_equal(r->upload_topic, "default/alarm");
    assert_non_null(strstr(r->upload, "\"state\":\"above\""));
    assert_int_equal(ke_devices_process(r->d, NULL, "a", NULL, 0), 0);
    fake(r, "a")->regs[0] = 20;
    test_drive_ms(&r->env, 3000);
    assert_int_equal(r->uploaded, 1);
}

#define ALPHA(topic)                                                                               \
    "{\"apiVersion\":\"devices.kubeedge.io/v1alpha2\",\"kind\":\"Device\",\"metadata\":{\"name\":" \
    "\"a\"},\"spec\":{\"deviceModelRef\":{\"name\":\"m\"},\"protocol\":{\"customizedProtocol\":{"  \
    "\"protocolName\":\"fake\"}},\"propertyVisitors\":[{\"propertyName\":\"t\","                   \
    "\"customizedProtocol\":{\"protocolName\":\"fake\"},\"collectCycle\":2000000000}],\"data\":{"  \
    "\"dataProperties\":[{\"propertyName\":\"t\",\"metadata\":{\"type\":\"float\"}}]" topic "}}}"

static void the_data_section(void **state)
{
    (void)state;
    hrig_start(r);
    hrig_put(r, "{\"kind\":\"DeviceModel\",\"metadata\":{\"name\":\"m\"},\"spec\":{\"properties\":["
                "{\"name\":\"t\",\"type\":{\"float\":{\"accessMode\":\"ReadOnly\"}}}]}}");
    fake(r, "a")->regs[0] = 21.5;
    hrig_put(r, ALPHA(",\"dataTopic\":\"$ke/events/device/+/data/update\""));
    test_drive_ms(&r->env, 5900);
    assert_in_range(r->published, 3, 4);
    assert_string_equal(r->topic, "$ke/events/device/a/data/update");
    struct ke_str v, value, type, stamp;
    int64_t ms;
    assert_int_equal(kei_json_value(kei_str(r->payload), 0, &v, NULL), 0);
    assert_true(kei_json_path(v, "data.t.value", &value) && kei_json_str_is(value, "21.5"));
    assert_true(kei_json_path(v, "data.t.metadata.type", &type) && kei_json_str_is(type, "float"));
    assert_true(kei_json_path(v, "data.t.metadata.timestamp", &stamp) && kei_json_i64(stamp, &ms));
    assert_int_equal(r->updates, 0); /* the data plane only */
    hrig_put(r, ALPHA(",\"dataTopic\":\"my/topic\""));
    test_drive_ms(&r->env, 3000);
    assert_string_equal(r->topic, "my/topic");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions),
        cmocka_unit_test(bad_expressions),
        cmocka_unit_test(aggregates),
        cmocka_unit_test(filters_changes_thresholds),
        cmocka_unit_test(derived_values),
        cmocka_unit_test(bad_rules),
        cmocka_unit_test(state_is_kept),
        cmocka_unit_test(an_incomplete_window),
        T(from_the_annotation_to_the_topic),
        T(windows_survive_a_restart),
        T(windows_survive_a_crash),
        T(results_are_kept_until_taken),
        T(a_crash_right_after_a_result),
        T(results_are_bounded),
        T(by_the_host_to_twin_and_cloud),
        T(the_data_section),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
