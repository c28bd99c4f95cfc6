/* SPDX-License-Identifier: Apache-2.0 */
/* See config.h. Label and taint rules are those of Kubernetes. */
#include "node/config.h"

#include <string.h>

#include "message/k8s.h"
#include "net/addr.h"
#include "net/proxy.h"
#include "node/devices.h"

#define LIST_MAX 1000
#define DEFAULT_MAX_PODS 110
#define DEFAULT_STATUS_MS 10000

void ke_node_config_init(struct ke_node_config *c, size_t size)
{
    kei_abi_init(c, size);
}

/* [prefix/]name: prefix a DNS subdomain, name up to 63 of letters, digits, '-', '_', '.' */
static bool qualified_name(struct ke_str s)
{
    struct ke_str name;
    struct ke_str prefix = kei_str_cut(s, '/', &name);
    if (!name.p)
        name = prefix;
    else if (!kei_dns_subdomain(prefix))
        return false;
    if (name.n == 0 || name.n > 63)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool edge = i == 0 || i == name.n - 1;
        if (!word && (edge || (c != '-' && c != '_' && c != '.')))
            return false;
    }
    return true;
}

static bool label_value(const char *s)
{
    return !s || !s[0] || (!strchr(s, '/') && qualified_name(kei_str(s)));
}

static int check_paths(const char *const *list, uint32_t n, const char *member,
                       struct ke_error *err)
{
    for (uint32_t i = 0; i < n; i++)
        if (!list[i] || list[i][0] != '/')
            return kei_error(err, KE_EINVAL, "ke_node_config.%s: \"%s\" is not an absolute path",
                             member, list[i] ? list[i] : "");
    return 0;
}

static int check_lists(const struct ke_node_config *c, struct ke_error *err)
{
    static const char *const effects[] = {"NoSchedule", "PreferNoSchedule", "NoExecute"};
    if (c->n_labels > LIST_MAX || c->n_taints > LIST_MAX || c->n_resources > LIST_MAX ||
        c->n_process_allow > LIST_MAX || c->n_host_path_allow > LIST_MAX)
        return kei_error(err, KE_ELIMIT, "ke_node_config: a list has more than %d items", LIST_MAX);
    for (uint32_t i = 0; i < c->n_labels; i++)
        if (!c->labels[i].name || !qualified_name(kei_str(c->labels[i].name)) ||
            !label_value(c->labels[i].value))
            return kei_error(err, KE_EINVAL, "ke_node_config.labels: \"%s=%s\" is no label",
                             c->labels[i].name ? c->labels[i].name : "",
                             c->labels[i].value ? c->labels[i].value : "");
    for (uint32_t i = 0; i < c->n_taints; i++) {
        const struct ke_taint *t = &c->taints[i];
        bool effect = false;
        for (size_t k = 0; t->effect && k < 3; k++)
            effect |= strcmp(t->effect, effects[k]) == 0;
        if (!t->key || !qualified_name(kei_str(t->key)) || !label_value(t->value) || !effect)
            return kei_error(
                err, KE_EINVAL,
                "ke_node_config.taints: \"%s=%s:%s\" is no taint (effects: NoSchedule, "
                "PreferNoSchedule, NoExecute)",
                t->key ? t->key : "", t->value ? t->value : "", t->effect ? t->effect : "");
    }
    for (uint32_t i = 0; i < c->n_resources; i++)
        if (!c->resources[i].name || !strchr(c->resources[i].name, '/') ||
            !qualified_name(kei_str(c->resources[i].name)) || !c->resources[i].value)
            return kei_error(
                err, KE_EINVAL,
                "ke_node_config.resources: \"%s\" is no extended resource: it needs the "
                "form domain/name",
                c->resources[i].name ? c->resources[i].name : "");
    for (uint32_t i = 0; i < c->n_resources; i++) {
        int64_t n;
        if (!kei_quantity_value(kei_str(c->resources[i].value), &n) || n < 0)
            return kei_error(err, KE_EINVAL,
                             "ke_node_config.resources: %s: \"%s\" is no number of 0 or more",
                             c->resources[i].name, c->resources[i].value);
    }
    int r = check_paths(c->process_allow, c->n_process_allow, "process_allow", err);
    return r < 0 ? r
                 : check_paths(c->host_path_allow, c->n_host_path_allow, "host_path_allow", err);
}

bool kei_node_mqtt_address(const char *text, char *ret_host, size_t n, uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;
    struct kei_addr a;
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (len == 0 || len >= n || !kei_str_u64(kei_str(colon + 1), &port) || port == 0 ||
        port > 65535)
        return false;
    memcpy(ret_host, text, len);
    ret_host[len] = '\0';
    *ret_port = (uint16_t)port;
    return kei_addr_literal(&a, ret_host, *ret_port);
}

static int check(const struct ke_node_config *c, struct ke_error *err)
{
    if (!c->name || !c->name[0])
        return kei_error(err, KE_EINVAL, "ke_node_config.name is missing");
    if (!kei_dns_subdomain(kei_str(c->name)))
        return kei_error(err, KE_EINVAL,
                         "ke_node_config.name \"%s\" is no node name: a-z, 0-9, '-' and '.'",
                         c->name);
    if (!c->data || !c->data[0])
        return kei_error(err, KE_EINVAL, "ke_node_config.data is missing");
    if (c->runtime && strcmp(c->runtime, "none") != 0 && strcmp(c->runtime, "process") != 0)
        return kei_error(err, KE_EINVAL,
                         "ke_node_config.runtime \"%s\" is not known: none, process", c->runtime);
    if (c->tunnel_port > 65535 || c->cert_port > 65535)
        return kei_error(err, KE_EINVAL, "ke_node_config: a port is above 65535");
    if (c->mqtt > KE_NODE_MQTT_BOTH || c->mqtt_qos > 2)
        return kei_error(err, KE_EINVAL, "ke_node_config.mqtt or mqtt_qos is out of range");
    char host[64];
    uint16_t port;
    if (c->mqtt_listen && !kei_node_mqtt_address(c->mqtt_listen, host, sizeof host, &port))
        return kei_error(
            err, KE_EINVAL,
            "ke_node_config.mqtt_listen \"%s\" is not ADDRESS:PORT, e.g. 127.0.0.1:1884",
            c->mqtt_listen);
    int r = kei_node_drivers_check(c->drivers, err);
    if (r < 0)
        return r;
    struct kei_addr ip;
    if (c->cloud_host && c->cloud_host[0] && !kei_addr_literal(&ip, c->cloud_host, 0) &&
        !kei_addr_name_ok(c->cloud_host))
        return kei_error(err, KE_EINVAL,
                         "ke_node_config.cloud_host \"%s\" is no address and no host name; give "
                         "ports apart (tunnel_port, cert_port)",
                         c->cloud_host);
    struct kei_proxy proxy;
    struct ke_error why = KE_ERROR_INIT;
    if (c->proxy_url && c->proxy_url[0] && kei_proxy_parse(&proxy, c->proxy_url, &why) < 0)
        return kei_error(err, KE_EINVAL, "ke_node_config.proxy_url: %s", why.text);
    if (c->node_ip && !kei_addr_literal(&ip, c->node_ip, 0))
        return kei_error(err, KE_EINVAL, "ke_node_config.node_ip \"%s\" is no IP address",
                         c->node_ip);
    return check_lists(c, err);
}

static bool copy_string(struct kei_arena *a, const char **s)
{
    if (*s)
        *s = kei_arena_strdup(a, kei_str(*s));
    return true;
}

static int copy_env(struct kei_arena *a, const struct ke_env **list, uint32_t n)
{
    struct ke_env *copy = kei_arena_array(a, (size_t)n + 1, sizeof *copy);
    if (!copy)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        copy[i].name = kei_arena_strdup(a, kei_str((*list)[i].name));
        copy[i].value = kei_arena_strdup(a, kei_str((*list)[i].value ? (*list)[i].value : ""));
        if (!copy[i].name || !copy[i].value)
            return KE_ENOMEM;
    }
    *list = copy;
    return 0;
}

static int copy_paths(struct kei_arena *a, const char *const **list, uint32_t n)
{
    const char **copy = kei_arena_array(a, (size_t)n + 1, sizeof *copy);
    if (!copy)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        if (!(copy[i] = kei_arena_strdup(a, kei_str((*list)[i]))))
            return KE_ENOMEM;
    *list = copy;
    return 0;
}

static int copy_lists(struct ke_node_config *to, struct kei_arena *a)
{
    struct ke_taint *taints = kei_arena_array(a, (size_t)to->n_taints + 1, sizeof *taints);
    if (!taints || copy_env(a, &to->labels, to->n_labels) < 0 ||
        copy_env(a, &to->resources, to->n_resources) < 0 ||
        copy_paths(a, &to->process_allow, to->n_process_allow) < 0 ||
        copy_paths(a, &to->host_path_allow, to->n_host_path_allow) < 0)
        return KE_ENOMEM;
    for (uint32_t i = 0; i < to->n_taints; i++) {
        const struct ke_taint *t = &to->taints[i];
        taints[i].key = kei_arena_strdup(a, kei_str(t->key));
        taints[i].value = kei_arena_strdup(a, kei_str(t->value ? t->value : ""));
        taints[i].effect = kei_arena_strdup(a, kei_str(t->effect));
        if (!taints[i].key || !taints[i].value || !taints[i].effect)
            return KE_ENOMEM;
    }
    to->taints = taints;
    return 0;
}

int kei_node_config_copy(struct ke_node_config *to, struct kei_arena *a,
                         const struct ke_node_config *from, struct ke_error *err)
{
    const char **strings[] = {
        &to->name,           &to->data,          &to->cloud_host,    &to->token,
        &to->project_id,     &to->proxy_url,     &to->ca_file,       &to->cert_file,
        &to->key_file,       &to->node_ip,       &to->runtime,       &to->process_user,
        &to->shim,           &to->log_folder,    &to->mqtt_listen,   &to->mqtt_url,
        &to->mqtt_client_id, &to->mqtt_user,     &to->mqtt_password, &to->mqtt_ca_file,
        &to->mqtt_cert_file, &to->mqtt_key_file, &to->mqtt_module,   &to->drivers,
        &to->dmi_socket};
    int r = kei_abi_in(to, sizeof *to, from, offsetof(struct ke_node_config, cloud_host),
                       "ke_node_config", err);
    if (r == 0)
        r = check(to, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        bool given = *strings[i] != NULL;
        (void)copy_string(a, strings[i]);
        if (given && !*strings[i])
            r = KE_ENOMEM;
    }
    if (r < 0 || copy_lists(to, a) < 0)
        return kei_error(err, KE_ENOMEM, "out of memory for the node's configuration");
    if (to->max_pods == 0)
        to->max_pods = DEFAULT_MAX_PODS;
    if (to->status_ms == 0)
        to->status_ms = DEFAULT_STATUS_MS;
    if (!to->runtime)
        to->runtime = "none";
    return 0;
}
