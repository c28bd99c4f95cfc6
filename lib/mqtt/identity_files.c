/* SPDX-License-Identifier: Apache-2.0 */
/* See identity_access.h: password and ACL files. What is read replaces the old, or nothing does. */
#include "base/file.h"
#include "base/log.h"
#include "mqtt/identity_access.h"

struct skipped {
    struct ke_ctx *ctx;
    const char *path;
};

static void on_skipped(void *user, uint32_t line, const char *why)
{
    struct skipped *s = user;
    kei_log(s->ctx, KE_LOG_WARN, "mqtt", "%s:%u: left out, nobody is let in by it: %s", s->path,
            line, why);
}

static int read_users(struct kei_access_impl *a, struct kei_files *f, const char *path,
                      struct ke_error *err)
{
    struct skipped s = {a->ctx, path};
    struct ke_buf text;
    kei_buf_init(&text, a->alloc);
    int r = kei_file_read(kei_ctx_io(a->ctx), path, KEI_USER_FILE_MAX, &text, err);
    if (r == 0)
        r = kei_users_parse(&f->users, kei_buf_str(&text), on_skipped, &s, err);
    f->has_users = true;
    if (text.p)
        explicit_bzero(text.p, text.n);
    ke_buf_free(&text);
    return r < 0 ? kei_error_prefix(err, r, "password file") : 0;
}

static int read_acl(struct kei_access_impl *a, struct kei_files *f, const char *path,
                    struct ke_error *err)
{
    struct ke_buf text;
    kei_buf_init(&text, a->alloc);
    int r = kei_file_read(kei_ctx_io(a->ctx), path, KEI_USER_FILE_MAX, &text, err);
    if (r == 0)
        r = kei_acl_parse(&f->acl, kei_buf_str(&text), path, err);
    f->has_acl = true;
    ke_buf_free(&text);
    return r < 0 ? kei_error_prefix(err, r, "ACL file") : 0;
}

static int read_one(struct kei_access_impl *a, struct kei_files *f, const char *listener,
                    const char *password_file, const char *acl_file, struct ke_error *err)
{
    kei_users_init(&f->users, a->alloc, &a->proofs, a->seed);
    kei_acl_init(&f->acl, a->alloc, a->seed);
    f->listener = kei_strdup(a->alloc, listener);
    int r = 0;
    if (listener && !f->listener)
        r = kei_error(err, KE_ENOMEM, "out of memory for listener %s", listener);
    if (r == 0 && password_file && password_file[0])
        r = read_users(a, f, password_file, err);
    if (r == 0 && acl_file && acl_file[0])
        r = read_acl(a, f, acl_file, err);
    return r;
}

/* The i-th listener as we know it, whatever size the host's is. */
static int listener_at(const struct ke_mqtt_config *c, uint32_t i, struct ke_mqtt_listener *ret,
                       struct ke_error *err)
{
    size_t step = c->listeners->size ? c->listeners->size : sizeof *c->listeners;
    return kei_abi_in(ret, sizeof *ret, (const char *)c->listeners + i * step,
                      offsetof(struct ke_mqtt_listener, password_file), "struct ke_mqtt_listener",
                      err);
}

int kei_files_read(struct kei_files **ret, uint32_t *ret_n, struct kei_access_impl *a,
                   const struct ke_mqtt_config *c, struct ke_error *err)
{
    uint32_t n = 0, n_listeners = c && c->listeners ? c->n_listeners : 0;
    struct kei_files *f = kei_array_alloc(a->alloc, (size_t)n_listeners + 1, sizeof *f);
    if (!f)
        return kei_error(err, KE_ENOMEM, "out of memory for %u listeners", n_listeners);
    memset(f, 0, ((size_t)n_listeners + 1) * sizeof *f);
    int r = read_one(a, &f[n++], NULL, c ? c->password_file : NULL, c ? c->acl_file : NULL, err);
    for (uint32_t i = 0; r == 0 && i < n_listeners; i++) {
        struct ke_mqtt_listener l;
        r = listener_at(c, i, &l, err);
        if (r < 0 || (!l.password_file && !l.acl_file))
            continue;
        if (!l.name || !l.name[0])
            r = kei_error(err, KE_EINVAL, "listener %u has files of its own, so it needs a name",
                          i);
        else
            r = read_one(a, &f[n++], l.name, l.password_file, l.acl_file, err);
    }
    if (r < 0) {
        kei_files_free(f, n, a->alloc);
        return r;
    }
    *ret = f;
    *ret_n = n;
    return 0;
}

void kei_files_free(struct kei_files *f, uint32_t n, const struct ke_alloc *a)
{
    for (uint32_t i = 0; i < n; i++) {
        kei_users_fini(&f[i].users);
        kei_acl_fini(&f[i].acl);
        kei_free(a, f[i].listener);
    }
    kei_free(a, f);
}

const struct kei_files *kei_files_of(const struct kei_access_impl *a, struct ke_str listener)
{
    for (uint32_t i = 1; i < a->n_files; i++)
        if (kei_str_is(listener, a->files[i].listener))
            return &a->files[i];
    return &a->files[0];
}
