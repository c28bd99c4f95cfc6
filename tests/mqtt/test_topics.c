/* SPDX-License-Identifier: Apache-2.0 */
/* Filters and topics: their form, the matcher against a naive one, the tree against the matcher. */
#include "mqtt/server.h"
#include "support/support.h"

static uint64_t rng = 42;

static uint32_t below(uint32_t n)
{
    rng = rng * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(rng >> 33) % n;
}

static void forms(void **state)
{
    static const struct {
        const char *s;
        bool topic, filter;
    } t[] = {{"a", true, true},      {"/", true, true},       {"a//b", true, true},
             {"", false, false},     {"#", false, true},      {"+", false, true},
             {"a/#", false, true},   {"a/#/b", false, false}, {"a#", false, false},
             {"+/b/+", false, true}, {"a+/b", false, false},  {"a/+b", false, false},
             {"#/a", false, false},  {"$SYS/x", true, true},  {"+/+/#", false, true}};
    static const struct {
        const char *s;
        bool shared, ok;
    } sh[] = {
        {"a/b", false, true},        {"$share/g/a", true, true}, {"$share/g/#", true, true},
        {"$share/g", true, false},   {"$share/g/", true, false}, {"$share//a", true, false},
        {"$share/+/a", true, false}, {"$share", true, false},    {"$shared/g/a", false, true}};

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        assert_int_equal(kei_mqtt_topic_ok(kei_str(t[i].s)), t[i].topic);
        assert_int_equal(kei_mqtt_filter_ok(kei_str(t[i].s)), t[i].filter);
    }
    for (size_t i = 0; i < sizeof sh / sizeof sh[0]; i++) {
        struct ke_str g, in;
        bool ok;
        assert_int_equal(kei_mqtt_shared(kei_str(sh[i].s), &g, &in, &ok), sh[i].shared);
        assert_int_equal(ok, sh[i].ok);
    }
}

/* ---- a naive matcher: recursive, on arrays of levels ---- */

struct levels {
    char text[16][4];
    int n;
};

static void split(const char *s, struct levels *l)
{
    int k = 0;

    l->n = 0;
    for (;; s++) {
        if (*s == '/' || *s == '\0') {
            l->text[l->n++][k] = '\0';
            k = 0;
            if (!*s)
                return;
        } else {
            l->text[l->n][k++] = *s;
        }
    }
}

static bool naive_from(const struct levels *f, int i, const struct levels *t, int j)
{
    if (i == f->n)
        return j == t->n;
    if (strcmp(f->text[i], "#") == 0)
        return true;
    if (j == t->n)
        return false;
    return (strcmp(f->text[i], "+") == 0 || strcmp(f->text[i], t->text[j]) == 0) &&
           naive_from(f, i + 1, t, j + 1);
}

static bool naive(const char *filter, const char *topic)
{
    struct levels f, t;

    split(filter, &f);
    split(topic, &t);
    if (topic[0] == '$' && (filter[0] == '+' || filter[0] == '#'))
        return false;
    return naive_from(&f, 0, &t, 0);
}

static void make(char *out, bool filter)
{
    static const char *const words[] = {"a", "b", "", "$c", "dd"};
    int n = 1 + (int)below(5);

    out[0] = '\0';
    for (int i = 0; i < n; i++) {
        if (i)
            strcat(out, "/");
        uint32_t k = below(filter ? 8 : 5);
        if (k == 7 && i == n - 1)
            strcat(out, "#");
        else
            strcat(out, k >= 5 ? "+" : words[k]);
    }
    if (!out[0])
        strcpy(out, "a");
}

static void the_matcher(void **state)
{
    char f[64], t[64];
    int matches = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        make(f, true);
        make(t, false);
        bool want = naive(f, t);
        matches += want;
        if (kei_mqtt_match(kei_str(f), kei_str(t)) != want)
            fail_msg("\"%s\" and \"%s\": should be %d", f, t, want);
    }
    assert_true(matches > 10000);
}

/* ---- the tree ---- */

#define N 400

struct model {
    char text[N][64];
    struct mq_node *node[N];
    int n;
    int hits[N];
};

static void on_node(void *user, struct mq_node *n)
{
    struct model *m = user;

    for (int i = 0; i < m->n; i++)
        if (m->node[i] == n)
            m->hits[i]++;
}

static bool on_topic(void *user, struct mq_node *n)
{
    on_node(user, n);
    return true;
}

static void add(struct mq_tree *t, struct model *m, bool filter)
{
    int i = m->n;

    make(m->text[i], filter);
    struct mq_node *n = kei_mq_tree_make(t, kei_str(m->text[i]));
    assert_non_null(n);
    if (n->value)
        return; /* there already */
    n->value = m;
    m->node[i] = n;
    m->n++;
    struct ke_buf b;
    kei_buf_init(&b, t->alloc);
    kei_mq_tree_text(n, &b);
    assert_true(kei_str_is(kei_buf_str(&b), m->text[i]));
    ke_buf_free(&b);
}

static void drop(struct mq_tree *t, struct model *m, int i)
{
    m->node[i]->value = NULL;
    kei_mq_tree_prune(t, m->node[i]);
    m->n--;
    m->node[i] = m->node[m->n];
    memcpy(m->text[i], m->text[m->n], sizeof m->text[i]);
}

static void the_tree(void **state)
{
    struct test_alloc a;
    struct mq_tree t;
    static struct model m;
    char text[64];
    bool filters = *state != NULL;

    test_alloc_init(&a);
    m.n = 0;
    assert_int_equal(kei_mq_tree_init(&t, &a.table, 7), 0);
    for (int round = 0; round < 6000; round++) {
        if (m.n < N && below(3))
            add(&t, &m, filters);
        else if (m.n)
            drop(&t, &m, (int)below((uint32_t)m.n));
        memset(m.hits, 0, sizeof m.hits);
        make(text, !filters);
        if (filters)
            kei_mq_tree_match(&t, kei_str(text), on_node, &m);
        else
            kei_mq_tree_select(&t, kei_str(text), on_topic, &m);
        for (int i = 0; i < m.n; i++) {
            bool want = filters ? naive(m.text[i], text) : naive(text, m.text[i]);
            if (m.hits[i] != want)
                fail_msg("\"%s\" and \"%s\": %d instead of %d times", m.text[i], text, m.hits[i],
                         want);
        }
    }
    while (m.n)
        drop(&t, &m, 0);
    assert_int_equal(t.n, 0);
    kei_mq_tree_free(&t);
    assert_int_equal(test_alloc_live(&a), 0);
}

int main(void)
{
    static int yes;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(the_matcher),
        cmocka_unit_test_prestate(the_tree, &yes),
        cmocka_unit_test_prestate(the_tree, NULL),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
