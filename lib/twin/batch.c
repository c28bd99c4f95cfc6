/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of inputs, and batches of them: worked on in memory, written in one transaction, told
 * when that is durable. See twin_priv.h. Loop thread.
 */
#include <stdio.h>

#include "twin/twin_priv.h"

#define BATCH_MAX 256u
#define AGAIN_MS 100 /* out of memory: once more */
#define FULL_MS 5    /* a module without room */
#define TRIES 50u

static void work(struct ke_twin *t);

/* ---- what a batch changes ---- */

int kei_batch_touch(struct ke_twin *t, struct kei_tdev *dev)
{
    struct kei_touched *x;

    if (dev->touched)
        return 0;
    x = kei_zalloc(t->alloc, sizeof *x);
    if (!x || kei_twin_device_copy(&x->before, &dev->d, t->alloc) < 0) {
        kei_free(t->alloc, x);
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for device %s", dev->d.name);
    }
    x->dev = dev;
    dev->refs++;
    dev->touched = true;
    kei_list_add_tail(&t->touched, &x->link);
    return 0;
}

int kei_batch_add(struct kei_tdev **ret, struct ke_twin *t, struct ke_str ns, struct ke_str name)
{
    struct kei_touched *x = kei_zalloc(t->alloc, sizeof *x);
    struct kei_twin_device d;
    int r = x ? 0 : kei_fail(t->ctx, KE_ENOMEM, "out of memory for a device");

    if (r == 0)
        r = kei_twin_device_init(&d, t->alloc, ns, name, kei_err(t->ctx));
    if (r == 0) {
        r = kei_tdev_add(ret, t, &d);
        if (r < 0)
            kei_twin_device_fini(&d, t->alloc);
    }
    if (r < 0) {
        kei_free(t->alloc, x);
        return r;
    }
    x->dev = *ret;
    x->added = true;
    (*ret)->refs++;
    (*ret)->touched = true;
    kei_list_add_tail(&t->touched, &x->link);
    return 0;
}

int kei_batch_remove(struct ke_twin *t, struct kei_tdev *dev)
{
    int r = kei_batch_touch(t, dev);

    if (r < 0)
        return r;
    KEI_LIST_EACH(l, &t->touched)
    {
        struct kei_touched *x = KEI_OF(l, struct kei_touched, link);

        if (x->dev == dev)
            x->removed = true;
    }
    dev->gone = true; /* out of the index when that is durable */
    return 0;
}

static void touched_free(struct ke_twin *t, struct kei_touched *x)
{
    kei_list_remove(&x->link);
    kei_twin_device_fini(&x->before, t->alloc);
    kei_tdev_unref(t, x->dev);
    kei_free(t->alloc, x);
}

static void drop_effects(struct ke_twin *t, struct kei_link *list)
{
    while (!kei_list_empty(list)) {
        struct kei_effect *e = KEI_OF(list->next, struct kei_effect, link);

        kei_list_remove(&e->link);
        kei_effect_free(t, e);
    }
}

/* Memory is as it was before the batch. */
static void undo(struct ke_twin *t)
{
    while (!kei_list_empty(&t->touched)) {
        struct kei_touched *x = KEI_OF(t->touched.prev, struct kei_touched, link);
        struct kei_tdev *dev = x->dev;

        dev->touched = false;
        dev->gone = false;
        if (x->added) {
            dev->gone = true;
            kei_tdev_drop(t, dev);
        } else {
            struct kei_twin_device now = dev->d;

            dev->d = x->before;
            x->before = now;
        }
        touched_free(t, x);
    }
    drop_effects(t, &t->effects);
}

/* The batch is durable. */
static void settle(struct ke_twin *t)
{
    while (!kei_list_empty(&t->touched)) {
        struct kei_touched *x = KEI_OF(t->touched.next, struct kei_touched, link);
        struct kei_tdev *dev = x->dev;

        dev->touched = false;
        if (x->removed) {
            kei_tdev_drop(t, dev);
        } else {
            kei_list_remove(&dev->stale);
            kei_upward_note(t, dev);
        }
        touched_free(t, x);
    }
}

/* ---- inputs ---- */

static struct kei_input *first(struct ke_twin *t)
{
    return KEI_OF(t->inputs.next, struct kei_input, link);
}

static void drop_first(struct ke_twin *t)
{
    struct kei_input *in = first(t);

    kei_list_remove(&in->link);
    t->n_inputs--;
    t->input_bytes -= in->bytes;
    t->st.taken++;
    kei_input_free(t, in);
}

/* ---- saying ---- */

static void say_all(struct ke_twin *t)
{
    if (t->saying)
        return;
    t->saying = true;
    while (!kei_list_empty(&t->out) && !t->freed) {
        struct kei_effect *e = KEI_OF(t->out.next, struct kei_effect, link);

        kei_list_remove(&e->link); /* what it calls may free t */
        if (kei_say_now(t, e) < 0) {
            e->link.prev = &t->out;
            e->link.next = t->out.next;
            t->out.next->prev = &e->link;
            t->out.next = &e->link;
            (void)kei_timer_in(&t->again, FULL_MS);
            break;
        }
        kei_effect_free(t, e);
    }
    t->saying = false;
}

static void move(struct kei_link *to, struct kei_link *from)
{
    while (!kei_list_empty(from)) {
        struct kei_link *l = from->next;

        kei_list_remove(l);
        kei_list_add_tail(to, l);
    }
}

/* ---- the end of a batch ---- */

static void done_well(struct ke_twin *t)
{
    settle(t);
    for (; t->in_batch > 0; t->in_batch--)
        drop_first(t);
    if (t->singles && --t->singles == 0)
        t->batch_max = BATCH_MAX;
    move(&t->out, &t->effects);
    say_all(t);
}

/* One input alone failed for good. */
static void done_badly(struct ke_twin *t, int status, const char *text)
{
    struct kei_input *in = first(t);
    ke_twin_done_fn done = NULL;
    void *user = in->user;

    t->st.refused++;
    if (kei_action_failed(t, in, status, text) < 0) {
        drop_effects(t, &t->effects);
        done = in->done; /* it hears of it without memory, too */
        kei_log(t->ctx, KE_LOG_ERROR, "twin", "nobody could be told that a message failed: %s",
                text);
    }
    done_well(t);
    if (done)
        done(user, status, text);
}

static void finish(struct ke_twin *t, int status)
{
    char text[KE_ERROR_TEXT_MAX];

    if (status == 0) {
        done_well(t);
        return;
    }
    snprintf(text, sizeof text, "%s", ke_ctx_error(t->ctx));
    undo(t);
    if (t->in_batch > 1 || status == KE_ENOMEM) {
        uint32_t n = t->in_batch;

        t->singles = n > t->singles ? n : t->singles;
        t->batch_max = 1;
        t->in_batch = 0;
        if (n > 1) {
            kei_batch_wake(t);
            return;
        }
        if (first(t)->tries++ < TRIES) {
            (void)kei_timer_in(&t->again, AGAIN_MS);
            return;
        }
        t->in_batch = 1;
    }
    kei_log(t->ctx, KE_LOG_ERROR, "twin", "a message could not be stored: %s", text);
    done_badly(t, status, text);
}

static void on_commit(void *user, int status)
{
    struct ke_twin *t = user;

    t->committing = false;
    if (!t->freed) {
        finish(t, status);
        if (!t->freed) {
            kei_upward_pump(t);
            kei_batch_wake(t);
        }
    }
    kei_twin_unref_handle(t);
}

/* ---- writing ---- */

static int write_key(struct ke_buf *key, const struct kei_twin_device *d)
{
    kei_buf_adds(key, d->ns);
    kei_buf_addc(key, '/');
    kei_buf_adds(key, d->name);
    return kei_buf_ok(key) ? 0 : KE_ENOMEM;
}

static int write_device(struct ke_twin *t, struct ke_store_tx *tx, const struct kei_touched *x)
{
    const struct kei_twin_device *d = &x->dev->d;
    struct ke_buf key, row;
    int r;

    kei_buf_init(&key, t->alloc);
    kei_buf_init(&row, t->alloc);
    r = write_key(&key, d);
    if (r == 0 && x->removed) {
        r = ke_store_delete(tx, KEI_TWIN_BUCKET, key.p, NULL);
    } else if (r == 0) {
        kei_twin_row_write(&row, d);
        r = kei_buf_ok(&row) ? 0 : kei_fail(t->ctx, KE_ENOMEM, "out of memory for %s", d->name);
        if (r == 0 && !x->added && strcmp(x->before.ns, d->ns) != 0) { /* got its namespace */
            kei_buf_clear(&key);
            r = write_key(&key, &x->before);
            if (r == 0)
                r = ke_store_delete(tx, KEI_TWIN_BUCKET, key.p, NULL);
            kei_buf_clear(&key);
            if (r == 0)
                r = write_key(&key, d);
        }
        if (r == 0)
            r = ke_store_put(tx, KEI_TWIN_BUCKET, key.p, NULL, (int64_t)d->seq, row.p, row.n);
    }
    ke_buf_free(&key);
    ke_buf_free(&row);
    return r;
}

/* true: on_commit will come */
static bool commit(struct ke_twin *t, int *ret)
{
    struct ke_store_tx *tx = NULL;

    *ret = 0;
    if (!t->c.store || kei_list_empty(&t->touched))
        return false;
    *ret = ke_store_begin(&tx, t->c.store);
    KEI_LIST_EACH(l, &t->touched)
    {
        struct kei_touched *x = KEI_OF(l, struct kei_touched, link);

        if (*ret == 0)
            *ret = write_device(t, tx, x);
    }
    if (*ret == 0)
        *ret = kei_life_store(t, tx);
    if (*ret < 0) {
        ke_store_abort(tx);
        return false;
    }
    atomic_fetch_add(&t->refs, 1);
    *ret = ke_store_commit(tx, on_commit, t);
    if (*ret < 0) {
        kei_twin_unref_handle(t);
        return false;
    }
    t->st.commits++;
    t->committing = true;
    return true;
}

/* ---- a batch ---- */

static bool may_work(const struct ke_twin *t)
{
    return t->loaded && !t->freed && !t->working && !t->committing && !t->saying &&
           kei_list_empty(&t->out) && !kei_timer_armed(&t->again);
}

static int take_inputs(struct ke_twin *t)
{
    struct kei_link *l = t->inputs.next;
    int r = 0;

    for (t->in_batch = 0; l != &t->inputs && t->in_batch < t->batch_max && r == 0; l = l->next) {
        t->in_batch++;
        r = kei_action_run(t, KEI_OF(l, struct kei_input, link));
    }
    return r;
}

static void work(struct ke_twin *t)
{
    while (may_work(t) && !kei_list_empty(&t->inputs)) {
        int r;

        t->working = true;
        r = take_inputs(t);
        if (r == 0 && commit(t, &r)) {
            t->working = false;
            return;
        }
        t->working = false;
        finish(t, r);
    }
    if (!t->freed && !t->committing)
        kei_upward_pump(t);
}

static void on_defer(struct kei_defer *d)
{
    struct ke_twin *t = KEI_OF(d, struct ke_twin, defer);

    atomic_fetch_add(&t->refs, 1);
    work(t);
    kei_twin_unref_handle(t);
}

static void on_again(struct kei_timer *timer)
{
    struct ke_twin *t = KEI_OF(timer, struct ke_twin, again);

    atomic_fetch_add(&t->refs, 1);
    if (!t->loaded) {
        if (kei_tdev_load(t) < 0)
            (void)kei_timer_in(&t->again, AGAIN_MS);
    } else {
        say_all(t);
        work(t);
    }
    kei_twin_unref_handle(t);
}

void kei_batch_wake(struct ke_twin *t)
{
    if (!t->freed)
        kei_defer(t->ctx, &t->defer, on_defer);
}

void kei_batch_init(struct ke_twin *t)
{
    kei_list_init(&t->inputs);
    kei_list_init(&t->touched);
    kei_list_init(&t->effects);
    kei_list_init(&t->out);
    t->batch_max = BATCH_MAX;
    kei_timer_init(t->ctx, &t->again, on_again);
}

void kei_batch_fini(struct ke_twin *t)
{
    kei_defer_cancel(&t->defer);
    kei_timer_fini(&t->again);
    while (!kei_list_empty(&t->touched))
        touched_free(t, KEI_OF(t->touched.next, struct kei_touched, link));
    drop_effects(t, &t->effects);
    /* what is durable, or not yet asked for: those who wait hear it */
    while (!kei_list_empty(&t->out)) {
        struct kei_effect *e = KEI_OF(t->out.next, struct kei_effect, link);

        kei_list_remove(&e->link);
        if (e->kind == TELL_DONE)
            e->done(e->user, e->status, e->text);
        kei_effect_free(t, e);
    }
    while (!kei_list_empty(&t->inputs)) {
        struct kei_input *in = first(t);

        kei_list_remove(&in->link);
        if (in->done)
            in->done(in->user, KE_ECANCELED, "the device twin was freed");
        kei_input_free(t, in);
    }
    t->n_inputs = 0;
}
