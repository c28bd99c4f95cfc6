/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device that becomes a KubeEdge node: its firmware has a lamp, and a pod with image "lamp"
 * switches it on. Three calls of the runtime's table do. Press Enter to end.
 *
 *     hello_node NAME CLOUD_HOST TOKEN FOLDER [TUNNEL_PORT CERT_PORT]
 *     cc hello_node.c $(pkg-config --cflags --libs kubeedge)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kubeedge/kubeedge.h>

struct firmware {
    struct ke_runtime *rt; /* what operations are completed at */
};

static void attach(void *user, struct ke_runtime *rt)
{
    ((struct firmware *)user)->rt = rt;
}

/* The same container asked for again gets the same id: it is made of what names it. */
static int create(void *user, uint64_t op, const struct ke_container_config *c)
{
    struct firmware *fw = user;
    char id[300];
    struct ke_runtime_result r = {.size = sizeof r, .id = id};

    if (strcmp(c->image, "lamp") != 0) {
        r.text = "this device has a lamp only";
        return ke_runtime_complete(fw->rt, op, KE_ENOTFOUND, &r);
    }
    snprintf(id, sizeof id, "%s/%s/%u", c->pod_uid, c->name, (unsigned)c->attempt);
    return ke_runtime_complete(fw->rt, op, 0, &r);
}

/* These may complete later and from any thread, if a lamp takes its time. */
static int start(void *user, uint64_t op, const char *id)
{
    fprintf(stderr, "lamp on (%s)\n", id);
    return ke_runtime_complete(((struct firmware *)user)->rt, op, 0, NULL);
}

static int stop(void *user, uint64_t op, const char *id, int64_t grace_ms)
{
    (void)grace_ms; /* a lamp needs none */
    fprintf(stderr, "lamp off (%s)\n", id);
    return ke_runtime_complete(((struct firmware *)user)->rt, op, 0, NULL);
}

static void on_state(void *user, const struct ke_node_status *st)
{
    (void)user;
    fprintf(stderr, "node is %s %s\n", st->state == KE_NODE_READY ? "ready" : "not ready",
            st->error_text);
}

int main(int argc, char **argv)
{
    struct firmware fw = {NULL};
    struct ke_runtime_ops runtime = {.size = sizeof runtime,
                                     .attach = attach,
                                     .container_create = create,
                                     .container_start = start,
                                     .container_stop = stop};
    struct ke_node_ops ops = {
        .size = sizeof ops, .runtime = &runtime, .runtime_user = &fw, .state = on_state};
    struct ke_node_config c;
    struct ke_ctx *ctx;
    struct ke_node *node = NULL;
    int r;

    if (argc < 5 || ke_ctx_new(&ctx, NULL, NULL) < 0)
        return 2;
    ke_node_config_init(&c, sizeof c);
    c.name = argv[1];
    c.cloud_host = argv[2];
    c.token = argv[3];
    c.data = argv[4];
    c.tunnel_port = argc > 6 ? (uint32_t)atoi(argv[5]) : 0;
    c.cert_port = argc > 6 ? (uint32_t)atoi(argv[6]) : 0;
    r = ke_node_new(&node, ctx, &c, &ops, NULL);
    if (r == 0)
        r = ke_node_start(node);
    if (r == 0)
        getchar(); /* the rest of the firmware goes here */
    else
        fprintf(stderr, "%s\n", ke_ctx_error(ctx));
    ke_node_free(node);
    ke_ctx_free(ctx);
    return r < 0;
}
