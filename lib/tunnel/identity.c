/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity unit: its text form and its files. Owns the keys and certificates of a struct
 * kei_identity. Parsing on the loop's thread, files on the disk worker.
 */
#include "tunnel/identity.h"

#include <limits.h>
#include <stdio.h>

#include "base/file.h"

#define PATH_LEN 4096

void kei_buf_wipe(struct ke_buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->n);
    ke_buf_free(b);
}

void kei_identity_clear(struct kei_identity *id)
{
    kei_cert_free(id->ca);
    kei_cert_free(id->cert);
    kei_key_free(id->key);
    *id = (struct kei_identity){0};
}

bool kei_identity_whole(const struct kei_identity *id)
{
    return id->ca && id->cert;
}

/* ---- text ---- */

/* Finds s in text from at on; text.n if it is not there. */
static size_t find(struct ke_str text, size_t at, const char *s)
{
    size_t n = strlen(s);

    for (; at + n <= text.n; at++) {
        if (memcmp(text.p + at, s, n) == 0)
            return at;
    }
    return text.n;
}

/* The next block "-----BEGIN X----- ... -----END X-----" at or after *at. */
static bool next_block(struct ke_str text, size_t *at, struct ke_str *ret_block,
                       struct ke_str *ret_label)
{
    size_t begin = find(text, *at, "-----BEGIN ");
    size_t label = begin + sizeof "-----BEGIN " - 1;
    size_t label_end, end, stop;

    if (begin == text.n)
        return false;
    label_end = find(text, label, "-----");
    end = find(text, label_end, "-----END ");
    if (label_end == text.n || end == text.n)
        return false;
    stop = find(text, end + sizeof "-----END " - 1, "-----");
    if (stop == text.n)
        return false;
    stop += 5;
    *ret_block = kei_strn(text.p + begin, stop - begin);
    *ret_label = kei_strn(text.p + label, label_end - label);
    *at = stop;
    return true;
}

static int take_block(struct kei_identity *id, struct kei_crypto *c, struct ke_str block,
                      struct ke_str label, struct ke_error *err)
{
    if (kei_str_ends(label, KEI_STR("PRIVATE KEY"))) {
        if (id->key)
            return kei_error(err, KE_EPARSE, "the identity held two private keys");
        return kei_key_from_pem(&id->key, c, block, err);
    }
    if (!kei_str_is(label, "CERTIFICATE"))
        return 0;
    if (!id->cert)
        return kei_cert_from_pem(&id->cert, c, block, err);
    if (!id->ca)
        return kei_cert_from_pem(&id->ca, c, block, err);
    return 0;
}

int kei_identity_parse(struct kei_identity *id, struct kei_crypto *c, struct ke_str pem,
                       const struct kei_key *host_key, struct ke_error *err)
{
    struct kei_identity got = {0};
    struct ke_str block, label;
    size_t at = 0;
    int r = 0;

    while (r == 0 && next_block(pem, &at, &block, &label))
        r = take_block(&got, c, block, label, err);
    if (r == 0 && (!got.cert || !got.ca || (!got.key && !host_key)))
        r = kei_error(err, KE_EPARSE, "the identity was incomplete: %s was missing",
                      !got.cert ? "the certificate"
                      : !got.ca ? "the CA"
                                : "the key");
    if (r == 0)
        r = kei_cert_info(got.cert, &got.info, err);
    if (r == 0 && !kei_cert_matches(got.cert, got.key ? got.key : host_key))
        r = kei_error(err, KE_EKEY, "key and certificate of %s did not belong together",
                      got.info.cn);
    if (r < 0) {
        kei_identity_clear(&got);
        return r;
    }
    kei_identity_clear(id);
    *id = got;
    return 0;
}

int kei_identity_format(struct ke_buf *out, const struct kei_identity *id, bool with_key,
                        struct ke_error *err)
{
    int r = 0;

    if (with_key)
        r = kei_key_pem(id->key, out, err);
    if (r == 0)
        r = kei_cert_pem(id->cert, out, err);
    if (r == 0)
        r = kei_cert_pem(id->ca, out, err);
    if (r == 0 && !kei_buf_ok(out))
        r = kei_error(err, KE_ENOMEM, "out of memory for the identity");
    return r;
}

bool kei_identity_is_for(const struct kei_identity *id, const char *node_name)
{
    static const char prefix[] = "system:node:";

    return strncmp(id->info.cn, prefix, sizeof prefix - 1) == 0 &&
           strcmp(id->info.cn + sizeof prefix - 1, node_name) == 0;
}

/* ---- files ---- */

static int path_of(char out[PATH_LEN], const char *folder, const char *name, struct ke_error *err)
{
    char dir[PATH_LEN];

    if (!kei_path_join(dir, sizeof dir, folder, "identity") ||
        (name ? !kei_path_join(out, PATH_LEN, dir, name)
              : snprintf(out, PATH_LEN, "%s", dir) >= PATH_LEN))
        return kei_error(err, KE_ELIMIT, "path of the identity in %s was longer than %d bytes",
                         folder, PATH_LEN);
    return 0;
}

static int replace(const struct ke_io *io, const char *folder, const char *name, struct ke_str s,
                   struct ke_error *err)
{
    char path[PATH_LEN], dir[PATH_LEN];
    int r = path_of(path, folder, name, err);

    if (r == 0)
        r = path_of(dir, folder, NULL, err);
    if (r == 0)
        r = kei_folder_make(io, folder, 0700, err);
    if (r == 0)
        r = kei_folder_make(io, dir, 0700, err);
    if (r == 0)
        r = kei_file_replace(io, path, s.p, s.n, 0600, err);
    return r;
}

int kei_identity_read(const struct ke_io *io, const char *folder, const char *name,
                      struct ke_buf *out, struct ke_error *err)
{
    char path[PATH_LEN];
    int r = path_of(path, folder, name, err);

    if (r == 0)
        r = kei_file_read(io, path, KEI_IDENTITY_FILE_MAX, out, err);
    return r == KE_ENOTFOUND ? 0 : r == 0 ? 1 : r;
}

int kei_identity_store(const struct ke_io *io, const struct ke_alloc *a, const char *folder,
                       struct ke_str unit, struct ke_error *err)
{
    struct ke_buf current, previous;
    int r;

    kei_buf_init(&current, a);
    kei_buf_init(&previous, a);
    r = kei_identity_read(io, folder, "current.pem", &current, err);
    if (r >= 0)
        r = kei_identity_read(io, folder, "previous.pem", &previous, err);
    if (r >= 0 && previous.n == 0 && current.n > 0)
        r = replace(io, folder, "previous.pem", kei_buf_str(&current), err);
    if (r >= 0)
        r = replace(io, folder, "current.pem", unit, err);
    kei_buf_wipe(&current);
    kei_buf_wipe(&previous);
    return r;
}

int kei_identity_proven(const struct ke_io *io, const char *folder, struct ke_error *err)
{
    char path[PATH_LEN];
    int r = path_of(path, folder, "previous.pem", err);

    return r == 0 ? kei_file_remove(io, path, err) : r;
}

int kei_identity_go_back(const struct ke_io *io, const struct ke_alloc *a, const char *folder,
                         struct ke_error *err)
{
    struct ke_buf previous;
    int r;

    kei_buf_init(&previous, a);
    r = kei_identity_read(io, folder, "previous.pem", &previous, err);
    if (r > 0)
        r = 0;
    if (previous.n > 0) {
        r = replace(io, folder, "current.pem", kei_buf_str(&previous), err);
        if (r == 0)
            r = kei_identity_proven(io, folder, err);
    }
    kei_buf_wipe(&previous);
    return r;
}

int kei_identity_write_notes(const struct ke_io *io, const char *folder, struct ke_str text,
                             struct ke_error *err)
{
    return replace(io, folder, "notes", text, err);
}
