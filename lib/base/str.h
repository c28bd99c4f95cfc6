/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed string views. No memory of their own. */
#ifndef KEI_BASE_STR_H
#define KEI_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct ke_str {
    const char *p; /* not NUL-terminated; may be NULL when n is 0 */
    size_t n;
};

#define KEI_STR(lit) ((struct ke_str){(lit), sizeof(lit) - 1})
/* for printf "%.*s" */
#define KEI_FMT(s) ((int)((s).n > 4096 ? 4096 : (s).n)), ((s).p ? (s).p : "")

static inline struct ke_str kei_str(const char *s)
{
    return (struct ke_str){s, s ? strlen(s) : 0};
}
static inline struct ke_str kei_strn(const char *p, size_t n)
{
    return (struct ke_str){p, n};
}
static inline bool kei_str_eq(struct ke_str a, struct ke_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool kei_str_is(struct ke_str a, const char *lit)
{
    return kei_str_eq(a, kei_str(lit));
}
bool kei_str_ieq(struct ke_str a, struct ke_str b); /* ASCII case ignored, any locale */
bool kei_str_starts(struct ke_str s, struct ke_str prefix);
bool kei_str_ends(struct ke_str s, struct ke_str suffix);
/* bytes until the first sep; *rest is what follows it (p NULL if there was none) */
struct ke_str kei_str_cut(struct ke_str s, char sep, struct ke_str *rest);
struct ke_str kei_str_trim(struct ke_str s); /* spaces, tabs, CR, LF at both ends */
bool kei_str_has(struct ke_str s, struct ke_str part);
/* whole string is a decimal number in range; locale-free. false leaves *ret alone */
bool kei_str_u64(struct ke_str s, uint64_t *ret);
bool kei_str_i64(struct ke_str s, int64_t *ret);
/* bytes of the valid UTF-8 character at p, 0 if there is none */
size_t kei_utf8_next(const char *p, size_t n);
size_t kei_utf8_encode(uint32_t u, char out[4]); /* bytes written; u <= 0x10ffff, no surrogate */
/* a valid UTF-8 string without NUL */
bool kei_utf8_valid(struct ke_str s);
/* Kubernetes names: DNS subdomain (RFC 1123, <= 253) and label (<= 63) */
bool kei_dns_subdomain(struct ke_str s);
bool kei_dns_label(struct ke_str s);

#endif
