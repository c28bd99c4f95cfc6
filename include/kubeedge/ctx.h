/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context: owner of memory, time, randomness, files, log and the loop. Everything else is
 * created from one. Two contexts share nothing.
 *
 * Two ways to drive it:
 *  - do nothing: ke_node_start() and the like give the context a thread of its own;
 *  - own the loop: take ke_ctx_fd(), and call ke_ctx_dispatch() whenever it is readable (it is a
 *    level-triggered fd that poll, epoll, libuv, glib can all watch; timers included).
 * Thread rule: every call is for the loop's thread ("loop") unless marked "any thread". Before
 * anything runs, the thread that created the context counts as the loop's thread.
 * Callbacks run on the loop's thread. They may call anything of the same context that is not
 * marked otherwise, except ke_ctx_dispatch, ke_ctx_wait, ke_ctx_run and ke_ctx_free.
 */
#ifndef KUBEEDGE_CTX_H
#define KUBEEDGE_CTX_H

#include <kubeedge/err.h>
#include <kubeedge/export.h>
#include <kubeedge/log.h>
#include <kubeedge/sys/alloc.h>
#include <kubeedge/sys/io.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_ctx;

/* Time. Both members required; thread-safe; may not block. */
struct ke_clock {
    size_t size;
    void *user;
    int64_t (*mono_ms)(void *user); /* milliseconds, never goes back */
    int64_t (*real_ms)(void *user); /* milliseconds since 1970-01-01 UTC; may be wrong or jump */
};

/* Randomness, cryptographically strong. Returns 0 or KE_E*. Thread-safe. */
struct ke_random {
    size_t size;
    void *user;
    int (*fill)(void *user, void *p, size_t n);
};

/* Zero or NULL in a member means the default. Tables are copied; their user pointers are kept. */
struct ke_ctx_config {
    size_t size;
    const struct ke_alloc *alloc;   /* default: malloc */
    const struct ke_clock *clock;   /* default: CLOCK_MONOTONIC (CLOCK_BOOTTIME), CLOCK_REALTIME */
    const struct ke_random *random; /* default: getrandom */
    const struct ke_io *io;         /* default: ke_io_posix() */
    ke_log_fn log;                  /* default: none */
    void *log_user;
    uint32_t log_level; /* highest level passed to log; default KE_LOG_INFO */
    uint32_t reserved;
    const char *thread_name; /* of a thread of our own; default "kubeedge" */
};

/* Fills c with zeros and its size. Any thread. */
KE_API void ke_ctx_config_init(struct ke_ctx_config *c, size_t size);

/*
 * Makes a context. c may be NULL. Errors: KE_EINVAL, KE_EABI, KE_ENOMEM, KE_ESYS (no fds left);
 * text in reterr, which may be NULL. Any thread.
 */
KE_API KE_NODISCARD int ke_ctx_new(struct ke_ctx **ret, const struct ke_ctx_config *c,
                                   struct ke_error *reterr);

/*
 * Frees it. NULL is fine. Every handle made from it must have been freed before. Ends the threads;
 * what was posted and has not run yet runs now, in the caller's thread. Not from a callback.
 */
KE_API void ke_ctx_free(struct ke_ctx *ctx);

/* Text of the last failed call of this context, "" if none. Borrowed until the next failure. Loop. */
KE_API const char *ke_ctx_error(const struct ke_ctx *ctx);

/*
 * The context's time, through its clock table. Real time is never below the floor (the release, and
 * times seen since); while the clock shows less, time passes from the floor on. Any thread.
 */
KE_API int64_t ke_ctx_mono_ms(const struct ke_ctx *ctx);
KE_API int64_t ke_ctx_real_ms(const struct ke_ctx *ctx);

/*
 * Takes the loop for the caller's thread and returns an fd that is readable whenever
 * ke_ctx_dispatch has something to do. The fd stays the context's: do not read or close it.
 * Another thread takes the loop over by calling this between turns. KE_ESTATE when the context runs
 * a thread of its own. With a clock table of the host's the fd does not know when timers are due: use
 * ke_ctx_prepare's timeout besides.
 */
KE_API KE_NODISCARD int ke_ctx_fd(struct ke_ctx *ctx, int *ret_fd);

/*
 * Milliseconds until the next timer (0: something is due now, -1: nothing), for a host that waits
 * by itself. Loop.
 */
KE_API KE_NODISCARD int ke_ctx_prepare(struct ke_ctx *ctx, int64_t *ret_timeout_ms);

/*
 * Waits up to timeout_ms (-1: for ever) until there is something to dispatch; a signal handled by
 * the host ends it early. Loop.
 */
KE_API KE_NODISCARD int ke_ctx_wait(struct ke_ctx *ctx, int64_t timeout_ms);

/*
 * One turn: runs what is due (io, timers, posted functions, completions), a bounded share of it; what
 * is left keeps the fd readable. Never blocks. KE_ETHREAD from a thread that has not the loop,
 * KE_ESTATE from a callback or when the context runs a thread of its own. Loop.
 */
KE_API KE_NODISCARD int ke_ctx_dispatch(struct ke_ctx *ctx);

/* wait + dispatch until ke_ctx_stop; a stop that came before ends it at once. Loop. */
KE_API KE_NODISCARD int ke_ctx_run(struct ke_ctx *ctx);

/* Ends ke_ctx_run after the current turn. Any thread; also a signal-safe call. */
KE_API void ke_ctx_stop(struct ke_ctx *ctx);

/*
 * Runs fn(user) on the loop's thread, in order of the calls, in a later turn. Any thread.
 * KE_ENOMEM with text in reterr (may be NULL).
 */
KE_API KE_NODISCARD int ke_ctx_post(struct ke_ctx *ctx, void (*fn)(void *user), void *user,
                                    struct ke_error *reterr);

/* Bytes the library handed to its caller. Free with ke_buf_free; all zero is an empty one. */
struct ke_buf {
    char *p;   /* NUL-terminated after n bytes when not NULL */
    size_t n;  /* bytes used */
    size_t cap;
    const struct ke_alloc *alloc; /* who owns p */
};

/* Frees p and zeroes b. NULL and empty are fine. Before the context is freed. Any thread. */
KE_API void ke_buf_free(struct ke_buf *b);

#ifdef __cplusplus
}
#endif
#endif
