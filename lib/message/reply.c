/* SPDX-License-Identifier: Apache-2.0 */
/* What a cloud answers: objects, "OK", and its many forms of error. Pure, no memory; any thread. */
#include <stdio.h>

#include "base/json.h"
#include "message/msg_priv.h"

static void set_text(struct kei_reply *r, const char *what, struct ke_str json)
{
    size_t n = (size_t)snprintf(r->text, sizeof r->text, "%s", what);

    for (size_t i = 0; i < json.n && n < sizeof r->text - 1; n++, i++) {
        unsigned char c = (unsigned char)json.p[i];
        r->text[n] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
    }
    r->text[n] = '\0';
    /* not half a character at the end */
    while (n && !kei_utf8_valid(kei_strn(r->text, n)) && (unsigned char)r->text[n - 1] >= 0x80)
        r->text[--n] = '\0';
}

/* metav1.Status */
static void read_status(struct kei_reply *r, struct ke_str status)
{
    struct ke_str v;

    r->kind = KEI_REPLY_ERROR;
    if (kei_json_get(status, "reason", &v))
        kei_json_copy(r->reason, sizeof r->reason, v);
    if (!kei_json_get(status, "code", &v) || !kei_json_i64(v, &r->code))
        r->code = 0;
    if (kei_json_get(status, "message", &v))
        kei_json_copy(r->text, sizeof r->text, v);
    if (!r->text[0])
        set_text(r, "the cloud answered with an error without text: ", status);
}

static bool is_empty_object(struct ke_str v)
{
    size_t it = 0;

    return kei_json_type(v) == '{' && !kei_json_next(v, &it, NULL, NULL);
}

/* A Go error as JSON: an API status, the exported fields of another type, or {} */
static void read_error(struct kei_reply *r, struct ke_str e)
{
    struct ke_str v;

    if (kei_json_get(e, "ErrStatus", &v)) {
        read_status(r, v);
        return;
    }
    r->kind = KEI_REPLY_ERROR;
    if (kei_json_type(e) == '"')
        kei_json_copy(r->text, sizeof r->text, e);
    else if (!is_empty_object(e))
        set_text(r, "the cloud failed: ", e);
    if (!r->text[0])
        set_text(r, "the cloud answered with an empty error", kei_strn(NULL, 0));
}

void kei_reply_read(struct kei_reply *r, struct ke_str content)
{
    struct ke_str object, e, v;

    memset(r, 0, sizeof *r);
    content = kei_str_trim(content);
    switch (kei_json_type(content)) {
    case '"':
        if (kei_json_str_is(content, "OK"))
            r->kind = KEI_REPLY_OK;
        else
            read_error(r, content);
        return;
    case '{':
        if (kei_json_get(content, "Object", &object) && kei_json_get(content, "Err", &e)) {
            if (kei_json_type(e) != 'n')
                read_error(r, e);
            else
                r->object = object;
        } else if (kei_json_get(content, "ErrStatus", &v) || is_empty_object(content)) {
            read_error(r, content);
        } else if (kei_json_get(content, "kind", &v) && kei_json_str_is(v, "Status") &&
                   kei_json_get(content, "status", &v) && kei_json_str_is(v, "Failure")) {
            read_status(r, content);
        } else {
            r->object = content;
        }
        return;
    case '[':
    case 'n':
        r->object = content;
        return;
    case 0:
        r->object = KEI_STR("null");
        return;
    default:
        r->kind = KEI_REPLY_ERROR;
        set_text(r, "the cloud answered with something that is no object: ", content);
    }
}

void kei_errstatus_write(struct ke_buf *out, const char *reason, int code, const char *kind,
                         const char *name, const char *message)
{
    struct ke_str group, k = kei_str_cut(kei_str(kind), '.', &group);
    struct kei_jw w;
    char text[512];

    if (!message) {
        const char *what = strcmp(reason, "NotFound") == 0        ? "not found"
                           : strcmp(reason, "AlreadyExists") == 0 ? "already exists"
                                                                  : reason;
        snprintf(text, sizeof text, "%s \"%s\" %s", kind, name, what);
        message = text;
    }
    kei_jw_init(&w, out);
    kei_jw_obj(&w);
    kei_jw_key(&w, "ErrStatus");
    kei_jw_obj(&w);
    kei_jw_kraw(&w, "metadata", KEI_STR("{}"));
    kei_jw_kstr(&w, "status", "Failure");
    kei_jw_kstr(&w, "message", message);
    kei_jw_kstr(&w, "reason", reason);
    kei_jw_key(&w, "details");
    kei_jw_obj(&w);
    kei_jw_kstr(&w, "name", name);
    if (group.n) {
        kei_jw_key(&w, "group");
        kei_jw_strv(&w, group);
    }
    kei_jw_key(&w, "kind");
    kei_jw_strv(&w, k);
    kei_jw_obj_end(&w);
    kei_jw_ki64(&w, "code", code);
    kei_jw_obj_end(&w);
    kei_jw_obj_end(&w);
}
