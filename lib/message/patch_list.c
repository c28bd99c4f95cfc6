/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists in a strategic merge patch: replaced whole, merged by a key of their elements, or merged as
 * sets. Scratch memory is the patcher's arena; one thread at a time.
 *
 * All elements of the list, the patch and the order are sorted by key once, which gives each key a
 * slot; the rest works on slots. Order of the result: elements named by the patch (or its
 * $setElementOrder) in that order; the others keep theirs and go before a named one that they stood
 * before already.
 */
#include <stdlib.h>

#include "message/patch_priv.h"

#define NONE UINT32_MAX

struct elem {
    struct ke_str text; /* the element */
    struct ke_str key;  /* decoded string, or a scalar's text */
    char key_type;
    bool special; /* $patch: no element but an instruction */
    uint32_t at;  /* in the order of reading, to keep sorting stable */
    uint32_t slot;
};

struct item { /* of the result */
    struct ke_str text;
    uint32_t slot;
    uint32_t rank; /* place in the order asked for; NONE */
};

struct slot {
    uint32_t item;    /* first item with this key; NONE */
    uint32_t base_at; /* where the key stood; NONE */
    uint32_t rank;
    bool dropped;
};

struct elems {
    struct elem *e;
    uint32_t n;
};

struct list {
    struct kei_patcher *p;
    const struct kei_place *place;
    const char *key; /* "": a set of scalars */
    struct elems base, patch, order, drop;
    struct slot *slots;
    struct item *items;
    uint32_t n_items, n_slots;
    bool replace;
};

/* The key by which the elements of a list are merged; "" for a set; NULL: the list is one value. */
static const char *merge_key(const struct kei_place *place)
{
    static const struct {
        const char *list, *key;
    } known[] = {
        {"conditions", "type"},
        {"addresses", "type"},
        {"containers", "name"},
        {"initContainers", "name"},
        {"ephemeralContainers", "name"},
        {"volumes", "name"},
        {"env", "name"},
        {"podIPs", "ip"},
        {"hostIPs", "ip"},
        {"hostAliases", "ip"},
        {"volumeMounts", "mountPath"},
        {"volumeDevices", "devicePath"},
        {"imagePullSecrets", "name"},
        {"ownerReferences", "uid"},
        {"topologySpreadConstraints", "topologyKey"},
        {"finalizers", ""},
        {"podCIDRs", ""},
    };
    static const char *const in[] = {"containers", "initContainers", "ephemeralContainers"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (kei_str_is(place->name, known[i].list))
            return known[i].key;
    }
    if (!kei_str_is(place->name, "ports"))
        return NULL;
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) {
        if (strcmp(place->around, in[i]) == 0)
            return "containerPort";
    }
    return "port"; /* of a Service */
}

static int out_of_memory(struct kei_patcher *p)
{
    return kei_error(p->err, KE_ENOMEM, "memory ran out while a list was patched");
}

static int read_key(struct list *l, struct elem *e, struct ke_str v)
{
    e->key_type = kei_json_type(v);
    e->key = v;
    if (e->key_type != '"')
        return 0;
    char *s;
    int r = kei_json_text(&s, v, &l->p->arena, l->p->err);
    if (r == 0)
        e->key = kei_str(s);
    return r;
}

static int read_elem(struct list *l, struct elem *e, bool is_patch)
{
    struct ke_str v;
    bool obj = kei_json_type(e->text) == '{';

    if (!*l->key)
        return read_key(l, e, e->text);
    if (is_patch && obj && kei_json_get(e->text, "$patch", &v)) {
        e->special = true;
        if (kei_json_str_is(v, "replace")) {
            l->replace = true;
            return 0;
        }
        if (!kei_json_str_is(v, "delete"))
            return kei_error(l->p->err, KE_EPARSE,
                             "patch of list %.*s was refused: $patch was %.*s, known are "
                             "\"delete\" and \"replace\"",
                             KEI_FMT(l->place->name), KEI_FMT(v));
    }
    if (obj && kei_json_get(e->text, l->key, &v))
        return read_key(l, e, v);
    if (is_patch)
        return kei_error(l->p->err, KE_EPARSE,
                         "patch of list %.*s was refused: an element lacks its key \"%s\"",
                         KEI_FMT(l->place->name), l->key);
    return 0; /* an old element without key matches nothing but its like */
}

static int read_elems(struct list *l, struct elems *to, struct ke_str list, bool is_patch,
                      uint32_t *at)
{
    uint32_t n = 0;
    size_t it = 0;
    struct ke_str v;

    to->n = 0;
    if (kei_json_type(list) != '[')
        return 0;
    while (kei_json_next(list, &it, NULL, &v)) {
        if (n == l->p->budget)
            return kei_error(l->p->err, KE_ELIMIT,
                             "JSON to be patched had too many elements (limit %u in all)",
                             KEI_PATCH_MEMBERS);
        n++;
    }
    l->p->budget -= n;
    to->e = kei_arena_array(&l->p->arena, n ? n : 1, sizeof *to->e);
    if (!to->e)
        return out_of_memory(l->p);
    it = 0;
    for (uint32_t i = 0; i < n; i++) {
        kei_json_next(list, &it, NULL, &to->e[i].text);
        to->e[i].at = (*at)++;
        int r = read_elem(l, &to->e[i], is_patch);
        if (r < 0)
            return r;
    }
    to->n = n;
    return 0;
}

static int compare_keys(const struct elem *a, const struct elem *b)
{
    if (a->key_type != b->key_type)
        return a->key_type < b->key_type ? -1 : 1;
    if (a->key.n != b->key.n)
        return a->key.n < b->key.n ? -1 : 1;
    return a->key.n ? memcmp(a->key.p, b->key.p, a->key.n) : 0;
}

static int by_key(const void *x, const void *y)
{
    const struct elem *a = *(struct elem *const *)x, *b = *(struct elem *const *)y;
    int c = compare_keys(a, b);

    return c ? c : a->at < b->at ? -1 : 1;
}

/* Gives all elements of one key the same slot. */
static int make_slots(struct list *l)
{
    const struct elems *all[] = {&l->base, &l->patch, &l->order, &l->drop};
    uint32_t n = 0, total = l->base.n + l->patch.n + l->order.n + l->drop.n;
    struct kei_arena *a = &l->p->arena;
    struct elem **sorted = kei_arena_array(a, total + 1, sizeof *sorted);

    l->slots = kei_arena_array(a, total + 1, sizeof *l->slots);
    l->items = kei_arena_array(a, l->base.n + l->patch.n + 1, sizeof *l->items);
    if (!sorted || !l->slots || !l->items)
        return out_of_memory(l->p);
    for (size_t k = 0; k < 4; k++) {
        for (uint32_t i = 0; i < all[k]->n; i++)
            sorted[n++] = &all[k]->e[i];
    }
    if (n)
        qsort(sorted, n, sizeof *sorted, by_key);
    for (uint32_t i = 0; i < n; i++) {
        if (i == 0 || compare_keys(sorted[i - 1], sorted[i]) != 0)
            l->slots[l->n_slots++] = (struct slot){NONE, NONE, NONE, false};
        sorted[i]->slot = l->n_slots - 1;
    }
    return 0;
}

static void add_item(struct list *l, struct ke_str text, uint32_t slot)
{
    if (l->slots[slot].item == NONE)
        l->slots[slot].item = l->n_items;
    l->items[l->n_items++] = (struct item){text, slot, NONE};
}

/* The element of the patch merged into what is there (n 0: nothing), as new text. */
static int merge_elem(struct list *l, struct ke_str old, struct ke_str patch, struct ke_str *ret)
{
    struct kei_place in = {l->place->around, l->place->name, l->place->depth + 1};
    struct ke_buf b;

    if (kei_json_type(patch) != '{' || (!old.n && kei_patch_plain(l->p, patch))) {
        *ret = patch;
        return 0;
    }
    kei_buf_init(&b, l->p->arena.alloc);
    int r = kei_patch_object(l->p, &in, old, patch, &b);
    if (r == 0) {
        char *s = kei_buf_ok(&b) ? kei_arena_strdup(&l->p->arena, kei_buf_str(&b)) : NULL;
        if (s)
            *ret = kei_strn(s, b.n);
        else
            r = out_of_memory(l->p);
    }
    ke_buf_free(&b);
    return r;
}

static int merge_patch(struct list *l)
{
    struct ke_str none = {NULL, 0}, text;
    int r;

    for (uint32_t i = 0; i < l->drop.n; i++)
        l->slots[l->drop.e[i].slot].dropped = true;
    for (uint32_t i = 0; i < l->patch.n; i++) {
        if (l->patch.e[i].special && l->patch.e[i].key_type)
            l->slots[l->patch.e[i].slot].dropped = true;
    }
    for (uint32_t i = 0; i < l->base.n; i++) {
        struct slot *s = &l->slots[l->base.e[i].slot];
        if (s->base_at == NONE)
            s->base_at = i;
        if (!l->replace && !s->dropped)
            add_item(l, l->base.e[i].text, l->base.e[i].slot);
    }
    for (uint32_t i = 0; i < l->patch.n; i++) {
        const struct elem *e = &l->patch.e[i];
        if (e->special)
            continue;
        uint32_t at = l->slots[e->slot].item;
        if (at == NONE || l->replace) {
            r = merge_elem(l, none, e->text, &text);
            if (r == 0)
                add_item(l, text, e->slot);
        } else {
            r = merge_elem(l, l->items[at].text, e->text, &text);
            if (r == 0)
                l->items[at].text = text;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* Ranks of the keys in the order that is asked for, and that all of the patch is in it. */
static int rank_items(struct list *l, bool ordered)
{
    const struct elems *o = ordered ? &l->order : &l->patch;

    if (!ordered && l->replace)
        return 0;
    for (uint32_t i = 0; i < o->n; i++) {
        if (!o->e[i].special && l->slots[o->e[i].slot].rank == NONE)
            l->slots[o->e[i].slot].rank = i;
    }
    for (uint32_t i = 0; i < l->patch.n; i++) {
        if (!l->patch.e[i].special && l->slots[l->patch.e[i].slot].rank == NONE)
            return kei_error(l->p->err, KE_EPARSE,
                             "patch of list %.*s was refused: $setElementOrder lacks an element "
                             "that the patch has",
                             KEI_FMT(l->place->name));
    }
    for (uint32_t i = 0; i < l->n_items; i++)
        l->items[i].rank = l->slots[l->items[i].slot].rank;
    return 0;
}

static int by_rank(const void *x, const void *y)
{
    const struct item *a = *(struct item *const *)x, *b = *(struct item *const *)y;

    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int write_items(struct list *l, struct ke_buf *out)
{
    struct item **named = kei_arena_array(&l->p->arena, l->n_items + 1, sizeof(struct item *));
    struct item **other = kei_arena_array(&l->p->arena, l->n_items + 1, sizeof(struct item *));
    uint32_t n = 0, m = 0, i = 0, j = 0;

    if (!named || !other)
        return out_of_memory(l->p);
    for (uint32_t k = 0; k < l->n_items; k++) {
        if (l->items[k].rank == NONE)
            other[m++] = &l->items[k];
        else
            named[n++] = &l->items[k];
    }
    if (n)
        qsort(named, n, sizeof(struct item *), by_rank);
    kei_buf_addc(out, '[');
    while (i < n || j < m) {
        bool take_other = i == n;
        if (i < n && j < m) {
            uint32_t x = l->slots[other[j]->slot].base_at, y = l->slots[named[i]->slot].base_at;
            take_other = x != NONE && y != NONE && x < y;
        }
        if (i + j)
            kei_buf_addc(out, ',');
        kei_buf_addv(out, take_other ? other[j++]->text : named[i++]->text);
    }
    kei_buf_addc(out, ']');
    return 0;
}

/* A list that is one value: taken from the patch, without what is only instruction. */
static int replace_list(struct list *l, struct ke_str patch, struct ke_buf *out)
{
    struct ke_str v, text, none = {NULL, 0};
    size_t it = 0;
    bool first = true;

    kei_buf_addc(out, '[');
    while (kei_json_next(patch, &it, NULL, &v)) {
        struct ke_str d;
        if (kei_json_type(v) == '{' && kei_json_get(v, "$patch", &d))
            continue;
        int r = merge_elem(l, none, v, &text);
        if (r < 0)
            return r;
        if (!first)
            kei_buf_addc(out, ',');
        kei_buf_addv(out, text);
        first = false;
    }
    kei_buf_addc(out, ']');
    return 0;
}

int kei_patch_list(struct kei_patcher *p, const struct kei_place *place, struct ke_str base,
                   const struct kei_edit *edit, struct ke_buf *out)
{
    struct list l = {.p = p, .place = place, .key = merge_key(place)};
    bool ordered = kei_json_type(edit->order) == '[';
    uint32_t at = 0;

    if (place->depth > KEI_PATCH_DEPTH)
        return kei_error(p->err, KE_ELIMIT, "patch was nested deeper than the limit of %d levels",
                         KEI_PATCH_DEPTH);
    if (!l.key && edit->value.n && !kei_patch_plain(p, edit->value))
        return replace_list(&l, edit->value, out);
    if (!l.key) {
        kei_buf_addv(out, edit->value.n ? edit->value : base);
        return 0;
    }
    int r = read_elems(&l, &l.base, base, false, &at);
    if (r == 0)
        r = read_elems(&l, &l.patch, edit->value, true, &at);
    if (r == 0)
        r = read_elems(&l, &l.order, edit->order, false, &at);
    if (r == 0 && !*l.key)
        r = read_elems(&l, &l.drop, edit->drop, false, &at);
    if (r == 0)
        r = make_slots(&l);
    if (r == 0)
        r = merge_patch(&l);
    if (r == 0)
        r = rank_items(&l, ordered);
    return r < 0 ? r : write_items(&l, out);
}
