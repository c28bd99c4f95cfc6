/* SPDX-License-Identifier: Apache-2.0 */
/* See rig.h. */
#include "rig.h"

#include <sys/stat.h>
#include <unistd.h>

static void on_message(void *user, struct ke_msg *m)
{
    struct rig *r = user;

    assert_true(r->n_messages < RIG_MESSAGES);
    r->messages[r->n_messages++] = ke_msg_ref(m);
    if (r->ack)
        assert_int_equal(ke_tunnel_ack(r->t, m), 0);
}

static void on_state(void *user, const struct ke_tunnel_status *st)
{
    struct rig *r = user;

    if ((r->n_states == 0 || st->state != r->state) && r->n_states < RIG_STATES)
        r->states[r->n_states++] = st->state;
    r->state = st->state;
    r->last_error = st->last_error;
    snprintf(r->last_text, sizeof r->last_text, "%s", st->last_error_text);
}

static void on_sent(void *user, struct ke_msg *m, int status)
{
    struct rig *r = user;

    (void)m;
    r->n_sent++;
    r->n_confirmed += status == 0;
    r->n_replaced += status == KE_ECANCELED;
    r->n_refused += status == KE_EREFUSED;
}

void rig_init(struct rig *r, const struct ke_io *io)
{
    memset(r, 0, sizeof *r);
    if (io)
        test_env_init_io(&r->env, 0, io);
    else
        test_env_init(&r->env, 0);
    test_tmp_make(r->dir, sizeof r->dir);
    fake_cloud_start(&r->fc, r->env.ctx);
    ke_tunnel_config_init(&r->conf, sizeof r->conf);
    r->conf.node_name = NODE;
    r->conf.host = "127.0.0.1";
    r->conf.token = r->fc.token.p;
    r->conf.folder = io ? "/node" : r->dir;
    r->conf.tunnel_port = r->fc.hub_port;
    r->conf.cert_port = r->fc.cert_port;
    r->ops = (struct ke_tunnel_ops){
        .size = sizeof r->ops, .message = on_message, .state = on_state, .sent = on_sent};
    r->done_status = 1;
}

void rig_store(struct rig *r)
{
    struct ke_store_config c;
    static char folder[200];

    snprintf(folder, sizeof folder, "%s/store", r->dir);
    ke_store_config_init(&c, sizeof c);
    c.folder = folder;
    assert_int_equal(ke_store_open(&r->store, r->env.ctx, &c), 0);
    r->conf.store = r->store;
}

void rig_close_store(struct rig *r)
{
    ke_store_close(r->store);
    r->store = NULL;
    r->conf.store = NULL;
}

void rig_tunnel(struct rig *r)
{
    assert_null(r->t);
    r->n_states = 0;
    r->state = KE_TUNNEL_IDLE;
    r->last_error = 0;
    r->last_text[0] = '\0';
    if (ke_tunnel_new(&r->t, r->env.ctx, &r->conf, &r->ops, r) != 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
}

void rig_start(struct rig *r)
{
    assert_int_equal(ke_tunnel_start(r->t), 0);
}

void rig_free_tunnel(struct rig *r)
{
    ke_tunnel_free(r->t);
    r->t = NULL;
}

void rig_fini(struct rig *r)
{
    rig_free_tunnel(r);
    if (r->store)
        rig_close_store(r);
    fake_cloud_stop(&r->fc);
    for (uint32_t i = 0; i < r->n_messages; i++)
        ke_msg_unref(r->messages[i]);
    test_env_fini(&r->env);
    test_tmp_remove(r->dir);
}

void rig_connect(struct rig *r)
{
    rig_tunnel(r);
    rig_start(r);
    if (!rig_until_state(r, KE_TUNNEL_CONNECTED))
        fail_msg("not connected: state %u, %s", r->state, r->last_text);
}

/* ---- waiting ---- */

struct wait {
    struct rig *r;
    uint32_t state;
    const uint32_t *n;
    uint32_t want;
    int64_t give_up;
};

static bool state_is(void *arg)
{
    struct wait *w = arg;

    return w->r->state == w->state;
}

bool rig_until_state(struct rig *r, uint32_t state)
{
    struct wait w = {.r = r, .state = state};

    return test_drive(&r->env, state_is, &w);
}

bool rig_until(struct rig *r, bool (*pred)(void *rig))
{
    return test_drive(&r->env, pred, r);
}

static bool n_is(void *arg)
{
    struct wait *w = arg;

    return *w->n >= w->want;
}

bool rig_until_n(struct rig *r, const uint32_t *n, uint32_t want)
{
    struct wait w = {.n = n, .want = want};

    return test_drive(&r->env, n_is, &w);
}

void rig_drive(struct rig *r, int64_t ms)
{
    test_drive_ms(&r->env, ms);
}

struct ke_tunnel_status rig_status(struct rig *r)
{
    struct ke_tunnel_status st;

    assert_int_equal(ke_tunnel_status(r->t, &st, sizeof st), 0);
    return st;
}

/* ---- messages ---- */

struct ke_msg *rig_msg(struct rig *r, const char *operation, const char *resource,
                       const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.source = "edged";
    c.group = "meta";
    c.operation = operation;
    c.resource = resource;
    c.content = content;
    c.content_len = content ? strlen(content) : 0;
    assert_int_equal(ke_msg_new(&m, r->env.ctx, &c, NULL), 0);
    return m;
}

void rig_done(void *rig, int status)
{
    struct rig *r = rig;

    r->done_status = status;
    r->n_done++;
}

int rig_send(struct rig *r, uint32_t how, const char *operation, const char *resource,
             const char *content)
{
    struct ke_msg *m = rig_msg(r, operation, resource, content);
    int e = ke_tunnel_send(r->t, m, how, NULL, rig_done, r);

    ke_msg_unref(m);
    return e;
}

/* ---- files ---- */

char *rig_read(struct rig *r, const char *name)
{
    char path[512];
    char *text = calloc(1, 65537);
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    f = fopen(path, "rb");
    if (!f) {
        free(text);
        return NULL;
    }
    (void)!fread(text, 1, 65536, f);
    fclose(f);
    return text;
}

void rig_write(struct rig *r, const char *name, const char *text)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/identity", r->dir);
    (void)mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

bool rig_exists(struct rig *r, const char *name)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    return access(path, F_OK) == 0;
}
