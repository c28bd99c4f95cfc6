/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node inside a libuv loop: one uv_poll_t on the context's descriptor is all it takes. Ends by
 * SIGINT or SIGTERM, which are the loop's as everything else is.
 *
 *     host_libuv NAME CLOUD_HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]
 *     cc host_libuv.c $(pkg-config --cflags --libs kubeedge libuv)
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include <kubeedge/kubeedge.h>

struct host {
    struct ke_ctx *ctx;
    struct ke_node *node;
    uv_loop_t loop;
    uv_poll_t poll;
    uv_signal_t signals[2];
    int failed;
};

static void close_handle(uv_handle_t *h, void *arg)
{
    (void)arg;
    if (!uv_is_closing(h))
        uv_close(h, NULL);
}

/* Without handles the loop has nothing left to do and uv_run returns. */
static void end(struct host *host)
{
    uv_walk(&host->loop, close_handle, NULL);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct host *host = poll->data;

    (void)events;
    if (status == 0 && ke_ctx_dispatch(host->ctx) == 0)
        return;
    fprintf(stderr, "%s\n", status < 0 ? uv_strerror(status) : ke_ctx_error(host->ctx));
    host->failed = 1;
    end(host);
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)number;
    end(signal->data);
}

static void on_state(void *user, const struct ke_node_status *st)
{
    static const char *const names[] = {"stopped", "starting", "offline", "connected", "ready"};

    (void)user;
    printf("node is %s %s\n", st->state < 5 ? names[st->state] : "?", st->error_text);
    fflush(stdout);
}

static int uv_check(int r, const char *what)
{
    if (r < 0)
        fprintf(stderr, "%s: %s\n", what, uv_strerror(r));
    return r < 0 ? -1 : 0;
}

static int watch(struct host *host, int fd)
{
    static const int numbers[] = {SIGINT, SIGTERM};

    if (uv_check(uv_poll_init(&host->loop, &host->poll, fd), "uv_poll_init") < 0)
        return -1;
    host->poll.data = host;
    for (int i = 0; i < 2; i++) {
        if (uv_check(uv_signal_init(&host->loop, &host->signals[i]), "uv_signal_init") < 0)
            return -1;
        host->signals[i].data = host;
        if (uv_check(uv_signal_start(&host->signals[i], on_signal, numbers[i]), "uv_signal") < 0)
            return -1;
    }
    return uv_check(uv_poll_start(&host->poll, UV_READABLE, on_readable), "uv_poll_start");
}

static int make_node(struct host *host, int argc, char **argv)
{
    struct ke_node_ops ops = {.size = sizeof ops, .state = on_state};
    struct ke_node_config c;
    int r;

    ke_node_config_init(&c, sizeof c);
    c.name = argv[1];
    c.cloud_host = argv[2];
    c.token = argv[3];
    c.data = argv[4];
    if (argc == 7) {
        c.tunnel_port = (uint32_t)atoi(argv[5]);
        c.cert_port = (uint32_t)atoi(argv[6]);
    }
    r = ke_node_new(&host->node, host->ctx, &c, &ops, host);
    if (r == 0)
        r = ke_node_start(host->node);
    if (r < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(host->ctx));
    return r;
}

int main(int argc, char **argv)
{
    struct host host = {.ctx = NULL};
    struct ke_error err = KE_ERROR_INIT;
    int fd;

    if (argc != 5 && argc != 7) {
        fprintf(stderr, "usage: %s NAME HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]\n", argv[0]);
        return 2;
    }
    if (uv_check(uv_loop_init(&host.loop), "uv_loop_init") < 0)
        return 1;
    if (ke_ctx_new(&host.ctx, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (ke_ctx_fd(host.ctx, &fd) < 0 || watch(&host, fd) < 0 || make_node(&host, argc, argv) < 0) {
        host.failed = 1;
        end(&host);
    }
    uv_run(&host.loop, UV_RUN_DEFAULT);
    uv_loop_close(&host.loop);
    ke_node_free(host.node);
    ke_ctx_free(host.ctx);
    return host.failed;
}
