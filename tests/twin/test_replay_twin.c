/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded traffic of upstream's edges against the device twin: what their cloud said and their
 * applications published is said and published here, in the recorded order; what we publish and
 * send must be the same, but for ids and times, and but for the differences in the table.
 */
#include "twin_rig.h"

#include "base/json.h"
#include "message/captures.h"
#include "message/msg_priv.h"

#define EVENTS 512

/* One thing that happened, or was said, in the order of the clock. */
struct event {
    enum { CLOUD_SAYS, EDGE_SENDS, APP_SAYS, EDGE_SAYS } kind;
    int64_t at;
    const char *name; /* of the recording */
    struct ke_msg *m;
    const char *topic, *payload;
    bool seen;
    uint32_t no;
};

/* What an application published while nobody recorded MQTT, as the message to the cloud shows. */
struct unrecorded {
    const char *before; /* recording whose edge_updated it caused */
    const char *topic, *payload;
};

static const struct {
    const char *resource; /* end of it */
    bool ours;            /* said by us alone; else by upstream alone */
    const char *why;
    uint32_t times; /* expected over all replays */
} differences[] = {
    {"device/thermo-1/twin/update/result", true,
     "what cannot be read is answered on the device's own topic, too, where its sender listens", 1},
    {"membership/detail", false, "upstream asks again every minute for ever, we once on each link",
     1},
    {"device/thermo-1/state/update", false,
     "upstream repeats a state that 1.15 never confirms even after its device is gone", 1},
};
static uint32_t found[sizeof differences / sizeof differences[0]];

struct replay {
    struct twin_rig r;
    struct event e[EVENTS];
    uint32_t n;
    struct capture c[24];
    uint32_t n_captures;
    uint32_t said, sent, skipped;
    int64_t mqtt_ends;  /* when the recording of MQTT does */
    uint32_t mqtt_said; /* by us until then */
};

static bool ends(const char *s, const char *end)
{
    return kei_str_ends(kei_str(s), kei_str(end));
}

static bool is_difference(bool ours, const char *resource)
{
    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        if (differences[i].ours == ours && ends(resource, differences[i].resource)) {
            found[i]++;
            return true;
        }
    }
    return false;
}

/* ---- reading ---- */

static struct event *add(struct replay *p)
{
    assert_true(p->n < EVENTS);
    return &p->e[p->n++];
}

static void add_unrecorded(struct replay *p, const struct unrecorded *u)
{
    for (uint32_t i = 0; u->before && i < p->n; i++) {
        struct event *e;

        if (strcmp(p->e[i].name, u->before) != 0 || p->e[i].kind != EDGE_SENDS)
            continue;
        e = add(p);
        *e = (struct event){.kind = APP_SAYS,
                            .at = p->e[i].at - 1,
                            .name = u->before,
                            .topic = u->topic,
                            .payload = u->payload};
        return;
    }
    if (u->before)
        fail_msg("%s has no message of the edge", u->before);
}

static void load_wire(struct replay *p, const char *version, const char *name)
{
    struct capture *c = &p->c[p->n_captures++];

    capture_load(c, version, name);
    for (size_t i = 0; i < c->n; i++) {
        const struct capture_record *rec = &c->r[i];
        struct ke_msg *m = NULL;
        bool down;

        if (strcmp(rec->kind, "ws-message") != 0 || strcmp(rec->listener, "ws") != 0)
            continue;
        if (ke_msg_decode(&m, p->r.env.ctx, rec->text.p, rec->text.n, NULL) < 0)
            fail_msg("%s line %u", name, rec->line);
        down = strcmp(rec->dir, "c2e") == 0;
        if (down ? strcmp(ke_msg_group(m), "twin") == 0 : strcmp(ke_msg_source(m), "twin") == 0) {
            struct event *e = add(p);

            *e = (struct event){.kind = down ? CLOUD_SAYS : EDGE_SENDS,
                                .at = ke_msg_timestamp_ms(m),
                                .name = name,
                                .m = ke_msg_ref(m)};
        }
        ke_msg_unref(m);
    }
}

static bool is_input(const char *topic)
{
    return ends(topic, "/get") || ends(topic, "/twin/update") || ends(topic, "/state/update");
}

static void load_mqtt(struct replay *p, const char *version)
{
    struct capture *c = &p->c[p->n_captures++];

    capture_load(c, version, "mqtt-edge");
    for (size_t i = 0; i < c->n; i++) {
        const struct capture_record *rec = &c->r[i];
        struct ke_str v = {NULL, 0};
        struct event *e;
        int64_t at = 0;

        if (strncmp(rec->topic, "$hw/events/", 11) != 0 ||
            strncmp(rec->topic, "$hw/events/upload", 17) == 0)
            continue;
        if (kei_json_check(rec->payload, 0, NULL) == 0 &&
            kei_json_get(rec->payload, "timestamp", &v))
            (void)kei_json_i64(v, &at);
        e = add(p);
        *e = (struct event){.kind = is_input(rec->topic) ? APP_SAYS : EDGE_SAYS,
                            .at = at,
                            .name = "mqtt-edge",
                            .topic = rec->topic,
                            .payload = rec->payload.p};
        if (!at) /* what cannot be read has no time of its own: as the one before */
            e->at = e[-1].at;
        p->mqtt_ends = e->at > p->mqtt_ends ? e->at : p->mqtt_ends;
    }
}

static int by_time(const void *x, const void *y)
{
    const struct event *a = x, *b = y;

    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return a->no < b->no ? -1 : 1;
}

/* ---- playing ---- */

/* What we said must be the next that upstream said of that kind on that resource. */
static void match(struct replay *p, int kind, const char *resource, const char *text)
{
    char got[8192], want[8192];

    twin_mask(got, sizeof got, text);
    for (uint32_t i = 0; i < p->n; i++) {
        struct event *e = &p->e[i];
        const char *their = e->topic ? e->topic : e->m ? ke_msg_resource(e->m) : "";

        if (e->seen || (int)e->kind != kind || strcmp(their, resource) != 0)
            continue;
        twin_mask(want, sizeof want, e->payload ? e->payload : twin_text(e->m));
        if (strcmp(got, want) != 0) /* repeated or answered with more than upstream: table */
            break;
        e->seen = true;
        return;
    }
    if (!is_difference(true, resource))
        fail_msg("only we said on %s: %s", resource, got);
}

static void match_said(struct replay *p)
{
    for (uint32_t i = 0; i < p->mqtt_said; i++) {
        match(p, EDGE_SAYS, ke_msg_resource(p->r.mqtt.m[i]), twin_text(p->r.mqtt.m[i]));
        p->said++;
    }
    for (uint32_t i = 0; i < p->r.cloud.n; i++) {
        char copy[8192];

        snprintf(copy, sizeof copy, "%s", twin_text(p->r.cloud.m[i]));
        match(p, EDGE_SENDS, ke_msg_resource(p->r.cloud.m[i]), copy);
        assert_string_equal(ke_msg_source(p->r.cloud.m[i]), "twin");
        assert_string_equal(ke_msg_group(p->r.cloud.m[i]), "resource");
        p->sent++;
    }
}

/* The order of what is said about one thing is upstream's. */
static void match_order(struct replay *p)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t k = at;

        if (p->e[i].kind != EDGE_SAYS || !p->e[i].seen)
            continue;
        while (k < p->mqtt_said && strcmp(ke_msg_resource(p->r.mqtt.m[k]), p->e[i].topic) != 0)
            k++;
        if (k == p->mqtt_said)
            fail_msg("%s was said out of order", p->e[i].topic);
        at = k + 1;
    }
}

static void confirm_last(struct replay *p)
{
    for (uint32_t i = p->r.cloud.n; i-- > 0;) {
        if (!ends(ke_msg_resource(p->r.cloud.m[i]), "/twin/edge_updated"))
            continue;
        twin_cloud(&p->r, "response", "twin", "\"OK\"", ke_msg_id(p->r.cloud.m[i]));
        return;
    }
}

static void play(struct replay *p)
{
    size_t n;

    twin_link(&p->r, true);
    for (uint32_t i = 0; i < p->n; i++) {
        struct event *e = &p->e[i];

        if (e->kind == APP_SAYS)
            twin_mqtt(&p->r, e->topic, e->payload);
        else if (e->kind == CLOUD_SAYS && *ke_msg_parent_id(e->m))
            confirm_last(p);
        else if (e->kind == CLOUD_SAYS)
            twin_cloud(&p->r, ke_msg_operation(e->m), ke_msg_resource(e->m),
                       ke_msg_content(e->m, &n), NULL);
        if (e->at <= p->mqtt_ends)
            p->mqtt_said = p->r.mqtt.n;
    }
    match_said(p);
    match_order(p);
    for (uint32_t i = 0; i < p->n; i++) {
        const char *what;

        if (p->e[i].seen || p->e[i].kind == APP_SAYS || p->e[i].kind == CLOUD_SAYS)
            continue;
        what = p->e[i].topic ? p->e[i].topic : ke_msg_resource(p->e[i].m);
        if (!is_difference(false, what))
            fail_msg("%s: only upstream said on %s: %s", p->e[i].name, what,
                     p->e[i].payload ? p->e[i].payload : twin_text(p->e[i].m));
        p->skipped++;
    }
}

static void replay(const char *version, uint32_t dialect, const char *node, bool mqtt,
                   const char *const *names, const struct unrecorded *more, uint32_t inputs)
{
    struct replay *p = calloc(1, sizeof *p);
    uint32_t n = 0;

    assert_non_null(p);
    twin_init(&p->r, dialect);
    twin_stop(&p->r);
    p->r.node = node;
    twin_start(&p->r);
    for (; *names; names++)
        load_wire(p, version, *names);
    if (mqtt)
        load_mqtt(p, version);
    if (more)
        add_unrecorded(p, more);
    for (uint32_t i = 0; i < p->n; i++)
        p->e[i].no = i;
    qsort(p->e, p->n, sizeof p->e[0], by_time);
    for (uint32_t i = 0; i < p->n; i++)
        n += p->e[i].kind == APP_SAYS || p->e[i].kind == CLOUD_SAYS;
    assert_int_equal(n, inputs); /* so that a recording that is not read is noticed */
    play(p);
    print_message("%s: %u inputs, %u published, %u sent, %u of upstream alone\n", version, n,
                  p->said, p->sent, p->skipped);
    for (uint32_t i = 0; i < p->n; i++)
        ke_msg_unref(p->e[i].m);
    for (uint32_t i = 0; i < p->n_captures; i++)
        capture_free(&p->c[i]);
    twin_fini(&p->r);
    free(p);
}

static void replay_1_4(void **state)
{
    static const char *const names[] = {
        "01-register",    "06-device-create", "07-device-desired-change",
        "08-twin-update", "09-device-delete", NULL};

    (void)state;
    replay("kubeedge-1.4", KE_DIALECT_1_4, "edge-old1", true, names, NULL, 5);
}

static void replay_1_15(void **state)
{
    static const char *const names[] = {"01-register",
                                        "20-devicemodel-create",
                                        "21-device-create",
                                        "22-device-desired-change",
                                        "23-membership-get",
                                        "24-twin-get",
                                        "25-twin-update",
                                        "26-twin-update-again",
                                        "27-twin-update-invalid",
                                        "28-state-update",
                                        "29-device-property-removed",
                                        "37-device-delete",
                                        "40-device-with-status",
                                        "41-twin-update-with-status",
                                        NULL};

    static const struct unrecorded more = {
        "41-twin-update-with-status", "$hw/events/device/thermo-2/twin/update",
        "{\"event_id\":\"u4\",\"timestamp\":1,\"twin\":{\"temperature\":{\"expected\":{"
        "\"value\":\"30\"},\"actual\":{\"value\":\"31\"},\"metadata\":{\"type\":\"int\"}}}}"};

    (void)state;
    replay("kubeedge-1.15", KE_DIALECT_1_15, "edge-up1", true, names, &more, 14);
}

static void replay_1_23(void **state)
{
    static const char *const names[] = {"01-register", "04-device-create", "05-twin-update", NULL};
    static const struct unrecorded more = {
        "05-twin-update", "$hw/events/device/default/thermo-1/twin/update",
        "{\"event_id\":\"u1\",\"timestamp\":1,\"twin\":{\"temperature\":{\"actual\":{\"value\":"
        "\"27\"},\"metadata\":{\"type\":\"int\"}}}}"};

    (void)state;
    replay("kubeedge-1.23", KE_DIALECT_1_23, "edge-new1", false, names, &more, 2);
}

static void every_difference_is_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof differences / sizeof differences[0]; i++) {
        if (found[i] != differences[i].times)
            fail_msg("%s (%s): %u times", differences[i].resource, differences[i].why, found[i]);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_1_4),
        cmocka_unit_test(replay_1_15),
        cmocka_unit_test(replay_1_23),
        cmocka_unit_test(every_difference_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
