/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, payloads and topics of the driver for JSON over MQTT. Pure, any thread. */
#include "device/json_path.h"

#include "device/value.h"

/* One step: a member (name), or a place in a list. False at the end, or when malformed (*bad). */
static bool next_step(const char **at, struct ke_str *name, uint64_t *place, bool first, bool *bad)
{
    const char *p = *at;

    *bad = false;
    if (!*p)
        return false;
    if (*p == '[') {
        const char *end = strchr(p, ']');
        *bad = !end || !kei_str_u64(kei_strn(p + 1, (size_t)(end - p) - 1), place);
        name->p = NULL;
        *at = end ? end + 1 : p;
        return !*bad;
    }
    if (!first) {
        *bad = *p++ != '.';
        if (*bad)
            return false;
    }
    size_t n = strcspn(p, ".[");
    *bad = n == 0;
    *name = kei_strn(p, n);
    *at = p + n;
    return !*bad;
}

int kei_json_path_check(const char *path, bool for_writing, struct ke_error *err)
{
    struct ke_str name;
    uint64_t place;
    uint32_t steps = 0;
    bool bad;

    if (strcmp(path, "$") == 0)
        return 0;
    for (const char *at = path; next_step(&at, &name, &place, steps == 0, &bad); steps++) {
        if (steps == KEI_JSON_PATH_STEPS)
            return kei_error(err, KE_EINVAL, "path \"%.80s\" has more than %d steps", path,
                             KEI_JSON_PATH_STEPS);
        if (!name.p && for_writing)
            return kei_error(err, KE_EINVAL,
                             "path \"%.80s\" leads into a list: a command for it needs "
                             "\"commandTemplate\"",
                             path);
    }
    if (bad || steps == 0)
        return kei_error(err, KE_EINVAL, "\"%.80s\" is no path such as state.list[0].value", path);
    return 0;
}

static bool item(struct ke_str list, uint64_t place, struct ke_str *ret)
{
    struct ke_str key;
    size_t it = 0;

    if (kei_json_type(list) != '[')
        return false;
    do {
        if (!kei_json_next(list, &it, &key, ret))
            return false;
    } while (place-- > 0);
    return true;
}

bool kei_json_path_find(struct ke_str doc, const char *path, struct ke_str *ret)
{
    struct ke_str v = doc, name;
    uint64_t place = 0;
    bool bad, first = true;

    if (strcmp(path, "$") == 0) {
        *ret = doc;
        return kei_json_type(doc) != 'n';
    }
    for (const char *at = path; next_step(&at, &name, &place, first, &bad); first = false) {
        char key[128];
        if (!name.p) {
            if (!item(v, place, &v))
                return false;
            continue;
        }
        if (name.n >= sizeof key)
            return false;
        memcpy(key, name.p, name.n);
        key[name.n] = '\0';
        if (!kei_json_get(v, key, &v))
            return false;
    }
    *ret = v;
    return kei_json_type(v) != 'n';
}

int kei_json_to_value(struct ke_device_value *v, struct ke_str json, struct ke_buf *out,
                      struct ke_error *err)
{
    char type = kei_json_type(json);

    if (type == 't' || type == 'f') {
        v->kind = KE_DEVICE_KIND_BOOL;
        v->i = type == 't';
        return 0;
    }
    if (type == '0') {
        if (kei_json_i64(json, &v->i)) {
            v->kind = KE_DEVICE_KIND_INT;
            return 0;
        }
        v->kind = KE_DEVICE_KIND_DOUBLE;
        return kei_number_parse(json, &v->d)
                   ? 0
                   : kei_error(err, KE_EPARSE, "%.*s is out of range", KEI_FMT(json));
    }
    kei_buf_clear(out);
    int r = 0;
    if (type == '"')
        r = kei_json_str(json, out, err);
    else
        kei_buf_addv(out, json); /* an object or a list, as it is */
    if (r == 0 && !kei_buf_ok(out))
        r = kei_error(err, KE_ENOMEM, "out of memory for a value");
    v->kind = KE_DEVICE_KIND_TEXT;
    v->p = out->p;
    v->n = out->n;
    return r;
}

int kei_json_of_value(struct ke_buf *out, const struct ke_device_value *v, struct ke_error *err)
{
    char text[KEI_VALUE_TEXT_MAX];
    struct kei_jw w;

    kei_jw_init(&w, out);
    switch (v->kind) {
    case KE_DEVICE_KIND_INT:
        kei_jw_i64(&w, v->i);
        return 0;
    case KE_DEVICE_KIND_UINT:
        kei_buf_addf(out, "%llu", (unsigned long long)v->i);
        return 0;
    case KE_DEVICE_KIND_DOUBLE:
        if (!(v->d - v->d == 0.0)) /* infinite, or no number */
            return kei_error(err, KE_EINVAL, "the value is not a finite number");
        kei_buf_add(out, text, kei_number_text(text, v->d, false));
        return 0;
    case KE_DEVICE_KIND_BOOL:
        kei_jw_bool(&w, v->i != 0);
        return 0;
    case KE_DEVICE_KIND_TEXT:
    case KE_DEVICE_KIND_BYTES:
        if (!kei_utf8_valid(kei_strn(v->p, v->n)))
            return kei_error(err, KE_EINVAL, "the value is no text");
        kei_jw_strv(&w, kei_strn(v->p, v->n));
        return 0;
    default:
        return kei_error(err, KE_EINVAL, "there is no value");
    }
}

static int from_template(struct ke_buf *out, const char *tmpl, struct ke_str value)
{
    for (const char *p = tmpl; *p;) {
        if (strncmp(p, "${value}", 8) == 0) {
            kei_buf_addv(out, value);
            p += 8;
        } else {
            kei_buf_addc(out, *p++);
        }
    }
    return 0;
}

int kei_json_command(struct ke_buf *out, const char *tmpl, const char *path,
                     const struct ke_device_value *v, struct ke_error *err)
{
    struct ke_buf value;
    struct ke_str name;
    uint64_t place;
    uint32_t depth = 0;
    bool bad;

    kei_buf_init(&value, out->alloc);
    int r = kei_json_of_value(&value, v, err);
    if (r == 0 && tmpl) {
        r = from_template(out, tmpl, kei_buf_str(&value));
    } else if (r == 0 && strcmp(path, "$") == 0) {
        if (v->kind == KE_DEVICE_KIND_TEXT) /* bare, as devices without JSON want it */
            kei_buf_add(out, v->p, v->n);
        else
            kei_buf_addv(out, kei_buf_str(&value));
    } else if (r == 0) {
        struct kei_jw w;
        kei_jw_init(&w, out);
        for (const char *at = path; next_step(&at, &name, &place, depth == 0, &bad); depth++) {
            kei_buf_addc(out, '{');
            w.comma = false;
            kei_jw_strv(&w, name);
            kei_buf_addc(out, ':');
        }
        kei_buf_addv(out, kei_buf_str(&value));
        while (depth-- > 0)
            kei_buf_addc(out, '}');
    }
    if (r == 0 && (!kei_buf_ok(&value) || !kei_buf_ok(out)))
        r = kei_error(err, KE_ENOMEM, "out of memory for a command");
    ke_buf_free(&value);
    return r;
}

void kei_json_expand(struct ke_buf *out, const char *text, const char *ns, const char *name)
{
    for (const char *p = text; *p;) {
        if (strncmp(p, "${namespace}", 12) == 0) {
            kei_buf_adds(out, ns);
            p += 12;
        } else if (strncmp(p, "${name}", 7) == 0) {
            kei_buf_adds(out, name);
            p += 7;
        } else {
            kei_buf_addc(out, *p++);
        }
    }
}

bool kei_json_topic_ok(const char *topic)
{
    return topic[0] && strlen(topic) <= 65535 && !strpbrk(topic, "+#") &&
           kei_utf8_valid(kei_str(topic));
}

bool kei_json_filter_ok(const char *filter)
{
    if (!filter[0] || strlen(filter) > 65535 || !kei_utf8_valid(kei_str(filter)))
        return false;
    for (const char *p = filter; *p; p++) {
        bool begin = p == filter || p[-1] == '/';
        if (*p == '#' && (!begin || p[1]))
            return false;
        if (*p == '+' && (!begin || (p[1] && p[1] != '/')))
            return false;
    }
    return true;
}

bool kei_json_topic_match(const char *filter, struct ke_str topic)
{
    struct ke_str f = kei_str(filter), t = topic;

    if (t.n && t.p[0] == '$' && (f.p[0] == '+' || f.p[0] == '#'))
        return false;
    for (;;) {
        struct ke_str fl, tl;
        fl = kei_str_cut(f, '/', &f);
        if (kei_str_is(fl, "#"))
            return true;
        tl = kei_str_cut(t, '/', &t);
        if (!kei_str_is(fl, "+") && !kei_str_eq(fl, tl))
            return false;
        if (!f.p || !t.p)
            return (!f.p && !t.p) || (!t.p && kei_str_is(f, "#"));
    }
}
