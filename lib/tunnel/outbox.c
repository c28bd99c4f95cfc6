/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox. Owns a reference of each message it holds. Freed memory waits for the store's
 * callbacks that are still due (refs). Loop thread.
 */
#include "tunnel/outbox.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "message/msg_priv.h"

#define BUCKET "outbox"
#define OVERHEAD 256u /* counted for each message besides its content */
#define UNORDERED (UINT64_C(1) << 62)
#define EVENT_ROW "e/%016" PRIx64
#define STALL_MS 1000
/*
 * Clouds work on requests side by side: a state that is sent while its predecessor is still being
 * worked on may be overtaken by it. So it waits for the predecessor's reply, but not for ever.
 */
#define HOLD_MS 10000
#define WRITE_AGAIN_MS 10000 /* after a row could not be written */

enum place { NOWHERE, WAITING, PARKED, FLYING };

struct entry {
    struct kei_link link;
    struct ke_msg *m;
    char *row;      /* key in the store; a state's begins with "s/" */
    uint64_t order; /* from UNORDERED on: for now, the store is still being read */
    uint64_t mark;  /* count of transmissions when this was sent */
    int64_t due_ms; /* PARKED: when it goes again; FLYING: when the reply is late */
    uint32_t bytes;
    uint32_t retries;
    enum place place;
    bool is_state, answered;
    bool unwritten;         /* the store has no row of it, or an older state's */
    char after[37];         /* PARKED: id of the replaced message whose reply is awaited; or "" */
    int status;             /* of a leaving one */
    struct waiter *waiters; /* while the store is being read: who waits for the row */
};

/* A caller of kei_outbox_add that waits for the disk, or for a later turn. */
struct waiter {
    struct waiter *next;
    struct kei_outbox *ob;
    ke_store_done_fn done;
    void *user;
};

struct kei_outbox {
    struct ke_ctx *ctx;
    const struct ke_alloc *alloc;
    struct ke_store *store;
    struct kei_outbox_limits limits;
    struct kei_outbox_ops ops;
    void *user;
    uint32_t refs; /* owner and store callbacks that are due */
    bool freed, load_begun, loaded, up, ping_out;
    struct kei_link waiting; /* by order */
    struct kei_link parked;
    struct kei_link flying; /* by mark */
    struct kei_link leaving;
    struct kei_link fresh; /* read from the store, by order, until all is read */
    struct waiter *told;   /* without a store: to be told later in this turn */
    struct kei_map rows;   /* row -> entry, states only */
    struct kei_map ids;    /* message id -> entry */
    uint32_t n, n_flying;
    uint64_t bytes, refused;
    uint64_t next_order, unordered, marks, ping_mark;
    int64_t stalled_ms; /* out of memory: no sending before; 0: none */
    struct kei_defer defer_pump, defer_tell;
    struct kei_timer timer, rewrite;
};

#define ENTRY(l) KEI_OF(l, struct entry, link)

static void outbox_unref(struct kei_outbox *ob)
{
    if (--ob->refs > 0)
        return;
    kei_free(ob->alloc, ob);
}

/* ---- entries ---- */

static void entry_free(struct kei_outbox *ob, struct entry *e)
{
    ke_msg_unref(e->m);
    kei_free(ob->alloc, e->row);
    kei_free(ob->alloc, e);
}

static struct entry *entry_new(struct kei_outbox *ob, struct ke_msg *m, const char *row)
{
    struct entry *e = kei_zalloc(ob->alloc, sizeof *e);
    size_t n;

    if (!e)
        return NULL;
    e->row = kei_strdup(ob->alloc, row);
    if (!e->row) {
        kei_free(ob->alloc, e);
        return NULL;
    }
    e->is_state = row[0] == 's';
    (void)ke_msg_content(m, &n);
    n += strlen(ke_msg_resource(m)) + OVERHEAD;
    e->bytes = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    e->m = ke_msg_ref(m);
    return e;
}

/* Into a list that is sorted by order, searched from its end: most belong there. */
static void insert_by_order(struct kei_link *list, struct entry *e)
{
    struct kei_link *at = list->prev;

    while (at != list && ENTRY(at)->order > e->order)
        at = at->prev;
    e->link.prev = at;
    e->link.next = at->next;
    at->next->prev = &e->link;
    at->next = &e->link;
}

static void place(struct kei_outbox *ob, struct entry *e, enum place where)
{
    kei_list_remove(&e->link);
    if (e->place == FLYING)
        ob->n_flying--;
    e->place = where;
    if (where == FLYING) {
        ob->n_flying++;
        kei_list_add_tail(&ob->flying, &e->link);
    } else if (where == PARKED) {
        kei_list_add_tail(&ob->parked, &e->link);
    } else if (where == WAITING) {
        insert_by_order(&ob->waiting, e);
    }
}

/* Makes e known; false: out of memory, nothing changed. */
static bool enter(struct kei_outbox *ob, struct entry *e)
{
    if (kei_map_put(&ob->ids, kei_str(ke_msg_id(e->m)), e, NULL) < 0)
        return false;
    if (e->is_state && kei_map_put(&ob->rows, kei_str(e->row), e, NULL) < 0) {
        (void)kei_map_remove(&ob->ids, kei_str(ke_msg_id(e->m)));
        return false;
    }
    ob->n++;
    ob->bytes += e->bytes;
    return true;
}

/* Takes enter(e) back; old has its row again. */
static void unenter(struct kei_outbox *ob, struct entry *e, struct entry *old)
{
    (void)kei_map_remove(&ob->ids, kei_str(ke_msg_id(e->m)));
    if (old)
        (void)kei_map_put(&ob->rows, kei_str(e->row), old, NULL); /* the slot is there */
    else if (e->is_state)
        (void)kei_map_remove(&ob->rows, kei_str(e->row));
    ob->n--;
    ob->bytes -= e->bytes;
}

/* Tells and frees a chain of waiters. */
static void tell_waiters(struct kei_outbox *ob, struct waiter *w, int status)
{
    while (w) {
        struct waiter *next = w->next;

        if (w->done && !ob->freed)
            w->done(w->user, status);
        kei_free(ob->alloc, w);
        w = next;
    }
}

static void tell_later(struct kei_defer *d)
{
    struct kei_outbox *ob = KEI_OF(d, struct kei_outbox, defer_tell);
    struct waiter *told = ob->told;

    ob->refs++;
    ob->told = NULL;
    tell_waiters(ob, told, 0);
    while (!kei_list_empty(&ob->leaving)) {
        struct entry *e = ENTRY(ob->leaving.next);

        kei_list_remove(&e->link);
        ob->ops.gone(ob->user, e->m, e->status);
        entry_free(ob, e);
    }
    outbox_unref(ob);
}

/* e is forgotten; its row is the caller's matter. */
static void leave(struct kei_outbox *ob, struct entry *e, int status)
{
    place(ob, e, NOWHERE);
    if (kei_map_get(&ob->ids, kei_str(ke_msg_id(e->m))) == e)
        (void)kei_map_remove(&ob->ids, kei_str(ke_msg_id(e->m)));
    if (e->is_state && kei_map_get(&ob->rows, kei_str(e->row)) == e)
        (void)kei_map_remove(&ob->rows, kei_str(e->row));
    ob->n--;
    ob->bytes -= e->bytes;
    e->status = status;
    kei_list_add_tail(&ob->leaving, &e->link);
    kei_defer(ob->ctx, &ob->defer_tell, tell_later);
}

/* ---- the store ---- */

/* What goes with one commit: the outbox lives until it is told. */
struct writing {
    struct kei_outbox *ob;
    struct waiter *waiters;
    char id[37]; /* of the message, which may have left meanwhile */
};

/*
 * Until its row is written, a crash loses the message, or sends the older state whose row is still
 * there.
 */
static void write_again(struct kei_outbox *ob, struct entry *e)
{
    if (!e->unwritten)
        kei_log(ob->ctx, KE_LOG_WARN, "tunnel",
                "message %s (%s) could not be stored, it is kept in memory only and tried again: "
                "%s",
                ke_msg_id(e->m), ke_msg_resource(e->m), ke_ctx_error(ob->ctx));
    e->unwritten = true;
    if (!kei_timer_armed(&ob->rewrite))
        (void)kei_timer_in(&ob->rewrite, WRITE_AGAIN_MS); /* init reserved the slot */
}

static void on_written(void *user, int status)
{
    struct writing *w = user;
    struct kei_outbox *ob = w->ob;
    struct entry *e = ob->freed ? NULL : kei_map_get(&ob->ids, kei_str(w->id));

    if (e && status < 0 && status != KE_ECANCELED)
        write_again(ob, e);
    else if (e && status == 0)
        e->unwritten = false;
    tell_waiters(ob, w->waiters, status);
    kei_free(ob->alloc, w);
    outbox_unref(ob);
}

/* Takes the waiters on success. */
static int write_row(struct kei_outbox *ob, const struct entry *e, struct waiter *waiters)
{
    struct writing *w = kei_zalloc(ob->alloc, sizeof *w);
    struct ke_store_tx *tx = NULL;
    struct ke_buf text;
    int r = w ? 0 : kei_fail(ob->ctx, KE_ENOMEM, "out of memory for message %s", ke_msg_id(e->m));

    kei_buf_init(&text, ob->alloc);
    if (r == 0)
        r = ke_msg_encode(e->m, ob->ctx, KE_DIALECT_1_15, &text, kei_err(ob->ctx));
    if (r == 0)
        r = ke_store_begin(&tx, ob->store);
    if (r == 0)
        r = ke_store_put(tx, BUCKET, e->row, NULL, (int64_t)e->order, text.p, text.n);
    ke_buf_free(&text);
    if (r < 0) {
        ke_store_abort(tx);
        kei_free(ob->alloc, w);
        return r;
    }
    *w = (struct writing){.ob = ob, .waiters = waiters};
    snprintf(w->id, sizeof w->id, "%s", ke_msg_id(e->m));
    ob->refs++;
    r = ke_store_commit(tx, on_written, w);
    if (r < 0) {
        ob->refs--;
        kei_free(ob->alloc, w);
    }
    return r;
}

static void on_rewrite(struct kei_timer *t)
{
    struct kei_outbox *ob = KEI_OF(t, struct kei_outbox, rewrite);
    struct kei_link *lists[] = {&ob->waiting, &ob->parked, &ob->flying};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        KEI_LIST_EACH(l, lists[i])
        {
            if (ENTRY(l)->unwritten && write_row(ob, ENTRY(l), NULL) < 0)
                write_again(ob, ENTRY(l));
        }
    }
}

static void delete_row(struct kei_outbox *ob, const struct entry *e)
{
    struct ke_store_tx *tx = NULL;
    int r;

    if (!ob->store)
        return;
    r = ke_store_begin(&tx, ob->store);
    if (r == 0)
        r = ke_store_delete(tx, BUCKET, e->row, NULL);
    if (r == 0)
        r = ke_store_commit(tx, NULL, NULL);
    else
        ke_store_abort(tx);
    if (r < 0)
        kei_log(ob->ctx, KE_LOG_WARN, "tunnel",
                "message %s stays in the outbox though it was delivered: %s", ke_msg_id(e->m),
                ke_ctx_error(ob->ctx));
}

static void confirm(struct kei_outbox *ob, struct entry *e, int status)
{
    delete_row(ob, e);
    leave(ob, e, status);
}

/* ---- sending ---- */

static void arm(struct kei_outbox *ob)
{
    int64_t due = ob->stalled_ms ? ob->stalled_ms : INT64_MAX;

    KEI_LIST_EACH(l, &ob->parked)
    {
        if (ENTRY(l)->due_ms < due)
            due = ENTRY(l)->due_ms;
    }
    KEI_LIST_EACH(l, &ob->flying)
    {
        if (ENTRY(l)->answered && ENTRY(l)->due_ms < due)
            due = ENTRY(l)->due_ms;
    }
    if (due == INT64_MAX || !ob->up)
        kei_timer_stop(&ob->timer);
    else
        (void)kei_timer_at(&ob->timer, due); /* init reserved the slot */
}

/* Is a round trip needed to confirm something that is sent? */
static void ping_if_due(struct kei_outbox *ob)
{
    bool due = false;

    if (ob->ping_out || !ob->up)
        return;
    KEI_LIST_EACH(l, &ob->flying)
    {
        due = due || !ENTRY(l)->answered;
    }
    if (due && ob->ops.ping(ob->user) == 0) {
        ob->ping_out = true;
        ob->ping_mark = ob->marks;
    }
}

/* false: no more for now */
static bool send_one(struct kei_outbox *ob, struct entry *e)
{
    bool answered = false;
    int r = ob->ops.transmit(ob->user, e->m, &answered);

    if (r == KE_EAGAIN || r == KE_ECLOSED)
        return false;
    if (r == KE_ENOMEM) {
        ob->stalled_ms = ke_ctx_mono_ms(ob->ctx) + STALL_MS;
        return false;
    }
    if (r < 0) {
        if (r != KE_ENOTSUP)
            kei_log(ob->ctx, KE_LOG_ERROR, "tunnel", "message %s (%s %s) can never be sent: %s",
                    ke_msg_id(e->m), ke_msg_operation(e->m), ke_msg_resource(e->m),
                    ke_ctx_error(ob->ctx));
        confirm(ob, e, r == KE_ENOTSUP ? 0 : r);
        return true;
    }
    e->answered = answered;
    e->mark = ++ob->marks;
    e->due_ms = ke_ctx_mono_ms(ob->ctx) + KEI_OUTBOX_ANSWER_MS;
    place(ob, e, FLYING);
    return true;
}

void kei_outbox_pump(struct kei_outbox *ob)
{
    if (!ob->up || !ob->loaded)
        return;
    if (ob->stalled_ms && ke_ctx_mono_ms(ob->ctx) >= ob->stalled_ms)
        ob->stalled_ms = 0;
    while (!ob->stalled_ms && !kei_list_empty(&ob->waiting) && ob->n_flying < KEI_OUTBOX_WINDOW &&
           ob->up) {
        if (!send_one(ob, ENTRY(ob->waiting.next)))
            break;
    }
    ping_if_due(ob);
    arm(ob);
}

static void pump_later(struct kei_defer *d)
{
    kei_outbox_pump(KEI_OF(d, struct kei_outbox, defer_pump));
}

static void on_timer(struct kei_timer *t)
{
    struct kei_outbox *ob = KEI_OF(t, struct kei_outbox, timer);
    int64_t now = ke_ctx_mono_ms(ob->ctx);

    KEI_LIST_EACH_SAFE(l, next, &ob->parked)
    {
        if (ENTRY(l)->due_ms <= now) {
            ENTRY(l)->after[0] = '\0';
            place(ob, ENTRY(l), WAITING);
        }
    }
    KEI_LIST_EACH_SAFE(l, next, &ob->flying)
    {
        if (ENTRY(l)->answered && ENTRY(l)->due_ms <= now)
            place(ob, ENTRY(l), WAITING);
    }
    kei_outbox_pump(ob);
}

void kei_outbox_link(struct kei_outbox *ob, bool up)
{
    ob->up = up;
    ob->ping_out = false;
    if (!up) {
        KEI_LIST_EACH_SAFE(l, next, &ob->flying)
        {
            place(ob, ENTRY(l), WAITING);
        }
        KEI_LIST_EACH_SAFE(l, next, &ob->parked)
        {
            ENTRY(l)->after[0] = '\0';
            place(ob, ENTRY(l), WAITING);
        }
        arm(ob);
    } else {
        kei_defer(ob->ctx, &ob->defer_pump, pump_later);
    }
}

void kei_outbox_pong(struct kei_outbox *ob)
{
    if (!ob->ping_out)
        return;
    ob->ping_out = false;
    KEI_LIST_EACH_SAFE(l, next, &ob->flying)
    {
        if (ENTRY(l)->mark > ob->ping_mark)
            break;
        if (!ENTRY(l)->answered)
            confirm(ob, ENTRY(l), 0);
    }
    kei_outbox_pump(ob);
}

/* Will the same message never be taken? */
static bool is_final(const struct kei_reply *r)
{
    static const char *const reasons[] = {"NotFound", "Invalid", "Conflict", "Gone", "BadRequest"};

    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (strcmp(r->reason, reasons[i]) == 0)
            return true;
    }
    return r->code == 400 || r->code == 404 || r->code == 409 || r->code == 410 || r->code == 422;
}

/* A state whose predecessor this was may go now. */
static void release(struct kei_outbox *ob, const char *id)
{
    KEI_LIST_EACH_SAFE(l, next, &ob->parked)
    {
        if (ENTRY(l)->after[0] && strcmp(ENTRY(l)->after, id) == 0) {
            ENTRY(l)->after[0] = '\0';
            place(ob, ENTRY(l), WAITING);
            kei_defer(ob->ctx, &ob->defer_pump, pump_later);
        }
    }
}

/* e replaces old: how soon may it go? */
static void place_new(struct kei_outbox *ob, struct entry *e, const struct entry *old)
{
    bool flies = old && old->place == FLYING && old->answered;

    if (!flies && !(old && old->after[0])) {
        place(ob, e, WAITING);
        return;
    }
    snprintf(e->after, sizeof e->after, "%s", flies ? ke_msg_id(old->m) : old->after);
    e->due_ms = flies ? ke_ctx_mono_ms(ob->ctx) + HOLD_MS : old->due_ms;
    place(ob, e, PARKED);
}

bool kei_outbox_reply(struct kei_outbox *ob, const struct ke_msg *reply)
{
    struct entry *e = kei_map_get(&ob->ids, kei_str(ke_msg_parent_id(reply)));
    struct kei_reply got;
    struct ke_str content;
    int64_t pause;

    if (!e) {
        release(ob, ke_msg_parent_id(reply));
        return false;
    }
    content.p = ke_msg_content(reply, &content.n);
    kei_reply_read(&got, content);
    if (got.kind != KEI_REPLY_ERROR || is_final(&got)) {
        confirm(ob, e, got.kind == KEI_REPLY_ERROR ? KE_EREFUSED : 0);
        kei_defer(ob->ctx, &ob->defer_pump, pump_later);
        return true;
    }
    pause = (int64_t)KEI_OUTBOX_RETRY_MS << (e->retries < 5 ? e->retries : 5);
    e->retries++;
    e->due_ms = ke_ctx_mono_ms(ob->ctx) +
                (pause > KEI_OUTBOX_RETRY_MAX_MS ? KEI_OUTBOX_RETRY_MAX_MS : pause);
    place(ob, e, PARKED);
    kei_defer(ob->ctx, &ob->defer_pump, pump_later);
    return true;
}

/* ---- reading what an earlier run left ---- */

static void take_row(struct kei_outbox *ob, const struct ke_store_item *item)
{
    struct ke_msg *m = NULL;
    struct entry *e = NULL;
    int r = ke_msg_decode(&m, ob->ctx, item->value, item->len, kei_err(ob->ctx));

    if (r == 0 && (item->key[0] == 's' || item->key[0] == 'e') && item->version > 0)
        e = entry_new(ob, m, item->key);
    if (e) {
        e->order = (uint64_t)item->version;
        if (e->order >= ob->next_order)
            ob->next_order = e->order + 1;
        insert_by_order(&ob->fresh, e);
    } else {
        kei_log(ob->ctx, KE_LOG_WARN, "tunnel", "row %s of the outbox could not be read: %s",
                item->key, r < 0 ? ke_ctx_error(ob->ctx) : "not written by this library");
    }
    ke_msg_unref(m);
}

/* What was added meanwhile gets its place behind all that, and its row. */
static void write_added(struct kei_outbox *ob)
{
    KEI_LIST_EACH(l, &ob->waiting)
    {
        struct entry *e = ENTRY(l);
        struct waiter *w = e->waiters;
        int r;

        if (e->order < UNORDERED)
            continue;
        e->order = ob->next_order++;
        if (!e->is_state)
            snprintf(e->row, strlen(e->row) + 1, EVENT_ROW, e->order);
        e->waiters = NULL;
        r = write_row(ob, e, w);
        if (r < 0) {
            write_again(ob, e);
            tell_waiters(ob, w, r);
        }
        if (ob->freed)
            return;
    }
}

static void load_done(struct kei_outbox *ob, int status)
{
    if (status < 0)
        kei_log(ob->ctx, KE_LOG_ERROR, "tunnel", "the outbox could not be read: %s",
                ke_ctx_error(ob->ctx));
    KEI_LIST_EACH_SAFE(l, next, &ob->fresh)
    {
        struct entry *e = ENTRY(l);

        kei_list_remove(l);
        /* A state that was added meanwhile is newer; its row will replace this one. */
        if ((e->is_state && kei_map_get(&ob->rows, kei_str(e->row))) || !enter(ob, e))
            entry_free(ob, e);
        else
            place(ob, e, WAITING);
    }
    ob->loaded = true;
    write_added(ob);
    if (!ob->freed)
        kei_outbox_pump(ob);
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct kei_outbox *ob = user;

    if (item) {
        if (!ob->freed)
            take_row(ob, item);
        return;
    }
    if (!ob->freed)
        load_done(ob, status == KE_ENOTFOUND ? 0 : status);
    outbox_unref(ob);
}

int kei_outbox_load(struct kei_outbox *ob)
{
    int r;

    if (ob->load_begun)
        return 0;
    if (!ob->store) {
        ob->load_begun = ob->loaded = true;
        return 0;
    }
    ob->refs++;
    r = ke_store_list(ob->store, BUCKET, "", 0, on_row, ob);
    if (r < 0)
        ob->refs--;
    else
        ob->load_begun = true;
    return r;
}

/* ---- adding ---- */

static int check_room(struct kei_outbox *ob, const struct entry *e, const struct entry *old)
{
    uint64_t n = ob->n + 1u - (old ? 1u : 0u);
    uint64_t bytes = ob->bytes + e->bytes - (old ? old->bytes : 0);
    uint64_t max_n = ob->limits.messages, max_bytes = ob->limits.bytes;

    if (!e->is_state) {
        max_n -= max_n / 8;
        max_bytes -= max_bytes / 8;
    }
    if (n <= max_n && bytes <= max_bytes)
        return 0;
    ob->refused++;
    if (n > max_n)
        return kei_fail(ob->ctx, KE_ELIMIT,
                        "message %s was refused: the outbox is full (limit outbox_messages %u, "
                        "%" PRIu64 " of it for events)",
                        ke_msg_resource(e->m), ob->limits.messages,
                        (uint64_t)ob->limits.messages - ob->limits.messages / 8);
    return kei_fail(ob->ctx, KE_ELIMIT,
                    "message %s was refused: the outbox is full (limit outbox_bytes %" PRIu64
                    ", %" PRIu64 " of it for events)",
                    ke_msg_resource(e->m), ob->limits.bytes,
                    ob->limits.bytes - ob->limits.bytes / 8);
}

static int make_row(struct kei_outbox *ob, struct ke_buf *row, const struct ke_msg *m, uint32_t how,
                    const char *key, uint64_t order)
{
    if (how == KE_SEND_STATE) {
        kei_buf_adds(row, "s/");
        kei_buf_adds(row, key ? key : ke_msg_resource(m));
    } else {
        kei_buf_addf(row, EVENT_ROW, order);
    }
    return kei_buf_ok(row) ? 0 : kei_fail(ob->ctx, KE_ENOMEM, "out of memory for a message");
}

/* Hands e and its waiter to the store, or keeps the waiter until the store is read. */
static int keep(struct kei_outbox *ob, struct entry *e, struct entry *old, struct waiter *w)
{
    if (!ob->store) {
        struct waiter **at = &ob->told;

        while (*at)
            at = &(*at)->next;
        *at = w;
        kei_defer(ob->ctx, &ob->defer_tell, tell_later);
        return 0;
    }
    if (ob->loaded)
        return write_row(ob, e, w);
    /* Those who wait for the one that is replaced are served by its successor. */
    w->next = old ? old->waiters : NULL;
    if (old)
        old->waiters = NULL;
    e->waiters = w;
    return 0;
}

int kei_outbox_add(struct kei_outbox *ob, struct ke_msg *m, uint32_t how, const char *key,
                   ke_store_done_fn done, void *user)
{
    uint64_t order = ob->loaded ? ob->next_order : UNORDERED + ob->unordered;
    struct entry *e = NULL, *old = NULL;
    struct waiter *w = NULL;
    struct ke_buf row;
    int r;

    kei_buf_init(&row, ob->alloc);
    r = make_row(ob, &row, m, how, key, order);
    if (r == 0) {
        e = entry_new(ob, m, row.p);
        w = kei_zalloc(ob->alloc, sizeof *w);
        if (!e || !w)
            r = kei_fail(ob->ctx, KE_ENOMEM, "out of memory for message %s", ke_msg_resource(m));
    }
    ke_buf_free(&row);
    if (r == 0) {
        *w = (struct waiter){NULL, ob, done, user};
        e->order = order;
        old = e->is_state ? kei_map_get(&ob->rows, kei_str(e->row)) : NULL;
        r = check_room(ob, e, old);
    }
    if (r == 0 && !enter(ob, e))
        r = kei_fail(ob->ctx, KE_ENOMEM, "out of memory for message %s", ke_msg_resource(m));
    else if (r == 0 && (r = keep(ob, e, old, w)) < 0)
        unenter(ob, e, old);
    if (r < 0) {
        if (e)
            entry_free(ob, e);
        kei_free(ob->alloc, w);
        return r;
    }
    if (ob->loaded)
        ob->next_order++;
    else
        ob->unordered++;
    place_new(ob, e, old);
    if (old)
        leave(ob, old, KE_ECANCELED);
    kei_defer(ob->ctx, &ob->defer_pump, pump_later);
    return 0;
}

uint64_t kei_outbox_count(const struct kei_outbox *ob)
{
    return ob->n;
}

uint64_t kei_outbox_refused(const struct kei_outbox *ob)
{
    return ob->refused;
}

/* ---- making and freeing ---- */

int kei_outbox_new(struct kei_outbox **ret, struct ke_ctx *ctx, struct ke_store *store,
                   const struct kei_outbox_limits *limits, const struct kei_outbox_ops *ops,
                   void *user)
{
    const struct ke_alloc *a = kei_ctx_alloc(ctx);
    struct kei_outbox *ob = kei_zalloc(a, sizeof *ob);

    if (!ob)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the outbox");
    *ob = (struct kei_outbox){.ctx = ctx,
                              .alloc = a,
                              .store = store,
                              .limits = *limits,
                              .ops = *ops,
                              .user = user,
                              .refs = 1,
                              .next_order = 1};
    ob->loaded = ob->load_begun = store == NULL;
    kei_list_init(&ob->waiting);
    kei_list_init(&ob->parked);
    kei_list_init(&ob->flying);
    kei_list_init(&ob->leaving);
    kei_list_init(&ob->fresh);
    kei_map_init(&ob->rows, a, kei_ctx_random64(ctx));
    kei_map_init(&ob->ids, a, kei_ctx_random64(ctx));
    kei_timer_init(ctx, &ob->timer, on_timer);
    kei_timer_init(ctx, &ob->rewrite, on_rewrite);
    *ret = ob;
    return 0;
}

static void free_list(struct kei_outbox *ob, struct kei_link *list)
{
    while (!kei_list_empty(list)) {
        struct entry *e = ENTRY(list->next);

        kei_list_remove(&e->link);
        tell_waiters(ob, e->waiters, KE_ECANCELED); /* only freed: nobody is told any more */
        entry_free(ob, e);
    }
}

void kei_outbox_free(struct kei_outbox *ob)
{
    if (!ob)
        return;
    ob->freed = true;
    kei_timer_fini(&ob->timer);
    kei_timer_fini(&ob->rewrite);
    kei_defer_cancel(&ob->defer_pump);
    kei_defer_cancel(&ob->defer_tell);
    free_list(ob, &ob->waiting);
    free_list(ob, &ob->parked);
    free_list(ob, &ob->flying);
    free_list(ob, &ob->leaving);
    free_list(ob, &ob->fresh);
    tell_waiters(ob, ob->told, KE_ECANCELED);
    ob->told = NULL;
    kei_map_free(&ob->rows);
    kei_map_free(&ob->ids);
    outbox_unref(ob);
}
