/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the library and the shared object that holds paho-mqtt-c: one table of calls, one of
 * events, no type of paho's. Events come on paho's threads, with its lock held: they must not block
 * and must not call back.
 */
#ifndef KEI_MQTT_PAHO_H
#define KEI_MQTT_PAHO_H

#include <stddef.h>
#include <stdint.h>

#define KEI_PAHO_VERSION 1u
#define KEI_PAHO_SYMBOL "kei_paho_module"
#define KEI_PAHO_TEXT 256

struct kei_paho_events {
    void (*connected)(void *user);
    void (*failed)(void *user, const char *text); /* a connect */
    void (*lost)(void *user, const char *text);
    /* 0: not taken, paho gives it again a little later */
    int (*message)(void *user, const char *topic, size_t topic_n, const void *payload, size_t n,
                   int qos, int retain);
    /* the publish with this tag is done (0) or failed */
    void (*published)(void *user, void *tag, int failed);
    void (*refused)(void *user, const char *text); /* a subscription */
};

struct kei_paho_config {
    const char *url, *client_id;
    const char *user_name, *password; /* NULL: none */
    const char *ca_file, *cert_file, *key_file;
    const char *will_topic, *will_payload; /* NULL: none */
    int will_qos, will_retain;
    int keepalive_s, connect_s;
    int clean, tls, verify;
};

struct kei_paho;

struct kei_paho_module {
    uint32_t version;
    uint32_t reserved;
    /* All return 0 or -1 with text. */
    int (*create)(struct kei_paho **ret, const struct kei_paho_config *c,
                  const struct kei_paho_events *ev, void *user, char text[KEI_PAHO_TEXT]);
    int (*connect)(struct kei_paho *p, char text[KEI_PAHO_TEXT]);
    int (*publish)(struct kei_paho *p, const char *topic, const void *payload, size_t n, int qos,
                   int retain, void *tag, char text[KEI_PAHO_TEXT]);
    int (*subscribe)(struct kei_paho *p, const char *filter, int qos, char text[KEI_PAHO_TEXT]);
    int (*unsubscribe)(struct kei_paho *p, const char *filter, char text[KEI_PAHO_TEXT]);
    void (*disconnect)(struct kei_paho *p); /* no event follows but lost or failed */
    void (*destroy)(struct kei_paho *p);    /* no event after it */
};

/* what the shared object exports */
const struct kei_paho_module *kei_paho_module(void);

#endif
