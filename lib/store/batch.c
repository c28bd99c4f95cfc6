/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue. Reads and transactions wait in one list, in the order of the calls. At the end of a
 * turn, when the worker has nothing of ours, the list goes to it as one batch: all transactions of
 * a batch are one of SQLite's, so they share one fsync and, unless one of them is too large, one
 * fate. While a batch is under way the next ones gather, so a slow disk makes for larger batches,
 * not for a longer queue.
 *
 * Reads inside a batch see the transactions before them; their answers leave after the commit. A
 * list ends its batch: it is read in pieces, and what follows it waits until the last one.
 */
#include <string.h>

#include "base/log.h"
#include "store/store_priv.h"

static struct kei_op *to_op(struct kei_link *l)
{
    return KEI_OF(l, struct kei_op, link);
}

static struct ke_store_tx *to_tx(struct kei_op *op)
{
    return KEI_OF(op, struct ke_store_tx, op);
}

static struct kei_read *to_read(struct kei_op *op)
{
    return KEI_OF(op, struct kei_read, op);
}

void kei_op_free(struct ke_store *s, struct kei_op *op)
{
    s->bytes -= op->bytes;
    if (op->kind == KEI_OP_TX) {
        struct ke_store_tx *tx = to_tx(op);
        for (struct kei_mut *m = tx->first, *next; m; m = next) {
            next = m->next;
            kei_free(s->alloc, m);
        }
        kei_list_remove(&tx->open);
        kei_free(s->alloc, tx);
    } else {
        struct kei_read *r = to_read(op);
        kei_rows_free(s->alloc, r->rows);
        kei_free(s->alloc, r->scan.at);
        kei_free(s->alloc, r);
    }
}

/* ---- on the worker ---- */

static int run_tx(struct ke_store *s, struct ke_store_tx *tx, struct ke_error *err)
{
    int r = 0;
    for (const struct kei_mut *m = tx->first; r == 0 && m; m = m->next)
        r = kei_ops_apply(&s->db, m, err);
    return r;
}

/* Returns damage only; any other outcome is the read's own. */
static int run_read(struct ke_store *s, struct kei_read *r, struct ke_error *err)
{
    kei_rows_free(s->alloc, r->rows);
    r->rows = NULL;
    if (r->op.kind == KEI_OP_LIST)
        r->op.status = kei_ops_list(&s->db, s->alloc, &r->scan, &r->rows, &r->more, err);
    else
        r->op.status = kei_ops_get(&s->db, s->alloc, r->scan.bucket, r->scan.prefix, &r->rows, err);
    return kei_is_damage(s, r->op.status) ? r->op.status : 0;
}

/* All ops but a list, in order, the writing ones in one transaction. 0 or why nothing was written.
 */
static int run_group(struct ke_store *s, struct ke_error *err)
{
    bool begun = false;
    int r = 0;
    KEI_LIST_EACH(l, &s->batch.ops)
    {
        struct kei_op *op = to_op(l);
        if (op->kind == KEI_OP_TX && !begun) {
            r = kei_db_begin(&s->db, err);
            if (r < 0)
                break;
            begun = true;
        }
        if (op->kind == KEI_OP_TX)
            r = run_tx(s, to_tx(op), err);
        else if (op->kind == KEI_OP_GET)
            r = run_read(s, to_read(op), err);
        if (r < 0)
            break;
    }
    if (begun && r == 0)
        return kei_db_commit(&s->db, err);
    if (begun)
        kei_db_rollback(&s->db);
    return r;
}

/*
 * A transaction of the group is too large: that is its own affair, so each has its own fate this
 * time. What is not a matter of size concerns all that come after, too.
 */
static void run_alone(struct ke_store *s, struct ke_error *err)
{
    struct ke_error later = KE_ERROR_INIT;
    int lost = 0;
    *err = later;
    KEI_LIST_EACH(l, &s->batch.ops)
    {
        struct kei_op *op = to_op(l);
        if (op->kind == KEI_OP_GET && lost == 0) {
            (void)run_read(s, to_read(op), &later);
        } else if (op->kind == KEI_OP_TX) {
            struct ke_error *e = err->text[0] ? &later : err;
            int r = lost < 0 ? lost : kei_db_begin(&s->db, e);
            if (r == 0 && lost == 0) {
                r = run_tx(s, to_tx(op), e);
                if (r == 0)
                    r = kei_db_commit(&s->db, e);
                else
                    kei_db_rollback(&s->db);
            }
            op->status = r;
            if (r < 0 && r != KE_ELIMIT)
                lost = r;
        }
    }
}

static int run_list(struct ke_store *s, struct ke_error *err)
{
    struct kei_op *last = to_op(s->batch.ops.prev);
    return last->kind == KEI_OP_LIST ? run_read(s, to_read(last), err) : 0;
}

/* fn, and once more if it met damage that could be healed. */
static int run_healed(struct ke_store *s, int (*fn)(struct ke_store *, struct ke_error *))
{
    struct kei_batch *b = &s->batch;
    kei_vfs_clear(&s->vfs);
    int r = fn(s, &b->err);
    if (!kei_is_damage(s, r) || b->healed)
        return r;
    b->healed = true;
    r = kei_heal(s, &b->err);
    return r == 0 ? fn(s, &b->err) : r;
}

static void fail_all(struct ke_store *s, int status, bool writes_only)
{
    KEI_LIST_EACH(l, &s->batch.ops)
    {
        struct kei_op *op = to_op(l);
        if (op->kind == KEI_OP_TX || !writes_only)
            op->status = status;
    }
}

/* The group failed: its reads have seen what is no more, and those after the failure nothing. */
static void read_again(struct ke_store *s)
{
    struct ke_error unused = KE_ERROR_INIT;
    KEI_LIST_EACH(l, &s->batch.ops)
    {
        struct kei_op *op = to_op(l);
        if (op->kind == KEI_OP_GET)
            (void)run_read(s, to_read(op), &unused);
    }
}

static void run_batch(struct kei_work *w)
{
    struct ke_store *s = KEI_OF(w, struct ke_store, batch.work);
    struct kei_batch *b = &s->batch;
    b->healed = false;
    b->err = (struct ke_error)KE_ERROR_INIT;
    if (kei_list_empty(&b->ops)) {
        if (run_healed(s, kei_check_step) < 0) {
            kei_log(s->ctx, KE_LOG_ERROR, "store", "%s", b->err.text);
            kei_check_end(s); /* whoever reads the damaged part is told */
        }
        return;
    }
    int r = kei_ready(s, &b->err);
    if (r < 0) {
        fail_all(s, r, false);
        return;
    }
    r = run_healed(s, run_group);
    if (r < 0 && !s->db.h) {
        fail_all(s, r, false);
        return;
    }
    if (r == KE_ELIMIT) {
        run_alone(s, &b->err);
    } else if (r < 0) {
        fail_all(s, r, true);
        read_again(s);
    }
    r = run_healed(s, run_list);
    if (r < 0)
        to_op(b->ops.prev)->status = r;
}

/* ---- on the loop ---- */

void kei_report_deliver(struct ke_store *s)
{
    struct kei_report rep = s->report;
    if (!rep.set)
        return;
    s->report.set = false;
    if (!s->closing)
        (void)kei_queue_internal(s, KEI_MUT_TOLD); /* else it is told once more, next time */
    kei_log(s->ctx, KE_LOG_WARN, "store", "%s", rep.text);
    if (s->salvaged)
        s->salvaged(s->user, rep.saved, rep.lost, rep.text);
}

static void set_error(struct ke_store *s, struct kei_op *op)
{
    const struct ke_error *err = &s->batch.err;
    if (op->kind == KEI_OP_GET && op->status == KE_ENOTFOUND)
        (void)kei_fail(s->ctx, op->status, "there is no %s/%s in the store in %s",
                       to_read(op)->scan.bucket, to_read(op)->scan.prefix, s->folder);
    else if (err->code == op->status && err->text[0])
        (void)kei_fail(s->ctx, op->status, "%s", err->text);
    else
        (void)kei_fail(s->ctx, op->status, "the store in %s failed (%s)", s->folder,
                       ke_strerror(op->status));
}

static void deliver_tx(struct ke_store *s, struct ke_store_tx *tx)
{
    if (tx->op.status < 0)
        set_error(s, &tx->op);
    kei_trouble_note(s, tx->op.status);
    if (tx->fn)
        tx->fn(tx->user, tx->op.status);
}

/* true when the read is to go on */
static bool deliver_read(struct ke_store *s, struct kei_read *r)
{
    struct kei_row *rows = r->rows;
    bool list = r->op.kind == KEI_OP_LIST;
    int status = r->op.status;
    r->rows = NULL;
    for (struct kei_row *row = rows; row && status == 0; row = row->next)
        r->get(r->user, 0, &row->item);
    kei_rows_free(s->alloc, rows);
    if (list && status == 0 && r->more)
        return true;
    if (status < 0)
        set_error(s, &r->op);
    if (list || status < 0)
        r->get(r->user, status, NULL);
    return false;
}

static void end_batch(struct kei_work *w)
{
    struct ke_store *s = KEI_OF(w, struct ke_store, batch.work);
    struct kei_link ops;
    kei_list_init(&ops);
    KEI_LIST_EACH_SAFE(l, next, &s->batch.ops)
    {
        kei_list_remove(l);
        kei_list_add_tail(&ops, l);
    }
    kei_report_deliver(s);
    while (!kei_list_empty(&ops)) {
        struct kei_op *op = to_op(ops.next);
        kei_list_remove(&op->link);
        if (op->kind == KEI_OP_TX) {
            deliver_tx(s, to_tx(op));
        } else if (deliver_read(s, to_read(op))) {
            /* at the head: nothing made after it may go before it */
            kei_list_add_tail(s->pending.next, &op->link);
            atomic_fetch_add(&s->waiting, 1);
            continue;
        }
        kei_op_free(s, op);
    }
    s->batch.busy = false; /* the hook at the end of this turn sends the next one */
}

static void submit(struct ke_store *s)
{
    struct kei_batch *b = &s->batch;
    b->busy = true;
    int r = kei_work_submit(s->ctx, &b->work, run_batch, end_batch);
    if (r == 0)
        return;
    b->err = *kei_err(s->ctx);
    fail_all(s, r, false);
    end_batch(&b->work);
}

/* Takes ops off the queue: not too many bytes, and nothing behind a list. */
static void fill(struct ke_store *s)
{
    size_t bytes = 0;
    unsigned n = 0;
    while (!kei_list_empty(&s->pending) && bytes < KEI_BATCH_BYTES) {
        struct kei_op *op = to_op(s->pending.next);
        kei_list_remove(&op->link);
        kei_list_add_tail(&s->batch.ops, &op->link);
        bytes += op->bytes;
        n++;
        if (op->kind == KEI_OP_LIST)
            break;
    }
    atomic_fetch_sub(&s->waiting, n);
}

static void wake_up(struct kei_defer *d)
{
    (void)d; /* there is a turn now, and its end is what counts */
}

static void next_batch(struct ke_store *s)
{
    if (s->batch.busy)
        return;
    fill(s);
    if (!kei_list_empty(&s->batch.ops))
        submit(s);
    else if (s->check.phase != KEI_CHECK_NONE && !s->closing)
        submit(s); /* a step of it: whatever was asked has been answered */
}

void kei_queue_turn(struct kei_turn *t)
{
    struct ke_store *s = KEI_OF(t, struct ke_store, turn);
    if (!s->batch.busy)
        kei_report_deliver(s);
    next_batch(s);
}

void kei_queue_add(struct ke_store *s, struct kei_op *op)
{
    kei_list_add_tail(&s->pending, &op->link);
    atomic_fetch_add(&s->waiting, 1);
    kei_defer(s->ctx, &s->wake, wake_up);
}

void kei_queue_drain(struct ke_store *s)
{
    while (s->batch.busy || !kei_list_empty(&s->pending)) {
        next_batch(s);
        kei_work_drain(s->ctx);
    }
}
