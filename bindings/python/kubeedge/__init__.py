# SPDX-License-Identifier: Apache-2.0
"""KubeEdge in a Python process, over libkubeedge.

    import kubeedge

    with kubeedge.Context(thread=True) as ctx:
        with kubeedge.Node(ctx, name="edge-7", data="/var/lib/edge-7", cloud_host="cloud.example",
                           token=token, runtime=MyRuntime(), state=print) as node:
            node.start()
            ctx.run()

Start with Context, which says who drives the loop and where callbacks run; then Node and Runtime. Router, Store
and Tunnel are usable without a node, and Cloud is the other end. Parameters that are times or sizes have the name
and unit they have in C (timeout_ms); only waits of Python's own kind, as Pending.result, take seconds.
"""
from . import aio
from ._core import Pending
from ._ffi import VERSION as library_version
from .cloud import PORT_ANY, Cloud, CloudNode, CloudPod
from .context import Context
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
from .node import Node, NodeSettings, NodeState, NodeStatus, PodInfo, Taint
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

__version__ = "0.1.0"

__all__ = [
    "PORT_ANY",
    "AccessDenied",
    "AddressInUse",
    "AlreadyExists",
    "Busy",
    "Canceled",
    "Cloud",
    "CloudNode",
    "CloudPod",
    "ConflictError",
    "ContainerConfig",
    "ContainerFlag",
    "ContainerInfo",
    "ContainerState",
    "Context",
    "DeviceError",
    "Dialect",
    "IdentityError",
    "InvalidArgument",
    "Item",
    "KubeEdgeError",
    "LimitExceeded",
    "Message",
    "Module",
    "ModuleStats",
    "Mount",
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
    "NodeSettings",
    "NodeState",
    "NodeStatus",
    "NotFound",
    "NotSupported",
    "Operation",
    "OutOfMemory",
    "ParseError",
    "Pending",
    "PodInfo",
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
    "WrongThread",
    "aio",
    "library_version",
]
