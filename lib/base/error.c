/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error codes and texts, and the rules for structs whose size may differ between the library and
 * its user. Texts live in the struct ke_error of the caller. Any thread, one owner per struct.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/ctx_priv.h"

/* A struct of the host larger than this is an uninitialised size, not a newer version. */
#define STRUCT_MAX 65536u

struct code_name {
    int code;
    const char *name;
};

#define N(c)                                                                                       \
    {                                                                                              \
        c, #c                                                                                      \
    }
static const struct code_name code_names[] = {
    N(KE_OK),       N(KE_EINVAL),    N(KE_ENOMEM),    N(KE_EABI),       N(KE_ENOTSUP),
    N(KE_ESTATE),   N(KE_ELIMIT),    N(KE_ENOTFOUND), N(KE_EEXIST),     N(KE_EBUSY),
    N(KE_EAGAIN),   N(KE_ECANCELED), N(KE_ETIMEDOUT), N(KE_EIO),        N(KE_ENOSPC),
    N(KE_EACCES),   N(KE_EROFS),     N(KE_ESYS),      N(KE_EPARSE),     N(KE_ECALLBACK),
    N(KE_ETHREAD),  N(KE_ECONN),     N(KE_ERESOLVE),  N(KE_ETLS),       N(KE_EPROTO),
    N(KE_ECLOSED),  N(KE_EPROXY),    N(KE_EHTTP),     N(KE_EADDRINUSE), N(KE_ECERT),
    N(KE_EEXPIRED), N(KE_EKEY),      N(KE_ETOKEN),    N(KE_EPIN),       N(KE_EREFUSED),
    N(KE_ENEWER),   N(KE_ECORRUPT),  N(KE_ECONFLICT),
};
#undef N

const char *ke_strerror(int code)
{
    for (size_t i = 0; i < sizeof code_names / sizeof code_names[0]; i++) {
        if (code_names[i].code == code)
            return code_names[i].name;
    }
    return "KE_E?";
}

/* Length of the UTF-8 sequence at s, 0 if it is malformed (RFC 3629: no overlong, no surrogate). */
static size_t utf8_len(const unsigned char *s)
{
    size_t n;
    uint32_t min, cp;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        n = 2, min = 0x80, cp = s[0] & 0x1fu;
    } else if ((s[0] & 0xf0) == 0xe0) {
        n = 3, min = 0x800, cp = s[0] & 0x0fu;
    } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        n = 4, min = 0x10000, cp = s[0] & 0x07u;
    } else {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) /* the terminating NUL ends a cut sequence here */
            return 0;
        cp = (cp << 6) | (s[i] & 0x3fu);
    }
    if (cp < min || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return 0;
    return n;
}

void kei_text_clean(char *s)
{
    unsigned char *p = (unsigned char *)s;
    while (*p) {
        size_t n = utf8_len(p);
        bool control = *p < 0x20 || *p == 0x7f || (n == 2 && p[0] == 0xc2 && p[1] < 0xa0);
        if (n == 0 || control) {
            *p++ = '?';
            if (n == 2)
                *p++ = '?';
        } else {
            p += n;
        }
    }
}

/* Removes a sequence that the end of the buffer cut in two. */
static void drop_cut_tail(char *s, size_t n)
{
    size_t back = 0;
    while (back < n && back < 3 && ((unsigned char)s[n - 1 - back] & 0xc0) == 0x80)
        back++;
    if (back < n && (unsigned char)s[n - 1 - back] >= 0xc0 &&
        utf8_len((const unsigned char *)s + n - 1 - back) == 0)
        s[n - 1 - back] = '\0';
}

void kei_text_vformat(char *out, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(out, size, fmt, ap);
    if (n < 0)
        out[0] = '\0';
    else if ((size_t)n >= size)
        drop_cut_tail(out, size - 1);
    kei_text_clean(out);
}

/* Bytes of text the caller's struct has room for; an older caller's may be shorter than ours. */
static size_t text_room(const struct ke_error *err)
{
    size_t head = offsetof(struct ke_error, text);
    size_t room = err->size > head ? err->size - head : 0;
    return room < sizeof err->text ? room : sizeof err->text;
}

static void set_code(struct ke_error *err, int code)
{
    if (err->size >= offsetof(struct ke_error, code) + sizeof err->code)
        err->code = code;
}

static void error_vset(struct ke_error *err, int code, const char *fmt, va_list ap)
{
    if (!err)
        return;
    char text[KE_ERROR_TEXT_MAX]; /* an argument may point into err->text */
    size_t room = text_room(err);
    set_code(err, code);
    if (room == 0)
        return;
    kei_text_vformat(text, room, fmt, ap);
    memcpy(err->text, text, strlen(text) + 1);
}

int kei_error(struct ke_error *err, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int kei_fail(struct ke_ctx *ctx, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(&ctx->err, code, fmt, ap);
    va_end(ap);
    return code;
}

struct ke_error *kei_err(struct ke_ctx *ctx)
{
    return &ctx->err;
}

const char *ke_ctx_error(const struct ke_ctx *ctx)
{
    return ctx ? ctx->err.text : "";
}

int kei_error_prefix(struct ke_error *err, int code, const char *fmt, ...)
{
    if (!err || text_room(err) == 0)
        return err && err->size >= offsetof(struct ke_error, reserved) ? err->code : code;
    char old[KE_ERROR_TEXT_MAX], prefix[KE_ERROR_TEXT_MAX];
    memcpy(old, err->text, text_room(err));
    old[text_room(err) - 1] = '\0';
    va_list ap;
    va_start(ap, fmt);
    kei_text_vformat(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    return kei_error(err, err->code ? err->code : code, "%s: %s", prefix, old);
}

int kei_errno_code(int errnum)
{
    switch (errnum) {
    case ENOMEM:
        return KE_ENOMEM;
    case ENOENT:
    case ENOTDIR:
        return KE_ENOTFOUND;
    case EEXIST:
    case ENOTEMPTY:
        return KE_EEXIST;
    case EBUSY:
    case ETXTBSY:
        return KE_EBUSY;
    case ELOOP:
    case ENAMETOOLONG:
        return KE_ELIMIT;
    case EAGAIN:
        return KE_EAGAIN;
    case ECANCELED:
        return KE_ECANCELED;
    case EIO:
        return KE_EIO;
    case ENOSPC:
    case EDQUOT:
        return KE_ENOSPC;
    case EACCES:
    case EPERM:
        return KE_EACCES;
    case EROFS:
        return KE_EROFS;
    case EADDRINUSE:
        return KE_EADDRINUSE;
    case ETIMEDOUT:
        return KE_ETIMEDOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case ENOTCONN:
        return KE_ECONN;
    case EPIPE:
        return KE_ECLOSED;
    default:
        return KE_ESYS;
    }
}

/* Not translated, unlike strerror: a text must not change with the host's locale. */
static const char *errno_text(int errnum, char *buf, size_t n)
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || (__GLIBC__ == 2 && __GLIBC_MINOR__ >= 32))
    const char *s = strerrordesc_np(errnum);
    if (s)
        return s;
#elif !defined(__GLIBC__)
    if (strerror_r(errnum, buf, n) == 0)
        return buf;
#endif
    snprintf(buf, n, "error %d", errnum);
    return buf;
}

int kei_error_errno(struct ke_error *err, int errnum, const char *fmt, ...)
{
    int code = kei_errno_code(errnum);
    if (!err)
        return code;
    char text[KE_ERROR_TEXT_MAX], sys[128];
    va_list ap;
    va_start(ap, fmt);
    kei_text_vformat(text, sizeof text, fmt, ap);
    va_end(ap);
    return kei_error(err, code, "%s: %s", text, errno_text(errnum, sys, sizeof sys));
}

bool kei_abi_init(void *user, size_t size)
{
    if (!user || size < sizeof size)
        return false;
    memset(user, 0, size);
    memcpy(user, &size, sizeof size);
    return true;
}

static size_t struct_size(const void *user)
{
    size_t size;
    memcpy(&size, user, sizeof size);
    return size;
}

int kei_abi_in(void *dst, size_t dst_size, const void *user, size_t min_size, const char *what,
               struct ke_error *err)
{
    if (!user)
        return kei_error(err, KE_EINVAL, "%s was NULL", what);
    size_t size = struct_size(user);
    if (size < min_size || size < sizeof size || size > STRUCT_MAX)
        return kei_error(err, KE_EABI,
                         "%s says it has %zu bytes, this library needs at least %zu: set its "
                         "size member, or call its init function",
                         what, size, min_size);
    const unsigned char *bytes = user;
    for (size_t i = dst_size; i < size; i++) {
        if (bytes[i] != 0)
            return kei_error(err, KE_EABI,
                             "%s has %zu bytes and uses one beyond the %zu this library knows: "
                             "install a newer library or leave the new members zero",
                             what, size, dst_size);
    }
    memset(dst, 0, dst_size);
    memcpy(dst, user, size < dst_size ? size : dst_size);
    memcpy(dst, &dst_size, sizeof dst_size); /* all members are there now */
    return 0;
}

int kei_abi_out(void *user, size_t user_size, const void *src, size_t src_size, size_t min_size,
                const char *what, struct ke_error *err)
{
    if (!user)
        return kei_error(err, KE_EINVAL, "%s was NULL", what);
    if (user_size < min_size || user_size < sizeof user_size || user_size > STRUCT_MAX)
        return kei_error(err, KE_EABI,
                         "%s was given %zu bytes of room, this library needs at least %zu: pass "
                         "the size of the struct",
                         what, user_size, min_size);
    memset(user, 0, user_size);
    memcpy(user, src, user_size < src_size ? user_size : src_size);
    memcpy(user, &user_size, sizeof user_size);
    return 0;
}
