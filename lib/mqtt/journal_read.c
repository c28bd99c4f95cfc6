/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the journal back, before the server listens. Everything in a record is checked; one that
 * is damaged ends its file. Messages that nothing refers to at the end are dropped. Loop thread.
 */
#include "base/map.h"
#include "mqtt/journal_priv.h"

#include <inttypes.h>

struct old_delivery {
    struct mq_delivery d;
    uint16_t pid;
};

struct old_session {
    struct mq_session *s;
    struct old_delivery *e; /* by rising did */
    size_t n, cap, head;
};

struct reading {
    struct mq_journal *j;
    struct ke_mqtt *m;
    struct kei_map msgs, sessions; /* by their number */
    int64_t real_ms;
    int64_t newest_ms; /* of the moments noted: a clock that is not set is later than that */
    uint64_t lost;
    int status;
};

/* ---- fields ---- */

struct in {
    const uint8_t *p, *end;
    bool bad;
};

static uint64_t num(struct in *i)
{
    uint64_t v = 0;

    for (unsigned k = 0; k < 10 && i->p < i->end; k++) {
        uint8_t c = *i->p++;
        v |= (uint64_t)(c & 127) << 7 * k;
        if (!(c & 128))
            return v;
    }
    i->bad = true;
    return 0;
}

static uint64_t below(struct in *i, uint64_t most)
{
    uint64_t v = num(i);

    if (v > most)
        i->bad = true;
    return i->bad ? 0 : v;
}

static struct ke_str str(struct in *i)
{
    uint64_t n = num(i);

    if (i->bad || n > (uint64_t)(i->end - i->p)) {
        i->bad = true;
        return kei_strn(NULL, 0);
    }
    struct ke_str s = kei_strn((const char *)i->p, (size_t)n);
    i->p += n;
    return s;
}

static struct ke_str key(const uint64_t *v)
{
    return kei_strn((const char *)v, sizeof *v);
}

static bool no_memory(struct reading *r)
{
    r->status = kei_fail(r->m->ctx, KE_ENOMEM, "no memory to read the MQTT server's data");
    return false;
}

static struct mq_msg *read_msg(struct reading *r, struct in *i)
{
    struct mq_draft d = {0};

    d.qos = (uint8_t)below(i, 2);
    d.flags = (uint8_t)below(i, 255);
    uint64_t expiry = num(i);
    d.topic = str(i);
    d.props = str(i);
    d.payload = str(i);
    d.client = str(i);
    d.user = str(i);
    if (i->bad || !kei_mqtt_topic_ok(d.topic) || d.client.n > UINT16_MAX || d.user.n > UINT16_MAX) {
        i->bad = true;
        return NULL;
    }
    if (expiry == 0 || expiry > INT64_MAX / 2)
        d.expires_ms = MQ_NEVER;
    else
        d.expires_ms = (int64_t)expiry; /* or real time, until all is read (set_time) */
    struct mq_msg *g = kei_mq_msg_new(r->m, &d);
    if (!g)
        no_memory(r);
    return g;
}

/* ---- records ---- */

static bool on_msg(struct reading *r, struct in *i)
{
    uint64_t mid = num(i);
    void *old = NULL;
    struct mq_msg *g = read_msg(r, i);

    if (!g)
        return false;
    g->mid = mid;
    if (mid >= r->j->next_mid)
        r->j->next_mid = mid + 1;
    if (kei_map_get(&r->msgs, key(&mid))) { /* a snapshot repeats it */
        mq_unref(g);
        return true;
    }
    if (kei_map_put(&r->msgs, key(&mid), g, &old) < 0) {
        mq_unref(g);
        return no_memory(r);
    }
    return true;
}

static struct old_session *find(struct reading *r, uint64_t sid)
{
    return kei_map_get(&r->sessions, key(&sid));
}

static void forget(struct reading *r, uint64_t sid)
{
    struct old_session *o = kei_map_remove(&r->sessions, key(&sid));

    if (!o)
        return;
    for (size_t i = o->head; i < o->n; i++)
        kei_mq_delivery_done(o->s, &o->e[i].d);
    kei_mq_session_free(o->s);
    kei_free(r->m->alloc, o->e);
    kei_free(r->m->alloc, o);
}

static bool on_session(struct reading *r, struct in *i)
{
    const struct ke_alloc *al = r->m->alloc;
    uint64_t sid = num(i);
    struct ke_str id = str(i);
    uint32_t expiry = (uint32_t)below(i, UINT32_MAX);
    uint64_t away = num(i);
    uint32_t next_did = (uint32_t)below(i, UINT32_MAX);
    bool has_user = below(i, 1);
    struct ke_str user = str(i);
    bool has_will = below(i, 1);
    struct old_session *o = find(r, sid);

    if (i->bad || id.n == 0 || id.n > UINT16_MAX)
        return false;
    if (!o) {
        struct mq_session *other = kei_mq_session_find(r->m, id);
        if (other) /* one that is in memory since before the last stop, or an older of that id */
            forget(r, other->sid);
        o = kei_zalloc(al, sizeof *o);
        if (o)
            o->s = kei_mq_session_new(r->m, id);
        if (!o || !o->s || kei_map_put(&r->sessions, key(&sid), o, NULL) < 0) {
            if (o && o->s)
                kei_mq_session_free(o->s);
            kei_free(al, o);
            return no_memory(r);
        }
        o->s->sid = sid;
        o->s->flags |= MQ_S_KEPT;
    }
    struct mq_session *s = o->s;
    if (sid >= r->j->next_sid)
        r->j->next_sid = sid + 1;
    s->expiry_s = expiry;
    s->away_ms = away && away < INT64_MAX / 2 ? (int64_t)away : r->real_ms;
    if (s->away_ms > r->newest_ms)
        r->newest_ms = s->away_ms;
    if (next_did > s->next_did)
        s->next_did = next_did;
    kei_free(al, s->user_name);
    s->user_name = has_user ? kei_strndup(al, user.p ? user.p : "", user.n) : NULL;
    kei_mq_will_free(s);
    if (has_user && !s->user_name)
        return no_memory(r);
    if (!has_will)
        return !i->bad;
    uint32_t delay = (uint32_t)below(i, UINT32_MAX);
    struct mq_msg *g = read_msg(r, i);
    if (!g)
        return false;
    s->will = kei_zalloc(al, sizeof *s->will);
    if (!s->will) {
        mq_unref(g);
        return no_memory(r);
    }
    s->will->msg = g;
    s->will->delay_s = delay;
    return true;
}

static bool on_sub(struct reading *r, struct in *i, bool remove)
{
    struct old_session *o = find(r, num(i));
    struct ke_str filter = str(i);
    struct mq_sub *sub;
    bool is_new;

    if (i->bad)
        return false;
    if (!o)
        return true;
    if (remove) {
        kei_mq_sub_remove(o->s, filter);
        return true;
    }
    uint8_t options = (uint8_t)below(i, 63);
    uint32_t id = (uint32_t)below(i, 268435455);
    if (i->bad)
        return false;
    return kei_mq_sub_set(o->s, filter, options, id, &sub, &is_new) != KE_ENOMEM || no_memory(r);
}

static struct old_delivery *delivery(struct old_session *o, uint32_t did)
{
    size_t lo = o->head, hi = o->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (o->e[mid].d.did < did)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < o->n && o->e[lo].d.did == did ? &o->e[lo] : NULL;
}

static struct old_delivery *add(struct reading *r, struct old_session *o, uint32_t did)
{
    if (o->n == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 16;
        if (o->head > o->cap / 2) { /* the front is done: move instead */
            memmove(o->e, o->e + o->head, (o->n - o->head) * sizeof *o->e);
            o->n -= o->head;
            o->head = 0;
        } else {
            void *p = kei_array_realloc(r->m->alloc, o->e, cap, sizeof *o->e);
            if (!p) {
                no_memory(r);
                return NULL;
            }
            o->e = p;
            o->cap = cap;
        }
    }
    size_t at = o->n++;
    for (; at > o->head && o->e[at - 1].d.did > did; at--) /* hardly ever out of order */
        o->e[at] = o->e[at - 1];
    memset(&o->e[at], 0, sizeof o->e[at]);
    o->e[at].d.did = did;
    if (did > o->s->next_did)
        o->s->next_did = did;
    return &o->e[at];
}

static bool on_queue(struct reading *r, struct in *i)
{
    struct old_session *o = find(r, num(i));
    uint32_t did = (uint32_t)below(i, UINT32_MAX);
    uint64_t mid = num(i);
    uint8_t qos = (uint8_t)below(i, 2), flags = (uint8_t)below(i, 255);
    uint16_t pid = (uint16_t)below(i, 65535), n = (uint16_t)below(i, 65535);
    struct mq_msg *g = mid ? kei_map_get(&r->msgs, key(&mid)) : NULL;

    if (i->bad || qos == 0)
        return false;
    if (!o || (!g && !(flags & MQ_D_REL)))
        return true; /* of what a later snapshot tells in full */
    uint32_t *ids = n > 1 ? kei_array_alloc(r->m->alloc, n, sizeof *ids) : NULL, one = 0;
    if (n > 1 && !ids)
        return no_memory(r);
    for (uint16_t k = 0; k < n; k++)
        *(ids ? &ids[k] : &one) = (uint32_t)below(i, 268435455);
    struct old_delivery *e = i->bad ? NULL : delivery(o, did);
    if (!e && !i->bad)
        e = add(r, o, did);
    if (!e) {
        kei_free(r->m->alloc, ids);
        return false;
    }
    kei_mq_delivery_done(o->s, &e->d);
    e->d = (struct mq_delivery){
        .did = did,
        .qos = qos,
        .n_ids = n,
        .flags = (uint8_t)((flags & (MQ_D_RETAIN | MQ_D_REL | MQ_D_SHARED)) | MQ_D_LOGGED)};
    e->d.msg = g && !(flags & MQ_D_REL) ? mq_ref(g) : NULL;
    e->pid = pid;
    if (ids)
        e->d.ids.many = ids;
    else
        e->d.ids.one = one;
    return true;
}

static bool on_step(struct reading *r, struct in *i, enum mq_record type)
{
    struct old_session *o = find(r, num(i));
    uint32_t did = (uint32_t)below(i, UINT32_MAX);
    uint16_t pid = type == MQ_R_SENT ? (uint16_t)below(i, 65535) : 0;
    struct old_delivery *e = o && !i->bad ? delivery(o, did) : NULL;

    if (i->bad)
        return false;
    if (!e)
        return true;
    if (type == MQ_R_SENT) {
        e->pid = pid;
        return true;
    }
    mq_unref(e->d.msg);
    e->d.msg = NULL;
    if (type == MQ_R_REL) {
        e->d.flags |= MQ_D_REL;
        return true;
    }
    kei_mq_delivery_done(o->s, &e->d);
    e->d.flags = MQ_D_DONE;
    while (o->head < o->n && o->e[o->head].d.flags & MQ_D_DONE)
        o->head++;
    if (o->head == o->n)
        o->head = o->n = 0;
    return true;
}

static bool on_taken(struct reading *r, struct in *i)
{
    struct old_session *o = find(r, num(i));
    uint16_t pid = (uint16_t)below(i, 65535);
    bool taken = below(i, 1);

    if (i->bad || pid == 0)
        return false;
    if (o && !taken)
        kei_mq_rec_remove(o->s, pid);
    return !o || !taken || kei_mq_rec_add(o->s, pid) == 0 || no_memory(r);
}

static bool on_retain(struct reading *r, struct in *i)
{
    uint64_t mid = num(i);
    struct mq_msg *g = i->bad ? NULL : kei_map_get(&r->msgs, key(&mid));

    if (i->bad || !g)
        return !i->bad;
    struct mq_node *n = kei_mq_tree_make(&r->m->retained, mq_topic(g));
    if (!n)
        return no_memory(r);
    kei_mq_retain_set(r->m, n, g);
    return true;
}

static bool on_unretain(struct reading *r, struct in *i)
{
    struct ke_str topic = str(i);
    struct mq_node *n = i->bad ? NULL : kei_mq_tree_find(&r->m->retained, topic);

    if (n && n->value)
        kei_mq_retain_set(r->m, n, NULL);
    return !i->bad;
}

static bool apply(struct reading *r, const uint8_t *p, size_t n)
{
    struct in i = {p + 1, p + n, false};

    switch ((enum mq_record)p[0]) {
    case MQ_R_MSG:
        return on_msg(r, &i);
    case MQ_R_SESSION:
        return on_session(r, &i);
    case MQ_R_GONE:
        forget(r, num(&i));
        return !i.bad;
    case MQ_R_SUB:
        return on_sub(r, &i, false);
    case MQ_R_UNSUB:
        return on_sub(r, &i, true);
    case MQ_R_QUEUE:
        return on_queue(r, &i);
    case MQ_R_SENT:
    case MQ_R_REL:
    case MQ_R_DONE:
        return on_step(r, &i, (enum mq_record)p[0]);
    case MQ_R_TAKEN:
        return on_taken(r, &i);
    case MQ_R_RETAIN:
        return on_retain(r, &i);
    case MQ_R_UNRETAIN:
        return on_unretain(r, &i);
    case MQ_R_BEGIN:
    case MQ_R_END:
        return true;
    default:
        return false;
    }
}

/* ---- files ---- */

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool zeros(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p == 0)
        p++;
    return p == end;
}

/* All records of one file; a damaged or cut one ends it. */
static int read_file(struct reading *r, uint64_t number, bool *damaged)
{
    struct ke_error *err = kei_err(r->m->ctx);
    struct ke_buf b;
    char path[4096];
    size_t at = 8;

    if (!kei_mq_log_path(r->j, number, path, sizeof path))
        return kei_error(err, KE_EINVAL, "the path of the data folder is too long");
    kei_buf_init(&b, r->m->alloc);
    int s = kei_file_read(r->j->io, path, SIZE_MAX / 4, &b, err);
    if (s < 0)
        return s;
    if (b.n < 8) { /* cut short when it was made */
        ke_buf_free(&b);
        return 0;
    }
    if (memcmp(b.p, MQ_LOG_MAGIC, 8) != 0) {
        s = kei_error(err, memcmp(b.p, MQ_LOG_MAGIC, 6) == 0 ? KE_ENEWER : KE_ECORRUPT,
                      "%s is not a log of this release", path);
        ke_buf_free(&b);
        return s;
    }
    const uint8_t *p = (const uint8_t *)b.p;
    while (at + MQ_LOG_HEAD <= b.n) {
        uint32_t n = get32(p + at);
        if (n == 0 || n > MQ_LOG_RECORD_MAX || n > b.n - at - 8 ||
            get32(p + at + 4) != kei_mq_log_sum(p + at + 8, n))
            break;
        if (!apply(r, p + at + 8, n))
            break;
        at += 8 + (size_t)n;
    }
    if (r->status == 0 && !zeros(p + at, p + b.n)) { /* not what was written ahead */
        *damaged = true;
        r->lost += b.n - at;
    }
    r->j->log_bytes += at;
    ke_buf_free(&b);
    return r->status;
}

/* ---- the end ---- */

static void set_time(struct reading *r)
{
    struct ke_str k;
    void *v;
    size_t it = 0;

    if (kei_ctx_clock_behind(r->m->ctx) && r->newest_ms > r->real_ms) {
        r->real_ms = r->newest_ms;
        kei_ctx_time_floor(r->m->ctx, r->newest_ms);
    }
    while (kei_map_next(&r->msgs, &it, &k, &v)) {
        struct mq_msg *g = v;
        if (g->expires_ms != MQ_NEVER)
            g->expires_ms += r->m->now - r->real_ms;
    }
}

/* When it went away, by a clock that may have been set since, either way. */
static int64_t away_since(const struct reading *r, const struct mq_session *s)
{
    return s->away_ms < r->real_ms ? s->away_ms : r->real_ms;
}

static int settle(struct reading *r, struct old_session *o)
{
    struct ke_mqtt *m = r->m;
    struct mq_session *s = o->s;

    for (size_t i = o->head; i < o->n; i++) {
        struct old_delivery *e = &o->e[i];
        if (e->d.flags & MQ_D_DONE)
            continue;
        if (!e->pid && !e->d.msg)
            continue;
        int st = e->pid ? kei_mq_flight_push(s, &e->d, e->pid) : kei_mq_queue_push(s, &e->d);
        if (st == KE_ENOMEM)
            return KE_ENOMEM;
        if (st < 0) {
            kei_mq_delivery_done(s, &e->d);
            r->lost++;
        }
        e->d.flags = MQ_D_DONE; /* taken over */
        e->d.msg = NULL;
        e->d.n_ids = 0;
    }
    s->expires_ms = s->expiry_s == UINT32_MAX
                        ? MQ_NEVER
                        : m->now + away_since(r, s) + (int64_t)s->expiry_s * 1000 - r->real_ms;
    if (s->will)
        s->will_ms = m->now + (int64_t)s->will->delay_s * 1000;
    kei_mq_session_arm(s);
    return 0;
}

static void finish(struct reading *r)
{
    struct ke_str k;
    void *v;
    size_t it = 0;

    set_time(r);
    while (kei_map_next(&r->sessions, &it, &k, &v)) {
        struct old_session *o = v;
        if (r->status == 0 && settle(r, o) < 0)
            no_memory(r);
        for (size_t i = o->head; i < o->n; i++)
            kei_mq_delivery_done(o->s, &o->e[i].d);
        if (r->status < 0)
            kei_mq_session_free(o->s);
        kei_free(r->m->alloc, o->e);
        kei_free(r->m->alloc, o);
    }
    it = 0;
    while (kei_map_next(&r->msgs, &it, &k, &v))
        mq_unref(v);
    kei_map_free(&r->sessions);
    kei_map_free(&r->msgs);
}

int kei_mq_journal_read(struct mq_journal *j, const uint64_t *numbers, unsigned n,
                        bool *ret_damaged)
{
    struct ke_mqtt *m = j->m;
    struct reading r = {.j = j, .m = m, .real_ms = ke_ctx_real_ms(m->ctx)};
    int s = 0;

    /* the journal is what counts, also over what is left in memory of a run before */
    while (!kei_list_empty(&m->sessions))
        kei_mq_session_free(KEI_OF(m->sessions.next, struct mq_session, link));
    kei_mq_retain_clear(m);
    kei_map_init(&r.msgs, m->alloc, kei_ctx_random64(m->ctx));
    kei_map_init(&r.sessions, m->alloc, kei_ctx_random64(m->ctx));
    for (unsigned i = 0; i < n && s == 0; i++) {
        bool cut = false;
        s = read_file(&r, numbers[i], &cut);
        if (cut)
            kei_log(m->ctx, KE_LOG_WARN, "mqtt",
                    "the log of messages mqtt-%" PRIu64 ".log ended in %" PRIu64
                    " bytes that were not complete: never acknowledged, or damaged",
                    numbers[i], r.lost);
        *ret_damaged |= cut;
    }
    if (s < 0 && r.status == 0)
        r.status = s;
    finish(&r);
    if (r.status < 0)
        kei_mq_retain_clear(m);
    return r.status;
}
