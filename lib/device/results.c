/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of data processing on their way: to the twin until it has them durably, to the cloud until
 * the outbox took them, to a topic until the event bus did. Those for the twin and the cloud are
 * stored beside the windows they come from, in the same transaction, so that after a crash a result
 * may be told twice but is not lost. Bounded: the oldest goes first, and that is said. Loop thread.
 */
#include <stdio.h>

#include "device/devices_priv.h"

#define RESULTS_MAX 64u /* of one device */
#define RETRY_MS 1000

struct result {
    struct kei_link link;
    enum process_to to;
    /* The outbox stores what it took in a later turn: kept until it was in one save more. */
    uint8_t saves; /* 0: not handed over; 1: handed over; 2: and saved since */
    bool under_way;
    char *name, *topic;
    size_t n;
    char text[];
};

static void result_free(struct dev *dev, struct result *r)
{
    const struct ke_alloc *a = dev->d->alloc;

    kei_list_remove(&r->link);
    dev->n_results--;
    kei_free(a, r->name);
    kei_free(a, r->topic);
    kei_free(a, r);
}

static struct result *result_new(struct dev *dev, enum process_to to, const char *name,
                                 const char *topic, struct ke_str text)
{
    const struct ke_alloc *a = dev->d->alloc;
    struct result *r = kei_zalloc(a, sizeof *r + text.n + 1);
    char *own_name = kei_strdup(a, name), *own_topic = kei_strdup(a, topic);

    if (!r || !own_name || !own_topic) {
        kei_free(a, r);
        kei_free(a, own_name);
        kei_free(a, own_topic);
        return NULL;
    }
    r->to = to;
    r->name = own_name;
    r->topic = own_topic;
    r->n = text.n;
    if (text.n)
        memcpy(r->text, text.p, text.n);
    kei_list_add_tail(&dev->results, &r->link);
    dev->n_results++;
    return r;
}

/* One that waits and says less than a newer one: of the same name for the twin, else the oldest. */
static struct result *in_the_way(struct dev *dev, enum process_to to, const char *name)
{
    KEI_LIST_EACH(l, &dev->results)
    {
        struct result *r = KEI_OF(l, struct result, link);
        if (to == PROCESS_TWIN && r->to == to && !r->under_way && !strcmp(r->name, name))
            return r;
    }
    if (dev->n_results < RESULTS_MAX)
        return NULL;
    KEI_LIST_EACH(l, &dev->results)
    {
        struct result *r = KEI_OF(l, struct result, link);
        if (r->under_way)
            continue;
        if (!r->saves)
            kei_dv_error(dev, "result %s was lost: %u of the device wait already", r->name,
                         RESULTS_MAX);
        return r;
    }
    return NULL;
}

void kei_dv_result_add(struct dev *dev, enum process_to to, const char *name, const char *topic,
                       struct ke_str text)
{
    struct result *old = in_the_way(dev, to, name);

    if (old)
        result_free(dev, old);
    if (!result_new(dev, to, name, topic, text))
        kei_dv_error(dev, "result %s was lost: out of memory", name);
    kei_dv_results_dirty(dev);
    kei_dv_kick(dev);
}

void kei_dv_results_dirty(struct dev *dev)
{
    struct ke_devices *d = dev->d;

    dev->results_dirty = true;
    if (d->c.store && !d->closing && !kei_timer_armed(&d->save))
        (void)kei_timer_in(&d->save, DV_SAVE_MS);
}

/* ---- handing over ---- */

static struct result *under_way(struct dev *dev)
{
    KEI_LIST_EACH(l, &dev->results)
    {
        struct result *r = KEI_OF(l, struct result, link);
        if (r->under_way)
            return r;
    }
    return NULL;
}

static void on_twin(void *user, int status, struct ke_msg *reply)
{
    struct dev *dev = user;
    struct result *r = under_way(dev);
    char text[200] = "";
    bool refused = false;

    dev->result_request = 0;
    if (!r)
        return;
    r->under_way = false;
    if (status == 0 && !strcmp(ke_msg_operation(reply), "error")) {
        kei_dv_reply_text(reply, text, sizeof text);
        /* a device that the twin does not know yet: later; a value it does not want: never */
        refused = !kei_str_has(kei_str(text), KEI_STR("not existed"));
        status = KE_EINVAL;
    }
    if (status < 0) {
        dev->results_at = ke_ctx_mono_ms(dev->d->ctx) + RETRY_MS;
        kei_dv_error(dev, "result %s %s: %s", r->name,
                     refused ? "was refused by the twin" : "is not in the twin yet",
                     text[0] ? text : ke_strerror(status));
    }
    kei_list_remove(&r->link);
    kei_list_add_tail(&dev->results, &r->link); /* others first */
    if (status == 0 || refused)
        result_free(dev, r);
    kei_dv_results_dirty(dev);
    kei_dv_kick(dev);
}

/* Not handed over; to the twin one goes after the other. */
static bool waits(const struct dev *dev, const struct result *r)
{
    return !r->saves && (r->to != PROCESS_TWIN || !dev->result_request);
}

/* 0 when somebody has it now; on_twin tells the rest. */
static int hand_over(struct dev *dev, struct result *r)
{
    struct ke_devices *d = dev->d;
    struct ke_str text = kei_strn(r->text, r->n);

    if (r->to == PROCESS_TWIN) {
        int e = kei_dv_ask_twin(d, r->topic, text, on_twin, dev, &dev->result_request);
        r->under_way = e == 0;
        return e;
    }
    if (r->to == PROCESS_CLOUD)
        return kei_dv_send(d, "websocket", "user", "upload", r->topic, text);
    return kei_dv_send(d, "eventbus", "user", "publish", r->topic, text);
}

void kei_dv_results_run(struct dev *dev, int64_t now)
{
    bool shut[3] = {false}; /* this way is: what comes behind waits, too */

    if (now < dev->results_at)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &dev->results)
    {
        struct result *r = KEI_OF(l, struct result, link);
        if (!waits(dev, r) || shut[r->to])
            continue;
        int e = hand_over(dev, r);
        if (e == 0 && r->under_way)
            continue;
        if (e == 0 && r->to == PROCESS_CLOUD && dev->d->c.store) {
            r->saves = 1;
        } else if (e == 0) {
            result_free(dev, r);
        } else if (e == KE_ENOTFOUND && r->to == PROCESS_TOPIC) {
            kei_dv_error(dev, "result %s was lost: this node has no MQTT", r->name);
            result_free(dev, r);
        } else {
            kei_dv_error(dev, "result %s waits: %s", r->name, ke_strerror(e));
            dev->results_at = now + RETRY_MS;
            shut[r->to] = true;
            continue;
        }
        kei_dv_results_dirty(dev);
    }
}

int64_t kei_dv_results_due(const struct dev *dev)
{
    KEI_LIST_EACH(l, &dev->results)
    {
        if (waits(dev, KEI_OF(l, struct result, link)))
            return dev->results_at;
    }
    return INT64_MAX;
}

void kei_dv_results_free(struct dev *dev)
{
    if (dev->result_request)
        ke_router_cancel(dev->d->c.router, dev->result_request);
    dev->result_request = 0;
    while (!kei_list_empty(&dev->results))
        result_free(dev, KEI_OF(dev->results.next, struct result, link));
}

/* ---- state ---- */

void kei_dv_results_save(struct dev *dev, struct ke_buf *out)
{
    struct kei_jw w;
    bool again = false;

    dev->results_dirty = false;
    kei_jw_init(&w, out);
    kei_jw_arr(&w);
    KEI_LIST_EACH_SAFE(l, tmp, &dev->results)
    {
        struct result *r = KEI_OF(l, struct result, link);
        if (r->saves == 2) {
            result_free(dev, r);
            continue;
        }
        if (r->saves)
            r->saves = 2;
        again = again || r->saves;
        if (r->to == PROCESS_TOPIC)
            continue;
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "to", r->to == PROCESS_TWIN ? "twin" : "cloud");
        kei_jw_kstr(&w, "name", r->name);
        kei_jw_kstr(&w, "topic", r->topic);
        kei_jw_key(&w, "text");
        kei_jw_strv(&w, kei_strn(r->text, r->n));
        kei_jw_obj_end(&w);
    }
    kei_jw_arr_end(&w);
    if (again)
        kei_dv_results_dirty(dev);
}

static bool text_of(struct ke_str o, const char *key, struct ke_buf *out)
{
    struct ke_str v;

    kei_buf_clear(out);
    if (!kei_json_get(o, key, &v) || kei_json_type(v) != '"' || kei_json_str(v, out, NULL) < 0)
        return false;
    kei_buf_addc(out, '\0');
    return kei_buf_ok(out);
}

void kei_dv_results_restore(struct dev *dev, struct ke_str json)
{
    struct ke_str item, to;
    struct ke_buf b[3];
    size_t it = 0;

    for (int i = 0; i < 3; i++)
        kei_buf_init(&b[i], dev->d->alloc);
    while (kei_json_type(json) == '[' && dev->n_results < RESULTS_MAX &&
           kei_json_next(json, &it, NULL, &item)) {
        if (kei_json_type(item) != '{' || !kei_json_get(item, "to", &to) ||
            !text_of(item, "name", &b[0]) || !text_of(item, "topic", &b[1]) ||
            !text_of(item, "text", &b[2]))
            continue;
        if (!result_new(dev, kei_json_str_is(to, "twin") ? PROCESS_TWIN : PROCESS_CLOUD, b[0].p,
                        b[1].p, kei_strn(b[2].p, b[2].n - 1)))
            kei_dv_error(dev, "a result was lost: out of memory");
    }
    for (int i = 0; i < 3; i++)
        ke_buf_free(&b[i]);
}
