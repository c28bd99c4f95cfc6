# SPDX-License-Identifier: Apache-2.0
"""The message router: modules with names and groups, bounded queues, requests with replies."""
from __future__ import annotations

from ctypes import byref, c_uint64, sizeof
from typing import Callable, NamedTuple, Optional

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, Pending, State, cstr, drop, held, hold, pystr
from .context import Context
from .errors import error
from .msg import Message


class ModuleStats(NamedTuple):
    delivered: int
    refused: int
    queued: int
    queued_peak: int


class _Callbacks:
    def __init__(
        self, core: Core, message: Callable[[Message], object], overflow: Optional[Callable[[int], object]]
    ) -> None:
        self.core = core
        self.message = message
        self.overflow = overflow
        self.state: Optional[State] = None

    def gone(self) -> bool:
        return self.state is not None and self.state.ptr is None


@s.callback(s.MessageFn)
def _on_message(user: Optional[int], msg: s.Msg) -> None:
    record = held(user)
    if record is not None and not record.gone():
        core = record.core
        core.user(lambda: record.message(Message._borrow(core, msg)))


@s.callback(s.OverflowFn)
def _on_overflow(user: Optional[int], refused: int) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(record.overflow, refused)


@s.callback(s.ReplyFn)
def _on_reply(user: Optional[int], status: int, msg: s.Msg) -> None:
    entry = held(user)
    if entry is None:
        return
    state, pending = entry
    state.unpend(user)
    if status < 0:
        text = "no reply came in time" if status != c.KE_ECANCELED else "the router was closed"
        pending.give_up(error(status, text))
        return
    try:
        reply = Message._borrow(state.core, msg)
    except BaseException as e:
        pending.give_up(e)
        return
    pending.finish(reply)


class Module(Handle):
    """A module on a router, which owns it. Closing it drops what is queued for it."""

    _owned = True

    def stats(self) -> ModuleStats:
        def read() -> ModuleStats:
            stats = s.ModuleStats()
            self._core.check(ffi.ke_module_stats(self._state.pointer(), byref(stats), sizeof(stats)))
            return ModuleStats(stats.delivered, stats.refused, stats.queued, stats.queued_peak)

        return self._core.call(read)


class Router(Handle):
    """Carries messages between modules, each delivered in a later turn of the loop. Usable by itself."""

    def __init__(
        self, context: Context, *, queue_messages: int = 0, requests: int = 0, queue_bytes: int = 0
    ) -> None:
        """Bounds: messages and bytes in the queue of a module, requests open at once; 0: the default."""
        core = context._core

        def make() -> State:
            config = s.RouterConfig()
            ffi.ke_router_config_init(byref(config), sizeof(config))
            config.queue_messages = queue_messages or config.queue_messages
            config.requests = requests or config.requests
            config.queue_bytes = queue_bytes or config.queue_bytes
            ptr = s.Router()
            core.check(ffi.ke_router_new(byref(ptr), core.pointer(), byref(config)))
            return State(core, "Router", ptr, ffi.ke_router_free)

        super().__init__(context, core.call(make))

    def add(
        self,
        name: str,
        message: Callable[[Message], object],
        *,
        group: Optional[str] = None,
        overflow: Optional[Callable[[int], object]] = None,
    ) -> Module:
        """Adds a module. message(m) is called for each message, overflow(refused) after its queue was full."""

        def make() -> State:
            record = _Callbacks(self._core, message, overflow)
            key = hold(record)
            ops = s.ModuleOps.sized(message=_on_message)
            if overflow is not None:
                ops.overflow = _on_overflow
            ptr = s.Module()
            try:
                router = self._state.pointer()
                r = ffi.ke_router_add(byref(ptr), router, cstr(name), cstr(group), byref(ops), key)
                self._core.check(r)
            except BaseException:
                drop(key)
                raise
            state = State(self._core, f"Module {name}", ptr, ffi.ke_module_remove, [key])
            record.state = state
            self._state.dependents.append(state)
            return state

        return Module(self._context, self._core.call(make))

    def send(self, module: str, message: Message) -> None:
        """To one module. NotFound, LimitExceeded. Any thread."""
        err = s.Error.sized()
        r = ffi.ke_router_send(self._state.pointer(), cstr(module), message._pointer(), byref(err))
        if r < 0:
            raise error(r, pystr(err.text))

    def send_group(self, group: str, message: Message) -> None:
        """To each module of a group. When some queues are full the others get it, and LimitExceeded is raised.
        Any thread."""
        err = s.Error.sized()
        r = ffi.ke_router_send_group(self._state.pointer(), cstr(group), message._pointer(), byref(err))
        if r < 0:
            raise error(r, pystr(err.text))

    def respond(self, reply: Message) -> None:
        """Gives a reply to whoever waits for its parent id; NotFound when nobody does. Any thread."""
        err = s.Error.sized()
        r = ffi.ke_router_respond(self._state.pointer(), reply._pointer(), byref(err))
        if r < 0:
            raise error(r, pystr(err.text))

    def request(self, module: str, message: Message, *, timeout_ms: int) -> Pending[Message]:
        """Sends message and waits for the one whose parent id is its id. TimedOut; can be canceled."""

        def ask() -> Pending[Message]:
            state, number = self._state, c_uint64(0)

            def stop() -> None:
                state.unpend(key)
                if state.ptr is not None:
                    ffi.ke_router_cancel(state.ptr, number)

            pending: Pending[Message] = Pending(self._core, stop)
            key = state.pend(pending)
            try:
                r = ffi.ke_router_request(
                    state.pointer(), cstr(module), message._pointer(), timeout_ms, _on_reply, key, byref(number)
                )
                self._core.check(r)
            except BaseException:
                state.unpend(key)
                raise
            return pending

        return self._core.call(ask)
