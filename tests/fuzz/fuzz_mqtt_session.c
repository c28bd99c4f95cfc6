/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole sessions: up to four clients of one server say whatever the input holds, come and go, while
 * time passes. Whatever they say: the counters stay true, nobody hears what is no packet, the
 * server lets a new client in, and nothing is left when it is freed. Input: (who, n, n bytes)...;
 * who 0..3 a client, 4 closes one, 5 lets time pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kubeedge/mqtt.h>

#include "mqtt/codec.h"
#include "mqtt/mqtt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static int64_t now;

static int64_t mono(void *user)
{
    (void)user;
    return now;
}

static int64_t real(void *user)
{
    (void)user;
    return 1800000000000 + now;
}

struct client {
    int fd; /* -1: not there */
    uint8_t in[1 << 16];
    size_t n;
};
static struct client clients[4];

/* What the server says is packets, one after the other. */
static void hear(struct client *c)
{
    struct kei_mqtt_frame f;
    ssize_t n = recv(c->fd, c->in + c->n, sizeof c->in - c->n, MSG_DONTWAIT);
    size_t at = 0;

    if (n > 0)
        c->n += (size_t)n;
    while (at < c->n) {
        int r = kei_mqtt_frame(c->in + at, c->n - at, &f);
        MUST(r >= 0);
        if (r == 0 || f.head + (size_t)f.length > c->n - at)
            break;
        at += f.head + f.length;
    }
    memmove(c->in, c->in + at, c->n - at);
    c->n -= at;
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        MUST(c->n == 0); /* no packet was cut off */
        close(c->fd);
        c->fd = -1;
    }
}

static void turns(struct ke_ctx *ctx, int n)
{
    while (n-- > 0)
        MUST(ke_ctx_dispatch(ctx) == 0);
}

static bool open_client(struct ke_mqtt *m, struct client *c)
{
    int fd[2];

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
    MUST(kei_mqtt_serve_fd(m, fd[1], "", NULL) == 0);
    c->fd = fd[0];
    c->n = 0;
    return true;
}

static void check(struct ke_mqtt *m)
{
    struct ke_mqtt_stats s;

    MUST(ke_mqtt_stats(m, &s, sizeof s) == 0);
    MUST(s.connections <= 64 && s.sessions <= 64 && s.queued <= 100000);
    MUST((s.retained == 0) == (s.retained_bytes == 0));
    MUST((s.queued == 0) == (s.queued_bytes == 0));
    MUST(s.shared_subscriptions <= s.subscriptions);
}

static void step(struct ke_ctx *ctx, struct ke_mqtt *m, uint8_t who, const uint8_t *p, size_t n)
{
    struct client *c = &clients[who & 3];

    if (who % 6 == 5) {
        now += n * 500;
        turns(ctx, 2);
    } else if (who % 6 == 4 && c->fd >= 0) {
        close(c->fd);
        c->fd = -1;
    } else {
        c = &clients[who % 6 & 3];
        if (c->fd < 0)
            open_client(m, c);
        if (send(c->fd, p, n, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != EAGAIN)
            MUST(errno == ECONNRESET);
    }
    turns(ctx, 2);
    for (int i = 0; i < 4; i++)
        if (clients[i].fd >= 0)
            hear(&clients[i]);
}

/* A client that behaves is let in and answered. */
static void still_serves(struct ke_ctx *ctx, struct ke_mqtt *m)
{
    static const uint8_t hello[] = {0x10, 13, 0, 4, 'M', 'Q', 'T',  'T', 4,
                                    2,    0,  0, 0, 1,   '~', 0xc0, 0};
    static const uint8_t want[] = {0x20, 2, 0, 0, 0xd0, 0};
    static struct client c;
    uint8_t got[64];

    open_client(m, &c);
    MUST(send(c.fd, hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello);
    turns(ctx, 4);
    MUST(recv(c.fd, got, sizeof got, MSG_DONTWAIT) == sizeof want);
    MUST(memcmp(got, want, sizeof want) == 0);
    close(c.fd);
    turns(ctx, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct ke_clock clock = {sizeof clock, NULL, mono, real};
    struct ke_ctx_config cc;
    struct ke_mqtt_config c;
    struct ke_ctx *ctx;
    struct ke_mqtt *m;
    int fd;

    ke_ctx_config_init(&cc, sizeof cc);
    cc.clock = &clock;
    ke_mqtt_config_init(&c, sizeof c);
    c.flags = KE_MQTT_NO_SYS;
    c.max_packet = 5000;
    MUST(ke_ctx_new(&ctx, &cc, NULL) == 0 && ke_ctx_fd(ctx, &fd) == 0);
    MUST(ke_mqtt_new(&m, ctx, &c, NULL, NULL) == 0 && ke_mqtt_start(m) == 0);
    for (int i = 0; i < 4; i++)
        clients[i].fd = -1;
    while (size >= 2) {
        size_t n = data[1] < size - 2 ? data[1] : size - 2;
        step(ctx, m, data[0], data + 2, n);
        check(m);
        data += 2 + n;
        size -= 2 + n;
    }
    still_serves(ctx, m);
    for (int i = 0; i < 4; i++)
        if (clients[i].fd >= 0)
            close(clients[i].fd);
    ke_mqtt_free(m);
    ke_ctx_free(ctx);
    return 0;
}
