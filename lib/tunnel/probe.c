/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the certificate port for the dialect or the time. Owns its exchange. Loop thread. */
#include "tunnel/probe.h"

#include <stdio.h>

#include "base/error.h"
#include "base/loop.h"
#include "net/http.h"
#include "net/tls.h"
#include "tunnel/join.h"

#define PROBE_MS 10000
#define BODY_MAX (64u * 1024)

struct kei_probe {
    struct ke_ctx *ctx;
    struct kei_probe_config conf;
    struct kei_http_call *call;
    kei_probe_fn done;
    void *user;
    bool closed; /* /readyz was answered by closing the connection */
};

static int ask(struct kei_probe *p, const char *target, kei_http_done_fn fn)
{
    struct kei_http_call_config c = {
        .stream = {.host = p->conf.host,
                   .port = p->conf.port,
                   .proxy_url = p->conf.proxy_url,
                   .tls = p->conf.tls,
                   .connect_ms = PROBE_MS},
        .method = "GET",
        .target = target,
        .timeout_ms = PROBE_MS,
        .max_body = BODY_MAX,
    };

    kei_http_call_free(p->call);
    p->call = NULL;
    return kei_http_call(&p->call, p->ctx, &c, fn, p);
}

/* p may be freed by the callee. */
static void finish(struct kei_probe *p, int status, const char *text, int64_t answer)
{
    p->done(p->user, status, text, answer);
}

/* ---- dialect ---- */

static void on_ready(void *user, int status, const char *text, const struct kei_http_head *head,
                     struct ke_str body)
{
    struct kei_probe *p = user;

    (void)head;
    /*
     * 1.4 without leader election fails in this handler and drops the connection: no other cloud
     * has the handler. Asked twice, lest a cloud that ends in this moment passes for one.
     */
    if (status == KE_ECLOSED && !p->closed) {
        p->closed = true;
        status = ask(p, "/readyz", on_ready);
        if (status < 0)
            finish(p, status, ke_ctx_error(p->ctx), 0);
    } else if (status == KE_ECLOSED) {
        finish(p, 0, "", KE_DIALECT_1_4);
    } else if (status < 0) {
        finish(p, status, text, 0);
    } else {
        finish(p, 0, "",
               kei_str_starts(body, KEI_STR("Cloudcore is ")) ? KE_DIALECT_1_4 : KE_DIALECT_1_15);
    }
}

static void on_node(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct kei_probe *p = user;

    (void)head;
    if (status < 0) {
        finish(p, status, text, 0);
        return;
    }
    if (kei_str_starts(body, KEI_STR("Node founded")) ||
        kei_str_starts(body, KEI_STR("Node not found"))) {
        finish(p, 0, "", KE_DIALECT_1_23);
        return;
    }
    status = ask(p, "/readyz", on_ready);
    if (status < 0)
        finish(p, status, ke_ctx_error(p->ctx), 0);
}

/* ---- time ---- */

static void on_date(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct kei_probe *p = user;
    int64_t ms;

    (void)body;
    if (status < 0) {
        finish(p, status, text, 0);
        return;
    }
    ms = kei_http_date_ms(head);
    if (ms == 0)
        finish(p, KE_EPROTO, "the cloud's answer had no Date", 0);
    else
        finish(p, 0, "", ms);
}

/* ---- both ---- */

static int start(struct kei_probe **ret, struct ke_ctx *ctx, const struct kei_probe_config *c,
                 kei_probe_fn done, void *user, const char *target, kei_http_done_fn fn)
{
    struct kei_probe *p = kei_zalloc(kei_ctx_alloc(ctx), sizeof *p);
    int r;

    if (!p)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for asking the cloud");
    p->ctx = ctx;
    p->conf = *c;
    p->done = done;
    p->user = user;
    if (c->tls)
        kei_tls_config_ref(c->tls);
    r = ask(p, target, fn);
    if (r < 0)
        kei_probe_free(p);
    else
        *ret = p;
    return r;
}

int kei_probe_dialect(struct kei_probe **ret, struct ke_ctx *ctx, const struct kei_probe_config *c,
                      kei_probe_fn done, void *user)
{
    char target[300];

    if (snprintf(target, sizeof target, "/node/%s", c->node_name) >= (int)sizeof target)
        return kei_fail(ctx, KE_ELIMIT, "node name %.40s... was too long", c->node_name);
    return start(ret, ctx, c, done, user, target, on_node);
}

int kei_probe_time(struct kei_probe **ret, struct ke_ctx *ctx, const struct kei_probe_config *c,
                   kei_probe_fn done, void *user)
{
    return start(ret, ctx, c, done, user, "/ca.crt", on_date);
}

void kei_probe_free(struct kei_probe *p)
{
    if (!p)
        return;
    kei_http_call_free(p->call);
    kei_tls_config_unref(p->conf.tls);
    kei_free(kei_ctx_alloc(p->ctx), p);
}
