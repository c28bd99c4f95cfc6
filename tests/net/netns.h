/* SPDX-License-Identifier: Apache-2.0 */
/* A network of the test's own: nothing but a loopback that can be switched off. */
#ifndef TEST_NET_NETNS_H
#define TEST_NET_NETNS_H

#include <stdbool.h>

bool netns_enter(void); /* for the whole process; false: not permitted here */
void netns_loopback(bool up);

#endif
