/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the payloads of device topics, members in upstream's order, names sorted. Appends to the
 * caller's buffer.
 */
#include "base/json.h"
#include "message/twin.h"

#define WITH_VERSIONS 1u /* what a twin is written with */
#define AS_RECEIVED 2u   /* only what was there */
#define LAST_ONLINE(dialect) ((dialect) == KE_DIALECT_1_23 ? "lastOnlineTime" : "last_online")

static void begin(struct kei_jw *w, struct ke_buf *out, const struct kei_twin_base *b)
{
    kei_jw_init(w, out);
    kei_jw_obj(w);
    kei_jw_key(w, "event_id");
    kei_jw_strv(w, b->event_id);
    kei_jw_ki64(w, "timestamp", b->timestamp);
}

/* a key that is not NUL-terminated */
static void key(struct kei_jw *w, struct ke_str name)
{
    kei_jw_strv(w, name);
    kei_buf_addc(w->out, ':');
    w->comma = false;
}

static void version(struct kei_jw *w, const char *name, const struct kei_twin_side *s)
{
    kei_jw_key(w, name);
    kei_jw_obj(w);
    kei_jw_ki64(w, "cloud", s->cloud);
    kei_jw_ki64(w, "edge", s->edge);
    kei_jw_obj_end(w);
}

static void side(struct kei_jw *w, const char *name, const struct kei_twin_side *s)
{
    kei_jw_key(w, name);
    kei_jw_obj(w);
    kei_jw_key(w, "value");
    kei_jw_strv(w, s->value);
    if (s->has_ts) {
        kei_jw_key(w, "metadata");
        kei_jw_obj(w);
        kei_jw_ki64(w, "timestamp", s->ts);
        kei_jw_obj_end(w);
    }
    kei_jw_obj_end(w);
}

static void entry_members(struct kei_jw *w, const struct kei_twin_view *t, uint32_t sides,
                          uint32_t how)
{
    static const char *const names[] = {"expected", "actual"};
    static const char *const versions[] = {"expected_version", "actual_version"};

    for (unsigned s = 0; s < 2; s++) {
        if ((sides & (1u << s)) && t->side[s].has)
            side(w, names[s], &t->side[s]);
    }
    if (t->has_optional)
        kei_jw_kbool(w, "optional", t->optional);
    if (t->has_meta) {
        kei_jw_key(w, "metadata");
        kei_jw_obj(w);
        if (t->type.n) {
            kei_jw_key(w, "type");
            kei_jw_strv(w, t->type);
        }
        kei_jw_obj_end(w);
    }
    for (unsigned s = 0; s < 2 && (how & WITH_VERSIONS); s++) {
        if ((sides & (1u << s)) && t->side[s].has_version)
            version(w, versions[s], &t->side[s]);
    }
}

static void entry(struct kei_jw *w, const struct kei_twin_view *t, uint32_t sides, uint32_t how)
{
    if (t->null || ((how & AS_RECEIVED) && t->has_meta && kei_str_is(t->type, "deleted"))) {
        kei_jw_null(w);
        return;
    }
    kei_jw_obj(w);
    entry_members(w, t, sides, how);
    kei_jw_obj_end(w);
}

static void kept(struct kei_jw *w, const struct kei_twin *t, uint32_t sides, uint32_t how)
{
    struct kei_twin_view v;

    kei_twin_view(&v, t);
    entry(w, &v, sides, how);
}

void kei_twin_write_error(struct ke_buf *out, const struct kei_twin_base *b, int code,
                          const char *reason)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_ki64(&w, "code", code);
    kei_jw_kstr(&w, "reason", reason);
    kei_jw_obj_end(&w);
}

void kei_twin_write_result(struct ke_buf *out, const struct kei_twin_base *b,
                           const struct kei_twin_outcome *o)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < o->n; i++) {
        const struct kei_twin_change *c = &o->changes[i];

        if (!c->changed)
            continue;
        key(&w, c->name);
        if (c->nulled)
            kei_jw_null(&w);
        else
            kept(&w, c->after, c->sides, 0);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

static void state_of(struct kei_jw *w, const char *name, const struct kei_twin *t)
{
    kei_jw_key(w, name);
    if (!t || kei_twin_deleted(t))
        kei_jw_null(w);
    else
        kept(w, t, KEI_TWIN_BOTH, 0);
}

void kei_twin_write_document(struct ke_buf *out, const struct kei_twin_base *b,
                             const struct kei_twin_outcome *o)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < o->n; i++) {
        const struct kei_twin_change *c = &o->changes[i];

        if (!c->changed)
            continue;
        key(&w, c->name);
        kei_jw_obj(&w);
        state_of(&w, "last", c->before);
        state_of(&w, "current", c->after);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

/* In the delta's twin part; *ret_differs: in its delta part, too. */
static bool in_delta(const struct kei_twin *t, uint32_t dialect, struct kei_twin_view *v,
                     bool *ret_differs)
{
    const struct kei_twin_side *e = &v->side[0], *a = &v->side[1];

    kei_twin_view(v, t);
    if (kei_twin_deleted(t) || !e->has || (e->value.n == 0 && dialect != KE_DIALECT_1_4))
        return false;
    *ret_differs = e->value.n > 0 && (!a->has || !kei_str_eq(e->value, a->value));
    return true;
}

bool kei_twin_write_delta(struct ke_buf *out, const struct kei_twin_base *b,
                          const struct kei_twin_device *d, uint32_t dialect)
{
    struct kei_twin_view v;
    struct kei_jw w;
    bool differs, any = false;

    for (uint32_t i = 0; i < d->n && !any; i++)
        any = in_delta(d->twins[i], dialect, &v, &differs) && differs;
    if (!any)
        return false;
    begin(&w, out, b);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < d->n; i++) {
        if (!in_delta(d->twins[i], dialect, &v, &differs))
            continue;
        key(&w, v.name);
        entry(&w, &v, KEI_TWIN_BOTH, 0);
    }
    kei_jw_obj_end(&w);
    kei_jw_key(&w, "delta");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < d->n; i++) {
        if (!in_delta(d->twins[i], dialect, &v, &differs) || !differs)
            continue;
        key(&w, v.name);
        kei_jw_strv(&w, v.side[0].value);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
    return true;
}

void kei_twin_write_get(struct ke_buf *out, const struct kei_twin_base *b,
                        const struct kei_twin_device *d)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < d->n; i++) {
        if (kei_twin_deleted(d->twins[i]))
            continue;
        key(&w, kei_str(kei_twin_name(d->twins[i])));
        kept(&w, d->twins[i], KEI_TWIN_BOTH, 0);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

/* The stamps of what is unconfirmed. */
static void merge_member(struct kei_jw *w, const struct kei_twin_device *d)
{
    kei_jw_key(w, "merge");
    kei_merge_open(w, &d->life, false);
    for (uint32_t i = 0; i < d->n; i++) {
        const char *text[2] = {NULL, NULL};
        struct kei_hlc at[2] = {{0, 0, 0}, {0, 0, 0}};
        struct kei_twin_view v;

        kei_twin_view(&v, d->twins[i]);
        for (unsigned s = 0; s < 2; s++) {
            if (!(v.dirty & (1u << s)))
                continue;
            text[s] =
                v.side[s].has ? v.side[s].value.p : NULL; /* ends in a NUL, where it is kept */
            at[s] = v.side[s].at;
        }
        kei_merge_one(w, v.name, text, at, NULL);
    }
    kei_merge_close(w);
}

void kei_twin_write_edge_updated(struct ke_buf *out, const struct kei_twin_base *b,
                                 const struct kei_twin_device *d, bool merge)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < d->n; i++) {
        const struct kei_twin *t = d->twins[i];

        if (!kei_twin_dirty(t))
            continue;
        key(&w, kei_str(kei_twin_name(t)));
        kept(&w, t, kei_twin_dirty(t), WITH_VERSIONS);
    }
    kei_jw_obj_end(&w);
    if (merge && !kei_hlc_is_zero(&d->life))
        merge_member(&w, d);
    kei_jw_obj_end(&w);
}

static void optional_text(struct kei_jw *w, const char *name, const char *s)
{
    if (*s)
        kei_jw_kstr(w, name, s);
}

static void optional_str(struct kei_jw *w, const char *name, struct ke_str s)
{
    if (s.n) {
        kei_jw_key(w, name);
        kei_jw_strv(w, s);
    }
}

void kei_twin_write_state(struct ke_buf *out, const struct kei_twin_base *b,
                          const struct kei_twin_device *d, uint32_t dialect, bool merge)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_key(&w, "device");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", d->name);
    optional_text(&w, "state", d->state);
    optional_text(&w, LAST_ONLINE(dialect), d->last_online);
    kei_jw_obj_end(&w);
    if (merge && !kei_hlc_is_zero(&d->life)) {
        kei_jw_key(&w, "merge");
        kei_merge_open(&w, &d->life, false);
        kei_merge_close(&w);
    }
    kei_jw_obj_end(&w);
}

void kei_twin_write_device(struct ke_buf *out, const struct kei_twin_device *d, uint32_t dialect)
{
    struct ke_buf id;
    struct kei_jw w;

    kei_buf_init(&id, out->alloc);
    kei_twin_id_write(&id, d, dialect);
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "id");
    kei_jw_strv(&w, kei_buf_str(&id));
    kei_jw_kstr(&w, "name", d->name);
    optional_text(&w, "description", d->description);
    optional_text(&w, "state", d->state);
    optional_text(&w, LAST_ONLINE(dialect), d->last_online);
    if (*d->attributes)
        kei_jw_kraw(&w, "attributes", kei_str(d->attributes));
    kei_jw_obj_end(&w);
    if (!kei_buf_ok(&id))
        (void)kei_buf_room(out, SIZE_MAX / 2); /* marks out as failed, too */
    ke_buf_free(&id);
}

void kei_twin_write_membership(struct ke_buf *out, const struct kei_twin_base *b,
                               const struct kei_twin_device_view *d, bool removed, uint32_t dialect)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_key(&w, "added_devices");
    if (removed) {
        kei_jw_null(&w);
        kei_jw_key(&w, "removed_devices");
    }
    kei_jw_arr(&w);
    kei_jw_obj(&w);
    optional_str(&w, "id", d->id);
    optional_str(&w, "name", d->name);
    optional_str(&w, "description", d->description);
    optional_str(&w, "state", d->state);
    optional_str(&w, LAST_ONLINE(dialect), d->last_online);
    if (d->attributes.n)
        kei_jw_kraw(&w, "attributes", d->attributes);
    if (d->n_twins) {
        kei_jw_key(&w, "twin");
        kei_jw_obj(&w);
        for (uint32_t i = 0; i < d->n_twins; i++) {
            key(&w, d->twins[i].name);
            entry(&w, &d->twins[i], KEI_TWIN_BOTH, AS_RECEIVED);
        }
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_arr_end(&w);
    if (!removed) {
        kei_jw_key(&w, "removed_devices");
        kei_jw_null(&w);
    }
    kei_jw_obj_end(&w);
}

void kei_twin_write_attributes(struct ke_buf *out, const struct kei_twin_base *b,
                               struct ke_str diff)
{
    struct kei_jw w;

    begin(&w, out, b);
    kei_jw_kraw(&w, "attributes", diff);
    kei_jw_obj_end(&w);
}

void kei_twin_write_detail(struct ke_buf *out, const struct kei_twin_base *b, const char *node)
{
    struct kei_jw w;

    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "event_type", "group_membership_event");
    kei_jw_key(&w, "event_id");
    kei_jw_strv(&w, b->event_id);
    kei_jw_kstr(&w, "group_id", node);
    kei_jw_kstr(&w, "operation", "detail");
    kei_jw_ki64(&w, "timestamp", b->timestamp);
    kei_jw_obj_end(&w);
}

/* ---- all of a device, for people and programs ---- */

void kei_twin_write_json(struct ke_buf *out, const struct kei_twin_device *d)
{
    struct kei_twin_view v;
    struct kei_jw w;

    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "ns", d->ns);
    kei_jw_kstr(&w, "name", d->name);
    optional_text(&w, "description", d->description);
    optional_text(&w, "state", d->state);
    optional_text(&w, "last_online", d->last_online);
    if (*d->attributes)
        kei_jw_kraw(&w, "attributes", kei_str(d->attributes));
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < d->n; i++) {
        kei_twin_view(&v, d->twins[i]);
        key(&w, v.name);
        kei_jw_obj(&w);
        entry_members(&w, &v, KEI_TWIN_BOTH, WITH_VERSIONS);
        if (v.dirty)
            kei_jw_kbool(&w, "unconfirmed", true);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}
