/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes used by every public header. */
#ifndef KUBEEDGE_EXPORT_H
#define KUBEEDGE_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define KE_API __attribute__((visibility("default")))
#define KE_NODISCARD __attribute__((warn_unused_result))
#define KE_DEPRECATED(text) __attribute__((deprecated(text)))
#define KE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define KE_API
#define KE_NODISCARD
#define KE_DEPRECATED(text)
#define KE_PRINTF(fmt, args)
#endif

#endif
