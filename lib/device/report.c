/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to the twin: values and states, one message of a device under way at a time, newest value
 * of each property, sent again until it is confirmed. Loop thread.
 */
#include "device/devices_priv.h"

#include <stdio.h>

#define TWIN "devicetwin"
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000

const char *kei_dv_id(struct dev *dev, struct ke_buf *out)
{
    const struct ke_device_config *c = &dev->img->conf;

    kei_buf_clear(out);
    const struct ke_devices_config *dc = &dev->d->c;
    bool ns =
        dc->dialect_now ? dc->dialect_now(dc->user) == KE_DIALECT_1_23 : dc->id_with_namespace != 0;

    if (ns)
        kei_buf_addf(out, "%s/", c->ns);
    kei_buf_adds(out, c->name);
    kei_buf_addc(out, '\0');
    return kei_buf_ok(out) ? out->p : "";
}

/* The type as the twin's validation knows it. */
static const char *twin_type(const struct prop *p)
{
    switch ((enum kei_prop_type)p->type) {
    case KEI_PROP_INT:
        return "int";
    case KEI_PROP_FLOAT:
    case KEI_PROP_DOUBLE:
        return "float";
    case KEI_PROP_BOOLEAN:
        return "boolean";
    default:
        return "string";
    }
}

static int new_message(struct ke_msg **ret, struct ke_devices *d, const char *group,
                       const char *operation, const char *resource, struct ke_str payload)
{
    struct ke_msg_config c;
    struct kei_jw w;

    kei_buf_clear(&d->buf2);
    kei_jw_init(&w, &d->buf2);
    kei_jw_strv(&w, payload);
    if (!kei_buf_ok(&d->buf2))
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for a message to the twin");
    ke_msg_config_init(&c, sizeof c);
    c.source = DV_MODULE;
    c.group = group;
    c.operation = operation;
    c.resource = resource;
    c.content = d->buf2.p;
    c.content_len = d->buf2.n;
    return ke_msg_new(ret, d->ctx, &c, kei_err(d->ctx));
}

int kei_dv_send(struct ke_devices *d, const char *module, const char *group, const char *operation,
                const char *resource, struct ke_str payload)
{
    struct ke_msg *m = NULL;

    if (!d->c.router)
        return KE_ENOTFOUND;
    int r = new_message(&m, d, group, operation, resource, payload);
    if (r == 0)
        r = ke_router_send(d->c.router, module, m, kei_err(d->ctx));
    ke_msg_unref(m);
    return r;
}

int kei_dv_ask_twin(struct ke_devices *d, const char *resource, struct ke_str payload,
                    ke_reply_fn fn, void *user, uint64_t *ret_request)
{
    struct ke_msg *m = NULL;

    if (!d->c.router)
        return KE_ENOTFOUND;
    int r = new_message(&m, d, "twin", "publish", resource, payload);
    if (r == 0)
        r = ke_router_request(d->c.router, TWIN, m, DV_REPORT_TIMEOUT_MS, fn, user, ret_request);
    ke_msg_unref(m);
    return r;
}

void kei_dv_reply_text(struct ke_msg *reply, char *out, size_t cap)
{
    size_t n;
    const char *content = ke_msg_content(reply, &n);
    struct ke_str v;

    out[0] = '\0';
    if (kei_json_value(kei_strn(content, n), 0, &v, NULL) == 0)
        kei_json_copy(out, cap, v);
}

/* ---- what is due ---- */

/* When the state is to be told, monotonic; INT64_MAX: not. */
static int64_t state_due(const struct dev *dev)
{
    if (dev->state_want == STATE_NONE)
        return INT64_MAX;
    if (dev->state_want != dev->state_sent)
        return dev->state_retry_at;
    return dev->img->state_ms ? dev->state_at : INT64_MAX;
}

int64_t kei_dv_report_due(const struct dev *dev)
{
    int64_t due = INT64_MAX;

    if (dev->in_report || kei_list_linked(&dev->reporting) || dev->state == KE_DEVICE_MAPPED)
        return due;
    due = state_due(dev);
    for (uint32_t i = 0; i < dev->img->n; i++) {
        const struct prop *p = &dev->img->props[i];
        if ((p->flags & (PROP_DIRTY | PROP_REPORT)) == (PROP_DIRTY | PROP_REPORT) &&
            p->report_at < due)
            due = p->report_at;
    }
    return due == INT64_MAX || due > dev->report_retry_at ? due : dev->report_retry_at;
}

/* ---- the end of a report ---- */

static void settle(struct dev *dev, int status, const char *text)
{
    struct ke_devices *d = dev->d;
    int64_t now = ke_ctx_mono_ms(d->ctx);

    dev->in_report = false;
    d->reports_open--;
    if (!kei_list_empty(&d->report_wait)) {
        struct dev *next = KEI_OF(d->report_wait.next, struct dev, reporting);
        kei_list_remove(&next->reporting);
        kei_dv_kick(next);
    }
    if (dev->report_is_state && status == 0) {
        dev->state_sent = dev->state_told;
        dev->state_at = now + dev->img->state_ms;
        dev->state_retry_at = 0;
    } else if (dev->report_is_state) {
        dev->state_retry_at = now + RETRY_MAX_MS / 6; /* values go on meanwhile */
        if (status == KE_EINVAL)
            return;
    }
    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        if (!(p->flags & PROP_IN_REPORT))
            continue;
        p->flags &= (uint16_t)~PROP_IN_REPORT;
        if (status < 0)
            p->flags |= PROP_DIRTY;
        else
            p->flags &= (uint16_t)~PROP_TWIN_ERROR;
        if (status < 0 && dev->reported_one) {
            p->flags |= PROP_TWIN_ERROR;
            kei_dv_prop_error(d, p, "the twin refused it: %s", text);
            p->report_at = now + RETRY_MAX_MS; /* the others go first */
        }
    }
    if (status == 0) {
        d->stats.reports++;
        dev->report_retries = 0;
        dev->report_retry_at = 0;
        return;
    }
    d->stats.report_failures++;
    dev->report_retries++;
    int64_t pause = (int64_t)RETRY_MIN_MS
                    << (dev->report_retries > 6 ? 6 : dev->report_retries - 1);
    dev->report_retry_at = now + (pause > RETRY_MAX_MS ? RETRY_MAX_MS : pause);
}

void kei_dv_reported(struct dev *dev, int status, const char *text)
{
    if (!dev->in_report)
        return;
    dev->request = 0;
    bool single = dev->reported_one, state = dev->report_is_state;
    settle(dev, status, text ? text : "");
    /* One bad value has all of them refused: find it by sending one at a time. */
    if (status == KE_EINVAL && !state)
        dev->reported_one = true;
    if (status < 0 && !single)
        kei_dv_error(dev, "the twin was not updated: %s", text ? text : ke_strerror(status));
    if (single && status == KE_EINVAL && !state)
        dev->report_retry_at = 0; /* the next property is another matter */
    kei_dv_kick(dev);
}

void kei_dv_report_cancel(struct dev *dev)
{
    kei_list_remove(&dev->reporting);
    if (!dev->in_report)
        return;
    if (dev->request)
        ke_router_cancel(dev->d->c.router, dev->request);
    dev->request = 0;
    kei_dv_report_over(dev);
    settle(dev, KE_ECANCELED, "");
    dev->report_retry_at = dev->state_retry_at = 0;
    dev->d->stats.report_failures--;
}

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct dev *dev = user;
    char text[200] = "";

    dev->request = 0;
    if (status == 0 && !strcmp(ke_msg_operation(reply), "error")) {
        kei_dv_reply_text(reply, text, sizeof text);
        /* one that the twin does not know yet: all of it again, a little later */
        status = kei_str_has(kei_str(text), KEI_STR("not existed")) ? KE_ENOTFOUND : KE_EINVAL;
    } else if (status < 0) {
        snprintf(text, sizeof text, "%s", ke_strerror(status));
    }
    kei_dv_reported(dev, status, text);
}

/* ---- begin of a report ---- */

static void head(struct ke_devices *d, struct kei_jw *w)
{
    kei_buf_clear(&d->buf);
    kei_jw_init(w, &d->buf);
    kei_jw_obj(w);
    kei_jw_kstr(w, "event_id", "");
    kei_jw_ki64(w, "timestamp", ke_ctx_real_ms(d->ctx));
}

static void add_side(struct kei_jw *w, const char *side, struct ke_str value)
{
    kei_jw_key(w, side);
    kei_jw_obj(w);
    kei_jw_key(w, "value");
    kei_jw_strv(w, value);
    kei_jw_obj_end(w);
}

/* The desired value as it can be told: one that is none of its type would have the reported value
 * refused with it. */
static const char *observed(const struct prop *p)
{
    return p->desired && kei_prop_value_ok((enum kei_prop_type)p->type, kei_str(p->desired))
               ? p->desired
               : NULL;
}

/* Marks what goes into this report; their number. */
static uint32_t choose(struct dev *dev, int64_t now)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        if ((p->flags & (PROP_DIRTY | PROP_REPORT)) != (PROP_DIRTY | PROP_REPORT) ||
            p->report_at > now)
            continue;
        if (p->cur.kind == KE_DEVICE_KIND_NONE && (dev->img->alpha || !observed(p))) {
            p->flags &= (uint16_t)~PROP_DIRTY; /* nothing to tell yet */
            continue;
        }
        p->flags &= (uint16_t)~PROP_DIRTY;
        p->flags |= PROP_IN_REPORT;
        n++;
        if (dev->reported_one)
            break;
    }
    return n;
}

/* What is under way counts as told: only what differs from it is told again. */
static void remember(struct dev *dev, int64_t now)
{
    const struct ke_alloc *a = dev->d->alloc;

    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        if (!(p->flags & PROP_IN_REPORT))
            continue;
        p->report_at = now + p->report_ms;
        kei_val_free(&p->sent, a);
        p->sent = p->cur;
        if (p->cur.kind == KE_DEVICE_KIND_TEXT && !(p->sent.s = kei_strdup(a, p->cur.s)))
            p->sent.kind = KE_DEVICE_KIND_NONE; /* then it is told once more */
    }
}

static void write_twin(struct dev *dev)
{
    struct ke_devices *d = dev->d;
    struct kei_jw w;

    head(d, &w);
    kei_jw_key(&w, "twin");
    kei_jw_obj(&w);
    for (uint32_t i = 0; i < dev->img->n; i++) {
        struct prop *p = &dev->img->props[i];
        if (!(p->flags & PROP_IN_REPORT))
            continue;
        kei_jw_key(&w, dev->img->pub[i].name);
        kei_jw_obj(&w);
        if (observed(p) && !dev->img->alpha)
            add_side(&w, "expected", kei_str(p->desired));
        if (p->cur.kind != KE_DEVICE_KIND_NONE) {
            kei_buf_clear(&d->raw);
            kei_val_text(&d->raw, (enum kei_prop_type)p->type, &p->cur);
            add_side(&w, "actual", kei_buf_str(&d->raw));
        }
        kei_jw_key(&w, "metadata");
        kei_jw_obj(&w);
        kei_jw_kstr(&w, "type", twin_type(p));
        kei_jw_obj_end(&w);
        kei_jw_obj_end(&w);
    }
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}

static int by_router(struct dev *dev, bool state)
{
    struct ke_devices *d = dev->d;
    char resource[600];
    struct ke_buf id;
    struct kei_jw w;

    kei_buf_init(&id, d->alloc);
    snprintf(resource, sizeof resource, "$hw/events/device/%s/%s/update", kei_dv_id(dev, &id),
             state ? "state" : "twin");
    ke_buf_free(&id);
    if (state) {
        head(d, &w);
        kei_jw_kstr(&w, "state", dev->state_told == STATE_ONLINE ? "online" : "offline");
        kei_jw_obj_end(&w);
    } else {
        write_twin(dev);
    }
    return kei_buf_ok(&d->buf)
               ? kei_dv_ask_twin(d, resource, kei_buf_str(&d->buf), on_reply, dev, &dev->request)
               : kei_fail(d->ctx, KE_ENOMEM, "out of memory for a message to the twin");
}

/* The texts of all values lie in d->raw one behind the other. */
static int values_by_sink(struct dev *dev, uint64_t token)
{
    struct ke_devices *d = dev->d;
    struct image *img = dev->img;
    uint32_t n = 0;
    struct ke_device_reported *v = kei_array_alloc(d->alloc, img->n, sizeof *v);

    if (!v)
        return kei_fail(d->ctx, KE_ENOMEM, "out of memory for a report");
    kei_buf_clear(&d->raw);
    for (uint32_t i = 0; i < img->n; i++) {
        struct prop *p = &img->props[i];
        if (!(p->flags & PROP_IN_REPORT))
            continue;
        v[n++] =
            (struct ke_device_reported){.size = sizeof *v,
                                        .property = img->pub[i].name,
                                        .type = kei_prop_type_name((enum kei_prop_type)p->type),
                                        .reported = (const char *)(uintptr_t)d->raw.n,
                                        .desired = observed(p),
                                        .when_ms = p->reported_ms};
        if (p->cur.kind == KE_DEVICE_KIND_NONE)
            v[n - 1].when_ms = -1;
        kei_val_text(&d->raw, (enum kei_prop_type)p->type, &p->cur);
        kei_buf_addc(&d->raw, '\0');
    }
    for (uint32_t i = 0; i < n; i++) {
        v[i].reported = v[i].when_ms < 0 ? NULL : d->raw.p + (uintptr_t)v[i].reported;
        v[i].when_ms = v[i].when_ms < 0 ? 0 : v[i].when_ms;
    }
    int r = kei_buf_ok(&d->raw)
                ? d->sink.report(d->c.sink_user, token, img->conf.ns, img->conf.name, v, n)
                : kei_fail(d->ctx, KE_ENOMEM, "out of memory for a report");
    kei_free(d->alloc, v);
    return r;
}

static int by_sink(struct dev *dev, bool state)
{
    struct ke_devices *d = dev->d;
    const struct ke_device_config *c = &dev->img->conf;
    uint64_t token = kei_dv_report_begin(dev);

    if (!state)
        return d->sink.report ? values_by_sink(dev, token) : KE_ENOTSUP;
    if (!d->sink.state)
        return KE_ENOTSUP;
    return d->sink.state(d->c.sink_user, token, c->ns, c->name,
                         dev->state_told == STATE_ONLINE ? "online" : "offline");
}

static void send(struct dev *dev, bool state, int64_t now)
{
    struct ke_devices *d = dev->d;

    dev->in_report = true;
    dev->report_is_state = state;
    dev->state_told = dev->state_want;
    d->reports_open++;
    if (!state)
        remember(dev, now);
    int r = d->c.router ? by_router(dev, state) : by_sink(dev, state);
    if (r == 0 || !dev->in_report)
        return;
    kei_dv_report_over(dev);
    if (!d->c.router && r == KE_ENOTSUP)
        settle(dev, 0, ""); /* nobody wants to know */
    else
        settle(dev, r, ke_strerror(r));
}

void kei_dv_report(struct dev *dev, int64_t now)
{
    struct ke_devices *d = dev->d;

    if (d->closing || kei_dv_report_due(dev) > now)
        return;
    if (d->reports_open >= DV_REPORTS_OPEN) {
        kei_list_add_tail(&d->report_wait, &dev->reporting);
        return;
    }
    if (state_due(dev) <= now) {
        send(dev, true, now);
        return;
    }
    if (choose(dev, now))
        send(dev, false, now);
    else
        dev->reported_one = false;
}
