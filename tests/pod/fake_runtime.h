/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vendor's runtime in memory: remembers containers and every call, completes at once or when the
 * test says so, and counts live instances so that doubles are seen.
 */
#ifndef TEST_POD_FAKE_RUNTIME_H
#define TEST_POD_FAKE_RUNTIME_H

#include <stdbool.h>

#include <kubeedge/runtime.h>

#define FAKE_MAX 512

struct fake_container {
    char id[64], uid[80], name[64], image[64], ns[64], pod[64], log[300], first_word[64];
    char env[512]; /* "A=1\nB=2\n" */
    char mounts[1024];
    uint32_t attempt, state; /* KE_CONTAINER_*, 0: removed */
    int32_t exit_code;
    int64_t started_ms, finished_ms;
    uint64_t stop_op;
};

struct fake_runtime {
    struct ke_runtime_ops ops;
    struct ke_runtime *rt;
    struct ke_ctx *ctx;
    struct fake_container c[FAKE_MAX];
    int n;
    /* how it behaves */
    bool hang_list, hang_create, hang_start, hang_stop;
    int fail_create, fail_start, fail_stop, fail_list, fail_pull; /* KE_E*, 0 */
    int fail_removes;                                             /* so many more fail */
    const char *fail_reason, *fail_text;
    uint64_t hung; /* the last operation that was left open */
    bool not_ready;
    /* what was seen */
    int creates, starts, stops, removes, lists, pulls, sandboxes, sandbox_stops;
    int64_t last_grace;
    int most_live;    /* instances of one container alive at once, at the most */
    char calls[8192]; /* "create u-1/main/0\n..." */
};

void fake_init(struct fake_runtime *f, struct ke_ctx *ctx);
void fake_with_sandbox(struct fake_runtime *f);
void fake_with_pull(struct fake_runtime *f);
/* The newest instance, NULL if none. */
struct fake_container *fake_find(struct fake_runtime *f, const char *uid, const char *name);
/* It ends by itself. */
void fake_exit(struct fake_runtime *f, struct fake_container *c, int code);
/* The process of the node dies: containers that do not outlive it are gone. */
void fake_forget(struct fake_runtime *f);
int fake_live(struct fake_runtime *f);

#endif
