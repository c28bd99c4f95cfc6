/* SPDX-License-Identifier: Apache-2.0 */
/* The node and its world: time, runtime, begin and end. See replay_rig.h. */
#include "node/replay_priv.h"

struct place rp_place_at(struct replay *p, const char *what)
{
    struct place at = {p->capture_name, p->c ? p->c->r[p->at].line : 0, what,
                       p->quiet ? &p->dry : NULL};
    return at;
}

/* ---- time ---- */

void rp_settle(struct replay *p)
{
    test_settle(&p->env);
}

void rp_pass(struct replay *p, int64_t ms)
{
    while (ms > 0) {
        int64_t step = ms < STEP_MS ? ms : STEP_MS;
        test_drive_ms(&p->env, step);
        ms -= step;
        if (ms > 0)
            rp_answer_all(p);
    }
}

/* ---- the node ---- */

void rp_start_node(struct replay *p)
{
    struct ke_node_config c;
    struct ke_node_ops ops = {.size = sizeof ops, .runtime = &p->ops, .runtime_user = &p->rt};
    if (p->node)
        return;
    ke_node_config_init(&c, sizeof c);
    c.name = p->name;
    c.data = p->dir;
    c.cloud_host = "127.0.0.1";
    c.token = p->had_token ? NULL : p->fc.token.p;
    c.tunnel_port = p->fc.hub_port;
    c.cert_port = p->fc.cert_port;
    c.max_pods = strcmp(p->version, "1.4") == 0 ? 110 : 600; /* as configured there */
    p->had_token = true;
    if (ke_node_new(&p->node, p->env.ctx, &c, &ops, NULL) != 0 || ke_node_start(p->node) != 0)
        fail_msg("%s", ke_ctx_error(p->env.ctx));
}

void rp_stop_node(struct replay *p)
{
    ke_node_free(p->node);
    p->node = NULL;
    kei_work_drain(p->env.ctx);
    rp_settle(p);
}

/* Nothing of before the end of a connection is acknowledged any more. */
void rp_link_ended(struct replay *p)
{
    for (unsigned i = 0; i < p->n_heard; i++)
        p->heard[i].sure = p->heard[i].sure && p->heard[i].acks > 0;
}

static struct replay_runtime *of(void *user)
{
    return user;
}

static int rt_info(void *user, uint64_t op)
{
    struct ke_runtime_result r = {
        .size = sizeof r, .name = of(user)->name, .version = of(user)->version, .ready = 1};
    return ke_runtime_complete(of(user)->fake.rt, op, 0, &r);
}

static int rt_start(void *user, uint64_t op, const char *id)
{
    struct fake_runtime *f = &of(user)->fake;
    int r = f->ops.container_start(user, op, id);
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->c[i].id, id) == 0 && f->c[i].state == KE_CONTAINER_RUNNING &&
            of(user)->short_lived && strcmp(f->c[i].pod, of(user)->short_lived) == 0)
            fake_exit(f, &f->c[i], 0);
    return r;
}

static int rt_stop(void *user, uint64_t op, const char *id, int64_t grace_ms)
{
    struct fake_runtime *f = &of(user)->fake;
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->c[i].id, id) == 0 && f->c[i].state == KE_CONTAINER_RUNNING)
            fake_exit(f, &f->c[i], of(user)->stop_code);
    return f->ops.container_stop(user, op, id, grace_ms);
}

static int rt_pull(void *user, uint64_t op, const char *image, const char *policy,
                   const char *pod_json, size_t n)
{
    struct fake_runtime *f = &of(user)->fake;
    char text[300];
    struct ke_runtime_result r = {.size = sizeof r, .reason = "ErrImageNeverPull", .text = text};
    if (of(user)->no_image)
        return 0;
    if (!of(user)->missing_image || strcmp(image, of(user)->missing_image) != 0)
        return f->ops.image_pull(user, op, image, policy, pod_json, n);
    snprintf(text, sizeof text, "Container image \"%s\" is not present with pull policy of %s",
             image, policy);
    return ke_runtime_complete(f->rt, op, KE_ENOTFOUND, &r);
}

static int rt_sandbox(void *user, uint64_t op, const struct ke_sandbox_config *c)
{
    struct replay_runtime *rt = of(user);
    char id[80];
    struct ke_runtime_result r = {.size = sizeof r, .id = id};
    snprintf(id, sizeof id, "sandbox-%.60s", c->pod_uid);
    if (!(c->flags & KE_CONTAINER_HOST_NETWORK))
        r.ip = rt->pod_ip;
    return ke_runtime_complete(rt->fake.rt, op, 0, &r);
}

static void make_runtime(struct replay *p)
{
    fake_init(&p->rt.fake, p->env.ctx);
    fake_with_sandbox(&p->rt.fake);
    fake_with_pull(&p->rt.fake);
    p->ops = p->rt.fake.ops;
    p->ops.info = rt_info;
    p->ops.container_start = rt_start;
    p->ops.container_stop = rt_stop;
    p->ops.image_pull = rt_pull;
    p->ops.sandbox_run = rt_sandbox;
    p->rt.name = "containerd";
    p->rt.version = "1.6.20";
    p->rt.stop_code = 137;
    snprintf(p->rt.pod_ip, sizeof p->rt.pod_ip, "10.88.7.8");
}

struct replay *replay_new(const char *version, const char *node, int64_t start_ms)
{
    struct replay *p = calloc(1, sizeof *p);
    assert_non_null(p);
    snprintf(p->version, sizeof p->version, "%s", version);
    snprintf(p->name, sizeof p->name, "%s", node);
    test_env_init(&p->env, 0);
    p->env.idle_ms = 1;
    test_settle(&p->env); /* takes the loop, so that the node gets no thread of its own */
    test_clock_set_real(&p->env.clock, start_ms);
    test_tmp_make(p->dir, sizeof p->dir);
    fake_cloud_start(&p->fc, p->env.ctx);
    p->fc.dialect = strcmp(version, "1.4") == 0    ? KE_DIALECT_1_4
                    : strcmp(version, "1.15") == 0 ? KE_DIALECT_1_15
                                                   : KE_DIALECT_1_23;
    p->fc.on_message = rp_on_message;
    p->fc.user = p;
    p->fc.cert_seconds = CERT_S;
    p->start_ms = start_ms;
    make_runtime(p);
    return p;
}

void rp_forget_capture(struct replay *p)
{
    for (unsigned i = 0; i < p->n_said; i++)
        ke_msg_unref(p->said[i].m);
    p->n_said = 0;
    p->n_heard = 0;
    fake_cloud_forget(&p->fc);
}

void replay_free(struct replay *p)
{
    p->fc.on_message = NULL;
    rp_stop_node(p);
    rp_forget_capture(p);
    fake_cloud_stop(&p->fc);
    models_free(&p->models);
    for (unsigned i = 0; i < p->n_answers; i++)
        free(p->answers[i].text);
    atomic_store(&p->env.log_errors, 0);
    test_env_fini(&p->env);
    test_tmp_remove(p->dir);
    free(p);
}

struct replay_runtime *replay_runtime(struct replay *p)
{
    return &p->rt;
}

void replay_quiet(struct replay *p, bool quiet)
{
    p->quiet = quiet;
}

void replay_without_probes(struct replay *p)
{
    p->no_probes = true;
}

void replay_alias(struct replay *p, const char *a, const char *b)
{
    assert_true(p->n_alias < 8);
    snprintf(p->alias[p->n_alias][0], 64, "%s", a);
    snprintf(p->alias[p->n_alias++][1], 64, "%s", b);
}

unsigned replay_played(const struct replay *p)
{
    return p->played;
}

unsigned replay_compared(const struct replay *p)
{
    return p->compared;
}
