/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mark that the store may have lost pods: a file in the data folder, so that it outlives the
 * store. As long as it is there, what runs without a pod is not ended. Pure but for the files;
 * blocks.
 */
#ifndef KEI_NODE_DOUBT_H
#define KEI_NODE_DOUBT_H

#include <kubeedge/sys/io.h>

#include "base/error.h"

/* Before the store is opened: marks the folder if it has workloads and no store. */
int kei_doubt_look(const struct ke_io *io, const char *data, struct ke_error *err);
int kei_doubt_mark(const struct ke_io *io, const char *data, struct ke_error *err);
/* 1: marked, 0: not; negative: that cannot be told. */
int kei_doubt_marked(const struct ke_io *io, const char *data, struct ke_error *err);
int kei_doubt_clear(const struct ke_io *io, const char *data, struct ke_error *err);

#endif
