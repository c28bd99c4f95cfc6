/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A runtime of one's own with threads: a container is a thread of this program that counts, once
 * per second, to the number its first argument names. Its start is completed, and its end is told,
 * from that thread. Press Enter to end.
 *
 *     custom_runtime NAME CLOUD_HOST TOKEN FOLDER
 *     cc custom_runtime.c $(pkg-config --cflags --libs kubeedge) -lpthread
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kubeedge/kubeedge.h>

#define MAX 32
struct box { /* a container, guarded by mu */
    char id[192];
    uint32_t state; /* KE_CONTAINER_*, 0: free */
    int count, quit;
    uint64_t start_op, stop_op;
};

static struct box boxes[MAX];
static struct ke_runtime *runtime; /* NULL once the node has left */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

static void attach(void *unused, struct ke_runtime *rt)
{
    (void)unused;
    runtime = rt;
}

static void detach(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&mu);
    runtime = NULL;
    pthread_mutex_unlock(&mu);
}

static struct box *find(const char *id)
{
    for (int i = 0; i < MAX; i++)
        if (boxes[i].state && strcmp(boxes[i].id, id) == 0)
            return &boxes[i];
    return NULL;
}

/* Called with mu held, by any thread. An operation that is over already is no matter. */
static void complete(uint64_t op, int status, const char *id)
{
    struct ke_runtime_result r = {.size = sizeof r, .id = id};
    if (runtime && op && ke_runtime_complete(runtime, op, status, &r) < 0)
        fprintf(stderr, "%s: too late\n", id);
}

static void *run(void *arg)
{
    struct box *b = arg;
    pthread_mutex_lock(&mu);
    complete(b->start_op, 0, b->id);
    for (int i = 0; i < b->count && !b->quit; i++) {
        printf("%s: %d\n", b->id, i + 1);
        pthread_mutex_unlock(&mu);
        sleep(1);
        pthread_mutex_lock(&mu);
    }
    struct ke_container_info c = {.size = sizeof c, .id = b->id};
    c.state = b->state = KE_CONTAINER_EXITED;
    c.exit_code = b->quit ? 143 : 0;
    if (runtime && ke_runtime_event(runtime, &c) < 0)
        fprintf(stderr, "%s: its end was not told\n", b->id);
    complete(b->stop_op, 0, b->id);
    pthread_mutex_unlock(&mu);
    return NULL;
}

static int create(void *unused, uint64_t op, const struct ke_container_config *c)
{
    char id[192];
    (void)unused;
    snprintf(id, sizeof id, "%s/%s/%u", c->pod_uid, c->name, (unsigned)c->attempt);
    pthread_mutex_lock(&mu);
    struct box *b = find(id); /* asked for twice: the same */
    for (int i = 0; !b && i < MAX; i++) {
        if (boxes[i].state == KE_CONTAINER_CREATED || boxes[i].state == KE_CONTAINER_RUNNING)
            continue;
        b = &boxes[i];
        *b = (struct box){.state = KE_CONTAINER_CREATED, .count = c->n_args ? atoi(c->args[0]) : 5};
        snprintf(b->id, sizeof b->id, "%s", id);
    }
    complete(op, b ? 0 : KE_ELIMIT, id); /* all places are taken */
    pthread_mutex_unlock(&mu);
    return 0;
}

static int start(void *unused, uint64_t op, const char *id)
{
    pthread_t t;
    (void)unused;
    pthread_mutex_lock(&mu);
    struct box *b = find(id);
    int ok = b && b->state == KE_CONTAINER_CREATED && pthread_create(&t, NULL, run, b) == 0;
    if (ok) { /* the thread waits for mu, then completes op */
        pthread_detach(t);
        b->start_op = op;
        b->state = KE_CONTAINER_RUNNING;
    }
    pthread_mutex_unlock(&mu);
    return ok ? 0 : KE_ESTATE; /* negative: op is over and must not be completed */
}

static int stop(void *unused, uint64_t op, const char *id, int64_t grace_ms)
{
    (void)unused, (void)grace_ms;
    pthread_mutex_lock(&mu);
    struct box *b = find(id);
    if (b && b->state == KE_CONTAINER_RUNNING)
        b->quit = 1, b->stop_op = op; /* completed by the thread, within a second */
    else
        complete(op, 0, id); /* ended, or was never there */
    pthread_mutex_unlock(&mu);
    return 0;
}

int main(int argc, char **argv)
{
    struct ke_runtime_ops table = {.size = sizeof table, .attach = attach, .detach = detach};
    struct ke_node_ops ops = {.size = sizeof ops, .runtime = &table};
    struct ke_node_config c;
    struct ke_ctx *ctx;
    struct ke_node *node = NULL;
    if (argc < 5 || ke_ctx_new(&ctx, NULL, NULL) < 0)
        return 2;
    table.container_create = create, table.container_start = start, table.container_stop = stop;
    ke_node_config_init(&c, sizeof c);
    c.name = argv[1], c.cloud_host = argv[2], c.token = argv[3], c.data = argv[4];
    int r = ke_node_new(&node, ctx, &c, &ops, NULL);
    if (r == 0 && (r = ke_node_start(node)) == 0)
        getchar(); /* the rest of the firmware goes here */
    if (r < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(ctx));
    ke_node_free(node);
    ke_ctx_free(ctx);
    return r < 0;
}
