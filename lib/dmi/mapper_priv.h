/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a mapper. Loop thread. */
#ifndef KEI_DMI_MAPPER_PRIV_H
#define KEI_DMI_MAPPER_PRIV_H

#include <kubeedge/mapper.h>

#include "base/backoff.h"
#include "base/loop.h"
#include "base/map.h"
#include "dmi/convert.h"
#include "net/grpc.h"

/* What the EdgeCore gave: a Device or a DeviceModel. */
struct kei_mapper_object {
    char *json;
    size_t n;
    uint64_t mark; /* of the registration, or before the next one, that named it */
};

struct ke_mapper {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct kei_arena arena; /* texts of c */
    struct ke_mapper_config c;
    struct ke_devices *devices;
    struct kei_grpc_server *server;
    struct kei_grpc_client *client;
    struct kei_grpc_ask *ask; /* a registration */
    struct kei_timer timer;   /* the next one */
    struct kei_backoff backoff;
    struct kei_map objects; /* "d/NS/NAME", "m/NS/NAME" */
    uint64_t mark;
    struct kei_link reports;      /* under way */
    struct kei_mapper_http *http; /* NULL: none */
    bool no_states;               /* the EdgeCore takes none: before 1.18 */
    struct ke_mapper_status st;
};

/* ---- mapper.c ---- */
void kei_mapper_failed(struct ke_mapper *m, int status, const char *text);
/* message is a Kei__B1__Device or Kei__B1__DeviceModel. Errors: KE_EINVAL, those of
 * ke_devices_put. */
int kei_mapper_put(struct ke_mapper *m, const void *message, struct ke_error *err);
int kei_mapper_remove(struct ke_mapper *m, bool is_model, const char *ns, const char *name,
                      struct ke_error *err);

/* ---- mapper_serve.c ---- */
int kei_mapper_serve(struct ke_mapper *m);

/* ---- mapper_http.c ---- */
/* The API at c.http_listen. KE_EINVAL, KE_EADDRINUSE, KE_EACCES, KE_ENOMEM */
int kei_mapper_http_new(struct ke_mapper *m);
void kei_mapper_http_free(struct ke_mapper *m);
uint16_t kei_mapper_http_port(const struct ke_mapper *m); /* 0: there is none */

/* ---- mapper_report.c ---- */
extern const struct ke_devices_sink kei_mapper_sink;
void kei_mapper_reports_free(struct ke_mapper *m);

#endif
