/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the device twin. twin.c: the handle and its calls; index.c: the devices in memory;
 * input.c: what comes, and which action it is; action.c, membership.c: the actions; batch.c: what
 * waits, transactions, what is said when they are durable; upward.c: what the cloud has not
 * confirmed; life.c: stamps, where the cloud is one of ours. Loop thread, but for the calls marked
 * otherwise in twin.h.
 *
 * Inputs wait in one queue. A batch is as many of them as came while the disk was busy: they are
 * worked on in memory, their rows go in one transaction, and what they say (effects) is said when
 * it is durable. If it fails, memory goes back to what it was and each input is tried alone.
 */
#ifndef KEI_TWIN_PRIV_H
#define KEI_TWIN_PRIV_H

#include <stdatomic.h>

#include <kubeedge/twin.h>

#include "base/json.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "message/msg_priv.h"
#include "message/twin.h"

#define KEI_TWIN_BUCKET "twin"
#define KEI_LIFE_BUCKET "twinlife" /* one row: the graves */
#define KEI_TWIN_GRAVES 256u

/* ---- devices ---- */

/* What of a device goes to the cloud by itself. */
enum { LANE_TWIN, LANE_STATE, LANES };

struct kei_lane {
    uint64_t request; /* under way; 0: none */
    uint64_t seq;     /* of the device when it was sent last on this link; 0: not yet */
    int64_t due_ms;   /* not before */
    int64_t sent_ms;
    uint8_t index;
    uint8_t tries; /* on this link */
};

struct kei_tdev {
    struct kei_twin_device d;
    struct ke_twin *t;
    struct kei_tdev *next_same; /* of the same name in another namespace */
    struct kei_link all;
    struct kei_link up;    /* something can be sent now */
    struct kei_link stale; /* its row is older than what the cloud confirmed */
    uint32_t refs;
    bool gone;    /* removed */
    bool touched; /* by the batch under way */
    bool listed;  /* in the membership/detail that is worked on */
    struct kei_lane lane[LANES];
};

/* ---- inputs ---- */

enum kei_action {
    ACT_NONE,
    ACT_UPDATE,     /* twin/update */
    ACT_SYNC,       /* twin/cloud_updated */
    ACT_GET,        /* twin/get */
    ACT_STATE,      /* state/update */
    ACT_ATTRIBUTES, /* device/ID, operation updated */
    ACT_MEMBERS,    /* membership/get */
    ACT_MEMBERSHIP, /* membership */
    ACT_DETAIL,     /* membership/detail */
    ACT_OBJECT,     /* a Device object is there: inserted, updated */
    ACT_OBJECT_GONE,
    ACT_ADD, /* of the host */
    ACT_REMOVE,
    ACT_FLUSH, /* rows that are older than what was confirmed */
    ACT_RESTAMP,
};

struct kei_input {
    struct kei_link link;
    enum kei_action action;
    struct ke_twin *t;  /* while posted */
    struct ke_msg *m;   /* NULL: a call of the host */
    struct ke_str id;   /* of the device, in m or in own */
    char *own;          /* "" or the host's strings */
    struct ke_buf text; /* payload, when it is not m's content as it stands */
    struct ke_str payload;
    bool answered; /* m's sender may wait for a reply */
    bool from_mqtt;
    uint32_t tries;
    size_t bytes;
    ke_twin_done_fn done;
    void *user;
};

/* ---- effects ---- */

enum kei_effect_kind { TELL_MODULE, TELL_GROUP, TELL_REPLY, TELL_DONE, TELL_OBSERVERS };

struct kei_effect {
    struct kei_link link;
    enum kei_effect_kind kind;
    const char *to; /* static: module or group */
    struct ke_msg *m;
    ke_twin_done_fn done;
    void *user;
    int status;
    char *text;
    uint32_t what; /* KE_TWIN_* */
    struct kei_tdev *dev;
    const struct kei_twin *twin;
};

/* A device that the batch changed, and how to take it back. */
struct kei_touched {
    struct kei_link link;
    struct kei_tdev *dev;
    struct kei_twin_device before; /* zero when added */
    bool added, removed;
};

struct ke_twin_sub {
    struct kei_link link;
    struct ke_twin *t;
    char *ns, *device; /* NULL: all */
    ke_twin_fn fn;
    void *user;
    bool ended;
};

/* A device whose life the cloud ended. */
struct kei_grave {
    uint64_t who; /* digest of NS/NAME */
    struct kei_hlc life;
};

struct ke_twin {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_twin_config c;
    char *node_name;
    struct ke_module *module;
    atomic_uint refs; /* owner, posted calls, store callbacks, requests */
    bool freed, running, load_begun, loaded, connected;
    int load_status;

    struct kei_map names; /* device name -> first kei_tdev of the chain */
    struct kei_link all;
    uint32_t n;

    struct kei_link inputs;
    uint32_t n_inputs;
    uint64_t input_bytes;
    uint32_t in_batch; /* inputs of the batch under way, at the head of the queue */
    uint32_t batch_max;
    uint32_t singles; /* inputs that are to be tried alone */
    bool working, committing;
    struct kei_link touched, effects; /* of the batch */
    struct kei_link out;              /* effects that are being said */
    bool saying;
    struct kei_defer defer;
    struct kei_timer again; /* out of memory, a full queue, reading */

    struct kei_link up, stale;
    uint32_t flying;
    uint64_t detail_request;
    struct kei_timer resend, flush;
    bool detail_due;

    /* lives (life.c) */
    struct kei_hlc clock;
    bool told; /* the link that begins is to a cloud that merges */
    int64_t told_ms, told_mono;
    bool linked, merging; /* there was a link; the present one, or the last, merges */
    int64_t cloud_ms;     /* its clock at cloud_mono; 0: not known */
    int64_t cloud_mono;
    bool restamp, restamp_queued; /* stamps that are too far ahead: nothing goes up before */
    struct kei_grave *graves;
    uint32_t n_graves;
    bool graves_new; /* not stored yet */
    bool listing;    /* the whole list is worked on: what it says is how the cloud is now */

    struct kei_link subs;
    bool notifying;
    struct ke_twin_status st;
};

/* ---- twin.c ---- */
void kei_twin_unref_handle(struct ke_twin *t);
uint32_t kei_twin_dialect(const struct ke_twin *t);
void kei_twin_rules_now(const struct ke_twin *t, struct kei_twin_rules *r);
void kei_twin_notify(struct ke_twin *t, const struct kei_effect *e);

/* ---- index.c ---- */
struct kei_tdev *kei_tdev_find(const struct ke_twin *t, struct ke_str ns, struct ke_str name);
struct kei_tdev *kei_tdev_by_id(const struct ke_twin *t, struct ke_str id);
/* In the index at once; KE_ENOMEM, KE_EINVAL. */
int kei_tdev_add(struct kei_tdev **ret, struct ke_twin *t, const struct kei_twin_device *d);
void kei_tdev_drop(struct ke_twin *t, struct kei_tdev *dev); /* out of the index */
void kei_tdev_unref(struct ke_twin *t, struct kei_tdev *dev);
int kei_tdev_load(struct ke_twin *t); /* begins to read the store */

/* ---- input.c ---- */
void kei_input_message(struct ke_twin *t, struct ke_msg *m);
void kei_input_free(struct ke_twin *t, struct kei_input *in);
/* KE_ELIMIT with text */
int kei_input_queue(struct ke_twin *t, struct kei_input *in, struct ke_error *err);
/* A Device object; id is NS/NAME, m may be NULL. */
int kei_input_object(struct ke_twin *t, enum kei_action action, struct ke_str id, struct ke_msg *m,
                     struct ke_error *err);

/* ---- batch.c ---- */
void kei_batch_init(struct ke_twin *t);
void kei_batch_wake(struct ke_twin *t);
void kei_batch_fini(struct ke_twin *t); /* all that waits ends */
int kei_batch_touch(struct ke_twin *t, struct kei_tdev *dev);
int kei_batch_add(struct kei_tdev **ret, struct ke_twin *t, struct ke_str ns, struct ke_str name);
int kei_batch_remove(struct ke_twin *t, struct kei_tdev *dev);

/* ---- say.c: effects of the batch; all KE_ENOMEM or 0 ---- */
/* MQTT, "$hw/events/device/" id suffix; payload is used up */
int kei_say_device(struct ke_twin *t, struct ke_str id, const char *suffix, struct ke_buf *payload);
/* the same with the device's own ids */
int kei_say_about(struct ke_twin *t, const struct kei_tdev *dev, const char *suffix,
                  struct ke_buf *payload);
int kei_say_node(struct ke_twin *t, const char *suffix, struct ke_buf *payload);
/* to group `device` */
int kei_say_delta(struct ke_twin *t, const struct kei_tdev *dev, struct ke_str payload);
/* To the drivers: the device has come, or went. */
int kei_say_member(struct ke_twin *t, const struct kei_tdev *dev, bool removed);
/* to who sent in: status 0 with content, or the reason */
int kei_say_answer(struct ke_twin *t, struct kei_input *in, int status, struct ke_str content);
int kei_say_observers(struct ke_twin *t, struct kei_tdev *dev, uint32_t what,
                      const struct kei_twin *twin);
/* Says one; KE_ELIMIT, KE_ENOMEM: later. */
int kei_say_now(struct ke_twin *t, struct kei_effect *e);
void kei_effect_free(struct ke_twin *t, struct kei_effect *e);

/* ---- action.c, membership.c ---- */
/* Works on one input in memory. KE_ENOMEM; all other failures are said to whom they concern. */
int kei_action_run(struct ke_twin *t, struct kei_input *in);
/* The store did not take it. */
int kei_action_failed(struct ke_twin *t, struct kei_input *in, int status, const char *text);
int kei_membership_run(struct ke_twin *t, struct kei_input *in, struct kei_arena *a);
/* Twins of a device by SYNC or REST, with documents and delta. */
int kei_action_twins(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_payload *p,
                     enum kei_twin_mode mode, struct kei_input *in, struct kei_arena *a);
void kei_action_base(struct ke_twin *t, struct kei_twin_base *b, struct ke_str event_id);
int kei_action_fresh(struct ke_twin *t, struct kei_twin_base *b, char id[37]);

/* ---- life.c ---- */
void kei_life_init(struct ke_twin *t);
void kei_life_rules(struct ke_twin *t, const struct kei_tdev *dev, const struct kei_input *in,
                    struct kei_twin_rules *r);
/* The hub: the link that comes up is to a cloud that merges, with its clock. Before the link. */
void kei_life_told(struct ke_twin *t, const struct ke_msg *m);
void kei_life_link(struct ke_twin *t, bool up);
bool kei_life_ready(struct ke_twin *t); /* may anything go up? */
int kei_life_restamp(struct ke_twin *t);
void kei_life_loaded(struct ke_twin *t);
void kei_life_read(struct ke_twin *t, const struct ke_store_item *item);
int kei_life_store(struct ke_twin *t, struct ke_store_tx *tx); /* with the batch */
/* What the cloud tells as `merge`: 1, and m to be freed; 0: nothing, or not to be used; KE_ENOMEM
 */
int kei_life_open(struct kei_merge_device *m, struct ke_twin *t, struct ke_str raw,
                  struct ke_str what);
/* It tells of a life that ended, here or by a newer one. dev may be NULL. */
bool kei_life_is_over(struct ke_twin *t, const struct kei_tdev *dev, struct ke_str ns,
                      struct ke_str name, const struct kei_merge_device *m);
/* The device is of this life from now on; *ret_reborn: it was of another one. */
int kei_life_begin(struct ke_twin *t, struct kei_tdev *dev, const struct kei_hlc *life, bool anew,
                   bool *ret_reborn);
int kei_life_take(struct ke_twin *t, struct kei_tdev *dev, const struct kei_merge_device *m,
                  const struct kei_twin_view *types, uint32_t n_types, struct kei_arena *a);
void kei_life_bury(struct ke_twin *t, const struct kei_tdev *dev, const struct kei_hlc *life);

/* ---- upward.c ---- */
void kei_upward_init(struct ke_twin *t);
void kei_upward_fini(struct ke_twin *t);
void kei_upward_link(struct ke_twin *t, bool up);
void kei_upward_note(struct ke_twin *t, struct kei_tdev *dev); /* it may have something to say */
void kei_upward_pump(struct ke_twin *t);
void kei_upward_forget(struct ke_twin *t, struct kei_tdev *dev);

#endif
