/* SPDX-License-Identifier: Apache-2.0 */
/* mosquitto.conf: every key where it belongs, and what is said of a wrong one. */
#include <sys/stat.h>
#include <unistd.h>

#include "support/support.h"

#include "examples/programs/mosquitto_conf.h"

struct said {
    char text[4000];
    int errors, warnings;
};

static void on_say(void *user, int what, const char *file, unsigned line, const char *text)
{
    struct said *s = user;
    size_t n = strlen(s->text);
    snprintf(s->text + n, sizeof s->text - n, "%s:%u: %s\n", file, line, text);
    if (what == MC_ERROR)
        s->errors++;
    else
        s->warnings++;
}

static struct mosquitto_conf *parse(const char *text, struct said *s)
{
    memset(s, 0, sizeof *s);
    return mosquitto_conf_text("m.conf", text, strlen(text), on_say, s);
}

static struct mosquitto_conf *good(const char *text)
{
    struct said s;
    struct mosquitto_conf *c = parse(text, &s);
    if (!c || s.errors || s.warnings)
        fail_msg("%s", s.text);
    return c;
}

static void test_nothing(void **state)
{
    (void)state;
    struct mosquitto_conf *c = good("# nothing\n\n");
    assert_true(c->local_only);
    assert_int_equal(c->n_listeners, 0);
    assert_int_equal(c->anonymous, KE_MQTT_ANONYMOUS);
    assert_int_equal(c->mqtt.flags, 0);
    assert_null(c->data);
    assert_int_equal(c->log_dest, 0);
    assert_true(c->log_time);
    mosquitto_conf_free(c);
    c = good("allow_anonymous false\r\n");
    assert_true(c->local_only);
    assert_int_equal(c->anonymous, KE_MQTT_NO_ANONYMOUS);
    mosquitto_conf_free(c);
    mosquitto_conf_free(NULL);
}

static void test_globals(void **state)
{
    (void)state;
    struct mosquitto_conf *c = good("max_inflight_messages 7\n"
                                    "max_inflight_bytes 5000\n"
                                    "max_queued_messages  0\n"
                                    "max_queued_bytes 123456\n"
                                    "max_packet_size 1000\n"
                                    "message_size_limit 900\n"
                                    "max_keepalive 99\n"
                                    "retain_available false\n"
                                    "allow_zero_length_clientid 0\n"
                                    "auto_id_prefix  my id-\n"
                                    "queue_qos0_messages true\n"
                                    "upgrade_outgoing_qos 1\n"
                                    "sys_interval 0\n"
                                    "persistent_client_expiration 2w\n"
                                    "persistence true\n"
                                    "persistence_location /var/lib/m\n"
                                    "autosave_interval 5\n"
                                    "set_tcp_nodelay true\n"
                                    "password_file /p w\n"
                                    "acl_file /a\n"
                                    "pid_file /run/x.pid\n"
                                    "user nobody\n"
                                    "log_dest file /var/log/x\n"
                                    "log_dest syslog\n"
                                    "log_type error\nlog_type warning\n"
                                    "log_timestamp false\n"
                                    "log_timestamp_format %H:%M\n"
                                    "log_facility 3\n");
    const struct ke_mqtt_config *m = &c->mqtt;
    assert_int_equal(m->max_inflight, 7);
    assert_int_equal(m->receive_max, 7);
    assert_int_equal(m->max_inflight_bytes, 5000);
    assert_int_equal(m->max_queued, KE_MQTT_NONE);
    assert_int_equal(m->max_queued_bytes, 123456);
    assert_int_equal(m->max_packet, 1000);
    assert_int_equal(m->max_payload, 900);
    assert_int_equal(m->max_keepalive, 99);
    assert_int_equal(m->flags, KE_MQTT_NO_RETAIN | KE_MQTT_NO_EMPTY_ID | KE_MQTT_QUEUE_QOS0 |
                                   KE_MQTT_UPGRADE_QOS | KE_MQTT_NO_SYS | KE_MQTT_REFUSE_KEEPALIVE);
    assert_string_equal(m->auto_id_prefix, "my id-");
    assert_int_equal(m->max_session_expiry, 14 * 86400);
    assert_string_equal(m->password_file, "/p w");
    assert_string_equal(m->acl_file, "/a");
    assert_string_equal(c->data, "/var/lib/m/mosquitto.db.d");
    assert_string_equal(c->pid_file, "/run/x.pid");
    assert_string_equal(c->user, "nobody");
    assert_int_equal(c->log_dest, MC_LOG_FILE | MC_LOG_SYSLOG);
    assert_string_equal(c->log_file, "/var/log/x");
    assert_int_equal(c->log_level, KE_LOG_WARN);
    assert_false(c->log_time);
    assert_string_equal(c->log_format, "%H:%M");
    assert_int_equal(c->log_facility, 3);
    mosquitto_conf_free(c);

    c = good("global_max_connections 7\nglobal_max_clients 9\nallow_anonymous true\n"
             "listener 1\nlistener 2\nlistener_allow_anonymous false\n");
    assert_int_equal(c->mqtt.max_connections, 7);
    assert_int_equal(c->mqtt.max_sessions, 9);
    assert_int_equal(c->listeners[0].l.flags, KE_MQTT_ANONYMOUS);
    assert_int_equal(c->listeners[1].l.flags, KE_MQTT_NO_ANONYMOUS);
    mosquitto_conf_free(c);
    c = good("global_max_connections -1\n");
    assert_int_equal(c->mqtt.max_connections, 0);
    mosquitto_conf_free(c);
    c = good("max_keepalive 0\n"); /* any */
    assert_int_equal(c->mqtt.max_keepalive, KE_MQTT_NONE);
    assert_int_equal(c->mqtt.flags, 0);
    mosquitto_conf_free(c);
    c = good("persistence true\npersistence_location /x/\npersistence_file my.db\nlog_type none\n"
             "persistent_client_expiration 1000y\nmax_queued_bytes 0\n");
    assert_string_equal(c->data, "/x/my.db.d");
    assert_true(c->log_quiet);
    assert_int_equal(c->mqtt.max_session_expiry, 136u * 31536000u); /* the most that can be said */
    assert_true(c->mqtt.max_queued_bytes == UINT64_MAX);
    mosquitto_conf_free(c);
    c = good("max_queued_messages 0\n"); /* then no bytes count, as with mosquitto */
    assert_true(c->mqtt.max_queued_bytes == UINT64_MAX);
    mosquitto_conf_free(c);
    c = good("");
    assert_int_equal(c->mqtt.max_queued_bytes, 0); /* the default */
    mosquitto_conf_free(c);
}

static void test_listeners(void **state)
{
    (void)state;
    struct mosquitto_conf *c = good("bind_address 10.0.0.1\n"
                                    "port 1884\n"
                                    "max_connections 5\n"
                                    "listener 1885\n"
                                    "protocol websockets\n"
                                    "socket_domain ipv6\n"
                                    "max_qos 1\n"
                                    "max_topic_alias 0\n"
                                    "mount_point room/1/\n"
                                    "listener 0 /run/mqtt sock\n"
                                    "max_connections -1\n"
                                    "listener 8883 localhost\n"
                                    "certfile /c\nkeyfile /k\ncafile /ca\ncrlfile /crl\n"
                                    "require_certificate true\nuse_identity_as_username true\n"
                                    "use_subject_as_username true\n"
                                    "tls_version tlsv1.2\n"
                                    "listener 8884 localhost\n"
                                    "certfile /c\nkeyfile /k\ncafile /ca\n"
                                    "require_certificate true\nuse_subject_as_username true\n"
                                    "protocol websockets\n");
    assert_false(c->local_only);
    assert_int_equal(c->n_listeners, 5);
    const struct ke_mqtt_listener *l = &c->listeners[0].l;
    assert_string_equal(l->name, "1884 10.0.0.1");
    assert_string_equal(l->host, "10.0.0.1");
    assert_int_equal(l->port, 1884);
    assert_int_equal(l->max_connections, 5);
    assert_int_equal(l->kind, KE_MQTT_TCP);
    assert_int_equal(l->flags, KE_MQTT_NO_ANONYMOUS);
    l = &c->listeners[1].l;
    assert_string_equal(l->name, "1885");
    assert_null(l->host);
    assert_int_equal(l->kind, KE_MQTT_WS);
    assert_int_equal(c->listeners[1].family, 6);
    assert_int_equal(l->flags, KE_MQTT_NO_ANONYMOUS | KE_MQTT_MAX_QOS_1);
    assert_int_equal(l->max_topic_alias, KE_MQTT_NONE);
    assert_string_equal(l->mount_point, "room/1/");
    l = &c->listeners[2].l;
    assert_int_equal(l->kind, KE_MQTT_UNIX);
    assert_string_equal(l->path, "/run/mqtt sock");
    assert_int_equal(l->max_connections, 0);
    l = &c->listeners[3].l;
    assert_int_equal(l->kind, KE_MQTT_TLS);
    assert_string_equal(l->cert_file, "/c");
    assert_string_equal(l->key_file, "/k");
    assert_string_equal(l->ca_file, "/ca");
    assert_string_equal(l->crl_file, "/crl");
    assert_int_equal(l->flags, KE_MQTT_NO_ANONYMOUS | KE_MQTT_CERT_REQUIRE | KE_MQTT_CERT_USER);
    l = &c->listeners[4].l;
    assert_int_equal(l->kind, KE_MQTT_WSS);
    assert_int_equal(l->flags, KE_MQTT_NO_ANONYMOUS | KE_MQTT_CERT_REQUIRE | KE_MQTT_CERT_SUBJECT);
    mosquitto_conf_free(c);
}

static void test_per_listener(void **state)
{
    (void)state;
    struct mosquitto_conf *c = good("per_listener_settings true\n"
                                    "password_file /p0\n"
                                    "listener 1\n"
                                    "allow_anonymous true\n"
                                    "listener 2\n"
                                    "acl_file /a2\n"
                                    "allow_anonymous false\n"
                                    "listener 3\n"
                                    "password_file /p3\n");
    assert_int_equal(c->n_listeners, 4);
    static const uint32_t flags[] = {KE_MQTT_NO_ANONYMOUS, KE_MQTT_ANONYMOUS, KE_MQTT_NO_ANONYMOUS,
                                     KE_MQTT_NO_ANONYMOUS};
    for (int i = 0; i < 4; i++)
        assert_int_equal(c->listeners[i].l.flags, flags[i]);
    assert_string_equal(c->listeners[0].l.password_file, "/p0");
    assert_int_equal(c->listeners[0].l.port, 1883);
    assert_null(c->listeners[1].l.password_file);
    assert_string_equal(c->listeners[2].l.acl_file, "/a2");
    assert_string_equal(c->listeners[3].l.password_file, "/p3");
    assert_null(c->mqtt.password_file);
    mosquitto_conf_free(c);

    c = good("listener 1\nallow_anonymous true\nlistener 2\npassword_file /p\n");
    assert_int_equal(c->listeners[0].l.flags, KE_MQTT_ANONYMOUS); /* for all */
    assert_int_equal(c->listeners[1].l.flags, KE_MQTT_ANONYMOUS);
    assert_string_equal(c->mqtt.password_file, "/p");
    mosquitto_conf_free(c);
}

static void test_bridges(void **state)
{
    (void)state;
    struct mosquitto_conf *c = good("connection up\n"
                                    "address example.com:1884 [::1]:99 third\n"
                                    "topic # both 2 local/ remote/\n"
                                    "topic a/b\n"
                                    "topic \"\" in 1 l r # a comment\n"
                                    "topic x OUT 0 \"\" r/\n"
                                    "bridge_protocol_version mqttv50\n"
                                    "remote_clientid cid\nlocal_clientid lid\n"
                                    "remote_username u\nremote_password p w\n"
                                    "keepalive_interval 33\nrestart_timeout 2 9\n"
                                    "cleansession true\ntry_private false\nnotifications false\n"
                                    "bridge_cafile /ca\nbridge_certfile /c\nbridge_keyfile /k\n"
                                    "start_type automatic\n"
                                    "connection two\n"
                                    "addresses 10.0.0.1\n"
                                    "username u2\n"
                                    "clientid c2\n"
                                    "notifications_local_only true\n"
                                    "notification_topic n/t\n"
                                    "topic b in\n");
    assert_int_equal(c->n_bridges, 2);
    const struct ke_bridge_config *b = &c->bridges[0];
    assert_string_equal(b->name, "up");
    assert_string_equal(b->host, "example.com");
    assert_int_equal(b->port, 1884);
    assert_int_equal(b->n_more_hosts, 2);
    assert_string_equal(b->more_hosts[0], "[::1]:99");
    assert_string_equal(b->more_hosts[1], "third");
    assert_int_equal(b->n_topics, 4);
    assert_string_equal(b->topics[0].pattern, "#");
    assert_int_equal(b->topics[0].direction, KE_BRIDGE_BOTH);
    assert_int_equal(b->topics[0].qos, 2);
    assert_string_equal(b->topics[0].local_prefix, "local/");
    assert_string_equal(b->topics[0].remote_prefix, "remote/");
    assert_int_equal(b->topics[1].direction, KE_BRIDGE_OUT);
    assert_null(b->topics[1].local_prefix);
    assert_string_equal(b->topics[2].pattern, "");
    assert_int_equal(b->topics[2].direction, KE_BRIDGE_IN);
    assert_string_equal(b->topics[2].remote_prefix, "r");
    assert_string_equal(b->topics[3].local_prefix, "");
    assert_string_equal(b->topics[3].remote_prefix, "r/");
    assert_int_equal(b->version, 5);
    assert_string_equal(b->client_id, "cid");
    assert_string_equal(b->local_client_id, "lid");
    assert_string_equal(b->user_name, "u");
    assert_string_equal(b->password, "p w");
    assert_int_equal(b->keepalive, 33);
    assert_int_equal(b->retry_min_ms, 2000);
    assert_int_equal(b->retry_max_ms, 9000);
    assert_int_equal(b->flags,
                     KE_BRIDGE_CLEAN | KE_BRIDGE_NO_PRIVATE | KE_BRIDGE_NO_NOTIFY | KE_BRIDGE_TLS);
    assert_string_equal(b->ca_file, "/ca");
    assert_string_equal(b->cert_file, "/c");
    b = &c->bridges[1];
    assert_string_equal(b->host, "10.0.0.1");
    assert_int_equal(b->port, 1883);
    assert_int_equal(b->version, 4);
    assert_string_equal(b->client_id, "c2");
    assert_string_equal(b->user_name, "u2");
    assert_string_equal(b->notify_topic, "n/t");
    assert_int_equal(b->flags, KE_BRIDGE_NOTIFY_LOCAL);
    assert_int_equal(b->topics[0].direction, KE_BRIDGE_IN);
    assert_true(c->local_only);
    mosquitto_conf_free(c);
    char host[256] = "", id[300];
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    snprintf(id, sizeof id, "%s.up", host);
    c = good("connection up\naddress 10.0.0.1\ntopic # in\n");
    assert_string_equal(c->bridges[0].client_id, id);
    mosquitto_conf_free(c);
}

static void test_warnings(void **state)
{
    (void)state;
    struct said s;
    struct mosquitto_conf *c = parse("bogus 1\nport 1\n\nmemory_limit 5\nauth_opt_x y\n"
                                     "log_dest topic\ntls_version tlsv1.1\nport 2\n",
                                     &s);
    assert_non_null(c);
    assert_int_equal(s.errors, 0);
    assert_string_equal(s.text, "m.conf:1: bogus is not known\n"
                                "m.conf:4: memory_limit has no counterpart here\n"
                                "m.conf:5: auth_opt_x has no counterpart here\n"
                                "m.conf:6: log_dest topic has no counterpart here\n"
                                "m.conf:7: tls_version is tlsv1.1: TLS 1.2 is the least that is "
                                "spoken here\n"
                                "m.conf:8: port is given twice: the last one counts\n");
    assert_int_equal(c->listeners[0].l.port, 2);
    mosquitto_conf_free(c);
}

static void test_errors(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"port\n", "m.conf:1: port has no value"},
        {"\nport 0\n", "m.conf:2: port is \"0\": no number from 1 to 65535"},
        {"port 1883x\n", "no number"},
        {"port 99999999999999999999\n", "no number"},
        {"listener\n", "listener has no value"},
        {"listener 0\n", "path of a unix socket"},
        {"listener 1\nlistener 1\n", "m.conf:2: listener 1 is there twice"},
        {"allow_anonymous maybe\n", "neither true nor false"},
        {"pid_file a\npid_file b\n", "m.conf:2: pid_file is given twice"},
        {"acl_file\n", "acl_file has no value"},
        {"max_qos 3\n", "max_qos is \"3\": no number from 0 to 2"},
        {"max_keepalive 9\n", "from 10 to 65535"},
        {"max_packet_size 19\n", "from 20"},
        {"protocol mqttsn\n", "neither mqtt nor websockets"},
        {"socket_domain ipx\n", "neither ipv4 nor ipv6"},
        {"tls_version sslv3\n", "not tlsv1.3"},
        {"log_dest moon\n", "log_dest is \"moon\""},
        {"log_dest file\n", "has no value"},
        {"log_type loud\n", "none of its types"},
        {"persistent_client_expiration 5\n", "h, d, w, m or y"},
        {"persistent_client_expiration -5d\n", "h, d, w, m or y"},
        {"psk_hint x\n", "pre-shared keys are not supported"},
        {"listener 1\ncertfile a\n", "only one of certfile and keyfile"},
        {"listener 1\nrequire_certificate true\n", "need certfile and keyfile"},
        {"listener 1\ncertfile a\nkeyfile b\nrequire_certificate true\n", "needs a cafile"},
        {"listener 0 /x\nprotocol websockets\n", "unix socket"},
        {"address a\n", "stands before any connection"},
        {"topic a\n", "stands before any connection"},
        {"connection\n", "has no value"},
        {"connection a\naddress b\n", "m.conf:1: connection a has no topic"},
        {"connection a\ntopic b\n", "connection a has no address"},
        {"connection a\naddress b\nconnection a\n", "connection a is there twice"},
        {"connection a\naddress b\naddress c\n", "given twice"},
        {"connection a\naddress b:0\ntopic x\n", "no number from 1 to 65535"},
        {"connection a\naddress b\ntopic x sideways\n", "\"sideways\""},
        {"connection a\naddress b\ntopic x in 3\n", "from 0 to 2"},
        {"connection a\naddress b\ntopic x\nremote_password p\n", "password and no user name"},
        {"connection a\naddress b\ntopic x\nrestart_timeout 9 2\n", "2 is less than 9"},
        {"connection a\naddress b\ntopic x\nstart_type never\n", "not automatic"},
        {"connection a\naddress b\ntopic x\nbridge_cafile c\nbridge_insecure true\n", "refused"},
        {"connection a\naddress b\ntopic x\nbridge_psk 00\n", "pre-shared"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct said s;
        struct mosquitto_conf *c = parse(cases[i].text, &s);
        if (c || s.errors != 1 || !strstr(s.text, cases[i].want))
            fail_msg("%s: %s", cases[i].text, s.text);
    }
    struct said s = {0};
    assert_null(mosquitto_conf_text("m.conf", "port 1\n\0\n", 9, on_say, &s));
    assert_non_null(strstr(s.text, "m.conf:2: there is a NUL"));
}

static void put(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* In order: digits, then A before a before B. Later files go on where earlier ones ended. */
static void test_include(void **state)
{
    (void)state;
    char tmp[200], main_file[300], inc[300], text[700];
    struct said s = {0};
    test_tmp_make(tmp, sizeof tmp);
    snprintf(main_file, sizeof main_file, "%s/m.conf", tmp);
    snprintf(inc, sizeof inc, "%s/conf.d", tmp);
    assert_int_equal(mkdir(inc, 0700), 0);
    put(inc, "B.conf", "listener 5\n");
    put(inc, "a.conf", "listener 4\nbogus\n");
    put(inc, "A.conf", "listener 3\n");
    put(inc, "00.conf", "listener 2\n");
    put(inc, "readme.txt", "listener 99\n");
    snprintf(text, sizeof text, "listener 1\ninclude_dir %s\nmax_connections 7\n", inc);
    put(tmp, "m.conf", text);
    struct mosquitto_conf *c = mosquitto_conf_read(main_file, on_say, &s);
    if (!c)
        fail_msg("%s", s.text);
    assert_int_equal(c->n_listeners, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(c->listeners[i].l.port, i + 1);
    assert_int_equal(c->listeners[4].l.max_connections, 7);
    assert_non_null(strstr(s.text, "conf.d/a.conf:2: bogus is not known"));
    mosquitto_conf_free(c);

    put(inc, "a.conf", "\nport x\n");
    memset(&s, 0, sizeof s);
    assert_null(mosquitto_conf_read(main_file, on_say, &s));
    assert_non_null(strstr(s.text, "conf.d/a.conf:2: port is"));
    snprintf(text, sizeof text, "include_dir %s/missing\n", tmp);
    put(tmp, "m.conf", text);
    memset(&s, 0, sizeof s);
    assert_null(mosquitto_conf_read(main_file, on_say, &s));
    assert_non_null(strstr(s.text, "m.conf:1: include_dir"));
    memset(&s, 0, sizeof s);
    assert_null(mosquitto_conf_read("/nonexistent/m.conf", on_say, &s));
    assert_string_equal(s.text, "/nonexistent/m.conf:0: No such file or directory\n");
    test_tmp_remove(tmp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),   cmocka_unit_test(test_globals),
        cmocka_unit_test(test_listeners), cmocka_unit_test(test_per_listener),
        cmocka_unit_test(test_bridges),   cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_errors),    cmocka_unit_test(test_include),
    };
    return cmocka_run_group_tests_name("conf", tests, NULL, NULL);
}
