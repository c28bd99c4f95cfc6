# SPDX-License-Identifier: Apache-2.0
"""A complete KubeEdge node: tunnel, store, router and pod engine put together."""
from __future__ import annotations

import enum
import weakref
from ctypes import byref, cast, pointer, sizeof
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, Union

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, OpenEnum, Path, State, cpath, cstr, cstrings, drop, held, hold, pystr
from .context import Context
from .device import Devices
from .errors import error
from .msg import Dialect
from .runtime import Link, Runtime
from .tunnel import TunnelStatus, status_of
from .twin import Twin


class NodeState(OpenEnum):
    STOPPED = c.KE_NODE_STOPPED
    STARTING = c.KE_NODE_STARTING
    OFFLINE = c.KE_NODE_OFFLINE
    CONNECTED = c.KE_NODE_CONNECTED
    READY = c.KE_NODE_READY


class NodeFlag(enum.IntFlag):
    """NO_DEVICES: no device twin, no drivers, no mappers. TWIN_STRICT: upstream's limits for values of twins.
    TWIN_OLD_TOPICS: with a cloud since 1.16, publish on topics without the namespace, too."""

    NO_DEVICES = c.KE_NODE_NO_DEVICES
    TWIN_STRICT = c.KE_NODE_TWIN_STRICT
    TWIN_OLD_TOPICS = c.KE_NODE_TWIN_OLD_TOPICS


class NodeStatus(NamedTuple):
    """strays: running containers that are kept though their pod is not known."""

    state: NodeState
    pods: int
    pods_running: int
    last_error: int
    error_text: str
    tunnel: TunnelStatus
    strays: int


class PodInfo(NamedTuple):
    """One pod as the node sees it. removed: it is gone, and this is its last report."""

    namespace: str
    name: str
    uid: str
    phase: str
    reason: str
    message: str
    ready: int
    containers: int
    restarts: int
    removed: bool


class MapperInfo(NamedTuple):
    """A mapper that has registered. reachable: it answered the last time; error: what failed last, empty if all is
    well; waiting: changes that it was not told yet. Times are Unix ms, 0: not since the node's start."""

    name: str
    version: str
    protocol: str
    address: str
    dmi: str
    state: str
    error: str
    reachable: bool
    devices: int
    waiting: int
    reports: int
    registered_ms: int
    seen_ms: int


class Taint(NamedTuple):
    key: str
    value: str
    effect: str


StateFn = Callable[[NodeStatus], object]
PodFn = Callable[[PodInfo], object]
DevicesFn = Callable[[Twin, Devices], object]


def _status(st: Any) -> NodeStatus:
    # Not every state of a node has a tunnel; its struct is zero then, which reads as idle.
    return NodeStatus(
        NodeState(st.state),
        st.pods,
        st.pods_running,
        st.last_error,
        pystr(st.error_text),
        status_of(st.tunnel),
        st.strays,
    )


def _pod(p: Any) -> PodInfo:
    i = p.contents
    return PodInfo(
        pystr(i.pod_namespace),
        pystr(i.name),
        pystr(i.uid),
        pystr(i.phase),
        pystr(i.reason),
        pystr(i.message),
        i.ready,
        i.containers,
        i.restarts,
        bool(i.removed),
    )


class _Callbacks:
    def __init__(
        self, context: Context, state: Optional[StateFn], pod: Optional[PodFn], devices: Optional[DevicesFn]
    ) -> None:
        self.core = context._core
        self.context = weakref.ref(context)  # alive while its node is started; nothing in C keeps it
        self.state = state
        self.pod = pod
        self.devices = devices
        self.lent: List[State] = []
        self.handle: Optional[State] = None

    def gone(self) -> bool:
        return self.handle is not None and self.handle.ptr is None


@s.callback(s.NodeStateFn)
def _on_state(user: Optional[int], st: Any) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(lambda: record.state(_status(st.contents)))


@s.callback(s.PodFn)
def _on_pod(user: Optional[int], p: Any) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(lambda: record.pod(_pod(p)))


@s.callback(s.NodeDevicesFn)
def _on_devices(user: Optional[int], twin: s.Twin, devices: s.Devices) -> None:
    """Lends the node's twin and harness, or takes them back before they go."""
    record = held(user)
    if record is None:
        return
    for state in record.lent:
        state.free()
    record.lent.clear()
    context = record.context()
    if twin and devices and context is not None:
        lent_twin, lent_devices = Twin._borrow(context, twin), Devices._borrow(context, devices)
        record.lent += [lent_twin._state, lent_devices._state]
        record.core.user(record.devices, lent_twin, lent_devices)


@s.callback(s.PodFn)
def _collect_pod(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_pod(p))


@s.callback(s.NodeMapperFn)
def _collect_mapper(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is None:
        return
    i = p.contents
    entry.append(
        MapperInfo(
            pystr(i.name),
            pystr(i.version),
            pystr(i.protocol),
            pystr(i.address),
            pystr(i.dmi),
            pystr(i.state),
            pystr(i.error),
            bool(i.reachable),
            i.devices,
            i.waiting,
            i.reports,
            i.registered_ms,
            i.seen_ms,
        )
    )


@s.callback(s.UnknownKeyFn)
def _on_unknown(user: Optional[int], key: Optional[bytes], line: int) -> None:
    entry = held(user)
    if entry is not None:
        entry.append((pystr(key), line))


class NodeSettings(Handle):
    """A configuration read from an edgecore.yaml of upstream, to make a Node of. unknown lists the keys that
    have no meaning here, with their lines."""

    _warn = False  # it is memory and nothing else

    def __init__(self, context: Context, path: Path) -> None:
        self.unknown: List[Tuple[str, int]] = []
        core = context._core

        def read() -> State:
            ptr, key = s.NodeSettings(), hold(self.unknown)
            try:
                r = ffi.ke_node_settings_read(byref(ptr), core.pointer(), cpath(path), _on_unknown, key)
                core.check(r)
            finally:
                drop(key)
            return State(core, "NodeSettings", ptr, ffi.ke_node_settings_free)

        super().__init__(context, core.call(read))

    def _config(self) -> s.NodeConfig:
        """A copy whose pointers are ours."""
        p = ffi.ke_node_settings_config(self._state.pointer())
        return s.NodeConfig.from_buffer_copy(p.contents)

    def _text(self, member: str) -> str:
        return self._core.call(lambda: pystr(getattr(self._config(), member)))

    @property
    def name(self) -> str:
        return self._text("name")

    @property
    def cloud_host(self) -> str:
        return self._text("cloud_host")

    @property
    def data(self) -> str:
        return self._text("data")


def _pairs(pairs: Optional[Mapping[str, str]]) -> Any:
    items = [s.Env(cstr(k), cstr(v)) for k, v in (pairs or {}).items()]
    return (s.Env * len(items))(*items)


class Node(Handle):
    """A node of a KubeEdge cluster."""

    def __init__(
        self,
        context: Context,
        *,
        settings: Optional[NodeSettings] = None,
        name: Optional[str] = None,
        data: Optional[Path] = None,
        cloud_host: Optional[str] = None,
        token: Optional[str] = None,
        project_id: Optional[str] = None,
        proxy_url: Optional[str] = None,
        ca_file: Optional[Path] = None,
        cert_file: Optional[Path] = None,
        key_file: Optional[Path] = None,
        tunnel_port: int = 0,
        cert_port: int = 0,
        dialect: int = Dialect.AUTO,
        heartbeat_ms: int = 0,
        labels: Optional[Mapping[str, str]] = None,
        taints: Iterable[Taint] = (),
        resources: Optional[Mapping[str, str]] = None,
        max_pods: int = 0,
        node_ip: Optional[str] = None,
        runtime: Optional[Runtime] = None,
        builtin_runtime: Optional[str] = None,
        process_allow: Iterable[str] = (),
        host_path_allow: Iterable[str] = (),
        process_user: Optional[str] = None,
        shim: Optional[Path] = None,
        log_folder: Optional[Path] = None,
        status_ms: int = 0,
        retry_min_ms: int = 0,
        retry_max_ms: int = 0,
        drivers: Union[str, Iterable[str]] = (),
        dmi_socket: Optional[Path] = None,
        flags: int = 0,
        state: Optional[StateFn] = None,
        pod: Optional[PodFn] = None,
        devices: Optional[DevicesFn] = None,
    ) -> None:
        """name and data are required, cloud_host for more than an offline node. The other parameters are the
        members of struct ke_node_config; None, 0 and empty: what settings says, else the default.

        runtime is one written in Python; builtin_runtime the name of one of the library's: "none", "process".
        drivers are names of the library's for devices of the cloud, or "all". flags: NodeFlag. state(status) and
        pod(info) are called on every change.

        devices(twin, devices) is called within start(): the node's Twin and Devices, for drivers to be registered
        and the twin to be observed. Both are closed when the node stops; another start() gives others.
        """
        core = context._core
        members: Dict[str, Any] = {
            "name": cstr(name),
            "data": cpath(data),
            "cloud_host": cstr(cloud_host),
            "token": cstr(token),
            "project_id": cstr(project_id),
            "proxy_url": cstr(proxy_url),
            "ca_file": cpath(ca_file),
            "cert_file": cpath(cert_file),
            "key_file": cpath(key_file),
            "node_ip": cstr(node_ip),
            "runtime": cstr(builtin_runtime),
            "process_user": cstr(process_user),
            "shim": cpath(shim),
            "log_folder": cpath(log_folder),
            "drivers": cstr(drivers if isinstance(drivers, str) else ",".join(drivers)),
            "dmi_socket": cpath(dmi_socket),
            "flags": int(flags),
            "tunnel_port": tunnel_port,
            "cert_port": cert_port,
            "dialect": int(dialect),
            "heartbeat_ms": heartbeat_ms,
            "max_pods": max_pods,
            "status_ms": status_ms,
            "retry_min_ms": retry_min_ms,
            "retry_max_ms": retry_max_ms,
        }
        taint_list = [s.Taint(cstr(t.key), cstr(t.value), cstr(t.effect)) for t in taints]
        allowed = {"process_allow": list(process_allow), "host_path_allow": list(host_path_allow)}
        lists = {
            "labels": _pairs(labels),
            "taints": (s.Taint * len(taint_list))(*taint_list),
            "resources": _pairs(resources),
        }

        def make() -> State:
            config = s.NodeConfig()
            ffi.ke_node_config_init(byref(config), sizeof(config))
            if settings is not None:
                config = settings._config()
            for member, value in members.items():
                if value:
                    setattr(config, member, value)
            for member, array in lists.items():
                if len(array):
                    setattr(config, member, array)
                    setattr(config, "n_" + member, len(array))
            kept = []  # the arrays live until the library has copied them
            for member, names in allowed.items():
                if names:
                    kept.append(cstrings(names))
                    setattr(config, member, cast(kept[-1], type(getattr(config, member))))
                    setattr(config, "n_" + member, len(names))
            return self._make(core, config, runtime, _Callbacks(context, state, pod, devices))

        super().__init__(context, core.call(make))

    @staticmethod
    def _make(core: Core, config: s.NodeConfig, runtime: Optional[Runtime], record: _Callbacks) -> State:
        ops = s.NodeOps.sized()
        if record.state is not None:
            ops.state = _on_state
        if record.pod is not None:
            ops.pod = _on_pod
        if record.devices is not None:
            ops.devices = _on_devices
        link = Link(core, runtime) if runtime is not None else None
        if link is not None:
            ops.runtime = pointer(link.ops)
            ops.runtime_user = link.key
        key, ptr = hold(record), s.Node()
        try:
            core.check(ffi.ke_node_new(byref(ptr), core.pointer(), byref(config), byref(ops), key))
        except BaseException:
            drop(key)
            if link is not None:
                link.drop()
            raise
        record.handle = State(core, "Node", ptr, ffi.ke_node_free, [key])
        if link is not None:
            record.handle.on_confirmed = link.drop
        return record.handle

    def start(self) -> None:
        """Opens the data folder, takes back what runs, starts what the store holds, connects. Raises what
        opening says; the later steps are told by state."""
        self._core.call(lambda: self._core.check(ffi.ke_node_start(self._state.pointer())))

    def stop(self) -> None:
        """Ends the link and the node's work. Any thread."""
        ffi.ke_node_stop(self._state.pointer())

    def status(self) -> NodeStatus:
        """A snapshot. Any thread."""
        st = s.NodeStatus()
        r = ffi.ke_node_state(self._state.pointer(), byref(st), sizeof(st))
        if r < 0:
            raise error(r, "the node's state was not read")
        return _status(st)

    def pods(self) -> List[PodInfo]:
        """A snapshot. Any thread."""
        found: List[PodInfo] = []
        key = hold(found)
        try:
            r = ffi.ke_node_pods(self._state.pointer(), _collect_pod, key)
        finally:
            drop(key)
        if r < 0:
            raise error(r, "the node's pods were not read")
        return found

    def mappers(self) -> List[MapperInfo]:
        """The mappers that have registered, one of each protocol. StateError without dmi_socket, or when the node is not
        started; the error of the socket while it cannot be opened. Any thread."""
        found: List[MapperInfo] = []
        err = s.Error.sized()
        key = hold(found)
        try:
            r = ffi.ke_node_mappers(self._state.pointer(), _collect_mapper, key, byref(err))
        finally:
            drop(key)
        if r < 0:
            raise error(r, pystr(err.text))
        return found
