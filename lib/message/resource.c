/* SPDX-License-Identifier: Apache-2.0 */
/* Resource names of messages and who must acknowledge what. Pure; any thread. */
#include "base/json.h"
#include "message/msg_priv.h"

bool kei_resource_parse(struct kei_resource *r, struct ke_str s)
{
    struct ke_str rest, name, token;
    struct kei_resource got;

    got.ns = kei_str_cut(s, '/', &rest);
    got.type = kei_str_cut(rest, '/', &name);
    if (got.ns.n == 0 || got.type.n == 0)
        return false;
    got.name = name;
    for (rest = name; rest.p;) {
        token = kei_str_cut(rest, '/', &rest);
        if (token.n == 0)
            return false;
    }
    *r = got;
    return true;
}

bool kei_resource_strip_node(struct ke_str s, struct ke_str *ret_node, struct ke_str *ret_rest)
{
    struct ke_str rest, tail;
    struct ke_str first = kei_str_cut(s, '/', &rest);
    struct ke_str node = kei_str_cut(rest, '/', &tail);

    if (!kei_str_is(first, "node") || node.n == 0 || tail.n == 0)
        return false;
    *ret_node = node;
    *ret_rest = tail;
    return true;
}

bool kei_msg_is_empty(const struct ke_msg *m)
{
    return !*ke_msg_id(m) && !*ke_msg_operation(m) && !*ke_msg_resource(m);
}

static bool one_of(struct ke_str s, const char *const *list)
{
    for (; *list; list++) {
        if (kei_str_is(s, *list))
            return true;
    }
    return false;
}

/*
 * The edge of upstream acknowledges the answers that pass its store: those to queries (errors
 * too), to inserts and to lease updates. What was asked is not in the answer, so the type and the
 * form of the content tell.
 */
static bool reply_needs_ack(const struct ke_msg *m, struct ke_str type)
{
    static const char *const passed_by[] = {"nodepatch",  "podpatch",   "podstatus",
                                            "nodestatus", "membership", NULL};
    struct ke_str content, member;

    content.p = ke_msg_content(m, &content.n);
    if (kei_json_str_is(content, "OK") || one_of(type, passed_by))
        return false;
    /* a pod is answered for an insert (Object and Err) or for a delete (all else) */
    if (kei_str_is(type, "pod"))
        return kei_json_get(content, "Object", &member) && kei_json_get(content, "Err", &member);
    return true;
}

bool kei_msg_needs_ack(const struct ke_msg *m, uint32_t dialect)
{
    static const char *const changes[] = {"insert", "update", "delete", NULL};
    struct ke_str op = kei_str(ke_msg_operation(m));
    struct kei_resource res;

    (void)dialect; /* the three upstream edges agree; what differs is which messages exist */
    if (!*ke_msg_id(m) || !kei_str_is(kei_str(ke_msg_group(m)), "resource"))
        return false;
    if (!kei_resource_parse(&res, kei_str(ke_msg_resource(m))))
        return false;
    if (one_of(op, changes))
        return true;
    return kei_str_is(op, "response") && reply_needs_ack(m, res.type);
}
