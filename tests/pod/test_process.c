/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process runtime with real processes: what may run, how it ends, that it outlives the node,
 * and that whatever is killed when, each container runs once and its exit code is told.
 * "test_process driver DATA" is a node to be killed; called ke-shim
 * it is one that is slow to go.
 */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "pod/runtime_process.h"
#include "pod/runtime_process_disk.h"
#include "pod/shim/shim.h"

static const char *const allow[] = {"/bin/sh", "/bin/sleep", "/usr/bin/env", "/proc/"};

static void use_process(struct rig *r)
{
    r->conf.runtime = NULL;
    r->conf.runtime_name = "process";
    r->conf.process_allow = allow;
    r->conf.n_process_allow = sizeof allow / sizeof allow[0];
    r->conf.shim = KE_TEST_SHIM;
}

static void init(struct rig *r)
{
    rig_init(r, TEST_REAL_CLOCK);
    use_process(r);
}

struct wanted {
    struct rig *r;
    const char *key, *text;
};

static bool has_text(void *arg)
{
    struct wanted *w = arg;
    return rig_has(w->r, w->key, w->text);
}

static void expect(struct rig *r, const char *key, const char *text)
{
    struct wanted w = {r, key, text};
    if (!test_drive(&r->env, has_text, &w))
        fail_msg("want %s\nhave %s", text, rig_status(r, key));
}

/* The same of what the store has: it may have been told in an earlier life. */
struct stored {
    char text[8192];
    bool done;
};

static void on_stored(void *user, int status, const struct ke_store_item *item)
{
    struct stored *s = user;
    (void)status;
    snprintf(s->text, sizeof s->text, "%s", item ? (const char *)item->value : "");
    s->done = true;
}

static bool is_stored(void *arg)
{
    struct wanted *w = arg;
    struct stored s = {.done = false};
    assert_int_equal(ke_store_get(w->r->store, "o/podstatus", w->key, on_stored, &s), 0);
    while (!s.done)
        assert_int_equal(ke_ctx_dispatch(w->r->env.ctx), 0);
    return strstr(s.text, w->text) != NULL;
}

static void expect_stored(struct rig *r, const char *key, const char *text)
{
    struct wanted w = {r, key, text};
    int64_t give_up = ke_ctx_mono_ms(r->env.ctx) + 60000;
    while (!is_stored(&w)) {
        if (ke_ctx_mono_ms(r->env.ctx) > give_up)
            fail_msg("the store has no %s of %s", text, key);
        assert_int_equal(ke_ctx_wait(r->env.ctx, 20), 0);
        assert_int_equal(ke_ctx_dispatch(r->env.ctx), 0);
    }
}

static bool all_removed(void *arg)
{
    struct rig *r = arg;
    uint32_t n, running;
    kei_pods_count(r->pods, &n, &running);
    return n == 0;
}

/* Ends all pods and waits until they are gone. */
static void end_pod(struct rig *r, const char *resource, const char *pod)
{
    rig_send(r, "delete", resource, pod);
    assert_true(test_drive(&r->env, all_removed, r));
}

static const char *sh_pod(char out[2048], const char *name, const char *uid, const char *policy,
                          const char *script)
{
    char spec[1500];
    snprintf(spec, sizeof spec,
             "\"restartPolicy\":\"%s\",\"containers\":[{\"name\":\"main\",\"image\":\"img\","
             "\"command\":[\"/bin/sh\",\"-c\"],"
             "\"args\":[\"%s\"]}]",
             policy, script);
    return rig_pod(out, name, uid, "", spec);
}

static void read_file(const char *path, char *out, size_t n)
{
    struct ke_buf b;
    kei_buf_init(&b, kei_alloc_malloc());
    out[0] = '\0';
    if (kei_file_read(ke_io_posix(), path, 1 << 20, &b, NULL) == 0)
        snprintf(out, n, "%s", b.p ? b.p : "");
    ke_buf_free(&b);
}

/* Processes whose command line holds text, this one not counted. */
static int count_processes(const char *text)
{
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], buf[4096];
        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t k = fd >= 0 ? read(fd, buf, sizeof buf) : 0;
        if (fd >= 0)
            close(fd);
        n += k > 0 && memmem(buf, (size_t)k, text, strlen(text)) &&
             strtol(e->d_name, NULL, 10) != getpid();
    }
    closedir(d);
    return n;
}

/* In the moment a process becomes another it has no command line: looked at again. */
static void expect_processes(const char *text, int want)
{
    for (int i = 0; i < 2000 && count_processes(text) != want; i++)
        poll(NULL, 0, 5);
    assert_int_equal(count_processes(text), want);
}

/* ---- what may run ---- */

static void allow_list(void **state)
{
    (void)state;
    char dir[200], path[300], link[300], sub[300], out[4096];
    test_tmp_make(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/apps", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/apps/real", dir);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
    snprintf(path, sizeof path, "%s/apps/other", dir); /* two names of one program */
    snprintf(link, sizeof link, "%s/apps/real", dir);
    assert_int_equal(symlink(link, path), 0);
    snprintf(path, sizeof path, "%s/apps/escape", dir);
    assert_int_equal(symlink("/bin/sh", path), 0);
    snprintf(path, sizeof path, "%s/apps/out", dir);
    assert_int_equal(symlink("/bin", path), 0);
    snprintf(path, sizeof path, "%s/apps/nowhere", dir);
    assert_int_equal(symlink("/no/such/place", path), 0);
    snprintf(path, sizeof path, "%s/apps/folder", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/link", dir);
    snprintf(link, sizeof link, "%s/apps", dir);
    assert_int_equal(symlink(link, path), 0);
    const struct {
        const char *entry, *command;
        int code;
    } cases[] = {
        {"%s/apps/real", "%s/apps/real", 0},
        {"%s/apps/real", "%s/link/real", 0}, /* the same place */
        {"%s/link/real", "%s/apps/real", 0},
        {"%s/apps/real", "%s/apps/other", KE_EACCES}, /* another name does other things */
        {"%s/apps/other", "%s/apps/other", 0},
        {"%s/apps/other", "%s/apps/real", KE_EACCES},
        {"%s/apps/", "%s/apps/real", 0},
        {"%s/apps/", "%s/link/real", 0},
        {"%s/apps/", "%s/apps/escape", KE_EACCES},  /* leads out of the folder */
        {"%s/apps/", "%s/apps/none", KE_ENOTFOUND}, /* the folder is open to all: it may be known */
        {"%s/apps/", "%s/link/none", KE_ENOTFOUND},
        {"%s/link/", "%s/apps/none", KE_ENOTFOUND},
        {"%s/apps/", "%s/apps/no/such/folder", KE_ENOTFOUND},
        {"%s/apps/", "%s/apps/real/none", KE_ENOTFOUND}, /* below a file */
        {"%s/apps/", "%s/apps/folder", KE_ENOTFOUND},
        {"%s/apps/", "%s/apps", KE_ENOTFOUND},
        {"%s/apps/", "%s/apps/out/none", KE_EACCES}, /* what is outside is not told */
        {"%s/apps/", "%s/apps/out", KE_EACCES},
        {"%s/apps/", "%s/apps/nowhere", KE_EACCES},
        {"%s/apps/", "%s/apps/nowhere/none", KE_EACCES},
        {"%s/apps/", "%s/apps/../none", KE_EACCES},
        {"%s/apps/", "%s/appsnone", KE_EACCES},
        {"%s/none/", "%s/none/x", KE_EACCES}, /* no such folder on this node */
        {"%s/link/none", "%s/apps/none", KE_ENOTFOUND},
        {"/", "%s/none", KE_ENOTFOUND},
        {"%s/apps/none", "%s/apps/none", KE_ENOTFOUND}, /* named by the host: it may know */
        {"%s/app", "%s/apps/real", KE_EACCES},
        {"%s/app/", "%s/apps/real", KE_EACCES},
        {"%s/apps/real", "apps/real", KE_EACCES},
        {"%s/apps/real", "./real", KE_EACCES},
        {"%s/apps/real", "%s/apps", KE_EACCES},
        {"/bin/sh", "sh", 0},
        {"/usr/bin/sh", "/bin/sh", 0}, /* one folder on merged systems, else not there */
        {"/bin/sleep", "sh", KE_EACCES},
        {"/bin/", "nosuchprogram", KE_ENOTFOUND},
        {"/", "%s/apps/real", 0},
    };
    snprintf(path, sizeof path, "/usr/bin/sh");
    bool merged = access(path, X_OK) == 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        char entry[400], command[400];
        if (!strncmp(cases[i].entry, "/usr/bin", 8) && !merged)
            continue;
        snprintf(entry, sizeof entry, "%s%s", !strncmp(cases[i].entry, "%s", 2) ? dir : "",
                 cases[i].entry + (strncmp(cases[i].entry, "%s", 2) ? 0 : 2));
        snprintf(command, sizeof command, "%s%s", !strncmp(cases[i].command, "%s", 2) ? dir : "",
                 cases[i].command + (strncmp(cases[i].command, "%s", 2) ? 0 : 2));
        const char *list[] = {entry};
        int e = kei_proc_allowed(out, sizeof out, command, list, 1, &err);
        if (e != cases[i].code)
            fail_msg("%s with %s: %d %s", command, entry, e, err.text);
        if (e == KE_ENOTFOUND && !strstr(err.text, command))
            fail_msg("%s is not named: %s", command, err.text);
        assert_int_equal(kei_proc_allowed(out, sizeof out, command, NULL, 0, &err) == 0, 0);
    }
    snprintf(sub, sizeof sub, "%s/apps/../apps/real", dir);
    test_tmp_remove(dir);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *text;
    } cases[] = {
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/bin/cat\"]}]",
         "\"reason\":\"CommandNotAllowed\",\"message\":\"command /bin/cat is not among what this "
         "node allows to run\""},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/opt/no-such-folder/"
         "x\"]}]",
         "\"reason\":\"CommandNotAllowed\""},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/proc/none\"]}]",
         "\"reason\":\"CommandNotFound\",\"message\":\"command /proc/none: there is no such "
         "program\""},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\"}]", "\"reason\":\"CommandMissing\""},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/bin/"
         "sh\"],\"env\":[{\"name\":\"LD_PRELOAD\",\"value\":\"/x\"}]}]",
         "variable LD_PRELOAD is not allowed"},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/bin/"
         "sh\"],\"env\":[{\"name\":\"BASH_ENV\",\"value\":\"/x\"}]}]",
         "variable BASH_ENV is not allowed"},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/bin/"
         "sh\"],\"securityContext\":{\"runAsUser\":4711}}]",
         "runAsUser or runAsGroup names another user"},
        {"\"securityContext\":{\"runAsUser\":4711},\"containers\":[{\"name\":\"main\",\"image\":"
         "\"i\",\"command\":[\"/bin/sh\"]}]",
         "runAsUser or runAsGroup names another user"},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/bin/"
         "sh\"],\"securityContext\":{\"privileged\":true}}]",
         "privileged containers are not run"},
        {"\"containers\":[{\"name\":\"main\",\"image\":\"i\",\"command\":[\"/bin/"
         "sh\"],\"securityContext\":{\"readOnlyRootFilesystem\":true}}]",
         "readOnlyRootFilesystem is not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char pod[2048];
        init(&r);
        rig_start(&r);
        rig_pod(pod, "a", "u-1", "", cases[i].spec);
        rig_send(&r, "insert", "default/pod/a", pod);
        expect(&r, "default/a", cases[i].text);
        assert_true(rig_has(&r, "default/a", "\"phase\":\"Pending\""));
        end_pod(&r, "default/pod/a", pod);
        rig_fini(&r);
    }
}

static void bad_configurations(void **state)
{
    (void)state;
    struct rig r;
    struct kei_process *p = NULL;
    init(&r);
    const char *relative[] = {"bin/sh"}, *dots[] = {"/bin/../sbin/x"};
    struct kei_process_config c = {.data = r.data, .allow = relative, .n_allow = 1};
    assert_int_equal(kei_process_new(&p, r.env.ctx, &c), KE_EINVAL);
    c.allow = dots;
    assert_int_equal(kei_process_new(&p, r.env.ctx, &c), KE_EINVAL);
    c.n_allow = 0;
    c.user = "no-such-user-here";
    assert_int_equal(kei_process_new(&p, r.env.ctx, &c), KE_EINVAL);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), "no-such-user-here"));
    r.conf.runtime_name = "docker";
    assert_int_equal(kei_pods_new(&r.pods, r.env.ctx, &r.conf), KE_EINVAL);
    rig_fini(&r);
}

/* ---- running ---- */

static bool is_gone(void *path)
{
    return access(path, F_OK) != 0;
}

static void runs_and_ends(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], path[400], log[1000];
    init(&r);
    rig_start(&r);
    struct kei_runtime_state rs;
    kei_pods_runtime(r.pods, &rs);
    assert_string_equal(rs.name, "process");
    sh_pod(pod, "job", "u-1", "Never", "echo out; echo err >&2; exit 3");
    rig_send(&r, "insert", "default/pod/job", pod);
    expect(&r, "default/job", "\"phase\":\"Failed\"");
    assert_true(rig_has(&r, "default/job", "\"exitCode\":3,\"reason\":\"Error\""));
    assert_true(rig_has(&r, "default/job", "\"containerID\":\"process://u-1_main_0\""));
    snprintf(path, sizeof path, "%s/logs/default_job_u-1/main/0.log", r.data);
    read_file(path, log, sizeof log);
    assert_non_null(strstr(log, "stdout F out\n"));
    assert_non_null(strstr(log, "stderr F err\n"));
    kei_pods_runtime(r.pods, &rs);
    assert_true(rs.ready);
    end_pod(&r, "default/pod/job", pod);
    snprintf(path, sizeof path, "%s/run/u-1_main_0", r.data);
    assert_true(test_drive(&r.env, is_gone, path));
    snprintf(path, sizeof path, "%s/logs/default_job_u-1", r.data);
    assert_true(test_drive(&r.env, is_gone, path));
    rig_fini(&r);
}

/*
 * A shim that has written how its command ended and takes its time to go: to be put in the place of
 * ke-shim, see main. It goes when there is a file DATA/go.
 */
static int slow_shim(const char *folder)
{
    static const char pid[] = "shim=1\nshimstart=1\nchild=0\nstarted=5\nend\n";
    static const char end[] =
        "code=3\nsignal=0\nstarted=5\nfinished=6\nreason=Error\nmessage=\nend\n";
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (chdir(folder) < 0 || fork() != 0)
        _exit(0);
    int lock = open(KE_SHIM_LOCK, O_RDWR | O_CLOEXEC);
    int state[2] = {open(KE_SHIM_PID, O_CREAT | O_WRONLY, 0600),
                    open(KE_SHIM_EXIT_TMP, O_CREAT | O_WRONLY, 0600)};
    if (fcntl(lock, F_SETLK, &l) < 0 || write(state[0], pid, sizeof pid - 1) < 0 ||
        write(state[1], end, sizeof end - 1) < 0 || rename(KE_SHIM_EXIT_TMP, KE_SHIM_EXIT) < 0 ||
        write(KE_SHIM_STATUS_FD, "ok \n", 4) < 0)
        _exit(1);
    close(KE_SHIM_STATUS_FD);
    for (int i = 0; i < 12000 && access("../../go", F_OK) != 0; i++) /* 60 s: a net */
        poll(NULL, 0, 5);
    _exit(0);
}

/* Else its folder could not be removed by who heard of the end, and would stay. */
static void an_end_is_told_when_the_shim_has_gone(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], path[400], self[400];
    init(&r);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    r.conf.shim = self;
    rig_start(&r);
    sh_pod(pod, "job", "u-1", "Never", "exit 3");
    rig_send(&r, "insert", "default/pod/job", pod);
    expect(&r, "default/job", "\"running\":{");
    rig_stop(&r); /* nor does a list tell it */
    rig_start(&r);
    assert_false(rig_has(&r, "default/job", "\"exitCode\""));
    snprintf(path, sizeof path, "%s/go", r.data);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    expect(&r, "default/job", "\"exitCode\":3,\"reason\":\"Error\"");
    end_pod(&r, "default/pod/job", pod);
    snprintf(path, sizeof path, "%s/run/u-1_main_0", r.data);
    assert_true(is_gone(path));
    rig_fini(&r);
}

static void a_host_that_ignores_sigchld(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    struct sigaction ign = {.sa_handler = SIG_IGN}, old;
    sigaction(SIGCHLD, &ign, &old);
    init(&r);
    rig_start(&r);
    sh_pod(pod, "job", "u-1", "Never", "exit 9");
    rig_send(&r, "insert", "default/pod/job", pod);
    expect(&r, "default/job", "\"exitCode\":9");
    end_pod(&r, "default/pod/job", pod);
    rig_fini(&r);
    sigaction(SIGCHLD, &old, NULL);
}

static bool asked_to_delete(void *arg)
{
    return rig_count(arg, "delete", "default/pod/a") > 0;
}

static void is_stopped_with_grace(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], script[300];
    init(&r);
    rig_start(&r);
    snprintf(script, sizeof script,
             "trap 'exit 7' TERM; echo ready > %s/ready; while :; do sleep 0.02; done", r.data);
    sh_pod(pod, "a", "u-1", "Always", script);
    rig_send(&r, "insert", "default/pod/a", pod);
    expect(&r, "default/a", "\"phase\":\"Running\"");
    char ready[300], text[10];
    snprintf(ready, sizeof ready, "%s/ready", r.data);
    for (read_file(ready, text, sizeof text); !*text; read_file(ready, text, sizeof text))
        poll(NULL, 0, 5);
    char spec[700];
    snprintf(spec, sizeof spec,
             "\"containers\":[{\"name\":\"main\",\"image\":\"img\",\"command\":[\"/bin/"
             "sh\",\"-c\"],\"args\":[\"%s\"]}]",
             script);
    rig_pod(pod, "a", "u-1",
            ",\"deletionTimestamp\":\"2026-12-01T00:00:30Z\",\"deletionGracePeriodSeconds\":30",
            spec);
    rig_send(&r, "update", "default/pod/a", pod);
    expect(&r, "default/a", "\"exitCode\":7");
    assert_true(test_drive(&r.env, asked_to_delete, &r));
    end_pod(&r, "default/pod/a", pod);
    assert_int_equal(rig_count(&r, "delete", "default/pod/a"), 1);
    rig_fini(&r);
}

static bool can_mount(void)
{
    return geteuid() == 0 && access("/proc/self/ns/mnt", F_OK) == 0;
}

/* Mounted where the pod expects it, if the node may; else named by a variable. */
static void volumes_reach_the_process(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], path[400], log[1000];
    init(&r);
    rig_object(&r, "default/configmap/app", "{\"data\":{\"greeting\":\"hello\"}}");
    rig_start(&r);
    rig_pod(pod, "job", "u-1", "",
            "\"restartPolicy\":\"Never\",\"volumes\":[{\"name\":\"my-cfg\",\"configMap\":{\"name\":"
            "\"app\"}},{\"name\":\"tmp\",\"emptyDir\":{}}],"
            "\"containers\":[{\"name\":\"main\",\"image\":\"img\",\"command\":[\"/bin/"
            "sh\",\"-c\"],\"args\":[\"read x < $KE_VOLUME_MY_CFG/greeting; "
            "echo got $x; read y < /ke-cfg/greeting; echo mounted $y; echo hi > "
            "$KE_VOLUME_TMP/new && echo wrote; exit 0\"],"
            "\"volumeMounts\":[{\"name\":\"my-cfg\",\"mountPath\":\"/"
            "ke-cfg\"},{\"name\":\"tmp\",\"mountPath\":\"/ke-tmp\"}]}]");
    rig_send(&r, "insert", "default/pod/job", pod);
    expect(&r, "default/job", "\"phase\":\"Succeeded\"");
    snprintf(path, sizeof path, "%s/logs/default_job_u-1/main/0.log", r.data);
    read_file(path, log, sizeof log);
    if (!strstr(log, "stdout F got hello\n") || !strstr(log, "stdout F wrote\n"))
        fail_msg("%s", log);
    if (can_mount())
        assert_non_null(strstr(log, "stdout F mounted hello\n"));
    assert_int_not_equal(access("/ke-cfg", F_OK), 0);
    snprintf(path, sizeof path, "%s/pods/u-1/volumes/kubernetes.io~empty-dir/tmp/new", r.data);
    assert_int_equal(access(path, F_OK), 0);
    end_pod(&r, "default/pod/job", pod);
    rig_fini(&r);
}

static void runs_as_the_configured_user(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], path[400], log[1000];
    if (geteuid() != 0)
        skip();
    init(&r);
    r.conf.process_user = "65534";
    rig_start(&r);
    rig_pod(pod, "job", "u-1", "",
            "\"restartPolicy\":\"Never\",\"securityContext\":{\"runAsUser\":65534,\"runAsNonRoot\":"
            "true},"
            "\"volumes\":[{\"name\":\"tmp\",\"emptyDir\":{}}],\"containers\":[{\"name\":\"main\","
            "\"image\":\"img\","
            "\"command\":[\"/bin/sh\",\"-c\"],\"args\":[\"id -u; echo x > $KE_VOLUME_TMP/f && echo "
            "wrote\"],"
            "\"volumeMounts\":[{\"name\":\"tmp\",\"mountPath\":\"/ke-tmp\"}]}]");
    rig_send(&r, "insert", "default/pod/job", pod);
    expect(&r, "default/job", "\"phase\":\"Succeeded\"");
    snprintf(path, sizeof path, "%s/logs/default_job_u-1/main/0.log", r.data);
    read_file(path, log, sizeof log);
    if (!strstr(log, "stdout F 65534\n") || !strstr(log, "stdout F wrote\n"))
        fail_msg("%s", log);
    end_pod(&r, "default/pod/job", pod);
    rig_fini(&r);
}

static void a_missing_shim_is_told(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    init(&r);
    r.conf.shim = "/no/such/ke-shim";
    rig_start(&r);
    sh_pod(pod, "a", "u-1", "Always", "exit 0");
    rig_send(&r, "insert", "default/pod/a", pod);
    expect(&r, "default/a",
           "\"reason\":\"RuntimeNotReady\",\"message\":\"/no/such/ke-shim is missing or not "
           "executable\"");
    end_pod(&r, "default/pod/a", pod);
    rig_fini(&r);
}

static void an_unwritable_log_does_not_matter(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048];
    init(&r);
    r.conf.log_folder = "/proc/no/logs/here";
    rig_start(&r);
    sh_pod(pod, "a", "u-1", "Never", "echo x; exit 2");
    rig_send(&r, "insert", "default/pod/a", pod);
    expect(&r, "default/a", "\"exitCode\":2");
    end_pod(&r, "default/pod/a", pod);
    rig_fini(&r);
}

/* ---- restarts of the node ---- */

static int64_t pid_in(struct rig *r, const char *id, const char *key)
{
    char path[400], text[600], want[40];
    snprintf(path, sizeof path, "%s/run/%s/pid", r->data, id);
    read_file(path, text, sizeof text);
    snprintf(want, sizeof want, "%s=", key);
    char *at = strstr(text, want);
    return at ? strtoll(at + strlen(want), NULL, 10) : -1;
}

static void outlives_the_node(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], mark[40], script[100];
    init(&r);
    rig_start(&r);
    snprintf(mark, sizeof mark, "7%d00.003", (int)getpid());
    snprintf(script, sizeof script, "exec sleep %s", mark);
    sh_pod(pod, "a", "u-1", "Always", script);
    rig_send(&r, "insert", "default/pod/a", pod);
    expect(&r, "default/a", "\"phase\":\"Running\"");
    int64_t pid = pid_in(&r, "u-1_main_0", "child");
    int reports = r.n_reports;
    for (int i = 0; i < 3; i++) {
        rig_stop(&r);
        assert_int_equal(kill((pid_t)pid, 0), 0);
        rig_start(&r);
        assert_int_equal(r.settled, i + 2);
    }
    assert_int_equal(r.n_reports, reports);
    assert_int_equal(pid_in(&r, "u-1_main_0", "child"), pid);
    expect_processes(mark, 1);
    end_pod(&r, "default/pod/a", pod); /* also one that was taken back can be ended */
    expect_processes(mark, 0);
    rig_fini(&r);
}

static void wait_lock(struct rig *r, const char *id)
{
    char path[400];
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    snprintf(path, sizeof path, "%s/run/%s/lock", r->data, id);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETLKW, &l), 0);
    close(fd);
}

static void an_exit_while_the_node_is_down(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], script[400], go[300];
    init(&r);
    rig_start(&r);
    snprintf(go, sizeof go, "%s/go", r.data);
    snprintf(script, sizeof script, "while ! test -e %s; do sleep 0.01; done; exit 42", go);
    sh_pod(pod, "a", "u-1", "Never", script);
    rig_send(&r, "insert", "default/pod/a", pod);
    expect(&r, "default/a", "\"phase\":\"Running\"");
    rig_stop(&r);
    close(open(go, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    wait_lock(&r, "u-1_main_0");
    rig_start(&r);
    expect(&r, "default/a", "\"exitCode\":42");
    assert_true(rig_has(&r, "default/a", "\"phase\":\"Failed\""));
    end_pod(&r, "default/pod/a", pod);
    rig_fini(&r);
}

static void a_killed_shim(void **state)
{
    (void)state;
    struct rig r;
    char pod[2048], mark[40], script[100];
    init(&r);
    rig_start(&r);
    snprintf(mark, sizeof mark, "6%d00.004", (int)getpid());
    snprintf(script, sizeof script, "sleep %s & wait", mark);
    sh_pod(pod, "a", "u-1", "Always", script);
    rig_send(&r, "insert", "default/pod/a", pod);
    expect(&r, "default/a", "\"phase\":\"Running\"");
    assert_int_equal(kill((pid_t)pid_in(&r, "u-1_main_0", "shim"), SIGKILL), 0);
    expect(&r, "default/a", "\"restartCount\":1");
    expect(&r, "default/a",
           "\"lastState\":{\"terminated\":{\"exitCode\":137,\"reason\":\"ContainerStatusUnknown\"");
    expect(&r, "default/a", "\"state\":{\"running\"");
    end_pod(&r, "default/pod/a", pod);
    rig_fini(&r);
}

/* The host reaped the first process, and its number is another child's now. */
static void a_number_used_again(void **state)
{
    (void)state;
    char dir[200];
    int fd = -1, status;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_proc_first first = KEI_PROC_NO_FIRST;
    test_tmp_make(dir, sizeof dir);
    kei_proc_reap(&first); /* none */
    assert_int_equal(kei_proc_spawn("/bin/true", dir, &fd, &first, &err), 0);
    assert_true(first.pidfd >= 0);
    close(fd);
    assert_int_equal(waitpid(first.pid, &status, 0), first.pid);
    pid_t other = fork();
    if (other == 0) {
        for (;;)
            pause();
    }
    first.pid = other;
    kei_proc_reap(&first); /* does not wait for it */
    assert_int_equal(first.pid, 0);
    assert_int_equal(first.pidfd, -1);
    assert_int_equal(kill(other, SIGKILL), 0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)other, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(kei_proc_spawn("/bin/true", dir, &fd, &first, &err), 0);
    pid_t mine = first.pid;
    close(fd);
    close(first.pidfd);
    first = (struct kei_proc_first){other, -1}; /* no pidfd could be had: at least no waiting */
    kei_proc_reap(&first);
    assert_int_equal(waitpid(mine, &status, 0), mine);
    /* and the one that is ours leaves no zombie */
    assert_int_equal(kei_proc_spawn("/bin/true", dir, &fd, &first, &err), 0);
    mine = first.pid;
    close(fd);
    kei_proc_reap(&first);
    assert_int_equal(waitpid(mine, &status, 0), -1);
    assert_int_equal(errno, ECHILD);
    test_tmp_remove(dir);
}

/* Crafted leftovers: half a folder, a pid that is another's now, one that is not. */
static void leftovers(void **state)
{
    (void)state;
    struct rig r;
    char path[500], text[500], boot[64];
    init(&r);
    snprintf(path, sizeof path, "%s/run", r.data);
    assert_int_equal(mkdir(path, 0700), 0);
    static const char *const ids[] = {"half_made_0", "u-1_main_0", "u-2_main_0"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/run/%s", r.data, ids[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        snprintf(path, sizeof path, "%s/run/%s/lock", r.data, ids[i]);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    }
    read_file("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    boot[strcspn(boot, "\n")] = '\0';
    pid_t victim[2];
    for (int i = 0; i < 2; i++) {
        victim[i] = fork();
        if (victim[i] == 0) {
            setsid();
            for (;;)
                pause();
        }
        char stat[600];
        snprintf(path, sizeof path, "/proc/%d/stat", (int)victim[i]);
        read_file(path, stat, sizeof stat);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = read(fd, stat, sizeof stat - 1);
        close(fd);
        stat[n > 0 ? n : 0] = '\0';
        char *s = strrchr(stat, ')');
        for (int f = 2; f < 22; f++)
            s = strchr(s, ' ') + 1;
        unsigned long long start = strtoull(s, NULL, 10);
        /* the first one is not the process that was started: its number was used again */
        int k =
            snprintf(text, sizeof text,
                     "shim=1\nshimstart=1\nchild=%d\nchildstart=%llu\nboot=%s\nstarted=5\nend\n",
                     (int)victim[i], start + (i == 0), boot);
        snprintf(path, sizeof path, "%s/run/%s/pid", r.data, ids[i + 1]);
        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, text, (size_t)k), k);
        close(fd);
        k = snprintf(text, sizeof text,
                     "v=1%cid=%s%cns=default%cpod=p%d%cuid=u-%d%cname=main%cimage=i%cattempt=0%"
                     "ccreated=1%cend=1%c",
                     0, ids[i + 1], 0, 0, i, 0, i + 1, 0, 0, 0, 0, 0, 0);
        snprintf(path, sizeof path, "%s/run/%s/config", r.data, ids[i + 1]);
        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_int_equal(write(fd, text, (size_t)k), k);
        close(fd);
    }
    char pod[2048];
    rig_store_pod(&r, "default/p0", sh_pod(pod, "p0", "u-1", "Never", "exit 0"));
    rig_store_pod(&r, "default/p1", sh_pod(pod, "p1", "u-2", "Never", "exit 0"));
    rig_start(&r);
    expect(&r, "default/p0", "\"reason\":\"ContainerStatusUnknown\"");
    expect(&r, "default/p1", "\"reason\":\"ContainerStatusUnknown\"");
    snprintf(path, sizeof path, "%s/run/half_made_0", r.data);
    assert_int_not_equal(access(path, F_OK), 0);
    int status;
    assert_int_equal(waitpid(victim[1], &status, 0), victim[1]);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(waitpid(victim[0], &status, WNOHANG), 0); /* lives */
    assert_int_equal(kill(victim[0], SIGKILL), 0);
    waitpid(victim[0], &status, 0);
    rig_fini(&r);
}

/* ---- a node that is killed at any moment ---- */

#define SERVERS 5
#define JOBS 5

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static int driver(const char *data)
{
    struct rig r;
    rig_init_at(&r, TEST_REAL_CLOCK, data);
    use_process(&r);
    r.conf.restart_min_ms = 10;
    r.conf.restart_max_ms = 20;
    rig_start(&r);
    r.env.max_real_ms = 3600000;
    test_drive(&r.env, never, NULL); /* until it is killed */
    return 1;
}

static pid_t start_driver(const char *data)
{
    pid_t p = fork();
    if (p == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        dup2(null, 2);
        execl("/proc/self/exe", "test_process", "driver", data, (char *)NULL);
        _exit(99);
    }
    return p;
}

static void wait_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

static void killed_at_any_moment(void **state)
{
    (void)state;
    struct rig r;
    char data[200], pod[2048], name[32], uid[32], key[64], script[300], mark[SERVERS][64];
    const char *scale = getenv("KE_TEST_ROUNDS");
    long rounds = scale ? strtol(scale, NULL, 10) : 25;
    test_tmp_make(data, sizeof data);
    const char *seed_text = getenv("KE_SEED");
    unsigned seed = seed_text ? (unsigned)strtoul(seed_text, NULL, 10) : 1;
    print_message("count: %ld kills with processes, seed %u\n", rounds, seed);
    rig_init_at(&r, TEST_REAL_CLOCK, data);
    for (int i = 0; i < SERVERS; i++) {
        snprintf(mark[i], sizeof mark[i], "exec sleep 5%d00.%03d", (int)getpid(), i);
        snprintf(name, sizeof name, "srv%d", i);
        snprintf(uid, sizeof uid, "s-%d", i);
        snprintf(key, sizeof key, "default/%s", name);
        rig_store_pod(&r, key, sh_pod(pod, name, uid, "Always", mark[i]));
    }
    for (int i = 0; i < JOBS; i++) {
        snprintf(name, sizeof name, "job%d", i);
        snprintf(uid, sizeof uid, "j-%d", i);
        snprintf(key, sizeof key, "default/%s", name);
        snprintf(script, sizeof script, "echo x >> %s/ran%d; sleep 0.%d; exit %d", data, i, i,
                 40 + i);
        rig_store_pod(&r, key, sh_pod(pod, name, uid, "Never", script));
    }
    rig_fini(&r);
    for (long i = 0; i < rounds; i++) {
        pid_t p = start_driver(data);
        wait_us(rand_r(&seed) % (i % 3 ? 60000 : 250000));
        assert_int_equal(kill(p, SIGKILL), 0);
        assert_int_equal(waitpid(p, NULL, 0), p);
        for (int k = 0; k < SERVERS; k++)
            assert_true(count_processes(mark[k] + 11) <= 1);
    }
    rig_init_at(&r, TEST_REAL_CLOCK, data);
    use_process(&r);
    rig_start(&r);
    for (int i = 0; i < SERVERS; i++) {
        snprintf(key, sizeof key, "default/srv%d", i);
        expect_stored(&r, key, "\"running\":{");
        /* exactly one: a shim per instance */
        int live = 0;
        char folder[400];
        for (int k = 0; k < 200; k++) {
            struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
            snprintf(folder, sizeof folder, "%s/run/s-%d_main_%d/lock", data, i, k);
            int fd = open(folder, O_RDWR | O_CLOEXEC);
            if (fd < 0)
                continue;
            assert_int_equal(fcntl(fd, F_GETLK, &l), 0);
            live += l.l_type != F_UNLCK;
            close(fd);
        }
        assert_int_equal(live, 1);
        expect_processes(mark[i] + 11, 1);
    }
    for (int i = 0; i < JOBS; i++) {
        char want[40], path[300], text[100];
        snprintf(key, sizeof key, "default/job%d", i);
        snprintf(want, sizeof want, "\"exitCode\":%d", 40 + i);
        expect_stored(&r, key, want);
        expect_stored(&r, key, "\"phase\":\"Failed\"");
        snprintf(path, sizeof path, "%s/ran%d", data, i);
        read_file(path, text, sizeof text);
        assert_string_equal(text, "x\n"); /* once, not never, not twice */
    }
    for (int i = 0; i < SERVERS + JOBS; i++) {
        snprintf(name, sizeof name, i < SERVERS ? "srv%d" : "job%d", i < SERVERS ? i : i - SERVERS);
        snprintf(uid, sizeof uid, i < SERVERS ? "s-%d" : "j-%d", i < SERVERS ? i : i - SERVERS);
        snprintf(key, sizeof key, "default/pod/%s", name);
        rig_send(&r, "delete", key, rig_pod(pod, name, uid, "", RIG_MAIN));
    }
    assert_true(test_drive(&r.env, all_removed, &r));
    for (int i = 0; i < SERVERS; i++)
        expect_processes(mark[i] + 11, 0);
    rig_fini(&r);
    test_tmp_remove(data);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allow_list),
        cmocka_unit_test(refusals),
        cmocka_unit_test(bad_configurations),
        cmocka_unit_test(runs_and_ends),
        cmocka_unit_test(an_end_is_told_when_the_shim_has_gone),
        cmocka_unit_test(a_host_that_ignores_sigchld),
        cmocka_unit_test(is_stopped_with_grace),
        cmocka_unit_test(volumes_reach_the_process),
        cmocka_unit_test(runs_as_the_configured_user),
        cmocka_unit_test(a_missing_shim_is_told),
        cmocka_unit_test(an_unwritable_log_does_not_matter),
        cmocka_unit_test(outlives_the_node),
        cmocka_unit_test(an_exit_while_the_node_is_down),
        cmocka_unit_test(a_killed_shim),
        cmocka_unit_test(a_number_used_again),
        cmocka_unit_test(leftovers),
        cmocka_unit_test(killed_at_any_moment),
    };
    if (argc == 2 && !strcmp(argv[0], "ke-shim"))
        return slow_shim(argv[1]);
    if (argc == 3 && !strcmp(argv[1], "driver"))
        return driver(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
