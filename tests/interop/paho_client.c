/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of paho-mqtt-c for test_mqtt_clients.py: paho_client URL 4|5 CAFILE|-. Subscribes, publishes
 * with each QoS, hears all of it in order; exits 0.
 */
#include <MQTTClient.h>
#include <stdio.h>
#include <string.h>

#define N 20
#define TOPIC "paho/c"

static int fail(const char *what, int rc)
{
    fprintf(stderr, "%s: %d\n", what, rc);
    return 1;
}

static int hear(MQTTClient c)
{
    for (int i = 0; i < N; i++) {
        char *topic = NULL, want[16];
        int n = 0;
        MQTTClient_message *m = NULL;
        int rc = MQTTClient_receive(c, &topic, &n, &m, 20000);
        if (rc < 0 || !m)
            return fail("receive", rc);
        snprintf(want, sizeof want, "message %d", i);
        if (strcmp(topic, TOPIC) != 0 || m->payloadlen != (int)strlen(want) ||
            memcmp(m->payload, want, strlen(want)) != 0 || m->qos != i % 3)
            return fail("another message than was due", i);
        MQTTClient_freeMessage(&m);
        MQTTClient_free(topic);
    }
    return 0;
}

static int talk(MQTTClient c, int v5)
{
    int rc = v5 ? MQTTClient_subscribe5(c, TOPIC, 2, NULL, NULL).reasonCode : MQTTClient_subscribe(c, TOPIC, 2);
    if (rc != (v5 ? 2 : 0))
        return fail("subscribe", rc);
    for (int i = 0; i < N; i++) {
        char text[16];
        MQTTClient_message m = MQTTClient_message_initializer;
        MQTTClient_deliveryToken token;
        m.payloadlen = snprintf(text, sizeof text, "message %d", i);
        m.payload = text;
        m.qos = i % 3;
        if (v5)
            rc = MQTTClient_publishMessage5(c, TOPIC, &m, &token).reasonCode;
        else
            rc = MQTTClient_publishMessage(c, TOPIC, &m, &token);
        if (rc != 0 || (rc = MQTTClient_waitForCompletion(c, token, 20000)) != 0)
            return fail("publish", rc);
    }
    return hear(c);
}

int main(int argc, char **argv)
{
    MQTTClient c;
    MQTTClient_SSLOptions ssl = MQTTClient_SSLOptions_initializer;
    if (argc != 4)
        return 2;
    int v5 = argv[2][0] == '5';
    MQTTClient_connectOptions o = MQTTClient_connectOptions_initializer;
    MQTTClient_connectOptions o5 = MQTTClient_connectOptions_initializer5;
    MQTTClient_createOptions make = MQTTClient_createOptions_initializer;
    make.MQTTVersion = v5 ? MQTTVERSION_5 : MQTTVERSION_3_1_1;
    if (v5)
        o = o5;
    if (strcmp(argv[3], "-") != 0) {
        ssl.trustStore = argv[3];
        ssl.enableServerCertAuth = 1;
        ssl.verify = 1;
        o.ssl = &ssl;
    }
    int rc = MQTTClient_createWithOptions(&c, argv[1], "paho-c", MQTTCLIENT_PERSISTENCE_NONE, NULL, &make);
    if (rc != 0)
        return fail("create", rc);
    rc = v5 ? MQTTClient_connect5(c, &o, NULL, NULL).reasonCode : MQTTClient_connect(c, &o);
    if (rc != 0)
        return fail("connect", rc);
    rc = talk(c, v5);
    if (v5)
        MQTTClient_disconnect5(c, 1000, 0, NULL);
    else
        MQTTClient_disconnect(c, 1000);
    MQTTClient_destroy(&c);
    return rc;
}
