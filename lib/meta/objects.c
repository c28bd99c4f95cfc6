/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects the cloud pushes: judged, stored in one transaction with what was applied, acknowledged
 * when that is durable, then told. Dispatches on the type in the resource: the source is not always
 * that of the type, and objects may come without kind. Loop thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "meta/meta_priv.h"

#define ARENA_MAX (64u * 1024)

/* One message, read. Views point into the message and the arena. */
struct object {
    struct kei_arena arena;
    struct kei_resource res;
    struct kei_place place;
    struct ke_str content; /* raw JSON */
    struct kei_told told;
    bool is_delete;
};

/* A transaction on its way. */
struct writing {
    struct kei_meta_manager *mm;
    struct ke_msg *m; /* of the cloud, to be acknowledged and told; NULL: fn is called */
    kei_objects_fn fn;
    void *user;
    char *uid; /* of the entry it concerns; "" none */
    char *name;
    int64_t version_before;
    bool is_delete;
};

/* ---- lists that are only acknowledged ---- */

static bool is_list(struct ke_str type)
{
    static const char *const lists[] = {"podlist", "servicelist", "endpointslist"};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        if (kei_str_is(type, lists[i]))
            return true;
    }
    return false;
}

/* ---- reading ---- */

static bool copy(char *out, const char *prefix, struct ke_str a, char sep, struct ke_str b)
{
    size_t p = strlen(prefix);

    if (p + a.n + 1 + b.n + 1 > KEI_META_KEY_MAX)
        return false;
    memcpy(out, prefix, p);
    memcpy(out + p, a.p, a.n);
    p += a.n;
    if (sep) {
        out[p++] = sep;
        memcpy(out + p, b.p, b.n);
        p += b.n;
    }
    out[p] = '\0';
    return true;
}

bool kei_place_of(struct kei_place *p, const struct kei_resource *res, struct ke_str type)
{
    struct ke_str none = {"", 0};
    /* Nodes are cluster-scoped: "null" in 1.23, "default" before. One row for both. */
    struct ke_str ns = kei_str_is(type, "node") ? KEI_STR("default") : res->ns;

    return res->name.n > 0 && copy(p->bucket, "o/", type, 0, none) &&
           copy(p->key, "", ns, '/', res->name) && copy(p->name, "", type, ' ', kei_str(p->key));
}

/* "serviceaccounttoken" and the like are keyed otherwise; they are never pushed. */
static int read_object(struct object *o, struct ke_str type, struct ke_str content,
                       struct ke_error *err)
{
    struct kei_meta meta = {.uid = ""};

    if (!kei_place_of(&o->place, &o->res, type))
        return kei_error(err, KE_ELIMIT, "its resource has no name or is longer than %u bytes",
                         KEI_META_KEY_MAX);
    o->content = content;
    if (kei_json_type(content) == '{') {
        int r = kei_meta_read(&meta, content, &o->arena, err);

        if (r < 0)
            return r;
    } else if (!o->is_delete) {
        return kei_error(err, KE_EPARSE, "its content is no object");
    }
    o->told.name = kei_str(o->place.name);
    o->told.uid = kei_str(meta.uid);
    o->told.version = meta.version;
    o->told.digest = kei_index_digest(content);
    return 0;
}

static int read_message(struct object *o, struct ke_msg *m, struct ke_error *err)
{
    struct ke_str content;
    int64_t version = 0;
    int r;

    content.p = ke_msg_content(m, &content.n);
    o->is_delete = strcmp(ke_msg_operation(m), "delete") == 0;
    r = read_object(o, o->res.type, content, err);
    if (r < 0)
        return r;
    o->told.at_ms = ke_msg_timestamp_ms(m);
    /* A deletion has a version of its own, later than that of the object in it. */
    (void)kei_str_i64(kei_str(ke_msg_resource_version(m)), &version);
    if (version > 0 && (o->told.version == 0 || (o->is_delete && version > o->told.version)))
        o->told.version = version;
    return 0;
}

/* ---- writing ---- */

static void writing_free(struct writing *w)
{
    ke_msg_unref(w->m);
    kei_free(w->mm->alloc, w->uid);
    kei_free(w->mm->alloc, w->name);
    kei_free(w->mm->alloc, w);
}

static struct writing *writing_new(struct kei_meta_manager *mm, struct ke_msg *m,
                                   const struct object *o)
{
    struct writing *w = kei_zalloc(mm->alloc, sizeof *w);

    if (!w)
        return NULL;
    w->mm = mm;
    w->uid = kei_strndup(mm->alloc, o->told.uid.p ? o->told.uid.p : "", o->told.uid.n);
    w->name = kei_strdup(mm->alloc, o->place.name);
    w->is_delete = o->is_delete;
    if (!w->uid || !w->name) {
        writing_free(w);
        return NULL;
    }
    if (m)
        w->m = ke_msg_ref(m);
    return w;
}

/* The index must not say that something was applied that is not there. */
static void take_back(struct writing *w)
{
    struct kei_meta_manager *mm = w->mm;
    struct kei_applied *e = kei_index_uid(&mm->index, kei_str(w->uid));

    if (!e)
        e = kei_index_name(&mm->index, kei_str(w->name));
    if (w->is_delete && (!e || e->deleted)) {
        struct kei_told o = {
            .name = kei_str(w->name), .uid = kei_str(w->uid), .version = w->version_before};

        if (kei_index_put(&mm->index, &o, &e, NULL) < 0)
            return;
    }
    if (e)
        kei_index_undo(e, w->version_before);
}

static void on_written(void *user, int status)
{
    struct writing *w = user;
    struct kei_meta_manager *mm = w->mm;

    if (!mm->freed) {
        mm->writing--;
        if (status < 0)
            take_back(w);
        if (status < 0 && w->m)
            kei_log(mm->ctx, KE_LOG_ERROR, "meta",
                    "%s %s could not be stored and was not acknowledged: %s",
                    ke_msg_operation(w->m), ke_msg_resource(w->m), ke_ctx_error(mm->ctx));
    }
    if (w->fn)
        w->fn(w->user, mm->freed ? KE_ECANCELED : status);
    if (!mm->freed && status == 0 && w->m) {
        kei_meta_ack(mm, w->m);
        kei_meta_tell_object(mm, w->m);
        kei_ask_arrived(mm, w->name);
    }
    writing_free(w);
    kei_meta_unref(mm);
}

static int commit(struct ke_store_tx *tx, struct writing *w)
{
    int r;

    w->mm->refs++;
    w->mm->writing++;
    r = ke_store_commit(tx, on_written, w);
    if (r < 0) {
        w->mm->refs--;
        w->mm->writing--;
    }
    return r;
}

static int put_applied(struct ke_store_tx *tx, const struct kei_applied *e)
{
    char value[KEI_META_KEY_MAX + 64];
    int n;

    if (!*e->uid)
        return 0;
    if (e->deleted)
        n = snprintf(value, sizeof value, "-%" PRId64, e->at_ms);
    else
        n = snprintf(value, sizeof value, "+%" PRId64 " %s", e->at_ms, e->name);
    return ke_store_put(tx, "applied", e->uid, NULL, e->version, value, (size_t)n);
}

/* Deleted objects beyond the bound are forgotten with their rows. */
static int prune(struct kei_meta_manager *mm, struct ke_store_tx *tx)
{
    struct kei_applied *e;
    int r = 0;

    while (r == 0 && (e = kei_index_prune(&mm->index)) != NULL) {
        r = ke_store_delete(tx, "applied", e->uid, NULL);
        kei_applied_free(&mm->index, e);
    }
    return r;
}

/*
 * The index first, since the rows are made of it; should the transaction not come about, the entry
 * is taken back, so that the next copy of the message is applied.
 */
static int write_put(struct kei_meta_manager *mm, const struct object *o, struct writing *w)
{
    const struct kei_applied *known = kei_index_uid(&mm->index, o->told.uid);
    struct kei_applied *e = NULL, *replaced = NULL;
    struct ke_store_tx *tx = NULL;
    int r;

    w->version_before = known ? known->version : 0;
    if (kei_index_put(&mm->index, &o->told, &e, &replaced) < 0)
        return kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", o->place.name);
    r = ke_store_begin(&tx, mm->store);
    if (r == 0)
        r = ke_store_put(tx, o->place.bucket, o->place.key, e->uid, o->told.version, o->content.p,
                         o->content.n);
    if (r == 0)
        r = put_applied(tx, e);
    if (r == 0 && replaced)
        r = put_applied(tx, replaced);
    if (r == 0)
        r = prune(mm, tx);
    if (r == 0)
        r = commit(tx, w);
    else
        ke_store_abort(tx);
    if (r < 0)
        kei_index_undo(e, w->version_before);
    return r;
}

static int delete_rows(struct ke_store_tx *tx, const struct object *o, const char *uid)
{
    int r = ke_store_delete(tx, o->place.bucket, o->place.key, uid);

    if (r == 0 && kei_str_is(o->res.type, "pod")) {
        r = ke_store_delete(tx, "o/podstatus", o->place.key, uid);
        if (r == 0 && *uid)
            r = kei_token_delete(tx, uid);
    }
    return r;
}

static int write_delete(struct kei_meta_manager *mm, const struct object *o, struct kei_applied *e,
                        struct writing *w)
{
    struct ke_store_tx *tx = NULL;
    bool known = *e->uid != '\0';
    int r = ke_store_begin(&tx, mm->store);

    w->version_before = e->version;
    if (r == 0)
        r = delete_rows(tx, o, e->uid);
    if (r < 0) {
        ke_store_abort(tx);
        return r;
    }
    kei_index_delete(&mm->index, e, o->told.version, o->told.at_ms);
    if (known)
        r = put_applied(tx, e);
    if (r == 0)
        r = prune(mm, tx);
    if (r == 0)
        r = commit(tx, w);
    else
        ke_store_abort(tx);
    if (r < 0)
        take_back(w);
    return r;
}

/* ---- the cloud's messages ---- */

static void take(struct kei_meta_manager *mm, struct ke_msg *m, bool settled);

static void on_barrier(void *user, int status)
{
    struct writing *w = user;
    struct kei_meta_manager *mm = w->mm;

    if (!mm->freed) {
        mm->writing--;
        /* Judged again: what it was an echo of may not have been stored. */
        if (status == 0)
            take(mm, w->m, true);
    }
    writing_free(w);
    kei_meta_unref(mm);
}

/* Acknowledges what is known already, but not before what is under way is durable. */
static int ack_known(struct kei_meta_manager *mm, struct ke_msg *m, const struct object *o,
                     bool settled)
{
    struct ke_store_tx *tx = NULL;
    struct writing *w;
    int r;

    if (settled || mm->writing == 0) {
        kei_meta_ack(mm, m);
        return 0;
    }
    w = writing_new(mm, m, o);
    if (!w)
        return kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", o->place.name);
    r = ke_store_begin(&tx, mm->store);
    if (r == 0) {
        mm->refs++;
        mm->writing++;
        r = ke_store_commit(tx, on_barrier, w);
        if (r < 0) {
            mm->refs--;
            mm->writing--;
        }
    }
    if (r < 0)
        writing_free(w);
    return r;
}

static int take_put(struct kei_meta_manager *mm, struct ke_msg *m, const struct object *o,
                    bool settled)
{
    struct writing *w;
    int r;

    if (kei_index_judge(&mm->index, &o->told) != KEI_VERDICT_NEW)
        return ack_known(mm, m, o, settled);
    w = writing_new(mm, m, o);
    if (!w)
        return kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", o->place.name);
    r = write_put(mm, o, w);
    if (r < 0)
        writing_free(w);
    return r;
}

static int take_delete(struct kei_meta_manager *mm, struct ke_msg *m, struct object *o,
                       bool settled)
{
    struct kei_applied *e = kei_index_name(&mm->index, o->told.name);
    struct writing *w;
    int r;

    /*
     * A store that lost its rows does not know the pod, whose containers may run on all the same:
     * the pod engine ends them, if they are there.
     */
    if (!e && o->told.uid.n && kei_str_is(o->res.type, "pod") &&
        !kei_index_uid(&mm->index, o->told.uid) && !settled)
        kei_meta_tell_object(mm, m);
    /* An empty uid means whatever has the name. */
    if (!e || (o->told.uid.n && *e->uid && !kei_str_is(o->told.uid, e->uid)))
        return ack_known(mm, m, o, settled);
    o->told.uid = kei_str(e->uid);
    w = writing_new(mm, m, o);
    if (!w)
        return kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", o->place.name);
    o->told.uid = kei_str(w->uid); /* e may go */
    r = write_delete(mm, o, e, w);
    if (r < 0)
        writing_free(w);
    return r;
}

static bool may_wait(struct kei_meta_manager *mm)
{
    return mm->n_untold < KEI_META_HELD_MAX;
}

/* settled: what was under way when it came is durable. */
static void take(struct kei_meta_manager *mm, struct ke_msg *m, bool settled)
{
    struct ke_error err = KE_ERROR_INIT;
    struct object o;
    int r;

    memset(&o, 0, sizeof o);
    if (!kei_resource_parse(&o.res, kei_str(ke_msg_resource(m)))) {
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "message %s of the cloud has no usable resource: %s",
                ke_msg_id(m), ke_msg_resource(m));
        return;
    }
    if (is_list(o.res.type)) {
        kei_meta_ack(mm, m);
        return;
    }
    if (!may_wait(mm)) {
        kei_log(mm->ctx, KE_LOG_WARN, "meta",
                "%s %s was not taken: %u messages wait for other modules already",
                ke_msg_operation(m), ke_msg_resource(m), mm->n_untold);
        return;
    }
    kei_arena_init(&o.arena, mm->alloc, ARENA_MAX);
    r = read_message(&o, m, &err);
    if (r == KE_ENOMEM) {
        kei_log(mm->ctx, KE_LOG_ERROR, "meta", "out of memory for %s", ke_msg_resource(m));
    } else if (r < 0) {
        /* It will not get better: an unacknowledged one would hold up all that come after it. */
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "%s %s of the cloud was acknowledged unused: %s",
                ke_msg_operation(m), ke_msg_resource(m), err.text);
        kei_meta_ack(mm, m);
    } else {
        r = o.is_delete ? take_delete(mm, m, &o, settled) : take_put(mm, m, &o, settled);
        if (r < 0)
            kei_log(mm->ctx, KE_LOG_ERROR, "meta",
                    "%s %s could not be stored and was not acknowledged: %s", ke_msg_operation(m),
                    ke_msg_resource(m), ke_ctx_error(mm->ctx));
    }
    kei_arena_free(&o.arena);
}

void kei_objects_take(struct kei_meta_manager *mm, struct ke_msg *m)
{
    take(mm, m, false);
}

/* ---- what was asked for ---- */

int kei_objects_keep(struct kei_meta_manager *mm, const struct kei_resource *res,
                     struct ke_str type, struct ke_str object, int64_t at_ms,
                     enum kei_verdict *ret_verdict, kei_objects_fn fn, void *user)
{
    struct object o;
    struct writing *w;
    int r;

    memset(&o, 0, sizeof o);
    o.res = *res;
    kei_arena_init(&o.arena, mm->alloc, ARENA_MAX);
    r = read_object(&o, type, object, kei_err(mm->ctx));
    if (r == 0) {
        o.told.at_ms = at_ms;
        *ret_verdict = kei_index_judge(&mm->index, &o.told);
    }
    if (r == 0 && *ret_verdict == KEI_VERDICT_NEW) {
        w = writing_new(mm, NULL, &o);
        if (w) {
            w->fn = fn;
            w->user = user;
            r = write_put(mm, &o, w);
            if (r < 0)
                writing_free(w);
        } else {
            r = kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", o.place.name);
        }
    }
    kei_arena_free(&o.arena);
    return r;
}

/* ---- replies that nobody waits for any more ---- */

/* What a reply's object is an object of, and whether it may be new to us. */
static struct ke_str type_of_reply(struct ke_str type, bool *ret_must_exist)
{
    *ret_must_exist = false;
    if (kei_str_is(type, "podpatch")) {
        /* The cloud's word on a pod we have; a pod that is gone here is not brought back by it. */
        *ret_must_exist = true;
        return KEI_STR("pod");
    }
    if (kei_str_is(type, "configmap") || kei_str_is(type, "secret") || kei_str_is(type, "node") ||
        kei_str_is(type, "persistentvolume") || kei_str_is(type, "persistentvolumeclaim"))
        return type;
    return (struct ke_str){NULL, 0};
}

static bool is_ours(struct kei_meta_manager *mm, const struct kei_resource *res, struct ke_str type,
                    struct ke_str object)
{
    struct kei_place place;
    const struct kei_applied *e;
    struct ke_str uid;

    if (!kei_place_of(&place, res, type))
        return false;
    e = kei_index_name(&mm->index, kei_str(place.name));
    return e && kei_json_path(object, "metadata.uid", &uid) && kei_json_str_is(uid, e->uid);
}

struct late {
    struct kei_meta_manager *mm;
    struct ke_msg *m;
    bool needs_ack;
};

static void late_end(struct late *l, bool kept)
{
    if (kept && l->needs_ack)
        kei_meta_ack(l->mm, l->m);
    ke_msg_unref(l->m);
    kei_free(l->mm->alloc, l);
}

/* Whoever gave up waiting gets to know it as an update. */
static void tell_late(struct late *l)
{
    struct kei_reply reply;
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_str content;

    content.p = ke_msg_content(l->m, &content.n);
    kei_reply_read(&reply, content);
    ke_msg_config_init(&c, sizeof c);
    c.source = "metamanager";
    c.group = "resource";
    c.operation = "update";
    c.resource = ke_msg_resource(l->m);
    c.resource_version = ke_msg_resource_version(l->m);
    c.content = reply.object.p;
    c.content_len = reply.object.n;
    if (ke_msg_new(&m, l->mm->ctx, &c, kei_err(l->mm->ctx)) == 0)
        kei_meta_tell_object(l->mm, m);
    ke_msg_unref(m);
}

static void on_late(void *user, int status)
{
    struct late *l = user;

    if (status == 0)
        tell_late(l);
    late_end(l, status == 0);
}

void kei_objects_take_late(struct kei_meta_manager *mm, struct ke_msg *m)
{
    struct late *l = kei_zalloc(mm->alloc, sizeof *l);
    enum kei_verdict verdict = KEI_VERDICT_STALE;
    struct kei_resource res;
    struct kei_reply reply;
    struct ke_str content, type = {NULL, 0};
    bool must_exist = false;
    int r = 0;

    if (!l)
        return; /* not acknowledged: if it matters it comes again */
    content.p = ke_msg_content(m, &content.n);
    *l = (struct late){mm, ke_msg_ref(m), kei_msg_needs_ack(m, kei_meta_dialect(mm))};
    kei_reply_read(&reply, content);
    if (reply.kind == KEI_REPLY_ERROR)
        kei_log(mm->ctx, KE_LOG_DEBUG, "meta", "the cloud answered for %s: %s", ke_msg_resource(m),
                reply.text);
    if (reply.kind == KEI_REPLY_OBJECT && kei_json_type(reply.object) == '{' &&
        kei_resource_parse(&res, kei_str(ke_msg_resource(m))))
        type = type_of_reply(res.type, &must_exist);
    if (type.n && (!must_exist || is_ours(mm, &res, type, reply.object)))
        r = kei_objects_keep(mm, &res, type, reply.object, ke_msg_timestamp_ms(m), &verdict,
                             on_late, l);
    if (r < 0)
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "a late answer, %s, was not kept: %s",
                ke_msg_resource(m), ke_ctx_error(mm->ctx));
    if (r < 0 || verdict != KEI_VERDICT_NEW)
        late_end(l, r == 0);
}
