/* SPDX-License-Identifier: Apache-2.0 */
/* WebSocket frames without a connection: what comes in, in any pieces, and what goes out. */
#include "net/ws_priv.h"
#include "support/support.h"

#include "kei_config.h"

#if KEI_HAVE_WS

#define MAX_MESSAGE 10000

/* What the codec told, as text: "m5:hello", "s20000/4096", "ping2:xy", "close0:", "pong0:" */
struct seen {
    struct ke_buf log;
    int stop_after; /* events; 0: never */
    int events;
};

static int note(struct seen *s)
{
    return s->stop_after && ++s->events >= s->stop_after ? 1 : 0;
}

static void add_bytes(struct ke_buf *b, const char *p, size_t n)
{
    if (n <= 40) {
        kei_buf_addv(b, kei_strn(p, n));
        return;
    }
    uint64_t h = 14695981039346656037u; /* long ones as a hash */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    kei_buf_addf(b, "#%016llx", (unsigned long long)h);
}

static int on_message(void *user, const char *p, size_t n)
{
    struct seen *s = user;
    kei_buf_addf(&s->log, "m%zu:", n);
    add_bytes(&s->log, p, n);
    kei_buf_addc(&s->log, ' ');
    return note(s);
}

static int on_skipped(void *user, uint64_t n, const char *head, size_t head_n)
{
    struct seen *s = user;
    kei_buf_addf(&s->log, "s%llu/%zu:", (unsigned long long)n, head_n);
    add_bytes(&s->log, head, head_n);
    kei_buf_addc(&s->log, ' ');
    return note(s);
}

static int on_control(void *user, enum kei_ws_opcode op, const char *p, size_t n)
{
    struct seen *s = user;
    kei_buf_addf(&s->log, "%s%zu:",
                 op == KEI_WS_PING   ? "ping"
                 : op == KEI_WS_PONG ? "pong"
                                     : "close",
                 n);
    add_bytes(&s->log, p, n);
    kei_buf_addc(&s->log, ' ');
    return note(s);
}

static const struct kei_ws_events events = {on_message, on_skipped, on_control};

/* ---- frames made by hand, independent of the code under test ---- */

static void add_frame(struct ke_buf *b, int first, bool mask, const char *p, size_t n)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t m = mask ? 0x80 : 0;

    kei_buf_addc(b, (char)first);
    if (n < 126) {
        kei_buf_addc(b, (char)(m | n));
    } else if (n < 65536) {
        kei_buf_addc(b, (char)(m | 126));
        kei_buf_addc(b, (char)(n >> 8));
        kei_buf_addc(b, (char)n);
    } else {
        kei_buf_addc(b, (char)(m | 127));
        for (int i = 56; i >= 0; i -= 8)
            kei_buf_addc(b, (char)((uint64_t)n >> i));
    }
    if (mask)
        kei_buf_add(b, key, 4);
    for (size_t i = 0; i < n; i++)
        kei_buf_addc(b, (char)(p[i] ^ (mask ? key[i & 3] : 0)));
}

static struct ke_str bytes(size_t n)
{
    static char block[200000];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)('a' + i % 23);
    assert_true(n <= sizeof block);
    return kei_strn(block, n);
}

/*
 * A line of frames: "T5" text of 5 bytes, final; "t" not final; "B"/"b" binary, "C"/"c"
 * continuation, "P" ping, "O" pong, "K" close (0 bytes or code 1000 and text). Payload of the
 * fragments is taken from one long row of bytes, so a whole message is its beginning.
 */
static void build(struct ke_buf *b, const char *line, bool mask)
{
    size_t at = 0;

    while (*line) {
        char k = *line++;
        size_t n = (size_t)strtoul(line, (char **)(uintptr_t)&line, 10);
        int op = strchr("Tt", k)   ? 1
                 : strchr("Bb", k) ? 2
                 : strchr("Cc", k) ? 0
                 : k == 'P'        ? 9
                 : k == 'O'        ? 10
                                   : 8;
        bool fin = k >= 'A' && k <= 'Z';
        if (op == 1 || op == 2)
            at = 0;
        const char *p = bytes(100000).p + at;
        if (op < 8)
            at += n;
        else
            p = op == 8 ? "\x03\xe8goodbye..." : "0123456789";
        add_frame(b, op | (fin ? 0x80 : 0), mask, p, n);
        while (*line == ' ')
            line++;
    }
}

static void expect(struct ke_buf *b, const char *line)
{
    /* "m4096" becomes the message of that length from the row of bytes; the rest is literal */
    while (*line) {
        if ((*line == 'm' || *line == 's') && line[1] >= '0' && line[1] <= '9') {
            char k = *line++;
            size_t n = (size_t)strtoul(line, (char **)(uintptr_t)&line, 10);
            size_t head = n < 4096 ? n : 4096;
            if (k == 'm')
                kei_buf_addf(b, "m%zu:", n);
            else
                kei_buf_addf(b, "s%zu/%zu:", n, head);
            add_bytes(b, bytes(n).p, k == 'm' ? n : head);
            continue;
        }
        kei_buf_addc(b, *line++);
    }
    kei_buf_addc(b, ' ');
}

static const struct {
    const char *frames, *events;
} good[] = {
    {"T0", "m0"},
    {"T5", "m5"},
    {"B5", "m5"},
    {"T125", "m125"},
    {"T126", "m126"},
    {"T4096", "m4096"},
    {"T4097", "m4097"},
    {"T9999", "m9999"},
    {"T10000", "m10000"},
    {"T5 T6 T7", "m5 m6 m7"},
    /* KubeEdge clouds on the wire: 4082 and the rest; 8838 and an empty last one */
    {"t4082 C300", "m4382"},
    {"t4082 C4082", "m8164"},
    {"t8838 C0", "m8838"},
    {"t8838 C0 t4082 C1 T4040", "m8838 m4083 m4040"},
    {"t0 C0", "m0"},
    {"t1 c1 c1 c0 c0 C1", "m4"},
    {"b10 C10", "m20"},
    /* control frames between fragments */
    {"t5 P2 C5", "ping2:01 m10"},
    {"t5 P0 c5 O3 P10 C0", "ping0: pong3:012 ping10:0123456789 m10"},
    {"P0 T5 P1", "ping0: m5 ping1:0"},
    {"T5 K0", "m5 close0:"},
    {"K9", "close9:\x03\xe8goodbye"},
    /* over the cap: skipped, the next ones arrive */
    {"T10001 T5", "s10001 m5"},
    {"T65536 T5", "s65536 m5"},
    {"T100000 T5", "s100000 m5"},
    {"t5000 C5001 T5", "s10001 m5"},
    {"t5000 c5000 C1 T5", "s10001 m5"},
    {"t5000 P1 c20000 P1 c0 C20 T5", "ping1:0 ping1:0 s25020 m5"},
    {"t100 C20000 T5", "s20100 m5"},
    {"t10000 C0 t10000 C1", "m10000 s10001"},
    {"T20000 t20000 C0 B20000", "s20000 s20000 s20000"},
};

/* Feeds in steps; what remains of the message at an end is the caller's look-out. */
static int feed_steps(struct kei_ws_codec *c, const struct ke_buf *b, size_t step,
                      struct ke_error *err)
{
    for (size_t at = 0; at < b->n; at += step) {
        size_t n = b->n - at < step ? b->n - at : step;
        char *copy = malloc(n);
        memcpy(copy, b->p + at, n);
        int r = kei_ws_feed(c, copy, n, err);
        free(copy);
        if (r != 0)
            return r;
    }
    return 0;
}

static void good_frames(void **state)
{
    static const size_t steps[] = {1, 2, 3, 7, 1000, 4096, 4100, 1000000};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0] * 2 * 8; i++) {
        size_t k = i / 16, step = steps[i % 8];
        bool server = (i / 8) % 2;
        struct kei_ws_codec c;
        struct seen s = {.events = 0};
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf wire, want;
        struct test_alloc a;
        test_alloc_init(&a);
        kei_buf_init(&wire, kei_alloc_malloc());
        kei_buf_init(&want, kei_alloc_malloc());
        kei_buf_init(&s.log, kei_alloc_malloc());
        build(&wire, good[k].frames, server);
        expect(&want, good[k].events);
        kei_ws_codec_init(&c, &a.table, server, MAX_MESSAGE, &events, &s);
        int r = feed_steps(&c, &wire, step, &err);
        if (r != 0 || s.log.n != want.n || memcmp(s.log.p, want.p, want.n) != 0)
            fail_msg("\"%s\" in steps of %zu, server %d: %d %s\ngot  %.300s\nwant %.300s",
                     good[k].frames, step, server, r, err.text, s.log.p, want.p);
        /* at rest it holds nothing */
        assert_int_equal(test_alloc_live(&a), 0);
        kei_ws_codec_fini(&c);
        ke_buf_free(&wire);
        ke_buf_free(&want);
        ke_buf_free(&s.log);
    }
}

static const struct {
    const char *bytes;
    size_t n;
    bool server;
    const char *word; /* in the error's text */
} bad[] = {
    {"\xc1\x01x", 3, false, "reserved"},
    {"\xa1\x01x", 3, false, "reserved"},
    {"\x91\x01x", 3, false, "reserved"},
    {"\xf1\x00", 2, false, "reserved"},
    {"\xc9\x00", 2, false, "reserved"},
    {"\x81\x01x", 3, true, "without a mask"},
    {"\x81\x00", 2, true, "without a mask"},
    {"\x89\x00", 2, true, "without a mask"},
    {"\x81\x81\x01\x02\x03\x04x", 7, false, "masked"},
    {"\x81\x80\x01\x02\x03\x04", 6, false, "masked"},
    {"\x80\x01x", 3, false, "continuation"},
    {"\x00\x01x", 3, false, "continuation"},
    {"\x01\x01x\x81\x01y", 6, false, "inside"},
    {"\x01\x01x\x02\x01y", 6, false, "inside"},
    {"\x01\x01x\x80\x01y\x80\x01z", 9, false, "continuation"},
    {"\x83\x00", 2, false, "opcode"},
    {"\x87\x00", 2, false, "opcode"},
    {"\x8b\x00", 2, false, "malformed"},
    {"\x8f\x00", 2, false, "malformed"},
    {"\x09\x00", 2, false, "malformed"}, /* ping in fragments */
    {"\x08\x00", 2, false, "malformed"},
    {"\x89\x7e\x00\x7e", 4, false, "malformed"}, /* ping of 126 bytes */
    {"\x88\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10, false, "malformed"},
    {"\x88\x01x", 3, false, "half a code"},
    {"\x81\x7e\x00\x7d", 4, false, "malformed"}, /* lengths longer than needed */
    {"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 10, false, "malformed"},
    {"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 10, false, "malformed"},
};

static void bad_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (size_t step = 1; step <= bad[i].n; step++) {
            struct kei_ws_codec c;
            struct seen s = {.events = 0};
            struct ke_error err = KE_ERROR_INIT;
            struct ke_buf wire;
            kei_buf_init(&wire, kei_alloc_malloc());
            kei_buf_init(&s.log, kei_alloc_malloc());
            kei_buf_add(&wire, bad[i].bytes, bad[i].n);
            kei_ws_codec_init(&c, kei_alloc_malloc(), bad[i].server, MAX_MESSAGE, &events, &s);
            int r = feed_steps(&c, &wire, step, &err);
            /* unknown control opcodes are refused by us or by wslay: both are fine */
            bool named = strstr(err.text, bad[i].word) || strstr(err.text, "opcode");
            if (r != KE_EPROTO || !named)
                fail_msg("case %zu step %zu: %d \"%s\"", i, step, r, err.text);
            kei_ws_codec_fini(&c);
            ke_buf_free(&wire);
            ke_buf_free(&s.log);
        }
    }
}

/* The length a header promises is nobody's memory before the bytes come. */
static void promises_cost_nothing(void **state)
{
    struct kei_ws_codec c;
    struct seen s = {.events = 0};
    struct test_alloc a;
    struct ke_error err = KE_ERROR_INIT;

    (void)state;
    test_alloc_init(&a);
    kei_buf_init(&s.log, kei_alloc_malloc());
    kei_ws_codec_init(&c, &a.table, false, (size_t)1 << 31, &events, &s);
    /* 2^30 bytes, of which 1000 come */
    assert_int_equal(kei_ws_feed(&c, "\x81\x7f\x00\x00\x00\x00\x40\x00\x00\x00", 10, &err), 0);
    assert_int_equal(kei_ws_feed(&c, bytes(1000).p, 1000, &err), 0);
    assert_true(atomic_load(&a.peak_bytes) < 4096);
    kei_ws_codec_fini(&c);
    assert_int_equal(test_alloc_live(&a), 0);
    /* over the cap: no more than the kept head, however much comes */
    test_alloc_init(&a);
    kei_ws_codec_init(&c, &a.table, false, 8192, &events, &s);
    assert_int_equal(kei_ws_feed(&c, "\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 10, &err), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(kei_ws_feed(&c, bytes(100000).p, 100000, &err), 0);
    assert_true(atomic_load(&a.peak_bytes) < 16384);
    kei_ws_codec_fini(&c);
    assert_int_equal(test_alloc_live(&a), 0);
    ke_buf_free(&s.log);
}

static void handlers_can_stop(void **state)
{
    struct kei_ws_codec c;
    struct seen s = {.stop_after = 2};
    struct ke_buf wire;

    (void)state;
    kei_buf_init(&wire, kei_alloc_malloc());
    kei_buf_init(&s.log, kei_alloc_malloc());
    build(&wire, "T5 P1 T5 T5", false);
    kei_ws_codec_init(&c, kei_alloc_malloc(), false, MAX_MESSAGE, &events, &s);
    assert_int_equal(kei_ws_feed(&c, wire.p, wire.n, NULL), 1);
    assert_string_equal(s.log.p, "m5:abcde ping1:0 ");
    kei_ws_codec_fini(&c);
    ke_buf_free(&wire);
    ke_buf_free(&s.log);
}

/* ---- out ---- */

static int put_buf(void *user, const void *p, size_t n)
{
    kei_buf_add(user, p, n);
    return kei_buf_ok(user) ? 0 : KE_ENOMEM;
}

static int put_fails(void *user, const void *p, size_t n)
{
    (void)user, (void)p, (void)n;
    return KE_EIO;
}

static void encoded_frames(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 100000};
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d}; /* that of add_frame */

    (void)state;
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = sizes[i / 2];
        bool server = i % 2;
        struct kei_ws_codec c;
        struct ke_buf got, want;
        kei_buf_init(&got, kei_alloc_malloc());
        kei_buf_init(&want, kei_alloc_malloc());
        add_frame(&want, 0x81, !server, bytes(n).p, n);
        kei_ws_codec_init(&c, kei_alloc_malloc(), server, MAX_MESSAGE, &events, NULL);
        assert_int_equal(kei_ws_encode(&c, KEI_WS_TEXT, mask, bytes(n).p, n, put_buf, &got, NULL),
                         0);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.p, want.p, got.n);
        assert_int_equal(kei_ws_frame_size(&c, n), got.n);
        kei_ws_codec_fini(&c);
        ke_buf_free(&got);
        ke_buf_free(&want);
    }
}

static void nothing_follows_half_a_frame(void **state)
{
    static const uint8_t mask[4] = {1, 2, 3, 4};
    struct kei_ws_codec c;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf out;

    (void)state;
    kei_buf_init(&out, kei_alloc_malloc());
    kei_ws_codec_init(&c, kei_alloc_malloc(), false, MAX_MESSAGE, &events, NULL);
    assert_int_equal(kei_ws_encode(&c, KEI_WS_TEXT, mask, "x", 1, put_fails, NULL, &err), KE_EIO);
    assert_int_equal(kei_ws_encode(&c, KEI_WS_TEXT, mask, "x", 1, put_buf, &out, &err), KE_ESTATE);
    assert_int_equal(out.n, 0);
    kei_ws_codec_fini(&c);
    /* a control frame holds 125 bytes at most */
    kei_ws_codec_init(&c, kei_alloc_malloc(), true, MAX_MESSAGE, &events, NULL);
    assert_int_equal(kei_ws_encode(&c, KEI_WS_PING, mask, bytes(126).p, 126, put_buf, &out, &err),
                     KE_EINVAL);
    kei_ws_codec_fini(&c);
    ke_buf_free(&out);
}

/* A client keeps its frame context: sending and receiving small messages allocates nothing. */
static void kept_context(void **state)
{
    static const uint8_t mask[4] = {9, 8, 7, 6};
    char room[512];
    struct ke_buf out = {room, 0, sizeof room, kei_alloc_malloc()};
    struct kei_ws_codec c;
    struct seen s = {.events = 0};
    struct test_alloc a;

    (void)state;
    test_alloc_init(&a);
    kei_buf_init(&s.log, kei_alloc_malloc());
    kei_ws_codec_init(&c, &a.table, false, MAX_MESSAGE, &events, &s);
    c.keep = true;
    assert_int_equal(kei_ws_encode(&c, KEI_WS_TEXT, mask, "hello", 5, put_buf, &out, NULL), 0);
    size_t before = atomic_load(&a.calls);
    for (int i = 0; i < 10; i++) {
        out.n = 0;
        assert_int_equal(kei_ws_encode(&c, KEI_WS_TEXT, mask, "hello", 5, put_buf, &out, NULL), 0);
        assert_int_equal(kei_ws_feed(&c, "\x81\x05world\x8a\x00", 9, NULL), 0);
    }
    assert_int_equal(atomic_load(&a.calls), before);
    kei_ws_codec_fini(&c);
    assert_int_equal(test_alloc_live(&a), 0);
    ke_buf_free(&s.log);
}

static void without_memory(void **state)
{
    struct ke_buf wire;

    (void)state;
    kei_buf_init(&wire, kei_alloc_malloc());
    build(&wire, "t5000 P3 C3000 T20000 t9000 C9000 T5", true);
    for (size_t fail_at = 1;; fail_at++) {
        struct kei_ws_codec c;
        struct seen s = {.events = 0};
        struct test_alloc a;
        struct ke_error err = KE_ERROR_INIT;
        test_alloc_init(&a);
        test_alloc_fail_at(&a, fail_at);
        kei_buf_init(&s.log, kei_alloc_malloc());
        kei_ws_codec_init(&c, &a.table, true, MAX_MESSAGE, &events, &s);
        int r = feed_steps(&c, &wire, 1000, &err);
        kei_ws_codec_fini(&c);
        ke_buf_free(&s.log);
        assert_int_equal(test_alloc_live(&a), 0);
        if (atomic_load(&a.failed) == 0) {
            assert_int_equal(r, 0);
            assert_true(fail_at > 5);
            break;
        }
        assert_int_equal(r, KE_ENOMEM);
    }
    ke_buf_free(&wire);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(good_frames),       KE_TEST(bad_frames),     KE_TEST(promises_cost_nothing),
        KE_TEST(handlers_can_stop), KE_TEST(encoded_frames), KE_TEST(nothing_follows_half_a_frame),
        KE_TEST(kept_context),      KE_TEST(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void refused(void **state)
{
    struct kei_ws_codec c;
    struct ke_error err = KE_ERROR_INIT;

    (void)state;
    assert_int_equal(kei_ws_supported(&err), KE_ENOTSUP);
    kei_ws_codec_init(&c, kei_alloc_malloc(), true, 1, NULL, NULL);
    assert_int_equal(kei_ws_feed(&c, "x", 1, &err), KE_ENOTSUP);
    assert_int_equal(kei_ws_encode(&c, KEI_WS_TEXT, NULL, "x", 1, NULL, NULL, &err), KE_ENOTSUP);
    kei_ws_codec_fini(&c);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {KE_TEST(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
