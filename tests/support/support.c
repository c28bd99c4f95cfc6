/* SPDX-License-Identifier: Apache-2.0 */
/* See support.h. */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

static void log_line(void *user, uint32_t level, const char *area, const char *text)
{
    struct test_env *e = user;
    if (e->flags & TEST_LOG)
        fprintf(stderr, "[%u %s] %s\n", (unsigned)level, area, text);
    if (level == KE_LOG_ERROR)
        atomic_fetch_add(&e->log_errors, 1);
    atomic_fetch_add(&e->log_lines, 1);
    static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mu);
    snprintf(e->last_log, sizeof e->last_log, "%s: %s", area, text);
    pthread_mutex_unlock(&mu);
}

void test_env_init_io(struct test_env *e, uint32_t flags, const struct ke_io *io)
{
    memset(e, 0, sizeof *e);
    e->flags = flags | (getenv("KE_TEST_LOG") ? TEST_LOG : 0);
    e->idle_ms = 20;
    e->max_virtual_ms = INT64_C(24) * 3600 * 1000;
    e->max_real_ms = 120000;
    e->fds_before = fdcheck_count();
    test_alloc_init(&e->alloc);
    test_clock_init(&e->clock);
    struct ke_ctx_config c;
    ke_ctx_config_init(&c, sizeof c);
    c.alloc = &e->alloc.table;
    c.clock = flags & TEST_REAL_CLOCK ? NULL : &e->clock.table;
    c.io = io;
    c.log = log_line;
    c.log_user = e;
    c.log_level = KE_LOG_DEBUG;
    struct ke_error err = KE_ERROR_INIT;
    if (ke_ctx_new(&e->ctx, &c, &err) < 0)
        fail_msg("no context: %s", err.text);
}

void test_env_init(struct test_env *e, uint32_t flags)
{
    test_env_init_io(e, flags, NULL);
}

void test_env_fini(struct test_env *e)
{
    ke_ctx_free(e->ctx);
    e->ctx = NULL;
    if (atomic_load(&e->log_errors) > 0)
        fail_msg("%u error lines were logged, the last line was \"%s\"",
                 atomic_load(&e->log_errors), e->last_log);
    assert_int_equal(test_alloc_live(&e->alloc), 0);
    assert_int_equal(fdcheck_same(e->fds_before), 0);
}

static int64_t real_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int loop_fd(struct test_env *e)
{
    int fd = -1;
    if (ke_ctx_fd(e->ctx, &fd) < 0)
        fail_msg("the context is driven by a thread of its own");
    return fd;
}

static bool readable_within(int fd, int64_t ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int r = poll(&p, 1, (int)ms);
    return r > 0 || (r < 0 && errno == EINTR);
}

static int64_t next_timer(struct test_env *e)
{
    int64_t left = -1;
    if (ke_ctx_prepare(e->ctx, &left) < 0)
        fail_msg("%s", ke_ctx_error(e->ctx));
    return left;
}

static void turn(struct test_env *e)
{
    if (ke_ctx_dispatch(e->ctx) < 0)
        fail_msg("%s", ke_ctx_error(e->ctx));
}

/* One step: what is due now, or else real waiting, or else the clock moves, by at most limit ms. */
static int64_t step(struct test_env *e, int fd, int64_t limit)
{
    int64_t left = next_timer(e);
    if (left == 0 || readable_within(fd, 0)) {
        turn(e);
        return 0;
    }
    /* With the real clock the fd knows the timers: any length of wait ends in time. */
    if ((e->flags & TEST_REAL_CLOCK) || kei_work_pending(e->ctx) > 0) {
        if (readable_within(fd, 100))
            turn(e);
        return 0;
    }
    if (readable_within(fd, e->idle_ms)) {
        turn(e);
        return 0;
    }
    int64_t move = left < 0 || left > limit ? limit : left;
    test_clock_advance(&e->clock, move);
    return move;
}

bool test_drive(struct test_env *e, bool (*pred)(void *arg), void *arg)
{
    int fd = loop_fd(e);
    int64_t start = real_now_ms(), virtual_left = e->max_virtual_ms;
    while (!pred(arg)) {
        if (real_now_ms() - start > e->max_real_ms || virtual_left <= 0)
            return false;
        /* Without a timer only another thread or process can help: small steps of the clock. */
        int64_t limit = next_timer(e) < 0 ? 1000 : virtual_left;
        virtual_left -= step(e, fd, limit < virtual_left ? limit : virtual_left);
    }
    return true;
}

void test_drive_ms(struct test_env *e, int64_t ms)
{
    int fd = loop_fd(e);
    int64_t end = ke_ctx_mono_ms(e->ctx) + ms, start = real_now_ms();
    for (int64_t now; (now = ke_ctx_mono_ms(e->ctx)) < end;) {
        if (real_now_ms() - start > e->max_real_ms + ms)
            fail_msg("the loop did not come to rest");
        step(e, fd, end - now);
    }
    test_settle(e);
}

void test_settle(struct test_env *e)
{
    int fd = loop_fd(e);
    int64_t start = real_now_ms();
    while (next_timer(e) == 0 || readable_within(fd, 0) || kei_work_pending(e->ctx) > 0) {
        if (real_now_ms() - start > e->max_real_ms)
            fail_msg("the loop did not come to rest");
        if (readable_within(fd, kei_work_pending(e->ctx) > 0 ? 100 : 0) || next_timer(e) == 0)
            turn(e);
    }
}

void test_tmp_make(char *out, size_t n)
{
    const char *base = getenv("TMPDIR");
    if (snprintf(out, n, "%s/ke-test-XXXXXX", base && base[0] ? base : "/tmp") >= (int)n ||
        !mkdtemp(out))
        fail_msg("no temporary folder: %s", strerror(errno));
}

void test_tmp_remove(const char *path)
{
    struct ke_error err = KE_ERROR_INIT;
    if (kei_folder_remove(ke_io_posix(), path, &err) < 0)
        fail_msg("%s", err.text);
}

bool test_true(void *flag)
{
    return *(const bool *)flag;
}

bool test_nonzero(void *count)
{
    return *(const int *)count != 0;
}

bool test_has_pty(void)
{
    char path[64];
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    bool ok = fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0 &&
              ptsname_r(fd, path, sizeof path) == 0 && access(path, R_OK | W_OK) == 0;

    if (fd >= 0)
        close(fd);
    if (!ok)
        print_message("there are no pseudo-terminals here: is devpts mounted?\n");
    return ok;
}
