/* SPDX-License-Identifier: Apache-2.0 */
/* A real mosquitto for tests: started on a free port of loopback, killed, brought back. */
#ifndef TEST_MQTT_BROKER_H
#define TEST_MQTT_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct broker {
    pid_t pid; /* 0: not running */
    uint16_t port;
    char dir[128];
};

/* false: mosquitto is not installed; the test is to be skipped. */
bool broker_installed(void);
uint16_t broker_free_port(void);
/* more: further lines of its configuration, may be "". Returns when it listens. */
void broker_start(struct broker *b, const char *more);
/* Again on the same port and folder. */
void broker_restart(struct broker *b, const char *more);
void broker_kill(struct broker *b, int signal_number); /* and waits for its end */
void broker_fini(struct broker *b);

#endif
