/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows out of raw pages, see record.h. The layout of a page and of a record is SQLite's, published
 * and stable: a header, an array of pointers to cells, and cells whose payload may go on in a chain
 * of overflow pages.
 */
#include "store/record.h"

#include <string.h>

#include "store/store_priv.h"

#define TABLE_LEAF 0x0d
#define INDEX_LEAF 0x0a
#define INDEX_INNER 0x02
#define TABLE_ROOT 2u /* in every file of format 1: the first page after the schema */
#define INDEX_ROOT 3u
#define DEPTH_MAX 24
#define ROW_COLUMNS 7 /* id bucket key uid version sum value */

struct column {
    uint64_t type;
    const unsigned char *p;
    size_t n;
};

static uint32_t be16(const unsigned char *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

/* Bytes it took, 0 if it does not end before end. */
static size_t varint(const unsigned char *p, const unsigned char *end, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 9; i++) {
        if (p + i >= end)
            return 0;
        if (i == 8) {
            *ret = v << 8 | p[i];
            return 9;
        }
        v = v << 7 | (p[i] & 0x7fu);
        if (!(p[i] & 0x80u)) {
            *ret = v;
            return i + 1;
        }
    }
    return 0;
}

int kei_reader_init(struct kei_reader *r, struct kei_pages *pages)
{
    *r = (struct kei_reader){.pages = pages};
    kei_buf_init(&r->payload, pages->alloc);
    kei_buf_init(&r->text, pages->alloc);
    r->page = kei_alloc(pages->alloc, KEI_PAGE);
    r->more = kei_alloc(pages->alloc, KEI_PAGE);
    return r->page && r->more ? 0 : KE_ENOMEM;
}

void kei_reader_fini(struct kei_reader *r)
{
    if (!r->pages)
        return;
    ke_buf_free(&r->payload);
    ke_buf_free(&r->text);
    kei_free(r->pages->alloc, r->page);
    kei_free(r->pages->alloc, r->more);
    r->pages = NULL;
}

/* Appends the overflow chain that begins at pgno until the payload has n bytes. */
static int read_chain(struct kei_reader *r, uint32_t pgno, size_t n)
{
    bool good;
    while (r->payload.n < n) {
        int e = kei_pages_read(r->pages, pgno, r->more, &good);
        if (e < 0)
            return KE_ECORRUPT;
        size_t part = n - r->payload.n;
        part = part < KEI_PAGE_USED - 4 ? part : KEI_PAGE_USED - 4;
        kei_buf_add(&r->payload, r->more + 4, part);
        if (!kei_buf_ok(&r->payload))
            return KE_ENOMEM;
        pgno = kei_be32(r->more);
    }
    return 0;
}

/* Collects the payload of a cell whose n bytes begin at p. 0, KE_ECORRUPT or KE_ENOMEM. */
static int read_payload(struct kei_reader *r, const unsigned char *p, uint64_t n, bool table)
{
    const unsigned char *end = r->page + KEI_PAGE_USED;
    const uint64_t used = KEI_PAGE_USED;
    uint64_t most = table ? used - 35 : (used - 12) * 64 / 255 - 23;
    uint64_t least = (used - 12) * 32 / 255 - 23;
    uint64_t here = n;
    if (n > (uint64_t)KEI_VALUE_MAX + KEI_ROW_ROOM || n / KEI_PAGE > r->pages->n)
        return KE_ECORRUPT;
    if (n > most) {
        here = least + (n - least) % (used - 4);
        here = here <= most ? here : least;
    }
    if (here > (uint64_t)(end - p) || (here < n && (uint64_t)(end - p) - here < 4))
        return KE_ECORRUPT;
    kei_buf_clear(&r->payload);
    kei_buf_add(&r->payload, p, (size_t)here);
    if (!kei_buf_ok(&r->payload))
        return KE_ENOMEM;
    return here < n ? read_chain(r, kei_be32(p + here), (size_t)n) : 0;
}

static bool column_size(uint64_t type, size_t *ret)
{
    static const unsigned char fixed[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0};
    if (type < sizeof fixed) {
        *ret = fixed[type];
        return true;
    }
    if (type < 12 || type / 2 > SIZE_MAX / 2)
        return false;
    *ret = (size_t)((type - 12) / 2);
    return true;
}

/* Splits the payload into exactly n columns. */
static bool read_columns(const struct kei_reader *r, struct column *c, size_t n)
{
    const unsigned char *p = (const unsigned char *)r->payload.p, *end = p + r->payload.n;
    uint64_t head;
    size_t at = varint(p, end, &head);
    if (at == 0 || head > r->payload.n)
        return false;
    const unsigned char *data = p + head;
    for (size_t i = 0; i < n; i++) {
        size_t k = varint(p + at, p + head, &c[i].type);
        if (k == 0 || !column_size(c[i].type, &c[i].n) || c[i].n > (size_t)(end - data))
            return false;
        at += k;
        c[i].p = data;
        data += c[i].n;
    }
    return at == head;
}

static bool is_text(const struct column *c, size_t max)
{
    return c->type >= 13 && c->type % 2 == 1 && c->n <= max &&
           (c->n == 0 || !memchr(c->p, 0, c->n));
}

static bool get_int(const struct column *c, int64_t *ret)
{
    if (c->type == 8 || c->type == 9) {
        *ret = c->type == 9;
        return true;
    }
    if (c->type < 1 || c->type > 6)
        return false;
    uint64_t v = c->p[0] & 0x80u ? UINT64_MAX : 0;
    for (size_t i = 0; i < c->n; i++)
        v = v << 8 | c->p[i];
    memcpy(ret, &v, sizeof *ret);
    return true;
}

/* Copies the texts, so that each has its NUL. */
static bool copy_texts(struct kei_reader *r, const struct column *c, size_t n, const char **ret)
{
    size_t total = 0;
    kei_buf_clear(&r->text);
    for (size_t i = 0; i < n; i++)
        total += c[i].n + 1;
    if (!kei_buf_room(&r->text, total))
        return false;
    for (size_t i = 0; i < n; i++) {
        ret[i] = r->text.p + r->text.n;
        kei_buf_add(&r->text, c[i].p, c[i].n);
        kei_buf_addc(&r->text, '\0');
    }
    return kei_buf_ok(&r->text);
}

/* 0: fn was called, or the payload is no row of ours (counted). */
static int tell_row(struct kei_reader *r, kei_row_fn fn, void *user)
{
    struct column c[ROW_COLUMNS];
    struct ke_store_item row = {.size = sizeof row};
    const char *texts[3];
    int64_t sum;
    bool ok = read_columns(r, c, ROW_COLUMNS) && c[0].type == 0 && is_text(&c[1], KEI_BUCKET_MAX) &&
              is_text(&c[2], KEI_KEY_MAX) && is_text(&c[3], KEI_UID_MAX) &&
              get_int(&c[4], &row.version) && get_int(&c[5], &sum) && c[6].type >= 12 &&
              c[6].type % 2 == 0 && c[6].n <= KEI_VALUE_MAX;
    if (ok && !copy_texts(r, c + 1, 3, texts))
        return KE_ENOMEM;
    if (ok) {
        row.bucket = texts[0];
        row.key = texts[1];
        row.uid = texts[2];
        row.value = c[6].p;
        row.len = c[6].n;
        ok = kei_sum_row(&row) == sum;
    }
    if (!ok) {
        r->refused++;
        return 0;
    }
    return fn(user, &row);
}

/* The page's cells are told by its own header: how many, and where. */
static uint32_t count_cells(const unsigned char *page, uint32_t head)
{
    uint32_t n = be16(page + 3), most = (KEI_PAGE_USED - head) / 2;
    return n < most ? n : most;
}

int kei_reader_rows(struct kei_reader *r, uint32_t pgno, kei_row_fn fn, void *user)
{
    bool good;
    if (pgno == 1 || kei_pages_read(r->pages, pgno, r->page, &good) < 0 || r->page[0] != TABLE_LEAF)
        return 0;
    uint32_t n = count_cells(r->page, 8);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = be16(r->page + 8 + 2 * i);
        const unsigned char *p = r->page + at, *end = r->page + KEI_PAGE_USED;
        uint64_t size, id;
        size_t a = at < KEI_PAGE_USED ? varint(p, end, &size) : 0;
        size_t b = a ? varint(p + a, end, &id) : 0;
        int e = b ? read_payload(r, p + a + b, size, true) : KE_ECORRUPT;
        if (e == 0)
            e = tell_row(r, fn, user);
        else if (e == KE_ECORRUPT) {
            r->refused++;
            e = 0;
        }
        if (e != 0)
            return e;
    }
    return 0;
}

/* ---- the index ---- */

static int tell_key(struct kei_reader *r, const unsigned char *p, kei_key_fn fn, void *user,
                    bool *all)
{
    struct column c[3];
    const char *texts[2];
    uint64_t size;
    size_t a = varint(p, r->page + KEI_PAGE_USED, &size);
    int e = a ? read_payload(r, p + a, size, false) : KE_ECORRUPT;
    if (e == KE_ENOMEM)
        return e;
    if (e < 0 || !read_columns(r, c, 3) || !is_text(&c[0], KEI_BUCKET_MAX) ||
        !is_text(&c[1], KEI_KEY_MAX)) {
        *all = false;
        return 0;
    }
    return copy_texts(r, c, 2, texts) ? fn(user, texts[0], texts[1]) : KE_ENOMEM;
}

/*
 * Only pages whose sum is right are believed: their structure then is SQLite's, and what is odd
 * nevertheless (a loop) ends the walk by the count of pages visited.
 */
int kei_reader_keys(struct kei_reader *r, kei_key_fn fn, void *user, bool *ret_all)
{
    struct {
        uint32_t pgno, next;
    } stack[DEPTH_MAX];
    uint64_t visits = 0;
    size_t depth = 1;
    *ret_all = true;
    stack[0].pgno = INDEX_ROOT;
    stack[0].next = 0;
    while (depth > 0) {
        uint32_t pgno = stack[depth - 1].pgno, i = stack[depth - 1].next++;
        bool good = false;
        /* Read again after each child: depth times one page is all the memory this takes. */
        if (kei_pages_read(r->pages, pgno, r->page, &good) < 0 || !good ||
            (r->page[0] != INDEX_LEAF && r->page[0] != INDEX_INNER)) {
            *ret_all = false;
            depth--;
            continue;
        }
        bool inner = r->page[0] == INDEX_INNER;
        uint32_t head = inner ? 12 : 8, n = count_cells(r->page, head);
        for (; i < n; i++) {
            uint32_t at = be16(r->page + head + 2 * i);
            if (at + (inner ? 4 : 0) >= KEI_PAGE_USED) {
                *ret_all = false;
                continue;
            }
            int e = tell_key(r, r->page + at + (inner ? 4 : 0), fn, user, ret_all);
            if (e != 0)
                return e;
            if (inner)
                break;
        }
        uint32_t child = 0;
        if (inner && i < n)
            child = kei_be32(r->page + be16(r->page + head + 2 * i));
        else if (inner && i == n)
            child = kei_be32(r->page + 8);
        if (child == 0) {
            depth--;
            continue;
        }
        stack[depth - 1].next = i + 1;
        if (depth == DEPTH_MAX || ++visits > r->pages->n) {
            *ret_all = false;
            return 0;
        }
        stack[depth].pgno = child;
        stack[depth++].next = 0;
    }
    return 0;
}
