/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes as folders: contents, modes, the switch at a change, bad names, host paths, a full disk.
 */
#include "support/support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "pod/volume.h"

struct rig {
    struct kei_arena arena;
    struct kei_podspec spec;
    struct kei_objects objects;
    struct kei_vconfig conf;
    struct kei_vplan plan;
    struct ke_error err;
    char data[200], pod[4000];
    int64_t stamp;
};

static const struct kei_field_env fields = {"edge-1", "192.0.2.1", "192.0.2.9"};

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->err = (struct ke_error)KE_ERROR_INIT;
    r->stamp = 1000;
    test_tmp_make(r->data, sizeof r->data);
    r->conf.data = r->data;
    kei_arena_init(&r->arena, kei_alloc_malloc(), 0);
}

static void rig_fini(struct rig *r)
{
    kei_arena_free(&r->arena);
    test_tmp_remove(r->data);
}

/* A pod with one volume. */
static void pod(struct rig *r, const char *volume)
{
    kei_arena_free(&r->arena);
    kei_arena_init(&r->arena, kei_alloc_malloc(), 0);
    snprintf(r->pod, sizeof r->pod,
             "{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u-1\",\"labels\":{"
             "\"b\":\"2\","
             "\"a\":\"x\\\"y\"}},\"spec\":{\"volumes\":[{\"name\":\"v\",%s}],"
             "\"containers\":[{\"name\":\"m\",\"image\":\"i\"}]}}",
             volume);
    assert_int_equal(kei_podspec_read(&r->spec, kei_str(r->pod), &r->arena, &r->err), 0);
    assert_int_equal(kei_objects_collect(&r->objects, &r->spec, &r->arena, &r->err), 0);
    for (size_t i = 0; i < r->objects.n; i++)
        r->objects.v[i].status = KE_ENOTFOUND;
}

static void give(struct rig *r, const char *type, const char *text)
{
    for (size_t i = 0; i < r->objects.n; i++) {
        if (!strcmp(r->objects.v[i].type, type)) {
            r->objects.v[i].status = 0;
            r->objects.v[i].text = kei_str(text);
        }
    }
}

static int plan(struct rig *r)
{
    return kei_volume_plan(&r->plan, &r->spec, &r->spec.volumes[0], &r->objects, &fields, &r->conf,
                           &r->arena, &r->err);
}

static int apply(struct rig *r, bool *changed)
{
    return kei_volume_apply(ke_io_posix(), &r->plan, r->stamp++, changed, &r->err);
}

static void path_of(struct rig *r, const char *file, char out[600])
{
    snprintf(out, 600, "%s/%s", r->plan.path, file);
}

static void expect_file(struct rig *r, const char *file, const char *want, unsigned mode)
{
    char path[600];
    struct stat st;
    struct ke_buf b;
    kei_buf_init(&b, kei_alloc_malloc());
    path_of(r, file, path);
    assert_int_equal(kei_file_read(ke_io_posix(), path, 1 << 20, &b, NULL), 0);
    assert_int_equal(b.n, strlen(want));
    assert_memory_equal(b.p ? b.p : "", want, b.n);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, mode);
    ke_buf_free(&b);
}

static bool there(struct rig *r, const char *file)
{
    char path[600];
    struct stat st;
    path_of(r, file, path);
    return lstat(path, &st) == 0;
}

static int count_one(void *arg, const char *name)
{
    (void)name;
    ++*(int *)arg;
    return 0;
}

static int entries(struct rig *r)
{
    int n = 0;
    assert_int_equal(ke_io_posix()->list(NULL, r->plan.path, count_one, &n), 0);
    return n;
}

static void config_map(void **state)
{
    (void)state;
    struct rig r;
    bool changed = false;
    rig_init(&r);
    pod(&r, "\"configMap\":{\"name\":\"c\",\"defaultMode\":292}");
    give(&r, "configmap",
         "{\"data\":{\"a.txt\":\"one\",\"empty\":\"\"},\"binaryData\":{\"bin\":\"AAEC\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, &changed), 0);
    assert_true(changed);
    expect_file(&r, "a.txt", "one", 0444);
    expect_file(&r, "empty", "", 0444);
    assert_true(there(&r, "bin"));
    assert_int_equal(entries(&r), 5); /* three links, ..data and its folder */
    assert_int_equal(apply(&r, &changed), 0);
    assert_false(changed);
    /* a changed one is switched to, an old file goes */
    pod(&r, "\"configMap\":{\"name\":\"c\"}");
    give(&r, "configmap", "{\"data\":{\"a.txt\":\"two\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, &changed), 0);
    assert_true(changed);
    expect_file(&r, "a.txt", "two", 0644);
    assert_false(there(&r, "empty"));
    assert_int_equal(entries(&r), 3);
    rig_fini(&r);
}

/* Who holds the folder open sees either all old or all new files. */
static void the_switch_is_one(void **state)
{
    (void)state;
    struct rig r;
    char path[600], buf[8] = "";
    rig_init(&r);
    pod(&r, "\"configMap\":{\"name\":\"c\"}");
    give(&r, "configmap", "{\"data\":{\"a\":\"1\",\"b\":\"1\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), 0);
    path_of(&r, "..data", path);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int file = openat(dir, "a", O_RDONLY | O_CLOEXEC);
    pod(&r, "\"configMap\":{\"name\":\"c\"}");
    give(&r, "configmap", "{\"data\":{\"a\":\"2\",\"b\":\"2\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), 0);
    assert_int_equal(read(file, buf, sizeof buf), 1);
    assert_string_equal(buf, "1");
    close(file);
    close(dir);
    expect_file(&r, "a", "2", 0644);
    expect_file(&r, "b", "2", 0644);
    rig_fini(&r);
}

static void items_and_nested_paths(void **state)
{
    (void)state;
    struct rig r;
    bool changed;
    rig_init(&r);
    pod(&r, "\"secret\":{\"secretName\":\"s\",\"defaultMode\":256,\"items\":[{\"key\":\"u\","
            "\"path\":\"x/y/user\"},"
            "{\"key\":\"p\",\"path\":\"x/pass\",\"mode\":420}]}");
    give(&r, "secret", "{\"data\":{\"u\":\"YWxpY2U=\",\"p\":\"c2VjcmV0\",\"other\":\"eA==\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, &changed), 0);
    expect_file(&r, "x/y/user", "alice", 0400);
    expect_file(&r, "x/pass", "secret", 0644);
    assert_false(there(&r, "other"));
    assert_int_equal(entries(&r), 3);
    assert_int_equal(apply(&r, &changed), 0);
    assert_false(changed);
    /* a file in a nested folder that the plan does not have is noticed */
    char path[600];
    path_of(&r, "..data/x/y/extra", path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(apply(&r, &changed), 0);
    assert_true(changed);
    assert_false(there(&r, "x/y/extra"));
    rig_fini(&r);
}

static void what_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *volume, *object;
        int code;
        const char *text;
    } cases[] = {
        {"\"configMap\":{\"name\":\"c\"}", NULL, KE_ENOTFOUND, "configmap \"c\" not found"},
        {"\"configMap\":{\"name\":\"c\",\"optional\":true}", NULL, 0, NULL},
        {"\"secret\":{\"secretName\":\"c\"}", NULL, KE_ENOTFOUND, "secret \"c\" not found"},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"no\",\"path\":\"p\"}]}",
         "{\"data\":{}}", KE_ENOTFOUND, "references non-existent config key: no"},
        {"\"configMap\":{\"name\":\"c\",\"optional\":true,\"items\":[{\"key\":\"no\",\"path\":"
         "\"p\"}]}",
         "{\"data\":{}}", 0, NULL},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"../../x\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, "volume v: \"../../x\" is no path inside it"},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"/etc/x\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"..data\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"a/../b\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"a//b\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"a/\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"k\",\"path\":\"\"}]}",
         "{\"data\":{\"k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\"}", "{\"data\":{\"../k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\"}", "{\"data\":{\"..k\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\"}", "{\"data\":{\"a/b\":\"\"}}", KE_EINVAL, NULL},
        {"\"configMap\":{\"name\":\"c\"}", "{\"data\":{\"a\\u0000b\":\"\"}}", KE_EPARSE, NULL},
        {"\"hostPath\":{\"path\":\"relative\"}", NULL, KE_EINVAL, NULL},
        {"\"hostPath\":{\"path\":\"/a/../b\"}", NULL, KE_EINVAL, NULL},
        {"\"projected\":{\"sources\":[{\"clusterTrustBundle\":{}}]}", NULL, KE_ENOTSUP, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        rig_init(&r);
        pod(&r, cases[i].volume);
        if (cases[i].object)
            give(&r, "configmap", cases[i].object);
        int e = plan(&r);
        if (e != cases[i].code)
            fail_msg("case %zu: %d %s", i, e, r.err.text);
        if (cases[i].text)
            assert_string_equal(r.err.text, cases[i].text);
        if (e == 0) {
            assert_int_equal(apply(&r, NULL), 0);
            assert_true(there(&r, "..data"));
        }
        rig_fini(&r);
    }
}

#define ACCESS                                                                                     \
    "\"projected\":{\"defaultMode\":420,\"sources\":[{\"serviceAccountToken\":{"                   \
    "\"expirationSeconds\":3607,"                                                                  \
    "\"path\":\"token\"}},{\"configMap\":{\"name\":\"kube-root-ca.crt\",\"items\":[{\"key\":\"ca." \
    "crt\","                                                                                       \
    "\"path\":\"ca.crt\"}]}},{\"downwardAPI\":{\"items\":[{\"path\":\"namespace\",\"fieldRef\":{"  \
    "\"apiVersion\":\"v1\",\"fieldPath\":\"metadata.namespace\"}},{\"path\":\"labels\","           \
    "\"fieldRef\":"                                                                                \
    "{\"fieldPath\":\"metadata.labels\"}}]}}]}"

/* As API servers put it into every pod. */
static void service_account_access(void **state)
{
    (void)state;
    struct rig r;
    bool changed;
    rig_init(&r);
    pod(&r, ACCESS);
    give(&r, "configmap", "{\"data\":{\"ca.crt\":\"PEM\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), KE_EAGAIN); /* no token, and never had one */
    assert_non_null(strstr(r.err.text, "token"));
    give(&r, "serviceaccounttoken",
         "{\"status\":{\"token\":\"t0k\",\"expirationTimestamp\":\"2026-11-22T09:18:48Z\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(r.plan.token_expires_ms, INT64_C(1795339128000));
    assert_int_equal(apply(&r, &changed), 0);
    expect_file(&r, "token", "t0k", 0644);
    expect_file(&r, "ca.crt", "PEM", 0644);
    expect_file(&r, "namespace", "shop", 0644);
    expect_file(&r, "labels", "a=\"x\\\"y\"\nb=\"2\"", 0644);
    /* offline: the token that is there serves on */
    pod(&r, ACCESS);
    give(&r, "configmap", "{\"data\":{\"ca.crt\":\"PEM2\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, &changed), 0);
    assert_true(changed);
    expect_file(&r, "token", "t0k", 0644);
    expect_file(&r, "ca.crt", "PEM2", 0644);
    rig_fini(&r);
}

static void empty_dir(void **state)
{
    (void)state;
    struct rig r;
    struct stat st;
    char path[600];
    rig_init(&r);
    pod(&r, "\"emptyDir\":{\"medium\":\"Memory\"}");
    assert_int_equal(plan(&r), 0);
    mode_t old = umask(077);
    assert_int_equal(apply(&r, NULL), 0);
    umask(old);
    assert_int_equal(stat(r.plan.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0777);
    path_of(&r, "kept", path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(apply(&r, NULL), 0); /* a restart of a container keeps what is in it */
    assert_true(there(&r, "kept"));
    rig_fini(&r);
}

static void host_path_types(void **state)
{
    (void)state;
    static const struct {
        const char *name, *type;
        int code;
    } cases[] = {
        {"dir", "", 0},
        {"dir", "Directory", 0},
        {"dir", "File", KE_EINVAL},
        {"dir", "DirectoryOrCreate", 0},
        {"file", "File", 0},
        {"file", "Directory", KE_EINVAL},
        {"file", "DirectoryOrCreate", KE_EINVAL},
        {"file", "Socket", KE_EINVAL},
        {"none", "", KE_ENOTFOUND},
        {"none", "Directory", KE_ENOTFOUND},
        {"none/new/deep", "DirectoryOrCreate", 0},
        {"dir/newfile", "FileOrCreate", 0},
        {"absent/newfile", "FileOrCreate", KE_ENOTFOUND},
        {"dir", "CharDevice", KE_EINVAL},
        {"dir", "Nonsense", KE_EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char host[200], volume[600], path[300];
        rig_init(&r);
        test_tmp_make(host, sizeof host);
        snprintf(path, sizeof path, "%s/dir", host);
        assert_int_equal(mkdir(path, 0755), 0);
        const char *allow[] = {host};
        r.conf.host_path_allow = allow;
        r.conf.n_host_path_allow = 1;
        snprintf(path, sizeof path, "%s/file", host);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s/%s\",\"type\":\"%s\"}", host,
                 cases[i].name, cases[i].type);
        pod(&r, volume);
        assert_int_equal(plan(&r), 0);
        int e = apply(&r, NULL);
        if (e != cases[i].code)
            fail_msg("%s %s: %d %s", cases[i].name, cases[i].type, e, r.err.text);
        test_tmp_remove(host);
        rig_fini(&r);
    }
}

static void host_path_is_limited(void **state)
{
    (void)state;
    struct rig r;
    char host[200], other[200], path[300], volume[600];
    rig_init(&r);
    test_tmp_make(host, sizeof host);
    test_tmp_make(other, sizeof other);
    /* nothing is listed: nothing is allowed, and it is told what to do */
    snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s\"}", other);
    pod(&r, volume);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), KE_EACCES);
    assert_non_null(strstr(r.err.text, "--host-path-allow"));
    /* never into the node's own folder, also not by a link, nor made there */
    const char *any[] = {"/"};
    r.conf.host_path_allow = any;
    r.conf.n_host_path_allow = 1;
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), 0);
    snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s\"}", r.data);
    pod(&r, volume);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), KE_EACCES);
    snprintf(path, sizeof path, "%s/link", host);
    assert_int_equal(symlink(r.data, path), 0);
    snprintf(volume, sizeof volume,
             "\"hostPath\":{\"path\":\"%s/x\",\"type\":\"DirectoryOrCreate\"}", path);
    pod(&r, volume);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), KE_EACCES);
    snprintf(path, sizeof path, "%s/x", r.data);
    assert_int_not_equal(access(path, F_OK), 0);
    /* nor above it, from where it would be seen */
    snprintf(path, sizeof path, "%s", r.data);
    do {
        *strrchr(path, '/') = '\0';
        snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s\"}", *path ? path : "/");
        pod(&r, volume);
        assert_int_equal(plan(&r), 0);
        assert_int_equal(apply(&r, NULL), KE_EACCES);
        assert_non_null(strstr(r.err.text, "the node's own data"));
    } while (*path);
    /* with a list: only what is below it, links resolved */
    const char *allow[] = {host};
    r.conf.host_path_allow = allow;
    r.conf.n_host_path_allow = 1;
    snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s\"}", host);
    pod(&r, volume);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), 0);
    snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s\"}", other);
    pod(&r, volume);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), KE_EACCES);
    snprintf(path, sizeof path, "%s/out", host);
    assert_int_equal(symlink(other, path), 0);
    snprintf(volume, sizeof volume, "\"hostPath\":{\"path\":\"%s\"}", path);
    pod(&r, volume);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, NULL), KE_EACCES);
    test_tmp_remove(host);
    test_tmp_remove(other);
    rig_fini(&r);
}

/* ---- many files ---- */

static struct ke_io counted;
static unsigned long calls;

static int counted_list(void *user, const char *path, int (*each)(void *, const char *), void *arg)
{
    calls++;
    return ke_io_posix()->list(user, path, each, arg);
}

static int counted_mkdir(void *user, const char *path, uint32_t mode)
{
    calls++;
    return ke_io_posix()->mkdir(user, path, mode);
}

static int counted_symlink(void *user, const char *target, const char *path)
{
    calls++;
    return ke_io_posix()->symlink(user, target, path);
}

/* n keys, and items that put each at folder/fN (NULL: at dN/e/f) */
static void many(struct rig *r, size_t n, const char *folder, struct ke_buf *spec,
                 struct ke_buf *object)
{
    kei_arena_free(&r->arena);
    kei_arena_init(&r->arena, kei_alloc_malloc(), 0);
    kei_buf_clear(spec);
    kei_buf_clear(object);
    kei_buf_adds(spec, "{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u-1\"},"
                       "\"spec\":{\"volumes\":[{\"name\":\"v\",\"configMap\":{\"name\":\"c\","
                       "\"items\":[");
    kei_buf_adds(object, "{\"data\":{");
    for (size_t i = 0; i < n; i++) {
        kei_buf_addf(object, "%s\"k%zu\":\"value %zu\"", i ? "," : "", i, i);
        if (folder)
            kei_buf_addf(spec, "%s{\"key\":\"k%zu\",\"path\":\"%s/f%zu\"}", i ? "," : "", i, folder,
                         i);
        else
            kei_buf_addf(spec, "%s{\"key\":\"k%zu\",\"path\":\"d%zu/e/f\"}", i ? "," : "", i, i);
    }
    kei_buf_adds(spec, "]}}],\"containers\":[{\"name\":\"m\",\"image\":\"i\"}]}}");
    kei_buf_adds(object, "}}");
    assert_int_equal(kei_podspec_read(&r->spec, kei_buf_str(spec), &r->arena, &r->err), 0);
    assert_int_equal(kei_objects_collect(&r->objects, &r->spec, &r->arena, &r->err), 0);
    give(r, "configmap", object->p);
}

/* What is done at the disk grows with the folders, not with files times files. */
static void many_files(void **state)
{
    (void)state;
    struct rig r;
    struct ke_buf spec, object;
    bool changed = false;
    kei_buf_init(&spec, kei_alloc_malloc());
    kei_buf_init(&object, kei_alloc_malloc());
    rig_init(&r);
    counted = *ke_io_posix();
    counted.list = counted_list;
    counted.mkdir = counted_mkdir;
    counted.symlink = counted_symlink;
    many(&r, KEI_VOLUME_FILES_MAX, "a/b", &spec, &object);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(r.plan.n_files, KEI_VOLUME_FILES_MAX);
    calls = 0;
    assert_int_equal(kei_volume_apply(&counted, &r.plan, r.stamp++, &changed, &r.err), 0);
    assert_true(changed);
    assert_true(calls < 40);
    expect_file(&r, "a/b/f0", "value 0", 0644);
    expect_file(&r, "a/b/f2047", "value 2047", 0644);
    calls = 0;
    assert_int_equal(kei_volume_apply(&counted, &r.plan, r.stamp++, &changed, &r.err), 0);
    assert_false(changed);
    assert_true(calls < 40);
    /* each key was read once */
    assert_int_equal(r.objects.v[0].n_keys, KEI_VOLUME_FILES_MAX);
    /* folders of their own are seen each too */
    many(&r, KEI_VOLUME_FILES_MAX / 2, NULL, &spec, &object);
    assert_int_equal(plan(&r), 0);
    assert_int_equal(apply(&r, &changed), 0);
    assert_true(changed);
    assert_int_equal(apply(&r, &changed), 0);
    assert_false(changed);
    assert_false(there(&r, "a"));
    char path[600];
    path_of(&r, "..data/d7/extra", path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(apply(&r, &changed), 0);
    assert_true(changed);
    many(&r, KEI_VOLUME_FILES_MAX / 2 + 1, NULL, &spec, &object);
    assert_int_equal(plan(&r), KE_ELIMIT);
    assert_non_null(strstr(r.err.text, "more folders than the limit of 2048"));
    many(&r, KEI_VOLUME_FILES_MAX + 1, "a", &spec, &object);
    assert_int_equal(plan(&r), KE_ELIMIT);
    assert_non_null(strstr(r.err.text, "more files than the limit of 2048"));
    ke_buf_free(&spec);
    ke_buf_free(&object);
    rig_fini(&r);
}

/* One big value under many paths. */
static void many_bytes(void **state)
{
    (void)state;
    struct rig r;
    char items[2000] = "";
    size_t n = 0, big = 1 << 20;
    char *object = malloc(big + 30);
    assert_non_null(object);
    rig_init(&r);
    for (int i = 0; i < 33; i++)
        n += (size_t)snprintf(items + n, sizeof items - n, "%s{\"key\":\"k\",\"path\":\"f%d\"}",
                              i ? "," : "", i);
    char volume[2100];
    snprintf(volume, sizeof volume, "\"configMap\":{\"name\":\"c\",\"items\":[%s]}", items);
    memcpy(object, "{\"data\":{\"k\":\"", 14);
    memset(object + 14, 'x', big);
    memcpy(object + 14 + big, "\"}}", 4);
    pod(&r, volume);
    give(&r, "configmap", object);
    assert_int_equal(plan(&r), KE_ELIMIT);
    assert_non_null(strstr(r.err.text, "more bytes than the limit of 33554432"));
    free(object);
    rig_fini(&r);
}

/* The order of files is by path; sources that come later still win, and names that look alike stay
 * apart. */
static void order_and_duplicates(void **state)
{
    (void)state;
    struct rig r;
    bool changed;
    rig_init(&r);
    pod(&r, "\"projected\":{\"sources\":["
            "{\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"x\",\"path\":\"a/f\"},"
            "{\"key\":\"y\",\"path\":\"a.b\"},{\"key\":\"x\",\"path\":\"a0\"},"
            "{\"key\":\"z\",\"path\":\"a/c/g\"},{\"key\":\"z\",\"path\":\"a/h\"}]}},"
            "{\"configMap\":{\"name\":\"c\",\"items\":[{\"key\":\"y\",\"path\":\"a/f\"}]}}]}");
    give(&r, "configmap",
         "{\"binaryData\":{\"z\":\"Qg==\",\"x\":\"QQ==\"},"
         "\"data\":{\"x\":\"first\",\"y\":\"2\",\"x\":\"last\"}}");
    assert_int_equal(plan(&r), 0);
    assert_int_equal(r.plan.n_files, 5);
    assert_int_equal(apply(&r, NULL), 0);
    expect_file(&r, "a/f", "2", 0644);
    expect_file(&r, "a.b", "2", 0644);
    expect_file(&r, "a0", "last", 0644);
    expect_file(&r, "a/c/g", "B", 0644);
    assert_int_equal(entries(&r), 5); /* a, a.b, a0, ..data and its folder */
    assert_int_equal(apply(&r, &changed), 0);
    assert_false(changed);
    rig_fini(&r);
}

/* ---- a full disk ---- */

static struct ke_io full;
static long room; /* writes until the disk is full */

static int full_pwrite(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    if (room-- <= 0)
        return KE_ENOSPC;
    return ke_io_posix()->pwrite(user, f, p, n, off);
}

static int full_mkdir(void *user, const char *path, uint32_t mode)
{
    if (room-- <= 0)
        return KE_ENOSPC;
    return ke_io_posix()->mkdir(user, path, mode);
}

static int full_symlink(void *user, const char *target, const char *path)
{
    if (room-- <= 0)
        return KE_ENOSPC;
    return ke_io_posix()->symlink(user, target, path);
}

static void full_disk_keeps_the_old_files(void **state)
{
    (void)state;
    full = *ke_io_posix();
    full.pwrite = full_pwrite;
    full.mkdir = full_mkdir;
    full.symlink = full_symlink;
    int e = KE_ENOSPC;
    for (long n = 0; e != 0; n++) {
        struct rig r;
        bool changed;
        rig_init(&r);
        pod(&r, "\"configMap\":{\"name\":\"c\"}");
        give(&r, "configmap", "{\"data\":{\"a\":\"1\",\"b\":\"1\"}}");
        assert_int_equal(plan(&r), 0);
        assert_int_equal(apply(&r, NULL), 0);
        pod(&r, "\"configMap\":{\"name\":\"c\"}");
        give(&r, "configmap", "{\"data\":{\"a\":\"2\",\"b\":\"2\",\"c\":\"2\"}}");
        assert_int_equal(plan(&r), 0);
        room = n + 100;
        r.stamp = 1001;
        room = n;
        e = kei_volume_apply(&full, &r.plan, r.stamp++, &changed, &r.err);
        if (e < 0) {
            assert_int_equal(e, KE_ENOSPC);
            assert_non_null(strstr(r.err.text, "volume v"));
            assert_non_null(strstr(r.err.text, "no space left"));
            /* all old or all new */
            char path[600];
            struct ke_buf b;
            kei_buf_init(&b, kei_alloc_malloc());
            path_of(&r, "a", path);
            assert_int_equal(kei_file_read(ke_io_posix(), path, 10, &b, NULL), 0);
            const char *seen = b.p[0] == '1' ? "1" : "2";
            expect_file(&r, "b", seen, 0644);
            ke_buf_free(&b);
        }
        room = 1000;
        assert_int_equal(kei_volume_apply(&full, &r.plan, r.stamp++, &changed, &r.err), 0);
        expect_file(&r, "a", "2", 0644);
        expect_file(&r, "c", "2", 0644);
        assert_true(there(&r, "c"));
        rig_fini(&r);
        assert_true(n < 100);
    }
}

static void mounts(void **state)
{
    (void)state;
    static const struct {
        const char *mount;
        int code;
        uint32_t flags;
        const char *tail;
    } cases[] = {
        {"{\"name\":\"v\",\"mountPath\":\"/cfg\"}", 0, KE_MOUNT_READ_ONLY,
         "/kubernetes.io~configmap/v"},
        {"{\"name\":\"v\",\"mountPath\":\"/etc/x.conf\",\"subPath\":\"a.txt\"}", 0,
         KE_MOUNT_READ_ONLY, "/kubernetes.io~configmap/v/a.txt"},
        {"{\"name\":\"v\",\"mountPath\":\"/cfg\",\"subPath\":\"../x\"}", KE_EINVAL, 0, NULL},
        {"{\"name\":\"v\",\"mountPath\":\"/cfg\",\"subPath\":\"/x\"}", KE_EINVAL, 0, NULL},
        {"{\"name\":\"v\",\"mountPath\":\"cfg\"}", KE_EINVAL, 0, NULL},
        {"{\"name\":\"v\",\"mountPath\":\"/\"}", KE_EINVAL, 0, NULL},
        {"{\"name\":\"v\",\"mountPath\":\"/a/../b\"}", KE_EINVAL, 0, NULL},
        {"{\"name\":\"no\",\"mountPath\":\"/cfg\"}", KE_EINVAL, 0, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char json[300];
        struct ke_mount *m = NULL;
        uint32_t n = 0;
        rig_init(&r);
        pod(&r, "\"configMap\":{\"name\":\"c\"}");
        give(&r, "configmap", "{}");
        assert_int_equal(plan(&r), 0);
        snprintf(json, sizeof json, "{\"name\":\"m\",\"volumeMounts\":[%s]}", cases[i].mount);
        struct kei_spec_container c = {.name = "m", .json = kei_str(json)};
        assert_int_equal(kei_volume_mounts(&m, &n, &c, &r.plan, 1, &r.arena, &r.err),
                         cases[i].code);
        if (cases[i].code == 0) {
            assert_int_equal(n, 1);
            assert_int_equal(m[0].flags, cases[i].flags);
            assert_true(kei_str_ends(kei_str(m[0].host_path), kei_str(cases[i].tail)));
            assert_string_equal(m[0].volume, "v");
        }
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_map),
        cmocka_unit_test(the_switch_is_one),
        cmocka_unit_test(items_and_nested_paths),
        cmocka_unit_test(what_is_missing),
        cmocka_unit_test(service_account_access),
        cmocka_unit_test(empty_dir),
        cmocka_unit_test(host_path_types),
        cmocka_unit_test(host_path_is_limited),
        cmocka_unit_test(many_files),
        cmocka_unit_test(many_bytes),
        cmocka_unit_test(order_and_duplicates),
        cmocka_unit_test(full_disk_keeps_the_old_files),
        cmocka_unit_test(mounts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
