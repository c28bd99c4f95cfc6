/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The module: which message goes to which part, who is answered and told. Owns the index and what
 * waits. Loop thread.
 */
#include <stdio.h>

#include "base/log.h"
#include "meta/meta_priv.h"

#define CLOUD "websocket"
#define RETRY_MS 100 /* a module without room is tried again */
#define RELOAD_MS 1000

/* A message that waits. */
struct held {
    struct kei_link link;
    struct ke_msg *m;
    const char *module; /* static */
};

void kei_meta_unref(struct kei_meta_manager *mm)
{
    if (--mm->refs > 0)
        return;
    kei_free(mm->alloc, mm->node_name);
    kei_free(mm->alloc, mm);
}

bool kei_meta_connected(const struct kei_meta_manager *mm)
{
    return mm->conf.connected && mm->conf.connected(mm->conf.user);
}

uint32_t kei_meta_dialect(const struct kei_meta_manager *mm)
{
    return mm->conf.dialect ? mm->conf.dialect(mm->conf.user) : KE_DIALECT_AUTO;
}

/* ---- waiting ---- */

static bool hold(struct kei_meta_manager *mm, struct kei_link *list, struct ke_msg *m,
                 const char *module)
{
    struct held *h = kei_zalloc(mm->alloc, sizeof *h);

    if (!h)
        return false;
    h->m = ke_msg_ref(m);
    h->module = module;
    kei_list_add_tail(list, &h->link);
    return true;
}

static void release(struct kei_meta_manager *mm, struct held *h)
{
    kei_list_remove(&h->link);
    ke_msg_unref(h->m);
    kei_free(mm->alloc, h);
}

static void release_all(struct kei_meta_manager *mm, struct kei_link *list)
{
    while (!kei_list_empty(list))
        release(mm, KEI_OF(list->next, struct held, link));
}

/* ---- telling ---- */

int kei_meta_send_up(struct kei_meta_manager *mm, struct ke_msg *m)
{
    return ke_router_send(mm->router, CLOUD, m, kei_err(mm->ctx));
}

void kei_meta_ack(struct kei_meta_manager *mm, struct ke_msg *m)
{
    struct ke_msg *ok = NULL;
    int r = ke_msg_new_reply(&ok, mm->ctx, m, "\"OK\"", 4, kei_err(mm->ctx));

    if (r == 0)
        r = kei_meta_send_up(mm, ok);
    /* The cloud sends it again, and then it is known. */
    if (r < 0 && r != KE_ENOTFOUND)
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "%s was not acknowledged: %s", ke_msg_resource(m),
                ke_ctx_error(mm->ctx));
    ke_msg_unref(ok);
}

/* Who is told of what; a module that is not there is passed over. */
static const struct {
    const char *type;
    const char *name; /* begins with; NULL: any */
    const char *module;
} listeners[] = {
    {"pod", NULL, "edged"},
    {"configmap", NULL, "edged"},
    {"secret", NULL, "edged"},
    {"configmap", "device-profile-config-",
     "devicemanager"}, /* how clouds of 1.4 tell of devices */
    {"device", NULL, "devicetwin"},
    {"device", NULL, "devicemanager"},
    {"device", NULL, "dmi"},
    {"devicemodel", NULL, "devicemanager"},
    {"devicemodel", NULL, "dmi"},
};

static void tell(struct kei_meta_manager *mm, struct ke_msg *m, const char *module)
{
    int r = mm->n_untold ? KE_ELIMIT : ke_router_send(mm->router, module, m, kei_err(mm->ctx));

    if (r == 0 || r == KE_ENOTFOUND)
        return;
    if (hold(mm, &mm->untold, m, module)) {
        mm->n_untold++;
        (void)kei_timer_in(&mm->retry, RETRY_MS);
    } else {
        kei_log(mm->ctx, KE_LOG_ERROR, "meta", "module %s was not told of %s %s: out of memory",
                module, ke_msg_operation(m), ke_msg_resource(m));
    }
}

void kei_meta_tell_object(struct kei_meta_manager *mm, struct ke_msg *m)
{
    struct kei_resource res;

    if (!kei_resource_parse(&res, kei_str(ke_msg_resource(m))))
        return;
    for (size_t i = 0; i < sizeof listeners / sizeof listeners[0]; i++) {
        const char *begin = listeners[i].name;

        if (kei_str_is(res.type, listeners[i].type) &&
            (!begin || kei_str_starts(res.name, kei_str(begin))))
            tell(mm, m, listeners[i].module);
    }
    if (kei_str_is(res.type, "node") && kei_str_is(res.name, mm->node_name))
        tell(mm, m, "edgednode");
}

static void on_retry(struct kei_timer *t)
{
    struct kei_meta_manager *mm = KEI_OF(t, struct kei_meta_manager, retry);

    while (!kei_list_empty(&mm->untold)) {
        struct held *h = KEI_OF(mm->untold.next, struct held, link);
        int r = ke_router_send(mm->router, h->module, h->m, kei_err(mm->ctx));

        if (r < 0 && r != KE_ENOTFOUND) {
            (void)kei_timer_in(&mm->retry, RETRY_MS);
            return;
        }
        release(mm, h);
        mm->n_untold--;
    }
}

/* ---- answering ---- */

static void answer(struct kei_meta_manager *mm, struct ke_msg *asked, const char *operation,
                   struct ke_str content)
{
    struct ke_msg_config c;
    struct ke_msg *m = NULL;
    struct ke_error err = KE_ERROR_INIT;
    int r;

    ke_msg_config_init(&c, sizeof c);
    c.parent_id = ke_msg_id(asked);
    c.source = "metamanager";
    c.group = ke_msg_group(asked);
    c.operation = operation;
    c.resource = ke_msg_resource(asked);
    c.content = content.p;
    c.content_len = content.n;
    r = ke_msg_new(&m, mm->ctx, &c, &err);
    if (r == 0)
        r = ke_router_respond(mm->router, m, &err);
    if (r < 0 && r != KE_ENOTFOUND)
        kei_log(mm->ctx, KE_LOG_WARN, "meta", "%s %s was not answered: %s", ke_msg_operation(asked),
                ke_msg_resource(asked), err.text);
    ke_msg_unref(m);
}

void kei_meta_answer(struct kei_meta_manager *mm, struct ke_msg *asked, struct ke_str content)
{
    answer(mm, asked, "response", content);
}

void kei_meta_answer_error(struct kei_meta_manager *mm, struct ke_msg *asked, const char *text)
{
    struct ke_buf json;
    struct kei_jw w;

    kei_buf_init(&json, mm->alloc);
    kei_jw_init(&w, &json);
    kei_jw_str(&w, text);
    answer(mm, asked, "error", kei_buf_ok(&json) ? kei_buf_str(&json) : KEI_STR("\"error\""));
    ke_buf_free(&json);
}

void kei_meta_answer_not_found(struct kei_meta_manager *mm, struct ke_msg *asked)
{
    struct kei_resource res = {{NULL, 0}, {"", 0}, {"", 0}};
    struct kei_arena arena;
    const char *type, *name;
    struct ke_buf json;

    (void)kei_resource_parse(&res, kei_str(ke_msg_resource(asked)));
    kei_arena_init(&arena, mm->alloc, 4096);
    kei_buf_init(&json, mm->alloc);
    type = kei_arena_strdup(&arena, res.type);
    name = kei_arena_strdup(&arena, res.name);
    kei_errstatus_write(&json, "NotFound", 404, type ? type : "", name ? name : "", NULL);
    if (kei_buf_ok(&json))
        answer(mm, asked, "response", kei_buf_str(&json));
    else
        kei_meta_answer_error(mm, asked, "not found");
    ke_buf_free(&json);
    kei_arena_free(&arena);
}

/* ---- which part ---- */

static void on_link(struct kei_meta_manager *mm, struct ke_msg *m)
{
    struct ke_str content;
    bool up;

    content.p = ke_msg_content(m, &content.n);
    up = kei_json_str_is(content, "cloud_connected");
    kei_ask_link(mm, up);
    kei_report_link(mm, up);
}

static bool is_change(const char *op)
{
    return strcmp(op, "insert") == 0 || strcmp(op, "update") == 0 || strcmp(op, "delete") == 0;
}

static void dispatch(struct kei_meta_manager *mm, struct ke_msg *m)
{
    const char *op = ke_msg_operation(m);

    if (strcmp(ke_msg_group(m), "meta") == 0)
        kei_ask_take(mm, m);
    else if (strcmp(op, "response") == 0)
        kei_objects_take_late(mm, m);
    else if (is_change(op))
        kei_objects_take(mm, m);
    else
        kei_log(mm->ctx, KE_LOG_DEBUG, "meta", "%s %s of %s is nothing for this module", op,
                ke_msg_resource(m), ke_msg_source(m));
}

static void on_message(void *user, struct ke_msg *m)
{
    struct kei_meta_manager *mm = user;
    bool local = strcmp(ke_msg_group(m), "meta") == 0;

    if (local && strcmp(ke_msg_operation(m), "connect") == 0) {
        on_link(mm, m);
        return;
    }
    /* Questions that the store answers need no index: pods start before it is read. */
    if (mm->loaded ||
        (local && strcmp(ke_msg_operation(m), "query") == 0 && !kei_meta_connected(mm))) {
        dispatch(mm, m);
        return;
    }
    if (mm->n_early < KEI_META_HELD_MAX && hold(mm, &mm->early, m, NULL)) {
        mm->n_early++;
        return;
    }
    kei_meta_answer_error(mm, m, "too many messages wait for the store to be read");
}

/* ---- reading the index ---- */

static int load_row(struct kei_meta_manager *mm, const struct ke_store_item *item)
{
    struct ke_str bucket = kei_str(item->bucket), value = {item->value, item->len};
    char name[KEI_META_KEY_MAX];
    int n;

    if (kei_str_is(bucket, "applied"))
        return kei_index_load_applied(&mm->index, kei_str(item->key), item->version, value);
    if (!kei_str_starts(bucket, KEI_STR("o/")) || kei_str_is(bucket, "o/podstatus") ||
        kei_str_is(bucket, "o/serviceaccounttoken"))
        return 0;
    n = snprintf(name, sizeof name, "%s %s", item->bucket + 2, item->key);
    if (n < 0 || (size_t)n >= sizeof name)
        return 0;
    return kei_index_load_object(&mm->index, kei_strn(name, (size_t)n), kei_str(item->uid),
                                 item->version, value);
}

static void loaded(struct kei_meta_manager *mm)
{
    kei_index_loaded(&mm->index);
    mm->loaded = true;
    while (!kei_list_empty(&mm->early) && !mm->freed) {
        struct held *h = KEI_OF(mm->early.next, struct held, link);

        dispatch(mm, h->m);
        release(mm, h);
        mm->n_early--;
    }
}

/* With half an index a deletion would be acknowledged that found nothing to delete. */
static void load_again(struct kei_meta_manager *mm, int status)
{
    kei_log(mm->ctx, KE_LOG_WARN, "meta", "what was applied could not be read: %s; tried again",
            ke_strerror(status));
    (void)kei_timer_in(&mm->reload, RELOAD_MS); /* init reserved the slot */
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct kei_meta_manager *mm = user;

    if (item) {
        if (!mm->freed && mm->load_status == 0)
            mm->load_status = load_row(mm, item);
        return;
    }
    if (status < 0 && status != KE_ENOTFOUND && mm->load_status == 0)
        mm->load_status = status;
    if (!mm->freed && mm->load_status == 0)
        loaded(mm);
    else if (!mm->freed)
        load_again(mm, mm->load_status);
    kei_meta_unref(mm);
}

static int load(struct kei_meta_manager *mm)
{
    int r;

    mm->refs++;
    r = ke_store_list(mm->store, NULL, NULL, 0, on_row, mm);
    if (r < 0)
        mm->refs--;
    return r;
}

static void on_reload(struct kei_timer *t)
{
    struct kei_meta_manager *mm = KEI_OF(t, struct kei_meta_manager, reload);
    int r;

    kei_index_fini(&mm->index);
    kei_index_init(&mm->index, mm->alloc, kei_ctx_random64(mm->ctx), kei_ctx_random64(mm->ctx));
    mm->load_status = 0;
    r = load(mm);
    if (r < 0)
        load_again(mm, r);
}

/* ---- life ---- */

int kei_meta_new(struct kei_meta_manager **ret, struct ke_ctx *ctx, struct ke_router *router,
                 struct ke_store *store, const struct kei_meta_config *c)
{
    static const struct ke_module_ops ops = {.size = sizeof ops, .message = on_message};
    const struct ke_alloc *a = kei_ctx_alloc(ctx);
    struct kei_meta_manager *mm = kei_zalloc(a, sizeof *mm);
    int r;

    if (!mm)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the metamanager");
    mm->ctx = ctx;
    mm->alloc = a;
    mm->router = router;
    mm->store = store;
    mm->conf = *c;
    mm->refs = 1;
    mm->node_name = kei_strdup(a, c->node_name);
    mm->conf.node_name = mm->node_name;
    kei_list_init(&mm->early);
    kei_list_init(&mm->untold);
    kei_list_init(&mm->asks);
    kei_list_init(&mm->queries);
    kei_index_init(&mm->index, a, kei_ctx_random64(ctx), kei_ctx_random64(ctx));
    kei_timer_init(ctx, &mm->retry, on_retry);
    kei_timer_init(ctx, &mm->reload, on_reload);
    kei_report_init(mm);
    r = mm->node_name ? ke_router_add(&mm->module, router, "metamanager", "meta", &ops, mm)
                      : kei_fail(ctx, KE_ENOMEM, "out of memory for the metamanager");
    if (r == 0)
        r = load(mm);
    if (r < 0) {
        kei_meta_free(mm);
        return r;
    }
    *ret = mm;
    return 0;
}

int64_t kei_meta_newest(const struct kei_meta_manager *mm)
{
    return mm->loaded ? kei_index_newest(&mm->index) : -1;
}

void kei_meta_free(struct kei_meta_manager *mm)
{
    if (!mm)
        return;
    mm->freed = true;
    ke_module_remove(mm->module);
    kei_ask_end_all(mm);
    kei_timer_fini(&mm->retry);
    kei_timer_fini(&mm->reload);
    kei_timer_fini(&mm->resync);
    release_all(mm, &mm->early);
    release_all(mm, &mm->untold);
    kei_index_fini(&mm->index);
    kei_meta_unref(mm);
}
