/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One look at a folder of manifests, in pieces, so that commits get their turn on the worker in
 * between. A file whose bytes are as applied is not parsed. What a look finds lives in its arena,
 * but for the buffers of documents and errors. Worker or loop, one at a time; no context's error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/yaml.h"
#include "cloud/manifest.h"
#include "cloud/objects.h"
#include "crypto/crypto.h"

#define FILE_BYTES_MAX (8u * 1024u * 1024u)
#define FILES_MAX 10000
#define OBJECTS_MAX 100000
#define PIECE_FILES 64
#define PIECE_BYTES (1024u * 1024u)

void kei_look_init(struct kei_look *l, const struct ke_alloc *a, const struct ke_io *io,
                   const char *folder)
{
    memset(l, 0, sizeof *l);
    l->io = io;
    l->folder = folder;
    kei_arena_init(&l->arena, a, 0);
}

void kei_look_drop_docs(struct kei_look_file *f)
{
    for (struct kei_manifest_doc *d = f->docs; d; d = d->next)
        ke_buf_free(&d->json);
    f->docs = NULL;
}

void kei_look_fini(struct kei_look *l)
{
    for (size_t i = 0; i < l->n_files; i++) {
        kei_look_drop_docs(&l->files[i]);
        ke_buf_free(&l->files[i].errors);
    }
    kei_free(l->arena.alloc, l->files);
    kei_arena_free(&l->arena);
}

static void out_of_memory(struct kei_look *l)
{
    l->status = kei_error(&l->err, KE_ENOMEM, "out of memory to read the manifests");
}

/* ---- names ---- */

static bool wanted_name(const char *name)
{
    struct ke_str n = kei_str(name);
    if (name[0] == '.' || strchr(name, '\n'))
        return false;
    return kei_str_ends(n, KEI_STR(".yaml")) || kei_str_ends(n, KEI_STR(".yml")) ||
           kei_str_ends(n, KEI_STR(".json"));
}

static int on_name(void *arg, const char *name)
{
    struct kei_look *l = arg;
    if (!wanted_name(name))
        return 0;
    if (l->n_files == FILES_MAX) {
        l->status =
            kei_error(&l->err, KE_ELIMIT, "there are more than %d manifests: the limit", FILES_MAX);
        return 1;
    }
    if (l->n_files == l->cap_files) {
        size_t cap = l->cap_files ? l->cap_files * 2 : 32;
        struct kei_look_file *more = kei_array_realloc(l->arena.alloc, l->files, cap, sizeof *more);
        if (!more) {
            out_of_memory(l);
            return 1;
        }
        l->files = more;
        l->cap_files = cap;
    }
    const char *copy = kei_arena_strdup(&l->arena, kei_str(name));
    if (!copy) {
        out_of_memory(l);
        return 1;
    }
    struct kei_look_file *f = &l->files[l->n_files++];
    memset(f, 0, sizeof *f);
    f->name = copy;
    kei_buf_init(&f->errors, l->arena.alloc);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct kei_look_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void kei_look_list(struct kei_look *l)
{
    int r = l->io->list(l->io->user, l->folder, on_name, l);
    if (r < 0 && l->status == 0)
        l->status =
            kei_error(&l->err, r, "the folder of manifests could not be read: %s", kei_io_text(r));
    if (l->n_files > 1)
        qsort(l->files, l->n_files, sizeof *l->files, by_name);
}

/* ---- files ---- */

void kei_look_report(const struct kei_look *l, struct kei_look_file *f, uint32_t line,
                     const char *text)
{
    f->bad = true;
    kei_buf_addf(&f->errors, "%s/%s", l->folder, f->name);
    if (line > 0) /* 0: all of the file */
        kei_buf_addf(&f->errors, ":%u", (unsigned)line);
    kei_buf_addf(&f->errors, ": %s\n", text);
}

/* The reader of YAML begins its text with "YAML line N". */
static uint32_t line_of(const char *text)
{
    struct ke_str rest = kei_str(text), digits;
    uint64_t line = 0;
    if (!kei_str_starts(rest, KEI_STR("YAML line ")))
        return 0;
    digits = kei_strn(text + 10, strspn(text + 10, "0123456789"));
    return kei_str_u64(digits, &line) && line <= UINT32_MAX ? (uint32_t)line : 0;
}

static bool fill_doc(struct kei_look *l, struct kei_manifest_doc *d)
{
    struct ke_str whole = kei_buf_str(&d->json), v;
    if (kei_json_path(whole, "metadata.namespace", &v))
        d->ns = kei_json_strdup(v, &l->arena);
    if (kei_json_path(whole, "metadata.name", &v))
        d->name = kei_json_strdup(v, &l->arena);
    return d->ns && d->name;
}

static void add_object(struct kei_look *l, struct kei_look_file *f, uint32_t line,
                       struct ke_str object, const struct kei_yaml *y, size_t doc,
                       struct kei_manifest_doc ***tail)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_field field;
    struct kei_manifest_doc *d = kei_arena_alloc(&l->arena, sizeof *d);
    if (!d) {
        out_of_memory(l);
        return;
    }
    kei_buf_init(&d->json, l->arena.alloc);
    int r = kei_manifest_whole(&d->json, &d->type, object, &field, &err);
    if (r == 0 && d->json.n > KEI_OBJECT_MAX - 4096) /* room for what the server adds */
        r = kei_error(&err, KE_ELIMIT, "the object has %zu bytes; the limit is %d", d->json.n,
                      KEI_OBJECT_MAX - 4096);
    if (r == 0 && l->objects == OBJECTS_MAX)
        r = kei_error(&err, KE_ELIMIT, "there are more than %d objects: the limit", OBJECTS_MAX);
    if (r < 0 || !fill_doc(l, d)) {
        if (r == KE_ENOMEM || r == 0) {
            out_of_memory(l);
        } else {
            const char *start = kei_yaml_get(y, doc)->json.p;
            uint32_t at =
                r == KE_EINVAL && field.at ? kei_yaml_line(y, doc, (size_t)(field.at - start)) : 0;
            kei_look_report(l, f, at ? at : line, err.text);
        }
        ke_buf_free(&d->json);
        return;
    }
    l->objects++;
    d->line = line;
    kei_sha256(object.p, object.n, d->digest);
    **tail = d;
    *tail = &d->next;
}

/* A document is an object or a List of them. */
static void add_document(struct kei_look *l, struct kei_look_file *f, const struct kei_yaml *y,
                         size_t i, struct kei_manifest_doc ***tail)
{
    const struct kei_yaml_doc *d = kei_yaml_get(y, i);
    struct ke_str kind, items, key, item;
    if (!kei_json_get(d->json, "kind", &kind) || !kei_json_str_is(kind, "List") ||
        !kei_json_get(d->json, "items", &items)) {
        add_object(l, f, d->line, d->json, y, i, tail);
        return;
    }
    if (kei_json_type(items) != '[') {
        kei_look_report(l, f, kei_yaml_line(y, i, (size_t)(items.p - d->json.p)),
                        "items: is not a list");
        return;
    }
    for (size_t it = 0; l->status == 0 && kei_json_next(items, &it, &key, &item);) {
        uint32_t line = kei_yaml_line(y, i, (size_t)(item.p - d->json.p));
        add_object(l, f, line ? line : d->line, item, y, i, tail);
    }
}

static bool is_blank(struct ke_str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (!strchr(" \t\r\n", text.p[i]) || !text.p[i])
            return false;
    return true;
}

static void parse(struct kei_look *l, struct kei_look_file *f, struct ke_str text)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_yaml *y = NULL;
    struct kei_manifest_doc **tail = &f->docs;
    if (f->held && is_blank(text)) { /* a full disk, an editor that was killed */
        f->state = KEI_LOOK_FAILED;
        kei_look_report(l, f, 0,
                        "is empty now, but it held objects: they stay; delete the file if they "
                        "shall go");
        return;
    }
    int r = kei_yaml_parse(&y, l->arena.alloc, text, FILE_BYTES_MAX, &err);
    f->state = KEI_LOOK_READ;
    if (r == KE_ENOMEM) {
        out_of_memory(l);
    } else if (r < 0) {
        f->state = KEI_LOOK_FAILED;
        kei_look_report(l, f, line_of(err.text), err.text);
    }
    for (size_t i = 0; r == 0 && l->status == 0 && i < kei_yaml_count(y); i++)
        add_document(l, f, y, i, &tail);
    kei_yaml_free(y);
    if (!kei_buf_ok(&f->errors))
        out_of_memory(l);
}

/* Bytes read. */
static size_t read_file(struct kei_look *l, struct kei_look_file *f)
{
    char path[4096];
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf text = {0};
    size_t n = 0;
    kei_buf_init(&text, l->arena.alloc);
    int r = kei_path_join(path, sizeof path, l->folder, f->name)
                ? kei_file_read(l->io, path, FILE_BYTES_MAX, &text, &err)
                : kei_error(&err, KE_ELIMIT, "path is too long");
    if (r == KE_ENOMEM) {
        out_of_memory(l);
    } else if (r < 0) {
        /* gone since it was listed; or, when that happens twice, a link to nothing */
        f->lost = r == KE_ENOTFOUND;
        f->state = f->lost && !f->lost_before ? KEI_LOOK_CHANGING : KEI_LOOK_FAILED;
        if (f->state == KEI_LOOK_FAILED)
            kei_look_report(l, f, 0, err.text);
    } else {
        n = text.n;
        kei_sha256(text.p, text.n, f->digest);
        if (f->applied_before && !f->stale && memcmp(f->applied, f->digest, KEI_DIGEST) == 0)
            f->state = KEI_LOOK_SAME;
        else if (!f->seen_before || memcmp(f->seen, f->digest, KEI_DIGEST) != 0)
            f->state = KEI_LOOK_CHANGING;
        else
            parse(l, f, kei_buf_str(&text));
    }
    ke_buf_free(&text);
    return n;
}

bool kei_look_read(struct kei_look *l)
{
    size_t bytes = 0;
    for (int i = 0; i < PIECE_FILES && bytes < PIECE_BYTES; i++) {
        if (l->status < 0 || l->next == l->n_files)
            return true;
        bytes += read_file(l, &l->files[l->next++]);
    }
    return l->status < 0 || l->next == l->n_files;
}
