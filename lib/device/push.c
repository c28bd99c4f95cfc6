/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pushMethod: the newest value of a property goes to an HTTP server or an MQTT topic each report
 * cycle. A target takes a few at a time and rests when it fails; what waits for it waits there, one
 * entry per property, and is written out at the moment it goes. Loop thread.
 */
#include "device/push.h"

#include <stdio.h>

#include "device/devices_priv.h"
#include "net/http.h"

#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define ANSWER_MAX 65536 /* of an HTTP server: not looked at */

/* ---- what is not executed ---- */

void kei_dv_push_configure(struct dev *dev)
{
    struct ke_devices *d = dev->d;
    const struct image *img = dev->img;

    if (!img->model)
        return; /* it comes again with one */
    kei_buf_clear(&d->raw);
    for (uint32_t i = 0; i < img->n_pushes; i++) {
        const struct push *p = &img->pushes[i];
        if (p->c.kind == KEI_PUSH_NONE)
            kei_buf_addf(&d->raw, "%s%s of %s: %s", d->raw.n ? "; " : "", p->c.method,
                         img->pub[p->prop].name, p->c.bad);
    }
    if (d->raw.n && kei_buf_ok(&d->raw))
        kei_dv_error(dev, "pushMethod is not executed: %.*s", (int)d->raw.n, d->raw.p);
}

/* ---- targets ---- */

static void on_rested(struct kei_timer *t);

static struct push_target *target_of(struct ke_devices *d, const char *url)
{
    struct push_target *t = kei_map_get(&d->targets, kei_str(url));
    size_t n = strlen(url);

    if (t) {
        t->refs++;
        return t;
    }
    t = kei_zalloc(d->alloc, sizeof *t + n + 1);
    if (!t || kei_map_put(&d->targets, kei_str(url), t, NULL) < 0) {
        kei_free(d->alloc, t);
        return NULL;
    }
    t->d = d;
    t->refs = 1;
    memcpy(t->key, url, n + 1);
    kei_list_init(&t->wait);
    kei_timer_init(d->ctx, &t->timer, on_rested);
    kei_backoff_init(&t->backoff, RETRY_MIN_MS, RETRY_MAX_MS);
    return t;
}

static void target_unref(struct push_target *t)
{
    if (--t->refs)
        return;
    kei_timer_fini(&t->timer);
    kei_list_remove(&t->ready);
    kei_map_remove(&t->d->targets, kei_str(t->key));
    kei_free(t->d->alloc, t);
}

static void target_look(struct push_target *t)
{
    if (!kei_list_empty(&t->wait) && t->open < DV_PUSHES_AT_TARGET && !kei_timer_armed(&t->timer) &&
        !kei_list_linked(&t->ready))
        kei_list_add_tail(&t->d->push_ready, &t->ready);
}

static void on_rested(struct kei_timer *timer)
{
    struct push_target *t = KEI_OF(timer, struct push_target, timer);

    target_look(t);
    kei_dv_push_pump(t->d);
}

/* ---- one push ---- */

static void over(struct push *p)
{
    p->busy = false;
    p->target->open--;
    p->dev->d->pushes_open--;
}

static void ended(struct push *p, int status, const char *text)
{
    struct dev *dev = p->dev;
    struct ke_devices *d = dev->d;
    struct push_target *t = p->target;

    over(p);
    if (status == 0) {
        p->gone = p->reads;
        dev->pushes++;
        d->stats.pushes++;
        kei_backoff_reset(&t->backoff);
    } else {
        dev->push_failures++;
        d->stats.push_failures++;
        kei_dv_error(dev, "values are not pushed to %s: %s", p->c.url, text);
        if (!kei_timer_armed(&t->timer))
            (void)kei_timer_in(&t->timer,
                               kei_backoff_next(&t->backoff, kei_ctx_random64(d->ctx)));
    }
    target_look(t);
    kei_dv_kick(dev);
}

static void on_answer(void *user, int status, const char *text, const struct kei_http_head *head,
                      struct ke_str body)
{
    struct push *p = user;
    char line[160];

    (void)body;
    if (status == 0 && head->status >= 400) {
        status = KE_EREFUSED;
        snprintf(line, sizeof line, "it answered %u %.*s", head->status, KEI_FMT(head->reason));
        text = line;
    }
    struct kei_http_call *call = p->call;
    p->call = NULL;
    ended(p, status, text);
    kei_http_call_free(call);
}

static int start_http(struct push *p, struct ke_str value)
{
    struct ke_devices *d = p->dev->d;
    struct image *img = p->dev->img;
    struct prop *prop = &img->props[p->prop];

    kei_buf_clear(&d->buf);
    kei_push_http_body(&d->buf, img->pub[p->prop].name, value, prop->reported_ms);
    if (!kei_buf_ok(&d->buf))
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory");
    struct kei_http_call_config c = {
        .stream = {.host = p->c.host, .port = p->c.port, .connect_ms = p->c.timeout_ms},
        .method = "POST",
        .target = p->c.target,
        .headers = "Content-Type: application/x-www-form-urlencoded\r\n",
        .body = kei_buf_str(&d->buf),
        .timeout_ms = p->c.timeout_ms,
        .max_body = ANSWER_MAX,
    };
    return kei_http_call(&p->call, d->ctx, &c, on_answer, p);
}

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct push *p = user;
    char text[200] = "";

    p->request = 0;
    if (status < 0) {
        snprintf(text, sizeof text, "%s", ke_strerror(status));
    } else if (!strcmp(ke_msg_operation(reply), "error")) {
        status = KE_EREFUSED;
        kei_dv_reply_text(reply, text, sizeof text);
    }
    ended(p, status, text);
}

/* To the event bus, which knows whose address it is. */
static int start_mqtt(struct push *p, struct ke_str value)
{
    struct ke_devices *d = p->dev->d;
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct kei_jw w;

    kei_buf_clear(&d->buf);
    kei_push_mqtt_payload(&d->buf, p->c.target, value,
                          p->dev->img->props[p->prop].reported_ms);
    kei_buf_clear(&d->buf2);
    kei_jw_init(&w, &d->buf2);
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "address", p->c.host);
    kei_jw_ki64(&w, "qos", p->c.qos);
    kei_jw_ki64(&w, "retain", p->c.retained);
    kei_jw_key(&w, "payload");
    kei_jw_strv(&w, kei_buf_str(&d->buf));
    kei_jw_obj_end(&w);
    if (!kei_buf_ok(&d->buf) || !kei_buf_ok(&d->buf2))
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory");
    ke_msg_config_init(&c, sizeof c);
    c.source = DV_MODULE;
    c.group = "device";
    c.operation = "push";
    c.resource = p->c.target;
    c.content = d->buf2.p;
    c.content_len = d->buf2.n;
    int r = ke_msg_new(&m, d->ctx, &c, kei_err(d->ctx));
    if (r == 0)
        r = ke_router_request(d->c.router, "eventbus", m, p->c.timeout_ms, on_reply, p,
                              &p->request);
    ke_msg_unref(m);
    return r == KE_ENOTFOUND ? kei_fail(d->ctx, r, "this node has no MQTT") : r;
}

static void start(struct push *p)
{
    struct ke_devices *d = p->dev->d;
    const struct prop *prop = &p->dev->img->props[p->prop];

    p->busy = true;
    p->target->open++;
    d->pushes_open++;
    p->reads = prop->reads;
    kei_buf_clear(&d->raw);
    kei_val_text(&d->raw, (enum kei_prop_type)prop->type, &prop->cur);
    int r = !kei_buf_ok(&d->raw)            ? kei_fail(d->ctx, KE_ENOMEM, "out of memory")
            : p->c.kind == KEI_PUSH_HTTP    ? start_http(p, kei_buf_str(&d->raw))
                                            : start_mqtt(p, kei_buf_str(&d->raw));
    if (r < 0) {
        struct ke_error err = *kei_err(d->ctx);
        ended(p, r, err.text);
    }
}

void kei_dv_push_pump(struct ke_devices *d)
{
    while (d->pushes_open < DV_PUSHES_OPEN && !kei_list_empty(&d->push_ready)) {
        struct push_target *t = KEI_OF(d->push_ready.next, struct push_target, ready);
        kei_list_remove(&t->ready);
        if (kei_list_empty(&t->wait) || kei_timer_armed(&t->timer))
            continue;
        struct push *p = KEI_OF(t->wait.next, struct push, link);
        kei_list_remove(&p->link);
        start(p);
        target_look(t);
    }
}

/* ---- when ---- */

/* Whether it has something to send at its next cycle. */
static bool wanted(const struct dev *dev, const struct push *p)
{
    const struct prop *prop = &dev->img->props[p->prop];

    return p->c.kind != KEI_PUSH_NONE && !p->busy && !kei_list_linked(&p->link) &&
           prop->cur.kind != KE_DEVICE_KIND_NONE && !(prop->flags & PROP_BAD) &&
           (dev->state == KE_DEVICE_ONLINE || prop->reads != p->gone);
}

int64_t kei_dv_push_due(const struct dev *dev)
{
    int64_t due = INT64_MAX;

    for (uint32_t i = 0; i < dev->img->n_pushes; i++) {
        const struct push *p = &dev->img->pushes[i];
        if (wanted(dev, p) && p->due < due)
            due = p->due;
    }
    return due;
}

void kei_dv_push(struct dev *dev, int64_t now)
{
    struct ke_devices *d = dev->d;

    for (uint32_t i = 0; i < dev->img->n_pushes && !d->closing; i++) {
        struct push *p = &dev->img->pushes[i];
        if (!wanted(dev, p) || p->due > now)
            continue;
        uint32_t cycle = dev->img->props[p->prop].report_ms;
        p->due = p->due + cycle > now ? p->due + cycle : now + cycle;
        p->dev = dev;
        if (!p->target && !(p->target = target_of(d, p->c.url))) {
            kei_dv_error(dev, "values are not pushed to %s: out of memory", p->c.url);
            continue;
        }
        kei_list_add_tail(&p->target->wait, &p->link);
        target_look(p->target);
    }
}

void kei_dv_push_free(struct image *img)
{
    for (uint32_t i = 0; i < img->n_pushes; i++) {
        struct push *p = &img->pushes[i];
        if (!p->target)
            continue;
        struct ke_devices *d = p->dev->d;
        kei_list_remove(&p->link);
        if (p->busy) {
            kei_http_call_free(p->call);
            if (p->request)
                ke_router_cancel(d->c.router, p->request);
            over(p);
            target_look(p->target);
            if (!d->closing && !d->draining)
                kei_defer(d->ctx, &d->defer, kei_dv_drain);
        }
        target_unref(p->target);
        p->target = NULL;
    }
}
