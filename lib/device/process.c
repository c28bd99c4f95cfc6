/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of data processing: their configuration, their few numbers, their results. Pure. */
#include "device/process.h"

#include <math.h>
#include <stdio.h>

#include "device/expr.h"
#include "device/value.h"

enum aggregate { AGG_NONE, AGG_MEAN, AGG_MIN, AGG_MAX, AGG_LAST, AGG_COUNT, AGG_RATE };

static const char *const aggregates[] = {NULL, "mean", "min", "max", "last", "count", "rate"};
static const char *const levels[] = {"normal", "above", "below"};

/* What survives a restart. */
struct state {
    uint64_t n;
    double sum, min, max, first, last;
    int64_t start_ms, first_ms, last_ms; /* monotonic */
    double result;
    uint32_t level;
    bool open, has_result, has_level;
    bool incomplete; /* the window was open when it was stored, and values may have come after it */
};

struct rule {
    char *name, *topic;
    uint64_t hash; /* of its configuration */
    struct kei_expr *expr, *filter;
    double min, max, by, above, below, hysteresis;
    int64_t window_ms, window_count;
    enum aggregate aggregate;
    enum process_to to;
    bool has_min, has_max, has_change, has_above, has_below;
    bool due;
    struct state s;
};

struct process {
    const struct ke_alloc *alloc;
    struct rule *rules;
    uint32_t n, n_properties;
    bool dirty;
    process_name_fn name;
    void *user;
};

/* ---- configuration ---- */

struct reading {
    struct process *p;
    struct rule *r;
    uint32_t at;
    struct ke_error *err;
};

static int wrong(const struct reading *g, int code, const char *what)
{
    if (g->r->name)
        return kei_error(g->err, code, "rule %s of data processing: %s", g->r->name, what);
    return kei_error(g->err, code, "rule %u of data processing: %s", g->at, what);
}

static bool member(struct ke_str o, const char *key, struct ke_str *ret)
{
    return kei_json_get(o, key, ret) && kei_json_type(*ret) != 'n';
}

static int read_number(const struct reading *g, struct ke_str o, const char *key, double *ret,
                       bool *has)
{
    struct ke_str v;

    *has = member(o, key, &v);
    if (!*has)
        return 0;
    if (kei_json_type(v) != '0' || !kei_number_parse(v, ret)) {
        char text[80];
        snprintf(text, sizeof text, "%s is no number", key);
        return wrong(g, KE_EPARSE, text);
    }
    return 0;
}

static int read_text(const struct reading *g, struct ke_str o, const char *key, char **ret)
{
    struct ke_str v;
    struct ke_buf b;
    char text[80];

    if (!member(o, key, &v))
        return 0;
    kei_buf_init(&b, g->p->alloc);
    int r = kei_json_str(v, &b, NULL);
    if (r == 0 && b.n > KEI_EXPR_TEXT_MAX)
        r = KE_ELIMIT;
    if (r == 0)
        r = kei_buf_ok(&b) && (*ret = kei_strndup(g->p->alloc, b.p ? b.p : "", b.n)) ? 0
                                                                                     : KE_ENOMEM;
    ke_buf_free(&b);
    snprintf(text, sizeof text, "%s is %s", key,
             r == KE_ELIMIT ? "longer than 1,024 characters" : "no text");
    return r == 0 ? 0 : wrong(g, r == KE_ENOMEM || r == KE_ELIMIT ? r : KE_EPARSE, text);
}

/* A property, or the result of a rule before this one. */
static int32_t find_name(void *user, struct ke_str name)
{
    struct reading *g = user;
    int32_t i = g->p->name(g->p->user, name);

    for (uint32_t k = 0; i < 0 && k < g->at; k++) {
        if (kei_str_is(name, g->p->rules[k].name))
            i = (int32_t)(g->p->n_properties + k);
    }
    return i;
}

static int read_expr(struct reading *g, struct ke_str o, const char *key, struct kei_expr **ret)
{
    struct ke_error why = KE_ERROR_INIT;
    char *text = NULL;
    int r = read_text(g, o, key, &text);

    if (r < 0 || !text)
        return r;
    r = kei_expr_compile(ret, kei_str(text), find_name, g, g->p->alloc, &why);
    kei_free(g->p->alloc, text);
    return r < 0 ? wrong(g, r, why.text) : 0;
}

static int read_input(struct reading *g, struct ke_str o)
{
    char *property = NULL;
    int r = read_expr(g, o, "expr", &g->r->expr);

    if (r == 0)
        r = read_text(g, o, "property", &property);
    if (r == 0 && !property == !g->r->expr)
        r = wrong(g, KE_EPARSE, "one of property and expr is needed");
    if (r == 0 && property) {
        int32_t i = find_name(g, kei_str(property));
        if (i < 0)
            r = wrong(g, KE_EPARSE, "the device has no such property");
        else if (!(g->r->expr = kei_expr_of((uint32_t)i, g->p->alloc)))
            r = wrong(g, KE_ENOMEM, "out of memory");
    }
    kei_free(g->p->alloc, property);
    return r;
}

static int read_window(const struct reading *g, struct ke_str o)
{
    struct rule *r = g->r;
    struct ke_str w, v;
    char text[16];

    if (!member(o, "window", &w))
        return 0;
    if (kei_json_type(w) != '{')
        return wrong(g, KE_EPARSE, "window is no object");
    bool ms = member(w, "ms", &v) && kei_json_i64(v, &r->window_ms);
    bool count = member(w, "count", &v) && kei_json_i64(v, &r->window_count);
    if (ms == count || (ms && (r->window_ms < 1 || r->window_ms > INT32_MAX)) ||
        (count && (r->window_count < 1 || r->window_count > INT32_MAX)))
        return wrong(g, KE_EPARSE, "window needs either ms or count, from 1 to 2147483647");
    r->aggregate = AGG_MEAN;
    if (member(w, "aggregate", &v)) {
        kei_json_copy(text, sizeof text, v);
        r->aggregate = AGG_NONE;
        for (int i = AGG_MEAN; i <= AGG_RATE; i++) {
            if (!strcmp(text, aggregates[i]))
                r->aggregate = (enum aggregate)i;
        }
        if (r->aggregate == AGG_NONE)
            return wrong(g, KE_EPARSE, "aggregate is none of mean, min, max, last, count, rate");
    }
    return 0;
}

static int read_gates(struct reading *g, struct ke_str o)
{
    struct rule *r = g->r;
    struct ke_str v;
    bool has;
    int e = 0;

    if (member(o, "filter", &v)) {
        if ((e = read_number(g, v, "min", &r->min, &r->has_min)) < 0 ||
            (e = read_number(g, v, "max", &r->max, &r->has_max)) < 0 ||
            (e = read_expr(g, v, "expr", &r->filter)) < 0)
            return e;
        if (!r->has_min && !r->has_max && !r->filter)
            return wrong(g, KE_EPARSE, "filter needs min, max or expr");
    }
    if (member(o, "change", &v)) {
        r->has_change = true;
        if ((e = read_number(g, v, "by", &r->by, &has)) < 0)
            return e;
    }
    if (member(o, "threshold", &v)) {
        if ((e = read_number(g, v, "above", &r->above, &r->has_above)) < 0 ||
            (e = read_number(g, v, "below", &r->below, &r->has_below)) < 0 ||
            (e = read_number(g, v, "hysteresis", &r->hysteresis, &has)) < 0)
            return e;
        if ((!r->has_above && !r->has_below) || r->hysteresis < 0 ||
            (r->has_above && r->has_below && r->below > r->above))
            return wrong(g, KE_EPARSE,
                         "threshold needs above or below, below not over above, and "
                         "a hysteresis from 0");
    }
    return 0;
}

static int read_output(const struct reading *g, struct ke_str o)
{
    struct ke_str v;
    int e = read_text(g, o, "topic", &g->r->topic);

    if (e < 0)
        return e;
    if (member(o, "to", &v)) {
        if (kei_json_str_is(v, "twin"))
            g->r->to = PROCESS_TWIN;
        else if (kei_json_str_is(v, "cloud"))
            g->r->to = PROCESS_CLOUD;
        else if (!kei_json_str_is(v, "topic"))
            return wrong(g, KE_EPARSE, "to is none of topic, twin, cloud");
    }
    bool topic = g->r->topic && g->r->topic[0];
    if (g->r->to != PROCESS_TWIN && !topic)
        return wrong(g, KE_EPARSE, "topic is missing");
    if (topic && strpbrk(g->r->topic, "+#"))
        return wrong(g, KE_EPARSE, "topic has a wildcard");
    return 0;
}

static int read_rule(struct reading *g, struct ke_str o)
{
    int r = read_text(g, o, "name", &g->r->name);

    if (r == 0 && (!g->r->name || !g->r->name[0]))
        r = wrong(g, KE_EPARSE, "name is missing");
    for (uint32_t k = 0; r == 0 && k < g->at; k++) {
        if (!strcmp(g->p->rules[k].name, g->r->name))
            r = wrong(g, KE_EPARSE, "another one has that name");
    }
    if (r == 0)
        r = read_input(g, o);
    if (r == 0)
        r = read_gates(g, o);
    if (r == 0)
        r = read_window(g, o);
    if (r == 0)
        r = read_output(g, o);
    g->r->hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < o.n; i++)
        g->r->hash = (g->r->hash ^ (unsigned char)o.p[i]) * UINT64_C(1099511628211);
    return r;
}

static int read_rules(struct process *p, struct ke_str list, uint32_t max_rules,
                      struct ke_error *err)
{
    struct ke_str item;
    size_t it = 0;
    uint32_t n = 0;

    while (kei_json_next(list, &it, NULL, &item))
        n++;
    if (n > max_rules)
        return kei_error(err, KE_ELIMIT, "data processing had %u rules; max_rules is %u", n,
                         max_rules);
    p->rules = kei_array_alloc(p->alloc, n ? n : 1, sizeof *p->rules);
    if (!p->rules)
        return kei_error(err, KE_ENOMEM, "out of memory for data processing");
    memset(p->rules, 0, (n ? n : 1) * sizeof *p->rules);
    it = 0;
    while (kei_json_next(list, &it, NULL, &item)) {
        struct reading g = {p, &p->rules[p->n], p->n, err};
        p->n++;
        if (kei_json_type(item) != '{')
            return wrong(&g, KE_EPARSE, "it is no object");
        int r = read_rule(&g, item);
        if (r < 0)
            return r;
    }
    return 0;
}

int kei_rules_new(struct process **ret, struct ke_str json, uint32_t max_rules,
                  process_name_fn name, void *user, uint32_t n_properties, const struct ke_alloc *a,
                  struct ke_error *err)
{
    struct ke_str v, list;
    int r = kei_json_check(json, 0, err);

    if (r == 0)
        r = kei_json_value(json, 0, &v, err);
    if (r < 0)
        return kei_error_prefix(err, r, "data processing");
    if (kei_json_type(v) == '{' && kei_json_get(v, "rules", &list))
        v = list;
    if (kei_json_type(v) != '[')
        return kei_error(err, KE_EPARSE, "data processing is no list of rules");
    struct process *p = kei_zalloc(a, sizeof *p);
    if (!p)
        return kei_error(err, KE_ENOMEM, "out of memory for data processing");
    p->alloc = a;
    p->name = name;
    p->user = user;
    p->n_properties = n_properties;
    r = read_rules(p, v, max_rules, err);
    p->user = NULL; /* only while names are looked up */
    if (r < 0) {
        kei_rules_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void kei_rules_free(struct process *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; p->rules && i < p->n; i++) {
        kei_free(p->alloc, p->rules[i].name);
        kei_free(p->alloc, p->rules[i].topic);
        kei_expr_free(p->rules[i].expr, p->alloc);
        kei_expr_free(p->rules[i].filter, p->alloc);
    }
    kei_free(p->alloc, p->rules);
    kei_free(p->alloc, p);
}

/* ---- running ---- */

static void touch(struct process *p, uint32_t index, uint32_t from)
{
    for (uint32_t i = from; i < p->n; i++)
        p->rules[i].due = p->rules[i].due || kei_expr_uses(p->rules[i].expr, index);
}

void kei_rules_touch(struct process *p, uint32_t property)
{
    touch(p, property, 0);
}

/* The level of x; inside of the hysteresis it stays. */
static uint32_t level_of(const struct rule *r, double x)
{
    double h = r->s.has_level ? r->hysteresis : 0;

    if (r->has_above && (x > r->above || (r->s.level == 1 && x > r->above - h)))
        return 1;
    if (r->has_below && (x < r->below || (r->s.level == 2 && x < r->below + h)))
        return 2;
    return 0;
}

struct output {
    struct process *p;
    process_result_fn fn;
    void *user;
};

/* A result, behind the window: through change and threshold. */
static void give(struct output *o, uint32_t i, double x, uint64_t count, bool incomplete)
{
    struct rule *r = &o->p->rules[i];
    bool crossed = true;

    o->p->dirty = true;
    if (r->has_above || r->has_below) {
        uint32_t level = level_of(r, x);
        crossed = r->s.has_level ? level != r->s.level : level != 0;
        r->s.level = level;
        r->s.has_level = true;
    }
    bool changed = !r->has_change || !r->s.has_result || fabs(x - r->s.result) > r->by;
    if (!crossed || !changed)
        return;
    r->s.result = x;
    r->s.has_result = true;
    struct process_result res = {
        .name = r->name,
        .topic = r->topic ? r->topic : "",
        .to = r->to,
        .value = x,
        .aggregate = aggregates[r->aggregate],
        .level = r->has_above || r->has_below ? levels[r->s.level] : NULL,
        .count = count,
        .window_ms = r->window_ms,
        .incomplete = incomplete,
    };
    touch(o->p, o->p->n_properties + i, i + 1);
    o->fn(o->user, &res);
}

static void end_window(struct output *o, uint32_t i)
{
    struct rule *r = &o->p->rules[i];
    struct state s = r->s;
    double seconds = (double)(s.last_ms - s.first_ms) / 1000, x = 0;
    bool any = s.n > 0;

    r->s.n = 0;
    r->s.open = r->s.incomplete = false;
    o->p->dirty = true;
    switch (r->aggregate) {
    case AGG_MEAN:
        x = s.sum / (double)(s.n ? s.n : 1);
        break;
    case AGG_MIN:
        x = s.min;
        break;
    case AGG_MAX:
        x = s.max;
        break;
    case AGG_LAST:
        x = s.last;
        break;
    case AGG_COUNT:
        x = (double)s.n;
        any = true;
        break;
    default: /* a rate needs two values at two times */
        any = s.n > 1 && seconds > 0;
        x = any ? (s.last - s.first) / seconds : 0;
        break;
    }
    if (any && isfinite(x))
        give(o, i, x, s.n, s.incomplete);
}

static void add(struct rule *r, double x, int64_t now)
{
    struct state *s = &r->s;

    if (!s->open) {
        s->open = true;
        s->start_ms = now;
        s->n = 0;
        s->sum = 0;
    }
    if (s->n == 0) {
        s->min = s->max = s->first = x;
        s->first_ms = now;
    }
    s->n++;
    s->sum += x;
    s->min = x < s->min ? x : s->min;
    s->max = x > s->max ? x : s->max;
    s->last = x;
    s->last_ms = now;
}

struct lookup {
    const struct process *p;
    process_value_fn value;
    void *user;
};

static bool value_of(void *user, uint32_t index, double *ret)
{
    struct lookup *l = user;

    if (index < l->p->n_properties)
        return l->value(l->user, index, ret);
    const struct rule *r = &l->p->rules[index - l->p->n_properties];
    *ret = r->s.result;
    return r->s.has_result;
}

static bool passes(const struct rule *r, double x, struct lookup *l)
{
    double pass;

    if ((r->has_min && x < r->min) || (r->has_max && x > r->max))
        return false;
    return !r->filter || (kei_expr_eval(r->filter, value_of, l, &pass) && pass != 0);
}

void kei_rules_run(struct process *p, int64_t now_ms, process_value_fn value, void *user,
                   process_result_fn fn, void *fn_user)
{
    struct output o = {p, fn, fn_user};
    struct lookup l = {p, value, user};

    kei_rules_tick(p, now_ms, fn, fn_user);
    for (uint32_t i = 0; i < p->n; i++) {
        struct rule *r = &p->rules[i];
        double x;
        if (!r->due)
            continue;
        r->due = false;
        if (!kei_expr_eval(r->expr, value_of, &l, &x) || !passes(r, x, &l))
            continue;
        if (r->aggregate == AGG_NONE) {
            give(&o, i, x, 1, false);
            continue;
        }
        add(r, x, now_ms);
        p->dirty = true;
        if (r->window_count && r->s.n >= (uint64_t)r->window_count)
            end_window(&o, i);
    }
}

void kei_rules_tick(struct process *p, int64_t now_ms, process_result_fn fn, void *fn_user)
{
    struct output o = {p, fn, fn_user};

    for (uint32_t i = 0; i < p->n; i++) {
        struct rule *r = &p->rules[i];
        if (r->s.open && r->window_ms && now_ms - r->s.start_ms >= r->window_ms)
            end_window(&o, i);
    }
}

int64_t kei_rules_due(const struct process *p)
{
    int64_t due = INT64_MAX;

    for (uint32_t i = 0; i < p->n; i++) {
        const struct rule *r = &p->rules[i];
        if (r->s.open && r->window_ms && r->s.start_ms + r->window_ms < due)
            due = r->s.start_ms + r->window_ms;
    }
    return due;
}

/* ---- state ---- */

bool kei_rules_dirty(const struct process *p)
{
    return p->dirty;
}

static void put_double(struct kei_jw *w, const char *key, double v)
{
    char text[KEI_VALUE_TEXT_MAX];

    kei_jw_key(w, key);
    kei_jw_raw(w, kei_strn(text, kei_number_text(text, v, false)));
}

void kei_rules_save(struct process *p, int64_t now_ms, bool last, struct ke_buf *out)
{
    struct kei_jw w;
    char hash[24];

    p->dirty = false;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < p->n; i++) {
        const struct rule *r = &p->rules[i];
        const struct state *s = &r->s;
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->hash);
        kei_jw_key(&w, r->name);
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "rule", hash);
        if (s->open) { /* times as ages: the clock starts anew */
            kei_jw_ki64(&w, "age", now_ms - s->start_ms);
            kei_jw_ki64(&w, "first_age", now_ms - s->first_ms);
            kei_jw_ki64(&w, "last_age", now_ms - s->last_ms);
            kei_jw_ki64(&w, "n", (int64_t)s->n);
            put_double(&w, "sum", s->sum);
            put_double(&w, "min", s->min);
            put_double(&w, "max", s->max);
            put_double(&w, "first", s->first);
            put_double(&w, "last", s->last);
            if (!last || s->incomplete)
                kei_jw_kbool(&w, "incomplete", true);
        }
        if (s->has_result)
            put_double(&w, "result", s->result);
        if (s->has_level)
            kei_jw_ki64(&w, "level", s->level);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
}

static int64_t get_i64(struct ke_str o, const char *key, int64_t dflt)
{
    struct ke_str v;
    int64_t i;

    return kei_json_get(o, key, &v) && kei_json_i64(v, &i) && i >= 0 ? i : dflt;
}

static bool get_double(struct ke_str o, const char *key, double *ret)
{
    struct ke_str v;

    return kei_json_get(o, key, &v) && kei_number_parse(v, ret);
}

void kei_rules_restore(struct process *p, int64_t now_ms, struct ke_str json)
{
    struct ke_str o, v;
    char hash[24];

    for (uint32_t i = 0; i < p->n; i++) {
        struct rule *r = &p->rules[i];
        struct state s = {0};
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)r->hash);
        if (!kei_json_get(json, r->name, &o) || !kei_json_get(o, "rule", &v) ||
            !kei_json_str_is(v, hash))
            continue;
        s.has_result = get_double(o, "result", &s.result);
        int64_t level = get_i64(o, "level", -1), n = get_i64(o, "n", -1);
        s.has_level = level >= 0 && level <= 2;
        s.level = s.has_level ? (uint32_t)level : 0;
        s.open = n >= 0 && get_double(o, "sum", &s.sum) && get_double(o, "min", &s.min) &&
                 get_double(o, "max", &s.max) && get_double(o, "first", &s.first) &&
                 get_double(o, "last", &s.last);
        if (s.open) {
            s.n = (uint64_t)n;
            s.start_ms = now_ms - get_i64(o, "age", 0);
            s.first_ms = now_ms - get_i64(o, "first_age", 0);
            s.last_ms = now_ms - get_i64(o, "last_age", 0);
            s.incomplete = kei_json_get(o, "incomplete", &v) && kei_json_type(v) == 't';
        }
        r->s = s;
    }
}

void kei_rules_carry(struct process *to, const struct process *from)
{
    for (uint32_t i = 0; i < to->n; i++) {
        for (uint32_t k = 0; k < from->n; k++) {
            if (to->rules[i].hash == from->rules[k].hash &&
                !strcmp(to->rules[i].name, from->rules[k].name))
                to->rules[i].s = from->rules[k].s;
        }
    }
    to->dirty = true;
}
