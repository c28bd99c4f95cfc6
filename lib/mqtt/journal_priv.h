/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the journal. Files FOLDER/mqtt-N.log, N rising, each a row of records: length (4
 * bytes), check sum (4), type (1), body. Replayed in order they give the state; every record may
 * come again. A snapshot is records of all that is alive, written into a new file while work goes
 * on; when its end is durable, older files go. Loop thread, but what the work function touches.
 */
#ifndef KEI_MQTT_JOURNAL_PRIV_H
#define KEI_MQTT_JOURNAL_PRIV_H

#include "base/file.h"
#include "mqtt/journal.h"

#define MQ_LOG_MAGIC "KEMQTT1\n"
#define MQ_LOG_HEAD 9u                 /* bytes before the body of a record */
#define MQ_LOG_RECORD_MAX (300u << 20) /* a larger length is damage */
#define MQ_LOG_FILES 64u               /* found in the folder at most */

enum mq_record {
    MQ_R_MSG = 1,  /* mid, qos, flags, expiry, topic, properties, payload, client, user */
    MQ_R_SESSION,  /* sid, id, expiry, away, next did, user, will */
    MQ_R_GONE,     /* sid */
    MQ_R_SUB,      /* sid, filter, options, id */
    MQ_R_UNSUB,    /* sid, filter */
    MQ_R_QUEUE,    /* sid, did, mid, qos, flags, pid, ids */
    MQ_R_SENT,     /* sid, did, pid */
    MQ_R_REL,      /* sid, did */
    MQ_R_DONE,     /* sid, did */
    MQ_R_TAKEN,    /* sid, pid, 1 or 0 */
    MQ_R_RETAIN,   /* mid */
    MQ_R_UNRETAIN, /* topic */
    MQ_R_BEGIN,    /* of a snapshot */
    MQ_R_END,
};

struct mq_tell {
    struct mq_tell *next;
    uint64_t batch;
    ke_mqtt_done_fn done;
    void *user;
};

struct mq_gate { /* of a connection */
    struct kei_link link;
    struct mq_conn *c;
    struct mq_part {
        struct mq_part *next;
        uint64_t batch; /* leaves when that one is durable */
        struct mq_out out;
    } * head, *tail;
};

struct mq_journal {
    struct ke_mqtt *m;
    const struct ke_io *io;
    char *folder;
    struct ke_io_file *lock;

    struct ke_buf pending; /* noted, for batch `batch` */
    uint64_t batch, durable;
    uint64_t notes, mark; /* notes so far; at the begin of the packet being handled */
    struct kei_link gates;
    struct mq_tell *tells, **tells_tail;
    bool urgent; /* a gate or a tell waits for the batch in the making */
    bool lazy;   /* the timer runs that commits it all the same */

    /* the commit in progress */
    struct kei_work work;
    bool busy;
    struct ke_buf writing;
    struct ke_io_file *file;
    uint64_t number;    /* of the file written to */
    int64_t at;         /* its durable length */
    int64_t filled;     /* up to here it has zeros to be written over */
    bool lean;          /* there was no room for those */
    uint64_t first;     /* the oldest file there is */
    bool open_next;     /* the commit begins a new file */
    bool drop_old;      /* and older files than the last snapshot's go with it */
    uint64_t snap_file; /* where the last snapshot was begun */
    int status;
    struct ke_error err;

    bool failing, sync_failed;
    struct kei_timer retry; /* after a failure; and of a batch nobody waits for */

    uint32_t snap; /* number of the last snapshot that was begun; in mq_msg */
    bool snapping;
    unsigned phase;
    uint32_t cursor;                /* slot of the table being walked */
    bool pending_opens;             /* what is noted now begins a new file */
    uint64_t log_bytes, base_bytes; /* since the last snapshot; of that */
    bool want_snapshot;

    uint64_t next_mid, next_sid;
};

/* journal_note.c */
void kei_mq_put_session(struct mq_journal *j, struct mq_session *s);
void kei_mq_put_all(struct mq_journal *j, struct mq_session *s); /* with all that it has */
void kei_mq_put_retained(struct mq_journal *j, struct mq_msg *g);
void kei_mq_put_mark(struct mq_journal *j, enum mq_record type);

/* journal_read.c: reads all files into m. 0 or KE_E*; *ret_damaged: a file ended early. */
int kei_mq_journal_read(struct mq_journal *j, const uint64_t *numbers, unsigned n,
                        bool *ret_damaged);
uint32_t kei_mq_log_sum(const void *p, size_t n);
bool kei_mq_log_path(const struct mq_journal *j, uint64_t number, char *out, size_t n);

#endif
