/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expressions by the shunting-yard method: an operator waits on a stack of fixed size until one of
 * lower rank comes. Pure; the compiled form is the caller's.
 */
#include "device/expr.h"

#include <math.h>

#include "message/devmodel.h"

enum step_op {
    STEP_NUMBER,
    STEP_NAME,
    STEP_NEG,
    STEP_ADD,
    STEP_SUB,
    STEP_MUL,
    STEP_DIV,
    STEP_LT,
    STEP_LE,
    STEP_GT,
    STEP_GE,
    STEP_EQ,
    STEP_NE,
    STEP_MIN, /* of count values */
    STEP_MAX,
    STEP_ABS,
    OPEN,      /* only on the stack of operators */
    OPEN_CALL, /* the parenthesis of a function, which waits below it */
};

struct step {
    enum step_op op;
    union {
        double number;
        uint32_t index; /* of a name; number of values of a function */
    };
};

struct kei_expr {
    uint32_t n;
    struct step steps[];
};

struct pending {
    enum step_op op;
    uint32_t count; /* of a function: values so far */
};

struct compiler {
    const char *start, *p, *end;
    struct step steps[KEI_EXPR_STEPS_MAX];
    struct pending stack[KEI_EXPR_STACK_MAX];
    uint32_t n, depth;
    uint32_t values, peak; /* on the stack of the evaluation */
    bool want;             /* a value comes next */
    kei_expr_name_fn name;
    void *user;
    struct ke_error *err;
};

static int wrong(const struct compiler *c, const char *what)
{
    return kei_error(c->err, KE_EPARSE, "%s at character %zu of the expression", what,
                     (size_t)(c->p - c->start) + 1);
}

static int too_long(const struct compiler *c)
{
    return kei_error(c->err, KE_ELIMIT, "the expression is too long: %u steps, %u levels at most",
                     KEI_EXPR_STEPS_MAX, KEI_EXPR_STACK_MAX);
}

/* ---- steps ---- */

static uint32_t takes(enum step_op op, uint32_t count)
{
    if (op == STEP_NUMBER || op == STEP_NAME)
        return 0;
    if (op == STEP_NEG || op == STEP_ABS)
        return 1;
    return op == STEP_MIN || op == STEP_MAX ? count : 2;
}

static int emit(struct compiler *c, struct step s, uint32_t count)
{
    if (c->n == KEI_EXPR_STEPS_MAX)
        return too_long(c);
    c->steps[c->n++] = s;
    c->values = c->values + 1 - takes(s.op, count);
    if (c->values > KEI_EXPR_STACK_MAX)
        return too_long(c);
    return 0;
}

static int rank(enum step_op op)
{
    switch (op) {
    case STEP_NEG:
        return 4;
    case STEP_MUL:
    case STEP_DIV:
        return 3;
    case STEP_ADD:
    case STEP_SUB:
        return 2;
    case STEP_LT:
    case STEP_LE:
    case STEP_GT:
    case STEP_GE:
    case STEP_EQ:
    case STEP_NE:
        return 1;
    default:
        return 0; /* parentheses: nothing goes past them */
    }
}

static int push(struct compiler *c, enum step_op op)
{
    if (c->depth == KEI_EXPR_STACK_MAX)
        return too_long(c);
    c->stack[c->depth++] = (struct pending){op, 0};
    return 0;
}

/* Those of at least that rank go out. */
static int flush(struct compiler *c, int least)
{
    while (c->depth && rank(c->stack[c->depth - 1].op) >= least) {
        int r = emit(c, (struct step){.op = c->stack[--c->depth].op}, 0);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- tokens ---- */

static bool name_char(char ch, bool first)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' ||
           (unsigned char)ch >= 0x80 || (!first && ((ch >= '0' && ch <= '9') || ch == '.'));
}

static struct ke_str take_name(struct compiler *c)
{
    const char *from = c->p;

    if (*c->p == '\'') {
        for (c->p++; c->p < c->end && *c->p != '\''; c->p++)
            ;
        struct ke_str s = {from + 1, (size_t)(c->p - from - 1)};
        c->p += c->p < c->end;
        return s;
    }
    while (c->p < c->end && name_char(*c->p, c->p == from))
        c->p++;
    return kei_strn(from, (size_t)(c->p - from));
}

static void skip(struct compiler *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t' || *c->p == '\n' || *c->p == '\r'))
        c->p++;
}

static int number(struct compiler *c)
{
    const char *from = c->p;
    double v;

    while (c->p < c->end && ((*c->p >= '0' && *c->p <= '9') || *c->p == '.' ||
                             ((*c->p == 'e' || *c->p == 'E') && c->p > from) ||
                             ((*c->p == '+' || *c->p == '-') && c->p > from &&
                              (c->p[-1] == 'e' || c->p[-1] == 'E'))))
        c->p++;
    if (!kei_number_parse(kei_strn(from, (size_t)(c->p - from)), &v)) {
        c->p = from;
        return wrong(c, "no number");
    }
    c->want = false;
    return emit(c, (struct step){.op = STEP_NUMBER, .number = v}, 0);
}

static int name(struct compiler *c)
{
    static const struct {
        const char *name;
        enum step_op op;
    } functions[] = {{"min", STEP_MIN}, {"max", STEP_MAX}, {"abs", STEP_ABS}};
    const char *from = c->p;
    bool quoted = *c->p == '\'';
    struct ke_str s = take_name(c);

    skip(c);
    if (!quoted && c->p < c->end && *c->p == '(') {
        for (size_t i = 0; i < 3; i++) {
            if (!kei_str_is(s, functions[i].name))
                continue;
            c->p++;
            int r = push(c, functions[i].op);
            return r < 0 ? r : push(c, OPEN_CALL);
        }
        c->p = from;
        return wrong(c, "an unknown function");
    }
    int32_t index = s.n ? c->name(c->user, s) : -1;
    if (index < 0) {
        c->p = from;
        return wrong(c, "an unknown name");
    }
    c->want = false;
    return emit(c, (struct step){.op = STEP_NAME, .index = (uint32_t)index}, 0);
}

static int value(struct compiler *c)
{
    char ch = *c->p;

    if ((ch >= '0' && ch <= '9') || ch == '.')
        return number(c);
    if (ch == '-' || ch == '+') {
        c->p++;
        return ch == '-' ? push(c, STEP_NEG) : 0;
    }
    if (ch == '(') {
        c->p++;
        return push(c, OPEN);
    }
    if (ch == '\'' || name_char(ch, true))
        return name(c);
    return wrong(c, "a value was expected");
}

/* ")" or ",": up to the parenthesis that is open */
static int close(struct compiler *c, bool comma)
{
    int r = flush(c, 1);

    if (r < 0)
        return r;
    if (!c->depth || (comma && c->stack[c->depth - 1].op != OPEN_CALL))
        return wrong(c, comma ? "a comma outside of a function" : "a parenthesis was not open");
    struct pending *open = &c->stack[c->depth - 1];
    c->p++;
    if (open->op == OPEN_CALL) {
        struct pending *f = open - 1;
        f->count++;
        if (comma) {
            c->want = true;
            return 0;
        }
        if (f->op == STEP_ABS && f->count != 1)
            return wrong(c, "abs with more than one value");
        c->depth -= 2;
        return emit(c, (struct step){.op = f->op, .index = f->count}, f->count);
    }
    c->depth--;
    return 0;
}

static int operator(struct compiler *c)
{
    static const struct {
        const char *text;
        enum step_op op;
    } ops[] = {{"<=", STEP_LE}, {">=", STEP_GE}, {"==", STEP_EQ}, {"!=", STEP_NE}, {"<", STEP_LT},
               {">", STEP_GT},  {"+", STEP_ADD}, {"-", STEP_SUB}, {"*", STEP_MUL}, {"/", STEP_DIV}};
    struct ke_str rest = {c->p, (size_t)(c->end - c->p)};

    if (*c->p == ')' || *c->p == ',')
        return close(c, *c->p == ',');
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (!kei_str_starts(rest, kei_str(ops[i].text)))
            continue;
        int r = flush(c, rank(ops[i].op));
        c->p += strlen(ops[i].text);
        c->want = true;
        return r < 0 ? r : push(c, ops[i].op);
    }
    return wrong(c, "an operator was expected");
}

static int compile(struct compiler *c)
{
    int r = 0;

    c->want = true;
    for (skip(c); r == 0 && c->p < c->end; skip(c))
        r = c->want ? value(c) : operator(c);
    if (r < 0)
        return r;
    if (c->want)
        return wrong(c, "a value was expected");
    r = flush(c, 1);
    if (r == 0 && c->depth)
        r = wrong(c, "a parenthesis was not closed");
    return r;
}

int kei_expr_compile(struct kei_expr **ret, struct ke_str text, kei_expr_name_fn fn, void *user,
                     const struct ke_alloc *a, struct ke_error *err)
{
    if (text.n > KEI_EXPR_TEXT_MAX)
        return kei_error(err, KE_ELIMIT, "the expression has %zu characters; the limit is %u",
                         text.n, KEI_EXPR_TEXT_MAX);
    struct compiler *c = kei_zalloc(a, sizeof *c);
    if (!c)
        return kei_error(err, KE_ENOMEM, "out of memory for an expression");
    c->start = c->p = text.p;
    c->end = text.p + text.n;
    c->name = fn;
    c->user = user;
    c->err = err;
    int r = compile(c);
    struct kei_expr *e = NULL;
    if (r == 0 && !(e = kei_alloc(a, sizeof *e + c->n * sizeof e->steps[0])))
        r = kei_error(err, KE_ENOMEM, "out of memory for an expression");
    if (r == 0) {
        e->n = c->n;
        memcpy(e->steps, c->steps, c->n * sizeof e->steps[0]);
        *ret = e;
    }
    kei_free(a, c);
    return r;
}

struct kei_expr *kei_expr_of(uint32_t index, const struct ke_alloc *a)
{
    struct kei_expr *e = kei_alloc(a, sizeof *e + sizeof e->steps[0]);

    if (e) {
        e->n = 1;
        e->steps[0] = (struct step){.op = STEP_NAME, .index = index};
    }
    return e;
}

void kei_expr_free(struct kei_expr *e, const struct ke_alloc *a)
{
    kei_free(a, e);
}

bool kei_expr_uses(const struct kei_expr *e, uint32_t index)
{
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->steps[i].op == STEP_NAME && e->steps[i].index == index)
            return true;
    }
    return false;
}

/* ---- evaluation ---- */

static double two(enum step_op op, double a, double b)
{
    switch (op) {
    case STEP_ADD:
        return a + b;
    case STEP_SUB:
        return a - b;
    case STEP_MUL:
        return a * b;
    case STEP_DIV:
        return b != 0 ? a / b : (double)NAN;
    case STEP_LT:
        return a < b;
    case STEP_LE:
        return a <= b;
    case STEP_GT:
        return a > b;
    case STEP_GE:
        return a >= b;
    case STEP_EQ:
        return a == b;
    default:
        return a != b;
    }
}

bool kei_expr_eval(const struct kei_expr *e, kei_expr_value_fn value_of, void *user, double *ret)
{
    double v[KEI_EXPR_STACK_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < e->n; i++) {
        const struct step *s = &e->steps[i];
        uint32_t count = takes(s->op, s->index);
        double x = 0;
        if (s->op == STEP_NUMBER) {
            x = s->number;
        } else if (s->op == STEP_NAME) {
            if (!value_of(user, s->index, &x))
                return false;
        } else if (s->op == STEP_NEG || s->op == STEP_ABS) {
            x = s->op == STEP_NEG ? -v[n - 1] : fabs(v[n - 1]);
        } else if (s->op == STEP_MIN || s->op == STEP_MAX) {
            x = v[n - count];
            for (uint32_t k = n - count + 1; k < n; k++)
                x = s->op == STEP_MIN ? (v[k] < x ? v[k] : x) : (v[k] > x ? v[k] : x);
        } else {
            x = two(s->op, v[n - 2], v[n - 1]);
        }
        if (!isfinite(x))
            return false;
        n = n - count;
        v[n++] = x;
    }
    *ret = v[0];
    return n == 1;
}
