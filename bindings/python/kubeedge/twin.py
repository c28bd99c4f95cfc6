# SPDX-License-Identifier: Apache-2.0
"""The device twin: what is wanted of each device, what it says it is, its state."""
from __future__ import annotations

import json
import threading
from ctypes import byref, sizeof
from typing import Any, Callable, List, NamedTuple, Optional, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, OpenEnum, Pending, State, cstr, drop, held, hold, pybytes, pystr
from .context import Context
from .errors import error
from .msg import Dialect
from .router import Router
from .store import Store

# Twins are text. A number is written as Python writes it, a bool as true and false.
Value = Union[str, int, float]


class TwinValue(NamedTuple):
    """One twin. desired and reported are None when there is none. Times are Unix ms, 0: never."""

    namespace: str
    device: str
    name: str
    type: str
    desired: Optional[str]
    reported: Optional[str]
    desired_ms: int
    reported_ms: int
    optional: bool
    unconfirmed: bool


class TwinDevice(NamedTuple):
    """One device. state and last_online are empty until it told; twins is their number."""

    namespace: str
    name: str
    description: str
    state: str
    last_online: str
    twins: int
    unconfirmed: bool


class TwinEventKind(OpenEnum):
    ADDED = c.KE_TWIN_ADDED
    REMOVED = c.KE_TWIN_REMOVED
    CHANGED = c.KE_TWIN_CHANGED
    DELETED = c.KE_TWIN_DELETED
    STATE = c.KE_TWIN_STATE


class TwinEvent(NamedTuple):
    """A change that is durable. value: of CHANGED, and of DELETED as it was; else None."""

    kind: TwinEventKind
    device: TwinDevice
    value: Optional[TwinValue]


class TwinStatus(NamedTuple):
    """unconfirmed: devices with something the cloud has not confirmed; waiting: messages that wait for the disk."""

    devices: int
    unconfirmed: int
    waiting: int
    connected: bool
    taken: int
    refused: int
    commits: int
    sent: int
    confirmed: int


EventFn = Callable[[TwinEvent], object]


def text_of(value: Value) -> str:
    """A value as twins have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def optional(text: Optional[bytes]) -> Optional[str]:
    return None if text is None else pystr(text)


def _value(i: Any) -> TwinValue:
    return TwinValue(
        pystr(i.ns),
        pystr(i.device),
        pystr(i.name),
        pystr(i.type),
        optional(i.desired),
        optional(i.reported),
        i.desired_ms,
        i.reported_ms,
        bool(i.optional),
        bool(i.unconfirmed),
    )


def _device(i: Any) -> TwinDevice:
    return TwinDevice(
        pystr(i.ns),
        pystr(i.name),
        pystr(i.description),
        pystr(i.state),
        pystr(i.last_online),
        i.twins,
        bool(i.unconfirmed),
    )


@s.callback(s.TwinDoneFn)
def _on_done(user: Optional[int], status: int, text: Optional[bytes]) -> None:
    entry = held(user)
    if entry is None:
        return
    state, pending = entry
    state.unpend(user)
    if status == 0:
        pending.finish(None)
    else:
        pending.give_up(error(status, pystr(text)))


@s.callback(s.TwinFn)
def _on_event(user: Optional[int], event: Any) -> None:
    observer = held(user)
    if observer is None or observer.closed:
        return
    e = event.contents
    value = _value(e.value.contents) if e.value else None
    made = TwinEvent(TwinEventKind(e.what), _device(e.device.contents), value)
    observer._core.user(observer._fn, made)


@s.callback(s.TwinDevicesFn)
def _collect_device(user: Optional[int], device: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_device(device.contents))


@s.callback(s.TwinValuesFn)
def _collect_value(user: Optional[int], value: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_value(value.contents))


class TwinObserver:
    """What Twin.observe made. close() ends it, again is harmless; it ends with its twin, too."""

    def __init__(self, core: Core, twin: _TwinState, fn: EventFn) -> None:
        self._core = core
        self._twin = twin
        self._fn = fn
        self._ptr: Optional[s.TwinSub] = None
        self._key = 0

    @property
    def closed(self) -> bool:
        return self._ptr is None

    def _begin(self, device: Optional[str]) -> None:
        ptr, self._key = s.TwinSub(), hold(self)
        try:
            r = ffi.ke_twin_observe(byref(ptr), self._twin.pointer(), cstr(device), _on_event, self._key)
            self._core.check(r)
        except BaseException:
            drop(self._key)
            raise
        self._ptr = ptr
        self._twin.observers.append(self)

    def _end(self) -> None:
        ptr, self._ptr = self._ptr, None
        if ptr is not None:
            self._twin.observers.remove(self)
            ffi.ke_twin_unobserve(ptr)
            drop(self._key)

    def close(self) -> None:
        if self._ptr is not None and self._core.ptr is not None:
            self._core.call(self._end)

    def __enter__(self) -> TwinObserver:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _TwinState(State):
    """Observers are ended before the twin goes; whoever uses its pointer beside the loop is waited for."""

    def __init__(self, core: Core, ptr: s.Twin, free: Callable[[Any], None]) -> None:
        self.observers: List[TwinObserver] = []
        self.lock = threading.RLock()

        def end(ptr: s.Twin) -> None:
            with self.lock:  # whoever had the pointer is done with it, others find none
                pass
            for observer in self.observers[:]:
                observer._end()
            free(ptr)

        super().__init__(core, "Twin", ptr, end)


def _keep(ptr: s.Twin) -> None:
    """The end of a borrowed one: its owner frees it."""


class Twin(Handle):
    """The device twin of a router: the module `devicetwin`. Usable by itself, to outlive the process with a store.

    A device is "NAME" or "NAMESPACE/NAME"; both find it while the name is unique. A twin gets its type with its
    first value: "string", "int", "float", "boolean" ("double", "bytes").
    """

    _state: _TwinState

    def __init__(
        self,
        context: Context,
        router: Router,
        *,
        node_name: str,
        store: Optional[Store] = None,
        dialect: int = Dialect.AUTO,
        strict: bool = False,
        old_topics: bool = False,
        max_devices: int = 0,
        max_twins: int = 0,
        max_value: int = 0,
        max_message: int = 0,
        queue_messages: int = 0,
        queue_bytes: int = 0,
    ) -> None:
        """The parameters are the members of struct ke_twin_config; 0: the default. strict: upstream's limits for
        values; old_topics: publish on topics with NAME too, where ids are NAMESPACE/NAME."""
        core = context._core

        def make() -> _TwinState:
            config = s.TwinConfig()
            ffi.ke_twin_config_init(byref(config), sizeof(config))
            config.router = router._state.pointer()
            if store is not None:
                config.store = store._state.pointer()
            config.node_name = cstr(node_name)
            config.dialect = int(dialect)
            config.flags = (c.KE_TWIN_STRICT if strict else 0) | (c.KE_TWIN_OLD_TOPICS if old_topics else 0)
            config.max_devices = max_devices
            config.max_twins = max_twins
            config.max_value = max_value
            config.max_message = max_message
            config.queue_messages = queue_messages
            config.queue_bytes = queue_bytes
            ptr = s.Twin()
            core.check(ffi.ke_twin_new(byref(ptr), core.pointer(), byref(config)))
            state = _TwinState(core, ptr, ffi.ke_twin_free)
            router._state.dependents.append(state)
            if store is not None:
                store._state.dependents.append(state)
            return state

        super().__init__(context, core.call(make))
        self._router, self._store = router, store  # they must outlive the twin

    @classmethod
    def _borrow(cls, context: Context, ptr: s.Twin) -> Twin:
        """One that a node owns and frees."""
        twin = cls.__new__(cls)
        twin._owned = True
        Handle.__init__(twin, context, _TwinState(context._core, ptr, _keep))
        return twin

    def start(self) -> None:
        """Begins to read the store; what comes meanwhile waits until all is restored. A node starts its own."""
        self._core.call(lambda: self._core.check(ffi.ke_twin_start(self._state.pointer())))

    def stop(self) -> None:
        """Takes no messages and sends none any more, until start(). What was taken is finished."""

        def end() -> None:
            ffi.ke_twin_stop(self._state.pointer())

        self._core.call(end)

    def status(self) -> TwinStatus:
        def read() -> TwinStatus:
            st = s.TwinStatus()
            self._core.check(ffi.ke_twin_status(self._state.pointer(), byref(st), sizeof(st)))
            return TwinStatus(
                st.devices,
                st.unconfirmed,
                st.waiting,
                bool(st.connected),
                st.taken,
                st.refused,
                st.commits,
                st.sent,
                st.confirmed,
            )

        return self._core.call(read)

    # -- changes; done when durable --

    def _change(self, function: Any, *args: Optional[bytes]) -> Pending[None]:
        pending: Pending[None] = Pending(self._core)
        err = s.Error.sized()
        key = self._state.pend(pending)
        try:
            with self._state.lock:
                r = function(self._state.pointer(), *args, _on_done, key, byref(err))
            if r < 0:
                raise error(r, pystr(err.text))
        except BaseException:
            self._state.unpend(key)
            raise
        return pending

    def add(self, device: str, description: str = "") -> Pending[None]:
        """A device of the program's own; with a KubeEdge cloud it is the cloud that adds them. Adding one that is
        there changes its description. Any thread."""
        return self._change(ffi.ke_twin_add, cstr(device), cstr(description))

    def remove(self, device: str) -> Pending[None]:
        """NotFound. Any thread."""
        return self._change(ffi.ke_twin_remove, cstr(device))

    def set(self, device: str, name: str, value: Value, *, type: Optional[str] = None) -> Pending[None]:
        """The desired value of a twin, which is made if there is none. type None: the one it has, or "string".
        NotFound, InvalidArgument when the value is none of the type. Any thread."""
        return self._change(ffi.ke_twin_set, cstr(device), cstr(name), cstr(text_of(value)), cstr(type))

    def report(self, device: str, name: str, value: Value, *, type: Optional[str] = None) -> Pending[None]:
        """The reported value: what the device says it is. As set(). Any thread."""
        return self._change(ffi.ke_twin_report, cstr(device), cstr(name), cstr(text_of(value)), cstr(type))

    def set_state(self, device: str, state: str) -> Pending[None]:
        """"online", "offline", "unknown", and by dialect "ok", "disconnected", "unhealthy". Any thread."""
        return self._change(ffi.ke_twin_set_state, cstr(device), cstr(state))

    # -- looking; StateError while the store is still being read --

    def get(self, device: str, name: str) -> TwinValue:
        """One twin as it is now. NotFound."""

        def read() -> TwinValue:
            value = s.TwinValue()
            pointer = self._state.pointer()
            self._core.check(ffi.ke_twin_get(pointer, cstr(device), cstr(name), byref(value), sizeof(value)))
            return _value(value)

        return self._core.call(read)

    def devices(self) -> List[TwinDevice]:
        def read() -> List[TwinDevice]:
            found: List[TwinDevice] = []
            key = hold(found)
            try:
                self._core.check(ffi.ke_twin_devices(self._state.pointer(), _collect_device, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)

    def each(self, device: str) -> List[TwinValue]:
        """All twins of a device. NotFound."""

        def read() -> List[TwinValue]:
            found: List[TwinValue] = []
            key = hold(found)
            try:
                self._core.check(ffi.ke_twin_each(self._state.pointer(), cstr(device), _collect_value, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)

    def json(self, device: Optional[str] = None) -> Any:
        """A device as KubeEdge's document of it, read from its JSON; None: {"devices": [...]}."""

        def read() -> bytes:
            buf, err = s.Buf(), s.Error.sized()
            try:
                r = ffi.ke_twin_json(self._state.pointer(), cstr(device), byref(buf), byref(err))
                if r < 0:
                    raise error(r, pystr(err.text))
                return pybytes(buf.p, buf.n)
            finally:
                ffi.ke_buf_free(byref(buf))

        return json.loads(self._core.call(read))

    def observe(self, fn: EventFn, device: Optional[str] = None) -> TwinObserver:
        """fn(event) for every change that is durable from now on; device None: of all. A desired value is one,
        too: whoever is a device reports what it did about it."""

        def begin() -> TwinObserver:
            observer = TwinObserver(self._core, self._state, fn)
            observer._begin(device)
            return observer

        return self._core.call(begin)
