/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that turn libyaml's events into JSON. */
#ifndef KEI_BASE_YAML_BUILD_H
#define KEI_BASE_YAML_BUILD_H

#include <yaml.h>

#include "base/map.h"
#include "base/yaml_priv.h"

/* The texts there are: the result; what belongs to merge keys while it is written; and after. */
enum { RESULT, ASIDE, KEPT };

struct kei_yb_span {
    int where;
    size_t off, n;
};

struct kei_yb_anchor {
    struct kei_yb_span at;
    bool done;
};

struct kei_yb_key {
    struct kei_yb_span at; /* with its quotes */
    uint32_t line;
};

struct kei_yb_frame {
    bool map, key_next, comma;
    int where;                    /* RESULT or ASIDE */
    bool merge_next;              /* the next value belongs to a merge key */
    bool is_merge;                /* this is such a value */
    uint32_t line;                /* of the merge key */
    size_t start;                 /* in its text */
    size_t anchor;                /* index + 1 */
    size_t keys, merges, anchors; /* where its own begin in the stacks */
};

struct kei_yb {
    struct kei_yaml *y;
    struct ke_error *err;
    yaml_parser_t parser;
    struct ke_buf aside, kept;
    struct kei_yb_frame stack[KEI_JSON_DEPTH];
    uint32_t depth;
    struct kei_map names; /* anchor name to index + 1 */
    struct kei_yb_anchor *anchors;
    size_t n_anchors, cap_anchors;
    struct kei_yb_key *keys;
    size_t n_keys, cap_keys;
    struct kei_yb_span *merges;
    size_t n_merges, cap_merges;
    size_t doc_start;
    uint32_t doc_line;
    bool null_doc;
    uint64_t work; /* bytes that merge keys may still look at */
};

struct kei_yb_frame *kei_yb_top(struct kei_yb *b);
struct ke_buf *kei_yb_text(struct kei_yb *b, int where);
int kei_yb_here(struct kei_yb *b); /* where the next value is written */
struct ke_str kei_yb_view(struct kei_yb *b, struct kei_yb_span s);
int kei_yb_no_memory(struct kei_yb *b);
/* KE_ELIMIT if all texts and more bytes are over the cap, KE_ENOMEM if one could not grow. */
int kei_yb_check_size(struct kei_yb *b, size_t more);
/* Appends a span of any text to one of them. */
int kei_yb_copy(struct kei_yb *b, int to_where, struct kei_yb_span s);
int kei_yb_mark(struct kei_yb *b, uint32_t line);

/* yaml_map.c: what happens between the braces of a map */
int kei_yb_add_key(struct kei_yb *b, struct kei_yb_span at, uint32_t line);
int kei_yb_add_merge(struct kei_yb *b, struct kei_yb_span at);
int kei_yb_bad_merge(struct kei_yb *b, uint32_t line);
/* At the end of the map on top: no key twice, and what its merge keys bring. */
int kei_yb_end_map(struct kei_yb *b);

#endif
