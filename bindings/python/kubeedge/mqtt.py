# SPDX-License-Identifier: Apache-2.0
"""The MQTT server: devices connect to it, and the program is a client of it without a socket."""
from __future__ import annotations

import enum
from ctypes import POINTER, byref, c_char, c_char_p, c_uint32, cast, sizeof
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, OpenEnum, Path, Pending, State, cpath, cstr, drop, held, hold, pybytes, pystr
from .context import Context
from .errors import error

Payload = Union[bytes, bytearray, memoryview, str]

PORT_ANY = c.KE_MQTT_PORT_ANY
NONE = c.KE_MQTT_NONE  # in a limit: none


class MqttKind(enum.IntEnum):
    """Of a listener."""

    TCP = c.KE_MQTT_TCP
    TLS = c.KE_MQTT_TLS
    WS = c.KE_MQTT_WS
    WSS = c.KE_MQTT_WSS
    UNIX = c.KE_MQTT_UNIX


class MqttAccess(enum.IntFlag):
    """What a rule speaks of. DENY, with the others: refuse these."""

    READ = c.KE_MQTT_READ
    WRITE = c.KE_MQTT_WRITE
    SUBSCRIBE = c.KE_MQTT_SUBSCRIBE
    DENY = c.KE_MQTT_RULE_DENY


class MqttEventKind(OpenEnum):
    CONNECTED = c.KE_MQTT_EVENT_CONNECTED
    DISCONNECTED = c.KE_MQTT_EVENT_DISCONNECTED
    REFUSED = c.KE_MQTT_EVENT_REFUSED
    SUBSCRIBED = c.KE_MQTT_EVENT_SUBSCRIBED
    UNSUBSCRIBED = c.KE_MQTT_EVENT_UNSUBSCRIBED
    SESSION_END = c.KE_MQTT_EVENT_SESSION_END


class MqttListener(NamedTuple):
    """See struct ke_mqtt_listener; 0 and None: its defaults. anonymous None: only on loopback and unix sockets.
    client_cert: "" (none), "request", "require"; cert_user: "" (no), "name" or "subject" of the certificate is the
    user name."""

    kind: int = MqttKind.TCP
    host: Optional[str] = None
    port: int = 0
    path: Optional[Path] = None
    name: Optional[str] = None
    anonymous: Optional[bool] = None
    cert_file: Optional[Path] = None
    key_file: Optional[Path] = None
    ca_file: Optional[Path] = None
    crl_file: Optional[Path] = None
    client_cert: str = ""
    cert_user: str = ""
    mount_point: Optional[str] = None
    max_connections: int = 0
    max_qos: int = 2
    max_topic_alias: int = 0
    socket_mode: int = 0
    password_file: Optional[Path] = None
    acl_file: Optional[Path] = None


class MqttMessage(NamedTuple):
    """A copy of one; its bytes stay."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    client_id: str
    user_name: str
    content_type: str
    response_topic: str
    correlation: bytes
    text: bool
    expiry: Optional[int]
    subscription_ids: Tuple[int, ...]
    user_properties: Tuple[Tuple[str, str], ...]


class MqttClient(NamedTuple):
    """A client that is connected, or wants to."""

    client_id: str
    user_name: str
    identity: str
    address: str
    listener: str
    cert: bytes
    version: int
    keepalive: int
    clean_start: bool
    session_expiry: int


class MqttEvent(NamedTuple):
    kind: int
    reason: int
    client: Optional[MqttClient]
    topic: str
    text: str


class MqttRule(NamedTuple):
    topic: str
    access: int = MqttAccess.READ | MqttAccess.WRITE | MqttAccess.SUBSCRIBE


class MqttIdentity(NamedTuple):
    """What a client must bring to be that device; what is None may be anything. Listed, a password is ""."""

    name: str
    user_name: Optional[str] = None
    password: Optional[str] = None
    client_id: Optional[str] = None
    cert_sha256: Optional[str] = None
    cert_name: Optional[str] = None
    rules: Sequence[MqttRule] = ()


# authenticate(client, password): True lets it in, False refuses, None leaves it to users and identities
AuthenticateFn = Callable[[MqttClient, Optional[bytes]], Optional[bool]]
# authorize(client, access, topic): the same for what it wants to do
AuthorizeFn = Callable[[MqttClient, MqttAccess, str], Optional[bool]]
EventFn = Callable[[MqttEvent], object]
# filter(client, message): False refuses a message that a client published
FilterFn = Callable[[MqttClient, MqttMessage], Optional[bool]]
MessageFn = Callable[[MqttMessage], object]
StorageFn = Callable[[int, str], object]


# ---- from C ----


def _bytes(v: Any) -> bytes:
    return pybytes(v.p, v.n)


def _text(v: Any) -> str:
    return pystr(_bytes(v))


def _user_properties(msg: Any, n: int) -> Tuple[Tuple[str, str], ...]:
    found = []
    prop = s.MqttUserProp()
    for i in range(n):
        if ffi.ke_mqtt_message_user(msg, i, byref(prop)) == 0:
            found.append((_text(prop.name), _text(prop.value)))
    return tuple(found)


def _message(msg: Any) -> MqttMessage:
    m = msg.contents
    return MqttMessage(
        topic=_text(m.topic),
        payload=_bytes(m.payload),
        qos=m.qos,
        retain=bool(m.retain),
        client_id=_text(m.client_id),
        user_name=_text(m.user_name),
        content_type=_text(m.content_type),
        response_topic=_text(m.response_topic),
        correlation=_bytes(m.correlation),
        text=bool(m.format),
        expiry=m.expiry if m.has & c.KE_MQTT_HAS_EXPIRY else None,
        subscription_ids=tuple(m.sub_ids[i] for i in range(m.n_sub_ids)),
        user_properties=_user_properties(msg, m.n_user),
    )


def _client(p: Any) -> MqttClient:
    m = p.contents
    return MqttClient(
        client_id=_text(m.client_id),
        user_name=_text(m.user_name),
        identity=_text(m.identity),
        address=_text(m.address),
        listener=_text(m.listener),
        cert=_bytes(m.cert),
        version=m.version,
        keepalive=m.keepalive,
        clean_start=bool(m.clean_start),
        session_expiry=m.session_expiry,
    )


class _Callbacks:
    def __init__(
        self,
        core: Core,
        authenticate: Optional[AuthenticateFn],
        authorize: Optional[AuthorizeFn],
        event: Optional[EventFn],
        filter: Optional[FilterFn],
        storage: Optional[StorageFn],
    ) -> None:
        self.core = core
        self.authenticate = authenticate
        self.authorize = authorize
        self.event = event
        self.filter = filter
        self.storage = storage


def _answer(core: Core, fn: Callable[[], Any], otherwise: int) -> int:
    """What the user's function says; one that raises refuses."""
    said: List[Optional[bool]] = []
    if not core.user(lambda: said.append(fn())):
        return c.KE_MQTT_DENY
    if said[0] is None:
        return otherwise
    return c.KE_MQTT_ALLOW if said[0] else c.KE_MQTT_DENY


@s.callback(s.MqttAuthenticateFn)
def _on_authenticate(user: Optional[int], auth: Any, credentials: Any) -> int:
    record = held(user)
    if record is None:
        return c.KE_MQTT_DENY
    m = credentials.contents
    password = _bytes(m.password) if m.has_password else None
    return _answer(record.core, lambda: record.authenticate(_client(m.client), password), c.KE_MQTT_DEFER)


@s.callback(s.MqttAuthorizeFn)
def _on_authorize(user: Optional[int], client: Any, access: int, topic: Any) -> int:
    record = held(user)
    if record is None:
        return c.KE_MQTT_DENY
    return _answer(
        record.core, lambda: record.authorize(_client(client), MqttAccess(access), _text(topic)), c.KE_MQTT_DEFER
    )


@s.callback(s.MqttEventFn)
def _on_event(user: Optional[int], event: Any) -> None:
    record = held(user)
    if record is None:
        return
    e = event.contents
    client = _client(e.client) if e.client else None
    record.core.user(record.event, MqttEvent(e.what, e.reason, client, _text(e.topic), _text(e.text)))


@s.callback(s.MqttFilterFn)
def _on_filter(user: Optional[int], client: Any, msg: Any) -> int:
    record = held(user)
    if record is None:
        return 0
    return _answer(record.core, lambda: record.filter(_client(client), _message(msg)), 0)


@s.callback(s.MqttDoneFn)
def _on_storage(user: Optional[int], status: int) -> None:
    record = held(user)
    if record is not None:
        text = pystr(ffi.ke_ctx_error(record.core.ptr)) if status < 0 else ""
        record.core.user(record.storage, status, text)


@s.callback(s.MqttDoneFn)
def _on_done(user: Optional[int], status: int) -> None:
    entry = held(user)
    if entry is not None:
        state, pending = entry
        state.unpend(user)
        pending.end(status, None)


@s.callback(s.MqttMessageFn)
def _on_message(user: Optional[int], msg: Any) -> None:
    entry = held(user)
    if entry is not None:
        core, fn, _ = entry
        core.user(lambda: fn(_message(msg)))


@s.callback(s.MqttGoneFn)
def _on_gone(user: Optional[int]) -> None:
    entry = drop(user)
    if entry is not None:
        entry[2].ptr = None


# A listing runs inside of one call: what it finds, and where it goes.
@s.callback(s.MqttClientFn)
def _on_listed_client(user: Optional[int], client: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_client(client))


@s.callback(s.MqttIdentityFn)
def _on_listed_identity(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is None:
        return
    i = p.contents

    def optional(text: Optional[bytes]) -> Optional[str]:
        return None if text is None else pystr(text)

    rules = tuple(MqttRule(pystr(i.rules[k].topic), MqttAccess(i.rules[k].access)) for k in range(i.n_rules))
    entry.append(
        MqttIdentity(
            pystr(i.name),
            optional(i.user_name),
            optional(i.password),
            optional(i.client_id),
            optional(i.cert_sha256),
            optional(i.cert_name),
            rules,
        )
    )


# ---- to C ----


class _Texts:
    """Bytes that C is to see, kept as long as this."""

    def __init__(self) -> None:
        self.kept: List[Any] = []

    def of(self, data: Optional[Payload]) -> Any:
        raw = b"" if data is None else data.encode("utf-8") if isinstance(data, str) else bytes(data)
        self.kept.append(raw)
        return s.MqttStr(cast(c_char_p(raw), POINTER(c_char)), len(raw))


def _rules(rules: Iterable[MqttRule]) -> Any:
    items = [s.MqttRule.sized(topic=cstr(r.topic), access=r.access) for r in rules]
    return (s.MqttRule * len(items))(*items), len(items)


_CERT = {"": 0, "request": c.KE_MQTT_CERT_REQUEST, "require": c.KE_MQTT_CERT_REQUIRE}
_CERT_USER = {"": 0, "name": c.KE_MQTT_CERT_USER, "subject": c.KE_MQTT_CERT_SUBJECT}
_MAX_QOS = {0: c.KE_MQTT_MAX_QOS_0, 1: c.KE_MQTT_MAX_QOS_1, 2: 0}
_ANONYMOUS = {None: 0, True: c.KE_MQTT_ANONYMOUS, False: c.KE_MQTT_NO_ANONYMOUS}


def _listener(v: MqttListener) -> Any:
    listener = s.MqttListener()
    ffi.ke_mqtt_listener_init(byref(listener), sizeof(listener))
    listener.kind = v.kind
    listener.name = cstr(v.name)
    listener.host = cstr(v.host)
    listener.port = v.port
    listener.max_connections = v.max_connections
    listener.max_topic_alias = v.max_topic_alias
    listener.socket_mode = v.socket_mode
    listener.mount_point = cstr(v.mount_point)
    for member in ("path", "cert_file", "key_file", "ca_file", "crl_file", "password_file", "acl_file"):
        setattr(listener, member, cpath(getattr(v, member)))
    try:
        listener.flags = (
            _CERT[v.client_cert] | _CERT_USER[v.cert_user] | _MAX_QOS[v.max_qos] | _ANONYMOUS[v.anonymous]
        )
    except KeyError as e:
        raise ValueError(f"{e.args[0]!r} in a listener is no such value") from None
    return listener


_LIMITS = {name for name, kind in s.MqttConfig._fields_ if name.startswith("max_")} | {
    "receive_max",
    "connect_ms",
    "auth_ms",
    "stall_ms",
    "sys_interval_s",
}


def _config(
    listeners: Iterable[MqttListener],
    data: Optional[Path],
    flags: int,
    password_file: Optional[Path],
    acl_file: Optional[Path],
    limits: Dict[str, int],
) -> Any:
    config = s.MqttConfig()
    ffi.ke_mqtt_config_init(byref(config), sizeof(config))
    items = [_listener(v) for v in listeners]
    array = (s.MqttListener * len(items))(*items)
    config.listeners = cast(array, type(config.listeners))
    config.n_listeners = len(items)
    config.data = cpath(data)
    config.flags = flags
    config.password_file = cpath(password_file)
    config.acl_file = cpath(acl_file)
    for name, value in limits.items():
        if name not in _LIMITS:
            raise TypeError(f"there is no limit {name}: see struct ke_mqtt_config")
        setattr(config, name, value)
    return config


class MqttSubscription:
    """A subscription of the program's own. close() ends it, again is harmless."""

    def __init__(self, core: Core, server: State) -> None:
        self._core = core
        self._server = server
        self.ptr: Any = None

    @property
    def closed(self) -> bool:
        return self.ptr is None

    def close(self) -> None:
        def end() -> None:
            ptr, self.ptr = self.ptr, None
            if ptr is not None and self._server.ptr is not None:
                ffi.ke_mqtt_unsubscribe(ptr)

        if self._core.ptr is not None:
            self._core.call(end)

    def __enter__(self) -> MqttSubscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Mqtt(Handle):
    """An MQTT server, 3.1.1 and 5.0. Usable by itself."""

    def __init__(
        self,
        context: Context,
        listeners: Iterable[MqttListener] = (),
        *,
        data: Optional[Path] = None,
        flags: int = 0,
        password_file: Optional[Path] = None,
        acl_file: Optional[Path] = None,
        authenticate: Optional[AuthenticateFn] = None,
        authorize: Optional[AuthorizeFn] = None,
        event: Optional[EventFn] = None,
        filter: Optional[FilterFn] = None,
        storage: Optional[StorageFn] = None,
        **limits: int,
    ) -> None:
        """listeners: none: only this program is its client. data: folder of sessions, retained messages, users;
        None: memory only. flags: KE_MQTT_NO_RETAIN and the like. limits: members of struct ke_mqtt_config by their
        names. The callbacks see copies; one that raises refuses what it was asked."""
        core = context._core

        def make() -> State:
            config = _config(listeners, data, flags, password_file, acl_file, limits)
            record = _Callbacks(core, authenticate, authorize, event, filter, storage)
            ops = s.MqttOps.sized()
            if authenticate is not None:
                ops.authenticate = _on_authenticate
            if authorize is not None:
                ops.authorize = _on_authorize
            if event is not None:
                ops.event = _on_event
            if filter is not None:
                ops.message = _on_filter
            if storage is not None:
                ops.storage = _on_storage
            key, ptr = hold(record), s.Mqtt()
            try:
                core.check(ffi.ke_mqtt_new(byref(ptr), core.pointer(), byref(config), byref(ops), key))
            except BaseException:
                drop(key)
                raise
            return State(core, "Mqtt", ptr, ffi.ke_mqtt_free, [key])

        super().__init__(context, core.call(make))
        self._data = data

    # -- running --

    def start(self) -> None:
        """Opens data and listens."""
        self._core.call(lambda: self._core.check(ffi.ke_mqtt_start(self._state.pointer())))

    def stop(self) -> None:
        """Tells the clients, makes all durable, closes. May be started again. Not from its callbacks."""

        def end() -> None:
            ffi.ke_mqtt_stop(self._state.pointer())

        self._core.call(end)

    def port(self, i: int = 0) -> int:
        """Of the i-th listener."""

        def read() -> int:
            port = c_uint32(0)
            self._core.check(ffi.ke_mqtt_port(self._state.pointer(), i, byref(port)))
            return int(port.value)

        return self._core.call(read)

    def reload(
        self,
        listeners: Iterable[MqttListener] = (),
        *,
        flags: int = 0,
        password_file: Optional[Path] = None,
        acl_file: Optional[Path] = None,
        **limits: int,
    ) -> None:
        """Another configuration, while clients stay connected. When it is refused the old one stays in force."""

        def load() -> None:
            config = _config(listeners, self._data, flags, password_file, acl_file, limits)
            self._core.check(ffi.ke_mqtt_reload(self._state.pointer(), byref(config)))

        self._core.call(load)

    def stats(self) -> Dict[str, int]:
        """The members of struct ke_mqtt_stats."""

        def read() -> Dict[str, int]:
            st = s.MqttStats()
            self._core.check(ffi.ke_mqtt_stats(self._state.pointer(), byref(st), sizeof(st)))
            return {name: getattr(st, name) for name, _ in s.MqttStats._fields_ if name != "size"}

        return self._core.call(read)

    # -- clients --

    def _listed(self, function: Any, each: Any) -> List[Any]:
        def read() -> List[Any]:
            found: List[Any] = []
            key = hold(found)
            try:
                self._core.check(function(self._state.pointer(), each, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)

    def clients(self) -> List[MqttClient]:
        """Those that are connected."""
        return self._listed(ffi.ke_mqtt_clients, _on_listed_client)

    def disconnect(
        self, client_id: str, reason: int = 0x98, *, server: Optional[str] = None, session: bool = False
    ) -> None:
        """Closes a client's connection; session: and ends its session. NotFound."""

        def end() -> None:
            err = s.Error.sized()
            flags = c.KE_MQTT_DROP_SESSION if session else 0
            r = ffi.ke_mqtt_disconnect(
                self._state.pointer(), cstr(client_id), reason, cstr(server), flags, byref(err)
            )
            if r < 0:
                raise error(r, pystr(err.text))

        self._core.call(end)

    # -- messages --

    def _pending(self, begin: Callable[[int, Any], Any]) -> Pending[None]:
        """begin(key, err) starts an operation that _on_done ends."""

        def start() -> Pending[None]:
            pending: Pending[None] = Pending(self._core)
            err = s.Error.sized()
            key = self._state.pend(pending)
            try:
                r = begin(key, err)
                if r < 0:
                    raise error(r, pystr(err.text))
            except BaseException:
                self._state.unpend(key)
                raise
            return pending

        return self._core.call(start)

    def publish(
        self,
        topic: str,
        payload: Payload = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        content_type: str = "",
        response_topic: str = "",
        correlation: bytes = b"",
        expiry: Optional[int] = None,
        text: Optional[bool] = None,
        user_properties: Iterable[Tuple[str, str]] = (),
    ) -> Pending[None]:
        """Done when it was handed to all who are there and is durable for those who are away."""
        texts = _Texts()
        p = s.MqttPublish.sized(
            topic=texts.of(topic),
            payload=texts.of(payload),
            content_type=texts.of(content_type),
            response_topic=texts.of(response_topic),
            correlation=texts.of(correlation),
            qos=qos,
            retain=int(retain),
        )
        if expiry is not None:
            p.expiry = expiry
            p.has |= c.KE_MQTT_HAS_EXPIRY
        if text is not None:
            p.format = int(text)
            p.has |= c.KE_MQTT_HAS_FORMAT
        props = [s.MqttUserProp(texts.of(k), texts.of(v)) for k, v in user_properties]
        array = (s.MqttUserProp * len(props))(*props)
        p.user_props = cast(array, type(p.user_props))
        p.n_user_props = len(props)
        return self._pending(
            lambda key, err: ffi.ke_mqtt_publish(self._state.pointer(), byref(p), _on_done, key, byref(err))
        )

    def subscribe(
        self,
        filter: str,
        message: MessageFn,
        *,
        qos: int = 0,
        no_local: bool = False,
        as_published: bool = False,
        retained: bool = True,
        id: int = 0,
    ) -> MqttSubscription:
        """message(m) for each that matches, first what is retained unless that is not wanted."""
        texts = _Texts()
        sub = s.MqttSubscribe.sized(filter=texts.of(filter), qos=qos, id=id)
        sub.flags = (
            (c.KE_MQTT_SUB_NO_LOCAL if no_local else 0)
            | (c.KE_MQTT_SUB_AS_PUBLISHED if as_published else 0)
            | (0 if retained else c.KE_MQTT_SUB_NO_RETAINED)
        )
        sub.message = _on_message
        sub.gone = _on_gone

        def begin() -> MqttSubscription:
            made = MqttSubscription(self._core, self._state)
            err, ptr = s.Error.sized(), s.MqttSub()
            key = hold((self._core, message, made))
            r = ffi.ke_mqtt_subscribe(byref(ptr), self._state.pointer(), byref(sub), key, byref(err))
            if r < 0:
                drop(key)
                raise error(r, pystr(err.text))
            made.ptr = ptr
            return made

        return self._core.call(begin)

    # -- users, identities, rules: done when durable, in force at once --

    def user_set(self, name: str, password: Optional[str], rules: Iterable[MqttRule] = ()) -> Pending[None]:
        """password None: by certificate only."""
        array, n = _rules(rules)
        return self._pending(
            lambda key, err: ffi.ke_mqtt_user_set(
                self._state.pointer(), cstr(name), cstr(password), array, n, _on_done, key, byref(err)
            )
        )

    def user_remove(self, name: str) -> Pending[None]:
        """And closes its connections. NotFound."""
        return self._pending(
            lambda key, err: ffi.ke_mqtt_user_remove(self._state.pointer(), cstr(name), _on_done, key, byref(err))
        )

    def rules_set(self, user_name: Optional[str], rules: Iterable[MqttRule]) -> Pending[None]:
        """For everybody (None), or for clients without a name (""). Replaces those that were."""
        array, n = _rules(rules)
        return self._pending(
            lambda key, err: ffi.ke_mqtt_rules_set(
                self._state.pointer(), cstr(user_name), array, n, _on_done, key, byref(err)
            )
        )

    def identity_set(self, identity: MqttIdentity) -> Pending[None]:
        """Gives a device its identity."""
        array, n = _rules(identity.rules)
        i = s.MqttIdentity.sized(
            name=cstr(identity.name),
            user_name=cstr(identity.user_name),
            password=cstr(identity.password),
            client_id=cstr(identity.client_id),
            cert_sha256=cstr(identity.cert_sha256),
            cert_name=cstr(identity.cert_name),
            n_rules=n,
        )
        i.rules = cast(array, type(i.rules))
        return self._pending(
            lambda key, err: ffi.ke_mqtt_identity_set(self._state.pointer(), byref(i), _on_done, key, byref(err))
        )

    def identity_revoke(self, name: str) -> Pending[None]:
        """Takes it away, closes its connections, keeps it out. NotFound."""
        return self._pending(
            lambda key, err: ffi.ke_mqtt_identity_revoke(self._state.pointer(), cstr(name), _on_done, key, byref(err))
        )

    def identities(self) -> List[MqttIdentity]:
        return self._listed(ffi.ke_mqtt_identities, _on_listed_identity)
