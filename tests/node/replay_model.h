/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cloud knows after each report: one object per pod and one for the node, in two copies, of
 * what the recorded node reported and of what ours did, with the changes on the way.
 */
#ifndef TEST_NODE_REPLAY_MODEL_H
#define TEST_NODE_REPLAY_MODEL_H

#include "node/replay_compare.h"

enum side { THEIRS, OURS, SIDES };

/* The values one thing had, "A > B > C". */
struct course {
    char name[100]; /* "phase", "container.main", "condition.Ready" */
    char last[SIDES][200];
    char text[SIDES][1000];
};

struct model {
    char kind[8], key[200], uid[64];
    char *doc[SIDES]; /* JSON; NULL: nothing known */
    struct course courses[24];
    unsigned n_courses;
};

struct models {
    struct model m[16];
    unsigned n;
};

struct model *model_find(struct models *s, const char *kind, const char *key, bool make);
void model_remove(struct models *s, struct model *m);
void model_set(struct model *m, enum side side, struct ke_str object);
void model_patch(struct model *m, enum side side, struct ke_str patch); /* strategic */
void model_status(struct model *m, enum side side, struct ke_str status);
bool model_member(const struct model *m, enum side side, const char *path, struct ke_str *ret);
/* Compares the courses since the last time, and where they ended. */
void model_compare(struct model *m, const struct place *at);
void models_compare(struct models *s, const struct place *at);
void models_free(struct models *s);

#endif
