/* SPDX-License-Identifier: Apache-2.0 */
/* How pods end: graceful, by force, finished before, offline, and what is left behind: nothing. */
#include "rig.h"

#include <sys/stat.h>
#include <unistd.h>

#define DELETING(grace)                                                                            \
    ",\"deletionTimestamp\":\"2026-12-01T00:00:30Z\",\"deletionGracePeriodSeconds\":" grace
#define DELETE_OF(uid) "{\"gracePeriodSeconds\":0,\"preconditions\":{\"uid\":\"" uid "\"}}"

static bool exists(struct rig *r, const char *file)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", r->data, file);
    return access(path, F_OK) == 0;
}

static const char *content_of(struct rig *r, const char *operation, const char *resource)
{
    for (int i = r->n_reports - 1; i >= 0; i--) {
        if (!strcmp(r->reports[i].operation, operation) &&
            !strcmp(r->reports[i].resource, resource))
            return r->reports[i].content;
    }
    return NULL;
}

static bool has_note(void *arg);
struct note {
    struct rig *r;
    int n;
    bool done;
};

static void on_note(void *user, int status, const struct ke_store_item *item)
{
    struct note *n = user;
    (void)status;
    if (item)
        n->n++;
    else
        n->done = true;
}

static bool has_note(void *arg)
{
    return ((struct note *)arg)->done;
}

static int notes(struct rig *r)
{
    struct note n = {r, 0, false};
    assert_int_equal(ke_store_list(r->store, "pod", NULL, 0, on_note, &n), 0);
    assert_true(test_drive(&r->env, has_note, &n));
    return n.n;
}

#define VOLUME                                                                                     \
    "\"volumes\":[{\"name\":\"tmp\",\"emptyDir\":{}}],\"containers\":[{\"name\":\"main\","         \
    "\"image\":\"i\","                                                                             \
    "\"volumeMounts\":[{\"name\":\"tmp\",\"mountPath\":\"/t\"}]}]"

/* KubeEdge 1.15, 09-pod-delete: update, terminated status, delete upward, delete downward */
static void graceful(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", VOLUME));
    assert_true(exists(&r, "pods/u-1/volumes/kubernetes.io~empty-dir/tmp"));
    int before = r.n_reports;
    rig_send(&r, "update", "default/pod/web", rig_pod(pod, "web", "u-1", DELETING("2"), VOLUME));
    assert_int_equal(r.fake.last_grace, 2000);
    assert_int_equal(fake_live(&r.fake), 0);
    /* the status comes before the request to delete */
    assert_true(rig_has(&r, "default/web", "\"terminated\":{\"exitCode\":143"));
    assert_true(rig_has(&r, "default/web", "\"phase\":\"Running\""));
    assert_true(rig_has(&r, "default/web", "\"started\":false"));
    assert_int_equal(rig_count(&r, "delete", "default/pod/web"), 1);
    assert_string_equal(r.reports[r.n_reports - 1].operation, "delete");
    assert_string_equal(content_of(&r, "delete", "default/pod/web"), DELETE_OF("u-1"));
    assert_true(r.n_reports > before + 1);
    assert_false(exists(&r, "pods/u-1"));
    assert_int_equal(r.fake.removes, 0); /* its end is kept until the cloud has let go of it */
    assert_int_equal(r.removed, 0);
    /* (6) the echo with grace 0, then (8) */
    rig_send(&r, "update", "default/pod/web", rig_pod(pod, "web", "u-1", DELETING("0"), VOLUME));
    assert_int_equal(rig_count(&r, "delete", "default/pod/web"), 1);
    rig_send(&r, "delete", "default/pod/web", rig_pod(pod, "web", "u-1", DELETING("0"), VOLUME));
    assert_int_equal(r.removed, 1);
    assert_int_equal(r.fake.removes, 1);
    assert_int_equal(notes(&r), 0);
    uint32_t n, running;
    kei_pods_count(r.pods, &n, &running);
    assert_int_equal(n, 0);
    /* KubeEdge 1.15, 45-late-delete: again, harmless */
    rig_send(&r, "delete", "default/pod/web", rig_pod(pod, "web", "u-1", DELETING("0"), VOLUME));
    assert_int_equal(r.removed, 1);
    rig_fini(&r);
}

/* KubeEdge 1.15, 14-pod-force-delete: two messages, no delete upward */
static void by_force(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/bad", rig_pod(pod, "bad", "u-1", "", RIG_MAIN));
    rig_send(&r, "update", "default/pod/bad", rig_pod(pod, "bad", "u-1", DELETING("0"), RIG_MAIN));
    assert_int_equal(r.fake.last_grace, 0);
    assert_int_equal(fake_live(&r.fake), 0);
    rig_send(&r, "delete", "default/pod/bad", rig_pod(pod, "bad", "u-1", DELETING("0"), RIG_MAIN));
    assert_int_equal(rig_count(&r, "delete", "default/pod/bad"), 0);
    assert_int_equal(r.removed, 1);
    rig_fini(&r);
}

/* A pod that is gone in the cloud is killed, also in the middle of its grace. */
static void gone_in_the_cloud(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    r.fake.hang_stop = true; /* it takes its time */
    rig_send(&r, "update", "default/pod/a", rig_pod(pod, "a", "u-1", DELETING("30"), RIG_MAIN));
    assert_int_equal(r.fake.last_grace, 30000);
    r.fake.hang_stop = false;
    rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", DELETING("30"), RIG_MAIN));
    assert_int_equal(r.fake.last_grace, 0);
    assert_int_equal(r.removed, 1);
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 0);
    rig_fini(&r);
}

/* The sync controller of 1.15 sends a stub: name, namespace, uid. A stub of another uid is not
 * ours. */
static void stubs(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    rig_send(&r, "delete", "default/pod/a",
             "{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\",\"uid\":\"u-0\"}}");
    assert_int_equal(fake_live(&r.fake), 1);
    rig_send(&r, "delete", "default/pod/a",
             "{\"metadata\":{\"name\":\"a\",\"namespace\":\"default\",\"uid\":\"u-1\"}}");
    assert_int_equal(fake_live(&r.fake), 0);
    assert_int_equal(r.removed, 1);
    /* of 1.15 again: only a name, when the cloud does not know the pod of a status */
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
    rig_send(&r, "delete", "default/pod/b",
             "{\"metadata\":{\"name\":\"b\",\"namespace\":\"default\"}}");
    assert_int_equal(r.removed, 2);
    rig_fini(&r);
}

/* KubeEdge 1.4, 22-pod-delete: what makes its cloud delete the pod is the phase. */
static void dialect_1_4(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.dialect = KE_DIALECT_1_4;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    rig_send(&r, "update", "default/pod/a", rig_pod(pod, "a", "u-1", DELETING("2"), RIG_MAIN));
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Succeeded\""));
    assert_false(rig_has(&r, "default/a", "\"running\":"));
    rig_fini(&r);
}

/* Deleted while the dialect was not known: once it is, the status says what that cloud needs. */
static void the_dialect_is_found_later(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    r.dialect = KE_DIALECT_AUTO;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    rig_send(&r, "update", "default/pod/a", rig_pod(pod, "a", "u-1", DELETING("2"), RIG_MAIN));
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Running\""));
    r.dialect = KE_DIALECT_1_4;
    rig_link(&r, true);
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Succeeded\""));
    rig_fini(&r);
}

/* The end was told while offline and lost: on the next link it is told again. */
static void the_request_is_repeated_on_a_new_link(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    rig_send(&r, "update", "default/pod/a", rig_pod(pod, "a", "u-1", DELETING("2"), RIG_MAIN));
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 1);
    rig_link(&r, false);
    rig_link(&r, true);
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 2);
    rig_fini(&r);
}

/* Stopped in the middle of a deletion; the store says so at the next start. */
static void deletion_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    r.fake.hang_stop = true;
    rig_send(&r, "update", "default/pod/a", rig_pod(pod, "a", "u-1", DELETING("30"), RIG_MAIN));
    rig_stop(&r);
    r.fake.hang_stop = false;
    rig_start(&r);
    assert_int_equal(fake_live(&r.fake), 0);
    assert_int_equal(r.fake.creates, 1);
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 1);
    rig_fini(&r);
}

/* KubeEdge 1.15, 15-job-completed: finished long before it is deleted */
static void finished_before(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/once",
             rig_pod(pod, "once", "u-1", "", "\"restartPolicy\":\"Never\"," RIG_MAIN));
    fake_exit(&r.fake, fake_find(&r.fake, "u-1", "main"), 0);
    rig_settle(&r);
    assert_true(rig_has(&r, "default/once", "\"phase\":\"Succeeded\""));
    assert_true(rig_has(&r, "default/once", "\"reason\":\"PodCompleted\""));
    rig_send(&r, "update", "default/pod/once",
             rig_pod(pod, "once", "u-1", DELETING("0"), "\"restartPolicy\":\"Never\"," RIG_MAIN));
    rig_send(&r, "delete", "default/pod/once",
             rig_pod(pod, "once", "u-1", DELETING("0"), RIG_MAIN));
    assert_int_equal(rig_count(&r, "delete", "default/pod/once"), 0);
    assert_int_equal(r.removed, 1);
    assert_int_equal(r.fake.stops, 0);
    rig_fini(&r);
}

/* Deleted while its container is being created: nothing is left running. */
static void in_the_middle_of_a_start(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    r.fake.hang_create = true;
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    uint64_t op = r.fake.hung;
    rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    assert_int_equal(r.removed, 0);
    r.fake.hang_create = false;
    struct fake_container *c = &r.fake.c[r.fake.n++];
    *c = (struct fake_container){
        .id = "late", .uid = "u-1", .name = "main", .state = KE_CONTAINER_CREATED};
    struct ke_runtime_result res = {.size = sizeof res, .id = "late"};
    assert_int_equal(ke_runtime_complete(r.fake.rt, op, 0, &res), 0);
    rig_settle(&r);
    assert_int_equal(r.removed, 1);
    assert_int_equal(r.fake.starts, 0);
    assert_null(fake_find(&r.fake, "u-1", "main"));
    rig_fini(&r);
}

static void waiting_for_an_object(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_object(&r, "default/configmap/app", NULL);
    r.objects[0].silent = true;
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a",
             rig_pod(pod, "a", "u-1", "",
                     "\"volumes\":[{\"name\":\"c\",\"configMap\":{\"name\":\"app\"}}]," RIG_MAIN));
    rig_send(&r, "update", "default/pod/a",
             rig_pod(pod, "a", "u-1", DELETING("30"),
                     "\"volumes\":[{\"name\":\"c\",\"configMap\":{\"name\":\"app\"}}]," RIG_MAIN));
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 1); /* at once: nothing ran */
    rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    assert_int_equal(r.removed, 1);
    test_drive_ms(&r.env, 70000);
    assert_int_equal(r.fake.creates, 0);
    rig_fini(&r);
}

/* A container that cannot be removed at once does not hold its pod, and is not forgotten. */
static void removal_is_tried_again(void **state)
{
    (void)state;
    static const struct {
        int fail, seconds;
        bool left;
    } cases[] = {
        {1, 1, false}, {4, 1 + 2 + 4 + 8, false}, {100, 600, true}, /* until the next start */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char pod[2048];
        rig_init(&r, 0);
        rig_start(&r);
        rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
        r.fake.fail_removes = cases[i].fail;
        rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
        assert_int_equal(r.removed, 1);
        assert_int_equal(r.fake.removes, 1);
        test_drive_ms(&r.env, cases[i].seconds * 1000 - 1);
        assert_true(cases[i].left || fake_find(&r.fake, "u-1", "main") != NULL);
        test_drive_ms(&r.env, 1);
        assert_int_equal(fake_find(&r.fake, "u-1", "main") != NULL, cases[i].left);
        if (cases[i].left) {
            assert_int_equal(r.fake.removes, 9);
            assert_non_null(strstr(r.env.last_log, "left until the node starts again"));
            r.fake.fail_removes = 0;
            rig_stop(&r);
            rig_start(&r);
            assert_null(fake_find(&r.fake, "u-1", "main"));
        }
        rig_fini(&r);
    }
}

/* One that is taken back meanwhile is let be; and the node may end while one waits. */
static void removal_waits_no_longer(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    r.fake.fail_removes = 2;
    rig_send(&r, "delete", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
    rig_send(&r, "delete", "default/pod/b", rig_pod(pod, "b", "u-2", "", RIG_MAIN));
    rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", RIG_MAIN));
    r.fake.fail_removes = 1;
    int stops = r.fake.stops;
    test_drive_ms(&r.env, 1000);
    assert_int_equal(r.fake.stops, stops + 1); /* b */
    rig_stop(&r);                              /* it waits once more */
    rig_fini(&r);
}

static void make_folder(struct rig *r, const char *file)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", r->data, file);
    for (char *s = path + strlen(r->data) + 1; (s = strchr(s, '/')); *s++ = '/') {
        *s = '\0';
        mkdir(path, 0700);
    }
    assert_int_equal(mkdir(path, 0700), 0);
}

/* Folders of pods that the store does not know go at the start. */
static void leftovers_go(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    rig_init(&r, 0);
    make_folder(&r, "pods/u-old");
    make_folder(&r, "logs/default_a_u-1/main");
    make_folder(&r, "logs/default_a_u-old/main"); /* one of that name, but not that pod */
    make_folder(&r, "logs/kube-system_b.c-d_u-older/main");
    make_folder(&r, "logs/mine");
    make_folder(&r, "logs/my_own");
    rig_store_pod(&r, "default/a", rig_pod(pod, "a", "u-1", "", VOLUME));
    rig_start(&r);
    assert_false(exists(&r, "pods/u-old"));
    assert_false(exists(&r, "logs/default_a_u-old"));
    assert_false(exists(&r, "logs/kube-system_b.c-d_u-older"));
    assert_true(exists(&r, "pods/u-1/volumes/kubernetes.io~empty-dir/tmp"));
    assert_true(exists(&r, "logs/default_a_u-1/main"));
    assert_true(exists(&r, "logs/mine"));
    assert_true(exists(&r, "logs/my_own"));
    assert_int_equal(r.removed, 0); /* nobody knew them */
    rig_fini(&r);
}

/* Pods that go from the store while the node is down: nothing stays, and the host hears of it. */
static void gone_while_the_node_was_down(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        struct rig r;
        char pod[2048], logs[300];
        rig_init(&r, 0);
        snprintf(logs, sizeof logs, "%s/elsewhere", r.data);
        if (!own)
            r.conf.log_folder = logs; /* perhaps not for us alone */
        rig_start(&r);
        rig_send(&r, "insert", "default/pod/a", rig_pod(pod, "a", "u-1", "", VOLUME));
        rig_send(&r, "insert", "default/pod/b", rig_pod(pod, "b", "u-2", "", VOLUME));
        make_folder(&r, own ? "logs/default_a_u-1/main" : "elsewhere/default_a_u-1/main");
        make_folder(&r, own ? "logs/default_b_u-2/main" : "elsewhere/default_b_u-2/main");
        make_folder(&r, own ? "logs/default_c_u-3/main" : "elsewhere/default_c_u-3/main");
        rig_stop(&r);
        rig_store_pod(&r, "default/a", NULL);
        rig_start(&r);
        assert_false(exists(&r, "pods/u-1"));
        assert_false(exists(&r, own ? "logs/default_a_u-1" : "elsewhere/default_a_u-1"));
        assert_true(exists(&r, own ? "logs/default_b_u-2" : "elsewhere/default_b_u-2"));
        assert_int_equal(exists(&r, own ? "logs/default_c_u-3" : "elsewhere/default_c_u-3"), !own);
        assert_null(fake_find(&r.fake, "u-1", "main"));
        assert_int_equal(r.removed, 1);
        assert_string_equal(r.last_phase, "Unknown");
        assert_int_equal(notes(&r), 1);
        rig_stop(&r); /* told once */
        rig_start(&r);
        assert_int_equal(r.removed, 1);
        rig_fini(&r);
    }
}

/* A job of another that comes to the disk worker again and again, as commits do. */
struct commits {
    struct kei_work work;
    struct rig *r;
    char folder[400];
    int n, left, steps, largest; /* entries there, and how many went between two commits */
    bool over, enough;
};

static int count_one(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

static void commit_run(struct kei_work *w)
{
    struct commits *c = KEI_OF(w, struct commits, work);
    const struct ke_io *io = ke_io_posix();
    c->left = 0;
    if (io->list(io->user, c->folder, count_one, &c->left) < 0)
        c->left = 0;
}

static void commit_done(struct kei_work *w)
{
    struct commits *c = KEI_OF(w, struct commits, work);
    int went = c->n - c->left;
    c->steps += went > 0;
    if (went > c->largest)
        c->largest = went;
    c->n = c->left;
    c->over = c->left == 0 || c->enough;
    if (!c->over)
        assert_int_equal(kei_work_submit(c->r->env.ctx, w, commit_run, commit_done), 0);
}

#define MANY 3000

static void fill(struct rig *r, struct commits *c, const char *folder)
{
    char path[500];
    *c = (struct commits){.r = r, .n = MANY};
    snprintf(c->folder, sizeof c->folder, "%s/%s", r->data, folder);
    for (int i = 0; i < MANY; i++) {
        snprintf(path, sizeof path, "%s/%d", folder, i);
        make_folder(r, path);
    }
}

/* However much is in a pod's folder, others get their turn at the disk worker in between. */
static void big_folders_go_in_slices(void **state)
{
    (void)state;
    struct rig r;
    struct commits c;
    char pod[2048];
    rig_init(&r, 0);
    rig_start(&r);
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", VOLUME));
    fill(&r, &c, "pods/u-1/volumes/kubernetes.io~empty-dir/tmp");
    assert_int_equal(kei_work_submit(r.env.ctx, &c.work, commit_run, commit_done), 0);
    rig_send(&r, "update", "default/pod/web", rig_pod(pod, "web", "u-1", DELETING("2"), VOLUME));
    assert_true(test_drive(&r.env, test_true, &c.over));
    assert_true(c.steps >= 4);
    assert_true(c.largest <= MANY / 4);
    rig_settle(&r);
    assert_false(exists(&r, "pods/u-1"));
    assert_int_equal(rig_count(&r, "delete", "default/pod/web"), 1); /* once, and after it */

    /* what a start finds */
    rig_stop(&r);
    fill(&r, &c, "pods/u-old/x");
    rig_store_pod(&r, "default/web", NULL);
    r.last_told[0] = '\0';
    assert_int_equal(kei_pods_new(&r.pods, r.env.ctx, &r.conf), 0);
    assert_int_equal(kei_work_submit(r.env.ctx, &c.work, commit_run, commit_done), 0);
    assert_int_equal(kei_pods_start(r.pods), 0);
    assert_true(test_drive(&r.env, test_true, &c.over));
    assert_true(c.steps >= 4);
    assert_true(c.largest <= MANY / 4);
    rig_settle(&r);
    assert_false(exists(&r, "pods/u-old"));
    rig_fini(&r);
}

static bool began(void *arg)
{
    const struct commits *c = arg;
    return c->steps > 0;
}

/* A pod of the uid whose folder is being taken away keeps what is made for it. */
static void the_sweep_leaves_who_came_again(void **state)
{
    (void)state;
    struct rig r;
    struct commits c;
    char pod[2048];
    rig_init(&r, 0);
    fill(&r, &c, "pods/u-1/x");
    assert_int_equal(kei_pods_new(&r.pods, r.env.ctx, &r.conf), 0);
    assert_int_equal(kei_pods_start(r.pods), 0);
    assert_int_equal(kei_work_submit(r.env.ctx, &c.work, commit_run, commit_done), 0);
    assert_true(test_drive(&r.env, began, &c));
    assert_false(c.over);
    c.enough = true;
    rig_send(&r, "insert", "default/pod/web", rig_pod(pod, "web", "u-1", "", VOLUME));
    assert_true(exists(&r, "pods/u-1/volumes/kubernetes.io~empty-dir/tmp"));
    assert_true(exists(&r, "pods/u-1/x"));
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graceful),
        cmocka_unit_test(by_force),
        cmocka_unit_test(gone_in_the_cloud),
        cmocka_unit_test(stubs),
        cmocka_unit_test(dialect_1_4),
        cmocka_unit_test(the_dialect_is_found_later),
        cmocka_unit_test(the_request_is_repeated_on_a_new_link),
        cmocka_unit_test(deletion_goes_on_after_a_restart),
        cmocka_unit_test(finished_before),
        cmocka_unit_test(in_the_middle_of_a_start),
        cmocka_unit_test(waiting_for_an_object),
        cmocka_unit_test(removal_is_tried_again),
        cmocka_unit_test(removal_waits_no_longer),
        cmocka_unit_test(leftovers_go),
        cmocka_unit_test(gone_while_the_node_was_down),
        cmocka_unit_test(big_folders_go_in_slices),
        cmocka_unit_test(the_sweep_leaves_who_came_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
