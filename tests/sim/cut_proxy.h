/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes bytes between a client and a server on loopback and closes each connection after so many
 * bytes of either direction: a peer that goes at any byte. Owner: the test. Loop thread.
 */
#ifndef TESTS_SIM_CUT_PROXY_H
#define TESTS_SIM_CUT_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include <kubeedge/ctx.h>

struct cut_proxy;

struct cut_proxy *cut_proxy_new(struct ke_ctx *ctx, uint16_t to_port);
void cut_proxy_free(struct cut_proxy *p);
uint16_t cut_proxy_port(const struct cut_proxy *p);
/* For connections to come: closed after this many bytes to the client (down) or to the server (up);
 * UINT64_MAX: never. */
void cut_proxy_limit(struct cut_proxy *p, uint64_t down, uint64_t up);
/* Closes the present connections. */
void cut_proxy_cut(struct cut_proxy *p);
/* Stops passing bytes on the present connections, without closing them. */
void cut_proxy_stall(struct cut_proxy *p, bool stalled);
/* An HTTP proxy from now on: each connection begins with CONNECT, refused unless the base64 of
 * "user:password" comes with it. What was asked for is the caller's to read. */
void cut_proxy_http(struct cut_proxy *p, const char *base64);
const char *cut_proxy_asked(const struct cut_proxy *p);    /* target of the last CONNECT */
uint32_t cut_proxy_connections(const struct cut_proxy *p); /* so far */

#endif
