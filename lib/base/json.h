/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON in three forms, all behind caps:
 *  - spans: a strict, allocation-free scanner over the source text. What is stored and forwarded is
 *    cut out of the source with it, byte for byte. Numbers are read from the source text.
 *  - tree: cJSON, for reading objects with many members. Never printed.
 *  - writer: appends JSON to a ke_buf.
 * Strings with \u0000 are refused wherever a C string is made of them.
 */
#ifndef KEI_BASE_JSON_H
#define KEI_BASE_JSON_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#define KEI_JSON_DEPTH 128

/* ---- spans ---- */

/*
 * Checks that text starts with one JSON value (leading white space allowed) no deeper than depth
 * (0: KEI_JSON_DEPTH); *ret is its span, without white space. KE_EPARSE with offset, KE_ELIMIT.
 */
int kei_json_value(struct ke_str text, uint32_t depth, struct ke_str *ret, struct ke_error *err);
/* As above, and nothing but white space may follow. */
int kei_json_check(struct ke_str text, uint32_t depth, struct ke_error *err);

/* All below take spans that kei_json_value accepted. */
char kei_json_type(struct ke_str v); /* '{' '[' '"' '0' (number) 't' 'f' 'n', 0 for empty */
/* member of an object; false if absent or v is no object. The last of duplicate keys counts. */
bool kei_json_get(struct ke_str v, const char *key, struct ke_str *ret);
bool kei_json_iget(struct ke_str v, const char *key, struct ke_str *ret); /* case ignored, as Go */
/* dotted path of members, e.g. "metadata.uid"; keys with dots cannot be reached this way */
bool kei_json_path(struct ke_str v, const char *path, struct ke_str *ret);
/* Walks members of an object or items of an array (key is empty then); *it starts at 0. key is the
 * raw text between the quotes. */
bool kei_json_next(struct ke_str v, size_t *it, struct ke_str *ret_key, struct ke_str *ret_value);
/* Decodes a string span, appended to out. KE_EPARSE (not a string, lone surrogates become U+FFFD as
 * in Go, \u0000). */
int kei_json_str(struct ke_str v, struct ke_buf *out, struct ke_error *err);
/* The same into an arena, NUL-terminated; KE_EPARSE, KE_ENOMEM. */
int kei_json_text(char **ret, struct ke_str v, struct kei_arena *a, struct ke_error *err);
/* The same into out of cap bytes, cut at a character; control characters and NUL become '?'; ""
 * if it is no string. Returns the length. */
size_t kei_json_copy(char *out, size_t cap, struct ke_str v);
/* kei_json_text without a word why not: NULL if it is no string, holds NUL or memory is out. */
char *kei_json_strdup(struct ke_str v, struct kei_arena *a);
/* member path as C string in the arena; "" if absent or no string */
const char *kei_json_path_str(struct ke_str v, const char *path, struct kei_arena *a);
bool kei_json_str_is(struct ke_str v, const char *s); /* a string span equal to s, decoded */
bool kei_json_key_is(struct ke_str raw_key, const char *s);
/* the same text once decoded: raw keys, string spans */
bool kei_json_key_eq(struct ke_str raw_a, struct ke_str raw_b);
bool kei_json_str_eq(struct ke_str a, struct ke_str b);
bool kei_json_num_eq(struct ke_str a, struct ke_str b); /* numbers by value, at any precision */
bool kei_json_i64(struct ke_str v, int64_t *ret); /* integer in range; also 1e3, 1.0 */
bool kei_json_bool(struct ke_str v, bool dflt);

/* ---- tree (cJSON), read-only ---- */

struct kei_jtree; /* a parsed document */
struct kei_jv;    /* a value in it; NULL is allowed everywhere and reads as absent */

/* max_bytes 0: 32 MiB. */
int kei_jtree_parse(struct kei_jtree **ret, struct ke_str text, size_t max_bytes,
                    struct ke_error *err);
void kei_jtree_free(struct kei_jtree *t);
const struct kei_jv *kei_jtree_root(const struct kei_jtree *t);
const struct kei_jv *kei_jv_get(const struct kei_jv *v, const char *key);
const struct kei_jv *kei_jv_path(const struct kei_jv *v, const char *dotted);
const struct kei_jv *kei_jv_first(const struct kei_jv *v); /* first member or item */
const struct kei_jv *kei_jv_sibling(const struct kei_jv *v);
const char *kei_jv_key(const struct kei_jv *v); /* of a member; "" for items */
const char *kei_jv_str(const struct kei_jv *v, const char *dflt);
int64_t kei_jv_i64(const struct kei_jv *v, int64_t dflt); /* exact below 2^53 only */
bool kei_jv_bool(const struct kei_jv *v, bool dflt);
char kei_jv_type(const struct kei_jv *v); /* as kei_json_type, 0 if absent */
uint32_t kei_jv_count(const struct kei_jv *v);

/* ---- writer ---- */

struct kei_jw {
    struct ke_buf *out;
    uint32_t depth;
    bool comma; /* a comma is due before the next value or key */
};

void kei_jw_init(struct kei_jw *w, struct ke_buf *out);
void kei_jw_obj(struct kei_jw *w);
void kei_jw_obj_end(struct kei_jw *w);
void kei_jw_arr(struct kei_jw *w);
void kei_jw_arr_end(struct kei_jw *w);
void kei_jw_key(struct kei_jw *w, const char *key);
void kei_jw_str(struct kei_jw *w, const char *s); /* invalid UTF-8 becomes U+FFFD; NULL: null */
void kei_jw_strv(struct kei_jw *w, struct ke_str s);
void kei_jw_i64(struct kei_jw *w, int64_t v);
void kei_jw_bool(struct kei_jw *w, bool v);
void kei_jw_null(struct kei_jw *w);
void kei_jw_raw(struct kei_jw *w, struct ke_str json); /* one JSON value as it is */
/* key + value in one */
void kei_jw_kstr(struct kei_jw *w, const char *key, const char *s);
void kei_jw_ki64(struct kei_jw *w, const char *key, int64_t v);
void kei_jw_kbool(struct kei_jw *w, const char *key, bool v);
void kei_jw_kraw(struct kei_jw *w, const char *key, struct ke_str json);

#endif
