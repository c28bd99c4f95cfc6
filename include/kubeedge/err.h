/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error codes. Every call that can fail returns 0 or one of these; a code names the class a
 * caller can act on, the text (ke_ctx_error(), struct ke_error) says what failed, on which
 * object and what to do. Numbers are grouped by layer, never reused, never changed.
 */
#ifndef KUBEEDGE_ERR_H
#define KUBEEDGE_ERR_H

#include <kubeedge/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KE_OK 0

/* 1..99: any layer */
#define KE_EINVAL (-1)       /* an argument is wrong; a bug of the caller */
#define KE_ENOMEM (-2)       /* the allocator refused */
#define KE_EABI (-3)         /* struct size unknown, or its unknown tail is not zero */
#define KE_ENOTSUP (-4)      /* built without this feature, or the table lacks the member */
#define KE_ESTATE (-5)       /* not possible in this state (not started, already stopped) */
#define KE_ELIMIT (-6)       /* over a configured limit; the text names it and its value */
#define KE_ENOTFOUND (-7)    /* no such object */
#define KE_EEXIST (-8)       /* exists already */
#define KE_EBUSY (-9)        /* in use by another process or handle */
#define KE_EAGAIN (-10)      /* would block, or try again later */
#define KE_ECANCELED (-11)   /* stopped before it could finish */
#define KE_ETIMEDOUT (-12)   /* no answer within the stated time */
#define KE_EIO (-13)         /* read or write failed */
#define KE_ENOSPC (-14)      /* the disk or the quota is full */
#define KE_EACCES (-15)      /* not permitted by the operating system or by configuration */
#define KE_EROFS (-16)       /* the file system is read-only */
#define KE_ESYS (-17)        /* any other failure of the operating system; see the text */
#define KE_EPARSE (-18)      /* malformed input; the text gives the place */
#define KE_ECALLBACK (-19)   /* a callback of the host failed */
#define KE_ETHREAD (-20)     /* called from the wrong thread */

/* 100..199: network */
#define KE_ECONN (-100)      /* refused, reset or unreachable */
#define KE_ERESOLVE (-101)   /* name does not resolve */
#define KE_ETLS (-102)       /* TLS handshake or record failure */
#define KE_EPROTO (-103)     /* the peer broke the protocol */
#define KE_ECLOSED (-104)    /* the peer closed */
#define KE_EPROXY (-105)     /* the proxy refused */
#define KE_EHTTP (-106)      /* unexpected HTTP status */
#define KE_EADDRINUSE (-107) /* address or port taken */

/* 200..299: identity */
#define KE_ECERT (-200)      /* certificate not acceptable */
#define KE_EEXPIRED (-201)   /* certificate or token past its time */
#define KE_EKEY (-202)       /* key unreadable, or does not match its certificate */
#define KE_ETOKEN (-203)     /* join token malformed or refused */
#define KE_EPIN (-204)       /* CA does not have the hash the token pins */
#define KE_EREFUSED (-205)   /* the peer refuses this identity */

/* 300..399: storage */
#define KE_ENEWER (-300)     /* written by a newer version of the library */
#define KE_ECORRUPT (-301)   /* damaged; the text says what could be saved */

/* 400..499: objects */
#define KE_ECONFLICT (-400)  /* version or uid does not match */

#define KE_ERROR_TEXT_MAX 500

/* Where a call without a context, or an any-thread call, puts its text. Set size first. */
struct ke_error {
    size_t size;
    int32_t code; /* 0 or KE_E* */
    int32_t reserved;
    char text[KE_ERROR_TEXT_MAX]; /* UTF-8, NUL-terminated, one line */
};
#define KE_ERROR_INIT { sizeof(struct ke_error), 0, 0, "" }

/*
 * Name of a code, e.g. "KE_ENOMEM"; "KE_E?" for an unknown one. Static storage.
 * Any thread, callable from callbacks, never fails.
 */
KE_API const char *ke_strerror(int code);

#ifdef __cplusplus
}
#endif
#endif
