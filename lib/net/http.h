/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 client and server over net/stream. Loop thread. */
#ifndef KEI_NET_HTTP_H
#define KEI_NET_HTTP_H

#include "net/http1.h"
#include "net/stream.h"

/* ---- client: one exchange, one connection ---- */
struct kei_http_call;
struct kei_http_call_config {
    struct kei_stream_config stream;
    const char *method;  /* "GET", ... */
    const char *target;  /* "/edge.crt" */
    const char *headers; /* further header lines, each ended by \r\n; NULL: none. Host,
                            User-Agent and Content-Length are made here */
    struct ke_str body;  /* copied; a GET may have one */
    uint32_t timeout_ms; /* whole exchange; default 30000 */
    size_t max_body;     /* of the answer; default 3 MiB */
};
/* once: status 0 with HTTP status, headers and whole body (borrowed); or KE_E* and text. */
typedef void (*kei_http_done_fn)(void *user, int status, const char *text,
                                 const struct kei_http_head *head, struct ke_str body);
int kei_http_call(struct kei_http_call **ret, struct ke_ctx *ctx,
                  const struct kei_http_call_config *c, kei_http_done_fn done, void *user);
void kei_http_call_free(struct kei_http_call *c); /* cancels; NULL is fine; legal in done */

/* ---- server ---- */
struct kei_http_server;
struct kei_http_conn; /* one connection, during one request */
struct kei_http_server_config {
    struct kei_listener_config listener;
    size_t max_head;  /* default 16 KiB */
    size_t max_body;  /* default 3 MiB; 413 over it */
    uint32_t idle_ms; /* default 60000; slow senders are cut */
};
/*
 * A whole request. Answer with kei_http_respond, or kei_http_upgrade, in this call or later (the
 * head is borrowed during this call only). closed tells that the peer went before an answer.
 */
struct kei_http_server_ops {
    void (*request)(void *user, struct kei_http_conn *c, const struct kei_http_head *head,
                    struct ke_str body);
    void (*closed)(void *user, struct kei_http_conn *c);
};
int kei_http_server_new(struct kei_http_server **ret, struct ke_ctx *ctx,
                        const struct kei_http_server_config *c,
                        const struct kei_http_server_ops *ops, void *user);
uint16_t kei_http_server_port(const struct kei_http_server *s);
void kei_http_server_set_tls(struct kei_http_server *s, struct kei_tls_config *tls);
/* Closes all its connections, without callback. NULL is fine; legal in any callback. */
void kei_http_server_free(struct kei_http_server *s);
/* headers: further lines ended by \r\n, or NULL. Content-Length, Date are made here. All of the
 * answer is queued or none: KE_ELIMIT (over the send cap), KE_ENOMEM, KE_EINVAL, KE_ESTATE. */
int kei_http_respond(struct kei_http_conn *c, uint32_t status, const char *content_type,
                     const char *headers, struct ke_str body);
/* Writes head_text (a whole 101 answer) and hands the stream over; c is gone. NULL: that failed,
 * the connection is closed and c gone all the same. */
struct kei_stream *kei_http_upgrade(struct kei_http_conn *c, struct ke_str head_text);
struct kei_stream *kei_http_conn_stream(struct kei_http_conn *c); /* peer certificate, name */

#endif
