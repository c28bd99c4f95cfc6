/* SPDX-License-Identifier: Apache-2.0 */
/* Logging through the context's callback. Errors that are returned are not logged. Any thread. */
#ifndef KEI_BASE_LOG_H
#define KEI_BASE_LOG_H

#include <kubeedge/log.h>

struct ke_ctx;

void kei_log(struct ke_ctx *ctx, uint32_t level, const char *area, const char *fmt, ...)
    KE_PRINTF(4, 5);
int kei_log_on(const struct ke_ctx *ctx, uint32_t level); /* 1 if such a line would be passed on */

#endif
