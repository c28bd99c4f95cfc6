/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the pod engine: the engine, one pod, one preparation. Loop thread.
 *
 *   engine.c   entry, start, stop, work put off to the end of a turn
 *   inbox.c    what arrives: pods, objects, the link
 *   load.c     what store and runtime know after a start, and taking it back
 *   hold.c     what runs without a pod, when the store may have lost pods
 *   sweep.c    files of pods that went while the node was down
 *   lifecycle.c  one pod: from the state machine's steps to operations of the runtime
 *   ending.c   one pod: what is taken down when nothing of it runs any more
 *   prepare.c  what a pod needs before its containers: objects, volumes, configuration
 *   report.c   status, notes, what the host is told
 */
#ifndef KEI_POD_ENGINE_H
#define KEI_POD_ENGINE_H

#include <limits.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "message/msg_priv.h"
#include "pod/pod.h"
#include "pod/runtime_process.h"
#include "pod/runtime_table.h"
#include "pod/status.h"
#include "pod/volume.h"

#define KEI_PODS_MODULE "edged"
#define KEI_PODS_META "metamanager"
#define KEI_REMOVE_SLICE 256      /* names taken away per job of the disk worker */
#define KEI_PODS_REFRESH_MS 60000 /* until an object that was lost is asked for again */

/* ---- one pod ---- */

/* How far the end of a pod has come. A deleted one goes by SANDBOX, FOLDER to TOLD; one that is
 * gone in the cloud by SANDBOX, REMOVE to LAST, also from TOLD. */
enum kei_end {
    KEI_END_NOT,
    KEI_END_SANDBOX, /* containers are over; the sandbox goes */
    KEI_END_FOLDER,  /* volumes go */
    KEI_END_TOLD,    /* the cloud may delete it; it is kept until the cloud says so */
    KEI_END_REMOVE,  /* instances are removed from the runtime */
    KEI_END_LAST,    /* volumes and logs go */
};

enum kei_sandbox {
    KEI_SANDBOX_NONE,
    KEI_SANDBOX_STARTING,
    KEI_SANDBOX_READY,
};

struct kei_prep;

/* The Pod object as it came, and what was read of it. A preparation keeps the one it began with. */
struct kei_pod_object {
    uint32_t refs;
    char *json;
    struct kei_arena arena;
    struct kei_podspec spec;
};

/* Whether its nodeSelector and node affinity let a pod be on this node. */
enum kei_fit { KEI_FIT_UNCHECKED, KEI_FIT_UNKNOWN, KEI_FIT_YES, KEI_FIT_NO };
/* spec: of a pod; labels: of the Node, p NULL if they are not known. */
enum kei_fit kei_affinity_fit(struct ke_str spec, struct ke_str labels, const char *node_name);

struct kei_pod {
    struct kei_pods *ps;
    struct kei_link link;  /* in ps->pods while it counts */
    struct kei_link kick;  /* in ps->kicked: to be looked at this turn */
    struct kei_link dirty; /* in ps->dirty: to be reported this turn */
    uint32_t refs;         /* the list's, and one per operation under way */
    bool gone;             /* out of the list */
    char uid[KEI_POD_UID_MAX + 1];
    char *key; /* NS/NAME */
    struct kei_pod_object *object;
    const struct kei_podspec *spec; /* of object */
    struct kei_pod_state st;
    struct kei_conds conds;
    int64_t start_ms;
    bool admitted; /* it was counted once; not refused for want of room again */
    bool namesake; /* another pod of that name must be over before it begins */
    enum kei_fit fit;
    bool fit_asked; /* the question under way is for it, too */
    /* deletion */
    enum kei_end end;
    uint32_t end_ops;  /* operations of the end under way */
    bool unsure;       /* it came while strays are kept: which are its own is asked */
    bool tells_delete; /* graceful: the engine asks the cloud to delete it */
    /* preparation */
    struct kei_prep *prep;        /* under way, or ready to be used */
    bool prepared;                /* one has succeeded since the engine started */
    bool refresh, refresh_remote; /* volumes are to be written again */
    int64_t prep_due, prep_pause; /* monotonic ms; pause after the next failure */
    int64_t refresh_due;          /* 0: none planned */
    /* sandbox */
    enum kei_sandbox sandbox;
    uint32_t sandbox_attempt;
    bool sandbox_had;
    char sandbox_id[KEI_ID_MAX];
    char ip[64];
    bool *pulled; /* per container: its image is there for the next create */
    struct kei_timer timer;
    /* reports */
    char *sent; /* the PodStatus last reported */
    size_t sent_n;
    char *note;
    bool unread;        /* a reread has not come by its row yet */
    bool told;          /* the host has heard of it */
    uint64_t told_hash; /* of what it heard */
};

/* ---- the engine ---- */

struct kei_pods {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    uint32_t refs; /* the owner's, and one per operation under way */
    bool freed, started, stopped;
    /* configuration, copied */
    char *node_name, *data, *log_folder;
    char node_ip[64];
    char **host_path_allow;
    struct kei_vconfig vconf;
    struct kei_state_conf sconf;
    struct ke_router *router;
    struct ke_store *store;
    uint32_t (*dialect)(void *user);
    struct kei_pods_ops ops;
    void *user;
    const struct ke_runtime_ops *rt_ops; /* NULL: no runtime */
    void *rt_user;
    uint32_t max_pods, query_ms;
    int64_t op_ms, retry_min, retry_max;
    /* parts */
    struct kei_process *process;
    struct ke_runtime *rt;
    struct ke_module *module;
    struct kei_link pods, kicked, dirty, strays;
    struct kei_map by_uid;
    struct kei_defer work;      /* looks at kicked and dirty */
    struct kei_timer retry;     /* reports that found a full queue */
    struct kei_timer reread;    /* the pods of the store, after one could not be taken */
    bool rereading;             /* under way */
    struct kei_timer fit_timer; /* asks for the labels of this node */
    bool fit_asking;
    bool lost_news;          /* of objects, of deletions perhaps: the reread makes up for it */
    bool lost_rows;          /* of the store, while it was open: what lacks one may be wanted */
    struct kei_link invalid; /* pods that cannot be run, struct kei_invalid; INVALID_MAX of them */
    uint32_t n_invalid;
    /* the runtime */
    char rt_name[80], rt_version[80], rt_text[256];
    bool rt_answered, rt_ready, rt_asking;
    struct kei_timer rt_timer; /* asks again */
    bool listing;              /* the question is under way */
    bool listed;               /* its containers are known */
    bool list_failed;          /* at least once: so pods are reported as waiting for it */
    bool list_again;           /* an event came meanwhile */
    int64_t list_pause;
    /* start */
    struct kei_load *load; /* NULL once the store has been read */
    struct kei_lost *lost; /* until the sweep */
    bool settled;
    bool connected;
    /* strays that are kept */
    bool hold;
    bool hold_over; /* no longer; the list that tells which to end is under way */
    bool relist;    /* the runtime is to be asked again though listed */
    int64_t hold_ms;
    uint32_t n_held;
    struct kei_map unwanted; /* uids of those that are not kept: the cloud has deleted them */
    struct kei_timer hold_timer;
};

/* engine.c */
void kei_pods_unref(struct kei_pods *ps);
struct kei_pod *kei_pods_by_uid(struct kei_pods *ps, struct ke_str uid);
uint32_t kei_pods_dialect(const struct kei_pods *ps);
/* Reads json (copied) as a new pod, not looked at yet. NULL with the context's error. */
struct kei_pod *kei_pod_new(struct kei_pods *ps, struct ke_str json);
void kei_pod_ref(struct kei_pod *p);
int kei_pod_object_read(struct kei_pods *ps, struct ke_str json, struct kei_pod_object **ret);
void kei_pod_object_set(struct kei_pod *p, struct kei_pod_object *o);     /* takes o over */
void kei_pod_object_unref(struct kei_pods *ps, struct kei_pod_object *o); /* NULL is fine */
void kei_pod_unref(struct kei_pod *p);
/* Takes it off the engine's list. */
void kei_pod_drop(struct kei_pod *p);
void kei_pods_report_later(struct kei_pods *ps);

/* inbox.c */
void kei_pods_message(struct kei_pods *ps, struct ke_msg *m);
/* What can be said of it before anything is done for it. */
void kei_pod_admit(struct kei_pod *p);
/* One read from the store: admits it and lets it go on. */
void kei_pod_begin(struct kei_pod *p);
/* Those that waited for a pod of this name to be over go on. */
void kei_pod_settle_name(struct kei_pod *gone);
/* Reads the pods of the store again: one could not be taken. */
void kei_pods_reread_later(struct kei_pods *ps);
/* Messages were lost, of which kind is not known: as above, and who has no row any more ends. */
void kei_pods_lost_news(struct kei_pods *ps);
void kei_pods_reread(struct kei_timer *t);

/* load.c */
int kei_load_begin(struct kei_pods *ps);
void kei_load_free(struct kei_load *l);
void kei_load_hold(struct kei_load *l, struct ke_msg *m); /* kept until the store is read */
void kei_load_list(struct kei_pods *ps);                  /* asks the runtime for its containers */
void kei_runtime_ask(struct kei_pods *ps);                /* asks the runtime for its state */

/* hold.c */
void kei_hold_init(struct kei_pods *ps, const struct kei_pods_config *c);
void kei_hold_link(struct kei_pods *ps, bool up);
void kei_hold_list(struct kei_pods *ps); /* asks the runtime for its containers once more */
void kei_hold_pod(struct kei_pod *p);    /* a new one: strays may be its containers */
/* True if c may be a pod's that is not known yet: it must not be ended. */
/* The cloud has deleted the pod of that uid, which is not known here: what is kept of it ends. */
void kei_hold_end(struct kei_pods *ps, const char *uid);
bool kei_hold_keeps(const struct kei_pods *ps, const struct ke_container_info *c);
void kei_hold_count(struct kei_pods *ps, const struct ke_runtime_result *r);

/* sweep.c */
struct kei_lost;
/* The note on a pod the store does not have: kept for kei_sweep. */
void kei_sweep_note(struct kei_pods *ps, struct ke_str uid, struct ke_str note);
/*
 * Removes the folders of pods that are not known, on the disk worker. Those that have a note are
 * then told to the host as removed, and the note goes.
 */
void kei_sweep(struct kei_pods *ps);
void kei_lost_free(struct kei_pods *ps, struct kei_lost *lost);

/* lifecycle.c */
void kei_pod_kick(struct kei_pod *p); /* look at it later in this turn */
void kei_pod_sync(struct kei_pod *p); /* look at it */
void kei_pod_event(struct kei_pods *ps, const struct ke_container_info *c);
/* Begins its deletion, grace in ms; or its end at once, gone in the cloud. */
void kei_pod_delete(struct kei_pod *p, int64_t grace_ms);
void kei_pod_kill(struct kei_pod *p);
/* What failed for want of something is tried at once. */
void kei_pod_retry(struct kei_pod *p);
/* Shows reason and message at the containers that wait; the next preparation comes after a pause.
 */
void kei_pod_wait(struct kei_pod *p, const char *reason, const char *message);
void kei_pod_pause(struct kei_pod *p);
/* Ends a container nobody wants: kills it, removes it; what fails is tried again. */
void kei_stray_end(struct kei_pods *ps, const char *id);
/* The same after a pause: id could not be removed. */
void kei_stray_failed(struct kei_pods *ps, const char *id, int status, const char *text);
void kei_strays_free(struct kei_pods *ps);                           /* those that wait */
size_t kei_pod_container(const struct kei_pod *p, const char *name); /* index, or n */
void kei_end_of(struct kei_ct_end *e, const struct ke_container_info *c);

/* ending.c */
/* Nothing of p runs: goes on with its end, one stage after the other. */
void kei_pod_end(struct kei_pod *p);

/* prepare.c */
/*
 * Begins a preparation; kei_pod_kick follows when it is over. remote: objects are asked for even if
 * the store has them.
 */
void kei_prep_begin(struct kei_pod *p, bool remote);
bool kei_prep_ready(const struct kei_pod *p);
void kei_prep_drop(struct kei_pod *p); /* forgets it, whatever its state */
/*
 * The configuration of container i for attempt; strings live in the preparation. KE_E* with text of
 * kubelet's for people.
 */
int kei_prep_config(struct kei_pod *p, size_t i, uint32_t attempt, struct ke_container_config *c,
                    struct ke_error *err);
const char *kei_pod_ip(const struct kei_pod *p);
bool kei_pod_log_folder(const struct kei_pod *p, char *out, size_t n);

/* report.c */
void kei_pod_dirty(struct kei_pod *p); /* report it later in this turn if something changed */
void kei_pod_report(struct kei_pod *p);
void kei_pod_tell_delete(struct kei_pod *p);
/* The status of a pod that cannot be read. */
void kei_report_invalid(struct kei_pods *ps, struct ke_str json, const char *text, bool told);

/* affinity.c: whether a pod may be on this node */
void kei_affinity_init(struct kei_pods *ps);
/* Sets p->fit; UNKNOWN: the Node is asked for, kei_pod_admit follows. */
void kei_affinity_check(struct kei_pod *p);

/* invalid.c: pods that cannot be run, for those who ask for the node's pods */
/* text: why; forgotten when it is deleted or comes whole. */
void kei_invalid_note(struct kei_pods *ps, const char *ns, const char *name, const char *uid,
                      const char *text);
/* Of that uid, or if it is "" of that key. */
void kei_invalid_forget(struct kei_pods *ps, const char *key, const char *uid);
void kei_invalid_each(struct kei_pods *ps, void (*fn)(void *user, const struct ke_pod_info *p),
                      void *user);
void kei_invalid_free(struct kei_pods *ps);
void kei_pod_tell_gone(struct kei_pod *p);
void kei_note_read(struct kei_pod *p, struct ke_str note);
void kei_note_remove(struct kei_pods *ps, const char *uid);
void kei_pod_info(const struct kei_pod *p, struct ke_pod_info *ret);
void kei_notes_write(struct kei_pods *ps); /* those of the dirty pods, in one transaction */

#endif
