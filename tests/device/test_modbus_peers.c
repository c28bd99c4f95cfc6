/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Modbus driver with servers of others: libmodbus in a thread, pymodbus in a process, both over
 * TCP and over a serial line (two ptys that socat joins). Skipped where they are not installed.
 */
#include "driver_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <modbus/modbus.h>

#include "device/modbus.h"

#define PYTHON "/usr/bin/python3"
#define SOCAT "/usr/bin/socat"
#define WAIT_MS 30000

/* ---- processes ---- */

struct child {
    pid_t pid;
    int in, out; /* its input, and its output or error */
};

/* err: what is read is its standard error. */
static void start(struct child *c, char *const *argv, bool err)
{
    extern char **environ;
    posix_spawn_file_actions_t a;
    int in[2], out[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&a);
    posix_spawn_file_actions_adddup2(&a, in[0], 0);
    posix_spawn_file_actions_adddup2(&a, out[1], err ? 2 : 1);
    assert_int_equal(posix_spawn(&c->pid, argv[0], &a, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&a);
    close(in[0]);
    close(out[1]);
    c->in = in[1];
    c->out = out[0];
}

/* Reads until a line has what; false when the process has ended before. */
static bool said(struct child *c, const char *what, char *line, size_t cap)
{
    size_t n = 0;

    for (;;) {
        struct pollfd p = {c->out, POLLIN, 0};
        char ch;
        if (poll(&p, 1, WAIT_MS) <= 0 || read(c->out, &ch, 1) != 1)
            return false;
        if (ch != '\n' && n + 1 < cap) {
            line[n++] = ch;
            continue;
        }
        line[n] = '\0';
        n = 0;
        if (strstr(line, what))
            return true;
    }
}

/* Ends it; its descriptors stay, so that a test that counts them may do this in its middle. */
static void end_child(struct child *c)
{
    if (c->pid <= 0)
        return;
    kill(c->pid, SIGTERM);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
}

static void stop(struct child *c)
{
    end_child(c);
    close(c->in);
    close(c->out);
}

/* ---- libmodbus ---- */

struct libmodbus {
    modbus_t *m;
    modbus_mapping_t *map;
    pthread_t thread;
    atomic_bool stop;
    int listener; /* -1: serial */
    uint16_t port;
};

static void serve(struct libmodbus *l)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];

    modbus_set_indication_timeout(l->m, 0, 50000);
    while (!atomic_load(&l->stop)) {
        int n = modbus_receive(l->m, query);
        if (n > 0)
            modbus_reply(l->m, query, n, l->map);
        else if (n < 0 && errno != ETIMEDOUT)
            return;
    }
}

static void *run(void *user)
{
    struct libmodbus *l = user;

    if (l->listener < 0) {
        serve(l);
        return NULL;
    }
    while (!atomic_load(&l->stop)) {
        struct pollfd p = {l->listener, POLLIN, 0};
        if (poll(&p, 1, 50) > 0 && modbus_tcp_accept(l->m, &l->listener) >= 0) {
            serve(l);
            modbus_close(l->m);
        }
    }
    return NULL;
}

static void libmodbus_start(struct libmodbus *l, const char *path)
{
    memset(l, 0, sizeof *l);
    l->listener = -1;
    l->m = path ? modbus_new_rtu(path, 115200, 'N', 8, 1) : modbus_new_tcp("127.0.0.1", 0);
    assert_non_null(l->m);
    l->map = modbus_mapping_new(200, 200, 200, 200);
    assert_non_null(l->map);
    for (int i = 0; i < 200; i++) {
        l->map->tab_registers[i] = l->map->tab_input_registers[i] = (uint16_t)(200 + i);
        l->map->tab_bits[i] = l->map->tab_input_bits[i] = i % 3 == 0;
    }
    if (path) {
        assert_int_equal(modbus_set_slave(l->m, 2), 0);
        assert_int_equal(modbus_connect(l->m), 0);
    } else {
        struct sockaddr_in a;
        socklen_t n = sizeof a;
        l->listener = modbus_tcp_listen(l->m, 1);
        assert_true(l->listener >= 0);
        assert_int_equal(getsockname(l->listener, (struct sockaddr *)&a, &n), 0);
        l->port = ntohs(a.sin_port);
    }
    assert_int_equal(pthread_create(&l->thread, NULL, run, l), 0);
}

static void libmodbus_stop(struct libmodbus *l)
{
    atomic_store(&l->stop, true);
    pthread_join(l->thread, NULL);
    if (l->listener < 0)
        modbus_close(l->m);
    else
        close(l->listener);
    modbus_mapping_free(l->map);
    modbus_free(l->m);
}

/* ---- what all of them must do ---- */

static const struct rig_property properties[] = {
    {"{\"register\":\"HoldingRegister\",\"offset\":10}", KE_DEVICE_INT},
    {"{\"register\":\"HoldingRegister\",\"offset\":11,\"limit\":2}", KE_DEVICE_FLOAT},
    {"{\"register\":\"InputRegister\",\"offset\":20,\"limit\":2}", KE_DEVICE_INT},
    {"{\"register\":\"CoilRegister\",\"offset\":5}", KE_DEVICE_BOOLEAN},
    {"{\"register\":\"CoilRegister\",\"offset\":6,\"limit\":5}", KE_DEVICE_INT},
    {"{\"register\":\"DiscreteInputRegister\",\"offset\":30,\"limit\":8}", KE_DEVICE_INT},
    {"{\"register\":\"HoldingRegister\",\"offset\":500}", KE_DEVICE_INT},
    {"{\"register\":\"HoldingRegister\",\"offset\":40,\"limit\":4,\"isRegisterSwap\":true,"
     "\"signed\":true}",
     KE_DEVICE_INT},
};
#define N (sizeof properties / sizeof properties[0])

static void a_life(struct rig *r, const char *config)
{
    static struct rig_device d;
    const struct ke_device_value v[] = {
        {.size = sizeof v[0], .property = 0, .kind = KE_DEVICE_KIND_INT, .i = 4711},
        {.size = sizeof v[0], .property = 1, .kind = KE_DEVICE_KIND_DOUBLE, .d = -12.5},
        {.size = sizeof v[0], .property = 3, .kind = KE_DEVICE_KIND_BOOL, .i = 1},
        {.size = sizeof v[0], .property = 4, .kind = KE_DEVICE_KIND_INT, .i = 0x15},
        {.size = sizeof v[0], .property = 6, .kind = KE_DEVICE_KIND_INT, .i = 1},
        {.size = sizeof v[0], .property = 7, .kind = KE_DEVICE_KIND_INT, .i = -123456789012345},
    };

    int s = rig_open(r, &d, config, properties, N);
    if (s < 0)
        fail_msg("%s: %s", config, d.text);
    assert_int_equal(rig_read_all(&d), 0);
    assert_int_equal(rig_value(&d, 0)->v.i, 210);
    assert_int_equal(rig_value(&d, 2)->v.i, 220 << 16 | 221);
    assert_int_equal(rig_value(&d, 3)->v.i, 0);
    assert_int_equal(rig_value(&d, 4)->v.i, 0x09); /* 6 and 9 */
    assert_int_equal(rig_value(&d, 5)->v.i, 0x49); /* 30, 33 and 36 */
    assert_int_equal(rig_value(&d, 6)->v.status, KE_ENOTFOUND);
    assert_non_null(strstr(rig_value(&d, 6)->text, "holding register 500: illegal data address"));
    assert_int_equal(rig_write(&d, v, 6), 0);
    assert_int_equal(d.n_values, 1);
    assert_int_equal(rig_value(&d, 6)->v.status, KE_ENOTFOUND);
    assert_int_equal(rig_read_all(&d), 0);
    assert_int_equal(rig_value(&d, 0)->v.i, 4711);
    assert_true(rig_value(&d, 1)->v.d == -12.5);
    assert_int_equal(rig_value(&d, 3)->v.i, 1);
    assert_int_equal(rig_value(&d, 4)->v.i, 0x15);
    assert_int_equal(rig_value(&d, 7)->v.i, -123456789012345);
    for (int i = 0; i < 20; i++)
        assert_int_equal(rig_read(&d, (const uint32_t[]){0, 3}, 2), 0);
    assert_int_equal(rig_health(&d), 0);
    assert_int_equal(rig_close(&d), 0);
}

static void rig_setup(struct rig *r)
{
    struct kei_modbus *m = NULL;

    rig_init(r, TEST_REAL_CLOCK);
    assert_int_equal(kei_modbus_new(&m, r->env.ctx, NULL), 0);
    rig_driver(r, &kei_modbus_ops, m);
}

/* ---- lines ---- */

struct line {
    struct child socat;
    char folder[200];
    char a[220], b[220]; /* ends */
};

static void line_start(struct line *l)
{
    char left[300], right[300], said_line[300];

    test_tmp_make(l->folder, sizeof l->folder);
    snprintf(l->a, sizeof l->a, "%s/a", l->folder);
    snprintf(l->b, sizeof l->b, "%s/b", l->folder);
    snprintf(left, sizeof left, "pty,raw,echo=0,link=%s", l->a);
    snprintf(right, sizeof right, "pty,raw,echo=0,link=%s", l->b);
    char *argv[] = {(char *)(uintptr_t)SOCAT,
                    (char *)(uintptr_t) "-d",
                    (char *)(uintptr_t) "-d",
                    left,
                    right,
                    NULL};
    start(&l->socat, argv, true);
    assert_true(said(&l->socat, "starting data transfer loop", said_line, sizeof said_line));
}

static void line_stop(struct line *l)
{
    stop(&l->socat);
    test_tmp_remove(l->folder);
}

static void python_start(struct child *c, const char *kind, const char *path, unsigned *port)
{
    char script[400], line[100];

    snprintf(script, sizeof script, "%s/device/modbus_server.py", getenv("KE_TESTS"));
    char *argv[] = {(char *)(uintptr_t)PYTHON, script, (char *)(uintptr_t)kind,
                    (char *)(uintptr_t)path, NULL};
    start(c, argv, false);
    if (!said(c, "ready ", line, sizeof line)) {
        stop(c);
        skip(); /* no pymodbus */
    }
    *port = (unsigned)strtoul(line + 6, NULL, 10);
}

/* ---- tests ---- */

static void libmodbus_tcp(void **state)
{
    struct libmodbus l;
    char config[200];
    struct rig r;

    (void)state;
    rig_setup(&r); /* its count of descriptors is from before the thread, and after it */
    libmodbus_start(&l, NULL);
    snprintf(config, sizeof config, "{\"slaveID\":255,\"ip\":\"127.0.0.1\",\"port\":%u}", l.port);
    a_life(&r, config);
    libmodbus_stop(&l);
    rig_fini(&r);
}

static void libmodbus_rtu(void **state)
{
    struct libmodbus l;
    struct line line;
    char config[400];
    struct rig r;

    (void)state;
    if (access(SOCAT, X_OK) < 0 || !test_has_pty())
        skip();
    line_start(&line);
    rig_setup(&r);
    libmodbus_start(&l, line.b);
    snprintf(config, sizeof config,
             "{\"slaveID\":2,\"serialPort\":\"%s\",\"baudRate\":115200,\"parity\":\"none\"}",
             line.a);
    a_life(&r, config);
    libmodbus_stop(&l);
    rig_fini(&r);
    line_stop(&line);
}

static void pymodbus_tcp(void **state)
{
    struct child c;
    char config[200];
    unsigned port = 0;
    struct rig r;

    (void)state;
    if (access(PYTHON, X_OK) < 0)
        skip();
    python_start(&c, "tcp", NULL, &port);
    rig_setup(&r);
    snprintf(config, sizeof config, "{\"slaveID\":2,\"ip\":\"127.0.0.1\",\"port\":%u}", port);
    a_life(&r, config);
    end_child(&c); /* the server goes away */
    static struct rig_device d;
    assert_int_equal(rig_open(&r, &d, config, properties, 1), KE_ECONN);
    assert_int_equal(rig_close(&d), 0);
    rig_fini(&r);
    stop(&c);
}

static void pymodbus_rtu(void **state)
{
    struct child c;
    struct line line;
    char config[400];
    unsigned port = 0;
    struct rig r;

    (void)state;
    if (access(PYTHON, X_OK) < 0 || access(SOCAT, X_OK) < 0 || !test_has_pty())
        skip();
    line_start(&line);
    python_start(&c, "rtu", line.b, &port);
    rig_setup(&r);
    snprintf(config, sizeof config, "{\"slaveID\":2,\"serialPort\":\"%s\",\"baudRate\":115200}",
             line.a);
    a_life(&r, config);
    /* the line is cut while the device is open */
    static struct rig_device d;
    assert_int_equal(rig_open(&r, &d, config, properties, 1), 0);
    end_child(&line.socat);
    int s = rig_read_all(&d);
    assert_true(s == KE_ECLOSED || s == KE_ECONN || s == KE_EIO || s == KE_ETIMEDOUT);
    assert_int_equal(rig_close(&d), 0);
    rig_fini(&r);
    stop(&c);
    line_stop(&line);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(libmodbus_tcp),
        KE_TEST(libmodbus_rtu),
        KE_TEST(pymodbus_tcp),
        KE_TEST(pymodbus_rtu),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
