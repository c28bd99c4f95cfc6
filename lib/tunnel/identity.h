/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who this node is: CA, key and certificate as one unit, in one file, so that after a crash at any
 * point the key and the certificate belong together.
 *
 *   FOLDER/identity/current.pem   [key] certificate CA, in use
 *   FOLDER/identity/previous.pem  the one before, while the current has not connected yet
 *   FOLDER/identity/notes         what was learnt (only without a store)
 *
 * A new unit is stored by copying current to previous (unless one is there: that one has proven
 * itself, current has not), then replacing current. previous goes when a connection was made with
 * current, or takes its place when only previous is accepted. Parsing is for the loop's thread, the
 * file calls are for the disk worker.
 */
#ifndef KEI_TUNNEL_IDENTITY_H
#define KEI_TUNNEL_IDENTITY_H

#include <kubeedge/sys/io.h>

#include "base/buf.h"
#include "base/error.h"
#include "crypto/crypto.h"

#define KEI_IDENTITY_FILE_MAX (64u * 1024) /* of each file */

struct kei_identity {
    struct kei_cert *ca;
    struct kei_cert *cert;
    struct kei_key *key;       /* NULL when the host's key is used */
    struct kei_cert_info info; /* of cert; zero without one */
};

void kei_identity_clear(struct kei_identity *id);
/* true if there is a certificate and its CA; the key is there too, or it is the host's */
bool kei_identity_whole(const struct kei_identity *id);
/*
 * Reads a unit. host_key: the host's key when units hold none; it is only compared, id->key stays
 * NULL then. KE_EPARSE (no whole unit), KE_EKEY (key and certificate do not match), KE_ENOMEM; id
 * is left alone then.
 */
int kei_identity_parse(struct kei_identity *id, struct kei_crypto *c, struct ke_str pem,
                       const struct kei_key *host_key, struct ke_error *err);
/* The unit as text, appended; without its key if with_key is false. Wipe it after use. */
int kei_identity_format(struct ke_buf *out, const struct kei_identity *id, bool with_key,
                        struct ke_error *err);
/* CN of a node's certificate: "system:node:NODE" */
bool kei_identity_is_for(const struct kei_identity *id, const char *node_name);
/* Zeroes the bytes of b, then frees it. */
void kei_buf_wipe(struct ke_buf *b);

/* ---- files; disk worker ---- */
/* Reads FOLDER/identity/NAME, appended to out; a missing one is no error (0) and leaves out empty;
 * 1: it was there. */
int kei_identity_read(const struct ke_io *io, const char *folder, const char *name,
                      struct ke_buf *out, struct ke_error *err);
int kei_identity_store(const struct ke_io *io, const struct ke_alloc *a, const char *folder,
                       struct ke_str unit, struct ke_error *err);
int kei_identity_proven(const struct ke_io *io, const char *folder, struct ke_error *err);
int kei_identity_go_back(const struct ke_io *io, const struct ke_alloc *a, const char *folder,
                         struct ke_error *err);
int kei_identity_write_notes(const struct ke_io *io, const char *folder, struct ke_str text,
                             struct ke_error *err);

#endif
