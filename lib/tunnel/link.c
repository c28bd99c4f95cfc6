/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state machine of the link. An attempt goes load -> clock -> join -> probe -> dial, each step
 * only where it is needed and once per attempt; then the link is up, or there is a pause. All
 * transitions are in kei_link_event; what a step does when it is entered is in enter_step.
 *
 *   IDLE, STOPPED --START--> attempt        any --STOP--> STOPPED
 *   LOAD, CLOCK, JOIN, PROBE --done--> next step of the attempt, or WAIT
 *   DIAL --OPEN--> UP      DIAL, UP --CLOSED--> WAIT      WAIT --TIMER--> attempt
 *   any but IDLE, STOPPED --RECONNECT--> attempt
 */
#include "base/log.h"
#include "message/dialect.h"
#include "net/tls.h"
#include "tunnel/tunnel_priv.h"

#define STABLE_MS 60000  /* a link that lasted so long resets the pauses */
#define REPROBE_MS 60000 /* the dialect is asked again once per link, not more often than this */

uint32_t kei_link_state(const struct ke_tunnel *t)
{
    switch (t->step) {
    case KEI_STEP_IDLE:
        return KE_TUNNEL_IDLE;
    case KEI_STEP_JOIN:
        return KE_TUNNEL_JOINING;
    case KEI_STEP_LOAD:
    case KEI_STEP_CLOCK:
    case KEI_STEP_PROBE:
    case KEI_STEP_DIAL:
        return KE_TUNNEL_CONNECTING;
    case KEI_STEP_UP:
        return KE_TUNNEL_CONNECTED;
    case KEI_STEP_WAIT:
        return KE_TUNNEL_WAITING;
    case KEI_STEP_STOPPED:
        break;
    }
    return KE_TUNNEL_STOPPED;
}

/* ---- asking the certificate port ---- */

static int ask(struct ke_tunnel *t, const struct kei_tls_options *o, bool dialect, kei_probe_fn fn)
{
    struct kei_probe_config c = {.host = t->conf.host,
                                 .port = (uint16_t)t->conf.cert_port,
                                 .proxy_url = t->conf.proxy_url,
                                 .node_name = t->conf.node_name};
    int r = kei_tls_config_new(&c.tls, t->ctx, o);

    kei_probe_free(t->probe);
    t->probe = NULL;
    if (r == 0)
        r = dialect ? kei_probe_dialect(&t->probe, t->ctx, &c, fn, t)
                    : kei_probe_time(&t->probe, t->ctx, &c, fn, t);
    kei_tls_config_unref(c.tls);
    return r;
}

static int ask_verified(struct ke_tunnel *t, bool dialect, kei_probe_fn fn)
{
    struct kei_tls_options o = {
        .verify_peer = true, .ca = kei_tunnel_ca(t), .now = kei_tunnel_now, .now_user = t};

    return ask(t, &o, dialect, fn);
}

static void probe_done(struct ke_tunnel *t)
{
    kei_probe_free(t->probe);
    t->probe = NULL;
}

/* Whoever answers: it only moves our idea of the time forward from the floor, and is not kept. */
static void on_clock(void *user, int status, const char *text, int64_t answer)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    probe_done(t);
    if (status == 0) {
        t->hint_ms = answer;
        t->hint_mono_ms = ke_ctx_mono_ms(t->ctx);
        kei_log(t->ctx, KE_LOG_WARN, "tunnel",
                "the clock of this node is wrong; certificates are judged by the cloud's time");
    } else {
        kei_tunnel_error(t, status, "the clock is wrong and the cloud could not be asked: %s",
                         text);
    }
    kei_link_event(t, KEI_EV_CLOCK, 0);
    kei_tunnel_leave(t);
}

/* As on_clock, but over a link that was verified: from here on time runs from there. */
static void on_true_time(void *user, int status, const char *text, int64_t answer)
{
    struct ke_tunnel *t = user;

    (void)text;
    kei_tunnel_enter(t);
    probe_done(t);
    if (status == 0 && kei_ctx_clock_behind(t->ctx)) {
        kei_ctx_time_floor(t->ctx, answer);
        t->true_time = true;
    }
    (void)kei_timer_in(&t->reprobe, REPROBE_MS);
    kei_tunnel_leave(t);
}

/* true: it is another than before */
static bool take_dialect(struct ke_tunnel *t, uint32_t dialect)
{
    bool other = dialect != t->notes.dialect;

    t->probed_at = ke_ctx_mono_ms(t->ctx);
    if (other) {
        kei_log(t->ctx, KE_LOG_INFO, "tunnel", "the cloud %s speaks dialect %s", t->conf.host,
                kei_dialect_name(dialect));
        t->notes.dialect = dialect;
        kei_files_save_notes(t);
        kei_tunnel_changed(t);
    }
    return other;
}

static void on_dialect(void *user, int status, const char *text, int64_t answer)
{
    struct ke_tunnel *t = user;

    kei_tunnel_enter(t);
    probe_done(t);
    if (status == 0)
        (void)take_dialect(t, (uint32_t)answer);
    else
        kei_log(t->ctx, KE_LOG_WARN, "tunnel", "the cloud's dialect could not be found: %s", text);
    kei_link_event(t, KEI_EV_PROBED, status);
    kei_tunnel_leave(t);
}

/* A cloud that was replaced is met as what it is now: everybody starts anew. */
static void on_dialect_again(void *user, int status, const char *text, int64_t answer)
{
    struct ke_tunnel *t = user;

    (void)text;
    kei_tunnel_enter(t);
    probe_done(t);
    if (status == 0 && take_dialect(t, (uint32_t)answer))
        kei_link_event(t, KEI_EV_RECONNECT, 0);
    else if (status < 0)
        (void)kei_timer_in(&t->reprobe, REPROBE_MS);
    kei_tunnel_leave(t);
}

static void on_reprobe(struct kei_timer *timer)
{
    struct ke_tunnel *t = KEI_OF(timer, struct ke_tunnel, reprobe);
    int r = 0;

    kei_tunnel_enter(t);
    if (kei_ctx_clock_behind(t->ctx) && !t->true_time) {
        r = ask_verified(t, false, on_true_time);
    } else if (t->conf.dialect == KE_DIALECT_AUTO) {
        r = ask_verified(t, true, on_dialect_again);
    }
    if (r < 0)
        (void)kei_timer_in(&t->reprobe, REPROBE_MS);
    kei_tunnel_leave(t);
}

/* ---- steps ---- */

/* The next step of the attempt, by what it still lacks. */
static enum kei_step next_step(struct ke_tunnel *t)
{
    if (!t->tried_load && (!kei_identity_whole(&t->id) || t->conf.ca_file))
        return KEI_STEP_LOAD;
    if (!t->tried_clock && !t->true_time && kei_tunnel_clock_wrong(t))
        return KEI_STEP_CLOCK;
    if (!t->tried_join && kei_identity_due(t))
        return KEI_STEP_JOIN;
    if (!kei_identity_whole(&t->id))
        return KEI_STEP_WAIT;
    if (!t->tried_probe && t->conf.dialect == KE_DIALECT_AUTO &&
        t->notes.dialect == KE_DIALECT_AUTO)
        return KEI_STEP_PROBE;
    return KEI_STEP_DIAL;
}

static int ask_clock(struct ke_tunnel *t)
{
    struct kei_tls_options o = {.verify_peer = false};

    return ask(t, &o, false, on_clock);
}

static void begin_up(struct ke_tunnel *t)
{
    int64_t now = ke_ctx_mono_ms(t->ctx), wait = 0;

    t->connected_at = now;
    t->attempts = 0;
    kei_log(t->ctx, KE_LOG_INFO, "tunnel", "node %s is connected to %s:%u", t->conf.node_name,
            t->conf.host, t->conf.tunnel_port);
    kei_wire_up(t);
    kei_identity_accepted(t);
    if (t->probed_at && now - t->probed_at < REPROBE_MS)
        wait = REPROBE_MS - (now - t->probed_at);
    (void)kei_timer_in(&t->reprobe, wait);
}

static void begin_wait(struct ke_tunnel *t)
{
    int64_t pause = kei_backoff_next(&t->backoff, kei_ctx_random64(t->ctx));

    (void)kei_timer_in(&t->retry, pause);
}

/* What is entered, done. A failure to begin is the end of that step: the status is returned. */
static int enter_step(struct ke_tunnel *t)
{
    switch (t->step) {
    case KEI_STEP_LOAD:
        t->tried_load = true;
        return kei_files_load(t);
    case KEI_STEP_CLOCK:
        t->tried_clock = true;
        return ask_clock(t);
    case KEI_STEP_JOIN:
        t->tried_join = true;
        return kei_identity_ask(t);
    case KEI_STEP_PROBE:
        t->tried_probe = true;
        return ask_verified(t, true, on_dialect);
    case KEI_STEP_DIAL:
        return kei_wire_dial(t);
    case KEI_STEP_UP:
        begin_up(t);
        return 0;
    case KEI_STEP_WAIT:
        begin_wait(t);
        return 0;
    case KEI_STEP_IDLE:
    case KEI_STEP_STOPPED:
        break;
    }
    return 0;
}

/* What is left behind, ended: nothing of it calls back any more. */
static void leave_step(struct ke_tunnel *t)
{
    kei_timer_stop(&t->retry);
    kei_timer_stop(&t->reprobe);
    kei_probe_free(t->probe);
    t->probe = NULL;
    if (t->step == KEI_STEP_JOIN && !t->rotating) {
        kei_join_free(t->join);
        t->join = NULL;
    }
    if (t->step == KEI_STEP_UP && ke_ctx_mono_ms(t->ctx) - t->connected_at >= STABLE_MS)
        kei_backoff_reset(&t->backoff);
}

static void set_step(struct ke_tunnel *t, enum kei_step step)
{
    if (kei_link_state(t) != KE_TUNNEL_STOPPED || step != KEI_STEP_STOPPED)
        kei_tunnel_changed(t);
    t->step = step;
}

/* Goes to step, and on from it as long as steps fail to begin. */
static void go(struct ke_tunnel *t, enum kei_step step)
{
    int r;

    leave_step(t);
    set_step(t, step);
    while ((r = enter_step(t)) < 0) {
        kei_tunnel_error(t, r, "%s", ke_ctx_error(t->ctx));
        set_step(t, t->step == KEI_STEP_DIAL || t->step == KEI_STEP_LOAD ? KEI_STEP_WAIT
                                                                         : next_step(t));
    }
}

static void attempt(struct ke_tunnel *t)
{
    t->tried_load = t->tried_clock = t->tried_join = t->tried_probe = false;
    t->attempts++;
    go(t, next_step(t));
}

/* ---- transitions ---- */

void kei_link_event(struct ke_tunnel *t, enum kei_event ev, int status)
{
    switch (ev) {
    case KEI_EV_START:
        if (t->step != KEI_STEP_IDLE && t->step != KEI_STEP_STOPPED)
            return;
        (void)kei_outbox_load(t->outbox);
        kei_backoff_reset(&t->backoff);
        kei_rotate_plan(t);
        attempt(t);
        return;
    case KEI_EV_STOP:
        t->begun = false;
        if (t->step == KEI_STEP_IDLE)
            return;
        kei_rotate_stop(t);
        go(t, KEI_STEP_STOPPED);
        kei_wire_down(t);
        return;
    case KEI_EV_RECONNECT:
        if (t->step == KEI_STEP_IDLE || t->step == KEI_STEP_STOPPED || t->step == KEI_STEP_LOAD)
            return;
        leave_step(t);
        set_step(t, KEI_STEP_WAIT);
        kei_wire_down(t);
        attempt(t);
        return;
    case KEI_EV_LOADED:
        if (t->step == KEI_STEP_LOAD)
            go(t, status < 0 ? KEI_STEP_WAIT : next_step(t));
        return;
    case KEI_EV_CLOCK:
        if (t->step == KEI_STEP_CLOCK)
            go(t, next_step(t));
        return;
    case KEI_EV_JOINED:
        if (t->step == KEI_STEP_JOIN)
            go(t, next_step(t));
        return;
    case KEI_EV_PROBED:
        if (t->step == KEI_STEP_PROBE)
            go(t, KEI_STEP_DIAL);
        return;
    case KEI_EV_OPEN:
        if (t->step == KEI_STEP_DIAL)
            go(t, KEI_STEP_UP);
        return;
    case KEI_EV_CLOSED:
        if (t->step == KEI_STEP_DIAL || t->step == KEI_STEP_UP)
            go(t, KEI_STEP_WAIT);
        return;
    case KEI_EV_TIMER:
        if (t->step == KEI_STEP_WAIT)
            attempt(t);
        return;
    }
}

static void on_retry(struct kei_timer *timer)
{
    struct ke_tunnel *t = KEI_OF(timer, struct ke_tunnel, retry);

    kei_tunnel_enter(t);
    kei_link_event(t, KEI_EV_TIMER, 0);
    kei_tunnel_leave(t);
}

void kei_link_init(struct ke_tunnel *t)
{
    kei_timer_init(t->ctx, &t->retry, on_retry);
    kei_timer_init(t->ctx, &t->reprobe, on_reprobe);
    kei_backoff_init(&t->backoff, t->conf.retry_min_ms, t->conf.retry_max_ms);
    kei_rotate_init(t);
}

void kei_link_fini(struct ke_tunnel *t)
{
    kei_probe_free(t->probe);
    t->probe = NULL;
    kei_timer_fini(&t->retry);
    kei_timer_fini(&t->reprobe);
    kei_rotate_stop(t);
    kei_timer_fini(&t->rotate);
}
