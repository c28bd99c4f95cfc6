/* SPDX-License-Identifier: Apache-2.0 */
/* A stream and the HTTP/2 on it: what server and client of gRPC share. Loop thread. */
#ifndef KEI_NET_GRPC_LINK_H
#define KEI_NET_GRPC_LINK_H

#include "net/h2.h"
#include "net/stream.h"

struct kei_grpc_link {
    struct ke_ctx *ctx;
    struct kei_stream *stream;
    struct kei_h2 *h2;
    struct kei_timer pump; /* more to be sent than was handed to the stream */
    bool open;
};

/* Sends what HTTP/2 has, as far as the stream's queue is short. KE_ECLOSED when all is said;
 * other failures: the connection is to be closed, err says why. */
int kei_grpc_link_pump(struct kei_grpc_link *l, struct ke_error *err);
/* The same, in a later turn. */
void kei_grpc_link_poke(struct kei_grpc_link *l);
void kei_grpc_link_fini(struct kei_grpc_link *l); /* without callback; safe if zero */

#endif
