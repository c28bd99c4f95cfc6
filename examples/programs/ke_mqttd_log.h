/* SPDX-License-Identifier: Apache-2.0 */
/* Where the lines of ke-mqttd go: what log_dest, log_type and the like of mosquitto.conf say. */
#ifndef KE_MQTTD_LOG_H
#define KE_MQTTD_LOG_H

#include "mosquitto_conf.h"

/* ke_log_fn; any thread */
void mqttd_log(void *user, uint32_t level, const char *area, const char *text);
/* c NULL: stderr. level 0: what c says, else info. Copies what it needs. */
void mqttd_log_use(const struct mosquitto_conf *c, uint32_t level);
uint32_t mqttd_log_level(void);
void mqttd_log_reopen(void); /* the file, after it was moved away */
void mqttd_log_close(void);

#endif
