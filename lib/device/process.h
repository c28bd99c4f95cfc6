/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data processing at the edge: rules that take the values of one device and give new ones. Pure:
 * values and time in, results out through a function. Streaming: no rule keeps more than a few
 * numbers, however long its window.
 *
 * Configuration: a list of rules, or {"rules": [...]}. Each is an object:
 *   "name"       of the result
 *   "property"   a property of the device, or "expr": an expression (expr.h) over properties and
 *                the results of rules before this one
 *   "filter"     optional: {"min", "max"} and/or {"expr"}: what does not pass is left out
 *   "window"     optional: {"ms" or "count", "aggregate": mean|min|max|last|count|rate}; rate is
 *                the change per second. Windows follow each other; one by time ends by itself.
 *   "change"     optional: {"by"}: only results that differ from the last one by more
 *   "threshold"  optional: {"above" and/or "below", "hysteresis"}: only when a result crosses one
 *   "to"         "topic" (default), "twin" or "cloud"
 *   "topic"      for topic and cloud
 */
#ifndef KEI_DEVICE_PROCESS_H
#define KEI_DEVICE_PROCESS_H

#include "base/json.h"

struct process;

enum process_to { PROCESS_TOPIC, PROCESS_TWIN, PROCESS_CLOUD };

/* A result. Borrowed during the call. */
struct process_result {
    const char *name;
    const char *topic; /* "" if none was given */
    enum process_to to;
    double value;
    const char *aggregate; /* NULL: no window */
    const char *level;     /* "above", "below", "normal"; NULL: no threshold */
    uint64_t count;        /* of values in the window */
    int64_t window_ms;     /* 0: none, or by count */
    bool incomplete;       /* values of the window may be missing: a crash was within it */
};
typedef void (*process_result_fn)(void *user, const struct process_result *r);
/* Index of a property by its name, or -1. */
typedef int32_t (*process_name_fn)(void *user, struct ke_str name);
/* The value of a property; false if it has none that is a number. */
typedef bool (*process_value_fn)(void *user, uint32_t index, double *ret);

/* KE_EPARSE and KE_ELIMIT name the rule. */
int kei_rules_new(struct process **ret, struct ke_str json, uint32_t max_rules,
                  process_name_fn name, void *user, uint32_t n_properties, const struct ke_alloc *a,
                  struct ke_error *err);
void kei_rules_free(struct process *p);
/* A property has a new value: the rules that use it are due. */
void kei_rules_touch(struct process *p, uint32_t property);
/* Runs what is due, in order; now_ms is monotonic. */
void kei_rules_run(struct process *p, int64_t now_ms, process_value_fn value, void *user,
                   process_result_fn fn, void *fn_user);
/* Ends the windows that are over. */
void kei_rules_tick(struct process *p, int64_t now_ms, process_result_fn fn, void *fn_user);
int64_t kei_rules_due(const struct process *p); /* INT64_MAX: no window is open */

/* State as JSON, and back: of rules that are the same as then. Dirty: there is new state to save.
 */
bool kei_rules_dirty(const struct process *p);
/* clears dirty; last: no value comes after it, so windows that are restored from it are complete */
void kei_rules_save(struct process *p, int64_t now_ms, bool last, struct ke_buf *out);
void kei_rules_restore(struct process *p, int64_t now_ms, struct ke_str json);
void kei_rules_carry(struct process *to, const struct process *from);

#endif
