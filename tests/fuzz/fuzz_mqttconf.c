/* SPDX-License-Identifier: Apache-2.0 */
/* A mosquitto.conf as anybody may write it: refused with a word why, or a configuration. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "examples/programs/mosquitto_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void on_say(void *user, int what, const char *file, unsigned line, const char *text)
{
    int *errors = user;
    MUST(file && text && text[0] && line < 1000000);
    *errors += what == MC_ERROR;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int errors = 0;
    char *copy = malloc(size ? size : 1);
    MUST(copy);
    if (size)
        memcpy(copy, data, size);
    struct mosquitto_conf *c = mosquitto_conf_text("f", copy, size, on_say, &errors);
    MUST((c != NULL) == (errors == 0));
    for (uint32_t i = 0; c && i < c->n_listeners; i++) {
        const struct ke_mqtt_listener *l = &c->listeners[i].l;
        MUST(l->name && l->port >= 1 && l->port <= 65535);
        MUST((l->kind == KE_MQTT_UNIX) == (l->path != NULL));
        bool tls = l->kind == KE_MQTT_TLS || l->kind == KE_MQTT_WSS;
        MUST(tls == (l->cert_file && l->key_file));
        MUST(!(l->flags & KE_MQTT_CERT_REQUIRE) || (tls && l->ca_file));
    }
    for (uint32_t i = 0; c && i < c->n_bridges; i++)
        MUST(c->bridges[i].name && c->bridges[i].host && c->bridges[i].n_topics > 0 &&
             c->bridges[i].topics && c->bridges[i].port >= 1 && c->bridges[i].port <= 65535);
    mosquitto_conf_free(c);
    free(copy);
    return 0;
}
