/* SPDX-License-Identifier: Apache-2.0 */
/* The Node object and its status as JSON. Pure: facts in, bytes out. */
#ifndef KEI_NODE_OBJECT_H
#define KEI_NODE_OBJECT_H

#include <kubeedge/node.h>

#include "base/buf.h"
#include "node/sysinfo.h"

enum { KEI_COND_MEMORY, KEI_COND_DISK, KEI_COND_PID, KEI_COND_READY, KEI_COND_COUNT };

struct kei_condition {
    bool status;
    int64_t changed_ms; /* when status last flipped; 0: never set */
    const char *reason, *message;
};

/* Everything the Node says. Strings are borrowed. */
struct kei_node_facts {
    const struct ke_node_config *config;
    const struct kei_sysinfo *sys;
    const char *address;      /* "" unknown */
    const char *runtime_name; /* containerRuntimeVersion is name://version */
    const char *runtime_version;
    const char *kubelet_version; /* of the dialect */
    const char *kube_proxy_version;
    bool runtime_ready;
    const char *runtime_text; /* why it is not */
    struct kei_condition conditions[KEI_COND_COUNT];
};

/* Sets the conditions from the facts; changed_ms moves when a status flips. now: Unix ms. */
void kei_node_conditions(struct kei_node_facts *f, int64_t now);
/* NodeStatus; heartbeat 0 leaves the heartbeat times out (to compare two of them). */
void kei_node_status_write(struct ke_buf *out, const struct kei_node_facts *f, int64_t heartbeat);
/* The Node for registration, status included. */
void kei_node_object_write(struct ke_buf *out, const struct kei_node_facts *f, int64_t now);
/* {"LABEL":"VALUE",...} of the configuration and the standard ones. */
void kei_node_labels_write(struct ke_buf *out, const struct kei_node_facts *f);

#endif
