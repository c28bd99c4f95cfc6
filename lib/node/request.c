/* SPDX-License-Identifier: Apache-2.0 */
/* See request.h. Memory: the message only, given back when the router has it. */
#include "node/request.h"

#include <stdio.h>

static void finish(struct kei_request *q, const struct kei_reply *r)
{
    kei_request_fn fn = q->fn;
    q->fn = NULL;
    q->id = 0;
    if (fn)
        fn(q->user, r);
}

static void fail_with(struct kei_request *q, int code, const char *text)
{
    struct kei_reply r = {.kind = KEI_REPLY_ERROR};
    snprintf(r.text, sizeof r.text, "%s", text[0] ? text : ke_strerror(code));
    finish(q, &r);
}

static void on_failed(struct kei_defer *defer)
{
    struct kei_request *q = KEI_OF(defer, struct kei_request, failed);
    fail_with(q, q->failed_code, ke_ctx_error(q->ctx));
}

static void on_reply(void *user, int status, struct ke_msg *m)
{
    struct kei_request *q = user;
    struct kei_reply r;
    size_t n = 0;
    q->id = 0;
    if (status < 0) {
        fail_with(q, status, status == KE_ETIMEDOUT ? "no answer in time" : "");
        return;
    }
    const char *content = ke_msg_content(m, &n);
    kei_reply_read(&r, kei_strn(content, n));
    if (strcmp(ke_msg_operation(m), "error") == 0)
        r.kind = KEI_REPLY_ERROR;
    if (r.kind == KEI_REPLY_ERROR && !r.text[0])
        snprintf(r.text, sizeof r.text, "%.*s", (int)(n < 200 ? n : 200), content);
    finish(q, &r);
}

void kei_request_init(struct kei_request *q, struct ke_ctx *ctx, struct ke_router *router,
                      void *user)
{
    *q = (struct kei_request){.ctx = ctx, .router = router, .user = user};
}

void kei_request_send(struct kei_request *q, const char *operation, const char *resource_prefix,
                      const char *name, struct ke_buf *body, int64_t timeout_ms, kei_request_fn fn)
{
    char resource[512];
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    kei_request_cancel(q);
    q->fn = fn;
    snprintf(resource, sizeof resource, "%s%s", resource_prefix, name);
    ke_msg_config_init(&c, sizeof c);
    c.source = "edged";
    c.group = "meta";
    c.operation = operation;
    c.resource = resource;
    int r = 0;
    if (body) {
        c.content = body->p;
        c.content_len = body->n;
        if (!kei_buf_ok(body))
            r = kei_fail(q->ctx, KE_ENOMEM, "out of memory for %s %s", operation, resource);
    }
    if (r == 0)
        r = ke_msg_new(&m, q->ctx, &c, kei_err(q->ctx));
    if (r == 0)
        r = ke_router_request(q->router, "metamanager", m, timeout_ms, on_reply, q, &q->id);
    ke_msg_unref(m);
    if (body)
        ke_buf_free(body);
    if (r < 0) {
        q->failed_code = r;
        kei_defer(q->ctx, &q->failed, on_failed);
    }
}

void kei_request_cancel(struct kei_request *q)
{
    if (q->id)
        ke_router_cancel(q->router, q->id);
    kei_defer_cancel(&q->failed);
    q->id = 0;
    q->fn = NULL;
}
