/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power of the cloud goes at any moment, while manifests change, two nodes take what they get
 * and lose acknowledgements, and report. Whatever the disk then holds: the cloud starts, what it
 * answered is there, no version is given twice, and the nodes, which kept what they had, end with
 * exactly what they shall have; so nothing that a node has is forgotten.
 *
 * KE_POWERCUT_IMAGES: how many (default 1500, of which this test takes a twentieth). KE_SEED.
 */

#include "cloud/cloud_rig.h"
#include "sim/powercut_io.h"

#define THINGS 64
#define EVENTS 20000
#define PODS 6
#define CONFIGS 4
#define STEPS 120

/* What a message did to a node, when. */
struct event {
    size_t pos;
    uint8_t node;
    bool gone;
    char key[64], uid[40];
    int64_t version;
    uint8_t digest[32];
};

struct thing {
    char key[64], uid[40];
    int64_t version;
};

struct node {
    struct thing things[THINGS];
    unsigned n;
    unsigned index;
    bool sloppy; /* forgets acknowledgements */
};

struct world {
    struct rig r;
    struct powercut *disk;
    struct edge e[2];
    struct node nodes[2];
    uint64_t rng;
    bool final; /* the life after the cut */
    size_t cut; /* ... and when that was */
    /* what was promised from which position on: the n of the newest status answered */
    struct {
        size_t pos;
        long n;
    } promised[STEPS * 2];
    size_t n_promised;
    long status_n;
    char status_id[37];
};

static struct event *events;
static size_t n_events;
static struct {
    size_t n, changed, with_things, with_promise;
} checked; /* images */

/* ---- nodes ---- */

static struct thing *find(struct node *n, const char *key)
{
    for (unsigned i = 0; i < n->n; i++)
        if (strcmp(n->things[i].key, key) == 0)
            return &n->things[i];
    return NULL;
}

static void put(struct node *n, const char *key, const char *uid, int64_t version)
{
    struct thing *t = find(n, key);
    if (!t) {
        if (n->n == THINGS)
            fail_msg("a node has more than it can be given");
        t = &n->things[n->n++];
    }
    snprintf(t->key, sizeof t->key, "%s", key);
    snprintf(t->uid, sizeof t->uid, "%s", uid);
    t->version = version;
}

/* by uid, as our own node and upstream's do for pods; upstream's do not look at it for the rest */
static void drop(struct node *n, const char *key, const char *uid)
{
    struct thing *t = find(n, key);
    if (t && (strcmp(t->uid, uid) == 0 || (n->index == 1 && !strstr(key, "/pod/"))))
        *t = n->things[--n->n];
}

/* The same version of the same object never says something else. */
static void check_version(const struct world *w, const struct event *e)
{
    for (size_t i = 0; i < n_events && (!w->final || events[i].pos <= w->cut); i++)
        if (!events[i].gone && events[i].version == e->version &&
            strcmp(events[i].uid, e->uid) == 0 && memcmp(events[i].digest, e->digest, 32) != 0)
            fail_msg("%s version %lld says something else than before", e->key,
                     (long long)e->version);
}

static void end_pod(struct edge *e, const char *key, const char *uid)
{
    char options[200];
    snprintf(options, sizeof options,
             "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"%s\"}}", uid);
    (void)edge_send(e, "delete", key, options);
}

static void on_message(struct edge *e, struct ke_msg *m)
{
    struct world *w = KEI_OF(e->rig, struct world, r);
    struct node *n = e->user;
    struct event v = {.pos = powercut_pos(w->disk), .node = (uint8_t)n->index};
    const char *op = ke_msg_operation(m), *key = ke_msg_resource(m);
    struct ke_str content = kei_content(m);
    bool reply = strcmp(op, "response") == 0;
    if (reply && strcmp(ke_msg_parent_id(m), w->status_id) == 0 && !w->final) {
        if (strcmp(msg_text(m, "Err"), "null") == 0 && w->n_promised < STEPS * 2) {
            w->promised[w->n_promised].pos = v.pos;
            w->promised[w->n_promised++].n = w->status_n;
        }
        return;
    }
    if (strstr(key, "/node/") || strstr(key, "patch/") || !msg_text(m, "metadata.uid")[0])
        return;
    snprintf(v.key, sizeof v.key, "%s", key);
    snprintf(v.uid, sizeof v.uid, "%s", msg_text(m, "metadata.uid"));
    v.gone = strcmp(op, "delete") == 0;
    if (v.gone) {
        drop(n, v.key, v.uid);
    } else {
        v.version = strtoll(ke_msg_resource_version(m), NULL, 10);
        kei_sha256(content.p, content.n, v.digest);
        check_version(w, &v);
        put(n, v.key, v.uid, v.version);
    }
    if (!w->final && n_events < EVENTS)
        events[n_events++] = v;
    if (strstr(key, "/pod/") && !v.gone && msg_text(m, "metadata.deletionTimestamp")[0] &&
        (w->final || powercut_below(&w->rng, 2)))
        end_pod(e, v.key, v.uid);
    if (!n->sloppy || powercut_below(&w->rng, 4) || w->final)
        edge_ack(e, m);
}

/* ---- a life ---- */

static void begin(struct world *w, struct powercut *disk, bool slow)
{
    memset(w, 0, sizeof *w);
    w->disk = disk;
    if (slow)
        powercut_slow(disk);
    rig_init(&w->r, powercut_io(disk));
    w->r.quiet = true;
    w->r.idle_ms = 1;
    w->r.conf.manifests = "/m";
    rig_start(&w->r);
    for (unsigned i = 0; i < 2; i++) {
        edge_init(&w->e[i], &w->r, i ? "edge-2" : "edge-1");
        w->nodes[i].index = i;
        w->nodes[i].sloppy = true;
        w->e[i].user = &w->nodes[i];
        w->e[i].on_message = on_message;
        w->e[i].no_ack = true;
        w->e[i].agent = i ? "Go-http-client/1.1" : w->e[i].agent;
    }
}

static void end(struct world *w)
{
    atomic_store(&w->r.env.log_errors, 0);
    edge_fini(&w->e[0]);
    edge_fini(&w->e[1]);
    rig_fini(&w->r);
    powercut_free(w->disk);
}

struct choice {
    int value[CONFIGS];           /* 0: not there */
    int node[PODS], config[PODS]; /* node 0: not there */
};

static void write_manifests(struct powercut *disk, const struct choice *c)
{
    char text[4000] = "# manifests\n";
    for (int i = 0; i < CONFIGS; i++)
        if (c->value[i])
            snprintf(
                text + strlen(text), sizeof text - strlen(text),
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {k: \"%d\"}\n",
                i, c->value[i]);
    for (int i = 0; i < PODS; i++)
        if (c->node[i])
            snprintf(
                text + strlen(text), sizeof text - strlen(text),
                "---\napiVersion: v1\nkind: Pod\nmetadata: {name: p%d}\nspec:\n  nodeName: "
                "edge-%d\n"
                "  containers: [{name: c, image: i, envFrom: [{configMapRef: {name: c%d}}]}]\n",
                i, c->node[i], c->config[i]);
    powercut_put(disk, "/m/a.yaml", text, strlen(text));
}

static void change(struct world *w, struct choice *c)
{
    unsigned i = (unsigned)powercut_below(&w->rng, CONFIGS),
             p = (unsigned)powercut_below(&w->rng, PODS);
    switch (powercut_below(&w->rng, 4)) {
    case 0:
        c->value[i] = c->value[i] && powercut_below(&w->rng, 3) == 0
                          ? 0
                          : 1 + (int)powercut_below(&w->rng, 100);
        break;
    case 1:
        c->node[p] = c->node[p] ? 0 : 1 + (int)powercut_below(&w->rng, 2);
        break;
    case 2:
        c->config[p] = (int)i;
        break;
    default:
        c->node[p] = 1 + (int)powercut_below(&w->rng, 2);
        c->value[i] = 1 + (int)powercut_below(&w->rng, 100);
    }
    write_manifests(w->disk, c);
}

static void report(struct world *w, struct edge *e)
{
    char patch[100], resource[100];
    struct node *n = e->user;
    if (!e->open)
        return;
    if (n->index == 0) { /* a status that counts up */
        snprintf(patch, sizeof patch, "\"{\\\"status\\\":{\\\"n\\\":%ld}}\"", ++w->status_n);
        snprintf(w->status_id, sizeof w->status_id, "%s",
                 edge_send(e, "patch", "default/nodepatch/edge-1", patch));
    } else if (n->n > 0) {
        const struct thing *t = &n->things[powercut_below(&w->rng, n->n)];
        const char *name = strrchr(t->key, '/') + 1;
        snprintf(resource, sizeof resource, "default/podpatch/%s", name);
        snprintf(patch, sizeof patch, "\"{\\\"status\\\":{\\\"x\\\":%d}}\"",
                 (int)powercut_below(&w->rng, 1000));
        if (strstr(t->key, "/pod/"))
            (void)edge_send(e, "patch", resource, patch);
        snprintf(resource, sizeof resource, "default/configmap/c%d",
                 (int)powercut_below(&w->rng, CONFIGS));
        (void)edge_send(e, "query", resource, NULL);
    }
}

static void ensure_connected(struct edge *e)
{
    if (!e->open && !e->ws)
        (void)edge_connect(e);
}

static void live(struct world *w)
{
    struct choice c;
    memset(&c, 0, sizeof c);
    for (int i = 0; i < STEPS; i++) {
        struct edge *e = &w->e[powercut_below(&w->rng, 2)];
        ensure_connected(i == 0 ? &w->e[0] : e);
        if (i == 0)
            edge_register(&w->e[0], "default", NULL);
        switch (powercut_below(&w->rng, 6)) {
        case 0:
        case 1:
            change(w, &c);
            break;
        case 2:
            edge_drop(e);
            break;
        case 3:
            rig_ms(&w->r, 6000);
            break;
        default:
            report(w, e);
        }
        for (uint64_t turns = powercut_below(&w->rng, 6); turns > 0; turns--)
            rig_turn(&w->r);
        if (powercut_below(&w->rng, 3) == 0)
            rig_ms(&w->r, (int64_t)powercut_below(&w->rng, 3000));
    }
}

/* ---- after the cut ---- */

static long promised_at(const struct world *w, size_t pos)
{
    long n = 0;
    for (size_t i = 0; i < w->n_promised && w->promised[i].pos <= pos; i++)
        n = w->promised[i].n;
    return n;
}

/* What is wrong with what a node has; NULL: nothing. */
static const char *wrong(struct world *w, struct node *n)
{
    static char text[200];
    struct kei_peer *p = rig_peer(&w->r, n->index ? "edge-2" : "edge-1");
    char type[20], name[20], key[64];
    if (p && (p->queued || p->n_flying))
        return "something is on its way";
    for (unsigned i = 0; i < n->n; i++) {
        const struct thing *t = &n->things[i];
        if (sscanf(t->key, "default/%19[a-z]/%19s", type, name) != 2)
            return "a key is odd";
        const struct kei_object *o = rig_object(&w->r, type, "default", name);
        const struct kei_pod_note *note = o ? o->note : NULL;
        bool pod = strcmp(type, "pod") == 0;
        bool wanted = o && (pod ? note->peer == p : kei_index_refers(p, type, "default", name));
        snprintf(text, sizeof text, "node %u has %s %s version %lld, the cloud has %s version %lld",
                 n->index, t->key, t->uid, (long long)t->version, o ? o->uid : "none",
                 o ? (long long)o->version : 0);
        if (!o || strcmp(o->uid, t->uid) != 0 || (pod && !wanted) ||
            (wanted && o->version != t->version))
            return text;
    }
    if (p)
        KEI_LIST_EACH(l, &p->pods)
        {
            const struct kei_object *o = KEI_OF(l, struct kei_pod_note, link)->pod;
            snprintf(key, sizeof key, "default/pod/%s", o->name);
            snprintf(text, sizeof text, "node %u lacks %s", n->index, key);
            if (!find(n, key))
                return text;
        }
    return NULL;
}

/* The manifests change while the cloud is away: half of it is gone, the rest says something else.
 */
static void change_all(struct powercut *disk, uint64_t *rng)
{
    struct choice c;
    memset(&c, 0, sizeof c);
    for (int i = 0; i < CONFIGS; i++)
        c.value[i] = powercut_below(rng, 2) ? 1000 + i : 0;
    for (int i = 0; i < PODS; i++) {
        c.node[i] = (int)powercut_below(rng, 3);
        c.config[i] = (int)powercut_below(rng, CONFIGS);
    }
    write_manifests(disk, &c);
}

static void check_image(struct world *before, size_t pos, uint64_t seed)
{
    struct world w;
    struct powercut *image = powercut_image(before->disk, pos, seed);
    uint64_t rng = seed;
    bool changed = powercut_below(&rng, 4) > 0;
    if (changed)
        change_all(image, &rng);
    begin(&w, image, false);
    w.final = true;
    w.cut = pos;
    w.rng = seed;
    /* the nodes kept what they had */
    for (size_t i = 0; i < n_events && events[i].pos <= pos; i++) {
        struct node *n = &w.nodes[events[i].node];
        if (events[i].gone)
            drop(n, events[i].key, events[i].uid);
        else
            put(n, events[i].key, events[i].uid, events[i].version);
    }
    long promised = promised_at(before, pos);
    const struct kei_object *node = rig_object(&w.r, "node", "", "edge-1");
    long have = node ? strtol(json_text(kei_buf_str(&node->json), "status.n"), NULL, 10) : 0;
    if (have < promised)
        fail_msg("image %llu at %zu: status %ld was answered, %ld is there",
                 (unsigned long long)seed, pos, promised, have);
    checked.with_things += w.nodes[0].n + w.nodes[1].n > 0;
    checked.with_promise += promised > 0;
    checked.changed += changed;
    if (changed) /* they are known before a node says anything */
        rig_ms(&w.r, 10000);
    const char *what = "";
    for (int round = 0; what && round < 30; round++) {
        what = NULL;
        for (unsigned i = 0; i < 2; i++) {
            ensure_connected(&w.e[i]);
            for (unsigned k = 0; round > 0 && k < w.nodes[i].n; k++) {
                const struct thing *t = &w.nodes[i].things[k];
                const struct kei_object *o =
                    rig_object(&w.r, "pod", "default", strrchr(t->key, '/') + 1);
                if (strstr(t->key, "/pod/") && o && kei_pod_deleting(o))
                    end_pod(&w.e[i], t->key, t->uid);
            }
        }
        rig_ms(&w.r, 3000);
        for (unsigned i = 0; i < 2 && !what; i++)
            what = wrong(&w, &w.nodes[i]);
    }
    if (what)
        fail_msg("image %llu at %zu: %s", (unsigned long long)seed, pos, what);
    if (atomic_load(&w.r.env.log_errors) > 0)
        fail_msg("image %llu at %zu: %s", (unsigned long long)seed, pos, w.r.env.last_log);
    end(&w);
    checked.n++;
}

/* Any moment, or, each second time, that at which a message was there. */
static size_t choose_moment(uint64_t *rng, size_t first, size_t last)
{
    if (n_events > 0 && powercut_below(rng, 2))
        return events[powercut_below(rng, n_events)].pos;
    return first + (size_t)powercut_below(rng, last - first + 1);
}

static void nothing_is_forgotten(void **state)
{
    (void)state;
    const char *text = getenv("KE_POWERCUT_IMAGES"), *seed_text = getenv("KE_SEED");
    size_t images = (text ? (size_t)strtoul(text, NULL, 10) : 1500) / 20;
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 20261201;
    const uint64_t first_seed = seed;
    events = calloc(EVENTS, sizeof *events);
    assert_non_null(events);
    memset(&checked, 0, sizeof checked);
    for (size_t done = 0; done < images;) {
        struct world w;
        struct powercut *disk = powercut_new();
        const struct ke_io *io = powercut_io(disk);
        assert_int_equal(io->mkdir(io->user, "/m", 0700), 0);
        assert_int_equal(io->sync_dir(io->user, "/"), 0);
        powercut_put(disk, "/m/a.yaml", "# none\n", 7);
        n_events = 0;
        begin(&w, disk, true);
        w.rng = seed++;
        size_t first = powercut_pos(disk);
        live(&w);
        size_t last = powercut_pos(disk);
        rig_stop(&w.r);
        for (size_t i = 0; i < 40 && done < images; i++, done++) {
            size_t pos = choose_moment(&w.rng, first, last);
            check_image(&w, pos, w.rng);
        }
        end(&w);
    }
    free(events);
    print_message(
        "count: %zu power cuts of the cloud, %zu with nodes that had something, %zu after "
        "a promise, %zu with other manifests afterwards, first seed %llu\n",
        checked.n, checked.with_things, checked.with_promise, checked.changed,
        (unsigned long long)first_seed);
    assert_int_equal(checked.n, images);
    if (images >= 20) {
        assert_in_range(checked.with_things, images / 2, images);
        assert_in_range(checked.with_promise, images / 3, images);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_forgotten)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
