# SPDX-License-Identifier: Apache-2.0
"""The cloud end: certificates, tunnel endpoint, delivery of a folder of Kubernetes manifests."""
from __future__ import annotations

from ctypes import byref, c_uint32, cast, sizeof
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, Handle, Path, State, cpath, cstr, cstrings, drop, held, hold, pybytes, pystr
from .context import Context

PORT_ANY = c.KE_PORT_ANY


class CloudNode(NamedTuple):
    """status: Ready, NotReady or Unknown; pending: objects not yet acknowledged; heartbeat_ms: Unix time."""

    name: str
    status: str
    address: str
    version: str
    connected: bool
    dialect: int
    pending: int
    heartbeat_ms: int


class CloudPod(NamedTuple):
    namespace: str
    name: str
    uid: str
    node: str
    phase: str
    reason: str
    ready: int
    containers: int
    restarts: int
    deleting: bool


class CloudTwin(NamedTuple):
    """One value of a device; None: there is none. observed: the desired value as the node saw it last;
    reported_ms: Unix time by the node's clock, 0: unknown."""

    name: str
    type: str
    desired: Optional[str]
    reported: Optional[str]
    observed: Optional[str]
    reported_ms: int


class CloudDevice(NamedTuple):
    """api: v1alpha2 or v1beta1, of the manifest; reason: what is wrong with it here; pending: its node did not
    acknowledge the newest version."""

    namespace: str
    name: str
    uid: str
    node: str
    model: str
    protocol: str
    api: str
    state: str
    last_online: str
    reason: str
    twins: Dict[str, CloudTwin]
    pending: bool


NodeFn = Callable[[CloudNode, bool], object]
PodFn = Callable[[CloudPod, bool], object]
DeviceFn = Callable[[CloudDevice, bool], object]
ErrorFn = Callable[[str], object]


def _node(p: Any) -> CloudNode:
    i = p.contents
    return CloudNode(
        pystr(i.name),
        pystr(i.status),
        pystr(i.address),
        pystr(i.version),
        bool(i.connected),
        i.dialect,
        i.pending,
        i.heartbeat_ms,
    )


def _pod(p: Any) -> CloudPod:
    i = p.contents
    return CloudPod(
        pystr(i.pod_namespace),
        pystr(i.name),
        pystr(i.uid),
        pystr(i.node),
        pystr(i.phase),
        pystr(i.reason),
        i.ready,
        i.containers,
        i.restarts,
        bool(i.deleting),
    )


def _twin(i: Any) -> CloudTwin:
    return CloudTwin(
        pystr(i.name),
        pystr(i.type),
        pystr(i.desired) if i.has_desired else None,
        pystr(i.reported) if i.has_reported else None,
        pystr(i.observed) if i.has_observed else None,
        i.reported_ms,
    )


def _device(p: Any) -> CloudDevice:
    i = p.contents
    twins = (_twin(i.twins[k].contents) for k in range(i.n_twins))
    return CloudDevice(
        pystr(i.device_namespace),
        pystr(i.name),
        pystr(i.uid),
        pystr(i.node),
        pystr(i.model),
        pystr(i.protocol),
        pystr(i.api),
        pystr(i.state),
        pystr(i.last_online),
        pystr(i.reason),
        {t.name: t for t in twins},
        bool(i.pending),
    )


class _Callbacks:
    def __init__(
        self,
        core: Core,
        node: Optional[NodeFn],
        pod: Optional[PodFn],
        device: Optional[DeviceFn],
        manifest_error: Optional[ErrorFn],
    ) -> None:
        self.core = core
        self.node = node
        self.pod = pod
        self.device = device
        self.manifest_error = manifest_error
        self.handle: Optional[State] = None

    def gone(self) -> bool:
        return self.handle is not None and self.handle.ptr is None


@s.callback(s.CloudNodeFn)
def _on_node(user: Optional[int], p: Any, removed: int) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(lambda: record.node(_node(p), bool(removed)))


@s.callback(s.CloudPodFn)
def _on_pod(user: Optional[int], p: Any, removed: int) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(lambda: record.pod(_pod(p), bool(removed)))


@s.callback(s.CloudDeviceFn)
def _on_device(user: Optional[int], p: Any, removed: int) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(lambda: record.device(_device(p), bool(removed)))


@s.callback(s.ManifestErrorFn)
def _on_manifest_error(user: Optional[int], text: Optional[bytes]) -> None:
    record = held(user)
    if record is not None and not record.gone():
        record.core.user(record.manifest_error, pystr(text))


@s.callback(s.CloudNodesFn)
def _collect_node(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_node(p))


@s.callback(s.CloudPodsFn)
def _collect_pod(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_pod(p))


@s.callback(s.CloudDevicesFn)
def _collect_device(user: Optional[int], p: Any) -> None:
    entry = held(user)
    if entry is not None:
        entry.append(_device(p))


class Cloud(Handle):
    """The cloud end of a cluster."""

    def __init__(
        self,
        context: Context,
        *,
        data: Path,
        manifests: Optional[Path] = None,
        listen: Optional[str] = None,
        advertise: Iterable[str] = (),
        tunnel_port: int = 0,
        cert_port: int = 0,
        max_nodes: int = 0,
        max_message: int = 0,
        cert_days: int = 0,
        token_hours: int = 0,
        node: Optional[NodeFn] = None,
        pod: Optional[PodFn] = None,
        device: Optional[DeviceFn] = None,
        manifest_error: Optional[ErrorFn] = None,
    ) -> None:
        """The parameters are the members of struct ke_cloud_config; None, 0 and empty: the default. A port of
        PORT_ANY is a free one.

        node(info, removed), pod(info, removed) and device(info, removed) are called on changes, device also when
        its node reported; manifest_error(text) for a manifest that was refused, with file, line and field.
        """
        core = context._core
        names = list(advertise)
        numbers = {
            "tunnel_port": tunnel_port,
            "cert_port": cert_port,
            "max_nodes": max_nodes,
            "max_message": max_message,
            "cert_days": cert_days,
            "token_hours": token_hours,
        }

        def make() -> State:
            config = s.CloudConfig()
            ffi.ke_cloud_config_init(byref(config), sizeof(config))
            config.data = cpath(data)
            config.manifests = cpath(manifests)
            config.listen = cstr(listen)
            array = cstrings(names)
            config.advertise = cast(array, type(config.advertise))
            config.n_advertise = len(names)
            for member, value in numbers.items():
                if value:
                    setattr(config, member, value)
            record = _Callbacks(core, node, pod, device, manifest_error)
            ops = s.CloudOps.sized()
            if node is not None:
                ops.node = _on_node
            if pod is not None:
                ops.pod = _on_pod
            if device is not None:
                ops.device = _on_device
            if manifest_error is not None:
                ops.manifest_error = _on_manifest_error
            key, ptr = hold(record), s.Cloud()
            try:
                core.check(ffi.ke_cloud_new(byref(ptr), core.pointer(), byref(config), byref(ops), key))
            except BaseException:
                drop(key)
                raise
            record.handle = State(core, "Cloud", ptr, ffi.ke_cloud_free, [key], defer=True)
            return record.handle

        super().__init__(context, core.call(make))

    def start(self) -> None:
        """Opens the data folder, makes CA, certificate and token if they are missing, listens."""
        self._core.call(lambda: self._core.check(ffi.ke_cloud_start(self._state.pointer())))

    def stop(self) -> None:
        """Ends its work; from a callback, right after it. Any thread."""
        pointer = self._state.pointer()
        if self._core.on_loop() and self._core.depth > 0:
            self._core.post(self._stop_late)
        else:
            ffi.ke_cloud_stop(pointer)

    def _stop_late(self) -> None:
        if self._state.ptr is not None:
            ffi.ke_cloud_stop(self._state.ptr)

    def token(self) -> str:
        """A join token, valid for token_hours from now."""

        def make() -> str:
            buf = s.Buf()
            try:
                self._core.check(ffi.ke_cloud_token(self._state.pointer(), byref(buf)))
                return pystr(pybytes(buf.p, buf.n))
            finally:
                ffi.ke_buf_free(byref(buf))

        return self._core.call(make)

    def ports(self) -> Tuple[int, int]:
        """The ports in use: of the tunnel, of the certificates."""

        def read() -> Tuple[int, int]:
            tunnel, cert = c_uint32(0), c_uint32(0)
            self._core.check(ffi.ke_cloud_ports(self._state.pointer(), byref(tunnel), byref(cert)))
            return tunnel.value, cert.value

        return self._core.call(read)

    def nodes(self) -> List[CloudNode]:
        def read() -> List[CloudNode]:
            found: List[CloudNode] = []
            key = hold(found)
            try:
                self._core.check(ffi.ke_cloud_nodes(self._state.pointer(), _collect_node, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)

    def pods(self) -> List[CloudPod]:
        def read() -> List[CloudPod]:
            found: List[CloudPod] = []
            key = hold(found)
            try:
                self._core.check(ffi.ke_cloud_pods(self._state.pointer(), _collect_pod, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)

    def devices(self) -> List[CloudDevice]:
        """All devices, with what their nodes reported; in no order."""

        def read() -> List[CloudDevice]:
            found: List[CloudDevice] = []
            key = hold(found)
            try:
                self._core.check(ffi.ke_cloud_devices(self._state.pointer(), _collect_device, key))
            finally:
                drop(key)
            return found

        return self._core.call(read)
