/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the neutral messages of the node's modules (lib/README.md) to what a cloud of a dialect
 * expects. Pure.
 */
#ifndef KEI_MESSAGE_DIALECT_H
#define KEI_MESSAGE_DIALECT_H

#include <stdbool.h>

#include <kubeedge/msg.h>

/* In the upgrade request of our node: the id of its store, to our cloud. Others do not look. */
#define KEI_STORE_HEADER "Libkubeedge-Store"
/* The newest version of an object that our node has applied: tells copies of an older day, here or
 * there. */
#define KEI_NEWEST_HEADER "Libkubeedge-Newest"
/*
 * In the upgrade request of our node: "1", it merges twins by stamps (message/twin_merge.h); in the
 * answer of our cloud: "1 NOW", it does too, and its clock says NOW (Unix ms; 0: it is not set).
 * Only between two who said it messages have the member `merge`.
 */
#define KEI_MERGE_HEADER "Libkubeedge-Twin-Merge"

/*
 * *ret is a new reference: m itself when nothing changes, else a message with the same id, parent
 * id and timestamp; or NULL when this dialect has no such message (leases in 1.4): then it counts
 * as sent. An unknown dialect (AUTO) is treated as 1.15.
 */
int kei_dialect_translate(struct ke_msg **ret, struct ke_ctx *ctx, struct ke_msg *m,
                          uint32_t dialect, struct ke_error *err);
/* "1.4", "1.15", "1.23", "auto"; 0 for unknown text / NULL for unknown number */
bool kei_dialect_parse(const char *s, uint32_t *ret);
const char *kei_dialect_name(uint32_t dialect);
/* "v1.26.15-kubeedge-v1.15.4" and the like: what kubeletVersion must look like */
const char *kei_dialect_kubelet_version(uint32_t dialect);

#endif
