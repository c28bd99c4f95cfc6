/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket frames from a peer. The pieces they come in must not matter, memory stays below the
 * cap, and each message that came out goes through our own encoder and back unchanged.
 * First byte: bit 0 server, the rest the size of the pieces.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/ws_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

#define MAX_MESSAGE 2000

struct seen {
    struct ke_buf log;
    bool again; /* encode and decode what comes */
};

static int note(struct seen *s, char what, uint64_t n, const char *p, size_t kept)
{
    kei_buf_addf(&s->log, "%c%llu:", what, (unsigned long long)n);
    kei_buf_add(&s->log, p, kept);
    MUST(kei_buf_ok(&s->log));
    return 0;
}

static int put(void *user, const void *p, size_t n)
{
    kei_buf_add(user, p, n);
    return 0;
}

static int compare(void *user, const char *p, size_t n)
{
    struct ke_str *want = user;
    MUST(want->p && kei_str_eq(*want, kei_strn(p, n)));
    want->p = NULL; /* once */
    return 0;
}

static int no_skip(void *user, uint64_t n, const char *p, size_t kept)
{
    (void)user, (void)n, (void)p, (void)kept;
    abort();
}

static int no_control(void *user, enum kei_ws_opcode op, const char *p, size_t n)
{
    (void)user, (void)op, (void)p, (void)n;
    abort();
}

/* Out of one end and into the other. */
static void there_and_back(const char *p, size_t n, bool server)
{
    static const struct kei_ws_events events = {compare, no_skip, no_control};
    static const uint8_t mask[4] = {0x12, 0x00, 0xff, 0x5a};
    struct ke_str want = {p, n};
    struct kei_ws_codec from, to;
    struct ke_buf wire = {NULL, 0, 0, NULL};

    kei_ws_codec_init(&from, kei_alloc_malloc(), server, MAX_MESSAGE, &events, NULL);
    kei_ws_codec_init(&to, kei_alloc_malloc(), !server, MAX_MESSAGE, &events, &want);
    MUST(kei_ws_encode(&from, KEI_WS_TEXT, mask, p, n, put, &wire, NULL) == 0);
    MUST(wire.n == kei_ws_frame_size(&from, n));
    MUST(kei_ws_feed(&to, wire.p, wire.n, NULL) == 0);
    MUST(!want.p);
    MUST(!to.frames); /* at rest it holds nothing */
    kei_ws_codec_fini(&from);
    kei_ws_codec_fini(&to);
    ke_buf_free(&wire);
}

static int on_message(void *user, const char *p, size_t n)
{
    struct seen *s = user;
    MUST(n <= MAX_MESSAGE);
    if (s->again)
        there_and_back(p, n, n & 1);
    return note(s, 'm', n, p, n);
}

static int on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    MUST(n > MAX_MESSAGE && head_n <= KEI_WS_SKIP_HEAD && head_n <= n);
    return note(user, 's', n, head, head_n);
}

static int on_control(void *user, enum kei_ws_opcode op, const char *p, size_t n)
{
    MUST(n <= KEI_WS_CONTROL_MAX);
    MUST(op == KEI_WS_CLOSE || op == KEI_WS_PING || op == KEI_WS_PONG);
    return note(user, (char)('0' + op), n, p, n);
}

static const struct kei_ws_events events = {on_message, on_skipped, on_control};

static int run(struct seen *s, bool server, const char *p, size_t n, size_t step)
{
    struct kei_ws_codec c;
    struct ke_error err = KE_ERROR_INIT;
    int r = 0;

    kei_ws_codec_init(&c, kei_alloc_malloc(), server, MAX_MESSAGE, &events, s);
    for (size_t at = 0; at < n && r == 0; at += step) {
        r = kei_ws_feed(&c, p + at, n - at < step ? n - at : step, &err);
        MUST(r == 0 || (r == KE_EPROTO && err.text[0]));
        MUST(r != 0 || c.message.cap <= 2 * KEI_WS_SKIP_HEAD);
    }
    kei_ws_codec_fini(&c);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen one = {{NULL, 0, 0, NULL}, true}, two = {{NULL, 0, 0, NULL}, false};

    if (size < 2 || kei_ws_supported(NULL) < 0)
        return 0;
    bool server = data[0] & 1;
    const char *p = (const char *)data + 1;
    int r = run(&one, server, p, size - 1, size - 1);
    int r2 = run(&two, server, p, size - 1, (size_t)(data[0] >> 1) + 1);
    MUST(r == r2);
    MUST(one.log.n == two.log.n &&
         (one.log.n == 0 || memcmp(one.log.p, two.log.p, one.log.n) == 0));
    ke_buf_free(&one.log);
    ke_buf_free(&two.log);
    return 0;
}
