/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devicestatus: what a node told of a device, in the form of upstream's DeviceStatus, and
 * beside it what tells late news from new ones. Every report counts, also the first of a twin and
 * that of a twin nobody listed. Pure; a state lives in the caller's arena.
 */
#include <stdio.h>
#include <string.h>

#include "base/codec.h"
#include "cloud/device.h"

#define STATE_TEXT_MAX 64
#define TWIN_NAME_MAX 128    /* what nodes take */
#define LATE_STATE_MS 900000 /* upstream's nodes repeat what was not confirmed for some minutes */

static int no_memory(struct ke_error *err)
{
    return kei_error(err, KE_ENOMEM, "out of memory for the status of a device");
}

struct kei_twin_state *kei_device_state_twin(const struct kei_device_state *s, struct ke_str name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (kei_str_eq(s->twins[i].name, name))
            return &s->twins[i];
    return NULL;
}

static struct kei_twin_state *add_twin(struct kei_device_state *s, struct ke_str name,
                                       struct kei_arena *a)
{
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 16;
        struct kei_twin_state *more = kei_arena_array(a, cap, sizeof *more);
        if (!more)
            return NULL;
        if (s->n)
            memcpy(more, s->twins, s->n * sizeof *more);
        s->twins = more;
        s->cap = cap;
    }
    const char *copy = kei_arena_strdup(a, name);
    if (!copy)
        return NULL;
    struct kei_twin_state *t = &s->twins[s->n++];
    *t = (struct kei_twin_state){.name = kei_strn(copy, name.n), .type = "", .observed_type = ""};
    return t;
}

/* ---- reading a row ---- */

static int64_t number(struct ke_str object, const char *path)
{
    struct ke_str v;
    int64_t n = 0;
    return kei_json_path(object, path, &v) && kei_json_i64(v, &n) ? n : 0;
}

/* The edge's time stands there as a string, as upstream has it. */
static int64_t stamp(struct ke_str side)
{
    char text[32];
    struct ke_str v;
    int64_t n = 0;
    if (!kei_json_path(side, "metadata.timestamp", &v))
        return 0;
    (void)kei_json_copy(text, sizeof text, v);
    return kei_str_i64(kei_str(text), &n) ? n : 0;
}

static int read_twin(struct kei_device_state *s, struct ke_str item, struct kei_arena *a)
{
    struct ke_str v, side;
    char *name = kei_json_get(item, "propertyName", &v) ? kei_json_strdup(v, a) : NULL;
    struct kei_twin_state *t = name ? add_twin(s, kei_str(name), a) : NULL;
    if (!t)
        return KE_ENOMEM;
    if (kei_json_get(item, "reported", &side)) {
        t->reported = kei_json_path_str(side, "value", a);
        t->type = kei_json_path_str(side, "metadata.type", a);
        t->reported_ms = stamp(side);
    }
    if (kei_json_get(item, "observedDesired", &side)) {
        t->observed = kei_json_path_str(side, "value", a);
        t->observed_type = kei_json_path_str(side, "metadata.type", a);
        t->observed_ms = stamp(side);
    }
    return 0;
}

/* {TWIN:[actual version, expected version, 1 if deleted]} */
static int read_versions(struct kei_device_state *s, struct ke_str map, struct kei_arena *a)
{
    struct ke_str key, v, k, item;
    for (size_t it = 0; kei_json_next(map, &it, &key, &v);) {
        int64_t n[3] = {0};
        char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
        struct kei_twin_state *t = name ? kei_device_state_twin(s, kei_str(name)) : NULL;
        size_t at = 0;
        if (!t)
            t = name ? add_twin(s, kei_str(name), a) : NULL;
        if (!t)
            return KE_ENOMEM;
        for (int i = 0; i < 3 && kei_json_next(v, &at, &k, &item); i++)
            (void)kei_json_i64(item, &n[i]);
        t->actual_edge = n[0];
        t->expected_edge = n[1];
        t->deleted = n[2] != 0;
    }
    return 0;
}

/* {TWIN:[stamp of observed, stamp of reported]} */
static int read_stamps(struct kei_device_state *s, struct ke_str map, struct kei_arena *a)
{
    struct ke_str key, v, k, item;
    for (size_t it = 0; kei_json_next(map, &it, &key, &v);) {
        char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
        struct kei_twin_state *t = name ? kei_device_state_twin(s, kei_str(name)) : NULL;
        size_t at = 0;
        if (!t)
            t = name ? add_twin(s, kei_str(name), a) : NULL;
        if (!t)
            return KE_ENOMEM;
        for (int i = 0; i < 2 && kei_json_type(v) == '[' && kei_json_next(v, &at, &k, &item); i++)
            (void)kei_hlc_read(&t->at[i], item);
    }
    return 0;
}

int kei_device_state_read(struct kei_device_state *s, struct ke_str status, const char *uid,
                          struct kei_arena *a, struct ke_error *err)
{
    struct ke_str list, k, item, map;
    int r = 0;
    *s = (struct kei_device_state){.uid = uid, .state = "", .seen = ""};
    if (status.n == 0 || !kei_json_path(status, KEI_DEVICE_OWN ".device", &item) ||
        !kei_json_str_is(item, uid))
        return 0;
    s->state = kei_json_path_str(status, "status.state", a);
    s->seen = kei_json_path_str(status, "status.lastOnlineTime", a);
    s->state_ms = number(status, KEI_DEVICE_OWN ".stateTime");
    if (kei_json_path(status, "status.twins", &list))
        for (size_t it = 0; r == 0 && kei_json_next(list, &it, &k, &item);)
            r = read_twin(s, item, a);
    if (r == 0 && kei_json_path(status, KEI_DEVICE_OWN ".versions", &map))
        r = read_versions(s, map, a);
    if (r == 0 && kei_json_path(status, KEI_DEVICE_OWN ".stamps", &map))
        r = read_stamps(s, map, a);
    return r < 0 ? no_memory(err) : 0;
}

/* ---- news ---- */

/* One side of a twin in a message. */
struct side {
    struct ke_str value; /* a string as it stands there */
    int64_t ts, edge;
    bool has, has_ts, has_version;
};

static void read_side(struct side *s, struct ke_str twin, const char *key, const char *version)
{
    struct ke_str o, v;
    *s = (struct side){0};
    if (kei_json_get(twin, version, &o) && kei_json_get(o, "edge", &v))
        s->has_version = kei_json_i64(v, &s->edge);
    if (!kei_json_get(twin, key, &o) || !kei_json_get(o, "value", &s->value) ||
        kei_json_type(s->value) != '"')
        return;
    s->has = true;
    s->has_ts = kei_json_path(o, "metadata.timestamp", &v) && kei_json_i64(v, &s->ts);
}

/* What was said before what is known: older by version and by clock, since either may begin anew.
 */
static bool is_late(const struct side *side, int64_t known_version, int64_t known_ms)
{
    return side->has_version && side->has_ts && side->edge < known_version && side->ts < known_ms;
}

static int merge_side(const char **value, const char **type, int64_t *ms, int64_t *version,
                      const struct side *side, const char *said, bool late, struct kei_arena *a,
                      struct ke_error *err)
{
    if (late && is_late(side, *version, *ms))
        return 0;
    char *text;
    int r = kei_json_text(&text, side->value, a, err);
    if (r < 0)
        return r;
    *value = text;
    if (said[0])
        *type = said;
    *ms = side->has_ts ? side->ts : 0;
    if (side->has_version)
        *version = side->edge;
    return 0;
}

static int merge_twin(struct kei_twin_state *t, const struct side *actual,
                      const struct side *expected, const char *type, bool late, struct kei_arena *a,
                      struct ke_error *err)
{
    int r = 0;
    if (strcmp(type, "deleted") == 0) {
        if (late && (actual->edge < t->actual_edge || expected->edge < t->expected_edge))
            return 0;
        t->deleted = true;
        t->reported = t->observed = NULL;
        if (actual->has_version)
            t->actual_edge = actual->edge;
        if (expected->has_version)
            t->expected_edge = expected->edge;
        return 0;
    }
    if (actual->has)
        r = merge_side(&t->reported, &t->type, &t->reported_ms, &t->actual_edge, actual, type, late,
                       a, err);
    if (r == 0 && expected->has)
        r = merge_side(&t->observed, &t->observed_type, &t->observed_ms, &t->expected_edge,
                       expected, type, late, a, err);
    if (t->reported || t->observed)
        t->deleted = false;
    return r;
}

/* Deleted since, and only the other side was set again: the message has a stamp and no value. */
static bool went(const char **value, const struct kei_merge_twin *m, unsigned side,
                 const struct kei_hlc *known)
{
    if (!m || m->v[side].text || kei_hlc_compare(&m->v[side].at, known) <= 0)
        return false;
    *value = NULL;
    return true;
}

/*
 * What the stamps of a message leave of a twin. true: nothing. A stamp that is known already is
 * news of what was observed: the same desired value may be seen later than it was said.
 */
static bool by_stamps(struct kei_twin_state *t, struct side *expected, struct side *actual,
                      bool deleted, const struct kei_merge_twin *m)
{
    static const struct kei_hlc none = {0, 0, 0};
    const struct kei_hlc *e = m ? &m->v[0].at : &none, *r = m ? &m->v[1].at : &none;
    if (deleted && !m) {
        t->at[0] = t->at[1] = none;
        return false;
    }
    if (deleted) /* the stamps say of which side that is news */
        actual->has = expected->has = false;
    if (m && actual->has && !kei_hlc_is_zero(&t->at[1]) && kei_hlc_compare(r, &t->at[1]) <= 0)
        actual->has = false;
    if (m && expected->has && kei_hlc_compare(e, &t->at[0]) < 0)
        expected->has = false;
    if (actual->has || went(&t->reported, m, 1, &t->at[1]))
        t->at[1] = *r;
    if (expected->has || went(&t->observed, m, 0, &t->at[0]))
        t->at[0] = *e;
    if (m)
        t->deleted = !t->reported && !t->observed;
    return !actual->has && !expected->has;
}

/* One member of "twin". */
static int merge_member(struct kei_device_state *s, struct ke_str key, struct ke_str v, bool late,
                        const struct kei_merge_device *m, struct kei_arena *a, struct ke_error *err)
{
    struct side actual, expected;
    char *name = kei_json_strdup(kei_strn(key.p - 1, key.n + 2), a);
    size_t n = name ? strlen(name) : 0;
    if (!name)
        return no_memory(err);
    if (n == 0 || n > TWIN_NAME_MAX)
        return kei_error(err, KE_ELIMIT,
                         "the name of a twin has %zu bytes; it has 1 to the limit of %d", n,
                         TWIN_NAME_MAX);
    const char *type =
        kei_json_type(v) == 'n' ? "deleted" : kei_json_path_str(v, "metadata.type", a);
    struct kei_twin_state *t = kei_device_state_twin(s, kei_strn(name, n));
    read_side(&actual, v, "actual", "actual_version");
    read_side(&expected, v, "expected", "expected_version");
    const struct kei_merge_twin *stamps = m ? kei_merge_find(m, kei_strn(name, n)) : NULL;
    if (!t && (strcmp(type, "deleted") == 0 || (!actual.has && !expected.has)) &&
        (!stamps || s->n == KEI_DEVICE_TWINS_MAX))
        return 0; /* with stamps it is kept: older news may come behind it */
    if (!t && s->n == KEI_DEVICE_TWINS_MAX)
        return kei_error(err, KE_ELIMIT, "the device has more twins than the limit of %u",
                         KEI_DEVICE_TWINS_MAX);
    if (!t)
        t = add_twin(s, kei_strn(name, n), a);
    if (m && !stamps && t && !(kei_hlc_is_zero(&t->at[0]) && kei_hlc_is_zero(&t->at[1])))
        return 0; /* it says nothing with a stamp, and what is known has one */
    if (t && by_stamps(t, &expected, &actual, strcmp(type, "deleted") == 0, stamps))
        return 0;
    return t ? merge_twin(t, &actual, &expected, type, late, a, err) : no_memory(err);
}

int kei_device_state_merge(struct kei_device_state *s, struct ke_str content, bool late,
                           const struct kei_merge_device *m, struct kei_arena *a,
                           struct ke_error *err)
{
    struct ke_str twins, key, v;
    int r = 0;
    if (!kei_json_get(content, "twin", &twins) || kei_json_type(twins) != '{')
        return kei_error(err, KE_EPARSE, "the message has no map of twins");
    for (size_t it = 0; r == 0 && kei_json_next(twins, &it, &key, &v);)
        r = merge_member(s, key, v, late && !m, m, a, err);
    return r;
}

/* What is kept of a word that a node tells. */
static const char *short_text(struct ke_str object, const char *key, struct kei_arena *a)
{
    char text[STATE_TEXT_MAX];
    struct ke_str v;
    text[0] = 0;
    if (kei_json_get(object, key, &v))
        (void)kei_json_copy(text, sizeof text, v);
    return kei_arena_strdup(a, kei_str(text));
}

int kei_device_state_online(struct kei_device_state *s, struct ke_str content, bool late,
                            struct kei_arena *a, struct ke_error *err)
{
    struct ke_str device, v;
    int64_t at = number(content, "timestamp");
    if (!kei_json_get(content, "device", &device) || kei_json_type(device) != '{' ||
        !kei_json_get(device, "state", &v) || kei_json_type(v) != '"')
        return kei_error(err, KE_EPARSE, "the message tells no device.state");
    if (late && at < s->state_ms && s->state_ms - at < LATE_STATE_MS)
        return 0;
    const char *state = short_text(device, "state", a);
    const char *seen = short_text(device, "lastOnlineTime", a);
    if (seen && !seen[0])
        seen = short_text(device, "last_online", a);
    if (!state || !seen)
        return no_memory(err);
    s->state = state;
    if (seen[0]) /* upstream's empty it when the device goes; when it was there stays known here */
        s->seen = seen;
    s->state_ms = at;
    return 0;
}

void kei_device_state_restart(struct kei_device_state *s)
{
    s->state_ms = 0;
    for (uint32_t i = 0; i < s->n; i++)
        s->twins[i].actual_edge = s->twins[i].expected_edge = 0;
}

/* ---- writing ---- */

static void write_side(struct kei_jw *w, const char *key, const char *value, const char *type,
                       int64_t ms)
{
    char text[24];
    if (!value)
        return;
    kei_jw_key(w, key);
    kei_jw_obj(w);
    kei_jw_kstr(w, "value", value);
    if (ms != 0 || type[0]) {
        kei_jw_key(w, "metadata");
        kei_jw_obj(w);
        snprintf(text, sizeof text, "%lld", (long long)ms);
        if (ms != 0)
            kei_jw_kstr(w, "timestamp", text);
        if (type[0])
            kei_jw_kstr(w, "type", type);
        kei_jw_obj_end(w);
    }
    kei_jw_obj_end(w);
}

static void write_versions(struct kei_jw *w, const struct kei_device_state *s)
{
    kei_jw_key(w, "versions");
    kei_jw_obj(w);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kei_twin_state *t = &s->twins[i];
        if (!t->actual_edge && !t->expected_edge && !t->deleted)
            continue;
        kei_jw_key(w, t->name.p);
        kei_jw_arr(w);
        kei_jw_i64(w, t->actual_edge);
        kei_jw_i64(w, t->expected_edge);
        kei_jw_i64(w, t->deleted);
        kei_jw_arr_end(w);
    }
    kei_jw_obj_end(w);
}

static void write_stamps(struct kei_jw *w, const struct kei_device_state *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kei_twin_state *t = &s->twins[i];
        if (kei_hlc_is_zero(&t->at[0]) && kei_hlc_is_zero(&t->at[1]))
            continue;
        if (!any) {
            kei_jw_key(w, "stamps");
            kei_jw_obj(w);
        }
        any = true;
        kei_jw_key(w, t->name.p);
        kei_jw_arr(w);
        kei_hlc_write(w, &t->at[0]);
        kei_hlc_write(w, &t->at[1]);
        kei_jw_arr_end(w);
    }
    if (any)
        kei_jw_obj_end(w);
}

void kei_device_state_write(struct ke_buf *out, const struct kei_device_state *s, const char *name)
{
    struct kei_jw w;
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "kind", "DeviceStatus");
    kei_jw_kstr(&w, "apiVersion", "devices.kubeedge.io/v1beta1");
    kei_jw_key(&w, "metadata");
    kei_jw_obj(&w);
    kei_jw_key(&w, "ownerReferences");
    kei_jw_arr(&w);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "apiVersion", "devices.kubeedge.io/v1beta1");
    kei_jw_kstr(&w, "kind", "Device");
    kei_jw_kstr(&w, "name", name);
    kei_jw_kstr(&w, "uid", s->uid);
    kei_jw_kbool(&w, "controller", true);
    kei_jw_obj_end(&w);
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
    kei_jw_kraw(&w, "spec", KEI_STR("{}"));
    kei_jw_key(&w, "status");
    kei_jw_obj(&w);
    kei_jw_key(&w, "twins");
    kei_jw_arr(&w);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kei_twin_state *t = &s->twins[i];
        if (!t->reported && !t->observed)
            continue;
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "propertyName", t->name.p);
        write_side(&w, "reported", t->reported, t->type, t->reported_ms);
        write_side(&w, "observedDesired", t->observed, t->observed_type, t->observed_ms);
        kei_jw_obj_end(&w);
    }
    kei_jw_arr_end(&w);
    if (s->state[0])
        kei_jw_kstr(&w, "state", s->state);
    if (s->seen[0])
        kei_jw_kstr(&w, "lastOnlineTime", s->seen);
    kei_jw_obj_end(&w);
    kei_jw_key(&w, KEI_DEVICE_OWN);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "device", s->uid);
    if (s->state_ms)
        kei_jw_ki64(&w, "stateTime", s->state_ms);
    write_versions(&w, s);
    write_stamps(&w, s);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}
