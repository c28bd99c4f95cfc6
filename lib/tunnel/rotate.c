/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of the node's certificate: when it is due, how it is asked for, what happens to the one
 * before, and by which time certificates are judged. Owns nothing of its own; loop thread.
 */
#include "base/log.h"
#include "tunnel/tunnel_priv.h"

#define REST_MS 60000
#define TICK_MS (6 * 3600 * 1000)              /* a clock that was set is noticed within that */
#define HORIZON_MS (INT64_C(20) * 31557600000) /* 20 years after the floor: no right clock */
#define REFUSALS_MAX 3u                        /* in a row, then a token is used again */
#define GO_BACK_MS 3600000                     /* after a new certificate was refused */

/* ---- time ---- */

bool kei_tunnel_clock_wrong(const struct ke_tunnel *t)
{
    return kei_ctx_clock_behind(t->ctx) ||
           ke_ctx_real_ms(t->ctx) - kei_ctx_time_floor_get(t->ctx) > HORIZON_MS;
}

/*
 * A clock known to be wrong says nothing about a certificate. Then the cloud's own word counts, but
 * never below the floor: what was expired by then stays so, whoever answers.
 */
int64_t kei_tunnel_now(void *tunnel)
{
    struct ke_tunnel *t = tunnel;
    int64_t floor = kei_ctx_time_floor_get(t->ctx), now = ke_ctx_real_ms(t->ctx);

    if (kei_tunnel_clock_wrong(t)) {
        if (t->hint_ms)
            now = t->hint_ms + ke_ctx_mono_ms(t->ctx) - t->hint_mono_ms;
        else if (!kei_ctx_clock_behind(t->ctx))
            now = floor;
        if (now < floor)
            now = floor;
    }
    return now / 1000;
}

/* ---- what is due ---- */

const struct kei_cert *kei_tunnel_ca(const struct ke_tunnel *t)
{
    return t->host_ca ? t->host_ca : t->id.ca;
}

static bool expired(struct ke_tunnel *t)
{
    return kei_tunnel_now(t) >= t->id.info.not_after;
}

/* The token names another CA than the one held: it was made by another cloud. */
static bool token_of_other_cloud(struct ke_tunnel *t)
{
    struct kei_token token;
    struct kei_cert_info ca;

    if (!t->conf.token || t->host_ca || !t->id.ca)
        return false;
    if (kei_token_parse(&token, kei_str(t->conf.token), NULL) < 0 ||
        kei_cert_info(t->id.ca, &ca, NULL) < 0)
        return false;
    return !kei_equal_ct(token.ca_sha256, ca.sha256, sizeof ca.sha256);
}

bool kei_identity_due(struct ke_tunnel *t)
{
    if (t->host_cert)
        return false;
    return !kei_identity_whole(&t->id) || expired(t) ||
           !kei_identity_is_for(&t->id, t->conf.node_name) || token_of_other_cloud(t) ||
           (t->refusals >= REFUSALS_MAX && t->conf.token);
}

/* ---- asking ---- */

static void take_unit(struct ke_tunnel *t, struct kei_identity *got)
{
    /* Of two, the one that has proven itself is kept beside the new one. */
    bool keep = kei_identity_whole(&t->id) && (t->id_is_other || !kei_identity_whole(&t->other));

    if (keep) {
        kei_identity_clear(&t->other);
        t->other = t->id;
        t->id = (struct kei_identity){0};
    }
    kei_identity_clear(&t->id);
    t->id = *got;
    *got = (struct kei_identity){0};
    t->id_is_other = false;
    t->refusals = 0;
    kei_identity_taken(t);
    kei_files_save_identity(t);
    kei_log(t->ctx, KE_LOG_INFO, "tunnel", "node %s holds a new certificate, valid for %lld days",
            t->conf.node_name, (long long)((t->id.info.not_after - t->id.info.not_before) / 86400));
}

static void on_joined(void *user, int status, const char *text, struct kei_identity *got,
                      int64_t server_ms)
{
    struct ke_tunnel *t = user;
    bool rotating = t->rotating;

    (void)server_ms;
    kei_tunnel_enter(t);
    kei_join_free(t->join);
    t->join = NULL;
    t->rotating = false;
    if (status < 0) {
        kei_tunnel_error(t, status, "%s%s", rotating ? "renewing the certificate: " : "", text);
        t->rotate_not_before =
            ke_ctx_mono_ms(t->ctx) + kei_backoff_next(&t->rotate_backoff, kei_ctx_random64(t->ctx));
    } else {
        kei_backoff_reset(&t->rotate_backoff);
        t->rotate_not_before = 0;
        take_unit(t, got);
    }
    kei_rotate_plan(t);
    if (!rotating)
        kei_link_event(t, KEI_EV_JOINED, status);
    else if (status == 0)
        kei_link_event(t, KEI_EV_RECONNECT, 0);
    kei_tunnel_leave(t);
}

static int ask(struct ke_tunnel *t, bool with_token)
{
    struct kei_join_config c = {.host = t->conf.host,
                                .port = (uint16_t)t->conf.cert_port,
                                .proxy_url = t->conf.proxy_url,
                                .node_name = t->conf.node_name,
                                .token = with_token ? t->conf.token : NULL,
                                .held = with_token ? NULL : &t->id,
                                .ca = t->host_ca,
                                .host_key = t->host_key,
                                .now = kei_tunnel_now,
                                .now_user = t};

    kei_join_free(t->join);
    t->join = NULL;
    return kei_join_start(&t->join, t->ctx, &c, on_joined, t);
}

int kei_identity_ask(struct ke_tunnel *t)
{
    bool whole = kei_identity_whole(&t->id);

    t->rotating = false;
    if (t->conf.token)
        return ask(t, true);
    if (!whole && t->damaged[0])
        return kei_fail(t->ctx, KE_ETOKEN,
                        "%s/identity/current.pem of node %s is damaged (%s) and there is no join "
                        "token: put back a whole copy of it, or configure a token of the cloud %s",
                        t->conf.folder, t->conf.node_name, t->damaged, t->conf.host);
    if (!whole)
        return kei_fail(t->ctx, KE_ETOKEN,
                        "node %s has no certificate and no join token: configure a token of the "
                        "cloud %s",
                        t->conf.node_name, t->conf.host);
    if (expired(t))
        return kei_fail(t->ctx, KE_EEXPIRED,
                        "the certificate of node %s has expired and no join token is configured: "
                        "configure a new token of the cloud %s",
                        t->conf.node_name, t->conf.host);
    return ask(t, false);
}

/* ---- what became of it ---- */

void kei_identity_taken(struct ke_tunnel *t)
{
    /* It was signed then, so it is later than that. */
    kei_ctx_time_floor(t->ctx, t->id.info.not_before * 1000);
    t->rotate_share = 0.7 + 0.2 * (double)(kei_ctx_random64(t->ctx) >> 11) / 9007199254740992.0;
    kei_rotate_plan(t);
    kei_tunnel_changed(t);
}

static void note_time(struct ke_tunnel *t)
{
    int64_t now = ke_ctx_real_ms(t->ctx);

    if (kei_tunnel_clock_wrong(t) || now - t->notes.time_ms < 3600000)
        return;
    t->notes.time_ms = now;
    kei_files_save_notes(t);
}

void kei_identity_accepted(struct ke_tunnel *t)
{
    bool went_back = t->id_is_other;

    t->refusals = 0;
    if (went_back) {
        kei_files_identity_go_back(t);
        t->rotate_not_before = ke_ctx_mono_ms(t->ctx) + GO_BACK_MS;
    } else if (kei_identity_whole(&t->other)) {
        kei_files_identity_proven(t);
    }
    kei_identity_clear(&t->other);
    t->id_is_other = false;
    if (went_back)
        kei_rotate_plan(t);
    if (t->unsaved && !t->saving)
        kei_files_save_identity(t);
    note_time(t);
}

void kei_identity_rejected(struct ke_tunnel *t)
{
    struct kei_identity swap = t->id;

    t->refusals++;
    if (!kei_identity_whole(&t->other))
        return;
    t->id = t->other;
    t->other = swap;
    t->id_is_other = !t->id_is_other;
    kei_identity_taken(t);
}

/* ---- rotation ---- */

int64_t kei_rotate_at(const struct ke_tunnel *t)
{
    const struct kei_cert_info *i = &t->id.info;

    if (!kei_identity_whole(&t->id) || t->host_cert)
        return 0;
    return i->not_before + (int64_t)((double)(i->not_after - i->not_before) * t->rotate_share);
}

void kei_rotate_plan(struct ke_tunnel *t)
{
    int64_t at = kei_rotate_at(t), now = kei_tunnel_now(t), mono = ke_ctx_mono_ms(t->ctx);
    int64_t wait = at > now ? (at - now < TICK_MS / 1000 ? (at - now) * 1000 : TICK_MS) : 0;

    /* The one before is tried because the new one was refused: another new one would not help. */
    if (at == 0 || !t->begun || t->id_is_other) {
        kei_timer_stop(&t->rotate);
        return;
    }
    /* It is being renewed, or has expired and the link is waiting for a token: look again later. */
    if (wait == 0 && (t->join || now >= t->id.info.not_after))
        wait = REST_MS;
    if (mono + wait < t->rotate_not_before)
        wait = t->rotate_not_before - mono;
    (void)kei_timer_in(&t->rotate, wait);
}

static void on_rotate(struct kei_timer *timer)
{
    struct ke_tunnel *t = KEI_OF(timer, struct ke_tunnel, rotate);
    int64_t now = kei_tunnel_now(t);

    kei_tunnel_enter(t);
    if (t->step == KEI_STEP_UP)
        note_time(t);
    if (t->unsaved && !t->saving)
        kei_files_save_identity(t);
    /* An expired one is the link's matter: it needs a token. */
    if (now >= kei_rotate_at(t) && now < t->id.info.not_after && !t->join) {
        int r = ask(t, false);

        t->rotating = r == 0;
        if (r < 0)
            kei_tunnel_error(t, r, "renewing the certificate: %s", ke_ctx_error(t->ctx));
        t->rotate_not_before =
            ke_ctx_mono_ms(t->ctx) + kei_backoff_next(&t->rotate_backoff, kei_ctx_random64(t->ctx));
    }
    kei_rotate_plan(t);
    kei_tunnel_leave(t);
}

void kei_rotate_init(struct ke_tunnel *t)
{
    kei_timer_init(t->ctx, &t->rotate, on_rotate);
    kei_backoff_init(&t->rotate_backoff, 2000, 300000);
}

void kei_rotate_stop(struct ke_tunnel *t)
{
    kei_timer_stop(&t->rotate);
    kei_join_free(t->join);
    t->join = NULL;
    t->rotating = false;
}
