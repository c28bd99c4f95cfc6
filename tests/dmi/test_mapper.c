/* SPDX-License-Identifier: Apache-2.0 */
/* A mapper with the simulated driver at the node's end of DMI, both in one process. */
#include "rig.h"

#include <kubeedge/mapper.h>

#include "dmi/convert.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "dmi/mapper_priv.h"
#include "net/grpc.h"
#include "net/http.h"

#define SIM_MODEL                                                                                  \
    "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"DeviceModel\",\"metadata\":{"      \
    "\"name\":\"sim-model\",\"namespace\":\"default\"},\"spec\":{\"protocol\":\"simulated\","      \
    "\"properties\":[{\"name\":\"level\",\"type\":\"INT\",\"accessMode\":\"ReadWrite\"}]}}"

static void put_sim(struct dmi_rig *r, const char *operation, const char *name, const char *desired)
{
    char text[2000], resource[100];

    snprintf(text, sizeof text,
             "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"metadata\":{"
             "\"name\":\"%s\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":"
             "\"sim-model\"},\"nodeName\":\"edge-1\",\"protocol\":{\"protocolName\":\"simulated\","
             "\"configData\":{}},\"properties\":[{\"name\":\"level\",\"desired\":{\"value\":\"%s\"}"
             ",\"visitors\":{\"protocolName\":\"simulated\",\"configData\":{\"function\":"
             "\"constant\",\"value\":7}},\"collectCycle\":1000,\"reportCycle\":1000,"
             "\"reportToCloud\":true}]}}",
             name, desired);
    snprintf(resource, sizeof resource, "default/device/%s", name);
    dmi_object(r, resource, operation, text);
}

static void init(struct dmi_rig *r, struct ke_mapper **m)
{
    struct ke_mapper_config c;

    dmi_init(r, 0);
    r->env.idle_ms = 3; /* all is in this process */
    dmi_start(r);
    dmi_object(r, "default/devicemodel/sim-model", "insert", SIM_MODEL);
    ke_mapper_config_init(&c, sizeof c);
    c.protocol = "simulated";
    c.socket = r->mapper_socket;
    c.edge_socket = r->socket;
    c.cycle_unit = KE_DEVICES_CYCLE_MS;
    if (ke_mapper_new(m, r->env.ctx, &c) < 0)
        fail_msg("%s", ke_ctx_error(r->env.ctx));
    assert_int_equal(ke_device_sim_register(ke_mapper_devices(*m)), 0);
}

static struct ke_mapper_status status(struct ke_mapper *m)
{
    struct ke_mapper_status s;
    assert_int_equal(ke_mapper_status(m, &s, sizeof s), 0);
    return s;
}

static bool has_payload(void *arg)
{
    struct dmi_rig *r = arg;
    return strstr(r->topic, "twin/update") && strstr(r->payload, "\"actual\"");
}

static void wait_report(struct dmi_rig *r)
{
    r->topic[0] = '\0';
    assert_true(test_drive(&r->env, has_payload, r));
}

struct listed {
    int n;
    uint32_t online;
    int64_t since_ms; /* of the last one */
    char names[200];
    uint64_t reconnects;
};

static void on_device(void *user, const struct ke_device_status *s)
{
    struct listed *l = user;
    l->reconnects = s->reconnects;
    size_t n = strlen(l->names);
    l->n++;
    l->online += s->state == KE_DEVICE_ONLINE;
    l->since_ms = s->online_ms;
    snprintf(l->names + n, sizeof l->names - n, "%s ", s->name);
}

static struct listed listed(struct ke_mapper *m)
{
    struct listed l = {0};
    assert_int_equal(ke_devices_list(ke_mapper_devices(m), on_device, &l), 0);
    return l;
}

static void from_object_to_report(void **state)
{
    struct dmi_rig r;
    struct ke_mapper *m;

    (void)state;
    init(&r, &m);
    put_sim(&r, "insert", "sim-1", "");
    assert_int_equal(status(m).state, KE_MAPPER_STOPPED);
    assert_int_equal(ke_mapper_start(m), 0);
    assert_int_equal(ke_mapper_start(m), KE_ESTATE);
    wait_report(&r);
    assert_int_equal(status(m).state, KE_MAPPER_REGISTERED);
    assert_int_equal(status(m).devices, 1);
    assert_int_equal(status(m).models, 1);
    assert_string_equal(r.topic, "$hw/events/device/sim-1/twin/update");
    assert_non_null(strstr(r.payload, "\"level\":{\"actual\":{\"value\":\"7\"}}"));
    /* desired is written and seen */
    put_sim(&r, "update", "sim-1", "42");
    wait_report(&r);
    for (int i = 0; i < 5 && !strstr(r.payload, "\"actual\":{\"value\":\"42\"}"); i++)
        wait_report(&r);
    assert_non_null(strstr(r.payload, "\"expected\":{\"value\":\"42\"}"));
    assert_non_null(strstr(r.payload, "\"actual\":{\"value\":\"42\"}"));
    /* pushed one by one */
    put_sim(&r, "insert", "sim-2", "1");
    test_drive_ms(&r.env, 3000);
    assert_int_equal(listed(m).online, 2);
    dmi_object(&r, "default/device/sim-1", "delete", NULL);
    test_drive_ms(&r.env, 3000);
    assert_string_equal(listed(m).names, "sim-2 ");
    assert_int_equal(status(m).devices, 1);
    assert_true(status(m).pushes >= 3);
    assert_int_equal(status(m).refused, 0);
    ke_mapper_free(m);
    dmi_fini(&r);
}

static void edge_comes_late(void **state)
{
    struct dmi_rig r;
    struct ke_mapper *m;

    (void)state;
    init(&r, &m);
    put_sim(&r, "insert", "sim-1", "");
    put_sim(&r, "insert", "sim-2", "");
    kei_dmi_free(r.dmi);
    r.dmi = NULL;
    test_settle(&r.env);
    assert_int_equal(ke_mapper_start(m), 0);
    test_drive_ms(&r.env, 5000);
    assert_int_equal(status(m).state, KE_MAPPER_WAITING);
    assert_true(status(m).last_error < 0);
    assert_non_null(strstr(status(m).error_text, "dmi.sock"));
    dmi_restart(&r);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(status(m).state, KE_MAPPER_REGISTERED);
    assert_int_equal(status(m).last_error, 0);
    assert_int_equal(listed(m).online, 2);
    /* it goes, a device goes meanwhile, and it comes back */
    kei_dmi_free(r.dmi);
    r.dmi = NULL;
    dmi_object(&r, "default/device/sim-1", "delete", NULL);
    test_drive_ms(&r.env, 5000);
    assert_int_equal(status(m).state, KE_MAPPER_WAITING);
    assert_int_equal(listed(m).online, 2); /* they go on */
    dmi_restart(&r);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(status(m).state, KE_MAPPER_REGISTERED);
    assert_int_equal(status(m).registrations, 2);
    assert_string_equal(listed(m).names, "sim-2 ");
    r.topic[0] = '\0';
    put_sim(&r, "update", "sim-2", "5");
    wait_report(&r);
    /* it comes back without any memory: what it does not name is gone */
    char folder[100];
    dmi_stop(&r);
    snprintf(folder, sizeof folder, "%s/store", r.dir);
    test_tmp_remove(folder);
    dmi_start(&r);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(status(m).state, KE_MAPPER_REGISTERED);
    assert_int_equal(status(m).devices, 0);
    assert_int_equal(status(m).models, 0);
    assert_int_equal(listed(m).n, 0);
    ke_mapper_free(m);
    dmi_fini(&r);
}

/* The same device told again is not opened again. */
static void unchanged_is_left_alone(void **state)
{
    struct dmi_rig r;
    struct ke_mapper *m;
    int64_t since_ms;

    (void)state;
    init(&r, &m);
    put_sim(&r, "insert", "sim-1", "");
    assert_int_equal(ke_mapper_start(m), 0);
    test_drive_ms(&r.env, 5000);
    assert_int_equal(listed(m).online, 1);
    since_ms = listed(m).since_ms;
    dmi_restart(&r); /* all is told again */
    test_drive_ms(&r.env, 60000);
    assert_int_equal(status(m).registrations, 2);
    assert_int_equal(listed(m).online, 1);
    assert_true(listed(m).since_ms == since_ms);
    ke_mapper_free(m);
    dmi_fini(&r);
}

/* ---- as an EdgeCore sees it ---- */

struct ask {
    bool done;
    uint32_t code;
    char text[300];
    struct ke_buf message;
};

static void on_done(void *user, const struct kei_grpc_answer *a)
{
    struct ask *k = user;
    k->done = true;
    k->code = a->code;
    snprintf(k->text, sizeof k->text, "%s", a->text);
    kei_buf_clear(&k->message);
    kei_buf_addv(&k->message, a->message);
}

static void ask(struct dmi_rig *r, struct kei_grpc_client *c, struct ask *k, const char *method,
                const void *q)
{
    struct ke_buf b;
    char path[100];

    kei_buf_init(&b, kei_alloc_malloc());
    kei_pb_pack(&b, q);
    snprintf(path, sizeof path, "/v1beta1.DeviceMapperService/%s", method);
    k->done = false;
    assert_int_equal(kei_grpc_ask(NULL, c, path, kei_buf_str(&b), 5000, on_done, k), 0);
    ke_buf_free(&b);
    assert_true(test_drive(&r->env, test_true, &k->done));
}

static void calls_of_the_edge(void **state)
{
    struct dmi_rig r;
    struct ke_mapper *m;
    struct kei_grpc_client *c;
    struct ask k = {0};
    struct kei_arena a;
    void *q = NULL;
    Kei__B1__NameOf name;
    Kei__B1__DeviceRequest device;

    (void)state;
    kei_buf_init(&k.message, kei_alloc_malloc());
    kei_arena_init(&a, kei_alloc_malloc(), 0);
    init(&r, &m);
    put_sim(&r, "insert", "sim-1", "3");
    assert_int_equal(ke_mapper_start(m), 0);
    test_drive_ms(&r.env, 1000);
    const struct kei_grpc_client_config gc = {.stream = {.unix_path = r.mapper_socket}};
    assert_int_equal(kei_grpc_client_new(&c, r.env.ctx, &gc), 0);
    kei__b1__name_of__init(&name);
    name.name = kei_pb_str("sim-1"); /* no namespace: as KubeEdge 1.15 asks */
    ask(&r, c, &k, "GetDevice", &name);
    assert_int_equal(k.code, 0);
    assert_int_equal(
        kei_pb_unpack(&q, &kei__b1__device_response__descriptor, kei_buf_str(&k.message), &a, NULL),
        0);
    const Kei__B1__Device *d = ((Kei__B1__DeviceResponse *)q)->device;
    assert_string_equal(d->name, "sim-1");
    assert_string_equal(d->spec->properties[0]->desired->value, "3");
    assert_int_equal(d->status->n_twins, 1); /* as it is now */
    assert_string_equal(d->status->twins[0]->propertyname, "level");
    assert_string_equal(d->status->twins[0]->observeddesired->value, "3");
    assert_string_equal(d->status->twins[0]->reported->value, "3");
    assert_string_equal(d->status->twins[0]->reported->metadata[0]->key, "type");
    assert_string_equal(d->status->twins[0]->reported->metadata[0]->value, "int");
    name.name = kei_pb_str("sim-9");
    ask(&r, c, &k, "GetDevice", &name);
    assert_int_equal(k.code, 2);
    ask(&r, c, &k, "RemoveDevice", &name); /* gone already */
    assert_int_equal(k.code, 0);
    kei__b1__device_request__init(&device);
    ask(&r, c, &k, "RegisterDevice", &device);
    assert_int_equal(k.code, 2);
    assert_string_equal(k.text, "the request has no device");
    ask(&r, c, &k, "Nothing", &device);
    assert_int_equal(k.code, 12);
    assert_string_equal(k.text, "unknown method Nothing for service v1beta1.DeviceMapperService");
    k.done = false; /* no message at all */
    assert_int_equal(kei_grpc_ask(NULL, c, "/v1beta1.DeviceMapperService/UpdateDevice",
                                  KEI_STR("\x0a\xff\xff"), 5000, on_done, &k),
                     0);
    assert_true(test_drive(&r.env, test_true, &k.done));
    assert_int_equal(k.code, 13);
    k.done = false; /* gRPC's own question whether it lives */
    assert_int_equal(
        kei_grpc_ask(NULL, c, "/grpc.health.v1.Health/Check", kei_strn("", 0), 5000, on_done, &k),
        0);
    assert_true(test_drive(&r.env, test_true, &k.done));
    assert_int_equal(k.code, 0);
    assert_int_equal(k.message.n, 2);
    assert_memory_equal(k.message.p, "\x08\x01", 2);
    name.name = kei_pb_str("a b");
    ask(&r, c, &k, "RemoveDevice", &name);
    assert_int_equal(k.code, 2);
    name.name = kei_pb_str("sim-1");
    ask(&r, c, &k, "RemoveDevice", &name);
    assert_int_equal(k.code, 0);
    assert_int_equal(status(m).devices, 0);
    assert_int_equal(listed(m).n, 0);
    kei_grpc_client_free(c);
    ke_mapper_free(m);
    kei_arena_free(&a);
    ke_buf_free(&k.message);
    dmi_fini(&r);
}

/* It asks for its devices again and again; those that are unchanged do not notice. */
static void asks_again(void **state)
{
    struct dmi_rig r;
    struct ke_mapper *m;
    struct ke_mapper_config c;

    (void)state;
    init(&r, &m);
    ke_mapper_free(m);
    ke_mapper_config_init(&c, sizeof c);
    c.protocol = "simulated";
    c.socket = r.mapper_socket;
    c.edge_socket = r.socket;
    c.cycle_unit = KE_DEVICES_CYCLE_MS;
    c.refresh_ms = 10000;
    assert_int_equal(ke_mapper_new(&m, r.env.ctx, &c), 0);
    assert_int_equal(ke_device_sim_register(ke_mapper_devices(m)), 0);
    put_sim(&r, "insert", "sim-1", "3");
    assert_int_equal(ke_mapper_start(m), 0);
    test_drive_ms(&r.env, 1000);
    assert_int_equal(status(m).registrations, 1);
    uint64_t reconnects = listed(m).reconnects;
    test_drive_ms(&r.env, 31000);
    assert_int_equal(status(m).registrations, 4);
    assert_int_equal(status(m).state, KE_MAPPER_REGISTERED);
    assert_int_equal(listed(m).reconnects, reconnects);
    /* the pause is not in the way when the node is lost */
    dmi_restart(&r);
    test_drive_ms(&r.env, 3000);
    assert_int_equal(status(m).registrations, 5);
    ke_mapper_free(m);
    dmi_fini(&r);
}

struct http {
    bool done;
    uint32_t status;
    char body[300];
};

static void on_http(void *user, int status, const char *text, const struct kei_http_head *head,
                    struct ke_str body)
{
    struct http *h = user;

    (void)text;
    h->done = true;
    h->status = status < 0 ? 0 : head->status;
    snprintf(h->body, sizeof h->body, "%.*s", KEI_FMT(body));
}

/* A write over HTTP to a device that nobody serves is answered all the same; and so is one that is
 * under way at the end. */
static void http_write_to_nothing(void **state)
{
    static const char object[] =
        "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"metadata\":{"
        "\"name\":\"x-1\",\"namespace\":\"default\"},\"spec\":{\"deviceModelRef\":{\"name\":"
        "\"sim-model\"},\"protocol\":{\"protocolName\":\"nothing\",\"configData\":{}},"
        "\"methods\":[{\"name\":\"set\",\"propertyNames\":[\"level\"]}],\"properties\":[{"
        "\"name\":\"level\",\"visitors\":{\"protocolName\":\"nothing\",\"configData\":{}}}]}}";
    struct dmi_rig r;
    struct ke_mapper *m;
    struct ke_mapper_config c;
    struct kei_http_call *call = NULL;
    struct http h = {0};

    (void)state;
    dmi_init(&r, 0);
    dmi_start(&r);
    dmi_object(&r, "default/devicemodel/sim-model", "insert", SIM_MODEL);
    dmi_object(&r, "default/device/x-1", "insert", object);
    ke_mapper_config_init(&c, sizeof c);
    c.protocol = "nothing";
    c.socket = r.mapper_socket;
    c.edge_socket = r.socket;
    c.http_listen = "127.0.0.1:0";
    assert_int_equal(ke_mapper_new(&m, r.env.ctx, &c), 0);
    assert_int_equal(ke_mapper_start(m), 0);
    test_drive_ms(&r.env, 1000);
    assert_int_equal(status(m).devices, 1);
    struct kei_http_call_config hc = {
        .stream = {.host = "127.0.0.1", .port = kei_mapper_http_port(m)},
        .method = "GET",
        .target = "/api/v1/devicemethod/default/x-1/set/level/5",
        .timeout_ms = 20000};
    assert_int_equal(kei_http_call(&call, r.env.ctx, &hc, on_http, &h), 0);
    assert_true(test_drive(&r.env, test_true, &h.done));
    assert_int_equal(h.status, 500);
    assert_non_null(strstr(h.body, "has not taken it yet"));
    kei_http_call_free(call);
    h.done = false;
    assert_int_equal(kei_http_call(&call, r.env.ctx, &hc, on_http, &h), 0);
    test_drive_ms(&r.env, 1000);
    assert_false(h.done);
    ke_mapper_free(m);
    assert_true(test_drive(&r.env, test_true, &h.done));
    assert_int_equal(h.status, 0); /* the connection ended */
    kei_http_call_free(call);
    dmi_fini(&r);
}

static void bad_configurations(void **state)
{
    struct test_env env;
    struct ke_mapper_config c;
    struct ke_mapper *m = NULL;

    (void)state;
    test_env_init(&env, 0);
    ke_mapper_config_init(&c, sizeof c);
    assert_int_equal(ke_mapper_new(&m, env.ctx, &c), KE_EINVAL);
    c.protocol = "x";
    assert_int_equal(ke_mapper_new(&m, env.ctx, &c), KE_EINVAL);
    c.socket = "/nonexistent/x.sock";
    c.flags = 64;
    assert_int_equal(ke_mapper_new(&m, env.ctx, &c), KE_EINVAL);
    c.flags = 0;
    assert_int_equal(ke_mapper_new(&m, env.ctx, &c), 0);
    assert_true(ke_mapper_start(m) < 0);
    assert_non_null(strstr(ke_ctx_error(env.ctx), "/nonexistent/x.sock"));
    ke_mapper_free(m);
    ke_mapper_free(NULL);
    test_env_fini(&env);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(from_object_to_report), KE_TEST(edge_comes_late), KE_TEST(unchanged_is_left_alone),
        KE_TEST(calls_of_the_edge),     KE_TEST(asks_again),      KE_TEST(http_write_to_nothing),
        KE_TEST(bad_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
