/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mosquitto.conf, read into the configuration of ke_mqtt and ke_bridge. All that the result points
 * to lives until mosquitto_conf_free. Not part of the library: firmware that wants to read such a
 * file copies these two files; they need the public headers and libc only.
 */
#ifndef MOSQUITTO_CONF_H
#define MOSQUITTO_CONF_H

#include <stdbool.h>

#include <kubeedge/bridge.h>
#include <kubeedge/mqtt.h>

#define MC_ERROR 1 /* the file is refused */
#define MC_WARN 2  /* a key that is not known, or has no counterpart here */
/* line 0: no line in particular */
typedef void (*mc_say_fn)(void *user, int what, const char *file, unsigned line, const char *text);

/* log_dest */
#define MC_LOG_STDERR 1u
#define MC_LOG_STDOUT 2u
#define MC_LOG_SYSLOG 4u
#define MC_LOG_FILE 8u
#define MC_LOG_NONE 16u

struct mc_listener {
    struct ke_mqtt_listener l; /* host NULL: every address of the family */
    int family;                /* 0: any, 4, 6 */
    unsigned line;             /* 0: the default one */
};

struct mosquitto_conf {
    struct ke_mqtt_config mqtt; /* without listeners */
    struct mc_listener *listeners;
    uint32_t n_listeners;
    bool local_only;    /* no listener or port is named: loopback, port 1883, for everybody */
    uint32_t anonymous; /* what allow_anonymous asks for, as flag of a listener */
    struct ke_bridge_config *bridges;
    uint32_t n_bridges;
    const char *data; /* folder, if persistence is wanted; NULL: memory only */
    const char *pid_file, *user;
    uint32_t log_dest;                 /* 0: not said */
    uint32_t log_level;                /* KE_LOG_*; 0: not said, or none */
    bool log_quiet;                    /* log_type none */
    const char *log_file, *log_format; /* format: of strftime */
    bool log_time;
    int log_facility; /* local0 to local7; -1: daemon */
    void *inside;     /* memory, and what was read */
};

/*
 * Reads a file, and those of its include_dirs. NULL: refused, say was called with MC_ERROR.
 * Warnings come by say, too.
 */
struct mosquitto_conf *mosquitto_conf_read(const char *path, mc_say_fn say, void *user);
/* The same from memory; name stands in messages. include_dir is not followed. */
struct mosquitto_conf *mosquitto_conf_text(const char *name, const char *text, size_t n,
                                           mc_say_fn say, void *user);
void mosquitto_conf_free(struct mosquitto_conf *c); /* NULL is fine */

#endif
