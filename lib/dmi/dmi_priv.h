/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the node's end of DMI. Loop thread. */
#ifndef KEI_DMI_DMI_PRIV_H
#define KEI_DMI_DMI_PRIV_H

#include "base/backoff.h"
#include "base/loop.h"
#include "base/map.h"
#include "dmi/convert.h"
#include "dmi/dmi.h"
#include "net/grpc.h"

#define KEI_DMI_BUCKET "dmi"
#define KEI_DMI_MAPPER_KEY "mapper/" /* and the protocol */
#define KEI_DMI_TOLD_KEY "told/"     /* and the object's key */

/* What a mapper was told of an object. */
struct kei_dmi_digest {
    uint64_t spec;   /* 0: nothing */
    uint64_t status; /* v1alpha1: of the desired values, which are no part of spec there */
};

/* A Device or DeviceModel. */
struct kei_dmi_object {
    struct kei_dmi *d;
    struct kei_link views;
    char *key; /* "d/NS/NAME", "m/NS/NAME" */
    char *json;
    size_t n;
    char *protocol; /* lower case; of a model "" when it names none */
    char *model;    /* of a device: its model's key */
    bool is_model;
    char *desired; /* of a device: names of properties with a desired value, each after a newline
                      and one at the end */
    /* of a device: what its mapper reported */
    char *state, *error; /* NULL: none */
    int64_t report_ms;   /* Unix time of the last that was taken */
    uint64_t reports;
};

/*
 * An object as the mapper of one protocol has it. A device has one view. A model has one of its own
 * protocol, and one of each protocol of devices that refer to it.
 */
struct kei_dmi_view {
    struct kei_dmi_object *o;
    struct kei_link link;       /* of the object */
    struct kei_link todo;       /* on its mapper's list */
    struct kei_dmi_digest told; /* last, also before a restart */
    uint32_t users;             /* of a model: devices of this protocol that have it */
    uint32_t tries;             /* refusals in a row */
    bool known;                 /* the mapper was told of it since it was last lost */
    char protocol[];
};

/* What a mapper has yet to forget. */
struct kei_dmi_removal {
    struct kei_link link;
    bool is_model;
    char key[]; /* as the object's */
};

struct kei_dmi_mapper {
    struct kei_dmi *d;
    struct kei_link link;
    char *name, *version, *api_version, *protocol, *address, *state;
    enum kei_dmi_form form;
    struct kei_grpc_client *client;
    struct kei_grpc_ask *ask, *probe_ask;
    struct kei_link models, devices, removals; /* todo, in this order */
    struct kei_timer timer;                    /* go on */
    struct kei_timer probe;                    /* look whether it lives */
    struct kei_backoff backoff;
    bool reachable;
    int64_t registered_ms, seen_ms; /* Unix time; 0: not since the start */
    uint64_t reports;
    char error[300];
    /* the call under way */
    char *job;                    /* key of its object */
    struct kei_dmi_digest digest; /* of what it says */
    bool is_update, is_status, is_removal;
};

struct kei_dmi {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct kei_dmi_config c;
    char *socket;
    struct ke_module *module;
    struct kei_grpc_server *server;
    struct kei_map objects;
    struct kei_link mappers;
    uint32_t n_mappers;
    struct kei_link calls;   /* of mappers that wait for the store or the twin */
    struct kei_map told;     /* "KEY@PROTOCOL": digests from before a restart, not claimed yet */
    struct kei_timer listen; /* again */
    struct kei_backoff backoff;
    int listen_error;
    char listen_text[300];
    struct kei_link held; /* messages that came while the store was read */
    uint32_t n_held;
    double tokens;
    int64_t tokens_ms;
    uint32_t busy; /* calls of the store that will come back */
    uint32_t lists;
    bool loaded, freed;
};

/* ---- dmi.c ---- */
void kei_dmi_leave(struct kei_dmi *d); /* one less of busy */

/* ---- dmi_objects.c ---- */
struct kei_dmi_object *kei_dmi_find(const struct kei_dmi *d, const char *key);
/* Whether the device has a desired value for that property; true if it is not known. */
bool kei_dmi_desires(const struct kei_dmi_object *o, const char *property);
/* A device by its name; ns "": in any namespace, the default one first. */
struct kei_dmi_object *kei_dmi_device_of(const struct kei_dmi *d, const char *ns, const char *name);
struct kei_dmi_view *kei_dmi_view_of(const struct kei_dmi_object *o, const char *protocol);
void kei_dmi_put(struct kei_dmi *d, const char *key, struct ke_str json, struct ke_error *err);
void kei_dmi_drop(struct kei_dmi *d, const char *key);
void kei_dmi_objects_free(struct kei_dmi *d);
/*
 * The message of an object for a mapper, and its digest. KE_ENOTFOUND: a device whose model is not
 * known; KE_EPARSE: it cannot be told.
 */
int kei_dmi_build(void **ret, struct kei_dmi_digest *ret_digest, struct kei_dmi_object *o,
                  enum kei_dmi_form form, struct kei_arena *a, struct ke_error *err);
/* Notes what the mapper of a protocol has; digest NULL: nothing any more. tx NULL: by itself. */
void kei_dmi_note_told(struct kei_dmi *d, struct ke_store_tx *tx, const char *key,
                       const char *protocol, const struct kei_dmi_digest *digest);
/* What was noted before a restart; and those that no object claimed: their mappers are told. */
void kei_dmi_told_load(struct kei_dmi *d, const struct ke_store_item *item);
void kei_dmi_told_lost(struct kei_dmi *d);
void kei_dmi_told_free(struct kei_dmi *d);

/* ---- dmi_serve.c ---- */
int kei_dmi_serve(struct kei_dmi *d);
void kei_dmi_calls_free(struct kei_dmi *d);

/* ---- dmi_push.c ---- */
struct kei_dmi_mapper *kei_dmi_mapper_find(const struct kei_dmi *d, const char *protocol);
/* From a registration, in place of an older one of that protocol. Strings are copied. */
struct kei_dmi_registration {
    const char *name, *version, *api_version, *protocol, *address, *state;
    enum kei_dmi_form form;
};
int kei_dmi_mapper_set(struct kei_dmi_mapper **ret, struct kei_dmi *d,
                       const struct kei_dmi_registration *r);
void kei_dmi_mapper_free(struct kei_dmi_mapper *m);
/* Everything is to be told again. */
void kei_dmi_mapper_forget(struct kei_dmi_mapper *m);
/* It gave a sign of life. */
void kei_dmi_mapper_seen(struct kei_dmi_mapper *m);
/* The object changed: its mapper will be told. */
void kei_dmi_changed(struct kei_dmi_view *v);
/* What the mapper of a protocol had is gone: it will be told. */
void kei_dmi_removed(struct kei_dmi *d, const char *protocol, const char *key);
/* The mapper has it. */
void kei_dmi_told(struct kei_dmi_view *v, struct ke_store_tx *tx, struct kei_dmi_digest digest);

#endif
