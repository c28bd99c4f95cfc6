/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from other threads, and from inside of callbacks: run on the loop in the order they came.
 */
#ifndef KEI_MQTT_CALLS_H
#define KEI_MQTT_CALLS_H

#include "mqtt/server.h"

struct mq_call {
    struct mq_call *next;
    void (*fn)(struct ke_mqtt *m, struct mq_call *call); /* frees it */
};
void kei_mq_call(struct ke_mqtt *m, struct mq_call *call); /* any thread */

#endif
