# SPDX-License-Identifier: Apache-2.0
"""The C side's types: opaque handles, callback types, structs.

Written by hand from the headers, in their order, and held against them by tests/test_agreement.py: sizes and
offsets by a compiled C program, names and function types by the library's debug information. Each C function
type has exactly one CFUNCTYPE, so that one module-level trampoline can serve all objects.
"""
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)
from typing import Any, Callable, Type, TypeVar

from ._const import KE_ERROR_TEXT_MAX

S = TypeVar("S", bound="Struct")


def callback(kind: Any) -> Callable[[Callable[..., Any]], Any]:
    """Makes a module-level function one that C can call. The object must live as long as C may call it."""
    return lambda fn: kind(fn)


class Struct(Structure):
    """A struct of the headers. c_name is its name there."""

    c_name = ""

    @classmethod
    def sized(cls: Type[S], **members: Any) -> S:
        """A zeroed one with its first member, size, set."""
        s = cls(**members)
        s.size = sizeof(cls)
        return s


# ---- opaque handles: a type each, so that one cannot be passed for another ----


class Ctx(c_void_p):
    """struct ke_ctx *"""


class IoFile(c_void_p):
    """struct ke_io_file *"""


class Msg(c_void_p):
    """struct ke_msg *"""


class Router(c_void_p):
    """struct ke_router *"""


class Module(c_void_p):
    """struct ke_module *"""


class Store(c_void_p):
    """struct ke_store *"""


class StoreTx(c_void_p):
    """struct ke_store_tx *"""


class Tunnel(c_void_p):
    """struct ke_tunnel *"""


class Runtime(c_void_p):
    """struct ke_runtime *"""


class NodeSettings(c_void_p):
    """struct ke_node_settings *"""


class Twin(c_void_p):
    """struct ke_twin *"""


class TwinSub(c_void_p):
    """struct ke_twin_sub *"""


class Devices(c_void_p):
    """struct ke_devices *"""


class MapperSettings(c_void_p):
    """struct ke_mapper_settings *"""


class Mapper(c_void_p):
    """struct ke_mapper *"""


class Node(c_void_p):
    """struct ke_node *"""


class Cloud(c_void_p):
    """struct ke_cloud *"""


class Mqtt(c_void_p):
    """struct ke_mqtt *"""


class MqttData(c_void_p):
    """struct ke_mqtt_data *"""


class MqttSub(c_void_p):
    """struct ke_mqtt_sub *"""


class MqttAuth(c_void_p):
    """struct ke_mqtt_auth *"""


class Bridge(c_void_p):
    """struct ke_bridge *"""


class Eventbus(c_void_p):
    """struct ke_eventbus *"""


class EventbusSub(c_void_p):
    """struct ke_eventbus_sub *"""


# ---- err.h ----


class Error(Struct):
    c_name = "ke_error"
    _fields_ = [
        ("size", c_size_t),
        ("code", c_int32),
        ("reserved", c_int32),
        ("text", c_char * KE_ERROR_TEXT_MAX),
    ]


# ---- log.h ----

# void (*ke_log_fn)(void *user, uint32_t level, const char *area, const char *text)
LogFn = CFUNCTYPE(None, c_void_p, c_uint32, c_char_p, c_char_p)

# ---- sys/alloc.h ----

# void *(*alloc)(void *user, size_t n)
AllocFn = CFUNCTYPE(c_void_p, c_void_p, c_size_t)
# void *(*realloc)(void *user, void *p, size_t n)
ReallocFn = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_size_t)
# void (*free)(void *user, void *p)
FreeFn = CFUNCTYPE(None, c_void_p, c_void_p)


class Alloc(Struct):
    c_name = "ke_alloc"
    _fields_ = [
        ("size", c_size_t),
        ("user", c_void_p),
        ("alloc", AllocFn),
        ("realloc", ReallocFn),
        ("free", FreeFn),
    ]


# ---- sys/io.h ----


class IoStat(Struct):
    c_name = "ke_io_stat"
    _fields_ = [
        ("size", c_size_t),
        ("length", c_int64),
        ("is_dir", c_uint32),
        ("mode", c_uint32),
    ]


# int (*open)(void *user, const char *path, uint32_t flags, uint32_t mode, struct ke_io_file **ret)
IoOpenFn = CFUNCTYPE(c_int, c_void_p, c_char_p, c_uint32, c_uint32, POINTER(IoFile))
# int (*close)(void *user, struct ke_io_file *f); also sync, lock
IoFileFn = CFUNCTYPE(c_int, c_void_p, IoFile)
# int (*pread)(void *user, struct ke_io_file *f, void *p, size_t n, int64_t off, size_t *ret_n)
IoReadFn = CFUNCTYPE(c_int, c_void_p, IoFile, c_void_p, c_size_t, c_int64, POINTER(c_size_t))
# int (*pwrite)(void *user, struct ke_io_file *f, const void *p, size_t n, int64_t off)
IoWriteFn = CFUNCTYPE(c_int, c_void_p, IoFile, c_void_p, c_size_t, c_int64)
# int (*truncate)(void *user, struct ke_io_file *f, int64_t length)
IoTruncateFn = CFUNCTYPE(c_int, c_void_p, IoFile, c_int64)
# int (*length)(void *user, struct ke_io_file *f, int64_t *ret)
IoLengthFn = CFUNCTYPE(c_int, c_void_p, IoFile, POINTER(c_int64))
# int (*rename)(void *user, const char *from, const char *to); also symlink
IoTwoPathsFn = CFUNCTYPE(c_int, c_void_p, c_char_p, c_char_p)
# int (*unlink)(void *user, const char *path); also rmdir, sync_dir
IoPathFn = CFUNCTYPE(c_int, c_void_p, c_char_p)
# int (*mkdir)(void *user, const char *path, uint32_t mode)
IoMkdirFn = CFUNCTYPE(c_int, c_void_p, c_char_p, c_uint32)
# int (*stat)(void *user, const char *path, struct ke_io_stat *ret)
IoStatFn = CFUNCTYPE(c_int, c_void_p, c_char_p, POINTER(IoStat))
# int (*each)(void *arg, const char *name)
IoEachFn = CFUNCTYPE(c_int, c_void_p, c_char_p)
# int (*list)(void *user, const char *path, int (*each)(void *arg, const char *name), void *arg)
IoListFn = CFUNCTYPE(c_int, c_void_p, c_char_p, IoEachFn, c_void_p)


class Io(Struct):
    c_name = "ke_io"
    _fields_ = [
        ("size", c_size_t),
        ("user", c_void_p),
        ("open", IoOpenFn),
        ("close", IoFileFn),
        ("pread", IoReadFn),
        ("pwrite", IoWriteFn),
        ("truncate", IoTruncateFn),
        ("sync", IoFileFn),
        ("length", IoLengthFn),
        ("lock", IoFileFn),
        ("rename", IoTwoPathsFn),
        ("unlink", IoPathFn),
        ("mkdir", IoMkdirFn),
        ("rmdir", IoPathFn),
        ("sync_dir", IoPathFn),
        ("stat", IoStatFn),
        ("list", IoListFn),
        ("symlink", IoTwoPathsFn),
    ]


# ---- ctx.h ----

# int64_t (*mono_ms)(void *user)
ClockFn = CFUNCTYPE(c_int64, c_void_p)
# int (*fill)(void *user, void *p, size_t n)
RandomFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
# void (*fn)(void *user)
PostFn = CFUNCTYPE(None, c_void_p)


class Clock(Struct):
    c_name = "ke_clock"
    _fields_ = [
        ("size", c_size_t),
        ("user", c_void_p),
        ("mono_ms", ClockFn),
        ("real_ms", ClockFn),
    ]


class Random(Struct):
    c_name = "ke_random"
    _fields_ = [
        ("size", c_size_t),
        ("user", c_void_p),
        ("fill", RandomFn),
    ]


class CtxConfig(Struct):
    c_name = "ke_ctx_config"
    _fields_ = [
        ("size", c_size_t),
        ("alloc", POINTER(Alloc)),
        ("clock", POINTER(Clock)),
        ("random", POINTER(Random)),
        ("io", POINTER(Io)),
        ("log", LogFn),
        ("log_user", c_void_p),
        ("log_level", c_uint32),
        ("reserved", c_uint32),
        ("thread_name", c_char_p),
    ]


class Buf(Struct):
    c_name = "ke_buf"
    _fields_ = [
        ("p", POINTER(c_char)),
        ("n", c_size_t),
        ("cap", c_size_t),
        ("alloc", POINTER(Alloc)),
    ]


# ---- msg.h ----


class MsgConfig(Struct):
    c_name = "ke_msg_config"
    _fields_ = [
        ("size", c_size_t),
        ("id", c_char_p),
        ("parent_id", c_char_p),
        ("timestamp_ms", c_int64),
        ("resource_version", c_char_p),
        ("source", c_char_p),
        ("destination", c_char_p),
        ("group", c_char_p),
        ("operation", c_char_p),
        ("resource", c_char_p),
        ("content", c_char_p),
        ("content_len", c_size_t),
    ]


# ---- router.h ----

# void (*message)(void *user, struct ke_msg *m)
MessageFn = CFUNCTYPE(None, c_void_p, Msg)
# void (*overflow)(void *user, uint64_t refused)
OverflowFn = CFUNCTYPE(None, c_void_p, c_uint64)
# void (*ke_reply_fn)(void *user, int status, struct ke_msg *reply)
ReplyFn = CFUNCTYPE(None, c_void_p, c_int, Msg)


class RouterConfig(Struct):
    c_name = "ke_router_config"
    _fields_ = [
        ("size", c_size_t),
        ("queue_messages", c_uint32),
        ("requests", c_uint32),
        ("queue_bytes", c_uint64),
    ]


class ModuleOps(Struct):
    c_name = "ke_module_ops"
    _fields_ = [
        ("size", c_size_t),
        ("message", MessageFn),
        ("overflow", OverflowFn),
    ]


class ModuleStats(Struct):
    c_name = "ke_module_stats"
    _fields_ = [
        ("size", c_size_t),
        ("delivered", c_uint64),
        ("refused", c_uint64),
        ("queued", c_uint32),
        ("queued_peak", c_uint32),
    ]


# ---- store.h ----

# void (*salvaged)(void *user, uint64_t saved, uint64_t lost, const char *text)
SalvagedFn = CFUNCTYPE(None, c_void_p, c_uint64, c_uint64, c_char_p)


class StoreConfig(Struct):
    c_name = "ke_store_config"
    _fields_ = [
        ("size", c_size_t),
        ("folder", c_char_p),
        ("flags", c_uint32),
        ("cache_kib", c_uint32),
        ("max_bytes", c_uint64),
        ("max_value", c_uint32),
        ("reserved", c_uint32),
        ("first", POINTER(c_char_p)),
        ("salvaged", SalvagedFn),
        ("user", c_void_p),
    ]


class StoreItem(Struct):
    c_name = "ke_store_item"
    _fields_ = [
        ("size", c_size_t),
        ("bucket", c_char_p),
        ("key", c_char_p),
        ("uid", c_char_p),
        ("version", c_int64),
        ("value", c_void_p),
        ("len", c_size_t),
    ]


# void (*ke_store_get_fn)(void *user, int status, const struct ke_store_item *item); also ke_store_list_fn
StoreItemFn = CFUNCTYPE(None, c_void_p, c_int, POINTER(StoreItem))
# void (*ke_store_done_fn)(void *user, int status)
StoreDoneFn = CFUNCTYPE(None, c_void_p, c_int)

# ---- tunnel.h ----


class TunnelConfig(Struct):
    c_name = "ke_tunnel_config"
    _fields_ = [
        ("size", c_size_t),
        ("node_name", c_char_p),
        ("host", c_char_p),
        ("project_id", c_char_p),
        ("token", c_char_p),
        ("folder", c_char_p),
        ("ca_file", c_char_p),
        ("cert_file", c_char_p),
        ("key_file", c_char_p),
        ("proxy_url", c_char_p),
        ("tunnel_port", c_uint32),
        ("cert_port", c_uint32),
        ("dialect", c_uint32),
        ("heartbeat_ms", c_uint32),
        ("dead_ms", c_uint32),
        ("retry_min_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("max_message", c_uint32),
        ("outbox_messages", c_uint32),
        ("outbox_bytes", c_uint64),
        ("flags", c_uint32),
        ("reserved", c_uint32),
        ("store", Store),
    ]


class TunnelStatus(Struct):
    c_name = "ke_tunnel_status"
    _fields_ = [
        ("size", c_size_t),
        ("state", c_uint32),
        ("dialect", c_uint32),
        ("last_error", c_int32),
        ("attempts", c_uint32),
        ("next_retry_ms", c_int64),
        ("connected_ms", c_int64),
        ("cert_not_after", c_int64),
        ("cert_rotate_at", c_int64),
        ("sent", c_uint64),
        ("received", c_uint64),
        ("sent_bytes", c_uint64),
        ("received_bytes", c_uint64),
        ("outbox", c_uint64),
        ("outbox_refused", c_uint64),
        ("skipped", c_uint64),
        ("last_error_text", c_char_p),
    ]


# void (*state)(void *user, const struct ke_tunnel_status *st)
TunnelStateFn = CFUNCTYPE(None, c_void_p, POINTER(TunnelStatus))
# void (*sent)(void *user, struct ke_msg *m, int status)
TunnelSentFn = CFUNCTYPE(None, c_void_p, Msg, c_int)


class TunnelOps(Struct):
    c_name = "ke_tunnel_ops"
    _fields_ = [
        ("size", c_size_t),
        ("message", MessageFn),
        ("state", TunnelStateFn),
        ("sent", TunnelSentFn),
    ]


# ---- runtime.h ----


class Env(Struct):
    c_name = "ke_env"
    _fields_ = [
        ("name", c_char_p),
        ("value", c_char_p),
    ]


class Mount(Struct):
    c_name = "ke_mount"
    _fields_ = [
        ("host_path", c_char_p),
        ("container_path", c_char_p),
        ("volume", c_char_p),
        ("flags", c_uint32),
        ("reserved", c_uint32),
    ]


class ContainerConfig(Struct):
    c_name = "ke_container_config"
    _fields_ = [
        ("size", c_size_t),
        ("pod_namespace", c_char_p),
        ("pod_name", c_char_p),
        ("pod_uid", c_char_p),
        ("name", c_char_p),
        ("image", c_char_p),
        ("sandbox_id", c_char_p),
        ("working_dir", c_char_p),
        ("log_path", c_char_p),
        ("hostname", c_char_p),
        ("command", POINTER(c_char_p)),
        ("args", POINTER(c_char_p)),
        ("env", POINTER(Env)),
        ("mounts", POINTER(Mount)),
        ("n_command", c_uint32),
        ("n_args", c_uint32),
        ("n_env", c_uint32),
        ("n_mounts", c_uint32),
        ("attempt", c_uint32),
        ("flags", c_uint32),
        ("memory_limit", c_int64),
        ("cpu_limit_milli", c_int64),
        ("cpu_request_milli", c_int64),
        ("run_as_user", c_int64),
        ("run_as_group", c_int64),
        ("pod_json", POINTER(c_char)),
        ("pod_json_len", c_size_t),
    ]


class ContainerInfo(Struct):
    c_name = "ke_container_info"
    _fields_ = [
        ("size", c_size_t),
        ("id", c_char_p),
        ("pod_namespace", c_char_p),
        ("pod_name", c_char_p),
        ("pod_uid", c_char_p),
        ("name", c_char_p),
        ("image", c_char_p),
        ("image_id", c_char_p),
        ("reason", c_char_p),
        ("message", c_char_p),
        ("attempt", c_uint32),
        ("state", c_uint32),
        ("exit_code", c_int32),
        ("signal", c_int32),
        ("created_ms", c_int64),
        ("started_ms", c_int64),
        ("finished_ms", c_int64),
    ]


class SandboxConfig(Struct):
    c_name = "ke_sandbox_config"
    _fields_ = [
        ("size", c_size_t),
        ("pod_namespace", c_char_p),
        ("pod_name", c_char_p),
        ("pod_uid", c_char_p),
        ("hostname", c_char_p),
        ("log_folder", c_char_p),
        ("attempt", c_uint32),
        ("flags", c_uint32),
        ("pod_json", POINTER(c_char)),
        ("pod_json_len", c_size_t),
    ]


class RuntimeResult(Struct):
    c_name = "ke_runtime_result"
    _fields_ = [
        ("size", c_size_t),
        ("id", c_char_p),
        ("name", c_char_p),
        ("version", c_char_p),
        ("ip", c_char_p),
        ("reason", c_char_p),
        ("text", c_char_p),
        ("containers", POINTER(ContainerInfo)),
        ("n_containers", c_uint32),
        ("ready", c_uint32),
    ]


# void (*attach)(void *user, struct ke_runtime *rt)
RuntimeAttachFn = CFUNCTYPE(None, c_void_p, Runtime)
# void (*detach)(void *user)
RuntimeDetachFn = CFUNCTYPE(None, c_void_p)
# int (*info)(void *user, uint64_t op); also container_list
RuntimeFn = CFUNCTYPE(c_int, c_void_p, c_uint64)
# int (*container_create)(void *user, uint64_t op, const struct ke_container_config *c)
RuntimeCreateFn = CFUNCTYPE(c_int, c_void_p, c_uint64, POINTER(ContainerConfig))
# int (*container_start)(void *user, uint64_t op, const char *id); also container_remove, sandbox_stop, _remove
RuntimeIdFn = CFUNCTYPE(c_int, c_void_p, c_uint64, c_char_p)
# int (*container_stop)(void *user, uint64_t op, const char *id, int64_t grace_ms)
RuntimeStopFn = CFUNCTYPE(c_int, c_void_p, c_uint64, c_char_p, c_int64)
# int (*sandbox_run)(void *user, uint64_t op, const struct ke_sandbox_config *c)
RuntimeSandboxFn = CFUNCTYPE(c_int, c_void_p, c_uint64, POINTER(SandboxConfig))
# int (*image_pull)(void *user, uint64_t op, const char *image, const char *policy, const char *pod_json,
#                   size_t pod_json_len)
RuntimePullFn = CFUNCTYPE(c_int, c_void_p, c_uint64, c_char_p, c_char_p, POINTER(c_char), c_size_t)


class RuntimeOps(Struct):
    c_name = "ke_runtime_ops"
    _fields_ = [
        ("size", c_size_t),
        ("attach", RuntimeAttachFn),
        ("detach", RuntimeDetachFn),
        ("info", RuntimeFn),
        ("container_create", RuntimeCreateFn),
        ("container_start", RuntimeIdFn),
        ("container_stop", RuntimeStopFn),
        ("container_remove", RuntimeIdFn),
        ("container_list", RuntimeFn),
        ("sandbox_run", RuntimeSandboxFn),
        ("sandbox_stop", RuntimeIdFn),
        ("sandbox_remove", RuntimeIdFn),
        ("image_pull", RuntimePullFn),
    ]


# ---- twin.h ----

# uint32_t (*dialect_now)(void *user); also of ke_devices_config
TwinDialectNowFn = CFUNCTYPE(c_uint32, c_void_p)


class TwinConfig(Struct):
    c_name = "ke_twin_config"
    _fields_ = [
        ("size", c_size_t),
        ("router", Router),
        ("store", Store),
        ("node_name", c_char_p),
        ("dialect", c_uint32),
        ("flags", c_uint32),
        ("dialect_now", TwinDialectNowFn),
        ("user", c_void_p),
        ("max_devices", c_uint32),
        ("max_twins", c_uint32),
        ("max_value", c_uint32),
        ("max_message", c_uint32),
        ("queue_messages", c_uint32),
        ("reserved", c_uint32),
        ("queue_bytes", c_uint64),
    ]


class TwinStatus(Struct):
    c_name = "ke_twin_status"
    _fields_ = [
        ("size", c_size_t),
        ("devices", c_uint32),
        ("unconfirmed", c_uint32),
        ("waiting", c_uint32),
        ("connected", c_uint32),
        ("taken", c_uint64),
        ("refused", c_uint64),
        ("commits", c_uint64),
        ("sent", c_uint64),
        ("confirmed", c_uint64),
    ]


class TwinValue(Struct):
    c_name = "ke_twin_value"
    _fields_ = [
        ("size", c_size_t),
        ("ns", c_char_p),
        ("device", c_char_p),
        ("name", c_char_p),
        ("type", c_char_p),
        ("desired", c_char_p),
        ("reported", c_char_p),
        ("desired_ms", c_int64),
        ("reported_ms", c_int64),
        ("optional", c_uint32),
        ("unconfirmed", c_uint32),
    ]


class TwinDevice(Struct):
    c_name = "ke_twin_device"
    _fields_ = [
        ("size", c_size_t),
        ("ns", c_char_p),
        ("name", c_char_p),
        ("description", c_char_p),
        ("state", c_char_p),
        ("last_online", c_char_p),
        ("twins", c_uint32),
        ("unconfirmed", c_uint32),
    ]


class TwinEvent(Struct):
    c_name = "ke_twin_event"
    _fields_ = [
        ("size", c_size_t),
        ("what", c_uint32),
        ("reserved", c_uint32),
        ("device", POINTER(TwinDevice)),
        ("value", POINTER(TwinValue)),
    ]


# void (*fn)(void *user, const struct ke_twin_device *d)
TwinDevicesFn = CFUNCTYPE(None, c_void_p, POINTER(TwinDevice))
# void (*fn)(void *user, const struct ke_twin_value *v)
TwinValuesFn = CFUNCTYPE(None, c_void_p, POINTER(TwinValue))
# void (*ke_twin_done_fn)(void *user, int status, const char *text)
TwinDoneFn = CFUNCTYPE(None, c_void_p, c_int, c_char_p)
# void (*ke_twin_fn)(void *user, const struct ke_twin_event *e)
TwinFn = CFUNCTYPE(None, c_void_p, POINTER(TwinEvent))


# ---- device.h ----


class DeviceValue(Struct):
    c_name = "ke_device_value"
    _fields_ = [
        ("size", c_size_t),
        ("property", c_uint32),
        ("kind", c_uint32),
        ("i", c_int64),
        ("d", c_double),
        ("p", c_void_p),
        ("n", c_size_t),
        ("when_ms", c_int64),
        ("text", c_char_p),
        ("status", c_int32),
        ("reserved", c_uint32),
    ]


class DeviceProperty(Struct):
    c_name = "ke_device_property"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("unit", c_char_p),
        ("visitor", c_void_p),
        ("visitor_len", c_size_t),
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("collect_ms", c_uint32),
    ]


class DeviceConfig(Struct):
    c_name = "ke_device_config"
    _fields_ = [
        ("size", c_size_t),
        ("device", c_uint64),
        ("ns", c_char_p),
        ("name", c_char_p),
        ("model", c_char_p),
        ("protocol", c_char_p),
        ("config", c_void_p),
        ("config_len", c_size_t),
        ("properties", POINTER(DeviceProperty)),
        ("n_properties", c_uint32),
        ("timeout_ms", c_uint32),
    ]


class DeviceResult(Struct):
    c_name = "ke_device_result"
    _fields_ = [
        ("size", c_size_t),
        ("text", c_char_p),
        ("values", POINTER(DeviceValue)),
        ("reply", c_void_p),
        ("reply_len", c_size_t),
        ("n_values", c_uint32),
        ("reserved", c_uint32),
    ]


# void (*attach)(void *user, struct ke_devices *d)
DeviceAttachFn = CFUNCTYPE(None, c_void_p, Devices)
# void (*detach)(void *user)
DeviceDetachFn = CFUNCTYPE(None, c_void_p)
# int (*open)(void *user, const struct ke_device_config *c, uint64_t op, void **ret_dev)
DeviceOpenFn = CFUNCTYPE(c_int, c_void_p, POINTER(DeviceConfig), c_uint64, POINTER(c_void_p))
# int (*close)(void *user, void *dev, uint64_t op); also health
DeviceOpFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64)
# int (*read)(void *user, void *dev, uint64_t op, const uint32_t *properties, uint32_t n); also subscribe
DeviceReadFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, POINTER(c_uint32), c_uint32)
# int (*write)(void *user, void *dev, uint64_t op, const struct ke_device_value *v, uint32_t n)
DeviceWriteFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, POINTER(DeviceValue), c_uint32)
# int (*call)(void *user, void *dev, uint64_t op, const char *method, const char *args, size_t args_len)
DeviceCallFn = CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, c_char_p, POINTER(c_char), c_size_t)


class DeviceOps(Struct):
    c_name = "ke_device_ops"
    _fields_ = [
        ("size", c_size_t),
        ("attach", DeviceAttachFn),
        ("detach", DeviceDetachFn),
        ("open", DeviceOpenFn),
        ("close", DeviceOpFn),
        ("read", DeviceReadFn),
        ("write", DeviceWriteFn),
        ("call", DeviceCallFn),
        ("subscribe", DeviceReadFn),
        ("health", DeviceOpFn),
    ]


class DeviceReported(Struct):
    c_name = "ke_device_reported"
    _fields_ = [
        ("size", c_size_t),
        ("property", c_char_p),
        ("type", c_char_p),
        ("reported", c_char_p),
        ("desired", c_char_p),
        ("when_ms", c_int64),
    ]


# int (*report)(void *user, uint64_t report, const char *ns, const char *name,
#               const struct ke_device_reported *v, uint32_t n)
DevicesSinkReportFn = CFUNCTYPE(c_int, c_void_p, c_uint64, c_char_p, c_char_p, POINTER(DeviceReported), c_uint32)
# int (*state)(void *user, uint64_t report, const char *ns, const char *name, const char *state)
DevicesSinkStateFn = CFUNCTYPE(c_int, c_void_p, c_uint64, c_char_p, c_char_p, c_char_p)


class DevicesSink(Struct):
    c_name = "ke_devices_sink"
    _fields_ = [
        ("size", c_size_t),
        ("report", DevicesSinkReportFn),
        ("state", DevicesSinkStateFn),
    ]


class DevicesConfig(Struct):
    c_name = "ke_devices_config"
    _fields_ = [
        ("size", c_size_t),
        ("router", Router),
        ("store", Store),
        ("node_name", c_char_p),
        ("sink", POINTER(DevicesSink)),
        ("sink_user", c_void_p),
        ("flags", c_uint32),
        ("cycle_unit", c_uint32),
        ("id_with_namespace", c_uint32),
        ("collect_ms", c_uint32),
        ("report_ms", c_uint32),
        ("timeout_ms", c_uint32),
        ("retry_min_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("health_ms", c_uint32),
        ("max_devices", c_uint32),
        ("max_properties", c_uint32),
        ("max_rules", c_uint32),
        ("dialect_now", TwinDialectNowFn),
        ("user", c_void_p),
    ]


# void (*ke_device_done_fn)(void *user, int status, const char *reply, const char *text)
DeviceDoneFn = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)


class DevicePropertyStatus(Struct):
    c_name = "ke_device_property_status"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("type", c_char_p),
        ("unit", c_char_p),
        ("desired", c_char_p),
        ("reported", c_char_p),
        ("error", c_char_p),
        ("reported_ms", c_int64),
        ("desired_ms", c_int64),
        ("reads", c_uint32),
        ("failures", c_uint32),
    ]


class DeviceStatus(Struct):
    c_name = "ke_device_status"
    _fields_ = [
        ("size", c_size_t),
        ("ns", c_char_p),
        ("name", c_char_p),
        ("model", c_char_p),
        ("protocol", c_char_p),
        ("error", c_char_p),
        ("properties", POINTER(DevicePropertyStatus)),
        ("n_properties", c_uint32),
        ("state", c_uint32),
        ("error_ms", c_int64),
        ("online_ms", c_int64),
        ("reads", c_uint64),
        ("writes", c_uint64),
        ("failures", c_uint64),
        ("reconnects", c_uint64),
        ("cycles", c_uint64),
        ("cycles_late", c_uint64),
        ("cycles_missed", c_uint64),
        ("late_max_ms", c_uint32),
        ("reports_waiting", c_uint32),
        ("mapper", c_char_p),
        ("mapper_state", c_char_p),
        ("mapper_report_ms", c_int64),
        ("mapper_reports", c_uint64),
        ("mapper_lost", c_uint32),
        ("reserved", c_uint32),
        ("pushes", c_uint64),
        ("push_failures", c_uint64),
    ]


# void (*ke_devices_list_fn)(void *user, const struct ke_device_status *s)
DevicesListFn = CFUNCTYPE(None, c_void_p, POINTER(DeviceStatus))


class DevicesStats(Struct):
    c_name = "ke_devices_stats"
    _fields_ = [
        ("size", c_size_t),
        ("cycles", c_uint64),
        ("cycles_late", c_uint64),
        ("cycles_missed", c_uint64),
        ("reads", c_uint64),
        ("writes", c_uint64),
        ("failures", c_uint64),
        ("timeouts", c_uint64),
        ("late_completions", c_uint64),
        ("reports", c_uint64),
        ("report_failures", c_uint64),
        ("refused", c_uint64),
        ("devices", c_uint32),
        ("online", c_uint32),
        ("late_max_ms", c_uint32),
        ("reserved", c_uint32),
        ("pushes", c_uint64),
        ("push_failures", c_uint64),
    ]


# ---- drivers.h ----


class ModbusConfig(Struct):
    c_name = "ke_modbus_config"
    _fields_ = [
        ("size", c_size_t),
        ("timeout_ms", c_uint32),
        ("serial_timeout_ms", c_uint32),
        ("connect_ms", c_uint32),
        ("pipeline", c_uint32),
        ("gap", c_uint32),
        ("reserved", c_uint32),
    ]


class GpioConfig(Struct):
    c_name = "ke_gpio_config"
    _fields_ = [
        ("size", c_size_t),
        ("dev_folder", c_char_p),
        ("sys_folder", c_char_p),
    ]


# ---- mapper.h ----


class MapperConfig(Struct):
    c_name = "ke_mapper_config"
    _fields_ = [
        ("size", c_size_t),
        ("protocol", c_char_p),
        ("socket", c_char_p),
        ("name", c_char_p),
        ("version", c_char_p),
        ("edge_socket", c_char_p),
        ("flags", c_uint32),
        ("cycle_unit", c_uint32),
        ("call_ms", c_uint32),
        ("retry_min_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("max_devices", c_uint32),
        ("collect_ms", c_uint32),
        ("report_ms", c_uint32),
        ("api_version", c_char_p),
        ("http_listen", c_char_p),
        ("refresh_ms", c_uint32),
        ("reserved", c_uint32),
    ]


class MapperStatus(Struct):
    c_name = "ke_mapper_status"
    _fields_ = [
        ("size", c_size_t),
        ("state", c_uint32),
        ("last_error", c_int32),
        ("registrations", c_uint64),
        ("pushes", c_uint64),
        ("refused", c_uint64),
        ("reports", c_uint64),
        ("report_failures", c_uint64),
        ("devices", c_uint32),
        ("models", c_uint32),
        ("error_text", c_char * KE_ERROR_TEXT_MAX),
    ]

# ---- node.h ----


class Taint(Struct):
    c_name = "ke_taint"
    _fields_ = [
        ("key", c_char_p),
        ("value", c_char_p),
        ("effect", c_char_p),
    ]


class NodeConfig(Struct):
    c_name = "ke_node_config"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("data", c_char_p),
        ("cloud_host", c_char_p),
        ("token", c_char_p),
        ("project_id", c_char_p),
        ("proxy_url", c_char_p),
        ("ca_file", c_char_p),
        ("cert_file", c_char_p),
        ("key_file", c_char_p),
        ("tunnel_port", c_uint32),
        ("cert_port", c_uint32),
        ("dialect", c_uint32),
        ("heartbeat_ms", c_uint32),
        ("labels", POINTER(Env)),
        ("taints", POINTER(Taint)),
        ("resources", POINTER(Env)),
        ("n_labels", c_uint32),
        ("n_taints", c_uint32),
        ("n_resources", c_uint32),
        ("max_pods", c_uint32),
        ("node_ip", c_char_p),
        ("runtime", c_char_p),
        ("process_allow", POINTER(c_char_p)),
        ("n_process_allow", c_uint32),
        ("status_ms", c_uint32),
        ("process_user", c_char_p),
        ("shim", c_char_p),
        ("log_folder", c_char_p),
        ("retry_min_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("flags", c_uint32),
        ("stray_ms", c_uint32),
        ("host_path_allow", POINTER(c_char_p)),
        ("n_host_path_allow", c_uint32),
        ("mqtt", c_uint32),
        ("mqtt_listen", c_char_p),
        ("mqtt_qos", c_uint32),
        ("mqtt_retain", c_uint32),
        ("mqtt_queue", c_uint32),
        ("mqtt_flags", c_uint32),
        ("mqtt_url", c_char_p),
        ("mqtt_client_id", c_char_p),
        ("mqtt_user", c_char_p),
        ("mqtt_password", c_char_p),
        ("mqtt_ca_file", c_char_p),
        ("mqtt_cert_file", c_char_p),
        ("mqtt_key_file", c_char_p),
        ("mqtt_module", c_char_p),
        ("drivers", c_char_p),
        ("dmi_socket", c_char_p),
    ]


class PodInfo(Struct):
    c_name = "ke_pod_info"
    _fields_ = [
        ("size", c_size_t),
        ("pod_namespace", c_char_p),
        ("name", c_char_p),
        ("uid", c_char_p),
        ("phase", c_char_p),
        ("reason", c_char_p),
        ("message", c_char_p),
        ("ready", c_uint32),
        ("containers", c_uint32),
        ("restarts", c_uint32),
        ("removed", c_uint32),
    ]


class NodeMapperInfo(Struct):
    c_name = "ke_node_mapper_info"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("version", c_char_p),
        ("protocol", c_char_p),
        ("address", c_char_p),
        ("dmi", c_char_p),
        ("state", c_char_p),
        ("error", c_char_p),
        ("reachable", c_uint32),
        ("devices", c_uint32),
        ("waiting", c_uint32),
        ("reserved", c_uint32),
        ("reports", c_uint64),
        ("registered_ms", c_int64),
        ("seen_ms", c_int64),
    ]


class NodeStatus(Struct):
    c_name = "ke_node_status"
    _fields_ = [
        ("size", c_size_t),
        ("state", c_uint32),
        ("pods", c_uint32),
        ("pods_running", c_uint32),
        ("last_error", c_int32),
        ("tunnel", TunnelStatus),
        ("error_text", c_char * KE_ERROR_TEXT_MAX),
        ("strays", c_uint32),
    ]


# void (*state)(void *user, const struct ke_node_status *st)
NodeStateFn = CFUNCTYPE(None, c_void_p, POINTER(NodeStatus))
# void (*pod)(void *user, const struct ke_pod_info *p); also ke_node_pods
PodFn = CFUNCTYPE(None, c_void_p, POINTER(PodInfo))
# void (*fn)(void *user, const struct ke_node_mapper_info *m) of ke_node_mappers
NodeMapperFn = CFUNCTYPE(None, c_void_p, POINTER(NodeMapperInfo))
# void (*unknown)(void *user, const char *key, uint32_t line)
UnknownKeyFn = CFUNCTYPE(None, c_void_p, c_char_p, c_uint32)
# void (*devices)(void *user, struct ke_twin *twin, struct ke_devices *devices)
NodeDevicesFn = CFUNCTYPE(None, c_void_p, Twin, Devices)


class NodeOps(Struct):
    c_name = "ke_node_ops"
    _fields_ = [
        ("size", c_size_t),
        ("runtime", POINTER(RuntimeOps)),
        ("runtime_user", c_void_p),
        ("state", NodeStateFn),
        ("pod", PodFn),
        ("devices", NodeDevicesFn),
    ]


# ---- cloud.h ----


class CloudConfig(Struct):
    c_name = "ke_cloud_config"
    _fields_ = [
        ("size", c_size_t),
        ("data", c_char_p),
        ("manifests", c_char_p),
        ("listen", c_char_p),
        ("advertise", POINTER(c_char_p)),
        ("n_advertise", c_uint32),
        ("tunnel_port", c_uint32),
        ("cert_port", c_uint32),
        ("max_nodes", c_uint32),
        ("max_message", c_uint32),
        ("cert_days", c_uint32),
        ("token_hours", c_uint32),
        ("flags", c_uint32),
    ]


class CloudNodeInfo(Struct):
    c_name = "ke_cloud_node_info"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("status", c_char_p),
        ("address", c_char_p),
        ("version", c_char_p),
        ("connected", c_uint32),
        ("dialect", c_uint32),
        ("pending", c_uint32),
        ("reserved", c_uint32),
        ("heartbeat_ms", c_int64),
    ]


class CloudPodInfo(Struct):
    c_name = "ke_cloud_pod_info"
    _fields_ = [
        ("size", c_size_t),
        ("pod_namespace", c_char_p),
        ("name", c_char_p),
        ("uid", c_char_p),
        ("node", c_char_p),
        ("phase", c_char_p),
        ("reason", c_char_p),
        ("ready", c_uint32),
        ("containers", c_uint32),
        ("restarts", c_uint32),
        ("deleting", c_uint32),
    ]


class CloudTwinInfo(Struct):
    c_name = "ke_cloud_twin_info"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("type", c_char_p),
        ("desired", c_char_p),
        ("reported", c_char_p),
        ("observed", c_char_p),
        ("has_desired", c_uint32),
        ("has_reported", c_uint32),
        ("has_observed", c_uint32),
        ("reserved", c_uint32),
        ("reported_ms", c_int64),
    ]


class CloudDeviceInfo(Struct):
    c_name = "ke_cloud_device_info"
    _fields_ = [
        ("size", c_size_t),
        ("device_namespace", c_char_p),
        ("name", c_char_p),
        ("uid", c_char_p),
        ("node", c_char_p),
        ("model", c_char_p),
        ("protocol", c_char_p),
        ("api", c_char_p),
        ("state", c_char_p),
        ("last_online", c_char_p),
        ("reason", c_char_p),
        ("twins", POINTER(POINTER(CloudTwinInfo))),
        ("n_twins", c_uint32),
        ("pending", c_uint32),
    ]


# void (*node)(void *user, const struct ke_cloud_node_info *n, uint32_t removed)
CloudNodeFn = CFUNCTYPE(None, c_void_p, POINTER(CloudNodeInfo), c_uint32)
# void (*pod)(void *user, const struct ke_cloud_pod_info *p, uint32_t removed)
CloudPodFn = CFUNCTYPE(None, c_void_p, POINTER(CloudPodInfo), c_uint32)
# void (*manifest_error)(void *user, const char *text)
ManifestErrorFn = CFUNCTYPE(None, c_void_p, c_char_p)
# void (*device)(void *user, const struct ke_cloud_device_info *d, uint32_t removed)
CloudDeviceFn = CFUNCTYPE(None, c_void_p, POINTER(CloudDeviceInfo), c_uint32)
# void (*fn)(void *user, const struct ke_cloud_node_info *n)
CloudNodesFn = CFUNCTYPE(None, c_void_p, POINTER(CloudNodeInfo))
# void (*fn)(void *user, const struct ke_cloud_pod_info *p)
CloudPodsFn = CFUNCTYPE(None, c_void_p, POINTER(CloudPodInfo))
# void (*fn)(void *user, const struct ke_cloud_device_info *d)
CloudDevicesFn = CFUNCTYPE(None, c_void_p, POINTER(CloudDeviceInfo))


class CloudOps(Struct):
    c_name = "ke_cloud_ops"
    _fields_ = [
        ("size", c_size_t),
        ("node", CloudNodeFn),
        ("pod", CloudPodFn),
        ("manifest_error", ManifestErrorFn),
        ("device", CloudDeviceFn),
    ]


# ---- mqtt.h ----


class MqttStr(Struct):
    c_name = "ke_mqtt_str"
    _fields_ = [
        ("p", POINTER(c_char)),
        ("n", c_size_t),
    ]


class MqttListener(Struct):
    c_name = "ke_mqtt_listener"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("kind", c_uint32),
        ("flags", c_uint32),
        ("host", c_char_p),
        ("port", c_uint32),
        ("max_connections", c_uint32),
        ("path", c_char_p),
        ("cert_file", c_char_p),
        ("key_file", c_char_p),
        ("ca_file", c_char_p),
        ("crl_file", c_char_p),
        ("mount_point", c_char_p),
        ("socket_mode", c_uint32),
        ("max_topic_alias", c_uint32),
        ("password_file", c_char_p),
        ("acl_file", c_char_p),
    ]


class MqttConfig(Struct):
    c_name = "ke_mqtt_config"
    _fields_ = [
        ("size", c_size_t),
        ("listeners", POINTER(MqttListener)),
        ("n_listeners", c_uint32),
        ("flags", c_uint32),
        ("data", c_char_p),
        ("max_connections", c_uint32),
        ("max_sessions", c_uint32),
        ("max_connect_rate", c_uint32),
        ("max_pending", c_uint32),
        ("max_retained", c_uint32),
        ("max_subscriptions", c_uint32),
        ("max_retained_bytes", c_uint64),
        ("max_queued_bytes_all", c_uint64),
        ("max_queued_all", c_uint32),
        ("max_packet", c_uint32),
        ("max_inflight", c_uint32),
        ("receive_max", c_uint32),
        ("max_queued", c_uint32),
        ("max_client_subscriptions", c_uint32),
        ("max_queued_bytes", c_uint64),
        ("max_output", c_uint32),
        ("max_topic_bytes", c_uint32),
        ("max_topic_levels", c_uint32),
        ("max_topic_alias", c_uint32),
        ("max_topic_alias_out", c_uint32),
        ("max_keepalive", c_uint32),
        ("max_session_expiry", c_uint32),
        ("max_client_id", c_uint32),
        ("connect_ms", c_uint32),
        ("auth_ms", c_uint32),
        ("stall_ms", c_uint32),
        ("sys_interval_s", c_uint32),
        ("max_log_mib", c_uint32),
        ("max_payload", c_uint32),
        ("max_inflight_bytes", c_uint32),
        ("reserved", c_uint32),
        ("auto_id_prefix", c_char_p),
        ("response_information", c_char_p),
        ("password_file", c_char_p),
        ("acl_file", c_char_p),
    ]


class MqttUserProp(Struct):
    c_name = "ke_mqtt_user_prop"
    _fields_ = [
        ("name", MqttStr),
        ("value", MqttStr),
    ]


class MqttMessage(Struct):
    c_name = "ke_mqtt_message"
    _fields_ = [
        ("size", c_size_t),
        ("data", MqttData),
        ("topic", MqttStr),
        ("payload", MqttStr),
        ("content_type", MqttStr),
        ("response_topic", MqttStr),
        ("correlation", MqttStr),
        ("client_id", MqttStr),
        ("user_name", MqttStr),
        ("sub_ids", POINTER(c_uint32)),
        ("n_sub_ids", c_uint32),
        ("n_user", c_uint32),
        ("has", c_uint32),
        ("qos", c_uint32),
        ("retain", c_uint32),
        ("format", c_uint32),
        ("expiry", c_uint32),
        ("reserved", c_uint32),
    ]


class MqttPublish(Struct):
    c_name = "ke_mqtt_publish"
    _fields_ = [
        ("size", c_size_t),
        ("topic", MqttStr),
        ("payload", MqttStr),
        ("content_type", MqttStr),
        ("response_topic", MqttStr),
        ("correlation", MqttStr),
        ("user_props", POINTER(MqttUserProp)),
        ("n_user_props", c_uint32),
        ("qos", c_uint32),
        ("retain", c_uint32),
        ("has", c_uint32),
        ("format", c_uint32),
        ("expiry", c_uint32),
    ]


# void (*ke_mqtt_done_fn)(void *user, int status)
MqttDoneFn = CFUNCTYPE(None, c_void_p, c_int)

# void (*ke_mqtt_message_fn)(void *user, const struct ke_mqtt_message *msg)
MqttMessageFn = CFUNCTYPE(None, c_void_p, POINTER(MqttMessage))


class MqttClient(Struct):
    c_name = "ke_mqtt_client"
    _fields_ = [
        ("size", c_size_t),
        ("client_id", MqttStr),
        ("user_name", MqttStr),
        ("identity", MqttStr),
        ("address", MqttStr),
        ("listener", MqttStr),
        ("cert", MqttStr),
        ("version", c_uint32),
        ("keepalive", c_uint32),
        ("clean_start", c_uint32),
        ("session_expiry", c_uint32),
    ]


class MqttCredentials(Struct):
    c_name = "ke_mqtt_credentials"
    _fields_ = [
        ("size", c_size_t),
        ("client", POINTER(MqttClient)),
        ("password", MqttStr),
        ("has_user", c_uint32),
        ("has_password", c_uint32),
        ("auth_method", MqttStr),
        ("auth_data", MqttStr),
    ]


class MqttEvent(Struct):
    c_name = "ke_mqtt_event"
    _fields_ = [
        ("size", c_size_t),
        ("what", c_uint32),
        ("reason", c_uint32),
        ("client", POINTER(MqttClient)),
        ("topic", MqttStr),
        ("text", MqttStr),
    ]


# int (*authenticate)(void *user, struct ke_mqtt_auth *a, const struct ke_mqtt_credentials *c)
MqttAuthenticateFn = CFUNCTYPE(c_int, c_void_p, MqttAuth, POINTER(MqttCredentials))

# void (*auth_gone)(void *user, struct ke_mqtt_auth *a)
MqttAuthGoneFn = CFUNCTYPE(None, c_void_p, MqttAuth)

# int (*authorize)(void *user, const struct ke_mqtt_client *c, uint32_t access, struct ke_mqtt_str topic)
MqttAuthorizeFn = CFUNCTYPE(c_int, c_void_p, POINTER(MqttClient), c_uint32, MqttStr)

# void (*event)(void *user, const struct ke_mqtt_event *e)
MqttEventFn = CFUNCTYPE(None, c_void_p, POINTER(MqttEvent))

# int (*message)(void *user, const struct ke_mqtt_client *c, const struct ke_mqtt_message *msg)
MqttFilterFn = CFUNCTYPE(c_int, c_void_p, POINTER(MqttClient), POINTER(MqttMessage))


class MqttOps(Struct):
    c_name = "ke_mqtt_ops"
    _fields_ = [
        ("size", c_size_t),
        ("authenticate", MqttAuthenticateFn),
        ("auth", MqttAuthenticateFn),
        ("auth_gone", MqttAuthGoneFn),
        ("authorize", MqttAuthorizeFn),
        ("event", MqttEventFn),
        ("message", MqttFilterFn),
        ("storage", MqttDoneFn),
    ]


class MqttAuthResult(Struct):
    c_name = "ke_mqtt_auth_result"
    _fields_ = [
        ("size", c_size_t),
        ("reason", c_uint32),
        ("reserved", c_uint32),
        ("data", MqttStr),
        ("text", MqttStr),
        ("identity", MqttStr),
        ("user_name", MqttStr),
        ("server", MqttStr),
    ]


# void (*fn)(void *user, const struct ke_mqtt_client *c)
MqttClientFn = CFUNCTYPE(None, c_void_p, POINTER(MqttClient))

# void (*gone)(void *user)
MqttGoneFn = CFUNCTYPE(None, c_void_p)


class MqttSubscribe(Struct):
    c_name = "ke_mqtt_subscribe"
    _fields_ = [
        ("size", c_size_t),
        ("filter", MqttStr),
        ("qos", c_uint32),
        ("flags", c_uint32),
        ("id", c_uint32),
        ("reserved", c_uint32),
        ("message", MqttMessageFn),
        ("gone", MqttGoneFn),
    ]


class MqttRule(Struct):
    c_name = "ke_mqtt_rule"
    _fields_ = [
        ("size", c_size_t),
        ("topic", c_char_p),
        ("access", c_uint32),
        ("reserved", c_uint32),
    ]


class MqttIdentity(Struct):
    c_name = "ke_mqtt_identity"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("user_name", c_char_p),
        ("password", c_char_p),
        ("client_id", c_char_p),
        ("cert_sha256", c_char_p),
        ("cert_name", c_char_p),
        ("rules", POINTER(MqttRule)),
        ("n_rules", c_uint32),
        ("reserved", c_uint32),
    ]


# void (*fn)(void *user, const struct ke_mqtt_identity *id)
MqttIdentityFn = CFUNCTYPE(None, c_void_p, POINTER(MqttIdentity))


class MqttStats(Struct):
    c_name = "ke_mqtt_stats"
    _fields_ = [
        ("size", c_size_t),
        ("connections", c_uint64),
        ("sessions", c_uint64),
        ("subscriptions", c_uint64),
        ("shared_subscriptions", c_uint64),
        ("retained", c_uint64),
        ("retained_bytes", c_uint64),
        ("queued", c_uint64),
        ("queued_bytes", c_uint64),
        ("inflight", c_uint64),
        ("output_bytes", c_uint64),
        ("connects", c_uint64),
        ("connects_refused", c_uint64),
        ("disconnects", c_uint64),
        ("packets_in", c_uint64),
        ("packets_out", c_uint64),
        ("bytes_in", c_uint64),
        ("bytes_out", c_uint64),
        ("publish_in", c_uint64),
        ("publish_out", c_uint64),
        ("publish_dropped", c_uint64),
        ("publish_expired", c_uint64),
        ("publish_bytes_in", c_uint64),
        ("publish_bytes_out", c_uint64),
        ("sessions_expired", c_uint64),
        ("wills", c_uint64),
        ("protocol_errors", c_uint64),
        ("commits", c_uint64),
        ("commit_failures", c_uint64),
        ("over_connections", c_uint64),
        ("over_sessions", c_uint64),
        ("over_connect_rate", c_uint64),
        ("over_pending", c_uint64),
        ("over_connect_time", c_uint64),
        ("over_packet", c_uint64),
        ("over_topic", c_uint64),
        ("over_inflight", c_uint64),
        ("over_queued", c_uint64),
        ("over_queued_bytes", c_uint64),
        ("over_queued_all", c_uint64),
        ("over_output", c_uint64),
        ("over_stall", c_uint64),
        ("over_retained", c_uint64),
        ("over_subscriptions", c_uint64),
        ("over_auth_time", c_uint64),
        ("denied", c_uint64),
        ("max_connections_seen", c_uint64),
        ("uptime_s", c_uint64),
    ]


# ---- bridge.h ----


class BridgeTopic(Struct):
    c_name = "ke_bridge_topic"
    _fields_ = [
        ("size", c_size_t),
        ("pattern", c_char_p),
        ("local_prefix", c_char_p),
        ("remote_prefix", c_char_p),
        ("direction", c_uint32),
        ("qos", c_uint32),
    ]


class BridgeConfig(Struct):
    c_name = "ke_bridge_config"
    _fields_ = [
        ("size", c_size_t),
        ("name", c_char_p),
        ("host", c_char_p),
        ("port", c_uint32),
        ("version", c_uint32),
        ("client_id", c_char_p),
        ("local_client_id", c_char_p),
        ("user_name", c_char_p),
        ("password", c_char_p),
        ("topics", POINTER(BridgeTopic)),
        ("n_topics", c_uint32),
        ("flags", c_uint32),
        ("keepalive", c_uint32),
        ("retry_min_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("max_inflight", c_uint32),
        ("max_packet", c_uint32),
        ("ca_file", c_char_p),
        ("cert_file", c_char_p),
        ("key_file", c_char_p),
        ("verify_name", c_char_p),
        ("notify_topic", c_char_p),
        ("more_hosts", POINTER(c_char_p)),
        ("n_more_hosts", c_uint32),
        ("reserved", c_uint32),
    ]


class BridgeStatus(Struct):
    c_name = "ke_bridge_status"
    _fields_ = [
        ("size", c_size_t),
        ("state", c_uint32),
        ("last_error", c_int32),
        ("sent", c_uint64),
        ("received", c_uint64),
        ("dropped", c_uint64),
        ("refused", c_uint64),
        ("connects", c_uint64),
        ("error_text", c_char * KE_ERROR_TEXT_MAX),
    ]


# ---- eventbus.h ----


class EventbusConfig(Struct):
    c_name = "ke_eventbus_config"
    _fields_ = [
        ("size", c_size_t),
        ("mode", c_uint32),
        ("flags", c_uint32),
        ("server", Mqtt),
        ("router", Router),
        ("store", Store),
        ("node_name", c_char_p),
        ("qos", c_uint32),
        ("retain", c_uint32),
        ("url", c_char_p),
        ("client_id", c_char_p),
        ("user_name", c_char_p),
        ("password", c_char_p),
        ("ca_file", c_char_p),
        ("cert_file", c_char_p),
        ("key_file", c_char_p),
        ("keepalive", c_uint32),
        ("retry_min_ms", c_uint32),
        ("retry_max_ms", c_uint32),
        ("max_messages", c_uint32),
        ("max_bytes", c_uint64),
        ("will_topic", c_char_p),
        ("will_payload", c_char_p),
        ("will_qos", c_uint32),
        ("will_retain", c_uint32),
        ("module", c_char_p),
    ]


class EventbusStatus(Struct):
    c_name = "ke_eventbus_status"
    _fields_ = [
        ("size", c_size_t),
        ("state", c_uint32),
        ("last_error", c_int32),
        ("to_cloud", c_uint64),
        ("to_twin", c_uint64),
        ("published", c_uint64),
        ("refused", c_uint64),
        ("waiting", c_uint64),
        ("connects", c_uint64),
        ("error_text", c_char * KE_ERROR_TEXT_MAX),
    ]


class EventbusMessage(Struct):
    c_name = "ke_eventbus_message"
    _fields_ = [
        ("size", c_size_t),
        ("topic", MqttStr),
        ("payload", MqttStr),
        ("qos", c_uint32),
        ("retain", c_uint32),
        ("external", c_uint32),
        ("reserved", c_uint32),
    ]


# void (*ke_eventbus_fn)(void *user, const struct ke_eventbus_message *m)
EventbusFn = CFUNCTYPE(None, c_void_p, POINTER(EventbusMessage))
