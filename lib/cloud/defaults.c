/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest made whole, as an API server would: checked, defaults filled in, stringData encoded.
 * What is not touched stays byte for byte. Pure; also runs on the disk worker.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "cloud/manifest.h"
#include "message/k8s.h"

/* A member as it stands in the source, key and value. */
static void copy_member(struct kei_jw *w, struct ke_str key, struct ke_str value)
{
    if (w->comma)
        kei_buf_addc(w->out, ',');
    kei_buf_add(w->out, key.p - 1, (size_t)(value.p + value.n - key.p) + 1);
    w->comma = true;
}

static bool is_one_of(struct ke_str key, const char *const *names)
{
    for (; names && *names; names++)
        if (kei_json_key_is(key, *names))
            return true;
    return false;
}

struct dflt {
    const char *key, *json;
};

/* The members of object, without nulls and those to be skipped; then the defaults that are absent.
 */
static void with_defaults(struct kei_jw *w, struct ke_str object, const struct dflt *d, size_t n,
                          const char *const *skip)
{
    struct ke_str key, value;
    for (size_t it = 0; kei_json_next(object, &it, &key, &value);)
        if (kei_json_type(value) != 'n' && !is_one_of(key, skip))
            copy_member(w, key, value);
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
    static const char *const moded[] = {"configMap", "secret", "projected", "downwardAPI", NULL};
    struct ke_str key, value;
    kei_jw_obj(w);
    for (size_t it = 0; kei_json_next(v, &it, &key, &value);) {
        bool path = kei_json_key_is(key, "hostPath");
        if ((!path && !is_one_of(key, moded)) || kei_json_type(value) != '{') {
            copy_member(w, key, value);
            continue;
        }
        copy_member(w, key, kei_strn(value.p, 0)); /* "key": and what stands between */
        w->comma = false;
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
    static const char *const lists[] = {"volumes", "containers", "initContainers", NULL};
    kei_jw_obj(w);
    for (size_t i = 0; lists[i]; i++)
        write_each(w, spec, lists[i], i == 0 ? write_volume : write_container);
    with_defaults(w, spec, d, sizeof d / sizeof d[0], lists);
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

static void write_head(struct kei_jw *w, struct ke_str o, const char *kind)
{
    static const struct dflt d[] = {{"namespace", "\"default\""}};
    struct ke_str meta = {0};
    (void)kei_json_get(o, "metadata", &meta);
    kei_jw_kstr(w, "kind", kind);
    kei_jw_kstr(w, "apiVersion", "v1");
    kei_jw_key(w, "metadata");
    kei_jw_obj(w);
    with_defaults(w, meta, d, 1, NULL);
    kei_jw_obj_end(w);
}

/* ---- the kinds ---- */

static int do_pod(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                  struct ke_error *err)
{
    struct ke_str spec;
    (void)tmp;
    int r = kei_check_pod(f, o, err);
    if (r < 0)
        return r;
    (void)kei_json_get(o, "spec", &spec);
    write_head(w, o, "Pod");
    kei_jw_key(w, "spec");
    write_spec(w, spec);
    kei_jw_key(w, "status");
    kei_jw_obj(w);
    kei_jw_kstr(w, "phase", "Pending");
    kei_jw_kstr(w, "qosClass", qos_class(spec));
    kei_jw_obj_end(w);
    return 0;
}

static int do_configmap(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                        struct ke_error *err)
{
    static const char *const rest[] = {"data", "binaryData", "immutable"};
    struct ke_str value;
    int r = kei_check_configmap(f, o, tmp, err);
    if (r < 0)
        return r;
    write_head(w, o, "ConfigMap");
    for (size_t i = 0; i < 3; i++)
        if (kei_json_get(o, rest[i], &value) && kei_json_type(value) != 'n')
            kei_jw_kraw(w, rest[i], value);
    return 0;
}

static bool has_member(struct ke_str object, struct ke_str raw_key)
{
    struct ke_str key, value;
    for (size_t it = 0; kei_json_next(object, &it, &key, &value);)
        if (kei_json_key_eq(key, raw_key))
            return true;
    return false;
}

/* data, and stringData encoded, which wins where both have a key */
static int write_secret_data(struct kei_jw *w, struct ke_str secret, struct ke_buf *tmp,
                             struct ke_error *err)
{
    struct ke_str plain = {0}, data = {0}, key, value;
    struct ke_buf text = {0};
    int r = 0;
    kei_buf_init(&text, tmp->alloc);
    (void)kei_json_get(secret, "stringData", &plain);
    (void)kei_json_get(secret, "data", &data);
    kei_jw_key(w, "data");
    kei_jw_obj(w);
    for (size_t it = 0; r == 0 && kei_json_next(plain, &it, &key, &value);) {
        kei_buf_clear(&text);
        kei_buf_clear(tmp);
        r = kei_json_str(value, &text, err);
        kei_b64_encode(tmp, text.p, text.n);
        if (r == 0 && (!kei_buf_ok(&text) || !kei_buf_ok(tmp)))
            r = kei_error(err, KE_ENOMEM, "out of memory");
        copy_member(w, key, kei_strn(value.p, 0));
        w->comma = false;
        kei_jw_strv(w, kei_buf_str(tmp));
    }
    for (size_t it = 0; r == 0 && kei_json_next(data, &it, &key, &value);)
        if (!has_member(plain, key))
            copy_member(w, key, value);
    kei_jw_obj_end(w);
    ke_buf_free(&text);
    return r;
}

static int do_secret(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                     struct ke_error *err)
{
    struct ke_str value;
    int r = kei_check_secret(f, o, tmp, err);
    if (r < 0)
        return r;
    write_head(w, o, "Secret");
    r = write_secret_data(w, o, tmp, err);
    if (kei_json_get(o, "type", &value) && kei_json_type(value) != 'n')
        kei_jw_kraw(w, "type", value);
    else
        kei_jw_kstr(w, "type", "Opaque");
    if (kei_json_get(o, "immutable", &value) && kei_json_type(value) != 'n')
        kei_jw_kraw(w, "immutable", value);
    return r;
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
                 {"Secret", "secret", do_secret},
                 {"DeviceModel", "devicemodel", kei_manifest_devicemodel},
                 {"Device", "device", kei_manifest_device}};
    struct ke_str kind = {0}, version = {0};
    struct ke_buf tmp = {0};
    struct kei_jw w;
    char text[200];
    memset(f, 0, sizeof *f);
    if (kei_json_type(o) != '{')
        return kei_field_bad(f, err, o, "document", "is not a map");
    if (!kei_json_get(o, "kind", &kind) || kei_json_type(kind) != '"')
        return kei_field_bad(f, err, kind.p ? kind : o, "kind", "is missing");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!kei_json_str_is(kind, kinds[i].kind))
            continue;
        bool core = strncmp(kinds[i].type, "device", 6) != 0; /* the others look by themselves */
        if (core && (!kei_json_get(o, "apiVersion", &version) || !kei_json_str_is(version, "v1")))
            return kei_field_bad(f, err, version.p ? version : o, "apiVersion", "is not v1");
        kei_buf_init(&tmp, out->alloc);
        kei_jw_init(&w, out);
        kei_jw_obj(&w);
        int r = kei_check_metadata(f, o, err);
        if (r == 0)
            r = kinds[i].make(&w, o, f, &tmp, err);
        kei_jw_obj_end(&w);
        ke_buf_free(&tmp);
        *ret_type = kinds[i].type;
        return r < 0 ? r : kei_buf_ok(out) ? 0 : kei_error(err, KE_ENOMEM, "out of memory");
    }
    snprintf(text, sizeof text,
             "%.*s is not known here; Pod, ConfigMap, Secret, Device and DeviceModel are",
             (int)(kind.n > 80 ? 80 : kind.n), kind.p);
    return kei_field_bad(f, err, kind, "kind", text);
}
