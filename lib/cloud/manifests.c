/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of manifests: read on the disk worker, applied on the loop, watched with inotify and
 * looked at every half minute besides. A file that is wrong is reported and changes nothing: the
 * objects it made before stay. An object whose manifest is gone goes too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/yaml.h"
#include "cloud/cloud_priv.h"
#include "cloud/manifest.h"
#include "message/k8s.h"

#define FILE_BYTES_MAX (8u * 1024u * 1024u)
#define FILES_MAX 10000
#define SETTLE_MS 100 /* editors write in several steps */
#define LOOK_AGAIN_MS 30000

/* One object of one file. */
struct entry {
    struct entry *next;
    const char *type; /* static */
    char *ns, *name, *file;
    struct ke_buf json;
};

/* One look at the folder; built on the worker, so with no use of the context's error. */
struct scan {
    struct kei_work work;
    struct kei_manifests *owner;
    struct kei_arena arena;
    struct entry *entries;
    struct ke_str *files; /* names, sorted */
    size_t n_files;
    struct ke_str *bad; /* names of files with an error */
    size_t n_bad;
    struct ke_buf errors; /* one per line */
    bool failed;          /* the folder could not be read: change nothing */
};

struct kei_manifests {
    struct ke_cloud *cloud;
    struct kei_timer timer;
    struct kei_fd watch;
    int inotify;
    struct scan *scan; /* under way */
    bool again;        /* something changed meanwhile */
    bool closing;
    struct ke_buf last_errors; /* the same text is reported once */
};

/* ---- on the worker ---- */

static void report(struct scan *s, const char *file, uint32_t line, const char *text)
{
    kei_buf_addf(&s->errors, "%s:%u: %s\n", file, (unsigned)line, text);
}

static bool wanted_name(const char *name)
{
    struct ke_str n = kei_str(name);
    return name[0] != '.' &&
           (kei_str_ends(n, KEI_STR(".yaml")) || kei_str_ends(n, KEI_STR(".yml")) ||
            kei_str_ends(n, KEI_STR(".json")));
}

static int on_name(void *arg, const char *name)
{
    struct scan *s = arg;
    if (!wanted_name(name))
        return 0;
    if (s->n_files == FILES_MAX) {
        report(s, name, 0, "too many manifests; the limit is 10000 files");
        return 1;
    }
    char *copy = kei_arena_strdup(&s->arena, kei_str(name));
    if (!copy) {
        s->failed = true;
        return 1;
    }
    s->files[s->n_files++] = kei_str(copy);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct ke_str *x = a, *y = b;
    return strcmp(x->p, y->p);
}

static const struct entry *find_entry(const struct scan *s, const char *type, const char *ns,
                                      const char *name)
{
    for (const struct entry *e = s->entries; e; e = e->next)
        if (strcmp(e->type, type) == 0 && strcmp(e->ns, ns) == 0 && strcmp(e->name, name) == 0)
            return e;
    return NULL;
}

static bool add_object(struct scan *s, const char *file, uint32_t line, struct ke_str object,
                       const struct kei_yaml *y, size_t doc)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_field field;
    char text[KE_ERROR_TEXT_MAX + 400];
    struct entry *e = kei_arena_alloc(&s->arena, sizeof *e);
    if (!e)
        return false;
    kei_buf_init(&e->json, s->arena.alloc);
    if (kei_manifest_whole(&e->json, &e->type, object, &field, &err) < 0) {
        const char *start = kei_yaml_get(y, doc)->json.p;
        uint32_t at = field.at ? kei_yaml_line(y, doc, (size_t)(field.at - start)) : 0;
        report(s, file, at ? at : line, err.text);
        ke_buf_free(&e->json);
        return false;
    }
    struct ke_str whole = kei_buf_str(&e->json);
    e->ns = kei_arena_strdup(&s->arena,
                             kei_str(kei_json_path_str(whole, "metadata.namespace", &s->arena)));
    e->name =
        kei_arena_strdup(&s->arena, kei_str(kei_json_path_str(whole, "metadata.name", &s->arena)));
    e->file = kei_arena_strdup(&s->arena, kei_str(file));
    const struct entry *twin =
        e->ns && e->name && e->file ? find_entry(s, e->type, e->ns, e->name) : NULL;
    if (!e->ns || !e->name || !e->file || twin) {
        snprintf(text, sizeof text, "%s %s/%s stands in %s already", e->type, e->ns ? e->ns : "",
                 e->name ? e->name : "", twin ? twin->file : "?");
        report(s, file, line, twin ? text : "out of memory");
        ke_buf_free(&e->json);
        return false;
    }
    e->next = s->entries;
    s->entries = e;
    return true;
}

/* A document is an object or a List of them. */
static bool add_document(struct scan *s, const char *file, const struct kei_yaml *y, size_t i)
{
    const struct kei_yaml_doc *d = kei_yaml_get(y, i);
    struct ke_str kind, items, key, item;
    if (!kei_json_get(d->json, "kind", &kind) || !kei_json_str_is(kind, "List") ||
        !kei_json_get(d->json, "items", &items))
        return add_object(s, file, d->line, d->json, y, i);
    bool ok = true;
    for (size_t it = 0; kei_json_next(items, &it, &key, &item);)
        ok = add_object(s, file, kei_yaml_line(y, i, (size_t)(item.p - d->json.p)), item, y, i) &&
             ok;
    return ok;
}

static bool read_file(struct scan *s, const char *folder, const char *name)
{
    char path[4096];
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf text = {0};
    struct kei_yaml *y = NULL;
    bool ok = false;
    kei_buf_init(&text, s->arena.alloc);
    if (!kei_path_join(path, sizeof path, folder, name)) {
        report(s, name, 0, "path is too long");
        return false;
    }
    int r = kei_file_read(kei_ctx_io(s->owner->cloud->ctx), path, FILE_BYTES_MAX, &text, &err);
    if (r == 0)
        r = kei_yaml_parse(&y, s->arena.alloc, kei_buf_str(&text), FILE_BYTES_MAX, &err);
    if (r < 0) {
        kei_buf_addf(&s->errors, "%s: %s\n", path, err.text);
    } else {
        ok = true;
        for (size_t i = 0; i < kei_yaml_count(y); i++)
            ok = add_document(s, path, y, i) && ok;
    }
    kei_yaml_free(y);
    ke_buf_free(&text);
    return ok;
}

static void scan_run(struct kei_work *w)
{
    struct scan *s = KEI_OF(w, struct scan, work);
    struct ke_cloud *c = s->owner->cloud;
    const struct ke_io *io = kei_ctx_io(c->ctx);
    s->files = kei_arena_array(&s->arena, FILES_MAX, sizeof *s->files);
    s->bad = kei_arena_array(&s->arena, FILES_MAX, sizeof *s->bad);
    if (!s->files || !s->bad) {
        s->failed = true;
        return;
    }
    int r = io->list(io->user, c->config.manifests, on_name, s);
    if (r < 0) {
        kei_buf_addf(&s->errors, "%s: the folder of manifests could not be read: %s\n",
                     c->config.manifests, ke_strerror(r));
        s->failed = true;
        return;
    }
    qsort(s->files, s->n_files, sizeof *s->files, by_name);
    for (size_t i = 0; i < s->n_files; i++)
        if (!read_file(s, c->config.manifests, s->files[i].p))
            s->bad[s->n_bad++] = s->files[i];
}

/* ---- on the loop ---- */

static void scan_free(struct scan *s)
{
    for (struct entry *e = s->entries; e; e = e->next)
        ke_buf_free(&e->json);
    ke_buf_free(&s->errors);
    const struct ke_alloc *a = s->arena.alloc;
    kei_arena_free(&s->arena);
    kei_free(a, s);
}

static void tell_errors(struct kei_manifests *m, const struct scan *s)
{
    struct ke_cloud *c = m->cloud;
    if (kei_str_eq(kei_buf_str(&s->errors), kei_buf_str(&m->last_errors)))
        return;
    struct ke_str rest = kei_buf_str(&s->errors);
    while (rest.p && rest.n > 0) {
        char text[2048];
        struct ke_str line = kei_str_cut(rest, '\n', &rest);
        snprintf(text, sizeof text, "%.*s", KEI_FMT(line));
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "manifest %s", text);
        if (c->ops.manifest_error)
            c->ops.manifest_error(c->user, text);
    }
    kei_buf_clear(&m->last_errors);
    kei_buf_addv(&m->last_errors, kei_buf_str(&s->errors));
}

/* "FILE\nJSON": what the manifest said when it was applied last */
static struct ke_str source_file(const struct kei_object *o, struct ke_str *json)
{
    return kei_str_cut(kei_buf_str(&o->source), '\n', json);
}

/* Pods change in place only where Kubernetes allows it: metadata and the images of containers. */
static bool same_but_image(struct ke_str a, struct ke_str b)
{
    struct ke_str x, y, key, v, w;
    if (!kei_json_get(a, "spec", &x) || !kei_json_get(b, "spec", &y))
        return false;
    for (size_t it = 0; kei_json_next(x, &it, &key, &v);) {
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)(key.n > 120 ? 120 : key.n), key.p);
        bool has = kei_json_get(y, name, &w);
        if (strcmp(name, "containers") != 0) {
            if (!has || !kei_json_same(v, w))
                return false;
            continue;
        }
        struct ke_str c, d, k;
        size_t i = 0, j = 0;
        for (;;) {
            bool more = kei_json_next(v, &i, &k, &c), also = has && kei_json_next(w, &j, &k, &d);
            if (more != also)
                return false;
            if (!more)
                break;
            for (size_t q = 0; kei_json_next(c, &q, &k, &x);) {
                char part[128];
                snprintf(part, sizeof part, "%.*s", (int)(k.n > 120 ? 120 : k.n), k.p);
                if (strcmp(part, "image") != 0 && strcmp(part, "imagePullPolicy") != 0 &&
                    (!kei_json_get(d, part, &y) || !kei_json_same(x, y)))
                    return false;
            }
            (void)kei_json_get(b, "spec", &y);
        }
    }
    return true;
}

/* New metadata and spec; node, status and what the server owns stay. */
static int update_pod(struct ke_cloud *c, const struct kei_object *o, const struct entry *e,
                      struct ke_buf *out)
{
    struct ke_buf half = {0};
    struct ke_str status = {0}, node = {0};
    kei_buf_init(&half, kei_ctx_alloc(c->ctx));
    (void)kei_json_get(kei_buf_str(&o->json), "status", &status);
    (void)kei_json_path(kei_buf_str(&o->json), "spec.nodeName", &node);
    int r = kei_json_set(&half, kei_buf_str(&e->json), "status", status, kei_err(c->ctx));
    if (r == 0)
        r = kei_json_set(out, kei_buf_str(&half), "spec.nodeName", node, kei_err(c->ctx));
    ke_buf_free(&half);
    return r;
}

static void apply(struct kei_manifests *m, const struct entry *e)
{
    struct ke_cloud *c = m->cloud;
    struct kei_object *o = kei_objects_get(c->objects, e->type, e->ns, e->name);
    struct ke_buf source = {0}, json = {0};
    struct ke_str old = {0}, whole = kei_buf_str(&e->json), deleting;
    if (o && o->source.n > 0)
        (void)source_file(o, &old);
    bool pod = strcmp(e->type, "pod") == 0;
    if (o && old.p && kei_json_same(old, whole))
        return;
    if (o && pod && kei_json_path(kei_buf_str(&o->json), "metadata.deletionTimestamp", &deleting))
        return; /* the old one is on its way out; its end looks here again */
    if (o && pod && (!old.p || !same_but_image(old, whole))) {
        kei_log(c->ctx, KE_LOG_INFO, "cloud", "pod %s/%s is replaced: its manifest changed", e->ns,
                e->name);
        kei_cloud_pod_delete(c, o);
        return;
    }
    kei_buf_init(&source, kei_ctx_alloc(c->ctx));
    kei_buf_init(&json, kei_ctx_alloc(c->ctx));
    kei_buf_adds(&source, e->file);
    kei_buf_addc(&source, '\n');
    kei_buf_addv(&source, whole);
    struct ke_str text = kei_buf_str(&source);
    int r = kei_buf_ok(&source) ? 0 : KE_ENOMEM;
    if (r == 0 && o && pod) {
        r = update_pod(c, o, e, &json);
        whole = kei_buf_str(&json);
    }
    if (r == 0)
        r = kei_objects_write(c->objects, e->type, e->ns, e->name, whole, &text, NULL, NULL);
    if (r < 0 && r != KE_EAGAIN)
        kei_log(c->ctx, KE_LOG_ERROR, "cloud", "%s %s/%s was not taken: %s", e->type, e->ns,
                e->name, ke_ctx_error(c->ctx));
    ke_buf_free(&source);
    ke_buf_free(&json);
}

static bool is_bad(const struct kei_manifests *m, const struct scan *s, struct ke_str file)
{
    char path[4096];
    for (size_t i = 0; i < s->n_bad; i++)
        if (kei_path_join(path, sizeof path, m->cloud->config.manifests, s->bad[i].p) &&
            kei_str_is(file, path))
            return true;
    return false;
}

static void remove_missing(struct kei_manifests *m, const struct scan *s)
{
    struct ke_cloud *c = m->cloud;
    struct kei_object *o;
    for (size_t it = 0; (o = kei_objects_next(c->objects, NULL, &it));) {
        struct ke_str json;
        if (o->source.n == 0 || find_entry(s, o->type, o->ns, o->name) ||
            is_bad(m, s, source_file(o, &json)))
            continue;
        kei_log(c->ctx, KE_LOG_INFO, "cloud", "%s %s/%s goes: its manifest is gone", o->type, o->ns,
                o->name);
        if (strcmp(o->type, "pod") == 0)
            kei_cloud_pod_delete(c, o);
        else
            (void)kei_objects_remove(c->objects, o, NULL, NULL);
    }
}

static void scan_done(struct kei_work *w)
{
    struct scan *s = KEI_OF(w, struct scan, work);
    struct kei_manifests *m = s->owner;
    m->scan = NULL;
    if (!m->closing) {
        tell_errors(m, s);
        /* ConfigMaps and Secrets before the pods that refer to them */
        for (int pods = 0; !s->failed && pods < 2; pods++)
            for (const struct entry *e = s->entries; e; e = e->next)
                if ((strcmp(e->type, "pod") == 0) == pods)
                    apply(m, e);
        if (!s->failed)
            remove_missing(m, s);
        (void)kei_timer_in(&m->timer, m->again ? SETTLE_MS : LOOK_AGAIN_MS);
        m->again = false;
    }
    scan_free(s);
}

static void on_timer(struct kei_timer *t)
{
    struct kei_manifests *m = KEI_OF(t, struct kei_manifests, timer);
    struct ke_ctx *ctx = m->cloud->ctx;
    if (m->scan)
        return;
    struct scan *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);
    if (s) {
        s->owner = m;
        kei_arena_init(&s->arena, kei_ctx_alloc(ctx), 0);
        kei_buf_init(&s->errors, kei_ctx_alloc(ctx));
        m->scan = s;
        if (kei_work_submit(ctx, &s->work, scan_run, scan_done) == 0)
            return;
        m->scan = NULL;
        scan_free(s);
    }
    (void)kei_timer_in(t, LOOK_AGAIN_MS);
}

void kei_manifests_rescan(struct kei_manifests *m)
{
    if (!m)
        return;
    if (m->scan)
        m->again = true;
    else
        (void)kei_timer_in(&m->timer, SETTLE_MS);
}

static void on_inotify(struct kei_fd *f, uint32_t events)
{
    struct kei_manifests *m = KEI_OF(f, struct kei_manifests, watch);
    char buf[4096];
    (void)events;
    while (read(m->inotify, buf, sizeof buf) > 0)
        ; /* what changed does not matter, the whole folder is read */
    kei_manifests_rescan(m);
}

int kei_manifests_new(struct kei_manifests **ret, struct ke_cloud *c)
{
    struct kei_manifests *m = kei_zalloc(kei_ctx_alloc(c->ctx), sizeof *m);
    if (!m)
        return kei_fail(c->ctx, KE_ENOMEM, "out of memory for the manifests");
    m->cloud = c;
    kei_buf_init(&m->last_errors, kei_ctx_alloc(c->ctx));
    kei_timer_init(c->ctx, &m->timer, on_timer);
    m->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (m->inotify < 0 ||
        inotify_add_watch(m->inotify, c->config.manifests,
                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR) <
            0 ||
        kei_fd_add(c->ctx, &m->watch, m->inotify, KEI_IN, on_inotify) < 0) {
        int r = kei_error_errno(kei_err(c->ctx), errno, "folder of manifests %s cannot be watched",
                                c->config.manifests);
        kei_manifests_free(m);
        return r;
    }
    (void)kei_timer_in(&m->timer, 0);
    *ret = m;
    return 0;
}

void kei_manifests_free(struct kei_manifests *m)
{
    if (!m)
        return;
    m->closing = true;
    if (m->scan)
        kei_work_drain(m->cloud->ctx);
    kei_fd_remove(&m->watch);
    if (m->inotify >= 0)
        close(m->inotify);
    kei_timer_fini(&m->timer);
    ke_buf_free(&m->last_errors);
    kei_free(kei_ctx_alloc(m->cloud->ctx), m);
}
