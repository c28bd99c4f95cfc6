/* SPDX-License-Identifier: Apache-2.0 */
/* Between reading a mosquitto.conf (mosquitto_conf.c) and making of it (mosquitto_conf_make.c). */
#ifndef MOSQUITTO_CONF_PRIV_H
#define MOSQUITTO_CONF_PRIV_H

#include "mosquitto_conf.h"

#define MC_ADDRESSES_MAX 16

/* ---- what is read; -1 and NULL: not given ---- */

struct security {
    int64_t anonymous;
    const char *password_file, *acl_file;
};

struct raw_listener {
    unsigned line;
    const char *file;
    int64_t port, max_connections, max_qos, max_topic_alias, require_certificate, use_identity,
        use_subject, anonymous;
    const char *host, *path, *mount_point, *cafile, *certfile, *keyfile, *crlfile;
    int family;
    bool websockets, used;
    struct security sec;
};

struct raw_bridge {
    unsigned line;
    const char *file, *name;
    const char *addresses[MC_ADDRESSES_MAX];
    unsigned n_addresses;
    struct ke_bridge_topic *topics;
    unsigned n_topics;
    int64_t clean, notify, notify_local, try_private, insecure, keepalive, retry_min, retry_max,
        version, max_packet;
    const char *client_id, *local_client_id, *user_name, *password, *cafile, *certfile, *keyfile,
        *notify_topic;
};

struct raw_global {
    int64_t per_listener, persistence, max_inflight, max_inflight_bytes, max_queued, max_queued_bytes,
        max_packet, max_payload, max_keepalive, retain_available, sys_interval, queue_qos0,
        upgrade_qos, empty_id, log_time, log_facility, expiry,
        all_connections, all_clients;
    const char *location, *db_file, *pid_file, *user, *auto_id_prefix, *log_format, *log_file;
    unsigned log_dest, log_types;
    bool log_typed;
    struct security sec;
};

struct block;

struct inside {
    struct mosquitto_conf conf; /* first: what the caller has */
    struct block *blocks;
    mc_say_fn say;
    void *user;
    struct raw_global g;
    struct raw_listener *listeners; /* the first is the default one */
    unsigned n_listeners, listener; /* listener: the current one */
    struct raw_bridge *bridges;
    unsigned n_bridges;
    bool follow; /* include_dir */
    /* the line being read */
    const char *file, *key;
    unsigned line;
    int depth;
};

/* Blocks that live as int64_t as the configuration; NULL: no memory. */
void *mc_take(struct inside *in, size_t n);
/* A copy; says so when there is no memory. */
const char *mc_keep_n(struct inside *in, const char *s, size_t n);
const char *mc_keep(struct inside *in, const char *s);
/* -1 for MC_ERROR, else 0 */
int mc_say(struct inside *in, int what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int mc_number(struct inside *in, const char *v, int64_t min, int64_t max, int64_t *to);
/* All is read: fills in->conf. */
int mc_finish(struct inside *in);

#endif
