/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Payloads of device topics from a peer, one in each line: every line is read as each kind there
 * is, and applied to one device by each mode, in each dialect. Whatever comes: a refused report
 * changes nothing, what is written is JSON and reads back the same, memory is bounded. Lines are
 * also read as states of the merge, all of it as a row of the store.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "message/twin.h"
#include "message/twin_merge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

struct fuzz {
    const struct ke_alloc *al;
    struct kei_twin_device d;
    struct kei_twin_rules rules;
    struct ke_buf a, b;
};

static const struct kei_twin_base base = {{"e", 1}, 5};

static void is_json(struct ke_buf *b)
{
    MUST(kei_buf_ok(b));
    MUST(kei_json_check(kei_buf_str(b), 0, NULL) == 0);
    kei_buf_clear(b);
}

static void row_again(struct fuzz *f, const struct kei_twin_device *d)
{
    struct kei_twin_device copy;

    kei_buf_clear(&f->a);
    kei_buf_clear(&f->b);
    kei_twin_row_write(&f->a, d);
    MUST(kei_twin_row_read(&copy, f->al, kei_buf_str(&f->a), NULL) == 0);
    kei_twin_row_write(&f->b, &copy);
    MUST(kei_str_eq(kei_buf_str(&f->a), kei_buf_str(&f->b)));
    kei_twin_device_fini(&copy, f->al);
}

static void write_all(struct fuzz *f, const struct kei_twin_outcome *o)
{
    kei_buf_clear(&f->a);
    kei_twin_write_result(&f->a, &base, o);
    is_json(&f->a);
    kei_twin_write_document(&f->a, &base, o);
    is_json(&f->a);
    if (kei_twin_write_delta(&f->a, &base, &f->d, f->rules.dialect))
        is_json(&f->a);
    kei_twin_write_get(&f->a, &base, &f->d);
    is_json(&f->a);
    kei_twin_write_edge_updated(&f->a, &base, &f->d, true);
    is_json(&f->a);
}

static void update(struct fuzz *f, const struct kei_twin_payload *p, enum kei_twin_mode mode,
                   struct kei_arena *a)
{
    struct kei_twin_outcome o;
    struct ke_buf before;
    size_t bytes = 0;

    kei_buf_init(&before, f->al);
    kei_twin_row_write(&before, &f->d);
    MUST(kei_twin_update(&o, &f->d, p->twins, p->n_twins, mode, &f->rules, f->al, a, NULL) == 0);
    if (o.code) {
        kei_buf_clear(&f->a);
        kei_twin_row_write(&f->a, &f->d);
        MUST(o.reason && kei_str_eq(kei_buf_str(&before), kei_buf_str(&f->a)));
    }
    write_all(f, &o);
    kei_twin_outcome_free(&o, f->al);
    for (uint32_t i = 0; i < f->d.n; i++) {
        bytes += kei_twin_bytes(f->d.twins[i]);
        MUST(i == 0 || strcmp(kei_twin_name(f->d.twins[i - 1]), kei_twin_name(f->d.twins[i])) < 0);
    }
    MUST(f->d.n <= f->rules.max_twins && bytes <= f->rules.max_bytes);
    row_again(f, &f->d);
    ke_buf_free(&before);
}

static void devices(struct fuzz *f, const struct kei_twin_payload *p)
{
    for (uint32_t i = 0; i < p->n_added; i++) {
        kei_buf_clear(&f->a);
        kei_twin_write_membership(&f->a, &base, &p->added[i], i & 1, f->rules.dialect);
        is_json(&f->a);
    }
}

static void attributes(struct fuzz *f, const struct kei_twin_payload *p, struct kei_arena *a)
{
    struct ke_str text, diff;

    if (kei_twin_attributes(kei_str(f->d.attributes), p->attributes, p->timestamp & 1, &text, &diff,
                            a, NULL) < 0)
        return;
    MUST(!text.n || kei_json_check(text, 0, NULL) == 0);
    MUST(!diff.n || kei_json_check(diff, 0, NULL) == 0);
    if (text.n < 4096)
        MUST(kei_twin_device_text(&f->d.attributes, f->al, text) == 0);
}

/* What our cloud tells of the device; told twice it changes nothing more. */
static void told(struct fuzz *f, const struct kei_merge_device *from)
{
    struct kei_twin_device d;
    struct kei_twin_outcome o;
    struct kei_twin_view *twins;
    struct kei_arena a;
    struct kei_hlc clock = {0, 0, 1};
    uint32_t n;

    kei_arena_init(&a, f->al, 0);
    MUST(kei_twin_device_copy(&d, &f->d, f->al) == 0);
    MUST(kei_twin_reborn(&f->d, f->al, &from->life) == 0);
    f->rules.clock = &clock;
    for (int i = 0; i < 2; i++) {
        MUST(kei_twin_told(&twins, &n, &f->d, from, NULL, 0, &a) == 0);
        MUST(kei_twin_update(&o, &f->d, twins, n, KEI_TWIN_MERGE, &f->rules, f->al, &a, NULL) == 0);
        if (i == 1 && f->d.n == from->n)
            MUST(o.code || !o.changed);
        write_all(f, &o);
        kei_twin_outcome_free(&o, f->al);
        row_again(f, &f->d);
    }
    MUST(kei_twin_restamp(&f->d, f->al, NULL, &clock, 7, &n) == 0);
    f->rules.clock = NULL;
    kei_twin_device_fini(&f->d, f->al);
    f->d = d;
    kei_arena_free(&a);
}

static void merge(struct fuzz *f, struct ke_str line)
{
    struct kei_merge_device d, copy;
    struct kei_hlc clock = {0, 0, 1};

    if (kei_merge_read(&d, f->al, line, NULL) < 0)
        return;
    kei_buf_clear(&f->a);
    kei_merge_write(&f->a, &d, NULL);
    MUST(kei_merge_read(&copy, f->al, kei_buf_str(&f->a), NULL) == 0);
    MUST(kei_merge_take(&copy, f->al, &d, &clock, NULL) == 0);
    kei_merge_fini(&copy, f->al);
    told(f, &d);
    kei_merge_fini(&d, f->al);
}

static void line_of(struct fuzz *f, struct ke_str line)
{
    static const uint32_t dialects[] = {KE_DIALECT_1_4, KE_DIALECT_1_15, KE_DIALECT_1_23};
    struct kei_twin_payload p;
    struct kei_arena a;

    kei_arena_init(&a, f->al, 0);
    f->rules.dialect = dialects[line.n % 3];
    f->rules.flags = line.n & 8 ? KEI_TWIN_STRICT : 0;
    f->rules.now_ms++;
    if (kei_twin_read(&p, line, KEI_TWIN_READ_TWINS, &a, NULL) == 0) {
        update(f, &p, KEI_TWIN_SYNC, &a);
        if (!kei_twin_check(&p, &f->rules, &a))
            update(f, &p, KEI_TWIN_REST, &a);
    }
    if (kei_twin_read(&p, line, KEI_TWIN_READ_MEMBERSHIP, &a, NULL) == 0)
        devices(f, &p);
    if (kei_twin_read(&p, line, KEI_TWIN_READ_STATE | KEI_TWIN_READ_ATTRIBUTES, &a, NULL) == 0)
        attributes(f, &p, &a);
    merge(f, line);
    kei_arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str rest = kei_strn((const char *)data, size);
    struct fuzz f = {.al = kei_alloc_malloc()};
    struct kei_twin_device d;

    kei_twin_rules_default(&f.rules);
    f.rules.max_twins = 8;
    f.rules.max_value = 64;
    f.rules.max_bytes = 512;
    kei_buf_init(&f.a, f.al);
    kei_buf_init(&f.b, f.al);
    MUST(kei_twin_device_init(&f.d, f.al, KEI_STR(""), KEI_STR("d"), NULL) == 0);
    if (kei_twin_row_read(&d, f.al, rest, NULL) == 0) {
        row_again(&f, &d);
        kei_twin_device_fini(&d, f.al);
    }
    while (rest.p && rest.n)
        line_of(&f, kei_str_cut(rest, '\n', &rest));
    kei_twin_device_fini(&f.d, f.al);
    ke_buf_free(&f.a);
    ke_buf_free(&f.b);
    return 0;
}
