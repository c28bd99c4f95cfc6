/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The convergent merge, against a model that knows everything that was ever written: places change
 * twins, delete and make the device again, their clocks jump, and what they tell each other comes
 * late, twice, in any order, as a whole state, a part, or not at all, until at last all hear all.
 * Then all are equal and hold, for each value, the latest write of the latest life.
 *
 * KE_TWIN_ROUNDS: how many interleavings (default 10,000). KE_SEED: another sequence.
 */
#include <inttypes.h>

#include "support/support.h"

#include "base/json.h"
#include "message/twin_merge.h"

#define PLACES 3
#define NAMES 3
#define STEPS 40
#define WIRE 64

static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint32_t below(uint64_t *s, uint32_t n)
{
    return (uint32_t)(next(s) >> 33) % n;
}

/* ---- a world ---- */

struct place {
    struct kei_merge_device d;
    struct kei_hlc clock;
    int64_t wall;
};

/* The latest write of each value in each life. */
struct write {
    struct kei_hlc life, at;
    unsigned name, which;
    char text[24]; /* "" for none */
};

struct world {
    struct test_alloc mem;
    const struct ke_alloc *al;
    struct place p[PLACES];
    struct kei_merge_device wire[WIRE]; /* what is on its way */
    unsigned n_wire;
    struct write w[STEPS * 2];
    unsigned n_writes;
    struct kei_hlc dead[STEPS]; /* lives that were ended */
    unsigned n_dead;
    struct kei_hlc lives[STEPS];
    unsigned n_lives;
    uint64_t rng;
    unsigned serial;
};

static const char *const names[NAMES] = {"a", "b", "power"};

static void write_down(struct world *w, const struct place *p, unsigned name, unsigned which,
                       const char *text)
{
    struct write *x = &w->w[w->n_writes++];

    assert_true(w->n_writes <= STEPS * 2);
    x->life = p->d.life;
    x->at = p->clock;
    x->name = name;
    x->which = which;
    snprintf(x->text, sizeof x->text, "%s", text ? text : "");
}

static void set(struct world *w, struct place *p)
{
    unsigned name = below(&w->rng, NAMES), which = below(&w->rng, 2);
    const struct kei_merge_twin *t = kei_merge_find(&p->d, kei_str(names[name]));
    struct kei_hlc was = t ? t->v[which].at : (struct kei_hlc){0, 0, 0};
    char text[24];
    int r;

    snprintf(text, sizeof text, "v%u", ++w->serial);
    r = kei_merge_set(&p->d, w->al, kei_str(names[name]), which, text, &p->clock, p->wall);
    if (r < 0) {
        assert_int_equal(r, KE_ESTATE);
        return;
    }
    write_down(w, p, name, which, text);
    /* who overwrites a value is later than it, however wrong his clock is */
    assert_true(kei_hlc_compare(&p->clock, &was) > 0);
    assert_true(kei_hlc_compare(&p->clock, &p->d.life) > 0);
}

static void unset(struct world *w, struct place *p)
{
    unsigned name = below(&w->rng, NAMES);

    if (kei_merge_unset(&p->d, kei_str(names[name]), w->al, &p->clock, p->wall) < 0)
        return;
    write_down(w, p, name, 0, NULL);
    write_down(w, p, name, 1, NULL);
}

static void begin_life(struct world *w, struct place *p)
{
    struct kei_hlc was = p->d.life;

    kei_merge_begin(&p->d, w->al, &p->clock, p->wall);
    assert_true(kei_hlc_compare(&p->d.life, &was) > 0);
    w->lives[w->n_lives++] = p->d.life;
}

static void end_life(struct world *w, struct place *p)
{
    struct kei_hlc life = p->d.life;

    if (kei_merge_delete(&p->d, w->al))
        w->dead[w->n_dead++] = life;
}

/* Onto the wire, as JSON half of the time, all or what is newer than some stamp. */
static void tell(struct world *w, const struct place *p, bool all)
{
    struct kei_merge_device *to;
    struct ke_buf text;
    struct kei_hlc since = {p->clock.ms - (int64_t)below(&w->rng, 50), 0, 0};

    if (w->n_wire == WIRE)
        return;
    to = &w->wire[w->n_wire++];
    kei_buf_init(&text, w->al);
    kei_merge_write(&text, &p->d, all || below(&w->rng, 2) ? NULL : &since);
    assert_true(kei_buf_ok(&text));
    assert_int_equal(kei_merge_read(to, w->al, kei_buf_str(&text), NULL), 0);
    ke_buf_free(&text);
}

static void hear(struct world *w)
{
    unsigned i;
    struct place *p = &w->p[below(&w->rng, PLACES)];

    if (w->n_wire == 0)
        return;
    i = below(&w->rng, w->n_wire);
    assert_int_equal(kei_merge_take(&p->d, w->al, &w->wire[i], &p->clock, NULL), 0);
    if (below(&w->rng, 3) == 0)
        return; /* it comes again */
    kei_merge_fini(&w->wire[i], w->al);
    w->wire[i] = w->wire[--w->n_wire];
}

static void jump(struct world *w, struct place *p)
{
    static const int64_t jumps[] = {1, -1, 1000, -1000, 86400000, -86400000, -4000000000000};

    p->wall += jumps[below(&w->rng, sizeof jumps / sizeof jumps[0])];
    if (p->wall < 0)
        p->wall = 0;
}

/* ---- the model's word ---- */

static bool was_ended(const struct world *w, const struct kei_hlc *life)
{
    for (unsigned i = 0; i < w->n_dead; i++)
        if (kei_hlc_compare(&w->dead[i], life) == 0)
            return true;
    return false;
}

static void check(struct world *w, uint64_t round)
{
    const struct kei_merge_device *d = &w->p[0].d;
    struct kei_hlc life = {0, 0, 0};

    for (unsigned i = 1; i < PLACES; i++)
        if (!kei_merge_equal(d, &w->p[i].d))
            fail_msg("round %" PRIu64 ": the places differ", round);
    for (unsigned i = 0; i < w->n_lives; i++)
        if (kei_hlc_compare(&w->lives[i], &life) > 0)
            life = w->lives[i];
    if (kei_hlc_compare(&d->life, &life) != 0)
        fail_msg("round %" PRIu64 ": not the latest life", round);
    if (d->dead != was_ended(w, &life) || (d->dead && d->n))
        fail_msg("round %" PRIu64 ": a dead device lives, or a living one is dead", round);
    for (unsigned n = 0; n < NAMES && !d->dead; n++) {
        const struct kei_merge_twin *t = kei_merge_find(d, kei_str(names[n]));

        for (unsigned s = 0; s < 2; s++) {
            const struct write *latest = NULL;
            const char *got = t && t->v[s].text ? t->v[s].text : "";

            for (unsigned i = 0; i < w->n_writes; i++) {
                const struct write *x = &w->w[i];

                if (x->name == n && x->which == s && kei_hlc_compare(&x->life, &life) == 0 &&
                    (!latest || kei_hlc_compare(&x->at, &latest->at) > 0))
                    latest = x;
            }
            if (strcmp(got, latest ? latest->text : "") != 0)
                fail_msg("round %" PRIu64 ": %s has \"%s\", the latest write is \"%s\"", round,
                         names[n], got, latest ? latest->text : "");
        }
    }
}

static void round_of(uint64_t round, uint64_t seed, unsigned seen[4])
{
    struct world w;
    unsigned steps;

    memset(&w, 0, sizeof w);
    test_alloc_init(&w.mem);
    w.al = &w.mem.table;
    w.rng = (seed + 1) * 0x9e3779b97f4a7c15u ^ (round + 1) * 0xd1342543de82ef95u;
    if (!w.rng)
        w.rng = 1;
    for (int i = 0; i < 8; i++)
        (void)next(&w.rng);
    for (unsigned i = 0; i < PLACES; i++) {
        kei_merge_init(&w.p[i].d);
        w.p[i].clock.node = i + 1;
        w.p[i].wall = 1600000000000 + (int64_t)below(&w.rng, 3);
    }
    begin_life(&w, &w.p[0]);
    steps = 1 + below(&w.rng, STEPS - 2);
    for (unsigned i = 0; i < steps; i++) {
        struct place *p = &w.p[below(&w.rng, PLACES)];
        unsigned what = below(&w.rng, 20);

        p->wall += below(&w.rng, 3);
        if (what < 7)
            set(&w, p);
        else if (what < 8)
            unset(&w, p);
        else if (what < 9)
            end_life(&w, p);
        else if (what < 10)
            begin_life(&w, p);
        else if (what < 11)
            jump(&w, p);
        else if (what < 15)
            tell(&w, p, false);
        else
            hear(&w);
    }
    seen[0] += w.n_lives > 1;
    seen[1] += w.n_dead > 0;
    seen[2] += w.n_writes > 4;
    while (w.n_wire) /* late ones; some places never hear some */
        hear(&w);
    for (int turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < PLACES; i++)
            for (unsigned k = 0; k < PLACES; k++)
                assert_int_equal(kei_merge_take(&w.p[k].d, w.al, &w.p[i].d, &w.p[k].clock, NULL),
                                 0);
    }
    check(&w, round);
    seen[3] += w.p[0].d.dead;
    for (unsigned i = 0; i < PLACES; i++)
        kei_merge_fini(&w.p[i].d, w.al);
    assert_int_equal(test_alloc_live(&w.mem), 0);
}

static void all_end_equal(void **state)
{
    const char *rounds = getenv("KE_TWIN_ROUNDS"), *seed = getenv("KE_SEED");
    uint64_t n = rounds ? strtoull(rounds, NULL, 10) : 10000;
    unsigned seen[4] = {0};

    (void)state;
    for (uint64_t i = 0; i < n; i++)
        round_of(i, seed ? strtoull(seed, NULL, 10) : 0, seen);
    print_message("count: %" PRIu64 " interleavings; made again %u, deleted %u, busy %u, dead at "
                  "the end %u\n",
                  n, seen[0], seen[1], seen[2], seen[3]);
    for (int i = 0; i < 4; i++)
        assert_true(n < 100 || seen[i] > n / 100);
}

/* ---- single steps ---- */

static void the_clock_never_goes_back(void **state)
{
    struct kei_hlc c = {0, 0, 7}, last = c, far = {9000000000000, UINT32_MAX, 3};
    static const int64_t walls[] = {5, 5, 4, -1, 6, 0, 7};

    (void)state;
    for (size_t i = 0; i < sizeof walls / sizeof walls[0]; i++) {
        struct kei_hlc now = kei_hlc_tick(&c, walls[i]);

        assert_true(kei_hlc_compare(&now, &last) > 0);
        last = now;
    }
    kei_hlc_see(&c, &far);
    last = far;
    struct kei_hlc now = kei_hlc_tick(&c, 8);
    assert_true(kei_hlc_compare(&now, &last) > 0); /* over the counter's end */
    assert_int_equal(now.node, 7);
}

static void json_of_a_device(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "{\"life\":[1,2]}",
        "{\"life\":[1,2,3,4]}",
        "{\"life\":[1,-2,3]}",
        "{\"life\":[1,2,4294967296]}",
        "{\"life\":[1,2,3],\"twin\":{\"a\":{\"expected\":{\"value\":\"x\"}}}}",
        "{\"life\":[1,2,3],\"twin\":{\"a\":{\"expected\":{\"value\":7,\"at\":[1,2,3]}}}}",
    };
    static const char whole[] =
        "{\"life\":[1,2,3],\"twin\":{\"a\":{\"expected\":{\"value\":\"\\u003c\",\"at\":[2,0,1]}},"
        "\"b\":{\"actual\":{\"value\":null,\"at\":[2,1,1]}}}}";
    struct kei_merge_device d;
    struct test_alloc mem;
    struct ke_buf out;

    (void)state;
    test_alloc_init(&mem);
    kei_buf_init(&out, &mem.table);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (kei_merge_read(&d, &mem.table, kei_str(bad[i]), NULL) != KE_EPARSE)
            fail_msg("%s was read", bad[i]);
    }
    assert_int_equal(kei_merge_read(&d, &mem.table, kei_str(whole), NULL), 0);
    kei_merge_write(&out, &d, NULL);
    assert_string_equal(out.p, whole);
    kei_merge_fini(&d, &mem.table);
    for (size_t n = 1;; n++) {
        test_alloc_fail_at(&mem, n);
        int r = kei_merge_read(&d, &mem.table, kei_str(whole), NULL);
        test_alloc_fail_at(&mem, 0);
        if (r == 0)
            break;
        assert_int_equal(r, KE_ENOMEM);
    }
    kei_merge_fini(&d, &mem.table);
    ke_buf_free(&out);
    assert_int_equal(test_alloc_live(&mem), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_clock_never_goes_back),
        cmocka_unit_test(json_of_a_device),
        cmocka_unit_test(all_end_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
