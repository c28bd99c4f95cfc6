# SPDX-License-Identifier: Apache-2.0
"""KubeEdge in a Python process, over libkubeedge.

    import kubeedge

    with kubeedge.Context(thread=True) as ctx:
        with kubeedge.Node(ctx, name="edge-7", data="/var/lib/edge-7", cloud_host="cloud.example",
                           token=token, runtime=MyRuntime(), state=print) as node:
            node.start()
            ctx.run()

Start with Context, which says who drives the loop and where callbacks run; then Node and Runtime, Twin and Driver.
Router, Store, Tunnel, Twin and Devices are usable without a node, a Mapper beside one, and Cloud is the other end.
Parameters that are times or sizes have the name and unit they have in C (timeout_ms); only waits of Python's own
kind, as Pending.result, take seconds.
"""
from . import aio
from ._core import Pending
from ._ffi import VERSION as library_version
from .cloud import PORT_ANY, Cloud, CloudDevice, CloudNode, CloudPod, CloudTwin
from .context import Context
from .device import CycleUnit, DevicePropertyStatus, Devices, DeviceState, DeviceStatus, ReportedValue
from .driver import Device, DeviceOperation, DeviceProperty, DeviceSettings, DeviceType, Driver, Reading
from .errors import (
    AccessDenied,
    AddressInUse,
    AlreadyExists,
    Busy,
    Canceled,
    ConflictError,
    DeviceError,
    IdentityError,
    InvalidArgument,
    KubeEdgeError,
    LimitExceeded,
    NetworkError,
    NotFound,
    NotSupported,
    OutOfMemory,
    ParseError,
    StateError,
    StoreError,
    TimedOut,
    TryAgain,
    WrongThread,
)
from .mapper import Mapper, MapperState, MapperStatus
from .mqtt import (
    Mqtt,
    MqttAccess,
    MqttClient,
    MqttEvent,
    MqttEventKind,
    MqttIdentity,
    MqttKind,
    MqttListener,
    MqttMessage,
    MqttRule,
    MqttSubscription,
)
from .msg import Dialect, Message
from .node import MapperInfo, Node, NodeFlag, NodeSettings, NodeState, NodeStatus, PodInfo, Taint
from .router import Module, ModuleStats, Router
from .runtime import (
    ContainerConfig,
    ContainerFlag,
    ContainerInfo,
    ContainerState,
    Mount,
    Operation,
    Runtime,
    SandboxConfig,
)
from .store import Item, Store, Transaction
from .tunnel import Send, Tunnel, TunnelState, TunnelStatus
from .twin import Twin, TwinDevice, TwinEvent, TwinEventKind, TwinObserver, TwinStatus, TwinValue

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AddressInUse",
    "AlreadyExists",
    "Busy",
    "Canceled",
    "Cloud",
    "CloudDevice",
    "CloudNode",
    "CloudPod",
    "CloudTwin",
    "ConflictError",
    "ContainerConfig",
    "ContainerFlag",
    "ContainerInfo",
    "ContainerState",
    "Context",
    "CycleUnit",
    "Device",
    "DeviceError",
    "DeviceOperation",
    "DeviceProperty",
    "DevicePropertyStatus",
    "DeviceSettings",
    "DeviceState",
    "DeviceStatus",
    "DeviceType",
    "Devices",
    "Dialect",
    "Driver",
    "IdentityError",
    "InvalidArgument",
    "Item",
    "KubeEdgeError",
    "LimitExceeded",
    "Mapper",
    "MapperState",
    "MapperStatus",
    "Message",
    "Module",
    "ModuleStats",
    "Mount",
    "MapperInfo",
    "Mqtt",
    "MqttAccess",
    "MqttClient",
    "MqttEvent",
    "MqttEventKind",
    "MqttIdentity",
    "MqttKind",
    "MqttListener",
    "MqttMessage",
    "MqttRule",
    "MqttSubscription",
    "NetworkError",
    "Node",
    "NodeFlag",
    "NodeSettings",
    "NodeState",
    "NodeStatus",
    "NotFound",
    "NotSupported",
    "Operation",
    "OutOfMemory",
    "PORT_ANY",
    "ParseError",
    "Pending",
    "PodInfo",
    "Reading",
    "ReportedValue",
    "Router",
    "Runtime",
    "SandboxConfig",
    "Send",
    "StateError",
    "Store",
    "StoreError",
    "Taint",
    "TimedOut",
    "Transaction",
    "TryAgain",
    "Tunnel",
    "TunnelState",
    "TunnelStatus",
    "Twin",
    "TwinDevice",
    "TwinEvent",
    "TwinEventKind",
    "TwinObserver",
    "TwinStatus",
    "TwinValue",
    "WrongThread",
    "aio",
    "library_version",
]
