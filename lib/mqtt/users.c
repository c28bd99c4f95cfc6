/* SPDX-License-Identifier: Apache-2.0 */
/* See users.h: secrets, the table of users, and the text of a password file. Loop thread. */
#include "mqtt/users.h"

#include "base/loop.h"
#include "crypto/crypto.h"

/* ---- secrets ---- */

int kei_proofs_init(struct kei_proofs *p, struct ke_ctx *ctx)
{
    p->epoch = 0;
    return kei_ctx_random(ctx, p->key, sizeof p->key);
}

void kei_secret_fini(struct kei_secret *s, const struct ke_alloc *a)
{
    kei_free(a, s->hash);
    kei_free(a, s->before);
    explicit_bzero(s, sizeof *s);
}

static void prove(const struct kei_secret *s, const struct kei_proofs *p, struct ke_str password,
                  uint8_t out[32])
{
    struct {
        uint64_t epoch;
        uint8_t sum[32];
    } text = {.epoch = s->epoch}; /* no padding in it */
    kei_sha256(password.p, password.n, text.sum);
    kei_hmac_sha256(p->key, sizeof p->key, &text, sizeof text, out);
    explicit_bzero(&text, sizeof text);
}

void kei_secret_take(struct kei_secret *s, struct kei_proofs *p, const struct ke_alloc *a,
                     char *hash)
{
    kei_secret_fini(s, a);
    s->hash = hash;
    s->epoch = ++p->epoch;
}

const char *kei_secret_kept(const struct kei_secret *s)
{
    return s->hash && s->hash[0] ? s->hash : s->before;
}

int kei_secret_set(struct kei_secret *s, struct kei_proofs *p, const struct ke_alloc *a,
                   struct ke_str password, const struct kei_secret *before)
{
    struct kei_secret fresh = {.hash = kei_strdup(a, "")};
    const char *kept = before ? kei_secret_kept(before) : NULL;
    fresh.before = kei_strdup(a, kept);
    if (!fresh.hash || (kept && !fresh.before)) {
        kei_secret_fini(&fresh, a);
        return KE_ENOMEM;
    }
    fresh.epoch = ++p->epoch;
    kei_secret_proven(&fresh, p, password);
    kei_secret_fini(s, a);
    *s = fresh;
    return 0;
}

int kei_secret_copy(struct kei_secret *to, const struct kei_secret *from, const struct ke_alloc *a)
{
    struct kei_secret fresh = *from;
    fresh.hash = kei_strdup(a, from->hash);
    fresh.before = kei_strdup(a, from->before);
    if ((from->hash && !fresh.hash) || (from->before && !fresh.before)) {
        kei_secret_fini(&fresh, a);
        return KE_ENOMEM;
    }
    kei_secret_fini(to, a);
    *to = fresh;
    return 0;
}

int kei_secret_made(struct kei_secret *s, const struct ke_alloc *a, const char *hash)
{
    char *copy = kei_strdup(a, hash);
    if (!copy)
        return KE_ENOMEM;
    kei_free(a, s->hash);
    kei_free(a, s->before);
    s->hash = copy;
    s->before = NULL;
    return 0;
}

enum kei_proof kei_secret_ask(const struct kei_secret *s, const struct kei_proofs *p,
                              struct ke_str password)
{
    uint8_t proof[32];
    if (!s->hash)
        return KEI_PROOF_NO;
    if (!s->proven)
        return s->hash[0] ? KEI_PROOF_UNKNOWN : KEI_PROOF_NO;
    prove(s, p, password, proof);
    return kei_equal_ct(proof, s->proof, sizeof proof) ? KEI_PROOF_YES : KEI_PROOF_NO;
}

void kei_secret_proven(struct kei_secret *s, const struct kei_proofs *p, struct ke_str password)
{
    prove(s, p, password, s->proof);
    s->proven = true;
}

/* ---- the table ---- */

void kei_users_init(struct kei_users *u, const struct ke_alloc *a, struct kei_proofs *proofs,
                    uint64_t seed)
{
    memset(u, 0, sizeof *u);
    u->alloc = a;
    u->proofs = proofs;
    kei_map_init(&u->map, a, seed);
    kei_list_init(&u->list);
}

static void user_free(struct kei_users *u, struct kei_user *x)
{
    kei_list_remove(&x->link);
    kei_secret_fini(&x->secret, u->alloc);
    kei_free(u->alloc, x->name);
    kei_free(u->alloc, x);
}

void kei_users_fini(struct kei_users *u)
{
    if (!u->alloc)
        return;
    KEI_LIST_EACH_SAFE(l, tmp, &u->list)
    user_free(u, KEI_OF(l, struct kei_user, link));
    kei_map_free(&u->map);
    memset(u, 0, sizeof *u);
}

struct kei_user *kei_users_find(const struct kei_users *u, struct ke_str name)
{
    return kei_map_get(&u->map, name);
}

int kei_users_add(struct kei_users *u, struct ke_str name, struct kei_user **ret,
                  struct ke_error *err)
{
    struct kei_user *x = kei_users_find(u, name);
    if (x) {
        *ret = x;
        return 0;
    }
    if (name.n > KEI_USER_NAME_MAX || !kei_utf8_valid(name))
        return kei_error(err, KE_EINVAL, "a user name is over %u bytes or no UTF-8 text",
                         KEI_USER_NAME_MAX);
    if (u->n >= KEI_USERS_MAX)
        return kei_error(err, KE_ELIMIT, "there are over %u users", KEI_USERS_MAX);
    x = kei_zalloc(u->alloc, sizeof *x);
    if (x)
        x->name = kei_strndup(u->alloc, name.p, name.n);
    if (!x || !x->name || kei_map_put(&u->map, name, x, NULL) < 0) {
        if (x)
            kei_free(u->alloc, x->name);
        kei_free(u->alloc, x);
        return kei_error(err, KE_ENOMEM, "out of memory for user %.*s", KEI_FMT(name));
    }
    x->n = name.n;
    kei_list_add_tail(&u->list, &x->link);
    u->n++;
    *ret = x;
    return 0;
}

void kei_users_remove(struct kei_users *u, struct kei_user *x)
{
    kei_map_remove(&u->map, kei_strn(x->name, x->n));
    user_free(u, x);
    u->n--;
}

/* Why a line lets nobody in, or NULL. */
static const char *read_line(struct ke_str line, struct ke_str *name, struct ke_str *hash)
{
    uint32_t iterations;
    if (line.n > KEI_USER_LINE_MAX)
        return "the line is too long";
    *name = kei_str_trim(kei_str_cut(line, ':', hash));
    if (!hash->p)
        return "it is no \"name:hash\"";
    *hash = kei_str_trim(kei_str_cut(*hash, ':', &line));
    if (name->n == 0 || name->p[0] == '#')
        return "the user name is empty, or begins with '#'";
    if (name->n > KEI_USER_NAME_MAX || !kei_utf8_valid(*name))
        return "the user name is too long or no UTF-8 text";
    if (!kei_password_form(*hash, &iterations))
        return "the password is no hash of mosquitto_passwd ($6$ or $7$, up to 1,000,000 "
               "iterations)";
    return NULL;
}

int kei_users_parse(struct kei_users *u, struct ke_str text,
                    void (*skipped)(void *user, uint32_t line, const char *why), void *user,
                    struct ke_error *err)
{
    for (uint32_t n = 1; text.p; n++) {
        struct ke_str name, hash, line = kei_str_cut(text, '\n', &text);
        if (kei_str_trim(line).n == 0 || line.p[0] == '#')
            continue;
        const char *why = read_line(line, &name, &hash);
        if (why) {
            if (skipped)
                skipped(user, n, why);
            continue;
        }
        struct kei_user *x;
        int r = kei_users_add(u, name, &x, err);
        if (r < 0)
            return r;
        char *copy = kei_strndup(u->alloc, hash.p, hash.n);
        if (!copy)
            return kei_error(err, KE_ENOMEM, "out of memory for user %.*s", KEI_FMT(name));
        kei_secret_take(&x->secret, u->proofs, u->alloc, copy);
    }
    return 0;
}

static bool fits_line(struct ke_str name)
{
    return name.n > 0 && name.p[0] != '#' && !memchr(name.p, ':', name.n) &&
           !memchr(name.p, '\n', name.n) && kei_str_trim(name).n == name.n;
}

int kei_users_format(const struct kei_users *u, struct ke_buf *out, struct ke_error *err)
{
    KEI_LIST_EACH(l, &u->list)
    {
        const struct kei_user *x = KEI_OF(l, struct kei_user, link);
        if (!x->secret.hash || !x->secret.hash[0] || !fits_line(kei_strn(x->name, x->n)))
            continue;
        kei_buf_addf(out, "%s:%s\n", x->name, x->secret.hash);
    }
    return kei_buf_ok(out) ? 0 : kei_error(err, KE_ENOMEM, "out of memory for a password file");
}

void kei_users_inherit(struct kei_users *u, const struct kei_users *old)
{
    KEI_LIST_EACH(l, &u->list)
    {
        struct kei_user *x = KEI_OF(l, struct kei_user, link);
        const struct kei_user *was = kei_users_find(old, kei_strn(x->name, x->n));
        if (!was || !was->secret.hash || !x->secret.hash ||
            strcmp(was->secret.hash, x->secret.hash) != 0)
            continue;
        x->secret.epoch = was->secret.epoch;
        x->secret.proven = was->secret.proven;
        memcpy(x->secret.proof, was->secret.proof, sizeof x->secret.proof);
    }
}
