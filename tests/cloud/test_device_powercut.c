/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power of the cloud goes at any moment while devices come, go and change, and their node tells
 * of them. Whatever the disk then holds: what was confirmed is there, in the life of the device
 * that told it, and the node, which kept what it had, ends with exactly its devices and their
 * model. Every second node merges: what it set is in the Device's record when it was confirmed.
 *
 * KE_POWERCUT_IMAGES: how many (default 1500, of which this test takes a twentieth). KE_SEED.
 */

#include "cloud/cloud_rig.h"
#include "cloud/device.h"
#include "sim/powercut_io.h"

#define DEVICES 4 /* d0 is always there */
#define STEPS 80
#define EVENTS 20000

struct thing {
    char key[64], uid[40];
    int64_t version;
};

/* What the node got, when. */
struct event {
    size_t pos;
    bool gone;
    struct thing thing;
};

struct node {
    struct thing things[2 * DEVICES];
    unsigned n;
};

struct world {
    struct rig r;
    struct powercut *disk;
    struct edge e;
    struct node node;
    uint64_t rng;
    bool final;
    /* of d0: the value that was confirmed, from a position on */
    struct {
        size_t pos;
        long value;
    } promised[STEPS];
    size_t n_promised;
    struct {
        char id[37];
        long value;
    } told[STEPS];
    size_t n_told;
};

static struct event *events;
static size_t n_events;
static struct {
    size_t n, with_things, with_promise, with_wish;
} checked;

/* ---- the node ---- */

static struct thing *find(struct node *n, const char *key)
{
    for (unsigned i = 0; i < n->n; i++)
        if (strcmp(n->things[i].key, key) == 0)
            return &n->things[i];
    return NULL;
}

static void apply(struct node *n, const struct event *v)
{
    struct thing *t = find(n, v->thing.key);
    if (v->gone) {
        if (t)
            *t = n->things[--n->n];
        return;
    }
    if (!t) {
        assert_true(n->n < 2 * DEVICES);
        t = &n->things[n->n++];
    }
    *t = v->thing;
}

static void confirmed(struct world *w, const char *id)
{
    for (size_t i = 0; i < w->n_told; i++)
        if (strcmp(w->told[i].id, id) == 0 && w->n_promised < STEPS) {
            w->promised[w->n_promised].pos = powercut_pos(w->disk);
            w->promised[w->n_promised++].value = w->told[i].value;
        }
}

static void on_message(struct edge *e, struct ke_msg *m)
{
    struct world *w = KEI_OF(e->rig, struct world, r);
    struct event v = {.pos = powercut_pos(w->disk),
                      .gone = strcmp(ke_msg_operation(m), "delete") == 0};
    const char *key = ke_msg_resource(m);
    if (strcmp(ke_msg_group(m), "twin") == 0) {
        if (strcmp(ke_msg_operation(m), "response") == 0 && !w->final)
            confirmed(w, ke_msg_parent_id(m));
        return;
    }
    if (!strstr(key, "/device"))
        return;
    snprintf(v.thing.key, sizeof v.thing.key, "%s", key);
    snprintf(v.thing.uid, sizeof v.thing.uid, "%s", msg_text(m, "metadata.uid"));
    v.thing.version = strtoll(ke_msg_resource_version(m), NULL, 10);
    if (v.gone && !msg_text(m, "spec.protocol")[0])
        fail_msg("the deletion of %s does not name the protocol", key);
    apply(&w->node, &v);
    if (!w->final && n_events < EVENTS)
        events[n_events++] = v;
    if (w->final || powercut_below(&w->rng, 4))
        edge_ack(e, m);
}

/* ---- a life ---- */

static void begin(struct world *w, struct powercut *disk, bool slow, bool merges)
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
    edge_init(&w->e, &w->r, "edge-1");
    w->e.on_message = on_message; /* one of ours: its answers are not held back */
    w->e.no_ack = true;
    w->e.merges = merges;
}

static void end(struct world *w)
{
    atomic_store(&w->r.env.log_errors, 0);
    edge_fini(&w->e);
    rig_fini(&w->r);
    powercut_free(w->disk);
}

static void write_manifests(struct powercut *disk, const int *desired)
{
    char text[4000] =
        "apiVersion: devices.kubeedge.io/v1beta1\nkind: DeviceModel\nmetadata: {name: m}\n"
        "spec: {protocol: modbus, properties: [{name: t, type: INT}]}\n";
    for (int i = 0; i < DEVICES; i++)
        if (desired[i])
            snprintf(text + strlen(text), sizeof text - strlen(text),
                     "---\napiVersion: devices.kubeedge.io/v1beta1\nkind: Device\n"
                     "metadata: {name: d%d}\nspec:\n  deviceModelRef: {name: m}\n"
                     "  nodeName: edge-1\n  protocol: {protocolName: modbus}\n"
                     "  properties: [{name: t, desired: {value: \"%d\"}}]\n",
                     i, desired[i]);
    powercut_put(disk, "/m/a.yaml", text, strlen(text));
}

static void be_in(struct world *w)
{
    if (!w->e.open && !w->e.ws && edge_connect(&w->e))
        (void)edge_send_as(&w->e, "twin", "resource", "get", "membership/detail", "\"{}\"");
}

/* What the record of d0 says of x, which no manifest names. */
static long recorded(struct world *w, struct kei_hlc *ret_life)
{
    const struct kei_object *o = rig_object(&w->r, "device", "default", "d0");
    const struct ke_alloc *al = kei_ctx_alloc(w->r.env.ctx);
    struct kei_merge_device m;
    long x = 0;
    if (!o)
        return 0;
    assert_int_equal(kei_device_record(&m, kei_buf_str(&o->json), al, NULL), 0);
    const struct kei_merge_twin *t = kei_merge_find(&m, KEI_STR("x"));
    if (t && t->v[0].text)
        x = strtol(t->v[0].text, NULL, 10);
    *ret_life = m.life;
    kei_merge_fini(&m, al);
    return x;
}

static void tell(struct world *w, long value)
{
    char content[800];
    struct kei_hlc life = {0, 0, 0};
    if (!w->e.open || !find(&w->node, "default/device/d0"))
        return;
    snprintf(content, sizeof content,
             "{\"twin\":{\"t\":{\"actual\":{\"value\":\"%ld\",\"metadata\":{\"timestamp\":%ld}},"
             "\"actual_version\":{\"cloud\":0,\"edge\":%ld}}}}",
             value, value, value);
    (void)recorded(w, &life);
    if (w->e.merges) {
        long long at = (long long)TEST_CLOCK_REAL_MS + value;
        snprintf(
            content, sizeof content,
            "{\"twin\":{\"t\":{\"actual\":{\"value\":\"%ld\"}},\"x\":{\"expected\":{\"value\":"
            "\"%ld\"}}},\"merge\":{\"life\":[%lld,%u,%u],\"twin\":{\"t\":{\"actual\":{\"value\":"
            "\"%ld\",\"at\":[%lld,0,7]}},\"x\":{\"expected\":{\"value\":\"%ld\",\"at\":[%lld,0,"
            "7]}}}}}",
            value, value, (long long)life.ms, life.n, life.node, value, at, value, at);
    }
    w->told[w->n_told].value = value;
    snprintf(
        w->told[w->n_told++].id, 37, "%s",
        edge_send_as(&w->e, "twin", "resource", "update", "device/d0/twin/edge_updated", content));
}

static void live(struct world *w)
{
    int desired[DEVICES] = {1};
    be_in(w);
    edge_register(&w->e, "default", NULL);
    for (int i = 0; i < STEPS; i++) {
        size_t k = (size_t)powercut_below(&w->rng, DEVICES);
        be_in(w);
        switch (powercut_below(&w->rng, 6)) {
        case 0:
            desired[k] = k > 0 && desired[k] && powercut_below(&w->rng, 2)
                             ? 0
                             : 1 + (int)powercut_below(&w->rng, 100);
            write_manifests(w->disk, desired);
            break;
        case 1:
            edge_drop(&w->e);
            break;
        case 2:
            rig_ms(&w->r, 6000);
            break;
        default:
            tell(w, i + 1);
        }
        for (uint64_t turns = powercut_below(&w->rng, 6); turns > 0; turns--)
            rig_turn(&w->r);
        if (powercut_below(&w->rng, 3) == 0)
            rig_ms(&w->r, (int64_t)powercut_below(&w->rng, 3000));
    }
}

/* ---- after the cut ---- */

/* What is wrong with what the node has; NULL: nothing. */
static const char *wrong(struct world *w)
{
    static char text[200];
    struct kei_peer *p = rig_peer(&w->r, "edge-1");
    unsigned wanted = 0;
    char key[64];
    if (p->queued || p->n_flying)
        return "something is on its way";
    KEI_LIST_EACH(l, &p->devices)
    {
        const struct kei_object *o = KEI_OF(l, struct kei_device_note, link)->device;
        snprintf(key, sizeof key, "default/device/%s", o->name);
        const struct thing *t = find(&w->node, key);
        snprintf(text, sizeof text, "the node has %s %s version %lld, the cloud %s version %lld",
                 key, t ? t->uid : "none", t ? (long long)t->version : 0, o->uid,
                 (long long)o->version);
        if (!t || strcmp(t->uid, o->uid) != 0 || t->version != o->version)
            return text;
        wanted++;
    }
    wanted += wanted > 0; /* the model */
    snprintf(text, sizeof text, "the node has %u objects of %u", w->node.n, wanted);
    return w->node.n == wanted ? NULL : text;
}

static void check_promise(struct world *w, const struct world *before, size_t pos, uint64_t seed)
{
    const struct kei_object *o = rig_object(&w->r, "devicestatus", "default", "d0");
    struct ke_str twins, k, item;
    long promised = 0, have = 0;
    size_t it = 0;
    for (size_t i = 0; i < before->n_promised && before->promised[i].pos <= pos; i++)
        if (before->promised[i].value > promised)
            promised = before->promised[i].value;
    if (o && kei_json_path(kei_buf_str(&o->json), "status.twins", &twins) &&
        kei_json_next(twins, &it, &k, &item))
        have = strtol(json_text(item, "reported.value"), NULL, 10);
    if (have < promised)
        fail_msg("image %llu at %zu: value %ld was confirmed, %ld is there",
                 (unsigned long long)seed, pos, promised, have);
    if (before->e.merges) {
        struct kei_hlc life;
        long x = recorded(w, &life);
        if (x < promised)
            fail_msg("image %llu at %zu: %ld was confirmed as desired, %ld is there",
                     (unsigned long long)seed, pos, promised, x);
        checked.with_wish += promised > 0;
    }
    checked.with_promise += promised > 0;
}

static void check_image(struct world *before, size_t pos, uint64_t seed)
{
    struct world w;
    begin(&w, powercut_image(before->disk, pos, seed), false, before->e.merges);
    w.final = true;
    w.rng = seed;
    for (size_t i = 0; i < n_events && events[i].pos <= pos; i++)
        apply(&w.node, &events[i]); /* the node kept what it had */
    checked.with_things += w.node.n > 0;
    check_promise(&w, before, pos, seed);
    const char *what = "";
    for (int round = 0; what && round < 30; round++) {
        be_in(&w);
        if (round == 0 && w.e.open && !rig_object(&w.r, "node", "", "edge-1"))
            edge_register(&w.e, "default", NULL);
        rig_ms(&w.r, 3000);
        what = wrong(&w);
    }
    if (what)
        fail_msg("image %llu at %zu: %s", (unsigned long long)seed, pos, what);
    if (atomic_load(&w.r.env.log_errors) > 0)
        fail_msg("image %llu at %zu: %s", (unsigned long long)seed, pos, w.r.env.last_log);
    end(&w);
    checked.n++;
}

static void what_was_confirmed_stays(void **state)
{
    (void)state;
    const char *text = getenv("KE_POWERCUT_IMAGES"), *seed_text = getenv("KE_SEED");
    size_t images = (text ? (size_t)strtoul(text, NULL, 10) : 1500) / 20;
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 20261201;
    const uint64_t first_seed = seed;
    const int desired[DEVICES] = {1};
    events = calloc(EVENTS, sizeof *events);
    assert_non_null(events);
    for (size_t done = 0; done < images;) {
        struct world w;
        struct powercut *disk = powercut_new();
        const struct ke_io *io = powercut_io(disk);
        assert_int_equal(io->mkdir(io->user, "/m", 0700), 0);
        assert_int_equal(io->sync_dir(io->user, "/"), 0);
        write_manifests(disk, desired);
        n_events = 0;
        begin(&w, disk, true, done % 80 >= 40);
        w.rng = seed++;
        size_t first = powercut_pos(disk);
        live(&w);
        size_t last = powercut_pos(disk);
        rig_stop(&w.r);
        for (size_t i = 0; i < 40 && done < images; i++, done++) {
            /* any moment, or that at which something was confirmed */
            size_t pos = w.n_promised > 0 && powercut_below(&w.rng, 2)
                             ? w.promised[powercut_below(&w.rng, w.n_promised)].pos
                             : first + (size_t)powercut_below(&w.rng, last - first + 1);
            check_image(&w, pos, w.rng);
        }
        end(&w);
    }
    free(events);
    print_message("count: %zu power cuts of the cloud, %zu with a node that had devices, %zu after "
                  "a confirmation, first seed %llu\n",
                  checked.n, checked.with_things, checked.with_promise,
                  (unsigned long long)first_seed);
    assert_int_equal(checked.n, images);
    if (images >= 20) {
        assert_in_range(checked.with_things, images / 2, images);
        assert_in_range(checked.with_promise, images / 3, images);
        assert_true(images < 75 || checked.with_wish > images / 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_confirmed_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
