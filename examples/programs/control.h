/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control socket for a program: one request line in, text out, closed. Non-blocking, driven by the
 * program's own poll loop.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <poll.h>
#include <stddef.h>
#include <stdio.h>

#define CONTROL_CLIENTS 8
#define CONTROL_FDS (1 + CONTROL_CLIENTS)

struct control;

/* Writes the answer to a request line (without its newline) to out. */
typedef void (*control_fn)(void *user, const char *request, FILE *out);

/* Listens on FOLDER/control.sock (0600). NULL: errno tells. */
struct control *control_new(const char *folder, control_fn fn, void *user);
void control_free(struct control *c);
/* Adds its fds to p (room for CONTROL_FDS); returns how many. */
size_t control_prepare(struct control *c, struct pollfd *p);
void control_handle(struct control *c, const struct pollfd *p, size_t n);

/* The other side: sends request to FOLDER/control.sock and copies the answer to out. 0, or -1 with
 * errno. */
int control_ask(const char *folder, const char *request, FILE *out);

#endif
