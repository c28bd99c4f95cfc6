/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lives of devices, where the cloud is one of ours too: the clock of their stamps, what the
 * cloud tells with stamps, the graves of those that ended. Loop thread.
 *
 * The cloud's clock is the measure. When it is told at the beginning of a link, nothing here may be
 * later than that and AHEAD_MS; what is (a clock that ran wrong while nobody could say so)
 * gets a new stamp before anything goes up, and from then on this place stamps no later. A clock
 * that is behind needs nothing: each stamp is later than all that was seen.
 *
 * Graves are few and small (a digest of the name, the life); the cloud would not tell of what they
 * hold a second time, but a message that comes twice, or late, finds them. Beyond GRAVES the one of
 * the oldest life is given up.
 */
#include "base/fnv.h"
#include "twin/twin_priv.h"

#define AHEAD_MS KEI_MERGE_AHEAD_MS
#define GRAVES KEI_TWIN_GRAVES
#define GRAVE_BYTES 24u

/* ---- the clock ---- */

static int64_t limit_now(const struct ke_twin *t)
{
    return t->cloud_ms ? t->cloud_ms + (ke_ctx_mono_ms(t->ctx) - t->cloud_mono) + AHEAD_MS : 0;
}

static int64_t wall(const struct ke_twin *t)
{
    int64_t now = ke_ctx_real_ms(t->ctx), limit = limit_now(t);

    now = now < KEI_HLC_MS_MAX ? now : KEI_HLC_MS_MAX;
    return limit && now > limit ? limit : now;
}

void kei_life_init(struct ke_twin *t)
{
    uint64_t h = kei_fnv1a(KEI_FNV1A, t->node_name, strlen(t->node_name));

    t->clock.node = (uint32_t)(h ^ (h >> 32)) | 1u; /* the cloud's is 0 */
}

static bool is_driver(const struct kei_input *in)
{
    const char *source = in && in->m && in->from_mqtt ? ke_msg_source(in->m) : "";

    return strcmp(source, "devicemanager") == 0 || strcmp(source, "dmi") == 0;
}

/* Before the first link nobody knows; the device was a merging cloud's. */
static bool is_merged(const struct ke_twin *t, const struct kei_tdev *dev)
{
    return !kei_hlc_is_zero(&dev->d.life) && (t->merging || !t->linked);
}

void kei_life_rules(struct ke_twin *t, const struct kei_tdev *dev, const struct kei_input *in,
                    struct kei_twin_rules *r)
{
    r->wall_ms = wall(t);
    r->clock = kei_hlc_is_zero(&dev->d.life) ? NULL : &t->clock;
    r->driver = is_driver(in);
    r->observed = r->driver && is_merged(t, dev);
}

/* ---- the link ---- */

static bool any_later(const struct ke_twin *t, const struct kei_hlc *limit)
{
    KEI_LIST_EACH(l, &t->all)
    {
        if (kei_twin_later(&KEI_OF(l, struct kei_tdev, all)->d, limit))
            return true;
    }
    return false;
}

static void want_restamp(struct ke_twin *t)
{
    struct kei_hlc limit = {limit_now(t), UINT32_MAX, UINT32_MAX};
    struct kei_input *in;

    t->restamp = t->cloud_ms && (any_later(t, &limit) || t->clock.ms > limit.ms);
    if (!t->restamp)
        return;
    in = kei_zalloc(t->alloc, sizeof *in);
    if (in) {
        in->action = ACT_RESTAMP;
        in->bytes = sizeof *in;
    }
    if (!in || kei_input_queue(t, in, kei_err(t->ctx)) < 0) {
        kei_free(t->alloc, in); /* nothing goes up; it is tried again when that is looked at */
        t->restamp_queued = false;
        return;
    }
    t->restamp_queued = true;
}

bool kei_life_ready(struct ke_twin *t)
{
    if (t->restamp && !t->restamp_queued && t->merging)
        want_restamp(t);
    return !t->restamp || !t->merging;
}

int kei_life_restamp(struct ke_twin *t)
{
    struct kei_hlc limit = {limit_now(t), UINT32_MAX, UINT32_MAX};
    uint32_t n, sum = 0;
    int r = 0;

    t->clock.ms = t->cloud_ms;
    t->clock.n = UINT32_MAX; /* behind all that the cloud has of that millisecond */
    KEI_LIST_EACH(l, &t->all)
    {
        kei_twin_clock_see(&t->clock, &KEI_OF(l, struct kei_tdev, all)->d, &limit);
    }
    KEI_LIST_EACH(l, &t->all)
    {
        struct kei_tdev *dev = KEI_OF(l, struct kei_tdev, all);

        if (r < 0 || dev->gone || !kei_twin_later(&dev->d, &limit))
            continue;
        r = kei_batch_touch(t, dev);
        if (r == 0)
            r = kei_twin_restamp(&dev->d, t->alloc, &limit, &t->clock, 0, &n);
        sum += r == 0 ? n : 0;
    }
    if (r < 0)
        return r;
    t->restamp = t->restamp_queued = false;
    kei_log(t->ctx, KE_LOG_WARN, "twin",
            "this node's clock was more than %d minutes ahead of the cloud's: %u values have the "
            "cloud's time now",
            AHEAD_MS / 60000, sum);
    return 0;
}

void kei_life_link(struct ke_twin *t, bool up)
{
    if (!up) {
        t->told = false;
        return;
    }
    t->linked = true;
    t->merging = t->told;
    t->cloud_ms = t->told ? t->told_ms : 0;
    t->cloud_mono = t->told_mono;
    t->restamp = t->restamp_queued = false;
    if (!t->merging)
        return;
    if (t->cloud_ms) /* no later than what it has seen, whatever the wall says */
        kei_hlc_see(&t->clock, &(struct kei_hlc){t->cloud_ms, UINT32_MAX, 0});
    if (t->loaded)
        want_restamp(t);
}

void kei_life_loaded(struct ke_twin *t)
{
    KEI_LIST_EACH(l, &t->all)
    {
        kei_twin_clock_see(&t->clock, &KEI_OF(l, struct kei_tdev, all)->d, NULL);
    }
    for (uint32_t i = 0; i < t->n_graves; i++)
        kei_hlc_see(&t->clock, &t->graves[i].life);
    if (t->connected && t->merging)
        want_restamp(t);
}

void kei_life_told(struct ke_twin *t, const struct ke_msg *m)
{
    struct ke_str content, v;
    int64_t now = 0;

    content.p = ke_msg_content(m, &content.n);
    t->told = kei_json_get(content, "now", &v) && kei_json_i64(v, &now) && now >= 0 &&
              now <= KEI_HLC_MS_MAX;
    t->told_ms = now;
    t->told_mono = ke_ctx_mono_ms(t->ctx);
}

/* ---- graves ---- */

static uint64_t digest(struct ke_str ns, struct ke_str name)
{
    uint64_t h = kei_fnv1a(KEI_FNV1A, ns.n ? ns.p : "default", ns.n ? ns.n : 7);

    h = kei_fnv1a(h, "/", 1);
    return kei_fnv1a(h, name.p, name.n);
}

static struct kei_grave *grave_of(struct ke_twin *t, uint64_t who)
{
    for (uint32_t i = 0; i < t->n_graves; i++) {
        if (t->graves[i].who == who)
            return &t->graves[i];
    }
    return NULL;
}

void kei_life_bury(struct ke_twin *t, const struct kei_tdev *dev, const struct kei_hlc *life)
{
    uint64_t who = digest(kei_str(dev->d.ns), kei_str(dev->d.name));
    struct kei_grave *g = grave_of(t, who);

    if (!g && !t->graves)
        t->graves = kei_zalloc(t->alloc, GRAVES * sizeof *t->graves);
    if (!t->graves)
        return; /* out of memory: only what comes twice would miss it */
    if (!g && t->n_graves < GRAVES) {
        g = &t->graves[t->n_graves++];
        *g = (struct kei_grave){who, *life};
    } else if (!g) {
        g = t->graves;
        for (uint32_t i = 1; i < t->n_graves; i++) {
            if (kei_hlc_compare(&t->graves[i].life, &g->life) < 0)
                g = &t->graves[i];
        }
        *g = (struct kei_grave){who, *life};
    } else if (kei_hlc_compare(life, &g->life) > 0) {
        g->life = *life;
    }
    t->graves_new = true;
}

static void put_le(struct ke_buf *out, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        kei_buf_addc(out, (char)(unsigned char)(v >> (8 * i)));
}

static uint64_t get_le(const unsigned char *p, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

int kei_life_store(struct ke_twin *t, struct ke_store_tx *tx)
{
    struct ke_buf row;
    int r;

    if (!t->graves_new)
        return 0;
    kei_buf_init(&row, t->alloc);
    for (uint32_t i = 0; i < t->n_graves; i++) {
        put_le(&row, t->graves[i].who, 8);
        put_le(&row, (uint64_t)t->graves[i].life.ms, 8);
        put_le(&row, t->graves[i].life.n, 4);
        put_le(&row, t->graves[i].life.node, 4);
    }
    r = kei_buf_ok(&row) ? ke_store_put(tx, KEI_LIFE_BUCKET, "graves", NULL, 0, row.p, row.n)
                         : KE_ENOMEM;
    ke_buf_free(&row);
    t->graves_new = r < 0;
    return r;
}

void kei_life_read(struct ke_twin *t, const struct ke_store_item *item)
{
    const unsigned char *p = (const unsigned char *)item->value;
    size_t n = item->len / GRAVE_BYTES;

    if (!t->graves)
        t->graves = kei_zalloc(t->alloc, GRAVES * sizeof *t->graves);
    if (!t->graves) {
        t->load_status = KE_ENOMEM;
        return;
    }
    t->n_graves = 0;
    for (size_t i = 0; i < n && i < GRAVES; i++, p += GRAVE_BYTES) {
        struct kei_grave g = {get_le(p, 8), {(int64_t)get_le(p + 8, 8), 0, 0}};

        g.life.n = (uint32_t)get_le(p + 16, 4);
        g.life.node = (uint32_t)get_le(p + 20, 4);
        if (g.life.ms >= 0 && g.life.ms <= KEI_HLC_MS_MAX)
            t->graves[t->n_graves++] = g;
    }
}

/* ---- what the cloud tells ---- */

int kei_life_open(struct kei_merge_device *m, struct ke_twin *t, struct ke_str raw,
                  struct ke_str what)
{
    int r;

    kei_merge_init(m);
    if (!raw.n || !t->merging)
        return 0;
    r = kei_merge_read(m, t->alloc, raw, kei_err(t->ctx));
    if (r == KE_ENOMEM)
        return r;
    if (r == 0 && !kei_hlc_is_zero(&m->life))
        return 1;
    kei_log(t->ctx, KE_LOG_WARN, "twin", "the stamps of device %.*s were left out: %s",
            KEI_FMT(what), r < 0 ? ke_ctx_error(t->ctx) : "there is no life");
    kei_merge_fini(m, t->alloc);
    return 0;
}

bool kei_life_is_over(struct ke_twin *t, const struct kei_tdev *dev, struct ke_str ns,
                      struct ke_str name, const struct kei_merge_device *m)
{
    const struct kei_grave *g;

    if (dev)
        return kei_hlc_compare(&m->life, &dev->d.life) < 0;
    g = grave_of(t, digest(ns, name));
    return m->dead || (g && kei_hlc_compare(&m->life, &g->life) <= 0);
}

int kei_life_begin(struct ke_twin *t, struct kei_tdev *dev, const struct kei_hlc *life, bool anew,
                   bool *ret_reborn)
{
    bool first = kei_hlc_is_zero(&dev->d.life) && !anew;
    uint32_t n;
    int r;

    *ret_reborn = false;
    kei_hlc_see(&t->clock, life);
    if (kei_hlc_compare(life, &dev->d.life) <= 0)
        return 0;
    r = kei_batch_touch(t, dev);
    if (r < 0)
        return r;
    if (first) { /* it was here before anybody had stamps: its own words are as new as today */
        dev->d.life = *life;
        return kei_twin_restamp(&dev->d, t->alloc, NULL, &t->clock, wall(t), &n);
    }
    *ret_reborn = true;
    return kei_twin_reborn(&dev->d, t->alloc, life);
}

int kei_life_take(struct ke_twin *t, struct kei_tdev *dev, const struct kei_merge_device *m,
                  const struct kei_twin_view *types, uint32_t n_types, struct kei_arena *a)
{
    struct kei_twin_payload p = {.has_twins = true};
    struct kei_hlc at = {0, 0, 0};
    int r = kei_twin_told(&p.twins, &p.n_twins, &dev->d, m, types, n_types, a);

    if (r < 0)
        return r;
    for (uint32_t i = 0; i < m->n; i++) {
        for (unsigned s = 0; s < 2; s++)
            kei_hlc_see(&at, &m->twins[i].v[s].at);
    }
    kei_hlc_see(&t->clock, &at);
    return p.n_twins ? kei_action_twins(t, dev, &p, KEI_TWIN_MERGE, NULL, a) : 0;
}
