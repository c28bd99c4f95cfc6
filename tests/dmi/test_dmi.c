/* SPDX-License-Identifier: Apache-2.0 */
/* The node's end of DMI, with a mapper in the same process that notes what it is told. */
#include "rig.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "dmi/convert.h"
#include "dmi/dmi_v1alpha1.pb-c.h"
#include "dmi/dmi_v1beta1.pb-c.h"
#include "net/grpc.h"

/* ---- a mapper ---- */

struct mapper {
    struct dmi_rig *r;
    struct kei_grpc_server *server;
    struct kei_grpc_client *client;
    char log[8000];  /* "RegisterDevice thermo-1 20;" */
    uint32_t refuse; /* code of every answer */
    bool hang;
    int probes; /* looks whether it lives */
    /* the last answer of the node */
    bool done;
    uint32_t code;
    char text[300];
    struct ke_buf message;
};

static void note(struct mapper *m, const char *method, const char *name, const char *value)
{
    size_t n = strlen(m->log);
    snprintf(m->log + n, sizeof m->log - n, "%s %s%s%s;", method, name, value[0] ? " " : "", value);
}

static void note_device(struct mapper *m, const char *method, struct ke_str message, bool a1)
{
    struct kei_arena a;
    void *q = NULL;

    kei_arena_init(&a, kei_alloc_malloc(), 0);
    if (a1) {
        assert_int_equal(kei_pb_unpack(&q, &kei__a1__device_request__descriptor, message, &a, NULL),
                         0);
        const Kei__A1__Device *d = ((Kei__A1__DeviceRequest *)q)->device;
        note(m, method, d->name, d->status->n_twins ? d->status->twins[0]->desired->value : "");
    } else {
        assert_int_equal(kei_pb_unpack(&q, &kei__b1__device_request__descriptor, message, &a, NULL),
                         0);
        const Kei__B1__Device *d = ((Kei__B1__DeviceRequest *)q)->device;
        assert_non_null(d->spec->protocol->configdata);
        note(m, method, d->name,
             d->spec->n_properties ? d->spec->properties[0]->desired->value : "");
    }
    kei_arena_free(&a);
}

static void note_other(struct mapper *m, const char *method, struct ke_str message)
{
    struct kei_arena a;
    void *q = NULL;

    kei_arena_init(&a, kei_alloc_malloc(), 0);
    if (strcmp(method, "UpdateDeviceStatus") == 0) {
        assert_int_equal(kei_pb_unpack(&q, &kei__a1__update_device_status_request__descriptor,
                                       message, &a, NULL),
                         0);
        const Kei__A1__UpdateDeviceStatusRequest *u = q;
        note(m, method, u->devicename, u->desireddevice->twins[0]->desired->value);
    } else if (strstr(method, "Remove")) {
        assert_int_equal(kei_pb_unpack(&q, &kei__b1__name_of__descriptor, message, &a, NULL), 0);
        const Kei__B1__NameOf *o = q;
        note(m, method, o->name, o->namespace_);
    } else {
        assert_int_equal(kei_pb_unpack(&q, &kei__b1__model_request__descriptor, message, &a, NULL),
                         0);
        note(m, method, ((Kei__B1__ModelRequest *)q)->model->name, "");
    }
    kei_arena_free(&a);
}

static void on_push(void *user, struct kei_grpc_call *c, struct ke_str path, struct ke_str message)
{
    struct mapper *m = user;
    bool a1 = kei_str_starts(path, KEI_STR("/v1alpha1.DeviceMapperService/"));
    size_t skip = a1 ? 30 : 29;
    char method[64];

    if (kei_str_is(path, "/grpc.health.v1.Health/Check")) {
        m->probes++;
        if (!m->hang)
            kei_grpc_refuse(c, KEI_GRPC_UNIMPLEMENTED, "unknown service grpc.health.v1.Health");
        return;
    }
    assert_true(a1 || kei_str_starts(path, KEI_STR("/v1beta1.DeviceMapperService/")));
    snprintf(method, sizeof method, "%.*s", (int)(path.n - skip), path.p + skip);
    if (!m->refuse) {
        if (strcmp(method, "RegisterDevice") == 0 || strcmp(method, "UpdateDevice") == 0)
            note_device(m, method, message, a1);
        else
            note_other(m, method, message);
    } else {
        note(m, "refused", method, "");
    }
    if (m->hang)
        return;
    if (m->refuse)
        kei_grpc_refuse(c, m->refuse, "not now");
    else
        kei_grpc_reply(c, kei_strn("", 0));
}

static void mapper_serve(struct mapper *m)
{
    static const struct kei_grpc_server_ops ops = {.call = on_push};
    const struct kei_grpc_server_config c = {.listener = {.unix_path = m->r->mapper_socket}};

    assert_int_equal(kei_grpc_server_new(&m->server, m->r->env.ctx, &c, &ops, m), 0);
}

static void mapper_init(struct mapper *m, struct dmi_rig *r, bool serve)
{
    const struct kei_grpc_client_config c = {.stream = {.unix_path = r->socket}};

    memset(m, 0, sizeof *m);
    m->r = r;
    kei_buf_init(&m->message, kei_alloc_malloc());
    assert_int_equal(kei_grpc_client_new(&m->client, r->env.ctx, &c), 0);
    if (serve)
        mapper_serve(m);
}

static void mapper_fini(struct mapper *m)
{
    kei_grpc_client_free(m->client);
    kei_grpc_server_free(m->server);
    ke_buf_free(&m->message);
}

static void on_answer(void *user, const struct kei_grpc_answer *a)
{
    struct mapper *m = user;

    m->done = true;
    m->code = a->code;
    snprintf(m->text, sizeof m->text, "%s", a->text);
    kei_buf_clear(&m->message);
    kei_buf_addv(&m->message, a->message);
}

static void ask(struct mapper *m, const char *method, const void *q)
{
    struct ke_buf b;
    char path[100];

    kei_buf_init(&b, kei_alloc_malloc());
    kei_pb_pack(&b, q);
    snprintf(path, sizeof path, "/%s", method);
    m->done = false;
    int r = kei_grpc_ask(NULL, m->client, path, kei_buf_str(&b), 20000, on_answer, m);
    ke_buf_free(&b);
    m->code = KEI_GRPC_EXHAUSTED;
    if (r == KE_ENOMEM) /* where memory is refused */
        return;
    assert_int_equal(r, 0);
    assert_true(test_drive(&m->r->env, test_true, &m->done));
}

static void enroll(struct mapper *m, const char *package, const char *protocol, bool with_data)
{
    Kei__B1__MapperRegisterRequest q;
    Kei__B1__MapperInfo i;
    char method[100];

    kei__b1__mapper_register_request__init(&q);
    kei__b1__mapper_info__init(&i);
    i.name = kei_pb_str("my-mapper");
    i.version = kei_pb_str("v1");
    i.api_version = kei_pb_str("v1.0.0");
    i.protocol = kei_pb_str(protocol);
    i.state = kei_pb_str("ok");
    i.address.data = (uint8_t *)m->r->mapper_socket;
    i.address.len = strlen(m->r->mapper_socket);
    q.withdata = with_data;
    q.mapper = &i;
    snprintf(method, sizeof method, "%s.DeviceManagerService/MapperRegister", package);
    ask(m, method, &q);
}

/* Names and desired values of what a registration was answered with. */
static void list_answer(struct mapper *m, char *out, size_t size)
{
    struct kei_arena a;
    void *q = NULL;
    size_t n = 0;

    out[0] = '\0';
    kei_arena_init(&a, kei_alloc_malloc(), 0);
    assert_int_equal(kei_pb_unpack(&q, &kei__b1__mapper_register_response__descriptor,
                                   kei_buf_str(&m->message), &a, NULL),
                     0);
    const Kei__B1__MapperRegisterResponse *r = q;
    for (size_t i = 0; i < r->n_modellist; i++)
        n += (size_t)snprintf(out + n, size - n, "model %s;", r->modellist[i]->name);
    for (size_t i = 0; i < r->n_devicelist; i++)
        n += (size_t)snprintf(out + n, size - n, "%s %s;", r->devicelist[i]->name,
                              r->devicelist[i]->spec->properties[0]->desired->value);
    kei_arena_free(&a);
}

static void put_device(struct dmi_rig *r, const char *operation, const char *name,
                       const char *protocol, const char *desired)
{
    char text[4000], resource[100];

    dmi_device(text, sizeof text, name, protocol, desired);
    snprintf(resource, sizeof resource, "default/device/%s", name);
    dmi_object(r, resource, operation, text);
}

/* ---- tests ---- */

static void setup(struct dmi_rig *r, struct mapper *m)
{
    dmi_init(r, 0);
    dmi_start(r);
    dmi_object(r, "default/devicemodel/thermo-model", "insert", MODEL_OBJECT);
    put_device(r, "insert", "thermo-1", "modbus", "20");
    put_device(r, "insert", "other-1", "opcua", "20");
    mapper_init(m, r, true);
}

static void teardown(struct dmi_rig *r, struct mapper *m)
{
    mapper_fini(m);
    dmi_fini(r);
}

static void registration_with_data(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    char list[500];

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    assert_int_equal(m.code, 0);
    list_answer(&m, list, sizeof list);
    assert_string_equal(list, "model thermo-model;thermo-1 20;");
    test_drive_ms(&r.env, 60000);
    assert_string_equal(m.log, ""); /* nothing is pushed that was in the answer */
    dmi_look(&r, &seen);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.name, "my-mapper");
    assert_string_equal(seen.protocol, "modbus");
    assert_int_equal(seen.last.devices, 1);
    assert_int_equal(seen.last.waiting, 0);
    teardown(&r, &m);
}

static void registration_without_data(void **state)
{
    struct dmi_rig r;
    struct mapper m;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", false);
    assert_int_equal(m.code, 0);
    assert_int_equal(m.message.n, 0);
    test_settle(&r.env);
    assert_string_equal(m.log, "CreateDeviceModel thermo-model;RegisterDevice thermo-1 20;");
    teardown(&r, &m);
}

static void changes_are_pushed(void **state)
{
    struct dmi_rig r;
    struct mapper m;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    put_device(&r, "insert", "thermo-2", "modbus", "5");
    assert_string_equal(m.log, "RegisterDevice thermo-2 5;");
    m.log[0] = '\0';
    put_device(&r, "update", "thermo-2", "modbus", "6");
    assert_string_equal(m.log, "UpdateDevice thermo-2 6;");
    m.log[0] = '\0';
    /* the same once more: mappers restart a device at each update */
    put_device(&r, "update", "thermo-2", "modbus", "6");
    assert_string_equal(m.log, "");
    /* of another protocol: not ours */
    put_device(&r, "update", "other-1", "opcua", "7");
    assert_string_equal(m.log, "");
    /* goes to another protocol */
    put_device(&r, "update", "thermo-2", "opcua", "6");
    assert_string_equal(m.log, "RemoveDevice thermo-2 default;");
    m.log[0] = '\0';
    dmi_object(&r, "default/device/thermo-1", "delete", NULL);
    assert_string_equal(m.log, "RemoveDevice thermo-1 default;");
    m.log[0] = '\0';
    dmi_object(&r, "default/devicemodel/thermo-model", "delete", NULL);
    assert_string_equal(m.log, "RemoveDeviceModel thermo-model default;");
    teardown(&r, &m);
}

static void only_status_changed(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    char text[4000], *at;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    dmi_device(text, sizeof text, "thermo-1", "modbus", "20");
    at = strstr(text, "\"value\":\"19\"");
    at[9] = '3';
    dmi_object(&r, "default/device/thermo-1", "update", text);
    assert_string_equal(m.log, "");
    teardown(&r, &m);
}

/* In either order. */
static void device_before_model(void **state)
{
    struct dmi_rig r;
    struct mapper m;

    (void)state;
    dmi_init(&r, 0);
    dmi_start(&r);
    mapper_init(&m, &r, true);
    enroll(&m, "v1beta1", "modbus", true);
    assert_int_equal(m.code, 0);
    put_device(&r, "insert", "thermo-1", "modbus", "20");
    assert_string_equal(m.log, "");
    dmi_object(&r, "default/devicemodel/thermo-model", "insert", MODEL_OBJECT);
    assert_string_equal(m.log, "CreateDeviceModel thermo-model;RegisterDevice thermo-1 20;");
    teardown(&r, &m);
}

static void mapper_goes_and_comes_back(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    char list[500];

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    put_device(&r, "insert", "thermo-2", "modbus", "5");
    m.log[0] = '\0';
    kei_grpc_server_free(m.server);
    m.server = NULL;
    put_device(&r, "update", "thermo-2", "modbus", "6");
    test_drive_ms(&r.env, 100);
    dmi_look(&r, &seen);
    assert_false(seen.last.reachable);
    assert_string_not_equal(seen.error, "");
    assert_int_equal(seen.last.devices, 0);
    /* without a registration: all is told again, and updated where it changed */
    mapper_serve(&m);
    test_drive_ms(&r.env, 120000);
    dmi_look(&r, &seen);
    assert_true(seen.last.reachable);
    assert_int_equal(seen.last.devices, 2);
    assert_int_equal(seen.last.waiting, 0);
    assert_non_null(strstr(m.log, "RegisterDevice thermo-1 20;"));
    assert_null(strstr(m.log, "UpdateDevice thermo-1"));
    assert_non_null(strstr(m.log, "RegisterDevice thermo-2 6;"));
    assert_non_null(strstr(m.log, "UpdateDevice thermo-2 6;"));
    assert_ptr_equal(strstr(m.log, "CreateDeviceModel"), m.log); /* the model first */
    /* with one */
    kei_grpc_server_free(m.server);
    m.server = NULL;
    m.log[0] = '\0';
    put_device(&r, "update", "thermo-2", "modbus", "7");
    enroll(&m, "v1beta1", "modbus", true);
    mapper_serve(&m); /* as mappers do: they listen afterwards */
    list_answer(&m, list, sizeof list);
    assert_non_null(strstr(list, "thermo-2 7;"));
    test_drive_ms(&r.env, 120000);
    assert_string_equal(m.log, "");
    teardown(&r, &m);
}

static void node_restarts(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    put_device(&r, "insert", "thermo-2", "modbus", "5");
    put_device(&r, "insert", "thermo-3", "modbus", "5");
    put_device(&r, "insert", "thermo-4", "modbus", "5");
    m.log[0] = '\0';
    kei_dmi_free(r.dmi);
    r.dmi = NULL;
    /* meanwhile: one changes, one goes, one comes */
    put_device(&r, "update", "thermo-2", "modbus", "6");
    dmi_object(&r, "default/device/thermo-3", "delete", NULL);
    put_device(&r, "insert", "thermo-5", "modbus", "9");
    dmi_restart(&r);
    test_settle(&r.env);
    dmi_look(&r, &seen);
    assert_int_equal(seen.n, 1);
    assert_int_equal(seen.last.devices, 4);
    assert_int_equal(seen.last.waiting, 0);
    assert_non_null(strstr(m.log, "CreateDeviceModel thermo-model;"));
    assert_non_null(strstr(m.log, "RegisterDevice thermo-1 20;"));
    assert_non_null(strstr(m.log, "UpdateDevice thermo-2 6;"));
    assert_non_null(strstr(m.log, "RemoveDevice thermo-3 default;"));
    assert_non_null(strstr(m.log, "RegisterDevice thermo-4 5;"));
    assert_non_null(strstr(m.log, "RegisterDevice thermo-5 9;"));
    assert_null(strstr(m.log, "UpdateDevice thermo-1"));
    assert_null(strstr(m.log, "UpdateDevice thermo-4"));
    assert_null(strstr(m.log, "UpdateDevice thermo-5"));
    assert_null(strstr(m.log, "RegisterDevice thermo-3"));
    teardown(&r, &m);
}

static void refusals(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    int n = 0;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    m.refuse = 2;
    put_device(&r, "insert", "thermo-2", "modbus", "5");
    test_drive_ms(&r.env, 600000);
    for (const char *p = m.log; (p = strstr(p, "refused RegisterDevice;")); p++)
        n++;
    assert_int_equal(n, 5); /* then it gives up */
    dmi_look(&r, &seen);
    assert_true(seen.last.reachable);
    assert_non_null(strstr(seen.error, "thermo-2"));
    assert_non_null(strstr(seen.error, "not now"));
    /* until the device changes */
    m.refuse = 0;
    m.log[0] = '\0';
    put_device(&r, "update", "thermo-2", "modbus", "6");
    test_drive_ms(&r.env, 60000);
    assert_string_equal(m.log, "RegisterDevice thermo-2 6;");
    dmi_look(&r, &seen);
    assert_string_equal(seen.error, "");
    teardown(&r, &m);
}

static void hangs(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    m.hang = true;
    put_device(&r, "insert", "thermo-2", "modbus", "5");
    test_drive_ms(&r.env, 10100);
    dmi_look(&r, &seen);
    assert_false(seen.last.reachable);
    m.hang = false;
    m.log[0] = '\0';
    test_drive_ms(&r.env, 120000);
    assert_non_null(strstr(m.log, "RegisterDevice thermo-2 5;"));
    dmi_look(&r, &seen);
    assert_true(seen.last.reachable);
    teardown(&r, &m);
}

/* ---- what mappers report ---- */

static void report(struct mapper *m, const char *ns, const char *name, const char *property,
                   const char *desired, const char *reported)
{
    Kei__B1__ReportDeviceStatusRequest q;
    Kei__B1__DeviceStatus s;
    Kei__B1__Twin t, *twins[1] = {&t};
    Kei__B1__TwinProperty d, v;

    kei__b1__report_device_status_request__init(&q);
    kei__b1__device_status__init(&s);
    kei__b1__twin__init(&t);
    kei__b1__twin_property__init(&d);
    kei__b1__twin_property__init(&v);
    q.devicename = kei_pb_str(name);
    q.devicenamespace = kei_pb_str(ns);
    if (property) {
        q.reporteddevice = &s;
        s.n_twins = 1;
        s.twins = twins;
        t.propertyname = kei_pb_str(property);
    }
    d.value = kei_pb_str(desired);
    v.value = kei_pb_str(reported);
    t.observeddesired = desired ? &d : NULL;
    t.reported = reported ? &v : NULL;
    ask(m, "v1beta1.DeviceManagerService/ReportDeviceStatus", &q);
}

static void reports(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    char want[300];

    (void)state;
    setup(&r, &m);
    report(&m, "default", "thermo-1", "temperature", "22", "21");
    assert_int_equal(m.code, 0);
    assert_string_equal(r.topic, "$hw/events/device/thermo-1/twin/update");
    snprintf(want, sizeof want,
             "{\"event_id\":\"\",\"timestamp\":%lld,\"twin\":{\"temperature\":{\"expected\":{"
             "\"value\":\"22\"},\"actual\":{\"value\":\"21\"}}}}",
             (long long)ke_ctx_real_ms(r.env.ctx));
    assert_string_equal(r.payload, want);
    /* where nothing is desired, nothing is observed either, whatever a mapper says */
    char text[4000];
    dmi_device(text, sizeof text, "thermo-1", "modbus", "");
    dmi_object(&r, "default/device/thermo-1", "update", text);
    report(&m, "default", "thermo-1", "temperature", "21", "21");
    assert_non_null(strstr(r.payload, "{\"temperature\":{\"actual\":{\"value\":\"21\"}}}"));
    put_device(&r, "update", "thermo-1", "modbus", "20");
    report(&m, "default", "thermo-1", "", "21", "21");
    assert_int_equal(m.code, 2);
    /* sides that are not said */
    report(&m, "", "thermo-1", "temperature", NULL, "21");
    assert_non_null(strstr(r.payload, "{\"temperature\":{\"actual\":{\"value\":\"21\"}}}"));
    report(&m, "", "thermo-1", "temperature", "", "21");
    assert_null(strstr(r.payload, "expected"));
    r.reports = 0;
    report(&m, "", "thermo-1", "temperature", NULL, NULL);
    assert_int_equal(m.code, 2);
    assert_string_equal(m.text, "ReportDeviceStatusRequest does not have twin data");
    report(&m, "", "thermo-1", NULL, NULL, NULL);
    assert_int_equal(m.code, 2);
    report(&m, "", "", "temperature", NULL, "1");
    assert_int_equal(m.code, 2);
    report(&m, "", "a/b#", "temperature", NULL, "1");
    assert_int_equal(m.code, 2);
    assert_int_equal(r.reports, 0);
    /* the twin's no is the mapper's */
    r.refuse = "the value is not int or integer";
    report(&m, "", "thermo-1", "temperature", NULL, "hot");
    assert_int_equal(m.code, 2);
    assert_string_equal(m.text, "the value is not int or integer");
    r.refuse = NULL;
    r.mute = true;
    report(&m, "", "thermo-1", "temperature", NULL, "1");
    assert_int_equal(m.code, 14);
    teardown(&r, &m);
}

static void reports_by_dialect(void **state)
{
    struct dmi_rig r;
    struct mapper m;

    (void)state;
    dmi_init(&r, 0);
    r.c.id_with_namespace = true;
    r.c.dialect = KE_DIALECT_1_4;
    dmi_start(&r);
    mapper_init(&m, &r, true);
    report(&m, "factory", "thermo-1", "temperature", "22", "21");
    assert_string_equal(r.topic, "$hw/events/device/factory/thermo-1/twin/update");
    /* towards such a cloud a value in expected shuts out all later ones */
    assert_null(strstr(r.payload, "expected"));
    report(&m, "", "thermo-1", "temperature", "22", "21");
    assert_string_equal(r.topic, "$hw/events/device/default/thermo-1/twin/update");
    teardown(&r, &m);
}

/* ---- the device twin itself ---- */

static void on_twin_done(void *user, int status, const char *text)
{
    (void)text;
    assert_int_equal(status, 0);
    *(bool *)user = true;
}

static void on_value(void *user, const struct ke_twin_value *v)
{
    char *out = user;
    snprintf(out, 100, "%s=%s/%s", v->name, v->desired ? v->desired : "-",
             v->reported ? v->reported : "-");
}

static void real_twin(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    char value[100] = "";
    bool done = false;

    (void)state;
    dmi_init(&r, 0);
    r.real_twin = true;
    dmi_start(&r);
    mapper_init(&m, &r, true);
    assert_int_equal(ke_twin_add(r.t, "thermo-1", NULL, on_twin_done, &done, NULL), 0);
    assert_true(test_drive(&r.env, test_true, &done));
    report(&m, "default", "thermo-1", "temperature", "22", "21");
    assert_int_equal(m.code, 0);
    dmi_restart(&r); /* what was answered is durable */
    test_settle(&r.env);
    assert_int_equal(ke_twin_each(r.t, "thermo-1", on_value, value), 0);
    assert_string_equal(value, "temperature=22/21");
    report(&m, "default", "thermo-9", "temperature", "22", "21");
    assert_int_equal(m.code, 2);
    assert_non_null(strstr(m.text, "not existed"));
    teardown(&r, &m);
}

/* Whichever allocation fails while a mapper registers and is told: nothing is lost but for a while,
 * nothing leaks. */
static void no_memory(void **state)
{
    (void)state;
    for (size_t n = 1; n < 2000; n += n < 200 ? 1 : 7) {
        struct dmi_rig r;
        struct mapper m;
        struct dmi_seen seen;
        setup(&r, &m);
        r.env.idle_ms = 2;
        test_alloc_fail_at(&r.env.alloc, n);
        enroll(&m, "v1beta1", "modbus", n % 2);
        bool reached = atomic_load(&r.env.alloc.failed) > 0;
        test_alloc_fail_at(&r.env.alloc, 0);
        if (m.code != 0)
            enroll(&m, "v1beta1", "modbus", n % 2);
        assert_int_equal(m.code, 0);
        test_drive_ms(&r.env, 60000);
        dmi_look(&r, &seen);
        assert_int_equal(seen.n, 1);
        assert_int_equal(seen.last.devices, 1);
        assert_int_equal(seen.last.waiting, 0);
        teardown(&r, &m);
        if (!reached && n > 1)
            return;
    }
    fail_msg("it never ends");
}

static void states(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    Kei__B1__ReportDeviceStatesRequest q;

    (void)state;
    setup(&r, &m);
    kei__b1__report_device_states_request__init(&q);
    q.devicename = kei_pb_str("thermo-1");
    q.devicenamespace = kei_pb_str("default");
    q.state = kei_pb_str("online");
    ask(&m, "v1beta1.DeviceManagerService/ReportDeviceStates", &q);
    assert_int_equal(m.code, 0);
    assert_string_equal(r.topic, "$hw/events/device/thermo-1/state/update");
    assert_non_null(strstr(r.payload, "\"state\":\"online\""));
    q.state = kei_pb_str("");
    ask(&m, "v1beta1.DeviceManagerService/ReportDeviceStates", &q);
    assert_int_equal(m.code, 2);
    assert_string_equal(m.text, "ReportDeviceStatesRequest is invalid data");
    teardown(&r, &m);
}

static void old_mapper(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    Kei__A1__ReportDeviceStatusRequest q;
    Kei__A1__DeviceStatus s;
    Kei__A1__Twin t, *twins[1] = {&t};
    Kei__A1__TwinProperty v;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1alpha1", "modbus", false);
    assert_int_equal(m.code, 0);
    test_settle(&r.env);
    assert_string_equal(m.log, "CreateDeviceModel thermo-model;RegisterDevice thermo-1 20;");
    m.log[0] = '\0';
    dmi_restart(&r); /* the form is remembered */
    test_settle(&r.env);
    assert_string_equal(m.log, "CreateDeviceModel thermo-model;RegisterDevice thermo-1 20;");
    kei__a1__report_device_status_request__init(&q);
    kei__a1__device_status__init(&s);
    kei__a1__twin__init(&t);
    kei__a1__twin_property__init(&v);
    q.devicename = kei_pb_str("thermo-1");
    q.reporteddevice = &s;
    s.state = kei_pb_str("online");
    s.n_twins = 1;
    s.twins = twins;
    t.propertyname = kei_pb_str("temperature");
    t.reported = &v;
    v.value = kei_pb_str("21");
    r.reports = 0;
    ask(&m, "v1alpha1.DeviceManagerService/ReportDeviceStatus", &q);
    assert_int_equal(m.code, 0);
    assert_int_equal(r.reports, 2); /* state and twin */
    assert_string_equal(r.topic, "$hw/events/device/thermo-1/twin/update");
    teardown(&r, &m);
}

/* What is desired is status in v1alpha1: it is told alone; what is reported is not told at all. */
static void old_mapper_is_told_status(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    char text[4000], *at;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1alpha1", "modbus", true);
    put_device(&r, "update", "thermo-1", "modbus", "21");
    assert_string_equal(m.log, "UpdateDeviceStatus thermo-1 21;");
    m.log[0] = '\0';
    dmi_device(text, sizeof text, "thermo-1", "modbus", "21");
    at = strstr(text, "\"value\":\"19\"");
    at[9] = '3';
    dmi_object(&r, "default/device/thermo-1", "update", text);
    assert_string_equal(m.log, "");
    /* one that does not know the call is told the whole device */
    m.refuse = KEI_GRPC_UNIMPLEMENTED;
    put_device(&r, "update", "thermo-1", "modbus", "22");
    m.refuse = 0;
    test_drive_ms(&r.env, 60000);
    assert_string_equal(m.log, "refused UpdateDeviceStatus;UpdateDevice thermo-1 22;");
    m.log[0] = '\0';
    at = strstr(text, "\"slaveID\":1");
    at[10] = '2';
    dmi_object(&r, "default/device/thermo-1", "update", text);
    assert_string_equal(m.log, "UpdateDevice thermo-1 21;");
    teardown(&r, &m);
}

/* Each mapper is told the models of its devices, whatever protocol these name. */
static void model_of_two_mappers(void **state)
{
    static const char twice[] = "CreateDeviceModel thermo-model;RegisterDevice thermo-1 20;"
                                "CreateDeviceModel thermo-model;RegisterDevice other-1 20;";
    struct dmi_rig r;
    struct mapper m;
    char list[500];

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "opcua", true);
    list_answer(&m, list, sizeof list);
    assert_string_equal(list, "model thermo-model;other-1 20;");
    enroll(&m, "v1alpha1", "modbus", false); /* in its own form */
    test_settle(&r.env);
    assert_string_equal(m.log, "CreateDeviceModel thermo-model;RegisterDevice thermo-1 20;");
    m.log[0] = '\0';
    dmi_restart(&r);
    test_settle(&r.env);
    assert_int_equal(strlen(m.log), strlen(twice));
    /* each is told of a change of the model, and that it is gone */
    m.log[0] = '\0';
    char *other = strdup(MODEL_OBJECT);
    memcpy(strstr(other, "celsius"), "CELSIUS", 7);
    dmi_object(&r, "default/devicemodel/thermo-model", "update", other);
    free(other);
    const char *first = strstr(m.log, "UpdateDeviceModel thermo-model;");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "UpdateDeviceModel thermo-model;"));
    /* without a device of that protocol the other one has no use for it */
    m.log[0] = '\0';
    dmi_object(&r, "default/device/other-1", "delete", NULL);
    assert_non_null(strstr(m.log, "RemoveDeviceModel thermo-model default;"));
    m.log[0] = '\0';
    dmi_object(&r, "default/devicemodel/thermo-model", "delete", NULL);
    assert_string_equal(m.log, "RemoveDeviceModel thermo-model;"); /* v1alpha1: no namespace */
    m.log[0] = '\0';
    dmi_restart(&r); /* nothing is left behind */
    test_drive_ms(&r.env, 60000);
    assert_null(strstr(m.log, "Remove"));
    teardown(&r, &m);
}

/* One that has nothing to be told is looked at. */
static void idle_mapper_is_watched(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    test_drive_ms(&r.env, 21000);
    assert_int_equal(m.probes, 2);
    dmi_look(&r, &seen);
    assert_true(seen.last.reachable);
    assert_true(seen.last.seen_ms > seen.last.registered_ms);
    kei_grpc_server_free(m.server);
    m.server = NULL;
    test_drive_ms(&r.env, 100); /* its end is noticed at once */
    dmi_look(&r, &seen);
    assert_false(seen.last.reachable);
    assert_string_not_equal(seen.error, "");
    mapper_serve(&m);
    test_drive_ms(&r.env, 60000);
    dmi_look(&r, &seen);
    assert_true(seen.last.reachable);
    assert_string_equal(seen.error, "");
    m.hang = true;
    test_drive_ms(&r.env, 21000);
    dmi_look(&r, &seen);
    assert_false(seen.last.reachable);
    teardown(&r, &m);
}

static int may_serve(void *user, const char *protocol, struct ke_error *err)
{
    (void)user;
    return strcmp(protocol, "modbus") == 0 ? kei_error(err, KE_EEXIST, "modbus is served here") : 0;
}

static void on_changed(void *user)
{
    ++*(int *)user;
}

static void who_serves(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    struct kei_dmi_served served;
    int changes = 0;

    (void)state;
    setup(&r, &m);
    assert_int_equal(kei_dmi_serves(r.dmi, "modbus", "default", "thermo-1", &served), 0);
    enroll(&m, "v1beta1", "modbus", true);
    assert_int_equal(kei_dmi_serves(r.dmi, "modbus", "default", "thermo-1", &served), 1);
    assert_string_equal(served.mapper, "my-mapper");
    assert_string_equal(served.state, "");
    assert_int_equal(served.report_ms, 0);
    report(&m, "", "thermo-1", "temperature", NULL, "21");
    assert_int_equal(kei_dmi_serves(r.dmi, "modbus", "default", "thermo-1", &served), 1);
    assert_int_equal(served.report_ms, ke_ctx_real_ms(r.env.ctx));
    assert_int_equal(served.reports, 1);
    r.refuse = "no such value";
    report(&m, "", "thermo-1", "temperature", NULL, "hot");
    r.refuse = NULL;
    assert_int_equal(kei_dmi_serves(r.dmi, "modbus", "default", "thermo-1", &served), 1);
    assert_string_equal(served.error, "no such value");
    assert_int_equal(served.reports, 1);
    /* the configuration says otherwise now: it is forgotten, and refused */
    r.c.may_serve = may_serve;
    r.c.changed = on_changed;
    r.c.user = &changes;
    dmi_restart(&r);
    assert_int_equal(kei_dmi_serves(r.dmi, "modbus", "default", "thermo-1", NULL), 0);
    assert_true(changes > 0);
    enroll(&m, "v1beta1", "modbus", true);
    assert_int_equal(m.code, KEI_GRPC_PRECONDITION);
    assert_string_equal(m.text, "modbus is served here");
    changes = 0;
    enroll(&m, "v1beta1", "opcua", true);
    assert_int_equal(m.code, 0);
    assert_int_equal(changes, 1);
    r.c.may_serve = NULL;
    dmi_restart(&r);
    dmi_look(&r, &seen);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.protocol, "opcua");
    teardown(&r, &m);
}

/* The socket cannot be made: said, and tried again. */
static void socket_in_the_way(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    char path[160];

    (void)state;
    setup(&r, &m);
    kei_dmi_free(r.dmi);
    snprintf(path, sizeof path, "%s/later/dmi.sock", r.dir);
    r.c.socket = path;
    assert_int_equal(kei_dmi_new(&r.dmi, r.env.ctx, &r.c), 0);
    assert_int_equal(kei_dmi_listening(r.dmi), KE_EAGAIN);
    test_settle(&r.env);
    assert_int_equal(kei_dmi_listening(r.dmi), KE_ENOTFOUND);
    assert_non_null(strstr(ke_ctx_error(r.env.ctx), path));
    dmi_look(&r, &seen);
    assert_int_equal(seen.n, 0);
    snprintf(path, sizeof path, "%s/later", r.dir);
    assert_int_equal(mkdir(path, 0700), 0);
    test_drive_ms(&r.env, 60000);
    assert_int_equal(kei_dmi_listening(r.dmi), 0);
    assert_int_equal(atomic_load(&r.env.log_errors), 1); /* said once */
    atomic_store(&r.env.log_errors, 0);
    teardown(&r, &m);
}

static void bad_registrations(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    Kei__B1__MapperRegisterRequest q;

    (void)state;
    dmi_init(&r, 0);
    r.c.max_mappers = 2;
    dmi_start(&r);
    mapper_init(&m, &r, true);
    enroll(&m, "v1beta1", "", true);
    assert_int_equal(m.code, 2);
    assert_string_equal(m.text, "fail to register mapper my-mapper because the protocol is nil");
    kei__b1__mapper_register_request__init(&q);
    ask(&m, "v1beta1.DeviceManagerService/MapperRegister", &q);
    assert_int_equal(m.code, 2);
    ask(&m, "v1beta1.DeviceManagerService/Nothing", &q);
    assert_int_equal(m.code, 12);
    ask(&m, "v1gamma1.DeviceManagerService/MapperRegister", &q);
    assert_int_equal(m.code, 12);
    dmi_look(&r, &seen);
    assert_int_equal(seen.n, 0);
    enroll(&m, "v1beta1", "a", true);
    enroll(&m, "v1beta1", "b", true);
    assert_int_equal(m.code, 0);
    enroll(&m, "v1beta1", "c", true);
    assert_int_equal(m.code, 2);
    assert_non_null(strstr(m.text, "2 mappers"));
    enroll(&m, "v1beta1", "B", true); /* the same as b */
    assert_int_equal(m.code, 0);
    teardown(&r, &m);
}

static void rate(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    int n = 0;

    (void)state;
    dmi_init(&r, 0);
    r.c.rate = 1;
    r.c.burst = 100;
    dmi_start(&r);
    mapper_init(&m, &r, true);
    do
        report(&m, "", "thermo-1", "temperature", NULL, "1");
    while (m.code == 0 && ++n < 1000);
    assert_int_equal(n, 100);
    assert_int_equal(m.code, 2);
    assert_string_equal(m.text,
                        "fail to report device status because of too many request: thermo-1");
    test_drive_ms(&r.env, 1000);
    report(&m, "", "thermo-1", "temperature", NULL, "1");
    assert_int_equal(m.code, 0);
    report(&m, "", "thermo-1", "temperature", NULL, "1");
    assert_int_equal(m.code, 2);
    teardown(&r, &m);
}

static void bad_objects(void **state)
{
    struct dmi_rig r;
    struct mapper m;

    (void)state;
    setup(&r, &m);
    enroll(&m, "v1beta1", "modbus", true);
    dmi_object(&r, "default/device/x", "insert", "[]");
    dmi_object(&r, "default/device/x/y", "insert", "{}");
    dmi_object(&r, "default/pod/x", "insert", "{}");
    dmi_object(&r, "default/device/x", "insert",
               "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"spec\":{}}");
    dmi_object(&r, "default/device/y", "delete", NULL);
    assert_string_equal(m.log, "");
    put_device(&r, "insert", "thermo-2", "modbus", "5");
    assert_string_equal(m.log, "RegisterDevice thermo-2 5;");
    teardown(&r, &m);
}

/* A thousand devices at once: all in the answer, or pushed. */
static void many(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    struct dmi_seen seen;
    char name[32];

    (void)state;
    setup(&r, &m);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "many-%d", i);
        put_device(&r, "insert", name, "modbus", "5");
    }
    enroll(&m, "v1beta1", "modbus", true);
    test_settle(&r.env);
    dmi_look(&r, &seen);
    assert_int_equal(seen.last.devices, 301);
    assert_int_equal(seen.last.waiting, 0);
    enroll(&m, "v1beta1", "modbus", false);
    memset(m.log, 0, sizeof m.log);
    test_drive_ms(&r.env, 1000);
    dmi_look(&r, &seen);
    assert_int_equal(seen.last.devices, 301);
    assert_int_equal(seen.last.waiting, 0);
    teardown(&r, &m);
}

static void freed_while_busy(void **state)
{
    struct dmi_rig r;
    struct mapper m;
    Kei__B1__ReportDeviceStatusRequest q;

    (void)state;
    setup(&r, &m);
    m.hang = true;
    enroll(&m, "v1beta1", "modbus", false);
    r.mute = true;
    kei__b1__report_device_status_request__init(&q);
    dmi_stop(&r);
    dmi_start(&r);
    teardown(&r, &m);
    /* while the store is read */
    dmi_init(&r, 0);
    dmi_start(&r);
    kei_dmi_free(r.dmi);
    assert_int_equal(kei_dmi_new(&r.dmi, r.env.ctx, &r.c), 0);
    kei_dmi_free(r.dmi);
    r.dmi = NULL;
    dmi_fini(&r);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        KE_TEST(registration_with_data),
        KE_TEST(registration_without_data),
        KE_TEST(changes_are_pushed),
        KE_TEST(only_status_changed),
        KE_TEST(device_before_model),
        KE_TEST(mapper_goes_and_comes_back),
        KE_TEST(node_restarts),
        KE_TEST(refusals),
        KE_TEST(hangs),
        KE_TEST(reports),
        KE_TEST(reports_by_dialect),
        KE_TEST(states),
        KE_TEST(real_twin),
        KE_TEST(no_memory),
        KE_TEST(old_mapper),
        KE_TEST(old_mapper_is_told_status),
        KE_TEST(model_of_two_mappers),
        KE_TEST(idle_mapper_is_watched),
        KE_TEST(who_serves),
        KE_TEST(socket_in_the_way),
        KE_TEST(bad_registrations),
        KE_TEST(rate),
        KE_TEST(bad_objects),
        KE_TEST(many),
        KE_TEST(freed_while_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
