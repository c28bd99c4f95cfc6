/* SPDX-License-Identifier: Apache-2.0 */
/* See captures.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/codec.h"
#include "base/json.h"
#include "message/captures.h"

static const char *const versions[] = {"kubeedge-1.4", "kubeedge-1.15", "kubeedge-1.23"};

static void folder(char *out, size_t n, const char *version)
{
    const char *tests = getenv("KE_TESTS");

    snprintf(out, n, "%s/captures/%s", tests ? tests : "tests", version);
}

static struct ke_str read_all(struct capture *c)
{
    char path[600], dir[500];
    struct ke_str s = {NULL, 0};

    folder(dir, sizeof dir, c->version);
    snprintf(path, sizeof path, "%s/%s.jsonl", dir, c->name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("capture %s cannot be opened (KE_TESTS names the folder tests/)", path);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    assert_true(size > 0);
    rewind(f);
    char *p = kei_arena_alloc(&c->arena, (size_t)size + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, (size_t)size, f), size);
    fclose(f);
    s = kei_strn(p, (size_t)size);
    return s;
}

static const char *text_of(struct capture *c, struct ke_str line, const char *key)
{
    struct ke_str v;

    if (!kei_json_get(line, key, &v) || kei_json_type(v) != '"')
        return "";
    const char *s = kei_json_strdup(v, &c->arena);
    assert_non_null(s);
    return s;
}

/* A string that may hold \u0000, which the library refuses: decoded piece by piece around it. */
static void decode(struct ke_buf *b, struct ke_str span)
{
    struct ke_buf piece = {NULL, 0, 0, NULL};
    const char *end = span.p + span.n - 1;

    for (const char *p = span.p + 1; p < end;) {
        const char *q = p;
        while (q < end && !(q + 6 <= end && memcmp(q, "\\u0000", 6) == 0))
            q += *q == '\\' ? 2 : 1;
        kei_buf_clear(&piece);
        kei_buf_addc(&piece, '"');
        kei_buf_add(&piece, p, (size_t)(q - p));
        kei_buf_addc(&piece, '"');
        assert_int_equal(kei_json_str(kei_buf_str(&piece), b, NULL), 0);
        if (q < end)
            kei_buf_addc(b, '\0');
        p = q < end ? q + 6 : end;
    }
    ke_buf_free(&piece);
}

/* {"text"} or {"b64"} */
static struct ke_str bytes_of(struct capture *c, struct ke_str obj, const char *text_key)
{
    struct ke_str v, none = {"", 0};
    struct ke_buf b = {NULL, 0, 0, NULL};

    if (kei_json_get(obj, text_key, &v))
        decode(&b, v);
    else if (kei_json_get(obj, "b64", &v))
        assert_true(kei_b64_decode(&b, kei_strn(v.p + 1, v.n - 2)));
    else
        return none;
    char *copy = kei_arena_strdup(&c->arena, kei_buf_str(&b));
    assert_non_null(copy);
    v = kei_strn(copy, b.n);
    ke_buf_free(&b);
    return v;
}

static size_t count(struct ke_str list)
{
    size_t it = 0, n = 0;

    while (kei_json_next(list, &it, NULL, NULL))
        n++;
    return n;
}

static struct ke_str item(struct ke_str list, size_t i)
{
    struct ke_str v = {NULL, 0};
    size_t it = 0;

    do
        assert_true(kei_json_next(list, &it, NULL, &v));
    while (i--);
    return v;
}

static uint32_t number(struct ke_str v)
{
    int64_t n;

    assert_true(kei_json_i64(v, &n));
    return (uint32_t)n;
}

static void read_lists(struct capture *c, struct capture_record *r, struct ke_str line)
{
    struct ke_str list;

    if (kei_json_get(line, "frames", &list)) {
        r->n_frames = count(list);
        r->frames = kei_arena_array(&c->arena, r->n_frames, sizeof *r->frames);
        assert_non_null(r->frames);
        for (size_t i = 0; i < r->n_frames; i++) {
            struct ke_str f = item(list, i);
            struct ke_str fin = item(f, 1);
            r->frames[i].opcode = number(item(f, 0));
            r->frames[i].fin =
                kei_json_type(fin) == '0' ? number(fin) != 0 : kei_json_bool(fin, false);
            r->frames[i].len = number(item(f, 2));
        }
    }
    if (kei_json_get(line, "headers", &list)) {
        r->n_headers = count(list);
        r->headers =
            kei_arena_array(&c->arena, r->n_headers ? r->n_headers : 1, sizeof *r->headers);
        assert_non_null(r->headers);
        for (size_t i = 0; i < r->n_headers; i++) {
            r->headers[i].name = kei_json_strdup(item(item(list, i), 0), &c->arena);
            r->headers[i].value = kei_json_strdup(item(item(list, i), 1), &c->arena);
            assert_non_null(r->headers[i].name);
            assert_non_null(r->headers[i].value);
        }
    }
}

static void read_record(struct capture *c, struct capture_record *r, struct ke_str line)
{
    struct ke_str v;

    if (kei_json_check(line, 0, NULL) < 0)
        fail_msg("%s/%s line %u is no JSON", c->version, c->name, r->line);
    if (kei_json_get(line, "t", &v))
        r->t = strtod(v.p, NULL);
    if (kei_json_get(line, "conn", &v))
        r->conn = number(v);
    r->kind = text_of(c, line, "kind");
    r->dir = text_of(c, line, "dir");
    r->listener = text_of(c, line, "listener");
    r->start = text_of(c, line, "start");
    r->note = text_of(c, line, "note");
    r->topic = text_of(c, line, "topic");
    r->has_client_cert = kei_json_get(line, "edge_client_cert", &v) && kei_json_type(v) != 'n';
    r->text = kei_json_get(line, "body", &v) ? bytes_of(c, v, "text") : bytes_of(c, line, "text");
    r->payload = *r->topic ? bytes_of(c, line, "payload") : kei_strn("", 0);
    read_lists(c, r, line);
}

void capture_load(struct capture *c, const char *version, const char *name)
{
    memset(c, 0, sizeof *c);
    snprintf(c->version, sizeof c->version, "%s", version);
    snprintf(c->name, sizeof c->name, "%s", name);
    kei_arena_init(&c->arena, kei_alloc_malloc(), 0);
    struct ke_str rest = read_all(c), line;
    for (size_t i = 0; i < rest.n; i++)
        c->n += rest.p[i] == '\n' || (i + 1 == rest.n && rest.p[i] != '\n');
    c->r = kei_arena_array(&c->arena, c->n, sizeof *c->r);
    assert_non_null(c->r);
    for (size_t i = 0; i < c->n; i++) {
        line = kei_str_cut(rest, '\n', &rest);
        c->r[i].line = (uint32_t)i;
        read_record(c, &c->r[i], line);
    }
}

void capture_free(struct capture *c)
{
    kei_arena_free(&c->arena);
    c->r = NULL;
    c->n = 0;
}

bool capture_is(const struct capture_record *r, const char *kind, const char *dir)
{
    return strcmp(r->kind, kind) == 0 && (!dir || strcmp(r->dir, dir) == 0);
}

const char *capture_header(const struct capture_record *r, const char *name)
{
    for (size_t i = 0; i < r->n_headers; i++) {
        if (kei_str_ieq(kei_str(r->headers[i].name), kei_str(name)))
            return r->headers[i].value;
    }
    return NULL;
}

static int is_capture(const struct dirent *d)
{
    struct ke_str name = kei_str(d->d_name);

    return kei_str_ends(name, KEI_STR(".jsonl")) && !kei_str_is(name, "mqtt-edge.jsonl");
}

size_t capture_each(void (*fn)(const struct capture *c, void *user), void *user)
{
    size_t total = 0;

    for (size_t v = 0; v < sizeof versions / sizeof versions[0]; v++) {
        struct dirent **names;
        char dir[500];
        folder(dir, sizeof dir, versions[v]);
        int n = scandir(dir, &names, is_capture, alphasort);
        if (n <= 0)
            fail_msg("no captures in %s (KE_TESTS names the folder tests/)", dir);
        for (int i = 0; i < n; i++) {
            struct capture c;
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)(strlen(names[i]->d_name) - 6),
                     names[i]->d_name);
            capture_load(&c, versions[v], name);
            fn(&c, user);
            capture_free(&c);
            free(names[i]);
        }
        free(names);
        total += (size_t)n;
    }
    return total;
}
