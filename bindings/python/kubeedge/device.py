# SPDX-License-Identifier: Apache-2.0
"""The harness that drives devices: what to read when, and where values go."""
from __future__ import annotations

import enum
import json
from ctypes import byref, pointer, sizeof
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, OpenEnum, Path, Pending, State, cpath, cstr, drop, held, hold, pystr
from .context import Context
from .driver import Driver, Link
from .errors import InvalidArgument, KubeEdgeError, NotFound, StateError, error
from .router import Router
from .store import Store
from .twin import Value, optional, text_of


class DeviceState(OpenEnum):
    """WAITING: for its model or a driver; OFFLINE: to be opened again; FAILED: its configuration is wrong; MAPPED: a
    mapper serves it."""

    WAITING = c.KE_DEVICE_WAITING
    OPENING = c.KE_DEVICE_OPENING
    ONLINE = c.KE_DEVICE_ONLINE
    OFFLINE = c.KE_DEVICE_OFFLINE
    FAILED = c.KE_DEVICE_FAILED
    CLOSING = c.KE_DEVICE_CLOSING
    MAPPED = c.KE_DEVICE_MAPPED


class CycleUnit(enum.IntEnum):
    """Of collectCycle and reportCycle, which no object names."""

    AUTO = c.KE_DEVICES_CYCLE_AUTO
    NS = c.KE_DEVICES_CYCLE_NS
    MS = c.KE_DEVICES_CYCLE_MS


class DevicePropertyStatus(NamedTuple):
    """error: of the last read or write, empty if it went well. Times are Unix ms, 0: never."""

    name: str
    type: str
    unit: str
    desired: Optional[str]
    reported: Optional[str]
    error: str
    reported_ms: int
    desired_ms: int
    reads: int
    failures: int


class DeviceStatus(NamedTuple):
    """A device as it is now. error: the last one, also when it is over. mapper: who serves it when it is MAPPED, and
    what that one told; its values are in the twin then. pushes: values that were taken where pushMethod says."""

    namespace: str
    name: str
    model: str
    protocol: str
    state: DeviceState
    error: str
    error_ms: int
    online_ms: int
    properties: Tuple[DevicePropertyStatus, ...]
    reads: int
    writes: int
    failures: int
    reconnects: int
    cycles: int
    cycles_late: int
    cycles_missed: int
    late_max_ms: int
    reports_waiting: int
    mapper: str
    mapper_state: str
    mapper_report_ms: int
    mapper_reports: int
    mapper_lost: bool
    pushes: int
    push_failures: int


class ReportedValue(NamedTuple):
    """A value on its way. desired: what has been observed as desired."""

    property: str
    type: str
    reported: Optional[str]
    desired: Optional[str]
    when_ms: int


# JSON, or what becomes that
Json = Union[str, bytes, Mapping[str, Any], Sequence[Any]]
# report(namespace, name, values), state(namespace, name, state): where values go without a router
ReportFn = Callable[[str, str, Tuple[ReportedValue, ...]], object]
StateFn = Callable[[str, str, str], object]


class _Sink:
    """Where values go when there is no router."""

    def __init__(self, core: Core, report: Optional[ReportFn], state: Optional[StateFn]) -> None:
        self.core = core
        self.report = report
        self.state = state
        self.handle: Optional[State] = None

    def tell(self, number: int, fn: Optional[Callable[..., object]], *args: object) -> int:
        status = 0 if self.core.user(fn, *args) else c.KE_ECALLBACK

        def end() -> None:
            if self.handle is not None and self.handle.ptr is not None:
                ffi.ke_devices_reported(self.handle.ptr, number, status)

        try:
            self.core.post(end)  # it is ended in a later turn
        except KubeEdgeError as e:
            return e.code
        return 0


def _reported(i: Any) -> ReportedValue:
    return ReportedValue(
        pystr(i.property), pystr(i.type), optional(i.reported), optional(i.desired), i.when_ms
    )


@s.callback(s.DevicesSinkReportFn)
def _on_report(
    user: Optional[int], number: int, ns: Optional[bytes], name: Optional[bytes], values: Any, n: int
) -> int:
    sink = held(user)
    if sink is None:
        return c.KE_ECANCELED
    made = tuple(_reported(values[k]) for k in range(n))
    status: int = sink.tell(number, sink.report, pystr(ns), pystr(name), made)
    return status


@s.callback(s.DevicesSinkStateFn)
def _on_sink_state(
    user: Optional[int], number: int, ns: Optional[bytes], name: Optional[bytes], state: Optional[bytes]
) -> int:
    sink = held(user)
    if sink is None:
        return c.KE_ECANCELED
    status: int = sink.tell(number, sink.state, pystr(ns), pystr(name), pystr(state))
    return status


@s.callback(s.DeviceDoneFn)
def _on_done(user: Optional[int], status: int, reply: Optional[bytes], text: Optional[bytes]) -> None:
    entry = held(user)
    if entry is None:
        return
    state, pending = entry
    state.unpend(user)
    state.core.depth += 1  # a harness is not freed from within its callbacks
    try:
        if status < 0:
            pending.give_up(error(status, pystr(text)))
        else:
            pending.finish(json.loads(reply) if reply else None)
    except ValueError as e:
        pending.give_up(e)
    finally:
        state.core.depth -= 1


def _property_status(i: Any) -> DevicePropertyStatus:
    return DevicePropertyStatus(
        pystr(i.name),
        pystr(i.type),
        pystr(i.unit),
        optional(i.desired),
        optional(i.reported),
        pystr(i.error),
        i.reported_ms,
        i.desired_ms,
        i.reads,
        i.failures,
    )


def _status(p: Any) -> DeviceStatus:
    i = p.contents
    return DeviceStatus(
        namespace=pystr(i.ns),
        name=pystr(i.name),
        model=pystr(i.model),
        protocol=pystr(i.protocol),
        state=DeviceState(i.state),
        error=pystr(i.error),
        error_ms=i.error_ms,
        online_ms=i.online_ms,
        properties=tuple(_property_status(i.properties[k]) for k in range(i.n_properties)),
        reads=i.reads,
        writes=i.writes,
        failures=i.failures,
        reconnects=i.reconnects,
        cycles=i.cycles,
        cycles_late=i.cycles_late,
        cycles_missed=i.cycles_missed,
        late_max_ms=i.late_max_ms,
        reports_waiting=i.reports_waiting,
        mapper=pystr(i.mapper),
        mapper_state=pystr(i.mapper_state),
        mapper_report_ms=i.mapper_report_ms,
        mapper_reports=i.mapper_reports,
        mapper_lost=bool(i.mapper_lost),
        pushes=i.pushes,
        push_failures=i.push_failures,
    )


@s.callback(s.DevicesListFn)
def _collect(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_status(p))


def _split(device: str) -> Tuple[Optional[bytes], Optional[bytes]]:
    """The namespace and the name of "NAMESPACE/NAME" or "NAME"."""
    ns, _, name = device.rpartition("/")
    return cstr(ns or None), cstr(name)


def _json(object: Json) -> bytes:
    if isinstance(object, bytes):
        return object
    if isinstance(object, Mapping):
        object = dict(object)
    return (object if isinstance(object, str) else json.dumps(object)).encode("utf-8")


def _keep(ptr: s.Devices) -> None:
    """The end of a borrowed one: its owner frees it."""


class Devices(Handle):
    """The harness that drives devices: the module `devicemanager`. A device is "NAME", of the namespace default, or
    "NAMESPACE/NAME"."""

    def __init__(
        self,
        context: Context,
        router: Optional[Router] = None,
        *,
        node_name: Optional[str] = None,
        store: Optional[Store] = None,
        report: Optional[ReportFn] = None,
        state: Optional[StateFn] = None,
        report_always: bool = False,
        profile: bool = False,
        cycle_unit: int = CycleUnit.AUTO,
        id_with_namespace: bool = False,
        collect_ms: int = 0,
        report_ms: int = 0,
        timeout_ms: int = 0,
        retry_min_ms: int = 0,
        retry_max_ms: int = 0,
        health_ms: int = 0,
        max_devices: int = 0,
        max_properties: int = 0,
        max_rules: int = 0,
    ) -> None:
        """With a router, and node_name, values go to the device twin there. Without one they go to
        report(namespace, name, values) and state(namespace, name, state), are taken when these return, and are told
        again after a while when they raise. The numbers are members of struct ke_devices_config; 0: the default."""
        core = context._core
        numbers = {
            "collect_ms": collect_ms,
            "report_ms": report_ms,
            "timeout_ms": timeout_ms,
            "retry_min_ms": retry_min_ms,
            "retry_max_ms": retry_max_ms,
            "health_ms": health_ms,
            "max_devices": max_devices,
            "max_properties": max_properties,
            "max_rules": max_rules,
            "cycle_unit": int(cycle_unit),
            "id_with_namespace": int(id_with_namespace),
        }

        def make() -> State:
            config = s.DevicesConfig()
            ffi.ke_devices_config_init(byref(config), sizeof(config))
            record, key = _Sink(core, report, state), 0
            table = s.DevicesSink.sized(report=_on_report, state=_on_sink_state)
            if store is not None:
                config.store = store._state.pointer()
            config.node_name = cstr(node_name)
            config.flags = c.KE_DEVICES_REPORT_ALWAYS if report_always else 0
            config.flags |= c.KE_DEVICES_PROFILE if profile else 0
            for member, number in numbers.items():
                setattr(config, member, number)
            if router is not None:
                config.router = router._state.pointer()
            else:
                key = hold(record)
                config.sink = pointer(table)
                config.sink_user = key
            ptr = s.Devices()
            try:
                core.check(ffi.ke_devices_new(byref(ptr), core.pointer(), byref(config)))
            except BaseException:
                drop(key)
                raise
            record.handle = State(core, "Devices", ptr, ffi.ke_devices_free, [key], defer=True)
            for owner in (router, store):
                if owner is not None:
                    owner._state.dependents.append(record.handle)
            return record.handle

        if router is not None and (report is not None or state is not None):
            raise InvalidArgument(c.KE_EINVAL, "with a router, values go to its device twin: no report, no state")
        super().__init__(context, core.call(make))
        self._router, self._store = router, store  # they must outlive the harness

    @classmethod
    def _borrow(cls, context: Context, ptr: s.Devices) -> Devices:
        """One that a node owns and frees."""
        devices = cls.__new__(cls)
        devices._owned = True
        Handle.__init__(devices, context, State(context._core, "Devices", ptr, _keep))
        return devices

    # -- drivers --

    def register(self, protocol: str, driver: Driver) -> None:
        """For devices whose protocolName is protocol; case is ignored. AlreadyExists."""

        def begin() -> None:
            devices = self._state.pointer()
            link = Link(self._core, driver)
            r = ffi.ke_device_driver_register(devices, cstr(protocol), byref(link.ops), link.key)
            if r < 0:
                link.drop()
            self._core.check(r)

        self._core.call(begin)

    def unregister(self, protocol: str) -> None:
        """Closes its devices without waiting and detaches it. NotFound. Not from a callback."""

        def end() -> None:
            if self._core.depth > 0:
                raise StateError(c.KE_ESTATE, "a driver cannot be unregistered from inside a callback: post() it")
            self._core.check(ffi.ke_device_driver_unregister(self._state.pointer(), cstr(protocol)))

        self._core.call(end)

    def register_modbus(
        self,
        *,
        timeout_ms: int = 0,
        serial_timeout_ms: int = 0,
        connect_ms: int = 0,
        pipeline: int = 0,
        gap: int = 0,
    ) -> None:
        """The library's driver for protocol modbus, TCP and RTU. The defaults of devices that do not say
        otherwise, as in struct ke_modbus_config."""

        def begin() -> None:
            config = s.ModbusConfig()
            ffi.ke_modbus_config_init(byref(config), sizeof(config))
            config.timeout_ms = timeout_ms
            config.serial_timeout_ms = serial_timeout_ms
            config.connect_ms = connect_ms
            config.pipeline = pipeline
            config.gap = gap
            self._core.check(ffi.ke_device_modbus_register(self._state.pointer(), byref(config)))

        self._core.call(begin)

    def register_gpio(self, *, dev_folder: Optional[Path] = None, sys_folder: Optional[Path] = None) -> None:
        """The library's driver for protocol gpio: lines of a GPIO chip."""

        def begin() -> None:
            config = s.GpioConfig()
            ffi.ke_gpio_config_init(byref(config), sizeof(config))
            config.dev_folder = cpath(dev_folder)
            config.sys_folder = cpath(sys_folder)
            self._core.check(ffi.ke_device_gpio_register(self._state.pointer(), byref(config)))

        self._core.call(begin)

    def register_mqtt_json(self) -> None:
        """The library's driver for protocol mqtt-json: devices that speak JSON at the event bus of the router.
        StateError without a router."""
        self._core.call(lambda: self._core.check(ffi.ke_device_json_register(self._state.pointer())))

    def register_simulated(self) -> None:
        """The library's driver for protocol simulated."""
        self._core.call(lambda: self._core.check(ffi.ke_device_sim_register(self._state.pointer())))

    # -- devices of the program's own, besides those of the cloud --

    def put(self, object: Json) -> None:
        """A Device or DeviceModel of devices.kubeedge.io, v1alpha2 or v1beta1, as JSON or what becomes that; in any
        order. Replaces the one of that name. ParseError names the field."""
        data = _json(object)
        self._core.call(lambda: self._core.check(ffi.ke_devices_put(self._state.pointer(), data, len(data))))

    def remove(self, kind: str, name: str) -> None:
        """kind: "Device" or "DeviceModel". NotFound."""
        ns, short = _split(name)
        self._core.call(
            lambda: self._core.check(ffi.ke_devices_remove(self._state.pointer(), cstr(kind), ns, short))
        )

    def process(self, device: str, rules: Optional[Json]) -> None:
        """Data processing of a device, until this is closed: a list of rules as in the annotation
        libkubeedge.io/process, before which it comes; see ke_devices_process in device.h. None removes it.
        NotFound, ParseError, LimitExceeded."""
        ns, name = _split(device)
        data = None if rules is None else _json(rules)
        self._core.call(
            lambda: self._core.check(
                ffi.ke_devices_process(self._state.pointer(), ns, name, data, len(data) if data is not None else 0)
            )
        )

    def _pending(self, begin: Callable[[s.Devices, int], Any]) -> Pending[Any]:
        """begin(pointer, key) starts an operation that _on_done ends."""

        def start() -> Pending[Any]:
            pending: Pending[Any] = Pending(self._core)
            key = self._state.pend(pending)
            try:
                self._core.check(begin(self._state.pointer(), key))
            except BaseException:
                self._state.unpend(key)
                raise
            return pending

        return self._core.call(start)

    def set(self, device: str, property: str, value: Value) -> Pending[None]:
        """Makes it the desired value, until the cloud says another or this is closed. Done when it was written and
        read back. NotFound, AccessDenied (read-only), ParseError (no value of its type), LimitExceeded (out of
        range)."""
        ns, name = _split(device)
        return self._pending(
            lambda ptr, key: ffi.ke_devices_set(ptr, ns, name, cstr(property), cstr(text_of(value)), _on_done, key)
        )

    def call(self, device: str, method: str, args: Any = None) -> Pending[Any]:
        """Calls a method of the device with what JSON can say; its reply. NotFound, NotSupported, Busy, StateError
        (the device is not online)."""
        ns, name = _split(device)
        data = json.dumps(args).encode("utf-8") if args is not None else b""
        return self._pending(
            lambda ptr, key: ffi.ke_devices_call(ptr, ns, name, cstr(method), data, len(data), _on_done, key)
        )

    # -- looking --

    def list(self) -> List[DeviceStatus]:
        """Each device as it is now, in order of namespace and name."""

        def read() -> List[DeviceStatus]:
            found: List[DeviceStatus] = []
            key = hold(found)
            try:
                self._core.check(ffi.ke_devices_list(self._state.pointer(), _collect, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)

    def get(self, device: str) -> DeviceStatus:
        """One of list(). NotFound."""
        ns, _, name = device.rpartition("/")
        for status in self.list():
            if (status.namespace, status.name) == (ns or "default", name):
                return status
        raise NotFound(c.KE_ENOTFOUND, f"there is no device {device}")

    def stats(self) -> Dict[str, int]:
        """The members of struct ke_devices_stats."""

        def read() -> Dict[str, int]:
            st = s.DevicesStats()
            self._core.check(ffi.ke_devices_get_stats(self._state.pointer(), byref(st), sizeof(st)))
            return {name: getattr(st, name) for name, _ in s.DevicesStats._fields_ if name not in ("size", "reserved")}

        return self._core.call(read)
