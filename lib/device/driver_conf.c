/* SPDX-License-Identifier: Apache-2.0 */
/* Members of a device's configuration and of visitors. Pure, any thread. */
#include "device/driver_conf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

#define PATH_MAX_BYTES 80
#define NS_FROM 1000000

/* Calls fn for each place the member may be in, until one has it. */
static int find(const struct kei_conf *c, const char *name,
                int (*fn)(const struct kei_conf *c, const char *path, void *to), void *to)
{
    static const char *const top[] = {"", NULL};
    const char *const *p = c->prefixes ? c->prefixes : top;
    int r = KE_ENOTFOUND;

    for (; *p && r == KE_ENOTFOUND; p++) {
        char path[PATH_MAX_BYTES];
        snprintf(path, sizeof path, "%s%s", *p, name);
        r = fn(c, path, to);
    }
    return r;
}

static int find_int(const struct kei_conf *c, const char *path, void *to)
{
    return ke_device_config_i64(c->json, c->n, path, to);
}

static int find_bool(const struct kei_conf *c, const char *path, void *to)
{
    return ke_device_config_bool(c->json, c->n, path, to);
}

struct text {
    char *p;
    size_t cap;
};

static int find_str(const struct kei_conf *c, const char *path, void *to)
{
    struct text *t = to;

    return ke_device_config_str(c->json, c->n, path, t->p, t->cap);
}

int kei_conf_int(const struct kei_conf *c, const char *name, int64_t min, int64_t max, int64_t *io)
{
    int64_t v = 0;
    int r = find(c, name, find_int, &v);

    if (r == KE_ENOTFOUND)
        return 0;
    if (r < 0)
        return kei_error(c->err, KE_EINVAL, "\"%s\" is no whole number", name);
    if (v < min || v > max)
        return kei_error(c->err, KE_EINVAL,
                         "\"%s\" is %" PRId64 ", possible is %" PRId64 " to %" PRId64, name, v, min,
                         max);
    *io = v;
    return 0;
}

int kei_conf_bool(const struct kei_conf *c, const char *name, bool *io)
{
    uint32_t v = 0;
    int r = find(c, name, find_bool, &v);

    if (r == KE_ENOTFOUND)
        return 0;
    if (r < 0)
        return kei_error(c->err, KE_EINVAL, "\"%s\" is neither true nor false", name);
    *io = v != 0;
    return 0;
}

int kei_conf_str(const struct kei_conf *c, const char *name, char *out, size_t cap)
{
    char first = out[0];
    int r = find(c, name, find_str, &(struct text){out, cap});

    if (r == KE_ENOTFOUND) {
        out[0] = first;
        return 0;
    }
    if (r == KE_ELIMIT)
        return kei_error(c->err, KE_EINVAL, "\"%s\" is longer than %zu bytes", name, cap - 1);
    if (r < 0)
        return kei_error(c->err, KE_EINVAL, "\"%s\" is no text", name);
    return 0;
}

int kei_conf_enum(const struct kei_conf *c, const char *name, const char *const *names,
                  unsigned *io)
{
    char v[64] = "", all[200] = "";
    size_t n = 0;
    int r = kei_conf_str(c, name, v, sizeof v);

    if (r < 0 || v[0] == '\0')
        return r;
    for (unsigned i = 0; names[i]; i++) {
        if (kei_str_ieq(kei_str(v), kei_str(names[i]))) {
            *io = i;
            return 0;
        }
        int w = snprintf(all + n, sizeof all - n, "%s%s", n ? ", " : "", names[i]);
        if (w > 0)
            n += (size_t)w < sizeof all - n ? (size_t)w : sizeof all - n - 1;
    }
    return kei_error(c->err, KE_EINVAL, "\"%s\" is \"%s\", possible is %s", name, v, all);
}

int kei_conf_duration(const struct kei_conf *c, const char *name, uint32_t max_ms, uint32_t *io_ms)
{
    int64_t v = 0;
    int r = kei_conf_int(c, name, 0, INT64_MAX, &v);

    if (r < 0 || v == 0)
        return r;
    if (v >= NS_FROM)
        v = (v + 999999) / 1000000;
    if (v > max_ms)
        return kei_error(c->err, KE_EINVAL, "\"%s\" is %" PRId64 " ms, possible is up to %u", name,
                         v, max_ms);
    *io_ms = (uint32_t)v;
    return 0;
}

int kei_value_truth(const struct ke_device_value *v, bool *ret, struct ke_error *err)
{
    static const char *const yes[] = {"1", "true", "on"}, *const no[] = {"0", "false", "off"};
    struct ke_str s = kei_strn(v->p, v->n);

    if (v->kind == KE_DEVICE_KIND_TEXT) {
        for (size_t i = 0; i < 3; i++) {
            if (kei_str_ieq(s, kei_str(yes[i])) || kei_str_ieq(s, kei_str(no[i]))) {
                *ret = kei_str_ieq(s, kei_str(yes[i]));
                return 0;
            }
        }
        return kei_error(err, KE_EPARSE, "\"%.*s\" is neither \"on\" nor \"off\"",
                         (int)(s.n > 40 ? 40 : s.n), s.n ? s.p : "");
    }
    if (v->kind == KE_DEVICE_KIND_DOUBLE && (v->d == 0.0 || v->d == 1.0)) {
        *ret = v->d == 1.0;
        return 0;
    }
    if ((v->kind == KE_DEVICE_KIND_INT || v->kind == KE_DEVICE_KIND_UINT ||
         v->kind == KE_DEVICE_KIND_BOOL) &&
        (v->i == 0 || v->i == 1)) {
        *ret = v->i == 1;
        return 0;
    }
    return kei_error(err, KE_EINVAL, "the value is neither 0 nor 1");
}
