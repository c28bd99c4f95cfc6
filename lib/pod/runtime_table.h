/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's end of the vendor's table: each operation has a token that is used once, a deadline,
 * and exactly one end, told on the loop in a later turn than its begin. Completions come from any
 * thread; all calls here: loop.
 */
#ifndef KEI_POD_RUNTIME_TABLE_H
#define KEI_POD_RUNTIME_TABLE_H

#include <stdbool.h>

#include <kubeedge/runtime.h>

/* No string of r is NULL but ip; borrowed during the call. status 0 or KE_E*, with r->text. */
typedef void (*kei_runtime_fn)(void *user, int status, const struct ke_runtime_result *r);
typedef void (*kei_runtime_event_fn)(void *user, const struct ke_container_info *c);

/* ops is copied. KE_EINVAL without the required members, KE_EABI, KE_ENOMEM. */
int kei_runtime_new(struct ke_runtime **ret, struct ke_ctx *ctx, const struct ke_runtime_ops *ops,
                    void *ops_user, kei_runtime_event_fn event, void *user);
/* Detaches; what is under way ends with KE_ECANCELED within this call. Also from within a fn. */
void kei_runtime_close(struct ke_runtime *rt);
const struct ke_runtime_ops *kei_runtime_ops(const struct ke_runtime *rt);

/*
 * Each begins an operation; fn is called once with its end, KE_ETIMEDOUT after timeout_ms. Negative
 * (KE_ENOMEM, KE_ENOTSUP): not begun, fn is not called.
 */
int kei_runtime_info(struct ke_runtime *rt, int64_t timeout_ms, kei_runtime_fn fn, void *user);
int kei_runtime_list(struct ke_runtime *rt, int64_t timeout_ms, kei_runtime_fn fn, void *user);
int kei_runtime_create(struct ke_runtime *rt, const struct ke_container_config *c,
                       int64_t timeout_ms, kei_runtime_fn fn, void *user);
int kei_runtime_start(struct ke_runtime *rt, const char *id, int64_t timeout_ms, kei_runtime_fn fn,
                      void *user);
/* timeout_ms is on top of the grace */
int kei_runtime_stop(struct ke_runtime *rt, const char *id, int64_t grace_ms, int64_t timeout_ms,
                     kei_runtime_fn fn, void *user);
int kei_runtime_remove(struct ke_runtime *rt, const char *id, int64_t timeout_ms, kei_runtime_fn fn,
                       void *user);
int kei_runtime_sandbox_run(struct ke_runtime *rt, const struct ke_sandbox_config *c,
                            int64_t timeout_ms, kei_runtime_fn fn, void *user);
int kei_runtime_sandbox_stop(struct ke_runtime *rt, const char *id, int64_t timeout_ms,
                             kei_runtime_fn fn, void *user);
int kei_runtime_sandbox_remove(struct ke_runtime *rt, const char *id, int64_t timeout_ms,
                               kei_runtime_fn fn, void *user);
int kei_runtime_pull(struct ke_runtime *rt, const char *image, const char *policy,
                     const char *pod_json, size_t pod_json_len, int64_t timeout_ms,
                     kei_runtime_fn fn, void *user);

#endif
