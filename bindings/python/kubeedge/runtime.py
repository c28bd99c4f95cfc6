# SPDX-License-Identifier: Apache-2.0
"""A container runtime written in Python. See Runtime."""
from __future__ import annotations

import abc
import enum
import threading
from ctypes import byref, sizeof
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Core, cstr, drop, held, hold, pybytes, pystr
from .errors import KubeEdgeError, error


class ContainerState(enum.IntEnum):
    CREATED = c.KE_CONTAINER_CREATED
    RUNNING = c.KE_CONTAINER_RUNNING
    EXITED = c.KE_CONTAINER_EXITED
    UNKNOWN = c.KE_CONTAINER_UNKNOWN


class ContainerFlag(enum.IntFlag):
    STDIN = c.KE_CONTAINER_STDIN
    TTY = c.KE_CONTAINER_TTY
    HOST_NETWORK = c.KE_CONTAINER_HOST_NETWORK
    PRIVILEGED = c.KE_CONTAINER_PRIVILEGED
    READ_ONLY_ROOT = c.KE_CONTAINER_READ_ONLY_ROOT
    RUN_AS_NON_ROOT = c.KE_CONTAINER_RUN_AS_NON_ROOT


class Mount(NamedTuple):
    host_path: str
    container_path: str
    volume: str
    read_only: bool


class ContainerConfig(NamedTuple):
    """What to create. Limits of 0: none; users of None: not given."""

    pod_namespace: str
    pod_name: str
    pod_uid: str
    name: str
    image: str
    sandbox_id: str
    working_dir: str
    log_path: str
    hostname: str
    command: Tuple[str, ...]
    args: Tuple[str, ...]
    env: Dict[str, str]
    mounts: Tuple[Mount, ...]
    attempt: int
    flags: ContainerFlag
    memory_limit: int
    cpu_limit_milli: int
    cpu_request_milli: int
    run_as_user: Optional[int]
    run_as_group: Optional[int]
    pod_json: bytes


class SandboxConfig(NamedTuple):
    pod_namespace: str
    pod_name: str
    pod_uid: str
    hostname: str
    log_folder: str
    attempt: int
    flags: ContainerFlag
    pod_json: bytes


class ContainerInfo(NamedTuple):
    """A container as the runtime has it. Times are Unix ms, 0: not yet."""

    id: str
    pod_namespace: str
    pod_name: str
    pod_uid: str
    name: str
    image: str = ""
    image_id: str = ""
    reason: str = ""
    message: str = ""
    attempt: int = 0
    state: int = ContainerState.UNKNOWN
    exit_code: int = 0
    signal: int = 0
    created_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0


def _fill(to: Any, info: ContainerInfo) -> None:
    for name, value in info._asdict().items():
        setattr(to, name, cstr(value) if isinstance(value, str) else int(value))


def _clean(text: str) -> str:
    """Text of an exception, which may be anything, as C can take it."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def _strings(pointer: Any, n: int) -> Tuple[str, ...]:
    return tuple(pystr(pointer[i]) for i in range(n))


def _container_config(p: Any) -> ContainerConfig:
    i = p.contents
    mounts = (i.mounts[k] for k in range(i.n_mounts))
    return ContainerConfig(
        pod_namespace=pystr(i.pod_namespace),
        pod_name=pystr(i.pod_name),
        pod_uid=pystr(i.pod_uid),
        name=pystr(i.name),
        image=pystr(i.image),
        sandbox_id=pystr(i.sandbox_id),
        working_dir=pystr(i.working_dir),
        log_path=pystr(i.log_path),
        hostname=pystr(i.hostname),
        command=_strings(i.command, i.n_command),
        args=_strings(i.args, i.n_args),
        env={pystr(i.env[k].name): pystr(i.env[k].value) for k in range(i.n_env)},
        mounts=tuple(
            Mount(pystr(m.host_path), pystr(m.container_path), pystr(m.volume), bool(m.flags & c.KE_MOUNT_READ_ONLY))
            for m in mounts
        ),
        attempt=i.attempt,
        flags=ContainerFlag(i.flags),
        memory_limit=i.memory_limit,
        cpu_limit_milli=i.cpu_limit_milli,
        cpu_request_milli=i.cpu_request_milli,
        run_as_user=None if i.run_as_user < 0 else i.run_as_user,
        run_as_group=None if i.run_as_group < 0 else i.run_as_group,
        pod_json=pybytes(i.pod_json, i.pod_json_len),
    )


def _sandbox_config(p: Any) -> SandboxConfig:
    i = p.contents
    return SandboxConfig(
        pod_namespace=pystr(i.pod_namespace),
        pod_name=pystr(i.pod_name),
        pod_uid=pystr(i.pod_uid),
        hostname=pystr(i.hostname),
        log_folder=pystr(i.log_folder),
        attempt=i.attempt,
        flags=ContainerFlag(i.flags),
        pod_json=pybytes(i.pod_json, i.pod_json_len),
    )


class Operation:
    """One call into a runtime. End it exactly once, by complete() or fail(), from any thread, now or later.

    Both tell whether it counted: False when it was over already, by its deadline or because the node went.
    """

    __slots__ = ("_link", "_number", "name")

    def __init__(self, link: Link, number: int, name: str) -> None:
        self._link = link
        self._number = number
        self.name = name

    def complete(
        self,
        *,
        id: str = "",
        name: str = "",
        version: str = "",
        ip: Optional[str] = None,
        ready: bool = True,
        containers: Sequence[ContainerInfo] = (),
    ) -> bool:
        """It succeeded. id: of container_create, sandbox_run, image_pull; ip: of sandbox_run; containers: of
        container_list; name, version and ready: of info."""
        infos = (s.ContainerInfo * len(containers))()
        for to, info in zip(infos, containers):
            to.size = sizeof(s.ContainerInfo)
            _fill(to, info)
        result = s.RuntimeResult.sized(id=cstr(id), name=cstr(name), version=cstr(version), ip=cstr(ip))
        result.ready = int(ready)
        result.containers = infos
        result.n_containers = len(containers)
        return self._link.complete(self._number, 0, result)

    def fail(self, code: int, text: str, *, reason: str = "") -> bool:
        """It failed. code: KE_E*; text: what and why, for people; reason: Kubernetes' word, like ErrImagePull."""
        result = s.RuntimeResult.sized(text=cstr(text), reason=cstr(reason) if reason else None)
        return self._link.complete(self._number, code if code < 0 else c.KE_ECALLBACK, result)

    def __repr__(self) -> str:
        return f"<kubeedge.Operation {self.name} {self._number:#x}>"


class Runtime(abc.ABC):
    """What runs containers. The methods are called on the loop's thread, must not block, and each ends its
    operation through op, from any thread, now or later. A KubeEdgeError that a method raises ends the operation
    with its code and text; any other exception does too and is raised where the context is driven, since it is
    a mistake of the program.

    A second container_create for the same pod_uid, name and attempt must complete with the first one's id.
    Leave a method that is marked optional as it is, and the node does without. One Runtime serves one Node.
    """

    name = "python"
    version = "0"
    _link: Optional[Link] = None

    @abc.abstractmethod
    def container_create(self, op: Operation, config: ContainerConfig) -> None:
        """Make it, do not start it; op.complete(id=...)."""

    @abc.abstractmethod
    def container_start(self, op: Operation, id: str) -> None:
        """Start it."""

    @abc.abstractmethod
    def container_stop(self, op: Operation, id: str, grace_ms: int) -> None:
        """Ask it to end, kill it after grace_ms; complete once it has ended, or was never there."""

    def info(self, op: Operation) -> None:
        """Name, version, and whether containers can run now."""
        op.complete(name=self.name, version=self.version, ready=True)

    def attach(self) -> None:
        """The node has taken the runtime; event() works from now on."""

    def detach(self) -> None:
        """The node lets go of it: no more calls until the next attach()."""

    # optional

    def container_remove(self, op: Operation, id: str) -> None:
        """Optional: forget an ended one."""
        raise NotImplementedError

    def container_list(self, op: Operation) -> None:
        """Optional: op.complete(containers=[...]), ended ones too. Without it nothing is taken back after a
        restart of the node."""
        raise NotImplementedError

    def sandbox_run(self, op: Operation, config: SandboxConfig) -> None:
        """Optional, with the next two: a place for a pod's containers; op.complete(id=..., ip=...)."""
        raise NotImplementedError

    def sandbox_stop(self, op: Operation, id: str) -> None:
        """Optional."""
        raise NotImplementedError

    def sandbox_remove(self, op: Operation, id: str) -> None:
        """Optional."""
        raise NotImplementedError

    def image_pull(self, op: Operation, image: str, policy: str, pod_json: bytes) -> None:
        """Optional: policy is Always, IfNotPresent or Never; op.complete(id=...)."""
        raise NotImplementedError

    # for the runtime to call

    def event(self, info: ContainerInfo) -> bool:
        """A container changed by itself. Any thread. False when no node is attached."""
        link = self._link
        return link is not None and link.event(info)


class Link:
    """A runtime and the node's end of it. C's pointer is used under the lock and forgotten in detach, so that a
    thread that completes late finds nothing."""

    def __init__(self, core: Core, runtime: Runtime) -> None:
        self.core = core
        self.runtime = runtime
        self.lock = threading.Lock()
        self.ptr: Optional[s.Runtime] = None
        self.ops = s.RuntimeOps.sized(attach=_on_attach, detach=_on_detach, info=_on_info)
        self.ops.container_create = _on_create
        self.ops.container_start = _on_start
        self.ops.container_stop = _on_stop
        for name, trampoline in _OPTIONAL.items():
            if getattr(type(runtime), name) is not getattr(Runtime, name):
                setattr(self.ops, name, trampoline)
        self.key = hold(self)

    def drop(self) -> None:
        drop(self.key)
        self.set(None)

    def set(self, ptr: Optional[s.Runtime]) -> None:
        with self.lock:
            self.ptr = ptr
            self.runtime._link = self if ptr is not None else None

    def complete(self, number: int, status: int, result: s.RuntimeResult) -> bool:
        with self.lock:
            if self.ptr is None:
                return False
            r = ffi.ke_runtime_complete(self.ptr, number, status, byref(result))
        if r == c.KE_ENOTFOUND:
            return False
        if r < 0:
            raise error(r, "the end of an operation was not taken")
        return True

    def event(self, info: ContainerInfo) -> bool:
        to = s.ContainerInfo.sized()
        _fill(to, info)
        with self.lock:
            if self.ptr is None:
                return False
            r = ffi.ke_runtime_event(self.ptr, byref(to))
        if r < 0:
            raise error(r, "the event of a container was not taken")
        return True

    def begin(self, number: int, name: str, call: Callable[[Operation], object]) -> int:
        """Calls a method; its exception ends the operation."""
        op = Operation(self, number, name)
        self.core.depth += 1
        try:
            call(op)
            return 0
        except KubeEdgeError as e:
            op.fail(e.code, _clean(e.text or e.name))
            return 0
        except BaseException as e:
            op.fail(c.KE_ECALLBACK, _clean(f"{type(e).__name__} in {name}: {e}"))  # before anybody hears of it
            self.core.fail(e)
            return 0
        finally:
            self.core.depth -= 1


@s.callback(s.RuntimeAttachFn)
def _on_attach(user: Optional[int], ptr: s.Runtime) -> None:
    link = held(user)
    if link is not None:
        link.set(ptr)
        link.core.user(link.runtime.attach)


@s.callback(s.RuntimeDetachFn)
def _on_detach(user: Optional[int]) -> None:
    link = held(user)
    if link is not None:
        link.set(None)
        link.core.user(link.runtime.detach)


def _begin(user: Optional[int], number: int, name: str, args: Callable[[], Tuple[Any, ...]]) -> int:
    """args makes the arguments: what goes wrong there ends the operation too."""
    link = held(user)
    if link is None:
        return c.KE_ECANCELED
    method = getattr(link.runtime, name)
    status: int = link.begin(number, name, lambda op: method(op, *args()))
    return status


@s.callback(s.RuntimeFn)
def _on_info(user: Optional[int], op: int) -> int:
    return _begin(user, op, "info", lambda: ())


@s.callback(s.RuntimeCreateFn)
def _on_create(user: Optional[int], op: int, config: Any) -> int:
    return _begin(user, op, "container_create", lambda: (_container_config(config),))


@s.callback(s.RuntimeIdFn)
def _on_start(user: Optional[int], op: int, id: Optional[bytes]) -> int:
    return _begin(user, op, "container_start", lambda: (pystr(id),))


@s.callback(s.RuntimeStopFn)
def _on_stop(user: Optional[int], op: int, id: Optional[bytes], grace_ms: int) -> int:
    return _begin(user, op, "container_stop", lambda: (pystr(id), grace_ms))


@s.callback(s.RuntimeIdFn)
def _on_remove(user: Optional[int], op: int, id: Optional[bytes]) -> int:
    return _begin(user, op, "container_remove", lambda: (pystr(id),))


@s.callback(s.RuntimeFn)
def _on_list(user: Optional[int], op: int) -> int:
    return _begin(user, op, "container_list", lambda: ())


@s.callback(s.RuntimeSandboxFn)
def _on_sandbox_run(user: Optional[int], op: int, config: Any) -> int:
    return _begin(user, op, "sandbox_run", lambda: (_sandbox_config(config),))


@s.callback(s.RuntimeIdFn)
def _on_sandbox_stop(user: Optional[int], op: int, id: Optional[bytes]) -> int:
    return _begin(user, op, "sandbox_stop", lambda: (pystr(id),))


@s.callback(s.RuntimeIdFn)
def _on_sandbox_remove(user: Optional[int], op: int, id: Optional[bytes]) -> int:
    return _begin(user, op, "sandbox_remove", lambda: (pystr(id),))


@s.callback(s.RuntimePullFn)
def _on_pull(
    user: Optional[int], op: int, image: Optional[bytes], policy: Optional[bytes], pod_json: Any, n: int
) -> int:
    return _begin(user, op, "image_pull", lambda: (pystr(image), pystr(policy), pybytes(pod_json, n)))


_OPTIONAL = {
    "container_remove": _on_remove,
    "container_list": _on_list,
    "sandbox_run": _on_sandbox_run,
    "sandbox_stop": _on_sandbox_stop,
    "sandbox_remove": _on_sandbox_remove,
    "image_pull": _on_pull,
}
