/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ke-mapper: the drivers of the library at an EdgeCore, upstream's or ours, in a process of their
 * own. Devices come from the EdgeCore; here is only where it is, and which protocol is served.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <kubeedge/drivers.h>
#include <kubeedge/mapper.h>

#include "common.h"

static const char help[] =
    "Usage: ke-mapper --protocol P --socket FILE [FLAGS]\n"
    "       ke-mapper --config FILE [FLAGS]\n"
    "\n"
    "  --config FILE          config.yaml of upstream's mapper framework; flags win over it\n"
    "  --protocol P           modbus, gpio or simulated: the protocolName of the devices\n"
    "  --socket FILE          where it listens, e.g. /etc/kubeedge/modbus.sock\n"
    "  --edge-socket FILE     the EdgeCore's; default /etc/kubeedge/dmi.sock\n"
    "  --name NAME            default PROTOCOL-mapper\n"
    "  --http ADDR:PORT       the HTTP API of upstream's mappers (/api/v1/...), which has no "
    "users;\n"
    "                         default none, with --config 127.0.0.1:7777; none turns it off\n"
    "  --cycle-unit U         of collectCycle and reportCycle: ns (EdgeCore up to 1.16), ms (from\n"
    "                         1.17 on); default: ms below 1,000,000, ns from there on\n"
    "  --changes-only         report a value when it changed, not every reportCycle: with our "
    "node;\n"
    "                         upstream's cloud loses the first report of a property (1.23)\n"
    "  --refresh SECONDS      how often it asks for its devices anew; default 60, 0 never:\n"
    "                         EdgeCore 1.15 tells what changed while it was offline only when "
    "asked\n"
    "  --log-level L          error, warn, info (default) or debug\n"
    "  --version, --help\n"
    "\n"
    "Logs to stderr. Ends with 0 on SIGTERM, 2 for a bad flag, 3 for a bad socket, 1 else.\n";

enum { OPT_VERSION = 256, OPT_CHANGES, OPT_HTTP, OPT_REFRESH };
static const struct option options[] = {{"protocol", 1, 0, 'p'},
                                        {"socket", 1, 0, 's'},
                                        {"edge-socket", 1, 0, 'e'},
                                        {"name", 1, 0, 'n'},
                                        {"cycle-unit", 1, 0, 'u'},
                                        {"changes-only", 0, 0, OPT_CHANGES},
                                        {"log-level", 1, 0, 'l'},
                                        {"version", 0, 0, OPT_VERSION},
                                        {"config", 1, 0, 'c'},
                                        {"config-file", 1, 0, 'c'},
                                        {"refresh", 1, 0, OPT_REFRESH},
                                        {"http", 1, 0, OPT_HTTP},
                                        {"help", 0, 0, 'h'},
                                        {0}};

/* What flags gave, and the file. */
struct flags {
    struct ke_mapper_config set;
    const char *file;
    uint32_t level;
};

static int usage_error(const char *flag, const char *value, const char *what)
{
    fprintf(stderr, "ke-mapper: %s %s: %s (--help shows all flags)\n", flag, value, what);
    return EXIT_USAGE;
}

static int cycle_unit(struct ke_mapper_config *c, const char *text)
{
    static const char *const units[] = {"auto", "ns", "ms"};

    for (uint32_t i = 0; i < 3; i++) {
        if (strcmp(text, units[i]) != 0)
            continue;
        c->cycle_unit = i;
        return 0;
    }
    return usage_error("--cycle-unit", text, "is not ns, ms or auto");
}

static int refresh(struct ke_mapper_config *c, const char *text)
{
    char *end;
    unsigned long s = strtoul(text, &end, 10);

    if (end == text || *end || s > 86400)
        return usage_error("--refresh", text, "is not a number of seconds up to 86400");
    c->refresh_ms = (uint32_t)s * 1000;
    return 0;
}

static int parse_flags(struct flags *f, int argc, char **argv)
{
    struct ke_mapper_config *c = &f->set;
    int opt, r = 0;

    while (r == 0 && (opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (opt) {
        case 'c':
            f->file = optarg;
            break;
        case 'p':
            c->protocol = optarg;
            break;
        case 's':
            c->socket = optarg;
            break;
        case 'e':
            c->edge_socket = optarg;
            break;
        case 'n':
            c->name = optarg;
            break;
        case 'u':
            r = cycle_unit(c, optarg);
            break;
        case OPT_CHANGES:
            c->flags &= ~KE_DEVICES_REPORT_ALWAYS;
            break;
        case OPT_HTTP:
            c->http_listen = strcmp(optarg, "none") == 0 ? "" : optarg;
            if (c->http_listen[0] && !strrchr(optarg, ':'))
                r = usage_error("--http", optarg, "is not ADDRESS:PORT");
            break;
        case OPT_REFRESH:
            r = refresh(c, optarg);
            break;
        case 'l':
            f->level = log_level(optarg);
            r = f->level ? 0
                         : usage_error("--log-level", optarg, "is not error, warn, info or debug");
            break;
        case 'h':
        case OPT_VERSION:
            puts(opt == 'h' ? help : ke_version_string());
            exit(0);
        default:
            r = EXIT_USAGE;
        }
    }
    if (r == 0 && argc > optind)
        r = usage_error("argument", argv[optind], "is not understood");
    return r;
}

/* What flags set wins. */
static int merge(struct ke_mapper_config *c, const struct ke_mapper_config *f)
{
#define TAKE(member)                                                                               \
    if (f->member)                                                                                 \
    c->member = f->member
    TAKE(protocol);
    TAKE(socket);
    TAKE(edge_socket);
    TAKE(name);
    TAKE(cycle_unit);
    TAKE(http_listen);
#undef TAKE
    c->flags = f->flags;
    c->refresh_ms = f->refresh_ms;
    if (!c->protocol || !c->socket)
        return usage_error(c->protocol ? "--socket" : "--protocol", "", "is missing");
    return 0;
}

static void on_unknown_key(void *user, const char *key, uint32_t line)
{
    char text[400];

    snprintf(text, sizeof text, "%.200s:%u: %.100s is not known and has no effect",
             (const char *)user, line, key);
    log_line(NULL, KE_LOG_WARN, "config", text);
}

static int add_driver(struct ke_devices *d, const char *protocol)
{
    if (strcmp(protocol, "modbus") == 0)
        return ke_device_modbus_register(d, NULL);
    if (strcmp(protocol, "gpio") == 0)
        return ke_device_gpio_register(d, NULL);
    if (strcmp(protocol, "simulated") == 0)
        return ke_device_sim_register(d);
    return KE_ENOTFOUND;
}

static int serve(struct ke_ctx *ctx, const struct ke_mapper_config *c)
{
    struct ke_mapper *m = NULL;
    int r = ke_mapper_new(&m, ctx, c);

    if (r == 0)
        r = add_driver(ke_mapper_devices(m), c->protocol);
    if (r == KE_ENOTFOUND) {
        ke_mapper_free(m);
        return usage_error("--protocol", c->protocol, "has no driver here");
    }
    if (r == 0)
        r = ke_mapper_start(m);
    if (r < 0)
        fprintf(stderr, "ke-mapper: %s\n", ke_ctx_error(ctx));
    int status = r < 0 ? EXIT_FILE : run_loop(ctx, NULL, NULL, NULL) < 0;
    ke_mapper_free(m);
    return status;
}

/* With the file, if there is one. */
static int run(struct ke_ctx *ctx, const struct flags *f)
{
    struct ke_mapper_settings *settings = NULL;
    struct ke_mapper_config own, *c = &own;

    ke_mapper_config_init(&own, sizeof own);
    if (f->file) {
        int r = ke_mapper_settings_read(&settings, ctx, f->file, on_unknown_key,
                                        (void *)(uintptr_t)f->file);
        if (r < 0) {
            fprintf(stderr, "ke-mapper: %s\n", ke_ctx_error(ctx));
            return EXIT_FILE;
        }
        c = ke_mapper_settings_config(settings);
    }
    int status = merge(c, &f->set);
    if (status == 0)
        status = serve(ctx, c);
    ke_mapper_settings_free(settings);
    return status;
}

int main(int argc, char **argv)
{
    struct ke_error err = KE_ERROR_INIT;
    struct flags f = {.level = KE_LOG_INFO};
    struct ke_ctx_config cc;
    struct ke_ctx *ctx;

    block_signals();
    ke_mapper_config_init(&f.set, sizeof f.set);
    f.set.flags = KE_DEVICES_REPORT_ALWAYS;
    f.set.refresh_ms = 60000;
    int r = parse_flags(&f, argc, argv);
    if (r != 0)
        return r;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = log_line;
    cc.log_level = f.level;
    if (ke_ctx_new(&ctx, &cc, &err) < 0) {
        fprintf(stderr, "ke-mapper: %s\n", err.text);
        return 1;
    }
    r = run(ctx, &f);
    ke_ctx_free(ctx);
    return r;
}
