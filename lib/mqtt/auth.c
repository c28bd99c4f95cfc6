/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a client let in? First the host's callback is asked, then users, identities and rules. Both
 * may take their time; enhanced authentication takes several rounds. One ke_mqtt_auth holds what is
 * needed meanwhile. Loop thread, but ke_mqtt_auth_complete.
 */
#include "mqtt/calls.h"
#include "mqtt/journal.h"
#include "mqtt/server.h"
#include "mqtt/via.h"
#include "net/addr.h"

struct ke_mqtt_auth {
    struct ke_mqtt *m;
    struct mq_conn *c; /* NULL: it went away */
    void *job;         /* of the access table */
    bool again;        /* a client that is up authenticates once more */
    bool with_host;    /* the host has it and owes a completion */
    bool in_call;      /* the host's callback runs */
    atomic_bool completing;
    struct kei_mqtt_connect k;
    char *id;
    uint8_t *body;
    struct ke_buf cert;
    char address[KEI_ADDR_TEXT];
};

/* A completion on its way to the loop. */
struct completion {
    struct mq_call call;
    struct ke_mqtt_auth *a;
    uint32_t reason;
    struct ke_str data, text, identity, user_name, server;
    char bytes[];
};

static void auth_free(struct ke_mqtt_auth *a)
{
    const struct ke_alloc *al = a->m->alloc;

    if (a->c)
        a->c->auth = NULL;
    ke_buf_free(&a->cert);
    kei_free(al, a->id);
    kei_free(al, a->body);
    kei_free(al, a);
}

void kei_mq_auth_gone(struct mq_conn *c)
{
    struct ke_mqtt_auth *a = c->auth;
    struct ke_mqtt *m = c->m;

    if (!a)
        return;
    c->auth = NULL;
    a->c = NULL;
    if (a->job)
        m->access->ops->cancel(m->access, a->job);
    a->job = NULL;
    if (a->in_call || atomic_load(&a->completing))
        return; /* freed when the completion arrives, or the callback returns */
    if (a->with_host && m->ops.auth_gone) {
        kei_mq_enter(m);
        m->ops.auth_gone(m->user, a);
        kei_mq_leave(m);
    }
    auth_free(a);
}

void kei_mq_auth_timeout(struct mq_conn *c)
{
    struct ke_mqtt_auth *a = c->auth;

    if (a && !a->again)
        kei_mq_refuse(c, &a->k, KEI_MQTT_R_BUSY, "it was not decided in time who it is (auth_ms)",
                      kei_strn(NULL, 0));
    else
        kei_mq_conn_lost(c, "it was not decided in time who it is");
    kei_mq_auth_gone(c);
}

/* ---- deciding ---- */

static struct ke_str method_of(const struct ke_mqtt_auth *a)
{
    return a->k.props.has & KEI_MQTT_HAS(KEI_MQTT_P_AUTH_METHOD) ? a->k.props.auth_method
                                                                 : kei_strn(NULL, 0);
}

static void deny(struct ke_mqtt_auth *a, unsigned reason, const char *text, struct ke_str server)
{
    struct mq_conn *c = a->c;

    if (a->again)
        kei_mq_conn_close(c, reason, "authentication was refused");
    else
        kei_mq_refuse(c, &a->k, reason, text, server);
    auth_free(a);
}

static bool set_user(struct mq_conn *c, struct ke_str name)
{
    kei_free(c->m->alloc, c->user_name);
    c->user_name = NULL;
    if (!name.p)
        return true;
    c->user_name = kei_strndup(c->m->alloc, name.n ? name.p : "", name.n);
    return c->user_name != NULL;
}

static void send_auth(struct mq_conn *c, unsigned reason, struct ke_str method, struct ke_str data)
{
    struct kei_mqtt_ack ack = {.reason = (uint8_t)reason};
    struct ke_buf props, b;

    kei_buf_init(&props, c->m->alloc);
    kei_buf_init(&b, c->m->alloc);
    kei_mqtt_put_str(&props, KEI_MQTT_P_AUTH_METHOD, method);
    if (data.n)
        kei_mqtt_put_str(&props, KEI_MQTT_P_AUTH_DATA, data);
    ack.props.raw = kei_buf_str(&props);
    if (kei_buf_ok(&props))
        kei_mqtt_encode_ack(&b, c->version, KEI_MQTT_AUTH, &ack);
    else
        kei_buf_room(&b, SIZE_MAX);
    ke_buf_free(&props);
    kei_mq_send_buf(c, &b);
}

static void let_in(struct ke_mqtt_auth *a, struct ke_str data)
{
    struct mq_conn *c = a->c;

    if (a->again) {
        c->flags &= (uint16_t)~MQ_C_REAUTH;
        send_auth(c, 0, method_of(a), data);
        auth_free(a);
        return;
    }
    c->state = MQ_AUTH;
    c->auth = NULL;
    a->c = NULL;
    kei_mq_let_in(c, &a->k, method_of(a), data);
    auth_free(a);
    kei_mq_conn_more(c); /* packets that came behind the CONNECT */
}

#define CERT_NAMES (KE_MQTT_CERT_USER | KE_MQTT_CERT_SUBJECT)

static void on_access(void *user, unsigned reason, struct kei_who *who)
{
    struct ke_mqtt_auth *a = user;
    struct mq_conn *c = a->c;

    a->job = NULL;
    if (!c) {
        if (who)
            a->m->access->ops->forget(a->m->access, who);
        return;
    }
    if (reason) {
        deny(a, reason, "it may not connect", kei_strn(NULL, 0));
        return;
    }
    c->who = who;
    if (!(c->l->flags & CERT_NAMES) && !a->m->access->ops->proven(who))
        c->flags |= MQ_C_ANONYMOUS;
    let_in(a, kei_strn(NULL, 0));
}

bool kei_mq_anonymous_ok(const struct mq_listener *l)
{
    if (l->flags & KE_MQTT_ANONYMOUS)
        return true;
    return !(l->flags & KE_MQTT_NO_ANONYMOUS) && (l->loopback || l->kind == KE_MQTT_UNIX);
}

/* One that was only asked for may be of anybody's making. */
static bool cert_verified(const struct ke_mqtt_auth *a)
{
    return a->cert.n > 0 && (a->c->l->flags & KE_MQTT_CERT_REQUIRE);
}

/* Where certificates bring user names, what the client says of itself does not count. */
static bool user_of_cert(struct ke_mqtt_auth *a)
{
    struct mq_conn *c = a->c;
    struct ke_buf name;
    bool ok = true;

    if (!(c->l->flags & CERT_NAMES))
        return true;
    kei_free(c->m->alloc, c->user_name);
    c->user_name = NULL;
    if (!cert_verified(a))
        return true;
    kei_buf_init(&name, c->m->alloc);
    if (kei_access_cert_name(c->m->ctx, kei_buf_str(&a->cert), !(c->l->flags & KE_MQTT_CERT_USER),
                             &name, NULL) == 0)
        ok = set_user(c, kei_buf_str(&name));
    ke_buf_free(&name);
    return ok;
}

/* The host does not decide: users, identities and rules do. */
static void ask_access(struct ke_mqtt_auth *a)
{
    struct ke_mqtt *m = a->m;
    struct mq_conn *c = a->c;
    bool anonymous = kei_mq_anonymous_ok(c->l);

    if (method_of(a).n) {
        deny(a, KEI_MQTT_R_AUTH_METHOD, "its authentication method is not known",
             kei_strn(NULL, 0));
        return;
    }
    if (!m->access) {
        if (!anonymous && !c->user_name)
            deny(a, KEI_MQTT_R_NOT_AUTHORIZED, "clients without a user name are not let in here",
                 kei_strn(NULL, 0));
        else
            let_in(a, kei_strn(NULL, 0));
        return;
    }
    struct kei_access_login l = {.client_id = a->k.client_id,
                                 .user_name = kei_str(c->user_name),
                                 .password = a->k.password,
                                 .cert = kei_buf_str(&a->cert),
                                 .address = kei_str(a->address),
                                 .has_user = c->user_name != NULL,
                                 .has_password = a->k.has_password,
                                 .listener = kei_str(c->l->name),
                                 .cert_verified = cert_verified(a),
                                 .cert_user = (c->l->flags & CERT_NAMES) != 0,
                                 .anonymous = anonymous};
    int r = m->access->ops->authenticate(m->access, &l, on_access, a, &a->job);
    if (r < 0)
        deny(a, KEI_MQTT_R_UNAVAILABLE, "no memory to check who it is", kei_strn(NULL, 0));
}

static void wait_for(struct ke_mqtt_auth *a, enum mq_state state)
{
    struct mq_conn *c = a->c;

    if (a->again)
        return;
    c->state = (uint8_t)state;
    kei_mq_wheel_set(&c->m->wheel, &c->timer, 0, c->m->now + c->m->lim.auth_ms);
}

static void ask_host(struct ke_mqtt_auth *a, struct ke_str data, bool first)
{
    struct ke_mqtt *m = a->m;
    struct mq_conn *c = a->c;
    struct ke_mqtt_client cl;
    int (*fn)(void *, struct ke_mqtt_auth *, const struct ke_mqtt_credentials *) =
        first ? m->ops.authenticate : m->ops.auth;

    if (!fn) {
        if (first)
            ask_access(a);
        else
            deny(a, KEI_MQTT_R_AUTH_METHOD, "it cannot authenticate again", kei_strn(NULL, 0));
        return;
    }
    kei_mq_conn_client(c, &cl, NULL, NULL);
    cl.client_id = kei_mqtt_give(a->k.client_id);
    cl.address = kei_mqtt_give(kei_str(a->address));
    cl.cert = kei_mqtt_give(kei_buf_str(&a->cert));
    cl.clean_start = a->k.clean;
    struct ke_mqtt_credentials cr = {sizeof cr,
                                     &cl,
                                     kei_mqtt_give(a->k.password),
                                     a->k.has_user,
                                     a->k.has_password,
                                     kei_mqtt_give(method_of(a)),
                                     kei_mqtt_give(data)};
    a->with_host = a->in_call = true;
    wait_for(a, MQ_AUTH);
    kei_mq_enter(m);
    int r = fn(m->user, a, &cr);
    kei_mq_leave(m);
    a->in_call = false;
    if (r == KE_MQTT_PENDING || atomic_load(&a->completing))
        return; /* what comes next, comes by the completion */
    a->with_host = false;
    if (!a->c)
        auth_free(a);
    else if (r == KE_MQTT_ALLOW)
        let_in(a, kei_strn(NULL, 0));
    else if (r == KE_MQTT_DEFER && first)
        ask_access(a);
    else
        deny(a, r == KE_MQTT_DEFER ? KEI_MQTT_R_AUTH_METHOD : KEI_MQTT_R_NOT_AUTHORIZED,
             "the host refused it", kei_strn(NULL, 0));
}

/* ---- beginning ---- */

static struct ke_mqtt_auth *auth_new(struct mq_conn *c, const struct kei_mqtt_connect *k,
                                     struct ke_str body)
{
    const struct ke_alloc *al = c->m->alloc;
    struct ke_mqtt_auth *a = kei_zalloc(al, sizeof *a);

    if (!a)
        return NULL;
    a->m = c->m;
    a->c = c;
    c->auth = a;
    kei_buf_init(&a->cert, al);
    a->body = kei_alloc(al, body.n);
    a->id = kei_strndup(al, k->client_id.p, k->client_id.n);
    if (!a->body || !a->id) {
        auth_free(a);
        return NULL;
    }
    memcpy(a->body, body.p, body.n);
    kei_mqtt_decode_connect(kei_strn((char *)a->body, body.n), &a->k, NULL); /* it was in order */
    a->k.client_id = kei_str(a->id);
    kei_mq_peer_name(c, a->address);
    kei_mq_via_cert(c, &a->cert);
    return a;
}

void kei_mq_auth_begin(struct mq_conn *c, const struct kei_mqtt_connect *k, struct ke_str body)
{
    struct ke_mqtt_auth *a = auth_new(c, k, body);

    if (!a || (k->has_user && !set_user(c, kei_strn(k->user_name.p, k->user_name.n))) ||
        !user_of_cert(a)) {
        kei_mq_conn_lost(c, "no memory to check who it is");
        return;
    }
    if (c->l->inner) {
        let_in(a, kei_strn(NULL, 0));
        return;
    }
    wait_for(a, MQ_AUTH);
    ask_host(a,
             k->props.has & KEI_MQTT_HAS(KEI_MQTT_P_AUTH_DATA) ? k->props.auth_data
                                                               : kei_strn(NULL, 0),
             true);
}

/* AUTH of a client: the next round, or (when up) a new authentication. */
void kei_mq_auth_packet(struct mq_conn *c, const struct kei_mqtt_ack *p)
{
    struct ke_mqtt_auth *a = c->auth;
    bool again = c->state == MQ_UP;
    struct ke_str method = p->props.has & KEI_MQTT_HAS(KEI_MQTT_P_AUTH_METHOD)
                               ? p->props.auth_method
                               : kei_strn(NULL, 0);

    if (p->reason != (again && !a ? KEI_MQTT_R_REAUTH : KEI_MQTT_R_CONTINUE) || !method.n ||
        (!a && !again) || (a && a->with_host) || (a && !kei_str_eq(method, method_of(a)))) {
        kei_mq_conn_close(c, KEI_MQTT_R_PROTOCOL, "AUTH was not expected, or of another method");
        return;
    }
    if (!a) {
        struct kei_mqtt_connect k = {.version = KEI_MQTT_V5, .client_id = mq_id(c->s)};
        struct ke_buf b, props;
        kei_buf_init(&b, c->m->alloc);
        kei_buf_init(&props, c->m->alloc);
        kei_mqtt_put_str(&props, KEI_MQTT_P_AUTH_METHOD, method);
        k.props.raw = kei_buf_str(&props);
        kei_mqtt_encode_connect(&b, &k); /* as if it had come with a CONNECT */
        struct kei_mqtt_frame f;
        if (kei_buf_ok(&props) && kei_buf_ok(&b) &&
            kei_mqtt_frame((const uint8_t *)b.p, b.n, &f) == 1)
            a = auth_new(c, &k, kei_strn(b.p + f.head, f.length));
        ke_buf_free(&b);
        ke_buf_free(&props);
        if (!a) {
            kei_mq_conn_close(c, KEI_MQTT_R_QUOTA, "no memory to check who it is");
            return;
        }
        a->again = true;
        c->flags |= MQ_C_REAUTH;
    }
    ask_host(a,
             p->props.has & KEI_MQTT_HAS(KEI_MQTT_P_AUTH_DATA) ? p->props.auth_data
                                                               : kei_strn(NULL, 0),
             false);
}

/* ---- the host's answer ---- */

static void complete(struct ke_mqtt *m, struct mq_call *call)
{
    struct completion *d = KEI_OF(call, struct completion, call);
    struct ke_mqtt_auth *a = d->a;
    struct mq_conn *c = a->c;

    mq_now(m);
    atomic_store(&a->completing, false);
    a->with_host = false;
    if (!c) {
        auth_free(a);
    } else if (d->reason == KE_MQTT_AUTH_CONTINUE) {
        send_auth(c, KEI_MQTT_R_CONTINUE, method_of(a), d->data);
        wait_for(a, MQ_EXCHANGE);
        kei_mq_conn_more(c);
    } else if (d->reason) {
        char text[MQ_TEXT];
        size_t n = d->text.n < sizeof text - 1 ? d->text.n : sizeof text - 1;
        memcpy(text, n ? d->text.p : "", n);
        text[n] = '\0';
        deny(a, d->reason, n ? text : "the host refused it", d->server);
    } else {
        if (d->user_name.n && !set_user(c, d->user_name)) {
            kei_mq_conn_lost(c, "no memory for its user name");
        } else {
            if (m->access && !c->who)
                c->who = m->access->ops->adopt(m->access, d->identity, kei_str(c->user_name),
                                               a->k.client_id);
            let_in(a, d->data);
        }
    }
    kei_free(m->alloc, d);
}

static struct ke_str put(char **at, struct ke_mqtt_str s)
{
    struct ke_str r = {*at, s.n};

    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return r;
}

int ke_mqtt_auth_complete(struct ke_mqtt_auth *a, const struct ke_mqtt_auth_result *r,
                          struct ke_error *reterr)
{
    struct ke_mqtt_auth_result in;

    if (!a || !r)
        return kei_error(reterr, KE_EINVAL, "no authentication or no result was given");
    int e = kei_abi_in(&in, sizeof in, r, offsetof(struct ke_mqtt_auth_result, data),
                       "struct ke_mqtt_auth_result", reterr);
    if (e < 0)
        return e;
    if (in.reason && in.reason < 0x80 && in.reason != KE_MQTT_AUTH_CONTINUE)
        return kei_error(reterr, KE_EINVAL, "reason 0x%02x is no refusal", in.reason);
    size_t n = in.data.n + in.text.n + in.identity.n + in.user_name.n + in.server.n;
    struct completion *d = n < (1u << 24) ? kei_alloc(a->m->alloc, sizeof *d + n) : NULL;
    if (!d)
        return kei_error(reterr, KE_ENOMEM, "no memory for the result of an authentication");
    char *at = d->bytes;
    d->a = a;
    d->reason = in.reason;
    d->data = put(&at, in.data);
    d->text = put(&at, in.text);
    d->identity = put(&at, in.identity);
    d->user_name = put(&at, in.user_name);
    d->server = put(&at, in.server);
    d->call.fn = complete;
    if (atomic_exchange(&a->completing, true)) {
        kei_free(a->m->alloc, d);
        return kei_error(reterr, KE_ESTATE, "the authentication was completed before");
    }
    kei_mq_call(a->m, &d->call);
    return 0;
}
