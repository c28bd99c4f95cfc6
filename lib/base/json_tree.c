/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON trees: cJSON behind caps, the only place that knows it. The scanner looks first, so depth
 * and bytes are known before cJSON allocates. A tree belongs to who parsed it; read-only, so any
 * thread. cJSON allocates through its own process-wide hooks, which are the host's.
 */
#include <cjson/cJSON.h>

#include "base/alloc.h"
#include "base/json.h"

#define MAX_BYTES (UINT32_C(32) << 20)

/* A cJSON node seen from outside: the same address under a name of our own. */
static const cJSON *node(const struct kei_jv *v)
{
    return (const cJSON *)(const void *)v;
}

static const struct kei_jv *value(const cJSON *n)
{
    return (const struct kei_jv *)(const void *)n;
}

enum { PLAIN, HAS_NUL, HAS_LONE };

/* The code unit of a \uXXXX escape at p, which the checker has accepted. */
static uint32_t unit_at(const char *p)
{
    uint32_t v = 0;

    for (int i = 2; i < 6; i++) {
        uint32_t c = (uint32_t)(unsigned char)p[i];
        v = v << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return v;
}

/*
 * Looks for what cJSON cannot take: \u0000 (it would cut the string) and half surrogate pairs (it
 * would refuse the text). The latter become U+FFFD in copy, if there is one.
 */
static int find_escapes(struct ke_str text, char *copy)
{
    int found = PLAIN;

    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] != '\\')
            continue;
        if (text.p[i + 1] != 'u') {
            i++;
            continue;
        }
        uint32_t u = unit_at(text.p + i);
        bool high = u >= 0xd800 && u <= 0xdbff;
        if (u == 0)
            return HAS_NUL;
        if (high && text.p[i + 6] == '\\' && text.p[i + 7] == 'u' &&
            (unit_at(text.p + i + 6) & 0xfc00) == 0xdc00) {
            i += 11;
            continue;
        }
        if (high || (u & 0xfc00) == 0xdc00) {
            found = HAS_LONE;
            if (copy)
                memcpy(copy + i + 2, "fffd", 4);
        }
        i += 5;
    }
    return found;
}

int kei_jtree_parse(struct kei_jtree **ret, struct ke_str text, size_t max_bytes,
                    struct ke_error *err)
{
    size_t max = max_bytes ? max_bytes : MAX_BYTES;
    char *copy = NULL;

    if (text.n > max)
        return kei_error(err, KE_ELIMIT, "JSON had %zu bytes, over the limit of %zu", text.n, max);
    int r = kei_json_check(text, 0, err);
    if (r < 0)
        return r;
    int found = find_escapes(text, NULL);
    if (found == HAS_NUL)
        return kei_error(err, KE_EPARSE, "JSON string held \\u0000, which is not accepted");
    if (found == HAS_LONE) {
        copy = kei_strndup(kei_alloc_malloc(), text.p, text.n);
        if (!copy)
            return kei_error(err, KE_ENOMEM, "memory ran out while JSON was read");
        find_escapes(text, copy);
    }
    cJSON *root = cJSON_ParseWithLengthOpts(copy ? copy : text.p, text.n, NULL, 0);
    kei_free(kei_alloc_malloc(), copy);
    if (!root)
        return kei_error(err, KE_ENOMEM, "memory ran out while JSON of %zu bytes was read", text.n);
    *ret = (struct kei_jtree *)(void *)root;
    return 0;
}

void kei_jtree_free(struct kei_jtree *t)
{
    cJSON_Delete((cJSON *)(void *)t);
}

const struct kei_jv *kei_jtree_root(const struct kei_jtree *t)
{
    return (const struct kei_jv *)(const void *)t;
}

const struct kei_jv *kei_jv_get(const struct kei_jv *v, const char *key)
{
    const cJSON *found = NULL;

    if (!v || !cJSON_IsObject(node(v)))
        return NULL;
    for (const cJSON *c = node(v)->child; c; c = c->next) {
        if (c->string && strcmp(c->string, key) == 0)
            found = c; /* the last one counts */
    }
    return value(found);
}

const struct kei_jv *kei_jv_path(const struct kei_jv *v, const char *dotted)
{
    struct ke_str rest = kei_str(dotted);

    do {
        char key[128];
        struct ke_str part = kei_str_cut(rest, '.', &rest);
        if (part.n >= sizeof key)
            return NULL;
        memcpy(key, part.p, part.n);
        key[part.n] = '\0';
        v = kei_jv_get(v, key);
    } while (v && rest.p);
    return v;
}

const struct kei_jv *kei_jv_first(const struct kei_jv *v)
{
    return v && (cJSON_IsObject(node(v)) || cJSON_IsArray(node(v))) ? value(node(v)->child) : NULL;
}

const struct kei_jv *kei_jv_sibling(const struct kei_jv *v)
{
    return v ? value(node(v)->next) : NULL;
}

const char *kei_jv_key(const struct kei_jv *v)
{
    return v && node(v)->string ? node(v)->string : "";
}

const char *kei_jv_str(const struct kei_jv *v, const char *dflt)
{
    return v && cJSON_IsString(node(v)) && node(v)->valuestring ? node(v)->valuestring : dflt;
}

int64_t kei_jv_i64(const struct kei_jv *v, int64_t dflt)
{
    if (!v || !cJSON_IsNumber(node(v)))
        return dflt;
    double d = node(v)->valuedouble;
    /* beyond 2^53 the double has lost the number: not a value to act on */
    if (!(d > -9007199254740992.0 && d < 9007199254740992.0))
        return dflt;
    return (int64_t)d;
}

bool kei_jv_bool(const struct kei_jv *v, bool dflt)
{
    return v && cJSON_IsBool(node(v)) ? cJSON_IsTrue(node(v)) : dflt;
}

char kei_jv_type(const struct kei_jv *v)
{
    if (!v)
        return 0;
    switch (node(v)->type & 0xff) {
    case cJSON_Object:
        return '{';
    case cJSON_Array:
        return '[';
    case cJSON_String:
        return '"';
    case cJSON_Number:
        return '0';
    case cJSON_True:
        return 't';
    case cJSON_False:
        return 'f';
    case cJSON_NULL:
        return 'n';
    default:
        return 0;
    }
}

uint32_t kei_jv_count(const struct kei_jv *v)
{
    uint32_t n = 0;

    for (v = kei_jv_first(v); v; v = kei_jv_sibling(v))
        n++;
    return n;
}
