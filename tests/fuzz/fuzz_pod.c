/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pod and one object it refers to, parted by the first line break, on their way to a container:
 * spec, environment, arguments, plans of its volumes, mounts, status. No path leaves its folder, and
 * every status is JSON that reads back.
 */
#include <stdint.h>
#include <stdlib.h>

#include "pod/env.h"
#include "pod/status.h"
#include "pod/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static const struct kei_field_env fields = {"edge-1", "192.0.2.1", "192.0.2.9"};
static const struct kei_vconfig conf = {.data = "/data"};

static void check_plan(const struct kei_vplan *p)
{
    static const char root[] = "/data/pods/";
    for (size_t i = 0; i < p->n_files; i++) {
        MUST(kei_path_inside(p->files[i].path));
        MUST(p->files[i].mode <= 0777);
    }
    if (p->kind == KEI_VOL_HOST_PATH)
        MUST(kei_path_plain(p->path));
    else
        MUST(!strncmp(p->path, root, sizeof root - 1) && !strstr(p->path, ".."));
}

static void check_container(const struct kei_podspec *s, size_t i, const struct kei_objects *o,
                            const struct kei_vplan *plans, size_t n_plans, struct kei_arena *a)
{
    struct kei_env env = {.a = a};
    const char *const *words;
    struct ke_mount *mounts;
    uint32_t n;
    if (kei_env_build(&env, s, &s->containers[i], o, &fields, NULL) == 0) {
        int r = kei_env_words(&words, &n, s->containers[i].json, "command", &env, NULL);
        for (uint32_t k = 0; r == 0 && k < n; k++)
            MUST(words[k]);
    }
    for (size_t k = 0; k < env.n; k++)
        MUST(!strchr(env.v[k].name, '=') && *env.v[k].name);
    if (kei_volume_mounts(&mounts, &n, &s->containers[i], plans, n_plans, a, NULL) == 0) {
        for (uint32_t k = 0; k < n; k++)
            MUST(kei_path_plain(mounts[k].container_path) && mounts[k].host_path[0] == '/');
    }
}

static void check_status(const struct kei_podspec *s)
{
    struct kei_ct cts[KEI_POD_CONTAINERS_MAX];
    struct kei_pod_state st = {.cts = cts, .n = s->n_containers, .restart = s->restart};
    struct kei_conds conds = {{0}, {0}};
    struct kei_status_env e = {.runtime = "process", .host_ip = "", .pod_ip = "", .real = 1};
    struct ke_buf b;
    int64_t start = 0;
    memset(cts, 0, sizeof cts);
    kei_buf_init(&b, kei_alloc_malloc());
    if (s->status.p)
        kei_status_read(s->status, &conds, &start);
    kei_status_write(&b, s, &st, &conds, &e);
    MUST(kei_buf_ok(&b) && kei_json_check(kei_buf_str(&b), 0, NULL) == 0);
    MUST(kei_status_phase(kei_buf_str(&b)) == KEI_PHASE_PENDING);
    ke_buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ke_str object, v, pod = kei_str_cut(kei_strn((const char *)data, size), '\n', &object);
    struct kei_arena a;
    struct kei_podspec s;
    struct kei_objects o;
    struct ke_error err = KE_ERROR_INIT;
    kei_arena_init(&a, kei_alloc_malloc(), 16u << 20);
    if (kei_podspec_read(&s, pod, &a, &err) < 0) {
        MUST(err.text[0]);
    } else if (s.has_spec && kei_objects_collect(&o, &s, &a, &err) == 0) {
        bool is_object = kei_json_value(object, 0, &v, NULL) == 0;
        struct kei_vplan *plans = kei_arena_array(&a, s.n_volumes + 1, sizeof *plans);
        size_t n = 0;
        for (size_t i = 0; i < o.n; i++) {
            o.v[i].status = is_object ? 0 : KE_ENOTFOUND;
            o.v[i].text = is_object ? v : kei_strn(NULL, 0);
        }
        for (size_t i = 0; plans && i < s.n_volumes; i++) {
            if (kei_volume_plan(&plans[n], &s, &s.volumes[i], &o, &fields, &conf, &a, &err) == 0)
                check_plan(&plans[n++]);
        }
        for (size_t i = 0; plans && i < s.n_containers; i++)
            check_container(&s, i, &o, plans, n, &a);
        check_status(&s);
    }
    kei_arena_free(&a);
    return 0;
}
