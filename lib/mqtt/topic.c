/* SPDX-License-Identifier: Apache-2.0 */
/* Topic names and filters: form, and whether one matches the other. Pure. */
#include "mqtt/codec.h"

bool kei_mqtt_topic_ok(struct ke_str topic)
{
    return topic.n > 0 && topic.n <= UINT16_MAX && !memchr(topic.p, '+', topic.n) &&
           !memchr(topic.p, '#', topic.n) && !memchr(topic.p, 0, topic.n);
}

bool kei_mqtt_filter_ok(struct ke_str filter)
{
    if (filter.n == 0 || filter.n > UINT16_MAX)
        return false;
    for (size_t i = 0; i < filter.n; i++) {
        char c = filter.p[i];
        if (c == '\0')
            return false;
        if (c != '+' && c != '#')
            continue;
        if (i > 0 && filter.p[i - 1] != '/')
            return false;
        if (c == '#' ? i + 1 != filter.n : i + 1 < filter.n && filter.p[i + 1] != '/')
            return false;
    }
    return true;
}

bool kei_mqtt_match(struct ke_str filter, struct ke_str topic)
{
    struct ke_str f = filter, t = topic;

    if (t.n && t.p[0] == '$' && f.n && (f.p[0] == '+' || f.p[0] == '#'))
        return false;
    for (;;) {
        struct ke_str frest, trest, fl = kei_str_cut(f, '/', &frest);
        if (kei_str_is(fl, "#"))
            return true;
        struct ke_str tl = kei_str_cut(t, '/', &trest);
        if (!kei_str_is(fl, "+") && !kei_str_eq(fl, tl))
            return false;
        if (!trest.p) /* "a/#" matches "a", too */
            return !frest.p || kei_str_is(frest, "#");
        if (!frest.p)
            return false;
        f = frest;
        t = trest;
    }
}

bool kei_mqtt_shared(struct ke_str filter, struct ke_str *group, struct ke_str *inner, bool *ok)
{
    *ok = true;
    if (!kei_str_starts(filter, KEI_STR("$share/")) && !kei_str_is(filter, "$share"))
        return false;
    *ok = false;
    if (filter.n < 7)
        return true;
    *group = kei_str_cut(kei_strn(filter.p + 7, filter.n - 7), '/', inner);
    *ok = group->n > 0 && inner->p && !memchr(group->p, '+', group->n) &&
          !memchr(group->p, '#', group->n) && kei_mqtt_filter_ok(*inner);
    return true;
}

uint32_t kei_mqtt_levels(struct ke_str topic)
{
    uint32_t n = 1;

    for (size_t i = 0; i < topic.n; i++)
        n += topic.p[i] == '/';
    return n;
}
