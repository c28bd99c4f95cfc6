/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cloud must hear of: twins, states, and the request for the list of devices.
 *
 * Not by the tunnel's outbox, though that keeps messages until they are confirmed. There a newer
 * message replaces an older one with its key, but an edge_updated holds only the twins that
 * changed: the newer one would take the others' values with it. And a message in the outbox is a
 * second transaction after the one that changed the twin; a power cut between them loses the news.
 * Here "unconfirmed" is a mark on the twin, in the same row and the same transaction as its value;
 * the message is made of all marked twins when it is sent, so changes of one device are merged by
 * themselves, wait without a bound but the device's own size, and are made again after a restart.
 *
 * Clouds since 1.5 confirm edge_updated, since 1.18 states: a request to the tunnel's module, whose
 * reply takes the marks away. 1.4 never confirms, and 1.15 not its states: sent once on each link,
 * the newest again on the next. Loop thread.
 */
#include "twin/twin_priv.h"

#define CLOUD "websocket"
#define WINDOW 64u      /* requests under way */
/*
 * Doubled with each try. Upstream's edge waits 60 s; but CloudCore 1.23 leaves the first report of a
 * device unwritten, and unconfirmed, where the API server fills in no defaults.
 */
#define ANSWER_MS 10000
#define ANSWER_MAX 3600000
#define NEWER_MS 1000  /* unconfirmed, and something newer is there: that is sent, with the former \
                        */
#define LATER_MS 10000 /* could not be sent, though there is a link */
#define SCAN_MS 5000
#define FLUSH_MS 2000

static uint64_t newest(const struct kei_tdev *dev, unsigned lane)
{
    uint64_t up = 0;

    if (lane == LANE_STATE)
        return dev->d.state_up;
    for (uint32_t i = 0; i < dev->d.n; i++) {
        const struct kei_twin *x = dev->d.twins[i];

        if (kei_twin_dirty(x) && kei_twin_up(x) > up)
            up = kei_twin_up(x);
    }
    return up;
}

/* Will this cloud ever confirm it? */
static bool is_confirmed(uint32_t dialect, unsigned lane)
{
    return dialect != KE_DIALECT_1_4 && (lane == LANE_TWIN || dialect == KE_DIALECT_1_23);
}

static bool is_ready(const struct ke_twin *t, const struct kei_tdev *dev, unsigned i, int64_t now)
{
    const struct kei_lane *lane = &dev->lane[i];
    uint64_t up = newest(dev, i);

    if (!up)
        return false;
    if (lane->request) /* some clouds never confirm what they could not use: do not wait for that */
        return up > lane->seq && now >= lane->sent_ms + NEWER_MS;
    if (lane->due_ms > now)
        return false;
    return up > lane->seq || is_confirmed(kei_twin_dialect(t), i);
}

void kei_upward_note(struct ke_twin *t, struct kei_tdev *dev)
{
    int64_t now = ke_ctx_mono_ms(t->ctx);

    if (dev->gone || kei_list_linked(&dev->up) || !t->connected)
        return;
    if (is_ready(t, dev, LANE_TWIN, now) || is_ready(t, dev, LANE_STATE, now))
        kei_list_add_tail(&t->up, &dev->up);
}

static void end_request(struct ke_twin *t, struct kei_lane *lane)
{
    struct kei_tdev *dev = KEI_OF(lane - lane->index, struct kei_tdev, lane[0]);

    if (!lane->request)
        return;
    lane->request = 0;
    t->flying--;
    kei_tdev_unref(t, dev);
}

static void cancel(struct ke_twin *t, struct kei_lane *lane)
{
    if (lane->request)
        ke_router_cancel(t->c.router, lane->request);
    end_request(t, lane);
}

void kei_upward_forget(struct ke_twin *t, struct kei_tdev *dev)
{
    dev->refs++;
    cancel(t, &dev->lane[LANE_TWIN]);
    cancel(t, &dev->lane[LANE_STATE]);
    kei_tdev_unref(t, dev);
}

/* ---- replies ---- */

static bool is_good(const struct ke_msg *reply)
{
    struct kei_reply got;
    struct ke_str content;

    if (strcmp(ke_msg_operation(reply), "error") == 0)
        return false;
    content.p = ke_msg_content(reply, &content.n);
    kei_reply_read(&got, content);
    return got.kind != KEI_REPLY_ERROR;
}

static void confirmed(struct ke_twin *t, struct kei_tdev *dev, unsigned i, uint64_t seq)
{
    bool any = false;

    t->st.confirmed++;
    dev->lane[i].tries = 0;
    if (i == LANE_TWIN) {
        any = kei_twin_confirm(&dev->d, t->alloc, seq);
    } else if (dev->d.state_up && dev->d.state_up <= seq) {
        dev->d.state_up = 0;
        any = true;
    }
    if (!any || kei_list_linked(&dev->stale))
        return;
    kei_list_add_tail(&t->stale, &dev->stale);
    if (!kei_timer_armed(&t->flush))
        (void)kei_timer_in(&t->flush, FLUSH_MS);
}

/* Not confirmed in time: once more, less and less often. */
static void unanswered(struct ke_twin *t, struct kei_lane *lane, bool sent)
{
    int64_t pause = (int64_t)ANSWER_MS << (lane->tries < 9 ? lane->tries : 9);

    if (lane->tries < 100)
        lane->tries++;
    pause = sent ? pause - ANSWER_MS : LATER_MS; /* the first has waited for its answer already */
    lane->due_ms = ke_ctx_mono_ms(t->ctx) + (pause > ANSWER_MAX ? ANSWER_MAX : pause);
    if (!sent)
        lane->seq = 0;
}

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct kei_lane *lane = user;
    struct kei_tdev *dev = KEI_OF(lane - lane->index, struct kei_tdev, lane[0]);
    struct ke_twin *t = dev->t;

    dev->refs++;
    end_request(t, lane);
    if (!dev->gone && status == 0 && is_good(reply))
        confirmed(t, dev, lane->index, lane->seq);
    else if (!dev->gone)
        unanswered(t, lane, status == KE_ETIMEDOUT);
    kei_upward_note(t, dev);
    kei_tdev_unref(t, dev);
    kei_upward_pump(t);
}

/* ---- sending ---- */

static int make(struct ke_twin *t, struct ke_msg **ret, const char *operation, struct ke_buf *res,
                struct ke_buf *content)
{
    struct ke_msg_config c;

    if (!kei_buf_ok(res) || !kei_buf_ok(content))
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for a message to the cloud");
    ke_msg_config_init(&c, sizeof c);
    c.source = "twin";
    c.group = "resource";
    c.operation = operation;
    c.resource = res->p;
    c.content = content->p;
    c.content_len = content->n;
    return ke_msg_new(ret, t->ctx, &c, kei_err(t->ctx));
}

/* content becomes the JSON string of its text */
static void quote(struct ke_twin *t, struct ke_buf *content)
{
    struct ke_buf text;
    struct kei_jw w;

    if (!kei_buf_ok(content))
        return;
    kei_buf_init(&text, t->alloc);
    kei_jw_init(&w, &text);
    kei_jw_strv(&w, kei_buf_str(content));
    ke_buf_free(content);
    *content = text;
}

static int make_of(struct ke_twin *t, struct ke_msg **ret, const struct kei_tdev *dev,
                   unsigned lane)
{
    uint32_t dialect = kei_twin_dialect(t);
    struct ke_buf res, content;
    struct kei_twin_base b;
    char id[37];
    int r = kei_action_fresh(t, &b, id);

    if (r < 0)
        return r;
    kei_buf_init(&res, t->alloc);
    kei_buf_init(&content, t->alloc);
    kei_buf_adds(&res, "device/");
    kei_twin_id_write(&res, &dev->d, dialect);
    if (lane == LANE_TWIN) {
        kei_buf_adds(&res, "/twin/edge_updated");
        kei_twin_write_edge_updated(&content, &b, &dev->d, t->merging);
    } else {
        kei_buf_adds(&res, dialect == KE_DIALECT_1_4 ? "/state" : "/state/update");
        kei_twin_write_state(&content, &b, &dev->d, dialect, t->merging);
        quote(t, &content);
    }
    r = make(t, ret, "update", &res, &content);
    ke_buf_free(&res);
    ke_buf_free(&content);
    return r;
}

/* 0: it is on its way; KE_ELIMIT, KE_ENOMEM: later */
static int send_lane(struct ke_twin *t, struct kei_tdev *dev, unsigned i)
{
    struct kei_lane *lane = &dev->lane[i];
    bool answered = is_confirmed(kei_twin_dialect(t), i);
    struct ke_error err = KE_ERROR_INIT;
    struct ke_msg *m = NULL;
    int r = make_of(t, &m, dev, i);

    if (r < 0)
        return r;
    dev->refs++;
    cancel(t, lane);
    dev->refs--;
    if (kei_twin_dialect(t) == KE_DIALECT_1_4)
        r = ke_router_send(t->c.router, CLOUD, m, &err);
    else
        r = ke_router_request(t->c.router, CLOUD, m, ANSWER_MS, on_reply, lane, &lane->request);
    ke_msg_unref(m);
    if (r < 0) {
        unanswered(t, lane, false);
        return r == KE_ENOTFOUND ? 0 : r;
    }
    if (lane->request) {
        dev->refs++;
        t->flying++;
    }
    lane->seq = dev->d.seq;
    lane->sent_ms = ke_ctx_mono_ms(t->ctx);
    if (!answered)
        lane->due_ms = 0;
    t->st.sent++;
    return 0;
}

static void on_detail(void *user, int status, struct ke_msg *reply)
{
    struct ke_twin *t = user;
    struct ke_str content;

    t->detail_request = 0;
    if (status < 0)
        return;
    content.p = ke_msg_content(reply, &content.n);
    if (kei_json_type(content) == '{' && strcmp(ke_msg_operation(reply), "error") != 0)
        kei_input_message(t, reply);
}

/* Upstream's clouds never answer it, ours does. Once on each link. */
static void send_detail(struct ke_twin *t)
{
    struct ke_buf res, content;
    struct kei_twin_base b;
    struct ke_msg *m = NULL;
    char id[37];
    int r = kei_action_fresh(t, &b, id);

    if (kei_twin_dialect(t) == KE_DIALECT_1_4)
        b.event_id = KEI_STR("123");
    kei_buf_init(&res, t->alloc);
    kei_buf_init(&content, t->alloc);
    kei_buf_adds(&res, "membership/detail");
    kei_twin_write_detail(&content, &b, t->node_name);
    quote(t, &content);
    if (r == 0)
        r = make(t, &m, "get", &res, &content);
    if (r == 0)
        r = ke_router_request(t->c.router, CLOUD, m, ANSWER_MS, on_detail, t, &t->detail_request);
    t->detail_due = r < 0 && r != KE_ENOTFOUND;
    ke_msg_unref(m);
    ke_buf_free(&res);
    ke_buf_free(&content);
}

static void watch(struct ke_twin *t)
{
    if (!kei_timer_armed(&t->resend))
        (void)kei_timer_in(&t->resend, SCAN_MS);
}

void kei_upward_pump(struct ke_twin *t)
{
    int64_t now = ke_ctx_mono_ms(t->ctx);

    /* in the middle of a batch memory is ahead of the disk */
    if (!t->connected || !t->running || t->freed || !t->loaded || t->committing || t->working ||
        !kei_list_empty(&t->touched) || !kei_life_ready(t))
        return;
    if (t->detail_due)
        send_detail(t);
    while (t->flying < WINDOW && !kei_list_empty(&t->up)) {
        struct kei_tdev *dev = KEI_OF(t->up.next, struct kei_tdev, up);
        int r = 0;

        kei_list_remove(&dev->up);
        for (unsigned i = 0; i < LANES && r == 0; i++) {
            if (is_ready(t, dev, i, now))
                r = send_lane(t, dev, i);
        }
        watch(t);
        if (r < 0)
            break; /* the timer finds it */
    }
}

/* What is not sent, or not confirmed by a cloud that would. */
static bool is_open(const struct ke_twin *t, const struct kei_tdev *dev)
{
    uint32_t dialect = kei_twin_dialect(t);

    for (unsigned i = 0; i < LANES; i++) {
        uint64_t up = newest(dev, i);

        if (up && (is_confirmed(dialect, i) || up > dev->lane[i].seq))
            return true;
    }
    return false;
}

/* The devices with something open are in line to be sent, or watched until they may be. */
static void note_all(struct ke_twin *t)
{
    bool open = t->detail_due;

    KEI_LIST_EACH(l, &t->all)
    {
        struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        kei_upward_note(t, dev);
        open = open || is_open(t, dev);
    }
    if (open && t->connected)
        watch(t);
}

static void on_resend(struct kei_timer *timer)
{
    struct ke_twin *t = KEI_OF(timer, struct ke_twin, resend);

    if (!t->connected || !t->running)
        return;
    note_all(t);
    kei_upward_pump(t);
}

static void on_flush(struct kei_timer *timer)
{
    struct ke_twin *t = KEI_OF(timer, struct ke_twin, flush);
    struct kei_input *in;

    if (kei_list_empty(&t->stale) || !t->c.store)
        return;
    in = kei_zalloc(t->alloc, sizeof *in);
    if (in) {
        in->action = ACT_FLUSH;
        in->bytes = sizeof *in;
    }
    if (!in || kei_input_queue(t, in, kei_err(t->ctx)) < 0) {
        kei_free(t->alloc, in);
        (void)kei_timer_in(&t->flush, FLUSH_MS);
    }
}

void kei_upward_link(struct ke_twin *t, bool up)
{
    t->connected = up;
    if (t->detail_request)
        ke_router_cancel(t->c.router, t->detail_request);
    t->detail_request = 0;
    t->detail_due = up;
    KEI_LIST_EACH(l, &t->all)
    {
        struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        kei_list_remove(&dev->up);
        for (unsigned i = 0; i < LANES; i++) {
            cancel(t, &dev->lane[i]);
            dev->lane[i].seq = 0;
            dev->lane[i].due_ms = 0;
            dev->lane[i].tries = 0;
        }
    }
    note_all(t);
    kei_upward_pump(t);
}

void kei_upward_init(struct ke_twin *t)
{
    kei_list_init(&t->up);
    kei_list_init(&t->stale);
    kei_timer_init(t->ctx, &t->resend, on_resend);
    kei_timer_init(t->ctx, &t->flush, on_flush);
}

void kei_upward_fini(struct ke_twin *t)
{
    kei_upward_link(t, false);
    kei_timer_fini(&t->resend);
    kei_timer_fini(&t->flush);
}
