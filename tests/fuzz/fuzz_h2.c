/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 and gRPC's frames from a client: what is told stays below the limits, a request that is
 * kept is told its end, and nothing is left. First byte: size of the pieces; then the bytes behind
 * the connection's preface.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "net/grpc.h"
#include "net/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

#define MAX_BODY 2000
#define MAX_HEADERS 2000
#define MAX_STREAMS 8

struct seen {
    struct ke_buf log;
    uint32_t open, requests;
    struct kei_h2_stream *held;
};

static void on_request(void *user, struct kei_h2_stream *s, const struct kei_h2_message *m)
{
    static const struct kei_h2_header head[] = {{KEI_STR(":status"), KEI_STR("200")}};
    static const struct kei_h2_header end[] = {{KEI_STR("grpc-status"), KEI_STR("0")}};
    struct seen *x = user;
    struct ke_str message;
    size_t cost = 0;

    for (size_t i = 0; i < m->n_headers; i++)
        cost += m->headers[i].name.n + m->headers[i].value.n + 32;
    MUST(cost <= MAX_HEADERS);
    MUST(m->body.n <= MAX_BODY);
    (void)kei_grpc_timeout_read(kei_h2_header(m, "grpc-timeout"));
    int r = kei_grpc_frame_read(m->body, &message);
    kei_buf_addf(&x->log, "%zu %zu %d %d;", m->n_headers, m->body.n, r, m->over);
    x->requests++;
    if (x->requests % 3 == 0 && !x->held) {
        x->held = s; /* is answered never, or told to be gone */
        x->open++;
    } else if (x->requests % 3 == 1) {
        kei_h2_cancel(s);
    } else {
        (void)kei_h2_respond(s, head, 1, m->body.p ? m->body : KEI_STR(""), end, 1, NULL);
    }
}

static void on_gone(void *user, struct kei_h2_stream *s)
{
    struct seen *x = user;

    MUST(s == x->held);
    x->held = NULL;
    x->open--;
}

static void run(struct seen *x, const uint8_t *data, size_t size, size_t piece)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const struct kei_h2_ops ops = {.request = on_request, .gone = on_gone};
    const struct kei_h2_config c = {.server = true,
                                    .max_streams = MAX_STREAMS,
                                    .max_headers = MAX_HEADERS,
                                    .max_body = MAX_BODY,
                                    .max_bodies = 2 * MAX_BODY};
    struct kei_h2 *h = NULL;
    struct ke_str out;

    memset(x, 0, sizeof *x);
    kei_buf_init(&x->log, kei_alloc_malloc());
    MUST(kei_h2_new(&h, kei_alloc_malloc(), &c, &ops, x, NULL) == 0);
    int r = kei_h2_feed(h, preface, sizeof preface - 1, NULL);
    for (size_t at = 0; r == 0 && at < size && !kei_h2_over(h); at += piece) {
        r = kei_h2_feed(h, (const char *)data + at, size - at < piece ? size - at : piece, NULL);
        while (kei_h2_send(h, &out, NULL) == 0 && out.n > 0)
            ;
        MUST(kei_h2_incomplete(h) <= kei_h2_streams(h));
    }
    kei_h2_abort(h, KE_ECLOSED, "");
    MUST(x->open == 0 && kei_h2_streams(h) == 0);
    kei_h2_free(h);
    MUST(kei_buf_ok(&x->log));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen x;

    if (size < 1)
        return 0;
    run(&x, data + 1, size - 1, data[0] ? data[0] : size);
    ke_buf_free(&x.log);
    return 0;
}
