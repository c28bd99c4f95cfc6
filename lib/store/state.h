/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a store can be written, for those who tell people of it. Loop thread. */
#ifndef KEI_STORE_STATE_H
#define KEI_STORE_STATE_H

#include <kubeedge/store.h>

#include "base/error.h"

/* Why the last commit failed, if the disk was the reason; code 0: it did not. */
const struct ke_error *kei_store_trouble(const struct ke_store *s);
/* fn is called when that begins and when it is over, before who made the commit is told. */
void kei_store_watch(struct ke_store *s, void (*fn)(void *user), void *user);

#endif
