/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata and labels of Kubernetes objects. Pure; strings go to the caller's arena; any thread. */
#include "base/codec.h"
#include "message/k8s.h"

static int read_string(const char **ret, struct ke_str meta, const char *key, struct kei_arena *a,
                       struct ke_error *err)
{
    struct ke_str v;
    char *s;

    *ret = "";
    if (!kei_json_get(meta, key, &v) || kei_json_type(v) == 'n')
        return 0;
    int r = kei_json_text(&s, v, a, err);
    if (r < 0)
        return kei_error_prefix(err, r, "metadata.%s of an object", key);
    *ret = s;
    return 0;
}

static int read_deletion(struct kei_meta *m, struct ke_str meta, struct ke_error *err)
{
    struct ke_str v;
    char text[KEI_TIME_MAX + 8];

    m->deletion_ms = 0;
    m->deletion_grace_s = -1;
    if (kei_json_get(meta, "deletionTimestamp", &v) && kei_json_type(v) != 'n') {
        size_t n = kei_json_copy(text, sizeof text, v);
        if (!kei_time_parse(kei_strn(text, n), &m->deletion_ms))
            return kei_error(err, KE_EPARSE,
                             "metadata.deletionTimestamp of object %s was no time: %.*s", m->name,
                             KEI_FMT(v));
        if (m->deletion_ms == 0)
            m->deletion_ms = 1; /* 1970 itself still means: being deleted */
    }
    if (kei_json_get(meta, "deletionGracePeriodSeconds", &v) && kei_json_type(v) != 'n' &&
        (!kei_json_i64(v, &m->deletion_grace_s) || m->deletion_grace_s < 0))
        return kei_error(
            err, KE_EPARSE,
            "metadata.deletionGracePeriodSeconds of object %s was no whole number from "
            "0: %.*s",
            m->name, KEI_FMT(v));
    return 0;
}

int kei_meta_read(struct kei_meta *m, struct ke_str object, struct kei_arena *a,
                  struct ke_error *err)
{
    struct ke_str meta;

    memset(m, 0, sizeof *m);
    if (!kei_json_get(object, "metadata", &meta) || kei_json_type(meta) != '{')
        return kei_error(err, KE_EPARSE, "object had no metadata");
    int r = read_string(&m->name, meta, "name", a, err);
    if (r == 0)
        r = read_string(&m->ns, meta, "namespace", a, err);
    if (r == 0)
        r = read_string(&m->uid, meta, "uid", a, err);
    if (r == 0)
        r = read_string(&m->resource_version, meta, "resourceVersion", a, err);
    if (r < 0)
        return r;
    if (!kei_str_i64(kei_str(m->resource_version), &m->version) || m->version < 0)
        m->version = 0;
    return read_deletion(m, meta, err);
}

bool kei_labels_match(struct ke_str labels, struct ke_str selector)
{
    struct ke_str key, want, k, v;
    size_t it = 0;

    while (kei_json_next(selector, &it, &key, &want)) {
        struct ke_str got = {NULL, 0};
        size_t lt = 0;
        while (kei_json_type(labels) == '{' && kei_json_next(labels, &lt, &k, &v)) {
            if (kei_json_key_eq(k, key))
                got = v;
        }
        if (!kei_json_str_eq(got, want))
            return false;
    }
    return true;
}
