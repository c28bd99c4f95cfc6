/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of a tunnel: its parts and how they call each other. tunnel.c is the public face, link.c
 * the state machine, rotate.c the certificate's life, files.c what is read and written, wire.c what
 * goes over the link. Everything on the loop's thread.
 *
 * Re-entrancy: whatever the loop calls begins with kei_tunnel_enter and ends with
 * kei_tunnel_leave, which tells the host what changed and frees a tunnel that was given up
 * meanwhile.
 */
#ifndef KEI_TUNNEL_PRIV_H
#define KEI_TUNNEL_PRIV_H

#include <kubeedge/tunnel.h>

#include "base/arena.h"
#include "base/backoff.h"
#include "base/error.h"
#include "base/loop.h"
#include "net/ws.h"
#include "tunnel/identity.h"
#include "tunnel/join.h"
#include "tunnel/keepalive.h"
#include "tunnel/outbox.h"
#include "tunnel/probe.h"
#include "tunnel/seen.h"

/* What the state machine does now. */
enum kei_step {
    KEI_STEP_IDLE,
    KEI_STEP_LOAD,  /* reading identity and notes */
    KEI_STEP_CLOCK, /* asking the cloud for the time */
    KEI_STEP_JOIN,
    KEI_STEP_PROBE, /* asking the cloud for its dialect */
    KEI_STEP_DIAL,
    KEI_STEP_UP,
    KEI_STEP_WAIT,
    KEI_STEP_STOPPED,
};

enum kei_event {
    KEI_EV_START,
    KEI_EV_STOP,
    KEI_EV_RECONNECT, /* drop the link or the pause, begin an attempt */
    KEI_EV_LOADED,
    KEI_EV_CLOCK,  /* the time is known, or could not be asked */
    KEI_EV_JOINED, /* status 0: a new unit is held */
    KEI_EV_PROBED,
    KEI_EV_OPEN,
    KEI_EV_CLOSED,
    KEI_EV_TIMER,
};

/* What was learnt and outlives a restart. */
struct kei_notes {
    uint32_t dialect; /* KE_DIALECT_AUTO: never found */
    int64_t time_ms;  /* last time that was known to be right; 0: none */
};

struct ke_tunnel {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct kei_crypto *crypto;
    struct kei_arena arena;       /* of conf's strings */
    struct ke_tunnel_config conf; /* with defaults filled in */
    struct ke_tunnel_ops ops, hub_ops;
    void *user, *hub_user;

    uint32_t refs;  /* owner, running callbacks, jobs of the disk worker, reads of the store */
    uint32_t depth; /* callbacks running */
    bool freed;
    bool dirty; /* status changed since it was told */
    struct kei_defer tell;

    /* link.c */
    enum kei_step step;
    bool begun;                                            /* started and not stopped */
    bool tried_load, tried_clock, tried_join, tried_probe; /* in this attempt */
    struct kei_defer kick; /* start and reconnect work in a later turn */
    struct kei_timer retry;
    struct kei_backoff backoff;
    uint32_t attempts, refusals; /* since the last connect; of our certificate, in a row */
    int64_t connected_at;        /* monotonic */
    struct ke_error err;         /* last failure */
    char local_ip[64];

    /* identity; see rotate.c */
    struct kei_identity id, other; /* in use; the second best while id is not proven */
    struct kei_key *host_key;
    struct kei_cert *host_ca;
    bool host_cert;    /* certificate and key are the host's: nothing is issued here */
    bool id_is_other;  /* id is what previous.pem holds */
    bool unsaved;      /* id could not be written yet */
    char damaged[120]; /* why current.pem could not be used while nothing else can; or "" */
    bool saving, save_again;
    struct kei_join *join;
    bool rotating;       /* join runs besides the link */
    double rotate_share; /* of the certificate's life, in [0.7, 0.9) */
    struct kei_timer rotate;
    struct kei_backoff rotate_backoff;
    int64_t rotate_not_before; /* monotonic; after a failure */

    /* time and notes */
    struct kei_notes notes;
    int64_t (*newest)(void *user); /* NULL, or what the header says; -1: nothing */
    void *newest_user;
    bool offer_merge;              /* told at each connect */
    bool merges;                   /* the cloud of the present link, or the last, said it, too */
    int64_t merge_now_ms;          /* its clock as it said it */
    char store_id[37];             /* told at each connect; "": not known yet, or no store */
    int64_t hint_ms, hint_mono_ms; /* what the cloud says it is, and when it said so; 0: none */
    bool true_time; /* the floor has the cloud's time, as it was told over a verified link */
    struct kei_probe *probe;
    struct kei_timer reprobe;
    int64_t probed_at; /* monotonic; 0: never */

    /* wire.c */
    struct kei_ws *ws;
    struct kei_timer beat, ping;
    struct kei_keepalive keepalive;
    struct ke_buf out;     /* encoding; empty between messages */
    uint64_t pings, pongs; /* of this link */
    uint64_t outbox_ping;  /* the ping whose answer confirms what the outbox sent; 0: none */
    struct kei_outbox *outbox;
    struct kei_seen seen;
    uint64_t sent, received, skipped;
    uint64_t bytes_in, bytes_out; /* of links that are gone */
};

/* ---- tunnel.c ---- */
void kei_tunnel_enter(struct ke_tunnel *t);
void kei_tunnel_leave(struct ke_tunnel *t); /* t may be gone afterwards */
void kei_tunnel_unref(struct ke_tunnel *t);
/* Notes a failure for status and state; the text is cut, not refused. */
void kei_tunnel_error(struct ke_tunnel *t, int code, const char *fmt, ...) KE_PRINTF(3, 4);
void kei_tunnel_changed(struct ke_tunnel *t);
/* The second observer: messages go to it instead, state and sent to both. NULL: none. */
void kei_tunnel_attach(struct ke_tunnel *t, const struct ke_tunnel_ops *ops, void *user);

/* ---- link.c ---- */
void kei_link_init(struct ke_tunnel *t);
void kei_link_fini(struct ke_tunnel *t);
void kei_link_event(struct ke_tunnel *t, enum kei_event ev, int status);
uint32_t kei_link_state(const struct ke_tunnel *t); /* KE_TUNNEL_* */

/* ---- files.c ---- */
int kei_files_load(struct ke_tunnel *t); /* ends in KEI_EV_LOADED */
void kei_files_save_identity(struct ke_tunnel *t);
void kei_files_identity_proven(struct ke_tunnel *t);
void kei_files_identity_go_back(struct ke_tunnel *t);
void kei_files_save_notes(struct ke_tunnel *t);
void kei_files_new_store_id(struct ke_tunnel *t);

/* ---- rotate.c ---- */
/* Unix seconds to judge certificates by */
int64_t kei_tunnel_now(void *tunnel);
/* The clock shows what it cannot be: before the floor, or decades after it. */
bool kei_tunnel_clock_wrong(const struct ke_tunnel *t);
/* Whose signature a cloud must show: the host's CA, or the one of the unit. NULL: none yet. */
const struct kei_cert *kei_tunnel_ca(const struct ke_tunnel *t);
bool kei_identity_due(struct ke_tunnel *t);   /* join before connecting, with a token if possible */
int kei_identity_ask(struct ke_tunnel *t);    /* begins it; KE_ESTATE with text: not possible */
void kei_identity_taken(struct ke_tunnel *t); /* id changed: floor, rotation, status */
void kei_identity_accepted(struct ke_tunnel *t); /* a link came about with id */
void kei_identity_rejected(struct ke_tunnel *t); /* a link failed in a way that may be id's fault */
void kei_rotate_init(struct ke_tunnel *t);
void kei_rotate_plan(struct ke_tunnel *t);
void kei_rotate_stop(struct ke_tunnel *t);
int64_t kei_rotate_at(const struct ke_tunnel *t); /* Unix seconds; 0: not planned */

/* ---- wire.c ---- */
int kei_wire_init(struct ke_tunnel *t);
void kei_wire_fini(struct ke_tunnel *t);
int kei_wire_dial(struct ke_tunnel *t);  /* ends in KEI_EV_OPEN or KEI_EV_CLOSED */
void kei_wire_up(struct ke_tunnel *t);   /* keepalive, pings, outbox */
void kei_wire_down(struct ke_tunnel *t); /* closes what there is */
/* Over the present link, in its dialect. KE_ECLOSED, KE_EAGAIN (queue full), KE_ENOTSUP (the
 * dialect has no such message), others. *ret_answered (may be NULL): the cloud will reply. */
int kei_wire_send(struct ke_tunnel *t, struct ke_msg *m, bool *ret_answered);
/* A module acknowledged it by a message of its own. */
void kei_wire_acked(struct ke_tunnel *t, const char *id);
/* A message could not be taken: its next copy is told again. */
void kei_wire_refused(struct ke_tunnel *t, const struct ke_msg *m);

#endif
