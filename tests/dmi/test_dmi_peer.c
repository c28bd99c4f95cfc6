/* SPDX-License-Identifier: Apache-2.0 */
/* A mapper by grpcio at our end, and our mapper at an EdgeCore by grpcio. */
#include "net/util.h"
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kubeedge/mapper.h>

extern char **environ;

/* A script that is given orders; its lines are kept. */
struct script {
    pid_t pid;
    int in, out;
    char text[20000];
    size_t n, seen;
    struct test_env *env;
    const char *wanted;
};

static void need_grpc(void)
{
    static const char *const argv[] = {"/usr/bin/python3", "-c", "import grpc, grpc_tools", NULL};
    pid_t pid;
    int status = -1;

    if (posix_spawn(&pid, argv[0], NULL, NULL, (char **)(uintptr_t)argv, environ) == 0)
        waitpid(pid, &status, 0);
    if (status != 0) {
        fprintf(stderr, "skipped: no python3 with grpcio and grpc_tools\n");
        skip();
    }
}

static void say(struct script *s, const char *order)
{
    assert_int_equal(write(s->in, order, strlen(order)), (ssize_t)strlen(order));
}

static bool has_line(void *arg)
{
    struct script *s = arg;
    ssize_t got;

    while ((got = read(s->out, s->text + s->n, sizeof s->text - 1 - s->n)) > 0)
        s->n += (size_t)got;
    s->text[s->n] = '\0';
    return strstr(s->text + s->seen, s->wanted) != NULL;
}

/* Runs the loop until a line of the script has that text; what came before is behind. */
static void expect(struct script *s, const char *wanted)
{
    s->wanted = wanted;
    if (!test_drive(s->env, has_line, s))
        fail_msg("no \"%s\" in: %s", wanted, s->text + s->seen);
    s->seen = (size_t)(strstr(s->text + s->seen, wanted) - s->text) + strlen(wanted);
}

static void start(struct script *s, struct test_env *env, const char *name, const char *arg)
{
    const char *dir = getenv("KE_TESTS");
    char path[500];
    int in[2], out[2];
    posix_spawn_file_actions_t fa;

    memset(s, 0, sizeof *s);
    s->env = env;
    snprintf(path, sizeof path, "%s/dmi/peers/%s", dir ? dir : "tests", name);
    const char *const argv[] = {"/usr/bin/python3", path, arg, NULL};
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, in[0], 0);
    posix_spawn_file_actions_adddup2(&fa, out[1], 1);
    assert_int_equal(posix_spawn(&s->pid, argv[0], &fa, NULL, (char **)(uintptr_t)argv, environ),
                     0);
    posix_spawn_file_actions_destroy(&fa);
    close(in[0]);
    close(out[1]);
    s->in = in[1];
    s->out = out[0];
    fcntl(s->out, F_SETFL, O_NONBLOCK);
    expect(s, "READY 1");
}

static void end(struct script *s, bool brutal)
{
    if (brutal)
        kill(s->pid, SIGKILL);
    else
        say(s, "quit\n");
    waitpid(s->pid, NULL, 0);
    close(s->in);
    close(s->out);
}

/* ---- a mapper at our end ---- */

static void put_device(struct dmi_rig *r, const char *operation, const char *name,
                       const char *desired)
{
    char text[4000], resource[100];

    dmi_device(text, sizeof text, name, "modbus", desired);
    snprintf(resource, sizeof resource, "default/device/%s", name);
    dmi_object(r, resource, operation, text);
}

static void begin(struct dmi_rig *r)
{
    need_grpc();
    dmi_init(r, TEST_REAL_CLOCK);
    dmi_start(r);
    dmi_object(r, "default/devicemodel/thermo-model", "insert", MODEL_OBJECT);
    put_device(r, "insert", "thermo-1", "20");
}

static void start_mapper(struct dmi_rig *r, struct script *s, const char *form)
{
    char arg[300];

    snprintf(arg, sizeof arg, "%s,%s,%s", r->socket, r->mapper_socket, form);
    start(s, &r->env, "mapper.py", arg);
}

static void grpcio_mapper(void **state)
{
    struct dmi_rig r;
    struct script s;

    (void)state;
    begin(&r);
    start_mapper(&r, &s, "v1beta1");
    say(&s, "register\n");
    expect(&s, "model thermo-model");
    expect(&s, "device default/thermo-1 {'big': 123456789, 'on': True, 'parity': 'even', "
               "'slaveID': 1.0} {'temperature': '20'}");
    expect(&s, "registered");
    put_device(&r, "insert", "thermo-2", "5");
    expect(&s, "RegisterDevice default/thermo-2");
    put_device(&r, "update", "thermo-2", "6");
    expect(&s, "UpdateDevice default/thermo-2");
    expect(&s, "{'temperature': '6'}");
    say(&s, "report temperature 21\n");
    expect(&s, "reported");
    assert_string_equal(r.topic, "$hw/events/device/thermo-1/twin/update");
    assert_non_null(strstr(r.payload, "\"twin\":{\"temperature\":{\"expected\":{\"value\":\"20\"},"
                                      "\"actual\":{\"value\":\"21\"}}}"));
    say(&s, "state online\n");
    expect(&s, "stated");
    assert_string_equal(r.topic, "$hw/events/device/thermo-1/state/update");
    r.refuse = "the value is not int or integer";
    say(&s, "report temperature hot\n");
    expect(&s, "error 2 the value is not int or integer");
    r.refuse = NULL;
    /* what no mapper should send */
    say(&s, "odd\n");
    expect(&s, "error 12 unknown method Nothing for service v1beta1.DeviceManagerService");
    expect(&s, "error 12 ");
    expect(&s, "error 13 message is no ");
    expect(&s, "error 2 ReportDeviceStatusRequest names no device");
    expect(&s, "error 8 message is larger than the limit of 1048576 bytes");
    expect(&s, "error 2 fail to register mapper py-mapper because the protocol is nil");
    expect(&s, "odd is over");
    say(&s, "report temperature 22\n");
    expect(&s, "reported");
    /* killed, and back: by registration */
    end(&s, true);
    put_device(&r, "update", "thermo-1", "23");
    dmi_object(&r, "default/device/thermo-2", "delete", NULL);
    start_mapper(&r, &s, "v1beta1");
    say(&s, "register\n");
    expect(&s, "{'temperature': '23'}");
    expect(&s, "registered");
    assert_null(strstr(s.text, "device default/thermo-2"));
    end(&s, false);
    dmi_fini(&r);
}

static void grpcio_mapper_that_does_not_register(void **state)
{
    struct dmi_rig r;
    struct script s;

    (void)state;
    begin(&r);
    start_mapper(&r, &s, "v1beta1");
    say(&s, "register\n");
    expect(&s, "registered");
    end(&s, true);
    put_device(&r, "update", "thermo-1", "23");
    start_mapper(&r, &s, "v1beta1"); /* it only listens: all is told again */
    expect(&s, "CreateDeviceModel thermo-model 2");
    expect(&s, "RegisterDevice default/thermo-1");
    expect(&s, "{'temperature': '23'}");
    /* the node restarts */
    dmi_stop(&r);
    dmi_start(&r);
    expect(&s, "RegisterDevice default/thermo-1");
    say(&s, "report temperature 21\n"); /* a channel of a client reconnects */
    expect(&s, "reported");
    end(&s, false);
    dmi_fini(&r);
}

static void grpcio_mapper_of_1_14(void **state)
{
    struct dmi_rig r;
    struct script s;

    (void)state;
    begin(&r);
    start_mapper(&r, &s, "v1alpha1");
    say(&s, "register\n");
    expect(&s, "device thermo-1 slave=1 twins={'temperature': '20'}");
    expect(&s, "registered");
    put_device(&r, "update", "thermo-1", "22");
    expect(&s, "UpdateDeviceStatus thermo-1 twins={'temperature': '22'}");
    say(&s, "report temperature 21\n");
    expect(&s, "reported");
    assert_non_null(strstr(r.payload, "\"actual\":{\"value\":\"21\"}"));
    end(&s, false);
    dmi_fini(&r);
}

/* ---- our mapper at an EdgeCore ---- */

static uint32_t state_of(struct ke_mapper *m)
{
    struct ke_mapper_status s;

    assert_int_equal(ke_mapper_status(m, &s, sizeof s), 0);
    return s.state;
}

static bool is_waiting(void *arg)
{
    return state_of(arg) == KE_MAPPER_WAITING;
}

static void our_mapper(void **state)
{
    struct test_env env;
    struct ke_mapper_config c;
    struct ke_mapper *m = NULL;
    struct script s;
    char dir[80], edge[100], own[100], arg[250];

    (void)state;
    need_grpc();
    test_env_init(&env, TEST_REAL_CLOCK);
    test_tmp_make(dir, sizeof dir);
    snprintf(edge, sizeof edge, "%s/dmi.sock", dir);
    snprintf(own, sizeof own, "%s/m.sock", dir);
    snprintf(arg, sizeof arg, "%s,%s", edge, own);
    ke_mapper_config_init(&c, sizeof c);
    c.protocol = "simulated";
    c.socket = own;
    c.edge_socket = edge;
    c.cycle_unit = KE_DEVICES_CYCLE_MS;
    assert_int_equal(ke_mapper_new(&m, env.ctx, &c), 0);
    assert_int_equal(ke_device_sim_register(ke_mapper_devices(m)), 0);
    start(&s, &env, "edge.py", arg);
    assert_int_equal(ke_mapper_start(m), 0);
    expect(&s, "register True simulated-mapper simulated True");
    expect(&s, "value sim-1 level 7 for 7");
    say(&s, "register\n"); /* of what it has */
    expect(&s, "pushed RegisterDevice sim-1");
    expect(&s, "pushed CreateDeviceModel sim-model");
    say(&s, "update 42\n");
    expect(&s, "value sim-1 level 42 for 42");
    /* the EdgeCore dies, and comes back without a memory of mappers */
    end(&s, true);
    assert_true(test_drive(&env, is_waiting, m));
    start(&s, &env, "edge.py", arg);
    expect(&s, "register True simulated-mapper simulated True");
    say(&s, "update 43\n");
    expect(&s, "value sim-1 level 43 for 43");
    say(&s, "remove\n");
    expect(&s, "pushed RemoveDevice -");
    expect(&s, "pushed RemoveDeviceModel -");
    struct ke_mapper_status st;
    assert_int_equal(ke_mapper_status(m, &st, sizeof st), 0);
    assert_int_equal(st.devices, 0);
    assert_int_equal(st.models, 0);
    end(&s, false);
    ke_mapper_free(m);
    test_tmp_remove(dir);
    test_env_fini(&env);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    static const struct CMUnitTest tests[] = {
        KE_TEST(grpcio_mapper),
        KE_TEST(grpcio_mapper_that_does_not_register),
        KE_TEST(grpcio_mapper_of_1_14),
        KE_TEST(our_mapper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
