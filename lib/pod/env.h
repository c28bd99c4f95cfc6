/* SPDX-License-Identifier: Apache-2.0 */
/* Environment, command and arguments of a container, as Kubernetes makes them. Pure. */
#ifndef KEI_POD_ENV_H
#define KEI_POD_ENV_H

#include <kubeedge/runtime.h>

#include "pod/objects.h"

#define KEI_ENV_MAX 4096             /* variables of one container */
#define KEI_ENV_BYTES_MAX (1u << 20) /* of names and values together */

struct kei_env {
    struct ke_env *v; /* each name once, in order of first appearance */
    size_t n, cap, bytes;
    struct kei_arena *a; /* owner of all of it */
};

/* Sets or replaces; copies. KE_ELIMIT, KE_ENOMEM, KE_EINVAL (NUL in value). */
int kei_env_set(struct kei_env *e, const char *name, struct ke_str value, struct ke_error *err);
const char *kei_env_get(const struct kei_env *e, struct ke_str name); /* NULL if absent */

/*
 * $(NAME) becomes the variable's value, or stays if there is none; $$ becomes $. Appended to out.
 */
void kei_env_expand(struct ke_buf *out, struct ke_str s, const struct kei_env *e);

/*
 * envFrom, then env, of container c. Objects must have been asked for. KE_ENOTFOUND with kubelet's
 * words for a missing object or key that is not optional; another status of an object is passed on.
 */
int kei_env_build(struct kei_env *e, const struct kei_podspec *s,
                  const struct kei_spec_container *c, const struct kei_objects *o,
                  const struct kei_field_env *f, struct ke_error *err);
/* The list under key ("command", "args") with variables expanded; *ret in e's arena. */
int kei_env_words(const char *const **ret, uint32_t *ret_n, struct ke_str container,
                  const char *key, const struct kei_env *e, struct ke_error *err);

#endif
