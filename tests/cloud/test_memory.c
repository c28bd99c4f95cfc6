/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One allocation of the cloud fails, any one, while it starts, takes manifests, meets two nodes and
 * ends pods: it neither crashes nor leaks, and when there is memory again everything gets where it
 * should. KE_MEMORY_STEP: every how many allocations (default 23; 1 tries them all),
 * KE_MEMORY_ONLY: this one alone.
 */
#include "cloud/cloud_rig.h"

#define MANIFEST                                                                                   \
    POD("p", "edge-1", REFERS("c"))                                                                \
    "---\n" CONFIG("c", "1") "---\n" SECRET("s", "1") "---\napiVersion: v1\nkind: Pod\n"           \
                                                      "metadata: {name: q}\nspec:\n"               \
                                                      "  nodeSelector: {a: b}\n"                   \
                                                      "  containers: [{name: c, image: i}]\n"

/* What an edge of this test has: as a good one, it goes by name and uid. */
struct thing {
    char key[200], uid[40];
    long version;
};

struct store {
    struct thing things[16];
    unsigned n;
};

static struct thing *find(struct store *s, const char *key)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->things[i].key, key) == 0)
            return &s->things[i];
    return NULL;
}

static void take(struct edge *e, struct ke_msg *m)
{
    struct store *s = e->user;
    const char *op = ke_msg_operation(m), *key = ke_msg_resource(m);
    struct thing *t = find(s, key);
    if (strcmp(op, "delete") == 0) {
        if (t && strcmp(t->uid, msg_text(m, "metadata.uid")) == 0)
            *t = s->things[--s->n];
    } else if (strcmp(op, "insert") == 0 || strcmp(op, "update") == 0) {
        if (!t)
            t = &s->things[s->n < 15 ? s->n++ : 15]; /* it gets four */
        snprintf(t->key, sizeof t->key, "%s", key);
        snprintf(t->uid, sizeof t->uid, "%s", msg_text(m, "metadata.uid"));
        t->version = strtol(ke_msg_resource_version(m), NULL, 10);
    }
}

static void end_pod(struct edge *e, const char *resource, const char *uid)
{
    char options[200];
    snprintf(options, sizeof options, "{\"preconditions\":{\"uid\":\"%s\"}}", uid);
    (void)edge_send(e, "delete", resource, options);
}

/* Ends its pods when they are being deleted. */
static void take_and_end(struct edge *e, struct ke_msg *m)
{
    take(e, m);
    if (strcmp(ke_msg_operation(m), "update") != 0 || !strstr(ke_msg_resource(m), "/pod/") ||
        !msg_text(m, "metadata.deletionTimestamp")[0])
        return;
    end_pod(e, ke_msg_resource(m), msg_text(m, "metadata.uid"));
}

/* What was not answered is said again, as nodes do. */
static void end_again(struct edge *e)
{
    struct store *s = e->user;
    for (unsigned i = 0; i < s->n; i++)
        if (strstr(s->things[i].key, "/pod/"))
            end_pod(e, s->things[i].key, s->things[i].uid);
}

static bool settled_down(void *arg)
{
    struct edge *e = arg;
    return (e->open && kei_ws_queued(e->ws) == 0) || e->closed;
}

/* Reconnects as nodes do, until it is in. */
static void be_connected(struct edge *e)
{
    for (int i = 0; i < 10 && !e->open; i++) {
        if (!e->ws)
            edge_dial(e);
        (void)rig_until(e->rig, settled_down, e);
        if (!e->open)
            rig_ms(e->rig, 6000);
    }
    assert_true(e->open);
}

/* An answer that memory ate is asked for again. */
static void be_registered(struct edge *e)
{
    for (int i = 0; i < 10; i++) {
        be_connected(e);
        (void)edge_send(e, "insert", "default/node/edge-1",
                        "{\"metadata\":{\"labels\":{\"a\":\"b\"}},\"status\":{}}");
        rig_ms(e->rig, 1000);
        if (rig_object(e->rig, "node", "", "edge-1"))
            return;
    }
    fail_msg("the node could not register");
}

static size_t at; /* the allocation that fails, for messages */

struct goal {
    struct rig *r;
    struct store *s;
    bool empty;
};

static bool holds(struct goal *g, const char *type, const char *name)
{
    char key[200];
    const struct kei_object *o = kei_objects_get(g->r->c->objects, type, "default", name);
    snprintf(key, sizeof key, "default/%s/%s", type, name);
    const struct thing *t = find(g->s, key);
    return o && t && strcmp(t->uid, o->uid) == 0 && o->durable == o->version;
}

static bool is_reached(void *arg)
{
    struct goal *g = arg;
    struct kei_peer *p = rig_peer(g->r, "edge-1");
    if (!p || p->queued || p->n_flying)
        return false;
    return g->empty ? g->s->n == 0 && !rig_object(g->r, "pod", "default", "p")
                    : holds(g, "pod", "p") && holds(g, "pod", "q") && holds(g, "configmap", "c");
}

static void reach(struct rig *r, struct edge *e, struct store *s, bool empty)
{
    struct goal g = {r, s, empty};
    for (int i = 0; i < 20; i++) {
        be_connected(e);
        if (is_reached(&g))
            return;
        if (empty && i > 0)
            end_again(e);
        rig_ms(r, 6000);
    }
    for (unsigned i = 0; i < s->n; i++)
        fprintf(stderr, "the node has %s %s\n", s->things[i].key, s->things[i].uid);
    fail_msg("allocation %zu failed: it did not get there, %s", at, empty ? "away" : "up");
}

static void live(size_t fail_at, bool *ret_failed)
{
    struct rig r;
    struct edge e;
    struct store s = {.n = 0};
    rig_init(&r, NULL);
    r.quiet = true;
    rig_manifest(&r, "a.yaml", MANIFEST);
    test_alloc_fail_at(&r.env.alloc, fail_at);
    for (int i = 0; rig_try_start(&r) != 0; i++) {
        assert_int_equal(i, 0); /* refused in order, and the next start works */
        rig_stop(&r);
    }
    assert_true(rig_loaded(&r));
    edge_init(&e, &r, "edge-1");
    e.on_message = take_and_end;
    e.user = &s;
    be_registered(&e);
    rig_ms(&r, 2000);
    edge_drop(&e);
    rig_ms(&r, 100);
    reach(&r, &e, &s, false);
    (void)edge_send(&e, "query", "default/configmap/c", NULL);
    (void)edge_send(&e, "query", "kube-node-lease/lease/edge-1", NULL);
    (void)edge_send(&e, "patch", "default/podpatch/p",
                    "\"{\\\"status\\\":{\\\"phase\\\":\\\"Running\\\"}}\"");
    rig_ms(&r, 1000);
    rig_manifest(&r, "a.yaml", "");
    rig_ms(&r, 1000);
    reach(&r, &e, &s, true);
    *ret_failed = atomic_load(&r.env.alloc.failed) > 0;
    atomic_store(&r.env.log_errors, 0);
    edge_fini(&e);
    rig_fini(&r);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    const char *text = getenv("KE_MEMORY_STEP"), *only = getenv("KE_MEMORY_ONLY");
    size_t step = text ? (size_t)strtoul(text, NULL, 10) : 23, n = 1, tried = 0;
    bool failed = true;
    if (only) {
        live((size_t)strtoul(only, NULL, 10), &failed);
        return;
    }
    for (; failed; n += step, tried++) {
        at = n;
        live(n, &failed);
    }
    print_message("count: %zu failing allocations of the cloud, the last is number %zu\n",
                  tried - 1, n - step);
    assert_true(tried > 10);
}

/* All of them fail for some seconds, from the nth on: while things are on their way. */
static void memory_may_run_out_for_some_time(void **state)
{
    (void)state;
    for (at = 1; at < 400; at += 9) {
        struct rig r;
        struct edge e;
        struct store s = {.n = 0};
        rig_init(&r, NULL);
        r.quiet = true;
        rig_start(&r);
        edge_init(&e, &r, "edge-1");
        e.on_message = take_and_end;
        e.user = &s;
        be_registered(&e);
        rig_manifest(&r, "a.yaml", MANIFEST);
        test_alloc_fail_from(&r.env.alloc, at);
        rig_ms(&r, 3000);
        if (e.open)
            (void)edge_send(&e, "query", "default/configmap/c", NULL);
        rig_ms(&r, 3000);
        test_alloc_fail_at(&r.env.alloc, 0);
        reach(&r, &e, &s, false);
        test_alloc_fail_from(&r.env.alloc, at);
        rig_manifest(&r, "a.yaml", "");
        rig_ms(&r, 3000);
        test_alloc_fail_at(&r.env.alloc, 0);
        reach(&r, &e, &s, true);
        atomic_store(&r.env.log_errors, 0);
        edge_fini(&e);
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(memory_may_run_out_for_some_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
