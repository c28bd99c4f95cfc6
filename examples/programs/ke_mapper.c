/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ke-mapper: the drivers of the library at an EdgeCore, upstream's or ours, in a process of their
 * own. Everything comes from the EdgeCore; here is only where it is, and which protocol is served.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <kubeedge/drivers.h>
#include <kubeedge/mapper.h>

#include "common.h"

static const char help[] =
    "Usage: ke-mapper --protocol P --socket FILE [FLAGS]\n"
    "\n"
    "  --protocol P           modbus, gpio or simulated: the protocolName of the devices\n"
    "  --socket FILE          where it listens, e.g. /etc/kubeedge/modbus.sock\n"
    "  --edge-socket FILE     the EdgeCore's; default /etc/kubeedge/dmi.sock\n"
    "  --name NAME            default PROTOCOL-mapper\n"
    "  --cycle-unit U         of collectCycle and reportCycle: ns (EdgeCore up to 1.16), ms (from\n"
    "                         1.17 on); default: ms below 1,000,000, ns from there on\n"
    "  --changes-only         report a value when it changed, not every reportCycle: with our "
    "node;\n"
    "                         upstream's cloud loses the first report of a property (1.23)\n"
    "  --log-level L          error, warn, info (default) or debug\n"
    "  --version, --help\n"
    "\n"
    "Logs to stderr. Ends with 0 on SIGTERM, 2 for a bad flag, 3 for a bad socket, 1 else.\n";

enum { OPT_VERSION = 256, OPT_CHANGES };
static const struct option options[] = {
    {"protocol", 1, 0, 'p'},    {"socket", 1, 0, 's'},
    {"edge-socket", 1, 0, 'e'}, {"name", 1, 0, 'n'},
    {"cycle-unit", 1, 0, 'u'},  {"changes-only", 0, 0, OPT_CHANGES},
    {"log-level", 1, 0, 'l'},   {"version", 0, 0, OPT_VERSION},
    {"help", 0, 0, 'h'},        {0}};

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

static int parse_flags(struct ke_mapper_config *c, uint32_t *level, int argc, char **argv)
{
    int opt, r = 0;

    while (r == 0 && (opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (opt) {
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
        case 'l':
            *level = log_level(optarg);
            r = *level ? 0
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
    if (r == 0 && (!c->protocol || !c->socket))
        r = usage_error(c->protocol ? "--socket" : "--protocol", "", "is missing");
    return r;
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

int main(int argc, char **argv)
{
    struct ke_error err = KE_ERROR_INIT;
    struct ke_mapper_config c;
    struct ke_ctx_config cc;
    struct ke_ctx *ctx;

    block_signals();
    ke_mapper_config_init(&c, sizeof c);
    c.flags = KE_DEVICES_REPORT_ALWAYS;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = log_line;
    cc.log_level = KE_LOG_INFO;
    int r = parse_flags(&c, &cc.log_level, argc, argv);
    if (r != 0)
        return r;
    if (ke_ctx_new(&ctx, &cc, &err) < 0) {
        fprintf(stderr, "ke-mapper: %s\n", err.text);
        return 1;
    }
    r = serve(ctx, &c);
    ke_ctx_free(ctx);
    return r;
}
