/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start with a store that may have lost pods: what runs without a pod runs on with its files,
 * is taken back when the cloud tells its pod, and is ended when the cloud had its time.
 */
#include "rig.h"

#include <unistd.h>

#include "base/file.h"
#include "pod/engine.h"

static int sure;

static void on_sure(void *user)
{
    (void)user;
    sure++;
}

static void hold(struct rig *r)
{
    rig_init(r, 0);
    sure = 0;
    r->conf.hold = true;
    r->conf.hold_ms = 120000;
    r->conf.ops.sure = on_sure;
}

static struct fake_container *put_container(struct rig *r, const char *id, const char *uid,
                                            uint32_t attempt, uint32_t state)
{
    struct fake_container *c = &r->fake.c[r->fake.n++];
    memset(c, 0, sizeof *c);
    snprintf(c->id, sizeof c->id, "%s", id);
    snprintf(c->uid, sizeof c->uid, "%s", uid);
    snprintf(c->name, sizeof c->name, "main");
    snprintf(c->image, sizeof c->image, "img:1");
    c->attempt = attempt;
    c->state = state;
    c->started_ms = TEST_CLOCK_REAL_MS - 50000;
    return c;
}

/* A file of an emptyDir of that pod, as an earlier life left it. */
static void put_file(struct rig *r, const char *uid)
{
    static const char *const below[] = {"", "/volumes", "/volumes/kubernetes.io~empty-dir",
                                        "/volumes/kubernetes.io~empty-dir/e"};
    char path[500];
    const struct ke_io *io = ke_io_posix();
    snprintf(path, sizeof path, "%s/pods", r->data);
    assert_int_equal(kei_folder_make(io, path, 0700, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/pods/%s%s", r->data, uid, below[i]);
        assert_int_equal(kei_folder_make(io, path, 0700, NULL), 0);
    }
    snprintf(path, sizeof path, "%s/pods/%s%s/f", r->data, uid, below[3]);
    assert_int_equal(kei_file_replace(io, path, "x", 1, 0600, NULL), 0);
}

static bool has_file(struct rig *r, const char *uid)
{
    char path[500];
    snprintf(path, sizeof path, "%s/pods/%s/volumes/kubernetes.io~empty-dir/e/f", r->data, uid);
    return access(path, F_OK) == 0;
}

#define WITH_DIR "\"volumes\":[{\"name\":\"e\",\"emptyDir\":{}}]," RIG_MAIN

static void the_named_is_taken_back_the_other_ended(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    hold(&r);
    put_container(&r, "mine", "u-1", 2, KE_CONTAINER_RUNNING);
    put_container(&r, "older", "u-1", 1, KE_CONTAINER_RUNNING);
    put_container(&r, "stray", "u-9", 0, KE_CONTAINER_RUNNING);
    put_file(&r, "u-1");
    put_file(&r, "u-9");
    rig_start(&r);
    assert_int_equal(r.settled, 1);
    assert_int_equal(kei_pods_held(r.pods), 3);
    test_drive_ms(&r.env, 3600000); /* without a link, for any time */
    assert_int_equal(fake_live(&r.fake), 3);
    rig_link(&r, true);
    test_drive_ms(&r.env, 60000);
    rig_link(&r, false); /* it must be up without a break */
    test_drive_ms(&r.env, 90000);
    rig_link(&r, true);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(fake_live(&r.fake), 3);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", WITH_DIR));
    rig_settle(&r);
    assert_int_equal(r.fake.creates, 0);
    assert_string_equal(fake_find(&r.fake, "u-1", "main")->id, "mine");
    assert_int_equal(fake_live(&r.fake), 2);
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    assert_true(rig_has(&r, "default/a", "\"restartCount\":2"));
    assert_int_equal(kei_pods_held(r.pods), 1);
    assert_int_equal(sure, 0);
    assert_true(has_file(&r, "u-9"));
    test_drive_ms(&r.env, 61000);
    assert_int_equal(sure, 1);
    assert_int_equal(fake_live(&r.fake), 1);
    assert_int_equal(kei_pods_held(r.pods), 0);
    assert_true(has_file(&r, "u-1"));
    assert_false(has_file(&r, "u-9"));
    assert_int_equal(r.fake.creates, 0);
    rig_fini(&r);
}

#define STUB(uid) "{\"metadata\":{\"name\":\"z\",\"namespace\":\"default\",\"uid\":\"" uid "\"}}"

/* The cloud says of one that it is deleted: it ends, also when that was said before the list. */
static void the_deleted_is_ended(void **state)
{
    (void)state;
    for (int early = 0; early < 2; early++) {
        struct rig r;
        hold(&r);
        put_container(&r, "stray", "u-9", 0, KE_CONTAINER_RUNNING);
        put_container(&r, "other", "u-8", 0, KE_CONTAINER_RUNNING);
        if (early)
            r.fake.fail_list = KE_EIO;
        rig_start(&r);
        rig_send(&r, "delete", "default/pod/z", STUB("u-9"));
        r.fake.fail_list = 0;
        test_drive_ms(&r.env, 5000);
        assert_int_equal(fake_live(&r.fake), 1);
        assert_non_null(fake_find(&r.fake, "u-8", "main"));
        assert_int_equal(kei_pods_held(r.pods), 1);
        assert_int_equal(sure, 0);
        rig_send(&r, "delete", "default/pod/z", STUB("u-7")); /* nobody's */
        assert_int_equal(fake_live(&r.fake), 1);
        rig_fini(&r);
    }
}

/* Events of what is kept do not end it; a new pod beside it begins as ever. */
static void life_goes_on_beside(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    hold(&r);
    struct fake_container *c = put_container(&r, "stray", "u-9", 0, KE_CONTAINER_RUNNING);
    rig_start(&r);
    struct ke_container_info i = {.size = sizeof i,
                                  .id = c->id,
                                  .pod_uid = "u-9",
                                  .name = "main",
                                  .state = KE_CONTAINER_RUNNING};
    assert_int_equal(ke_runtime_event(r.fake.rt, &i), 0);
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
    rig_settle(&r);
    assert_int_equal(fake_live(&r.fake), 2);
    assert_true(rig_has(&r, "default/b", "\"phase\":\"Running\""));
    fake_exit(&r.fake, fake_find(&r.fake, "u-9", "main"), 3);
    rig_settle(&r);
    /* its pod is told after its end: that it ended, and how, is known */
    rig_send(&r, "insert", "default/pod/z",
             rig_pod(pod, "z", "u-9", "", "\"restartPolicy\":\"Never\"," RIG_MAIN));
    rig_settle(&r);
    assert_true(rig_has(&r, "default/z", "\"exitCode\":3"));
    assert_true(rig_has(&r, "default/z", "\"phase\":\"Failed\""));
    assert_int_equal(r.fake.creates, 1);
    rig_fini(&r);
}

/* The runtime does not answer when a pod comes, and when the time is over. */
static void a_list_that_fails_ends_nothing(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    hold(&r);
    put_container(&r, "mine", "u-1", 0, KE_CONTAINER_RUNNING);
    put_container(&r, "stray", "u-9", 0, KE_CONTAINER_RUNNING);
    rig_start(&r);
    rig_link(&r, true);
    r.fake.fail_list = KE_EIO;
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    test_drive_ms(&r.env, 180000);
    assert_int_equal(fake_live(&r.fake), 2);
    assert_int_equal(r.fake.creates, 0);
    assert_int_equal(sure, 0);
    r.fake.fail_list = 0;
    test_drive_ms(&r.env, 60000);
    assert_int_equal(sure, 1);
    assert_int_equal(fake_live(&r.fake), 1);
    assert_non_null(fake_find(&r.fake, "u-1", "main"));
    assert_int_equal(r.fake.creates, 0);
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    rig_fini(&r);
}

/* Told only after the start has begun, as a store does that was salvaged when it was opened. */
static void told_while_the_store_is_read(void **state)
{
    (void)state;
    struct rig r;
    hold(&r);
    r.conf.hold = false;
    put_container(&r, "stray", "u-9", 0, KE_CONTAINER_RUNNING);
    put_file(&r, "u-9");
    assert_int_equal(kei_pods_new(&r.pods, r.env.ctx, &r.conf), 0);
    assert_int_equal(kei_pods_start(r.pods), 0);
    assert_true(kei_pods_hold(r.pods));
    rig_settle(&r);
    assert_int_equal(r.settled, 1);
    assert_false(kei_pods_hold(r.pods)); /* too late to count in this life */
    assert_int_equal(fake_live(&r.fake), 1);
    assert_true(has_file(&r, "u-9"));
    rig_fini(&r);
}

/* ---- what comes while the store is read ---- */

static void held(struct rig *r, const char *operation, const char *resource, const char *json)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    ke_msg_config_init(&c, sizeof c);
    c.source = "edgecontroller";
    c.group = "resource";
    c.operation = operation;
    c.resource = resource;
    c.content = json;
    c.content_len = json ? strlen(json) : 0;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    kei_load_hold(r->pods->load, m);
    ke_msg_unref(m);
}

static void begin(struct rig *r)
{
    r->last_told[0] = '\0';
    assert_int_equal(kei_pods_new(&r->pods, r->env.ctx, &r->conf), 0);
    assert_int_equal(kei_pods_start(r->pods), 0);
    assert_non_null(r->pods->load);
}

#define WITH_MAP                                                                                   \
    "\"volumes\":[{\"name\":\"v\",\"configMap\":{\"name\":\"c\"}}],\"containers\":[{\"name\":"     \
    "\"main\",\"image\":\"i\",\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/v\"}]}]"
#define MAP(value)                                                                                 \
    "{\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\",\"namespace\":\"default\"},\"data\":{"   \
    "\"k\":\"" value "\"}}"

static bool file_is(struct rig *r, const char *want)
{
    struct ke_buf b = {0};
    char path[500];
    snprintf(path, sizeof path, "%s/pods/u-1/volumes/kubernetes.io~configmap/v/k", r->data);
    kei_buf_init(&b, kei_alloc_malloc());
    assert_int_equal(kei_file_read(ke_io_posix(), path, 100, &b, NULL), 0);
    bool same = b.n == strlen(want) && !memcmp(b.p, want, b.n);
    ke_buf_free(&b);
    return same;
}

/* Too many, or no memory for one: nothing of what the store has is missed, nor the link. */
static void more_than_is_kept(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct rig r;
        char pod[2048];
        static char big[9 << 20];
        rig_init(&r, 0);
        rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", WITH_MAP));
        rig_object(&r, "default/configmap/c", MAP("1"));
        rig_store_pod(&r, "default/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
        rig_start(&r);
        assert_true(file_is(&r, "1"));
        assert_int_equal(fake_live(&r.fake), 2);
        rig_stop(&r);
        begin(&r);
        /* as the store is read, a changes, b goes, c comes */
        size_t before = atomic_load(&r.env.alloc.live_bytes);
        if (how == 0) {
            for (int i = 0; i < 5000; i++)
                held(&r, "update", "default/configmap/x", "{}");
            assert_true(atomic_load(&r.env.alloc.live_bytes) - before < 1 << 20);
        } else if (how == 1) {
            snprintf(big, sizeof big, "{\"x\":\"%0*d\"}", (int)sizeof big - 20, 0);
            for (int i = 0; i < 5; i++)
                held(&r, "update", "default/configmap/x", big);
            assert_true(atomic_load(&r.env.alloc.live_bytes) - before < 17 << 20);
        } else {
            /* the message itself is made of two */
            struct ke_msg_config c;
            struct ke_msg *m = NULL;
            ke_msg_config_init(&c, sizeof c);
            c.source = "edgehub";
            c.group = "edged";
            c.operation = "delete";
            c.resource = "default/pod/b";
            assert_int_equal(ke_msg_new(&m, r.env.ctx, &c, NULL), 0);
            test_alloc_fail_at(&r.env.alloc, 1);
            kei_load_hold(r.pods->load, m);
            assert_int_equal(atomic_load(&r.env.alloc.failed), 1);
            ke_msg_unref(m);
        }
        held(&r, "connect", "node/connection", "\"cloud_connected\"");
        assert_true(test_drive(&r.env, test_nonzero, &r.settled));
        rig_object(&r, "default/configmap/c", MAP("2"));
        rig_store_pod(&r, "default/b", NULL);
        rig_store_pod(&r, "default/c", rig_pod(pod, "c", "u-3", "", RIG_MAIN));
        test_drive_ms(&r.env, 5000);
        rig_settle(&r);
        assert_true(r.pods->connected);
        assert_true(file_is(&r, "2"));
        assert_non_null(fake_find(&r.fake, "u-1", "main"));
        assert_null(fake_find(&r.fake, "u-2", "main"));
        assert_non_null(fake_find(&r.fake, "u-3", "main"));
        rig_fini(&r);
    }
}

/* Rows that the store lost while it was open are no deletions. */
static void lost_rows_end_nobody(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    assert_false(kei_pods_hold(r.pods)); /* as the node does when the store tells */
    rig_store_pod(&r, "default/a", NULL);
    kei_pods_lost_news(r.pods);
    test_drive_ms(&r.env, 5000);
    assert_int_equal(fake_live(&r.fake), 1);
    rig_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_named_is_taken_back_the_other_ended),
        cmocka_unit_test(the_deleted_is_ended),
        cmocka_unit_test(life_goes_on_beside),
        cmocka_unit_test(a_list_that_fails_ends_nothing),
        cmocka_unit_test(told_while_the_store_is_read),
        cmocka_unit_test(more_than_is_kept),
        cmocka_unit_test(lost_rows_end_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
