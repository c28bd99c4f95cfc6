/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_runtime.h. */
#include "fake_runtime.h"

#include <stdio.h>
#include <string.h>

#include <kubeedge/ctx.h>

static void note(struct fake_runtime *f, const char *what, const char *uid, const char *name,
                 uint32_t attempt)
{
    size_t n = strlen(f->calls);
    snprintf(f->calls + n, sizeof f->calls - n, "%s %s/%s/%u\n", what, uid, name, attempt);
}

static void done(struct fake_runtime *f, uint64_t op, int status, const char *id)
{
    struct ke_runtime_result r = {.size = sizeof r, .id = id};
    if (status < 0) {
        r.reason = f->fail_reason;
        r.text = f->fail_text ? f->fail_text : "the fake runtime failed";
    }
    if (ke_runtime_complete(f->rt, op, status, &r) < 0)
        f->hung = 0;
}

static int live_of(struct fake_runtime *f, const char *uid, const char *name)
{
    int n = 0;
    for (int i = 0; i < f->n; i++)
        n += f->c[i].state == KE_CONTAINER_RUNNING && !strcmp(f->c[i].uid, uid) &&
             !strcmp(f->c[i].name, name);
    return n;
}

int fake_live(struct fake_runtime *f)
{
    int n = 0;
    for (int i = 0; i < f->n; i++)
        n += f->c[i].state == KE_CONTAINER_RUNNING;
    return n;
}

static struct fake_container *by_id(struct fake_runtime *f, const char *id)
{
    for (int i = 0; i < f->n; i++) {
        if (f->c[i].state && !strcmp(f->c[i].id, id))
            return &f->c[i];
    }
    return NULL;
}

struct fake_container *fake_find(struct fake_runtime *f, const char *uid, const char *name)
{
    struct fake_container *best = NULL;
    for (int i = 0; i < f->n; i++) {
        struct fake_container *c = &f->c[i];
        if (c->state && !strcmp(c->uid, uid) && !strcmp(c->name, name) &&
            (!best || c->attempt > best->attempt))
            best = c;
    }
    return best;
}

static void fill(struct fake_runtime *f, const struct fake_container *c,
                 struct ke_container_info *i)
{
    *i = (struct ke_container_info){
        .size = sizeof *i,
        .id = c->id,
        .pod_namespace = c->ns,
        .pod_name = c->pod,
        .pod_uid = c->uid,
        .name = c->name,
        .image = c->image,
        .image_id = f->ops.image_pull ? "" : "sha256:fake", /* told by the pull */
        .attempt = c->attempt,
        .state = c->state,
        .exit_code = c->exit_code,
        .started_ms = c->started_ms,
        .finished_ms = c->finished_ms,
    };
}

static void event(struct fake_runtime *f, const struct fake_container *c)
{
    struct ke_container_info i;
    fill(f, c, &i);
    if (f->rt && ke_runtime_event(f->rt, &i) < 0)
        f->hung = 0;
}

static int op_create(void *user, uint64_t op, const struct ke_container_config *c)
{
    struct fake_runtime *f = user;
    f->creates++;
    note(f, "create", c->pod_uid, c->name, c->attempt);
    if (f->hang_create) {
        f->hung = op;
        return 0;
    }
    if (f->fail_create) {
        done(f, op, f->fail_create, NULL);
        return 0;
    }
    for (int i = 0; i < f->n; i++) { /* a second create for the same gives the first one's id */
        struct fake_container *x = &f->c[i];
        if (x->state && !strcmp(x->uid, c->pod_uid) && !strcmp(x->name, c->name) &&
            x->attempt == c->attempt) {
            done(f, op, 0, x->id);
            return 0;
        }
    }
    if (f->n == FAKE_MAX)
        return KE_ELIMIT;
    struct fake_container *x = &f->c[f->n++];
    memset(x, 0, sizeof *x);
    snprintf(x->id, sizeof x->id, "fake-%d", f->n);
    snprintf(x->uid, sizeof x->uid, "%s", c->pod_uid);
    snprintf(x->name, sizeof x->name, "%s", c->name);
    snprintf(x->image, sizeof x->image, "%s", c->image);
    snprintf(x->ns, sizeof x->ns, "%s", c->pod_namespace);
    snprintf(x->pod, sizeof x->pod, "%s", c->pod_name);
    snprintf(x->log, sizeof x->log, "%s", c->log_path);
    snprintf(x->first_word, sizeof x->first_word, "%s", c->n_command ? c->command[0] : "");
    for (uint32_t i = 0; i < c->n_env; i++) {
        size_t n = strlen(x->env);
        snprintf(x->env + n, sizeof x->env - n, "%s=%s\n", c->env[i].name, c->env[i].value);
    }
    for (uint32_t i = 0; i < c->n_mounts; i++) {
        size_t n = strlen(x->mounts);
        snprintf(x->mounts + n, sizeof x->mounts - n, "%s:%s:%s\n", c->mounts[i].volume,
                 c->mounts[i].container_path, c->mounts[i].host_path);
    }
    x->attempt = c->attempt;
    x->state = KE_CONTAINER_CREATED;
    done(f, op, 0, x->id);
    return 0;
}

static int op_start(void *user, uint64_t op, const char *id)
{
    struct fake_runtime *f = user;
    struct fake_container *c = by_id(f, id);
    f->starts++;
    note(f, "start", c ? c->uid : id, c ? c->name : "", c ? c->attempt : 0);
    if (f->hang_start) {
        f->hung = op;
        return 0;
    }
    if (!c || f->fail_start) {
        done(f, op, c ? f->fail_start : KE_ENOTFOUND, NULL);
        return 0;
    }
    if (c->state == KE_CONTAINER_CREATED) {
        c->state = KE_CONTAINER_RUNNING;
        c->started_ms = ke_ctx_real_ms(f->ctx);
        int live = live_of(f, c->uid, c->name);
        if (live > f->most_live)
            f->most_live = live;
        event(f, c);
    }
    done(f, op, 0, id);
    return 0;
}

static int op_stop(void *user, uint64_t op, const char *id, int64_t grace_ms)
{
    struct fake_runtime *f = user;
    struct fake_container *c = by_id(f, id);
    f->stops++;
    f->last_grace = grace_ms;
    note(f, "stop", c ? c->uid : id, c ? c->name : "", c ? c->attempt : 0);
    if (f->hang_stop) {
        f->hung = op;
        return 0;
    }
    if (f->fail_stop) {
        done(f, op, f->fail_stop, NULL);
        return 0;
    }
    if (c && c->state == KE_CONTAINER_RUNNING)
        fake_exit(f, c, 143);
    else if (c && c->state == KE_CONTAINER_CREATED)
        c->state = 0;
    done(f, op, 0, id);
    return 0;
}

static int op_remove(void *user, uint64_t op, const char *id)
{
    struct fake_runtime *f = user;
    struct fake_container *c = by_id(f, id);
    f->removes++;
    note(f, "remove", c ? c->uid : id, c ? c->name : "", c ? c->attempt : 0);
    if (f->fail_removes > 0) {
        f->fail_removes--;
        done(f, op, KE_EBUSY, NULL);
        return 0;
    }
    if (c && c->state != KE_CONTAINER_RUNNING)
        c->state = 0;
    done(f, op, c && c->state == KE_CONTAINER_RUNNING ? KE_EBUSY : 0, NULL);
    return 0;
}

static int op_list(void *user, uint64_t op)
{
    struct fake_runtime *f = user;
    struct ke_container_info v[FAKE_MAX];
    struct ke_runtime_result r = {.size = sizeof r, .containers = v};
    f->lists++;
    if (f->hang_list) {
        f->hung = op;
        return 0;
    }
    if (f->fail_list) {
        done(f, op, f->fail_list, NULL);
        return 0;
    }
    for (int i = 0; i < f->n; i++) {
        if (f->c[i].state)
            fill(f, &f->c[i], &v[r.n_containers++]);
    }
    return ke_runtime_complete(f->rt, op, 0, &r);
}

static int op_info(void *user, uint64_t op)
{
    struct fake_runtime *f = user;
    struct ke_runtime_result r = {.size = sizeof r,
                                  .name = "fake",
                                  .version = "1.2",
                                  .text = f->not_ready ? "it is being repaired" : NULL,
                                  .ready = !f->not_ready};
    return ke_runtime_complete(f->rt, op, 0, &r);
}

static int op_pull(void *user, uint64_t op, const char *image, const char *policy,
                   const char *pod_json, size_t n)
{
    struct fake_runtime *f = user;
    (void)pod_json;
    (void)n;
    f->pulls++;
    note(f, "pull", image, policy, 0);
    done(f, op, f->fail_pull, "sha256:pulled");
    return 0;
}

static int op_sandbox(void *user, uint64_t op, const struct ke_sandbox_config *c)
{
    struct fake_runtime *f = user;
    char id[32];
    struct ke_runtime_result r = {.size = sizeof r, .id = id, .ip = "10.1.2.3"};
    f->sandboxes++;
    snprintf(id, sizeof id, "sandbox-%d", f->sandboxes);
    note(f, "sandbox", c->pod_uid, "", c->attempt);
    return ke_runtime_complete(f->rt, op, 0, &r);
}

static int op_sandbox_stop(void *user, uint64_t op, const char *id)
{
    struct fake_runtime *f = user;
    f->sandbox_stops++;
    note(f, "sandbox_stop", id, "", 0);
    done(f, op, 0, NULL);
    return 0;
}

static void op_attach(void *user, struct ke_runtime *rt)
{
    ((struct fake_runtime *)user)->rt = rt;
}

static void op_detach(void *user)
{
    ((struct fake_runtime *)user)->rt = NULL;
}

void fake_init(struct fake_runtime *f, struct ke_ctx *ctx)
{
    memset(f, 0, sizeof *f);
    f->ctx = ctx;
    f->ops = (struct ke_runtime_ops){
        .size = sizeof f->ops,
        .attach = op_attach,
        .detach = op_detach,
        .info = op_info,
        .container_create = op_create,
        .container_start = op_start,
        .container_stop = op_stop,
        .container_remove = op_remove,
        .container_list = op_list,
    };
}

void fake_with_sandbox(struct fake_runtime *f)
{
    f->ops.sandbox_run = op_sandbox;
    f->ops.sandbox_stop = op_sandbox_stop;
}

void fake_with_pull(struct fake_runtime *f)
{
    f->ops.image_pull = op_pull;
}

void fake_exit(struct fake_runtime *f, struct fake_container *c, int code)
{
    c->state = KE_CONTAINER_EXITED;
    c->exit_code = code;
    c->finished_ms = ke_ctx_real_ms(f->ctx);
    event(f, c);
}

void fake_forget(struct fake_runtime *f)
{
    f->n = 0;
}
