/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tunnel reads and writes: the identity on the disk worker, notes in the store (or, without
 * one, beside the identity). A job owns copies of all it needs and keeps the tunnel's memory alive
 * until it is told. Texts with keys are wiped.
 */
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "message/dialect.h"
#include "tunnel/tunnel_priv.h"

#define LOCAL "local"
#define NOTE_DIALECT "tunnel/dialect"
#define NOTE_TIME "tunnel/time"
#define NOTE_STORE "tunnel/store"

struct job {
    struct kei_work work;
    struct ke_tunnel *t;
    const struct ke_io *io;
    const struct ke_alloc *alloc;
    const char *folder; /* of the tunnel's configuration, which outlives the job */
    const char *ca_file, *cert_file, *key_file;
    struct ke_buf current, previous, notes; /* read, or what is to be written */
    struct ke_buf ca, cert, key;
    bool with_notes;  /* load: they are in a file */
    bool has_current; /* load: there is such a file */
    uint32_t pending; /* load: parts that are still read */
    int status;
    struct ke_error err;
};

static struct job *job_new(struct ke_tunnel *t)
{
    struct job *j = kei_zalloc(t->alloc, sizeof *j);
    struct ke_buf *bufs[6];

    if (!j)
        return NULL;
    j->t = t;
    j->io = kei_ctx_io(t->ctx);
    j->alloc = t->alloc;
    j->folder = t->conf.folder;
    j->err = (struct ke_error)KE_ERROR_INIT;
    bufs[0] = &j->current;
    bufs[1] = &j->previous;
    bufs[2] = &j->notes;
    bufs[3] = &j->ca;
    bufs[4] = &j->cert;
    bufs[5] = &j->key;
    for (size_t i = 0; i < 6; i++)
        kei_buf_init(bufs[i], t->alloc);
    return j;
}

static void job_free(struct job *j)
{
    kei_buf_wipe(&j->current);
    kei_buf_wipe(&j->previous);
    kei_buf_wipe(&j->key);
    ke_buf_free(&j->notes);
    ke_buf_free(&j->ca);
    ke_buf_free(&j->cert);
    kei_free(j->alloc, j);
}

/* The job keeps a reference of the tunnel, which its done function gives back. */
static int job_submit(struct job *j, kei_work_fn run, kei_work_fn done)
{
    int r;

    j->t->refs++;
    r = kei_work_submit(j->t->ctx, &j->work, run, done);
    if (r < 0) {
        j->t->refs--;
        job_free(j);
    }
    return r;
}

#define JOB(w) KEI_OF(w, struct job, work)

/* ---- reading ---- */

/* A key that is no file: "handle:...", "pkcs11:..." */
static bool is_uri(const char *s)
{
    return s[0] != '/' && s[0] != '.' && strchr(s, ':') != NULL;
}

static int read_host_file(struct job *j, const char *path, struct ke_buf *out)
{
    return path ? kei_file_read(j->io, path, KEI_IDENTITY_FILE_MAX, out, &j->err) : 0;
}

static void load_run(struct kei_work *w)
{
    struct job *j = JOB(w);

    j->status = kei_identity_read(j->io, j->folder, "current.pem", &j->current, &j->err);
    j->has_current = j->status > 0;
    if (j->status >= 0)
        j->status = kei_identity_read(j->io, j->folder, "previous.pem", &j->previous, &j->err);
    if (j->status >= 0 && j->with_notes)
        j->status = kei_identity_read(j->io, j->folder, "notes", &j->notes, &j->err);
    if (j->status >= 0)
        j->status = read_host_file(j, j->ca_file, &j->ca);
    if (j->status == 0)
        j->status = read_host_file(j, j->cert_file, &j->cert);
    if (j->status == 0 && j->key_file && !is_uri(j->key_file))
        j->status = read_host_file(j, j->key_file, &j->key);
}

static int take_host_key(struct ke_tunnel *t, struct job *j)
{
    struct kei_key *key = NULL;
    int r;

    /* A file may have been replaced by the host; a token or TPM is asked once. */
    if (!j->key_file || (t->host_key && is_uri(j->key_file)))
        return 0;
    if (is_uri(j->key_file))
        r = kei_key_from_uri(&key, t->crypto, j->key_file, &j->err);
    else
        r = kei_key_from_pem(&key, t->crypto, kei_buf_str(&j->key), &j->err);
    if (r < 0)
        return kei_error_prefix(&j->err, r, "the key %s", j->key_file);
    kei_key_free(t->host_key);
    t->host_key = key;
    return 0;
}

/* The host's certificate is the identity; nothing is issued. */
static int take_host_cert(struct ke_tunnel *t, struct job *j)
{
    struct ke_buf all;
    int r;

    kei_buf_init(&all, t->alloc);
    kei_buf_addv(&all, kei_buf_str(&j->cert));
    kei_buf_addc(&all, '\n');
    kei_buf_addv(&all, kei_buf_str(&j->ca));
    if (!kei_buf_ok(&all))
        r = kei_error(&j->err, KE_ENOMEM, "out of memory for the certificate");
    else
        r = kei_identity_parse(&t->id, t->crypto, kei_buf_str(&all), t->host_key, &j->err);
    ke_buf_free(&all);
    if (r < 0)
        return kei_error_prefix(&j->err, r, "%s with %s and %s", j->cert_file, j->key_file,
                                j->ca_file);
    t->host_cert = true;
    return 0;
}

static void tell_damaged(struct ke_tunnel *t, const struct job *j, int r, bool has_previous)
{
    const char *why = j->current.n > 0 ? j->err.text : "the file is empty";
    kei_tunnel_error(t, r, "%s/identity/current.pem could not be used: %s%s", j->folder, why,
                     has_previous ? "; the certificate before it, previous.pem, is used" : "");
    if (!has_previous && r != KE_ENOMEM)
        snprintf(t->damaged, sizeof t->damaged, "%.119s", why);
}

static void take_units(struct ke_tunnel *t, struct job *j)
{
    struct kei_identity previous = {0};
    int r = j->has_current ? KE_EPARSE : 0;

    t->damaged[0] = '\0';

    if (j->current.n > 0)
        r = kei_identity_parse(&t->id, t->crypto, kei_buf_str(&j->current), t->host_key, &j->err);
    bool has_previous =
        j->previous.n > 0 &&
        kei_identity_parse(&previous, t->crypto, kei_buf_str(&j->previous), t->host_key, NULL) == 0;
    if (r < 0)
        tell_damaged(t, j, r, has_previous);
    if (has_previous) {
        if (kei_identity_whole(&t->id)) {
            kei_identity_clear(&t->other);
            t->other = previous;
        } else {
            t->id = previous;
            t->id_is_other = true;
        }
    }
}

static int take_identity(struct ke_tunnel *t, struct job *j)
{
    int r = take_host_key(t, j);

    if (r == 0 && j->ca_file) {
        kei_cert_free(t->host_ca);
        t->host_ca = NULL;
        r = kei_cert_from_pem(&t->host_ca, t->crypto, kei_buf_str(&j->ca), &j->err);
        if (r < 0)
            kei_error_prefix(&j->err, r, "the CA %s", j->ca_file);
    }
    if (r == 0 && j->cert_file)
        r = take_host_cert(t, j);
    else if (r == 0 && !kei_identity_whole(&t->id))
        take_units(t, j);
    if (kei_identity_whole(&t->id))
        kei_identity_taken(t);
    return r;
}

/* "dialect 1.15\ntime 1795335480044\nstore UUID\n" */
static void take_notes(struct ke_tunnel *t, struct ke_str text)
{
    while (text.p) {
        struct ke_str line = kei_str_cut(text, '\n', &text), value;
        struct ke_str key = kei_str_cut(line, ' ', &value);
        char name[16];

        if (kei_str_is(key, "time")) {
            (void)kei_str_i64(value, &t->notes.time_ms);
        } else if (kei_str_is(key, "store") && !t->store_id[0] && value.n == 36) {
            memcpy(t->store_id, value.p, value.n); /* else a newer one was made meanwhile */
        } else if (kei_str_is(key, "dialect") && value.n < sizeof name) {
            memcpy(name, value.p, value.n);
            name[value.n] = '\0';
            (void)kei_dialect_parse(name, &t->notes.dialect);
        }
    }
}

static void load_part_done(struct job *j)
{
    struct ke_tunnel *t = j->t;
    int r = j->status;

    if (--j->pending > 0)
        return;
    kei_tunnel_enter(t);
    if (!t->freed) {
        if (j->notes.n > 0)
            take_notes(t, kei_buf_str(&j->notes));
        if (t->conf.store && !t->store_id[0])
            kei_files_new_store_id(t);
        kei_ctx_time_floor(t->ctx, t->notes.time_ms);
        if (r == 0)
            r = take_identity(t, j);
        if (r < 0)
            kei_tunnel_error(t, r, "the identity of node %s could not be read: %s",
                             t->conf.node_name, j->err.text);
        kei_link_event(t, KEI_EV_LOADED, r);
    }
    kei_tunnel_unref(t);
    kei_tunnel_leave(t);
    job_free(j);
}

static void load_done(struct kei_work *w)
{
    load_part_done(JOB(w));
}

static void on_note(struct job *j, const char *name, const struct ke_store_item *item)
{
    if (item)
        kei_buf_addf(&j->notes, "%s %.*s\n", name, (int)(item->len < 64 ? item->len : 64),
                     (const char *)item->value);
    load_part_done(j);
}

static void on_note_dialect(void *user, int status, const struct ke_store_item *item)
{
    (void)status;
    on_note(user, "dialect", item);
}

static void on_note_time(void *user, int status, const struct ke_store_item *item)
{
    (void)status;
    on_note(user, "time", item);
}

static void on_note_store(void *user, int status, const struct ke_store_item *item)
{
    (void)status;
    on_note(user, "store", item);
}

int kei_files_load(struct ke_tunnel *t)
{
    struct job *j = job_new(t);
    int r;

    if (!j)
        return kei_fail(t->ctx, KE_ENOMEM, "out of memory for reading the identity");
    j->ca_file = t->conf.ca_file;
    j->cert_file = t->conf.cert_file;
    j->key_file = t->conf.key_file;
    j->with_notes = t->conf.store == NULL;
    j->pending = 1;
    r = job_submit(j, load_run, load_done);
    if (r < 0 || !t->conf.store)
        return r;
    /* A note that cannot be read is a note never made. */
    j->pending++;
    if (ke_store_get(t->conf.store, LOCAL, NOTE_DIALECT, on_note_dialect, j) < 0)
        j->pending--;
    j->pending++;
    if (ke_store_get(t->conf.store, LOCAL, NOTE_TIME, on_note_time, j) < 0)
        j->pending--;
    j->pending++;
    if (ke_store_get(t->conf.store, LOCAL, NOTE_STORE, on_note_store, j) < 0)
        j->pending--;
    return 0;
}

/* ---- writing the identity ---- */

static void write_done(struct kei_work *w)
{
    struct job *j = JOB(w);
    struct ke_tunnel *t = j->t;

    kei_tunnel_enter(t);
    if (j->status < 0 && !t->freed)
        kei_tunnel_error(t, j->status, "the identity of node %s could not be written: %s",
                         t->conf.node_name, j->err.text);
    kei_tunnel_unref(t);
    kei_tunnel_leave(t);
    job_free(j);
}

static void save_run(struct kei_work *w)
{
    struct job *j = JOB(w);

    j->status = kei_identity_store(j->io, j->alloc, j->folder, kei_buf_str(&j->current), &j->err);
}

static void save_done(struct kei_work *w)
{
    struct job *j = JOB(w);

    struct ke_tunnel *t = j->t;

    t->refs++;
    t->saving = false;
    t->unsaved = j->status < 0 || t->save_again;
    write_done(w);
    if (t->save_again && !t->freed)
        kei_files_save_identity(t);
    kei_tunnel_unref(t);
}

static int submit(struct ke_tunnel *t, struct job *j, int r, kei_work_fn run, kei_work_fn done)
{
    if (!j)
        r = kei_fail(t->ctx, KE_ENOMEM, "out of memory for writing the identity");
    else if (r < 0)
        job_free(j);
    else
        r = job_submit(j, run, done);
    if (r < 0)
        kei_tunnel_error(t, r, "the identity of node %s could not be written: %s",
                         t->conf.node_name, ke_ctx_error(t->ctx));
    return r;
}

void kei_files_save_identity(struct ke_tunnel *t)
{
    struct job *j = job_new(t);
    int r = 0;

    t->save_again = t->saving;
    if (t->saving || t->host_cert) {
        if (j)
            job_free(j);
        return;
    }
    t->unsaved = true;
    if (j) {
        (void)kei_buf_room(&j->current, 8192); /* growing would leave copies of the key behind */
        r = kei_identity_format(&j->current, &t->id, t->id.key != NULL, kei_err(t->ctx));
    }
    t->saving = submit(t, j, r, save_run, save_done) == 0;
}

static void proven_run(struct kei_work *w)
{
    struct job *j = JOB(w);

    j->status = kei_identity_proven(j->io, j->folder, &j->err);
}

void kei_files_identity_proven(struct ke_tunnel *t)
{
    (void)submit(t, job_new(t), 0, proven_run, write_done);
}

static void go_back_run(struct kei_work *w)
{
    struct job *j = JOB(w);

    j->status = kei_identity_go_back(j->io, j->alloc, j->folder, &j->err);
}

void kei_files_identity_go_back(struct ke_tunnel *t)
{
    (void)submit(t, job_new(t), 0, go_back_run, write_done);
}

/* ---- writing notes ---- */

static void notes_run(struct kei_work *w)
{
    struct job *j = JOB(w);

    j->status = kei_identity_write_notes(j->io, j->folder, kei_buf_str(&j->notes), &j->err);
}

static void notes_to_store(struct ke_tunnel *t, const char *dialect, const char *time)
{
    struct ke_store_tx *tx = NULL;
    int r = ke_store_begin(&tx, t->conf.store);

    if (r == 0)
        r = ke_store_put(tx, LOCAL, NOTE_DIALECT, NULL, 0, dialect, strlen(dialect));
    if (r == 0)
        r = ke_store_put(tx, LOCAL, NOTE_TIME, NULL, 0, time, strlen(time));
    if (r == 0)
        r = ke_store_commit(tx, NULL, NULL);
    else
        ke_store_abort(tx);
    if (r < 0)
        kei_log(t->ctx, KE_LOG_WARN, "tunnel", "notes about the cloud could not be stored: %s",
                ke_ctx_error(t->ctx));
}

void kei_files_save_notes(struct ke_tunnel *t)
{
    const char *dialect = kei_dialect_name(t->notes.dialect);
    char time[32];
    struct job *j;

    if (!dialect)
        dialect = "auto";
    snprintf(time, sizeof time, "%lld", (long long)t->notes.time_ms);
    if (t->conf.store) {
        notes_to_store(t, dialect, time);
        return;
    }
    j = job_new(t);
    if (j)
        kei_buf_addf(&j->notes, "dialect %s\ntime %s\n", dialect, time);
    (void)submit(t, j, 0, notes_run, write_done);
}

/* Told before it is durable: should it be lost there is another one, as after any other loss. */
void kei_files_new_store_id(struct ke_tunnel *t)
{
    struct ke_store_tx *tx = NULL;
    char id[37];
    int r = kei_ctx_uuid(t->ctx, id);

    if (r == 0) {
        memcpy(t->store_id, id, sizeof id);
        r = ke_store_begin(&tx, t->conf.store);
    }
    if (r == 0) {
        r = ke_store_put(tx, LOCAL, NOTE_STORE, NULL, 0, id, 36);
        if (r == 0)
            r = ke_store_commit(tx, NULL, NULL);
        else
            ke_store_abort(tx);
    }
    if (r < 0)
        kei_log(t->ctx, KE_LOG_WARN, "tunnel", "the id of the store could not be noted: %s",
                ke_ctx_error(t->ctx));
}
