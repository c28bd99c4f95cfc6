/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of a Modbus device. Pure, any thread. */
#include "device/driver_conf.h"
#include "device/modbus_priv.h"

#define TIMEOUT_MAX_MS 600000

/* Flat, and as people write them who follow the shape of v1alpha2. */
static const char *const serial_places[] = {"", "com.", "common.com.", NULL};
static const char *const tcp_places[] = {"", "tcp.", "common.tcp.", NULL};
static const char *const places[] = {"", "common.", NULL};
static const char *const custom_places[] = {"", "customizedValues.", "common.customizedValues.",
                                            NULL};
static const char *const parities[] = {"none", "even", "odd", "n", "e", "o", NULL};
static const char *const serial_types[] = {"RS485", "RS232", "", NULL};

static int read_serial(struct kei_serial_config *s, const struct kei_conf *at)
{
    struct kei_conf c = *at, custom = *at;
    int64_t baud = 9600, data_bits = 8, stop_bits = 1;
    unsigned parity = 0, type = 1;
    int r;

    c.prefixes = serial_places;
    custom.prefixes = custom_places;
    if ((r = kei_conf_int(&c, "baudRate", 50, 4000000, &baud)) < 0 ||
        (r = kei_conf_int(&c, "dataBits", 5, 8, &data_bits)) < 0 ||
        (r = kei_conf_int(&c, "stopBits", 1, 2, &stop_bits)) < 0 ||
        (r = kei_conf_enum(&c, "parity", parities, &parity)) < 0 ||
        (r = kei_conf_enum(&custom, "serialType", serial_types, &type)) < 0)
        return r;
    s->baud = (uint32_t)baud;
    s->data_bits = (uint32_t)data_bits;
    s->stop_bits = (uint32_t)stop_bits;
    s->parity = (enum kei_parity)(parity % 3);
    s->rs485 = type == 0;
    return kei_serial_check(s, c.err);
}

/* The place of the device: a serial port counts before an address. */
static int read_bus(struct kei_modbus_conf *f, const struct kei_conf *at)
{
    struct kei_conf serial = *at, tcp = *at;
    int64_t port = 502;
    int r;

    serial.prefixes = serial_places;
    tcp.prefixes = tcp_places;
    if ((r = kei_conf_str(&serial, "serialPort", f->path, sizeof f->path)) < 0)
        return r;
    if (f->path[0]) {
        f->bus.serial.path = f->path;
        return read_serial(&f->bus.serial, at);
    }
    if ((r = kei_conf_str(&tcp, "ip", f->host, sizeof f->host)) < 0 ||
        (r = kei_conf_int(&tcp, "port", 1, 65535, &port)) < 0)
        return r;
    if (!f->host[0])
        return kei_error(at->err, KE_EINVAL, "neither \"ip\" nor \"serialPort\" is given");
    f->bus.host = f->host;
    f->bus.port = (uint16_t)port;
    return 0;
}

static uint32_t or_default(uint32_t v, uint32_t dflt)
{
    return v ? v : dflt;
}

int kei_modbus_conf_read(struct kei_modbus_conf *ret, const char *json, size_t n,
                         const struct ke_modbus_config *d, struct ke_error *err)
{
    struct kei_conf c = {json, n, places, err};
    int64_t slave = -1, retries = -1, pipeline = or_default(d->pipeline, 1), gap = d->gap;
    int r;

    memset(ret, 0, sizeof *ret);
    r = read_bus(ret, &c);
    if (r < 0)
        return r;
    bool serial = ret->bus.serial.path != NULL;
    ret->timeout_ms =
        serial ? or_default(d->serial_timeout_ms, 1000) : or_default(d->timeout_ms, 3000);
    ret->bus.connect_ms = or_default(d->connect_ms, 3000);
    if ((r = kei_conf_int(&c, "slaveID", serial ? 1 : 0, 255, &slave)) < 0 ||
        (r = kei_conf_int(&c, "collectRetryTimes", 0, 255, &retries)) < 0 ||
        (r = kei_conf_int(&c, "pipeline", 1, KEI_MODBUS_PIPELINE_MAX, &pipeline)) < 0 ||
        (r = kei_conf_int(&c, "gap", 0, KEI_MODBUS_READ_BITS_MAX, &gap)) < 0 ||
        (r = kei_conf_duration(&c, "collectTimeout", TIMEOUT_MAX_MS, &ret->timeout_ms)) < 0 ||
        (r = kei_conf_duration(&c, "timeout", TIMEOUT_MAX_MS, &ret->timeout_ms)) < 0)
        return r;
    if (slave < 0 && serial)
        return kei_error(err, KE_EINVAL, "\"slaveID\" is missing");
    ret->slave = (uint8_t)(slave < 0 ? 0 : slave); /* clouds leave a 0 out */
    ret->retries = (uint8_t)(retries < 0 ? 1 : retries);
    ret->bus.pipeline = (uint16_t)pipeline;
    ret->gap = (uint16_t)gap;
    return 0;
}
