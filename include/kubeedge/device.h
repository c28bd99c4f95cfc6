/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices: the table of functions behind which device IO lies (stable ABI), and the harness that
 * drives it. The table is the same for a vendor's own firmware, for the drivers that come with the
 * library and for drivers in a process of their own.
 *
 * A driver is only protocol: it opens a device, reads and writes some of its properties, and says
 * how that ended. The harness owns everything else: when to read and to report, joining reads into
 * batches, deadlines, connecting again, scale, limits, dead band, the write of desired values and
 * the read that follows it, online and offline, and the way to the device twin.
 *
 * Operations. Each call of the table with an `op` starts an operation and returns at once: 0, then
 * it is completed exactly once with ke_device_complete, from any thread, also from within the call;
 * or negative, then it is over and must not be completed. One that is not completed within its
 * deadline fails with KE_ETIMEDOUT; its late or second completion is refused (KE_ENOTFOUND) and
 * harmless. At most one operation of a device is under way at any time; operations of different
 * devices overlap, so a driver of a shared bus keeps a queue. When an operation has timed out the
 * device is closed, whatever it still does, and opened anew after a pause; other devices do not
 * notice. Calls come on the loop's thread and must not block. Pointers given to a call are borrowed
 * during the call, pointers given to ke_device_complete during that.
 *
 * pushMethod of a property (v1beta1): http and mqtt are executed each reportCycle with the newest
 * value, in the form of KubeEdge's mappers, times in UTC; a server that fails or hangs is asked
 * again after 1 to 60 s and holds up nobody else. http:// only; mqtt by the node's event bus: its
 * own server, or another at tcp://HOST:PORT without user name; not in a mapper. otel, dbMethod and
 * anomalyDetection are not executed. What is not, and what fails, is in the device's error.
 *
 * Threads: calls are for the loop's thread ("loop") unless marked "any thread".
 */
#ifndef KUBEEDGE_DEVICE_H
#define KUBEEDGE_DEVICE_H

#include <kubeedge/router.h>
#include <kubeedge/store.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_devices; /* the harness */

/* ---- values ---- */

/* What a property holds (of the device model). */
#define KE_DEVICE_INT 1u
#define KE_DEVICE_FLOAT 2u  /* 32 bits */
#define KE_DEVICE_DOUBLE 3u /* 64 bits */
#define KE_DEVICE_BOOLEAN 4u
#define KE_DEVICE_STRING 5u
#define KE_DEVICE_BYTES 6u
#define KE_DEVICE_STREAM 7u

/* How a value is held: which members of struct ke_device_value count. */
#define KE_DEVICE_KIND_NONE 0u
#define KE_DEVICE_KIND_INT 1u    /* i */
#define KE_DEVICE_KIND_UINT 2u   /* i, to be read as uint64_t */
#define KE_DEVICE_KIND_DOUBLE 3u /* d */
#define KE_DEVICE_KIND_BOOL 4u   /* i: 0 or 1 */
#define KE_DEVICE_KIND_TEXT 5u   /* p, n: UTF-8 */
#define KE_DEVICE_KIND_BYTES 6u  /* p, n */

/*
 * A value of one property, as the device has it: raw, before scale and offset. Any kind may be
 * given for any type: the harness converts, or says why it cannot. In arrays the first one's size
 * is the stride.
 */
struct ke_device_value {
    size_t size;
    uint32_t property; /* index in struct ke_device_config */
    uint32_t kind;     /* KE_DEVICE_KIND_* */
    int64_t i;
    double d;
    const void *p;
    size_t n;
    int64_t when_ms;  /* Unix time it was read at; 0: now */
    const char *text; /* with status: what failed, or NULL */
    int32_t status;   /* 0, or KE_E*: this property alone could not be read or written */
    uint32_t reserved;
};

/* ---- the driver's table ---- */

#define KE_DEVICE_CAN_READ 1u
#define KE_DEVICE_CAN_WRITE 2u
#define KE_DEVICE_NO_SCALE 4u /* bytes, text, boolean: scale and offset do not apply */

/* A property of a device. In arrays the first one's size is the stride. */
struct ke_device_property {
    size_t size;
    const char *name;
    const char *unit;    /* "" if none */
    const char *visitor; /* JSON object: visitors' configData; "{}" if none */
    size_t visitor_len;
    uint32_t index;      /* what values and reads name it by; 0, 1, ... */
    uint32_t type;       /* KE_DEVICE_INT, ... */
    uint32_t flags;      /* KE_DEVICE_CAN_*, KE_DEVICE_NO_SCALE */
    uint32_t collect_ms; /* how often it will be read; 0: only when asked */
};

/* A device to open. Valid until its close has ended. */
struct ke_device_config {
    size_t size;
    uint64_t device; /* names it towards ke_device_report and ke_device_lost */
    const char *ns;
    const char *name;
    const char *model;    /* name of its DeviceModel */
    const char *protocol; /* protocolName in lower case as registered */
    /*
     * JSON object: protocol's configData. For v1alpha2 the same shape is made: the members of the
     * protocol (slaveID, url, ...), of protocol.common and of its tcp (ip, port) or com
     * (serialPort, baudRate, ...), all at the top; customizedValues stays an object.
     */
    const char *config;
    size_t config_len;
    const struct ke_device_property *properties;
    uint32_t n_properties;
    uint32_t timeout_ms; /* what each operation has */
};

/* How an operation ended. Members that a call does not name are zero. */
struct ke_device_result {
    size_t size;
    const char *text;                     /* failures, health: what and why, for people; or NULL */
    const struct ke_device_value *values; /* read: one for each property asked for */
    const char *reply;                    /* call: one JSON value; NULL: null */
    size_t reply_len;
    uint32_t n_values; /* write: one for each that was refused, others count as written */
    uint32_t reserved;
};

struct ke_device_ops {
    size_t size;
    /* Optional. d is what to complete and report to; valid until detach returns. */
    void (*attach)(void *user, struct ke_devices *d);
    void (*detach)(void *user);
    /*
     * Required. Sets *ret_dev before it returns 0 (it is given back in every later call, also when
     * the opening itself fails or times out: close follows in any case), and completes op once the
     * device can be read. c stays valid until close has been completed or timed out. KE_EINVAL and
     * KE_EPARSE mean that c is wrong: it is not tried again before the device's objects change.
     */
    int (*open)(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev);
    /*
     * Required. Ends what is under way for dev (it need not be completed any more) and forgets it;
     * the device is not opened again before op is completed, or its deadline is over. No call for
     * dev follows.
     */
    int (*close)(void *user, void *dev, uint64_t op);
    /*
     * Required. Reads n properties (indexes, ascending), of which a driver may join neighbours. A
     * property that cannot be read has its status in its value; status of the completion is for
     * the device: KE_ECONN, KE_ECLOSED, KE_EIO and KE_ETIMEDOUT there mean it is lost.
     */
    int (*read)(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n);
    /* Optional: without it all properties are read-only. Values are raw, of the kind that fits the
     * property's type; n of them, in the order in which they shall be written. */
    int (*write)(void *user, void *dev, uint64_t op, const struct ke_device_value *v, uint32_t n);
    /* Optional. A method of the device (spec.methods); args is one JSON value. */
    int (*call)(void *user, void *dev, uint64_t op, const char *method, const char *args,
                size_t args_len);
    /*
     * Optional. From now on the device tells these properties by ke_device_report when they
     * change. Completed with KE_ENOTSUP: they are polled as without it. Called once after each
     * opening, with all properties that are not write-only.
     */
    int (*subscribe)(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n);
    /* Optional. Looks whether the device is well: status 0, or why not. Asked when nothing was read
     * for health_ms (of struct ke_devices_config). */
    int (*health)(void *user, void *dev, uint64_t op);
};

/*
 * Ends operation op; status 0 or KE_E*, r may be NULL. KE_ENOTFOUND for an op that is over,
 * KE_EABI, KE_EINVAL, KE_ELIMIT (too many values, texts over 1 MiB; the operation then has failed
 * with it), KE_ENOMEM (it is still open: complete it again, or let it time out). Any thread.
 */
KE_API KE_NODISCARD int ke_device_complete(struct ke_devices *d, uint64_t op, int status,
                                           const struct ke_device_result *r);
/*
 * Values that a device tells by itself. Values that come faster than they are taken replace older
 * ones of the same property. KE_ENOTFOUND when the device is not open. Any thread.
 */
KE_API KE_NODISCARD int ke_device_report(struct ke_devices *d, uint64_t device,
                                         const struct ke_device_value *v, uint32_t n);
/* The device went away: it counts as offline, is closed and opened again after a pause. text may be
 * NULL. Any thread. */
KE_API KE_NODISCARD int ke_device_lost(struct ke_devices *d, uint64_t device, int status,
                                       const char *text);

/* ---- reading the configuration ---- */

/*
 * Members of a JSON object such as visitor and config above, by dotted path; names match without
 * regard to case, as upstream's mappers do. Numbers may come as text ("502") and whole ones as
 * 502.0. KE_ENOTFOUND when absent or null (*ret is untouched), KE_EPARSE when it is something else
 * or out of range. Any thread.
 */
KE_API KE_NODISCARD int ke_device_config_i64(const char *json, size_t n, const char *path,
                                             int64_t *ret);
KE_API KE_NODISCARD int ke_device_config_f64(const char *json, size_t n, const char *path,
                                             double *ret);
/* true, false, or these as text, or 0 and 1 */
KE_API KE_NODISCARD int ke_device_config_bool(const char *json, size_t n, const char *path,
                                              uint32_t *ret);
/* KE_ELIMIT when it does not fit cap with its NUL. Numbers are given as their text, control
 * characters as "?". */
KE_API KE_NODISCARD int ke_device_config_str(const char *json, size_t n, const char *path,
                                             char *out, size_t cap);

/* ---- the harness ---- */

#define KE_DEVICES_REPORT_ALWAYS 1u /* report every cycle, also values that have not changed */
#define KE_DEVICES_PROFILE 2u /* ask for KubeEdge 1.4's ConfigMap device-profile-config-NODE */

/* Unit of collectCycle and reportCycle, which no object names. */
#define KE_DEVICES_CYCLE_AUTO 0u /* v1alpha2: ns; v1beta1: ms below 1,000,000, ns from there on */
#define KE_DEVICES_CYCLE_NS 1u   /* mappers up to KubeEdge 1.16 */
#define KE_DEVICES_CYCLE_MS 2u   /* from 1.17 on */

/* A value on its way to the twin. In arrays the first one's size is the stride. */
struct ke_device_reported {
    size_t size;
    const char *property;
    const char *type;     /* "int", "float", "double", "boolean", "string", "bytes" */
    const char *reported; /* NULL: not known */
    const char *desired;  /* what has been observed as desired; NULL: none */
    int64_t when_ms;      /* Unix time of reported */
};

/*
 * Where values go when there is no router (in a mapper). Called on the loop; each report is
 * completed once with ke_devices_reported, from any thread, and there is at most one under way for
 * a device.
 */
struct ke_devices_sink {
    size_t size;
    int (*report)(void *user, uint64_t report, const char *ns, const char *name,
                  const struct ke_device_reported *v, uint32_t n);
    int (*state)(void *user, uint64_t report, const char *ns, const char *name, const char *state);
};

struct ke_devices_config {
    size_t size;
    struct ke_router *router; /* NULL: sink is used. Outlives the harness, as does store */
    struct ke_store *store;   /* NULL: devices come by ke_devices_put only, windows are forgotten */
    const char *node_name;    /* required with a router */
    const struct ke_devices_sink *sink;
    void *sink_user;
    uint32_t flags;             /* KE_DEVICES_* */
    uint32_t cycle_unit;        /* KE_DEVICES_CYCLE_* */
    uint32_t id_with_namespace; /* 1: topics have NAMESPACE/NAME (from KubeEdge 1.16 on) */
    uint32_t collect_ms;        /* for properties without collectCycle; default 1,000 */
    uint32_t report_ms;         /* the same for reportCycle; default 1,000 */
    uint32_t timeout_ms;        /* of an operation; default 5,000 */
    uint32_t retry_min_ms;      /* between openings; default 1,000 */
    uint32_t retry_max_ms;      /* default 60,000 */
    uint32_t health_ms;         /* default 30,000 */
    uint32_t max_devices;       /* default 10,000 */
    uint32_t max_properties;    /* of one device; default 1,024 */
    uint32_t max_rules;         /* of data processing, of one device; default 64 */
    /* Optional: the dialect of the cloud, KE_DIALECT_*, asked whenever it matters. id_with_namespace
     * and KE_DEVICES_PROFILE follow it then. */
    uint32_t (*dialect_now)(void *user);
    void *user;
};

KE_API void ke_devices_config_init(struct ke_devices_config *c, size_t size);
/*
 * Makes it; devices are read from the store and served once their drivers are registered. Adds the
 * module `devicemanager` of group `device` to the router. KE_EINVAL, KE_EABI, KE_ENOMEM, KE_EEXIST
 * (the router has such a module). Loop.
 */
KE_API KE_NODISCARD int ke_devices_new(struct ke_devices **ret, struct ke_ctx *ctx,
                                       const struct ke_devices_config *c);
/* Closes all devices without waiting, detaches the drivers, then frees. NULL is fine. Not from a
 * callback of it. Loop. */
KE_API void ke_devices_free(struct ke_devices *d);

/*
 * Registers a driver for the devices whose protocolName is protocol (case ignored). ops is copied.
 * KE_EEXIST, KE_EINVAL (a required member is missing), KE_EABI, KE_ENOMEM. Loop.
 */
KE_API KE_NODISCARD int ke_device_driver_register(struct ke_devices *d, const char *protocol,
                                                  const struct ke_device_ops *ops, void *user);
/* Closes its devices without waiting and detaches it. KE_ENOTFOUND. Not from a callback. Loop. */
KE_API KE_NODISCARD int ke_device_driver_unregister(struct ke_devices *d, const char *protocol);

/* Registers the simulated driver, protocol "simulated": visitor {"function": "constant"|"sine"|
 * "ramp"|"counter", "value", "amplitude", "period" (ms), "minimum", "maximum", "step"}. */
KE_API KE_NODISCARD int ke_device_sim_register(struct ke_devices *d);

/*
 * Device and DeviceModel objects (JSON, either API version) of the host's own, besides those that
 * come from the cloud. The objects may come in any order; put replaces. KE_EPARSE names the field.
 * Loop.
 */
KE_API KE_NODISCARD int ke_devices_put(struct ke_devices *d, const char *json, size_t n);
/* kind is "Device" or "DeviceModel". KE_ENOTFOUND. */
KE_API KE_NODISCARD int ke_devices_remove(struct ke_devices *d, const char *kind, const char *ns,
                                          const char *name);
/*
 * Sets data processing of a device, until the harness is freed; NULL removes it. It comes before
 * the annotation libkubeedge.io/process, which has the same form: a list of rules, each an object
 * with "name" of the result; "property", or "expr" (numbers, + - * /, comparisons, min max abs,
 * names of properties and of rules before it, 'quoted' when they are no plain words); optional
 * "filter" {"min", "max", "expr"}; "window" {"ms" or "count", "aggregate": mean, min, max, last,
 * count, rate (per second)}; "change" {"by"}; "threshold" {"above", "below", "hysteresis"}; "to":
 * "topic" (default), "twin", "cloud"; "topic". State of windows, and results that the twin or the
 * cloud's outbox do not have yet, are stored within 1 s, in one transaction for all devices: after a
 * restart a result may be told twice; one whose window lacks values, lost in a crash, has
 * "incomplete":true (on topics and to the cloud). Of results that wait, up to 64 per device are
 * kept. KE_ENOTFOUND, KE_EPARSE, KE_ELIMIT, KE_ENOMEM. Loop.
 */
KE_API KE_NODISCARD int ke_devices_process(struct ke_devices *d, const char *ns, const char *name,
                                           const char *json, size_t n);
/* A report of the sink ended: 0 or KE_E*. KE_ENOTFOUND. Any thread. */
KE_API KE_NODISCARD int ke_devices_reported(struct ke_devices *d, uint64_t report, int status);

/* The end of a call or of a set: status, the reply (JSON, or NULL) or what failed. Exactly once, in
 * a later turn. */
typedef void (*ke_device_done_fn)(void *user, int status, const char *reply, const char *text);
/*
 * Makes value (text) the desired value of a property, as if the cloud had said so, until it does
 * the next time or the harness is freed; done once it is written and read back, or refused. fn may
 * be NULL. KE_ENOTFOUND, KE_EACCES (read-only), KE_EPARSE (no value of its type), KE_ELIMIT (out of
 * its range). Loop.
 */
KE_API KE_NODISCARD int ke_devices_set(struct ke_devices *d, const char *ns, const char *name,
                                       const char *property, const char *value,
                                       ke_device_done_fn fn, void *user);
/*
 * Calls a method. A driver without `call`, and a method that names properties: args is {"PROPERTY":
 * VALUE} and is written. KE_ENOTFOUND, KE_ENOTSUP, KE_ESTATE (not online), KE_EPARSE, KE_EBUSY (16
 * wait already). Loop.
 */
KE_API KE_NODISCARD int ke_devices_call(struct ke_devices *d, const char *ns, const char *name,
                                        const char *method, const char *args, size_t args_len,
                                        ke_device_done_fn fn, void *user);

/* ---- looking ---- */

#define KE_DEVICE_WAITING 0u /* for its model, or a driver; text says which */
#define KE_DEVICE_OPENING 1u
#define KE_DEVICE_ONLINE 2u
#define KE_DEVICE_OFFLINE 3u /* waits to be opened again; text says why */
#define KE_DEVICE_FAILED 4u  /* its configuration is wrong; text says where */
#define KE_DEVICE_CLOSING 5u
#define KE_DEVICE_MAPPED 6u /* a mapper serves it, no driver here: see mapper */

struct ke_device_property_status {
    size_t size;
    const char *name;
    const char *type;
    const char *unit;
    const char *desired;  /* NULL: none */
    const char *reported; /* NULL: never read */
    const char *error;    /* of the last read or write; "" if it went well */
    int64_t reported_ms;  /* Unix time of reported; 0: never */
    int64_t desired_ms;   /* Unix time desired was written at; 0: not yet */
    uint32_t reads, failures;
};

/* A device as it is now. All borrowed during the call. */
struct ke_device_status {
    size_t size;
    const char *ns;
    const char *name;
    const char *model;
    const char *protocol;
    const char *error; /* the last one, also when it is over; "" if there was none */
    const struct ke_device_property_status *properties;
    uint32_t n_properties;
    uint32_t state;         /* KE_DEVICE_* */
    int64_t error_ms;       /* Unix time of error */
    int64_t online_ms;      /* Unix time since when it is online; 0: it is not */
    uint64_t reads, writes; /* operations that ended well */
    uint64_t failures;      /* operations that did not */
    uint64_t reconnects;
    uint64_t cycles;        /* collect cycles that were due */
    uint64_t cycles_late;   /* begun later than a tenth of their length, at least 10 ms */
    uint64_t cycles_missed; /* not made: the device was busy or offline for a whole cycle */
    uint32_t late_max_ms;
    uint32_t reports_waiting; /* properties whose value the twin does not have yet */
    /* KE_DEVICE_MAPPED: who serves it. Its values are not seen here (reported is NULL): they are in
     * the device twin. error is the mapper's, or that of the device's last report. */
    const char *mapper;       /* its name; "" in other states */
    const char *mapper_state; /* of the device, as the mapper told it; "" if it has not */
    int64_t mapper_report_ms; /* Unix time of the last report; 0: none since the start */
    uint64_t mapper_reports;  /* since the start */
    uint32_t mapper_lost;     /* 1: the mapper did not answer the last time */
    uint32_t reserved;
    uint64_t pushes;          /* values that were taken where pushMethod says */
    uint64_t push_failures;   /* and attempts that failed: text says why */
};
typedef void (*ke_devices_list_fn)(void *user, const struct ke_device_status *s);
/* Each device, in order of namespace and name. fn may not call the harness. KE_ENOMEM. Loop. */
KE_API KE_NODISCARD int ke_devices_list(struct ke_devices *d, ke_devices_list_fn fn, void *user);

/* Totals of the harness. */
struct ke_devices_stats {
    size_t size;
    uint64_t cycles, cycles_late, cycles_missed;
    uint64_t reads, writes, failures, timeouts;
    uint64_t late_completions; /* second or late completions that were refused */
    uint64_t reports, report_failures;
    uint64_t refused; /* objects that could not be read */
    uint32_t devices, online;
    uint32_t late_max_ms, reserved;
    uint64_t pushes, push_failures; /* of pushMethod */
};
KE_API KE_NODISCARD int ke_devices_get_stats(struct ke_devices *d, struct ke_devices_stats *ret,
                                             size_t size);

#ifdef __cplusplus
}
#endif
#endif
