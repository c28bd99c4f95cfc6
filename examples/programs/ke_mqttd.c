/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ke-mqttd: the MQTT server alone, in the place of mosquitto. Reads its configuration file, serves
 * until SIGTERM, reads the file again at SIGHUP while the clients stay.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "ke_mqttd_log.h"
#include "mosquitto_conf.h"

#define LISTEN_MAX 64
#define OWN_FDS 64          /* listeners, files and the loop's own, beside those of clients */
#define SESSIONS_MIN 100000 /* clients that are away have no descriptor */

static const char help[] =
    "Usage: ke-mqttd [FLAGS]\n"
    "\n"
    "  --config FILE          a mosquitto.conf (also -c); read again at SIGHUP\n"
    "  --listen ADDR:PORT     listen there, too; several; \"[::1]:1883\", \":1883\" is every "
    "address\n"
    "  --port N               another port of this machine, if the file names none (also -p)\n"
    "  --data DIR             sessions, retained messages, users; default: what the file says;\n"
    "                         without either: memory only\n"
    "  --log-level L          error, warn, info (default) or debug; --verbose, -v: debug\n"
    "  --daemon               go to the background (also -d)\n"
    "  --version, --help\n"
    "\n"
    "Without any listener: port 1883 of this machine, open to everybody on it. Else clients "
    "without a\n"
    "user name are let in where allow_anonymous says so; with --listen alone: on loopback only.\n"
    "The limit of open files (ulimit -n) is raised as far as it goes, and limits the clients.\n"
    "Logs to stderr. Ends with 0 on SIGTERM, 2 for a bad flag, 3 for a bad file or folder, 1 "
    "else.\n";

enum { OPT_CONFIG = 256, OPT_LISTEN, OPT_DATA, OPT_LOG_LEVEL, OPT_VERSION, OPT_HELP };
static const struct option options[] = {{"config", 1, 0, OPT_CONFIG},
                                        {"config-file", 1, 0, OPT_CONFIG},
                                        {"listen", 1, 0, OPT_LISTEN},
                                        {"port", 1, 0, 'p'},
                                        {"data", 1, 0, OPT_DATA},
                                        {"log-level", 1, 0, OPT_LOG_LEVEL},
                                        {"verbose", 0, 0, 'v'},
                                        {"daemon", 0, 0, 'd'},
                                        {"version", 0, 0, OPT_VERSION},
                                        {"help", 0, 0, OPT_HELP},
                                        {0}};

struct flags {
    const char *config;
    const char *listen[LISTEN_MAX]; /* "ADDR:PORT" */
    const char *ports[LISTEN_MAX];
    unsigned n_listen, n_ports;
    const char *data;
    uint32_t level; /* 0: not given */
    bool daemon;
};

static int usage_error(const char *flag, const char *value, const char *what)
{
    fprintf(stderr, "ke-mqttd: %s %s: %s (--help shows all flags)\n", flag, value, what);
    return EXIT_USAGE;
}

/* ---- flags ---- */

/* ADDR and PORT of "ADDR:PORT", "[ADDR]:PORT" or ":PORT"; addr holds 256 bytes. */
static bool split_address(const char *text, char *addr, long *port)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (!colon || n > 255)
        return false;
    *port = parse_number(colon + 1, 65535);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    memcpy(addr, text, n);
    addr[n] = 0;
    return *port >= 0;
}

static int add_listen(struct flags *f, const char *flag, const char *text)
{
    char addr[256];
    long port;
    if (!split_address(text, addr, &port))
        return usage_error(flag, text, "is not ADDR:PORT");
    if (f->n_listen == LISTEN_MAX)
        return usage_error(flag, text, "is one too many");
    f->listen[f->n_listen++] = text;
    return 0;
}

static int take_flag(struct flags *f, int opt, char *arg)
{
    switch (opt) {
    case 'c':
    case OPT_CONFIG:
        f->config = arg;
        return 0;
    case OPT_LISTEN:
        return add_listen(f, "--listen", arg);
    case 'p':
        if (parse_number(arg, 65535) < 1)
            return usage_error("--port", arg, "is no port (1 to 65535)");
        if (f->n_ports == LISTEN_MAX)
            return usage_error("--port", arg, "is one too many");
        f->ports[f->n_ports++] = arg;
        return 0;
    case OPT_DATA:
        f->data = arg;
        return 0;
    case 'v':
        f->level = KE_LOG_DEBUG;
        return 0;
    case 'd':
        f->daemon = true;
        return 0;
    case OPT_LOG_LEVEL:
        f->level = log_level(arg);
        return f->level ? 0 : usage_error("--log-level", arg, "is not error, warn, info or debug");
    default:
        return usage_error("flag", "", "is not known");
    }
}

static int parse_flags(struct flags *f, int argc, char **argv)
{
    int opt, r = 0;
    while (r == 0 && (opt = getopt_long(argc, argv, "c:p:vdh", options, NULL)) != -1) {
        if (opt == OPT_HELP || opt == 'h' || opt == OPT_VERSION) {
            fputs(opt == OPT_VERSION ? ke_version_string() : help, stdout);
            fputs(opt == OPT_VERSION ? "\n" : "", stdout);
            exit(0);
        }
        r = opt == '?' ? EXIT_USAGE : take_flag(f, opt, optarg);
    }
    return r;
}

/* ---- the configuration in force ---- */

#define LISTENERS_MAX 2048

/* Made of file and flags; what it points to lives until freed. */
struct setup {
    struct mosquitto_conf *file; /* NULL: none given */
    struct ke_mqtt_config mqtt;
    struct ke_mqtt_listener *listeners;
    uint32_t n;
    char **texts;
    size_t n_texts;
    bool sealed; /* no more listeners: there are too many */
};

static void setup_free(struct setup *s)
{
    if (!s)
        return;
    mosquitto_conf_free(s->file);
    for (size_t i = 0; i < s->n_texts; i++)
        free(s->texts[i]);
    free(s->texts);
    free(s->listeners);
    free(s);
}

static const char *keep(struct setup *s, const char *text)
{
    s->texts = must(realloc(s->texts, (s->n_texts + 1) * sizeof *s->texts));
    return s->texts[s->n_texts++] = must(strdup(text));
}

static void on_say(void *user, int what, const char *file, unsigned line, const char *text)
{
    char at[300], whole[1100];
    (void)user;
    snprintf(at, sizeof at, line ? "%s:%u" : "%s", file, line);
    snprintf(whole, sizeof whole, "%s: %s%s", at, text, what == MC_WARN ? ", ignored" : "");
    mqttd_log(NULL, what == MC_WARN ? KE_LOG_WARN : KE_LOG_ERROR, "config", whole);
}

static bool have_ipv6(void)
{
    return access("/proc/net/if_inet6", R_OK) == 0;
}

static void add_listener(struct setup *s, const struct ke_mqtt_listener *l, const char *host)
{
    if (s->n == LISTENERS_MAX) {
        s->sealed = true;
        return;
    }
    s->listeners = must(realloc(s->listeners, (s->n + 1) * sizeof *s->listeners));
    s->listeners[s->n] = *l;
    s->listeners[s->n++].host = host;
}

/* One listener for each address of a name. */
static int add_named(struct setup *s, const struct ke_mqtt_listener *l, int family)
{
    struct addrinfo *list = NULL;
    struct addrinfo hints = {.ai_family = family == 4   ? AF_INET
                                          : family == 6 ? AF_INET6
                                                        : AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    char text[1200];
    int e = getaddrinfo(l->host, NULL, &hints, &list);
    if (e) {
        snprintf(text, sizeof text, "listener %s: %s: %s", l->name, l->host, gai_strerror(e));
        mqttd_log(NULL, KE_LOG_ERROR, "config", text);
        return EXIT_FILE;
    }
    unsigned n = 0;
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        char addr[NI_MAXHOST];
        struct ke_mqtt_listener one = *l;
        if (getnameinfo(a->ai_addr, a->ai_addrlen, addr, sizeof addr, NULL, 0, NI_NUMERICHOST) ||
            (a->ai_family == AF_INET6 && !have_ipv6()))
            continue;
        if (n++ > 0) {
            snprintf(text, sizeof text, "%s %s", l->name, addr);
            one.name = keep(s, text);
        }
        add_listener(s, &one, keep(s, addr));
    }
    freeaddrinfo(list);
    return 0;
}

static int add_file_listeners(struct setup *s)
{
    const struct mosquitto_conf *c = s->file;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < c->n_listeners; i++) {
        const struct mc_listener *l = &c->listeners[i];
        if (l->l.kind == KE_MQTT_UNIX)
            add_listener(s, &l->l, NULL);
        else if (l->l.host)
            r = add_named(s, &l->l, l->family);
        else
            add_listener(s, &l->l, l->family == 4 || !have_ipv6() ? "0.0.0.0" : "::");
    }
    return r;
}

/* anonymous: flag, or 0 for the library's own rule (loopback only). */
static int add_address(struct setup *s, const char *text, uint32_t anonymous)
{
    struct ke_mqtt_listener l;
    char addr[256];
    long port = 0;
    ke_mqtt_listener_init(&l, sizeof l);
    split_address(text, addr, &port);
    l.name = text;
    l.flags = anonymous;
    l.port = port ? (uint32_t)port : KE_MQTT_PORT_ANY;
    if (!addr[0]) {
        add_listener(s, &l, have_ipv6() ? "::" : "0.0.0.0");
        return 0;
    }
    l.host = keep(s, addr);
    return add_named(s, &l, 0);
}

static int add_listeners(struct setup *s, const struct flags *f)
{
    int r = s->file ? add_file_listeners(s) : 0;
    /* a file that says nothing of anonymous clients leaves them to the library's rule, too */
    uint32_t anonymous = s->file && !s->file->local_only ? s->file->anonymous : 0;
    for (unsigned i = 0; r == 0 && i < f->n_listen; i++)
        r = add_address(s, f->listen[i], anonymous);
    static const char *const standard[] = {"1883"};
    const char *const *ports = f->n_ports ? f->ports : standard;
    unsigned n_ports = f->n_ports ? f->n_ports : s->n == 0 ? 1 : 0;
    if (s->file && !s->file->local_only)
        n_ports = 0; /* the file's listeners stand for themselves */
    anonymous = s->file ? s->file->anonymous : KE_MQTT_ANONYMOUS;
    for (unsigned i = 0; r == 0 && i < n_ports; i++) {
        char text[40];
        snprintf(text, sizeof text, "127.0.0.1:%s", ports[i]);
        r = add_address(s, keep(s, text), anonymous);
        snprintf(text, sizeof text, "[::1]:%s", ports[i]);
        if (r == 0 && have_ipv6())
            r = add_address(s, keep(s, text), anonymous);
    }
    if (s->sealed) {
        mqttd_log(NULL, KE_LOG_ERROR, "config", "there are more listeners than can be");
        return EXIT_FILE;
    }
    return r;
}

/* As many clients as there are descriptors: more could not be told why they are refused. */
static uint32_t clients_max(uint32_t n_listeners)
{
    struct rlimit l;
    rlim_t own = OWN_FDS + (rlim_t)n_listeners;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur == RLIM_INFINITY || l.rlim_cur > UINT32_MAX)
        return KE_MQTT_NONE;
    return l.rlim_cur > 2 * own ? (uint32_t)(l.rlim_cur - own) : (uint32_t)(l.rlim_cur / 2 + 1);
}

/* A server of its own takes what the machine can: the library's limits suit a gateway. */
static void widen(struct ke_mqtt_config *c)
{
    uint32_t n = clients_max(c->n_listeners);
    if (!c->max_connections || c->max_connections > n)
        c->max_connections = n;
    c->max_pending = n / 2 + 1; /* who says nothing does not keep the others out */
    c->max_connect_rate = KE_MQTT_NONE;
    if (!c->max_sessions)
        c->max_sessions = n > SESSIONS_MIN ? n : SESSIONS_MIN;
}

/* NULL: refused, *ret_code says how to end; the reason was logged. */
static struct setup *setup_new(const struct flags *f, int *ret_code)
{
    struct setup *s = must(calloc(1, sizeof *s));
    *ret_code = 0;
    if (f->config) {
        s->file = mosquitto_conf_read(f->config, on_say, NULL);
        if (!s->file)
            *ret_code = EXIT_FILE;
    }
    if (*ret_code == 0)
        *ret_code = add_listeners(s, f);
    if (*ret_code) {
        setup_free(s);
        return NULL;
    }
    if (s->file)
        s->mqtt = s->file->mqtt;
    else
        ke_mqtt_config_init(&s->mqtt, sizeof s->mqtt);
    s->mqtt.listeners = s->listeners;
    s->mqtt.n_listeners = s->n;
    widen(&s->mqtt);
    s->mqtt.data = f->data ? f->data : s->file ? s->file->data : NULL;
    return s;
}

static void use_log(const struct flags *f, const struct setup *s)
{
    mqttd_log_use(s->file, f->level);
}

/* ---- serving ---- */

struct app {
    struct flags flags;
    struct setup *setup;
    struct ke_ctx *ctx;
    struct ke_mqtt *mqtt;
    struct ke_bridge **bridges;
};

static void on_storage(void *user, int status)
{
    struct app *a = user;
    char text[KE_ERROR_TEXT_MAX + 60];
    if (status < 0)
        snprintf(text, sizeof text, "storage: %s (%s)", ke_ctx_error(a->ctx), ke_strerror(status));
    else
        snprintf(text, sizeof text, "storage works again");
    mqttd_log(NULL, status < 0 ? KE_LOG_ERROR : KE_LOG_INFO, "data", text);
}

static int exit_code(int r)
{
    switch (r) {
    case KE_EINVAL:
    case KE_EACCES:
    case KE_EROFS:
    case KE_EBUSY:
    case KE_ENOSPC:
    case KE_ENEWER:
    case KE_ECORRUPT:
    case KE_ENOTFOUND:
    case KE_EKEY:
    case KE_ECERT:
    case KE_EPARSE:
    case KE_EEXIST:
    case KE_ELIMIT:
        return EXIT_FILE;
    default:
        return 1;
    }
}

static int failed(struct app *a, const char *what, int r)
{
    char text[KE_ERROR_TEXT_MAX + 200];
    snprintf(text, sizeof text, "%s: %s (%s)", what, ke_ctx_error(a->ctx), ke_strerror(r));
    mqttd_log(NULL, KE_LOG_ERROR, "mqttd", text);
    return exit_code(r);
}

/* The library names the listeners in its log, but not the port it was given for port 0. */
static void tell_ports(struct app *a)
{
    char text[700];
    for (uint32_t i = 0; i < a->setup->n; i++) {
        const struct ke_mqtt_listener *l = &a->setup->listeners[i];
        uint32_t port = 0;
        if (l->port != KE_MQTT_PORT_ANY || ke_mqtt_port(a->mqtt, i, &port) < 0)
            continue;
        snprintf(text, sizeof text, "listener %s has port %u", l->name, port);
        mqttd_log(NULL, KE_LOG_INFO, "mqttd", text);
    }
}

static void tell_limit(const struct app *a)
{
    char text[120];
    if (a->setup->mqtt.max_connections == KE_MQTT_NONE)
        return;
    snprintf(text, sizeof text, "there is room for %u clients at once (ulimit -n)",
             a->setup->mqtt.max_connections);
    mqttd_log(NULL, KE_LOG_INFO, "mqttd", text);
}

/* Bridges stay as they are at a reload, as they do in mosquitto. */
static int start_bridges(struct app *a)
{
    const struct mosquitto_conf *c = a->setup->file;
    uint32_t n = c ? c->n_bridges : 0;
    a->bridges = must(calloc((size_t)n + 1, sizeof *a->bridges));
    for (uint32_t i = 0; i < n; i++) {
        char what[300];
        int r = ke_bridge_new(&a->bridges[i], a->mqtt, &c->bridges[i]);
        snprintf(what, sizeof what, "connection %s", c->bridges[i].name);
        if (r < 0)
            return failed(a, what, r);
    }
    return 0;
}

static void reload(struct app *a)
{
    int code, r;
    mqttd_log_reopen();
    struct setup *s = setup_new(&a->flags, &code);
    if (!s) {
        mqttd_log(NULL, KE_LOG_ERROR, "mqttd",
                  "not reloaded: the old configuration stays in force");
        return;
    }
    if (s->mqtt.data || a->setup->mqtt.data)
        s->mqtt.data = a->setup->mqtt.data ? keep(s, a->setup->mqtt.data) : NULL;
    r = ke_mqtt_reload(a->mqtt, &s->mqtt);
    if (r < 0) {
        failed(a, "not reloaded, the old configuration stays in force", r);
        setup_free(s);
        return;
    }
    use_log(&a->flags, s);
    setup_free(a->setup);
    a->setup = s;
    mqttd_log(NULL, KE_LOG_INFO, "mqttd", "reloaded");
}

/* ---- signals: noted by the handler, done between two runs of the loop ---- */

static struct {
    struct ke_ctx *ctx;
    volatile sig_atomic_t hup, term;
} told;

static void on_signal(int no)
{
    if (no == SIGHUP)
        told.hup = 1;
    else if (no != SIGUSR1 && no != SIGUSR2) /* mosquitto: save now; here it always is */
        told.term = 1;
    ke_ctx_stop(told.ctx);
}

static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

/* Only here: the helper threads were begun with them blocked. */
static void take_signals(struct ke_ctx *ctx, const sigset_t *set)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    told.ctx = ctx;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &sa, NULL);
    pthread_sigmask(SIG_UNBLOCK, set, NULL);
}

static int loop(struct app *a, const sigset_t *set)
{
    int r = 0;
    take_signals(a->ctx, set);
    while (r == 0 && !told.term) {
        r = ke_ctx_run(a->ctx);
        if (r == 0 && told.hup) {
            told.hup = 0;
            reload(a);
        }
    }
    pthread_sigmask(SIG_BLOCK, set, NULL);
    return r < 0 ? failed(a, "loop", r) : 0;
}

/* ---- the process ---- */

static int write_pid(const char *path)
{
    FILE *f = fopen(path, "we");
    bool ok = f && fprintf(f, "%ld\n", (long)getpid()) > 0;
    int e = errno;
    if (f && fclose(f) != 0 && ok) {
        ok = false;
        e = errno;
    }
    if (ok)
        return 0;
    char text[4300];
    snprintf(text, sizeof text, "pid_file %s: %s", path, strerror(e));
    mqttd_log(NULL, KE_LOG_ERROR, "mqttd", text);
    return EXIT_FILE;
}

/* What is written later belongs to the user we become: the data folder, before it is opened. */
static int prepare_user(const char *name, const char *data, struct passwd **ret)
{
    char text[600];
    *ret = NULL;
    if (!name || geteuid() != 0)
        return 0;
    struct passwd *pw = getpwnam(name);
    if (!pw) {
        snprintf(text, sizeof text, "user %s does not exist", name);
        mqttd_log(NULL, KE_LOG_ERROR, "mqttd", text);
        return EXIT_FILE;
    }
    if (data &&
        ((mkdir(data, 0700) < 0 && errno != EEXIST) || chown(data, pw->pw_uid, pw->pw_gid) < 0)) {
        snprintf(text, sizeof text, "data folder %.400s for user %.100s: %s", data, name,
                 strerror(errno));
        mqttd_log(NULL, KE_LOG_ERROR, "mqttd", text);
        return EXIT_FILE;
    }
    *ret = pw;
    return 0;
}

/* After the ports are bound. Files made meanwhile are all in the one folder. */
static int become(const struct passwd *pw, const char *data)
{
    char text[300];
    DIR *d = data ? opendir(data) : NULL;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, "..") != 0)
            (void)!fchownat(dirfd(d), e->d_name, pw->pw_uid, pw->pw_gid, AT_SYMLINK_NOFOLLOW);
    if (d)
        closedir(d);
    if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 ||
        setuid(pw->pw_uid) < 0) {
        snprintf(text, sizeof text, "could not become user %s: %s", pw->pw_name, strerror(errno));
        mqttd_log(NULL, KE_LOG_ERROR, "mqttd", text);
        return 1;
    }
    return 0;
}

static int serve(struct app *a, const sigset_t *set)
{
    const struct mosquitto_conf *file = a->setup->file;
    struct passwd *pw;
    struct ke_mqtt_ops ops = {.size = sizeof ops, .storage = on_storage};
    int code = prepare_user(file ? file->user : NULL, a->setup->mqtt.data, &pw);
    if (code)
        return code;
    int r = ke_mqtt_new(&a->mqtt, a->ctx, &a->setup->mqtt, &ops, a);
    if (r < 0)
        return failed(a, "configuration", r);
    r = ke_mqtt_start(a->mqtt);
    if (r < 0)
        return failed(a, "start", r);
    tell_ports(a);
    tell_limit(a);
    if (file && file->pid_file)
        code = write_pid(file->pid_file);
    if (code == 0)
        code = start_bridges(a);
    if (code == 0 && pw)
        code = become(pw, a->setup->mqtt.data);
    const char *pid_file = file && file->pid_file ? must(strdup(file->pid_file)) : NULL;
    if (code == 0)
        code = loop(a, set);
    for (uint32_t i = 0; a->bridges && a->bridges[i]; i++)
        ke_bridge_free(a->bridges[i]);
    ke_mqtt_stop(a->mqtt);
    if (pid_file)
        (void)!unlink(pid_file);
    return code;
}

static int run(struct flags *f, const sigset_t *set)
{
    struct ke_ctx_config cc;
    struct ke_error err = KE_ERROR_INIT;
    struct app a = {.flags = *f};
    int fd, code;
    mqttd_log_use(NULL, f->level);
    a.setup = setup_new(f, &code);
    if (!a.setup)
        return code;
    if (f->daemon && daemon(1, 0) < 0) {
        fprintf(stderr, "ke-mqttd: could not go to the background: %s\n", strerror(errno));
        return 1;
    }
    use_log(f, a.setup);
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = mqttd_log;
    /* a reload may ask for less or more; for debugging lines it takes a start */
    cc.log_level = mqttd_log_level() > KE_LOG_INFO ? KE_LOG_DEBUG : KE_LOG_INFO;
    int r = ke_ctx_new(&a.ctx, &cc, &err);
    if (r == 0)
        r = ke_ctx_fd(a.ctx, &fd); /* this program drives the loop itself */
    if (r < 0) {
        fprintf(stderr, "ke-mqttd: %s\n", err.text);
        code = 1;
    } else {
        code = serve(&a, set);
    }
    ke_mqtt_free(a.mqtt);
    free(a.bridges);
    ke_ctx_free(a.ctx);
    setup_free(a.setup);
    mqttd_log_close();
    return code;
}

/* Clients are descriptors; the hard limit stays what the machine's owner made it. */
static void raise_fds(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur == l.rlim_max)
        return;
    l.rlim_cur = l.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &l);
}

int main(int argc, char **argv)
{
    static struct flags f;
    sigset_t set;
    block_signals();
    raise_fds();
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaddset(&set, signals[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int r = parse_flags(&f, argc, argv);
    if (r != 0)
        return r;
    if (argc > optind)
        return usage_error("argument", argv[optind], "is not understood");
    return run(&f, &set);
}
