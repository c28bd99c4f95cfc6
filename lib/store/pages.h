/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of the database without SQLite: its file with the committed frames of its write-ahead
 * log laid over. For the look at a file before SQLite may touch it, and for salvage. Reads only,
 * but kei_pages_trim. Memory: the struct's, through alloc. Runs where the store's file work runs.
 */
#ifndef KEI_STORE_PAGES_H
#define KEI_STORE_PAGES_H

#include "base/loop.h"
#include "store/sum.h"

struct kei_pages {
    const struct ke_io *io;
    const struct ke_alloc *alloc;
    const char *folder;
    struct ke_io_file *db, *wal; /* NULL: there is no such file */
    uint32_t db_pages;           /* whole pages in the file */
    uint32_t n;                  /* pages together, the log's included */
    uint32_t unreadable;         /* reads that failed so far */
    /* of the log */
    uint32_t frames;  /* slots in the file */
    uint32_t whole;   /* frames up to the last commit that nothing damaged stands before */
    uint32_t last;    /* the last commit frame that is good in itself */
    bool log_damaged; /* what was synced is not as it was written */
    uint32_t map_n;
    uint32_t *map; /* by page number: frame, 0 if only the file has it */
    unsigned char *buf;
};

/*
 * Opens what is there; neither file is fine. Damage is no failure: KE_ENOMEM, KE_EACCES, KE_EIO
 * when the files cannot be opened.
 */
int kei_pages_open(struct kei_pages *p, struct ke_ctx *ctx, const char *folder,
                   struct ke_error *err);
void kei_pages_close(struct kei_pages *p); /* safe if zero */
/*
 * Page pgno into to. 0; KE_ENOTFOUND (beyond the end); KE_EIO. *ret_good tells whether its sum is
 * right (a page of the log was checked as a whole when it was opened).
 */
int kei_pages_read(struct kei_pages *p, uint32_t pgno, unsigned char *to, bool *ret_good);
/* Where the newest version of it is: 0 the file, else the frame. */
uint32_t kei_pages_rank(const struct kei_pages *p, uint32_t pgno);
/*
 * Makes sure what a killed process may have left unsynced: cuts the log after its last whole
 * transaction and syncs it. (Its name was made durable before the first frame was written.)
 */
int kei_pages_trim(struct kei_pages *p, struct ke_error *err);

static inline uint32_t kei_be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
