/* SPDX-License-Identifier: Apache-2.0 */
/* See grpc_link.h. */
#include "net/grpc_link.h"

#define QUEUE_SHORT ((size_t)64 * 1024)

int kei_grpc_link_pump(struct kei_grpc_link *l, struct ke_error *err)
{
    struct ke_str piece;
    bool wrote = false;
    int r = 0;

    if (!l->open)
        return 0;
    while (kei_stream_queued(l->stream) < QUEUE_SHORT) {
        r = kei_h2_send(l->h2, &piece, err);
        if (r < 0)
            return r;
        if (piece.n == 0)
            return kei_h2_over(l->h2) ? kei_error(err, KE_ECLOSED, "HTTP/2 connection has ended")
                                      : 0;
        r = kei_stream_write(l->stream, piece.p, piece.n);
        if (r < 0) {
            if (err)
                *err = *kei_err(l->ctx);
            return r;
        }
        wrote = true;
    }
    if (wrote) /* it goes out at the end of this turn; if it cannot, drained tells when it did */
        kei_timer_in(&l->pump, 0);
    return 0;
}

void kei_grpc_link_poke(struct kei_grpc_link *l)
{
    if (l->open && !kei_timer_armed(&l->pump))
        kei_timer_in(&l->pump, 0);
}

void kei_grpc_link_fini(struct kei_grpc_link *l)
{
    kei_timer_stop(&l->pump);
    kei_stream_free(l->stream);
    kei_h2_free(l->h2);
    l->stream = NULL;
    l->h2 = NULL;
    l->open = false;
}
