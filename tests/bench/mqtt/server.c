/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mqtt_server PORT [FOLDER]: the MQTT server of the library and nothing else, without limits that a
 * measurement would run into. Memory only without FOLDER. Ends on SIGTERM.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <kubeedge/mqtt.h>

static struct ke_ctx *ctx;

static void on_signal(int n)
{
    (void)n;
    ke_ctx_stop(ctx);
}

static void on_log(void *user, uint32_t level, const char *area, const char *text)
{
    (void)user;
    fprintf(stderr, "%u %s %s\n", level, area, text);
}

int main(int argc, char **argv)
{
    struct ke_ctx_config cc;
    struct ke_mqtt_config c;
    struct ke_mqtt_listener l;
    struct ke_mqtt *m = NULL;
    int fd;
    if (argc < 2)
        return 2;
    ke_ctx_config_init(&cc, sizeof cc);
    cc.log = on_log;
    cc.log_level = KE_LOG_WARN;
    if (ke_ctx_new(&ctx, &cc, NULL) < 0 || ke_ctx_fd(ctx, &fd) < 0)
        return 1;
    ke_mqtt_config_init(&c, sizeof c);
    ke_mqtt_listener_init(&l, sizeof l);
    l.port = (uint32_t)strtoul(argv[1], NULL, 10);
    c.listeners = &l;
    c.n_listeners = 1;
    c.data = argc > 2 ? argv[2] : NULL;
    c.max_connections = c.max_pending = c.max_connect_rate = KE_MQTT_NONE;
    c.max_queued = c.max_queued_all = KE_MQTT_NONE;
    c.max_retained = c.max_client_subscriptions = c.max_keepalive = KE_MQTT_NONE;
    c.max_queued_bytes = c.max_queued_bytes_all = UINT64_MAX;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    if (ke_mqtt_new(&m, ctx, &c, NULL, NULL) < 0 || ke_mqtt_start(m) < 0) {
        fprintf(stderr, "%s\n", ke_ctx_error(ctx));
        return 1;
    }
    int r = ke_ctx_run(ctx);
    ke_mqtt_free(m);
    ke_ctx_free(ctx);
    return r < 0;
}
