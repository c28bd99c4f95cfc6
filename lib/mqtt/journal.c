/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt/journal.h"

int kei_mq_journal_open(struct ke_mqtt *m, const char *folder) { (void)folder; return kei_fail(m->ctx, KE_ENOTSUP, "not built yet"); }
void kei_mq_journal_close(struct ke_mqtt *m) { (void)m; }
void kei_mq_journal_turn(struct ke_mqtt *m) { (void)m; }
bool kei_mq_journal_room(struct ke_mqtt *m) { (void)m; return true; }
int kei_mq_journal_tell(struct ke_mqtt *m, ke_mqtt_done_fn done, void *user) { (void)m, (void)done, (void)user; return KE_ENOTSUP; }
void kei_mq_gate_forget(struct mq_conn *c) { (void)c; }
void kei_mq_snapshot_skip(struct ke_mqtt *m, struct mq_session *s) { (void)m, (void)s; }
void kei_mq_note_session(struct mq_session *s) { (void)s; }
void kei_mq_note_session_gone(struct mq_session *s) { (void)s; }
void kei_mq_note_sub(struct mq_sub *sub) { (void)sub; }
void kei_mq_note_unsub(struct mq_session *s, struct ke_str filter) { (void)s, (void)filter; }
void kei_mq_note_queue(struct mq_session *s, struct mq_delivery *d, uint16_t pid) { (void)s, (void)d, (void)pid; }
void kei_mq_note_sent(struct mq_session *s, struct mq_delivery *d, uint16_t pid) { (void)s, (void)d, (void)pid; }
void kei_mq_note_rel(struct mq_session *s, struct mq_delivery *d) { (void)s, (void)d; }
void kei_mq_note_done(struct mq_session *s, struct mq_delivery *d) { (void)s, (void)d; }
void kei_mq_note_taken(struct mq_session *s, uint16_t pid, bool taken) { (void)s, (void)pid, (void)taken; }
void kei_mq_note_retain(struct ke_mqtt *m, struct mq_msg *g) { (void)m, (void)g; }
void kei_mq_note_unretain(struct ke_mqtt *m, struct mq_msg *g) { (void)m, (void)g; }
bool kei_mq_noted(struct ke_mqtt *m) { (void)m; return false; }
struct mq_out *kei_mq_gate(struct mq_conn *c) { (void)c; return NULL; }
void kei_mq_gate_free(struct mq_conn *c) { (void)c; }
