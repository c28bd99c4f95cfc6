# SPDX-License-Identifier: Apache-2.0
"""A mapper: drivers in a process of their own, attached to an EdgeCore by DMI."""
from __future__ import annotations

from ctypes import byref, sizeof
from typing import NamedTuple, Optional

from . import _const as c
from . import _ffi as ffi
from . import _struct as s
from ._core import Handle, OpenEnum, Path, State, cpath, cstr, pystr
from .context import Context
from .device import CycleUnit, Devices


class MapperState(OpenEnum):
    """WAITING: for the next attempt to register."""

    STOPPED = c.KE_MAPPER_STOPPED
    REGISTERING = c.KE_MAPPER_REGISTERING
    REGISTERED = c.KE_MAPPER_REGISTERED
    WAITING = c.KE_MAPPER_WAITING


class MapperStatus(NamedTuple):
    """See struct ke_mapper_status. error_text: of the last failure, also when it is over."""

    state: MapperState
    last_error: int
    error_text: str
    registrations: int
    pushes: int
    refused: int
    reports: int
    report_failures: int
    devices: int
    models: int


class Mapper(Handle):
    """Registers at an EdgeCore, upstream's or a Node with dmi_socket, for the devices of one protocol. Drivers are
    registered with devices, then start()."""

    def __init__(
        self,
        context: Context,
        protocol: str,
        socket: Path,
        *,
        edge_socket: Optional[Path] = None,
        name: Optional[str] = None,
        version: Optional[str] = None,
        report_always: bool = False,
        cycle_unit: int = CycleUnit.AUTO,
        call_ms: int = 0,
        retry_min_ms: int = 0,
        retry_max_ms: int = 0,
        max_devices: int = 0,
        collect_ms: int = 0,
        report_ms: int = 0,
    ) -> None:
        """socket is where it listens, edge_socket where the EdgeCore does (/etc/kubeedge/dmi.sock). The others are
        members of struct ke_mapper_config; 0 and None: the default. NotSupported: built without DMI."""
        core = context._core
        numbers = {
            "cycle_unit": int(cycle_unit),
            "call_ms": call_ms,
            "retry_min_ms": retry_min_ms,
            "retry_max_ms": retry_max_ms,
            "max_devices": max_devices,
            "collect_ms": collect_ms,
            "report_ms": report_ms,
        }

        def make() -> State:
            config = s.MapperConfig()
            ffi.ke_mapper_config_init(byref(config), sizeof(config))
            config.protocol = cstr(protocol)
            config.socket = cpath(socket)
            config.edge_socket = cpath(edge_socket)
            config.name = cstr(name)
            config.version = cstr(version)
            config.flags = c.KE_DEVICES_REPORT_ALWAYS if report_always else 0
            for member, number in numbers.items():
                setattr(config, member, number)
            ptr = s.Mapper()
            core.check(ffi.ke_mapper_new(byref(ptr), core.pointer(), byref(config)))
            return State(core, "Mapper", ptr, ffi.ke_mapper_free, defer=True)

        super().__init__(context, core.call(make))

        def lend() -> Devices:
            return Devices._borrow(context, ffi.ke_mapper_devices(self._state.pointer()))

        self._devices = core.call(lend)
        self._state.dependents.append(self._devices._state)

    @property
    def devices(self) -> Devices:
        """The harness in it; closed with it."""
        return self._devices

    def start(self) -> None:
        """Listens and registers, again and again while the EdgeCore is not there. StateError (started already),
        AddressInUse, AccessDenied, ... of the socket."""
        self._core.call(lambda: self._core.check(ffi.ke_mapper_start(self._state.pointer())))

    def status(self) -> MapperStatus:
        def read() -> MapperStatus:
            st = s.MapperStatus()
            self._core.check(ffi.ke_mapper_status(self._state.pointer(), byref(st), sizeof(st)))
            return MapperStatus(
                state=MapperState(st.state),
                last_error=st.last_error,
                error_text=pystr(st.error_text),
                registrations=st.registrations,
                pushes=st.pushes,
                refused=st.refused,
                reports=st.reports,
                report_failures=st.report_failures,
                devices=st.devices,
                models=st.models,
            )

        return self._core.call(read)
