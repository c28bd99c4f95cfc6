/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pod engine reports: the last status of each pod is kept, then goes to the cloud through
 * the outbox. A cloud of 1.4 never says whether it could use a status, so all of them are told it
 * again after each connect and every minute. Loop thread.
 */
#include "base/log.h"
#include "meta/meta_priv.h"

#define BUCKET "o/podstatus"
#define RESYNC_MS 60000

struct report {
    struct kei_meta_manager *mm;
    struct ke_msg *m;
};

static void report_free(struct report *p)
{
    struct kei_meta_manager *mm = p->mm;

    ke_msg_unref(p->m);
    kei_free(mm->alloc, p);
    kei_meta_unref(mm);
}

static void on_written(void *user, int status)
{
    struct report *p = user;
    struct kei_meta_manager *mm = p->mm;

    if (!mm->freed && status < 0)
        kei_meta_answer_error(mm, p->m, ke_ctx_error(mm->ctx));
    else if (!mm->freed)
        kei_meta_answer(mm, p->m, KEI_STR("\"OK\""));
    report_free(p);
}

/* The row goes with its pod, so a status that comes after the pod is gone has none. */
static bool has_pod(struct kei_meta_manager *mm, const struct kei_resource *res)
{
    struct kei_place place;

    return kei_place_of(&place, res, KEI_STR("pod")) &&
           kei_index_name(&mm->index, kei_str(place.name)) != NULL;
}

static int write_status(struct kei_meta_manager *mm, struct ke_msg *m,
                        const struct kei_resource *res)
{
    struct ke_store_tx *tx = NULL;
    struct kei_place place;
    struct kei_arena arena;
    struct ke_str content, uid;
    struct report *p = kei_zalloc(mm->alloc, sizeof *p);
    int r;

    if (!p)
        return kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", ke_msg_resource(m));
    *p = (struct report){mm, ke_msg_ref(m)};
    mm->refs++;
    kei_arena_init(&arena, mm->alloc, 4096);
    content.p = ke_msg_content(m, &content.n);
    r = kei_place_of(&place, res, KEI_STR("podstatus")) ? ke_store_begin(&tx, mm->store)
                                                        : KE_ELIMIT;
    if (r == 0)
        r = ke_store_put(tx, BUCKET, place.key,
                         kei_json_get(content, "UID", &uid) ? kei_json_strdup(uid, &arena) : NULL,
                         0, content.p, content.n);
    if (r == 0)
        r = ke_store_commit(tx, on_written, p);
    else
        ke_store_abort(tx);
    if (r < 0)
        report_free(p);
    kei_arena_free(&arena);
    return r;
}

void kei_report_take(struct kei_meta_manager *mm, struct ke_msg *m)
{
    struct kei_resource res;
    bool status;
    int r = 0;

    if (!kei_resource_parse(&res, kei_str(ke_msg_resource(m))))
        return;
    status = kei_str_is(res.type, "podstatus");
    if (status && has_pod(mm, &res))
        r = write_status(mm, m, &res);
    if (r < 0)
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "%s could not be kept: %s", ke_msg_resource(m),
                ke_ctx_error(mm->ctx));
    /* The outbox keeps it on its own account, whatever became of the row. */
    r = kei_meta_send_up(mm, m);
    if (r < 0)
        kei_meta_answer_error(mm, m, ke_ctx_error(mm->ctx));
    else if (!status || !has_pod(mm, &res))
        kei_meta_answer(mm, m, KEI_STR("\"OK\""));
}

/* ---- dialect 1.4: all of them again ---- */

struct resync {
    struct kei_meta_manager *mm;
    struct ke_buf ns;    /* of the statuses in list */
    struct ke_buf items; /* "[{...},..." */
};

static void resync_send(struct resync *s)
{
    struct kei_meta_manager *mm = s->mm;
    struct ke_msg_config c;
    struct ke_msg *m = NULL;

    if (s->items.n == 0)
        return;
    kei_buf_addc(&s->items, ']');
    kei_buf_adds(&s->ns, "/podstatus");
    ke_msg_config_init(&c, sizeof c);
    c.source = "metaManager";
    c.group = "resource";
    c.operation = "update";
    c.resource = s->ns.p;
    c.content = s->items.p;
    c.content_len = s->items.n;
    if (kei_buf_ok(&s->items) && kei_buf_ok(&s->ns) &&
        ke_msg_new(&m, mm->ctx, &c, kei_err(mm->ctx)) == 0)
        (void)kei_meta_send_up(mm, m); /* it is told again in a minute */
    ke_msg_unref(m);
    kei_buf_clear(&s->items);
    kei_buf_clear(&s->ns);
}

/* Rows come in order of their keys: those of a namespace together. */
static void on_status_row(void *user, int status, const struct ke_store_item *item)
{
    struct resync *s = user;
    struct kei_meta_manager *mm = s->mm;
    struct ke_str ns, rest;

    (void)status;
    if (item && !mm->freed) {
        ns = kei_str_cut(kei_str(item->key), '/', &rest);
        if (!kei_str_eq(ns, kei_buf_str(&s->ns))) {
            resync_send(s);
            kei_buf_addv(&s->ns, ns);
        }
        kei_buf_addc(&s->items, s->items.n ? ',' : '[');
        kei_buf_add(&s->items, item->value, item->len);
        return;
    }
    if (item)
        return;
    if (!mm->freed)
        resync_send(s);
    ke_buf_free(&s->ns);
    ke_buf_free(&s->items);
    kei_free(mm->alloc, s);
    kei_meta_unref(mm);
}

static void on_resync(struct kei_timer *t)
{
    struct kei_meta_manager *mm = KEI_OF(t, struct kei_meta_manager, resync);
    struct resync *s;

    if (kei_meta_dialect(mm) != KE_DIALECT_1_4 || !kei_meta_connected(mm))
        return;
    (void)kei_timer_in(&mm->resync, RESYNC_MS);
    s = kei_zalloc(mm->alloc, sizeof *s);
    if (!s)
        return;
    s->mm = mm;
    kei_buf_init(&s->ns, mm->alloc);
    kei_buf_init(&s->items, mm->alloc);
    mm->refs++;
    if (ke_store_list(mm->store, BUCKET, NULL, 0, on_status_row, s) < 0) {
        kei_free(mm->alloc, s);
        kei_meta_unref(mm);
    }
}

void kei_report_link(struct kei_meta_manager *mm, bool up)
{
    if (up)
        (void)kei_timer_in(&mm->resync, 0);
    else
        kei_timer_stop(&mm->resync);
}

void kei_report_init(struct kei_meta_manager *mm)
{
    kei_timer_init(mm->ctx, &mm->resync, on_resync);
}
