/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error text. Pure code takes a struct ke_error *err (may be NULL); code with a context uses
 * kei_fail, which stores into the context. The text says what failed, on which object, what to do;
 * past tense, one line, no call name. Control characters of peers are replaced by '?'.
 */
#ifndef KEI_BASE_ERROR_H
#define KEI_BASE_ERROR_H

#include <kubeedge/err.h>
#include <stdbool.h>

struct ke_ctx;

/* Sets code and text; returns code, so: return kei_error(err, KE_EPARSE, "..."). */
int kei_error(struct ke_error *err, int code, const char *fmt, ...) KE_PRINTF(3, 4);
/* Sets the context's error (loop thread); returns code. */
int kei_fail(struct ke_ctx *ctx, int code, const char *fmt, ...) KE_PRINTF(3, 4);
/* The context's error as a struct, to hand to pure code: r = f(x, kei_err(ctx)). */
struct ke_error *kei_err(struct ke_ctx *ctx);
/* Puts "prefix: " before the text that is there; returns err->code (code if err is NULL). */
int kei_error_prefix(struct ke_error *err, int code, const char *fmt, ...) KE_PRINTF(3, 4);
/* The KE_E* class of an errno value. */
int kei_errno_code(int errnum);
/* code of errno plus "text: strerror"; returns the code. */
int kei_error_errno(struct ke_error *err, int errnum, const char *fmt, ...) KE_PRINTF(3, 4);

/* The size of a struct whose last member is that: what callers of the first release have. */
#define KEI_SIZE_TO(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))
/* A public struct of the caller as its init function leaves it: zeros, and its size. False: it is
 * NULL, or has no room for its size member. */
bool kei_abi_init(void *user, size_t size);
/*
 * Copies a versioned public struct of the caller (user_size = its first member) into *dst of
 * dst_size bytes (the library's own, newest), zero-filling what the caller does not know. KE_EABI
 * when user_size < min_size or an unknown tail is not zero. min_size is a KEI_SIZE_TO, never a
 * sizeof: that would refuse older callers as soon as a member is appended.
 */
int kei_abi_in(void *dst, size_t dst_size, const void *user, size_t min_size, const char *what,
               struct ke_error *err);
/* The other way: writes at most user_size bytes of *src into user and sets its size member. */
int kei_abi_out(void *user, size_t user_size, const void *src, size_t src_size, size_t min_size,
                const char *what, struct ke_error *err);

#endif
