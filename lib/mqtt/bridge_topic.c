/* SPDX-License-Identifier: Apache-2.0 */
/* Topic rules of a bridge: PATTERN with a prefix on either side. Pure; memory is the arena's. */
#include "mqtt/bridge_priv.h"

static struct ke_str joined(struct kei_arena *a, struct ke_str x, struct ke_str y)
{
    char *p = kei_arena_alloc(a, x.n + y.n + 1);
    if (!p)
        return (struct ke_str){NULL, 0};
    memcpy(p, x.n ? x.p : "", x.n);
    memcpy(p + x.n, y.n ? y.p : "", y.n);
    return kei_strn(p, x.n + y.n);
}

static bool has_wildcard(struct ke_str s)
{
    return s.n && (memchr(s.p, '+', s.n) || memchr(s.p, '#', s.n));
}

static struct ke_str kept(struct kei_arena *a, const char *s)
{
    struct ke_str v = kei_str(s ? s : "");
    return kei_strn(kei_arena_strdup(a, v), v.n);
}

int kei_bridge_rule_make(struct kei_bridge_rule *ret, struct kei_arena *a,
                         const struct ke_bridge_topic *t, struct ke_error *err)
{
    struct kei_bridge_rule r = {.direction = t->direction, .qos = t->qos};
    struct ke_str pattern = kei_str(t->pattern ? t->pattern : "");
    r.local_prefix = kept(a, t->local_prefix);
    r.remote_prefix = kept(a, t->remote_prefix);
    if (!r.local_prefix.p || !r.remote_prefix.p)
        return kei_error(err, KE_ENOMEM, "out of memory for a topic of the bridge");
    if (t->direction < KE_BRIDGE_OUT || t->direction > KE_BRIDGE_BOTH || t->qos > 2)
        return kei_error(err, KE_EINVAL, "topic %s: direction %u or QoS %u is not known",
                         t->pattern ? t->pattern : "", t->direction, t->qos);
    if (has_wildcard(r.local_prefix) || has_wildcard(r.remote_prefix))
        return kei_error(err, KE_EINVAL, "topic %.*s: a prefix may not have wildcards",
                         KEI_FMT(pattern));
    r.local = joined(a, r.local_prefix, pattern);
    r.remote = joined(a, r.remote_prefix, pattern);
    if (!r.local.p || !r.remote.p)
        return kei_error(err, KE_ENOMEM, "out of memory for topic %.*s", KEI_FMT(pattern));
    if (!kei_mqtt_filter_ok(r.local) || !kei_mqtt_filter_ok(r.remote))
        return kei_error(err, KE_EINVAL,
                         "topic %.*s with its prefixes (%.*s here, %.*s there) is no topic filter",
                         KEI_FMT(pattern), KEI_FMT(r.local), KEI_FMT(r.remote));
    *ret = r;
    return 0;
}

bool kei_bridge_map(const struct kei_bridge_rule *rules, uint32_t n, uint32_t direction,
                    struct ke_str topic, struct ke_buf *out, uint32_t *ret_qos)
{
    bool outward = direction == KE_BRIDGE_OUT;
    for (uint32_t i = 0; i < n; i++) {
        const struct kei_bridge_rule *r = &rules[i];
        struct ke_str from = outward ? r->local_prefix : r->remote_prefix;
        struct ke_str to = outward ? r->remote_prefix : r->local_prefix;
        if (!(r->direction & direction) || !kei_mqtt_match(outward ? r->local : r->remote, topic) ||
            !kei_str_starts(topic, from))
            continue;
        kei_buf_addv(out, to);
        kei_buf_add(out, topic.p + from.n, topic.n - from.n);
        *ret_qos = r->qos;
        return true;
    }
    return false;
}
