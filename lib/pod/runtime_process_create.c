/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process runtime's making: of itself, and of a container's configuration for its shim. Loop;
 * which program a command is, is found out on the disk worker.
 */
#include "pod/runtime_process_priv.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "kei_config.h"
#include "pod/podspec.h"
#include "pod/shim/shim.h"

#define CREATES 2 /* at the disk worker at once */

#define LOG_MAX (10 << 20) /* bytes of one log file, see shim_log.h */

/*
 * Variables by which the loader, libc or OpenSSL load other code, and those by which an interpreter
 * runs it unasked. The list cannot be complete: what else an allowed program heeds (PYTHONPATH,
 * NODE_OPTIONS) is for who allows it.
 */
static bool env_refused(const char *name)
{
    static const char *const names[] = {"GCONV_PATH",      "GETCONF_DIR",     "GLIBC_TUNABLES",
                                        "LOCPATH",         "NLSPATH",         "OPENSSL_CONF",
                                        "OPENSSL_MODULES", "OPENSSL_ENGINES", "BASH_ENV",
                                        "PERL5OPT",        "LUA_INIT"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!strcmp(name, names[i]))
            return true;
    }
    return !strncmp(name, "LD_", 3) || !strncmp(name, "MALLOC_", 7);
}

static void rec(struct ke_buf *b, const char *key, const char *value)
{
    kei_buf_adds(b, key);
    kei_buf_addc(b, '=');
    kei_buf_add(b, value, strlen(value) + 1);
}

static void rec_number(struct ke_buf *b, const char *key, int64_t n)
{
    kei_buf_adds(b, key);
    kei_buf_addc(b, '=');
    kei_buf_addi(b, n);
    kei_buf_addc(b, '\0');
}

static void rec_env(struct ke_buf *b, const char *name, const char *value)
{
    kei_buf_adds(b, "env=");
    kei_buf_adds(b, name);
    kei_buf_addc(b, '=');
    kei_buf_add(b, value, strlen(value) + 1);
}

static bool has_env(const struct ke_container_config *c, const char *name)
{
    for (uint32_t i = 0; i < c->n_env; i++) {
        if (!strcmp(c->env[i].name, name))
            return true;
    }
    return false;
}

static void write_env(struct kei_proc_job *j, const struct ke_container_config *c)
{
    static const struct ke_env dflt[] = {
        {"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, {"HOME", "/"}};
    for (size_t i = 0; i < 2; i++) {
        if (!has_env(c, dflt[i].name))
            rec_env(&j->config, dflt[i].name, dflt[i].value);
    }
    if (!has_env(c, "HOSTNAME"))
        rec_env(&j->config, "HOSTNAME", c->hostname ? c->hostname : "");
    for (uint32_t i = 0; i < c->n_env; i++)
        rec_env(&j->config, c->env[i].name, c->env[i].value);
    for (uint32_t i = 0; i < c->n_mounts; i++) {
        const struct ke_mount *m = &c->mounts[i];
        kei_buf_adds(&j->config, "env=KE_VOLUME_");
        for (const char *s = m->volume; *s; s++)
            kei_buf_addc(&j->config, *s == '-' ? '_' : *s >= 'a' && *s <= 'z' ? *s - 32 : *s);
        kei_buf_addc(&j->config, '=');
        kei_buf_adds(&j->config, j->p->can_mount ? m->container_path : m->host_path);
        kei_buf_addc(&j->config, '\0');
    }
}

static void write_user(struct kei_proc_job *j, const struct ke_container_config *c)
{
    struct kei_process *p = j->p;
    int64_t uid = c->run_as_user >= 0 ? c->run_as_user : p->uid;
    int64_t gid = c->run_as_group >= 0 ? c->run_as_group : p->gid;
    if (!p->can_set_user)
        return;
    rec_number(&j->config, "setuid", uid);
    rec_number(&j->config, "setgid", gid);
    for (int i = 0; uid == p->uid && i < p->n_groups; i++)
        rec_number(&j->config, "group", p->groups[i]);
}

/* All but exec, arg[0] and the end: the command is resolved on the worker. */
static void write_config(struct kei_proc_job *j, const struct ke_container_config *c)
{
    struct kei_process *p = j->p;
    struct ke_buf *b = &j->config;
    rec(b, "id", j->id);
    rec(b, "ns", c->pod_namespace);
    rec(b, "pod", c->pod_name);
    rec(b, "uid", c->pod_uid);
    rec(b, "name", c->name);
    rec(b, "image", c->image);
    rec_number(b, "attempt", c->attempt);
    rec_number(b, "created", ke_ctx_real_ms(p->ctx));
    rec(b, "log", c->log_path);
    rec_number(b, "logmax", LOG_MAX);
    rec(b, "cwd", c->working_dir && *c->working_dir ? c->working_dir : "/");
    for (uint32_t i = 0; i < c->n_command; i++)
        rec(b, "arg", c->command[i]);
    for (uint32_t i = 0; i < c->n_args; i++)
        rec(b, "arg", c->args[i]);
    write_env(j, c);
    write_user(j, c);
    if (p->can_mount && c->n_mounts > 0)
        rec(b, "private", "1");
    for (uint32_t i = 0; p->can_mount && i < c->n_mounts; i++) {
        bool host = strncmp(c->mounts[i].host_path, p->run, strlen(p->run) - 3) != 0;
        rec(b, "mount",
            c->mounts[i].flags & KE_MOUNT_READ_ONLY ? host ? "rdh" : "r"
            : host                                  ? "dh"
                                                    : "");
        rec(b, "src", c->mounts[i].host_path);
        rec(b, "dst", c->mounts[i].container_path);
    }
}

/* What this runtime cannot or will not do. NULL: nothing; else the text, with *ret_reason. */
static const char *refusal(const struct kei_process *p, const struct ke_container_config *c,
                           char *text, size_t n, const char **ret_reason)
{
    int64_t uid = c->run_as_user >= 0 ? c->run_as_user : p->uid;
    bool other = uid != p->uid || (c->run_as_group >= 0 && c->run_as_group != p->gid);
    *ret_reason = "CreateContainerConfigError";
    for (uint32_t i = 0; i < c->n_env; i++) {
        if (env_refused(c->env[i].name)) {
            snprintf(text, n, "variable %s is not allowed: it would change what a program loads",
                     c->env[i].name);
            return text;
        }
    }
    if (c->flags & KE_CONTAINER_RUN_AS_NON_ROOT && uid == 0)
        return "container has runAsNonRoot and would run as root: set processUser on the node";
    if (other) {
        snprintf(text, n,
                 "runAsUser or runAsGroup names another user than processes have here (%lld)",
                 (long long)p->uid);
        return text;
    }
    *ret_reason = "CreateContainerError";
    if (c->flags & KE_CONTAINER_PRIVILEGED)
        return "privileged containers are not run by the process runtime";
    if (c->flags & KE_CONTAINER_READ_ONLY_ROOT)
        return "readOnlyRootFilesystem is not supported by the process runtime, whose root is the "
               "host's";
    *ret_reason = "CommandMissing";
    if (c->n_command == 0)
        return "the process runtime runs commands of the host, not images: give a command";
    return NULL;
}

static void create_run(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct kei_process *p = j->p;
    char real[PATH_MAX];
    j->status = kei_proc_allowed(real, sizeof real, j->command, (const char *const *)p->allow,
                                 p->n_allow, &j->err);
    if (j->status < 0) {
        j->reason = j->status == KE_EACCES ? "CommandNotAllowed" : "CommandNotFound";
        return;
    }
    rec(&j->config, "exec", real);
    rec(&j->config, "end", "1");
    if (!kei_buf_ok(&j->config) || j->config.n > KE_SHIM_CONFIG_MAX)
        j->status = kei_error(&j->err, kei_buf_ok(&j->config) ? KE_ELIMIT : KE_ENOMEM,
                              "the configuration of a container could not be held; the limit is %u "
                              "bytes",
                              KE_SHIM_CONFIG_MAX);
    else
        j->status = kei_proc_create(p->run, j->id, kei_buf_str(&j->config), j->log_path, &j->err);
    if (j->status < 0)
        j->reason = "CreateContainerError";
}

static void create_done(struct kei_work *w);

/* Creates up to CREATES at a time: the start of the first pods does not wait for the last's folder.
 */
static void create_next(struct kei_process *p)
{
    while (p->creating < CREATES && !kei_list_empty(&p->creates)) {
        struct kei_proc_job *j = KEI_OF(p->creates.next, struct kei_proc_job, link);
        kei_list_remove(&j->link);
        int r = p->rt ? kei_work_submit(p->ctx, &j->work, create_run, create_done) : KE_ECANCELED;
        if (r < 0)
            kei_proc_job_end(j, r, j->id);
        else
            p->creating++;
    }
}

static void create_done(struct kei_work *w)
{
    struct kei_proc_job *j = KEI_PROC_JOB(w);
    struct kei_process *p = j->p;
    p->refs++; /* over the end of the job */
    p->creating--;
    kei_proc_job_end(j, j->status, j->id);
    create_next(p);
    kei_process_unref(p);
}

/* Said once each: people wonder. */
static void remarks(struct kei_process *p, const struct ke_container_config *c)
{
    if (!p->told_image && *c->image) {
        p->told_image = true;
        kei_log(p->ctx, KE_LOG_WARN, "pod",
                "the process runtime fetches no image (%s of pod %s/%s): commands are the host's",
                c->image, c->pod_namespace, c->pod_name);
    }
    if (!p->told_mounts && c->n_mounts > 0 && !p->can_mount) {
        p->told_mounts = true;
        kei_log(p->ctx, KE_LOG_WARN, "pod",
                "volumes of pod %s/%s are not mounted (needs CAP_SYS_ADMIN): KE_VOLUME_NAME names "
                "their folders",
                c->pod_namespace, c->pod_name);
    }
}

int kei_proc_op_create(void *user, uint64_t op, const struct ke_container_config *c)
{
    struct kei_process *p = user;
    char id[KEI_PROC_ID_MAX + 64], text[256];
    const char *reason;
    if (!kei_pod_uid_valid(kei_str(c->pod_uid)) || !kei_dns_label(kei_str(c->name)))
        return KE_EINVAL; /* the engine has checked: they become a folder */
    const char *why = refusal(p, c, text, sizeof text, &reason);
    if (why) {
        kei_proc_complete(p, op, KE_EACCES, reason, why, NULL);
        return 0;
    }
    remarks(p, c);
    snprintf(id, sizeof id, "%s_%s_%u", c->pod_uid, c->name, c->attempt);
    struct kei_proc_job *j = kei_proc_job_new(p, op, id);
    if (!j)
        return KE_ENOMEM;
    if (strlen(c->command[0]) >= PATH_MAX) {
        kei_proc_job_free(j);
        return KE_ELIMIT;
    }
    write_config(j, c);
    j->command = kei_arena_strdup(&j->arena, kei_str(c->command[0]));
    j->log_path = kei_arena_strdup(&j->arena, kei_str(c->log_path));
    if (!kei_buf_ok(&j->config) || !j->command || !j->log_path) {
        kei_proc_job_free(j);
        return KE_ENOMEM;
    }
    p->refs++; /* should the job end at once */
    kei_list_add_tail(&p->creates, &j->link);
    create_next(p);
    kei_process_unref(p);
    return 0;
}

/* ---- making ---- */

static bool has_cap(int cap)
{
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2] = {{0}, {0}};
    return syscall(SYS_capget, &h, d) == 0 && (d[cap / 32].effective >> (cap % 32)) & 1;
}

static int find_user(struct kei_process *p, const char *user)
{
    struct passwd pw, *found = NULL;
    uint64_t number = 0;
    struct ke_buf b;
    kei_buf_init(&b, p->alloc);
    char *mem = kei_buf_room(&b, 16384);
    bool is_number = user && kei_str_u64(kei_str(user), &number) && number < UINT32_MAX;
    p->uid = is_number || !user ? user ? (int64_t)number : (int64_t)geteuid() : -1;
    p->gid = p->uid == (int64_t)geteuid() ? (int64_t)getegid() : p->uid;
    if (mem && p->uid >= 0)
        getpwuid_r((uid_t)p->uid, &pw, mem, 16384, &found);
    else if (mem)
        getpwnam_r(user, &pw, mem, 16384, &found);
    if (found) {
        p->uid = found->pw_uid;
        p->gid = found->pw_gid;
        p->n_groups = KEI_PROC_GROUPS_MAX;
        if (getgrouplist(found->pw_name, found->pw_gid, p->groups, &p->n_groups) < 0)
            p->n_groups = KEI_PROC_GROUPS_MAX; /* the first ones */
    }
    ke_buf_free(&b);
    if (!mem)
        return kei_fail(p->ctx, KE_ENOMEM, "out of memory for the process runtime");
    if (p->uid < 0)
        return kei_fail(p->ctx, KE_EINVAL, "process user %s is not known on this machine", user);
    if (p->uid != (int64_t)geteuid() && !p->can_set_user)
        return kei_fail(p->ctx, KE_EACCES,
                        "processes cannot run as %s: the node is not root (CAP_SETUID, CAP_SETGID)",
                        user);
    return 0;
}

static int copy_allow(struct kei_process *p, const struct kei_process_config *c)
{
    p->allow = kei_array_alloc(p->alloc, c->n_allow + 1u, sizeof *p->allow);
    if (!p->allow)
        return kei_fail(p->ctx, KE_ENOMEM, "out of memory for the process runtime");
    for (uint32_t i = 0; i < c->n_allow; i++) {
        if (!c->allow[i] || !kei_path_plain(c->allow[i]))
            return kei_fail(p->ctx, KE_EINVAL,
                            "process-allow: \"%s\" must be an absolute path without \"..\"",
                            c->allow[i] ? c->allow[i] : "");
        p->allow[i] = kei_strdup(p->alloc, c->allow[i]);
        if (!p->allow[i])
            return kei_fail(p->ctx, KE_ENOMEM, "out of memory for the process runtime");
        p->n_allow++;
    }
    return 0;
}

int kei_process_new(struct kei_process **ret, struct ke_ctx *ctx,
                    const struct kei_process_config *c)
{
    const struct ke_alloc *alloc = kei_ctx_alloc(ctx);
    struct kei_process *p = kei_zalloc(alloc, sizeof *p);
    if (!p)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the process runtime");
    p->ctx = ctx;
    p->alloc = alloc;
    p->refs = 1;
    kei_list_init(&p->procs);
    kei_list_init(&p->creates);
    p->can_mount = has_cap(CAP_SYS_ADMIN);
    p->can_set_user = has_cap(CAP_SETUID) && has_cap(CAP_SETGID);
    int r = 0;
    if (!kei_path_join(p->run, sizeof p->run, c->data, "run") ||
        !kei_path_join(p->shim, sizeof p->shim, c->shim ? c->shim : KEI_SHIM_PATH, "") ||
        strlen(p->run) + KEI_PROC_ID_MAX + 16 > PATH_MAX)
        r = kei_fail(ctx, KE_EINVAL, "the path of the data folder or of the shim is too long");
    if (r == 0)
        r = copy_allow(p, c);
    if (r == 0)
        r = find_user(p, c->user);
    if (r < 0) {
        kei_process_unref(p);
        return r;
    }
    *ret = p;
    return 0;
}

void kei_process_free(struct kei_process *p)
{
    if (p)
        kei_process_unref(p);
}
