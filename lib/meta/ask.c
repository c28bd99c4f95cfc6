/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the node's modules ask: answered from the store, or by a round trip to the cloud whose
 * answer is kept first. An error is never kept as an object. A request under way owns references of
 * its messages. Loop thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "meta/meta_priv.h"

#define REMOTE_MS 60000
#define REMOTE_1_4_MS 15000 /* so long a hub of 1.4 keeps the place of a request */
#define ANEW_1_4_MS 500     /* between two questions for one object */

/* ---- round trips ---- */

struct trip {
    struct kei_link link; /* in mm->asks */
    struct kei_meta_manager *mm;
    struct ke_msg *asked;
    uint64_t request;
    kei_ask_fn fn;
    void *user;
};

static int64_t remote_ms(const struct kei_meta_manager *mm)
{
    if (mm->conf.remote_ms)
        return mm->conf.remote_ms;
    return kei_meta_dialect(mm) == KE_DIALECT_1_4 ? REMOTE_1_4_MS : REMOTE_MS;
}

static void trip_free(struct trip *t)
{
    kei_list_remove(&t->link);
    ke_msg_unref(t->asked);
    kei_free(t->mm->alloc, t);
}

static void trip_end(struct trip *t, int status, const char *text, struct ke_msg *reply)
{
    kei_list_remove(&t->link);
    t->fn(t->mm, t->user, status, text, reply);
    trip_free(t);
}

static void on_reply(void *user, int status, struct ke_msg *reply)
{
    struct trip *t = user;
    char text[256];
    struct ke_str content;

    t->request = 0;
    if (status < 0) {
        snprintf(text, sizeof text, "the cloud gave no answer for %.180s",
                 ke_msg_resource(t->asked));
        trip_end(t, status, text, NULL);
        return;
    }
    if (strcmp(ke_msg_operation(reply), "error") == 0) {
        content.p = ke_msg_content(reply, &content.n);
        (void)kei_json_copy(text, sizeof text, content);
        trip_end(t, KE_ECLOSED, text, NULL);
        return;
    }
    trip_end(t, 0, "", reply);
}

/* asked under an id of its own: what comes back is ours alone. */
static int copy_of(struct kei_meta_manager *mm, const struct ke_msg *asked, struct ke_msg **ret)
{
    struct ke_msg_config c;

    ke_msg_config_init(&c, sizeof c);
    c.source = ke_msg_source(asked);
    c.group = ke_msg_group(asked);
    c.operation = ke_msg_operation(asked);
    c.resource = ke_msg_resource(asked);
    c.content = ke_msg_content(asked, &c.content_len);
    return ke_msg_new(ret, mm->ctx, &c, kei_err(mm->ctx));
}

int kei_ask_cloud(struct kei_meta_manager *mm, struct ke_msg *asked, kei_ask_fn fn, void *user)
{
    struct trip *t;
    struct ke_msg *m = NULL;
    int r;

    if (!kei_meta_connected(mm))
        return kei_fail(mm->ctx, KE_ECLOSED, "not connected to the cloud");
    t = kei_zalloc(mm->alloc, sizeof *t);
    if (!t)
        return kei_fail(mm->ctx, KE_ENOMEM, "out of memory for %s", ke_msg_resource(asked));
    *t = (struct trip){.mm = mm, .asked = ke_msg_ref(asked), .fn = fn, .user = user};
    r = copy_of(mm, asked, &m);
    if (r == 0)
        r = ke_router_request(mm->router, "websocket", m, remote_ms(mm), on_reply, t, &t->request);
    ke_msg_unref(m);
    if (r < 0) {
        trip_free(t);
        return r;
    }
    kei_list_add_tail(&mm->asks, &t->link);
    return 0;
}

static void end_trips(struct kei_meta_manager *mm, int status, const char *text)
{
    struct kei_link now;

    /* What is begun by those who are told stays for later. */
    kei_list_init(&now);
    while (!kei_list_empty(&mm->asks)) {
        struct kei_link *l = mm->asks.next;

        kei_list_remove(l);
        kei_list_add_tail(&now, l);
    }
    while (!kei_list_empty(&now)) {
        struct trip *t = KEI_OF(now.next, struct trip, link);

        ke_router_cancel(mm->router, t->request);
        trip_end(t, status, text, NULL);
    }
}

/* Whoever waits for a reply with user is not told any more. */
static void drop_trip(struct kei_meta_manager *mm, const void *user)
{
    KEI_LIST_EACH(l, &mm->asks)
    {
        struct trip *t = KEI_OF(l, struct trip, link);

        if (t->user != user)
            continue;
        ke_router_cancel(mm->router, t->request);
        trip_free(t);
        return;
    }
}

void kei_ask_link(struct kei_meta_manager *mm, bool up)
{
    if (!up)
        end_trips(mm, KE_ECLOSED, "the link to the cloud was lost");
}

void kei_ask_end_all(struct kei_meta_manager *mm)
{
    end_trips(mm, KE_ECANCELED, "the node stops");
}

/* ---- from the store ---- */

struct local {
    struct kei_meta_manager *mm;
    struct ke_msg *asked;
    char *otherwise; /* what to say if there is no row; NULL: not found */
    struct ke_buf list;
    bool some;
};

static struct local *local_new(struct kei_meta_manager *mm, struct ke_msg *asked,
                               const char *otherwise)
{
    struct local *l = kei_zalloc(mm->alloc, sizeof *l);

    if (!l)
        return NULL;
    l->otherwise = kei_strdup(mm->alloc, otherwise);
    if (otherwise && !l->otherwise) {
        kei_free(mm->alloc, l);
        return NULL;
    }
    l->mm = mm;
    l->asked = ke_msg_ref(asked);
    kei_buf_init(&l->list, mm->alloc);
    mm->refs++;
    return l;
}

static void local_free(struct local *l)
{
    struct kei_meta_manager *mm = l->mm;

    ke_msg_unref(l->asked);
    ke_buf_free(&l->list);
    kei_free(mm->alloc, l->otherwise);
    kei_free(mm->alloc, l);
    kei_meta_unref(mm);
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct local *l = user;

    if (l->mm->freed)
        ;
    else if (item)
        kei_meta_answer(l->mm, l->asked, kei_strn(item->value, item->len));
    else if (l->otherwise)
        kei_meta_answer_error(l->mm, l->asked, l->otherwise);
    else if (status == KE_ENOTFOUND)
        kei_meta_answer_not_found(l->mm, l->asked);
    else
        kei_meta_answer_error(l->mm, l->asked, ke_ctx_error(l->mm->ctx));
    local_free(l);
}

/* Answers from the store; otherwise (may be NULL) is the error when it has no such object. */
static void answer_local(struct kei_meta_manager *mm, struct ke_msg *asked, const char *otherwise)
{
    struct kei_resource res;
    struct kei_place place;
    struct local *l;
    int r;

    if (!kei_resource_parse(&res, kei_str(ke_msg_resource(asked))) ||
        !kei_place_of(&place, &res, res.type)) {
        kei_meta_answer_error(mm, asked, "the resource has no type or no name");
        return;
    }
    l = local_new(mm, asked, otherwise);
    if (!l) {
        kei_meta_answer_error(mm, asked, "out of memory");
        return;
    }
    r = ke_store_get(mm->store, place.bucket, place.key, on_row, l);
    if (r < 0) {
        kei_meta_answer_error(mm, asked, ke_ctx_error(mm->ctx));
        local_free(l);
    }
}

static void on_list_row(void *user, int status, const struct ke_store_item *item)
{
    struct local *l = user;

    if (item) {
        kei_buf_adds(&l->list, l->some ? "," : "[");
        kei_buf_add(&l->list, item->value, item->len);
        l->some = true;
        return;
    }
    if (!l->some)
        kei_buf_adds(&l->list, "[");
    kei_buf_adds(&l->list, "]");
    if (l->mm->freed)
        ;
    else if (status < 0 && status != KE_ENOTFOUND)
        kei_meta_answer_error(l->mm, l->asked, ke_ctx_error(l->mm->ctx));
    else if (!kei_buf_ok(&l->list))
        kei_meta_answer_error(l->mm, l->asked, "out of memory");
    else
        kei_meta_answer(l->mm, l->asked, kei_buf_str(&l->list));
    local_free(l);
}

/* All objects of a type, of every namespace, as an array. */
static void answer_list(struct kei_meta_manager *mm, struct ke_msg *asked,
                        const struct kei_resource *res)
{
    char bucket[256];
    struct local *l = local_new(mm, asked, NULL);
    int r;

    if (!l) {
        kei_meta_answer_error(mm, asked, "out of memory");
        return;
    }
    snprintf(bucket, sizeof bucket, "o/%.*s", (int)(res->type.n < 200 ? res->type.n : 200),
             res->type.p);
    r = ke_store_list(mm->store, bucket, NULL, 0, on_list_row, l);
    if (r < 0) {
        kei_meta_answer_error(mm, asked, ke_ctx_error(mm->ctx));
        local_free(l);
    }
}

/* ---- who answers a query ---- */

enum policy {
    LOCAL_ONLY,
    LOCAL_FIRST,
    REMOTE_FIRST, /* and the store's when the cloud cannot be asked */
    REMOTE_ONLY,
};

static enum policy policy_of(const struct kei_meta_manager *mm, struct ke_str type)
{
    uint32_t dialect = kei_meta_dialect(mm);
    bool object = kei_str_is(type, "configmap") || kei_str_is(type, "secret");

    if (kei_str_is(type, "pod") || kei_str_is(type, "podstatus"))
        return LOCAL_ONLY;
    if (kei_str_is(type, "lease"))
        return REMOTE_ONLY;
    if (!kei_meta_connected(mm))
        return LOCAL_ONLY;
    if (dialect == KE_DIALECT_1_23)
        return object || kei_str_is(type, "node") ? LOCAL_FIRST : REMOTE_FIRST;
    if (dialect == KE_DIALECT_1_4)
        return kei_str_is(type, "node") || kei_str_is(type, "volumeattachment") ? REMOTE_FIRST
                                                                                : LOCAL_FIRST;
    return REMOTE_FIRST;
}

/* What passes through without being kept: it changes with every beat, or is asked for once. */
static bool is_kept(struct ke_str type)
{
    return !kei_str_is(type, "lease") && !kei_str_is(type, "nodestatus") &&
           !kei_str_is(type, "serviceaccounttoken");
}

/* ---- the cloud's answer ---- */

/*
 * Who asks for an object that is being asked for already waits with it. It saves a round trip, and
 * it is needed: the cloud queues its replies by object, so that of two the later replaces the
 * earlier, which then never comes.
 */
struct asker {
    struct asker *next;
    struct ke_msg *m;
};

struct query {
    struct kei_link link; /* in mm->queries while its reply is awaited; is_query only */
    struct kei_meta_manager *mm;
    struct asker first;   /* and who joined it */
    struct ke_msg *reply; /* while its object is stored */
    int64_t asked_ms;
    bool is_query;
};

static void query_free(struct query *q)
{
    struct kei_meta_manager *mm = q->mm;

    kei_list_remove(&q->link);
    for (struct asker *a = q->first.next, *next; a; a = next) {
        next = a->next;
        ke_msg_unref(a->m);
        kei_free(mm->alloc, a);
    }
    ke_msg_unref(q->first.m);
    ke_msg_unref(q->reply);
    kei_free(mm->alloc, q);
    kei_meta_unref(mm);
}

static void answer(struct query *q, struct ke_str content)
{
    for (struct asker *a = &q->first; a; a = a->next)
        kei_meta_answer(q->mm, a->m, content);
}

static void answer_error(struct query *q, const char *text)
{
    for (struct asker *a = &q->first; a; a = a->next)
        kei_meta_answer_error(q->mm, a->m, text);
}

static void answer_stored(struct query *q, const char *otherwise)
{
    for (struct asker *a = &q->first; a; a = a->next)
        answer_local(q->mm, a->m, otherwise);
}

static bool is_asked(const struct query *q, const char *name)
{
    struct kei_resource res;
    struct kei_place place;

    return kei_resource_parse(&res, kei_str(ke_msg_resource(q->first.m))) &&
           kei_place_of(&place, &res, res.type) && strcmp(place.name, name) == 0;
}

static void on_answer(struct kei_meta_manager *mm, void *user, int status, const char *text,
                      struct ke_msg *reply);

/*
 * Somebody asks for what is being asked for already. A cloud of 1.4 never answers for what was not
 * there when it was asked: it is asked once more, if not too soon.
 */
static void ask_anew(struct query *q)
{
    struct kei_meta_manager *mm = q->mm;
    int64_t now = ke_ctx_mono_ms(mm->ctx);

    if (kei_meta_dialect(mm) != KE_DIALECT_1_4 || now - q->asked_ms < ANEW_1_4_MS)
        return;
    drop_trip(mm, q);
    q->asked_ms = now;
    if (kei_ask_cloud(mm, q->first.m, on_answer, q) == 0)
        return;
    answer_stored(q, ke_ctx_error(mm->ctx));
    query_free(q);
}

/* true: m waits with another query for the same object. */
static bool join(struct kei_meta_manager *mm, struct ke_msg *m)
{
    KEI_LIST_EACH(l, &mm->queries)
    {
        struct query *q = KEI_OF(l, struct query, link);
        struct asker *a;

        if (strcmp(ke_msg_resource(q->first.m), ke_msg_resource(m)) != 0)
            continue;
        a = kei_zalloc(mm->alloc, sizeof *a);
        if (!a)
            return false; /* a query of its own may have more luck */
        a->m = ke_msg_ref(m);
        a->next = q->first.next;
        q->first.next = a;
        ask_anew(q);
        return true;
    }
    return false;
}

void kei_ask_arrived(struct kei_meta_manager *mm, const char *name)
{
    KEI_LIST_EACH_SAFE(l, next, &mm->queries)
    {
        struct query *q = KEI_OF(l, struct query, link);

        if (!is_asked(q, name))
            continue;
        drop_trip(mm, q);
        answer_stored(q, NULL);
        query_free(q);
    }
}

static void ack_if_due(struct kei_meta_manager *mm, struct ke_msg *reply)
{
    if (kei_msg_needs_ack(reply, kei_meta_dialect(mm)))
        kei_meta_ack(mm, reply);
}

static struct ke_str content_of(const struct ke_msg *m)
{
    struct ke_str s;

    s.p = ke_msg_content(m, &s.n);
    return s;
}

static void on_kept(void *user, int status)
{
    struct query *q = user;
    struct kei_meta_manager *mm = q->mm;
    struct kei_reply r;

    kei_reply_read(&r, content_of(q->reply));
    if (!mm->freed && status == 0)
        ack_if_due(mm, q->reply);
    if (!mm->freed && status < 0)
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "%s could not be kept: %s",
                ke_msg_resource(q->first.m), ke_ctx_error(mm->ctx));
    if (!mm->freed)
        answer(q, r.object);
    query_free(q);
}

/* Keeps the object, then answers. true: on_kept follows, q is its. */
static bool keep(struct query *q, const struct kei_reply *r)
{
    struct kei_meta_manager *mm = q->mm;
    enum kei_verdict verdict = KEI_VERDICT_ECHO;
    struct kei_resource res;
    int e;

    if (kei_json_type(r->object) != '{' ||
        !kei_resource_parse(&res, kei_str(ke_msg_resource(q->first.m))) || !is_kept(res.type)) {
        ack_if_due(mm, q->reply);
        answer(q, r->object);
        return false;
    }
    e = kei_objects_keep(mm, &res, res.type, r->object, ke_msg_timestamp_ms(q->reply), &verdict,
                         on_kept, q);
    if (e == 0 && verdict == KEI_VERDICT_NEW)
        return true;
    if (e < 0)
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "%s could not be kept: %s",
                ke_msg_resource(q->first.m), ke_ctx_error(mm->ctx));
    else
        ack_if_due(mm, q->reply);
    /* Something later came while the answer was on its way: that is the answer. */
    if (e == 0 && verdict == KEI_VERDICT_STALE && q->is_query)
        answer_stored(q, NULL);
    else
        answer(q, r->object);
    return false;
}

static void on_error(struct query *q, const struct kei_reply *r)
{
    struct kei_meta_manager *mm = q->mm;
    struct kei_resource res;

    ack_if_due(mm, q->reply);
    /* "Not there" is an answer; "cannot say" is not, as long as the store can. */
    if (q->is_query && strcmp(r->reason, "NotFound") != 0 &&
        kei_resource_parse(&res, kei_str(ke_msg_resource(q->first.m))) &&
        policy_of(mm, res.type) != REMOTE_ONLY)
        answer_stored(q, r->text);
    else
        answer(q, content_of(q->reply));
}

static void on_answer(struct kei_meta_manager *mm, void *user, int status, const char *text,
                      struct ke_msg *reply)
{
    struct query *q = user;
    struct kei_reply r;

    kei_list_remove(&q->link); /* who asks from now on wants a newer answer */
    if (mm->freed) {
        answer_error(q, text);
    } else if (status < 0) {
        if (q->is_query)
            answer_stored(q, text);
        else
            answer_error(q, text);
    } else {
        q->reply = ke_msg_ref(reply);
        kei_reply_read(&r, content_of(reply));
        if (r.kind == KEI_REPLY_ERROR) {
            on_error(q, &r);
        } else if (r.kind == KEI_REPLY_OK) {
            ack_if_due(mm, reply);
            answer(q, content_of(reply));
        } else if (keep(q, &r)) {
            return;
        }
    }
    query_free(q);
}

static void answer_remote(struct kei_meta_manager *mm, struct ke_msg *asked, bool is_query)
{
    struct query *q;
    int r;

    if (is_query && join(mm, asked))
        return;
    q = kei_zalloc(mm->alloc, sizeof *q);
    if (!q) {
        kei_meta_answer_error(mm, asked, "out of memory");
        return;
    }
    *q = (struct query){.mm = mm,
                        .first.m = ke_msg_ref(asked),
                        .asked_ms = ke_ctx_mono_ms(mm->ctx),
                        .is_query = is_query};
    if (is_query)
        kei_list_add_tail(&mm->queries, &q->link);
    mm->refs++;
    r = kei_ask_cloud(mm, asked, on_answer, q);
    if (r < 0) {
        kei_meta_answer_error(mm, asked, ke_ctx_error(mm->ctx));
        query_free(q);
    }
}

static void on_first_row(void *user, int status, const struct ke_store_item *item)
{
    struct local *l = user;

    (void)status;
    if (l->mm->freed)
        ;
    else if (item)
        kei_meta_answer(l->mm, l->asked, kei_strn(item->value, item->len));
    else
        answer_remote(l->mm, l->asked, true);
    local_free(l);
}

static void answer_local_first(struct kei_meta_manager *mm, struct ke_msg *asked,
                               const struct kei_resource *res)
{
    struct kei_place place;
    struct local *l = NULL;

    if (kei_place_of(&place, res, res->type))
        l = local_new(mm, asked, NULL);
    if (l && ke_store_get(mm->store, place.bucket, place.key, on_first_row, l) == 0)
        return;
    if (l)
        local_free(l);
    answer_remote(mm, asked, true);
}

/* ---- requests ---- */

static void take_query(struct kei_meta_manager *mm, struct ke_msg *m,
                       const struct kei_resource *res)
{
    if (kei_str_is(res->type, "serviceaccounttoken")) {
        kei_token_take(mm, m);
        return;
    }
    if (res->name.n == 0) {
        answer_list(mm, m, res);
        return;
    }
    switch (policy_of(mm, res->type)) {
    case LOCAL_ONLY:
        answer_local(mm, m, NULL);
        return;
    case LOCAL_FIRST:
        answer_local_first(mm, m, res);
        return;
    case REMOTE_FIRST:
    case REMOTE_ONLY:
        answer_remote(mm, m, true);
        return;
    }
}

void kei_ask_take(struct kei_meta_manager *mm, struct ke_msg *m)
{
    const char *op = ke_msg_operation(m);
    struct kei_resource res;

    if (!kei_resource_parse(&res, kei_str(ke_msg_resource(m)))) {
        kei_meta_answer_error(mm, m, "the resource has no type");
        return;
    }
    if (strcmp(op, "query") == 0)
        take_query(mm, m, &res);
    else if (kei_str_is(res.type, "podstatus") ||
             (strcmp(op, "delete") == 0 && kei_str_is(res.type, "pod")))
        kei_report_take(mm, m);
    else
        answer_remote(mm, m, false);
}
