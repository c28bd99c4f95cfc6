/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The actions on one device: twin/update, cloud_updated, twin/get, state, attributes. Work in
 * memory only; what is to be said waits for the batch (say.c). Reasons are upstream's texts, which
 * clients compare. Loop thread.
 */
#include "twin/twin_priv.h"

#define UPDATE_RESULT "/twin/update/result"

void kei_action_base(struct ke_twin *t, struct kei_twin_base *b, struct ke_str event_id)
{
    b->event_id = event_id;
    b->timestamp = ke_ctx_real_ms(t->ctx);
}

int kei_action_fresh(struct ke_twin *t, struct kei_twin_base *b, char id[37])
{
    int r = kei_ctx_uuid(t->ctx, id);

    kei_action_base(t, b, kei_strn(id, r < 0 ? 0 : 36));
    return r < 0 ? KE_ENOMEM : 0; /* no randomness: as no memory, later */
}

static struct ke_buf fresh_buf(struct ke_twin *t)
{
    struct ke_buf b;

    kei_buf_init(&b, t->alloc);
    return b;
}

/* ---- errors ---- */

static int code_status(int code)
{
    return code == 404 ? KE_ENOTFOUND : code == 400 ? KE_EINVAL : KE_EIO;
}

static int say_error(struct ke_twin *t, struct ke_str id, const char *suffix,
                     struct ke_str event_id, int code, const char *reason)
{
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;

    kei_action_base(t, &b, event_id);
    kei_twin_write_error(&out, &b, code, reason);
    return kei_say_device(t, id, suffix, &out);
}

/* To the device's topic, and to who sent it. */
static int error_of(struct ke_twin *t, struct kei_input *in, const char *suffix,
                    struct ke_str event_id, int code, const char *reason)
{
    int r = 0;

    t->st.refused++;
    if (in->m)
        r = say_error(t, in->id, suffix, event_id, code, reason);
    return r < 0 ? r : kei_say_answer(t, in, code_status(code), kei_str(reason));
}

/* Upstream says this on a topic without the device, and without the event. We also say it where it
 * belongs. */
static int error_of_reading(struct ke_twin *t, struct kei_input *in, struct ke_str event_id,
                            const char *reason)
{
    int r = 0;

    if (in->m)
        r = say_error(t, kei_strn("", 0), UPDATE_RESULT, kei_strn("", 0), 400, reason);
    return r < 0 ? r : error_of(t, in, UPDATE_RESULT, event_id, 400, reason);
}

static const char *too_long(struct ke_twin *t, const struct kei_input *in, struct kei_arena *a)
{
    char *s;

    if (!in->from_mqtt || in->payload.n <= t->c.max_message)
        return NULL;
    s = kei_arena_printf(a, "the message has %zu bytes, the limit max_message is %u", in->payload.n,
                         t->c.max_message);
    return s ? s : "the message is too long";
}

/* ---- twins ---- */

static int say_delta(struct ke_twin *t, struct kei_tdev *dev)
{
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;
    char id[37];
    int r = kei_action_fresh(t, &b, id);

    if (r < 0 || !kei_twin_write_delta(&out, &b, &dev->d, kei_twin_dialect(t)))
        return r;
    r = kei_buf_ok(&out) ? kei_say_delta(t, dev, kei_buf_str(&out)) : KE_ENOMEM;
    if (r < 0) {
        ke_buf_free(&out);
        return r;
    }
    return kei_say_about(t, dev, "/twin/update/delta", &out);
}

static int say_changes(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_outcome *o)
{
    int r = 0;

    for (uint32_t i = 0; i < o->n && r == 0; i++) {
        const struct kei_twin_change *c = &o->changes[i];
        bool dead = kei_twin_deleted(c->after);

        if (c->changed)
            r = kei_say_observers(t, dev, dead ? KE_TWIN_DELETED : KE_TWIN_CHANGED,
                                  dead ? c->before : c->after);
    }
    return r;
}

static int say_document(struct ke_twin *t, struct kei_tdev *dev, struct ke_str event_id,
                        const struct kei_twin_outcome *o)
{
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;
    bool any = false;

    for (uint32_t i = 0; i < o->n; i++)
        any = any || o->changes[i].changed;
    if (!any)
        return 0;
    kei_action_base(t, &b, event_id);
    kei_twin_write_document(&out, &b, o);
    return kei_say_about(t, dev, "/twin/update/document", &out);
}

static int say_result(struct ke_twin *t, struct kei_input *in, struct ke_str event_id,
                      const struct kei_twin_outcome *o)
{
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;
    int r;

    if (!in->m)
        return kei_say_answer(t, in, 0, kei_strn("", 0));
    kei_action_base(t, &b, event_id);
    kei_twin_write_result(&out, &b, o);
    r = kei_buf_ok(&out) ? kei_say_answer(t, in, 0, kei_buf_str(&out)) : KE_ENOMEM;
    if (r < 0) {
        ke_buf_free(&out);
        return r;
    }
    return kei_say_device(t, in->id, UPDATE_RESULT, &out);
}

/* in NULL: twins of a membership */
int kei_action_twins(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_payload *p,
                     enum kei_twin_mode mode, struct kei_input *in, struct kei_arena *a)
{
    struct kei_twin_rules rules;
    struct kei_twin_outcome o;
    struct ke_str event_id = in ? p->event_id : kei_strn("", 0);
    int r = kei_batch_touch(t, dev);

    if (r < 0)
        return r;
    kei_twin_rules_now(t, &rules);
    if (in && in->from_mqtt && in->answered)
        rules.flags |= KEI_TWIN_RETYPE;
    kei_life_rules(t, dev, in, &rules);
    r = kei_twin_update(&o, &dev->d, p->twins, p->n_twins, mode, &rules, t->alloc, a,
                        kei_err(t->ctx));
    if (r < 0)
        return r;
    if (o.code && in)
        return error_of(t, in, UPDATE_RESULT, event_id, o.code, o.reason);
    if (o.code)
        kei_log(t->ctx, KE_LOG_WARN, "twin", "the twins of device %s were left out: %s",
                dev->d.name, o.reason);
    if (in && mode == KEI_TWIN_REST)
        r = say_result(t, in, event_id, &o);
    if (r == 0)
        r = say_document(t, dev, event_id, &o);
    if (r == 0)
        r = say_delta(t, dev);
    if (r == 0)
        r = say_changes(t, dev, &o);
    kei_twin_outcome_free(&o, t->alloc);
    return r;
}

static const char *unreadable(const struct ke_twin *t, enum kei_twin_mode mode)
{
    if (mode == KEI_TWIN_REST)
        return "Unmarshal update request body failed, please check the request";
    return kei_twin_dialect(t) == KE_DIALECT_1_4
               ? "Unmarshal update request body failed, Please check the request"
               : "unmarshal update request body failed, Please check the request";
}

/* cloud_updated of a cloud that merges: its stamps decide, not the versions. */
static int take_merge(struct ke_twin *t, struct kei_tdev *dev, const struct kei_twin_payload *p,
                      struct kei_arena *a, bool *ret_taken)
{
    struct kei_merge_device m;
    bool reborn;
    int r = kei_life_open(&m, t, p->merge, kei_str(dev->d.name));

    *ret_taken = r > 0;
    if (r <= 0)
        return r;
    r = 0;
    if (!kei_life_is_over(t, dev, kei_str(dev->d.ns), kei_str(dev->d.name), &m) && !m.dead) {
        r = kei_life_begin(t, dev, &m.life, false, &reborn);
        if (r == 0)
            r = kei_life_take(t, dev, &m, p->twins, p->n_twins, a);
    }
    kei_merge_fini(&m, t->alloc);
    return r;
}

static int run_update(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    enum kei_twin_mode mode = in->action == ACT_SYNC ? KEI_TWIN_SYNC : KEI_TWIN_REST;
    struct kei_tdev *dev = kei_tdev_by_id(t, in->id);
    const char *why = too_long(t, in, a);
    struct kei_twin_payload p = {.event_id = {"", 0}};
    struct kei_twin_rules rules;
    int r;

    if (!why) {
        r = kei_twin_read(&p, in->payload, KEI_TWIN_READ_TWINS, a, kei_err(t->ctx));
        if (r == KE_ENOMEM)
            return r;
        if (r < 0)
            p.event_id = kei_strn("", 0);
        kei_twin_rules_now(t, &rules);
        why = r < 0 ? unreadable(t, mode) : kei_twin_check(&p, &rules, a);
    }
    if (why)
        return error_of_reading(t, in, p.event_id, why);
    if (!dev)
        return error_of(t, in, UPDATE_RESULT, p.event_id, 404,
                        kei_twin_dialect(t) == KE_DIALECT_1_4
                            ? "Update rejected due to the device is not existed"
                            : "update rejected due to the device is not existed");
    bool merged = false;
    r = mode == KEI_TWIN_SYNC && !in->from_mqtt ? take_merge(t, dev, &p, a, &merged) : 0;
    if (r == 0 && !merged)
        r = kei_action_twins(t, dev, &p, mode, in, a);
    if (r == 0 && mode == KEI_TWIN_SYNC)
        r = kei_say_answer(t, in, 0, KEI_STR("\"OK\""));
    return r;
}

static int run_get(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_tdev *dev = kei_tdev_by_id(t, in->id);
    const char *why = too_long(t, in, a);
    struct kei_twin_payload p = {.event_id = {"", 0}};
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;
    int r =
        why ? KE_ELIMIT : kei_twin_read(&p, in->payload, KEI_TWIN_READ_BASE, a, kei_err(t->ctx));

    if (r == KE_ENOMEM)
        return r;
    if (r < 0)
        return error_of(t, in, "/twin/get/result", kei_strn("", 0), 400,
                        why ? why : "Unmarshal twin info failed, please check the request");
    if (!dev) {
        why = kei_arena_printf(a, "Device %.*s not found while getting twin", KEI_FMT(in->id));
        return why ? error_of(t, in, "/twin/get/result", p.event_id, 404, why) : KE_ENOMEM;
    }
    kei_action_base(t, &b, p.event_id);
    kei_twin_write_get(&out, &b, &dev->d);
    r = kei_buf_ok(&out) ? kei_say_answer(t, in, 0, kei_buf_str(&out)) : KE_ENOMEM;
    if (r < 0) {
        ke_buf_free(&out);
        return r;
    }
    return kei_say_device(t, in->id, "/twin/get/result", &out);
}

/* ---- state ---- */

static int say_state(struct ke_twin *t, struct kei_input *in, struct kei_tdev *dev)
{
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;
    char id[37];
    int r = kei_action_fresh(t, &b, id);

    if (r < 0)
        return r;
    kei_twin_write_state(&out, &b, &dev->d, kei_twin_dialect(t), false);
    r = kei_buf_ok(&out) ? kei_say_answer(t, in, 0, kei_buf_str(&out)) : KE_ENOMEM;
    if (r == 0)
        r = kei_say_observers(t, dev, KE_TWIN_STATE, NULL);
    if (r < 0) {
        ke_buf_free(&out);
        return r;
    }
    return kei_say_about(t, dev, "/state/update/result", &out);
}

/* Upstream is silent about a wrong state; whoever waits for an answer hears of it. */
static int state_refused(struct ke_twin *t, struct kei_input *in, int status, const char *why)
{
    t->st.refused++;
    kei_log(t->ctx, KE_LOG_INFO, "twin", "a state of device %.*s was left out: %s", KEI_FMT(in->id),
            why);
    return kei_say_answer(t, in, status, kei_str(why));
}

static int run_state(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_tdev *dev = kei_tdev_by_id(t, in->id);
    uint32_t dialect = kei_twin_dialect(t);
    const char *why = too_long(t, in, a);
    struct kei_twin_payload p;
    char last[40];
    int r;

    if (why)
        return state_refused(t, in, KE_ELIMIT, why);
    r = kei_twin_read(&p, in->payload, KEI_TWIN_READ_STATE, a, kei_err(t->ctx));
    if (r == KE_ENOMEM)
        return r;
    if (r < 0)
        return state_refused(t, in, KE_EINVAL, ke_ctx_error(t->ctx));
    if (!dev)
        return state_refused(t, in, KE_ENOTFOUND, "the device is not existed");
    if (!kei_twin_state_ok(p.state, dialect))
        return state_refused(t, in, KE_EINVAL, "it is none of the states a device can have");
    r = kei_batch_touch(t, dev);
    if (r < 0)
        return r;
    kei_twin_last_online(last, p.state, dialect, ke_ctx_real_ms(t->ctx));
    r = kei_twin_device_text(&dev->d.state, t->alloc, p.state);
    if (r == 0)
        r = kei_twin_device_text(&dev->d.last_online, t->alloc, kei_str(last));
    if (r < 0)
        return r;
    dev->d.state_up = ++dev->d.seq;
    return say_state(t, in, dev);
}

/* ---- attributes ---- */

static int run_attributes(struct ke_twin *t, struct kei_input *in, struct kei_arena *a)
{
    struct kei_tdev *dev = kei_tdev_by_id(t, in->id);
    struct ke_str text, diff;
    struct kei_twin_payload p;
    struct ke_buf out = fresh_buf(t);
    struct kei_twin_base b;
    int r = kei_twin_read(&p, in->payload, KEI_TWIN_READ_ATTRIBUTES, a, kei_err(t->ctx));

    if (r == 0 && dev)
        r = kei_twin_attributes(kei_str(dev->d.attributes), p.attributes, false, &text, &diff, a,
                                kei_err(t->ctx));
    if (r == KE_ENOMEM)
        return r;
    if (r < 0 || !dev || !diff.n)
        return 0;
    r = kei_batch_touch(t, dev);
    if (r == 0)
        r = kei_twin_device_text(&dev->d.attributes, t->alloc, text);
    if (r < 0)
        return r;
    kei_action_base(t, &b, kei_strn("", 0));
    kei_twin_write_attributes(&out, &b, diff);
    return kei_say_about(t, dev, "/updated", &out);
}

/* Rows that still call unconfirmed what is confirmed are written again. */
static int run_flush(struct ke_twin *t)
{
    KEI_LIST_EACH(l, &t->stale)
    {
        int r = kei_batch_touch(t, KEI_OF(l, struct kei_tdev, stale));

        if (r < 0)
            return r;
    }
    return 0;
}

int kei_action_run(struct ke_twin *t, struct kei_input *in)
{
    struct kei_arena a;
    int r;

    kei_arena_init(&a, t->alloc, 0);
    switch (in->action) {
    case ACT_UPDATE:
    case ACT_SYNC:
        r = run_update(t, in, &a);
        break;
    case ACT_GET:
        r = run_get(t, in, &a);
        break;
    case ACT_STATE:
        r = run_state(t, in, &a);
        break;
    case ACT_ATTRIBUTES:
        r = run_attributes(t, in, &a);
        break;
    case ACT_FLUSH:
        r = run_flush(t);
        break;
    case ACT_RESTAMP:
        r = kei_life_restamp(t);
        break;
    default:
        r = kei_membership_run(t, in, &a);
        break;
    }
    kei_arena_free(&a);
    return r;
}

int kei_action_failed(struct ke_twin *t, struct kei_input *in, int status, const char *text)
{
    struct kei_twin_payload p = {.event_id = {"", 0}};
    struct kei_arena a;
    int r = 0;

    kei_arena_init(&a, t->alloc, 0);
    if (in->action == ACT_UPDATE && in->m) {
        if (kei_twin_read(&p, in->payload, KEI_TWIN_READ_BASE, &a, NULL) < 0)
            p.event_id = kei_strn("", 0);
        r = say_error(t, in->id, UPDATE_RESULT, p.event_id, 500, text);
    }
    if (r == 0)
        r = kei_say_answer(t, in, status, kei_str(text));
    kei_arena_free(&a);
    return r;
}
