/* SPDX-License-Identifier: Apache-2.0 */
/* The socket a listener accepts on: opened, bound, and its file removed again. Any thread. */
#ifndef KEI_NET_BIND_H
#define KEI_NET_BIND_H

#include <stdint.h>

#include "net/addr.h"

/* The file of a unix socket as bind made it; zeros: none. */
struct kei_sock_file {
    uint64_t dev, ino;
};

/*
 * A new socket that listens at *a, whose port is the one bound afterwards. "::" takes IPv4 as well.
 * A unix socket's file has the given mode from the first moment (0: 0600); one left there by a
 * process that died is replaced, any other file is not. Returns the fd, which the caller closes
 * after kei_sock_unlink.
 *
 * Errors: KE_EADDRINUSE: another program listens there; KE_ESYS and other codes of errno.
 */
int kei_sock_listen(struct kei_addr *a, uint32_t mode, struct kei_sock_file *file,
                    struct ke_error *err);
/* Removes the socket file, unless somebody put another in its place. */
void kei_sock_unlink(const struct kei_addr *a, const struct kei_sock_file *file);

#endif
