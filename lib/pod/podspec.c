/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a Pod object. Pure; memory is the caller's arena. */
#include "pod/podspec.h"

bool kei_pod_uid_valid(struct ke_str s)
{
    if (s.n == 0 || s.n > KEI_POD_UID_MAX || s.p[0] == '-')
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool ok =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

static bool parts_plain(const char *s)
{
    struct ke_str rest = kei_str(s);
    while (rest.p) {
        struct ke_str part = kei_str_cut(rest, '/', &rest);
        if (part.n > 255 || kei_str_is(part, ".") || kei_str_is(part, ".."))
            return false;
    }
    return true;
}

bool kei_path_plain(const char *s)
{
    size_t n = strlen(s);
    return s[0] == '/' && n < 4096 && kei_utf8_valid(kei_strn(s, n)) && parts_plain(s);
}

bool kei_path_inside(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n >= 4096 || s[0] == '/' || s[n - 1] == '/' || !strncmp(s, "..", 2))
        return false;
    for (size_t i = 1; i < n; i++) {
        if (s[i] == '/' && s[i - 1] == '/')
            return false;
    }
    return kei_utf8_valid(kei_strn(s, n)) && parts_plain(s);
}

const char *kei_podspec_str(struct kei_podspec *s, struct ke_str v, const char *key,
                            struct kei_arena *a)
{
    struct ke_str span;
    if (!kei_json_get(v, key, &span) || kei_json_type(span) != '"')
        return "";
    const char *text = kei_json_strdup(span, a);
    if (!text)
        s->damaged = true;
    return text ? text : "";
}

int kei_spec_str(const char **ret, struct ke_str v, const char *key, struct kei_arena *a,
                 struct ke_error *err)
{
    struct ke_str span;
    char *text;
    *ret = "";
    if (!kei_json_get(v, key, &span) || kei_json_type(span) != '"')
        return 0;
    int r = kei_json_text(&text, span, a, err);
    if (r < 0)
        return kei_error_prefix(err, r, "%s of a pod", key);
    *ret = text;
    return 0;
}

static size_t items(struct ke_str parent, const char *key, struct ke_str *ret)
{
    size_t it = 0, n = 0;
    if (!kei_json_get(parent, key, ret) || kei_json_type(*ret) != '[') {
        *ret = kei_strn(NULL, 0);
        return 0;
    }
    while (kei_json_next(*ret, &it, NULL, NULL))
        n++;
    return n;
}

static bool present(struct ke_str parent, const char *key)
{
    struct ke_str v;
    return kei_json_get(parent, key, &v) && kei_json_type(v) != 'n';
}

static int64_t number(struct ke_str parent, const char *key, int64_t dflt)
{
    struct ke_str v;
    int64_t n;
    return kei_json_get(parent, key, &v) && kei_json_i64(v, &n) ? n : dflt;
}

static bool flag(struct ke_str parent, const char *key)
{
    struct ke_str v;
    return kei_json_get(parent, key, &v) && kei_json_bool(v, false);
}

/* The first thing that is refused is the one told. */
static void refuse(struct kei_podspec *s, struct kei_arena *a, const char *reason, const char *what,
                   const char *name, const char *more)
{
    if (s->refused_reason)
        return;
    s->refused_reason = reason;
    s->refused_message =
        kei_arena_printf(a, "%s %s: %s is not supported by this node", what, name, more);
    if (!s->refused_message)
        s->refused_message = "not supported by this node";
}

static void refuse_mounts(struct kei_podspec *s, const struct kei_spec_container *c,
                          struct kei_arena *a)
{
    struct ke_str list, m;
    items(c->json, "volumeMounts", &list);
    for (size_t it = 0; kei_json_next(list, &it, NULL, &m);) {
        const char *volume = kei_podspec_str(s, m, "name", a);
        const char *sub = kei_podspec_str(s, m, "subPath", a);
        const char *propagation = kei_podspec_str(s, m, "mountPropagation", a);
        const struct kei_spec_volume *v = kei_podspec_volume(s, volume);
        if (*kei_podspec_str(s, m, "subPathExpr", a))
            refuse(s, a, "UnsupportedSubPath", "container", c->name, "subPathExpr");
        /* in folders others write to, a link could lead the path out of the volume */
        if (*sub && v && (v->kind == KEI_VOL_EMPTY_DIR || v->kind == KEI_VOL_HOST_PATH))
            refuse(s, a, "UnsupportedSubPath", "container", c->name,
                   "subPath of an emptyDir or hostPath volume");
        if (!strcmp(propagation, "Bidirectional"))
            refuse(s, a, "UnsupportedMountPropagation", "container", c->name,
                   "mountPropagation Bidirectional");
    }
}

static void refuse_container(struct kei_podspec *s, const struct kei_spec_container *c,
                             struct kei_arena *a)
{
    static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};
    static const char *const hooks[] = {"postStart", "preStop"};
    struct ke_str life, list;
    for (size_t i = 0; i < 3; i++) {
        if (present(c->json, probes[i]))
            refuse(s, a, "UnsupportedProbe", "container", c->name, probes[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        if (kei_json_get(c->json, "lifecycle", &life) && present(life, hooks[i]))
            refuse(s, a, "UnsupportedLifecycleHook", "container", c->name, hooks[i]);
    }
    if (items(c->json, "volumeDevices", &list) > 0)
        refuse(s, a, "UnsupportedVolume", "container", c->name, "volumeDevices");
    refuse_mounts(s, c, a);
}

static int read_container(struct kei_podspec *s, struct kei_spec_container *c, struct ke_str json,
                          struct kei_arena *a, struct ke_error *err)
{
    c->json = json;
    c->name = kei_podspec_str(s, json, "name", a);
    c->image = kei_podspec_str(s, json, "image", a);
    c->pull_policy = kei_podspec_str(s, json, "imagePullPolicy", a);
    if (!kei_dns_label(kei_str(c->name)))
        return kei_error(err, KE_EINVAL, "pod %s/%s: \"%s\" is no container name", s->meta.ns,
                         s->meta.name, c->name);
    for (const struct kei_spec_container *o = s->containers; o < c; o++) {
        if (!strcmp(o->name, c->name))
            return kei_error(err, KE_EINVAL, "pod %s/%s: container %s occurs twice", s->meta.ns,
                             s->meta.name, c->name);
    }
    return 0;
}

static int read_containers(struct kei_podspec *s, struct kei_arena *a, struct ke_error *err)
{
    struct ke_str list, v;
    size_t n = items(s->spec, "containers", &list);
    if (n == 0)
        return kei_error(err, KE_EINVAL, "pod %s/%s has no container", s->meta.ns, s->meta.name);
    if (n > KEI_POD_CONTAINERS_MAX)
        return kei_error(err, KE_ELIMIT, "pod %s/%s has %zu containers; the limit is %d",
                         s->meta.ns, s->meta.name, n, KEI_POD_CONTAINERS_MAX);
    s->containers = kei_arena_array(a, n, sizeof *s->containers);
    if (!s->containers)
        return kei_error(err, KE_ENOMEM, "out of memory for pod %s/%s", s->meta.ns, s->meta.name);
    for (size_t it = 0; kei_json_next(list, &it, NULL, &v); s->n_containers++) {
        int r = read_container(s, &s->containers[s->n_containers], v, a, err);
        if (r < 0)
            return r;
    }
    /* added to a running pod by the API only; the pod itself goes on */
    n = items(s->spec, "ephemeralContainers", &list);
    if (n > 0 && n <= KEI_POD_CONTAINERS_MAX)
        s->ephemeral = kei_arena_array(a, n, sizeof *s->ephemeral);
    if (s->ephemeral) {
        for (size_t it = 0; kei_json_next(list, &it, NULL, &v); s->n_ephemeral++) {
            s->ephemeral[s->n_ephemeral].name = kei_podspec_str(s, v, "name", a);
            s->ephemeral[s->n_ephemeral].image = kei_podspec_str(s, v, "image", a);
        }
    }
    if (items(s->spec, "initContainers", &list) > 0) {
        kei_json_next(list, &(size_t){0}, NULL, &v);
        refuse(s, a, "UnsupportedInitContainers", "init container",
               kei_podspec_str(s, v, "name", a), "initContainers");
    }
    return 0;
}

static void read_volume(struct kei_podspec *s, struct kei_spec_volume *v, struct ke_str json,
                        struct kei_arena *a)
{
    static const struct {
        const char *key;
        enum kei_volume_kind kind;
    } kinds[] = {
        {"emptyDir", KEI_VOL_EMPTY_DIR},
        {"configMap", KEI_VOL_CONFIG_MAP},
        {"secret", KEI_VOL_SECRET},
        {"projected", KEI_VOL_PROJECTED},
        {"downwardAPI", KEI_VOL_DOWNWARD_API},
        {"hostPath", KEI_VOL_HOST_PATH},
    };
    v->kind = KEI_VOL_OTHER;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kei_json_get(json, kinds[i].key, &v->source) && kei_json_type(v->source) == '{') {
            v->kind = kinds[i].kind;
            break;
        }
    }
    if (v->kind == KEI_VOL_OTHER) {
        struct ke_str key, value;
        const char *what = "this kind of volume";
        for (size_t it = 0; kei_json_next(json, &it, &key, &value);) {
            if (!kei_json_key_is(key, "name") && kei_json_type(value) == '{')
                what = kei_arena_strdup(a, key);
        }
        refuse(s, a, "UnsupportedVolume", "volume", v->name, what ? what : "this kind of volume");
    }
    if (v->kind == KEI_VOL_EMPTY_DIR &&
        !strncmp(kei_podspec_str(s, v->source, "medium", a), "HugePages", 9))
        refuse(s, a, "UnsupportedVolume", "volume", v->name, "emptyDir of medium HugePages");
}

static int read_volumes(struct kei_podspec *s, struct kei_arena *a, struct ke_error *err)
{
    struct ke_str list, v;
    size_t n = items(s->spec, "volumes", &list);
    if (n > KEI_POD_VOLUMES_MAX)
        return kei_error(err, KE_ELIMIT, "pod %s/%s has %zu volumes; the limit is %d", s->meta.ns,
                         s->meta.name, n, KEI_POD_VOLUMES_MAX);
    s->volumes = n ? kei_arena_array(a, n, sizeof *s->volumes) : NULL;
    if (n && !s->volumes)
        return kei_error(err, KE_ENOMEM, "out of memory for pod %s/%s", s->meta.ns, s->meta.name);
    for (size_t it = 0; kei_json_next(list, &it, NULL, &v); s->n_volumes++) {
        const char *name = kei_podspec_str(s, v, "name", a);
        if (!kei_dns_label(kei_str(name)))
            return kei_error(err, KE_EINVAL, "pod %s/%s: \"%s\" is no volume name", s->meta.ns,
                             s->meta.name, name);
        if (kei_podspec_volume(s, name))
            return kei_error(err, KE_EINVAL, "pod %s/%s: volume %s occurs twice", s->meta.ns,
                             s->meta.name, name);
        s->volumes[s->n_volumes].name = name;
        read_volume(s, &s->volumes[s->n_volumes], v, a);
    }
    return 0;
}

const struct kei_spec_volume *kei_podspec_volume(const struct kei_podspec *s, const char *name)
{
    for (size_t i = 0; i < s->n_volumes; i++) {
        if (!strcmp(s->volumes[i].name, name))
            return &s->volumes[i];
    }
    return NULL;
}

static int read_meta(struct kei_podspec *s, struct kei_arena *a, struct ke_error *err)
{
    int r = kei_meta_read(&s->meta, s->json, a, err);
    if (r < 0)
        return r;
    if (!kei_dns_label(kei_str(s->meta.ns)) || !kei_dns_subdomain(kei_str(s->meta.name)))
        return kei_error(err, KE_EINVAL, "\"%s/%s\" is no name of a pod", s->meta.ns, s->meta.name);
    if (!kei_pod_uid_valid(kei_str(s->meta.uid)))
        return kei_error(err, KE_EINVAL, "pod %s/%s: uid \"%s\" is not usable", s->meta.ns,
                         s->meta.name, s->meta.uid);
    return 0;
}

static int read_spec(struct kei_podspec *s, struct kei_arena *a, struct ke_error *err)
{
    const char *policy = kei_podspec_str(s, s->spec, "restartPolicy", a);
    s->restart = !strcmp(policy, "Never")       ? KEI_RESTART_NEVER
                 : !strcmp(policy, "OnFailure") ? KEI_RESTART_ON_FAILURE
                                                : KEI_RESTART_ALWAYS;
    s->node_name = kei_podspec_str(s, s->spec, "nodeName", a);
    s->service_account = kei_podspec_str(s, s->spec, "serviceAccountName", a);
    s->hostname = kei_podspec_str(s, s->spec, "hostname", a);
    if (!*s->hostname)
        s->hostname = s->meta.name;
    if (strlen(s->hostname) > 63)
        s->hostname = kei_arena_strdup(a, kei_strn(s->hostname, 63));
    s->grace_s = number(s->spec, "terminationGracePeriodSeconds", 30);
    s->active_deadline_s = number(s->spec, "activeDeadlineSeconds", 0);
    s->host_network = flag(s->spec, "hostNetwork");
    int r = s->hostname ? read_volumes(s, a, err)
                        : kei_error(err, KE_ENOMEM, "out of memory for pod %s", s->meta.name);
    if (r == 0)
        r = read_containers(s, a, err);
    for (size_t i = 0; r == 0 && i < s->n_containers; i++)
        refuse_container(s, &s->containers[i], a);
    if (r == 0 && s->damaged)
        return kei_error(err, KE_ENOMEM, "pod %s/%s: a string of it could not be read", s->meta.ns,
                         s->meta.name);
    return r;
}

int kei_podspec_read(struct kei_podspec *s, struct ke_str pod, struct kei_arena *a,
                     struct ke_error *err)
{
    memset(s, 0, sizeof *s);
    s->node_name = s->service_account = s->hostname = "";
    int r = kei_json_value(pod, 0, &s->json, err);
    if (r < 0)
        return r;
    if (kei_json_type(s->json) != '{')
        return kei_error(err, KE_EPARSE, "a pod must be a JSON object");
    r = read_meta(s, a, err);
    if (r < 0)
        return r;
    if (!kei_json_get(s->json, "status", &s->status) || kei_json_type(s->status) != '{')
        s->status = kei_strn(NULL, 0);
    struct ke_str list;
    if (!kei_json_get(s->json, "spec", &s->spec) || items(s->spec, "containers", &list) == 0) {
        s->spec = kei_strn(NULL, 0);
        return 0;
    }
    s->has_spec = true;
    return read_spec(s, a, err);
}
