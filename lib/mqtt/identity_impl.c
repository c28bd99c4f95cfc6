/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table that the server asks (access.h), made of the files of its configuration and of what the
 * host assigned, which is kept in DATA/access. Owned by the server; loop thread.
 */
#include "base/file.h"
#include "base/log.h"
#include "mqtt/identity_access.h"

#define FILE_NAME "access"

static void forget(struct kei_access *base, struct kei_who *who)
{
    kei_free(kei_access_of(base)->alloc, who);
}

static struct ke_str identity(const struct kei_who *who)
{
    return who && who->identity.p ? who->identity : KEI_STR("");
}

static bool proven(const struct kei_who *who)
{
    return who && (who->identity.p || who->source != KEI_SOURCE_NONE);
}

/* ---- what is kept ---- */

struct each {
    const struct kei_ids *ids;
    struct ke_buf line;
    struct ke_buf *out;
};

static void write_one(void *user, enum kei_ids_kind kind, struct ke_str name)
{
    struct each *e = user;
    kei_buf_clear(&e->line);
    kei_ids_write(e->ids, kind, name, &e->line);
    if (!kei_buf_ok(&e->line))
        (void)!kei_buf_room(e->out, SIZE_MAX / 2); /* fails, which marks it */
    else if (e->line.n)
        kei_journal_line(e->out, kei_buf_str(&e->line));
}

static void write_all(struct kei_journal *j, void *user)
{
    struct kei_access_impl *a = user;
    struct each e = {.ids = &a->ids, .out = &j->next};
    kei_buf_init(&e.line, a->alloc);
    kei_ids_each(&a->ids, write_one, &e);
    if (e.line.p)
        explicit_bzero(e.line.p, e.line.n);
    ke_buf_free(&e.line);
}

static int read_line(void *user, struct ke_str line, struct ke_error *err)
{
    return kei_ids_read(user, line, err);
}

static void warn_lost(struct kei_access_impl *a, const char *path,
                      const struct kei_journal_lost *lost)
{
    if (lost->lines)
        kei_log(a->ctx, KE_LOG_WARN, "mqtt", "%s: %zu lines left out: %s", path, lost->lines,
                lost->why);
    if (lost->torn)
        kei_log(a->ctx, KE_LOG_INFO, "mqtt",
                "%s: dropped a line that was not written to its end (%zu bytes)", path, lost->torn);
}

static int read_kept(struct kei_access_impl *a, const char *path, struct ke_error *err)
{
    struct kei_journal_lost lost;
    struct kei_ids kept;
    kei_ids_init(&kept, a->alloc, &a->proofs, a->seed);
    int r = kei_journal_open(&a->journal, path, read_line, &kept, &lost, err);
    if (r == 0) {
        warn_lost(a, path, &lost);
        r = kei_ids_merge(&a->ids, &kept, err);
    }
    kei_ids_fini(&kept);
    return r;
}

static int open_folder(struct kei_access *base, const char *folder)
{
    struct kei_access_impl *a = kei_access_of(base);
    struct ke_error *err = kei_err(a->ctx);
    char path[4096];
    if (!folder)
        return 0;
    if (!kei_path_join(path, sizeof path, folder, FILE_NAME))
        return kei_error(err, KE_EINVAL, "the path of %s is too long", folder);
    int r = read_kept(a, path, err);
    if (r == 0)
        r = kei_journal_rewrite(&a->journal, err);
    if (r < 0) {
        kei_journal_close(&a->journal);
        return r;
    }
    a->gen++;
    a->ids.note_gone = false;
    kei_map_free(&a->ids.gone);
    kei_map_init(&a->ids.gone, a->alloc, a->seed);
    return 0;
}

static void close_folder(struct kei_access *base)
{
    struct kei_access_impl *a = kei_access_of(base);
    kei_access_ops_end(a);
    kei_journal_close(&a->journal);
    a->ids.note_gone = true;
}

struct kei_access_files {
    struct kei_files *f;
    uint32_t n, flags;
};

static int prepare(struct kei_access *base, const struct ke_mqtt_config *c,
                   struct kei_access_files **ret, struct ke_error *err)
{
    struct kei_access_impl *a = kei_access_of(base);
    struct kei_access_files *x = kei_zalloc(a->alloc, sizeof *x);
    int r = x ? kei_files_read(&x->f, &x->n, a, c, err)
              : kei_error(err, KE_ENOMEM, "out of memory for the users of the MQTT server");
    if (r < 0) {
        kei_free(a->alloc, x);
        return r;
    }
    x->flags = c ? c->flags : 0;
    *ret = x;
    return 0;
}

static void drop(struct kei_access *base, struct kei_access_files *x)
{
    struct kei_access_impl *a = kei_access_of(base);
    if (x)
        kei_files_free(x->f, x->n, a->alloc);
    kei_free(a->alloc, x);
}

static void use(struct kei_access *base, struct kei_access_files *x)
{
    struct kei_access_impl *a = kei_access_of(base);
    for (uint32_t i = 0; i < x->n; i++) {
        const char *name = x->f[i].listener;
        const struct kei_files *old = name ? kei_files_of(a, kei_str(name)) : &a->files[0];
        kei_users_inherit(&x->f[i].users, &old->users);
    }
    kei_files_free(a->files, a->n_files, a->alloc);
    a->files = x->f;
    a->n_files = x->n;
    a->flags = x->flags;
    kei_free(a->alloc, x);
    kei_who_changed(a);
}

static void access_free(struct kei_access *base)
{
    struct kei_access_impl *a = kei_access_of(base);
    if (!a)
        return;
    a->ending = true;
    while (!kei_list_empty(&a->logins))
        kei_access_cancel_login(a->logins.next);
    kei_access_ops_end(a);
    kei_journal_close(&a->journal);
    kei_ids_fini(&a->ids);
    kei_files_free(a->files, a->n_files, a->alloc);
    explicit_bzero(&a->proofs, sizeof a->proofs);
    kei_free(a->alloc, a);
}

static const struct kei_access_ops ops = {
    .authenticate = kei_access_authenticate,
    .cancel = kei_access_cancel,
    .forget = forget,
    .may = kei_access_may,
    .identity = identity,
    .unlimited = kei_access_unlimited,
    .adopt = kei_access_adopt,
    .proven = proven,
    .anybody = kei_access_anybody,
    .open = open_folder,
    .close = close_folder,
    .prepare = prepare,
    .use = use,
    .drop = drop,
    .free = access_free,
};

int kei_access_new(struct kei_access **ret, struct ke_mqtt *m, struct ke_ctx *ctx,
                   const struct ke_mqtt_config *c)
{
    const struct ke_alloc *alloc = kei_ctx_alloc(ctx);
    struct kei_access_impl *a = kei_zalloc(alloc, sizeof *a);
    if (!a)
        return kei_fail(ctx, KE_ENOMEM, "out of memory for the users of the MQTT server");
    *a = (struct kei_access_impl){.base.ops = &ops, .m = m, .ctx = ctx, .alloc = alloc};
    a->seed = kei_ctx_random64(ctx);
    a->flags = c ? c->flags : 0;
    a->gen = 1;
    kei_list_init(&a->logins);
    kei_list_init(&a->ops);
    kei_journal_init(&a->journal, ctx, write_all, a);
    kei_ids_init(&a->ids, alloc, &a->proofs, a->seed);
    a->ids.note_gone = true;
    int r = kei_proofs_init(&a->proofs, ctx);
    if (r == 0)
        r = kei_files_read(&a->files, &a->n_files, a, c, kei_err(ctx));
    if (r < 0) {
        access_free(&a->base);
        return r;
    }
    *ret = &a->base;
    return 0;
}
