/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inner parts of containers, and volumes: where a slip would only show as a pod that never
 * starts on a node far away. The first thing that is wrong is named with its path. Pure; also runs
 * on the disk worker.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "cloud/manifest.h"
#include "message/k8s.h"

/* ---- environment ---- */

/* {"name", KEY} of one ConfigMap or Secret; needs: names that must be there */
static int check_ref(struct kei_field *f, struct ke_str ref, const char *path,
                     const char *const *names, const char *const *needs, struct ke_error *err)
{
    static const struct kei_typed types[] = {
        {"name", '"'}, {"key", '"'}, {"fieldPath", '"'}, {"resource", '"'}, {"optional", 't'}};
    struct ke_str v;
    char where[KEI_WHERE_MAX];
    int r = kei_check_names(f, ref, path, names, err);
    if (r == 0)
        r = kei_check_types(f, ref, path, types, sizeof types / sizeof types[0], err);
    for (; r == 0 && *needs; needs++) {
        snprintf(where, sizeof where, "%.240s.%s", path, *needs);
        if (!kei_member(ref, *needs, &v) || kei_inner(v).n == 0)
            r = kei_field_bad(f, err, ref, where, "is missing");
    }
    return r;
}

static int check_value_from(struct kei_field *f, struct ke_str from, const char *path,
                            struct ke_error *err)
{
    static const char *const key[] = {"name", "key", "optional", NULL}, *const of_key[] = {
                                                                            "name", "key", NULL};
    static const char *const field[] = {"apiVersion", "fieldPath", NULL}, *const of_field[] = {
                                                                              "fieldPath", NULL};
    static const char *const resource[] = {"containerName", "resource", "divisor", NULL},
                             *const of_resource[] = {"resource", NULL};
    static const struct {
        const char *name;
        const char *const *names, *const *needs;
    } kinds[] = {{"configMapKeyRef", key, of_key},
                 {"secretKeyRef", key, of_key},
                 {"fieldRef", field, of_field},
                 {"resourceFieldRef", resource, of_resource}};
    static const char *const all[] = {"configMapKeyRef", "secretKeyRef", "fieldRef",
                                      "resourceFieldRef", NULL};
    struct ke_str v;
    char where[KEI_WHERE_MAX];
    unsigned n = 0;
    int r = kei_check_names(f, from, path, all, err);
    for (size_t i = 0; r == 0 && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!kei_member(from, kinds[i].name, &v))
            continue;
        n++;
        snprintf(where, sizeof where, "%.240s.%s", path, kinds[i].name);
        r = check_ref(f, v, where, kinds[i].names, kinds[i].needs, err);
    }
    if (r == 0 && n != 1)
        r = kei_field_bad(
            f, err, from, path,
            "needs one source: configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef");
    return r;
}

static int check_env(struct kei_field *f, struct ke_str c, const char *path, struct ke_error *err)
{
    static const char *const names[] = {"name", "value", "valueFrom", NULL};
    struct ke_str list, key, item, v, from;
    char at[KEI_WHERE_MAX], where[KEI_WHERE_MAX];
    unsigned n = 0;
    int r = kei_check_maps(f, c, path, "env", err);
    if (r < 0 || !kei_member(c, "env", &list))
        return r;
    for (size_t it = 0; r == 0 && kei_json_next(list, &it, &key, &item); n++) {
        snprintf(at, sizeof at, "%.200s.env[%u]", path, n);
        r = kei_check_names(f, item, at, names, err);
        if (r < 0)
            return r;
        snprintf(where, sizeof where, "%.240s.name", at);
        if (!kei_member(item, "name", &v) || kei_inner(v).n == 0)
            return kei_field_bad(f, err, item, where, "is missing");
        if (memchr(kei_inner(v).p, '=', kei_inner(v).n))
            return kei_field_bad(f, err, v, where, "must not hold '='");
        snprintf(where, sizeof where, "%.240s.value", at);
        bool has_value = kei_member(item, "value", &v);
        if (has_value && kei_json_type(v) != '"')
            return kei_field_bad(f, err, v, where, "is not a string; put it in quotes");
        snprintf(where, sizeof where, "%.240s.valueFrom", at);
        if (!kei_member(item, "valueFrom", &from))
            continue;
        if (has_value && kei_inner(v).n > 0)
            return kei_field_bad(f, err, from, where, "stands beside value; one of them is enough");
        r = check_value_from(f, from, where, err);
    }
    return r;
}

static int check_env_from(struct kei_field *f, struct ke_str c, const char *path,
                          struct ke_error *err)
{
    static const char *const names[] = {"prefix", "configMapRef", "secretRef", NULL};
    static const char *const ref[] = {"name", "optional", NULL}, *const needs[] = {"name", NULL};
    struct ke_str list, key, item, v;
    char at[KEI_WHERE_MAX], where[KEI_WHERE_MAX];
    unsigned n = 0;
    int r = kei_check_maps(f, c, path, "envFrom", err);
    if (r < 0 || !kei_member(c, "envFrom", &list))
        return r;
    for (size_t it = 0; r == 0 && kei_json_next(list, &it, &key, &item); n++) {
        unsigned sources = 0;
        snprintf(at, sizeof at, "%.200s.envFrom[%u]", path, n);
        r = kei_check_names(f, item, at, names, err);
        for (int i = 1; r == 0 && names[i]; i++) {
            if (!kei_member(item, names[i], &v))
                continue;
            sources++;
            snprintf(where, sizeof where, "%.240s.%s", at, names[i]);
            r = check_ref(f, v, where, ref, needs, err);
        }
        if (r == 0 && sources != 1)
            r = kei_field_bad(f, err, item, at, "needs one source: configMapRef or secretRef");
    }
    return r;
}

/* ---- ports and resources ---- */

static int check_ports(struct kei_field *f, struct ke_str c, const char *path, struct ke_error *err)
{
    static const char *const names[] = {"name",   "containerPort", "hostPort",
                                        "hostIP", "protocol",      NULL};
    static const char *const numbers[] = {"containerPort", "hostPort"};
    struct ke_str list, key, item, v;
    char at[KEI_WHERE_MAX], where[KEI_WHERE_MAX];
    unsigned n = 0;
    int64_t port;
    int r = kei_check_maps(f, c, path, "ports", err);
    if (r < 0 || !kei_member(c, "ports", &list))
        return r;
    for (size_t it = 0; r == 0 && kei_json_next(list, &it, &key, &item); n++) {
        snprintf(at, sizeof at, "%.200s.ports[%u]", path, n);
        r = kei_check_names(f, item, at, names, err);
        for (int i = 0; r == 0 && i < 2; i++) {
            snprintf(where, sizeof where, "%.240s.%s", at, numbers[i]);
            if (!kei_member(item, numbers[i], &v))
                r = i ? 0 : kei_field_bad(f, err, item, where, "is missing");
            else if (!kei_json_i64(v, &port) || port < (i ? 0 : 1) || port > 65535)
                r = kei_field_bad(f, err, v, where, "is not a number from 1 to 65535");
        }
        snprintf(where, sizeof where, "%.240s.protocol", at);
        if (r == 0 && kei_member(item, "protocol", &v) && !kei_json_str_is(v, "TCP") &&
            !kei_json_str_is(v, "UDP") && !kei_json_str_is(v, "SCTP"))
            r = kei_field_bad(f, err, v, where, "is not TCP, UDP or SCTP");
    }
    return r;
}

static int check_resources(struct kei_field *f, struct ke_str c, const char *path,
                           struct ke_error *err)
{
    static const char *const names[] = {"limits", "requests", "claims", NULL};
    static const struct kei_typed types[] = {{"limits", '{'}, {"requests", '{'}};
    struct ke_str resources, map, key, v;
    char at[KEI_WHERE_MAX], where[KEI_WHERE_MAX];
    int64_t milli;
    if (!kei_member(c, "resources", &resources))
        return 0;
    snprintf(at, sizeof at, "%.200s.resources", path);
    int r = kei_check_names(f, resources, at, names, err);
    if (r == 0)
        r = kei_check_types(f, resources, at, types, 2, err);
    for (int i = 0; r == 0 && i < 2; i++) {
        if (!kei_member(resources, names[i], &map))
            continue;
        for (size_t it = 0; r == 0 && kei_json_next(map, &it, &key, &v);) {
            struct ke_str text = kei_json_type(v) == '"' ? kei_inner(v) : v;
            snprintf(where, sizeof where, "%.200s.%s.%.*s", at, names[i],
                     (int)(key.n > 60 ? 60 : key.n), key.p);
            if (!kei_quantity_parse(text, &milli))
                r = kei_field_bad(f, err, v, where, "is no quantity (such as 500m, 2, 64Mi or 1G)");
        }
    }
    return r;
}

int kei_check_container_parts(struct kei_field *f, struct ke_str c, const char *path,
                              struct ke_error *err)
{
    struct ke_str v;
    char where[KEI_WHERE_MAX];
    snprintf(where, sizeof where, "%.200s.imagePullPolicy", path);
    if (kei_member(c, "imagePullPolicy", &v) && !kei_json_str_is(v, "Always") &&
        !kei_json_str_is(v, "IfNotPresent") && !kei_json_str_is(v, "Never"))
        return kei_field_bad(f, err, v, where, "is not Always, IfNotPresent or Never");
    int r = check_env(f, c, path, err);
    if (r == 0)
        r = check_env_from(f, c, path, err);
    if (r == 0)
        r = check_ports(f, c, path, err);
    return r < 0 ? r : check_resources(f, c, path, err);
}

/* ---- volumes ---- */

static int check_host_path(struct kei_field *f, struct ke_str volume, const char *path,
                           struct ke_error *err)
{
    static const char *const types[] = {
        "",       "DirectoryOrCreate", "Directory",  "FileOrCreate", "File",
        "Socket", "CharDevice",        "BlockDevice"};
    struct ke_str v, type;
    char where[KEI_WHERE_MAX];
    if (!kei_member(volume, "hostPath", &v) || !kei_member(v, "type", &type))
        return 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (kei_json_str_is(type, types[i]))
            return 0;
    snprintf(where, sizeof where, "%.200s.hostPath.type", path);
    return kei_field_bad(f, err, type, where,
                         "is not Directory, DirectoryOrCreate, File, FileOrCreate, Socket, "
                         "CharDevice, BlockDevice or empty");
}

int kei_check_volume(struct kei_field *f, struct ke_str volume, const char *path,
                     struct ke_error *err)
{
    /* "name" and the sources of Kubernetes */
    static const char *const names[] = {"name",
                                        "configMap",
                                        "secret",
                                        "emptyDir",
                                        "hostPath",
                                        "projected",
                                        "downwardAPI",
                                        "persistentVolumeClaim",
                                        "ephemeral",
                                        "csi",
                                        "nfs",
                                        "iscsi",
                                        "fc",
                                        "rbd",
                                        "cephfs",
                                        "cinder",
                                        "glusterfs",
                                        "flocker",
                                        "gitRepo",
                                        "image",
                                        "azureDisk",
                                        "azureFile",
                                        "awsElasticBlockStore",
                                        "gcePersistentDisk",
                                        "vsphereVolume",
                                        "portworxVolume",
                                        "photonPersistentDisk",
                                        "quobyte",
                                        "scaleIO",
                                        "storageos",
                                        "flexVolume",
                                        NULL};
    static const struct {
        const char *source, *member;
    } needed[] = {{"configMap", "name"},
                  {"secret", "secretName"},
                  {"hostPath", "path"},
                  {"projected", "sources"},
                  {"persistentVolumeClaim", "claimName"}};
    struct ke_str v, m;
    char where[KEI_WHERE_MAX];
    unsigned n = 0;
    int r = kei_check_names(f, volume, path, names, err);
    if (r < 0)
        return r;
    for (int i = 1; names[i]; i++)
        n += kei_member(volume, names[i], &v);
    if (n > 1)
        return kei_field_bad(f, err, volume, path, "has more than one source");
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (!kei_member(volume, needed[i].source, &v))
            continue;
        snprintf(where, sizeof where, "%.200s.%s", path, needed[i].source);
        if (kei_json_type(v) != '{')
            return kei_field_bad(f, err, v, where, "is not a map");
        snprintf(where, sizeof where, "%.200s.%s.%s", path, needed[i].source, needed[i].member);
        if (!kei_member(v, needed[i].member, &m))
            return kei_field_bad(f, err, v, where, "is missing");
    }
    return check_host_path(f, volume, path, err);
}
