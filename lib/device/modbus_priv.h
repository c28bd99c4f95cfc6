/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the Modbus driver share: its configuration and its devices. Loop thread. */
#ifndef KEI_DEVICE_MODBUS_PRIV_H
#define KEI_DEVICE_MODBUS_PRIV_H

#include <kubeedge/drivers.h>

#include "base/arena.h"
#include "base/list.h"
#include "device/modbus.h"
#include "device/modbus_bus.h"
#include "device/modbus_value.h"

#define KEI_MODBUS_HOST_MAX 256
#define KEI_MODBUS_PATH_MAX 256

/* A device's configuration. */
struct kei_modbus_conf {
    struct kei_modbus_bus_config bus; /* its strings are the arrays below */
    char host[KEI_MODBUS_HOST_MAX];
    char path[KEI_MODBUS_PATH_MAX];
    uint32_t timeout_ms; /* of one request */
    uint16_t gap;        /* registers or coils that may be read although nobody wants them */
    uint8_t slave, retries;
};

/* KE_EINVAL, text names the member. d are the driver's defaults. */
int kei_modbus_conf_read(struct kei_modbus_conf *ret, const char *json, size_t n,
                         const struct ke_modbus_config *d, struct ke_error *err);

struct kei_modbus_line { /* a bus and who uses it */
    struct kei_modbus_bus *bus;
    struct kei_link link;
    uint32_t users;
};

struct kei_modbus {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_devices *d;
    struct ke_modbus_config conf;
    struct kei_link lines;
    struct kei_timer reap; /* frees lines without users, which may not be done in a callback */
    struct ke_device_value *values; /* as many as the largest device has */
    uint32_t n_values;
};

/* How a property takes part in reading. */
enum kei_modbus_join {
    KEI_JOIN_FREELY,
    KEI_JOIN_TESTING, /* alone this time, because it was refused together with others */
    KEI_JOIN_NEVER,
};

struct kei_modbus_prop {
    struct kei_modbus_format f;
    uint32_t at;    /* its bytes in raw of the device */
    int16_t status; /* of this read */
    uint8_t exception;
    uint8_t join;
    bool wanted, writable, told; /* told: that it is wrong, with this read */
    char *wrong;                 /* what is wrong with its visitor; NULL: nothing */
};

struct kei_modbus_write;

struct kei_modbus_dev {
    struct kei_modbus *m;
    const struct ke_device_config *c; /* the harness's */
    struct kei_modbus_line *line;     /* NULL: could not be opened */
    struct kei_modbus_call call;      /* one request at a time */
    struct kei_modbus_prop *props;    /* by index */
    uint16_t *order;                  /* indexes by table and address */
    uint8_t *raw;
    uint64_t op;         /* under way; 0: none */
    uint32_t timeout_ms; /* of a request */
    uint16_t gap, n;
    uint16_t first, last, end; /* of this read: places in order that the request is for, and where
                                * the next one starts */
    uint8_t slave, retries, splits;
    bool many_only; /* the slave has no functions 5 and 6 */
    struct kei_modbus_write *write;
};

static inline const struct ke_device_property *kei_modbus_property(const struct ke_device_config *c,
                                                                   uint32_t i)
{
    return (const struct ke_device_property *)((const char *)c->properties +
                                               (size_t)i * c->properties[0].size);
}

/* Completes what is under way; text NULL when all went well. dev may be gone after it. */
void kei_modbus_complete(struct kei_modbus_dev *dev, int status, const char *text,
                         const struct ke_device_value *v, uint32_t n);
/* Ends it because of how a request ended: "slave 3 at BUS: coils 3 to 9: ...". */
void kei_modbus_complete_lost(struct kei_modbus_dev *dev, const struct kei_modbus_end *e);
/* True if the device as a whole is concerned, not what was asked. */
bool kei_modbus_lost(const struct kei_modbus_end *e);
/* Sends dev->call; what is wrong with it is told to its done function. */
int kei_modbus_ask(struct kei_modbus_dev *dev, const struct kei_modbus_ask *ask, bool urgent,
                   kei_modbus_done_fn done);

int kei_modbus_read(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n);
int kei_modbus_write(void *user, void *dev, uint64_t op, const struct ke_device_value *v,
                     uint32_t n);
void kei_modbus_write_free(struct kei_modbus_dev *dev);

#endif
