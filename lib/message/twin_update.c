/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an update does to the twins of a device: KubeEdge's rules for reports (REST) and for what
 * the cloud says (SYNC), with its versions. Where upstream's edge would crash (no metadata, no
 * value) the entry is left out; where it leaves a first value unchecked, it is checked here.
 *
 * All new twins are made first, then put in their places, which cannot fail: an update is whole or
 * not at all.
 */
#include "message/twin.h"

struct update {
    struct kei_twin_outcome *o;
    struct kei_twin_device *d;
    enum kei_twin_mode mode;
    const struct kei_twin_rules *rules;
    const struct ke_alloc *al;
    struct kei_arena *a;
    uint32_t added;
    uint64_t seq;
};

/* A verdict on one name. */
enum { GO_ON = 0, REFUSE = 1 }; /* REFUSE: the whole update, outcome.reason says why */

static int refuse_all(struct update *u, const char *reason)
{
    u->o->code = 400;
    u->o->reason = reason;
    return REFUSE;
}

/* The new state of one twin. */
static int note(struct update *u, const struct kei_twin *before, struct kei_twin_view *after,
                uint32_t sides, bool changed, bool nulled)
{
    struct kei_twin_change *c = &u->o->changes[u->o->n];
    struct kei_twin *t = kei_twin_make(u->al, after, after->dirty ? u->seq : 0, after->dirty);

    if (!t)
        return KE_ENOMEM;
    *c = (struct kei_twin_change){.name = kei_strn(kei_twin_name(t), after->name.n),
                                  .before = before ? kei_twin_ref(before) : NULL,
                                  .after = t,
                                  .sides = sides,
                                  .nulled = nulled,
                                  .changed = changed};
    u->o->n++;
    u->o->changed = true;
    u->added += before == NULL;
    if (after->dirty)
        u->o->to_cloud = true;
    return GO_ON;
}

/* May the cloud's version replace this one? */
static bool passes(const struct kei_twin_side *t, const struct kei_twin_side *m)
{
    int64_t cloud = t->has_version ? t->cloud : 0, edge = t->has_version ? t->edge : 0;

    return m->has_version && cloud <= m->cloud && edge <= m->edge;
}

/* What upstream's cloud says has no stamp: any other word of ours is later. */
static void stamp(struct update *u, struct kei_twin_side *t)
{
    t->at = (struct kei_hlc){0, 0, 0};
    if (u->mode == KEI_TWIN_REST && u->rules->clock)
        t->at = kei_hlc_tick(u->rules->clock, u->rules->wall_ms);
}

/* A driver tells which desired value it saw: the same that is here, or one of another time. */
static bool is_seen(const struct update *u, unsigned s)
{
    return u->mode == KEI_TWIN_REST && u->rules->driver && s == KEI_TWIN_EXPECTED;
}

static void take_version(struct update *u, struct kei_twin_side *t, const struct kei_twin_side *m)
{
    if (u->mode == KEI_TWIN_REST) {
        if (!t->has_version)
            t->cloud = t->edge = 0;
        t->edge += t->edge < INT64_MAX;
    } else {
        t->cloud = m->cloud;
        t->edge = m->edge;
    }
    t->has_version = true;
}

/* The cloud is told what holds here. v may be changed already. */
static int refuse_sync(struct update *u, const struct kei_twin *t, struct kei_twin_view *v,
                       uint32_t sides, bool changed)
{
    v->dirty |= KEI_TWIN_BOTH | KEI_TWIN_OTHER;
    return note(u, t, v, sides, changed, false);
}

static int delete_twin(struct update *u, const struct kei_twin *t, const struct kei_twin_view *m)
{
    struct kei_twin_view v;

    kei_twin_view(&v, t);
    if (kei_twin_deleted(t) || (u->mode == KEI_TWIN_REST && !v.optional))
        return GO_ON;
    for (unsigned s = 0; s < 2 && u->mode == KEI_TWIN_SYNC; s++) {
        if (v.side[s].has_version && m->side[s].has_version && !passes(&v.side[s], &m->side[s]))
            return refuse_sync(u, t, &v, 0, false);
    }
    for (unsigned s = 0; s < 2; s++) {
        v.side[s].has = false;
        if (s == 0)
            stamp(u, &v.side[0]);
        v.side[s].at = v.side[0].at; /* one word about both */
        if (v.side[s].has_version && (u->mode == KEI_TWIN_REST || m->side[s].has_version))
            take_version(u, &v.side[s], &m->side[s]);
    }
    v.type = KEI_STR("deleted");
    v.dirty = u->mode == KEI_TWIN_REST ? KEI_TWIN_BOTH | KEI_TWIN_OTHER : 0;
    return note(u, t, &v, KEI_TWIN_BOTH, true, u->mode == KEI_TWIN_REST);
}

static struct ke_str type_of(const struct kei_twin_view *m)
{
    return m->has_meta && m->type.n ? m->type : KEI_STR("string");
}

/* One side of an existing twin. REFUSE with outcome.code: all; REFUSE without: only this key. */
static int take_side(struct update *u, struct kei_twin_view *v, const struct kei_twin_side *m,
                     unsigned s, struct ke_str type, uint32_t *sides)
{
    const char *why = kei_twin_value_check(type, m->value, u->rules);
    struct kei_twin_side *t = &v->side[s];

    if (why && u->mode == KEI_TWIN_REST)
        return refuse_all(u, why);
    if (why)
        return GO_ON;
    if (u->mode == KEI_TWIN_SYNC && !passes(t, m))
        return REFUSE;
    bool other = !t->has || !kei_str_eq(t->value, m->value);
    if (is_seen(u, s) && u->rules->observed && other)
        return GO_ON;
    if (!is_seen(u, s))
        stamp(u, t);
    else if (other)
        t->at = (struct kei_hlc){0, 0, 0};
    take_version(u, t, m);
    t->has = t->has_ts = true;
    t->value = m->value;
    t->ts = u->rules->now_ms;
    *sides |= 1u << s;
    if (u->mode == KEI_TWIN_REST)
        v->dirty |= 1u << s;
    else
        v->dirty &= ~(1u << s); /* the cloud's own word */
    return GO_ON;
}

/* Has a driver's model changed? Not when what it says now is no value of the type it says. */
static bool is_retyped(const struct update *u, const struct kei_twin_view *m)
{
    if (!(u->rules->flags & KEI_TWIN_RETYPE) || u->mode != KEI_TWIN_REST || !m->has_meta ||
        !m->type.n || kei_str_is(m->type, "deleted"))
        return false;
    for (unsigned s = 0; s < 2; s++) {
        if (m->side[s].has && kei_twin_value_check(m->type, m->side[s].value, u->rules))
            return false;
    }
    return true;
}

static int change_twin(struct update *u, const struct kei_twin *t, const struct kei_twin_view *m)
{
    bool was_deleted = kei_twin_deleted(t), other = false;
    struct kei_twin_view v;
    struct ke_str type;
    uint32_t sides = 0;

    kei_twin_view(&v, t);
    bool retyped = is_retyped(u, m);
    type = was_deleted || retyped || !v.type.n ? type_of(m) : v.type;
    if (was_deleted && kei_str_is(type, "deleted"))
        type = KEI_STR("string");
    for (unsigned s = 0; s < 2; s++) {
        int r = m->side[s].has ? take_side(u, &v, &m->side[s], s, type, &sides) : GO_ON;

        if (r == REFUSE && !u->o->code)
            return refuse_sync(u, t, &v, sides, sides != 0);
        if (r != GO_ON)
            return r;
    }
    if (m->has_optional && v.optional && !m->optional) {
        v.optional = false;
        other = true;
    }
    if (m->has_meta && !kei_str_eq(m->type, v.type))
        other = true;
    if (!sides && !other)
        return GO_ON;
    if (was_deleted || retyped || !v.type.n)
        v.type = type;
    if (u->mode == KEI_TWIN_REST)
        v.dirty |= other || was_deleted ? KEI_TWIN_OTHER : 0;
    return note(u, t, &v, sides, true, false);
}

static int add_twin(struct update *u, const struct kei_twin_view *m)
{
    struct kei_twin_view v = {.name = m->name, .has_meta = true, .has_optional = true};
    uint32_t sides = 0;
    bool dead, observed = false;

    if (m->null)
        return u->mode == KEI_TWIN_REST ? refuse_all(u, "The request body is wrong") : GO_ON;
    if (u->d->n + u->added >= u->rules->max_twins) {
        char *why = kei_arena_printf(u->a, "the device has %u twins, the limit max_twins is %u",
                                     u->d->n + u->added, u->rules->max_twins);

        return u->mode == KEI_TWIN_REST ? refuse_all(u, why ? why : "too many twins") : GO_ON;
    }
    v.type = type_of(m);
    v.optional = m->has_optional ? m->optional : true;
    dead = u->mode == KEI_TWIN_SYNC && kei_str_is(v.type, "deleted");
    for (unsigned s = 0; s < 2; s++) {
        const struct kei_twin_side *side = &m->side[s];
        const char *why;

        if (!side->has && !(dead && side->has_version))
            continue;
        if (is_seen(u, s) && u->rules->observed) {
            observed = true;
            continue;
        }
        if (u->mode == KEI_TWIN_SYNC && !passes(&v.side[s], side))
            return GO_ON;
        why = side->has ? kei_twin_value_check(v.type, side->value, u->rules) : NULL;
        if (why)
            return u->mode == KEI_TWIN_REST ? refuse_all(u, why) : GO_ON;
        take_version(u, &v.side[s], side);
        if (!is_seen(u, s))
            stamp(u, &v.side[s]);
        v.side[s].has = v.side[s].has_ts = side->has && side->value.n > 0 && !dead;
        v.side[s].value = side->value;
        v.side[s].ts = u->rules->now_ms;
        sides |= 1u << s;
    }
    if (observed && !sides)
        return GO_ON;
    if (u->mode == KEI_TWIN_REST)
        v.dirty = sides | KEI_TWIN_OTHER;
    return note(u, NULL, &v, sides, !dead, false);
}

/* One side by its stamps. true: it is another now. */
static bool merge_side(struct update *u, struct kei_twin_view *v, const struct kei_twin_side *m,
                       unsigned s)
{
    struct kei_twin_side *t = &v->side[s];
    int c = kei_hlc_compare(&m->at, &t->at);

    if (c < 0) /* who said that must hear of it */
        v->dirty |= 1u << s;
    if (c <= 0)
        return false;
    t->has = t->has_ts = m->has;
    t->value = m->value;
    t->ts = u->rules->now_ms;
    t->at = m->at;
    if (m->has_version) {
        t->edge = t->has_version ? t->edge : 0;
        t->cloud = m->cloud;
        t->has_version = true;
    }
    v->dirty &= ~(1u << s);
    return true;
}

static int merge_twin(struct update *u, const struct kei_twin *t, const struct kei_twin_view *m)
{
    struct kei_twin_view v = {.name = m->name, .has_meta = true, .has_optional = true};
    uint32_t sides = 0, dirty;
    bool dead;

    if (!t && u->d->n + u->added >= u->rules->max_twins)
        return GO_ON;
    v.type = m->type;
    v.optional = m->has_optional ? m->optional : true;
    if (t)
        kei_twin_view(&v, t);
    dirty = v.dirty;
    for (unsigned s = 0; s < 2; s++) {
        if ((m->dirty & (1u << s)) && merge_side(u, &v, &m->side[s], s))
            sides |= 1u << s;
    }
    if (!sides && v.dirty == dirty)
        return GO_ON;
    dead = kei_str_is(v.type, "deleted");
    if (!v.side[0].has && !v.side[1].has)
        v.type = KEI_STR("deleted");
    else if (dead)
        v.type = m->type;
    return note(u, t, &v, sides, sides && (v.side[0].has || v.side[1].has || (t && !dead)), false);
}

static int one(struct update *u, const struct kei_twin_view *m)
{
    const struct kei_twin *t = kei_twin_find(u->d, m->name);

    if (u->mode == KEI_TWIN_MERGE)
        return merge_twin(u, t, m);
    if (!t)
        return add_twin(u, m);
    if (u->mode == KEI_TWIN_SYNC && (m->null || !m->has_meta))
        return GO_ON;
    if (m->null || (u->mode == KEI_TWIN_SYNC && kei_str_is(m->type, "deleted")))
        return delete_twin(u, t, m);
    return change_twin(u, t, m);
}

/* Would the device be too large? */
static int check_bytes(struct update *u)
{
    size_t n = 0, grown = 0;
    char *why;

    for (uint32_t i = 0; i < u->o->n; i++) {
        const struct kei_twin_change *c = &u->o->changes[i];
        size_t was = c->before ? kei_twin_bytes(c->before) : 0, is = kei_twin_bytes(c->after);

        grown += is > was ? is - was : 0;
    }
    if (!grown)
        return GO_ON;
    for (uint32_t i = 0; i < u->d->n; i++)
        n += kei_twin_bytes(u->d->twins[i]);
    if (n + grown <= u->rules->max_bytes)
        return GO_ON;
    why = kei_arena_printf(u->a, "the twins of the device have %zu bytes, the limit is %u",
                           n + grown, u->rules->max_bytes);
    return refuse_all(u, why ? why : "the twins of the device are too large");
}

/* Both lists are by name. Cannot fail: room is there. */
static void put_in_place(struct update *u, const struct kei_twin **room)
{
    struct kei_twin_device *d = u->d;
    uint32_t n = 0, i = 0;

    for (uint32_t k = 0; k < u->o->n; k++) {
        const struct kei_twin_change *c = &u->o->changes[k];
        const struct kei_twin *t = kei_twin_ref(c->after);

        if (!room) { /* none is new */
            while (d->twins[i] != c->before)
                i++;
            kei_twin_unref(u->al, d->twins[i]);
            d->twins[i] = t;
            continue;
        }
        while (i < d->n && strcmp(kei_twin_name(d->twins[i]), kei_twin_name(t)) < 0)
            room[n++] = d->twins[i++];
        if (c->before)
            kei_twin_unref(u->al, d->twins[i++]);
        room[n++] = t;
    }
    if (!room)
        return;
    while (i < d->n)
        room[n++] = d->twins[i++];
    kei_free(u->al, d->twins);
    d->twins = room;
    d->n = d->cap = n;
}

void kei_twin_outcome_free(struct kei_twin_outcome *o, const struct ke_alloc *al)
{
    for (uint32_t i = 0; i < o->n; i++) {
        kei_twin_unref(al, o->changes[i].before);
        kei_twin_unref(al, o->changes[i].after);
    }
    o->n = 0;
}

int kei_twin_update(struct kei_twin_outcome *ret, struct kei_twin_device *d,
                    const struct kei_twin_view *twins, uint32_t n, enum kei_twin_mode mode,
                    const struct kei_twin_rules *rules, const struct ke_alloc *al,
                    struct kei_arena *a, struct ke_error *err)
{
    struct update u = {ret, d, mode, rules, al, a, 0, d->seq + 1};
    const struct kei_twin **room = NULL;
    int r = GO_ON;

    memset(ret, 0, sizeof *ret);
    if (n == 0)
        return 0;
    ret->changes = kei_arena_array(a, n, sizeof *ret->changes);
    if (!ret->changes)
        r = KE_ENOMEM;
    for (uint32_t i = 0; i < n && r == GO_ON; i++)
        r = one(&u, &twins[i]);
    if (r == GO_ON)
        r = check_bytes(&u);
    if (r == GO_ON && u.added) {
        room = kei_array_alloc(al, (size_t)d->n + u.added, sizeof *room);
        if (!room)
            r = KE_ENOMEM;
    }
    if (r == GO_ON && ret->n) {
        put_in_place(&u, room);
        d->seq = ret->to_cloud ? u.seq : d->seq;
        return 0;
    }
    kei_free(al, room);
    if (r != GO_ON) {
        kei_twin_outcome_free(ret, al);
        ret->changed = ret->to_cloud = false;
    }
    return r < 0 ? kei_error(err, r, "out of memory for an update of device %s", d->name) : 0;
}
