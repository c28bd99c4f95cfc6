/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much MQTT 3.1.1 as the load and soak programs need, over plain sockets and without a line of
 * the library, so that they load any server alike. Single-threaded; a connection owns its buffers.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    P_CONNECT = 1,
    P_CONNACK,
    P_PUBLISH,
    P_PUBACK,
    P_PUBREC,
    P_PUBREL,
    P_PUBCOMP,
    P_SUBSCRIBE,
    P_SUBACK
};
enum { P_PINGREQ = 12, P_PINGRESP, P_DISCONNECT };

struct bytes {
    uint8_t *p;
    size_t n, cap;
};

struct wire {
    int fd;
    bool blocked; /* the socket took less than there was */
    struct bytes in, out;
};

struct packet {
    uint8_t type, flags;
    const uint8_t *body; /* borrowed from the input buffer */
    size_t len;
};

struct publish {
    const uint8_t *topic, *payload;
    size_t topic_len, payload_len;
    uint16_t id;
    uint8_t qos;
    bool dup, retain;
};

void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
int64_t now_ns(void);
void bytes_add(struct bytes *b, const void *p, size_t n);

/* "HOST:PORT" (an IPv4 address) or "/path"; -1: refused, errno says why */
int wire_dial(const char *where);
void wire_open(struct wire *w, int fd);
void wire_close(struct wire *w);
/* Sends what is queued, as far as the socket takes it. false: the connection is gone. */
bool wire_flush(struct wire *w);
/* Reads what is there. false: the connection is gone. */
bool wire_fill(struct wire *w);
/* The packet at *at of the input, which moves behind it; wire_consume drops what was handled. */
bool wire_next(const struct wire *w, size_t *at, struct packet *ret);
void wire_consume(struct wire *w, size_t n);
/* Waits for the next packet and returns its type; it is consumed. 0: the connection is gone. */
int wire_await(struct wire *w, uint8_t *ret_second);

void put_connect(struct wire *w, const char *id, bool clean, uint16_t keepalive, const char *user,
                 const char *password);
void put_publish(struct wire *w, const char *topic, const void *payload, size_t n, uint8_t qos,
                 uint16_t id, bool dup, bool retain);
void put_ack(struct wire *w, uint8_t type, uint16_t id);
/* n filters made by name(i, buffer) */
void put_subscribe(struct wire *w, uint16_t id, uint32_t from, uint32_t n, uint8_t qos,
                   void (*name)(uint32_t i, char out[64]));
void put_empty(struct wire *w, uint8_t type);
bool read_publish(const struct packet *k, struct publish *ret);
uint16_t read_id(const struct packet *k);

#endif
