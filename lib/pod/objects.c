/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod refers to, and values out of it. Pure; memory is the caller's arena or buffer. */
#include "pod/objects.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/codec.h"

/* ---- collecting ---- */

struct collector {
    struct kei_objects *o;
    const struct kei_podspec *s;
    struct kei_arena *a;
    struct ke_error *err;
    int r;
};

struct kei_object *kei_objects_find(const struct kei_objects *o, const char *type, const char *name)
{
    for (size_t i = 0; i < o->n; i++) {
        if (!o->v[i].source.p && !strcmp(o->v[i].type, type) && !strcmp(o->v[i].name, name))
            return &o->v[i];
    }
    return NULL;
}

struct kei_object *kei_objects_token(const struct kei_objects *o, struct ke_str source)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->v[i].source.p == source.p && source.p)
            return &o->v[i];
    }
    return NULL;
}

static void add(struct collector *c, const char *type, const char *name, struct ke_str source)
{
    if (c->r < 0 || (!source.p && kei_objects_find(c->o, type, name)))
        return;
    if (!kei_dns_subdomain(kei_str(name))) {
        c->r = kei_error(c->err, KE_EINVAL, "\"%s\" is no name of a %s", name, type);
        return;
    }
    if (c->o->n == KEI_POD_OBJECTS_MAX) {
        c->r = kei_error(c->err, KE_ELIMIT,
                         "pod %s/%s refers to more than %d ConfigMaps, Secrets and tokens",
                         c->s->meta.ns, c->s->meta.name, KEI_POD_OBJECTS_MAX);
        return;
    }
    if (!c->o->v)
        c->o->v = kei_arena_array(c->a, KEI_POD_OBJECTS_MAX, sizeof *c->o->v);
    if (!c->o->v) {
        c->r = kei_error(c->err, KE_ENOMEM, "out of memory for what pod %s/%s refers to",
                         c->s->meta.ns, c->s->meta.name);
        return;
    }
    c->o->v[c->o->n++] = (struct kei_object){
        .type = type, .name = name, .source = source, .status = KE_EAGAIN, .why = ""};
}

/* ref is an object that names what it refers to under key */
static void add_ref(struct collector *c, const char *type, struct ke_str ref, const char *key)
{
    struct ke_str v;
    if (!kei_json_get(ref, key, &v) || c->r < 0)
        return;
    const char *name = kei_json_strdup(v, c->a);
    if (!name)
        c->r = kei_error(c->err, KE_EINVAL, "the name of a %s of pod %s/%s could not be read", type,
                         c->s->meta.ns, c->s->meta.name);
    else
        add(c, type, name, kei_strn(NULL, 0));
}

static void add_container(struct collector *c, struct ke_str container)
{
    struct ke_str list, v, ref;
    if (kei_json_get(container, "envFrom", &list)) {
        for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
            if (kei_json_get(v, "configMapRef", &ref))
                add_ref(c, "configmap", ref, "name");
            if (kei_json_get(v, "secretRef", &ref))
                add_ref(c, "secret", ref, "name");
        }
    }
    if (kei_json_get(container, "env", &list)) {
        for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
            if (kei_json_path(v, "valueFrom.configMapKeyRef", &ref))
                add_ref(c, "configmap", ref, "name");
            if (kei_json_path(v, "valueFrom.secretKeyRef", &ref))
                add_ref(c, "secret", ref, "name");
        }
    }
}

static void add_projected(struct collector *c, struct ke_str source)
{
    struct ke_str list, v, ref;
    if (!kei_json_get(source, "sources", &list))
        return;
    for (size_t it = 0; kei_json_next(list, &it, NULL, &v);) {
        if (kei_json_get(v, "configMap", &ref))
            add_ref(c, "configmap", ref, "name");
        if (kei_json_get(v, "secret", &ref))
            add_ref(c, "secret", ref, "name");
        if (kei_json_get(v, "serviceAccountToken", &ref))
            add(c, "serviceaccounttoken",
                *c->s->service_account ? c->s->service_account : "default", ref);
    }
}

int kei_objects_collect(struct kei_objects *o, const struct kei_podspec *s, struct kei_arena *a,
                        struct ke_error *err)
{
    struct collector c = {o, s, a, err, 0};
    *o = (struct kei_objects){0};
    for (size_t i = 0; i < s->n_containers; i++)
        add_container(&c, s->containers[i].json);
    for (size_t i = 0; i < s->n_volumes; i++) {
        const struct kei_spec_volume *v = &s->volumes[i];
        if (v->kind == KEI_VOL_CONFIG_MAP)
            add_ref(&c, "configmap", v->source, "name");
        else if (v->kind == KEI_VOL_SECRET)
            add_ref(&c, "secret", v->source, "secretName");
        else if (v->kind == KEI_VOL_PROJECTED)
            add_projected(&c, v->source);
    }
    return c.r;
}

bool kei_objects_refers(const struct kei_podspec *s, const char *type, const char *name,
                        struct kei_arena *a)
{
    struct kei_objects o;
    return kei_objects_collect(&o, s, a, NULL) == 0 && kei_objects_find(&o, type, name);
}

/* ---- values ---- */

static struct ke_str part(const struct kei_object *o, const char *key)
{
    struct ke_str v;
    if (!o->text.p || !kei_json_get(o->text, key, &v) || kei_json_type(v) != '{')
        return kei_strn(NULL, 0);
    return v;
}

static int by_name(const void *a, const void *b)
{
    const struct kei_object_key *x = a, *y = b;
    int r = x->binary - y->binary;
    if (!r)
        r = !x->name - !y->name;
    if (!r && x->name)
        r = strcmp(x->name, y->name);
    return r ? r : (x->value.p > y->value.p) - (x->value.p < y->value.p);
}

static bool same_name(const struct kei_object_key *x, const struct kei_object_key *y)
{
    return x->binary == y->binary && x->name && y->name && !strcmp(x->name, y->name);
}

int kei_object_index(struct kei_object *o, struct kei_arena *a)
{
    struct ke_str maps[2] = {part(o, "data"), part(o, "binaryData")}, raw, v;
    size_t n = 0, k = 0;
    if (!o->text.p || o->keys_of == o->text.p)
        return 0;
    for (int b = 0; b < 2; b++) {
        for (size_t it = 0; kei_json_next(maps[b], &it, NULL, NULL);)
            n++;
    }
    struct kei_object_key *keys = kei_arena_array(a, n + 1, sizeof *keys);
    if (!keys)
        return KE_ENOMEM;
    for (int b = 0; b < 2; b++) {
        for (size_t it = 0; k < n && kei_json_next(maps[b], &it, &raw, &v); k++) {
            char *name = NULL;
            if (kei_json_text(&name, kei_strn(raw.p - 1, raw.n + 2), a, NULL) == KE_ENOMEM)
                return KE_ENOMEM;
            keys[k] = (struct kei_object_key){name, raw, v, b == 1};
        }
    }
    qsort(keys, k, sizeof *keys, by_name);
    n = 0;
    for (size_t i = 0; i < k; i++) { /* the last of duplicates counts */
        if (i + 1 == k || !same_name(&keys[i], &keys[i + 1]))
            keys[n++] = keys[i];
    }
    o->keys = keys;
    o->n_keys = n;
    o->keys_of = o->text.p;
    return 0;
}

static bool indexed(const struct kei_object *o)
{
    return o->keys && o->keys_of == o->text.p;
}

/* The value under key in data or binaryData. */
static bool value_in(const struct kei_object *o, bool binary, const char *key, struct ke_str *ret)
{
    size_t low = 0, high = o->n_keys;
    if (!indexed(o))
        return kei_json_get(part(o, binary ? "binaryData" : "data"), key, ret);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct kei_object_key *k = &o->keys[mid];
        int r = k->binary - binary;
        if (!r)
            r = k->name ? strcmp(k->name, key) : 1;
        if (r == 0) {
            *ret = k->value;
            return true;
        }
        if (r < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

static int decode(struct ke_buf *out, const struct kei_object *o, struct ke_str v, bool base64,
                  const char *key, struct ke_error *err)
{
    struct ke_buf text;
    if (!base64)
        return kei_json_str(v, out, err);
    kei_buf_init(&text, out->alloc);
    int r = kei_json_str(v, &text, err);
    if (r == 0 && !kei_b64_decode(out, kei_buf_str(&text)))
        r = kei_buf_ok(out)
                ? kei_error(err, KE_EPARSE, "key %s of %s %s is no base64", key, o->type, o->name)
                : kei_error(err, KE_ENOMEM, "out of memory for %s", o->name);
    ke_buf_free(&text);
    return r;
}

int kei_object_value(struct ke_buf *out, const struct kei_object *o, const char *key, bool binary,
                     struct ke_error *err)
{
    struct ke_str v;
    bool secret = !strcmp(o->type, "secret");
    if (value_in(o, false, key, &v))
        return decode(out, o, v, secret, key, err);
    if (!secret && binary && value_in(o, true, key, &v))
        return decode(out, o, v, true, key, err);
    return kei_error(err, KE_ENOTFOUND, "%s %s has no key %s", o->type, o->name, key);
}

bool kei_object_next(const struct kei_object *o, size_t *it, bool binary, struct ke_str *ret_key)
{
    if (indexed(o)) {
        const struct kei_object_key *k = *it < o->n_keys ? &o->keys[*it] : NULL;
        if (!k || (k->binary && (!binary || !strcmp(o->type, "secret"))))
            return false;
        *ret_key = k->raw;
        ++*it;
        return true;
    }
    struct ke_str data = part(o, "data"), more = part(o, "binaryData");
    if (*it < data.n && kei_json_next(data, it, ret_key, NULL))
        return true;
    if (*it < data.n)
        *it = data.n;
    if (!binary || !more.p || !strcmp(o->type, "secret"))
        return false;
    size_t at = *it - data.n;
    if (!kei_json_next(more, &at, ret_key, NULL))
        return false;
    *it = data.n + at;
    return true;
}

/* ---- tokens ---- */

void kei_token_request(struct ke_buf *out, const struct kei_podspec *s, struct ke_str source)
{
    struct kei_jw w;
    struct ke_str v;
    int64_t seconds = 3600;
    if (kei_json_get(source, "expirationSeconds", &v))
        kei_json_i64(v, &seconds);
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_raw(&w, KEI_STR("{\"creationTimestamp\":null}"));
    kei_jw_key(&w, "spec");
    kei_jw_obj(&w);
    kei_jw_key(&w, "audiences");
    if (kei_json_get(source, "audience", &v) && kei_json_type(v) == '"') {
        kei_jw_arr(&w);
        kei_jw_raw(&w, v);
        kei_jw_arr_end(&w);
    } else {
        kei_jw_null(&w);
    }
    kei_jw_ki64(&w, "expirationSeconds", seconds);
    kei_jw_key(&w, "boundObjectRef");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "kind", "Pod");
    kei_jw_kstr(&w, "apiVersion", "v1");
    kei_jw_kstr(&w, "name", s->meta.name);
    kei_jw_kstr(&w, "uid", s->meta.uid);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    kei_jw_key(&w, "status");
    kei_jw_raw(&w, KEI_STR("{\"token\":\"\",\"expirationTimestamp\":null}"));
    kei_jw_obj_end(&w);
}

bool kei_token_read(struct ke_str object, struct ke_str *ret_token, int64_t *ret_expires_ms)
{
    struct ke_str v;
    if (!kei_json_path(object, "status.token", ret_token) || kei_json_type(*ret_token) != '"' ||
        ret_token->n <= 2)
        return false;
    *ret_expires_ms = 0;
    if (kei_json_path(object, "status.expirationTimestamp", &v) && kei_json_type(v) == '"')
        kei_time_parse(kei_strn(v.p + 1, v.n - 2), ret_expires_ms);
    return true;
}

/* ---- fields ---- */

static int copy_str(struct ke_buf *out, struct ke_str v, struct ke_error *err)
{
    return kei_json_type(v) == '"' ? kei_json_str(v, out, err) : 0;
}

/* "metadata.labels['key']": what is between the quotes */
static bool subscript(const char *path, const char *map, struct ke_str *ret)
{
    size_t n = strlen(path), m = strlen(map);
    if (n < m + 4 || strncmp(path, map, m) != 0 || strncmp(path + m, "['", 2) != 0 ||
        strcmp(path + n - 2, "']") != 0)
        return false;
    *ret = kei_strn(path + m + 2, n - m - 4);
    return true;
}

static int field_of_map(struct ke_buf *out, const struct kei_podspec *s, const char *map,
                        struct ke_str key, struct ke_error *err)
{
    struct ke_str all, v, raw;
    if (!kei_json_path(s->json, map, &all))
        return 0;
    for (size_t it = 0; kei_json_next(all, &it, &raw, &v);) {
        char name[512];
        if (key.n >= sizeof name)
            break;
        memcpy(name, key.p, key.n);
        name[key.n] = '\0';
        if (kei_json_key_is(raw, name))
            return copy_str(out, v, err);
    }
    return 0; /* a missing label is an empty value, as in Kubernetes */
}

struct entry {
    struct ke_str key, value;
};

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int r = memcmp(x->key.p, y->key.p, x->key.n < y->key.n ? x->key.n : y->key.n);
    return r ? r : (x->key.n > y->key.n) - (x->key.n < y->key.n);
}

/* One line per entry, key="value", sorted by key. */
static int whole_map(struct ke_buf *out, const struct kei_podspec *s, const char *map,
                     struct ke_error *err)
{
    struct ke_str all, raw, v;
    size_t n = 0, k = 0;
    int r = 0;
    if (!kei_json_path(s->json, map, &all) || kei_json_type(all) != '{')
        return 0;
    for (size_t it = 0; kei_json_next(all, &it, NULL, NULL);)
        n++;
    struct entry *e = n ? kei_array_alloc(out->alloc, n, sizeof *e) : NULL;
    if (n && !e)
        return kei_error(err, KE_ENOMEM, "out of memory for %s", map);
    for (size_t it = 0; k < n && kei_json_next(all, &it, &raw, &v); k++)
        e[k] = (struct entry){raw, v};
    if (n)
        qsort(e, n, sizeof *e, by_key);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (i)
            kei_buf_addc(out, '\n');
        r = kei_json_str(kei_strn(e[i].key.p - 1, e[i].key.n + 2), out, err);
        kei_buf_addc(out, '=');
        kei_buf_addv(out, e[i].value); /* JSON's quotes and escapes are what Kubernetes writes */
    }
    kei_free(out->alloc, e);
    return r;
}

int kei_field_value(struct ke_buf *out, const struct kei_podspec *s, const char *path,
                    const struct kei_field_env *e, struct ke_error *err)
{
    const struct {
        const char *path, *value;
    } plain[] = {
        {"metadata.name", s->meta.name},
        {"metadata.namespace", s->meta.ns},
        {"metadata.uid", s->meta.uid},
        {"spec.nodeName", e->node_name},
        {"spec.serviceAccountName", s->service_account},
        {"status.hostIP", e->host_ip},
        {"status.hostIPs", e->host_ip},
        {"status.podIP", e->pod_ip},
        {"status.podIPs", e->pod_ip},
    };
    struct ke_str key;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (!strcmp(path, plain[i].path)) {
            kei_buf_adds(out, plain[i].value ? plain[i].value : "");
            return 0;
        }
    }
    if (!strcmp(path, "metadata.labels") || !strcmp(path, "metadata.annotations"))
        return whole_map(out, s, path, err);
    if (subscript(path, "metadata.labels", &key))
        return field_of_map(out, s, "metadata.labels", key, err);
    if (subscript(path, "metadata.annotations", &key))
        return field_of_map(out, s, "metadata.annotations", key, err);
    return kei_error(err, KE_EINVAL, "unsupported fieldPath: %s", path);
}

/* What the machine has, in thousandths: the limit of a container without one. */
static int64_t machine_milli(const char *what)
{
    if (!strcmp(what, "cpu")) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        return n > 0 ? (int64_t)n * 1000 : 1000;
    }
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return !strcmp(what, "memory") && pages > 0 && page > 0 ? (int64_t)pages * page * 1000 : 0;
}

static const struct kei_spec_container *named(const struct kei_podspec *s,
                                              const struct kei_spec_container *c, struct ke_str ref)
{
    struct ke_str v;
    if (!kei_json_get(ref, "containerName", &v) || kei_json_str_is(v, ""))
        return c;
    for (size_t i = 0; i < s->n_containers; i++) {
        if (kei_json_str_is(v, s->containers[i].name))
            return &s->containers[i];
    }
    return NULL;
}

int kei_resource_value(struct ke_buf *out, const struct kei_podspec *s,
                       const struct kei_spec_container *c, struct ke_str ref, struct ke_error *err)
{
    static const char *const known[] = {
        "limits.cpu",   "limits.memory",   "limits.ephemeral-storage",
        "requests.cpu", "requests.memory", "requests.ephemeral-storage"};
    struct ke_str v, list;
    const char *path = NULL;
    int64_t milli = 0, divisor = 1000;
    if (!kei_json_get(ref, "resource", &v))
        v = KEI_STR("\"\"");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (kei_json_str_is(v, known[i]))
            path = known[i];
    }
    c = named(s, c, ref);
    if (!path || !c)
        return kei_error(err, KE_EINVAL, "unsupported container resource: %.*s", KEI_FMT(v));
    const char *what = strchr(path, '.') + 1;
    bool limit = path[0] == 'l';
    struct ke_str q = {NULL, 0};
    if (!kei_json_get(c->json, "resources", &list) ||
        !kei_json_get(list, limit ? "limits" : "requests", &list) || !kei_json_get(list, what, &q))
        q = kei_strn(NULL, 0);
    if (q.n > 2 && kei_json_type(q) == '"')
        q = kei_strn(q.p + 1, q.n - 2);
    if (q.p && !kei_quantity_parse(q, &milli))
        return kei_error(err, KE_EINVAL, "container %s: %s is no quantity", c->name, path);
    if (!q.p && limit)
        milli = machine_milli(what);
    if (kei_json_get(ref, "divisor", &v) && kei_json_type(v) == '"' && v.n > 2 &&
        (!kei_quantity_parse(kei_strn(v.p + 1, v.n - 2), &divisor) || divisor < 0))
        return kei_error(err, KE_EINVAL, "divisor of %s is no quantity", path);
    if (divisor == 0) /* what the API server writes for "not given" */
        divisor = 1000;
    kei_buf_addi(out, milli / divisor + (milli % divisor > 0));
    return 0;
}
