/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of one pod. Pure, no memory; see state.h. */
#include "pod/state.h"

void kei_text_copy(char *out, size_t n, const char *text)
{
    size_t k = strlen(text);
    if (k >= n) {
        k = n - 1;
        while (k > 0 && ((unsigned char)text[k] & 0xc0) == 0x80)
            k--;
    }
    memmove(out, text, k);
    out[k] = '\0';
}

/* FNV-1a: not against an adversary, who could as well name the other image. */
uint64_t kei_image_hash(const char *image)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (const char *s = image; *s; s++)
        h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
    return h ? h : 1;
}

/* ---- what happened ---- */

uint32_t kei_ct_next_attempt(const struct kei_ct *c)
{
    return c->had ? c->attempt + 1 : 0;
}

void kei_ct_wait(struct kei_ct *c, const char *reason, const char *message)
{
    kei_text_copy(c->reason, sizeof c->reason, reason);
    kei_text_copy(c->message, sizeof c->message, message);
}

void kei_ct_created(struct kei_ct *c, uint32_t attempt, const char *id)
{
    if (c->state == KEI_CT_EXITED && c->end.valid)
        c->last = c->end;
    c->end = (struct kei_ct_end){0};
    c->state = KEI_CT_CREATED;
    c->had = true;
    c->outdated = false;
    c->broken = false;
    c->attempt = attempt;
    c->retry_ms = 0;
    c->due_mono = 0;
    c->started_ms = 0;
    kei_text_copy(c->id, sizeof c->id, id);
    kei_ct_wait(c, "", "");
}

void kei_ct_started(struct kei_ct *c, int64_t mono, int64_t real)
{
    if (c->state != KEI_CT_CREATED)
        return;
    c->state = KEI_CT_RUNNING;
    c->busy = false;
    c->started_mono = mono;
    c->started_ms = real;
    kei_ct_wait(c, "", "");
}

/* Doubles from restart_min to restart_max; the first restart comes at once. */
static void next_backoff(struct kei_ct *c, int64_t mono, const struct kei_state_conf *conf)
{
    if (c->started_mono && mono - c->started_mono >= conf->restart_reset)
        c->backoff_ms = 0;
    c->pause_ms = c->backoff_ms;
    c->due_mono = mono + c->pause_ms;
    c->backoff_ms = c->backoff_ms ? c->backoff_ms * 2 : conf->restart_min;
    if (c->backoff_ms > conf->restart_max)
        c->backoff_ms = conf->restart_max;
}

bool kei_ct_exited(struct kei_ct *c, const struct kei_ct_end *e, int64_t mono,
                   const struct kei_state_conf *conf)
{
    if (c->state == KEI_CT_EXITED) {
        if (!c->end.guessed || e->guessed)
            return false;
        c->end = *e;
        return true;
    }
    if (c->state == KEI_CT_WAITING)
        return false;
    c->state = KEI_CT_EXITED;
    c->busy = false;
    c->stopping = false;
    c->end = *e;
    c->end.valid = true;
    if (!c->end.started_ms)
        c->end.started_ms = c->started_ms;
    kei_text_copy(c->end.id, sizeof c->end.id, c->id);
    next_backoff(c, mono, conf);
    return true;
}

void kei_ct_broken(struct kei_ct *c, const char *message)
{
    c->busy = false;
    if (c->state != KEI_CT_CREATED)
        return; /* it ran after all, and that was told */
    c->broken = true;
    kei_ct_wait(c, "RunContainerError", message);
}

void kei_ct_discarded(struct kei_ct *c, int64_t mono, int64_t real,
                      const struct kei_state_conf *conf)
{
    struct kei_ct_end e = {.valid = true, .exit_code = 128, .finished_ms = real};
    c->stopping = false;
    if (c->state != KEI_CT_CREATED)
        return;
    if (!c->broken) {
        c->state = KEI_CT_WAITING;
        kei_ct_wait(c, "", "");
        return;
    }
    kei_text_copy(e.reason, sizeof e.reason, "StartError");
    kei_text_copy(e.message, sizeof e.message, c->message);
    kei_ct_wait(c, "", "");
    kei_ct_exited(c, &e, mono, conf);
}

void kei_ct_failed(struct kei_ct *c, const char *reason, const char *message, int64_t mono,
                   const struct kei_state_conf *conf)
{
    c->busy = false;
    kei_ct_wait(c, reason, message);
    c->retry_ms = c->retry_ms ? c->retry_ms * 2 : conf->retry_min;
    if (c->retry_ms > conf->retry_max)
        c->retry_ms = conf->retry_max;
    c->due_mono = mono + c->retry_ms;
}

void kei_state_delete(struct kei_pod_state *s, int64_t grace_ms, int64_t mono)
{
    if (s->desire == KEI_WANT_KILL)
        return;
    if (s->desire != KEI_WANT_STOP || mono + grace_ms < s->kill_mono)
        s->kill_mono = mono + grace_ms;
    s->desire = KEI_WANT_STOP;
}

void kei_state_kill(struct kei_pod_state *s)
{
    s->desire = KEI_WANT_KILL;
}

void kei_state_fail(struct kei_pod_state *s, const char *reason, const char *message,
                    int64_t grace_ms, int64_t mono)
{
    if (s->final)
        return;
    s->final = true;
    s->succeeded = false;
    kei_text_copy(s->reason, sizeof s->reason, reason);
    kei_text_copy(s->message, sizeof s->message, message);
    if (s->desire == KEI_WANT_RUN)
        s->kill_mono = mono + grace_ms;
}

/* ---- what is to be done ---- */

bool kei_ct_restarts(const struct kei_pod_state *s, const struct kei_ct *c)
{
    if (s->desire != KEI_WANT_RUN || s->final)
        return false;
    if (c->state == KEI_CT_WAITING)
        return true;
    return c->state == KEI_CT_EXITED &&
           (s->restart == KEI_RESTART_ALWAYS ||
            (s->restart == KEI_RESTART_ON_FAILURE && c->end.exit_code != 0));
}

bool kei_ct_crash_looping(const struct kei_pod_state *s, const struct kei_ct *c, int64_t mono)
{
    return c->state == KEI_CT_EXITED && !*c->reason && kei_ct_restarts(s, c) && mono < c->due_mono;
}

static void wake_at(int64_t *wake, int64_t at)
{
    if (*wake < 0 || at < *wake)
        *wake = at;
}

static struct kei_step do_nothing(void)
{
    return (struct kei_step){KEI_DO_NOTHING, 0};
}

/* If the last attempt to end it failed there is a pause before the next. */
static bool pausing(const struct kei_ct *c, int64_t mono, int64_t *wake)
{
    if (mono >= c->due_mono)
        return false;
    wake_at(wake, c->due_mono);
    return true;
}

static struct kei_step plan_stop(const struct kei_ct *c, int64_t kill_mono, int64_t mono,
                                 int64_t *wake)
{
    int64_t grace = kill_mono > mono ? kill_mono - mono : 0;
    bool sooner = c->stopping && kill_mono < c->kill_mono;
    if (c->busy || (c->stopping && !(sooner && c->state == KEI_CT_RUNNING)))
        return do_nothing(); /* its end decides what there is to stop */
    if (c->state != KEI_CT_CREATED && c->state != KEI_CT_RUNNING)
        return do_nothing();
    if (!c->stopping && pausing(c, mono, wake))
        return do_nothing();
    return (struct kei_step){c->state == KEI_CT_CREATED ? KEI_DO_REMOVE : KEI_DO_STOP, grace};
}

static struct kei_step plan_run(const struct kei_pod_state *s, const struct kei_ct *c, int64_t mono,
                                int64_t *wake)
{
    if (c->busy || c->stopping)
        return do_nothing();
    switch (c->state) {
    case KEI_CT_CREATED:
        if (c->outdated || c->broken)
            return plan_stop(c, mono, mono, wake);
        return s->held ? do_nothing() : (struct kei_step){KEI_DO_START, 0};
    case KEI_CT_RUNNING:
        return c->outdated ? plan_stop(c, mono + s->grace_ms, mono, wake) : do_nothing();
    case KEI_CT_WAITING:
    case KEI_CT_EXITED:
        break;
    }
    if (s->held || !kei_ct_restarts(s, c) || pausing(c, mono, wake))
        return do_nothing();
    return (struct kei_step){KEI_DO_CREATE, 0};
}

bool kei_state_plan(const struct kei_pod_state *s, int64_t mono, struct kei_step *steps,
                    int64_t *ret_wake)
{
    bool over = true;
    *ret_wake = -1;
    for (size_t i = 0; i < s->n; i++) {
        const struct kei_ct *c = &s->cts[i];
        if (s->desire == KEI_WANT_KILL)
            steps[i] = plan_stop(c, mono, mono, ret_wake);
        else if (s->desire == KEI_WANT_STOP || s->final)
            steps[i] = plan_stop(c, s->kill_mono, mono, ret_wake);
        else
            steps[i] = plan_run(s, c, mono, ret_wake);
        if (c->busy || c->stopping || c->state == KEI_CT_CREATED || c->state == KEI_CT_RUNNING)
            over = false;
    }
    if (s->deadline_mono && s->desire == KEI_WANT_RUN && !s->final)
        wake_at(ret_wake, s->deadline_mono);
    return over;
}

/* ---- phase ---- */

static enum kei_phase phase_by_containers(const struct kei_pod_state *s)
{
    size_t waiting = 0, running = 0, stopped = 0, succeeded = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct kei_ct *c = &s->cts[i];
        if (c->state == KEI_CT_RUNNING) {
            running++;
        } else if (c->state == KEI_CT_EXITED) {
            stopped++;
            succeeded += c->end.exit_code == 0;
        } else if (c->last.valid) {
            stopped++; /* waits for its next run */
        } else {
            waiting++;
        }
    }
    if (waiting > 0)
        return KEI_PHASE_PENDING;
    if (running > 0)
        return KEI_PHASE_RUNNING;
    if (stopped == 0)
        return KEI_PHASE_PENDING;
    if (s->restart == KEI_RESTART_ALWAYS)
        return KEI_PHASE_RUNNING;
    if (stopped == succeeded)
        return KEI_PHASE_SUCCEEDED;
    return s->restart == KEI_RESTART_NEVER ? KEI_PHASE_FAILED : KEI_PHASE_RUNNING;
}

enum kei_phase kei_state_phase(const struct kei_pod_state *s)
{
    if (s->final)
        return s->succeeded ? KEI_PHASE_SUCCEEDED : KEI_PHASE_FAILED;
    return phase_by_containers(s);
}

bool kei_state_settle(struct kei_pod_state *s)
{
    enum kei_phase p = kei_state_phase(s);
    if (s->final || (p != KEI_PHASE_SUCCEEDED && p != KEI_PHASE_FAILED))
        return false;
    s->final = true;
    s->succeeded = p == KEI_PHASE_SUCCEEDED;
    return true;
}

const char *kei_phase_name(enum kei_phase p)
{
    static const char *const names[] = {"Pending", "Running", "Succeeded", "Failed"};
    return names[p];
}
