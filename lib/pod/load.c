/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start: what the store holds (pods, what was last reported of them, the engine's notes) and
 * what the runtime has are brought together. Nothing is begun or ended before both are known, so an
 * instance that runs is never doubled. Messages that come meanwhile wait. Loop thread.
 */
#include <stdio.h>

#include "pod/engine.h"

#define RETRY_MS 1000
#define LIST_RETRY_MAX_MS 30000
#define RUNTIME_ASK_MS 10000
#define HELD_MAX 1024                 /* messages while the store is being read */
#define HELD_BYTES ((size_t)16 << 20) /* of their content */

/* A row that is needed until the pods are made. */
struct row {
    struct row *next;
    struct ke_str value;
    char *key;
};

struct kei_load {
    struct kei_pods *ps;
    struct kei_arena arena;
    struct row *pods, **pods_tail;
    struct row *notes, *statuses;
    struct kei_map note_by_uid, status_by_key;
    uint32_t pending;
    int status;
    struct ke_msg **held;
    size_t n_held, cap_held, held_bytes;
    bool lost;           /* some were not kept: the store is read again */
    struct ke_msg *link; /* the newest of the link's state, if it was not kept */
    struct kei_timer retry;
};

struct reader { /* of one bucket */
    struct kei_load *l;
    int which;
};

enum { PODS, STATUSES, NOTES, BUCKETS };
static const char *const buckets[BUCKETS] = {"o/pod", "o/podstatus", "pod"};

static int read_all(struct kei_load *l);

/* ---- memory ---- */

static void clear_rows(struct kei_load *l)
{
    kei_map_free(&l->note_by_uid);
    kei_map_free(&l->status_by_key);
    kei_arena_free(&l->arena);
    kei_arena_init(&l->arena, l->ps->alloc, 0);
    kei_map_init(&l->note_by_uid, l->ps->alloc, kei_ctx_random64(l->ps->ctx));
    kei_map_init(&l->status_by_key, l->ps->alloc, kei_ctx_random64(l->ps->ctx));
    l->pods = NULL;
    l->pods_tail = &l->pods;
    l->status = 0;
}

void kei_load_free(struct kei_load *l)
{
    if (!l)
        return;
    kei_timer_fini(&l->retry);
    for (size_t i = 0; i < l->n_held; i++)
        ke_msg_unref(l->held[i]);
    ke_msg_unref(l->link);
    kei_free(l->ps->alloc, l->held);
    kei_map_free(&l->note_by_uid);
    kei_map_free(&l->status_by_key);
    kei_arena_free(&l->arena);
    kei_free(l->ps->alloc, l);
}

/* Room for one more of n bytes. */
static bool held_room(struct kei_load *l, size_t n)
{
    if (l->lost || l->n_held == HELD_MAX || n > HELD_BYTES - l->held_bytes)
        return false;
    if (l->n_held < l->cap_held)
        return true;
    size_t cap = l->cap_held ? l->cap_held * 2 : 64;
    struct ke_msg **v = kei_array_realloc(l->ps->alloc, l->held, cap, sizeof *v);
    if (!v)
        return false;
    l->held = v;
    l->cap_held = cap;
    return true;
}

/*
 * What tells of an object is in the store as well. Once one has no room none after it is kept: a
 * later message of an object must not come before the news of an earlier one.
 */
void kei_load_hold(struct kei_load *l, struct ke_msg *m)
{
    size_t n;
    bool link = !strcmp(ke_msg_operation(m), "connect"), kept;
    (void)ke_msg_content(m, &n);
    kept = held_room(l, n);
    if (link) {
        ke_msg_unref(l->link);
        l->link = kept ? NULL : ke_msg_ref(m);
    }
    if (kept) {
        l->held[l->n_held++] = ke_msg_ref(m);
        l->held_bytes += n;
    } else if (link) {
        return;
    } else {
        if (!l->lost)
            kei_log(l->ps->ctx, KE_LOG_WARN, "pod",
                    "more came than is kept while the pods are read (%zu messages, %zu bytes): "
                    "the store is read once more",
                    l->n_held, l->held_bytes);
        l->lost = true;
    }
}

/* Asks the runtime again after ms, or sooner if that is planned. */
static void ask_later(struct kei_pods *ps, int64_t ms)
{
    int64_t at = ke_ctx_mono_ms(ps->ctx) + ms;
    if (kei_timer_armed(&ps->rt_timer) && ps->rt_timer.due_ms <= at)
        return;
    int r = kei_timer_at(&ps->rt_timer, at);
    (void)r; /* a slot is reserved */
}

/* ---- reading the store ---- */

static int keep_row(struct kei_load *l, int which, const struct ke_store_item *item)
{
    struct row *r = kei_arena_alloc(&l->arena, sizeof *r);
    char *value = r ? kei_arena_alloc(&l->arena, item->len + 1) : NULL;
    if (!value)
        return KE_ENOMEM;
    r->key = kei_arena_strdup(&l->arena, kei_str(item->key));
    if (item->len)
        memcpy(value, item->value, item->len);
    r->value = kei_strn(value, item->len);
    if (!r->key)
        return KE_ENOMEM;
    if (which == PODS) {
        *l->pods_tail = r;
        l->pods_tail = &r->next;
        return 0;
    }
    if (which == STATUSES)
        return kei_map_put(&l->status_by_key, kei_str(r->key), r, NULL);
    struct ke_str rest, uid = kei_str_cut(kei_str(r->key), '/', &rest);
    return kei_str_is(rest, "state") ? kei_map_put(&l->note_by_uid, uid, r, NULL) : 0;
}

static void on_load_retry(struct kei_timer *t)
{
    struct kei_load *l = KEI_OF(t, struct kei_load, retry);
    clear_rows(l);
    if (read_all(l) < 0) {
        int r = kei_timer_in(&l->retry, RETRY_MS);
        (void)r; /* a slot is reserved */
    }
}

/* Going on with half of them would end the containers of the others. */
static void load_again(struct kei_load *l, int status)
{
    kei_log(l->ps->ctx, KE_LOG_ERROR, "pod", "the pods could not be read: %s; tried again",
            ke_strerror(status));
    int r = kei_timer_in(&l->retry, RETRY_MS);
    (void)r; /* a slot is reserved */
}

static void loaded(struct kei_load *l);

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct reader *rd = user;
    struct kei_load *l = rd->l;
    struct kei_pods *ps = l->ps;
    if (item) {
        if (l->status == 0 && !ps->stopped)
            l->status = keep_row(l, rd->which, item);
        return;
    }
    if (status < 0 && status != KE_ENOTFOUND && l->status == 0)
        l->status = status;
    kei_free(ps->alloc, rd);
    if (--l->pending == 0 && !ps->stopped) {
        if (l->status == 0)
            loaded(l);
        else
            load_again(l, l->status);
    }
    kei_pods_unref(ps);
}

/* Negative: nothing is under way. A part that could not be begun fails all when the others end. */
static int read_all(struct kei_load *l)
{
    struct kei_pods *ps = l->ps;
    int r = 0;
    for (int i = 0; i < BUCKETS && r == 0; i++) {
        struct reader *rd = kei_alloc(ps->alloc, sizeof *rd);
        if (!rd) {
            r = KE_ENOMEM;
            break;
        }
        *rd = (struct reader){l, i};
        l->pending++;
        ps->refs++;
        r = ke_store_list(ps->store, buckets[i], NULL, 0, on_row, rd);
        if (r < 0) {
            l->pending--;
            ps->refs--;
            kei_free(ps->alloc, rd);
        }
    }
    if (r < 0)
        l->status = r;
    return l->pending > 0 ? 0 : r;
}

int kei_load_begin(struct kei_pods *ps)
{
    struct kei_load *l = kei_zalloc(ps->alloc, sizeof *l);
    if (!l)
        return kei_fail(ps->ctx, KE_ENOMEM, "out of memory for the pods of the store");
    l->ps = ps;
    clear_rows(l);
    kei_timer_init(ps->ctx, &l->retry, on_load_retry);
    ps->load = l;
    if (read_all(l) < 0)
        return kei_timer_in(&l->retry, RETRY_MS);
    return 0;
}

/* ---- the pods of the store ---- */

static void restore_status(struct kei_pod *p, const struct row *status)
{
    struct ke_str doc, s, uid;
    int64_t start = 0;
    bool own = status && kei_json_value(status->value, 0, &doc, NULL) == 0 &&
               kei_json_get(doc, "UID", &uid) && kei_json_str_is(uid, p->uid) &&
               kei_json_get(doc, "Status", &s) && kei_json_type(s) == '{';
    if (!own)
        return;
    kei_status_read(s, &p->conds, &start);
    if (start)
        p->start_ms = start;
    p->sent = kei_strndup(p->ps->alloc, s.p, s.n); /* without it, it is told again */
    p->sent_n = p->sent ? s.n : 0;
    for (size_t i = 0; i < p->st.n; i++) {
        struct kei_ct c = {0};
        struct kei_ct *ct = &p->st.cts[i];
        bool running;
        if (!kei_status_container(s, p->spec->containers[i].name, &c, &running))
            continue;
        if (ct->had && ct->attempt != c.attempt)
            continue; /* the note is of a later instance */
        ct->had = true;
        ct->attempt = c.attempt;
        ct->started_ms = c.started_ms;
        ct->end = c.end;
        ct->last = c.last;
        if (*c.id)
            memcpy(ct->id, c.id, sizeof ct->id);
        if (*c.image_id)
            memcpy(ct->image_id, c.image_id, sizeof ct->image_id);
    }
}

static void restore(struct kei_pod *p, const struct row *note, const struct row *status)
{
    struct ke_str v;
    int64_t start = p->start_ms;
    if (note && kei_json_value(note->value, 0, &v, NULL) == 0)
        kei_note_read(p, v);
    if (!p->start_ms)
        p->start_ms = start;
    restore_status(p, status);
    /* without a note, the phase that was told last: what is over does not begin again */
    if (!note && p->sent && p->spec->meta.deletion_ms == 0) {
        enum kei_phase ph = kei_status_phase(kei_strn(p->sent, p->sent_n));
        p->st.final = ph == KEI_PHASE_SUCCEEDED || ph == KEI_PHASE_FAILED;
        p->st.succeeded = ph == KEI_PHASE_SUCCEEDED;
    }
}

/* False if memory ran out: a pod that is left out would have its containers ended. */
static bool make_pods(struct kei_load *l)
{
    struct kei_pods *ps = l->ps;
    for (struct row *r = l->pods; r; r = r->next) {
        struct kei_pod *p = kei_pod_new(ps, r->value);
        if (!p && kei_err(ps->ctx)->code == KE_ENOMEM)
            return false;
        if (!p) {
            kei_log(ps->ctx, KE_LOG_ERROR, "pod", "stored pod %s is not run: %s", r->key,
                    ke_ctx_error(ps->ctx));
            kei_report_invalid(ps, r->value, ke_ctx_error(ps->ctx), true);
            continue;
        }
        restore(p, kei_map_get(&l->note_by_uid, kei_str(p->uid)),
                kei_map_get(&l->status_by_key, kei_str(p->key)));
    }
    return true;
}

/* Pods that went while the node was down: their notes tell what is to be taken down. */
static void find_lost(struct kei_load *l)
{
    struct ke_str uid;
    void *v;
    for (size_t it = 0; kei_map_next(&l->note_by_uid, &it, &uid, &v);) {
        const struct row *r = v;
        if (!kei_pods_by_uid(l->ps, uid))
            kei_sweep_note(l->ps, uid, r->value);
    }
}

static void loaded(struct kei_load *l)
{
    struct kei_pods *ps = l->ps;
    if (!make_pods(l)) {
        while (!kei_list_empty(&ps->pods))
            kei_pod_drop(KEI_OF(ps->pods.next, struct kei_pod, link));
        load_again(l, KE_ENOMEM);
        return;
    }
    find_lost(l);
    ps->load = NULL;
    KEI_LIST_EACH_SAFE(k, next, &ps->pods)
    kei_pod_begin(KEI_OF(k, struct kei_pod, link));
    for (size_t i = 0; i < l->n_held; i++)
        kei_pods_message(ps, l->held[i]);
    if (l->link)
        kei_pods_message(ps, l->link);
    if (l->lost)
        kei_pods_lost_news(ps);
    kei_load_free(l);
    kei_load_list(ps);
}

/* ---- the runtime's containers ---- */

static const struct ke_container_info *newest(const struct kei_pod *p, size_t i,
                                              const struct ke_runtime_result *r,
                                              const struct ke_container_info **ret_before)
{
    const struct ke_container_info *best = NULL, *before = NULL;
    for (uint32_t k = 0; k < r->n_containers; k++) {
        const struct ke_container_info *c = &r->containers[k];
        if (strcmp(c->pod_uid, p->uid) != 0 || strcmp(c->name, p->spec->containers[i].name) != 0 ||
            strlen(c->id) >= KEI_ID_MAX)
            continue;
        if (!best || c->attempt > best->attempt) {
            before = best;
            best = c;
        } else if (!before || c->attempt > before->attempt) {
            before = c;
        }
    }
    *ret_before = before;
    return best;
}

/* An instance that was known, of which the runtime knows nothing. */
static void adopt_lost(struct kei_pod *p, struct kei_ct *ct)
{
    struct kei_pods *ps = p->ps;
    int64_t mono = ke_ctx_mono_ms(ps->ctx), backoff = ct->backoff_ms;
    struct kei_ct_end e = ct->end, last = ct->last;
    char id[KEI_ID_MAX];
    if (!ct->had)
        return;
    memcpy(id, ct->id, sizeof id);
    if (!e.valid) {
        e = (struct kei_ct_end){.valid = true, .guessed = true, .exit_code = 137};
        e.started_ms = ct->started_ms;
        e.finished_ms = ke_ctx_real_ms(ps->ctx);
        snprintf(e.reason, sizeof e.reason, "ContainerStatusUnknown");
        snprintf(e.message, sizeof e.message,
                 "The container could not be located when the node was started again");
    }
    ct->end = last;
    ct->state = last.valid ? KEI_CT_EXITED : KEI_CT_WAITING;
    kei_ct_created(ct, ct->attempt, id);
    kei_ct_exited(ct, &e, mono, &ps->sconf);
    ct->backoff_ms = backoff ? backoff : ct->backoff_ms;
}

static void adopt_one(struct kei_pod *p, size_t i, const struct ke_container_info *c,
                      const struct ke_container_info *before)
{
    struct kei_pods *ps = p->ps;
    struct kei_ct *ct = &p->st.cts[i];
    struct kei_ct_end e;
    int64_t mono = ke_ctx_mono_ms(ps->ctx), real = ke_ctx_real_ms(ps->ctx);
    uint64_t hash =
        ct->had && ct->attempt == c->attempt ? kei_image_hash(p->spec->containers[i].image) : 0;
    int64_t backoff = ct->had && ct->attempt == c->attempt ? ct->backoff_ms : 0;
    ct->state = KEI_CT_WAITING;
    if (before && before->state == KE_CONTAINER_EXITED) {
        kei_end_of(&e, before);
        ct->last = e;
    }
    kei_ct_created(ct, c->attempt, c->id);
    /* else what the last status said: the pull told it, and its list does not */
    if (*c->image_id || !*ct->image_id)
        kei_text_copy(ct->image_id, sizeof ct->image_id,
                      *c->image_id ? c->image_id : p->spec->containers[i].image);
    /* by what the note says it was made with: a runtime may call an image by another name */
    ct->outdated = ct->image_hash && hash && hash != ct->image_hash;
    if (c->state == KE_CONTAINER_RUNNING) {
        int64_t ran = c->started_ms && real > c->started_ms ? real - c->started_ms : 0;
        kei_ct_started(ct, mono - ran, c->started_ms ? c->started_ms : real);
        ct->backoff_ms = backoff;
    } else if (c->state == KE_CONTAINER_EXITED || c->state == KE_CONTAINER_UNKNOWN) {
        kei_end_of(&e, c);
        int64_t ago = e.finished_ms && real > e.finished_ms ? real - e.finished_ms : 0;
        int64_t ran = e.finished_ms > e.started_ms ? e.finished_ms - e.started_ms : 0;
        kei_ct_started(ct, mono - ago - ran, e.started_ms);
        /* a note written after this end holds the doubled pause already */
        ct->backoff_ms = backoff > ps->sconf.restart_min ? backoff / 2 : 0;
        kei_ct_exited(ct, &e, mono - ago, &ps->sconf);
    }
}

static void adopt_pod(struct kei_pod *p, const struct ke_runtime_result *r)
{
    bool runs = false;
    for (size_t i = 0; i < p->st.n; i++) {
        const struct ke_container_info *before, *c = newest(p, i, r, &before);
        struct kei_ct *ct = &p->st.cts[i];
        /* a later instance than those that are left was known: it is lost, unless one runs */
        if (!c || (ct->had && ct->attempt > c->attempt && c->state != KE_CONTAINER_RUNNING))
            adopt_lost(p, ct);
        else
            adopt_one(p, i, c, before);
        runs = runs || ct->state == KEI_CT_RUNNING;
    }
    if (runs && p->fit == KEI_FIT_UNKNOWN) { /* it was let in once */
        p->fit = KEI_FIT_YES;
        kei_pod_admit(p);
    }
    if (*p->sandbox_id && runs)
        p->sandbox = KEI_SANDBOX_READY;
    p->prepared = p->prepared || runs;
    p->refresh = p->refresh || runs; /* what changed while the node was down */
    kei_pod_kick(p);
}

/* True if the engine holds on to it. */
static bool is_wanted(struct kei_pods *ps, const struct ke_container_info *c)
{
    const struct kei_pod *p = kei_pods_by_uid(ps, kei_str(c->pod_uid));
    size_t i = p ? kei_pod_container(p, c->name) : 0;
    if (!p || i >= p->st.n)
        return false;
    const struct kei_ct *ct = &p->st.cts[i];
    return !strcmp(c->id, ct->id) || (ct->last.valid && !strcmp(c->id, ct->last.id));
}

static void adopt(struct kei_pods *ps, const struct ke_runtime_result *r)
{
    KEI_LIST_EACH(l, &ps->pods)
    adopt_pod(KEI_OF(l, struct kei_pod, link), r);
    for (uint32_t i = 0; i < r->n_containers; i++) {
        const struct ke_container_info *c = &r->containers[i];
        if (*c->pod_uid && !is_wanted(ps, c) && !kei_hold_keeps(ps, c))
            kei_stray_end(ps, c->id);
    }
}

/* Strays are not kept any more. */
static void be_sure(struct kei_pods *ps)
{
    kei_sweep(ps);
    if (ps->ops.sure)
        ps->ops.sure(ps->user);
}

/* Pods that came while strays are kept take back what is theirs; the rest of it is ended. */
static void list_once_more(struct kei_pods *ps, const struct ke_runtime_result *r)
{
    bool over = ps->hold_over;
    uint32_t ended = 0;
    ps->relist = false;
    KEI_LIST_EACH(l, &ps->pods)
    {
        if (KEI_OF(l, struct kei_pod, link)->unsure)
            adopt_pod(KEI_OF(l, struct kei_pod, link), r);
    }
    for (uint32_t i = 0; i < r->n_containers; i++) {
        const struct ke_container_info *c = &r->containers[i];
        const struct kei_pod *p = kei_pods_by_uid(ps, kei_str(c->pod_uid));
        bool deleted = !p && kei_map_get(&ps->unwanted, kei_str(c->pod_uid));
        bool stray = p ? p->unsure && !is_wanted(ps, c) : *c->pod_uid && (over || deleted);
        ended += stray && c->state == KE_CONTAINER_RUNNING;
        if (stray)
            kei_stray_end(ps, c->id);
        else if (!p || !p->unsure)
            kei_pod_event(ps, c);
    }
    KEI_LIST_EACH(l, &ps->pods)
    KEI_OF(l, struct kei_pod, link)->unsure = false;
    ps->hold_over = false;
    kei_hold_count(ps, r);
    if (ended)
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "%u containers are ended: no pod wants them", ended);
    if (over)
        be_sure(ps);
}

static void settle(struct kei_pods *ps, const struct ke_runtime_result *r)
{
    ps->listed = true;
    adopt(ps, r);
    kei_hold_count(ps, r);
    if (!ps->hold)
        be_sure(ps);
    if (!ps->settled && ps->ops.settled)
        ps->ops.settled(ps->user);
    ps->settled = true;
}

static void on_list(void *user, int status, const struct ke_runtime_result *r)
{
    struct kei_pods *ps = user;
    ps->listing = false;
    if (ps->stopped || status == KE_ECANCELED) {
        kei_pods_unref(ps);
        return;
    }
    if (status < 0) {
        kei_log(ps->ctx, KE_LOG_WARN, "pod", "the runtime did not tell its containers: %s",
                r->text);
        ps->list_failed = true;
        snprintf(ps->rt_text, sizeof ps->rt_text, "the runtime did not tell its containers: %.180s",
                 r->text);
        ps->list_pause = ps->list_pause ? ps->list_pause * 2 : RETRY_MS;
        if (ps->list_pause > LIST_RETRY_MAX_MS)
            ps->list_pause = LIST_RETRY_MAX_MS;
        ask_later(ps, ps->list_pause);
        KEI_LIST_EACH(l, &ps->pods)
        {
            kei_pod_wait(KEI_OF(l, struct kei_pod, link), "RuntimeNotReady", ps->rt_text);
        }
    } else if (!ps->listed) {
        settle(ps, r);
    } else {
        list_once_more(ps, r);
    }
    if (ps->listed && ps->list_again) {
        ps->list_again = false;
        kei_load_list(ps);
    }
    kei_pods_unref(ps);
}

void kei_load_list(struct kei_pods *ps)
{
    struct ke_runtime_result none = {.size = sizeof none};
    if (ps->load || ps->stopped || ps->listing)
        return;
    if (!ps->rt || !kei_runtime_ops(ps->rt)->container_list) {
        if (!ps->listed)
            settle(ps, &none);
        else
            list_once_more(ps, &none);
        return;
    }
    ps->refs++;
    ps->listing = true;
    if (kei_runtime_list(ps->rt, ps->op_ms, on_list, ps) < 0) {
        ps->listing = false;
        ask_later(ps, RETRY_MS);
        kei_pods_unref(ps);
    }
}

/* ---- the runtime's state ---- */

static void on_info(void *user, int status, const struct ke_runtime_result *r)
{
    struct kei_pods *ps = user;
    bool was = ps->rt_ready;
    ps->rt_asking = false;
    if (ps->stopped || status == KE_ECANCELED) {
        kei_pods_unref(ps);
        return;
    }
    ps->rt_ready = status == 0 && r->ready;
    ps->rt_answered = status == 0;
    if (status == 0) {
        if (*r->name)
            snprintf(ps->rt_name, sizeof ps->rt_name, "%s", r->name);
        if (*r->version)
            snprintf(ps->rt_version, sizeof ps->rt_version, "%s", r->version);
    }
    snprintf(ps->rt_text, sizeof ps->rt_text, "%s",
             ps->rt_ready ? ""
             : *r->text   ? r->text
                          : "the runtime says that it is not ready");
    if (!ps->rt_ready) {
        ask_later(ps, RUNTIME_ASK_MS);
    }
    if (ps->rt_ready != was) {
        KEI_LIST_EACH(l, &ps->pods)
        kei_pod_kick(KEI_OF(l, struct kei_pod, link));
    }
    if (ps->ops.runtime)
        ps->ops.runtime(ps->user);
    kei_pods_unref(ps);
}

void kei_runtime_ask(struct kei_pods *ps)
{
    if (!ps->rt || ps->rt_asking)
        return;
    if (!kei_runtime_ops(ps->rt)->info) {
        ps->rt_ready = true;
        return;
    }
    ps->refs++;
    ps->rt_asking = true;
    if (kei_runtime_info(ps->rt, ps->op_ms, on_info, ps) < 0) {
        ps->rt_asking = false;
        ask_later(ps, RETRY_MS);
        kei_pods_unref(ps);
    }
}
