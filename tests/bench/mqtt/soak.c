/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mqtt_soak pub|sub: one half of a conversation that must survive kill -9 of anybody. What a half
 * knows is in a file that is mapped: a page the kernel keeps when the process dies, not when the
 * machine does.
 *
 *   pub --to ADDR:PORT --state FILE --messages N --qos 1|2 --topic T --id ID
 *   sub --to ADDR:PORT --state FILE --messages N --qos 1|2 --topic T --id ID
 *
 * The publisher keeps a persistent session and what is not acknowledged, and sends that again. The
 * subscriber counts each message before it acknowledges it. Both end with 0 when all N are through;
 * report (sub) prints how many are missing and how many came twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wire.h"

#define WINDOW 20
#define RETRY_MS 20

enum { FREE, SENT, RELEASED };

struct flight {
    uint64_t number;
    uint32_t state;
    uint32_t reserved;
};

struct state {
    uint64_t next;  /* publisher: number of the next new message */
    uint64_t got;   /* subscriber: different ones */
    uint64_t twice; /* subscriber: came again although it had been acknowledged (QoS 1 may) */
    uint64_t order; /* subscriber: came after a later one */
    uint64_t last;
    uint64_t counting; /* subscriber: number + 1 of the message at hand, and its packet id */
    uint64_t counting_pid;
    struct flight flight[WINDOW];
    uint8_t pids[8192]; /* subscriber, QoS 2: taken and not released */
    uint8_t seen[];
};

static struct {
    const char *to, *file, *topic, *id;
    uint64_t messages;
    int qos;
    struct state *s;
} g = {.to = "127.0.0.1:1883", .topic = "soak", .id = "soak", .messages = 10000, .qos = 1};

static void map_state(void)
{
    size_t n = sizeof *g.s + (size_t)g.messages;
    int fd = open(g.file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)n) < 0)
        die("%s: %s", g.file, strerror(errno));
    g.s = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (g.s == MAP_FAILED)
        die("%s: %s", g.file, strerror(errno));
    close(fd);
}

/* ---- publisher ---- */

static void send_number(struct wire *w, uint16_t pid, bool again)
{
    put_publish(w, g.topic, &g.s->flight[pid - 1].number, 8, (uint8_t)g.qos, pid, again, false);
}

static void pub_resume(struct wire *w, bool session)
{
    for (uint16_t i = 0; i < WINDOW; i++) {
        struct flight *f = &g.s->flight[i];
        if (f->state == SENT)
            send_number(w, (uint16_t)(i + 1), session);
        else if (f->state == RELEASED)
            put_ack(w, P_PUBREL, (uint16_t)(i + 1));
    }
}

/* The state is written before the packet can leave: a number is never given twice. */
static void pub_fill(struct wire *w)
{
    for (uint16_t i = 0; i < WINDOW && g.s->next < g.messages; i++) {
        struct flight *f = &g.s->flight[i];
        if (f->state != FREE)
            continue;
        f->number = g.s->next;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        f->state = SENT;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        g.s->next++;
        send_number(w, (uint16_t)(i + 1), false);
    }
}

static void pub_packet(struct wire *w, const struct packet *k)
{
    uint16_t pid = read_id(k);
    if (pid == 0 || pid > WINDOW)
        return;
    struct flight *f = &g.s->flight[pid - 1];
    if ((k->type == P_PUBACK && g.qos == 1 && f->state == SENT) ||
        (k->type == P_PUBCOMP && f->state == RELEASED))
        f->state = FREE;
    if (k->type == P_PUBREC && f->state != FREE) {
        f->state = RELEASED;
        put_ack(w, P_PUBREL, pid);
    }
}

/* It may have died between giving a number away and noting that. */
static void pub_recover(void)
{
    for (int i = 0; i < WINDOW; i++)
        if (g.s->flight[i].state != FREE && g.s->flight[i].number >= g.s->next)
            g.s->next = g.s->flight[i].number + 1;
}

static bool pub_done(void)
{
    for (int i = 0; i < WINDOW; i++)
        if (g.s->flight[i].state != FREE)
            return false;
    return g.s->next >= g.messages;
}

/* ---- subscriber ---- */

static void count(uint64_t number)
{
    if (number >= g.messages)
        die("message %llu was never sent", (unsigned long long)number);
    if (g.s->seen[number]) {
        g.s->twice++;
        return;
    }
    if (number < g.s->last)
        g.s->order++;
    g.s->last = number;
    g.s->seen[number] = 1;
    g.s->got++;
}

static bool taken(uint64_t pid)
{
    return g.s->pids[pid / 8 % sizeof g.s->pids] >> pid % 8 & 1;
}

/* In an order that a death at any point leaves to be finished: sub_recover. */
static void take(uint64_t number, uint16_t pid)
{
    g.s->counting_pid = pid;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    g.s->counting = number + 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    g.s->pids[pid / 8] |= (uint8_t)(1u << pid % 8);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    count(number);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    g.s->counting = 0;
}

static void sub_recover(void)
{
    uint64_t number = g.s->counting - 1;
    if (g.s->counting && taken(g.s->counting_pid) && number < g.messages && !g.s->seen[number])
        count(number);
    g.s->counting = 0;
    g.s->got = 0; /* a death inside of count may have left it behind */
    for (uint64_t i = 0; i < g.messages; i++)
        g.s->got += g.s->seen[i];
}

static void sub_packet(struct wire *w, const struct packet *k)
{
    struct publish m;
    uint64_t number;
    if (k->type == P_PUBREL) {
        uint16_t pid = read_id(k);
        g.s->pids[pid / 8] &= (uint8_t) ~(1u << pid % 8);
        put_ack(w, P_PUBCOMP, pid);
    }
    if (k->type != P_PUBLISH)
        return;
    if (!read_publish(k, &m) || m.payload_len != 8 || m.qos != g.qos)
        die("another message than was sent came");
    memcpy(&number, m.payload, 8);
    if (m.qos == 1) {
        count(number);
        put_ack(w, P_PUBACK, m.id);
        return;
    }
    if (!taken(m.id))
        take(number, m.id);
    put_ack(w, P_PUBREC, m.id);
}

static bool sub_done(void)
{
    return g.s->got >= g.messages;
}

/* ---- both ---- */

static void name_topic(uint32_t i, char out[64])
{
    (void)i;
    snprintf(out, 64, "%s", g.topic);
}

/* One connection, until it ends or all is done. */
static void talk(struct wire *w, bool publisher)
{
    struct packet k;
    uint8_t code = 0;
    size_t at = 0;
    put_connect(w, g.id, false, 0, NULL, NULL);
    while (!wire_next(w, &at, &k)) {
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        if (!wire_flush(w) || poll(&p, 1, 10000) <= 0 || !wire_fill(w))
            return;
    }
    code = k.len > 1 ? k.body[1] : 255;
    bool session = k.len > 0 && (k.body[0] & 1);
    if (k.type != P_CONNACK || code != 0)
        return;
    wire_consume(w, at);
    if (!publisher && !session)
        memset(g.s->pids, 0, sizeof g.s->pids);
    if (publisher)
        pub_resume(w, session);
    else
        put_subscribe(w, 1, 0, 1, (uint8_t)g.qos, name_topic);
    while (!(publisher ? pub_done() : sub_done())) {
        if (publisher)
            pub_fill(w);
        if (!wire_flush(w))
            return;
        struct pollfd p = {.fd = w->fd, .events = (short)(POLLIN | (w->blocked ? POLLOUT : 0))};
        if (poll(&p, 1, 10000) < 0 || ((p.revents & (POLLIN | POLLHUP | POLLERR)) && !wire_fill(w)))
            return;
        for (at = 0; wire_next(w, &at, &k);)
            publisher ? pub_packet(w, &k) : sub_packet(w, &k);
        wire_consume(w, at);
    }
    put_empty(w, P_DISCONNECT);
    (void)wire_flush(w);
}

static void options(int argc, char **argv)
{
    static const struct option o[] = {{"to", 1, NULL, 't'},
                                      {"state", 1, NULL, 's'},
                                      {"messages", 1, NULL, 'm'},
                                      {"qos", 1, NULL, 'q'},
                                      {"topic", 1, NULL, 'n'},
                                      {"id", 1, NULL, 'i'},
                                      {0}};
    for (int k; (k = getopt_long(argc, argv, "", o, NULL)) != -1;) {
        if (k == 't')
            g.to = optarg;
        else if (k == 's')
            g.file = optarg;
        else if (k == 'm')
            g.messages = strtoull(optarg, NULL, 10);
        else if (k == 'q')
            g.qos = (int)strtoul(optarg, NULL, 10);
        else if (k == 'n')
            g.topic = optarg;
        else if (k == 'i')
            g.id = optarg;
        else
            exit(2);
    }
    if (!g.file || (g.qos != 1 && g.qos != 2) || optind != argc - 1)
        die("usage: mqtt_soak pub|sub|report --state FILE [--to ADDR:PORT] [--messages N] [--qos "
            "1|2] "
            "[--topic T] [--id ID]");
}

int main(int argc, char **argv)
{
    options(argc, argv);
    map_state();
    const char *role = argv[optind];
    bool publisher = strcmp(role, "pub") == 0;
    if (strcmp(role, "report") == 0) {
        uint64_t missing = 0;
        for (uint64_t i = 0; i < g.messages; i++)
            missing += !g.s->seen[i];
        printf("{\"got\":%llu,\"missing\":%llu,\"twice\":%llu,\"out_of_order\":%llu}\n",
               (unsigned long long)g.s->got, (unsigned long long)missing,
               (unsigned long long)g.s->twice, (unsigned long long)g.s->order);
        return 0;
    }
    if (publisher)
        pub_recover();
    else
        sub_recover();
    while (!(publisher ? pub_done() : sub_done())) {
        int fd = wire_dial(g.to);
        if (fd < 0) {
            poll(NULL, 0, RETRY_MS);
            continue;
        }
        struct wire w = {.fd = fd};
        talk(&w, publisher);
        wire_close(&w);
    }
    return 0;
}
