/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of one's own in a node: a device of protocol "lamp" is a file of this machine that holds
 * one number per line, one for each property. Stands for whatever the firmware's IO is; IO that
 * takes its time is completed later, from any thread. Press Enter to end.
 *
 *     custom_driver NAME CLOUD_HOST TOKEN FOLDER
 *     cc custom_driver.c $(pkg-config --cflags --libs kubeedge)
 *
 * In the cloud: a DeviceModel, and a Device with protocolName lamp, configData {"file":
 * "/tmp/lamp"} and visitors {"protocolName": "lamp", "configData": {"line": 0}}.
 */
#include <stdio.h>
#include <stdlib.h>

#include <kubeedge/kubeedge.h>

#define LINES 16

struct lamp {
    char file[200];
    int64_t line_of[LINES]; /* by property */
};

static struct ke_devices *devices; /* what to complete to */

static void attach(void *user, struct ke_devices *d)
{
    (void)user;
    devices = d;
}

static int open_lamp(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
{
    struct lamp *l = calloc(1, sizeof *l);
    (void)user;
    *ret_dev = l; /* also when the opening fails: close follows */
    if (!l)
        return KE_ENOMEM;
    if (c->n_properties > LINES ||
        ke_device_config_str(c->config, c->config_len, "file", l->file, sizeof l->file) < 0)
        return KE_EINVAL; /* not tried again before the object changes */
    for (uint32_t i = 0; i < c->n_properties; i++) {
        const struct ke_device_property *p = &c->properties[i]; /* p->index == i */
        int r = ke_device_config_i64(p->visitor, p->visitor_len, "line", &l->line_of[i]);
        if (r < 0 || l->line_of[i] < 0 || l->line_of[i] >= LINES)
            return KE_EINVAL;
    }
    return ke_device_complete(devices, op, 0, NULL);
}

static int close_lamp(void *user, void *dev, uint64_t op)
{
    (void)user;
    free(dev);
    return ke_device_complete(devices, op, 0, NULL);
}

static int load(const struct lamp *l, long long lines[LINES])
{
    FILE *f = fopen(l->file, "r");
    for (int i = 0; i < LINES; i++)
        if (!f || fscanf(f, "%lld", &lines[i]) != 1)
            lines[i] = 0;
    return f ? fclose(f) : -1;
}

static int read_lamp(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n)
{
    struct lamp *l = dev;
    struct ke_device_value v[LINES] = {{0}};
    struct ke_device_result r = {.size = sizeof r, .values = v, .n_values = n};
    long long lines[LINES];
    (void)user;
    if (load(l, lines) < 0) { /* lost: it counts as offline, and is opened again after a pause */
        r.text = "its file is not there", r.n_values = 0;
        return ke_device_complete(devices, op, KE_EIO, &r);
    }
    for (uint32_t i = 0; i < n; i++) {
        v[i].size = sizeof v[i];
        v[i].property = properties[i];
        v[i].kind = KE_DEVICE_KIND_INT;
        v[i].i = lines[l->line_of[properties[i]]];
    }
    return ke_device_complete(devices, op, 0, &r);
}

static int write_lamp(void *user, void *dev, uint64_t op, const struct ke_device_value *v,
                      uint32_t n)
{
    struct lamp *l = dev;
    long long lines[LINES];
    (void)user;
    (void)load(l, lines);
    for (uint32_t i = 0; i < n; i++)
        lines[l->line_of[v[i].property]] = v[i].i;
    FILE *f = fopen(l->file, "w");
    for (int i = 0; f && i < LINES; i++)
        fprintf(f, "%lld\n", lines[i]);
    return ke_device_complete(devices, op, f && fclose(f) == 0 ? 0 : KE_EIO, NULL);
}

static void on_devices(void *user, struct ke_twin *twin, struct ke_devices *d)
{
    static const struct ke_device_ops lamp = {.size = sizeof lamp,
                                              .attach = attach,
                                              .open = open_lamp,
                                              .close = close_lamp,
                                              .read = read_lamp,
                                              .write = write_lamp};
    (void)user, (void)twin;
    if (d && ke_device_driver_register(d, "lamp", &lamp, NULL) < 0)
        fprintf(stderr, "the driver could not be registered\n");
}

int main(int argc, char **argv)
{
    struct ke_node_ops ops = {.size = sizeof ops, .devices = on_devices};
    struct ke_node_config c;
    struct ke_ctx *ctx;
    struct ke_node *node = NULL;
    if (argc < 5 || ke_ctx_new(&ctx, NULL, NULL) < 0)
        return 2;
    ke_node_config_init(&c, sizeof c);
    c.name = argv[1], c.cloud_host = argv[2], c.token = argv[3], c.data = argv[4];
    c.tunnel_port = argc > 6 ? (uint32_t)atoi(argv[5]) : 0;
    c.cert_port = argc > 6 ? (uint32_t)atoi(argv[6]) : 0;
    int r = ke_node_new(&node, ctx, &c, &ops, NULL);
    if (r == 0 && (r = ke_node_start(node)) == 0)
        getchar(); /* the rest of the firmware goes here */
    if (r < 0)
        fprintf(stderr, "%s\n", ke_ctx_error(ctx));
    ke_node_free(node);
    ke_ctx_free(ctx);
    return r < 0;
}
