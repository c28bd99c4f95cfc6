/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations per keepalive: a node and a cloud in one process, each on a context of its own, over TLS.
 * Counts what the node asks of its own table, and, by interposing malloc, what the whole process asks on
 * the node's thread (OpenSSL included) while nothing but keepalives and their pings flows.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kubeedge/kubeedge.h>

#define BEATS 100
#define HEARTBEAT_MS 50

static _Thread_local int counted; /* 1 on the node's thread */
static _Thread_local unsigned long mallocs;
static unsigned long own;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t k, size_t n);
void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
    mallocs += (unsigned long)counted;
    return __libc_malloc(n);
}

void *calloc(size_t k, size_t n)
{
    mallocs += (unsigned long)counted;
    return __libc_calloc(k, n);
}

void *realloc(void *p, size_t n)
{
    mallocs += (unsigned long)counted;
    return __libc_realloc(p, n);
}

static void *own_alloc(void *user, size_t n)
{
    (void)user;
    own += (unsigned long)counted;
    return malloc(n);
}

static void *own_realloc(void *user, void *p, size_t n)
{
    (void)user;
    own += (unsigned long)counted;
    return realloc(p, n);
}

static void own_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static const struct ke_alloc table = {.size = sizeof table, .alloc = own_alloc,
                                      .realloc = own_realloc, .free = own_free};

static int fail(const char *what, struct ke_ctx *ctx)
{
    fprintf(stderr, "bench_keepalive: %s: %s\n", what, ctx ? ke_ctx_error(ctx) : "");
    return 1;
}

/* Turns the node's loop until n more messages were sent, or ready. */
static int drive(struct ke_ctx *ctx, struct ke_node *node, uint64_t sent)
{
    struct ke_node_status st = {0};
    for (;;) {
        if (ke_ctx_wait(ctx, 100) < 0 || ke_ctx_dispatch(ctx) < 0 ||
            ke_node_state(node, &st, sizeof st) < 0)
            return -1;
        if (sent ? st.tunnel.sent >= sent : st.state == KE_NODE_READY)
            return 0;
    }
}

int main(void)
{
    char base[] = "/tmp/bench-keepalive-XXXXXX", path[2][80];
    struct ke_error err = KE_ERROR_INIT;
    struct ke_ctx *cloud_ctx = NULL, *ctx = NULL;
    struct ke_cloud *cloud = NULL;
    struct ke_node *node = NULL;
    struct ke_cloud_config cc;
    struct ke_node_config nc;
    struct ke_ctx_config xc;
    struct ke_buf token = {0};
    struct ke_node_status st = {0};
    uint32_t tunnel, cert;
    int fd;
    if (!mkdtemp(base))
        return fail("mkdtemp", NULL);
    snprintf(path[0], sizeof path[0], "%s/cloud", base);
    snprintf(path[1], sizeof path[1], "%s/node", base);
    ke_cloud_config_init(&cc, sizeof cc);
    cc.data = path[0];
    cc.listen = "127.0.0.1";
    cc.tunnel_port = cc.cert_port = KE_PORT_ANY;
    if (ke_ctx_new(&cloud_ctx, NULL, &err) < 0 || ke_cloud_new(&cloud, cloud_ctx, &cc, NULL, NULL) < 0 ||
        ke_cloud_start(cloud) < 0 || ke_cloud_token(cloud, &token) < 0 ||
        ke_cloud_ports(cloud, &tunnel, &cert) < 0)
        return fail("cloud", cloud_ctx);
    ke_ctx_config_init(&xc, sizeof xc);
    xc.alloc = &table;
    ke_node_config_init(&nc, sizeof nc);
    nc.name = "bench";
    nc.data = path[1];
    nc.cloud_host = "127.0.0.1";
    nc.tunnel_port = tunnel;
    nc.cert_port = cert;
    nc.token = token.p;
    nc.heartbeat_ms = HEARTBEAT_MS;
    nc.status_ms = 3600000; /* keepalives alone */
    if (ke_ctx_new(&ctx, &xc, &err) < 0 || ke_ctx_fd(ctx, &fd) < 0 ||
        ke_node_new(&node, ctx, &nc, NULL, NULL) < 0 || ke_node_start(node) < 0 ||
        drive(ctx, node, 0) < 0 || ke_node_state(node, &st, sizeof st) < 0)
        return fail("node", ctx);
    /* let what the registration left behind settle, then count */
    if (drive(ctx, node, st.tunnel.sent + 10) < 0 || ke_node_state(node, &st, sizeof st) < 0)
        return fail("settle", ctx);
    unsigned long before = mallocs;
    counted = 1;
    unsigned long own_start = own;
    if (drive(ctx, node, st.tunnel.sent + BEATS) < 0)
        return fail("beats", ctx);
    counted = 0;
    printf("%d keepalives: %.2f allocations each by our own code (goal 0), %.2f by the whole process\n", BEATS,
           (double)(own - own_start) / BEATS, (double)(mallocs - before) / BEATS);
    ke_node_free(node);
    ke_ctx_free(ctx);
    ke_cloud_free(cloud);
    ke_buf_free(&token);
    ke_ctx_free(cloud_ctx);
    return own - own_start > BEATS / 10;
}
