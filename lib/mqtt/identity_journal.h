/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of lines, each with a check sum, that only grows while it is open: how users, identities
 * and rules are kept. What is added in one turn, and while the disk is busy, is written together by
 * the disk worker. After a write that failed the whole is written anew. Loop thread.
 */
#ifndef KEI_MQTT_IDENTITY_JOURNAL_H
#define KEI_MQTT_IDENTITY_JOURNAL_H

#include "base/buf.h"
#include "base/error.h"
#include "base/list.h"
#include "base/loop.h"

#define KEI_JOURNAL_MAX ((size_t)256 << 20) /* bytes of the file */

/* Who waits for a line to be durable. */
struct kei_journal_wait {
    struct kei_link link;
    void (*fn)(struct kei_journal_wait *w, int status); /* on the loop; may free w */
};

struct kei_journal {
    struct ke_ctx *ctx;
    char *path;              /* NULL: nothing is kept */
    struct ke_io_file *file; /* the worker's while busy */
    int64_t end;             /* of the good lines */
    int64_t live;            /* what all of it took when it was written last; 0: not known */
    size_t lines;
    bool busy, closing;
    bool whole;   /* the write under way, or the next, is of everything */
    bool rewrite; /* the next one is to be */
    struct ke_buf next, now;
    struct kei_link waiting, written;
    struct kei_work work;
    struct kei_defer defer;
    int status;
    struct ke_error err;
    /* appends every line there is to j->next, by kei_journal_line */
    void (*all)(struct kei_journal *j, void *user);
    void *user;
};

/* What a file held that is of no use. */
struct kei_journal_lost {
    size_t lines; /* with a wrong sum, or refused by each */
    size_t torn;  /* bytes at the end that are no whole line: of a write that was cut */
    char why[200];
};

void kei_journal_init(struct kei_journal *j, struct ke_ctx *ctx,
                      void (*all)(struct kei_journal *j, void *user), void *user);
/*
 * Reads PATH (missing: made later), blocking; each is called for every good line. KE_EIO and the
 * like, KE_ELIMIT, KE_ENOMEM, what each returned if that is KE_ENOMEM.
 */
int kei_journal_open(struct kei_journal *j, const char *path,
                     int (*each)(void *user, struct ke_str line, struct ke_error *err), void *user,
                     struct kei_journal_lost *ret_lost, struct ke_error *err);
/* Writes everything in place of the file, blocking. Nothing may be under way. */
int kei_journal_rewrite(struct kei_journal *j, struct ke_error *err);
/* Appends a line to a buffer: of an all function, or before kei_journal_add. */
void kei_journal_line(struct ke_buf *out, struct ke_str line);
/* Has a line written (empty: everything); w (may be NULL) is told in a later turn. */
void kei_journal_add(struct kei_journal *j, struct ke_str line, struct kei_journal_wait *w);
/* Ends what is under way, tells all, closes; blocking. Opened again by kei_journal_open. */
void kei_journal_close(struct kei_journal *j);

#endif
