/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holding what our node sends against what the recorded one sent. What differs on purpose stands in
 * replay_differences.h with its reason; an entry that nothing meets fails the test, and so does a
 * difference that no entry names. No state but the counters of the table.
 */
#ifndef TEST_NODE_REPLAY_COMPARE_H
#define TEST_NODE_REPLAY_COMPARE_H

#include <stdbool.h>

#include "base/json.h"

/* What a difference is about, besides the path of a member. */
#define NOT_SENT "<not sent>" /* the recorded node sent it, ours did not */
#define MORE "<more>"         /* ours sent it, the recorded one did not */

/* Where a comparison stands. */
struct place {
    const char *capture; /* "1.15/03" */
    unsigned line;       /* of the recording */
    const char *what;    /* class of the message: "insert node", "podpatch", "http" */
    unsigned *dry;       /* not NULL: only count here, tell nobody */
};

/* A JSON value of theirs and ours, members by key, items of lists by type or name. */
void compare_json(const struct place *at, const char *path, struct ke_str theirs,
                  struct ke_str ours);
void compare_text(const struct place *at, const char *path, const char *theirs, const char *ours);
/* Says that something differs; looks into the table. */
void differs(const struct place *at, const char *path, struct ke_str theirs, struct ke_str ours);

/* Whether the table has it; counts nothing. */
bool differs_on_purpose(const struct place *at, const char *path);

unsigned compare_failures(void); /* unlisted differences so far */
unsigned compare_unmet(void);    /* tells which entries nothing met */

#endif
