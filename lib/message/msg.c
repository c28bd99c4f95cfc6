/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The message: made, counted, read. One block of memory holds the header and all strings; it never
 * changes after it was made, so any thread may read it and the last reference frees it.
 */
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/codec.h"
#include "base/json.h"
#include "base/loop.h"
#include "message/msg_priv.h"

struct ke_msg {
    atomic_uint refs;
    bool sync;
    const struct ke_alloc *alloc;
    int64_t timestamp_ms;
    /* into text, each NUL-terminated */
    struct ke_str id, parent_id, resource_version, type;
    struct ke_str source, destination, group, operation, resource;
    struct ke_str content;
    char text[];
};

static bool add_len(size_t *total, struct ke_str s)
{
    if (s.n >= SIZE_MAX - *total)
        return false;
    *total += s.n + 1;
    return true;
}

static struct ke_str put(char **to, struct ke_str s)
{
    struct ke_str copy = {*to, s.n};

    if (s.n)
        memcpy(*to, s.p, s.n);
    (*to)[s.n] = '\0';
    *to += s.n + 1;
    return copy;
}

int kei_msg_build(struct ke_msg **ret, struct ke_ctx *ctx, const struct kei_msg_view *v,
                  struct ke_error *err)
{
    struct ke_str content = v->content.p ? v->content : KEI_STR("null");
    size_t total = sizeof(struct ke_msg);

    bool fits = add_len(&total, v->id) && add_len(&total, v->parent_id) &&
                add_len(&total, v->resource_version) && add_len(&total, v->type) &&
                add_len(&total, v->source) && add_len(&total, v->destination) &&
                add_len(&total, v->group) && add_len(&total, v->operation) &&
                add_len(&total, v->resource) && add_len(&total, content);
    struct ke_msg *m = fits ? kei_alloc(kei_ctx_alloc(ctx), total) : NULL;
    if (!m)
        return kei_error(err, KE_ENOMEM, "memory ran out for message %.*s %.*s",
                         KEI_FMT(v->operation), KEI_FMT(v->resource));
    char *to = m->text;
    atomic_init(&m->refs, 1);
    m->alloc = kei_ctx_alloc(ctx);
    m->sync = v->sync;
    m->timestamp_ms = v->timestamp_ms;
    m->id = put(&to, v->id);
    m->parent_id = put(&to, v->parent_id);
    m->resource_version = put(&to, v->resource_version);
    m->type = put(&to, v->type);
    m->source = put(&to, v->source);
    m->destination = put(&to, v->destination);
    m->group = put(&to, v->group);
    m->operation = put(&to, v->operation);
    m->resource = put(&to, v->resource);
    m->content = put(&to, content);
    *ret = m;
    return 0;
}

void kei_msg_as_view(struct kei_msg_view *v, const struct ke_msg *m)
{
    *v = (struct kei_msg_view){
        .id = m->id,
        .parent_id = m->parent_id,
        .resource_version = m->resource_version,
        .type = m->type,
        .source = m->source,
        .destination = m->destination,
        .group = m->group,
        .operation = m->operation,
        .resource = m->resource,
        .content = m->content,
        .timestamp_ms = m->timestamp_ms,
        .sync = m->sync,
    };
}

void ke_msg_config_init(struct ke_msg_config *c, size_t size)
{
    kei_abi_init(c, size);
}

/* A view is only as long as the JSON value: white space around it is not content. */
static int check_content(struct kei_msg_view *v, const char *content, size_t n,
                         struct ke_error *err)
{
    v->content = (struct ke_str){NULL, 0};
    if (!content)
        return 0;
    struct ke_str text = {content, n};
    int r = kei_json_check(text, 0, err);
    if (r == 0)
        r = kei_json_value(text, 0, &v->content, err);
    if (r < 0)
        return kei_error_prefix(err, r, "content of message %.*s %.*s", KEI_FMT(v->operation),
                                KEI_FMT(v->resource));
    return 0;
}

int ke_msg_new(struct ke_msg **ret, struct ke_ctx *ctx, const struct ke_msg_config *config,
               struct ke_error *reterr)
{
    struct ke_msg_config c;
    char id[KEI_UUID_LEN + 1];

    if (!ret || !ctx || !config)
        return kei_error(reterr, KE_EINVAL, "message was not made: ret, ctx or c was NULL");
    int r = kei_abi_in(&c, sizeof c, config,
                       offsetof(struct ke_msg_config, content_len) + sizeof(size_t),
                       "struct ke_msg_config", reterr);
    if (r < 0)
        return r;
    struct kei_msg_view v = {
        .id = kei_str(c.id),
        .parent_id = kei_str(c.parent_id),
        .resource_version = kei_str(c.resource_version),
        .source = kei_str(c.source),
        .destination = kei_str(c.destination),
        .group = kei_str(c.group),
        .operation = kei_str(c.operation),
        .resource = kei_str(c.resource),
        .timestamp_ms = c.timestamp_ms ? c.timestamp_ms : ke_ctx_real_ms(ctx),
    };
    if (!c.id) {
        r = kei_ctx_uuid(ctx, id);
        if (r < 0)
            return kei_error(reterr, r, "message was not made: no random id could be drawn");
        v.id = kei_str(id);
    }
    r = check_content(&v, c.content, c.content_len, reterr);
    if (r < 0)
        return r;
    return kei_msg_build(ret, ctx, &v, reterr);
}

int ke_msg_new_reply(struct ke_msg **ret, struct ke_ctx *ctx, const struct ke_msg *m,
                     const char *content, size_t content_len, struct ke_error *reterr)
{
    char id[KEI_UUID_LEN + 1];

    if (!ret || !ctx || !m)
        return kei_error(reterr, KE_EINVAL, "reply was not made: ret, ctx or m was NULL");
    int r = kei_ctx_uuid(ctx, id);
    if (r < 0)
        return kei_error(reterr, r, "reply to message %s was not made: no random id could be drawn",
                         m->id.p);
    struct kei_msg_view v = {
        .id = kei_str(id),
        .parent_id = m->id,
        .type = m->type,
        .source = m->source,
        .group = m->group,
        .operation = KEI_STR("response"),
        .resource = m->resource,
        .timestamp_ms = ke_ctx_real_ms(ctx),
    };
    r = check_content(&v, content, content_len, reterr);
    if (r < 0)
        return r;
    return kei_msg_build(ret, ctx, &v, reterr);
}

struct ke_msg *ke_msg_ref(struct ke_msg *m)
{
    if (m)
        atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void ke_msg_unref(struct ke_msg *m)
{
    /* the last one must see what the others wrote before it frees */
    if (m && atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1)
        kei_free(m->alloc, m);
}

const char *ke_msg_id(const struct ke_msg *m)
{
    return m ? m->id.p : "";
}

const char *ke_msg_parent_id(const struct ke_msg *m)
{
    return m ? m->parent_id.p : "";
}

int64_t ke_msg_timestamp_ms(const struct ke_msg *m)
{
    return m ? m->timestamp_ms : 0;
}

const char *ke_msg_resource_version(const struct ke_msg *m)
{
    return m ? m->resource_version.p : "";
}

const char *ke_msg_source(const struct ke_msg *m)
{
    return m ? m->source.p : "";
}

const char *ke_msg_destination(const struct ke_msg *m)
{
    return m ? m->destination.p : "";
}

const char *ke_msg_group(const struct ke_msg *m)
{
    return m ? m->group.p : "";
}

const char *ke_msg_operation(const struct ke_msg *m)
{
    return m ? m->operation.p : "";
}

const char *ke_msg_resource(const struct ke_msg *m)
{
    return m ? m->resource.p : "";
}

const char *ke_msg_content(const struct ke_msg *m, size_t *ret_len)
{
    if (ret_len)
        *ret_len = m ? m->content.n : 4;
    return m ? m->content.p : "null";
}
