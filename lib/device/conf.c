/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a driver's configuration, as the types a driver wants. Pure; any thread. */
#include <kubeedge/device.h>

#include "message/devmodel.h"

#define PATH_PART_MAX 128

/* 0 with the span, KE_ENOTFOUND, KE_EPARSE (json is no JSON) */
static int find(const char *json, size_t n, const char *path, struct ke_str *ret)
{
    struct ke_str v, rest = kei_str(path);

    if (!json || !path || n == 0)
        return KE_ENOTFOUND;
    if (kei_json_value(kei_strn(json, n), 0, &v, NULL) < 0)
        return KE_EPARSE;
    do {
        char key[PATH_PART_MAX];
        struct ke_str part = kei_str_cut(rest, '.', &rest);
        if (part.n >= sizeof key)
            return KE_ENOTFOUND;
        memcpy(key, part.p, part.n);
        key[part.n] = '\0';
        if (!kei_json_get(v, key, ret) && !kei_json_iget(v, key, ret))
            return KE_ENOTFOUND;
        v = *ret;
    } while (rest.p);
    return kei_json_type(v) == 'n' ? KE_ENOTFOUND : 0;
}

/* A number, or a string that holds one: its text. */
static int number_text(struct ke_str v, char *out, size_t cap, struct ke_str *ret)
{
    if (kei_json_type(v) == '0') {
        *ret = v;
        return 0;
    }
    if (kei_json_type(v) != '"' || v.n >= cap)
        return KE_EPARSE;
    *ret = kei_str_trim(kei_strn(out, kei_json_copy(out, cap, v)));
    return 0;
}

int ke_device_config_f64(const char *json, size_t n, const char *path, double *ret)
{
    char text[400];
    struct ke_str v, s;
    int r = ret ? find(json, n, path, &v) : KE_EINVAL;

    if (r == 0)
        r = number_text(v, text, sizeof text, &s);
    if (r == 0 && !kei_number_parse(s, ret))
        r = KE_EPARSE;
    return r;
}

int ke_device_config_i64(const char *json, size_t n, const char *path, int64_t *ret)
{
    char text[64];
    struct ke_str v, s, num;
    int64_t i;
    int r = ret ? find(json, n, path, &v) : KE_EINVAL;

    if (r == 0)
        r = number_text(v, text, sizeof text, &s);
    if (r < 0)
        return r;
    /* as JSON it may be 502.0 or 1e3, exactly */
    if (kei_json_value(s, 0, &num, NULL) < 0 || num.n != s.n || !kei_json_i64(num, &i)) {
        if (!kei_str_i64(s, &i))
            return KE_EPARSE;
    }
    *ret = i;
    return 0;
}

int ke_device_config_bool(const char *json, size_t n, const char *path, uint32_t *ret)
{
    char text[8];
    struct ke_str v, s;
    int r = ret ? find(json, n, path, &v) : KE_EINVAL;

    if (r < 0)
        return r;
    char t = kei_json_type(v);
    if (t == 't' || t == 'f') {
        *ret = t == 't';
        return 0;
    }
    if (number_text(v, text, sizeof text, &s) < 0)
        return KE_EPARSE;
    bool yes = kei_str_ieq(s, KEI_STR("true")) || kei_str_is(s, "1");
    if (!yes && !kei_str_ieq(s, KEI_STR("false")) && !kei_str_is(s, "0"))
        return KE_EPARSE;
    *ret = yes;
    return 0;
}

int ke_device_config_str(const char *json, size_t n, const char *path, char *out, size_t cap)
{
    struct ke_str v;
    int r = out && cap ? find(json, n, path, &v) : KE_EINVAL;

    if (r < 0)
        return r;
    char t = kei_json_type(v);
    if (t == '0') {
        if (v.n >= cap)
            return KE_ELIMIT;
        memcpy(out, v.p, v.n);
        out[v.n] = '\0';
        return 0;
    }
    if (t != '"')
        return KE_EPARSE;
    if (v.n - 2 >= cap) /* what it decodes to is no longer */
        return KE_ELIMIT;
    kei_json_copy(out, cap, v);
    return 0;
}
