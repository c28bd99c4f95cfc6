# SPDX-License-Identifier: Apache-2.0
"""The cloud tunnel: joins with a token, keeps the certificate fresh, holds the link, carries messages."""
from __future__ import annotations

import enum
from ctypes import byref, sizeof
from typing import Any, Callable, NamedTuple, Optional

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, OpenEnum, Path, Pending, State, cpath, cstr, drop, held, hold, pystr
from .context import Context
from .msg import Dialect, Message
from .store import Store, on_done


class TunnelState(OpenEnum):
    IDLE = c.KE_TUNNEL_IDLE
    JOINING = c.KE_TUNNEL_JOINING
    CONNECTING = c.KE_TUNNEL_CONNECTING
    CONNECTED = c.KE_TUNNEL_CONNECTED
    WAITING = c.KE_TUNNEL_WAITING
    STOPPED = c.KE_TUNNEL_STOPPED


class Send(enum.IntEnum):
    """How a message is kept: NOW: not at all, STATE: until confirmed or replaced, EVENT: in order, until
    confirmed."""

    NOW = c.KE_SEND_NOW
    STATE = c.KE_SEND_STATE
    EVENT = c.KE_SEND_EVENT


class TunnelStatus(NamedTuple):
    """See struct ke_tunnel_status. Of the times, the _ms count from or to now and are None when there is none;
    the certificate's are Unix seconds."""

    state: TunnelState
    dialect: int
    last_error: int
    last_error_text: str
    attempts: int
    next_retry_ms: Optional[int]
    connected_ms: Optional[int]
    cert_not_after: int
    cert_rotate_at: int
    sent: int
    received: int
    sent_bytes: int
    received_bytes: int
    outbox: int
    outbox_refused: int
    skipped: int


def status_of(st: Any) -> TunnelStatus:
    """From a struct ke_tunnel_status."""
    return TunnelStatus(
        state=TunnelState(st.state),
        dialect=st.dialect,
        last_error=st.last_error,
        last_error_text=pystr(st.last_error_text),
        attempts=st.attempts,
        next_retry_ms=None if st.next_retry_ms < 0 else st.next_retry_ms,
        connected_ms=None if st.connected_ms < 0 else st.connected_ms,
        cert_not_after=st.cert_not_after,
        cert_rotate_at=st.cert_rotate_at,
        sent=st.sent,
        received=st.received,
        sent_bytes=st.sent_bytes,
        received_bytes=st.received_bytes,
        outbox=st.outbox,
        outbox_refused=st.outbox_refused,
        skipped=st.skipped,
    )


MessageFn = Callable[[Message], object]
StateFn = Callable[[TunnelStatus], object]
SentFn = Callable[[Message, int], object]


class _Callbacks:
    def __init__(
        self, core: Core, message: Optional[MessageFn], state: Optional[StateFn], sent: Optional[SentFn]
    ) -> None:
        self.core = core
        self.message = message
        self.state = state
        self.sent = sent
        self.handle: Optional[State] = None

    def gone(self) -> bool:
        return self.handle is not None and self.handle.ptr is None


@s.callback(s.MessageFn)
def _on_message(user: Optional[int], msg: s.Msg) -> None:
    record = held(user)
    if record is not None and not record.gone():
        core = record.core
        core.user(lambda: record.message(Message._borrow(core, msg)))


@s.callback(s.TunnelStateFn)
def _on_state(user: Optional[int], st: Any) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(lambda: record.state(status_of(st.contents)))


@s.callback(s.TunnelSentFn)
def _on_sent(user: Optional[int], msg: s.Msg, status: int) -> None:
    record = held(user)
    if record is not None and not record.gone():
        core = record.core
        core.user(lambda: record.sent(Message._borrow(core, msg), status))


class Tunnel(Handle):
    """One node's link to the cloud. Usable by itself, with or without a store."""

    def __init__(
        self,
        context: Context,
        *,
        node_name: str,
        host: str,
        folder: Path,
        token: Optional[str] = None,
        project_id: Optional[str] = None,
        ca_file: Optional[Path] = None,
        cert_file: Optional[Path] = None,
        key_file: Optional[Path] = None,
        proxy_url: Optional[str] = None,
        tunnel_port: int = 0,
        cert_port: int = 0,
        dialect: int = Dialect.AUTO,
        heartbeat_ms: int = 0,
        dead_ms: int = 0,
        retry_min_ms: int = 0,
        retry_max_ms: int = 0,
        max_message: int = 0,
        outbox_messages: int = 0,
        outbox_bytes: int = 0,
        store: Optional[Store] = None,
        message: Optional[MessageFn] = None,
        state: Optional[StateFn] = None,
        sent: Optional[SentFn] = None,
    ) -> None:
        """The parameters are the members of struct ke_tunnel_config; 0 and None: its defaults.

        message(m): one from the cloud; ack(m) it when its effect is durable. state(status): something of it
        changed. sent(m, status): a kept message left the outbox, 0 confirmed, KE_ECANCELED replaced.
        """
        core = context._core

        def make() -> State:
            config = s.TunnelConfig()
            ffi.ke_tunnel_config_init(byref(config), sizeof(config))
            config.node_name = cstr(node_name)
            config.host = cstr(host)
            config.folder = cpath(folder)
            config.token = cstr(token)
            config.ca_file = cpath(ca_file)
            config.cert_file = cpath(cert_file)
            config.key_file = cpath(key_file)
            config.proxy_url = cstr(proxy_url)
            if project_id is not None:
                config.project_id = cstr(project_id)
            for name, number in (
                ("tunnel_port", tunnel_port),
                ("cert_port", cert_port),
                ("dialect", dialect),
                ("heartbeat_ms", heartbeat_ms),
                ("dead_ms", dead_ms),
                ("retry_min_ms", retry_min_ms),
                ("retry_max_ms", retry_max_ms),
                ("max_message", max_message),
                ("outbox_messages", outbox_messages),
                ("outbox_bytes", outbox_bytes),
            ):
                if number:
                    setattr(config, name, number)
            if store is not None:
                config.store = store._state.pointer()
            record = _Callbacks(core, message, state, sent)
            ops = s.TunnelOps.sized()
            if message is not None:
                ops.message = _on_message
            if state is not None:
                ops.state = _on_state
            if sent is not None:
                ops.sent = _on_sent
            key, ptr = hold(record), s.Tunnel()
            try:
                core.check(ffi.ke_tunnel_new(byref(ptr), core.pointer(), byref(config), byref(ops), key))
            except BaseException:
                drop(key)
                raise
            record.handle = State(core, "Tunnel", ptr, ffi.ke_tunnel_free, [key])
            if store is not None:
                store._state.dependents.append(record.handle)
            return record.handle

        super().__init__(context, core.call(make))
        self._store = store  # it must outlive the tunnel

    def start(self) -> None:
        """Joins if needed, connects, stays connected. Failures come by state."""
        self._core.call(lambda: self._core.check(ffi.ke_tunnel_start(self._state.pointer())))

    def stop(self) -> None:
        """Closes the link; the outbox stays."""

        def end() -> None:
            ffi.ke_tunnel_stop(self._state.pointer())

        self._core.call(end)

    def reconnect(self) -> None:
        """Connects anew at once."""
        self._core.call(lambda: self._core.check(ffi.ke_tunnel_reconnect(self._state.pointer())))

    def status(self) -> TunnelStatus:
        def read() -> TunnelStatus:
            st = s.TunnelStatus()
            self._core.check(ffi.ke_tunnel_status(self._state.pointer(), byref(st), sizeof(st)))
            return status_of(st)

        return self._core.call(read)

    def send(self, message: Message, how: int = Send.NOW, *, key: Optional[str] = None) -> Pending[None]:
        """Sends. NOW: done at once, NetworkError without a link. STATE and EVENT: done when it is durable in the
        outbox. key: what a newer state of the same replaces; None: the resource."""

        def begin() -> Pending[None]:
            pending: Pending[None] = Pending(self._core)
            user = self._state.pend(pending)
            try:
                pointer = self._state.pointer()
                r = ffi.ke_tunnel_send(pointer, message._pointer(), how, cstr(key), on_done, user)
                self._core.check(r)
            except BaseException:
                self._state.unpend(user)
                raise
            if how == Send.NOW:
                self._state.unpend(user)
                pending.finish(None)
            return pending

        return self._core.call(begin)

    def ack(self, message: Message) -> None:
        """Acknowledges a message of the cloud."""
        self._core.call(lambda: self._core.check(ffi.ke_tunnel_ack(self._state.pointer(), message._pointer())))
