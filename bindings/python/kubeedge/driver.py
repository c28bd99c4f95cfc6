# SPDX-License-Identifier: Apache-2.0
"""A driver written in Python. See Driver."""
from __future__ import annotations

import abc
import json
import threading
from ctypes import byref, c_char_p, c_double, c_int64, c_uint32, c_void_p, cast, create_string_buffer, sizeof
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, OpenEnum, cstr, drop, held, hold, pybytes, pystr
from .errors import InvalidArgument, KubeEdgeError, error

# Of a property, as the device has it: before scale and offset.
Raw = Union[int, float, str, bytes]
_TEXT_MAX = 1000


class DeviceType(OpenEnum):
    """What a property holds."""

    INT = c.KE_DEVICE_INT
    FLOAT = c.KE_DEVICE_FLOAT
    DOUBLE = c.KE_DEVICE_DOUBLE
    BOOLEAN = c.KE_DEVICE_BOOLEAN
    STRING = c.KE_DEVICE_STRING
    BYTES = c.KE_DEVICE_BYTES
    STREAM = c.KE_DEVICE_STREAM


class Reading(NamedTuple):
    """A value and the Unix time in ms it was read at, for a driver that knows it; 0: now."""

    value: Raw
    when_ms: int = 0


# What a driver says of a property: a value, or why there is none.
Said = Union[Raw, Reading, BaseException, None]


# ---- what a driver is given ----


class DeviceSettings(Dict[str, Any]):
    """A JSON object of a device's configuration. The methods take a dotted path, match names without regard to
    case and take numbers that came as text, as KubeEdge's mappers do. NotFound without a default; ParseError."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(json.loads(raw) if raw else {})
        self._raw = raw

    def _get(self, function: Any, path: str, default: Any, out: Any, *more: Any) -> Any:
        r = function(self._raw, len(self._raw), cstr(path), out, *more)
        if r == c.KE_ENOTFOUND and default is not None:
            return default
        if r < 0:
            what = "is missing" if r == c.KE_ENOTFOUND else "is not what is wanted there"
            raise error(r, f"{path} in the configuration {what}")
        return None

    def integer(self, path: str, default: Optional[int] = None) -> int:
        out = c_int64(0)
        found = self._get(ffi.ke_device_config_i64, path, default, byref(out))
        return out.value if found is None else int(found)

    def number(self, path: str, default: Optional[float] = None) -> float:
        out = c_double(0)
        found = self._get(ffi.ke_device_config_f64, path, default, byref(out))
        return out.value if found is None else float(found)

    def boolean(self, path: str, default: Optional[bool] = None) -> bool:
        out = c_uint32(0)
        found = self._get(ffi.ke_device_config_bool, path, default, byref(out))
        return bool(out.value if found is None else found)

    def text(self, path: str, default: Optional[str] = None) -> str:
        """At most 4095 bytes."""
        out = create_string_buffer(4096)
        found = self._get(ffi.ke_device_config_str, path, default, out, len(out))
        return pystr(out.value) if found is None else str(found)


class DeviceProperty(NamedTuple):
    """A property of a device. visitor: how to reach it; collect_ms: how often it will be read, 0: when asked;
    scaled: False when scale and offset do not apply."""

    name: str
    type: DeviceType
    unit: str
    visitor: DeviceSettings
    readable: bool
    writable: bool
    scaled: bool
    collect_ms: int


def _property(p: Any) -> DeviceProperty:
    return DeviceProperty(
        pystr(p.name),
        DeviceType(p.type),
        pystr(p.unit),
        DeviceSettings(pybytes(p.visitor, p.visitor_len)),
        bool(p.flags & c.KE_DEVICE_CAN_READ),
        bool(p.flags & c.KE_DEVICE_CAN_WRITE),
        not p.flags & c.KE_DEVICE_NO_SCALE,
        p.collect_ms,
    )


def _clean(text: str) -> bytes:
    """Text of an exception, which may be anything, as C can take it."""
    return text[:_TEXT_MAX].encode("utf-8", "replace").replace(b"\0", b"?")


def _failure(e: BaseException) -> Tuple[int, str]:
    """An exception as C's code and text. What the operating system says of IO is no mistake of the program."""
    if isinstance(e, KubeEdgeError):
        return (e.code if e.code < 0 else c.KE_ECALLBACK), e.text or e.name
    text = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
    if isinstance(e, TimeoutError):
        return c.KE_ETIMEDOUT, text
    if isinstance(e, ConnectionError):
        return c.KE_ECONN, text
    if isinstance(e, OSError):
        return c.KE_EIO, text
    return c.KE_ECALLBACK, text


class _Values:
    """Values of properties for C, and what its pointers point to."""

    def __init__(self, device: Device, values: Mapping[str, Said]) -> None:
        said = [(device._index(name), v) for name, v in values.items() if v is not None]
        self.n = len(said)
        self.array = (s.DeviceValue * self.n)()
        self._kept: List[bytes] = []
        for to, (index, v) in zip(self.array, said):
            to.size = sizeof(s.DeviceValue)
            to.property = index
            self._fill(to, v)

    def _bytes(self, to: Any, kind: int, data: bytes) -> None:
        self._kept.append(data)
        to.kind, to.p, to.n = kind, cast(c_char_p(data), c_void_p), len(data)

    def _fill(self, to: Any, v: Said) -> None:
        if isinstance(v, Reading):
            to.when_ms = v.when_ms
            v = v.value
        if isinstance(v, BaseException):
            to.status, text = _failure(v)
            to.text = _clean(text)
        elif isinstance(v, bool):
            to.kind, to.i = c.KE_DEVICE_KIND_BOOL, int(v)
        elif isinstance(v, int):
            if not -(2**63) <= v < 2**64:
                raise InvalidArgument(c.KE_EINVAL, f"{v} has more than 64 bits")
            to.kind = c.KE_DEVICE_KIND_INT if v < 2**63 else c.KE_DEVICE_KIND_UINT
            to.i = v if v < 2**63 else v - 2**64
        elif isinstance(v, float):
            to.kind, to.d = c.KE_DEVICE_KIND_DOUBLE, v
        elif isinstance(v, str):
            self._bytes(to, c.KE_DEVICE_KIND_TEXT, v.encode("utf-8"))
        elif isinstance(v, (bytes, bytearray, memoryview)):
            self._bytes(to, c.KE_DEVICE_KIND_BYTES, bytes(v))
        else:
            raise TypeError(f"a value of a property is int, float, bool, str or bytes, not {type(v).__name__}")


def _raw(v: Any) -> Raw:
    """A value that C wants written."""
    if v.kind == c.KE_DEVICE_KIND_DOUBLE:
        return float(v.d)
    if v.kind == c.KE_DEVICE_KIND_BOOL:
        return bool(v.i)
    if v.kind == c.KE_DEVICE_KIND_TEXT:
        return pystr(pybytes(v.p, v.n))
    if v.kind == c.KE_DEVICE_KIND_BYTES:
        return pybytes(v.p, v.n)
    return int(v.i) % 2**64 if v.kind == c.KE_DEVICE_KIND_UINT else int(v.i)


class Device:
    """A device that is open, as its driver sees it. data is the driver's own, for what it keeps of the device."""

    def __init__(self, link: Link, p: Any) -> None:
        i = p.contents
        self._link = link
        self._number = i.device
        self.key = 0
        self.namespace = pystr(i.ns)
        self.name = pystr(i.name)
        self.model = pystr(i.model)
        self.protocol = pystr(i.protocol)
        self.config = DeviceSettings(pybytes(i.config, i.config_len))
        self.properties = tuple(_property(i.properties[k]) for k in range(i.n_properties))
        self.timeout_ms: int = i.timeout_ms
        self.data: Any = None
        # An index of C's is a place in properties.
        self._indexes = {p.name: k for k, p in enumerate(self.properties)}

    def _index(self, name: str) -> int:
        try:
            return self._indexes[name]
        except KeyError:
            raise InvalidArgument(c.KE_EINVAL, f"device {self.name} has no property {name}") from None

    def report(self, values: Mapping[str, Said]) -> bool:
        """What the device tells by itself, by name of the property. Any thread. False: it is not open."""
        v = _Values(self, values)
        return self._link.use(
            lambda ptr: int(ffi.ke_device_report(ptr, self._number, v.array, v.n)), f"a report of device {self.name}"
        )

    def lost(self, why: Union[BaseException, str]) -> bool:
        """The device went away; it is closed, and opened again after a pause. Any thread. False: it is not open."""
        status, text = (c.KE_ECLOSED, why) if isinstance(why, str) else _failure(why)
        return self._link.use(
            lambda ptr: int(ffi.ke_device_lost(ptr, self._number, status, _clean(text))),
            f"the loss of device {self.name}",
        )

    def __repr__(self) -> str:
        return f"<kubeedge.Device {self.namespace}/{self.name}>"


class DeviceOperation:
    """One call into a driver. End it exactly once, by complete() or fail(), from any thread, now or later.

    Both tell whether it counted: False when it was over already, by its deadline or because the device went.
    """

    __slots__ = ("_link", "_number", "name", "device")

    def __init__(self, link: Link, number: int, name: str, device: Device) -> None:
        self._link = link
        self._number = number
        self.name = name
        self.device = device

    def complete(self, values: Optional[Mapping[str, Said]] = None, *, reply: Any = None) -> bool:
        """It succeeded. values, by name of the property: of read, a value for each that was asked for, or an
        exception for one that could not be read; of write, an exception for each that was refused. reply: of
        call, what JSON can say."""
        result = s.DeviceResult.sized()
        v = _Values(self.device, values or {})
        result.values = v.array
        result.n_values = v.n
        data = json.dumps(reply).encode("utf-8") if reply is not None else None
        if data is not None:
            result.reply, result.reply_len = cast(c_char_p(data), c_void_p), len(data)
        return self._end(0, result)

    def fail(self, why: Union[BaseException, int], text: str = "") -> bool:
        """It failed. why: an exception, or KE_E* with a text for people. The device is lost by NetworkError,
        DeviceError, TimedOut, and by Python's OSError, which ConnectionError and TimeoutError are; it stays open
        after others."""
        if isinstance(why, BaseException):
            why, text = _failure(why)
        return self._end(why if why < 0 else c.KE_ECALLBACK, s.DeviceResult.sized(text=_clean(text)))

    def _end(self, status: int, result: s.DeviceResult) -> bool:
        return self._link.use(
            lambda ptr: int(ffi.ke_device_complete(ptr, self._number, status, byref(result))),
            f"the end of {self.name} of device {self.device.name}",
        )

    def __repr__(self) -> str:
        return f"<kubeedge.DeviceOperation {self.name} of {self.device.name} {self._number:#x}>"


class Driver(abc.ABC):
    """Talks to devices of one protocol. It is only protocol: when to read, deadlines, opening again, scale, limits,
    the write of desired values and the way to the twin are the harness's.

    The methods are called on the loop's thread, must not block, and each ends its operation through op, from any
    thread, now or later. One that is not ended in time fails, and the device is closed and opened anew. At most one
    operation of a device is under way; those of different devices overlap.

    An exception that a method raises ends the operation and is an error of that device, as by op.fail(). What is
    neither a KubeEdgeError nor an OSError is a mistake of the program: it is also raised where the context is driven.

    Leave a method that is marked optional as it is, and the harness does without. One Driver may be registered for
    several protocols.
    """

    @abc.abstractmethod
    def open(self, op: DeviceOperation, device: Device) -> None:
        """Begin with a device; complete once it can be read. close follows in any case. InvalidArgument and
        ParseError: its configuration is wrong, and it is not tried again before that changes."""

    def close(self, op: DeviceOperation, device: Device) -> None:
        """End what is under way for the device, and forget it."""
        op.complete()

    @abc.abstractmethod
    def read(self, op: DeviceOperation, device: Device, properties: Tuple[DeviceProperty, ...]) -> None:
        """op.complete({name: value, ...})."""

    def attach(self) -> None:
        """The harness has taken the driver."""

    def detach(self) -> None:
        """It lets go of it: no more calls until the next attach()."""

    # optional

    def write(self, op: DeviceOperation, device: Device, values: Dict[str, Raw]) -> None:
        """Optional: without it all properties are read-only. In the order in which they shall be written."""
        raise NotImplementedError

    def call(self, op: DeviceOperation, device: Device, method: str, args: Any) -> None:
        """Optional: a method of the device; op.complete(reply=...)."""
        raise NotImplementedError

    def subscribe(self, op: DeviceOperation, device: Device, properties: Tuple[DeviceProperty, ...]) -> None:
        """Optional: from now on device.report() tells these when they change. NotSupported: they are polled."""
        raise NotImplementedError

    def health(self, op: DeviceOperation, device: Device) -> None:
        """Optional: is the device well? Asked when nothing was read for a while."""
        raise NotImplementedError


# ---- calls of C into a driver ----


class Link:
    """A driver and the harness's end of it. C's pointer is used under the lock and forgotten in detach, so that a
    thread that completes late finds nothing."""

    def __init__(self, core: Core, driver: Driver) -> None:
        self.core = core
        self.driver = driver
        self.lock = threading.RLock()  # a completion may begin the next operation
        self.ptr: Optional[s.Devices] = None
        self.devices: Dict[int, Device] = {}
        self.ops = s.DeviceOps.sized(attach=_on_attach, detach=_on_detach, open=_on_open, close=_on_close)
        self.ops.read = _on_read
        for name, trampoline in _OPTIONAL.items():
            if getattr(type(driver), name) is not getattr(Driver, name):
                setattr(self.ops, name, trampoline)
        self.key = hold(self)

    def drop(self) -> None:
        with self.lock:
            self.ptr = None
        drop(self.key)
        for key in list(self.devices):
            self.forget(key)

    def forget(self, key: int) -> Optional[Device]:
        drop(key)
        return self.devices.pop(key, None)

    def use(self, fn: Callable[[s.Devices], int], what: str) -> bool:
        """fn with C's pointer. False: what it speaks of is over."""
        with self.lock:
            if self.ptr is None:
                return False
            r = fn(self.ptr)
        if r == c.KE_ENOTFOUND:
            return False
        if r < 0:
            raise error(r, f"{what} was not taken")
        return True

    def begin(self, op: DeviceOperation, args: Callable[[], Tuple[Any, ...]]) -> None:
        """Calls a method; its exception ends the operation, also one of making its arguments."""
        self.core.depth += 1
        try:
            getattr(self.driver, op.name)(op, op.device, *args())
        except BaseException as e:
            self._raised(op, e)
        finally:
            self.core.depth -= 1

    def _raised(self, op: DeviceOperation, e: BaseException) -> None:
        code, text = _failure(e)
        if code == c.KE_ECALLBACK:
            text = f"{text} (in {op.name} of the driver)"
        try:
            op.fail(code, text)  # before anybody hears of it
        except KubeEdgeError as other:
            self.core.fail(other)
        if not isinstance(e, (KubeEdgeError, OSError)):
            self.core.fail(e)


@s.callback(s.DeviceAttachFn)
def _on_attach(user: Optional[int], ptr: s.Devices) -> None:
    link = held(user)
    if link is not None:
        with link.lock:
            link.ptr = ptr
        link.core.user(link.driver.attach)


@s.callback(s.DeviceDetachFn)
def _on_detach(user: Optional[int]) -> None:
    link = held(user)
    if link is not None:
        link.drop()
        link.core.user(link.driver.detach)


@s.callback(s.DeviceOpenFn)
def _on_open(user: Optional[int], config: Any, op: int, ret_dev: Any) -> int:
    link = held(user)
    if link is None:
        return c.KE_ECANCELED
    try:
        device = Device(link, config)
    except BaseException as e:
        link.core.fail(e)
        return c.KE_ECALLBACK
    device.key = hold(device)
    link.devices[device.key] = device
    ret_dev[0] = device.key
    link.begin(DeviceOperation(link, op, "open", device), lambda: ())
    return 0


def _begin(
    user: Optional[int], dev: Optional[int], op: int, name: str, args: Callable[[Device], Tuple[Any, ...]]
) -> int:
    link, device = held(user), held(dev)
    if link is None or device is None:
        return c.KE_ECANCELED
    link.begin(DeviceOperation(link, op, name, device), lambda: args(device))
    return 0


@s.callback(s.DeviceOpFn)
def _on_close(user: Optional[int], dev: Optional[int], op: int) -> int:
    status = _begin(user, dev, op, "close", lambda device: ())
    link = held(user)
    if link is not None and dev:
        link.forget(dev)  # no call for it follows
    return status


def _asked(device: Device, indexes: Any, n: int) -> Tuple[Any, ...]:
    return (tuple(device.properties[indexes[k]] for k in range(n)),)


@s.callback(s.DeviceReadFn)
def _on_read(user: Optional[int], dev: Optional[int], op: int, indexes: Any, n: int) -> int:
    return _begin(user, dev, op, "read", lambda device: _asked(device, indexes, n))


@s.callback(s.DeviceReadFn)
def _on_subscribe(user: Optional[int], dev: Optional[int], op: int, indexes: Any, n: int) -> int:
    return _begin(user, dev, op, "subscribe", lambda device: _asked(device, indexes, n))


@s.callback(s.DeviceWriteFn)
def _on_write(user: Optional[int], dev: Optional[int], op: int, values: Any, n: int) -> int:
    def args(device: Device) -> Tuple[Any, ...]:
        return ({device.properties[values[k].property].name: _raw(values[k]) for k in range(n)},)

    return _begin(user, dev, op, "write", args)


@s.callback(s.DeviceCallFn)
def _on_call(user: Optional[int], dev: Optional[int], op: int, method: Optional[bytes], args: Any, n: int) -> int:
    return _begin(user, dev, op, "call", lambda device: (pystr(method), json.loads(pybytes(args, n) or b"null")))


@s.callback(s.DeviceOpFn)
def _on_health(user: Optional[int], dev: Optional[int], op: int) -> int:
    return _begin(user, dev, op, "health", lambda device: ())


_OPTIONAL = {"write": _on_write, "call": _on_call, "subscribe": _on_subscribe, "health": _on_health}
