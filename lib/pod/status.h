/* SPDX-License-Identifier: Apache-2.0 */
/* PodStatus as Kubernetes wants it, from the state machine. Pure. */
#ifndef KEI_POD_STATUS_H
#define KEI_POD_STATUS_H

#include "pod/state.h"

enum kei_cond {
    KEI_COND_SANDBOX, /* PodReadyToStartContainers; only told to clouds of 1.23 */
    KEI_COND_INITIALIZED,
    KEI_COND_READY,
    KEI_COND_CONTAINERS_READY,
    KEI_COND_SCHEDULED,
    KEI_CONDS,
};

/* When each condition last flipped; zero at first. */
struct kei_conds {
    int8_t value[KEI_CONDS];     /* 0: not told yet, 1: True, -1: False */
    int64_t since_ms[KEI_CONDS]; /* Unix */
};

struct kei_status_env {
    uint32_t dialect;    /* KE_DIALECT_* */
    const char *runtime; /* before "://" of container ids */
    const char *host_ip; /* "" if unknown */
    const char *pod_ip;  /* "" if it has none yet */
    int64_t start_ms;    /* Unix: when the node first saw the pod */
    int64_t mono, real;  /* now */
    bool sandbox_ready;
};

/* Appends the PodStatus object; updates *conds. The buffer tells if memory ran out. */
void kei_status_write(struct ke_buf *out, const struct kei_podspec *s,
                      const struct kei_pod_state *st, struct kei_conds *conds,
                      const struct kei_status_env *e);
/* The content of the report: {"UID","Name","Status"}. */
void kei_status_report(struct ke_buf *out, const struct kei_podspec *s, struct ke_str status);

/* ---- a report read back after a restart ---- */
/* Takes times of conditions and startTime out of a PodStatus. *ret_start_ms: 0 if absent. */
void kei_status_read(struct ke_str status, struct kei_conds *conds, int64_t *ret_start_ms);
/* The phase of a PodStatus, PENDING if absent. */
enum kei_phase kei_status_phase(struct ke_str status);
/*
 * How container name was: attempt, last and, if it was over, end. A running one is told by
 * *ret_running. False if the status does not have it or it never began.
 */
bool kei_status_container(struct ke_str status, const char *name, struct kei_ct *c,
                          bool *ret_running);

/* Ready containers, restarts of all. */
void kei_status_sums(const struct kei_pod_state *st, uint32_t *ret_ready, uint32_t *ret_restarts);

#endif
