# SPDX-License-Identifier: Apache-2.0
"""Every exported function of libkubeedge: its C prototype, and what ctypes must know of it.

One entry per function, in the order of the headers; argument and result types are always both given. Held
against the headers and the library by tests/test_agreement.py. Results are raw here: 0 or KE_E*, turned into
exceptions by Core.check.
"""
from ctypes import POINTER, c_char, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, Dict, List, Tuple

from . import _lib
from . import _struct as s

LIBRARY, VERSION = _lib.load()

# name -> argument types, result type
PROTOTYPES: Dict[str, Tuple[List[Any], Any]] = {}


def f(name: str, argtypes: List[Any], restype: Any) -> Any:
    try:
        function = getattr(LIBRARY, name)
    except AttributeError:
        raise ImportError(f"{LIBRARY._name} has no {name}: it is older than this package") from None
    function.argtypes = argtypes
    function.restype = restype
    PROTOTYPES[name] = argtypes, restype
    return function


# ---- version.h ----

# uint32_t ke_version(void);
ke_version = f("ke_version", [], c_uint32)
# const char *ke_version_string(void);
ke_version_string = f("ke_version_string", [], c_char_p)

# ---- err.h ----

# const char *ke_strerror(int code);
ke_strerror = f("ke_strerror", [c_int], c_char_p)

# ---- sys/io.h ----

# const struct ke_io *ke_io_posix(void);
ke_io_posix = f("ke_io_posix", [], POINTER(s.Io))

# ---- ctx.h ----

# void ke_ctx_config_init(struct ke_ctx_config *c, size_t size);
ke_ctx_config_init = f("ke_ctx_config_init", [POINTER(s.CtxConfig), c_size_t], None)
# int ke_ctx_new(struct ke_ctx **ret, const struct ke_ctx_config *c, struct ke_error *reterr);
ke_ctx_new = f("ke_ctx_new", [POINTER(s.Ctx), POINTER(s.CtxConfig), POINTER(s.Error)], c_int)
# void ke_ctx_free(struct ke_ctx *ctx);
ke_ctx_free = f("ke_ctx_free", [s.Ctx], None)
# const char *ke_ctx_error(const struct ke_ctx *ctx);
ke_ctx_error = f("ke_ctx_error", [s.Ctx], c_char_p)
# int64_t ke_ctx_mono_ms(const struct ke_ctx *ctx);
ke_ctx_mono_ms = f("ke_ctx_mono_ms", [s.Ctx], c_int64)
# int64_t ke_ctx_real_ms(const struct ke_ctx *ctx);
ke_ctx_real_ms = f("ke_ctx_real_ms", [s.Ctx], c_int64)
# int ke_ctx_fd(struct ke_ctx *ctx, int *ret_fd);
ke_ctx_fd = f("ke_ctx_fd", [s.Ctx, POINTER(c_int)], c_int)
# int ke_ctx_prepare(struct ke_ctx *ctx, int64_t *ret_timeout_ms);
ke_ctx_prepare = f("ke_ctx_prepare", [s.Ctx, POINTER(c_int64)], c_int)
# int ke_ctx_wait(struct ke_ctx *ctx, int64_t timeout_ms);
ke_ctx_wait = f("ke_ctx_wait", [s.Ctx, c_int64], c_int)
# int ke_ctx_dispatch(struct ke_ctx *ctx);
ke_ctx_dispatch = f("ke_ctx_dispatch", [s.Ctx], c_int)
# int ke_ctx_run(struct ke_ctx *ctx);
ke_ctx_run = f("ke_ctx_run", [s.Ctx], c_int)
# void ke_ctx_stop(struct ke_ctx *ctx);
ke_ctx_stop = f("ke_ctx_stop", [s.Ctx], None)
# int ke_ctx_post(struct ke_ctx *ctx, void (*fn)(void *user), void *user, struct ke_error *reterr);
ke_ctx_post = f("ke_ctx_post", [s.Ctx, s.PostFn, c_void_p, POINTER(s.Error)], c_int)
# void ke_buf_free(struct ke_buf *b);
ke_buf_free = f("ke_buf_free", [POINTER(s.Buf)], None)

# ---- msg.h ----

# void ke_msg_config_init(struct ke_msg_config *c, size_t size);
ke_msg_config_init = f("ke_msg_config_init", [POINTER(s.MsgConfig), c_size_t], None)
# int ke_msg_new(struct ke_msg **ret, struct ke_ctx *ctx, const struct ke_msg_config *c,
#                struct ke_error *reterr);
ke_msg_new = f("ke_msg_new", [POINTER(s.Msg), s.Ctx, POINTER(s.MsgConfig), POINTER(s.Error)], c_int)
# int ke_msg_new_reply(struct ke_msg **ret, struct ke_ctx *ctx, const struct ke_msg *m, const char *content,
#                      size_t content_len, struct ke_error *reterr);
ke_msg_new_reply = f(
    "ke_msg_new_reply", [POINTER(s.Msg), s.Ctx, s.Msg, c_char_p, c_size_t, POINTER(s.Error)], c_int
)
# int ke_msg_decode(struct ke_msg **ret, struct ke_ctx *ctx, const char *p, size_t n,
#                   struct ke_error *reterr);
ke_msg_decode = f("ke_msg_decode", [POINTER(s.Msg), s.Ctx, c_char_p, c_size_t, POINTER(s.Error)], c_int)
# int ke_msg_encode(const struct ke_msg *m, struct ke_ctx *ctx, uint32_t dialect, struct ke_buf *out,
#                   struct ke_error *reterr);
ke_msg_encode = f("ke_msg_encode", [s.Msg, s.Ctx, c_uint32, POINTER(s.Buf), POINTER(s.Error)], c_int)
# struct ke_msg *ke_msg_ref(struct ke_msg *m);
ke_msg_ref = f("ke_msg_ref", [s.Msg], s.Msg)
# void ke_msg_unref(struct ke_msg *m);
ke_msg_unref = f("ke_msg_unref", [s.Msg], None)
# const char *ke_msg_id(const struct ke_msg *m);
ke_msg_id = f("ke_msg_id", [s.Msg], c_char_p)
# const char *ke_msg_parent_id(const struct ke_msg *m);
ke_msg_parent_id = f("ke_msg_parent_id", [s.Msg], c_char_p)
# int64_t ke_msg_timestamp_ms(const struct ke_msg *m);
ke_msg_timestamp_ms = f("ke_msg_timestamp_ms", [s.Msg], c_int64)
# const char *ke_msg_resource_version(const struct ke_msg *m);
ke_msg_resource_version = f("ke_msg_resource_version", [s.Msg], c_char_p)
# const char *ke_msg_source(const struct ke_msg *m);
ke_msg_source = f("ke_msg_source", [s.Msg], c_char_p)
# const char *ke_msg_destination(const struct ke_msg *m);
ke_msg_destination = f("ke_msg_destination", [s.Msg], c_char_p)
# const char *ke_msg_group(const struct ke_msg *m);
ke_msg_group = f("ke_msg_group", [s.Msg], c_char_p)
# const char *ke_msg_operation(const struct ke_msg *m);
ke_msg_operation = f("ke_msg_operation", [s.Msg], c_char_p)
# const char *ke_msg_resource(const struct ke_msg *m);
ke_msg_resource = f("ke_msg_resource", [s.Msg], c_char_p)
# const char *ke_msg_content(const struct ke_msg *m, size_t *ret_len);
ke_msg_content = f("ke_msg_content", [s.Msg, POINTER(c_size_t)], POINTER(c_char))

# ---- router.h ----

# void ke_router_config_init(struct ke_router_config *c, size_t size);
ke_router_config_init = f("ke_router_config_init", [POINTER(s.RouterConfig), c_size_t], None)
# int ke_router_new(struct ke_router **ret, struct ke_ctx *ctx, const struct ke_router_config *c);
ke_router_new = f("ke_router_new", [POINTER(s.Router), s.Ctx, POINTER(s.RouterConfig)], c_int)
# void ke_router_free(struct ke_router *r);
ke_router_free = f("ke_router_free", [s.Router], None)
# int ke_router_add(struct ke_module **ret, struct ke_router *r, const char *name, const char *group,
#                   const struct ke_module_ops *ops, void *user);
ke_router_add = f(
    "ke_router_add", [POINTER(s.Module), s.Router, c_char_p, c_char_p, POINTER(s.ModuleOps), c_void_p], c_int
)
# void ke_module_remove(struct ke_module *m);
ke_module_remove = f("ke_module_remove", [s.Module], None)
# int ke_module_stats(struct ke_module *m, struct ke_module_stats *ret, size_t size);
ke_module_stats = f("ke_module_stats", [s.Module, POINTER(s.ModuleStats), c_size_t], c_int)
# int ke_router_send(struct ke_router *r, const char *module, struct ke_msg *m, struct ke_error *reterr);
ke_router_send = f("ke_router_send", [s.Router, c_char_p, s.Msg, POINTER(s.Error)], c_int)
# int ke_router_send_group(struct ke_router *r, const char *group, struct ke_msg *m,
#                          struct ke_error *reterr);
ke_router_send_group = f("ke_router_send_group", [s.Router, c_char_p, s.Msg, POINTER(s.Error)], c_int)
# int ke_router_request(struct ke_router *r, const char *module, struct ke_msg *m, int64_t timeout_ms,
#                       ke_reply_fn fn, void *user, uint64_t *ret_request);
ke_router_request = f(
    "ke_router_request",
    [s.Router, c_char_p, s.Msg, c_int64, s.ReplyFn, c_void_p, POINTER(c_uint64)],
    c_int,
)
# void ke_router_cancel(struct ke_router *r, uint64_t request);
ke_router_cancel = f("ke_router_cancel", [s.Router, c_uint64], None)
# int ke_router_respond(struct ke_router *r, struct ke_msg *reply, struct ke_error *reterr);
ke_router_respond = f("ke_router_respond", [s.Router, s.Msg, POINTER(s.Error)], c_int)

# ---- store.h ----

# void ke_store_config_init(struct ke_store_config *c, size_t size);
ke_store_config_init = f("ke_store_config_init", [POINTER(s.StoreConfig), c_size_t], None)
# int ke_store_open(struct ke_store **ret, struct ke_ctx *ctx, const struct ke_store_config *c);
ke_store_open = f("ke_store_open", [POINTER(s.Store), s.Ctx, POINTER(s.StoreConfig)], c_int)
# void ke_store_close(struct ke_store *s);
ke_store_close = f("ke_store_close", [s.Store], None)
# int ke_store_get(struct ke_store *s, const char *bucket, const char *key, ke_store_get_fn fn, void *user);
ke_store_get = f("ke_store_get", [s.Store, c_char_p, c_char_p, s.StoreItemFn, c_void_p], c_int)
# int ke_store_list(struct ke_store *s, const char *bucket, const char *prefix, uint32_t limit,
#                   ke_store_list_fn fn, void *user);
ke_store_list = f("ke_store_list", [s.Store, c_char_p, c_char_p, c_uint32, s.StoreItemFn, c_void_p], c_int)
# int ke_store_begin(struct ke_store_tx **ret, struct ke_store *s);
ke_store_begin = f("ke_store_begin", [POINTER(s.StoreTx), s.Store], c_int)
# int ke_store_put(struct ke_store_tx *tx, const char *bucket, const char *key, const char *uid,
#                  int64_t version, const void *value, size_t len);
ke_store_put = f("ke_store_put", [s.StoreTx, c_char_p, c_char_p, c_char_p, c_int64, c_void_p, c_size_t], c_int)
# int ke_store_delete(struct ke_store_tx *tx, const char *bucket, const char *key, const char *uid);
ke_store_delete = f("ke_store_delete", [s.StoreTx, c_char_p, c_char_p, c_char_p], c_int)
# int ke_store_delete_prefix(struct ke_store_tx *tx, const char *bucket, const char *prefix);
ke_store_delete_prefix = f("ke_store_delete_prefix", [s.StoreTx, c_char_p, c_char_p], c_int)
# int ke_store_commit(struct ke_store_tx *tx, ke_store_done_fn fn, void *user);
ke_store_commit = f("ke_store_commit", [s.StoreTx, s.StoreDoneFn, c_void_p], c_int)
# void ke_store_abort(struct ke_store_tx *tx);
ke_store_abort = f("ke_store_abort", [s.StoreTx], None)

# ---- tunnel.h ----

# void ke_tunnel_config_init(struct ke_tunnel_config *c, size_t size);
ke_tunnel_config_init = f("ke_tunnel_config_init", [POINTER(s.TunnelConfig), c_size_t], None)
# int ke_tunnel_new(struct ke_tunnel **ret, struct ke_ctx *ctx, const struct ke_tunnel_config *c,
#                   const struct ke_tunnel_ops *ops, void *user);
ke_tunnel_new = f(
    "ke_tunnel_new",
    [POINTER(s.Tunnel), s.Ctx, POINTER(s.TunnelConfig), POINTER(s.TunnelOps), c_void_p],
    c_int,
)
# void ke_tunnel_free(struct ke_tunnel *t);
ke_tunnel_free = f("ke_tunnel_free", [s.Tunnel], None)
# int ke_tunnel_start(struct ke_tunnel *t);
ke_tunnel_start = f("ke_tunnel_start", [s.Tunnel], c_int)
# void ke_tunnel_stop(struct ke_tunnel *t);
ke_tunnel_stop = f("ke_tunnel_stop", [s.Tunnel], None)
# int ke_tunnel_reconnect(struct ke_tunnel *t);
ke_tunnel_reconnect = f("ke_tunnel_reconnect", [s.Tunnel], c_int)
# int ke_tunnel_status(struct ke_tunnel *t, struct ke_tunnel_status *ret, size_t size);
ke_tunnel_status = f("ke_tunnel_status", [s.Tunnel, POINTER(s.TunnelStatus), c_size_t], c_int)
# int ke_tunnel_send(struct ke_tunnel *t, struct ke_msg *m, uint32_t how, const char *key,
#                    ke_store_done_fn done, void *user);
ke_tunnel_send = f("ke_tunnel_send", [s.Tunnel, s.Msg, c_uint32, c_char_p, s.StoreDoneFn, c_void_p], c_int)
# int ke_tunnel_ack(struct ke_tunnel *t, struct ke_msg *m);
ke_tunnel_ack = f("ke_tunnel_ack", [s.Tunnel, s.Msg], c_int)

# ---- runtime.h ----

# int ke_runtime_complete(struct ke_runtime *rt, uint64_t op, int status, const struct ke_runtime_result *r);
ke_runtime_complete = f("ke_runtime_complete", [s.Runtime, c_uint64, c_int, POINTER(s.RuntimeResult)], c_int)
# int ke_runtime_event(struct ke_runtime *rt, const struct ke_container_info *c);
ke_runtime_event = f("ke_runtime_event", [s.Runtime, POINTER(s.ContainerInfo)], c_int)

# ---- twin.h ----

# void ke_twin_config_init(struct ke_twin_config *c, size_t size);
ke_twin_config_init = f("ke_twin_config_init", [POINTER(s.TwinConfig), c_size_t], None)
# int ke_twin_new(struct ke_twin **ret, struct ke_ctx *ctx, const struct ke_twin_config *c);
ke_twin_new = f("ke_twin_new", [POINTER(s.Twin), s.Ctx, POINTER(s.TwinConfig)], c_int)
# int ke_twin_start(struct ke_twin *t);
ke_twin_start = f("ke_twin_start", [s.Twin], c_int)
# void ke_twin_stop(struct ke_twin *t);
ke_twin_stop = f("ke_twin_stop", [s.Twin], None)
# void ke_twin_free(struct ke_twin *t);
ke_twin_free = f("ke_twin_free", [s.Twin], None)
# int ke_twin_status(struct ke_twin *t, struct ke_twin_status *ret, size_t size);
ke_twin_status = f("ke_twin_status", [s.Twin, POINTER(s.TwinStatus), c_size_t], c_int)
# int ke_twin_add(struct ke_twin *t, const char *device, const char *description, ke_twin_done_fn done, void
#                 *user, struct ke_error *reterr);
ke_twin_add = f("ke_twin_add", [s.Twin, c_char_p, c_char_p, s.TwinDoneFn, c_void_p, POINTER(s.Error)], c_int)
# int ke_twin_remove(struct ke_twin *t, const char *device, ke_twin_done_fn done, void *user, struct ke_error
#                    *reterr);
ke_twin_remove = f("ke_twin_remove", [s.Twin, c_char_p, s.TwinDoneFn, c_void_p, POINTER(s.Error)], c_int)
# int ke_twin_set(struct ke_twin *t, const char *device, const char *name, const char *value, const char
#                 *type, ke_twin_done_fn done, void *user, struct ke_error *reterr);
ke_twin_set = f(
    "ke_twin_set", [s.Twin, c_char_p, c_char_p, c_char_p, c_char_p, s.TwinDoneFn, c_void_p, POINTER(s.Error)], c_int
)
# int ke_twin_report(struct ke_twin *t, const char *device, const char *name, const char *value, const char
#                    *type, ke_twin_done_fn done, void *user, struct ke_error *reterr);
ke_twin_report = f(
    "ke_twin_report",
    [s.Twin, c_char_p, c_char_p, c_char_p, c_char_p, s.TwinDoneFn, c_void_p, POINTER(s.Error)],
    c_int,
)
# int ke_twin_set_state(struct ke_twin *t, const char *device, const char *state, ke_twin_done_fn done, void
#                       *user, struct ke_error *reterr);
ke_twin_set_state = f(
    "ke_twin_set_state", [s.Twin, c_char_p, c_char_p, s.TwinDoneFn, c_void_p, POINTER(s.Error)], c_int
)
# int ke_twin_get(struct ke_twin *t, const char *device, const char *name, struct ke_twin_value *ret, size_t
#                 size);
ke_twin_get = f("ke_twin_get", [s.Twin, c_char_p, c_char_p, POINTER(s.TwinValue), c_size_t], c_int)
# int ke_twin_devices(struct ke_twin *t, void (*fn)(void *user, const struct ke_twin_device *d), void *user);
ke_twin_devices = f("ke_twin_devices", [s.Twin, s.TwinDevicesFn, c_void_p], c_int)
# int ke_twin_each(struct ke_twin *t, const char *device, void (*fn)(void *user, const struct ke_twin_value
#                  *v), void *user);
ke_twin_each = f("ke_twin_each", [s.Twin, c_char_p, s.TwinValuesFn, c_void_p], c_int)
# int ke_twin_json(struct ke_twin *t, const char *device, struct ke_buf *out, struct ke_error *reterr);
ke_twin_json = f("ke_twin_json", [s.Twin, c_char_p, POINTER(s.Buf), POINTER(s.Error)], c_int)
# int ke_twin_observe(struct ke_twin_sub **ret, struct ke_twin *t, const char *device, ke_twin_fn fn, void
#                     *user);
ke_twin_observe = f("ke_twin_observe", [POINTER(s.TwinSub), s.Twin, c_char_p, s.TwinFn, c_void_p], c_int)
# void ke_twin_unobserve(struct ke_twin_sub *s);
ke_twin_unobserve = f("ke_twin_unobserve", [s.TwinSub], None)

# ---- device.h ----

# int ke_device_complete(struct ke_devices *d, uint64_t op, int status, const struct ke_device_result *r);
ke_device_complete = f("ke_device_complete", [s.Devices, c_uint64, c_int, POINTER(s.DeviceResult)], c_int)
# int ke_device_report(struct ke_devices *d, uint64_t device, const struct ke_device_value *v, uint32_t n);
ke_device_report = f("ke_device_report", [s.Devices, c_uint64, POINTER(s.DeviceValue), c_uint32], c_int)
# int ke_device_lost(struct ke_devices *d, uint64_t device, int status, const char *text);
ke_device_lost = f("ke_device_lost", [s.Devices, c_uint64, c_int, c_char_p], c_int)
# int ke_device_config_i64(const char *json, size_t n, const char *path, int64_t *ret);
ke_device_config_i64 = f("ke_device_config_i64", [c_char_p, c_size_t, c_char_p, POINTER(c_int64)], c_int)
# int ke_device_config_f64(const char *json, size_t n, const char *path, double *ret);
ke_device_config_f64 = f("ke_device_config_f64", [c_char_p, c_size_t, c_char_p, POINTER(c_double)], c_int)
# int ke_device_config_bool(const char *json, size_t n, const char *path, uint32_t *ret);
ke_device_config_bool = f("ke_device_config_bool", [c_char_p, c_size_t, c_char_p, POINTER(c_uint32)], c_int)
# int ke_device_config_str(const char *json, size_t n, const char *path, char *out, size_t cap);
ke_device_config_str = f("ke_device_config_str", [c_char_p, c_size_t, c_char_p, c_char_p, c_size_t], c_int)
# void ke_devices_config_init(struct ke_devices_config *c, size_t size);
ke_devices_config_init = f("ke_devices_config_init", [POINTER(s.DevicesConfig), c_size_t], None)
# int ke_devices_new(struct ke_devices **ret, struct ke_ctx *ctx, const struct ke_devices_config *c);
ke_devices_new = f("ke_devices_new", [POINTER(s.Devices), s.Ctx, POINTER(s.DevicesConfig)], c_int)
# void ke_devices_free(struct ke_devices *d);
ke_devices_free = f("ke_devices_free", [s.Devices], None)
# int ke_device_driver_register(struct ke_devices *d, const char *protocol, const struct ke_device_ops *ops,
#                               void *user);
ke_device_driver_register = f(
    "ke_device_driver_register", [s.Devices, c_char_p, POINTER(s.DeviceOps), c_void_p], c_int
)
# int ke_device_driver_unregister(struct ke_devices *d, const char *protocol);
ke_device_driver_unregister = f("ke_device_driver_unregister", [s.Devices, c_char_p], c_int)
# int ke_device_sim_register(struct ke_devices *d);
ke_device_sim_register = f("ke_device_sim_register", [s.Devices], c_int)
# int ke_devices_put(struct ke_devices *d, const char *json, size_t n);
ke_devices_put = f("ke_devices_put", [s.Devices, c_char_p, c_size_t], c_int)
# int ke_devices_remove(struct ke_devices *d, const char *kind, const char *ns, const char *name);
ke_devices_remove = f("ke_devices_remove", [s.Devices, c_char_p, c_char_p, c_char_p], c_int)
# int ke_devices_process(struct ke_devices *d, const char *ns, const char *name, const char *json, size_t n);
ke_devices_process = f("ke_devices_process", [s.Devices, c_char_p, c_char_p, c_char_p, c_size_t], c_int)
# int ke_devices_reported(struct ke_devices *d, uint64_t report, int status);
ke_devices_reported = f("ke_devices_reported", [s.Devices, c_uint64, c_int], c_int)
# int ke_devices_set(struct ke_devices *d, const char *ns, const char *name, const char *property, const char
#                    *value, ke_device_done_fn fn, void *user);
ke_devices_set = f(
    "ke_devices_set", [s.Devices, c_char_p, c_char_p, c_char_p, c_char_p, s.DeviceDoneFn, c_void_p], c_int
)
# int ke_devices_call(struct ke_devices *d, const char *ns, const char *name, const char *method, const char
#                     *args, size_t args_len, ke_device_done_fn fn, void *user);
ke_devices_call = f(
    "ke_devices_call", [s.Devices, c_char_p, c_char_p, c_char_p, c_char_p, c_size_t, s.DeviceDoneFn, c_void_p], c_int
)
# int ke_devices_list(struct ke_devices *d, ke_devices_list_fn fn, void *user);
ke_devices_list = f("ke_devices_list", [s.Devices, s.DevicesListFn, c_void_p], c_int)
# int ke_devices_get_stats(struct ke_devices *d, struct ke_devices_stats *ret, size_t size);
ke_devices_get_stats = f("ke_devices_get_stats", [s.Devices, POINTER(s.DevicesStats), c_size_t], c_int)

# ---- drivers.h ----

# void ke_modbus_config_init(struct ke_modbus_config *c, size_t size);
ke_modbus_config_init = f("ke_modbus_config_init", [POINTER(s.ModbusConfig), c_size_t], None)
# int ke_device_modbus_register(struct ke_devices *d, const struct ke_modbus_config *c);
ke_device_modbus_register = f("ke_device_modbus_register", [s.Devices, POINTER(s.ModbusConfig)], c_int)
# void ke_gpio_config_init(struct ke_gpio_config *c, size_t size);
ke_gpio_config_init = f("ke_gpio_config_init", [POINTER(s.GpioConfig), c_size_t], None)
# int ke_device_gpio_register(struct ke_devices *d, const struct ke_gpio_config *c);
ke_device_gpio_register = f("ke_device_gpio_register", [s.Devices, POINTER(s.GpioConfig)], c_int)
# int ke_device_json_register(struct ke_devices *d);
ke_device_json_register = f("ke_device_json_register", [s.Devices], c_int)

# ---- mapper.h ----

# void ke_mapper_config_init(struct ke_mapper_config *c, size_t size);
ke_mapper_config_init = f("ke_mapper_config_init", [POINTER(s.MapperConfig), c_size_t], None)
# int ke_mapper_settings_read(struct ke_mapper_settings **ret, struct ke_ctx *ctx, const char *path,
#                             void (*unknown)(void *user, const char *key, uint32_t line), void *user);
ke_mapper_settings_read = f(
    "ke_mapper_settings_read", [POINTER(s.MapperSettings), s.Ctx, c_char_p, s.UnknownKeyFn, c_void_p], c_int
)
# struct ke_mapper_config *ke_mapper_settings_config(struct ke_mapper_settings *s);
ke_mapper_settings_config = f("ke_mapper_settings_config", [s.MapperSettings], POINTER(s.MapperConfig))
# void ke_mapper_settings_free(struct ke_mapper_settings *s);
ke_mapper_settings_free = f("ke_mapper_settings_free", [s.MapperSettings], None)
# int ke_mapper_new(struct ke_mapper **ret, struct ke_ctx *ctx, const struct ke_mapper_config *c);
ke_mapper_new = f("ke_mapper_new", [POINTER(s.Mapper), s.Ctx, POINTER(s.MapperConfig)], c_int)
# struct ke_devices *ke_mapper_devices(struct ke_mapper *m);
ke_mapper_devices = f("ke_mapper_devices", [s.Mapper], s.Devices)
# int ke_mapper_start(struct ke_mapper *m);
ke_mapper_start = f("ke_mapper_start", [s.Mapper], c_int)
# void ke_mapper_free(struct ke_mapper *m);
ke_mapper_free = f("ke_mapper_free", [s.Mapper], None)
# int ke_mapper_status(struct ke_mapper *m, struct ke_mapper_status *ret, size_t size);
ke_mapper_status = f("ke_mapper_status", [s.Mapper, POINTER(s.MapperStatus), c_size_t], c_int)

# ---- node.h ----

# void ke_node_config_init(struct ke_node_config *c, size_t size);
ke_node_config_init = f("ke_node_config_init", [POINTER(s.NodeConfig), c_size_t], None)
# int ke_node_settings_read(struct ke_node_settings **ret, struct ke_ctx *ctx, const char *path,
#                           void (*unknown)(void *user, const char *key, uint32_t line), void *user);
ke_node_settings_read = f(
    "ke_node_settings_read", [POINTER(s.NodeSettings), s.Ctx, c_char_p, s.UnknownKeyFn, c_void_p], c_int
)
# struct ke_node_config *ke_node_settings_config(struct ke_node_settings *s);
ke_node_settings_config = f("ke_node_settings_config", [s.NodeSettings], POINTER(s.NodeConfig))
# void ke_node_settings_free(struct ke_node_settings *s);
ke_node_settings_free = f("ke_node_settings_free", [s.NodeSettings], None)
# int ke_node_new(struct ke_node **ret, struct ke_ctx *ctx, const struct ke_node_config *c,
#                 const struct ke_node_ops *ops, void *user);
ke_node_new = f(
    "ke_node_new", [POINTER(s.Node), s.Ctx, POINTER(s.NodeConfig), POINTER(s.NodeOps), c_void_p], c_int
)
# int ke_node_start(struct ke_node *n);
ke_node_start = f("ke_node_start", [s.Node], c_int)
# void ke_node_stop(struct ke_node *n);
ke_node_stop = f("ke_node_stop", [s.Node], None)
# void ke_node_free(struct ke_node *n);
ke_node_free = f("ke_node_free", [s.Node], None)
# int ke_node_state(struct ke_node *n, struct ke_node_status *ret, size_t size);
ke_node_state = f("ke_node_state", [s.Node, POINTER(s.NodeStatus), c_size_t], c_int)
# int ke_node_pods(struct ke_node *n, void (*fn)(void *user, const struct ke_pod_info *p), void *user);
ke_node_pods = f("ke_node_pods", [s.Node, s.PodFn, c_void_p], c_int)
# int ke_node_mappers(struct ke_node *n, void (*fn)(void *user, const struct ke_node_mapper_info *m), void *user,
#                     struct ke_error *reterr);
ke_node_mappers = f("ke_node_mappers", [s.Node, s.NodeMapperFn, c_void_p, POINTER(s.Error)], c_int)

# ---- cloud.h ----

# void ke_cloud_config_init(struct ke_cloud_config *c, size_t size);
ke_cloud_config_init = f("ke_cloud_config_init", [POINTER(s.CloudConfig), c_size_t], None)
# int ke_cloud_new(struct ke_cloud **ret, struct ke_ctx *ctx, const struct ke_cloud_config *c,
#                  const struct ke_cloud_ops *ops, void *user);
ke_cloud_new = f(
    "ke_cloud_new", [POINTER(s.Cloud), s.Ctx, POINTER(s.CloudConfig), POINTER(s.CloudOps), c_void_p], c_int
)
# int ke_cloud_start(struct ke_cloud *c);
ke_cloud_start = f("ke_cloud_start", [s.Cloud], c_int)
# void ke_cloud_stop(struct ke_cloud *c);
ke_cloud_stop = f("ke_cloud_stop", [s.Cloud], None)
# void ke_cloud_free(struct ke_cloud *c);
ke_cloud_free = f("ke_cloud_free", [s.Cloud], None)
# int ke_cloud_token(struct ke_cloud *c, struct ke_buf *out);
ke_cloud_token = f("ke_cloud_token", [s.Cloud, POINTER(s.Buf)], c_int)
# int ke_cloud_ports(struct ke_cloud *c, uint32_t *ret_tunnel, uint32_t *ret_cert);
ke_cloud_ports = f("ke_cloud_ports", [s.Cloud, POINTER(c_uint32), POINTER(c_uint32)], c_int)
# int ke_cloud_nodes(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_node_info *n),
#                    void *user);
ke_cloud_nodes = f("ke_cloud_nodes", [s.Cloud, s.CloudNodesFn, c_void_p], c_int)
# int ke_cloud_pods(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_pod_info *p),
#                   void *user);
ke_cloud_pods = f("ke_cloud_pods", [s.Cloud, s.CloudPodsFn, c_void_p], c_int)
# int ke_cloud_devices(struct ke_cloud *c, void (*fn)(void *user, const struct ke_cloud_device_info *d),
#                       void *user);
ke_cloud_devices = f("ke_cloud_devices", [s.Cloud, s.CloudDevicesFn, c_void_p], c_int)

# ---- mqtt.h ----

# int ke_mqtt_message_user(const struct ke_mqtt_message *msg, uint32_t i, struct ke_mqtt_user_prop *ret);
ke_mqtt_message_user = f("ke_mqtt_message_user", [POINTER(s.MqttMessage), c_uint32, POINTER(s.MqttUserProp)], c_int)
# struct ke_mqtt_data *ke_mqtt_data_ref(struct ke_mqtt_data *d);
ke_mqtt_data_ref = f("ke_mqtt_data_ref", [s.MqttData], s.MqttData)
# void ke_mqtt_data_unref(struct ke_mqtt_data *d);
ke_mqtt_data_unref = f("ke_mqtt_data_unref", [s.MqttData], None)
# int ke_mqtt_auth_complete(struct ke_mqtt_auth *a, const struct ke_mqtt_auth_result *r, struct ke_error *reterr);
ke_mqtt_auth_complete = f("ke_mqtt_auth_complete", [s.MqttAuth, POINTER(s.MqttAuthResult), POINTER(s.Error)], c_int)
# void ke_mqtt_config_init(struct ke_mqtt_config *c, size_t size);
ke_mqtt_config_init = f("ke_mqtt_config_init", [POINTER(s.MqttConfig), c_size_t], None)
# void ke_mqtt_listener_init(struct ke_mqtt_listener *l, size_t size);
ke_mqtt_listener_init = f("ke_mqtt_listener_init", [POINTER(s.MqttListener), c_size_t], None)
# int ke_mqtt_new(struct ke_mqtt **ret, struct ke_ctx *ctx, const struct ke_mqtt_config *c, const struct
#                 ke_mqtt_ops *ops, void *user);
ke_mqtt_new = f("ke_mqtt_new", [POINTER(s.Mqtt), s.Ctx, POINTER(s.MqttConfig), POINTER(s.MqttOps), c_void_p], c_int)
# int ke_mqtt_start(struct ke_mqtt *m);
ke_mqtt_start = f("ke_mqtt_start", [s.Mqtt], c_int)
# void ke_mqtt_stop(struct ke_mqtt *m);
ke_mqtt_stop = f("ke_mqtt_stop", [s.Mqtt], None)
# void ke_mqtt_free(struct ke_mqtt *m);
ke_mqtt_free = f("ke_mqtt_free", [s.Mqtt], None)
# int ke_mqtt_port(struct ke_mqtt *m, uint32_t i, uint32_t *ret);
ke_mqtt_port = f("ke_mqtt_port", [s.Mqtt, c_uint32, POINTER(c_uint32)], c_int)
# int ke_mqtt_reload(struct ke_mqtt *m, const struct ke_mqtt_config *c);
ke_mqtt_reload = f("ke_mqtt_reload", [s.Mqtt, POINTER(s.MqttConfig)], c_int)
# int ke_mqtt_disconnect(struct ke_mqtt *m, const char *client_id, uint32_t reason, const char *server, uint32_t
#                        flags, struct ke_error *reterr);
ke_mqtt_disconnect = f("ke_mqtt_disconnect", [s.Mqtt, c_char_p, c_uint32, c_char_p, c_uint32, POINTER(s.Error)], c_int)
# int ke_mqtt_clients(struct ke_mqtt *m, void (*fn)(void *user, const struct ke_mqtt_client *c), void *user);
ke_mqtt_clients = f("ke_mqtt_clients", [s.Mqtt, s.MqttClientFn, c_void_p], c_int)
# int ke_mqtt_publish(struct ke_mqtt *m, const struct ke_mqtt_publish *p, ke_mqtt_done_fn done, void *user, struct
#                     ke_error *reterr);
ke_mqtt_publish = f(
    "ke_mqtt_publish", [s.Mqtt, POINTER(s.MqttPublish), s.MqttDoneFn, c_void_p, POINTER(s.Error)], c_int
)
# int ke_mqtt_subscribe(struct ke_mqtt_sub **ret, struct ke_mqtt *m, const struct ke_mqtt_subscribe *s, void
#                       *user, struct ke_error *reterr);
ke_mqtt_subscribe = f(
    "ke_mqtt_subscribe", [POINTER(s.MqttSub), s.Mqtt, POINTER(s.MqttSubscribe), c_void_p, POINTER(s.Error)], c_int
)
# void ke_mqtt_unsubscribe(struct ke_mqtt_sub *sub);
ke_mqtt_unsubscribe = f("ke_mqtt_unsubscribe", [s.MqttSub], None)
# int ke_mqtt_user_set(struct ke_mqtt *m, const char *name, const char *password, const struct ke_mqtt_rule
#                      *rules, uint32_t n_rules, ke_mqtt_done_fn done, void *user, struct ke_error *reterr);
ke_mqtt_user_set = f(
    "ke_mqtt_user_set",
    [s.Mqtt, c_char_p, c_char_p, POINTER(s.MqttRule), c_uint32, s.MqttDoneFn, c_void_p, POINTER(s.Error)],
    c_int,
)
# int ke_mqtt_user_remove(struct ke_mqtt *m, const char *name, ke_mqtt_done_fn done, void *user, struct ke_error
#                         *reterr);
ke_mqtt_user_remove = f("ke_mqtt_user_remove", [s.Mqtt, c_char_p, s.MqttDoneFn, c_void_p, POINTER(s.Error)], c_int)
# int ke_mqtt_rules_set(struct ke_mqtt *m, const char *user_name, const struct ke_mqtt_rule *rules, uint32_t
#                       n_rules, ke_mqtt_done_fn done, void *user, struct ke_error *reterr);
ke_mqtt_rules_set = f(
    "ke_mqtt_rules_set",
    [s.Mqtt, c_char_p, POINTER(s.MqttRule), c_uint32, s.MqttDoneFn, c_void_p, POINTER(s.Error)],
    c_int,
)
# int ke_mqtt_identity_set(struct ke_mqtt *m, const struct ke_mqtt_identity *id, ke_mqtt_done_fn done, void *user,
#                          struct ke_error *reterr);
ke_mqtt_identity_set = f(
    "ke_mqtt_identity_set", [s.Mqtt, POINTER(s.MqttIdentity), s.MqttDoneFn, c_void_p, POINTER(s.Error)], c_int
)
# int ke_mqtt_identity_revoke(struct ke_mqtt *m, const char *name, ke_mqtt_done_fn done, void *user, struct
#                             ke_error *reterr);
ke_mqtt_identity_revoke = f(
    "ke_mqtt_identity_revoke", [s.Mqtt, c_char_p, s.MqttDoneFn, c_void_p, POINTER(s.Error)], c_int
)
# int ke_mqtt_identities(struct ke_mqtt *m, void (*fn)(void *user, const struct ke_mqtt_identity *id), void
#                        *user);
ke_mqtt_identities = f("ke_mqtt_identities", [s.Mqtt, s.MqttIdentityFn, c_void_p], c_int)
# int ke_mqtt_stats(struct ke_mqtt *m, struct ke_mqtt_stats *ret, size_t size);
ke_mqtt_stats = f("ke_mqtt_stats", [s.Mqtt, POINTER(s.MqttStats), c_size_t], c_int)

# ---- bridge.h ----

# void ke_bridge_config_init(struct ke_bridge_config *c, size_t size);
ke_bridge_config_init = f("ke_bridge_config_init", [POINTER(s.BridgeConfig), c_size_t], None)
# int ke_bridge_new(struct ke_bridge **ret, struct ke_mqtt *m, const struct ke_bridge_config *c);
ke_bridge_new = f("ke_bridge_new", [POINTER(s.Bridge), s.Mqtt, POINTER(s.BridgeConfig)], c_int)
# void ke_bridge_free(struct ke_bridge *b);
ke_bridge_free = f("ke_bridge_free", [s.Bridge], None)
# int ke_bridge_status(struct ke_bridge *b, struct ke_bridge_status *ret, size_t size);
ke_bridge_status = f("ke_bridge_status", [s.Bridge, POINTER(s.BridgeStatus), c_size_t], c_int)

# ---- eventbus.h ----

# void ke_eventbus_config_init(struct ke_eventbus_config *c, size_t size);
ke_eventbus_config_init = f("ke_eventbus_config_init", [POINTER(s.EventbusConfig), c_size_t], None)
# int ke_eventbus_new(struct ke_eventbus **ret, struct ke_ctx *ctx, const struct ke_eventbus_config *c);
ke_eventbus_new = f("ke_eventbus_new", [POINTER(s.Eventbus), s.Ctx, POINTER(s.EventbusConfig)], c_int)
# int ke_eventbus_start(struct ke_eventbus *b);
ke_eventbus_start = f("ke_eventbus_start", [s.Eventbus], c_int)
# void ke_eventbus_free(struct ke_eventbus *b);
ke_eventbus_free = f("ke_eventbus_free", [s.Eventbus], None)
# int ke_eventbus_publish(struct ke_eventbus *b, const char *topic, const void *payload, size_t n, uint32_t qos,
#                         uint32_t retain);
ke_eventbus_publish = f("ke_eventbus_publish", [s.Eventbus, c_char_p, c_void_p, c_size_t, c_uint32, c_uint32], c_int)
# int ke_eventbus_subscribe(struct ke_eventbus_sub **ret, struct ke_eventbus *b, const char *filter, uint32_t qos,
#                           ke_eventbus_fn fn, void *user);
ke_eventbus_subscribe = f(
    "ke_eventbus_subscribe", [POINTER(s.EventbusSub), s.Eventbus, c_char_p, c_uint32, s.EventbusFn, c_void_p], c_int
)
# void ke_eventbus_unsubscribe(struct ke_eventbus_sub *s);
ke_eventbus_unsubscribe = f("ke_eventbus_unsubscribe", [s.EventbusSub], None)
# int ke_eventbus_status(struct ke_eventbus *b, struct ke_eventbus_status *ret, size_t size);
ke_eventbus_status = f("ke_eventbus_status", [s.Eventbus, POINTER(s.EventbusStatus), c_size_t], c_int)
