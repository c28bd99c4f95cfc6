/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The drivers that come with the library. Each registers itself with the harness of device.h for
 * one protocolName and lives until it is unregistered, or the harness is freed. None of them blocks
 * the loop. All calls: loop.
 *
 * modbus: Modbus TCP and RTU. Devices with the same ip and port, or the same serial port, share one
 *   connection. configData: "slaveID" and either "ip" and "port" (502), or "serialPort",
 *   "baudRate" (9600), "dataBits" (8), "parity" ("none", "even", "odd"), "stopBits" (1) and
 *   "serialType" ("RS485"); "timeout" or "collectTimeout" of one request (ms, or ns from 1,000,000
 *   on), "collectRetryTimes" of damaged answers, "pipeline" (requests at once, TCP), "gap".
 *   Visitor: "register" ("CoilRegister", "DiscreteInputRegister", "InputRegister",
 *   "HoldingRegister"), "offset" (zero-based), "limit" (1), "isSwap", "isRegisterSwap", "signed",
 *   "rawType" ("int16", "uint16", ... "float64"), "bit".
 * gpio: lines of a GPIO chip through its character device, through sysfs where there is none.
 *   configData: "chip" ("gpiochip0"). Visitor: "line" (number, or name), "direction" ("in", "out"),
 *   "activeLow", "bias" ("none", "pull-up", "pull-down"), "drive" ("push-pull", "open-drain",
 *   "open-source"), "initial" (0 or 1), "debounce" (us).
 * mqtt-json: a device that speaks JSON on MQTT topics. configData and visitors: see
 *   ke_device_json_register.
 *
 * Names are matched without regard to case.
 */
#ifndef KUBEEDGE_DRIVERS_H
#define KUBEEDGE_DRIVERS_H

#include <kubeedge/device.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Defaults of devices that do not say otherwise. 0 means the default of the driver. */
struct ke_modbus_config {
    size_t size;
    uint32_t timeout_ms;        /* of one request over TCP; default 3,000 */
    uint32_t serial_timeout_ms; /* on a serial line; default 1,000 */
    uint32_t connect_ms;        /* default 3,000 */
    uint32_t pipeline;          /* requests at once on a TCP connection; default 1, at most 16 */
    uint32_t gap;               /* registers that may be read to join their neighbours; default 0 */
    uint32_t reserved;
};

KE_API void ke_modbus_config_init(struct ke_modbus_config *c, size_t size);
/*
 * Registers the driver for protocol "modbus". c may be NULL. KE_EEXIST, KE_EABI, KE_ENOMEM,
 * KE_ENOTSUP (built without devices). Loop.
 */
KE_API KE_NODISCARD int ke_device_modbus_register(struct ke_devices *d,
                                                  const struct ke_modbus_config *c);

/* Where GPIO chips are. NULL means the default. Strings are copied. */
struct ke_gpio_config {
    size_t size;
    const char *dev_folder; /* of character devices; default "/dev" */
    const char *sys_folder; /* default "/sys/class/gpio" */
};

KE_API void ke_gpio_config_init(struct ke_gpio_config *c, size_t size);
/*
 * Registers the driver for protocol "gpio". c may be NULL. Errors as of ke_device_modbus_register.
 * Inputs are told when they change, where the chip has interrupts. An output keeps the level that
 * the line has when it is taken, unless "initial" says otherwise. Loop.
 */
KE_API KE_NODISCARD int ke_device_gpio_register(struct ke_devices *d,
                                                const struct ke_gpio_config *c);

/*
 * Registers the driver for protocol "mqtt-json": devices that speak JSON over the MQTT server.
 *
 * configData: "topic", a filter under which the device publishes (required); "commandTopic", where
 * it takes desired values; "requestTopic" and "requestPayload" (""), published when values are to
 * be read; "availabilityTopic" with "online" ("online") and "offline" ("offline"); "expire" (ms):
 * values older than this are not read any more, and a device that says nothing for so long is lost;
 * default 0, never. Visitor: "path" ("state.temperature", "list[0].value"; default: the property's
 * name; "$" is the whole payload, which need not be JSON then), "topic" and "commandTopic" when
 * they differ from the device's, "commandPath" (default: path), "commandTemplate" (a payload with
 * ${value}). Topics may contain ${namespace} and ${name}.
 *
 * Values are told as they come. Needs the harness to have a router with the module `eventbus`.
 * KE_ESTATE without a router. Loop.
 */
KE_API KE_NODISCARD int ke_device_json_register(struct ke_devices *d);

#ifdef __cplusplus
}
#endif
#endif
