/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See users.h: hashing in slices on the disk worker. Between two slices it waits behind whatever
 * else the worker has, so a slow hash delays a commit by one slice. The job is the loop's but while
 * a slice runs.
 */
#include "base/loop.h"
#include "crypto/crypto.h"
#include "mqtt/users.h"

struct kei_hashing {
    struct kei_work work;
    struct ke_ctx *ctx;
    struct kei_password *password;
    kei_hashing_fn fn; /* NULL: canceled */
    void *user;
    bool make, over;
};

static void hashing_free(struct kei_hashing *h)
{
    kei_password_free(h->password);
    kei_free(kei_ctx_alloc(h->ctx), h);
}

static void run(struct kei_work *w)
{
    struct kei_hashing *h = KEI_OF(w, struct kei_hashing, work);
    h->over = kei_password_step(h->password, KEI_USER_SLICE);
}

static void done(struct kei_work *w)
{
    struct kei_hashing *h = KEI_OF(w, struct kei_hashing, work);
    struct ke_buf text;
    if (h->fn && !h->over && kei_work_submit(h->ctx, w, run, done) == 0)
        return;
    kei_buf_init(&text, kei_ctx_alloc(h->ctx));
    if (h->fn && h->over && h->make && kei_password_text(h->password, &text, NULL) < 0)
        kei_buf_clear(&text);
    if (h->fn)
        h->fn(h->user, h->over && !h->make && kei_password_same(h->password), text.n ? text.p : "");
    if (text.p)
        explicit_bzero(text.p, text.n);
    ke_buf_free(&text);
    hashing_free(h);
}

static int start(struct kei_hashing **ret, struct ke_ctx *ctx, struct kei_password *p, bool make,
                 kei_hashing_fn fn, void *user, struct ke_error *err)
{
    struct kei_hashing *h = kei_zalloc(kei_ctx_alloc(ctx), sizeof *h);
    int r = KE_ENOMEM;
    if (h) {
        *h = (struct kei_hashing){.ctx = ctx, .password = p, .fn = fn, .user = user, .make = make};
        r = kei_work_submit(ctx, &h->work, run, done);
    }
    if (r < 0) {
        kei_password_free(p);
        kei_free(kei_ctx_alloc(ctx), h);
        return kei_error(err, r, "a password could not be hashed: no memory, or no disk worker");
    }
    *ret = h;
    return 0;
}

int kei_hashing_check(struct kei_hashing **ret, struct ke_ctx *ctx, struct ke_str password,
                      struct ke_str hash, kei_hashing_fn fn, void *user, struct ke_error *err)
{
    struct kei_password *p;
    int r = kei_password_begin_check(&p, kei_ctx_alloc(ctx), password, hash, err);
    return r < 0 ? r : start(ret, ctx, p, false, fn, user, err);
}

int kei_hashing_make(struct kei_hashing **ret, struct ke_ctx *ctx, struct ke_str password,
                     uint32_t iterations, kei_hashing_fn fn, void *user, struct ke_error *err)
{
    struct kei_password *p;
    uint8_t salt[12]; /* as mosquitto_passwd makes it */
    int r = kei_ctx_random(ctx, salt, sizeof salt);
    if (r < 0)
        return kei_error(err, r, "no random salt for a password hash");
    r = kei_password_begin_hash(&p, kei_ctx_alloc(ctx), password, salt, sizeof salt, iterations,
                                err);
    return r < 0 ? r : start(ret, ctx, p, true, fn, user, err);
}

void kei_hashing_cancel(struct kei_hashing *h)
{
    if (h)
        h->fn = NULL;
}
