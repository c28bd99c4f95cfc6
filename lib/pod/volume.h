/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes as folders under DATA/pods/UID/volumes/PLUGIN/NAME. A plan is made on the loop, pure,
 * from the pod and its objects; applying it is the disk worker's. Files change all at once: they
 * stand in a folder of their own, and the link `..data` that leads there is replaced by a rename.
 * They are not synced: after a power cut they are written again before anything starts.
 */
#ifndef KEI_POD_VOLUME_H
#define KEI_POD_VOLUME_H

#include <kubeedge/runtime.h>
#include <kubeedge/sys/io.h>

#include "pod/objects.h"

#define KEI_VOLUME_FILES_MAX 2048        /* in one volume, and as many folders */
#define KEI_VOLUME_BYTES_MAX (32u << 20) /* of all its files */

struct kei_vfile {
    const char *path; /* inside the volume; checked */
    const char *data;
    size_t n;
    uint32_t mode;
    const char *keep; /* not NULL: there is no content now, for this reason; an older one will do */
    size_t order;     /* in which it was planned */
};

struct kei_vplan {
    const char *name;
    enum kei_volume_kind kind;
    const char *path; /* the folder; of a hostPath volume what it names, resolved by applying */
    struct kei_vfile *files; /* sorted by path, each path once */
    size_t n_files;
    const char *host_type; /* hostPath: "", "Directory", ... */
    const struct kei_vconfig *conf;
    int64_t token_expires_ms; /* earliest end of a token in it, Unix ms; 0: none */
    struct kei_arena *a;
};

/* Of the engine; must outlive the plans. */
struct kei_vconfig {
    const char *data;
    const char *const *host_path_allow; /* with all below; never data, in it or above it */
    size_t n_host_path_allow;
};

/*
 * Fills *p for volume v. KE_ENOTFOUND with kubelet's words for a missing object or key that is not
 * optional; KE_EINVAL for a path or mode that is not usable; KE_ELIMIT for too much of it; another
 * status of an object.
 */
int kei_volume_plan(struct kei_vplan *p, const struct kei_podspec *s,
                    const struct kei_spec_volume *v, const struct kei_objects *o,
                    const struct kei_field_env *f, const struct kei_vconfig *conf,
                    struct kei_arena *a, struct ke_error *err);
/*
 * Makes it so. stamp names the new folder of files. Disk worker. *ret_changed (may be NULL): files
 * were replaced. KE_ENOSPC, KE_EACCES (a host path not allowed), KE_ENOTFOUND, ...; what was there
 * before is then still complete.
 */
int kei_volume_apply(const struct ke_io *io, struct kei_vplan *p, int64_t stamp, bool *ret_changed,
                     struct ke_error *err);

/*
 * How many bytes of the path of file i are folders that the file before it is in too, with their
 * slashes. Files are sorted, so what comes after them is met here for the first time.
 */
size_t kei_vfile_known(const struct kei_vplan *p, size_t i);

/* "DATA/pods/UID" */
bool kei_pod_folder(char *out, size_t n, const char *data, const char *uid);

/*
 * The mounts of container c: *ret in the arena, pointing into plans and spec. KE_EINVAL for a mount
 * of no volume or a path that is none.
 */
int kei_volume_mounts(struct ke_mount **ret, uint32_t *ret_n, const struct kei_spec_container *c,
                      const struct kei_vplan *plans, size_t n_plans, struct kei_arena *a,
                      struct ke_error *err);

#endif
