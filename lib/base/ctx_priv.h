/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the context; for base/ only. What other threads touch is atomic or under mu, all the
 * rest belongs to the loop's thread.
 */
#ifndef KEI_BASE_CTX_PRIV_H
#define KEI_BASE_CTX_PRIV_H

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/error.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"

#define KEI_BATCH 64        /* fd events taken per turn */
#define KEI_POSTS_TURN 1024 /* posted functions run per turn */
#define KEI_POSTS_SPARE 32  /* post nodes kept for reuse */
#define KEI_THREAD_NAME 16

/* Who drives the loop. */
enum kei_mode {
    KEI_MODE_NONE, /* nobody yet: the owner is the thread that made the context */
    KEI_MODE_HOST, /* the host, from the thread that took the fd or runs it */
    KEI_MODE_OWN,  /* a thread of the context */
};

struct kei_post {
    struct kei_post *next;
    void (*fn)(void *user);
    void *user;
    bool spare; /* from the allocator; goes back to the spare list */
};

struct kei_post_queue {
    struct kei_post *head, **tail;
};

struct kei_work_queue {
    struct kei_work *head, **tail;
    size_t n;
};

/* A helper thread with a queue in and a queue out; in_mu guards all but ready. */
struct kei_worker {
    struct ke_ctx *ctx;
    pthread_mutex_t mu;
    pthread_cond_t wake; /* for the thread: work or quit */
    pthread_cond_t idle; /* for drain: nothing queued, nothing running */
    pthread_t thread;
    bool started, busy, quit, closed;
    bool skip_on_quit; /* leave queued work undone when the context ends */
    struct kei_work_queue in, out;
    struct kei_work_queue ready; /* done functions due; the loop's */
    const char *suffix;          /* of the thread's name */
    atomic_size_t pending;       /* submitted and not yet told */
};

struct ke_ctx {
    struct ke_alloc alloc;
    struct ke_clock clock;
    struct ke_random random;
    struct ke_io io;
    ke_log_fn log;
    void *log_user;
    uint32_t log_level;
    clockid_t clock_id; /* of the default clock and of the timerfd */
    bool host_clock;
    char thread_name[KEI_THREAD_NAME];
    struct ke_error err;

    atomic_int_least64_t floor_ms;     /* real time is never below */
    atomic_int_least64_t floor_offset; /* floor_ms minus monotonic time when it was set */
    atomic_uint_least64_t rng_counter;
    uint64_t rng_key;

    /* who runs it */
    atomic_int mode;
    atomic_uintptr_t owner;
    pthread_t thread;
    atomic_bool quit, stop;
    bool in_turn;
    atomic_uint_least64_t turn_seq;

    /* fds */
    int epoll_fd, event_fd, timer_fd;
    struct epoll_event batch[KEI_BATCH];
    int batch_n, batch_pos;
    struct kei_link fds;

    /* timers: pairing heap */
    struct kei_timer *timers;
    uint64_t timer_seq;
    uint64_t turn_timer_end; /* timers armed from here on wait for the next turn */
    int64_t timer_fd_due;    /* INT64_MAX: not set */

    /* any thread puts in, under mu */
    pthread_mutex_t mu;
    atomic_bool woken;
    struct kei_post_queue posts;
    struct kei_post *spare_posts;
    uint32_t spare_posts_n;
    struct kei_link wakes;

    /* taken over by the loop */
    struct kei_post_queue posts_ready;
    struct kei_link wakes_ready; /* links still guarded by mu */
    struct kei_link defers;
    struct kei_link turns;

    struct kei_worker disk, resolver;
    struct kei_link slots; /* slot.c */
};

/* error.c: UTF-8 in one line, without control characters; others become '?' */
void kei_text_clean(char *s);
void kei_text_vformat(char *out, size_t size, const char *fmt, va_list ap);

/* ctx.c */
uintptr_t kei_thread_self(void);

/* thread.c: a thread with every signal blocked; stack 0: the system's default. 0 or errno. */
int kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                     void *arg);

/* loop.c */
int kei_loop_init(struct ke_ctx *ctx, struct ke_error *err);
void kei_loop_fini(struct ke_ctx *ctx);
void kei_loop_wake(struct ke_ctx *ctx);          /* any thread, signal-safe */
bool kei_loop_turn(struct ke_ctx *ctx);          /* true: more is due at once */
void kei_loop_signal_timers(struct ke_ctx *ctx); /* the first due time may have changed */

/* post.c */
void kei_post_init(struct ke_ctx *ctx);
void kei_post_fini(struct ke_ctx *ctx);
void kei_post_take(struct ke_ctx *ctx);
void kei_post_run(struct ke_ctx *ctx);
bool kei_post_due(struct ke_ctx *ctx); /* something taken over is left */

/* timer.c */
void kei_timer_run(struct ke_ctx *ctx);
bool kei_timer_next(const struct ke_ctx *ctx, int64_t *ret_due_ms);

/* slot.c */
void kei_slots_fini(struct ke_ctx *ctx);

/* worker.c */
void kei_worker_init(struct kei_worker *w, struct ke_ctx *ctx, const char *suffix);
void kei_worker_stop(
    struct kei_worker *w); /* ends the thread, calls what done functions are left */
void kei_worker_fini(struct kei_worker *w);
void kei_worker_take(struct kei_worker *w);
void kei_worker_tell(struct kei_worker *w);

#endif
