/* SPDX-License-Identifier: Apache-2.0 */
/* ke-node: a complete KubeEdge node, and the commands that talk to a running one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "node_devices.h"

#define DEFAULT_DATA "/var/lib/kubeedge/node"

static const char help[] =
    "Usage: ke-node [FLAGS]            run a node\n"
    "       ke-node status [--data DIR]   state of the node that runs there\n"
    "       ke-node pods [--data DIR]     its pods\n"
    "       ke-node devices [--data DIR]  its devices, with desired and reported values, and mappers\n"
    "       ke-node logs [--data DIR] [NAMESPACE/]POD [CONTAINER]\n"
    "       ke-node reset [--data DIR]    forget identity and objects (the node must not run)\n"
    "\n"
    "  --config FILE          edgecore.yaml; flags win over it\n"
    "  --name NAME            node name (default: the host name)\n"
    "  --cloud HOST           name or address of the cloud; none: offline\n"
    "  --tunnel-port N        default 10000\n"
    "  --cert-port N          default 10002\n"
    "  --token TOKEN          join token, needed the first time; or --token-file FILE\n"
    "  --data DIR             default " DEFAULT_DATA "\n"
    "  --dialect D            auto (default), 1.4, 1.15 or 1.23\n"
    "  --labels K=V,...       besides the standard ones\n"
    "  --taints K=V:EFFECT,...\n"
    "  --resources NAME=N,... extended resources, e.g. vendor.example/gpu=1\n"
    "  --node-ip ADDR         default: the address used towards the cloud\n"
    "  --proxy URL            http://[user:password@]host:port\n"
    "  --runtime R            none (default) or process\n"
    "  --process-allow P,...  executables the process runtime may start; a path that ends in / allows\n"
    "                         all below\n"
    "  --process-user USER    user that processes run as\n"
    "  --host-path-allow P,.. folders and files that hostPath volumes may name (default: none)\n"
    "  --shim FILE            the process runtime's helper (default: the installed one)\n"
    "  --mqtt ADDR:PORT       run an MQTT server there for devices, with its event bus (see also --config)\n"
    "  --drivers D,...        drivers for devices: modbus, gpio, mqtt-json, simulated, or all (default) or none\n"
    "  --dmi SOCKET           where mappers register, e.g. /etc/kubeedge/dmi.sock. A mapper serves its\n"
    "                         protocol in place of a driver of 'all', not of one that --drivers names\n"
    "  --log-level L          error, warn, info (default) or debug\n"
    "  --version, --help\n"
    "\n"
    "Logs to stderr. Ends with 0 on SIGTERM, 2 for a bad flag, 3 for a bad file or folder, 1 else.\n";

enum {
    OPT_CONFIG = 256, OPT_NAME, OPT_CLOUD, OPT_TUNNEL_PORT, OPT_CERT_PORT, OPT_TOKEN, OPT_TOKEN_FILE,
    OPT_DATA, OPT_DIALECT, OPT_LABELS, OPT_TAINTS, OPT_RESOURCES, OPT_NODE_IP, OPT_PROXY, OPT_RUNTIME,
    OPT_PROCESS_ALLOW, OPT_PROCESS_USER, OPT_HOST_PATH_ALLOW, OPT_SHIM, OPT_MQTT, OPT_DRIVERS,
    OPT_DMI, OPT_LOG_LEVEL, OPT_VERSION, OPT_HELP
};
static const struct option options[] = {
    {"config", 1, 0, OPT_CONFIG}, {"name", 1, 0, OPT_NAME}, {"cloud", 1, 0, OPT_CLOUD},
    {"tunnel-port", 1, 0, OPT_TUNNEL_PORT}, {"cert-port", 1, 0, OPT_CERT_PORT},
    {"token", 1, 0, OPT_TOKEN}, {"token-file", 1, 0, OPT_TOKEN_FILE}, {"data", 1, 0, OPT_DATA},
    {"dialect", 1, 0, OPT_DIALECT}, {"labels", 1, 0, OPT_LABELS}, {"taints", 1, 0, OPT_TAINTS},
    {"resources", 1, 0, OPT_RESOURCES}, {"node-ip", 1, 0, OPT_NODE_IP}, {"proxy", 1, 0, OPT_PROXY},
    {"runtime", 1, 0, OPT_RUNTIME}, {"process-allow", 1, 0, OPT_PROCESS_ALLOW},
    {"process-user", 1, 0, OPT_PROCESS_USER}, {"shim", 1, 0, OPT_SHIM},
    {"host-path-allow", 1, 0, OPT_HOST_PATH_ALLOW}, {"mqtt", 1, 0, OPT_MQTT},
    {"drivers", 1, 0, OPT_DRIVERS}, {"dmi", 1, 0, OPT_DMI},
    {"log-level", 1, 0, OPT_LOG_LEVEL}, {"version", 0, 0, OPT_VERSION}, {"help", 0, 0, OPT_HELP},
    {0}};

struct flags {
    const char *config_file;
    uint32_t level;
    struct ke_node_config set; /* what flags gave */
};

static int usage_error(const char *flag, const char *value, const char *what)
{
    fprintf(stderr, "ke-node: %s %s: %s (--help shows all flags)\n", flag, value, what);
    return EXIT_USAGE;
}

static const char *read_token(const char *path)
{
    static char token[4096];
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    size_t n = fread(token, 1, sizeof token - 1, f);
    int e = ferror(f) ? errno : 0;
    fclose(f);
    if (e) {
        errno = e;
        return NULL;
    }
    while (n > 0 && strchr("\r\n\t ", token[n - 1]))
        n--;
    token[n] = 0;
    return token;
}

/* A relative folder means one below the working folder of the start, whatever that is later. */
static const char *absolute(const char *path)
{
    static char full[4096];
    char here[4096];
    if (!path[0] || path[0] == '/' || !getcwd(here, sizeof here))
        return path;
    int n = snprintf(full, sizeof full, "%s/%s", here, path);
    return n < 0 || (size_t)n >= sizeof full ? path : full;
}

/* "K=V,K=V" */
static int parse_pairs(const char *text, const struct ke_env **ret, uint32_t *ret_n)
{
    uint32_t n;
    char **items = split_list(text, &n);
    struct ke_env *list = must(calloc((size_t)n + 1, sizeof *list));
    for (uint32_t i = 0; i < n; i++) {
        char *pair = items[i]; /* cut in place: the pieces live as long as the program */
        char *eq = strchr(pair, '=');
        if (!eq || eq == pair)
            return -1;
        *eq = 0;
        list[i] = (struct ke_env){pair, eq + 1};
    }
    free(items);
    *ret = list;
    *ret_n = n;
    return 0;
}

/* "K=V:EFFECT,K:EFFECT" */
static int parse_taints(const char *text, const struct ke_taint **ret, uint32_t *ret_n)
{
    uint32_t n;
    char **items = split_list(text, &n);
    struct ke_taint *list = must(calloc((size_t)n + 1, sizeof *list));
    for (uint32_t i = 0; i < n; i++) {
        char *item = items[i];
        char *colon = strrchr(item, ':');
        if (!colon || colon == item)
            return -1;
        *colon = 0;
        char *eq = strchr(item, '=');
        if (eq)
            *eq = 0;
        list[i] = (struct ke_taint){item, eq ? eq + 1 : "", colon + 1};
    }
    free(items);
    *ret = list;
    *ret_n = n;
    return 0;
}

static int parse_port(const char *flag, const char *text, uint32_t *ret)
{
    long n = parse_number(text, 65535);
    if (n < 1)
        return usage_error(flag, text, "is no port (1 to 65535)");
    *ret = (uint32_t)n;
    return 0;
}

static int parse_dialect(const char *text, uint32_t *ret)
{
    static const struct {
        const char *name;
        uint32_t dialect;
    } all[] = {{"auto", KE_DIALECT_AUTO}, {"1.4", KE_DIALECT_1_4}, {"1.15", KE_DIALECT_1_15},
               {"1.23", KE_DIALECT_1_23}};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(text, all[i].name) == 0) {
            *ret = all[i].dialect;
            return 0;
        }
    return usage_error("--dialect", text, "is not auto, 1.4, 1.15 or 1.23");
}

/* Pods would only wait for it. */
static int check_shim(const char *path)
{
    struct stat st;
    int r = stat(path, &st);
    if (r == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
        return 0;
    fprintf(stderr, "ke-node: --shim %s: %s\n", path,
            r < 0 || S_ISREG(st.st_mode) ? strerror(errno) : "is not a program");
    return EXIT_FILE;
}

static int take_flag(struct flags *f, int opt, const char *arg)
{
    struct ke_node_config *c = &f->set;
    switch (opt) {
    case OPT_CONFIG: f->config_file = arg; return 0;
    case OPT_NAME: c->name = arg; return 0;
    case OPT_CLOUD: c->cloud_host = arg; return 0;
    case OPT_TUNNEL_PORT: return parse_port("--tunnel-port", arg, &c->tunnel_port);
    case OPT_CERT_PORT: return parse_port("--cert-port", arg, &c->cert_port);
    case OPT_TOKEN: c->token = arg; return 0;
    case OPT_TOKEN_FILE:
        c->token = read_token(arg);
        if (c->token)
            return 0;
        fprintf(stderr, "ke-node: token file %s: %s\n", arg, strerror(errno));
        return EXIT_FILE;
    case OPT_DATA: c->data = arg; return 0;
    case OPT_DIALECT: return parse_dialect(arg, &c->dialect);
    case OPT_LABELS:
        return parse_pairs(arg, &c->labels, &c->n_labels) < 0
                   ? usage_error("--labels", arg, "is not KEY=VALUE,...") : 0;
    case OPT_TAINTS:
        return parse_taints(arg, &c->taints, &c->n_taints) < 0
                   ? usage_error("--taints", arg, "is not KEY=VALUE:EFFECT,...") : 0;
    case OPT_RESOURCES:
        return parse_pairs(arg, &c->resources, &c->n_resources) < 0
                   ? usage_error("--resources", arg, "is not NAME=NUMBER,...") : 0;
    case OPT_NODE_IP: c->node_ip = arg; return 0;
    case OPT_PROXY: c->proxy_url = arg; return 0;
    case OPT_RUNTIME:
        c->runtime = arg;
        return strcmp(arg, "none") == 0 || strcmp(arg, "process") == 0
                   ? 0 : usage_error("--runtime", arg, "is not none or process");
    case OPT_PROCESS_ALLOW:
        c->process_allow = (const char *const *)split_list(arg, &c->n_process_allow);
        return 0;
    case OPT_HOST_PATH_ALLOW:
        c->host_path_allow = (const char *const *)split_list(arg, &c->n_host_path_allow);
        return 0;
    case OPT_PROCESS_USER: c->process_user = arg; return 0;
    case OPT_SHIM: c->shim = arg; return check_shim(arg);
    case OPT_MQTT:
        c->mqtt_listen = arg;
        return strrchr(arg, ':') ? 0 : usage_error("--mqtt", arg, "is not ADDRESS:PORT");
    case OPT_DRIVERS: c->drivers = strcmp(arg, "none") == 0 ? "" : arg; return 0;
    case OPT_DMI: c->dmi_socket = arg; return 0;
    case OPT_LOG_LEVEL:
        f->level = log_level(arg);
        return f->level ? 0 : usage_error("--log-level", arg, "is not error, warn, info or debug");
    default: return usage_error("flag", "", "is not known");
    }
}

static int parse_flags(struct flags *f, int argc, char **argv)
{
    int opt, r = 0;
    f->level = KE_LOG_INFO;
    ke_node_config_init(&f->set, sizeof f->set);
    while (r == 0 && (opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == OPT_HELP || opt == OPT_VERSION) {
            fputs(opt == OPT_HELP ? help : ke_version_string(), stdout);
            fputs(opt == OPT_HELP ? "" : "\n", stdout);
            exit(0);
        }
        r = opt == '?' ? EXIT_USAGE : take_flag(f, opt, optarg);
    }
    return r;
}

/* ---- the node ---- */

struct app {
    struct ke_node *node;
    struct ke_devices *devices; /* NULL: none */
    struct ke_twin *twin;       /* the same */
    const char *name;
    uint32_t state; /* last told */
    int32_t error;
};

static const char *state_word(uint32_t state)
{
    static const char *const words[] = {"stopped", "starting", "offline", "connected", "ready"};
    return state < 5 ? words[state] : "?";
}

static void on_state(void *user, const struct ke_node_status *st)
{
    struct app *a = user;
    char text[700];
    if (st->state == a->state && st->last_error == a->error)
        return;
    a->state = st->state;
    a->error = st->last_error;
    int trouble = st->state <= KE_NODE_OFFLINE && st->last_error != 0;
    snprintf(text, sizeof text, "%s is %s%s%s", a->name, state_word(st->state), trouble ? ": " : "",
             trouble ? st->error_text : "");
    log_line(NULL, trouble ? KE_LOG_WARN : KE_LOG_INFO, "node", text);
}

static void on_pod(void *user, const struct ke_pod_info *p)
{
    char text[900];
    (void)user;
    snprintf(text, sizeof text, "pod %s/%s %s %u/%u%s%s%s%s", p->pod_namespace, p->name,
             p->removed ? "removed" : p->phase, p->ready, p->containers, p->reason[0] ? " " : "",
             p->reason, p->message[0] ? ": " : "", p->message);
    log_line(NULL, KE_LOG_INFO, "node", text);
}

static void print_pod(void *user, const struct ke_pod_info *p)
{
    char text[1200]; /* one line per pod */
    snprintf(text, sizeof text, "%s%s%s", p->reason, p->message[0] ? ": " : "", p->message);
    for (char *s = text; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 127)
            *s = ' ';
    fprintf(user, "%-20s %-30s %-10s %u/%u   %-8u %s\n", p->pod_namespace, p->name, p->phase, p->ready,
            p->containers, p->restarts, text);
}

static void print_status(struct app *a, FILE *out)
{
    struct ke_node_status st = {0};
    if (ke_node_state(a->node, &st, sizeof st) < 0)
        return;
    fprintf(out, "node        %s\nstate       %s\npods        %u (%u running)\n", a->name,
            state_word(st.state), st.pods, st.pods_running);
    if (st.strays)
        fprintf(out, "strays      %u containers run on though the store lost their pods\n", st.strays);
    fprintf(out, "dialect     %s\n", st.tunnel.dialect == KE_DIALECT_1_4    ? "1.4"
                                     : st.tunnel.dialect == KE_DIALECT_1_15 ? "1.15"
                                     : st.tunnel.dialect == KE_DIALECT_1_23 ? "1.23" : "unknown");
    if (st.tunnel.connected_ms >= 0)
        fprintf(out, "connected   %lld s\n", (long long)st.tunnel.connected_ms / 1000);
    fprintf(out, "sent        %llu messages, %llu bytes\nreceived    %llu messages, %llu bytes\n",
            (unsigned long long)st.tunnel.sent, (unsigned long long)st.tunnel.sent_bytes,
            (unsigned long long)st.tunnel.received, (unsigned long long)st.tunnel.received_bytes);
    print_mapper_count(a->node, out);
    fprintf(out, "outbox      %llu waiting\n", (unsigned long long)st.tunnel.outbox);
    if (st.tunnel.next_retry_ms >= 0)
        fprintf(out, "next try    in %lld ms\n", (long long)st.tunnel.next_retry_ms);
    if (st.last_error)
        fprintf(out, "last error  %s (%s)\n", st.error_text, ke_strerror(st.last_error));
}

static void on_request(void *user, const char *request, FILE *out)
{
    struct app *a = user;
    if (strcmp(request, "status") == 0) {
        print_status(a, out);
    } else if (strcmp(request, "pods") == 0) {
        fprintf(out, "%-20s %-30s %-10s %s %s %s\n", "NAMESPACE", "NAME", "PHASE", "READY", "RESTARTS",
                "REASON");
        if (ke_node_pods(a->node, print_pod, out) < 0)
            fputs("out of memory\n", out);
    } else if (strcmp(request, "devices") == 0) {
        print_devices(a->devices, a->twin, out);
        print_mappers(a->node, out);
    } else {
        fprintf(out, "request %s is not known\n", request);
    }
}

static void on_devices(void *user, struct ke_twin *twin, struct ke_devices *devices)
{
    struct app *a = user;
    a->twin = twin;
    a->devices = devices;
}

static void on_unknown_key(void *user, const char *key, uint32_t line)
{
    char text[600];
    char at[16] = "";
    if (line > 0) /* 0: not known */
        snprintf(at, sizeof at, ":%u", line);
    snprintf(text, sizeof text, "%s%s: %s is not known and has no effect", (const char *)user, at, key);
    log_line(NULL, KE_LOG_WARN, "config", text);
}

/* What flags set wins. */
static void merge(struct ke_node_config *c, const struct ke_node_config *f)
{
#define TAKE(member) if (f->member) c->member = f->member
    TAKE(name);
    TAKE(cloud_host);
    TAKE(tunnel_port);
    TAKE(cert_port);
    TAKE(token);
    TAKE(data);
    TAKE(dialect);
    TAKE(mqtt_listen);
    TAKE(drivers);
    TAKE(dmi_socket);
    if (f->mqtt_listen)
        c->mqtt |= KE_NODE_MQTT_INTERNAL; /* besides the broker outside that a file names */
    TAKE(node_ip);
    TAKE(proxy_url);
    TAKE(runtime);
    TAKE(process_user);
    TAKE(shim);
#undef TAKE
    if (f->labels) {
        c->labels = f->labels;
        c->n_labels = f->n_labels;
    }
    if (f->taints) {
        c->taints = f->taints;
        c->n_taints = f->n_taints;
    }
    if (f->resources) {
        c->resources = f->resources;
        c->n_resources = f->n_resources;
    }
    if (f->process_allow) {
        c->process_allow = f->process_allow;
        c->n_process_allow = f->n_process_allow;
    }
    if (f->host_path_allow) {
        c->host_path_allow = f->host_path_allow;
        c->n_host_path_allow = f->n_host_path_allow;
    }
}

static int exit_code(int r)
{
    switch (r) {
    case KE_EINVAL: case KE_ETOKEN: return EXIT_USAGE;
    case KE_EPARSE: case KE_ENOTFOUND: case KE_EEXIST: case KE_EACCES: case KE_EROFS: case KE_EBUSY:
    case KE_ENOSPC: case KE_ENEWER: case KE_ECORRUPT: return EXIT_FILE;
    default: return 1;
    }
}

static int complain(struct ke_ctx *ctx, const char *what, int r)
{
    fprintf(stderr, "ke-node: %s: %s (%s)\n", what, ke_ctx_error(ctx), ke_strerror(r));
    return exit_code(r);
}

static int serve(struct ke_ctx *ctx, struct app *a, const char *data)
{
    int r = ke_node_start(a->node);
    if (r < 0)
        return complain(ctx, "start", r);
    struct control *control = control_new(data, on_request, a);
    if (!control)
        fprintf(stderr, "ke-node: no control socket in %s: %s; status and pods will not answer\n", data,
                strerror(errno));
    r = run_loop(ctx, control, NULL, NULL);
    control_free(control);
    ke_node_stop(a->node);
    return r < 0 ? complain(ctx, "loop", r) : 0;
}

static int run(struct flags *f)
{
    struct ke_ctx_config cc;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_ctx *ctx = NULL;
    struct ke_node_settings *settings = NULL;
    struct ke_node_config own, *c = &own;
    struct ke_node_ops ops = {.size = sizeof ops, .state = on_state, .pod = on_pod, .devices = on_devices};
    struct app app = {.state = UINT32_MAX};
    char host[256];
    int fd, code;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = log_line;
    cc.log_level = f->level;
    int r = ke_ctx_new(&ctx, &cc, &err);
    if (r < 0) {
        fprintf(stderr, "ke-node: %s\n", err.text);
        return 1;
    }
    ke_node_config_init(&own, sizeof own);
    r = ke_ctx_fd(ctx, &fd); /* this program drives the loop itself */
    if (r == 0 && f->config_file)
        r = ke_node_settings_read(&settings, ctx, f->config_file, on_unknown_key,
                                  (void *)(uintptr_t)f->config_file);
    if (settings)
        c = ke_node_settings_config(settings);
    merge(c, &f->set);
    if (!c->name && gethostname(host, sizeof host - 1) == 0) {
        host[sizeof host - 1] = 0;
        c->name = host;
    }
    if (!c->data)
        c->data = DEFAULT_DATA;
    if (!c->drivers)
        c->drivers = "all";
    c->data = absolute(c->data);
    app.name = c->name;
    if (r < 0)
        code = complain(ctx, "configuration", r == KE_EINVAL ? KE_EPARSE : r);
    else if ((r = ke_node_new(&app.node, ctx, c, &ops, &app)) < 0)
        code = complain(ctx, "configuration", r);
    else
        code = serve(ctx, &app, c->data);
    ke_node_free(app.node);
    ke_node_settings_free(settings);
    ke_ctx_free(ctx);
    return code;
}

/* ---- commands ---- */

static int ask(const char *data, const char *request)
{
    if (control_ask(data, request, stdout) == 0)
        return 0;
    fprintf(stderr, "ke-node: no node answers in %s: %s (does it run? is --data right?)\n", data,
            strerror(errno));
    return 1;
}

static int print_file(const char *path)
{
    char buf[8192];
    size_t n;
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    while ((n = fread(buf, 1, sizeof buf, f)) > 0)
        fwrite(buf, 1, n, stdout);
    fclose(f);
    return 0;
}

/* DATA/logs/NS_POD_UID/CONTAINER/ATTEMPT.log, the last attempt of each container */
static int print_container(const char *folder)
{
    char path[4096];
    int last = -1;
    DIR *d = opendir(folder);
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));) {
        char *end;
        long n = strtol(e->d_name, &end, 10);
        if (end != e->d_name && strcmp(end, ".log") == 0 && n > last)
            last = (int)n;
    }
    closedir(d);
    snprintf(path, sizeof path, "%s/%d.log", folder, last);
    return last < 0 ? -1 : print_file(path);
}

static int logs(const char *data, const char *pod, const char *container)
{
    char prefix[600], folder[2048], path[3000];
    const char *slash = strchr(pod, '/');
    int found = 0;
    snprintf(prefix, sizeof prefix, "%.*s_%s_", slash ? (int)(slash - pod) : 7,
             slash ? pod : "default", slash ? slash + 1 : pod);
    snprintf(folder, sizeof folder, "%.1500s/logs", data);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        DIR *p = opendir(path);
        for (struct dirent *c; p && (c = readdir(p));) {
            char one[3600];
            if (c->d_name[0] == '.' || (container && strcmp(container, c->d_name) != 0))
                continue;
            snprintf(one, sizeof one, "%s/%s", path, c->d_name);
            found |= print_container(one) == 0;
        }
        if (p)
            closedir(p);
    }
    if (d)
        closedir(d);
    if (!found)
        fprintf(stderr, "ke-node: no logs of pod %s in %s\n", pod, folder);
    return found ? 0 : 1;
}

/* The lock a running node holds on its store, taken the way it takes it. -1: 0 if it is taken. */
static int lock_store(const char *data)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/store/lock", data);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fcntl(fd, F_OFD_SETLK, &all) == 0)
        return fd; /* without it no node has ever locked the folder: the caller looks at errno */
    int e = errno;
    close(fd);
    errno = e == EACCES ? EAGAIN : e;
    return -1;
}

/* Removes what is in DIR/store, but for its lock, and in DIR/identity, of a node that does not run. */
static int reset(const char *data)
{
    static const char *const parts[] = {"store", "identity"};
    char folder[4096], path[5000];
    int found = 0;
    int lock = lock_store(data); /* held until the end of the program */
    if (lock < 0 && errno == EAGAIN) {
        fprintf(stderr, "ke-node: a node runs in %s: stop it first\n", data);
        return 1;
    }
    if (lock < 0 && errno != ENOENT) {
        fprintf(stderr, "ke-node: %s/store/lock: %s\n", data, strerror(errno));
        return EXIT_FILE;
    }
    for (size_t i = 0; i < 2; i++) {
        snprintf(folder, sizeof folder, "%.4000s/%s", data, parts[i]);
        DIR *d = opendir(folder);
        if (!d && errno != ENOENT) {
            fprintf(stderr, "ke-node: %s: %s\n", folder, strerror(errno));
            return EXIT_FILE;
        }
        found += d != NULL;
        for (struct dirent *e; d && (e = readdir(d));) {
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (i == 0 && strcmp(e->d_name, "lock") == 0)
                continue; /* who opens it now must meet the lock of those who have it open */
            if (e->d_name[0] != '.' && unlink(path) < 0) {
                fprintf(stderr, "ke-node: %s: %s\n", path, strerror(errno));
                closedir(d);
                return EXIT_FILE;
            }
        }
        if (d)
            closedir(d);
    }
    if (!found) {
        fprintf(stderr, "ke-node: no node was ever in %s (is --data right?)\n", data);
        return EXIT_FILE;
    }
    snprintf(path, sizeof path, "%.4000s/node", data); /* whose folder it was */
    if (unlink(path) < 0 && errno != ENOENT) {
        fprintf(stderr, "ke-node: %s: %s\n", path, strerror(errno));
        return EXIT_FILE;
    }
    printf("forgot the identity and the objects in %s; workloads were not touched\n", data);
    return 0;
}

/* What the running node answers itself: on_request. */
static int is_question(const char *command)
{
    return strcmp(command, "status") == 0 || strcmp(command, "pods") == 0 || strcmp(command, "devices") == 0;
}

int main(int argc, char **argv)
{
    static struct flags f; /* keeps the lists that flags made */
    const char *command = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
    if (!command)
        block_signals(); /* a command that asks may be interrupted */
    if (command) {
        argv[1] = argv[0];
        argc--;
        argv++;
    }
    int r = parse_flags(&f, argc, argv);
    if (r != 0)
        return r;
    const char *data = f.set.data ? f.set.data : DEFAULT_DATA;
    int rest = argc - optind;
    if (!command && rest == 0)
        return run(&f);
    if (command && rest == 0 && is_question(command))
        return ask(data, command);
    if (command && rest == 0 && strcmp(command, "reset") == 0)
        return reset(data);
    if (command && (rest == 1 || rest == 2) && strcmp(command, "logs") == 0)
        return logs(data, argv[optind], rest == 2 ? argv[optind + 1] : NULL);
    if (command && strcmp(command, "logs") == 0)
        return usage_error("command", command, rest == 0 ? "needs the name of a pod"
                                                          : "takes a pod and a container only");
    if (command && !is_question(command) && strcmp(command, "reset") != 0)
        return usage_error("command", command, "is not status, pods, devices, logs or reset");
    return usage_error("argument", argv[optind], "is not understood");
}
