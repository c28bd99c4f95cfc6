/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mqtt_load: loads an MQTT 3.1.1 server from one thread and measures the server's processor time
 * per delivered message, the delay of messages, or the memory it holds. It checks that nothing
 * comes out of order and nothing is skipped, and fails if so. One line of JSON on stdout.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "wire.h"

#define RING 4096 /* messages of one publisher that may be open */
#define STAMP 24  /* publisher, sequence, time */
#define SIZE_MAX_PAYLOAD 65536
#define SUBSCRIBE_BATCH 200

struct client {
    struct wire w;
    uint32_t index;
    bool publisher, dirty;
    uint32_t watched; /* epoll events */
    /* publisher */
    char topic[64];
    uint64_t sent, acked, done; /* acked: the server's last answer came; done: all have it */
    uint16_t left[RING];        /* deliveries outstanding, by sequence */
    /* subscriber: next sequence by publisher (one, or all for a fan-in) */
    uint64_t *expect;
    int64_t ack_at; /* its acknowledgements wait until then */
};

static struct {
    const char *to, *user, *password;
    int pid, qos;
    uint32_t pubs, subs, fan, window, size, rate, burst, ack_ms, count;
    uint64_t messages, warmup;
    bool persistent;
    int epoll;
    struct client *c;
    uint64_t published, delivered, duplicates;
    uint32_t next_paced;
    int64_t *delay;
    uint64_t n_delay;
    bool measuring;
    uint8_t payload[SIZE_MAX_PAYLOAD];
} g = {.to = "127.0.0.1:1883",
       .pubs = 50,
       .subs = 50,
       .window = 20,
       .size = 64,
       .burst = 1,
       .messages = 200000,
       .count = 15000};

/* ---- the server, from outside ---- */

static double ticks(int pid)
{
    char path[64], text[1024];
    unsigned long user, sys;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *after = strrchr(text, ')');
    if (!after ||
        sscanf(after + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
        die("the server (process %d) is gone", pid);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

/* What utime + stime are made of, in nanoseconds, of all threads; the ticks where it is not told.
 */
static double cpu_seconds(int pid)
{
    char path[320];
    double sum = 0;
    unsigned long long ns;
    if (pid == 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, e->d_name);
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%llu", &ns) == 1)
            sum += (double)ns / 1e9;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return sum > 0 ? sum : ticks(pid);
}

static long private_dirty_kib(int pid)
{
    char path[64], line[256];
    long kib = -1, v;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Dirty: %ld kB", &v) == 1)
            kib = v;
    if (f)
        fclose(f);
    if (kib < 0)
        die("no %s: is the server's process id right?", path);
    return kib;
}

/* ---- connections ---- */

static void connect_all(struct wire *w, uint32_t n, const char *prefix, bool clean)
{
    uint8_t code;
    char id[64];
    for (uint32_t from = 0; from < n; from += 100) {
        uint32_t end = from + 100 < n ? from + 100 : n;
        for (uint32_t i = from; i < end; i++) {
            int fd = wire_dial(g.to);
            if (fd < 0)
                die("connection %u to %s failed: %s", i, g.to, strerror(errno));
            wire_open(&w[i], fd);
            snprintf(id, sizeof id, "%s-%u", prefix, i);
            put_connect(&w[i], id, clean, 0, g.user, g.password);
            if (!wire_flush(&w[i]))
                die("connection %u was closed", i);
        }
        for (uint32_t i = from; i < end; i++)
            if (wire_await(&w[i], &code) != P_CONNACK || code != 0)
                die("connection %u was refused with code %u", i, code);
    }
}

static void watch(struct client *c)
{
    uint32_t want = EPOLLIN | (c->w.blocked ? EPOLLOUT : 0);
    struct epoll_event e = {.events = want, .data.ptr = c};
    if (want == c->watched)
        return;
    if (epoll_ctl(g.epoll, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->w.fd, &e) < 0)
        die("epoll: %s", strerror(errno));
    c->watched = want;
}

/* ---- flow ---- */

static void send_one(struct client *p)
{
    int64_t now = now_ns();
    uint32_t head[2] = {p->index, 0};
    memcpy(g.payload, head, 8);
    memcpy(g.payload + 8, &p->sent, 8);
    memcpy(g.payload + 16, &now, 8);
    p->left[p->sent % RING] = (uint16_t)g.fan;
    put_publish(&p->w, p->topic, g.payload, g.size, (uint8_t)g.qos, (uint16_t)(p->sent % 65535 + 1),
                false, false);
    p->sent++;
    g.published++;
    p->dirty = true;
}

static bool may_send(const struct client *p)
{
    uint64_t slowest = g.qos > 0 && p->acked < p->done ? p->acked : p->done;
    return p->sent - slowest < g.window && g.published < g.messages + g.warmup;
}

static void pump(struct client *p)
{
    while (g.rate == 0 && may_send(p))
        send_one(p);
}

static void got(struct client *s, const struct publish *m)
{
    uint32_t from;
    uint64_t seq;
    int64_t at;
    if (m->payload_len != g.size)
        die("a payload of %zu bytes came, %u were sent", m->payload_len, g.size);
    memcpy(&from, m->payload, 4);
    memcpy(&seq, m->payload + 8, 8);
    memcpy(&at, m->payload + 16, 8);
    if (from >= g.pubs)
        die("a message of an unknown publisher came");
    uint64_t *expect = &s->expect[g.subs < g.pubs ? from : 0];
    if (seq < *expect && m->dup) {
        g.duplicates++;
        return;
    }
    if (seq != *expect)
        die("subscriber %u: message %" PRIu64 " of publisher %u came, %" PRIu64 " was due",
            s->index, seq, from, *expect);
    ++*expect;
    g.delivered++;
    if (g.measuring && g.delay)
        g.delay[g.n_delay++] = now_ns() - at;
    struct client *p = &g.c[from];
    if (--p->left[seq % RING] == 0) {
        p->done++;
        pump(p);
    }
}

static void handle(struct client *c, const struct packet *k)
{
    struct publish m;
    switch (k->type) {
    case P_PUBLISH:
        if (!read_publish(k, &m))
            die("the server sent a malformed PUBLISH");
        if (m.qos != g.qos)
            die("a message came with QoS %u, %d was asked for", m.qos, g.qos);
        if (m.qos > 0)
            put_ack(&c->w, m.qos == 1 ? P_PUBACK : P_PUBREC, m.id);
        got(c, &m);
        break;
    case P_PUBREC:
        put_ack(&c->w, P_PUBREL, read_id(k));
        break;
    case P_PUBREL:
        put_ack(&c->w, P_PUBCOMP, read_id(k));
        break;
    case P_PUBACK:
    case P_PUBCOMP:
        c->acked++;
        pump(c);
        break;
    default:
        break;
    }
    c->dirty = true;
}

static void on_ready(struct client *c, uint32_t events)
{
    struct packet k;
    size_t at = 0;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !wire_fill(&c->w))
        die("the server closed the connection of %s %u", c->publisher ? "publisher" : "subscriber",
            c->index);
    while (wire_next(&c->w, &at, &k))
        handle(c, &k);
    wire_consume(&c->w, at);
    c->dirty |= (events & EPOLLOUT) != 0;
}

/* A subscriber that works on what it got before it acknowledges; the paced loop comes by often. */
static bool holds_back(struct client *c)
{
    int64_t now = now_ns();
    if (c->publisher || g.ack_ms == 0 || c->w.blocked)
        return false;
    if (now < c->ack_at)
        return true;
    c->ack_at = now + (int64_t)g.ack_ms * 1000000;
    return false;
}

static void flush_all(void)
{
    for (uint32_t i = 0; i < g.pubs + g.subs; i++) {
        struct client *c = &g.c[i];
        if (!c->dirty || holds_back(c))
            continue;
        c->dirty = false;
        if (!wire_flush(&c->w))
            die("the server closed the connection of %s %u",
                c->publisher ? "publisher" : "subscriber", c->index);
        watch(c);
    }
}

/* Sends what is due at a fixed rate, publishers by turns, whatever the answers do. Returns the
 * nanoseconds until the next is. */
static int64_t pace(int64_t start)
{
    int64_t past = now_ns() - start;
    int64_t due_n = past * g.rate / 1000000000;
    due_n -= due_n % g.burst;
    while ((int64_t)g.published <= due_n && g.published < g.messages + g.warmup) {
        struct client *p = &g.c[g.next_paced++ % g.pubs];
        if (p->sent - p->done >= RING)
            die("the server is %u messages behind at %u a second", RING, g.rate);
        send_one(p);
    }
    int64_t next = (due_n + g.burst) * 1000000000 / g.rate - past;
    return next > 0 ? next : 0;
}

/*
 * A paced generator sleeps until the next message is due or one has come. It must not poll: under a
 * realtime class the kernel would halt it for 50 ms of each second, and what it then sends at once
 * would count as the server's delay.
 */
static void sleep_for(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = (long)(ns % 1000000000)};
    struct pollfd p = {.fd = g.epoll, .events = POLLIN};

    if (ppoll(&p, 1, &t, NULL) < 0 && errno != EINTR)
        die("poll: %s", strerror(errno));
}

static bool finished(void)
{
    if (g.delivered < (g.messages + g.warmup) * g.fan)
        return false;
    for (uint32_t i = 0; g.qos > 0 && i < g.pubs; i++)
        if (g.c[i].acked < g.c[i].sent)
            return false;
    return true;
}

static void turn(int64_t start)
{
    struct epoll_event e[256];
    int64_t pause = g.rate ? pace(start) : 0;
    flush_all();
    if (g.rate)
        sleep_for(pause);
    int n = epoll_wait(g.epoll, e, 256, g.rate ? 0 : 30000);
    if (n < 0 && errno != EINTR)
        die("epoll: %s", strerror(errno));
    if (n == 0 && !g.rate)
        die("nothing came for 30 s: %" PRIu64 " of %" PRIu64 " delivered", g.delivered,
            (g.messages + g.warmup) * g.fan);
    for (int i = 0; i < n; i++)
        on_ready(e[i].data.ptr, e[i].events);
}

static void topic_of(uint32_t i, char out[64])
{
    if (g.subs < g.pubs)
        snprintf(out, 64, "bench/in/+");
    else
        snprintf(out, 64, "bench/flow/%u", g.pubs == 1 ? 0 : i);
}

static void make_clients(void)
{
    uint32_t n = g.pubs + g.subs;
    g.c = calloc(n, sizeof *g.c);
    struct wire *w = calloc(n, sizeof *w);
    if (!g.c || !w)
        die("out of memory");
    connect_all(w, g.pubs, "pub", true);
    connect_all(w + g.pubs, g.subs, "sub", !g.persistent);
    for (uint32_t i = 0; i < n; i++) {
        struct client *c = &g.c[i];
        c->w = w[i];
        c->publisher = i < g.pubs;
        c->index = c->publisher ? i : i - g.pubs;
        if (c->publisher) {
            snprintf(c->topic, sizeof c->topic, g.subs < g.pubs ? "bench/in/%u" : "bench/flow/%u",
                     i);
        } else {
            c->expect = calloc(g.subs < g.pubs ? g.pubs : 1, sizeof *c->expect);
            if (!c->expect)
                die("out of memory");
            put_subscribe(&c->w, 1, c->index, 1, (uint8_t)g.qos, topic_of);
            if (wire_await(&c->w, NULL) != P_SUBACK)
                die("subscriber %u was refused", c->index);
        }
        watch(c);
    }
    free(w);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double delay_us(double part)
{
    if (g.n_delay == 0)
        return 0;
    uint64_t i = (uint64_t)((double)g.n_delay * part);
    return (double)g.delay[i < g.n_delay ? i : g.n_delay - 1] / 1000;
}

static void flow(const char *mode)
{
    g.fan = g.pubs == 1 ? g.subs : 1;
    g.warmup = g.messages / 10;
    g.epoll = epoll_create1(EPOLL_CLOEXEC);
    g.delay = malloc((size_t)((g.messages + g.warmup) * g.fan + 1) * sizeof *g.delay);
    if (g.epoll < 0 || !g.delay)
        die("out of memory");
    make_clients();
    int64_t start = now_ns();
    for (uint32_t i = 0; i < g.pubs; i++)
        pump(&g.c[i]);
    while (g.delivered < g.warmup * g.fan)
        turn(start);
    double cpu = cpu_seconds(g.pid);
    int64_t since = now_ns();
    uint64_t before = g.delivered;
    g.measuring = true;
    while (!finished())
        turn(start);
    double seconds = (double)(now_ns() - since) / 1e9;
    cpu = cpu_seconds(g.pid) - cpu;
    uint64_t n = g.delivered - before;
    qsort(g.delay, (size_t)g.n_delay, sizeof *g.delay, by_value);
    printf(
        "{\"mode\":\"%s\",\"qos\":%d,\"delivered\":%" PRIu64
        ",\"seconds\":%.3f,\"rate\":%.0f,\"cpu\":%.4f,"
        "\"us_per_message\":%.4f,\"p50_us\":%.0f,\"p99_us\":%.0f,\"p999_us\":%.0f,\"max_us\":%.0f,"
        "\"duplicates\":%" PRIu64 "}\n",
        mode, g.qos, n, seconds, (double)n / seconds, cpu, cpu * 1e6 / (double)n, delay_us(0.5),
        delay_us(0.99), delay_us(0.999), delay_us(1), g.duplicates);
}

/* ---- memory ---- */

static void name_filter(uint32_t i, char out[64])
{
    snprintf(out, 64, "site/%u/device/%06u/state", i % 100, i);
}

static void await_acks(struct wire *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (wire_await(w, NULL) != P_PUBACK)
            die("a message was not acknowledged");
}

static void publish_many(bool retain)
{
    struct wire w;
    char topic[64] = "bench/queue";
    connect_all(&w, 1, "loader", true);
    for (uint32_t i = 0; i < g.count;) {
        uint32_t batch = 0;
        for (; batch < 50 && i < g.count; batch++, i++) {
            if (retain)
                name_filter(i, topic);
            put_publish(&w, topic, g.payload, g.size, 1, (uint16_t)(batch + 1), false, retain);
        }
        await_acks(&w, batch);
    }
    put_empty(&w, P_DISCONNECT);
    (void)wire_flush(&w);
    wire_close(&w);
}

static void name_queue(uint32_t i, char out[64])
{
    (void)i;
    snprintf(out, 64, "bench/queue");
}

/* The subscriber whose queue is filled: there once, then away. */
static void leave_session(void)
{
    struct wire w;
    connect_all(&w, 1, "sleeper", false);
    put_subscribe(&w, 1, 0, 1, 1, name_queue);
    if (wire_await(&w, NULL) != P_SUBACK)
        die("the subscription was refused");
    put_empty(&w, P_DISCONNECT);
    (void)wire_flush(&w);
    wire_close(&w);
}

/* Comes back and counts: none may be missing. */
static void drain_session(void)
{
    struct wire w;
    uint32_t n = 0;
    struct packet k;
    struct publish m;
    int fd = wire_dial(g.to);
    if (fd < 0)
        die("connection to %s failed: %s", g.to, strerror(errno));
    w = (struct wire){.fd = fd};
    put_connect(&w, "sleeper-0", false, 0, g.user, g.password);
    while (n < g.count) {
        size_t at = 0;
        if (!wire_flush(&w) || !wire_fill(&w))
            die("the server closed the connection after %u of %u queued messages", n, g.count);
        while (wire_next(&w, &at, &k))
            if (k.type == P_PUBLISH && read_publish(&k, &m)) {
                n++;
                put_ack(&w, P_PUBACK, m.id);
            }
        wire_consume(&w, at);
        usleep(at ? 0 : 200);
    }
    wire_close(&w);
}

static void name_exact(uint32_t i, char out[64])
{
    snprintf(out, 64, "plant/%u/sensor/%06u/value", i % 100, i);
}

static void filters(void)
{
    static struct wire w[10];
    connect_all(w, 10, "filter", true);
    for (uint32_t i = 0, batch = 0; i < g.count; i += SUBSCRIBE_BATCH, batch++) {
        uint32_t n = g.count - i < SUBSCRIBE_BATCH ? g.count - i : SUBSCRIBE_BATCH;
        put_subscribe(&w[batch % 10], 1, i, n, 1, name_exact);
        if (wire_await(&w[batch % 10], NULL) != P_SUBACK)
            die("a subscription was refused");
    }
}

static void memory(const char *mode)
{
    if (strcmp(mode, "queue") == 0)
        leave_session();
    usleep(500000);
    long before = private_dirty_kib(g.pid);
    if (strcmp(mode, "idle") == 0) {
        struct wire *w = calloc(g.count, sizeof *w);
        if (!w)
            die("out of memory");
        connect_all(w, g.count, "a-device-at-rest", true);
    } else if (strcmp(mode, "filters") == 0) {
        filters();
    } else {
        publish_many(strcmp(mode, "retained") == 0);
    }
    sleep(2);
    long after = private_dirty_kib(g.pid);
    if (strcmp(mode, "queue") == 0)
        drain_session();
    printf("{\"mode\":\"%s\",\"n\":%u,\"before_kib\":%ld,\"after_kib\":%ld,\"bytes_each\":%.0f}\n",
           mode, g.count, before, after, (double)(after - before) * 1024 / g.count);
}

static void usage(void)
{
    die("usage: mqtt_load pairs|fanout|fanin|idle|retained|queue|filters --pid SERVER [--to "
        "ADDR:PORT|/PATH]\n"
        "  [--qos N] [--clients N] [--window N] [--size BYTES] [--messages N] [--rate PER_SECOND "
        "[--burst N]]\n"
        "  [--ack-every MS] [--count N] [--persistent] [--user U --password P]");
}

static void options(int argc, char **argv)
{
    static const struct option o[] = {{"to", 1, NULL, 't'},         {"pid", 1, NULL, 'p'},
                                      {"qos", 1, NULL, 'q'},        {"clients", 1, NULL, 'c'},
                                      {"window", 1, NULL, 'w'},     {"size", 1, NULL, 's'},
                                      {"messages", 1, NULL, 'm'},   {"rate", 1, NULL, 'r'},
                                      {"burst", 1, NULL, 'b'},      {"count", 1, NULL, 'n'},
                                      {"persistent", 0, NULL, 'P'}, {"user", 1, NULL, 'u'},
                                      {"password", 1, NULL, 'x'},   {"ack-every", 1, NULL, 'a'},
                                      {0}};
    for (int k; (k = getopt_long(argc, argv, "", o, NULL)) != -1;) {
        uint32_t v = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (k) {
        case 't':
            g.to = optarg;
            break;
        case 'p':
            g.pid = (int)v;
            break;
        case 'q':
            g.qos = (int)v;
            break;
        case 'c':
            g.pubs = g.subs = v;
            break;
        case 'w':
            g.window = v;
            break;
        case 's':
            g.size = v;
            break;
        case 'm':
            g.messages = v;
            break;
        case 'r':
            g.rate = v;
            break;
        case 'b':
            g.burst = v;
            break;
        case 'a':
            g.ack_ms = v;
            break;
        case 'n':
            g.count = v;
            break;
        case 'P':
            g.persistent = true;
            break;
        case 'u':
            g.user = optarg;
            break;
        case 'x':
            g.password = optarg;
            break;
        default:
            usage();
        }
    }
    if (g.pubs == 0 || g.window == 0 || g.window > RING || g.burst == 0 || g.size < STAMP ||
        g.size > SIZE_MAX_PAYLOAD || g.qos < 0 || g.qos > 2)
        usage();
}

int main(int argc, char **argv)
{
    options(argc, argv);
    if (optind != argc - 1)
        usage();
    const char *mode = argv[optind];
    if (strcmp(mode, "fanout") == 0)
        g.pubs = 1;
    else if (strcmp(mode, "fanin") == 0)
        g.subs = 1;
    if (strcmp(mode, "pairs") == 0 || strcmp(mode, "fanout") == 0 || strcmp(mode, "fanin") == 0)
        flow(mode);
    else if (strcmp(mode, "idle") == 0 || strcmp(mode, "retained") == 0 ||
             strcmp(mode, "queue") == 0 || strcmp(mode, "filters") == 0)
        memory(mode);
    else
        usage();
    return 0;
}
