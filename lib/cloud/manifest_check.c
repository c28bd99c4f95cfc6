/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may stand in a manifest: names of fields, types, and the rules of Kubernetes where a slip is
 * likely. The first thing that is wrong is named with its path. Pure; also runs on the disk worker.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "cloud/manifest.h"
#include "message/k8s.h"

#define DATA_MAX 1048576u /* bytes of the values of a ConfigMap or Secret */
#define CONTAINERS_MAX 64 /* of each kind: what our nodes take */
#define ITEMS_MAX 1000    /* containers, volumes, mounts: they are compared with each other */

/* The field names Kubernetes knows; NULL-terminated. */
static const char *const top_pod[] = {"apiVersion", "kind", "metadata", "spec", "status", NULL};
static const char *const top_configmap[] = {"apiVersion", "kind",      "metadata", "data",
                                            "binaryData", "immutable", NULL};
static const char *const top_secret[] = {"apiVersion", "kind", "metadata",  "data",
                                         "stringData", "type", "immutable", NULL};
static const char *const metadata_names[] = {"name",
                                             "namespace",
                                             "labels",
                                             "annotations",
                                             "uid",
                                             "resourceVersion",
                                             "creationTimestamp",
                                             "generateName",
                                             "generation",
                                             "finalizers",
                                             "ownerReferences",
                                             "managedFields",
                                             "selfLink",
                                             NULL};
static const char *const spec_names[] = {"volumes",
                                         "initContainers",
                                         "containers",
                                         "ephemeralContainers",
                                         "restartPolicy",
                                         "terminationGracePeriodSeconds",
                                         "activeDeadlineSeconds",
                                         "dnsPolicy",
                                         "nodeSelector",
                                         "serviceAccountName",
                                         "serviceAccount",
                                         "automountServiceAccountToken",
                                         "nodeName",
                                         "hostNetwork",
                                         "hostPID",
                                         "hostIPC",
                                         "shareProcessNamespace",
                                         "securityContext",
                                         "imagePullSecrets",
                                         "hostname",
                                         "subdomain",
                                         "affinity",
                                         "schedulerName",
                                         "tolerations",
                                         "hostAliases",
                                         "priorityClassName",
                                         "priority",
                                         "dnsConfig",
                                         "readinessGates",
                                         "runtimeClassName",
                                         "enableServiceLinks",
                                         "preemptionPolicy",
                                         "overhead",
                                         "topologySpreadConstraints",
                                         "setHostnameAsFQDN",
                                         "os",
                                         "hostUsers",
                                         "schedulingGates",
                                         "resourceClaims",
                                         "resources",
                                         NULL};
static const char *const container_names[] = {"name",
                                              "image",
                                              "command",
                                              "args",
                                              "workingDir",
                                              "ports",
                                              "envFrom",
                                              "env",
                                              "resources",
                                              "resizePolicy",
                                              "restartPolicy",
                                              "volumeMounts",
                                              "volumeDevices",
                                              "livenessProbe",
                                              "readinessProbe",
                                              "startupProbe",
                                              "lifecycle",
                                              "terminationMessagePath",
                                              "terminationMessagePolicy",
                                              "imagePullPolicy",
                                              "securityContext",
                                              "stdin",
                                              "stdinOnce",
                                              "tty",
                                              NULL};

int kei_field_bad(struct kei_field *f, struct ke_error *err, struct ke_str at, const char *path,
                  const char *what)
{
    snprintf(f->path, sizeof f->path, "%s", path);
    f->at = at.p;
    return kei_error(err, KE_EINVAL, "%s: %s", path, what);
}

/* ---- shapes ---- */

/* member that is there and not null, which counts as absent */
bool kei_member(struct ke_str object, const char *key, struct ke_str *ret)
{
    return kei_json_get(object, key, ret) && kei_json_type(*ret) != 'n';
}

/* the plain text of a string span; not decoded, which names never need */
struct ke_str kei_inner(struct ke_str v)
{
    return kei_json_type(v) == '"' ? kei_strn(v.p + 1, v.n - 2) : kei_strn("", 0);
}

int kei_check_names(struct kei_field *f, struct ke_str object, const char *path,
                    const char *const *names, struct ke_error *err)
{
    struct ke_str key, value;
    char where[KEI_WHERE_MAX];
    if (kei_json_type(object) != '{')
        return kei_field_bad(f, err, object, path[0] ? path : "document", "is not a map");
    for (size_t it = 0; kei_json_next(object, &it, &key, &value);) {
        size_t i = 0;
        while (names[i] && !kei_json_key_is(key, names[i]))
            i++;
        if (names[i])
            continue;
        snprintf(where, sizeof where, "%s%s%.*s", path, path[0] ? "." : "",
                 (int)(key.n > 80 ? 80 : key.n), key.p);
        return kei_field_bad(f, err, value, where, "unknown field");
    }
    return 0;
}

static int check_type(struct kei_field *f, struct ke_str object, const char *path, const char *key,
                      char type, struct ke_error *err)
{
    struct ke_str v;
    char where[KEI_WHERE_MAX];
    if (!kei_member(object, key, &v))
        return 0;
    bool is =
        type == 't' ? kei_json_type(v) == 't' || kei_json_type(v) == 'f' : kei_json_type(v) == type;
    if (is)
        return 0;
    snprintf(where, sizeof where, "%s%s%s", path, path[0] ? "." : "", key);
    return kei_field_bad(f, err, v, where,
                         type == '{'   ? "is not a map"
                         : type == '[' ? "is not a list"
                         : type == '"' ? "is not a string"
                         : type == 't' ? "is not true or false"
                                       : "is not a number");
}

int kei_check_types(struct kei_field *f, struct ke_str object, const char *path,
                    const struct kei_typed *types, size_t n, struct ke_error *err)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = check_type(f, object, path, types[i].key, types[i].type, err);
    return r;
}

/* Every value of a map must be a string. */
static int check_strings(struct kei_field *f, struct ke_str object, const char *path,
                         const char *key, struct ke_error *err)
{
    struct ke_str map, k, v;
    char where[KEI_WHERE_MAX];
    if (!kei_member(object, key, &map))
        return 0;
    int r = check_type(f, object, path, key, '{', err);
    for (size_t it = 0; r == 0 && kei_json_next(map, &it, &k, &v);) {
        if (kei_json_type(v) == '"')
            continue;
        snprintf(where, sizeof where, "%s%s%s.%.*s", path, path[0] ? "." : "", key,
                 (int)(k.n > 80 ? 80 : k.n), k.p);
        return kei_field_bad(f, err, v, where, "is not a string; put it in quotes");
    }
    return r;
}

/* A list of maps, not too long. */
int kei_check_maps(struct kei_field *f, struct ke_str object, const char *path, const char *key,
                   struct ke_error *err)
{
    struct ke_str list, k, item;
    char where[KEI_WHERE_MAX];
    unsigned n = 0;
    int r = check_type(f, object, path, key, '[', err);
    if (r < 0 || !kei_member(object, key, &list))
        return r;
    for (size_t it = 0; kei_json_next(list, &it, &k, &item); n++) {
        snprintf(where, sizeof where, "%s.%s[%u]", path, key, n);
        if (kei_json_type(item) != '{')
            return kei_field_bad(f, err, item, where, "is not a map");
        if (n == ITEMS_MAX)
            return kei_field_bad(f, err, item, where, "is one too many; the limit is 1000");
    }
    return 0;
}

static bool text_equal(struct ke_str a, struct ke_str b)
{
    return kei_str_eq(kei_inner(a), kei_inner(b));
}

/* One of the first n items of list has this member. */
static bool taken(struct ke_str list, unsigned n, const char *key, struct ke_str value)
{
    struct ke_str k, item, v;
    unsigned i = 0;
    for (size_t it = 0; i < n && kei_json_next(list, &it, &k, &item); i++)
        if (kei_json_get(item, key, &v) && kei_json_type(v) == '"' && text_equal(v, value))
            return true;
    return false;
}

/* ---- metadata ---- */

int kei_check_metadata(struct kei_field *f, struct ke_str object, struct ke_error *err)
{
    struct ke_str meta, name, ns;
    if (!kei_member(object, "metadata", &meta))
        return kei_field_bad(f, err, object, "metadata", "is missing");
    int r = kei_check_names(f, meta, "metadata", metadata_names, err);
    if (r == 0)
        r = check_strings(f, meta, "metadata", "labels", err);
    if (r == 0)
        r = check_strings(f, meta, "metadata", "annotations", err);
    if (r < 0)
        return r;
    if (!kei_member(meta, "name", &name))
        return kei_field_bad(f, err, meta, "metadata.name", "is missing");
    if (kei_json_type(name) != '"')
        return kei_field_bad(f, err, name, "metadata.name", "is not a string; put it in quotes");
    if (!kei_dns_subdomain(kei_inner(name)))
        return kei_field_bad(f, err, name, "metadata.name",
                             "is not a DNS name (a-z, 0-9, '-' and '.'; 253 characters at most)");
    if (kei_member(meta, "namespace", &ns) && !kei_dns_label(kei_inner(ns)))
        return kei_field_bad(f, err, ns, "metadata.namespace",
                             "is not a DNS label (a-z, 0-9 and '-'; 63 characters at most)");
    return 0;
}

/* ---- pods ---- */

static int check_words(struct kei_field *f, struct ke_str c, const char *path, struct ke_error *err)
{
    static const char *const lists[] = {"command", "args"};
    struct ke_str list, key, item;
    char where[KEI_WHERE_MAX];
    for (size_t i = 0; i < 2; i++) {
        if (!kei_member(c, lists[i], &list))
            continue;
        snprintf(where, sizeof where, "%s.%s", path, lists[i]);
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
            if (kei_json_type(item) != '"')
                return kei_field_bad(f, err, item, where,
                                     "has an item that is not a string; quote it");
    }
    return 0;
}

/* Mounts name volumes of the pod. */
static int check_mounts(struct kei_field *f, struct ke_str c, struct ke_str spec, const char *path,
                        struct ke_error *err)
{
    struct ke_str list, volumes = {0}, key, item, v;
    char where[KEI_WHERE_MAX + 40];
    unsigned n = 0;
    int r = kei_check_maps(f, c, path, "volumeMounts", err);
    if (r < 0 || !kei_member(c, "volumeMounts", &list))
        return r;
    (void)kei_member(spec, "volumes", &volumes);
    for (size_t it = 0; kei_json_next(list, &it, &key, &item); n++) {
        snprintf(where, sizeof where, "%s.volumeMounts[%u].name", path, n);
        if (!kei_member(item, "name", &v))
            return kei_field_bad(f, err, item, where, "is missing");
        if (!taken(volumes, UINT32_MAX, "name", v))
            return kei_field_bad(f, err, v, where, "names no volume of the pod");
        snprintf(where, sizeof where, "%s.volumeMounts[%u].mountPath", path, n);
        if (!kei_member(item, "mountPath", &v) || kei_inner(v).n == 0)
            return kei_field_bad(f, err, item, where, "is missing");
        if (taken(list, n, "mountPath", v))
            return kei_field_bad(f, err, v, where, "is the path of another mount already");
    }
    return 0;
}

static int check_container(struct kei_field *f, struct ke_str c, struct ke_str spec,
                           const char *path, struct ke_error *err)
{
    static const struct kei_typed types[] = {
        {"image", '"'},        {"command", '['},         {"args", '['},
        {"workingDir", '"'},   {"ports", '['},           {"env", '['},
        {"volumeMounts", '['}, {"envFrom", '['},         {"tty", 't'},
        {"stdin", 't'},        {"securityContext", '{'}, {"resources", '{'}};
    struct ke_str v;
    char where[KEI_WHERE_MAX];
    int r = kei_check_names(f, c, path, container_names, err);
    if (r == 0)
        r = kei_check_types(f, c, path, types, sizeof types / sizeof types[0], err);
    if (r < 0)
        return r;
    snprintf(where, sizeof where, "%s.name", path);
    if (!kei_member(c, "name", &v))
        return kei_field_bad(f, err, c, where, "is missing");
    if (!kei_dns_label(kei_inner(v)))
        return kei_field_bad(f, err, v, where, "is not a DNS label (a-z, 0-9 and '-')");
    snprintf(where, sizeof where, "%s.image", path);
    if (!kei_member(c, "image", &v) || kei_inner(v).n == 0)
        return kei_field_bad(f, err, c, where, "is missing");
    r = check_words(f, c, path, err);
    if (r == 0)
        r = kei_check_container_parts(f, c, path, err);
    return r < 0 ? r : check_mounts(f, c, spec, path, err);
}

/* *n counts them */
static int check_containers(struct kei_field *f, struct ke_str spec, const char *key, unsigned *n,
                            struct ke_error *err)
{
    struct ke_str list, k, item, name;
    char where[64];
    int r = kei_check_maps(f, spec, "spec", key, err);
    *n = 0;
    if (r < 0 || !kei_member(spec, key, &list))
        return r;
    for (size_t it = 0; kei_json_next(list, &it, &k, &item); (*n)++) {
        snprintf(where, sizeof where, "spec.%s[%u]", key, *n);
        if (*n == CONTAINERS_MAX)
            return kei_field_bad(f, err, item, where, "is one too many; the limit is 64");
        r = check_container(f, item, spec, where, err);
        if (r < 0)
            return r;
        (void)kei_json_get(item, "name", &name);
        snprintf(where, sizeof where, "spec.%s[%u].name", key, *n);
        if (taken(list, *n, "name", name))
            return kei_field_bad(f, err, name, where, "is the name of another container already");
    }
    return 0;
}

static int check_volumes(struct kei_field *f, struct ke_str spec, struct ke_error *err)
{
    struct ke_str list, key, item, name;
    char where[64];
    unsigned n = 0;
    int r = kei_check_maps(f, spec, "spec", "volumes", err);
    if (r < 0 || !kei_member(spec, "volumes", &list))
        return r;
    for (size_t it = 0; kei_json_next(list, &it, &key, &item); n++) {
        snprintf(where, sizeof where, "spec.volumes[%u].name", n);
        if (!kei_member(item, "name", &name))
            return kei_field_bad(f, err, item, where, "is missing");
        if (!kei_dns_label(kei_inner(name)))
            return kei_field_bad(f, err, name, where, "is not a DNS label (a-z, 0-9 and '-')");
        if (taken(list, n, "name", name))
            return kei_field_bad(f, err, name, where, "is the name of another volume already");
        snprintf(where, sizeof where, "spec.volumes[%u]", n);
        r = kei_check_volume(f, item, where, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_place(struct kei_field *f, struct ke_str spec, struct ke_error *err)
{
    struct ke_str name, selector;
    bool bound = kei_member(spec, "nodeName", &name) && kei_inner(name).n > 0;
    if (bound && !kei_dns_subdomain(kei_inner(name)))
        return kei_field_bad(f, err, name, "spec.nodeName", "is not a node name");
    if (!bound && !kei_member(spec, "nodeSelector", &selector))
        return kei_field_bad(
            f, err, spec, "spec.nodeName",
            "is missing, and so is spec.nodeSelector: one of them says where the pod runs");
    return 0;
}

int kei_check_pod(struct kei_field *f, struct ke_str pod, struct ke_error *err)
{
    static const struct kei_typed types[] = {{"nodeName", '"'},
                                             {"nodeSelector", '{'},
                                             {"restartPolicy", '"'},
                                             {"hostNetwork", 't'},
                                             {"volumes", '['},
                                             {"tolerations", '['},
                                             {"containers", '['},
                                             {"initContainers", '['},
                                             {"terminationGracePeriodSeconds", '0'},
                                             {"securityContext", '{'},
                                             {"imagePullSecrets", '['},
                                             {"hostPID", 't'},
                                             {"hostname", '"'},
                                             {"serviceAccountName", '"'},
                                             {"activeDeadlineSeconds", '0'}};
    struct ke_str spec, v;
    unsigned n = 0, n_init = 0;
    int64_t grace, deadline;
    int r = kei_check_names(f, pod, "", top_pod, err);
    if (r < 0)
        return r;
    if (!kei_member(pod, "spec", &spec))
        return kei_field_bad(f, err, pod, "spec", "is missing");
    r = kei_check_names(f, spec, "spec", spec_names, err);
    if (r == 0)
        r = kei_check_types(f, spec, "spec", types, sizeof types / sizeof types[0], err);
    if (r == 0)
        r = check_strings(f, spec, "spec", "nodeSelector", err);
    if (r < 0)
        return r;
    if (kei_member(spec, "restartPolicy", &v) && !kei_json_str_is(v, "Always") &&
        !kei_json_str_is(v, "OnFailure") && !kei_json_str_is(v, "Never"))
        return kei_field_bad(f, err, v, "spec.restartPolicy", "is not Always, OnFailure or Never");
    if (kei_member(spec, "terminationGracePeriodSeconds", &v) &&
        (!kei_json_i64(v, &grace) || grace < 0 || grace > INT32_MAX))
        return kei_field_bad(f, err, v, "spec.terminationGracePeriodSeconds",
                             "is not a whole number from 0");
    if (kei_member(spec, "activeDeadlineSeconds", &v) &&
        (!kei_json_i64(v, &deadline) || deadline < 1 || deadline > INT32_MAX))
        return kei_field_bad(f, err, v, "spec.activeDeadlineSeconds",
                             "is not a whole number from 1");
    r = check_place(f, spec, err);
    if (r == 0 && !kei_member(spec, "containers", &v))
        r = kei_field_bad(f, err, spec, "spec.containers", "is missing");
    if (r == 0)
        r = check_volumes(f, spec, err);
    if (r == 0)
        r = check_containers(f, spec, "containers", &n, err);
    if (r == 0 && n == 0)
        r = kei_field_bad(f, err, v, "spec.containers", "is empty");
    return r < 0 ? r : check_containers(f, spec, "initContainers", &n_init, err);
}

/* ---- ConfigMaps and Secrets ---- */

static bool good_key(struct ke_str key)
{
    if (key.n == 0 || key.n > 253 || kei_str_is(key, ".") || kei_str_is(key, ".."))
        return false;
    for (size_t i = 0; i < key.n; i++) {
        char c = key.p[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '-' && c != '_' && c != '.')
            return false;
    }
    return true;
}

/* A map of strings whose keys become file names. */
static int check_data(struct kei_field *f, struct ke_str object, const char *key,
                      struct ke_error *err)
{
    struct ke_str map, k, v;
    char where[KEI_WHERE_MAX];
    int r = check_strings(f, object, "", key, err);
    if (r < 0 || !kei_member(object, key, &map))
        return r;
    for (size_t it = 0; kei_json_next(map, &it, &k, &v);) {
        if (good_key(k))
            continue;
        snprintf(where, sizeof where, "%s.%.*s", key, (int)(k.n > 80 ? 80 : k.n), k.p);
        return kei_field_bad(f, err, v, where,
                             "is not a valid key (letters, digits, '-', '_' and '.'; 253 at most)");
    }
    return 0;
}

static int check_b64(struct kei_field *f, struct ke_str object, const char *key, struct ke_buf *tmp,
                     struct ke_error *err)
{
    struct ke_str map, k, v;
    char where[KEI_WHERE_MAX];
    if (!kei_member(object, key, &map))
        return 0;
    for (size_t it = 0; kei_json_next(map, &it, &k, &v);) {
        kei_buf_clear(tmp);
        if (kei_b64_decode(tmp, kei_inner(v)))
            continue;
        if (!kei_buf_ok(tmp))
            return kei_error(err, KE_ENOMEM, "out of memory");
        snprintf(where, sizeof where, "%s.%.*s", key, (int)(k.n > 80 ? 80 : k.n), k.p);
        return kei_field_bad(f, err, v, where, "is not base64 (stringData takes plain text)");
    }
    return 0;
}

/* Adds the bytes of the values of a map: decoded, as Kubernetes counts them. Those whose key except
 * has too are left out. */
static int add_size(struct ke_str object, const char *key, const char *except, bool b64,
                    struct ke_buf *tmp, uint64_t *total, struct ke_error *err)
{
    struct ke_str map, other = {0}, k, v, ok, ov;
    if (!kei_member(object, key, &map))
        return 0;
    bool has_other = except && kei_member(object, except, &other);
    for (size_t it = 0; kei_json_next(map, &it, &k, &v);) {
        bool overridden = false;
        for (size_t at = 0; has_other && !overridden && kei_json_next(other, &at, &ok, &ov);)
            overridden = kei_json_key_eq(ok, k);
        if (overridden)
            continue;
        kei_buf_clear(tmp);
        int r = b64 ? 0 : kei_json_str(v, tmp, err);
        if (r < 0)
            return r;
        if (b64)
            (void)kei_b64_decode(tmp, kei_inner(v)); /* that it is base64 was checked before */
        if (!kei_buf_ok(tmp))
            return kei_error(err, KE_ENOMEM, "out of memory");
        *total += tmp->n;
    }
    return 0;
}

static int check_size(struct kei_field *f, struct ke_str o, const char *plain, const char *b64,
                      struct ke_buf *tmp, struct ke_error *err)
{
    struct ke_str v = {0};
    uint64_t total = 0;
    char what[120];
    int r = add_size(o, plain, NULL, false, tmp, &total, err);
    if (r == 0)
        r = add_size(o, b64, plain, true, tmp, &total, err);
    if (r < 0 || total <= DATA_MAX)
        return r;
    if (!kei_member(o, "data", &v))
        (void)kei_member(o, strcmp(plain, "data") == 0 ? b64 : plain, &v);
    snprintf(what, sizeof what, "holds %llu bytes; the limit of Kubernetes is %u",
             (unsigned long long)total, DATA_MAX);
    return kei_field_bad(f, err, v, "data", what);
}

int kei_check_configmap(struct kei_field *f, struct ke_str o, struct ke_buf *tmp,
                        struct ke_error *err)
{
    int r = kei_check_names(f, o, "", top_configmap, err);
    if (r == 0)
        r = check_data(f, o, "data", err);
    if (r == 0)
        r = check_data(f, o, "binaryData", err);
    if (r == 0)
        r = check_type(f, o, "", "immutable", 't', err);
    if (r == 0)
        r = check_b64(f, o, "binaryData", tmp, err);
    return r < 0 ? r : check_size(f, o, "data", "binaryData", tmp, err);
}

int kei_check_secret(struct kei_field *f, struct ke_str o, struct ke_buf *tmp, struct ke_error *err)
{
    int r = kei_check_names(f, o, "", top_secret, err);
    if (r == 0)
        r = check_data(f, o, "data", err);
    if (r == 0)
        r = check_data(f, o, "stringData", err);
    if (r == 0)
        r = check_type(f, o, "", "type", '"', err);
    if (r == 0)
        r = check_type(f, o, "", "immutable", 't', err);
    if (r == 0)
        r = check_b64(f, o, "data", tmp, err);
    return r < 0 ? r : check_size(f, o, "stringData", "data", tmp, err);
}
