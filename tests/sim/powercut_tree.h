/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the power-cut file system: a tree of nodes and names, and records of changes to it.
 * Memory: the owner of a tree frees it with tree_free; running out of memory ends the test.
 */
#ifndef TESTS_SIM_POWERCUT_TREE_H
#define TESTS_SIM_POWERCUT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NONE UINT32_MAX

enum node_type { NODE_FILE, NODE_DIR, NODE_LINK };

struct bytes {
    unsigned char *p;
    size_t n, cap;
};

struct node {
    enum node_type type;
    uint32_t mode;
    struct bytes data; /* a link: its target */
    bool locked;       /* live only */
};

struct name {
    uint32_t dir, node;
    char *text;
};

struct tree {
    struct node *nodes;
    size_t n_nodes;
    struct name *names;
    size_t n_names;
};

enum rec_kind {
    REC_NODE,
    REC_WRITE,
    REC_TRUNCATE,
    REC_SYNC,
    REC_SET,
    REC_DEL,
    REC_MOVE,
    REC_SYNC_DIR
};

struct rec {
    enum rec_kind kind;
    uint32_t node, dir; /* NODE: type in dir */
    uint32_t mode;
    int64_t off;
    unsigned char *data;
    size_t len;
    char *name, *name2;
};

void *need(void *p); /* p, which must not be NULL */
char *copy_text(const char *s);

/* What bytes_* add without being given is junk from the generator, or zeros when it is NULL. */
void bytes_resize(struct bytes *b, size_t n, uint64_t *junk);
void bytes_write(struct bytes *b, size_t off, const void *p, size_t n, uint64_t *junk);

uint32_t tree_node(struct tree *t, enum node_type type, uint32_t mode);
struct name *tree_name(const struct tree *t, uint32_t dir, const char *text);
void tree_copy(struct tree *to, const struct tree *from);
void tree_free(struct tree *t);
bool tree_empty_dir(const struct tree *t, uint32_t dir);
/* Applies one record in full. */
void tree_apply(struct tree *t, const struct rec *r);
/*
 * Finds the folder and last component (255 bytes and a NUL) of path. 0, KE_ENOTFOUND (a folder on
 * the way) or KE_EINVAL. *ret_node is NONE when the last component does not exist.
 */
int tree_walk(const struct tree *t, const char *path, bool follow, uint32_t *ret_dir, char *last,
              uint32_t *ret_node);

#endif
