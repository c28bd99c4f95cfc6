/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See acl.h. A rule is compared with a topic or a filter as a stream of characters, so that %c and
 * %u need no expanded copy. Sets with many rules are checked through a tree of levels.
 * The owner of a set frees it; any one thread at a time.
 */
#include "mqtt/acl.h"

#define ARENA_MAX ((size_t)256 << 20)
#define TREE_FROM 6u /* rules; fewer are scanned */

/* ---- templates ---- */

#define CLIENT 1u
#define USER 2u
#define IDENTITY 4u

/* Which one begins at i; 0: none. */
static unsigned template_at(struct ke_str s, size_t i)
{
    if (i + 1 >= s.n || s.p[i] != '%')
        return 0;
    switch (s.p[i + 1]) {
    case 'c':
        return CLIENT;
    case 'u':
        return USER;
    case 'i':
        return IDENTITY;
    default:
        return 0;
    }
}

static unsigned templates_of(struct ke_str s)
{
    unsigned kinds = 0;
    for (size_t i = 0; i < s.n; i++)
        kinds |= template_at(s, i);
    return kinds;
}

/* A rule that speaks of a user says nothing of clients without one. */
static bool has_names(unsigned kinds, const struct kei_acl_who *who)
{
    return (!(kinds & CLIENT) || who->client.p) && (!(kinds & USER) || who->user.p) &&
           (!(kinds & IDENTITY) || who->identity.p);
}

static bool has_wildcard(struct ke_str s)
{
    return s.n > 0 && (memchr(s.p, '+', s.n) || memchr(s.p, '#', s.n));
}

/* ---- a rule or filter, character by character ---- */

struct reader {
    const char *p, *end;           /* of the text */
    const char *in, *stop;         /* of the name that stands for a template, while inside of it */
    const struct kei_acl_who *who; /* NULL: no templates */
    bool wild;                     /* '+' and '#' are wildcards here (not inside of a name) */
};

static struct reader reader_of(struct ke_str s, const struct kei_acl_who *who)
{
    return (struct reader){.p = s.p, .end = s.p + s.n, .who = who};
}

/* The next character, or -1; *r stays. Steps into what a template stands for. */
static int peek(struct reader *r)
{
    for (;;) {
        if (r->in) {
            if (r->in < r->stop) {
                r->wild = false;
                return (unsigned char)*r->in;
            }
            r->in = NULL;
        }
        if (r->p == r->end)
            return -1;
        unsigned kind = r->who ? template_at(kei_strn(r->p, (size_t)(r->end - r->p)), 0) : 0;
        if (kind == 0) {
            r->wild = true;
            return (unsigned char)*r->p;
        }
        struct ke_str name = kind == CLIENT ? r->who->client
                             : kind == USER ? r->who->user
                                            : r->who->identity;
        r->p += 2;
        r->in = name.n ? name.p : r->p; /* an empty name: nothing */
        r->stop = r->in + name.n;
    }
}

static void step(struct reader *r)
{
    if (r->in)
        r->in++;
    else
        r->p++;
}

static bool at_wildcard(struct reader *r, int c)
{
    return peek(r) == c && r->wild;
}

/* Behind the level and its slash; false: it was the last. */
static bool next_level(struct reader *r)
{
    int c;
    while ((c = peek(r)) != -1 && c != '/')
        step(r);
    if (c == '/')
        step(r);
    return c == '/';
}

/* Only "/#" is left, or nothing: such a rule covers the level above, too. */
static bool rest_is_empty(struct reader r)
{
    if (peek(&r) == -1)
        return true;
    if (peek(&r) != '/')
        return false;
    step(&r);
    return at_wildcard(&r, '#');
}

/* One level of each, both literal; false: they differ. Both end before '/' or at the end. */
static bool same_level(struct reader *a, struct reader *b)
{
    for (;;) {
        int x = peek(a), y = peek(b);
        if (x == '/')
            x = -1;
        if (y == '/')
            y = -1;
        if (x != y)
            return false;
        if (x == -1)
            return true;
        step(a);
        step(b);
    }
}

/* Wildcards do not reach what starts with '$'. */
static bool dollar_apart(struct ke_str a, struct ke_str b)
{
    return (a.n > 0 && a.p[0] == '$') != (b.n > 0 && b.p[0] == '$');
}

/* Every topic of filter (or the topic filter) is one of rule. */
static bool covers(const struct kei_acl_rule *rule, const struct kei_acl_who *who,
                   struct ke_str filter)
{
    struct ke_str text = kei_strn(rule->filter, rule->n);
    struct reader a = reader_of(text, rule->templates ? who : NULL), b = reader_of(filter, NULL);
    if (dollar_apart(text, filter))
        return false;
    for (;;) {
        if (at_wildcard(&a, '#'))
            return true;
        if (at_wildcard(&b, '#'))
            return false;
        if (at_wildcard(&a, '+')) {
            step(&a);
            while (peek(&b) != -1 && peek(&b) != '/')
                step(&b);
        } else if (at_wildcard(&b, '+') || !same_level(&a, &b)) {
            return false;
        }
        if (peek(&b) == -1)
            return rest_is_empty(a);
        if (peek(&a) == -1)
            return false;
        step(&a);
        step(&b);
    }
}

/* Some topic is one of both. */
static bool overlaps(const struct kei_acl_rule *rule, const struct kei_acl_who *who,
                     struct ke_str filter)
{
    struct ke_str text = kei_strn(rule->filter, rule->n);
    struct reader a = reader_of(text, rule->templates ? who : NULL), b = reader_of(filter, NULL);
    if (dollar_apart(text, filter))
        return false;
    for (;;) {
        if (at_wildcard(&a, '#') || at_wildcard(&b, '#'))
            return true;
        if (!at_wildcard(&a, '+') && !at_wildcard(&b, '+') && !same_level(&a, &b))
            return false;
        bool more_a = next_level(&a), more_b = next_level(&b);
        if (!more_a && !more_b)
            return true;
        if (more_a != more_b) /* the longer one may end with '#' only */
            return at_wildcard(more_a ? &a : &b, '#');
    }
}

/* ---- the tree ---- */

struct kei_acl_node {
    struct ke_str level;
    struct kei_acl_node **kids; /* literal levels, sorted */
    uint32_t n, cap;
    struct kei_acl_node *plus, *hash;
    struct kei_acl_node *templates, *next; /* levels with %c, %u, %i */
    uint8_t granted, denied;               /* by the rules that end here */
};

static int order(struct ke_str a, struct ke_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int r = n ? memcmp(a.p, b.p, n) : 0;
    return r ? r : (a.n > b.n) - (a.n < b.n);
}

/* Where level is among the kids, or belongs. */
static uint32_t kid_at(const struct kei_acl_node *n, struct ke_str level, bool *found)
{
    uint32_t lo = 0, hi = n->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int r = order(n->kids[mid]->level, level);
        if (r == 0) {
            *found = true;
            return mid;
        }
        if (r < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *found = false;
    return lo;
}

static struct kei_acl_node *node_new(struct kei_acl_set *s, struct ke_str level)
{
    struct kei_acl_node *n = kei_arena_alloc(&s->arena, sizeof *n);
    if (n)
        n->level = level;
    return n;
}

static struct kei_acl_node *kid_add(struct kei_acl_set *s, struct kei_acl_node *n,
                                    struct ke_str level)
{
    bool found;
    uint32_t at = kid_at(n, level, &found);
    if (found)
        return n->kids[at];
    if (n->n == n->cap) {
        uint32_t cap = n->cap ? n->cap * 2 : 2;
        struct kei_acl_node **kids = kei_arena_array(&s->arena, cap, sizeof(void *));
        if (!kids)
            return NULL;
        if (n->n)
            memcpy(kids, n->kids, n->n * sizeof(void *));
        n->kids = kids;
        n->cap = cap;
    }
    struct kei_acl_node *kid = node_new(s, level);
    if (!kid)
        return NULL;
    memmove(n->kids + at + 1, n->kids + at, (n->n - at) * sizeof(void *));
    n->kids[at] = kid;
    n->n++;
    return kid;
}

/* The node below n for one level of a rule, made if missing. */
static struct kei_acl_node *below(struct kei_acl_set *s, struct kei_acl_node *n,
                                  struct ke_str level, bool templates)
{
    struct kei_acl_node **at;
    if (kei_str_is(level, "+") || kei_str_is(level, "#")) {
        at = level.p[0] == '+' ? &n->plus : &n->hash;
    } else if (templates && templates_of(level)) {
        for (at = &n->templates; *at && !kei_str_eq((*at)->level, level);)
            at = &(*at)->next;
    } else {
        return kid_add(s, n, level);
    }
    if (!*at)
        *at = node_new(s, level);
    return *at;
}

/* A failure leaves nodes without meaning, no more. */
static bool tree_add(struct kei_acl_set *s, struct kei_acl_node *root, const struct kei_acl_rule *r)
{
    struct ke_str rest = kei_strn(r->filter, r->n);
    struct kei_acl_node *n = root;
    do {
        struct ke_str level = kei_str_cut(rest, '/', &rest);
        n = below(s, n, level, r->templates != 0);
        if (!n)
            return false;
    } while (rest.p);
    if (r->access & KEI_ACL_DENY)
        n->denied |= r->access & KEI_ACL_ALL;
    else
        n->granted |= r->access;
    return true;
}

static bool tree_build(struct kei_acl_set *s)
{
    struct kei_acl_node *root = node_new(s, KEI_STR(""));
    for (uint32_t i = 0; root && i < s->n; i++)
        if (!tree_add(s, root, &s->rules[i]))
            root = NULL;
    s->root = root;
    return root != NULL;
}

/* A node, and which of its kids comes next. */
struct frame {
    const struct kei_acl_node *n, *template;
    size_t at; /* of the level to match; behind the end: none is left */
    int phase;
};

/* Where the level behind this template begins; 0: it does not match here. */
static size_t template_end(const struct kei_acl_node *n, const struct kei_acl_who *who,
                           struct ke_str topic, size_t at)
{
    struct reader r = reader_of(n->level, who);
    int c;
    for (; (c = peek(&r)) != -1; step(&r), at++)
        if (at >= topic.n || (unsigned char)topic.p[at] != c)
            return 0;
    return at == topic.n || topic.p[at] == '/' ? at + 1 : 0;
}

/* The next kid of the frame that matches, with the place behind its level; NULL: no more. */
static const struct kei_acl_node *next_kid(struct frame *f, const struct kei_acl_who *who,
                                           struct ke_str topic, size_t *behind)
{
    bool dollar = f->at == 0 && topic.p[0] == '$', found;
    if (f->at > topic.n)
        return NULL;
    const char *slash = memchr(topic.p + f->at, '/', topic.n - f->at);
    size_t end = slash ? (size_t)(slash - topic.p) : topic.n;
    *behind = end + 1;
    switch (f->phase) {
    case 0:
        f->phase++;
        f->template = f->n->templates;
        uint32_t at = kid_at(f->n, kei_strn(topic.p + f->at, end - f->at), &found);
        if (found)
            return f->n->kids[at];
        /* fall through */
    case 1:
        f->phase++;
        if (f->n->plus && !dollar)
            return f->n->plus;
        /* fall through */
    default:
        while (f->template) {
            const struct kei_acl_node *t = f->template;
            f->template = t->next;
            if (dollar && t->level.p[0] != '$')
                continue;
            if (has_names(templates_of(t->level), who) &&
                (*behind = template_end(t, who, topic, f->at)) != 0)
                return t;
        }
        return NULL;
    }
}

/* Sets *granted when a rule for it matches; true: a denial matches. Each node is seen once. */
static bool tree_check(const struct kei_acl_node *root, const struct kei_acl_who *who,
                       uint32_t access, struct ke_str topic, bool denies, bool *granted)
{
    struct frame stack[KEI_ACL_LEVELS + 1];
    size_t depth = 0;
    const struct kei_acl_node *n = root;
    size_t at = 0;
    for (;;) {
        const struct kei_acl_node *ends[2] = {at > topic.n ? n : NULL, n->hash};
        if (n == root && topic.p[0] == '$')
            ends[1] = NULL;
        for (int i = 0; i < 2; i++) {
            if (ends[i] && (ends[i]->denied & access))
                return true;
            if (ends[i] && (ends[i]->granted & access))
                *granted = true;
        }
        if (*granted && !denies)
            return false;
        stack[depth++] = (struct frame){.n = n, .at = at};
        while ((n = next_kid(&stack[depth - 1], who, topic, &at)) == NULL)
            if (--depth == 0)
                return false;
    }
}

/* ---- a set ---- */

void kei_acl_set_init(struct kei_acl_set *s, const struct ke_alloc *a)
{
    memset(s, 0, sizeof *s);
    kei_arena_init(&s->arena, a, ARENA_MAX);
}

void kei_acl_set_fini(struct kei_acl_set *s)
{
    const struct ke_alloc *a = s->arena.alloc;
    for (uint32_t i = 0; i < s->n; i++)
        kei_free(a, s->rules[i].filter);
    if (a)
        kei_free(a, s->rules);
    kei_arena_free(&s->arena);
    memset(s, 0, sizeof *s);
}

static int check_filter(struct ke_str f, struct ke_error *err)
{
    uint32_t levels = 1;
    if (f.n == 0 || !kei_utf8_valid(f))
        return kei_error(err, KE_EINVAL, "an ACL topic is %s",
                         f.n ? "no UTF-8 text, or has a NUL" : "empty");
    if (f.n > KEI_ACL_FILTER_MAX)
        return kei_error(err, KE_ELIMIT, "an ACL topic has %zu bytes, over the limit of %u", f.n,
                         KEI_ACL_FILTER_MAX);
    for (size_t i = 0; i < f.n; i++) {
        bool first = i == 0 || f.p[i - 1] == '/', last = i + 1 == f.n;
        levels += f.p[i] == '/';
        if ((f.p[i] == '#' && (!first || !last)) ||
            (f.p[i] == '+' && (!first || !(last || f.p[i + 1] == '/'))))
            return kei_error(err, KE_EINVAL,
                             "the ACL topic %.*s has a '%c' that is no level of its own%s",
                             KEI_FMT(f), f.p[i], f.p[i] == '#' ? " at the end" : "");
    }
    if (levels > KEI_ACL_LEVELS)
        return kei_error(err, KE_ELIMIT, "an ACL topic has %u levels, over the limit of %u", levels,
                         KEI_ACL_LEVELS);
    return 0;
}

static int room_for_rule(struct kei_acl_set *s, struct ke_error *err)
{
    if (s->n >= KEI_ACL_RULES_MAX)
        return kei_error(err, KE_ELIMIT, "one user has over %u ACL rules", KEI_ACL_RULES_MAX);
    if (s->n < s->cap)
        return 0;
    uint32_t cap = s->cap ? s->cap * 2 : 4;
    struct kei_acl_rule *rules = kei_array_realloc(s->arena.alloc, s->rules, cap, sizeof *rules);
    if (!rules)
        return kei_error(err, KE_ENOMEM, "out of memory for %u ACL rules", cap);
    s->rules = rules;
    s->cap = cap;
    return 0;
}

int kei_acl_set_add(struct kei_acl_set *s, uint32_t access, struct ke_str filter, bool templates,
                    struct ke_error *err)
{
    struct kei_acl_rule rule = {.access = (uint8_t)access};
    int r = check_filter(filter, err);
    if (r == 0 && ((access & KEI_ACL_ALL) == 0 || access > (KEI_ACL_ALL | KEI_ACL_DENY)))
        r = kei_error(err, KE_EINVAL, "the ACL rule of %.*s has access 0x%x, which says nothing",
                      KEI_FMT(filter), access);
    if (r == 0)
        r = room_for_rule(s, err);
    if (r < 0)
        return r;
    rule.filter = kei_strndup(s->arena.alloc, filter.p, filter.n);
    rule.n = (uint32_t)filter.n;
    rule.templates = (uint8_t)(templates ? templates_of(filter) : 0);
    if (!rule.filter || (s->root && !tree_add(s, s->root, &rule))) {
        kei_free(s->arena.alloc, rule.filter);
        return kei_error(err, KE_ENOMEM, "out of memory for the ACL rule of %.*s", KEI_FMT(filter));
    }
    s->rules[s->n++] = rule;
    s->denies += (access & KEI_ACL_DENY) != 0;
    s->templates += rule.templates != 0;
    if (!s->root && s->n >= TREE_FROM)
        (void)tree_build(s); /* without it checks are slower; the next rule tries again */
    return 0;
}

/* A name with a wildcard would widen what a template stands for. */
static bool dangerous(const struct kei_acl_set *s, const struct kei_acl_who *who)
{
    return s->templates > 0 &&
           (has_wildcard(who->client) || has_wildcard(who->user) || has_wildcard(who->identity));
}

enum kei_acl_verdict kei_acl_set_scan(const struct kei_acl_set *s, const struct kei_acl_who *who,
                                      uint32_t access, struct ke_str topic)
{
    enum kei_acl_verdict v = KEI_ACL_SILENT;
    if (dangerous(s, who))
        return KEI_ACL_DENIED;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct kei_acl_rule *rule = &s->rules[i];
        bool deny = rule->access & KEI_ACL_DENY;
        if (!(rule->access & access) || (!deny && v == KEI_ACL_GRANTED))
            continue;
        if (!has_names(rule->templates, who) || !covers(rule, who, topic))
            continue;
        if (deny)
            return KEI_ACL_DENIED;
        v = KEI_ACL_GRANTED;
        if (s->denies == 0)
            break;
    }
    return v;
}

enum kei_acl_verdict kei_acl_set_check(const struct kei_acl_set *s, const struct kei_acl_who *who,
                                       uint32_t access, struct ke_str topic)
{
    bool granted = false;
    if (s->n == 0 || topic.n == 0)
        return KEI_ACL_SILENT;
    if (!s->root)
        return kei_acl_set_scan(s, who, access, topic);
    if (dangerous(s, who) || tree_check(s->root, who, access, topic, s->denies > 0, &granted))
        return KEI_ACL_DENIED;
    return granted ? KEI_ACL_GRANTED : KEI_ACL_SILENT;
}

/* ---- several sets ---- */

bool kei_acl_allows(const struct kei_acl_set *const *sets, size_t n, const struct kei_acl_who *who,
                    uint32_t access, struct ke_str topic)
{
    enum kei_acl_verdict v = KEI_ACL_SILENT;
    for (size_t i = 0; i < n && v == KEI_ACL_SILENT; i++)
        if (sets[i])
            v = kei_acl_set_check(sets[i], who, access, topic);
    return v == KEI_ACL_GRANTED;
}

/* What one set says of a filter. */
struct view {
    bool all_granted, some_granted, all_denied, some_denied;
};

static struct view look(const struct kei_acl_set *s, const struct kei_acl_who *who, uint32_t access,
                        struct ke_str filter)
{
    struct view v = {0};
    v.some_denied = v.all_denied = dangerous(s, who);
    for (uint32_t i = 0; i < s->n && !v.all_denied; i++) {
        const struct kei_acl_rule *rule = &s->rules[i];
        if (!(rule->access & access) || !has_names(rule->templates, who) ||
            !overlaps(rule, who, filter))
            continue;
        bool all = covers(rule, who, filter);
        if (rule->access & KEI_ACL_DENY) {
            v.some_denied = true;
            v.all_denied |= all;
        } else {
            v.some_granted = true;
            v.all_granted |= all;
        }
    }
    return v;
}

enum kei_acl_cover kei_acl_covers(const struct kei_acl_set *const *sets, size_t n,
                                  const struct kei_acl_who *who, uint32_t access,
                                  struct ke_str filter)
{
    bool some = false, denied = false;
    for (size_t i = 0; i < n; i++) {
        if (!sets[i])
            continue;
        struct view v = look(sets[i], who, access, filter);
        if (v.all_denied)
            break;
        some |= v.some_granted;
        denied |= v.some_denied;
        if (v.all_granted && !denied)
            return KEI_ACL_COVER_ALL;
        if (v.all_granted)
            break;
    }
    return some ? KEI_ACL_COVER_SOME : KEI_ACL_COVER_NONE;
}
