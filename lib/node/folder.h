/* SPDX-License-Identifier: Apache-2.0 */
/* Who else may enter the data folder. Blocks; loop. */
#ifndef KEI_NODE_FOLDER_H
#define KEI_NODE_FOLDER_H

#include <kubeedge/ctx.h>

/*
 * The folder has the node's keys and the secrets of its pods: KE_EACCES if another user owns it;
 * what the group and others may do in it is taken away, which is logged. Only with files of the
 * operating system.
 */
int kei_node_folder_guard(struct ke_ctx *ctx, const char *path);

#endif
