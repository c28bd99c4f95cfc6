/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must survive a restart, noted as it happens: a log of records in files of the data folder.
 * All that is noted in one turn, and while the disk is busy, is committed together on the disk
 * worker; output that depends on it waits (kei_mq_gate). Without a journal all of this does
 * nothing. Loop thread.
 */
#ifndef KEI_MQTT_JOURNAL_H
#define KEI_MQTT_JOURNAL_H

#include "mqtt/server.h"

/* Opens FOLDER, locks it, reads what is there into m's sessions and retained messages. Blocking. */
int kei_mq_journal_open(struct ke_mqtt *m, const char *folder);
/* Commits what is left, blocking, and closes. */
void kei_mq_journal_close(struct ke_mqtt *m);
/* At the end of each turn: hands what was noted to the disk worker. */
void kei_mq_journal_turn(struct ke_mqtt *m);
/* false: so much waits for a disk that fails that no more can be taken */
bool kei_mq_journal_room(struct ke_mqtt *m);
/* done(user, 0) when all noted so far is durable; KE_ENOMEM. */
int kei_mq_journal_tell(struct ke_mqtt *m, ke_mqtt_done_fn done, void *user);
/* A packet begins to be handled: what is noted from here on its answers wait for. */
void kei_mq_journal_mark(struct ke_mqtt *m);

static inline bool mq_kept(const struct mq_session *s)
{
    return s->m->journal && s->flags & MQ_S_KEPT;
}
void kei_mq_note_session(struct mq_session *s); /* its attributes, as they are now */
void kei_mq_note_session_gone(struct mq_session *s);
void kei_mq_note_sub(struct mq_sub *sub);
void kei_mq_note_unsub(struct mq_session *s, struct ke_str filter);
/* pid: 0 while it waits */
void kei_mq_note_queue(struct mq_session *s, struct mq_delivery *d, uint16_t pid);
void kei_mq_note_sent(struct mq_session *s, struct mq_delivery *d, uint16_t pid);
void kei_mq_note_rel(struct mq_session *s, struct mq_delivery *d); /* PUBREC came */
void kei_mq_note_done(struct mq_session *s, struct mq_delivery *d);
void kei_mq_note_taken(struct mq_session *s, uint16_t pid, bool taken); /* QoS 2 from it */
void kei_mq_note_retain(struct ke_mqtt *m, struct mq_msg *g);
void kei_mq_note_unretain(struct ke_mqtt *m, struct mq_msg *g);

#endif
