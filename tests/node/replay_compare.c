/* SPDX-License-Identifier: Apache-2.0 */
/* See replay_compare.h. */
#include "node/replay_compare.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "message/k8s.h"

static struct difference {
    const char *captures; /* start of "1.15/03"; several, separated by blanks; "" all */
    const char *what;     /* class; "" all */
    const char *path;     /* start of the path, or one of the words in <> */
    const char *reason;
    unsigned hits;
} differences[] = {
#include "node/replay_differences.h"
};
#define N_DIFFERENCES (sizeof differences / sizeof differences[0])

static unsigned failures;

/* ---- the table ---- */

static bool in_captures(const char *list, const char *capture)
{
    if (!*list)
        return true;
    for (struct ke_str rest = kei_str(list), one; rest.p && rest.n > 0;) {
        one = kei_str_cut(rest, ' ', &rest);
        if (one.n > 0 && kei_str_starts(kei_str(capture), one))
            return true;
    }
    return false;
}

static bool path_starts(const char *path, const char *start)
{
    size_t n = strlen(start);
    return strncmp(path, start, n) == 0 &&
           (n == 0 || path[n] == 0 || path[n] == '.' || path[n] == '[' || start[0] == '<');
}

static struct difference *entry_for(const struct place *at, const char *path)
{
    for (size_t i = 0; i < N_DIFFERENCES; i++) {
        struct difference *d = &differences[i];
        if (in_captures(d->captures, at->capture) &&
            (!*d->what || strcmp(d->what, at->what) == 0) && path_starts(path, d->path))
            return d;
    }
    return NULL;
}

bool differs_on_purpose(const struct place *at, const char *path)
{
    return entry_for(at, path) != NULL;
}

void differs(const struct place *at, const char *path, struct ke_str theirs, struct ke_str ours)
{
    struct ke_str none = KEI_STR("-");
    struct difference *d = at->dry ? NULL : entry_for(at, path);
    if (at->dry)
        ++*at->dry;
    else if (d)
        d->hits++;
    if (at->dry || d)
        return;
    theirs = theirs.p ? theirs : none;
    ours = ours.p ? ours : none;
    fprintf(stderr, "%s line %u: %s: %s\n    theirs %.*s\n    ours   %.*s\n", at->capture, at->line,
            at->what, path, (int)(theirs.n < 700 ? theirs.n : 700), theirs.p,
            (int)(ours.n < 700 ? ours.n : 700), ours.p);
    failures++;
}

unsigned compare_failures(void)
{
    return failures;
}

unsigned compare_unmet(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < N_DIFFERENCES; i++)
        if (differences[i].hits == 0) {
            fprintf(stderr, "never met: {\"%s\", \"%s\", \"%s\"} (%s)\n", differences[i].captures,
                    differences[i].what, differences[i].path, differences[i].reason);
            n++;
        }
    return n;
}

/* ---- values ---- */

static struct ke_str inside(struct ke_str v)
{
    return v.n >= 2 ? kei_strn(v.p + 1, v.n - 2) : kei_strn("", 0);
}

/* A Kubernetes time: whole seconds or microseconds, Z at the end. */
static bool is_time(struct ke_str v)
{
    struct ke_str t = inside(v);
    return (t.n == 20 || t.n == 27) && t.p[4] == '-' && t.p[10] == 'T' && t.p[13] == ':' &&
           t.p[t.n - 1] == 'Z';
}

static bool same_form(struct ke_str a, struct ke_str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (isdigit((unsigned char)a.p[i]) ? !isdigit((unsigned char)b.p[i]) : a.p[i] != b.p[i])
            return false;
    return true;
}

/* The text of an event: but for its id and its time. */
static bool same_event(struct ke_str a, struct ke_str b)
{
    bool event = memmem(a.p, a.n, "event_id", 8) != NULL;
    if (!event || a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (a.p[i] != b.p[i] &&
            (!isxdigit((unsigned char)a.p[i]) || !isxdigit((unsigned char)b.p[i])))
            return false;
    return true;
}

static bool one_of(const char *s, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(s, *list) == 0)
            return true;
    return false;
}

static bool same_text(const char *path, struct ke_str a, struct ke_str b)
{
    /* of the machine: only that they are told */
    static const char *const facts[] = {"kernelVersion", "osImage", "architecture", "io/arch",
                                        NULL};
    /* zeros in the recordings, whatever was there; a chroot has none */
    static const char *const blanked[] = {"machineID", "systemUUID", "bootID", NULL};
    static const char *const amounts[] = {"cpu", "memory", "ephemeral-storage", NULL};
    const char *last = strrchr(path, '.');
    last = last ? last + 1 : path;
    int64_t milli;
    if (kei_json_str_eq(a, b))
        return true;
    if (is_time(a))
        return same_form(a, b);
    if (same_event(a, b))
        return true;
    if (strcmp(last, "containerID") == 0 || strcmp(last, "imageID") == 0) {
        /* runtime://id, sha256:digest */
        struct ke_str id_a, id_b;
        struct ke_str form = kei_str_cut(inside(a), ':', &id_a);
        return kei_str_eq(form, kei_str_cut(inside(b), ':', &id_b)) && id_b.n > 2;
    }
    if (one_of(last, blanked))
        return true;
    if (one_of(last, facts))
        return (inside(a).n > 0) == (inside(b).n > 0);
    if (one_of(last, amounts))
        return kei_quantity_parse(inside(b), &milli);
    return false;
}

/* What an item of a list is called by; false: by its place. */
static bool item_name(struct ke_str item, char *out, size_t cap)
{
    struct ke_str v;
    out[0] = 0;
    if (kei_json_type(item) != '{' ||
        (!kei_json_get(item, "type", &v) && !kei_json_get(item, "name", &v)) ||
        kei_json_type(v) != '"')
        return false;
    return kei_json_copy(out, cap, v) > 0;
}

static bool item_at(struct ke_str list, const char *name, size_t place, struct ke_str *ret)
{
    struct ke_str key;
    char other[200];
    size_t i = 0;
    for (size_t it = 0; kei_json_next(list, &it, &key, ret); i++)
        if (*name ? item_name(*ret, other, sizeof other) && strcmp(name, other) == 0 : i == place)
            return true;
    return false;
}

static void compare_lists(const struct place *at, const char *path, struct ke_str a,
                          struct ke_str b)
{
    struct ke_str key, v, other, none = {0};
    char sub[600], name[200];
    for (int side = 0; side < 2; side++) {
        struct ke_str one = side ? b : a, two = side ? a : b;
        size_t i = 0;
        for (size_t it = 0; kei_json_next(one, &it, &key, &v); i++) {
            if (item_name(v, name, sizeof name))
                snprintf(sub, sizeof sub, "%s[%s]", path, name);
            else
                snprintf(sub, sizeof sub, "%s[%zu]", path, i);
            if (!item_at(two, name, i, &other))
                differs(at, sub, side ? none : v, side ? v : none);
            else if (!side)
                compare_json(at, sub, v, other);
        }
    }
}

/* By the key as it is written: it may hold escapes. */
static bool member_of(struct ke_str map, struct ke_str key, struct ke_str *ret)
{
    struct ke_str k;
    for (size_t it = 0; kei_json_next(map, &it, &k, ret);)
        if (kei_json_key_eq(k, key))
            return true;
    return false;
}

static void compare_maps(const struct place *at, const char *path, struct ke_str a, struct ke_str b)
{
    struct ke_str key, v, other, none = {0};
    char sub[600];
    for (int side = 0; side < 2; side++) {
        struct ke_str one = side ? b : a, two = side ? a : b;
        for (size_t it = 0; kei_json_next(one, &it, &key, &v);) {
            snprintf(sub, sizeof sub, "%s%s%.*s", path, path[0] ? "." : "", (int)key.n, key.p);
            if (!member_of(two, key, &other))
                differs(at, sub, side ? none : v, side ? v : none);
            else if (!side)
                compare_json(at, sub, v, other);
        }
    }
}

void compare_json(const struct place *at, const char *path, struct ke_str a, struct ke_str b)
{
    bool same = kei_json_type(a) == kei_json_type(b);
    if (same && kei_json_type(a) == '{') {
        compare_maps(at, path, a, b);
        return;
    }
    if (same && kei_json_type(a) == '[') {
        compare_lists(at, path, a, b);
        return;
    }
    if (same && kei_json_type(a) == '"')
        same = same_text(path, a, b);
    else if (same && kei_json_type(a) == '0')
        same = kei_json_num_eq(a, b);
    else if (same)
        same = kei_str_eq(a, b);
    if (!same)
        differs(at, path, a, b);
}

void compare_text(const struct place *at, const char *path, const char *theirs, const char *ours)
{
    if (strcmp(theirs, ours) != 0)
        differs(at, path, kei_str(theirs), kei_str(ours));
}
