/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of net share: a stream that notes what it is told, plain sockets as its other end
 * (so that our code is not tested by itself), and peers in processes of their own.
 */
#ifndef TEST_NET_UTIL_H
#define TEST_NET_UTIL_H

#include <sys/types.h>

#include "base/buf.h"
#include "net/stream.h"
#include "support/support.h"

/* ---- a stream and what it was told ---- */
enum probe_event { PROBE_NONE, PROBE_OPEN, PROBE_DATA, PROBE_DRAINED, PROBE_CLOSED };
struct probe {
    struct kei_stream *s;
    struct ke_buf in; /* consumed */
    int opens, datas, drains;
    int closes;
    int status; /* of closed */
    char text[600];
    size_t seen;              /* of the last data call */
    size_t keep;              /* bytes left unconsumed at the end of what is presented */
    enum probe_event free_in; /* frees the stream in that callback */
    bool finish_in_data, pause_in_data;
};
extern const struct kei_stream_ops probe_ops;
void probe_init(struct probe *p);
void probe_fini(struct probe *p); /* frees the stream too */
bool probe_is_open(void *p);
bool probe_is_closed(void *p);

/* ---- plain sockets; everything drives env's loop meanwhile ---- */
int raw_listen(uint16_t *ret_port); /* 127.0.0.1 */
int raw_connect(uint16_t port);
int raw_accept(struct test_env *e, int listen_fd);
void raw_send(struct test_env *e, int fd, const void *p, size_t n);
void raw_puts(struct test_env *e, int fd, const char *text);
/* exactly n bytes, or the test fails */
void raw_recv(struct test_env *e, int fd, void *p, size_t n);
/* up to and with "\r\n\r\n"; NUL-terminated */
void raw_recv_head(struct test_env *e, int fd, char *p, size_t size);
/* what comes until the end; NUL-terminated; number of bytes, or -1 when it was reset */
long raw_recv_end(struct test_env *e, int fd, char *p, size_t size);

/* segments with data that came on a TCP connection */
unsigned raw_segments_in(int fd); /* 0: not told (an emulator) */

/* Skips the test where the name "localhost" does not resolve: a bare chroot has no /etc/hosts. */
void need_localhost(void);
/* Many a container has no IPv6: what is tested with it besides IPv4 is then left out. */
bool have_ipv6(void);

/* ---- processes ---- */
/* env.idle_ms with such a peer: the virtual clock must not overtake another process on a busy
 * machine. */
#define PEER_IDLE_MS 10000
struct peer {
    pid_t pid;
    int out;       /* its standard output */
    uint16_t port; /* from "READY <port>" */
};
/* NULL, or the path of a program */
const char *find_program(const char *name);
/* Starts argv; its output is to be read. */
void peer_spawn(struct peer *p, const char *const argv[]);
/* Starts argv and waits for a line of its output with ready in it (NULL: "READY <port>"). false: it
 * ended without. */
bool peer_start(struct peer *p, const char *const argv[], const char *ready);
/* tests/net/peers/<script> with one argument, by Debian's python3; skips the test when it, or the
 * module the script needs, is not there. */
void peer_python(struct peer *p, const char *script, const char *module, const char *arg);
void peer_stop(struct peer *p);
/* Reads all it printed until it ends. */
void peer_wait_output(struct test_env *e, struct peer *p, char *out, size_t size);

#endif
