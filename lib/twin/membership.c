/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which devices there are: the cloud's membership, the whole list (membership/detail), questions of
 * applications, and the host's own devices. A second add of a device is no error here; upstream's
 * edge complains of it on the device's topic. Loop thread.
 */
#include "twin/twin_priv.h"

static void ids_of(const struct kei_twin_device_view *v, struct ke_str *ns, struct ke_str *name)
{
    if (!kei_twin_id_parse(v->id.n ? v->id : v->name, ns, name))
        *name = kei_strn("", 0);
}

static int say_membership(struct ke_twin *t, const struct kei_twin_device_view *v, bool removed)
{
    struct kei_twin_base b;
    struct ke_buf out;
    char id[37];
    int r = kei_action_fresh(t, &b, id);

    if (r < 0)
        return r;
    kei_buf_init(&out, t->alloc);
    kei_twin_write_membership(&out, &b, v, removed, kei_twin_dialect(t));
    return kei_say_node(t, "/membership/updated", &out);
}

static int take_attributes(struct ke_twin *t, struct kei_tdev *dev, struct ke_str attributes,
                           struct kei_arena *a)
{
    struct ke_str text, diff;
    struct kei_twin_base b;
    struct ke_buf out;
    int r = kei_twin_attributes(kei_str(dev->d.attributes), attributes, true, &text, &diff, a,
                                kei_err(t->ctx));

    if (r < 0 || !diff.n)
        return r;
    r = kei_batch_touch(t, dev);
    if (r == 0)
        r = kei_twin_device_text(&dev->d.attributes, t->alloc, text);
    if (r < 0)
        return r;
    kei_buf_init(&out, t->alloc);
    kei_action_base(t, &b, kei_strn("", 0));
    kei_twin_write_attributes(&out, &b, diff);
    return kei_say_about(t, dev, "/updated", &out);
}

static int take_twins(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_device_view *v,
                      struct kei_arena *a)
{
    struct kei_twin_payload p = {.has_twins = true, .twins = v->twins, .n_twins = v->n_twins};
    struct kei_twin_rules rules;
    const char *why;

    if (!v->has_twins || !v->n_twins)
        return 0;
    kei_twin_rules_now(t, &rules);
    rules.flags = 0; /* upstream does not check these */
    why = kei_twin_check(&p, &rules, a);
    if (!why)
        return kei_action_twins(t, dev, &p, KEI_TWIN_SYNC, NULL, a);
    kei_log(t->ctx, KE_LOG_WARN, "twin", "the twins of device %s were left out: %s", dev->d.name,
            why);
    return 0;
}

/* What a device says of itself beside its twins. */
static int take_texts(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_device_view *v,
                      struct ke_str ns, bool is_new)
{
    bool named = ns.n && !*dev->d.ns;
    int r = 0;

    if (!is_new && !named && (!v->description.n || kei_str_is(v->description, dev->d.description)))
        return 0;
    r = kei_batch_touch(t, dev);
    if (r == 0 && named)
        r = kei_twin_device_text(&dev->d.ns, t->alloc, ns);
    if (r == 0 && v->description.n)
        r = kei_twin_device_text(&dev->d.description, t->alloc, v->description);
    if (r == 0 && is_new)
        r = kei_twin_device_text(&dev->d.state, t->alloc, v->state);
    if (r == 0 && is_new)
        r = kei_twin_device_text(&dev->d.last_online, t->alloc, v->last_online);
    return r;
}

/* Another life of a device that is here: the former one goes, with all that it had. */
static int say_reborn(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_device_view *v)
{
    int r = kei_say_observers(t, dev, KE_TWIN_REMOVED, NULL);

    kei_log(t->ctx, KE_LOG_INFO, "twin", "device %s was made anew: its former values are gone",
            dev->d.name);
    return r == 0 ? say_membership(t, v, true) : r;
}

static int add_merged(struct ke_twin *t, struct ke_str ns, struct ke_str name,
                      const struct kei_twin_device_view *v, const struct kei_merge_device *m,
                      struct kei_arena *a);

static int add_named(struct ke_twin *t, struct ke_str ns, struct ke_str name,
                     const struct kei_twin_device_view *v, struct kei_arena *a)
{
    struct kei_merge_device m;
    int r = 0;

    if (!name.n) {
        kei_log(t->ctx, KE_LOG_WARN, "twin", "\"%.*s\" is no id of a device", KEI_FMT(v->id));
        return 0;
    }
    r = kei_life_open(&m, t, v->merge, name);
    if (r < 0)
        return r;
    r = add_merged(t, ns, name, v, r > 0 ? &m : NULL, a);
    kei_merge_fini(&m, t->alloc);
    return r;
}

/* The cloud of now knows only a former life: its store is of an older day. It is told. */
static int tell_older(struct ke_twin *t, struct kei_tdev *dev)
{
    int r = kei_batch_touch(t, dev);

    kei_log(t->ctx, KE_LOG_WARN, "twin", "the cloud knows a former life of device %s only",
            dev->d.name);
    return r == 0 ? kei_twin_tell_again(&dev->d, t->alloc) : r;
}

/* m: what is told with stamps; NULL: nothing. */
static int add_merged(struct ke_twin *t, struct ke_str ns, struct ke_str name,
                      const struct kei_twin_device_view *v, const struct kei_merge_device *m,
                      struct kei_arena *a)
{
    struct kei_tdev *dev = kei_tdev_find(t, ns, name);
    bool is_new = !dev, reborn = false;
    int r = 0;

    if (m && dev && t->listing && !m->dead && !dev->d.n && !kei_hlc_is_zero(&dev->d.life)) {
        r = kei_batch_touch(t, dev);
        if (r < 0)
            return r;
        dev->d.life = (struct kei_hlc){0, 0, 0}; /* there is nothing that could be lost */
    }
    if (m && (m->dead || kei_life_is_over(t, dev, ns, name, m))) {
        if (dev)
            dev->listed = true;
        return dev && t->listing && !m->dead ? tell_older(t, dev) : 0;
    }
    if (is_new && t->n >= t->c.max_devices) {
        t->st.refused++;
        kei_log(t->ctx, KE_LOG_ERROR, "twin",
                "device %.*s was refused: there are %u, the limit max_devices is %u", KEI_FMT(name),
                t->n, t->c.max_devices);
        return 0;
    }
    if (is_new)
        r = kei_batch_add(&dev, t, ns, name);
    if (r == 0 && m)
        r = kei_life_begin(t, dev, &m->life, v->anew, &reborn);
    if (r == 0 && reborn && !is_new)
        r = say_reborn(t, dev, v);
    is_new = is_new || reborn;
    if (r == 0)
        r = take_texts(t, dev, v, ns, is_new);
    if (r < 0)
        return r;
    dev->listed = true;
    r = m ? kei_life_take(t, dev, m, v->twins, v->n_twins, a) : take_twins(t, dev, v, a);
    if (r == 0 && v->attributes.n)
        r = take_attributes(t, dev, v->attributes, a);
    if (r == 0 && is_new)
        r = kei_say_observers(t, dev, KE_TWIN_ADDED, NULL);
    if (r == 0 && is_new)
        r = kei_say_member(t, dev, false);
    return r == 0 && is_new ? say_membership(t, v, false) : r;
}

static int add(struct ke_twin *t, const struct kei_twin_device_view *v, struct kei_arena *a)
{
    struct ke_str ns, name;

    ids_of(v, &ns, &name);
    return add_named(t, ns, name, v, a);
}

static int remove_dev(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_device_view *v)
{
    int r = kei_batch_remove(t, dev);

    if (r == 0)
        r = kei_say_observers(t, dev, KE_TWIN_REMOVED, NULL);
    if (r == 0)
        r = kei_say_member(t, dev, true);
    return r == 0 ? say_membership(t, v, true) : r;
}

static int remove_named(struct ke_twin *t, const struct kei_twin_device_view *v)
{
    struct kei_merge_device m;
    struct kei_tdev *dev;
    struct ke_str ns, name;
    int r;

    ids_of(v, &ns, &name);
    dev = name.n ? kei_tdev_find(t, ns, name) : NULL;
    if (!dev)
        return 0;
    r = kei_life_open(&m, t, v->merge, name);
    if (r > 0 && kei_life_is_over(t, dev, ns, name, &m)) {
        kei_merge_fini(&m, t->alloc); /* a former life: that of now goes on */
        return 0;
    }
    if (r > 0 && m.dead)
        kei_life_bury(t, dev, &m.life);
    kei_merge_fini(&m, t->alloc);
    return r < 0 ? r : remove_dev(t, dev, v);
}

static int run_membership(struct ke_twin *t, const struct kei_twin_payload *p, struct kei_arena *a)
{
    int r = 0;

    for (uint32_t i = 0; i < p->n_added && r == 0; i++)
        r = add(t, &p->added[i], a);
    for (uint32_t i = 0; i < p->n_removed && r == 0; i++)
        r = remove_named(t, &p->removed[i]);
    return r;
}

static int remove_unlisted(struct ke_twin *t, struct kei_tdev *dev)
{
    struct kei_twin_device_view v = {.has_twins = false};
    struct ke_buf id;
    int r = KE_ENOMEM;

    kei_buf_init(&id, t->alloc);
    kei_twin_id_write(&id, &dev->d, kei_twin_dialect(t));
    v.id = kei_buf_str(&id);
    if (kei_buf_ok(&id))
        r = remove_dev(t, dev, &v);
    ke_buf_free(&id);
    return r;
}

/* The whole list: what is not in it is gone. */
static int run_detail(struct ke_twin *t, const struct kei_twin_payload *p, struct kei_arena *a)
{
    int r = 0;

    if (!p->has_devices)
        return 0;
    KEI_LIST_EACH(l, &t->all)
    {
        KEI_OF(l, struct kei_tdev, all)->listed = false;
    }
    t->listing = true;
    for (uint32_t i = 0; i < p->n_devices && r == 0; i++)
        r = add(t, &p->devices[i], a);
    t->listing = false;
    KEI_LIST_EACH(l, &t->all)
    {
        struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        if (r == 0 && !dev->gone && !dev->listed)
            r = remove_unlisted(t, dev);
    }
    return r;
}

static int run_members(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_twin_payload p;
    struct kei_twin_base b;
    struct ke_buf out;
    struct kei_jw w;
    int r = kei_twin_read(&p, in->payload, KEI_TWIN_READ_BASE, a, kei_err(t->ctx));

    if (r == KE_ENOMEM)
        return r;
    kei_buf_init(&out, t->alloc);
    kei_action_base(t, &b, r < 0 ? kei_strn("", 0) : p.event_id);
    if (r < 0) {
        t->st.refused++;
        kei_twin_write_error(&out, &b, 400,
                             "Unmarshal get membership info failed, please check the request");
        return kei_say_node(t, "/membership/get/result", &out);
    }
    kei_jw_init(&w, &out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "event_id");
    kei_jw_strv(&w, b.event_id);
    kei_jw_ki64(&w, "timestamp", b.timestamp);
    kei_jw_key(&w, "devices");
    kei_jw_arr(&w);
    KEI_LIST_EACH(l, &t->all)
    {
        const struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        if (dev->gone)
            continue;
        if (w.comma)
            kei_buf_addc(&out, ',');
        kei_twin_write_device(&out, &dev->d, kei_twin_dialect(t));
        w.comma = true;
    }
    kei_jw_arr_end(&w);
    kei_jw_obj_end(&w);
    return kei_say_node(t, "/membership/get/result", &out);
}

/* ---- Device objects ---- */

/* The same device by its membership and by its object: whichever comes first adds or removes it. */
static int run_object(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_twin_device_view v = {.has_twins = false};
    struct ke_str ns, label;
    struct kei_tdev *dev;

    if (!kei_twin_id_parse(in->id, &ns, &v.name))
        return 0;
    v.id = kei_twin_long_ids(kei_twin_dialect(t)) ? in->id : v.name;
    if (in->action == ACT_OBJECT) {
        struct ke_str anew;

        if (!kei_json_get(in->payload, "merge", &v.merge) || kei_json_type(v.merge) != '{')
            v.merge = kei_strn("", 0);
        v.anew = kei_json_get(in->payload, "anew", &anew) && kei_json_bool(anew, false);
        if (kei_json_path(in->payload, "metadata.labels.description", &label) &&
            kei_json_type(label) == '"')
            v.description = kei_str(kei_json_strdup(label, a));
        return add_named(t, ns, v.name, &v, a);
    }
    dev = kei_tdev_find(t, ns, v.name);
    if (dev && t->merging && !kei_hlc_is_zero(&dev->d.life))
        return 0; /* perhaps of a former life: the membership says which one ends */
    return dev ? remove_dev(t, dev, &v) : 0;
}

/* ---- the host's devices ---- */

static int run_add(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_twin_device_view v = {.id = in->id, .description = in->payload};
    struct kei_tdev *dev = kei_tdev_by_id(t, in->id);
    struct ke_str ns;
    char *why;
    int r;

    if (!dev && t->n >= t->c.max_devices) {
        why = kei_arena_printf(a, "there are %u devices, the limit max_devices is %u", t->n,
                               t->c.max_devices);
        return why ? kei_say_answer(t, in, KE_ELIMIT, kei_str(why)) : KE_ENOMEM;
    }
    (void)kei_twin_id_parse(in->id, &ns, &v.name);
    r = add(t, &v, a);
    return r == 0 ? kei_say_answer(t, in, 0, kei_strn("", 0)) : r;
}

static int run_remove(struct ke_twin *t, struct kei_input *in)
{
    struct kei_twin_device_view v = {.id = in->id};
    struct kei_tdev *dev = kei_tdev_by_id(t, in->id);
    int r;

    if (!dev)
        return kei_say_answer(t, in, KE_ENOTFOUND, KEI_STR("there is no such device"));
    v.name = kei_str(dev->d.name);
    r = remove_dev(t, dev, &v);
    return r == 0 ? kei_say_answer(t, in, 0, kei_strn("", 0)) : r;
}

int kei_membership_run(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_twin_payload p;
    int r;

    if (in->action == ACT_MEMBERS)
        return run_members(t, in, a);
    if (in->action == ACT_ADD)
        return run_add(t, in, a);
    if (in->action == ACT_REMOVE)
        return run_remove(t, in);
    if (in->action == ACT_OBJECT || in->action == ACT_OBJECT_GONE)
        return run_object(t, in, a);
    r = kei_twin_read(&p, in->payload, KEI_TWIN_READ_MEMBERSHIP, a, kei_err(t->ctx));
    if (r == KE_ENOMEM)
        return r;
    if (r < 0) {
        t->st.refused++;
        kei_log(t->ctx, KE_LOG_WARN, "twin", "%s %s of the cloud could not be read: %s",
                ke_msg_operation(in->m), ke_msg_resource(in->m), ke_ctx_error(t->ctx));
        return 0;
    }
    return in->action == ACT_DETAIL ? run_detail(t, &p, a) : run_membership(t, &p, a);
}
