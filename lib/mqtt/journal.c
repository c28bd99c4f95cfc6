/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's writing side: batches, the disk worker, what waits for them, snapshots. A log of
 * its own rather than lib/store: every message would be two rows of a B-tree and its deletion,
 * where here it is two appended records. Loop thread, but run_commit on the disk worker.
 */
#include "mqtt/journal_priv.h"

#include <inttypes.h>
#include <stdio.h>

#define ROOM (64u << 20)        /* noted and not written: no more is taken */
#define ROOM_FAILING (4u << 20) /* the same while the disk fails */
#define RETRY_MS 1000
#define LAZY_MS 20 /* what nobody waits for may wait for others */
#define LAZY_BYTES (256u * 1024)
#define AHEAD (256u * 1024) /* zeros written behind small batches */
#define AHEAD_BATCH (64u * 1024)
#define SNAP_MIN (16u << 20)    /* log bytes before a snapshot is thought of */
#define SNAP_TURN (256u * 1024) /* of a snapshot per turn */

bool kei_mq_log_path(const struct mq_journal *j, uint64_t number, char *out, size_t n)
{
    return snprintf(out, n, "%s/mqtt-%" PRIu64 ".log", j->folder, number) < (int)n;
}

/* ---- on the disk worker ---- */

static int begin_file(struct mq_journal *j)
{
    char path[4096];
    struct ke_io_file *f;
    const struct ke_io *io = j->io;

    if (!kei_mq_log_path(j, j->number + 1, path, sizeof path))
        return kei_error(&j->err, KE_EINVAL, "the path of the data folder is too long");
    int r =
        io->open(io->user, path, KE_IO_READ | KE_IO_WRITE | KE_IO_CREATE | KE_IO_TRUNC, 0600, &f);
    if (r < 0)
        return kei_error(&j->err, r, "could not make %s", path);
    r = io->pwrite(io->user, f, MQ_LOG_MAGIC, 8, 0);
    if (r == 0)
        r = io->sync(io->user, f); /* before the name is sure: junk there would be damage */
    if (r == 0)
        r = io->sync_dir(io->user, j->folder);
    if (r < 0) {
        io->close(io->user, f);
        return kei_error(&j->err, r, "could not write %s", path);
    }
    if (j->file)
        io->close(io->user, j->file);
    j->file = f;
    j->number++;
    j->at = j->filled = 8;
    j->lean = false;
    return 0;
}

/*
 * The sync of a file that has grown waits for the file system's own journal, and so for whatever
 * other programs have written: half a second where one writes much. That of bytes which were there
 * waits for them alone. So zeros are written ahead, many batches' worth with one sync; where there
 * is no room for them the file grows as it can.
 */
static void fill_ahead(struct mq_journal *j, int64_t end)
{
    const struct ke_io *io = j->io;
    const size_t step = AHEAD / 4;

    if (end <= j->filled || j->writing.n > AHEAD_BATCH || j->lean)
        return;
    char *zeros = kei_zalloc(j->m->alloc, step);
    int r = zeros ? 0 : KE_ENOMEM;
    for (int64_t at = end; r == 0 && at < end + (int64_t)AHEAD; at += (int64_t)step)
        r = io->pwrite(io->user, j->file, zeros, step, at);
    kei_free(j->m->alloc, zeros);
    if (r == 0) {
        j->filled = end + (int64_t)AHEAD;
        return;
    }
    j->lean = true;
    (void)io->truncate(io->user, j->file, end); /* others need the room */
}

static void drop_files(struct mq_journal *j)
{
    char path[4096];

    for (; j->first < j->snap_file; j->first++)
        if (kei_mq_log_path(j, j->first, path, sizeof path))
            j->io->unlink(j->io->user, path);
    j->io->sync_dir(j->io->user, j->folder);
}

static void run_commit(struct kei_work *w)
{
    struct mq_journal *j = KEI_OF(w, struct mq_journal, work);
    const struct ke_io *io = j->io;
    int r = j->open_next || !j->file ? begin_file(j) : 0;

    if (r == 0 && j->open_next)
        j->snap_file = j->number;
    if (r == 0)
        j->open_next = false;
    if (r == 0 && j->writing.n) {
        r = io->pwrite(io->user, j->file, j->writing.p, j->writing.n, j->at);
        if (r < 0)
            kei_error(&j->err, r, "could not write the log of messages in %s", j->folder);
        else
            fill_ahead(j, j->at + (int64_t)j->writing.n);
    }
    if (r == 0 && j->writing.n) {
        r = io->sync(io->user, j->file);
        if (r < 0) {
            j->sync_failed = true; /* what the file holds now is not known */
            kei_error(&j->err, r, "could not sync the log of messages in %s", j->folder);
        }
    }
    if (r == 0) {
        j->at += (int64_t)j->writing.n;
        if (j->drop_old)
            drop_files(j);
    }
    j->status = r;
}

/* ---- back on the loop ---- */

static void open_gates(struct mq_journal *j)
{
    KEI_LIST_EACH_SAFE(l, next, &j->gates)
    {
        struct mq_gate *g = KEI_OF(l, struct mq_gate, link);
        struct mq_conn *c = g->c;
        while (g->head && g->head->batch <= j->durable) {
            struct mq_part *p = g->head;
            g->head = p->next;
            kei_mq_out_move(&c->out, &p->out);
            kei_free(j->m->alloc, p);
        }
        if (!g->head) {
            kei_list_remove(&g->link);
            kei_free(j->m->alloc, g);
            c->gate = NULL;
        }
        kei_mq_dirty(c);
    }
}

static void tell_all(struct mq_journal *j)
{
    while (j->tells && j->tells->batch <= j->durable) {
        struct mq_tell *t = j->tells;
        j->tells = t->next;
        if (!j->tells)
            j->tells_tail = &j->tells;
        kei_mq_enter(j->m);
        t->done(t->user, 0);
        kei_mq_leave(j->m);
        kei_free(j->m->alloc, t);
    }
}

static void storage_event(struct mq_journal *j, int status)
{
    struct ke_mqtt *m = j->m;

    if (!m->ops.storage)
        return;
    kei_mq_enter(m);
    m->ops.storage(m->user, status);
    kei_mq_leave(m);
}

static void failed(struct mq_journal *j)
{
    struct ke_mqtt *m = j->m;

    m->st.commit_failures++;
    if (!j->failing) {
        j->failing = true;
        kei_log(m->ctx, KE_LOG_ERROR, "mqtt",
                "%s; QoS 1 and 2 are not acknowledged until it works again", j->err.text);
        kei_error(kei_err(m->ctx), j->status, "%s", j->err.text);
        storage_event(j, j->status);
    }
    kei_timer_in(&j->retry, RETRY_MS);
}

static void submit(struct mq_journal *j);

static void committed(struct kei_work *w)
{
    struct mq_journal *j = KEI_OF(w, struct mq_journal, work);
    struct ke_mqtt *m = j->m;

    j->busy = false;
    mq_now(m);
    if (j->status < 0) {
        failed(j);
        return;
    }
    if (j->failing) {
        j->failing = false;
        kei_log(m->ctx, KE_LOG_INFO, "mqtt", "storing messages works again");
        storage_event(j, 0);
    }
    m->st.commits++;
    j->drop_old = false;
    kei_buf_clear(&j->writing);
    if (j->writing.cap > 1u << 20)
        ke_buf_free(&j->writing), kei_buf_init(&j->writing, m->alloc);
    j->durable = j->batch - 1;
    open_gates(j);
    tell_all(j);
}

static void on_retry(struct kei_timer *t)
{
    struct mq_journal *j = KEI_OF(t, struct mq_journal, retry);

    j->lazy = false;
    if (j->failing || j->pending.n || j->writing.n)
        submit(j);
}

/* A sync that failed leaves the file's content unknown: what it should hold goes into a new one. */
static void after_bad_sync(struct mq_journal *j)
{
    j->sync_failed = false;
    j->open_next = true;
    j->snapping = j->drop_old = false;
    j->want_snapshot = true;
}

/* What is noted from here on, the snapshot first, goes into a new file. */
static void snapshot_begin(struct mq_journal *j)
{
    j->want_snapshot = false;
    j->snapping = true;
    j->snap++;
    j->phase = 0;
    j->cursor = 0;
    j->pending_opens = true;
    kei_mq_put_mark(j, MQ_R_BEGIN);
}

static void submit(struct mq_journal *j)
{
    if (j->busy)
        return;
    if (j->sync_failed)
        after_bad_sync(j);
    if (j->writing.n == 0) { /* else the one before is tried again */
        struct ke_buf b = j->writing;
        j->writing = j->pending;
        j->pending = b;
        j->batch++;
        j->urgent = false;
        j->open_next |= j->pending_opens;
        j->pending_opens = false;
        if (j->want_snapshot && !j->snapping)
            snapshot_begin(j);
    }
    j->err = (struct ke_error)KE_ERROR_INIT;
    j->busy = true;
    if (kei_work_submit(j->m->ctx, &j->work, run_commit, committed) < 0) {
        j->busy = false;
        j->status = KE_ESYS;
        failed(j);
    }
}

/* ---- snapshots ---- */

static void snapshot_some(struct mq_journal *j)
{
    struct ke_mqtt *m = j->m;

    while (j->snapping && j->pending.n < SNAP_TURN) {
        if (j->phase == 0 && j->cursor < m->table_cap) {
            for (struct mq_session *s = m->table[j->cursor]; s; s = s->hnext)
                if (s->flags & MQ_S_KEPT)
                    kei_mq_put_all(j, s);
            j->cursor++;
        } else if (j->phase == 0) {
            j->phase = 1;
            j->cursor = 0;
        } else if (j->cursor < m->retained.cap) {
            for (struct mq_node *n = m->retained.slots[j->cursor]; n; n = n->hnext)
                if (n->value)
                    kei_mq_put_retained(j, n->value);
            j->cursor++;
        } else {
            kei_mq_put_mark(j, MQ_R_END);
            j->snapping = false;
            j->drop_old = true; /* with the commit that has the end */
            j->base_bytes = j->log_bytes;
            j->log_bytes = 0;
        }
    }
}

void kei_mq_journal_turn(struct ke_mqtt *m)
{
    struct mq_journal *j = m->journal;

    if (!kei_buf_ok(&j->pending)) { /* records were lost for want of memory: all is written anew */
        ke_buf_free(&j->pending);
        kei_buf_init(&j->pending, m->alloc);
        j->want_snapshot = true;
        j->snapping = false;
    }
    if (j->busy || j->failing)
        return;
    if (!j->snapping && !j->drop_old && j->log_bytes > SNAP_MIN + 2 * j->base_bytes)
        j->want_snapshot = true;
    if (j->snapping)
        snapshot_some(j);
    if (j->urgent || j->snapping || j->want_snapshot || j->pending.n > LAZY_BYTES) {
        submit(j);
    } else if (j->pending.n && !j->lazy) {
        j->lazy = true;
        kei_timer_in(&j->retry, LAZY_MS);
    }
}

/* ---- what waits ---- */

bool kei_mq_noted(struct ke_mqtt *m)
{
    return m->journal->pending.n > 0 || m->journal->writing.n > 0;
}

bool kei_mq_journal_room(struct ke_mqtt *m)
{
    struct mq_journal *j = m->journal;

    return j->pending.n < (j->failing ? ROOM_FAILING : ROOM) &&
           (j->log_bytes + j->base_bytes) >> 20 < m->lim.log_mib;
}

void kei_mq_journal_mark(struct ke_mqtt *m)
{
    m->journal->mark = m->journal->notes;
}

/* The batch that holds everything noted so far. */
static uint64_t last_batch(const struct mq_journal *j)
{
    return j->pending.n ? j->batch : j->batch - 1;
}

/* Somebody waits for that batch. */
static uint64_t urge(struct mq_journal *j, uint64_t batch)
{
    j->urgent |= batch == j->batch;
    return batch;
}

struct mq_out *kei_mq_gate(struct mq_conn *c)
{
    struct mq_journal *j = c->m->journal;
    struct mq_gate *g = c->gate;
    const struct ke_alloc *al = c->m->alloc;

    if (!j || (!g && j->notes == j->mark && !(c->s && c->s->flags & MQ_S_KEPT)))
        return NULL;
    uint64_t batch = last_batch(j);
    if (batch <= j->durable && !g)
        return NULL;
    urge(j, batch);
    if (!g) {
        g = kei_zalloc(al, sizeof *g);
        if (!g)
            return NULL; /* the caller fails on memory soon enough */
        g->c = c;
        c->gate = g;
        kei_list_add_tail(&j->gates, &g->link);
    }
    if (!g->tail || !g->head || g->tail->batch != batch) {
        struct mq_part *p = kei_zalloc(al, sizeof *p);
        if (!p)
            return g->head ? &g->tail->out : NULL;
        p->batch = batch;
        if (g->head)
            g->tail->next = p;
        else
            g->head = p;
        g->tail = p;
    }
    return &g->tail->out;
}

void kei_mq_gate_free(struct mq_conn *c)
{
    struct mq_gate *g = c->gate;

    if (!g)
        return;
    c->gate = NULL;
    kei_list_remove(&g->link);
    while (g->head) {
        struct mq_part *p = g->head;
        g->head = p->next;
        kei_mq_out_clear(c->m, &p->out);
        kei_free(c->m->alloc, p);
    }
    kei_free(c->m->alloc, g);
}

int kei_mq_journal_tell(struct ke_mqtt *m, ke_mqtt_done_fn done, void *user)
{
    struct mq_journal *j = m->journal;
    struct mq_tell *t = kei_zalloc(m->alloc, sizeof *t);

    if (!t)
        return KE_ENOMEM;
    t->batch = urge(j, last_batch(j));
    t->done = done;
    t->user = user;
    *j->tells_tail = t;
    j->tells_tail = &t->next;
    return 0;
}

/* ---- opening and closing ---- */

struct listing {
    uint64_t numbers[MQ_LOG_FILES];
    unsigned n;
};

static int each_name(void *arg, const char *name)
{
    struct listing *l = arg;
    struct ke_str s = kei_str(name);
    uint64_t v;

    if (!kei_str_starts(s, KEI_STR("mqtt-")) || !kei_str_ends(s, KEI_STR(".log")) || s.n < 10 ||
        !kei_str_u64(kei_strn(s.p + 5, s.n - 9), &v) || v == 0 || l->n == MQ_LOG_FILES)
        return 0;
    unsigned i = l->n++;
    for (; i > 0 && l->numbers[i - 1] > v; i--)
        l->numbers[i] = l->numbers[i - 1];
    l->numbers[i] = v;
    return 0;
}

static void journal_free(struct mq_journal *j)
{
    const struct ke_alloc *al = j->m->alloc;

    kei_timer_fini(&j->retry);
    while (j->tells) {
        struct mq_tell *t = j->tells;
        j->tells = t->next;
        t->done(t->user, KE_ECANCELED);
        kei_free(al, t);
    }
    if (j->file)
        j->io->close(j->io->user, j->file);
    if (j->lock)
        j->io->close(j->io->user, j->lock);
    ke_buf_free(&j->pending);
    ke_buf_free(&j->writing);
    kei_free(al, j->folder);
    kei_free(al, j);
}

static int read_back(struct mq_journal *j)
{
    struct listing l = {.n = 0};
    bool damaged = false;
    struct ke_error *err = kei_err(j->m->ctx);

    int r = j->io->list(j->io->user, j->folder, each_name, &l);
    if (r < 0)
        return kei_error(err, r, "could not list %s", j->folder);
    r = kei_mq_journal_read(j, l.numbers, l.n, &damaged);
    if (r < 0)
        return r;
    j->first = l.n ? l.numbers[0] : 1;
    j->number = l.n ? l.numbers[l.n - 1] : 0;
    j->want_snapshot = l.n > 1; /* one file again soon */
    return 0;
}

int kei_mq_journal_open(struct ke_mqtt *m, const char *folder)
{
    struct ke_error *err = kei_err(m->ctx);
    struct mq_journal *j = kei_zalloc(m->alloc, sizeof *j);

    if (!j)
        return kei_fail(m->ctx, KE_ENOMEM, "no memory for the MQTT server's data");
    j->m = m;
    j->io = kei_ctx_io(m->ctx);
    kei_list_init(&j->gates);
    j->tells_tail = &j->tells;
    kei_buf_init(&j->pending, m->alloc);
    kei_buf_init(&j->writing, m->alloc);
    kei_timer_init(m->ctx, &j->retry, on_retry);
    j->batch = 1;
    j->next_mid = j->next_sid = 1;
    j->folder = kei_strdup(m->alloc, folder);
    int r = j->folder ? 0 : kei_fail(m->ctx, KE_ENOMEM, "no memory for the MQTT server's data");
    if (r == 0)
        r = kei_folder_make(j->io, folder, 0700, err);
    if (r == 0)
        r = kei_folder_lock(j->io, folder, &j->lock, err);
    if (r == 0)
        r = read_back(j);
    if (r < 0) {
        journal_free(j);
        return r;
    }
    m->journal = j;
    return 0;
}

void kei_mq_journal_close(struct ke_mqtt *m)
{
    struct mq_journal *j = m->journal;

    kei_work_drain(m->ctx);
    j->failing = false;
    for (int i = 0; i < 2 && (j->pending.n || j->writing.n); i++) {
        submit(j);
        kei_work_drain(m->ctx);
    }
    if (j->file && j->filled > j->at)
        (void)j->io->truncate(j->io->user, j->file, j->at);
    if (j->status < 0)
        kei_log(m->ctx, KE_LOG_ERROR, "mqtt", "%s; what was not acknowledged is lost", j->err.text);
    m->journal = NULL;
    journal_free(j);
}
