/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 of one connection, without sockets: bytes in, bytes out, and whole messages (head, body,
 * trailers) to the user. Pure but for its allocator; one thread. What a peer may send is capped:
 * streams, heads, bodies, and bodies together.
 */
#ifndef KEI_NET_H2_H
#define KEI_NET_H2_H

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"

struct kei_h2;
struct kei_h2_stream;

struct kei_h2_header {
    struct ke_str name, value; /* names are lower case; pseudo headers begin with ':' */
};

/* A request or an answer. Borrowed during the call that hands it over. */
struct kei_h2_message {
    const struct kei_h2_header *headers; /* trailers behind the headers */
    size_t n_headers;
    struct ke_str body;
    bool over; /* it is larger than the limit: body is only its begin, the rest is thrown away */
};

struct kei_h2_ops {
    /* Server: a request. s is the user's until it is answered, reset or gone. */
    void (*request)(void *user, struct kei_h2_stream *s, const struct kei_h2_message *m);
    /* Server: the peer gave up the request, or went, before the answer: s is gone. */
    void (*gone)(void *user, struct kei_h2_stream *s);
    /* Client: the end of a request, once; s is gone after it. 0 with the answer; KE_ELIMIT,
     * KE_EPROTO, KE_EREFUSED (the peer did not begin with it), KE_ECLOSED, ... with text. */
    void (*response)(void *user, struct kei_h2_stream *s, int status, const char *text,
                     const struct kei_h2_message *m);
};

/* Zero means the default. */
struct kei_h2_config {
    bool server;
    uint32_t max_streams; /* open at once; default 100 */
    size_t max_headers;   /* of one message: names, values and 32 for each; default 16 KiB */
    size_t max_body;      /* of one message; default 4 MiB */
    size_t max_bodies;    /* of all that are being received; default 4 x max_body */
};

/* ops is copied. KE_ENOMEM */
int kei_h2_new(struct kei_h2 **ret, const struct ke_alloc *a, const struct kei_h2_config *c,
               const struct kei_h2_ops *ops, void *user, struct ke_error *err);
/* Without callback; its streams are gone. NULL is fine; legal in any callback. */
void kei_h2_free(struct kei_h2 *h);

/* All n bytes are taken. KE_EPROTO, KE_ENOMEM: the connection is of no more use, send what there
 * still is (it tells the peer why) and close it. */
int kei_h2_feed(struct kei_h2 *h, const char *p, size_t n, struct ke_error *err);
/* The next bytes to send, borrowed until the next call; ret->n 0: none for now. KE_EPROTO,
 * KE_ENOMEM
 */
int kei_h2_send(struct kei_h2 *h, struct ke_str *ret, struct ke_error *err);
/* true: nothing more will come nor is to be sent, it can be closed */
bool kei_h2_over(const struct kei_h2 *h);
/* No new streams; those that are open go on. */
void kei_h2_shutdown(struct kei_h2 *h);
/* The connection ended: all open requests are told (response, gone). */
void kei_h2_abort(struct kei_h2 *h, int status, const char *text);

uint32_t kei_h2_streams(const struct kei_h2 *h); /* open */
uint32_t
kei_h2_incomplete(const struct kei_h2 *h); /* of them, messages of the peer not whole yet */

/* Client. body is copied. KE_ELIMIT (no more streams here), KE_ECLOSED (the peer takes no more),
 * KE_ENOMEM */
int kei_h2_request(struct kei_h2_stream **ret, struct kei_h2 *h,
                   const struct kei_h2_header *headers, size_t n, struct ke_str body, void *user,
                   struct ke_error *err);
/* Server. headers begin with :status. Without trailers the body's end (or the head, when body.p is
 * NULL) is the end. Body is copied. s is gone, whatever is returned: when it is not 0, reset. */
int kei_h2_respond(struct kei_h2_stream *s, const struct kei_h2_header *headers, size_t n,
                   struct ke_str body, const struct kei_h2_header *trailers, size_t n_trailers,
                   struct ke_error *err);
/* Gives it up: the peer is told, the user is not called any more. s is gone. */
void kei_h2_cancel(struct kei_h2_stream *s);
/* What the user keeps with it; in the client first what was given to kei_h2_request. */
void kei_h2_stream_set(struct kei_h2_stream *s, void *user);
void *kei_h2_stream_get(const struct kei_h2_stream *s);

/* The first header of that name; p NULL if there is none. */
struct ke_str kei_h2_header(const struct kei_h2_message *m, const char *name);

#endif
