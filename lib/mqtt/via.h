/* SPDX-License-Identifier: Apache-2.0 */
/* Connections over a stream of lib/net: TLS, and WebSocket over TCP or TLS. Loop thread. */
#ifndef KEI_MQTT_VIA_H
#define KEI_MQTT_VIA_H

#include "mqtt/server.h"

/* transport.c */
void kei_mq_take(struct mq_conn *c, const uint8_t *p, size_t n);
void kei_mq_on_io(struct kei_fd *f, uint32_t events);

/* listen.c */
struct mq_conn *kei_mq_admit(struct mq_listener *l); /* NULL: a limit says no, or no memory */

/* via.c */
void kei_mq_via_accept(void *user, struct kei_stream *s); /* user: struct mq_listener */
void kei_mq_via_flush(struct mq_conn *c);
void kei_mq_via_pause(struct mq_conn *c, bool paused);
void kei_mq_via_end(struct mq_conn *c);
void kei_mq_via_fini(struct ke_mqtt *m); /* what still sends its last bytes is cut off */
void kei_mq_via_peer(struct mq_conn *c, char *out);
int kei_mq_via_cert(struct mq_conn *c, struct ke_buf *der); /* KE_ENOTFOUND */

#endif
