/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MQTT server by itself, inside of a firmware: devices connect to it, and the firmware is a
 * client of it without a socket. Gives a device its identity, hears what it says, and answers.
 *
 *   cc mqtt_embedded.c $(pkg-config --cflags --libs kubeedge) -o mqtt_embedded
 *   ./mqtt_embedded [PORT [FOLDER]]
 *   mosquitto_pub -p PORT -u pump -P s3cret -i pump-1 -t sensor/pump-1/temperature -m 21.5
 *
 * Ends after a message on sensor/ID/stop. Without PORT it talks to itself and ends at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kubeedge/ctx.h>
#include <kubeedge/mqtt.h>

struct app {
    struct ke_ctx *ctx;
    struct ke_mqtt *mqtt;
};

static struct ke_mqtt_str text(const char *s)
{
    struct ke_mqtt_str v = {s, strlen(s)};
    return v;
}

static void say(struct app *a, const char *topic, const char *payload, uint32_t retain)
{
    struct ke_mqtt_publish p = {.size = sizeof p,
                                .topic = text(topic),
                                .payload = text(payload),
                                .qos = 1,
                                .retain = retain};
    struct ke_error err = KE_ERROR_INIT;
    if (ke_mqtt_publish(a->mqtt, &p, NULL, NULL, &err) < 0)
        fprintf(stderr, "publish %s: %s\n", topic, err.text);
}

/* Runs on the loop, for every message that matches. What it is given is borrowed. */
static void on_message(void *user, const struct ke_mqtt_message *msg)
{
    struct app *a = user;
    printf("%.*s: %.*s%s\n", (int)msg->topic.n, msg->topic.p, (int)msg->payload.n,
           msg->payload.n ? msg->payload.p : "", msg->retain ? " (retained)" : "");
    fflush(stdout);
    if (msg->topic.n >= 5 && memcmp(msg->topic.p + msg->topic.n - 5, "/stop", 5) == 0)
        ke_ctx_stop(a->ctx);
}

static int set_up(struct app *a, const char *port, const char *folder)
{
    struct ke_mqtt_config c;
    struct ke_mqtt_listener l;
    /* the device may speak of itself, and hear commands for itself; %i is its identity */
    const struct ke_mqtt_rule rules[] = {
        {sizeof rules[0], "sensor/%i/#", KE_MQTT_WRITE, 0},
        {sizeof rules[0], "command/%i", KE_MQTT_READ | KE_MQTT_SUBSCRIBE, 0}};
    struct ke_mqtt_identity pump = {.size = sizeof pump,
                                    .name = "pump-1",
                                    .user_name = "pump",
                                    .password = "s3cret",
                                    .rules = rules,
                                    .n_rules = 2};
    struct ke_mqtt_subscribe s = {
        .size = sizeof s, .filter = text("sensor/#"), .message = on_message};
    struct ke_mqtt_sub *sub; /* ends with the server */
    struct ke_error err = KE_ERROR_INIT;

    ke_mqtt_config_init(&c, sizeof c);
    ke_mqtt_listener_init(&l, sizeof l);
    l.host = "127.0.0.1";
    l.port = port ? (uint32_t)atoi(port) : KE_MQTT_PORT_ANY;
    c.listeners = &l;
    c.n_listeners = 1;
    c.data = folder; /* NULL: nothing survives the process */
    int r = ke_mqtt_new(&a->mqtt, a->ctx, &c, NULL, a);
    if (r == 0)
        r = ke_mqtt_start(a->mqtt);
    if (r < 0) {
        fprintf(stderr, "%s (%s)\n", ke_ctx_error(a->ctx), ke_strerror(r));
        return r;
    }
    r = ke_mqtt_identity_set(a->mqtt, &pump, NULL, NULL, &err);
    if (r == 0)
        r = ke_mqtt_subscribe(&sub, a->mqtt, &s, a, &err);
    if (r < 0)
        fprintf(stderr, "%s (%s)\n", err.text, ke_strerror(r));
    return r;
}

int main(int argc, char **argv)
{
    struct app a = {NULL, NULL};
    struct ke_error err = KE_ERROR_INIT;
    uint32_t port = 0;
    int fd, r = ke_ctx_new(&a.ctx, NULL, &err);
    if (r < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    r = ke_ctx_fd(a.ctx, &fd); /* this program runs the loop itself, below */
    if (r == 0)
        r = set_up(&a, argc > 1 ? argv[1] : NULL, argc > 2 ? argv[2] : NULL);
    if (r == 0)
        r = ke_mqtt_port(a.mqtt, 0, &port);
    if (r == 0) {
        printf("serving on 127.0.0.1 port %u\n", (unsigned)port);
        fflush(stdout);
        say(&a, "command/pump-1", "measure", 1);
        if (argc < 2) {
            say(&a, "sensor/self/temperature", "21.5", 0);
            say(&a, "sensor/self/stop", "", 0);
        }
        r = ke_ctx_run(a.ctx);
    }
    ke_mqtt_free(a.mqtt);
    ke_ctx_free(a.ctx);
    return r < 0;
}
