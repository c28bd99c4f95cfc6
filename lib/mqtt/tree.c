/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of topics or filters. Children are found through one hash table of the whole tree, keyed
 * by parent and segment with a seed (peers choose the segments), so a node costs little and a step
 * down costs the same however many siblings there are. Nothing here recurses. Loop thread.
 */
#include "mqtt/server.h"

/* The two halves of the product, folded. */
static uint64_t mix(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 wide;
    wide r = (wide)a * b;

    return (uint64_t)r ^ (uint64_t)(r >> 64);
#else
    uint64_t al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    uint64_t low = al * bl, m1 = ah * bl + (low >> 32), m2 = al * bh + (uint32_t)m1;

    return (m2 << 32 | (uint32_t)low) ^ (ah * bh + (m1 >> 32) + (m2 >> 32));
#endif
}

static uint32_t hash_seg(const struct mq_tree *t, const struct mq_node *parent, struct ke_str seg)
{
    uint64_t h = t->seed ^ (uint64_t)(uintptr_t)parent, v;
    const char *p = seg.p;
    size_t n = seg.n;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&v, p, 8);
        h = mix(h ^ v, 0x9e3779b97f4a7c15ull);
    }
    v = 0;
    if (n)
        memcpy(&v, p, n);
    h = mix(h ^ v ^ ((uint64_t)seg.n << 56), 0xd6e8feb86659fd93ull ^ t->seed);
    return (uint32_t)(h ^ h >> 32);
}

int kei_mq_tree_init(struct mq_tree *t, const struct ke_alloc *a, uint64_t seed)
{
    memset(t, 0, sizeof *t);
    t->alloc = a;
    t->seed = seed;
    t->cap = 64;
    t->slots = kei_zalloc(a, t->cap * sizeof(struct mq_node *));
    return t->slots ? 0 : KE_ENOMEM;
}

void kei_mq_tree_free(struct mq_tree *t)
{
    for (size_t i = 0; t->slots && i < t->cap; i++)
        while (t->slots[i]) {
            struct mq_node *n = t->slots[i];
            t->slots[i] = n->hnext;
            kei_free(t->alloc, n);
        }
    kei_free(t->alloc, t->slots);
    memset(t, 0, sizeof *t);
}

static struct mq_node *lookup(const struct mq_tree *t, const struct mq_node *parent,
                              struct ke_str seg, uint32_t hash)
{
    struct mq_node *n = t->slots[hash & (t->cap - 1)];

    while (n && !(n->hash == hash && n->parent == parent && n->seg_n == seg.n &&
                  (seg.n == 0 || memcmp(mq_seg(n), seg.p, seg.n) == 0)))
        n = n->hnext;
    return n;
}

struct mq_node *kei_mq_tree_child(const struct mq_tree *t, const struct mq_node *parent,
                                  struct ke_str seg)
{
    return parent->child ? lookup(t, parent, seg, hash_seg(t, parent, seg)) : NULL;
}

/* More slots if it can; without memory the chains just get longer. */
static void grow(struct mq_tree *t)
{
    size_t cap = t->cap * 2;
    struct mq_node **slots = kei_zalloc(t->alloc, cap * sizeof(struct mq_node *));

    if (!slots)
        return;
    for (size_t i = 0; i < t->cap; i++)
        for (struct mq_node *n = t->slots[i], *next; n; n = next) {
            next = n->hnext;
            n->hnext = slots[n->hash & (cap - 1)];
            slots[n->hash & (cap - 1)] = n;
        }
    kei_free(t->alloc, t->slots);
    t->slots = slots;
    t->cap = cap;
}

static struct mq_node *add(struct mq_tree *t, struct mq_node *parent, struct ke_str seg)
{
    uint32_t hash = hash_seg(t, parent, seg);
    struct mq_node *n = parent->child ? lookup(t, parent, seg, hash) : NULL;

    if (n)
        return n;
    if (t->n >= t->cap)
        grow(t);
    n = kei_zalloc(t->alloc, sizeof *n + seg.n);
    if (!n)
        return NULL;
    n->parent = parent;
    n->hash = hash;
    n->seg_n = (uint16_t)seg.n;
    if (seg.n)
        memcpy(mq_seg(n), seg.p, seg.n);
    n->next = parent->child;
    if (n->next)
        n->next->prev = n;
    parent->child = n;
    if (kei_str_is(seg, "+"))
        parent->has_plus = 1;
    if (kei_str_is(seg, "#"))
        parent->has_hash = 1;
    struct mq_node **slot = &t->slots[hash & (t->cap - 1)];
    n->hnext = *slot;
    *slot = n;
    t->n++;
    return n;
}

struct mq_node *kei_mq_tree_find(const struct mq_tree *t, struct ke_str topic)
{
    const struct mq_node *n = &t->root;
    struct ke_str rest = topic;

    do {
        struct ke_str seg = kei_str_cut(rest, '/', &rest);
        n = kei_mq_tree_child(t, n, seg);
    } while (n && rest.p);
    return (struct mq_node *)(uintptr_t)n;
}

struct mq_node *kei_mq_tree_make(struct mq_tree *t, struct ke_str topic)
{
    struct mq_node *n = &t->root;
    struct ke_str rest = topic;

    do {
        struct ke_str seg = kei_str_cut(rest, '/', &rest);
        struct mq_node *child = add(t, n, seg);
        if (!child) {
            kei_mq_tree_prune(t, n);
            return NULL;
        }
        n = child;
    } while (rest.p);
    return n;
}

void kei_mq_tree_prune(struct mq_tree *t, struct mq_node *n)
{
    while (n != &t->root && !n->value && !n->child) {
        struct mq_node *parent = n->parent, **slot = &t->slots[n->hash & (t->cap - 1)];
        while (*slot != n)
            slot = &(*slot)->hnext;
        *slot = n->hnext;
        if (n->prev)
            n->prev->next = n->next;
        else
            parent->child = n->next;
        if (n->next)
            n->next->prev = n->prev;
        if (n->seg_n == 1 && mq_seg(n)[0] == '+')
            parent->has_plus = 0;
        if (n->seg_n == 1 && mq_seg(n)[0] == '#')
            parent->has_hash = 0;
        kei_free(t->alloc, n);
        t->n--;
        n = parent;
    }
}

/* ---- which filters match a topic ---- */

#define STACK MQ_LEVELS

struct place {
    const struct mq_node *n;
    size_t at; /* of the topic: where the level below n begins; past its end: none */
};

/*
 * Depth first; per level at most one place (the one below '+') waits on the stack, so levels bound
 * it. Nothing in either tree is deeper.
 */
void kei_mq_tree_match(struct mq_tree *t, struct ke_str topic,
                       void (*fn)(void *user, struct mq_node *n), void *user)
{
    struct place stack[STACK + 1];
    unsigned top = 0;
    bool dollar = topic.n && topic.p[0] == '$';

    stack[top++] = (struct place){&t->root, 0};
    while (top > 0) {
        struct place here = stack[--top];
        while (here.n) {
            const struct mq_node *n = here.n, *child;
            bool first = n == &t->root;
            if (n->has_hash && !(first && dollar)) {
                child = kei_mq_tree_child(t, n, KEI_STR("#"));
                if (child && child->value)
                    fn(user, (struct mq_node *)(uintptr_t)child);
            }
            if (here.at > topic.n) { /* all levels are used up */
                if (n->value && !first)
                    fn(user, (struct mq_node *)(uintptr_t)n);
                break;
            }
            const char *p = topic.p + here.at;
            const char *slash = memchr(p, '/', topic.n - here.at);
            size_t len = slash ? (size_t)(slash - p) : topic.n - here.at;
            size_t below = slash ? here.at + len + 1 : topic.n + 1;
            if (n->has_plus && !(first && dollar) && top <= STACK) {
                child = kei_mq_tree_child(t, n, KEI_STR("+"));
                if (child)
                    stack[top++] = (struct place){child, below};
            }
            here.n = kei_mq_tree_child(t, n, kei_strn(p, len));
            here.at = below;
        }
    }
}

/* ---- which topics a filter selects ---- */

struct mq_node *kei_mq_tree_next(const struct mq_node *top, const struct mq_node *n)
{
    const struct mq_node *next = n->child;

    while (!next) {
        if (n == top)
            return NULL;
        next = n->next;
        if (!next)
            n = n->parent;
    }
    return (struct mq_node *)(uintptr_t)next;
}

static bool hidden(const struct mq_tree *t, const struct mq_node *n)
{
    return n->parent == &t->root && n->seg_n && mq_seg(n)[0] == '$';
}

/* Everything below top and top itself, but at the root not what begins with '$'. */
static bool select_all(struct mq_tree *t, struct mq_node *top,
                       bool (*fn)(void *user, struct mq_node *n), void *user)
{
    struct mq_node *n = top;

    while (n) {
        if (top == &t->root && hidden(t, n)) {
            n = n->next; /* children of the root: nothing above them to go on with */
            continue;
        }
        if (n->value && !fn(user, n))
            return false;
        n = kei_mq_tree_next(top, n);
    }
    return true;
}

/* The first of n and its later siblings that wildcards see. */
static struct mq_node *visible(const struct mq_tree *t, struct mq_node *n)
{
    while (n && hidden(t, n))
        n = n->next;
    return n;
}

/* A position while walking: the node and the filter's rest that applies below it. */
struct walk {
    struct mq_node *n;
    size_t at;
};

void kei_mq_tree_select(struct mq_tree *t, struct ke_str filter,
                        bool (*fn)(void *user, struct mq_node *n), void *user)
{
    struct walk stack[STACK + 1]; /* nodes whose next siblings are still to be seen ('+') */
    unsigned top = 0;
    struct walk here = {&t->root, 0};

    for (;;) {
        bool fits = true;
        if (here.at > filter.n) {
            if (here.n->value && !fn(user, here.n))
                return;
            fits = false;
        }
        struct ke_str seg = {0};
        size_t below = 0;
        if (fits) {
            const char *p = filter.p + here.at;
            const char *slash = memchr(p, '/', filter.n - here.at);
            seg = kei_strn(p, slash ? (size_t)(slash - p) : filter.n - here.at);
            below = slash ? here.at + seg.n + 1 : filter.n + 1;
            if (kei_str_is(seg, "#")) {
                if (!select_all(t, here.n, fn, user))
                    return;
                fits = false;
            }
        }
        if (fits && kei_str_is(seg, "+")) {
            struct mq_node *child = visible(t, here.n->child);
            if (child && top <= STACK) {
                stack[top++] = (struct walk){child, below};
                here = (struct walk){child, below};
                continue;
            }
        } else if (fits) {
            struct mq_node *child = kei_mq_tree_child(t, here.n, seg);
            if (child) {
                here = (struct walk){child, below};
                continue;
            }
        }
        /* back to the last '+' that has another sibling */
        struct mq_node *sibling = NULL;
        while (top > 0 && !sibling) {
            struct walk *w = &stack[top - 1];
            sibling = visible(t, w->n->next);
            if (sibling)
                w->n = sibling;
            else
                top--;
        }
        if (!sibling)
            return;
        here = stack[top - 1];
    }
}

void kei_mq_tree_text(const struct mq_node *n, struct ke_buf *b)
{
    const struct mq_node *path[MQ_LEVELS + 1];
    unsigned depth = 0;

    for (; n->parent && depth <= MQ_LEVELS; n = n->parent)
        path[depth++] = n;
    while (depth > 0) {
        n = path[--depth];
        kei_buf_add(b, mq_seg(n), n->seg_n);
        if (depth > 0)
            kei_buf_addc(b, '/');
    }
}
