/* SPDX-License-Identifier: Apache-2.0 */
/* Which ConfigMaps and Secrets a pod refers to, init containers included; what a pod of a node's
 * own may hold. Pure. */
#include <string.h>

#include "cloud/cloud_priv.h"

struct walk {
    void (*each)(void *user, const char *type, const char *name);
    void *user;
};

/* the plain string at path, if it is a valid name */
static void name_at(const struct walk *w, struct ke_str object, const char *path, const char *type)
{
    struct ke_str v;
    char name[256];
    if (!kei_json_path(object, path, &v) || kei_json_type(v) != '"' || v.n - 2 >= sizeof name)
        return;
    memcpy(name, v.p + 1, v.n - 2);
    name[v.n - 2] = 0;
    if (kei_dns_subdomain(kei_str(name)))
        w->each(w->user, type, name);
}

static void containers(const struct walk *w, struct ke_str pod, const char *path)
{
    struct ke_str list, env, key, c, item;
    if (!kei_json_path(pod, path, &list))
        return;
    for (size_t it = 0; kei_json_next(list, &it, &key, &c);) {
        if (kei_json_get(c, "env", &env))
            for (size_t k = 0; kei_json_next(env, &k, &key, &item);) {
                name_at(w, item, "valueFrom.configMapKeyRef.name", "configmap");
                name_at(w, item, "valueFrom.secretKeyRef.name", "secret");
            }
        if (kei_json_get(c, "envFrom", &env))
            for (size_t k = 0; kei_json_next(env, &k, &key, &item);) {
                name_at(w, item, "configMapRef.name", "configmap");
                name_at(w, item, "secretRef.name", "secret");
            }
    }
}

void kei_pod_references(struct ke_str pod,
                        void (*each)(void *user, const char *type, const char *name), void *user)
{
    const struct walk w = {each, user};
    struct ke_str list, sources, key, item, source;
    containers(&w, pod, "spec.containers");
    containers(&w, pod, "spec.initContainers");
    if (kei_json_path(pod, "spec.imagePullSecrets", &list))
        for (size_t it = 0; kei_json_next(list, &it, &key, &item);)
            name_at(&w, item, "name", "secret");
    if (!kei_json_path(pod, "spec.volumes", &list))
        return;
    for (size_t it = 0; kei_json_next(list, &it, &key, &item);) {
        name_at(&w, item, "configMap.name", "configmap");
        name_at(&w, item, "secret.secretName", "secret");
        if (!kei_json_path(item, "projected.sources", &sources))
            continue;
        for (size_t k = 0; kei_json_next(sources, &k, &key, &source);) {
            name_at(&w, source, "configMap.name", "configmap");
            name_at(&w, source, "secret.name", "secret");
        }
    }
}

/* ---- pods that nodes make ---- */

bool kei_pod_is_mirror(struct ke_str pod)
{
    struct ke_str notes, v;
    return kei_json_path(pod, "metadata.annotations", &notes) &&
           kei_json_get(notes, "kubernetes.io/config.mirror", &v) && kei_json_type(v) == '"';
}

static void refers(void *user, const char *type, const char *name)
{
    (void)type;
    (void)name;
    *(bool *)user = true;
}

/* Set to something: neither absent, nor null, nor "". */
static bool is_set(struct ke_str pod, const char *path)
{
    struct ke_str v;
    return kei_json_path(pod, path, &v) && kei_json_type(v) != 'n' && !kei_json_str_is(v, "");
}

/* A list, so that a kind of volume that is not known here is refused. */
static bool volumes_plain(struct ke_str pod)
{
    static const char *const plain[] = {"name", "hostPath", "emptyDir", "downwardAPI", "nfs"};
    struct ke_str list, key, volume, member, value;
    if (!kei_json_path(pod, "spec.volumes", &list))
        return true;
    for (size_t it = 0; kei_json_next(list, &it, &key, &volume);)
        for (size_t k = 0; kei_json_next(volume, &k, &member, &value);) {
            bool known = kei_json_type(value) == 'n';
            for (size_t i = 0; !known && i < sizeof plain / sizeof plain[0]; i++)
                known = kei_json_key_is(member, plain[i]);
            if (!known)
                return false;
        }
    return true;
}

const char *kei_mirror_fault(struct ke_str pod)
{
    bool found = false;
    if (!kei_pod_is_mirror(pod))
        return "is no mirror of a static pod: annotation kubernetes.io/config.mirror is missing";
    kei_pod_references(pod, refers, &found);
    if (found)
        return "refers to a Secret or ConfigMap, which the pod of a node's own may not";
    if (is_set(pod, "spec.serviceAccountName") || is_set(pod, "spec.serviceAccount"))
        return "refers to a service account, which the pod of a node's own may not";
    if (is_set(pod, "spec.ephemeralContainers"))
        return "has ephemeral containers, which the pod of a node's own may not";
    return volumes_plain(pod) ? NULL
                              : "has a volume other than hostPath, emptyDir, downwardAPI and nfs, "
                                "which the pod of a node's own may not";
}
