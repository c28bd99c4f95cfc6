/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power goes at any moment, and the process is killed at any moment, while devices report, come
 * and go, and the link to the cloud comes and goes. Whatever the disk then holds: each device has
 * at least what was told to be durable, nothing that was not asked for, and what the cloud did not
 * confirm reaches it in the next life.
 *
 * KE_POWERCUT_IMAGES: how many images (default 1500, of which this test takes a fifth). KE_KILLS:
 * how often the process is killed (default 10). KE_SEED: another sequence.
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "twin_rig.h"

#include "base/json.h"
#include "sim/powercut_io.h"

#define DEVICES 3
#define NAMES 2
#define STEPS 150
#define KEYS (DEVICES * NAMES)

static uint64_t seed_of(void)
{
    const char *s = getenv("KE_SEED");

    return s ? strtoull(s, NULL, 10) : 1;
}

/* ---- power ---- */

struct step {
    size_t begun, told; /* positions; told 0: never */
    int key;            /* a report of this value; -1: device x comes, -2: it goes */
    long value;
};

struct life {
    struct twin_rig r;
    struct powercut *disk;
    uint64_t rng;
    struct step s[STEPS];
    unsigned n;
    long cloud[KEYS]; /* what the cloud has, by the messages it confirmed */
    struct {
        size_t pos;
        int key;
        long value;
    } confirmed[STEPS * KEYS];
    unsigned n_confirmed;
    bool deaf; /* the cloud answers nothing */
};

static void report(char *topic, size_t nt, char *text, size_t n, int key, long value)
{
    snprintf(topic, nt, "$hw/events/device/d%d/twin/update", key / NAMES);
    snprintf(text, n,
             "{\"event_id\":\"\",\"timestamp\":1,\"twin\":{\"n%d\":{\"actual\":{\"value\":\"%ld\"},"
             "\"metadata\":{\"type\":\"int\"}}}}",
             key % NAMES, value);
}

/* The number in the value of a twin of an edge_updated; 0: it is not in there. */
static long value_in(struct ke_str content, int name)
{
    char path[48];
    struct ke_str v;

    snprintf(path, sizeof path, "twin.n%d.actual.value", name);
    return kei_json_path(content, path, &v) ? strtol(v.p + 1, NULL, 10) : 0;
}

static void cloud_takes(struct life *l, const struct ke_msg *m)
{
    const char *res = ke_msg_resource(m);
    struct ke_str content;
    int dev;

    if (sscanf(res, "device/d%d/twin", &dev) != 1)
        return;
    content.p = ke_msg_content(m, &content.n);
    for (int i = 0; i < NAMES; i++) {
        long v = value_in(content, i);

        if (!v)
            continue;
        l->cloud[dev * NAMES + i] = v;
        l->confirmed[l->n_confirmed].pos = powercut_pos(l->disk);
        l->confirmed[l->n_confirmed].key = dev * NAMES + i;
        l->confirmed[l->n_confirmed++].value = v;
        assert_true(l->n_confirmed < STEPS * KEYS);
    }
}

/* The cloud reads all that came since the last time, and answers. */
static void cloud_turn(struct life *l)
{
    for (uint32_t i = 0; i < l->r.cloud.n; i++) {
        const char *res = ke_msg_resource(l->r.cloud.m[i]);

        if (l->deaf || !strstr(res, "edge_updated"))
            continue;
        cloud_takes(l, l->r.cloud.m[i]);
        twin_cloud(&l->r, "response", "twin", "\"OK\"", ke_msg_id(l->r.cloud.m[i]));
    }
    twin_forget(&l->r);
}

static void membership_of(struct life *l, const char *id, bool add)
{
    char text[200];

    snprintf(text, sizeof text, "{\"event_id\":\"\",\"timestamp\":1,\"%s\":[{\"id\":\"%s\"}]}",
             add ? "added_devices" : "removed_devices", id);
    twin_cloud(&l->r, "update", "membership", text, NULL);
}

static void one_step(struct life *l, long value)
{
    struct step *s = &l->s[l->n++];
    uint32_t before;
    char topic[64], text[256];

    s->begun = powercut_pos(l->disk);
    s->value = value;
    if (powercut_below(&l->rng, 8) == 0) {
        s->key = value % 2 ? -1 : -2;
        membership_of(l, "x", s->key == -1);
        s->told = powercut_pos(l->disk);
        return;
    }
    s->key = (int)powercut_below(&l->rng, KEYS);
    report(topic, sizeof topic, text, sizeof text, s->key, value);
    before = l->r.mqtt.n;
    twin_mqtt(&l->r, topic, text);
    assert_true(l->r.mqtt.n > before); /* durable: it is said */
    s->told = powercut_pos(l->disk);
}

static void run(struct life *l, struct powercut *disk)
{
    l->disk = disk;
    l->rng = seed_of() * 77 + 5;
    twin_init_io(&l->r, KE_DIALECT_1_15, powercut_io(disk));
    for (int i = 0; i < DEVICES; i++) {
        char id[16];

        snprintf(id, sizeof id, "d%d", i);
        membership_of(l, id, true);
    }
    l->s[0].begun = powercut_pos(disk); /* cuts come after this */
    for (long v = 1; v <= STEPS; v++) {
        unsigned what = (unsigned)powercut_below(&l->rng, 10);

        if (what == 0)
            twin_link(&l->r, powercut_below(&l->rng, 2));
        if (what == 1)
            l->deaf = powercut_below(&l->rng, 3) == 0;
        if (what == 2)
            test_drive_ms(&l->r.env, 3000); /* confirmed rows are written */
        one_step(l, v);
        cloud_turn(l);
    }
}

static long value_of(struct life *l, int key)
{
    char device[16], name[16];
    struct ke_twin_value v;

    snprintf(device, sizeof device, "d%d", key / NAMES);
    snprintf(name, sizeof name, "n%d", key % NAMES);
    if (ke_twin_get(l->r.twin, device, name, &v, sizeof v) < 0)
        return 0;
    return strtol(v.reported, NULL, 10);
}

static bool is_there(struct life *l, const char *device)
{
    bool there = false;
    struct ke_buf out = {NULL, 0, 0, NULL};

    there = ke_twin_json(l->r.twin, device, &out, NULL) == 0;
    ke_buf_free(&out);
    return there;
}

static void check_values(struct life *now, const struct life *was, size_t pos)
{
    for (int key = 0; key < KEYS; key++) {
        long least = 0, most = 0, is = value_of(now, key);

        for (unsigned i = 0; i < was->n; i++) {
            const struct step *s = &was->s[i];

            if (s->key == key && s->told <= pos)
                least = s->value;
            if (s->key == key && s->begun <= pos)
                most = s->value;
        }
        if (is < least || is > most)
            fail_msg("cut at %zu: value %d is %ld, told was %ld, asked %ld", pos, key, is, least,
                     most);
    }
}

static void check_membership(struct life *now, const struct life *was, size_t pos)
{
    int told = -2;
    bool open = false;

    for (unsigned i = 0; i < was->n; i++) {
        const struct step *s = &was->s[i];

        if (s->key >= 0 || s->begun > pos)
            continue;
        open = s->told > pos;
        told = open ? told : s->key;
    }
    if (!open && is_there(now, "x") != (told == -1))
        fail_msg("cut at %zu: device x is %s", pos, told == -1 ? "gone" : "back");
}

/* The next life tells the cloud what it does not know. */
static void check_cloud(struct life *now, const struct life *was, size_t pos)
{
    for (unsigned i = 0; i < was->n_confirmed; i++) {
        if (was->confirmed[i].pos <= pos)
            now->cloud[was->confirmed[i].key] = was->confirmed[i].value;
    }
    twin_link(&now->r, true);
    for (int i = 0; i < 3; i++) {
        cloud_turn(now);
        twin_settle(&now->r);
    }
    for (int key = 0; key < KEYS; key++) {
        if (now->cloud[key] != value_of(now, key))
            fail_msg("cut at %zu: the cloud has %ld for value %d, the device %ld", pos,
                     now->cloud[key], key, value_of(now, key));
    }
}

static void power_cuts(void **state)
{
    const char *wanted = getenv("KE_POWERCUT_IMAGES");
    uint64_t n = (wanted ? strtoull(wanted, NULL, 10) : 1500) / 5, rng = seed_of();
    struct life *was = calloc(1, sizeof *was), *now = calloc(1, sizeof *now);
    struct powercut *disk = powercut_new();
    size_t from, to;

    (void)state;
    assert_true(was && now);
    run(was, disk);
    from = was->s[0].begun;
    to = powercut_pos(disk);
    for (uint64_t k = 0; k < n; k++) {
        size_t pos = from + (size_t)powercut_below(&rng, to - from + 1);
        struct powercut *image = powercut_image(disk, pos, k);

        memset(now, 0, sizeof *now);
        now->disk = image;
        twin_init_io(&now->r, KE_DIALECT_1_15, powercut_io(image));
        assert_true(is_there(now, "d0"));
        check_values(now, was, pos);
        check_membership(now, was, pos);
        check_cloud(now, was, pos);
        twin_fini(&now->r);
        powercut_free(image);
    }
    print_message("count: %llu images of %u steps, %u values confirmed\n", (unsigned long long)n,
                  was->n, was->n_confirmed);
    assert_true(was->n_confirmed > 10);
    twin_fini(&was->r);
    powercut_free(disk);
    free(was);
    free(now);
}

/* ---- kill -9 ---- */

struct child {
    struct ke_twin *t;
    int fd;
    long next, acked;
};

static void on_stored(void *user, int status, const char *text)
{
    struct child *c = user;

    (void)text;
    if (status != 0)
        _exit(3);
    c->acked++;
    if (write(c->fd, &c->acked, sizeof c->acked) != sizeof c->acked)
        _exit(4);
}

static struct ke_twin *open_twin(struct ke_ctx *ctx, struct ke_router **router,
                                 struct ke_store **store, const char *folder)
{
    struct ke_store_config sc;
    struct ke_twin_config tc;
    struct ke_twin *t = NULL;

    ke_store_config_init(&sc, sizeof sc);
    sc.folder = folder;
    ke_twin_config_init(&tc, sizeof tc);
    if (ke_store_open(store, ctx, &sc) < 0 || ke_router_new(router, ctx, NULL) < 0)
        return NULL;
    tc.router = *router;
    tc.store = *store;
    tc.node_name = NODE;
    if (ke_twin_new(&t, ctx, &tc) < 0 || ke_twin_start(t) < 0)
        return NULL;
    return t;
}

static void child_main(const char *folder, long last, int fd)
{
    struct ke_ctx *ctx = NULL;
    struct ke_router *router;
    struct ke_store *store;
    struct child c = {NULL, fd, last + 1, last};

    if (ke_ctx_new(&ctx, NULL, NULL) < 0)
        _exit(1);
    c.t = open_twin(ctx, &router, &store, folder);
    if (!c.t || ke_twin_add(c.t, "d", NULL, NULL, NULL, NULL) < 0)
        _exit(2);
    for (;;) {
        while (c.next - c.acked < 20) {
            char text[24];

            snprintf(text, sizeof text, "%ld", c.next++);
            if (ke_twin_report(c.t, "d", "n", text, NULL, on_stored, &c, NULL) < 0)
                _exit(5);
        }
        if (ke_ctx_wait(ctx, -1) < 0 || ke_ctx_dispatch(ctx) < 0)
            _exit(6);
    }
}

static void count_down(void *user, const struct ke_twin_value *v)
{
    *(long *)user = strtol(v->reported, NULL, 10);
}

static long stored_value(const char *folder)
{
    struct ke_ctx *ctx = NULL;
    struct ke_router *router;
    struct ke_store *store;
    struct ke_twin *t;
    long value = 0;

    assert_int_equal(ke_ctx_new(&ctx, NULL, NULL), 0);
    t = open_twin(ctx, &router, &store, folder);
    assert_non_null(t);
    for (int r = KE_ESTATE; r == KE_ESTATE;) {
        r = ke_twin_each(t, "d", count_down, &value);
        assert_int_equal(ke_ctx_wait(ctx, 10), 0);
        assert_int_equal(ke_ctx_dispatch(ctx), 0);
    }
    ke_twin_free(t);
    ke_router_free(router);
    ke_store_close(store);
    ke_ctx_free(ctx);
    return value;
}

static long one_kill(const char *folder, long last, long acks)
{
    long acked = last, got;
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        child_main(folder, last, fds[1]);
    }
    close(fds[1]);
    while (acked < last + acks && read(fds[0], &got, sizeof got) == sizeof got)
        acked = got;
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (read(fds[0], &got, sizeof got) == sizeof got)
        acked = got;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && acked >= last + acks);
    return acked;
}

static void kills(void **state)
{
    const char *wanted = getenv("KE_KILLS");
    long n = wanted ? strtol(wanted, NULL, 10) : 10, last = 0;
    uint64_t rng = seed_of();
    char dir[128], folder[160];

    (void)state;
    test_tmp_make(dir, sizeof dir);
    snprintf(folder, sizeof folder, "%s/store", dir);
    for (long i = 0; i < n; i++) {
        long acked = one_kill(folder, last, 1 + (long)powercut_below(&rng, 60));
        long is = stored_value(folder);

        if (is < acked)
            fail_msg("kill %ld: %ld was told to be stored, %ld is", i, acked, is);
        last = is;
    }
    print_message("count: %ld kills, %ld values\n", n, last);
    test_tmp_remove(dir);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(kills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
