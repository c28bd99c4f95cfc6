/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public face of the tunnel: making, checking, status, and who is called back when. Owns the
 * tunnel; memory is given back when the owner and every callback and job let go of it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "kei_config.h"
#include "net/tls.h"
#include "tunnel/hub.h"
#include "tunnel/tunnel_priv.h"

#define DEFAULT_PROJECT "e632aba927ea4ac2b575ec1603d56f10"
#define STRINGS_MAX (256u * 1024)
#define CONFIG_MIN (offsetof(struct ke_tunnel_config, folder) + sizeof(char *))

/* ---- turns ---- */

static void free_now(struct ke_tunnel *t)
{
    kei_wire_fini(t);
    kei_identity_clear(&t->id);
    kei_identity_clear(&t->other);
    kei_key_free(t->host_key);
    kei_cert_free(t->host_ca);
    kei_arena_free(&t->arena);
    kei_free(t->alloc, t);
}

void kei_tunnel_unref(struct ke_tunnel *t)
{
    if (--t->refs == 0)
        free_now(t);
}

void kei_tunnel_enter(struct ke_tunnel *t)
{
    t->refs++;
    t->depth++;
}

static void tell_state(struct ke_tunnel *t)
{
    struct ke_tunnel_status st;

    t->dirty = false;
    if (ke_tunnel_status(t, &st, sizeof st) < 0)
        return;
    if (t->hub_ops.state)
        t->hub_ops.state(t->hub_user, &st);
    if (!t->freed && t->ops.state)
        t->ops.state(t->user, &st);
}

void kei_tunnel_leave(struct ke_tunnel *t)
{
    if (t->depth == 1 && t->dirty && !t->freed)
        tell_state(t);
    t->depth--;
    kei_tunnel_unref(t);
}

static void tell_later(struct kei_defer *d)
{
    struct ke_tunnel *t = KEI_OF(d, struct ke_tunnel, tell);

    kei_tunnel_enter(t);
    kei_tunnel_leave(t);
}

void kei_tunnel_changed(struct ke_tunnel *t)
{
    t->dirty = true;
    if (t->depth == 0)
        kei_defer(t->ctx, &t->tell, tell_later);
}

void kei_tunnel_error(struct ke_tunnel *t, int code, const char *fmt, ...)
{
    char text[KE_ERROR_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    kei_error(&t->err, code, "%s", text);
    kei_log(t->ctx, KE_LOG_WARN, "tunnel", "%s", t->err.text);
    kei_tunnel_changed(t);
}

void kei_tunnel_attach(struct ke_tunnel *t, const struct ke_tunnel_ops *ops, void *user)
{
    t->hub_ops = ops ? *ops : (struct ke_tunnel_ops){0};
    t->hub_user = user;
}

/* ---- configuration ---- */

void ke_tunnel_config_init(struct ke_tunnel_config *c, size_t size)
{
    kei_abi_init(c, size);
}

static int copy_string(struct ke_tunnel *t, const char **s)
{
    if (!*s || !**s) {
        *s = NULL;
        return 0;
    }
    *s = kei_arena_strdup(&t->arena, kei_str(*s));
    return *s ? 0 : kei_fail(t->ctx, KE_ENOMEM, "out of memory for the tunnel's configuration");
}

static int copy_strings(struct ke_tunnel *t)
{
    const char **all[] = {&t->conf.node_name, &t->conf.host,     &t->conf.project_id,
                          &t->conf.token,     &t->conf.folder,   &t->conf.ca_file,
                          &t->conf.cert_file, &t->conf.key_file, &t->conf.proxy_url};
    int r = 0;

    for (size_t i = 0; i < sizeof all / sizeof all[0] && r == 0; i++)
        r = copy_string(t, all[i]);
    return r;
}

static void defaults(struct ke_tunnel_config *c)
{
    c->project_id = c->project_id ? c->project_id : DEFAULT_PROJECT;
    c->tunnel_port = c->tunnel_port ? c->tunnel_port : 10000;
    c->cert_port = c->cert_port ? c->cert_port : 10002;
    c->heartbeat_ms = c->heartbeat_ms ? c->heartbeat_ms : 15000;
    c->dead_ms = c->dead_ms ? c->dead_ms : 30000;
    c->retry_min_ms = c->retry_min_ms ? c->retry_min_ms : 1000;
    c->retry_max_ms = c->retry_max_ms ? c->retry_max_ms : 60000;
    c->max_message = c->max_message ? c->max_message : 32u * 1024 * 1024;
    c->outbox_messages = c->outbox_messages ? c->outbox_messages : 10000;
    c->outbox_bytes = c->outbox_bytes ? c->outbox_bytes : 64u * 1024 * 1024;
}

/* Names go into a request line and headers: nothing that could end one. */
static bool is_token(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~");

    return n > 0 && s[n] == '\0' && n <= 253;
}

static bool is_host(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:[]%");

    return n > 0 && s[n] == '\0' && n <= 255;
}

static int check(struct ke_tunnel *t)
{
    const struct ke_tunnel_config *c = &t->conf;
    const char *bad = NULL;

    if (!c->node_name || !kei_dns_subdomain(kei_str(c->node_name)))
        bad = "node_name is missing or not a DNS subdomain name";
    else if (!c->host || !is_host(c->host))
        bad = "host is missing or no name or address";
    else if (!c->folder)
        bad = "folder is missing";
    else if (!is_token(c->project_id))
        bad = "project_id has characters that are not allowed";
    else if (c->tunnel_port > 65535)
        bad = "tunnel_port is over 65535";
    else if (c->cert_port > 65535)
        bad = "cert_port is over 65535";
    else if (!(c->dialect == KE_DIALECT_AUTO || c->dialect == KE_DIALECT_1_4 ||
               c->dialect == KE_DIALECT_1_15 || c->dialect == KE_DIALECT_1_23))
        bad = "dialect is not one of KE_DIALECT_*";
    else if (c->retry_min_ms > c->retry_max_ms)
        bad = "retry_min_ms is over retry_max_ms";
    else if (c->cert_file && (!c->key_file || !c->ca_file))
        bad = "cert_file needs key_file and ca_file beside it";
    else if (c->flags || c->reserved)
        bad = "flags and reserved must be 0";
    return bad ? kei_fail(t->ctx, KE_EINVAL, "the tunnel's configuration was refused: %s", bad) : 0;
}

/* ---- life ---- */

static void kick(struct kei_defer *d)
{
    struct ke_tunnel *t = KEI_OF(d, struct ke_tunnel, kick);

    kei_tunnel_enter(t);
    kei_link_event(t,
                   t->step == KEI_STEP_IDLE || t->step == KEI_STEP_STOPPED ? KEI_EV_START
                                                                           : KEI_EV_RECONNECT,
                   0);
    kei_tunnel_leave(t);
}

static int set_up(struct ke_tunnel *t, const struct ke_tunnel_config *c,
                  const struct ke_tunnel_ops *ops)
{
    int r = kei_abi_in(&t->conf, sizeof t->conf, c, CONFIG_MIN, "struct ke_tunnel_config",
                       kei_err(t->ctx));

    if (r == 0 && ops)
        r = kei_abi_in(&t->ops, sizeof t->ops, ops, sizeof t->ops.size, "struct ke_tunnel_ops",
                       kei_err(t->ctx));
    if (r == 0)
        r = copy_strings(t);
    if (r < 0)
        return r;
    defaults(&t->conf);
    r = check(t);
    if (r == 0)
        r = kei_crypto_get(t->ctx, &t->crypto);
    if (r == 0)
        r = kei_wire_init(t);
    return r;
}

int ke_tunnel_new(struct ke_tunnel **ret, struct ke_ctx *ctx, const struct ke_tunnel_config *c,
                  const struct ke_tunnel_ops *ops, void *user)
{
    struct ke_tunnel *t;
    int r;

    if (!ctx)
        return KE_EINVAL;
    if (!ret || !c)
        return kei_fail(ctx, KE_EINVAL, "a tunnel needs a place to return it and a configuration");
    if (!KEI_HAVE_WS)
        return kei_fail(ctx, KE_ENOTSUP, "this library was built without the tunnel");
    t = kei_zalloc(kei_ctx_alloc(ctx), sizeof *t);
    if (!t)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for a tunnel");
    t->ctx = ctx;
    t->alloc = kei_ctx_alloc(ctx);
    t->refs = 1;
    t->user = user;
    t->err = (struct ke_error)KE_ERROR_INIT;
    kei_arena_init(&t->arena, t->alloc, STRINGS_MAX);
    r = set_up(t, c, ops);
    if (r < 0) {
        free_now(t);
        return r;
    }
    kei_link_init(t);
    *ret = t;
    return 0;
}

void ke_tunnel_free(struct ke_tunnel *t)
{
    if (!t || t->freed)
        return;
    kei_link_event(t, KEI_EV_STOP, 0);
    t->freed = true;
    kei_defer_cancel(&t->kick);
    kei_defer_cancel(&t->tell);
    kei_link_fini(t);
    kei_outbox_free(t->outbox);
    t->outbox = NULL;
    kei_tunnel_unref(t);
}

int ke_tunnel_start(struct ke_tunnel *t)
{
    if (!t)
        return KE_EINVAL;
    if (t->begun)
        return kei_fail(t->ctx, KE_ESTATE, "the tunnel of node %s was started already",
                        t->conf.node_name);
    t->begun = true;
    kei_defer(t->ctx, &t->kick, kick);
    return 0;
}

void ke_tunnel_stop(struct ke_tunnel *t)
{
    if (!t)
        return;
    kei_defer_cancel(&t->kick);
    kei_link_event(t, KEI_EV_STOP, 0);
}

int ke_tunnel_reconnect(struct ke_tunnel *t)
{
    if (!t)
        return KE_EINVAL;
    if (!t->begun)
        return kei_fail(t->ctx, KE_ESTATE, "the tunnel of node %s is not started",
                        t->conf.node_name);
    kei_defer(t->ctx, &t->kick, kick);
    return 0;
}

void kei_tunnel_tell_newest(struct ke_tunnel *t, int64_t (*fn)(void *user), void *user)
{
    if (t) {
        t->newest = fn;
        t->newest_user = user;
    }
}

void kei_tunnel_offer_merge(struct ke_tunnel *t)
{
    if (t)
        t->offer_merge = true;
}

bool kei_tunnel_merges(const struct ke_tunnel *t, int64_t *ret_now_ms)
{
    *ret_now_ms = t && t->merges ? t->merge_now_ms : 0;
    return t && t->merges;
}

void kei_tunnel_store_lost(struct ke_tunnel *t)
{
    if (!t || !t->conf.store)
        return;
    kei_files_new_store_id(t);
    if (t->step == KEI_STEP_DIAL || t->step == KEI_STEP_UP)
        kei_defer(t->ctx, &t->kick, kick);
}

/* ---- looking and sending ---- */

int ke_tunnel_status(struct ke_tunnel *t, struct ke_tunnel_status *ret, size_t size)
{
    struct ke_tunnel_status st = {.size = sizeof st};
    int64_t now;

    if (!t)
        return KE_EINVAL;
    if (!ret)
        return kei_fail(t->ctx, KE_EINVAL, "no place was given for the tunnel's status");
    now = ke_ctx_mono_ms(t->ctx);
    st.state = kei_link_state(t);
    st.dialect = kei_tunnel_dialect(t);
    st.last_error = t->err.code;
    st.last_error_text = t->err.text;
    st.attempts = t->attempts;
    st.next_retry_ms = -1;
    if (t->step == KEI_STEP_WAIT && kei_timer_armed(&t->retry))
        st.next_retry_ms = t->retry.due_ms > now ? t->retry.due_ms - now : 0;
    st.connected_ms = t->step == KEI_STEP_UP ? now - t->connected_at : -1;
    st.cert_not_after = t->id.info.not_after;
    st.cert_rotate_at = kei_rotate_at(t);
    st.sent = t->sent;
    st.received = t->received;
    st.sent_bytes = t->bytes_out + (t->ws ? kei_ws_bytes_out(t->ws) : 0);
    st.received_bytes = t->bytes_in + (t->ws ? kei_ws_bytes_in(t->ws) : 0);
    st.outbox = kei_outbox_count(t->outbox);
    st.outbox_refused = kei_outbox_refused(t->outbox);
    st.skipped = t->skipped;
    return kei_abi_out(ret, size, &st, sizeof st, sizeof st.size + sizeof st.state,
                       "struct ke_tunnel_status", kei_err(t->ctx));
}

bool kei_tunnel_connected(const struct ke_tunnel *t)
{
    return t && t->step == KEI_STEP_UP;
}

uint32_t kei_tunnel_dialect(const struct ke_tunnel *t)
{
    if (!t)
        return KE_DIALECT_AUTO;
    return t->conf.dialect != KE_DIALECT_AUTO ? t->conf.dialect : t->notes.dialect;
}

const char *kei_tunnel_local_ip(const struct ke_tunnel *t)
{
    return t ? t->local_ip : "";
}

int ke_tunnel_send(struct ke_tunnel *t, struct ke_msg *m, uint32_t how, const char *key,
                   ke_store_done_fn done, void *user)
{
    int r;

    if (!t)
        return KE_EINVAL;
    if (!m || how > KE_SEND_EVENT)
        return kei_fail(t->ctx, KE_EINVAL, "sending needs a message and one of KE_SEND_*");
    if (how == KE_SEND_NOW) {
        r = kei_wire_send(t, m, NULL);
        return r == KE_EAGAIN ? KE_ELIMIT : r;
    }
    r = kei_outbox_load(t->outbox);
    if (r == 0)
        r = kei_outbox_add(t->outbox, m, how, key, done, user);
    return r;
}

int ke_tunnel_ack(struct ke_tunnel *t, struct ke_msg *m)
{
    struct ke_msg *ok = NULL;
    int r;

    if (!t)
        return KE_EINVAL;
    if (!m)
        return kei_fail(t->ctx, KE_EINVAL, "acknowledging needs a message");
    kei_wire_acked(t, ke_msg_id(m));
    r = ke_msg_new_reply(&ok, t->ctx, m, "\"OK\"", 4, kei_err(t->ctx));
    if (r == 0)
        r = kei_wire_send(t, ok, NULL);
    ke_msg_unref(ok);
    /* Without a link the cloud sends it again, and that copy is acknowledged. */
    return r == KE_ECLOSED || r == KE_EAGAIN ? 0 : r;
}
