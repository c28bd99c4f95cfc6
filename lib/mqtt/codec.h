/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT packets, 3.1, 3.1.1 and 5.0: pure, no socket, no state, no allocation when decoding. What is
 * decoded points into the bytes given. Both directions of every packet, for server and clients.
 * decode returns 0 or the reason code the standard names for the fault (KEI_MQTT_R_*), text in err.
 */
#ifndef KEI_MQTT_CODEC_H
#define KEI_MQTT_CODEC_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

#define KEI_MQTT_V31 3
#define KEI_MQTT_V311 4
#define KEI_MQTT_V5 5

enum kei_mqtt_type {
    KEI_MQTT_CONNECT = 1,
    KEI_MQTT_CONNACK,
    KEI_MQTT_PUBLISH,
    KEI_MQTT_PUBACK,
    KEI_MQTT_PUBREC,
    KEI_MQTT_PUBREL,
    KEI_MQTT_PUBCOMP,
    KEI_MQTT_SUBSCRIBE,
    KEI_MQTT_SUBACK,
    KEI_MQTT_UNSUBSCRIBE,
    KEI_MQTT_UNSUBACK,
    KEI_MQTT_PINGREQ,
    KEI_MQTT_PINGRESP,
    KEI_MQTT_DISCONNECT,
    KEI_MQTT_AUTH,
};
const char *kei_mqtt_type_name(unsigned type); /* "PUBLISH"; "reserved" */

/* Reason codes of 5.0 */
#define KEI_MQTT_R_OK 0x00
#define KEI_MQTT_R_WITH_WILL 0x04
#define KEI_MQTT_R_NO_SUBSCRIBERS 0x10
#define KEI_MQTT_R_NO_SUBSCRIPTION 0x11
#define KEI_MQTT_R_CONTINUE 0x18
#define KEI_MQTT_R_REAUTH 0x19
#define KEI_MQTT_R_UNSPECIFIED 0x80
#define KEI_MQTT_R_MALFORMED 0x81
#define KEI_MQTT_R_PROTOCOL 0x82
#define KEI_MQTT_R_IMPLEMENTATION 0x83
#define KEI_MQTT_R_VERSION 0x84
#define KEI_MQTT_R_CLIENT_ID 0x85
#define KEI_MQTT_R_BAD_LOGIN 0x86
#define KEI_MQTT_R_NOT_AUTHORIZED 0x87
#define KEI_MQTT_R_UNAVAILABLE 0x88
#define KEI_MQTT_R_BUSY 0x89
#define KEI_MQTT_R_BANNED 0x8a
#define KEI_MQTT_R_SHUTTING_DOWN 0x8b
#define KEI_MQTT_R_AUTH_METHOD 0x8c
#define KEI_MQTT_R_KEEPALIVE 0x8d
#define KEI_MQTT_R_TAKEN_OVER 0x8e
#define KEI_MQTT_R_FILTER 0x8f
#define KEI_MQTT_R_TOPIC 0x90
#define KEI_MQTT_R_PID_IN_USE 0x91
#define KEI_MQTT_R_PID_NOT_FOUND 0x92
#define KEI_MQTT_R_RECEIVE_MAX 0x93
#define KEI_MQTT_R_ALIAS 0x94
#define KEI_MQTT_R_PACKET_TOO_LARGE 0x95
#define KEI_MQTT_R_RATE 0x96
#define KEI_MQTT_R_QUOTA 0x97
#define KEI_MQTT_R_ADMIN 0x98
#define KEI_MQTT_R_FORMAT 0x99
#define KEI_MQTT_R_NO_RETAIN 0x9a
#define KEI_MQTT_R_NO_QOS 0x9b
#define KEI_MQTT_R_USE_OTHER 0x9c
#define KEI_MQTT_R_MOVED 0x9d
#define KEI_MQTT_R_NO_SHARED 0x9e
#define KEI_MQTT_R_CONNECT_RATE 0x9f
#define KEI_MQTT_R_MAX_CONNECT_TIME 0xa0
#define KEI_MQTT_R_NO_SUBID 0xa1
#define KEI_MQTT_R_NO_WILDCARD 0xa2
const char *kei_mqtt_reason_text(unsigned reason); /* "not authorized" */
/* The return code of a 3.1.1 CONNACK for a reason of 5.0; 0 stays 0. */
uint8_t kei_mqtt_connack_v3(unsigned reason);

/* ---- fixed header ---- */
#define KEI_MQTT_MAX_PACKET 268435460u /* header and longest body */
struct kei_mqtt_frame {
    uint8_t first;   /* type << 4 | flags */
    uint8_t head;    /* bytes of the fixed header */
    uint32_t length; /* of the body */
};
static inline unsigned kei_mqtt_frame_type(const struct kei_mqtt_frame *f)
{
    return f->first >> 4;
}
/* 1: header complete (the body may not be); 0: more bytes needed; -1: malformed length or flags. */
int kei_mqtt_frame(const uint8_t *p, size_t n, struct kei_mqtt_frame *ret);
/* Variable byte integers: bytes written (1..4); v <= 268,435,455 */
unsigned kei_mqtt_varint(uint8_t out[4], uint32_t v);
unsigned kei_mqtt_varint_size(uint32_t v);

/* ---- properties ---- */
enum kei_mqtt_prop {
    KEI_MQTT_P_PAYLOAD_FORMAT = 1,
    KEI_MQTT_P_MESSAGE_EXPIRY = 2,
    KEI_MQTT_P_CONTENT_TYPE = 3,
    KEI_MQTT_P_RESPONSE_TOPIC = 8,
    KEI_MQTT_P_CORRELATION = 9,
    KEI_MQTT_P_SUB_ID = 11,
    KEI_MQTT_P_SESSION_EXPIRY = 17,
    KEI_MQTT_P_CLIENT_ID = 18,
    KEI_MQTT_P_SERVER_KEEPALIVE = 19,
    KEI_MQTT_P_AUTH_METHOD = 21,
    KEI_MQTT_P_AUTH_DATA = 22,
    KEI_MQTT_P_REQUEST_PROBLEM = 23,
    KEI_MQTT_P_WILL_DELAY = 24,
    KEI_MQTT_P_REQUEST_RESPONSE = 25,
    KEI_MQTT_P_RESPONSE_INFO = 26,
    KEI_MQTT_P_SERVER_REF = 28,
    KEI_MQTT_P_REASON = 31,
    KEI_MQTT_P_RECEIVE_MAX = 33,
    KEI_MQTT_P_ALIAS_MAX = 34,
    KEI_MQTT_P_ALIAS = 35,
    KEI_MQTT_P_MAX_QOS = 36,
    KEI_MQTT_P_RETAIN_AVAILABLE = 37,
    KEI_MQTT_P_USER = 38,
    KEI_MQTT_P_MAX_PACKET = 39,
    KEI_MQTT_P_WILDCARD_AVAILABLE = 40,
    KEI_MQTT_P_SUBID_AVAILABLE = 41,
    KEI_MQTT_P_SHARED_AVAILABLE = 42,
};
#define KEI_MQTT_HAS(id) (1ull << (id))
#define KEI_MQTT_SUB_IDS_MAX 16 /* decoded of one PUBLISH; more are skipped */

/* A member counts only if its bit is in has. Only has and raw are set when there is none. */
struct kei_mqtt_props {
    uint64_t has;      /* KEI_MQTT_HAS(KEI_MQTT_P_...) */
    struct ke_str raw; /* as on the wire, without the length before it */
    uint32_t n_user;   /* user properties: kei_mqtt_props_user walks them */
    uint32_t n_sub_ids;
    uint32_t sub_ids[KEI_MQTT_SUB_IDS_MAX];
    uint32_t message_expiry, session_expiry, will_delay, max_packet;
    uint16_t server_keepalive, receive_max, alias_max, alias;
    uint8_t payload_format, request_problem, request_response, max_qos;
    uint8_t retain_available, wildcard_available, subid_available, shared_available;
    struct ke_str content_type, response_topic, correlation, client_id, auth_method, auth_data;
    struct ke_str response_info, server_ref, reason;
};
/* Which packet they are of decides what is allowed; KEI_MQTT_WILL are those of a will. */
#define KEI_MQTT_WILL 0
/* *at: offset behind the length and the properties; begins before the length. */
int kei_mqtt_props(unsigned type, const uint8_t *p, size_t n, size_t *at,
                   struct kei_mqtt_props *ret, struct ke_error *err);
/* the same of properties without the length before them */
int kei_mqtt_props_bare(unsigned type, struct ke_str raw, struct kei_mqtt_props *ret,
                        struct ke_error *err);
/* false at the end; *at starts at 0 */
bool kei_mqtt_props_user(struct ke_str raw, size_t *at, struct ke_str *name, struct ke_str *value);

/* Appends the properties of raw but those in skip (KEI_MQTT_HAS bits). raw was checked. */
void kei_mqtt_props_copy(struct ke_buf *b, struct ke_str raw, uint64_t skip);

/* Writers of single properties, into a buffer of properties without length. */
void kei_mqtt_put_u8(struct ke_buf *b, unsigned id, uint8_t v);
void kei_mqtt_put_u16(struct ke_buf *b, unsigned id, uint16_t v);
void kei_mqtt_put_u32(struct ke_buf *b, unsigned id, uint32_t v);
void kei_mqtt_put_varint(struct ke_buf *b, unsigned id, uint32_t v);
void kei_mqtt_put_str(struct ke_buf *b, unsigned id, struct ke_str s); /* also binary data */
void kei_mqtt_put_user(struct ke_buf *b, struct ke_str name, struct ke_str value);

/* ---- packets ---- */
struct kei_mqtt_connect {
    uint8_t version;
    uint8_t clean;
    uint8_t has_user, has_password;
    uint8_t has_will, will_qos, will_retain;
    uint8_t bridge; /* bit 7 of the version was set, as mosquitto's bridges do */
    uint8_t answer; /* decoding failed, but the client can be told why (CONNACK) */
    uint16_t keepalive;
    struct ke_str client_id, user_name, password, will_topic, will_payload;
    struct kei_mqtt_props props, will_props;
};
struct kei_mqtt_connack {
    uint8_t session_present, reason; /* reason: the return code of 3.1.1 in that version */
    struct kei_mqtt_props props;
};
struct kei_mqtt_publish {
    uint8_t dup, qos, retain;
    uint16_t pid; /* 0 with QoS 0 */
    struct ke_str topic, payload;
    struct kei_mqtt_props props;
};
struct kei_mqtt_ack { /* PUBACK, PUBREC, PUBREL, PUBCOMP; DISCONNECT, AUTH (pid 0) */
    uint16_t pid;
    uint8_t reason;
    struct kei_mqtt_props props;
};
struct kei_mqtt_subscribe { /* SUBSCRIBE, UNSUBSCRIBE, SUBACK, UNSUBACK */
    uint16_t pid;
    struct kei_mqtt_props props;
    struct ke_str list; /* filters (with options): kei_mqtt_next_filter; or one code each */
};
/* Subscription options */
#define KEI_MQTT_SUB_QOS 3u
#define KEI_MQTT_SUB_NO_LOCAL 4u
#define KEI_MQTT_SUB_AS_PUBLISHED 8u
#define KEI_MQTT_SUB_RETAIN(o) (((o) >> 4) & 3u) /* retain handling: 0 send, 1 if new, 2 not */

/* body: what follows the fixed header, whole. */
int kei_mqtt_decode_connect(struct ke_str body, struct kei_mqtt_connect *ret, struct ke_error *err);
int kei_mqtt_decode_connack(unsigned version, struct ke_str body, struct kei_mqtt_connack *ret,
                            struct ke_error *err);
/* The topic is checked as UTF-8 without wildcards; empty only with an alias. */
int kei_mqtt_decode_publish(unsigned version, uint8_t first, struct ke_str body,
                            struct kei_mqtt_publish *ret, struct ke_error *err);
int kei_mqtt_decode_ack(unsigned version, unsigned type, struct ke_str body,
                        struct kei_mqtt_ack *ret, struct ke_error *err);
/* May this packet carry this reason? decode_ack says KEI_MQTT_R_PROTOCOL when not. */
bool kei_mqtt_reason_ok(unsigned type, uint8_t reason);
/* Of (UN)SUBSCRIBE the whole list is checked for form; the filters' syntax is not. */
int kei_mqtt_decode_subscribe(unsigned version, unsigned type, struct ke_str body,
                              struct kei_mqtt_subscribe *ret, struct ke_error *err);
/* false at the end; *at starts at 0; options is 0 for UNSUBSCRIBE */
bool kei_mqtt_next_filter(const struct kei_mqtt_subscribe *s, unsigned type, size_t *at,
                          struct ke_str *filter, uint8_t *options);

/*
 * Encoders append a whole packet in its shortest legal form. Properties come from props.raw (with
 * version 5), written with kei_mqtt_put_*. Failure is the buffer's (kei_buf_ok); a body over
 * 268,435,455 bytes or a string over 65,535 marks it failed, too.
 */
void kei_mqtt_encode_connect(struct ke_buf *b, const struct kei_mqtt_connect *c);
void kei_mqtt_encode_connack(struct ke_buf *b, unsigned version, const struct kei_mqtt_connack *c);
void kei_mqtt_encode_publish(struct ke_buf *b, unsigned version, const struct kei_mqtt_publish *p);
void kei_mqtt_encode_ack(struct ke_buf *b, unsigned version, unsigned type,
                         const struct kei_mqtt_ack *a);
/* list is on the wire already: kei_mqtt_put_filter, or the codes */
void kei_mqtt_encode_subscribe(struct ke_buf *b, unsigned version, unsigned type,
                               const struct kei_mqtt_subscribe *s);
void kei_mqtt_put_filter(struct ke_buf *b, struct ke_str filter, const uint8_t *options);
void kei_mqtt_encode_ping(struct ke_buf *b, unsigned type); /* PINGREQ, PINGRESP */
/* Any packet decoded before, e.g. by a fuzzer or a log line: its name, id and reason in short. */
void kei_mqtt_describe(struct ke_buf *b, const struct kei_mqtt_frame *f, struct ke_str body);

/* ---- topics ---- */
bool kei_mqtt_topic_ok(struct ke_str topic);   /* a name to publish to: no wildcard, no NUL */
bool kei_mqtt_filter_ok(struct ke_str filter); /* '+' and '#' alone in their level, '#' last */
/* Does filter (valid, not shared) match topic? Topics that begin with '$' need it spelled out. */
bool kei_mqtt_match(struct ke_str filter, struct ke_str topic);
/* Splits "$share/GROUP/FILTER"; false if it is not shared. *ok: its form is valid. */
bool kei_mqtt_shared(struct ke_str filter, struct ke_str *group, struct ke_str *inner, bool *ok);
uint32_t kei_mqtt_levels(struct ke_str topic); /* number of levels */

#endif
