/* SPDX-License-Identifier: Apache-2.0 */
/* The set of objects over the store: versions, durability, failing disks, memory that runs out. */
#include "support/support.h"

#include "cloud/objects.h"
#include "sim/powercut_io.h"

struct world {
    struct test_env env;
    struct powercut *disk;
    struct ke_store *store;
    struct kei_objects *set;
    int loaded, load_status;
    uint32_t n_changed, n_removed, n_index;
    char changed[64][80];
    int refuse; /* what index returns */
};

static int on_index(void *user, struct kei_object *o, struct ke_str next)
{
    struct world *w = user;
    (void)o;
    w->n_index++;
    return next.p ? w->refuse : 0;
}

static void on_changed(void *user, struct kei_object *o, bool removed)
{
    struct world *w = user;
    if (w->n_changed < 64)
        snprintf(w->changed[w->n_changed], 80, "%s%s/%s@%lld", removed ? "-" : "", o->type, o->name,
                 (long long)o->version);
    w->n_changed++;
    w->n_removed += removed;
    assert_true(removed || o->durable > 0);
}

static const struct kei_objects_ops ops = {on_index, on_changed};

static void on_loaded(void *user, int status)
{
    struct world *w = user;
    w->loaded = 1;
    w->load_status = status;
}

static void open_world(struct world *w)
{
    struct ke_store_config c;
    ke_store_config_init(&c, sizeof c);
    c.folder = "/s";
    assert_int_equal(ke_store_open(&w->store, w->env.ctx, &c), 0);
    assert_int_equal(kei_objects_new(&w->set, w->env.ctx, w->store, &ops, w), 0);
    w->loaded = 0;
    assert_int_equal(kei_objects_load(w->set, on_loaded, w), 0);
    assert_true(test_drive(&w->env, test_nonzero, &w->loaded));
    assert_int_equal(w->load_status, 0);
}

static void close_world(struct world *w)
{
    ke_store_close(w->store);
    kei_objects_free(w->set);
}

static void begin(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->disk = powercut_new();
    test_env_init_io(&w->env, 0, powercut_io(w->disk));
    open_world(w);
}

static void end(struct world *w)
{
    close_world(w);
    test_env_fini(&w->env);
    powercut_free(w->disk);
}

struct result {
    int done, status;
    int64_t version;
};

static void on_done(void *user, int status, struct kei_object *o)
{
    struct result *r = user;
    assert_true((status == 0) == (o != NULL));
    r->done++;
    r->status = status;
    r->version = o ? o->version : 0;
}

static int put(struct world *w, const char *type, const char *name, const char *json,
               struct result *r)
{
    return kei_objects_write(w->set, type, "ns", name, kei_str(json), NULL, r ? on_done : NULL, r);
}

static struct kei_object *get(struct world *w, const char *type, const char *name)
{
    return kei_objects_get(w->set, type, "ns", name);
}

static const char *at(const struct kei_object *o, const char *path)
{
    static char out[4][300];
    static int turn;
    struct ke_str v;
    char *p = out[turn++ % 4];
    p[0] = 0;
    if (kei_json_path(kei_buf_str(&o->json), path, &v))
        snprintf(p, 300, "%.*s", (int)v.n, v.p);
    return p;
}

static void stamps_what_the_server_owns(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    assert_int_equal(
        put(&w, "pod", "a",
            "{\"metadata\":{\"name\":\"x\",\"uid\":\"y\",\"labels\":{\"a\\\"\":\"1\"}},"
            "\"n\":9007199254740993}",
            NULL),
        0);
    struct kei_object *o = get(&w, "pod", "a");
    char uid[40], created[60];
    snprintf(uid, sizeof uid, "%s", o->uid);
    snprintf(created, sizeof created, "%s", at(o, "metadata.creationTimestamp"));
    assert_string_equal(at(o, "metadata.name"), "\"a\"");
    assert_string_equal(at(o, "metadata.namespace"), "\"ns\"");
    assert_string_equal(at(o, "metadata.resourceVersion"), "\"1\"");
    assert_string_equal(at(o, "metadata.labels"), "{\"a\\\"\":\"1\"}");
    assert_string_equal(at(o, "n"), "9007199254740993"); /* byte for byte */
    assert_int_equal(o->durable, 0);
    test_settle(&w.env);
    assert_int_equal(o->durable, 1);
    assert_string_equal(w.changed[0], "pod/a@1");
    test_clock_advance(&w.env.clock, 60000);
    assert_int_equal(put(&w, "pod", "a", "{\"metadata\":{}}", NULL), 0);
    assert_ptr_equal(get(&w, "pod", "a"), o);
    assert_string_equal(o->uid, uid);
    assert_string_equal(at(o, "metadata.creationTimestamp"), created);
    assert_string_equal(at(o, "metadata.resourceVersion"), "\"2\"");
    assert_int_equal(put(&w, "pod", "b", "[]", NULL), KE_EINVAL);
    assert_null(get(&w, "pod", "b"));
    test_settle(&w.env);
    end(&w);
}

static void remembers(void **state)
{
    (void)state;
    struct world w;
    const struct ke_str source = KEI_STR("a.yaml\nabc");
    begin(&w);
    assert_int_equal(kei_objects_write(w.set, "configmap", "ns", "c", KEI_STR("{\"metadata\":{}}"),
                                       &source, NULL, NULL),
                     0);
    assert_int_equal(put(&w, "pod", "p", "{\"metadata\":{}}", NULL), 0);
    assert_int_equal(put(&w, "pod", "q", "{\"metadata\":{}}", NULL), 0);
    assert_int_equal(
        kei_objects_write(w.set, "node", "", "n", KEI_STR("{\"metadata\":{}}"), NULL, NULL, NULL),
        0);
    struct result r = {0};
    assert_int_equal(kei_objects_remove(w.set, get(&w, "pod", "q"), on_done, &r), 0);
    assert_null(get(&w, "pod", "q"));
    assert_non_null(kei_objects_any(w.set, "pod", "ns", "q"));
    assert_int_equal(put(&w, "pod", "q", "{\"metadata\":{}}", NULL), KE_EAGAIN);
    test_settle(&w.env);
    assert_int_equal(r.done, 1);
    assert_null(kei_objects_any(w.set, "pod", "ns", "q"));
    char uid[40];
    snprintf(uid, sizeof uid, "%s", get(&w, "pod", "p")->uid);
    close_world(&w);
    open_world(&w);
    struct kei_object *o = get(&w, "configmap", "c");
    assert_true(kei_str_eq(kei_buf_str(&o->source), source));
    assert_int_equal(o->version, o->durable);
    assert_string_equal(get(&w, "pod", "p")->uid, uid);
    assert_null(get(&w, "pod", "q"));
    assert_non_null(kei_objects_get(w.set, "node", "", "n"));
    /* the removal had the highest version: it is not given again */
    assert_int_equal(put(&w, "pod", "r", "{\"metadata\":{}}", NULL), 0);
    assert_int_equal(get(&w, "pod", "r")->version, 6);
    kei_objects_version_seen(w.set, 100);
    assert_int_equal(put(&w, "pod", "r", "{\"metadata\":{}}", NULL), 0);
    assert_int_equal(get(&w, "pod", "r")->version, 101);
    assert_int_equal(kei_objects_set_source(w.set, get(&w, "pod", "r"), KEI_STR("b")), 0);
    test_settle(&w.env);
    close_world(&w);
    open_world(&w);
    assert_string_equal(get(&w, "pod", "r")->source.p, "b");
    end(&w);
}

static void tells_when_it_is_durable(void **state)
{
    (void)state;
    struct world w;
    struct result r = {0}, s = {0}, t = {0};
    begin(&w);
    assert_int_equal(put(&w, "pod", "a", "{\"metadata\":{},\"n\":1}", &r), 0);
    assert_int_equal(put(&w, "pod", "a", "{\"metadata\":{},\"n\":2}", &s), 0);
    assert_int_equal(r.done, 0);
    assert_int_equal(w.n_changed, 0);
    test_settle(&w.env);
    assert_int_equal(r.done, 1);
    assert_int_equal(s.done, 1);
    assert_int_equal(w.n_changed, 2);
    /* once more the same: who asks is told, nobody else */
    assert_int_equal(kei_objects_sync(w.set, get(&w, "pod", "a"), on_done, &t), 0);
    test_settle(&w.env);
    assert_int_equal(t.done, 1);
    assert_int_equal(t.version, 2);
    assert_int_equal(w.n_changed, 2);
    end(&w);
}

static int fail_writes(void *user, const struct powercut_op *op)
{
    const bool *on = user;
    return *on && (op->kind == POWERCUT_WRITE || op->kind == POWERCUT_SYNC) ? KE_ENOSPC : 0;
}

static bool changed_thrice(void *arg)
{
    return ((struct world *)arg)->n_changed >= 3;
}

static void a_full_disk_is_waited_for(void **state)
{
    (void)state;
    struct world w;
    struct result r = {0}, s = {0}, t = {0};
    bool full = false;
    begin(&w);
    assert_int_equal(put(&w, "pod", "old", "{\"metadata\":{}}", NULL), 0);
    test_settle(&w.env);
    assert_int_equal(w.n_changed, 1);
    powercut_fault(w.disk, fail_writes, &full);
    full = true;
    assert_int_equal(put(&w, "pod", "a", "{\"metadata\":{},\"n\":1}", &r), 0);
    assert_int_equal(kei_objects_remove(w.set, get(&w, "pod", "old"), on_done, &s), 0);
    test_settle(&w.env);
    assert_int_equal(r.status, KE_ENOSPC);
    assert_int_equal(s.status, KE_ENOSPC);
    assert_int_equal(w.n_changed, 1);
    assert_int_equal(get(&w, "pod", "a")->durable, 0);
    assert_null(get(&w, "pod", "old"));
    assert_int_equal(put(&w, "pod", "a", "{\"metadata\":{},\"n\":2}", &t), 0);
    test_drive_ms(&w.env, 10000);
    assert_int_equal(w.n_changed, 1);
    full = false;
    assert_true(test_drive(&w.env, changed_thrice, &w));
    assert_int_equal(w.n_removed, 1);
    struct kei_object *a = get(&w, "pod", "a");
    assert_int_equal(a->durable, a->version);
    assert_null(kei_objects_any(w.set, "pod", "ns", "old"));
    assert_true(atomic_load(&w.env.log_errors) > 0);
    atomic_store(&w.env.log_errors, 0);
    close_world(&w);
    open_world(&w);
    assert_string_equal(at(get(&w, "pod", "a"), "n"), "2");
    assert_null(get(&w, "pod", "old"));
    end(&w);
}

static void limits(void **state)
{
    (void)state;
    struct world w;
    begin(&w);
    char *big = malloc(KEI_OBJECT_MAX + 100), name[800];
    memset(big, ' ', KEI_OBJECT_MAX + 50);
    big[0] = '{';
    strcpy(big + KEI_OBJECT_MAX, "}");
    assert_int_equal(put(&w, "pod", "a", big, NULL), KE_ELIMIT);
    assert_null(kei_objects_any(w.set, "pod", "ns", "a"));
    free(big);
    memset(name, 'n', sizeof name);
    name[799] = 0;
    assert_int_equal(put(&w, "pod", name, "{}", NULL), KE_ELIMIT);
    assert_null(get(&w, "pod", name));
    w.refuse = KE_ELIMIT;
    assert_int_equal(put(&w, "pod", "b", "{}", NULL), KE_ELIMIT);
    assert_null(kei_objects_any(w.set, "pod", "ns", "b"));
    w.refuse = 0;
    assert_int_equal(put(&w, "pod", "b", "{\"n\":1}", NULL), 0);
    w.refuse = KE_ENOMEM;
    assert_int_equal(put(&w, "pod", "b", "{\"n\":2}", NULL), KE_ENOMEM);
    assert_string_equal(at(get(&w, "pod", "b"), "n"), "1"); /* as it was */
    test_settle(&w.env);
    end(&w);
}

/* Each allocation fails once: the write is refused whole, or happens whole, perhaps later. */
static void every_allocation_may_fail(void **state)
{
    (void)state;
    const struct ke_str source = KEI_STR("file\nabc");
    for (size_t n = 1;; n++) {
        struct world w;
        begin(&w);
        assert_int_equal(put(&w, "pod", "a", "{\"metadata\":{},\"n\":1}", NULL), 0);
        test_settle(&w.env);
        test_alloc_fail_at(&w.env.alloc, n);
        int r = kei_objects_write(w.set, "pod", "ns", "a", KEI_STR("{\"metadata\":{},\"n\":2}"),
                                  &source, NULL, NULL);
        int s = put(&w, "pod", "b", "{\"metadata\":{},\"n\":1}", NULL);
        test_drive_ms(&w.env, 5000);
        bool failed = atomic_load(&w.env.alloc.failed) > 0;
        test_alloc_fail_at(&w.env.alloc, 0);
        test_drive_ms(&w.env, 5000);
        const struct kei_object *a = get(&w, "pod", "a"), *b = get(&w, "pod", "b");
        assert_int_equal(a->durable, a->version);
        bool two = strcmp(at(a, "n"), "2") == 0;
        assert_true(two || r < 0);
        assert_int_equal(a->source.n > 0, two);
        assert_true(s < 0 || b);
        assert_true(!b || b->durable == b->version);
        atomic_store(&w.env.log_errors, 0);
        close_world(&w);
        open_world(&w);
        assert_int_equal(strcmp(at(get(&w, "pod", "a"), "n"), "2") == 0, two);
        end(&w);
        if (!failed)
            break;
    }
}

/* Reading fails at each allocation: it says so, and a second try reads all. */
static void loading_may_fail(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct world w;
        begin(&w);
        for (int i = 0; i < 3; i++) {
            char name[10];
            snprintf(name, sizeof name, "p%d", i);
            assert_int_equal(put(&w, "pod", name, "{\"metadata\":{}}", NULL), 0);
        }
        test_settle(&w.env);
        kei_objects_free(w.set);
        assert_int_equal(kei_objects_new(&w.set, w.env.ctx, w.store, &ops, &w), 0);
        w.loaded = 0;
        test_alloc_fail_at(&w.env.alloc, n);
        int r = kei_objects_load(w.set, on_loaded, &w);
        if (r == 0)
            assert_true(test_drive(&w.env, test_nonzero, &w.loaded));
        bool failed = atomic_load(&w.env.alloc.failed) > 0;
        test_alloc_fail_at(&w.env.alloc, 0);
        if (r == 0 && w.load_status == 0)
            for (int i = 0; i < 3; i++)
                assert_non_null(get(&w, "pod", i == 0 ? "p0" : i == 1 ? "p1" : "p2"));
        assert_true(failed || (r == 0 && w.load_status == 0));
        atomic_store(&w.env.log_errors, 0);
        end(&w);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamps_what_the_server_owns),
        cmocka_unit_test(remembers),
        cmocka_unit_test(tells_when_it_is_durable),
        cmocka_unit_test(a_full_disk_is_waited_for),
        cmocka_unit_test(limits),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(loading_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
