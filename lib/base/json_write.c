/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends JSON to a buffer. The buffer is the caller's and remembers a failure, so the writer has
 * no errors of its own: check kei_buf_ok at the end. One thread at a time.
 */
#include "base/json.h"

void kei_jw_init(struct kei_jw *w, struct ke_buf *out)
{
    *w = (struct kei_jw){out, 0, false};
}

static void before_value(struct kei_jw *w)
{
    if (w->comma)
        kei_buf_addc(w->out, ',');
    w->comma = true;
}

static void open_level(struct kei_jw *w, char c)
{
    before_value(w);
    kei_buf_addc(w->out, c);
    w->depth++;
    w->comma = false;
}

static void close_level(struct kei_jw *w, char c)
{
    kei_buf_addc(w->out, c);
    w->depth--;
    w->comma = true;
}

void kei_jw_obj(struct kei_jw *w)
{
    open_level(w, '{');
}

void kei_jw_obj_end(struct kei_jw *w)
{
    close_level(w, '}');
}

void kei_jw_arr(struct kei_jw *w)
{
    open_level(w, '[');
}

void kei_jw_arr_end(struct kei_jw *w)
{
    close_level(w, ']');
}

/*
 * Escapes as encoding/json of Go does, '<', '>', '&' and U+2028/2029 included, so that what is
 * read and written again stays the same bytes.
 */
static void add_quoted(struct ke_buf *out, struct ke_str s)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0, i = 0;

    kei_buf_addc(out, '"');
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&') {
            i++;
            continue;
        }
        size_t n = kei_utf8_next(s.p + i, s.n - i);
        bool line_sep = n == 3 && memcmp(s.p + i, "\xe2\x80", 2) == 0 &&
                        ((unsigned char)s.p[i + 2] & 0xfe) == 0xa8;
        if (n > 1 && !line_sep) {
            i += n;
            continue;
        }
        kei_buf_add(out, s.p + from, i - from);
        if (n == 0) {
            kei_buf_adds(out, "\\ufffd");
        } else if (line_sep) {
            kei_buf_adds(out, (unsigned char)s.p[i + 2] == 0xa8 ? "\\u2028" : "\\u2029");
        } else if (c == '"' || c == '\\') {
            kei_buf_add(out, c == '"' ? "\\\"" : "\\\\", 2);
        } else if (c == '\n' || c == '\r' || c == '\t') {
            kei_buf_adds(out, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else {
            char esc[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            kei_buf_add(out, esc, sizeof esc);
        }
        i += n ? n : 1;
        from = i;
    }
    if (s.n > from)
        kei_buf_add(out, s.p + from, s.n - from);
    kei_buf_addc(out, '"');
}

void kei_jw_key(struct kei_jw *w, const char *key)
{
    before_value(w);
    add_quoted(w->out, kei_str(key));
    kei_buf_addc(w->out, ':');
    w->comma = false;
}

void kei_jw_str(struct kei_jw *w, const char *s)
{
    if (s)
        kei_jw_strv(w, kei_str(s));
    else
        kei_jw_null(w);
}

void kei_jw_strv(struct kei_jw *w, struct ke_str s)
{
    before_value(w);
    add_quoted(w->out, s);
}

void kei_jw_i64(struct kei_jw *w, int64_t v)
{
    before_value(w);
    kei_buf_addi(w->out, v);
}

void kei_jw_bool(struct kei_jw *w, bool v)
{
    before_value(w);
    kei_buf_adds(w->out, v ? "true" : "false");
}

void kei_jw_null(struct kei_jw *w)
{
    before_value(w);
    kei_buf_adds(w->out, "null");
}

void kei_jw_raw(struct kei_jw *w, struct ke_str json)
{
    before_value(w);
    kei_buf_addv(w->out, json);
}

void kei_jw_kstr(struct kei_jw *w, const char *key, const char *s)
{
    kei_jw_key(w, key);
    kei_jw_str(w, s);
}

void kei_jw_ki64(struct kei_jw *w, const char *key, int64_t v)
{
    kei_jw_key(w, key);
    kei_jw_i64(w, v);
}

void kei_jw_kbool(struct kei_jw *w, const char *key, bool v)
{
    kei_jw_key(w, key);
    kei_jw_bool(w, v);
}

void kei_jw_kraw(struct kei_jw *w, const char *key, struct ke_str json)
{
    kei_jw_key(w, key);
    kei_jw_raw(w, json);
}
