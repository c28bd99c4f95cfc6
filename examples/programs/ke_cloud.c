/* SPDX-License-Identifier: Apache-2.0 */
/* ke-cloud: the cloud end, and the commands that talk to a running one. */
#include <errno.h>
#include <getopt.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define DEFAULT_DATA "/var/lib/kubeedge/cloud"

static const char help[] =
    "Usage: ke-cloud [FLAGS]             run the cloud end\n"
    "       ke-cloud token [--data DIR]  print a join token of the cloud that runs there\n"
    "       ke-cloud nodes [--data DIR]  its nodes\n"
    "       ke-cloud pods [--data DIR]   its pods\n"
    "       ke-cloud devices [--data DIR]  its devices: desired and reported values\n"
    "\n"
    "  --data DIR           default " DEFAULT_DATA "\n"
    "  --manifests DIR      folder of Kubernetes manifests (Pod, ConfigMap, Secret, Device, DeviceModel), watched\n"
    "  --listen ADDR        default 0.0.0.0\n"
    "  --advertise A,...    names and addresses that nodes dial; they go into the certificate\n"
    "  --tunnel-port N      default 10000; 0: any free one\n"
    "  --cert-port N        default 10002; 0: any free one\n"
    "  --cert-days N        life of node certificates, default 365\n"
    "  --token-hours N      life of join tokens, default 24\n"
    "  --log-level L        error, warn, info (default) or debug\n"
    "  --version, --help\n"
    "\n"
    "Logs to stderr. Ends with 0 on SIGTERM, 2 for a bad flag, 3 for a bad file or folder, 1 else.\n";

enum {
    OPT_DATA = 256, OPT_MANIFESTS, OPT_LISTEN, OPT_ADVERTISE, OPT_TUNNEL_PORT, OPT_CERT_PORT,
    OPT_CERT_DAYS, OPT_TOKEN_HOURS, OPT_LOG_LEVEL, OPT_VERSION, OPT_HELP
};
static const struct option options[] = {
    {"data", 1, 0, OPT_DATA}, {"manifests", 1, 0, OPT_MANIFESTS}, {"listen", 1, 0, OPT_LISTEN},
    {"advertise", 1, 0, OPT_ADVERTISE}, {"tunnel-port", 1, 0, OPT_TUNNEL_PORT},
    {"cert-port", 1, 0, OPT_CERT_PORT}, {"cert-days", 1, 0, OPT_CERT_DAYS},
    {"token-hours", 1, 0, OPT_TOKEN_HOURS}, {"log-level", 1, 0, OPT_LOG_LEVEL},
    {"version", 0, 0, OPT_VERSION}, {"help", 0, 0, OPT_HELP}, {0}};

struct flags {
    uint32_t level;
    struct ke_cloud_config set;
};

static int usage_error(const char *flag, const char *value, const char *what)
{
    fprintf(stderr, "ke-cloud: %s %s: %s (--help shows all flags)\n", flag, value, what);
    return EXIT_USAGE;
}

static int parse_uint(const char *flag, const char *text, long min, long max, uint32_t *ret)
{
    long n = parse_number(text, max);
    if (n < min) {
        char what[80];
        snprintf(what, sizeof what, "is not a number from %ld to %ld", min, max);
        return usage_error(flag, text, what);
    }
    *ret = (uint32_t)n;
    return 0;
}

static int parse_port(const char *flag, const char *text, uint32_t *ret)
{
    int r = parse_uint(flag, text, 0, 65535, ret);
    if (r == 0 && *ret == 0)
        *ret = KE_PORT_ANY;
    return r;
}

static int take_flag(struct flags *f, int opt, const char *arg)
{
    struct ke_cloud_config *c = &f->set;
    switch (opt) {
    case OPT_DATA: c->data = arg; return 0;
    case OPT_MANIFESTS: c->manifests = arg; return 0;
    case OPT_LISTEN: c->listen = arg; return 0;
    case OPT_ADVERTISE:
        c->advertise = (const char *const *)split_list(arg, &c->n_advertise);
        return 0;
    case OPT_TUNNEL_PORT: return parse_port("--tunnel-port", arg, &c->tunnel_port);
    case OPT_CERT_PORT: return parse_port("--cert-port", arg, &c->cert_port);
    case OPT_CERT_DAYS: return parse_uint("--cert-days", arg, 1, 36500, &c->cert_days);
    case OPT_TOKEN_HOURS: return parse_uint("--token-hours", arg, 1, 87600, &c->token_hours);
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
    ke_cloud_config_init(&f->set, sizeof f->set);
    f->set.data = DEFAULT_DATA;
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

static void print_node(void *user, const struct ke_cloud_node_info *n)
{
    fprintf(user, "%-30s %-9s %-10s %-16s %-8u %s\n", n->name, n->status,
            n->connected ? "connected" : "away", n->address, n->pending, n->version);
}

static void print_pod(void *user, const struct ke_cloud_pod_info *p)
{
    fprintf(user, "%-20s %-30s %-11s %u/%u   %-8u %-20s %s\n", p->pod_namespace, p->name,
            p->deleting ? "Terminating" : p->phase, p->ready, p->containers, p->restarts,
            p->node[0] ? p->node : "<none>", p->reason);
}

static void print_device(void *user, const struct ke_cloud_device_info *d)
{
    fprintf(user, "%-20s %-30s %-20s ", d->device_namespace, d->name, d->node[0] ? d->node : "<none>");
    print_cell(user, 10, d->protocol);
    fputc(' ', user);
    print_cell(user, 10, d->state[0] ? d->state : "<unknown>");
    fprintf(user, " %-9s %-7s ", d->api, d->pending ? "yes" : "no");
    print_cell(user, 0, d->reason);
    fputc('\n', user);
    for (uint32_t i = 0; i < d->n_twins; i++) {
        const struct ke_cloud_twin_info *t = d->twins[i];
        fputs("    ", user);
        print_cell(user, 28, t->name);
        fputc(' ', user);
        print_cell(user, 8, t->type);
        fputs(" desired ", user);
        print_cell(user, 20, t->has_desired ? t->desired : "-");
        fputs(" reported ", user);
        print_cell(user, 20, t->has_reported ? t->reported : "-");
        fputs(" seen ", user);
        print_cell(user, 0, t->has_observed ? t->observed : "-");
        fputc('\n', user);
    }
}

static void on_request(void *user, const char *request, FILE *out)
{
    struct ke_cloud *c = user;
    if (strcmp(request, "token") == 0) {
        struct ke_buf token = {0};
        if (ke_cloud_token(c, &token) == 0)
            fprintf(out, "%s\n", token.p);
        ke_buf_free(&token);
    } else if (strcmp(request, "nodes") == 0) {
        fprintf(out, "%-30s %-9s %-10s %-16s %-8s %s\n", "NAME", "STATUS", "LINK", "ADDRESS", "PENDING",
                "VERSION");
        if (ke_cloud_nodes(c, print_node, out) < 0)
            fputs("the cloud is not ready yet\n", out);
    } else if (strcmp(request, "pods") == 0) {
        fprintf(out, "%-20s %-30s %-11s %s %s %-20s %s\n", "NAMESPACE", "NAME", "PHASE", "READY",
                "RESTARTS", "NODE", "REASON");
        if (ke_cloud_pods(c, print_pod, out) < 0)
            fputs("the cloud is not ready yet\n", out);
    } else if (strcmp(request, "devices") == 0) {
        fprintf(out, "%-20s %-30s %-20s %-10s %-10s %-9s %-7s %s\n", "NAMESPACE", "NAME", "NODE",
                "PROTOCOL", "STATE", "API", "PENDING", "REASON");
        if (ke_cloud_devices(c, print_device, out) < 0)
            fputs("the cloud is not ready yet\n", out);
    } else {
        fprintf(out, "request %s is not known\n", request);
    }
}

/* ---- what is logged of nodes and pods: changes only, and they are told of every few seconds ---- */

struct last {
    char key[600];
    char text[400];
};
static void *lasts; /* tree of struct last by key */

static int compare_last(const void *a, const void *b)
{
    return strcmp(((const struct last *)a)->key, ((const struct last *)b)->key);
}

/* Logs "KEY TEXT" if it is new of this key. */
static void log_change(const char *key, const char *text, bool removed)
{
    char line[1000];
    struct last want, *l, **at;
    snprintf(want.key, sizeof want.key, "%s", key);
    at = tfind(&want, &lasts, compare_last);
    l = at ? *at : NULL;
    if (l && strcmp(l->text, text) == 0)
        return;
    snprintf(line, sizeof line, "%s %s", key, text);
    log_line(NULL, KE_LOG_INFO, "cloud", line);
    if (removed) {
        if (l)
            tdelete(&want, &lasts, compare_last);
        free(l);
        return;
    }
    if (!l && (l = malloc(sizeof *l))) {
        memcpy(l->key, want.key, sizeof l->key);
        if (!tsearch(l, &lasts, compare_last)) {
            free(l);
            l = NULL;
        }
    }
    if (l)
        snprintf(l->text, sizeof l->text, "%s", text);
}

static void on_node(void *user, const struct ke_cloud_node_info *n, uint32_t removed)
{
    char key[300], text[100];
    (void)user;
    snprintf(key, sizeof key, "node %s", n->name);
    snprintf(text, sizeof text, "is %s%s", removed ? "removed" : n->status, n->connected ? "" : ", not connected");
    log_change(key, text, removed);
}

static void on_pod(void *user, const struct ke_cloud_pod_info *p, uint32_t removed)
{
    char key[600], text[400];
    (void)user;
    snprintf(key, sizeof key, "pod %s/%s", p->pod_namespace, p->name);
    snprintf(text, sizeof text, "on %s %s %u/%u%s%s", p->node[0] ? p->node : "no node",
             removed ? "removed" : p->deleting ? "Terminating" : p->phase, p->ready, p->containers, p->reason[0] ? " " : "", p->reason);
    log_change(key, text, removed);
}

static void forget_changes(void)
{
    while (lasts) {
        struct last *l = *(struct last **)lasts;
        tdelete(l, &lasts, compare_last);
        free(l);
    }
}

static int exit_code(int r)
{
    switch (r) {
    case KE_EINVAL: return EXIT_USAGE;
    case KE_EEXIST: case KE_EACCES: case KE_EROFS: case KE_EBUSY: case KE_ENOSPC: case KE_ENEWER:
    case KE_ECORRUPT:
    case KE_ENOTFOUND: case KE_EKEY: return EXIT_FILE;
    default: return 1;
    }
}

static int serve(struct ke_ctx *ctx, struct ke_cloud *c, const char *data)
{
    uint32_t tunnel = 0, cert = 0;
    char text[120];
    int r = ke_cloud_start(c);
    if (r == 0)
        r = ke_cloud_ports(c, &tunnel, &cert);
    if (r < 0) {
        fprintf(stderr, "ke-cloud: start: %s (%s)\n", ke_ctx_error(ctx), ke_strerror(r));
        return exit_code(r);
    }
    snprintf(text, sizeof text, "listening: tunnel port %u, certificate port %u", tunnel, cert);
    log_line(NULL, KE_LOG_INFO, "cloud", text);
    struct control *control = control_new(data, on_request, c);
    if (!control)
        fprintf(stderr, "ke-cloud: no control socket in %s: %s\n", data, strerror(errno));
    r = run_loop(ctx, control, NULL, NULL);
    control_free(control);
    ke_cloud_stop(c);
    return r < 0 ? 1 : 0;
}

static int run(struct flags *f)
{
    struct ke_ctx_config cc;
    struct ke_error err = KE_ERROR_INIT;
    struct ke_cloud_ops ops = {.size = sizeof ops, .node = on_node, .pod = on_pod};
    struct ke_cloud *c = NULL;
    struct ke_ctx *ctx = NULL;
    int fd, code;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = log_line;
    cc.log_level = f->level;
    int r = ke_ctx_new(&ctx, &cc, &err);
    if (r < 0) {
        fprintf(stderr, "ke-cloud: %s\n", err.text);
        return 1;
    }
    r = ke_ctx_fd(ctx, &fd); /* this program drives the loop itself */
    if (r == 0)
        r = ke_cloud_new(&c, ctx, &f->set, &ops, NULL);
    if (r < 0) {
        fprintf(stderr, "ke-cloud: configuration: %s (%s)\n", ke_ctx_error(ctx), ke_strerror(r));
        code = exit_code(r);
    } else {
        code = serve(ctx, c, f->set.data);
    }
    ke_cloud_free(c);
    ke_ctx_free(ctx);
    forget_changes();
    return code;
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
    if (argc > optind)
        return usage_error("argument", argv[optind], "is not understood");
    if (!command)
        return run(&f);
    if (strcmp(command, "token") != 0 && strcmp(command, "nodes") != 0 && strcmp(command, "pods") != 0 &&
        strcmp(command, "devices") != 0)
        return usage_error("command", command, "is not token, nodes, pods or devices");
    if (control_ask(f.set.data, command, stdout) == 0)
        return 0;
    fprintf(stderr, "ke-cloud: no cloud answers in %s: %s (does it run? is --data right?)\n", f.set.data,
            strerror(errno));
    return 1;
}
