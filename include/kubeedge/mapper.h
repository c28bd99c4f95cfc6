/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mapper: drivers of device.h in a process of their own, attached to an EdgeCore, upstream's
 * (from KubeEdge 1.15 on) or ours, by DMI: gRPC over unix sockets. It registers for one protocol,
 * gets the devices of that protocol and their models, and reports values and states.
 *
 *     ke_mapper_new(&m, ctx, &config);
 *     ke_device_driver_register(ke_mapper_devices(m), "my-protocol", &ops, me);
 *     ke_mapper_start(m);
 *
 * It registers anew after the EdgeCore was away. Devices that the EdgeCore does not name then are
 * closed; the others go on meanwhile, and what they could not report is reported afterwards.
 * All calls: loop.
 */
#ifndef KUBEEDGE_MAPPER_H
#define KUBEEDGE_MAPPER_H

#include <kubeedge/device.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ke_mapper;

/* Zero or NULL in a member means the default. Strings are copied. */
struct ke_mapper_config {
    size_t size;
    const char *protocol;    /* required: protocolName of its devices */
    const char *socket;      /* required: where it listens, e.g. "/etc/kubeedge/modbus.sock"; its
                                folder must exist, a stale file is replaced */
    const char *name;        /* default: PROTOCOL-mapper */
    const char *version;     /* default: the library's */
    const char *edge_socket; /* default "/etc/kubeedge/dmi.sock" */
    uint32_t flags;          /* KE_DEVICES_REPORT_ALWAYS: advisable with upstream's EdgeCore, which
                                confirms before it has stored anything; its cloud of 1.23 loses the
                                first report of a property */
    uint32_t cycle_unit;     /* KE_DEVICES_CYCLE_* of device.h */
    uint32_t call_ms;        /* what a call to the EdgeCore may take; default 10,000 */
    uint32_t retry_min_ms;   /* between registrations; default 500 */
    uint32_t retry_max_ms;   /* default 30,000 */
    uint32_t max_devices;    /* default 10,000 */
    uint32_t collect_ms;     /* for properties without collectCycle; default 1,000 */
    uint32_t report_ms;      /* the same for reportCycle; default 1,000 */
    const char *api_version; /* of the driver, as it registers; default "v1.0.0" */
    /* ADDRESS:PORT of the HTTP API of upstream's framework: /api/v1/ping, device, meta/model,
     * devicemethod. Default: none. Whoever reaches it can call the methods of devices: it has no
     * users, so loopback is the place for it. If it cannot be had that is logged, and no error. */
    const char *http_listen;
    /* How often it registers anew while all is well; 0, the default: never. Advisable with
     * upstream's EdgeCore, which does not push what changed while it had no link to the cloud: 1.15
     * answers with it, 1.23 from its next start on. Devices that have not changed go on undisturbed.
     */
    uint32_t refresh_ms;
    uint32_t reserved;
};

#define KE_MAPPER_STOPPED 0u
#define KE_MAPPER_REGISTERING 1u
#define KE_MAPPER_REGISTERED 2u
#define KE_MAPPER_WAITING 3u /* for the next attempt; error_text says why */

struct ke_mapper_status {
    size_t size;
    uint32_t state;         /* KE_MAPPER_* */
    int32_t last_error;     /* KE_E* of the last failure, 0: none */
    uint64_t registrations; /* that went well */
    uint64_t pushes;        /* calls of the EdgeCore that were taken */
    uint64_t refused;       /* and that were not */
    uint64_t reports;       /* of values and states that were taken by the EdgeCore */
    uint64_t report_failures;
    uint32_t devices, models;
    char error_text[KE_ERROR_TEXT_MAX];
};

/* Fills c with zeros and its size. Any thread. */
KE_API void ke_mapper_config_init(struct ke_mapper_config *c, size_t size);
/* A configuration read from a file, and the memory it points into. */
struct ke_mapper_settings;
/*
 * Reads the config.yaml of upstream's mapper framework as it is: grpc_server.socket_path;
 * common.name, version, api_version, protocol, edgecore_sock; common.address and http_port become
 * http_listen, which is 127.0.0.1:7777 when the file has neither, and none with port 0. An unknown
 * key is not fatal: it is reported by unknown (may be NULL) with its dotted name and line.
 * KE_ENOTFOUND, KE_EPARSE with the line, KE_EINVAL for a value of the wrong type, KE_ENOTSUP
 * without YAML or DMI. Loop.
 */
KE_API KE_NODISCARD int ke_mapper_settings_read(struct ke_mapper_settings **ret, struct ke_ctx *ctx,
                                                const char *path,
                                                void (*unknown)(void *user, const char *key,
                                                                uint32_t line),
                                                void *user);
/* To look at, or to change before ke_mapper_new; its pointers live as long as s. */
KE_API struct ke_mapper_config *ke_mapper_settings_config(struct ke_mapper_settings *s);
KE_API void ke_mapper_settings_free(struct ke_mapper_settings *s); /* NULL is fine */
/* KE_EINVAL (a required member is missing, or wrong), KE_EABI, KE_ENOMEM, KE_ENOTSUP (built without
 * DMI or without devices). */
KE_API KE_NODISCARD int ke_mapper_new(struct ke_mapper **ret, struct ke_ctx *ctx,
                                      const struct ke_mapper_config *c);
/* The harness in it, for drivers to be registered and devices to be looked at. Borrowed. */
KE_API struct ke_devices *ke_mapper_devices(struct ke_mapper *m);
/* Listens and registers; that the EdgeCore is not there is no error: it is tried again. KE_ESTATE
 * (started already), KE_EADDRINUSE, KE_EACCES, KE_EINVAL, ... of the socket. */
KE_API KE_NODISCARD int ke_mapper_start(struct ke_mapper *m);
/* Closes the devices without waiting, then frees. NULL is fine. Not from a driver's callback. */
KE_API void ke_mapper_free(struct ke_mapper *m);
KE_API KE_NODISCARD int ke_mapper_status(struct ke_mapper *m, struct ke_mapper_status *ret,
                                         size_t size);

#ifdef __cplusplus
}
#endif
#endif
