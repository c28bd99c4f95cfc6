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

/* A Device or DeviceModel. */
struct kei_dmi_object {
    struct kei_dmi *d;
    struct kei_link todo; /* on its mapper's list */
    char *key;            /* "d/NS/NAME", "m/NS/NAME" */
    char *json;
    size_t n;
    char *protocol; /* lower case; of a model "" when it names none */
    char *model;    /* of a device: its model's key */
    bool is_model;
    bool known;     /* the mapper was told of it since it was last lost */
    uint64_t told;  /* digest of what it was told last, also before a restart; 0: nothing */
    uint32_t tries; /* refusals in a row */
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
    struct kei_grpc_ask *ask;
    struct kei_link models, devices, removals; /* todo, in this order */
    struct kei_timer timer;                    /* go on */
    struct kei_backoff backoff;
    bool reachable;
    char error[300];
    /* the call under way */
    char *job;       /* key of its object */
    uint64_t digest; /* of what it says */
    bool is_update, is_removal;
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
    struct kei_link calls; /* of mappers that wait for the store or the twin */
    struct kei_map told;   /* digests from before a restart, of objects not seen yet */
    struct kei_link held;  /* messages that came while the store was read */
    uint32_t n_held;
    double tokens;
    int64_t tokens_ms;
    uint32_t busy; /* calls of the store that will come back */
    uint32_t lists;
    bool loaded, freed;
};

/* ---- dmi.c ---- */
void kei_dmi_leave(struct kei_dmi *d); /* one less of busy */
struct kei_dmi_object *kei_dmi_find(const struct kei_dmi *d, const char *key);
/* The model of a device, or NULL. */
struct kei_dmi_object *kei_dmi_model_of(const struct kei_dmi *d, const struct kei_dmi_object *o);
/*
 * The message of an object for a mapper, and its digest. KE_ENOTFOUND: a device whose model is not
 * known; KE_EPARSE: it cannot be told.
 */
int kei_dmi_build(void **ret, uint64_t *ret_digest, struct kei_dmi_object *o,
                  enum kei_dmi_form form, struct kei_arena *a, struct ke_error *err);
/* Notes what the mapper of a protocol has; digest 0: nothing any more. tx NULL: by itself. */
void kei_dmi_note_told(struct kei_dmi *d, struct ke_store_tx *tx, const char *key, uint64_t digest,
                       const char *protocol);

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
/* The object changed: its mapper will be told. */
void kei_dmi_changed(struct kei_dmi_object *o);
/* The object goes, or goes to another protocol: its mapper will be told. */
void kei_dmi_removed(struct kei_dmi_object *o);
void kei_dmi_remove_key(struct kei_dmi *d, const char *protocol, const char *key);
/* The mapper has it. */
void kei_dmi_told(struct kei_dmi_object *o, struct ke_store_tx *tx, uint64_t digest);
struct kei_dmi_mapper *kei_dmi_mapper_of(const struct kei_dmi_object *o);

#endif
