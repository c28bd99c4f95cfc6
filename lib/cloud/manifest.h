/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One manifest: checked and made whole (manifest_check.c, defaults.c). One look at a folder of them
 * (manifest_look.c). Pure but for the file table; any thread.
 */
#ifndef KEI_CLOUD_MANIFEST_H
#define KEI_CLOUD_MANIFEST_H

#include <kubeedge/sys/io.h>

#include "base/json.h"

struct kei_field {
    char path[400]; /* dotted, e.g. "spec.containers[0].image" */
    const char *at; /* in the text that was checked; NULL unknown */
};

/*
 * Checks a Pod, ConfigMap, Secret, Device or DeviceModel and appends it to out with the defaults of
 * an API server. *ret_type is the type token. KE_EINVAL: f and the text name the field.
 */
int kei_manifest_whole(struct ke_buf *out, const char **ret_type, struct ke_str object,
                       struct kei_field *f, struct ke_error *err);

/* ---- parts of it ---- */
/* Device and DeviceModel (manifest_device.c): checked, and their members written to w. */
int kei_manifest_device(struct kei_jw *w, struct ke_str o, struct kei_field *f, struct ke_buf *tmp,
                        struct ke_error *err);
int kei_manifest_devicemodel(struct kei_jw *w, struct ke_str o, struct kei_field *f,
                             struct ke_buf *tmp, struct ke_error *err);
int kei_check_metadata(struct kei_field *f, struct ke_str object, struct ke_error *err);
int kei_check_pod(struct kei_field *f, struct ke_str pod, struct ke_error *err);
int kei_check_configmap(struct kei_field *f, struct ke_str o, struct ke_buf *tmp,
                        struct ke_error *err);
int kei_check_secret(struct kei_field *f, struct ke_str o, struct ke_buf *tmp,
                     struct ke_error *err);
/* env, envFrom, ports, resources and imagePullPolicy of a container (manifest_parts.c) */
int kei_check_container_parts(struct kei_field *f, struct ke_str c, const char *path,
                              struct ke_error *err);
/* It has one source, one Kubernetes knows. */
int kei_check_volume(struct kei_field *f, struct ke_str volume, const char *path,
                     struct ke_error *err);
/* ---- what they are made of ---- */
#define KEI_WHERE_MAX 300
struct kei_typed {
    const char *key;
    char type; /* as kei_json_type tells, 't' for true and false */
};
/* member that is there and not null, which counts as absent */
bool kei_member(struct ke_str object, const char *key, struct ke_str *ret);
/* the plain text of a string span; not decoded, which names never need; empty for no string */
struct ke_str kei_inner(struct ke_str v);
/* object is a map and has these names only; NULL-terminated */
int kei_check_names(struct kei_field *f, struct ke_str object, const char *path,
                    const char *const *names, struct ke_error *err);
int kei_check_types(struct kei_field *f, struct ke_str object, const char *path,
                    const struct kei_typed *types, size_t n, struct ke_error *err);
/* The member, if there, is a list of maps, not too long. */
int kei_check_maps(struct kei_field *f, struct ke_str object, const char *path, const char *key,
                   struct ke_error *err);
/* Fills f and the text "PATH: WHAT"; KE_EINVAL */
int kei_field_bad(struct kei_field *f, struct ke_error *err, struct ke_str at, const char *path,
                  const char *what);

/* ---- a look at a folder ---- */

#define KEI_DIGEST 32

/* One object of one file. */
struct kei_manifest_doc {
    struct kei_manifest_doc *next; /* in the order of the file */
    const char *type;              /* static */
    const char *ns, *name;         /* in the look's arena */
    uint32_t line;
    uint8_t digest[KEI_DIGEST]; /* of what the file says, without defaults */
    struct ke_buf json;         /* whole */
    void *claim;                /* the reader's of the look */
};

enum kei_look_state {
    KEI_LOOK_SAME,     /* as applied */
    KEI_LOOK_CHANGING, /* other bytes than in the look before: perhaps being written */
    KEI_LOOK_READ,     /* docs and errors are what it says now */
    KEI_LOOK_FAILED,   /* errors says why; docs is empty */
};

struct kei_look_file {
    const char *name;
    /* in: what the looks before found */
    bool seen_before, applied_before, stale, lost_before;
    bool held; /* objects of it are there */
    uint8_t seen[KEI_DIGEST], applied[KEI_DIGEST];
    /* out */
    enum kei_look_state state;
    uint8_t digest[KEI_DIGEST];
    struct kei_manifest_doc *docs;
    bool bad;             /* a document of it is wrong, or all of it is */
    bool lost;            /* it was listed and could not be found */
    struct ke_buf errors; /* "PATH:LINE: ...", one per line */
};

struct kei_look {
    const struct ke_io *io;
    const char *folder;
    struct kei_arena arena;
    struct kei_look_file *files; /* sorted by name */
    size_t n_files, cap_files;
    size_t next;      /* file to be read */
    uint32_t objects; /* found so far */
    int status;       /* the folder could not be read, or memory ran out */
    struct ke_error err;
};

void kei_look_init(struct kei_look *l, const struct ke_alloc *a, const struct ke_io *io,
                   const char *folder);
void kei_look_fini(struct kei_look *l);
void kei_look_list(struct kei_look *l); /* the names */
/* Reads on, some files at a time; true when all are read. */
bool kei_look_read(struct kei_look *l);
void kei_look_drop_docs(struct kei_look_file *f);

/* One more error of a file. */
void kei_look_report(const struct kei_look *l, struct kei_look_file *f, uint32_t line,
                     const char *text);

#endif
