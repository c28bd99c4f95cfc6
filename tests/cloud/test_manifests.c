/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of manifests: what changes in it becomes objects, what is wrong is told once. */
#include "cloud/cloud_rig.h"

#include <sys/stat.h>
#include <unistd.h>

static void start(struct rig *r, const char *manifest)
{
    rig_init(r, NULL);
    if (manifest)
        rig_manifest(r, "a.yaml", manifest);
    rig_start(r);
}

static const char *value(struct rig *r, const char *name)
{
    const struct kei_object *o = rig_object(r, "configmap", "default", name);
    return o ? json_text(kei_buf_str(&o->json), "data.k") : "none";
}

struct want {
    struct rig *r;
    const char *name, *value;
};

static bool has_value(void *arg)
{
    struct want *w = arg;
    return strcmp(value(w->r, w->name), w->value) == 0;
}

static void wait_value(struct rig *r, const char *name, const char *v)
{
    struct want w = {r, name, v};
    if (!rig_until(r, has_value, &w))
        fail_msg("ConfigMap %s is \"%s\", not \"%s\"", name, value(r, name), v);
}

static void path_in(struct rig *r, char *out, size_t n, const char *name)
{
    snprintf(out, n, "%s/%s", r->manifests, name);
}

static void new_changed_removed(void **state)
{
    (void)state;
    struct rig r;
    start(&r, CONFIG("a", "1") "---\n" SECRET("s", "x"));
    wait_value(&r, "a", "1");
    const struct kei_object *s = rig_wait_object(&r, "secret", "default", "s");
    assert_string_equal(json_text(kei_buf_str(&s->json), "data.k"), "eA==");
    assert_string_equal(json_text(kei_buf_str(&s->json), "stringData"), "");
    char uid[40];
    snprintf(uid, sizeof uid, "%s", rig_object(&r, "configmap", "default", "a")->uid);
    int64_t version = rig_object(&r, "configmap", "default", "a")->version;
    rig_manifest(&r, "b.yml", CONFIG("b", "1"));
    rig_manifest(&r, "c.json",
                 "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{\"apiVersion\":\"v1\","
                 "\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"c\"},\"data\":{\"k\":\"1\"}}]}");
    rig_manifest(&r, "d.txt", CONFIG("d", "1"));
    rig_manifest(&r, ".e.yaml", CONFIG("e", "1"));
    wait_value(&r, "b", "1");
    wait_value(&r, "c", "1");
    rig_manifest(&r, "a.yaml", "# a comment\n" CONFIG("a", "2"));
    wait_value(&r, "a", "2");
    assert_string_equal(rig_object(&r, "configmap", "default", "a")->uid, uid);
    assert_true(rig_object(&r, "configmap", "default", "a")->version > version);
    assert_true(rig_wait_gone(&r, "secret", "default", "s"));
    /* the same in other words is no change */
    version = rig_object(&r, "configmap", "default", "a")->version;
    rig_manifest(&r, "a.yaml",
                 "kind: ConfigMap\napiVersion: v1\ndata:\n  k: '2'\nmetadata:\n  name: a\n");
    rig_ms(&r, 40000);
    assert_int_equal(rig_object(&r, "configmap", "default", "a")->version, version);
    rig_manifest(&r, "b.yml", NULL);
    assert_true(rig_wait_gone(&r, "configmap", "default", "b"));
    assert_string_equal(value(&r, "d"), "none");
    assert_string_equal(value(&r, "e"), "none");
    assert_int_equal(r.n_lines, 0);
    /* nothing happens twice after a restart */
    rig_restart(&r);
    rig_ms(&r, 2000);
    assert_int_equal(rig_object(&r, "configmap", "default", "a")->version, version);
    /* what went while the cloud was away goes, what came comes */
    rig_stop(&r);
    rig_manifest(&r, "c.json", NULL);
    rig_manifest(&r, "f.yaml", CONFIG("f", "1"));
    rig_start(&r);
    wait_value(&r, "f", "1");
    assert_true(rig_wait_gone(&r, "configmap", "default", "c"));
    wait_value(&r, "a", "2");
    rig_fini(&r);
}

/* A file that grows while it is written is not taken for one that lost its objects. */
static void a_file_being_written_is_not_applied(void **state)
{
    (void)state;
    struct rig r;
    char path[400];
    start(&r, CONFIG("a", "1") "---\n" CONFIG("b", "1"));
    wait_value(&r, "b", "1");
    path_in(&r, path, sizeof path, "a.yaml");
    for (int i = 0; i < 20; i++) {
        char text[1000];
        snprintf(text, sizeof text, "# %d\n%s", i, CONFIG("a", "2"));
        rig_write_file(path, text);
        rig_ms(&r, 100);
        assert_string_equal(value(&r, "b"), "1");
        assert_string_equal(value(&r, "a"), "1");
    }
    rig_write_file(path, CONFIG("a", "2") "---\n" CONFIG("b", "2"));
    wait_value(&r, "a", "2");
    wait_value(&r, "b", "2");
    rig_fini(&r);
}

static void as_editors_write(void **state)
{
    (void)state;
    struct rig r;
    char path[400], other[400];
    start(&r, CONFIG("a", "1"));
    wait_value(&r, "a", "1");
    path_in(&r, path, sizeof path, "a.yaml");
    path_in(&r, other, sizeof other, "a.yaml~");
    /* the old one is moved away, the new one is written; then the old one goes */
    assert_int_equal(rename(path, other), 0);
    rig_ms(&r, 20);
    rig_write_file(path, CONFIG("a", "2"));
    assert_int_equal(unlink(other), 0);
    wait_value(&r, "a", "2");
    assert_int_equal(rig_object(&r, "configmap", "default", "a")->version, 2); /* never gone */
    /* truncated and written in place */
    rig_write_file(path, "");
    rig_ms(&r, 20);
    rig_write_file(path, CONFIG("a", "3"));
    wait_value(&r, "a", "3");
    assert_int_equal(rig_object(&r, "configmap", "default", "a")->version, 3);
    rig_fini(&r);
}

/* As Kubernetes mounts a ConfigMap: files are links through ..data, which is swapped. */
static void as_a_mounted_configmap(void **state)
{
    (void)state;
    struct rig r;
    char a[400], b[400], path[400];
    rig_init(&r, NULL);
    path_in(&r, a, sizeof a, "..1");
    path_in(&r, b, sizeof b, "..2");
    assert_int_equal(mkdir(a, 0700), 0);
    assert_int_equal(mkdir(b, 0700), 0);
    path_in(&r, path, sizeof path, "..1/x.yaml");
    rig_write_file(path, CONFIG("x", "1"));
    path_in(&r, path, sizeof path, "..2/x.yaml");
    rig_write_file(path, CONFIG("x", "2"));
    path_in(&r, path, sizeof path, "..data");
    assert_int_equal(symlink("..1", path), 0);
    path_in(&r, a, sizeof a, "x.yaml");
    assert_int_equal(symlink("..data/x.yaml", a), 0);
    rig_start(&r);
    wait_value(&r, "x", "1");
    path_in(&r, b, sizeof b, "..data_tmp");
    assert_int_equal(symlink("..2", b), 0);
    assert_int_equal(rename(b, path), 0);
    int64_t before = ke_ctx_mono_ms(r.env.ctx);
    wait_value(&r, "x", "2");
    assert_in_range(ke_ctx_mono_ms(r.env.ctx) - before, 0, 2000); /* watched, not waited for */
    /* a link to nothing is an error, and what it was stays */
    assert_int_equal(unlink(path), 0);
    rig_wait_line(&r, "error ");
    rig_ms(&r, 60000);
    assert_string_equal(value(&r, "x"), "2");
    assert_int_equal(rig_count(&r, "error "), 1);
    rig_fini(&r);
}

static void errors_name_file_line_and_field(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"kind: Gadget\napiVersion: v1\n", "a.yaml:1: kind: \"Gadget\" is not known here; Pod, "
                                           "ConfigMap, Secret, Device and DeviceModel are"},
        {CONFIG("ok",
                "1") "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  x: 1\n",
         "a.yaml:10: data.x: is not a string; put it in quotes"},
        {"a: [\n", "a.yaml:2: YAML line 2"},
        {"a: b\n c: d\n", "a.yaml:2: YAML line 2"},
        {"kind: List\nitems: 3\n", "a.yaml:2: items: is not a list"},
        {"kind: List\nitems:\n- kind: ConfigMap\n", "a.yaml:3: apiVersion: is not v1"},
        {POD("p", "edge-1", ", foo: bar"), "a.yaml:6: spec.containers[0].foo: unknown field"},
        {CONFIG("same", "1") "---\n" CONFIG("same", "2"),
         "a.yaml:6: configmap default/same stands in a.yaml:1 already"},
        {CONFIG("y", "1"), "a.yaml:3: metadata.name: is not a string; put it in quotes"},
        {"- a\n", "a.yaml:1: document: is not a map"},
        {"\"\n", "a.yaml:"},
    };
    (void)state;
    struct rig r;
    char want[700];
    start(&r, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig_forget(&r);
        rig_manifest(&r, "a.yaml", cases[i].text);
        snprintf(want, sizeof want, "error %s/%s", r.manifests, cases[i].error);
        rig_wait_line(&r, "error ");
        if (strncmp(r.lines[0], want, strlen(want)) != 0)
            fail_msg("case %zu: \"%s\", not \"%s...\"", i, r.lines[0], want);
        rig_ms(&r, 70000); /* looked at again and again: told once */
        assert_int_equal(rig_count(&r, "error "), 1);
    }
    /* the good documents of a bad file count; none of its objects goes */
    assert_string_equal(value(&r, "ok"), "none"); /* that file was replaced by a good one since */
    rig_manifest(&r, "a.yaml", CONFIG("x", "1") "---\n" CONFIG("z", "1"));
    wait_value(&r, "z", "1");
    rig_forget(&r);
    rig_manifest(&r, "a.yaml", CONFIG("x", "2") "---\nkind: Pod\n");
    wait_value(&r, "x", "2");
    rig_wait_line(&r, "error ");
    rig_ms(&r, 40000);
    assert_string_equal(value(&r, "z"), "1");
    /* another error is told, the same one after it was mended as well */
    rig_manifest(&r, "a.yaml", CONFIG("x", "2"));
    assert_true(rig_wait_gone(&r, "configmap", "default", "z"));
    rig_manifest(&r, "a.yaml", CONFIG("x", "2") "---\nkind: Pod\n");
    rig_ms(&r, 5000);
    assert_int_equal(rig_count(&r, "error "), 2);
    rig_fini(&r);
}

static void an_object_belongs_to_one_file(void **state)
{
    (void)state;
    struct rig r;
    char want[500];
    start(&r, NULL);
    rig_manifest(&r, "b.yaml", CONFIG("x", "b"));
    wait_value(&r, "x", "b");
    rig_manifest(&r, "a.yaml", CONFIG("z", "a") "---\n" CONFIG("x", "a"));
    snprintf(want, sizeof want, "error %s/a.yaml:6: configmap default/x stands in b.yaml:1 already",
             r.manifests);
    rig_wait_line(&r, want);
    wait_value(&r, "z", "a");
    char uid[40];
    snprintf(uid, sizeof uid, "%s", rig_object(&r, "configmap", "default", "x")->uid);
    /* not even after a restart, when a.yaml is read first */
    rig_restart(&r);
    rig_ms(&r, 5000);
    assert_string_equal(value(&r, "x"), "b");
    /* the owner goes: the other has it, and it is the same object */
    rig_manifest(&r, "b.yaml", NULL);
    wait_value(&r, "x", "a");
    assert_string_equal(rig_object(&r, "configmap", "default", "x")->uid, uid);
    rig_manifest(&r, "a.yaml", NULL);
    assert_true(rig_wait_gone(&r, "configmap", "default", "x"));
    rig_fini(&r);
}

static void a_folder_that_vanishes_and_returns(void **state)
{
    (void)state;
    struct rig r;
    char away[400];
    start(&r, CONFIG("a", "1"));
    wait_value(&r, "a", "1");
    snprintf(away, sizeof away, "%s/away", r.dir);
    assert_int_equal(rename(r.manifests, away), 0);
    rig_wait_line(&r, "error ");
    rig_ms(&r, 120000);
    assert_int_equal(rig_count(&r, "error "), 1);
    assert_string_equal(value(&r, "a"), "1"); /* nothing goes because nothing can be read */
    assert_int_equal(mkdir(r.manifests, 0700), 0);
    rig_manifest(&r, "a.yaml", CONFIG("a", "2"));
    wait_value(&r, "a", "2");
    int64_t before = ke_ctx_mono_ms(r.env.ctx);
    rig_manifest(&r, "a.yaml", CONFIG("a", "3")); /* the new folder is watched */
    wait_value(&r, "a", "3");
    assert_in_range(ke_ctx_mono_ms(r.env.ctx) - before, 0, 2000);
    /* one that is not there at the start */
    rig_stop(&r);
    assert_int_equal(unlink(strcat(strcpy(away, r.manifests), "/a.yaml")), 0);
    assert_int_equal(rmdir(r.manifests), 0);
    rig_forget(&r);
    rig_start(&r);
    rig_wait_line(&r, "error ");
    assert_string_equal(value(&r, "a"), "3");
    assert_int_equal(symlink(r.manifests, r.manifests), 0);
    assert_non_null(strstr(rig_wait_line(&r, "error "), "it does not exist"));
    rig_forget(&r);
    assert_non_null(strstr(rig_wait_line(&r, "error "), "lead in a circle"));
    assert_int_equal(unlink(r.manifests), 0);
    assert_int_equal(mkdir(r.manifests, 0700), 0);
    assert_true(rig_wait_gone(&r, "configmap", "default", "a"));
    rig_fini(&r);
}

static void sizes(void **state)
{
    (void)state;
    struct rig r;
    char path[400];
    start(&r, CONFIG("a", "1"));
    wait_value(&r, "a", "1");
    path_in(&r, path, sizeof path, "a.yaml");
    char *big = malloc(9 << 20);
    if (!big)
        fail_msg("no memory");
    memset(big, '#', 9 << 20);
    big[(9 << 20) - 1] = 0;
    rig_write_file(path, big);
    const char *line = rig_wait_line(&r, "error ");
    assert_non_null(strstr(line, "8388608 bytes allowed"));
    /* an object over what an API server takes */
    snprintf(big, 100, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata:\n  k: ");
    memset(big + strlen(big), 'x', 1600000);
    big[1600000] = '\n';
    big[1600001] = 0;
    rig_forget(&r);
    rig_write_file(path, big);
    line = rig_wait_line(&r, "error ");
    assert_non_null(strstr(line, "/a.yaml:5: data: holds "));
    assert_non_null(strstr(line, "the limit of Kubernetes is 1048576"));
    assert_string_equal(value(&r, "a"), "1");
    /* or by something else than its data */
    int head = snprintf(big, 100,
                        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: big\n"
                        "  annotations:\n    k: ");
    big[head] = 'x';
    rig_forget(&r);
    rig_write_file(path, big);
    line = rig_wait_line(&r, "error ");
    assert_non_null(strstr(line, "the limit is 1568768"));
    assert_string_equal(value(&r, "a"), "1");
    free(big);
    /* a file that may not be read */
    rig_forget(&r);
    rig_manifest(&r, "dir.yaml", NULL == getenv("x") ? CONFIG("z", "1") : "");
    wait_value(&r, "z", "1");
    rig_manifest(&r, "dir.yaml", NULL);
    path_in(&r, path, sizeof path, "dir.yaml");
    assert_int_equal(mkdir(path, 0700), 0);
    rig_wait_line(&r, "error ");
    rig_ms(&r, 5000);
    assert_string_equal(value(&r, "z"), "1"); /* its file cannot be read: it stays */
    assert_int_equal(rmdir(path), 0);
    assert_true(rig_wait_gone(&r, "configmap", "default", "z"));
    rig_fini(&r);
}

static void pods_change_in_place_or_are_replaced(void **state)
{
    static const struct {
        const char *text;
        bool replaced;
    } cases[] = {
        {POD("p", "edge-1", ""), true}, /* the first: from none */
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nspec:\n  nodeName: "
         "edge-1\n"
         "  containers: [{name: c, image: \"i:1\"}]\n",
         false},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {a: b}}\nspec:\n  nodeName: "
         "edge-1\n"
         "  containers: [{name: c, image: \"j\"}]\n",
         false},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"
         "  containers: [{name: c, image: \"j\", args: [x]}]\n",
         true},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"
         "  containers: [{name: c, image: \"j\", args: [x]}, {name: d, image: j}]\n",
         true},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"
         "  containers: [{name: c, image: \"j\", args: [x]}, {name: e, image: j}]\n",
         true},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n  "
         "hostNetwork: true\n"
         "  containers: [{name: c, image: \"j\", args: [x]}, {name: e, image: j}]\n",
         true},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"
         "  initContainers: [{name: i, image: j}]\n"
         "  containers: [{name: c, image: \"j\", args: [x]}, {name: e, image: j}]\n",
         true},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-1\n"
         "  initContainers: [{name: i, image: k}]\n"
         "  containers: [{name: c, image: \"j\", args: [x]}, {name: e, image: j}]\n",
         false},
        {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: edge-2\n"
         "  initContainers: [{name: i, image: k}]\n"
         "  containers: [{name: c, image: \"j\", args: [x]}, {name: e, image: j}]\n",
         true},
    };
    (void)state;
    struct rig r;
    struct edge e;
    char uid[40] = "", options[200];
    start(&r, NULL);
    edge_init(&e, &r, "edge-1");
    assert_true(edge_connect(&e));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        edge_forget(&e);
        rig_manifest(&r, "a.yaml", cases[i].text);
        if (cases[i].replaced && i > 0) {
            struct ke_msg *m = edge_wait(&e, "update", "default/pod/p");
            assert_string_not_equal(msg_text(m, "metadata.deletionTimestamp"), "");
            assert_string_equal(msg_text(m, "metadata.uid"), uid);
            rig_ms(&r, 5000);
            assert_int_equal(edge_count(&e, "insert", NULL),
                             0); /* not before the old one is gone */
            snprintf(options, sizeof options, "{\"preconditions\":{\"uid\":\"%s\"}}", uid);
            (void)edge_ask(&e, "delete", "default/pod/p", options);
            edge_wait(&e, "delete", "default/pod/p");
        }
        if (i + 1 == sizeof cases / sizeof cases[0]) /* moved to another node */
            break;
        struct ke_msg *m = edge_wait(&e, cases[i].replaced ? "insert" : "update", "default/pod/p");
        bool other = strcmp(msg_text(m, "metadata.uid"), uid) != 0;
        if (other != cases[i].replaced)
            fail_msg("case %zu: %s", i, other ? "replaced" : "not replaced");
        snprintf(uid, sizeof uid, "%s", msg_text(m, "metadata.uid"));
        assert_string_equal(msg_text(m, "metadata.deletionTimestamp"), "");
        edge_pod_status(&e, "default", "p", "{\\\"phase\\\":\\\"Running\\\"}");
        assert_string_equal(
            json_text(kei_buf_str(&rig_object(&r, "pod", "default", "p")->json), "status.phase"),
            "Running");
    }
    const struct kei_object *o = rig_wait_object(&r, "pod", "default", "p");
    assert_string_equal(json_text(kei_buf_str(&o->json), "spec.nodeName"), "edge-2");
    edge_fini(&e);
    rig_fini(&r);
}

/* A node that ends its pods at once gets them anew, but not without end. */
static void a_pod_that_ends_by_itself_is_made_anew(void **state)
{
    (void)state;
    struct rig r;
    struct edge e;
    char options[200];
    start(&r, POD("p", "edge-1", ""));
    edge_init(&e, &r, "edge-1");
    assert_true(edge_connect(&e));
    for (int i = 0; i < 4; i++) {
        struct ke_msg *m = edge_wait_nth(&e, "insert", "default/pod/p", (uint32_t)i);
        snprintf(options, sizeof options, "{\"preconditions\":{\"uid\":\"%s\"}}",
                 msg_text(m, "metadata.uid"));
        int64_t before = ke_ctx_mono_ms(r.env.ctx);
        (void)edge_ask(&e, "delete", "default/pod/p", options);
        (void)edge_wait_nth(&e, "insert", "default/pod/p", (uint32_t)i + 1);
        int64_t took = ke_ctx_mono_ms(r.env.ctx) - before;
        assert_in_range(took, i == 0 ? 0 : 8000, 12000);
    }
    edge_fini(&e);
    rig_fini(&r);
}

/* Thousands of objects come and go without stopping the loop for long, and cost no squares. */
static void many(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, NULL);
    r.quiet = true;
    char *text = malloc(2 << 20);
    for (int f = 0; f < 20; f++) {
        char name[20];
        size_t n = 0;
        for (int i = 0; i < 100; i++)
            n += (size_t)snprintf(
                text + n, (2 << 20) - n,
                "apiVersion: v1\nkind: Pod\nmetadata: {name: p%d-%d}\nspec:\n  nodeName: n%d\n"
                "  containers: [{name: c, image: i, envFrom: [{configMapRef: {name: c%d}}]}]\n"
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d-%d}\n---\n",
                f, i, i, f, f, i);
        snprintf(name, sizeof name, "f%d.yaml", f);
        rig_manifest(&r, name, text);
    }
    free(text);
    rig_start(&r);
    rig_wait_object(&r, "pod", "default", "p19-99");
    rig_ms(&r, 40000);
    size_t it = 0, n = 0;
    while (kei_objects_next(r.c->objects, NULL, &it))
        n++;
    assert_int_equal(n, 4000);
    assert_int_equal(r.c->peers.n, 100);
    for (int f = 0; f < 20; f++) {
        char name[20];
        snprintf(name, sizeof name, "f%d.yaml", f);
        rig_manifest(&r, name, NULL);
    }
    rig_ms(&r, 5000);
    it = 0;
    assert_null(kei_objects_next(r.c->objects, NULL, &it));
    assert_int_equal(r.c->peers.n, 0);
    assert_int_equal(r.c->refs.n, 0);
    rig_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_changed_removed),
        cmocka_unit_test(a_file_being_written_is_not_applied),
        cmocka_unit_test(as_editors_write),
        cmocka_unit_test(as_a_mounted_configmap),
        cmocka_unit_test(errors_name_file_line_and_field),
        cmocka_unit_test(an_object_belongs_to_one_file),
        cmocka_unit_test(a_folder_that_vanishes_and_returns),
        cmocka_unit_test(sizes),
        cmocka_unit_test(pods_change_in_place_or_are_replaced),
        cmocka_unit_test(a_pod_that_ends_by_itself_is_made_anew),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
