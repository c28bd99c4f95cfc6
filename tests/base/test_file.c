/* SPDX-License-Identifier: Apache-2.0 */
/* The file table over real files, and whole-file operations through a table that fails on demand.
 */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

static char dir[64];
static int fds_before;

static int setup(void **state)
{
    (void)state;
    fds_before = fdcheck_count();
    test_tmp_make(dir, sizeof dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_tmp_remove(dir);
    return fdcheck_same(fds_before);
}

static const char *in_dir(const char *name)
{
    static char path[8][PATH_MAX];
    static int next;
    char *p = path[next++ % 8];
    assert_true(kei_path_join(p, PATH_MAX, dir, name));
    return p;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static uint32_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

/* ---- paths ---- */

static void test_join(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *out;
    } rows[] = {
        {"/a", "b", "/a/b"},   {"/a/", "b", "/a/b"}, {"/a//", "/b", "/a/b"}, {"/", "b", "/b"},
        {"a", "b/c", "a/b/c"}, {"", "b", "b"},       {"", "/b", "/b"},       {"/a/", "", "/a"},
        {"a", "", "a"},        {"a", "///b", "a/b"},
    };
    char out[PATH_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(kei_path_join(out, sizeof out, rows[i].a, rows[i].b));
        assert_string_equal(out, rows[i].out);
        size_t need = strlen(rows[i].out) + 1;
        char tight[64];
        memset(tight, 'x', sizeof tight);
        assert_true(kei_path_join(tight, need, rows[i].a, rows[i].b));
        assert_string_equal(tight, rows[i].out);
        assert_int_equal(tight[need], 'x');
        assert_false(kei_path_join(tight, need - 1, rows[i].a, rows[i].b));
    }
}

/* ---- the table ---- */

static void test_open_flags(void **state)
{
    (void)state;
    const struct ke_io *io = ke_io_posix();
    struct ke_io_file *f = NULL;
    const char *path = in_dir("f");
    assert_int_equal(io->open(io->user, path, KE_IO_READ, 0, &f), KE_ENOTFOUND);
    assert_null(f);
    assert_int_equal(io->open(io->user, in_dir("no/f"), KE_IO_WRITE | KE_IO_CREATE, 0600, &f),
                     KE_ENOTFOUND);
    mode_t old = umask(077);
    assert_int_equal(io->open(io->user, path, KE_IO_WRITE | KE_IO_CREATE, 0644, &f), 0);
    umask(old);
    assert_int_equal(mode_of(path), 0644); /* whatever the umask */
    assert_int_equal(io->pwrite(io->user, f, "hello", 5, 0), 0);
    assert_int_equal(io->close(io->user, f), 0);
    assert_int_equal(io->open(io->user, path, KE_IO_WRITE | KE_IO_CREATE | KE_IO_EXCL, 0600, &f),
                     KE_EEXIST);
    /* an existing file keeps mode and content */
    assert_int_equal(io->open(io->user, path, KE_IO_READ | KE_IO_WRITE | KE_IO_CREATE, 0600, &f),
                     0);
    assert_int_equal(mode_of(path), 0644);
    int64_t n = 0;
    assert_int_equal(io->length(io->user, f, &n), 0);
    assert_int_equal(n, 5);
    assert_int_equal(io->close(io->user, f), 0);
    assert_int_equal(io->open(io->user, path, KE_IO_WRITE | KE_IO_TRUNC, 0, &f), 0);
    assert_int_equal(io->length(io->user, f, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(io->close(io->user, f), 0);
}

static void test_read_write(void **state)
{
    (void)state;
    const struct ke_io *io = ke_io_posix();
    struct ke_io_file *f = NULL;
    char buf[16];
    size_t n = 99;
    int64_t len;
    assert_int_equal(
        io->open(io->user, in_dir("f"), KE_IO_READ | KE_IO_WRITE | KE_IO_CREATE, 0600, &f), 0);
    assert_int_equal(io->pread(io->user, f, buf, sizeof buf, 0, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(io->pwrite(io->user, f, "world", 5, 6), 0);
    assert_int_equal(io->pwrite(io->user, f, "hello ", 6, 0), 0);
    assert_int_equal(io->pread(io->user, f, buf, sizeof buf, 0, &n), 0);
    assert_int_equal(n, 11);
    assert_memory_equal(buf, "hello world", 11);
    assert_int_equal(io->pread(io->user, f, buf, 5, 8, &n), 0);
    assert_int_equal(n, 3); /* short only at the end */
    assert_int_equal(io->truncate(io->user, f, 5), 0);
    assert_int_equal(io->length(io->user, f, &len), 0);
    assert_int_equal(len, 5);
    assert_int_equal(io->sync(io->user, f), 0);
    assert_int_equal(io->close(io->user, f), 0);
    assert_int_equal(io->open(io->user, in_dir("f"), KE_IO_READ, 0, &f), 0);
    assert_true(io->pwrite(io->user, f, "x", 1, 0) < 0);
    assert_int_equal(io->close(io->user, f), 0);
}

static void test_lock(void **state)
{
    (void)state;
    const struct ke_io *io = ke_io_posix();
    struct ke_io_file *a = NULL, *b = NULL;
    uint32_t flags = KE_IO_READ | KE_IO_WRITE | KE_IO_CREATE;
    assert_int_equal(io->open(io->user, in_dir("l"), flags, 0600, &a), 0);
    assert_int_equal(io->open(io->user, in_dir("l"), flags, 0600, &b), 0);
    assert_int_equal(io->lock(io->user, a), 0);
    assert_int_equal(io->lock(io->user, b), KE_EBUSY);
    pid_t pid = fork(); /* another program that locks a few bytes meets it too */
    assert_true(pid >= 0);
    if (pid == 0) {
        struct flock some = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
        int fd = open(in_dir("l"), O_RDWR | O_CLOEXEC);
        int refused = fcntl(fd, F_SETLK, &some) < 0 && (errno == EAGAIN || errno == EACCES);
        _exit(fd >= 0 && refused ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(io->close(io->user, a), 0);
    assert_int_equal(io->lock(io->user, b), 0);
    assert_int_equal(io->close(io->user, b), 0);
}

static int collect(void *arg, const char *name)
{
    char *all = arg;
    strcat(all, name);
    return strcmp(name, "stop") == 0 ? 42 : 0;
}

static void test_names(void **state)
{
    (void)state;
    const struct ke_io *io = ke_io_posix();
    struct ke_io_stat st = {.size = sizeof st};
    char all[256] = "";
    mode_t old = umask(077);
    assert_int_equal(io->mkdir(io->user, in_dir("d"), 0755), 0);
    umask(old);
    assert_int_equal(mode_of(in_dir("d")), 0755);
    assert_int_equal(io->mkdir(io->user, in_dir("d"), 0755), KE_EEXIST);
    assert_int_equal(io->list(io->user, in_dir("d"), collect, all), 0);
    assert_string_equal(all, "");
    assert_int_equal(kei_file_replace(io, in_dir("d/x"), "abc", 3, 0640, NULL), 0);
    assert_int_equal(io->list(io->user, in_dir("d"), collect, all), 0);
    assert_string_equal(all, "x");
    assert_int_equal(io->list(io->user, in_dir("none"), collect, all), KE_ENOTFOUND);
    assert_int_equal(io->rmdir(io->user, in_dir("d")), KE_EEXIST); /* not empty */

    assert_int_equal(io->stat(io->user, in_dir("d/x"), &st), 0);
    assert_int_equal(st.length, 3);
    assert_int_equal(st.is_dir, 0);
    assert_int_equal(st.mode, 0640);
    assert_int_equal(io->stat(io->user, in_dir("d"), &st), 0);
    assert_int_equal(st.is_dir, 1);
    assert_int_equal(io->stat(io->user, in_dir("none"), &st), KE_ENOTFOUND);

    assert_int_equal(io->symlink(io->user, "d", in_dir("link")), 0);
    assert_int_equal(io->stat(io->user, in_dir("link"), &st), 0);
    assert_int_equal(st.is_dir, 0); /* the link itself */
    char slash[PATH_MAX];
    snprintf(slash, sizeof slash, "%s/", in_dir("link"));
    assert_int_equal(io->stat(io->user, slash, &st), 0);
    assert_int_equal(st.is_dir, 1);

    assert_int_equal(io->rename(io->user, in_dir("d/x"), in_dir("stop")), 0);
    assert_int_equal(io->rename(io->user, in_dir("d/x"), in_dir("y")), KE_ENOTFOUND);
    assert_int_equal(io->rmdir(io->user, in_dir("d")), 0);
    all[0] = '\0';
    assert_int_equal(io->unlink(io->user, in_dir("link")), 0);
    assert_int_equal(io->list(io->user, dir, collect, all), 42); /* each ended it */
    assert_int_equal(io->unlink(io->user, in_dir("stop")), 0);
    assert_int_equal(io->unlink(io->user, in_dir("stop")), KE_ENOTFOUND);
    assert_int_equal(io->sync_dir(io->user, dir), 0);
    assert_int_equal(io->sync_dir(io->user, in_dir("none")), KE_ENOTFOUND);
}

/* What cannot be read whole is refused at once, with what it is. */
static void test_not_regular(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
    } cases[] = {
        {"folder", "it is a folder, not a file"}, {"to-folder", "it is a folder, not a file"},
        {"fifo", "it is not a regular file"},     {"to-fifo", "it is not a regular file"},
        {"socket", "it is not a regular file"},   {"to-null", "it is not a regular file"},
        {"to-zero", "it is not a regular file"},
    };
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", in_dir("socket"));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    close(fd);
    assert_int_equal(mkdir(in_dir("folder"), 0700), 0);
    assert_int_equal(mkfifo(in_dir("fifo"), 0600), 0);
    assert_int_equal(symlink("folder", in_dir("to-folder")), 0);
    assert_int_equal(symlink("fifo", in_dir("to-fifo")), 0);
    assert_int_equal(symlink("/dev/null", in_dir("to-null")), 0);
    assert_int_equal(symlink("/dev/zero", in_dir("to-zero")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ke_error err = KE_ERROR_INIT;
        struct ke_buf b;
        kei_buf_init(&b, kei_alloc_malloc());
        int r = kei_file_read(ke_io_posix(), in_dir(cases[i].name), 100, &b, &err);
        if (r != KE_EINVAL || !strstr(err.text, cases[i].text) || !strstr(err.text, cases[i].name))
            fail_msg("%s: %d %s", cases[i].name, r, err.text);
        assert_int_equal(b.n, 0);
        ke_buf_free(&b);
    }
}

/* A full disk, by the file size limit: pwrite fails after a short write, as with ENOSPC. */
static void test_full(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct ke_io *io = ke_io_posix();
        struct ke_io_file *f = NULL;
        static char big[8192];
        struct rlimit small = {4096, 4096};
        signal(SIGXFSZ, SIG_IGN);
        int ok = setrlimit(RLIMIT_FSIZE, &small) == 0 &&
                 io->open(io->user, in_dir("f"), KE_IO_WRITE | KE_IO_CREATE, 0600, &f) == 0 &&
                 io->pwrite(io->user, f, big, sizeof big, 0) < 0;
        _exit(ok ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    struct stat st;
    assert_int_equal(stat("/dev/full", &st), 0);
    struct ke_io_file *f = NULL;
    const struct ke_io *io = ke_io_posix();
    assert_int_equal(io->open(io->user, "/dev/full", KE_IO_WRITE, 0, &f), 0);
    assert_int_equal(io->pwrite(io->user, f, "x", 1, 0), KE_ENOSPC);
    assert_int_equal(io->close(io->user, f), 0);
}

/* ---- a table that fails at the n-th call, and notes what was done ---- */

struct faulty {
    struct ke_io table;
    int n, fail_at, code;
    char trace[4096];
};

static int fault(struct faulty *f, const char *what)
{
    size_t len = strlen(f->trace);
    snprintf(f->trace + len, sizeof f->trace - len, "%s ", what);
    return ++f->n == f->fail_at ? f->code : 0;
}

#define IO ke_io_posix()
#define FAULTY(what)                                                                               \
    int r_ = fault(user, what);                                                                    \
    if (r_ < 0)                                                                                    \
    return r_

static int fa_open(void *user, const char *path, uint32_t flags, uint32_t mode,
                   struct ke_io_file **ret)
{
    FAULTY("open");
    return IO->open(NULL, path, flags, mode, ret);
}
static int fa_close(void *user, struct ke_io_file *f)
{
    int r = fault(user, "close");
    int c = IO->close(NULL, f);
    return r < 0 ? r : c;
}
static int fa_pread(void *user, struct ke_io_file *f, void *p, size_t n, int64_t off, size_t *ret)
{
    FAULTY("pread");
    return IO->pread(NULL, f, p, n, off, ret);
}
static int fa_pwrite(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    FAULTY("pwrite");
    return IO->pwrite(NULL, f, p, n, off);
}
static int fa_sync(void *user, struct ke_io_file *f)
{
    FAULTY("sync");
    return IO->sync(NULL, f);
}
static int fa_lock(void *user, struct ke_io_file *f)
{
    FAULTY("lock");
    return IO->lock(NULL, f);
}
static int fa_rename(void *user, const char *from, const char *to)
{
    FAULTY("rename");
    return IO->rename(NULL, from, to);
}
static int fa_unlink(void *user, const char *path)
{
    FAULTY("unlink");
    return IO->unlink(NULL, path);
}
static int fa_mkdir(void *user, const char *path, uint32_t mode)
{
    FAULTY("mkdir");
    return IO->mkdir(NULL, path, mode);
}
static int fa_rmdir(void *user, const char *path)
{
    FAULTY("rmdir");
    return IO->rmdir(NULL, path);
}
static int fa_sync_dir(void *user, const char *path)
{
    FAULTY("sync_dir");
    return IO->sync_dir(NULL, path);
}
static int fa_stat(void *user, const char *path, struct ke_io_stat *ret)
{
    FAULTY("stat");
    return IO->stat(NULL, path, ret);
}
static int fa_list(void *user, const char *path, int (*each)(void *arg, const char *name),
                   void *arg)
{
    FAULTY("list");
    return IO->list(NULL, path, each, arg);
}

static void faulty_init(struct faulty *f, int fail_at, int code)
{
    memset(f, 0, sizeof *f);
    f->table = *ke_io_posix();
    f->table.user = f;
    f->table.open = fa_open;
    f->table.close = fa_close;
    f->table.pread = fa_pread;
    f->table.pwrite = fa_pwrite;
    f->table.sync = fa_sync;
    f->table.lock = fa_lock;
    f->table.rename = fa_rename;
    f->table.unlink = fa_unlink;
    f->table.mkdir = fa_mkdir;
    f->table.rmdir = fa_rmdir;
    f->table.sync_dir = fa_sync_dir;
    f->table.stat = fa_stat;
    f->table.list = fa_list;
    f->fail_at = fail_at;
    f->code = code;
}

static void expect_content(const char *path, const char *text)
{
    struct ke_buf b = {0};
    assert_int_equal(kei_file_read(IO, path, 100, &b, NULL), 0);
    assert_string_equal(b.p, text);
    assert_int_equal(b.n, strlen(text));
    ke_buf_free(&b);
}

/* ---- whole files ---- */

static void test_replace(void **state)
{
    (void)state;
    struct faulty f;
    struct ke_error err = KE_ERROR_INIT;
    const char *path = in_dir("conf");
    faulty_init(&f, 0, 0);
    assert_int_equal(kei_file_replace(&f.table, path, "old", 3, 0600, NULL), 0);
    /* durable before the name changes, the name durable before it returns */
    assert_string_equal(f.trace, "unlink open pwrite sync close rename sync_dir ");
    assert_int_equal(mode_of(path), 0600);
    for (int at = 1; at <= 7; at++) {
        faulty_init(&f, at, KE_ENOSPC);
        err.code = 0;
        assert_int_equal(kei_file_replace(&f.table, path, "new", 3, 0600, &err), KE_ENOSPC);
        assert_non_null(strstr(err.text, at == 7 ? dir : "conf"));
        assert_non_null(strstr(err.text, "no space left"));
        expect_content(path, at == 7 ? "new" : "old");
        assert_false(exists(in_dir("conf.tmp")));
        assert_int_equal(kei_file_replace(IO, path, "old", 3, 0600, NULL), 0);
    }
    /* what a crash left behind, with another mode, does not leak into the new file */
    int fd = open(in_dir("conf.tmp"), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    assert_true(fd >= 0 && fchmod(fd, 0666) == 0 && write(fd, "leftover", 8) == 8);
    close(fd);
    assert_int_equal(kei_file_replace(IO, path, "n", 1, 0600, NULL), 0);
    assert_int_equal(mode_of(path), 0600);
    expect_content(path, "n");
    assert_int_equal(kei_file_replace(IO, path, NULL, 0, 0600, NULL), 0); /* empty */
    expect_content(path, "");
    assert_int_equal(kei_file_replace(IO, in_dir("none/x"), "n", 1, 0600, &err), KE_ENOTFOUND);
}

static void test_read(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    struct faulty f;
    struct ke_buf b = {0};
    const char *path = in_dir("data");
    assert_int_equal(kei_file_read(IO, path, 10, &b, &err), KE_ENOTFOUND);
    assert_non_null(strstr(err.text, "data"));
    assert_int_equal(kei_file_replace(IO, path, "0123456789", 10, 0600, NULL), 0);
    kei_buf_adds(&b, "have:");
    assert_int_equal(kei_file_read(IO, path, 10, &b, NULL), 0);
    assert_string_equal(b.p, "have:0123456789");
    assert_int_equal(kei_file_read(IO, path, 9, &b, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "9 bytes"));
    assert_string_equal(b.p, "have:0123456789"); /* as it was */
    for (int at = 1; at <= 2; at++) {
        faulty_init(&f, at, KE_EIO);
        assert_int_equal(kei_file_read(&f.table, path, 10, &b, &err), KE_EIO);
        assert_string_equal(b.p, "have:0123456789");
    }
    ke_buf_free(&b);

    size_t big = 100000; /* several chunks */
    char *text = malloc(big);
    for (size_t i = 0; i < big; i++)
        text[i] = (char)(i * 31);
    assert_int_equal(kei_file_replace(IO, path, text, big, 0600, NULL), 0);
    assert_int_equal(kei_file_read(IO, path, big, &b, NULL), 0);
    assert_int_equal(b.n, big);
    assert_memory_equal(b.p, text, big);
    ke_buf_free(&b);
    assert_int_equal(kei_file_read(IO, path, big - 1, &b, NULL), KE_ELIMIT);
    ke_buf_free(&b);
    free(text);
    /* a file whose length reads 0 */
    assert_int_equal(kei_file_read(IO, "/proc/self/status", 1 << 20, &b, NULL), 0);
    assert_true(b.n > 100);
    ke_buf_free(&b);

    struct test_alloc a;
    test_alloc_init(&a);
    test_alloc_fail_at(&a, 1);
    kei_buf_init(&b, &a.table);
    assert_int_equal(kei_file_read(IO, path, big, &b, &err), KE_ENOMEM);
    ke_buf_free(&b);
    assert_int_equal(test_alloc_live(&a), 0);
}

static void test_remove_file(void **state)
{
    (void)state;
    struct faulty f;
    struct ke_error err = KE_ERROR_INIT;
    assert_int_equal(kei_file_replace(IO, in_dir("f"), "x", 1, 0600, NULL), 0);
    faulty_init(&f, 1, KE_EROFS);
    assert_int_equal(kei_file_remove(&f.table, in_dir("f"), &err), KE_EROFS);
    assert_non_null(strstr(err.text, "read-only"));
    faulty_init(&f, 0, 0);
    assert_int_equal(kei_file_remove(&f.table, in_dir("f"), NULL), 0);
    assert_string_equal(f.trace, "unlink sync_dir ");
    assert_false(exists(in_dir("f")));
    assert_int_equal(kei_file_remove(IO, in_dir("f"), NULL), 0);
}

static void test_folders(void **state)
{
    (void)state;
    struct faulty f;
    struct ke_error err = KE_ERROR_INIT;
    faulty_init(&f, 0, 0);
    assert_int_equal(kei_folder_make(&f.table, in_dir("d"), 0700, NULL), 0);
    assert_string_equal(f.trace, "mkdir sync_dir ");
    assert_int_equal(mode_of(in_dir("d")), 0700);
    assert_int_equal(kei_folder_make(IO, in_dir("d"), 0700, NULL), 0);
    assert_int_equal(symlink("d", in_dir("link")), 0); /* a data folder may be a link */
    assert_int_equal(kei_folder_make(IO, in_dir("link"), 0700, NULL), 0);
    assert_int_equal(kei_file_replace(IO, in_dir("file"), "x", 1, 0600, NULL), 0);
    assert_int_equal(kei_folder_make(IO, in_dir("file"), 0700, &err), KE_EEXIST);
    assert_int_equal(kei_folder_make(IO, in_dir("none/d"), 0700, &err), KE_ENOTFOUND);
    assert_non_null(strstr(err.text, "none/d"));
}

static void test_folder_lock(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    struct faulty f;
    struct ke_io_file *a = NULL, *b = NULL;
    assert_int_equal(kei_folder_lock(IO, dir, &a, NULL), 0);
    assert_int_equal(kei_folder_lock(IO, dir, &b, &err), KE_EBUSY);
    assert_null(b);
    assert_non_null(strstr(err.text, dir));
    pid_t pid = fork(); /* the lock is not passed on to what the host starts */
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(kei_folder_lock(IO, dir, &b, NULL) == KE_EBUSY ? 0 : 1);
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(IO->close(NULL, a), 0);
    faulty_init(&f, 2, KE_EIO);
    assert_int_equal(kei_folder_lock(&f.table, dir, &b, &err), KE_EIO);
    assert_int_equal(kei_folder_lock(IO, dir, &b, NULL), 0);
    assert_int_equal(IO->close(NULL, b), 0);
    assert_int_equal(kei_folder_lock(IO, in_dir("none"), &b, &err), KE_ENOTFOUND);
}

/* ---- whole folders ---- */

static void make_tree(void)
{
    static const char *const dirs[] = {"t", "t/a", "t/a/b", "t/a/b/c", "t/empty", "t/z"};
    static const char *const files[] = {"t/1", "t/2", "t/a/3", "t/a/b/c/4", "t/z/5", "t/z/6"};
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        assert_int_equal(mkdir(in_dir(dirs[i]), 0700), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_int_equal(kei_file_replace(IO, in_dir(files[i]), "x", 1, 0600, NULL), 0);
}

static void test_remove_tree(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    char slash[PATH_MAX];
    make_tree();
    assert_int_equal(mkdir(in_dir("outside"), 0700), 0);
    assert_int_equal(kei_file_replace(IO, in_dir("outside/keep"), "x", 1, 0600, NULL), 0);
    assert_int_equal(symlink("../../outside", in_dir("t/a/link")), 0); /* not followed */
    assert_int_equal(symlink("nowhere", in_dir("t/dangling")), 0);
    assert_int_equal(symlink("t", in_dir("tlink")), 0);
    assert_int_equal(kei_folder_remove(IO, in_dir("tlink"), &err), KE_EINVAL);
    assert_true(exists(in_dir("t/1")));
    assert_int_equal(unlink(in_dir("tlink")), 0);
    snprintf(slash, sizeof slash, "%s//", in_dir("t"));
    assert_int_equal(kei_folder_remove(IO, slash, &err), 0);
    assert_false(exists(in_dir("t")));
    assert_true(exists(in_dir("outside/keep")));
    assert_int_equal(kei_folder_remove(IO, in_dir("t"), &err), 0); /* missing: fine */
    assert_int_equal(kei_folder_remove(IO, in_dir("outside/keep"), &err), KE_EINVAL);
}

/* At whichever call it fails, the failure is told, and trying again ends it. */
static void test_remove_tree_failing(void **state)
{
    (void)state;
    struct faulty f;
    struct ke_error err = KE_ERROR_INIT;
    for (int at = 1;; at++) {
        make_tree();
        faulty_init(&f, at, KE_EIO);
        err.code = 0;
        int r = kei_folder_remove(&f.table, in_dir("t"), &err);
        if (f.n < at) {
            assert_int_equal(r, 0);
            assert_true(at > 20);
            break;
        }
        assert_int_equal(r, KE_EIO);
        assert_int_equal(err.code, KE_EIO);
        assert_non_null(strstr(err.text, dir));
        assert_int_equal(kei_folder_remove(IO, in_dir("t"), NULL), 0);
    }
}

/* Deeper than any path can name: made step by step, as a workload could. */
static void remove_deep_tree(uint32_t max)
{
    struct ke_error err = KE_ERROR_INIT;
    struct kei_folder_removal rm = {.root = 0};
    char name[201];
    memset(name, 'd', 200);
    name[200] = '\0';
    assert_int_equal(mkdir(in_dir("t"), 0700), 0);
    assert_int_equal(kei_file_replace(IO, in_dir("t/.kei-removed0"), "x", 1, 0600, NULL), 0);
    assert_int_equal(mkdir(in_dir("t/.kei-removed1"), 0700), 0);
    assert_int_equal(kei_file_replace(IO, in_dir("t/.kei-removed1/x"), "x", 1, 0600, NULL), 0);
    int at = open(in_dir("t"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 100; i++) { /* 20 kB of path */
        assert_int_equal(mkdirat(at, name, 0700), 0);
        int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int file = openat(next, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(next >= 0 && file >= 0);
        close(file);
        close(at);
        at = next;
    }
    close(at);
    int r = max ? 1 : kei_folder_remove(IO, in_dir("t"), &err);
    while (r > 0)
        r = kei_folder_remove_some(IO, &rm, in_dir("t"), max, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    assert_false(exists(in_dir("t")));
}

static void test_remove_deep_tree(void **state)
{
    (void)state;
    remove_deep_tree(0);
    remove_deep_tree(3);
}

/* A code alone would say nothing. */
static void test_link_circle(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_buf b;
    kei_buf_init(&b, kei_alloc_malloc());
    assert_int_equal(symlink("loop", in_dir("loop")), 0);
    assert_int_equal(kei_file_read(IO, in_dir("loop"), 10, &b, &err), KE_ELIMIT);
    assert_non_null(
        strstr(err.text, "loop: its name is too long, or symbolic links in it lead in"));
    assert_int_equal(kei_folder_make(IO, in_dir("loop"), 0700, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "lead in a circle"));
    assert_int_equal(kei_folder_make(IO, in_dir("loop/x"), 0700, &err), KE_ELIMIT);
    assert_non_null(strstr(err.text, "lead in a circle"));
    ke_buf_free(&b);
}

static int n_files(const char *folder)
{
    char cmd[PATH_MAX + 40], out[16] = "";
    snprintf(cmd, sizeof cmd, "find %s -mindepth 1 2>/dev/null | wc -l", folder);
    FILE *p = popen(cmd, "re");
    assert_non_null(p);
    assert_non_null(fgets(out, sizeof out, p));
    pclose(p);
    return (int)strtol(out, NULL, 10);
}

/* A slice takes away no more than it may; the next goes on where it was. */
static void test_remove_tree_in_slices(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    for (uint32_t max = 1; max < 20; max++) {
        struct kei_folder_removal rm = {.root = 0};
        make_tree();
        int before = n_files(in_dir("t")) + 1, slices = 0, r = 1;
        for (int n = before; r > 0; slices++) {
            r = kei_folder_remove_some(IO, &rm, in_dir("t"), max, &err);
            int now = exists(in_dir("t")) ? n_files(in_dir("t")) + 1 : 0;
            assert_true(now < n);
            assert_true(n - now <= (int)max);
            assert_int_equal(r, now > 0);
            n = now;
        }
        assert_int_equal(r, 0);
        assert_int_equal(slices, (before + (int)max - 1) / (int)max);
    }
}

static void test_long_paths(void **state)
{
    (void)state;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_io_file *f = NULL;
    static char path[PATH_MAX + 10];
    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    assert_int_equal(kei_file_replace(IO, path, "x", 1, 0600, &err), KE_ELIMIT);
    assert_int_equal(kei_folder_remove(IO, path, &err), KE_ELIMIT);
    assert_int_equal(kei_folder_lock(IO, path, &f, &err), KE_ELIMIT);
    path[PATH_MAX - 3] = '\0'; /* room for it, not for .tmp */
    assert_int_equal(kei_file_replace(IO, path, "x", 1, 0600, &err), KE_ELIMIT);
}

#define T(fn)                                                                                      \
    {                                                                                              \
#fn, fn, setup, teardown, NULL                                                             \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        T(test_join),
        T(test_open_flags),
        T(test_read_write),
        T(test_lock),
        T(test_names),
        T(test_not_regular),
        T(test_full),
        T(test_replace),
        T(test_read),
        T(test_remove_file),
        T(test_folders),
        T(test_folder_lock),
        T(test_remove_tree),
        T(test_remove_tree_failing),
        T(test_remove_deep_tree),
        T(test_remove_tree_in_slices),
        T(test_link_circle),
        T(test_long_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
