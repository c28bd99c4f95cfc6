/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of the power-cut file system, see powercut_tree.h. */
#include "sim/powercut_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/powercut_io.h"

#define LINKS_MAX 8

void *need(void *p)
{
    if (!p) {
        fputs("powercut: out of memory\n", stderr);
        abort();
    }
    return p;
}

char *copy_text(const char *s)
{
    return need(strdup(s));
}

void bytes_resize(struct bytes *b, size_t n, uint64_t *junk)
{
    if (n > b->cap) {
        b->cap = n + n / 2 + 64;
        b->p = need(realloc(b->p, b->cap));
    }
    for (size_t i = b->n; i < n; i++)
        b->p[i] = junk ? (unsigned char)powercut_random(junk) : 0;
    b->n = n;
}

void bytes_write(struct bytes *b, size_t off, const void *p, size_t n, uint64_t *junk)
{
    if (n == 0)
        return;
    if (off + n > b->n)
        bytes_resize(b, off + n, junk);
    memcpy(b->p + off, p, n);
}

/* ---- random ---- */

uint64_t powercut_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t powercut_below(uint64_t *state, uint64_t n)
{
    return n ? powercut_random(state) % n : 0;
}

/* ---- trees ---- */

uint32_t tree_node(struct tree *t, enum node_type type, uint32_t mode)
{
    t->nodes = need(realloc(t->nodes, (t->n_nodes + 1) * sizeof *t->nodes));
    t->nodes[t->n_nodes] = (struct node){.type = type, .mode = mode};
    return (uint32_t)t->n_nodes++;
}

struct name *tree_name(const struct tree *t, uint32_t dir, const char *text)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i].dir == dir && !strcmp(t->names[i].text, text))
            return &t->names[i];
    return NULL;
}

static void tree_set(struct tree *t, uint32_t dir, const char *text, uint32_t node)
{
    struct name *n = tree_name(t, dir, text);
    if (n) {
        n->node = node;
        return;
    }
    t->names = need(realloc(t->names, (t->n_names + 1) * sizeof *t->names));
    t->names[t->n_names++] = (struct name){dir, node, copy_text(text)};
}

static void tree_del(struct tree *t, uint32_t dir, const char *text)
{
    struct name *n = tree_name(t, dir, text);
    if (!n)
        return;
    free(n->text);
    *n = t->names[--t->n_names];
}

void tree_copy(struct tree *to, const struct tree *from)
{
    *to = (struct tree){0};
    for (size_t i = 0; i < from->n_nodes; i++) {
        const struct node *n = &from->nodes[i];
        uint32_t id = tree_node(to, n->type, n->mode);
        bytes_write(&to->nodes[id].data, 0, n->data.p, n->data.n, NULL);
    }
    for (size_t i = 0; i < from->n_names; i++)
        tree_set(to, from->names[i].dir, from->names[i].text, from->names[i].node);
}

void tree_free(struct tree *t)
{
    for (size_t i = 0; i < t->n_nodes; i++)
        free(t->nodes[i].data.p);
    for (size_t i = 0; i < t->n_names; i++)
        free(t->names[i].text);
    free(t->nodes);
    free(t->names);
    *t = (struct tree){0};
}

bool tree_empty_dir(const struct tree *t, uint32_t dir)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (t->names[i].dir == dir)
            return false;
    return true;
}

void tree_apply(struct tree *t, const struct rec *r)
{
    switch (r->kind) {
    case REC_NODE:
        (void)tree_node(t, (enum node_type)r->dir, r->mode);
        bytes_write(&t->nodes[t->n_nodes - 1].data, 0, r->data, r->len, NULL);
        break;
    case REC_WRITE:
        bytes_write(&t->nodes[r->node].data, (size_t)r->off, r->data, r->len, NULL);
        break;
    case REC_TRUNCATE:
        bytes_resize(&t->nodes[r->node].data, (size_t)r->off, NULL);
        break;
    case REC_SET:
        tree_set(t, r->dir, r->name, r->node);
        break;
    case REC_DEL:
        tree_del(t, r->dir, r->name);
        break;
    case REC_MOVE:
        tree_del(t, r->dir, r->name);
        tree_set(t, r->dir, r->name2, r->node);
        break;
    case REC_SYNC:
    case REC_SYNC_DIR:
        break;
    }
}

int tree_walk(const struct tree *t, const char *path, bool follow, uint32_t *ret_dir, char *last,
              uint32_t *ret_node)
{
    char *rest = copy_text(path);
    uint32_t dir = 0;
    int links = 0, r = KE_EINVAL;
    *ret_dir = 0;
    *ret_node = 0;
    last[0] = 0;
    for (char *at = rest;;) {
        at += strspn(at, "/");
        size_t n = strcspn(at, "/");
        if (n == 0) {
            r = 0; /* the folder itself */
            break;
        }
        if (n >= 256)
            break;
        memcpy(last, at, n);
        last[n] = 0;
        const char *tail = at + n + strspn(at + n, "/");
        const struct name *found = !strcmp(last, ".") ? NULL : tree_name(t, dir, last);
        uint32_t node = !strcmp(last, ".") ? dir : found ? found->node : NONE;
        *ret_dir = dir;
        *ret_node = node;
        if (node != NONE && t->nodes[node].type == NODE_LINK && (*tail || follow)) {
            if (++links > LINKS_MAX)
                break;
            const struct bytes *target = &t->nodes[node].data;
            size_t size = target->n + strlen(tail) + 2;
            char *joined = need(malloc(size));
            (void)snprintf(joined, size, "%.*s/%s", (int)target->n, (const char *)target->p, tail);
            if (joined[0] == '/')
                dir = 0;
            free(rest);
            rest = at = joined;
            continue;
        }
        if (!*tail) {
            r = 0;
            break;
        }
        if (node == NONE || t->nodes[node].type != NODE_DIR) {
            r = KE_ENOTFOUND;
            break;
        }
        dir = node;
        at += n;
    }
    free(rest);
    return r;
}
