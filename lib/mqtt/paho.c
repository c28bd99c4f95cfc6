/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared object around paho-mqtt-c, which keeps its clients, threads and settings for the whole
 * process. Loaded by eventbus_external.c, never linked. Memory is malloc's, as paho's is.
 */
#include "mqtt/paho.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <MQTTAsync.h>

#define PUBLIC __attribute__((visibility("default")))

struct kei_paho {
    MQTTAsync client;
    struct kei_paho_events ev;
    void *user;
    struct kei_paho_config c; /* strings below */
    char *strings;
};

struct sent {
    struct kei_paho *p;
    void *tag;
};

static int say(char text[KEI_PAHO_TEXT], const char *what, int rc)
{
    const char *why = MQTTAsync_strerror(rc);
    snprintf(text, KEI_PAHO_TEXT, "%s: %s (%d)", what, why ? why : "failed", rc);
    return -1;
}

static void why_failed(char text[KEI_PAHO_TEXT], const char *what, const MQTTAsync_failureData *d)
{
    if (d && d->message)
        snprintf(text, KEI_PAHO_TEXT, "%s: %s (%d)", what, d->message, d->code);
    else
        say(text, what, d ? d->code : MQTTASYNC_FAILURE);
}

/* ---- events, on paho's threads ---- */

static void on_lost(void *user, char *cause)
{
    struct kei_paho *p = user;
    p->ev.lost(p->user, cause ? cause : "the broker closed the connection");
}

static int on_message(void *user, char *topic, int topic_n, MQTTAsync_message *m)
{
    struct kei_paho *p = user;
    size_t n = topic_n > 0 ? (size_t)topic_n : strlen(topic); /* 0: it holds no NUL */
    if (!p->ev.message(p->user, topic, n, m->payload, (size_t)m->payloadlen, m->qos, m->retained))
        return 0;
    MQTTAsync_freeMessage(&m);
    MQTTAsync_free(topic);
    return 1;
}

static void on_connect(void *user, MQTTAsync_successData *d)
{
    struct kei_paho *p = user;
    (void)d;
    p->ev.connected(p->user);
}

static void on_connect_failed(void *user, MQTTAsync_failureData *d)
{
    struct kei_paho *p = user;
    char text[KEI_PAHO_TEXT];
    why_failed(text, "connect", d);
    p->ev.failed(p->user, text);
}

static void on_sent(void *user, MQTTAsync_successData *d)
{
    struct sent *s = user;
    (void)d;
    s->p->ev.published(s->p->user, s->tag, 0);
    free(s);
}

static void on_send_failed(void *user, MQTTAsync_failureData *d)
{
    struct sent *s = user;
    (void)d;
    s->p->ev.published(s->p->user, s->tag, 1);
    free(s);
}

static void on_subscribe_failed(void *user, MQTTAsync_failureData *d)
{
    struct kei_paho *p = user;
    char text[KEI_PAHO_TEXT];
    why_failed(text, "subscribe", d);
    p->ev.refused(p->user, text);
}

/* 3.1.1 tells a refusal as a granted QoS of 0x80 */
static void on_subscribed(void *user, MQTTAsync_successData *d)
{
    struct kei_paho *p = user;
    if (d && d->alt.qos == 0x80)
        p->ev.refused(p->user, "the broker refused a subscription");
}

/* ---- calls, on the loop ---- */

static int keep_strings(struct kei_paho *p, const struct kei_paho_config *c)
{
    const char *const from[] = {c->url,      c->client_id,  c->user_name,
                                c->password, c->ca_file,    c->cert_file,
                                c->key_file, c->will_topic, c->will_payload};
    const char **to[] = {&p->c.url,      &p->c.client_id,  &p->c.user_name,
                         &p->c.password, &p->c.ca_file,    &p->c.cert_file,
                         &p->c.key_file, &p->c.will_topic, &p->c.will_payload};
    size_t n = 1;
    p->c = *c;
    for (size_t i = 0; i < sizeof from / sizeof from[0]; i++)
        n += from[i] ? strlen(from[i]) + 1 : 0;
    char *at = p->strings = calloc(1, n);
    if (!at)
        return -1;
    for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) {
        if (!from[i])
            continue;
        size_t len = strlen(from[i]) + 1;
        memcpy(at, from[i], len);
        *to[i] = at;
        at += len;
    }
    return 0;
}

static void destroy(struct kei_paho *p)
{
    if (!p)
        return;
    if (p->client)
        MQTTAsync_destroy(&p->client);
    free(p->strings);
    free(p);
}

static int create(struct kei_paho **ret, const struct kei_paho_config *c,
                  const struct kei_paho_events *ev, void *user, char text[KEI_PAHO_TEXT])
{
    struct kei_paho *p = calloc(1, sizeof *p);
    MQTTAsync_createOptions o = MQTTAsync_createOptions_initializer;
    if (!p || keep_strings(p, c) < 0) {
        destroy(p);
        snprintf(text, KEI_PAHO_TEXT, "out of memory");
        return -1;
    }
    p->ev = *ev;
    p->user = user;
    o.MQTTVersion = MQTTVERSION_3_1_1;
    o.maxBufferedMessages = 1000; /* the sender keeps fewer in flight */
    int rc = MQTTAsync_createWithOptions(&p->client, p->c.url, p->c.client_id,
                                         MQTTCLIENT_PERSISTENCE_NONE, NULL, &o);
    if (rc == MQTTASYNC_SUCCESS)
        rc = MQTTAsync_setCallbacks(p->client, p, on_lost, on_message, NULL);
    if (rc != MQTTASYNC_SUCCESS) {
        say(text, p->c.url, rc);
        destroy(p);
        return -1;
    }
    *ret = p;
    return 0;
}

static int connect_to(struct kei_paho *p, char text[KEI_PAHO_TEXT])
{
    MQTTAsync_connectOptions o = MQTTAsync_connectOptions_initializer;
    MQTTAsync_willOptions will = MQTTAsync_willOptions_initializer;
    MQTTAsync_SSLOptions ssl = MQTTAsync_SSLOptions_initializer;
    o.keepAliveInterval = p->c.keepalive_s;
    o.connectTimeout = p->c.connect_s;
    o.cleansession = p->c.clean;
    o.automaticReconnect = 0;
    o.maxInflight = 100;
    o.username = p->c.user_name;
    o.password = p->c.password;
    o.onSuccess = on_connect;
    o.onFailure = on_connect_failed;
    o.context = p;
    if (p->c.will_topic) {
        will.topicName = p->c.will_topic;
        will.message = p->c.will_payload ? p->c.will_payload : "";
        will.qos = p->c.will_qos;
        will.retained = p->c.will_retain;
        o.will = &will;
    }
    if (p->c.tls) {
        ssl.trustStore = p->c.ca_file;
        ssl.keyStore = p->c.cert_file;
        ssl.privateKey = p->c.key_file;
        ssl.enableServerCertAuth = p->c.verify;
        ssl.verify = p->c.verify;
        ssl.sslVersion = MQTT_SSL_VERSION_TLS_1_2;
        o.ssl = &ssl;
    }
    int rc = MQTTAsync_connect(p->client, &o);
    return rc == MQTTASYNC_SUCCESS ? 0 : say(text, "connect", rc);
}

static int publish(struct kei_paho *p, const char *topic, const void *payload, size_t n, int qos,
                   int retain, void *tag, char text[KEI_PAHO_TEXT])
{
    MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
    struct sent *s = malloc(sizeof *s);
    if (!s || n > INT32_MAX) {
        free(s);
        snprintf(text, KEI_PAHO_TEXT, "out of memory");
        return -1;
    }
    *s = (struct sent){p, tag};
    o.onSuccess = on_sent;
    o.onFailure = on_send_failed;
    o.context = s;
    int rc = MQTTAsync_send(p->client, topic, (int)n, payload, qos, retain, &o);
    if (rc == MQTTASYNC_SUCCESS)
        return 0;
    free(s);
    return say(text, "publish", rc);
}

static int subscribe(struct kei_paho *p, const char *filter, int qos, char text[KEI_PAHO_TEXT])
{
    MQTTAsync_responseOptions o = MQTTAsync_responseOptions_initializer;
    o.onSuccess = on_subscribed;
    o.onFailure = on_subscribe_failed;
    o.context = p;
    int rc = MQTTAsync_subscribe(p->client, filter, qos, &o);
    return rc == MQTTASYNC_SUCCESS ? 0 : say(text, "subscribe", rc);
}

static int unsubscribe(struct kei_paho *p, const char *filter, char text[KEI_PAHO_TEXT])
{
    int rc = MQTTAsync_unsubscribe(p->client, filter, NULL);
    return rc == MQTTASYNC_SUCCESS ? 0 : say(text, "unsubscribe", rc);
}

static void disconnect(struct kei_paho *p)
{
    MQTTAsync_disconnectOptions o = MQTTAsync_disconnectOptions_initializer;
    o.timeout = 0;
    (void)MQTTAsync_disconnect(p->client, &o);
}

PUBLIC const struct kei_paho_module *kei_paho_module(void)
{
    static const struct kei_paho_module module = {
        .version = KEI_PAHO_VERSION,
        .create = create,
        .connect = connect_to,
        .publish = publish,
        .subscribe = subscribe,
        .unsubscribe = unsubscribe,
        .disconnect = disconnect,
        .destroy = destroy,
    };
    return &module;
}
