/* SPDX-License-Identifier: Apache-2.0 */
/* Which ConfigMaps and Secrets a pod refers to, init containers included. Pure. */
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
