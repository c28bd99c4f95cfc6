/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See identity_access.h: who is let in. An attempt is judged from what is known at the moment; when
 * that needs a hash, the attempt is copied, the hash is computed, and it is judged again with what
 * was proven. Loop thread.
 */
#include "base/codec.h"
#include "crypto/crypto.h"
#include "mqtt/identity_access.h"

#define OK 0x00u
#define BAD_USER 0x86u
#define NOT_AUTHORIZED 0x87u
#define BUSY 0x89u

/* ---- judging ---- */

enum judgement { LET_IN, REFUSE, NEEDS_HASH };

struct judged {
    const struct kei_identity *id;
    const struct kei_user *user;
    enum kei_source source;
    struct kei_secret *secret; /* NEEDS_HASH */
    unsigned reason;           /* REFUSE */
};

/* What the client brings that an identity may ask for. sum, cn: room for texts. */
static void brings(struct kei_access_impl *a, const struct kei_access_login *l,
                   struct ke_str by[KEI_BY_N], char sum[65], struct kei_cert_info *info)
{
    struct kei_crypto *crypto;
    struct kei_cert *cert = NULL;
    memset(by, 0, KEI_BY_N * sizeof *by);
    by[KEI_BY_CLIENT] = l->client_id;
    if (l->has_user)
        by[KEI_BY_USER] = l->user_name;
    if (!l->cert.n)
        return;
    /* the bearer of a certificate has shown its key; who vouches for it matters for names only */
    uint8_t raw[32];
    kei_sha256(l->cert.p, l->cert.n, raw);
    kei_hex_encode(sum, raw, sizeof raw);
    by[KEI_BY_SHA256] = kei_strn(sum, 64);
    if (l->cert_verified && kei_crypto_get(a->ctx, &crypto) == 0 &&
        kei_cert_from_der(&cert, crypto, l->cert, NULL) == 0 &&
        kei_cert_info(cert, info, NULL) == 0)
        by[KEI_BY_CERT] = kei_str(info->cn);
    kei_cert_free(cert);
}

static enum judgement judge_secret(struct kei_access_impl *a, struct kei_secret *s,
                                   const struct kei_access_login *l, struct judged *j)
{
    enum kei_proof p = KEI_PROOF_NO;
    if (l->has_password && l->password.n > 0) /* an empty one is none, as in mosquitto */
        p = kei_secret_ask(s, &a->proofs, l->password);
    j->secret = s;
    return p == KEI_PROOF_YES ? LET_IN : p == KEI_PROOF_NO ? REFUSE : NEEDS_HASH;
}

/* Without any user a name is a word like another, unless it is somebody's. */
bool kei_access_anybody(struct kei_access *base, struct ke_str listener, struct ke_str user_name)
{
    const struct kei_access_impl *a = kei_access_of(base);
    if (!user_name.p)
        return true;
    return !kei_files_of(a, listener)->has_users && a->ids.users.n == 0 &&
           !kei_ids_reserved(&a->ids, user_name);
}

/* By user name and password, or as somebody without a name. */
static enum judgement judge_user(struct kei_access_impl *a, const struct kei_access_login *l,
                                 struct judged *j)
{
    const struct kei_files *f = kei_files_of(a, l->listener);
    if (l->cert_user) { /* the name is the certificate's, or there is none */
        j->reason = BAD_USER;
        return l->has_user && l->cert_verified ? LET_IN : REFUSE;
    }
    if (!l->has_user)
        return l->anonymous ? LET_IN : REFUSE;
    struct kei_user *x = kei_users_find(&a->ids.users, l->user_name);
    j->source = KEI_SOURCE_HOST;
    if (!x) {
        x = kei_users_find(&f->users, l->user_name);
        j->source = KEI_SOURCE_FILE;
    }
    if (x) {
        j->user = x;
        return judge_secret(a, &x->secret, l, j);
    }
    return l->anonymous && kei_access_anybody(&a->base, l->listener, l->user_name) ? LET_IN
                                                                                   : REFUSE;
}

static enum judgement judge(struct kei_access_impl *a, const struct kei_access_login *l,
                            struct judged *j)
{
    struct ke_str by[KEI_BY_N];
    struct kei_cert_info info;
    char sum[65];
    memset(j, 0, sizeof *j);
    j->reason = NOT_AUTHORIZED; /* what mosquitto says, of a wrong password, too */
    brings(a, l, by, sum, &info);
    struct kei_identity *id = kei_ids_match(&a->ids, by);
    if (!id)
        return judge_user(a, l, j);
    j->id = id;
    if (id->revoked)
        return REFUSE;
    if (id->has_password)
        return judge_secret(a, &id->secret, l, j);
    return id->by[KEI_BY_SHA256] || id->by[KEI_BY_CERT] ? LET_IN : judge_user(a, l, j);
}

/* ---- attempts that wait for a hash ---- */

struct login {
    struct kei_link link;
    struct kei_access_impl *a;
    struct kei_hashing *hashing;
    kei_access_login_fn done;
    void *user;
    uint64_t epoch; /* of the secret that is asked */
    struct kei_access_login l;
    char *text; /* what l points to */
    size_t text_n;
};

static void login_free(struct login *g)
{
    if (!g)
        return;
    kei_list_remove(&g->link);
    if (g->text)
        explicit_bzero(g->text, g->text_n);
    kei_free(g->a->alloc, g->text);
    kei_free(g->a->alloc, g);
}

static struct login *login_new(struct kei_access_impl *a, const struct kei_access_login *l,
                               kei_access_login_fn done, void *user)
{
    struct login *g = kei_zalloc(a->alloc, sizeof *g);
    if (!g)
        return NULL;
    *g = (struct login){.a = a, .done = done, .user = user, .l = *l};
    struct ke_str *texts[] = {&g->l.client_id, &g->l.user_name, &g->l.password,
                              &g->l.cert,      &g->l.address,   &g->l.listener};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        g->text_n += texts[i]->n;
    g->text = kei_alloc(a->alloc, g->text_n ? g->text_n : 1);
    if (!g->text) {
        login_free(g);
        return NULL;
    }
    char *at = g->text;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i]->n)
            memcpy(at, texts[i]->p, texts[i]->n);
        texts[i]->p = at;
        at += texts[i]->n;
    }
    kei_list_add_tail(&a->logins, &g->link);
    return g;
}

static void on_hash(void *user, bool same, const char *hash);

/* g: NULL at the first time. *ret: what waits now, if anything does. */
static int attempt(struct kei_access_impl *a, struct login *g, const struct kei_access_login *l,
                   kei_access_login_fn done, void *user, struct login **ret)
{
    struct judged j;
    struct kei_who *who = NULL;
    enum judgement verdict = judge(a, l, &j);
    if (verdict == NEEDS_HASH) {
        if (!g)
            g = login_new(a, l, done, user);
        if (!g)
            return KE_ENOMEM;
        g->epoch = j.secret->epoch;
        int r = kei_hashing_check(&g->hashing, a->ctx, g->l.password, kei_str(j.secret->hash),
                                  on_hash, g, NULL);
        if (r < 0) {
            login_free(g);
            return r;
        }
        *ret = g;
        return 0;
    }
    struct ke_str listener = l->listener;
    if (kei_files_of(a, listener) == &a->files[0])
        listener = kei_strn(NULL, 0);
    if (verdict == LET_IN && (j.id || j.user || listener.n)) {
        who = kei_who_new(a, j.id, j.user, j.source, listener);
        if (!who) {
            login_free(g);
            return KE_ENOMEM;
        }
        kei_who_look(a, who, l->has_user ? l->user_name : kei_strn(NULL, 0));
    }
    login_free(g);
    done(user, verdict == LET_IN ? OK : j.reason, who);
    return 0;
}

/* The secret that was asked, unless it has changed. */
static struct kei_secret *secret_of(struct login *g)
{
    struct judged j;
    if (judge(g->a, &g->l, &j) != NEEDS_HASH || j.secret->epoch != g->epoch)
        return NULL;
    return j.secret;
}

static void on_hash(void *user, bool same, const char *hash)
{
    struct login *g = user, *again;
    kei_access_login_fn done = g->done;
    void *to = g->user;
    struct kei_secret *s = secret_of(g);
    (void)hash;
    g->hashing = NULL;
    if (s && !same) {
        login_free(g);
        done(to, NOT_AUTHORIZED, NULL);
        return;
    }
    if (s)
        kei_secret_proven(s, &g->a->proofs, g->l.password);
    if (attempt(g->a, g, &g->l, done, to, &again) < 0)
        done(to, BUSY, NULL);
}

int kei_access_authenticate(struct kei_access *base, const struct kei_access_login *l,
                            kei_access_login_fn done, void *user, void **ret_job)
{
    struct login *g = NULL;
    int r = attempt(kei_access_of(base), NULL, l, done, user, &g);
    if (g)
        *ret_job = g;
    return r;
}

void kei_access_cancel(struct kei_access *base, void *job)
{
    struct login *g = job;
    (void)base;
    if (!g)
        return;
    kei_hashing_cancel(g->hashing);
    login_free(g);
}

void kei_access_cancel_login(struct kei_link *l)
{
    struct login *g = KEI_OF(l, struct login, link);
    kei_access_cancel(&g->a->base, g);
}

struct kei_who *kei_access_adopt(struct kei_access *base, struct ke_str identity,
                                 struct ke_str user_name, struct ke_str client_id)
{
    struct kei_access_impl *a = kei_access_of(base);
    struct kei_identity *id = identity.n ? kei_ids_find(&a->ids, identity) : NULL;
    (void)client_id;
    if (!id || id->revoked)
        return NULL;
    struct kei_who *w = kei_who_new(a, id, NULL, KEI_SOURCE_NONE, kei_strn(NULL, 0));
    if (w)
        kei_who_look(a, w, user_name);
    return w;
}

int kei_access_cert_name(struct ke_ctx *ctx, struct ke_str der, bool subject, struct ke_buf *out,
                         struct ke_error *err)
{
    struct kei_crypto *crypto;
    struct kei_cert *cert;
    struct kei_cert_info info;
    int r = kei_crypto_get(ctx, &crypto);
    if (r == 0)
        r = kei_cert_from_der(&cert, crypto, der, err);
    if (r < 0)
        return r;
    if (subject) {
        r = kei_cert_subject(cert, out, err);
    } else {
        r = kei_cert_info(cert, &info, err);
        if (r == 0 && !info.cn[0])
            r = kei_error(err, KE_ECERT, "the certificate has no common name");
        if (r == 0)
            kei_buf_adds(out, info.cn);
    }
    if (r == 0 && !kei_buf_ok(out))
        r = kei_error(err, KE_ENOMEM, "out of memory for a user name");
    kei_cert_free(cert);
    return r;
}
