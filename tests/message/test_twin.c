/* SPDX-License-Identifier: Apache-2.0 */
/* Twins without a node: payloads, values, updates, versions, rows. */
#include "support/support.h"

#include "base/json.h"
#include "message/twin.h"

#define NOW INT64_C(1600000001005)
#define T(name, rest) "\"" name "\":{" rest "}"

struct fixture {
    struct test_alloc mem;
    const struct ke_alloc *al;
    struct kei_arena a;
    struct kei_twin_device d;
    struct kei_twin_rules rules;
    struct kei_twin_outcome o;
    struct ke_buf out;
};

static void begin(struct fixture *f, uint32_t dialect)
{
    memset(f, 0, sizeof *f);
    test_alloc_init(&f->mem);
    f->al = &f->mem.table;
    kei_arena_init(&f->a, f->al, 0);
    kei_twin_rules_default(&f->rules);
    f->rules.dialect = dialect;
    f->rules.now_ms = NOW;
    assert_int_equal(kei_twin_device_init(&f->d, f->al, KEI_STR(""), KEI_STR("thermo-01"), NULL),
                     0);
    kei_buf_init(&f->out, f->al);
}

static void end(struct fixture *f)
{
    kei_twin_outcome_free(&f->o, f->al);
    kei_twin_device_fini(&f->d, f->al);
    ke_buf_free(&f->out);
    kei_arena_free(&f->a);
    assert_int_equal(test_alloc_live(&f->mem), 0);
}

/* {"twin":{ENTRIES}}; the outcome is in f->o */
static void update(struct fixture *f, enum kei_twin_mode mode, const char *entries)
{
    struct kei_twin_payload p;
    struct ke_error err = KE_ERROR_INIT;
    char *text =
        kei_arena_printf(&f->a, "{\"event_id\":\"e\",\"timestamp\":1,\"twin\":{%s}}", entries);

    if (kei_twin_read(&p, kei_str(text), KEI_TWIN_READ_TWINS, &f->a, &err) < 0)
        fail_msg("%s: %s", text, err.text);
    kei_twin_outcome_free(&f->o, f->al);
    assert_int_equal(
        kei_twin_update(&f->o, &f->d, p.twins, p.n_twins, mode, &f->rules, f->al, &f->a, NULL), 0);
}

static const struct kei_twin_base base = {{"e", 1}, NOW};

static const char *text(struct fixture *f)
{
    assert_true(kei_buf_ok(&f->out));
    return f->out.p ? f->out.p : "";
}

static const char *get(struct fixture *f)
{
    kei_buf_clear(&f->out);
    kei_twin_write_get(&f->out, &base, &f->d);
    return text(f);
}

static const char *document(struct fixture *f)
{
    kei_buf_clear(&f->out);
    kei_twin_write_document(&f->out, &base, &f->o);
    return text(f);
}

static const char *result(struct fixture *f)
{
    kei_buf_clear(&f->out);
    kei_twin_write_result(&f->out, &base, &f->o);
    return text(f);
}

static const char *delta(struct fixture *f)
{
    kei_buf_clear(&f->out);
    return kei_twin_write_delta(&f->out, &base, &f->d, f->rules.dialect) ? text(f) : "";
}

static const char *edge_updated(struct fixture *f)
{
    kei_buf_clear(&f->out);
    kei_twin_write_edge_updated(&f->out, &base, &f->d, false);
    return text(f);
}

#define HEAD "{\"event_id\":\"e\",\"timestamp\":1600000001005,\"twin\":{"
#define SIDE(which, value)                                                                         \
    "\"" which "\":{\"value\":\"" value "\",\"metadata\":{\"timestamp\":1600000001005}}"
#define INT(optional) "\"optional\":" optional ",\"metadata\":{\"type\":\"int\"}"
#define CLOUD_INT(value, cloud, edge)                                                              \
    T("setpoint", "\"expected\":{\"value\":\"" value "\",\"metadata\":{\"timestamp\":5}},"         \
                  "\"optional\":false,\"metadata\":{\"type\":\"int\"},\"expected_version\":{"      \
                  "\"cloud\":" cloud ",\"edge\":" edge "}")

/* ---- values ---- */

static void values_by_type(void **state)
{
    static const struct {
        const char *type, *value;
        uint32_t dialect, flags;
        const char *why;
    } t[] = {
        {"", "any thing", 115, 0, NULL},
        {"string", "any thing", 115, 0, NULL},
        {"int", "22", 104, 0, NULL},
        {"int", "-9223372036854775808", 104, 0, NULL},
        {"int", "+7", 104, 0, NULL},
        {"int", "9223372036854775808", 104, 0, "the value is not int"},
        {"int", "hot", 104, 0, "the value is not int"},
        {"int", "hot", 115, 0, "the value is not int or integer"},
        {"int", "", 115, 0, "the value is not int or integer"},
        {"int", "+-7", 115, 0, "the value is not int or integer"},
        {"int", "1.0", 123, 0, "the value is not int or integer"},
        {"integer", "5", 115, 1, NULL},
        {"integer", "5", 104, 1, "the value type is not allowed"},
        {"float", "1", 115, 0, NULL},
        {"float", "-1.5e-7", 115, 0, NULL},
        {"float", ".5", 115, 0, NULL},
        {"float", "5.", 115, 0, NULL},
        {"float", "NaN", 115, 0, NULL},
        {"float", "-Inf", 115, 0, NULL},
        {"float", "1.7976931348623157e308", 115, 0, NULL},
        {"float", "0.00017976931348623157e312", 115, 0, NULL},
        {"float", "1.8e308", 115, 0, "the value is not float"},
        {"float", "1e999999999999", 115, 0, "the value is not float"},
        {"float", "0e999999999999", 115, 0, NULL},
        {"float", "1e-999999999999", 115, 0, NULL},
        {"float", "1e", 115, 0, "the value is not float"},
        {"float", ".", 115, 0, "the value is not float"},
        {"float", "1,5", 115, 0, "the value is not float"},
        {"float", "", 115, 0, "the value is not float"},
        {"boolean", "true", 115, 0, NULL},
        {"boolean", "TRUE", 115, 0, "the bool value must be true or false"},
        {"double", "1.5", 115, 1, "the value type is not allowed"},
        {"double", "1.5", 115, 0, NULL},
        {"bytes", "AA==", 115, 1, "the value type is not allowed"},
        {"bytes", "AA==", 115, 0, NULL},
        {"INT", "x", 115, 0, "the value is not int or integer"},
        {"INT", "1", 115, 1, "the value type is not allowed"},
        {"deleted", "x", 115, 0, NULL},
        {"colour", "red", 115, 0, "the value type is not allowed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_twin_rules r = {.dialect = t[i].dialect, .flags = t[i].flags};
        const char *why = kei_twin_value_check(kei_str(t[i].type), kei_str(t[i].value), &r);

        if (!why != !t[i].why || (why && strcmp(why, t[i].why) != 0))
            fail_msg("%s \"%s\": %s", t[i].type, t[i].value, why ? why : "taken");
    }
}

static void states_by_dialect(void **state)
{
    static const struct {
        const char *state;
        bool ok[3];
        const char *last[3];
    } t[] = {
        {"online", {true, true, true}, {"D", "D", "R"}},
        {"ONLINE", {false, true, true}, {"D", "D", "R"}},
        {"OK", {false, true, true}, {"D", "D", "R"}},
        {"offline", {true, true, true}, {"D", "D", ""}},
        {"unknown", {true, true, true}, {"D", "D", ""}},
        {"disconnected", {false, true, false}, {"D", "D", ""}},
        {"unhealthy", {false, false, true}, {"D", "D", ""}},
        {"", {false, false, false}, {"D", "D", ""}},
        {"on", {false, false, false}, {"D", "D", ""}},
    };
    static const uint32_t dialects[] = {KE_DIALECT_1_4, KE_DIALECT_1_15, KE_DIALECT_1_23};

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        for (unsigned k = 0; k < 3; k++) {
            char last[40];
            const char *want = t[i].last[k][0] == 'D'   ? "2020-09-13 12:26:41"
                               : t[i].last[k][0] == 'R' ? "2020-09-13T12:26:41Z"
                                                        : "";

            assert_int_equal(kei_twin_state_ok(kei_str(t[i].state), dialects[k]), t[i].ok[k]);
            kei_twin_last_online(last, kei_str(t[i].state), dialects[k], NOW);
            assert_string_equal(last, want);
        }
    }
}

/* ---- reading ---- */

static void payloads_of_another_form(void **state)
{
    static const char *const bad[] = {
        "",
        "{not json",
        "[]",
        "\"{}\"",
        "7",
        "{\"event_id\":7}",
        "{\"timestamp\":\"1\"}",
        "{\"timestamp\":1.5}",
        "{\"twin\":[]}",
        "{\"twin\":{\"a\":7}}",
        "{\"twin\":{\"a\":{\"expected\":7}}}",
        "{\"twin\":{\"a\":{\"expected\":{\"value\":7}}}}",
        "{\"twin\":{\"a\":{\"actual\":{\"metadata\":{\"timestamp\":\"5\"}}}}}",
        "{\"twin\":{\"a\":{\"actual\":{\"metadata\":[]}}}}",
        "{\"twin\":{\"a\":{\"optional\":\"yes\"}}}",
        "{\"twin\":{\"a\":{\"metadata\":7}}}",
        "{\"twin\":{\"a\":{\"metadata\":{\"type\":7}}}}",
        "{\"twin\":{\"a\":{\"actual_version\":7}}}",
        "{\"twin\":{\"a\":{\"actual_version\":{\"cloud\":\"7\"}}}}",
        "{\"twin\":{}}{}",
    };
    static const char *const good[] = {
        "null",
        "{}",
        "{\"twin\":null}",
        "{\"Twin\":{}}",
        " {\"twin\":{\"a\":null}} ",
        "{\"twin\":{\"a\":{\"expected\":null,\"optional\":null,\"metadata\":null}}}",
        "{\"twin\":{\"a\":{\"what\":7}},\"more\":[1]}",
    };
    struct fixture f;
    struct kei_twin_payload p;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;

        if (kei_twin_read(&p, kei_str(bad[i]), KEI_TWIN_READ_TWINS, &f.a, &err) != KE_EPARSE)
            fail_msg("%s was read", bad[i]);
        assert_true(err.text[0] != '\0');
    }
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (kei_twin_read(&p, kei_str(good[i]), KEI_TWIN_READ_TWINS, &f.a, NULL) != 0)
            fail_msg("%s was not read", good[i]);
    }
    assert_int_equal(kei_twin_read(&p,
                                   KEI_STR("{\"twin\":{\"b\":{},\"a\":{},\"\\u0061\":null,"
                                           "\"ab\":{}}}"),
                                   KEI_TWIN_READ_TWINS, &f.a, NULL),
                     0);
    assert_int_equal(p.n_twins, 3); /* by name, of equal ones the last */
    assert_true(kei_str_is(p.twins[0].name, "a") && p.twins[0].null);
    /* bytes that are no text are read as Go reads them */
    assert_int_equal(
        kei_twin_read(&p, KEI_STR("{\"event_id\":\"a\xff\"}"), KEI_TWIN_READ_BASE, &f.a, NULL), 0);
    assert_true(kei_str_is(p.event_id, "a\xef\xbf\xbd"));
    assert_int_equal(kei_twin_read(&p, KEI_STR("{\"twin\":{\"b\":{},\"ab\":{},\"a\":null}}"),
                                   KEI_TWIN_READ_TWINS, &f.a, NULL),
                     0);
    assert_true(kei_str_is(p.twins[1].name, "ab") && kei_str_is(p.twins[2].name, "b"));
    end(&f);
}

#define KEY_TEXT                                                                                   \
    "The key of twin must only include upper or lowercase letters, number, english, and special "  \
    "letter - _ . , : / @ # and the length of key should be less than 128 bytes"
#define VALUE_TEXT                                                                                 \
    "The value of twin must only include upper or lowercase letters, number, english, and "        \
    "special letter - _ . , : / @ # and the length of value should be less than 512 bytes"

static void limits_of_names_and_values(void **state)
{
    static const struct {
        const char *entries, *strict, *free;
    } t[] = {
        {"\"a-Z_0.,:/@#\":{\"actual\":{\"value\":\"a-Z_0.,:/@#\"}}", NULL, NULL},
        {"\"\":{}", KEY_TEXT, KEY_TEXT},
        {"\"two words\":{}", KEY_TEXT, NULL},
        {"\"line\\nbreak\":{}", KEY_TEXT, KEY_TEXT},
        {"\"a\":{\"actual\":{\"value\":\"two words\"}}", VALUE_TEXT, NULL},
        {"\"a\":{\"expected\":{\"value\":\"50%\"}}", VALUE_TEXT, NULL},
        {"\"a\":{\"expected\":{\"value\":\"{\\\"json\\\":1}\"}}", VALUE_TEXT, NULL},
        {"\"a\":{\"expected\":{\"value\":\"\\u00b0C\"}}", VALUE_TEXT, NULL},
        {"\"a\":{\"expected\":{\"value\":\"\"}}", NULL, NULL},
        {"\"a\":{\"expected\":{\"value\":\"0123456789abcdef\"}}", NULL,
         "The value of twin has 16 bytes, the limit max_value is 15"},
    };
    char *name = NULL;
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    f.rules.max_value = 15;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct kei_twin_payload p;
        char *s = kei_arena_printf(&f.a, "{\"twin\":{%s}}", t[i].entries);

        assert_int_equal(kei_twin_read(&p, kei_str(s), KEI_TWIN_READ_TWINS, &f.a, NULL), 0);
        for (uint32_t strict = 0; strict < 2; strict++) {
            const char *want = strict ? t[i].strict : t[i].free, *why;

            f.rules.flags = strict ? KEI_TWIN_STRICT : 0;
            why = kei_twin_check(&p, &f.rules, &f.a);
            if (!why != !want || (why && strcmp(why, want) != 0))
                fail_msg("%s: %s", s, why ? why : "taken");
        }
    }
    name = kei_arena_alloc(&f.a, 130);
    memset(name, 'k', 128);
    for (unsigned more = 0; more < 2; more++) {
        struct kei_twin_view v = {.name = kei_strn(name, 128 + more)};
        struct kei_twin_payload p = {.has_twins = true, .twins = &v, .n_twins = 1};

        name[128] = 'k';
        assert_int_equal(kei_twin_check(&p, &f.rules, &f.a) != NULL, more);
        p.has_twins = false;
        assert_string_equal(kei_twin_check(&p, &f.rules, &f.a),
                            "Update twin error, key:twin does not exist");
    }
    end(&f);
}

/* ---- updates ---- */

/* The worked example: desired by the cloud, reported by a mapper. */
static void desired_then_reported(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_4);
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("22", "1234", "0"));
    assert_false(f.o.to_cloud);
    assert_string_equal(document(&f), HEAD "\"setpoint\":{\"last\":null,\"current\":{" SIDE(
                                          "expected", "22") "," INT("false") "}}}}");
    assert_string_equal(delta(&f), HEAD "\"setpoint\":{" SIDE("expected", "22") "," INT(
                                       "false") "}},\"delta\":{\"setpoint\":\"22\"}}");
    update(&f, KEI_TWIN_REST,
           T("setpoint", "\"actual\":{\"value\":\"21\"},\"metadata\":{\"type\":\"int\"}"));
    assert_true(f.o.to_cloud);
    assert_string_equal(result(&f),
                        HEAD "\"setpoint\":{" SIDE("actual", "21") "," INT("false") "}}}");
    assert_string_equal(
        document(&f), HEAD
        "\"setpoint\":{\"last\":{" SIDE("expected", "22") "," INT("false") "},\"current\":{" SIDE(
            "expected", "22") "," SIDE("actual", "21") "," INT("false") "}}}}");
    assert_string_equal(edge_updated(&f),
                        HEAD "\"setpoint\":{" SIDE("actual", "21") "," INT(
                            "false") ",\"actual_version\":{\"cloud\":0,\"edge\":1}}}}");
    update(&f, KEI_TWIN_REST, T("setpoint", "\"actual\":{\"value\":\"22\"}"));
    assert_string_equal(delta(&f), ""); /* they agree */
    assert_true(kei_twin_confirm(&f.d, f.al, f.d.seq));
    assert_false(kei_twin_unconfirmed(&f.d));
    end(&f);
}

static void an_unchanged_value_is_a_change(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    for (int i = 1; i <= 3; i++) {
        struct kei_twin_view v;

        update(&f, KEI_TWIN_REST, T("a", "\"actual\":{\"value\":\"1\"}"));
        assert_true(f.o.changed && f.o.n == 1 && f.o.changes[0].changed);
        kei_twin_view(&v, f.d.twins[0]);
        assert_int_equal(v.side[1].edge, i);
    }
    end(&f);
}

static void rest_is_whole_or_nothing(void **state)
{
    static const struct {
        const char *entries, *why;
    } t[] = {
        {T("a", "\"actual\":{\"value\":\"2\"}") "," T("b", "\"actual\":{\"value\":\"x\"}"),
         "the value is not int or integer"},
        {T("a", "\"actual\":{\"value\":\"2\"}") ",\"new\":null", "The request body is wrong"},
        {T("a", "\"actual\":{\"value\":\"2\"}") "," T(
             "new", "\"actual\":{\"value\":\"x\"},\"metadata\":{\"type\":\"boolean\"}"),
         "the bool value must be true or false"},
        {T("a", "\"actual\":{\"value\":\"2\"}") "," T(
             "new", "\"actual\":{\"value\":\"x\"},\"metadata\":{\"type\":\"colour\"}"),
         "the value type is not allowed"},
    };
    struct fixture f;
    char before[1024];

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    update(&f, KEI_TWIN_REST,
           T("a", "\"actual\":{\"value\":\"1\"},\"metadata\":{\"type\":\"int\"}") "," T(
               "b", "\"metadata\":{\"type\":\"int\"}"));
    snprintf(before, sizeof before, "%s", get(&f));
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        update(&f, KEI_TWIN_REST, t[i].entries);
        assert_int_equal(f.o.code, 400);
        assert_string_equal(f.o.reason, t[i].why);
        assert_false(f.o.changed);
        assert_string_equal(get(&f), before);
    }
    end(&f);
}

static void sync_leaves_out_what_is_wrong(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_4);
    update(&f, KEI_TWIN_SYNC,
           CLOUD_INT("hot", "1", "0") "," T(
               "nover", "\"expected\":{\"value\":\"1\"},\"metadata\":{\"type\":\"int\"}") ",\"nul"
                                                                                          "l\":"
                                                                                          "null");
    assert_int_equal(f.o.code, 0);
    assert_int_equal(f.d.n, 0);
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("5", "1", "0"));
    update(&f, KEI_TWIN_SYNC, "\"setpoint\":null");
    assert_false(f.o.changed);
    update(&f, KEI_TWIN_SYNC, /* no metadata: upstream's worker ends here */
           T("setpoint",
             "\"expected\":{\"value\":\"6\"},\"expected_version\":{\"cloud\":9,\"edge\":0}"));
    assert_false(f.o.changed);
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("cold", "9", "0"));
    assert_false(f.o.changed);
    end(&f);
}

static void versions(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_4);
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("20", "10", "0"));
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("21", "10", "0")); /* equal ones pass */
    assert_non_null(strstr(get(&f), "\"value\":\"21\""));
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("19", "9", "0"));
    assert_non_null(strstr(get(&f), "\"value\":\"21\""));
    assert_true(f.o.to_cloud); /* the cloud is told what holds */
    assert_false(f.o.changes[0].changed);
    assert_string_equal(edge_updated(&f),
                        HEAD "\"setpoint\":{" SIDE("expected", "21") "," INT(
                            "false") ",\"expected_version\":{\"cloud\":10,\"edge\":0}}}}");
    update(&f, KEI_TWIN_SYNC, /* none at all */
           T("setpoint", "\"expected\":{\"value\":\"1\"},\"metadata\":{\"type\":\"int\"}"));
    assert_non_null(strstr(get(&f), "\"value\":\"21\""));
    update(&f, KEI_TWIN_REST, T("setpoint", "\"expected\":{\"value\":\"30\"}"));
    assert_non_null(strstr(edge_updated(&f), "\"expected_version\":{\"cloud\":10,\"edge\":1}"));
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("22", "99", "0")); /* it does not count the edge's */
    assert_non_null(strstr(get(&f), "\"value\":\"30\""));
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("22", "99", "1"));
    assert_non_null(strstr(get(&f), "\"value\":\"22\""));
    end(&f);
}

static void deleting(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_4);
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("20", "10", "0"));
    update(&f, KEI_TWIN_REST, "\"setpoint\":null"); /* not optional: no effect, no error */
    assert_int_equal(f.o.code, 0);
    assert_string_equal(result(&f), HEAD "}}");
    update(&f, KEI_TWIN_REST, T("own", "\"actual\":{\"value\":\"1\"}"));
    update(&f, KEI_TWIN_REST, "\"own\":null");
    assert_string_equal(result(&f), HEAD "\"own\":null}}");
    assert_string_equal(document(&f),
                        HEAD "\"own\":{\"last\":{" SIDE("actual", "1") ",\"optional\":true,\"metad"
                                                                       "ata\":{\"type\":\"string"
                                                                       "\"}},\"current\":null}}}");
    assert_non_null(strstr(edge_updated(&f),
                           "\"own\":{\"optional\":true,\"metadata\":{\"type\":\"deleted\"},"
                           "\"actual_version\":{\"cloud\":0,\"edge\":2}}"));
    assert_null(strstr(get(&f), "own"));
    update(&f, KEI_TWIN_REST, "\"own\":null");
    assert_false(f.o.changed);
    /* back again, with another type, from null */
    update(&f, KEI_TWIN_REST,
           T("own", "\"actual\":{\"value\":\"2\"},\"metadata\":{\"type\":\"int\"}"));
    assert_non_null(strstr(document(&f), "\"own\":{\"last\":null,\"current\":{"));
    assert_non_null(strstr(get(&f), "\"type\":\"int\""));
    /* the type of one that lives stays */
    update(&f, KEI_TWIN_REST,
           T("own", "\"actual\":{\"value\":\"3\"},\"metadata\":{\"type\":\"string\"}"));
    assert_null(strstr(get(&f), "string"));
    /* the cloud deletes */
    update(&f, KEI_TWIN_SYNC,
           T("setpoint", "\"metadata\":{\"type\":\"deleted\"},\"expected_version\":{\"cloud\":9,"
                         "\"edge\":0}"));
    assert_non_null(strstr(get(&f), "setpoint"));
    update(&f, KEI_TWIN_SYNC,
           T("setpoint", "\"metadata\":{\"type\":\"deleted\"},\"expected_version\":{\"cloud\":11,"
                         "\"edge\":0}"));
    assert_null(strstr(get(&f), "setpoint"));
    end(&f);
}

/* An application cannot change the type of a twin; a driver says what its model does. */
static void drivers_change_the_type(void **state)
{
    static const struct {
        const char *type, *value, *want_type, *want;
    } t[] = {
        {"float", "4.5", "float", "4.5"},       {"string", "warm", "string", "warm"},
        {"boolean", "true", "boolean", "true"}, {"int", "7", "int", "7"},
        {"deleted", "8", "int", "8"},           {"colour", "9", "int", "9"},
        {"boolean", "10", "int", "10"},         {"boolean", "hot", "int", NULL},
    };
    struct fixture f;
    char entry[200];

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    update(&f, KEI_TWIN_REST, T("a", "\"actual\":{\"value\":\"1\"}," INT("true")));
    f.rules.flags |= KEI_TWIN_RETYPE;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        snprintf(entry, sizeof entry,
                 "\"a\":{\"actual\":{\"value\":\"%s\"},\"metadata\":{\"type\":\"%s\"}}",
                 t[i].value, t[i].type);
        update(&f, KEI_TWIN_REST, entry);
        assert_int_equal(f.o.code, t[i].want ? 0 : 400);
        assert_string_equal(kei_twin_type(kei_twin_find(&f.d, KEI_STR("a"))), t[i].want_type);
        snprintf(entry, sizeof entry, "\"value\":\"%s\"", t[i].want ? t[i].want : "10");
        assert_non_null(strstr(get(&f), entry));
    }
    f.rules.flags = 0;
    update(&f, KEI_TWIN_REST,
           T("a", "\"actual\":{\"value\":\"warm\"},\"metadata\":{\"type\":\"string\"}"));
    assert_int_equal(f.o.code, 400);
    end(&f);
}

static void optional_goes_one_way(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    update(&f, KEI_TWIN_REST, T("a", "\"actual\":{\"value\":\"1\"}"));
    update(&f, KEI_TWIN_REST, T("a", "\"optional\":false"));
    assert_non_null(strstr(get(&f), "\"optional\":false"));
    assert_true(f.o.to_cloud);
    update(&f, KEI_TWIN_REST, T("a", "\"optional\":true"));
    assert_false(f.o.changed);
    end(&f);
}

/* 1.4 lists an empty desired value in the delta's twins, later ones do not. */
static void deltas_by_dialect(void **state)
{
    struct fixture f;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        begin(&f, i ? KE_DIALECT_1_15 : KE_DIALECT_1_4);
        update(
            &f, KEI_TWIN_REST,
            T("a", "\"expected\":{\"value\":\"1\"}") "," T(
                "e",
                "\"expected\":{\"value\":\"x\"},"
                "\"actual\":{\"value\":\"y\"}") "," T("r",
                                                      "\"actual\":{\"value\":\"1\"}") "," T("same",
                                                                                            "\"expe"
                                                                                            "cted\""
                                                                                            ":{"
                                                                                            "\"valu"
                                                                                            "e\":"
                                                                                            "\"1\"}"
                                                                                            ","
                                                                                            "\"actu"
                                                                                            "al\":{"
                                                                                            "\"valu"
                                                                                            "e\":"
                                                                                            "\"1\""
                                                                                            "}"));
        update(&f, KEI_TWIN_REST, T("e", "\"expected\":{\"value\":\"\"}"));
        assert_int_equal(strstr(delta(&f), "\"e\":") != NULL, !i);
        assert_non_null(strstr(text(&f), "\"delta\":{\"a\":\"1\"}}"));
        assert_non_null(strstr(text(&f), "\"same\":"));
        assert_null(strstr(text(&f), "\"r\":"));
        end(&f);
    }
}

/* Changes that are not confirmed are merged: the newest of each, none left out. */
static void unconfirmed_is_merged(void **state)
{
    struct fixture f;
    uint64_t sent;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    update(&f, KEI_TWIN_REST, T("a", "\"actual\":{\"value\":\"1\"}"));
    update(&f, KEI_TWIN_REST, T("b", "\"actual\":{\"value\":\"1\"}"));
    sent = f.d.seq;
    update(&f, KEI_TWIN_REST, T("a", "\"expected\":{\"value\":\"2\"}"));
    assert_true(kei_twin_confirm(&f.d, f.al, sent));
    /* a changed after it was sent: both its sides go again */
    assert_string_equal(
        edge_updated(&f),
        HEAD "\"a\":{" SIDE("expected", "2") "," SIDE(
            "actual",
            "1") ",\"optional\":true,"
                 "\"metadata\":{\"type\":\"string\"},\"expected_version\":{\"cloud\":0,\"edge\":1},"
                 "\"actual_version\":{\"cloud\":0,\"edge\":1}}}}");
    end(&f);
}

static void limits_of_a_device(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    f.rules.max_twins = 2;
    update(&f, KEI_TWIN_REST, T("a", "") "," T("b", ""));
    update(&f, KEI_TWIN_REST, T("c", ""));
    assert_string_equal(f.o.reason, "the device has 2 twins, the limit max_twins is 2");
    f.rules.max_bytes = 40;
    update(&f, KEI_TWIN_REST, T("a", "\"actual\":{\"value\":\"01234567890123456789\"}"));
    assert_string_equal(f.o.reason, "the twins of the device have 42 bytes, the limit is 40");
    update(&f, KEI_TWIN_REST, T("a", "\"actual\":{\"value\":\"012345678901234567\"}"));
    assert_int_equal(f.o.code, 0);
    end(&f);
}

/* ---- rows, attributes, ids ---- */

static void rows_come_back(void **state)
{
    struct kei_twin_device d;
    struct ke_buf again;
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_4);
    update(&f, KEI_TWIN_SYNC, CLOUD_INT("22", "9007199254740993", "0"));
    update(&f, KEI_TWIN_REST,
           T("a \\\"b\\\"", "\"actual\":{\"value\":\"\\u00b0<&>\"}") "," T("gone", ""));
    update(&f, KEI_TWIN_REST, "\"gone\":null");
    assert_int_equal(kei_twin_device_text(&f.d.state, f.al, KEI_STR("online")), 0);
    assert_int_equal(kei_twin_device_text(&f.d.attributes, f.al, KEI_STR("{\"x\":{}}")), 0);
    f.d.state_up = ++f.d.seq;
    kei_buf_clear(&f.out);
    kei_twin_row_write(&f.out, &f.d);
    assert_int_equal(kei_twin_row_read(&d, f.al, kei_buf_str(&f.out), NULL), 0);
    kei_buf_init(&again, f.al);
    kei_twin_row_write(&again, &d);
    assert_true(kei_str_eq(kei_buf_str(&again), kei_buf_str(&f.out)));
    assert_int_equal(d.n, 3);
    assert_true(kei_twin_unconfirmed(&d));
    assert_int_equal(d.state_up, f.d.state_up);
    ke_buf_free(&again);
    kei_twin_device_fini(&d, f.al);
    for (size_t n = 1;; n++) { /* memory out at every place */
        test_alloc_fail_at(&f.mem, n);
        int r = kei_twin_row_read(&d, f.al, kei_buf_str(&f.out), NULL);
        test_alloc_fail_at(&f.mem, 0);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
    }
    kei_twin_device_fini(&d, f.al);
    for (size_t n = 0; n < f.out.n; n++) { /* cut off anywhere, or with a byte changed */
        char *row = kei_strndup(f.al, f.out.p, f.out.n);

        assert_int_equal(kei_twin_row_read(&d, f.al, kei_strn(row, n), NULL), KE_EPARSE);
        row[n] = (char)(row[n] ^ 0x55);
        if (kei_twin_row_read(&d, f.al, kei_strn(row, f.out.n), NULL) == 0)
            kei_twin_device_fini(&d, f.al);
        kei_free(f.al, row);
    }
    end(&f);
}

static void memory_out_in_an_update(void **state)
{
    struct kei_twin_payload p;
    struct fixture f;
    char before[2048];

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    update(&f, KEI_TWIN_REST, T("b", "\"actual\":{\"value\":\"1\"}"));
    snprintf(before, sizeof before, "%s", edge_updated(&f));
    for (size_t n = 1;; n++) {
        int r;

        assert_int_equal(kei_twin_read(&p,
                                       KEI_STR("{\"twin\":{\"a\":{},\"b\":{\"actual\":{\"value\":"
                                               "\"2\"}},\"c\":{}}}"),
                                       KEI_TWIN_READ_TWINS, &f.a, NULL),
                         0);
        kei_twin_outcome_free(&f.o, f.al);
        test_alloc_fail_at(&f.mem, n);
        r = kei_twin_update(&f.o, &f.d, p.twins, p.n_twins, KEI_TWIN_REST, &f.rules, f.al, &f.a,
                            NULL);
        test_alloc_fail_at(&f.mem, 0);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
        assert_string_equal(edge_updated(&f), before);
    }
    assert_int_equal(f.d.n, 3);
    end(&f);
}

static void attributes(void **state)
{
    static const struct {
        const char *old, *change;
        bool all;
        const char *text, *diff;
    } t[] = {
        {"", "{\"b\":{\"value\":\"1\"},\"a\":{}}", true, "{\"a\":{},\"b\":{\"value\":\"1\"}}",
         "{\"a\":{},\"b\":{\"value\":\"1\"}}"},
        {"{\"a\":1,\"b\":2}", "{\"b\":2}", true, "{\"b\":2}", "{\"a\":null}"},
        {"{\"a\":1,\"b\":2}", "{\"b\":3}", false, "{\"a\":1,\"b\":3}", "{\"b\":3}"},
        {"{\"a\":1,\"b\":2}", "{\"b\":null,\"z\":null}", false, "{\"a\":1}", "{\"b\":null}"},
        {"{\"a\":1}", "{\"a\":1}", true, "{\"a\":1}", ""},
        {"{\"a\":1}", "{\"a\":null}", false, "", "{\"a\":null}"},
        {"{\"a\":1}", "", true, "", "{\"a\":null}"},
    };
    struct fixture f;

    (void)state;
    begin(&f, KE_DIALECT_1_15);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct ke_str all, diff;

        assert_int_equal(kei_twin_attributes(kei_str(t[i].old), kei_str(t[i].change), t[i].all,
                                             &all, &diff, &f.a, NULL),
                         0);
        assert_string_equal(all.p, t[i].text);
        assert_string_equal(diff.p, t[i].diff);
    }
    end(&f);
}

static void ids(void **state)
{
    static const char *const bad[] = {"", "/", "a/", "/a", "a/b/c", "a+", "#", "a/b\n"};
    struct ke_str ns, name;
    struct fixture f;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(kei_twin_id_parse(kei_str(bad[i]), &ns, &name));
    assert_true(kei_twin_id_parse(KEI_STR("x/thermo"), &ns, &name));
    assert_true(kei_str_is(ns, "x") && kei_str_is(name, "thermo"));
    begin(&f, KE_DIALECT_1_23);
    kei_twin_id_write(&f.out, &f.d, KE_DIALECT_1_23);
    kei_buf_addc(&f.out, ' ');
    kei_twin_id_write(&f.out, &f.d, KE_DIALECT_1_15);
    assert_string_equal(text(&f), "default/thermo-01 thermo-01");
    end(&f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_by_type),
        cmocka_unit_test(states_by_dialect),
        cmocka_unit_test(payloads_of_another_form),
        cmocka_unit_test(limits_of_names_and_values),
        cmocka_unit_test(desired_then_reported),
        cmocka_unit_test(an_unchanged_value_is_a_change),
        cmocka_unit_test(rest_is_whole_or_nothing),
        cmocka_unit_test(sync_leaves_out_what_is_wrong),
        cmocka_unit_test(versions),
        cmocka_unit_test(deleting),
        cmocka_unit_test(drivers_change_the_type),
        cmocka_unit_test(optional_goes_one_way),
        cmocka_unit_test(deltas_by_dialect),
        cmocka_unit_test(unconfirmed_is_merged),
        cmocka_unit_test(limits_of_a_device),
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(memory_out_in_an_update),
        cmocka_unit_test(attributes),
        cmocka_unit_test(ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
