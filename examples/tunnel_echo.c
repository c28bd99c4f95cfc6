/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud tunnel by itself: joins a cloud, prints what it sends and acknowledges it, until
 * interrupted. Without a store nothing is kept; the identity is, in FOLDER.
 *
 *     tunnel_echo NODE HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]
 *     cc tunnel_echo.c $(pkg-config --cflags --libs kubeedge)
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <kubeedge/tunnel.h>

struct echo {
    struct ke_ctx *ctx;
    struct ke_tunnel *tunnel;
};

static struct ke_ctx *to_stop; /* for the signal handler only */

static void on_signal(int number)
{
    (void)number;
    ke_ctx_stop(to_stop);
}

static void on_message(void *user, struct ke_msg *m)
{
    struct echo *e = user;
    size_t n;
    const char *content = ke_msg_content(m, &n);

    printf("%s %s %.100s%s\n", ke_msg_operation(m), ke_msg_resource(m), content,
           n > 100 ? "..." : "");
    fflush(stdout);
    /* Acknowledging means: its effect will not be lost. Printing is all the effect there is. */
    if (ke_tunnel_ack(e->tunnel, m) < 0)
        fprintf(stderr, "not acknowledged: %s\n", ke_ctx_error(e->ctx));
}

static const char *const states[] = {"idle",      "joining", "connecting",
                                     "connected", "waiting", "stopped"};

static void on_state(void *user, const struct ke_tunnel_status *st)
{
    (void)user;
    if (st->state < sizeof states / sizeof states[0])
        printf("# %s", states[st->state]);
    if (st->state == KE_TUNNEL_WAITING)
        printf(", next attempt in %lld ms: %s", (long long)st->next_retry_ms, st->last_error_text);
    printf("\n");
    fflush(stdout);
}

static int usage(const char *program)
{
    fprintf(stderr, "usage: %s NODE HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]\n", program);
    return 2;
}

int main(int argc, char **argv)
{
    struct echo e = {NULL, NULL};
    struct ke_error err = KE_ERROR_INIT;
    struct ke_tunnel_config c;
    struct ke_tunnel_ops ops = {.size = sizeof ops, .message = on_message, .state = on_state};
    int r;

    if (argc != 5 && argc != 7)
        return usage(argv[0]);
    r = ke_ctx_new(&e.ctx, NULL, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    ke_tunnel_config_init(&c, sizeof c);
    c.node_name = argv[1];
    c.host = argv[2];
    c.token = argv[3];
    c.folder = argv[4];
    if (argc == 7) {
        c.tunnel_port = (uint32_t)strtoul(argv[5], NULL, 10);
        c.cert_port = (uint32_t)strtoul(argv[6], NULL, 10);
    }
    r = ke_tunnel_new(&e.tunnel, e.ctx, &c, &ops, &e);
    if (r == 0)
        r = ke_tunnel_start(e.tunnel);
    if (r == 0) {
        to_stop = e.ctx;
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        r = ke_ctx_run(e.ctx);
    }
    if (r < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(e.ctx));
    ke_tunnel_free(e.tunnel);
    ke_ctx_free(e.ctx);
    return r < 0 ? 1 : 0;
}
