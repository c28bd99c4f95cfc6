/* SPDX-License-Identifier: Apache-2.0 */
/* Taints of a node and tolerations of a pod, as Kubernetes compares them. Pure; any thread. */
#include "message/k8s.h"

static bool empty(struct ke_str v)
{
    return kei_json_type(v) != '"' || v.n == 2;
}

static bool same_text(struct ke_str a, struct ke_str b)
{
    return (empty(a) && empty(b)) || kei_json_str_eq(a, b);
}

static struct ke_str member(struct ke_str v, const char *key)
{
    struct ke_str ret = {NULL, 0};
    (void)kei_json_get(v, key, &ret);
    return ret;
}

/* An empty key with Exists is for all taints, an empty effect for all effects. */
static bool tolerates(struct ke_str toleration, struct ke_str taint)
{
    struct ke_str key = member(toleration, "key"), op = member(toleration, "operator");
    struct ke_str effect = member(toleration, "effect");
    bool exists = kei_json_str_is(op, "Exists");

    if (!empty(effect) && !kei_json_str_eq(effect, member(taint, "effect")))
        return false;
    if (empty(key))
        return exists;
    if (!kei_json_str_eq(key, member(taint, "key")))
        return false;
    if (exists)
        return true;
    return (empty(op) || kei_json_str_is(op, "Equal")) &&
           same_text(member(toleration, "value"), member(taint, "value"));
}

bool kei_taints_tolerated(struct ke_str taints, struct ke_str tolerations)
{
    struct ke_str key, taint, toleration;
    size_t it = 0;

    while (kei_json_type(taints) == '[' && kei_json_next(taints, &it, &key, &taint)) {
        struct ke_str effect = member(taint, "effect");
        bool ok = !kei_json_str_is(effect, "NoSchedule") && !kei_json_str_is(effect, "NoExecute");
        size_t at = 0;
        while (!ok && kei_json_type(tolerations) == '[' &&
               kei_json_next(tolerations, &at, &key, &toleration))
            ok = tolerates(toleration, taint);
        if (!ok)
            return false;
    }
    return true;
}
