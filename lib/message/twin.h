/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device twins: the payloads of KubeEdge's device topics, and what an update does to a device.
 *
 * Pure: bytes, a device and the time in; the changed device and what to say out. Nothing here
 * publishes, stores or reads a clock. A device is owned by its user; its twins are immutable and
 * counted, so a copy of a device is cheap and an update can be undone. What is read from a payload
 * is borrowed from the payload and an arena.
 */
#ifndef KEI_MESSAGE_TWIN_H
#define KEI_MESSAGE_TWIN_H

#include <kubeedge/msg.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "message/twin_merge.h"

#define KEI_TWIN_EXPECTED 0u
#define KEI_TWIN_ACTUAL 1u
#define KEI_TWIN_BOTH 3u  /* as a mask: 1 << side */
#define KEI_TWIN_OTHER 4u /* in the same mask: optional or metadata */

#define KEI_TWIN_NAME_MAX 253u /* of a device, and of its namespace */
#define KEI_TWIN_KEY_MAX 128u  /* upstream's */

/* ---- the rules of an update ---- */

#define KEI_TWIN_STRICT 1u /* upstream's limits: characters and length of values, types */
#define KEI_TWIN_RETYPE 2u /* REST by a driver, which knows the type from the model: it may change */

struct kei_twin_rules {
    uint32_t dialect; /* KE_DIALECT_*; AUTO counts as 1.15 */
    uint32_t flags;
    int64_t now_ms;
    uint32_t max_twins; /* of one device */
    uint32_t max_value; /* bytes of one value; upstream's 512 with KEI_TWIN_STRICT */
    uint32_t max_bytes; /* of all names and values of one device */
    /* of devices that have a life (twin_merge.h) */
    struct kei_hlc *clock; /* stamps what is set; NULL: nothing is stamped */
    int64_t wall_ms;       /* for it */
    bool driver;   /* an expected value is what a driver saw of the desired one: no new wish */
    bool observed; /* and when that is another one, it is of another time: left out */
};
void kei_twin_rules_default(struct kei_twin_rules *r);
/* The device id of a message is "ns/name" since 1.16. */
bool kei_twin_long_ids(uint32_t dialect);

/* ---- what a payload says of a twin ---- */

struct kei_twin_side {
    struct ke_str value;
    int64_t ts, cloud, edge;
    bool has; /* the side is there, and has a value */
    bool has_ts, has_version;
    struct kei_hlc at; /* of the merge; zero: none */
};

struct kei_twin_view {
    struct ke_str name;
    bool null; /* "name":null */
    bool has_optional, optional, has_meta;
    struct ke_str type; /* of the metadata, "" if none */
    struct kei_twin_side side[2];
    uint32_t dirty; /* as kei_twin_dirty and kei_twin_up; of kept ones. MERGE: the sides told */
    uint64_t up;
};

struct kei_twin_device_view {
    struct ke_str id, name, description, state, last_online;
    struct ke_str attributes; /* raw object; n is 0 if absent or null */
    struct ke_str merge;      /* the same */
    bool anew;                /* beside it: what this place has of the device is of a former life */
    bool has_twins;
    struct kei_twin_view *twins;
    uint32_t n_twins;
};

struct kei_twin_payload {
    struct ke_str event_id; /* "" if absent */
    int64_t timestamp;
    bool has_twins;              /* "twin" is there and not null */
    struct kei_twin_view *twins; /* sorted by name */
    uint32_t n_twins;
    struct kei_twin_device_view *added, *removed, *devices;
    uint32_t n_added, n_removed, n_devices;
    bool has_devices;
    struct ke_str state;
    struct ke_str attributes, merge; /* as above */
};

#define KEI_TWIN_READ_BASE 0u       /* event_id and timestamp */
#define KEI_TWIN_READ_TWINS 1u      /* twin */
#define KEI_TWIN_READ_MEMBERSHIP 2u /* added_devices, removed_devices, devices */
#define KEI_TWIN_READ_STATE 4u
#define KEI_TWIN_READ_ATTRIBUTES 8u

/* KE_EPARSE with a text for people: not JSON, or a member of another type than it must be;
 * KE_ELIMIT, KE_ENOMEM. */
int kei_twin_read(struct kei_twin_payload *ret, struct ke_str text, uint32_t what,
                  struct kei_arena *a, struct ke_error *err);

/* ---- a twin as it is kept ---- */

struct kei_twin; /* immutable, counted */

const char *kei_twin_name(const struct kei_twin *t);
const char *kei_twin_type(const struct kei_twin *t);
bool kei_twin_deleted(const struct kei_twin *t);
size_t kei_twin_bytes(const struct kei_twin *t);                         /* of its texts */
void kei_twin_view(struct kei_twin_view *ret, const struct kei_twin *t); /* borrowed */
/* One of these contents; up and dirty as below. NULL: out of memory. */
struct kei_twin *kei_twin_make(const struct ke_alloc *al, const struct kei_twin_view *v,
                               uint64_t up, uint32_t dirty);
struct kei_twin *kei_twin_ref(const struct kei_twin *t);
void kei_twin_unref(const struct ke_alloc *al, const struct kei_twin *t);
/* What the cloud must still hear: a mask of sides, and when the device changed it last. */
uint32_t kei_twin_dirty(const struct kei_twin *t);
uint64_t kei_twin_up(const struct kei_twin *t);

struct kei_twin_device {
    char *ns; /* "" when the cloud gave none */
    char *name;
    char *description, *state, *last_online; /* "" if none */
    char *attributes;                        /* raw object with sorted names; "" if none */
    const struct kei_twin **twins;           /* by name */
    uint32_t n, cap;
    uint64_t seq;      /* grows with each change that the cloud must hear */
    uint64_t state_up; /* seq when the state changed; 0: the cloud knows it */
    struct kei_hlc life; /* zero: no cloud of ours told of one */
};

/* Zero-filled but for the names. KE_ENOMEM, KE_EINVAL. */
int kei_twin_device_init(struct kei_twin_device *d, const struct ke_alloc *al, struct ke_str ns,
                         struct ke_str name, struct ke_error *err);
void kei_twin_device_fini(struct kei_twin_device *d, const struct ke_alloc *al);
int kei_twin_device_copy(struct kei_twin_device *to, const struct kei_twin_device *from,
                         const struct ke_alloc *al);
const struct kei_twin *kei_twin_find(const struct kei_twin_device *d, struct ke_str name);
/* Exchanges one text member (description, ...). */
int kei_twin_device_text(char **member, const struct ke_alloc *al, struct ke_str text);
/* Names that are safe in topics, keys and resources. */
bool kei_twin_name_ok(struct ke_str s);
/* "ns/name" or "name". false: not an id. */
bool kei_twin_id_parse(struct ke_str id, struct ke_str *ret_ns, struct ke_str *ret_name);
/* The id as this dialect writes it, appended. */
void kei_twin_id_write(struct ke_buf *out, const struct kei_twin_device *d, uint32_t dialect);
/* The cloud confirmed all up to seq: what did not change since is clean. true: something was. */
bool kei_twin_confirm(struct kei_twin_device *d, const struct ke_alloc *al, uint64_t seq);
bool kei_twin_unconfirmed(const struct kei_twin_device *d);

/* ---- updates ---- */

/* MERGE: what our cloud says, with stamps: of each side told the later stands (twin_take.c). */
enum kei_twin_mode { KEI_TWIN_REST, KEI_TWIN_SYNC, KEI_TWIN_MERGE };

struct kei_twin_change {
    struct ke_str name;
    const struct kei_twin *before, *after; /* references; before NULL: new */
    uint32_t sides;                        /* touched */
    bool nulled;                           /* deleted by REST: the result says null */
    bool changed;                          /* has a document; else only refused (SYNC) */
};

struct kei_twin_outcome {
    struct kei_twin_change *changes; /* by name */
    uint32_t n;
    int code;           /* 0, or 400: nothing was changed */
    const char *reason; /* upstream's text */
    bool changed;       /* the device must be stored */
    bool to_cloud;      /* something is unconfirmed by this */
};

/* Upstream's checks of names and values before an update. NULL, or the reason to refuse it all. */
const char *kei_twin_check(const struct kei_twin_payload *p, const struct kei_twin_rules *rules,
                           struct kei_arena *a);
/*
 * Applies twins to d. 0 with the outcome (free it); REST either does all or, with outcome.code,
 * nothing. KE_ENOMEM: nothing was done.
 */
int kei_twin_update(struct kei_twin_outcome *ret, struct kei_twin_device *d,
                    const struct kei_twin_view *twins, uint32_t n, enum kei_twin_mode mode,
                    const struct kei_twin_rules *rules, const struct ke_alloc *al,
                    struct kei_arena *a, struct ke_error *err);
void kei_twin_outcome_free(struct kei_twin_outcome *o, const struct ke_alloc *al);
/*
 * What from tells of d, for MERGE: all desired values, so one that d has and from has not is told
 * as none. types: of the same message, may be none. Borrowed from d, from and types. KE_ENOMEM.
 */
int kei_twin_told(struct kei_twin_view **ret, uint32_t *ret_n, const struct kei_twin_device *d,
                  const struct kei_merge_device *from, const struct kei_twin_view *types,
                  uint32_t n_types, struct kei_arena *a);
/* Another life begins: nothing of the former one stays but names and description. KE_ENOMEM:
 * unchanged. */
int kei_twin_reborn(struct kei_twin_device *d, const struct ke_alloc *al,
                    const struct kei_hlc *life);
/* Stamps later than limit (NULL: zero ones) of what the cloud must hear, or has heard, become new
 * ones. *ret_n: how many did. KE_ENOMEM */
int kei_twin_restamp(struct kei_twin_device *d, const struct ke_alloc *al,
                     const struct kei_hlc *limit, struct kei_hlc *clock, int64_t wall_ms,
                     uint32_t *ret_n);
/* All that has a stamp is to be told (again): the cloud knows less than this place. */
int kei_twin_tell_again(struct kei_twin_device *d, const struct ke_alloc *al);
/* The clock becomes no earlier than what the device has; limit (may be NULL): but for later ones.
 */
void kei_twin_clock_see(struct kei_hlc *clock, const struct kei_twin_device *d,
                        const struct kei_hlc *limit);
/* false: none is later */
bool kei_twin_later(const struct kei_twin_device *d, const struct kei_hlc *limit);

/* NULL, or upstream's reason why value is none of type. */
const char *kei_twin_value_check(struct ke_str type, struct ke_str value,
                                 const struct kei_twin_rules *rules);
/* true: a state that this dialect takes. */
bool kei_twin_state_ok(struct ke_str state, uint32_t dialect);
/* last_online as this dialect writes it; "" when the state is none of being online (1.23) */
void kei_twin_last_online(char out[40], struct ke_str state, uint32_t dialect, int64_t now_ms);
/*
 * Attributes: replaces (all), or changes those that are named, null removing. *ret_text is the new
 * object, *ret_diff what changed as object (removed ones null), "" if nothing; of the arena.
 */
int kei_twin_attributes(struct ke_str old, struct ke_str change, bool all, struct ke_str *ret_text,
                        struct ke_str *ret_diff, struct kei_arena *a, struct ke_error *err);

/* ---- writing; all append one JSON object to out, check kei_buf_ok ---- */

struct kei_twin_base {
    struct ke_str event_id;
    int64_t timestamp;
};

void kei_twin_write_error(struct ke_buf *out, const struct kei_twin_base *b, int code,
                          const char *reason);
void kei_twin_write_result(struct ke_buf *out, const struct kei_twin_base *b,
                           const struct kei_twin_outcome *o);
void kei_twin_write_document(struct ke_buf *out, const struct kei_twin_base *b,
                             const struct kei_twin_outcome *o);
/* false: there is no difference to tell; out is as before */
bool kei_twin_write_delta(struct ke_buf *out, const struct kei_twin_base *b,
                          const struct kei_twin_device *d, uint32_t dialect);
void kei_twin_write_get(struct ke_buf *out, const struct kei_twin_base *b,
                        const struct kei_twin_device *d);
/* edge_updated of all that is unconfirmed; merge: with their stamps, if the device has a life */
void kei_twin_write_edge_updated(struct ke_buf *out, const struct kei_twin_base *b,
                                 const struct kei_twin_device *d, bool merge);
/* state/update/result, also what the cloud gets (as a string; merge: with the life) */
void kei_twin_write_state(struct ke_buf *out, const struct kei_twin_base *b,
                          const struct kei_twin_device *d, uint32_t dialect, bool merge);
/* one device as membership/get/result has it, without the twins */
void kei_twin_write_device(struct ke_buf *out, const struct kei_twin_device *d, uint32_t dialect);
/* membership/updated about one device, as it was received; removed: the other list */
void kei_twin_write_membership(struct ke_buf *out, const struct kei_twin_base *b,
                               const struct kei_twin_device_view *d, bool removed,
                               uint32_t dialect);
void kei_twin_write_attributes(struct ke_buf *out, const struct kei_twin_base *b,
                               struct ke_str diff);
/* the content of the request for membership/detail (to be sent as a string) */
void kei_twin_write_detail(struct ke_buf *out, const struct kei_twin_base *b, const char *node);

/* {"ns","name",...,"twin":{...}}: all of a device, with versions */
void kei_twin_write_json(struct ke_buf *out, const struct kei_twin_device *d);

/* ---- rows of the store (twin_row.c) ---- */

void kei_twin_row_write(struct ke_buf *out, const struct kei_twin_device *d);
/* Makes d (init is done here). KE_EPARSE, KE_ENOMEM. */
int kei_twin_row_read(struct kei_twin_device *d, const struct ke_alloc *al, struct ke_str text,
                      struct ke_error *err);

#endif
