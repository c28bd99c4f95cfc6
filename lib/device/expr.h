/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small expressions over properties: numbers, + - * /, comparisons (1 or 0), parentheses, min max
 * abs, names. Compiled once to a list of steps without recursion, evaluated on a small stack. A
 * name is letters, digits, '_', '.' and not first a digit, or anything between ''. Pure.
 */
#ifndef KEI_DEVICE_EXPR_H
#define KEI_DEVICE_EXPR_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/str.h"

#define KEI_EXPR_TEXT_MAX 1024u
#define KEI_EXPR_STEPS_MAX 256u
#define KEI_EXPR_STACK_MAX 64u

struct kei_expr;

/* Index of a name, or -1. */
typedef int32_t (*kei_expr_name_fn)(void *user, struct ke_str name);
/* KE_EPARSE with the place, KE_ELIMIT, KE_ENOMEM. */
int kei_expr_compile(struct kei_expr **ret, struct ke_str text, kei_expr_name_fn name, void *user,
                     const struct ke_alloc *a, struct ke_error *err);
/* One that is the value of that name. NULL: out of memory. */
struct kei_expr *kei_expr_of(uint32_t index, const struct ke_alloc *a);
void kei_expr_free(struct kei_expr *e, const struct ke_alloc *a);
/* Value of a name by its index; false: there is none yet. */
typedef bool (*kei_expr_value_fn)(void *user, uint32_t index, double *ret);
/* false: a value is missing, or the result is no finite number (division by zero). */
bool kei_expr_eval(const struct kei_expr *e, kei_expr_value_fn value, void *user, double *ret);
bool kei_expr_uses(const struct kei_expr *e, uint32_t index);

#endif
