/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twins of one device kept at several places (our edge, our cloud) that change them at the same
 * time and hear of each other late, twice, in any order, or for a while not at all: once all have
 * heard all, they hold the same.
 *
 *  - Each change has a stamp of a hybrid logical clock: later than all its place has seen, whatever
 *    the clock on the wall does. Of two changes of one value the later by its stamp wins.
 *  - A device has lives. One that is made again after it was deleted is another; of two lives the
 *    one that began later wins, and nothing of the former comes back: a message of a former life is
 *    left out, and a place that hears of a newer one first forgets the older.
 *  - The end of a life is final for it: what comes after is left out, too. A dead device stays as a
 *    tombstone, so that news of its life that are still on their way find it dead.
 *  - A twin that is deleted is a value that is none, with a stamp, as any other.
 *
 * On the wire it is the member `merge` of what our edge and our cloud say to each other, when both
 * said that they know it (header KEI_MERGE_HEADER of the upgrade and of its answer); upstream's
 * peers never see it. Its form is that of kei_merge_write.
 *
 * Pure; memory of the table given; one thread at a time. The state of a device is its own message:
 * a delta is a state with less in it.
 */
#ifndef KEI_MESSAGE_TWIN_MERGE_H
#define KEI_MESSAGE_TWIN_MERGE_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

/* ---- the clock ---- */

struct kei_hlc {
    int64_t ms;    /* Unix time, or what was seen to be later */
    uint32_t n;    /* counts within a millisecond */
    uint32_t node; /* of the place: no two have the same */
};

/* A stamp later than the year 9999 is none. */
#define KEI_HLC_MS_MAX INT64_C(253402300799999)

/* How far the stamps of an edge may be ahead of its cloud's clock. */
#define KEI_MERGE_AHEAD_MS 600000

int kei_hlc_compare(const struct kei_hlc *a, const struct kei_hlc *b);
bool kei_hlc_is_zero(const struct kei_hlc *a);
/* The next stamp of a place; *clock is its newest. Always later than *clock. */
struct kei_hlc kei_hlc_tick(struct kei_hlc *clock, int64_t now_ms);
/* A stamp of another place was seen. */
void kei_hlc_see(struct kei_hlc *clock, const struct kei_hlc *other);

/* ---- a device ---- */

#define KEI_MERGE_DESIRED 0u
#define KEI_MERGE_REPORTED 1u

struct kei_merge_value {
    char *text;        /* NULL: none, or deleted */
    struct kei_hlc at; /* zero: never set */
};

struct kei_merge_twin {
    char *name;
    struct kei_merge_value v[2];
};

struct kei_merge_device {
    struct kei_hlc life; /* when it began; zero: never heard of */
    bool dead;
    struct kei_merge_twin *twins; /* by name */
    uint32_t n, cap;
};

void kei_merge_init(struct kei_merge_device *d);
void kei_merge_fini(struct kei_merge_device *d, const struct ke_alloc *al);

/* A new life; the former one, dead or not, is forgotten. */
void kei_merge_begin(struct kei_merge_device *d, const struct ke_alloc *al, struct kei_hlc *clock,
                     int64_t now_ms);
/* The end of this life. false: it is dead, or never was. */
bool kei_merge_delete(struct kei_merge_device *d, const struct ke_alloc *al);
/* Sets one value (text NULL: none). KE_ESTATE: the device does not live; KE_ENOMEM: unchanged. */
int kei_merge_set(struct kei_merge_device *d, const struct ke_alloc *al, struct ke_str name,
                  unsigned which, const char *text, struct kei_hlc *clock, int64_t now_ms);
/* Both values of a twin become none, with one stamp. KE_ENOTFOUND, KE_ESTATE. */
int kei_merge_unset(struct kei_merge_device *d, struct ke_str name, const struct ke_alloc *al,
                    struct kei_hlc *clock, int64_t now_ms);
const struct kei_merge_twin *kei_merge_find(const struct kei_merge_device *d, struct ke_str name);

/*
 * Takes what another place says. *ret_changed (may be NULL): something is different now. KE_ENOMEM:
 * a part may be taken; saying it again takes the rest.
 */
int kei_merge_take(struct kei_merge_device *d, const struct ke_alloc *al,
                   const struct kei_merge_device *from, struct kei_hlc *clock, bool *ret_changed);
bool kei_merge_equal(const struct kei_merge_device *a, const struct kei_merge_device *b);

/*
 * As JSON, appended: {"life":[ms,n,node],"dead":true,"twin":{NAME:{"expected":{"value":TEXT,"at":
 * [..]},"actual":{...}}}}. since (may be NULL): only what is later than that stamp. Unknown to
 * upstream's peers, which leave it out.
 */
void kei_merge_write(struct ke_buf *out, const struct kei_merge_device *d,
                     const struct kei_hlc *since);
/* The same piece by piece, for who keeps the values elsewhere. */
void kei_merge_open(struct kei_jw *w, const struct kei_hlc *life, bool dead);
/* One twin, with the sides whose stamp is not zero, and later than since (may be NULL). */
void kei_merge_one(struct kei_jw *w, struct ke_str name, const char *const text[2],
                   const struct kei_hlc at[2], const struct kei_hlc *since);
void kei_merge_close(struct kei_jw *w);
/* [ms,n,node] */
void kei_hlc_write(struct kei_jw *w, const struct kei_hlc *h);
bool kei_hlc_read(struct kei_hlc *ret, struct ke_str list);
/* KE_EPARSE, KE_ENOMEM, KE_ELIMIT (more than 4096 twins, names of more than 128 bytes). d is
 * initialised by this. */
int kei_merge_read(struct kei_merge_device *d, const struct ke_alloc *al, struct ke_str text,
                   struct ke_error *err);

#endif
