/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public calls that assign and revoke: carried to the loop, in force there at once, told to the
 * host when they are durable. A new password has to be hashed before it can be kept. Any thread,
 * but for what is static.
 */
#include "mqtt/identity_access.h"

/* One change that is not durable yet. */
struct op {
    struct kei_journal_wait wait;
    struct kei_link link; /* in a->ops while it waits for its hash */
    struct kei_access_impl *a;
    struct kei_hashing *hashing;
    uint64_t epoch; /* of the secret that is hashed */
    enum kei_ids_kind kind;
    ke_mqtt_done_fn done;
    void *user;
    bool has_name;
    size_t n;
    char name[];
};

static struct ke_str name_of(const struct op *o)
{
    return o->has_name ? kei_strn(o->name, o->n) : kei_strn(NULL, 0);
}

static void op_end(struct op *o, int status)
{
    ke_mqtt_done_fn done = o->done;
    void *user = o->user;
    kei_list_remove(&o->link);
    kei_free(o->a->alloc, o);
    if (done)
        done(user, status);
}

static void on_written(struct kei_journal_wait *w, int status)
{
    op_end(KEI_OF(w, struct op, wait), status);
}

static void op_write(struct op *o)
{
    struct kei_access_impl *a = o->a;
    struct ke_buf line;
    kei_list_remove(&o->link);
    kei_buf_init(&line, a->alloc);
    if (a->journal.path)
        kei_ids_write(&a->ids, o->kind, name_of(o), &line);
    if (!kei_buf_ok(&line))
        kei_buf_clear(&line); /* everything is written instead */
    o->wait.fn = on_written;
    kei_journal_add(&a->journal, kei_buf_str(&line), &o->wait);
    if (line.p)
        explicit_bzero(line.p, line.n);
    ke_buf_free(&line);
}

static struct kei_secret *secret_of(struct op *o)
{
    struct kei_ids *s = &o->a->ids;
    struct kei_identity *x = NULL;
    struct kei_user *u = NULL;
    if (o->kind == KEI_IDS_IDENTITY)
        x = kei_ids_find(s, name_of(o));
    else
        u = kei_users_find(&s->users, name_of(o));
    return x && !x->revoked ? &x->secret : u ? &u->secret : NULL;
}

static void on_hash(void *user, bool same, const char *hash)
{
    struct op *o = user;
    struct kei_secret *s = secret_of(o);
    (void)same;
    o->hashing = NULL;
    if (!s || s->epoch != o->epoch || !s->hash) {
        op_end(o, KE_ECANCELED); /* replaced since */
        return;
    }
    if (!s->hash[0] && (!hash[0] || kei_secret_made(s, o->a->alloc, hash) < 0)) {
        op_end(o, KE_ENOMEM);
        return;
    }
    op_write(o);
}

void kei_access_ops_end(struct kei_access_impl *a)
{
    while (!kei_list_empty(&a->ops))
        kei_work_drain(a->ctx); /* on_hash takes them out */
}

/* ---- a call on its way to the loop ---- */

enum what { USER_SET, USER_REMOVE, RULES_SET, IDENTITY_SET, IDENTITY_REVOKE };

struct call {
    enum what what;
    struct kei_access_impl *a;
    const char *name, *password;
    const struct ke_mqtt_rule *rules;
    uint32_t n;
    const struct ke_mqtt_identity *id;
    ke_mqtt_done_fn done;
    void *user;
    struct ke_error *err;
    int r;
};

static struct op *op_new(struct call *c)
{
    size_t n = c->name ? strlen(c->name) : 0;
    struct op *o = kei_zalloc(c->a->alloc, sizeof *o + n + 1);
    if (!o)
        return NULL;
    o->a = c->a;
    o->kind = c->what == IDENTITY_SET || c->what == IDENTITY_REVOKE ? KEI_IDS_IDENTITY
              : c->what == RULES_SET                                ? KEI_IDS_RULES
                                                                    : KEI_IDS_USER;
    o->done = c->done;
    o->user = c->user;
    o->has_name = c->name != NULL;
    o->n = n;
    if (n)
        memcpy(o->name, c->name, n);
    return o;
}

static int apply(struct call *c, bool *fresh, uint64_t *epoch)
{
    struct kei_ids *s = &c->a->ids;
    struct kei_identity *x = NULL;
    struct kei_user *u = NULL;
    int r = KE_EINVAL;
    switch (c->what) {
    case USER_SET:
        r = kei_ids_user_set(s, c->name, c->password, c->rules, c->n, &u, fresh, c->err);
        break;
    case USER_REMOVE:
        return kei_ids_user_remove(s, kei_str(c->name), c->err);
    case RULES_SET:
        return kei_ids_rules_set(s, c->name ? kei_str(c->name) : kei_strn(NULL, 0), c->rules, c->n,
                                 c->err);
    case IDENTITY_SET:
        r = kei_ids_set(s, c->id, &x, fresh, c->err);
        break;
    case IDENTITY_REVOKE:
        return kei_ids_revoke(s, kei_str(c->name), c->err);
    }
    if (r == 0)
        *epoch = x ? x->secret.epoch : u->secret.epoch;
    return r;
}

/* All that can fail comes before the change itself. */
static int change(struct call *c)
{
    bool fresh = false;
    struct op *o = op_new(c);
    int r = o ? 0 : kei_error(c->err, KE_ENOMEM, "out of memory for a change of access");
    if (r == 0 && c->password)
        r = kei_hashing_make(&o->hashing, c->a->ctx, kei_str(c->password), KEI_USER_ITERATIONS,
                             on_hash, o, c->err);
    if (r == 0)
        r = apply(c, &fresh, &o->epoch);
    if (o && o->hashing && (r < 0 || !fresh)) {
        kei_hashing_cancel(o->hashing);
        o->hashing = NULL;
    }
    if (r < 0) {
        kei_free(c->a->alloc, o);
        return r;
    }
    kei_list_add_tail(&c->a->ops, &o->link);
    if (!o->hashing)
        op_write(o);
    kei_who_changed(c->a);
    return 0;
}

static void run(void *user)
{
    struct call *c = user;
    if (c->a->ending)
        c->r = kei_error(c->err, KE_ESTATE, "the MQTT server is being freed");
    else
        c->r = change(c);
}

static int carry(struct ke_mqtt *m, struct call *c)
{
    struct kei_access *base = m ? kei_mqtt_access(m) : NULL;
    if (!base)
        return kei_error(c->err, KE_EINVAL, "there is no MQTT server");
    c->a = kei_access_of(base);
    int r = kei_mqtt_call(m, run, c);
    if (r < 0)
        return kei_error(c->err, r, "the loop of the MQTT server does not run any more");
    return c->r;
}

/* ---- public ---- */

int ke_mqtt_user_set(struct ke_mqtt *m, const char *name, const char *password,
                     const struct ke_mqtt_rule *rules, uint32_t n_rules, ke_mqtt_done_fn done,
                     void *user, struct ke_error *reterr)
{
    struct call c = {.what = USER_SET,
                     .name = name ? name : "",
                     .password = password,
                     .rules = rules,
                     .n = n_rules,
                     .done = done,
                     .user = user,
                     .err = reterr};
    return carry(m, &c);
}

int ke_mqtt_user_remove(struct ke_mqtt *m, const char *name, ke_mqtt_done_fn done, void *user,
                        struct ke_error *reterr)
{
    struct call c = {
        .what = USER_REMOVE, .name = name ? name : "", .done = done, .user = user, .err = reterr};
    return carry(m, &c);
}

int ke_mqtt_rules_set(struct ke_mqtt *m, const char *user_name, const struct ke_mqtt_rule *rules,
                      uint32_t n_rules, ke_mqtt_done_fn done, void *user, struct ke_error *reterr)
{
    struct call c = {.what = RULES_SET,
                     .name = user_name,
                     .rules = rules,
                     .n = n_rules,
                     .done = done,
                     .user = user,
                     .err = reterr};
    return carry(m, &c);
}

int ke_mqtt_identity_set(struct ke_mqtt *m, const struct ke_mqtt_identity *id, ke_mqtt_done_fn done,
                         void *user, struct ke_error *reterr)
{
    struct ke_mqtt_identity known;
    int r = id ? kei_abi_in(&known, sizeof known, id, offsetof(struct ke_mqtt_identity, reserved),
                            "struct ke_mqtt_identity", reterr)
               : kei_error(reterr, KE_EINVAL, "the identity is NULL");
    if (r < 0)
        return r;
    struct call c = {.what = IDENTITY_SET,
                     .name = known.name ? known.name : "",
                     .password = known.password,
                     .id = &known,
                     .done = done,
                     .user = user,
                     .err = reterr};
    return carry(m, &c);
}

int ke_mqtt_identity_revoke(struct ke_mqtt *m, const char *name, ke_mqtt_done_fn done, void *user,
                            struct ke_error *reterr)
{
    struct call c = {.what = IDENTITY_REVOKE,
                     .name = name ? name : "",
                     .done = done,
                     .user = user,
                     .err = reterr};
    return carry(m, &c);
}

/* ---- listing ---- */

static int list_one(const struct kei_access_impl *a, const struct kei_identity *x,
                    void (*fn)(void *user, const struct ke_mqtt_identity *id), void *user)
{
    struct ke_mqtt_identity id = {.size = sizeof id,
                                  .name = x->name,
                                  .user_name = x->by[KEI_BY_USER],
                                  .client_id = x->by[KEI_BY_CLIENT],
                                  .cert_sha256 = x->by[KEI_BY_SHA256],
                                  .cert_name = x->by[KEI_BY_CERT],
                                  .password = x->has_password ? "" : NULL,
                                  .n_rules = x->rules.n};
    struct ke_mqtt_rule *rules =
        kei_array_alloc(a->alloc, x->rules.n ? x->rules.n : 1, sizeof *rules);
    if (!rules)
        return kei_fail(a->ctx, KE_ENOMEM, "out of memory for the rules of identity %s", x->name);
    for (uint32_t i = 0; i < x->rules.n; i++)
        rules[i] = (struct ke_mqtt_rule){.size = sizeof *rules,
                                         .topic = x->rules.rules[i].filter,
                                         .access = x->rules.rules[i].access};
    id.rules = rules;
    fn(user, &id);
    kei_free(a->alloc, rules);
    return 0;
}

int ke_mqtt_identities(struct ke_mqtt *m, void (*fn)(void *user, const struct ke_mqtt_identity *id),
                       void *user)
{
    if (!m || !fn)
        return KE_EINVAL;
    struct kei_access_impl *a = kei_access_of(kei_mqtt_access(m));
    int r = 0;
    KEI_LIST_EACH(l, &a->ids.list)
    {
        const struct kei_identity *x = KEI_OF(l, struct kei_identity, link);
        if (r == 0 && !x->revoked)
            r = list_one(a, x, fn, user);
    }
    return r;
}
