/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node that is made, started, stopped and freed again and again in one process (KE_STARTS times,
 * 200 by default), with a thread of its own and on the host's loop, as soon as it is up and at
 * once: no descriptor, thread or memory is left.
 */
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include <kubeedge/node.h>

static int starts(void)
{
    const char *text = getenv("KE_STARTS");
    return text ? atoi(text) : 200;
}

static int threads(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

struct seen {
    atomic_int offline;
};

static void on_state(void *user, const struct ke_node_status *st)
{
    struct seen *s = user;
    if (st->state == KE_NODE_OFFLINE)
        atomic_store(&s->offline, 1);
}

static bool is_offline(void *user)
{
    return atomic_load(&((struct seen *)user)->offline);
}

/* One life: ends when the node is up (whole), or at once. */
static void live(const char *data, bool own_thread, bool whole)
{
    struct test_env e;
    struct seen s = {0};
    struct ke_node_config c;
    struct ke_node_ops ops = {.size = sizeof ops, .state = on_state};
    struct ke_node *n = NULL;
    test_env_init(&e, TEST_REAL_CLOCK);
    ke_node_config_init(&c, sizeof c);
    c.name = "edge-1";
    c.data = data;
    c.cloud_host = "127.0.0.1"; /* nobody is there */
    c.tunnel_port = c.cert_port = 1;
    c.runtime = "none";
    int fd = -1;
    if (!own_thread)
        assert_int_equal(ke_ctx_fd(e.ctx, &fd), 0);
    assert_int_equal(ke_node_new(&n, e.ctx, &c, &ops, &s), 0);
    assert_int_equal(ke_node_start(n), 0);
    if (whole && own_thread)
        while (!is_offline(&s))
            usleep(200); /* the other thread is on its way */
    else if (whole)
        assert_true(test_drive(&e, is_offline, &s));
    ke_node_free(n);
    test_env_fini(&e); /* checks memory and descriptors */
}

static void started_again_and_again(void **state)
{
    (void)state;
    char data[200];
    int n = starts(), fds = fdcheck_count(), before = threads();
    test_tmp_make(data, sizeof data);
    for (int i = 0; i < n; i++)
        live(data, i % 2, i % 4 < 2);
    print_message("count: %d starts and ends of a node in one process\n", n);
    assert_int_equal(fdcheck_same(fds), 0);
    assert_int_equal(threads(), before);
    test_tmp_remove(data);
}

/* ---- a thread that cannot be had ---- */

static bool no_thread; /* of the loop; those of the disk worker and the resolver come */

int __real_kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                            void *arg);
int __wrap_kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                            void *arg);

int __wrap_kei_thread_start(pthread_t *ret, const char *name, size_t stack, void *(*fn)(void *arg),
                            void *arg)
{
    if (no_thread && !strchr(name, '-'))
        return EAGAIN;
    return __real_kei_thread_start(ret, name, stack, fn, arg);
}

static void told_state(void *user, const struct ke_node_status *st)
{
    (void)st;
    ++*(int *)user;
}

static void node_without_a_thread(void **state)
{
    (void)state;
    struct test_env e;
    struct ke_node_config c;
    struct ke_node_ops ops = {.size = sizeof ops, .state = told_state};
    struct ke_node_status st;
    struct ke_node *n = NULL;
    char data[200];
    int told = 0;
    test_env_init(&e, TEST_REAL_CLOCK);
    test_tmp_make(data, sizeof data);
    ke_node_config_init(&c, sizeof c);
    c.name = "edge-1";
    c.data = data;
    c.cloud_host = "127.0.0.1"; /* nobody is there */
    c.tunnel_port = c.cert_port = 1;
    c.runtime = "none";
    assert_int_equal(ke_node_new(&n, e.ctx, &c, &ops, &told), 0);
    no_thread = true;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ke_node_start(n), KE_EAGAIN);
        assert_non_null(strstr(ke_ctx_error(e.ctx), "could not start the thread"));
        assert_int_equal(ke_node_state(n, &st, sizeof st), 0);
        assert_int_equal(st.state, KE_NODE_STOPPED);
    }
    no_thread = false;
    assert_int_equal(told, 0);
    assert_int_equal(ke_node_start(n), 0);
    assert_int_equal(ke_node_state(n, &st, sizeof st), 0);
    assert_int_not_equal(st.state, KE_NODE_STOPPED);
    ke_node_free(n);
    test_env_fini(&e);
    test_tmp_remove(data);
}

/* ---- a full disk ---- */

static atomic_bool disk_full;

static int pwrite_or_full(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
{
    return disk_full ? KE_ENOSPC : ke_io_posix()->pwrite(user, f, p, n, off);
}

static int32_t told_error;

static void told_last(void *user, const struct ke_node_status *st)
{
    (void)user;
    told_error = st->last_error;
}

static bool told_full(void *user)
{
    (void)user;
    return told_error == KE_ENOSPC;
}

static bool told_other(void *user)
{
    (void)user;
    return told_error != KE_ENOSPC;
}

/* Who looks at the node sees it, and sees when it is over. */
static void full_disk_is_told(void **state)
{
    (void)state;
    struct test_env e;
    struct ke_io io = *ke_io_posix();
    struct ke_node_config c;
    struct ke_node_ops ops = {.size = sizeof ops, .state = told_last};
    struct ke_node_status st;
    struct ke_node *n = NULL;
    char data[200];
    io.pwrite = pwrite_or_full;
    disk_full = false;
    told_error = 0;
    test_env_init_io(&e, 0, &io);
    test_tmp_make(data, sizeof data);
    ke_node_config_init(&c, sizeof c);
    c.name = "edge-1";
    c.data = data;
    c.cloud_host = "127.0.0.1"; /* nobody is there */
    c.tunnel_port = c.cert_port = 1;
    c.runtime = "none";
    int fd;
    assert_int_equal(ke_ctx_fd(e.ctx, &fd), 0);
    assert_int_equal(ke_node_new(&n, e.ctx, &c, &ops, NULL), 0);
    assert_int_equal(ke_node_start(n), 0);
    disk_full = true;
    assert_true(test_drive(&e, told_full, NULL));
    assert_int_equal(ke_node_state(n, &st, sizeof st), 0);
    assert_int_equal(st.last_error, KE_ENOSPC);
    assert_non_null(strstr(st.error_text, "could not write to the store in "));
    disk_full = false;
    assert_true(test_drive(&e, told_other, NULL));
    ke_node_free(n);
    test_env_fini(&e);
    test_tmp_remove(data);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(started_again_and_again),
        cmocka_unit_test(node_without_a_thread),
        cmocka_unit_test(full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
