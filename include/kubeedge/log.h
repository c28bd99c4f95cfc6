/* SPDX-License-Identifier: Apache-2.0 */
/* The log callback. The library writes to nothing else: no stdout, no stderr, no syslog. */
#ifndef KUBEEDGE_LOG_H
#define KUBEEDGE_LOG_H

#include <kubeedge/export.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KE_LOG_ERROR 1u /* needs a person */
#define KE_LOG_WARN 2u  /* handled, but a person may want to know */
#define KE_LOG_INFO 3u  /* state changes, few per minute */
#define KE_LOG_DEBUG 4u /* per message */

/*
 * One line, UTF-8, no newline, valid during the call only. area is the layer ("tunnel", "store").
 * Called on any of the context's threads, also concurrently: must be thread-safe, must not block
 * and must not call back into the library.
 */
typedef void (*ke_log_fn)(void *user, uint32_t level, const char *area, const char *text);

#ifdef __cplusplus
}
#endif
#endif
