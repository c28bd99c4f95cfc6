/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of the folder of manifests between two looks. Loop thread. */
#ifndef KEI_CLOUD_MANIFESTS_H
#define KEI_CLOUD_MANIFESTS_H

#include "cloud/cloud_priv.h"
#include "cloud/manifest.h"

/* A file of the folder, or one that objects in the store came from. */
struct kei_mfile {
    const char *name; /* behind the struct */
    bool seen_before, applied_before, lost;
    bool stale; /* apply it again, whatever its bytes */
    bool bad;   /* something in it is wrong: its objects stay */
    uint8_t seen[KEI_DIGEST], applied[KEI_DIGEST];
    uint32_t missed;             /* looks that did not find it */
    struct ke_buf told;          /* errors of its last reading */
    struct kei_link claims;      /* struct kei_claim */
    struct kei_look_file *found; /* in the present look */
};

/* An object that a file makes. */
struct kei_claim {
    struct kei_link link; /* in its file's claims */
    struct kei_mfile *file;
    uint64_t look; /* the last one in which its file had it */
    uint32_t line;
    bool asked;      /* we delete the pod, to make it anew or for good */
    int64_t made_ms; /* monotonic; 0: not since the start */
    char key[];      /* "type/ns/name" */
};

struct kei_manifests {
    struct ke_cloud *cloud;
    struct kei_timer timer;
    struct kei_fd watch;
    int inotify, wd;
    struct kei_map files;  /* name -> struct kei_mfile */
    struct kei_map claims; /* key -> struct kei_claim */
    struct kei_link gone;  /* claims whose file does not have them any more */
    uint64_t look_n;
    struct look_work *look; /* under way */
    bool again;             /* something changed meanwhile */
    bool closing;
    int64_t soon_ms;    /* the next look is due no later than that; 0: no hurry */
    struct ke_buf told; /* error of the folder */
};

struct kei_mfile *kei_mfile_get(struct kei_manifests *m, const char *name, bool make);
void kei_mfile_free(struct kei_manifests *m, struct kei_mfile *f);
/* Claims the object for f. *ret_other: who has it already. KE_EEXIST, KE_ENOMEM */
int kei_claim(struct kei_manifests *m, struct kei_mfile *f, const struct kei_manifest_doc *d,
              struct kei_claim **ret, struct kei_claim **ret_other);
void kei_claim_free(struct kei_manifests *m, struct kei_claim *c);

/* ---- manifest_apply.c ---- */
/* What objects in the store came from files claims them. KE_ENOMEM */
int kei_apply_known(struct kei_manifests *m);
/* Everything about files and claims, at once. */
void kei_apply_claims(struct kei_manifests *m, struct kei_look *l);
/* Objects, some at a time; *it starts at 0 and counts over all of them. True when done. */
bool kei_apply_objects(struct kei_manifests *m, struct kei_look *l, size_t *it);
/* Removes the objects that no file claims any more. */
void kei_apply_gone(struct kei_manifests *m);

#endif
