/* SPDX-License-Identifier: Apache-2.0 */
/* ke-shim by itself: one run per folder, output as a log, ends that are kept, nothing left behind.
 */
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "pod/shim/shim.h"

struct rig {
    char data[200], folder[260], log[340];
    char said[700];
    int pipe;
};

static void path_of(const struct rig *r, const char *name, char out[400])
{
    snprintf(out, 400, "%s/%s", r->folder, name);
}

static void write_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), n);
    close(fd);
}

/* The text of a file; "" if there is none. */
static char *read_file(const char *path)
{
    struct ke_buf b;
    kei_buf_init(&b, kei_alloc_malloc());
    if (kei_file_read(ke_io_posix(), path, 64u << 20, &b, NULL) < 0 || !b.p) {
        ke_buf_free(&b);
        return strdup("");
    }
    return b.p;
}

static void rig_init(struct rig *r)
{
    char path[400];
    memset(r, 0, sizeof *r);
    r->pipe = -1;
    test_tmp_make(r->data, sizeof r->data);
    snprintf(r->folder, sizeof r->folder, "%s/run", r->data);
    assert_int_equal(mkdir(r->folder, 0700), 0);
    snprintf(r->folder, sizeof r->folder, "%s/run/c", r->data);
    assert_int_equal(mkdir(r->folder, 0700), 0);
    path_of(r, KE_SHIM_MNT, path);
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(r, KE_SHIM_LOCK, path);
    write_file(path, "", 0);
    snprintf(r->log, sizeof r->log, "%s/log", r->data);
}

static void rig_fini(struct rig *r)
{
    if (r->pipe >= 0)
        close(r->pipe);
    test_tmp_remove(r->data);
}

/* A configuration that runs a script; more holds further records, ended by an empty one. */
static void configure(struct rig *r, const char *script, const char *const *more)
{
    char text[8192], path[400];
    size_t n = 0;
    const char *const fixed[] = {"v=1", "exec=/bin/sh", "arg=/bin/sh", "arg=-c", NULL};
    for (int i = 0; fixed[i]; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s", fixed[i]) + 1;
    n += (size_t)snprintf(text + n, sizeof text - n, "arg=%s", script) + 1;
    n += (size_t)snprintf(text + n, sizeof text - n, "env=PATH=/usr/bin:/bin") + 1;
    n += (size_t)snprintf(text + n, sizeof text - n, "log=%s", r->log) + 1;
    n += (size_t)snprintf(text + n, sizeof text - n, "cwd=/") + 1;
    for (int i = 0; more && more[i]; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s", more[i]) + 1;
    n += (size_t)snprintf(text + n, sizeof text - n, "end=1") + 1;
    path_of(r, KE_SHIM_CONFIG, path);
    write_file(path, text, n);
}

static bool no_mount_setattr;

/* As on a kernel that does not have it. */
static void refuse_mount_setattr(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 442, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = 4, .filter = code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
        _exit(98);
}

/* Starts a shim as the node does and reads what it says. ignore_chld: as a host that ignores
 * SIGCHLD */
static void launch(struct rig *r, bool ignore_chld)
{
    int p[2];
    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(p[1], KE_SHIM_STATUS_FD);
        fcntl(KE_SHIM_STATUS_FD, F_SETFD, 0);
        if (ignore_chld)
            signal(SIGCHLD, SIG_IGN);
        if (no_mount_setattr)
            refuse_mount_setattr();
        execl(KE_TEST_SHIM, "ke-shim", r->folder, (char *)NULL);
        _exit(99);
    }
    close(p[1]);
    if (r->pipe >= 0)
        close(r->pipe);
    r->pipe = p[0];
    size_t n = 0;
    ssize_t k;
    while (n < sizeof r->said - 1 && (k = read(p[0], r->said + n, sizeof r->said - 1 - n)) > 0)
        n += (size_t)k;
    r->said[n] = '\0';
    waitpid(pid, NULL, 0);
}

/* Waits, by its lock, until no shim lives in the folder. */
static void wait_end(struct rig *r)
{
    char path[400];
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    path_of(r, KE_SHIM_LOCK, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    alarm(60); /* a net for hangs */
    assert_int_equal(fcntl(fd, F_SETLKW, &l), 0);
    alarm(0);
    close(fd);
}

static pid_t number_in(struct rig *r, const char *file, const char *key)
{
    char path[400], want[40];
    path_of(r, file, path);
    char *text = read_file(path);
    snprintf(want, sizeof want, "%s=", key);
    char *at = strstr(text, want);
    long n = at ? strtol(at + strlen(want), NULL, 10) : -1;
    free(text);
    return (pid_t)n;
}

static void expect_exit(struct rig *r, int code, int sig, const char *reason)
{
    char path[400], want[60];
    path_of(r, KE_SHIM_EXIT, path);
    char *text = read_file(path);
    assert_int_equal(number_in(r, KE_SHIM_EXIT, "code"), code);
    assert_int_equal(number_in(r, KE_SHIM_EXIT, "signal"), sig);
    snprintf(want, sizeof want, "\nreason=%s\n", reason);
    assert_non_null(strstr(text, want));
    assert_non_null(strstr(text, "\nend\n"));
    free(text);
}

static void tell_stop(struct rig *r, int ms)
{
    char path[400], line[40];
    path_of(r, KE_SHIM_CTL, path);
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    int n = snprintf(line, sizeof line, "stop %d\n", ms);
    assert_int_equal(write(fd, line, (size_t)n), n);
    close(fd);
}

static bool is_alive(pid_t p)
{
    char path[64], *text;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)p);
    text = read_file(path);
    char *s = strrchr(text, ')');
    bool alive = s && s[2] != 'Z' && s[2] != 'X';
    free(text);
    return alive;
}

/* Processes whose command line holds text. */
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
        n += k > 0 && memmem(buf, (size_t)k, text, strlen(text)) != NULL &&
             strtol(e->d_name, NULL, 10) != getpid();
    }
    closedir(d);
    return n;
}

/* ---- ends ---- */

static void exit_codes(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        int code, sig;
        const char *reason;
    } cases[] = {{"exit 0", 0, 0, "Completed"},
                 {"exit 7", 7, 0, "Error"},
                 {"exit 255", 255, 0, "Error"},
                 {"kill -9 $$", 137, 9, "Error"},
                 {"kill -TERM $$", 143, 15, "Error"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int ignore = 0; ignore < 2; ignore++) {
            struct rig r;
            rig_init(&r);
            configure(&r, cases[i].script, NULL);
            launch(&r, ignore);
            assert_string_equal(r.said, "ok \n");
            wait_end(&r);
            expect_exit(&r, cases[i].code, cases[i].sig, cases[i].reason);
            rig_fini(&r);
        }
    }
}

static void what_cannot_run(void **state)
{
    (void)state;
    struct rig r;
    char path[400];
    static const char none[] = "v=1\0exec=/no/such/file\0arg=x\0log=/dev/null\0cwd=/\0end=1";
    rig_init(&r);
    path_of(&r, KE_SHIM_CONFIG, path);
    write_file(path, none, sizeof none);
    launch(&r, false);
    assert_string_equal(r.said, "error could not run /no/such/file: No such file or directory\n");
    wait_end(&r);
    expect_exit(&r, 128, 0, "StartError");
    rig_fini(&r);

    rig_init(&r);
    configure(&r, "exit 0", (const char *const[]){"cwd=/no/such/folder", NULL});
    launch(&r, false);
    assert_string_equal(r.said,
                        "error could not enter the working folder /no/such/folder: No such file or "
                        "directory\n");
    wait_end(&r);
    rig_fini(&r);
}

static void damaged_configurations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"", 0},
        {"garbage", 7},
        {"exec=/bin/true\0arg=x\0log=/x\0cwd=/\0", 34}, /* cut off: no end */
        {"arg=x\0log=/x\0cwd=/\0end=1\0", 25},
        {"src=/a\0dst=/b\0exec=/bin/true\0log=/x\0cwd=/\0end=1\0", 49},
        {"\0\0\0\0\0\0", 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig r;
        char path[400];
        rig_init(&r);
        path_of(&r, KE_SHIM_CONFIG, path);
        write_file(path, cases[i].text, cases[i].n);
        launch(&r, false);
        assert_string_equal(r.said, "error the container's configuration is missing or damaged\n");
        wait_end(&r);
        path_of(&r, KE_SHIM_PID, path);
        assert_int_not_equal(access(path, F_OK), 0); /* nothing ran */
        rig_fini(&r);
    }
}

/* A folder has one run in its life, whoever starts how many shims in it. */
static void one_run_only(void **state)
{
    (void)state;
    struct rig r;
    char mark[64], script[128];
    rig_init(&r);
    snprintf(mark, sizeof mark, "9%d00.001", (int)getpid());
    snprintf(script, sizeof script, "sleep %s", mark);
    configure(&r, script, NULL);
    launch(&r, false);
    assert_string_equal(r.said, "ok \n");
    pid_t shim = number_in(&r, KE_SHIM_PID, "shim");
    launch(&r, false);
    assert_string_equal(r.said, "busy \n");
    assert_int_equal(number_in(&r, KE_SHIM_PID, "shim"), shim);
    tell_stop(&r, 0);
    wait_end(&r);
    expect_exit(&r, 137, 9, "Error");
    launch(&r, false); /* after its end neither */
    assert_string_equal(r.said, "busy \n");
    expect_exit(&r, 137, 9, "Error");
    assert_int_equal(count_processes(mark), 0);
    rig_fini(&r);
}

/* ---- stopping ---- */

static void stops_with_grace(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    configure(&r, "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done",
              NULL);
    launch(&r, false);
    char *log;
    for (log = read_file(r.log); !strstr(log, "ready"); log = read_file(r.log)) {
        free(log);
        poll(NULL, 0, 5);
    }
    free(log);
    tell_stop(&r, 20000);
    wait_end(&r);
    expect_exit(&r, 5, 0, "Error");
    log = read_file(r.log);
    assert_non_null(strstr(log, "stdout F got it\n"));
    free(log);
    rig_fini(&r);
}

static void kills_after_the_grace(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    configure(&r, "trap '' TERM; echo ready; while :; do sleep 0.05; done", NULL);
    launch(&r, false);
    char *log;
    for (log = read_file(r.log); !strstr(log, "ready"); log = read_file(r.log)) {
        free(log);
        poll(NULL, 0, 5);
    }
    free(log);
    tell_stop(&r, 60000);
    tell_stop(&r, 50); /* a later one can only bring the end nearer */
    tell_stop(&r, 90000);
    wait_end(&r);
    expect_exit(&r, 137, 9, "Error");
    rig_fini(&r);
}

/* Children, grandchildren, also those in sessions of their own. */
static void nothing_is_left(void **state)
{
    (void)state;
    struct rig r;
    char mark[64], script[400];
    rig_init(&r);
    snprintf(mark, sizeof mark, "8%d00.002", (int)getpid());
    snprintf(script, sizeof script,
             "sleep %s & setsid sleep %s & (setsid sh -c 'sleep %s & sleep %s') & "
             "(sleep %s &) ; exit 3",
             mark, mark, mark, mark, mark);
    configure(&r, script, NULL);
    launch(&r, false);
    wait_end(&r);
    expect_exit(&r, 3, 0, "Error");
    assert_int_equal(count_processes(mark), 0);
    rig_fini(&r);
}

/* The node's death does not matter; the shim's takes the command with it. */
static void the_shim_is_killed(void **state)
{
    (void)state;
    struct rig r;
    char path[400];
    rig_init(&r);
    configure(&r, "while :; do sleep 0.05; done", NULL);
    launch(&r, false);
    pid_t shim = number_in(&r, KE_SHIM_PID, "shim"), child = number_in(&r, KE_SHIM_PID, "child");
    assert_true(is_alive(child));
    assert_int_equal(kill(shim, SIGKILL), 0);
    wait_end(&r);
    for (int i = 0; i < 2000 && is_alive(child); i++)
        poll(NULL, 0, 5);
    assert_false(is_alive(child));
    path_of(&r, KE_SHIM_EXIT, path);
    assert_int_not_equal(access(path, F_OK), 0); /* it could not tell */
    rig_fini(&r);
}

static void sigterm_to_the_shim_ends_it_in_order(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    configure(&r, "sleep 1000", NULL);
    launch(&r, false);
    assert_int_equal(kill(number_in(&r, KE_SHIM_PID, "shim"), SIGTERM), 0);
    wait_end(&r);
    expect_exit(&r, 143, 15, "Error");
    rig_fini(&r);
}

/* ---- output ---- */

static void log_format(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    configure(&r, "printf 'one\\n\\nthree\\n'; printf 'oops\\n' >&2; printf 'no newline'", NULL);
    launch(&r, false);
    wait_end(&r);
    char *log = read_file(r.log);
    int lines = 0;
    for (char *p = log; *p;) {
        char *nl = strchr(p, '\n');
        assert_non_null(nl);
        /* 2026-11-22T08:18:48.123456789Z stdout F ... */
        assert_true(nl - p >= 39);
        assert_int_equal(p[4], '-');
        assert_int_equal(p[10], 'T');
        assert_int_equal(p[19], '.');
        assert_int_equal(p[29], 'Z');
        assert_int_equal(p[30], ' ');
        assert_true(!strncmp(p + 31, "stdout F ", 9) || !strncmp(p + 31, "stderr F ", 9));
        lines++;
        p = nl + 1;
    }
    assert_int_equal(lines, 5);
    assert_non_null(strstr(log, " stdout F one\n"));
    assert_non_null(strstr(log, " stdout F \n"));
    assert_non_null(strstr(log, " stdout F three\n"));
    assert_non_null(strstr(log, " stderr F oops\n"));
    assert_non_null(strstr(log, " stdout F no newline\n"));
    free(log);
    rig_fini(&r);
}

static void long_lines_come_in_parts(void **state)
{
    (void)state;
    struct rig r;
    size_t got = 0;
    int full = 0, parts = 0;
    rig_init(&r);
    configure(&r, "head -c 40000 /dev/zero | tr '\\0' x; echo end", NULL);
    launch(&r, false);
    wait_end(&r);
    char *log = read_file(r.log);
    for (char *p = log; *p;) {
        char *nl = strchr(p, '\n');
        char *text = strchr(strchr(strchr(p, ' ') + 1, ' ') + 1, ' ') + 1;
        parts += text[-2] == 'P';
        full += text[-2] == 'F';
        got += (size_t)(nl - text);
        p = nl + 1;
    }
    assert_int_equal(got, 40003);
    assert_int_equal(full, 1);
    assert_int_equal(parts, 2);
    free(log);
    rig_fini(&r);
}

static void a_log_is_rotated(void **state)
{
    (void)state;
    struct rig r;
    struct stat st;
    char path[400];
    rig_init(&r);
    configure(&r, "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done",
              (const char *const[]){"logmax=4096", NULL});
    launch(&r, false);
    wait_end(&r);
    for (int i = 0; i <= 4; i++) {
        snprintf(path, sizeof path, i ? "%s.%d" : "%s", r.log, i);
        assert_int_equal(stat(path, &st), 0);
        assert_true(st.st_size <= 4096);
    }
    snprintf(path, sizeof path, "%s.5", r.log);
    assert_int_not_equal(stat(path, &st), 0);
    char *log = read_file(r.log);
    assert_non_null(strstr(log, "line 499\n"));
    free(log);
    rig_fini(&r);
}

/* A log that cannot be written never stops the command nor loses its end. */
static void an_unwritable_log(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    snprintf(r.log, sizeof r.log, "%s/no/such/folder/log", r.data);
    configure(&r, "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 4", NULL);
    launch(&r, false);
    assert_string_equal(r.said, "ok \n");
    wait_end(&r);
    expect_exit(&r, 4, 0, "Error");
    rig_fini(&r);
    rig_init(&r); /* not through a link, and nothing but a file */
    snprintf(r.log, sizeof r.log, "%s/link", r.data);
    char target[300];
    snprintf(target, sizeof target, "%s/target", r.data);
    assert_int_equal(symlink(target, r.log), 0);
    configure(&r, "echo x; exit 4", NULL);
    launch(&r, false);
    wait_end(&r);
    expect_exit(&r, 4, 0, "Error");
    assert_int_not_equal(access(target, F_OK), 0);
    rig_fini(&r);
}

static bool am_root(void)
{
    return geteuid() == 0;
}

/* The log's disk is full: lines are dropped, later ones say so; the exit code is kept. */
static void a_full_disk(void **state)
{
    (void)state;
    struct rig r;
    char full[300], filler[340];
    if (!am_root())
        skip();
    rig_init(&r);
    snprintf(full, sizeof full, "%s/full", r.data);
    assert_int_equal(mkdir(full, 0755), 0);
    if (mount("tmpfs", full, "tmpfs", 0, "size=64k") < 0) {
        rig_fini(&r);
        skip();
    }
    snprintf(r.log, sizeof r.log, "%s/log", full);
    snprintf(filler, sizeof filler, "%s/filler", full);
    char script[900];
    snprintf(script, sizeof script,
             "echo first; sleep 0.2; head -c 200000 /dev/zero > %s; i=0; while [ $i -lt 3000 ]; do "
             "echo line $i; i=$((i+1)); done; "
             "rm %s; sleep 1.3; echo last; exit 6",
             filler, filler);
    configure(&r, script, NULL);
    launch(&r, false);
    wait_end(&r);
    expect_exit(&r, 6, 0, "Error");
    char *log = read_file(r.log);
    assert_non_null(strstr(log, "stdout F first\n"));
    assert_non_null(strstr(log, "lines before this one were lost\n"));
    assert_non_null(strstr(log, "stdout F last\n"));
    for (char *p = log, *nl; *p; p = nl + 1) { /* no half line, nor one that goes on as another */
        nl = strchr(p, '\n');
        assert_int_equal(p[4], '-');
        *nl = '\0';
        char *tag = strstr(p, "Z std");
        if (!tag || strstr(tag + 1, "Z std"))
            fail_msg("%s", p);
    }
    free(log);
    assert_int_equal(umount2(full, MNT_DETACH), 0);
    rig_fini(&r);
}

/* ---- what the command sees ---- */

static void a_clean_world(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int stray = fcntl(null, F_DUPFD, 20); /* without close-on-exec: a careless host */
    close(null);
    assert_true(stray >= 20);
    setenv("KE_SECRET_OF_THE_HOST", "1", 1);
    configure(&r,
              "echo env:$(env | sort | grep -v -e ^_= -e ^PWD= -e ^SHLVL= -e ^OLDPWD= | tr '\\n' "
              "','); echo fds:$(ls /proc/self/fd | tr '\\n' ','); "
              "echo nnp:$(grep NoNewPrivs /proc/self/status | tr -d '[:space:]'); echo cwd:$(pwd); "
              "umask; "
              "grep -e SigBlk -e SigIgn /proc/self/status; test $$ = $(ps -o sid= -p $$ "
              "2>/dev/null || echo $$) && echo session; "
              "read x || echo eof",
              (const char *const[]){"env=A=b c", NULL});
    launch(&r, true);
    wait_end(&r);
    unsetenv("KE_SECRET_OF_THE_HOST");
    close(stray);
    char *log = read_file(r.log);
    if (!strstr(log, "env:A=b c,PATH=/usr/bin:/bin,\n"))
        fail_msg("%s", log);
    assert_non_null(strstr(log, "fds:0,1,2,3,\n")); /* 3: ls reads the folder itself */
    assert_non_null(strstr(log, "nnp:NoNewPrivs:1\n"));
    assert_non_null(strstr(log, "cwd:/\n"));
    assert_non_null(strstr(log, "F 0022\n"));
    assert_non_null(strstr(log, "SigBlk:\t0000000000000000\n"));
    assert_non_null(strstr(log, "SigIgn:\t0000000000000000\n"));
    assert_non_null(strstr(log, "F eof\n"));
    free(log);
    rig_fini(&r);
}

static void another_user(void **state)
{
    (void)state;
    struct rig r;
    if (!am_root())
        skip();
    rig_init(&r);
    configure(
        &r, "id -u; id -g; id -G; echo caps:$(grep CapEff /proc/self/status)",
        (const char *const[]){"setuid=65534", "setgid=65533", "group=65533", "group=1234", NULL});
    launch(&r, false);
    wait_end(&r);
    char *log = read_file(r.log);
    assert_non_null(strstr(log, "F 65534\n"));
    assert_non_null(strstr(log, "F 65533\n"));
    assert_non_null(strstr(log, "F 65533 1234\n"));
    assert_non_null(strstr(log, "0000000000000000\n"));
    free(log);
    rig_fini(&r);
}

/* ---- mounts ---- */

static bool can_mount(void)
{
    if (!am_root())
        return false;
    pid_t p = fork();
    if (p == 0)
        _exit(unshare(CLONE_NEWNS) == 0 ? 0 : 1);
    int status = 1;
    waitpid(p, &status, 0);
    return status == 0;
}

static void volumes_are_mounted(void **state)
{
    (void)state;
    struct rig r;
    char ro[300], rw[300], file[320], rec[6][400];
    if (!can_mount())
        skip();
    rig_init(&r);
    snprintf(ro, sizeof ro, "%s/ro", r.data);
    snprintf(rw, sizeof rw, "%s/rw", r.data);
    assert_int_equal(mkdir(ro, 0755), 0);
    assert_int_equal(mkdir(rw, 0777), 0);
    snprintf(file, sizeof file, "%s/value", ro);
    write_file(file, "content", 7);
    snprintf(file, sizeof file, "%s/prog", rw);
    write_file(file, "#!/bin/sh\necho ran\n", 19);
    assert_int_equal(chmod(file, 0755), 0);
    snprintf(rec[0], sizeof rec[0], "src=%s", ro);
    snprintf(rec[1], sizeof rec[1], "src=%s", rw);
    snprintf(rec[2], sizeof rec[2], "src=%s/value", ro);
    configure(
        &r,
        "cat /ke-test-cfg/deep/value; echo; cat /etc/ke-test-file; echo; touch /ke-test-cfg/deep/x "
        "&& echo BAD; "
        "echo w > /ke-test-rw/new; /ke-test-rw/prog && echo BAD; cat /tmp/ke-test-tmp/value; echo; "
        "ls -d /proc/self /dev/null /usr/bin /etc/passwd; exit 0",
        (const char *const[]){"private=1", "mount=r", rec[0], "dst=/ke-test-cfg/deep", "mount=",
                              rec[1], "dst=/ke-test-rw", "mount=r", rec[2], "dst=/etc/ke-test-file",
                              "mount=r", rec[0], "dst=/tmp/ke-test-tmp", NULL});
    launch(&r, false);
    assert_string_equal(r.said, "ok \n");
    wait_end(&r);
    char *log = read_file(r.log);
    if (strstr(log, "BAD") || !strstr(log, "stdout F content\n"))
        fail_msg("%s", log);
    assert_non_null(strstr(log, "/proc/self\n"));
    assert_non_null(strstr(log, "/dev/null\n"));
    assert_non_null(strstr(log, "/usr/bin\n"));
    assert_non_null(strstr(log, "/etc/passwd\n"));
    assert_non_null(strstr(log, "Read-only file system"));
    int seen = 0;
    for (char *p = log; (p = strstr(p, "F content\n")); p++)
        seen++;
    assert_int_equal(seen, 3);
    free(log);
    snprintf(file, sizeof file, "%s/new", rw);
    assert_int_equal(access(file, F_OK), 0); /* what it wrote is there */
    /* and the host has got none of the mount points */
    assert_int_not_equal(access("/ke-test-cfg", F_OK), 0);
    assert_int_not_equal(access("/ke-test-rw", F_OK), 0);
    assert_int_not_equal(access("/etc/ke-test-file", F_OK), 0);
    assert_int_not_equal(access("/tmp/ke-test-tmp", F_OK), 0);
    rig_fini(&r);
}

/* A folder on the way was replaced by a link after the place had been checked. */
static void no_link_is_followed_to_the_host(void **state)
{
    (void)state;
    static const char *const last[] = {"swapped", "swapped/in", "plain/in"};
    struct rig r;
    if (!can_mount())
        skip();
    for (size_t i = 0; i < 3; i++) {
        char path[400], to[300], src[400];
        rig_init(&r);
        snprintf(to, sizeof to, "%s/secret", r.data);
        assert_int_equal(mkdir(to, 0755), 0);
        snprintf(path, sizeof path, "%s/in", to);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof path, "%s/swapped", r.data);
        assert_int_equal(symlink(to, path), 0);
        snprintf(path, sizeof path, "%s/plain", r.data);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof path, "%s/plain/in", r.data);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(src, sizeof src, "src=%s/%s", r.data, last[i]);
        configure(&r, "test -d /ke-test-h && echo seen",
                  (const char *const[]){"private=1", "mount=dh", src, "dst=/ke-test-h", NULL});
        launch(&r, false);
        if (i < 2 && !strstr(r.said, "error could not open the volume"))
            fail_msg("%s: %s", last[i], r.said);
        wait_end(&r);
        if (i < 2)
            expect_exit(&r, 128, 0, "StartError");
        else
            expect_exit(&r, 0, 0, "Completed");
        rig_fini(&r);
    }
}

/* What is mounted below a folder of the host is as the volume is; old: on a kernel before 5.12. */
static void submounts(bool old)
{
    struct rig r;
    char top[300], sub[320], file[340], src[310];
    if (!can_mount())
        skip();
    rig_init(&r);
    snprintf(top, sizeof top, "%s/top", r.data);
    snprintf(sub, sizeof sub, "%s/a b", top);
    assert_int_equal(mkdir(top, 0755), 0);
    assert_int_equal(mkdir(sub, 0755), 0);
    assert_int_equal(mount("tmpfs", sub, "tmpfs", 0, "size=1m"), 0);
    snprintf(file, sizeof file, "%s/prog", sub);
    write_file(file, "#!/bin/sh\necho BAD\n", 19);
    assert_int_equal(chmod(file, 0755), 0);
    snprintf(src, sizeof src, "src=%s", top);
    configure(&r, "cd '/ke-test-s/a b'; ./prog; touch x && echo BAD; test -x prog && echo there",
              (const char *const[]){"private=1", "mount=rdh", src, "dst=/ke-test-s", NULL});
    no_mount_setattr = old;
    launch(&r, false);
    no_mount_setattr = false;
    wait_end(&r);
    char *text = read_file(r.log);
    bool bad = strstr(text, "BAD") || !strstr(text, "Read-only") || !strstr(text, "enied");
    if (bad)
        print_error("%s%s", r.said, text);
    free(text);
    assert_int_equal(umount(sub), 0);
    assert_false(bad);
    rig_fini(&r);
}

static void submounts_are_restricted(void **state)
{
    (void)state;
    submounts(false);
}

static void submounts_are_restricted_by_old_kernels(void **state)
{
    (void)state;
    submounts(true);
}

static void mounts_that_cannot_be(void **state)
{
    (void)state;
    struct rig r;
    char src[300];
    if (!can_mount())
        skip();
    static const struct {
        const char *src, *dst, *text;
    } cases[] = {
        {"src=/no/such/volume", "dst=/ke-test-x",
         "error could not open the volume /no/such/volume"},
        {NULL, "dst=/etc/passwd", "error volume and mount point do not match at /etc/passwd"},
        {NULL, "dst=/etc/passwd/x", "error could not resolve the mount point /etc/passwd/x"},
        {NULL, "dst=relative", "error mount point not usable: relative"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig_init(&r);
        snprintf(src, sizeof src, "src=%s", r.data);
        configure(&r, "exit 0",
                  (const char *const[]){"private=1", "mount=", cases[i].src ? cases[i].src : src,
                                        cases[i].dst, NULL});
        launch(&r, false);
        if (strncmp(r.said, cases[i].text, strlen(cases[i].text)) != 0)
            fail_msg("%s", r.said);
        wait_end(&r);
        expect_exit(&r, 128, 0, "StartError");
        rig_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(what_cannot_run),
        cmocka_unit_test(damaged_configurations),
        cmocka_unit_test(one_run_only),
        cmocka_unit_test(stops_with_grace),
        cmocka_unit_test(kills_after_the_grace),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(the_shim_is_killed),
        cmocka_unit_test(sigterm_to_the_shim_ends_it_in_order),
        cmocka_unit_test(log_format),
        cmocka_unit_test(long_lines_come_in_parts),
        cmocka_unit_test(a_log_is_rotated),
        cmocka_unit_test(an_unwritable_log),
        cmocka_unit_test(a_full_disk),
        cmocka_unit_test(a_clean_world),
        cmocka_unit_test(another_user),
        cmocka_unit_test(volumes_are_mounted),
        cmocka_unit_test(no_link_is_followed_to_the_host),
        cmocka_unit_test(submounts_are_restricted),
        cmocka_unit_test(submounts_are_restricted_by_old_kernels),
        cmocka_unit_test(mounts_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
