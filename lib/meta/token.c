/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Service account tokens: kept per pod, account, audiences and life, used until a fifth of their
 * life is left or they are a day old, deleted with their pod. A token that is due is still used
 * while the cloud cannot be asked, until it expires. Loop thread.
 *
 * Rows in bucket o/serviceaccounttoken: key "POD_UID/NS/ACCOUNT/DIGEST", value the TokenRequest.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/codec.h"
#include "base/log.h"
#include "meta/meta_priv.h"
#include "store/sum.h"

#define BUCKET "o/serviceaccounttoken"
#define DAY_MS INT64_C(86400000)

struct token {
    struct kei_meta_manager *mm;
    struct ke_msg *asked;
    struct ke_msg *reply;
    struct ke_buf kept; /* the row that was found, if it has not expired */
    char key[KEI_META_KEY_MAX];
};

static void token_free(struct token *t)
{
    struct kei_meta_manager *mm = t->mm;

    if (t->kept.p)
        explicit_bzero(t->kept.p, t->kept.n);
    ke_buf_free(&t->kept);
    ke_msg_unref(t->asked);
    ke_msg_unref(t->reply);
    kei_free(mm->alloc, t);
    kei_meta_unref(mm);
}

static struct ke_str content_of(const struct ke_msg *m)
{
    struct ke_str s;

    s.p = ke_msg_content(m, &s.n);
    return s;
}

/* "POD_UID/" before all else, so that all of a pod can be deleted by prefix. */
static bool make_key(struct token *t)
{
    struct ke_str request = content_of(t->asked), audiences = KEI_STR("null"), seconds = {"", 0};
    struct kei_arena arena;
    struct kei_resource res;
    struct ke_buf text;
    const char *pod;
    int n = -1;

    kei_arena_init(&arena, t->mm->alloc, 8192);
    kei_buf_init(&text, t->mm->alloc);
    (void)kei_json_path(request, "spec.audiences", &audiences);
    (void)kei_json_path(request, "spec.expirationSeconds", &seconds);
    pod = kei_json_path_str(request, "spec.boundObjectRef.uid", &arena);
    kei_buf_addv(&text, audiences);
    kei_buf_addc(&text, '\n');
    kei_buf_addv(&text, seconds);
    if (kei_buf_ok(&text) && kei_resource_parse(&res, kei_str(ke_msg_resource(t->asked)))) {
        n = snprintf(t->key, sizeof t->key, "%s/%.*s/%.*s/%016" PRIx64 "%016" PRIx64,
                     *pod ? pod : "-", KEI_FMT(res.ns), KEI_FMT(res.name),
                     kei_sum(0, text.p, text.n), kei_sum(1, text.p, text.n));
    }
    ke_buf_free(&text);
    kei_arena_free(&arena);
    return n > 0 && (size_t)n < sizeof t->key;
}

enum age { FRESH, DUE, EXPIRED };

static enum age age_of(struct ke_str row, int64_t now_ms)
{
    struct ke_str v;
    char text[64];
    int64_t expires, seconds = 3600, life, left;
    size_t n;

    if (!kei_json_path(row, "status.expirationTimestamp", &v))
        return EXPIRED;
    n = kei_json_copy(text, sizeof text, v);
    if (!kei_time_parse(kei_strn(text, n), &expires) || expires <= now_ms)
        return EXPIRED;
    if (kei_json_path(row, "spec.expirationSeconds", &v))
        (void)kei_json_i64(v, &seconds);
    if (seconds < 1 || seconds > INT64_MAX / 2000)
        return DUE;
    life = seconds * 1000;
    left = expires - now_ms;
    if (left < life / 5 || life - left > DAY_MS)
        return DUE;
    return FRESH;
}

static void on_kept(void *user, int status)
{
    struct token *t = user;
    struct kei_meta_manager *mm = t->mm;

    if (!mm->freed) {
        if (status < 0)
            kei_log(mm->ctx, KE_LOG_WARN, "meta", "a token of %s could not be kept: %s",
                    ke_msg_resource(t->asked), ke_ctx_error(mm->ctx));
        if (kei_msg_needs_ack(t->reply, kei_meta_dialect(mm)))
            kei_meta_ack(mm, t->reply);
        kei_meta_answer(mm, t->asked, content_of(t->reply));
    }
    token_free(t);
}

static int keep(struct token *t, struct ke_str object)
{
    struct ke_store_tx *tx = NULL;
    size_t uid = strcspn(t->key, "/");
    char *pod = kei_strndup(t->mm->alloc, t->key, uid);
    int r = pod ? ke_store_begin(&tx, t->mm->store) : KE_ENOMEM;

    if (r == 0)
        r = ke_store_put(tx, BUCKET, t->key, pod, 0, object.p, object.n);
    kei_free(t->mm->alloc, pod);
    if (r == 0)
        return ke_store_commit(tx, on_kept, t);
    ke_store_abort(tx);
    return r;
}

static void on_answer(struct kei_meta_manager *mm, void *user, int status, const char *text,
                      struct ke_msg *reply)
{
    struct token *t = user;
    struct kei_reply r = {.kind = KEI_REPLY_ERROR};

    if (status == 0) {
        t->reply = ke_msg_ref(reply);
        kei_reply_read(&r, content_of(reply));
    }
    if (!mm->freed && r.kind == KEI_REPLY_OBJECT && kei_json_type(r.object) == '{' &&
        keep(t, r.object) == 0)
        return;
    if (!mm->freed && status == 0 && kei_msg_needs_ack(reply, kei_meta_dialect(mm)))
        kei_meta_ack(mm, reply);
    if (r.kind == KEI_REPLY_OBJECT)
        kei_meta_answer(mm, t->asked, r.object);
    else if (t->kept.n > 0)
        kei_meta_answer(mm, t->asked, kei_buf_str(&t->kept));
    else if (status == 0)
        kei_meta_answer(mm, t->asked, content_of(reply));
    else
        kei_meta_answer_error(mm, t->asked, text);
    token_free(t);
}

static void ask(struct token *t)
{
    struct kei_meta_manager *mm = t->mm;

    if (kei_ask_cloud(mm, t->asked, on_answer, t) == 0)
        return;
    if (t->kept.n > 0)
        kei_meta_answer(mm, t->asked, kei_buf_str(&t->kept));
    else
        kei_meta_answer_error(mm, t->asked, ke_ctx_error(mm->ctx));
    token_free(t);
}

static void on_row(void *user, int status, const struct ke_store_item *item)
{
    struct token *t = user;
    struct kei_meta_manager *mm = t->mm;
    struct ke_str row = {item ? item->value : "", item ? item->len : 0};
    enum age age = item ? age_of(row, ke_ctx_real_ms(mm->ctx)) : EXPIRED;

    (void)status;
    if (mm->freed) {
        token_free(t);
        return;
    }
    if (age == FRESH) {
        kei_meta_answer(mm, t->asked, row);
        token_free(t);
        return;
    }
    if (age == DUE) {
        kei_buf_addv(&t->kept, row);
        if (!kei_buf_ok(&t->kept))
            kei_buf_clear(&t->kept);
    }
    ask(t);
}

void kei_token_take(struct kei_meta_manager *mm, struct ke_msg *m)
{
    struct token *t = kei_zalloc(mm->alloc, sizeof *t);
    int r;

    if (!t) {
        kei_meta_answer_error(mm, m, "out of memory");
        return;
    }
    t->mm = mm;
    t->asked = ke_msg_ref(m);
    kei_buf_init(&t->kept, mm->alloc);
    mm->refs++;
    r = make_key(t) ? ke_store_get(mm->store, BUCKET, t->key, on_row, t)
                    : kei_fail(mm->ctx, KE_EINVAL, "the token request is malformed");
    if (r < 0) {
        kei_meta_answer_error(mm, m, ke_ctx_error(mm->ctx));
        token_free(t);
    }
}

int kei_token_delete(struct ke_store_tx *tx, const char *pod_uid)
{
    char prefix[KEI_META_KEY_MAX];
    int n = snprintf(prefix, sizeof prefix, "%s/", pod_uid);

    if (n < 0 || (size_t)n >= sizeof prefix)
        return 0;
    return ke_store_delete_prefix(tx, BUCKET, prefix);
}
