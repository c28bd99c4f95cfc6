/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merge as the node's twin and the cloud's devices do it, over a link that loses and repeats:
 * a real ke_twin on one side, on the other the functions of lib/cloud with a Device and its status
 * as they are stored. Applications set, report and delete, a driver tells what it saw, the manifest
 * changes, the device goes and is made again, clocks jump, both ends are restarted, the link
 * breaks. At last all hear all: both ends hold the same, nothing of a former life, and of each
 * desired value the write with the latest stamp.
 *
 * KE_TWIN_ROUNDS: how many interleavings (default 2000). KE_SEED: another sequence.
 */
#include <inttypes.h>

#include "cloud/device.h"
#include "twin/twin_priv.h"
#include "twin/twin_rig.h"

#define STEPS 40
#define WIRE 256
#define WRITES 512
#define MINUTE 60000

static const char *const names[] = {"a", "b", "c"}; /* the last is no property of the Device */

struct packet {
    char *resource, *content, *id; /* id: of a request, to be answered */
};

/* A desired value that was written in the present life. */
struct write {
    char text[32]; /* "" for none */
    struct kei_hlc at;
    unsigned name;
    bool edge;
};

struct world {
    struct twin_rig r;
    uint64_t rng;
    uint64_t round, serial, lives;
    char name[32];
    bool linked;
    /* the cloud */
    struct ke_buf device, status; /* as they are stored; device.n 0: there is none */
    char uid[24];
    struct kei_hlc clock, life;
    int64_t skew; /* of its wall to the monotonic clock */
    char *manifest[2];
    struct packet down[WIRE], up[WIRE];
    unsigned n_down, n_up;
    struct write w[WRITES];
    unsigned n_writes;
    unsigned seen[8];
};

static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint32_t below(struct world *w, uint32_t n)
{
    return (uint32_t)(next(&w->rng) >> 33) % n;
}

static const struct ke_alloc *al(struct world *w)
{
    return kei_ctx_alloc(w->r.env.ctx);
}

/* ---- what was written ---- */

static struct kei_tdev *edge_device(struct world *w)
{
    return kei_tdev_by_id(w->r.twin, kei_str(w->name));
}

static bool edge_view(struct world *w, unsigned name, struct kei_twin_view *v)
{
    struct kei_tdev *dev = edge_device(w);
    const struct kei_twin *t = dev ? kei_twin_find(&dev->d, kei_str(names[name])) : NULL;

    if (t)
        kei_twin_view(v, t);
    return t != NULL;
}

static void note(struct world *w, unsigned name, const char *text, const struct kei_hlc *at,
                 bool edge)
{
    for (unsigned i = 0; edge && i < w->n_writes; i++) { /* the edge follows itself, always */
        if (w->w[i].edge && w->w[i].name == name)
            w->w[i--] = w->w[--w->n_writes];
    }
    struct write *x = &w->w[w->n_writes++];

    assert_true(w->n_writes < WRITES);
    *x = (struct write){.name = name, .at = *at, .edge = edge};
    snprintf(x->text, sizeof x->text, "%s", text ? text : "");
}

/* What the edge holds got another stamp; what it held before cannot win any more. */
static void restamped(struct world *w, int64_t limit)
{
    for (unsigned i = 0; i < w->n_writes; i++) {
        struct write *x = &w->w[i];
        struct kei_twin_view v;

        if (!x->edge || x->at.ms <= limit)
            continue;
        if (edge_view(w, x->name, &v) && v.side[0].has == (x->text[0] != '\0') &&
            kei_str_is(v.side[0].value, x->text))
            x->at = v.side[0].at;
        else
            x->at = (struct kei_hlc){0, 0, 0};
    }
}

/* ---- the cloud ---- */

static int64_t cloud_wall(struct world *w)
{
    return ke_ctx_mono_ms(w->r.env.ctx) + w->skew;
}

static int64_t cloud_now(struct world *w)
{
    return cloud_wall(w) > w->clock.ms ? cloud_wall(w) : w->clock.ms;
}

static void wire(struct packet *list, unsigned *n, const char *resource, const char *content,
                 const char *id)
{
    if (*n == WIRE)
        return; /* the link is full: lost */
    list[(*n)++] = (struct packet){strdup(resource), strdup(content), id ? strdup(id) : NULL};
}

static struct packet taken(struct packet *list, unsigned *n, unsigned i)
{
    struct packet p = list[i];

    memmove(&list[i], &list[i + 1], (--*n - i) * sizeof *list);
    return p;
}

static void drop(struct packet *p)
{
    free(p->resource);
    free(p->content);
    free(p->id);
}

static void cut(struct world *w)
{
    while (w->n_down)
        drop(&w->down[--w->n_down]);
    while (w->n_up)
        drop(&w->up[--w->n_up]);
    twin_link(&w->r, false);
    twin_forget(&w->r);
    w->linked = false;
}

static struct ke_str record_raw(struct world *w)
{
    struct ke_str raw;

    assert_true(kei_device_record_raw(kei_buf_str(&w->device), &raw));
    return raw;
}

static void say(struct world *w, const char *resource, const char *form, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct world *w, const char *resource, const char *form, ...)
{
    char content[8192];
    va_list ap;

    if (!w->linked)
        return;
    va_start(ap, form);
    vsnprintf(content, sizeof content, form, ap);
    va_end(ap);
    wire(w->down, &w->n_down, resource, content, NULL);
}

static void tell_desired(struct world *w)
{
    char resource[100];

    snprintf(resource, sizeof resource, "device/%s/twin/cloud_updated", w->name);
    say(w, resource, "{\"event_id\":\"\",\"timestamp\":0,\"twin\":{},\"merge\":%.*s}",
        KEI_FMT(record_raw(w)));
}

/* The manifest says this; kei_device_decide makes of it what is stored. */
static void apply(struct world *w)
{
    struct kei_merge_clock clock = {&w->clock, cloud_wall(w)};
    struct ke_buf wanted, next_;
    struct ke_error err = KE_ERROR_INIT;

    kei_buf_init(&wanted, al(w));
    kei_buf_init(&next_, al(w));
    kei_buf_addf(&wanted,
                 "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\",\"metadata\":"
                 "{\"name\":\"%s\",\"namespace\":\"default\",\"uid\":\"%s\"},\"spec\":{"
                 "\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"" NODE "\",\"properties\":[",
                 w->name, w->uid);
    for (unsigned i = 0; i < 2; i++) {
        kei_buf_addf(&wanted, "%s{\"name\":\"%s\"", i ? "," : "", names[i]);
        if (w->manifest[i])
            kei_buf_addf(&wanted, ",\"desired\":{\"value\":\"%s\"}", w->manifest[i]);
        kei_buf_adds(&wanted, "}");
    }
    kei_buf_adds(&wanted, "]}}");
    if (kei_device_decide(&next_, kei_buf_str(&wanted), kei_buf_str(&w->device), &clock, al(w),
                          &err) < 0)
        fail_msg("%s", err.text);
    ke_buf_free(&wanted);
    ke_buf_free(&w->device);
    w->device = next_;
}

static struct kei_merge_device record(struct world *w)
{
    struct kei_merge_device m;

    assert_int_equal(kei_device_record(&m, kei_buf_str(&w->device), al(w), NULL), 0);
    return m;
}

/* What the manifest just changed. */
static void note_manifest(struct world *w, unsigned i)
{
    struct kei_merge_device m = record(w);
    const struct kei_merge_twin *t = kei_merge_find(&m, kei_str(names[i]));

    w->life = m.life;
    if (t)
        note(w, i, t->v[0].text, &t->v[0].at, false);
    kei_merge_fini(&m, al(w));
}

static char *fresh(struct world *w, uint64_t life, char side)
{
    char text[32];

    snprintf(text, sizeof text, "L%" PRIu64 "%c%" PRIu64, life, side, ++w->serial);
    return strdup(text);
}

static void manifest_set(struct world *w, unsigned i)
{
    free(w->manifest[i]);
    w->manifest[i] = below(w, 5) ? fresh(w, w->lives, 'c') : NULL;
    apply(w);
    note_manifest(w, i);
    tell_desired(w);
}

static void make_device(struct world *w)
{
    w->lives++;
    snprintf(w->uid, sizeof w->uid, "u%" PRIu64, w->lives);
    w->n_writes = 0;
    kei_buf_clear(&w->status);
    for (unsigned i = 0; i < 2; i++) {
        free(w->manifest[i]);
        w->manifest[i] = below(w, 3) ? fresh(w, w->lives, 'c') : NULL;
    }
    apply(w);
    for (unsigned i = 0; i < 2; i++) {
        if (w->manifest[i])
            note_manifest(w, i);
    }
    struct kei_merge_device m = record(w);
    w->life = m.life;
    kei_merge_fini(&m, al(w));
    say(w, "membership",
        "{\"event_id\":\"\",\"timestamp\":0,\"added_devices\":[{\"id\":\"default/%s\",\"name\":"
        "\"%s\",\"merge\":%.*s}],\"removed_devices\":null}",
        w->name, w->name, KEI_FMT(record_raw(w)));
}

static void delete_device(struct world *w)
{
    char life[80];

    snprintf(life, sizeof life, "[%" PRId64 ",%u,%u]", w->life.ms, w->life.n, w->life.node);
    ke_buf_free(&w->device);
    kei_buf_init(&w->device, al(w));
    say(w, "membership",
        "{\"event_id\":\"\",\"timestamp\":0,\"added_devices\":null,\"removed_devices\":[{\"id\":"
        "\"default/%s\",\"name\":\"%s\",\"merge\":{\"life\":%s,\"dead\":true,\"twin\":{}}}]}",
        w->name, w->name, life);
}

static void tell_all(struct world *w)
{
    if (w->device.n == 0)
        say(w, "membership/detail", "{\"event_id\":\"\",\"timestamp\":0,\"devices\":[]}");
    else
        say(w, "membership/detail",
            "{\"event_id\":\"\",\"timestamp\":0,\"devices\":[{\"id\":\"default/%s\",\"name\":"
            "\"%s\",\"twin\":{},\"merge\":%.*s}]}",
            w->name, w->name, KEI_FMT(record_raw(w)));
}

/* false: a stamp too far ahead, the session ends */
static bool cloud_take(struct world *w, struct ke_str content)
{
    struct kei_merge_device m, own;
    struct kei_device_state s;
    struct kei_arena a;
    struct ke_buf next_;
    struct ke_str raw;
    bool changed = false;

    if (w->device.n == 0 || !kei_json_get(content, "merge", &raw))
        return true; /* confirmed, and that is all */
    assert_int_equal(kei_merge_read(&m, al(w), raw, NULL), 0);
    for (uint32_t i = 0; i < m.n; i++) {
        for (unsigned k = 0; k < 2; k++) {
            if (m.twins[i].v[k].at.ms > cloud_now(w) + 2 * (int64_t)KEI_MERGE_AHEAD_MS) {
                kei_merge_fini(&m, al(w));
                w->seen[3]++;
                return false;
            }
        }
    }
    own = record(w);
    int c = kei_hlc_compare(&m.life, &own.life);
    assert_true(c <= 0);
    kei_merge_fini(&own, al(w));
    if (c == 0) {
        kei_arena_init(&a, al(w), 0);
        kei_buf_init(&next_, al(w));
        assert_int_equal(kei_device_state_read(&s, kei_buf_str(&w->status), w->uid, &a, NULL), 0);
        assert_int_equal(kei_device_state_merge(&s, content, false, &m, &a, NULL), 0);
        kei_buf_clear(&w->status);
        kei_device_state_write(&w->status, &s, w->name);
        kei_arena_free(&a);
        for (uint32_t i = 0; i < m.n; i++) {
            kei_hlc_see(&w->clock, &m.twins[i].v[0].at);
            kei_hlc_see(&w->clock, &m.twins[i].v[1].at);
        }
        assert_int_equal(
            kei_device_take(&next_, kei_buf_str(&w->device), &m, &w->clock, &changed, al(w), NULL),
            0);
        if (changed) {
            ke_buf_free(&w->device);
            w->device = next_;
            tell_desired(w);
        } else {
            ke_buf_free(&next_);
        }
    } else {
        w->seen[0]++;
    }
    kei_merge_fini(&m, al(w));
    return true;
}

/* The clock is found again from what is stored. */
static void cloud_restart(struct world *w)
{
    struct kei_device_state s;
    struct kei_arena a;

    w->clock = (struct kei_hlc){0, 0, 0};
    kei_hlc_see(&w->clock, &w->life); /* the Device's, or its grave's */
    if (w->device.n == 0)
        return;
    struct kei_merge_device m = record(w);
    for (uint32_t i = 0; i < m.n; i++)
        kei_hlc_see(&w->clock, &m.twins[i].v[0].at);
    kei_merge_fini(&m, al(w));
    kei_arena_init(&a, al(w), 0);
    assert_int_equal(kei_device_state_read(&s, kei_buf_str(&w->status), w->uid, &a, NULL), 0);
    for (uint32_t i = 0; i < s.n; i++) {
        kei_hlc_see(&w->clock, &s.twins[i].at[0]);
        kei_hlc_see(&w->clock, &s.twins[i].at[1]);
    }
    kei_arena_free(&a);
}

/* ---- the link ---- */

static void tell_twin(struct world *w, const char *resource, const char *content)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    ke_msg_config_init(&c, sizeof c);
    c.source = "edgehub";
    c.group = "twin";
    c.operation = "connect";
    c.resource = resource;
    c.content = content;
    c.content_len = strlen(content);
    assert_int_equal(ke_msg_new(&m, w->r.env.ctx, &c, NULL), 0);
    assert_int_equal(ke_router_send_group(w->r.router, "twin", m, NULL), 0);
    ke_msg_unref(m);
}

static void connect_link(struct world *w)
{
    char content[60];

    int64_t now = cloud_now(w);
    if (w->linked)
        cut(w);
    snprintf(content, sizeof content, "{\"now\":%" PRId64 "}", now);
    tell_twin(w, "node/merge", content);
    w->linked = true;
    twin_link(&w->r, true);
    restamped(w, now + KEI_MERGE_AHEAD_MS);
}

/* What the twin sent is on the wire now. */
static void collect(struct world *w)
{
    for (uint32_t i = 0; i < w->r.cloud.n; i++) {
        struct ke_msg *m = w->r.cloud.m[i];

        if (w->linked && strcmp(ke_msg_resource(m), "membership/detail") == 0)
            tell_all(w);
        else if (w->linked)
            wire(w->up, &w->n_up, ke_msg_resource(m), twin_text(m), ke_msg_id(m));
    }
    twin_forget(&w->r);
}

static void deliver_up(struct world *w, bool any)
{
    unsigned i = any ? below(w, w->n_up) : 0;
    bool again = any && below(w, 6) == 0;
    struct packet p = again ? w->up[i] : taken(w->up, &w->n_up, i);

    w->seen[1] += again;
    if (kei_str_ends(kei_str(p.resource), KEI_STR("edge_updated")) &&
        !cloud_take(w, kei_str(p.content)))
        cut(w);
    else if (p.id && w->linked)
        twin_cloud(&w->r, "response", p.resource, "\"OK\"", p.id);
    if (!again)
        drop(&p);
    collect(w);
}

static void deliver_down(struct world *w, bool any)
{
    bool again = any && below(w, 6) == 0;
    struct packet p = again ? w->down[0] : taken(w->down, &w->n_down, 0);

    twin_cloud(&w->r, "update", p.resource, p.content, NULL);
    if (again && below(w, 2)) /* once more, behind what came since */
        wire(w->down, &w->n_down, p.resource,
             kei_str_is(kei_str(p.resource), "membership/detail") ? "{}" : p.content, NULL);
    w->seen[2] += again;
    if (!again)
        drop(&p);
    collect(w);
}

/* ---- the edge ---- */

/* The number of the life that the edge believes in; 0: none. */
static uint64_t edge_life(struct world *w)
{
    struct kei_tdev *dev = edge_device(w);

    if (!dev)
        return 0;
    if (w->device.n && kei_hlc_compare(&dev->d.life, &w->life) == 0)
        return w->lives;
    return w->lives - 1; /* some former one */
}

static void application(struct world *w, const char *side, bool null)
{
    unsigned i = below(w, 3);
    uint64_t life = edge_life(w);
    char topic[120], payload[300], *text = fresh(w, life, *side);
    struct kei_twin_view v;
    bool now = life == w->lives && w->device.n;

    snprintf(topic, sizeof topic, "$hw/events/device/%s/twin/update", w->name);
    if (null)
        snprintf(payload, sizeof payload,
                 "{\"event_id\":\"\",\"timestamp\":0,\"twin\":{\"%s\":null}}", names[i]);
    else
        snprintf(payload, sizeof payload,
                 "{\"event_id\":\"\",\"timestamp\":0,\"twin\":{\"%s\":{\"%s\":{\"value\":\"%s\"},"
                 "\"metadata\":{\"type\":\"string\"}}}}",
                 names[i], side, text);
    twin_mqtt(&w->r, topic, payload);
    if (now && edge_view(w, i, &v)) {
        if (null && !v.side[0].has && !v.side[1].has)
            note(w, i, NULL, &v.side[0].at, true);
        else if (!null && *side == 'e' && kei_str_is(v.side[0].value, text))
            note(w, i, text, &v.side[0].at, true);
    }
    free(text);
    collect(w);
}

/* A driver tells what it saw of what is desired: of now, or of another time. It sets nothing. */
static void driver(struct world *w)
{
    unsigned i = below(w, 2);
    char topic[120], payload[300];
    struct kei_twin_view before, after;
    bool was = edge_view(w, i, &before);
    char *text = was && before.side[0].has && below(w, 2)
                     ? strndup(before.side[0].value.p, before.side[0].value.n)
                     : fresh(w, edge_life(w), 's');
    struct kei_hlc at = was ? before.side[0].at : (struct kei_hlc){0, 0, 0};

    snprintf(topic, sizeof topic, "$hw/events/device/%s/twin/update", w->name);
    snprintf(payload, sizeof payload,
             "{\"event_id\":\"\",\"timestamp\":0,\"twin\":{\"%s\":{\"expected\":{\"value\":\"%s\"},"
             "\"metadata\":{\"type\":\"string\"}}}}",
             names[i], text);
    twin_ask(&w->r, topic, payload);
    if (edge_device(w) && edge_view(w, i, &after))
        assert_int_equal(kei_hlc_compare(&after.side[0].at, &at), 0);
    free(text);
    collect(w);
}

static void jump(struct world *w)
{
    static const int64_t walls[] = {0, TEST_CLOCK_REAL_MS - 86400000, TEST_CLOCK_REAL_MS,
                                    TEST_CLOCK_REAL_MS + 3 * MINUTE, INT64_C(4294967295000)};

    if (below(w, 2))
        test_clock_set_real(&w->r.env.clock, walls[below(w, 5)]);
    else
        w->skew = TEST_CLOCK_REAL_MS - TEST_CLOCK_MONO_MS + ((int64_t)below(w, 21) - 10) * MINUTE;
}

/* ---- a round ---- */

static void step(struct world *w)
{
    switch (below(w, 20)) {
    case 0:
    case 1:
    case 2:
        application(w, "expected", false);
        break;
    case 3:
    case 4:
        application(w, "actual", false);
        break;
    case 5:
        application(w, "expected", true);
        break;
    case 6:
        driver(w);
        break;
    case 7:
    case 8:
        if (w->device.n)
            manifest_set(w, below(w, 2));
        break;
    case 9:
        if (w->device.n)
            delete_device(w);
        break;
    case 10:
        if (!w->device.n)
            make_device(w);
        break;
    case 11:
        connect_link(w);
        collect(w);
        break;
    case 12:
        if (below(w, 2))
            cut(w);
        break;
    case 13:
        jump(w);
        break;
    case 14:
        test_drive_ms(&w->r.env, 500 + below(w, 3000));
        collect(w);
        break;
    case 15:
        if (below(w, 4) == 0) {
            cut(w);
            twin_restart(&w->r);
            w->seen[4]++;
        } else if (below(w, 3) == 0) {
            cut(w);
            cloud_restart(w);
            w->seen[5]++;
        }
        break;
    default:
        if (w->n_up && below(w, 2))
            deliver_up(w, true);
        else if (w->n_down)
            deliver_down(w, true);
        break;
    }
}

static bool edge_is_clean(struct world *w)
{
    struct kei_tdev *dev = edge_device(w);

    return !dev || !kei_twin_unconfirmed(&dev->d);
}

/* Links until both have heard all. */
static void quiet(struct world *w)
{
    for (int i = 0; i < 20; i++) {
        connect_link(w);
        collect(w);
        while (w->linked && (w->n_up || w->n_down)) {
            if (w->n_down)
                deliver_down(w, false);
            else
                deliver_up(w, false);
        }
        if (w->linked && edge_is_clean(w))
            return;
    }
    fail_msg("round %" PRIu64 ": the edge never was confirmed", w->round);
}

/* ---- the end ---- */

static bool of_life(struct world *w, struct ke_str text)
{
    char head[24];

    snprintf(head, sizeof head, "L%" PRIu64, w->lives);
    return kei_str_starts(text, kei_str(head)) && text.n > strlen(head) &&
           (text.p[strlen(head)] < '0' || text.p[strlen(head)] > '9');
}

static void check_reported(struct world *w, unsigned i, const struct kei_device_state *s)
{
    const struct kei_twin_state *t = kei_device_state_twin(s, kei_str(names[i]));
    struct kei_twin_view v = {.has_meta = false};
    bool there = edge_view(w, i, &v);

    if (there && v.side[1].has) {
        if (!t || !t->reported || !kei_str_is(v.side[1].value, t->reported))
            fail_msg("round %" PRIu64 ": %s reported %.*s, the cloud has %s", w->round, names[i],
                     KEI_FMT(v.side[1].value), t && t->reported ? t->reported : "none");
        assert_int_equal(kei_hlc_compare(&v.side[1].at, &t->at[1]), 0);
        assert_true(of_life(w, v.side[1].value));
    } else {
        assert_true(!t || !t->reported);
    }
}

static void check_desired(struct world *w, unsigned i, const struct kei_merge_device *m)
{
    const struct kei_merge_twin *t = kei_merge_find(m, kei_str(names[i]));
    const struct write *last = NULL;
    struct kei_twin_view v = {.has_meta = false};
    bool there = edge_view(w, i, &v);

    for (unsigned k = 0; k < w->n_writes; k++) {
        const struct write *x = &w->w[k];

        if (x->name == i && !kei_hlc_is_zero(&x->at) &&
            (!last || kei_hlc_compare(&x->at, &last->at) > 0))
            last = x;
    }
    if (!t || kei_hlc_is_zero(&t->v[0].at)) {
        assert_true(!there || kei_hlc_is_zero(&v.side[0].at));
        assert_true(!last);
        return;
    }
    if (!there || kei_hlc_compare(&v.side[0].at, &t->v[0].at) != 0 ||
        v.side[0].has != (t->v[0].text != NULL) ||
        (v.side[0].has && !kei_str_is(v.side[0].value, t->v[0].text)))
        fail_msg("round %" PRIu64 ": %s is %.*s at the edge, %s at the cloud", w->round, names[i],
                 KEI_FMT(v.side[0].value), t->v[0].text ? t->v[0].text : "none");
    if (!last || strcmp(last->text, t->v[0].text ? t->v[0].text : "") != 0)
        fail_msg("round %" PRIu64 ": %s is %s, but %s was said last", w->round, names[i],
                 t->v[0].text ? t->v[0].text : "none", last ? last->text : "nothing");
    assert_true(!t->v[0].text || of_life(w, kei_str(t->v[0].text)));
}

/* What stands in the Device is what the record says. */
static void check_device(struct world *w, const struct kei_merge_device *m)
{
    struct kei_device d;
    struct kei_arena a;

    kei_arena_init(&a, al(w), 0);
    assert_int_equal(kei_device_read(&d, kei_buf_str(&w->device), &a, NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        const char *has = kei_device_desired_by_name(&d, names[i]);
        const struct kei_merge_twin *t = kei_merge_find(m, kei_str(names[i]));

        assert_true(t && t->v[0].text ? has && strcmp(has, t->v[0].text) == 0 : !has);
    }
    kei_arena_free(&a);
}

static void check(struct world *w)
{
    struct kei_tdev *dev = edge_device(w);
    struct kei_device_state s;
    struct kei_arena a;

    if (!w->device.n) {
        assert_null(dev);
        w->seen[6]++;
        return;
    }
    assert_non_null(dev);
    struct kei_merge_device m = record(w);
    assert_int_equal(kei_hlc_compare(&dev->d.life, &m.life), 0);
    kei_arena_init(&a, al(w), 0);
    assert_int_equal(kei_device_state_read(&s, kei_buf_str(&w->status), w->uid, &a, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        check_desired(w, i, &m);
        check_reported(w, i, &s);
    }
    kei_arena_free(&a);
    check_device(w, &m);
    kei_merge_fini(&m, al(w));
}

static void round_of(struct world *w)
{
    if (w->round % 64 == 0)
        snprintf(w->name, sizeof w->name, "d%" PRIu64, w->round / 64);
    for (unsigned i = 0; i < STEPS; i++)
        step(w);
    quiet(w);
    check(w);
    w->seen[7]++;
    if (w->round % 64 == 63) { /* the next begins with another device */
        if (w->device.n)
            delete_device(w);
        quiet(w);
    }
}

static void both_ends_are_equal(void **state)
{
    const char *rounds = getenv("KE_TWIN_ROUNDS"), *seed = getenv("KE_SEED");
    uint64_t n = rounds ? strtoull(rounds, NULL, 10) : 2000;
    static struct world w;

    (void)state;
    memset(&w, 0, sizeof w);
    twin_init(&w.r, KE_DIALECT_1_23);
    w.r.env.idle_ms = 0; /* nobody else moves anything */
    w.rng = (seed ? strtoull(seed, NULL, 10) : 1) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    w.skew = TEST_CLOCK_REAL_MS - TEST_CLOCK_MONO_MS;
    kei_buf_init(&w.device, al(&w));
    kei_buf_init(&w.status, al(&w));
    for (w.round = 0; w.round < n; w.round++)
        round_of(&w);
    print_message("count: %" PRIu64 " interleavings of %u steps; news of former lives %u, told "
                  "twice up %u, down %u, too far ahead %u, restarts of the edge %u, of the cloud "
                  "%u, dead at the end %u\n",
                  n, STEPS, w.seen[0], w.seen[1], w.seen[2], w.seen[3], w.seen[4], w.seen[5],
                  w.seen[6]);
    for (int i = 0; i < 7; i++)
        assert_true(n < 2000 || i == 3 || w.seen[i] > 0);
    cut(&w);
    for (unsigned i = 0; i < 2; i++)
        free(w.manifest[i]);
    ke_buf_free(&w.device);
    ke_buf_free(&w.status);
    twin_fini(&w.r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ends_are_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
