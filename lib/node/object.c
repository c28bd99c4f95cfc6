/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes what the cloud learns of this node. Field order and words as upstream's edge: clouds and
 * dashboards match on the reasons. Pure; appends to the caller's buffer.
 */
#include "node/object.h"

#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "base/json.h"

/* Below these the node says it is under pressure; the defaults of Kubernetes' hard eviction. */
#define MEMORY_LOW_KIB (100u * 1024u)
#define DISK_LOW_PERCENT 10u
#define PIDS_LOW_PERCENT 10u
#define KUBELET_PORT 10350

struct words {
    const char *type;
    const char *bad_reason, *bad_message; /* status True (False for Ready) */
    const char *good_reason, *good_message;
};
static const struct words words[KEI_COND_COUNT] = {
    {"MemoryPressure", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
     "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
    {"DiskPressure", "KubeletHasDiskPressure", "kubelet has disk pressure",
     "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
    {"PIDPressure", "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
     "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
    {"Ready", "KubeletNotReady", "container runtime is not ready", "EdgeReady",
     "edge is posting ready status"},
};

static void set_condition(struct kei_condition *c, const struct words *w, bool good, bool status,
                          int64_t now)
{
    if (c->changed_ms == 0 || c->status != status)
        c->changed_ms = now;
    c->status = status;
    c->reason = good ? w->good_reason : w->bad_reason;
    c->message = good ? w->good_message : w->bad_message;
}

void kei_node_conditions(struct kei_node_facts *f, int64_t now)
{
    const struct kei_sysinfo *s = f->sys;
    bool low[KEI_COND_COUNT] = {
        s->memory_kib > 0 && s->memory_available_kib<MEMORY_LOW_KIB, s->disk_bytes> 0 &&
            s->disk_available_bytes<s->disk_bytes / 100 * DISK_LOW_PERCENT, s->pids_max> 0 &&
            s->pids_used > s->pids_max / 100 * (100 - PIDS_LOW_PERCENT),
        !f->runtime_ready,
    };
    for (int i = 0; i < KEI_COND_COUNT; i++)
        set_condition(&f->conditions[i], &words[i], !low[i], i == KEI_COND_READY ? !low[i] : low[i],
                      now);
    if (!f->runtime_ready && f->runtime_text && f->runtime_text[0])
        f->conditions[KEI_COND_READY].message = f->runtime_text;
}

static void write_resources(struct kei_jw *w, const struct kei_node_facts *f, bool allocatable)
{
    const struct kei_sysinfo *s = f->sys;
    char text[48];
    kei_jw_obj(w);
    snprintf(text, sizeof text, "%u", (unsigned)s->cpus);
    kei_jw_kstr(w, "cpu", text);
    if (s->disk_bytes > 0) {
        uint64_t kept = allocatable ? s->disk_bytes / 100 * DISK_LOW_PERCENT : 0;
        snprintf(text, sizeof text, "%lluKi", (unsigned long long)((s->disk_bytes - kept) / 1024));
        kei_jw_kstr(w, "ephemeral-storage", text);
    }
    uint64_t memory = s->memory_kib;
    if (allocatable)
        memory = memory > MEMORY_LOW_KIB ? memory - MEMORY_LOW_KIB : 0;
    snprintf(text, sizeof text, "%lluKi", (unsigned long long)memory);
    kei_jw_kstr(w, "memory", text);
    snprintf(text, sizeof text, "%u", (unsigned)f->config->max_pods);
    kei_jw_kstr(w, "pods", text);
    for (uint32_t i = 0; i < f->config->n_resources; i++)
        kei_jw_kstr(w, f->config->resources[i].name, f->config->resources[i].value);
    kei_jw_obj_end(w);
}

static void write_conditions(struct kei_jw *w, const struct kei_node_facts *f, int64_t heartbeat)
{
    char at[KEI_TIME_MAX];
    kei_jw_arr(w);
    for (int i = 0; i < KEI_COND_COUNT; i++) {
        const struct kei_condition *c = &f->conditions[i];
        kei_jw_obj(w);
        kei_jw_kstr(w, "type", words[i].type);
        kei_jw_kstr(w, "status", c->status ? "True" : "False");
        if (heartbeat > 0) {
            kei_time_rfc3339(at, heartbeat);
            kei_jw_kstr(w, "lastHeartbeatTime", at);
        }
        kei_time_rfc3339(at, c->changed_ms);
        kei_jw_kstr(w, "lastTransitionTime", at);
        kei_jw_kstr(w, "reason", c->reason);
        kei_jw_kstr(w, "message", c->message);
        kei_jw_obj_end(w);
    }
    kei_jw_arr_end(w);
}

static void write_address(struct kei_jw *w, const char *type, const char *address)
{
    kei_jw_obj(w);
    kei_jw_kstr(w, "type", type);
    kei_jw_kstr(w, "address", address);
    kei_jw_obj_end(w);
}

static void write_info(struct kei_jw *w, const struct kei_node_facts *f)
{
    const struct kei_sysinfo *s = f->sys;
    char runtime[160];
    snprintf(runtime, sizeof runtime, "%s://%s", f->runtime_name, f->runtime_version);
    kei_jw_obj(w);
    kei_jw_kstr(w, "machineID", s->machine_id);
    kei_jw_kstr(w, "systemUUID", s->system_uuid);
    kei_jw_kstr(w, "bootID", s->boot_id);
    kei_jw_kstr(w, "kernelVersion", s->kernel);
    kei_jw_kstr(w, "osImage", s->os_image);
    kei_jw_kstr(w, "containerRuntimeVersion", runtime);
    kei_jw_kstr(w, "kubeletVersion", f->kubelet_version);
    kei_jw_kstr(w, "kubeProxyVersion", f->kube_proxy_version);
    kei_jw_kstr(w, "operatingSystem", "linux");
    kei_jw_kstr(w, "architecture", s->arch);
    kei_jw_obj_end(w);
}

static void write_status(struct kei_jw *w, const struct kei_node_facts *f, int64_t heartbeat)
{
    kei_jw_obj(w);
    kei_jw_key(w, "capacity");
    write_resources(w, f, false);
    kei_jw_key(w, "allocatable");
    write_resources(w, f, true);
    kei_jw_key(w, "conditions");
    write_conditions(w, f, heartbeat);
    kei_jw_key(w, "addresses");
    kei_jw_arr(w);
    if (f->address[0])
        write_address(w, "InternalIP", f->address);
    write_address(w, "Hostname", f->config->name);
    kei_jw_arr_end(w);
    kei_jw_key(w, "daemonEndpoints");
    kei_jw_obj(w);
    kei_jw_key(w, "kubeletEndpoint");
    kei_jw_obj(w);
    kei_jw_ki64(w, "Port", KUBELET_PORT);
    kei_jw_obj_end(w);
    kei_jw_obj_end(w);
    kei_jw_key(w, "nodeInfo");
    write_info(w, f);
    kei_jw_obj_end(w);
}

void kei_node_status_write(struct ke_buf *out, const struct kei_node_facts *f, int64_t heartbeat)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    write_status(&w, f, heartbeat);
}

static bool configured(const struct ke_node_config *c, const char *label)
{
    for (uint32_t i = 0; i < c->n_labels; i++)
        if (strcmp(c->labels[i].name, label) == 0)
            return true;
    return false;
}

static void write_labels(struct kei_jw *w, const struct kei_node_facts *f)
{
    const struct {
        const char *name, *value;
    } standard[] = {
        {"beta.kubernetes.io/arch", f->sys->arch},
        {"beta.kubernetes.io/os", "linux"},
        {"kubernetes.io/arch", f->sys->arch},
        {"kubernetes.io/hostname", f->config->name},
        {"kubernetes.io/os", "linux"},
        {"node-role.kubernetes.io/agent", ""},
        {"node-role.kubernetes.io/edge", ""},
    };
    kei_jw_obj(w);
    for (size_t i = 0; i < sizeof standard / sizeof standard[0]; i++)
        if (!configured(f->config, standard[i].name))
            kei_jw_kstr(w, standard[i].name, standard[i].value);
    for (uint32_t i = 0; i < f->config->n_labels; i++)
        kei_jw_kstr(w, f->config->labels[i].name, f->config->labels[i].value);
    kei_jw_obj_end(w);
}

void kei_node_labels_write(struct ke_buf *out, const struct kei_node_facts *f)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    write_labels(&w, f);
}

static void write_spec(struct kei_jw *w, const struct ke_node_config *c)
{
    kei_jw_obj(w);
    if (c->n_taints > 0) {
        kei_jw_key(w, "taints");
        kei_jw_arr(w);
        for (uint32_t i = 0; i < c->n_taints; i++) {
            kei_jw_obj(w);
            kei_jw_kstr(w, "key", c->taints[i].key);
            if (c->taints[i].value && c->taints[i].value[0])
                kei_jw_kstr(w, "value", c->taints[i].value);
            kei_jw_kstr(w, "effect", c->taints[i].effect);
            kei_jw_obj_end(w);
        }
        kei_jw_arr_end(w);
    }
    kei_jw_obj_end(w);
}

void kei_node_object_write(struct ke_buf *out, const struct kei_node_facts *f, int64_t now)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", f->config->name);
    kei_jw_key(&w, "creationTimestamp");
    kei_jw_null(&w);
    kei_jw_key(&w, "labels");
    write_labels(&w, f);
    kei_jw_obj_end(&w);
    kei_jw_key(&w, "spec");
    write_spec(&w, f->config);
    kei_jw_key(&w, "status");
    write_status(&w, f, now);
    kei_jw_obj_end(&w);
}
