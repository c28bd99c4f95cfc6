/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop inside a context: fds, timers, deferred calls, end-of-turn hooks, children.
 * Objects are embedded by their user and zero before first use. All calls: loop thread. Any of
 * them may be changed or removed inside any callback, itself included.
 */
#ifndef KEI_BASE_LOOP_H
#define KEI_BASE_LOOP_H

#include <sys/types.h>

#include <kubeedge/ctx.h>

#include "base/alloc.h"
#include "base/list.h"

const struct ke_alloc *kei_ctx_alloc(const struct ke_ctx *ctx);
const struct ke_io *kei_ctx_io(const struct ke_ctx *ctx);
/* Any thread, these three; text in the context only when called on the loop's thread. */
uint64_t kei_ctx_random64(struct ke_ctx *ctx); /* never fails: falls back to a keyed counter */
int kei_ctx_random(struct ke_ctx *ctx, void *p, size_t n);
int kei_ctx_uuid(struct ke_ctx *ctx, char out[37]);
/* Gives the context a thread of its own, unless the host has the loop or it has one already. */
int kei_ctx_thread_start(struct ke_ctx *ctx);
/* 1 if the caller is the loop's thread (or nothing runs yet and it made the context). */
int kei_ctx_on_loop(const struct ke_ctx *ctx);
/* 1 while a turn of the loop runs: callbacks are on the stack. Loop thread. */
int kei_ctx_in_turn(const struct ke_ctx *ctx);
/*
 * Runs fn(user) on the loop's thread and waits for it: for any-thread calls that must see a result.
 * Runs it directly when the caller is the loop's thread or no loop runs. With a host that has taken
 * the fd it waits for that host's next turn: for ever, if it dispatches no more. The public headers
 * say so of the calls that come here.
 */
int kei_ctx_call(struct ke_ctx *ctx, void (*fn)(void *user), void *user);
/* Raises the floor of real time (Unix ms); lower values are ignored. Any thread. */
void kei_ctx_time_floor(struct ke_ctx *ctx, int64_t unix_ms);
int64_t kei_ctx_time_floor_get(const struct ke_ctx *ctx);
/* true if the clock shows a time below the floor, so is wrong. Any thread. */
bool kei_ctx_clock_behind(const struct ke_ctx *ctx);
/* Number of the turn (dispatch) that runs or ran last. Any thread. */
uint64_t kei_ctx_turn(const struct ke_ctx *ctx);
/*
 * What a layer keeps once per context, under the address of something of its own. NULL if nothing
 * is kept. set: KE_EEXIST, KE_ENOMEM (p stays the caller's); free_fn is called when the context is
 * freed, the last kept first. Loop.
 */
void *kei_ctx_slot_get(const struct ke_ctx *ctx, const void *key);
int kei_ctx_slot_set(struct ke_ctx *ctx, const void *key, void *p, void (*free_fn)(void *p));

/* ---- fds (epoll, level-triggered) ---- */
#define KEI_IN 1u
#define KEI_OUT 2u
#define KEI_ERR 4u /* always reported: error or hang-up */
struct kei_fd;
typedef void (*kei_fd_fn)(struct kei_fd *f, uint32_t events);
struct kei_fd {
    struct ke_ctx *ctx;
    kei_fd_fn fn;
    int fd;
    uint32_t events;
    struct kei_link link; /* the loop's */
};
int kei_fd_add(struct ke_ctx *ctx, struct kei_fd *f, int fd, uint32_t events, kei_fd_fn fn);
int kei_fd_set(struct kei_fd *f, uint32_t events); /* same events: no system call */
void kei_fd_remove(struct kei_fd *f);              /* does not close; safe if not added */

/* ---- timers (intrusive heap: arming allocates nothing and cannot fail; monotonic ms) ---- */
struct kei_timer;
typedef void (*kei_timer_fn)(struct kei_timer *t);
struct kei_timer {
    struct ke_ctx *ctx;
    kei_timer_fn fn;
    int64_t due_ms;
    uint64_t seq; /* the loop's, as all below */
    uint32_t armed;
    struct kei_timer *child, *next, *prev;
};
void kei_timer_init(struct ke_ctx *ctx, struct kei_timer *t, kei_timer_fn fn);
/*
 * (Re)arm; always 0. Never called before it is due, nor in the turn that armed it; timers due at
 * the same millisecond come in the order of arming. A time that is past means: the next turn.
 */
int kei_timer_in(struct kei_timer *t, int64_t delay_ms);
int kei_timer_at(struct kei_timer *t, int64_t mono_ms);
void kei_timer_stop(struct kei_timer *t);
void kei_timer_fini(struct kei_timer *t); /* stops; safe if zero */
static inline int kei_timer_armed(const struct kei_timer *t)
{
    return t->armed != 0;
}

/* ---- a call from any thread into the loop, without allocation ---- */
/*
 * After kei_wake(), fn runs once on the loop in a later turn, however often it was woken before it
 * started. Init before other threads know of it; fini (loop) when none of them can call any more.
 */
struct kei_wake;
typedef void (*kei_wake_fn)(struct kei_wake *w);
struct kei_wake {
    struct ke_ctx *ctx;
    kei_wake_fn fn;
    struct kei_link link;
};
void kei_wake_init(struct ke_ctx *ctx, struct kei_wake *w, kei_wake_fn fn);
void kei_wake(struct kei_wake *w);      /* any thread */
void kei_wake_fini(struct kei_wake *w); /* fn will not run again; safe if zero */

/* ---- later in this turn, once per arming ---- */
struct kei_defer;
typedef void (*kei_defer_fn)(struct kei_defer *d);
struct kei_defer {
    kei_defer_fn fn;
    struct kei_link link;
};
void kei_defer(struct ke_ctx *ctx, struct kei_defer *d, kei_defer_fn fn); /* again: no effect */
void kei_defer_cancel(struct kei_defer *d);

/* ---- at the end of every turn, after fds, timers, posts and deferred calls ---- */
struct kei_turn;
typedef void (*kei_turn_fn)(struct kei_turn *t);
struct kei_turn {
    kei_turn_fn fn;
    struct kei_link link;
};
void kei_turn_add(struct ke_ctx *ctx, struct kei_turn *t, kei_turn_fn fn);
void kei_turn_remove(struct kei_turn *t);

/* ---- children ---- */
/*
 * Tells the end of a child by pidfd. status is as from waitid: code CLD_EXITED with its exit code,
 * CLD_KILLED/CLD_DUMPED with the signal; known is 0 when the host's own wait(-1) or an ignored
 * SIGCHLD took the status away (the end itself is still told).
 */
struct kei_child;
typedef void (*kei_child_fn)(struct kei_child *c, int known, int code, int value);
struct kei_child {
    kei_child_fn fn;
    pid_t pid;
    int pidfd; /* -1: gone before it was watched, its end is told in the next turn */
    struct kei_fd fd;
    struct kei_timer gone;
};
/*
 * pid may be any process, not only a child (its status is then not known). KE_ENOTSUP before Linux
 * 5.4, KE_ESYS.
 */
int kei_child_watch(struct ke_ctx *ctx, struct kei_child *c, pid_t pid, kei_child_fn fn);
void kei_child_forget(struct kei_child *c); /* safe if not watched; the child runs on */

/* ---- disk worker: one thread, first in first out, made on first use ---- */
struct kei_work;
typedef void (*kei_work_fn)(struct kei_work *w);
struct kei_work {
    kei_work_fn run;  /* on the worker */
    kei_work_fn done; /* on the loop, in order; may free w */
    struct kei_work *next;
};
int kei_work_submit(struct ke_ctx *ctx, struct kei_work *w, kei_work_fn run, kei_work_fn done);
/* Waits until everything submitted has run, then calls the outstanding done functions. Loop. */
void kei_work_drain(struct ke_ctx *ctx);
/* Works of disk worker and resolver whose done function was not called yet. Any thread. */
size_t kei_work_pending(const struct ke_ctx *ctx);

/*
 * The resolver has a thread of its own with the same interface, so that names never wait behind
 * fsync, nor fsync behind names. When the context is freed, what the disk worker has is still run;
 * what waits at the resolver is not, only its done functions are called.
 */
int kei_resolver_submit(struct ke_ctx *ctx, struct kei_work *w, kei_work_fn run, kei_work_fn done);

#endif
