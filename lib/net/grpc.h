/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unary gRPC over net/h2 and net/stream: a server that is asked, a client that asks. Messages are
 * bytes here; what is in them is the layer's above. Loop thread.
 */
#ifndef KEI_NET_GRPC_H
#define KEI_NET_GRPC_H

#include "net/stream.h"

/* Codes of gRPC that we give or look at. */
#define KEI_GRPC_OK 0u
#define KEI_GRPC_CANCELLED 1u
#define KEI_GRPC_UNKNOWN 2u
#define KEI_GRPC_INVALID 3u
#define KEI_GRPC_DEADLINE 4u
#define KEI_GRPC_NOT_FOUND 5u
#define KEI_GRPC_EXHAUSTED 8u
#define KEI_GRPC_PRECONDITION 9u
#define KEI_GRPC_UNIMPLEMENTED 12u
#define KEI_GRPC_INTERNAL 13u
#define KEI_GRPC_UNAVAILABLE 14u

/* ---- server ---- */
struct kei_grpc_server;
struct kei_grpc_call; /* until it is answered, or gone */
struct kei_grpc_server_config {
    struct kei_listener_config listener;
    size_t max_message;   /* of a request; default 4 MiB, over it: status 8 */
    uint32_t max_calls;   /* open on one connection; default 100 */
    uint32_t deadline_ms; /* of calls that name none, and the longest; default 60000 */
    uint32_t idle_ms;     /* a connection on which a request does not get whole; default 60000 */
};
struct kei_grpc_server_ops {
    /* A request; path is "/package.Service/Method". Answer now or later by kei_grpc_reply or
     * kei_grpc_refuse. path and message are borrowed during this call. */
    void (*call)(void *user, struct kei_grpc_call *c, struct ke_str path, struct ke_str message);
    /* Optional. The peer gave it up or went, or its deadline passed: c is gone. */
    void (*gone)(void *user, struct kei_grpc_call *c);
};
int kei_grpc_server_new(struct kei_grpc_server **ret, struct ke_ctx *ctx,
                        const struct kei_grpc_server_config *c,
                        const struct kei_grpc_server_ops *ops, void *user);
/* Closes all its connections, without callback. NULL is fine; legal in any callback. */
void kei_grpc_server_free(struct kei_grpc_server *s);
/* c is gone after these. The text may be of any UTF-8. */
void kei_grpc_reply(struct kei_grpc_call *c, struct ke_str message);
void kei_grpc_refuse(struct kei_grpc_call *c, uint32_t code, const char *text);
/* Of a path that nothing answers: UNIMPLEMENTED in the words of gRPC's own servers. services: those
 * there are, "/package.Service/" each, with spaces between. */
void kei_grpc_refuse_path(struct kei_grpc_call *c, struct ke_str path, const char *services);
/* what the user keeps with it */
void kei_grpc_call_set(struct kei_grpc_call *c, void *p);
void *kei_grpc_call_get(const struct kei_grpc_call *c);

/* ---- client ---- */
struct kei_grpc_client;
struct kei_grpc_ask;
struct kei_grpc_client_config {
    struct kei_stream_config stream;
    const char *authority; /* default "localhost" */
    size_t max_message;    /* of an answer; default 4 MiB */
    uint32_t max_calls;    /* open at once; default 100 */
    /* Optional. A connection that had stood ended, after its calls were told. */
    void (*lost)(void *user, const char *text);
    void *user;
};
/*
 * The end of a call, once, never from within kei_grpc_ask. status 0: the server answered, with code
 * (KEI_GRPC_OK and message, or another and its text); else there was no answer: KE_ECONN,
 * KE_ETIMEDOUT, KE_ECLOSED, KE_EPROTO, KE_ELIMIT, ... with text; code is what gRPC calls that.
 */
struct kei_grpc_answer {
    int status;
    uint32_t code;
    const char *text;
    struct ke_str message;
};
typedef void (*kei_grpc_done_fn)(void *user, const struct kei_grpc_answer *a);
/* Strings are copied. Connects when it is first asked, and again after the connection was lost. */
int kei_grpc_client_new(struct kei_grpc_client **ret, struct ke_ctx *ctx,
                        const struct kei_grpc_client_config *c);
/* Its calls end without callback. NULL is fine; legal in any callback. */
void kei_grpc_client_free(struct kei_grpc_client *c);
/* path: "/package.Service/Method". message is copied. ret may be NULL. KE_ELIMIT (max_calls),
 * KE_ENOMEM */
int kei_grpc_ask(struct kei_grpc_ask **ret, struct kei_grpc_client *c, const char *path,
                 struct ke_str message, uint32_t timeout_ms, kei_grpc_done_fn done, void *user);
/* Gives it up, without callback. NULL is fine. */
void kei_grpc_ask_cancel(struct kei_grpc_ask *a);

/* ---- pure, for tests too ---- */
/* "1S", "100m", ...: milliseconds rounded up, INT64_MAX at most; -1 if malformed */
int64_t kei_grpc_timeout_read(struct ke_str s);
/* percent-encoding of grpc-message */
void kei_grpc_text_encode(struct ke_buf *out, const char *text);
void kei_grpc_text_decode(struct ke_buf *out, struct ke_str s);
/* 5 bytes before each message. read: KE_EPROTO (length does not fit), KE_ENOTSUP (compressed) */
void kei_grpc_frame_write(struct ke_buf *out, struct ke_str message);
int kei_grpc_frame_read(struct ke_str body, struct ke_str *ret_message);

#endif
