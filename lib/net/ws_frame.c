/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket frames on wslay's frame API: messages put together, control frames between fragments,
 * what is over the cap skipped. Pure; the codec owns the message in work, grown as bytes come.
 */
#include "net/ws_priv.h"

#include "kei_config.h"

void kei_ws_codec_init(struct kei_ws_codec *c, const struct ke_alloc *alloc, bool server,
                       size_t max_message, const struct kei_ws_events *events, void *user)
{
    memset(c, 0, sizeof *c);
    c->alloc = alloc;
    c->server = server;
    c->max_message = max_message;
    c->events = events;
    c->user = user;
    kei_buf_init(&c->message, alloc);
}

size_t kei_ws_frame_size(const struct kei_ws_codec *c, size_t n)
{
    size_t head = n < 126 ? 2 : n < 65536 ? 4 : 10;

    return head + (c->server ? 0 : 4) + n;
}

#if KEI_HAVE_WS
#include <wslay/wslay.h>

int kei_ws_supported(struct ke_error *err)
{
    (void)err;
    return 0;
}

/* wslay's context and what its callbacks see. */
struct frames {
    wslay_frame_context_ptr ctx;
    struct kei_ws_codec *codec;
    kei_ws_put_fn put; /* while encoding */
    void *put_user;
    int put_status;
    uint8_t mask[4];
};

static ssize_t give(uint8_t *buf, size_t len, int flags, void *user)
{
    struct kei_ws_codec *c = ((struct frames *)user)->codec;
    size_t n = c->in_n < len ? c->in_n : len;

    (void)flags;
    if (n == 0)
        return -1;
    memcpy(buf, c->in, n);
    c->in += n;
    c->in_n -= n;
    c->taken += n;
    return (ssize_t)n;
}

static ssize_t put_bytes(const uint8_t *p, size_t n, int flags, void *user)
{
    struct frames *f = user;

    (void)flags;
    f->put_status = f->put(f->put_user, p, n);
    return f->put_status < 0 ? -1 : (ssize_t)n;
}

static int genmask(uint8_t *buf, size_t len, void *user)
{
    memcpy(buf, ((struct frames *)user)->mask, len < 4 ? len : 4);
    return 0;
}

static const struct wslay_frame_callbacks callbacks = {put_bytes, give, genmask};

static struct frames *frames_get(struct kei_ws_codec *c)
{
    if (c->frames)
        return c->frames;
    struct frames *f = kei_zalloc(c->alloc, sizeof *f);
    if (f && wslay_frame_context_init(&f->ctx, &callbacks, f) != 0) {
        kei_free(c->alloc, f);
        f = NULL;
    }
    if (f)
        f->codec = c;
    c->frames = f;
    return f;
}

static void frames_free(struct kei_ws_codec *c)
{
    struct frames *f = c->frames;

    if (!f)
        return;
    wslay_frame_context_free(f->ctx);
    kei_free(c->alloc, f);
    c->frames = NULL;
}

/* Between frames wslay's context holds nothing: an idle connection does without. */
static void frames_rest(struct kei_ws_codec *c)
{
    if (!c->keep && !c->feeding && c->taken == c->done)
        frames_free(c);
}

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "no memory for a WebSocket message");
}

static int bad(struct ke_error *err, const char *what)
{
    return kei_error(err, KE_EPROTO, "WebSocket peer sent %s", what);
}

/* The header of a frame, seen with its first payload. */
static int check_frame(const struct kei_ws_codec *c, const struct wslay_frame_iocb *f,
                       struct ke_error *err)
{
    if (f->rsv)
        return bad(err, "a frame with reserved bits set");
    if (c->server && !f->mask)
        return bad(err, "a frame without a mask");
    if (!c->server && f->mask)
        return bad(err, "a masked frame");
    switch (f->opcode) {
    case WSLAY_CONTINUATION_FRAME:
        return c->in_message ? 0 : bad(err, "a continuation without a message");
    case WSLAY_TEXT_FRAME:
        if (c->binary_only)
            return bad(err, "text where only binary is understood");
        /* fall through */
    case WSLAY_BINARY_FRAME:
        return c->in_message ? bad(err, "a new message inside of another") : 0;
    case WSLAY_CONNECTION_CLOSE:
        return f->payload_length == 1 ? bad(err, "a close frame with half a code") : 0;
    case WSLAY_PING:
    case WSLAY_PONG:
        return 0;
    default:
        return bad(err, "a frame with an unknown opcode");
    }
}

/* The message turned out to be over the cap: only its head is kept from here on. */
static int begin_skip(struct kei_ws_codec *c, struct ke_error *err)
{
    struct ke_buf head;

    c->skipping = true;
    c->skipped = c->message.n;
    kei_buf_init(&head, c->alloc);
    kei_buf_add(&head, c->message.p,
                c->message.n < KEI_WS_SKIP_HEAD ? c->message.n : KEI_WS_SKIP_HEAD);
    if (!kei_buf_ok(&head)) {
        ke_buf_free(&head);
        return no_memory(err);
    }
    ke_buf_free(&c->message);
    c->message = head;
    return 0;
}

/* The message is whole. The buffer is ours during the call, so that a handler may end the codec. */
static int end_message(struct kei_ws_codec *c)
{
    struct ke_buf m = c->message;
    int r;

    kei_buf_init(&c->message, c->alloc);
    c->in_message = false;
    if (c->skipping) {
        c->skipping = false;
        r = c->events->skipped(c->user, c->skipped, m.n ? m.p : "", m.n);
    } else {
        r = c->events->message(c->user, m.n ? m.p : "", m.n);
    }
    ke_buf_free(&m);
    return r;
}

static int data_piece(struct kei_ws_codec *c, const struct wslay_frame_iocb *f, bool first,
                      bool last, struct ke_error *err)
{
    const char *p = (const char *)f->data;
    size_t n = f->data_length;

    if (first && !c->skipping && f->payload_length > c->max_message - c->message.n) {
        int r = begin_skip(c, err);
        if (r < 0)
            return r;
    }
    if (first && last && f->fin && !c->in_message && !c->skipping)
        return c->events->message(c->user, p, n); /* whole in one piece: no copy */
    c->in_message = true;
    if (c->skipping) {
        c->skipped += n;
        size_t room = KEI_WS_SKIP_HEAD - c->message.n;
        n = n < room ? n : room;
    }
    if (n)
        kei_buf_add(&c->message, p, n);
    if (!kei_buf_ok(&c->message))
        return no_memory(err);
    return last && f->fin ? end_message(c) : 0;
}

static int control_piece(struct kei_ws_codec *c, const struct wslay_frame_iocb *f, bool first,
                         bool last)
{
    if (first)
        c->control_n = 0;
    memcpy(c->control + c->control_n, f->data, f->data_length);
    c->control_n = (uint8_t)(c->control_n + f->data_length);
    if (!last)
        return 0;
    return c->events->control(c->user, (enum kei_ws_opcode)f->opcode, c->control, c->control_n);
}

static int frame_piece(struct kei_ws_codec *c, const struct wslay_frame_iocb *f,
                       struct ke_error *err)
{
    bool first = c->frame_got == 0;
    int r = first ? check_frame(c, f, err) : 0;

    if (r < 0)
        return r;
    c->frame_got += f->data_length;
    bool last = c->frame_got == f->payload_length;
    if (last) {
        uint64_t n = f->payload_length;
        c->done += n + 2 + (n < 126 ? 0 : n < 65536 ? 2 : 8) + (f->mask ? 4 : 0);
        c->frame_got = 0;
    }
    if (wslay_is_ctrl_frame(f->opcode))
        return control_piece(c, f, first, last);
    return data_piece(c, f, first, last, err);
}

int kei_ws_feed(struct kei_ws_codec *c, const char *p, size_t n, struct ke_error *err)
{
    struct wslay_frame_iocb piece;

    if (n == 0)
        return 0;
    struct frames *f = frames_get(c);
    if (!f)
        return no_memory(err);
    c->feeding = true;
    c->in = p;
    c->in_n = n;
    for (;;) {
        memset(&piece, 0, sizeof piece);
        ssize_t got = wslay_frame_recv(f->ctx, &piece);
        if (got == WSLAY_ERR_WANT_READ)
            break;
        if (got < 0)
            return bad(err, "a malformed frame");
        int r = frame_piece(c, &piece, err);
        if (r != 0)
            return r;
    }
    c->feeding = false;
    frames_rest(c);
    return 0;
}

int kei_ws_encode(struct kei_ws_codec *c, enum kei_ws_opcode op, const uint8_t mask[4],
                  const char *p, size_t n, kei_ws_put_fn put, void *user, struct ke_error *err)
{
    struct wslay_frame_iocb frame = {
        .fin = 1,
        .opcode = (uint8_t)op,
        .mask = !c->server,
        .payload_length = n,
        .data = (const uint8_t *)p,
        .data_length = n,
    };

    if (c->broken)
        return kei_error(err, KE_ESTATE, "an earlier WebSocket frame was cut short");
    struct frames *f = frames_get(c);
    if (!f)
        return no_memory(err);
    f->put = put;
    f->put_user = user;
    f->put_status = 0;
    if (!c->server)
        memcpy(f->mask, mask, sizeof f->mask);
    ssize_t sent = wslay_frame_send(f->ctx, &frame);
    int status = f->put_status;
    if (status < 0 || sent < 0 || (size_t)sent != n) {
        c->broken = true; /* in the middle of a frame: nothing may follow it */
        return status < 0 ? status : kei_error(err, KE_EINVAL, "WebSocket frame was not valid");
    }
    frames_rest(c);
    return 0;
}

void kei_ws_codec_fini(struct kei_ws_codec *c)
{
    frames_free(c);
    ke_buf_free(&c->message);
}

#else

int kei_ws_supported(struct ke_error *err)
{
    return kei_error(err, KE_ENOTSUP, "built without WebSocket (wslay)");
}

int kei_ws_feed(struct kei_ws_codec *c, const char *p, size_t n, struct ke_error *err)
{
    (void)c, (void)p, (void)n;
    return kei_ws_supported(err);
}

int kei_ws_encode(struct kei_ws_codec *c, enum kei_ws_opcode op, const uint8_t mask[4],
                  const char *p, size_t n, kei_ws_put_fn put, void *user, struct ke_error *err)
{
    (void)c, (void)op, (void)mask, (void)p, (void)n, (void)put, (void)user;
    return kei_ws_supported(err);
}

void kei_ws_codec_fini(struct kei_ws_codec *c)
{
    ke_buf_free(&c->message);
}
#endif
