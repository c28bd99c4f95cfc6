/* SPDX-License-Identifier: Apache-2.0 */
/* What files a volume holds. Pure; memory is the caller's arena. */
#include "pod/volume.h"

#include <stdlib.h>

#include "base/file.h"

struct planner {
    struct kei_vplan *p;
    const struct kei_podspec *s;
    const struct kei_objects *o;
    const struct kei_field_env *f;
    struct kei_arena *a;
    struct ke_error *err;
    size_t cap, bytes;
};

bool kei_pod_folder(char *out, size_t n, const char *data, const char *uid)
{
    char tmp[80];
    if (strlen(uid) > KEI_POD_UID_MAX)
        return false;
    memcpy(tmp, "pods/", 5);
    memcpy(tmp + 5, uid, strlen(uid) + 1);
    return kei_path_join(out, n, data, tmp);
}

static int no_memory(struct planner *l)
{
    return kei_error(l->err, KE_ENOMEM, "out of memory for volume %s", l->p->name);
}

static uint32_t mode_of(struct ke_str v, const char *key, uint32_t dflt)
{
    struct ke_str m;
    int64_t n;
    if (!kei_json_get(v, key, &m) || !kei_json_i64(m, &n) || n < 0 || n > 0777)
        return dflt;
    return (uint32_t)n;
}

static struct kei_vfile *next_file(struct planner *l)
{
    struct kei_vplan *p = l->p;
    if (p->n_files == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct kei_vfile *v = kei_arena_array(l->a, cap, sizeof *v);
        if (!v)
            return NULL;
        if (p->n_files)
            memcpy(v, p->files, p->n_files * sizeof *v);
        p->files = v;
        l->cap = cap;
    }
    return &p->files[p->n_files++];
}

static int add_file(struct planner *l, const char *path, struct ke_str data, uint32_t mode,
                    const char *keep)
{
    if (!kei_path_inside(path))
        return kei_error(l->err, KE_EINVAL, "volume %s: \"%s\" is no path inside it", l->p->name,
                         path);
    if (l->p->n_files >= KEI_VOLUME_FILES_MAX)
        return kei_error(l->err, KE_ELIMIT, "volume %s has more files than the limit of %d",
                         l->p->name, KEI_VOLUME_FILES_MAX);
    l->bytes += data.n;
    if (l->bytes > KEI_VOLUME_BYTES_MAX)
        return kei_error(l->err, KE_ELIMIT, "volume %s has more bytes than the limit of %u",
                         l->p->name, KEI_VOLUME_BYTES_MAX);
    struct kei_vfile *f = next_file(l);
    if (!f)
        return no_memory(l);
    *f = (struct kei_vfile){path, data.p, data.n, mode, keep, l->p->n_files};
    return 0;
}

static int add_key(struct planner *l, const struct kei_object *o, const char *key, const char *path,
                   uint32_t mode)
{
    struct ke_buf b;
    kei_buf_init(&b, l->a->alloc);
    int r = kei_object_value(&b, o, key, true, l->err);
    char *copy = r == 0 && kei_buf_ok(&b) ? kei_arena_alloc(l->a, b.n + 1) : NULL;
    if (copy && b.n)
        memcpy(copy, b.p, b.n);
    size_t n = b.n;
    ke_buf_free(&b);
    if (r < 0)
        return r;
    return copy ? add_file(l, path, kei_strn(copy, n), mode, NULL) : no_memory(l);
}

static int add_items(struct planner *l, const struct kei_object *o, struct ke_str list,
                     uint32_t mode, bool optional)
{
    struct ke_str item;
    for (size_t it = 0; kei_json_next(list, &it, NULL, &item);) {
        const char *key, *path;
        int r = kei_spec_str(&key, item, "key", l->a, l->err);
        if (r == 0)
            r = kei_spec_str(&path, item, "path", l->a, l->err);
        if (r == 0)
            r = add_key(l, o, key, path, mode_of(item, "mode", mode));
        if (r == KE_ENOTFOUND && optional)
            continue;
        if (r == KE_ENOTFOUND)
            return kei_error(l->err, r, "references non-existent %s key: %s",
                             !strcmp(o->type, "secret") ? "secret" : "config", key);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_all(struct planner *l, const struct kei_object *o, uint32_t mode)
{
    struct ke_str raw;
    for (size_t it = 0; kei_object_next(o, &it, true, &raw);) {
        char *key;
        int r = kei_json_text(&key, kei_strn(raw.p - 1, raw.n + 2), l->a, l->err);
        if (r < 0)
            return kei_error_prefix(l->err, r, "a key of %s %s", o->type, o->name);
        if (strchr(key, '/'))
            return kei_error(l->err, KE_EINVAL, "volume %s: \"%s\" is no key", l->p->name, key);
        r = add_key(l, o, key, key, mode);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_object(struct planner *l, const char *type, struct ke_str source, const char *key,
                      uint32_t mode)
{
    struct ke_str v;
    const char *name;
    int r = kei_spec_str(&name, source, key, l->a, l->err);
    if (r < 0)
        return r;
    bool optional = kei_json_get(source, "optional", &v) && kei_json_bool(v, false);
    struct kei_object *o = kei_objects_find(l->o, type, name);
    if (!o || o->status == KE_ENOTFOUND)
        return optional ? 0 : kei_error(l->err, KE_ENOTFOUND, "%s \"%s\" not found", type, name);
    if (o->status < 0)
        return kei_error(l->err, o->status, "%s \"%s\" is not known yet: %s", type, name, o->why);
    if (kei_object_index(o, l->a) < 0)
        return no_memory(l);
    if (kei_json_get(source, "items", &v) && kei_json_type(v) == '[' && v.n > 2)
        return add_items(l, o, v, mode, optional);
    return add_all(l, o, mode);
}

static int add_downward(struct planner *l, struct ke_str source, uint32_t mode)
{
    struct ke_str list, item, ref;
    int r = 0;
    if (!kei_json_get(source, "items", &list))
        return 0;
    for (size_t it = 0; r == 0 && kei_json_next(list, &it, NULL, &item);) {
        struct ke_buf b;
        const char *path, *field;
        kei_buf_init(&b, l->a->alloc);
        r = kei_spec_str(&path, item, "path", l->a, l->err);
        if (r == 0 && kei_json_get(item, "fieldRef", &ref)) {
            r = kei_spec_str(&field, ref, "fieldPath", l->a, l->err);
            if (r == 0)
                r = kei_field_value(&b, l->s, field, l->f, l->err);
        } else if (r == 0 && kei_json_get(item, "resourceFieldRef", &ref))
            r = kei_resource_value(&b, l->s, NULL, ref, l->err);
        char *copy = r == 0 && kei_buf_ok(&b) ? kei_arena_strdup(l->a, kei_buf_str(&b)) : NULL;
        size_t n = b.n;
        ke_buf_free(&b);
        if (r == 0)
            r = copy ? add_file(l, path, kei_strn(copy, n), mode_of(item, "mode", mode), NULL)
                     : no_memory(l);
    }
    return r;
}

static int add_token(struct planner *l, struct ke_str source, uint32_t mode)
{
    const struct kei_object *o = kei_objects_token(l->o, source);
    const char *path;
    struct ke_str token;
    int64_t expires = 0;
    int r = kei_spec_str(&path, source, "path", l->a, l->err);
    if (r < 0)
        return r;
    if (!o || o->status < 0)
        return add_file(l, path, kei_strn("", 0), mode, o && *o->why ? o->why : "no token");
    if (!kei_token_read(o->text, &token, &expires))
        return add_file(l, path, kei_strn("", 0), mode, "the answer of the cloud held no token");
    const char *copy = kei_json_strdup(token, l->a);
    if (!copy)
        return no_memory(l);
    if (expires && (!l->p->token_expires_ms || expires < l->p->token_expires_ms))
        l->p->token_expires_ms = expires;
    return add_file(l, path, kei_str(copy), mode, NULL);
}

static int add_sources(struct planner *l, struct ke_str source, uint32_t mode)
{
    struct ke_str list, v, x;
    int r = 0;
    if (!kei_json_get(source, "sources", &list))
        return 0;
    for (size_t it = 0; r == 0 && kei_json_next(list, &it, NULL, &v);) {
        if (kei_json_get(v, "configMap", &x))
            r = add_object(l, "configmap", x, "name", mode);
        else if (kei_json_get(v, "secret", &x))
            r = add_object(l, "secret", x, "name", mode);
        else if (kei_json_get(v, "downwardAPI", &x))
            r = add_downward(l, x, mode);
        else if (kei_json_get(v, "serviceAccountToken", &x))
            r = add_token(l, x, mode);
        else
            r = kei_error(l->err, KE_ENOTSUP,
                          "volume %s: a projected source of this kind is not "
                          "supported",
                          l->p->name);
    }
    return r;
}

static int plan_host_path(struct planner *l, struct ke_str source)
{
    int r = kei_spec_str(&l->p->path, source, "path", l->a, l->err);
    if (r == 0)
        r = kei_spec_str(&l->p->host_type, source, "type", l->a, l->err);
    if (r < 0)
        return r;
    if (!kei_path_plain(l->p->path))
        return kei_error(l->err, KE_EINVAL,
                         "volume %s: hostPath \"%s\" must be absolute and without \"..\"",
                         l->p->name, l->p->path);
    return 0;
}

/* Kubelet's folder names, which people know. */
static const char *plugin(enum kei_volume_kind kind)
{
    static const char *const names[] = {"kubernetes.io~empty-dir", "kubernetes.io~configmap",
                                        "kubernetes.io~secret", "kubernetes.io~projected",
                                        "kubernetes.io~downward-api"};
    return kind <= KEI_VOL_DOWNWARD_API ? names[kind] : "other";
}

static int plan_folder(struct planner *l, const struct kei_vconfig *conf)
{
    char base[4096];
    if (!kei_pod_folder(base, sizeof base, conf->data, l->s->meta.uid))
        return kei_error(l->err, KE_EINVAL, "the data folder's path is too long");
    l->p->path = kei_arena_printf(l->a, "%s/volumes/%s/%s", base, plugin(l->p->kind), l->p->name);
    return l->p->path ? 0 : no_memory(l);
}

size_t kei_vfile_known(const struct kei_vplan *p, size_t i)
{
    const char *path = p->files[i].path, *before = i ? p->files[i - 1].path : "";
    size_t known = 0;
    for (size_t k = 0; path[k] && path[k] == before[k]; k++) {
        if (path[k] == '/')
            known = k + 1;
    }
    return known;
}

static int by_path(const void *a, const void *b)
{
    const struct kei_vfile *x = a, *y = b;
    int r = strcmp(x->path, y->path);
    return r ? r : (x->order > y->order) - (x->order < y->order);
}

/* A later source of a projected volume replaces the file of an earlier one. */
static int sort_files(struct planner *l)
{
    struct kei_vplan *p = l->p;
    size_t n = 0, folders = 0;
    if (p->n_files)
        qsort(p->files, p->n_files, sizeof *p->files, by_path);
    for (size_t i = 0; i < p->n_files; i++) {
        if (i + 1 == p->n_files || strcmp(p->files[i].path, p->files[i + 1].path) != 0)
            p->files[n++] = p->files[i];
    }
    p->n_files = n;
    for (size_t i = 0; i < n; i++) {
        const char *at = p->files[i].path + kei_vfile_known(p, i);
        while ((at = strchr(at, '/'))) {
            folders++;
            at++;
        }
    }
    if (folders > KEI_VOLUME_FILES_MAX)
        return kei_error(l->err, KE_ELIMIT, "volume %s has more folders than the limit of %d",
                         p->name, KEI_VOLUME_FILES_MAX);
    return 0;
}

int kei_volume_plan(struct kei_vplan *p, const struct kei_podspec *s,
                    const struct kei_spec_volume *v, const struct kei_objects *o,
                    const struct kei_field_env *f, const struct kei_vconfig *conf,
                    struct kei_arena *a, struct ke_error *err)
{
    struct planner l = {p, s, o, f, a, err, 0, 0};
    *p =
        (struct kei_vplan){.name = v->name, .kind = v->kind, .host_type = "", .conf = conf, .a = a};
    int r = v->kind == KEI_VOL_HOST_PATH ? plan_host_path(&l, v->source) : plan_folder(&l, conf);
    uint32_t mode = mode_of(v->source, "defaultMode", 0644);
    if (r < 0)
        return r;
    switch (v->kind) {
    case KEI_VOL_CONFIG_MAP:
        r = add_object(&l, "configmap", v->source, "name", mode);
        break;
    case KEI_VOL_SECRET:
        r = add_object(&l, "secret", v->source, "secretName", mode);
        break;
    case KEI_VOL_PROJECTED:
        r = add_sources(&l, v->source, mode);
        break;
    case KEI_VOL_DOWNWARD_API:
        r = add_downward(&l, v->source, mode);
        break;
    case KEI_VOL_EMPTY_DIR:
    case KEI_VOL_HOST_PATH:
        return 0;
    case KEI_VOL_OTHER:
        return kei_error(err, KE_ENOTSUP, "volume %s is of a kind that is not supported", v->name);
    }
    return r < 0 ? r : sort_files(&l);
}

static const struct kei_vplan *plan_named(const struct kei_vplan *plans, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(plans[i].name, name))
            return &plans[i];
    }
    return NULL;
}

static int one_mount(struct ke_mount *m, struct ke_str json, const struct kei_vplan *plans,
                     size_t n_plans, struct kei_arena *a, struct ke_error *err)
{
    struct ke_str v;
    const char *name, *sub;
    int r = kei_spec_str(&name, json, "name", a, err);
    if (r == 0)
        r = kei_spec_str(&sub, json, "subPath", a, err);
    if (r == 0)
        r = kei_spec_str(&m->container_path, json, "mountPath", a, err);
    if (r < 0)
        return r;
    const struct kei_vplan *p = plan_named(plans, n_plans, name);
    if (!p)
        return kei_error(err, KE_EINVAL, "a volume mount names volume \"%s\", which there is not",
                         name);
    if (!kei_path_plain(m->container_path) || !m->container_path[1])
        return kei_error(err, KE_EINVAL, "volume %s: mountPath \"%s\" is not usable", name,
                         m->container_path);
    if (*sub && !kei_path_inside(sub))
        return kei_error(err, KE_EINVAL, "volume %s: subPath \"%s\" is not inside it", name, sub);
    m->volume = p->name;
    m->host_path = *sub ? kei_arena_printf(a, "%s/%s", p->path, sub) : p->path;
    if (!m->host_path)
        return kei_error(err, KE_ENOMEM, "out of memory for the mount of volume %s", name);
    bool files = p->kind != KEI_VOL_EMPTY_DIR && p->kind != KEI_VOL_HOST_PATH;
    if (files || (kei_json_get(json, "readOnly", &v) && kei_json_bool(v, false)))
        m->flags |= KE_MOUNT_READ_ONLY;
    return 0;
}

int kei_volume_mounts(struct ke_mount **ret, uint32_t *ret_n, const struct kei_spec_container *c,
                      const struct kei_vplan *plans, size_t n_plans, struct kei_arena *a,
                      struct ke_error *err)
{
    struct ke_str list = {NULL, 0}, v;
    size_t n = 0, k = 0;
    if (kei_json_get(c->json, "volumeMounts", &list)) {
        for (size_t it = 0; kei_json_next(list, &it, NULL, NULL);)
            n++;
    }
    if (n > KEI_POD_VOLUMES_MAX)
        return kei_error(err, KE_ELIMIT, "container %s has %zu volume mounts; the limit is %d",
                         c->name, n, KEI_POD_VOLUMES_MAX);
    struct ke_mount *m = n ? kei_arena_array(a, n, sizeof *m) : NULL;
    if (n && !m)
        return kei_error(err, KE_ENOMEM, "out of memory for the mounts of container %s", c->name);
    for (size_t it = 0; k < n && kei_json_next(list, &it, NULL, &v); k++) {
        int r = one_mount(&m[k], v, plans, n_plans, a, err);
        if (r < 0)
            return r;
    }
    *ret = m;
    *ret_n = (uint32_t)k;
    return 0;
}
