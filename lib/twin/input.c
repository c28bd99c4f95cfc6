/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes, and which action it is. Owns an input until it is in the queue. Loop thread.
 */
#include "twin/twin_priv.h"

#define DEVICE "$hw/events/device/"
#define NODE "$hw/events/node/"

void kei_input_free(struct ke_twin *t, struct kei_input *in)
{
    if (!in)
        return;
    ke_msg_unref(in->m);
    ke_buf_free(&in->text);
    kei_free(t->alloc, in->own);
    kei_free(t->alloc, in);
}

/* between prefix and suffix, neither empty */
static bool between(struct ke_str s, const char *prefix, const char *suffix, struct ke_str *ret)
{
    struct ke_str p = kei_str(prefix), x = kei_str(suffix);

    if (s.n <= p.n + x.n || !kei_str_starts(s, p) || !kei_str_ends(s, x))
        return false;
    *ret = kei_strn(s.p + p.n, s.n - p.n - x.n);
    return true;
}

static enum kei_action of_topic(struct ke_str topic, struct ke_str *ret_id)
{
    static const struct {
        const char *suffix;
        enum kei_action action;
    } actions[] = {
        {"/twin/update", ACT_UPDATE},
        {"/twin/cloud_updated", ACT_SYNC},
        {"/twin/get", ACT_GET},
        {"/state/update", ACT_STATE},
    };
    struct ke_str ns, name;

    if (between(topic, NODE, "/membership/get", ret_id))
        return ACT_MEMBERS;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (between(topic, DEVICE, actions[i].suffix, ret_id) &&
            kei_twin_id_parse(*ret_id, &ns, &name))
            return actions[i].action;
    }
    return ACT_NONE;
}

static enum kei_action of_cloud(const struct ke_msg *m, struct ke_str *ret_id)
{
    struct ke_str res = kei_str(ke_msg_resource(m));

    if (kei_str_has(res, KEI_STR("membership/detail")))
        return ACT_DETAIL;
    if (kei_str_has(res, KEI_STR("membership")))
        return ACT_MEMBERSHIP;
    if (between(res, "device/", "/twin/cloud_updated", ret_id))
        return ACT_SYNC;
    if (kei_str_has(kei_str(ke_msg_operation(m)), KEI_STR("updated")) &&
        between(res, "device/", "", ret_id))
        return ACT_ATTRIBUTES;
    return ACT_NONE;
}

static void on_link(struct ke_twin *t, const struct ke_msg *m)
{
    struct ke_str content;

    if (strcmp(ke_msg_resource(m), "node/merge") == 0) {
        kei_life_told(t, m);
        return;
    }
    content.p = ke_msg_content(m, &content.n);
    kei_life_link(t, kei_json_str_is(content, "cloud_connected"));
    kei_upward_link(t, kei_json_str_is(content, "cloud_connected"));
}

/* The payload is the content, or the text in it when that is a string. */
static int take_payload(struct kei_input *in, struct ke_error *err)
{
    int r;

    in->payload.p = ke_msg_content(in->m, &in->payload.n);
    if (kei_json_type(in->payload) != '"')
        return 0;
    r = kei_json_str(in->payload, &in->text, err);
    if (r == KE_EPARSE) { /* a NUL in it: no JSON, to be said so where all is said */
        in->payload = KEI_STR("?");
        return 0;
    }
    in->payload = kei_buf_str(&in->text);
    return r;
}

static void refuse(struct ke_twin *t, struct ke_msg *m, const char *text)
{
    struct kei_input in = {.m = m, .answered = true};
    struct kei_effect *e = NULL;

    t->st.refused++;
    kei_log(t->ctx, KE_LOG_WARN, "twin", "%s %s was refused: %s", ke_msg_operation(m),
            ke_msg_resource(m), text);
    if (kei_say_answer(t, &in, KE_ELIMIT, kei_str(text)) == 0) {
        e = KEI_OF(t->effects.prev, struct kei_effect, link);
        kei_list_remove(&e->link);
        (void)kei_say_now(t, e);
        kei_effect_free(t, e);
    }
}

int kei_input_queue(struct ke_twin *t, struct kei_input *in, struct ke_error *err)
{
    if (t->n_inputs >= t->c.queue_messages)
        return kei_error(err, KE_ELIMIT, "%u messages wait, the limit queue_messages is %u",
                         t->n_inputs, t->c.queue_messages);
    if (in->bytes > t->c.queue_bytes || t->input_bytes > t->c.queue_bytes - in->bytes)
        return kei_error(
            err, KE_ELIMIT, "%llu bytes wait, with %zu more the limit queue_bytes %llu is passed",
            (unsigned long long)t->input_bytes, in->bytes, (unsigned long long)t->c.queue_bytes);
    kei_list_add_tail(&t->inputs, &in->link);
    t->n_inputs++;
    t->input_bytes += in->bytes;
    kei_batch_wake(t);
    return 0;
}

static void take(struct ke_twin *t, struct ke_msg *m, enum kei_action action, struct ke_str id,
                 bool mqtt)
{
    struct kei_input *in = kei_zalloc(t->alloc, sizeof *in);
    struct ke_error err = KE_ERROR_INIT;
    int r = in ? 0 : kei_error(&err, KE_ENOMEM, "out of memory");

    if (in) {
        *in = (struct kei_input){.action = action, .id = id, .m = ke_msg_ref(m)};
        in->from_mqtt = mqtt;
        in->answered = mqtt && strcmp(ke_msg_source(m), "bus") != 0;
        kei_buf_init(&in->text, t->alloc);
        r = take_payload(in, &err);
        in->bytes = in->payload.n + sizeof *in;
    }
    if (r == 0)
        r = kei_input_queue(t, in, &err);
    if (r < 0) {
        refuse(t, m, err.text);
        kei_input_free(t, in);
    }
}

int kei_input_object(struct ke_twin *t, enum kei_action action, struct ke_str id, struct ke_msg *m,
                     struct ke_error *err)
{
    struct kei_input *in = kei_zalloc(t->alloc, sizeof *in);
    int r;

    if (in)
        in->own = kei_strndup(t->alloc, id.p, id.n);
    if (!in || !in->own) {
        kei_free(t->alloc, in);
        return kei_error(err, KE_ENOMEM, "out of memory for device %.*s", KEI_FMT(id));
    }
    in->action = action;
    in->id = kei_str(in->own);
    in->payload = KEI_STR("{}");
    in->bytes = id.n + sizeof *in;
    kei_buf_init(&in->text, t->alloc);
    if (m) {
        in->m = ke_msg_ref(m);
        in->payload.p = ke_msg_content(m, &in->payload.n);
        in->bytes += in->payload.n;
    }
    r = kei_input_queue(t, in, err);
    if (r < 0)
        kei_input_free(t, in);
    return r;
}

/* Device objects that are stored. Clouds since 1.15 lose the membership of a device that was made
 * while this node was away; its object comes. */
static void on_object(struct ke_twin *t, struct ke_msg *m)
{
    bool gone = strcmp(ke_msg_operation(m), "delete") == 0;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_resource res;
    struct ke_buf id;
    int r;

    if (!kei_resource_parse(&res, kei_str(ke_msg_resource(m))) || !kei_str_is(res.type, "device") ||
        !kei_twin_name_ok(res.name) || !kei_twin_name_ok(res.ns))
        return;
    kei_buf_init(&id, t->alloc);
    kei_buf_addv(&id, res.ns);
    kei_buf_addc(&id, '/');
    kei_buf_addv(&id, res.name);
    r = kei_buf_ok(&id)
            ? kei_input_object(t, gone ? ACT_OBJECT_GONE : ACT_OBJECT, kei_buf_str(&id), m, &err)
            : kei_error(&err, KE_ENOMEM, "out of memory");
    if (r < 0)
        refuse(t, m, err.text);
    ke_buf_free(&id);
}

void kei_input_message(struct ke_twin *t, struct ke_msg *m)
{
    const char *op = ke_msg_operation(m);
    struct ke_str id = {"", 0}, content;
    bool mqtt = strcmp(op, "publish") == 0;
    enum kei_action action;

    if (strcmp(ke_msg_source(m), "edgehub") == 0) {
        on_link(t, m);
        return;
    }
    if (!t->running) {
        refuse(t, m, "the device twin is stopped");
        return;
    }
    if (strcmp(ke_msg_group(m), "resource") == 0) {
        on_object(t, m);
        return;
    }
    content.p = ke_msg_content(m, &content.n);
    /* A confirmation goes to the request; this one is late, or no more than that. */
    if (*ke_msg_parent_id(m) && kei_json_type(content) != '{')
        return;
    action = mqtt ? of_topic(kei_str(ke_msg_resource(m)), &id) : of_cloud(m, &id);
    if (action == ACT_NONE)
        kei_log(t->ctx, KE_LOG_DEBUG, "twin", "%s %s of %s is nothing for this module", op,
                ke_msg_resource(m), ke_msg_source(m));
    else
        take(t, m, action, id, mqtt);
}
