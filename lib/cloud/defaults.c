/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest made whole, as an API server would: field names checked, defaults filled in,
 * stringData encoded. Pure; also runs on the disk worker.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "cloud/manifest.h"
#include "message/k8s.h"

#define PATH_MAX_ 300

/* The field names Kubernetes knows, where a slip is likely; NULL-terminated. */
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

static int bad(struct kei_field *f, struct ke_error *err, struct ke_str at, const char *path,
               const char *what)
{
    snprintf(f->path, sizeof f->path, "%s", path);
    f->at = at.p;
    return kei_error(err, KE_EINVAL, "%s: %s", path, what);
}

static int check_names(struct kei_field *f, struct ke_str object, const char *path,
                       const char *const *names, struct ke_error *err)
{
    struct ke_str key, value;
    char where[PATH_MAX_];
    if (kei_json_type(object) != '{')
        return bad(f, err, object, path[0] ? path : "document", "is not a map");
    for (size_t it = 0; kei_json_next(object, &it, &key, &value);) {
        size_t i = 0;
        while (names[i] && !kei_json_key_is(key, names[i]))
            i++;
        if (names[i])
            continue;
        snprintf(where, sizeof where, "%s%s%.*s", path, path[0] ? "." : "",
                 (int)(key.n > 80 ? 80 : key.n), key.p);
        return bad(f, err, value, where, "unknown field");
    }
    return 0;
}

static int check_type(struct kei_field *f, struct ke_str object, const char *path, const char *key,
                      char type, struct ke_error *err)
{
    struct ke_str v;
    char where[PATH_MAX_];
    if (!kei_json_get(object, key, &v) || kei_json_type(v) == 'n')
        return 0;
    bool is =
        type == 't' ? kei_json_type(v) == 't' || kei_json_type(v) == 'f' : kei_json_type(v) == type;
    if (is)
        return 0;
    snprintf(where, sizeof where, "%s%s%s", path, path[0] ? "." : "", key);
    return bad(f, err, v, where,
               type == '{'   ? "is not a map"
               : type == '[' ? "is not a list"
               : type == '"' ? "is not a string"
               : type == 't' ? "is not true or false"
                             : "is not a number");
}

/* Every value of a map must be a string. */
static int check_strings(struct kei_field *f, struct ke_str object, const char *path,
                         const char *key, struct ke_error *err)
{
    struct ke_str map, k, v;
    char where[PATH_MAX_];
    if (!kei_json_get(object, key, &map) || kei_json_type(map) == 'n')
        return 0;
    int r = check_type(f, object, path, key, '{', err);
    for (size_t it = 0; r == 0 && kei_json_next(map, &it, &k, &v);) {
        if (kei_json_type(v) == '"')
            continue;
        snprintf(where, sizeof where, "%s%s%s.%.*s", path, path[0] ? "." : "", key,
                 (int)(k.n > 80 ? 80 : k.n), k.p);
        return bad(f, err, v, where, "is not a string; put it in quotes");
    }
    return r;
}

static int check_metadata(struct kei_field *f, struct ke_str object, struct ke_error *err)
{
    struct ke_str meta, name, ns;
    if (!kei_json_get(object, "metadata", &meta))
        return bad(f, err, object, "metadata", "is missing");
    int r = check_names(f, meta, "metadata", metadata_names, err);
    if (r == 0)
        r = check_strings(f, meta, "metadata", "labels", err);
    if (r == 0)
        r = check_strings(f, meta, "metadata", "annotations", err);
    if (r < 0)
        return r;
    if (!kei_json_get(meta, "name", &name))
        return bad(f, err, meta, "metadata.name", "is missing");
    if (kei_json_type(name) != '"') /* YAML reads a bare y, no or 1 as something else */
        return bad(f, err, name, "metadata.name", "is not a string; put it in quotes");
    if (!kei_dns_subdomain(kei_strn(name.p + 1, name.n - 2)))
        return bad(f, err, name, "metadata.name", "is not a DNS name (a-z, 0-9, '-' and '.')");
    if (kei_json_get(meta, "namespace", &ns) &&
        (kei_json_type(ns) != '"' || !kei_dns_label(kei_strn(ns.p + 1, ns.n - 2))))
        return bad(f, err, ns, "metadata.namespace", "is not a DNS label (a-z, 0-9 and '-')");
    return 0;
}

static int check_container(struct kei_field *f, struct ke_str c, const char *path,
                           struct ke_error *err)
{
    static const struct {
        const char *key;
        char type;
    } types[] = {{"image", '"'},          {"command", '['}, {"args", '['},
                 {"workingDir", '"'},     {"env", '['},     {"envFrom", '['},
                 {"volumeMounts", '['},   {"ports", '['},   {"resources", '{'},
                 {"securityContext", '{'}};
    struct ke_str name, list, key, item;
    char where[PATH_MAX_ + 32];
    int r = check_names(f, c, path, container_names, err);
    for (size_t i = 0; r == 0 && i < sizeof types / sizeof types[0]; i++)
        r = check_type(f, c, path, types[i].key, types[i].type, err);
    if (r < 0)
        return r;
    snprintf(where, sizeof where, "%s.name", path);
    if (!kei_json_get(c, "name", &name) || kei_json_type(name) != '"' ||
        !kei_dns_label(kei_strn(name.p + 1, name.n - 2)))
        return bad(f, err, c, where, "is missing or not a DNS label");
    snprintf(where, sizeof where, "%s.image", path);
    if (!kei_json_get(c, "image", &item) || kei_json_str_is(item, ""))
        return bad(f, err, c, where, "is missing");
    static const char *const lists[] = {"command", "args"};
    for (size_t i = 0; i < 2; i++) {
        if (!kei_json_get(c, lists[i], &list))
            continue;
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);) {
            snprintf(where, sizeof where, "%s.%s", path, lists[i]);
            if (kei_json_type(item) != '"')
                return bad(f, err, item, where, "has an item that is not a string; quote it");
        }
    }
    if (kei_json_get(c, "env", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);) {
            struct ke_str v;
            snprintf(where, sizeof where, "%s.env", path);
            if (kei_json_get(item, "value", &v) && kei_json_type(v) != '"' &&
                kei_json_type(v) != 'n')
                return bad(f, err, v, where, "has a value that is not a string; quote it");
        }
    return 0;
}

static int check_pod(struct kei_field *f, struct ke_str pod, struct ke_error *err)
{
    static const struct {
        const char *key;
        char type;
    } types[] = {
        {"nodeName", '"'},    {"nodeSelector", '{'},   {"restartPolicy", '"'},
        {"hostNetwork", 't'}, {"volumes", '['},        {"tolerations", '['},
        {"containers", '['},  {"initContainers", '['}, {"terminationGracePeriodSeconds", '0'}};
    struct ke_str spec, list, key, item, v;
    char where[PATH_MAX_];
    uint32_t n = 0;
    if (!kei_json_get(pod, "spec", &spec))
        return bad(f, err, pod, "spec", "is missing");
    int r = check_names(f, spec, "spec", spec_names, err);
    for (size_t i = 0; r == 0 && i < sizeof types / sizeof types[0]; i++)
        r = check_type(f, spec, "spec", types[i].key, types[i].type, err);
    if (r == 0)
        r = check_strings(f, spec, "spec", "nodeSelector", err);
    if (r < 0)
        return r;
    if (kei_json_get(spec, "restartPolicy", &v) && !kei_json_str_is(v, "Always") &&
        !kei_json_str_is(v, "OnFailure") && !kei_json_str_is(v, "Never"))
        return bad(f, err, v, "spec.restartPolicy", "is not Always, OnFailure or Never");
    if (!kei_json_get(spec, "nodeName", &v) && !kei_json_get(spec, "nodeSelector", &v))
        return bad(f, err, spec, "spec.nodeName",
                   "is missing, and so is spec.nodeSelector: one of them says where the pod runs");
    if (!kei_json_get(spec, "containers", &list))
        return bad(f, err, spec, "spec.containers", "is missing");
    for (size_t it = 0; kei_json_next(list, &it, &key, &item); n++) {
        snprintf(where, sizeof where, "spec.containers[%u]", (unsigned)n);
        r = check_container(f, item, where, err);
        if (r < 0)
            return r;
    }
    return n > 0 ? 0 : bad(f, err, list, "spec.containers", "is empty");
}

/* ---- defaults ---- */

/* The members of object that names do not list, then those of names that are absent, as given. */
struct dflt {
    const char *key, *json;
};

static void with_defaults(struct kei_jw *w, struct ke_str object, const struct dflt *d, size_t n,
                          const char *skip)
{
    struct ke_str key, value;
    char name[128];
    for (size_t it = 0; kei_json_next(object, &it, &key, &value);) {
        snprintf(name, sizeof name, "%.*s", (int)(key.n > 120 ? 120 : key.n), key.p);
        if (kei_json_type(value) != 'n' && (!skip || strcmp(name, skip) != 0))
            kei_jw_kraw(w, name, value);
    }
    for (size_t i = 0; i < n; i++)
        if (!kei_json_get(object, d[i].key, &value) || kei_json_type(value) == 'n')
            kei_jw_kraw(w, d[i].key, kei_str(d[i].json));
}

/* no tag, or the tag latest: a newer image may stand behind the name */
static const char *pull_policy(struct ke_str image)
{
    const char *end = image.p + image.n - 1; /* the closing quote */
    const char *tag = NULL;
    for (const char *p = image.p + 1; p < end; p++) {
        if (*p == '/')
            tag = NULL;
        else if (*p == ':' || *p == '@')
            tag = tag && *tag == '@' ? tag : p;
    }
    if (!tag || (*tag == ':' && kei_str_is(kei_strn(tag, (size_t)(end - tag)), ":latest")))
        return "\"Always\"";
    return "\"IfNotPresent\"";
}

static void write_container(struct kei_jw *w, struct ke_str c)
{
    struct ke_str image = {0};
    (void)kei_json_get(c, "image", &image);
    const struct dflt d[] = {{"resources", "{}"},
                             {"terminationMessagePath", "\"/dev/termination-log\""},
                             {"terminationMessagePolicy", "\"File\""},
                             {"imagePullPolicy", pull_policy(image)}};
    kei_jw_obj(w);
    with_defaults(w, c, d, sizeof d / sizeof d[0], NULL);
    kei_jw_obj_end(w);
}

static void write_volume(struct kei_jw *w, struct ke_str v)
{
    static const struct dflt mode[] = {{"defaultMode", "420"}};
    static const struct dflt type[] = {{"type", "\"\""}};
    static const char *const moded[] = {"configMap", "secret", "projected", "downwardAPI"};
    struct ke_str key, value;
    char name[128];
    kei_jw_obj(w);
    for (size_t it = 0; kei_json_next(v, &it, &key, &value);) {
        bool has_mode = false;
        snprintf(name, sizeof name, "%.*s", (int)(key.n > 120 ? 120 : key.n), key.p);
        for (size_t i = 0; i < 4; i++)
            has_mode |= strcmp(name, moded[i]) == 0;
        bool path = strcmp(name, "hostPath") == 0;
        if ((!has_mode && !path) || kei_json_type(value) != '{') {
            kei_jw_kraw(w, name, value);
            continue;
        }
        kei_jw_key(w, name);
        kei_jw_obj(w);
        with_defaults(w, value, path ? type : mode, 1, NULL);
        kei_jw_obj_end(w);
    }
    kei_jw_obj_end(w);
}

static void write_each(struct kei_jw *w, struct ke_str object, const char *key,
                       void (*each)(struct kei_jw *w, struct ke_str item))
{
    struct ke_str list, k, item;
    if (!kei_json_get(object, key, &list) || kei_json_type(list) != '[')
        return;
    kei_jw_key(w, key);
    kei_jw_arr(w);
    for (size_t it = 0; kei_json_next(list, &it, &k, &item);)
        each(w, item);
    kei_jw_arr_end(w);
}

static void write_spec(struct kei_jw *w, struct ke_str spec)
{
    static const struct dflt d[] = {{"restartPolicy", "\"Always\""},
                                    {"terminationGracePeriodSeconds", "30"},
                                    {"dnsPolicy", "\"ClusterFirst\""},
                                    {"securityContext", "{}"},
                                    {"schedulerName", "\"default-scheduler\""},
                                    {"enableServiceLinks", "true"}};
    static const char *const lists[] = {"volumes", "containers", "initContainers"};
    struct ke_str key, value;
    char name[128];
    kei_jw_obj(w);
    for (size_t i = 0; i < 3; i++)
        write_each(w, spec, lists[i], i == 0 ? write_volume : write_container);
    for (size_t it = 0; kei_json_next(spec, &it, &key, &value);) {
        snprintf(name, sizeof name, "%.*s", (int)(key.n > 120 ? 120 : key.n), key.p);
        if (strcmp(name, lists[0]) != 0 && strcmp(name, lists[1]) != 0 &&
            strcmp(name, lists[2]) != 0 && kei_json_type(value) != 'n')
            kei_jw_kraw(w, name, value);
    }
    for (size_t i = 0; i < sizeof d / sizeof d[0]; i++)
        if (!kei_json_get(spec, d[i].key, &value) || kei_json_type(value) == 'n')
            kei_jw_kraw(w, d[i].key, kei_str(d[i].json));
    kei_jw_obj_end(w);
}

/* Guaranteed: every container has limits for cpu and memory equal to its requests. */
static const char *qos_class(struct ke_str spec)
{
    static const char *const what[] = {"cpu", "memory"};
    struct ke_str list, key, item, limit, request;
    bool any = false, all = true;
    if (!kei_json_get(spec, "containers", &list))
        return "BestEffort";
    for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
        for (size_t i = 0; i < 2; i++) {
            char path[48];
            snprintf(path, sizeof path, "resources.limits.%s", what[i]);
            bool has_limit = kei_json_path(item, path, &limit);
            snprintf(path, sizeof path, "resources.requests.%s", what[i]);
            bool has_request = kei_json_path(item, path, &request);
            any |= has_limit || has_request;
            all &= has_limit && (!has_request || kei_json_same(limit, request));
        }
    return !any ? "BestEffort" : all ? "Guaranteed" : "Burstable";
}

static void write_metadata(struct kei_jw *w, struct ke_str meta)
{
    static const struct dflt d[] = {{"namespace", "\"default\""}};
    kei_jw_key(w, "metadata");
    kei_jw_obj(w);
    with_defaults(w, meta, d, 1, NULL);
    kei_jw_obj_end(w);
}

static int write_secret_data(struct kei_jw *w, struct ke_str secret, struct ke_buf *tmp,
                             struct ke_error *err)
{
    struct ke_str data, key, value, again;
    struct ke_buf text = {0};
    char name[300];
    int r = 0;
    kei_buf_init(&text, tmp->alloc);
    kei_jw_key(w, "data");
    kei_jw_obj(w);
    if (kei_json_get(secret, "stringData", &data))
        for (size_t it = 0; r == 0 && kei_json_next(data, &it, &key, &value);) {
            snprintf(name, sizeof name, "%.*s", (int)(key.n > 256 ? 256 : key.n), key.p);
            kei_buf_clear(&text);
            kei_buf_clear(tmp);
            r = kei_json_str(value, &text, err);
            kei_b64_encode(tmp, text.p, text.n);
            kei_jw_key(w, name);
            kei_jw_strv(w, kei_buf_str(tmp));
        }
    struct ke_str plain = data;
    bool has_plain = kei_json_get(secret, "stringData", &plain);
    if (r == 0 && kei_json_get(secret, "data", &data))
        for (size_t it = 0; kei_json_next(data, &it, &key, &value);) {
            snprintf(name, sizeof name, "%.*s", (int)(key.n > 256 ? 256 : key.n), key.p);
            if (!has_plain || !kei_json_get(plain, name, &again)) /* stringData wins */
                kei_jw_kraw(w, name, value);
        }
    kei_jw_obj_end(w);
    ke_buf_free(&text);
    return r < 0 ? r : kei_buf_ok(&text) ? 0 : KE_ENOMEM;
}

static int check_b64(struct kei_field *f, struct ke_str object, const char *key,
                     struct ke_error *err, struct ke_buf *tmp)
{
    struct ke_str map, k, v;
    char where[PATH_MAX_];
    if (!kei_json_get(object, key, &map))
        return 0;
    for (size_t it = 0; kei_json_next(map, &it, &k, &v);) {
        kei_buf_clear(tmp);
        if (kei_json_type(v) == '"' && kei_b64_decode(tmp, kei_strn(v.p + 1, v.n - 2)))
            continue;
        snprintf(where, sizeof where, "%s.%.*s", key, (int)(k.n > 80 ? 80 : k.n), k.p);
        return bad(f, err, v, where, "is not base64 (stringData takes plain text)");
    }
    return 0;
}

static int do_secret(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                     struct ke_error *err)
{
    static const struct dflt type[] = {{"type", "\"Opaque\""}};
    struct ke_str meta, key, value;
    char name[64];
    int r = check_names(f, o, "", top_secret, err);
    if (r == 0)
        r = check_strings(f, o, "", "data", err);
    if (r == 0)
        r = check_strings(f, o, "", "stringData", err);
    if (r == 0)
        r = check_b64(f, o, "data", err, tmp);
    if (r < 0)
        return r;
    (void)kei_json_get(o, "metadata", &meta);
    kei_jw_kstr(w, "kind", "Secret");
    kei_jw_kstr(w, "apiVersion", "v1");
    write_metadata(w, meta);
    r = write_secret_data(w, o, tmp, err);
    for (size_t it = 0; kei_json_next(o, &it, &key, &value);) {
        snprintf(name, sizeof name, "%.*s", (int)(key.n > 60 ? 60 : key.n), key.p);
        if (strcmp(name, "type") == 0 || strcmp(name, "immutable") == 0)
            kei_jw_kraw(w, name, value);
    }
    if (!kei_json_get(o, "type", &value))
        kei_jw_kraw(w, type[0].key, kei_str(type[0].json));
    return r;
}

static int do_configmap(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                        struct ke_error *err)
{
    struct ke_str meta, value;
    int r = check_names(f, o, "", top_configmap, err);
    if (r == 0)
        r = check_strings(f, o, "", "data", err);
    if (r == 0)
        r = check_b64(f, o, "binaryData", err, tmp);
    if (r < 0)
        return r;
    (void)kei_json_get(o, "metadata", &meta);
    kei_jw_kstr(w, "kind", "ConfigMap");
    kei_jw_kstr(w, "apiVersion", "v1");
    write_metadata(w, meta);
    static const char *const rest[] = {"data", "binaryData", "immutable"};
    for (size_t i = 0; i < 3; i++)
        if (kei_json_get(o, rest[i], &value) && kei_json_type(value) != 'n')
            kei_jw_kraw(w, rest[i], value);
    return 0;
}

static int do_pod(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                  struct ke_error *err)
{
    struct ke_str meta, spec;
    (void)tmp;
    int r = check_names(f, o, "", top_pod, err);
    if (r == 0)
        r = check_pod(f, o, err);
    if (r < 0)
        return r;
    (void)kei_json_get(o, "metadata", &meta);
    (void)kei_json_get(o, "spec", &spec);
    kei_jw_kstr(w, "kind", "Pod");
    kei_jw_kstr(w, "apiVersion", "v1");
    write_metadata(w, meta);
    kei_jw_key(w, "spec");
    write_spec(w, spec);
    kei_jw_key(w, "status");
    kei_jw_obj(w);
    kei_jw_kstr(w, "phase", "Pending");
    kei_jw_kstr(w, "qosClass", qos_class(spec));
    kei_jw_obj_end(w);
    return 0;
}

int kei_manifest_whole(struct ke_buf *out, const char **ret_type, struct ke_str o,
                       struct kei_field *f, struct ke_error *err)
{
    static const struct {
        const char *kind, *type;
        int (*make)(struct kei_jw *, struct ke_str, struct kei_field *, struct ke_buf *,
                    struct ke_error *);
    } kinds[] = {{"Pod", "pod", do_pod},
                 {"ConfigMap", "configmap", do_configmap},
                 {"Secret", "secret", do_secret}};
    struct ke_str kind, version;
    struct ke_buf tmp = {0};
    struct kei_jw w;
    char text[200];
    memset(f, 0, sizeof *f);
    if (kei_json_type(o) != '{')
        return bad(f, err, o, "document", "is not a map");
    if (!kei_json_get(o, "kind", &kind) || kei_json_type(kind) != '"')
        return bad(f, err, o, "kind", "is missing");
    if (!kei_json_get(o, "apiVersion", &version) || !kei_json_str_is(version, "v1"))
        return bad(f, err, version.p ? version : o, "apiVersion", "is not v1");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!kei_json_str_is(kind, kinds[i].kind))
            continue;
        kei_buf_init(&tmp, out->alloc);
        kei_jw_init(&w, out);
        kei_jw_obj(&w);
        int r = check_metadata(f, o, err);
        if (r == 0)
            r = kinds[i].make(&w, o, f, &tmp, err);
        kei_jw_obj_end(&w);
        ke_buf_free(&tmp);
        *ret_type = kinds[i].type;
        return r < 0 ? r : kei_buf_ok(out) ? 0 : kei_error(err, KE_ENOMEM, "out of memory");
    }
    snprintf(text, sizeof text, "%.*s is not known here; Pod, ConfigMap and Secret are",
             (int)(kind.n > 80 ? 80 : kind.n), kind.p);
    return bad(f, err, kind, "kind", text);
}
