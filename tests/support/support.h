/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What most tests need in one include: cmocka, the counting allocator, the virtual clock, the fd
 * check and a context made of them.
 *
 *     static void my_test(void **state)
 *     {
 *         (void)state;
 *         struct test_env env;
 *         test_env_init(&env, 0);
 *         ... use env.ctx ...
 *         assert_true(test_drive(&env, done, &it));
 *         test_env_fini(&env);
 *     }
 *
 * test_env_fini frees the context and fails the test when a block, a descriptor or a handle was
 * left, or when the library logged an error line that was not expected (see log_errors).
 *
 * test_drive runs the loop until the predicate holds. Time is virtual: whenever nothing is readable
 * for env.idle_ms of real time and no work is at the helper threads, the clock jumps to the next
 * timer. So timeouts of minutes pass at once, while io with a peer on loopback or in another thread
 * still comes before them. It gives up (false) after env.max_virtual_ms of virtual time, or
 * env.max_real_ms of real time, which is a net for hangs and not a bound that a test relies on.
 */
#ifndef TEST_SUPPORT_SUPPORT_H
#define TEST_SUPPORT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <kubeedge/ctx.h>

#include "base/error.h"
#include "base/loop.h"
#include "support/fdcheck.h"
#include "support/test_alloc.h"
#include "support/test_clock.h"

#define TEST_REAL_CLOCK 1u /* the system's clocks instead of the virtual one */
#define TEST_LOG 2u /* print log lines (always done when KE_TEST_LOG is in the environment) */

struct test_env {
    struct ke_ctx *ctx;
    struct test_alloc alloc;
    struct test_clock clock;
    uint32_t flags;
    atomic_uint log_errors; /* lines at KE_LOG_ERROR; set to 0 before fini when expected */
    atomic_uint log_lines;  /* of any level */
    char last_log[512];     /* the newest line; written on any thread: read when all is quiet */
    int fds_before;
    int64_t idle_ms;        /* default 20 */
    int64_t max_virtual_ms; /* default one day */
    int64_t max_real_ms;    /* default 120,000 */
};

void test_env_init(struct test_env *e, uint32_t flags);
/* The same, with a file table of the test's (kept, not copied before the context does). */
void test_env_init_io(struct test_env *e, uint32_t flags, const struct ke_io *io);
void test_env_fini(struct test_env *e);

/* true when pred(arg) held */
bool test_drive(struct test_env *e, bool (*pred)(void *arg), void *arg);
/* Runs for ms of virtual time (exactly: the clock ends ms later), timers on the way included. */
void test_drive_ms(struct test_env *e, int64_t ms);
/* Runs turns without moving the clock until nothing is left to do. */
void test_settle(struct test_env *e);

/* Whether pseudo-terminals can be had here: a chroot may lack them. Else a message says so. */
bool test_has_pty(void);

/* A fresh folder under the system's temporary folder; remove with test_tmp_remove. */
void test_tmp_make(char *out, size_t n);
void test_tmp_remove(const char *path);

/* Common predicates. */
bool test_true(void *flag);     /* *(bool *)flag */
bool test_nonzero(void *count); /* *(int *)count != 0 */

#endif
