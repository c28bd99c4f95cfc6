/* SPDX-License-Identifier: Apache-2.0 */
/* The rig of the server's tests. Everything belongs to the test; one thread. */
#include "rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static void set_up(struct rig *r)
{
    ke_mqtt_config_init(&r->c, sizeof r->c);
    ke_mqtt_listener_init(&r->l, sizeof r->l);
    memset(&r->ops, 0, sizeof r->ops);
    r->ops.size = sizeof r->ops;
    r->l.port = KE_MQTT_PORT_ANY;
    r->c.listeners = &r->l;
    r->c.n_listeners = 1;
    r->c.flags = KE_MQTT_NO_SYS;
    r->c.max_connect_rate = KE_MQTT_NONE;
    r->m = NULL;
}

void rig_init(struct rig *r)
{
    test_env_init(&r->env, 0);
    set_up(r);
}

void rig_init_io(struct rig *r, const struct ke_io *io)
{
    test_env_init_io(&r->env, 0, io);
    set_up(r);
}

void rig_start(struct rig *r)
{
    int fd, s;

    s = ke_ctx_fd(r->env.ctx, &fd);
    assert_int_equal(s, 0);
    s = ke_mqtt_new(&r->m, r->env.ctx, &r->c, &r->ops, r);
    if (s < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
    s = ke_mqtt_start(r->m);
    if (s < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

void rig_fini(struct rig *r)
{
    ke_mqtt_free(r->m);
    test_env_fini(&r->env);
}

struct ke_mqtt_stats rig_stats(struct rig *r)
{
    struct ke_mqtt_stats s;

    assert_int_equal(ke_mqtt_stats(r->m, &s, sizeof s), 0);
    return s;
}

void peer_open(struct peer *p, struct rig *r)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint32_t port;

    memset(p, 0, sizeof *p);
    p->r = r;
    kei_buf_init(&p->in, kei_alloc_malloc());
    assert_int_equal(ke_mqtt_port(r->m, 0, &port), 0);
    a.sin_port = htons((uint16_t)port);
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(p->fd >= 0);
    assert_int_equal(connect(p->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(fcntl(p->fd, F_SETFL, O_NONBLOCK), 0);
}

void peer_close(struct peer *p)
{
    close(p->fd);
    ke_buf_free(&p->in);
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c - 'A' + 10;
}

static size_t bytes_of(const char *hex, uint8_t *out, size_t cap)
{
    size_t n = 0;

    while (*hex) {
        assert_true(n < cap);
        if (*hex == '\'') {
            for (hex++; *hex != '\''; hex++)
                out[n++] = (uint8_t)*hex;
            hex++;
        } else if (*hex == ' ') {
            hex++;
        } else {
            out[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
            hex += 2;
        }
    }
    return n;
}

void say(struct peer *p, const char *hex)
{
    uint8_t b[4096];
    size_t n = bytes_of(hex, b, sizeof b);

    assert_int_equal(send(p->fd, b, n, MSG_NOSIGNAL), (ssize_t)n);
}

static bool got(void *arg)
{
    struct peer *p = arg;
    char b[4096];
    ssize_t n = -1;

    while (!p->ended && (n = recv(p->fd, b, sizeof b, 0)) != 0) {
        if (n < 0) {
            p->ended = errno != EAGAIN && errno != EINTR;
            break;
        }
        kei_buf_add(&p->in, b, (size_t)n);
    }
    if (!p->ended && n == 0)
        p->ended = true;
    return p->ended || p->in.n >= p->want;
}

static void show(const char *what, const uint8_t *b, size_t n)
{
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %02x", b[i]);
    fprintf(stderr, "\n");
}

void hear(struct peer *p, const char *hex)
{
    uint8_t b[4096];
    size_t n = bytes_of(hex, b, sizeof b);

    p->want = n;
    test_drive(&p->r->env, got, p);
    if (p->in.n < n || memcmp(p->in.p, b, n) != 0) {
        show("expected", b, n);
        show("heard   ", (const uint8_t *)p->in.p, p->in.n);
        fail_msg("not what the server should say (%s)", p->ended ? "closed" : "open");
    }
    kei_buf_drop(&p->in, n);
}

void hear_nothing(struct peer *p)
{
    test_settle(&p->r->env);
    p->want = 1;
    got(p);
    if (p->in.n)
        show("heard   ", (const uint8_t *)p->in.p, p->in.n);
    assert_int_equal(p->in.n, 0);
    assert_false(p->ended);
}

void hear_end(struct peer *p)
{
    p->want = SIZE_MAX;
    test_drive(&p->r->env, got, p);
    if (p->in.n)
        show("heard   ", (const uint8_t *)p->in.p, p->in.n);
    assert_int_equal(p->in.n, 0);
    assert_true(p->ended);
}

void hello4(struct peer *p, struct rig *r, const char *id, bool clean)
{
    char hex[200];

    peer_open(p, r);
    snprintf(hex, sizeof hex, "10 %02zx 0004 'MQTT' 04 %02x 0000 %04zx '%s'", 12 + strlen(id),
             clean ? 2u : 0u, strlen(id), id);
    say(p, hex);
}

void hello5(struct peer *p, struct rig *r, const char *id, uint32_t expiry)
{
    char hex[200];

    peer_open(p, r);
    snprintf(hex, sizeof hex, "10 %02zx 0004 'MQTT' 05 %02x 0000 05 11 %08x %04zx '%s'",
             18 + strlen(id), 0u, expiry, strlen(id), id);
    say(p, hex);
}

void need_bytes(struct peer *p, size_t n)
{
    p->want = n;
    test_drive(&p->r->env, got, p);
    assert_true(p->in.n >= n);
}
