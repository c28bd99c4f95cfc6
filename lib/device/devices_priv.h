/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the harness. A device (struct dev) lives as long as its object is known; what its
 * object says is an image, made whole and replaced whole. All of it is the loop's, but for the
 * slots and the queue of what other threads hand in, which mu guards.
 */
#ifndef KEI_DEVICE_DEVICES_PRIV_H
#define KEI_DEVICE_DEVICES_PRIV_H

#include <pthread.h>
#include <stdbool.h>

#include <kubeedge/device.h>

#include "base/arena.h"
#include "base/backoff.h"
#include "base/error.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "device/foreign.h"
#include "device/process.h"
#include "device/push.h"
#include "device/value.h"
#include "message/devmodel.h"

#define DV_MODULE "devicemanager"
#define DV_REPORTS_OPEN 256u /* of all devices, at once */
#define DV_CALLS_MAX 16u     /* of one device */
#define DV_REPORT_TIMEOUT_MS 30000
#define DV_PUSHES_OPEN 256u    /* of all devices, at once */
#define DV_PUSHES_AT_TARGET 4u /* of those, to one server */
#define DV_SAVE_MS 1000 /* of windows and results, after the first change */
#define DV_BUCKET "device" /* the harness's own: desired/, process/, results/ and NS/NAME */

/* ---- what objects say ---- */

struct model {
    uint32_t refs; /* images, and the map while it is the newest */
    const struct ke_alloc *alloc;
    struct kei_arena arena;
    struct kei_device_model m;
};

struct driver {
    struct kei_link link;
    struct ke_devices *d;
    char *protocol; /* lower case */
    struct ke_device_ops ops;
    void *user;
    bool yields; /* to somebody else who serves the protocol */
};

#define PROP_READ 1u           /* may be read */
#define PROP_WRITE 2u          /* may be written */
#define PROP_REPORT 4u         /* its value goes to the twin */
#define PROP_BAD 8u            /* not in the model: neither */
#define PROP_DATA 16u          /* in the data section */
#define PROP_IN_OP 32u         /* part of the operation under way */
#define PROP_WRITE_DUE 64u     /* desired is not yet in the device */
#define PROP_READ_DUE 128u     /* asked for, outside of its cycle */
#define PROP_DIRTY 256u        /* the twin does not have it */
#define PROP_IN_REPORT 512u    /* under way to the twin */
#define PROP_LOCAL 1024u       /* desired was set here, not by the cloud */
#define PROP_FRESH 2048u       /* no cycle since the device was opened */
#define PROP_WRITE_ERROR 8192u /* error is of a write: reading does not clear it */
#define PROP_TWIN_ERROR 16384u /* error is the twin's */
#define PROP_WROTE 4096u       /* the next value read is the one that follows a write */

#define PROP_TOUCHED 32768u /* read, and not yet published (data section) */

struct prop {
    const struct kei_model_prop *def; /* NULL: none */
    const struct kei_tune *tune;      /* NULL: plain */
    char *desired;                    /* NULL: none */
    char *error;                      /* of the last read or write, NULL: none */
    struct kei_val cur, sent;         /* read last; told the twin last */
    int64_t due;                      /* of its next cycle, monotonic */
    int64_t report_at;                /* not before */
    int64_t write_at;                 /* a write that failed: not before */
    int64_t reported_ms, desired_ms;  /* Unix time */
    uint32_t collect_ms, report_ms;
    uint32_t reads, failures;
    uint32_t cloud; /* hash of what the cloud desires, 0: nothing */
    uint16_t flags; /* PROP_* */
    uint8_t type;   /* enum kei_prop_type */
};

struct method {
    const char *name;
    const char **props;
    uint32_t n_props;
};

/* A server that values are pushed to. Each goes there once it is its turn, as it is then. */
struct push_target {
    struct ke_devices *d;
    struct kei_link ready; /* in d->push_ready: one may begin */
    struct kei_link wait;  /* struct push, in order */
    struct kei_timer timer;
    struct kei_backoff backoff;
    uint32_t refs, open;
    char key[];
};

/* A way a property's values take besides the twin. */
struct push {
    struct kei_push_conf c;
    struct dev *dev;            /* NULL until its first value */
    struct push_target *target; /* the same */
    struct kei_link link;       /* in target->wait */
    struct kei_http_call *call;
    uint64_t request;
    int64_t due;
    uint32_t prop;
    uint32_t reads, gone; /* counts of the property's reads: of the value under way, and taken */
    bool busy;
};

/* Properties as a driver sees them: the same for all devices whose objects say the same of them. */
struct shape {
    struct ke_devices *d;
    uint64_t hash;
    const struct ke_device_property *pub; /* n of them */
    const struct kei_tune **tunes;        /* the same; NULL: plain */
    uint32_t refs, n;
    bool known; /* in d->shapes */
};

/* One block of memory, but for the texts that change (desired, error, values). */
struct image {
    const struct ke_alloc *alloc;
    struct model *model; /* NULL: not known yet */
    const char *model_name;
    uint64_t hash; /* of all that makes it necessary to open the device again */
    struct ke_device_config conf;
    struct shape *shape;
    const struct ke_device_property *pub; /* the shape's, n of them */
    struct prop *props;
    struct method *methods;
    struct push *pushes;
    const char *data_topic; /* NULL: no data section */
    const char *process;    /* configuration of data processing, "" if none */
    uint32_t n, n_methods, n_pushes;
    uint32_t state_ms; /* repeat the state that often; 0: do not */
    uint32_t phase;    /* of its cycles */
    bool alpha;        /* v1alpha2: desired comes by the twin */
};

enum source { SOURCE_STORE, SOURCE_HOST, SOURCE_PROFILE };

/* What the twin is told. */
enum twin_state { STATE_NONE, STATE_ONLINE, STATE_OFFLINE };

enum op { OP_NONE, OP_OPEN, OP_CLOSE, OP_READ, OP_WRITE, OP_CALL, OP_SUBSCRIBE, OP_HEALTH };

/* A call or a set that somebody waits for. */
struct call {
    struct kei_link link;
    ke_device_done_fn fn;
    void *user;
    char *method; /* NULL: a set */
    char *args;
    size_t args_len;
    uint32_t prop; /* of a set */
    bool started;
    int status;
    char *reply, *text;
};

struct dev {
    struct ke_devices *d;
    struct image *img;
    struct image *next;    /* takes img's place once the device is closed */
    struct driver *driver; /* while opened */
    void *handle;
    struct kei_timer timer;
    struct kei_link ready;     /* in d->ready */
    struct kei_link reporting; /* in d->report_wait */
    struct kei_link calls;
    struct kei_link results; /* of data processing, not taken yet */
    char *key;   /* NS/NAME */
    char *raw;   /* the object, while it may be needed again */
    char *error; /* the last */
    char *end_text;
    char *process_own; /* set by ke_devices_process */
    struct process *process;
    struct kei_backoff backoff;
    uint64_t token;   /* of the operation under way */
    uint64_t request; /* report under way by the router */
    uint64_t result_request;
    int64_t results_at; /* not before */
    int64_t version;  /* of the object */
    int64_t error_ms, online_ms;
    int64_t deadline, retry_at, health_at, report_retry_at, state_at, state_retry_at;
    uint64_t reads, writes, failures, reconnects, cycles, late, missed;
    uint64_t pushes, push_failures;
    uint32_t late_max, slot, report_retries, n_results;
    int32_t end_status;
    uint8_t state;  /* KE_DEVICE_* */
    uint8_t op;     /* enum op */
    uint8_t source; /* enum source */
    bool ended;     /* op has ended and was not looked at yet */
    bool opened;    /* the driver has a handle to close */
    bool lost;      /* close and open again */
    bool removed;
    bool reborn; /* next is of another life: nothing of this one goes over */
    bool subscribed, subscribe_due;
    bool was_online;
    bool in_report; /* a report is under way */
    bool report_is_state;
    uint8_t state_want, state_sent; /* enum twin_state: is, and what the twin knows */
    uint8_t state_told;             /* of the report under way */
    bool raw_asked;                 /* read from the store again */
    bool results_dirty;             /* they, or windows, are not as they are stored */
    bool results_stored;            /* there are some in the store */
    bool reported_one;              /* the last report was refused: one property at a time */
};

/* ---- what other threads hand in ---- */

struct slot {
    struct dev *dev;
    uint32_t op, device, report; /* generations */
    bool open;                   /* an operation that may be completed */
    bool pending;                /* its completion is in the queue */
    bool attached;               /* the device may report */
    bool report_open;            /* a report of the sink that may be completed */
    struct rec *told;            /* values that wait in the queue */
};

enum rec_kind { REC_COMPLETE, REC_TOLD, REC_LOST, REC_REPORTED };

/* Values lie behind each other in buf, their bytes behind them, as offsets until they are taken. */
struct rec {
    struct rec *next;
    uint64_t token;
    enum rec_kind kind;
    int32_t status;
    uint32_t n_values;
    size_t text_at, reply_at, reply_len; /* SIZE_MAX: none */
    struct ke_buf buf;
};

struct ke_devices {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_devices_config c;
    char *node_name;
    struct ke_devices_sink sink;
    kei_foreign_fn foreign; /* NULL: nobody else serves devices */
    void *foreign_user;
    struct ke_module *module;
    struct kei_map devs;   /* NS/NAME: struct dev */
    struct kei_map models; /* NS/NAME: struct model */
    struct kei_map saved;  /* NS/NAME: JSON text, desired values of v1alpha2; also address/NS/NAME */
    struct kei_map shapes; /* their hash: struct shape */
    struct kei_link drivers;
    struct kei_link ready, report_wait, dones;
    struct kei_defer defer;
    struct kei_wake wake;
    struct kei_timer go_on;   /* there was more to look at than one turn may take */
    struct kei_timer save;    /* windows of data processing */
    struct kei_timer profile; /* ask for the profile */
    uint64_t profile_request;
    int64_t profile_asked_ms;       /* since when there is no answer; 0: there is */
    uint32_t profile_tries;         /* that found none, since something spoke for one */
    struct ke_buf buf, buf2, raw;   /* scratch of the loop */
    uint32_t *scratch;              /* indexes, as many as the largest device has properties */
    struct ke_device_value *values; /* the same */
    struct kei_val *vals;           /* the same */
    uint32_t n_values;
    uint32_t reports_open, pushes_open;
    struct kei_map targets; /* URL: struct push_target */
    struct kei_link push_ready;
    uint32_t loading; /* lists of the store under way */
    bool draining, closing;
    struct ke_devices_stats stats;
    pthread_mutex_t mu;
    /* guarded by mu */
    struct slot *slots;
    uint32_t n_slots;
    struct rec *queue, **queue_tail, *spare;
    uint32_t n_spare, n_told;
    uint64_t late_completions;
};

/* image.c */
int kei_dv_image_new(struct image **ret, struct ke_devices *d, const struct kei_device *kd,
                     struct model *model, struct ke_error *err);
void kei_dv_image_free(struct image *img);
/* Values and counts of the properties that both have. */
void kei_dv_image_carry(struct image *to, struct image *from);
/* What the cloud desires now, of an image with the same hash. */
void kei_dv_image_desire(struct dev *dev, struct image *from);
void kei_dv_model_unref(struct model *m);
struct prop *kei_dv_prop(struct image *img, const char *name, uint32_t *ret_index);

/* objects.c */
int kei_dv_load(struct ke_devices *d);    /* from the store */
void kei_dv_loaded(struct ke_devices *d); /* one read of it has ended; may free d */
int kei_dv_put(struct ke_devices *d, struct ke_str object, enum source source);
int kei_dv_remove(struct ke_devices *d, bool model, const char *ns, const char *name);
void kei_dv_message(void *user, struct ke_msg *m);
void kei_dv_ask_profile(struct ke_devices *d, int64_t in_ms);
/* Something speaks for a profile, or a new one: now. */
void kei_dv_profile_due(struct ke_devices *d);
void kei_dv_save_desired(struct dev *dev);
struct dev *kei_dv_find(struct ke_devices *d, const char *ns, const char *name);
struct driver *kei_dv_driver(struct ke_devices *d, const char *protocol);

/* foreign.c */
int kei_dv_foreign(const struct dev *dev, struct kei_foreign *ret);

/* ops.c */
int kei_dv_slot_take(struct dev *dev);
void kei_dv_slot_give(struct dev *dev);
uint64_t kei_dv_op_begin(struct dev *dev, enum op op);
bool kei_dv_op_end(struct dev *dev); /* by its deadline; false: its completion is in the queue */
uint64_t kei_dv_device_begin(struct dev *dev);
void kei_dv_device_end(struct dev *dev);
uint64_t kei_dv_report_begin(struct dev *dev);
void kei_dv_report_over(struct dev *dev);
void kei_dv_queue_free(struct ke_devices *d);
void kei_dv_on_wake(struct kei_wake *w);

/* run.c */
void kei_dv_kick(struct dev *dev); /* look at it soon */
void kei_dv_ended(struct dev *dev, int status, const char *text,
                  const struct ke_device_value *values, uint32_t n, const char *reply,
                  size_t reply_len);
void kei_dv_told(struct dev *dev, const struct ke_device_value *v, uint32_t n);
void kei_dv_lost(struct dev *dev, int status, const char *text);
void kei_dv_on_timer(struct kei_timer *t);
void kei_dv_drain(struct kei_defer *f);
void kei_dv_go_on(struct kei_timer *t);
/* Closes what is open without waiting and frees it. */
void kei_dv_drop(struct dev *dev);
void kei_dv_error(struct dev *dev, const char *fmt, ...) KE_PRINTF(2, 3);
void kei_dv_desired_check(struct ke_devices *d, struct prop *p);
void kei_dv_prop_error(struct ke_devices *d, struct prop *p, const char *fmt, ...) KE_PRINTF(3, 4);

/* calls.c */
void kei_dv_call_done(struct dev *dev, struct call *c, int status, const char *text);
void kei_dv_calls_cancel(struct dev *dev);
void kei_dv_sets_done(struct dev *dev, uint32_t prop, int status, const char *text);
void kei_dv_dones_run(struct ke_devices *d);

/* report.c */
void kei_dv_report(struct dev *dev, int64_t now);
int64_t kei_dv_report_due(const struct dev *dev); /* INT64_MAX: nothing */
void kei_dv_reported(struct dev *dev, int status, const char *text);
void kei_dv_report_cancel(struct dev *dev);
/* payload as a JSON string, to one module */
int kei_dv_send(struct ke_devices *d, const char *module, const char *group, const char *operation,
                const char *resource, struct ke_str payload);
/* The same to the twin, which answers when it is durable. */
int kei_dv_ask_twin(struct ke_devices *d, const char *resource, struct ke_str payload,
                    ke_reply_fn fn, void *user, uint64_t *ret_request);
void kei_dv_reply_text(struct ke_msg *reply, char *out, size_t cap); /* of an error */
const char *kei_dv_id(struct dev *dev, struct ke_buf *out);          /* as in topics */

/* push.c: pushMethod */
void kei_dv_push_configure(struct dev *dev); /* says what of it is not executed */
void kei_dv_push(struct dev *dev, int64_t now);
int64_t kei_dv_push_due(const struct dev *dev); /* INT64_MAX: nothing */
void kei_dv_push_pump(struct ke_devices *d);
void kei_dv_push_free(struct image *img); /* ends what is under way */

/* data.c: data processing and the data section */
void kei_dv_data_batch(struct dev *dev, int64_t now_real); /* a read or a report has ended */
void kei_dv_data_value(struct dev *dev, uint32_t prop);
void kei_dv_data_configure(struct dev *dev);
void kei_dv_data_free(struct dev *dev);
int64_t kei_dv_data_due(const struct dev *dev); /* monotonic; INT64_MAX: nothing */
void kei_dv_data_tick(struct dev *dev, int64_t now);
void kei_dv_data_save(struct ke_devices *d, bool last);
void kei_dv_data_saved(struct ke_devices *d, const char *key, struct ke_str json);

/* results.c: what data processing found, until somebody has it */
void kei_dv_result_add(struct dev *dev, enum process_to to, const char *name, const char *topic,
                       struct ke_str text);
void kei_dv_results_dirty(struct dev *dev); /* they, or windows, are to be stored */
void kei_dv_results_run(struct dev *dev, int64_t now);
int64_t kei_dv_results_due(const struct dev *dev); /* INT64_MAX: nothing */
void kei_dv_results_free(struct dev *dev);
void kei_dv_results_save(struct dev *dev, struct ke_buf *out);
void kei_dv_results_restore(struct dev *dev, struct ke_str json);

#endif
