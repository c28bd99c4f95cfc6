/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs share: log lines, lists from flags, the loop over the context's fd. */
#ifndef COMMON_H
#define COMMON_H

#include <stdio.h>

#include <kubeedge/kubeedge.h>

#include "control.h"

#define EXIT_USAGE 2 /* a flag is wrong */
#define EXIT_FILE 3  /* a file or folder is wrong */

/* ke_log_fn: one line to stderr */
void log_line(void *user, uint32_t level, const char *area, const char *text);
/* "error", "warn", "info", "debug"; 0: unknown */
uint32_t log_level(const char *word);
/* Whole decimal number up to max; -1: not one. */
long parse_number(const char *s, long max);
/* Splits a copy of "a,b,c"; *n items, NULL-terminated. Exits when memory is out. */
char **split_list(const char *s, uint32_t *n);
void *must(void *p); /* ends the program when p is NULL */
/* A cell of a table, width bytes at least. What devices say is not trusted: control characters, which would make lines
 * of their own or steer the terminal, become '?'. */
void print_cell(FILE *out, int width, const char *text);

/* Runs the context until SIGTERM or SIGINT, or until stop(user) is not 0. Returns 0, or KE_E*. */
int run_loop(struct ke_ctx *ctx, struct control *c, int (*stop)(void *user), void *user);
/* Blocks SIGTERM and SIGINT, which run_loop takes by signalfd; ignores SIGPIPE. First thing in main. */
void block_signals(void);

#endif
