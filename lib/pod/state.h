/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state machine of one pod: what is wanted, how its containers are, and the time give what is
 * to be done next. Pure: no memory of its own, no clock; mono is a monotonic time in ms, real is
 * Unix time in ms.
 *
 * The life of a container: WAITING -> CREATED -> RUNNING -> EXITED, then again from WAITING with
 * the next attempt if the restart policy says so and the back-off is over. At most one instance of
 * a container is ever between CREATED and EXITED.
 */
#ifndef KEI_POD_STATE_H
#define KEI_POD_STATE_H

#include "pod/podspec.h"

#define KEI_ID_MAX 192 /* with the NUL; longer ids of a runtime are refused */
#define KEI_REASON_MAX 48
#define KEI_MESSAGE_MAX 256

enum kei_ct_state {
    KEI_CT_WAITING, /* no instance now */
    KEI_CT_CREATED,
    KEI_CT_RUNNING,
    KEI_CT_EXITED,
};

/* How an instance ended. */
struct kei_ct_end {
    bool valid;
    bool guessed; /* the runtime did not tell; what it tells later counts */
    int32_t exit_code, signal;
    int64_t started_ms, finished_ms; /* Unix, 0: unknown */
    char id[KEI_ID_MAX];
    char reason[KEI_REASON_MAX];
    char message[KEI_MESSAGE_MAX];
};

struct kei_ct {
    enum kei_ct_state state;
    bool had;         /* there was an instance: attempt counts */
    bool busy;        /* pull, create or start is under way */
    bool stopping;    /* stop is under way, with kill_mono as its end */
    bool broken;      /* created, but its start failed: ended before anything else; see message */
    bool outdated;    /* the spec wants another image than the instance has */
    uint32_t attempt; /* of the newest instance */
    char id[KEI_ID_MAX]; /* of the newest instance, "" if unknown */
    char image_id[KEI_ID_MAX];
    uint64_t image_hash; /* of the image in the spec it was made by; 0: unknown */
    int64_t started_ms, started_mono;
    int64_t kill_mono;
    struct kei_ct_end end;       /* of this instance, in EXITED */
    struct kei_ct_end last;      /* of the instance before it */
    int64_t backoff_ms;          /* pause before the next restart; 0: none */
    int64_t pause_ms;            /* the pause under way, for people */
    int64_t retry_ms;            /* pause after the next failure to create */
    int64_t due_mono;            /* not before this time */
    char reason[KEI_REASON_MAX]; /* why it waits */
    char message[KEI_MESSAGE_MAX];
};

enum kei_desire {
    KEI_WANT_RUN,
    KEI_WANT_STOP, /* being deleted, or failed as a whole: end with grace */
    KEI_WANT_KILL, /* gone in the cloud */
};

struct kei_pod_state {
    enum kei_desire desire;
    enum kei_restart restart;
    bool held;         /* nothing may be created: not admitted, or another pod of that name ends */
    bool final;        /* phase is Succeeded or Failed, for ever */
    bool succeeded;    /* which of the two */
    int64_t grace_ms;  /* for a container that is replaced */
    int64_t kill_mono; /* in STOP: when the grace is over */
    int64_t deadline_mono; /* activeDeadlineSeconds, 0: none */
    struct kei_ct *cts;
    size_t n;
    char reason[KEI_REASON_MAX]; /* of the pod */
    char message[KEI_MESSAGE_MAX];
};

/* Milliseconds. */
struct kei_state_conf {
    int64_t restart_min, restart_max, restart_reset;
    int64_t retry_min, retry_max;
};

enum kei_do {
    KEI_DO_NOTHING,
    KEI_DO_CREATE, /* and start, as attempt kei_ct_next_attempt */
    KEI_DO_START,
    KEI_DO_STOP,
    KEI_DO_REMOVE, /* created, but not running, not wanted or broken */
};

struct kei_step {
    enum kei_do what;
    int64_t grace_ms; /* STOP */
};

/*
 * What to do now; steps has room for s->n. *ret_wake: monotonic time to ask again without an event,
 * -1: none. True when nothing runs and nothing is under way.
 */
bool kei_state_plan(const struct kei_pod_state *s, int64_t mono, struct kei_step *steps,
                    int64_t *ret_wake);

uint32_t kei_ct_next_attempt(const struct kei_ct *c);
/* ---- what happened; each is right in any state ---- */
void kei_ct_created(struct kei_ct *c, uint32_t attempt, const char *id);
void kei_ct_started(struct kei_ct *c, int64_t mono, int64_t real);
/* Ended at e->finished_ms. Repeats change nothing; a told end replaces a guessed one. */
bool kei_ct_exited(struct kei_ct *c, const struct kei_ct_end *e, int64_t mono,
                   const struct kei_state_conf *conf);
/* It could not be created: reason and message are shown, tried again after a growing pause. */
void kei_ct_failed(struct kei_ct *c, const char *reason, const char *message, int64_t mono,
                   const struct kei_state_conf *conf);
/* Its start failed, for the reason in message: what there may be of it has to be ended first. */
void kei_ct_broken(struct kei_ct *c, const char *message);
/* A created one that was not started is no more; a broken one counts as a run that failed. */
void kei_ct_discarded(struct kei_ct *c, int64_t mono, int64_t real,
                      const struct kei_state_conf *conf);
/* Waits for something that is not its own fault; no pause of its own. */
void kei_ct_wait(struct kei_ct *c, const char *reason, const char *message);
bool kei_ct_crash_looping(const struct kei_pod_state *s, const struct kei_ct *c, int64_t mono);
bool kei_ct_restarts(const struct kei_pod_state *s, const struct kei_ct *c);

/* Deletion with grace_ms from now on; a later call can only bring the end nearer. */
void kei_state_delete(struct kei_pod_state *s, int64_t grace_ms, int64_t mono);
void kei_state_kill(struct kei_pod_state *s);
/* The pod has failed as a whole (deadline, refusal); its containers are to end. */
void kei_state_fail(struct kei_pod_state *s, const char *reason, const char *message,
                    int64_t grace_ms, int64_t mono);

enum kei_phase {
    KEI_PHASE_PENDING,
    KEI_PHASE_RUNNING,
    KEI_PHASE_SUCCEEDED,
    KEI_PHASE_FAILED,
};
/* The phase by Kubernetes' algorithm; a final one stays. */
enum kei_phase kei_state_phase(const struct kei_pod_state *s);
/* Makes a final phase final. True if it just became so. */
bool kei_state_settle(struct kei_pod_state *s);
const char *kei_phase_name(enum kei_phase p);
uint64_t kei_image_hash(const char *image); /* not 0 */
/* Copies text, cut at a character's boundary to fit n bytes. */
void kei_text_copy(char *out, size_t n, const char *text);

#endif
