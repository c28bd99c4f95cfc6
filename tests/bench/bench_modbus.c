/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 1,000 Modbus TCP devices with ten registers each, read once a second: by the harness and its
 * driver, and by a bare poll loop that makes the same requests, turn about in one run. Prints CPU,
 * lateness and memory. The devices are another process; each has an address of 127/8 of its own.
 *
 *     bench_modbus [SECONDS [DEVICES [change]]]
 *
 * With `change` every register changes with every read, so that everything is reported.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <kubeedge/drivers.h>
#include <kubeedge/store.h>

#define PROPERTIES 10
#define DEVICES_MAX 4000
#define SLICES 3
#define REQUEST 12
#define ANSWER (9 + PROPERTIES * 2)

static unsigned devices = 1000;
static bool change;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* 127.1.0.0 and on */
static struct sockaddr_in address(unsigned i, uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

    a.sin_addr.s_addr = htonl(0x7f010000u + (i / 250 << 8) + i % 250 + 1);
    return a;
}

/* ---- the devices ---- */

static int listen_on(unsigned i, uint16_t port)
{
    struct sockaddr_in a = address(i, port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 16) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Requests come whole: they are twelve bytes, one at a time. */
static void answer_one(int fd)
{
    static unsigned count;
    uint8_t in[260], out[ANSWER];
    ssize_t n = recv(fd, in, sizeof in, 0);

    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            close(fd);
        return;
    }
    unsigned words = (unsigned)in[10] << 8 | in[11];
    if (n != REQUEST || words > PROPERTIES)
        _exit(2);
    count += change;
    memcpy(out, in, 8);
    out[4] = 0;
    out[5] = (uint8_t)(3 + words * 2);
    out[8] = (uint8_t)(words * 2);
    for (unsigned i = 0; i < words; i++) {
        out[9 + 2 * i] = (uint8_t)(count >> 8 & 0x7f);
        out[10 + 2 * i] = (uint8_t)(count + i);
    }
    if (send(fd, out, 9 + words * 2, MSG_NOSIGNAL) < 0)
        close(fd);
}

static void simulate(const int *listeners)
{
    int ep = epoll_create1(EPOLL_CLOEXEC), one = 1;

    for (unsigned i = 0; i < devices; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)listeners[i] << 1 | 1};
        epoll_ctl(ep, EPOLL_CTL_ADD, listeners[i], &e);
    }
    for (;;) {
        struct epoll_event e[256];
        int n = epoll_wait(ep, e, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = (int)(e[i].data.u64 >> 1);
            if (!(e[i].data.u64 & 1)) {
                answer_one(fd);
                continue;
            }
            int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            struct epoll_event new = {.events = EPOLLIN, .data.u64 = (uint64_t)c << 1};
            if (c < 0)
                continue;
            setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            epoll_ctl(ep, EPOLL_CTL_ADD, c, &new);
        }
    }
}

static pid_t start_devices(uint16_t *ret_port)
{
    static int listeners[DEVICES_MAX];
    uint16_t port = 0;
    socklen_t len = sizeof(struct sockaddr_in);
    struct sockaddr_in a;

    for (unsigned i = 0; i < devices; i++) { /* the first one chooses the port for all */
        listeners[i] = listen_on(i, port);
        if (listeners[i] < 0)
            die("listen", strerror(errno));
        if (port == 0 && getsockname(listeners[i], (struct sockaddr *)&a, &len) == 0)
            port = ntohs(a.sin_port);
    }
    pid_t pid = fork();
    if (pid < 0)
        die("fork", strerror(errno));
    if (pid == 0)
        simulate(listeners);
    for (unsigned i = 0; i < devices; i++)
        close(listeners[i]);
    *ret_port = port;
    return pid;
}

/* ---- a bare poll loop ---- */

struct result {
    double cpu; /* of one second */
    uint64_t cycles, late, missed;
    uint32_t late_max_ms;
};

struct bare {
    int fd;
    bool waits;
};

static uint64_t sum; /* what was read is used */

static void bare_ask(struct bare *b, uint16_t transaction)
{
    const uint8_t q[REQUEST] = {
        (uint8_t)(transaction >> 8), (uint8_t)transaction, 0, 0, 0, 6, 1, 3, 0, 0, 0, PROPERTIES};

    if (send(b->fd, q, sizeof q, MSG_NOSIGNAL) != REQUEST)
        die("send", strerror(errno));
    b->waits = true;
}

static void bare_read(struct bare *b)
{
    uint8_t in[260];

    if (recv(b->fd, in, sizeof in, 0) != ANSWER)
        die("recv", "not an answer");
    for (unsigned i = 0; i < PROPERTIES; i++)
        sum += (uint64_t)in[9 + 2 * i] << 8 | in[10 + 2 * i];
    b->waits = false;
}

static void run_bare(struct result *r, uint16_t port, double seconds)
{
    static struct bare b[DEVICES_MAX];
    int ep = epoll_create1(EPOLL_CLOEXEC), one = 1;
    uint64_t next = 0;

    memset(r, 0, sizeof *r);
    for (unsigned i = 0; i < devices; i++) {
        struct sockaddr_in a = address(i, port);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        b[i].waits = false;
        b[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(b[i].fd, (struct sockaddr *)&a, sizeof a) < 0)
            die("connect", strerror(errno));
        setsockopt(b[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(ep, EPOLL_CTL_ADD, b[i].fd, &e);
    }
    double begun = now(), began_cpu = cpu();
    while (now() - begun < seconds) { /* spread over the second, as the harness does */
        double t = now() - begun;
        while (t >= (double)next / devices) {
            struct bare *d = &b[next % devices];
            double late = t - (double)next / devices;
            if (d->waits)
                r->missed++;
            else
                bare_ask(d, (uint16_t)next);
            r->cycles++;
            r->late += late > 0.1;
            if (late * 1000 > r->late_max_ms)
                r->late_max_ms = (uint32_t)(late * 1000);
            next++;
        }
        struct epoll_event e[256];
        int wait = (int)(((double)next / devices - t) * 1000) + 1;
        int n = epoll_wait(ep, e, 256, wait);
        for (int i = 0; i < n; i++)
            bare_read(&b[e[i].data.u32]);
    }
    r->cpu = (cpu() - began_cpu) / (now() - begun);
    for (unsigned i = 0; i < devices; i++)
        close(b[i].fd);
    close(ep);
}

/* ---- the harness ---- */

struct ours {
    struct ke_store_tx *tx; /* objects go there instead of to the harness; NULL: to it */
    struct ke_ctx *ctx;
    struct ke_devices *d;
    uint64_t reports, states;
};

static int on_report(void *user, uint64_t report, const char *ns, const char *name,
                     const struct ke_device_reported *v, uint32_t n)
{
    struct ours *o = user;

    (void)ns, (void)name, (void)v;
    o->reports += n;
    return ke_devices_reported(o->d, report, 0);
}

static int on_state(void *user, uint64_t report, const char *ns, const char *name,
                    const char *state)
{
    struct ours *o = user;

    (void)ns, (void)name, (void)state;
    o->states++;
    return ke_devices_reported(o->d, report, 0);
}

static void put(struct ours *o, const char *bucket, const char *key, const char *json)
{
    if (o->tx) {
        if (ke_store_put(o->tx, bucket, key, NULL, 0, json, strlen(json)) < 0)
            die("store", ke_ctx_error(o->ctx));
        return;
    }
    if (ke_devices_put(o->d, json, strlen(json)) < 0)
        die("object", ke_ctx_error(o->ctx));
}

static void put_objects(struct ours *o, uint16_t port)
{
    static char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text,
                                "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":"
                                "\"DeviceModel\",\"metadata\":{\"name\":\"m\",\"namespace\":"
                                "\"default\"},\"spec\":{\"protocol\":\"modbus\",\"properties\":[");
    for (unsigned i = 0; i < PROPERTIES; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "%s{\"name\":\"p%u\",\"type\":\"INT\",\"accessMode\":\"ReadOnly\"}",
                              i ? "," : "", i);
    snprintf(text + n, sizeof text - n, "]}}");
    put(o, "o/devicemodel", "default/m", text);
    for (unsigned k = 0; k < devices; k++) {
        struct sockaddr_in a = address(k, port);
        char ip[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &a.sin_addr, ip, sizeof ip);
        n = (size_t)snprintf(text, sizeof text,
                             "{\"apiVersion\":\"devices.kubeedge.io/v1beta1\",\"kind\":\"Device\","
                             "\"metadata\":{\"name\":\"d%u\",\"namespace\":\"default\"},\"spec\":{"
                             "\"deviceModelRef\":{\"name\":\"m\"},\"nodeName\":\"n\",\"protocol\":{"
                             "\"protocolName\":\"modbus\",\"configData\":{\"slaveID\":1,\"ip\":"
                             "\"%s\",\"port\":%u}},\"properties\":[",
                             k, ip, port);
        for (unsigned i = 0; i < PROPERTIES; i++)
            n +=
                (size_t)snprintf(text + n, sizeof text - n,
                                 "%s{\"name\":\"p%u\",\"collectCycle\":1000,\"reportCycle\":1000,"
                                 "\"reportToCloud\":true,\"visitors\":{\"protocolName\":\"modbus\","
                                 "\"configData\":{\"register\":\"HoldingRegister\",\"offset\":%u,"
                                 "\"limit\":1,\"scale\":1}}}",
                                 i ? "," : "", i, i);
        snprintf(text + n, sizeof text - n, "]}}");
        char key[32];
        snprintf(key, sizeof key, "default/d%u", k);
        put(o, "o/device", key, text);
    }
}

static void turn(struct ours *o, int64_t ms)
{
    if (ke_ctx_wait(o->ctx, ms) < 0 || ke_ctx_dispatch(o->ctx) < 0)
        die("loop", ke_ctx_error(o->ctx));
}

static struct ke_devices_stats stats_of(struct ours *o)
{
    struct ke_devices_stats s = {.size = sizeof s};

    if (ke_devices_get_stats(o->d, &s, sizeof s) < 0)
        die("stats", ke_ctx_error(o->ctx));
    return s;
}

/* Until all are online, and have told their first values. */
static void settle(struct ours *o)
{
    double begun = now();

    while (stats_of(o).online < devices) {
        turn(o, 100);
        if (now() - begun > 60)
            die("devices", "not all came online within a minute");
    }
    for (begun = now(); now() - begun < 2;)
        turn(o, 100);
}

/* Memory as in a node: the objects are in the store and need not be kept beside it. */
static void measure_stored(uint16_t port)
{
    static const struct ke_devices_sink sink = {sizeof sink, on_report, on_state};
    struct ours o = {0};
    struct ke_devices_config c;
    struct ke_store_config sc;
    struct ke_store *store;

    ke_devices_config_init(&c, sizeof c);
    c.sink = &sink;
    c.sink_user = &o;
    ke_store_config_init(&sc, sizeof sc);
    sc.flags = KE_STORE_MEMORY;
    if (ke_ctx_new(&o.ctx, NULL, NULL) < 0 || ke_store_open(&store, o.ctx, &sc) < 0 ||
        ke_store_begin(&o.tx, store) < 0)
        die("store", "could not be opened");
    put_objects(&o, port);
    if (ke_store_commit(o.tx, NULL, NULL) < 0)
        die("store", ke_ctx_error(o.ctx));
    for (double begun = now(); now() - begun < 1;)
        turn(&o, 100);
    size_t before = mallinfo2().uordblks;
    c.store = store;
    if (ke_devices_new(&o.d, o.ctx, &c) < 0 || ke_device_modbus_register(o.d, NULL) < 0)
        die("harness", ke_ctx_error(o.ctx));
    settle(&o);
    printf("memory: %.2f KiB for each when its object is in a store, as in a node\n",
           (double)(mallinfo2().uordblks - before) / 1024 / devices);
    ke_devices_free(o.d);
    ke_store_close(store);
    ke_ctx_free(o.ctx);
}

static void run_ours(struct result *r, uint16_t port, double seconds, bool first)
{
    static const struct ke_devices_sink sink = {sizeof sink, on_report, on_state};
    struct ours o = {0};
    struct ke_devices_config c;

    ke_devices_config_init(&c, sizeof c);
    c.sink = &sink;
    c.sink_user = &o;
    if (ke_ctx_new(&o.ctx, NULL, NULL) < 0)
        die("context", "no memory");
    if (ke_devices_new(&o.d, o.ctx, &c) < 0 || ke_device_modbus_register(o.d, NULL) < 0)
        die("harness", ke_ctx_error(o.ctx));
    size_t before = mallinfo2().uordblks;
    put_objects(&o, port);
    settle(&o);
    if (first)
        printf("memory: %.2f KiB for each device with %d properties and a connection of its own\n",
               (double)(mallinfo2().uordblks - before) / 1024 / devices, PROPERTIES);
    struct ke_devices_stats a = stats_of(&o);
    uint64_t reports = o.reports;
    double begun = now(), began_cpu = cpu();
    while (now() - begun < seconds)
        turn(&o, 100);
    r->cpu = (cpu() - began_cpu) / (now() - begun);
    struct ke_devices_stats b = stats_of(&o);
    r->cycles = b.cycles - a.cycles;
    r->late = b.cycles_late - a.cycles_late;
    r->missed = b.cycles_missed - a.cycles_missed;
    r->late_max_ms = b.late_max_ms;
    if (first)
        printf("reports: %.0f values a second; failures %" PRIu64 "\n",
               (double)(o.reports - reports) / seconds, b.failures - a.failures);
    ke_devices_free(o.d);
    ke_ctx_free(o.ctx);
}

static void show(const char *who, const struct result *r, double seconds)
{
    printf("%-8s %5.2f%% CPU, %7.0f cycles a second, %" PRIu64 " late, %" PRIu64
           " missed, at most %u ms late\n",
           who, r->cpu * 100, (double)r->cycles / seconds, r->late, r->missed, r->late_max_ms);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 10, ours = 0, bare = 0;
    uint64_t missed = 0;
    uint16_t port = 0;

    if (argc > 2)
        devices = (unsigned)strtoul(argv[2], NULL, 10);
    change = argc > 3 && strcmp(argv[3], "change") == 0;
    if (seconds <= 0 || devices == 0 || devices > DEVICES_MAX)
        die("usage", "bench_modbus [SECONDS [DEVICES, up to 4000 [change]]]");
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) == 0) {
        l.rlim_cur = l.rlim_max;
        setrlimit(RLIMIT_NOFILE, &l);
    }
    pid_t pid = start_devices(&port);
    for (int i = 0; i < SLICES; i++) {
        struct result a, b;
        run_bare(&a, port, seconds);
        show("bare", &a, seconds);
        run_ours(&b, port, seconds, i == 0);
        show("harness", &b, seconds);
        bare += a.cpu / SLICES;
        ours += b.cpu / SLICES;
        missed += b.missed;
    }
    measure_stored(port);
    printf("mean: harness %.2f%%, bare %.2f%% of a CPU: %.2f times as much; cycles missed: %" PRIu64
           "\n",
           ours * 100, bare * 100, ours / bare, missed);
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    return sum == 1; /* no: it is used */
}
