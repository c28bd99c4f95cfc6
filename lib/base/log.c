/* SPDX-License-Identifier: Apache-2.0 */
/* One line at a time to the host's callback, formatted on the stack. Any thread. */
#include "base/log.h"

#include <stdarg.h>

#include "base/ctx_priv.h"

#define LINE_MAX_BYTES 1024

int kei_log_on(const struct ke_ctx *ctx, uint32_t level)
{
    return ctx->log && level <= ctx->log_level;
}

void kei_log(struct ke_ctx *ctx, uint32_t level, const char *area, const char *fmt, ...)
{
    if (!kei_log_on(ctx, level))
        return;
    char line[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    kei_text_vformat(line, sizeof line, fmt, ap);
    va_end(ap);
    ctx->log(ctx->log_user, level, area, line);
}
