/* SPDX-License-Identifier: Apache-2.0 */
/* config.yaml of upstream's mapper framework. The settings own their texts. Loop thread. */
#include <stdio.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/yaml.h"
#include "dmi/mapper_priv.h"

#define FILE_MAX_BYTES (1024u * 1024u)
#define PORT "7777" /* upstream's */

struct ke_mapper_settings {
    struct ke_ctx *ctx;
    struct kei_arena arena;
    struct ke_mapper_config config;
};

/* One reading of a file. */
struct reader {
    struct ke_mapper_settings *s;
    const struct kei_yaml *yaml;
    struct ke_str doc;
    const char *path;
    void (*unknown)(void *user, const char *key, uint32_t line);
    void *user;
    const char *address, *port; /* of the HTTP API */
    const char *mode;           /* of dev_init */
};

static uint32_t line_of(const struct reader *r, struct ke_str v)
{
    return kei_yaml_line(r->yaml, 0, (size_t)(v.p - r->doc.p));
}

static int wrong(const struct reader *r, const char *key, struct ke_str v, const char *what)
{
    return kei_fail(r->s->ctx, KE_EINVAL, "%s:%u: %s %s", r->path, (unsigned)line_of(r, v), key,
                    what);
}

/* A text, or a number as its text; "" and null leave *ret alone. */
static int take_text(struct reader *r, const char *key, struct ke_str v, const char **ret)
{
    char type = kei_json_type(v);

    if (type == 'n')
        return 0;
    if (type != '"' && type != '0')
        return wrong(r, key, v, "is not a text");
    const char *s =
        type == '"' ? kei_json_strdup(v, &r->s->arena) : kei_arena_strdup(&r->s->arena, v);
    if (!s)
        return kei_fail(r->s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
    if (s[0])
        *ret = s;
    return 0;
}

static int take(struct reader *r, const char *section, struct ke_str name, struct ke_str v)
{
    struct ke_mapper_config *c = &r->s->config;
    const struct {
        const char *key;
        const char **to;
    } keys[] = {
        {"grpc_server.socket_path", &c->socket},
        {"common.name", &c->name},
        {"common.version", &c->version},
        {"common.api_version", &c->api_version},
        {"common.protocol", &c->protocol},
        {"common.edgecore_sock", &c->edge_socket},
        {"common.address", &r->address},
        {"common.http_port", &r->port},
        {"dev_init.mode", &r->mode},
    };
    char key[160];

    snprintf(key, sizeof key, "%s.%.*s", section, (int)(name.n < 100 ? name.n : 100), name.p);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(keys[i].key, key) == 0)
            return take_text(r, key, v, keys[i].to);
    if (r->unknown)
        r->unknown(r->user, key, line_of(r, v));
    return 0;
}

static int walk(struct reader *r)
{
    static const char *const sections[] = {"grpc_server", "common", "dev_init"};
    struct ke_str name, v, key, value;
    size_t it = 0;
    char text[120];

    while (kei_json_next(r->doc, &it, &name, &v)) {
        const char *section = NULL;
        for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
            if (kei_json_key_is(name, sections[i]))
                section = sections[i];
        snprintf(text, sizeof text, "%.*s", (int)(name.n < 100 ? name.n : 100), name.p);
        if (!section && r->unknown)
            r->unknown(r->user, text, line_of(r, v));
        if (!section || kei_json_type(v) == 'n')
            continue;
        if (kei_json_type(v) != '{')
            return wrong(r, section, v, "is not a map");
        size_t at = 0;
        while (kei_json_next(v, &at, &key, &value)) {
            int e = take(r, section, key, value);
            if (e < 0)
                return e;
        }
    }
    return 0;
}

/* What the members make together. */
static int settle(struct reader *r)
{
    struct ke_mapper_settings *s = r->s;

    if (r->mode && strcmp(r->mode, "register") != 0)
        return kei_fail(s->ctx, KE_EINVAL, "%s: dev_init.mode %s is not known: register is",
                        r->path, r->mode);
    if (r->port && strcmp(r->port, "0") == 0)
        return 0;
    s->config.http_listen = kei_arena_printf(
        &s->arena, "%s:%s", r->address ? r->address : "127.0.0.1", r->port ? r->port : PORT);
    return s->config.http_listen ? 0 : kei_fail(s->ctx, KE_ENOMEM, "out of memory for %s", r->path);
}

static int read_document(struct reader *r, struct ke_str source)
{
    struct ke_ctx *ctx = r->s->ctx;
    struct kei_yaml *y = NULL;
    int e = kei_yaml_parse(&y, kei_ctx_alloc(ctx), source, FILE_MAX_BYTES, kei_err(ctx));

    if (e < 0)
        return kei_error_prefix(kei_err(ctx), e, "%s", r->path);
    if (kei_yaml_count(y) != 1 || kei_json_type(kei_yaml_get(y, 0)->json) != '{') {
        kei_yaml_free(y);
        return kei_fail(ctx, KE_EPARSE, "%s: is not one YAML map", r->path);
    }
    r->yaml = y;
    r->doc = kei_yaml_get(y, 0)->json;
    e = walk(r);
    kei_yaml_free(y);
    return e < 0 ? e : settle(r);
}

int ke_mapper_settings_read(struct ke_mapper_settings **ret, struct ke_ctx *ctx, const char *path,
                            void (*unknown)(void *user, const char *key, uint32_t line), void *user)
{
    struct ke_buf source;

    if (!ret || !ctx || !path)
        return KE_EINVAL;
    struct ke_mapper_settings *s = kei_zalloc(kei_ctx_alloc(ctx), sizeof *s);
    if (!s)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for %s", path);
    s->ctx = ctx;
    kei_arena_init(&s->arena, kei_ctx_alloc(ctx), 0);
    ke_mapper_config_init(&s->config, sizeof s->config);
    kei_buf_init(&source, kei_ctx_alloc(ctx));
    struct reader r = {.s = s, .path = path, .unknown = unknown, .user = user};
    int e = kei_file_read(kei_ctx_io(ctx), path, FILE_MAX_BYTES, &source, kei_err(ctx));
    if (e == 0)
        e = read_document(&r, kei_buf_str(&source));
    ke_buf_free(&source);
    if (e < 0) {
        ke_mapper_settings_free(s);
        return e;
    }
    *ret = s;
    return 0;
}

struct ke_mapper_config *ke_mapper_settings_config(struct ke_mapper_settings *s)
{
    return s ? &s->config : NULL;
}

void ke_mapper_settings_free(struct ke_mapper_settings *s)
{
    if (!s)
        return;
    kei_arena_free(&s->arena);
    kei_free(kei_ctx_alloc(s->ctx), s);
}
