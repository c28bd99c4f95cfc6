/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The convergent merge of twins. Owns the texts of its devices. All that decides is compare():
 * life, then death, then for each value its stamp; each is a maximum, so order and repetition do
 * not matter.
 */
#include "message/twin_merge.h"

#define TWINS_MAX 4096u
#define NAME_MAX 128u /* of a twin, as everywhere */

/* ---- the clock ---- */

int kei_hlc_compare(const struct kei_hlc *a, const struct kei_hlc *b)
{
    if (a->ms != b->ms)
        return a->ms < b->ms ? -1 : 1;
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    return a->node < b->node ? -1 : a->node > b->node;
}

bool kei_hlc_is_zero(const struct kei_hlc *a)
{
    return a->ms == 0 && a->n == 0 && a->node == 0;
}

struct kei_hlc kei_hlc_tick(struct kei_hlc *clock, int64_t now_ms)
{
    if (now_ms > clock->ms) {
        clock->ms = now_ms;
        clock->n = 0;
    } else if (clock->n < UINT32_MAX) {
        clock->n++;
    } else {
        clock->ms += clock->ms < INT64_MAX;
        clock->n = 0;
    }
    return *clock;
}

void kei_hlc_see(struct kei_hlc *clock, const struct kei_hlc *other)
{
    if (other->ms > clock->ms || (other->ms == clock->ms && other->n > clock->n)) {
        clock->ms = other->ms;
        clock->n = other->n;
    }
}

/* ---- a device ---- */

void kei_merge_init(struct kei_merge_device *d)
{
    memset(d, 0, sizeof *d);
}

static void forget(struct kei_merge_device *d, const struct ke_alloc *al)
{
    for (uint32_t i = 0; i < d->n; i++) {
        kei_free(al, d->twins[i].name);
        kei_free(al, d->twins[i].v[0].text);
        kei_free(al, d->twins[i].v[1].text);
    }
    d->n = 0;
}

void kei_merge_fini(struct kei_merge_device *d, const struct ke_alloc *al)
{
    forget(d, al);
    kei_free(al, d->twins);
    memset(d, 0, sizeof *d);
}

static uint32_t place_of(const struct kei_merge_device *d, struct ke_str name, bool *ret_there)
{
    uint32_t lo = 0, hi = d->n;

    *ret_there = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        struct ke_str x = kei_str(d->twins[mid].name);
        size_t n = x.n < name.n ? x.n : name.n;
        int c = n ? memcmp(x.p, name.p, n) : 0;

        if (c == 0)
            c = x.n < name.n ? -1 : x.n > name.n;
        if (c == 0) {
            *ret_there = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

const struct kei_merge_twin *kei_merge_find(const struct kei_merge_device *d, struct ke_str name)
{
    bool there;
    uint32_t i = place_of(d, name, &there);

    return there ? &d->twins[i] : NULL;
}

/* The twin of that name, made if there is none; NULL: out of memory. */
static struct kei_merge_twin *twin_at(struct kei_merge_device *d, const struct ke_alloc *al,
                                      struct ke_str name)
{
    bool there;
    uint32_t i = place_of(d, name, &there);
    char *copy;

    if (there)
        return &d->twins[i];
    if (d->n == d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 4;
        struct kei_merge_twin *more = kei_array_realloc(al, d->twins, cap, sizeof *more);

        if (!more)
            return NULL;
        d->twins = more;
        d->cap = cap;
    }
    copy = kei_strndup(al, name.p, name.n);
    if (!copy)
        return NULL;
    memmove(&d->twins[i + 1], &d->twins[i], (d->n - i) * sizeof *d->twins);
    d->n++;
    memset(&d->twins[i], 0, sizeof d->twins[i]);
    d->twins[i].name = copy;
    return &d->twins[i];
}

/* Exchanges a value for a later one. */
static int put(struct kei_merge_value *v, const struct ke_alloc *al, const char *text,
               const struct kei_hlc *at)
{
    char *copy = kei_strdup(al, text);

    if (text && !copy)
        return KE_ENOMEM;
    kei_free(al, v->text);
    v->text = copy;
    v->at = *at;
    return 0;
}

void kei_merge_begin(struct kei_merge_device *d, const struct ke_alloc *al, struct kei_hlc *clock,
                     int64_t now_ms)
{
    kei_hlc_see(clock, &d->life);
    forget(d, al);
    d->life = kei_hlc_tick(clock, now_ms);
    d->dead = false;
}

bool kei_merge_delete(struct kei_merge_device *d, const struct ke_alloc *al)
{
    if (d->dead || kei_hlc_is_zero(&d->life))
        return false;
    d->dead = true;
    forget(d, al);
    return true;
}

int kei_merge_set(struct kei_merge_device *d, const struct ke_alloc *al, struct ke_str name,
                  unsigned which, const char *text, struct kei_hlc *clock, int64_t now_ms)
{
    struct kei_merge_twin *t;
    struct kei_hlc at;

    if (d->dead || kei_hlc_is_zero(&d->life))
        return KE_ESTATE;
    t = twin_at(d, al, name);
    if (!t)
        return KE_ENOMEM;
    at = kei_hlc_tick(clock, now_ms);
    return put(&t->v[which], al, text, &at);
}

int kei_merge_unset(struct kei_merge_device *d, struct ke_str name, const struct ke_alloc *al,
                    struct kei_hlc *clock, int64_t now_ms)
{
    bool there;
    uint32_t i = place_of(d, name, &there);
    struct kei_hlc at;

    if (d->dead || kei_hlc_is_zero(&d->life))
        return KE_ESTATE;
    if (!there)
        return KE_ENOTFOUND;
    at = kei_hlc_tick(clock, now_ms);
    for (unsigned s = 0; s < 2; s++)
        (void)put(&d->twins[i].v[s], al, NULL, &at); /* none needs no memory */
    return 0;
}

/* ---- merging ---- */

static int take_twin(struct kei_merge_device *d, const struct ke_alloc *al,
                     const struct kei_merge_twin *from, struct kei_hlc *clock, bool *changed)
{
    struct kei_merge_twin *t = NULL;
    int r = 0;

    for (unsigned s = 0; s < 2 && r == 0; s++) {
        const struct kei_merge_value *v = &from->v[s];

        if (kei_hlc_is_zero(&v->at))
            continue;
        kei_hlc_see(clock, &v->at);
        if (!t)
            t = twin_at(d, al, kei_str(from->name));
        if (!t)
            return KE_ENOMEM;
        if (kei_hlc_compare(&v->at, &t->v[s].at) <= 0)
            continue;
        r = put(&t->v[s], al, v->text, &v->at);
        *changed = *changed || r == 0;
    }
    return r;
}

int kei_merge_take(struct kei_merge_device *d, const struct ke_alloc *al,
                   const struct kei_merge_device *from, struct kei_hlc *clock, bool *ret_changed)
{
    int c = kei_hlc_compare(&from->life, &d->life), r = 0;
    bool changed = false;

    kei_hlc_see(clock, &from->life);
    if (ret_changed)
        *ret_changed = false;
    if (kei_hlc_is_zero(&from->life) || c < 0)
        return 0;
    if (c > 0) { /* a newer life: nothing of this one stays */
        forget(d, al);
        d->life = from->life;
        d->dead = false;
        changed = true;
    }
    if (from->dead && !d->dead) {
        d->dead = true;
        forget(d, al);
        changed = true;
    }
    for (uint32_t i = 0; i < from->n && !d->dead && r == 0; i++)
        r = take_twin(d, al, &from->twins[i], clock, &changed);
    if (ret_changed)
        *ret_changed = changed;
    return r;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool kei_merge_equal(const struct kei_merge_device *a, const struct kei_merge_device *b)
{
    if (kei_hlc_compare(&a->life, &b->life) != 0 || a->dead != b->dead || a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const struct kei_merge_twin *x = &a->twins[i], *y = &b->twins[i];

        if (strcmp(x->name, y->name) != 0)
            return false;
        for (unsigned s = 0; s < 2; s++) {
            if (kei_hlc_compare(&x->v[s].at, &y->v[s].at) != 0 ||
                !same_text(x->v[s].text, y->v[s].text))
                return false;
        }
    }
    return true;
}

/* ---- JSON ---- */

void kei_hlc_write(struct kei_jw *w, const struct kei_hlc *h)
{
    kei_jw_arr(w);
    kei_jw_i64(w, h->ms);
    kei_jw_i64(w, h->n);
    kei_jw_i64(w, h->node);
    kei_jw_arr_end(w);
}

void kei_merge_open(struct kei_jw *w, const struct kei_hlc *life, bool dead)
{
    kei_jw_obj(w);
    kei_jw_key(w, "life");
    kei_hlc_write(w, life);
    if (dead)
        kei_jw_kbool(w, "dead", true);
    kei_jw_key(w, "twin");
    kei_jw_obj(w);
}

void kei_merge_close(struct kei_jw *w)
{
    kei_jw_obj_end(w);
    kei_jw_obj_end(w);
}

static bool is_later(const struct kei_hlc *at, const struct kei_hlc *since)
{
    return !kei_hlc_is_zero(at) && (!since || kei_hlc_compare(at, since) > 0);
}

void kei_merge_one(struct kei_jw *w, struct ke_str name, const char *const text[2],
                   const struct kei_hlc at[2], const struct kei_hlc *since)
{
    static const char *const sides[] = {"expected", "actual"};

    if (!is_later(&at[0], since) && !is_later(&at[1], since))
        return;
    kei_jw_strv(w, name);
    kei_buf_addc(w->out, ':');
    w->comma = false;
    kei_jw_obj(w);
    for (unsigned s = 0; s < 2; s++) {
        if (!is_later(&at[s], since))
            continue;
        kei_jw_key(w, sides[s]);
        kei_jw_obj(w);
        kei_jw_kstr(w, "value", text[s]); /* NULL: null */
        kei_jw_key(w, "at");
        kei_hlc_write(w, &at[s]);
        kei_jw_obj_end(w);
    }
    kei_jw_obj_end(w);
}

void kei_merge_write(struct ke_buf *out, const struct kei_merge_device *d,
                     const struct kei_hlc *since)
{
    struct kei_jw w;

    kei_jw_init(&w, out);
    kei_merge_open(&w, &d->life, d->dead);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct kei_merge_twin *t = &d->twins[i];
        const char *const text[2] = {t->v[0].text, t->v[1].text};
        const struct kei_hlc at[2] = {t->v[0].at, t->v[1].at};

        kei_merge_one(&w, kei_str(t->name), text, at, since);
    }
    kei_merge_close(&w);
}

bool kei_hlc_read(struct kei_hlc *ret, struct ke_str list)
{
    struct ke_str v;
    int64_t n[3];
    size_t it = 0;
    unsigned k = 0;

    if (kei_json_type(list) != '[')
        return false;
    for (; kei_json_next(list, &it, NULL, &v); k++) {
        if (k == 3 || kei_json_type(v) != '0' || !kei_json_i64(v, &n[k]) || n[k] < 0)
            return false;
    }
    if (k != 3 || n[0] > KEI_HLC_MS_MAX || n[1] > UINT32_MAX || n[2] > UINT32_MAX)
        return false;
    *ret = (struct kei_hlc){n[0], (uint32_t)n[1], (uint32_t)n[2]};
    return true;
}

static int read_hlc(struct ke_str obj, const char *name, struct kei_hlc *ret, struct ke_error *err)
{
    struct ke_str list;

    if (!kei_json_get(obj, name, &list) || kei_json_type(list) != '[')
        return kei_error(err, KE_EPARSE, "a merged device lacks the stamp %s", name);
    if (!kei_hlc_read(ret, list))
        return kei_error(err, KE_EPARSE, "the stamp %s is not three whole numbers", name);
    return 0;
}

static int read_side(struct kei_merge_value *v, const struct ke_alloc *al, struct ke_str side,
                     struct ke_error *err)
{
    struct ke_str x;
    struct ke_buf text;
    struct kei_hlc at;
    int r = read_hlc(side, "at", &at, err);

    if (r < 0)
        return r;
    if (!kei_json_get(side, "value", &x) || kei_json_type(x) == 'n')
        return put(v, al, NULL, &at);
    kei_buf_init(&text, al);
    r = kei_json_str(x, &text, err);
    if (r == 0)
        r = put(v, al, text.p, &at);
    ke_buf_free(&text);
    return r;
}

static int read_twin(struct kei_merge_device *d, const struct ke_alloc *al, struct ke_str raw,
                     struct ke_str v, struct ke_error *err)
{
    static const char *const sides[] = {"expected", "actual"};
    struct kei_merge_twin *t;
    struct ke_buf name;
    struct ke_str side;
    int r;

    if (d->n == TWINS_MAX)
        return kei_error(err, KE_ELIMIT, "a merged device has more than %u twins", TWINS_MAX);
    kei_buf_init(&name, al);
    r = kei_json_str(kei_strn(raw.p - 1, raw.n + 2), &name, err);
    if (r == 0 && (name.n == 0 || name.n > NAME_MAX))
        r = kei_error(err, KE_ELIMIT, "the name of a twin has %zu bytes; it has 1 to %u", name.n,
                      NAME_MAX);
    t = r == 0 ? twin_at(d, al, kei_buf_str(&name)) : NULL;
    ke_buf_free(&name);
    if (r == 0 && !t)
        r = KE_ENOMEM;
    for (unsigned s = 0; s < 2 && r == 0; s++) {
        if (kei_json_get(v, sides[s], &side))
            r = read_side(&t->v[s], al, side, err);
    }
    return r == KE_ENOMEM ? kei_error(err, r, "out of memory for a merged device") : r;
}

int kei_merge_read(struct kei_merge_device *d, const struct ke_alloc *al, struct ke_str text,
                   struct ke_error *err)
{
    struct ke_str twins, key, v;
    size_t it = 0;
    int r = kei_json_check(text, 0, err);

    kei_merge_init(d);
    if (r == 0)
        r = kei_json_value(text, 0, &text, err);
    if (r == 0)
        r = read_hlc(text, "life", &d->life, err);
    if (r < 0)
        return r;
    if (kei_json_get(text, "dead", &v))
        d->dead = kei_json_bool(v, false);
    if (!d->dead && kei_json_get(text, "twin", &twins) && kei_json_type(twins) == '{') {
        while (r == 0 && kei_json_next(twins, &it, &key, &v))
            r = read_twin(d, al, key, v, err);
    }
    if (r < 0)
        kei_merge_fini(d, al);
    return r;
}
