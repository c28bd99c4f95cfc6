/* SPDX-License-Identifier: Apache-2.0 */
/* Packets: what is encoded is decoded to the same, and what is wrong gets the reason it deserves.
 */
#include "mqtt/codec.h"
#include "support/support.h"

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static size_t bytes_of(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (; *hex; hex++) {
        if (*hex == ' ')
            continue;
        out[n++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
        hex++;
    }
    return n;
}

/* Decodes one whole packet as a server of that version would; the reason, or -1 for its header. */
static int decode(unsigned version, const uint8_t *p, size_t n)
{
    struct kei_mqtt_frame f;
    struct ke_error err = KE_ERROR_INIT;
    struct kei_mqtt_connect connect;
    struct kei_mqtt_publish publish;
    struct kei_mqtt_subscribe subscribe;
    struct kei_mqtt_ack ack;
    int why;

    if (kei_mqtt_frame(p, n, &f) != 1)
        return -1;
    assert_int_equal(f.head + f.length, n);
    struct ke_str body = kei_strn((const char *)p + f.head, f.length);
    switch (kei_mqtt_frame_type(&f)) {
    case KEI_MQTT_CONNECT:
        why = kei_mqtt_decode_connect(body, &connect, &err);
        break;
    case KEI_MQTT_PUBLISH:
        why = kei_mqtt_decode_publish(version, f.first, body, &publish, &err);
        break;
    case KEI_MQTT_SUBSCRIBE:
    case KEI_MQTT_UNSUBSCRIBE:
        why = kei_mqtt_decode_subscribe(version, kei_mqtt_frame_type(&f), body, &subscribe, &err);
        break;
    default:
        why = kei_mqtt_decode_ack(version, kei_mqtt_frame_type(&f), body, &ack, &err);
        break;
    }
    assert_int_equal(why != 0, err.text[0] != '\0');
    return why;
}

static void faults(void **state)
{
    static const struct {
        unsigned version;
        const char *hex;
        int why;
    } t[] = {
        {4, "30 05 0003 612f62", 0},
        {4, "36 07 0003 612f62 0001", -1}, /* QoS 3 */
        {4, "38 05 0003 612f62", 0x81},    /* DUP with QoS 0 */
        {4, "30 02 0000", 0x81},           /* no topic */
        {4, "30 03 0001 23", 0x81},        /* '#' */
        {4, "30 03 0001 00", 0x81},        /* NUL */
        {4, "30 04 0002 c080", 0x81},      /* overlong */
        {4, "30 05 0003 eda080", 0x81},    /* a surrogate */
        {4, "32 05 0001 61 0000", 0x82},   /* packet id 0 */
        {4, "30 01 00", 0x81},
        {5, "30 04 0001 61 00", 0},
        {5, "30 06 0001 61 02 0101", 0},
        {5, "30 06 0001 61 02 0102", 0x82},      /* payload format 2 */
        {5, "30 08 0001 61 04 0101 0101", 0x82}, /* twice */
        {5, "30 05 0001 61 05", 0x81},           /* properties beyond the packet */
        {5, "30 06 0001 61 02 0301", 0x81},      /* half a string */
        {5, "30 06 0001 61 02 0401", 0x81},      /* unknown property */
        {5, "30 06 0000 03 23 0000", 0x94},      /* alias 0 */
        {5, "30 06 0000 03 23 0001", 0},
        {5, "30 03 0000 00", 0x81},
        {5, "30 08 0001 61 04 08 0001 23", 0x82}, /* response topic '#' */
        {4, "82 06 0001 0001 61 00", 0},
        {4, "82 06 0001 0001 61 03", 0x81},
        {4, "82 06 0001 0001 61 04", 0x81}, /* no local is of 5.0 */
        {4, "82 02 0001", 0x81},
        {4, "80 06 0001 0001 61 00", -1},
        {5, "82 07 0001 00 0001 61 2d", 0},
        {5, "82 07 0001 00 0001 61 30", 0x81},      /* retain handling 3 */
        {5, "82 09 0001 02 0b00 0001 61 00", 0x81}, /* identifier 0 */
        {5, "82 09 0001 02 0b01 0001 61 00", 0},
        {5, "82 0a 0001 03 0b8100 0001 61 00", 0x81}, /* not the shortest form */
        {4, "40 02 0001", 0},
        {4, "40 03 0001 00", 0x81},
        {5, "40 03 0001 10", 0},
        {5, "40 03 0001 92", 0x82}, /* not of PUBACK */
        {5, "62 03 0001 92", 0},
        {5, "40 02 0000", 0x82},
        {4, "60 02 0001", -1},
        {4, "e0 00", 0},
        {4, "e0 01 00", 0x81},
        {5, "e0 01 04", 0},
        {5, "e0 07 00 05 11 00000001", 0},
        {5, "e0 04 00 02 2401", 0x82}, /* not of DISCONNECT */
        {5, "f0 01 18", 0},
        {4, "10 0d 0004 4d515454 04 02 000a 0001 70", 0},
        {4, "10 0d 0004 4d515454 04 03 000a 0001 70", 0x81},
        {4, "10 0d 0004 4d515455 04 02 000a 0001 70", 0x81},
        {4, "10 0d 0004 4d515454 06 02 000a 0001 70", 0x84},
        {4, "10 0d 0004 4d515454 04 42 000a 0001 70", 0x81}, /* password, no user */
        {4, "10 0d 0004 4d515454 04 0a 000a 0001 70", 0x81}, /* will QoS, no will */
        {4, "10 0f 0004 4d515454 04 02 000a 0001 70 0000", 0x81},
        {4, "10 0f 0006 4d5149736470 03 02 000a 0001 70", 0},
        {5, "10 11 0004 4d515454 05 02 000a 03 210000 0001 70", 0x82},   /* receive maximum 0 */
        {5, "10 12 0004 4d515454 05 02 000a 04 16000161 0001 70", 0x82}, /* data, no method */
    };

    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        uint8_t b[200];
        size_t n = bytes_of(t[i].hex, b);
        b[1] = (uint8_t)(n - 2);
        int why = decode(t[i].version, b, n);
        if (why != t[i].why)
            fail_msg("%s: 0x%02x instead of 0x%02x", t[i].hex, why, t[i].why);
    }
}

/* Every packet cut short anywhere is not taken for whole. */
static void cuts(void **state)
{
    static const char hex[] = "10 2f 0004 4d515454 05 c6 000a 08 110000000a 210005 0001 70"
                              "05 18 00000003 0001 77 0002 6869 0001 75 0003 707764";
    uint8_t b[200], c[200];
    size_t n = bytes_of(hex, b);

    (void)state;
    n = (size_t)(b[1] = (uint8_t)(n - 2)) + 2;
    assert_int_equal(decode(5, b, n), 0);
    for (size_t k = 2; k < n; k++) {
        memcpy(c, b, k);
        c[1] = (uint8_t)(k - 2);
        assert_int_equal(decode(5, c, k), 0x81);
    }
}

static void headers(void **state)
{
    static const uint32_t v[] = {0, 127, 128, 16383, 16384, 2097151, 2097152, 268435455};
    struct kei_mqtt_frame f;
    uint8_t b[5];

    (void)state;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++) {
        b[0] = 0x30;
        unsigned n = kei_mqtt_varint(b + 1, v[i]);
        assert_int_equal(n, kei_mqtt_varint_size(v[i]));
        for (unsigned k = 0; k < n; k++)
            assert_int_equal(kei_mqtt_frame(b, k + 1, &f), k + 1 == n + 1);
        assert_int_equal(kei_mqtt_frame(b, n + 1, &f), 1);
        assert_int_equal(f.length, v[i]);
        assert_int_equal(f.head, n + 1);
    }
    assert_int_equal(kei_mqtt_frame((const uint8_t *)"\x30\xff\xff\xff\xff\x01", 6, &f), -1);
    assert_int_equal(kei_mqtt_frame((const uint8_t *)"\x00", 1, &f), -1);
    assert_int_equal(kei_mqtt_frame(b, 0, &f), 0);
}

static void there_and_back(void **state)
{
    struct ke_buf b, props;
    struct kei_mqtt_frame f;
    struct kei_mqtt_connect k = {.version = 5,
                                 .clean = 1,
                                 .has_user = 1,
                                 .has_password = 1,
                                 .has_will = 1,
                                 .will_qos = 2,
                                 .will_retain = 1,
                                 .keepalive = 77,
                                 .client_id = KEI_STR("me"),
                                 .user_name = KEI_STR("u"),
                                 .password = KEI_STR("p"),
                                 .will_topic = KEI_STR("w"),
                                 .will_payload = KEI_STR("x")},
                            k2;
    struct kei_mqtt_connack a = {.session_present = 1, .reason = 0}, a2;

    (void)state;
    kei_buf_init(&b, kei_alloc_malloc());
    kei_buf_init(&props, kei_alloc_malloc());
    kei_mqtt_put_u32(&props, KEI_MQTT_P_SESSION_EXPIRY, 0x01020304);
    kei_mqtt_put_user(&props, KEI_STR("n"), KEI_STR("v"));
    k.props.raw = kei_buf_str(&props);
    kei_mqtt_encode_connect(&b, &k);
    assert_int_equal(kei_mqtt_frame((const uint8_t *)b.p, b.n, &f), 1);
    assert_int_equal(f.head + f.length, b.n);
    assert_int_equal(kei_mqtt_decode_connect(kei_strn(b.p + f.head, f.length), &k2, NULL), 0);
    assert_true(kei_str_eq(k.client_id, k2.client_id) && kei_str_eq(k.password, k2.password) &&
                kei_str_eq(k.will_topic, k2.will_topic));
    assert_int_equal(k2.will_qos, 2);
    assert_int_equal(k2.keepalive, 77);
    assert_int_equal(k2.props.session_expiry, 0x01020304);
    assert_int_equal(k2.props.n_user, 1);
    struct ke_str name, value;
    size_t at = 0;
    assert_true(kei_mqtt_props_user(k2.props.raw, &at, &name, &value));
    assert_true(kei_str_is(name, "n") && kei_str_is(value, "v"));
    assert_false(kei_mqtt_props_user(k2.props.raw, &at, &name, &value));
    kei_buf_clear(&b);
    a.props.raw = kei_buf_str(&props);
    kei_mqtt_encode_connack(&b, 5, &a);
    assert_int_equal(kei_mqtt_frame((const uint8_t *)b.p, b.n, &f), 1);
    assert_int_equal(kei_mqtt_decode_connack(5, kei_strn(b.p + f.head, f.length), &a2, NULL), 0);
    assert_int_equal(a2.session_present, 1);
    kei_buf_clear(&b);
    struct kei_mqtt_ack ack = {.pid = 5};
    kei_mqtt_encode_ack(&b, 5, KEI_MQTT_PUBREL, &ack); /* the shortest form */
    assert_int_equal(b.n, 4);
    kei_buf_clear(&b);
    struct kei_mqtt_publish p = {.topic = {b.p, 70000}};
    kei_mqtt_encode_publish(&b, 5, &p);
    assert_false(kei_buf_ok(&b));
    ke_buf_free(&b);
    ke_buf_free(&props);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults),
        cmocka_unit_test(cuts),
        cmocka_unit_test(headers),
        cmocka_unit_test(there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
