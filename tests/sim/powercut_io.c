/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power-cut file system, see powercut_io.h: a live tree, plus a log of every change since the
 * base. An image replays the log, keeping apart what was made sure and what was only written.
 * Memory: everything belongs to the struct powercut; running out of it ends the test.
 */
#include "sim/powercut_io.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/powercut_tree.h"

#define SECTOR 512

struct powercut {
    struct ke_io io;
    pthread_mutex_t lock;
    struct tree base, live;
    struct rec *log;
    size_t n_log, cap_log;
    size_t open_files;
    powercut_fault_fn fault;
    void *fault_user;
    powercut_drop_fn drop;
    void *drop_user;
    uint64_t capacity;
    bool slow;
};

struct ke_io_file {
    struct powercut *p;
    uint32_t node;
    uint32_t flags;
    bool locked;
    char *path;
};

/* ---- the log ---- */

static struct rec *log_add(struct powercut *p, enum rec_kind kind)
{
    if (p->n_log == p->cap_log) {
        p->cap_log = p->cap_log * 2 + 256;
        p->log = need(realloc(p->log, p->cap_log * sizeof *p->log));
    }
    struct rec *r = &p->log[p->n_log++];
    *r = (struct rec){.kind = kind, .node = NONE, .dir = NONE};
    return r;
}

static void rec_data(struct rec *r, const void *data, size_t n)
{
    r->data = need(malloc(n ? n : 1));
    if (n)
        memcpy(r->data, data, n);
    r->len = n;
}

static uint32_t log_new_node(struct powercut *p, enum node_type type, uint32_t mode,
                             const char *target)
{
    struct rec *r = log_add(p, REC_NODE);
    r->dir = (uint32_t)type;
    r->mode = mode;
    rec_data(r, target, target ? strlen(target) : 0);
    tree_apply(&p->live, r);
    return (uint32_t)p->live.n_nodes - 1;
}

static void log_name(struct powercut *p, enum rec_kind kind, uint32_t dir, const char *name,
                     const char *name2, uint32_t node)
{
    struct rec *r = log_add(p, kind);
    r->dir = dir;
    r->node = node;
    r->name = name ? copy_text(name) : NULL;
    r->name2 = name2 ? copy_text(name2) : NULL;
    tree_apply(&p->live, r);
}

/* What a sync of node (or of folder dir) would make sure. */
static void pending_of(const struct powercut *p, uint32_t node, uint32_t dir,
                       struct powercut_op *op)
{
    op->pos = p->n_log;
    op->pending = 0;
    op->pending_lo = op->pending_hi = 0;
    for (size_t i = p->n_log; i-- > 0;) {
        const struct rec *r = &p->log[i];
        if (node != NONE && r->node == node && r->kind == REC_SYNC)
            break;
        if (dir != NONE && r->dir == dir && r->kind == REC_SYNC_DIR)
            break;
        if (node != NONE && r->node == node && r->kind == REC_WRITE) {
            int64_t end = r->off + (int64_t)r->len;
            op->pending_lo = op->pending && op->pending_lo < r->off ? op->pending_lo : r->off;
            op->pending_hi = op->pending_hi > end ? op->pending_hi : end;
            op->pending++;
        } else if (node != NONE && r->node == node && r->kind == REC_TRUNCATE) {
            op->pending_lo = op->pending && op->pending_lo < r->off ? op->pending_lo : r->off;
            op->pending++;
        }
        if (dir != NONE && r->dir == dir &&
            (r->kind == REC_SET || r->kind == REC_DEL || r->kind == REC_MOVE))
            op->pending++;
    }
}

/* ---- the table ---- */

static int enter(struct powercut *p, struct powercut_op *op)
{
    pthread_mutex_lock(&p->lock);
    op->pos = p->n_log;
    int r = p->fault ? p->fault(p->fault_user, op) : 0;
    if (r != 0)
        pthread_mutex_unlock(&p->lock);
    return r;
}

static int leave(struct powercut *p, int r)
{
    pthread_mutex_unlock(&p->lock);
    return r;
}

static int io_open(void *user, const char *path, uint32_t flags, uint32_t mode,
                   struct ke_io_file **ret)
{
    struct powercut *p = user;
    char last[256];
    uint32_t dir, node;
    int r = enter(p, &(struct powercut_op){.kind = POWERCUT_OPEN, .path = path, .flags = flags});
    if (r != 0)
        return r;
    r = tree_walk(&p->live, path, true, &dir, last, &node);
    if (r != 0)
        return leave(p, r);
    if (node == NONE && !(flags & KE_IO_CREATE))
        return leave(p, KE_ENOTFOUND);
    if (node != NONE && (flags & KE_IO_CREATE) && (flags & KE_IO_EXCL))
        return leave(p, KE_EEXIST);
    if (node != NONE && p->live.nodes[node].type != NODE_FILE)
        return leave(p, KE_EACCES);
    if (node == NONE) {
        node = log_new_node(p, NODE_FILE, mode, NULL);
        log_name(p, REC_SET, dir, last, NULL, node);
    } else if ((flags & KE_IO_TRUNC) && p->live.nodes[node].data.n > 0) {
        struct rec *rec = log_add(p, REC_TRUNCATE);
        rec->node = node;
        tree_apply(&p->live, rec);
    }
    struct ke_io_file *f = need(calloc(1, sizeof *f));
    *f = (struct ke_io_file){p, node, flags, false, copy_text(path)};
    p->open_files++;
    *ret = f;
    return leave(p, 0);
}

static int io_close(void *user, struct ke_io_file *f)
{
    struct powercut *p = user;
    pthread_mutex_lock(&p->lock);
    if (f->locked)
        p->live.nodes[f->node].locked = false;
    p->open_files--;
    free(f->path);
    free(f);
    return leave(p, 0);
}

static int io_pread(void *user, struct ke_io_file *f, void *to, size_t n, int64_t off,
                    size_t *ret_n)
{
    struct powercut *p = user;
    int r = enter(
        p, &(struct powercut_op){.kind = POWERCUT_READ, .path = f->path, .off = off, .len = n});
    if (r != 0)
        return r;
    const struct bytes *b = &p->live.nodes[f->node].data;
    size_t at = (size_t)off, have = at < b->n ? b->n - at : 0;
    *ret_n = n < have ? n : have;
    if (*ret_n > 0)
        memcpy(to, b->p + at, *ret_n);
    return leave(p, 0);
}

static uint64_t bytes_used(const struct powercut *p)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < p->live.n_nodes; i++) {
        for (size_t j = 0; j < p->live.n_names; j++) {
            if (p->live.names[j].node == i && p->live.nodes[i].type == NODE_FILE) {
                sum += p->live.nodes[i].data.n;
                break;
            }
        }
    }
    return sum;
}

static int io_pwrite(void *user, struct ke_io_file *f, const void *from, size_t n, int64_t off)
{
    struct powercut *p = user;
    int r = enter(
        p, &(struct powercut_op){.kind = POWERCUT_WRITE, .path = f->path, .off = off, .len = n});
    if (r != 0)
        return r;
    if (!(f->flags & KE_IO_WRITE))
        return leave(p, KE_EACCES);
    size_t have = p->live.nodes[f->node].data.n, end = (size_t)off + n;
    if (p->capacity && end > have) {
        uint64_t used = bytes_used(p), grow = end - have;
        if (used + grow > p->capacity) {
            uint64_t room = used < p->capacity ? p->capacity - used : 0;
            size_t fits = (size_t)off < have + room ? have + (size_t)room - (size_t)off : 0;
            n = fits < n ? fits : n;
            r = KE_ENOSPC;
        }
    }
    if (n > 0) {
        struct rec *rec = log_add(p, REC_WRITE);
        rec->node = f->node;
        rec->off = off;
        rec_data(rec, from, n);
        tree_apply(&p->live, rec);
    }
    return leave(p, r);
}

static int io_truncate(void *user, struct ke_io_file *f, int64_t length)
{
    struct powercut *p = user;
    int r =
        enter(p, &(struct powercut_op){.kind = POWERCUT_TRUNCATE, .path = f->path, .off = length});
    if (r != 0)
        return r;
    struct rec *rec = log_add(p, REC_TRUNCATE);
    rec->node = f->node;
    rec->off = length;
    tree_apply(&p->live, rec);
    return leave(p, 0);
}

static int io_sync(void *user, struct ke_io_file *f)
{
    struct powercut *p = user;
    struct powercut_op op = {.kind = POWERCUT_SYNC, .path = f->path};
    if (p->slow)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    pthread_mutex_lock(&p->lock);
    pending_of(p, f->node, NONE, &op);
    int r = p->fault ? p->fault(p->fault_user, &op) : 0;
    if (r == 0 && !(p->drop && p->drop(p->drop_user, &op)))
        log_add(p, REC_SYNC)->node = f->node;
    return leave(p, r);
}

static int io_length(void *user, struct ke_io_file *f, int64_t *ret)
{
    struct powercut *p = user;
    pthread_mutex_lock(&p->lock);
    *ret = (int64_t)p->live.nodes[f->node].data.n;
    return leave(p, 0);
}

static int io_lock(void *user, struct ke_io_file *f)
{
    struct powercut *p = user;
    int r = enter(p, &(struct powercut_op){.kind = POWERCUT_LOCK, .path = f->path});
    if (r != 0)
        return r;
    if (f->locked)
        return leave(p, 0);
    if (p->live.nodes[f->node].locked)
        return leave(p, KE_EBUSY);
    f->locked = p->live.nodes[f->node].locked = true;
    return leave(p, 0);
}

static int io_rename(void *user, const char *from, const char *to)
{
    struct powercut *p = user;
    char a[256], b[256];
    uint32_t da, db, na, nb;
    int r = enter(p, &(struct powercut_op){.kind = POWERCUT_RENAME, .path = from, .path2 = to});
    if (r != 0)
        return r;
    r = tree_walk(&p->live, from, false, &da, a, &na);
    if (r == 0)
        r = tree_walk(&p->live, to, false, &db, b, &nb);
    if (r == 0 && na == NONE)
        r = KE_ENOTFOUND;
    if (r == 0 && nb != NONE && p->live.nodes[nb].type == NODE_DIR &&
        (p->live.nodes[na].type != NODE_DIR || !tree_empty_dir(&p->live, nb)))
        r = KE_EEXIST;
    if (r != 0 || na == nb)
        return leave(p, r);
    if (da == db) {
        log_name(p, REC_MOVE, da, a, b, na);
    } else {
        log_name(p, REC_SET, db, b, NULL, na);
        log_name(p, REC_DEL, da, a, NULL, na);
    }
    return leave(p, 0);
}

static int remove_name(struct powercut *p, const char *path, bool folder)
{
    char last[256];
    uint32_t dir, node;
    int r = enter(
        p, &(struct powercut_op){.kind = folder ? POWERCUT_RMDIR : POWERCUT_UNLINK, .path = path});
    if (r != 0)
        return r;
    r = tree_walk(&p->live, path, false, &dir, last, &node);
    if (r == 0 && node == NONE)
        r = KE_ENOTFOUND;
    if (r == 0 && (p->live.nodes[node].type == NODE_DIR) != folder)
        r = KE_EACCES;
    if (r == 0 && folder && !tree_empty_dir(&p->live, node))
        r = KE_EEXIST;
    if (r == 0)
        log_name(p, REC_DEL, dir, last, NULL, node);
    return leave(p, r);
}

static int io_unlink(void *user, const char *path)
{
    return remove_name(user, path, false);
}

static int io_rmdir(void *user, const char *path)
{
    return remove_name(user, path, true);
}

static int make_name(struct powercut *p, struct powercut_op *op, enum node_type type, uint32_t mode,
                     const char *target)
{
    char last[256];
    uint32_t dir, node;
    int r = enter(p, op);
    if (r != 0)
        return r;
    r = tree_walk(&p->live, op->path, false, &dir, last, &node);
    if (r == 0 && node != NONE)
        r = KE_EEXIST;
    if (r == 0)
        log_name(p, REC_SET, dir, last, NULL, log_new_node(p, type, mode, target));
    return leave(p, r);
}

static int io_mkdir(void *user, const char *path, uint32_t mode)
{
    return make_name(user, &(struct powercut_op){.kind = POWERCUT_MKDIR, .path = path}, NODE_DIR,
                     mode, NULL);
}

static int io_symlink(void *user, const char *target, const char *path)
{
    return make_name(user, &(struct powercut_op){.kind = POWERCUT_SYMLINK, .path = path}, NODE_LINK,
                     0777, target);
}

static int io_sync_dir(void *user, const char *path)
{
    struct powercut *p = user;
    struct powercut_op op = {.kind = POWERCUT_SYNC_DIR, .path = path};
    char last[256];
    uint32_t dir, node;
    pthread_mutex_lock(&p->lock);
    int r = tree_walk(&p->live, path, true, &dir, last, &node);
    if (r == 0 && (node == NONE || p->live.nodes[node].type != NODE_DIR))
        r = KE_ENOTFOUND;
    if (r == 0) {
        pending_of(p, NONE, node, &op);
        r = p->fault ? p->fault(p->fault_user, &op) : 0;
    }
    if (r == 0 && !(p->drop && p->drop(p->drop_user, &op)))
        log_add(p, REC_SYNC_DIR)->dir = node;
    return leave(p, r);
}

static int io_stat(void *user, const char *path, struct ke_io_stat *ret)
{
    struct powercut *p = user;
    char last[256];
    uint32_t dir, node;
    int r = enter(p, &(struct powercut_op){.kind = POWERCUT_STAT, .path = path});
    if (r != 0)
        return r;
    r = tree_walk(&p->live, path, false, &dir, last, &node);
    if (r == 0 && node == NONE)
        r = KE_ENOTFOUND;
    if (r == 0) {
        const struct node *n = &p->live.nodes[node];
        ret->length = n->type == NODE_FILE ? (int64_t)n->data.n : 0;
        ret->is_dir = n->type == NODE_DIR;
        ret->mode = n->mode;
    }
    return leave(p, r);
}

static int io_list(void *user, const char *path, int (*each)(void *arg, const char *name),
                   void *arg)
{
    struct powercut *p = user;
    char last[256], **names = NULL;
    uint32_t dir, node;
    size_t n = 0;
    int r = enter(p, &(struct powercut_op){.kind = POWERCUT_LIST, .path = path});
    if (r != 0)
        return r;
    r = tree_walk(&p->live, path, true, &dir, last, &node);
    if (r == 0 && (node == NONE || p->live.nodes[node].type != NODE_DIR))
        r = KE_ENOTFOUND;
    for (size_t i = 0; r == 0 && i < p->live.n_names; i++) {
        if (p->live.names[i].dir == node) {
            names = need(realloc(names, (n + 1) * sizeof *names));
            names[n++] = copy_text(p->live.names[i].text);
        }
    }
    (void)leave(p, r); /* each may call back into the table */
    for (size_t i = 0; i < n; i++) {
        if (r == 0)
            r = each(arg, names[i]);
        free(names[i]);
    }
    free(names);
    return r;
}

/* ---- making and freeing ---- */

static struct powercut *make(void)
{
    struct powercut *p = need(calloc(1, sizeof *p));
    p->io = (struct ke_io){
        .size = sizeof p->io,
        .user = p,
        .open = io_open,
        .close = io_close,
        .pread = io_pread,
        .pwrite = io_pwrite,
        .truncate = io_truncate,
        .sync = io_sync,
        .length = io_length,
        .lock = io_lock,
        .rename = io_rename,
        .unlink = io_unlink,
        .mkdir = io_mkdir,
        .rmdir = io_rmdir,
        .sync_dir = io_sync_dir,
        .stat = io_stat,
        .list = io_list,
        .symlink = io_symlink,
    };
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

struct powercut *powercut_new(void)
{
    struct powercut *p = make();
    (void)tree_node(&p->base, NODE_DIR, 0755);
    tree_copy(&p->live, &p->base);
    return p;
}

void powercut_free(struct powercut *p)
{
    if (!p)
        return;
    assert(p->open_files == 0);
    tree_free(&p->base);
    tree_free(&p->live);
    for (size_t i = 0; i < p->n_log; i++) {
        free(p->log[i].data);
        free(p->log[i].name);
        free(p->log[i].name2);
    }
    free(p->log);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

const struct ke_io *powercut_io(struct powercut *p)
{
    return &p->io;
}

size_t powercut_pos(struct powercut *p)
{
    pthread_mutex_lock(&p->lock);
    size_t n = p->n_log;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void powercut_fault(struct powercut *p, powercut_fault_fn fn, void *user)
{
    pthread_mutex_lock(&p->lock);
    p->fault = fn;
    p->fault_user = user;
    (void)leave(p, 0);
}

void powercut_drop(struct powercut *p, powercut_drop_fn fn, void *user)
{
    pthread_mutex_lock(&p->lock);
    p->drop = fn;
    p->drop_user = user;
    (void)leave(p, 0);
}

void powercut_slow(struct powercut *p)
{
    p->slow = true;
}

void powercut_capacity(struct powercut *p, uint64_t bytes)
{
    pthread_mutex_lock(&p->lock);
    p->capacity = bytes;
    (void)leave(p, 0);
}

/* ---- images ---- */

static bool chance(uint64_t *state, unsigned percent)
{
    return powercut_below(state, 100) < percent;
}

enum data_mode { DATA_NONE, DATA_ALL, DATA_WRITES, DATA_SECTORS, DATA_PREFIX, DATA_SHUFFLED };

struct cut {
    uint64_t rng;
    enum data_mode data;
    unsigned data_percent, cut_percent, name_percent; /* of writes, truncates, names */
    bool junk;
};

struct pending {
    size_t *at; /* into the log */
    size_t n;
};

static void pending_add(struct pending *l, size_t at)
{
    l->at = need(realloc(l->at, (l->n + 1) * sizeof *l->at));
    l->at[l->n++] = at;
}

/* One unsynced write: the sectors of it that reached the disk. */
static void land(struct cut *c, struct bytes *b, const struct rec *r, unsigned percent)
{
    uint64_t *junk = c->junk ? &c->rng : NULL;
    size_t from = (size_t)r->off, end = from + r->len;
    while (from < end) {
        size_t to = (from / SECTOR + 1) * SECTOR;
        to = to < end ? to : end;
        if (chance(&c->rng, percent))
            bytes_write(b, from, r->data + (from - (size_t)r->off), to - from, junk);
        from = to;
    }
}

static void land_file(struct cut *c, const struct powercut *p, struct bytes *b, struct pending *l)
{
    size_t keep = (size_t)powercut_below(&c->rng, l->n + 1);
    if (c->data == DATA_SHUFFLED) {
        for (size_t i = l->n; i > 1; i--) {
            size_t j = (size_t)powercut_below(&c->rng, i), t = l->at[i - 1];
            l->at[i - 1] = l->at[j];
            l->at[j] = t;
        }
    }
    for (size_t i = 0; i < l->n && c->data != DATA_NONE; i++) {
        const struct rec *r = &p->log[l->at[i]];
        unsigned percent = c->data_percent;
        if (r->kind == REC_TRUNCATE) {
            if (chance(&c->rng, c->cut_percent))
                bytes_resize(b, (size_t)r->off, NULL);
            continue;
        }
        if (c->data == DATA_ALL || (c->data == DATA_PREFIX && i < keep))
            percent = 100;
        else if (c->data == DATA_PREFIX)
            percent = i == keep ? 50 : 0;
        else if (c->data == DATA_WRITES)
            percent = chance(&c->rng, c->data_percent) ? 100 : 0;
        land(c, b, r, percent);
    }
    /* the length may have gone ahead of the data */
    if (l->n > 0 && c->data != DATA_NONE && c->data != DATA_ALL && chance(&c->rng, 25)) {
        const struct rec *r = &p->log[l->at[powercut_below(&c->rng, l->n)]];
        size_t end = (size_t)r->off + r->len;
        if (end > b->n)
            bytes_resize(b, end, c->junk ? &c->rng : NULL);
    }
}

static struct cut cut_of(uint64_t seed)
{
    struct cut c = {.rng = seed * 2 + 1};
    if (seed % 16 == 0) {
        c.data = DATA_NONE;
    } else if (seed % 16 == 1) {
        c.data = DATA_ALL;
        c.cut_percent = c.name_percent = 100;
    } else {
        static const unsigned percents[] = {10, 50, 90, 97};
        c.data = (enum data_mode)powercut_below(&c.rng, DATA_SHUFFLED + 1);
        c.data_percent = percents[powercut_below(&c.rng, 4)];
        c.cut_percent = (unsigned)powercut_below(&c.rng, 3) * 50;
        c.name_percent = (unsigned)powercut_below(&c.rng, 5) * 25;
        c.junk = chance(&c.rng, 50);
    }
    return c;
}

struct powercut *powercut_image(struct powercut *p, size_t pos, uint64_t seed)
{
    struct cut c = cut_of(seed);
    struct powercut *d = make();
    struct tree *t = &d->base;
    pthread_mutex_lock(&p->lock);
    assert(pos <= p->n_log);
    size_t n_nodes = p->live.n_nodes;
    struct pending *data = need(calloc(n_nodes, sizeof *data));
    struct pending *names = need(calloc(n_nodes, sizeof *names));
    tree_copy(t, &p->base);
    for (size_t i = 0; i < pos; i++) {
        const struct rec *r = &p->log[i];
        if (r->kind == REC_NODE) {
            tree_apply(t, r);
        } else if (r->kind == REC_WRITE || r->kind == REC_TRUNCATE) {
            pending_add(&data[r->node], i);
        } else if (r->kind == REC_SYNC) {
            for (size_t j = 0; j < data[r->node].n; j++)
                tree_apply(t, &p->log[data[r->node].at[j]]);
            data[r->node].n = 0;
        } else if (r->kind == REC_SYNC_DIR) {
            for (size_t j = 0; j < names[r->dir].n; j++)
                tree_apply(t, &p->log[names[r->dir].at[j]]);
            names[r->dir].n = 0;
        } else {
            pending_add(&names[r->dir], i);
        }
    }
    for (size_t i = 0; i < n_nodes; i++) {
        if (i < t->n_nodes)
            land_file(&c, p, &t->nodes[i].data, &data[i]);
        for (size_t j = 0; j < names[i].n; j++)
            if (chance(&c.rng, c.name_percent))
                tree_apply(t, &p->log[names[i].at[j]]);
        free(data[i].at);
        free(names[i].at);
    }
    pthread_mutex_unlock(&p->lock);
    free(data);
    free(names);
    tree_copy(&d->live, &d->base);
    return d;
}

struct powercut *powercut_killed(struct powercut *p, size_t pos)
{
    struct powercut *d = make();
    pthread_mutex_lock(&p->lock);
    assert(pos <= p->n_log);
    tree_copy(&d->base, &p->base);
    tree_copy(&d->live, &p->base);
    for (size_t i = 0; i < pos; i++) {
        const struct rec *r = &p->log[i];
        struct rec *n = log_add(d, r->kind);
        *n = *r;
        n->data = NULL;
        if (r->data)
            rec_data(n, r->data, r->len);
        n->name = r->name ? copy_text(r->name) : NULL;
        n->name2 = r->name2 ? copy_text(r->name2) : NULL;
        tree_apply(&d->live, n);
    }
    pthread_mutex_unlock(&p->lock);
    return d;
}

/* ---- for checks ---- */

unsigned char *powercut_get(struct powercut *p, const char *path, size_t *ret_n)
{
    char last[256];
    uint32_t dir, node;
    unsigned char *out = NULL;
    pthread_mutex_lock(&p->lock);
    if (tree_walk(&p->live, path, true, &dir, last, &node) == 0 && node != NONE &&
        p->live.nodes[node].type == NODE_FILE) {
        const struct bytes *b = &p->live.nodes[node].data;
        out = need(malloc(b->n + 1));
        if (b->n)
            memcpy(out, b->p, b->n);
        out[b->n] = 0;
        *ret_n = b->n;
    }
    pthread_mutex_unlock(&p->lock);
    return out;
}

void powercut_put(struct powercut *p, const char *path, const void *bytes, size_t n)
{
    char last[256];
    uint32_t dir, node;
    pthread_mutex_lock(&p->lock);
    int r = tree_walk(&p->live, path, true, &dir, last, &node);
    assert(r == 0);
    (void)r;
    if (node == NONE) {
        node = log_new_node(p, NODE_FILE, 0600, NULL);
        log_name(p, REC_SET, dir, last, NULL, node);
    }
    struct rec *rec = log_add(p, REC_TRUNCATE);
    rec->node = node;
    tree_apply(&p->live, rec);
    rec = log_add(p, REC_WRITE);
    rec->node = node;
    rec_data(rec, bytes, n);
    tree_apply(&p->live, rec);
    log_add(p, REC_SYNC)->node = node;
    log_add(p, REC_SYNC_DIR)->dir = dir;
    pthread_mutex_unlock(&p->lock);
}

char *powercut_tree(struct powercut *p)
{
    char *out = need(calloc(1, 1));
    size_t n = 0;
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->live.n_names; i++) {
        const struct name *e = &p->live.names[i];
        char line[400];
        int len = snprintf(line, sizeof line, "dir %u: %s -> %u (%zu bytes)\n", e->dir, e->text,
                           e->node, p->live.nodes[e->node].data.n);
        out = need(realloc(out, n + (size_t)len + 1));
        memcpy(out + n, line, (size_t)len + 1);
        n += (size_t)len;
    }
    pthread_mutex_unlock(&p->lock);
    return out;
}
