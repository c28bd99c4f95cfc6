/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host that owns the event loop: one poll() over the terminal and the context's descriptor. The
 * library starts no thread for the loop; its callbacks run inside ke_ctx_dispatch.
 *
 *     host_poll NAME CLOUD_HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]
 *     cc host_poll.c $(pkg-config --cflags --libs kubeedge)
 *
 * Type "pods" for the pods, "quit" (or the end of the input) to leave.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kubeedge/kubeedge.h>

static void on_state(void *user, const struct ke_node_status *st)
{
    static const char *const names[] = {"stopped", "starting", "offline", "connected", "ready"};

    (void)user;
    printf("node is %s, %u of %u pods run %s\n", st->state < 5 ? names[st->state] : "?",
           (unsigned)st->pods_running, (unsigned)st->pods, st->error_text);
    fflush(stdout);
}

static void print_pod(void *user, const struct ke_pod_info *p)
{
    (void)user;
    printf("%s/%s %s %s\n", p->pod_namespace, p->name, p->phase, p->reason);
}

/* Returns 0 when the user wants to leave. */
static int on_line(struct ke_node *node, const char *line)
{
    if (strcmp(line, "quit") == 0)
        return 0;
    if (strcmp(line, "pods") != 0)
        printf("pods or quit?\n");
    else if (ke_node_pods(node, print_pod, NULL) < 0)
        printf("the pods could not be read\n");
    fflush(stdout);
    return 1;
}

/* Takes what the terminal has; lines may come in parts. */
static int on_input(struct ke_node *node)
{
    static char line[200];
    static size_t n;
    char *end;
    ssize_t got = read(STDIN_FILENO, line + n, sizeof line - 1 - n);

    if (got <= 0)
        return got < 0 && (errno == EINTR || errno == EAGAIN);
    n += (size_t)got;
    line[n] = '\0';
    while ((end = strchr(line, '\n')) != NULL) {
        *end = '\0';
        if (!on_line(node, line))
            return 0;
        n -= (size_t)(end + 1 - line);
        memmove(line, end + 1, n + 1);
    }
    if (n == sizeof line - 1)
        n = 0; /* nobody means that */
    return 1;
}

/* The host's loop. Timers of the library make its descriptor readable too: no timeout is needed. */
static int loop(struct ke_ctx *ctx, struct ke_node *node, int fd)
{
    struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};

    for (;;) {
        if (poll(p, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            perror("poll");
            return -1;
        }
        if (p[0].revents) {
            int r = ke_ctx_dispatch(ctx);
            if (r < 0)
                return r;
        }
        if (p[1].revents && !on_input(node))
            return 0;
    }
}

int main(int argc, char **argv)
{
    struct ke_node_ops ops = {.size = sizeof ops, .state = on_state};
    struct ke_error err = KE_ERROR_INIT;
    struct ke_node_config c;
    struct ke_ctx *ctx = NULL;
    struct ke_node *node = NULL;
    int fd, r;

    if (argc != 5 && argc != 7) {
        fprintf(stderr, "usage: %s NAME HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]\n", argv[0]);
        return 2;
    }
    ke_node_config_init(&c, sizeof c);
    c.name = argv[1];
    c.cloud_host = argv[2];
    c.token = argv[3];
    c.data = argv[4];
    if (argc == 7) {
        c.tunnel_port = (uint32_t)atoi(argv[5]);
        c.cert_port = (uint32_t)atoi(argv[6]);
    }
    if (ke_ctx_new(&ctx, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    r = ke_ctx_fd(ctx, &fd); /* before the start: from here on the loop is ours */
    if (r == 0)
        r = ke_node_new(&node, ctx, &c, &ops, NULL);
    if (r == 0)
        r = ke_node_start(node);
    if (r == 0)
        r = loop(ctx, node, fd);
    if (r < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(ctx));
    ke_node_free(node);
    ke_ctx_free(ctx);
    return r < 0;
}
